//! Keeps a live audit within its memory limit: aggregates flows, drops side evidence, and counts
//! how much of each was affected.

#[cfg(feature = "store")]
use std::io;
use std::sync::Arc;

use super::LiveContext;
use super::listener::LiveEvent;
#[cfg(feature = "store")]
use super::rows;
#[cfg(feature = "store")]
use crate::flow::PacketRetention;
use crate::flow::{AggregationLevel, EvidenceLimit, MergedFlows, PARTITIONS, SegmentRelease};
use crate::model::Nanos;
use crate::pipeline::{AuditError, Worker, lock, temporary};
#[cfg(feature = "store")]
use crate::store::PacketSpill;

/// The number of shares that memory is divided into. One share each is for the tables of all
/// threads, the tables of the window that is judged, the tables of all windows, and the judgement
/// of all windows. While a window is closed, some tables exist twice. Buffers, reports and the
/// sorting of rows take the rest.
const MEMORY_SHARES: usize = 10;

/// The limit for idle flows on disk is `max_memory` divided by this number. The limit is needed
/// because all idle flows are read for each window and written into the state.
const DISK_DIVISOR: usize = 4;

/// The estimated size in bytes of a conversation while it is judged and reported, including its
/// findings.
const JUDGED_CONVERSATION_BYTES: usize = 2048;

/// The estimated total size in bytes of one entry of each kind of side evidence, such as address
/// claims and DNS queries.
const SIDE_EVIDENCE_BYTES: usize = 2048;

/// The number of partitions whose segments are released after a batch. Releasing them takes about a
/// millisecond if the tables of the thread take 50 MiB.
const RELEASED_PARTITIONS: usize = 2;

/// Drops side evidence beyond its limit, and aggregates flows until the tables, the judgement of
/// the conversations and the idle flows on disk are within their limits or all levels of
/// aggregation have been applied.
pub(super) fn stay_bounded(
    shared: &LiveContext<'_>,
    flows: &mut MergedFlows,
) -> Result<(), AuditError> {
    let listed = Arc::clone(&lock(&shared.listed));
    let share = shared.watch.max_memory / MEMORY_SHARES;
    let is_host = &|address| listed.is_host(address);
    let dropped = flows.keep_within(&EvidenceLimit { most: share / SIDE_EVIDENCE_BYTES, is_host });
    if dropped > 0 {
        shared.listener.on_event(&LiveEvent::EvidenceDropped(dropped));
    }
    let fits = |flows: &MergedFlows| {
        let on_disk = flows.idle_size().1 <= (shared.watch.max_memory / DISK_DIVISOR) as u64;
        let conversations = flows.estimated_conversations();
        on_disk && flows.memory() <= share && conversations <= share / JUDGED_CONVERSATION_BYTES
    };
    if !fits(flows) {
        // A flow that was spilled several times is counted several times until its file is
        // rewritten. Rewriting the files may therefore make aggregation unnecessary.
        flows.compact_idle().map_err(temporary(&shared.plan.temp))?;
    }
    for level in AggregationLevel::ALL {
        if fits(flows) {
            break;
        }
        let count = flows
            .aggregate(*level, &|address| listed.is_listed(address))
            .map_err(temporary(&shared.plan.temp))?;
        if count > 0 {
            shared.listener.on_event(&LiveEvent::Aggregated(*level, count));
        }
    }
    Ok(())
}

/// The memory management of one capture thread, which keeps its tables within its share.
#[derive(Default)]
pub(super) struct ThreadMemory {
    /// The number of flows that were aggregated, by level.
    pub aggregated: Vec<(AggregationLevel, u64)>,
    /// The number of entries of side evidence that were dropped.
    pub dropped: u64,
    /// The records of packets that were written to disk, or the error if they could not be written.
    #[cfg(feature = "store")]
    pub packets: Option<io::Result<PacketSpill>>,
    /// The time of the first packet in the tables.
    start: Option<Nanos>,
    /// The partition whose segments are released next.
    partition: usize,
    /// The size of the tables, in bytes, above which segments are released again.
    release_above: usize,
    /// The size of the tables, in bytes, above which aggregation is attempted again.
    retry_above: usize,
}

impl ThreadMemory {
    /// Keeps the tables within this thread's share of memory: releases segments, writes records of
    /// packets to disk, and if this is not enough, drops side evidence and aggregates flows. `now`
    /// is the time of the last packet.
    pub fn bound(&mut self, shared: &LiveContext<'_>, worker: &mut Worker<'_>, now: Nanos) {
        let start = *self.start.get_or_insert(now);
        let watch = shared.watch;
        let threads = (watch.threads * watch.interfaces.len()).max(1);
        let budget = watch.max_memory / MEMORY_SHARES / threads;
        let held = worker.tables().memory();
        #[cfg(feature = "store")]
        let held = if held > budget / 4 * 3 {
            self.spill_packets(shared, worker, budget / 4);
            worker.tables().memory()
        } else {
            held
        };
        if held > budget {
            if held >= self.retry_above {
                self.shrink(shared, worker, (start, now), budget);
            }
        } else if held > budget / 2 && held >= self.release_above {
            self.release_some(worker, (start, now), budget);
        }
    }

    /// Moves the records of packets out of the tables. They stay in memory up to `memory` bytes.
    #[cfg(feature = "store")]
    fn spill_packets(&mut self, shared: &LiveContext<'_>, worker: &mut Worker<'_>, memory: usize) {
        if let Some(spool) = &shared.spool
            && shared.retention.packets == PacketRetention::Logs
        {
            rows::spill_packets(spool, worker.tables_mut(), &mut self.packets, memory);
        }
    }

    /// Releases the segments of a few partitions. A live audit that released all of them at once
    /// would lose frames in the meantime. `period` lasts from the first packet in the tables to the
    /// last.
    fn release_some(&mut self, worker: &mut Worker<'_>, period: (Nanos, Nanos), budget: usize) {
        let end = self.partition + RELEASED_PARTITIONS;
        self.release(worker, period, budget, end.min(PARTITIONS));
        if end < PARTITIONS {
            self.partition = end;
        } else {
            self.partition = 0;
            self.release_above = worker.tables().memory() + budget / 16;
        }
    }

    /// Releases the segments of the partitions from the next one up to `end`. Without some
    /// segments, names may be missing, but without some flows, much more would be. Segments of
    /// messages that may not be complete are therefore released before memory runs out.
    fn release(
        &mut self,
        worker: &mut Worker<'_>,
        period: (Nanos, Nanos),
        budget: usize,
        end: usize,
    ) {
        let is_short = worker.tables().memory() > budget / 4 * 3;
        let release = if is_short { SegmentRelease::Unstarted } else { SegmentRelease::Complete };
        for partition in self.partition..end {
            self.dropped += worker.tables_mut().release_segments(partition, period, release);
        }
    }

    /// Releases all segments that can be released, and if this is not enough, drops side evidence
    /// and aggregates flows. `period` lasts from the first packet in the tables to the last.
    fn shrink(
        &mut self,
        shared: &LiveContext<'_>,
        worker: &mut Worker<'_>,
        period: (Nanos, Nanos),
        budget: usize,
    ) {
        self.partition = 0;
        self.release(worker, period, budget, PARTITIONS);
        // Tables that are nearly as large as before would soon have to shrink again.
        if worker.tables().memory() <= budget / 8 * 7 {
            return;
        }
        let listed = Arc::clone(&lock(&shared.listed));
        let is_host = &|address| listed.is_host(address);
        let limit = EvidenceLimit { most: budget / 4 / SIDE_EVIDENCE_BYTES, is_host };
        self.dropped += worker.tables_mut().keep_within(&limit);
        for level in AggregationLevel::ALL {
            // Aggregation continues down to half of the budget. Otherwise, it would soon be needed
            // again.
            if worker.tables().memory() <= budget / 2 {
                break;
            }
            let is_listed = &|address| listed.is_listed(address);
            let count = worker.tables_mut().aggregate(*level, is_listed);
            if count > 0 {
                match self.aggregated.iter_mut().find(|(known, _)| known == level) {
                    Some((_, total)) => *total += count,
                    None => self.aggregated.push((*level, count)),
                }
            }
        }
        self.release_above = worker.tables().memory() + budget / 16;
        // If aggregation freed little memory, it is not repeated for every batch.
        self.retry_above = worker.tables().memory() / 4 * 5;
    }
}
