//! Tests of the page in a real browser. Without node, Chromium and the node modules, they are
//! ignored, unless `RASAUDIT_REQUIRE_BROWSER` is set, as in CI.

#[path = "../support/mod.rs"]
mod support;

#[macro_use]
#[path = "../support/harness.rs"]
mod harness;

mod page;

fn main() -> std::process::ExitCode {
    harness::run(&[page::TESTS])
}
