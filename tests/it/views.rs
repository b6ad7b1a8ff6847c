//! Tests what span ports deliver in practice: duplicate frames, a single direction, directions in
//! different VLANs, one truncated direction. The summary reports this, and verdicts and states
//! equal those of the plain capture.

use crate::support;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Records, fixture, rasaudit, stdout};

/// A record of a capture: time in microseconds, bytes on the wire, bytes captured.
#[derive(Clone)]
struct Frame {
    time: u64,
    wire: u32,
    bytes: Vec<u8>,
}

fn frames() -> Vec<Frame> {
    let records = Records::read(&fixture("farm-faults/span.pcap"));
    let number = |record: &[u8], at: usize| {
        u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"))
    };
    let frame = |record: &Vec<u8>| Frame {
        time: u64::from(number(record, 0)) * 1_000_000 + u64::from(number(record, 4)),
        wire: number(record, 12),
        bytes: record[16..].to_vec(),
    };
    records.records.iter().map(frame).collect()
}

fn write(path: &Path, frames: &[Frame]) {
    let mut bytes = Records::read(&fixture("farm-faults/span.pcap")).header;
    for frame in frames {
        bytes.extend(((frame.time / 1_000_000) as u32).to_le_bytes());
        bytes.extend(((frame.time % 1_000_000) as u32).to_le_bytes());
        bytes.extend((frame.bytes.len() as u32).to_le_bytes());
        bytes.extend(frame.wire.to_le_bytes());
        bytes.extend(&frame.bytes);
    }
    fs::write(path, bytes).expect("the scratch folder is writable");
}

/// Writes a pcapng file with two interfaces that captured the same frames, the second one 20 µs
/// later.
fn write_two_interfaces(path: &Path, frames: &[Frame]) {
    let block = |kind: u32, body: &[u8]| {
        let length = (body.len() + 12) as u32;
        [&kind.to_le_bytes()[..], &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
    };
    let mut section = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    let mut bytes = block(0x0a0d_0d0a, &section);
    for _ in 0..2 {
        bytes.extend(block(1, &[1, 0, 0, 0, 0, 0, 0, 0]));
    }
    for frame in frames {
        for interface in 0..2u32 {
            let time = frame.time + u64::from(interface) * 20;
            let mut body = interface.to_le_bytes().to_vec();
            body.extend(((time >> 32) as u32).to_le_bytes());
            body.extend((time as u32).to_le_bytes());
            body.extend((frame.bytes.len() as u32).to_le_bytes());
            body.extend(frame.wire.to_le_bytes());
            body.extend(&frame.bytes);
            body.resize(body.len().next_multiple_of(4), 0);
            bytes.extend(block(6, &body));
        }
    }
    fs::write(path, bytes).expect("the scratch folder is writable");
}

/// The share of truncated packets of each host and direction reveals a snaplen, regardless of which
/// workers counted the packets.
#[test]
fn a_snaplen_is_told_by_host_and_direction() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let gateway = [10, 20, 1, 21];
    // The test truncates only frames from the gateway, after 64 bytes.
    let cut = |frame: &Frame| {
        let mut frame = frame.clone();
        if frame.bytes[12..14] == [8, 0] && frame.bytes[26..30] == gateway {
            frame.bytes.truncate(64);
        }
        frame
    };
    let frames: Vec<Frame> = frames().iter().map(cut).collect();
    let is_cut = |frame: &&Frame| frame.wire as usize > frame.bytes.len();
    // The fixture itself was captured with a snaplen, so some frames of other hosts are truncated,
    // too.
    let files = [0, 1].map(|half: usize| {
        let path = scratch.path().join(format!("{half}.pcap"));
        let middle = frames.len() / 2;
        write(&path, if half == 0 { &frames[..middle] } else { &frames[middle..] });
        path
    });
    assert!(frames.iter().filter(is_cut).count() > 300);
    let inventory = fixture("farm-healthy/inventory.toml");
    let hosts = |more: &[&str]| {
        let mut arguments: Vec<std::ffi::OsString> = vec!["audit".into()];
        arguments.extend(files.iter().map(Into::into));
        arguments.extend([
            "-i".into(),
            inventory.clone().into(),
            "--format".into(),
            "hosts".into(),
        ]);
        arguments.extend(more.iter().map(Into::into));
        stdout(&rasaudit(arguments))
    };
    let report = hosts(&["--jobs", "1"]);
    assert_eq!(hosts(&["--jobs", "3", "--max-memory", "1"]), report);
    let shares = support::columns(
        &report,
        &["name", "truncated_sent", "truncated_received", "first_sent", "last_received"],
    );
    let of = |name: &str| shares.iter().find(|row| row[0] == name).expect("the host").clone();
    let gateway = of("gw1");
    let sent: f64 = gateway[1].parse().expect("a share");
    let received: f64 = gateway[2].parse().expect("a share");
    assert!(sent > 0.9 && sent <= 1.0, "{gateway:?}");
    assert!(received < sent, "{gateway:?}");
    assert!(gateway[3].starts_with("2026-") && gateway[4] > gateway[3], "{gateway:?}");
    assert_eq!(of("halb2")[1..], ["", "", "", ""]);
}

/// Returns whether a frame was sent by the end of its conversation that has the lower address.
/// Always true for frames that are neither IPv4 nor IPv6.
fn is_forth(frame: &Frame) -> bool {
    match frame.bytes[12..14] {
        [0x08, 0x00] => frame.bytes[26..30] < frame.bytes[30..34],
        [0x86, 0xdd] => frame.bytes[22..38] < frame.bytes[38..54],
        _ => true,
    }
}

fn tagged(frame: &Frame, vlan: u8) -> Frame {
    let mut tagged = frame.clone();
    tagged.bytes.splice(12..12, [0x81, 0x00, 0, vlan]);
    tagged.wire += 4;
    tagged
}

/// Returns the frame as the next network shows it: in another VLAN, with the router's source MAC
/// address, and with a TTL or hop limit lower by one.
fn routed(frame: &Frame) -> Frame {
    let mut next = frame.clone();
    next.time += 150;
    next.bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0xfe]);
    match next.bytes[12..14] {
        [0x08, 0x00] => {
            next.bytes[22] -= 1;
            let sum = u32::from(next.bytes[24]) << 8 | u32::from(next.bytes[25]);
            let sum = if sum + 0x100 > 0xffff { sum + 0x101 - 0x1_0000 } else { sum + 0x100 };
            next.bytes[24..26].copy_from_slice(&(sum as u16).to_be_bytes());
        }
        [0x86, 0xdd] => next.bytes[21] -= 1,
        _ => {}
    }
    tagged(&next, 30)
}

/// Returns the frames and their copies in order of time. `copy` returns `None` for a frame without
/// a copy.
fn doubled(frames: &[Frame], copy: impl Fn(&Frame) -> Option<Frame>) -> Vec<Frame> {
    let mut all: Vec<Frame> =
        frames.iter().cloned().chain(frames.iter().filter_map(copy)).collect();
    all.sort_by_key(|frame| frame.time);
    all
}

fn audit(capture: &Path, more: &[&str], format: &str) -> String {
    let inventory = fixture("farm-healthy/inventory.toml");
    let mut arguments = vec![
        "audit".to_owned(),
        capture.display().to_string(),
        "-i".to_owned(),
        inventory.display().to_string(),
        "--format".to_owned(),
        format.to_owned(),
    ];
    arguments.extend(more.iter().map(|m| (*m).to_owned()));
    stdout(&rasaudit(arguments))
}

/// Returns the named columns of the conversations, one string per row.
fn conversations(capture: &Path, more: &[&str], columns: &[&str]) -> Vec<String> {
    let text = audit(capture, more, "conversations");
    support::columns(&text, columns).iter().map(|row| row.join(" ")).collect()
}

const JUDGED: &[&str] = &[
    "client",
    "server",
    "transport",
    "port",
    "verdict",
    "code",
    "severity",
    "certain",
    "state",
    "direction",
    "rule",
    "flows",
    "established",
    "doubt",
];
const AMOUNTS: &[&str] = &[
    "client",
    "server",
    "transport",
    "port",
    "packets_to_server",
    "packets_to_client",
    "bytes_to_server",
    "bytes_to_client",
];

fn findings(capture: &Path) -> Vec<String> {
    let text = audit(capture, &[], "csv");
    let wanted = ["id", "severity", "verdict", "code", "certain"];
    support::columns(&text, &wanted).iter().map(|row| row.join(" ")).collect()
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a scratch folder"))
    }

    fn file(&self, name: &str, frames: &[Frame]) -> PathBuf {
        let path = self.0.path().join(name);
        write(&path, frames);
        path
    }
}

/// Asserts that two reports have the same lines. A failure shows only lines that differ.
fn same_lines(plain: &[String], view: &[String]) {
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).cloned().collect()
    };
    assert_eq!(only(plain, view), only(view, plain));
    assert_eq!(plain.len(), view.len());
}

/// Asserts that a view of the farm yields the judgement of the plain capture.
fn same_judgement(plain: &Path, view: &Path) {
    same_lines(&conversations(plain, &[], JUDGED), &conversations(view, &[], JUDGED));
    same_lines(&findings(plain), &findings(view));
}

#[test]
fn a_frame_seen_twice_is_one_packet() {
    let scratch = Scratch::new();
    let frames = frames();
    let plain = scratch.file("plain.pcap", &frames);
    let twice = doubled(&frames, |f| Some(Frame { time: f.time + 3, ..f.clone() }));
    let twice = scratch.file("twice.pcap", &twice);
    same_judgement(&plain, &twice);
    same_lines(&conversations(&plain, &[], AMOUNTS), &conversations(&twice, &[], AMOUNTS));
    let text = audit(&twice, &[], "text");
    assert!(
        text.contains(
            "about 50.0 % of packets are duplicates, estimated from a sample (50.0 % on the same interface): each packet is counted once"
        ),
        "{text}"
    );
    // Without correction, the counters include the duplicates.
    let off = conversations(&twice, &["--dedup", "off"], AMOUNTS);
    assert_ne!(conversations(&plain, &[], AMOUNTS), off);
    assert!(audit(&twice, &["--dedup", "off"], "text").contains("all of them are counted"));
    // A plain capture has no duplicates, even with `--dedup on`: a retransmission is not a
    // duplicate.
    same_lines(
        &conversations(&plain, &["--dedup", "on"], AMOUNTS),
        &conversations(&plain, &["--dedup", "off"], AMOUNTS),
    );
}

#[test]
fn copies_with_the_same_stamp_count_too() {
    let scratch = Scratch::new();
    let frames = frames();
    let plain = scratch.file("plain.pcap", &frames);
    let twice = scratch.file("twice.pcap", &doubled(&frames, |f| Some(f.clone())));
    same_judgement(&plain, &twice);
    same_lines(&conversations(&plain, &[], AMOUNTS), &conversations(&twice, &[], AMOUNTS));
}

#[test]
fn a_routed_packet_seen_on_both_sides_is_one_packet() {
    let scratch = Scratch::new();
    let frames = frames();
    let plain = scratch.file("plain.pcap", &frames);
    // A router does not forward broadcasts, multicasts, IPv4 packets whose TTL is 1, or neighbour
    // discovery, whose hop limit is 255.
    let passes = |f: &Frame| match f.bytes[12..14] {
        [0x08, 0x00] => f.bytes[22] > 1 && f.bytes[0] & 1 == 0,
        [0x86, 0xdd] => f.bytes[21] != 255 && f.bytes[0] & 1 == 0,
        _ => false,
    };
    let both = doubled(&frames, |f| passes(f).then(|| routed(f)));
    let both = scratch.file("both.pcap", &both);
    same_judgement(&plain, &both);
    let packets: Vec<&str> = AMOUNTS[..6].to_vec();
    same_lines(&conversations(&plain, &[], &packets), &conversations(&both, &[], &packets));
    let text = audit(&both, &[], "text");
    assert!(text.contains("in another VLAN): each packet is counted once"), "{text}");
}

#[test]
fn two_interfaces_of_a_file_are_one_capture() {
    let scratch = Scratch::new();
    let frames = frames();
    let plain = scratch.file("plain.pcap", &frames);
    let both = scratch.0.path().join("both.pcapng");
    write_two_interfaces(&both, &frames);
    same_judgement(&plain, &both);
    same_lines(&conversations(&plain, &[], AMOUNTS), &conversations(&both, &[], AMOUNTS));
    let text = audit(&both, &[], "text");
    assert!(text.contains("on another interface): each packet is counted once"), "{text}");
}

#[test]
fn directions_under_different_vlans_are_one_flow() {
    let scratch = Scratch::new();
    let frames = frames();
    let plain = scratch.file("plain.pcap", &frames);
    let split: Vec<Frame> =
        frames.iter().map(|f| tagged(f, if is_forth(f) { 10 } else { 20 })).collect();
    let split = scratch.file("split.pcap", &split);
    same_judgement(&plain, &split);
    let text = audit(&split, &[], "text");
    assert!(text.contains("belong to flows whose directions carry different VLAN ids"), "{text}");
    assert!(!audit(&plain, &[], "text").contains("View "), "a plain view is not mentioned");
}

#[test]
fn one_direction_cut_short_changes_nothing() {
    let scratch = Scratch::new();
    let frames = frames();
    let plain = scratch.file("plain.pcap", &frames);
    // One direction is truncated to 76 bytes, which contain the TCP flags. Over IPv6, they do not
    // contain all TCP options.
    let short = |f: &Frame| {
        let keep = if is_forth(f) { f.bytes.len() } else { f.bytes.len().min(76) };
        Frame { bytes: f.bytes[..keep].to_vec(), ..f.clone() }
    };
    let cut = scratch.file("cut.pcap", &frames.iter().map(short).collect::<Vec<_>>());
    same_judgement(&plain, &cut);
    let text = audit(&cut, &[], "text");
    assert!(text.contains("the snaplen truncated only one direction"), "{text}");
}

#[test]
fn one_direction_alone_proves_nothing_missing() {
    let scratch = Scratch::new();
    let half: Vec<Frame> = frames().into_iter().filter(is_forth).collect();
    let half = scratch.file("half.pcap", &half);
    let text = audit(&half, &[], "text");
    assert!(text.contains("to flows with only one visible direction"), "{text}");
    // Even if the inventory declares that the capture covers everything, no absence claim is
    // certain.
    let claims = findings(&half).into_iter().filter(|f| f.contains(" missing "));
    let certain: Vec<String> = claims.filter(|f| f.ends_with(" yes")).collect();
    assert!(certain.is_empty(), "{certain:#?}");
    // Duplicates do not reduce the share of one-sided flows.
    let share = |text: &str| {
        let line =
            text.lines().find(|l| l.contains("with only one visible direction")).map(str::to_owned);
        line.expect("a line")
    };
    let twice: Vec<Frame> = frames().into_iter().filter(is_forth).collect();
    let twice = doubled(&twice, |f| Some(Frame { time: f.time + 3, ..f.clone() }));
    let twice = audit(&scratch.file("twice.pcap", &twice), &[], "text");
    assert_eq!(share(&twice), share(&text));
}

#[test]
fn lost_frames_are_estimated_from_what_was_acknowledged() {
    let scratch = Scratch::new();
    let frames = frames();
    // Every twentieth frame is lost.
    let lossy: Vec<Frame> = frames
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 20 != 7)
        .map(|(_, frame)| frame.clone())
        .collect();
    let lossy = scratch.file("lossy.pcap", &lossy);
    let json: serde_json::Value =
        serde_json::from_str(&audit(&lossy, &[], "json")).expect("audit.json is JSON");
    let loss = &json["accounting"]["loss"];
    let acked = loss["acknowledged_bytes"].as_f64().unwrap();
    let unseen = loss["unseen_bytes"].as_f64().unwrap();
    assert!((0.02..0.1).contains(&(unseen / acked)), "{unseen} of {acked}");
    let text = audit(&lossy, &[], "text");
    assert!(text.contains("% of acknowledged TCP bytes were not captured"), "{text}");
    // If no frames are lost, the missing connections are reported. If a tenth of the frames is
    // lost, they are not.
    let silent = |frames: &[Frame]| -> Vec<Frame> {
        let port = 20_003u16.to_be_bytes();
        let ports = |f: &Frame| match f.bytes[12..14] {
            [0x08, 0x00] => f.bytes[34..38].chunks(2).any(|p| p == port),
            [0x86, 0xdd] => f.bytes[54..58].chunks(2).any(|p| p == port),
            _ => false,
        };
        frames.iter().filter(|f| !ports(f)).cloned().collect()
    };
    let never = |name: &str, frames: &[Frame]| {
        let file = scratch.file(name, frames);
        findings(&file).iter().filter(|f| f.contains(" never-attempted ")).count()
    };
    let silent = silent(&frames);
    assert!(never("silent.pcap", &silent) > 0);
    let lost = silent.iter().enumerate().filter(|(number, _)| number % 10 != 7);
    let lost: Vec<Frame> = lost.map(|(_, frame)| frame.clone()).collect();
    assert_eq!(never("silent-lossy.pcap", &lost), 0);
    // If most of the frames are lost, the remaining ones do not prove absence either.
    let fifth: Vec<Frame> = silent
        .iter()
        .enumerate()
        .filter(|(n, f)| n % 5 == 0 || f.wire < 80)
        .map(|(_, f)| f.clone())
        .collect();
    let fifth = scratch.file("fifth.pcap", &fifth);
    let text = audit(&fifth, &[], "text");
    assert!(text.contains("at least 50.0 % of acknowledged"), "{text}");
    let plain = scratch.file("plain.pcap", &frames);
    assert!(!audit(&plain, &[], "text").contains("were not captured"));
}

#[test]
fn copies_are_found_across_cuts_and_workers() {
    let scratch = Scratch::new();
    let twice = doubled(&frames(), |f| Some(Frame { time: f.time + 3, ..f.clone() }));
    let whole = scratch.file("whole.pcap", &twice);
    let folder = scratch.0.path().join("pieces");
    fs::create_dir(&folder).expect("the scratch folder is writable");
    let mut random = support::Random(7);
    Records::read(&whole).cut(&folder, 9, &mut random);
    let expected = conversations(&whole, &["--jobs", "1"], AMOUNTS);
    for more in [&["--jobs", "3"][..], &["--jobs", "2", "--max-memory", "1"]] {
        same_lines(&expected, &conversations(&folder, more, AMOUNTS));
    }
}

#[test]
fn a_link_without_a_target_does_not_prevent_the_correction_of_duplicates() {
    let scratch = Scratch::new();
    let frames = frames();
    let twice = doubled(&frames, |f| Some(Frame { time: f.time + 3, ..f.clone() }));
    let folder = scratch.0.path().join("captures");
    std::fs::create_dir(&folder).expect("writable");
    let twice = scratch.file("captures/twice.pcap", &twice);
    let plain = conversations(&twice, &[], AMOUNTS);
    for name in ["gone.pcap", "gone.txt"] {
        std::os::unix::fs::symlink("/nonexistent/target", folder.join(name)).expect("writable");
    }
    same_lines(&plain, &conversations(&folder, &[], AMOUNTS));
    let text = audit(&folder, &[], "text");
    assert!(text.contains("each packet is counted once"), "{text}");
    assert!(text.contains("gone.pcap is a link to a file or folder that does not exist"), "{text}");
}
