//! What the capture shows of hosts: how each was seen, whose switch port the span carries, and which
//! services answer at addresses that nobody listed.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::judge::Judged;
use crate::conversation::{Conversations, Presence, Window};
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

/// Services reached at addresses without a role, each with the least of those addresses.
pub(super) fn unlisted(
    conversations: &Conversations,
    judged: &[Judged],
) -> HashMap<(Transport, u16), IpAddr> {
    let mut services = HashMap::new();
    let pairs = conversations.list.iter().zip(judged);
    for (c, _) in pairs.filter(|(c, j)| c.state.reached() && j.server.roles.is_empty()) {
        let address =
            services.entry((c.subject.transport, c.subject.port)).or_insert(c.subject.server);
        *address = c.subject.server.min(*address);
    }
    services
}

/// The hosts that have at least two peers who talk to nobody else: the span carries their port.
pub(super) fn watched(conversations: &Conversations, judged: &[Judged]) -> HashSet<usize> {
    let mut peers: HashMap<Unit, AtMost<Unit, 2>> = HashMap::new();
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
