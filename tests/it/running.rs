//! Tests a farm that was running before the capture began. The capture also contains what else a
//! switch shows: connections from before the capture, non-IP frames, teamed network cards, a
//! failover, health checks, IPsec, and a minute without frames. The farm is healthy, so no fault
//! may be reported as certain.

use crate::support;
use std::path::{Path, PathBuf};

use crate::support::{Fixture, Records, columns, rasaudit, stdout};

fn farm() -> &'static Fixture {
    support::FIXTURES.iter().find(|case| case.name == "farm-running").expect("the fixture")
}

fn report(captures: &[PathBuf], format: &str, wanted: &[&str]) -> Vec<Vec<String>> {
    let captures = captures.iter().map(|path| path.display().to_string());
    let inventory = farm().inventory().display().to_string();
    let all = ["audit".to_owned()];
    let rest = ["-i", &inventory, "--format", format].map(str::to_owned);
    let run = rasaudit(all.into_iter().chain(captures).chain(rest));
    // The exit code may be 3, because the last record of `farm-running` is truncated.
    assert!(matches!(run.status.code(), Some(0 | 1 | 3)), "{}", support::stderr(&run));
    columns(&stdout(&run), wanted)
}

const JUDGED: [&str; 8] =
    ["client", "server", "transport", "port", "verdict", "code", "state", "direction"];

#[test]
fn nothing_that_is_right_is_said_to_be_wrong() {
    let capture = [farm().capture()];
    let findings = report(&capture, "csv", &["certain", "doubt", "verdict", "code", "transport"]);
    assert!(findings.iter().all(|row| row[0] == "no" && !row[1].is_empty()), "{findings:?}");
    let more = [&JUDGED[..], &["certain"]].concat();
    let rows = report(&capture, "conversations", &more);
    let of = |state: &str, certain: &str| {
        rows.iter().filter(|row| row[6] == state && certain.contains(&row[8])).count()
    };
    // Health checks end in a reset, and old connections have no handshake. Neither is a failure.
    assert!(of("half-open", "yes") >= 1 && of("established", "yes") >= 20, "{rows:?}");
    assert!(of("midstream", "yes no") >= 4, "{rows:?}");
    let checked = ["10.20.1.11", "10.20.1.22", "tcp", "443"].map(str::to_owned);
    let check =
        rows.iter().find(|row| row[..4] == checked).expect("the check of the spare gateway");
    assert_eq!(
        check[4..],
        ["documented", "matrix", "half-open", "handshake", "yes"].map(str::to_owned)
    );
    let failed = ["unanswered", "refused", "rejected", "challenged", "unexplained"];
    assert!(rows.iter().all(|row| !failed.contains(&&*row[6]) || row[8] == "no"), "{rows:?}");
}

/// Writes the frames that `wanted` selects, with their timestamps `late` seconds later.
fn link(to: &Path, late: u32, wanted: impl Fn(&[u8]) -> bool) {
    let capture = Records::read(&farm().capture());
    let mine = capture.records.iter().filter(|record| wanted(&record[16..])).cloned();
    let records = mine.map(|mut record| {
        let seconds = u32::from_le_bytes(record[..4].try_into().expect("four bytes")) + late;
        record[..4].copy_from_slice(&seconds.to_le_bytes());
        record
    });
    capture.write(to, &records.collect::<Vec<_>>());
}

#[test]
fn two_links_with_clocks_of_their_own_say_the_same() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let files = ["a.pcap", "b.pcap"].map(|name| scratch.path().join(name));
    // Conversations whose direction is known only from the order of packets (here ESP) depend on
    // the clocks, so they are left out.
    let rows = |captures: &[PathBuf]| {
        let mut rows = report(captures, "conversations", &JUDGED);
        rows.retain(|row| row[7] != "first");
        rows
    };
    let right = rows(&[farm().capture()]);
    let certain = |captures: &[PathBuf]| {
        let rows = report(captures, "csv", &["certain", "verdict", "code", "client", "server"]);
        rows.into_iter().filter(|row| row[0] == "yes").collect::<Vec<_>>()
    };
    // First, each link carries one direction. Then, both links carry every frame.
    let up = |frame: &[u8]| frame[6..12] < frame[..6];
    for late in [3, 3600] {
        for (one, other) in [(late, 0), (0, late)] {
            link(&files[0], one, up);
            link(&files[1], other, |frame| !up(frame));
            let said = rows(&files);
            assert_eq!(said, right, "{one} s, {other} s: one direction each");
            assert_eq!(certain(&files), Vec::<Vec<String>>::new(), "{one} s, {other} s");
            link(&files[0], one, |_| true);
            link(&files[1], other, |_| true);
            let said = rows(&files);
            assert_eq!(said, right, "{one} s, {other} s: every frame twice");
            let text = stdout(&rasaudit(["audit".as_ref(), scratch.path().as_os_str()]));
            let apart = format!("on two links about {late} to {} s apart", late + 1);
            assert!(text.contains(&apart), "{text}");
            assert_eq!(certain(&files), Vec::<Vec<String>>::new(), "{one} s, {other} s");
        }
    }
}
