//! The members of a finding: its clients and servers, one by one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::classify::{EndKey, Finding, Judgement, Party, PartyKind, Peer, Policy, Reason};

/// Maximum number of members that reports list for one side. The list should fit into a cell of a
/// spreadsheet, which holds at most 32,767 characters.
pub(super) const MOST: usize = 1000;

/// The members on one side of a finding.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Members {
    /// Names of the members that the inventory lists as hosts, in the order of the inventory.
    pub hosts: Vec<String>,
    /// Addresses of the other members, in ascending order.
    pub addresses: Vec<IpAddr>,
    /// Number of members that are left out.
    pub more: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    Host(usize),
    Address(IpAddr),
}

impl Members {
    /// Returns the clients and the servers of a finding, as reports list them.
    pub fn of(policy: &Policy, outcome: &Judgement, finding: &Finding) -> [Self; 2] {
        Self::up_to(MOST, policy, outcome, finding)
    }

    /// Returns at most `most` clients and servers of a finding.
    pub(super) fn up_to(
        most: usize,
        policy: &Policy,
        outcome: &Judgement,
        finding: &Finding,
    ) -> [Self; 2] {
        let members = outcome.members_of(finding);
        if let Reason::Claim(claim) = finding.reason
            && let Some(merged) = outcome.claims().merged_pairs(claim)
        {
            let sources = merged.sources.iter().map(|host| Member::Host(*host as usize));
            let to = merged.to.iter().filter_map(|peer| match peer {
                Peer::Host(host) => Some(Member::Host(*host)),
                Peer::Other(address) => Some(Member::Address(*address)),
                Peer::Service(service) => {
                    let addresses = &policy.inventory.services[*service].addresses;
                    addresses.first().copied().map(Member::Address)
                }
            });
            return [sources.collect(), to.collect()].map(|side| Self::listed(most, policy, &side));
        }
        if members.is_empty() {
            return [finding.key.client, finding.key.server].map(|end| match outcome.end(end) {
                EndKey::Host(host) => {
                    Self::listed(most, policy, &BTreeSet::from([Member::Host(*host as usize)]))
                }
                EndKey::Address(address) => Self { addresses: vec![*address], ..Self::default() },
                _ => Self::default(),
            });
        }
        // All conversations of a single pair have the same ends.
        let one = finding.single == [true; 2];
        let members = members.iter().take(if one { 1 } else { members.len() });
        let numbers = members.map(|number| *number as usize);
        Self::of_most_conversations(most, policy, outcome, numbers)
    }

    /// Returns the clients and the servers of conversations, as reports list them.
    pub fn of_conversations(
        policy: &Policy,
        outcome: &Judgement,
        numbers: impl Iterator<Item = usize>,
    ) -> [Self; 2] {
        Self::of_most_conversations(MOST, policy, outcome, numbers)
    }

    fn of_most_conversations(
        most: usize,
        policy: &Policy,
        outcome: &Judgement,
        numbers: impl Iterator<Item = usize>,
    ) -> [Self; 2] {
        let member = |party: &Party, address: IpAddr| match party.kind {
            PartyKind::Host(host) => Member::Host(host),
            _ => Member::Address(address),
        };
        let mut sides = [BTreeSet::new(), BTreeSet::new()];
        for number in numbers {
            let subject = outcome.conversations.list[number].subject;
            let judgement = &outcome.judged[number];
            sides[0].insert(member(&judgement.client, subject.client));
            sides[1].insert(member(&judgement.server, subject.server));
        }
        sides.map(|side| Self::listed(most, policy, &side))
    }

    /// Returns the members as text, listed hosts first. If members are left out, the last item is
    /// their number, such as `+5 more`.
    pub fn words(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let more = (self.more > 0).then(|| format!("+{} more", self.more));
        self.hosts.iter().cloned().chain(addresses).chain(more).collect()
    }

    /// Returns the number of members, including those that are left out.
    pub fn len(&self) -> usize {
        self.hosts.len() + self.addresses.len() + self.more
    }

    /// Returns whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn listed(most: usize, policy: &Policy, members: &BTreeSet<Member>) -> Self {
        let mut all = Self { more: members.len().saturating_sub(most), ..Self::default() };
        for member in members.iter().take(most) {
            match member {
                Member::Host(host) => all.hosts.push(policy.inventory.hosts[*host].name.clone()),
                Member::Address(address) => all.addresses.push(*address),
            }
        }
        all
    }
}
