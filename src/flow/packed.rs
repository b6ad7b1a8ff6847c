//! The compact form of flows in tables. A flow takes 128 bytes in two cache lines, one for each
//! side. Each line also contains the key, so a packet needs only the line of the side that sent it.
//!
//! What does not fit is kept apart: the addresses of IPv6 flows, and counters and durations that
//! have become too large.

use std::collections::HashMap;

use super::chunked_vec::ChunkedVec;
use super::key::ShortKey;
use super::memory::prefetch;
use super::state::{Amount, DirectionStats, FlowState, Opening, single_opening};
use super::{FlowKey, HashSeed};
use crate::decode::flag;
use crate::model::{FlagSet, Max, Merge, Min, NO_TIME, Nanos, NumberRange, Sum};

/// A flow outside the compact form.
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) struct FlowEntry {
    pub state: FlowState,
    pub key: FlowKey,
    /// The number of truncated packets from each side.
    pub cut: [u64; 2],
}

/// A packet of a flow, as far as counters record it.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountedPacket {
    pub time: Nanos,
    pub wire_len: u32,
    /// Length of the transport payload in bytes.
    pub payload: u32,
    pub flags: u16,
    /// TCP: the acknowledgement number, if there is one.
    pub acked: Option<u32>,
    /// Whether the capture truncated the packet.
    pub cut: bool,
}

/// What one side of a flow sent, with the key of the flow, in one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct PackedSide {
    key: ShortKey,
    first: Min,
    /// See [`DirectionStats::opening`].
    pub opening: Opening,
    pub acked: NumberRange,
    packets: u32,
    bytes: u32,
    payload: u32,
    /// The time from the first to the last packet in nanoseconds, in two parts.
    duration_low: u32,
    duration_high: u16,
    pub flags: FlagSet,
    /// See [`DirectionStats::link`].
    pub link: u16,
    syns: u8,
    cut: u8,
}

/// A flow in compact form. The sides are in the order of the key's endpoints.
#[derive(Clone, Copy)]
struct PackedFlow([PackedSide; 2]);

const _: () = assert!(size_of::<PackedFlow>() == 128);

/// The duration that means that the time of the last packet is in [`LargeCounts`]. Shorter
/// durations cover 78 hours.
const LARGE_DURATION: u64 = (1 << 48) - 1;

/// What does not fit in a [`PackedSide`]. The counters are added to those of the side.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct LargeCounts {
    packets: u64,
    bytes: u64,
    payload: u64,
    syns: u32,
    cut: u64,
    /// The time of the last packet if the duration of the side is [`LARGE_DURATION`].
    last: Max,
}

impl LargeCounts {
    /// Adds the counts to those that fit in the compact form.
    fn add_to(&self, stats: &mut DirectionStats, cut: &mut u64) {
        stats.sent.packets.add(self.packets);
        stats.sent.bytes.add(self.bytes);
        stats.sent.payload.add(self.payload);
        stats.syns.add(self.syns);
        stats.last.merge(&self.last);
        *cut = cut.saturating_add(self.cut);
    }
}

impl PackedSide {
    fn new(key: ShortKey) -> Self {
        Self {
            key,
            first: Min::EMPTY,
            opening: Opening::default(),
            acked: NumberRange::default(),
            packets: 0,
            bytes: 0,
            payload: 0,
            duration_low: 0,
            duration_high: 0,
            flags: FlagSet(0),
            link: 0,
            syns: 0,
            cut: 0,
        }
    }

    /// Returns whether any of the `flags` was seen.
    pub fn has(&self, flags: u16) -> bool {
        self.flags.has(flags)
    }

    /// See [`DirectionStats::single_opening`].
    pub fn single_opening(&self) -> Option<Opening> {
        single_opening(self.flags, self.opening)
    }

    /// Returns the time of the earliest packet.
    pub fn first(&self) -> Min {
        self.first
    }

    fn duration(&self) -> u64 {
        u64::from(self.duration_high) << 32 | u64::from(self.duration_low)
    }

    /// Records a packet, except for its sequence and acknowledgement numbers. If a counter or the
    /// duration has no room for it, changes nothing and returns `None`.
    #[inline]
    fn see(&mut self, packet: &CountedPacket) -> Option<()> {
        let (first, duration) = self.times_with(packet.time)?;
        let packets = self.packets.checked_add(1)?;
        let bytes = self.bytes.checked_add(packet.wire_len)?;
        let payload = self.payload.checked_add(packet.payload)?;
        let syns = self.syns.checked_add(u8::from(packet.flags & flag::SYN != 0))?;
        let cut = self.cut.checked_add(u8::from(packet.cut))?;
        (self.packets, self.bytes, self.payload) = (packets, bytes, payload);
        (self.syns, self.cut) = (syns, cut);
        self.first = first;
        (self.duration_low, self.duration_high) = (duration as u32, (duration >> 32) as u16);
        self.flags.0 |= packet.flags;
        Some(())
    }

    /// Returns the first time and the duration that the side would have after a packet at `time`.
    /// Returns `None` if the duration does not fit.
    #[inline]
    fn times_with(&self, time: Nanos) -> Option<(Min, u64)> {
        let duration = self.duration();
        let Some(first) = self.first.get() else {
            let is_usual = duration == 0 && time != Nanos::MAX;
            let mut first = self.first;
            first.see(time);
            return is_usual.then_some((first, 0));
        };
        if duration == LARGE_DURATION {
            return None;
        }
        let (first, duration) = if time >= first {
            (first, duration.max(time.abs_diff(first)))
        } else if time == NO_TIME {
            (first, duration)
        } else {
            (time, duration.checked_add(first.abs_diff(time))?)
        };
        let mut earliest = Min::EMPTY;
        earliest.see(first);
        (duration < LARGE_DURATION).then_some((earliest, duration))
    }

    /// Returns what the side sent, without its part of [`LargeCounts`].
    #[inline]
    fn unpack(&self) -> DirectionStats {
        let mut last = Max::EMPTY;
        if let Some(first) = self.first.get().filter(|_| self.duration() != LARGE_DURATION) {
            last.see(first.wrapping_add_unsigned(self.duration()));
        }
        DirectionStats {
            sent: Amount {
                packets: Sum(self.packets.into()),
                bytes: Sum(self.bytes.into()),
                payload: Sum(self.payload.into()),
            },
            first: self.first,
            last,
            opening: self.opening,
            acked: self.acked,
            syns: Sum(self.syns.into()),
            flags: self.flags,
            link: self.link,
        }
    }

    /// Returns a side in compact form, and what does not fit in it.
    fn pack(key: ShortKey, stats: &DirectionStats, cut: u64) -> (Self, LargeCounts) {
        let mut side = Self::new(key);
        let mut large = LargeCounts::default();
        side.first = stats.first;
        (side.opening, side.acked) = (stats.opening, stats.acked);
        (side.flags, side.link) = (stats.flags, stats.link);
        let duration = match (stats.first.get(), stats.last.get()) {
            (Some(first), Some(last)) if first <= last => last.abs_diff(first),
            (None, None) => 0,
            _ => LARGE_DURATION,
        };
        let duration = duration.min(LARGE_DURATION);
        (side.duration_low, side.duration_high) = (duration as u32, (duration >> 32) as u16);
        if duration == LARGE_DURATION {
            large.last = stats.last;
        }
        let sent = &stats.sent;
        let counts = [sent.packets.0, sent.bytes.0, sent.payload.0].map(u32::try_from);
        let (small_syns, small_cut) = (u8::try_from(stats.syns.0), u8::try_from(cut));
        match (counts, small_syns, small_cut) {
            ([Ok(packets), Ok(bytes), Ok(payload)], Ok(syns), Ok(cut)) => {
                (side.packets, side.bytes, side.payload) = (packets, bytes, payload);
                (side.syns, side.cut) = (syns, cut);
            }
            _ => {
                (large.packets, large.bytes) = (sent.packets.0, sent.bytes.0);
                (large.payload, large.syns, large.cut) = (sent.payload.0, stats.syns.0, cut);
            }
        }
        (side, large)
    }
}

/// Flows in compact form, by position.
#[derive(Default)]
pub(super) struct PackedFlows {
    flows: ChunkedVec<PackedFlow>,
    /// The addresses of IPv6 flows. A [`ShortKey`] contains their position.
    wide: ChunkedVec<[[u64; 2]; 2]>,
    /// The counts and times that do not fit in the compact form, by the position of the flow. Few
    /// flows have such an entry.
    large: HashMap<u32, [LargeCounts; 2], HashSeed>,
}

impl PackedFlows {
    /// Returns the number of flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Returns whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Returns the allocated memory in bytes.
    pub fn memory(&self) -> usize {
        const LARGE: usize = 2 * size_of::<[LargeCounts; 2]>();
        self.flows.memory() + self.wide.memory() + self.large.len() * LARGE
    }

    /// Returns whether a flow has this key. `side` is the side whose cache line is needed next.
    #[inline]
    pub fn is(&self, position: usize, side: usize, key: &FlowKey) -> bool {
        let own = &self.flows[position].0[side].key;
        own.is(key, |at| &self.wide[at as usize])
    }

    /// Prefetches the line of a side, if there is a flow at this position.
    #[inline]
    pub fn prefetch(&self, position: usize, side: usize) {
        prefetch(self.flows.get(position).map(|flow| &flow.0[side]));
    }

    /// Returns a side of a flow, without the counts that are kept apart.
    #[inline]
    pub fn side_mut(&mut self, position: usize, side: usize) -> &mut PackedSide {
        &mut self.flows[position].0[side]
    }

    /// Returns a side of a flow, without the counts that are kept apart.
    #[inline]
    pub fn side(&self, position: usize, side: usize) -> &PackedSide {
        &self.flows[position].0[side]
    }

    /// Returns the key of a flow.
    pub fn key(&self, position: usize) -> FlowKey {
        self.flows[position].0[0].key.whole(|at| &self.wide[at as usize])
    }

    /// Returns a flow.
    pub fn get(&self, position: usize) -> FlowEntry {
        self.unpack(position, &self.flows[position])
    }

    /// Returns the flows in order.
    pub fn iter(&self) -> impl Iterator<Item = FlowEntry> {
        self.flows.iter().enumerate().map(|(position, flow)| self.unpack(position, flow))
    }

    fn unpack(&self, position: usize, flow: &PackedFlow) -> FlowEntry {
        let [first, second] = &flow.0;
        let mut entry = FlowEntry {
            state: FlowState { sides: [first.unpack(), second.unpack()] },
            key: first.key.whole(|at| &self.wide[at as usize]),
            cut: [first.cut.into(), second.cut.into()],
        };
        // The map is nearly always empty, in which case the lookup is skipped.
        if !self.large.is_empty()
            && let Some(large) = self.large.get(&(position as u32))
        {
            let sides = entry.state.sides.iter_mut().zip(&mut entry.cut);
            sides.zip(large).for_each(|((stats, cut), large)| large.add_to(stats, cut));
        }
        entry
    }

    /// Appends a flow.
    pub fn push(&mut self, entry: &FlowEntry) {
        let position = self.len();
        self.push_empty(&entry.key);
        self.set(position, entry);
    }

    /// Appends a flow without packets.
    pub fn push_empty(&mut self, key: &FlowKey) {
        let short = key.short(|| self.wide.len() as u32);
        if let Some(addresses) = key.wide_addresses() {
            self.wide.push(addresses);
        }
        self.flows.push(PackedFlow([PackedSide::new(short); 2]));
    }

    /// Replaces everything but the key of a flow.
    pub fn set(&mut self, position: usize, FlowEntry { state, cut, .. }: &FlowEntry) {
        let flow = &mut self.flows[position];
        let key = flow.0[0].key;
        let [first, second] = &state.sides;
        let (first, first_large) = PackedSide::pack(key, first, cut[0]);
        let (second, second_large) = PackedSide::pack(key, second, cut[1]);
        *flow = PackedFlow([first, second]);
        let large = [first_large, second_large];
        if large != <[LargeCounts; 2]>::default() {
            self.large.insert(position as u32, large);
        } else if !self.large.is_empty() {
            self.large.remove(&(position as u32));
        }
    }

    /// Changes everything but the key of a flow.
    pub fn update(&mut self, position: usize, change: impl FnOnce(&mut FlowEntry)) {
        let mut entry = self.get(position);
        change(&mut entry);
        self.set(position, &entry);
    }

    /// Moves the flow to [`Path::PLAIN`](crate::decode::Path::PLAIN).
    pub fn make_plain(&mut self, position: usize) {
        self.flows[position].0.iter_mut().for_each(|side| side.key = side.key.plain());
    }

    /// Records a packet, except for its initial sequence numbers and its encapsulation. Returns the
    /// number of the encapsulation that the side has so far.
    #[inline]
    pub fn see(&mut self, position: usize, side: usize, packet: &CountedPacket) -> u16 {
        let record = &mut self.flows[position].0[side];
        if let Some(acked) = packet.acked {
            record.acked.see(acked);
        }
        let link = record.link;
        if record.see(packet).is_none() {
            self.see_large(position, side, packet);
        }
        link
    }

    #[cold]
    fn see_large(&mut self, position: usize, side: usize, packet: &CountedPacket) {
        self.update(position, |entry| {
            let CountedPacket { time, wire_len, payload, flags, cut, .. } = *packet;
            entry.state.sides[side].see(time, wire_len, payload, flags);
            entry.cut[side] = entry.cut[side].saturating_add(u64::from(cut));
        });
    }

    /// Returns the flows in order, and frees the memory of those that have been read.
    pub fn into_iter(self) -> impl Iterator<Item = FlowEntry> {
        let Self { flows, wide, large } = self;
        let rest = Self { flows: ChunkedVec::default(), wide, large };
        flows.into_iter().enumerate().map(move |(position, flow)| rest.unpack(position, &flow))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::{FiveTuple, Path};
    use crate::model::Transport;

    impl FlowEntry {
        /// Returns a flow without packets.
        fn new(key: FlowKey) -> Self {
            Self { key, state: FlowState::default(), cut: [0; 2] }
        }
    }

    fn key(number: u8) -> FlowKey {
        let [src, dst] = match number % 2 {
            0 => ["10.0.0.1", "10.0.0.2"],
            _ => ["2001:db8::1", "2001:db8::2"],
        };
        let tuple = FiveTuple {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            sport: u16::from(number),
            dport: 443,
            transport: Transport::TCP,
        };
        FlowKey::new(&tuple, if number < 128 { Path::PLAIN } else { Path::inside(3) }).0
    }

    fn packet() -> impl Strategy<Value = (u8, usize, CountedPacket)> {
        let time = prop_oneof![
            Just(NO_TIME),
            Just(Nanos::MAX),
            Just(NO_TIME + 1),
            any::<Nanos>(),
            0..2_000_000_000_i64,
            (0..90_i64).prop_map(|hours| hours * 3_600_000_000_000),
        ];
        let length = prop_oneof![0..1500_u32, Just(u32::MAX)];
        let acked = any::<Option<u32>>();
        let packet = (time, length.clone(), length, any::<u16>(), acked, any::<bool>());
        (any::<u8>(), 0..2_usize, packet).prop_map(
            |(flow, side, (time, wire_len, payload, flags, acked, cut))| {
                let packet = CountedPacket { time, wire_len, payload, flags, acked, cut };
                (flow % 4 + flow / 64 * 64, side, packet)
            },
        )
    }

    fn same(a: &FlowEntry, b: &FlowEntry) -> bool {
        (a.state, a.key, a.cut) == (b.state, b.key, b.cut)
    }

    proptest! {
        #[test]
        fn packets_count_as_in_whole_statistics(
            packets in proptest::collection::vec(packet(), 0..600),
        ) {
            let mut packed = PackedFlows::default();
            let mut whole: Vec<FlowEntry> = Vec::new();
            for (number, side, packet) in packets {
                let key = key(number);
                let at = whole.iter().position(|flow| flow.key == key).unwrap_or_else(|| {
                    whole.push(FlowEntry::new(key));
                    packed.push_empty(&key);
                    whole.len() - 1
                });
                let CountedPacket { time, wire_len, payload, flags, acked, cut } = packet;
                whole[at].state.sides[side].see(time, wire_len, payload, flags);
                acked.iter().for_each(|acked| whole[at].state.sides[side].acked.see(*acked));
                whole[at].cut[side] += u64::from(cut);
                packed.see(at, side, &packet);
                prop_assert!(same(&packed.get(at), &whole[at]));
            }
            for (at, flow) in whole.iter().enumerate() {
                prop_assert!(packed.is(at, 0, &flow.key) && packed.is(at, 1, &flow.key));
                prop_assert_eq!(packed.key(at), flow.key);
                let others = whole.iter().filter(|other| other.key != flow.key);
                prop_assert!(others.into_iter().all(|other| !packed.is(at, 0, &other.key)));
            }
            let mut copies = PackedFlows::default();
            packed.iter().for_each(|flow| copies.push(&flow));
            prop_assert!(copies.into_iter().zip(&whole).all(|(copy, flow)| same(&copy, flow)));
        }

        #[test]
        fn every_statistic_survives(
            times in any::<[Nanos; 2]>(),
            counts in any::<[u64; 4]>(),
            syns in any::<u32>(),
        ) {
            let mut entry = FlowEntry::new(key(0));
            let side = &mut entry.state.sides[1];
            side.first.see(times[0]);
            side.last.see(times[1]);
            side.sent.packets = Sum(counts[0]);
            side.sent.bytes = Sum(counts[1] >> 32);
            side.sent.payload = Sum(counts[2]);
            side.syns = Sum(syns);
            entry.cut[0] = counts[3] >> 56;
            let mut packed = PackedFlows::default();
            packed.push(&entry);
            prop_assert!(same(&packed.get(0), &entry));
            // Large counts that are no longer needed are removed.
            let small = FlowEntry::new(key(0));
            packed.set(0, &small);
            prop_assert!(same(&packed.get(0), &small) && packed.large.is_empty());
        }
    }
}
