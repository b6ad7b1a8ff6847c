//! Five-tuples with their packets and bytes in each direction agree with tshark's per-packet fields,
//! with all reassembly off. tshark is Debian's; without it the test says that it was skipped, unless
//! `RASAUDIT_REQUIRE_TSHARK` is set, as CI does.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rasaudit::pipeline::{Plan, Progress, Reading, Request};
use support::fixture;

/// Source, destination, protocol -> packets and bytes.
type Directions = BTreeMap<(String, String, u8), (u64, u64)>;

fn tshark(capture: &Path) -> Option<Directions> {
    let fields = [
        "frame.len",
        "ip.src",
        "ip.dst",
        "ip.proto",
        "ipv6.src",
        "ipv6.dst",
        "tcp.srcport",
        "tcp.dstport",
        "udp.srcport",
        "udp.dstport",
        "sctp.srcport",
        "sctp.dstport",
        "ip.id",
        "ip.frag_offset",
        "ipv6.fraghdr.ident",
        "ipv6.fraghdr.offset",
        "frame.protocols",
        "ip.flags.mf",
    ];
    let mut command = Command::new("tshark");
    command
        .args(["-n", "-T", "fields", "-E", "occurrence=f", "-E", "separator=/t", "-r"])
        .arg(capture);
    for option in
        ["ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE"]
    {
        command.args(["-o", option]);
    }
    for field in fields {
        command.args(["-e", field]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(_) if std::env::var_os("RASAUDIT_REQUIRE_TSHARK").is_none() => return None,
        Err(error) => panic!("tshark is required: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    // Later fragments have no ports; they belong to the flow of their first one.
    let fragment = |row: &[&str]| {
        let v4 = (!row[12].is_empty() && (row[13] != "0" || row[17] == "1" || row[17] == "True"))
            .then(|| (row[1].to_owned(), row[2].to_owned(), row[12].to_owned(), row[13] == "0"));
        let v6 = (!row[14].is_empty())
            .then(|| (row[4].to_owned(), row[5].to_owned(), row[14].to_owned(), row[15] == "0"));
        v4.or(v6)
    };
    let ports = |row: &[&str]| {
        [(6, 6), (17, 8), (132, 10)].into_iter().find_map(|(protocol, at): (u8, usize)| {
            (!row[at].is_empty()).then(|| (protocol, row[at].to_owned(), row[at + 1].to_owned()))
        })
    };
    let mut firsts = BTreeMap::new();
    for row in &rows {
        if let (Some((src, dst, id, true)), Some(found)) = (fragment(row), ports(row)) {
            firsts.insert((src, dst, id), found);
        }
    }
    let mut directions = Directions::new();
    for row in &rows {
        // Ports inside an ICMP error are those of the packet that it quotes.
        if row[16].contains(":icmp") {
            continue;
        }
        let found = match fragment(row) {
            Some((src, dst, id, false)) => firsts.get(&(src, dst, id)).cloned(),
            _ => ports(row),
        };
        let Some((protocol, sport, dport)) = found else {
            continue;
        };
        let (src, dst) = if row[1].is_empty() { (row[4], row[5]) } else { (row[1], row[2]) };
        let entry = directions
            .entry((format!("{src} {sport}"), format!("{dst} {dport}"), protocol))
            .or_default();
        entry.0 += 1;
        entry.1 += row[0].parse::<u64>().expect("a length");
    }
    Some(directions)
}

fn ours(capture: &Path) -> Directions {
    let request = Request {
        captures: vec![capture.to_owned()],
        jobs: Some(2),
        max_memory: 1 << 30,
        ..Request::default()
    };
    let plan = Plan::new(request).expect("the fixture is there");
    let mut reading = Reading::of(&plan, &Progress::default()).expect("the fixture is read");
    let mut directions = Directions::new();
    reading
        .flows
        .visit(|table| {
            for flow in table.iter().filter(|f| f.key.transport().has_ports()) {
                for side in 0..2 {
                    let sent = flow.sides[side].sent;
                    if sent.packets.0 > 0 {
                        let end = |side| {
                            let end: rasaudit::model::Endpoint = flow.key.endpoint(side);
                            format!("{} {}", end.addr, end.port)
                        };
                        let key = (end(side), end(1 - side), flow.key.transport().0);
                        directions.insert(key, (sent.packets.0, sent.bytes.0));
                    }
                }
            }
        })
        .expect("in memory");
    directions
}

#[test]
fn five_tuples_agree_with_tshark() {
    let captures: Vec<PathBuf> = [
        "farm-healthy/span.pcap",
        "farm-faults/span.pcap",
        "decode-mix/mix.pcap",
        "formats/sections.pcapng",
    ]
    .into_iter()
    .map(fixture)
    .collect();
    for capture in captures {
        let Some(theirs) = tshark(&capture) else {
            support::skipped("tshark is not installed (apt-get install tshark)");
            return;
        };
        let ours = ours(&capture);
        assert!(ours.len() > 10, "{}", capture.display());
        let differing: Vec<_> = ours
            .iter()
            .filter(|(key, value)| theirs.get(*key) != Some(value))
            .map(|(key, value)| format!("{key:?}: ours {value:?}, theirs {:?}", theirs.get(key)))
            .chain(
                theirs
                    .keys()
                    .filter(|k| !ours.contains_key(*k))
                    .map(|k| format!("{k:?}: only theirs")),
            )
            .collect();
        assert!(differing.is_empty(), "{}:\n{}", capture.display(), differing.join("\n"));
    }
}
