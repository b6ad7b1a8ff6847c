//! The roles, matrix rows and inventory that an audit judged against, as far as reports show them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::classify::{EndpointTarget, FeatureState, Party, PartyKind, Policy, RoleSet};

/// The matrix and the inventory that the capture was judged against, as far as reports show them.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Site {
    /// The roles of the matrix. Other keys refer to them by their index in this list.
    pub roles: Vec<SiteRole>,
    /// The rows of the matrix, in the order of `matrix_rows`.
    pub rows: Vec<SiteRow>,
    /// The hosts of the inventory, in the order of `hosts`.
    pub hosts: Vec<SiteHost>,
    /// The networks of the inventory.
    pub networks: Vec<SiteNetwork>,
    /// The destinations that the inventory lists by name or address.
    pub services: Vec<SiteService>,
}

/// A role of the matrix.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SiteRole {
    /// The stable name of the role.
    pub slug: String,
    /// The name of the role in this version of the product.
    pub name: String,
    /// The indices of the roles that this role stands for. A role that is not a group stands for
    /// itself.
    #[serde(with = "places")]
    #[schemars(with = "Vec<usize>")]
    pub members: RoleSet,
    /// Whether the role stands for every address.
    pub everybody: bool,
    /// Whether a host can have the role.
    pub playable: bool,
    /// The name for drawings and narrow columns. Empty if the rules do not state one.
    #[serde(default)]
    pub short: String,
}

/// A row of the matrix.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SiteRow {
    /// The index of the source role.
    pub source: usize,
    /// The index of the destination role.
    pub destination: usize,
    /// The name or address of the destination, if the destination is not a role.
    pub only: Option<String>,
    /// The first and the last port.
    pub ports: (u16, u16),
    /// The table of the vendor's document that contains the row.
    pub section: String,
    /// The overlay that contains the row. Null for a row of the matrix itself.
    pub overlay: Option<String>,
    /// The purpose of the traffic.
    pub purpose: String,
    /// The features that the row needs.
    pub features: Vec<String>,
    /// Whether a feature that the row needs is off.
    pub is_off: bool,
    /// The file that contains the row. Built-in rules have a path that starts with `rules/`. Empty
    /// if unknown.
    #[serde(default)]
    pub file: String,
    /// The line of the row in `file`; 0 if unknown.
    #[serde(default)]
    pub line: usize,
}

/// A host of the inventory.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SiteHost {
    /// The name of the host.
    pub name: String,
    /// The addresses of the host.
    pub addresses: Vec<IpAddr>,
    /// The indices of the roles of the host.
    #[serde(with = "places")]
    #[schemars(with = "Vec<usize>")]
    pub roles: RoleSet,
    /// Whether the host is a virtual address that other hosts hold.
    pub is_virtual: bool,
    /// The line of the inventory that lists the host; 0 if unknown.
    #[serde(default)]
    pub line: usize,
    /// Whether the capture covers all traffic of the host, according to the inventory or to the
    /// traffic.
    #[serde(default)]
    pub is_watched: bool,
    /// The longest time in seconds in which the host sent unicast frames without a pause of more
    /// than two minutes and the capture was not interrupted. Null in results of earlier versions.
    #[serde(default)]
    pub active_seconds: Option<u64>,
}

/// How much of a host's traffic the capture shows.
#[derive(Clone, Copy, Default)]
pub struct HostWatch {
    /// Whether the capture covers all traffic of the host.
    pub is_watched: bool,
    /// See [`SiteHost::active_seconds`].
    pub active_seconds: Option<u64>,
}

/// A network of the inventory.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SiteNetwork {
    /// The name of the network.
    pub name: String,
    /// The prefix of the network.
    #[serde(with = "as_text")]
    #[schemars(with = "String")]
    pub cidr: IpNet,
    /// The indices of the roles of the network.
    #[serde(with = "places")]
    #[schemars(with = "Vec<usize>")]
    pub roles: RoleSet,
    /// The line of the inventory that lists the network; 0 if unknown.
    #[serde(default)]
    pub line: usize,
}

/// A destination that the inventory lists by name or address.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SiteService {
    /// The addresses of the destination.
    pub addresses: Vec<IpAddr>,
    /// The index of the role of the destination.
    pub role: usize,
    /// The line of the inventory that lists the destination; 0 if unknown.
    #[serde(default)]
    pub line: usize,
}

/// The entry of the inventory that lists an address.
pub struct Listing<'a> {
    /// The name of the host or network, or the role of the destination.
    pub name: &'a str,
    /// The line of the inventory; 0 if unknown.
    pub line: usize,
}

impl Site {
    /// Returns the matrix and the inventory that an audit judged against. `watch_of` says how much
    /// of a host's traffic the capture shows.
    pub fn of(policy: &Policy, watch_of: impl Fn(usize) -> HostWatch) -> Self {
        let matrix = &policy.matrix;
        let inventory = &policy.inventory;
        let roles = matrix.roles.iter().map(|role| SiteRole {
            slug: role.slug.clone(),
            name: role.name.clone(),
            members: role.members,
            everybody: role.is_any,
            playable: role.is_playable(),
            short: role.short.clone(),
        });
        let rows = matrix.rows.iter().map(|row| SiteRow {
            source: row.source,
            destination: row.destination,
            only: row.only.as_ref().map(|only| match only {
                EndpointTarget::Name(name) => name.to_string(),
                EndpointTarget::Address(address) => address.to_string(),
            }),
            ports: (*row.ports.start(), *row.ports.end()),
            section: row.section.clone(),
            overlay: row.overlay.clone(),
            purpose: row.purpose.clone(),
            features: row.features.clone(),
            is_off: policy.feature_state(row) == FeatureState::Off,
            file: row.file.to_string(),
            line: row.line,
        });
        let hosts = inventory.hosts.iter().enumerate().map(|(number, host)| {
            let HostWatch { is_watched, active_seconds } = watch_of(number);
            SiteHost {
                name: host.name.clone(),
                addresses: host.addresses.clone(),
                roles: host.roles,
                is_virtual: host.is_virtual(),
                line: host.line,
                is_watched,
                active_seconds,
            }
        });
        let networks = inventory.networks.iter().map(|network| SiteNetwork {
            name: network.name.clone(),
            cidr: network.cidr,
            roles: network.roles,
            line: network.line,
        });
        let services = inventory.services.iter().map(|service| SiteService {
            addresses: service.addresses.clone(),
            role: service.role,
            line: service.line,
        });
        Self {
            roles: roles.collect(),
            rows: rows.collect(),
            hosts: hosts.collect(),
            networks: networks.collect(),
            services: services.collect(),
        }
    }

    /// Returns the roles with these stable names. Unknown names are ignored.
    pub fn roles_of(&self, slugs: &[impl AsRef<str>]) -> RoleSet {
        let place = |slug: &str| self.roles.iter().position(|role| role.slug == slug);
        let numbers = slugs.iter().filter_map(|slug| place(slug.as_ref()));
        numbers.fold(RoleSet::default(), |set, role| set.with(RoleSet::one(role)))
    }

    /// Returns the names of the roles in a set.
    pub fn titles(&self, roles: RoleSet) -> Vec<&str> {
        roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .map(|role| role.name.as_str())
            .collect()
    }

    /// Returns the short name of a role, or its name if the rules do not state a short one.
    pub fn short_title(&self, role: usize) -> &str {
        self.roles.get(role).map_or("", |role| match role.short.as_str() {
            "" => role.name.as_str(),
            short => short,
        })
    }

    /// Returns whether a party with these roles can be the source of a row.
    pub fn is_source(&self, row: &SiteRow, roles: RoleSet) -> bool {
        let role = &self.roles[row.source];
        role.everybody || role.members.intersects(roles)
    }

    /// Returns whether a party with these roles can be the destination of a row.
    pub fn is_destination(&self, row: &SiteRow, roles: RoleSet) -> bool {
        let role = &self.roles[row.destination];
        role.everybody || role.members.intersects(roles)
    }

    /// Returns the entry of the inventory that lists an address; `None` if there is none.
    pub fn listing(&self, address: IpAddr) -> Option<Listing<'_>> {
        let listing = |name, line| Some(Listing { name, line });
        match self.party_kind(address) {
            PartyKind::Host(host) => listing(self.hosts[host].name.as_str(), self.hosts[host].line),
            PartyKind::Network(network) => {
                let network = &self.networks[network];
                listing(network.name.as_str(), network.line)
            }
            PartyKind::Service(service) => {
                let service = &self.services[service];
                listing(self.roles.get(service.role)?.name.as_str(), service.line)
            }
            _ => None,
        }
    }

    /// Returns the kind of party that has an address, according to the inventory alone.
    pub fn party_kind(&self, address: IpAddr) -> PartyKind {
        let is_it = |addresses: &[IpAddr]| addresses.contains(&address);
        if let Some(host) = self.hosts.iter().position(|host| is_it(&host.addresses)) {
            return PartyKind::Host(host);
        }
        if let Some(service) = self.services.iter().position(|service| is_it(&service.addresses)) {
            return PartyKind::Service(service);
        }
        let networks = self.networks.iter().enumerate();
        let holding = networks.filter(|(_, network)| network.cidr.contains(&address));
        let longest = holding.max_by_key(|(number, network)| (network.cidr.prefix_len(), *number));
        longest.map_or(PartyKind::Stranger, |(number, _)| PartyKind::Network(number))
    }

    /// Returns whether the number of roles and all role indices are valid. A stored result may
    /// contain invalid ones.
    pub(super) fn is_sound(&self) -> bool {
        let all = self.roles.len();
        let known = |roles: RoleSet| roles.iter().all(|role| role < all);
        all <= RoleSet::MAX
            && self.roles.iter().all(|role| known(role.members))
            && self.rows.iter().all(|row| row.source < all && row.destination < all)
            && self.hosts.iter().all(|host| known(host.roles))
            && self.networks.iter().all(|network| known(network.roles))
            && self.services.iter().all(|service| service.role < all)
    }
}

/// Finds the parties of stored conversations.
pub(super) struct Finder<'s> {
    site: &'s Site,
    hosts: HashMap<&'s str, usize>,
    networks: HashMap<&'s str, usize>,
    services: HashMap<IpAddr, usize>,
    roles: HashMap<&'s str, usize>,
}

impl<'s> Finder<'s> {
    pub fn new(site: &'s Site) -> Self {
        let services = site.services.iter().enumerate();
        let services = services
            .flat_map(|(number, service)| service.addresses.iter().map(move |a| (*a, number)));
        Self {
            site,
            hosts: site.hosts.iter().enumerate().map(|(n, host)| (host.name.as_str(), n)).collect(),
            networks: site
                .networks
                .iter()
                .zip(0..)
                .map(|(net, n)| (net.name.as_str(), n))
                .collect(),
            services: services.collect(),
            roles: site.roles.iter().zip(0..).map(|(role, n)| (role.slug.as_str(), n)).collect(),
        }
    }

    /// Returns the party at one end of a conversation, according to the row of the conversation.
    pub fn party(&self, address: IpAddr, name: &str, roles: &[Cow<'_, str>]) -> Party {
        let numbers = roles.iter().filter_map(|slug| self.roles.get(slug.as_ref()));
        let roles = numbers.fold(RoleSet::default(), |set, role| set.with(RoleSet::one(*role)));
        let named = match (self.hosts.get(name), self.networks.get(name)) {
            _ if name.is_empty() => None,
            // A host and a network may have the same name, so the address decides.
            (Some(host), Some(network)) => {
                let is_its_own = self.site.hosts[*host].addresses.contains(&address);
                Some(if is_its_own { PartyKind::Host(*host) } else { PartyKind::Network(*network) })
            }
            (Some(host), None) => Some(PartyKind::Host(*host)),
            (None, Some(network)) => Some(PartyKind::Network(*network)),
            (None, None) => None,
        };
        let kind = named
            .or_else(|| self.services.get(&address).map(|service| PartyKind::Service(*service)))
            .unwrap_or(PartyKind::Stranger);
        Party { kind, roles }
    }

    /// Returns the site that parties are looked up in.
    pub fn site(&self) -> &'s Site {
        self.site
    }
}

/// Serializes roles as their indices.
mod places {
    use super::{Deserialize, Deserializer, RoleSet, Serializer};

    pub fn serialize<S: Serializer>(roles: &RoleSet, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(roles.iter())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RoleSet, D::Error> {
        let places = Vec::<usize>::deserialize(deserializer)?;
        if let Some(place) = places.iter().find(|place| **place >= RoleSet::MAX) {
            return Err(serde::de::Error::custom(format!("there is no role number {place}")));
        }
        Ok(places.into_iter().fold(RoleSet::default(), |set, role| set.with(RoleSet::one(role))))
    }
}

/// Serializes values as text.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(
        value: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
