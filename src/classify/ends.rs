//! The ends of findings, each with an id, and the text that identifies an end across captures.
//! Finding ids and the order of findings depend on this text.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::policy::{Party, PartyKind, Policy, RoleSet};

/// The id of an end in the `EndInterner`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EndId(u32);

/// The host, address or group of hosts at one end of a finding.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum EndKey {
    /// A host of the inventory, by index.
    Host(u32),
    /// All addresses in a network of the inventory that have the same roles. The number is the
    /// index of the network.
    Network(u32, RoleSet),
    /// An address that the inventory does not list, or lists as a service.
    Address(IpAddr),
    /// Any host that has one of these roles.
    Roles(RoleSet),
    /// The text of a destination in the matrix that is not a role, or of one side of an exception.
    Words(Box<str>),
    /// Many clients of one network or, in a flood, of all unlisted networks.
    Many(NetworkGroup),
    /// Any host.
    Everybody,
}

/// The network that findings show in place of many clients.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NetworkGroup {
    /// A network of the inventory, by index.
    Listed(u32),
    /// The /24 (IPv4) or /64 (IPv6) of addresses that are not in any network of the inventory.
    Prefix(IpNet),
    /// All unlisted networks together, for a server port that is flooded from many of them.
    Flood,
}

impl NetworkGroup {
    /// Returns the network that contains an address.
    pub(super) fn of(policy: &Policy, address: IpAddr) -> Self {
        match policy.network(address) {
            Some(number) => Self::Listed(number as u32),
            None => Self::Prefix(prefix_of(address)),
        }
    }

    /// Returns the name of the network as findings show it.
    pub fn name(self, policy: &Policy) -> String {
        match self {
            Self::Listed(number) => policy.inventory.networks[number as usize].name.clone(),
            Self::Prefix(prefix) => prefix.to_string(),
            Self::Flood => "*".to_owned(),
        }
    }
}

/// Returns the /24 of an IPv4 address or the /64 of an IPv6 address.
pub(super) fn prefix_of(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).map_or_else(|_| IpNet::from(address), |net| net.trunc())
}

impl EndKey {
    /// Returns the key of an address as the end of a finding.
    pub(super) fn of(party: &Party, address: IpAddr) -> Self {
        match party.kind {
            PartyKind::Host(host) => Self::Host(host as u32),
            PartyKind::Network(network) => Self::Network(network as u32, party.roles),
            PartyKind::Service(_) | PartyKind::Stranger | PartyKind::RolesOnly => {
                Self::Address(address)
            }
        }
    }

    /// Returns the text that identifies the end across captures.
    pub fn identity(&self, policy: &Policy) -> String {
        let roles = |roles: RoleSet| policy.matrix.role_names(roles).join(";");
        match self {
            Self::Host(host) => policy.inventory.hosts[*host as usize].name.clone(),
            Self::Network(network, of) => {
                let name = &policy.inventory.networks[*network as usize].name;
                format!("{name}\u{1f}{}", roles(*of))
            }
            Self::Address(address) => address.to_string(),
            Self::Roles(of) => format!("any {}", roles(*of)),
            Self::Words(words) => format!("any {words}"),
            Self::Many(network) => format!("{} *", network.name(policy)),
            Self::Everybody => "*".to_owned(),
        }
    }
}

/// The ends of findings, each stored once.
#[derive(Default)]
pub struct EndInterner {
    list: Vec<EndKey>,
    known: HashMap<EndKey, EndId, ahash::RandomState>,
    /// The ids of the ends that are hosts, by host index. Most look-ups are for hosts, and this
    /// list avoids hashing.
    hosts: Vec<Option<EndId>>,
}

impl EndInterner {
    /// Returns the id of an end. Adds the end if it is new.
    pub(super) fn id(&mut self, key: EndKey) -> EndId {
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        let id = EndId(self.list.len() as u32);
        self.list.push(key.clone());
        self.known.insert(key, id);
        id
    }

    /// Returns the id of the end that an address belongs to.
    pub(super) fn id_of(&mut self, party: &Party, address: IpAddr) -> EndId {
        let PartyKind::Host(host) = party.kind else { return self.id(EndKey::of(party, address)) };
        if let Some(Some(id)) = self.hosts.get(host) {
            return *id;
        }
        let id = self.id(EndKey::of(party, address));
        self.hosts.resize(self.hosts.len().max(host + 1), None);
        self.hosts[host] = Some(id);
        id
    }

    /// Returns the key of an end.
    pub fn get(&self, id: EndId) -> &EndKey {
        &self.list[id.0 as usize]
    }

    /// Returns the rank of each end in the order of [`EndKey::identity`].
    pub(super) fn ranks(&self, policy: &Policy) -> Vec<u32> {
        let texts = self.list.iter().map(|key| key.identity(policy));
        let mut order: Vec<(String, usize)> = texts.zip(0..).collect();
        order.sort_unstable();
        let mut ranks = vec![0; order.len()];
        let mut rank = 0;
        for (place, (text, number)) in order.iter().enumerate() {
            // Ends with equal texts have equal ranks, so that the other parts of their findings
            // determine the order.
            rank += u32::from(place > 0 && order[place - 1].0 != *text);
            ranks[*number] = rank;
        }
        ranks
    }

    /// Looks up the rank of an end in the result of [`Self::ranks`].
    pub(super) fn rank(ranks: &[u32], id: EndId) -> u32 {
        ranks[id.0 as usize]
    }
}

impl EndId {
    /// Returns the id as a number. These numbers sort in the same order as the ids.
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// Returns the id for a number from [`Self::bits`].
    pub(super) fn of_bits(bits: u32) -> Self {
        Self(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{BROKER_1, FARM, GW_1, ip, policy};

    #[test]
    fn many_clients_are_shown_as_the_network_around_them() {
        assert_eq!(prefix_of(ip("198.51.100.77")).to_string(), "198.51.100.0/24");
        assert_eq!(prefix_of(ip("2001:db8:1:2:3::4")).to_string(), "2001:db8:1:2::/64");
        let policy = policy(FARM);
        assert_eq!(NetworkGroup::of(&policy, ip("10.9.0.7")), NetworkGroup::Listed(0));
        assert_eq!(NetworkGroup::of(&policy, ip("10.9.1.7")).name(&policy), "10.9.1.0/24");
        assert_eq!(NetworkGroup::Listed(0).name(&policy), "office");
        assert_eq!(NetworkGroup::Flood.name(&policy), "*");
    }

    #[test]
    fn the_identity_of_an_end_does_not_depend_on_its_place_in_the_inventory() {
        let policy = policy(FARM);
        let broker = policy.inventory.hosts[BROKER_1].roles;
        let cases = [
            (EndKey::Host(BROKER_1 as u32), "broker1"),
            (EndKey::Network(0, RoleSet::default()), "office\u{1f}"),
            (EndKey::Network(0, broker), "office\u{1f}broker"),
            (EndKey::Address(ip("192.0.2.1")), "192.0.2.1"),
            (EndKey::Roles(broker), "any broker"),
            (EndKey::Words("dc1".into()), "any dc1"),
            (EndKey::Many(NetworkGroup::Listed(0)), "office *"),
            (EndKey::Everybody, "*"),
        ];
        for (key, text) in cases {
            assert_eq!(key.identity(&policy), text);
        }
    }

    #[test]
    fn an_end_has_one_id_and_all_addresses_of_a_host_are_one_end() {
        let policy = policy(FARM);
        let mut ends = EndInterner::default();
        let of = |text: &str, ends: &mut EndInterner| {
            let address = ip(text);
            ends.id_of(&policy.party(address, []), address)
        };
        let broker = of("10.1.0.10", &mut ends);
        assert_eq!(ends.id(EndKey::Host(BROKER_1 as u32)), broker);
        assert_eq!(of("10.1.0.10", &mut ends), broker);
        assert_ne!(of("10.1.0.20", &mut ends), broker);
        // All clients in a listed network are one end. Each unlisted address is an end of its own.
        assert_eq!(of("10.9.0.5", &mut ends), of("10.9.0.6", &mut ends));
        assert_ne!(of("198.51.100.1", &mut ends), of("198.51.100.2", &mut ends));
        assert_eq!(EndId::of_bits(broker.bits()), broker);
        assert_eq!(ends.get(broker), &EndKey::Host(BROKER_1 as u32));
    }

    #[test]
    fn ranks_follow_the_identities_and_equal_texts_share_one() {
        let policy = policy(FARM);
        let mut ends = EndInterner::default();
        let keys = [
            EndKey::Words("broker".into()),
            EndKey::Host(GW_1 as u32),
            EndKey::Roles(policy.inventory.hosts[BROKER_1].roles),
            EndKey::Everybody,
        ];
        let ids = keys.map(|key| ends.id(key));
        let ranks = ends.ranks(&policy);
        // In order, the identities are "*", "any broker" (of two ends) and "gw1".
        assert_eq!(ids.map(|id| EndInterner::rank(&ranks, id)), [1, 2, 1, 0]);
    }
}
