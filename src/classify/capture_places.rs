//! The places at which captures were made one after the other. Without a span port, administrators
//! capture on one host after another, and each of these captures shows only the traffic of its
//! host, although the inventory states that the capture covers all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{CoverageStatement, VantageTimes, Watched};
use crate::conversation::CaptureIndex;
use crate::model::Nanos;
use crate::policy::Policy;

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
