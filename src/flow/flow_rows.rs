//! Rows of flows: their records, and facts from them.

use super::FlowKey;
use super::compact_record::{is_plausible, read_facts, read_flow, write_flow};
use super::flow_facts::flow_facts;
use super::records::{DirectionRecord, FlowRecord};
use super::row::{COMPACT_VERSION, RowError, RowFacts, RowRef, RowTrust, VERSION, from_record};

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
pub(super) fn flow_of(row: RowRef<'_>, trust: RowTrust) -> Result<FlowRecord, RowError> {
    if let Some((&COMPACT_VERSION, compact)) = row.record.split_first() {
        return read_compact(row, trust, |key| read_flow(key, compact));
    }
    let flow: FlowRecord = from_record(row.record)?;
    if !is_canonical_flow(&flow) {
        return Err(RowError::Damaged);
    }
    let is_own = trust == RowTrust::Own || (flow.key.is_canonical() && is_in_place(row, &flow.key));
    if is_own { Ok(flow) } else { Err(RowError::Key) }
}

/// Reads facts from the row of a flow, with the same checks as [`flow_of`].
///
/// # Errors
///
/// Returns an error if the row is not valid.
pub(super) fn facts_of(row: RowRef<'_>, trust: RowTrust) -> Result<RowFacts, RowError> {
    match row.record.split_first() {
        Some((&COMPACT_VERSION, compact)) => {
            read_compact(row, trust, |key| read_facts(key, compact))
        }
        _ => flow_of(row, trust).map(|flow| flow_facts(&flow)),
    }
}

/// Reads a row whose record has the compact form, and checks its key and its bucket.
#[inline]
fn read_compact<T>(
    row: RowRef<'_>,
    trust: RowTrust,
    read: impl FnOnce(FlowKey) -> Option<T>,
) -> Result<T, RowError> {
    let key = FlowKey::of_row(row.key).ok_or(RowError::Key)?;
    let read = read(key).ok_or(RowError::Damaged)?;
    let is_own = trust == RowTrust::Own || (key.is_canonical() && key.bucket() == row.bucket);
    if is_own { Ok(read) } else { Err(RowError::Key) }
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
