//! Hosts that have different names in two inventories.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Serialize;

use crate::result::AuditResult;

/// A host that has another name in the new inventory.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct HostRename {
    /// The name in the old inventory.
    pub old: String,
    /// The name in the new inventory.
    pub new: String,
    /// The addresses of the host, which are the same in both inventories.
    pub addresses: Vec<IpAddr>,
}

/// Returns the hosts that were renamed. A host was renamed if its name is not in the new inventory,
/// and exactly one new name there belongs to a host with the same addresses and roles. The hardware
/// addresses of the two hosts must not contradict this.
pub(super) fn between(old: &AuditResult<'_>, new: &AuditResult<'_>) -> Vec<HostRename> {
    let names = |result: &AuditResult<'_>| -> BTreeSet<String> {
        result.hosts().map(|host| host.name.to_string()).collect()
    };
    let kept = names(new);
    let known = names(old);
    let hosts: Vec<_> = new.hosts().filter(|host| !known.contains(host.name.as_ref())).collect();
    let mut renames = Vec::new();
    for before in old.hosts().filter(|host| !kept.contains(host.name.as_ref())) {
        let addresses: BTreeSet<IpAddr> = before.addresses.iter().copied().collect();
        let mut same = hosts.iter().filter(|now| {
            let theirs: BTreeSet<IpAddr> = now.addresses.iter().copied().collect();
            let macs = (&before.hardware_addresses, &now.hardware_addresses);
            let contradicts = !macs.0.is_empty()
                && !macs.1.is_empty()
                && !macs.0.iter().any(|mac| macs.1.contains(mac));
            !theirs.is_empty() && theirs == addresses && before.roles == now.roles && !contradicts
        });
        if let (Some(now), None) = (same.next(), same.next()) {
            renames.push(HostRename {
                old: before.name.to_string(),
                new: now.name.to_string(),
                addresses: addresses.into_iter().collect(),
            });
        }
    }
    renames
}
