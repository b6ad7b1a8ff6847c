//! Tests that a cached judgement of similar conversations equals the judgement of each conversation
//! alone, and that many similar claims are reported as one finding.

use crate::support;
use std::fs;

use crate::support::wire::{Wire, dns};
use crate::support::{Site, columns};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rasaudit::classify::Judge;
use rasaudit::pipeline::{Audit, Limits, Plan, Progress, Request};
use rasaudit::policy::{Exceptions, Inventory, Policy, RuleFiles};

const ROLES: [&str; 9] = [
    "gateway-normal",
    "broker",
    "rdsh-agent",
    "ad-dc",
    "halb",
    "mfa-server",
    "console",
    "ras-reporting",
    "avd-session-host",
];

/// Ports of matrix rows, moved ports, ports of broadcasts and background traffic, and other ports.
const PORTS: [u16; 16] =
    [53, 80, 88, 135, 389, 443, 1434, 1812, 3389, 4444, 5353, 8443, 20_002, 20_003, 30_004, 49_700];

/// A generated site: its inventory, its exceptions, and its traffic.
#[derive(Debug)]
struct Case {
    inventory: String,
    exceptions: String,
    wire: Vec<(u8, u8, u16, u16, u8)>,
}

fn host(number: u8) -> String {
    format!("10.1.0.{}", number + 1)
}

/// Maps a number to the address of a listed host, a virtual address, a client in a network, an
/// unlisted host inside or outside, a destination that rows name by its address, or a broadcast
/// address.
fn address(number: u8) -> String {
    match number {
        0..8 => host(number),
        8 => "10.1.0.200".to_owned(),
        9..12 => format!("10.9.0.{number}"),
        12..14 => format!("10.1.7.{number}"),
        14..16 => format!("203.0.113.{number}"),
        16 => "169.254.169.254".to_owned(),
        17 => "168.63.129.16".to_owned(),
        18 => "224.0.0.18".to_owned(),
        _ => "10.1.0.255".to_owned(),
    }
}

fn inventory() -> impl Strategy<Value = String> {
    let roles = prop::collection::vec(prop::sample::subsequence(&ROLES[..], 1..=2), 6);
    (roles, any::<[bool; 4]>(), 0..8u8).prop_map(|(roles, [any, mfa, moved, of_host], by)| {
        let mut text = "[farm]\nmatrix = \"ras-19\"\n".to_owned();
        if any {
            text += "clients = \"any\"\n";
        }
        text += &format!("[farm.features]\nmfa = {mfa}\navd = {any}\n");
        if moved {
            let host = if of_host { "host = \"h0\"\n" } else { "" };
            text += &format!(
                "[[moved-port]]\nrole = \"broker\"\n{host}transport = \"tcp\"\nfrom = 20002\nto = 8443\n"
            );
        }
        // The first host is always a broker, whose port may be moved. The second one may reach
        // addresses that rows name.
        let fixed = [vec!["broker"], vec!["avd-session-host"]];
        for (number, roles) in fixed.iter().chain(&roles).enumerate() {
            let address = host(number as u8);
            text += &format!(
                "[[host]]\nname = \"h{number}\"\naddresses = [\"{address}\"]\nroles = {roles:?}\n"
            );
        }
        text += &format!(
            "[[host]]\nname = \"vip\"\naddresses = [\"10.1.0.200\"]\nroles = [\"halb\"]\nheld-by = [\"h{by}\"]\n"
        );
        text + "[[network]]\nname = \"office\"\ncidr = \"10.9.0.0/24\"\nroles = [\"parallels-client\"]\n"
    })
}

fn exceptions() -> impl Strategy<Value = String> {
    let side =
        prop::sample::select(vec!["*", "h0", "h3", "10.9.0.9", "10.9.0.0/24", "203.0.113.14"]);
    let expires = prop::sample::select(vec!["2026-01-01", "2026-05-28", "2026-12-31"]);
    let line = (side.clone(), side, prop::sample::select(&PORTS[..]), expires);
    prop::collection::vec(line, 0..4).prop_map(|lines| {
        let mut text =
            "id,from,to,transport,port,direction,owner,reason,approved_by,created,expires\n"
                .to_owned();
        for (number, (from, to, port, expires)) in lines.into_iter().enumerate() {
            text += &format!(
                "x{number},{from},{to},tcp,{port},to-server,a,because,b,2025-12-01,{expires}\n"
            );
        }
        text
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let port = prop::sample::select(&PORTS[..]);
    let any = (0..20u8, 0..20u8, prop_oneof![Just(50_000u16), port.clone()], port, 0..6u8);
    let to_named = (Just(1), 14..18u8, Just(50_000), Just(80), 0..2u8);
    let talk = prop_oneof![9 => any, 1 => to_named];
    (inventory(), exceptions(), prop::collection::vec(talk, 1..60))
        .prop_map(|(inventory, exceptions, wire)| Case { inventory, exceptions, wire })
}

fn capture(talks: &[(u8, u8, u16, u16, u8)]) -> Wire {
    let mut wire = Wire::default();
    for (number, (client, server, sport, port, how)) in talks.iter().enumerate() {
        let client = address(*client);
        let server = address(*server);
        if client == server {
            continue;
        }
        let from = (client.as_str(), *sport);
        let to = (server.as_str(), *port);
        let ms = 1_000 + number as u64 * 50;
        match how {
            0 | 1 => wire.connect(ms, from, to),
            2 => wire.udp(ms, from, to),
            3 => {
                wire.udp(ms, from, to);
                wire.udp(ms + 1, to, from);
            }
            // A connection that began before the capture.
            4 => {
                wire.tcp(ms, from, to, 0x10, 9);
                wire.tcp(ms + 1, to, from, 0x10, 9);
            }
            _ => {
                let [query, answer] = dns(number as u16, &["ras.parallels.com"], &server);
                let resolver = host(3);
                wire.datagram(ms, (from.0, 50_053), (&resolver, 53), &query);
                wire.datagram(ms + 1, (&resolver, 53), (from.0, 50_053), &answer);
                wire.connect(ms + 2, from, to);
            }
        }
    }
    wire
}

fn audited(case: &Case) -> Audit {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("case.pcap");
    fs::write(&path, capture(&case.wire).file()).expect("the scratch folder is writable");
    let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("valid");
    let inventory =
        Inventory::from_toml("case.toml", &case.inventory, &matrix).expect("a valid inventory");
    let exceptions =
        Exceptions::load("case.csv", &case.exceptions, &matrix, &inventory).expect("valid");
    let request =
        Request { captures: vec![path], jobs: Some(2), max_memory: 1 << 30, ..Request::default() };
    let plan = Plan::new(request).expect("a plan");
    let mut policy = Policy::new(matrix, inventory);
    policy.exceptions = exceptions;
    Audit::of(&plan, Some(policy), None, &Limits::default(), &Progress::default())
        .expect("an audit")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(19),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_judged_once_for_many_is_what_each_is_judged(case in cases()) {
        let audit = audited(&case);
        let policy = audit.policy().expect("it was judged");
        let judge = Judge::new(policy);
        let all = &audit.outcome.conversations;
        for (number, judged) in audit.outcome.judged.iter().enumerate() {
            prop_assert_eq!(
                *judged, judge.judge_alone(all, number), "{:?}", all.list[number].subject
            );
        }
    }
}

/// Returns the inventory of a farm with the given numbers of brokers and gateways.
fn large(brokers: usize, gateways: usize) -> String {
    let mut text = "[farm]\nmatrix = \"ras-19\"\n".to_owned();
    let mut add = |name: &str, net: u8, count: usize, role: &str| {
        for number in 0..count {
            let high = number / 200;
            let low = number % 200 + 1;
            text += &format!(
                "[[host]]\nname = \"{name}{number}\"\naddresses = [\"10.{net}.{high}.{low}\"]\nroles = [\"{role}\"]\n"
            );
        }
    };
    add("broker", 1, brokers, "broker");
    add("gw", 2, gateways, "gateway-normal");
    text
}

fn not_seen(inventory: &str) -> Vec<Vec<String>> {
    let mut wire = Wire::default();
    wire.udp(1_000, ("10.9.0.1", 50_000), ("10.9.0.2", 4444));
    let report = Site::new(inventory, &wire).report("csv");
    let names = ["group", "client", "client_name", "count", "clients", "servers", "message"];
    let mut rows = columns(&report, &names);
    rows.retain(|row| row[0] == "ras19.broker.broker.20030");
    rows
}

#[test]
fn fifty_pairs_of_one_group_and_reason_are_one_finding() {
    // Each pair of brokers needs one connection, so ten brokers need 45.
    let below = not_seen(&large(10, 0));
    assert_eq!(below.len(), 45);
    assert!(below.iter().all(|row| row[3] == "0" && row[2].starts_with("broker")));
    let above = not_seen(&large(11, 0));
    assert_eq!(above.len(), 1, "{above:?}");
    let [_, client, _, count, clients, servers, message] = &above[0][..] else {
        panic!("{above:?}")
    };
    assert_eq!((client.as_str(), count.as_str()), ("*", "55"));
    // Of the eleven brokers, one is never the client of a pair, and another one is never the
    // server.
    assert_eq!(clients.split(';').count(), 10);
    assert_eq!(servers.split(';').count(), 10);
    assert!(message.contains("10 hosts (RAS Connection Broker) to 10 hosts"), "{message}");
    assert!(message.contains("(55 pairs of hosts) was not assessed"), "{message}");
}

#[test]
fn a_farm_of_thousands_is_judged_by_kinds_of_hosts() {
    let rows = not_seen(&large(3_000, 2_000));
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][3], (3_000 * 2_999 / 2).to_string());
    // The first hosts are listed, followed by the number of the others.
    assert!(rows[0][4].ends_with(";'+1999 more"), "{}", &rows[0][4][rows[0][4].len() - 40..]);
}

/// Audits a farm in which the first `pairs` pairs of brokers get no reply and the others connect.
/// Returns the exit code and the findings as CSV. The reports are written to the folder `name` of
/// the site.
fn refused(
    site: &tempfile::TempDir,
    brokers: usize,
    pairs: usize,
    name: &str,
    more: &[&str],
) -> (i32, String) {
    let inventory = site.path().join("farm.toml");
    let capture = site.path().join(format!("{name}.pcap"));
    fs::write(&inventory, large(brokers, 0)).expect("writable");
    let mut wire = Wire::default();
    let all = (0..brokers).flat_map(|a| (a + 1..brokers).map(move |b| (a, b)));
    for (number, (a, b)) in all.enumerate() {
        let [from, to] = [a, b].map(|n| format!("10.1.{}.{}", n / 200, n % 200 + 1));
        let ms = number as u64 * 10;
        let from = (from.as_str(), 50_000);
        let to = (to.as_str(), 20_001);
        if number < pairs { wire.knock(ms, from, to) } else { wire.connect(ms, from, to) }
    }
    // Because of this later traffic, the attempts are not in the last second of the capture, so
    // they count as failed.
    wire.udp(60_000, ("10.9.0.1", 50_000), ("10.9.0.2", 4444));
    fs::write(&capture, wire.file()).expect("writable");
    let words = |path: &std::path::Path| path.display().to_string();
    let capture = words(&capture);
    let inventory = words(&inventory);
    let out = words(&site.path().join(name));
    let arguments = ["audit", &capture, "-i", &inventory, "--out", &out, "-q"];
    let run = support::rasaudit([&arguments[..], more].concat());
    let csv = fs::read_to_string(site.path().join(name).join("findings.csv")).expect("a report");
    (run.status.code().unwrap_or_default(), csv)
}

fn since(csv: &str) -> Vec<[String; 4]> {
    let rows = columns(csv, &["code", "client", "count", "since"]);
    let failed = rows.into_iter().filter(|row| row[0] == "refused" || row[0] == "unanswered");
    failed.map(|row| row.try_into().expect("four cells")).collect()
}

#[test]
fn more_pairs_are_news_and_fewer_are_none() {
    let site = tempfile::tempdir().expect("a scratch folder");
    let known = |name: &str| site.path().join(name).join("findings.csv").display().to_string();
    let (_, few) = refused(&site, 20, 60, "few", &[]);
    let few = since(&few);
    assert_eq!(few.len(), 1, "{few:?}");
    assert_eq!(few[0][1..3], ["*", "60"]);
    // The baseline contains failures of a third of the pairs. If most pairs fail, the finding is
    // new.
    let before = known("few");
    let more = ["--known", before.as_str(), "--fail-on", "new"];
    let (code, all) = refused(&site, 20, 150, "all", &more);
    assert_eq!((code, &since(&all)[0][2..]), (1, &["150".to_owned(), "new".to_owned()][..]));
    let (code, same) = refused(&site, 20, 60, "same", &more);
    assert_eq!((code, since(&same)[0][3].as_str()), (0, "known"));
    // The failures that remain after a partial recovery are reported pair by pair, and are not new.
    let (code, healed) = refused(&site, 20, 40, "healed", &more);
    let healed = since(&healed);
    assert_eq!(healed.len(), 40);
    assert!(healed.iter().all(|row| row[3] == "known"), "{healed:?}");
    assert_eq!(code, 0);
}

#[test]
fn of_brokers_that_never_spoke_none_is_accused_twice() {
    // Each broker pings an unlisted host, which replies, for 130 seconds. This is long enough for
    // absence claims.
    for brokers in [3, 12] {
        let inventory = large(brokers, 0) + "[capture]\ncovers = \"all\"\n";
        let mut wire = Wire::default();
        wire.connect(0, ("10.9.0.8", 50_000), ("10.9.0.9", 443));
        for second in 0..130 {
            for number in 0..brokers {
                let from = format!("10.1.0.{}", number + 1);
                let to = "10.9.0.9";
                wire.ip(second * 1000, &from, to, 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
                wire.ip(second * 1000 + 1, to, &from, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
            }
        }
        let run = Site::new(&inventory, &wire).run(&["--format", "csv", "--min-watch", "60s"]);
        let codes: Vec<String> = columns(&support::stdout(&run), &["code"])
            .into_iter()
            .map(|row| row[0].clone())
            .collect();
        assert!(codes.iter().any(|code| code == "never-attempted"), "{codes:?}");
        assert!(codes.iter().all(|code| code != "silent-role"), "{codes:?}");
    }
}
