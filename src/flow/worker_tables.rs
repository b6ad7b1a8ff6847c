//! The tables of one worker, which are private to it and need no locks.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::address_claims::AddressBinding;
use super::evidence_limit::EvidenceLimit;
use super::interner::{Interner, InternerCache};
use super::outer_flows::OuterFlow;
use super::partitions::PartitionEvidence;
use super::records::{Evidence, FlowRecord};
use super::row::EvidenceRow;
use super::server_names::{SegmentDelay, SegmentRelease};
use super::side_evidence::{AddressPair, OpenMessages, SideEvidence};
use super::state::{IcmpError, QuotedPackets};
use super::table::{FlowSlot, FlowTables};
use super::undecoded::UndecodedFrames;
use super::{FlowKey, HashSeed};
use crate::decode::{Body, FiveTuple, Observation, Path, Quoted, flag};
use crate::model::{Mac, Nanos, Transport};
use crate::payload::PayloadFact;

/// Which evidence of individual packets the tables retain.
#[derive(Clone, Default, Debug)]
pub struct Retention {
    /// What is kept of each packet to find duplicates.
    pub packets: PacketRetention,
    /// Which parts of messages that name a server are retained.
    pub parts: PrefixRetention,
}

/// What is kept of each packet to find duplicates.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PacketRetention {
    /// Nothing.
    #[default]
    Nothing,
    /// A record, until duplicates have been removed.
    Records,
    /// An entry in the log of its flow, which rows can contain.
    Logs,
}

/// Which parts of messages that name a server are retained. Most such messages fit in one segment.
/// If one continues in other segments, any data from the side may be part of it, and retaining that
/// data for all sides would take much memory.
#[derive(Clone, Default, Debug)]
pub enum PrefixRetention {
    /// Only the fact that a side sent the start of such a message. It shows which sides must be
    /// read again.
    #[default]
    Starts,
    /// All parts, but only from these sides.
    Of(Arc<OpenMessages>),
    /// All parts from all sides, for input that cannot be read again.
    All,
    /// All parts from all sides, and the fact that a side sent the start of such a message, for
    /// evidence that is merged later with evidence from other inputs.
    StartsAndAll,
}

/// The flows and the side evidence that one worker has collected.
pub struct WorkerTables {
    pub(super) flows: FlowTables,
    pub(super) side: SideEvidence,
    keep: Retention,
    /// Scratch space: the slots of the packets of a batch.
    slots: Vec<FlowSlot>,
}

impl WorkerTables {
    pub(super) fn new(seed: &HashSeed, interner: &Arc<Interner>, keep: &Retention) -> Self {
        Self {
            flows: FlowTables::new(seed, InternerCache::new(seed, interner)),
            side: SideEvidence::default(),
            keep: keep.clone(),
            slots: Vec::new(),
        }
    }

    /// Records a batch of observations, ideally of [`LOOKUP_BATCH`](super::LOOKUP_BATCH) packets.
    /// `facts` contains the facts from the payloads, each with the index of its packet in the
    /// batch.
    pub fn observe<'a>(
        &mut self,
        batch: &[Observation],
        facts: impl IntoIterator<Item = (usize, PayloadFact<'a>)>,
    ) {
        let mut slots = std::mem::take(&mut self.slots);
        self.flows.locate(batch, &mut slots);
        for (seen, slot) in batch.iter().zip(&slots) {
            self.side.sample.see(seen);
            self.record(seen, *slot);
            if seen.link.is_tunnelled() {
                self.record_outer(seen);
            }
        }
        for (position, fact) in facts {
            if let (Some(seen), Some(slot)) = (batch.get(position), slots.get(position)) {
                self.record_fact(seen, *slot, fact);
            }
        }
        self.slots = slots;
    }

    /// Merges evidence that was collected elsewhere.
    pub fn take_evidence(&mut self, Evidence { flows, mut side }: Evidence) {
        flows.iter().for_each(|record| self.take_flow(record));
        match self.keep.packets {
            PacketRetention::Nothing => drop(std::mem::take(&mut side.packets)),
            PacketRetention::Records => {
                let logs = std::mem::take(&mut side.packets);
                self.side.traces.extend(logs.into_records(self.flows.seed()));
            }
            PacketRetention::Logs => {}
        }
        self.side.merge(side);
    }

    /// Merges a flow record.
    pub fn take_flow(&mut self, record: &FlowRecord) {
        self.flows.take_record(record);
    }

    /// Records the evidence of a packet, except for payload facts.
    fn record(&mut self, seen: &Observation, slot: FlowSlot) {
        let time = seen.time;
        match seen.body {
            Body::Transport { flags, payload, seq, acked, fragment, .. } => {
                self.flows.observe(slot, seen, payload, flags, (seq, acked));
                if self.keep.packets == PacketRetention::Nothing && fragment.is_none() {
                    return;
                }
                let flow = self.flows.key(slot);
                let side = usize::from(slot.side);
                self.keep_packet_record(&flow, side, seen, payload);
                if let Some(datagram) = fragment {
                    self.side.fragments.first(datagram, time, flow, side, seen.link);
                }
            }
            Body::Fragment { datagram, payload } => {
                self.side.fragments.later(datagram, seen, payload);
            }
            Body::Error { quoted, kind, by, to, transport } => {
                match quoted {
                    Quoted::Flow { tuple, path, seq, answers } => {
                        let (key, side) = FlowKey::new(&tuple, path);
                        let mut quotes = QuotedPackets { answers, ..QuotedPackets::default() };
                        if tuple.transport == Transport::TCP {
                            quotes.seqs.insert(seq);
                        }
                        let error = IcmpError { side: side as u8, kind, by };
                        self.flows.observe_error(&key, error, &quotes, time);
                    }
                    Quoted::Fragment(datagram) => {
                        self.side.fragments.error(datagram, time, kind, by);
                    }
                }
                self.record_portless(by, to, transport, seen);
            }
            Body::NoPorts { src, dst, transport } => {
                self.record_portless(src, dst, transport, seen);
            }
            Body::NonIp { claim: Some((address, mac)), .. } => {
                self.record_claim(address, mac, seen)
            }
            Body::NonIp { claim: None, .. } => {}
        }
    }

    fn record_claim(&mut self, address: IpAddr, mac: Mac, seen: &Observation) {
        let mut vlans = [0; 2];
        for (kept, id) in vlans.iter_mut().zip(seen.link.vlans()) {
            *kept = id as u16;
        }
        let claimant = AddressBinding { address, mac, vlans, path: seen.path };
        self.side.claims.entry(claimant).see(seen.time);
    }

    /// Records the outer packets of a tunnelled packet.
    fn record_outer(&mut self, seen: &Observation) {
        let flags = if seen.broadcast { flag::BROADCAST } else { flag::UNICAST };
        for outer in OuterFlow::around(seen) {
            let side = self.side.carriers.entry(outer);
            side.see(seen.time, seen.wire_len, 0, flags);
        }
    }

    /// Records a frame that could not be decoded.
    pub fn record_undecoded(&mut self, frames: UndecodedFrames) {
        self.side.unread.insert(frames, 1);
    }

    /// Records a fact from the payload of a packet.
    fn record_fact(&mut self, seen: &Observation, slot: FlowSlot, fact: PayloadFact<'_>) {
        match (fact, seen.body) {
            (PayloadFact::ServerNameRequest(request), _) => {
                self.flows.observe_server_name(slot, request)
            }
            (PayloadFact::Start(bytes), Body::Transport { tuple, seq, .. }) => {
                let parts = &self.keep.parts;
                if matches!(parts, PrefixRetention::Starts | PrefixRetention::StartsAndAll) {
                    self.side.starts.entry(side_of(&tuple, seen.path));
                }
                self.record_segment(seen, slot, (&tuple, seq), bytes);
            }
            (PayloadFact::Part(bytes), Body::Transport { tuple, seq, .. }) => {
                self.record_segment(seen, slot, (&tuple, seq), bytes);
            }
            (PayloadFact::DnsQuery(lookup, reply), _) => self.side.lookups.add(lookup, reply),
            (PayloadFact::Announced(ports), Body::Transport { tuple, .. }) => {
                self.side.announced.add((tuple.src, tuple.dst, seen.path), ports);
            }
            (PayloadFact::Holds(addresses), Body::Transport { tuple, .. }) => {
                for address in addresses {
                    self.side.masters.add((address, tuple.src, seen.path), ());
                }
            }
            (PayloadFact::Claims(address, mac), _) => self.record_claim(address, mac, seen),
            (PayloadFact::Says(flags), _) => self.flows.add_flags(slot, flags, seen.time),
            (
                PayloadFact::Start(_)
                | PayloadFact::Part(_)
                | PayloadFact::Announced(_)
                | PayloadFact::Holds(_),
                _,
            ) => {}
        }
    }

    /// Records a segment that may be part of a message that names a server, if such parts are
    /// retained.
    fn record_segment(
        &mut self,
        seen: &Observation,
        slot: FlowSlot,
        (tuple, seq): (&FiveTuple, u32),
        bytes: &[u8],
    ) {
        let is_wanted = match &self.keep.parts {
            PrefixRetention::Starts => false,
            PrefixRetention::Of(sides) => sides.contains(&side_of(tuple, seen.path)),
            PrefixRetention::All | PrefixRetention::StartsAndAll => true,
        };
        // Other workers may have earlier packets of the side. With a limit on the time since its
        // first packet, stored segments would depend on which worker got which packets.
        let delay = match self.keep.parts {
            PrefixRetention::StartsAndAll => SegmentDelay::Any,
            _ => SegmentDelay::Short,
        };
        if is_wanted {
            self.flows.observe_segment(slot, (seen.time, seq), bytes, delay);
        }
    }

    /// Keeps what [`Retention::packets`] requires to find duplicates of a packet.
    pub(super) fn keep_packet_record(
        &mut self,
        flow: &FlowKey,
        side: usize,
        seen: &Observation,
        payload: u32,
    ) {
        match self.keep.packets {
            PacketRetention::Nothing => {}
            PacketRetention::Records => {
                self.side.traces.extend(self.flows.packet_record(flow, side, seen, payload));
            }
            PacketRetention::Logs => self.side.packets.add(flow, side, seen, payload),
        }
    }

    /// Keeps what [`Retention::packets`] requires to find duplicates of a later fragment. The
    /// interface of `seen` is the number of the sensor, which is part of the link, as in logs.
    pub(super) fn keep_fragment_record(
        &mut self,
        flow: &FlowKey,
        side: usize,
        seen: &Observation,
        payload: u32,
    ) {
        if self.keep.packets != PacketRetention::Records {
            return self.keep_packet_record(flow, side, seen, payload);
        }
        let mut link = seen.link;
        link.interface = seen.interface;
        let record = self.flows.packet_record(flow, side, seen, payload);
        let seed = self.flows.seed();
        self.side.traces.extend(record.map(|record| record.with_link(seed, &link)));
    }

    /// Drops entries of side evidence beyond a limit, and records their kinds. Returns the number
    /// of entries dropped.
    pub fn keep_within(&mut self, limit: &EvidenceLimit<'_>) -> u64 {
        self.side.keep_within(limit)
    }

    /// Extracts server names from the segments of a partition, a number below
    /// [`super::PARTITIONS`], and discards the segments that `release` states. `period` contains
    /// the times of the first and the last packet in the tables. Returns the number of sides from
    /// which a name may be lost.
    pub fn release_segments(
        &mut self,
        partition: usize,
        period: (Nanos, Nanos),
        release: SegmentRelease,
    ) -> u64 {
        self.flows.release_segments(partition, period, release)
    }

    /// Removes the logs of packets, and passes them to `take` as rows.
    ///
    /// # Errors
    ///
    /// Returns the error of `take`.
    pub fn take_packet_rows(
        &mut self,
        take: &mut dyn FnMut(EvidenceRow) -> io::Result<()>,
    ) -> io::Result<()> {
        let packets = std::mem::take(&mut self.side.packets);
        SideEvidence { packets, ..SideEvidence::default() }.each_row(take)
    }

    pub(super) fn into_partitions(
        self,
        seed: &HashSeed,
    ) -> impl Iterator<Item = (usize, PartitionEvidence)> {
        let sides = self.side.split(seed);
        let parts = self.flows.parts.into_iter().zip(sides);
        parts.map(|(flows, side)| PartitionEvidence { flows, side }).enumerate()
    }

    /// Records a packet whose ports were not seen, or an ICMP error.
    fn record_portless(
        &mut self,
        src: IpAddr,
        dst: IpAddr,
        transport: Transport,
        seen: &Observation,
    ) {
        let flags = if seen.broadcast { flag::BROADCAST } else { 0 };
        let pair = AddressPair { src, dst, transport, path: seen.path };
        self.side.loose.entry(pair).see(seen.time, seen.wire_len, 0, flags);
    }

    /// Returns the approximate number of bytes of memory that the tables take.
    pub fn memory(&self) -> usize {
        self.flows.memory() + self.side.memory()
    }

    /// Returns the number of flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Returns whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Returns the key of a packet's flow, and the side that sent the packet.
fn side_of(tuple: &FiveTuple, path: Path) -> (FlowKey, u8) {
    let (key, side) = FlowKey::new(tuple, path);
    (key, side as u8)
}
