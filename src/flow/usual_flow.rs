//! Checks rows of flows, and reads facts from usual ones without allocating memory for the flows.
//! The facts are the same as those from a [`FlowRecord`](super::FlowRecord), whose fields are read
//! in the same order.

use postcard::Deserializer;
use postcard::de_flavors::Slice;
use serde::Deserialize;

use super::FlowKey;
use super::records::{MOST_LINKS, MOST_OPENINGS};
use super::row::{RowFacts, RowKind, RowRef, RowTrust, VERSION};
use super::server_names::MOST_REQUESTS;
use super::state::{Amount, Opening};
use crate::decode::Encapsulation;
use crate::model::{FlagSet, Max, Merge, Min, NumberRange, Sum};

/// The largest number of packets that a record may count. It is far more than any capture contains
/// and keeps sums from overflowing.
const MOST_PACKETS: u64 = 1 << 48;

/// Returns facts from the row of a flow without ICMP errors. Returns `None` for any other row, and
/// for a row that is not valid.
pub(super) fn usual_facts(row: RowRef<'_>, trust: RowTrust) -> Option<RowFacts> {
    let (version, record) = row.record.split_first()?;
    if row.kind != RowKind::FLOWS || *version != VERSION {
        return None;
    }
    let (key, rest): (FlowKey, _) = postcard::take_from_bytes(record).ok()?;
    // The record starts with the key of the row, so the key need not be serialized to compare it.
    let is_key = |key: &[u8]| *key == record[..record.len() - rest.len()];
    let is_own = trust == RowTrust::Own
        || (key.is_canonical()
            && key.bucket() == row.bucket
            && is_key(row.key)
            && has_shortest_integers(row.key));
    let mut record = Fields(Deserializer::from_bytes(rest));
    let mut facts = flow_ends(&key);
    let opens = [record.side(0, &mut facts)?, record.side(1, &mut facts)?];
    facts.opener = opener(opens);
    let errors: usize = record.field()?;
    // The times and the number of errors, and the number of aggregated flows.
    let _: (Min, Max, Sum, Sum) = record.field()?;
    let is_complete = record.0.finalize().is_ok_and(<[u8]>::is_empty);
    (is_own && errors == 0 && is_complete).then_some(facts)
}

/// The fields of a record that were not read yet.
struct Fields<'a>(Deserializer<'a, Slice<'a>>);

impl<'a> Fields<'a> {
    fn field<T: Deserialize<'a>>(&mut self) -> Option<T> {
        T::deserialize(&mut self.0).ok()
    }

    /// Reads a set with at most `most` members, and passes each of them to `visit`. Returns `None`
    /// if the set is not in canonical form.
    fn set<T: Deserialize<'a> + Ord + Copy>(
        &mut self,
        most: usize,
        mut visit: impl FnMut(T),
    ) -> Option<()> {
        let members: usize = self.field()?;
        if members > most {
            return None;
        }
        let mut last = None;
        for _ in 0..members {
            let member: T = self.field()?;
            if last.is_some_and(|last| member <= last) {
                return None;
            }
            visit(member);
            last = Some(member);
        }
        // Skips the field that states whether there were more members.
        self.field::<bool>().map(|_| ())
    }

    /// Reads a side and adds its facts. Returns whether the side sent a SYN; `None` if the side is
    /// not valid.
    fn side(&mut self, number: usize, facts: &mut RowFacts) -> Option<bool> {
        let sent: Amount = self.field()?;
        let cut: Sum = self.field()?;
        let (first, last): (Min, Max) = (self.field()?, self.field()?);
        let flags: FlagSet = self.field()?;
        let syns: Sum<u32> = self.field()?;
        add_side(facts, number, (&sent, flags, first, last));
        self.set::<Opening>(MOST_OPENINGS, |_| ())?;
        self.set::<Opening>(MOST_OPENINGS, |_| ())?;
        let _: NumberRange = self.field()?;
        self.set::<Encapsulation>(MOST_LINKS, |_| ())?;
        self.set::<(&str, bool)>(MOST_REQUESTS, |(name, _)| {
            if facts.name.is_none() && !name.is_empty() {
                facts.name = Some(name.to_owned());
            }
        })?;
        let segments: usize = self.field()?;
        (segments == 0 && is_plausible(&sent, cut)).then_some(syns.0 > 0)
    }
}

/// Returns whether the counters of a side are plausible. `cut` is the number of truncated packets,
/// which must not exceed the number of packets. Both are bounded by [`MOST_PACKETS`].
pub(super) fn is_plausible(sent: &Amount, cut: Sum) -> bool {
    cut.0 <= sent.packets.0 && sent.packets.0 <= MOST_PACKETS
}

/// Returns whether serialized integers take as few bytes as possible. Otherwise, two sequences of
/// bytes could stand for the same integers.
fn has_shortest_integers(bytes: &[u8]) -> bool {
    // The highest bit of a byte states that another byte of the integer follows.
    bytes.iter().zip(bytes.iter().skip(1)).all(|(byte, next)| *byte < 0x80 || *next != 0)
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

/// Adds what a side sent, with its flags and the times of its first and last packet, to the facts
/// about its flow.
pub(super) fn add_side(
    facts: &mut RowFacts,
    number: usize,
    (sent, flags, first, last): (&Amount, FlagSet, Min, Max),
) {
    facts.packets[number] = sent.packets.0;
    facts.bytes[number] = sent.bytes.0;
    facts.payload[number] = sent.payload.0;
    facts.flags[number] = flags.0;
    facts.first.merge(&first);
    facts.last.merge(&last);
    facts.accounted = facts.accounted.saturating_add(sent.packets.0);
}

/// Returns the side that opened a flow, given which sides sent a SYN; `None` unless exactly one
/// did.
pub(super) fn opener(syns: [bool; 2]) -> Option<u8> {
    match syns {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::row::EvidenceRow;
    use super::super::{DirectionRecord, FlowRecord};
    use super::*;
    use crate::decode::{FiveTuple, Path};
    use crate::model::Transport;
    use crate::payload::ServerNameRequest;

    fn side(openings: u32) -> DirectionRecord {
        let mut side = DirectionRecord::default();
        (side.sent.packets, side.cut, side.flags) = (Sum(300), Sum(2), FlagSet(0x102));
        side.first.see(5);
        side.syn_count = Sum(openings);
        (0..openings).for_each(|number| side.syns.insert(Opening { number, other: 400 }));
        for ttl in [64, 65] {
            let mut link = Encapsulation::default();
            (link.ttl, link.interface) = (ttl, 200);
            side.links.insert(link);
        }
        for name in ["", "a.example"] {
            side.requests.insert(ServerNameRequest { name: name.to_owned(), hidden: false });
        }
        side
    }

    fn rows() -> Vec<EvidenceRow> {
        let [src, dst]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let tuple = FiveTuple { src, dst, sport: 50_000, dport: 443, transport: Transport::TCP };
        let flow = FlowRecord::new(FlowKey::new(&tuple, Path::PLAIN).0);
        let full = FlowRecord { sides: [side(4), side(0)], ..flow.clone() };
        [flow, full].map(|flow| EvidenceRow::of_flow(flow).0).into()
    }

    #[test]
    fn facts_are_the_same_as_those_of_the_whole_flow() {
        for row in rows() {
            let facts = usual_facts(row.as_ref(), RowTrust::File);
            assert_eq!(facts, row.facts().ok());
            assert!(facts.is_some());
        }
    }

    #[test]
    fn a_key_with_longer_integers_than_necessary_is_refused() {
        for row in rows() {
            // The first integer of the key is 0, which takes one byte.
            let longer = |bytes: &[u8]| [&[0x80, 0x00], bytes.strip_prefix(&[0]).unwrap()].concat();
            let key = longer(&row.key);
            let record = [&row.record[..1], &longer(&row.record[1..])].concat();
            let changed = RowRef { key: &key, record: &record, ..row.as_ref() };
            assert_eq!(usual_facts(changed, RowTrust::File), None);
            assert!(EvidenceRow { key, record, ..row.clone() }.facts().is_err());
        }
    }

    #[test]
    fn damaged_rows_have_no_other_facts() {
        for row in rows() {
            for place in 0..row.record.len() {
                for byte in [0, 1, 2, 0x7f, 0x80, 0xff] {
                    let mut damaged = row.clone();
                    damaged.record[place] = byte;
                    if let Some(facts) = usual_facts(damaged.as_ref(), RowTrust::File) {
                        assert_eq!(Some(facts), damaged.facts().ok(), "{place} {byte}");
                    }
                }
            }
            let shorter = RowRef { record: &row.record[..row.record.len() - 1], ..row.as_ref() };
            assert_eq!(usual_facts(shorter, RowTrust::File), None);
        }
    }
}
