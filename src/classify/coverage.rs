//! Coverage of hosts by the capture: how much of each host's traffic it shows, which switch ports
//! it covers, which services were used at unlisted addresses, and which traffic it does not show in
//! readable form.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::CaptureConditions;
use super::ruling::Judged;
use super::verdict::Verdict;
use crate::conversation::{
    ActivePeriods, CaptureIndex, Conversation, Conversations, DirectionEvidence, DoubtSource,
    HostActivity, ServiceKey, State, TimeSpan, flag,
};
use crate::model::{
    BoundedSet, Mac, Merge, Nanos, SECOND, Sum, TUNNEL_PORTS, Transport, named_enum,
};
use crate::policy::{Party, PartyKind, Policy, RoleSet};

named_enum!(
    /// How much of a host's traffic the capture shows.
    Coverage {
        /// The capture shows unicast packets from the host, and packets to it.
        Full = "full",
        /// The capture shows unicast packets from the host, but no packets to it.
        SentOnly = "sent-only",
        /// Peers acknowledge replies from this host that the capture does not contain.
        ReceivedOnly = "received-only",
        /// The capture shows only broadcasts and address claims from the host.
        BroadcastOnly = "broadcast-only",
        /// The capture shows packets to the host, but none from it.
        TargetOnly = "target-only",
        /// The capture shows no packets from or to the host.
        NotSeen = "not-seen",
    }
);

/// The activity of a host of the inventory, and how much of it the capture shows.
#[derive(Clone, Debug)]
pub struct HostReport {
    /// The combined activity of all addresses of the host.
    pub presence: HostActivity,
    /// How much of the host's traffic the capture shows.
    pub coverage: Coverage,
    /// The number of rows that have the host as a source and could not be assessed. A row counts
    /// once for each destination.
    pub rows_not_assessable: u64,
}

/// One end of a conversation: a host or service of the inventory, or another address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Peer {
    /// The index of a host in the inventory.
    Host(usize),
    /// The index of a service in the inventory.
    Service(usize),
    /// Another address.
    Other(IpAddr),
}

impl Peer {
    /// Returns the peer at an address whose party has this kind.
    pub(super) fn of(kind: PartyKind, address: IpAddr) -> Self {
        match kind {
            PartyKind::Host(host) => Self::Host(host),
            PartyKind::Service(service) => Self::Service(service),
            _ => Self::Other(address),
        }
    }

    /// Returns the index of the host, or `None` if the peer is not a host.
    pub fn host(self) -> Option<usize> {
        match self {
            Self::Host(host) => Some(host),
            Self::Service(_) | Self::Other(_) => None,
        }
    }

    /// Returns the index of the service, or `None` if the peer is not a service.
    pub fn service(self) -> Option<usize> {
        match self {
            Self::Service(service) => Some(service),
            Self::Host(_) | Self::Other(_) => None,
        }
    }
}

/// Reports how completely the capture shows each host. The activity of unlisted link-local
/// addresses with a host's hardware addresses counts as activity of the host.
pub(super) fn host_reports(
    policy: &Policy,
    conversations: &Conversations,
    view: &CaptureConditions,
) -> Vec<HostReport> {
    let mut presences = vec![HostActivity::default(); policy.inventory.hosts.len()];
    for (address, presence) in conversations.index.unordered_presences() {
        if presence.on_wire {
            continue;
        }
        if let PartyKind::Host(host) = policy.party(address, presence.macs.iter()).kind {
            let mut presence = presence.clone();
            // Times from a doubtful clock do not extend the activity of a host.
            for window in
                [&mut presence.unicast_in, &mut presence.sent_in, &mut presence.received_in]
            {
                *window = window.within(view.start, view.end);
            }
            // Loopback traffic does not show that the capture covers the host's switch port.
            if address.is_loopback() {
                presence.unicast_sent = Sum(0);
                presence.unicast_in = TimeSpan::default();
                presence.active = None;
            }
            let active = match presence.active.take() {
                Some(active) => active.within(view.start, view.end),
                None => ActivePeriods::of(&presence.unicast_in),
            };
            presence.active = Some(Box::new(active));
            // A virtual address has a report of its own, because its traffic does not show which
            // holder sent it.
            presences[host].merge(&presence);
        }
    }
    let report = |presence: HostActivity| {
        let sent = presence.unicast_sent.0 > 0;
        let received = presence.received.packets.0 > 0;
        let coverage = match (sent, received) {
            (true, true) => Coverage::Full,
            (true, false) => Coverage::SentOnly,
            (false, _) if presence.answered_unseen => Coverage::ReceivedOnly,
            (false, _) if presence.sent.packets.0 > 0 => Coverage::BroadcastOnly,
            (false, true) => Coverage::TargetOnly,
            (false, false) => Coverage::NotSeen,
        };
        HostReport { presence, coverage, rows_not_assessable: 0 }
    };
    presences.into_iter().map(report).collect()
}

/// Addresses that may belong to listed hosts although they are not listed for them, by the services
/// that they provided or used. Such an address is not listed, or belongs to a listed host without a
/// role, such as a device that translates addresses. If several addresses provided or used a
/// service, the lowest is kept.
#[derive(Default)]
pub(super) struct Unlisted {
    /// The services that these addresses provided, each with the address.
    pub servers: HashMap<(Transport, u16), IpAddr, ahash::RandomState>,
    /// For each host, its services that were used from these addresses, each with the address.
    pub clients: HashMap<usize, Vec<(Transport, u16, UnlistedUse)>, ahash::RandomState>,
    /// For each host, the services that it used at listed hosts of another role that may pass on
    /// the traffic, or that it tried again and again in vain at these addresses, each with the
    /// address.
    pub misdirected: HashMap<usize, Vec<(Transport, u16, UnlistedUse)>, ahash::RandomState>,
    /// The hosts that play roles that the inventory does not give them, with these roles, if
    /// another host with one of these roles does not show it.
    pub mistaken: BTreeMap<usize, RoleSet>,
    /// The hosts that certainly served traffic that the matrix documents.
    pub serving: HashSet<usize, ahash::RandomState>,
    /// For each host, the services that unlisted addresses used inside undeclared tunnels between
    /// the host and other hosts, each with the other host. Hosts can have addresses of their own
    /// inside a tunnel.
    pub tunnelled: HashMap<usize, BTreeSet<(usize, Transport, u16)>, ahash::RandomState>,
    /// For each row, an unlisted address that sent its multicasts from a hardware address of a host
    /// with the source role, with this host.
    pub multicasting: BTreeMap<usize, (IpAddr, usize)>,
}

impl Unlisted {
    /// Notes that the server of a conversation plays a role, if a handshake proves it.
    fn note_server(&mut self, policy: &Policy, c: &Conversation, j: &Judged) {
        let is_proved = c.grade == DirectionEvidence::Handshake
            && c.state == State::Established
            && !c.is_doubted();
        let Some(server) = j.server.host().filter(|_| is_proved) else { return };
        if j.verdict() == Verdict::Documented {
            self.serving.insert(server);
        } else if let Some(roles) = mistaken_roles(policy, c, j) {
            let known = self.mistaken.entry(server).or_default();
            *known = known.with(roles);
        }
    }

    /// Records the sender of multicasts that some rows document, if a host with the source role
    /// uses the same hardware address. A router does not count, because it sends frames for many
    /// hosts.
    fn add_multicast(&mut self, policy: &Policy, index: &CaptureIndex, c: &Conversation) {
        let ServiceKey { client, server, transport, port } = c.subject;
        let macs = |address: &IpAddr| index.presence(*address).map(|seen| &seen.macs);
        let Some(own) = macs(&client) else { return };
        let is_own = |mac: &Mac| own.contains(mac) && !index.is_router(*mac);
        for number in policy.rows_at(transport, port) {
            let row = &policy.matrix.rows[number];
            if !row.multicast.contains(&server) {
                continue;
            }
            let sends = |host: &usize| {
                let addresses = policy.inventory.hosts[*host].addresses.iter();
                addresses.filter_map(macs).flat_map(|macs| macs.iter()).any(is_own)
            };
            let host = policy.hosts_of(policy.matrix.roles[row.source].members).find(sends);
            if let Some(host) = host {
                let known = self.multicasting.entry(number).or_insert((client, host));
                *known = (client, host).min(*known);
            }
        }
    }

    /// Records the service of a conversation inside undeclared tunnels, if some row documents the
    /// service and both ends of a tunnel sent packets through it. Each of them could have forged
    /// what is inside, but none of them alone.
    fn add_tunnelled(&mut self, policy: &Policy, c: &Conversation) {
        let ServiceKey { transport, port, .. } = c.subject;
        if policy.rows_at(transport, port).next().is_none() {
            return;
        }
        let ends = c.rare().outer.iter().map(|own| [own.src, own.dst].map(|e| policy.host_of(e)));
        let ends: BTreeSet<[Option<usize>; 2]> = ends.collect();
        for both in &ends {
            if let [Some(a), Some(b)] = *both
                && a != b
                && ends.contains(&[Some(b), Some(a)])
            {
                self.tunnelled.entry(a).or_default().insert((b, transport, port));
            }
        }
    }
}

/// The use of a service from or at an address without a role.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct UnlistedUse {
    /// The address.
    pub address: IpAddr,
    /// The state of the conversation.
    pub state: State,
    /// The number of flows.
    pub flows: u64,
}

/// The minimum number of packets of a client that tries a service again and again.
const RECURRING_PACKETS: u64 = 3;

/// Returns the role that the server of an undocumented conversation plays although the inventory
/// gives it other roles: the only role that serves the port, if the port is specific to the
/// product. The inventory may have mixed up the host with one that has the role.
fn mistaken_roles(policy: &Policy, c: &Conversation, j: &Judged) -> Option<RoleSet> {
    let roles = policy.serving(c.subject.transport, c.subject.port);
    let mut all = roles.iter().map(|role| &policy.matrix.roles[role]);
    let own = j.server.roles;
    let is_mistake = roles.len() == 1 && !own.is_empty() && !roles.intersects(own);
    (is_mistake && all.all(|role| role.has_own_ports())).then_some(roles)
}

/// Returns whether a client tried a service again and again for at least half of the watched time.
/// A scan tries a service once.
fn is_recurring(c: &Conversation, view: &CaptureConditions) -> bool {
    let half_s = view.watched.longest_s / 2;
    let span = TimeSpan { first: c.first, last: c.last };
    !c.is_aggregated()
        && c.to_server.packets.0 >= RECURRING_PACKETS
        && span.length().is_some_and(|length| length >= half_s as Nanos * SECOND)
}

/// The service of a host, as client or server, with its transport and port.
type HostService = (usize, Transport, u16);

/// The use of services, by host.
type Uses = HashMap<HostService, UnlistedUse, ahash::RandomState>;

/// Services that listed hosts used at hosts of another role, which may have passed on the traffic.
#[derive(Default)]
struct RelayedServices {
    /// For each service of a client, the hosts of another role at which the client used it.
    used: HashMap<HostService, Vec<(usize, UnlistedUse)>, ahash::RandomState>,
    /// The hosts that used a service themselves at a host with its role.
    passing: HashSet<HostService, ahash::RandomState>,
}

impl RelayedServices {
    /// Notes a conversation between listed hosts that reached a service which a row documents.
    fn note(&mut self, policy: &Policy, c: &Conversation, j: &Judged) {
        let ServiceKey { server, transport, port, .. } = c.subject;
        let Some((client, host)) = j.client.host().zip(j.server.host()) else { return };
        let serving = policy.serving(transport, port);
        if serving.is_empty() || !c.state.reached() {
            return;
        }
        let key = (client, transport, port);
        if serving.intersects(j.server.roles) {
            self.passing.insert(key);
        } else {
            let one = UnlistedUse { address: server, state: c.state, flows: c.flows };
            self.used.entry(key).or_default().push((host, one));
        }
    }

    /// Returns the uses of services at hosts that used the same service themselves.
    fn uses(self, policy: &Policy) -> impl Iterator<Item = (HostService, UnlistedUse)> {
        let Self { used, passing } = self;
        used.into_iter().flat_map(move |((client, transport, port), all)| {
            let passes_on = |host: usize| {
                policy.holders(host).iter().any(|own| passing.contains(&(*own, transport, port)))
            };
            let uses = all.into_iter().filter(|(host, _)| passes_on(*host));
            uses.map(|(_, one)| ((client, transport, port), one)).collect::<Vec<_>>()
        })
    }
}

/// Returns the uses of services that may be those of listed hosts under another address.
pub(super) fn unlisted_services(
    policy: &Policy,
    conversations: &Conversations,
    judged: &[Judged],
    view: &CaptureConditions,
) -> Unlisted {
    fn add(uses: &mut Uses, key: (usize, Transport, u16), one: UnlistedUse) {
        let least = uses.entry(key).or_insert(one);
        *least = one.min(*least);
    }
    let mut unlisted = Unlisted::default();
    let mut clients = Uses::default();
    let mut misdirected = Uses::default();
    let mut relayed = RelayedServices::default();
    // A listed host without a role may pass on the traffic of others.
    let has_role = |party: &Party| match party.kind {
        PartyKind::Host(_) => !party.roles.is_empty(),
        kind => matches!(kind, PartyKind::Service(_)),
    };
    let networks = networks_of_hosts(policy);
    // An address of a network may be another address of a host that the inventory lists.
    let may_be_listed = |party: &Party| matches!(party.kind, PartyKind::Network(network) if networks.contains(&network));
    let is_host = |kind| matches!(kind, PartyKind::Host(_) | PartyKind::Service(_));
    for (c, j) in conversations.list.iter().zip(judged) {
        if c.doubts.has(DoubtSource::Tunnel)
            && [j.client.kind, j.server.kind].into_iter().any(|kind| !is_host(kind))
        {
            unlisted.add_tunnelled(policy, c);
        }
        if c.broadcast && !c.is_made_up() && j.client.host().is_none() {
            unlisted.add_multicast(policy, &conversations.index, c);
        }
        // A failed attempt does not show a service, but repeated attempts show that a client does
        // try. Traffic that could be forged proves nothing.
        let in_vain = c.has_failed();
        if c.is_made_up() || c.broadcast || in_vain && !is_recurring(c, view) {
            continue;
        }
        unlisted.note_server(policy, c, j);
        relayed.note(policy, c, j);
        let is_documented = j.verdict() == Verdict::Documented;
        let is_unlisted = |party: &Party| {
            if is_documented { may_be_listed(party) } else { !has_role(party) }
        };
        if is_documented && ![&j.client, &j.server].into_iter().any(may_be_listed) {
            continue;
        }
        let ServiceKey { client, server, transport, .. } = c.subject;
        let of = |address| UnlistedUse { address, state: c.state, flows: c.flows };
        for port in possible_ports(policy, c) {
            if is_unlisted(&j.server) {
                // Two listed hosts may communicate under other addresses of the site.
                let may_be_hosts = is_unlisted(&j.client)
                    && [client, server].into_iter().all(|address| policy.is_internal(address));
                if !in_vain || may_be_hosts {
                    let address = unlisted.servers.entry((transport, port)).or_insert(server);
                    *address = server.min(*address);
                } else if let PartyKind::Host(host) = j.client.kind {
                    add(&mut misdirected, (host, transport, port), of(server));
                }
            }
            // The host cannot be a client that fails outside of the site.
            if let PartyKind::Host(host) = j.server.kind
                && is_unlisted(&j.client)
                && (!in_vain
                    || policy.is_internal(client)
                    || policy.is_neighbour(&j.client, client))
            {
                add(&mut clients, (host, transport, port), of(client));
            }
        }
    }
    for ((host, transport, port), one) in clients {
        unlisted.clients.entry(host).or_default().push((transport, port, one));
    }
    for (key, one) in relayed.uses(policy) {
        add(&mut misdirected, key, one);
    }
    for ((host, transport, port), one) in misdirected {
        unlisted.misdirected.entry(host).or_default().push((transport, port, one));
    }
    let Unlisted { mistaken, serving, .. } = &mut unlisted;
    mistaken.retain(|_, roles| policy.hosts_of(*roles).any(|host| !serving.contains(&host)));
    unlisted
}

/// Returns the networks that contain an address of a listed host and have a role of this host.
fn networks_of_hosts(policy: &Policy) -> BTreeSet<usize> {
    let hosts = policy.inventory.hosts.iter();
    let addresses = hosts.flat_map(|host| host.addresses.iter().map(move |a| (*a, host.roles)));
    let networks = addresses.filter_map(|(address, roles)| {
        let network = policy.network(address)?;
        policy.inventory.networks[network].roles.intersects(roles).then_some(network)
    });
    networks.collect()
}

/// Returns the server's port. If the conversation stands for a range of ports, returns the lowest
/// port in this range for each row that has one.
fn possible_ports(policy: &Policy, c: &Conversation) -> BTreeSet<u16> {
    let Some([low, high]) =
        c.stands_for().filter(|all| all.has_several_ports()).map(|all| all.ports)
    else {
        return BTreeSet::from([c.subject.port]);
    };
    let rows = policy.matrix.rows.iter().filter(|row| row.transport == c.subject.transport);
    let lowest = rows.map(|row| (*row.ports.start()).max(low)..=*row.ports.end());
    lowest.filter(|ports| !ports.is_empty() && *ports.start() <= high).map(|p| *p.start()).collect()
}

/// IP protocols with an encrypted payload: ESP.
const ENCRYPTING_PROTOCOLS: [u8; 1] = [50];
/// UDP ports of encrypting protocols: IPsec NAT traversal (RFC 3948), WireGuard, OpenVPN.
const ENCRYPTING_PORTS: [u16; 3] = [4500, 51820, 1194];
/// IP protocols that carry other packets: IPv4 and IPv6 in IP, GRE, EtherIP, PIM, MPLS.
const TUNNEL_PROTOCOLS: [u8; 6] = [4, 41, 47, 97, 103, 137];
/// Descriptions of unreadable traffic between hosts.
#[derive(Default)]
pub(super) struct UnreadablePairs {
    /// For each host, one description per listed peer, and one for all unlisted peers.
    hosts: HashMap<usize, (HashMap<usize, String>, Option<String>)>,
}

impl UnreadablePairs {
    fn add(&mut self, policy: &Policy, (a, b): (IpAddr, IpAddr), what: &dyn Fn() -> String) {
        let words = || {
            format!(
                "between {a} and {b}, the capture shows {}, which may contain the missing traffic",
                what()
            )
        };
        match (policy.host_of(a), policy.host_of(b)) {
            (Some(a), Some(b)) => {
                self.hosts.entry(a).or_default().0.entry(b).or_insert_with(words);
                self.hosts.entry(b).or_default().0.entry(a).or_insert_with(words);
            }
            (Some(host), None) | (None, Some(host)) => {
                self.hosts.entry(host).or_default().1.get_or_insert_with(words);
            }
            (None, None) => {}
        }
    }

    /// Returns the listed hosts with which a host exchanged unreadable packets.
    pub fn listed_peers(&self, host: usize) -> impl Iterator<Item = usize> + '_ {
        self.hosts.get(&host).into_iter().flat_map(|(listed, _)| listed.keys().copied())
    }

    /// Returns whether a host exchanged unreadable packets with an unlisted address.
    pub fn has_unlisted_peer(&self, host: usize) -> bool {
        self.hosts.get(&host).is_some_and(|(_, unlisted)| unlisted.is_some())
    }

    /// Describes the unreadable packets that a host exchanged with one of `others`. If there are
    /// none, describes those that the host or one of `others` exchanged with an unlisted address.
    pub fn between(&self, source: usize, others: &[usize]) -> Option<&str> {
        let own = self.hosts.get(&source);
        let listed = own.and_then(|(listed, _)| others.iter().find_map(|other| listed.get(other)));
        let unlisted_of =
            |host: &usize| self.hosts.get(host).and_then(|(_, unlisted)| unlisted.as_ref());
        let words =
            listed.or_else(|| unlisted_of(&source)).or_else(|| others.iter().find_map(unlisted_of));
        words.map(String::as_str)
    }
}

/// Returns whether a service is that of an encrypting protocol.
fn encrypts(service: &ServiceKey) -> bool {
    ENCRYPTING_PROTOCOLS.contains(&service.transport.0)
        || service.transport == Transport::UDP && ENCRYPTING_PORTS.contains(&service.port)
}

/// The number of packets in each direction from which on a protocol counts as busy.
const BUSY: u64 = 50;

/// Returns the pairs of listed hosts that exchange many packets of a protocol without connections
/// that no row documents. It may be a VPN, which can carry any traffic. Both hosts have to send, so
/// that nobody else can bring this about.
pub(super) fn undocumented_pairs(
    policy: &Policy,
    conversations: &Conversations,
    judged: &[Judged],
) -> UnreadablePairs {
    let mut pairs = UnreadablePairs::default();
    for (c, j) in conversations.list.iter().zip(judged) {
        let ServiceKey { client, server, transport, .. } = c.subject;
        let is_known = matches!(j.verdict(), Verdict::Documented | Verdict::Background)
            || transport == Transport::TCP
            || transport.is_icmp()
            || encrypts(&c.subject)
            || c.flags.iter().any(|flags| flags.has(flag::ASKS | flag::ANSWERS));
        let is_busy = c.state == State::Established
            && !c.is_made_up()
            && [c.to_server, c.to_client].iter().all(|sent| sent.packets.0 >= BUSY);
        let are_listed = || [client, server].iter().all(|end| policy.host_of(*end).is_some());
        if is_busy && !is_known && are_listed() {
            pairs.add(policy, (client, server), &|| match c.subject.shown_port() {
                Some(port) => format!("many packets of {transport} {port}, perhaps of a VPN"),
                None => format!("many packets of IP protocol {}, perhaps of a tunnel", transport.0),
            });
        }
    }
    pairs
}

pub(super) fn unreadable_pairs(
    policy: &Policy,
    conversations: &Conversations,
    view: &CaptureConditions,
) -> UnreadablePairs {
    let mut unreadable_pairs = UnreadablePairs::default();
    let is_udp = |transport| transport == Transport::UDP;
    for c in &conversations.list {
        let ServiceKey { client, server, transport, port } = c.subject;
        // Traffic that could be forged does not show what these two hosts exchanged.
        if c.is_made_up() {
            continue;
        }
        let encrypts = encrypts(&c.subject);
        let tunnels = TUNNEL_PROTOCOLS.contains(&transport.0)
            || (is_udp(transport) && TUNNEL_PORTS.contains(&port));
        if encrypts || (tunnels && view.no_decap) {
            let kind = if encrypts { "encrypted packets" } else { "tunnel packets" };
            unreadable_pairs.add(policy, (client, server), &|| match c.subject.shown_port() {
                Some(port) => format!("{kind} ({transport} {port})"),
                None => format!("{kind} (IP protocol {})", transport.0),
            });
        }
    }
    for pair in &conversations.orphans {
        let what = || "fragments whose first fragment it does not contain".to_owned();
        unreadable_pairs.add(policy, (pair.src, pair.dst), &what);
    }
    for (pair, packets) in &conversations.index.portless {
        let noun = if *packets == 1 { "packet" } else { "packets" };
        let what = || format!("{packets} {noun} whose ports it does not contain");
        unreadable_pairs.add(policy, *pair, &what);
    }
    unreadable_pairs
}

/// What traffic shows about the switch ports that the capture covers.
#[derive(Default)]
pub(super) struct CoveredPorts {
    /// The hosts whose switch port the capture covers: at least two of their peers communicate with
    /// no other host.
    pub watched: HashSet<usize>,
    /// The hosts to which only one host sent packets, namely one in `watched`. The capture shows
    /// these packets because it covers the port of their sender, so it need not show what others
    /// send to the same hosts.
    pub only_from_watched: HashSet<usize>,
}

/// Infers from traffic which switch ports the capture covers.
pub(super) fn covered_ports(conversations: &Conversations, judged: &[Judged]) -> CoveredPorts {
    // An aggregated conversation may include a server that otherwise seems to have only one peer,
    // so nothing can be inferred.
    let has_several =
        |c: &Conversation| c.stands_for().is_some_and(|all| all.has_several_servers());
    if conversations.list.iter().any(has_several) {
        return CoveredPorts::default();
    }
    let mut hosts: Vec<BoundedSet<Peer, 2>> = Vec::new();
    // For each host, the peers that sent packets to it.
    let mut senders: Vec<BoundedSet<Peer, 2>> = Vec::new();
    let mut others = HashMap::<Peer, BoundedSet<Peer, 2>, ahash::RandomState>::default();
    let mut add_peer = |end: Peer, peer: Peer| match end {
        Peer::Host(host) => {
            hosts.resize(hosts.len().max(host + 1), BoundedSet::default());
            hosts[host].insert(peer);
        }
        Peer::Service(_) | Peer::Other(_) => others.entry(end).or_default().insert(peer),
    };
    for (c, j) in conversations.list.iter().zip(judged) {
        let packets = c.to_server.packets.0 + c.to_client.packets.0;
        let client = Peer::of(j.client.kind, c.subject.client);
        let server = Peer::of(j.server.kind, c.subject.server);
        let made_up = c.is_made_up();
        if c.broadcast || packets == 0 || client == server || made_up {
            continue;
        }
        add_peer(client, server);
        add_peer(server, client);
        for (amount, from, to) in [(&c.to_server, client, server), (&c.to_client, server, client)] {
            if let Peer::Host(host) = to
                && amount.packets.0 > 0
            {
                senders.resize(senders.len().max(host + 1), BoundedSet::default());
                senders[host].insert(from);
            }
        }
    }
    let mut single_peers: HashMap<usize, u32> = HashMap::new();
    let all = others.values().chain(&hosts);
    for theirs in all.filter(|peers| peers.len() == 1 && !peers.more()) {
        if let Some(Peer::Host(host)) = theirs.iter().next() {
            *single_peers.entry(*host).or_default() += 1;
        }
    }
    let watched = single_peers.into_iter().filter(|(_, count)| *count >= 2);
    let watched: HashSet<usize> = watched.map(|(host, _)| host).collect();
    let only_from_watched = senders.iter().enumerate().filter(|(_, from)| {
        let is_watched = |peer: &Peer| peer.host().is_some_and(|host| watched.contains(&host));
        from.len() == 1 && !from.more() && from.iter().all(is_watched)
    });
    let only_from_watched = only_from_watched.map(|(host, _)| host).collect();
    CoveredPorts { watched, only_from_watched }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{
        BROKER, BROKER_1, DC, DC_1, FARM, GW, GW_1, Packets, RDSH, STRANGER, policy, view,
    };

    const OF_GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn how_a_host_was_seen_depends_on_both_directions() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.ping(0, GW, BROKER);
        packets.send(1, Transport::UDP, (DC, 50_000), (STRANGER, 4444));
        packets.send(2, Transport::UDP, (STRANGER, 50_000), (RDSH, 4444));
        packets.claim(3, "10.1.0.31", OF_GATEWAY, 0);
        let conversations = packets.conversations(&policy);
        let reports = host_reports(&policy, &conversations, &view(60));
        let seen: Vec<Coverage> = reports.iter().map(|report| report.coverage).collect();
        let expected = [
            Coverage::Full,
            Coverage::SentOnly,
            Coverage::NotSeen,
            Coverage::Full,
            Coverage::TargetOnly,
            Coverage::BroadcastOnly,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn activity_outside_the_capture_does_not_count() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.ping(0, GW, BROKER);
        packets.ping(500, GW, BROKER);
        let conversations = packets.conversations(&policy);
        let length = |watched_s| {
            let reports = host_reports(&policy, &conversations, &view(watched_s));
            reports[GW_1].presence.unicast_in.length().map(|length| length / 1_000_000_000)
        };
        assert_eq!((length(600), length(60)), (Some(500), Some(60)));
    }

    #[test]
    fn two_peers_without_another_partner_show_the_switch_port_of_a_host() {
        let policy = policy(FARM);
        let watched = |pairs: &[(&str, &str)]| {
            let mut packets = Packets::default();
            for (client, server) in pairs {
                packets.ping(0, client, server);
            }
            let (conversations, judged) = packets.judged(&policy);
            let ports = covered_ports(&conversations, &judged);
            let mut hosts: Vec<_> = ports.watched.into_iter().collect();
            hosts.sort_unstable();
            hosts
        };
        assert_eq!(watched(&[(STRANGER, BROKER), (GW, BROKER)]), [BROKER_1]);
        assert_eq!(watched(&[(STRANGER, BROKER)]), [0usize; 0]);
        // The gateway has another peer, so it may be the host whose switch port is mirrored.
        let elsewhere = [(STRANGER, BROKER), (GW, BROKER), (GW, DC)];
        assert_eq!(watched(&elsewhere), [0usize; 0]);
        // Two hosts that contact each other still have only one peer each.
        assert_eq!(watched(&[(GW, BROKER), (BROKER, GW)]), [0usize; 0]);
    }

    #[test]
    fn what_is_encrypted_or_in_a_tunnel_hides_the_traffic_of_its_ends() {
        let policy = policy(FARM);
        let between = |transport, port, no_decap, others: &[usize]| {
            let mut packets = Packets::default();
            packets.send(0, transport, (GW, port), (BROKER, port));
            let conversations = packets.conversations(&policy);
            let view = CaptureConditions { no_decap, ..view(60) };
            let pairs = unreadable_pairs(&policy, &conversations, &view);
            assert_eq!(
                pairs.listed_peers(GW_1).next(),
                pairs.between(GW_1, &[BROKER_1]).map(|_| BROKER_1)
            );
            assert!(!pairs.has_unlisted_peer(GW_1));
            pairs.between(GW_1, others).map(str::to_owned)
        };
        let esp = between(Transport(50), 0, false, &[BROKER_1]).expect("it is encrypted");
        assert!(esp.contains("IP protocol 50"), "{esp}");
        assert_eq!(between(Transport(50), 0, false, &[DC_1]), None);
        assert!(between(Transport::UDP, 4500, false, &[BROKER_1]).is_some());
        // Only UDP port 4500 counts as encrypted. GRE is decapsulated unless the user turns
        // decapsulation off.
        assert_eq!(between(Transport::TCP, 4500, false, &[BROKER_1]), None);
        assert_eq!(between(Transport(47), 0, false, &[BROKER_1]), None);
        assert!(between(Transport(47), 0, true, &[BROKER_1]).is_some());
        for port in [4789, 4754, 5247, 3544, 5072] {
            assert!(between(Transport::UDP, port, true, &[BROKER_1]).is_some(), "{port}");
        }
        assert_eq!(between(Transport::UDP, 4789, false, &[BROKER_1]), None);
    }

    #[test]
    fn an_unlisted_end_may_be_another_address_of_any_host() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.send(0, Transport(50), (GW, 0), (STRANGER, 0));
        packets.send(0, Transport(50), (STRANGER, 0), (GW, 0));
        let pairs = unreadable_pairs(&policy, &packets.conversations(&policy), &view(60));
        assert!(pairs.has_unlisted_peer(GW_1) && !pairs.has_unlisted_peer(BROKER_1));
        assert!(pairs.between(GW_1, &[BROKER_1]).is_some());
        assert!(pairs.between(BROKER_1, &[GW_1]).is_some());
        assert!(pairs.between(BROKER_1, &[DC_1]).is_none());
        // Inside an undeclared tunnel, anyone could have forged the ESP packets.
        packets.tunnel(0);
        let pairs = unreadable_pairs(&policy, &packets.conversations(&policy), &view(60));
        assert!(pairs.between(GW_1, &[BROKER_1]).is_none());
    }

    #[test]
    fn unlisted_addresses_are_remembered_by_what_they_served_and_used() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), ("203.0.113.9", 4444));
        packets.connect(1, (GW, 50_001), (STRANGER, 4444));
        packets.refuse(2, (GW, 50_002), (STRANGER, 4445));
        packets.connect(3, (STRANGER, 50_000), (BROKER, 4446));
        packets.connect(4, (DC, 50_000), (BROKER, 4447));
        // The directory is used at a gateway, which passes on the requests, and at a session host,
        // which does not.
        packets.connect(5, (BROKER, 50_000), (GW, 389));
        packets.connect(6, (GW, 50_003), (DC, 389));
        packets.connect(7, (GW, 50_004), (RDSH, 389));
        let (conversations, judged) = packets.judged(&policy);
        let unlisted = unlisted_services(&policy, &conversations, &judged, &view(60));
        let service = (Transport::TCP, 4444);
        let lowest = STRANGER.parse::<IpAddr>().expect("an address");
        assert_eq!(unlisted.servers.get(&service), Some(&lowest));
        assert_eq!(unlisted.servers.len(), 1, "a refusal shows no service");
        let clients = unlisted.clients.get(&BROKER_1).expect("a client");
        let [(Transport::TCP, 4446, client)] = clients[..] else { panic!("{clients:?}") };
        assert_eq!(client.address, lowest);
        // A single attempt that fails does not show what a host is configured to use.
        let elsewhere: Vec<_> = unlisted.misdirected.keys().collect();
        assert_eq!(elsewhere, [&BROKER_1]);
        let [(Transport::TCP, 389, server)] = unlisted.misdirected[&BROKER_1][..] else {
            panic!("{:?}", unlisted.misdirected)
        };
        assert_eq!(server.address, GW.parse::<IpAddr>().expect("an address"));
        // The domain controller serves a port that only brokers serve.
        packets.connect(5, (GW, 50_000), (DC, 20_002));
        packets.connect(7, (RDSH, 50_002), (DC, 3000));
        let (conversations, judged) = packets.judged(&policy);
        let unlisted = unlisted_services(&policy, &conversations, &judged, &view(60));
        let broker = policy.inventory.hosts[BROKER_1].roles;
        assert_eq!(unlisted.mistaken, BTreeMap::from([(DC_1, broker)]));
        // If the broker serves the port, too, it has not been mixed up with the other host.
        packets.connect(6, (GW, 50_001), (BROKER, 20_002));
        let (conversations, judged) = packets.judged(&policy);
        let unlisted = unlisted_services(&policy, &conversations, &judged, &view(60));
        assert_eq!(unlisted.mistaken, BTreeMap::new());
    }
}
