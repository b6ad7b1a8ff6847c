//! Limits the number of entries of side evidence.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::keyed::EvidenceKind;
use super::side_evidence::{HIDING_KINDS, SideEvidence};

/// How many entries of each bounded kind of side evidence are kept, and which of them.
#[derive(Clone, Copy)]
pub struct EvidenceLimit<'a> {
    /// The maximum number of entries of each kind.
    pub most: usize,
    /// Returns whether an address belongs to a host of the inventory. Entries about hosts are kept
    /// before others, so that traffic between other addresses cannot displace them.
    pub is_host: &'a dyn Fn(IpAddr) -> bool,
}

impl EvidenceLimit<'static> {
    /// All entries are kept.
    pub const NONE: Self = Self { most: usize::MAX, is_host: &|_| false };
}

impl EvidenceLimit<'_> {
    /// Returns how many of these addresses belong to hosts.
    pub(super) fn hosts_among(&self, addresses: [Option<IpAddr>; 2]) -> usize {
        addresses.into_iter().flatten().filter(|address| (self.is_host)(*address)).count()
    }
}

/// The entries that were dropped from one kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct DroppedEntries {
    /// Their number.
    pub count: u64,
    /// Whether one of them is about a host of the inventory.
    pub of_hosts: bool,
}

/// The kinds of side evidence from which entries were dropped because there were too many, by name,
/// and whether one of the entries is about a host of the inventory.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct TrimmedKinds(BTreeMap<String, bool>);

impl TrimmedKinds {
    /// Records entries that were dropped from the kind with this name.
    pub(super) fn add(&mut self, kind: &str, dropped: DroppedEntries) {
        if dropped.count > 0 {
            *self.0.entry(kind.to_owned()).or_default() |= dropped.of_hosts;
        }
    }

    /// Returns the descriptions of the kinds, in the order of the list of kinds.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        let kinds = SideEvidence::LIMITED_KINDS.iter();
        kinds.filter(|(name, _)| self.0.contains_key(*name)).map(|(_, words)| *words)
    }

    /// Returns whether entries about hosts of the inventory were dropped that may have shown how
    /// traffic of these hosts passed without being recognized.
    pub fn may_hide_traffic(&self) -> bool {
        HIDING_KINDS.iter().any(|kind| self.0.get(*kind).copied().unwrap_or(false))
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
        assert!(!strangers.may_hide_traffic());
        let hosts = trimmed(&[("orphans", true), ("claims", false)]);
        assert!(hosts.may_hide_traffic());
        let [mut there, mut back] = [strangers.clone(), hosts.clone()];
        EvidenceKind::merge(&mut there, hosts);
        EvidenceKind::merge(&mut back, strangers);
        assert_eq!(there, back);
        assert!(there.may_hide_traffic());
        assert_eq!(there.words().count(), 3);
        assert_eq!(trimmed(&[]).words().count(), 0);
        let mut none = TrimmedKinds::default();
        none.add("orphans", DroppedEntries::default());
        assert!(none.is_empty());
        // The names are those of the list.
        for kind in HIDING_KINDS {
            assert!(SideEvidence::LIMITED_KINDS.iter().any(|(name, _)| *name == kind), "{kind}");
        }
    }
}
