//! Measures the cost of a packet in instructions, whose number does not depend on the speed of the
//! machine, to detect changes that make every packet more expensive. The test runs the test build,
//! which needs more instructions than a release build.

use crate::support;
use std::path::Path;
use std::process::Command;

use crate::support::fixture;
use crate::support::wire::Wire;

lab_tests! {
    a_packet_costs_no_more_instructions_than_it_did: [Valgrind],
}

/// Limits of instructions per frame, from its first byte to the summary. Measured values: 3,958 for
/// the healthy farm, 7,148 for the same farm in VXLAN, and 10,598 for 100,000 clients with one MAC
/// address each. The limits are 8% to 10% above them. Splitting source files changes the values,
/// because this build inlines little across files. When the limits last changed, the values of a
/// release build did not: 2,590 (healthy farm) and 4,636 (in VXLAN). Measure again after a
/// deliberate increase.
const CEILINGS: [u64; 3] = [4_332, 7_720, 11_446];

/// Returns the number of instructions that an audit executes.
fn instructions(capture: &Path) -> u64 {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = format!("--callgrind-out-file={}", scratch.path().join("out").display());
    let inventory = fixture("farm-healthy/inventory.toml");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", &out]).arg(env!("CARGO_BIN_EXE_rasaudit")).arg("audit");
    command.arg(capture).arg("-i").arg(inventory).args(["-q", "--jobs", "1", "--fail-on", "never"]);
    let run = command.output().expect("valgrind runs");
    let told = support::stderr(&run);
    assert!(run.status.code().is_some_and(|code| code == 0 || code == 3), "{told}");
    let line = told.lines().find_map(|line| line.split_once("Collected : ")).expect("a count");
    line.1.trim().parse().expect("a number")
}

/// The records of a pcap file, each with its header.
type Frames = Vec<Vec<u8>>;

/// Returns a pcap record with this frame and the timestamp of the record `like`.
fn record(like: &[u8], frame: &[u8]) -> Vec<u8> {
    let length = (frame.len() as u32).to_le_bytes();
    [&like[..8], &length, &length, frame].concat()
}

/// Encapsulates the frames in VXLAN. Like a mirror, the tunnel has one direction and one
/// destination.
fn in_vxlan(records: &Frames) -> Frames {
    let wrapped = |(number, inner): (usize, &Vec<u8>)| {
        let mut wire = Wire::default();
        let body = [
            &(49_152 + number as u16 % 1000).to_be_bytes()[..],
            &4789u16.to_be_bytes(),
            &((16 + inner.len() - 16) as u16).to_be_bytes(),
            &[0, 0, 8, 0, 0, 0, 0, 0, 7, 0],
            &inner[16..],
        ]
        .concat();
        wire.ip(0, "192.0.2.1", "192.0.2.9", 17, &body);
        record(inner, &wire.0[0].1)
    };
    records.iter().enumerate().map(wrapped).collect()
}

/// Returns the first four packets of a connection from each of this many clients, each with its own
/// MAC address.
fn of_clients(count: u32) -> Frames {
    let mut records = Vec::new();
    for number in 0..count {
        let [_, a, b, c] = number.to_be_bytes();
        let client = format!("10.{}.{b}.{c}", 100 + a);
        let mut wire = Wire::default();
        wire.opened(u64::from(number) / 10, (&client, 50_000), ("10.20.1.21", 443), number);
        for (ms, mut frame) in wire.0.into_iter().take(4) {
            let mac = if frame[26..30] == [10, 20, 1, 21] { 0 } else { 6 };
            frame[mac + 3..mac + 6].copy_from_slice(&[a, b, c]);
            let at = [1_780_000_000 + (ms / 1000) as u32, (ms % 1000 * 1000) as u32];
            let head: Vec<u8> = at.iter().flat_map(|word| word.to_le_bytes()).collect();
            records.push(record(&head, &frame));
        }
    }
    records
}

fn a_packet_costs_no_more_instructions_than_it_did() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("RASAUDIT_REQUIRE_VALGRIND").is_none(),
            "valgrind is not installed"
        );
        return support::skipped("instructions are not counted, valgrind is not installed");
    }
    // Comparing a capture with its first tenth cancels the cost of starting and reporting.
    let healthy = support::Records::read(&fixture("farm-healthy/span.pcap"));
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let captures = [healthy.records.clone(), in_vxlan(&healthy.records), of_clients(100_000)];
    let mut dear = Vec::new();
    for (number, records) in captures.iter().enumerate() {
        let [all, some] = ["all", "some"].map(|name| scratch.path().join(name));
        let tenth = records.len() / 10;
        healthy.write(&all, records);
        healthy.write(&some, &records[..tenth]);
        let each = (instructions(&all) - instructions(&some)) / (records.len() - tenth) as u64;
        println!("{each} instructions a frame");
        dear.extend((each > CEILINGS[number]).then_some((number, each)));
    }
    assert!(dear.is_empty(), "{dear:?} instructions, limits: {CEILINGS:?}");
}
