//! Tests a lab farm that shows nearly every code, captured at several ports of its switch. Audits
//! report exactly what was done in the farm, and make no claims about traffic that a sensor could
//! not see.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::truth::{KEYS, above_info, audit, findings, truth};
use crate::support::{Records, columns, fixture};
use rasaudit::classify::Code;

/// Writes the inventory with this value of `[capture] covers`, or without the key, and returns its
/// path.
fn inventory(scratch: &Path, covers: Option<&str>) -> PathBuf {
    let text = fs::read_to_string(fixture("farm-codes/inventory.toml")).expect("the inventory");
    let (before, rest) = text.split_once("covers = ").expect("a statement of the coverage");
    let (_, after) = rest.split_once('\n').expect("more lines");
    let stated = covers.map_or_else(String::new, |covers| format!("covers = {covers}"));
    let path = scratch.join("inventory.toml");
    fs::write(&path, format!("{before}{stated}\n{after}")).expect("writable");
    path
}

fn view(name: &str) -> Vec<PathBuf> {
    vec![fixture(&format!("farm-codes/{name}.pcap"))]
}

#[test]
fn the_whole_switch_shows_every_code_and_nothing_else() {
    let whole = view("span");
    let inventory = fixture("farm-codes/inventory.toml");
    let told = findings(&whole, &inventory, &[]);
    assert_eq!(above_info(&told), truth("finding"));
    // With declared coverage, absence claims are certain, except those about Kerberos: a host with
    // valid tickets need not ask for new ones. Three findings about UDP traffic are guesses,
    // because UDP does not show which side is the client.
    let unsure: Vec<&str> = told
        .iter()
        .filter(|t| t.severity != "info" && !t.certain)
        .map(|t| t.keys[1].as_str())
        .collect();
    let mut sorted = unsure.clone();
    sorted.sort_unstable();
    let of_udp = ["feature-off", "port-not-in-matrix", "wrong-transport"];
    let expected = [&of_udp[..1], &["never-attempted"; 2], &of_udp[1..]].concat();
    assert_eq!(sorted, expected);
    let shown = columns(&audit(&whole, &inventory, "conversations", &[]), KEYS);
    let shown: BTreeSet<Vec<String>> = shown.into_iter().collect();
    for line in truth("conversation") {
        assert!(shown.contains(&line), "{line:?}");
    }
}

/// Each code except two occurs in an audit of the lab captures. Some codes occur only with certain
/// options, a changed inventory, or frames removed.
#[test]
fn every_code_is_shown_by_real_traffic() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut shown: BTreeSet<String> = BTreeSet::new();
    let whole = inventory(scratch.path(), Some("\"all\""));
    let mut show = |captures: &[PathBuf], inventory: &Path, more: &[&str]| {
        shown.extend(findings(captures, inventory, more).into_iter().map(|t| t.keys[1].clone()));
        let rows = columns(&audit(captures, inventory, "matrix", more), &["reason"]);
        shown.extend(rows.into_iter().flatten().filter(|reason| !reason.is_empty()));
        let rows = columns(&audit(captures, inventory, "conversations", more), &["code"]);
        shown.extend(rows.into_iter().flatten());
    };
    show(&view("span"), &whole, &[]);
    show(&view("span"), &whole, &["--filter", "tcp"]);
    show(&view("span"), &whole, &["--min-watch", "1h"]);
    // One frame in twenty is lost.
    let capture = Records::read(&view("span")[0]);
    let kept: Vec<Vec<u8>> = capture
        .records
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 20 != 7)
        .map(|(_, r)| r.clone())
        .collect();
    let lossy = scratch.path().join("lossy.pcap");
    capture.write(&lossy, &kept);
    show(&[lossy], &whole, &[]);
    show(&view("span-gw1-sent"), &whole, &[]);
    let bare = inventory(scratch.path(), None);
    show(&view("span-broker1"), &bare, &[]);
    // No system in the lab triggers these codes by itself. tests/it/threat.rs builds the packets
    // one by one.
    let made = ["challenged", "loopback-on-wire"];
    let unseen: Vec<&str> = Code::NAMES
        .iter()
        .copied()
        .filter(|code| !shown.contains(*code) && !made.contains(code))
        .collect();
    assert_eq!(unseen, [] as [&str; 0]);
}

/// Returns whether one of the hosts is an end of a finding.
fn touches(keys: &[String], hosts: &[&str]) -> bool {
    keys[2..4].iter().any(|end| hosts.contains(&end.as_str()))
}

/// With one or two mirrored switch ports, all findings are true, and only connections of the hosts
/// at those ports are reported as missing.
#[test]
fn nothing_is_claimed_of_pairs_that_a_port_cannot_show() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let truth = truth("finding");
    for (name, hosts, stated) in [
        ("span-broker1", &["broker1"][..], "[\"broker1\"]"),
        ("span-broker1-gw1", &["broker1", "gw1"][..], "[\"broker1\", \"gw1\"]"),
    ] {
        let bare = inventory(scratch.path(), None);
        let inferred = findings(&view(name), &bare, &[]);
        let stated = inventory(scratch.path(), Some(stated));
        let stated = findings(&view(name), &stated, &[]);
        for (told, certain) in [(&inferred, false), (&stated, true)] {
            let false_ones: Vec<_> = above_info(told).difference(&truth).cloned().collect();
            assert_eq!(false_ones, [] as [Vec<String>; 0], "{name}");
            for told in told.iter().filter(|t| t.keys[0] == "missing") {
                assert!(touches(&told.keys, hosts), "{name}: {told:?}");
                // Attempts are visible. Their absence is certain only if the inventory declares the
                // coverage.
                let silence = told.keys[1] == "never-attempted";
                // A host with valid tickets need not ask for new ones (Kerberos).
                let certain = certain && told.keys[5] != "88";
                assert!(!silence || told.certain == certain, "{name}: {told:?}");
            }
            // Every finding about hosts at the mirrored ports is reported, as in the capture of the
            // whole switch, except findings about the inventory.
            let lost: Vec<_> = truth
                .iter()
                .filter(|line| line[0] != "inventory")
                .filter(|line| touches(line, hosts))
                .filter(|line| !above_info(told).contains(*line))
                .collect();
            assert_eq!(lost, [] as [&Vec<String>; 0], "{name}, stated {certain}");
            // Traffic that the port does not show is not assessable. The finding names the switch
            // port to capture on.
            let elsewhere = told.iter().find(|t| t.keys[2] == "es1" && t.keys[5].contains("88"));
            let elsewhere = elsewhere.expect("the finding about es1 and its controller");
            assert_eq!(elsewhere.keys[0], "not-assessable", "{elsewhere:?}");
            assert!(elsewhere.action.contains("Capture at the switch port of"), "{elsewhere:?}");
        }
    }
    // If a capture contains only what one host sent, nothing is reported as missing, even if the
    // inventory declares full coverage.
    let stated = inventory(scratch.path(), Some("\"all\""));
    let sent = findings(&view("span-gw1-sent"), &stated, &[]);
    assert!(!sent.is_empty() && sent.iter().all(|t| t.keys[0] != "missing"), "{sent:?}");
}

/// A finding about a conversation explains its state and lists the kinds of packets of each side
/// from which the state follows. Other findings name their evidence.
#[test]
fn a_state_is_told_with_what_it_rests_on() {
    let inventory = fixture("farm-codes/inventory.toml");
    let json = audit(&view("span"), &inventory, "json", &[]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let findings = json["findings"].as_array().expect("findings");
    let of = |code: &str| {
        let finding = findings.iter().find(|f| f["code"] == code).expect("the finding");
        finding["trace"].to_string()
    };
    for (code, rests_on) in [
        (
            "wrong-source",
            "state established: the client sent a SYN, the server sent a SYN-ACK, and the client acknowledged it",
        ),
        (
            "wrong-source",
            "seen from the client: SYN, ACK, data, FIN; from the server: SYN-ACK, ACK, data, FIN",
        ),
        ("refused", "state refused: the server answered a SYN with an RST"),
        ("refused", "seen from the client: SYN; from the server: RST"),
        (
            "rejected",
            "10.20.1.31 answered a packet from the client with an ICMP error: administratively prohibited",
        ),
        ("unanswered", "state unanswered: the server did not reply"),
        ("unanswered", "seen from the client: SYN; from the server: nothing"),
        (
            "half-open",
            "state half-open: the server sent a SYN-ACK, and the client never replied to it",
        ),
        ("half-open", "seen from the client: SYN; from the server: SYN-ACK"),
        ("wrong-transport", "state established: both sides sent packets"),
        ("address-conflict", " claimed 10.20.1.99 in "),
        ("never-attempted", " unicast packets within "),
    ] {
        assert!(of(code).contains(rests_on), "{code}: {}", of(code));
    }
}
