//! The compact form of flows in rows. It leaves out the key, which the row contains, and all values
//! that most flows do not have. Times are differences from the first packet of the flow. Sequence
//! numbers are differences from the first number of the same side.
//!
//! A flow has exactly one compact form, so bytes that are not in it are damaged.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::FlowKey;
use super::flow_facts::FlowFacts;
use super::records::{DirectionRecord, FlowRecord};
use super::row::RowFacts;
use super::state::{Amount, IcmpErrors, Opening};
use super::varint::{append_number, take_number};
use crate::decode::Encapsulation;
use crate::model::{BoundedSet, FlagSet, Max, Merge, Min, Nanos, NumberRange, Sum};
use crate::payload::ServerNameRequest;

/// The size in bytes that most compact forms do not exceed.
const USUAL_SIZE: usize = 96;

/// The largest number of packets that a side may count. It is far more than any capture contains
/// and keeps sums from overflowing.
const MOST_PACKETS: u64 = 1 << 48;

/// Values that a flow may have. The first byte states which it has.
mod of_flow {
    pub(super) const TIME: u8 = 1;
    pub(super) const ERRORS: u8 = 1 << 1;
    pub(super) const AGGREGATED: u8 = 1 << 2;
    pub(super) const ALL: u8 = TIME | ERRORS | AGGREGATED;
}

/// Values that a side may have. The first byte of a side states which it has.
mod of_side {
    pub(super) const CUT: u8 = 1;
    pub(super) const FIRST: u8 = 1 << 1;
    pub(super) const LAST: u8 = 1 << 2;
    pub(super) const SYNS: u8 = 1 << 3;
    pub(super) const SYN_ACKS: u8 = 1 << 4;
    pub(super) const ACKED: u8 = 1 << 5;
    pub(super) const LINKS: u8 = 1 << 6;
    pub(super) const REQUESTS: u8 = 1 << 7;
}

/// What is kept of a compact form that is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Detail {
    /// Everything.
    Whole,
    /// Everything except the members of the sets of initial sequence numbers and encapsulations.
    /// They are checked, but take no memory.
    Facts,
}

/// The values of a flow that do not belong to a side.
#[derive(Default)]
struct SharedValues {
    errors: IcmpErrors,
    error_first: Min,
    error_last: Max,
    error_count: Sum,
    aggregated: Sum,
}

/// Appends the compact form of a flow to `bytes`. Segments are not part of it, because they have
/// rows of their own.
pub(super) fn write_flow(flow: &FlowRecord, bytes: Vec<u8>) -> Vec<u8> {
    let FlowRecord { key: _, sides, errors, error_first, error_last, error_count, aggregated } =
        flow;
    let mut out = RecordWriter { bytes, spaces: [None; 2] };
    out.bytes.reserve(USUAL_SIZE);
    let base = sides.iter().filter_map(|side| side.first.get()).min();
    let present = marks([
        (of_flow::TIME, base.is_some()),
        (of_flow::ERRORS, has_errors(errors, [error_first.get(), error_last.get()], *error_count)),
        (of_flow::AGGREGATED, aggregated.0 != 0),
    ]);
    out.bytes.push(present);
    base.into_iter().for_each(|base| out.signed(base));
    for (number, side) in sides.iter().enumerate() {
        out.side(number, side, base.unwrap_or_default());
    }
    if present & of_flow::ERRORS != 0 {
        out.value(&(errors, error_first, error_last, error_count));
    }
    if present & of_flow::AGGREGATED != 0 {
        out.number(aggregated.0);
    }
    out.bytes
}

/// Reads the compact form of the flow with this key. Returns `None` if `bytes` is anything else, or
/// if its counters are not plausible.
pub(super) fn read_flow(key: FlowKey, bytes: &[u8]) -> Option<FlowRecord> {
    let mut flow = FlowRecord::new(key);
    let sides = &mut flow.sides;
    let shared = read_form(key, bytes, Detail::Whole, |number, side| sides[number] = side)?;
    let SharedValues { errors, error_first, error_last, error_count, aggregated } = shared;
    Some(FlowRecord { errors, error_first, error_last, error_count, aggregated, ..flow })
}

/// Reads facts from the compact form of the flow with this key. Returns `None` in the same cases as
/// [`read_flow`].
pub(super) fn read_facts(key: FlowKey, bytes: &[u8]) -> Option<RowFacts> {
    let mut facts = FlowFacts::new(&key);
    read_form(key, bytes, Detail::Facts, |number, side| facts.add(number, &side))?;
    Some(facts.finish())
}

/// Reads a compact form. Passes each side to `take`, and returns all other values.
#[inline]
fn read_form(
    key: FlowKey,
    bytes: &[u8],
    detail: Detail,
    mut take: impl FnMut(usize, DirectionRecord),
) -> Option<SharedValues> {
    let mut from = RecordReader { bytes, spaces: [None; 2], detail };
    let present = from.byte()?;
    if present & !of_flow::ALL != 0 {
        return None;
    }
    let base = if present & of_flow::TIME != 0 { Some(from.signed()?) } else { None };
    let mut first = Min::default();
    for number in 0..2 {
        let mut side = DirectionRecord::default();
        from.side(number, &mut side, base.unwrap_or_default())?;
        first.merge(&side.first);
        take(number, side);
    }
    // Otherwise, the same times could be written as differences from another time.
    if base != first.get() {
        return None;
    }
    let mut shared = SharedValues::default();
    if present & of_flow::ERRORS != 0 {
        let errors: (IcmpErrors, Min, Max, Sum) = from.value()?;
        (shared.errors, shared.error_first, shared.error_last, shared.error_count) = errors;
        let SharedValues { errors, error_first, error_last, error_count, .. } = &shared;
        let has_sides = errors.iter().all(|(error, _)| error.side < 2);
        let has_errors = has_errors(errors, [error_first.get(), error_last.get()], *error_count);
        if !has_errors || !has_sides || !errors.is_canonical(key.addresses()) {
            return None;
        }
    }
    if present & of_flow::AGGREGATED != 0 {
        shared.aggregated = Sum(from.present_number()?);
    }
    from.bytes.is_empty().then_some(shared)
}

/// Returns whether anything is known about ICMP errors that quote a flow.
fn has_errors(errors: &IcmpErrors, times: [Option<Nanos>; 2], count: Sum) -> bool {
    !errors.is_empty() || times.iter().any(Option::is_some) || count.0 != 0
}

/// Returns the marks of the values that are present.
fn marks<const N: usize>(values: [(u8, bool); N]) -> u8 {
    values.into_iter().filter(|(_, is_present)| *is_present).fold(0, |all, (mark, _)| all | mark)
}

/// Returns whether the counters of a side are plausible: the side has no more truncated packets
/// than packets, and no more than [`MOST_PACKETS`].
pub(super) fn is_plausible(sent: &Amount, cut: Sum) -> bool {
    cut.0 <= sent.packets.0 && sent.packets.0 <= MOST_PACKETS
}

/// Writes the compact form of a flow.
struct RecordWriter {
    bytes: Vec<u8>,
    /// For each side, the first of its sequence numbers that was written.
    spaces: [Option<u32>; 2],
}

impl RecordWriter {
    fn number(&mut self, number: u64) {
        append_number(&mut self.bytes, number);
    }

    /// Writes a signed integer, so that integers near zero take few bytes.
    fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63) as u64);
    }

    fn value(&mut self, value: &impl Serialize) {
        // Serialization into memory fails only if a type cannot be serialized at all, which the
        // tests would show. If it fails, the form is empty, and is rejected when it is read.
        self.bytes =
            postcard::to_extend(value, std::mem::take(&mut self.bytes)).unwrap_or_default();
    }

    /// Writes a sequence number of a side.
    fn sequence(&mut self, side: usize, number: u32) {
        match self.spaces[side] {
            None => {
                self.spaces[side] = Some(number);
                self.number(u64::from(number));
            }
            Some(first) => self.signed(i64::from(number.wrapping_sub(first) as i32)),
        }
    }

    fn set<T, const N: usize>(
        &mut self,
        set: &BoundedSet<T, N>,
        mut write: impl FnMut(&mut Self, &T),
    ) where
        T: Ord + Clone,
    {
        self.number((set.len() as u64) << 1 | u64::from(set.more()));
        set.iter().for_each(|member| write(self, member));
    }

    fn link(&mut self, link: &Encapsulation) {
        match link.short() {
            // The highest bit of the short form is always set.
            Some(short) => {
                self.number(((short >> 64) as u64 & u64::MAX >> 1) + 1);
                self.number(short as u64);
            }
            None => {
                self.number(0);
                self.value(link);
            }
        }
    }

    /// Writes a side of a flow whose first packet was sent at `base`.
    fn side(&mut self, number: usize, side: &DirectionRecord, base: Nanos) {
        let present = marks([
            (of_side::CUT, side.cut.0 != 0),
            (of_side::FIRST, side.first.get().is_some()),
            (of_side::LAST, side.last.get().is_some()),
            (of_side::SYNS, side.syns != BoundedSet::new()),
            (of_side::SYN_ACKS, side.syn_acks != BoundedSet::new()),
            (of_side::ACKED, side.acked.least().is_some()),
            (of_side::LINKS, side.links != BoundedSet::new()),
            (of_side::REQUESTS, side.requests != BoundedSet::new()),
        ]);
        let has = |mark: u8| present & mark != 0;
        self.bytes.push(present);
        let Amount { packets, bytes, payload } = side.sent;
        [packets.0, bytes.0, payload.0].into_iter().for_each(|amount| self.number(amount));
        self.number(u64::from(side.flags.0));
        self.number(u64::from(side.syn_count.0));
        if has(of_side::CUT) {
            self.number(side.cut.0);
        }
        let first = side.first.get();
        first.into_iter().for_each(|first| self.number(first.wrapping_sub(base) as u64));
        let start = first.unwrap_or(base);
        side.last.get().into_iter().for_each(|last| self.signed(last.wrapping_sub(start)));
        if has(of_side::SYNS) {
            self.set(&side.syns, |out, syn| {
                out.sequence(number, syn.number);
                out.number(u64::from(syn.other));
            });
        }
        if has(of_side::SYN_ACKS) {
            self.set(&side.syn_acks, |out, syn_ack| {
                out.sequence(1 - number, syn_ack.number);
                out.sequence(number, syn_ack.other);
            });
        }
        if let (Some(least), Some(width)) = (side.acked.least(), side.acked.width()) {
            self.sequence(1 - number, least);
            self.number(u64::from(width));
        }
        if has(of_side::LINKS) {
            self.set(&side.links, Self::link);
        }
        if has(of_side::REQUESTS) {
            self.set(&side.requests, |out, ServerNameRequest { name, hidden }| {
                out.number((name.len() as u64) << 1 | u64::from(*hidden));
                out.bytes.extend_from_slice(name.as_bytes());
            });
        }
    }
}

/// Reads the compact form of a flow.
struct RecordReader<'a> {
    /// The bytes that were not read yet.
    bytes: &'a [u8],
    /// For each side, the first of its sequence numbers that was read.
    spaces: [Option<u32>; 2],
    detail: Detail,
}

impl RecordReader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*byte)
    }

    /// Reads an integer that takes as few bytes as possible.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        take_number(&mut self.bytes)
    }

    /// Reads an integer that was written because it is not zero.
    fn present_number(&mut self) -> Option<u64> {
        self.number().filter(|number| *number != 0)
    }

    fn number_of<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number()?.try_into().ok()
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn value<T: DeserializeOwned + Serialize>(&mut self) -> Option<T> {
        let (value, rest) = postcard::take_from_bytes(self.bytes).ok()?;
        // The same value could be written with longer integers.
        let written = &self.bytes[..self.bytes.len() - rest.len()];
        let again = postcard::to_stdvec(&value).ok()?;
        self.bytes = rest;
        (again == written).then_some(value)
    }

    /// Reads a sequence number of a side.
    fn sequence(&mut self, side: usize) -> Option<u32> {
        match self.spaces[side] {
            None => {
                let number = self.number_of()?;
                self.spaces[side] = Some(number);
                Some(number)
            }
            Some(first) => {
                let difference = i32::try_from(self.signed()?).ok()?;
                Some(first.wrapping_add(difference as u32))
            }
        }
    }

    /// Reads a set that was written because it is not empty.
    fn set<T: Ord, const N: usize>(
        &mut self,
        detail: Detail,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<BoundedSet<T, N>> {
        let header = self.present_number()?;
        let members = usize::try_from(header >> 1).ok().filter(|members| *members <= N)?;
        // A single member has no order that would have to be checked.
        if detail == Detail::Facts && members == 1 {
            read(self)?;
            return Some(BoundedSet::of_sorted(Vec::new(), header & 1 != 0));
        }
        let mut kept = Vec::new();
        for _ in 0..members {
            let member = read(self)?;
            if kept.last().is_some_and(|last| member <= *last) {
                return None;
            }
            kept.push(member);
        }
        if detail == Detail::Facts {
            kept.clear();
        }
        Some(BoundedSet::of_sorted(kept, header & 1 != 0))
    }

    fn link(&mut self) -> Option<Encapsulation> {
        match self.number()? {
            0 => self.value::<Encapsulation>().filter(|link| link.short().is_none()),
            number => {
                let upper = u128::from((number - 1) | (1 << 63));
                Encapsulation::of_short(upper << 64 | u128::from(self.number()?))
            }
        }
    }

    fn request(&mut self) -> Option<ServerNameRequest> {
        let header = self.number()?;
        let (name, rest) = self.bytes.split_at_checked(usize::try_from(header >> 1).ok()?)?;
        self.bytes = rest;
        Some(ServerNameRequest {
            name: std::str::from_utf8(name).ok()?.to_owned(),
            hidden: header & 1 != 0,
        })
    }

    /// Reads a side of a flow whose first packet was sent at `base`.
    fn side(&mut self, number: usize, side: &mut DirectionRecord, base: Nanos) -> Option<()> {
        let present = self.byte()?;
        let has = |mark: u8| present & mark != 0;
        side.sent.packets = Sum(self.number()?);
        side.sent.bytes = Sum(self.number()?);
        side.sent.payload = Sum(self.number()?);
        side.flags = FlagSet(self.number_of()?);
        side.syn_count = Sum(self.number_of()?);
        if has(of_side::CUT) {
            side.cut = Sum(self.present_number()?);
        }
        let mut start = base;
        if has(of_side::FIRST) {
            start = base.wrapping_add(self.number()? as i64);
            side.first.see(start);
            side.first.get()?;
        }
        if has(of_side::LAST) {
            side.last.see(start.wrapping_add(self.signed()?));
            side.last.get()?;
        }
        let detail = self.detail;
        if has(of_side::SYNS) {
            side.syns = self.set(detail, |from| {
                Some(Opening { number: from.sequence(number)?, other: from.number_of()? })
            })?;
        }
        if has(of_side::SYN_ACKS) {
            side.syn_acks = self.set(detail, |from| {
                Some(Opening { number: from.sequence(1 - number)?, other: from.sequence(number)? })
            })?;
        }
        if has(of_side::ACKED) {
            let least = self.sequence(1 - number)?;
            side.acked = NumberRange::of(least, self.number_of()?)?;
        }
        if has(of_side::LINKS) {
            side.links = self.set(detail, Self::link)?;
        }
        if has(of_side::REQUESTS) {
            // The first name is a fact.
            side.requests = self.set(Detail::Whole, Self::request)?;
        }
        is_plausible(&side.sent, side.cut).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::flow_facts::flow_facts;
    use super::super::state::{IcmpError, QuotedPackets};
    use super::*;
    use crate::decode::{EncapTagKind, ErrorKind, FiveTuple, Path};
    use crate::model::{Mac, SECOND, Transport};

    const ENDS: [[u8; 4]; 2] = [[10, 0, 0, 1], [10, 0, 0, 2]];

    fn key() -> FlowKey {
        let [src, dst]: [IpAddr; 2] = ENDS.map(IpAddr::from);
        let tuple = FiveTuple { src, dst, sport: 50_000, dport: 443, transport: Transport::TCP };
        FlowKey::new(&tuple, Path::PLAIN).0
    }

    /// Returns a side that has the values that the bits of `choice` select.
    fn side(choice: u32, start: Nanos) -> DirectionRecord {
        let has = |bit: u32| choice >> bit & 1 != 0;
        let mut side = DirectionRecord::default();
        side.sent.packets = Sum(u64::from(choice) * 50);
        side.sent.bytes = Sum(u64::MAX >> (choice % 64));
        side.flags = FlagSet(choice as u16);
        if has(0) {
            side.cut = Sum(u64::from(choice));
        }
        if has(1) {
            side.first.see(start);
        }
        if has(2) {
            side.last.see(start + i64::from(choice) * SECOND);
        }
        for number in 0..choice % 7 {
            // Sequence numbers wrap.
            let number = number.wrapping_mul(0x7fff_fff1).wrapping_sub(choice);
            side.syns.insert(Opening { number, other: choice });
            side.syn_count = Sum(number);
            if has(3) {
                side.syn_acks.insert(Opening { number: !number, other: number ^ choice });
                side.acked.see(number);
            }
        }
        for ttl in 0..(choice >> 4) % 4 {
            let mut link = Encapsulation::default();
            (link.ttl, link.interface) = (ttl as u8 * 85, (choice >> 5) as u16);
            link.source = Mac([1, 2, 3, 4, 5, ttl as u8]);
            if has(6) {
                link = link.with_tag(EncapTagKind::Vlan, Some(choice % 4096));
            }
            if has(7) && ttl == 1 {
                link = link.with_tag(EncapTagKind::Mpls, Some(17));
            }
            side.links.insert(link);
        }
        for name in ["", "a.example", "b.example"].iter().take((choice % 5) as usize) {
            let hidden = has(2);
            side.requests.insert(ServerNameRequest { name: (*name).to_owned(), hidden });
        }
        side
    }

    /// Returns flows in which all combinations of values occur.
    fn flows() -> impl Iterator<Item = FlowRecord> {
        (0..512).map(|choice| {
            let start = i64::from(choice) * SECOND - 100 * SECOND;
            let mut flow = FlowRecord::new(key());
            flow.sides = [side(choice, start), side(choice * 7 % 512, start + 17)];
            if choice % 3 == 0 {
                let error = IcmpError { side: 0, kind: ErrorKind::Prohibited, by: ENDS[1].into() };
                let mut quotes = QuotedPackets::default();
                quotes.seqs.insert(choice);
                flow.errors.insert(flow.key.addresses(), error, &quotes);
                flow.error_first.see(start);
                flow.error_count = Sum(1);
            }
            flow.aggregated = Sum(u64::from(choice % 2) * 300);
            flow
        })
    }

    #[test]
    fn the_compact_form_contains_the_whole_flow() {
        for flow in flows() {
            let bytes = write_flow(&flow, Vec::new());
            assert_eq!(read_flow(flow.key, &bytes).as_ref(), Some(&flow));
            assert_eq!(read_facts(flow.key, &bytes), Some(flow_facts(&flow)));
            let shorter = &bytes[..bytes.len() - 1];
            assert_eq!(read_flow(flow.key, shorter), None);
        }
    }

    #[test]
    fn a_flow_has_only_one_form() {
        let mut accepted = 0;
        for flow in flows().step_by(7) {
            let bytes = write_flow(&flow, Vec::new());
            for place in 0..bytes.len() {
                for byte in [0, 1, 2, 3, 0x40, 0x7f, 0x80, 0xff, bytes[place] ^ 1] {
                    let mut damaged = bytes.clone();
                    damaged[place] = byte;
                    let whole = read_flow(flow.key, &damaged);
                    let facts = read_facts(flow.key, &damaged);
                    assert_eq!(facts, whole.as_ref().map(flow_facts), "{place} {byte}");
                    if let Some(whole) = whole {
                        assert_eq!(write_flow(&whole, Vec::new()), damaged, "{place} {byte}");
                        accepted += 1;
                    }
                }
            }
        }
        assert!(accepted > 1000, "{accepted}");
    }

    #[test]
    fn an_established_connection_takes_few_bytes() {
        let mut flow = FlowRecord::new(key());
        for (number, side) in flow.sides.iter_mut().enumerate() {
            (side.sent.packets, side.sent.bytes, side.sent.payload) = (Sum(9), Sum(900), Sum(300));
            side.first.see(1_796_009_277 * SECOND + number as i64 * 100_000);
            side.last.see(1_796_009_279 * SECOND);
            side.flags = FlagSet(0x1000);
            let [own, other] = [[0x7000_0000, 0x1234_5678], [0x1234_5678, 0x7000_0000]][number];
            match number {
                0 => side.syns.insert(Opening { number: own, other: 0 }),
                _ => side.syn_acks.insert(Opening { number: other, other: own }),
            }
            [1, 300].into_iter().for_each(|acked| side.acked.see(other + acked));
            let mut link = Encapsulation::default();
            (link.source, link.ttl) = (Mac([0, 0x15, 0x5d, 1, 2, number as u8]), 64);
            side.links.insert(link);
        }
        assert_eq!(write_flow(&flow, Vec::new()).len(), 77);
    }
}
