//! What the capture shows beyond single flows: which endpoints serve, which hosts sent broadcasts,
//! and which addresses were seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::direction::{broadcast_sender, is_group, is_simultaneous, proved};
use super::{DirectionHints, VisibilityStats};
use crate::flow::{
    AddressBinding, AddressClaim, AddressPair, Amount, DirectionStats, Flow, HashSeed, Path,
    SideEvidence, flag,
};
use crate::model::{BoundedSet, Endpoint, Mac, Max, Merge, Min, Nanos, SECOND, Sum, Transport};

/// How an address was seen.
#[derive(Clone, Default, Debug)]
pub struct HostActivity {
    /// What it sent, including broadcasts and address claims (ARP).
    pub sent: Amount,
    /// What was sent to it by unicast.
    pub received: Amount,
    /// Number of packets that it sent by unicast.
    pub unicast_sent: Sum,
    /// When it sent those. Broadcasts and address claims do not count, because any host can forge
    /// them in its name.
    pub unicast_in: TimeSpan,
    /// Whether it was sent something that only follows from an answer of its own.
    pub answered_unseen: bool,
    /// When it sent anything.
    pub sent_in: TimeSpan,
    /// When something was sent to it by unicast.
    pub received_in: TimeSpan,
    /// Packets of flows that the capture cut short: those that it sent, and those sent to it by
    /// unicast.
    pub cut: [Sum; 2],
    /// Source hardware addresses of its frames.
    pub macs: BoundedSet<Mac, 4>,
    /// Whether at least one of its packets had passed a router: the hop count is not one that
    /// systems start with.
    pub routed: bool,
    /// Whether it is a loopback address that was seen on a wire.
    pub on_wire: bool,
    /// The hop counts of its packets, except in TCP flows in which it sent only resets.
    ttl: BoundedSet<u8, 8>,
}

impl Merge for HostActivity {
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
        self.ttl.merge(&other.ttl);
        self.on_wire |= other.on_wire;
    }
}

/// The time from the first packet to the last.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TimeSpan {
    /// The earliest time.
    pub first: Min,
    /// The latest time.
    pub last: Max,
}

impl TimeSpan {
    /// Includes one time.
    pub fn see(&mut self, time: Nanos) {
        self.first.see(time);
        self.last.see(time);
    }

    /// Returns the part of the span between two times.
    #[must_use]
    pub fn within(&self, start: Option<Nanos>, end: Option<Nanos>) -> Self {
        let (Some(first), Some(last)) = (self.first.get(), self.last.get()) else { return *self };
        let first = start.map_or(first, |start| first.max(start));
        let last = end.map_or(last, |end| last.min(end));
        let mut within = Self::default();
        if first <= last {
            within.see(first);
            within.see(last);
        }
        within
    }

    /// Returns its length in nanoseconds.
    pub fn length(&self) -> Option<Nanos> {
        Some(self.last.get()?.saturating_sub(self.first.get()?))
    }
}

impl Merge for TimeSpan {
    fn merge(&mut self, other: &Self) {
        self.first.merge(&other.first);
        self.last.merge(&other.last);
    }
}

/// The hop counts that systems send with (RFC 1700 and the defaults of network stacks).
const FRESH: [u8; 4] = [32, 64, 128, 255];

/// How long an answer may take, in nanoseconds. Silence that is shorter than this when the capture
/// ends, or when its time range is cut off, means nothing.
const TIME_TO_ANSWER: Nanos = SECOND;

/// Returns whether a flow with a loopback address was seen on a link with hardware addresses, or in
/// a tunnel.
pub(super) fn is_loopback_on_wire(flow: &Flow<'_>) -> bool {
    let loopback = (0..2).any(|side| flow.key.endpoint(side).addr.is_loopback());
    loopback
        && (0..2).any(|side| {
            flow.links(side).any(|link| link.source != Mac::NONE || link.is_tunnelled())
        })
}

/// Returns whether a side of a TCP flow sent only resets.
fn only_resets(side: &DirectionStats) -> bool {
    let others = flag::SYN | flag::SYN_ACK | flag::ACK | flag::DATA | flag::FIN;
    side.has(flag::RST) && !side.has(others)
}

/// Facts about the whole capture that the reading of single flows depends on.
#[derive(Default)]
pub struct CaptureIndex {
    /// What the capture shows of the traffic, and what it lost.
    pub vantage: VisibilityStats,
    services: HashSet<(Endpoint, Transport), HashSeed>,
    asks: HashMap<(Endpoint, u16, Transport), Min, HashSeed>,
    presences: HashMap<IpAddr, HostActivity, HashSeed>,
    /// Pairs (silent, peer) where the peer acknowledges packets that the capture never shows.
    unseen_reply_pairs: HashSet<(IpAddr, IpAddr), HashSeed>,
    /// Addresses that acknowledge packets, from any host, that the capture never shows.
    unseen_repliers: HashSet<IpAddr, HashSeed>,
    /// Services whose data is acknowledged but never shown, with the clients that acknowledge it.
    hidden: HashMap<(Endpoint, Transport), BoundedSet<IpAddr, 2>, HashSeed>,
    /// Address claims (ARP, neighbour discovery), by IP address, hardware address and place.
    pub claims: BTreeMap<AddressBinding, AddressClaim>,
    /// Number of packets whose ports were not captured, by pair of addresses, the lesser first.
    pub portless: BTreeMap<(IpAddr, IpAddr), u64>,
    /// Hardware addresses of routers: frames of at least three IP addresses come from them.
    routers: HashSet<Mac, HashSeed>,
    /// Number of flows whose handshake has timestamps, and of those whose timestamps contradict its
    /// order.
    clocks: (u64, u64),
    sight: CaptureLimits,
    /// Times at which the capture was interrupted before its end.
    cuts: BTreeSet<Nanos>,
}

/// What limits the view of the whole capture.
#[derive(Clone, Copy, Default, Debug)]
pub struct CaptureLimits {
    /// Whether a filter was on, so that missing packets may have been left out.
    pub filtered: bool,
    /// Whether packets were seen twice.
    pub doubled: bool,
    /// How far apart the two sightings of the same packets are, in nanoseconds, if two links with
    /// different clocks captured them.
    pub apart: Option<Nanos>,
    /// Time of the earliest frame.
    pub start: Option<Nanos>,
    /// Time of the latest frame.
    pub end: Option<Nanos>,
}

/// How much earlier a packet may be stamped than the packet that it follows, in nanoseconds.
const LATE: Nanos = SECOND / 2;

/// How far apart the hop counts of two packets of one sender may be, because paths through a
/// network differ slightly.
pub(super) const SAME_WAY: u8 = 2;

impl CaptureIndex {
    pub(super) fn new(sight: CaptureLimits) -> Self {
        Self { sight, ..Self::default() }
    }

    /// Returns how an address was seen.
    pub fn presence(&self, address: IpAddr) -> Option<&HostActivity> {
        self.presences.get(&address)
    }

    /// Returns whether loopback traffic was seen inside a host, not on a wire.
    pub fn saw_loopback(&self) -> bool {
        self.presences.iter().any(|(address, seen)| address.is_loopback() && !seen.on_wire)
    }

    /// Returns all addresses seen, in order.
    pub fn presences(&self) -> BTreeMap<IpAddr, &HostActivity> {
        self.presences.iter().map(|(address, presence)| (*address, presence)).collect()
    }

    /// Returns the time of the latest frame, by the earlier of two clocks.
    pub(super) fn end(&self) -> Option<Nanos> {
        self.sight.end.map(|end| end.saturating_sub(self.sight.apart.unwrap_or(0)))
    }

    /// Returns how far apart the two sightings of the same packets are, in nanoseconds, if two
    /// links with different clocks captured them.
    pub fn apart(&self) -> Option<Nanos> {
        self.sight.apart
    }

    /// Returns whether handshakes show that the clocks of two files or interfaces differ.
    pub fn has_doubtful_clocks(&self) -> bool {
        let (timed, contradict) = self.clocks;
        contradict > 0 && contradict * 20 >= timed
    }

    /// Returns whether frames of several IP addresses come from a hardware address.
    pub fn is_router(&self, mac: Mac) -> bool {
        self.routers.contains(&mac)
    }

    /// Returns whether the capture could have shown the answer of `silent` to `peer`, whose request
    /// was sent at `asked`.
    ///
    /// That is the case if the capture shows `silent` sending unicast packets, or `peer` receiving
    /// some, and continues long enough for an answer. A filter, or a sign that the capture misses
    /// the traffic between the two, replies of that port or everything sent to `peer`, rules it
    /// out.
    pub(super) fn could_see(
        &self,
        silent: Endpoint,
        transport: Transport,
        peer: IpAddr,
        asked: Min,
    ) -> bool {
        let in_time = match (asked.get(), self.end()) {
            (Some(asked), Some(end)) => end.saturating_sub(asked) >= TIME_TO_ANSWER,
            _ => true,
        };
        // An answer to a request shortly before a gap may fall into the gap.
        let in_time = in_time
            && asked.get().is_none_or(|asked| {
                let answer = asked..asked.saturating_add(TIME_TO_ANSWER);
                self.cuts.range(answer).next().is_none()
            });
        in_time
            && !self.sight.filtered
            && !self.unseen_reply_pairs.contains(&(silent.addr, peer))
            && !self.hidden.contains_key(&(silent, transport))
            && !self.is_hidden_from(peer)
            && (self.presence(silent.addr).is_some_and(|p| p.unicast_sent.0 > 0)
                || self.presence(peer).is_some_and(|p| p.received.packets.0 > 0))
    }

    /// Returns whether the resets of a side that sent nothing else took another path than the other
    /// packets of its address: none of their hop counts is close to any of the others.
    pub(super) fn is_foreign_reset(&self, flow: &Flow<'_>, side: usize) -> bool {
        let Some(presence) = self.presence(flow.key.endpoint(side).addr) else { return false };
        let known: Vec<u8> = presence.ttl.iter().copied().collect();
        let foreign = |ttl: u8| known.iter().all(|known| known.abs_diff(ttl) > SAME_WAY);
        let mut links = flow.links(side).peekable();
        !known.is_empty() && links.peek().is_some() && links.all(|link| foreign(link.ttl))
    }

    /// Returns whether the capture shows nothing that is sent to an address: the address
    /// acknowledges packets, but no unicast packet to it was seen.
    fn is_hidden_from(&self, peer: IpAddr) -> bool {
        let received = self.presence(peer).map_or(0, |presence| presence.received.packets.0);
        received == 0 && self.unseen_repliers.contains(&peer)
    }

    /// Returns whether the handshake of another flow proves that the endpoint serves.
    pub(super) fn serves(&self, endpoint: Endpoint, transport: Transport) -> bool {
        self.services.contains(&(endpoint, transport))
    }

    /// Returns the side of a unicast flow that earlier sent a broadcast to the other side's port.
    pub(super) fn broadcast_asker(&self, flow: &Flow<'_>) -> Option<usize> {
        let transport = flow.key.transport();
        if transport != Transport::UDP {
            return None;
        }
        let asked = [0, 1].map(|c: usize| {
            let asker = flow.key.endpoint(c);
            let answerer = flow.key.endpoint(1 - c);
            // A host without an address sends from the unspecified one and receives the answer at
            // its new one.
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

    /// Merges what another part of the flows shows.
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
        self.unseen_reply_pairs.extend(other.unseen_reply_pairs);
        self.unseen_repliers.extend(other.unseen_repliers);
        for (service, clients) in other.hidden {
            self.hidden.entry(service).or_default().merge(&clients);
        }
        self.clocks = (self.clocks.0 + other.clocks.0, self.clocks.1 + other.clocks.1);
    }

    /// Determines what only all flows together show: which hardware addresses belong to routers.
    pub(super) fn conclude(&mut self) {
        const SEVERAL: usize = 3;
        let mut behind = HashMap::<Mac, BoundedSet<IpAddr, SEVERAL>, HashSeed>::default();
        for (address, presence) in &self.presences {
            let macs = presence.macs.iter().filter(|_| !crate::model::is_link_local(*address));
            macs.for_each(|mac| behind.entry(*mac).or_default().insert(*address));
        }
        let routers = behind.into_iter().filter(|(_, behind)| behind.len() >= SEVERAL);
        self.routers = routers.map(|(mac, _)| mac).collect();
    }

    pub(super) fn add(&mut self, flow: &Flow<'_>, lens: &dyn DirectionHints, sight: CaptureLimits) {
        // Any host can forge the contents of a tunnel, so they prove nothing about the farm.
        if flow.key.path().is_inside() {
            return;
        }
        self.vantage.add(flow, sight.doubled);
        let transport = flow.key.transport();
        let broadcast = broadcast_sender(flow, lens);
        if let Some(side) = broadcast {
            let ask = (flow.key.endpoint(side), flow.key.endpoint(1 - side).port, transport);
            self.asks.entry(ask).or_default().merge(&flow.sides[side].first);
        } else if transport == Transport::TCP && !is_simultaneous(flow) {
            for (client, is_proved) in proved(flow).into_iter().enumerate() {
                if is_proved {
                    self.services.insert((flow.key.endpoint(1 - client), transport));
                    self.compare_clocks(flow, client);
                }
            }
        }
        for side in 0..2 {
            let sender = flow.key.endpoint(side).addr;
            let target = flow.key.endpoint(1 - side).addr;
            let silent = !flow.sides[1 - side].spoke();
            let macs = flow.links(side).map(|l| l.source).filter(|m| *m != Mac::NONE);
            let to_all = broadcast == Some(side);
            self.count(sender, target, &flow.sides[side], to_all, silent, macs);
            self.note_hidden(flow, side, silent);
            if sender.is_loopback() && is_loopback_on_wire(flow) {
                self.presences.entry(sender).or_default().on_wire = true;
            }
            if flow.cut[side] > 0 {
                self.presences.entry(sender).or_default().cut[0].add(flow.cut[side]);
                if !to_all {
                    self.presences.entry(target).or_default().cut[1].add(flow.cut[side]);
                }
            }
            if broadcast != Some(side) && flow.links(side).any(|l| !FRESH.contains(&l.ttl)) {
                self.presences.entry(sender).or_default().routed = true;
            }
            // Resets alone may come from a firewall that uses the address of the host.
            let sent = &flow.sides[side];
            // To groups and between neighbours, protocols use hop counts of their own.
            let ordinary = !to_all && (transport.has_ports() || transport == Transport::ICMP);
            if ordinary && sent.spoke() && !(transport == Transport::TCP && only_resets(sent)) {
                let presence = self.presences.entry(sender).or_default();
                flow.links(side).for_each(|link| presence.ttl.insert(link.ttl));
            }
        }
    }

    /// Compares the timestamps of a handshake with its order. An answer stamped before the packet
    /// that it answers was stamped by another clock.
    fn compare_clocks(&mut self, flow: &Flow<'_>, client: usize) {
        let asks = &flow.sides[client];
        let answers = &flow.sides[1 - client];
        if asks.has(flag::SEVERAL) || answers.has(flag::SEVERAL) {
            return;
        }
        let times = [asks.first.get(), answers.first.get(), asks.last.get()];
        let [Some(asked), Some(answered), Some(last)] = times else { return };
        self.clocks.0 += 1;
        let before = answered.saturating_add(LATE) < asked;
        let opening = flow.syn_acks(1 - client).map(|syn_ack| syn_ack.other.wrapping_add(1));
        let acknowledged = opening.into_iter().any(|number| asks.acked.holds(number));
        let after = acknowledged && last.saturating_add(LATE) < answered;
        self.clocks.1 += u64::from(before || after);
    }

    /// Notes services whose data is acknowledged but never seen, because their answers take another
    /// path (direct server return).
    fn note_hidden(&mut self, flow: &Flow<'_>, side: usize, target_silent: bool) {
        let sent = &flow.sides[side];
        if target_silent
            && flow.key.transport() == Transport::TCP
            && sent.has(flag::ACK)
            && sent.acked.width().is_some_and(|width| width > 0)
        {
            let service = (flow.key.endpoint(1 - side), Transport::TCP);
            let clients = self.hidden.entry(service).or_default();
            clients.insert(flow.key.endpoint(side).addr);
        }
    }

    pub(super) fn add_side(&mut self, evidence: &SideEvidence, lens: &dyn DirectionHints) {
        let plain = evidence.loose().filter(|(pair, _)| pair.path == Path::PLAIN);
        for (AddressPair { src, dst, transport, .. }, side) in plain {
            if transport.has_ports() {
                let pair = (*src.min(dst), *src.max(dst));
                *self.portless.entry(pair).or_default() += side.sent.packets.0;
            }
            self.count(
                *src,
                *dst,
                side,
                side.has(flag::BROADCAST) || is_group(*dst) || lens.is_broadcast(*dst),
                false,
                [].into_iter(),
            );
        }
        let plain = evidence.claims().filter(|(claimant, _)| claimant.path == Path::PLAIN);
        self.claims = plain.map(|(claimant, claim)| (*claimant, claim.clone())).collect();
        self.cuts.clone_from(evidence.cuts());
        for (AddressBinding { address, mac, .. }, claim) in &self.claims {
            // A neighbour discovery message is also a packet of a flow, where it already counts for
            // its sender.
            if address.is_ipv6() {
                continue;
            }
            let presence = self.presences.entry(*address).or_default();
            presence.sent.packets.merge(&claim.frames);
            presence.sent_in.merge(&TimeSpan { first: claim.first, last: claim.last });
            presence.macs.insert(*mac);
        }
    }

    fn count(
        &mut self,
        sender: IpAddr,
        target: IpAddr,
        side: &DirectionStats,
        broadcast: bool,
        target_silent: bool,
        macs: impl Iterator<Item = Mac>,
    ) {
        if !side.spoke() {
            return;
        }
        let window = TimeSpan { first: side.first, last: side.last };
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
        // The sender acknowledges a host that seems silent: the host did answer, but where the
        // capture does not see it.
        if target_silent && side.has(flag::ACK) {
            to.answered_unseen = true;
            self.unseen_reply_pairs.insert((target, sender));
            self.unseen_repliers.insert(sender);
        }
    }
}
