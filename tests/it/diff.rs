//! Tests the comparison of two audits: what changed, and why. Each cause has a pair of audits.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::wire::{ACK, RST, SYN, Wire};
use crate::support::{columns, fixture, rasaudit, stderr, stdout};
use serde_json::Value;

/// A fictitious product: viewers connect to front doors, front doors to brains, and brains to a
/// store if the feature is on.
const MATRIX: &str = "\
id,source_role,destination_role,transport,port_low,port_high,condition,scope,expectation,watch_s,purpose,provenance
acme.front.brain,front,brain,tcp,7100,7100,,network,steady,60,Who may come in,manual 2
acme.brain.store,brain,store,tcp,5432,5432,store,network,on-demand,,Records,manual 3
acme.viewer.front,viewer,front,tcp,7443,7443,,internet,on-demand,,Sessions,manual 1
";
const ROLES: &str = "\
slug,name,kind,members,traits
viewer,Acme Viewer,client,,
front,Acme Front Door,component,,entrance
brain,Acme Brain,component,,
store,Acme Store,infrastructure,,
";
const FEATURES: &str = "feature,default,meaning\nstore,on,A store\n";
const INVENTORY: &str = r#"
[farm]
name = "Desk farm"
matrix = "./acme"
[farm.features]
store = true
[capture]
covers = "all"
[[host]]
name = "front1"
addresses = ["10.1.0.1"]
roles = ["front"]
[[host]]
name = "brain1"
addresses = ["10.1.0.2"]
roles = ["brain"]
[[host]]
name = "store1"
addresses = ["10.1.0.3"]
roles = ["store"]
[[network]]
name = "office"
cidr = "10.1.9.0/24"
roles = ["viewer"]
"#;
const EXCEPTIONS: &str =
    "id,from,to,transport,port,direction,owner,reason,approved_by,created,expires\n";
const APPROVED: &str =
    "monitor,front1,store1,tcp,9100,,ops,monitoring,alice,2026-01-01,2026-12-31\n";

/// The input of one audit.
#[derive(Clone)]
struct Audited {
    matrix: String,
    inventory: String,
    exceptions: Option<String>,
    wire: Wire,
    options: Vec<&'static str>,
}

impl Audited {
    /// Returns the input of an audit of a healthy farm. The capture lasts this many seconds.
    fn healthy(seconds: u64) -> Self {
        let mut wire = Wire::default();
        for second in (0..=seconds).step_by(10) {
            let port = 40_000 + second as u16;
            wire.connect(second * 1000, ("10.1.0.1", port), ("10.1.0.2", 7100));
            wire.connect(second * 1000 + 100, ("10.1.0.2", port), ("10.1.0.3", 5432));
            wire.connect(second * 1000 + 200, ("10.1.9.7", port), ("10.1.0.1", 7443));
        }
        Self {
            matrix: MATRIX.to_owned(),
            inventory: INVENTORY.to_owned(),
            exceptions: None,
            wire,
            options: Vec::new(),
        }
    }

    /// Adds undocumented connections between two ends, one every 30 seconds, for this many seconds.
    fn with(mut self, client: &str, server: &str, port: u16, seconds: u64) -> Self {
        for second in (0..=seconds).step_by(30) {
            let from = (client, 50_000 + second as u16);
            self.wire.connect(second * 1000 + 300, from, (server, port));
        }
        self
    }

    fn inventory(mut self, from: &str, to: &str) -> Self {
        assert!(self.inventory.contains(from), "{from}");
        self.inventory = self.inventory.replace(from, to);
        self
    }

    fn matrix(mut self, from: &str, to: &str) -> Self {
        assert!(self.matrix.contains(from), "{from}");
        self.matrix = self.matrix.replace(from, to);
        self
    }

    fn excepting(mut self, lines: &str) -> Self {
        self.exceptions = Some(format!("{EXCEPTIONS}{lines}"));
        self
    }

    fn options(mut self, options: &[&'static str]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// Writes the input to a folder, audits it, and returns the folder of the reports.
    fn run(&self, folder: &Path) -> PathBuf {
        let at = |name: &str| folder.join(name);
        fs::create_dir_all(at("acme")).expect("writable");
        let write = |name: &str, bytes: &[u8]| fs::write(at(name), bytes).expect("writable");
        write("acme/matrix.csv", self.matrix.as_bytes());
        write("acme/roles.csv", ROLES.as_bytes());
        write("acme/features.csv", FEATURES.as_bytes());
        write("inventory.toml", self.inventory.as_bytes());
        write("a.pcap", &self.wire.file());
        let text = |path: PathBuf| path.display().to_string();
        let mut words = vec![
            "audit".to_owned(),
            text(at("a.pcap")),
            "-i".to_owned(),
            text(at("inventory.toml")),
        ];
        words.extend(["-q".to_owned(), "--out".to_owned(), text(at("out"))]);
        if let Some(list) = &self.exceptions {
            write("exceptions.csv", list.as_bytes());
            words.extend(["--exceptions".to_owned(), text(at("exceptions.csv"))]);
        }
        words.extend(self.options.iter().map(|word| (*word).to_owned()));
        let run = rasaudit(&words);
        assert!(run.status.code().is_some_and(|code| code != 2), "{}", stderr(&run));
        at("out")
    }
}

/// Compares two audits and returns the exit code and the comparison.
fn compared(old: &Audited, new: &Audited) -> (Option<i32>, Value) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let [old, new] =
        [("old", old), ("new", new)].map(|(name, audited)| audited.run(&scratch.path().join(name)));
    let words =
        ["diff".as_ref(), old.as_os_str(), new.as_os_str(), "--format".as_ref(), "json".as_ref()];
    let run = rasaudit(words);
    let json = serde_json::from_str(&stdout(&run)).unwrap_or_else(|_| panic!("{}", stderr(&run)));
    (run.status.code(), json)
}

/// Asserts that exactly one finding differs, with this change and cause, and that the reason
/// contains `part`. The exit code must be 1, or 0 if the change is `excepted`.
fn assert_one(old: &Audited, new: &Audited, change: &str, cause: &str, part: &str) {
    let (code, json) = compared(old, new);
    let list = json["findings"].as_array().expect("a list");
    let differing: Vec<&Value> = list.iter().filter(|f| f["change"] != "same").collect();
    let [finding] = &differing[..] else { panic!("{json:#}") };
    assert_eq!(
        (&finding["change"], &finding["cause"]),
        (&change.into(), &cause.into()),
        "{json:#}"
    );
    let reason = finding["reason"].as_str().expect("a text");
    assert!(reason.contains(part), "{reason}");
    let expected = i32::from(change != "excepted");
    assert_eq!(code, Some(expected), "{json:#}");
}

/// Returns the input of an audit of a farm with undocumented traffic between two listed hosts for
/// ten minutes.
fn monitored() -> Audited {
    Audited::healthy(600).with("10.1.0.1", "10.1.0.3", 9100, 600)
}

#[test]
fn equal_audits_do_not_differ() {
    let (code, json) = compared(&monitored(), &monitored());
    assert_eq!(code, Some(0), "{json:#}");
    assert_eq!(json["counts"]["same"], 1, "{json:#}");
    assert!(json["differences"].as_array().is_some_and(Vec::is_empty), "{json:#}");
}

#[test]
fn a_row_of_the_matrix_is_the_cause() {
    let row = "acme.front.store,front,store,tcp,9100,9100,,network,on-demand,,Metrics,manual 9\n";
    let documented = monitored().matrix("acme.viewer.front", &format!("{row}acme.viewer.front"));
    assert_one(&monitored(), &documented, "gone", "row", "a new row, acme.front.store (manual 9)");
    assert_one(&documented, &monitored(), "new", "row", "no longer has the row acme.front.store");
    let moved = documented.clone().matrix("9100,9100", "9101,9101");
    let differs = "acme.front.store (manual 9) differs: port tcp 9101 instead of tcp 9100";
    assert_one(&documented, &moved, "new", "row", differs);
}

#[test]
fn an_exception_is_the_cause() {
    let excepted = monitored().excepting(APPROVED);
    let by = "permitted by the exception monitor (owner ops, expires 2026-12-31)";
    assert_one(&monitored(), &excepted, "excepted", "exception", by);
    assert_one(&excepted, &monitored(), "new", "exception", "the exception monitor was removed");
    let expired = monitored().excepting(&APPROVED.replace("2026-12-31", "2026-01-02"));
    let words = "the exception monitor expired on 2026-01-02";
    assert_one(&excepted, &expired, "new", "exception", words);
}

#[test]
fn a_feature_is_the_cause() {
    let off = Audited::healthy(600).inventory("store = true", "store = false");
    let on = Audited::healthy(600);
    assert_one(&off, &on, "gone", "feature", "the feature store is no longer off");
    assert_one(&on, &off, "new", "feature", "the feature store is off");
}

#[test]
fn a_line_of_the_inventory_is_the_cause() {
    let agent = Audited::healthy(600).with("10.1.0.9", "10.1.0.2", 7100, 600);
    let entry = "[[host]]\nname = \"front2\"\naddresses = [\"10.1.0.9\"]\nroles = [\"front\"]\n";
    let listed = agent.clone().inventory("[[network]]", &format!("{entry}[[network]]"));
    let line = listed.inventory.lines().position(|l| l.contains("front2")).expect("a line");
    let words = format!(
        "10.1.0.9 is listed as front2, with the role front, in the new inventory (line {line})"
    );
    assert_one(&agent, &listed, "gone", "inventory", &words);
    assert_one(&listed, &agent, "new", "inventory", "in the old one, it was front2");
    let wrong = listed.clone().inventory(
        "addresses = [\"10.1.0.9\"]\nroles = [\"front\"]",
        "addresses = [\"10.1.0.9\"]\nroles = [\"store\"]",
    );
    let words = format!(
        "front2 has the role front in the new inventory (line {line}), and the role store in the old one"
    );
    assert_one(&wrong, &listed, "gone", "inventory", &words);
}

#[test]
fn a_severity_is_the_cause() {
    let mild = monitored().options(&["--severity", "no-relation=low"]);
    assert_one(&monitored(), &mild, "better", "severity", "was high and is now low");
    assert_one(&mild, &monitored(), "worse", "severity", "was low and is now high");
}

#[test]
fn a_way_around_a_failure_is_no_other_severity_of_its_code() {
    let brain = "[[host]]\nname = \"brain2\"\naddresses = [\"10.1.0.4\"]\nroles = [\"brain\"]\n";
    let unanswered = |is_avoidable: bool| {
        let mut wire = Wire::default();
        for second in (0..=600).step_by(10) {
            let port = 40_000 + second as u16;
            if is_avoidable {
                wire.connect(second * 1000, ("10.1.0.1", port), ("10.1.0.2", 7100));
            }
            wire.knock(second * 1000 + 50, ("10.1.0.1", port), ("10.1.0.4", 7100));
            wire.connect(second * 1000 + 100, ("10.1.0.4", port), ("10.1.0.3", 5432));
            wire.connect(second * 1000 + 100, ("10.1.0.2", port), ("10.1.0.3", 5432));
            wire.connect(second * 1000 + 200, ("10.1.9.7", port), ("10.1.0.1", 7443));
        }
        let healthy = Audited::healthy(0).inventory("[[network]]", &format!("{brain}[[network]]"));
        Audited { wire, ..healthy }
    };
    let (avoidable, stuck) = (unanswered(true), unanswered(false));
    assert_one(&avoidable, &stuck, "worse", "traffic", "the severity was low and is now high");
    assert_one(&stuck, &avoidable, "better", "traffic", "the severity was high and is now low");
}

#[test]
fn traffic_that_stops_is_told_only_where_it_would_have_shown() {
    let stopped = "stopped: the new capture does not";
    assert_one(&monitored(), &Audited::healthy(600), "gone", "stopped", stopped);
    // A new capture that is shorter than the old one, is filtered or covers less does not show that
    // traffic has stopped.
    let short = Audited::healthy(300);
    assert_one(
        &monitored(),
        &short,
        "gone",
        "not-seen",
        "its watch time was only 300 s, and that of the other capture 600 s",
    );
    let filtered = Audited::healthy(600).options(&["--filter", "not port 9100"]);
    assert_one(&monitored(), &filtered, "gone", "not-seen", "the capture was filtered");
    // A capture without any UDP packet shows nothing about UDP traffic.
    let queries = |mut audited: Audited| {
        for second in (0..=600).step_by(30) {
            let port = 50_000 + second as u16;
            audited.wire.udp(second * 1000 + 300, ("10.1.0.1", port), ("10.1.0.3", 9100));
        }
        audited
    };
    let lacking = "it contains no UDP packets, perhaps because of a filter";
    let udp = queries(Audited::healthy(600));
    assert_one(&udp, &Audited::healthy(600), "gone", "not-seen", lacking);
    let mut with_udp = Audited::healthy(600);
    with_udp.wire.udp(100, ("10.1.9.7", 50_000), ("10.1.9.8", 9200));
    let (_, json) = compared(&udp, &with_udp);
    let gone = json["findings"].as_array().expect("a list").iter();
    let causes: Vec<_> = gone.filter(|f| f["change"] == "gone").map(|f| &f["cause"]).collect();
    assert_eq!(causes, ["stopped"], "{json:#}");
    let elsewhere = Audited::healthy(600).inventory("covers = \"all\"", "covers = [\"brain1\"]");
    let uncovered = "nothing shows that the capture covers traffic between front1 and store1";
    assert_one(&monitored(), &elsewhere, "gone", "not-seen", uncovered);
    // Traffic that was seen only once may occur again.
    let once = Audited::healthy(600).with("10.1.0.1", "10.1.0.3", 9100, 0);
    let words = "the old capture shows only 1 flow";
    assert_one(&once, &Audited::healthy(600), "gone", "not-seen", words);
    // Traffic that was seen several times within a moment may also occur again.
    let mut burst = Audited::healthy(600);
    for port in 50_000..50_005 {
        burst.wire.connect(300_000, ("10.1.0.1", port), ("10.1.0.3", 9100));
    }
    let words = "the old capture shows 5 flows, all within 0 s";
    assert_one(&burst, &Audited::healthy(600), "gone", "not-seen", words);
}

#[test]
fn a_silent_host_has_not_stopped() {
    let mut without = Audited::healthy(600);
    without.wire = Wire::default();
    for second in (0..=600).step_by(10) {
        let port = 40_000 + second as u16;
        without.wire.connect(second * 1000, ("10.1.0.1", port), ("10.1.0.2", 7100));
    }
    let (_, json) = compared(&monitored(), &without);
    let list = json["findings"].as_array().expect("a list");
    let gone = list.iter().find(|f| f["change"] == "gone").expect("a finding that is gone");
    assert_eq!(gone["cause"], "not-seen", "{json:#}");
    assert_eq!(
        gone["reason"], "not seen in the new capture: it shows no unicast packets from store1",
        "{json:#}"
    );
}

#[test]
fn traffic_itself_is_the_cause() {
    let words = "not in the old capture, which could have shown it";
    assert_one(&Audited::healthy(600), &monitored(), "new", "traffic", words);
    let words = "which might not have shown it: its watch time was only 300 s, and that of the other capture 600 s";
    assert_one(&Audited::healthy(300), &monitored(), "new", "traffic", words);
    // Missing traffic appears, and traffic that was seen is missing.
    let mut silent = Audited::healthy(600);
    silent.wire = Wire::default();
    for second in (0..=600).step_by(10) {
        let port = 40_000 + second as u16;
        silent.wire.connect(second * 1000 + 100, ("10.1.0.2", port), ("10.1.0.3", 5432));
        silent.wire.connect(second * 1000 + 200, ("10.1.9.7", port), ("10.1.0.1", 7443));
    }
    let words = "front1 reached brain1 on TCP 7100 in the new capture";
    assert_one(&silent, &Audited::healthy(600), "gone", "traffic", words);
    let words = "front1 reached brain1 on TCP 7100 in the old capture";
    assert_one(&Audited::healthy(600), &silent, "new", "traffic", words);
}

#[test]
fn further_clients_make_a_finding_larger_or_worse() {
    let one = Audited::healthy(600).with("10.1.9.7", "10.1.0.2", 7100, 600);
    let two = one.clone().with("10.1.9.8", "10.1.0.2", 7100, 600);
    let three = two.clone().with("10.1.9.9", "10.1.0.2", 7100, 600);
    assert_one(&one, &two, "worse", "traffic", "new clients or servers: 10.1.9.8");
    assert_one(&two, &three, "grown", "traffic", "new clients or servers: 10.1.9.9");
}

/// A scan of closed ports does not make later connections to the same host known.
#[test]
fn a_port_that_was_only_attempted_before_is_news_of_a_finding_about_many_ports() {
    let scan = |reached: &[u16]| {
        let mut audited = Audited::healthy(600);
        for port in 8101..8121 {
            let ends = [("10.1.9.7", 45_000 + port), ("10.1.0.2", port)];
            let ms = u64::from(port) * 10;
            if reached.contains(&port) {
                audited.wire.connect(ms, ends[0], ends[1]);
            } else {
                audited.wire.segment(ms, ends[0], ends[1], SYN, (5, 0), 0);
                audited.wire.segment(ms + 1, ends[1], ends[0], RST | ACK, (0, 6), 0);
            }
        }
        audited
    };
    let [one, two] = [scan(&[8103]), scan(&[8103, 8107])];
    assert_one(&one, &two, "worse", "traffic", "ports that were not reached before: 8107");
    let (code, json) = compared(&two, &one);
    assert_eq!(code, Some(0), "{json:#}");
    // Dynamic ports differ from day to day.
    let [today, tomorrow] = [49_700, 49_800].map(|port| {
        let mut audited = one.clone();
        audited.wire.connect(400_000, ("10.1.9.7", 45_000), ("10.1.0.2", port));
        audited
    });
    let (code, json) = compared(&today, &tomorrow);
    assert_eq!(code, Some(0), "{json:#}");
    // An audit with a baseline finds the same.
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let old = one.run(&scratch.path().join("old"));
    for (number, (now, since)) in [(one, "known"), (two, "new")].into_iter().enumerate() {
        let out = now.run(&scratch.path().join(number.to_string()));
        let again = rasaudit([
            "audit".as_ref(),
            out.with_file_name("a.pcap").as_os_str(),
            "-i".as_ref(),
            out.with_file_name("inventory.toml").as_os_str(),
            "--baseline".as_ref(),
            old.as_os_str(),
            "--format".as_ref(),
            "csv".as_ref(),
        ]);
        let findings = columns(&stdout(&again), &["port", "since"]);
        assert_eq!(findings, [["*", since]], "{}", stderr(&again));
    }
}

#[test]
fn a_renamed_host_is_told_as_one() {
    let renamed = monitored().inventory("name = \"front1\"", "name = \"door1\"");
    let (code, json) = compared(&monitored(), &renamed);
    assert_eq!(code, Some(0), "{json:#}");
    assert_eq!(json["renames"][0]["old"], "front1", "{json:#}");
    assert_eq!(json["renames"][0]["new"], "door1", "{json:#}");
    assert_eq!(json["counts"]["same"], 1, "{json:#}");
    // If the hardware address differs, too, the host was not renamed but replaced.
    let mut other = renamed.clone();
    other.wire.sent_by(0, 77, 64);
    let (code, json) = compared(&monitored(), &other);
    assert_eq!(code, Some(1), "{json:#}");
    assert!(json["renames"].as_array().is_some_and(Vec::is_empty), "{json:#}");
    // A host with an additional address does not count as renamed either.
    let moved = monitored().inventory(
        "name = \"front1\"\naddresses = [\"10.1.0.1\"]",
        "name = \"door1\"\naddresses = [\"10.1.0.1\", \"10.1.0.11\"]",
    );
    let (_, json) = compared(&monitored(), &moved);
    assert!(json["renames"].as_array().is_some_and(Vec::is_empty), "{json:#}");
}

#[test]
fn what_cannot_be_compared_is_refused_with_what_is_missing() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = monitored().run(&scratch.path().join("a"));
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).expect("writable");
    let refused = |other: &Path| {
        let run = rasaudit(["diff".as_ref(), out.as_os_str(), other.as_os_str()]);
        assert_eq!(run.status.code(), Some(2));
        assert!(run.stdout.is_empty());
        stderr(&run)
    };
    assert!(refused(&empty).contains("contains no audit.json"));
    fs::write(empty.join("audit.json"), "{").expect("writable");
    assert!(refused(&empty).contains("is not complete JSON"));
    let capture = fixture("farm-healthy/span.pcap");
    assert!(
        refused(&capture).contains(" is a capture, not the result of an audit; audit it first")
    );
    let table = refused(&out.join("findings.csv"));
    assert!(
        table.contains("is a table; rasaudit diff needs audit.json or the folder that contains it"),
        "{table}"
    );
    let tables = monitored().options(&["--reports", "csv"]).run(&scratch.path().join("tables"));
    assert!(refused(&tables).contains("audit again with --reports csv,json"));
    let unjudged = scratch.path().join("unjudged");
    let capture = scratch.path().join("a/a.pcap");
    rasaudit([
        "audit".as_ref(),
        capture.as_os_str(),
        "-q".as_ref(),
        "--out".as_ref(),
        unjudged.as_os_str(),
    ]);
    assert!(refused(&unjudged).contains("the audit had no inventory"));
    // A file that does not match its manifest is not compared.
    let json = fs::read_to_string(out.join("audit.json")).expect("a result");
    fs::write(out.join("audit.json"), json.replace("Desk farm", "Desk firm")).expect("writable");
    let run = rasaudit(["diff".as_ref(), out.as_os_str(), out.as_os_str()]);
    assert_eq!(run.status.code(), Some(2), "{}", stderr(&run));
}

#[test]
fn a_view_of_one_direction_is_neither_better_nor_worse() {
    let whole = monitored();
    let half = monitored().options(&["--filter", "not (src host 10.1.0.3 and src port 9100)"]);
    let pairs = [(&whole, &half, "less-visible", "new"), (&half, &whole, "more-visible", "old")];
    for (old, new, cause, which) in pairs {
        let (code, json) = compared(old, new);
        assert_eq!(code, Some(0), "{json:#}");
        assert_eq!(json["counts"]["same"], 1, "{json:#}");
        let finding = &json["findings"][0];
        assert_eq!((&finding["change"], &finding["cause"]), (&"same".into(), &cause.into()));
        let reason = finding["reason"].as_str().expect("a text");
        let filter = "only one direction passed the filter not (src host";
        assert!(reason.contains(&format!("in the {which} capture, {filter}")), "{reason}");
    }
    // A baseline gives the same answer, as a folder and as a table.
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let old = half.run(&scratch.path().join("old"));
    for (name, baseline) in [("folder", old.clone()), ("table", old.join("findings.csv"))] {
        let list = baseline.display().to_string();
        let mut audited = monitored();
        audited.options = vec!["--baseline", Box::leak(list.into_boxed_str()), "--fail-on", "new"];
        let states = states(&audited.run(&scratch.path().join(name)));
        assert_eq!((states.len(), states[0][1].as_str()), (1, "same"), "{states:#?}");
    }
}

/// Audits the capture of a fixture, and returns the folder of the reports.
fn audited(capture: &str, inventory: &str, out: PathBuf, more: &[&str]) -> PathBuf {
    let [capture, inventory] = [capture, inventory].map(fixture);
    let words = ["audit".as_ref(), capture.as_os_str(), "-i".as_ref(), inventory.as_os_str()];
    let words = words.into_iter().chain(["-q".as_ref(), "--out".as_ref(), out.as_os_str()]);
    let run = rasaudit(words.chain(more.iter().map(|word| (*word).as_ref())));
    assert!(run.status.code().is_some_and(|code| code != 2), "{}", stderr(&run));
    out
}

/// Compares two stored results and returns the comparison.
fn json_of(old: &Path, new: &Path) -> Value {
    let words = ["diff".as_ref(), old.as_os_str(), new.as_os_str()];
    let run = rasaudit(words.into_iter().chain(["--format".as_ref(), "json".as_ref()]));
    serde_json::from_str(&stdout(&run)).unwrap_or_else(|_| panic!("{}", stderr(&run)))
}

/// Returns the change, the cause and the reason of the finding with this id.
fn change_of(json: &Value, id: &str) -> [String; 3] {
    let list = json["findings"].as_array().expect("a list");
    let finding = list.iter().find(|f| f["id"] == id).unwrap_or_else(|| panic!("{json:#}"));
    ["change", "cause", "reason"].map(|key| finding[key].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_row_that_was_not_assessed_has_its_reason_in_words() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let [long, short] = long_and_short(scratch.path());
    let [_, _, reason] = change_of(&json_of(&long, &short), "f-2764b3991517");
    let words = "the time in which the capture could have shown the traffic was shorter than required (total watch time: 116 s)";
    assert_eq!(reason, format!("not assessed in the new capture: {words}"));
}

#[test]
fn a_filter_does_not_end_an_outage() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str, more: &[&str]| {
        let out = scratch.path().join(name);
        audited("farm-faults/span.pcap", "farm-healthy/inventory.toml", out, more)
    };
    let filter = ["--filter", "not host 10.20.9.102"];
    let json = json_of(&at("old", &[]), &at("new", &filter));
    // Both captures show that rdsh2 sends the same SYNs, without an answer, so the outage has not
    // ended.
    let [change, cause, reason] = change_of(&json, "f-c9ebab3e9997");
    assert_eq!((&*change, &*cause), ("gone", "not-seen"), "{reason}");
    assert!(reason.contains("only one direction passed the filter not host"), "{reason}");
}

#[test]
fn a_reversed_order_is_a_warning_and_nothing_has_stopped() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut later = monitored();
    later.wire.0.iter_mut().for_each(|(time, _)| *time += 3_600_000);
    let [old, new] = [("old", later), ("new", Audited::healthy(600))]
        .map(|(name, audited)| audited.run(&scratch.path().join(name)));
    let warning = "the new capture begins before the old one";
    for format in ["text", "markdown", "json", "html"] {
        let words = ["diff".as_ref(), old.as_os_str(), new.as_os_str()];
        let run = rasaudit(words.into_iter().chain(["--format".as_ref(), format.as_ref()]));
        assert!(stderr(&run).contains(warning), "{}", stderr(&run));
        assert!(stdout(&run).contains(&format!("{warning}; are the two")), "{}", stdout(&run));
    }
    let json = json_of(&old, &new);
    assert_eq!(json["findings"][0]["cause"], "not-seen", "{json:#}");
    // If the older audit comes first, there is no warning.
    let json = json_of(&new, &old);
    assert_eq!(json["warnings"], serde_json::json!([]), "{json:#}");
}

/// Audits the capture of `farm-codes` twice: all of it, and only its first two minutes.
fn long_and_short(scratch: &Path) -> [PathBuf; 2] {
    let exceptions = fixture("farm-codes/exceptions.csv").display().to_string();
    let at = |name: &str, more: &[&str]| {
        let more = [&["--exceptions", &exceptions], more].concat();
        audited("farm-codes/span.pcap", "farm-codes/inventory.toml", scratch.join(name), &more)
    };
    [at("long", &[]), at("short", &["--until", "2026-11-21T11:53:58Z"])]
}

#[test]
fn a_conversation_that_both_audits_document_is_not_the_counterpart_of_another() {
    // Broadcasts and their answers are documented in both audits. In the audit of the long capture,
    // two further conversations between the same ends have an uncertain direction.
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let [long, short] = long_and_short(scratch.path());
    let [change, cause, reason] = change_of(&json_of(&long, &short), "f-bc7143586df6");
    assert_eq!((&*change, &*cause), ("gone", "not-seen"), "{reason}");
    assert!(reason.contains("its watch time was only 116 s"), "{reason}");
}

#[test]
fn a_claim_about_any_server_names_the_reason_and_no_empty_end() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let [long, short] = long_and_short(scratch.path());
    let [change, cause, reason] = change_of(&json_of(&long, &short), "f-311fa5ab4c4b");
    assert_eq!((&*change, &*cause), ("gone", "not-seen"), "{reason}");
    let words = "its watch time was only 116 s, and that of the other capture 634 s";
    assert_eq!(reason, format!("not assessed in the new capture: {words}"));
}

#[test]
fn findings_about_the_inventory_and_the_exceptions_have_a_cause() {
    // The first audits differ in their watch time, the next ones in their exceptions, and the last
    // ones in whether their traffic matches the exception.
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let [long, short] = long_and_short(scratch.path());
    let json = json_of(&long, &short);
    for id in ["f-c862de7e444b", "f-acd2def4ee07"] {
        let [_, cause, reason] = change_of(&json, id);
        assert!(cause == "not-seen" && reason.contains("watch time was only 116 s"), "{reason}");
    }
    let json = json_of(&short, &long);
    let [_, _, reason] = change_of(&json, "f-c862de7e444b");
    assert!(reason.contains("its watch time was only 116 s"), "{reason}");
    let with = monitored().excepting(APPROVED);
    let unused = APPROVED.replace("monitor,", "spare,").replace("9100", "9300");
    let two = monitored().excepting(&format!("{APPROVED}{unused}"));
    assert_one(&with, &two, "new", "exception", "the exception spare was added");
    assert_one(&two, &with, "gone", "exception", "the exception spare was removed");
    let idle = Audited::healthy(600).excepting(APPROVED);
    assert_one(&with, &idle, "new", "traffic", "monitor matches 1 conversation in the old capture");
    assert_one(
        &idle,
        &with,
        "gone",
        "traffic",
        "monitor matches 1 conversation in the new capture",
    );
}

#[test]
fn an_audit_of_nothing_gives_each_finding_that_cause() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let old = monitored().run(&scratch.path().join("old"));
    let mut empty = Audited::healthy(0);
    empty.wire = Wire::default();
    let folder = scratch.path().join("new");
    let new = empty.run(&folder);
    let json = json_of(&old, &new);
    for finding in json["findings"].as_array().expect("a list") {
        assert_eq!(finding["cause"], "not-assessed", "{json:#}");
        let words = "nothing was assessed in the new capture: it has no frames";
        assert_eq!(finding["reason"], words, "{json:#}");
    }
    let json = json_of(&new, &old);
    assert_eq!(json["findings"][0]["cause"], "not-assessed", "{json:#}");
}

#[test]
fn the_header_counts_the_findings_that_are_compared() {
    let info = monitored().options(&["--severity", "no-relation=info"]);
    let (_, json) = compared(&monitored(), &info);
    assert_eq!((&json["old"]["findings"], &json["new"]["findings"]), (&1.into(), &0.into()));
}

#[test]
fn every_format_says_which_findings_are_not_certain() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let [long, short] = long_and_short(scratch.path());
    for format in ["text", "markdown", "html"] {
        let words = ["diff".as_ref(), long.as_os_str(), short.as_os_str()];
        let run = rasaudit(words.into_iter().chain(["--format".as_ref(), format.as_ref()]));
        assert!(stdout(&run).contains("(not certain)"), "{format}: {}", stdout(&run));
    }
}

#[test]
fn different_farms_are_a_difference_and_no_name_is_empty() {
    let other = monitored().inventory("Desk farm", "Shelf farm");
    let (_, json) = compared(&monitored(), &other);
    assert_eq!(json["differences"][0], "farm: Shelf farm instead of Desk farm", "{json:#}");
    // The result of an early version does not contain the file name of the inventory.
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let folders = [("old", monitored()), ("new", other)]
        .map(|(name, audited)| audited.run(&scratch.path().join(name)));
    let text = fs::read_to_string(folders[0].join("audit.json")).expect("a result");
    let mut result: Value = serde_json::from_str(&text).expect("JSON");
    result["inventory"]["file"] = "".into();
    let early = scratch.path().join("early.json");
    fs::write(&early, result.to_string()).expect("writable");
    let json = json_of(&early, &folders[1]);
    let words = json["differences"][1].as_str().expect("a text");
    assert!(words.contains(" instead of unnamed ("), "{words}");
}

/// Returns the columns `message`, `baseline_state` and `baseline_reason` of the file `findings.csv`
/// in a folder.
fn states(folder: &Path) -> Vec<[String; 3]> {
    let mut reader = csv::Reader::from_path(folder.join("findings.csv")).expect("a table");
    let header = reader.headers().expect("a header").clone();
    let columns = ["message", "baseline_state", "baseline_reason"]
        .map(|name| header.iter().position(|column| column == name).expect("a column"));
    let rows = reader.records().map(|row| row.expect("a row"));
    rows.map(|row| columns.map(|column| row[column].to_owned())).collect()
}

#[test]
fn a_baseline_gives_each_finding_a_state_and_a_reason() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let old = monitored().run(&scratch.path().join("old"));
    let changed = Audited::healthy(600).with("10.1.0.1", "10.1.0.3", 9200, 600);
    let mut folders = Vec::new();
    for (name, baseline) in [("folder", old.clone()), ("file", old.join("audit.json"))] {
        let path = scratch.path().join(name);
        let list = baseline.display().to_string();
        let mut audited = changed.clone();
        audited.options = vec!["--baseline", Box::leak(list.into_boxed_str())];
        let out = audited.run(&path);
        let states = states(&out);
        assert_eq!(states.len(), 2, "{states:#?}");
        assert!(states[0][0].contains("9200") && states[0][1] == "new", "{states:#?}");
        assert_eq!(states[0][2], "not in the old capture, which could have shown it");
        assert!(states[1][0].contains("9100") && states[1][1] == "gone", "{states:#?}");
        assert!(states[1][2].starts_with("stopped: the new capture does not"), "{states:#?}");
        // Reports that are written from the stored result contain the same reasons.
        let from_result = |format: &str| {
            let words = ["report".as_ref(), out.as_os_str(), "--format".as_ref(), format.as_ref()];
            stdout(&rasaudit(words))
        };
        let csv = fs::read_to_string(out.join("findings.csv")).expect("a table");
        assert_eq!(from_result("csv"), csv);
        for format in ["text", "markdown", "html"] {
            let text = from_result(format);
            assert!(text.contains("stopped: the new capture does not"), "{format}: {text}");
        }
        folders.push(out);
    }
    // Findings that are gone are not part of the next baseline, even if the CSV file lists them.
    let table = folders[0].join("findings.csv").display().to_string();
    let mut again = monitored();
    again.options = vec!["--baseline", Box::leak(table.into_boxed_str())];
    let states = states(&again.run(&scratch.path().join("again")));
    let found: Vec<&str> = states.iter().map(|row| row[1].as_str()).collect();
    assert_eq!(found, ["new", "gone"], "{states:#?}");
}

#[test]
fn every_format_names_the_finding_and_the_reason() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let old = Audited::healthy(600).run(&scratch.path().join("old"));
    let hostile = monitored().inventory("Desk farm", "<img src=x> | \\u001b[31m");
    let new = hostile.run(&scratch.path().join("new"));
    for format in ["text", "markdown", "json", "html"] {
        let words = [
            "diff".as_ref(),
            old.as_os_str(),
            new.as_os_str(),
            "--format".as_ref(),
            format.as_ref(),
        ];
        let run = rasaudit(words);
        assert_eq!(run.status.code(), Some(1), "{format}: {}", stderr(&run));
        let text = stdout(&run);
        assert!(text.contains("not in the old capture"), "{format}: {text}");
        // In JSON and on a terminal, only control characters matter. Markdown escapes the bracket.
        let is_plain = ["json", "text"].contains(&format);
        let is_harmless = is_plain || !text.replace("\\<img", "").contains("<img");
        assert!(!text.contains('\u{1b}') && is_harmless, "{format}: {text}");
    }
}

#[test]
fn invented_traffic_in_a_tunnel_repairs_nothing() {
    let mut old = Audited::healthy(60);
    old.wire = Wire::default();
    for second in (0..60).step_by(5) {
        old.wire.tcp(second * 1000, ("10.1.0.1", 50_000 + second as u16), ("10.1.0.2", 7100), 2, 0);
        let refusal = 0x14;
        old.wire.tcp(
            second * 1000 + 1,
            ("10.1.0.2", 7100),
            ("10.1.0.1", 50_000 + second as u16),
            refusal,
            0,
        );
    }
    let connected = |is_tunnelled: bool| {
        let mut new = old.clone();
        new.wire = Wire::default();
        for second in (0..=60).step_by(10) {
            new.wire.udp(second * 1000, ("10.1.0.2", 50_000), ("10.1.0.3", 9));
        }
        let first = new.wire.0.len();
        new.wire.opened(9_000, ("10.1.0.1", 50_100), ("10.1.0.2", 7100), 5);
        if is_tunnelled {
            new.wire.tunnel(first, "192.0.2.1", "192.0.2.2");
        }
        let (_, json) = compared(&old, &new);
        let list = json["findings"].as_array().expect("a list");
        let gone = list.iter().find(|f| f["change"] == "gone").expect("a finding that is gone");
        gone["cause"].as_str().expect("a text").to_owned()
    };
    assert_eq!(connected(false), "traffic");
    assert_eq!(connected(true), "not-seen");
}

#[test]
fn a_host_that_a_truncated_list_leaves_out_is_not_assumed_to_be_in_it() {
    const FRONTS: u64 = 1_010;
    // Ten clients in one network would be one client.
    let address = |number: u64| format!("10.2.{}.{}", number / 6, 1 + number % 6);
    let audited = |fails: &dyn Fn(u64) -> bool| {
        let mut audited = Audited::healthy(0);
        audited.wire = Wire::default();
        for number in 0..FRONTS {
            let client = address(number);
            audited.inventory.push_str(&format!(
                "[[host]]\nname = \"f{number:04}\"\naddresses = [\"{client}\"]\nroles = [\"front\"]\n"
            ));
            for second in [0, 30, 60] {
                let ms = second * 1000 + number;
                let ends = ((client.as_str(), 50_000 + second as u16), ("10.1.0.2", 7100));
                if fails(number) {
                    audited.wire.tcp(ms, ends.0, ends.1, 2, 0);
                    audited.wire.tcp(ms + 1, ends.1, ends.0, 0x14, 0);
                } else {
                    audited.wire.connect(ms, ends.0, ends.1);
                }
            }
        }
        audited
    };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let run =
        |name: &str, fails: &dyn Fn(u64) -> bool| audited(fails).run(&scratch.path().join(name));
    let last = FRONTS - 1;
    let old = run("old", &|number| number != last);
    let changes = |new: &Path| {
        let json = json_of(&old, new);
        let list = json["findings"].as_array().expect("a list").clone();
        let refused = list.into_iter().filter(|f| f["code"] == "refused");
        refused.map(|f| f["change"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    // The last host failed for the first time. Everything else was repaired.
    assert_eq!(changes(&run("other", &|number| number == last)), ["new", "gone"]);
    // This host failed before, although the list of the finding leaves it out.
    assert_eq!(changes(&run("listed", &|number| number == last - 1)), ["same"]);
}

/// Returns the cause and the reason of the first finding with this code that is gone.
fn gone(old: &Audited, new: &Audited, code: &str) -> [String; 2] {
    let (_, json) = compared(old, new);
    let list = json["findings"].as_array().expect("a list");
    let gone = list.iter().find(|f| f["change"] == "gone" && f["code"] == code);
    let gone = gone.unwrap_or_else(|| panic!("{json:#}"));
    ["cause", "reason"].map(|key| gone[key].as_str().expect("a text").to_owned())
}

#[test]
fn traffic_of_many_hosts_has_stopped_only_if_all_of_them_were_seen() {
    let address = |number: usize| format!("10.1.3.{}", number + 1);
    // Twelve front doors, of which only the first ones are seen, and only until a time in seconds.
    let audited = |seen: usize, until: u64, is_undocumented: bool| {
        let mut audited = Audited::healthy(600);
        for number in 0..12 {
            let client = address(number);
            audited.inventory.push_str(&format!(
                "[[host]]\nname = \"f{number:02}\"\naddresses = [\"{client}\"]\nroles = [\"front\"]\n"
            ));
            for second in (0..=600).step_by(10) {
                if number >= seen || number > 0 && second > until {
                    continue;
                }
                let (ms, port) = (second * 1000 + 10 * number as u64, 40_000 + second as u16);
                audited.wire.connect(ms, (&client, port), ("10.1.0.2", 7100));
                if is_undocumented && second % 60 == 0 {
                    audited.wire.connect(ms + 400, (&client, port), ("10.1.0.3", 9100));
                }
            }
        }
        audited
    };
    let old = audited(12, 600, true);
    let [cause, reason] = gone(&old, &audited(12, 600, false), "no-relation");
    assert_eq!(cause, "stopped", "{reason}");
    let [cause, reason] = gone(&old, &audited(1, 600, false), "no-relation");
    assert_eq!(cause, "not-seen", "{reason}");
    let words = "not seen in the new capture: it shows no unicast packets from f01; this applies to 11 of 13 hosts";
    assert_eq!(reason, words);
    let [cause, reason] = gone(&old, &audited(12, 300, false), "no-relation");
    assert_eq!(cause, "not-seen", "{reason}");
    let words = "not seen in the new capture: it shows packets from f01 for only 300 s, and the other capture for 600 s; this applies to 11 of 13 hosts";
    assert_eq!(reason, words);
}

#[test]
fn traffic_that_may_be_part_of_an_aggregated_conversation_has_not_stopped() {
    let attempts = |is_flooded: bool, is_attempted: bool| {
        let mut audited = Audited::healthy(600).options(&["--max-memory", "1"]);
        for second in (0..=600).step_by(30).filter(|_| is_attempted) {
            let client = ("203.0.113.9", 50_000 + second as u16);
            audited.wire.tcp(second * 1000 + 500, client, ("10.1.0.2", 9999), 2, 0);
        }
        for number in (0..20_000u32).filter(|_| is_flooded) {
            let client = std::net::Ipv4Addr::from_bits(0x2d00_0001 + 300 * number).to_string();
            let ms = 5_000 + u64::from(number) * 20;
            audited.wire.tcp(ms, (&client, 50_000), ("10.1.0.2", 9999), 2, 0);
        }
        audited
    };
    let old = attempts(false, true);
    let [cause, reason] = gone(&old, &attempts(false, false), "unknown-host");
    assert_eq!(cause, "stopped", "{reason}");
    let [cause, reason] = gone(&old, &attempts(true, true), "unknown-host");
    assert_eq!(cause, "not-seen", "{reason}");
    assert!(reason.contains("one of its aggregated conversations may contain"), "{reason}");
    let [cause, reason] = gone(&attempts(true, true), &attempts(false, false), "unknown-host");
    assert_eq!(cause, "not-seen", "{reason}");
    assert!(reason.contains("part of an aggregated conversation"), "{reason}");
}

#[test]
fn a_finding_about_the_inventory_that_is_missing_does_not_prove_what_the_capture_shows() {
    // The front door sends packets to the store, and the brain does so if it is on.
    let audited = |is_on: bool, connects: bool| {
        let mut audited = Audited::healthy(0);
        audited.wire = Wire::default();
        for second in (0..=700).step_by(10) {
            let ms = second * 1000;
            audited.wire.ip(ms, "10.1.0.1", "10.1.0.3", 1, &[8, 0, 0, 0, 0, 1, 0, second as u8]);
            audited.wire.ip(
                ms + 1,
                "10.1.0.3",
                "10.1.0.1",
                1,
                &[0, 0, 0, 0, 0, 1, 0, second as u8],
            );
            if is_on {
                audited.wire.ip(
                    ms,
                    "10.1.0.2",
                    "10.1.0.3",
                    1,
                    &[8, 0, 0, 0, 0, 2, 0, second as u8],
                );
            }
            if connects {
                audited.wire.connect(
                    ms + 50,
                    ("10.1.0.1", 40_000 + second as u16),
                    ("10.1.0.2", 7100),
                );
            }
        }
        // Without any other traffic, nothing would be assessed.
        audited.wire.connect(9_000, ("10.1.0.1", 50_000), ("10.1.0.3", 9100));
        audited
    };
    let silent = audited(false, false);
    let [cause, reason] = gone(&silent, &audited(true, false), "silent-role");
    assert_eq!(cause, "not-seen", "{reason}");
    let words = "not assessed in the new capture: other traffic of front1 is reported as missing";
    assert_eq!(reason, words);
    let [cause, reason] = gone(&silent, &audited(true, true), "silent-role");
    assert_eq!(cause, "traffic", "{reason}");
    let words = "front1 showed traffic of the role front in the new capture: front1 reached brain1 on TCP 7100";
    assert_eq!(reason, words);
    // A result does not state which address claims its capture contains.
    let mut conflict = Audited::healthy(600);
    for second in (0..=600).step_by(60) {
        conflict.wire.claim(second * 1000 + 600, "10.1.0.1", 7);
        conflict.wire.claim(second * 1000 + 700, "10.1.0.1", 8);
    }
    let [cause, reason] = gone(&conflict, &Audited::healthy(600), "address-conflict");
    assert_eq!(cause, "unknown", "{reason}");
    assert!(reason.contains("does not state what its capture could have shown"), "{reason}");
}
