//! Tests of `--reports`, which selects the files of `--out`, and of `--pretty`.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::{FIXTURES, rasaudit, stderr, stdout};
use serde_json::Value;

/// Audits the fixture `farm-codes` with these additional arguments.
fn run(more: &[&str]) -> Output {
    let case = FIXTURES.iter().find(|case| case.name == "farm-codes").expect("a fixture");
    let more = more.iter().map(|word| (*word).to_owned()).collect();
    rasaudit([case.arguments(), more].concat())
}

/// Audits the fixture with `--out` and `--reports`.
fn write(out: &Path, reports: &str) -> Output {
    run(&["--out", &out.display().to_string(), "--reports", reports])
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn only_the_selected_files_are_written_and_listed() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report");
    let written = write(&out, "html,csv");
    assert_eq!(written.status.code(), Some(1), "{}", stderr(&written));
    assert_eq!(names(&out), ["findings.csv", "manifest.sha256", "report.html"]);
    let manifest = fs::read_to_string(out.join("manifest.sha256")).expect("a manifest");
    let listed: Vec<&str> = manifest.lines().filter_map(|line| line.split("  ").nth(1)).collect();
    assert_eq!(listed, ["findings.csv", "report.html"]);
    let summary = stdout(&written);
    assert!(summary.contains("(findings.csv, report.html)"), "{summary}");
    assert!(summary.contains("open it in a browser"), "{summary}");
    // The files are identical to those of a complete report.
    let all = scratch.path().join("all");
    run(&["--out", &all.display().to_string()]);
    for name in ["findings.csv", "report.html"] {
        assert!(fs::read(out.join(name)).ok() == fs::read(all.join(name)).ok(), "{name}");
    }
    let without_page = write(&scratch.path().join("csv"), "csv");
    assert!(!stdout(&without_page).contains("report.html"), "{}", stdout(&without_page));
}

#[test]
fn files_of_an_earlier_report_do_not_stay_beside_a_newer_one() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report");
    run(&["--out", &out.display().to_string()]);
    assert_eq!(names(&out).len(), 8);
    // A file that the user changed no longer counts as part of the earlier report, so it is kept.
    fs::write(out.join("hosts.csv"), "mine").expect("writable");
    write(&out, "csv,json");
    assert_eq!(names(&out), ["audit.json", "findings.csv", "hosts.csv", "manifest.sha256"]);
    assert_eq!(fs::read_to_string(out.join("hosts.csv")).expect("a file"), "mine");
    // The user's own list of exceptions would be overwritten only if the report included
    // `exceptions.csv`.
    let kept = scratch.path().join("kept");
    fs::create_dir(&kept).expect("a folder");
    fs::write(kept.join("exceptions.csv"), "mine").expect("writable");
    assert_eq!(write(&kept, "csv").status.code(), Some(1));
    assert_eq!(write(&kept, "exceptions").status.code(), Some(2));
    assert_eq!(fs::read_to_string(kept.join("exceptions.csv")).expect("a file"), "mine");
}

#[test]
fn a_wrong_selection_is_refused_with_the_nearest_word() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report");
    let refused = write(&out, "csv,htlm");
    assert_eq!((refused.status.code(), out.exists()), (Some(2), false));
    let told = stderr(&refused);
    assert!(told.contains("'htlm'") && told.contains("similar value exists: 'html'"), "{told}");
    // A format without a file cannot be selected, and a selection needs a folder.
    assert_eq!(write(&out, "junit").status.code(), Some(2));
    let refused = run(&["--reports", "csv"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--out"), "{}", stderr(&refused));
}

#[test]
fn both_layouts_of_the_result_mean_the_same() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let compact = stdout(&run(&["--format", "json"]));
    let indented = stdout(&run(&["--format", "json", "--pretty"]));
    let value = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let result = value(&compact);
    assert_eq!(result, value(&indented));
    assert!(compact.len() < indented.len() && indented.contains("\n  \"schema\": "));
    // Each finding and each conversation has a line of its own.
    for table in ["findings", "conversations"] {
        for row in result[table].as_array().expect("a table") {
            let line = compact.lines().map(|line| line.trim_end_matches([',', ']']));
            let same = line.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            assert!(same.into_iter().any(|line| line == *row), "{row}");
        }
    }
    // A stored result of either layout gives the same reports.
    let reports = [("compact", &compact), ("indented", &indented)].map(|(name, text)| {
        let path = scratch.path().join(name);
        fs::write(&path, text).expect("writable");
        let path = path.display().to_string();
        let again = rasaudit(["report", &path, "--format", "json", "--pretty"]);
        assert_eq!(stdout(&again), indented);
        stdout(&rasaudit(["report", &path, "--format", "csv"]))
    });
    assert_eq!(reports[0], reports[1]);
}

#[test]
fn reports_never_remove_the_result_from_which_they_are_made() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let folder = scratch.path().join("report");
    run(&["--out", &folder.display().to_string(), "--quiet"]);
    let before = fs::read(folder.join("audit.json")).expect("a result");
    let path = folder.display().to_string();
    let output = rasaudit(["report", &path, "--out", &path, "--reports", "csv"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("add json, or choose a folder other"), "{}", stderr(&output));
    assert_eq!(fs::read(folder.join("audit.json")).expect("a result"), before);
    let output = rasaudit(["report", &path, "--out", &path, "--reports", "csv,json", "--quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
