//! Locates the browser for the page tests and the scripts that drive it.

use std::path::PathBuf;
use std::process::Command;

/// Returns the folder with the browser scripts. Prints a message and returns `None` if node,
/// Chromium or a node module is missing; panics instead if `RASAUDIT_REQUIRE_BROWSER` is set.
pub fn browser() -> Option<PathBuf> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser"));
    let there = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|run| run.status.success())
    };
    let mut missing: Vec<&str> =
        ["node", "chromium"].into_iter().filter(|program| !there(program)).collect();
    if !folder.join("node_modules/puppeteer-core").is_dir() {
        missing.push("tests/browser/node_modules (make need-test)");
    }
    if missing.is_empty() {
        return Some(folder);
    }
    let reason = format!("the page in a browser: it needs {}", missing.join(", "));
    assert!(
        std::env::var_os("RASAUDIT_REQUIRE_BROWSER").is_none(),
        "the browser is required: {reason}"
    );
    super::skipped(&reason);
    None
}
