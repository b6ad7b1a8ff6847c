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
const INITIAL_TTLS: [u8; 4] = [32, 64, 128, 255];

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
    pub visibility: VisibilityStats,
    services: HashSet<(Endpoint, Transport), HashSeed>,
    /// When a host first sent a broadcast from an endpoint to a port.
    broadcast_requests: HashMap<(Endpoint, u16, Transport), Min, HashSeed>,
    presences: HashMap<IpAddr, HostActivity, HashSeed>,
    /// Pairs (silent, peer) where the peer acknowledges packets that the capture never shows.
    unseen_reply_pairs: HashSet<(IpAddr, IpAddr), HashSeed>,
    /// Addresses that acknowledge packets, from any host, that the capture never shows.
    unseen_repliers: HashSet<IpAddr, HashSeed>,
    /// Services whose data is acknowledged but never shown, with the clients that acknowledge it.
    hidden_services: HashMap<(Endpoint, Transport), BoundedSet<IpAddr, 2>, HashSeed>,
    /// Address claims (ARP, neighbour discovery), by IP address, hardware address and place.
    pub claims: BTreeMap<AddressBinding, AddressClaim>,
    /// Number of packets whose ports were not captured, by pair of addresses, the lesser first.
    pub portless: BTreeMap<(IpAddr, IpAddr), u64>,
    /// Hardware addresses of routers: frames of at least three IP addresses come from them.
    routers: HashSet<Mac, HashSeed>,
    /// Number of flows whose handshake has timestamps, and of those whose timestamps contradict its
    /// order.
    clocks: (u64, u64),
    limits: CaptureLimits,
    /// Times at which the capture was interrupted before its end.
    cuts: BTreeSet<Nanos>,
}

/// What one host sent to another.
struct SentTraffic<'a, M> {
    sender: IpAddr,
    target: IpAddr,
    stats: &'a DirectionStats,
    is_broadcast: bool,
    /// Whether the capture shows nothing that the target sent to the sender.
    is_target_silent: bool,
    /// The source hardware addresses of the frames.
    macs: M,
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
    pub clock_offset: Option<Nanos>,
    /// Time of the earliest frame.
    pub start: Option<Nanos>,
    /// Time of the latest frame.
    pub end: Option<Nanos>,
}

/// How much earlier a packet may be stamped than the packet that it follows, in nanoseconds.
const CLOCK_TOLERANCE: Nanos = SECOND / 2;

/// How far apart the hop counts of two packets of one sender may be, because paths through a
/// network differ slightly.
pub(super) const TTL_TOLERANCE: u8 = 2;

impl CaptureIndex {
    pub(super) fn new(limits: CaptureLimits) -> Self {
        Self { limits, ..Self::default() }
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
        self.limits.end.map(|end| end.saturating_sub(self.limits.clock_offset.unwrap_or(0)))
    }

    /// Returns how far apart the two sightings of the same packets are, in nanoseconds, if two
    /// links with different clocks captured them.
    pub fn clock_offset(&self) -> Option<Nanos> {
        self.limits.clock_offset
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
    /// was sent at `requested`.
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
        requested: Min,
    ) -> bool {
        let in_time = match (requested.get(), self.end()) {
            (Some(requested), Some(end)) => end.saturating_sub(requested) >= TIME_TO_ANSWER,
            _ => true,
        };
        // An answer to a request shortly before a gap may fall into the gap.
        let in_time = in_time
            && requested.get().is_none_or(|requested| {
                let answer = requested..requested.saturating_add(TIME_TO_ANSWER);
                self.cuts.range(answer).next().is_none()
            });
        in_time
            && !self.limits.filtered
            && !self.unseen_reply_pairs.contains(&(silent.addr, peer))
            && !self.hidden_services.contains_key(&(silent, transport))
            && !self.is_hidden_from(peer)
            && (self.presence(silent.addr).is_some_and(|p| p.unicast_sent.0 > 0)
                || self.presence(peer).is_some_and(|p| p.received.packets.0 > 0))
    }

    /// Returns whether the resets of a side that sent nothing else took another path than the other
    /// packets of its address: none of their hop counts is close to any of the others.
    pub(super) fn is_foreign_reset(&self, flow: &Flow<'_>, side: usize) -> bool {
        let Some(presence) = self.presence(flow.key.endpoint(side).addr) else { return false };
        let known: Vec<u8> = presence.ttl.iter().copied().collect();
        let foreign = |ttl: u8| known.iter().all(|known| known.abs_diff(ttl) > TTL_TOLERANCE);
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
    pub(super) fn broadcast_requester(&self, flow: &Flow<'_>) -> Option<usize> {
        let transport = flow.key.transport();
        if transport != Transport::UDP {
            return None;
        }
        let sent_request = [0, 1].map(|side: usize| {
            let requester = flow.key.endpoint(side);
            let responder = flow.key.endpoint(1 - side);
            // A host without an address sends from the unspecified one and receives the answer at
            // its new one.
            let unspecified: IpAddr = match requester.addr {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let answered = flow.sides[1 - side].first.get();
            [requester.addr, unspecified].into_iter().any(|address| {
                let request = (Endpoint::new(address, requester.port), responder.port, transport);
                let requested = self.broadcast_requests.get(&request).and_then(|a| a.get());
                matches!((requested, answered), (Some(a), Some(b)) if a <= b)
            })
        });
        match sent_request {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// Merges what another part of the flows shows.
    pub(super) fn merge(&mut self, other: Self) {
        self.visibility.merge(&other.visibility);
        self.services.extend(other.services);
        for (request, first) in other.broadcast_requests {
            self.broadcast_requests.entry(request).or_default().merge(&first);
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
        for (service, clients) in other.hidden_services {
            self.hidden_services.entry(service).or_default().merge(&clients);
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

    pub(super) fn add(
        &mut self,
        flow: &Flow<'_>,
        hints: &dyn DirectionHints,
        limits: CaptureLimits,
    ) {
        // Any host can forge the contents of a tunnel, so they prove nothing about the farm.
        if flow.key.path().is_inside() {
            return;
        }
        self.visibility.add(flow, limits);
        let transport = flow.key.transport();
        let broadcast = broadcast_sender(flow, hints);
        if let Some(side) = broadcast {
            let request = (flow.key.endpoint(side), flow.key.endpoint(1 - side).port, transport);
            self.broadcast_requests.entry(request).or_default().merge(&flow.sides[side].first);
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
            let is_broadcast = broadcast == Some(side);
            self.count(SentTraffic {
                sender,
                target,
                stats: &flow.sides[side],
                is_broadcast,
                is_target_silent: !flow.sides[1 - side].has_packets(),
                macs: flow.links(side).map(|l| l.source).filter(|m| *m != Mac::NONE),
            });
            self.note_hidden(flow, side);
            if sender.is_loopback() && is_loopback_on_wire(flow) {
                self.presences.entry(sender).or_default().on_wire = true;
            }
            if flow.cut[side] > 0 {
                self.presences.entry(sender).or_default().cut[0].add(flow.cut[side]);
                if !is_broadcast {
                    self.presences.entry(target).or_default().cut[1].add(flow.cut[side]);
                }
            }
            if !is_broadcast && flow.links(side).any(|l| !INITIAL_TTLS.contains(&l.ttl)) {
                self.presences.entry(sender).or_default().routed = true;
            }
            // Resets alone may come from a firewall that uses the address of the host.
            let sent = &flow.sides[side];
            // To groups and between neighbours, protocols use hop counts of their own.
            let is_ordinary =
                !is_broadcast && (transport.has_ports() || transport == Transport::ICMP);
            if is_ordinary
                && sent.has_packets()
                && !(transport == Transport::TCP && only_resets(sent))
            {
                let presence = self.presences.entry(sender).or_default();
                flow.links(side).for_each(|link| presence.ttl.insert(link.ttl));
            }
        }
    }

    /// Compares the timestamps of a handshake with its order. An answer stamped before the packet
    /// that it answers was stamped by another clock.
    fn compare_clocks(&mut self, flow: &Flow<'_>, client: usize) {
        let requests = &flow.sides[client];
        let answers = &flow.sides[1 - client];
        if requests.has(flag::SEVERAL) || answers.has(flag::SEVERAL) {
            return;
        }
        let times = [requests.first.get(), answers.first.get(), requests.last.get()];
        let [Some(requested), Some(answered), Some(last)] = times else { return };
        self.clocks.0 += 1;
        let before = answered.saturating_add(CLOCK_TOLERANCE) < requested;
        let opening = flow.syn_acks(1 - client).map(|syn_ack| syn_ack.other.wrapping_add(1));
        let acknowledged = opening.into_iter().any(|number| requests.acked.holds(number));
        let after = acknowledged && last.saturating_add(CLOCK_TOLERANCE) < answered;
        self.clocks.1 += u64::from(before || after);
    }

    /// Notes services whose data is acknowledged but never seen, because their answers take another
    /// path (direct server return).
    fn note_hidden(&mut self, flow: &Flow<'_>, side: usize) {
        let sent = &flow.sides[side];
        if !flow.sides[1 - side].has_packets()
            && flow.key.transport() == Transport::TCP
            && sent.has(flag::ACK)
            && sent.acked.width().is_some_and(|width| width > 0)
        {
            let service = (flow.key.endpoint(1 - side), Transport::TCP);
            let clients = self.hidden_services.entry(service).or_default();
            clients.insert(flow.key.endpoint(side).addr);
        }
    }

    pub(super) fn add_side(&mut self, evidence: &SideEvidence, hints: &dyn DirectionHints) {
        let plain = evidence.portless().filter(|(pair, _)| pair.path == Path::PLAIN);
        for (AddressPair { src, dst, transport, .. }, side) in plain {
            if transport.has_ports() {
                let pair = (*src.min(dst), *src.max(dst));
                *self.portless.entry(pair).or_default() += side.sent.packets.0;
            }
            let to_all = side.has(flag::BROADCAST) || is_group(*dst);
            self.count(SentTraffic {
                sender: *src,
                target: *dst,
                stats: side,
                is_broadcast: to_all || hints.is_broadcast(*dst),
                is_target_silent: false,
                macs: [].into_iter(),
            });
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

    /// Counts traffic for its sender and its target.
    fn count(&mut self, traffic: SentTraffic<'_, impl Iterator<Item = Mac>>) {
        let SentTraffic { sender, target, stats, is_broadcast, is_target_silent, macs } = traffic;
        if !stats.has_packets() {
            return;
        }
        let span = TimeSpan { first: stats.first, last: stats.last };
        let from = self.presences.entry(sender).or_default();
        from.sent.merge(&stats.sent);
        from.sent_in.merge(&span);
        macs.for_each(|mac| from.macs.insert(mac));
        if is_broadcast {
            return;
        }
        from.unicast_sent.merge(&stats.sent.packets);
        from.unicast_in.merge(&span);
        let to = self.presences.entry(target).or_default();
        to.received.merge(&stats.sent);
        to.received_in.merge(&span);
        // The sender acknowledges a host that seems silent: the host did answer, but where the
        // capture does not see it.
        if is_target_silent && stats.has(flag::ACK) {
            to.answered_unseen = true;
            self.unseen_reply_pairs.insert((target, sender));
            self.unseen_repliers.insert(sender);
        }
    }
}
