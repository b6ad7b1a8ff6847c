//! Tests that are slow or need root, namespaces or other programs. Tests whose needs are not met
//! are ignored, or fail if `RASAUDIT_REQUIRE_LAB` (or `_TSHARK`, `_VALGRIND`, `_BROWSER`, `_SPARK`)
//! is set, as in CI. Tests of captures and cases that are not part of the project are always
//! ignored without their folder.

#[path = "../support/mod.rs"]
mod support;

#[macro_use]
#[path = "../support/harness.rs"]
mod harness;

mod accuracy;
mod captures;
mod engines;
mod instructions;
mod lab;
mod live;
mod sandbox;
#[cfg(feature = "store")]
mod sensors;
mod services;
mod tshark;
mod watch;

// These files belong to `it`. Only their tests that are slow or need other programs run here.
#[cfg(feature = "store")]
#[allow(dead_code, unused_imports, reason = "the other tests run in `it`")]
#[path = "../it/archives.rs"]
mod archives;
#[allow(dead_code, unused_imports, reason = "the other tests run in `it`")]
#[path = "../it/damage.rs"]
mod damage;
#[allow(dead_code, unused_imports, reason = "the other tests run in `it`")]
#[path = "../it/evidence.rs"]
mod evidence;
#[allow(dead_code, unused_imports, reason = "the other tests run in `it`")]
#[path = "../it/links.rs"]
mod links;
#[allow(dead_code, unused_imports, reason = "the other tests run in `it`")]
#[path = "../it/order_free.rs"]
mod order_free;
#[allow(dead_code, unused_imports, reason = "the other tests run in `it`")]
#[path = "../it/tutorial.rs"]
mod tutorial;

fn main() -> std::process::ExitCode {
    harness::run(&[
        accuracy::TESTS,
        captures::TESTS,
        engines::TESTS,
        instructions::TESTS,
        lab::TESTS,
        live::TESTS,
        sandbox::TESTS,
        #[cfg(feature = "store")]
        sensors::TESTS,
        services::TESTS,
        tshark::TESTS,
        watch::TESTS,
        #[cfg(feature = "store")]
        archives::TESTS,
        damage::TESTS,
        evidence::TESTS,
        links::TESTS,
        order_free::TESTS,
        tutorial::TESTS,
    ])
}
