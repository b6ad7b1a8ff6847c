//! What the capture shows beyond single flows: who serves, who asked everybody, who was seen.

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
    /// Packets it sent, broadcasts and address claims (ARP) among them.
    pub sent: Amount,
    /// Packets sent to it alone.
    pub received: Amount,
    /// Packets it sent to one address.
    pub unicast_sent: Sum,
    /// When it sent those. Broadcasts and address claims, which anybody can make in its name, do not count.
    pub unicast_in: TimeSpan,
    /// It was sent something that only follows from an answer of its own.
    pub answered_unseen: bool,
    /// When it sent.
    pub sent_in: TimeSpan,
    /// When something was sent to it alone.
    pub received_in: TimeSpan,
    /// Packets of flows that it sent, and that were sent to it alone, which the capture cut short.
    pub cut: [Sum; 2],
    /// Hardware addresses that its frames came from.
    pub macs: BoundedSet<Mac, 4>,
    /// Some packet of its own had passed a router: its hop count is none that systems start with.
    pub routed: bool,
    /// It stays inside a host, and was seen on a wire all the same.
    pub on_wire: bool,
    /// The hop counts of its packets, those aside of TCP flows of which it sent nothing but resets.
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

/// From the first packet to the last.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TimeSpan {
    /// The earliest.
    pub first: Min,
    /// The latest.
    pub last: Max,
}

impl TimeSpan {
    /// Takes in one time.
    pub fn see(&mut self, time: Nanos) {
        self.first.see(time);
        self.last.see(time);
    }

    /// What of it lies between two times.
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

    /// How long it is, in nanoseconds.
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

/// The hop counts that systems send with (RFC 1700 and the stacks' own defaults).
const FRESH: [u8; 4] = [32, 64, 128, 255];

/// How long an answer may take, in nanoseconds. Silence younger than this when the capture ends, or
/// its time is cut off, means nothing.
const TIME_TO_ANSWER: Nanos = SECOND;

/// Whether a flow of addresses that stay inside a host was seen on a link with hardware addresses, or in a tunnel.
pub(super) fn is_loopback_on_wire(flow: &Flow<'_>) -> bool {
    let loopback = (0..2).any(|side| flow.key.endpoint(side).addr.is_loopback());
    loopback
        && (0..2).any(|side| {
            flow.links(side).any(|link| link.source != Mac::NONE || link.is_tunnelled())
        })
}

/// Whether a side of a TCP flow sent nothing but resets.
fn only_resets(side: &DirectionStats) -> bool {
    let others = flag::SYN | flag::SYN_ACK | flag::ACK | flag::DATA | flag::FIN;
    side.has(flag::RST) && !side.has(others)
}

/// Facts about the whole capture that single flows are read with.
#[derive(Default)]
pub struct CaptureIndex {
    /// From where the capture looks at the traffic.
    pub vantage: VisibilityStats,
    services: HashSet<(Endpoint, Transport), HashSeed>,
    asks: HashMap<(Endpoint, u16, Transport), Min, HashSeed>,
    presences: HashMap<IpAddr, HostActivity, HashSeed>,
    /// Pairs (silent, peer) where the peer acknowledges what the capture never shows.
    unseen_reply_pairs: HashSet<(IpAddr, IpAddr), HashSeed>,
    /// Addresses that acknowledge to anybody what the capture never shows.
    unseen_repliers: HashSet<IpAddr, HashSeed>,
    /// Services whose data somebody acknowledges and the capture never shows, and who does.
    hidden: HashMap<(Endpoint, Transport), BoundedSet<IpAddr, 2>, HashSeed>,
    /// Address claims (ARP, neighbour discovery), by who claims what and where.
    pub claims: BTreeMap<AddressBinding, AddressClaim>,
    /// Pairs of addresses, the lesser first, between which packets went whose ports were not captured, with their
    /// number.
    pub portless: BTreeMap<(IpAddr, IpAddr), u64>,
    /// Hardware addresses of routers: frames of at least three addresses come from them.
    routers: HashSet<Mac, HashSeed>,
    /// Flows whose handshake has times, and those of them whose times contradict its order.
    clocks: (u64, u64),
    sight: CaptureLimits,
    /// Times at which the capture broke off before its end.
    cuts: BTreeSet<Nanos>,
}

/// What limits the view of the whole capture.
#[derive(Clone, Copy, Default, Debug)]
pub struct CaptureLimits {
    /// A filter was on: what is not there may have been left out.
    pub filtered: bool,
    /// Packets were seen twice.
    pub doubled: bool,
    /// How far apart the same packets were seen twice, in nanoseconds, where two links saw them by two clocks.
    pub apart: Option<Nanos>,
    /// Time of the earliest frame.
    pub start: Option<Nanos>,
    /// Time of the latest frame.
    pub end: Option<Nanos>,
}

/// How much earlier than what it follows a packet may be stamped, in nanoseconds.
const LATE: Nanos = SECOND / 2;

/// How far the hop counts of two packets of one sender may be apart: ways through a network differ a little.
pub(super) const SAME_WAY: u8 = 2;

impl CaptureIndex {
    pub(super) fn new(sight: CaptureLimits) -> Self {
        Self { sight, ..Self::default() }
    }

    /// How an address was seen.
    pub fn presence(&self, address: IpAddr) -> Option<&HostActivity> {
        self.presences.get(&address)
    }

    /// Whether anything was seen that stays inside a host.
    pub fn saw_loopback(&self) -> bool {
        self.presences.iter().any(|(address, seen)| address.is_loopback() && !seen.on_wire)
    }

    /// All addresses seen, in order.
    pub fn presences(&self) -> BTreeMap<IpAddr, &HostActivity> {
        self.presences.iter().map(|(address, presence)| (*address, presence)).collect()
    }

    /// Time of the latest frame, by the earliest of two clocks.
    pub(super) fn end(&self) -> Option<Nanos> {
        self.sight.end.map(|end| end.saturating_sub(self.sight.apart.unwrap_or(0)))
    }

    /// How far apart the same packets were seen twice, in nanoseconds, where two links saw them by two clocks.
    pub fn apart(&self) -> Option<Nanos> {
        self.sight.apart
    }

    /// Whether handshakes show that the clocks of two files or interfaces differ.
    pub fn has_doubtful_clocks(&self) -> bool {
        let (timed, contradict) = self.clocks;
        contradict > 0 && contradict * 20 >= timed
    }

    /// Whether frames of several addresses come from a hardware address.
    pub fn is_router(&self, mac: Mac) -> bool {
        self.routers.contains(&mac)
    }

    /// Whether the capture shows that it could see what `silent` sends to `peer`'s side of the span in
    /// answer to what it was sent at `asked`: it shows `silent` sending to somebody, or `peer` being
    /// sent something by somebody; nothing shows that it misses what goes between the two, or what that port says to
    /// others; and it goes on long enough for an answer.
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
        // An answer to what was asked shortly before a gap fell into it.
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

    /// Whether the resets of a side that sent nothing else came another way than everything else of its address: no
    /// hop count of them is near one of the others.
    pub(super) fn is_foreign_reset(&self, flow: &Flow<'_>, side: usize) -> bool {
        let Some(presence) = self.presence(flow.key.endpoint(side).addr) else { return false };
        let known: Vec<u8> = presence.ttl.iter().copied().collect();
        let foreign = |ttl: u8| known.iter().all(|known| known.abs_diff(ttl) > SAME_WAY);
        let mut links = flow.links(side).peekable();
        !known.is_empty() && links.peek().is_some() && links.all(|link| foreign(link.ttl))
    }

    /// Whether the capture shows nothing of what is sent to an address that was sent something: it acknowledges
    /// packets, and none to it alone was ever seen.
    fn is_hidden_from(&self, peer: IpAddr) -> bool {
        let received = self.presence(peer).map_or(0, |presence| presence.received.packets.0);
        received == 0 && self.unseen_repliers.contains(&peer)
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
        self.unseen_reply_pairs.extend(other.unseen_reply_pairs);
        self.unseen_repliers.extend(other.unseen_repliers);
        for (service, clients) in other.hidden {
            self.hidden.entry(service).or_default().merge(&clients);
        }
        self.clocks = (self.clocks.0 + other.clocks.0, self.clocks.1 + other.clocks.1);
    }

    /// Concludes what only all flows together show: which hardware addresses are routers'.
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
        // What anybody may have wrapped shows nothing of the farm.
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
            let (sender, target) = (flow.key.endpoint(side).addr, flow.key.endpoint(1 - side).addr);
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
            // Resets alone may come from a firewall in somebody's name.
            let sent = &flow.sides[side];
            // To a group, and between neighbours, protocols have hop counts of their own.
            let ordinary = !to_all && (transport.has_ports() || transport == Transport::ICMP);
            if ordinary && sent.spoke() && !(transport == Transport::TCP && only_resets(sent)) {
                let presence = self.presences.entry(sender).or_default();
                flow.links(side).for_each(|link| presence.ttl.insert(link.ttl));
            }
        }
    }

    /// Compares the times of an opening with its order: an answer stamped before what it answers is another clock's.
    fn compare_clocks(&mut self, flow: &Flow<'_>, client: usize) {
        let (asks, answers) = (&flow.sides[client], &flow.sides[1 - client]);
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

    /// Notes services whose data is acknowledged and never seen: their answers go another way (direct server return).
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
            // A message of neighbour discovery is a packet of a flow, and counts for its sender.
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
        // An acknowledgement to somebody who says nothing: he did, but not where we listen.
        if target_silent && side.has(flag::ACK) {
            to.answered_unseen = true;
            self.unseen_reply_pairs.insert((target, sender));
            self.unseen_repliers.insert(sender);
        }
    }
}
