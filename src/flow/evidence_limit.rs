//! Limits the number of entries of side evidence.

use std::net::IpAddr;

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
