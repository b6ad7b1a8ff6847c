//! Tests that five-tuples with their packets and bytes in each direction match tshark's per-packet
//! fields, without any reassembly. Expects Debian's tshark. Without it, the test is ignored, or
//! fails if `RASAUDIT_REQUIRE_TSHARK` is set, as in CI.

use crate::support;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::fixture;
use crate::support::tshark::Sees;
use rasaudit::flow::{Flow, FlowPartitions};
use rasaudit::pipeline::{Dedup, Plan, Progress, Reading, Request};

lab_tests! {
    five_tuples_agree_with_tshark: [Tshark],
}

/// The numbers of packets and bytes, by source, destination and protocol.
type Directions = BTreeMap<(String, String, u8), (u64, u64)>;

fn theirs(capture: &Path) -> Option<Directions> {
    let packets = support::tshark::packets(capture)?;
    // Later fragments have no ports. They belong to the flow of their first fragment.
    let mut firsts = BTreeMap::new();
    for packet in &packets {
        if let (Some(datagram), Sees::Flow(..)) = (&packet.datagram, &packet.sees) {
            firsts.insert(datagram, &packet.sees);
        }
    }
    let mut directions = Directions::new();
    for packet in &packets {
        let sees = match (&packet.sees, &packet.datagram) {
            (Sees::Fragment, Some(datagram)) => firsts.get(datagram).copied(),
            (sees, _) => Some(sees),
        };
        if let Some(Sees::Flow(src, dst, protocol)) = sees {
            let entry = directions.entry((src.clone(), dst.clone(), *protocol)).or_default();
            entry.0 += 1;
            entry.1 += packet.length;
        }
    }
    Some(directions)
}

fn ours(capture: &Path) -> Directions {
    let request = Request {
        captures: vec![capture.to_owned()],
        jobs: Some(2),
        max_memory: 1 << 30,
        dedup: Dedup::Off,
        ..Request::default()
    };
    let plan = Plan::new(request).expect("the fixture is there");
    let reading = Reading::of(&plan, &Progress::default()).expect("the fixture is read");
    let mut directions = Directions::new();
    reading
        .flows
        .visit(|shard| {
            // Only innermost packets are compared, so the outer flows of tunnels are left out.
            let plain = |f: &Flow<'_>| f.key.transport().has_ports() && !f.key.path().is_around();
            for flow in shard.iter().filter(plain) {
                for side in 0..2 {
                    let sent = flow.sides[side].sent;
                    if sent.packets.0 > 0 {
                        let end = |side| {
                            let end: rasaudit::model::Endpoint = flow.key.endpoint(side);
                            format!("{} {}", end.addr, end.port)
                        };
                        let key = (end(side), end(1 - side), flow.key.transport().0);
                        directions.insert(key, (sent.packets.0, sent.bytes.0));
                    }
                }
            }
        })
        .expect("in memory");
    directions
}

fn five_tuples_agree_with_tshark() {
    let captures: Vec<PathBuf> = [
        "farm-healthy/span.pcap",
        "farm-faults/span.pcap",
        "decode-mix/mix.pcap",
        "formats/sections.pcapng",
        "overlay/vxlan.pcap",
    ]
    .into_iter()
    .map(fixture)
    .collect();
    for capture in captures {
        let Some(theirs) = theirs(&capture) else {
            support::skipped("tshark is not installed (apt-get install tshark)");
            return;
        };
        let ours = ours(&capture);
        assert!(ours.len() > 5, "{}", capture.display());
        let differing: Vec<_> = ours
            .iter()
            .filter(|(key, value)| theirs.get(*key) != Some(value))
            .map(|(key, value)| format!("{key:?}: ours {value:?}, theirs {:?}", theirs.get(key)))
            .chain(
                theirs
                    .keys()
                    .filter(|k| !ours.contains_key(*k))
                    .map(|k| format!("{k:?}: only theirs")),
            )
            .collect();
        assert!(differing.is_empty(), "{}:\n{}", capture.display(), differing.join("\n"));
    }
}
