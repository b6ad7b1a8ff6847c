//! Flow tables, which consist of a compact index and dense records.
//!
//! Evidence that only a few flows have is in separate maps.

use std::collections::HashSet;

use super::chunked_vec::ChunkedVec;
use super::duplicates::{DuplicateCorrection, FlowSide, PacketRecord};
use super::index::Index;
use super::interner::{InternerCache, MANY_LINKS, NO_LINK};
use super::key::{PARTITIONS, partition};
use super::packed::{CountedPacket, FlowEntry, PackedFlows};
use super::records::FlowRecord;
use super::server_names::{SegmentDelay, SegmentRelease};
use super::sparse::SparseValues;
use super::state::{DirectionStats, IcmpError, Opening, OpeningKind, QuotedPackets, RareEvidence};
use super::{FlowKey, HashSeed, ServerNameEvidence};
use crate::decode::{Body, Encapsulation, Observation, Path, flag};
use crate::model::{BoundedSet, DoubtedTimes, FlagSet, Merge, Nanos, Sum};
use crate::payload::{ServerNameRequest, StreamPrefix};

/// The number of packets that are looked up together, and of flows that are merged together. It is
/// high enough for their cache misses to overlap, and low enough for them to stay in the
/// first-level cache.
pub const LOOKUP_BATCH: usize = 32;

/// The flows of one partition.
#[derive(Default)]
pub(super) struct FlowTable {
    index: Index,
    records: FlowEntries,
}

/// The content of a table without its index.
#[derive(Default)]
struct FlowEntries {
    flows: PackedFlows,
    /// The rare evidence of flows. The key is the position of the flow.
    extras: SparseValues<RareEvidence>,
    /// The server name evidence of flows. The key is the position of the flow.
    server_names: SparseValues<ServerNameEvidence>,
}

/// A flow that was removed from its table, with all its evidence.
pub(super) struct DetachedFlow {
    record: FlowEntry,
    extra: Option<RareEvidence>,
    server_names: Option<ServerNameEvidence>,
}

impl DetachedFlow {
    /// Returns the partition that the flow belongs to.
    pub fn partition(&self, seed: &HashSeed) -> usize {
        partition(self.record.key.hashes(seed).0)
    }

    /// Returns the same flow with another key. Side `first` of this flow becomes side 0.
    fn with_sides_swapped(mut self, key: FlowKey, first: usize) -> Self {
        self.record.key = key;
        if first == 1 {
            self.record.state.sides.swap(0, 1);
            self.record.cut.swap(0, 1);
            if let Some(extra) = &mut self.extra {
                extra.swap_sides();
            }
            if let Some(server_names) = &mut self.server_names {
                server_names.swap_sides();
            }
        }
        self
    }
}

/// The result of splitting a table: the flows that are kept, and those that are replaced by coarser
/// flows.
pub(super) struct AggregationResult {
    pub kept: FlowTable,
    pub moved: Vec<DetachedFlow>,
}

/// The position of a packet's flow in a worker's tables, and the side that sent the packet.
#[derive(Clone, Copy, Default)]
pub(super) struct FlowSlot {
    partition: u32,
    position: u32,
    pub side: u8,
}

/// A flow in its table.
#[derive(Clone, Copy)]
pub struct Flow<'a> {
    /// The identity of the flow.
    pub key: FlowKey,
    /// What each side sent.
    pub sides: [DirectionStats; 2],
    /// The rare evidence of the flow.
    pub extra: Option<&'a RareEvidence>,
    /// The evidence of server names in the flow.
    pub server_names: Option<&'a ServerNameEvidence>,
    /// The number of truncated packets from each side.
    pub cut: [u64; 2],
    /// Whether times were removed because the timestamps of some frames are doubted.
    pub lacks_times: bool,
    links: &'a [Encapsulation],
}

impl<'a> Flow<'a> {
    /// Removes the times of frames whose timestamps are doubted.
    pub fn remove_times(&mut self, doubted: &DoubtedTimes) {
        for side in &mut self.sides {
            self.lacks_times |= doubted.remove_from(&mut side.first, &mut side.last);
        }
    }

    /// Returns the encapsulations of a side's packets, in ascending order.
    pub fn links(&self, side: usize) -> std::slice::Iter<'a, Encapsulation> {
        match self.sides[side].link {
            MANY_LINKS => self.extra.map(|extra| extra.links[side].iter()).unwrap_or_default(),
            number => {
                let single = self.links.get(usize::from(number).wrapping_sub(1));
                single.map_or(&[][..], std::slice::from_ref).iter()
            }
        }
    }

    /// Returns the initial sequence numbers from a side's SYNs, and the sequence numbers of
    /// segments whose flags are hidden by fragmentation. If there are more than four, the lowest
    /// are kept.
    pub fn syns(&self, side: usize) -> impl Iterator<Item = Opening> + use<'a> {
        self.openings(side, OpeningKind::Syn)
    }

    /// Returns whether a side may have sent a SYN with this initial sequence number that was not
    /// kept, because the side sent more SYNs than are kept and the number is higher than theirs.
    pub fn may_have_sent_syn(&self, side: usize, number: u32) -> bool {
        let kept = self.extra.map(|extra| extra.openings[side].of_kind(OpeningKind::Syn));
        kept.is_some_and(|kept| kept.more() && kept.iter().all(|syn| syn.number < number))
    }

    /// Returns the initial sequence numbers from a side's SYN-ACKs. If there are more than four,
    /// the pairs with the lowest client number are kept.
    pub fn syn_acks(&self, side: usize) -> impl Iterator<Item = Opening> + use<'a> {
        self.openings(side, OpeningKind::SynAck)
    }

    /// Returns a copy of the flow as a record, which does not depend on the table.
    pub fn record(&self) -> FlowRecord {
        let mut record = FlowRecord::new(self.key);
        for (number, (into, side)) in record.sides.iter_mut().zip(&self.sides).enumerate() {
            (into.sent, into.first, into.last) = (side.sent, side.first, side.last);
            (into.acked, into.syn_count) = (side.acked, side.syns);
            into.cut = Sum(self.cut[number]);
            // In a record, the number of `Opening`s shows whether there are several, so the flag is
            // omitted.
            into.flags = FlagSet(side.flags.0 & !flag::SEVERAL);
            if let Some(opening) = side.single_opening() {
                match OpeningKind::of(side.flags.0) {
                    OpeningKind::Syn => into.syns.insert(opening),
                    OpeningKind::SynAck => into.syn_acks.insert(opening),
                }
            } else if let Some(extra) = self.extra {
                let openings = &extra.openings[number];
                into.syns.clone_from(openings.of_kind(OpeningKind::Syn));
                into.syn_acks.clone_from(openings.of_kind(OpeningKind::SynAck));
            }
            match (side.link, self.extra) {
                (MANY_LINKS, Some(extra)) => into.links.clone_from(&extra.links[number]),
                _ => self.links(number).for_each(|link| into.links.insert(*link)),
            }
            if let Some(server_names) = self.server_names {
                into.requests.clone_from(&server_names.requests[number]);
                into.prefix.clone_from(&server_names.prefixes[number]);
            }
        }
        if let Some(extra) = self.extra {
            record.errors.clone_from(&extra.errors);
            (record.error_first, record.error_last) = (extra.error_first, extra.error_last);
            (record.error_count, record.aggregated) = (extra.error_count, extra.aggregated);
        }
        record
    }

    /// Returns the times of the latest requests of a side that does not use TCP, latest first, each
    /// as the start of its second. If there are requests in more than four seconds, the latest four
    /// are kept.
    pub fn requests(&self, side: usize) -> impl Iterator<Item = Nanos> + use<'a> {
        let is_there = !self.sides[side].has(flag::OPENS);
        let all = self.kept_openings(side, OpeningKind::Syn).filter(move |_| is_there);
        all.map(Opening::request_time)
    }

    fn openings(&self, side: usize, kind: OpeningKind) -> impl Iterator<Item = Opening> + use<'a> {
        let is_there = self.sides[side].has(kind.flags());
        self.kept_openings(side, kind).filter(move |_| is_there)
    }

    fn kept_openings(
        &self,
        side: usize,
        kind: OpeningKind,
    ) -> impl Iterator<Item = Opening> + use<'a> {
        let single = self.sides[side].single_opening();
        let kept = self.extra.filter(|_| single.is_none());
        let several = kept.map(|extra| extra.openings[side].of_kind(kind).iter());
        single.into_iter().chain(several.into_iter().flatten().copied())
    }
}

impl FlowTable {
    /// Returns the number of flows.
    pub fn len(&self) -> usize {
        self.records.flows.len()
    }

    /// Returns whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.records.flows.is_empty()
    }

    /// Returns the approximate number of bytes of memory that the table takes.
    pub fn memory(&self) -> usize {
        let FlowEntries { flows, extras, server_names } = &self.records;
        flows.memory() + self.index.memory() + extras.memory() + server_names.memory()
    }

    /// Returns the flows in unspecified order. `links` contains all encapsulations of the run.
    pub fn iter<'a>(&'a self, links: &'a [Encapsulation]) -> impl Iterator<Item = Flow<'a>> {
        let records = &self.records;
        records.flows.iter().enumerate().map(move |(position, flow)| {
            // Both maps are nearly always empty, in which case the lookups are skipped.
            let extra = (!records.extras.is_empty()).then(|| records.extras.get(position));
            let server_names =
                (!records.server_names.is_empty()).then(|| records.server_names.get(position));
            Flow {
                key: flow.key,
                sides: flow.state.sides,
                extra: extra.flatten(),
                server_names: server_names.flatten(),
                cut: flow.cut,
                lacks_times: false,
                links,
            }
        })
    }

    fn update_server_names(
        &mut self,
        position: usize,
        change: impl FnOnce(&mut ServerNameEvidence),
    ) {
        let is_empty = self.records.server_names.update(position, |server_names| {
            change(server_names);
            *server_names == ServerNameEvidence::default()
        });
        if is_empty {
            self.records.server_names.remove(position);
        }
    }

    /// Subtracts duplicates from the amounts. It must be called only once per table. Returns the
    /// number of packets removed.
    pub fn remove_duplicates(&mut self, correction: &DuplicateCorrection, seed: &HashSeed) -> u64 {
        let mut removed = 0;
        for position in 0..self.len() {
            let key = self.records.flows.key(position);
            for (number, sender) in FlowSide::both(seed, &key).into_iter().enumerate() {
                let Some(amount) = correction.of(sender) else { continue };
                self.records.flows.update(position, |flow| {
                    let sent = &mut flow.state.sides[number].sent;
                    let before = sent.packets.0;
                    removed += sent.subtract(amount);
                    // Which of the copies were truncated is not known, so the share of truncated
                    // packets stays the same.
                    let share = u128::from(flow.cut[number]) * u128::from(sent.packets.0);
                    flow.cut[number] = (share / u128::from(before.max(1))) as u64;
                });
            }
        }
        removed
    }

    /// Returns the position of a flow, after adding the flow if it is new. `side` is the side that
    /// is needed next.
    fn position(&mut self, key: &FlowKey, hash: u64, side: usize) -> usize {
        let flows = &self.records.flows;
        let mut is_new = false;
        let new = || {
            is_new = true;
            flows.len()
        };
        let position = self.index.find_or_insert(hash, new, |at| flows.is(at, side, key));
        if is_new {
            self.records.flows.push_empty(key);
        }
        position
    }

    fn add_link(
        &mut self,
        position: usize,
        side: usize,
        number: Option<u16>,
        link: &Encapsulation,
        links: &InternerCache,
    ) {
        let record = self.records.flows.side_mut(position, side);
        match (record.link, number) {
            (NO_LINK, Some(number)) => record.link = number,
            (old, Some(number)) if old == number => {}
            (old, _) => {
                record.link = MANY_LINKS;
                self.records.extras.update(position, |extra| {
                    if let Some(old) = links.get(old) {
                        extra.links[side].insert(*old);
                    }
                    extra.links[side].insert(*link);
                });
            }
        }
    }

    /// Records the time of a request that is not sent over TCP.
    fn add_request(&mut self, position: usize, side: usize, time: Nanos) {
        if let Some(request) = Opening::of_request(time) {
            self.add_opening(position, side, OpeningKind::Syn, request);
        }
    }

    /// Records initial sequence numbers. It must be called before the flags of the packet are
    /// recorded, because they show whether the side already has such numbers.
    fn add_opening(&mut self, position: usize, side: usize, kind: OpeningKind, opening: Opening) {
        let record = self.records.flows.side_mut(position, side);
        let single = record.single_opening();
        if single.is_none() && !record.has(flag::SEVERAL) {
            record.opening = opening;
            return;
        }
        let single_kind = OpeningKind::of(record.flags.0);
        if single == Some(opening) && single_kind == kind {
            return;
        }
        record.flags.0 |= flag::SEVERAL;
        record.opening = Opening::default();
        self.records.extras.update(position, |extra| {
            if let Some(single) = single {
                extra.openings[side].insert(single_kind, single);
            }
            extra.openings[side].insert(kind, opening);
        });
    }

    /// Merges the single `Opening` that another table has for a side. If the other table has
    /// several, moves the single `Opening` of this side to the rare evidence, where they will be
    /// merged.
    fn merge_openings(&mut self, position: usize, side: usize, theirs: &DirectionStats) {
        if let Some(opening) = theirs.single_opening() {
            self.add_opening(position, side, OpeningKind::of(theirs.flags.0), opening);
        } else if theirs.has(flag::SEVERAL) {
            let mine = self.records.flows.side_mut(position, side);
            let single = mine.single_opening();
            let kind = OpeningKind::of(mine.flags.0);
            mine.opening = Opening::default();
            if let Some(single) = single {
                let extras = &mut self.records.extras;
                extras.update(position, |extra| extra.openings[side].insert(kind, single));
            }
        }
    }

    /// Merges all flows of `other`. Both tables must use the numbers of the same interner.
    pub fn merge(&mut self, other: Self, seed: &HashSeed, links: &mut InternerCache) {
        if self.is_empty() { *self = other } else { self.merge_all(&other, seed, links) }
    }

    /// Merges all flows of `other`, as [`FlowTable::merge`] does, but leaves `other` unchanged.
    pub fn merge_all(&mut self, other: &Self, seed: &HashSeed, links: &mut InternerCache) {
        let mut theirs = other.records.flows.iter().enumerate();
        let mut chunk = Vec::with_capacity(LOOKUP_BATCH);
        loop {
            chunk.clear();
            for (from, flow) in theirs.by_ref().take(LOOKUP_BATCH) {
                let hash = flow.key.hashes(seed).1;
                self.index.prefetch(hash);
                chunk.push((from as u32, hash, flow));
            }
            if chunk.is_empty() {
                return;
            }
            for (_, hash, _) in &chunk {
                let guess = self.index.guess(*hash);
                (0..2).for_each(|side| self.records.flows.prefetch(guess, side));
            }
            for (from, hash, theirs) in &chunk {
                self.merge_flow(*hash, theirs, links);
                if !(other.records.extras.is_empty() && other.records.server_names.is_empty()) {
                    self.merge_rare(*hash, theirs, &other.records, *from, links);
                }
            }
        }
    }

    fn merge_flow(&mut self, hash: u64, theirs: &FlowEntry, links: &InternerCache) {
        let position = self.position(&theirs.key, hash, 0);
        for (side, theirs) in theirs.state.sides.iter().enumerate() {
            // The sequence numbers are merged before the flags, because the flags show whether a
            // side already has none, one or several.
            self.merge_openings(position, side, theirs);
        }
        self.records.flows.update(position, |mine| {
            let sides = mine.state.sides.iter_mut().zip(&theirs.state.sides);
            sides.for_each(|(mine, theirs)| mine.merge(theirs));
            let cut = mine.cut.iter_mut().zip(theirs.cut);
            cut.for_each(|(mine, theirs)| *mine = mine.saturating_add(theirs));
        });
        for (side, theirs) in theirs.state.sides.iter().enumerate() {
            let mine = self.records.flows.side(position, side).link;
            if theirs.link != NO_LINK
                && mine != theirs.link
                && let Some(link) = links.get(theirs.link)
            {
                self.add_link(position, side, Some(theirs.link), link, links);
            }
        }
    }

    /// Merges the rare evidence and the server name evidence of the flow at position `from` in
    /// another table.
    fn merge_rare(
        &mut self,
        hash: u64,
        flow: &FlowEntry,
        theirs: &FlowEntries,
        from: u32,
        links: &mut InternerCache,
    ) {
        let extra = theirs.extras.get(from as usize);
        let server_names = theirs.server_names.get(from as usize);
        if extra.is_none() && server_names.is_none() {
            return;
        }
        let position = self.position(&flow.key, hash, 0);
        if let Some(extra) = extra {
            self.merge_extra(position, extra, links);
        }
        if let Some(theirs) = server_names {
            self.update_server_names(position, |server_names| server_names.merge(theirs));
        }
    }

    fn merge_extra(&mut self, position: usize, theirs: &RareEvidence, links: &mut InternerCache) {
        for (side, many) in theirs.links.iter().enumerate() {
            for link in many.iter() {
                let number = links.number(link);
                self.add_link(position, side, number, link, links);
            }
        }
        let without_links = RareEvidence {
            links: [BoundedSet::default(), BoundedSet::default()],
            ..theirs.clone()
        };
        let ends = self.records.flows.key(position).addresses();
        self.records.extras.update(position, |mine| {
            mine.merge(ends, &without_links);
            // If a set overflowed in the other table, it must count as overflowed in this table,
            // too.
            for (mine, links) in mine.links.iter_mut().zip(&theirs.links) {
                if links.more() {
                    mine.merge(links);
                }
            }
        });
    }

    /// Merges a flow record into the table.
    fn take_record(&mut self, record: &FlowRecord, hash: u64, links: &mut InternerCache) {
        let position = self.position(&record.key, hash, 0);
        for (number, side) in record.sides.iter().enumerate() {
            // The sequence numbers are merged before the flags, because the flags show whether a
            // side already has none, one or several.
            for (kind, openings) in
                [(OpeningKind::Syn, &side.syns), (OpeningKind::SynAck, &side.syn_acks)]
            {
                for opening in openings.iter() {
                    self.add_opening(position, number, kind, *opening);
                    let sent = match (kind, side.flags.0 & OpeningKind::Syn.flags()) {
                        (OpeningKind::SynAck, _) => flag::SYN_ACK,
                        (OpeningKind::Syn, 0) if side.flags.has(flag::ASKS) => flag::ASKS,
                        (OpeningKind::Syn, 0) => flag::SYN,
                        (OpeningKind::Syn, sent) => sent,
                    };
                    self.records.flows.side_mut(position, number).flags.0 |= sent;
                }
                if openings.more() {
                    self.records.extras.update(position, |extra| {
                        extra.openings[number].merge_kind(kind, openings);
                    });
                }
            }
            self.records.flows.update(position, |flow| {
                let mine = &mut flow.state.sides[number];
                mine.sent.merge(&side.sent);
                mine.first.merge(&side.first);
                mine.last.merge(&side.last);
                mine.acked.merge(&side.acked);
                mine.syns.merge(&side.syn_count);
                mine.flags.merge(&side.flags);
                flow.cut[number] = flow.cut[number].saturating_add(side.cut.0);
            });
            for link in side.links.iter() {
                let link_number = links.number(link);
                self.add_link(position, number, link_number, link, links);
            }
            if side.links.more() {
                let extras = &mut self.records.extras;
                extras.update(position, |extra| extra.links[number].merge(&side.links));
            }
            let server_names = (&side.requests, &side.prefix);
            if server_names != (&BoundedSet::default(), &StreamPrefix::default()) {
                self.update_server_names(position, |server_names| {
                    server_names.requests[number].merge(&side.requests);
                    server_names.prefixes[number].merge(&side.prefix);
                });
            }
        }
        if !(record.errors.is_empty() && record.error_count.0 == 0 && record.aggregated.0 == 0) {
            self.records.extras.update(position, |extra| {
                extra.errors.merge(record.key.addresses(), &record.errors);
                extra.error_first.merge(&record.error_first);
                extra.error_last.merge(&record.error_last);
                extra.error_count.merge(&record.error_count);
                extra.aggregated.merge(&record.aggregated);
            });
        }
    }

    /// Separates the flows that are replaced by coarser ones from those that are kept.
    /// `aggregate_key` returns the key of the coarser flow, and the side of the original flow that
    /// becomes side 0.
    pub fn split(
        self,
        seed: &HashSeed,
        aggregate_key: impl Fn(&FlowKey, &[DirectionStats; 2]) -> Option<(FlowKey, usize)>,
    ) -> AggregationResult {
        let mut split = AggregationResult { kept: Self::default(), moved: Vec::new() };
        for flow in self.into_flows() {
            match aggregate_key(&flow.record.key, &flow.record.state.sides) {
                Some((key, first)) => split.moved.push(flow.with_sides_swapped(key, first)),
                None => split.kept.insert(flow, seed),
            }
        }
        split
    }

    /// Removes and returns the flows whose last packet or ICMP error was before `time`.
    pub fn take_idle(&mut self, time: Nanos, seed: &HashSeed) -> Self {
        self.take_where(seed, |flow, extra| {
            let sides = flow.state.sides.iter().filter_map(|side| side.last.get());
            let errors = extra.and_then(|extra| extra.error_last.get());
            sides.chain(errors).all(|last| last < time)
        })
    }

    /// Removes and returns the flows for which `holds` returns true.
    pub fn take_where(
        &mut self,
        seed: &HashSeed,
        holds: impl Fn(&FlowEntry, Option<&RareEvidence>) -> bool,
    ) -> Self {
        let extra = |at: usize| self.records.extras.get(at);
        if !self.records.flows.iter().enumerate().any(|(at, flow)| holds(&flow, extra(at))) {
            return Self::default();
        }
        let mut taken = Self::default();
        let mut kept = Self::default();
        for flow in std::mem::take(self).into_flows() {
            if holds(&flow.record, flow.extra.as_ref()) {
                taken.insert(flow, seed)
            } else {
                kept.insert(flow, seed)
            }
        }
        *self = kept;
        taken
    }

    /// Returns the keys of the flows in order of position.
    pub fn keys(&self) -> impl Iterator<Item = FlowKey> + use<'_> {
        let flows = &self.records.flows;
        (0..flows.len()).map(|position| flows.key(position))
    }

    /// Returns the flows without rare evidence and server names.
    pub fn entries(&self) -> impl Iterator<Item = FlowEntry> {
        self.records.flows.iter()
    }

    /// Returns the estimated number of conversations: distinct combinations of two addresses, the
    /// transport and the lower port. An aggregated flow counts as a conversation of its own.
    pub fn estimated_conversations(&self, seed: &HashSeed) -> usize {
        let hashes = self.keys().map(|key| {
            let (conversation_hash, flow_hash) = key.hashes(seed);
            // The lower port of an aggregated flow is 0, which does not identify a service.
            let is_aggregated = (0..2).any(|side| key.endpoint(side).port == 0);
            if is_aggregated { flow_hash } else { conversation_hash }
        });
        hashes.collect::<HashSet<u64, HashSeed>>().len()
    }

    /// Merges flows on paths for which `is_plain` holds into the flows between the same endpoints
    /// on [`Path::PLAIN`].
    pub fn make_plain(
        mut self,
        seed: &HashSeed,
        links: &mut InternerCache,
        is_plain: impl Fn(Path) -> bool,
    ) -> Self {
        let paths: HashSet<Path> = self.keys().map(|key| key.path()).collect();
        let changed = paths.iter().filter(|path| is_plain(**path)).count();
        if changed == 0 {
            return self;
        }
        // Nearly always, only one path becomes plain and no flow is plain yet. Then no two flows
        // merge.
        if changed == 1 && !paths.contains(&Path::PLAIN) {
            self.index = Index::default();
            for position in 0..self.len() {
                if is_plain(self.records.flows.key(position).path()) {
                    self.records.flows.make_plain(position);
                }
                let hash = self.records.flows.key(position).hashes(seed).1;
                self.index.find_or_insert(hash, || position, |_| false);
            }
            return self;
        }
        let mut merged = Self::default();
        for flow in self.into_flows() {
            let key = flow.record.key;
            let key = if is_plain(key.path()) { key.plain() } else { key };
            let record = FlowEntry { key, ..flow.record };
            let hash = key.hashes(seed).1;
            merged.merge_flow(hash, &record, links);
            let position = merged.position(&key, hash, 0);
            if let Some(server_names) = &flow.server_names {
                merged.update_server_names(position, |mine| mine.merge(server_names));
            }
            if let Some(extra) = &flow.extra {
                merged.merge_extra(position, extra, links);
            }
        }
        merged
    }

    /// Distributes the flows among the partitions that another seed assigns to them.
    pub fn into_partitions(self, seed: &HashSeed) -> Vec<Self> {
        let mut parts: Vec<Self> = (0..PARTITIONS).map(|_| Self::default()).collect();
        self.into_flows().for_each(|flow| parts[flow.partition(seed)].insert(flow, seed));
        parts
    }

    fn into_flows(self) -> impl Iterator<Item = DetachedFlow> {
        let FlowEntries { flows, mut extras, mut server_names } = self.records;
        flows.into_iter().enumerate().map(move |(position, record)| DetachedFlow {
            record,
            extra: extras.remove(position),
            server_names: server_names.remove(position),
        })
    }

    /// Adds a flow that the table does not contain yet.
    fn insert(
        &mut self,
        DetachedFlow { record, extra, server_names }: DetachedFlow,
        seed: &HashSeed,
    ) {
        let position = self.position(&record.key, record.key.hashes(seed).1, 0);
        self.records.flows.set(position, &record);
        if let Some(extra) = extra {
            self.records.extras.insert(position, extra);
        }
        if let Some(server_names) = server_names {
            self.update_server_names(position, |mine| *mine = server_names);
        }
    }

    /// Merges a flow into the coarser flow that replaces it.
    pub fn merge_aggregated(
        &mut self,
        flow: DetachedFlow,
        seed: &HashSeed,
        links: &mut InternerCache,
    ) {
        let hash = flow.record.key.hashes(seed).1;
        let position = self.position(&flow.record.key, hash, 0);
        self.merge_flow(hash, &flow.record, links);
        if let Some(server_names) = &flow.server_names {
            self.update_server_names(position, |mine| mine.merge(server_names));
        }
        if let Some(extra) = &flow.extra {
            self.merge_extra(position, extra, links);
        }
        // A flow that was aggregated before already has its own count.
        if flow.extra.is_none_or(|extra| extra.aggregated.0 == 0) {
            self.records.extras.update(position, |extra| extra.aggregated.0 += 1);
        }
    }

    /// Extracts server names from the stored segments of sides that started too long before `time`
    /// for further segments to belong to their first message, then discards these segments.
    pub fn extract_names_before(&mut self, time: Nanos) {
        let FlowEntries { flows, server_names, .. } = &mut self.records;
        server_names.update_all(|position, server_names| {
            server_names.extract_names(&flows.get(position).state.sides, time);
            *server_names != ServerNameEvidence::default()
        });
    }

    /// Serializes the flows without the index, which is rebuilt when they are read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        let FlowEntries { flows, extras, server_names } = &self.records;
        let mut entries = ChunkedVec::default();
        flows.iter().for_each(|flow| entries.push(flow));
        postcard::to_stdvec(&(entries, extras, server_names))
    }

    /// Reads a table that [`FlowTable::to_bytes`] wrote.
    pub fn from_bytes(seed: &HashSeed, bytes: &[u8]) -> Result<Self, postcard::Error> {
        let (entries, extras, server_names): (ChunkedVec<FlowEntry>, _, _) =
            postcard::from_bytes(bytes)?;
        let mut index = Index::default();
        let mut flows = PackedFlows::default();
        for (position, flow) in entries.into_iter().enumerate() {
            index.find_or_insert(flow.key.hashes(seed).1, || position, |_| false);
            flows.push(&flow);
        }
        let records = FlowEntries { flows, extras, server_names };
        Ok(Self { index, records })
    }
}

/// All flows of one worker, by partition.
pub(super) struct FlowTables {
    seed: HashSeed,
    pub parts: Vec<FlowTable>,
    links: InternerCache,
    /// Scratch space: the keys, hashes and slots of the packets of a batch.
    found: Vec<(FlowKey, u64, FlowSlot)>,
}

impl FlowTables {
    pub fn new(seed: &HashSeed, links: InternerCache) -> Self {
        let parts = (0..PARTITIONS).map(|_| FlowTable::default()).collect();
        Self { seed: seed.clone(), parts, links, found: Vec::new() }
    }

    /// Returns the partitions, the hash seed and the cache of encapsulations, which aggregation
    /// needs.
    pub fn for_aggregation(&mut self) -> (&mut [FlowTable], &HashSeed, &mut InternerCache) {
        (&mut self.parts, &self.seed, &mut self.links)
    }

    /// Returns the hash seed of the run.
    pub fn seed(&self) -> &HashSeed {
        &self.seed
    }

    /// Returns the number of flows.
    pub fn len(&self) -> usize {
        self.parts.iter().map(FlowTable::len).sum()
    }

    /// Returns the approximate number of bytes of memory that the tables take.
    pub fn memory(&self) -> usize {
        self.parts.iter().map(FlowTable::memory).sum()
    }

    /// Finds the flow of each packet, after adding it if it is new. It first prefetches the index
    /// slots of the whole batch, then the records, so that the cache misses overlap.
    pub fn locate(&mut self, batch: &[Observation], slots: &mut Vec<FlowSlot>) {
        let Self { seed, parts, found, .. } = self;
        found.clear();
        for seen in batch {
            let Body::Transport { tuple, .. } = &seen.body else { continue };
            let (key, side) = FlowKey::new(tuple, seen.path);
            let (conversation_hash, hash) = key.hashes(seed);
            let partition = partition(conversation_hash);
            parts[partition].index.prefetch(hash);
            let slot = FlowSlot { partition: partition as u32, position: 0, side: side as u8 };
            found.push((key, hash, slot));
        }
        for (_, hash, slot) in found.iter() {
            let table = &parts[slot.partition as usize];
            let position = table.index.guess(*hash);
            table.records.flows.prefetch(position, usize::from(slot.side));
        }
        slots.clear();
        let mut found = found.iter();
        for seen in batch {
            let mut slot = FlowSlot::default();
            if let Body::Transport { .. } = &seen.body
                && let Some((key, hash, at)) = found.next()
            {
                let table = &mut parts[at.partition as usize];
                let position = table.position(key, *hash, usize::from(at.side));
                slot = FlowSlot { position: position as u32, ..*at };
            }
            slots.push(slot);
        }
    }

    /// Records one packet of the flow in a slot.
    pub fn observe(
        &mut self,
        slot: FlowSlot,
        seen: &Observation,
        payload: u32,
        flags: u16,
        (seq, acked): (u32, Option<u32>),
    ) {
        let position = slot.position as usize;
        let side = usize::from(slot.side);
        let table = &mut self.parts[slot.partition as usize];
        if flags & flag::OPENS != 0 {
            let opening = Opening::of(flags, payload, seq, acked);
            table.add_opening(position, side, OpeningKind::of(flags), opening);
        } else if flags & flag::ASKS != 0 {
            table.add_request(position, side, seen.time);
        }
        let packet = CountedPacket {
            time: seen.time,
            wire_len: seen.wire_len,
            payload,
            flags,
            acked,
            cut: seen.cut,
        };
        let link = table.records.flows.see(position, side, &packet);
        if !self.links.is(link, &seen.link) {
            let number = self.links.number(&seen.link);
            table.add_link(position, side, number, &seen.link, &self.links);
        }
    }

    /// Records flags that follow from the payload of a packet that was sent at `time`.
    pub fn add_flags(&mut self, slot: FlowSlot, flags: u16, time: Nanos) {
        let table = &mut self.parts[slot.partition as usize];
        let (position, side) = (slot.position as usize, usize::from(slot.side));
        if flags & (flag::ASKS | flag::CLIENT_HELLO) == flag::ASKS {
            table.add_request(position, side, time);
        }
        table.records.flows.side_mut(position, side).flags.0 |= flags;
    }

    /// Merges a flow record into the tables.
    pub fn take_record(&mut self, record: &FlowRecord) {
        let (conversation_hash, hash) = record.key.hashes(&self.seed);
        self.parts[partition(conversation_hash)].take_record(record, hash, &mut self.links);
    }

    /// Merges complete statistics into a side of a flow.
    pub fn observe_side(&mut self, key: &FlowKey, side: usize, sent: &DirectionStats) {
        let slot = self.find_slot(key, side);
        let table = &mut self.parts[slot.partition as usize];
        let flows = &mut table.records.flows;
        flows.update(slot.position as usize, |flow| flow.state.sides[side].merge(sent));
    }

    /// Returns the key of the flow in a slot.
    pub fn key(&self, slot: FlowSlot) -> FlowKey {
        self.parts[slot.partition as usize].records.flows.key(slot.position as usize)
    }

    /// Records a server name that a side requested.
    pub fn observe_server_name(&mut self, slot: FlowSlot, request: ServerNameRequest) {
        let table = &mut self.parts[slot.partition as usize];
        table.update_server_names(slot.position as usize, |server_names| {
            server_names.requests[usize::from(slot.side)].insert(request)
        });
    }

    /// Records a segment that may be part of the message that names the server, with its time and
    /// sequence number.
    pub fn observe_segment(
        &mut self,
        slot: FlowSlot,
        (time, seq): (Nanos, u32),
        bytes: &[u8],
        delay: SegmentDelay,
    ) {
        let side = usize::from(slot.side);
        let table = &mut self.parts[slot.partition as usize];
        let first = table.records.flows.side(slot.position as usize, side).first();
        let is_early = || first.get().is_some_and(|first| StreamPrefix::is_early(time, first));
        // Nearly all packets of a long flow skip this.
        if delay == SegmentDelay::Any || is_early() {
            table.update_server_names(slot.position as usize, |server_names| {
                if !server_names.closed[side] {
                    server_names.prefixes[side].see(time, seq, bytes);
                }
            });
        }
    }

    /// Releases segments of server names in a partition. See
    /// [`ServerNameEvidence::release_segments`].
    pub fn release_segments(
        &mut self,
        partition: usize,
        period: (Nanos, Nanos),
        release: SegmentRelease,
    ) -> u64 {
        let mut dropped = 0;
        let FlowEntries { flows, server_names, .. } = &mut self.parts[partition].records;
        server_names.update_all(|position, own| {
            let sides = flows.get(position).state.sides;
            dropped += own.release_segments(&sides, period, release);
            *own != ServerNameEvidence::default()
        });
        dropped
    }

    /// Attaches an ICMP error to the flow that it quotes.
    pub fn observe_error(
        &mut self,
        key: &FlowKey,
        error: IcmpError,
        quotes: &QuotedPackets,
        time: Nanos,
    ) {
        let slot = self.find_slot(key, usize::from(error.side));
        let extras = &mut self.parts[slot.partition as usize].records.extras;
        extras.update(slot.position as usize, |extra| {
            extra.errors.insert(key.addresses(), error, quotes);
            extra.error_first.see(time);
            extra.error_last.see(time);
            extra.error_count.add(1);
        });
    }

    /// Returns the record that is needed to find duplicates of a packet, or `None` if the packet
    /// has no fingerprint or no timestamp.
    pub fn packet_record(
        &self,
        flow: &FlowKey,
        side: usize,
        seen: &Observation,
        payload: u32,
    ) -> Option<PacketRecord> {
        PacketRecord::new(&self.seed, FlowSide::of(&self.seed, flow, side), seen, payload)
    }

    /// Returns the slot of a side of a flow, after adding the flow if it is new.
    pub fn find_slot(&mut self, key: &FlowKey, side: usize) -> FlowSlot {
        let (conversation_hash, hash) = key.hashes(&self.seed);
        let partition = partition(conversation_hash);
        let position = self.parts[partition].position(key, hash, side);
        FlowSlot { partition: partition as u32, position: position as u32, side: side as u8 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::interner::Interner;
    use super::*;
    use crate::decode::FiveTuple;
    use crate::model::{Mac, Transport};

    fn see(tables: &mut FlowTables, sport: u16, time: Nanos, link: Encapsulation) {
        let src = "10.0.0.1".parse().unwrap();
        let dst = "10.0.0.2".parse().unwrap();
        let tuple = FiveTuple { src, dst, sport, dport: 443, transport: Transport::TCP };
        let flags = flag::SYN;
        let acked = None;
        let fragment = None;
        let body = Body::Transport { tuple, flags, payload: 0, seq: 0, acked, fragment };
        let seen = Observation { time, wire_len: 60, link, body, ..Observation::default() };
        let mut slots = Vec::new();
        tables.locate(&[seen], &mut slots);
        tables.observe(slots[0], &seen, 0, flag::SYN, (0, None));
    }

    fn link(vlan: u32) -> Encapsulation {
        Encapsulation::default().with_tag(crate::decode::EncapTagKind::Vlan, Some(vlan))
    }

    #[test]
    fn links_stay_a_set_through_merges_and_files() {
        let seed = HashSeed::new();
        let interner = Arc::new(Interner::default());
        let tables = || FlowTables::new(&seed, InternerCache::new(&seed, &interner));
        let mut a = tables();
        let mut b = tables();
        // The two tables see the encapsulations in different orders.
        see(&mut b, 2, 5, link(1));
        see(&mut b, 1, 4, link(8));
        for vlan in [7, 7, 9] {
            see(&mut a, 1, 5, link(vlan));
        }
        let mut links = InternerCache::new(&seed, &interner);
        for (mine, theirs) in a.parts.iter_mut().zip(b.parts) {
            mine.merge(theirs, &seed, &mut links);
        }
        let back = a
            .parts
            .iter()
            .map(|table| FlowTable::from_bytes(&seed, &table.to_bytes().unwrap()).unwrap());
        let (back, all): (Vec<FlowTable>, _) = (back.collect(), interner.all());
        for parts in [&a.parts, &back] {
            let mut flows = parts.iter().flat_map(|table| table.iter(&all));
            let flow = flows.find(|f| f.key.endpoint(0).port == 1).unwrap();
            assert_eq!(
                flow.links(0).map(|l| l.tags().next().unwrap().id).collect::<Vec<_>>(),
                [7, 8, 9].map(Some)
            );
            assert_eq!(flow.links(1).count(), 0);
            assert_eq!(flow.sides[0].syns.0, 4);
            assert_eq!((flow.sides[0].first.get(), flow.syns(0).count()), (Some(4), 1));
        }
    }

    #[test]
    fn rare_evidence_counts_with_the_memory_that_it_takes() {
        const FLOWS: u16 = 20_000;
        let seed = HashSeed::new();
        let interner = Arc::new(Interner::default());
        let tables = || FlowTables::new(&seed, InternerCache::new(&seed, &interner));
        // The client of each flow sends a request in each of these seconds.
        let requests = |seconds: &[Nanos]| {
            let mut tables = tables();
            for port in 0..FLOWS {
                let src = "10.0.0.1".parse().unwrap();
                let dst = "10.0.0.2".parse().unwrap();
                let key = FiveTuple { src, dst, sport: port, dport: 53, transport: Transport::UDP };
                let (key, side) = FlowKey::new(&key, Path::PLAIN);
                let slot = tables.find_slot(&key, side);
                for second in seconds {
                    let time = (1_780_000_000 + second) * crate::model::SECOND;
                    tables.add_flags(slot, flag::ASKS, time);
                }
            }
            let back = tables.parts.iter().map(|table| {
                let bytes = table.to_bytes().unwrap();
                FlowTable::from_bytes(&seed, &bytes).unwrap().memory()
            });
            (tables.memory(), back.sum::<usize>())
        };
        let single = requests(&[1]);
        let repeated = requests(&[1, 4]);
        let least = size_of::<(u32, RareEvidence)>() + 2 * size_of::<Opening>();
        for (single, repeated) in [(single.0, repeated.0), (single.1, repeated.1)] {
            let each = (repeated - single) / usize::from(FLOWS);
            assert!((least..2 * least + 150).contains(&each), "{each} instead of {least}");
        }
        // Encapsulations are large.
        let mut many = tables();
        (0..20).for_each(|vlan| see(&mut many, 1, 5, link(vlan)));
        let memory = many.memory() - tables().memory();
        assert!(memory > 16 * size_of::<Encapsulation>(), "{memory}");
    }

    #[test]
    fn more_links_than_numbers_are_kept_in_the_side_table() {
        let seed = HashSeed::new();
        let interner = Arc::new(Interner::default());
        let mut tables = FlowTables::new(&seed, InternerCache::new(&seed, &interner));
        for number in 0..70_000u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let mut link = Encapsulation::default();
            link.source = Mac([2, 0, 0, a, b, c]);
            see(&mut tables, 1, 5, link);
        }
        let all = interner.all();
        let flow = tables.parts.iter().flat_map(|table| table.iter(&all)).next().unwrap();
        assert_eq!(flow.links(0).count(), 16);
        assert_eq!(flow.links(0).next().unwrap().source, Mac([2, 0, 0, 0, 0, 0]));
    }
}
