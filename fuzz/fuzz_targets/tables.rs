//! Fuzzes flow tables. If two workers each observe half of the first frames of a capture (at most
//! 512), the merged result must not depend on their order or on whether tables were spilled.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use rasaudit::capture::{Batch, CaptureReader, InputHash};
use rasaudit::decode::{Decoder, Observation};
use rasaudit::flow::{
    EvidenceLimit, FlowPartitions, FlowStore, HashSeed, PacketRetention, PrefixRetention, Retention,
};
use rasaudit::payload::{MessageParts, read_payloads};

/// An observation and its payload.
type Seen<'a> = (Observation, &'a [u8]);

/// Returns the merged flows of two workers, each of which observed one part, as sorted text. Also
/// returns their side evidence with the number of duplicates that were removed.
fn met(seed: &HashSeed, parts: [&[Seen<'_>]; 2], spill: bool) -> (Vec<String>, String) {
    let store = FlowStore::new(seed, std::env::temp_dir());
    let keep = Retention { packets: PacketRetention::Records, parts: PrefixRetention::All };
    for part in parts {
        let mut tables = store.tables(&keep);
        for chunk in part.chunks(32) {
            let (seen, payloads): (Vec<_>, Vec<_>) = chunk.iter().copied().unzip();
            let mut facts = Vec::new();
            read_payloads(&seen, &payloads, MessageParts::All, &mut facts);
            tables.observe(&seen, facts);
        }
        if spill { store.spill(tables) } else { store.submit(tables) }.expect("a file");
    }
    let mut flows = store.finish(&keep, 2, &EvidenceLimit::NONE).expect("a file");
    let dropped = flows.remove_duplicates().expect("a file");
    let mut all = Vec::new();
    let list = |shard: rasaudit::flow::PartitionFlows<'_>| {
        for flow in shard.iter() {
            let sides = flow.sides.map(|s| (s.sent, s.first, s.last, s.acked, s.flags));
            let links = [0, 1].map(|side| flow.links(side).copied().collect::<Vec<_>>());
            let errors = flow.extra.map(|e| (e.errors.clone(), e.error_count));
            let requests = flow.server_names.map(|names| {
                [0, 1].map(|side| names.requests(side, &flow.sides[side]).collect::<Vec<_>>())
            });
            all.push(format!("{:?} {sides:?} {links:?} {errors:?} {requests:?}", flow.key));
        }
    };
    flows.visit(list).expect("a file");
    all.sort();
    (all, format!("{:?} {dropped}", flows.side))
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = CaptureReader::new(Box::new(Cursor::new(bytes.to_vec())), InputHash::Skip) else {
        return;
    };
    let decoder = Decoder::default();
    let mut batch = Batch::default();
    let mut seen = Vec::new();
    let _ = reader.next(&mut batch);
    for frame in &batch.frames {
        let mut observation = Observation::default();
        if decoder.decode(frame, batch.data(frame), &mut observation).is_ok() {
            seen.push((observation, observation.payload(batch.data(frame))));
        }
    }
    seen.truncate(512);
    let seed = HashSeed::new();
    let (front, back) = seen.split_at(seen.len() / 2);
    let there = met(&seed, [front, back], false);
    assert_eq!(there, met(&seed, [back, front], false));
    assert_eq!(there, met(&seed, [back, front], true));
});
