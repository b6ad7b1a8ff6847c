//! Ends the collection of flows. Merges the partitions and assigns evidence that depends on all
//! packets: fragments join their flows, DNS answers join their queries, and the outer packets of
//! tunnels become flows.

use std::collections::{BTreeSet, HashMap};
use std::io;

use super::duplicates::DuplicateCorrection;
use super::evidence_limit::EvidenceLimit;
use super::fragments::{FragmentTable, JoinedFragment, TIMEOUT};
use super::key::PARTITIONS;
use super::keyed::{EvidenceKind, Keyed};
use super::merged::{IdleStats, MergedFlows};
use super::outer_flows::OuterFlow;
use super::packet_log::PacketLogs;
use super::side_evidence::{AddressPair, SideEvidence};
use super::state::{DirectionStats, IcmpError, QuotedPackets};
use super::store::FlowStore;
use super::worker_tables::{PacketRetention, Retention, WorkerTables};
use crate::model::Nanos;
use crate::payload::{DnsExchange, DnsQuery};

/// The fragments and lookups that a window leaves incomplete and that the next window may complete.
#[derive(Default)]
pub struct WindowCarryOver {
    parts: Vec<PartitionCarryOver>,
}

/// How a window ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WindowEnd {
    /// No further window follows, so nothing is carried over.
    Last,
    /// Another window follows. The last packet of this one had this time; `None` if it had no
    /// packets with a time, in which case the evidence of earlier windows waits for the next
    /// window.
    Continued(Option<Nanos>),
}

/// The fragments of incomplete datagrams, and the incomplete lookups, of one partition.
#[derive(Default)]
struct PartitionCarryOver {
    fragments: FragmentTable,
    lookups: HashMap<DnsQuery, DnsExchange>,
}

impl PartitionCarryOver {
    /// Extracts incomplete evidence. Fragments that arrived at or after `since` may still be
    /// completed. An incomplete lookup is carried over only once, so the lookups in `before`, which
    /// came from the previous window, are left out.
    fn take_from(
        side: &mut SideEvidence,
        since: Nanos,
        before: &HashMap<DnsQuery, DnsExchange>,
    ) -> Self {
        let is_waiting = |(lookup, reply): &(&DnsQuery, &DnsExchange)| {
            !reply.is_complete() && !before.contains_key(*lookup)
        };
        let waiting = side.lookups.sorted().filter(is_waiting);
        Self {
            lookups: waiting.map(|(lookup, reply)| (lookup.clone(), reply.clone())).collect(),
            fragments: side.fragments.take_unfinished(since),
        }
    }
}

impl FlowStore {
    /// Merges all tables, which were created with `keep`, on `jobs` threads. If `keep` requires
    /// packet records, each fragment that joins a flow also adds one. Entries of side evidence
    /// beyond `limit` are dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be read or written.
    pub fn finish(
        self,
        keep: &Retention,
        jobs: usize,
        limit: &EvidenceLimit<'_>,
    ) -> io::Result<MergedFlows> {
        self.merge_all(keep, jobs, &mut WindowCarryOver::default(), None, limit)
    }

    /// Does the same as [`FlowStore::finish`] for one of several windows, without packet records.
    /// Logs of packets are dropped, because only rows may contain them.
    /// `pending` contains the incomplete evidence of earlier windows and receives that of this
    /// window. The number of entries of side evidence is not limited.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`FlowStore::finish`].
    pub fn finish_window(
        self,
        jobs: usize,
        pending: &mut WindowCarryOver,
        end: WindowEnd,
    ) -> io::Result<MergedFlows> {
        let keep = Retention::default();
        let limit = &EvidenceLimit::NONE;
        match end {
            WindowEnd::Last => self.merge_all(&keep, jobs, pending, None, limit),
            WindowEnd::Continued(Some(last)) => {
                let since = last.saturating_sub(TIMEOUT);
                self.merge_all(&keep, jobs, pending, Some(since), limit)
            }
            WindowEnd::Continued(None) => {
                self.merge_all(&keep, jobs, &mut WindowCarryOver::default(), None, limit)
            }
        }
    }

    fn merge_all(
        self,
        keep: &Retention,
        jobs: usize,
        pending: &mut WindowCarryOver,
        since: Option<Nanos>,
        limit: &EvidenceLimit<'_>,
    ) -> io::Result<MergedFlows> {
        self.merge(jobs);
        pending.parts.resize_with(PARTITIONS, Default::default);
        let mut joined = self.tables(keep);
        let mut flows = MergedFlows {
            parts: self.take_parts(),
            links: Vec::new(),
            store: self,
            side: SideEvidence::default(),
            plain: BTreeSet::new(),
            mirrored_duplicates: DuplicateCorrection::default(),
            removed_from_mirrors: 0,
            idle: vec![IdleStats::default(); PARTITIONS],
        };
        for (number, open) in pending.parts.iter_mut().enumerate() {
            let mut side = std::mem::take(&mut flows.parts[number].side);
            // The packet records are not merged yet, because fragments still add records.
            flows.parts[number].side.traces = std::mem::take(&mut side.traces);
            let spilled = flows.load(number)?.side;
            side.merge(SideEvidence { traces: Vec::new(), ..spilled });
            if keep.packets == PacketRetention::Nothing {
                side.packets = PacketLogs::default();
            }
            let before = std::mem::take(open);
            side.fragments.merge(before.fragments);
            for (lookup, reply) in &before.lookups {
                side.lookups.add(lookup.clone(), reply.clone());
            }
            if let Some(since) = since {
                *open = PartitionCarryOver::take_from(&mut side, since, &before.lookups);
            }
            flows.take_side(side, &mut joined);
            flows.side.keep_within(limit);
        }
        let mut links = flows.store.links();
        for (number, part) in joined.into_partitions(&flows.store.seed) {
            flows.parts[number].merge(part, &flows.store.seed, &mut links);
        }
        flows.links = flows.store.interner.all();
        // Readers load spilled evidence from its file, so the evidence in memory is written there,
        // too.
        if flows.store.spill.written() > 0 {
            for (number, part) in flows.parts.iter_mut().enumerate() {
                flows.store.spill.add(number, &std::mem::take(part))?;
            }
        }
        Ok(flows)
    }
}

impl MergedFlows {
    /// Merges the side evidence of a partition. Evidence that belongs to flows goes to `joined`.
    fn take_side(&mut self, mut side: SideEvidence, joined: &mut WorkerTables) {
        let carriers = std::mem::take(&mut side.carriers);
        let lookups = std::mem::take(&mut side.lookups);
        let fragments = std::mem::take(&mut side.fragments);
        self.side.merge(side);
        self.join_outer_flows(carriers, joined);
        self.join_lookups(lookups);
        self.join_fragments(fragments, joined);
    }

    /// Records the sources and destinations of undeclared tunnels, and turns the outer packets of
    /// tunnels into flows.
    fn join_outer_flows(
        &mut self,
        outer_flows: Keyed<OuterFlow, DirectionStats>,
        joined: &mut WorkerTables,
    ) {
        for (outer, side) in outer_flows {
            if outer.path.is_around()
                && let Some(interface) = outer.path.interface()
            {
                self.side.tunnels.entry(interface).insert(outer.ends.dst);
                self.side.tunnel_sources.entry(interface).insert(outer.ends.src);
            }
            let (key, sender) = outer.flow();
            joined.flows.observe_side(&key, sender, &side);
        }
    }

    fn join_lookups(&mut self, lookups: Keyed<DnsQuery, DnsExchange>) {
        // An answer without a query does not count.
        for (lookup, reply) in lookups.into_iter().filter(|(_, reply)| reply.queried.0 != 0) {
            let DnsQuery { client, resolver, path, .. } = lookup;
            self.side.askers.entry((resolver, path)).insert(client);
            for (address, names) in reply.answers.iter() {
                let resolved = self.side.told.entry((client, *address, path));
                resolved.insert((names.clone(), resolver));
            }
        }
    }

    fn join_fragments(&mut self, fragments: FragmentTable, joined: &mut WorkerTables) {
        for fragment in fragments.join_all() {
            match fragment {
                JoinedFragment::Flow(key, side, seen, payload) => {
                    let slot = joined.flows.find_slot(&key, side);
                    joined.flows.observe(slot, &seen, payload, 0, (0, None));
                    joined.keep_fragment_record(&key, side, &seen, payload);
                }
                JoinedFragment::Error(key, side, time, kind, by) => {
                    let error = IcmpError { side: side as u8, kind, by };
                    joined.flows.observe_error(&key, error, &QuotedPackets::default(), time);
                }
                JoinedFragment::Orphan(datagram, seen) => {
                    let pair = AddressPair {
                        src: datagram.src,
                        dst: datagram.dst,
                        transport: datagram.transport,
                        path: datagram.path,
                    };
                    self.side.orphans.entry(pair).add(1);
                    let side = self.side.loose.entry(pair);
                    side.see(seen.time, seen.wire_len, 0, 0);
                }
            }
        }
    }
}
