//! Tests the configuration file: where it is found, what it sets, and how its mistakes are
//! reported.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{fixture, stderr, stdout};

/// Runs the program in a folder and returns the exit code, standard output and standard error.
fn run_in(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
    let output = command.current_dir(folder).args(arguments).output().expect("the program runs");
    (output.status.code().expect("an exit code"), stdout(&output), stderr(&output))
}

/// Returns a folder that contains a capture with three findings of severity high, and a folder
/// `farm/` with an inventory and a configuration file.
fn farm(config: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a scratch folder");
    fs::create_dir(folder.path().join("farm")).expect("a folder");
    let copy = |from: &str, to: &str| {
        fs::copy(fixture(from), folder.path().join(to)).expect("a copy");
    };
    copy("farm-faults/span.pcap", "span.pcap");
    copy("farm-healthy/inventory.toml", "farm/inventory.toml");
    fs::write(folder.path().join("farm/rasaudit.toml"), config).expect("a file");
    folder
}

const AUDIT: [&str; 4] = ["audit", "span.pcap", "-i", "farm/inventory.toml"];

#[test]
fn the_file_next_to_the_inventory_sets_options() {
    let folder = farm("fail-on = \"critical\"\n[audit]\nquiet = true\n");
    let (code, out, err) = run_in(folder.path(), &AUDIT);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    let (code, out, _) = run_in(folder.path(), &[&AUDIT[..], &["--no-config"]].concat());
    assert_eq!(code, 1, "without the file, findings below critical fail the audit");
    assert!(!out.is_empty());
}

#[test]
fn the_command_line_takes_precedence() {
    let folder = farm("fail-on = \"never\"\nquiet = true\n[audit]\nout = \"reports\"\n");
    let (code, ..) = run_in(folder.path(), &[&AUDIT[..], &["--fail-on", "high"]].concat());
    assert_eq!(code, 1);
    assert!(folder.path().join("farm/reports/findings.csv").is_file(), "paths start at the file");
    fs::remove_dir_all(folder.path().join("farm/reports")).expect("reports");
    // --format and --out exclude each other, as do --quiet and --verbose, so `out` and `quiet` of
    // the file do not apply.
    let more = ["--format", "csv", "--verbose", "--fail-on", "high"];
    let (code, out, err) = run_in(folder.path(), &[&AUDIT[..], &more].concat());
    assert_eq!(code, 1, "{err}");
    assert!(out.starts_with("id,"), "{out}");
    assert!(!folder.path().join("farm/reports").exists());
}

#[test]
fn without_an_inventory_the_file_of_the_current_folder_may_name_it() {
    let folder = farm("inventory = \"inventory.toml\"\nfail-on = \"high\"\n");
    let (code, out, err) = run_in(&folder.path().join("farm"), &["audit", "../span.pcap"]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("refused"), "{out}");
    // If the same file is used from another folder, its paths do not depend on the current folder.
    let arguments = ["audit", "span.pcap", "--config", "farm/rasaudit.toml"];
    assert_eq!(run_in(folder.path(), &arguments).0, 1);
    let (code, out, _) =
        run_in(folder.path(), &["audit", "span.pcap", "--format", "conversations"]);
    assert_eq!(code, 0, "{out}");
}

#[test]
fn a_section_takes_precedence_over_the_common_options() {
    let folder =
        farm("fail-on = \"never\"\n[audit]\nfail-on = \"high\"\n[live]\nfail-on = \"low\"\n");
    assert_eq!(run_in(folder.path(), &AUDIT).0, 1);
}

#[test]
fn all_mistakes_are_reported_with_their_lines() {
    let config = "\
fail_on = \"high\"
fail-on = \"hihg\"
quiet = \"yes\"
max-memory = \"lots\"
severity = [\"refusd=low\"]
[audits]
[audit]
captures = [\"span.pcap\"]
dedup = \"of\"
jobs = 999
format = [\"csv\"]
[live]
evry = \"5m\"
every = \"0s\"
[inventory-draft]
internal = [\"10.0.0.1/8\"]
[inventory-darft]
";
    let folder = farm(config);
    let (code, out, err) = run_in(folder.path(), &AUDIT);
    assert_eq!((code, out.as_str()), (2, ""));
    let expected = [
        "1: unknown option \"fail_on\"; did you mean \"fail-on\"?",
        "2: fail-on: give a severity (info, low, medium, high, critical), never or new; did you mean \"high\"?",
        "3: quiet must be true or false",
        "4: max-memory: give a size like 512MiB or 2GiB",
        "5: severity: \"refusd\" is not a finding code; did you mean \"refused\"?",
        "6: unknown section \"audits\"; did you mean \"audit\"?",
        "8: unknown option \"captures\" in [audit]",
        "9: dedup must be one of auto, on, off; did you mean \"off\"?",
        "10: jobs: give a whole number from 1 to 256",
        "11: format must be one string or number, not a list",
        "13: unknown option \"evry\" in [live]; did you mean \"every\"?",
        "14: every: the duration must be at least 1 second",
        "16: internal: the address has bits set beyond the prefix; did you mean \"10.0.0.0/8\"?",
        "17: unknown section \"inventory-darft\"; did you mean \"inventory-draft\"?",
    ];
    let lines: Vec<&str> =
        err.lines().map(|l| l.trim_start_matches("error: farm/rasaudit.toml:")).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_file_that_cannot_be_read_ends_the_run() {
    let folder = farm("fail-on = \n");
    let (code, _, err) = run_in(folder.path(), &AUDIT);
    assert_eq!(code, 2);
    assert!(err.contains("farm/rasaudit.toml:1: "), "{err}");
    let (code, _, err) =
        run_in(folder.path(), &["audit", "span.pcap", "--config", "farm/rasadit.toml"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean \"rasaudit.toml\"?"), "{err}");
    let (code, _, err) = run_in(folder.path(), &["audit", "farm", "--config", "span.pcap"]);
    assert_eq!(code, 2);
    assert!(err.contains("is a pcap file, not a configuration file"), "{err}");
}

#[test]
fn an_error_of_the_arguments_names_the_options_that_the_file_added() {
    let folder = farm("[audit]\nvxlan-port = 5000\nno-decap = true\n");
    let (code, _, err) = run_in(folder.path(), &AUDIT);
    assert_eq!(code, 2);
    assert!(err.contains("cannot be used with"), "{err}");
    let note = "note: farm/rasaudit.toml adds --no-decap (line 3), --vxlan-port (line 2)";
    assert!(err.contains(note), "{err}");
}

#[test]
fn the_options_in_effect_are_printed_as_a_file() {
    let config = "fail-on = \"high\"\nvxlan-port = [5000, 5001]\n[audit]\nmin-watch = \"5m\"\n";
    let folder = farm(config);
    // Captures are not needed to print the options.
    let arguments = ["audit", "-i", "farm/inventory.toml", "--jobs", "2", "--print-config"];
    let (code, printed, err) = run_in(folder.path(), &arguments);
    assert_eq!(code, 0, "{err}");
    for line in [
        "[audit]",
        "inventory = \"farm/inventory.toml\"  # command line",
        "fail-on = \"high\"  # farm/rasaudit.toml:1",
        "vxlan-port = [5000, 5001]  # farm/rasaudit.toml:2",
        "min-watch = \"5m\"  # farm/rasaudit.toml:4",
        "jobs = 2  # command line",
        "# max-memory = \"1GiB\"",
    ] {
        assert!(printed.lines().any(|l| l == line), "no line {line:?} in\n{printed}");
    }
    // The output is a valid file with the same effect.
    fs::write(folder.path().join("rasaudit.toml"), &printed).expect("a file");
    let (code, again, err) = run_in(folder.path(), &["audit", "--print-config"]);
    assert_eq!(code, 0, "{err}");
    let settings = |text: &str| -> Vec<String> {
        text.lines().filter_map(|l| l.split("  # ").next()).map(str::to_owned).collect()
    };
    assert_eq!(settings(&again), settings(&printed));
}

#[test]
fn every_command_with_a_configuration_reads_it() {
    let folder = farm("matrix = \"ras-19\"\n");
    let arguments = [
        "explain",
        "--from",
        "console",
        "--to",
        "broker",
        "--port",
        "20002/tcp",
        "--config",
        "farm/rasaudit.toml",
    ];
    let (code, out, err) = run_in(folder.path(), &arguments);
    assert_eq!(code, 0, "{out}{err}");
    for command in [
        &["live", "-i", "farm/inventory.toml", "--print-config"][..],
        &["report", "--print-config"],
        &["collect", "--print-config"],
        &["diff", "--print-config"],
        &["inventory", "draft", "--print-config"],
        &["exceptions", "add", "--print-config"],
        &["exceptions", "check", "--print-config"],
    ] {
        let more = ["--config", "farm/rasaudit.toml"];
        let (code, out, err) = run_in(folder.path(), &[command, &more].concat());
        assert_eq!(code, 0, "{command:?}: {err}");
        let words: Vec<&str> =
            command.iter().copied().take_while(|w| !w.starts_with('-')).collect();
        assert!(out.contains(&format!("[{}]", words.join("-"))), "{out}");
        // `collect` accepts options that it does not use. Their defaults are not printed.
        assert!(words != ["collect"] || !out.contains("max-loss"), "{out}");
    }
}

#[test]
fn a_command_without_an_inventory_reads_the_file_of_the_current_folder() {
    let folder = farm("[diff]\nformat = \"json\"\n[show]\nlimit = 7\n");
    let farm = folder.path().join("farm");
    let (code, out, err) = run_in(&farm, &["diff", "--print-config"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("format = \"json\"  # rasaudit.toml:2"), "{out}");
    let (_, out, _) = run_in(&farm, &["show", "--print-config"]);
    assert!(out.contains("limit = 7  # rasaudit.toml:4"), "{out}");
}
