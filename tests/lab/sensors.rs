//! Tests central audits of the rows that live audits write, each in its own namespace. In the first
//! test, the clocks of the sensors seem to differ by more than three seconds, because their traffic
//! is replayed one after the other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::support::span::{Live, Wire, inventory, sh, text};
use crate::support::{Records, columns, fixture, rasaudit, stderr, stdout};

lab_tests! {
    three_sensors_write_rows_that_a_central_audit_judges_as_one_farm: [Namespaces],
    a_sensor_that_stopped_is_named_and_two_with_one_name_are_refused: [Namespaces],
    a_full_spool_loses_the_oldest_windows_and_says_so: [Namespaces],
    attempts_just_before_the_end_of_a_window_are_judged_as_in_the_live_report: [Namespaces],
}

/// A function that returns whether a sensor sees packets from one address to another.
type Sees<'a> = &'a dyn Fn(&[u8], &[u8]) -> bool;

/// Returns the files of rows in a folder, oldest first.
fn rows(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
    files.sort();
    files
}

/// Starts a live audit that writes its rows, and returns the folder of the rows.
fn start(wire: &Wire, folder: &Path, sensor: &str, more: &[&str]) -> (Live, PathBuf) {
    fs::create_dir_all(folder).expect("a folder");
    let to = folder.join("rows");
    let options = ["--collect", to.to_str().expect("UTF-8"), "--site", "lab", "--sensor", sensor];
    let live =
        wire.live(folder, &[&options[..], &["--every", "1h", "--user", "nobody"], more].concat());
    (live, to)
}

fn replay(wire: &Wire, capture: &Path) {
    let file = capture.display();
    assert!(sh(&format!("ip netns exec {} tcpreplay -q -i sent --mbps 50 {file}", wire.0)));
}

/// Returns the conversations of an audit of a capture.
fn report_of(capture: &Path, inventory: &Path) -> String {
    let scratch = tempfile::tempdir().expect("a folder");
    let [capture, inventory, out] =
        [capture, inventory, scratch.path()].map(|path| path.to_str().expect("UTF-8"));
    rasaudit(["audit", capture, "-i", inventory, "--out", out]);
    fs::read_to_string(scratch.path().join("conversations.csv")).expect("a report")
}

/// Returns the ends of the TCP and UDP conversations with their numbers of packets. A replay does
/// not keep the lengths of truncated frames, and it sends repeated ICMP messages at the same time.
fn amounts(conversations: &str) -> Vec<Vec<String>> {
    let ends = ["client", "server", "transport", "port"];
    let amounts = ["packets_to_server", "packets_to_client"];
    let mut rows = columns(conversations, &[&ends[..], &amounts].concat());
    rows.retain(|row| ["tcp", "udp"].contains(&row[2].as_str()));
    rows
}

fn three_sensors_write_rows_that_a_central_audit_judges_as_one_farm() {
    let wires = [Wire::new(), Wire::new(), Wire::new()];
    let [Some(a), Some(b), Some(c)] = wires else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let at = |name: &str| scratch.path().join(name);
    // Each of the first two sensors sees one direction. The third one sees all traffic of the
    // broker.
    let all = Records::read(&fixture("farm-faults/span.pcap"));
    let broker: &[u8] = &[10, 20, 1, 31];
    let spans: [Sees; 3] =
        [&|from, to| from <= to, &|from, to| from > to, &|from, to| from == broker || to == broker];
    let mut captures = Vec::new();
    for (number, sees) in spans.iter().enumerate() {
        let seen = all.records.iter().filter(|record| match &record[28..30] {
            [8, 0] => sees(&record[42..46], &record[46..50]),
            _ => number == 0,
        });
        let capture = at(&format!("{number}.pcap"));
        all.write(&capture, &seen.cloned().collect::<Vec<_>>());
        captures.push(capture);
    }
    let sensors: Vec<_> = [&a, &b, &c]
        .into_iter()
        .zip(["a", "b", "c"])
        .map(|(wire, name)| start(wire, &at(name), name, &["--traces"]))
        .collect();
    // A second audit with the same sensor name is refused.
    let (_, rows_of_a) = &sensors[0];
    fs::create_dir_all(at("second")).expect("a folder");
    let options = ["--collect", rows_of_a.to_str().expect("UTF-8"), "--site", "lab"];
    let refused = a.live(&at("second"), &[&options[..], &["--sensor", "a"]].concat()).end();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("lab/a"), "{}", text(&refused.stderr));

    let mut frames = 0;
    for (wire, capture) in [&a, &b, &c].into_iter().zip(&captures) {
        replay(wire, capture);
        frames += Records::read(capture).records.len();
        sleep(Duration::from_secs(3));
    }
    let mut stores = Vec::new();
    for (live, to) in sensors {
        live.signal("TERM");
        let ended = live.end();
        assert!(matches!(ended.status.code(), Some(0 | 1 | 4)), "{}", text(&ended.stderr));
        assert_eq!(rows(&to).len(), 1, "{}", text(&ended.stderr));
        stores.push(to);
    }
    // After a restart, the rows of the next window are written to a new file.
    let (again, to) = start(&a, &at("a"), "a", &["--traces"]);
    again.signal("TERM");
    again.end();
    assert_eq!(rows(&to).len(), 2);

    let report = at("report");
    let file = inventory(scratch.path());
    let mut arguments = vec!["audit"];
    arguments.extend(stores.iter().map(|store| store.to_str().expect("UTF-8")));
    arguments.extend(["-i", file.to_str().expect("UTF-8"), "--min-watch", "60s"]);
    arguments.extend(["--out", report.to_str().expect("UTF-8")]);
    let central = rasaudit(&arguments);
    let told = stdout(&central) + &stderr(&central);
    assert_eq!(central.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("{frames} frames in 4 inputs")), "{told}");
    let conversations = fs::read_to_string(report.join("conversations.csv")).expect("a report");
    // The third sensor captured packets of the first two, too. Each packet counts once.
    assert_eq!(
        amounts(&conversations),
        amounts(&report_of(&fixture("farm-faults/span.pcap"), &file))
    );
    let ends = ["client", "server", "port", "direction", "sensors"];
    let row = |client: &str, server: &str, port: &str| {
        let rows = columns(&conversations, &ends).into_iter();
        let mut own = rows.filter(|r| r[0] == client && r[1] == server && r[2] == port);
        let found =
            own.next().unwrap_or_else(|| panic!("{client} {server} {port}: {conversations}"));
        found[3..].to_vec()
    };
    // The two directions are joined, and the delay of the replies does not reverse the direction of
    // a connection.
    assert_eq!(row("10.20.1.84", "10.20.1.85", "1433")[1], "lab/a;lab/b");
    assert_eq!(row("10.20.1.21", "10.20.1.31", "20002"), ["handshake", "lab/a;lab/b;lab/c"]);
    let findings = fs::read_to_string(report.join("findings.csv")).expect("a report");
    let found = columns(&findings, &["code", "sensors"]);
    for (code, sensors) in [("refused", "lab/a;lab/b"), ("wrong-source", "lab/a;lab/b;lab/c")] {
        assert!(found.iter().any(|row| row[0] == code && row[1] == sensors), "{code}: {found:?}");
    }
}

/// Sensor `b` stops for more than a minute. Meanwhile, a second sensor with the name of `a` runs.
fn a_sensor_that_stopped_is_named_and_two_with_one_name_are_refused() {
    let wires = [Wire::new(), Wire::new()];
    let [Some(a), Some(b)] = wires else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let at = |name: &str| scratch.path().join(name);
    let capture = fixture("farm-faults/span.pcap");
    let end = |live: Live| {
        live.signal("TERM");
        let ended = live.end();
        assert!(matches!(ended.status.code(), Some(0 | 1 | 4)), "{}", text(&ended.stderr));
    };
    let (first, rows_a) = start(&a, &at("a"), "a", &[]);
    let (second, rows_b) = start(&b, &at("b"), "b", &[]);
    let replay_both = || [&a, &b].into_iter().for_each(|wire| replay(wire, &capture));
    replay_both();
    end(second);
    let (same, rows_same) = start(&b, &at("same"), "a", &[]);
    for _ in 0..9 {
        sleep(Duration::from_secs(10));
        replay_both();
    }
    end(same);
    let (second, _) = start(&b, &at("b"), "b", &[]);
    replay_both();
    [first, second].into_iter().for_each(end);

    let file = inventory(scratch.path());
    let audit = |stores: [&Path; 2]| {
        let [one, other] = stores.map(|store| store.to_str().expect("UTF-8"));
        let audit = rasaudit(["audit", one, other, "-i", file.to_str().expect("UTF-8")]);
        (audit.status.code(), stdout(&audit) + &stderr(&audit))
    };
    let (code, told) = audit([&rows_a, &rows_b]);
    assert!(matches!(code, Some(0 | 1)), "{told}");
    assert!(told.contains("lab/b did not watch from "), "{told}");
    // The sensor that was down makes no report certain that a capture without a gap does not make.
    let both = [&rows_a, &rows_b].map(|rows| rows.to_str().expect("UTF-8"));
    let certain = |inputs: &[&str]| {
        let inventory = file.to_str().expect("UTF-8");
        let csv = rasaudit([&["audit", "-i", inventory, "--format", "csv"], inputs].concat());
        let cells = ["verdict", "code", "client", "server", "port", "certain"];
        let rows = columns(&stdout(&csv), &cells).into_iter();
        rows.filter(|row| row[0] != "not-assessable" && row[5] == "yes").collect::<BTreeSet<_>>()
    };
    let all = certain(&[capture.to_str().expect("UTF-8")]);
    let own = certain(&both);
    assert!(!own.is_empty() && own.is_subset(&all), "{own:?}\n{all:?}");
    let divided = rasaudit([&["audit"], &both[..], &["--since", "2026-01-01"]].concat());
    assert_eq!(divided.status.code(), Some(2));
    assert!(stderr(&divided).contains("give only the files of the time"), "{}", stderr(&divided));
    let (code, told) = audit([&rows_a, &rows_same]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("at the same time as") && told.contains("sensor lab/a"), "{told}");
}

/// The capture is not interrupted where one window ends and the next one begins, so an attempt just
/// before that had time to be answered.
fn attempts_just_before_the_end_of_a_window_are_judged_as_in_the_live_report() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let (live, to) = start(&wire, scratch.path(), "span", &[]);
    // The replay takes a few seconds, so that attempts are repeated.
    let capture = fixture("farm-faults/span.pcap").display().to_string();
    let send = format!("ip netns exec {} tcpreplay -q -i sent --pps 5000", wire.0);
    assert!(sh(&format!("{send} {capture}")));
    live.signal("USR1");
    for _ in 0..150 {
        if !rows(&to).is_empty() {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    // An answer could still have come as long as frames are captured.
    sleep(Duration::from_secs(5));
    assert!(sh(&format!("{send} --limit 500 {capture}")));
    live.signal("TERM");
    live.end();
    assert_eq!(rows(&to).len(), 2);
    let out = scratch.path().join("audit");
    let inventory = inventory(scratch.path());
    let paths = [&to, &inventory, &out].map(|path| path.to_str().expect("UTF-8"));
    rasaudit(["audit", paths[0], "-i", paths[1], "--out", paths[2]]);
    let findings = |folder: &Path| {
        let text = fs::read_to_string(folder.join("findings.csv")).expect("a report");
        columns(&text, &["id", "verdict", "code", "certain"]).into_iter().collect::<BTreeSet<_>>()
    };
    let of_live = findings(&scratch.path().join("out/latest"));
    assert!(of_live.iter().any(|row| row[2] == "unanswered"), "{of_live:?}");
    assert_eq!(findings(&out), of_live);
}

fn a_full_spool_loses_the_oldest_windows_and_says_so() {
    let Some(wire) = Wire::new() else { return };
    let scratch = tempfile::tempdir().expect("a folder");
    let capture = fixture("farm-faults/span.pcap");
    let more = ["--collect-size", "300KiB", "--listen", "127.0.0.1:9475"];
    wire.ip("link set lo up");
    let (live, to) = start(&wire, scratch.path(), "full", &more);
    let wait_for = |what: &str, holds: &dyn Fn() -> bool| {
        for _ in 0..150 {
            if holds() {
                return;
            }
            sleep(Duration::from_millis(100));
        }
        panic!("{what}: {:?}", rows(&to));
    };
    let mut first = None;
    for window in 1..=3 {
        replay(&wire, &capture);
        let before = rows(&to);
        live.signal("USR1");
        // The names of two windows of the same second are in no particular order, so any new file
        // counts.
        wait_for("a window", &|| rows(&to).iter().any(|path| !before.contains(path)));
        first = first.or_else(|| rows(&to).first().cloned());
        assert!(rows(&to).iter().all(|path| path.exists()), "{window}");
    }
    let first = first.expect("a first window");
    wait_for("the oldest is removed", &|| !first.exists());
    // The files may exceed the limit for a short time, until the oldest ones are removed.
    let size = |path: &PathBuf| path.metadata().map_or(0, |data| data.len());
    wait_for("the limit is kept", &|| rows(&to).iter().map(size).sum::<u64>() <= 300 << 10);
    wait_for("metrics", &|| {
        let metrics = wire.get("127.0.0.1:9475/metrics", "").1;
        let count = |name: &str| {
            let line = metrics.lines().find(|line| line.starts_with(name))?;
            line.rsplit(' ').next()?.parse::<f64>().ok()
        };
        count("rasaudit_collected_windows_removed_total ") >= Some(1.0)
            && count("rasaudit_collected_frames_removed_total ") >= Some(10_000.0)
            && count("rasaudit_collected_bytes ") > Some(0.0)
    });
    live.signal("TERM");
    let told = text(&live.end().stderr);
    assert!(told.contains("because --collect-size was reached"), "{told}");
    let file = inventory(scratch.path());
    let central =
        rasaudit(["audit", to.to_str().expect("UTF-8"), "-i", file.to_str().expect("UTF-8")]);
    let told = stdout(&central) + &stderr(&central);
    assert!(told.contains("were removed because --collect-size was reached"), "{told}");
}
