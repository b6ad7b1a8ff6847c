//! Who a finding is about: its clients and servers, one by one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Outcome;
use super::finding::{End, Finding};
use crate::policy::{Party, Policy, Who};

/// The most members that are listed of one side; a cell of a spreadsheet holds 32,767 characters.
const MOST: usize = 1000;

/// One side of a finding.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Members {
    /// The listed hosts by name, in the order of the inventory.
    pub hosts: Vec<String>,
    /// The other addresses, in order.
    pub addresses: Vec<IpAddr>,
    /// How many more there are.
    pub more: usize,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    Host(usize),
    Address(IpAddr),
}

impl Members {
    /// Returns them in words, listed hosts first, and how many are left out.
    pub fn words(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let more = (self.more > 0).then(|| format!("+{} more", self.more));
        self.hosts.iter().cloned().chain(addresses).chain(more).collect()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.hosts.len() + self.addresses.len() + self.more
    }

    /// Whether nobody is known by name or address.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn of(policy: &Policy, members: &BTreeSet<Member>) -> Self {
        let mut all = Self { more: members.len().saturating_sub(MOST), ..Self::default() };
        for member in members.iter().take(MOST) {
            match member {
                Member::Host(host) => all.hosts.push(policy.inventory.hosts[*host].name.clone()),
                Member::Address(address) => all.addresses.push(*address),
            }
        }
        all
    }

    /// Of an end that no conversation shows.
    fn of_end(policy: &Policy, end: &End) -> Self {
        let host = policy.inventory.hosts.iter().any(|host| host.name == end.name);
        match end.address.parse() {
            _ if host => Self { hosts: vec![end.name.clone()], ..Self::default() },
            Ok(address) => Self { addresses: vec![address], ..Self::default() },
            Err(_) => Self::default(),
        }
    }
}

impl Outcome {
    /// Returns the clients and the servers of a finding.
    pub fn members(&self, policy: &Policy, finding: &Finding) -> [Members; 2] {
        let conversations = &finding.grounds.conversations;
        if conversations.is_empty() {
            return [&finding.client, &finding.server].map(|end| Members::of_end(policy, end));
        }
        let member = |party: &Party, address: IpAddr| match party.who {
            Who::Host(host) => Member::Host(host),
            _ => Member::Address(address),
        };
        let mut sides = [BTreeSet::new(), BTreeSet::new()];
        for number in conversations {
            let (subject, j) = (self.conversations.list[*number].subject, &self.judged[*number]);
            sides[0].insert(member(&j.client, subject.client));
            sides[1].insert(member(&j.server, subject.server));
        }
        sides.map(|side| Members::of(policy, &side))
    }
}
