//! The places at which captures were made one after the other. Without a span port, administrators
//! capture on one host after another, and each of these captures shows only the traffic of its
//! host, although the inventory states that the capture covers all of them.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::coverage::HostReport;
use super::ruling::Judged;
use super::{CoverageStatement, VantageTimes, Watched};
use crate::conversation::{CaptureIndex, Conversation, Conversations};
use crate::model::Nanos;
use crate::policy::{Party, Policy};

/// The least number of other hosts at which it is conspicuous that one host takes part in all
/// unicast traffic.
const MANY_OTHERS: usize = 4;

/// The periods in which only the traffic of single hosts was captured.
#[derive(Default)]
pub(super) struct CapturePlaces {
    times: Arc<VantageTimes>,
    /// Each period, with the listed hosts that take part in all of its unicast traffic. There are
    /// two only if the period shows nothing but their traffic with each other.
    periods: Vec<((Nanos, Nanos), Vec<usize>)>,
    /// The watched time without some of the periods, for each list that was needed so far.
    known: Mutex<HashMap<Vec<usize>, Arc<Watched>, ahash::RandomState>>,
}

impl CapturePlaces {
    /// Returns no periods if the inventory does not list the covered hosts, or if one host takes
    /// part in the traffic of all periods, which may then come from one place.
    pub fn of(policy: &Policy, index: &CaptureIndex, times: &Arc<VantageTimes>) -> Self {
        if !matches!(policy.inventory.covers, Some(CoverageStatement::Hosts(_))) {
            return Self::default();
        }
        let hosts = |ends: &[_]| ends.iter().filter_map(|end| policy.host_of(*end)).collect();
        let mut periods: Vec<(_, Vec<usize>)> =
            index.periods_with_ends().map(|(period, ends)| (period, hosts(ends))).collect();
        let is_everywhere = |host| periods.iter().all(|(_, hosts)| hosts.contains(host));
        if periods.iter().flat_map(|(_, hosts)| hosts).any(is_everywhere) {
            return Self::default();
        }
        periods.retain(|(_, hosts)| !hosts.is_empty());
        Self { times: Arc::clone(times), periods, known: Mutex::default() }
    }

    /// Returns whether a period shows only the traffic of a single host.
    pub fn is_single_host(&self, period: &(Nanos, Nanos)) -> bool {
        self.periods.iter().any(|(known, _)| known == period)
    }

    /// Returns the watched time that counts for traffic of these hosts, which is that of all inputs
    /// without the periods in which only the traffic of others was captured. Returns `None` if
    /// there are no such periods.
    pub fn watched(&self, hosts: &[usize]) -> Option<Arc<Watched>> {
        let is_of_others =
            |number: &usize| !self.periods[*number].1.iter().any(|host| hosts.contains(host));
        let others: Vec<usize> = (0..self.periods.len()).filter(is_of_others).collect();
        if others.is_empty() {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = known.get(&others) {
            return Some(Arc::clone(watched));
        }
        let periods: Vec<_> = others.iter().map(|number| self.periods[*number].0).collect();
        let watched = Arc::new(self.times.watched_without(&periods));
        known.insert(others, Arc::clone(&watched));
        Some(watched)
    }
}

/// Where a capture was probably made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CapturePlace {
    /// The index of a host in the inventory.
    Host(usize),
    /// An address that the inventory does not list.
    Unlisted(IpAddr),
}

/// Returns the host, or the unlisted address, at which the capture was probably made: it takes part
/// in all unicast traffic of listed hosts, although at least [`MANY_OTHERS`] other hosts with roles
/// sent packets. Hosts of a farm have traffic with more than one other host, for example with a
/// domain controller. A few packets of others do not count, because a switch sends packets to all
/// ports if it does not know the port of their receiver.
pub(super) fn only_place(
    policy: &Policy,
    (conversations, judged): (&Conversations, &[Judged]),
    hosts: &[HostReport],
) -> Option<CapturePlace> {
    /// The share of packets that a switch may have sent to all ports: one in this number.
    const FLOODED: u64 = 1000;
    let sends = |host: &usize| hosts[*host].presence.unicast_sent.0 > 0;
    let has_role = |host: &usize| !policy.inventory.hosts[*host].roles.is_empty();
    let sending: BTreeSet<usize> = (0..hosts.len()).filter(sends).filter(has_role).collect();
    if sending.len() < MANY_OTHERS {
        return None;
    }
    let mut all = 0;
    let mut of_host = vec![0; hosts.len()];
    let mut unlisted = UnlistedEnd::default();
    let both = || conversations.list.iter().zip(judged);
    let both = || both().filter(|(c, _)| !c.broadcast && !c.rare().on_wire);
    for (c, j) in both() {
        let [client, server] = [&j.client, &j.server].map(Party::host);
        let packets = c.to_server.packets.0 + c.to_client.packets.0;
        let other = server.filter(|host| client != Some(*host));
        client.into_iter().chain(other).for_each(|host| of_host[host] += packets);
        if client.or(server).is_some() {
            all += packets;
            unlisted.count(unlisted_end(c, j), packets);
        }
    }
    let is_place = |others: usize, own: u64| others >= MANY_OTHERS && all - own <= all / FLOODED;
    let host = (0..hosts.len())
        .filter(sends)
        .find(|host| is_place(sending.len() - usize::from(sending.contains(host)), of_host[*host]));
    let address = unlisted.candidate.filter(|candidate| {
        let of_candidate = both().filter(|(c, j)| unlisted_end(c, j) == Some(*candidate));
        let packets = of_candidate.map(|(c, _)| c.to_server.packets.0 + c.to_client.packets.0);
        is_place(sending.len(), packets.sum())
    });
    host.map(CapturePlace::Host).or(address.map(CapturePlace::Unlisted))
}

/// Returns the unlisted end of a conversation whose other end is a listed host.
fn unlisted_end(c: &Conversation, j: &Judged) -> Option<IpAddr> {
    match [j.client.host(), j.server.host()] {
        [Some(_), None] => Some(c.subject.server),
        [None, Some(_)] => Some(c.subject.client),
        _ => None,
    }
}

/// Finds the unlisted address that takes part in more than half of the traffic of listed hosts, if
/// there is one, with the majority vote of Boyer and Moore.
#[derive(Default)]
struct UnlistedEnd {
    candidate: Option<IpAddr>,
    votes: u64,
}

impl UnlistedEnd {
    fn count(&mut self, end: Option<IpAddr>, packets: u64) {
        match end {
            end if end == self.candidate => self.votes += packets,
            _ if packets <= self.votes => self.votes -= packets,
            end => (self.candidate, self.votes) = (end, packets - self.votes),
        }
    }
}
