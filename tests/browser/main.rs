//! Tests of the page in a real browser. If node, Chromium or the node modules are missing, the
//! tests are ignored, or fail if `RASAUDIT_REQUIRE_BROWSER` is set, as in CI.

#[path = "../support/mod.rs"]
mod support;

#[macro_use]
#[path = "../support/harness.rs"]
mod harness;

mod page;

fn main() -> std::process::ExitCode {
    harness::run(&[page::TESTS])
}
