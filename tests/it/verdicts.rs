//! Tests each code and each condition of the judgement with a small farm, the relevant packets, and
//! the expected findings.

use crate::support;
use std::net::Ipv4Addr;

use crate::support::wire::{ACK, RST, SYN, Wire, dns};
use rasaudit::classify::Doubt;
use rasaudit::pipeline::{Audit, Limits, Plan, Progress, Request};
use rasaudit::policy::{Inventory, Policy, RuleFiles};

const HOSTS: &[(&str, &str, &str)] = &[
    ("gw1", "10.1.0.1", "gateway-normal"),
    ("broker1", "10.1.0.10", "broker"),
    ("dc1", "10.1.0.20", "ad-dc"),
    ("rdsh1", "10.1.0.30", "rdsh-agent"),
];

/// Returns the inventory of a farm with [`HOSTS`], these features, and additional TOML after the
/// hosts.
fn farm(features: &str, more: &str) -> String {
    let mut text = format!("[farm]\nmatrix = \"ras-19\"\n[farm.features]\n{features}\n");
    text += &support::hosts(HOSTS);
    text + more
}

const ALL: &str = "[capture]\ncovers = \"all\"\n";

/// Returns a capture in which all hosts of the farm ping each other every ten seconds for 110
/// seconds. All hosts are seen sending, and the capture is long enough for absence claims.
fn pings() -> Wire {
    let mut wire = Wire::default();
    for second in (0..120).step_by(10) {
        for (a, (_, from, _)) in HOSTS.iter().enumerate() {
            for (_, to, _) in &HOSTS[a + 1..] {
                wire.ip(second * 1000, from, to, 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
                wire.ip(second * 1000 + 1, to, from, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
            }
        }
    }
    wire
}

/// Returns the capture of [`pings`] with the steady connections of a healthy farm.
fn steady() -> Wire {
    let mut wire = pings();
    wire.connect(5_000, (GW, 50_000), (BROKER, 20_002));
    wire.connect(5_100, (BROKER, 50_001), (DC, 389));
    wire.connect(5_200, (BROKER, 50_002), (DC, 88));
    wire.udp(5_300, (BROKER, 50_003), (DC, 53));
    wire.udp(5_301, (DC, 53), (BROKER, 50_003));
    wire.connect(5_400, (RDSH, 50_004), (BROKER, 20_003));
    wire.udp(5_500, (RDSH, 50_005), (BROKER, 20_003));
    wire
}

/// Adds the steady connections of a second broker to the domain controller.
fn use_directory(wire: &mut Wire, broker: &str) {
    wire.connect(8_000, (broker, 50_000), (DC, 389));
    wire.connect(8_100, (broker, 50_001), (DC, 88));
    wire.udp(8_200, (broker, 50_002), (DC, 53));
    wire.udp(8_201, (DC, 53), (broker, 50_002));
}

/// Returns the capture of [`steady`] without the connections of the session host, which still
/// answers pings.
fn silent() -> Wire {
    let mut wire = steady();
    let of_rdsh = |f: &[u8]| f[26..30] == [10, 1, 0, 30] || f[30..34] == [10, 1, 0, 30];
    wire.0.retain(|(_, f)| f[23] == 1 || !of_rdsh(f));
    wire
}

fn without(mut wire: Wire, host: &str) -> Wire {
    let address = host.parse::<Ipv4Addr>().expect("an address").octets();
    wire.0.retain(|(_, frame)| frame[26..30] != address);
    wire
}

/// Returns a pcapng file whose interface reports `dropped` of 1,000 frames as dropped and, unless
/// `filter` is empty, has a capture filter.
fn pcapng(wire: &Wire, dropped: u64, filter: &str) -> Vec<u8> {
    let block = |kind: u32, mut body: Vec<u8>| {
        body.resize(body.len().next_multiple_of(4), 0);
        let length = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, &body, &length].concat()
    };
    let option = |code: u16, mut value: Vec<u8>| {
        let length = (value.len() as u16).to_le_bytes();
        value.resize(value.len().next_multiple_of(4), 0);
        [&code.to_le_bytes()[..], &length, &value].concat()
    };
    let mut section = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    section.extend([1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    let mut interface = vec![1, 0, 0, 0, 0, 0, 0, 0];
    if !filter.is_empty() {
        interface.extend(option(11, [b"\0", filter.as_bytes()].concat()));
    }
    let mut bytes = [block(0x0a0d_0d0a, section), block(1, interface)].concat();
    for (ms, frame) in &wire.0 {
        let micros = (1_780_000_000_000 + ms) * 1000;
        let length = frame.len() as u32;
        let words = [0, (micros >> 32) as u32, micros as u32, length, length];
        let mut body: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        body.extend(frame);
        bytes.extend(block(6, body));
    }
    let mut statistics = vec![0; 12];
    statistics.extend(option(4, 1000u64.to_le_bytes().to_vec()));
    statistics.extend(option(5, dropped.to_le_bytes().to_vec()));
    bytes.extend(block(5, statistics));
    bytes
}

const GW: &str = "10.1.0.1";
const BROKER: &str = "10.1.0.10";
const DC: &str = "10.1.0.20";
const RDSH: &str = "10.1.0.30";
const STRANGER: &str = "198.51.100.7";

fn audit_with(inventory: &str, wire: &Wire, min_watch: Option<u64>) -> Audit {
    audit_file(inventory, &wire.file(), min_watch, None)
}

fn audit_file(inventory: &str, file: &[u8], min_watch: Option<u64>, filter: Option<&str>) -> Audit {
    audit_files(inventory, &[file], min_watch, filter)
}

fn audit_files(
    inventory: &str,
    files: &[&[u8]],
    min_watch: Option<u64>,
    filter: Option<&str>,
) -> Audit {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let captures = files.iter().enumerate().map(|(number, file)| {
        let path = scratch.path().join(format!("case{number}.pcap"));
        std::fs::write(&path, file).expect("the scratch folder is writable");
        path
    });
    let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("valid");
    let inventory =
        Inventory::from_toml("case.toml", inventory, &matrix).expect("a sound inventory");
    let request = Request {
        captures: captures.collect(),
        jobs: Some(2),
        max_memory: 1 << 30,
        filter: filter.map(str::to_owned),
        ..Request::default()
    };
    let plan = Plan::new(request).expect("a plan");
    let limits = Limits { min_watch, ..Limits::default() };
    let policy = Policy::new(matrix, inventory);
    Audit::of(&plan, Some(policy), None, &limits, &Progress::default()).expect("an audit")
}

fn audit(inventory: &str, wire: &Wire) -> Audit {
    audit_with(inventory, wire, Some(60))
}

/// Returns the findings as lines: code, ends, service, and `?` if the finding is not certain.
fn findings(audit: &Audit) -> Vec<String> {
    let words = |end: &rasaudit::result::EndIdentity| match end.name.as_str() {
        "" if end.address.is_empty() => format!("any {}", end.roles),
        "" => end.address.clone(),
        name => name.to_owned(),
    };
    let explainer = audit.explainer().expect("it was judged");
    let mut lines: Vec<String> = explainer
        .all()
        .map(|f| {
            let doubt = if f.certain { "" } else { " ?" };
            format!(
                "{} {}>{} {}/{}{doubt}",
                f.code,
                words(&f.client),
                words(&f.server),
                f.transport,
                f.port
            )
        })
        .collect();
    lines.sort();
    lines
}

#[track_caller]
fn expect(inventory: &str, wire: &Wire, expected: &[&str]) -> Audit {
    let audit = audit(inventory, wire);
    let mut expected: Vec<String> = expected.iter().map(|e| (*e).to_owned()).collect();
    // The farm has a single broker, so traffic between brokers could only be on its loopback
    // interface.
    expected.extend(
        ["tcp/20001", "tcp/20030"].map(|s| format!("loopback-only broker1>any broker {s}")),
    );
    expected.sort();
    let found = findings(&audit);
    let found: Vec<_> = found.into_iter().filter(|f| !f.starts_with("trigger-not-seen")).collect();
    assert_eq!(found, expected);
    audit
}

#[test]
fn a_healthy_farm_has_no_findings() {
    let audit = expect(&farm("", ALL), &steady(), &[]);
    assert!(audit.outcome.checked_anything());
}

#[test]
fn each_code_of_permission_has_its_case() {
    let office = "[[network]]\nname = \"office\"\ncidr = \"10.9.0.0/24\"\nroles = [\"parallels-client\"]\n\
                  [[network]]\nname = \"printers\"\ncidr = \"10.8.0.0/24\"\nroles = []\n";
    type Case =
        (&'static str, &'static str, (&'static str, u16), (&'static str, u16), &'static str);
    let cases: &[Case] = &[
        ("", "", (RDSH, 50_100), (BROKER, 20_003), ""),
        (
            "rdp-load-balancing = false",
            "",
            ("10.9.0.5", 50_100),
            (GW, 3389),
            "feature-off office>gw1 tcp/3389",
        ),
        ("", "", ("10.9.0.5", 50_100), (GW, 3389), "feature-unstated office>gw1 tcp/3389"),
        ("", "", ("10.9.0.5", 50_100), (GW, 20_000), "port-not-in-matrix office>gw1 tcp/20000"),
        ("", "", (BROKER, 50_100), (DC, 53), "wrong-transport broker1>dc1 tcp/53"),
        ("", "", (BROKER, 50_100), (RDSH, 20_003), "reversed broker1>rdsh1 tcp/20003"),
        ("", "", (BROKER, 50_100), (RDSH, 4444), "port-not-in-matrix broker1>rdsh1 tcp/4444"),
        (
            "",
            "",
            (STRANGER, 50_100),
            (BROKER, 20_003),
            "exposed-internal 198.51.100.7>broker1 tcp/20003",
        ),
        ("", "", ("10.9.0.5", 50_100), (BROKER, 20_002), "wrong-source office>broker1 tcp/20002"),
        ("", "", (DC, 50_100), (RDSH, 4444), "no-relation dc1>rdsh1 tcp/4444"),
        ("", "", ("10.8.0.5", 50_100), (BROKER, 4444), "no-role printers>broker1 tcp/4444"),
        ("", "", (STRANGER, 50_100), (GW, 8080), "unknown-host 198.51.100.7>gw1 tcp/8080"),
        // Only a name could identify this server, so the finding is not certain.
        ("", "", (BROKER, 50_100), (STRANGER, 443), "unknown-host broker1>198.51.100.7 tcp/443 ?"),
        ("", "", (STRANGER, 50_100), ("198.51.100.8", 80), "unknown-host *>* */*"),
        (
            "",
            "[[moved-port]]\nrole = \"broker\"\ntransport = \"tcp\"\nfrom = 135\nto = 1135\n",
            (BROKER, 50_100),
            (RDSH, 4444),
            "port-not-in-matrix broker1>rdsh1 tcp/4444",
        ),
        (
            "",
            "[[moved-port]]\nrole = \"rdsh-agent\"\ntransport = \"tcp\"\nfrom = 30004\nto = 31004\n",
            (BROKER, 50_100),
            (RDSH, 31_004),
            "",
        ),
        (
            "",
            "[[moved-port]]\nrole = \"rdsh-agent\"\ntransport = \"tcp\"\nfrom = 30004\nto = 31004\n",
            (BROKER, 50_100),
            (RDSH, 30_004),
            "port-not-in-matrix broker1>rdsh1 tcp/30004",
        ),
    ];
    for (features, more, client, server, expected) in cases {
        let mut wire = steady();
        wire.connect(9_000, *client, *server);
        let inventory = farm(features, &format!("{more}{office}{ALL}"));
        let expected: Vec<&str> = [*expected].into_iter().filter(|e| !e.is_empty()).collect();
        expect(&inventory, &wire, &expected);
    }
}

#[test]
fn anybody_is_a_client_where_the_inventory_says_so() {
    let mut wire = steady();
    wire.connect(9_000, (STRANGER, 50_100), (GW, 443));
    wire.connect(9_100, (STRANGER, 50_101), (BROKER, 4444));
    let any = farm("", ALL).replace("[farm]\n", "[farm]\nclients = \"any\"\n");
    expect(&any, &wire, &["unknown-host 198.51.100.7>broker1 tcp/4444"]);
    let listed = farm("", ALL);
    let both =
        ["unknown-host 198.51.100.7>broker1 tcp/4444", "unknown-host 198.51.100.7>gw1 tcp/443"];
    expect(&listed, &wire, &both);
}

#[test]
fn attempts_that_fail_are_missing_with_how_they_failed() {
    let stop = |wire: &mut Wire, from: (&str, u16), to: (&str, u16), how: &str| match how {
        "unanswered" => wire.knock(20_000, from, to),
        "refused" => {
            wire.tcp(20_000, from, to, SYN, 0);
            wire.tcp(20_001, to, from, RST | ACK, 0);
        }
        "half-open" => {
            wire.tcp(20_000, from, to, SYN, 0);
            for later in [1, 1001, 3001, 7001] {
                wire.tcp(20_000 + later, to, from, SYN | ACK, 0);
            }
        }
        _ => {
            wire.tcp(20_000, from, to, SYN, 0);
            let (_, frame) = wire.0.last().expect("a frame").clone();
            let mut icmp = vec![3, 13, 0, 0, 0, 0, 0, 0];
            icmp.extend(&frame[14..42]);
            wire.ip(20_001, "10.1.0.254", from.0, 1, &icmp);
        }
    };
    for how in ["unanswered", "refused", "half-open", "rejected"] {
        let mut wire = steady();
        stop(&mut wire, (BROKER, 50_100), (RDSH, 30_004), how);
        let line = format!("{how} broker1>rdsh1 tcp/30004");
        let audit = expect(&farm("", ALL), &wire, &[&line]);
        let row = audit.outcome.rows.iter().filter(|r| r.status.name() == "missing").count();
        assert_eq!(row, 1, "{how}: its row is missing");
    }
    // The answer to a single SYN may have been lost by the capture.
    let mut wire = steady();
    wire.tcp(20_000, (BROKER, 50_100), (RDSH, 30_004), SYN, 0);
    expect(&farm("", ALL), &wire, &["unanswered broker1>rdsh1 tcp/30004 ?"]);
    // An attempt just before the end of the capture may still be answered.
    let mut wire = steady();
    wire.tcp(110_002, (BROKER, 50_100), (RDSH, 30_004), SYN, 0);
    expect(&farm("", ALL), &wire, &[]);
}

/// What is said about several failures is true of all of them, and the advice begins with the most
/// likely cause.
#[test]
fn a_failure_is_told_with_what_worked_and_with_what_was_never_seen() {
    let told = |wire: &Wire, code: &str| {
        let rows = support::columns(
            &support::Site::new(&farm("", ALL), wire).report("csv"),
            &["code", "server_name", "message", "action"],
        );
        let row = rows.into_iter().find(|row| row[0] == code && row[1] == "rdsh1");
        let row = row.unwrap_or_else(|| panic!("no {code}"));
        [row[2].clone(), row[3].clone()]
    };
    let mut wire = pings();
    wire.connect(5_000, (BROKER, 50_001), (RDSH, 135));
    for number in 0..4 {
        let ms = 100_000 + u64::from(number) * 20_000;
        for (port, from) in [(135, 50_101 + number), (445, 50_201 + number)] {
            wire.tcp(ms, (BROKER, from), (RDSH, port), SYN, 0);
            wire.tcp(ms + 1, (RDSH, port), (BROKER, from), RST | ACK, 0);
        }
    }
    let [message, _] = told(&wire, "refused");
    assert!(message.contains("; 1 of 2 conversations worked, the last until "), "{message}");
    let mut wire = pings();
    wire.knock(5_000, (BROKER, 50_001), (RDSH, 30_004));
    let allow = "Allow TCP 30004 from broker1 to rdsh1";
    let [_, action] = told(&wire, "unanswered");
    assert!(action.starts_with(allow), "{action}");
    // The host may be off if nothing was seen of it.
    let [_, action] = told(&without(wire, RDSH), "unanswered");
    assert!(action.starts_with("Check that rdsh1 is running and connected"), "{action}");
    assert!(action.contains("if it is, allow TCP 30004 from broker1 to rdsh1"), "{action}");
    // The host was switched off before the attempts.
    let mut wire = pings();
    wire.0.retain(|(ms, frame)| *ms < 100_000 || frame[26..30] != [10, 1, 0, 30]);
    wire.knock(200_000, (BROKER, 50_001), (RDSH, 30_004));
    let [_, action] = told(&wire, "unanswered");
    assert!(action.contains("it sent its last packet at "), "{action}");
    assert!(!action.contains("firewall"), "{action}");
}

/// The kind of an ICMP error, and who sent it, decide the advice.
#[test]
fn a_failure_is_told_with_what_icmp_errors_report() {
    let told = |kind: u8, code: u8, by: &str, failure: &str| {
        let mut wire = pings();
        for second in 0..5 {
            let ms = 100_000 + 20_000 * second;
            wire.tcp(ms, (BROKER, 50_001 + second as u16), (RDSH, 30_004), SYN, 0);
            let quoted = wire.0.last().expect("a frame").1[14..].to_vec();
            wire.ip(ms + 1, by, BROKER, 1, &[&[kind, code, 0, 0, 0, 0, 0, 0], &*quoted].concat());
        }
        let rows = support::columns(
            &support::Site::new(&farm("", ALL), &wire).report("csv"),
            &["code", "client_name", "message", "action"],
        );
        let row = rows.into_iter().find(|row| row[0] == failure && row[1] == "broker1");
        let row = row.unwrap_or_else(|| panic!("no {failure}"));
        [row[2].clone(), row[3].clone()]
    };
    const ROUTER: &str = "10.1.0.254";
    let [message, action] = told(3, 1, ROUTER, "rejected");
    assert!(message.contains("at least one ICMP error (host unreachable) came from 10.1.0.254"));
    assert!(action.starts_with("Check that rdsh1 is running and connected"), "{action}");
    let [_, action] = told(3, 13, ROUTER, "rejected");
    assert!(action.starts_with("Allow TCP 30004 from broker1 to rdsh1 on the firewalls"));
    let [message, action] = told(11, 0, ROUTER, "unanswered");
    assert!(message.contains("at least one ICMP error (time exceeded) came from"), "{message}");
    assert!(action.starts_with("Look for a routing loop between broker1 and rdsh1"), "{action}");
    let [_, action] = told(3, 3, RDSH, "rejected");
    assert!(action.contains("on rdsh1 itself, whose packet filter sent"), "{action}");
}

#[test]
fn silence_is_claimed_only_where_it_could_have_been_broken() {
    let line = |code: &str| format!("{code} rdsh1>broker1 tcp/20003");
    expect(&farm("", ALL), &silent(), &[&line("never-attempted")]);
    let covers = |hosts: &str| farm("", &format!("[capture]\ncovers = [{hosts}]\n"));
    expect(&covers("\"rdsh1\""), &silent(), &[&line("never-attempted")]);
    let found = findings(&audit(&covers("\"dc1\""), &silent()));
    assert!(found.contains(&line("pair-not-covered")), "{found:?}");
    // The inventory declares no coverage and every host pings every other one, so nothing shows
    // which switch ports are mirrored.
    let found = findings(&audit(&farm("", ""), &silent()));
    assert!(found.contains(&line("pair-not-covered")), "{found:?}");
    // Two hosts that communicate only with the broker suggest that its switch port is mirrored,
    // which is a guess.
    let mut wire = silent();
    for (host, port) in [("10.1.0.77", 1), ("10.1.0.78", 2)] {
        wire.ip(30_000, host, BROKER, 1, &[8, 0, 0, 0, 0, port, 0, 1]);
    }
    let found = findings(&audit(&farm("", ""), &wire));
    assert!(found.contains(&format!("{} ?", line("never-attempted"))), "{found:?}");
    // The session host does not send anything.
    let found = findings(&audit(&farm("", ALL), &without(silent(), RDSH)));
    assert!(found.contains(&line("host-not-seen")), "{found:?}");
    // The capture was too short.
    let found = findings(&audit_with(&farm("", ALL), &silent(), None));
    assert!(found.contains(&line("window-too-short")), "{found:?}");
    // If 20 of 1,000 frames are lost, the absence cannot be assessed. If nine are lost, it is
    // reported.
    let of_file =
        |file: Vec<u8>, filter| findings(&audit_file(&farm("", ALL), &file, Some(60), filter));
    let found = of_file(pcapng(&silent(), 20, ""), None);
    assert!(found.contains(&line("loss-too-high")), "{found:?}");
    let found = of_file(pcapng(&silent(), 9, ""), None);
    assert!(found.contains(&line("never-attempted")), "{found:?}");
    // A filter was active, either `--filter` or one in the capture file.
    let found = of_file(silent().file(), Some("ip"));
    assert!(found.contains(&line("capture-filtered")), "{found:?}");
    let found = of_file(pcapng(&silent(), 0, "not port 53"), None);
    assert!(found.contains(&line("capture-filtered")), "{found:?}");
    // The capture shows only one direction of a connection.
    let mut wire = silent();
    wire.tcp(20_000, (RDSH, 50_100), (BROKER, 20_003), ACK, 100);
    let found = findings(&audit(&farm("", ALL), &wire));
    assert!(found.contains(&line("one-sided-view")), "{found:?}");
    // A heartbeat in one direction does not make up for the missing connection, and is not itself
    // reported as missing.
    let mut wire = silent();
    wire.udp(20_000, (RDSH, 50_100), (BROKER, 20_003));
    let audit = expect(&farm("", ALL), &wire, &[&line("never-attempted")]);
    let rows = audit.outcome.rows.iter().filter(|r| r.status.name() == "missing");
    assert_eq!(rows.count(), 1, "the row of the heartbeat is seen");
}

#[test]
fn quantifiers_say_which_hosts_have_to_show() {
    let second = "[[host]]\nname = \"broker2\"\naddresses = [\"10.1.0.11\"]\nroles = [\"broker\"]\n\
                  [[service]]\nrole = \"parallels-licensing\"\naddresses = [\"203.0.113.5\"]\n";
    let inventory = farm("", &format!("{second}{ALL}"));
    let mut wire = steady();
    let broker2 = "10.1.0.11";
    use_directory(&mut wire, broker2);
    // The second broker sends until the end of the capture.
    wire.udp(110_000, (broker2, 50_003), (DC, 53));
    wire.udp(110_001, (DC, 53), (broker2, 50_003));
    wire.ip(8_300, "203.0.113.5", BROKER, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
    let found = |wire: &Wire| -> Vec<String> {
        let lines = findings(&audit(&inventory, wire)).into_iter();
        lines.filter(|f| !f.starts_with("trigger-not-seen")).collect()
    };
    // Each pair of brokers needs one connection, in either direction. The licence request may come
    // from any broker.
    let silent = [
        "never-attempted any broker>any parallels-licensing tcp/443",
        "never-attempted broker1>broker2 tcp/20001",
        "never-attempted broker1>broker2 tcp/20030",
    ];
    // The brokers may belong to different sites, unless another component uses both of them.
    let unsure = [silent[0].to_owned(), format!("{} ?", silent[1]), format!("{} ?", silent[2])];
    assert_eq!(found(&wire), unsure);
    wire.connect(8_400, (GW, 50_020), (broker2, 20_002));
    assert_eq!(found(&wire), silent);
    wire.connect(9_000, (broker2, 50_010), (BROKER, 20_001));
    wire.connect(9_100, (BROKER, 50_011), (broker2, 20_030));
    wire.connect(9_200, (BROKER, 50_012), ("203.0.113.5", 443));
    assert_eq!(found(&wire), Vec::<String>::new());
}

/// Traffic between two brokers is expected for certain only if they belong to one site, and not at
/// all if the inventory states different sites.
#[test]
fn brokers_of_different_sites_need_no_traffic_between_them() {
    let second = "[[host]]\nname = \"broker2\"\naddresses = [\"10.1.0.11\"]\nroles = [\"broker\"]\n\
                  [[host]]\nname = \"gw2\"\naddresses = [\"10.1.0.2\"]\nroles = [\"gateway-normal\"]\n";
    let (broker2, gw2) = ("10.1.0.11", "10.1.0.2");
    let mut wire = steady();
    use_directory(&mut wire, broker2);
    wire.connect(8_300, (gw2, 50_003), (broker2, 20_002));
    wire.connect(110_000, (gw2, 50_004), (broker2, 20_002));
    // A console that manages both sites does not make them one.
    let console =
        "[[host]]\nname = \"console1\"\naddresses = [\"10.1.0.50\"]\nroles = [\"console\"]\n";
    wire.connect(8_500, ("10.1.0.50", 50_005), (BROKER, 20_002));
    wire.connect(8_600, ("10.1.0.50", 50_006), (broker2, 20_002));
    let found = |sites: [&str; 2]| -> Vec<String> {
        let stated = |name: &str, site: &str| {
            let line = format!("site = \"{site}\"\n");
            let line = if site.is_empty() { String::new() } else { line };
            (format!("name = \"{name}\"\n"), format!("name = \"{name}\"\n{line}"))
        };
        let text = farm("", &format!("{second}{console}{ALL}"));
        let text = [("broker1", sites[0]), ("broker2", sites[1])].iter().fold(
            text,
            |text, (name, site)| {
                let (old, new) = stated(name, site);
                text.replace(&old, &new)
            },
        );
        let audit = audit(&text, &wire);
        for finding in audit.explainer().expect("it was judged").all() {
            let is_asked = finding.action.contains("give each host its site in the inventory");
            assert_eq!(is_asked, finding.doubts.iter().any(|doubt| doubt == Doubt::Site));
        }
        let lines = findings(&audit).into_iter();
        lines.filter(|line| line.starts_with("never-attempted")).collect()
    };
    let missing = ["tcp/20001", "tcp/20030"];
    let missing = missing.map(|service| format!("never-attempted broker1>broker2 {service}"));
    let unsure = missing.clone().map(|line| format!("{line} ?"));
    assert_eq!(found(["", ""]), unsure);
    assert_eq!(found(["Berlin", ""]), unsure);
    assert_eq!(found(["Berlin", "berlin"]), missing);
    assert_eq!(found(["Berlin", "Paris"]), Vec::<String>::new());
}

/// Load balancers of different sites need not agree on a virtual address.
#[test]
fn hosts_of_one_role_at_different_sites_form_no_group() {
    let mut wire = steady();
    for second in [0, 60, 110] {
        for halb in ["10.1.0.41", "10.1.0.42"] {
            wire.ip(second * 1000, halb, GW, 1, &[8, 0, 0, 0, 0, 9, 0, 1]);
            wire.ip(second * 1000 + 1, GW, halb, 1, &[0, 0, 0, 0, 0, 9, 0, 1]);
        }
    }
    let found = |sites: [&str; 2]| -> Vec<String> {
        let halb = |number: usize| {
            let site = sites[number - 1];
            let site = if site.is_empty() { String::new() } else { format!("site = \"{site}\"\n") };
            format!(
                "[[host]]\nname = \"halb{number}\"\naddresses = [\"10.1.0.4{number}\"]\nroles = [\"halb\"]\n{site}"
            )
        };
        let text = farm("", &format!("{}{}{ALL}", halb(1), halb(2)));
        let lines = findings(&audit(&text, &wire)).into_iter();
        lines.filter(|line| line.starts_with("never") && line.contains("halb")).collect()
    };
    let line = "never-attempted any halb>halb2 ip-112/";
    assert_eq!(found(["", ""]), [format!("{line} ?")]);
    assert_eq!(found(["Berlin", "Berlin"]), [line]);
    assert_eq!(found(["Berlin", "Paris"]), Vec::<String>::new());
}

/// The site may have moved a port for a single host.
#[test]
fn missing_traffic_is_named_with_the_port_of_its_hosts() {
    let told = |host: &str| {
        let moved = format!(
            "[[moved-port]]\nrole = \"broker\"\ntransport = \"tcp\"\nfrom = 20003\nto = 21003\nhost = \"{host}\"\n"
        );
        let broker2 =
            "[[host]]\nname = \"broker2\"\naddresses = [\"10.1.0.13\"]\nroles = [\"broker\"]\n";
        let inventory = farm("", &format!("{broker2}{moved}{ALL}"));
        let run = support::Site::new(&inventory, &pings()).run(&[
            "--format",
            "csv",
            "--min-watch",
            "60s",
        ]);
        let rows = support::columns(&support::stdout(&run), &["client_name", "group", "message"]);
        let row = rows.into_iter().find(|row| row[0] == "rdsh1" && row[2].contains("20003"));
        row.map(|row| row[2].clone()).unwrap_or_default()
    };
    // The other broker has the documented port.
    let message = told("broker1");
    assert!(message.contains("TCP 20003 or TCP 21003 or UDP 20003"), "{message}");
}

#[test]
fn a_trigger_makes_its_rows_due() {
    let office =
        "[[network]]\nname = \"office\"\ncidr = \"10.9.0.0/24\"\nroles = [\"parallels-client\"]\n";
    let inventory = farm("", &format!("{office}{ALL}"));
    let mut wire = steady();
    wire.session(10_000, ("10.9.0.5", 50_100), (GW, 80), 40);
    let line = "never-attempted gw1>rdsh1 tcp/3389".to_owned();
    // A single client may have transferred as much without starting an application.
    let found = findings(&audit(&inventory, &wire));
    assert!(found.contains(&format!("{line} ?")), "{found:?}");
    let mut often = Wire(wire.0.clone());
    often.session(11_000, ("10.9.0.5", 50_101), (GW, 80), 40);
    often.session(12_000, ("10.9.0.5", 50_102), (GW, 80), 40);
    let found = findings(&audit(&inventory, &often));
    assert!(found.contains(&line), "{found:?}");
    wire.session(10_000, ("10.9.0.6", 50_100), (GW, 80), 40);
    let found = findings(&audit(&inventory, &wire));
    assert!(found.contains(&line), "{found:?}");
    // A session that is still open does not hide those that have ended.
    let mut open = Wire(wire.0.clone());
    open.session(70_000, ("10.9.0.5", 50_103), (GW, 80), 40);
    open.session(70_000, ("10.9.0.6", 50_103), (GW, 80), 40);
    let found = findings(&audit(&inventory, &open));
    assert!(found.contains(&line), "{found:?}");
    // If the gateway connects to a session host during the user's session, the finding disappears.
    let mut answered = Wire(wire.0.clone());
    answered.session(11_000, (GW, 50_101), (RDSH, 3389), 20);
    let found = findings(&audit(&inventory, &answered));
    assert!(!found.iter().any(|f| f.contains("3389")), "{found:?}");
    // A session that is too short or still in progress does not trigger any expected connection.
    for (start, seconds) in [(10_000, 20), (70_000, 40)] {
        let mut wire = steady();
        wire.session(start, ("10.9.0.5", 50_100), (GW, 80), seconds);
        let found = findings(&audit(&inventory, &wire));
        assert!(!found.contains(&line), "{found:?}");
        assert!(found.contains(&"trigger-not-seen gw1>rdsh1 tcp/3389".to_owned()), "{found:?}");
    }
    // Nor do sessions that were still in progress when the capture was interrupted.
    for frame in wire.0.iter_mut().filter(|(ms, _)| *ms >= 55_000) {
        frame.0 += 3_600_000;
    }
    let found = findings(&audit(&inventory, &wire));
    assert!(found.contains(&"trigger-not-seen gw1>rdsh1 tcp/3389".to_owned()), "{found:?}");
}

#[test]
fn nothing_is_expected_of_a_feature_that_nobody_named() {
    let reporting = "[[host]]\nname = \"rep1\"\naddresses = [\"10.1.0.50\"]\nroles = [\"ras-reporting\"]\n\
                     [[host]]\nname = \"sql1\"\naddresses = [\"10.1.0.51\"]\nroles = [\"sql-server\"]\n";
    let of = |features| findings(&audit(&farm(features, &format!("{reporting}{ALL}")), &steady()));
    let line = |code: &str| format!("{code} rep1>sql1 tcp/1433");
    assert!(of("").contains(&line("feature-unknown")), "{:?}", of(""));
    assert!(of("reporting = true").contains(&line("trigger-not-seen")));
    assert!(!of("reporting = false").iter().any(|f| f.contains("1433")));
}

/// Data that cannot be read may contain the traffic that seems to be missing.
#[test]
fn an_unreadable_part_of_the_input_keeps_silence_from_being_certain() {
    let rdsh = RDSH.parse::<Ipv4Addr>().expect("an address").octets();
    let mut wire = steady();
    wire.0.retain(|(_, frame)| frame[23] == 1 || !(frame[26..30] == rdsh || frame[30..34] == rdsh));
    let mut file = wire.file();
    let missed = |file: &[u8]| -> Vec<String> {
        let lines = findings(&audit_file(&farm("", ALL), file, Some(60), None)).into_iter();
        lines.filter(|f| f.starts_with("never-attempted rdsh1>broker1")).collect()
    };
    assert_eq!(missed(&file), ["never-attempted rdsh1>broker1 tcp/20003"]);
    // The last record is truncated: the capture was interrupted there, and nothing before it is
    // missing.
    let mut cut = file.clone();
    cut.truncate(file.len() - 5);
    assert_eq!(missed(&cut), ["never-attempted rdsh1>broker1 tcp/20003"]);
    // Invalid data follows the last record.
    file.extend([0xff; 40]);
    assert_eq!(missed(&file), ["never-attempted rdsh1>broker1 tcp/20003 ?"]);
}

/// A capture may have been taken with a filter that its file does not state.
#[test]
fn a_capture_of_openings_alone_was_filtered() {
    let openings = |close: u8, numbers: (u32, u32)| {
        let mut wire = pings();
        wire.udp(5_300, (BROKER, 50_003), (DC, 53));
        wire.udp(5_301, (DC, 53), (BROKER, 50_003));
        for (client, port) in [(GW, 20_002), (RDSH, 20_003)] {
            for number in 0..2 {
                let ms = 10_000 + u64::from(number) * 10_000;
                let from = (client, 50_000 + number);
                wire.tcp(ms, from, (BROKER, port), SYN, 0);
                wire.tcp(ms + 1, (BROKER, port), from, SYN | ACK, 0);
                wire.segment(ms + 30_000, from, (BROKER, port), close, numbers, 0);
            }
        }
        wire
    };
    let missed = |wire: &Wire| -> Vec<String> {
        let lines = findings(&audit(&farm("", ALL), wire)).into_iter();
        let is_missing = |f: &String| f.starts_with("half-open") || f.starts_with("never");
        lines.filter(|f| is_missing(f) && f.contains(">broker1")).collect()
    };
    // Of TCP, only SYN, FIN and RST were kept.
    let mut wire = openings(RST, (54_321, 0));
    assert_eq!(missed(&wire), [] as [&str; 0]);
    let found = findings(&audit(&farm("", ALL), &wire));
    assert!(found.contains(&"capture-filtered broker1>dc1 tcp/389".to_owned()), "{found:?}");
    // Any other segment shows that all segments were kept.
    wire.connect(50_000, (DC, 50_000), (GW, 443));
    let half_open = ["half-open gw1>broker1 tcp/20002 ?", "half-open rdsh1>broker1 tcp/20003 ?"];
    assert_eq!(missed(&wire), half_open);
    // One host alone cannot bring about that the capture counts as filtered.
    let mut wire = openings(RST, (54_321, 0));
    wire.0
        .retain(|(_, f)| f[23] != 6 || f[26..30] != [10, 1, 0, 30] && f[30..34] != [10, 1, 0, 30]);
    for number in 2..9 {
        wire.tcp(20_000, (GW, 50_000 + number), (BROKER, 20_002), SYN, 0);
        wire.tcp(20_001, (BROKER, 20_002), (GW, 50_000 + number), SYN | ACK, 0);
    }
    let never = "never-attempted rdsh1>broker1 tcp/20003";
    assert_eq!(missed(&wire), [half_open[0], never]);
    // A reset that acknowledges data ends a connection that worked.
    let mut wire = openings(RST | ACK, (54_321, 100_000));
    wire.connect(50_000, (DC, 50_000), (GW, 443));
    assert_eq!(missed(&wire), [] as [&str; 0]);
}

/// An end that gets no reply repeats its SYN or SYN-ACK. If no flow shows that, the replies may
/// have passed where the capture could not see them, for example because a firewall handed the
/// connection to its hardware.
#[test]
fn silence_without_a_repetition_is_not_certain() {
    let of = |answered: bool, repeated: &[u64], reset: Option<u32>| -> Vec<String> {
        let mut wire = steady();
        for number in 0..8u64 {
            let (client, server) = ((GW, 51_000 + number as u16), (BROKER, 20_002));
            for later in [&[0][..], repeated].concat() {
                let ms = 10_000 + number * 9_000 + later;
                if later == 0 || !answered {
                    wire.segment(ms, client, server, SYN, (5, 0), 0);
                }
                if answered {
                    wire.segment(ms + 1, server, client, SYN | ACK, (9, 6), 0);
                }
            }
            if let Some(acknowledged) = reset {
                let ms = 14_000 + number * 9_000;
                wire.segment(ms, client, server, RST | ACK, (4_000, acknowledged), 0);
            }
        }
        wire.0.retain(|(_, f)| f[23] != 6 || f[34..36] != 50_000u16.to_be_bytes());
        wire.0.retain(|(_, f)| f[23] != 6 || f[36..38] != 50_000u16.to_be_bytes());
        let found = findings(&audit(&farm("", ALL), &wire)).into_iter();
        found.filter(|line| line.contains("gw1>broker1")).collect()
    };
    assert_eq!(of(false, &[], None), ["unanswered gw1>broker1 tcp/20002 ?"]);
    assert_eq!(of(false, &[1_000], None), ["unanswered gw1>broker1 tcp/20002"]);
    assert_eq!(of(true, &[], None), ["half-open gw1>broker1 tcp/20002 ?"]);
    assert_eq!(of(true, &[1_000, 3_000], None), ["half-open gw1>broker1 tcp/20002"]);
    // The reset of a client that got no reply acknowledges nothing.
    assert_eq!(of(false, &[1_000], Some(0)), ["unanswered gw1>broker1 tcp/20002"]);
    assert_eq!(of(false, &[1_000], Some(777)), ["unanswered gw1>broker1 tcp/20002 ?"]);
    // Copies of a SYN do not count as repetitions.
    assert_eq!(of(false, &[1, 2], None), ["unanswered gw1>broker1 tcp/20002 ?"]);
}

/// A client repeats a request that is lost. If only few of many flows repeat it, the others worked,
/// and their replies passed where the capture could not see them.
#[test]
fn silence_is_certain_only_if_most_requests_are_repeated() {
    let of = |port: u16, repeated: u16, later: &[u64]| -> Vec<String> {
        let mut wire = steady();
        wire.0
            .retain(|(_, f)| f[23] != 17 && !(f[23] == 6 && f[34..36] == 50_000u16.to_be_bytes()));
        wire.0.retain(|(_, f)| f[23] != 6 || f[36..38] != 50_000u16.to_be_bytes());
        let [query, _] = dns(7, &["a.example"], DC);
        for number in 0..8u16 {
            let times = if number < repeated { later } else { &[0] };
            for time in times {
                let ms = 10_000 + u64::from(number) * 9_000 + time;
                match port {
                    53 => wire.datagram(ms, (BROKER, 51_000 + number), (DC, 53), &query),
                    _ => wire.segment(ms, (GW, 51_000 + number), (BROKER, port), SYN, (5, 0), 0),
                }
            }
        }
        let found = findings(&audit(&farm("", ALL), &wire)).into_iter();
        found.filter(|line| line.starts_with("unanswered")).collect()
    };
    for (port, line) in
        [(20_002, "unanswered gw1>broker1 tcp/20002"), (53, "unanswered broker1>dc1 udp/53")]
    {
        let doubted = format!("{line} ?");
        assert_eq!(of(port, 8, &[0, 1_000]), [line]);
        assert_eq!(of(port, 4, &[0, 1_000]), [line]);
        assert_eq!(of(port, 3, &[0, 1_000]), [&doubted[..]]);
        assert_eq!(of(port, 8, &[0]), [&doubted[..]]);
        // Copies of a request are no repetitions.
        assert_eq!(of(port, 8, &[0, 1]), [&doubted[..]]);
    }
    // A client that asks at long intervals does not repeat its requests.
    assert_eq!(of(53, 8, &[0, 20_000]), ["unanswered broker1>dc1 udp/53 ?"]);
}

/// Without a span port, the capture may have been made on one host, whatever the inventory states.
#[test]
fn a_host_in_all_traffic_is_the_only_one_whose_silence_is_certain() {
    const BROKER_2: &str = "10.1.0.11";
    let second =
        "[[host]]\nname = \"broker2\"\naddresses = [\"10.1.0.11\"]\nroles = [\"broker\"]\n";
    let inventory = farm("", &format!("{second}{ALL}"));
    let never = |others: &[&str]| -> Vec<String> {
        let mut wire = pings();
        let broker = BROKER.parse::<Ipv4Addr>().expect("an address").octets();
        wire.0.retain(|(_, f)| f[26..30] == broker || f[30..34] == broker);
        wire.connect(9_000, (DC, 50_000), (BROKER, 4_444));
        wire.udp(9_500, (DC, 50_000), (BROKER, 4_444));
        for second in (0..120).step_by(10) {
            for to in others {
                wire.ip(second * 1000, BROKER_2, to, 1, &[8, 0, 0, 0, 0, 9, second as u8, 1]);
                wire.ip(second * 1000 + 1, to, BROKER_2, 1, &[0, 0, 0, 0, 0, 9, second as u8, 1]);
            }
        }
        let found = findings(&audit(&inventory, &wire)).into_iter();
        found.filter(|line| line.contains("broker2>dc1 tcp/389")).collect()
    };
    let line = "never-attempted broker2>dc1 tcp/389";
    assert_eq!(never(&[BROKER]), [format!("{line} ?")]);
    assert_eq!(never(&[BROKER, GW]), [line]);
}

/// Of several brokers, the one on which the capture was made is not like the others.
#[test]
fn pairs_without_the_host_of_the_capture_are_missed_for_certain_nowhere() {
    let broker = |n: u8| {
        format!(
            "[[host]]\nname = \"broker{n}\"\naddresses = [\"10.1.0.1{n}\"]\nroles = [\"broker\"]\nsite = \"x\"\n"
        )
    };
    let inventory = farm("", &format!("{}{}{ALL}", broker(2), broker(3)))
        .replace("name = \"broker1\"\n", "name = \"broker1\"\nsite = \"x\"\n");
    let mut wire = pings();
    let own = BROKER.parse::<Ipv4Addr>().expect("an address").octets();
    wire.0.retain(|(_, f)| f[26..30] == own || f[30..34] == own);
    wire.connect(9_000, (DC, 50_000), (BROKER, 4_444));
    wire.udp(9_500, (DC, 50_000), (BROKER, 4_444));
    for second in (0..120).step_by(10) {
        for other in ["10.1.0.12", "10.1.0.13"] {
            wire.ip(second * 1000, other, BROKER, 1, &[8, 0, 0, 0, 0, 9, second as u8, 1]);
            wire.ip(second * 1000 + 1, BROKER, other, 1, &[0, 0, 0, 0, 0, 9, second as u8, 1]);
        }
    }
    let found = findings(&audit(&inventory, &wire)).into_iter();
    let found: Vec<_> =
        found.filter(|line| line.starts_with("never") && line.contains("tcp/20001")).collect();
    let expected = [
        "never-attempted broker1>broker2 tcp/20001",
        "never-attempted broker1>broker3 tcp/20001",
        "never-attempted broker2>broker3 tcp/20001 ?",
    ];
    assert_eq!(found, expected);
}

/// A laptop at an access port captures only its own traffic.
#[test]
fn a_capture_on_an_unlisted_machine_misses_nothing_for_certain() {
    const LAPTOP: &str = "10.1.0.200";
    let mut wire = Wire::default();
    for second in (0..120).step_by(10) {
        for host in [GW, BROKER, DC, RDSH] {
            wire.ip(second * 1000, LAPTOP, host, 1, &[8, 0, 0, 0, 0, 9, second as u8, 1]);
            wire.ip(second * 1000 + 1, host, LAPTOP, 1, &[0, 0, 0, 0, 0, 9, second as u8, 1]);
        }
    }
    wire.connect(9_000, (LAPTOP, 50_000), (BROKER, 4_444));
    wire.udp(9_500, (LAPTOP, 50_000), (BROKER, 4_444));
    let certain = |wire: &Wire| {
        let found = findings(&audit(&farm("", ALL), wire)).into_iter();
        let missed: Vec<_> = found.filter(|line| line.starts_with("never-attempted")).collect();
        assert!(missed.len() > 2, "{missed:?}");
        missed.iter().filter(|line| !line.ends_with('?')).count()
    };
    assert_eq!(certain(&wire), 0);
    // The capture shows traffic of other hosts, too.
    wire.ip(20_000, GW, DC, 1, &[8, 0, 0, 0, 0, 9, 1, 1]);
    assert!(certain(&wire) > 0);
}

/// A network of clients may be a part of the site, even if its addresses are public.
#[test]
fn a_listed_network_is_external_for_certain_only_if_the_inventory_lists_the_internal_prefixes() {
    let campus = "[[network]]\nname = \"campus\"\ncidr = \"141.20.9.0/24\"\nroles = [\"parallels-client\"]\n";
    let mut wire = steady();
    wire.connect(9_000, ("141.20.9.17", 50_100), (BROKER, 20_002));
    let found = |internal: &str| -> Vec<String> {
        let text = farm("", &format!("{campus}{ALL}{internal}"));
        let lines = findings(&audit(&text, &wire)).into_iter();
        lines.filter(|line| line.contains("campus")).collect()
    };
    let line = "exposed-internal campus>broker1 tcp/20002";
    assert_eq!(found(""), [format!("{line} ?")]);
    assert_eq!(found("internal = [\"10.0.0.0/8\"]\n"), [line]);
    assert_eq!(
        found("internal = [\"10.0.0.0/8\", \"141.20.0.0/16\"]\n"),
        ["wrong-source campus>broker1 tcp/20002"]
    );
}

/// The same is true of an IP version: hosts that have addresses of both may use either.
#[test]
fn an_ip_version_that_the_capture_lacks_is_missed_nowhere() {
    let both = |list: &[&str]| {
        let both = |text: String, (name, address, _): &(&str, &str, &str)| {
            let last = address.rsplit('.').next().expect("a number");
            let dual = format!("addresses = [\"{address}\", \"fd00::{last}\"]");
            let is_dual = list.contains(name);
            if is_dual {
                text.replace(&format!("addresses = [\"{address}\"]"), &dual)
            } else {
                text
            }
        };
        HOSTS.iter().fold(farm("", ALL), both)
    };
    let of = |list: &[&str], wire: &Wire| -> Vec<String> {
        let found = findings(&audit(&both(list), wire)).into_iter();
        found.filter(|line| line.contains("rdsh1>")).collect()
    };
    let [only_v4, mut with_v6] = [silent(), silent()];
    with_v6.advertisement(50_000, "fd00::20", 7);
    let never = of(&[], &only_v4);
    assert!(never.iter().any(|line| line.starts_with("never-attempted")), "{never:?}");
    assert_eq!(of(&["rdsh1"], &only_v4), never, "the broker has only an IPv4 address");
    let filtered = of(&["rdsh1", "broker1"], &only_v4);
    assert!(filtered.iter().all(|line| line.starts_with("capture-filtered")), "{filtered:?}");
    assert_eq!(of(&["rdsh1", "broker1"], &with_v6), never);
}

/// A service that worked for other clients later is running, whatever it did before.
#[test]
fn a_service_that_worked_later_for_others_is_not_said_to_be_down() {
    let action = |later: bool| {
        let mut wire = silent();
        wire.tcp(10_000, (RDSH, 51_000), (BROKER, 20_003), SYN, 0);
        wire.tcp(10_001, (BROKER, 20_003), (RDSH, 51_000), RST | ACK, 0);
        if later {
            wire.connect(60_000, ("10.1.0.31", 51_000), (BROKER, 20_003));
        }
        let more = support::hosts(&[("rdsh2", "10.1.0.31", "rdsh-agent")]);
        let audit = audit(&(farm("", "") + &more + ALL), &wire);
        let explainer = audit.explainer().expect("it was judged");
        let refused = explainer.all().find(|f| f.code.name() == "refused");
        refused.expect("a finding").action
    };
    assert!(action(false).starts_with("Check that the service on broker1 is running"));
    let words = "Check whether broker1 still refuses rdsh1: TCP 20003 worked for other clients";
    assert!(action(true).starts_with(words), "{}", action(true));
}

/// Another machine may have sent the traffic of an address that moved, which the action says.
#[test]
fn a_finding_about_an_address_that_moved_says_so() {
    let action = |claims: &[(u64, u8)]| {
        let mut wire = steady();
        claims.iter().for_each(|(ms, mac)| wire.claim(*ms, RDSH, *mac));
        wire.connect(60_000, (RDSH, 51_000), (GW, 4444));
        let audit = audit(&farm("", ALL), &wire);
        let explainer = audit.explainer().expect("it was judged");
        let found = explainer.all().find(|f| f.port == "4444");
        found.expect("a finding").action
    };
    let words = "First check which machine used the address: 10.1.0.30 of rdsh1 moved from";
    let moved = action(&[(1_000, 7), (11_000, 7), (41_000, 8), (51_000, 8)]);
    assert!(moved.starts_with(words) && moved.contains(" UTC; then "), "{moved}");
    assert!(!action(&[(1_000, 7), (51_000, 7)]).contains("which machine"));
}

/// A firewall may reset each connection after its first request. Such a service accepted the
/// connections, so it is no finding, but it does not work.
#[test]
fn services_that_never_reply_with_data_are_told() {
    let told = |replies: u16, flows: u16| {
        let mut wire = steady();
        for number in 0..flows {
            let (ms, client) = (20_000 + u64::from(number) * 1_000, (RDSH, 51_000 + number));
            let server = (BROKER, 20_003);
            wire.segment(ms, client, server, SYN, (5, 0), 0);
            wire.segment(ms + 1, server, client, SYN | ACK, (9, 6), 0);
            wire.segment(ms + 2, client, server, ACK, (6, 10), 200);
            let payload = if number < replies { 100 } else { 0 };
            wire.segment(ms + 3, server, client, ACK, (10, 206), payload);
            wire.segment(ms + 4, server, client, RST, (10 + payload as u32, 0), 0);
        }
        // The connection of the farm without any data.
        wire.0.retain(|(_, f)| f[23] != 6 || f[34..36] != 50_004u16.to_be_bytes());
        let report = support::Site::new(&farm("", ALL), &wire).report("text");
        report.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let note = "the capture shows no data in reply: TCP 20003 of broker1";
    assert!(told(0, 5).contains(note), "{}", told(0, 5));
    assert!(!told(1, 5).contains(note));
    assert!(!told(0, 1).contains(note));
}

/// A claim of absence does not name the port at which the hosts do communicate, even if a row also
/// documents broadcasts to that port.
#[test]
fn one_way_datagrams_are_not_missing_at_their_own_port() {
    const HOSTS: [(&str, &str, &str); 2] =
        [("pa1", "10.1.0.40", "provider-agent"), ("guest1", "10.1.0.45", "guest-agent")];
    let mut wire = steady();
    for second in (0..120).step_by(10) {
        let [agent, guest] = HOSTS.map(|(_, address, _)| address);
        wire.ip(second * 1000, agent, guest, 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
        wire.ip(second * 1000 + 1, guest, agent, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
        wire.udp(second * 1000 + 2, (guest, 30_006), (agent, 30_006));
    }
    let found = findings(&audit(&(farm("", "") + &support::hosts(&HOSTS) + ALL), &wire));
    let of_guest: Vec<_> =
        found.iter().filter(|line| line.starts_with("never-attempted guest1")).collect();
    assert_eq!(of_guest, ["never-attempted guest1>pa1 tcp/30006"], "{found:?}");
}

/// The same is true of a capture without any packet of a transport.
#[test]
fn a_transport_that_the_capture_lacks_is_missed_nowhere() {
    let of = |keep: fn(u8) -> bool| {
        let mut wire = steady();
        wire.0.retain(|(_, frame)| keep(frame[23]));
        let found = findings(&audit(&farm("", ALL), &wire)).into_iter();
        let of_broker = |f: &String| f.contains("broker1>dc1") || f.starts_with("never-attempted");
        found.filter(of_broker).collect::<Vec<_>>()
    };
    assert_eq!(of(|_| true), [] as [&str; 0]);
    assert_eq!(of(|protocol| protocol != 17), ["capture-filtered broker1>dc1 udp/53"]);
    let without_tcp = of(|protocol| protocol != 6);
    let both = ["389", "88"].map(|port| format!("capture-filtered broker1>dc1 tcp/{port}"));
    assert_eq!(without_tcp, both);
}

/// An absence claim is certain only if the host itself was present long enough.
#[test]
fn a_host_that_was_there_for_a_moment_is_missed_for_certain_nowhere() {
    let missed = |wire: &Wire| -> Vec<String> {
        let lines = findings(&audit(&farm("", ALL), wire)).into_iter();
        lines.filter(|f| f.starts_with("never-attempted rdsh1>broker1")).collect()
    };
    let rdsh = RDSH.parse::<Ipv4Addr>().expect("an address").octets();
    let speaks = |frame: &[u8]| frame[26..30] == rdsh;
    let mut wire = steady();
    wire.0.retain(|(_, frame)| frame[23] == 1 || !(speaks(frame) || frame[30..34] == rdsh));
    assert_eq!(missed(&wire), ["never-attempted rdsh1>broker1 tcp/20003"]);
    wire.0.retain(|(ms, frame)| !speaks(frame) || *ms > 80_000);
    assert_eq!(missed(&wire), ["never-attempted rdsh1>broker1 tcp/20003 ?"]);
    // Packets that any host could forge in its name do not extend its presence.
    wire.claim(0, RDSH, 9);
    wire.udp(1, (RDSH, 137), ("10.1.0.255", 137));
    assert_eq!(missed(&wire), ["never-attempted rdsh1>broker1 tcp/20003 ?"]);
}

/// A host that was off most of the time had no time to contact anybody.
#[test]
fn a_host_that_was_off_most_of_the_time_is_missed_for_certain_nowhere() {
    let missed = |seconds: &[u64]| -> Vec<String> {
        let mut wire = steady();
        let rdsh = RDSH.parse::<Ipv4Addr>().expect("an address").octets();
        wire.0.retain(|(_, f)| f[26..30] != rdsh && f[30..34] != rdsh);
        let mut ping = |second: u64, host: &str| {
            wire.ip(second * 1000, host, BROKER, 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
            wire.ip(second * 1000 + 1, BROKER, host, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
        };
        (0..400).step_by(10).for_each(|second| ping(second, GW));
        seconds.iter().for_each(|second| ping(*second, RDSH));
        let lines = findings(&audit(&farm("", ALL), &wire)).into_iter();
        lines.filter(|f| f.starts_with("never-attempted rdsh1>broker1")).collect()
    };
    let line = "never-attempted rdsh1>broker1 tcp/20003";
    let always: Vec<u64> = (0..400).step_by(10).collect();
    assert_eq!(missed(&always), [line]);
    assert_eq!(missed(&[0, 1, 2, 390, 391, 392]), [format!("{line} ?")]);
    // It was on for long enough, and then off.
    let mut once = always[..8].to_vec();
    once.push(390);
    assert_eq!(missed(&once), [line]);
}

/// Traffic that may be hidden in other traffic is not certainly absent.
#[test]
fn what_something_unread_may_hold_is_missed_for_certain_nowhere() {
    let missed = |wire: &Wire| -> (Vec<String>, String) {
        let audit = audit(&farm("", ALL), wire);
        let lines = findings(&audit).into_iter();
        let explainer = audit.explainer().expect("it was judged");
        let findings = audit.outcome.findings().iter();
        let mut of = findings.filter(|f| f.code().name() == "never-attempted");
        let trace = of.next().map(|f| explainer.trace(f).join("\n")).unwrap_or_default();
        (lines.filter(|f| f.starts_with("never-attempted rdsh1>broker1")).collect(), trace)
    };
    assert_eq!(missed(&silent()).0, ["never-attempted rdsh1>broker1 tcp/20003"]);
    let mut cases: Vec<(Wire, &str)> = Vec::new();
    // The two hosts use IPsec.
    let mut wire = silent();
    wire.ip(20_000, RDSH, BROKER, 50, &[0; 40]);
    cases.push((wire, "shows encrypted packets (IP protocol 50)"));
    // The capture contains a later fragment of a datagram, but not the first one.
    let mut wire = silent();
    wire.ip(20_000, RDSH, BROKER, 6, &[0; 40]);
    let last = wire.0.len() - 1;
    wire.0[last].1[20..22].copy_from_slice(&[0, 5]);
    cases.push((wire, "shows fragments whose first fragment it does not contain"));
    // An internal host that is not listed uses the service. It may be the session host under
    // another address.
    let mut wire = silent();
    wire.connect(20_000, ("10.1.0.31", 50_100), (BROKER, 20_003));
    cases.push((
        wire,
        "10.1.0.31, which the inventory does not list for a host, used the same service",
    ));
    // The server was present only for 30 seconds.
    let mut wire = silent();
    let broker = BROKER.parse::<Ipv4Addr>().expect("an address").octets();
    wire.0.retain(|(ms, f)| *ms < 30_000 || f[26..30] != broker);
    cases.push((wire, "broker1 "));
    for (wire, reason) in cases {
        let (found, trace) = missed(&wire);
        assert_eq!(found, ["never-attempted rdsh1>broker1 tcp/20003 ?"], "{reason}");
        assert!(trace.contains(reason), "{reason}: {trace}");
    }
}

/// A host may contact the others through an address that the inventory does not connect with it,
/// and may look for them at such an address.
#[test]
fn attempts_from_and_at_other_addresses_are_told_with_what_is_missing() {
    let firewall = "[[host]]\nname = \"fw1\"\naddresses = [\"10.1.0.254\"]\nroles = []\n";
    let missed = |wire: &Wire, more: &str| {
        let audit = audit(&farm("", &format!("{more}{ALL}")), wire);
        let lines: Vec<String> =
            findings(&audit).into_iter().filter(|f| f.starts_with("never-attempted")).collect();
        let explainer = audit.explainer().expect("it was judged");
        let action = explainer.all().find(|f| f.code.name() == "never-attempted");
        (lines, action.map(|f| f.action).unwrap_or_default())
    };
    let certain = "never-attempted rdsh1>broker1 tcp/20003";
    let doubted = "never-attempted rdsh1>broker1 tcp/20003 ?";
    let knocks = |times: &[u64], from: &str, to: &str| {
        let mut wire = silent();
        for (number, ms) in times.iter().enumerate() {
            let port = 51_000 + number as u16;
            wire.tcp(*ms, (from, port), (to, 20_003), SYN, 0);
            wire.tcp(*ms + 1, (to, 20_003), (from, port), RST | ACK, 0);
        }
        wire
    };
    let again = [10_000, 40_000, 70_000, 100_000];
    let once = [10_000, 10_500, 11_000, 11_500];
    // A listed device without a role passes on the connections of the host, or is refused itself.
    let mut wire = silent();
    wire.connect(20_000, ("10.1.0.254", 50_100), (BROKER, 20_003));
    assert_eq!(missed(&wire, firewall).0, [doubted]);
    for more in ["", firewall] {
        let (found, action) = missed(&knocks(&again, "10.1.0.254", BROKER), more);
        assert_eq!(found, [doubted], "{more}");
        assert!(
            action.starts_with(
                "10.1.0.254 tries broker1 on TCP 20003 or UDP 20003 (4 flows, refused)"
            ),
            "{action}"
        );
        // A scan is no configuration.
        assert_eq!(missed(&knocks(&once, "10.1.0.254", BROKER), more).0, [certain]);
    }
    // Outside of the site, there is no other address of the host.
    assert_eq!(missed(&knocks(&again, STRANGER, BROKER), "").0, [certain]);
    // A host with a role does not pass on the traffic of others.
    assert_eq!(missed(&knocks(&again, GW, BROKER), "").0, [certain]);
    // The host itself looks for the broker at an old address.
    let (found, action) = missed(&knocks(&again, RDSH, "10.1.0.11"), "");
    assert_eq!(found, [doubted]);
    assert!(
        action.starts_with("rdsh1 tries 10.1.0.11 on TCP 20003 or UDP 20003 instead (4 flows, refused). If this is an address of broker1"),
        "{action}"
    );
    assert_eq!(missed(&knocks(&once, RDSH, "10.1.0.11"), "").0, [certain]);
    // That says nothing about other hosts.
    assert_eq!(missed(&knocks(&again, DC, "10.1.0.11"), "").0, [certain]);
}

/// A server with several addresses may answer from another one than the client asked.
#[test]
fn answers_from_another_address_of_the_server_are_told() {
    let farm = farm("", ALL).replace("\"10.1.0.20\"", "\"10.1.0.20\", \"10.1.0.21\"");
    let queries = |port: u16, answers_from: &str| {
        let mut wire = steady();
        for number in 0..4 {
            let client = (BROKER, 51_000 + number);
            let [query, answer] = dns(number, &["dc1.farm.example"], DC);
            for ms in [20_000, 21_000] {
                wire.datagram(ms + u64::from(number) * 10_000, client, (DC, 53), &query);
            }
            let client = (BROKER, client.1 + port);
            wire.datagram(20_100 + u64::from(number) * 10_000, (answers_from, 53), client, &answer);
        }
        let audit = audit(&farm, &wire);
        let explainer = audit.explainer().expect("it was judged");
        let found = explainer.all().find(|f| f.code.name() == "unanswered").expect("a finding");
        (found.certain, found.message, found.action)
    };
    let (certain, message, action) = queries(0, "10.1.0.21");
    assert!(!certain && message.contains("answers come from 10.1.0.21 instead"), "{message}");
    assert!(action.starts_with("Make dc1 answer from the address that broker1 asked"), "{action}");
    let (certain, message, _) = queries(0, "10.1.0.77");
    assert!(!certain && message.contains("answers come from 10.1.0.77 instead"), "{message}");
    // Answers of another server, or to other requests, do not answer these.
    for (port, from) in [(0, GW), (100, "10.1.0.21")] {
        let (certain, message, action) = queries(port, from);
        assert!(certain && !message.contains("instead"), "{message}");
        assert!(action.starts_with("Allow UDP 53 from broker1 to dc1"), "{action}");
    }
}

/// The capture may show whose address an unlisted one is.
#[test]
fn an_unlisted_address_of_listed_hosts_is_told_with_their_names() {
    let macs = "name = \"rdsh1\"\nmacs = [\"02:00:00:00:00:1e\"]";
    let farm = farm("", ALL).replace("name = \"rdsh1\"", macs);
    let action = |wire: &Wire| {
        let audit = audit(&farm, wire);
        let explainer = audit.explainer().expect("it was judged");
        let found = explainer.all().find(|f| f.code.name() == "unknown-host").expect("a finding");
        (found.message, found.action)
    };
    // A host has many temporary addresses.
    let temporary = |mac: u8, ttl: u8| {
        let mut wire = steady();
        for last in 200..205 {
            let first = wire.0.len();
            let client = format!("10.1.0.{last}");
            wire.connect(20_000 + last * 100, (&client, 50_100), (BROKER, 20_003));
            for (_, frame) in wire.0[first..].iter_mut().filter(|(_, f)| f[29] == last as u8) {
                (frame[11], frame[22]) = (mac, ttl);
            }
        }
        action(&wire)
    };
    let (message, words) = temporary(0x1e, 64);
    assert!(message.ends_with("10.1.0.200 has the MAC address of rdsh1"), "{message}");
    let start = "If 10.1.0.200, which has the MAC address of rdsh1, is an address of rdsh1";
    assert!(words.starts_with(start) && words.contains("Otherwise, identify"), "{words}");
    for (mac, ttl) in [(0x1f, 64), (0x1e, 63)] {
        let (message, words) = temporary(mac, ttl);
        assert!(!message.contains("MAC") && words.starts_with("Identify"), "{message}: {words}");
    }
    // Listed hosts advertise a virtual address.
    let advertised = |by: &[&str]| {
        let mut wire = steady();
        for (number, host) in by.iter().enumerate() {
            let vrrp = [0x31, 51, 150, 1, 0, 100, 0, 0, 10, 1, 0, 99];
            wire.ip(3_000 + number as u64, host, "224.0.0.18", 112, &vrrp);
        }
        wire.connect(20_000, (RDSH, 50_100), ("10.1.0.99", 20_002));
        let audit = audit(&farm, &wire);
        let explainer = audit.explainer().expect("it was judged");
        let mut all = explainer.all().filter(|f| f.code.name() == "unknown-host");
        all.find(|f| f.server.address == "10.1.0.99").expect("a finding").action
    };
    let words = advertised(&[GW, DC]);
    assert!(words.starts_with("If 10.1.0.99 is a virtual address of dc1 and gw1"), "{words}");
    assert!(words.contains("held-by"), "{words}");
    assert!(advertised(&["10.1.0.98"]).starts_with("Identify"));
}

/// Traffic that was seen only in a tunnel is not said to have never been seen.
#[test]
fn traffic_in_a_tunnel_is_told_with_the_tunnel() {
    let rdsh = RDSH.parse::<Ipv4Addr>().expect("an address").octets();
    let mut wire = steady();
    wire.0.retain(|(_, f)| f[23] == 1 || !(f[26..30] == rdsh || f[30..34] == rdsh));
    let first = wire.0.len();
    for number in 0..3 {
        let (client, ms) = ((RDSH, 51_000 + number), 20_000 + u64::from(number) * 1000);
        for copy in [0, 1] {
            wire.tcp(ms + copy, client, (BROKER, 20_003), SYN, 0);
            wire.tcp(ms + 10 + copy, (BROKER, 20_003), client, RST | ACK, 0);
        }
    }
    wire.tunnel(first, "10.1.0.30", "10.1.9.9");
    let inventory = farm("", ALL);
    let audit = audit(&inventory, &wire);
    let explainer = audit.explainer().expect("it was judged");
    let told = |code: &str| {
        let found = explainer.all().find(|f| f.code.name() == code).expect("a finding");
        assert!(!found.certain);
        (found.message, found.action)
    };
    let (message, action) = told("never-attempted");
    assert!(message.contains("was seen to contact broker1"), "{message}");
    assert!(message.contains("only inside a tunnel that the inventory does not list"), "{message}");
    assert!(action.contains("[capture] tunnels, with use = \"mirror\""), "{action}");
    let (message, _) = told("refused");
    assert!(message.contains("(3 flows)"), "{message}");
    let text = support::Site::new(&inventory, &wire).report("text");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("does not list (from 10.1.0.30 to 10.1.9.9)"), "{text}");
}

/// If the capture does not show any packets to a client, its requests cannot be reported as
/// unanswered.
#[test]
fn a_client_of_whom_one_direction_is_visible_is_left_without_an_answer_by_nobody() {
    let asks = |wire: &mut Wire| {
        for number in 0..40 {
            let query = support::wire::dns(number, &["a.example"], "10.1.0.1");
            let at = 30_000 + u64::from(number) * 100;
            wire.datagram(at, (BROKER, 50_200 + number), (DC, 53), &query[0]);
        }
    };
    let unanswered = |wire: &Wire| {
        findings(&audit(&farm("", ALL), wire))
            .into_iter()
            .filter(|f| f.starts_with("unanswered"))
            .count()
    };
    let broker = BROKER.parse::<Ipv4Addr>().expect("an address").octets();
    let mut wire = steady();
    wire.0.retain(|(ms, _)| !(5_300..5_302).contains(ms));
    asks(&mut wire);
    assert_eq!(unanswered(&wire), 1);
    // No packets to the client are visible, although it acknowledges data.
    wire.0.retain(|(_, frame)| frame[30..34] != broker);
    wire.tcp(20_000, (BROKER, 50_100), (DC, 389), ACK, 100);
    assert_eq!(unanswered(&wire), 0);
}

/// A mirror may show what the hosts of one network send, but not what hosts elsewhere send to them.
#[test]
fn a_server_is_not_silent_where_the_capture_shows_no_other_server_either() {
    const MFA: &str = "10.2.0.60";
    let more = "[[host]]\nname = \"mfa1\"\naddresses = [\"10.2.0.60\"]\nroles = [\"mfa-server\"]\n\
                [[host]]\nname = \"dc2\"\naddresses = [\"10.2.0.50\"]\nroles = [\"ad-dc\"]\n";
    let unanswered = |wire: &Wire| -> Vec<String> {
        let lines = findings(&audit(&farm("", &format!("{more}{ALL}")), wire)).into_iter();
        lines.filter(|f| f.starts_with("unanswered")).collect()
    };
    let mut asked = steady();
    for number in 0..4 {
        let request = [&[1, number as u8, 0, 40][..], &[7; 16], &[1, 20], &[7; 18]].concat();
        let from = (BROKER, 52_000 + number);
        for ms in [10_000, 13_000] {
            asked.datagram(ms + u64::from(number) * 5_000, from, (MFA, 1812), &request);
        }
    }
    let line = "unanswered broker1>mfa1 udp/1812".to_owned();
    assert_eq!(unanswered(&asked), [&line[..]]);
    // The client acknowledges what another server sent, which the capture never shows.
    let with_server = |server: &str| {
        let mut wire = Wire(asked.0.clone());
        let ends = ((BROKER, 51_000), (server, 389));
        wire.segment(6_000, ends.0, ends.1, SYN, (1_000, 0), 0);
        for (ms, acked) in [(6_002, 5_001), (6_100, 6_001)] {
            wire.segment(ms, ends.0, ends.1, ACK, (1_001, acked), 0);
        }
        wire
    };
    assert_eq!(unanswered(&with_server("10.2.0.50")), [format!("{line} ?")]);
    // Any host can send such segments to an address that nobody has.
    assert_eq!(unanswered(&with_server("10.2.0.99")), [&line[..]]);
    // The capture shows other packets of the silent server.
    let mut wire = with_server("10.2.0.50");
    wire.ip(30_000, MFA, GW, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
    assert_eq!(unanswered(&wire), [&line[..]]);
}

/// A capture that lacks the requests of some answers may also lack the answers to some requests.
#[test]
fn answers_without_requests_make_requests_without_answers_uncertain() {
    let dns = |id: u16| support::wire::dns(id, &["a.example"], "10.1.0.1");
    let unanswered = |wire: &Wire| -> Vec<String> {
        let lines = findings(&audit(&farm("", ALL), wire)).into_iter();
        lines.filter(|f| f.starts_with("unanswered")).collect()
    };
    let mut asked = steady();
    asked.0.retain(|(ms, _)| !(5_300..5_302).contains(ms));
    for number in 0..4 {
        let at = 20_000 + u64::from(number) * 10_000;
        for ms in [at, at + 1_000] {
            asked.datagram(ms, (BROKER, 50_200 + number), (DC, 53), &dns(number)[0]);
        }
    }
    let line = "unanswered broker1>dc1 udp/53";
    assert_eq!(unanswered(&asked), [line]);
    let with_answer = |ms: u64| {
        let mut wire = Wire(asked.0.clone());
        wire.datagram(ms, (DC, 53), (BROKER, 50_300), &dns(9)[1]);
        wire
    };
    assert_eq!(unanswered(&with_answer(35_000)), [format!("{line} ?")]);
    // The last answer of a service that has stopped says nothing.
    assert_eq!(unanswered(&with_answer(1_000)), [line]);
    // The same is true of connections.
    let mut wire = steady();
    wire.knock(20_000, (BROKER, 50_100), (RDSH, 30_004));
    let line = "unanswered broker1>rdsh1 tcp/30004";
    assert_eq!(unanswered(&wire), [line]);
    wire.tcp(25_000, (RDSH, 30_004), (BROKER, 50_101), SYN | ACK, 0);
    assert_eq!(unanswered(&wire), [format!("{line} ?")]);
}

/// Two hosts may exchange their traffic in a tunnel with addresses of its own, or in a VPN.
#[test]
fn what_a_tunnel_between_two_hosts_may_hold_is_missed_for_certain_nowhere() {
    let missed = |more: &dyn Fn(&mut Wire)| -> String {
        let mut wire = silent();
        more(&mut wire);
        let lines = findings(&audit(&farm("", ALL), &wire)).into_iter();
        lines.filter(|f| f.starts_with("never-attempted rdsh1>broker1")).collect()
    };
    let certain = "never-attempted rdsh1>broker1 tcp/20003";
    let doubted = format!("{certain} ?");
    let through = |ends: [&'static str; 2], port: u16, both: bool| {
        move |wire: &mut Wire| {
            let mut inner = Wire::default();
            inner.connect(20_000, ("172.31.0.30", 50_100), ("172.31.0.10", port));
            for frame in inner.0 {
                let is_answer = frame.1[26..30] == [172, 31, 0, 10] && both;
                let [from, to] = if is_answer { [ends[1], ends[0]] } else { ends };
                let first = wire.0.len();
                wire.0.push(frame);
                wire.tunnel(first, from, to);
            }
        }
    };
    let tunnel = |ends, port| through(ends, port, true);
    assert_eq!(missed(&|_| ()), certain);
    assert_eq!(missed(&tunnel([RDSH, BROKER], 20_003)), doubted);
    assert_eq!(missed(&tunnel([BROKER, RDSH], 20_003)), doubted);
    // One end alone can invent what is inside a tunnel.
    assert_eq!(missed(&through([RDSH, BROKER], 20_003, false)), certain);
    assert_eq!(missed(&through([BROKER, RDSH], 20_003, false)), certain);
    assert_eq!(missed(&tunnel([RDSH, BROKER], 9_999)), certain);
    assert_eq!(missed(&tunnel([GW, BROKER], 20_003)), certain);
    assert_eq!(missed(&tunnel(["10.9.0.5", RDSH], 20_003)), certain);
    let vpn = |host: &'static str, count: u64, protocol: u8, answers: bool| {
        move |wire: &mut Wire| {
            for number in 0..count {
                let mut send = |ms: u64, from: &str, to: &str| match protocol {
                    17 => wire.datagram(ms, (from, 41_641), (to, 41_641), &[9; 100]),
                    other => wire.ip(ms, from, to, other, &[9; 100]),
                };
                send(10_000 + number * 1000, host, BROKER);
                if answers {
                    send(10_100 + number * 1000, BROKER, host);
                }
            }
        }
    };
    for protocol in [17, 115] {
        assert_eq!(missed(&vpn(RDSH, 60, protocol, true)), doubted, "{protocol}");
        assert_eq!(missed(&vpn(RDSH, 60, protocol, false)), certain, "{protocol}");
        assert_eq!(missed(&vpn(RDSH, 10, protocol, true)), certain, "{protocol}");
        assert_eq!(missed(&vpn(GW, 60, protocol, true)), certain, "{protocol}");
        // An unlisted host makes nothing uncertain about others.
        assert_eq!(missed(&vpn("10.9.0.5", 60, protocol, true)), certain, "{protocol}");
    }
}

/// Without a span port, administrators capture on one host after another.
#[test]
fn a_capture_on_one_host_does_not_watch_another() {
    let ping = |wire: &mut Wire, second: u64, from: &str, to: &str| {
        wire.ip(second * 1000, from, to, 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
        wire.ip(second * 1000 + 1, to, from, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
    };
    // First on the session host, later on the broker.
    let on_rdsh = || {
        let mut wire = Wire::default();
        for second in (0..200).step_by(5) {
            ping(&mut wire, second, RDSH, BROKER);
            ping(&mut wire, second, RDSH, DC);
        }
        wire.connect(5_400, (RDSH, 50_004), (BROKER, 20_003));
        wire.udp(5_500, (RDSH, 50_005), (BROKER, 20_003));
        wire
    };
    let on_broker = |seconds: u64| {
        let mut wire = Wire::default();
        for second in (1_000..1_000 + seconds).step_by(5) {
            ping(&mut wire, second, RDSH, BROKER);
            ping(&mut wire, second, BROKER, DC);
        }
        wire
    };
    let both = farm("", "[capture]\ncovers = [\"rdsh1\", \"broker1\"]\n");
    let said = |captures: &[&Wire]| -> Vec<String> {
        let files: Vec<_> = captures.iter().map(|wire| wire.file()).collect();
        let mut files: Vec<&[u8]> = files.iter().map(|file| &file[..]).collect();
        let of = |files: &[&[u8]]| {
            let lines = findings(&audit_files(&both, files, Some(100), None)).into_iter();
            lines.filter(|f| f.contains("broker1>dc1 tcp/389")).collect::<Vec<_>>()
        };
        let forward = of(&files);
        files.reverse();
        assert_eq!(of(&files), forward);
        forward
    };
    let short = ["window-too-short broker1>dc1 tcp/389"];
    assert_eq!(said(&[&on_rdsh(), &on_broker(30)]), short);
    let missing = ["never-attempted broker1>dc1 tcp/389"];
    assert_eq!(said(&[&on_rdsh(), &on_broker(200)]), missing);
    // The first capture shows traffic without the session host: it comes from a span port.
    let mut span = on_rdsh();
    ping(&mut span, 100, GW, DC);
    assert_eq!(said(&[&span, &on_broker(30)]), missing);
    // The broker takes part in all traffic of both captures.
    let mut later = on_broker(30);
    later.0.iter_mut().for_each(|(ms, _)| *ms += 1_000_000);
    later.connect(2_005_400, (RDSH, 50_004), (BROKER, 20_003));
    later.udp(2_005_500, (RDSH, 50_005), (BROKER, 20_003));
    assert_eq!(said(&[&on_broker(200), &later]), missing);
    // A capture without unicast traffic does not show where it was made.
    let mut silent = Wire::default();
    (3_000..3_100).for_each(|second| silent.claim(second * 1000, RDSH, 2));
    assert_eq!(said(&[&on_broker(200), &later, &silent]), missing);
    assert_eq!(said(&[&on_rdsh(), &on_broker(30), &silent]), short);
}

/// If a host acknowledges data from its peer that is not in the capture, a reply may also be
/// missing from the capture.
#[test]
fn what_a_peer_acknowledges_unseen_keeps_his_silence_from_being_claimed() {
    let unanswered = |wire: &Wire| {
        let lines = findings(&audit(&farm("", ALL), wire)).into_iter();
        lines.filter(|f| f.starts_with("unanswered rdsh1>broker1")).count()
    };
    let ends = [[10, 1, 0, 30], [10, 1, 0, 10]];
    let mut wire = steady();
    wire.0.retain(|(_, f)| {
        f[23] == 1
            || !(ends.contains(&f[26..30].try_into().unwrap_or_default())
                && ends.contains(&f[30..34].try_into().unwrap_or_default()))
    });
    wire.knock(20_000, (RDSH, 50_100), (BROKER, 20_003));
    assert_eq!(unanswered(&wire), 1);
    wire.tcp(21_000, (RDSH, 50_101), (BROKER, 445), ACK, 100);
    assert_eq!(unanswered(&wire), 0);
}

/// Returns the capture 700 s later. The packets have other identifications, so that they are not
/// taken for the same packets with the times of another clock.
fn later(mut wire: Wire) -> Wire {
    for (ms, frame) in &mut wire.0 {
        *ms += 700_000;
        frame[18] = 1;
    }
    wire
}

#[test]
fn loss_counts_where_it_happened() {
    let with_attempts = || {
        let mut wire = steady();
        for ms in [20_000, 21_000, 23_000] {
            wire.tcp(ms, (BROKER, 50_100), (RDSH, 30_004), SYN, 0);
        }
        wire
    };
    let unanswered = |audit: &Audit| {
        let found = findings(audit).into_iter().find(|f| f.starts_with("unanswered"));
        found.unwrap_or_default()
    };
    let line = "unanswered broker1>rdsh1 tcp/30004";
    // In a capture that lost 6 % of its frames, three attempts without an answer prove nothing.
    let lossy = pcapng(&later(with_attempts()), 60, "");
    let of = |files: &[&[u8]]| unanswered(&audit_files(&farm("", ALL), files, Some(60), None));
    assert_eq!(of(&[&lossy]), format!("{line} ?"));
    // A capture of another time that lost nothing does not change that.
    let calm = pcapng(&steady(), 0, "");
    assert_eq!(of(&[&calm, &lossy]), format!("{line} ?"));
    assert_eq!(of(&[&lossy, &calm]), format!("{line} ?"));
    // Attempts in that capture are certain to have got no answer.
    let [calm, lossy] = [pcapng(&with_attempts(), 0, ""), pcapng(&later(steady()), 60, "")];
    assert_eq!(of(&[&calm, &lossy]), line);
}

/// A reply that refuses a connection is not lost, but a later connection that worked may be.
#[test]
fn a_refusal_is_not_certain_if_a_later_connection_may_have_been_lost() {
    let mut wire = steady();
    wire.tcp(10_000, (BROKER, 50_100), (RDSH, 30_004), SYN, 0);
    wire.tcp(10_001, (RDSH, 30_004), (BROKER, 50_100), RST | ACK, 0);
    let of = |dropped| {
        let file = pcapng(&wire, dropped, "");
        let found = findings(&audit_files(&farm("", ALL), &[&file], Some(60), None));
        found.into_iter().find(|line| line.starts_with("refused")).unwrap_or_default()
    };
    let line = "refused broker1>rdsh1 tcp/30004";
    assert_eq!([of(0), of(60), of(500)], [line, line, &format!("{line} ?")]);
}

#[test]
fn an_absence_counts_with_the_loss_over_time() {
    let silent = silent();
    let mut short = later(pings());
    short.0.retain(|(ms, _)| *ms < 720_000);
    let of = |in_long, in_short| {
        let files = [pcapng(&silent, in_long, ""), pcapng(&short, in_short, "")];
        let files = files.each_ref().map(Vec::as_slice);
        let found = findings(&audit_files(&farm("", ALL), &files, Some(60), None));
        found.into_iter().find(|f| f.starts_with("never-attempted")).unwrap_or_default()
    };
    let line = "never-attempted rdsh1>broker1 tcp/20003";
    // Both files together lost 0.9 % of their frames, but most of the time 1.8 % was lost.
    assert_eq!(of(18, 0), format!("{line} ?"));
    assert_eq!(of(0, 18), line);
}

#[test]
fn rows_have_the_loss_of_their_input() {
    let mut wire = steady();
    for ms in [20_000, 21_000, 23_000] {
        wire.tcp(ms, (BROKER, 50_100), (RDSH, 30_004), SYN, 0);
    }
    let calm = later(steady());
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name).display().to_string();
    std::fs::write(at("a.pcapng"), pcapng(&wire, 60, "")).expect("writable");
    std::fs::write(at("b.pcapng"), pcapng(&calm, 0, "")).expect("writable");
    std::fs::write(at("farm.toml"), farm("", ALL)).expect("writable");
    let [a, b, inventory, store] = ["a.pcapng", "b.pcapng", "farm.toml", "store"].map(at);
    let collected = support::rasaudit(["collect", &a, &b, "-i", &inventory, "--to", &store]);
    assert!(collected.status.success(), "{}", support::stderr(&collected));
    let run = support::rasaudit([
        "audit",
        &store,
        "-i",
        &inventory,
        "--min-watch",
        "60s",
        "--format",
        "csv",
    ]);
    let rows = support::columns(&support::stdout(&run), &["code", "certain", "doubt"]);
    let row = rows.iter().find(|row| row[0] == "unanswered");
    assert_eq!(row.map(|row| row[1..].join(" ")).as_deref(), Some("no loss"));
}

#[test]
fn a_silent_role_is_claimed_where_silence_can_be() {
    let told = |audit: &Audit| -> Vec<String> {
        findings(audit).into_iter().filter(|f| f.starts_with("silent-role")).collect()
    };
    // The domain controller sends no traffic of its role but answers pings.
    let dc = DC.parse::<Ipv4Addr>().expect("an address").octets();
    let mut wire = steady();
    wire.0.retain(|(_, f)| f[23] == 1 || !(f[26..30] == dc || f[30..34] == dc));
    // The connections that the broker does not attempt are findings about the broker only, so the
    // domain controller gets a finding of its own.
    let audit_of = |wire: &Wire, dropped| {
        audit_file(&farm("", ALL), &pcapng(wire, dropped, ""), Some(60), None)
    };
    assert!(
        told(&audit_of(&wire, 0))
            .iter()
            .any(|f| f.starts_with("silent-role dc1") && !f.ends_with('?'))
    );
    assert_eq!(told(&audit_of(&wire, 400)), [""; 0], "lost frames may be the missing ones");
    // If a part of the capture cannot be read, the claim is uncertain.
    let mut file = pcapng(&wire, 0, "");
    file.extend([0xff; 40]);
    let part = told(&audit_file(&farm("", ALL), &file, Some(60), None));
    assert!(part.contains(&"silent-role dc1>dc1 / ?".to_owned()), "{part:?}");
    wire.0.retain(|(ms, f)| *ms < 1_000 || f[26..30] != dc);
    let told = told(&audit_of(&wire, 0));
    assert!(told.iter().all(|f| !f.starts_with("silent-role dc1") || f.ends_with('?')), "{told:?}");
}

#[test]
fn a_virtual_address_counts_for_its_holders() {
    let halb = |name: &str, last: u8, more: &str| {
        format!(
            "[[host]]\nname = \"{name}\"\naddresses = [\"10.1.0.{last}\"]\nroles = [\"halb\"]\n{more}"
        )
    };
    let halbs = halb("halb1", 41, "")
        + &halb("halb2", 42, "")
        + &halb("vip", 40, "held-by = [\"halb1\", \"halb2\"]\n");
    let office =
        "[[network]]\nname = \"office\"\ncidr = \"10.9.0.0/24\"\nroles = [\"parallels-client\"]\n";
    let inventory = farm("", &format!("{halbs}{office}{ALL}"));
    let mut wire = steady();
    wire.session(10_000, ("10.9.0.5", 50_100), ("10.1.0.40", 80), 40);
    wire.session(10_000, ("10.9.0.6", 50_100), ("10.1.0.40", 80), 40);
    for (halb, second) in
        [("10.1.0.41", 0), ("10.1.0.42", 0), ("10.1.0.41", 110), ("10.1.0.42", 110)]
    {
        wire.ip(second * 1000, halb, GW, 1, &[8, 0, 0, 0, 0, 9, 0, 1]);
    }
    let silent = |wire: &Wire| -> Vec<String> {
        let lines = findings(&audit(&inventory, wire)).into_iter();
        lines.filter(|f| f.contains("halb") && f.contains("gw1")).collect()
    };
    // A client opens a session to the shared address, and neither holder forwards it. Only one of
    // them needs to.
    assert_eq!(
        silent(&wire),
        ["never-attempted halb1>gw1 tcp/80 ?", "never-attempted halb2>gw1 tcp/80 ?"]
    );
    // A client that reaches the gateway itself may have been forwarded with its own address.
    let single = inventory.replace("held-by = [\"halb1\", \"halb2\"]", "held-by = [\"halb1\"]");
    let of_halb1 = |wire: &Wire| -> Vec<String> {
        let lines = findings(&audit(&single, wire)).into_iter();
        lines.filter(|f| f.contains("halb1") && f.contains("gw1")).collect()
    };
    assert_eq!(of_halb1(&wire), ["never-attempted halb1>gw1 tcp/80"]);
    let mut transparent = Wire(wire.0.clone());
    transparent.session(10_100, ("10.9.0.5", 50_100), (GW, 80), 40);
    assert_eq!(of_halb1(&transparent), ["never-attempted halb1>gw1 tcp/80 ?"]);
    // It is enough that one of the holders forwards the session.
    wire.session(11_000, ("10.1.0.41", 50_101), (GW, 80), 20);
    assert_eq!(silent(&wire), Vec::<String>::new());
}

#[test]
fn many_ports_many_clients_and_floods_are_one_finding_each() {
    let mut wire = steady();
    for port in 0..12 {
        wire.connect(9_000 + u64::from(port) * 10, (DC, 40_000 + port), (RDSH, 4_000 + port));
    }
    for client in 1..=12 {
        let client = format!("198.51.100.{client}");
        wire.connect(10_000, (&client, 50_000), (GW, 8080));
    }
    for network in 1..=120 {
        let client = format!("203.0.{network}.9");
        wire.connect(11_000, (&client, 50_000), (GW, 8081));
    }
    let expected = [
        "no-relation dc1>rdsh1 tcp/*",
        "unknown-host 198.51.100.0/24>gw1 tcp/8080",
        "unknown-host many networks>gw1 tcp/8081",
    ];
    let audit = expect(&farm("", ALL), &wire, &expected);
    let counts: Vec<u64> = audit
        .explainer()
        .expect("it was judged")
        .all()
        .filter(|f| f.severity.name() != "info")
        .map(|f| f.count)
        .collect();
    let mut sorted = counts.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [12, 12, 120], "{counts:?}");
}

#[test]
fn each_grade_of_direction_has_its_case() {
    type Case = (&'static str, (&'static str, u16), (&'static str, u16), u64);
    let cases: &[Case] = &[
        ("handshake", (GW, 50_000), (BROKER, 20_002), 0),
        ("syn-ack", (DC, 50_020), (BROKER, 5555), 1),
        ("syn", (GW, 50_100), (BROKER, 4444), 0),
        ("protocol", (GW, 1), (BROKER, 8), 0),
        // A handshake in the steady traffic proves that the broker serves port 20003.
        ("service", (DC, 50_050), (BROKER, 20_003), 1),
        // Both ports are in the same class, but only one orientation has a row.
        ("matrix", (GW, 20_500), (RDSH, 3389), 1),
        ("ports", (DC, 50_100), (RDSH, 4444), 1),
        ("first", (DC, 50_200), (RDSH, 50_300), 1),
        ("unknown", (DC, 50_400), (RDSH, 50_500), 0),
    ];
    let mut wire = steady();
    for &(grade, client, server, later) in cases {
        match grade {
            "handshake" | "protocol" => {}
            "syn" => wire.knock(9_000, client, server),
            "syn-ack" => {
                wire.tcp(9_000, server, client, SYN | ACK, 0);
                wire.tcp(9_001, client, server, ACK, 100);
            }
            _ => {
                wire.tcp(9_000, client, server, ACK, 100);
                wire.tcp(9_000 + later, server, client, ACK, 100);
            }
        }
    }
    let audit = audit(&farm("", ALL), &wire);
    for &(grade, client, server, _) in cases {
        let of = |c: &&rasaudit::conversation::Conversation| {
            let ends = [c.subject.client.to_string(), c.subject.server.to_string()];
            let here = ends.iter().all(|end| end == client.0 || end == server.0);
            here && [client.1, server.1].contains(&c.subject.port)
        };
        let list = audit.outcome.conversations.list.iter().filter(of);
        let found: Vec<_> = list.map(|c| (c.grade.name(), c.subject.client.to_string())).collect();
        // Without evidence for either side, either one may be shown as the client.
        let one = found.iter().any(|(g, c)| *g == grade && (grade == "unknown" || c == client.0));
        assert!(one, "{grade}: {found:?}");
    }
    let names: Vec<&str> = cases.iter().map(|case| case.0).collect();
    assert_eq!(names, rasaudit::conversation::DirectionEvidence::NAMES);
}

/// An attacker chooses source ports. The choice must not make a violation count as documented for
/// certain.
#[test]
fn a_chosen_source_port_documents_nothing_for_certain() {
    // The connection is older than the capture, so only the ports and the matrix indicate its
    // direction. The session host sends from port 443 to a port of its own choice.
    let mut wire = steady();
    for ms in [9_000, 9_010] {
        wire.tcp(ms, (RDSH, 443), (DC, 50_100), ACK, 100);
        wire.tcp(ms + 1, (DC, 50_100), (RDSH, 443), ACK, 100);
    }
    let audit = audit(&farm("", ALL), &wire);
    let forged = audit.outcome.conversations.list.iter().zip(&audit.outcome.judged);
    let forged: Vec<_> = forged.filter(|(c, _)| c.grade.is_guess()).collect();
    assert!(!forged.is_empty());
    for (c, j) in forged {
        let documented = j.verdict().name() == "documented";
        assert!(!(documented && j.doubts.certain()), "{:?}", c.subject);
    }
    // The same applies if a SYN-ACK is injected into a connection from before the capture, and the
    // other side replies with a challenge ACK.
    let mut wire = steady();
    wire.tcp(8_000, (RDSH, 3389), (GW, 4444), ACK, 100);
    wire.tcp(8_001, (GW, 4444), (RDSH, 3389), ACK, 100);
    wire.tcp(9_000, (RDSH, 3389), (GW, 4444), SYN | ACK, 0);
    wire.tcp(9_001, (GW, 4444), (RDSH, 3389), ACK, 0);
    let judged = self::audit(&farm("", ALL), &wire);
    let mut all = judged.outcome.conversations.list.iter().zip(&judged.outcome.judged);
    let (c, j) = all.find(|(c, _)| [3389, 4444].contains(&c.subject.port)).expect("it is there");
    assert!(c.grade.is_guess() && !j.doubts.certain(), "{} {:?}", c.grade, c.subject);
    // A handshake proves the direction, regardless of the ports.
    let mut wire = steady();
    wire.connect(9_000, (DC, 20_003), (RDSH, 4444));
    expect(&farm("", ALL), &wire, &["no-relation dc1>rdsh1 tcp/4444"]);
}

/// Adds a ping and its reply between two hosts every ten seconds, from one second to another.
fn ping_between(wire: &mut Wire, [from, to]: [&str; 2], seconds: std::ops::Range<u64>) {
    for second in seconds.step_by(10) {
        wire.ip(second * 1000, from, to, 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
        wire.ip(second * 1000 + 1, to, from, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
    }
}

/// Adds a connection and a datagram with its answer to the domain controller, so that the capture
/// does not look filtered.
fn use_both_transports(wire: &mut Wire, from: &str, second: u64) {
    wire.connect(second * 1000, (from, 50_000), (DC, 389));
    wire.udp(second * 1000 + 100, (from, 50_001), (DC, 53));
    wire.udp(second * 1000 + 101, (DC, 53), (from, 50_001));
}

/// Returns the findings about the traffic from the session host to the broker.
fn of_session_host(audit: &Audit) -> Vec<String> {
    let mut lines = findings(audit);
    lines.retain(|line| line.starts_with("never-attempted rdsh1>"));
    lines
}

#[test]
fn hosts_that_were_not_there_at_the_same_time_need_not_have_met() {
    let missing = |broker: std::ops::Range<u64>| {
        let mut wire = Wire::default();
        use_both_transports(&mut wire, GW, 1);
        ping_between(&mut wire, [GW, DC], 0..600);
        ping_between(&mut wire, [RDSH, DC], 0..200);
        ping_between(&mut wire, [BROKER, GW], broker);
        of_session_host(&audit(&farm("", ALL), &wire))
    };
    assert_eq!(missing(0..600), ["never-attempted rdsh1>broker1 tcp/20003"]);
    assert_eq!(missing(100..600), ["never-attempted rdsh1>broker1 tcp/20003"]);
    // The session host was shut down before the broker was started.
    assert_eq!(missing(300..600), ["never-attempted rdsh1>broker1 tcp/20003 ?"]);
}

#[test]
fn captures_of_several_places_one_after_the_other_do_not_show_that_traffic_is_missing() {
    let (gateway, session_host) = ("10.1.0.2", "10.1.0.31");
    let more = support::hosts(&[
        ("gw2", gateway, "gateway-normal"),
        ("rdsh2", session_host, "rdsh-agent"),
    ]);
    let inventory = farm("", &(more + ALL));
    let of_broker = [[GW, BROKER], [gateway, BROKER], [BROKER, DC]];
    let of_directory = [[BROKER, DC], [RDSH, DC], [session_host, DC], [GW, DC]];
    let capture = |wire: &mut Wire, pairs: &[[&str; 2]], from: u64| {
        use_both_transports(wire, BROKER, from + 1);
        pairs.iter().for_each(|pair| ping_between(wire, *pair, from..from + 200));
    };
    let missing_in = |inventory: &str, places: &[&[[&str; 2]]], liar: &[[&str; 2]]| {
        let mut wires = Vec::new();
        for (number, pairs) in places.iter().enumerate() {
            let mut wire = Wire::default();
            let start = number as u64 * 1000;
            capture(&mut wire, pairs, start);
            // Nobody answers these connections, so they show no host.
            let calls = liar.iter().skip(number * liar.len() / 2).take(liar.len() / 2);
            calls.for_each(|[from, to]| {
                wire.knock((start + 50) * 1000, (from, 50_700), (to, 4444));
            });
            wires.push(wire);
        }
        let files: Vec<Vec<u8>> = wires.iter().map(Wire::file).collect();
        let files: Vec<&[u8]> = files.iter().map(|file| &file[..]).collect();
        let apart = of_session_host(&audit_files(inventory, &files, Some(60), None));
        // The same frames in one file say the same.
        let all = Wire(wires.into_iter().flat_map(|wire| wire.0).collect());
        assert_eq!(of_session_host(&audit(inventory, &all)), apart);
        apart
    };
    let missing = |places: &[&[[&str; 2]]]| missing_in(&inventory, places, &[]);
    let all = [&of_broker[..], &of_directory].concat();
    let certain = ["never-attempted rdsh1>broker1 tcp/20003"];
    assert_eq!(missing(&[&all, &all]), certain);
    assert_eq!(missing(&[&all, &of_directory]), certain);
    let doubtful = ["never-attempted rdsh1>broker1 tcp/20003 ?"];
    assert_eq!(missing(&[&of_broker, &of_directory]), doubtful);
    assert_eq!(missing(&[&of_directory, &of_broker]), doubtful);
    assert_eq!(missing(&[&of_broker, &of_directory, &of_broker]), doubtful);
    // A host that sends packets to many others does not look like a move.
    let silent: Vec<String> = (100..120).map(|host| format!("10.1.0.{host}")).collect();
    let names: Vec<String> = (100..120).map(|host| format!("s{host}")).collect();
    let hosts: Vec<(&str, &str, &str)> =
        names.iter().zip(&silent).map(|(n, a)| (n.as_str(), a.as_str(), "rdsh-agent")).collect();
    let calls: Vec<[&str; 2]> = silent.iter().map(|host| [RDSH, host.as_str()]).collect();
    let larger = inventory.replace(ALL, &(support::hosts(&hosts) + ALL));
    assert_eq!(missing_in(&larger, &[&all, &all], &calls), certain);
}

#[test]
fn traffic_that_another_host_may_pass_on_is_not_certainly_missing() {
    let missing = |server: Option<&str>, relays: bool| {
        let mut wire = steady();
        let of_ldap = |frame: &[u8]| {
            let ports = [&frame[34..36], &frame[36..38]];
            frame[23] == 6 && ports.contains(&&389u16.to_be_bytes()[..])
        };
        wire.0.retain(|(_, frame)| !of_ldap(frame));
        server.into_iter().for_each(|server| wire.connect(9_000, (BROKER, 50_100), (server, 389)));
        if relays {
            wire.connect(9_100, (GW, 50_200), (DC, 389));
        }
        let audit = audit(&farm("", ALL), &wire);
        let explainer = audit.explainer().expect("it was judged");
        let mut all = audit.outcome.findings().iter();
        let found = all.find(|f| f.code().name() == "never-attempted").expect("it is missing");
        let reported = explainer.explain(found);
        (reported.certain, reported.action, explainer.trace(found).join("\n"))
    };
    let (certain, ..) = missing(None, true);
    assert!(certain);
    let (certain, ..) = missing(Some(GW), false);
    assert!(certain);
    let (certain, action, trace) = missing(Some(GW), true);
    assert!(!certain);
    assert!(action.starts_with("broker1 uses gw1 for TCP 389 instead (1 flow, established)"));
    let words = "broker1 used the same service at gw1, which may pass on the traffic";
    assert!(trace.contains(words), "{trace}");
}

#[test]
fn packets_that_a_stranger_sent_unasked_do_not_accuse_their_receiver() {
    let found = |send: &dyn Fn(&mut Wire)| {
        let mut wire = steady();
        send(&mut wire);
        let office = "[[network]]\nname = \"office\"\ncidr = \"10.9.0.0/24\"\nroles = [\"parallels-client\"]\n";
        let mut lines = findings(&audit(&farm("", &format!("{office}{ALL}")), &wire));
        lines.retain(|line| line.contains("office"));
        lines
    };
    let (stranger, victim) = ("10.9.0.66", DC);
    // A forged SYN-ACK that arrives in a connection from before the capture is acknowledged.
    let challenge = |wire: &mut Wire| {
        wire.segment(9_000, (stranger, 443), (victim, 50_001), SYN | ACK, (1000, 5000), 0);
        wire.segment(9_001, (victim, 50_001), (stranger, 443), ACK, (5000, 900), 0);
    };
    assert_eq!(found(&challenge), ["no-relation dc1>office tcp/443 ?"]);
    let handshake = |wire: &mut Wire| wire.connect(9_000, (victim, 50_001), (stranger, 443));
    assert_eq!(found(&handshake), ["no-relation dc1>office tcp/443"]);
}

#[test]
fn clients_that_a_gateway_sends_to_a_session_host_directly_are_found_among_all_clients() {
    let office =
        "[[network]]\nname = \"office\"\ncidr = \"10.9.0.0/24\"\nroles = [\"parallels-client\"]\n";
    let inventory = farm("direct-mode = true", &format!("{office}{ALL}"));
    let missing = |direct: &[&str]| {
        let mut wire = steady();
        for (number, client) in ["10.9.0.5", "10.9.0.6", "10.9.0.7"].into_iter().enumerate() {
            let port = 51_000 + number as u16;
            wire.session(10_000 + number as u64, (client, port), (GW, 443), 60);
            if direct.contains(&client) {
                wire.session(12_000 + number as u64, (client, port + 100), (RDSH, 3389), 60);
            }
        }
        let mut lines = findings(&audit(&inventory, &wire));
        lines.retain(|line| line.starts_with("never-attempted gw1>"));
        lines
    };
    assert_eq!(missing(&[]), ["never-attempted gw1>rdsh1 tcp/3389"]);
    assert_eq!(missing(&["10.9.0.5"]), ["never-attempted gw1>rdsh1 tcp/3389 ?"]);
    assert_eq!(missing(&["10.9.0.7"]), ["never-attempted gw1>rdsh1 tcp/3389 ?"]);
}

#[test]
fn multicasts_from_another_address_of_a_host_are_not_certainly_missing() {
    let more = support::hosts(&[("halb1", "10.1.0.3", "halb"), ("halb2", "10.1.0.4", "halb")]);
    let more = more.replace("[[host]]\nname = \"halb", "[[host]]\nsite = \"a\"\nname = \"halb");
    let inventory = farm("", &(more + ALL));
    let missing = |sender: Option<&str>, mac: u8| {
        let mut wire = steady();
        let first = wire.0.len();
        ping_between(&mut wire, ["10.1.0.3", "10.1.0.4"], 0..120);
        let own = wire.0[first..].iter_mut().filter(|(_, frame)| frame[26..30] == [10, 1, 0, 3]);
        own.for_each(|(_, frame)| frame[11] = 5);
        for second in 0..120 {
            let first = wire.0.len();
            let advertisement = [0x21, 51, 100, 1, 0, 1, 0, 0];
            sender.into_iter().for_each(|sender| {
                wire.ip(second * 1000, sender, "224.0.0.18", 112, &advertisement);
                wire.sent_by(first, mac, 255);
            });
        }
        let mut lines = findings(&audit(&inventory, &wire));
        lines.retain(|line| line.starts_with("never-attempted any halb"));
        lines
    };
    let line = "never-attempted any halb>halb2 ip-112/";
    assert_eq!(missing(None, 0), [line]);
    assert_eq!(missing(Some("10.1.0.77"), 5), [format!("{line} ?")]);
    // A router of another vendor, which has a hardware address of its own, also uses VRRP.
    assert_eq!(missing(Some("10.1.0.254"), 6), [line]);
}
