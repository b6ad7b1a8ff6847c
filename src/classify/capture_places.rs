//! The places at which captures were made one after the other. Without a span port, administrators
//! capture on one host after another, and each of these captures shows only the traffic of its
//! host, although the inventory states that the capture covers all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::coverage::HostReport;
use super::{CoverageStatement, VantageTimes, Watched};
use crate::conversation::{CaptureIndex, Conversations};
use crate::model::Nanos;
use crate::policy::Policy;

/// The number of other hosts from which on a host in all unicast traffic is conspicuous.
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
            index.runs().map(|(run, ends)| (run, hosts(ends))).collect();
        let is_everywhere = |host| periods.iter().all(|(_, hosts)| hosts.contains(host));
        if periods.iter().flat_map(|(_, hosts)| hosts).any(is_everywhere) {
            return Self::default();
        }
        periods.retain(|(_, hosts)| !hosts.is_empty());
        Self { times: Arc::clone(times), periods, known: Mutex::default() }
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

/// Returns the host on which the capture was probably made: it takes part in all unicast traffic,
/// although at least [`MANY_OTHERS`] other hosts with roles sent packets. Hosts of a farm have
/// traffic with more than one other host, for example with a domain controller.
pub(super) fn only_place(
    policy: &Policy,
    conversations: &Conversations,
    hosts: &[HostReport],
) -> Option<usize> {
    let all: u64 =
        conversations.index.unordered_presences().map(|(_, seen)| seen.unicast_sent.0).sum();
    let sends = |host: &usize| hosts[*host].presence.unicast_sent.0 > 0;
    let has_role = |host: &usize| !policy.inventory.hosts[*host].roles.is_empty();
    let others = (0..hosts.len()).filter(sends).filter(has_role).count().saturating_sub(1);
    let is_in_all = |host: &usize| {
        let own = &hosts[*host].presence;
        own.unicast_sent.0 + own.received.packets.0 >= all
    };
    (0..hosts.len()).filter(|_| others >= MANY_OTHERS).filter(sends).find(is_in_all)
}
