//! How much of the traffic the capture shows in only one direction, and how much it lost.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::CaptureLimits;
use super::by_address::CountsByAddress;
use crate::flow::{DirectionStats, Encapsulation, Flow, flag};
use crate::model::{Merge, Sum};

/// The number of acknowledged bytes below which the share of unseen bytes is not meaningful.
const TOO_FEW_BYTES: u64 = 64 << 10;

/// How much of the traffic the capture shows, in packets and bytes.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct VisibilityStats {
    /// Packets of all flows, except those in undeclared tunnels.
    pub packets: u64,
    /// Packets of flows with the state `one-sided`, except those in undeclared tunnels.
    pub one_sided: u64,
    /// The part of `one_sided` in flows to which the unlisted address with most of them sent
    /// packets.
    one_sided_of_one: u64,
    /// Packets of flows in which at least one direction has VLAN identifiers, and both directions
    /// have none in common.
    pub split: u64,
    /// Packets of flows in which only one direction was truncated.
    pub cut_one_way: u64,
    /// TCP bytes that were acknowledged, in flows whose handshake was seen.
    pub acked: u64,
    /// The part of `acked` that the capture does not show, in bytes.
    pub unseen: u64,
    /// See [`Self::loss`].
    loss: f64,
    /// See [`Self::suspected_loss`].
    suspected_loss: f64,
    /// See [`Self::mostly_missing`].
    mostly_missing: bool,
}

impl VisibilityStats {
    /// Returns `part` as a share of the packets of all flows, from 0 to 1.
    pub fn share(&self, part: u64) -> f64 {
        part as f64 / self.packets.max(1) as f64
    }

    /// Returns the share of the packets that belong to flows with the state `one-sided`, from 0 to
    /// 1, without those of the unlisted address that sent most of them: a single host can send any
    /// number of packets that nobody answers.
    pub fn one_sided_share(&self) -> f64 {
        let one_sided = self.one_sided.saturating_sub(self.one_sided_of_one);
        let packets = self.packets.saturating_sub(self.one_sided_of_one);
        one_sided as f64 / packets.max(1) as f64
    }

    /// Returns the share of frames that were lost, from 0 to 1, estimated from bytes that were
    /// acknowledged but not seen. Any host can forge acknowledgements, so the share is the lowest
    /// that remains if those of one address are left out. Returns 0 if the others acknowledged too
    /// few bytes, unless most of their flow directions lack more bytes than they show.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// Returns the same estimate as [`Self::loss`], even if it is based on few bytes, or the share
    /// of flow directions that lack more bytes than they show, whichever is greater. This is not
    /// enough to report a loss, but it is a reason to doubt an absence claim.
    pub fn suspected_loss(&self) -> f64 {
        self.suspected_loss
    }

    /// Returns whether most flow directions, and at least three, lack more bytes than they show,
    /// whichever address is left out.
    pub fn mostly_missing(&self) -> bool {
        self.mostly_missing
    }

    /// Records the packets of flows with the state `one-sided`.
    pub(super) fn note_one_sided(&mut self, packets: &OneSidedPackets) {
        self.one_sided = packets.all;
        self.one_sided_of_one = packets.of_strangers.iter().map(|own| own.0).max().unwrap_or(0);
    }
}

/// Packets of flows with the state `one-sided`.
#[derive(Clone, Default, Debug)]
pub(super) struct OneSidedPackets {
    all: u64,
    /// Those of the flows to which an unlisted address sent packets.
    of_strangers: CountsByAddress<Sum>,
}

impl OneSidedPackets {
    /// Adds the packets of a flow. `strangers` are the unlisted addresses that sent some of them.
    pub fn add(&mut self, packets: u64, strangers: impl Iterator<Item = IpAddr>) {
        self.all += packets;
        strangers.for_each(|address| self.of_strangers.of(address).add(packets));
    }
}

impl Merge for OneSidedPackets {
    fn merge(&mut self, other: &Self) {
        self.all += other.all;
        self.of_strangers.merge(&other.of_strangers);
    }
}

/// What acknowledgements show about the bytes that the capture contains.
#[derive(Clone, Copy, Default, Debug)]
struct Acknowledged {
    /// Acknowledged bytes.
    bytes: u64,
    /// The part of `bytes` that the capture does not show.
    unseen: u64,
    /// Number of flow directions included in `bytes` and `unseen`.
    counted: u64,
    /// Number of flow directions that lack more bytes than they show. These are not included in
    /// `bytes` and `unseen`.
    lacking: u64,
}

impl Acknowledged {
    fn without(&self, part: &Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(part.bytes),
            unseen: self.unseen.saturating_sub(part.unseen),
            counted: self.counted.saturating_sub(part.counted),
            lacking: self.lacking.saturating_sub(part.lacking),
        }
    }

    fn loss(&self) -> f64 {
        if self.bytes < TOO_FEW_BYTES && !self.mostly_missing() { 0.0 } else { self.known_loss() }
    }

    /// Returns the share of lost frames, whether or not it is based on enough bytes.
    fn known_loss(&self) -> f64 {
        // If half of the frames are lost, about half of the flow directions show less than half of
        // their bytes and are not counted.
        if self.lacking * 2 > self.counted.max(4) {
            return 0.5;
        }
        self.unseen as f64 / self.bytes.max(1) as f64
    }

    /// Returns the share of bytes or of flow directions that the capture lacks, whichever is
    /// greater. Where few bytes were acknowledged, the directions that are not counted show more.
    fn suspected_loss(&self) -> f64 {
        let directions = self.counted + self.lacking;
        self.known_loss().max(self.lacking as f64 / directions.max(1) as f64)
    }

    fn mostly_missing(&self) -> bool {
        self.lacking > self.counted.max(2)
    }
}

impl Merge for Acknowledged {
    fn merge(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.unseen = self.unseen.saturating_add(other.unseen);
        self.counted += other.counted;
        self.lacking += other.lacking;
    }
}

/// The counts from which [`VisibilityStats`] are derived once those of all flows are merged.
#[derive(Clone, Default, Debug)]
pub(super) struct VisibilityCounts {
    packets: u64,
    split: u64,
    cut_one_way: u64,
    /// What each address acknowledged.
    acknowledged: CountsByAddress<Acknowledged>,
}

impl VisibilityCounts {
    /// Returns the statistics, except for those of flows with the state `one-sided`.
    pub fn conclude(&self) -> VisibilityStats {
        let mut all = Acknowledged::default();
        self.acknowledged.iter().for_each(|own| all.merge(own));
        let others = || self.acknowledged.iter().map(|own| all.without(own));
        let has_others = others().next().is_some();
        let least = |share: fn(&Acknowledged) -> f64| {
            others().map(|others| share(&others)).reduce(f64::min).unwrap_or(0.0)
        };
        VisibilityStats {
            packets: self.packets,
            one_sided: 0,
            one_sided_of_one: 0,
            split: self.split,
            cut_one_way: self.cut_one_way,
            acked: all.bytes,
            unseen: all.unseen,
            loss: least(Acknowledged::loss),
            suspected_loss: least(Acknowledged::suspected_loss),
            mostly_missing: has_others && others().all(|others| others.mostly_missing()),
        }
    }

    /// Merges the counts of another part of the flows.
    pub fn merge(&mut self, other: &Self) {
        self.packets += other.packets;
        self.split += other.split;
        self.cut_one_way += other.cut_one_way;
        self.acknowledged.merge(&other.acknowledged);
    }

    /// Adds the counts of a flow.
    pub fn add(&mut self, flow: &Flow<'_>, limits: &CaptureLimits) {
        let sides = &flow.sides;
        let packets = sides[0].sent.packets.0 + sides[1].sent.packets.0;
        self.packets += packets;
        if !sides.iter().all(DirectionStats::has_packets) {
            return;
        }
        // A single snaplen truncates both directions at the same length, so these were captured
        // with different ones.
        let is_short =
            |side: usize| sides[side].has(flag::CUT_SHORT) && !sides[side].has(flag::KEPT_LONG);
        if (is_short(0) && sides[1].has(flag::KEPT_LONG))
            || (is_short(1) && sides[0].has(flag::KEPT_LONG))
        {
            self.cut_one_way += packets;
        }
        let vlans = |side| flow.links(side).flat_map(Encapsulation::vlans);
        // Most flows have no VLAN tags, so the sets are built only if necessary.
        if [0, 1].into_iter().any(|side| vlans(side).next().is_some()) {
            let [first, second] = [0, 1].map(|side| vlans(side).collect::<BTreeSet<u32>>());
            if first.is_disjoint(&second) {
                self.split += packets;
            }
        }
        // Without the handshake, acknowledged bytes may have been sent before the capture started.
        let opened = [0, 1].map(|s: usize| sides[s].has(flag::SYN) || sides[s].has(flag::SYN_ACK));
        // A reused port has two ranges of sequence numbers, with a gap between them that was never
        // sent. A retransmitted SYN looks the same, so its flow is not counted either.
        let max_syns = if limits.doubled { 2 } else { 1 };
        let is_reused = sides.iter().any(|side| side.syns.0 > max_syns);
        if opened != [true, true] || is_reused {
            return;
        }
        for side in 0..2 {
            let sent = sides[side].sent.payload.0;
            let Some(width) = sides[1 - side].acked.width() else { continue };
            // Sequence numbers that wrapped around span nearly the whole range, so their width has
            // no meaning.
            if width > u32::MAX / 2 {
                continue;
            }
            // A FIN consumes one sequence number.
            let acked = u64::from(width).saturating_sub(u64::from(sides[side].has(flag::FIN)));
            if acked == 0 {
                continue;
            }
            let unseen = acked.saturating_sub(sent);
            let own = self.acknowledged.of(flow.key.endpoint(1 - side).addr);
            // A single flow direction that lacks more bytes than it shows does not prove loss: the
            // port may have been reused, or the acknowledgement numbers may be forged.
            let counts = if unseen > sent {
                Acknowledged { lacking: 1, ..Acknowledged::default() }
            } else {
                Acknowledged { bytes: acked, unseen, counted: 1, lacking: 0 }
            };
            own.merge(&counts);
        }
    }
}
