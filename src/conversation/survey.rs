//! What the capture shows beyond single flows: who serves, who asked everybody, who was seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::direction::{broadcast_sender, handshake, is_group};
use super::{Lens, Vantage};
use crate::flow::{Amount, Claim, Flow, Flows, Seed, Side, sign};
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
    /// When it sent those. Broadcasts and address claims, which anybody can make in its name, do not count.
    pub unicast_in: Window,
    /// It was sent something that only follows from an answer of its own.
    pub answered_unseen: bool,
    /// When it sent.
    pub sent_in: Window,
    /// When something was sent to it alone.
    pub received_in: Window,
    /// Packets of flows that it sent, and that were sent to it alone, which the capture cut short.
    pub cut: [Sum; 2],
    /// Hardware addresses that its frames came from.
    pub macs: AtMost<Mac, 4>,
    /// Some packet of its own had passed a router: its hop count is none that systems start with.
    pub routed: bool,
}

impl Merge for Presence {
    fn merge(&mut self, other: &Self) {
        self.sent.merge(&other.sent);
        self.received.merge(&other.received);
        self.unicast_sent.merge(&other.unicast_sent);
        self.answered_unseen |= other.answered_unseen;
        self.unicast_in.merge(&other.unicast_in);
        self.sent_in.merge(&other.sent_in);
        self.received_in.merge(&other.received_in);
        self.cut.iter_mut().zip(&other.cut).for_each(|(mine, theirs)| mine.merge(theirs));
        self.macs.merge(&other.macs);
        self.routed |= other.routed;
    }
}

/// From the first packet to the last.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Window {
    /// The earliest.
    pub first: Min,
    /// The latest.
    pub last: Max,
}

impl Window {
    /// How long it is, in nanoseconds.
    pub fn length(&self) -> Option<Nanos> {
        Some(self.last.get()?.saturating_sub(self.first.get()?))
    }
}

impl Merge for Window {
    fn merge(&mut self, other: &Self) {
        self.first.merge(&other.first);
        self.last.merge(&other.last);
    }
}

/// The hop counts that systems send with (RFC 1700 and the stacks' own defaults).
const FRESH: [u8; 4] = [32, 64, 128, 255];

/// How long an answer may take, in nanoseconds. Silence younger than this when the capture ends, or
/// its time is cut off, means nothing.
const TIME_TO_ANSWER: Nanos = SECOND;

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
    /// Addresses that acknowledge to anybody what the capture never shows.
    deaf: HashSet<IpAddr, Seed>,
    /// Address claims (ARP, neighbour discovery), by address and who claims it.
    pub claims: BTreeMap<(IpAddr, Mac), Claim>,
    sight: Sight,
    /// Times at which the capture broke off before its end.
    cuts: BTreeSet<Nanos>,
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

    /// Whether anything was seen that stays inside a host.
    pub fn saw_loopback(&self) -> bool {
        self.presences.keys().any(IpAddr::is_loopback)
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
        // An answer to what was asked shortly before a gap fell into it.
        let in_time = in_time
            && asked.get().is_none_or(|asked| {
                let answer = asked..asked.saturating_add(TIME_TO_ANSWER);
                self.cuts.range(answer).next().is_none()
            });
        in_time
            && !self.sight.filtered
            && !self.blind.contains(&(silent, peer))
            && !self.is_hidden_from(peer)
            && (self.presence(silent).is_some_and(|p| p.unicast_sent.0 > 0)
                || self.presence(peer).is_some_and(|p| p.received.packets.0 > 0))
    }

    /// Whether the capture shows nothing of what is sent to an address that was sent something: it acknowledges
    /// packets, and none to it alone was ever seen.
    fn is_hidden_from(&self, peer: IpAddr) -> bool {
        let received = self.presence(peer).map_or(0, |presence| presence.received.packets.0);
        received == 0 && self.deaf.contains(&peer)
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

    /// Takes in what another part of the flows shows.
    pub(super) fn merge(&mut self, other: Self) {
        self.vantage.merge(&other.vantage);
        self.services.extend(other.services);
        for (ask, first) in other.asks {
            self.asks.entry(ask).or_default().merge(&first);
        }
        if self.presences.is_empty() {
            self.presences = other.presences;
        } else {
            for (address, presence) in other.presences {
                self.presences.entry(address).or_default().merge(&presence);
            }
        }
        self.blind.extend(other.blind);
        self.deaf.extend(other.deaf);
    }

    pub(super) fn add(&mut self, flow: &Flow<'_>, lens: &dyn Lens, sight: Sight) {
        self.vantage.add(flow, sight.doubled);
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
            let to_all = broadcast == Some(side);
            self.count(sender, target, &flow.sides[side], to_all, silent, macs);
            if flow.cut[side] > 0 {
                self.presences.entry(sender).or_default().cut[0].add(flow.cut[side]);
                if !to_all {
                    self.presences.entry(target).or_default().cut[1].add(flow.cut[side]);
                }
            }
            if broadcast != Some(side) && flow.links(side).any(|l| !FRESH.contains(&l.hops)) {
                self.presences.entry(sender).or_default().routed = true;
            }
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
        self.claims.clone_from(&flows.claims);
        self.cuts.clone_from(&flows.cuts);
        for ((address, mac), claim) in &flows.claims {
            // A message of neighbour discovery is a packet of a flow, and counts for its sender.
            if address.is_ipv6() {
                continue;
            }
            let presence = self.presences.entry(*address).or_default();
            presence.sent.packets.merge(&claim.frames);
            presence.sent_in.merge(&Window { first: claim.first, last: claim.last });
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
        let window = Window { first: side.first, last: side.last };
        let from = self.presences.entry(sender).or_default();
        from.sent.merge(&side.sent);
        from.sent_in.merge(&window);
        macs.for_each(|mac| from.macs.insert(mac));
        if broadcast {
            return;
        }
        from.unicast_sent.merge(&side.sent.packets);
        from.unicast_in.merge(&window);
        let to = self.presences.entry(target).or_default();
        to.received.merge(&side.sent);
        to.received_in.merge(&window);
        // An acknowledgement to somebody who says nothing: he did, but not where we listen.
        if target_silent && side.has(sign::ACK) {
            to.answered_unseen = true;
            self.blind.insert((target, sender));
            self.deaf.insert(sender);
        }
    }
}
