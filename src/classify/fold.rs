//! Conversations that make one finding, folded so that a scan stays one line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::finding::End;
use super::judge::Judged;
use super::verdict::Code;
use crate::conversation::Conversation;
use crate::model::Transport;
use crate::policy::{Policy, Who};

/// From so many ports of one pair, or clients of one network, it is one finding.
const FOLD: usize = 10;
/// From so many networks that nobody listed, to one server port, it is one finding too: a flood.
const FLOOD: usize = 100;

/// What makes conversations one finding.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub code: Code,
    pub client: String,
    pub server: String,
    pub transport: Transport,
    pub about: About,
}

/// What a finding is about at the server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    Port(u16),
    ManyPorts,
    Group(String),
}

/// The conversations of one finding; of many clients, their network.
pub(super) struct Fold {
    pub code: Code,
    pub about: About,
    pub members: Vec<usize>,
    pub network: Option<String>,
}

/// Many ports of one pair become one.
pub(super) fn fold_ports(groups: BTreeMap<Key, Vec<usize>>) -> BTreeMap<Key, Vec<usize>> {
    let mut ports: BTreeMap<Key, usize> = BTreeMap::new();
    let pair = |key: &Key| Key { about: About::ManyPorts, ..key.clone() };
    for key in groups.keys() {
        *ports.entry(pair(key)).or_default() += 1;
    }
    let mut folded: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (key, members) in groups {
        let many = pair(&key);
        let key = if ports[&many] >= FOLD { many } else { key };
        folded.entry(key).or_default().extend(members);
    }
    folded
}

/// Many clients of one network become one: of a network of the inventory, else of a /24 or /64.
pub(super) fn fold_clients(
    policy: &Policy,
    groups: BTreeMap<Key, Vec<usize>>,
    list: &[Conversation],
    judged: &[Judged],
) -> Vec<Fold> {
    let by_network = |key: &Key, members: &[usize]| {
        let (party, address) = (&judged[members[0]].client, list[members[0]].subject.client);
        // Everybody in a listed network is one client already.
        let listed = matches!(party.who, Who::Network(_));
        let network = policy.network(address).map(|n| policy.inventory.networks[n].name.clone());
        let network = network.unwrap_or_else(|| prefix_of(address).to_string());
        (!listed).then(|| Key { client: network, ..key.clone() })
    };
    let mut clients: BTreeMap<Key, usize> = BTreeMap::new();
    for (key, members) in &groups {
        if let Some(network) = by_network(key, members) {
            *clients.entry(network).or_default() += 1;
        }
    }
    // Unlisted networks that go to the same place.
    let place = |key: &Key| Key { client: "*".to_owned(), ..key.clone() };
    let mut networks: BTreeMap<Key, usize> = BTreeMap::new();
    let is_stranger = |members: &[usize]| judged[members[0]].client.who == Who::Stranger;
    let unlisted: BTreeSet<Key> = groups
        .iter()
        .filter(|(_, members)| is_stranger(members))
        .filter_map(|(key, members)| by_network(key, members))
        .collect();
    for network in &unlisted {
        *networks.entry(place(network)).or_default() += 1;
    }
    let (mut folds, mut many) = (Vec::new(), BTreeMap::<Key, Vec<usize>>::new());
    for (key, members) in groups {
        let network = by_network(&key, &members);
        let flood =
            is_stranger(&members) && networks.get(&place(&key)).is_some_and(|n| *n >= FLOOD);
        match network {
            Some(_) if flood => many.entry(place(&key)).or_default().extend(members),
            Some(network) if clients[&network] >= FOLD => {
                many.entry(network).or_default().extend(members);
            }
            _ => folds.push(Fold { code: key.code, about: key.about, members, network: None }),
        }
    }
    folds.extend(many.into_iter().map(|(key, mut members)| {
        members.sort_unstable();
        Fold { code: key.code, about: key.about, members, network: Some(key.client) }
    }));
    folds
}

/// The /24 or /64 of an address.
pub(super) fn prefix_of(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).map_or_else(|_| IpNet::from(address), |net| net.trunc())
}

/// The two ends of some conversations together.
pub(super) fn ends(
    policy: &Policy,
    list: &[Conversation],
    judged: &[Judged],
    fold: &Fold,
) -> (End, End) {
    let of = |number: usize| {
        let (c, j) = (&list[number], &judged[number]);
        let end = |party, address: IpAddr| End::of(policy, party, &address.to_string());
        (end(&j.client, c.subject.client), end(&j.server, c.subject.server))
    };
    let (mut client, mut server) = of(fold.members[0]);
    for number in &fold.members[1..] {
        let (other_client, other_server) = of(*number);
        client.with(&other_client);
        server.with(&other_server);
    }
    if let Some(network) = &fold.network {
        client.become_network(network);
    }
    (client, server)
}
