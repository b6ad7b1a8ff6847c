//! Fuzzes inventories in TOML and CSV. An inventory must be accepted, or its problems must be
//! reported.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rasaudit::policy::{Inventory, Matrix, Policy, RuleFiles};

static MATRIX: LazyLock<Matrix> = LazyLock::new(matrix);

fn matrix() -> Matrix {
    RuleFiles::named("ras-19", None).expect("shipped").load().expect("valid")
}

fuzz_target!(|text: &str| {
    let told = |problems: Vec<rasaudit::policy::Diagnostic>| {
        assert!(!problems.is_empty());
        problems.iter().for_each(|p| assert!(!p.to_string().is_empty()));
    };
    match Inventory::from_toml("inventory.toml", text, &MATRIX) {
        Ok(inventory) => drop(Policy::new(matrix(), inventory)),
        Err(problems) => told(problems),
    }
    if let Err(problems) = Inventory::from_csv("hosts.csv", text, &MATRIX) {
        told(problems);
    }
});
