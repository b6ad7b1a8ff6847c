//! Moves flows that have been idle for a long time to temporary files. Each partition has one file,
//! which consists of pieces. Code that reads all flows also reads these files. A flow that
//! continues is in memory again and merges with its earlier part when it is read.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use super::aggregation::{AggregationGain, AggregationLevel, aggregate_key};
use super::interner::InternerCache;
use super::key::PARTITIONS;
use super::merged::{IdleStats, MergedFlows};
use super::table::{AggregationResult, FlowTable};
use super::{FlowKey, HashSeed};
use crate::model::Nanos;

/// The number of pieces above which a file is rewritten as one piece. Rewriting merges the parts of
/// a flow that continued and became idle again.
const MAX_PIECES: usize = 16;

impl MergedFlows {
    /// Moves to disk the flows that have had no packets or ICMP errors since `time`. If a file
    /// cannot be written, returns the error and keeps the remaining flows in memory.
    pub fn spill_idle(&mut self, time: Nanos) -> io::Result<()> {
        let seed = self.store.seed.clone();
        for number in 0..PARTITIONS {
            let idle = self.parts[number].flows.take_idle(time, &seed);
            if idle.is_empty() {
                continue;
            }
            if let Err(error) = self.append(number, &idle) {
                let mut links = self.store.links();
                self.parts[number].flows.merge(idle, &seed, &mut links);
                return Err(error);
            }
            if self.idle[number].pieces > MAX_PIECES {
                let flows = self.load(number)?.flows;
                self.rewrite_idle(number, &flows)?;
            }
        }
        Ok(())
    }

    /// Appends a piece to the file of a partition. The piece is written completely or not at all.
    fn append(&mut self, number: usize, flows: &FlowTable) -> io::Result<()> {
        let written = self.store.spill.add_flows(number, flows)?;
        let IdleStats { pieces, flows: earlier, estimated_conversations, bytes } =
            self.idle[number];
        self.idle[number] = IdleStats {
            pieces: pieces + 1,
            flows: earlier + flows.len(),
            estimated_conversations: estimated_conversations
                + flows.estimated_conversations(&self.store.seed),
            bytes: bytes + written,
        };
        Ok(())
    }

    /// Replaces the content of a partition's file with `flows`. If they cannot be written, the old
    /// content stays.
    fn rewrite_idle(&mut self, number: usize, flows: &FlowTable) -> io::Result<()> {
        let bytes = self.store.spill.replace(number, flows)?;
        let estimated_conversations = flows.estimated_conversations(&self.store.seed);
        self.idle[number] = match flows.len() {
            0 => IdleStats::default(),
            len => IdleStats { pieces: 1, flows: len, estimated_conversations, bytes },
        };
        Ok(())
    }

    /// Adds flows that were idle in an earlier run. If they cannot be written, they are kept in
    /// memory.
    pub(super) fn add_idle(&mut self, parts: Vec<FlowTable>, links: &mut InternerCache) {
        let seed = self.store.seed.clone();
        for (number, flows) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            if self.append(number, &flows).is_err() {
                self.parts[number].flows.merge(flows, &seed, links);
            }
        }
    }

    /// Rewrites each partition's file as one piece, so that each flow is stored and counted once.
    /// Returns an error if a file cannot be read. Stops without an error if a file cannot be
    /// written, because the only consequence is that some flows count more than once.
    pub fn compact_idle(&mut self) -> io::Result<()> {
        for number in
            (0..PARTITIONS).filter(|number| self.idle[*number].pieces > 1).collect::<Vec<_>>()
        {
            let flows = self.load(number)?.flows;
            if self.rewrite_idle(number, &flows).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Returns the statistics of the idle flows, summed over all partitions.
    pub(super) fn idle_sums(&self) -> IdleStats {
        self.idle.iter().fold(IdleStats::default(), |sum, idle| IdleStats {
            pieces: sum.pieces + idle.pieces,
            flows: sum.flows + idle.flows,
            estimated_conversations: sum.estimated_conversations + idle.estimated_conversations,
            bytes: sum.bytes + idle.bytes,
        })
    }

    /// Returns the number of flows in files and their size in bytes.
    pub fn idle_size(&self) -> (usize, u64) {
        let IdleStats { flows, bytes, .. } = self.idle_sums();
        (flows, bytes)
    }

    /// Aggregates idle flows. The coarser flows that replace them are kept in memory. Returns the
    /// number of flows that were replaced. If a file cannot be written, the remaining flows are not
    /// aggregated.
    pub(super) fn aggregate_idle(
        &mut self,
        level: AggregationLevel,
        is_listed: &dyn Fn(IpAddr) -> bool,
    ) -> io::Result<u64> {
        let seed = self.store.seed.clone();
        let mut links = self.store.links();
        let mut gain = AggregationGain::new(&seed);
        let with_idle: Vec<usize> = (0..PARTITIONS).filter(|n| self.idle[*n].flows > 0).collect();
        for number in &with_idle {
            gain.add(&self.load(*number)?.flows, level, is_listed);
        }
        if gain.is_ineffective(level) {
            return Ok(0);
        }
        let mut aggregated = 0;
        for number in with_idle {
            let mut idle = self.load(number)?.flows;
            // The idle part of a flow that continued merges with its newer part in memory, so that
            // the flow counts once.
            let active: HashSet<FlowKey, HashSeed> = self.parts[number].flows.keys().collect();
            let continued = idle.take_where(&seed, |flow, _| active.contains(&flow.key));
            let AggregationResult { kept, moved } =
                idle.split(&seed, |key, sides| aggregate_key(key, sides, level, is_listed));
            // The old file stays complete until the new one replaces it.
            if self.rewrite_idle(number, &kept).is_err() {
                break;
            }
            self.parts[number].flows.merge(continued, &seed, &mut links);
            aggregated += moved.len() as u64;
            for flow in moved {
                let partition = flow.partition(&seed);
                self.parts[partition].flows.merge_aggregated(flow, &seed, &mut links);
            }
        }
        Ok(aggregated)
    }
}
