//! A lab farm in which every code shows, seen by sensors at several ports of its switch: what was done there is
//! told, no more and no less, and nothing is said of what a sensor could not see.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rasaudit::classify::Code;
use support::{Records, columns, fixture, rasaudit, stderr, stdout};

/// What was done: kind, then verdict, code, client, server, transport, port, state.
fn truth(kind: &str) -> BTreeSet<Vec<String>> {
    let text = fs::read_to_string(fixture("farm-codes/truth.tsv")).expect("the truth");
    let lines = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    let rows = lines.map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| row[0] == kind).map(|row| row[1..].to_vec()).collect()
}

/// What stands after the name of `[capture] covers`.
fn inventory(scratch: &Path, covers: Option<&str>) -> PathBuf {
    let text = fs::read_to_string(fixture("farm-codes/inventory.toml")).expect("the inventory");
    let (before, rest) = text.split_once("covers = ").expect("a statement of the coverage");
    let (_, after) = rest.split_once('\n').expect("more lines");
    let stated = covers.map_or_else(String::new, |covers| format!("covers = {covers}"));
    let path = scratch.join("inventory.toml");
    fs::write(&path, format!("{before}{stated}\n{after}")).expect("writable");
    path
}

const KEYS: &[&str] =
    &["verdict", "code", "client_name", "server_name", "transport", "port", "state"];

/// The report of a format.
fn audit(captures: &[PathBuf], inventory: &Path, format: &str, more: &[&str]) -> String {
    let mut arguments: Vec<std::ffi::OsString> = vec!["audit".into()];
    arguments.extend(captures.iter().map(Into::into));
    arguments.extend(["-i".into(), inventory.into(), "--format".into(), format.into()]);
    arguments.extend(["--exceptions".into(), fixture("farm-codes/exceptions.csv").into()]);
    arguments.extend(more.iter().map(Into::into));
    let run = rasaudit(arguments);
    assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
    stdout(&run)
}

/// A finding as the truth has it, and whether it is certain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Told {
    keys: Vec<String>,
    severity: String,
    certain: bool,
    action: String,
}

fn findings(captures: &[PathBuf], inventory: &Path, more: &[&str]) -> Vec<Told> {
    let report = audit(captures, inventory, "csv", more);
    let own = ["client", "client_roles", "server", "server_roles", "severity", "certain", "action"];
    columns(&report, &[KEYS, &own].concat())
        .into_iter()
        .map(|row| {
            // The name of an end, else its address, else its roles.
            let end = |name: usize, own: usize| {
                let names = [&row[name], &row[own], &row[own + 1]];
                names.into_iter().find(|n| !n.is_empty()).cloned().unwrap_or_default()
            };
            let mut keys = row[..7].to_vec();
            (keys[2], keys[3]) = (end(2, 7), end(3, 9));
            if keys[1] == "unused-exception" {
                (keys[2], keys[3]) = Default::default();
            }
            Told {
                keys,
                severity: row[11].clone(),
                certain: row[12] == "yes",
                action: row[13].clone(),
            }
        })
        .collect()
}

fn view(name: &str) -> Vec<PathBuf> {
    vec![fixture(&format!("farm-codes/{name}.pcap"))]
}

fn above_info(told: &[Told]) -> BTreeSet<Vec<String>> {
    told.iter().filter(|t| t.severity != "info").map(|t| t.keys.clone()).collect()
}

#[test]
fn the_whole_switch_shows_every_code_and_nothing_else() {
    let whole = view("span");
    let inventory = fixture("farm-codes/inventory.toml");
    let told = findings(&whole, &inventory, &[]);
    assert_eq!(above_info(&told), truth("finding"));
    let notes = told.iter().map(|t| t.keys.clone()).collect::<BTreeSet<_>>();
    let missing: Vec<_> = truth("note").into_iter().filter(|n| !notes.contains(n)).collect();
    assert!(missing.is_empty(), "{missing:?} in {notes:?}");
    // Stated coverage makes silence certain. A guess is what two things over UDP are: who asked is not said there.
    let unsure: Vec<&str> = told
        .iter()
        .filter(|t| t.severity != "info" && !t.certain)
        .map(|t| t.keys[1].as_str())
        .collect();
    assert_eq!(unsure, ["feature-off", "wrong-transport"]);
    let shown = columns(&audit(&whole, &inventory, "conversations", &[]), KEYS);
    let shown: BTreeSet<Vec<String>> = shown.into_iter().collect();
    for line in truth("conversation") {
        assert!(shown.contains(&line), "{line:?}");
    }
}

/// Each code is shown by the lab, or by what the user does with its capture.
#[test]
fn every_code_is_shown_by_real_traffic() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut shown: BTreeSet<String> = BTreeSet::new();
    for kind in ["finding", "note", "conversation"] {
        shown.extend(truth(kind).into_iter().map(|line| line[1].clone()));
    }
    let whole = inventory(scratch.path(), Some("\"all\""));
    let mut show = |captures: &[PathBuf], inventory: &Path, more: &[&str]| {
        shown.extend(findings(captures, inventory, more).into_iter().map(|t| t.keys[1].clone()));
        let rows = columns(&audit(captures, inventory, "matrix", more), &["reason"]);
        shown.extend(rows.into_iter().flatten().filter(|reason| !reason.is_empty()));
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
    let unseen: Vec<&str> =
        Code::NAMES.iter().copied().filter(|code| !shown.contains(*code)).collect();
    assert_eq!(unseen, [] as [&str; 0]);
}

/// Whether a host of the view is an end of a finding.
fn touches(told: &Told, hosts: &[&str], roles: &[&str]) -> bool {
    told.keys[2..4].iter().any(|end| hosts.contains(&end.as_str()) || roles.contains(&end.as_str()))
}

/// At one switch port and at two, what is told is true, and absence is claimed of pairs with those ports alone.
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
                assert!(touches(told, hosts, &["broker"]), "{name}: {told:?}");
                // Attempts are seen; silence is certain where the inventory answers for the view.
                let silence = told.keys[1] == "never-attempted";
                assert!(!silence || told.certain == certain, "{name}: {told:?}");
            }
            // What the port shows is told all the same.
            let lost: Vec<_> = truth
                .iter()
                .filter(|line| line[0] != "inventory")
                .filter(|line| {
                    hosts.contains(&line[2].as_str())
                        || hosts.contains(&line[3].as_str())
                        || line[3] == "broker"
                })
                .filter(|line| !above_info(told).contains(*line))
                .collect();
            assert_eq!(lost, [] as [&Vec<String>; 0], "{name}, stated {certain}");
            // What it does not show is not assessable, with where to capture.
            let elsewhere = told.iter().find(|t| t.keys[2] == "es1" && t.keys[5].contains("88"));
            let elsewhere = elsewhere.expect("the silence of es1 towards its controller");
            assert_eq!(elsewhere.keys[0], "not-assessable", "{elsewhere:?}");
            assert!(elsewhere.action.contains("Capture at the switch port of"), "{elsewhere:?}");
        }
    }
    // Of what one port sends alone no silence is claimed at all, whatever the inventory states.
    let stated = inventory(scratch.path(), Some("\"all\""));
    let sent = findings(&view("span-gw1-sent"), &stated, &[]);
    assert!(!sent.is_empty() && sent.iter().all(|t| t.keys[0] != "missing"), "{sent:?}");
}
