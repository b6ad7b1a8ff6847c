//! Matches the ends of rows against hosts, addresses, networks and roles.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::key::Fit;
use super::row::ListedRow;
use crate::classify::RoleSet;
use crate::result::{AuditResult, Site, SiteRow, address_of};

/// A condition for an end of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndFilter {
    /// A host, a network or an address.
    Place {
        /// The name of the host or network; empty if the user gave an address or a prefix.
        names: BTreeSet<String>,
        /// The addresses, as networks. A single address is a network with one address.
        networks: Vec<IpNet>,
        /// The roles that the inventory gives these hosts and networks.
        roles: BTreeSet<String>,
    },
    /// An end with one of these roles.
    Role(BTreeSet<String>),
}

/// An end of a row.
struct RowEnd<'r> {
    /// The address; `*` for several, and empty if any host with the roles is meant.
    address: String,
    name: &'r str,
    roles: Vec<&'r str>,
    /// The hosts at this end, one by one: names and addresses.
    members: &'r [String],
}

/// The side of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RowSide {
    Client,
    Server,
}

impl EndFilter {
    /// Returns the filter for a host name, network name, address, network in CIDR notation or role.
    /// `role:NAME` always means a role. Returns `None` if neither the inventory nor the result
    /// contains what `text` names. Networks in CIDR notation are always accepted. Before the audit,
    /// when `result` is `None`, every address is accepted, too.
    pub fn of(text: &str, site: Option<&Site>, result: Option<&AuditResult<'_>>) -> Option<Self> {
        if let Some(role) = text.strip_prefix("role:") {
            return Self::of_role(role, site, result);
        }
        if let Some(network) = network_of(text) {
            let is_known = match (address_of(text), result) {
                (Some(_), Some(result)) => knows(site, result, &network),
                _ => true,
            };
            return is_known.then(|| Self::of_networks(BTreeSet::new(), vec![network], site));
        }
        let name = || BTreeSet::from([text.to_owned()]);
        if let Some(site) = site {
            if let Some(host) = site.hosts.iter().find(|host| host.name == text) {
                let networks = host.addresses.iter().map(|address| IpNet::from(*address));
                return Some(Self::Place {
                    names: name(),
                    networks: networks.collect(),
                    roles: slugs(site, host.roles).map(str::to_owned).collect(),
                });
            }
            let networks = site.networks.iter().filter(|network| network.name == text);
            let networks: Vec<IpNet> = networks.map(|network| network.cidr).collect();
            if !networks.is_empty() {
                return Some(Self::of_networks(name(), networks, Some(site)));
            }
        }
        if let Some(filter) = Self::of_role(text, site, result) {
            return Some(filter);
        }
        let is_named = result.is_some_and(|result| names_in(result).contains(text));
        is_named.then(|| Self::Place {
            names: name(),
            networks: Vec::new(),
            roles: BTreeSet::new(),
        })
    }

    /// Returns the filter for a role, by its stable name or its name in the product; `None` if
    /// there is no such role. Without `site`, only the stable names in the rows of the result are
    /// known.
    pub fn of_role(
        text: &str,
        site: Option<&Site>,
        result: Option<&AuditResult<'_>>,
    ) -> Option<Self> {
        let Some(site) = site else {
            let is_known = roles_in(result?).contains(text);
            return is_known.then(|| Self::Role(BTreeSet::from([text.to_owned()])));
        };
        let is_it = |slug: &str, name: &str| {
            slug.eq_ignore_ascii_case(text) || name.eq_ignore_ascii_case(text)
        };
        let roles = site.roles.iter().filter(|role| is_it(&role.slug, &role.name));
        let slugs: BTreeSet<String> = roles
            .flat_map(|role| slugs(site, role.members).chain([role.slug.as_str()]))
            .map(str::to_owned)
            .collect();
        (!slugs.is_empty()).then_some(Self::Role(slugs))
    }

    fn of_networks(names: BTreeSet<String>, networks: Vec<IpNet>, site: Option<&Site>) -> Self {
        let is_in = |address: &IpAddr| networks.iter().any(|network| network.contains(address));
        let roles = site.into_iter().flat_map(|site| {
            let hosts = site.hosts.iter().filter(|host| host.addresses.iter().any(is_in));
            let hosts = hosts.map(|host| host.roles);
            let around =
                site.networks.iter().filter(|n| networks.iter().any(|own| meet(own, &n.cidr)));
            let roles = hosts.chain(around.map(|network| network.roles));
            roles.flat_map(|roles| slugs(site, roles).map(str::to_owned)).collect::<Vec<_>>()
        });
        let roles = roles.collect();
        Self::Place { names, networks, roles }
    }

    fn roles(&self) -> &BTreeSet<String> {
        match self {
            Self::Place { roles, .. } | Self::Role(roles) => roles,
        }
    }

    fn holds_name(&self, name: &str) -> bool {
        matches!(self, Self::Place { names, .. } if names.contains(name))
    }

    fn holds(&self, address: IpAddr) -> bool {
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        matches!(self, Self::Place { networks, .. } if is_in(networks))
    }

    /// Returns whether one side of a row fits the condition. `number` is the index of the row in
    /// its table.
    pub(super) fn fit(
        &self,
        row: &ListedRow<'_>,
        number: usize,
        side: RowSide,
        site: Option<&Site>,
    ) -> Fit {
        match row {
            ListedRow::Matrix(row) => {
                let site_row = site.and_then(|site| Some((site, site.rows.get(number)?)));
                let slug = match side {
                    RowSide::Client => &row.source_role,
                    RowSide::Server => &row.destination_role,
                };
                self.fit_matrix(slug, side, site_row)
            }
            ListedRow::Host(row) => {
                let has_role = row.roles.iter().any(|role| self.roles().contains(role.as_ref()));
                let is_host = self.holds_name(&row.name)
                    || row.addresses.iter().any(|address| self.holds(*address));
                Fit::of(if matches!(self, Self::Role(_)) { has_role } else { is_host })
            }
            ListedRow::Exception(row) => {
                let (pattern, members) = match side {
                    RowSide::Client => (&row.from, &row.clients),
                    RowSide::Server => (&row.to, &row.servers),
                };
                self.fit_pattern(pattern, site).max(self.fit_members(members, site))
            }
            row => row_end(row, side).map_or(Fit::No, |end| self.fit_end(&end, site)),
        }
    }

    fn fit_end(&self, end: &RowEnd<'_>, site: Option<&Site>) -> Fit {
        let shares_role = end.roles.iter().any(|role| self.roles().contains(*role));
        match self {
            Self::Role(_) if shares_role => return Fit::Yes,
            // A row names no roles if its hosts have different roles, so its members decide.
            Self::Role(_) if !end.roles.is_empty() || end.address != "*" => return Fit::No,
            Self::Role(_) => {}
            Self::Place { .. } => {
                let is_it = address_of(&end.address).is_some_and(|address| self.holds(address));
                if is_it || self.holds_name(end.name) {
                    return Fit::Yes;
                }
                // Any host with the role is meant, so the finding may be about the wanted host.
                if end.address.is_empty() && end.name.is_empty() && shares_role {
                    return Fit::Unknown;
                }
            }
        }
        self.fit_members(end.members, site)
    }

    fn fit_members(&self, members: &[String], site: Option<&Site>) -> Fit {
        let fit = |member: &String| {
            if let Some(address) = address_of(member) {
                let kept = match self {
                    Self::Place { .. } => self.holds(address),
                    Self::Role(roles) => site.is_some_and(|site| {
                        let at = site.networks.iter().filter(|n| n.cidr.contains(&address));
                        at.flat_map(|n| slugs(site, n.roles)).any(|slug| roles.contains(slug))
                    }),
                };
                return Fit::of(kept);
            }
            let host = site.and_then(|site| site.hosts.iter().find(|host| host.name == *member));
            match (self, site.zip(host)) {
                _ if member.starts_with('+') => Fit::Unknown,
                (Self::Role(roles), Some((site, host))) => {
                    Fit::of(slugs(site, host.roles).any(|slug| roles.contains(slug)))
                }
                (Self::Place { .. }, Some((_, host))) => Fit::of(
                    self.holds_name(member) || host.addresses.iter().any(|a| self.holds(*a)),
                ),
                (_, None) => Fit::of(self.holds_name(member)),
            }
        };
        members.iter().map(fit).max().unwrap_or(Fit::No)
    }

    fn fit_matrix(&self, slug: &str, side: RowSide, row: Option<(&Site, &SiteRow)>) -> Fit {
        let by_site = row.is_some_and(|(site, row)| {
            let slugs: Vec<&String> = self.roles().iter().collect();
            let roles = site.roles_of(&slugs);
            match side {
                RowSide::Client => site.is_source(row, roles),
                RowSide::Server => site.is_destination(row, roles),
            }
        });
        Fit::of(by_site || self.roles().contains(slug))
    }

    /// Compares the filter with a side of an exception as the list writes it.
    fn fit_pattern(&self, pattern: &str, site: Option<&Site>) -> Fit {
        if pattern == "*" {
            return Fit::Yes;
        }
        if let Some(role) = pattern.strip_prefix("role:") {
            let Some(Self::Role(covered)) = Self::of_role(role, site, None) else {
                return Fit::of(self.roles().contains(role));
            };
            return Fit::of(!covered.is_disjoint(self.roles()));
        }
        let covered = Self::of(pattern, site, None);
        Fit::of(match (self, &covered) {
            (Self::Role(roles), Some(covered)) => !covered.roles().is_disjoint(roles),
            (Self::Place { networks, names, .. }, Some(Self::Place { networks: of, .. })) => {
                names.contains(pattern) || networks.iter().any(|a| of.iter().any(|b| meet(a, b)))
            }
            _ => self.holds_name(pattern),
        })
    }
}

/// Returns the names of hosts, networks and roles that a user can give as an end. If a user gives
/// an unknown name, the most similar one is suggested.
pub fn known_ends(site: Option<&Site>, result: Option<&AuditResult<'_>>) -> BTreeSet<String> {
    let mut known = result.map_or_else(BTreeSet::new, names_in);
    if let Some(site) = site {
        known.extend(site.hosts.iter().map(|host| host.name.clone()));
        known.extend(site.networks.iter().map(|network| network.name.clone()));
    }
    known.extend(known_roles(site, result));
    known
}

/// Returns the roles that a user can name.
pub fn known_roles(site: Option<&Site>, result: Option<&AuditResult<'_>>) -> BTreeSet<String> {
    match (site, result) {
        (Some(site), _) => site.roles.iter().map(|role| role.slug.clone()).collect(),
        (None, Some(result)) => roles_in(result),
        (None, None) => BTreeSet::new(),
    }
}

/// Returns the stable names of roles.
fn slugs(site: &Site, roles: RoleSet) -> impl Iterator<Item = &str> {
    roles.iter().filter_map(|role| site.roles.get(role)).map(|role| role.slug.as_str())
}

/// Parses an address or a network.
fn network_of(text: &str) -> Option<IpNet> {
    address_of(text).map(IpNet::from).or_else(|| text.parse().ok())
}

/// Returns whether two networks share addresses.
fn meet(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Returns whether the inventory or the traffic contains an address, which is given as a network.
fn knows(site: Option<&Site>, result: &AuditResult<'_>, network: &IpNet) -> bool {
    let is_it = |address: &IpAddr| network.contains(address);
    let listed = site.is_some_and(|site| {
        site.hosts.iter().flat_map(|host| &host.addresses).any(is_it)
            || site.services.iter().flat_map(|service| &service.addresses).any(is_it)
    });
    listed
        || result.conversations().any(|row| is_it(&row.client) || is_it(&row.server))
        || result.findings().any(|row| {
            let texts = [&row.client, &row.server];
            let mut all = texts.into_iter().chain(&row.clients).chain(&row.servers);
            all.any(|text| address_of(text).is_some_and(|address| is_it(&address)))
        })
}

/// Returns the names of hosts and networks in the rows of a result.
fn names_in(result: &AuditResult<'_>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for row in result.conversations() {
        names.extend([row.client_name, row.server_name].map(|name| name.into_owned()));
    }
    for row in result.findings() {
        names.extend([row.client_name, row.server_name]);
    }
    names.extend(result.hosts().map(|row| row.name.into_owned()));
    names.remove("");
    names
}

/// Returns the roles in the rows of a result, for results that do not list the roles.
fn roles_in(result: &AuditResult<'_>) -> BTreeSet<String> {
    let mut roles = BTreeSet::new();
    for row in result.matrix_rows() {
        roles.extend([row.source_role, row.destination_role].map(|role| role.into_owned()));
    }
    for row in result.hosts() {
        roles.extend(row.roles.into_iter().map(|role| role.into_owned()));
    }
    roles
}

fn row_end<'r>(row: &'r ListedRow<'_>, side: RowSide) -> Option<RowEnd<'r>> {
    Some(match (row, side) {
        (ListedRow::Finding(row), RowSide::Client) => RowEnd {
            address: row.client.clone(),
            name: &row.client_name,
            roles: row.client_roles.iter().map(String::as_str).collect(),
            members: &row.clients,
        },
        (ListedRow::Finding(row), RowSide::Server) => RowEnd {
            address: row.server.clone(),
            name: &row.server_name,
            roles: row.server_roles.iter().map(String::as_str).collect(),
            members: &row.servers,
        },
        (ListedRow::Conversation(row), RowSide::Client) => RowEnd {
            address: row.client.to_string(),
            name: &row.client_name,
            roles: row.client_roles.iter().map(AsRef::as_ref).collect(),
            members: &[],
        },
        (ListedRow::Conversation(row), RowSide::Server) => RowEnd {
            address: row.server.to_string(),
            name: &row.server_name,
            roles: row.server_roles.iter().map(AsRef::as_ref).collect(),
            members: &[],
        },
        _ => return None,
    })
}
