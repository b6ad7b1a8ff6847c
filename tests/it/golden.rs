//! Tests that every fixture in the pcap format yields the reports in its folder `expected/`, which
//! are reviewed like code. `UPDATE_GOLDEN=1 cargo test --test it golden` rewrites them.

use std::fs;

use crate::support::{FIXTURES, audit, fixture, rasaudit, stdout};

fn check(name: &str, file: &str, actual: &str) {
    let path = fixture(name).join("expected").join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the fixtures are writable");
        fs::write(&path, actual).expect("the fixtures are writable");
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for (number, (a, e)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(a, e, "{name}/expected/{file}, line {}", number + 1);
    }
    assert_eq!(actual.len(), expected.len(), "{name}/expected/{file}: the lengths differ");
}

#[test]
fn every_fixture_gives_its_reports() {
    for case in FIXTURES.iter().filter(|f| f.is_pcap()) {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let out = scratch.path().join("report");
        let more = case.more();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        audit(&[case.capture()], &case.inventory(), &out, &more);
        for file in ["findings.csv", "conversations.csv", "matrix.csv", "hosts.csv"] {
            let text = fs::read_to_string(out.join(file)).expect("the report was written");
            check(case.name, file, &text);
        }
        let told =
            rasaudit([case.arguments(), vec!["--format".into(), "markdown".into()]].concat());
        let anywhere = |told: &str| told.replace(env!("CARGO_MANIFEST_DIR"), "");
        check(case.name, "ticket.md", &anywhere(&stdout(&told)));
        if ["farm-codes", "farm-faults"].contains(&case.name) {
            for (format, file) in [
                ("junit", "junit.xml"),
                ("sarif", "findings.sarif"),
                ("exceptions", "exceptions.csv"),
            ] {
                let more = vec!["--format".into(), format.into()];
                let report = stdout(&rasaudit([case.arguments(), more].concat()));
                let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
                let report = report.replace(&version, "\"version\": \"VERSION\"");
                check(case.name, file, &anywhere(&report));
            }
        }
        check(case.name, "summary.txt", &anywhere(&stdout(&rasaudit(case.arguments()))));
    }
}

/// Files with the same frames in different formats yield the same conversations and findings.
#[test]
fn every_format_gives_the_same_answer() {
    let inventory = fixture("decode-mix/inventory.toml");
    for format in [
        "big-endian.pcap",
        "nanoseconds.pcap",
        "big-endian-nanoseconds.pcap",
        "long-records.pcap",
        "sections.pcapng",
    ] {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let out = scratch.path().join("report");
        audit(&[fixture("formats").join(format)], &inventory, &out, &[]);
        for file in ["findings.csv", "conversations.csv", "matrix.csv", "hosts.csv"] {
            let text = fs::read_to_string(out.join(file)).expect("the report was written");
            let expected = fixture("decode-mix/expected").join(file);
            let expected = fs::read_to_string(expected).expect("the golden report");
            assert!(text == expected, "{format}: {file}");
        }
    }
}

/// Exceptions, known findings and tickets refer to findings by their IDs, so an ID should never
/// change. `tests/data/ids.tsv` contains the IDs that were assigned before the threat model was
/// introduced. If an ID has to change, `CHANGED` lists it with the reason.
#[test]
fn findings_keep_their_ids() {
    const CHANGED: [(&str, &str); 1] =
        [("f-2ae6f4652c9d", "the first contact with a guest is not expected all the time")];
    let given: Vec<(&str, &str)> = include_str!("../data/ids.tsv")
        .lines()
        .map(|line| line.split_once('\t').expect("a fixture and an id"))
        .collect();
    assert!(given.len() > 40);
    for (name, id) in given {
        let path = fixture(name).join("expected/findings.csv");
        let now = fs::read_to_string(path).expect("the golden report");
        let kept = now.lines().any(|line| line.split(',').next() == Some(id));
        assert!(kept || CHANGED.iter().any(|(changed, _)| *changed == id), "{name}: {id}");
    }
}

/// Every capture in `fixtures/` is audited by a test and described in the README.
#[test]
fn every_capture_is_audited_and_described() {
    let readme = fs::read_to_string(fixture("README.md")).expect("the README");
    let folders =
        fs::read_dir(fixture("")).expect("the fixtures").map(|f| f.expect("an entry").path());
    let mut count = 0;
    for path in folders.filter(|f| f.is_dir()).flat_map(|f| fs::read_dir(f).expect("a folder")) {
        let path = path.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "pcap" && e != "pcapng") {
            continue;
        }
        count += 1;
        let folder = path.parent().and_then(|p| p.file_name()).expect("a folder").to_string_lossy();
        let name = path.file_name().expect("a name").to_string_lossy();
        let audited = FIXTURES.iter().any(|f| f.capture() == path) || folder == "formats"
            // tests/it/coverage.rs, tests/it/links.rs and tests/lab/tshark.rs use these folders.
            || folder == "farm-codes"
            || folder == "wrapped"
            || folder == "overlay";
        assert!(audited, "{folder}/{name} is not listed");
        let described = readme.contains(&format!("{folder}/{name}"))
            || readme.contains(&format!("{folder}/*."));
        assert!(described, "{folder}/{name} is not in the README");
    }
    assert!(count >= 10);
}

/// Audits find exactly the faults that were injected into the lab farm, and none in the healthy
/// farm.
#[test]
fn the_lab_farms_show_what_was_injected() {
    for (capture, expected, code) in [
        ("farm-healthy/span.pcap", &[][..], 0),
        (
            "farm-faults/span.pcap",
            &[
                ("undocumented", "wrong-source", "10.20.9.102", "broker1", "tcp", "20002"),
                ("missing", "refused", "10.20.1.84", "sql1", "tcp", "1433"),
                ("missing", "unanswered", "10.20.1.52", "broker1", "tcp", "20003"),
            ],
            1,
        ),
    ] {
        let output = rasaudit([
            "audit".as_ref(),
            fixture(capture).as_os_str(),
            "-i".as_ref(),
            fixture("farm-healthy/inventory.toml").as_os_str(),
            "--format".as_ref(),
            "csv".as_ref(),
        ]);
        assert_eq!(output.status.code(), Some(code), "{capture}");
        let text = stdout(&output);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<_> = reader.records().map(|r| r.expect("a row")).collect();
        let found: Vec<_> = rows
            .iter()
            .filter(|r| &r[1] != "info")
            .map(|r| (&r[2], &r[3], &r[5], &r[9], &r[11], &r[12]))
            .collect();
        assert_eq!(found, expected, "{capture}");
        assert!(rows.iter().filter(|r| &r[1] != "info").all(|r| &r[4] == "yes"), "all are certain");
    }
}
