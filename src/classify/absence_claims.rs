//! Claims that traffic is missing or could not be assessed. A claim refers to its source,
//! destination and rows by index.

use std::collections::HashMap;

use super::coverage::Peer;
use super::verdict::Doubts;
use crate::policy::{Policy, RoleSet, Row};

/// The index of a group of matrix rows, in the order of the group names.
pub type GroupId = u16;

/// The index of a claim in [`AbsenceClaims`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClaimId(u32);

/// The index of a list of matrix rows in [`AbsenceClaims`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RowsId(u32);

/// The destination that traffic should have gone to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum To {
    /// The index of a host in the inventory.
    Host(u32),
    /// The index of a service in the inventory.
    Service(u32),
    /// Any host or service of a list in [`AbsenceClaims`], except the source itself. The number is
    /// the index of the list.
    AnyOf(u32),
}

impl To {
    /// Returns the destination if it is a single host or service.
    pub(super) fn peer(self) -> Option<Peer> {
        match self {
            Self::Host(host) => Some(Peer::Host(host as usize)),
            Self::Service(service) => Some(Peer::Service(service as usize)),
            Self::AnyOf(_) => None,
        }
    }
}

/// A claim that traffic from one source is missing or could not be assessed.
#[derive(Clone, Copy, Debug)]
pub struct AbsenceClaim {
    /// The index of the host that should have initiated the traffic.
    pub source: u32,
    /// The destination that the traffic should have gone to.
    pub to: To,
    /// The rows that the claim is about.
    pub rows: RowsId,
    /// The time for which the rows have to be watched, in seconds.
    pub watch_s: u64,
    /// The trigger of the traffic, if any: the group of rows that documents it, and the index of
    /// its conversation.
    pub trigger: Option<(GroupId, u32)>,
    /// Whether the traffic is expected only because of few sessions of one client.
    pub is_weakly_triggered: bool,
    /// The reasons why the claim may be wrong.
    pub doubts: Doubts,
    /// Whether traffic that matches the rows was seen inside a tunnel that the inventory does not
    /// declare.
    pub tunnelled: bool,
    /// Whether the claim is that traffic is missing. If false, the claim is that the traffic could
    /// not be assessed.
    pub is_of_absence: bool,
}

/// The merged claims of one group that have the same code.
#[derive(Default)]
pub struct MergedPairs {
    /// The number of pairs of a source and a destination.
    pub pairs: u64,
    /// The number of pairs for which the claim is not certain.
    pub doubtful: u64,
    /// The hosts that should have initiated the traffic, in order.
    pub sources: Vec<u32>,
    /// The destinations, in order; empty if any host with the role would be enough.
    pub to: Vec<Peer>,
}

/// A stored claim, with its group and the pairs that were merged into it.
struct Claimed {
    claim: AbsenceClaim,
    group: GroupId,
    merged: Option<Box<MergedPairs>>,
}

/// All absence claims of an audit, each with an id.
#[derive(Default)]
pub struct AbsenceClaims {
    list: Vec<Claimed>,
    rows: Vec<Vec<usize>>,
    known_rows: HashMap<Vec<usize>, RowsId, ahash::RandomState>,
    peer_lists: Vec<Vec<Peer>>,
    known_peer_lists: HashMap<RoleSet, u32, ahash::RandomState>,
}

impl AbsenceClaims {
    /// Returns the claim with this id.
    pub fn get(&self, id: ClaimId) -> &AbsenceClaim {
        &self.list[id.0 as usize].claim
    }

    /// Returns the pairs whose claims were merged into this one; `None` if nothing was merged.
    pub fn merged_pairs(&self, id: ClaimId) -> Option<&MergedPairs> {
        self.list[id.0 as usize].merged.as_deref()
    }

    /// Returns the group of rows that a claim is about.
    pub fn group(&self, id: ClaimId) -> GroupId {
        self.list[id.0 as usize].group
    }

    /// Returns the indices of the rows in the matrix.
    pub fn rows(&self, id: RowsId) -> &[usize] {
        &self.rows[id.0 as usize]
    }

    /// Returns the ports of a claim as reports show them, joined by `;`.
    pub fn ports(&self, policy: &Policy, id: ClaimId) -> String {
        let mut ports: Vec<String> = Vec::new();
        for row in self.rows(self.get(id).rows) {
            let port = policy.ports_here(&policy.matrix.rows[*row]);
            if !port.is_empty() && !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports.join(";")
    }

    /// Returns the hosts and services that the traffic should have gone to. If they are a list, the
    /// source itself is left out.
    pub fn to(&self, claim: &AbsenceClaim) -> Vec<Peer> {
        match claim.to {
            To::Host(host) => vec![Peer::Host(host as usize)],
            To::Service(service) => vec![Peer::Service(service as usize)],
            To::AnyOf(list) => {
                let own = Peer::Host(claim.source as usize);
                let all = self.peer_list(list).iter().copied();
                all.filter(|peer| *peer != own).collect()
            }
        }
    }

    /// Returns the hosts and services in the list with this index.
    pub(super) fn peer_list(&self, list: u32) -> &[Peer] {
        &self.peer_lists[list as usize]
    }

    /// Returns the index of the list of hosts and services that have one of these roles. Each list
    /// is built once.
    pub(super) fn peer_list_of(&mut self, policy: &Policy, roles: RoleSet) -> u32 {
        if let Some(list) = self.known_peer_lists.get(&roles) {
            return *list;
        }
        let services = policy.inventory.services.iter().enumerate();
        let services = services.filter(|(_, s)| RoleSet::one(s.role).intersects(roles));
        let services = services.map(|(number, _)| Peer::Service(number));
        let list = self.peer_lists.len() as u32;
        self.peer_lists.push(policy.hosts_of(roles).map(Peer::Host).chain(services).collect());
        self.known_peer_lists.insert(roles, list);
        list
    }

    /// Returns the id of a list of rows. Equal lists have the same id.
    pub(super) fn rows_id(&mut self, rows: &[usize]) -> RowsId {
        if let Some(id) = self.known_rows.get(rows) {
            return *id;
        }
        let id = RowsId(self.rows.len() as u32);
        self.rows.push(rows.to_vec());
        self.known_rows.insert(rows.to_vec(), id);
        id
    }

    /// Stores a claim and returns its id.
    pub(super) fn add(
        &mut self,
        claim: AbsenceClaim,
        group: GroupId,
        merged: Option<MergedPairs>,
    ) -> ClaimId {
        let id = ClaimId(self.list.len() as u32);
        self.list.push(Claimed { claim, group, merged: merged.map(Box::new) });
        id
    }
}

/// Returns the roles at one end of some rows. `side` selects the source or the destination role of
/// a row.
pub fn roles_on(policy: &Policy, rows: &[usize], side: fn(&Row) -> usize) -> RoleSet {
    let matrix = &policy.matrix;
    let roles = rows.iter().map(|row| matrix.roles[side(&matrix.rows[*row])].members);
    roles.fold(RoleSet::default(), RoleSet::with)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{BROKER_1, FARM, RDSH_1, policy};

    fn claim(source: u32, to: To, rows: RowsId) -> AbsenceClaim {
        AbsenceClaim {
            source,
            to,
            rows,
            watch_s: 60,
            trigger: None,
            is_weakly_triggered: false,
            doubts: Doubts::default(),
            tunnelled: false,
            is_of_absence: true,
        }
    }

    #[test]
    fn equal_lists_of_rows_are_stored_once() {
        let mut claims = AbsenceClaims::default();
        let first = claims.rows_id(&[1, 2]);
        let second = claims.rows_id(&[2, 1]);
        assert_ne!(first, second);
        assert_eq!(claims.rows_id(&[1, 2]), first);
        assert_eq!((claims.rows(first), claims.rows(second)), (&[1, 2][..], &[2, 1][..]));
    }

    #[test]
    fn a_host_is_not_expected_to_connect_to_itself() {
        let policy = policy(FARM);
        let mut claims = AbsenceClaims::default();
        let rows = claims.rows_id(&[0]);
        let session_hosts = policy.inventory.hosts[RDSH_1].roles;
        let list = claims.peer_list_of(&policy, session_hosts);
        assert_eq!(claims.peer_list_of(&policy, session_hosts), list);
        assert_ne!(claims.peer_list_of(&policy, policy.inventory.hosts[BROKER_1].roles), list);
        let to = |source| claims.to(&claim(source, To::AnyOf(list), rows));
        let both = [Peer::Host(RDSH_1), Peer::Host(RDSH_1 + 1)];
        assert_eq!(to(BROKER_1 as u32), both);
        assert_eq!(to(RDSH_1 as u32), both[1..]);
        // A destination that is a single host is kept even if it is the source itself.
        assert_eq!(claims.to(&claim(3, To::Host(3), rows)), [Peer::Host(3)]);
        assert_eq!(claims.to(&claim(3, To::Service(2), rows)), [Peer::Service(2)]);
        assert_eq!(To::AnyOf(list).peer(), None);
        assert_eq!(To::Service(2).peer(), Some(Peer::Service(2)));
    }

    #[test]
    fn each_port_of_a_claim_is_shown_once() {
        let policy = policy(FARM);
        let at = |port: u16| {
            let mut rows = policy.matrix.rows.iter();
            let only = |row: &&Row| row.ports == (port..=port);
            rows.position(|row| only(&row)).expect("a row at the port")
        };
        let mut claims = AbsenceClaims::default();
        let rows = claims.rows_id(&[at(20_002), at(20_001), at(20_002)]);
        let id = claims.add(claim(0, To::Host(1), rows), 7, None);
        assert_eq!(claims.ports(&policy, id), "20002;20001");
        assert_eq!((claims.group(id), claims.merged_pairs(id).is_none()), (7, true));
        let merged = MergedPairs { pairs: 9, ..MergedPairs::default() };
        let many = claims.add(claim(0, To::Host(1), rows), 8, Some(merged));
        assert_eq!(claims.merged_pairs(many).map(|merged| merged.pairs), Some(9));
        assert_eq!((claims.group(many), claims.get(id).source), (8, 0));
    }
}
