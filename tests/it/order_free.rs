//! Tests that the result does not depend on the number of workers, the order of files, how the
//! capture is split, or the available memory.

use crate::support;
use std::path::{Path, PathBuf};

use crate::support::{FIXTURES, Random, Records, audit, columns, reports};

lab_tests! {
    cut_at_random_records_in_any_order: [],
}

struct Case {
    capture: PathBuf,
    inventory: PathBuf,
    more: Vec<String>,
    scratch: tempfile::TempDir,
    runs: usize,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        FIXTURES.iter().map(|case| Self {
            capture: case.capture(),
            inventory: case.inventory(),
            more: case.more(),
            scratch: tempfile::tempdir().expect("a scratch folder"),
            runs: 0,
        })
    }

    fn run(&mut self, captures: &[PathBuf], more: &[&str]) -> Vec<(String, String)> {
        self.runs += 1;
        let out = self.scratch.path().join(format!("report{}", self.runs));
        let all: Vec<&str> =
            self.more.iter().map(String::as_str).chain(more.iter().copied()).collect();
        audit(captures, &self.inventory, &out, &all);
        reports(&out)
    }

    fn assert_same(&mut self, captures: &[PathBuf], more: &[&str], what: &str) {
        let capture = [self.capture.clone()];
        let whole = self.run(&capture, &["--jobs", "1"]);
        let other = self.run(captures, more);
        for ((name, a), (_, b)) in whole.iter().zip(&other) {
            let differs = a.lines().zip(b.lines()).find(|(a, b)| a != b);
            assert!(a == b, "{} {what}: {name} differs: {differs:?}", self.capture.display());
        }
    }
}

#[test]
fn any_number_of_workers() {
    for mut case in Case::all() {
        for jobs in ["1", "2", "8"] {
            let capture = case.capture.clone();
            case.assert_same(&[capture], &["--jobs", jobs], jobs);
        }
    }
}

#[test]
fn a_memory_limit_so_small_that_tables_spill() {
    for mut case in Case::all() {
        for jobs in ["1", "3"] {
            let capture = case.capture.clone();
            case.assert_same(&[capture], &["--jobs", jobs, "--max-memory", "1"], "spilled");
        }
    }
}

fn cut_at_random_records_in_any_order() {
    for seed in 1..=4 {
        let mut random = Random(seed);
        for mut case in Case::all().filter(|c| c.capture.extension().is_some_and(|e| e == "pcap")) {
            let folder = case.scratch.path().to_owned();
            let pieces = 2 + random.below(6);
            let mut files = Records::read(&case.capture).cut(&folder, pieces, &mut random);
            random.shuffle(&mut files);
            case.assert_same(&files, &["--jobs", "2"], &format!("cut, seed {seed}"));
            case.assert_same(
                &files,
                &["--jobs", "2", "--max-memory", "1"],
                &format!("cut and spilled, seed {seed}"),
            );
        }
    }
}

/// Packets may be stored in an order other than that in which they were captured.
#[test]
fn shuffled_packets_keep_verdicts_and_states() {
    let wanted = [
        "client",
        "server",
        "transport",
        "port",
        "verdict",
        "code",
        "certain",
        "state",
        "direction",
    ];
    for seed in 1..=3 {
        let mut random = Random(seed);
        for mut case in Case::all().filter(|c| c.capture.extension().is_some_and(|e| e == "pcap")) {
            let shuffled = case.scratch.path().join("shuffled.pcap");
            shuffle(&case.capture, &shuffled, &mut random);
            let capture = [case.capture.clone()];
            let whole = case.run(&capture, &[]);
            let other = case.run(&[shuffled], &[]);
            let judged = ["id", "verdict", "code", "certain", "severity", "state"];
            for (report, columns_of) in [
                ("conversations.csv", &wanted[..]),
                ("findings.csv", &judged),
                ("matrix.csv", &["rule", "status", "reason"]),
            ] {
                let [a, b] = [&whole, &other].map(|reports| {
                    let found = reports.iter().find(|(name, _)| name == report);
                    columns(&found.expect("the report").1, columns_of)
                });
                assert_eq!(a, b, "{report}, seed {seed}");
            }
        }
    }
}

fn shuffle(from: &Path, to: &Path, random: &mut Random) {
    let capture = Records::read(from);
    let mut records = capture.records.clone();
    random.shuffle(&mut records);
    capture.write(to, &records);
}

#[test]
fn the_same_content_twice_is_read_once_and_said() {
    for mut case in Case::all() {
        let copy = case.scratch.path().join("zz-copy.pcap");
        std::fs::copy(&case.capture, &copy).expect("a copy");
        let both = [copy, case.capture.clone()];
        case.assert_same(&both, &[], "given twice");
        let output =
            support::rasaudit(["audit".as_ref(), both[0].as_os_str(), both[1].as_os_str()]);
        assert!(support::stdout(&output).contains("was not read again"));
    }
}

/// The order in which an inventory lists its hosts does not matter.
#[test]
fn the_hosts_of_an_inventory_in_any_order() {
    for mut case in Case::all() {
        let text = std::fs::read_to_string(&case.inventory).expect("an inventory");
        let lines = text.split_inclusive('\n');
        let mut tables = vec![String::new()];
        for line in lines {
            if line.starts_with('[') {
                tables.push(String::new());
            }
            tables.last_mut().expect("a table").push_str(line);
        }
        let (mut hosts, others): (Vec<_>, Vec<_>) =
            tables.into_iter().partition(|table| table.starts_with("[[host]]"));
        assert!(hosts.len() > 1);
        hosts.reverse();
        let capture = [case.capture.clone()];
        let whole = case.run(&capture, &[]);
        case.inventory = case.scratch.path().join("reversed.toml");
        // The order of tables does not matter either.
        std::fs::write(&case.inventory, [others, hosts].concat().concat()).expect("writable");
        let other = case.run(&capture, &[]);
        for ((name, a), (_, b)) in
            whole.iter().zip(&other).filter(|((name, _), _)| name.ends_with(".csv"))
        {
            assert_eq!(a, b, "{}: {name}", capture[0].display());
        }
    }
}
