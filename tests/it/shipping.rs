//! Tests what is published along with the program: its version, the manual pages, and the source
//! package. `make dist` checks the packages themselves.

use crate::support;
#[path = "../../packaging/man.rs"]
#[allow(dead_code, reason = "its main is that of the example")]
mod man;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use rasaudit::cli::CommandLine;

/// Returns whether a text is an abbreviated commit hash, which a date may follow.
fn is_commit(text: &str) -> bool {
    let (hash, date) = text.split_once(", ").unwrap_or((text, "2026-01-01"));
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    hash.len() == 7 && hash.bytes().all(|b| b.is_ascii_hexdigit()) && shape == "9999-99-99"
}

/// Returns when a process started, in seconds since 1970; `None` if the system does not state it.
fn started_at(process: u32) -> Option<u64> {
    const TICKS_PER_SECOND: u64 = 100;
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program, in parentheses, may contain spaces.
    let ticks: u64 = status.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(boot + ticks / TICKS_PER_SECOND)
}

/// Returns whether HEAD changed after the parent process (`cargo test`) started. That process
/// builds the program before it runs the tests, so the program may name the earlier commit.
fn has_moved(root: &Path) -> bool {
    let mut git = Command::new("git");
    git.args(["rev-parse", "--git-path", "logs/HEAD"]).current_dir(root);
    let log = git.output().expect("git runs").stdout;
    let log = fs::metadata(root.join(String::from_utf8_lossy(&log).trim()));
    let moved = log.and_then(|log| log.modified()).ok();
    let moved = moved.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let started = started_at(std::os::unix::process::parent_id());
    moved.zip(started).is_some_and(|(moved, started)| moved.as_secs() >= started)
}

#[test]
fn the_version_states_the_commit_that_is_checked_out() {
    let told = support::rasaudit(["--version"]);
    let told = String::from_utf8(told.stdout).expect("text");
    let rest = told.trim_end().strip_prefix(concat!("rasaudit ", env!("CARGO_PKG_VERSION")));
    let rest = rest.unwrap_or_else(|| panic!("{told}"));
    let commit = rest.strip_prefix(" (").and_then(|rest| rest.strip_suffix(')'));
    assert!(rest.is_empty() || commit.is_some_and(is_commit), "{told}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let head = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root).output();
    if let (Ok(head), Some(commit)) = (head, commit)
        && head.status.success()
        && root.join(".git").exists()
        && std::env::var_os("RASAUDIT_COMMIT").is_none()
        && !has_moved(root)
    {
        let head = String::from_utf8_lossy(&head.stdout).into_owned();
        assert!(head.starts_with(&commit[..7]), "{commit} is told, {head} is checked out");
    }
}

#[test]
fn reports_do_not_change_with_the_commit() {
    let [capture, inventory] = ["farm-faults/span.pcap", "farm-healthy/inventory.toml"]
        .map(|name| support::fixture(name).display().to_string());
    for format in ["json", "html", "markdown", "text"] {
        let arguments = ["audit", &capture, "-i", &inventory, "--format", format];
        let report = support::rasaudit(arguments).stdout;
        let report = String::from_utf8(report).expect("text");
        assert!(!report.is_empty());
        let told = String::from_utf8(support::rasaudit(["--version"]).stdout).expect("text");
        if let Some((_, commit)) = told.split_once(" (") {
            assert!(!report.contains(&commit[..7]), "{format} contains the commit");
        }
    }
}

/// Collects the names of the manual pages of a command and its subcommands.
fn pages(command: &clap::Command, name: &str, into: &mut BTreeSet<String>) {
    into.insert(format!("{name}.1"));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        pages(below, &format!("{name}-{}", below.get_name()), into);
    }
}

#[test]
fn every_command_has_a_manual_page_with_its_options() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    man::write_pages(folder.path()).expect("pages");
    let made: BTreeSet<String> = fs::read_dir(folder.path())
        .expect("a folder")
        .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
        .collect();
    let mut expected = BTreeSet::new();
    pages(&CommandLine::command(), "rasaudit", &mut expected);
    assert_eq!(made, expected);
    let audit = fs::read_to_string(folder.path().join("rasaudit-audit.1")).expect("text");
    let examples = audit.split_once(".SH EXAMPLES\n.nf\n").expect("examples").1;
    assert!(audit.contains("\\-\\-evidence") && examples.contains("\n.fi\n"), "{audit}");
}

#[test]
fn the_source_package_is_small_and_has_what_it_needs() {
    let output = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list = String::from_utf8(output.stdout).expect("names");
    let files: BTreeSet<&str> = list.lines().collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // This is the uncompressed size. The registry limits the compressed package to 10 MB.
    let size: u64 = files
        .iter()
        .filter_map(|file| fs::metadata(root.join(file)).ok())
        .map(|file| file.len())
        .sum();
    assert!(size < 5_000_000, "{size} bytes");
    for part in [
        "build.rs",
        "packaging/commit",
        "packaging/man.rs",
        "contrib/spark/rasaudit_spark.py",
        "rules/ras-19/matrix.csv",
        "LICENSE-MIT",
    ] {
        assert!(files.contains(part), "{part} is left out");
    }
    assert!(!files.iter().any(|file| file.starts_with("fixtures/")), "captures are in the package");
}
