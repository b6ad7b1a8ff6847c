//! What the capture can see: how much traffic it shows in one direction only, and how much it lost.

use std::collections::BTreeSet;

use super::CaptureLimits;
use crate::flow::{DirectionStats, Encapsulation, Flow, flag};

/// Acknowledged bytes below which the share of unseen bytes is not meaningful.
const TOO_FEW_BYTES: u64 = 64 << 10;

/// What the capture can see of the traffic, in packets and bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct VisibilityStats {
    /// Packets of flows.
    pub packets: u64,
    /// Packets of flows of which only one direction was captured.
    pub one_sided: u64,
    /// Packets of flows whose directions carry different VLAN identifiers.
    pub split: u64,
    /// Packets of flows of which only one direction was cut short.
    pub cut_one_way: u64,
    /// TCP bytes that were acknowledged in flows whose opening was seen.
    pub acked: u64,
    /// Of these, bytes that the capture does not show.
    pub unseen: u64,
    /// The unseen and the acknowledged bytes of the direction that lacks most.
    worst: (u64, u64),
    /// Number of flow directions included in `acked` and `unseen`.
    counted: u64,
    /// Number of flow directions that lack more than they show, which are not included.
    lacking: u64,
}

impl VisibilityStats {
    /// Returns which share of all packets of flows `part` is, 0 to 1.
    pub fn share(&self, part: u64) -> f64 {
        part as f64 / self.packets.max(1) as f64
    }

    /// Returns the share of frames lost, 0 to 1, estimated from what was acknowledged but not seen.
    pub fn loss(&self) -> f64 {
        if self.acked - self.worst.1 < TOO_FEW_BYTES && !self.mostly_missing() {
            0.0
        } else {
            self.suspected_loss()
        }
    }

    /// Returns the same estimate however few bytes it rests on. That may be too little to state a
    /// loss, but it is a reason to doubt silence.
    pub fn suspected_loss(&self) -> f64 {
        // If half of the frames are lost, half of the flows show less than half and are not
        // counted.
        if self.lacking * 2 > self.counted.max(4) {
            return 0.5;
        }
        // One flow alone proves nothing, because what it lacks may be a forged acknowledgement.
        let unseen = self.unseen - self.worst.0;
        let acked = self.acked - self.worst.1;
        unseen as f64 / acked.max(1) as f64
    }

    /// Returns whether most flow directions lack more than they show.
    pub fn mostly_missing(&self) -> bool {
        self.lacking > self.counted.max(2)
    }

    /// Merges what another part of the flows shows.
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

    /// Adds what a flow shows.
    pub(super) fn add(&mut self, flow: &Flow<'_>, limits: CaptureLimits) {
        let sides = flow.sides;
        let packets = sides[0].sent.packets.0 + sides[1].sent.packets.0;
        self.packets += packets;
        if !sides.iter().all(DirectionStats::has_packets) {
            return;
        }
        // A single snaplen cuts both directions at the same length.
        let is_short =
            |side: usize| sides[side].has(flag::CUT_SHORT) && !sides[side].has(flag::KEPT_LONG);
        if (is_short(0) && sides[1].has(flag::KEPT_LONG))
            || (is_short(1) && sides[0].has(flag::KEPT_LONG))
        {
            self.cut_one_way += packets;
        }
        let vlans = [0, 1]
            .map(|side| flow.links(side).flat_map(Encapsulation::vlans).collect::<BTreeSet<u32>>());
        if vlans.iter().any(|v| !v.is_empty()) && vlans[0].is_disjoint(&vlans[1]) {
            self.split += packets;
        }
        // Only if the opening was seen did the acknowledged bytes begin inside the capture.
        let opened = [0, 1].map(|s: usize| sides[s].has(flag::SYN) || sides[s].has(flag::SYN_ACK));
        // A reused port has two ranges of sequence numbers, with a gap between them that was never
        // sent. A retransmitted SYN looks the same and costs the estimate one flow.
        let max_syns = if limits.doubled { 2 } else { 1 };
        let is_reused = sides.iter().any(|side| side.syns.0 > max_syns);
        if opened != [true, true] || is_reused {
            return;
        }
        for side in 0..2 {
            let sent = sides[side].sent.payload.0;
            let Some(width) = sides[1 - side].acked.width() else { continue };
            // Sequence numbers that wrapped around span nearly the whole range, so such a flow
            // shows nothing.
            if width > u32::MAX / 2 {
                continue;
            }
            // A FIN takes a sequence number of its own.
            let acked = u64::from(width).saturating_sub(u64::from(sides[side].has(flag::FIN)));
            if acked == 0 {
                continue;
            }
            let unseen = acked.saturating_sub(sent);
            // A single flow that lacks more than it shows is not a loss: the port was reused, or
            // the numbers were forged.
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
