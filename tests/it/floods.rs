//! Tests floods: captures with more conversations than memory has room for. Conversations that
//! nobody answered are aggregated, which the reports state, and no result depends on workers,
//! files, or the order of packets.

use std::path::PathBuf;
use std::process::Command;

use crate::support::wire::{ACK, RST, SYN, Wire};
use crate::support::{Random, Records, Site, columns, hosts, reports, stderr, stdout};

const SCANNER: &str = "10.1.0.30";
const BROKER: &str = "10.1.0.10";
const GW: &str = "10.1.0.1";

/// The number of conversations that the program keeps even with the smallest memory limit.
const ROOM: usize = 16_384;

fn farm() -> String {
    let list = hosts(&[
        ("gw1", GW, "gateway-normal"),
        ("broker1", BROKER, "broker"),
        ("rdsh1", SCANNER, "rdsh-agent"),
        ("rdsh2", "10.1.0.31", "rdsh-agent"),
    ]);
    format!(
        "[farm]\nname = \"Flood\"\nmatrix = \"ras-19\"\n{list}\
         [[network]]\nname = \"office\"\ncidr = \"10.9.0.0/16\"\nroles = [\"parallels-client\"]\n"
    )
}

/// Appends a SYN that gets a reset.
fn refuse(wire: &mut Wire, ms: u64, from: (&str, u16), to: (&str, u16)) {
    wire.segment(ms, from, to, SYN, (5, 0), 0);
    wire.segment(ms, to, from, RST | ACK, (0, 6), 0);
}

/// Returns ordinary traffic of the farm: a documented connection, another that fails, and one from
/// outside that works.
fn ordinary() -> Wire {
    let mut wire = Wire::default();
    wire.opened(0, (SCANNER, 50_000), (BROKER, 20_003), 100);
    refuse(&mut wire, 100, ("10.1.0.31", 50_001), (BROKER, 20_003));
    wire.opened(200, ("203.0.113.7", 50_000), (GW, 4444), 300);
    wire
}

/// Appends SYNs from random addresses. `network` contains their first bytes.
fn spoofed(wire: &mut Wire, count: usize, network: &[u8]) {
    let mut random = Random(3);
    for number in 0..count as u64 {
        // Loopback addresses would be aggregated into a separate row.
        let mut address = (random.next() as u32 & 0xbfff_ffff).to_be_bytes();
        address[..network.len()].copy_from_slice(network);
        let client = std::net::Ipv4Addr::from(address).to_string();
        let port = 1024 + random.below(60_000) as u16;
        wire.segment(300 + number / 100, (&client, port), (GW, 4444), SYN, (5, 0), 0);
    }
}

/// Returns the source and the destination of an Ethernet frame with an IPv4 packet.
fn pair_of(frame: &[u8]) -> String {
    let address = |from: usize| {
        let bytes: [u8; 4] = frame[from..from + 4].try_into().expect("four bytes");
        std::net::Ipv4Addr::from(bytes)
    };
    format!("{} to {}", address(26), address(30))
}

/// Appends a scan of many ports of two hosts by a listed host.
fn scan(wire: &mut Wire, ports: u16) {
    for port in 1..=ports {
        for server in ["10.1.0.31", GW] {
            refuse(wire, 300 + u64::from(port) / 50, (SCANNER, 50_000), (server, port));
        }
    }
}

/// Runs an audit with little memory. Returns all reports, and what the program printed.
fn run(site: &Site, captures: &[PathBuf], jobs: &str) -> (Vec<(String, String)>, String) {
    let out = tempfile::tempdir().expect("a scratch folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
    command.arg("audit").args(captures).arg("-i").arg(&site.inventory);
    command.args(["--jobs", jobs, "--max-memory", "1", "--out"]).arg(out.path().join("r"));
    let run = command.output().expect("the program runs");
    assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
    (reports(&out.path().join("r")), stdout(&run))
}

fn report<'r>(reports: &'r [(String, String)], name: &str) -> &'r str {
    &reports.iter().find(|(known, _)| known == name).expect("the report").1
}

/// Asserts that the reports are the same for any number of workers, and if the capture is split
/// into files that are read in another order. Returns the reports and the output of an audit with
/// one worker.
fn is_free_of_order(site: &Site) -> (Vec<(String, String)>, String) {
    let whole = run(site, std::slice::from_ref(&site.capture), "1");
    for jobs in ["2", "8"] {
        let other = run(site, std::slice::from_ref(&site.capture), jobs).0;
        assert!(other == whole.0, "{jobs} workers");
    }
    let mut random = Random(9);
    let mut files = Records::read(&site.capture).cut(site.folder.path(), 5, &mut random);
    random.shuffle(&mut files);
    let cut = run(site, &files, "2").0;
    for ((name, cut), (_, whole)) in cut.iter().zip(&whole.0) {
        assert!(cut == whole, "{name} of pieces in another order");
    }
    whole
}

/// Returns the sum of a column of `conversations.csv`.
fn sum(reports: &[(String, String)], column: &str) -> u64 {
    let rows = columns(report(reports, "conversations.csv"), &[column]);
    rows.iter().map(|row| row[0].parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_flood_from_outside_is_one_row_for_each_service_and_hides_nothing_that_was_answered() {
    let mut wire = ordinary();
    spoofed(&mut wire, 20_000, &[]);
    let frames = wire.0.len() as u64;
    let site = Site::new(&farm(), &wire);
    let (all, printed) = is_free_of_order(&site);
    let shown = ["client", "server", "port", "state", "certain", "flows", "doubt"];
    let rows = columns(report(&all, "conversations.csv"), &shown);
    assert_eq!(rows.len(), 4, "{rows:?}");
    let flood = rows.iter().find(|row| row[0] == "0.0.0.0").expect("all clients as one");
    assert_eq!(flood[1..3], [GW, "4444"]);
    assert_eq!(flood[4..], ["no", "20000", "fold"]);
    // The connection from outside that was answered keeps its client and stays certain.
    let answered = rows.iter().find(|row| row[0] == "203.0.113.7").expect("the answered client");
    assert_eq!(answered[3..], ["established", "yes", "1", ""]);
    assert_eq!(sum(&all, "packets_to_server") + sum(&all, "packets_to_client"), frames);
    for text in [&printed[..], report(&all, "report.html"), report(&all, "audit.json")] {
        assert!(text.contains("20000 conversations without an answer"), "{text}");
        assert!(text.contains("has room for 16384"), "{text}");
    }
    let findings = columns(report(&all, "findings.csv"), &["client", "code", "certain", "message"]);
    let flood = findings.iter().find(|row| row[3].contains("aggregated")).expect("a finding");
    assert_eq!((&flood[0][..], &flood[2][..]), ("*", "no"));
    assert!(flood[3].contains("20000 conversations (20000 flows, clients from "), "{flood:?}");
    assert!(findings.iter().any(|row| row[0] == "203.0.113.7" && row[2] == "yes"), "{findings:?}");
}

#[test]
fn aggregated_loopback_addresses_are_not_certain_and_a_pair_that_was_seen_is_named() {
    let found = |count: usize| {
        let mut wire = ordinary();
        spoofed(&mut wire, count, &[127]);
        let seen: Vec<String> = wire.0.iter().map(|(_, frame)| pair_of(frame)).collect();
        let site = Site::new(&farm(), &wire);
        let (all, _) = run(&site, std::slice::from_ref(&site.capture), "1");
        let found = columns(report(&all, "findings.csv"), &["code", "certain", "message"]);
        let found = found.into_iter().find(|row| row[0] == "loopback-on-wire");
        let [_, certain, message] = &found.expect("a finding")[..] else { unreachable!() };
        let (_, named) = message.split_once('(').expect("pairs");
        let named = named.split_once([',', ')']).expect("an end").0.to_owned();
        let others = named.strip_suffix(" and others");
        let pair = others.unwrap_or(&named);
        assert!(seen.iter().any(|seen| seen == pair), "{message}");
        (certain.clone(), others.is_some())
    };
    assert_eq!(found(3), ("yes".to_owned(), false));
    assert_eq!(found(20_000), ("no".to_owned(), true));
}

/// An acknowledgement shows that there was an answer, even if the capture does not contain it.
#[test]
fn a_connection_whose_answers_were_not_captured_is_not_part_of_a_flood() {
    let mut wire = ordinary();
    wire.segment(250, ("198.51.100.9", 50_000), (GW, 4444), SYN, (5, 0), 0);
    wire.segment(251, ("198.51.100.9", 50_000), (GW, 4444), ACK, (6, 100), 40);
    spoofed(&mut wire, ROOM + 2_000, &[]);
    let site = Site::new(&farm(), &wire);
    let (all, _) = run(&site, std::slice::from_ref(&site.capture), "1");
    let rows = columns(report(&all, "conversations.csv"), &["client", "doubt"]);
    assert!(rows.iter().any(|row| row[0] == "0.0.0.0"), "{rows:?}");
    assert!(rows.iter().any(|row| row[0] == "198.51.100.9"), "{rows:?}");
}

#[test]
fn a_flood_from_a_listed_network_is_a_row_of_the_network() {
    let mut wire = ordinary();
    spoofed(&mut wire, 20_000, &[10, 9]);
    let site = Site::new(&farm(), &wire);
    let (all, printed) = is_free_of_order(&site);
    let rows = columns(report(&all, "conversations.csv"), &["client", "client_name", "port"]);
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(rows.iter().any(|row| row[..] == ["10.9.0.0", "office", "4444"]), "{rows:?}");
    assert!(printed.contains("those of clients in listed networks, by network"), "{printed}");
}

#[test]
fn a_scan_by_a_listed_host_is_one_finding_with_count_range_and_severity() {
    let mut wire = ordinary();
    scan(&mut wire, 12_000);
    let site = Site::new(&farm(), &wire);
    let few = {
        let mut wire = ordinary();
        scan(&mut wire, 400);
        Site::new(&farm(), &wire)
    };
    let (all, printed) = is_free_of_order(&site);
    let shown =
        ["client_name", "server", "port", "code", "severity", "certain", "count", "message"];
    let of_scan = |all: &[(String, String)]| {
        let found = columns(report(all, "findings.csv"), &shown);
        found.into_iter().filter(|row| row[0] == "rdsh1").collect::<Vec<_>>()
    };
    let mut found = of_scan(&all);
    found.retain(|row| row[7].contains("aggregated to stay within --max-memory"));
    let codes: Vec<&String> = found.iter().map(|row| &row[3]).collect();
    let whole = of_scan(&run(&few, std::slice::from_ref(&few.capture), "1").0);
    // Each code has one aggregated finding, with the severity that findings with this code have in
    // a small scan.
    for row in &found {
        let mut alone = whole.iter().filter(|other| other[3] == row[3]);
        assert!(alone.all(|alone| alone[4] == row[4]), "{row:?}: {whole:?}");
        assert_eq!((&row[2][..], &row[5][..]), ("*", "no"), "{row:?}");
    }
    // The findings count all but a few of the ports of both servers.
    let counts = found.iter().map(|row| row[6].parse::<u64>().expect("a number"));
    assert!((23_000..=24_000).contains(&counts.sum::<u64>()), "{found:?}");
    let range = "TCP ports from 1 to 12000 (none reached)";
    assert!(found.iter().any(|row| row[7].contains(range)), "{found:?}");
    let unique = codes.iter().collect::<std::collections::BTreeSet<_>>();
    assert!(!found.is_empty() && unique.len() == codes.len(), "{found:?}");
    assert!(printed.contains("those of listed hosts, by client and server"), "{printed}");
    // The two documented connections, one of which worked, keep their rows.
    let kept = columns(
        report(&all, "conversations.csv"),
        &["client", "server", "port", "verdict", "state", "certain"],
    );
    for (client, state) in [(SCANNER, "established"), ("10.1.0.31", "refused")] {
        let row = [client, BROKER, "20003", "documented", state, "yes"];
        assert!(kept.iter().any(|kept| kept[..] == row), "{row:?}: {kept:?}");
    }
}

/// If the documented connections of very many hosts all failed, so that they were aggregated, no
/// finding claims for certain that these hosts never tried to connect, and no row is certainly
/// missing.
#[test]
fn what_was_aggregated_is_not_called_absent() {
    let agents = 2_000;
    let brokers = 10;
    let name = |number: usize| format!("10.2.{}.{}", number / 250, 1 + number % 250);
    let broker = |number: usize| format!("10.3.0.{}", 1 + number);
    let list = |count: usize, role: &str, at: &dyn Fn(usize) -> String| -> String {
        (0..count).map(|n| hosts(&[(&format!("{role}{n}"), &at(n), role)])).collect()
    };
    let inventory = format!(
        "[farm]\nname = \"Failing\"\nmatrix = \"ras-19\"\n[capture]\ncovers = \"all\"\n{}{}",
        list(agents, "rdsh-agent", &name),
        list(brokers, "broker", &broker)
    );
    let mut wire = Wire::default();
    for number in 0..agents * brokers {
        let (from, to) = (name(number / brokers), broker(number % brokers));
        refuse(&mut wire, number as u64 * 40, (&from, 50_000), (&to, 20_003));
    }
    let site = Site::new(&inventory, &wire);
    assert!(agents * brokers > ROOM);
    let (all, printed) = is_free_of_order(&site);
    assert!(printed.contains("those of listed hosts, by client and without ports"), "{printed}");
    let rows = columns(report(&all, "conversations.csv"), &["client", "port", "state", "flows"]);
    assert_eq!(rows.len(), agents);
    assert!(rows.iter().all(|row| row[1..] == ["20003", "refused", "10"]), "{:?}", rows[0]);
    let shown = ["verdict", "code", "group", "certain", "client", "port", "message", "count"];
    let found = columns(report(&all, "findings.csv"), &shown);
    let failed: Vec<_> = found.iter().filter(|row| row[1] == "refused").collect();
    // The hosts of a network that failed in the same way are one finding.
    let counts = failed.iter().map(|row| row[7].parse::<usize>().expect("a number"));
    assert_eq!((failed.len(), counts.sum::<usize>()), (8, agents * brokers), "{failed:?}");
    assert!(failed.iter().all(|row| row[3] == "no"), "{failed:?}");
    assert!(failed[0][6].contains("2500 conversations (2500 flows, clients from"), "{failed:?}");
    let group = &failed[0][2];
    let denied = found.iter().filter(|row| row[1] == "never-attempted");
    // The conversations of the agents were aggregated, so claims that an agent never attempted a
    // connection are uncertain. Those of the brokers were not.
    let of_agents = |row: &&Vec<String>| row[4].starts_with("10.2.") && row[3] != "no";
    let denied: Vec<_> = denied.filter(|row| row[2] == *group || of_agents(row)).collect();
    assert!(denied.is_empty(), "{denied:?}");
}

/// Below the limit, and with enough memory, nothing is aggregated.
#[test]
fn nothing_is_aggregated_while_there_is_room() {
    let mut wire = ordinary();
    spoofed(&mut wire, 20_000, &[]);
    let site = Site::new(&farm(), &wire);
    let roomy = stdout(&site.run(&["--format", "conversations"]));
    assert_eq!(columns(&roomy, &["client"]).len(), 20_003);
    assert!(!roomy.contains("fold"));
    assert!(!stdout(&site.run::<&str>(&[])).contains("without an answer"));
    let mut small = ordinary();
    spoofed(&mut small, ROOM - 10, &[]);
    let small = Site::new(&farm(), &small);
    let (all, printed) = run(&small, std::slice::from_ref(&small.capture), "2");
    assert_eq!(columns(report(&all, "conversations.csv"), &["client"]).len(), ROOM - 7);
    assert!(!printed.contains("without an answer"), "{printed}");
}

#[test]
fn a_number_of_conversations_that_may_be_too_high_is_stated_as_a_limit() {
    const CLIENTS: u64 = 17_000;
    // Each client uses a port above that of the server. If `below` is true, some clients also use
    // one below.
    let summary = |below: bool| {
        let mut wire = ordinary();
        for number in 0..CLIENTS {
            let client = format!("198.18.{}.{}", number / 200, 1 + number % 200);
            let ms = 300 + number / 100;
            wire.segment(ms, (&client, 50_000), (GW, 4444), SYN, (5, 0), 0);
            if below && number % 1000 == 0 {
                wire.segment(ms, (&client, 2000), (GW, 4444), SYN, (5, 0), 0);
            }
        }
        let site = Site::new(&farm(), &wire);
        run(&site, std::slice::from_ref(&site.capture), "1").1
    };
    let exact = summary(false);
    assert!(exact.contains(", so 17000 conversations without an answer (17000 flows"), "{exact}");
    // The flows of a client with both ports are in two partitions, so it counts twice.
    let limit = summary(true);
    assert!(limit.contains("has up to 17020 conversations"), "{limit}");
    assert!(limit.contains("up to 17017 conversations without an answer (17017 fl"), "{limit}");
}
