//! Tests audits of several sensors: their coverage is combined, the two directions of a connection
//! are joined, clock differences do not reverse the direction of a connection, and nothing is
//! reported as missing only because one sensor stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::wire::{ACK, RST, SYN, Wire};
use crate::support::{Records, columns, fixture, rasaudit, stderr, stdout};

/// A farm with a gateway, a broker and two session hosts.
const FARM: &str = r#"
[farm]
name = "farm"
matrix = "ras-19"

[capture]
covers = "all"

[[host]]
name = "gw"
addresses = ["10.20.1.21"]
roles = ["gateway-normal"]

[[host]]
name = "broker"
addresses = ["10.20.1.31"]
roles = ["broker"]

[[host]]
name = "rdsh1"
addresses = ["10.20.1.51"]
roles = ["rdsh-agent"]

[[host]]
name = "rdsh2"
addresses = ["10.20.1.52"]
roles = ["rdsh-agent"]
"#;

const GW: &str = "10.20.1.21";
const BROKER: &str = "10.20.1.31";
const RDSH1: &str = "10.20.1.51";
const RDSH2: &str = "10.20.1.52";

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Collects a capture of a sensor.
fn collect(capture: &Path, sensor: &str, to: &Path, more: &[&str]) {
    let mut arguments = vec!["collect", text(capture), "--to", text(to), "--quiet"];
    arguments.extend(["--sensor", sensor]);
    arguments.extend(more);
    let output = rasaudit(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// The reports of an audit.
struct Reports {
    conversations: String,
    findings: String,
    told: String,
}

impl Reports {
    fn of(inputs: &[PathBuf], inventory: &Path, more: &[&str]) -> Self {
        let scratch = tempfile::tempdir().expect("a folder");
        let out = scratch.path().join("report");
        let mut arguments = vec!["audit"];
        arguments.extend(inputs.iter().map(|input| text(input)));
        arguments.extend(["-i", text(inventory), "--out", text(&out)]);
        arguments.extend(more);
        let output = rasaudit(&arguments);
        let told = stdout(&output) + &stderr(&output);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{told}");
        let read = |name| fs::read_to_string(out.join(name)).expect("a report");
        Self { conversations: read("conversations.csv"), findings: read("findings.csv"), told }
    }

    /// Returns the named columns of the conversations, by their ends.
    fn conversations(&self, names: &[&str]) -> BTreeMap<Vec<String>, Vec<String>> {
        const ENDS: [&str; 4] = ["client", "server", "transport", "port"];
        let rows = columns(&self.conversations, &[&ENDS, names].concat());
        rows.into_iter().map(|mut row| (row.drain(..4).collect(), row)).collect()
    }

    /// Returns the named columns of the findings with this code.
    fn findings(&self, code: &str, names: &[&str]) -> Vec<Vec<String>> {
        let rows = columns(&self.findings, &[&["code"], names].concat());
        rows.into_iter().filter(|row| row[0] == code).map(|row| row[1..].to_vec()).collect()
    }
}

/// Returns the source and the destination IP address of a record of the fixtures, or the MAC
/// addresses if its frame is neither IPv4 nor IPv6.
fn ends(record: &[u8]) -> (&[u8], &[u8]) {
    let frame = &record[16..];
    match &frame[12..14] {
        [8, 0] => (&frame[26..30], &frame[30..34]),
        [0x86, 0xdd] => (&frame[22..38], &frame[38..54]),
        _ => (&frame[6..12], &frame[..6]),
    }
}

/// Writes the records that a sensor saw, and returns the path. The sensor's clock is `late` seconds
/// ahead.
fn span(all: &Records, to: &Path, late: i32, sees: impl Fn((&[u8], &[u8])) -> bool) -> PathBuf {
    let seen = all.records.iter().filter(|record| sees(ends(record))).map(|record| {
        let time: [u8; 4] = record[..4].try_into().expect("four bytes");
        let time = u32::from_le_bytes(time).wrapping_add_signed(late);
        [&time.to_le_bytes()[..], &record[4..]].concat()
    });
    all.write(to, &seen.collect::<Vec<_>>());
    to.to_owned()
}

#[test]
fn the_name_of_a_sensor_changes_only_its_column() {
    let scratch = tempfile::tempdir().expect("a folder");
    let (capture, inventory) =
        (fixture("farm-faults/span.pcap"), fixture("farm-healthy/inventory.toml"));
    let store = scratch.path().join("store");
    collect(&capture, "span-1", &store, &["--site", "lab", "-i", text(&inventory)]);
    let direct = Reports::of(&[capture], &inventory, &[]);
    let named = Reports::of(&[store], &inventory, &[]);
    let without = |table: &str| table.replace(",lab/span-1\r\n", ",\r\n");
    assert_ne!(named.findings, direct.findings);
    assert_eq!(without(&named.findings), direct.findings);
    assert_eq!(without(&named.conversations), direct.conversations);
    let sensors = named.conversations(&["sensors"]);
    assert!(sensors.values().all(|row| row[0] == "lab/span-1"), "{sensors:?}");
    assert!(direct.conversations(&["sensors"]).values().all(|row| row[0].is_empty()));
}

#[test]
fn three_spans_whose_clocks_differ_give_the_verdicts_of_one() {
    let scratch = tempfile::tempdir().expect("a folder");
    let at = |name: &str| scratch.path().join(name);
    let (capture, inventory) =
        (fixture("farm-faults/span.pcap"), fixture("farm-healthy/inventory.toml"));
    let all = Records::read(&capture);
    // Each of the first two sensors sees one direction of every connection. The third one sees all
    // traffic of the broker.
    let broker: &[u8] = &[10, 20, 1, 31];
    let spans = [
        span(&all, &at("a.pcap"), 0, |(from, to)| from <= to),
        span(&all, &at("b.pcap"), 3, |(from, to)| from > to),
        span(&all, &at("c.pcap"), -3, |(from, to)| from == broker || to == broker),
    ];
    let mut stores = Vec::new();
    for (capture, sensor) in spans.iter().zip(["a", "b", "c"]) {
        let store = at(sensor);
        collect(capture, sensor, &store, &["--traces", "-i", text(&inventory)]);
        stores.push(store);
    }
    let direct = Reports::of(&[capture], &inventory, &[]);
    let central = Reports::of(&stores, &inventory, &[]);
    // Clients, servers, states and verdicts are those of the direct audit, and each packet counts
    // once, except that the SYNs of a failure count for each sensor, which the finding mentions.
    let same = ["direction", "state", "verdict", "packets_to_server", "bytes_to_client"];
    assert_eq!(central.conversations(&same), direct.conversations(&same));
    let attempts = |reports: &Reports, words: &str| {
        let messages = reports.findings("refused", &["message"]).concat();
        messages.iter().any(|message| message.contains(words))
    };
    assert!(attempts(&direct, " SYNs)"));
    assert!(attempts(&central, " SYNs including duplicates)"));
    let sensors = central.conversations(&["sensors"]);
    let row = |client: &str, server: &str, port: &str| {
        let ends = [client, server, "tcp", port].map(str::to_owned).to_vec();
        sensors[&ends][0].clone()
    };
    assert_eq!(row("10.20.1.84", "10.20.1.85", "1433"), "a;b");
    assert_eq!(row("10.20.1.21", "10.20.1.31", "20002"), "a;b;c");
    // A reply may seem to be missing because the clock of its sensor differs, so the finding about
    // an unanswered attempt is uncertain in the central audit.
    let codes = ["refused", "wrong-source", "unanswered"];
    for code in codes {
        assert_eq!(
            central.findings(code, &["client", "server", "port"]),
            direct.findings(code, &["client", "server", "port"]),
            "{code}"
        );
    }
    assert_eq!(direct.findings("unanswered", &["certain"]), [["yes"]]);
    assert_eq!(central.findings("unanswered", &["certain", "sensors"]), [["no", "b;c"]]);
    assert!(central.told.contains("Clock"), "{}", central.told);

    // Listings can be limited to one sensor.
    let report = at("report");
    let mut arguments = vec!["audit"];
    arguments.extend(stores.iter().map(|store| text(store)));
    arguments.extend(["-i", text(&inventory), "--out", text(&report), "--quiet"]);
    assert_eq!(rasaudit(&arguments).status.code(), Some(1));
    let show = |sensor: &str| {
        let options = ["--sensor", sensor, "--columns", "sensors", "--format", "csv"];
        rasaudit([&["show", "conversations", text(&report)][..], &options].concat())
    };
    let listed: BTreeSet<String> = stdout(&show("c")).lines().skip(1).map(str::to_owned).collect();
    let with_c = sensors.values().map(|row| row[0].clone());
    assert_eq!(listed, with_c.filter(|names| names.split(';').any(|name| name == "c")).collect());
    let refused = show("d");
    assert_eq!(refused.status.code(), Some(2));
    let told = stderr(&refused);
    assert!(told.contains("\"d\" is not a sensor of the result; known: a, b, c"), "{told}");

    // Neither the order of the stores nor merging them changes the result.
    let merged = at("merged");
    let mut arguments = vec!["merge", text(&stores[2]), text(&stores[0]), text(&stores[1])];
    arguments.extend(["--to", text(&merged), "--quiet"]);
    assert_eq!(rasaudit(&arguments).status.code(), Some(0));
    let merged = Reports::of(&[merged], &inventory, &[]);
    assert_eq!(merged.conversations, central.conversations);
    assert_eq!(merged.findings, central.findings);
}

/// To correct the counters of packets that two sensors captured, all rows are read a second time,
/// including the pieces of messages that name servers.
#[test]
fn two_sensors_that_see_the_same_show_the_names_of_one() {
    let scratch = tempfile::tempdir().expect("a folder");
    let (capture, inventory) = (fixture("services/names.pcap"), fixture("services/inventory.toml"));
    let all = Records::read(&capture);
    let mut stores = Vec::new();
    for (sensor, late) in [("a", 0), ("b", 3)] {
        let own = span(&all, &scratch.path().join(format!("{sensor}.pcap")), late, |_| true);
        let store = scratch.path().join(sensor);
        collect(&own, sensor, &store, &["--traces", "--pieces", "-i", text(&inventory)]);
        stores.push(store);
    }
    let direct = Reports::of(&[capture], &inventory, &[]);
    let central = Reports::of(&stores, &inventory, &[]);
    let names = direct.conversations(&["names", "packets_to_server"]);
    assert!(names.values().any(|row| !row[0].is_empty()), "{names:?}");
    assert_eq!(central.conversations(&["names", "packets_to_server"]), names);
}

/// The fragments of a datagram that two sensors captured count once each, like whole packets.
#[test]
fn fragments_at_two_sensors_count_once() {
    let scratch = tempfile::tempdir().expect("a folder");
    let inventory = fixture("services/inventory.toml");
    let (client, server) = ("10.0.0.1", "10.0.0.2");
    let capture = |late: u64| {
        let mut wire = Wire::default();
        for turn in 0..20u8 {
            let ms = 1000 * u64::from(turn) + late;
            let header = [0x9c, 0x40, 0x07, 0x14, 0, 32, 0, 0, 9, 9, 9, 9, 9, 9, 9, turn];
            for (place, body) in [([0x20, 0], &header[..]), ([0, 2], &[turn; 16][..])] {
                wire.ip(ms, client, server, 17, body);
                let (_, frame) = wire.0.last_mut().expect("a frame");
                frame[18..22].copy_from_slice(&[[1, turn], place].concat());
            }
        }
        wire
    };
    let mut stores = Vec::new();
    for (sensor, late) in [("a", 0), ("b", 5)] {
        let own = scratch.path().join(format!("{sensor}.pcap"));
        fs::write(&own, capture(late).file()).expect("writable");
        let store = scratch.path().join(sensor);
        collect(&own, sensor, &store, &["--traces", "-i", text(&inventory)]);
        stores.push(store);
    }
    let all = Reports::of(&stores, &inventory, &[]).conversations(&["packets_to_server"]);
    assert_eq!(all.into_values().collect::<Vec<_>>(), [["40"]]);
}

/// Appends a connection between two hosts every ten seconds. `seconds` is the time in which the
/// connections begin.
fn chat(wire: &mut Wire, from: (&str, u16), to: (&str, u16), seconds: std::ops::Range<u64>) {
    for second in seconds.step_by(10) {
        wire.connect(second * 1000, (from.0, from.1 + second as u16), to);
    }
}

/// Writes a capture, collects it under the sensor name `name`, and returns the store.
fn sensor(folder: &Path, name: &str, wire: &Wire) -> PathBuf {
    let capture = folder.join(format!("{name}.pcap"));
    fs::write(&capture, wire.file()).expect("writable");
    let store = folder.join(name);
    collect(&capture, name, &store, &[]);
    store
}

/// Returns the pairs of a client and a server between which traffic is missing.
fn missing(reports: &Reports) -> BTreeSet<(String, String)> {
    let rows = reports.findings("never-attempted", &["client_name", "server_name"]);
    rows.into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
}

#[test]
fn nothing_is_missing_because_the_only_sensor_that_could_see_it_was_down() {
    let scratch = tempfile::tempdir().expect("a folder");
    let inventory = scratch.path().join("farm.toml");
    fs::write(&inventory, FARM).expect("writable");
    // Sensor `a` sees the first session host for the whole time. Sensor `b` sees the second one. In
    // the second audit, it stops after two minutes.
    let hour = 3600;
    let mut a = Wire::default();
    chat(&mut a, (GW, 40_000), (RDSH1, 3389), 0..hour);
    chat(&mut a, (RDSH1, 40_000), (GW, 12_345), 0..hour);
    a.udp(1000, ("10.9.0.5", 50_000), ("10.9.0.6", 123));
    let of_second = |until: u64| {
        let mut b = Wire::default();
        chat(&mut b, (RDSH2, 40_000), (BROKER, 12_345), 0..until);
        chat(&mut b, (BROKER, 40_000), (RDSH2, 12_345), 0..until);
        b
    };
    let watch = ["--min-watch", "600s"];
    let audit = |name: &str, b: &Wire| {
        let folder = scratch.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        let stores = [sensor(&folder, "a", &a), sensor(&folder, "b", b)];
        Reports::of(&stores, &inventory, &watch)
    };
    let is_about = |pairs: &BTreeSet<(String, String)>, host: &str| {
        pairs.iter().any(|(client, server)| client == host || server == host)
    };
    let up = audit("up", &of_second(hour));
    assert!(is_about(&missing(&up), "rdsh2"), "{}", up.findings);
    let down = audit("down", &of_second(120));
    assert!(!is_about(&missing(&down), "rdsh2"), "{}", down.findings);
    assert!(down.told.contains("b did not watch from "), "{}", down.told);
    let mut twice = of_second(120);
    chat(&mut twice, (RDSH2, 40_000), (BROKER, 12_345), 1500..1800);
    let told = audit("twice", &twice).told;
    let total = told.split("b did not watch for ").nth(1).expect("a note");
    let words = " s in 2 periods, the longest from 2026-";
    assert!(total.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(words), "{told}");
    assert!(
        down.findings("window-too-short", &["message"])
            .iter()
            .any(|row| { row[0].contains("the sensor b did not watch all the time") }),
        "{}",
        down.findings
    );
}

/// Traffic of the session host that only the second capture shows may be missing because that
/// capture stopped.
#[test]
fn missing_traffic_is_not_certain_if_one_of_several_captures_stopped() {
    let scratch = tempfile::tempdir().expect("a folder");
    let inventory = scratch.path().join("farm.toml");
    fs::write(&inventory, FARM).expect("writable");
    let hour = 3600;
    let mut first = Wire::default();
    chat(&mut first, (GW, 40_000), (RDSH1, 3389), 0..hour);
    chat(&mut first, (RDSH1, 40_000), (GW, 12_345), 0..hour);
    first.udp(1000, ("10.9.0.5", 50_000), ("10.9.0.6", 123));
    let doubts = |until: u64| {
        let mut second = Wire::default();
        chat(&mut second, (RDSH2, 40_000), (BROKER, 12_345), 0..until);
        chat(&mut second, (BROKER, 40_000), (RDSH2, 12_345), 0..until);
        let captures = [("first", &first), ("second", &second)].map(|(name, wire)| {
            let capture = scratch.path().join(format!("{name}-{until}.pcap"));
            fs::write(&capture, wire.file()).expect("writable");
            capture
        });
        let reports = Reports::of(&captures, &inventory, &["--min-watch", "600s"]);
        let columns = ["client_name", "server_name", "certain", "doubt"];
        let found = reports.findings("never-attempted", &columns);
        // An audit of the collected rows gives the same findings.
        let store = scratch.path().join(format!("rows-{until}"));
        let mut arguments =
            vec!["collect", "--quiet", "--to", text(&store), "-i", text(&inventory)];
        arguments.extend(captures.iter().map(|capture| text(capture)));
        assert_eq!(rasaudit(&arguments).status.code(), Some(0));
        let stored = Reports::of(&[store], &inventory, &["--min-watch", "600s"]);
        assert_eq!(stored.findings, reports.findings);
        (found, reports.told)
    };
    let (up, told) = doubts(hour);
    assert!(!told.contains("overlap in time"), "{told}");
    assert!(up.iter().any(|row| row[0] == "rdsh2" && row[2] == "yes"), "{up:?}");
    let (down, told) = doubts(300);
    assert!(told.contains("overlap in time by more than a minute"), "{told}");
    assert!(told.contains("or a clock was set back"), "{told}");
    assert!(!down.is_empty() && down.iter().all(|row| row[3].contains("coverage")), "{down:?}");
}

#[test]
fn two_captures_of_one_sensor_at_the_same_time_are_refused() {
    let scratch = tempfile::tempdir().expect("a folder");
    let store = scratch.path().join("rows");
    for (name, port) in [("first", 3389), ("second", 3390)] {
        let mut wire = Wire::default();
        chat(&mut wire, (GW, 40_000), (RDSH1, port), 0..600);
        let capture = scratch.path().join(format!("{name}.pcap"));
        fs::write(&capture, wire.file()).expect("writable");
        collect(&capture, "span", &store, &[]);
    }
    let refused = rasaudit(["audit", text(&store)]);
    assert_eq!(refused.status.code(), Some(2));
    let errors = stderr(&refused);
    assert!(errors.contains("at the same time as") && errors.contains("sensor span"), "{errors}");
}

#[test]
fn a_name_that_a_report_would_have_to_escape_is_refused() {
    let scratch = tempfile::tempdir().expect("a folder");
    let capture = fixture("farm-faults/span.pcap");
    for name in ["=1+1", "a;b", "<b>", "../x", "a\u{1b}[1m", ""] {
        let to = scratch.path().join("store");
        let sensor = format!("--sensor={name}");
        let output = rasaudit(["collect", text(&capture), "--to", text(&to), &sensor]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(stderr(&output).contains("letters"), "{}", stderr(&output));
        assert!(!to.exists());
    }
    let output = rasaudit(["collect", text(&capture), "--to", "x", "--site", "lab"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--sensor"), "{}", stderr(&output));
}

#[test]
fn rows_of_a_capture_are_not_replaced_by_its_rows_of_another_sensor() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let at = |name: &str| scratch.path().join(name);
    let mut wire = Wire::default();
    wire.connect(0, (GW, 50_000), (BROKER, 20_002));
    fs::write(at("farm.pcap"), wire.file()).expect("writable");
    let store = at("rows");
    collect(&at("farm.pcap"), "core-1", &store, &[]);
    // Collecting the capture again as one of the same sensor replaces its rows.
    collect(&at("farm.pcap"), "core-1", &store, &[]);
    let files = || -> Vec<(PathBuf, Vec<u8>)> {
        let paths = fs::read_dir(&store).expect("a store").map(|entry| entry.expect("a file"));
        paths.map(|e| (e.path(), fs::read(e.path()).expect("readable"))).collect()
    };
    let before = files();
    assert_eq!(before.len(), 1);
    let capture = at("farm.pcap");
    for other in [&["--sensor", "core-2"][..], &[]] {
        let again = ["collect", text(&capture), "--to", text(&store), "--quiet"];
        let run = rasaudit([&again[..], other].concat());
        assert_eq!(run.status.code(), Some(2), "{other:?}");
        let errors = stderr(&run);
        assert!(errors.contains("contains rows of") && errors.contains("core-1"), "{errors}");
        assert!(errors.contains("delete the file first"), "{errors}");
        assert_eq!(files(), before, "{other:?}");
    }
}

#[test]
fn traffic_has_not_stopped_if_the_sensor_that_saw_it_did() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    // Sensor `a` alone sees the traffic between the session hosts, for this many seconds. Sensor
    // `b` sees other traffic of both hosts.
    let audited = |name: &str, a_s: u64, port: Option<u16>| {
        let at = |file: &str| scratch.path().join(name).join(file);
        fs::create_dir_all(at("")).expect("writable");
        fs::write(at("farm.toml"), FARM).expect("writable");
        let [mut a, mut b] = [Wire::default(), Wire::default()];
        for second in (0..=900u64).step_by(10) {
            let client_port = 40_000 + second as u16;
            b.connect(second * 1000, (RDSH1, client_port), (BROKER, 20_003));
            b.connect(second * 1000 + 100, (RDSH2, client_port), (BROKER, 20_003));
            if second <= a_s {
                a.connect(second * 1000 + 200, (GW, client_port), (BROKER, 20_002));
                let port = port.filter(|_| second % 60 == 0);
                port.into_iter().for_each(|port| {
                    a.connect(second * 1000 + 300, (RDSH1, client_port), (RDSH2, port));
                });
            }
        }
        for (sensor, wire) in [("a", a), ("b", b)] {
            let capture = at(&format!("{sensor}.pcap"));
            fs::write(&capture, wire.file()).expect("writable");
            collect(&capture, sensor, &at("rows"), &[]);
        }
        let (rows, inventory, out) = (at("rows"), at("farm.toml"), at("out"));
        let words = ["audit", text(&rows), "-i", text(&inventory), "--out", text(&out), "-q"];
        let run = rasaudit(words);
        assert!(matches!(run.status.code(), Some(0 | 1)), "{}", stderr(&run));
        out
    };
    let old = audited("old", 900, Some(7777));
    let cause = |new: &Path| {
        let run = rasaudit(["diff", text(&old), text(new), "--format", "json"]);
        let json: serde_json::Value = serde_json::from_str(&stdout(&run)).expect("JSON");
        let list = json["findings"].as_array().expect("a list");
        let gone =
            list.iter().find(|f| f["change"] == "gone").unwrap_or_else(|| panic!("{json:#}"));
        ["cause", "reason"].map(|key| gone[key].as_str().expect("a text").to_owned())
    };
    let [cause_of_stop, reason] = cause(&audited("stopped", 900, None));
    assert_eq!(cause_of_stop, "stopped", "{reason}");
    let [cause_of_break, reason] = cause(&audited("broken", 120, None));
    assert_eq!(cause_of_break, "not-seen", "{reason}");
    let words = "not seen in the new capture: its sensor a watched for only 1";
    assert!(
        reason.starts_with(words) && reason.ends_with("the other capture for 900 s"),
        "{reason}"
    );
}

/// A second span port, whose clock is behind, shows only what two hosts send. Its copies are
/// neither early attempts nor repeated ones.
#[test]
fn copies_of_a_second_span_with_another_clock_do_not_show_that_connections_fail() {
    let scratch = tempfile::tempdir().expect("a folder");
    let inventory = scratch.path().join("farm.toml");
    fs::write(&inventory, FARM).expect("writable");
    let mut first = Wire::default();
    chat(&mut first, (RDSH1, 40_000), (BROKER, 20_003), 15..600);
    chat(&mut first, (BROKER, 40_000), (RDSH1, 30_004), 15..600);
    // A health check, and a SYN whose answer takes another way, or which is sent three times.
    let capture = |attempts: &[u64]| {
        let (mut first, mut sent) = (first.clone(), Wire::default());
        for number in 1..40 {
            let (ms, port) = (number * 15_000, 50_000 + number as u16);
            sent.tcp(ms, (GW, port), (RDSH1, 3389), SYN, 0);
            first.tcp(ms + 1, (RDSH1, 3389), (GW, port), SYN | ACK, 0);
            sent.tcp(ms + 2, (GW, port), (RDSH1, 3389), RST, 0);
            for later in attempts {
                sent.tcp(ms + 5_000 + later, (RDSH2, port), (BROKER, 20_003), SYN, 0);
            }
        }
        first.0.extend(sent.0.iter().cloned());
        first.0.sort_by_key(|(ms, _)| *ms);
        (first, sent)
    };
    let write = |name: &str, wire: &Wire| {
        let capture = scratch.path().join(name);
        fs::write(&capture, wire.file()).expect("writable");
        capture
    };
    let unanswered = |captures: &[PathBuf]| {
        let reports = Reports::of(captures, &inventory, &[]);
        assert!(reports.findings("half-open", &["client"]).is_empty(), "{}", reports.findings);
        reports.findings("unanswered", &["client_name", "certain"])
    };
    for (attempts, certain) in [(&[0][..], "no"), (&[0, 1_000, 3_000], "yes")] {
        let expected = [["rdsh2".to_owned(), certain.to_owned()]];
        let (first, sent) = capture(attempts);
        let first = write("first.pcap", &first);
        assert_eq!(unanswered(std::slice::from_ref(&first)), expected);
        for behind in [300, 700, 5_000, 14_000] {
            let mut second = sent.clone();
            second.0.iter_mut().for_each(|(ms, _)| *ms -= behind);
            let second = write("second.pcap", &second);
            let found = unanswered(&[first.clone(), second]);
            assert_eq!(found, expected, "{attempts:?}, {behind} ms behind");
        }
    }
}
