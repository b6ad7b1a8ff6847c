//! Finds addresses that listed hosts advertise as virtual, although the inventory lists them as
//! addresses of one host.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::conversation::Conversations;
use crate::policy::Policy;

/// An address that the inventory lists for one host, although listed hosts advertised it as
/// virtual. Any of these hosts may send and receive its traffic.
pub struct UndeclaredVirtual {
    /// The address.
    pub address: IpAddr,
    /// The host that the inventory lists the address for.
    pub host: usize,
    /// The hosts that advertised the address (VRRP).
    pub holders: BTreeSet<usize>,
}

impl UndeclaredVirtual {
    /// Returns all such addresses, in order. An advertisement from the address itself does not
    /// count, because the owner of an address may advertise it (RFC 9568, 1.7).
    pub fn all(policy: &Policy, conversations: &Conversations) -> Vec<Self> {
        let masters = conversations.vrrp_masters.iter();
        let undeclared = masters.filter_map(|(address, masters)| {
            let host = policy.host_of(*address)?;
            let others = masters.iter().filter(|master| *master != address);
            let holders: BTreeSet<usize> =
                others.filter_map(|master| policy.host_of(*master)).collect();
            let is_declared = policy.inventory.hosts[host].is_virtual();
            (!is_declared && !holders.is_empty()).then_some(Self {
                address: *address,
                host,
                holders,
            })
        });
        undeclared.collect()
    }
}
