//! What the capture shows of hosts: how each was seen, whose switch port the span carries, and which
//! services answer at addresses that nobody listed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use super::judge::Judged;
use crate::conversation::{Conversations, Presence, Subject, Window};
use crate::model::{AtMost, Merge, Sum, Transport, words};
use crate::policy::{Policy, Who};

words!(
    /// How much of a host the capture shows.
    Coverage {
        /// It sends to others and is sent to.
        Full = "full",
        /// It sends to others; nothing sent to it is seen.
        SentOnly = "sent-only",
        /// It is sent what only follows from answers of its own, which are not seen.
        ReceivedOnly = "received-only",
        /// Of its own only broadcasts and address claims are seen.
        BroadcastOnly = "broadcast-only",
        /// It is only tried.
        TargetOnly = "target-only",
        /// Nothing is seen.
        NotSeen = "not-seen",
    }
);

/// How a host of the inventory was seen.
#[derive(Clone, Debug)]
pub struct HostReport {
    /// All its addresses together.
    pub presence: Presence,
    /// How much of it the capture shows.
    pub coverage: Coverage,
    /// Rows of which it is a source and that could not be assessed.
    pub rows_not_assessable: u64,
}

/// One end of conversations: a host or service of the inventory, else an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Unit {
    Host(usize),
    Service(usize),
    Other(IpAddr),
}

/// What the capture shows of each host: its own addresses, and link-local ones that its hardware
/// addresses fit.
pub(super) fn hosts(policy: &Policy, conversations: &Conversations) -> Vec<HostReport> {
    let mut presences = vec![Presence::default(); policy.inventory.hosts.len()];
    for (address, presence) in conversations.survey.presences() {
        if let Who::Host(host) = policy.party(address, presence.macs.iter()).who {
            let mut presence = presence.clone();
            // What stays inside a host shows nothing of its switch port.
            if address.is_loopback() {
                presence.unicast_sent = Sum(0);
                presence.unicast_in = Window::default();
            }
            // What a virtual address carries shows none of its holders in particular.
            presences[host].merge(&presence);
        }
    }
    let report = |presence: Presence| {
        let (sent, received) = (presence.unicast_sent.0 > 0, presence.received.packets.0 > 0);
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

/// Addresses without a role that may be further ones of listed hosts, by what they served or used; of several the
/// least.
#[derive(Default)]
pub(super) struct Unlisted {
    /// Services reached at such addresses.
    pub servers: HashMap<(Transport, u16), IpAddr, ahash::RandomState>,
    /// Services of hosts that such addresses inside used.
    pub clients: HashMap<(usize, Transport, u16), IpAddr, ahash::RandomState>,
}

pub(super) fn unlisted(
    policy: &Policy,
    conversations: &Conversations,
    judged: &[Judged],
) -> Unlisted {
    let mut unlisted = Unlisted::default();
    for (c, j) in conversations.list.iter().zip(judged) {
        let Subject { client, server, transport, port } = c.subject;
        if c.state.reached() && j.server.roles.is_empty() {
            let address = unlisted.servers.entry((transport, port)).or_insert(server);
            *address = server.min(*address);
        }
        if let Who::Host(host) = j.server.who
            && j.client.roles.is_empty()
            && policy.is_internal(client)
        {
            let address = unlisted.clients.entry((host, transport, port)).or_insert(client);
            *address = client.min(*address);
        }
    }
    unlisted
}

/// IP protocols that carry others: IP in IP, GRE, ESP, EtherIP, MPLS.
const CARRIERS: [u8; 6] = [4, 41, 47, 50, 97, 137];
/// UDP ports of tunnels and of what seals: IPsec (RFC 3948), WireGuard, OpenVPN, and those that are read where they
/// can be.
const CARRIER_PORTS: [u16; 10] = [4500, 51820, 1194, 4789, 8472, 4790, 6081, 2152, 6635, 37008];

/// Pairs of addresses, the lesser first, between which something went that could not be read, in words.
pub(super) fn sealed(conversations: &Conversations) -> BTreeMap<(IpAddr, IpAddr), String> {
    let mut pairs = BTreeMap::new();
    let ordered = |a: IpAddr, b: IpAddr| (a.min(b), a.max(b));
    for c in &conversations.list {
        let Subject { client, server, transport, port } = c.subject;
        let carries = CARRIERS.contains(&transport.0)
            || (transport == Transport::UDP && CARRIER_PORTS.contains(&port));
        if carries {
            let what = match c.subject.shown_port() {
                Some(port) => format!("{transport} {port}"),
                None => format!("IP protocol {}", transport.0),
            };
            pairs.entry(ordered(client, server)).or_insert(what);
        }
    }
    for (src, dst, _) in &conversations.orphans {
        let what = || "fragments whose first one is not in the capture".to_owned();
        pairs.entry(ordered(*src, *dst)).or_insert_with(what);
    }
    pairs
}

/// The hosts that have at least two peers who talk to nobody else: the span carries their port.
pub(super) fn watched(conversations: &Conversations, judged: &[Judged]) -> HashSet<usize> {
    let mut peers = HashMap::<Unit, AtMost<Unit, 2>, ahash::RandomState>::default();
    let unit = |who, address| match who {
        Who::Host(host) => Unit::Host(host),
        Who::Service(service) => Unit::Service(service),
        _ => Unit::Other(address),
    };
    for (c, j) in conversations.list.iter().zip(judged) {
        let packets = c.to_server.packets.0 + c.to_client.packets.0;
        let (client, server) =
            (unit(j.client.who, c.subject.client), unit(j.server.who, c.subject.server));
        if c.broadcast || packets == 0 || client == server {
            continue;
        }
        peers.entry(client).or_default().insert(server);
        peers.entry(server).or_default().insert(client);
    }
    let mut faithful: HashMap<usize, u32> = HashMap::new();
    for theirs in peers.values().filter(|p| p.len() == 1 && !p.more()) {
        if let Some(Unit::Host(host)) = theirs.iter().next() {
            *faithful.entry(*host).or_default() += 1;
        }
    }
    faithful.into_iter().filter(|(_, count)| *count >= 2).map(|(host, _)| host).collect()
}
