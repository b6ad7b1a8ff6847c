//! Tests the threat model (`docs/threat-model.md`) sentence by sentence. No attack may lead to a
//! certain claim that is false, and the honest counterpart of each attack must stay certain. Also
//! tests the behaviour of healthy networks.

use crate::support;
use std::fs;

use crate::support::wire::{ACK, RST, SYN, Wire, dns};
use crate::support::{Site, columns, hosts};

const GW: &str = "10.1.0.1";
const BROKER: &str = "10.1.0.10";
const DC: &str = "10.1.0.20";
const RDSH: &str = "10.1.0.30";
const MFA: &str = "10.1.0.40";
const EVIL: &str = "203.0.113.66";

const HOSTS: &[(&str, &str, &str)] = &[
    ("gw1", GW, "gateway-normal"),
    ("broker1", BROKER, "broker"),
    ("dc1", DC, "ad-dc"),
    ("rdsh1", RDSH, "rdsh-agent"),
    ("mfa1", MFA, "mfa-server"),
];

/// Returns the inventory of the farm. `more` is added to `[farm]`, `capture` to `[capture]`.
fn farm(more: &str, capture: &str) -> String {
    let office =
        "[[network]]\nname = \"office\"\ncidr = \"10.9.0.0/24\"\nroles = [\"parallels-client\"]\n";
    format!(
        "[farm]\nmatrix = \"ras-19\"\n{more}\n[farm.features]\nmfa = true\n{}{office}[capture]\ncovers = \"all\"\n{capture}\n",
        hosts(HOSTS)
    )
}

fn plain() -> String {
    farm("", "")
}

/// Returns a capture that shows every host for 110 seconds, with all steady connections except
/// those of `rdsh1` and `gw1` to the broker.
fn quiet() -> Wire {
    let mut wire = Wire::default();
    for second in (0..120).step_by(10) {
        for (number, (_, from, _)) in HOSTS.iter().enumerate() {
            for (other, (_, to, _)) in HOSTS[number + 1..].iter().enumerate() {
                let mark = [second as u8, number as u8, other as u8];
                wire.ip(second * 1000, from, to, 1, &[8, 0, 0, 0, 0, mark[0], mark[1], mark[2]]);
                wire.ip(
                    second * 1000 + 1,
                    to,
                    from,
                    1,
                    &[0, 0, 0, 0, 0, mark[0], mark[1], mark[2]],
                );
            }
        }
    }
    wire.opened(5_100, (BROKER, 50_001), (DC, 389), 77);
    wire.opened(5_200, (BROKER, 50_002), (DC, 88), 78);
    let [query, answer] = dns(9, &["dc1.farm.example"], DC);
    wire.datagram(5_300, (BROKER, 50_003), (DC, 53), &query);
    wire.datagram(5_301, (DC, 53), (BROKER, 50_003), &answer);
    wire
}

/// Returns the capture of [`quiet`] with the connections of `rdsh1` and `gw1` to the broker.
fn steady() -> Wire {
    let mut wire = quiet();
    wire.opened(5_400, (GW, 50_004), (BROKER, 20_002), 79);
    wire.opened(5_500, (RDSH, 50_005), (BROKER, 20_003), 80);
    wire
}

/// The conversations and findings of an audit, with the columns of [`CONVERSATION`] and
/// [`FINDING`].
struct Said {
    conversations: Vec<Vec<String>>,
    findings: Vec<Vec<String>>,
}

const CONVERSATION: &[&str] = &[
    "client",
    "server",
    "port",
    "verdict",
    "code",
    "certain",
    "state",
    "direction",
    "doubt",
    "flows",
    "state_changes",
    "packets_to_server",
];
const FINDING: &[&str] =
    &["client", "server", "port", "verdict", "code", "certain", "severity", "doubt", "message"];

fn audit_files(files: &[Vec<u8>], inventory: &str) -> Said {
    audit_with_options(files, inventory, &[])
}

fn audit_with_options(files: &[Vec<u8>], inventory: &str, options: &[&str]) -> Said {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: String| scratch.path().join(name);
    let captures: Vec<_> = (0..files.len()).map(|n| at(format!("{n}.pcap"))).collect();
    for (path, bytes) in captures.iter().zip(files) {
        fs::write(path, bytes).expect("writable");
    }
    fs::write(at("farm.toml".into()), inventory).expect("writable");
    let report = |format: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        command.arg("audit").args(&captures).arg("-i").arg(at("farm.toml".into()));
        let run = command.args(["--min-watch", "60s", "--format", format]).args(options).output();
        let run = run.expect("the program runs");
        assert!(run.status.code().is_some_and(|c| c < 2 || c == 3), "{}", support::stderr(&run));
        support::stdout(&run)
    };
    Said {
        conversations: columns(&report("conversations"), CONVERSATION),
        findings: columns(&report("csv"), FINDING),
    }
}

fn audit_with(wire: &Wire, inventory: &str) -> Said {
    audit_files(&[wire.file()], inventory)
}

fn audit(wire: &Wire) -> Said {
    audit_with(wire, &plain())
}

impl Said {
    /// Returns the code, certainty, state, direction evidence and doubt of each conversation
    /// between two addresses at a port.
    fn rows(&self, client: &str, server: &str, port: u16) -> Vec<String> {
        let here =
            |row: &&Vec<String>| row[0] == client && row[1] == server && row[2] == port.to_string();
        self.conversations
            .iter()
            .filter(here)
            .map(|row| row[4..9].join(" ").trim().to_owned())
            .collect()
    }

    /// Returns the certainty, severity and doubt of the findings with this code, client and server.
    fn found(&self, code: &str, client: &str, server: &str) -> Vec<String> {
        let here = |row: &&Vec<String>| row[4] == code && row[0] == client && row[1] == server;
        self.findings.iter().filter(here).map(|row| row[5..8].join(" ").trim().to_owned()).collect()
    }

    /// Returns the code, ends and port of each certain finding, except not-assessable ones.
    fn certain(&self) -> Vec<String> {
        let certain =
            self.findings.iter().filter(|row| row[5] == "yes" && row[3] != "not-assessable");
        certain.map(|row| format!("{} {}>{} {}", row[4], row[0], row[1], row[2])).collect()
    }

    fn message(&self, code: &str) -> &str {
        let found = self.findings.iter().find(|row| row[4] == code);
        found.map_or("", |row| &row[8])
    }
}

// Tests of single flows.

#[test]
fn a_guess_changes_nothing_of_what_proven_flows_say() {
    // The session host uses WinRM on the gateway from its own port 3389, over a connection that is
    // older than the capture.
    let mut wire = steady();
    wire.segment(9_000, (RDSH, 3389), (GW, 5985), ACK, (5, 5), 100);
    wire.segment(9_001, (GW, 5985), (RDSH, 3389), ACK, (5, 105), 100);
    wire.opened(10_000, (GW, 50_100), (RDSH, 3389), 3);
    let said = audit(&wire);
    let rows = said.rows(GW, RDSH, 3389);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(rows[0], "matrix yes established handshake");
    assert!(
        rows[1].starts_with("matrix no midstream") && rows[1].ends_with("direction"),
        "{rows:?}"
    );
    // The honest counterpart: a proven violation stays certain, regardless of guesses about other
    // flows.
    wire.opened(11_000, (RDSH, 50_100), (GW, 5985), 4);
    wire.segment(12_000, (GW, 5985), (RDSH, 3390), ACK, (5, 5), 100);
    let said = audit(&wire);
    assert_eq!(said.found("no-relation", RDSH, GW), ["yes high"]);
}

// Tests of handshakes.

#[test]
fn a_handshake_is_proved_by_numbers_and_the_clients_own_syn() {
    // A stray SYN-ACK is followed by the real SYN in two fragments. The flags are in the second
    // one.
    let mut wire = steady();
    wire.segment(9_000, (RDSH, 30_004), (BROKER, 4455), SYN | ACK, (900, 55), 0);
    wire.segment(9_001, (BROKER, 4455), (RDSH, 30_004), RST, (55, 0), 0);
    wire.segment(9_100, (RDSH, 30_004), (BROKER, 4455), SYN, (1_000, 0), 0);
    let (ms, whole) = wire.0.pop().expect("a frame");
    for (offset, range) in [(0u16, 34..42), (1, 42..54)] {
        let mut part = whole[..34].to_vec();
        part.extend(&whole[range.clone()]);
        part[16..18].copy_from_slice(&(20 + range.len() as u16).to_be_bytes());
        part[18..20].copy_from_slice(&7u16.to_be_bytes());
        part[20..22]
            .copy_from_slice(&(offset | if offset == 0 { 0x2000 } else { 0 }).to_be_bytes());
        wire.0.push((ms, part));
    }
    wire.segment(9_101, (BROKER, 4455), (RDSH, 30_004), SYN | ACK, (5_000, 1_001), 0);
    wire.segment(9_102, (RDSH, 30_004), (BROKER, 4455), ACK, (1_001, 5_001), 60);
    wire.segment(9_103, (BROKER, 4455), (RDSH, 30_004), ACK, (5_001, 1_061), 60);
    let said = audit(&wire);
    assert_eq!(said.rows(BROKER, RDSH, 30_004), [""; 0]);
    assert_eq!(said.rows(RDSH, BROKER, 4455), ["port-not-in-matrix yes established handshake"]);
    // If a SYN-ACK has no visible SYN, the direction is a guess, whatever the SYN-ACK acknowledges.
    let mut wire = steady();
    wire.segment(9_000, (BROKER, 4455), (RDSH, 30_004), SYN | ACK, (5_000, 1_001), 0);
    wire.segment(9_001, (RDSH, 30_004), (BROKER, 4455), ACK, (1_001, 5_001), 60);
    let rows = audit(&wire).rows(RDSH, BROKER, 4455);
    assert_eq!(rows, ["port-not-in-matrix no established syn-ack direction"]);
    // A server that answers a SYN with a SYN makes its client send a SYN-ACK (RFC 9293, 3.5).
    let mut wire = steady();
    let ends = [(RDSH, 50_100), (BROKER, 4455)];
    wire.segment(9_000, ends[0], ends[1], SYN, (1_000, 0), 0);
    wire.segment(9_001, ends[1], ends[0], SYN, (5_000, 0), 0);
    wire.segment(9_002, ends[0], ends[1], SYN | ACK, (1_000, 5_001), 0);
    wire.segment(9_003, ends[1], ends[0], ACK, (5_001, 1_001), 60);
    wire.segment(9_004, ends[0], ends[1], ACK, (1_001, 5_061), 60);
    let said = audit(&wire);
    let rows = [said.rows(RDSH, BROKER, 4455), said.rows(BROKER, RDSH, 50_100)].concat();
    assert!(rows.len() == 1 && rows[0].ends_with("direction"), "{rows:?}");
    // A SYN-ACK that answers a different SYN does not prove anything either.
    let mut wire = steady();
    wire.segment(9_000, (RDSH, 50_100), (BROKER, 4455), SYN, (1_000, 0), 0);
    wire.segment(9_001, (BROKER, 4455), (RDSH, 50_100), SYN | ACK, (5_000, 77), 0);
    let rows = audit(&wire).rows(RDSH, BROKER, 4455);
    assert_eq!(rows.len(), 1);
    assert!(!rows[0].contains("handshake"), "{rows:?}");
}

#[test]
fn any_matching_pair_of_numbers_proves() {
    // Covers a client port with six connections, sequence numbers that wrap, TCP Fast Open, and a
    // firewall that rewrites sequence numbers.
    let mut wire = steady();
    for (turn, isn) in [9_000u32, 40, u32::MAX, 3, 77_000, 500].into_iter().enumerate() {
        let ms = 10_000 + turn as u64 * 1000;
        wire.segment(ms, (GW, 50_100), (RDSH, 4444), SYN, (isn, 0), 0);
        wire.segment(
            ms + 1,
            (RDSH, 4444),
            (GW, 50_100),
            SYN | ACK,
            (u32::MAX, isn.wrapping_add(1)),
            0,
        );
        wire.segment(ms + 2, (GW, 50_100), (RDSH, 4444), ACK, (isn.wrapping_add(1), 0), 10);
    }
    wire.segment(20_000, (GW, 50_200), (RDSH, 4445), SYN, (700, 0), 100);
    wire.segment(20_001, (RDSH, 4445), (GW, 50_200), SYN | ACK, (9, 801), 0);
    wire.segment(20_002, (GW, 50_200), (RDSH, 4445), ACK, (801, 10), 10);
    for (seq, acked) in [(1_000, 2_001), (2_000, 1_001)] {
        wire.segment(21_000, (GW, 50_300), (RDSH, 4446), SYN, (seq, 0), 0);
        wire.segment(21_001, (RDSH, 4446), (GW, 50_300), SYN | ACK, (acked, acked), 0);
    }
    let said = audit(&wire);
    assert_eq!(said.rows(GW, RDSH, 4444), ["port-not-in-matrix yes established handshake"]);
    assert_eq!(said.rows(GW, RDSH, 4445), ["port-not-in-matrix yes established handshake"]);
    assert!(said.rows(GW, RDSH, 4446)[0].contains("handshake"));
}

/// Appends a segment with data from each side of a connection that is older than the capture.
fn older(wire: &mut Wire, ms: u64, client: (&str, u16), server: (&str, u16)) {
    wire.segment(ms, client, server, ACK, (500, 900), 60);
    wire.segment(ms + 1, server, client, ACK, (900, 560), 60);
}

#[test]
fn a_syn_turns_no_older_connection_round() {
    let honest = {
        let mut wire = quiet();
        wire.opened(5_400, (GW, 50_004), (BROKER, 20_002), 79);
        older(&mut wire, 9_000, (RDSH, 50_005), (BROKER, 20_003));
        older(&mut wire, 9_010, (RDSH, 50_007), (EVIL, 443));
        wire
    };
    // The servers send a SYN whose sequence number is the one before their next byte, so that the
    // acknowledgements of the session host seem to answer it.
    let mut wire = honest.clone();
    for (server, client) in [((BROKER, 20_003), (RDSH, 50_005)), ((EVIL, 443), (RDSH, 50_007))] {
        wire.segment(9_500, server, client, SYN, (959, 0), 0);
        wire.segment(9_501, client, server, ACK, (560, 960), 0);
        wire.segment(9_502, server, client, ACK, (960, 560), 60);
    }
    let [honest, said] = [audit(&honest), audit(&wire)];
    for (client, server, port) in
        [(BROKER, RDSH, 50_005), (RDSH, BROKER, 20_003), (EVIL, RDSH, 50_007), (RDSH, EVIL, 443)]
    {
        assert_eq!(said.rows(client, server, port), honest.rows(client, server, port), "{port}");
    }
    // A stray SYN-ACK of the server changes nothing of a direction that the ports show.
    let mut accepted = wire.clone();
    accepted.segment(9_600, (EVIL, 443), (RDSH, 50_007), SYN | ACK, (1959, 600), 0);
    let as_accepted = |row: &String| row.replace(" midstream ports", " established syn-ack");
    let rows: Vec<String> = honest.rows(RDSH, EVIL, 443).iter().map(as_accepted).collect();
    assert_eq!(audit(&accepted).rows(RDSH, EVIL, 443), rows);
    assert_eq!(said.rows(RDSH, BROKER, 20_003), ["matrix no midstream matrix direction"]);
    assert_eq!(said.rows(BROKER, RDSH, 50_005), [""; 0]);
    assert_eq!(said.certain(), honest.certain());
    // The honest counterparts: attempts without an answer, and with an answer other than a SYN-ACK,
    // are certain.
    let mut wire = steady();
    wire.segment(9_000, (BROKER, 50_100), (RDSH, 4444), SYN, (500, 0), 0);
    wire.segment(9_100, (BROKER, 50_101), (RDSH, 4445), SYN, (500, 0), 0);
    wire.segment(9_101, (RDSH, 4445), (BROKER, 50_101), RST | ACK, (0, 501), 0);
    wire.segment(9_200, (BROKER, 50_102), (RDSH, 4446), SYN, (500, 0), 0);
    wire.segment(9_201, (RDSH, 4446), (BROKER, 50_102), ACK, (70, 80), 0);
    wire.segment(9_202, (BROKER, 50_102), (RDSH, 4446), RST, (80, 0), 0);
    let said = audit(&wire);
    for (port, state) in [(4444, "unanswered"), (4445, "refused"), (4446, "challenged")] {
        let row = format!("port-not-in-matrix yes {state} syn");
        assert_eq!(said.rows(BROKER, RDSH, port), [row]);
    }
}

/// The first six bytes of a TLS record with a ClientHello, and of one with a ServerHello.
const HELLOS: [&[u8]; 2] = [&[0x16, 3, 1, 0, 42, 1], &[0x16, 3, 3, 0, 42, 2]];

#[test]
fn a_request_alone_turns_no_answered_flow_round() {
    // The session host is the client of two connections that are older than the capture, and of
    // a datagram service. The servers send data that looks like a request.
    let radius = |code: u8| [&[code, 7, 0, 20][..], &[0; 16]].concat();
    let mut wire = quiet();
    wire.opened(5_400, (GW, 50_004), (BROKER, 20_002), 79);
    older(&mut wire, 9_000, (RDSH, 50_005), (BROKER, 20_003));
    older(&mut wire, 9_010, (RDSH, 50_007), (EVIL, 443));
    wire.udp(9_020, (RDSH, 50_008), (BROKER, 4455));
    wire.udp(9_021, (BROKER, 4455), (RDSH, 50_008));
    let honest = audit(&wire);
    wire.data(9_500, (BROKER, 20_003), (RDSH, 50_005), (960, 560), HELLOS[0]);
    wire.data(9_501, (EVIL, 443), (RDSH, 50_007), (960, 560), HELLOS[0]);
    wire.datagram(9_502, (BROKER, 4455), (RDSH, 50_008), &radius(1));
    let said = audit(&wire);
    for (client, server, port) in [
        (RDSH, BROKER, 20_003),
        (BROKER, RDSH, 50_005),
        (RDSH, EVIL, 443),
        (EVIL, RDSH, 50_007),
        (RDSH, BROKER, 4455),
        (BROKER, RDSH, 50_008),
    ] {
        assert_eq!(said.rows(client, server, port), honest.rows(client, server, port), "{port}");
    }
    assert_eq!(said.rows(RDSH, BROKER, 20_003), ["matrix no midstream matrix direction"]);
    assert_eq!(said.certain(), honest.certain());
    // A server that opens the TCP connection and is the server of TLS, as in active FTPS. The
    // capture does not contain the SYN or, at the other port, the SYN-ACK.
    let mut wire = steady();
    for port in [50_000, 50_001] {
        let [server, client] = [(RDSH, 20), (GW, port)];
        match port {
            50_000 => wire.segment(9_000, client, server, SYN | ACK, (70, 11), 0),
            _ => wire.segment(9_000, server, client, SYN, (10, 0), 0),
        }
        wire.segment(9_001, server, client, ACK, (11, 71), 0);
        wire.data(9_002, client, server, (71, 11), HELLOS[0]);
        wire.data(9_003, server, client, (11, 77), HELLOS[1]);
    }
    let said = audit(&wire);
    let rows = said.rows(RDSH, GW, 50_000);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].contains(" no established syn-ack"), "{rows:?}");
    let rows = [said.rows(RDSH, GW, 50_001), said.rows(GW, RDSH, 20)].concat();
    assert!(rows.iter().all(|row| row.contains(" no midstream ")), "{rows:?}");
    // The honest counterparts: requests that are answered in kind, or not at all.
    let mut wire = steady();
    wire.data(9_000, (RDSH, 50_100), (GW, 4444), (500, 900), HELLOS[0]);
    wire.data(9_001, (GW, 4444), (RDSH, 50_100), (900, 506), HELLOS[1]);
    wire.datagram(9_100, (RDSH, 50_101), (GW, 4445), &radius(1));
    wire.datagram(9_101, (GW, 4445), (RDSH, 50_101), &radius(2));
    wire.datagram(9_200, (RDSH, 50_102), (GW, 443), &[0xc3, 0, 0, 0, 1, 8, 1]);
    wire.datagram(9_201, (GW, 443), (RDSH, 50_102), &[0xe3, 0, 0, 0, 1, 8, 1]);
    wire.datagram(9_300, (RDSH, 50_103), (GW, 4446), &radius(1));
    let said = audit(&wire);
    let states = ["midstream", "established", "established", "unanswered"];
    for (port, state) in [4444, 4445, 443, 4446].into_iter().zip(states) {
        let rows = said.rows(RDSH, GW, port);
        assert_eq!(rows.len(), 1, "{port}: {rows:?}");
        assert!(rows[0].ends_with(&format!(" yes {state} protocol")), "{port}: {rows:?}");
    }
}

#[test]
fn both_sides_may_have_opened_a_flow_and_both_are_told() {
    let mut wire = steady();
    wire.opened(9_000, (RDSH, 30_004), (BROKER, 4455), 1_000);
    wire.opened(20_000, (BROKER, 4455), (RDSH, 30_004), 9_000);
    let said = audit(&wire);
    assert_eq!(said.rows(RDSH, BROKER, 4455), ["port-not-in-matrix yes established handshake"]);
    assert_eq!(said.rows(BROKER, RDSH, 30_004), ["matrix yes established handshake"]);
    // A simultaneous open (RFC 9293, 3.5) leads to an established connection, whose client is a
    // guess.
    let mut wire = steady();
    for (a, b, isn) in [((RDSH, 30_004), (BROKER, 4455), 50), ((BROKER, 4455), (RDSH, 30_004), 90)]
    {
        wire.segment(9_000, a, b, SYN, (isn, 0), 0);
        wire.segment(9_001, a, b, SYN | ACK, (isn, 140 - isn + 1), 0);
    }
    let said = audit(&wire);
    let rows = [said.rows(RDSH, BROKER, 4455), said.rows(BROKER, RDSH, 30_004)].concat();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].contains(" no established ") && rows[0].ends_with("direction"), "{rows:?}");
    // A SYN from the server with the sequence number of its SYN-ACK does not turn a handshake into
    // a simultaneous open, but the handshake proves nothing any more.
    let mut wire = steady();
    wire.opened(9_000, (RDSH, 40_111), (MFA, 60_111), 1_000);
    let own = wire.0.iter().rev().find(|(_, frame)| frame[47] == SYN | ACK).expect("a SYN-ACK");
    let own = u32::from_be_bytes(own.1[38..42].try_into().expect("four bytes"));
    wire.segment(9_500, (MFA, 60_111), (RDSH, 40_111), SYN, (own, 0), 0);
    let said = audit(&wire);
    assert_eq!(said.rows(RDSH, MFA, 60_111), ["no-relation no established syn-ack direction"]);
    assert_eq!(said.rows(MFA, RDSH, 40_111), [""; 0]);
    // The same holds after SYNs with other sequence numbers that another machine sent from the
    // client's address and port.
    for number in 1..=6 {
        wire.segment(8_000 + u64::from(number), (RDSH, 40_111), (MFA, 60_111), SYN, (number, 0), 0);
        let last = wire.0.len() - 1;
        wire.sent_by(last, 9, 40);
    }
    let rows = audit(&wire).rows(RDSH, MFA, 60_111);
    assert_eq!(rows, ["no-relation no established syn-ack direction;spoof"]);
}

// Tests of states.

#[test]
fn states_go_by_numbers_and_not_by_clocks() {
    let mut wire = steady();
    // A refused attempt, two established connections, and a half-open connection that the client
    // resets after 4.5 s.
    wire.segment(9_000, (BROKER, 50_100), (RDSH, 30_004), SYN, (500, 0), 0);
    wire.segment(9_001, (RDSH, 30_004), (BROKER, 50_100), RST | ACK, (0, 501), 0);
    wire.opened(10_000, (RDSH, 50_200), (BROKER, 20_003), 600);
    wire.opened(12_000, (GW, 50_300), (BROKER, 20_002), 700);
    wire.segment(13_000, (GW, 50_301), (RDSH, 3389), SYN, (800, 0), 0);
    wire.segment(13_001, (RDSH, 3389), (GW, 50_301), SYN | ACK, (900, 801), 0);
    wire.segment(17_500, (GW, 50_301), (RDSH, 3389), RST, (801, 0), 0);
    let honest = audit(&wire);
    assert_eq!(honest.rows(BROKER, RDSH, 30_004), ["matrix yes refused syn"]);
    assert_eq!(honest.found("refused", BROKER, RDSH), ["yes medium"]);
    assert_eq!(honest.rows(GW, RDSH, 3389), ["matrix yes half-open handshake"]);
    // Each direction is in its own file, and the clocks of the two files differ.
    let forth = |frame: &[u8]| frame[26..30] < frame[30..34];
    for shift in [3_000, 3_600_000] {
        let split = |wanted: bool, late: u64| {
            let mine = wire.0.iter().filter(|(_, frame)| forth(frame) == wanted);
            Wire(mine.map(|(ms, frame)| (ms + late, frame.clone())).collect()).file()
        };
        for (a, b) in [(shift, 0), (0, shift)] {
            let said = audit_files(&[split(true, a), split(false, b)], &plain());
            let told = |said: &Said| -> Vec<String> {
                let tcp = said.conversations.iter().filter(|row| row[2].len() > 2);
                tcp.map(|r| [0, 1, 2, 3, 4, 6, 7].map(|at| r[at].clone()).join(" ")).collect()
            };
            assert_eq!(told(&said), told(&honest), "{shift}");
        }
    }
}

#[test]
fn an_attempt_that_is_challenged_has_failed() {
    let challenge = |wire: &mut Wire, acked: u32, reset: bool| {
        for later in [0, 1000, 3000] {
            wire.segment(9_000 + later, (GW, 50_100), (BROKER, 20_002), SYN, (500, 0), 0);
            wire.segment(9_001 + later, (BROKER, 20_002), (GW, 50_100), ACK, (9_000, acked), 0);
            if reset {
                wire.segment(9_002 + later, (GW, 50_100), (BROKER, 20_002), RST, (acked, 0), 0);
            }
        }
    };
    for reset in [true, false] {
        let mut wire = quiet();
        challenge(&mut wire, 77_777, reset);
        let said = audit(&wire);
        assert_eq!(said.rows(GW, BROKER, 20_002), ["matrix yes challenged syn"]);
        assert_eq!(said.found("challenged", GW, BROKER), ["yes high"]);
    }
    // An ACK that acknowledges the SYN is not a challenge. Only the SYN-ACK is missing from the
    // capture.
    let mut wire = quiet();
    challenge(&mut wire, 501, false);
    assert_eq!(audit(&wire).found("challenged", GW, BROKER), [""; 0]);
    // If both sides sent data, a late SYN-ACK does not make the connection half-open.
    let mut wire = quiet();
    wire.segment(9_000, (GW, 50_100), (BROKER, 20_002), ACK, (5, 5), 100);
    wire.segment(9_001, (BROKER, 20_002), (GW, 50_100), ACK, (5, 105), 100);
    wire.segment(9_500, (BROKER, 20_002), (GW, 50_100), SYN | ACK, (70_000, 9), 0);
    assert!(audit(&wire).rows(GW, BROKER, 20_002)[0].contains(" established "));
    // A server sends data only after the handshake, so the capture lacks packets of the client.
    let mut wire = quiet();
    wire.segment(9_000, (GW, 50_100), (BROKER, 20_002), SYN, (5, 0), 0);
    wire.segment(9_001, (BROKER, 20_002), (GW, 50_100), SYN | ACK, (9, 6), 0);
    assert!(audit(&wire).rows(GW, BROKER, 20_002)[0].contains(" half-open "));
    wire.segment(9_100, (BROKER, 20_002), (GW, 50_100), ACK, (10, 6), 300);
    assert!(audit(&wire).rows(GW, BROKER, 20_002)[0].contains(" established "));
}

// Tests of services.

#[test]
fn a_proven_service_is_a_guess_about_other_flows() {
    // The domain controller sends to a dynamic port of the broker from port 49200, on which it also
    // serves clients.
    let mut wire = steady();
    wire.opened(9_000, (RDSH, 50_100), (DC, 49_200), 5);
    wire.segment(10_000, (DC, 49_200), (BROKER, 50_500), ACK, (5, 5), 100);
    wire.segment(10_001, (BROKER, 50_500), (DC, 49_200), ACK, (5, 105), 100);
    let said = audit(&wire);
    let rows = said.rows(BROKER, DC, 49_200);
    assert!(rows[0].contains(" midstream service"), "{rows:?}");
    // The honest counterpart: a connection to a service is judged normally even if it is older than
    // the capture, and its row counts as seen.
    let mut wire = quiet();
    wire.opened(9_000, (RDSH, 50_100), (BROKER, 20_003), 5);
    wire.segment(10_000, (GW, 50_500), (BROKER, 20_002), ACK, (5, 5), 100);
    wire.segment(10_001, (BROKER, 20_002), (GW, 50_500), ACK, (5, 105), 100);
    let said = audit(&wire);
    assert_eq!(said.found("never-attempted", GW, BROKER), [""; 0]);
    assert_eq!(said.certain(), [""; 0]);
}

// Tests of tunnels.

#[test]
fn what_is_in_a_tunnel_that_nobody_stated_accuses_nobody_for_certain() {
    let mut wire = steady();
    let first = wire.0.len();
    wire.opened(9_000, (RDSH, 50_100), (BROKER, 4444), 5);
    wire.tunnel(first, EVIL, "10.9.0.5");
    let said = audit(&wire);
    assert_eq!(
        said.rows(RDSH, BROKER, 4444),
        ["port-not-in-matrix no established handshake tunnel"]
    );
    // The tunnel itself is reported.
    assert_eq!(said.rows(EVIL, "10.9.0.5", 4789).len(), 1);
    assert_eq!(said.certain().len(), 1, "{:?}", said.certain());
    assert!(said.certain()[0].ends_with("4789"), "{:?}", said.certain());
    // The honest counterpart: the contents of an overlay that the inventory declares are trusted,
    // and the endpoints of its tunnel are judged.
    let stated = "tunnels = [{ ends = [\"203.0.113.0/24\", \"10.9.0.0/24\"], kind = \"vxlan\", use = \"overlay\" }]";
    let said = audit_with(&wire, &farm("", stated));
    assert_eq!(said.rows(RDSH, BROKER, 4444), ["port-not-in-matrix yes established handshake"]);
    assert_eq!(said.rows(EVIL, "10.9.0.5", 4789).len(), 1);
    // The endpoints of a mirror tunnel are not judged.
    let said = audit_with(&wire, &farm("", &stated.replace("overlay", "mirror")));
    assert_eq!(said.rows(RDSH, BROKER, 4444), ["port-not-in-matrix yes established handshake"]);
    assert_eq!(said.rows(EVIL, "10.9.0.5", 4789), [""; 0]);
}

#[test]
fn a_tunnel_hides_no_traffic_and_no_failure() {
    // A session host sends data to an outside host in a tunnel whose inner headers look harmless.
    let mut wire = steady();
    let first = wire.0.len();
    wire.opened(9_000, (GW, 50_100), (BROKER, 20_002), 5);
    wire.tunnel(first, RDSH, EVIL);
    assert_eq!(audit(&wire).found("unknown-host", RDSH, EVIL).len(), 1);
    // Tunnelled connections do not hide failures and absences that plain traffic shows.
    let mut wire = quiet();
    wire.knock(20_000, (RDSH, 50_100), (BROKER, 20_003));
    let missing = |said: &Said| {
        [said.found("unanswered", RDSH, BROKER), said.found("never-attempted", GW, BROKER)]
    };
    assert_eq!(missing(&audit(&wire)), [["yes high"], ["yes medium"]]);
    let first = wire.0.len();
    wire.opened(30_000, (RDSH, 50_100), (BROKER, 20_003), 5);
    wire.opened(31_000, (GW, 50_200), (BROKER, 20_002), 6);
    wire.tunnel(first, EVIL, "10.9.0.5");
    assert_eq!(missing(&audit(&wire)), [["yes high"], ["no medium tunnel"]]);
}

#[test]
fn a_mirror_is_believed_where_it_carries_nothing_but_mirrored_frames() {
    // The capture contains only tunnel packets, in one direction and to one destination, so the
    // tunnel is taken for a mirror.
    let mut wire = steady();
    wire.opened(9_000, (RDSH, 50_100), (BROKER, 4444), 5);
    wire.tunnel(0, "192.0.2.1", "192.0.2.9");
    let row = |said: &Said| said.rows(RDSH, BROKER, 4444);
    let said = audit(&wire);
    assert_eq!(row(&said), ["port-not-in-matrix yes established handshake"]);
    assert_eq!(said.rows("192.0.2.1", "192.0.2.9", 4789), [""; 0]);
    // With farm traffic outside the tunnel, a second destination, or an endpoint in the farm, the
    // tunnel is not taken for a mirror.
    let mut open = wire.clone();
    open.udp(9_500, (GW, 50_000), (BROKER, 9));
    let mut two = wire.clone();
    let first = two.0.len();
    two.udp(9_500, (GW, 50_000), (BROKER, 9));
    two.tunnel(first, "192.0.2.9", "192.0.2.1");
    let mut ours = steady();
    ours.opened(9_000, (RDSH, 50_100), (BROKER, 4444), 5);
    ours.tunnel(0, "192.0.2.1", "10.9.0.5");
    for wire in [open, two, ours] {
        assert!(row(&audit(&wire))[0].contains(" no "), "{:?}", row(&audit(&wire)));
    }
    // The contents of a tunnel in the mirrored network are not trusted just because they are
    // mirrored.
    let mut nested = steady();
    let first = nested.0.len();
    nested.opened(9_000, (RDSH, 50_100), (BROKER, 4444), 5);
    nested.tunnel(first, EVIL, "10.9.0.5");
    nested.tunnel(0, "192.0.2.1", "192.0.2.9");
    let said = audit(&nested);
    assert_eq!(row(&said), ["port-not-in-matrix no established handshake tunnel"]);
    assert_eq!(said.rows(GW, BROKER, 20_002), ["matrix yes established handshake"]);
}

/// Returns a pcapng file with an interface for each capture.
fn interfaces(captures: &[&Wire]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let body = [body, &vec![0; body.len().next_multiple_of(4) - body.len()]].concat();
        let length = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, &body, &length].concat()
    };
    let words = |all: &[u32]| all.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let mut bytes = block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]));
    captures.iter().for_each(|_| bytes.extend(block(1, &words(&[1, 65_535]))));
    for (number, wire) in captures.iter().enumerate() {
        for (ms, frame) in &wire.0 {
            let time = (1_780_000_000_000 + ms) * 1000;
            let length = frame.len() as u32;
            let head = [number as u32, (time >> 32) as u32, time as u32, length, length];
            bytes.extend(block(6, &[&words(&head)[..], frame].concat()));
        }
    }
    bytes
}

/// Returns the conversations of an audit of a capture, and those of an audit of its complete store.
fn with_complete_store(file: &[u8]) -> [String; 2] {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name).display().to_string();
    let [capture, inventory] = [at("capture.pcapng"), at("farm.toml")];
    let [store, complete] = [at("store"), at("complete")];
    fs::write(&capture, file).expect("writable");
    fs::write(&inventory, plain()).expect("writable");
    let run = |arguments: &[&str]| {
        let run =
            std::process::Command::new(env!("CARGO_BIN_EXE_rasaudit")).args(arguments).output();
        let run = run.expect("the program runs");
        assert!(run.status.code().is_some_and(|c| c < 2), "{}", support::stderr(&run));
        support::stdout(&run)
    };
    run(&["collect", &capture, "-i", &inventory, "--to", &store, "--traces", "--pieces"]);
    run(&["merge", &store, "--to", &complete, "--complete"]);
    [&capture, &complete]
        .map(|input| run(&["audit", input, "-i", &inventory, "--format", "conversations"]))
}

#[test]
fn a_host_that_imitates_a_mirror_is_not_believed() {
    let row = |said: &Said| said.rows(RDSH, BROKER, 4444);
    let forged = |to: &str| {
        let mut wire = Wire::default();
        wire.opened(9_000, (RDSH, 50_100), (BROKER, 4444), 5);
        wire.tunnel(0, EVIL, to);
        wire
    };
    let mut mirror = steady();
    mirror.tunnel(0, "192.0.2.1", "192.0.2.9");
    // The host sends its packets to the sensor to which the mirror leads, or to another interface
    // of the sensor, next to a span port or a mirror.
    let both = Wire([mirror.0.clone(), forged("192.0.2.9").0].concat());
    let files = [
        both.file(),
        interfaces(&[&mirror, &forged("192.0.2.9")]),
        interfaces(&[&mirror, &forged("192.0.2.10")]),
        interfaces(&[&steady(), &forged("192.0.2.10")]),
    ];
    for (number, file) in files.into_iter().enumerate() {
        let said = audit_files(&[file], &plain());
        let forged = "port-not-in-matrix no established handshake tunnel";
        assert_eq!(row(&said), [forged], "{number}");
        assert_eq!(said.certain().iter().filter(|c| c.contains(RDSH)).count(), 0, "{number}");
        // The tunnel itself is reported.
        assert!(
            said.conversations.iter().any(|row| row[0] == EVIL && row[2] == "4789"),
            "{number}"
        );
    }
    // The honest counterpart: a capture with the mirror alone, whatever interface it arrives on,
    // and a mirror that the inventory lists, next to the forged packets.
    let mut with_finding = steady();
    with_finding.opened(9_000, (RDSH, 50_100), (BROKER, 4444), 5);
    with_finding.tunnel(0, "192.0.2.1", "192.0.2.9");
    let certain = ["port-not-in-matrix yes established handshake"];
    let said = audit_files(&[interfaces(&[&Wire::default(), &with_finding])], &plain());
    assert_eq!(row(&said), certain);
    // On two interfaces, each packet counts once.
    let said = audit_files(&[interfaces(&[&with_finding, &with_finding])], &plain());
    assert_eq!(row(&said), certain);
    let packets = said.conversations.iter().find(|row| row[2] == "4444").map(|row| &row[11]);
    assert_eq!(packets.map(String::as_str), Some("3"));
    let [direct, complete] = with_complete_store(&interfaces(&[&with_finding, &with_finding]));
    assert_eq!(direct, complete);
    let both = Wire([with_finding.0, forged("192.0.2.9").0].concat());
    let listed = "tunnels = [{ ends = [\"192.0.2.0/24\"], kind = \"vxlan\", use = \"mirror\" }]";
    let said = audit_with(&both, &farm("", listed));
    assert!(row(&said).contains(&certain[0].to_owned()), "{:?}", row(&said));
}

// Tests of ICMP errors.

/// Appends an ICMP error about the last packet, and removes that packet from the capture if
/// `unseen`.
fn error(wire: &mut Wire, by: &str, to: &str, code: u8, unseen: bool) {
    let (ms, frame) = wire.0.last().expect("a frame").clone();
    if unseen {
        wire.0.pop();
    }
    let quoted = &frame[14..frame.len().min(42)];
    wire.ip(ms + 1, by, to, 1, &[&[3, code, 0, 0, 0, 0, 0, 0], quoted].concat());
}

#[test]
fn an_icmp_error_counts_only_about_a_packet_that_was_seen() {
    let mut wire = steady();
    wire.segment(9_000, (RDSH, 50_100), (BROKER, 4444), SYN, (5, 0), 0);
    error(&mut wire, EVIL, RDSH, 13, true);
    let said = audit(&wire);
    let rows = said.rows(RDSH, BROKER, 4444);
    assert!(rows.is_empty() || rows[0].ends_with("quoted"), "{rows:?}");
    assert_eq!(said.found("port-not-in-matrix", RDSH, BROKER), [""; 0]);
    // The honest counterpart: a firewall rejects a packet that it received, as the sequence number
    // of the attempt shows.
    let mut wire = steady();
    wire.segment(9_000, (BROKER, 50_100), (RDSH, 30_004), SYN, (5, 0), 0);
    error(&mut wire, "10.1.0.254", BROKER, 13, false);
    assert_eq!(audit(&wire).found("rejected", BROKER, RDSH), ["yes medium"]);
    // If the quoted SYN has another sequence number, the sender of the error did not see the
    // attempt.
    let mut wire = steady();
    wire.segment(9_000, (BROKER, 50_100), (RDSH, 30_004), SYN, (5, 0), 0);
    let frame = wire.0.last().expect("a frame").clone();
    wire.segment(9_000, (BROKER, 50_100), (RDSH, 30_004), SYN, (6, 0), 0);
    error(&mut wire, EVIL, BROKER, 13, true);
    wire.0.push(frame);
    assert_eq!(audit(&wire).found("rejected", BROKER, RDSH), [""; 0]);
}

#[test]
fn of_datagrams_the_server_alone_refuses_and_others_are_not_certain() {
    let mut wire = steady();
    wire.udp(9_000, (BROKER, 50_100), (MFA, 1812));
    error(&mut wire, MFA, BROKER, 3, false);
    assert_eq!(audit(&wire).found("refused", BROKER, MFA), ["yes medium"]);
    let mut wire = steady();
    wire.udp(9_000, (BROKER, 50_100), (MFA, 1812));
    error(&mut wire, EVIL, BROKER, 3, false);
    assert_eq!(audit(&wire).found("rejected", BROKER, MFA), ["no medium quoted"]);
    // Errors of many other senders do not displace that of the server.
    let mut wire = steady();
    wire.udp(9_000, (BROKER, 50_100), (MFA, 1812));
    let (_, frame) = wire.0.last().expect("a frame").clone();
    error(&mut wire, MFA, BROKER, 3, false);
    for last in 1..=20 {
        let error = [&[3, 3, 0, 0, 0, 0, 0, 0], &frame[14..42]].concat();
        wire.ip(9_010, &format!("10.0.0.{last}"), BROKER, 1, &error);
    }
    assert_eq!(audit(&wire).found("refused", BROKER, MFA), ["yes medium"]);
}

#[test]
fn an_old_refusal_of_datagrams_is_not_the_last_state() {
    let of = |refused: std::ops::Range<u64>, answered: std::ops::Range<u64>| {
        let mut wire = steady();
        for second in (10..110).step_by(5) {
            let request = [&[1, second as u8, 0, 20][..], &[0; 16]].concat();
            wire.datagram(second * 1000, (BROKER, 50_100), (MFA, 1812), &request);
            if refused.contains(&second) {
                error(&mut wire, MFA, BROKER, 3, false);
            }
            if answered.contains(&second) {
                let reply = [&[2, second as u8, 0, 20][..], &[0; 16]].concat();
                wire.datagram(second * 1000 + 2, (MFA, 1812), (BROKER, 50_100), &reply);
            }
        }
        let said = audit(&wire);
        ["refused", "unanswered"].map(|code| said.found(code, BROKER, MFA).join(","))
    };
    assert_eq!(of(10..110, 0..0), ["yes medium", ""]);
    // A service that starts refuses the first datagrams.
    assert_eq!(of(10..30, 30..110), ["", ""]);
    // This service does not answer, which is another failure.
    assert_eq!(of(10..30, 0..0), ["", "yes medium"]);
    // The service stops.
    assert_eq!(of(60..110, 10..60), ["yes medium", ""]);
    // After the service started, a router reports an expired packet. Only the time of the last
    // error is known.
    let mut wire = steady();
    for second in (10..110).step_by(5) {
        let request = [&[1, second as u8, 0, 20][..], &[0; 16]].concat();
        wire.datagram(second * 1000, (BROKER, 50_100), (MFA, 1812), &request);
        let (_, frame) = wire.0.last().expect("a frame").clone();
        match second {
            10..30 => error(&mut wire, MFA, BROKER, 3, false),
            30..105 => {
                let reply = [&[2, second as u8, 0, 20][..], &[0; 16]].concat();
                wire.datagram(second * 1000 + 2, (MFA, 1812), (BROKER, 50_100), &reply);
            }
            _ => {
                let expired = [&[11, 0, 0, 0, 0, 0, 0, 0], &frame[14..42]].concat();
                wire.ip(second * 1000 + 2, "10.1.0.254", BROKER, 1, &expired);
            }
        }
    }
    assert_eq!(audit(&wire).found("refused", BROKER, MFA), [""; 0]);
}

#[test]
fn a_low_source_port_accuses_nobody_for_certain() {
    // A host of the office sends from the port of a service to a host of the farm, which replies.
    let of = |from: u16, to: u16, first: &str| {
        let mut wire = steady();
        let ends = [("10.9.0.5", from), (BROKER, to)];
        let [one, two] = if first == BROKER { [ends[1], ends[0]] } else { ends };
        wire.udp(20_000, one, two);
        wire.udp(20_500, two, one);
        audit(&wire).certain().iter().any(|c| c.contains(&format!("{BROKER}>10.9.0.5")))
    };
    assert!(!of(443, 50_001, "10.9.0.5"));
    // The broker is the client if it sends the first packet.
    assert!(of(443, 50_001, BROKER));
    // The ports do not turn a violation into a documented flow: the matrix documents the port from
    // which a host sends, but in the opposite direction.
    for answers in [0, 1] {
        let mut wire = steady();
        for number in 0..5 {
            wire.udp(20_000 + number * 1000, (RDSH, 3389), (GW, 1194));
            for _ in 0..answers {
                wire.udp(20_001 + number * 1000, (GW, 1194), (RDSH, 3389));
            }
        }
        let said = audit(&wire);
        assert_eq!(said.rows(GW, RDSH, 3389), [""; 0], "{answers}");
        assert!(said.rows(RDSH, GW, 1194)[0].contains(" first"), "{:?}", said.conversations);
    }
    // A capture that begins in the middle of a connection shows only its ports. Some devices use
    // low ports for clients, and RPC and SQL use dynamic ports for servers.
    let midstream = |port: u16| {
        let mut wire = steady();
        wire.segment(9_000, (BROKER, 50_100), ("10.9.0.5", port), ACK, (5, 5), 100);
        wire.segment(9_001, ("10.9.0.5", port), (BROKER, 50_100), ACK, (5, 105), 100);
        audit(&wire).certain().iter().any(|c| c.contains(&format!("{BROKER}>10.9.0.5")))
    };
    assert!(midstream(22) && !midstream(12_345));
    // A service that another connection proves is no proof about an older connection whose ports
    // are those of the opposite direction.
    let older = |port: u16| {
        let mut wire = steady();
        wire.segment(9_000, (BROKER, port), ("10.9.0.5", 49_700), ACK, (5, 5), 100);
        wire.segment(9_001, ("10.9.0.5", 49_700), (BROKER, port), ACK, (5, 105), 100);
        wire.opened(20_000, (RDSH, 50_300), ("10.9.0.5", 49_700), 7);
        audit(&wire).certain().iter().any(|c| c.contains(&format!("{BROKER}>10.9.0.5")))
    };
    assert!(older(50_100) && !older(445));
    // A capture of one direction of such a connection shows what its server sent.
    let mut wire = steady();
    wire.segment(9_000, (BROKER, 389), (RDSH, 1_055), ACK, (5, 5), 100);
    wire.udp(9_100, (BROKER, 389), (RDSH, 1_055));
    assert_eq!(audit(&wire).certain(), [""; 0]);
}

#[test]
fn an_error_about_an_answer_turns_no_direction_round() {
    let [_, answer] = dns(9, &["a.example"], "10.1.0.1");
    let radius = [&[2, 7, 0, 20][..], &[0; 16]].concat();
    for (server, port, payload) in
        [(DC, 53, &answer), (DC, 88, &vec![0x6b, 3, 1, 2, 3]), (MFA, 1812, &radius)]
    {
        for unseen in [false, true] {
            let mut wire = steady();
            wire.datagram(9_000, (server, port), (BROKER, 52_000), payload);
            error(&mut wire, BROKER, server, 3, unseen);
            let said = audit(&wire);
            assert_eq!(said.certain(), [""; 0], "{port} {unseen}");
            assert_eq!(said.rows(server, BROKER, 52_000), [""; 0], "{port} {unseen}");
        }
    }
    // A late answer to a search also finds a closed socket.
    for searches in [false, true] {
        let mut wire = steady();
        if searches {
            wire.udp(9_000, ("10.9.0.5", 50_541), ("239.255.255.250", 3702));
        }
        wire.udp(12_200, (BROKER, 50_001), ("10.9.0.5", 50_541));
        error(&mut wire, "10.9.0.5", BROKER, 3, false);
        let accused = audit(&wire).certain().iter().any(|c| c.contains(&format!("{BROKER}>")));
        assert_eq!(accused, !searches);
    }
}

/// Appends an ICMP error that quotes a SYN with this sequence number, whether or not the capture
/// contains that SYN.
fn quote(wire: &mut Wire, ms: u64, by: &str, from: (&str, u16), to: (&str, u16), number: u32) {
    let mut quoted = Wire::default();
    quoted.segment(0, from, to, SYN, (number, 0), 0);
    let body = [&[3, 13, 0, 0, 0, 0, 0, 0][..], &quoted.0[0].1[14..42]].concat();
    wire.ip(ms, by, from.0, 1, &body);
}

#[test]
fn what_is_made_up_changes_nothing_of_what_plain_flows_say() {
    // For a connection that is older than the capture, only the direction is in doubt.
    let plain_flow = || {
        let mut wire = quiet();
        wire.opened(5_400, (GW, 50_004), (BROKER, 20_002), 79);
        for ms in (1_000..110_000).step_by(5_000) {
            wire.segment(ms, (RDSH, 50_005), (BROKER, 20_003), ACK, (5, 5), 100);
            wire.segment(ms + 1, (BROKER, 20_003), (RDSH, 50_005), ACK, (5, 105), 100);
        }
        wire
    };
    let honest = audit(&plain_flow());
    let rows = honest.rows(RDSH, BROKER, 20_003);
    assert_eq!(honest.found("never-attempted", RDSH, BROKER), [""; 0]);
    let mut quoted = plain_flow();
    quote(&mut quoted, 60_000, EVIL, (RDSH, 50_099), (BROKER, 20_003), 7);
    let mut tunnelled = plain_flow();
    tunnelled.segment(60_000, (RDSH, 50_099), (BROKER, 20_003), SYN, (7, 0), 0);
    tunnelled.tunnel(tunnelled.0.len() - 1, EVIL, "10.9.0.5");
    for wire in [quoted, tunnelled] {
        let said = audit(&wire);
        assert_eq!(said.rows(RDSH, BROKER, 20_003), rows);
        assert_eq!(said.found("never-attempted", RDSH, BROKER), [""; 0]);
    }
    // A host cannot remove a finding by sending an ICMP error that quotes its own packet.
    let mut wire = steady();
    for ms in [60_000, 70_000] {
        wire.segment(ms, (RDSH, 50_005), (MFA, 445), ACK, (5, 5), 100);
        wire.segment(ms + 1, (MFA, 445), (RDSH, 50_005), ACK, (5, 105), 100);
    }
    let found = audit(&wire).found("no-relation", RDSH, MFA);
    assert_eq!(found.len(), 1);
    quote(&mut wire, 80_000, RDSH, (RDSH, 50_099), (MFA, 445), 7);
    assert_eq!(audit(&wire).found("no-relation", RDSH, MFA), found);
    // An ICMP error from the sender of the quoted packet is not a refusal.
    let mut wire = steady();
    wire.knock(20_000, (BROKER, 50_100), (RDSH, 30_004));
    let number =
        u32::from_be_bytes(wire.0.last().expect("a SYN").1[38..42].try_into().expect("four"));
    let silent = audit(&wire).rows(BROKER, RDSH, 30_004);
    quote(&mut wire, 21_000, BROKER, (BROKER, 50_100), (RDSH, 30_004), number);
    assert_eq!(audit(&wire).rows(BROKER, RDSH, 30_004), silent);
}

// Tests of names and announcements.

#[test]
fn a_name_needs_a_resolver_that_is_a_witness() {
    let name = "ras.parallels.com";
    let case = |resolver: &str, askers: &[&str]| {
        let mut wire = steady();
        for (number, asker) in askers.iter().enumerate() {
            wire.lookup(8_000 + number as u64 * 10, asker, resolver, &[name], EVIL);
        }
        let hello = support::wire::client_hello(name, false, 0);
        wire.start(9_000, (BROKER, 50_100), (EVIL, 443), &hello, 2000);
        wire
    };
    let certain = |wire: &Wire, inventory: &str| {
        audit_with(wire, inventory).rows(BROKER, EVIL, 443)[0].starts_with("matrix yes")
    };
    // The only witness of the name is the attacker's own resolver.
    assert!(!certain(&case(EVIL, &[BROKER]), &plain()));
    // The honest counterparts: a domain controller, a resolver that the inventory lists, and a
    // resolver that several hosts of the farm use.
    assert!(certain(&case(DC, &[BROKER]), &plain()));
    let outside = "9.9.9.9";
    assert!(!certain(&case(outside, &[BROKER]), &plain()));
    assert!(certain(&case(outside, &[BROKER]), &farm("resolvers = [\"9.9.9.9\"]", "")));
    assert!(certain(&case(outside, &[BROKER, GW, RDSH]), &plain()));
    // An answer to another client does not count for this one.
    assert!(!certain(&case(DC, &[GW]), &plain()));
    // Neither does an answer in an undeclared tunnel.
    let mut wire = steady();
    let first = wire.0.len();
    wire.lookup(8_000, BROKER, DC, &[name], EVIL);
    wire.tunnel(first, EVIL, "10.9.0.5");
    let hello = support::wire::client_hello(name, false, 0);
    wire.start(9_000, (BROKER, 50_100), (EVIL, 443), &hello, 2000);
    assert!(!certain(&wire, &plain()));
}

// Tests of address conflicts and loopback addresses.

#[test]
fn an_address_conflict_needs_both_at_once_and_again() {
    let conflict = |claims: &[(u64, u8)], inventory: &str, vlan: bool| {
        let mut wire = steady();
        for (number, (ms, mac)) in claims.iter().enumerate() {
            wire.claim(*ms, BROKER, *mac);
            if vlan && number % 2 == 1 {
                let (_, frame) = wire.0.last_mut().expect("a frame");
                frame.splice(12..12, [0x81, 0, 0, 99]);
            }
        }
        let said = audit_with(&wire, inventory);
        said.found("address-conflict", BROKER, BROKER)
    };
    let both = [(1_000, 7), (2_000, 8), (31_000, 7), (32_000, 8), (61_000, 7), (62_000, 8)];
    assert_eq!(conflict(&both, &plain(), false), ["yes high"]);
    // If the claims coincide only twice, the address may have been taken over and returned.
    assert_eq!(conflict(&both[..4], &plain(), false), ["no medium coverage"]);
    // Claims that never coincide are a conflict if they change many times.
    let in_turn = |count: u64| -> Vec<(u64, u8)> {
        (0..count).map(|claim| (1_000 + claim * 13_000, 7 + (claim % 2) as u8)).collect()
    };
    assert_eq!(conflict(&in_turn(20), &plain(), false), ["yes high"]);
    assert_eq!(conflict(&in_turn(8), &plain(), false), ["no medium coverage"]);
    assert_eq!(conflict(&in_turn(4), &plain(), false), [""; 0]);
    // There is no conflict if the claims are in two VLANs, if they coincide in only one ten-second
    // interval, or if one card replaces the other.
    assert_eq!(conflict(&both, &plain(), true), [""; 0]);
    assert_eq!(conflict(&both[..3], &plain(), false), [""; 0]);
    assert_eq!(
        conflict(&[(1_000, 7), (11_000, 7), (41_000, 8), (51_000, 8)], &plain(), false),
        [""; 0]
    );
    // A second card replaces the first, and a third replaces the second. The claims of each pair
    // coincide only once.
    let moves = [(1_000, 7), (2_000, 8), (11_000, 8), (12_000, 9), (21_000, 9)];
    assert_eq!(conflict(&moves, &plain(), false), [""; 0]);
    // There is no conflict if the inventory lists both MAC addresses for the broker, or a gateway
    // that answers ARP requests for it.
    let macs = plain().replace(
        "name = \"broker1\"\n",
        "name = \"broker1\"\nmacs = [\"02:00:00:00:00:07\", \"02:00:00:00:00:08\"]\n",
    );
    assert_eq!(conflict(&both, &macs, false), [""; 0]);
    let proxy = plain().replace(
        "name = \"gw1\"\n",
        "name = \"gw1\"\nmacs = [\"02:00:00:00:00:08\"]\nanswers-arp-for = [\"10.1.0.0/24\"]\n",
    );
    assert_eq!(conflict(&both, &proxy, false), [""; 0]);
    // A VRRP advertisement of the address by an unlisted host does not hide the conflict.
    let mut wire = steady();
    both.iter().for_each(|(ms, mac)| wire.claim(*ms, BROKER, *mac));
    let vrrp = [0x31, 51, 150, 1, 0, 100, 0, 0, 10, 1, 0, 10];
    wire.ip(3_000, EVIL, "224.0.0.18", 112, &vrrp);
    assert_eq!(audit(&wire).found("address-conflict", BROKER, BROKER), ["yes high"]);
    // The same advertisement from a host of the farm makes the conflict uncertain.
    wire.ip(3_000, GW, "224.0.0.18", 112, &vrrp);
    assert_eq!(audit(&wire).found("address-conflict", BROKER, BROKER), ["no medium coverage"]);
}

#[test]
fn an_address_conflict_needs_two_hosts() {
    let both = [(1_000, 7), (2_000, 8), (31_000, 7), (32_000, 8), (61_000, 7), (62_000, 8)];
    let conflict = |others: &[(&str, u8)], inventory: &str| {
        let mut wire = steady();
        for (ms, mac) in both {
            wire.claim(ms, BROKER, mac);
            let others = others.iter().filter(|other| other.1 == mac);
            others.for_each(|(address, mac)| wire.claim(ms + 100, address, *mac));
        }
        audit_with(&wire, inventory).found("address-conflict", BROKER, BROKER)
    };
    // A host with two cards in one network answers on both of them for both of its addresses.
    let two = plain()
        .replace("addresses = [\"10.1.0.10\"]", "addresses = [\"10.1.0.10\", \"10.1.0.11\"]");
    let cards = [("10.1.0.11", 7), ("10.1.0.11", 8)];
    assert_eq!(conflict(&cards, &two), ["no medium coverage"; 2]);
    // If a card claims only the contested address, it may belong to another host.
    assert_eq!(conflict(&cards[..1], &two), ["yes high"]);
    assert_eq!(conflict(&cards, &plain()), ["yes high"]);
    // A router may answer for the hosts of another network.
    let proxied = ["10.9.0.5", "10.8.0.6", "10.7.0.7"].map(|address| (address, 8));
    assert_eq!(conflict(&proxied, &plain()), ["no medium coverage"]);
    assert_eq!(conflict(&proxied[..1], &plain()), ["yes high"]);
    // A host with several addresses of its own is not a router.
    let own = ["10.9.0.5", "10.9.0.6", "10.9.0.7"].map(|address| (address, 8));
    assert_eq!(conflict(&own, &plain()), ["yes high"]);
    // A device that also claims the address of another host, which claims it itself, may answer for
    // the whole network. A listed host with a role does not.
    let proxied = |more: &dyn Fn(&mut Wire)| {
        let mut wire = steady();
        own_cards(&mut wire);
        for (ms, mac) in both {
            let owned =
                if mac == 7 { [(BROKER, 10), (RDSH, 30)] } else { [(BROKER, 8), (RDSH, 8)] };
            owned.iter().for_each(|(address, mac)| wire.claim(ms, address, *mac));
        }
        more(&mut wire);
        let said = audit(&wire);
        [BROKER, RDSH].map(|host| said.found("address-conflict", host, host).join(" "))
    };
    assert_eq!(proxied(&|_| ()), ["no medium coverage"; 2]);
    let by_listed = |wire: &mut Wire| {
        wire.0.retain(|(_, frame)| frame[12..14] != [8, 0] || frame[29] != 1);
        wire.claim(500, GW, 8);
    };
    assert_eq!(proxied(&by_listed), ["yes high"; 2]);
    // A host spreads the frames of one connection over two cards. Another host with its address
    // would reset the connection, and packets that pass another host have another hop count.
    let cards = |flags: u8, ttl: u8| {
        let mut wire = steady();
        for (ms, mac) in both {
            wire.claim(ms, BROKER, mac);
        }
        wire.opened(9_000, (RDSH, 50_300), (BROKER, 20_003), 90);
        let last = wire.0.len() - 1;
        wire.sent_by(last, 7, 64);
        wire.segment(9_010, (BROKER, 20_003), (RDSH, 50_300), flags, (681, 141), 0);
        wire.sent_by(last + 1, 8, ttl);
        audit(&wire).found("address-conflict", BROKER, BROKER)
    };
    assert_eq!(cards(ACK, 64), ["no medium coverage"]);
    assert_eq!(cards(ACK, 63), ["yes high"]);
    assert_eq!(cards(RST, 64), ["yes high"]);
}

/// A host uses another card for each of its clients. Both have the same hop count, and the host
/// refuses no connection.
#[test]
fn a_host_with_a_card_for_each_client_is_in_no_certain_conflict() {
    let both = [(1_000, 7), (2_000, 8), (31_000, 7), (32_000, 8), (61_000, 7), (62_000, 8)];
    let team = |ttl: u8, reset: bool| {
        let mut wire = steady();
        // A firewall blocks one client.
        wire.knock(9_000, (MFA, 50_400), (BROKER, 20_003));
        both.iter().for_each(|(ms, mac)| wire.claim(*ms, BROKER, *mac));
        let of_broker = |frame: &[u8]| frame[12..14] == [8, 0] && frame[26..30] == octets(BROKER);
        for number in 0..wire.0.len() {
            if of_broker(&wire.0[number].1) {
                let is_to_gateway = wire.0[number].1[30..34] == octets(GW);
                wire.0[number].1[6..12].copy_from_slice(&[
                    2,
                    0,
                    0,
                    0,
                    0,
                    if is_to_gateway { 7 } else { 8 },
                ]);
                wire.0[number].1[22] = if is_to_gateway { 64 } else { ttl };
            }
        }
        if reset {
            wire.segment(9_000, (RDSH, 50_400), (BROKER, 20_003), SYN, (5, 0), 0);
            wire.segment(9_001, (BROKER, 20_003), (RDSH, 50_400), RST | ACK, (0, 6), 0);
            let last = wire.0.len() - 1;
            wire.sent_by(last, 8, 64);
        }
        audit(&wire).found("address-conflict", BROKER, BROKER)
    };
    assert_eq!(team(64, false), ["no medium coverage"]);
    assert_eq!(team(128, false), ["yes high"]);
    assert_eq!(team(64, true), ["yes high"]);
}

#[test]
fn an_address_conflict_is_found_at_both_ends_of_a_long_capture() {
    // The broker claims its address for nine days, and another machine does so for an hour.
    let capture = |hour: u64| {
        let mut wire = steady();
        for minute in (0..9 * 24 * 60).step_by(10) {
            wire.claim(minute * 60_000 + 1_000, BROKER, 7);
        }
        for second in (0..3600).step_by(30) {
            let ms = (hour * 3600 + second) * 1000;
            wire.claim(ms + 2_000, BROKER, 7);
            wire.claim(ms + 3_000, BROKER, 8);
        }
        wire
    };
    let words = "may not be reported";
    for hour in [24, 200] {
        let wire = capture(hour);
        assert_eq!(audit(&wire).found("address-conflict", BROKER, BROKER), ["yes high"], "{hour}");
        let report = Site::new(&plain(), &wire).report("text");
        assert!(!report.contains(words), "{report}");
    }
    // The times between the first and the last three and a half days are not kept.
    let wire = capture(108);
    assert_eq!(audit(&wire).found("address-conflict", BROKER, BROKER), [""; 0]);
    let report = Site::new(&plain(), &wire).report("text");
    assert!(report.contains("several MAC addresses claimed 10.1.0.10 of broker1"), "{report}");
    assert!(report.contains(words), "{report}");
}

/// The message about a failure counts each attempt once, although a tunnel contains a copy of it.
#[test]
fn copies_in_a_tunnel_are_not_counted_as_attempts() {
    let mut wire = quiet();
    for flow in 0..10 {
        let (client, server) = ((RDSH, 51_000 + flow), (BROKER, 20_003));
        wire.tcp(10_000 + u64::from(flow) * 100, client, server, SYN, 0);
        wire.tcp(10_001 + u64::from(flow) * 100, server, client, RST | ACK, 0);
    }
    let message = |wire: &Wire| {
        let mut found = audit(wire).findings.into_iter().filter(|line| line[4] == "refused");
        found.next().expect("a finding")[8].clone()
    };
    assert!(message(&wire).contains("(10 flows, 10 SYNs)"), "{}", message(&wire));
    let first = wire.0.len();
    let copies: Vec<_> = wire.0[first - 20..].to_vec();
    wire.0.extend(copies);
    wire.tunnel(first, "10.9.0.8", "10.9.0.9");
    let words = "(10 flows, 10 SYNs; 10 more flows in tunnels may be copies)";
    assert!(message(&wire).contains(words), "{}", message(&wire));
}

/// A finding about many ports states how many of them have its outcome.
#[test]
fn the_outcome_of_some_ports_is_not_that_of_all() {
    let mut wire = steady();
    for port in 0..30 {
        let (client, server) = ((EVIL, 51_000 + port), (RDSH, 40_000 + port));
        let ms = 10_000 + u64::from(port) * 100;
        wire.tcp(ms, client, server, SYN, 0);
        if port % 3 == 0 {
            wire.tcp(ms + 1, server, client, RST | ACK, 0);
        }
    }
    let mut found = audit(&wire).findings.into_iter();
    let found = found.find(|line| line[0] == EVIL && line[3] != "missing").expect("a finding");
    let outcome = "(30 conversations) and was refused (the best outcome, seen in 10 of them)";
    assert!(found[8].contains(outcome), "{found:?}");
}

/// A guess about which end is the client is not counted among the ports of a certain finding.
#[test]
fn a_certain_finding_counts_no_guesses() {
    let mut wire = steady();
    wire.connect(9_000, (DC, 50_000), (RDSH, 7000));
    for number in 0..11 {
        for ms in [10_000, 11_000] {
            wire.tcp(ms, (DC, 40_001 + number), (RDSH, 41_001 + number), ACK, 100);
            wire.tcp(ms + 5, (RDSH, 41_001 + number), (DC, 40_001 + number), ACK, 100);
        }
    }
    let said = audit(&wire);
    let mut found = said.found("no-relation", DC, RDSH);
    found.sort_unstable();
    assert_eq!(found, ["no medium direction", "yes high"]);
    let is_certain = |row: &&Vec<String>| row[4] == "no-relation" && row[5] == "yes";
    let certain = said.findings.iter().find(is_certain).expect("a certain finding");
    assert!(certain[2] == "7000" && !certain[8].contains("12"), "{certain:?}");
    // If many ports are certain too, both are one finding, which says so.
    for port in 7001..7012 {
        wire.connect(12_000, (DC, 50_000), (RDSH, port));
    }
    let said = audit(&wire);
    assert_eq!(said.found("no-relation", DC, RDSH), ["yes high"]);
    let message = said.message("no-relation");
    assert!(message.ends_with("; this is certain for 12 of the 23 conversations"), "{message}");
}

/// The sender of a frame chooses its hardware address.
#[test]
fn a_frame_to_all_makes_no_packet_to_a_host_a_broadcast() {
    let code = |to: &str| {
        let mut wire = steady();
        let first = wire.0.len();
        wire.udp(9_000, (EVIL, 50_000), (to, 1900));
        wire.0[first].1[..6].fill(0xff);
        audit(&wire).rows(EVIL, to, 1900)
    };
    assert!(code(RDSH)[0].starts_with("unknown-host yes"), "{:?}", code(RDSH));
    // The last address of a network that the inventory does not list is a broadcast address only
    // according to such a frame.
    assert!(code("10.1.63.254")[0].starts_with("background"), "{:?}", code("10.1.63.254"));
}

#[test]
fn the_last_address_of_a_prefix_may_be_that_of_a_host() {
    let inventory = plain().replace("10.9.0.0/24", "10.9.0.0/25");
    let code = |sends: bool, mac: u8| {
        let mut wire = steady();
        if sends {
            wire.opened(8_000, ("10.9.0.127", 50_100), (GW, 443), 81);
        }
        let first = wire.0.len();
        wire.udp(9_000, (RDSH, 50_000), ("10.9.0.127", 1900));
        wire.0[first].1[..6].fill(mac);
        let rows = audit_with(&wire, &inventory).rows(RDSH, "10.9.0.127", 1900);
        rows[0].split(' ').next().map(str::to_owned)
    };
    assert_eq!(code(true, 2).as_deref(), Some("no-relation"));
    assert_eq!(code(true, 0xff).as_deref(), Some("background"));
    assert_eq!(code(false, 2).as_deref(), Some("background"));
}

/// The holders of a virtual address may claim it in turn, but nobody else may.
#[test]
fn an_unlisted_host_that_takes_a_virtual_address_is_in_conflict() {
    const VIP: &str = "10.1.0.99";
    let vip = "[[host]]\nname = \"vip\"\naddresses = [\"10.1.0.99\"]\nroles = []\n\
               held-by = [\"gw1\", \"mfa1\"]\n";
    let inventory = plain()
        .replace("name = \"gw1\"\n", "name = \"gw1\"\nmacs = [\"02:00:00:00:00:07\"]\n")
        .replace("name = \"mfa1\"\n", "name = \"mfa1\"\nmacs = [\"02:00:00:00:00:08\"]\n")
        + vip;
    let vrrp = [0x31, 51, 150, 1, 0, 100, 0, 0, 10, 1, 0, 99];
    let found = |claims: &[(u64, u8)], advertiser: &str| {
        let mut wire = steady();
        wire.ip(3_000, advertiser, "224.0.0.18", 112, &vrrp);
        claims.iter().for_each(|(ms, mac)| wire.claim(*ms, VIP, *mac));
        audit_with(&wire, &inventory).found("address-conflict", VIP, VIP)
    };
    let of = |other: u8| {
        [(1_000, 7), (2_000, other), (31_000, 7), (32_000, other), (61_000, 7), (62_000, other)]
    };
    assert_eq!(found(&of(8), GW), [""; 0], "both hold the address");
    assert_eq!(found(&of(9), GW), ["yes high"], "another host claims it together with a holder");
    assert_eq!(found(&[(1_000, 9)], EVIL), ["yes high"], "the holders have given way");
    assert_eq!(found(&[(1_000, 7), (41_000, 8)], EVIL), [""; 0], "only holders claim it");
}

/// If listed hosts advertise an address as virtual, another host may have sent the traffic that
/// seems to be missing from the host with this address.
#[test]
fn absence_is_not_certain_of_an_address_that_other_hosts_advertise() {
    let mut wire = quiet();
    assert_eq!(audit(&wire).found("never-attempted", RDSH, BROKER), ["yes medium"]);
    let vrrp = [0x31, 51, 150, 1, 0, 100, 0, 0, 10, 1, 0, 30];
    // An unlisted host cannot make the claim uncertain.
    wire.ip(3_000, EVIL, "224.0.0.18", 112, &vrrp);
    assert_eq!(audit(&wire).found("never-attempted", RDSH, BROKER), ["yes medium"]);
    wire.ip(3_100, MFA, "224.0.0.18", 112, &vrrp);
    assert_eq!(audit(&wire).found("never-attempted", RDSH, BROKER), ["no medium coverage"]);
    let told = Site::new(&plain(), &wire).report("text");
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let note = "10.1.0.30 of rdsh1 is advertised as virtual (VRRP) by mfa1: list it";
    assert!(told.contains(note), "{told}");
    // Nor can many unlisted hosts make the claim certain again.
    for last in 1..=9 {
        wire.ip(3_200, &format!("10.0.0.{last}"), "224.0.0.18", 112, &vrrp);
    }
    assert_eq!(audit(&wire).found("never-attempted", RDSH, BROKER), ["no medium coverage"]);
}

#[test]
fn absence_is_not_certain_of_an_address_that_another_machine_used() {
    let missing = |claims: &[(u64, u8)], inventory: &str| {
        let mut wire = quiet();
        claims.iter().for_each(|(ms, mac)| wire.claim(*ms, RDSH, *mac));
        let certain = audit_with(&wire, inventory).certain();
        certain.iter().any(|c| c.starts_with(&format!("never-attempted {RDSH}>")))
    };
    assert!(missing(&[(1_000, 7), (90_000, 7)], &plain()));
    assert!(!missing(&[(1_000, 7), (40_000, 8), (90_000, 8)], &plain()));
    // A late claim of the first machine does not hide the other.
    assert!(!missing(&[(1_000, 7), (40_000, 8), (50_000, 7), (90_000, 8)], &plain()));
    assert!(!missing(&[(1_000, 7), (40_000, 8), (90_000, 7)], &plain()));
    let listed = |mac: u8| {
        let macs = format!("name = \"rdsh1\"\nmacs = [\"02:00:00:00:00:0{mac}\"]\n");
        plain().replace("name = \"rdsh1\"\n", &macs)
    };
    assert!(missing(&[(1_000, 7), (90_000, 7)], &listed(7)));
    assert!(!missing(&[(1_000, 7), (90_000, 7)], &listed(8)));
}

#[test]
fn a_takeover_is_told_and_no_finding() {
    let mut wire = steady();
    for (ms, mac) in [(1_000, 7), (11_000, 7), (41_000, 8), (51_000, 8)] {
        wire.claim(ms, BROKER, mac);
    }
    let told = Site::new(&plain(), &wire).report("text");
    assert!(told.contains("Address"), "{told}");
    assert!(told.contains("moved from 02:00:00:00:00:07 to 02:00:00:00:00:08"), "{told}");
}

#[test]
fn loopback_addresses_on_a_wire_accuse_nobody() {
    let mut wire = Wire::default();
    wire.opened(1_000, (GW, 50_000), (BROKER, 20_002), 3);
    let first = wire.0.len();
    wire.opened(9_000, ("127.0.0.1", 50_100), ("127.0.0.1", 4444), 5);
    let inside = audit(&wire);
    assert_eq!(inside.found("loopback-on-wire", "*", "*"), [""; 0]);
    wire.sent_by(first, 0x66, 64);
    let said = audit(&wire);
    assert_eq!(said.found("loopback-on-wire", "*", "*"), ["yes medium"]);
    assert_eq!(said.certain(), ["loopback-on-wire *>* *"]);
    // Anyone could forge these packets in a tunnel, so the finding is then uncertain.
    wire.tunnel(first, EVIL, "10.9.0.5");
    assert_eq!(audit(&wire).found("loopback-on-wire", "*", "*"), ["no medium tunnel"]);
}

// Tests of spoofing on the segment.

#[test]
fn packets_that_contradict_each_other_are_not_certain() {
    // Another machine uses the session host's address. The session host resets the connection,
    // because it did not send the SYN.
    let mut wire = steady();
    wire.segment(9_001, (BROKER, 4444), (RDSH, 50_100), SYN | ACK, (9, 6), 0);
    wire.segment(9_002, (RDSH, 50_100), (BROKER, 4444), RST, (6, 0), 0);
    wire.segment(9_000, (RDSH, 50_100), (BROKER, 4444), SYN, (5, 0), 0);
    own_cards(&mut wire);
    let first = wire.0.len() - 1;
    wire.sent_by(first, 0x66, 64);
    let said = audit(&wire);
    assert_eq!(said.rows(RDSH, BROKER, 4444), ["port-not-in-matrix no half-open handshake spoof"]);
    // A completed handshake proves a host's identity, even if the host also sends with other MAC
    // addresses or TTLs.
    let mut wire = steady();
    wire.opened(9_000, (RDSH, 50_100), (BROKER, 4444), 5);
    let first = wire.0.len();
    wire.segment(9_010, (RDSH, 50_100), (BROKER, 4444), ACK, (56, 36), 9);
    wire.segment(9_011, (RDSH, 50_100), (BROKER, 4444), SYN | ACK, (56, 36), 0);
    own_cards(&mut wire);
    wire.sent_by(first, 0x66, 200);
    let said = audit(&wire);
    assert_eq!(said.rows(RDSH, BROKER, 4444), ["port-not-in-matrix yes established handshake"]);
    assert_eq!(said.found("port-not-in-matrix", RDSH, BROKER), ["yes high"]);
    // A host that spreads the frames of its completed connections over two cards also does so with
    // its other connections.
    let teamed = |flags: u8| {
        let mut wire = steady();
        own_cards(&mut wire);
        wire.opened(9_000, (BROKER, 50_300), (RDSH, 30_004), 90);
        let first = wire.0.len() - 2;
        wire.sent_by(first, 7, 64);
        wire.segment(9_010, (BROKER, 50_300), (RDSH, 30_004), flags, (141, 681), 0);
        wire.sent_by(first + 2, 8, 64);
        for (number, mac) in [7, 8, 7].into_iter().enumerate() {
            wire.segment(
                20_000 + number as u64 * 1000,
                (BROKER, 50_301),
                (RDSH, 30_006),
                SYN,
                (5, 0),
                0,
            );
            let last = wire.0.len() - 1;
            wire.sent_by(last, mac, 64);
        }
        audit(&wire).rows(BROKER, RDSH, 30_006)
    };
    assert_eq!(teamed(ACK), ["port-not-in-matrix yes unanswered syn"]);
    assert_eq!(teamed(RST), ["port-not-in-matrix no unanswered syn spoof"]);
}

#[test]
fn queries_of_icmp_are_many_flows_and_contradict_nothing() {
    // In a traceroute from the session host to the broker, the TTL of the echo requests increases
    // by one.
    let mut wire = steady();
    for hop in 1..40 {
        let request = [8, 0, 0, 0, 0, 99, 0, hop];
        wire.ip(9_000 + u64::from(hop), RDSH, BROKER, 1, &request);
        let last = wire.0.len() - 1;
        wire.sent_by(last, 2, hop);
    }
    assert_eq!(audit(&wire).rows(RDSH, BROKER, 8), ["background yes unanswered protocol"]);
    // Datagrams of one UDP flow with different TTLs do contradict each other.
    let mut wire = steady();
    for hop in [1, 40] {
        wire.udp(9_000, (RDSH, 50_100), (BROKER, 4444));
        let last = wire.0.len() - 1;
        wire.sent_by(last, 2, hop);
    }
    let said = audit(&wire);
    assert_eq!(said.rows(RDSH, BROKER, 4444), ["port-not-in-matrix no one-way ports spoof"]);
}

#[test]
fn resets_of_another_device_are_told_as_that() {
    let case = |ttl: u8| {
        let mut wire = steady();
        for later in [0, 1000, 3000] {
            wire.segment(9_000 + later, (BROKER, 50_100), (RDSH, 30_004), SYN, (5, 0), 0);
            wire.segment(9_001 + later, (RDSH, 30_004), (BROKER, 50_100), RST | ACK, (0, 6), 0);
            let last = wire.0.len() - 1;
            wire.sent_by(last, 2, ttl);
        }
        audit(&wire)
    };
    let firewall = case(255);
    assert_eq!(firewall.found("rejected", BROKER, RDSH), ["yes medium"]);
    assert!(firewall.message("rejected").contains("probably came from a firewall"));
    assert_eq!(case(64).found("refused", BROKER, RDSH), ["yes medium"]);
    // At another place in the network, other routers are on the path of the resets. They are known
    // by the hardware address of the frames.
    let two_places = |also: u64| {
        let mut near = steady();
        own_cards(&mut near);
        let mut far = Wire::default();
        for later in (0..3).map(|n| n * 1000) {
            far.segment(9_000 + later, (DC, 50_100), (RDSH, 30_004), SYN, (5, 0), 0);
            far.segment(9_001 + later, (RDSH, 30_004), (DC, 50_100), RST | ACK, (0, 6), 0);
            let last = far.0.len() - 1;
            far.sent_by(last, 99, 58);
        }
        for echo in 0..also {
            far.ip(20_000 + echo, RDSH, DC, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
            let last = far.0.len() - 1;
            far.sent_by(last, 99, 120);
        }
        audit_files(&[near.file(), far.file()], &plain())
    };
    assert_eq!(two_places(0).rows(DC, RDSH, 30_004)[0].split(' ').nth(2), Some("refused"));
    assert_eq!(two_places(1).rows(DC, RDSH, 30_004)[0].split(' ').nth(2), Some("rejected"));
    // The TTL of multicast packets is independent of the TTL that the host uses for unicast, so it
    // does not make the resets look like those of another device.
    let mut wire = Wire::default();
    wire.udp(100, (RDSH, 5353), ("224.0.0.251", 5353));
    wire.sent_by(0, 2, 255);
    for later in [0, 1000, 3000] {
        wire.segment(9_000 + later, (BROKER, 50_100), (RDSH, 30_004), SYN, (5, 0), 0);
        wire.segment(9_001 + later, (RDSH, 30_004), (BROKER, 50_100), RST | ACK, (0, 6), 0);
    }
    assert_eq!(audit(&wire).rows(BROKER, RDSH, 30_004), ["matrix yes refused syn"]);
}

// Tests of absence claims.

/// Returns the certainty, severity and doubt of the finding that the gateway never attempted to
/// connect to the broker; empty if the audit does not report it.
fn silence(wire: &Wire) -> Vec<String> {
    audit(wire).found("never-attempted", GW, BROKER)
}

fn without_gateway() -> Wire {
    let mut wire = quiet();
    wire.opened(5_500, (RDSH, 50_005), (BROKER, 20_003), 80);
    own_cards(&mut wire);
    wire
}

/// Derives the MAC addresses from the last bytes of the IP addresses, so that the sender of a frame
/// is known.
fn own_cards(wire: &mut Wire) {
    for (_, frame) in &mut wire.0 {
        (frame[5], frame[11]) = (frame[33], frame[29]);
    }
}

#[test]
fn only_a_frame_that_could_be_the_flow_doubts_a_silence() {
    assert_eq!(silence(&without_gateway()), ["yes medium"]);
    let gw = 1;
    let broker = 10;
    let rdsh = 30;
    let dc = 20;
    let payload = [7; 60];
    let with = |change: &dyn Fn(&mut Wire)| {
        let mut wire = without_gateway();
        change(&mut wire);
        silence(&wire)
    };
    // Undecoded frames between the two hosts, to one of them, or between unknown MAC addresses may
    // contain the connection.
    for (from, to) in [(gw, broker), (rdsh, broker), (0x77, 0x78)] {
        let seen = with(&|wire| wire.ether(9_000, from, to, 0x8909, &payload));
        assert_eq!(seen, ["no medium unread"], "{from} {to}");
    }
    // Frames between two other hosts, short frames and control protocols cannot contain the
    // connection.
    assert_eq!(with(&|wire| wire.ether(9_000, rdsh, dc, 0x8909, &payload)), ["yes medium"]);
    assert_eq!(with(&|wire| wire.ether(9_000, gw, broker, 0x8909, &payload[..20])), ["yes medium"]);
    for control in [0x88cc, 0x8809, 0x886f] {
        assert_eq!(with(&|wire| wire.ether(9_000, gw, 0x99, control, &payload)), ["yes medium"]);
    }
    // IPsec between the two hosts or with an unknown address may hide their traffic. IPsec with
    // another host of the farm cannot.
    let esp = |from: &'static str, to: &'static str| {
        with(&move |wire| wire.ip(9_000, from, to, 50, &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9]))
    };
    assert_eq!(esp(GW, BROKER), ["no medium unread"]);
    assert_eq!(esp(GW, EVIL), ["no medium unread"]);
    assert_eq!(esp(GW, DC), ["yes medium"]);
    // From port 20002, the broker answers an unlisted address inside or outside the site. The
    // gateway may use that address.
    for (client, state) in [("10.1.0.99", ACK), ("2.2.2.2", ACK), ("198.51.100.9", SYN | ACK)] {
        let seen = with(&|wire| wire.tcp(9_000, (BROKER, 20_002), (client, 50_100), state, 10));
        assert_eq!(seen, ["no medium coverage"], "{client}");
    }
}

#[test]
fn a_cut_last_record_doubts_nothing_and_a_cut_packet_does() {
    let mut file = without_gateway().file();
    file.truncate(file.len() - 3);
    let certain =
        |file: &[u8]| audit_files(&[file.to_vec()], &plain()).found("never-attempted", GW, BROKER);
    assert_eq!(certain(&file), ["yes medium"]);
    // The snaplen truncates a packet between the two hosts before its ports.
    let mut wire = without_gateway();
    wire.tcp(9_000, (GW, 50_100), (BROKER, 20_002), SYN, 0);
    wire.0.last_mut().expect("a frame").1.truncate(34);
    assert_eq!(silence(&wire), ["no medium unread"]);
}

#[test]
fn failures_between_two_unlisted_addresses_doubt_a_silence() {
    for (attempts, expected) in [(12, "no medium coverage"), (1, "yes medium")] {
        let mut wire = without_gateway();
        for number in 0..attempts {
            let client = ("10.1.5.1", 50_200 + number);
            let server = ("10.1.5.10", 20_002);
            let ms = 9_000 * u64::from(number);
            wire.segment(ms, client, server, SYN, (5, 0), 0);
            wire.segment(ms + 1, server, client, RST | ACK, (0, 6), 0);
        }
        assert_eq!(silence(&wire), [expected], "{attempts}");
    }
}

#[test]
fn a_truncated_error_may_be_the_reply_that_is_missing() {
    let found = |has_errors: bool, snaplen: usize| {
        let mut wire = steady();
        for number in 0..4 {
            let first = wire.0.len();
            wire.knock(9_000 + 20_000 * number, (BROKER, 50_100 + number as u16), (RDSH, 30_004));
            for attempt in (first..wire.0.len()).filter(|_| has_errors) {
                let frame = wire.0[attempt].clone();
                wire.0.push(frame);
                error(&mut wire, "10.1.0.254", BROKER, 13, true);
            }
        }
        let said = audit_files(&[wire.truncated(snaplen)], &plain());
        let codes = ["rejected", "unanswered"];
        codes.map(|code| said.found(code, BROKER, RDSH).concat())
    };
    assert_eq!(found(true, 70), ["yes medium", ""]);
    assert_eq!(found(true, 66), ["", "no medium unread"]);
    assert_eq!(found(false, 66), ["", "yes medium"]);
    // An error to another host is not about packets of the broker.
    let mut wire = steady();
    wire.udp(8_000, (GW, 50_000), (RDSH, 9999));
    error(&mut wire, RDSH, GW, 3, true);
    wire.knock(9_000, (BROKER, 50_100), (RDSH, 30_004));
    wire.knock(29_000, (BROKER, 50_101), (RDSH, 30_004));
    let said = audit_files(&[wire.truncated(62)], &plain());
    assert_eq!(said.found("unanswered", BROKER, RDSH), ["yes medium"]);
}

/// Adds a later fragment whose first fragment is not in the capture.
fn later_fragment(wire: &mut Wire, ms: u64, from: &str, to: &str) {
    wire.ip(ms, from, to, 6, &[7; 40]);
    let (_, frame) = wire.0.last_mut().expect("a frame");
    frame[18..22].copy_from_slice(&[(ms >> 8) as u8, ms as u8, 0, 185]);
}

/// Memory holds 16,384 entries of each kind.
#[test]
fn evidence_that_was_dropped_leaves_no_absence_certain() {
    let found = |wire: &Wire| {
        audit_with_options(&[wire.file()], &plain(), &["--max-memory", "64MiB"]).found(
            "never-attempted",
            GW,
            BROKER,
        )
    };
    let flood = |wire: &mut Wire, to: Option<&str>| {
        for number in 0..17_000u32 {
            let other = format!("11.0.{}.{}", number >> 8, number & 255);
            // A low address would displace those of hosts.
            let ends = to.map_or(("9.9.9.9", &*other), |to| (&*other, to));
            later_fragment(wire, 20_000 + u64::from(number), ends.0, ends.1);
        }
    };
    let mut hidden = without_gateway();
    later_fragment(&mut hidden, 10_000, GW, BROKER);
    assert_eq!(found(&hidden), ["no medium unread"]);
    // Fragments between other addresses displace no evidence about hosts.
    flood(&mut hidden, None);
    assert_eq!(found(&hidden), ["no medium unread"]);
    let mut wire = without_gateway();
    flood(&mut wire, None);
    assert_eq!(found(&wire), ["yes medium"]);
    // If evidence about a host was dropped, it may have been about any host.
    let mut wire = without_gateway();
    flood(&mut wire, Some(DC));
    assert_eq!(found(&wire), ["no medium unread"]);
    let unlimited = audit(&wire).found("never-attempted", GW, BROKER);
    assert_eq!(unlimited, ["yes medium"]);
}

// Tests of loss and of half views.

/// Adds a connection whose server sends this number of segments with 1,000 bytes each.
fn download(wire: &mut Wire, ms: u64, client: (&str, u16), server: (&str, u16), segments: u32) {
    wire.segment(ms, client, server, SYN, (5, 0), 0);
    wire.segment(ms + 1, server, client, SYN | ACK, (99, 6), 0);
    wire.segment(ms + 2, client, server, ACK, (6, 100), 0);
    for number in 0..segments {
        let at = ms + 3 + u64::from(number);
        wire.segment(at, server, client, ACK, (100 + number * 1000, 6), 1000);
        wire.segment(at, client, server, ACK, (6, 100 + (number + 1) * 1000), 0);
    }
}

#[test]
fn the_acknowledgements_of_one_address_show_no_loss() {
    let loss_of = |wire: &Wire| {
        let told = Site::new(&plain(), wire).report("text");
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        let share = told.find("of acknowledged TCP bytes were not captured");
        share.map(|at| told[..at].trim_end().rsplit(' ').nth(1).unwrap_or_default().to_owned())
    };
    // Many connections, each with an acknowledgement of bytes that nobody sent.
    for liar in [EVIL, GW] {
        let mut wire = without_gateway();
        for turn in 0..70u16 {
            let (client, ms) = ((liar, 40_000 + turn), 20_000 + u64::from(turn) * 100);
            download(&mut wire, ms, client, (MFA, 25), 0);
            wire.segment(ms + 3, client, (MFA, 25), ACK, (6, 90_000), 0);
        }
        own_cards(&mut wire);
        assert_eq!(loss_of(&wire), None, "{liar}");
        assert_eq!(silence(&wire), ["yes medium"], "{liar}");
    }
    // Two connections that acknowledge nearly twice as much as the server sent.
    let mut wire = without_gateway();
    for client in 1..=9 {
        download(&mut wire, 30_000, (&format!("10.9.0.{client}"), 50_000), (MFA, 25), 100);
    }
    let honest = wire.0.len();
    for turn in 0..2 {
        let client = (EVIL, 40_000 + turn);
        download(&mut wire, 40_000, client, (MFA, 25), 120);
        wire.segment(41_000, client, (MFA, 25), ACK, (6, 239_000), 0);
    }
    assert_eq!((loss_of(&wire), silence(&wire)), (None, vec!["yes medium".to_owned()]));
    // Real loss shows in what several addresses acknowledge.
    wire.0.truncate(honest);
    let mut number = 0;
    wire.0.retain(|(_, frame)| {
        number += usize::from(frame.len() > 1000);
        frame.len() < 1000 || number % 10 != 0
    });
    assert_eq!(loss_of(&wire).as_deref(), Some("10.0"));
    assert_eq!(silence(&wire), [""; 0]);
}

#[test]
fn the_stray_packets_of_one_stranger_show_no_half_view() {
    let mut wire = without_gateway();
    let frames = wire.0.len() as u64;
    for number in 0..frames / 4 {
        let client = (EVIL, 40_000 + number as u16 % 9);
        wire.segment(20_000 + number * 10, client, (MFA, 25), ACK, (5, number as u32), 0);
    }
    assert_eq!(silence(&wire), ["yes medium"]);
    // The traffic of several addresses with each other.
    let mut wire = without_gateway();
    for number in 0..frames / 4 {
        let client = format!("203.0.113.{}", number % 9);
        wire.segment(20_000 + number * 10, (&client, 40_000), (MFA, 25), ACK, (5, 9), 0);
    }
    assert_eq!(silence(&wire), ["no medium coverage"]);
}

// Tests of watched time and clocks.

#[test]
fn watched_time_is_one_stretch() {
    let spaced = |gap: u64| {
        let mut wire = without_gateway();
        for (ms, _) in &mut wire.0 {
            *ms = *ms / 30_000 * (30_000 + gap) + *ms % 30_000;
        }
        audit(&wire).found("never-attempted", GW, BROKER)
    };
    assert_eq!(spaced(0), ["yes medium"]);
    // Four intervals of 30 s are not continuous, whether they are 70 s or an hour apart.
    assert_eq!(spaced(70_000), [""; 0]);
    assert_eq!(spaced(3_600_000), [""; 0]);
    // Packets that are captured twice, with two clocks, do not extend the watched time.
    let mut wire = without_gateway();
    wire.0.retain(|(ms, _)| *ms < 40_000);
    for (number, (_, frame)) in wire.0.iter_mut().enumerate() {
        frame[18..20].copy_from_slice(&(number as u16 + 1).to_be_bytes());
    }
    let late: Vec<_> = wire.0.iter().map(|(ms, frame)| (ms + 35_000, frame.clone())).collect();
    assert_eq!(silence(&wire), [""; 0]);
    wire.0.extend(late);
    assert_eq!(silence(&wire), [""; 0]);
}

#[test]
fn a_doubtful_stamp_sets_no_time() {
    let mut wire = quiet();
    wire.tcp(110_900, (GW, 50_100), (BROKER, 20_002), SYN, 0);
    let row = |wire: &Wire| audit(wire).rows(GW, BROKER, 20_002)[0].clone();
    let honest = row(&wire);
    assert!(honest.contains("one-sided"), "{honest}");
    wire.udp(3_000_000_000_000 / 1000, (RDSH, 50_000), (DC, 123));
    assert_eq!(row(&wire), honest);
    let told = Site::new(&plain(), &wire).report("text");
    assert!(told.contains("more than a day from all others"), "{told}");
}

#[test]
fn a_doubtful_stamp_is_no_time_of_traffic() {
    let mut wire = steady();
    wire.claim(500, GW, 5);
    wire.claim(900, GW, 5);
    // Returns whether the report contains a time after 2026.
    let is_late = |wire: &Wire| {
        let report: serde_json::Value =
            serde_json::from_str(&Site::new(&plain(), wire).report("json")).expect("JSON");
        let parts = ["findings", "conversations", "hosts"].map(|part| report[part].to_string());
        let parts = parts.concat();
        assert!(parts.contains("\"2026-05-28T"), "{parts}");
        parts.contains("\"2066-") || parts.contains("\"2046-")
    };
    assert!(!is_late(&wire));
    // The last packet of a connection, and the last of several address claims. Each is on its own,
    // because two frames among a few hundred would be believed.
    let years = 40 * 365 * 24 * 3_600_000;
    wire.tcp(years, (GW, 50_004), (BROKER, 20_002), ACK, 0);
    wire.claim(years / 2, GW, 5);
    assert!(!is_late(&wire));
}

/// Returns a pcapng file with the frames and, if given, a capture filter in the interface options.
fn pcapng(wire: &Wire, filter: Option<&[u8]>) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let length = (12 + body.len() as u32).to_le_bytes();
        [&kind.to_le_bytes(), &length, body, &length].concat()
    };
    let padded = |bytes: &[u8]| [bytes, &[0; 4][..(4 - bytes.len() % 4) % 4]].concat();
    let section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
    let mut interface = vec![1, 0, 0, 0, 0, 0, 4, 0];
    if let Some(filter) = filter {
        interface.extend([11, 0]);
        interface.extend((filter.len() as u16).to_le_bytes());
        interface.extend(padded(filter));
        interface.extend([0; 4]);
    }
    let mut file = [block(0x0a0d_0d0a, &section), block(1, &interface)].concat();
    for (ms, frame) in &wire.0 {
        let stamp = (1_767_225_600_000 + ms) * 1000;
        let length = (frame.len() as u32).to_le_bytes();
        let words = [0, (stamp >> 32) as u32, stamp as u32].map(u32::to_le_bytes).concat();
        file.extend(block(6, &[&words[..], &length, &length, &padded(frame)].concat()));
    }
    file
}

#[test]
fn what_a_file_says_of_itself_counts_in_every_form() {
    let wire = without_gateway();
    let said = |filter: Option<&[u8]>| {
        audit_files(&[pcapng(&wire, filter)], &plain()).found("never-attempted", GW, BROKER)
    };
    // The absence is certain without a filter and with an empty one, but not with a filter
    // expression or a BPF program.
    assert_eq!(said(None), ["yes medium"]);
    assert_eq!(said(Some(b"\0")), ["yes medium"]);
    let program = [1, 6, 0, 0, 0, 0xff, 0xff, 0, 0];
    for filter in [&b"\0not port 20002"[..], &program] {
        assert!(said(Some(filter)).iter().all(|found| found.starts_with("no ")), "{filter:?}");
    }
    // The file declares timestamps in microseconds but contains nanoseconds.
    let mut file = wire.file();
    let mut at = 24;
    while at < file.len() {
        let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
        let fraction = word(at + 4);
        let length = word(at + 8);
        file[at + 4..at + 8].copy_from_slice(&(fraction * 1000).to_le_bytes());
        at += 16 + length as usize;
    }
    assert_eq!(audit_files(&[file], &plain()).found("never-attempted", GW, BROKER), ["yes medium"]);
}

#[test]
fn an_announced_port_needs_a_mapper_that_was_asked() {
    let whole = support::Records::read(&support::fixture("services/rpc.pcap"));
    let inventory = support::fixture("services/inventory.toml");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("rpc.pcap");
    // Selects the SYN to the endpoint mapper.
    let asks = |record: &&Vec<u8>| {
        let frame = &record[16..];
        frame[12..14] == [8, 0] && frame[23] == 6 && frame[36..38] == [0, 135] && frame[47] == SYN
    };
    let asked: Vec<_> = whole.records.to_vec();
    let unasked: Vec<_> = whole.records.iter().filter(|record| !asks(record)).cloned().collect();
    assert_eq!(asked.len(), unasked.len() + 1);
    for (records, certain) in [(asked, "yes"), (unasked, "no")] {
        whole.write(&path, &records);
        let rows = columns(&support::conversations(&path, &inventory), &["port", "certain"]);
        let row = rows.iter().find(|row| row[0] == "49154").expect("the announced port");
        assert_eq!(row[1], certain);
    }
}

#[test]
fn datagrams_one_way_are_asked_by_their_sender_and_nobody_serves_port_zero() {
    for port in [0, 500, 700] {
        let mut wire = steady();
        for later in 0..5 {
            wire.udp(9_000 + later * 1000, ("10.9.0.5", port), (BROKER, 20_003));
        }
        let said = audit(&wire);
        assert_eq!(said.rows(BROKER, "10.9.0.5", port), [""; 0], "{port}");
        assert_eq!(said.rows("10.9.0.5", BROKER, 20_003).len(), 1, "{port}");
    }
}

#[test]
fn a_reply_from_another_port_or_address_accuses_nobody() {
    let second = "10.2.0.10";
    let inventory =
        plain().replace(&format!("\"{BROKER}\""), &format!("\"{BROKER}\", \"{second}\""));
    assert!(inventory.contains(second), "{inventory}");
    // A TFTP server replies from a new port. A host with two addresses replies from the other one.
    for (asked, replied) in [(69, (BROKER, 51_234)), (51_000, (second, 51_000))] {
        for (request_ms, reply_ms, is_reply) in [(8_000, 8_100, true), (8_100, 8_000, false)] {
            let mut wire = steady();
            wire.udp(request_ms, (RDSH, 50_001), (BROKER, asked));
            wire.udp(reply_ms, replied, (RDSH, 50_001));
            let certain = audit_with(&wire, &inventory).certain();
            let accused = certain.iter().any(|c| c.contains(&format!(">{RDSH} 50001")));
            assert_eq!(accused, !is_reply, "{asked} {request_ms}: {certain:?}");
        }
    }
    // A client uses another port for each request, also one that services may use.
    for first in [2_070, 50_001] {
        let mut wire = steady();
        for number in 0..40 {
            let (ms, client) = (8_000 + 1_000 * u64::from(number), (RDSH, first + number));
            wire.udp(ms, client, (BROKER, 51_000));
            wire.udp(ms + 10, (second, 51_000), client);
        }
        let certain = audit_with(&wire, &inventory).certain();
        assert!(!certain.iter().any(|c| c.contains(&format!(">{RDSH}"))), "{certain:?}");
    }
    // A host that invents a request to itself does not make its own packets replies.
    let mut wire = steady();
    wire.udp(8_000, (RDSH, 50_001), (BROKER, 69));
    error(&mut wire, BROKER, RDSH, 3, true);
    wire.udp(8_100, (BROKER, 51_234), (RDSH, 50_001));
    let certain = audit_with(&wire, &inventory).certain();
    assert!(certain.iter().any(|c| c.contains(&format!(">{RDSH} 50001"))), "{certain:?}");
}

#[test]
fn a_broadcast_makes_nobody_the_client_of_later_packets() {
    let everybody = "10.1.0.255";
    // A gateway broadcasts from the port of a service to the same port, as NetBIOS and BACnet do.
    // Later, another host sends requests to this port.
    for (port, minutes, sender) in [(138, 0, 138), (138, 30, 138), (47_808, 0, 47_808)] {
        let mut wire = steady();
        wire.udp(8_000, (GW, port), (everybody, port));
        let later = 9_000 + minutes * 60_000;
        wire.udp(later, (EVIL, sender), (GW, port));
        wire.udp(later + 1, (EVIL, sender), (GW, port));
        let said = audit(&wire);
        let rows = [said.rows(GW, EVIL, port), said.rows(EVIL, GW, port)].concat();
        assert_eq!(rows.len(), 1, "{port} {minutes}");
        assert!(!rows[0].contains(" protocol"), "{port} {minutes}: {rows:?}");
        let accused = said.certain().iter().any(|c| c.contains(&format!("{GW}>{EVIL}")));
        assert!(!accused, "{port} {minutes}");
    }
    // Devices answer a search (SSDP) from the port of the service or from another port.
    for (from, ms, is_reply) in [(1900, 100, true), (49_200, 100, true), (49_200, 60_000, false)] {
        let mut wire = steady();
        wire.udp(8_000, (GW, 50_900), ("239.255.255.250", 1900));
        wire.udp(8_000 + ms, (EVIL, from), (GW, 50_900));
        let said = audit(&wire);
        let accused = said.certain().iter().any(|c| c.contains(&format!("{EVIL}>")));
        assert_eq!(accused, !is_reply, "{from} {ms}: {:?}", said.findings);
    }
    // A reply between two broadcasts that are far away need not be one.
    for (ms, is_proved) in [(100, true), (60_000, false)] {
        let mut wire = steady();
        wire.udp(8_000, (GW, 50_900), ("239.255.255.250", 7777));
        wire.udp(108_000, (GW, 50_900), ("239.255.255.250", 7777));
        wire.udp(8_000 + ms, (RDSH, 7777), (GW, 50_900));
        let rows = audit(&wire).rows(GW, RDSH, 7777);
        assert!(rows[0].contains(if is_proved { " protocol" } else { " first" }), "{rows:?}");
    }
    // A host that answers a question does not go on for minutes.
    for (packets, is_reply) in [(90, true), (300, false)] {
        let mut wire = steady();
        wire.udp(8_000, (BROKER, 5353), ("224.0.0.251", 5353));
        for number in 0..packets {
            wire.udp(8_100 + number * 300, (RDSH, 5353), (BROKER, 5353));
        }
        let is_told = audit(&wire).findings.iter().any(|row| row[2] == "5353");
        assert_eq!(is_told, !is_reply, "{packets}");
    }
    // A broadcast from the same port neither hides what others send to this port, nor makes the
    // requests of its sender uncertain.
    let mut wire = steady();
    wire.udp(8_000, (GW, 50_900), ("239.255.255.250", 1900));
    for ms in 0..5 {
        wire.udp(9_000 + ms, (EVIL, 138), (GW, 50_900));
    }
    let said = audit(&wire);
    assert_eq!(said.found("unknown-host", GW, EVIL), ["no low direction"]);
    let mut wire = steady();
    wire.udp(8_000, (BROKER, 50_900), ("239.255.255.250", 1900));
    for ms in 0..5 {
        wire.udp(9_000 + 2 * ms, (BROKER, 50_900), (RDSH, 9999));
        wire.udp(9_001 + 2 * ms, (RDSH, 9999), (BROKER, 50_900));
    }
    let certain = audit(&wire).certain();
    assert!(certain.iter().any(|c| c.contains(&format!("{BROKER}>{RDSH} 9999"))), "{certain:?}");
    // Anyone can send from the unspecified address.
    for port in [1234, 1900] {
        let mut wire = steady();
        wire.udp(8_000, ("0.0.0.0", 50_001), ("255.255.255.255", port));
        for ms in 0..3 {
            wire.udp(9_000 + ms, (EVIL, port), (BROKER, 50_001));
        }
        let said = audit(&wire);
        let accused = said.certain().iter().any(|c| c.contains(&format!("{BROKER}>")));
        assert!(!accused, "{:?}", said.findings);
        let names_sender = |row: &Vec<String>| [&row[0], &row[1]].iter().any(|end| *end == EVIL);
        assert!(said.findings.iter().any(names_sender), "{:?}", said.findings);
    }
    // Certain traffic stays certain: the port of the requester is one that its service has.
    let mut wire = steady();
    wire.udp(8_000, (GW, 138), (everybody, 138));
    wire.udp(8_100, (EVIL, 50_000), (GW, 138));
    let said = audit(&wire);
    assert!(said.certain().iter().any(|c| c.contains(&format!("{EVIL}>{GW}"))));
}

/// Returns whether it is certain that a host never contacted any host on a port.
fn is_missing(said: &Said, client: &str, port: u16) -> bool {
    let certain = said.certain();
    certain.iter().any(|c| {
        c.starts_with(&format!("never-attempted {client}>")) && c.ends_with(&format!(" {port}"))
    })
}

#[test]
fn traffic_that_may_stay_inside_a_host_is_not_missing() {
    assert!(is_missing(&audit(&quiet()), GW, 20_002));
    // The gateway may use the broker on its own host.
    let both =
        plain().replace("roles = [\"gateway-normal\"]", "roles = [\"gateway-normal\", \"broker\"]");
    assert!(!is_missing(&audit_with(&quiet(), &both), GW, 20_002));
}

#[test]
fn an_address_of_a_network_may_be_another_address_of_a_host() {
    let network =
        "[[network]]\nname = \"sessions\"\ncidr = \"10.1.0.0/24\"\nroles = [\"rdsh-agent\"]\n";
    let inventory = plain().replace("[capture]", &format!("{network}[capture]"));
    let mut wire = quiet();
    assert!(is_missing(&audit_with(&wire, &inventory), RDSH, 20_003));
    // A client with another role shows nothing about the session host.
    wire.opened(6_000, ("10.9.0.5", 50_100), (BROKER, 20_002), 80);
    assert!(is_missing(&audit_with(&wire, &inventory), RDSH, 20_003));
    wire.opened(6_500, ("10.1.0.77", 50_100), (BROKER, 20_003), 81);
    assert!(!is_missing(&audit_with(&wire, &inventory), RDSH, 20_003));
}

#[test]
fn a_capture_that_covers_all_listed_hosts_of_a_role_does_not_cover_its_networks() {
    let mut wire = part(&quiet(), |ms, _, _| !(5_000..5_400).contains(&ms));
    wire.connect(5_000, ("10.9.0.5", 50_000), ("10.9.0.6", 443));
    let covered = plain().replace("covers = \"all\"", "covers = [\"dc1\"]");
    assert!(is_missing(&audit_with(&wire, &covered), BROKER, 389));
    let site =
        "[[network]]\nname = \"site2\"\ncidr = \"10.2.0.0/28\"\nroles = [\"ad-dc\"]\n[capture]";
    let said = audit_with(&wire, &covered.replace("[capture]", site));
    assert!(!is_missing(&said, BROKER, 389));
    assert!(said.certain().iter().all(|c| !c.starts_with("silent-role")), "{:?}", said.certain());
}

#[test]
fn hosts_that_communicate_are_not_said_to_have_never_done_so() {
    let inventory = "[farm]\nmatrix = \"ras-19\"\n".to_owned()
        + &hosts(&[("halb1", GW, "halb"), ("halb2", BROKER, "halb")])
            .replace("roles = ", "site = \"x\"\nroles = ")
        + "[capture]\ncovers = \"all\"\n";
    let mut wire = quiet();
    let missing = |wire: &Wire| {
        let certain = audit_with(wire, &inventory).certain();
        certain.iter().any(|c| c.starts_with("never-attempted"))
    };
    assert!(missing(&wire));
    // One load balancer advertises the virtual address to the other alone.
    for second in 0..100 {
        wire.ip(second * 1000, GW, BROKER, 112, &[0x31, 51, 150, 1, 0, 100, 0, 0, 10, 1, 0, 9]);
    }
    assert!(!missing(&wire));
}

#[test]
fn a_host_that_fails_at_one_address_and_succeeds_at_another_is_served() {
    let two = plain().replace("[\"10.1.0.30\"]", "[\"10.1.0.30\", \"10.1.0.31\"]");
    let severity = |from: &str| {
        let mut wire = steady();
        for second in 0..3 {
            let [client, server] = [(from, 50_200 + second as u16), (BROKER, 20_003)];
            wire.tcp(20_000 + second * 1000, client, server, SYN, 0);
            wire.tcp(20_001 + second * 1000, server, client, RST | ACK, 0);
        }
        audit_with(&wire, &two).found("refused", from, BROKER)
    };
    assert_eq!(severity("10.1.0.31"), ["yes low"]);
    // At the address at which the service worked before, it has stopped.
    assert_eq!(severity(RDSH), ["yes high"]);
}

#[test]
fn a_claim_about_many_hosts_states_for_how_many_it_is_certain() {
    let names: Vec<(String, String)> =
        (1..=60).map(|n| (format!("agent{n}"), format!("10.1.2.{n}"))).collect();
    let mut list = vec![("broker1", BROKER, "broker")];
    list.extend(names.iter().map(|(name, address)| (&name[..], &address[..], "rdsh-agent")));
    let inventory = "[farm]\nmatrix = \"ras-19\"\n".to_owned()
        + &hosts(&list)
        + "[capture]\ncovers = \"all\"\n";
    let mut wire = Wire::default();
    wire.connect(5_000, ("10.9.0.5", 50_000), ("10.9.0.6", 443));
    wire.udp(5_100, ("10.9.0.5", 50_000), ("10.9.0.6", 123));
    for second in (0..=120).step_by(10) {
        for (n, (_, address)) in names.iter().enumerate() {
            let mark = [second as u8, n as u8];
            wire.ip(second * 1000, address, BROKER, 1, &[8, 0, 0, 0, 0, 1, mark[0], mark[1]]);
            wire.ip(second * 1000 + 1, BROKER, address, 1, &[0, 0, 0, 0, 0, 1, mark[0], mark[1]]);
        }
    }
    let message = |wire: &Wire| audit_with(wire, &inventory).message("never-attempted").to_owned();
    assert!(message(&wire).starts_with("60 hosts"), "{}", message(&wire));
    assert!(!message(&wire).contains("certain"), "{}", message(&wire));
    // Encrypted traffic with an unlisted address may contain the traffic of all but one of them.
    for (_, address) in &names[1..] {
        wire.ip(30_000, address, EVIL, 50, &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]);
    }
    let message = message(&wire);
    assert!(message.ends_with("; this is certain for 1 of 60 hosts"), "{message}");
}

// Tests of captures that do not show everything all the time.

/// Returns the frames of a capture for which `is_kept` returns true, called with the time in
/// milliseconds and the source and destination addresses.
fn part(wire: &Wire, is_kept: impl Fn(u64, &[u8], &[u8]) -> bool) -> Wire {
    let kept = wire.0.iter().filter(|(ms, frame)| is_kept(*ms, &frame[26..30], &frame[30..34]));
    Wire(kept.cloned().collect())
}

fn octets(address: &str) -> [u8; 4] {
    address.parse::<std::net::Ipv4Addr>().expect("an address").octets()
}

/// The capture ends after 110 s.
#[test]
fn a_connection_shortly_before_the_end_is_not_unanswered() {
    let attempts = |times: &[u64]| {
        let mut wire = steady();
        for ms in times {
            wire.segment(*ms, (BROKER, 50_100), (RDSH, 30_004), SYN, (5, 0), 0);
        }
        audit(&wire).found("unanswered", BROKER, RDSH)
    };
    // The server answers the third SYN of a connection if it is busy or just starts.
    assert_eq!(attempts(&[107_500, 108_500]), [""; 0]);
    assert_eq!(attempts(&[106_500, 107_500, 109_500]), ["no medium loss"]);
    assert_eq!(attempts(&[105_000, 106_000, 108_000]), ["yes medium"]);
}

#[test]
fn a_request_while_the_capture_of_the_answers_was_not_running_is_not_unanswered() {
    let mut wire = steady();
    for turn in 0..3u16 {
        let [query, _] = dns(turn, &["dc1.farm.example"], DC);
        for ms in [80_500, 81_500] {
            wire.datagram(ms + u64::from(turn) * 6_000, (BROKER, 52_000 + turn), (DC, 53), &query);
        }
    }
    // A TAP has one output for each direction, and each is captured to a file of its own.
    let dc = octets(DC);
    let sent = part(&wire, |_, from, _| from != dc).file();
    let answers = |until: u64| part(&wire, |ms, from, _| from == dc && ms < until).file();
    let found = |files: &[Vec<u8>]| audit_files(files, &plain()).found("unanswered", BROKER, DC);
    assert_eq!(found(&[sent.clone(), answers(u64::MAX)]), ["yes high"]);
    assert_eq!(found(&[sent, answers(80_100)]), [""; 0]);
}

#[test]
fn the_time_of_an_interruption_does_not_count_as_activity() {
    let gateway = octets(GW);
    let quiet = quiet();
    // The gateway starts shortly before the capture is interrupted, and the capture ends soon after
    // it continues.
    let late =
        |ms: u64, from: &[u8], to: &[u8]| ms >= 100_000 || (from != gateway && to != gateway);
    let mut wire = part(&quiet, late);
    for (ms, frame) in &quiet.0 {
        if *ms <= 10_001 {
            wire.0.push((ms + 3_600_000, frame.clone()));
        }
    }
    assert_eq!(audit(&wire).found("never-attempted", GW, BROKER), ["no medium coverage"]);
    assert_eq!(audit(&quiet).found("never-attempted", GW, BROKER), ["yes medium"]);
}

#[test]
fn a_file_that_was_merged_from_captures_with_different_clocks_is_no_failure() {
    let mut wire = steady();
    wire.segment(60_000, (GW, 50_100), (BROKER, 20_002), SYN, (5, 0), 0);
    wire.segment(60_001, (BROKER, 20_002), (GW, 50_100), SYN | ACK, (9, 6), 0);
    wire.segment(60_002, (GW, 50_100), (BROKER, 20_002), RST, (6, 0), 0);
    let later = Wire(wire.0.iter().map(|(ms, frame)| (ms + 3_600_000, frame.clone())).collect());
    let merged = Wire([wire.0.clone(), later.0.clone()].concat());
    let said = audit(&merged);
    assert_eq!(said.found("half-open", GW, BROKER), [""; 0]);
    let of_two = audit_files(&[wire.file(), later.file()], &plain());
    assert_eq!(said.rows(GW, BROKER, 20_002), of_two.rows(GW, BROKER, 20_002));
}

/// On the host that sends a packet, the network card computes the checksum after the capture.
#[test]
fn the_captures_of_two_hosts_with_different_clocks_are_no_failure() {
    let mut wire = steady();
    for turn in 0..40u16 {
        let isn = 100 + u32::from(turn);
        wire.opened(20_000 + u64::from(turn), (GW, 51_000 + turn), (BROKER, 20_002), isn);
    }
    wire.segment(60_000, (GW, 50_100), (BROKER, 20_002), SYN, (5, 0), 0);
    wire.segment(60_001, (BROKER, 20_002), (GW, 50_100), SYN | ACK, (9, 6), 0);
    wire.segment(60_002, (GW, 50_100), (BROKER, 20_002), RST, (6, 0), 0);
    let said = audit(&wire);
    assert_eq!(said.found("half-open", GW, BROKER), [""; 0]);
    // The capture on the other host contains only the connections between the two.
    let (gateway, broker) = (octets(GW), octets(BROKER));
    let both = |from: &[u8], to: &[u8]| {
        [from, to]
            .iter()
            .all(|at| [gateway, broker].contains(&(**at).try_into().unwrap_or_default()))
    };
    let mut other = part(&wire, |_, from, to| both(from, to));
    other.0.retain(|(_, frame)| frame[23] == 6);
    for (ms, frame) in &mut other.0 {
        *ms += 10_000;
        frame[50..52].copy_from_slice(&[0x12, 0x34]);
    }
    let of_two = audit_files(&[wire.file(), other.file()], &plain());
    assert_eq!(of_two.found("half-open", GW, BROKER), [""; 0]);
    assert_eq!(of_two.rows(GW, BROKER, 20_002), said.rows(GW, BROKER, 20_002));
}

#[test]
fn a_forged_error_does_not_make_a_service_work_longer() {
    let mut wire = steady();
    for turn in 0..3u64 {
        let ms = 60_000 + turn * 1000;
        wire.segment(ms, (GW, 51_000 + turn as u16), (BROKER, 20_002), SYN, (5, 0), 0);
        wire.segment(ms + 1, (BROKER, 20_002), (GW, 51_000 + turn as u16), RST | ACK, (0, 6), 0);
    }
    assert_eq!(audit(&wire).found("refused", GW, BROKER), ["yes high"]);
    // The error quotes the connection that worked earlier.
    quote(&mut wire, 100_000, EVIL, (GW, 50_004), (BROKER, 20_002), 1);
    assert_eq!(audit(&wire).found("refused", GW, BROKER), ["yes high"]);
}

#[test]
fn what_came_last_is_not_certain_if_clocks_differ() {
    let stops = |wire: &mut Wire| {
        wire.segment(90_000, (GW, 51_000), (BROKER, 20_002), SYN, (5, 0), 0);
        wire.segment(90_001, (BROKER, 20_002), (GW, 51_000), RST | ACK, (0, 6), 0);
    };
    let mut wire = steady();
    stops(&mut wire);
    assert_eq!(audit(&wire).found("refused", GW, BROKER), ["yes high"]);
    // The replies in some handshakes are earlier than the requests.
    for turn in 0..5u64 {
        let (client, server) = ((RDSH, 52_000 + turn as u16), (BROKER, 20_003));
        let ms = 20_000 + turn * 1000;
        wire.segment(ms, server, client, SYN | ACK, (9, 6), 0);
        wire.segment(ms + 2_000, client, server, SYN, (5, 0), 0);
        wire.segment(ms + 2_001, client, server, ACK, (6, 10), 0);
    }
    assert_eq!(audit(&wire).found("refused", GW, BROKER), ["no medium clock"]);
    // Refusals of all attempts are certain, whatever the clocks are.
    let mut wire = Wire(wire.0);
    wire.0.retain(|(ms, _)| !(5_400..5_500).contains(ms));
    assert_eq!(audit(&wire).found("refused", GW, BROKER), ["yes high"]);
}

#[test]
fn a_packet_before_a_handshake_shows_no_other_clock() {
    let with_stray = |server: &str, acked: u32| {
        let mut wire = without_gateway();
        for turn in 0..5u16 {
            let ms = 20_000 + u64::from(turn) * 9_000;
            let (client, server) = ((MFA, 51_000 + turn), (server, 443));
            wire.segment(ms, server, client, ACK, (77, acked), 0);
            wire.opened(ms + 2_000, client, server, 100);
        }
        silence(&wire)
    };
    // A packet of an earlier connection, and one of a server that can guess the client's number.
    assert_eq!(with_stray(DC, 4_000_000_000), ["yes medium"]);
    assert_eq!(with_stray(EVIL, 4_000_000_000), ["yes medium"]);
    assert_eq!(with_stray(EVIL, 101), ["yes medium"]);
    // A listed host has no reason to guess it, so the clocks are doubted.
    assert_eq!(with_stray(DC, 101), ["no medium clock"]);
}

#[test]
fn a_refusal_is_not_certain_if_a_later_connection_lacks_only_its_syn() {
    let mut wire = steady();
    wire.segment(60_000, (GW, 51_000), (BROKER, 20_002), SYN, (5, 0), 0);
    wire.segment(60_001, (BROKER, 20_002), (GW, 51_000), RST | ACK, (0, 6), 0);
    assert_eq!(audit(&wire).found("refused", GW, BROKER), ["yes high"]);
    let (client, server) = ((GW, 51_001), (BROKER, 20_002));
    wire.segment(62_000, server, client, SYN | ACK, (9, 6), 0);
    wire.segment(62_001, client, server, ACK, (6, 10), 100);
    wire.segment(62_002, server, client, ACK, (10, 106), 100);
    assert_eq!(audit(&wire).found("refused", GW, BROKER), ["no low direction"]);
}

#[test]
fn a_frame_with_a_doubted_timestamp_does_not_make_the_cut_of_a_capture_matter() {
    let mut wire = quiet();
    let (_, frame) = wire.0[0].clone();
    wire.0.push((2 * 24 * 3_600_000, frame));
    wire.0.sort();
    let whole = audit(&wire);
    for cut in [30_000, 60_000, 100_000] {
        let early = part(&wire, |ms, _, _| ms < cut);
        let late = part(&wire, |ms, _, _| ms >= cut);
        let two = audit_files(&[early.file(), late.file()], &plain());
        assert_eq!(two.findings, whole.findings, "{cut}");
        assert_eq!(two.conversations, whole.conversations, "{cut}");
    }
}

// Tests of the behaviour of healthy networks.

#[test]
fn a_probe_is_no_failure() {
    let case = |answers: &[u64], reset: u64| {
        let mut wire = quiet();
        wire.opened(5_500, (RDSH, 50_005), (BROKER, 20_003), 80);
        for turn in 0..10u64 {
            let ms = 10_000 + turn * 9_000;
            let port = 50_100 + turn as u16;
            wire.segment(ms, (GW, port), (BROKER, 20_002), SYN, (5, 0), 0);
            for answer in answers {
                wire.segment(ms + answer, (BROKER, 20_002), (GW, port), SYN | ACK, (9, 6), 0);
            }
            wire.segment(ms + reset, (GW, port), (BROKER, 20_002), RST | ACK, (6, 10), 0);
        }
        audit(&wire)
    };
    // The time counts from the SYN-ACK, so a slow server does not turn a probe into a failure.
    for probe in [case(&[1], 2), case(&[1_000], 3_500)] {
        assert_eq!(probe.rows(GW, BROKER, 20_002), ["matrix yes half-open handshake"]);
        assert_eq!(probe.certain(), [""; 0]);
        assert_eq!(probe.found("never-attempted", GW, BROKER), [""; 0]);
    }
    // A repeated SYN-ACK does not begin the time anew.
    let failure = case(&[1, 1_000, 3_000], 4_000);
    assert_eq!(failure.found("half-open", GW, BROKER), ["yes high"]);
    // A server repeats a SYN-ACK that is not acknowledged. If it does not, the capture may lack the
    // acknowledgement.
    assert_eq!(case(&[1], 4_000).found("half-open", GW, BROKER), ["no medium coverage"]);
    // A server that answers only after the client gave up does not serve it.
    let mut wire = quiet();
    for turn in 0..8u64 {
        let (ms, client) = (10_000 + turn * 9_000, (GW, 50_100 + turn as u16));
        for later in [0, 1_000, 3_000] {
            wire.segment(ms + later, client, (BROKER, 20_002), SYN, (5, 0), 0);
        }
        wire.segment(ms + 6_000, (BROKER, 20_002), client, SYN | ACK, (9, 6), 0);
        wire.segment(ms + 6_001, client, (BROKER, 20_002), RST, (6, 0), 0);
    }
    assert_eq!(audit(&wire).found("half-open", GW, BROKER), ["yes high"]);
    // A health check acknowledges the SYN-ACK with its reset, even if its first SYNs were lost.
    for (_, frame) in wire.0.iter_mut().filter(|(_, f)| f[23] == 6 && f[47] == RST) {
        frame[47] = RST | ACK;
        frame[45] = 10;
    }
    assert_eq!(audit(&wire).found("half-open", GW, BROKER), [""; 0]);
}

#[test]
fn requests_that_ask_by_themselves_are_unanswered() {
    let radius = [&[1, 7, 0, 26][..], &[0; 16], &[1, 6, b'u', b's', b'e', b'r']].concat();
    let mut wire = steady();
    for turn in 0..6u16 {
        for later in [0, 3_000] {
            let ms = 10_000 + u64::from(turn) * 9_000 + later;
            wire.datagram(ms, (BROKER, 50_200 + turn), (MFA, 1812), &radius);
        }
    }
    let said = audit(&wire);
    assert_eq!(said.rows(BROKER, MFA, 1812), ["matrix yes unanswered protocol"]);
    assert_eq!(said.found("unanswered", BROKER, MFA).len(), 1);
    // A user may take up to a minute to confirm a login, so the capture must continue for as long.
    let mut wire = steady();
    for (later, second) in [70, 73, 76].into_iter().enumerate() {
        wire.datagram(second * 1000, (BROKER, 50_300), (MFA, 1812), &radius);
        wire.datagram(second * 1000 + 1, (BROKER, 50_301 + later as u16), (MFA, 1812), &radius);
    }
    assert_eq!(audit(&wire).found("unanswered", BROKER, MFA), [""; 0]);
}

#[test]
fn a_service_that_stops_is_told() {
    let mut wire = steady();
    for turn in 0..3u64 {
        let ms = 60_000 + turn * 1000;
        wire.segment(ms, (GW, 51_000 + turn as u16), (BROKER, 20_002), SYN, (5, 0), 0);
        wire.segment(ms + 1, (BROKER, 20_002), (GW, 51_000 + turn as u16), RST | ACK, (0, 6), 0);
    }
    let said = audit(&wire);
    let row = said.conversations.iter().find(|row| row[2] == "20002").expect("the row");
    assert!(row[10].starts_with("worked until ") && row[10].contains("refused from "), "{row:?}");
    assert_eq!(said.found("refused", GW, BROKER), ["yes high"]);
    assert!(said.message("refused").contains("it worked until"), "{}", said.message("refused"));
    // If the service works again at the end, the change is shown, but there is no finding.
    wire.opened(90_000, (GW, 52_000), (BROKER, 20_002), 99);
    let said = audit(&wire);
    assert_eq!(said.found("refused", GW, BROKER), [""; 0]);
    assert!(said.conversations.iter().any(|row| row[2] == "20002" && !row[10].is_empty()));
    // A single unanswered SYN afterwards does not count as a failure.
    wire.segment(110_000, (GW, 53_000), (BROKER, 20_002), SYN, (5, 0), 0);
    assert_eq!(audit(&wire).found("refused", GW, BROKER), [""; 0]);
    // An established connection shows that the service works until the last packet of the
    // connection, even if another attempt was refused meanwhile.
    let mut wire = steady();
    wire.session(40_000, (GW, 54_000), (BROKER, 20_002), 70);
    wire.segment(60_000, (GW, 51_000), (BROKER, 20_002), SYN, (5, 0), 0);
    wire.segment(60_001, (BROKER, 20_002), (GW, 51_000), RST | ACK, (0, 6), 0);
    assert_eq!(audit(&wire).found("refused", GW, BROKER), [""; 0]);
}

/// A name server may ask another one that does not answer.
#[test]
fn one_name_without_an_answer_is_no_certain_stop_of_dns() {
    let found = |queries: &[(u64, u16)]| {
        let mut wire = steady();
        for (ms, port) in queries {
            let [query, _] = dns(*port, &["srv.partner.example"], DC);
            wire.datagram(*ms, (BROKER, *port), (DC, 53), &query);
        }
        audit(&wire).found("unanswered", BROKER, DC)
    };
    assert_eq!(found(&[80_000, 82_000, 86_000].map(|ms| (ms, 52_000))), ["no medium loss"]);
    assert_eq!(found(&[(80_000, 52_000), (80_100, 52_001)]), ["no medium coverage;loss"]);
    let several = [(70_000, 52_000), (71_000, 52_000), (82_000, 52_001), (83_000, 52_001)];
    assert_eq!(found(&several), ["yes high"]);
}

#[test]
fn a_service_that_stops_is_told_even_if_its_client_keeps_its_source_port() {
    let request = [&[1, 7, 0, 26][..], &[0; 16], &[1, 6, b'u', b's', b'e', b'r']].concat();
    let answer = [&[2, 7, 0, 20][..], &[0; 16]].concat();
    // The client sends requests at these times, in seconds.
    let requested = |times: &[u64], answered: std::ops::Range<u64>| {
        let mut wire = steady();
        // The capture ends a minute and a half after most of the requests.
        for second in (120..=190).step_by(10) {
            wire.ip(second * 1000, BROKER, MFA, 1, &[8, 0, 0, 0, 0, second as u8, 0, 1]);
            wire.ip(second * 1000 + 1, MFA, BROKER, 1, &[0, 0, 0, 0, 0, second as u8, 0, 1]);
        }
        for second in times {
            wire.datagram(second * 1000, (BROKER, 50_200), (MFA, 1812), &request);
            if answered.contains(second) {
                wire.datagram(second * 1000 + 2, (MFA, 1812), (BROKER, 50_200), &answer);
            }
        }
        wire
    };
    let capture =
        |answered, until| requested(&(10..until).step_by(5).collect::<Vec<_>>(), answered);
    let stops = || requested(&[10, 30, 50, 70, 75, 125, 130], 0..60);
    let stopped = audit(&stops());
    assert_eq!(stopped.found("unanswered", BROKER, MFA), ["yes medium"]);
    // Requests within a minute may be repetitions of one that a user did not confirm.
    let repeated = audit(&capture(0..60, 100)).found("unanswered", BROKER, MFA);
    assert_eq!(repeated, ["no medium loss"]);
    assert!(stopped.message("unanswered").contains("it worked until"));
    let row = stopped.conversations.iter().find(|row| row[2] == "1812").expect("the row");
    assert!(row[10].starts_with("worked until ") && row[10].contains("unanswered"), "{row:?}");
    // The last request alone may be lost in the network, and the capture may end before the answer,
    // because a user may take up to a minute to confirm a login.
    let cases = [(0..95, 100), (0..110, 112), (40..100, 100), (0..100, 100), (0..135, 175)];
    for (answered, until) in cases {
        let said = audit(&capture(answered.clone(), until));
        assert_eq!(said.found("unanswered", BROKER, MFA), [""; 0], "{answered:?} {until}");
        assert_eq!(said.rows(BROKER, MFA, 1812), ["matrix yes established protocol"]);
    }
    // Copies of a request, and its fragments, do not count as further requests.
    let (lost, stopped) = (capture(0..95, 100), stops());
    let twice = |wire: &Wire| Wire([wire.0.clone(), wire.0.clone()].concat());
    let fragmented = |wire: &Wire| {
        let mut fragments = Vec::new();
        for (number, (ms, frame)) in wire.0.iter().enumerate() {
            // Only whole datagrams are recognized as requests, so the first ones stay whole.
            if *ms < 20_000
                || frame[23] != 17
                || !frame.ends_with(b"user") && frame.len() != answer.len() + 42
            {
                fragments.push((*ms, frame.clone()));
                continue;
            }
            let part = |from: usize, to: usize, place: u16| {
                let mut part = [&frame[..34], &frame[from..to]].concat();
                let length = (part.len() - 14) as u16;
                part[16..18].copy_from_slice(&length.to_be_bytes());
                part[18..20].copy_from_slice(&(number as u16 + 1).to_be_bytes());
                part[20..22].copy_from_slice(&place.to_be_bytes());
                (*ms, part)
            };
            fragments.extend([part(34, 50, 0x2000), part(50, frame.len(), 2)]);
        }
        Wire(fragments)
    };
    for (wire, dedup) in [
        (twice(&lost), "off"),
        (twice(&lost), "auto"),
        (fragmented(&lost), "auto"),
        (twice(&fragmented(&lost)), "off"),
    ] {
        let said = audit_with_options(&[wire.file()], &plain(), &["--dedup", dedup]);
        assert_eq!(said.found("unanswered", BROKER, MFA), [""; 0]);
        assert_eq!(said.rows(BROKER, MFA, 1812), ["matrix yes established protocol"]);
    }
    let said = audit_with_options(&[twice(&stopped).file()], &plain(), &["--dedup", "off"]);
    assert_eq!(said.found("unanswered", BROKER, MFA), ["yes medium"]);
}

#[test]
fn a_port_that_answers_another_way_is_not_silent() {
    let mut wire = quiet();
    wire.opened(5_500, (RDSH, 50_005), (BROKER, 20_003), 80);
    wire.knock(20_000, (GW, 50_100), (BROKER, 20_002));
    assert_eq!(audit(&wire).found("unanswered", GW, BROKER), ["yes high"]);
    let acknowledged_by = |client: &str| {
        let mut wire = Wire(wire.0.clone());
        for (later, acked) in [(0, 1_000), (1_000, 9_000)] {
            wire.segment(30_000 + later, (client, 50_200), (BROKER, 20_002), ACK, (5, acked), 0);
        }
        audit(&wire).found("unanswered", GW, BROKER)
    };
    // Acknowledgements show that port 20002 sent data, although the capture does not contain it.
    assert_eq!(acknowledged_by(GW), [""; 0]);
    // Another client may have sent them to hide the finding.
    assert_eq!(acknowledged_by("10.9.0.5"), ["no medium coverage"]);
}

#[test]
fn a_keepalive_of_a_tunnel_makes_nobody_speak() {
    let mut wire = Wire::default();
    // The gateway sends a GRE keepalive to the broker. The inner packet is the reply that the
    // broker must return.
    let inner = {
        let mut inner = Wire::default();
        inner.ip(0, BROKER, GW, 47, &[0, 0, 0, 0]);
        inner.0[0].1[14..].to_vec()
    };
    wire.ip(1_000, GW, BROKER, 47, &[&[0, 0, 8, 0][..], &inner].concat());
    // The same in a tunnel with a key that the inventory lists.
    let keyed = {
        let mut inner = Wire::default();
        inner.ip(0, BROKER, GW, 47, &[0x20, 0, 0, 0, 0, 0, 0, 7]);
        inner.0[0].1[14..].to_vec()
    };
    let mut with_key = Wire::default();
    with_key.ip(1_000, GW, BROKER, 47, &[&[0x20, 0, 8, 0, 0, 0, 0, 7][..], &keyed].concat());
    let listed = "tunnels = [{ ends = [\"10.1.0.0/24\"], kind = \"gre\", use = \"overlay\" }]";
    for (wire, inventory) in [(wire, plain()), (with_key, farm("", listed))] {
        let said = Site::new(&inventory, &wire).report("hosts");
        let hosts = columns(&said, &["name", "coverage"]);
        let broker = hosts.iter().find(|row| row[0] == "broker1").expect("the broker");
        assert_eq!(broker[1], "target-only");
    }
}

#[test]
fn an_endpoint_that_the_matrix_names_has_other_ports_that_are_unexpected() {
    let avd = farm("", "")
        .replace("[\"rdsh-agent\"]", "[\"avd-session-host\"]")
        .replace("mfa = true", "avd = true");
    let mut wire = quiet();
    wire.opened(9_000, (RDSH, 50_100), ("168.63.129.16", 80), 5);
    wire.opened(10_000, (RDSH, 50_101), ("168.63.129.16", 8080), 6);
    let said = audit_with(&wire, &avd);
    assert_eq!(said.rows(RDSH, "168.63.129.16", 80), ["matrix yes established handshake"]);
    let other = said.rows(RDSH, "168.63.129.16", 8080);
    assert_eq!(other, ["port-not-in-matrix yes established handshake"]);
}

/// CAPWAP, Teredo and AYIYA servers answer from their service port, so any host that sends from
/// such a port may look like a server.
#[test]
fn a_port_that_tunnels_answer_from_hides_nothing_and_accuses_nobody() {
    let client = "10.9.0.66";
    // CAPWAP carries an Ethernet frame with an IPv4 packet from the broker to the gateway.
    let mut inner =
        vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    inner.extend([10, 1, 0, 10, 10, 1, 0, 1, 0x75, 0x30, 0x4e, 0x22, 0, 8, 0, 0]);
    let capwap = [&[0, 0x10, 2, 0, 0, 0, 0, 0][..], &inner].concat();
    for (port, payload) in
        [(5247, &capwap), (5247, &vec![0, 0x10, 2, 0, 0, 0, 0, 0, 1]), (40_000, &capwap)]
    {
        let mut wire = steady();
        for second in 0..3 {
            wire.datagram(9_000 + second * 1000, (client, port), (BROKER, 20_009), payload);
        }
        let said = audit(&wire);
        // The broker did not send anything.
        assert!(
            said.rows(BROKER, client, port).is_empty(),
            "{port}: {:?}",
            said.rows(BROKER, client, port)
        );
        assert!(said.found("no-relation", BROKER, client).is_empty(), "{port}");
        // The packets to the broker are listed under the port that they were sent to.
        assert_eq!(said.rows(client, BROKER, 20_009).len(), 1, "{port}");
    }
}

/// Asserts that every test named in docs/threat-model.md exists, and that the document names every
/// test of this file.
#[test]
fn the_model_and_its_tests_name_each_other() {
    let model = include_str!("../../docs/threat-model.md");
    let own = include_str!("threat.rs");
    let tests =
        own.split("#[test]\nfn ").skip(1).filter_map(|part| part.split_once('(')).map(|p| p.0);
    let tests: Vec<&str> = tests.filter(|name| !name.starts_with("the_model")).collect();
    assert!(tests.len() > 25);
    for name in &tests {
        assert!(model.contains(&format!("`{name}`")), "the model does not name {name}");
    }
    for named in
        model.split('`').filter(|word| word.contains('_') && !word.contains([' ', '/', '.', ':']))
    {
        assert!(tests.contains(&named), "{named} is not a test");
    }
}
