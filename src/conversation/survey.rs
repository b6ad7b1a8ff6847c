//! What the capture shows beyond single flows: who serves, who asked everybody, who was seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Lens;
use super::direction::{broadcast_sender, handshake, is_group};
use crate::flow::{Amount, Flow, Flows, Link, Seed, Side, sign};
use crate::model::{AtMost, Endpoint, Mac, Max, Merge, Min, Nanos, SECOND, Sum, Transport};

/// How an address was seen.
#[derive(Clone, Default, Debug)]
pub struct Presence {
    /// Packets it sent, broadcasts and address claims (ARP) among them.
    pub sent: Amount,
    /// Packets sent to it alone.
    pub received: Amount,
    /// Packets it sent to one address.
    pub unicast_sent: Sum,
    /// It was sent something that only follows from an answer of its own.
    pub answered_unseen: bool,
    /// The earliest packet it sent or received.
    pub first: Min,
    /// The latest.
    pub last: Max,
    /// Hardware addresses that its frames came from.
    pub macs: AtMost<Mac, 4>,
}

impl Merge for Presence {
    fn merge(&mut self, other: &Self) {
        self.sent.merge(&other.sent);
        self.received.merge(&other.received);
        self.unicast_sent.merge(&other.unicast_sent);
        self.answered_unseen |= other.answered_unseen;
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        self.macs.merge(&other.macs);
    }
}

/// How long an answer may take, in nanoseconds. Silence younger than this when the capture ends, or
/// its time is cut off, means nothing.
const TIME_TO_ANSWER: Nanos = SECOND;

/// Acknowledged bytes below which a share of unseen ones says nothing.
const TOO_FEW_BYTES: u64 = 64 << 10;

/// From where the capture looks at the traffic, in frames and bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Vantage {
    /// Packets of flows.
    pub packets: u64,
    /// Of these, packets of flows of which only one direction was captured.
    pub one_sided: u64,
    /// Of these, packets of flows whose directions carry different VLAN identifiers.
    pub split: u64,
    /// Of these, packets of flows of which one direction alone was cut short.
    pub cut_one_way: u64,
    /// TCP bytes that were acknowledged in flows whose opening was seen.
    pub acked: u64,
    /// Of these, bytes that the capture does not show.
    pub unseen: u64,
    /// Of these, those of the direction that lacks most: unseen, acknowledged.
    worst: (u64, u64),
    /// Directions of flows that were counted there.
    counted: u64,
    /// Directions of flows that lack more than they show, which are not.
    lacking: u64,
}

impl Vantage {
    /// The share that `part` is of all packets of flows, 0 to 1.
    pub fn share(&self, part: u64) -> f64 {
        part as f64 / self.packets.max(1) as f64
    }

    /// The share of frames lost, estimated from what was acknowledged but not seen; 0 to 1.
    pub fn loss(&self) -> f64 {
        if self.mostly_missing() {
            0.5
        } else {
            // One flow alone proves nothing: what it lacks may be a forged acknowledgement.
            let (unseen, acked) = (self.unseen - self.worst.0, self.acked - self.worst.1);
            if acked < TOO_FEW_BYTES { 0.0 } else { unseen as f64 / acked as f64 }
        }
    }

    /// Whether most flows lack more than they show.
    pub fn mostly_missing(&self) -> bool {
        self.lacking > self.counted.max(2)
    }

    fn add(&mut self, flow: &Flow<'_>, doubled: bool) {
        let sides = flow.sides;
        let packets = sides[0].sent.packets.0 + sides[1].sent.packets.0;
        self.packets += packets;
        if !sides.iter().all(Side::spoke) {
            return;
        }
        // One snaplen cuts both directions at the same length.
        let short =
            |side: usize| sides[side].has(sign::CUT_SHORT) && !sides[side].has(sign::KEPT_LONG);
        if (short(0) && sides[1].has(sign::KEPT_LONG))
            || (short(1) && sides[0].has(sign::KEPT_LONG))
        {
            self.cut_one_way += packets;
        }
        let vlans =
            [0, 1].map(|side| flow.links(side).flat_map(Link::vlans).collect::<BTreeSet<u32>>());
        if vlans.iter().any(|v| !v.is_empty()) && vlans[0].is_disjoint(&vlans[1]) {
            self.split += packets;
        }
        // Only where the opening was seen did the acknowledged bytes begin inside the capture.
        let opened = [0, 1].map(|s: usize| sides[s].has(sign::SYN) || sides[s].has(sign::SYN_ACK));
        // A port that is used again has two ranges of numbers, and a gap between them that nobody sent.
        // A SYN sent again looks the same, and costs the estimate a flow.
        let single = if doubled { 2 } else { 1 };
        let again = sides.iter().any(|side| side.syns.0 > single);
        if opened != [true, true] || again {
            return;
        }
        for side in 0..2 {
            let sent = sides[side].sent.payload.0;
            let Some(width) = sides[1 - side].acked.width() else { continue };
            // Numbers that went past zero span nearly everything; such a flow says nothing.
            if width > u32::MAX / 2 {
                continue;
            }
            // A FIN takes a number of its own.
            let acked = u64::from(width).saturating_sub(u64::from(sides[side].has(sign::FIN)));
            if acked == 0 {
                continue;
            }
            let unseen = acked.saturating_sub(sent);
            // A single flow that lacks more than it shows is no loss: the port was used again, or
            // somebody forged numbers.
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

/// Facts about the whole capture that single flows are read with.
#[derive(Default)]
pub struct Survey {
    /// From where the capture looks at the traffic.
    pub vantage: Vantage,
    services: HashSet<(Endpoint, Transport), Seed>,
    asks: HashMap<(Endpoint, u16, Transport), Min, Seed>,
    presences: HashMap<IpAddr, Presence, Seed>,
    /// Pairs (silent, peer) where the peer acknowledges what the capture never shows.
    blind: HashSet<(IpAddr, IpAddr), Seed>,
    sight: Sight,
}

/// What limits the view of the whole capture.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sight {
    /// A filter was on: what is not there may have been left out.
    pub filtered: bool,
    /// Packets were seen twice.
    pub doubled: bool,
    /// Time of the latest frame.
    pub end: Option<Nanos>,
}

impl Survey {
    pub(super) fn new(sight: Sight) -> Self {
        Self { sight, ..Self::default() }
    }

    /// How an address was seen.
    pub fn presence(&self, address: IpAddr) -> Option<&Presence> {
        self.presences.get(&address)
    }

    /// All addresses seen, in order.
    pub fn presences(&self) -> BTreeMap<IpAddr, &Presence> {
        self.presences.iter().map(|(address, presence)| (*address, presence)).collect()
    }

    /// Whether the capture shows that it could see what `silent` sends to `peer`'s side of the span in
    /// answer to what it was sent at `asked`: it shows `silent` sending to somebody, or `peer` being
    /// sent something by somebody; nothing shows that it misses what goes between the two; and it
    /// goes on long enough for an answer.
    pub(super) fn could_see(&self, silent: IpAddr, peer: IpAddr, asked: Min) -> bool {
        let in_time = match (asked.get(), self.sight.end) {
            (Some(asked), Some(end)) => end.saturating_sub(asked) >= TIME_TO_ANSWER,
            _ => true,
        };
        in_time
            && !self.sight.filtered
            && !self.blind.contains(&(silent, peer))
            && (self.presence(silent).is_some_and(|p| p.unicast_sent.0 > 0)
                || self.presence(peer).is_some_and(|p| p.received.packets.0 > 0))
    }

    /// Whether another flow proves by handshake that the endpoint serves.
    pub(super) fn serves(&self, endpoint: Endpoint, transport: Transport) -> bool {
        self.services.contains(&(endpoint, transport))
    }

    /// The side of a unicast flow that had asked the other's port by broadcast.
    pub(super) fn broadcast_asker(&self, flow: &Flow<'_>) -> Option<usize> {
        let transport = flow.key.transport();
        if transport != Transport::UDP {
            return None;
        }
        let asked = [0, 1].map(|c: usize| {
            let (asker, answerer) = (flow.key.endpoint(c), flow.key.endpoint(1 - c));
            // A host without an address asks from the unspecified one and is answered at its new one.
            let nobody: IpAddr = match asker.addr {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let answered = flow.sides[1 - c].first.get();
            [asker.addr, nobody].into_iter().any(|address| {
                let ask = (Endpoint::new(address, asker.port), answerer.port, transport);
                let asked = self.asks.get(&ask).and_then(|a| a.get());
                matches!((asked, answered), (Some(a), Some(b)) if a <= b)
            })
        });
        match asked {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    pub(super) fn add(&mut self, flow: &Flow<'_>, lens: &dyn Lens) {
        self.vantage.add(flow, self.sight.doubled);
        let transport = flow.key.transport();
        let broadcast = broadcast_sender(flow, lens);
        if let Some(side) = broadcast {
            let ask = (flow.key.endpoint(side), flow.key.endpoint(1 - side).port, transport);
            self.asks.entry(ask).or_default().merge(&flow.sides[side].first);
        } else if transport == Transport::TCP
            && let Some(client) = handshake(flow)
        {
            self.services.insert((flow.key.endpoint(1 - client), transport));
        }
        for side in 0..2 {
            let (sender, target) = (flow.key.endpoint(side).addr, flow.key.endpoint(1 - side).addr);
            let silent = !flow.sides[1 - side].spoke();
            let macs = flow.links(side).map(|l| l.source).filter(|m| *m != Mac::NONE);
            self.count(sender, target, &flow.sides[side], broadcast == Some(side), silent, macs);
        }
    }

    pub(super) fn add_loose(&mut self, flows: &Flows, lens: &dyn Lens) {
        for ((src, dst, _), side) in &flows.loose {
            self.count(
                *src,
                *dst,
                side,
                side.has(sign::BROADCAST) || is_group(*dst) || lens.is_broadcast(*dst),
                false,
                [].into_iter(),
            );
        }
        for ((address, mac), claim) in &flows.claims {
            let presence = self.presences.entry(*address).or_default();
            presence.sent.packets.merge(&claim.frames);
            presence.first.merge(&claim.first);
            presence.last.merge(&claim.last);
            presence.macs.insert(*mac);
        }
    }

    fn count(
        &mut self,
        sender: IpAddr,
        target: IpAddr,
        side: &Side,
        broadcast: bool,
        target_silent: bool,
        macs: impl Iterator<Item = Mac>,
    ) {
        if !side.spoke() {
            return;
        }
        let from = self.presences.entry(sender).or_default();
        from.sent.merge(&side.sent);
        from.first.merge(&side.first);
        from.last.merge(&side.last);
        macs.for_each(|mac| from.macs.insert(mac));
        if broadcast {
            return;
        }
        from.unicast_sent.merge(&side.sent.packets);
        let to = self.presences.entry(target).or_default();
        to.received.merge(&side.sent);
        to.first.merge(&side.first);
        to.last.merge(&side.last);
        // An acknowledgement to somebody who says nothing: he did, but not where we listen.
        if target_silent && side.has(sign::ACK) {
            to.answered_unseen = true;
            self.blind.insert((target, sender));
        }
    }
}
