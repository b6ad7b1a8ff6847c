//! Tests the page in a real browser. They are ignored without node, Chromium and the node modules,
//! unless `RASAUDIT_REQUIRE_BROWSER` is set, as in CI.

#[path = "../support/mod.rs"]
mod support;

#[macro_use]
#[path = "../support/harness.rs"]
mod harness;

mod page;

fn main() -> std::process::ExitCode {
    harness::run(&[page::TESTS])
}
