//! Conversations grouped into findings, so that a scan is one line.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ends::{EndId, EndInterner, EndKey, NetworkGroup};
use super::finding::{About, MemberPool, MemberRange};
use super::judge::Judged;
use super::verdict::Code;
use crate::conversation::Conversation;
use crate::model::Transport;
use crate::policy::{PartyKind, Policy};

/// The number of ports of one pair, or of clients of one network, from which they become one
/// finding.
const FOLD: usize = 10;
/// The number of unlisted networks that reach one server port from which they become one finding: a
/// flood.
const FLOOD: u32 = 100;

/// What the conversations of one finding have in common, apart from the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct GroupTarget {
    pub code: Code,
    pub server: EndId,
    pub transport: Transport,
    pub about: PortScope,
}

/// Counts by the key of a target and a network.
type CountByKey = HashMap<u128, u32, ahash::RandomState>;

impl GroupTarget {
    /// Packs the target and the number of a network into one number.
    fn key(self, network: u32) -> u128 {
        let about = match self.about {
            PortScope::One(about) => u128::from(about),
            PortScope::ManyPorts => 1 << 16,
        };
        u128::from(network) << 96
            | u128::from(self.server.bits()) << 40
            | (self.code as u128) << 32
            | u128::from(self.transport.0) << 24
            | about
    }
}

/// What a group of conversations covers at the server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum PortScope {
    /// A port, or a group of rows, by number.
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

/// The conversations of one finding.
#[derive(Clone, Copy)]
pub(super) struct ConversationGroup {
    pub client: EndId,
    pub place: GroupTarget,
    pub members: MemberRange,
}

/// Conversations, each packed with the key that groups it with others into one finding.
#[derive(Default)]
pub(super) struct GroupEntries(Vec<u128>);

/// The bit offset and the mask of each part of an entry: code, client, server, transport, port or
/// group, number.
const PARTS: [(u32, u128); 6] =
    [(120, 0xff), (88, 0xffff_ffff), (56, 0xffff_ffff), (48, 0xff), (32, 0xffff), (0, 0xffff_ffff)];

impl GroupEntries {
    /// Adds a conversation. `about` is the server's port, or a group of rows.
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

    /// Groups the entries that make one finding. If `ports` is set, many ports of one pair make
    /// one, too.
    pub fn folded(mut self, ports: bool, pool: &mut MemberPool) -> Vec<ConversationGroup> {
        self.0.sort_unstable();
        let part = |entry: u128, part: usize| entry >> PARTS[part].0 & PARTS[part].1;
        let pair = |a: &u128, b: &u128| a >> PARTS[3].0 == b >> PARTS[3].0;
        let one = |a: &u128, b: &u128| a >> PARTS[4].0 == b >> PARTS[4].0;
        let mut folds = Vec::new();
        let mut fold = |entries: &[u128], about: PortScope| {
            let entry = entries[0];
            let place = GroupTarget {
                code: Code::ALL[part(entry, 0) as usize],
                server: EndId::of_bits(part(entry, 2) as u32),
                transport: Transport(part(entry, 3) as u8),
                about,
            };
            let members = pool.add(entries.iter().map(|entry| part(*entry, 5) as u32));
            let client = EndId::of_bits(part(entry, 1) as u32);
            folds.push(ConversationGroup { client, place, members });
        };
        for of_pair in self.0.chunk_by(pair) {
            if ports && of_pair.chunk_by(one).take(FOLD).count() == FOLD {
                fold(of_pair, PortScope::ManyPorts);
                continue;
            }
            for entries in of_pair.chunk_by(one) {
                fold(entries, PortScope::One(part(entries[0], 4) as u16));
            }
        }
        folds
    }
}

/// Merges many clients of one network into one: of a network of the inventory, or else of a /24 or
/// /64.
pub(super) fn fold_clients(
    policy: &Policy,
    folds: Vec<ConversationGroup>,
    (list, judged): (&[Conversation], &[Judged]),
    ends: &mut EndInterner,
    pool: &mut MemberPool,
) -> Vec<ConversationGroup> {
    let first = |fold: &ConversationGroup| pool.get(fold.members)[0] as usize;
    let network = |fold: &ConversationGroup| {
        let party = &judged[first(fold)].client;
        let address = list[first(fold)].subject.client;
        // The clients in a listed network are one client already.
        let listed = matches!(party.who, PartyKind::Network(_));
        (!listed).then(|| NetworkGroup::of(policy, address))
    };
    let is_stranger =
        |fold: &ConversationGroup| judged[first(fold)].client.who == PartyKind::Stranger;
    let mut numbers = HashMap::<NetworkGroup, u32, ahash::RandomState>::default();
    let by_network: Vec<Option<(NetworkGroup, u32)>> = folds
        .iter()
        .map(|fold| {
            let network = network(fold)?;
            let next = numbers.len() as u32;
            Some((network, *numbers.entry(network).or_insert(next)))
        })
        .collect();
    let mut clients = CountByKey::with_capacity_and_hasher(folds.len(), Default::default());
    // Each unlisted network counts once for each target.
    let mut unlisted = HashSet::<u128, ahash::RandomState>::default();
    let mut networks = CountByKey::default();
    for (fold, network) in folds.iter().zip(&by_network) {
        let Some((_, number)) = network else { continue };
        let key = fold.place.key(*number);
        *clients.entry(key).or_default() += 1;
        if is_stranger(fold) && unlisted.insert(key) {
            *networks.entry(fold.place.key(0)).or_default() += 1;
        }
    }
    let mut kept = Vec::new();
    let mut many = BTreeMap::<u128, (NetworkGroup, GroupTarget, Vec<MemberRange>)>::new();
    for (fold, network) in folds.into_iter().zip(by_network) {
        let flood = || {
            is_stranger(&fold)
                && networks.get(&fold.place.key(0)).is_some_and(|count| *count >= FLOOD)
        };
        let of_many = match network {
            Some(_) if flood() => Some((NetworkGroup::Flood, u32::MAX)),
            Some((network, number))
                if clients.get(&fold.place.key(number)).is_some_and(|n| *n >= FOLD as u32) =>
            {
                Some((network, number))
            }
            _ => None,
        };
        match of_many {
            Some((network, number)) => {
                let key = fold.place.key(number);
                let entry = many.entry(key).or_insert((network, fold.place, Vec::new()));
                entry.2.push(fold.members);
            }
            None => kept.push(fold),
        }
    }
    for (network, place, runs) in many.into_values() {
        let mut members: Vec<u32> =
            runs.into_iter().flat_map(|run| pool.get(run).to_vec()).collect();
        members.sort_unstable();
        let client = ends.id(EndKey::Many(network));
        kept.push(ConversationGroup { client, place, members: pool.add(members) });
    }
    kept
}
