//! Evidence from the whole capture rather than individual flows: which endpoints accept
//! connections, which hosts sent broadcasts, and which addresses were seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use super::by_address::CountsByAddress;
use super::common_ends::CommonEnds;
use super::flow_facts::{
    acknowledges_opening, broadcast_sender, is_group, is_loopback_on_wire, is_simultaneous,
    only_resets, proved, time_to_answer,
};
use super::host_activity::HostActivities;
use super::packet_kinds::PacketKinds;
use super::vantage_set::Sightings;
use super::visibility::VisibilityCounts;
use super::{
    ActivePeriods, CaptureLimits, DirectionHints, HostActivity, TimeSpan, VisibilityStats,
};
use crate::flow::{
    AddressBinding, AddressClaim, AddressPair, DirectionStats, Encapsulation, Flow, HashSeed, Path,
    SideEvidence, flag,
};
use crate::model::{
    BoundedSet, DoubtedTimes, EPHEMERAL_PORTS, Endpoint, Mac, Merge, Min, Nanos, SECOND, Sum,
    Transport, network_around,
};

/// The usual initial TTLs and hop limits (RFC 1700 and the defaults of network stacks).
const INITIAL_TTLS: [u8; 4] = [32, 64, 128, 255];

/// The time after a broadcast in which a reply to it may arrive, in nanoseconds. Devices delay
/// their replies at random so that they do not arrive at the same time, by up to five seconds for
/// SSDP (UPnP Device Architecture 2.0, 1.3.3).
const TIME_TO_ANSWER_BROADCAST: Nanos = 10 * SECOND;

/// The ports of a DHCP client and of a DHCP server (RFC 2131).
const DHCP_PORTS: [u16; 2] = [68, 67];

/// The maximum number of packets of a one-way flow that counts as the reply to broadcasts although
/// it goes on after the time for replies.
const MAX_LATE_REPLIES: u64 = 100;

/// The broadcasts of one endpoint.
#[derive(Clone, Copy)]
struct BroadcastRequests {
    /// Times of the broadcasts.
    span: TimeSpan,
    /// The lowest and the highest port to which they were sent. Nearly all endpoints have only one.
    ports: [u16; 2],
}

impl Merge for BroadcastRequests {
    fn merge(&mut self, other: &Self) {
        self.span.merge(&other.span);
        self.ports[0] = self.ports[0].min(other.ports[0]);
        self.ports[1] = self.ports[1].max(other.ports[1]);
    }
}

/// How a packet may be the reply to a broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BroadcastReply {
    /// It comes from the port to which the broadcast was sent, soon after it, and goes to another
    /// port.
    Proved,
    /// It comes from the port to which broadcasts were sent. Either the requester has the same
    /// port, so that the packet may also be a request, or the broadcasts before and after it are
    /// not close.
    FromPort,
    /// It comes from another port.
    FromOtherPort,
}

/// Facts about the whole capture that are needed to interpret individual flows.
#[derive(Default)]
pub struct CaptureIndex {
    /// How much of the traffic the capture shows, and how much it lost.
    pub visibility: VisibilityStats,
    visibility_counts: VisibilityCounts,
    /// The kinds of packets that the capture contains.
    kinds: PacketKinds,
    services: HashSet<(Endpoint, Transport), HashSeed>,
    /// The UDP broadcasts of each endpoint.
    broadcast_requests: HashMap<Endpoint, BroadcastRequests, HashSeed>,
    presences: HostActivities,
    /// Pairs (host, peer) where the peer acknowledges packets from the host that the capture never
    /// shows.
    unseen_reply_pairs: HashSet<(IpAddr, IpAddr), HashSeed>,
    /// Addresses that acknowledge packets that the capture never shows, whichever host sent them.
    unseen_repliers: HashSet<IpAddr, HashSeed>,
    /// Services whose data is acknowledged but never captured, with some of the clients that
    /// acknowledge it.
    hidden_services: HashMap<(Endpoint, Transport), BoundedSet<IpAddr, 8>, HashSeed>,
    /// For these clients, up to two of the listed hosts whose data they acknowledge although the
    /// capture shows no packets from these hosts.
    hidden_servers: HashMap<IpAddr, BoundedSet<IpAddr, 2>, HashSeed>,
    /// Address claims (ARP, neighbour discovery) per binding of an IP address to a hardware
    /// address.
    pub claims: BTreeMap<AddressBinding, AddressClaim>,
    /// Number of packets whose ports were not captured, per pair of addresses, lower address first.
    pub portless: BTreeMap<(IpAddr, IpAddr), u64>,
    /// Hardware addresses of routers, which send frames for at least three IP addresses.
    routers: HashSet<Mac, HashSeed>,
    clocks: HandshakeClocks,
    has_doubtful_clocks: bool,
    /// See [`Self::gateways`].
    gateways: OnceLock<BTreeSet<Mac>>,
    /// For each address, the hardware addresses that may be cards of one host, because frames of
    /// one side of a connection came from several of them. If there are too many, the lowest are
    /// kept.
    cards: HashMap<IpAddr, BoundedSet<Mac, MOST_CARDS>, HashSeed>,
    /// Addresses that sent frames of one connection from several hardware addresses, and reset it.
    reset_by_two: HashSet<IpAddr, HashSeed>,
    limits: CaptureLimits,
    /// The common ends of the unicast traffic in each period of `limits.periods`.
    period_ends: Vec<CommonEnds>,
    /// The pairs of listed hosts that exchanged packets, with one bit for each of the first 64
    /// periods in which they certainly did. The hosts are represented by their first addresses.
    pairs_by_period: HashMap<[IpAddr; 2], u64, HashSeed>,
    /// Times at which the capture was interrupted.
    cuts: BTreeSet<Nanos>,
    /// The vantage points that saw each group of flows.
    pub(super) sightings: Sightings,
    /// For each hardware address, the IP addresses that sent frames with it and whose activity is
    /// not recorded. If there are too many hardware addresses, the lowest are kept.
    forgotten: BTreeMap<Mac, BoundedSet<IpAddr, SEVERAL_BEHIND>>,
    /// Whether packets from or to an address whose activity is not recorded acknowledge packets
    /// that the capture never shows.
    forgot_unseen_reply: bool,
}

/// The minimum number of IP addresses whose frames come from one hardware address for it to count
/// as a router's.
const SEVERAL_BEHIND: usize = 3;

/// The maximum number of cards of one address that are kept.
const MOST_CARDS: usize = 16;

/// The maximum number of hardware addresses of senders whose activity is not recorded.
const MOST_FORGOTTEN: usize = 1 << 14;

/// The target of traffic.
#[derive(Clone, Copy)]
enum TrafficTarget {
    /// A broadcast or multicast address.
    Group,
    /// An address whose activity is not recorded, because its conversations are aggregated.
    Forgotten,
    /// The address at this position in [`HostActivities`].
    At(u32),
}

/// Traffic from one address to another address or to a group.
struct SentTraffic<'a, M> {
    sender: IpAddr,
    target: IpAddr,
    /// The position of the sender; `None` if its activity is not recorded.
    from: Option<u32>,
    to: TrafficTarget,
    stats: &'a DirectionStats,
    /// Whether the flow contains no packet from the target.
    is_target_silent: bool,
    /// Source hardware addresses of the frames.
    macs: M,
}

/// Returns no periods of activity for a listed address; `None` for any other.
fn active_periods(
    address: IpAddr,
    hints: &dyn DirectionHints,
    limits: &CaptureLimits,
) -> Option<Box<ActivePeriods>> {
    hints.is_listed(address).then(|| Box::new(ActivePeriods::new(limits)))
}

/// The tolerance for timestamps that contradict the order of packets, in nanoseconds.
const CLOCK_TOLERANCE: Nanos = SECOND / 2;

/// The tolerated difference between the TTLs of two packets from one sender, because paths through
/// a network differ slightly in length.
pub(super) const TTL_TOLERANCE: u8 = 2;

/// Handshakes whose timestamps were compared with the order of their packets.
#[derive(Default)]
struct HandshakeClocks {
    /// Number of these handshakes.
    timed: u64,
    /// Number of handshakes whose timestamps contradict the order.
    contradict: u64,
    /// The part of `contradict` that each unlisted address took part in. Its host may have sent
    /// other packets before the handshake.
    of_strangers: CountsByAddress<Sum>,
}

impl HandshakeClocks {
    /// Adds a handshake. `strangers` are its unlisted addresses.
    fn add(&mut self, contradicts: bool, strangers: impl Iterator<Item = IpAddr>) {
        self.timed += 1;
        if contradicts {
            self.contradict += 1;
            strangers.for_each(|address| self.of_strangers.of(address).add(1));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.timed += other.timed;
        self.contradict += other.contradict;
        self.of_strangers.merge(&other.of_strangers);
    }

    /// Returns whether at least 1 in 20 handshakes contradicts the order, without those of the
    /// unlisted address that took part in most of them.
    fn are_doubtful(&self) -> bool {
        let of_one = self.of_strangers.iter().map(|own| own.0).max().unwrap_or(0);
        let contradict = self.contradict.saturating_sub(of_one);
        contradict > 0 && contradict * 20 >= self.timed.saturating_sub(of_one)
    }
}

/// Returns whether the first packet of the side `server` is its SYN-ACK, as far as acknowledgement
/// numbers show: none of its packets acknowledges an earlier number, or one far above the client's
/// data. A packet from before the handshake, for example of an earlier connection on the same
/// ports, hardly acknowledges a number in this range.
fn begins_with_syn_ack(flow: &Flow<'_>, server: usize) -> bool {
    /// The number of bytes from the client that the capture may be missing.
    const LACKING: u64 = 1 << 24;
    let acked = flow.sides[server].acked;
    let sent = flow.sides[1 - server].sent.payload.0;
    let is_least = |number: u32| acked.least() == Some(number.wrapping_add(1));
    flow.syn_acks(server).any(|syn_ack| is_least(syn_ack.number))
        && acked.width().is_some_and(|width| u64::from(width) <= sent.saturating_add(LACKING))
}

impl CaptureIndex {
    pub(super) fn new(limits: CaptureLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Returns the traffic of an address, or `None` if the capture does not show the address.
    pub fn presence(&self, address: IpAddr) -> Option<&HostActivity> {
        self.presences.get(address)
    }

    /// Returns whether a filter was active: one that is known, or one that left only the segments
    /// that open and close TCP connections.
    pub fn is_filtered(&self) -> bool {
        self.limits.filtered
    }

    /// Returns whether the capture contains at least one packet twice.
    pub fn has_copies(&self) -> bool {
        self.limits.has_copies || self.limits.late_copies > 1
    }

    /// Returns how often the capture may contain the same packet of a flow: once for each sensor
    /// that saw the flow, or once for each capture without a sensor name, as far as they show the
    /// same packets. Their clocks may differ, so the time between two copies does not distinguish
    /// them from repetitions.
    pub(super) fn copies_of(&self, flow: &Flow<'_>) -> usize {
        let seen_from = self.sightings.from(&flow.key);
        let sensors = self.sightings.points.possible_members(seen_from).count();
        let least = if self.limits.has_copies { 2 } else { 1 };
        sensors.max(self.limits.late_copies).max(least)
    }

    /// Returns whether the capture contains only those TCP segments that open and close
    /// connections, so that a filter must have excluded the others.
    pub fn has_only_openings(&self) -> bool {
        self.kinds.are_only_openings()
    }

    /// Returns whether the capture contains no packets of a transport that every network has,
    /// except in undeclared tunnels. A filter may have excluded them.
    pub fn lacks(&self, transport: Transport) -> bool {
        self.kinds.lack(transport)
    }

    /// Returns whether the capture contains no packets of the IP version of an address, except in
    /// undeclared tunnels. A filter may have excluded them.
    pub fn lacks_version_of(&self, address: IpAddr) -> bool {
        self.kinds.lack_version_of(address)
    }

    /// Returns the periods that were captured without interruption, in order of time. Returns none
    /// if there is only one.
    pub fn periods(&self) -> &[(Nanos, Nanos)] {
        &self.limits.periods
    }

    /// Returns the pairs of listed hosts that exchanged packets, in no particular order, with one
    /// bit for each of the first 64 periods in which they certainly did.
    pub fn pairs_by_period(&self) -> impl Iterator<Item = (&[IpAddr; 2], &u64)> {
        self.pairs_by_period.iter()
    }

    /// Returns the periods that were captured without interruption and that show unicast traffic,
    /// each with the addresses that take part in all of this traffic. Of several addresses of a
    /// listed host, the first one in the inventory represents all.
    pub fn periods_with_ends(&self) -> impl Iterator<Item = ((Nanos, Nanos), &[IpAddr])> {
        let periods = self.limits.periods.iter().copied().zip(&self.period_ends);
        periods.filter_map(|(period, ends)| Some((period, ends.get()?)))
    }

    /// Returns the names of the IP versions that do not occur in the capture.
    pub fn lacking_versions(&self) -> Vec<&'static str> {
        let versions =
            [("IPv4", Ipv4Addr::UNSPECIFIED.into()), ("IPv6", Ipv6Addr::UNSPECIFIED.into())];
        let lacking = versions.into_iter().filter(|(_, address)| self.lacks_version_of(*address));
        lacking.map(|(name, _)| name).collect()
    }

    /// Returns whether loopback traffic was seen inside a host, not on a wire.
    pub fn saw_loopback(&self) -> bool {
        self.presences.iter().any(|(address, seen)| address.is_loopback() && !seen.on_wire)
    }

    /// Returns the traffic of all addresses, in ascending order of address.
    pub fn presences(&self) -> BTreeMap<IpAddr, &HostActivity> {
        self.presences.iter().collect()
    }

    /// Returns the traffic of all addresses, in no particular order. It is meant for sums, which
    /// do not depend on the order, because sorting takes memory and time if there are many
    /// addresses.
    pub fn unordered_presences(&self) -> impl Iterator<Item = (IpAddr, &HostActivity)> {
        self.presences.iter()
    }

    /// Returns the time of the latest frame. If two links with different clocks were captured,
    /// returns the time by the clock that is behind.
    pub(super) fn end(&self) -> Option<Nanos> {
        self.limits.end.map(|end| end.saturating_sub(self.limits.clock_offset.unwrap_or(0)))
    }

    /// Returns the times of frames whose timestamps are doubted.
    pub(super) fn doubted_times(&self) -> &DoubtedTimes {
        &self.limits.doubted
    }

    /// Returns the time between the two sightings of the same packet, in nanoseconds, if it was
    /// captured on two links with different clocks.
    pub fn clock_offset(&self) -> Option<Nanos> {
        self.limits.clock_offset
    }

    /// Returns whether at least 1 in 20 handshakes has timestamps that contradict the order of its
    /// packets, without those of any one unlisted address. Then the clocks of two files or
    /// interfaces differ.
    pub fn has_doubtful_clocks(&self) -> bool {
        self.has_doubtful_clocks
    }

    /// Returns the activity of each address.
    pub fn activities(&self) -> impl Iterator<Item = (IpAddr, &HostActivity)> {
        self.presences.iter()
    }

    /// Returns whether a hardware address sent frames for at least three IP addresses.
    pub fn is_router(&self, mac: Mac) -> bool {
        self.routers.contains(&mac)
    }

    /// Returns whether an address sent frames of one connection from several hardware addresses,
    /// and reset it. Another host with the same address may have sent the reset.
    pub fn is_reset_by_two(&self, address: IpAddr) -> bool {
        self.reset_by_two.contains(&address)
    }

    /// Returns whether a hardware address is one of several from which one side of a connection of
    /// this address sent its frames, so that they may be cards of one host.
    pub fn is_card(&self, address: IpAddr, mac: Mac) -> bool {
        self.cards.get(&address).is_some_and(|cards| cards.contains(&mac))
    }

    /// Returns the hardware addresses of routers to other networks: each sent frames for addresses
    /// in at least three networks (IPv4 /24, or IPv6 /64) that were seen behind no other hardware
    /// address. A host that takes over connections by forged ARP replies also sends frames for
    /// several addresses, but these have hardware addresses of their own. A host may have several
    /// addresses of its own, but hardly in three networks.
    pub fn gateways(&self) -> &BTreeSet<Mac> {
        self.gateways.get_or_init(|| self.find_gateways())
    }

    fn find_gateways(&self) -> BTreeSet<Mac> {
        let mut behind = BTreeMap::<(Mac, bool), BoundedSet<IpAddr, SEVERAL_BEHIND>>::new();
        for (address, presence) in self.presences.iter() {
            let mut macs = presence.macs.iter();
            if let (Some(mac), None) = (macs.next(), macs.next())
                && self.is_router(*mac)
                && !crate::model::is_link_local(address)
            {
                behind
                    .entry((*mac, address.is_ipv6()))
                    .or_default()
                    .insert(network_around(address));
            }
        }
        behind.retain(|_, networks| networks.len() >= SEVERAL_BEHIND);
        behind.into_keys().map(|(mac, _)| mac).collect()
    }

    /// Returns whether the capture could have shown a reply from the side `silent` of a flow to a
    /// request that the other side sent at `requested`.
    ///
    /// The capture must show unicast packets from the silent side or to the other, and must
    /// continue without interruption long enough for a reply. It could not have shown the reply if
    /// a filter was active, or if acknowledgements show that it misses the packets from one address
    /// to the other, or everything sent to the other side. If packets
    /// from or to any address whose activity is not recorded acknowledge packets that the capture
    /// never shows, the activity of both addresses must be recorded.
    pub(super) fn could_see(&self, flow: &Flow<'_>, silent_side: usize, requested: Min) -> bool {
        let time = time_to_answer(flow, silent_side);
        let peer = flow.key.endpoint(1 - silent_side).addr;
        let silent = flow.key.endpoint(silent_side);
        requested.get().is_none_or(|requested| self.is_watched_for(flow, requested, time))
            && !self.limits.filtered
            && !self.unseen_reply_pairs.contains(&(silent.addr, peer))
            && !self.is_hidden_from(peer)
            && (!self.forgot_unseen_reply
                || [silent.addr, peer].into_iter().all(|end| self.presence(end).is_some()))
            && (self.is_sending(silent.addr)
                || self.presence(peer).is_some_and(|p| p.received.packets.0 > 0))
    }

    /// Returns whether all inputs that may show a flow were captured without interruption from
    /// `from` on, for a duration in nanoseconds: the captures without the name of a sensor, and the
    /// sensors that saw the flow.
    pub(super) fn is_watched_for(&self, flow: &Flow<'_>, from: Nanos, duration: Nanos) -> bool {
        let until = from.saturating_add(duration);
        let is_out = |point| {
            let outages = self.limits.vantage_outages.get(point);
            outages.is_some_and(|outages| outages.overlap(from, until))
        };
        let points = || self.sightings.points.possible_members(self.sightings.from(&flow.key));
        self.end().is_none_or(|end| until <= end)
            && self.cuts.range(from..until).next().is_none()
            && !self.limits.outages.overlap(from, until)
            && (self.limits.vantage_outages.is_empty() || !points().any(is_out))
    }

    /// Returns whether the resets from a side that sent nothing else took a different path from the
    /// other packets of its address: their TTLs are not close to any of those that were seen at the
    /// same place, in frames with the same source hardware address. At another place, other routers
    /// are on the path.
    pub(super) fn is_foreign_reset(&self, flow: &Flow<'_>, side: usize) -> bool {
        let Some(presence) = self.presence(flow.key.endpoint(side).addr) else { return false };
        let is_foreign = |link: &Encapsulation| {
            let mut known = presence.ttls_at(link.source).peekable();
            known.peek().is_some() && known.all(|known| known.abs_diff(link.ttl) > TTL_TOLERANCE)
        };
        let mut links = flow.links(side).peekable();
        links.peek().is_some() && links.all(is_foreign)
    }

    /// Returns whether the capture may lack the replies of a service, because clients acknowledge
    /// some that it does not show. Any client can send such acknowledgements on its own.
    pub fn may_be_hidden_service(&self, service: Endpoint, transport: Transport) -> bool {
        self.hidden_services.contains_key(&(service, transport))
    }

    /// Returns whether the capture misses everything sent to an address: the address acknowledges
    /// packets, but no unicast packet to it was seen.
    fn is_hidden_from(&self, peer: IpAddr) -> bool {
        let received = self.presence(peer).map_or(0, |presence| presence.received.packets.0);
        received == 0 && self.unseen_repliers.contains(&peer)
    }

    /// Returns whether a side sent frames to a single hardware address, for an address that sends
    /// packets itself. Such an address is probably that of a host, even if it is the last one of a
    /// prefix that the inventory names: the network of the host may be larger.
    pub(super) fn is_sent_to_host(&self, flow: &Flow<'_>, side: usize) -> bool {
        let sender = &flow.sides[side];
        let address = flow.key.endpoint(1 - side).addr;
        sender.has(flag::UNICAST) && !is_group(address) && self.is_sending(address)
    }

    /// Returns whether the capture shows unicast packets from an address.
    fn is_sending(&self, address: IpAddr) -> bool {
        self.presence(address).is_some_and(|presence| presence.unicast_sent.0 > 0)
    }

    /// Returns whether the capture may lack all packets of a server, as it lacks those of another
    /// server that replied to the same client: switches can mirror what a host sends, but not what
    /// hosts elsewhere send to it. The other server must be listed, because it would reset segments
    /// that are not part of a connection.
    pub fn may_be_hidden(&self, server: IpAddr, client: IpAddr) -> bool {
        let is_other = |hidden: &IpAddr| *hidden != server;
        !self.is_sending(server)
            && self.hidden_servers.get(&client).is_some_and(|hidden| hidden.iter().any(is_other))
    }

    /// Returns whether the handshake of any flow proves that the endpoint accepts connections.
    pub(super) fn serves(&self, endpoint: Endpoint, transport: Transport) -> bool {
        self.services.contains(&(endpoint, transport))
    }

    /// Returns the side of a unicast UDP flow that sent broadcasts before the flow began, and how
    /// the first packet may be a reply to them. Returns `None` if it cannot be a reply, or could be
    /// one from either side.
    ///
    /// A reply may come from a port other than that of the broadcast (SSDP, WS-Discovery), but then
    /// the requester must have an ephemeral port, because hosts also send other packets to the port
    /// of a service.
    pub(super) fn broadcast_reply(&self, flow: &Flow<'_>) -> Option<(usize, BroadcastReply)> {
        if flow.key.transport() != Transport::UDP || self.broadcast_requests.is_empty() {
            return None;
        }
        match [0, 1].map(|side| self.reply_to(flow, side)) {
            [Some(reply), None] => Some((0, reply)),
            [None, Some(reply)] => Some((1, reply)),
            _ => None,
        }
    }

    /// Returns how the first packet of a flow may be a reply to broadcasts of the side `requester`.
    fn reply_to(&self, flow: &Flow<'_>, requester: usize) -> Option<BroadcastReply> {
        let answered = flow.sides[1 - requester].first.get()?;
        let asked = flow.sides[requester].first.get();
        let replies = &flow.sides[1 - requester];
        let responder = flow.key.endpoint(1 - requester);
        let requester = flow.key.endpoint(requester);
        // A host without an address sends DHCP requests from the unspecified address, and receives
        // the reply at its new address. Any host can send from the unspecified address, so no other
        // packets from it count.
        let unspecified = ([requester.port, responder.port] == DHCP_PORTS)
            .then_some(IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let best = |address| {
            let endpoint = Endpoint::new(address, requester.port);
            let BroadcastRequests { span, ports } = self.broadcast_requests.get(&endpoint)?;
            let (first, last) = (span.first.get()?, span.last.get()?);
            let until = |time: Nanos| time..=time.saturating_add(TIME_TO_ANSWER_BROADCAST);
            // Otherwise, a host could send any amount of data after a single broadcast.
            let is_over = replies.last.get().is_some_and(|end| end > *until(last).end());
            if is_over && asked.is_none() && replies.sent.packets.0 > MAX_LATE_REPLIES {
                return None;
            }
            let is_close = until(first).contains(&answered) || until(last).contains(&answered);
            let is_between = (first..=last).contains(&answered);
            if ports.contains(&responder.port) && (is_close || is_between) {
                let is_proved = is_close && requester.port != responder.port;
                Some(if is_proved { BroadcastReply::Proved } else { BroadcastReply::FromPort })
            } else {
                let is_possible = (is_close || is_between) && requester.port >= EPHEMERAL_PORTS;
                is_possible.then_some(BroadcastReply::FromOtherPort)
            }
        };
        // The flow does not begin with a reply if the requester sent its first packet.
        let begins = asked.is_none_or(|asked| answered < asked);
        let replies = [requester.addr].into_iter().chain(unspecified).filter_map(best);
        replies.min_by_key(|reply| *reply as u8).filter(|_| begins)
    }

    /// Merges the facts from another part of the flows.
    pub(super) fn merge(&mut self, other: Self) {
        self.visibility_counts.merge(&other.visibility_counts);
        self.kinds.merge(&other.kinds);
        self.services.extend(other.services);
        for (requester, requests) in other.broadcast_requests {
            self.add_broadcasts(requester, &requests);
        }
        self.presences.merge(other.presences);
        self.unseen_reply_pairs.extend(other.unseen_reply_pairs);
        self.unseen_repliers.extend(other.unseen_repliers);
        for (service, clients) in other.hidden_services {
            self.hidden_services.entry(service).or_default().merge(&clients);
        }
        self.clocks.merge(&other.clocks);
        let count = self.period_ends.len().max(other.period_ends.len());
        self.period_ends.resize(count, CommonEnds::default());
        let ends = self.period_ends.iter_mut().zip(&other.period_ends);
        ends.for_each(|(mine, theirs)| mine.merge(theirs));
        for (pair, seen) in other.pairs_by_period {
            *self.pairs_by_period.entry(pair).or_default() |= seen;
        }
        self.reset_by_two.extend(other.reset_by_two);
        for (address, cards) in other.cards {
            self.cards.entry(address).or_default().merge(&cards);
        }
        for (mac, behind) in other.forgotten {
            self.forgotten.entry(mac).or_default().merge(&behind);
        }
        self.trim_forgotten();
        self.forgot_unseen_reply |= other.forgot_unseen_reply;
    }

    fn trim_forgotten(&mut self) {
        while self.forgotten.len() > MOST_FORGOTTEN {
            self.forgotten.pop_last();
        }
    }

    /// Determines how much the capture shows, whether its clocks are doubtful, which hardware
    /// addresses belong to routers, whether the capture was filtered, and which servers it never
    /// shows. This requires the facts from all flows.
    pub(super) fn conclude(&mut self, hints: &dyn DirectionHints) {
        self.visibility = std::mem::take(&mut self.visibility_counts).conclude();
        self.has_doubtful_clocks = std::mem::take(&mut self.clocks).are_doubtful();
        let mut behind = HashMap::<Mac, BoundedSet<IpAddr, SEVERAL_BEHIND>, HashSeed>::default();
        behind.extend(std::mem::take(&mut self.forgotten));
        for (address, presence) in self.presences.iter() {
            let macs = presence.macs.iter().filter(|_| !crate::model::is_link_local(address));
            macs.for_each(|mac| behind.entry(*mac).or_default().insert(address));
        }
        let routers = behind.iter().filter(|(_, behind)| behind.len() >= SEVERAL_BEHIND);
        self.routers = routers.map(|(mac, _)| *mac).collect();
        self.limits.filtered |= self.kinds.are_only_openings();
        let hidden = self.hidden_services.iter();
        let hidden = hidden.filter(|((server, _), _)| {
            !self.is_sending(server.addr) && hints.is_listed(server.addr)
        });
        let mut hidden_servers = HashMap::<_, BoundedSet<_, 2>, HashSeed>::default();
        for ((server, _), clients) in hidden {
            for client in clients.iter() {
                hidden_servers.entry(*client).or_default().insert(server.addr);
            }
        }
        self.hidden_servers = hidden_servers;
    }

    /// Adds the facts from a flow. `forgets` is true for each end whose activity is not recorded.
    pub(super) fn add(
        &mut self,
        flow: &Flow<'_>,
        hints: &dyn DirectionHints,
        limits: &CaptureLimits,
        forgets: [bool; 2],
    ) {
        // Any host can forge the content of an undeclared tunnel, so it proves nothing about the
        // farm.
        if flow.key.path().is_inside() {
            return;
        }
        self.visibility_counts.add(flow, limits);
        let transport = flow.key.transport();
        let broadcast = broadcast_sender(flow, hints);
        if let Some(side) = broadcast {
            self.note_broadcast(flow, side);
        } else if transport == Transport::TCP && !is_simultaneous(flow) {
            for (client, is_proved) in proved(flow).into_iter().enumerate() {
                if is_proved {
                    self.services.insert((flow.key.endpoint(1 - client), transport));
                    self.kinds.add_opened(flow.key.endpoint(client).addr);
                    self.compare_clocks(flow, client, hints);
                    self.note_cards(flow, client);
                }
            }
        }
        if broadcast.is_none() && !limits.periods.is_empty() {
            self.note_periods(flow, hints, &limits.periods);
        }
        let sends = [0, 1].map(|side: usize| flow.sides[side].has_packets());
        let ends = [0, 1].map(|end: usize| {
            let receives = sends[1 - end] && broadcast != Some(1 - end);
            let is_seen = (sends[end] || receives) && !forgets[end];
            let address = flow.key.endpoint(end).addr;
            let active = || active_periods(address, hints, limits);
            is_seen.then(|| self.presences.position(address, active))
        });
        for side in 0..2 {
            let sent = &flow.sides[side];
            let sender = flow.key.endpoint(side).addr;
            let is_broadcast = broadcast == Some(side);
            self.note_hidden(flow, side);
            if sender.is_loopback() && is_loopback_on_wire(flow) && !forgets[side] {
                self.presences.of(sender).on_wire = true;
            }
            if !sends[side] {
                continue;
            }
            self.kinds.add(transport, sender);
            if transport == Transport::TCP {
                self.kinds.add_segments(sent);
            }
            let from = ends[side];
            let to = match ends[1 - side] {
                _ if is_broadcast => TrafficTarget::Group,
                None => TrafficTarget::Forgotten,
                Some(position) => TrafficTarget::At(position),
            };
            self.count(SentTraffic {
                sender,
                target: flow.key.endpoint(1 - side).addr,
                from,
                to,
                stats: sent,
                is_target_silent: !sends[1 - side],
                macs: flow.links(side).map(|l| l.source).filter(|m| *m != Mac::NONE),
            });
            if let (true, TrafficTarget::At(to)) = (flow.cut[side] > 0, to) {
                self.presences.at(to).cut[1].add(flow.cut[side]);
            }
            let Some(from) = from else { continue };
            let from = self.presences.at(from);
            from.cut[0].add(flow.cut[side]);
            if is_broadcast {
                continue;
            }
            // Neighbour discovery uses hop limits of its own, which do not show the path of other
            // packets.
            let is_ordinary = transport.has_ports() || transport == Transport::ICMP;
            // Resets alone do not count, because a firewall may have sent them with the address of
            // the host.
            let shows_path = is_ordinary && !(transport == Transport::TCP && only_resets(sent));
            for link in flow.links(side) {
                from.routed |= !INITIAL_TTLS.contains(&link.ttl);
                if shows_path {
                    from.add_ttl(link.source, link.ttl);
                }
            }
        }
    }

    /// Records the ends of a flow for each period in which it was certainly seen.
    fn note_periods(
        &mut self,
        flow: &Flow<'_>,
        hints: &dyn DirectionHints,
        periods: &[(Nanos, Nanos)],
    ) {
        self.period_ends.resize(periods.len(), CommonEnds::default());
        let ends = [0, 1].map(|side| flow.key.endpoint(side).addr);
        let mut hosts = ends.map(|end| hints.canonical(end));
        hosts.sort_unstable();
        let times = flow.sides.iter().flat_map(|side| [side.first.get(), side.last.get()]);
        let mut seen = 0;
        for time in times.flatten() {
            let number = periods.partition_point(|(_, end)| *end < time);
            if periods.get(number).is_some_and(|(start, _)| *start <= time) {
                seen |= 1u64.unbounded_shl(number as u32);
                if !self.period_ends[number].are_none() {
                    self.period_ends[number].add(hosts);
                }
            }
        }
        // A host can send packets to any other, so only an exchange counts.
        if seen != 0
            && flow.sides.iter().all(DirectionStats::has_packets)
            && ends.into_iter().all(|end| hints.is_listed(end))
            && hosts[0] != hosts[1]
        {
            *self.pairs_by_period.entry(hosts).or_default() |= seen;
        }
    }

    /// Records the UDP broadcasts of a side that may request something.
    fn note_broadcast(&mut self, flow: &Flow<'_>, side: usize) {
        let sent = &flow.sides[side];
        let requester = flow.key.endpoint(side);
        let port = flow.key.endpoint(1 - side).port;
        // A broadcast that is itself a reply requests nothing. An endpoint with the port of the
        // service may send both.
        let may_ask = !sent.has(flag::ANSWERS) || requester.port == port;
        if flow.key.transport() == Transport::UDP && may_ask {
            let span = TimeSpan { first: sent.first, last: sent.last };
            self.add_broadcasts(requester, &BroadcastRequests { span, ports: [port; 2] });
        }
    }

    fn add_broadcasts(&mut self, requester: Endpoint, requests: &BroadcastRequests) {
        let known = self.broadcast_requests.entry(requester);
        known.and_modify(|known| known.merge(requests)).or_insert(*requests);
    }

    /// Records the hardware addresses of each side of a connection whose handshake is complete, if
    /// it sent frames with the same TTL from several of them at one place. Another host with the
    /// same address would have reset the connection, and another hop would have changed the TTL.
    fn note_cards(&mut self, flow: &Flow<'_>, client: usize) {
        for side in 0..2 {
            if flow.links(side).nth(1).is_none() || !acknowledges_opening(flow, client) {
                continue;
            }
            let is_reset = flow.sides[side].has(flag::RST);
            let links = || flow.links(side).filter(|link| !link.is_tunnelled());
            for link in links().filter(|link| link.source != Mac::NONE) {
                let is_other_card = |other: &Encapsulation| {
                    other.source != Mac::NONE
                        && other.source != link.source
                        && (other.ttl, other.interface) == (link.ttl, link.interface)
                        && other.vlans().eq(link.vlans())
                };
                if links().any(is_other_card) {
                    let address = flow.key.endpoint(side).addr;
                    if is_reset {
                        self.reset_by_two.insert(address);
                    } else {
                        self.cards.entry(address).or_default().insert(link.source);
                    }
                }
            }
        }
    }

    /// Compares the timestamps of a handshake with the order of its packets. If a reply has an
    /// earlier timestamp than the packet that it answers, another clock stamped it.
    fn compare_clocks(&mut self, flow: &Flow<'_>, client: usize, hints: &dyn DirectionHints) {
        let requests = &flow.sides[client];
        let answers = &flow.sides[1 - client];
        if requests.has(flag::SEVERAL)
            || answers.has(flag::SEVERAL)
            || !begins_with_syn_ack(flow, 1 - client)
        {
            return;
        }
        let times = [requests.first.get(), answers.first.get(), requests.last.get()];
        let [Some(requested), Some(answered), Some(last)] = times else { return };
        let before = answered.saturating_add(CLOCK_TOLERANCE) < requested;
        let opening = flow.syn_acks(1 - client).map(|syn_ack| syn_ack.other.wrapping_add(1));
        let acknowledged = opening.into_iter().any(|number| requests.acked.holds(number));
        let after = acknowledged && last.saturating_add(CLOCK_TOLERANCE) < answered;
        let ends = flow.key.addresses().into_iter();
        self.clocks.add(before || after, ends.filter(|end| hints.is_stranger(*end)));
    }

    /// Records a service whose data is acknowledged but not seen, because its replies take another
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
            if !side.has_packets() {
                continue;
            }
            self.kinds.add(*transport, *src);
            let is_broadcast =
                side.has(flag::BROADCAST) || is_group(*dst) || hints.is_broadcast(*dst);
            let active = |address| active_periods(address, hints, &self.limits);
            let from = Some(self.presences.position(*src, || active(*src)));
            let to = if is_broadcast {
                TrafficTarget::Group
            } else {
                TrafficTarget::At(self.presences.position(*dst, || active(*dst)))
            };
            self.count(SentTraffic {
                sender: *src,
                target: *dst,
                from,
                to,
                stats: side,
                is_target_silent: false,
                macs: [].into_iter(),
            });
        }
        let plain = evidence.claims().filter(|(claimant, _)| claimant.path == Path::PLAIN);
        self.claims = plain.map(|(claimant, claim)| (*claimant, claim.clone())).collect();
        for claim in self.claims.values_mut() {
            claim.remove_times(&self.limits.doubted);
        }
        self.cuts.clone_from(evidence.cuts());
        self.sightings = Sightings::of(evidence);
        for (AddressBinding { address, mac, .. }, claim) in &self.claims {
            // A neighbour discovery message is also a packet of a flow and already counts for its
            // sender there.
            if address.is_ipv6() {
                continue;
            }
            let presence = self.presences.of(*address);
            presence.sent.packets.merge(&claim.frames);
            presence.sent_in.merge(&TimeSpan { first: claim.first, last: claim.last });
            presence.macs.insert(*mac);
        }
    }

    /// Adds traffic to the activity of its sender and, unless it is a broadcast, of its target.
    fn count(&mut self, traffic: SentTraffic<'_, impl Iterator<Item = Mac>>) {
        let SentTraffic { sender, target, from, to, stats, is_target_silent, macs } = traffic;
        let span = TimeSpan { first: stats.first, last: stats.last };
        let is_unicast = !matches!(to, TrafficTarget::Group);
        match from {
            Some(from) => {
                let from = self.presences.at(from);
                from.sent.merge(&stats.sent);
                from.sent_in.merge(&span);
                macs.for_each(|mac| from.macs.insert(mac));
                if is_unicast {
                    from.unicast_sent.merge(&stats.sent.packets);
                    from.unicast_in.merge(&span);
                    if let Some(active) = &mut from.active {
                        active.add(&span, stats.sent.packets.0);
                    }
                }
            }
            None => {
                for mac in macs {
                    self.forgotten.entry(mac).or_default().insert(sender);
                }
                self.trim_forgotten();
            }
        }
        let acknowledges_unseen = is_unicast && is_target_silent && stats.has(flag::ACK);
        if acknowledges_unseen && (from.is_none() || matches!(to, TrafficTarget::Forgotten)) {
            self.forgot_unseen_reply = true;
        }
        let TrafficTarget::At(to) = to else { return };
        let to = self.presences.at(to);
        to.received.merge(&stats.sent);
        to.received_in.merge(&span);
        // The sender acknowledges packets from the target, so the target did reply, on a path that
        // the capture does not show.
        if acknowledges_unseen {
            to.answered_unseen = true;
            // The addresses of a flood are not recorded, to save memory. Recording its pairs would
            // take just as much memory.
            if from.is_none() {
                return;
            }
            self.unseen_reply_pairs.insert((target, sender));
            self.unseen_repliers.insert(sender);
        }
    }
}
