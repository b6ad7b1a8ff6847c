//! Folding: flows that stand for others when memory runs short, by rules that do not depend on arrival.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::interner::InternerCache;
use super::merged::MergedFlows;
use super::side_evidence::AddressPair;
use super::state::DirectionStats;
use super::table::{AggregationResult, FlowTable};
use super::worker_tables::WorkerTables;
use super::{FlowKey, HashSeed};
use crate::decode::{FiveTuple, flag};
use crate::model::named_enum;

named_enum!(
    /// How flows are folded when memory runs short, from what loses least to what loses most. Each takes in those
    /// before it. What was folded is never certain.
    AggregationLevel {
        /// Flows without an established handshake that a host outside the inventory opened: by its /24 or /64,
        /// server, transport and service port.
        Attempts = "attempts-from-outside",
        /// All flows that a host outside the inventory opened: the same.
        Outside = "flows-from-outside",
        /// All hosts outside the inventory as one client, 0.0.0.0 or ::, and as servers by their /24 or /64.
        Strangers = "outside-as-one",
        /// All flows: by client, server, transport and service port.
        Ports = "client-ports",
        /// Of flows without an established handshake the service port too, as 0; servers outside as one.
        Scans = "service-ports",
        /// Of those also hosts of the inventory by their /24 or /64. Taken however little it helps.
        Inside = "inside-networks",
    }
);

/// The flow that stands for `key` when memory runs short, and which side of `key` is its side 0; none where it stays
/// as it is. `is_listed` says whether an address is the inventory's.
pub(super) fn aggregate_key(
    key: &FlowKey,
    sides: &[DirectionStats; 2],
    fold: AggregationLevel,
    is_listed: &dyn Fn(IpAddr) -> bool,
) -> Option<(FlowKey, usize)> {
    let transport = key.transport();
    let ends = [key.endpoint(0), key.endpoint(1)];
    let asks = |side: usize| sides[side].has(flag::SYN) && !sides[side].has(flag::SYN_ACK);
    let accepted = |side: usize| sides[side].has(flag::SYN_ACK);
    let opener = match [asks(0) || accepted(1), asks(1) || accepted(0)] {
        [true, false] => 0,
        [false, true] => 1,
        // What was folded has no port where it asked.
        _ if transport.has_ports() && (ends[0].port == 0) != (ends[1].port == 0) => {
            usize::from(ends[1].port == 0)
        }
        // As direction guesses: who has the greater port asks.
        _ => usize::from(ends[1].port > ends[0].port),
    };
    let (client, server) = (ends[opener], ends[1 - opener]);
    let outside = !is_listed(client.addr);
    let established = accepted(1 - opener) && sides[opener].has(flag::ACK);
    let folds = match fold {
        AggregationLevel::Attempts => outside && !established,
        AggregationLevel::Outside => outside,
        AggregationLevel::Strangers => outside || !is_listed(server.addr),
        AggregationLevel::Ports | AggregationLevel::Scans => true,
        AggregationLevel::Inside => !established,
    };
    if !folds {
        return None;
    }
    let client_address = match fold {
        AggregationLevel::Inside if !outside => network(client.addr),
        _ if !outside => client.addr,
        AggregationLevel::Attempts | AggregationLevel::Outside => network(client.addr),
        _ => nobody(client.addr),
    };
    let server_address = match fold {
        AggregationLevel::Strangers | AggregationLevel::Ports if !is_listed(server.addr) => {
            network(server.addr)
        }
        AggregationLevel::Scans | AggregationLevel::Inside if !is_listed(server.addr) => {
            nobody(server.addr)
        }
        AggregationLevel::Inside => network(server.addr),
        _ => server.addr,
    };
    // A host inside that opened something keeps its ports as long as it can.
    let keeps_port = !outside && fold == AggregationLevel::Strangers;
    let tuple = FiveTuple {
        src: client_address,
        dst: server_address,
        // What an ICMP conversation is stands in both numbers.
        sport: if transport.has_ports() && !keeps_port { 0 } else { client.port },
        dport: match fold {
            AggregationLevel::Scans | AggregationLevel::Inside
                if transport.has_ports() && !established =>
            {
                0
            }
            _ => server.port,
        },
        transport,
    };
    let (stand_in, side) = FlowKey::new(&tuple, key.path());
    // `side` of the new flow is the opener.
    (stand_in != *key).then_some((stand_in, if side == 0 { opener } else { 1 - opener }))
}

/// The /24 or /64 of an address, as its first address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) & 0xffff_ff00).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
    }
}

/// The address that stands for all of a kind.
fn nobody(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Flows that would be folded, and those that would stand for them.
pub(super) struct AggregationGain<'a> {
    seed: &'a HashSeed,
    moving: usize,
    places: HashSet<u64, HashSeed>,
}

impl<'a> AggregationGain<'a> {
    pub fn new(seed: &'a HashSeed) -> Self {
        Self { seed, moving: 0, places: HashSet::default() }
    }

    pub fn add(
        &mut self,
        table: &FlowTable,
        fold: AggregationLevel,
        is_listed: &dyn Fn(IpAddr) -> bool,
    ) {
        for (key, sides) in table.keys() {
            if let Some((key, _)) = aggregate_key(key, sides, fold, is_listed) {
                self.moving += 1;
                self.places.insert(self.seed.hash_one(key));
            }
        }
    }

    /// Where hardly two flows fall together, as of senders that are all made up, the next way is for them.
    pub fn is_ineffective(&self, fold: AggregationLevel) -> bool {
        self.moving == 0
            || (self.places.len() * 5 > self.moving * 4 && fold != AggregationLevel::Inside)
    }
}

/// Folds the flows of all partitions. Returns how many flows were taken into others.
fn fold_tables(
    tables: &mut [&mut FlowTable],
    seed: &HashSeed,
    links: &mut InternerCache,
    fold: AggregationLevel,
    is_listed: &dyn Fn(IpAddr) -> bool,
) -> u64 {
    let mut helps = AggregationGain::new(seed);
    tables.iter().for_each(|table| helps.add(table, fold, is_listed));
    if helps.is_ineffective(fold) {
        return 0;
    }
    let mut folded = 0;
    for number in 0..tables.len() {
        let whole = std::mem::take(&mut *tables[number]);
        let AggregationResult { kept, moved } =
            whole.split(seed, |key, sides| aggregate_key(key, sides, fold, is_listed));
        *tables[number] = kept;
        folded += moved.len() as u64;
        for flow in moved {
            let partition = flow.partition(seed);
            tables[partition].take_folded(flow, seed, links);
        }
    }
    folded
}

impl WorkerTables {
    /// Folds flows, and forgets no packet of them. Returns how many were taken into others.
    pub fn aggregate(&mut self, fold: AggregationLevel, is_listed: &dyn Fn(IpAddr) -> bool) -> u64 {
        let (parts, seed, links) = self.flows.for_folding();
        fold_tables(&mut parts.iter_mut().collect::<Vec<_>>(), seed, links, fold, is_listed)
    }
}

impl MergedFlows {
    /// Folds flows, and packets without ports the same way. Returns how many were taken into others.
    ///
    /// # Errors
    ///
    /// Where idle flows cannot be read from their files.
    pub fn aggregate(
        &mut self,
        fold: AggregationLevel,
        is_listed: &dyn Fn(IpAddr) -> bool,
    ) -> io::Result<u64> {
        let idle = self.fold_idle(fold, is_listed)?;
        let (seed, mut links) = (self.store.seed.clone(), self.store.links());
        let mut tables: Vec<_> = self.parts.iter_mut().map(|part| &mut part.flows).collect();
        let folded = idle + fold_tables(&mut tables, &seed, &mut links, fold, is_listed);
        let wide = |address| if is_listed(address) { address } else { network(address) };
        let widened =
            |pair: AddressPair| AddressPair { src: wide(pair.src), dst: wide(pair.dst), ..pair };
        let side = &mut self.side;
        let before = side.loose.len() + side.orphans.len();
        side.loose.rekey(widened);
        side.orphans.rekey(widened);
        Ok(folded + (before - side.loose.len() - side.orphans.len()) as u64)
    }
}
