//! The kinds of side evidence from which entries were dropped.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::evidence_limit::DroppedEntries;
use super::keyed::EvidenceKind;

/// The kinds of side evidence from which entries were dropped because there were too many, by name,
/// and whether one of the entries is about a host of the inventory.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(super) struct TrimmedKinds(BTreeMap<String, bool>);

impl TrimmedKinds {
    /// Records entries that were dropped from the kind with this name.
    pub(super) fn add(&mut self, kind: &str, dropped: DroppedEntries) {
        if dropped.count > 0 {
            *self.0.entry(kind.to_owned()).or_default() |= dropped.of_hosts;
        }
    }

    /// Returns whether entries were dropped from the kind with this name.
    pub fn contains(&self, kind: &str) -> bool {
        self.0.contains_key(kind)
    }

    /// Returns whether entries about hosts of the inventory were dropped from the kind with this
    /// name.
    pub fn includes_hosts(&self, kind: &str) -> bool {
        self.0.get(kind).copied().unwrap_or(false)
    }
}

impl EvidenceKind for TrimmedKinds {
    fn merge(&mut self, other: Self) {
        for (kind, of_hosts) in other.0 {
            *self.0.entry(kind).or_default() |= of_hosts;
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn memory(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_stays_known_whatever_came_first() {
        let trimmed = |kinds: &[(&str, bool)]| {
            let mut trimmed = TrimmedKinds::default();
            for (kind, of_hosts) in kinds {
                trimmed.add(kind, DroppedEntries { count: 1, of_hosts: *of_hosts });
            }
            trimmed
        };
        let strangers = trimmed(&[("orphans", false), ("lookups", true)]);
        let hosts = trimmed(&[("orphans", true), ("claims", false)]);
        let [mut there, mut back] = [strangers.clone(), hosts.clone()];
        EvidenceKind::merge(&mut there, hosts);
        EvidenceKind::merge(&mut back, strangers);
        assert_eq!(there, back);
        let kinds = ["orphans", "lookups", "claims", "masters"];
        assert_eq!(kinds.map(|kind| there.contains(kind)), [true, true, true, false]);
        assert_eq!(kinds.map(|kind| there.includes_hosts(kind)), [true, true, false, false]);
        let mut none = TrimmedKinds::default();
        none.add("orphans", DroppedEntries::default());
        assert!(none.is_empty());
    }
}
