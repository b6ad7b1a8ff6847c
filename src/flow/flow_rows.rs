//! Rows of flows: their records, and facts from them.

use super::FlowKey;
use super::compact_record::{Detail, is_plausible, read_flow, write_flow};
use super::records::{DirectionRecord, FlowRecord};
use super::row::{COMPACT_VERSION, RowError, RowFacts, RowRef, RowTrust, VERSION, from_record};
use crate::model::Merge;

/// Returns the record of a flow.
pub(super) fn flow_to_record(flow: &FlowRecord) -> Vec<u8> {
    write_flow(flow, vec![COMPACT_VERSION])
}

/// Reads the row of a flow. Checks that the record is canonical and matches the row's key and
/// bucket, because a row from a file may contain anything. For trusted rows, the key and the bucket
/// are not checked.
///
/// # Errors
///
/// Returns an error if the row is not valid.
pub(super) fn flow_of(
    row: RowRef<'_>,
    trust: RowTrust,
    detail: Detail,
) -> Result<FlowRecord, RowError> {
    let flow = match row.record.split_first() {
        Some((&COMPACT_VERSION, compact)) => {
            let (key, rest) = postcard::take_from_bytes(row.key).map_err(|_| RowError::Key)?;
            if !rest.is_empty() {
                return Err(RowError::Key);
            }
            read_flow(key, compact, detail).ok_or(RowError::Damaged)?
        }
        _ => {
            let flow = from_record(row.record)?;
            if !is_canonical_flow(&flow) {
                return Err(RowError::Damaged);
            }
            flow
        }
    };
    let is_own = trust == RowTrust::Own || (flow.key.is_canonical() && is_in_place(row, &flow.key));
    if is_own { Ok(flow) } else { Err(RowError::Key) }
}

/// Returns whether the record of a flow has the form of earlier versions, so that it has to be
/// written anew.
pub(super) fn is_earlier_form(record: &[u8]) -> bool {
    record.first() == Some(&VERSION)
}

/// Returns whether a record in the form of earlier versions is one that they wrote: merging it into
/// an empty record would not change it, and its counters are plausible.
fn is_canonical_flow(flow: &FlowRecord) -> bool {
    let is_canonical_side = |side: &DirectionRecord| {
        is_plausible(&side.sent, side.cut)
            && side.syns.is_canonical()
            && side.syn_acks.is_canonical()
            && side.links.is_canonical()
            && side.requests.is_canonical()
            // Segments have rows of their own.
            && side.prefix.is_empty()
    };
    let has_sides = flow.errors.iter().all(|(error, _)| error.side < 2);
    flow.sides.iter().all(is_canonical_side)
        && has_sides
        && flow.errors.is_canonical(flow.key.addresses())
}

/// Returns whether a row has the bucket and the key of this flow.
pub(super) fn is_in_place(row: RowRef<'_>, flow: &FlowKey) -> bool {
    flow.bucket() == row.bucket && has_key(row.key, flow)
}

/// Returns whether `key` is the key of this flow in rows. Unlike [`super::row::to_key`], it
/// allocates no memory.
fn has_key(key: &[u8], flow: &FlowKey) -> bool {
    /// The maximum length of five serialized 64-bit integers, in bytes.
    const LONGEST: usize = 50;
    let mut bytes = [0; LONGEST];
    postcard::to_slice(flow, &mut bytes).is_ok_and(|own| *own == *key)
}

/// Returns the addresses, ports and transport of a flow.
pub(super) fn flow_ends(key: &FlowKey) -> RowFacts {
    let ends = [key.endpoint(0), key.endpoint(1)];
    RowFacts {
        addresses: Some(ends.map(|end| end.addr)),
        ports: ends.map(|end| end.port),
        transport: Some(key.transport()),
        ..RowFacts::default()
    }
}

/// Returns facts from a flow.
pub(super) fn flow_facts(flow: &FlowRecord) -> RowFacts {
    let mut facts = flow_ends(&flow.key);
    for (number, side) in flow.sides.iter().enumerate() {
        facts.packets[number] = side.sent.packets.0;
        facts.bytes[number] = side.sent.bytes.0;
        facts.payload[number] = side.sent.payload.0;
        facts.flags[number] = side.flags.0;
        facts.first.merge(&side.first);
        facts.last.merge(&side.last);
        facts.accounted = facts.accounted.saturating_add(side.sent.packets.0);
    }
    // Only a flow that exactly one side opened has an opener.
    facts.opener = match flow.sides.each_ref().map(|side| side.syn_count.0 > 0) {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    };
    let mut requests = flow.sides.iter().flat_map(|side| side.requests.iter());
    facts.name = requests.find(|request| !request.name.is_empty()).map(|r| r.name.clone());
    facts
}
