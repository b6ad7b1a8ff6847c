//! How much of the traffic the capture shows in only one direction, and how much it lost.

use std::collections::BTreeSet;

use super::CaptureLimits;
use crate::flow::{DirectionStats, Encapsulation, Flow, flag};

/// The number of acknowledged bytes below which the share of unseen bytes is not meaningful.
const TOO_FEW_BYTES: u64 = 64 << 10;

/// How much of the traffic the capture shows, in packets and bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct VisibilityStats {
    /// Packets of all flows, except those in undeclared tunnels.
    pub packets: u64,
    /// Packets of flows with the state `one-sided`, except those in undeclared tunnels.
    pub one_sided: u64,
    /// Packets of flows in which at least one direction has VLAN identifiers, and both directions
    /// have none in common.
    pub split: u64,
    /// Packets of flows in which only one direction was truncated.
    pub cut_one_way: u64,
    /// TCP bytes that were acknowledged, in flows whose handshake was seen.
    pub acked: u64,
    /// The part of `acked` that the capture does not show, in bytes.
    pub unseen: u64,
    /// The unseen and the acknowledged bytes of the flow direction that lacks the most bytes.
    worst: (u64, u64),
    /// Number of flow directions included in `acked` and `unseen`.
    counted: u64,
    /// Number of flow directions that lack more bytes than they show. These are not included in
    /// `acked` and `unseen`.
    lacking: u64,
}

impl VisibilityStats {
    /// Returns `part` as a share of the packets of all flows, from 0 to 1.
    pub fn share(&self, part: u64) -> f64 {
        part as f64 / self.packets.max(1) as f64
    }

    /// Returns the share of frames that were lost, from 0 to 1, estimated from bytes that were
    /// acknowledged but not seen. Returns 0 if too few bytes were acknowledged, apart from those of
    /// the flow direction that lacks the most, unless most flow directions lack more bytes than
    /// they show.
    pub fn loss(&self) -> f64 {
        if self.acked - self.worst.1 < TOO_FEW_BYTES && !self.mostly_missing() {
            0.0
        } else {
            self.suspected_loss()
        }
    }

    /// Returns the same estimate as [`Self::loss`], even if it is based on few bytes. It is then
    /// not enough to report a loss, but it is a reason to doubt an absence claim.
    pub fn suspected_loss(&self) -> f64 {
        // If half of the frames are lost, about half of the flow directions show less than half of
        // their bytes and are not counted.
        if self.lacking * 2 > self.counted.max(4) {
            return 0.5;
        }
        // One flow direction alone proves nothing, because a forged acknowledgement can make bytes
        // seem missing.
        let unseen = self.unseen - self.worst.0;
        let acked = self.acked - self.worst.1;
        unseen as f64 / acked.max(1) as f64
    }

    /// Returns whether most flow directions, and at least three, lack more bytes than they show.
    pub fn mostly_missing(&self) -> bool {
        self.lacking > self.counted.max(2)
    }

    /// Merges the counts of another part of the flows.
    pub(super) fn merge(&mut self, other: &Self) {
        let Self { packets, one_sided, split, cut_one_way, acked, unseen, worst, counted, lacking } =
            other;
        self.packets += packets;
        self.one_sided += one_sided;
        self.split += split;
        self.cut_one_way += cut_one_way;
        self.acked = self.acked.saturating_add(*acked);
        self.unseen = self.unseen.saturating_add(*unseen);
        self.worst = self.worst.max(*worst);
        self.counted += counted;
        self.lacking += lacking;
    }

    /// Adds the counts of a flow.
    pub(super) fn add(&mut self, flow: &Flow<'_>, limits: &CaptureLimits) {
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
            // A single flow direction that lacks more bytes than it shows does not prove loss: the
            // port may have been reused, or the acknowledgement numbers may be forged.
            if unseen > sent {
                self.lacking += 1;
                continue;
            }
            self.counted += 1;
            self.worst = self.worst.max((unseen, acked));
            self.acked = self.acked.saturating_add(acked);
            self.unseen = self.unseen.saturating_add(unseen);
        }
    }
}
