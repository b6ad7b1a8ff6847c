//! Tests hostile input. An attacker chooses names, ports and flags freely. Names must remain text
//! in every report. Apparent broadcasts, answers or handshakes must not turn a violation into
//! traffic that is documented for certain.

use crate::support;
use std::fs;

use crate::support::wire::{ACK, SYN, Wire, client_hello};
use crate::support::{Site, columns, hosts, rasaudit, stderr, stdout};
use rasaudit::report::FORMATS;

const GW: &str = "10.1.0.1";
const BROKER: &str = "10.1.0.10";
const DC: &str = "10.1.0.20";
const RDSH: &str = "10.1.0.30";
/// An unlisted host in the farm's network.
const EVIL: &str = "10.1.0.66";

/// Names with a special meaning to a spreadsheet, a browser, a terminal, or a person who reads the
/// report.
const NAMES: &[&str] = &[
    "=HYPERLINK(1)",
    "+1",
    "-2+3",
    "@SUM(A1)",
    "a;=1+1;b",
    "<script>alert(1)</script>",
    "\u{1b}[31mred\u{1b}]0;title\u{7}",
    "a\r\nb,c",
    "\"quoted\",x",
    "\u{202e}gnp.exe",
    "\u{200b}\u{feff}=1",
    "＝1",
    "| pipe | `code` |",
    "%0a=1",
];

/// Asserts that a report contains no control characters other than line breaks, and no characters
/// that are invisible or change the direction of text. Tables must not contain cells that a
/// spreadsheet interprets as formulas.
fn is_harmless(report: &str, format: &str) {
    for c in report.chars() {
        let steers = c.is_control() && !matches!(c, '\n' | '\r')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        assert!(!steers, "{format} contains U+{:04X}", u32::from(c));
    }
    let lone = report.replace("\r\n", "\n");
    assert!(!lone.contains('\r'), "{format} contains a lone carriage return");
    if matches!(format, "text" | "json" | "html" | "markdown" | "junit" | "sarif" | "jsonl") {
        return;
    }
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(report.as_bytes());
    for row in reader.records() {
        for piece in
            row.expect("every row has as many cells").iter().flat_map(|cell| cell.split(';'))
        {
            let first = piece.trim_start().chars().next().unwrap_or('x');
            let formula =
                matches!(first, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠' | '|' | '%');
            assert!(!formula, "{format}: {piece:?}");
        }
    }
}

#[test]
fn hostile_names_of_an_inventory_are_text_in_every_report() {
    let mut refused = 0;
    for name in NAMES {
        let mut wire = Wire::default();
        wire.connect(0, (RDSH, 50_000), (BROKER, 9100));
        wire.connect(10, (GW, 50_000), (BROKER, 20_002));
        wire.knock(20, (RDSH, 50_001), (BROKER, 20_003));
        wire.connect(30, (EVIL, 50_000), ("10.1.9.9", 445));
        let quoted = serde_json::to_string(name).expect("JSON").replace("\\u001b", "\\u001B");
        let list = hosts(&[("gw1", GW, "gateway-normal"), ("rdsh1", RDSH, "rdsh-agent")]);
        let inventory = |host: &str| {
            let [host, network] = [host, &format!("{host} net")].map(|name| {
                serde_json::to_string(name).expect("JSON").replace("\\u001b", "\\u001B")
            });
            format!(
                "[farm]\nname = {quoted}\nmatrix = \"ras-19\"\n{list}\
                 [[host]]\nname = {host}\naddresses = [\"{BROKER}\"]\nroles = [\"broker\"]\n\
                 [[network]]\nname = {network}\ncidr = \"10.1.9.0/24\"\nroles = [\"parallels-client\"]\n"
            )
        };
        let mut site = Site::new(&inventory(name), &wire);
        let checked = rasaudit(["inventory", "check", &site.inventory.display().to_string()]);
        is_harmless(&(stdout(&checked) + &stderr(&checked)), "text");
        // The farm may still have a name that a host must not have.
        if checked.status.code() == Some(2) {
            refused += 1;
            site = Site::new(&inventory("broker1"), &wire);
        }
        for format in FORMATS {
            is_harmless(&site.report(format.name), format.name);
        }
        // The same holds for the comments in evidence files, the exceptions template, and the
        // output of `explain`.
        let out = site.folder.path().join("out");
        let evidence = site.folder.path().join("evidence");
        let run = site.run(&[
            "--out".as_ref(),
            out.as_os_str(),
            "--evidence".as_ref(),
            evidence.as_os_str(),
        ]);
        assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
        is_harmless(
            &fs::read_to_string(evidence.join("evidence.csv")).expect("an index"),
            "evidence",
        );
        let files = fs::read_dir(&evidence).expect("a folder").map(|e| e.expect("an entry").path());
        for file in files.filter(|f| f.extension().is_some_and(|e| e == "pcapng")) {
            let bytes = fs::read(file).expect("a file");
            assert!(!bytes.windows(2).any(|pair| pair == b"\x1b["), "an escape in a comment");
            assert!(!bytes.windows(3).any(|three| three == "\u{202e}".as_bytes()));
        }
        let findings = out.join("findings.csv").display().to_string();
        let template = rasaudit(["exceptions", "template", "--from", &findings]);
        let lines = stdout(&template);
        let table: String =
            lines.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
        is_harmless(&lines, "text");
        is_harmless(&table, "exceptions");
        let explained = rasaudit([
            "explain",
            "--from",
            "rdsh1",
            "--to",
            name,
            "--port",
            "9100/tcp",
            "-i",
            &site.inventory.display().to_string(),
        ]);
        is_harmless(&(stdout(&explained) + &stderr(&explained)), "text");
    }
    // A name that a list could not contain is refused. All others may be used.
    let is_refused =
        |name: &&&str| name.starts_with('+') || name.contains(|c: char| c == ';' || c.is_control());
    assert_eq!(refused, NAMES.iter().filter(is_refused).count());
}

#[test]
fn hostile_names_of_the_traffic_are_text_in_every_report() {
    let inventory = format!(
        "[farm]\nmatrix = \"ras-19\"\n{}",
        hosts(&[("rdsh1", RDSH, "rdsh-agent"), ("dc1", DC, "ad-dc")])
    );
    let mut wire = Wire::default();
    for (number, name) in NAMES.iter().enumerate() {
        let ms = 1000 * number as u64;
        let outside = format!("203.0.113.{}", 10 + number);
        // DNS carries the name as a single label.
        let label: String = name.chars().filter(|c| *c != '.').take(60).collect();
        wire.lookup(ms, RDSH, DC, &[&label], &outside);
        let hello = client_hello(name, false, 0);
        wire.start(ms + 100, (RDSH, 50_000 + number as u16), (&outside, 443), &hello, 2000);
        let request =
            format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", name.replace(['\r', '\n'], " "));
        wire.start(
            ms + 200,
            (RDSH, 51_000 + number as u16),
            (&outside, 80),
            request.as_bytes(),
            2000,
        );
    }
    let site = Site::new(&inventory, &wire);
    for format in FORMATS {
        is_harmless(&site.report(format.name), format.name);
    }
    let rows = columns(&site.report("conversations"), &["names"]);
    assert!(rows.iter().filter(|row| !row[0].is_empty()).count() >= NAMES.len(), "{rows:?}");
    let draft = rasaudit(["inventory", "draft", &site.capture.display().to_string()]);
    assert_eq!(draft.status.code(), Some(0), "{}", stderr(&draft));
    is_harmless(&stdout(&draft), "text");
}

fn farm() -> String {
    let list = hosts(&[
        ("gw1", GW, "gateway-normal"),
        ("broker1", BROKER, "broker"),
        ("dc1", DC, "ad-dc"),
        ("rdsh1", RDSH, "rdsh-agent"),
    ]);
    let clients =
        "[[network]]\nname = \"office\"\ncidr = \"10.1.9.0/24\"\nroles = [\"parallels-client\"]\n";
    format!("[farm]\nmatrix = \"ras-19\"\n{list}{clients}")
}

/// Returns the client, server, port, verdict and certainty of the conversations that involve an
/// address.
fn judged(wire: &Wire, address: &str) -> Vec<[String; 5]> {
    let report = Site::new(&farm(), wire).report("conversations");
    let rows = columns(&report, &["client", "server", "port", "verdict", "certain"]);
    let rows = rows.into_iter().filter(|row| row[0] == address || row[1] == address);
    rows.map(|row| row.try_into().expect("five cells")).collect()
}

/// Asserts that no conversation of an address is permitted for certain, that is, documented,
/// background or excepted.
#[track_caller]
fn is_a_violation(wire: &Wire, address: &str) {
    let rows = judged(wire, address);
    assert!(!rows.is_empty());
    for row in rows {
        let permitted = ["documented", "background", "excepted"].contains(&row[3].as_str());
        assert!(!(permitted && row[4] == "yes"), "{row:?}");
    }
}

/// Sets the destination MAC address of all frames from an address to broadcast.
fn shouted(mut wire: Wire, address: &str) -> Wire {
    let ip = address.parse::<std::net::Ipv4Addr>().expect("an address").octets();
    for (_, frame) in wire.0.iter_mut().filter(|(_, frame)| frame[26..30] == ip) {
        frame[..6].fill(0xff);
    }
    wire
}

#[test]
fn a_broadcast_of_the_link_layer_hides_no_violation() {
    // A datagram and a SYN, each to a single host, are sent in broadcast frames, with and without
    // answers.
    for answered in [false, true] {
        let mut wire = Wire::default();
        wire.udp(0, (EVIL, 20_009), (RDSH, 9999));
        wire.tcp(10, (EVIL, 20_003), (BROKER, 445), SYN, 0);
        if answered {
            wire.udp(1, (RDSH, 9999), (EVIL, 20_009));
            wire.tcp(11, (BROKER, 445), (EVIL, 20_003), SYN | ACK, 0);
            wire.tcp(12, (EVIL, 20_003), (BROKER, 445), ACK, 10);
        }
        is_a_violation(&shouted(wire, EVIL), EVIL);
    }
}

#[test]
fn an_address_that_looks_like_a_broadcast_hides_no_violation() {
    // The last address of a /24 is a host if it sends packets itself.
    let last = "10.1.0.255";
    let mut wire = Wire::default();
    wire.connect(0, (last, 50_000), (BROKER, 20_003));
    wire.connect(100, (last, 137), (BROKER, 137));
    is_a_violation(&wire, last);
    // Broadcasts and multicasts that no row documents: a directed broadcast, and SYNs to a
    // broadcast and a multicast address.
    let mut wire = Wire::default();
    wire.udp(0, (EVIL, 20_003), ("10.1.0.255", 20_003));
    wire.tcp(10, (EVIL, 50_000), ("10.1.0.255", 20_003), SYN, 0);
    wire.tcp(20, (EVIL, 50_000), ("224.0.0.251", 5353), SYN, 0);
    is_a_violation(&wire, EVIL);
}

#[test]
fn a_forged_answer_to_a_lookup_opens_nothing() {
    // A client looks up gateways by broadcast. An unlisted host answers, and the client then sends
    // to that host.
    let client = "10.1.9.7";
    let all = "10.1.9.255";
    let mut wire = Wire::default();
    wire.udp(0, (client, 50_000), (all, 20_000));
    wire.udp(5, (EVIL, 20_000), (client, 50_000));
    wire.udp(6, (client, 50_000), (EVIL, 20_000));
    is_a_violation(&wire, EVIL);
    // Background traffic is answered from its own port. An answer from another port is not
    // background.
    let mut wire = Wire::default();
    wire.udp(0, (RDSH, 5353), ("224.0.0.251", 5353));
    wire.udp(5, (EVIL, 9999), (RDSH, 5353));
    wire.udp(6, (RDSH, 5353), (EVIL, 9999));
    is_a_violation(&wire, EVIL);
}

#[test]
fn forged_flags_and_ports_of_a_listed_host_stay_a_doubt() {
    // The session host sends data to the broker from its own documented port. A SYN-ACK precedes
    // the data, and the broker's stack replies with an RST, as if the broker had tried to connect.
    let mut wire = Wire::default();
    wire.tcp(0, (RDSH, 30_004), (BROKER, 445), SYN | ACK, 0);
    wire.tcp(1, (BROKER, 445), (RDSH, 30_004), support::wire::RST, 0);
    wire.tcp(2, (RDSH, 30_004), (BROKER, 445), ACK, 100);
    is_a_violation(&wire, RDSH);
    // The connection began before the capture, and its client port is documented.
    let before = |wire: &mut Wire| {
        wire.tcp(100, (RDSH, 30_004), (BROKER, 445), ACK, 100);
        wire.tcp(101, (BROKER, 445), (RDSH, 30_004), ACK, 100);
    };
    let mut wire = Wire::default();
    before(&mut wire);
    is_a_violation(&wire, RDSH);
    // Connections from an unlisted host or from the broker itself may also show that the port is
    // served.
    for client in [EVIL, BROKER] {
        let mut wire = Wire::default();
        wire.connect(0, (client, 50_000), (RDSH, 30_004));
        before(&mut wire);
        let rows = judged(&wire, RDSH);
        // The packets may be interpreted as documented use of the served port, but only in a
        // separate conversation that is not certain.
        let of_broker = |row: &[String; 5]| row[0] == BROKER && row[1] == RDSH && row[4] == "no";
        let abuse = |row: &[String; 5]| row[0] == RDSH && row[1] == BROKER && row[2] == "445";
        let told = rows.iter().any(|row| abuse(row) || of_broker(row));
        assert!(told, "{rows:?}");
    }
    // A forged handshake in the opposite direction precedes the real one.
    let mut wire = Wire::default();
    wire.tcp(0, (BROKER, 445), (RDSH, 30_004), SYN, 0);
    wire.tcp(1, (RDSH, 30_004), (BROKER, 445), SYN | ACK, 0);
    wire.tcp(2, (BROKER, 445), (RDSH, 30_004), support::wire::RST, 0);
    wire.connect(1000, (RDSH, 30_004), (BROKER, 445));
    is_a_violation(&wire, RDSH);
}
