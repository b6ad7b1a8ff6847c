//! Lists the flows of captures: the two ends, and what each of them sent.
//!
//! `cargo run --no-default-features --example list_flows -- CAPTURE...`

use std::error::Error;

use rasaudit::flow::Amount;
use rasaudit::pipeline::{Plan, Progress, Reading, Request};

fn main() -> Result<(), Box<dyn Error>> {
    let captures = std::env::args_os().skip(1).map(Into::into).collect();
    let plan = Plan::new(Request { captures, ..Request::default() }).map_err(|problems| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    })?;

    // The captures are read and their flows merged, but nothing is judged.
    let reading = Reading::of(&plan, &Progress::default())?;
    for input in &reading.inputs {
        eprintln!("{}: {} frames, {}", input.name, input.account.frames, input.format);
    }

    // The order of the flows in the tables is random, so they are sorted before they are printed.
    let mut flows = reading.flows.evidence()?.flows;
    flows.sort_by_key(|flow| (flow.key.endpoint(0), flow.key.endpoint(1), flow.key.transport()));
    for flow in &flows {
        let [a, b] = [0, 1].map(|side| {
            let Amount { packets, bytes, .. } = flow.sides[side].sent;
            format!("{} ({} packets, {} bytes)", flow.key.endpoint(side), packets.0, bytes.0)
        });
        println!("{} {a} - {b}", flow.key.transport());
    }
    Ok(())
}
