//! The ends of findings, for display.

use std::net::IpAddr;

use super::Site;
use crate::classify::{EndKey, NetworkGroup, Party, PartyKind, Policy, RoleSet};

/// One end of a finding.
#[derive(Clone, Default, Debug)]
pub struct EndIdentity {
    /// Address; `*` for several. Empty if any host with the roles is meant, or if no address is
    /// known.
    pub address: String,
    /// Name of the host or network; empty if the inventory has none.
    pub name: String,
    /// Role slugs joined by `;`.
    pub roles: String,
    /// Names of the roles in the farm's version of the product.
    titles: Vec<String>,
    /// Whether `name` is the name of a network, and not of the end itself.
    in_network: bool,
    /// Number of hosts with these roles that the end stands for; 0 if they are not counted.
    count: usize,
}

impl EndIdentity {
    /// Returns the end at an address.
    pub(super) fn of(policy: &Policy, party: &Party, address: IpAddr) -> Self {
        Self {
            address: address.to_string(),
            name: policy.name_of(party).to_owned(),
            in_network: matches!(party.kind, PartyKind::Network(_)),
            ..Self::playing(policy, party.roles)
        }
    }

    /// Returns an end that stands for several parties. If their addresses differ, the address is
    /// `*`. A name or roles that differ are left empty. Without parties, all fields are empty.
    pub(super) fn of_all<'p>(
        policy: &Policy,
        mut all: impl Iterator<Item = (&'p Party, IpAddr)>,
    ) -> Self {
        let Some((first, address)) = all.next() else { return Self::default() };
        let mut end = Self::of(policy, first, address);
        let mut one_address = true;
        let mut one_name = true;
        let mut one_roles = true;
        for (party, other) in all {
            one_address &= other == address;
            one_name &= party.kind == first.kind || policy.name_of(party) == end.name;
            one_roles &= party.roles == first.roles;
        }
        if !one_address {
            "*".clone_into(&mut end.address);
        }
        if !one_name {
            end.name.clear();
        }
        if !one_roles {
            end.roles.clear();
            end.titles.clear();
        }
        end
    }

    /// Derives an end from its key alone, without looking at the conversations.
    pub(super) fn of_key(policy: &Policy, key: &EndKey) -> Self {
        match key {
            EndKey::Host(host) => {
                let host = &policy.inventory.hosts[*host as usize];
                let address = host.addresses.first().map_or_else(String::new, ToString::to_string);
                let name = host.name.clone();
                Self { address, name, ..Self::playing(policy, host.roles) }
            }
            EndKey::Network(_, roles) | EndKey::Roles(roles) => Self::playing(policy, *roles),
            EndKey::Address(address) => Self { address: address.to_string(), ..Self::default() },
            EndKey::Words(words) => Self { titles: vec![words.to_string()], ..Self::default() },
            EndKey::Many(_) | EndKey::Everybody => {
                Self { address: "*".to_owned(), ..Self::default() }
            }
        }
    }

    /// Returns an end that stands for any host with one of the roles.
    pub(super) fn playing(policy: &Policy, roles: RoleSet) -> Self {
        let titles = policy.matrix.role_titles(roles).into_iter().map(str::to_owned).collect();
        let roles = policy.matrix.role_names(roles).join(";");
        Self { roles, titles, ..Self::default() }
    }

    /// Gives the end the name and the address of a host of the inventory.
    pub(super) fn named_after(self, policy: &Policy, host: usize) -> Self {
        let host = &policy.inventory.hosts[host];
        let address = host.addresses.first().map_or_else(String::new, ToString::to_string);
        Self { address, name: host.name.clone(), ..self }
    }

    /// Makes the end stand for a network, or for many networks.
    pub(super) fn become_network(&mut self, policy: &Policy, network: NetworkGroup) {
        self.name = match network {
            NetworkGroup::Flood => "many networks".to_owned(),
            network => network.name(policy),
        };
        self.in_network = true;
    }

    /// Returns one end of a row of the findings or of the conversations.
    pub(super) fn of_row(site: Option<&Site>, address: &str, name: &str, roles: &[String]) -> Self {
        let titles = site.map_or_else(Vec::new, |site| site.titles(site.roles_of(roles)));
        let is_host = site.is_some_and(|site| site.hosts.iter().any(|host| host.name == name));
        Self {
            address: address.to_owned(),
            name: name.to_owned(),
            roles: roles.join(";"),
            titles: titles.into_iter().map(str::to_owned).collect(),
            in_network: !name.is_empty() && !is_host,
            count: 0,
        }
    }

    /// Makes the end stand for `count` hosts with its roles, or for any such host if `count` is 0.
    /// If the only host is known, it is the end.
    pub(super) fn many(self, count: usize) -> Self {
        let is_known = !self.name.is_empty() || !matches!(self.address.as_str(), "" | "*");
        if count == 1 && is_known {
            return self;
        }
        let address = if count == 0 { String::new() } else { "*".to_owned() };
        Self { address, count, ..self }
    }

    /// Describes the end by its name or address, or by the number or the roles of its hosts.
    pub fn words(&self) -> String {
        match (self.name.as_str(), self.address.as_str()) {
            _ if self.count > 0 => {
                let noun = if self.count == 1 { "host" } else { "hosts" };
                if self.titles.is_empty() {
                    format!("{} {noun}", self.count)
                } else {
                    format!("{} {noun} ({})", self.count, self.titles.join(" or "))
                }
            }
            ("", "") => format!("any {}", self.titles.join(" or ")),
            ("", "*") => "several hosts".to_owned(),
            ("", address) => address.to_owned(),
            (name, "*") => format!("several addresses of {name}"),
            (name, address) if self.in_network => format!("{address} of {name}"),
            (name, _) => name.to_owned(),
        }
    }

    /// Describes the end like [`Self::words`], and adds its roles if they are not yet mentioned.
    pub fn words_with_roles(&self) -> String {
        let has_them = self.titles.is_empty() || self.count > 0;
        if has_them || (self.name.is_empty() && self.address.is_empty()) {
            self.words()
        } else {
            format!("{} ({})", self.words(), self.titles.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_known_host_is_not_several() {
        let known = EndIdentity {
            address: "10.0.0.1".to_owned(),
            name: "broker1".to_owned(),
            ..EndIdentity::default()
        };
        let one = known.clone().many(1);
        assert_eq!((one.address.as_str(), one.words()), ("10.0.0.1", "broker1".to_owned()));
        let two = known.many(2);
        assert_eq!((two.address.as_str(), two.words()), ("*", "2 hosts".to_owned()));
        assert_eq!(EndIdentity::default().many(1).words(), "1 host");
    }
}
