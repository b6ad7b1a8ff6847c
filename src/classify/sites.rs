//! Determines which hosts belong to the same site of a farm. A farm may have several sites, and the
//! components of one have no traffic with those of another, so traffic between two hosts is only
//! expected for certain if they belong to the same site.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::row_counts::{Attempt, ByGroup};
use crate::policy::{Expectation, Matrix, Policy};

/// The maximum number of sites that are inferred from traffic, so that the cost of comparing hosts
/// of all sites with each other is bounded.
const MANY_SITES: usize = 64;

/// What is known about the site of a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub(super) struct HostSite {
    /// The site that the inventory states, as its index among all sites in alphabetical order.
    stated: Option<u32>,
    /// The first of the hosts that steady traffic between components connects with this host, as
    /// its index.
    linked: Option<u32>,
}

impl HostSite {
    /// Returns whether the inventory states or traffic shows that both hosts belong to one site.
    pub fn is_same(self, other: Self) -> bool {
        match (self.stated, other.stated) {
            (Some(own), Some(other)) => own == other,
            _ => self.linked.is_some() && self.linked == other.linked,
        }
    }

    /// Returns whether the inventory states different sites for two hosts.
    pub fn differs(self, other: Self) -> bool {
        matches!((self.stated, other.stated), (Some(own), Some(other)) if own != other)
    }
}

/// The sites of all hosts, in the order of the inventory.
pub(super) struct Sites(Vec<HostSite>);

impl Sites {
    /// Determines the sites from the inventory and from steady traffic between components with
    /// different roles. Traffic between hosts of one role does not count, because brokers of
    /// different sites may communicate, and neither does occasional traffic, because a console may
    /// manage several sites.
    pub fn new(policy: &Policy, attempts: &ByGroup<Attempt>) -> Self {
        let hosts = &policy.inventory.hosts;
        let mut links = Links::new(hosts.len());
        let groups: Vec<bool> =
            policy.matrix.groups.values().map(|rows| links_hosts(&policy.matrix, rows)).collect();
        for ((group, source), all) in attempts {
            if groups[usize::from(*group)] {
                let answered = all.iter().filter(|own| own.answered && !own.tunnelled);
                for host in answered.filter_map(|own| own.to.host()) {
                    links.join(*source, host);
                }
            }
        }
        let names: BTreeSet<&String> = hosts.iter().filter_map(|host| host.site.as_ref()).collect();
        let names: HashMap<&String, u32> = names.into_iter().zip(0..).collect();
        let stated = hosts.iter().map(|host| Some(names[host.site.as_ref()?]));
        let stated: Vec<Option<u32>> = stated.collect();
        let mut linked = links.groups();
        // Hosts of different sites that are connected show that the traffic separates no sites.
        let mut of_group = BTreeMap::<u32, BTreeSet<u32>>::new();
        for (group, stated) in linked.iter().zip(&stated) {
            if let (Some(group), Some(stated)) = (group, stated) {
                of_group.entry(*group).or_default().insert(*stated);
            }
        }
        let is_mixed = |group: &u32| of_group.get(group).is_some_and(|stated| stated.len() > 1);
        linked.iter_mut().for_each(|group| *group = group.filter(|group| !is_mixed(group)));
        let both = stated.into_iter().zip(linked);
        Self(both.map(|(stated, linked)| HostSite { stated, linked }).collect())
    }

    /// Returns what is known about the site of a host.
    pub fn of(&self, host: usize) -> HostSite {
        self.0[host]
    }
}

/// Returns whether the rows of a group expect steady traffic between components of different roles.
fn links_hosts(matrix: &Matrix, rows: &[usize]) -> bool {
    let are_components = |role: usize| {
        let mut members = matrix.roles[role].members.iter();
        !matrix.roles[role].is_any
            && members.all(|member: usize| matrix.roles[member].is_component())
    };
    rows.iter().map(|row| &matrix.rows[*row]).all(|row| {
        row.expectation == Expectation::Steady
            && !matrix.roles[row.source].members.intersects(matrix.roles[row.destination].members)
            && are_components(row.source)
            && are_components(row.destination)
    })
}

/// Groups of hosts that are connected with each other. Each host points to one before it, or to
/// itself if it is the first of its group.
struct Links(Vec<usize>);

impl Links {
    fn new(hosts: usize) -> Self {
        Self((0..hosts).collect())
    }

    fn first(&mut self, mut host: usize) -> usize {
        while self.0[host] != host {
            self.0[host] = self.0[self.0[host]];
            host = self.0[host];
        }
        host
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.first(one), self.first(other));
        self.0[one.max(other)] = one.min(other);
    }

    /// Returns the first host of each host's group; `None` if the host is connected with no other,
    /// or if its group is not among the [`MANY_SITES`] largest.
    fn groups(mut self) -> Vec<Option<u32>> {
        let firsts: Vec<usize> = (0..self.0.len()).map(|host| self.first(host)).collect();
        let mut sizes = BTreeMap::<usize, usize>::new();
        firsts.iter().for_each(|first| *sizes.entry(*first).or_default() += 1);
        let mut largest: Vec<(usize, usize)> =
            sizes.into_iter().filter(|(_, size)| *size > 1).collect();
        largest.sort_by_key(|(first, size)| (std::cmp::Reverse(*size), *first));
        largest.truncate(MANY_SITES);
        largest.sort_unstable();
        let is_large = |first: &usize| largest.binary_search_by_key(first, |own| own.0).is_ok();
        firsts.into_iter().map(|first| is_large(&first).then_some(first as u32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connected_hosts_are_one_group_whatever_the_order() {
        let links = [(0, 3), (5, 3), (2, 6)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut own = Links::new(7);
            order.iter().for_each(|number| own.join(links[*number].0, links[*number].1));
            let groups = [Some(0), None, Some(2), Some(0), None, Some(0), Some(2)];
            assert_eq!(own.groups(), groups);
        }
    }

    #[test]
    fn only_the_largest_groups_are_kept() {
        let mut own = Links::new(2 * MANY_SITES + 3);
        (0..=MANY_SITES).for_each(|number| own.join(2 * number, 2 * number + 1));
        own.join(2 * MANY_SITES, 2 * MANY_SITES + 2);
        let groups = own.groups();
        assert_eq!(groups[2 * MANY_SITES], Some(2 * MANY_SITES as u32));
        assert_eq!(groups[2 * (MANY_SITES - 1)], None);
        assert_eq!(groups[0], Some(0));
    }

    #[test]
    fn what_the_inventory_states_prevails_over_traffic() {
        let site = |stated, linked| HostSite { stated, linked };
        let [berlin, paris] = [site(Some(0), Some(7)), site(Some(1), Some(7))];
        assert!(!berlin.is_same(paris) && berlin.differs(paris));
        assert!(berlin.is_same(site(Some(0), None)));
        assert!(berlin.is_same(site(None, Some(7))) && !berlin.differs(site(None, Some(7))));
        assert!(!berlin.is_same(site(None, None)) && !site(None, None).is_same(site(None, None)));
    }
}
