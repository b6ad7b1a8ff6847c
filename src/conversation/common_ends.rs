//! The ends that all traffic of a period has in common.

use std::net::IpAddr;

use crate::model::Merge;

/// The addresses that take part in all unicast traffic of a period: at most two.
#[derive(Clone, Default)]
pub(super) struct CommonEnds {
    /// `None` if there is no traffic.
    ends: Option<Vec<IpAddr>>,
}

impl CommonEnds {
    /// Returns whether the traffic has no common end, so that further traffic changes nothing.
    pub fn are_none(&self) -> bool {
        self.ends.as_ref().is_some_and(Vec::is_empty)
    }

    /// Adds traffic between two addresses.
    pub fn add(&mut self, mut both: [IpAddr; 2]) {
        both.sort_unstable();
        match &mut self.ends {
            Some(ends) => ends.retain(|end| both.contains(end)),
            None => self.ends = Some(both.to_vec()),
        }
    }

    /// Returns the common ends, or `None` if there is no traffic.
    pub fn get(&self) -> Option<&[IpAddr]> {
        self.ends.as_deref()
    }
}

impl Merge for CommonEnds {
    fn merge(&mut self, other: &Self) {
        match (&mut self.ends, &other.ends) {
            (Some(ends), Some(others)) => ends.retain(|end| others.contains(end)),
            (ends @ None, Some(others)) => *ends = Some(others.clone()),
            (_, None) => {}
        }
    }
}
