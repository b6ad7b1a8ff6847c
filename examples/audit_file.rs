//! Audits a capture against an inventory and prints the headline and the findings, worst first.
//!
//! `cargo run --no-default-features --example audit_file -- CAPTURE INVENTORY`, for example with
//! `fixtures/farm-faults/span.pcap` and `fixtures/farm-healthy/inventory.toml`

use std::error::Error;
use std::fmt::Display;
use std::fs;

use rasaudit::pipeline::{Audit, Limits, Plan, Progress, Request};
use rasaudit::policy::{Inventory, Policy, RuleFiles};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [capture, inventory_file] = arguments.as_slice() else {
        return Err("usage: audit_file CAPTURE INVENTORY".into());
    };

    // The matrix defines the roles, so it is loaded first. The inventory is checked against it.
    let matrix = RuleFiles::named("ras-19", None)?.load().map_err(all)?;
    let text = fs::read_to_string(inventory_file)?;
    let inventory = Inventory::from_toml(inventory_file, &text, &matrix).map_err(all)?;
    let policy = Policy::new(matrix, inventory);

    // A plan is a request that has been checked. Other threads may read the progress, or stop the
    // audit through it.
    let request = Request { captures: vec![capture.into()], ..Request::default() };
    let plan = Plan::new(request).map_err(all)?;
    let progress = Progress::default();
    let audit = Audit::of(&plan, Some(policy), None, &Limits::default(), &progress)?;

    // Every report is made from this result. `rasaudit::report::FORMATS` lists the formats.
    let result = audit.result();
    println!("{}{}", result.head.headline.lead, result.head.headline.rest);
    for finding in result.findings() {
        println!("{} {}/{}: {}", finding.severity, finding.verdict, finding.code, finding.message);
    }
    Ok(())
}

/// Joins the problems of a file or of a request, which are reported all at once.
fn all(problems: Vec<impl Display>) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
