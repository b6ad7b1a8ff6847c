//! Groups the hosts of the farm by their roles, and places the groups in columns, so that the
//! drawing of a farm does not grow with the number of its hosts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::farm::Farm;
use crate::classify::{Coverage, PartyKind, RoleSet, Severity, Verdict};
use crate::result::{AuditResult, EndIdentity, FindingRow, Site, address_of};

/// The maximum number of groups. Each set of roles is one group. If these are too many, hosts with
/// the same first role form one group instead. If these are still too many, the last roles of the
/// matrix share one.
const GROUPS: usize = 36;
/// The maximum number of groups for each end of a finding about any host of a role.
const GROUPS_OF_ROLE: usize = 3;
/// The number of passes that move groups next to the groups that they are connected to.
const PASSES: usize = 4;

/// The index of a group.
pub(super) type GroupNumber = usize;

/// A host, network or service in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GroupMember {
    Host(usize),
    Network(usize),
    Service(usize),
}

/// The members of the farm that have the same roles.
#[derive(Default)]
pub(super) struct HostGroup {
    /// The roles of all members, or only their first roles if there are too many sets of roles.
    /// `None` for the group of everything that the inventory does not list.
    pub roles: Option<RoleSet>,
    pub members: Vec<GroupMember>,
}

/// The kind of a finding that connects two groups.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum LinkKind {
    Unexpected,
    Missing,
}

/// The findings of one kind from one group to another, or inside a group.
pub(super) struct FindingLink {
    pub from: GroupNumber,
    pub to: GroupNumber,
    pub kind: LinkKind,
    pub count: u64,
    pub worst: Severity,
}

/// The groups of a farm, and the traffic between them.
pub(super) struct FarmGroups {
    pub groups: Vec<HostGroup>,
    /// The groups of each column, from top to bottom. Clients are on the left.
    pub columns: Vec<Vec<GroupNumber>>,
    /// The pairs of groups with traffic that the matrix documents or an exception permits.
    pub documented: BTreeSet<(GroupNumber, GroupNumber)>,
    /// The findings between groups, worst first.
    pub links: Vec<FindingLink>,
    /// For each finding, the groups of the client and those of the server. The finding is not drawn
    /// if either list is empty.
    pub ends: Vec<[Vec<GroupNumber>; 2]>,
    /// The number of findings that name each host or network, by its name. Findings that are not
    /// drawn are included.
    pub findings_of: HashMap<String, u64>,
    /// The number of findings without a line, by verdict.
    pub undrawn: BTreeMap<String, u64>,
    /// The names of the hosts that the capture does not show.
    pub unseen: HashSet<String>,
}

impl FarmGroups {
    /// Groups a farm. `findings` are the findings of the page, worst first.
    pub fn of(result: &AuditResult<'_>, farm: &Farm<'_>, findings: &[FindingRow<'_>]) -> Self {
        let membership = Membership::of(farm.site);
        let documented = membership.documented(result);
        let ends: Vec<_> = findings.iter().map(|row| membership.ends(result, row)).collect();
        let mut links: BTreeMap<(GroupNumber, GroupNumber, LinkKind), (u64, Severity)> =
            BTreeMap::new();
        let mut findings_of: HashMap<String, u64> = HashMap::new();
        let mut undrawn: BTreeMap<String, u64> = BTreeMap::new();
        for (finding, [from, to]) in findings.iter().zip(&ends) {
            membership.count(finding, &mut findings_of);
            if from.is_empty() || to.is_empty() {
                *undrawn.entry(finding.verdict.to_string()).or_default() += 1;
            }
            let Some(kind) = link_kind(finding) else { continue };
            let severity = Severity::parse(&finding.severity).unwrap_or(Severity::Info);
            for (from, to) in from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))) {
                let link = links.entry((from, to, kind)).or_insert((0, severity));
                *link = (link.0 + 1, link.1.max(severity));
            }
        }
        let links = links.into_iter().map(|((from, to, kind), (count, worst))| FindingLink {
            from,
            to,
            kind,
            count,
            worst,
        });
        let mut links: Vec<FindingLink> = links.collect();
        links.sort_by_key(|link| (std::cmp::Reverse(link.worst), link.from, link.to, link.kind));
        let pairs: BTreeSet<(GroupNumber, GroupNumber)> = links
            .iter()
            .map(|link| (link.from, link.to))
            .chain(documented.iter().copied())
            .collect();
        let columns = columns(&membership.groups, &pairs);
        let unseen = result.hosts().filter(|host| host.coverage == Coverage::NotSeen.name());
        let unseen = unseen.map(|host| host.name.into_owned()).collect();
        let groups = membership.groups;
        Self { columns, groups, documented, links, ends, findings_of, undrawn, unseen }
    }
}

/// Returns how a finding is drawn; `None` if it is not.
pub(super) fn link_kind(finding: &FindingRow<'_>) -> Option<LinkKind> {
    if Severity::parse(&finding.severity).is_none_or(|severity| severity == Severity::Info) {
        return None;
    }
    match Verdict::parse(&finding.verdict)? {
        Verdict::UnexpectedPort | Verdict::Undocumented => Some(LinkKind::Unexpected),
        Verdict::Missing => Some(LinkKind::Missing),
        _ => None,
    }
}

/// The group of each host, network and service of the inventory.
struct Membership<'a> {
    site: &'a Site,
    groups: Vec<HostGroup>,
    hosts: Vec<GroupNumber>,
    networks: Vec<GroupNumber>,
    services: Vec<GroupNumber>,
    /// The group of each host and network, by name. Hosts take precedence.
    named: HashMap<&'a str, GroupNumber>,
}

impl<'a> Membership<'a> {
    fn of(site: &'a Site) -> Self {
        let hosts = site.hosts.iter().map(|host| host.roles);
        let networks = site.networks.iter().map(|network| network.roles);
        let services = site.services.iter().map(|service| RoleSet::one(service.role));
        let sets: BTreeSet<RoleSet> =
            hosts.clone().chain(networks.clone()).chain(services.clone()).collect();
        let keys = group_keys(&sets);
        let distinct: BTreeSet<RoleSet> = keys.values().copied().collect();
        let numbers: BTreeMap<RoleSet, GroupNumber> = distinct.iter().copied().zip(0..).collect();
        let group = |roles: &RoleSet| HostGroup { roles: Some(*roles), members: Vec::new() };
        let mut groups: Vec<HostGroup> = distinct.iter().map(group).collect();
        groups.push(HostGroup::default());
        let [hosts, networks, services] = [hosts.collect(), networks.collect(), services.collect()]
            .map(|sets: Vec<RoleSet>| {
                sets.iter().map(|roles| numbers[&keys[roles]]).collect::<Vec<GroupNumber>>()
            });
        for (number, group) in hosts.iter().enumerate() {
            groups[*group].members.push(GroupMember::Host(number));
        }
        for (number, group) in networks.iter().enumerate() {
            groups[*group].members.push(GroupMember::Network(number));
        }
        for (number, group) in services.iter().enumerate() {
            groups[*group].members.push(GroupMember::Service(number));
        }
        let network_names = site.networks.iter().map(|network| network.name.as_str());
        let host_names = site.hosts.iter().map(|host| host.name.as_str());
        let named = network_names.zip(networks.iter().copied());
        let named = named.chain(host_names.zip(hosts.iter().copied())).collect();
        Self { site, groups, hosts, networks, services, named }
    }

    /// Counts a finding for each host and network that it names.
    fn count(&self, finding: &FindingRow<'_>, findings_of: &mut HashMap<String, u64>) {
        let names: BTreeSet<&String> = [&finding.client_name, &finding.server_name]
            .into_iter()
            .chain(&finding.clients)
            .chain(&finding.servers)
            .collect();
        for name in names.into_iter().filter(|name| self.named.contains_key(name.as_str())) {
            *findings_of.entry(name.clone()).or_default() += 1;
        }
    }

    /// Returns the group of everything that the inventory does not list.
    fn outside(&self) -> GroupNumber {
        self.groups.len() - 1
    }

    /// Returns the group of a party.
    fn group(&self, party: PartyKind) -> GroupNumber {
        match party {
            PartyKind::Host(host) => self.hosts[host],
            PartyKind::Network(network) => self.networks[network],
            PartyKind::Service(service) => self.services[service],
            PartyKind::RolesOnly | PartyKind::Stranger => self.outside(),
        }
    }

    /// Returns the pairs of groups with documented or excepted traffic.
    fn documented(&self, result: &AuditResult<'_>) -> BTreeSet<(GroupNumber, GroupNumber)> {
        let permitted = result
            .conversation_briefs()
            .filter(|talk| matches!(talk.verdict, Some(Verdict::Documented | Verdict::Excepted)));
        let pairs = permitted.filter_map(|talk| talk.parties);
        pairs.map(|[from, to]| (self.group(from.kind), self.group(to.kind))).collect()
    }

    /// Returns the groups of the client and those of the server of a finding. It is not drawn if
    /// either list is empty.
    fn ends(&self, result: &AuditResult<'_>, finding: &FindingRow<'_>) -> [Vec<GroupNumber>; 2] {
        match link_kind(finding) {
            Some(_) => [result.client(finding), result.server(finding)].map(|end| self.end(&end)),
            None => Default::default(),
        }
    }

    /// Returns the groups of one end of a finding. The end is looked up by its name, otherwise by
    /// its address, and otherwise by its roles, for which at most [`GROUPS_OF_ROLE`] groups are
    /// returned. An end that stands for hosts with different roles has no group. Any other end
    /// belongs to the group outside the inventory.
    fn end(&self, end: &EndIdentity) -> Vec<GroupNumber> {
        if let Some(group) = self.named.get(end.name.as_str()) {
            return vec![*group];
        }
        if let Some(address) = address_of(&end.address) {
            return vec![self.group(self.site.party_kind(address))];
        }
        let slugs: Vec<&str> = end.roles.split(';').filter(|slug| !slug.is_empty()).collect();
        let roles = self.site.roles_of(&slugs);
        let groups = self.groups.iter().enumerate();
        let playing = groups
            .filter(|(_, group)| group.roles.is_some_and(|of_group| of_group.intersects(roles)));
        let playing: Vec<GroupNumber> =
            playing.map(|(number, _)| number).take(GROUPS_OF_ROLE).collect();
        match (playing.is_empty(), end.address.as_str()) {
            (false, _) => playing,
            (true, "*") => Vec::new(),
            (true, _) => vec![self.outside()],
        }
    }
}

/// Returns the roles of the group that the members with each set of roles belong to.
fn group_keys(sets: &BTreeSet<RoleSet>) -> BTreeMap<RoleSet, RoleSet> {
    // One more group is for everything outside the inventory.
    if sets.len() < GROUPS {
        return sets.iter().map(|roles| (*roles, *roles)).collect();
    }
    let first = |roles: &RoleSet| roles.iter().next().map_or(*roles, RoleSet::one);
    let firsts: BTreeSet<RoleSet> = sets.iter().map(first).collect();
    let own = if firsts.len() < GROUPS { firsts.len() } else { GROUPS - 2 };
    let shared = firsts.iter().skip(own).fold(RoleSet::default(), |all, one| all.with(*one));
    let of = |roles: &RoleSet| {
        let first = first(roles);
        if first.intersects(shared) { shared } else { first }
    };
    sets.iter().map(|roles| (*roles, of(roles))).collect()
}

/// Places groups in columns: those that mostly act as clients on the left, those that mostly act as
/// servers on the right. In each column, groups are next to those that they are connected to.
fn columns(
    groups: &[HostGroup],
    pairs: &BTreeSet<(GroupNumber, GroupNumber)>,
) -> Vec<Vec<GroupNumber>> {
    let mut neighbours: Vec<BTreeSet<GroupNumber>> = vec![BTreeSet::new(); groups.len()];
    let mut balance = vec![(0i64, 0i64); groups.len()];
    for (from, to) in pairs.iter().filter(|(from, to)| from != to) {
        neighbours[*from].insert(*to);
        neighbours[*to].insert(*from);
        balance[*from] = (balance[*from].0 + 1, balance[*from].1 + 1);
        balance[*to] = (balance[*to].0 - 1, balance[*to].1 + 1);
    }
    let mut order: Vec<GroupNumber> = (0..groups.len()).collect();
    order.sort_by_key(|group| {
        let (difference, connections) = balance[*group];
        let score = (connections > 0).then(|| difference * 1000 / connections);
        // Groups without connections come last.
        (score.is_none(), std::cmp::Reverse(score), *group)
    });
    let count = match groups.len() {
        0..=1 => 1,
        2..=4 => 2,
        5..=9 => 3,
        _ => 4,
    };
    let length = groups.len().div_ceil(count).max(1);
    let mut columns: Vec<Vec<GroupNumber>> = order.chunks(length).map(<[_]>::to_vec).collect();
    for _ in 0..PASSES {
        // The height of a group is its place in its column, in thousandths of the column.
        let mut height = vec![0i64; groups.len()];
        for column in &columns {
            for (place, group) in column.iter().enumerate() {
                height[*group] = (place as i64 * 2 + 1) * 500 / column.len() as i64;
            }
        }
        for column in &mut columns {
            column.sort_by_key(|group| {
                let others = &neighbours[*group];
                let sum: i64 = others.iter().map(|other| height[*other]).sum();
                let mean = sum.checked_div(others.len() as i64).unwrap_or(height[*group]);
                (mean, *group)
            });
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_groups_than_the_drawing_has_room_for() {
        let count = |sets: &BTreeSet<RoleSet>| {
            let keys = group_keys(sets);
            assert!(sets.iter().all(|roles| roles.is_empty() || keys[roles].intersects(*roles)));
            keys.values().collect::<BTreeSet<_>>().len()
        };
        let single = |roles: usize| (0..roles).map(RoleSet::one).collect::<BTreeSet<_>>();
        let pairs = |roles: usize| {
            (1..roles).map(|role| RoleSet::one(0).with(RoleSet::one(role))).collect::<BTreeSet<_>>()
        };
        assert_eq!(count(&single(GROUPS - 1)), GROUPS - 1);
        assert_eq!(count(&pairs(60)), 1);
        for roles in [GROUPS, 60] {
            let mut sets = single(roles);
            assert_eq!(count(&sets), GROUPS - 1);
            sets.insert(RoleSet::default());
            assert_eq!(count(&sets), GROUPS - 1);
        }
    }

    #[test]
    fn clients_stand_left_of_their_servers_and_every_group_stands_once() {
        let groups: Vec<HostGroup> = (0..12).map(|_| HostGroup::default()).collect();
        // Group 11 connects to group 5, and group 5 to group 0. The connection inside group 3 does
        // not count, so the other groups are not connected.
        let columns = columns(&groups, &BTreeSet::from([(11, 5), (5, 0), (3, 3)]));
        let column = |group| columns.iter().position(|column| column.contains(&group));
        assert!(column(11) <= column(5) && column(5) <= column(0));
        assert!(column(0) <= column(7));
        let mut all: Vec<GroupNumber> = columns.concat();
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<_>>());
        assert_eq!(columns.len(), 4);
    }
}
