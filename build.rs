//! Passes the commit and its date to the program, for `rasaudit --version` only. Reports state just
//! the version, so they do not change with every commit.
//!
//! The date is that of `SOURCE_DATE_EPOCH` if this variable is set, otherwise that of the commit.
//! It is not the date of the build, so two builds of one commit are identical byte for byte. If the
//! commit is unknown, `--version` prints the version only.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The hash of a commit, and its time in seconds since 1970 if it is known.
type Commit = (String, Option<i64>);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RASAUDIT_COMMIT");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let mut version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    if let Some((hash, time)) = stated().or_else(exported).or_else(packaged).or_else(checked_out) {
        let epoch = env::var("SOURCE_DATE_EPOCH").ok().and_then(|time| time.parse().ok());
        let date = epoch.or(time).map(|time| format!(", {}", date(time)));
        version += &format!(" ({}{})", &hash[..7], date.unwrap_or_default());
    }
    println!("cargo:rustc-env=RASAUDIT_VERSION={version}");
}

/// Parses a commit hash, optionally followed by the time of the commit. Returns `None` if the text
/// does not begin with a hash of at least seven hex digits.
fn commit(words: &str) -> Option<Commit> {
    let mut words = words.split_whitespace();
    let hash = words
        .next()
        .filter(|hash| hash.len() >= 7 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some((hash.to_owned(), words.next().and_then(|time| time.parse().ok())))
}

/// Returns the commit that the environment variable `RASAUDIT_COMMIT` states; `None` if the
/// variable is not set or does not contain a commit hash.
fn stated() -> Option<Commit> {
    commit(&env::var("RASAUDIT_COMMIT").ok()?)
}

/// Returns the commit of an archive (`git archive`, a download from the hosting platform, or the
/// source package of `make dist`). Git writes it into `packaging/commit`.
fn exported() -> Option<Commit> {
    println!("cargo:rerun-if-changed=packaging/commit");
    commit(&fs::read_to_string("packaging/commit").ok()?)
}

/// Returns the commit of a package that `cargo package` made from a checkout. Cargo does not record
/// its time.
fn packaged() -> Option<Commit> {
    let recorded = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, hash) = recorded.split_once("\"sha1\"")?;
    commit(hash.split('"').nth(1)?)
}

/// Returns the commit that is checked out. Returns `None` if Git fails, or if this folder is only a
/// part of another project's repository.
fn checked_out() -> Option<Commit> {
    let root = git(&["rev-parse", "--show-toplevel"])?;
    if fs::canonicalize(root).ok()? != env::current_dir().ok()?.canonicalize().ok()? {
        return None;
    }
    // Both files change when another branch is checked out. `logs/HEAD` also changes with each
    // commit.
    for file in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", file])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    commit(&git(&["log", "-1", "--format=%H %ct"])?)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Returns the date (UTC) of a time in seconds since 1970, with Howard Hinnant's algorithm
/// `civil_from_days`, whose years begin in March, so that a leap day is the last day of its year.
fn date(time: i64) -> String {
    let days = time.div_euclid(86_400) + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
