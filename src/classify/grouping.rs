//! Groups conversations into findings, so that a scan becomes a single finding.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ends::{EndId, EndInterner, EndKey, NetworkGroup};
use super::finding::{About, MemberPool, MemberRange};
use super::ruling::Judged;
use super::verdict::Code;
use crate::conversation::Conversation;
use crate::model::Transport;
use crate::policy::{PartyKind, Policy};

/// The minimum number of ports of one pair, or of clients of one network, that are merged into one
/// finding.
const MANY: usize = 10;
/// The minimum number of unlisted networks for a flood: if clients from this many networks contact
/// one server port, they are merged into one finding.
const FLOOD: u32 = 100;

/// The properties that the conversations of one finding share, apart from the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct GroupTarget {
    pub code: Code,
    pub server: EndId,
    pub transport: Transport,
    pub ports: PortScope,
}

/// Counts by [`GroupTarget::key`].
type CountByKey = HashMap<u128, u32, ahash::RandomState>;

impl GroupTarget {
    /// Packs the target and the number of a network into one key.
    fn key(self, network: u32) -> u128 {
        let port = match self.ports {
            PortScope::One(port) => u128::from(port),
            PortScope::ManyPorts => 1 << 16,
        };
        u128::from(network) << 96
            | u128::from(self.server.bits()) << 40
            | (self.code as u128) << 32
            | u128::from(self.transport.0) << 24
            | port
    }
}

/// The ports that a group of conversations covers at the server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum PortScope {
    /// A single port, or the index of a group of rows.
    One(u16),
    ManyPorts,
}

impl PortScope {
    pub fn about(self) -> About {
        match self {
            Self::One(port) => About::Port(port),
            Self::ManyPorts => About::Ports,
        }
    }
}

/// Whether many ports of one pair become one finding.
#[derive(Clone, Copy)]
pub(super) enum PortMerge<'c> {
    /// Each port has a finding of its own.
    Never,
    /// A pair with [`MANY`] or more ports has one finding for all of them. The function returns
    /// what a conversation shows about its port. Ports that are guesses are separate, so that the
    /// certain finding about a pair does not count them, unless there are [`MANY`] of both kinds.
    ManyIntoOne(&'c dyn Fn(u32) -> PortEvidence),
}

/// What a conversation shows about its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PortEvidence {
    /// The conversation is about this port.
    Sure,
    /// The conversation seems to be about this port.
    Guess,
    /// The conversation is about several or unknown ports. Its own port is 0.
    Several,
}

/// The conversations of one finding.
#[derive(Clone, Copy)]
pub(super) struct ConversationGroup {
    pub client: EndId,
    pub target: GroupTarget,
    pub members: MemberRange,
}

/// Conversations, each packed with the key that groups it with others into one finding.
#[derive(Default)]
pub(super) struct GroupEntries(Vec<u128>);

/// The bit offset and the mask of each part of an entry: code, client, server, transport, port or
/// group, and conversation index.
const PARTS: [(u32, u128); 6] =
    [(120, 0xff), (88, 0xffff_ffff), (56, 0xffff_ffff), (48, 0xff), (32, 0xffff), (0, 0xffff_ffff)];

impl GroupEntries {
    /// Adds a conversation. `about` is the server's port or the index of a group of rows; `number`
    /// is the index of the conversation.
    pub fn add(
        &mut self,
        code: Code,
        [client, server]: [EndId; 2],
        transport: Transport,
        about: u16,
        number: u32,
    ) {
        let parts = [
            code as u128,
            u128::from(client.bits()),
            u128::from(server.bits()),
            u128::from(transport.0),
            u128::from(about),
            u128::from(number),
        ];
        let entry = parts.iter().zip(PARTS).fold(0, |all, (part, (at, _))| all | part << at);
        self.0.push(entry);
    }

    /// Groups the entries by the finding that they belong to.
    pub fn into_groups(
        mut self,
        port_merge: PortMerge<'_>,
        pool: &mut MemberPool,
    ) -> Vec<ConversationGroup> {
        self.0.sort_unstable();
        let are_of_one_pair = |a: &u128, b: &u128| a >> PARTS[3].0 == b >> PARTS[3].0;
        let have_one_port = |a: &u128, b: &u128| a >> PARTS[4].0 == b >> PARTS[4].0;
        let mut groups = Vec::new();
        for of_pair in self.0.chunk_by(are_of_one_pair) {
            let ports = of_pair.chunk_by(have_one_port);
            let PortMerge::ManyIntoOne(evidence) = port_merge else {
                groups.extend(ports.map(|entries| group_of_port(entries, pool)));
                continue;
            };
            let has = |of_port: &[u128], what| {
                of_port.iter().any(|entry| evidence(part(*entry, 5) as u32) == what)
            };
            let is_of_several =
                |of_port: &[u128]| part(of_port[0], 4) == 0 && has(of_port, PortEvidence::Several);
            // Port 0 comes first.
            let has_several = ports.clone().next().is_some_and(is_of_several);
            if !has_several && ports.clone().nth(MANY - 1).is_none() {
                groups.extend(ports.map(|entries| group_of_port(entries, pool)));
                continue;
            }
            let (mut several, known): (Vec<&[u128]>, Vec<&[u128]>) =
                ports.partition(|of_port| is_of_several(of_port));
            let (sure, guessed): (Vec<&[u128]>, Vec<&[u128]>) =
                known.into_iter().partition(|of_port| has(of_port, PortEvidence::Sure));
            if sure.len() >= MANY && guessed.len() >= MANY {
                groups.push(group_of(of_pair, PortScope::ManyPorts, pool));
                continue;
            }
            for ports in [sure, guessed] {
                if ports.len() >= MANY {
                    // Two findings about many ports of a pair would have the same id.
                    let ports = [std::mem::take(&mut several), ports].concat();
                    groups.push(group_of(&ports.concat(), PortScope::ManyPorts, pool));
                } else {
                    groups.extend(ports.into_iter().map(|entries| group_of_port(entries, pool)));
                }
            }
            if !several.is_empty() {
                groups.push(group_of(&several.concat(), PortScope::ManyPorts, pool));
            }
        }
        groups
    }
}

/// Returns the part of an entry that has this index in [`PARTS`].
fn part(entry: u128, number: usize) -> u128 {
    let (offset, mask) = PARTS[number];
    entry >> offset & mask
}

/// Builds a group from entries that also have the same port.
fn group_of_port(entries: &[u128], pool: &mut MemberPool) -> ConversationGroup {
    let port = PortScope::One(part(entries[0], 4) as u16);
    group_of(entries, port, pool)
}

/// Builds a group from entries with the same code, client, server and transport. `ports` says which
/// ports the entries cover.
fn group_of(entries: &[u128], ports: PortScope, pool: &mut MemberPool) -> ConversationGroup {
    let entry = entries[0];
    let target = GroupTarget {
        code: Code::ALL[part(entry, 0) as usize],
        server: EndId::of_bits(part(entry, 2) as u32),
        transport: Transport(part(entry, 3) as u8),
        ports,
    };
    let members = pool.add(entries.iter().map(|entry| part(*entry, 5) as u32));
    let client = EndId::of_bits(part(entry, 1) as u32);
    ConversationGroup { client, target, members }
}

/// Merges the groups of many clients of one network into one group. The network is a network of the
/// inventory, or else the /24 or /64 of the clients. In a flood ([`FLOOD`]), the clients of all
/// unlisted networks become one group.
pub(super) fn merge_clients(
    policy: &Policy,
    groups: Vec<ConversationGroup>,
    (list, judged): (&[Conversation], &[Judged]),
    ends: &mut EndInterner,
    pool: &mut MemberPool,
) -> Vec<ConversationGroup> {
    let first_of = |group: &ConversationGroup| pool.get(group.members)[0] as usize;
    let network_of = |group: &ConversationGroup| {
        let party = &judged[first_of(group)].client;
        let address = list[first_of(group)].ruled_subject().client;
        // All clients in a listed network already count as one client.
        let listed = matches!(party.kind, PartyKind::Network(_));
        (!listed).then(|| NetworkGroup::of(policy, address))
    };
    let is_stranger =
        |group: &ConversationGroup| judged[first_of(group)].client.kind == PartyKind::Stranger;
    let mut numbers = HashMap::<NetworkGroup, u32, ahash::RandomState>::default();
    let by_network: Vec<Option<(NetworkGroup, u32)>> = groups
        .iter()
        .map(|group| {
            let network = network_of(group)?;
            let next = numbers.len() as u32;
            Some((network, *numbers.entry(network).or_insert(next)))
        })
        .collect();
    let mut clients = CountByKey::with_capacity_and_hasher(groups.len(), Default::default());
    // Each unlisted network counts once per target.
    let mut counted = HashSet::<u128, ahash::RandomState>::default();
    let mut unlisted_networks = CountByKey::default();
    for (group, network) in groups.iter().zip(&by_network) {
        let Some((_, number)) = network else { continue };
        let key = group.target.key(*number);
        *clients.entry(key).or_default() += 1;
        if is_stranger(group) && counted.insert(key) {
            *unlisted_networks.entry(group.target.key(0)).or_default() += 1;
        }
    }
    let mut kept = Vec::new();
    let mut merged = BTreeMap::<u128, (NetworkGroup, GroupTarget, Vec<MemberRange>)>::new();
    for (group, network) in groups.into_iter().zip(by_network) {
        let is_flood = || {
            is_stranger(&group)
                && unlisted_networks.get(&group.target.key(0)).is_some_and(|count| *count >= FLOOD)
        };
        let merged_into = match network {
            Some(_) if is_flood() => Some((NetworkGroup::Flood, u32::MAX)),
            Some((network, number))
                if clients.get(&group.target.key(number)).is_some_and(|n| *n >= MANY as u32) =>
            {
                Some((network, number))
            }
            _ => None,
        };
        match merged_into {
            Some((network, number)) => {
                let key = group.target.key(number);
                let entry = merged.entry(key).or_insert((network, group.target, Vec::new()));
                entry.2.push(group.members);
            }
            None => kept.push(group),
        }
    }
    for (network, target, runs) in merged.into_values() {
        let mut members: Vec<u32> =
            runs.into_iter().flat_map(|run| pool.get(run).to_vec()).collect();
        members.sort_unstable();
        let client = ends.id(EndKey::Many(network));
        kept.push(ConversationGroup { client, target, members: pool.add(members) });
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{FARM, GW, Packets, ip, policy};

    const CODE: Code = Code::NoRelation;
    const TCP: Transport = Transport::TCP;

    fn two_ends(ends: &mut EndInterner) -> [EndId; 2] {
        ["192.0.2.1", "192.0.2.2"].map(|text| ends.id(EndKey::Address(ip(text))))
    }

    /// Groups conversations between two ends, one for each of these ports.
    fn group(
        ports: impl IntoIterator<Item = u16>,
        merge: PortMerge<'_>,
    ) -> Vec<(PortScope, Vec<u32>)> {
        let mut pool = MemberPool::default();
        let pair = two_ends(&mut EndInterner::default());
        let mut entries = GroupEntries::default();
        for (number, port) in ports.into_iter().enumerate() {
            entries.add(CODE, pair, TCP, port, number as u32);
        }
        let groups = entries.into_groups(merge, &mut pool);
        groups.iter().map(|g| (g.target.ports, pool.get(g.members).to_vec())).collect()
    }

    #[test]
    fn ports_that_are_guesses_are_not_counted_with_sure_ones() {
        // Groups conversations with this many ports. The first `sure` conversations are certain.
        let scopes = |ports: u16, sure: u32| {
            let mut pool = MemberPool::default();
            let pair = two_ends(&mut EndInterner::default());
            let mut entries = GroupEntries::default();
            for port in 0..ports {
                entries.add(CODE, pair, TCP, port, port.into());
            }
            let evidence = |number: u32| {
                if number < sure { PortEvidence::Sure } else { PortEvidence::Guess }
            };
            let groups = entries.into_groups(PortMerge::ManyIntoOne(&evidence), &mut pool);
            groups.iter().map(|g| (g.target.ports, g.members.len())).collect::<Vec<_>>()
        };
        let many = PortScope::ManyPorts;
        assert_eq!(scopes(12, 1), [(PortScope::One(0), 1), (many, 11)]);
        assert_eq!(scopes(12, 11), [(many, 11), (PortScope::One(11), 1)]);
        assert_eq!(scopes(12, 12), [(many, 12)]);
        assert_eq!(scopes(12, 0), [(many, 12)]);
        assert_eq!(scopes(12, 6).len(), 12);
        // Both kinds would have the same id, so they are one finding, which states their numbers.
        assert_eq!(scopes(40, 20), [(many, 40)]);
    }

    #[test]
    fn a_conversation_of_several_ports_is_not_one_port() {
        // The first conversation is about several ports, the next `sure` ones are certain, and the
        // others are guesses.
        let scopes = |ports: u16, sure: u32| {
            let evidence = |number: u32| match number {
                0 => PortEvidence::Several,
                _ if number <= sure => PortEvidence::Sure,
                _ => PortEvidence::Guess,
            };
            let groups = group(0..ports, PortMerge::ManyIntoOne(&evidence));
            groups.into_iter().map(|(scope, members)| (scope, members.len())).collect::<Vec<_>>()
        };
        let many = PortScope::ManyPorts;
        assert_eq!(scopes(1, 0), [(many, 1)]);
        assert_eq!(scopes(2, 1), [(PortScope::One(1), 1), (many, 1)]);
        // Nine known ports do not become ten.
        assert_eq!(scopes(10, 9).len(), 10);
        // There is only one finding about many ports.
        for (ports, sure) in [(11, 10), (11, 0), (40, 20)] {
            assert_eq!(scopes(ports, sure), [(many, usize::from(ports))]);
        }
        assert_eq!(scopes(12, 10), [(many, 11), (PortScope::One(11), 1)]);
        assert_eq!(scopes(12, 1), [(PortScope::One(1), 1), (many, 11)]);
        // A conversation with port 0 is about this port if its port is known.
        assert_eq!(
            group([0], PortMerge::ManyIntoOne(&|_| PortEvidence::Sure))[0].0,
            PortScope::One(0)
        );
    }

    #[test]
    fn ten_ports_of_one_pair_are_one_finding_and_nine_are_not() {
        let nine = group(0..MANY as u16 - 1, PortMerge::ManyIntoOne(&|_| PortEvidence::Sure));
        assert_eq!(nine.len(), MANY - 1);
        let ten = group(0..MANY as u16, PortMerge::ManyIntoOne(&|_| PortEvidence::Sure));
        assert_eq!(ten, [(PortScope::ManyPorts, (0..MANY as u32).collect())]);
        assert_eq!(group(0..MANY as u16, PortMerge::Never).len(), MANY);
        // The number of ports counts, not the number of conversations.
        let few =
            group([7; 20].into_iter().chain([9]), PortMerge::ManyIntoOne(&|_| PortEvidence::Sure));
        let members: Vec<_> = few.iter().map(|(port, members)| (*port, members.len())).collect();
        assert_eq!(members, [(PortScope::One(7), 20), (PortScope::One(9), 1)]);
    }

    #[test]
    fn each_part_of_an_entry_comes_back_and_separates_findings() {
        let mut ends = EndInterner::default();
        let [a, b] = two_ends(&mut ends);
        let last = Code::ALL[Code::ALL.len() - 1];
        let all = [
            (CODE, [a, b], TCP, 7),
            (CODE, [a, b], TCP, u16::MAX),
            (CODE, [a, b], Transport(255), 7),
            (CODE, [b, a], TCP, 7),
            (last, [a, b], TCP, 7),
        ];
        let mut entries = GroupEntries::default();
        for (number, (code, pair, transport, port)) in all.into_iter().enumerate() {
            entries.add(code, pair, transport, port, u32::MAX - number as u32);
        }
        let mut pool = MemberPool::default();
        let groups =
            entries.into_groups(PortMerge::ManyIntoOne(&|_| PortEvidence::Sure), &mut pool);
        assert_eq!(groups.len(), all.len());
        for (number, (code, pair, transport, port)) in all.into_iter().enumerate() {
            let own = [u32::MAX - number as u32];
            let group = groups.iter().find(|group| pool.get(group.members) == own);
            let group = group.expect("a group");
            let target = group.target;
            assert_eq!((target.code, [group.client, target.server]), (code, pair));
            assert_eq!((target.transport, target.ports), (transport, PortScope::One(port)));
        }
    }

    #[test]
    fn a_target_has_another_key_for_each_of_its_parts() {
        let mut ends = EndInterner::default();
        let [a, b] = two_ends(&mut ends);
        let ports = PortScope::One(7);
        let target = GroupTarget { code: CODE, server: a, transport: TCP, ports };
        let keys = [
            target.key(0),
            target.key(1),
            GroupTarget { code: Code::NoRole, ..target }.key(0),
            GroupTarget { server: b, ..target }.key(0),
            GroupTarget { transport: Transport::UDP, ..target }.key(0),
            GroupTarget { ports: PortScope::One(8), ..target }.key(0),
            GroupTarget { ports: PortScope::One(u16::MAX), ..target }.key(0),
            GroupTarget { ports: PortScope::ManyPorts, ..target }.key(0),
        ];
        assert_eq!(HashSet::from(keys).len(), keys.len());
    }

    /// Judges a capture in which the gateway refuses each of these addresses on one port, and
    /// merges the clients. Returns each resulting client with the number of its conversations.
    fn merged(clients: &[String]) -> Vec<(EndKey, usize)> {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        for client in clients {
            packets.refuse(0, (client, 50_000), (GW, 4444));
        }
        let (conversations, judged) = packets.judged(&policy);
        let list = &conversations.list[..];
        assert_eq!(list.len(), clients.len());
        let (mut ends, mut pool) = (EndInterner::default(), MemberPool::default());
        let mut entries = GroupEntries::default();
        for (number, (c, j)) in list.iter().zip(&judged).enumerate() {
            let pair = crate::classify::violations::pair(&mut ends, j, c);
            entries.add(j.ruling.code, pair, TCP, 4444, number as u32);
        }
        let groups =
            entries.into_groups(PortMerge::ManyIntoOne(&|_| PortEvidence::Sure), &mut pool);
        let groups = merge_clients(&policy, groups, (list, &judged), &mut ends, &mut pool);
        groups.iter().map(|g| (ends.get(g.client).clone(), g.members.len())).collect()
    }

    #[test]
    fn ten_clients_of_one_unlisted_network_are_one_client_and_nine_are_not() {
        let clients = |count: usize| -> Vec<String> {
            (1..=count).map(|last| format!("198.51.100.{last}")).collect()
        };
        assert_eq!(merged(&clients(MANY - 1)).len(), MANY - 1);
        let prefix = NetworkGroup::Prefix("198.51.100.0/24".parse().expect("a network"));
        assert_eq!(merged(&clients(MANY)), [(EndKey::Many(prefix), MANY)]);
        // Ten clients in two networks are too few to be merged, because neither network has ten.
        let two: Vec<String> = [clients(5), vec!["203.0.113.1".to_owned(); 1]].concat();
        let four = (2..6).map(|last| format!("203.0.113.{last}"));
        assert_eq!(merged(&two.into_iter().chain(four).collect::<Vec<_>>()).len(), 10);
    }

    #[test]
    fn a_listed_network_is_one_client_from_the_beginning() {
        let clients: Vec<String> = (1..=12).map(|last| format!("10.9.0.{last}")).collect();
        let found = merged(&clients);
        let [(EndKey::Network(0, _), 12)] = &found[..] else { panic!("{found:?}") };
    }

    #[test]
    fn a_hundred_unlisted_networks_are_a_flood_and_one_less_is_not() {
        let clients = |count: u32| -> Vec<String> {
            (0..count).map(|network| format!("203.0.{network}.1")).collect()
        };
        assert_eq!(merged(&clients(FLOOD - 1)).len(), FLOOD as usize - 1);
        let flood = EndKey::Many(NetworkGroup::Flood);
        assert_eq!(merged(&clients(FLOOD)), [(flood, FLOOD as usize)]);
    }
}
