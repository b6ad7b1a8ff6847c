//! Duplicates: packets that a capture shows more than once, because two ports or both sides of a
//! router are mirrored, or because one file covers two interfaces.
//!
//! A sample shows how many of the frames are duplicates, and of what kind. It consists of the
//! packets with the lowest fingerprints, so it does not depend on which worker saw which frame. If
//! duplicates must be excluded from the counters, a [`PacketRecord`] of each packet is kept until
//! the whole flow has been seen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::copied_amounts::CopiedAmounts;
use super::key::partition;
use super::keyed::{EvidenceKind, empty_parts};
use super::{Amount, FlowKey, HashSeed};
use crate::decode::{Encapsulation, Observation, Path};
use crate::model::{DuplicateCounts, Merge, Nanos, SECOND, Sum, is_capture_time};

/// The maximum time between two sightings of one packet, in nanoseconds. A retransmission comes
/// later or has another IP identification.
const MAX_DISTANCE: Nanos = 1_000_000;

/// The number of fingerprints in the sample. A share of 1% is estimated with a relative error of
/// about one sixth.
const SAMPLE_SIZE: usize = 4096;

/// The maximum number of sightings that are kept per fingerprint.
const MAX_SIGHTINGS: usize = 32;

/// If a fingerprint has more than [`MAX_SIGHTINGS`] sightings, those in randomly chosen periods of
/// this length, in nanoseconds, are kept. Nearly all sightings of one packet are in one period.
const PERIOD: Nanos = SECOND / 10;

/// The minimum number of fingerprints whose sightings have the same distance in time for this not
/// to be a coincidence.
const FEW: usize = 8;

/// One sighting of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Sighting {
    time: Nanos,
    interface: u16,
    link: Encapsulation,
}

impl Sighting {
    /// Returns how another sighting of the packet differs: 0 if it does not, 1 by interface, 2 by
    /// hop, 3 by VLAN.
    fn difference(&self, other: &Self) -> u8 {
        match (self.link == other.link, self.interface == other.interface) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) if self.link.vlans().eq(other.link.vlans()) => 2,
            (false, _) => 3,
        }
    }
}

/// Returns the rank of the period that contains `time`: a hash that is the same in every run.
fn rank(fingerprint: u64, time: Nanos) -> u64 {
    // The finalizer of SplitMix64.
    let mixed = fingerprint ^ (time.div_euclid(PERIOD) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Returns about how many sightings each kept sighting of a fingerprint stands for. If all were
/// kept, it is 1. Otherwise, the kept ones are in the periods with the lowest ranks, and the
/// highest of these ranks shows how many periods there are (the k-minimum-values estimator).
fn weight(fingerprint: u64, kept: &[Sighting]) -> u64 {
    if kept.len() < MAX_SIGHTINGS {
        return 1;
    }
    let ranks: BTreeSet<u64> = kept.iter().map(|s| rank(fingerprint, s.time)).collect();
    let highest = ranks.last().copied().unwrap_or(u64::MAX);
    let periods = ((ranks.len() as u128 - 1) << 64) / (u128::from(highest) + 1);
    let weight = (periods / ranks.len() as u128).max(1);
    u32::try_from(weight).unwrap_or(u32::MAX).into()
}

/// Returns the most frequent of some distances in time, with the number of its occurrences. A
/// distance near a whole number may round up or down, so adjacent ones count together.
fn most_frequent(distances: &BTreeMap<Nanos, usize>) -> Option<(usize, Nanos)> {
    let count_at = |distance: Nanos| distances.get(&distance).copied().unwrap_or(0);
    distances.keys().map(|d| (count_at(*d) + count_at(*d + 1), *d)).max()
}

/// A sample of fingerprints, each with its sightings.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct DuplicateSampler {
    #[serde(rename = "sights")]
    sightings: BTreeMap<u64, Vec<Sighting>>,
    /// The highest fingerprint in the sample once the sample is full.
    limit: Option<u64>,
}

impl DuplicateSampler {
    /// Records a packet if it has a timestamp and its fingerprint belongs to the sample.
    pub fn see(&mut self, seen: &Observation) {
        // Most packets of a long capture take this early return.
        if seen.fingerprint == 0
            || self.limit.is_some_and(|limit| seen.fingerprint > limit)
            || !is_capture_time(seen.time)
        {
            return;
        }
        let time = seen.time;
        let interface = seen.interface;
        let sighting = Sighting { time, interface, link: seen.link.anywhere() };
        self.insert(seen.fingerprint, &[sighting]);
    }

    fn insert(&mut self, fingerprint: u64, sightings: &[Sighting]) {
        let kept = self.sightings.entry(fingerprint).or_default();
        // Most sightings of content that recurs very often take this early return.
        if let ([one], MAX_SIGHTINGS) = (sightings, kept.len()) {
            let rank = |sighting: &Sighting| rank(fingerprint, sighting.time);
            if kept.iter().all(|kept| rank(kept) < rank(one)) {
                return;
            }
        }
        kept.extend_from_slice(sightings);
        kept.sort_unstable();
        if kept.len() > MAX_SIGHTINGS {
            kept.sort_by_cached_key(|sighting| rank(fingerprint, sighting.time));
            kept.truncate(MAX_SIGHTINGS);
            kept.sort_unstable();
        }
        if self.sightings.len() > SAMPLE_SIZE {
            self.sightings.pop_last();
        }
        if self.sightings.len() == SAMPLE_SIZE {
            self.limit = self.sightings.last_key_value().map(|(fingerprint, _)| *fingerprint);
        }
    }

    /// Returns by how much the clocks of two captured links differ, in nanoseconds, accurate to
    /// about one second. This is the time between the two sightings of a packet. Returns `None` if
    /// that time is not about the same for many packets, or is less than a second.
    pub fn clock_offset(&self) -> Option<Nanos> {
        /// At least one in this many fingerprints must have a second sighting at the same distance
        /// in time.
        const SHARE: usize = 5;
        let mut distances: BTreeMap<Nanos, usize> = BTreeMap::new();
        for sightings in self.sightings.values().filter(|sightings| sightings.len() > 1) {
            // Content that recurs more than once is a heartbeat, so the time between its sightings
            // is only the heartbeat's interval.
            let times: Vec<Nanos> =
                group_by_packet(sightings, |s| s.time).map(|s| s[0].time).collect();
            if let [first, second] = times[..] {
                let distance = second.saturating_sub(first) / SECOND;
                *distances.entry(distance).or_default() += usize::from(distance > 0);
            }
        }
        let (count, distance) = most_frequent(&distances)?;
        let many = count >= FEW && count * SHARE >= self.sightings.len();
        many.then_some((distance + 1) * SECOND)
    }

    /// Returns how often captures of at most `places` places show the same packet, although their
    /// clocks differ, even by a fraction of a second. Returns 1 if the time between the sightings
    /// of a packet is not about the same for several packets. Anyone can send the same content
    /// several times, so the result supports only doubts.
    pub fn late_copies(&self, places: usize) -> usize {
        /// The precision of the time between two sightings, in nanoseconds.
        const PRECISION: Nanos = SECOND / 8;
        let mut distances = vec![BTreeMap::<Nanos, usize>::new(); places.min(MAX_SIGHTINGS - 1)];
        for sightings in self.sightings.values().filter(|sightings| sightings.len() > 1) {
            let packets: Vec<_> = group_by_packet(sightings, |sighting| sighting.time).collect();
            let Some(counts) = distances.get_mut(packets.len() - 1) else { continue };
            let last = packets[packets.len() - 1][0].time;
            let distance = last.saturating_sub(packets[0][0].time) / PRECISION;
            *counts.entry(distance).or_default() += 1;
        }
        let is_regular = |counts: &BTreeMap<Nanos, usize>| {
            most_frequent(counts).is_some_and(|(count, _)| count >= FEW)
        };
        (1..distances.len()).rev().find(|number| is_regular(&distances[*number])).unwrap_or(0) + 1
    }

    /// Returns the number of duplicates of each kind in the sample. The sightings that were not
    /// kept count, too, as an estimate.
    pub fn counts(&self) -> DuplicateCounts {
        let mut counts = DuplicateCounts::default();
        for (fingerprint, sightings) in &self.sightings {
            let weight = weight(*fingerprint, sightings);
            counts.sampled += weight * sightings.len() as u64;
            for packet in group_by_packet(sightings, |sighting| sighting.time) {
                for (number, duplicate) in packet.iter().enumerate().skip(1) {
                    // The most similar earlier sighting determines the kind of the duplicate.
                    let before = packet[..number].iter();
                    *match before
                        .map(|earlier| duplicate.difference(earlier))
                        .min()
                        .unwrap_or_default()
                    {
                        0 => &mut counts.same,
                        1 => &mut counts.interfaces,
                        2 => &mut counts.hops,
                        _ => &mut counts.vlans,
                    } += weight;
                }
            }
        }
        counts
    }
}

impl Merge for DuplicateSampler {
    fn merge(&mut self, other: &Self) {
        for (fingerprint, sightings) in &other.sightings {
            if self.limit.is_none_or(|limit| *fingerprint <= limit) {
                self.insert(*fingerprint, sightings);
            }
        }
    }
}

/// The sample has a fixed maximum size, so it need not be trimmed.
impl EvidenceKind for DuplicateSampler {
    fn merge(&mut self, other: Self) {
        if self.sightings.is_empty() { *self = other } else { Merge::merge(self, &other) }
    }

    fn is_empty(&self) -> bool {
        self.sightings.is_empty()
    }

    fn memory(&self) -> usize {
        0
    }

    fn canonical(self) -> Self {
        let mut canonical = Self::default();
        Merge::merge(&mut canonical, &self);
        canonical
    }
}

/// A side of a flow, with the flow as a hash with the seed of this run. The path is kept apart,
/// because flows on different paths become one if a mirror is trusted.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
)]
pub(super) struct FlowSide {
    /// The hash of the flow on the plain path.
    flow: u64,
    pub path: Path,
    side: u8,
}

impl FlowSide {
    pub fn of(seed: &HashSeed, flow: &FlowKey, side: usize) -> Self {
        Self { flow: seed.hash_one(flow.plain()), path: flow.path(), side: side as u8 }
    }

    /// Returns both sides of a flow, which is hashed only once.
    pub fn both(seed: &HashSeed, flow: &FlowKey) -> [Self; 2] {
        let first = Self::of(seed, flow, 0);
        [first, Self { side: 1, ..first }]
    }
}

/// The record that is kept of a packet to find duplicates. After sorting, the sightings of a packet
/// are adjacent, in the order of encapsulation and time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct PacketRecord {
    pub fingerprint: u64,
    /// The side that sent the packet.
    pub sender: FlowSide,
    /// The encapsulation, as a hash with the seed of this run.
    link: u64,
    time: Nanos,
    wire_len: u32,
    payload: u32,
}

impl PacketRecord {
    /// Returns the record of a packet, or `None` if the packet has no fingerprint or no timestamp.
    pub fn new(
        seed: &HashSeed,
        sender: FlowSide,
        seen: &Observation,
        payload: u32,
    ) -> Option<Self> {
        let &Observation { fingerprint, time, wire_len, .. } = seen;
        let link = seed.hash_one(seen.link.anywhere());
        let known = fingerprint != 0 && is_capture_time(time);
        known.then_some(Self { fingerprint, link, time, sender, wire_len, payload })
    }
}

impl PacketRecord {
    /// Returns the same record with another encapsulation. Unlike in [`PacketRecord::new`], the
    /// interface is part of its hash.
    pub fn with_link(self, seed: &HashSeed, link: &Encapsulation) -> Self {
        Self { link: seed.hash_one(link), ..self }
    }
}

/// The records of all packets. No record may be dropped, so they are not bounded.
impl EvidenceKind for Vec<PacketRecord> {
    fn merge(&mut self, other: Self) {
        self.extend(other);
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    fn memory(&self) -> usize {
        self.capacity() * size_of::<PacketRecord>()
    }

    /// Returns no rows, because the records depend on the hash seed of the run.
    fn into_rows(self) -> Vec<(u16, Vec<u8>, Self)> {
        Vec::new()
    }

    /// Puts all records with the same fingerprint into the same partition. The records of a large
    /// flow are therefore spread over all partitions.
    fn split(self, seed: &HashSeed) -> Vec<Self> {
        let mut parts = empty_parts::<Self>();
        for trace in self {
            parts[partition(seed.hash_one(trace.fingerprint))].push(trace);
        }
        parts
    }
}

/// Whether packets were captured on links with different clocks, as
/// [`DuplicateSampler::clock_offset`] shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkClocks {
    /// All clocks agree within [`CLOCK_ERROR`].
    Agree,
    /// Clocks differ, by an amount that is not known for each link.
    Differ,
}

/// The difference of two clocks, in nanoseconds, up to which they count as equal.
const CLOCK_ERROR: Nanos = SECOND;

/// The numbers of duplicate packets and bytes to subtract, by flow and side.
#[derive(Default)]
pub(super) struct DuplicateCorrection(HashMap<FlowSide, Amount, HashSeed>);

impl DuplicateCorrection {
    /// Finds the duplicates among packets. The input must contain all packets with the same
    /// fingerprint.
    ///
    /// Sightings of a fingerprint in one encapsulation within a millisecond are one packet. If a
    /// fingerprint was seen in several encapsulations, the encapsulation with the most packets
    /// counts. The others are further points on the path of the same packets.
    ///
    /// This is different if the same content recurs and all clocks agree: packets in another
    /// encapsulation are the same ones only if they were seen at about the same time. A flow may
    /// have moved to the other encapsulation, for example after a failover.
    pub fn find(&mut self, traces: &mut [PacketRecord], clocks: LinkClocks) {
        traces.sort_unstable();
        let of_one = |a: &PacketRecord, b: &PacketRecord| {
            (a.fingerprint, a.sender) == (b.fingerprint, b.sender)
        };
        for sightings in traces.chunk_by(of_one) {
            if sightings.len() == 1 {
                continue;
            }
            let mut all = amount_of(sightings);
            let has_one_link = sightings[0].link == sightings[sightings.len() - 1].link;
            let may_have_moved = !has_one_link && sightings.len() > 2;
            let counted = if may_have_moved && clocks == LinkClocks::Agree {
                amount_by_time(sightings)
            } else {
                amount_of_busiest_link(sightings)
            };
            all.subtract(&counted);
            self.add(sightings[0].sender, &all);
        }
    }

    /// Adds an amount to subtract from a side of a flow.
    pub fn add(&mut self, sender: FlowSide, amount: &Amount) {
        if amount.packets.0 > 0 {
            self.0.entry(sender).or_default().merge(amount);
        }
    }

    /// Returns whether there is nothing to subtract.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the amount to subtract from a side of a flow; `None` if the side has no duplicates.
    pub fn of(&self, sender: FlowSide) -> Option<&Amount> {
        self.0.get(&sender)
    }

    /// Returns the amounts to subtract from the sides of a flow; `None` if it has no duplicates.
    pub fn of_flow(&self, seed: &HashSeed, flow: &FlowKey) -> Option<CopiedAmounts> {
        if self.0.is_empty() {
            return None;
        }
        let amounts = FlowSide::both(seed, flow).map(|side| self.of(side).copied());
        let has_any = amounts.iter().any(Option::is_some);
        has_any.then(|| CopiedAmounts(amounts.map(Option::unwrap_or_default)))
    }

    /// Returns what is to be subtracted in addition to `known`, which was found for each path
    /// separately, once all flows on `plain` paths are on [`Path::PLAIN`].
    pub fn beyond(mut self, known: &Self, plain: &BTreeSet<Path>) -> Self {
        self.0.retain(|sender, _| sender.path == Path::PLAIN);
        for (sender, amount) in &known.0 {
            if (sender.path == Path::PLAIN || plain.contains(&sender.path))
                && let Some(all) = self.0.get_mut(&FlowSide { path: Path::PLAIN, ..*sender })
            {
                all.subtract(amount);
            }
        }
        self.0.retain(|_, amount| amount.packets.0 > 0);
        self
    }
}

impl PacketRecord {
    fn amount(&self) -> Amount {
        Amount {
            packets: Sum(1),
            bytes: Sum(u64::from(self.wire_len)),
            payload: Sum(u64::from(self.payload)),
        }
    }
}

/// Returns the amount of the packets in the encapsulation that has the most. `sightings` are those
/// of one fingerprint, sorted.
fn amount_of_busiest_link(sightings: &[PacketRecord]) -> Amount {
    let mut most = Amount::default();
    for link in sightings.chunk_by(|a, b| a.link == b.link) {
        let mut here = Amount::default();
        group_by_packet(link, |t| t.time).for_each(|packet| here.merge(&packet[0].amount()));
        most = most.max(here);
    }
    most
}

/// Returns the amount of the packets in all encapsulations, each counted once. `sightings` are
/// those of one fingerprint, sorted.
fn amount_by_time(sightings: &[PacketRecord]) -> Amount {
    let by_link = sightings.chunk_by(|a, b| a.link == b.link);
    let mut links: Vec<Vec<PacketRecord>> = by_link
        .map(|link| group_by_packet(link, |t| t.time).map(|packet| packet[0]).collect())
        .collect();
    // The order of the hashes of the encapsulations differs from run to run, so the links are
    // sorted by amount and times.
    links.sort_by_cached_key(|link| {
        let times: Vec<(Nanos, u32)> = link.iter().map(|t| (t.time, t.wire_len)).collect();
        (Reverse(amount_of(link)), times)
    });
    let mut packets = std::mem::take(&mut links[0]);
    // Content that does not recur is the same packet, whenever it was seen.
    let recurs = packets.len() > 1;
    for link in links[1..].iter().filter(|_| recurs) {
        let others = without_known(link, &packets);
        if !others.is_empty() {
            packets.extend(others);
            packets.sort_unstable_by_key(|packet| packet.time);
        }
    }
    amount_of(&packets)
}

/// Returns the amount of packets.
fn amount_of(packets: &[PacketRecord]) -> Amount {
    let mut amount = Amount::default();
    packets.iter().for_each(|packet| amount.merge(&packet.amount()));
    amount
}

/// Returns the packets of a link that are not further sightings of `known` packets, which were seen
/// at most [`CLOCK_ERROR`] earlier or later. Each known packet has at most one sighting on the
/// link. Both lists are sorted by time.
fn without_known(link: &[PacketRecord], known: &[PacketRecord]) -> Vec<PacketRecord> {
    let mut known = known.iter().peekable();
    let is_other = |packet: &&PacketRecord| {
        let earliest = packet.time.saturating_sub(CLOCK_ERROR);
        while known.next_if(|known| known.time < earliest).is_some() {}
        let latest = packet.time.saturating_add(CLOCK_ERROR);
        known.next_if(|known| known.time <= latest).is_none()
    };
    link.iter().filter(is_other).copied().collect()
}

/// Groups sightings, which are sorted by time, into packets: no sighting is more than
/// [`MAX_DISTANCE`] after the first of its group.
fn group_by_packet<T>(
    mut sightings: &[T],
    time: impl Fn(&T) -> Nanos,
) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let first = time(sightings.first()?);
        let end = sightings.partition_point(|s| time(s).saturating_sub(first) <= MAX_DISTANCE);
        let (packet, others) = sightings.split_at(end);
        sightings = others;
        Some(packet)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(fingerprint: u64, link: u64, time: Nanos) -> PacketRecord {
        let sender = FlowSide::default();
        PacketRecord { fingerprint, link, time, sender, wire_len: 60, payload: 7 }
    }

    fn removed(mut traces: Vec<PacketRecord>) -> u64 {
        let mut removals = DuplicateCorrection::default();
        removals.find(&mut traces, LinkClocks::Agree);
        removals.of(FlowSide::default()).map_or(0, |amount| amount.packets.0)
    }

    const MILLISECOND: Nanos = 1_000_000;

    #[test]
    fn copies_are_near_in_time_and_retransmissions_are_none() {
        // A packet, its duplicate at the time limit, and the same content again just beyond the
        // limit.
        let near = [0, MILLISECOND, MILLISECOND + 1].map(|time| trace(1, 5, time));
        assert_eq!(removed(near.to_vec()), 1);
        let retransmission = [0, 200 * MILLISECOND].map(|time| trace(2, 5, time));
        assert_eq!(removed(retransmission.to_vec()), 0);
    }

    #[test]
    fn a_packet_at_several_places_counts_once_and_a_flow_that_moved_whole() {
        // A heartbeat whose content is always the same, seen on both sides of a slow router.
        let behind =
            [(5, 0), (6, 3 * MILLISECOND), (5, 9000 * MILLISECOND), (6, 9003 * MILLISECOND)];
        assert_eq!(removed(behind.map(|(link, time)| trace(1, link, time)).to_vec()), 2);
        let moved = (0..10).map(|n| trace(n + 1, u64::from(n > 4), n as Nanos * MILLISECOND));
        assert_eq!(removed(moved.collect()), 0);
    }

    #[test]
    fn recurring_packets_that_move_to_another_link_are_no_copies() {
        let second = |n: Nanos| n * 1000 * MILLISECOND;
        // A heartbeat every ten seconds, before and after a failover, and at two points of the new
        // path.
        let before = (0..30).map(|n| trace(1, 5, second(10 * n)));
        let after = (30..60).map(|n| trace(1, 6, second(10 * n)));
        let routed = (40..60).map(|n| trace(1, 7, second(10 * n) + MILLISECOND));
        assert_eq!(removed(before.clone().chain(after.clone()).collect()), 0);
        assert_eq!(removed(before.clone().chain(after).chain(routed).collect()), 20);
        // A second link whose clock is 25 s ahead.
        let ahead = (0..30).map(|n| trace(1, 6, second(10 * n + 25)));
        let mut removals = DuplicateCorrection::default();
        removals.find(&mut before.chain(ahead).collect::<Vec<_>>(), LinkClocks::Differ);
        assert_eq!(removals.of(FlowSide::default()).map(|amount| amount.packets.0), Some(30));
    }

    #[test]
    fn what_has_no_content_or_time_leaves_no_trace() {
        let seen = Observation { time: 5, fingerprint: 5, ..Observation::default() };
        let trace = |seen| PacketRecord::new(&HashSeed::new(), FlowSide::default(), &seen, 0);
        assert!(trace(seen).is_some());
        assert!(trace(Observation { fingerprint: 0, ..seen }).is_none());
        for time in [crate::model::NO_TIME, 0] {
            assert!(trace(Observation { time, ..seen }).is_none());
        }
    }

    #[test]
    fn content_that_recurs_often_counts_as_often_as_it_was_seen() {
        // A heartbeat every second, and as many other packets. Of each of the two kinds, either all
        // packets or none were captured twice.
        let share = |copies: u64, other_copies: u64| {
            let mut sample = DuplicateSampler::default();
            let mut see = |fingerprint, time, copies| {
                for copy in 0..copies {
                    let time = time + copy as Nanos;
                    sample.see(&Observation { fingerprint, time, ..Default::default() });
                }
            };
            for second in 0..3000 {
                see(7, second * SECOND, copies);
                see((1000 + second as u64) << 40, second * SECOND, other_copies);
            }
            let counts = sample.counts();
            counts.share(counts.total())
        };
        assert!(share(2, 2) > 0.48 && share(1, 1) == 0.0);
        // A third of all frames are duplicates. The error of the estimate is about one fifth.
        assert!((0.2..0.45).contains(&share(2, 1)), "{}", share(2, 1));
        assert!((0.2..0.45).contains(&share(1, 2)), "{}", share(1, 2));
    }

    #[test]
    fn a_packet_has_as_many_late_copies_as_places_saw_it() {
        let at_places = |common: u64, places: i64, offset: Nanos| {
            let mut sample = DuplicateSampler::default();
            for number in 0..100 {
                for place in 0..if number < common { places } else { 1 } {
                    let time = number as Nanos * 3 * SECOND + place * offset + 1;
                    let fingerprint = number + 1;
                    sample.see(&Observation { fingerprint, time, ..Default::default() });
                }
            }
            sample
        };
        for offset in [2 * MILLISECOND, 300 * MILLISECOND, 5 * SECOND] {
            assert_eq!(at_places(10, 3, offset).late_copies(4), 3);
            assert_eq!(at_places(10, 2, offset).late_copies(4), 2);
            // There are no more copies than places.
            assert_eq!(at_places(10, 3, offset).late_copies(2), 1);
            assert_eq!(at_places(10, 2, offset).late_copies(1), 1);
            assert_eq!(at_places(10, 2, offset).late_copies(0), 1);
        }
        assert_eq!(at_places(FEW as u64 - 1, 2, SECOND).late_copies(4), 1);
        // Copies within a millisecond are recognized as such.
        assert_eq!(at_places(50, 2, MILLISECOND / 2).late_copies(4), 1);
    }

    #[test]
    fn a_sample_of_recurring_content_does_not_depend_on_which_worker_saw_what() {
        let mut whole = DuplicateSampler::default();
        let mut parts: [DuplicateSampler; 3] = Default::default();
        for number in 0..900 {
            let time = number * SECOND / 7;
            let seen = Observation { fingerprint: 7, time, ..Default::default() };
            whole.see(&seen);
            parts[number as usize % 5 % 3].see(&seen);
        }
        let [mut a, b, c] = parts;
        Merge::merge(&mut a, &c);
        Merge::merge(&mut a, &b);
        assert_eq!(whole.sightings, a.sightings);
    }

    #[test]
    fn a_sample_does_not_depend_on_which_worker_saw_what() {
        let see = |sample: &mut DuplicateSampler, number: u64| {
            let fingerprint = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let time = number as Nanos;
            for copy in 0..1 + number % 2 {
                sample.see(&Observation {
                    fingerprint,
                    time: time + copy as i64,
                    ..Default::default()
                });
            }
        };
        let mut whole = DuplicateSampler::default();
        let mut parts: [DuplicateSampler; 3] = Default::default();
        for number in 0..40_000 {
            see(&mut whole, number);
            see(&mut parts[number as usize % 7 % 3], number);
        }
        let [a, mut b, c] = parts;
        Merge::merge(&mut b, &c);
        Merge::merge(&mut b, &a);
        assert_eq!(whole.sightings, b.sightings);
        assert_eq!(whole.sightings.len(), SAMPLE_SIZE);
        // Every second packet was seen twice, so a third of the frames are duplicates.
        let counts = whole.counts();
        assert!((counts.share(counts.same) - 1.0 / 3.0).abs() < 0.02, "{counts:?}");
        assert_eq!(counts.total(), counts.same);
    }
}
