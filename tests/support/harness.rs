//! A test harness that shows a test as ignored if this machine does not meet its needs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

use crate::support::engines;

/// A test with its needs.
#[derive(Clone, Copy)]
pub struct LabTest {
    /// The full path of the module that contains the test, beginning with the crate name.
    pub module: &'static str,
    /// The name of the test function.
    pub name: &'static str,
    /// The test function, which panics if the test fails.
    pub run: fn(),
    /// What the test needs from the machine.
    pub needs: &'static [Need],
}

/// Something that a test may need from the machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(dead_code, reason = "each test program uses a part")]
pub enum Need {
    /// Root, network namespaces, tcpreplay and nftables.
    Namespaces,
    /// Namespaces and the programs of the lab farm.
    Farm,
    /// Namespaces and real services.
    Services,
    /// tshark, which dissects frames for comparison.
    Tshark,
    /// valgrind, which counts instructions.
    Valgrind,
    /// strace, which delays system calls.
    Strace,
    /// faketime, which changes the clock that the program sees.
    Faketime,
    /// node, Chromium and the node modules of `tests/browser`.
    Browser,
    /// The installed engines (DuckDB, pyarrow and Spark). Java is not needed.
    Engines,
    /// Spark and Java.
    Spark,
    /// The folder `RASAUDIT_CAPTURES` with captures that are not part of the project.
    Captures,
    /// The folder `RASAUDIT_CASES` with inventories and their captures that are not part of the
    /// project.
    Cases,
}

impl Need {
    /// Returns whether tests with this need run: either the machine meets the need, or CI requires
    /// the tests. In the latter case, they fail if the need is not met.
    fn is_met(self) -> bool {
        let required = |name: &str| std::env::var_os(format!("RASAUDIT_REQUIRE_{name}")).is_some();
        let has = |program: &str| sh(&format!("command -v {program}"));
        match self {
            Self::Namespaces => required("LAB") || has("tcpreplay") && has("nft") && namespaces(),
            Self::Farm | Self::Services => required("LAB") || namespaces(),
            Self::Strace => required("LAB") || has("strace"),
            Self::Faketime => required("LAB") || has("faketime"),
            Self::Tshark => required("TSHARK") || has("tshark"),
            Self::Valgrind => required("VALGRIND") || has("valgrind"),
            Self::Browser => {
                let modules = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/node_modules");
                required("BROWSER") || has("node") && has("chromium") && Path::new(modules).is_dir()
            }
            Self::Engines => required("SPARK") || engines::are_installed(),
            Self::Spark => required("SPARK") || engines::are_installed() && has("java"),
            Self::Captures => std::env::var_os("RASAUDIT_CAPTURES").is_some(),
            Self::Cases => std::env::var_os("RASAUDIT_CASES").is_some(),
        }
    }
}

fn sh(command: &str) -> bool {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let run = Command::new("sh").args(["-c", command]).env("PATH", path).output();
    run.is_ok_and(|run| run.status.success())
}

/// Returns whether network namespaces can be created.
fn namespaces() -> bool {
    sh("n=ras-need-$$; ip netns add $n && ip netns del $n")
}

/// Lists the tests of a file, each with its needs. If a test is not listed, the compiler reports it
/// as dead code.
macro_rules! lab_tests {
    ($($name:ident: [$($need:ident),*],)*) => {
        pub const TESTS: &[crate::harness::LabTest] = &[$(crate::harness::LabTest {
            module: module_path!(),
            name: stringify!($name),
            run: $name,
            needs: &[$(crate::harness::Need::$need),*],
        }),*];
    };
}

/// Runs the tests that the command-line arguments select, except those whose needs are not met.
pub fn run(files: &[&[LabTest]]) -> ExitCode {
    let arguments = Arguments::from_args();
    let mut met: BTreeMap<Need, bool> = BTreeMap::new();
    let trials = files.concat().into_iter().map(|test| {
        let module = test.module.split_once("::").map_or("", |(_, module)| module);
        let trial = Trial::test(format!("{module}::{}", test.name), move || {
            (test.run)();
            Ok(())
        });
        let mut is_met = |need: &Need| *met.entry(*need).or_insert_with(|| need.is_met());
        trial.with_ignored_flag(!test.needs.iter().all(&mut is_met))
    });
    let trials = trials.collect();
    let unmet: Vec<_> = met.iter().filter(|(_, met)| !**met).map(|(need, _)| need).collect();
    if !unmet.is_empty() {
        eprintln!("Some tests are ignored, because this machine lacks what they need: {unmet:?}");
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
