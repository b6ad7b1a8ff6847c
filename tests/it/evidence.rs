//! Tests the frames that findings are based on: they are frames of the capture, they show what the
//! finding claims, and they do not depend on how the capture was read.

use crate::support;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use crate::support::wire::{ACK, RST, SYN, Wire, client_hello};
use crate::support::{FIXTURES, Random, Records, Site, columns, fixture, hosts, rasaudit, stderr};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use rasaudit::pipeline::{Audit, AuditError, Folders, Limits, Plan, Progress, Request};
use rasaudit::policy::{Inventory, Policy, RuleFiles};
use rasaudit::report::ReportFiles;

lab_tests! {
    tshark_reads_the_evidence_and_its_display_filters_fit: [Tshark],
}

const GW: &str = "10.1.0.1";
const BROKER: &str = "10.1.0.10";
const DC: &str = "10.1.0.20";
const RDSH: &str = "10.1.0.30";
const PC: &str = "10.1.0.90";

fn farm(more: &str) -> String {
    let hosts = hosts(&[
        ("gw1", GW, "gateway-normal"),
        ("broker1", BROKER, "broker"),
        ("dc1", DC, "ad-dc"),
        ("rdsh1", RDSH, "rdsh-agent"),
        ("pc1", PC, "parallels-client"),
    ]);
    format!("[farm]\nmatrix = \"ras-19\"\n{hosts}{more}")
}

/// A frame of evidence: time in ns, bytes on the wire, captured data, comment.
type Frame = (u64, u32, Vec<u8>, String);

fn frames(file: &Path) -> Vec<Frame> {
    let mut reader =
        PcapNgReader::new(fs::File::open(file).expect("the file is there")).expect("pcapng");
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.expect("a whole block") {
            let comment = packet.options.iter().find_map(|option| match option {
                EnhancedPacketOption::Comment(text) => Some(text.to_string()),
                _ => None,
            });
            frames.push((
                packet.timestamp.as_nanos() as u64,
                packet.original_len,
                packet.data.to_vec(),
                comment.expect("a comment"),
            ));
        }
    }
    frames
}

/// A finding as `evidence.csv` lists it, with the frames of its file.
#[derive(Debug)]
struct Told {
    id: String,
    code: String,
    note: String,
    frames: Vec<Frame>,
}

/// Returns the contents of an evidence folder in the order of its index. Asserts that the index
/// matches the files.
fn told(folder: &Path) -> Vec<Told> {
    let index = fs::read_to_string(folder.join("evidence.csv")).expect("an index");
    let rows = columns(&index, &["id", "code", "file", "frames", "note"]);
    let mut files: BTreeSet<String> = BTreeSet::from(["evidence.csv".to_owned()]);
    // The last row describes the index itself.
    let told = rows.into_iter().filter(|row| !row[0].is_empty()).map(|row| {
        let [id, code, file, count, note] = row.try_into().expect("five cells");
        let frames = if file.is_empty() { Vec::new() } else { frames(&folder.join(&file)) };
        assert_eq!(count, frames.len().to_string(), "{id}");
        assert!(file.is_empty() || file == format!("{id}.pcapng"), "{file}");
        files.extend((!file.is_empty()).then_some(file));
        Told { id, code, note, frames }
    });
    let told: Vec<Told> = told.collect();
    let there = fs::read_dir(folder).expect("a folder");
    let there = there.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
    assert_eq!(there.collect::<BTreeSet<_>>(), files);
    told
}

/// Audits a generated capture and returns its evidence.
fn evidence(inventory: &str, wire: &Wire) -> Vec<Told> {
    let site = Site::new(inventory, wire);
    let folder = site.folder.path().join("evidence");
    let run = site.run(&["-q".as_ref(), "--evidence".as_ref(), folder.as_os_str()]);
    assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
    told(&folder)
}

/// Returns the frame comments of the only finding with this code, without the prefix that names the
/// finding.
fn comments(told: &[Told], code: &str) -> Vec<String> {
    let all: Vec<&Told> = told.iter().filter(|t| t.code == code).collect();
    assert_eq!(all.len(), 1, "{code} in {told:?}");
    let shows = |(.., comment): &Frame| comment.split_once(": ").expect("a colon").1.to_owned();
    all[0].frames.iter().map(shows).collect()
}

fn audited(capture: &[PathBuf], inventory: &Path, evidence: &Path, more: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
    command.arg("audit").args(capture).arg("-i").arg(inventory).arg("--evidence").arg(evidence);
    let run = command.arg("-q").args(more).output().expect("the program runs");
    // The exit code may be 3, because the last record of `farm-running` is truncated.
    assert!(matches!(run.status.code(), Some(0 | 1 | 3)), "{}", stderr(&run));
}

/// Returns the bytes of all files in a folder by name.
fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries.map(file).collect()
}

#[test]
fn evidence_is_of_the_capture_and_names_its_finding() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    for (number, case) in FIXTURES.iter().filter(|case| case.is_pcap()).enumerate() {
        let capture = case.capture();
        let inventory = case.inventory();
        let out = scratch.path().join("out");
        let folder = scratch.path().join(number.to_string());
        let out_text = out.display().to_string();
        let more = [case.more(), vec!["--out".to_owned(), out_text]].concat();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        audited(std::slice::from_ref(&capture), &inventory, &folder, &more);
        let word = |record: &[u8], at: usize| {
            u64::from(u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes")))
        };
        let records: BTreeSet<(u64, u32, Vec<u8>)> = Records::read(&capture)
            .records
            .iter()
            .map(|r| {
                // The timestamps of these fixtures are in microseconds.
                let time = word(r, 0) * 1_000_000_000 + word(r, 4) * 1000;
                (time, word(r, 12) as u32, r[16..].to_vec())
            })
            .collect();
        let told = told(&folder);
        let findings = fs::read_to_string(out.join("findings.csv")).expect("the findings");
        let ids = columns(&findings, &["id", "count", "code"]);
        assert_eq!(ids.len(), told.len());
        for (row, told) in ids.iter().zip(&told) {
            assert_eq!(row[0], told.id);
            // Findings about conversations always have frames.
            assert!(row[1] == "0" || !told.frames.is_empty(), "{told:?}");
            assert!(!told.frames.is_empty() || !told.note.is_empty(), "{told:?}");
            for (time, wire_len, data, comment) in &told.frames {
                assert!(comment.starts_with(&format!("finding {} (", told.id)), "{comment}");
                assert!(records.contains(&(*time, *wire_len, data.clone())), "{comment}");
            }
            let times: Vec<u64> = told.frames.iter().map(|f| f.0).collect();
            assert!(times.is_sorted(), "{times:?}");
        }
    }
}

#[test]
fn evidence_is_the_same_whatever_the_workers_the_order_and_the_cuts() {
    let capture = fixture("farm-faults/span.pcap");
    let inventory = fixture("farm-healthy/inventory.toml");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut runs = 0;
    let mut run = |captures: &[PathBuf], more: &[&str]| {
        runs += 1;
        let folder = scratch.path().join(format!("evidence{runs}"));
        audited(captures, &inventory, &folder, more);
        bytes(&folder)
    };
    let whole = run(std::slice::from_ref(&capture), &["--jobs", "1"]);
    assert_eq!(whole.len(), 4, "three findings and the index");
    assert_eq!(run(std::slice::from_ref(&capture), &["--jobs", "8"]), whole);
    assert_eq!(run(std::slice::from_ref(&capture), &["--jobs", "2", "--max-memory", "1"]), whole);
    for seed in 1..=3 {
        let mut random = Random(seed);
        let pieces = scratch.path().join(format!("pieces{seed}"));
        fs::create_dir(&pieces).expect("a folder");
        let mut files = Records::read(&capture).cut(&pieces, 5, &mut random);
        random.shuffle(&mut files);
        assert_eq!(run(&files, &["--jobs", "2"]), whole, "seed {seed}");
    }
    // A second copy of the file does not change the evidence.
    let copy = scratch.path().join("copy.pcap");
    fs::copy(&capture, &copy).expect("a copy");
    assert_eq!(run(&[capture.clone(), copy], &[]), whole);
}

/// Checks with tshark that each file contains only packets of its finding, and that the display
/// filter selects exactly the packets of the finding's conversations from the whole capture.
fn tshark_reads_the_evidence_and_its_display_filters_fit() {
    let required = std::env::var_os("RASAUDIT_REQUIRE_TSHARK").is_some();
    if Command::new("tshark").arg("--version").output().is_err() {
        assert!(!required, "tshark is not installed");
        return support::skipped("evidence is not shown to tshark, which is not installed");
    }
    let tshark = |file: &Path, filter: &str| {
        let mut command = Command::new("tshark");
        // `-n` avoids name lookups. The output has one line per frame: its comment.
        let fields = ["-n", "-T", "fields", "-e", "frame.comment", "-Y", filter];
        let run = command.arg("-r").arg(file).args(fields).output().expect("tshark runs");
        let cut = stderr(&run).contains("cut short in the middle of a packet");
        assert!(run.status.success() || cut, "{filter}: {}", stderr(&run));
        String::from_utf8_lossy(&run.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut checked = 0;
    for case in FIXTURES.iter().filter(|case| case.name.starts_with("farm-")) {
        let out = scratch.path().join("out");
        let folder = scratch.path().join(case.name);
        let more = [case.more(), vec!["--out".to_owned(), out.display().to_string()]].concat();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        audited(&[case.capture()], &case.inventory(), &folder, &more);
        let read = |name: &str| fs::read_to_string(out.join(name)).expect("a report");
        let keys =
            ["client", "server", "transport", "port", "packets_to_server", "packets_to_client"];
        let packets = columns(&read("conversations.csv"), &keys);
        let wanted = ["id", "display_filter", "code", "client", "server", "transport", "port"];
        for row in columns(&read("findings.csv"), &wanted) {
            let [id, filter, code, ends @ ..] = &row[..] else { unreachable!() };
            let file = folder.join(format!("{id}.pcapng"));
            if !file.exists() || code == "address-conflict" {
                continue;
            }
            let all = tshark(&file, "frame");
            assert!(all.iter().all(|comment| comment.contains(id)), "{all:?}");
            let beside = |comment: &&String| {
                comment.contains("the broadcast that was answered")
                    || comment.contains("DNS reply that gives the client the server's address")
            };
            let own = all.len() - all.iter().filter(beside).count();
            // Supporting frames may also belong to the conversation itself, for example an answer
            // of the resolver that the finding is about.
            let shown = tshark(&file, filter).len();
            assert!(
                (own..=all.len()).contains(&shown),
                "{filter}: {shown} of {own} to {}",
                all.len()
            );
            // The packets of all conversations with these ends, transport and port.
            let sum: u64 = packets
                .iter()
                .filter(|conversation| conversation[..4] == *ends)
                .flat_map(|conversation| &conversation[4..])
                .map(|count| count.parse::<u64>().expect("a number"))
                .sum();
            // Wireshark dissects all fragments of a datagram together with the last one, so the
            // filter does not select the others.
            let pair = format!("ip.addr == {} && ip.addr == {}", ends[0], ends[1]);
            let fragments = format!("{pair} && (ip.flags.mf == 1 || ip.frag_offset > 0)");
            let is_pair = ends[..2].iter().all(|end| end.parse::<std::net::Ipv4Addr>().is_ok());
            if is_pair && !tshark(&case.capture(), &fragments).is_empty() {
                continue;
            }
            if sum > 0 && code != "rejected" {
                assert_eq!(tshark(&case.capture(), filter).len() as u64, sum, "{code}: {filter}");
                checked += 1;
            }
        }
    }
    assert!(checked > 15, "{checked}");
}

/// Uses tshark to check display filters for traffic from which a simple filter would select too
/// many or too few frames.
#[test]
fn display_filters_of_odd_traffic_show_its_frames_and_no_others() {
    if Command::new("tshark").arg("--version").output().is_err() {
        assert!(std::env::var_os("RASAUDIT_REQUIRE_TSHARK").is_none(), "tshark is not installed");
        return support::skipped("filters are not shown to tshark, which is not installed");
    }
    let shown = |site: &Site, service: [&str; 2]| -> Vec<String> {
        let rows = columns(&site.report("csv"), &["transport", "port", "display_filter"]);
        let filter = &rows.iter().find(|row| row[..2] == service).expect("the finding")[2];
        let fields = ["-n", "-T", "fields", "-e", "frame.number", "-Y", filter];
        let run = Command::new("tshark").arg("-r").arg(&site.capture).args(fields).output();
        let run = run.expect("tshark runs");
        assert!(run.status.success(), "{filter}: {}", stderr(&run));
        String::from_utf8_lossy(&run.stdout).lines().map(str::to_owned).collect()
    };
    // The server uses its service port as the source port of a connection to the client.
    let mut wire = Wire::default();
    wire.connect(0, (RDSH, 50_000), (BROKER, 445));
    let own = wire.0.len();
    wire.connect(1000, (BROKER, 445), (RDSH, 3389));
    let numbers = |range: std::ops::RangeInclusive<usize>| -> Vec<String> {
        range.map(|number| number.to_string()).collect()
    };
    assert_eq!(shown(&Site::new(&farm(""), &wire), ["tcp", "445"]), numbers(1..=own));
    // Many clients use one server. One of the clients also connects to another port and to another
    // server.
    let mut wire = Wire::default();
    for client in 100..120u8 {
        wire.connect(u64::from(client) * 100, (&format!("10.1.0.{client}"), 50_000), (DC, 4444));
    }
    let own = wire.0.len();
    wire.connect(20_000, ("10.1.0.100", 50_001), (DC, 4445));
    wire.connect(20_100, ("10.1.0.100", 50_002), (BROKER, 4444));
    assert_eq!(shown(&Site::new(&farm(""), &wire), ["tcp", "4444"]), numbers(1..=own));
    // Packets of a protocol without ports occur plain and after an authentication header.
    let mut wire = Wire::default();
    wire.udp(0, (RDSH, 50_000), (DC, 53));
    wire.ip(10, PC, DC, 103, &[0; 20]);
    wire.ip(20, PC, DC, 51, &[&[103, 4, 0, 0][..], &[0; 40]].concat());
    wire.udp(30, (RDSH, 50_000), (DC, 53));
    assert_eq!(shown(&Site::new(&farm(""), &wire), ["ip-103", ""]), numbers(2..=3));
}

#[test]
fn each_kind_of_ground_is_shown() {
    // The evidence for refused and rejected attempts contains the replies and shows which host sent
    // them.
    let mut wire = Wire::default();
    for ms in [0, 500] {
        wire.tcp(ms, (RDSH, 50_000), (BROKER, 20_003), SYN, 0);
        wire.tcp(ms + 1, (BROKER, 20_003), (RDSH, 50_000), RST | ACK, 0);
    }
    wire.tcp(20, (GW, 50_000), (BROKER, 20_002), SYN, 0);
    let (_, quoted) = wire.0.last().expect("a frame").clone();
    let error = [&[3, 13, 0, 0, 0, 0, 0, 0][..], &quoted[14..42]].concat();
    wire.ip(21, "10.1.0.254", GW, 1, &error);
    let told_of = evidence(&farm(""), &wire);
    let refused = comments(&told_of, "refused");
    let syn = format!("SYN from the client {RDSH}");
    let rst = format!("RST from the server {BROKER}");
    assert_eq!(refused, [syn.as_str(), &rst, &syn, &rst]);
    let rejected = comments(&told_of, "rejected");
    let error = format!("ICMP error from 10.1.0.254 about a packet from the client {GW}");
    assert_eq!(rejected, [format!("SYN from the client {GW}"), error]);

    // The guess of the direction is based on the handshake of another flow, which is evidence, too.
    let mut wire = Wire::default();
    wire.tcp(0, (PC, 50_000), (BROKER, 9100), ACK, 10);
    wire.tcp(1, (BROKER, 9100), (PC, 50_000), ACK, 10);
    wire.connect(1000, (DC, 50_009), (BROKER, 9100));
    let told_of = evidence(&farm(""), &wire);
    let proved =
        told_of.iter().find(|t| t.frames.iter().any(|f| f.3.contains("shows which host serves")));
    let proved = proved.expect("a proof");
    let proof = format!("shows which host serves the port: SYN-ACK from the server {BROKER}");
    assert!(proved.frames.iter().any(|f| f.3.contains(&proof)), "{proved:?}");

    // The evidence for a server name is the client's ClientHello and the resolver's answer to that
    // client. An answer to another client is not included.
    let mut wire = Wire::default();
    let outside = "203.0.113.9";
    let name = "files.example.net";
    wire.lookup(0, RDSH, DC, &[name], outside);
    wire.lookup(10, BROKER, DC, &[name], outside);
    wire.start(100, (RDSH, 50_000), (outside, 443), &client_hello(name, false, 0), 2000);
    let told_of = evidence(&farm(""), &wire);
    let named = comments(&told_of, "unknown-host");
    assert!(named.contains(&format!("TLS hello from the client {RDSH}")), "{named:?}");
    let names =
        named.iter().filter(|c| *c == "DNS reply that gives the client the server's address");
    assert_eq!(names.count(), 1, "{named:?}");

    // The evidence for an address conflict is the claims of both MAC addresses.
    let mut wire = Wire::default();
    wire.connect(0, (RDSH, 50_000), (BROKER, 20_003));
    for (ms, mac) in [(10, 7), (20, 8), (20_030, 7), (20_040, 8)] {
        wire.claim(ms, BROKER, mac);
    }
    let conflict = comments(&evidence(&farm(""), &wire), "address-conflict");
    let claims = |mac: u8| format!("02:00:00:00:00:0{mac} claims the address");
    assert_eq!(conflict, [claims(7), claims(8), claims(7), claims(8)]);
    let mut wire = Wire::default();
    for (ms, mac) in [(10, 7), (20, 8), (20_030, 7), (20_040, 8)] {
        wire.advertisement(ms, "fd00::10", mac);
    }
    let dual = farm("").replace(&format!("\"{BROKER}\""), "\"fd00::10\"");
    let conflict = comments(&evidence(&dual, &wire), "address-conflict");
    assert_eq!(conflict, [claims(7), claims(8), claims(7), claims(8)]);
}

/// The evidence about answers to a broadcast includes the broadcast.
#[test]
fn an_answer_is_shown_with_the_broadcast_that_it_answers() {
    let mut wire = Wire::default();
    wire.udp(0, (PC, 50_000), ("10.1.0.255", 9999));
    wire.udp(5, (RDSH, 9999), (PC, 50_000));
    let told_of = evidence(&farm(""), &wire);
    let answered =
        told_of.iter().find(|t| t.frames.iter().any(|f| f.3.contains("from the server")));
    let answered = answered.expect("the answer");
    let broadcast = format!("the broadcast that was answered: data from the client {PC}");
    assert!(answered.frames[0].3.ends_with(&broadcast), "{answered:?}");
    assert_eq!(answered.frames.len(), 2, "{answered:?}");
}

/// If there are more findings than the limit, only the most severe ones have frames. For each other
/// finding, a note states that its frames were omitted.
#[test]
fn a_flood_of_findings_leaves_the_evidence_bounded() {
    let mut wire = Wire::default();
    for number in 0..700u16 {
        let [high, low] = number.to_be_bytes();
        // Each connection has its own network and port, so each is a separate finding.
        let from = format!("192.{}.{low}.7", 2 + high);
        wire.connect(u64::from(number) * 10, (&from, 50_000), (BROKER, 3000 + number));
    }
    let told_of = evidence(&farm(""), &wire);
    assert!(told_of.len() >= 700, "{}", told_of.len());
    let (with, without): (Vec<&Told>, Vec<&Told>) =
        told_of.iter().partition(|told| !told.frames.is_empty());
    assert_eq!(with.len(), 512);
    assert!(
        without.iter().all(|t| t.note.starts_with("omitted: frames are written only for the 512")),
        "{:?}",
        without[0]
    );
}

/// A user's session triggers further connections. If one is missing, the evidence for the finding
/// is that session.
#[test]
fn what_made_a_flow_due_is_its_evidence() {
    let mut wire = Wire::default();
    wire.session(1000, (PC, 50_000), (GW, 443), 60);
    wire.udp(1000, ("10.9.0.5", 50_000), ("10.9.0.6", 123));
    for second in (0..700).step_by(5) {
        for to in [BROKER, RDSH, DC] {
            wire.ip(second * 1000, GW, to, 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
            wire.ip(second * 1000 + 1, to, GW, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
        }
    }
    let told_of = evidence(&farm("[capture]\ncovers = \"all\"\n"), &wire);
    let due: Vec<&Told> =
        told_of.iter().filter(|t| t.code == "never-attempted" && !t.frames.is_empty()).collect();
    assert!(!due.is_empty(), "{told_of:?}");
    for told in due {
        let what = format!("triggers the expected traffic: SYN from the client {PC}");
        assert!(told.frames[0].3.ends_with(&what), "{told:?}");
    }
    // A finding about steady traffic is not based on any frame.
    let steady = told_of.iter().find(|t| t.code == "never-attempted" && t.frames.is_empty());
    assert!(steady.is_some_and(|t| t.note.contains("about missing traffic")), "{told_of:?}");
}

/// The outer packets of a tunnel in mirrored traffic are evidence like those of any other tunnel.
#[test]
fn a_tunnel_inside_a_mirror_is_evidence() {
    let mut wire = Wire::default();
    wire.opened(1000, (GW, 50_000), (BROKER, 20_002), 5);
    let first = wire.0.len();
    wire.udp(2000, ("10.7.0.1", 50_000), ("10.7.0.2", 9));
    wire.tunnel(first, "203.0.113.66", RDSH);
    wire.tunnel(0, "192.0.2.1", "192.0.2.9");
    let told_of = evidence(&farm(""), &wire);
    // One finding is about the tunnel, one about its content.
    let unknown = told_of.iter().filter(|told| told.code == "unknown-host");
    assert_eq!(unknown.map(|told| told.frames.len()).collect::<Vec<_>>(), [1, 1], "{told_of:?}");
}

/// The evidence file of a finding stays small, regardless of the amount of traffic, and states what
/// it leaves out.
#[test]
fn evidence_is_bounded() {
    let mut wire = Wire::default();
    for port in 0..2000u16 {
        wire.tcp(u64::from(port), (PC, 40_000), (BROKER, 1 + port), SYN, 0);
        wire.tcp(u64::from(port), (BROKER, 1 + port), (PC, 40_000), RST | ACK, 0);
    }
    wire.session(10_000, (RDSH, 50_000), (BROKER, 9100), 500);
    let long = vec![0; 9000];
    wire.data(20_000, (RDSH, 50_000), (BROKER, 9100), (0xffff, 1), &long);
    let told_of = evidence(&farm(""), &wire);
    let scan = told_of.iter().find(|t| t.note.contains("flows")).expect("the scan");
    assert!(scan.note.starts_with("8 of 19"), "{scan:?}");
    assert!(scan.frames.len() == 16, "{scan:?}");
    let session = told_of.iter().find(|t| t.frames.iter().any(|f| f.3.contains("SYN-ACK")));
    let session = session.expect("the session");
    // The file contains the handshake, the first data of each side, and the last packet of each
    // side.
    let last = session.frames.last().expect("frames");
    assert!((5..40).contains(&session.frames.len()), "{}", session.frames.len());
    assert!(last.0 / 1_000_000 - session.frames[0].0 / 1_000_000 > 499_000, "{last:?}");
    for (_, wire_len, data, _) in &session.frames {
        assert!(data.len() <= 2048 && *wire_len as usize >= data.len());
    }
}

/// Runs an audit that must not accept its evidence folder, and returns standard error.
#[track_caller]
fn refused(captures: &[&Path], to: &Path, more: &[&str]) -> String {
    let mut arguments: Vec<std::ffi::OsString> = vec!["audit".into()];
    arguments.extend(captures.iter().map(|c| c.as_os_str().to_owned()));
    arguments.extend(["--evidence".into(), to.into()]);
    arguments.extend(more.iter().map(Into::into));
    let run = rasaudit(arguments);
    assert_eq!(run.status.code(), Some(2), "{}", stderr(&run));
    assert!(run.stdout.is_empty());
    stderr(&run)
}

#[test]
fn a_place_that_evidence_would_spoil_is_refused_and_an_earlier_one_replaced() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let capture = fixture("farm-faults/span.pcap");
    let inventory = fixture("farm-healthy/inventory.toml");
    let folder = scratch.path().join("evidence");
    // The evidence of an earlier audit is replaced. Remains of a killed audit do not prevent this.
    audited(&[fixture("decode-mix/mix.pcap")], &fixture("decode-mix/inventory.toml"), &folder, &[]);
    assert!(told(&folder).len() > 3);
    fs::create_dir(folder.join(".rasaudit-left")).expect("a folder");
    audited(std::slice::from_ref(&capture), &inventory, &folder, &[]);
    fs::remove_dir(folder.join(".rasaudit-left")).expect("it stays");
    let now = told(&folder);
    assert_eq!(now.len(), 3);

    let with = ["-i", &inventory.display().to_string()];
    // The folder contains a file that no audit wrote.
    fs::write(folder.join("notes.txt"), "mine").expect("writable");
    let err = refused(&[&capture], &folder, &with);
    assert!(err.contains("contains notes.txt") && err.contains("needs a separate folder"), "{err}");
    assert_eq!(fs::read(folder.join("notes.txt")).expect("it stays"), b"mine");
    fs::remove_file(folder.join("notes.txt")).expect("the file");
    // The folder contains the user's own capture, named like evidence, or evidence that was edited.
    let own = folder.join("202611211200.pcapng");
    fs::copy(&capture, &own).expect("a copy");
    let err = refused(&[&own], &folder, &with);
    assert!(err.contains("the folder contains the input"), "{err}");
    let err = refused(&[&capture], &folder, &with);
    assert!(err.contains("contains 202611211200.pcapng"), "{err}");
    fs::remove_file(&own).expect("it stays");
    let worked_on = folder.join(format!("{}.pcapng", now[0].id));
    let err = refused(&[&worked_on], &folder, &with);
    assert!(err.contains("the folder contains the input"), "{err}");
    fs::write(&worked_on, "changed").expect("writable");
    let err = refused(&[&capture], &folder, &with);
    assert!(err.contains("which no earlier audit wrote"), "{err}");
    assert_eq!(fs::read(&worked_on).expect("it stays"), b"changed");
    // The index was edited, or replaced by a symbolic link.
    fs::remove_dir_all(&folder).expect("the folder");
    audited(std::slice::from_ref(&capture), &inventory, &folder, &[]);
    let index = folder.join("evidence.csv");
    let text = fs::read_to_string(&index).expect("an index");
    fs::write(
        &index,
        text.replacen("left out", "looked at, left out", 1).replacen(",,", ",,mine", 1),
    )
    .expect("writable");
    let err = refused(&[&capture], &folder, &with);
    assert!(err.contains("contains ") && err.contains("needs a separate folder"), "{err}");
    fs::rename(&index, scratch.path().join("index.csv")).expect("a move");
    fs::write(scratch.path().join("index.csv"), text).expect("writable");
    std::os::unix::fs::symlink(scratch.path().join("index.csv"), &index).expect("a link");
    let err = refused(&[&capture], &folder, &with);
    assert!(err.contains("needs a separate folder"), "{err}");
    // The folder contains a file that is named like evidence or like the index, but that no audit
    // wrote.
    let other = scratch.path().join("other");
    fs::create_dir(&other).expect("a folder");
    for name in ["0123456789ab.pcapng", "evidence.csv"] {
        fs::write(other.join(name), "mine").expect("writable");
        let err = refused(&[&capture], &other, &with);
        assert!(err.contains(&format!("contains {name}")), "{err}");
        fs::remove_file(other.join(name)).expect("it stays");
    }
    // Evidence needs a second pass over the input, which standard input does not allow. A folder
    // below the input would be read as input by the next audit.
    let new = scratch.path().join("new");
    let err = refused(&[Path::new("-")], &new, &with);
    assert!(err.contains("not possible with standard input"), "{err}");
    let captures = scratch.path().join("captures");
    fs::create_dir(&captures).expect("a folder");
    fs::copy(&capture, captures.join("a.pcap")).expect("a copy");
    let err = refused(&[&captures], &captures.join("x/../y"), &with);
    assert!(err.contains("is inside the input folder"), "{err}");
    let err = refused(&[&capture], &new, &[]);
    assert!(err.contains("--inventory"), "{err}");
    // Reports and evidence must not share a folder.
    let same = new.display().to_string();
    for out in [same.clone(), format!("{same}/report")] {
        let err = refused(&[&capture], &new, &[&with[..], &["--out", &out]].concat());
        assert!(err.contains("needs a separate folder"), "{err}");
    }
    assert!(!new.exists() && !captures.join("y").exists(), "nothing is left behind");
}

/// An interrupt while files are written leaves neither files nor folders behind.
#[test]
fn an_interrupt_while_files_are_written_leaves_nothing() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let reports = scratch.path().join("a/report");
    let evidence = scratch.path().join("b/evidence");
    let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("valid");
    let text = fs::read_to_string(fixture("farm-healthy/inventory.toml")).expect("the inventory");
    let inventory = Inventory::from_toml("inventory.toml", &text, &matrix).expect("valid");
    let plan = Plan::new(Request {
        captures: vec![fixture("farm-faults/span.pcap")],
        max_memory: 1 << 30,
        evidence: Some(evidence.clone()),
        ..Request::default()
    });
    let limits = Limits::default();
    let progress = Progress::default();
    let policy = Some(Policy::new(matrix, inventory));
    let audit = Audit::of(&plan.expect("a plan"), policy, None, &limits, &progress);
    let audit = audit.unwrap_or_else(|failure| panic!("{failure:?}"));
    let folders = || {
        Folders::prepare(Some(&reports), &ReportFiles::default(), Some(&evidence)).expect("folders")
    };
    progress.stop.store(true, Ordering::Relaxed);
    let interrupted = audit.write_folders(folders(), &progress);
    assert!(matches!(interrupted, Err(AuditError::Interrupted)), "{interrupted:?}");
    assert_eq!(fs::read_dir(scratch.path()).expect("a folder").count(), 0);
    progress.stop.store(false, Ordering::Relaxed);
    audit.write_folders(folders(), &progress).expect("all is written");
    assert!(reports.join("audit.json").exists() && told(&evidence).len() == 3);
}
