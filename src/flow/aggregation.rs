//! Aggregates flows, that is, replaces them with coarser ones when memory is short. The rules do
//! not depend on the order of arrival.

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
use crate::model::{named_enum, network_around};

named_enum!(
    /// The levels at which flows are aggregated when memory is short, from the smallest loss of
    /// detail to the greatest. Each level includes the previous ones. Conclusions from aggregated
    /// flows are never certain.
    AggregationLevel {
        /// Flows that a host outside the inventory initiated without completing a handshake are
        /// aggregated by the client's /24 or /64, server, transport and service port.
        Attempts = "attempts-from-outside",
        /// All flows that a host outside the inventory initiated are aggregated in the same way.
        Outside = "flows-from-outside",
        /// All clients outside the inventory become a single one, 0.0.0.0 or ::. Servers outside
        /// the inventory are aggregated by /24 or /64.
        Strangers = "outside-as-one",
        /// All flows are aggregated by client, server, transport and service port.
        Ports = "client-ports",
        /// Flows without a completed handshake also lose the service port, which becomes 0. Servers
        /// outside the inventory become a single one.
        Scans = "service-ports",
        /// In flows without a completed handshake, hosts of the inventory are also aggregated by
        /// /24 or /64. This level is applied however little memory it saves.
        Inside = "inside-networks",
    }
);

/// Returns the key of the coarser flow that replaces `key`, and the side of `key` that becomes side
/// 0 of the coarser flow. Returns `None` if the flow is not aggregated. `is_listed` returns whether
/// an address is in the inventory.
pub(super) fn aggregate_key(
    key: &FlowKey,
    sides: &[DirectionStats; 2],
    level: AggregationLevel,
    is_listed: &dyn Fn(IpAddr) -> bool,
) -> Option<(FlowKey, usize)> {
    let transport = key.transport();
    let ends = [key.endpoint(0), key.endpoint(1)];
    let sent_syn = |side: usize| sides[side].has(flag::SYN) && !sides[side].has(flag::SYN_ACK);
    let sent_syn_ack = |side: usize| sides[side].has(flag::SYN_ACK);
    let opener = match [sent_syn(0) || sent_syn_ack(1), sent_syn(1) || sent_syn_ack(0)] {
        [true, false] => 0,
        [false, true] => 1,
        // An aggregated flow has no port on the client's side.
        _ if transport.has_ports() && (ends[0].port == 0) != (ends[1].port == 0) => {
            usize::from(ends[1].port == 0)
        }
        // The side with the higher port is the client, as when directions are guessed from ports.
        _ => usize::from(ends[1].port > ends[0].port),
    };
    let client = ends[opener];
    let server = ends[1 - opener];
    let is_outside = !is_listed(client.addr);
    let is_established = sent_syn_ack(1 - opener) && sides[opener].has(flag::ACK);
    let is_replaced = match level {
        AggregationLevel::Attempts => is_outside && !is_established,
        AggregationLevel::Outside => is_outside,
        AggregationLevel::Strangers => is_outside || !is_listed(server.addr),
        AggregationLevel::Ports | AggregationLevel::Scans => true,
        AggregationLevel::Inside => !is_established,
    };
    if !is_replaced {
        return None;
    }
    let client_address = match level {
        AggregationLevel::Inside if !is_outside => network_around(client.addr),
        _ if !is_outside => client.addr,
        AggregationLevel::Attempts | AggregationLevel::Outside => network_around(client.addr),
        _ => unspecified(client.addr),
    };
    let server_address = match level {
        AggregationLevel::Strangers | AggregationLevel::Ports if !is_listed(server.addr) => {
            network_around(server.addr)
        }
        AggregationLevel::Scans | AggregationLevel::Inside if !is_listed(server.addr) => {
            unspecified(server.addr)
        }
        AggregationLevel::Inside => network_around(server.addr),
        _ => server.addr,
    };
    // A client in the inventory keeps its port until the level `AggregationLevel::Ports`.
    let keeps_port = !is_outside && level == AggregationLevel::Strangers;
    let tuple = FiveTuple {
        src: client_address,
        dst: server_address,
        // The numbers of ICMP are message types or codes, not ports, so they are kept.
        sport: if transport.has_ports() && !keeps_port { 0 } else { client.port },
        dport: match level {
            AggregationLevel::Scans | AggregationLevel::Inside
                if transport.has_ports() && !is_established =>
            {
                0
            }
            _ => server.port,
        },
        transport,
    };
    let (coarser, side) = FlowKey::new(&tuple, key.path());
    // `side` is the initiator's side of the coarser flow.
    (coarser != *key).then_some((coarser, if side == 0 { opener } else { 1 - opener }))
}

/// Returns the unspecified address of the same IP version, which represents all addresses.
fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The effect of an aggregation level: the number of flows that would be aggregated, and the flows
/// that would replace them.
pub(super) struct AggregationGain<'a> {
    seed: &'a HashSeed,
    replaced: usize,
    replacements: HashSet<u64, HashSeed>,
}

impl<'a> AggregationGain<'a> {
    pub fn new(seed: &'a HashSeed) -> Self {
        Self { seed, replaced: 0, replacements: HashSet::default() }
    }

    pub fn add(
        &mut self,
        table: &FlowTable,
        level: AggregationLevel,
        is_listed: &dyn Fn(IpAddr) -> bool,
    ) {
        for flow in table.entries() {
            if let Some((key, _)) = aggregate_key(&flow.key, &flow.state.sides, level, is_listed) {
                self.replaced += 1;
                self.replacements.insert(self.seed.hash_one(key));
            }
        }
    }

    /// Returns whether hardly any flows would merge, for example because all senders are forged.
    /// Such flows are left to the next level. The last level, [`AggregationLevel::Inside`], is
    /// ineffective only if no flow would be aggregated.
    pub fn is_ineffective(&self, level: AggregationLevel) -> bool {
        self.replaced == 0
            || (self.replacements.len() * 5 > self.replaced * 4
                && level != AggregationLevel::Inside)
    }
}

/// Aggregates the flows of all partitions. Returns the number of flows that were replaced with
/// coarser ones.
fn aggregate_tables(
    tables: &mut [&mut FlowTable],
    seed: &HashSeed,
    links: &mut InternerCache,
    level: AggregationLevel,
    is_listed: &dyn Fn(IpAddr) -> bool,
) -> u64 {
    let mut gain = AggregationGain::new(seed);
    tables.iter().for_each(|table| gain.add(table, level, is_listed));
    if gain.is_ineffective(level) {
        return 0;
    }
    let mut aggregated = 0;
    for number in 0..tables.len() {
        let table = std::mem::take(&mut *tables[number]);
        let AggregationResult { kept, moved } =
            table.split(seed, |key, sides| aggregate_key(key, sides, level, is_listed));
        *tables[number] = kept;
        aggregated += moved.len() as u64;
        for flow in moved {
            let partition = flow.partition(seed);
            tables[partition].merge_aggregated(flow, seed, links);
        }
    }
    aggregated
}

impl WorkerTables {
    /// Aggregates flows. The sums of packets and bytes stay the same. Returns the number of flows
    /// that were replaced with coarser ones.
    pub fn aggregate(
        &mut self,
        level: AggregationLevel,
        is_listed: &dyn Fn(IpAddr) -> bool,
    ) -> u64 {
        let (parts, seed, links) = self.flows.for_aggregation();
        aggregate_tables(&mut parts.iter_mut().collect::<Vec<_>>(), seed, links, level, is_listed)
    }
}

impl MergedFlows {
    /// Aggregates flows, and widens unlisted addresses of packets without ports to their /24 or
    /// /64. Returns the number of flows that were replaced with coarser ones, plus the decrease in
    /// the number of entries without ports.
    ///
    /// # Errors
    ///
    /// Returns an error if idle flows cannot be read from their files.
    pub fn aggregate(
        &mut self,
        level: AggregationLevel,
        is_listed: &dyn Fn(IpAddr) -> bool,
    ) -> io::Result<u64> {
        let idle = self.aggregate_idle(level, is_listed)?;
        let seed = self.store.seed.clone();
        let mut links = self.store.links();
        let mut tables: Vec<_> = self.parts.iter_mut().map(|part| &mut part.flows).collect();
        let aggregated = idle + aggregate_tables(&mut tables, &seed, &mut links, level, is_listed);
        let widen_address =
            |address| if is_listed(address) { address } else { network_around(address) };
        let widen = |pair: AddressPair| AddressPair {
            src: widen_address(pair.src),
            dst: widen_address(pair.dst),
            ..pair
        };
        let side = &mut self.side;
        let before = side.loose.len() + side.orphans.len();
        side.loose.rekey(widen);
        side.orphans.rekey(widen);
        Ok(aggregated + (before - side.loose.len() - side.orphans.len()) as u64)
    }
}
