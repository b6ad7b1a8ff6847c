//! Access to merged flows, one partition at a time, whether they are in memory or in files.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::interner::InternerCache;
use super::records::FlowRecord;
use super::side_evidence::SideEvidence;
use super::table::{Flow, FlowTable};
use super::{FlowKey, HashSeed};
use crate::decode::Encapsulation;

/// The flows and the side evidence of one partition.
#[derive(Default)]
pub(super) struct PartitionEvidence {
    pub flows: FlowTable,
    pub side: SideEvidence,
}

impl PartitionEvidence {
    /// Merges all evidence of `other`.
    pub fn merge(&mut self, other: Self, seed: &HashSeed, links: &mut InternerCache) {
        self.flows.merge(other.flows, seed, links);
        self.side.merge(other.side);
    }

    /// Returns whether there is no evidence.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty() && self.side.is_empty()
    }
}

/// The flows of one partition.
#[derive(Clone, Copy)]
pub struct PartitionFlows<'a> {
    pub(super) table: &'a FlowTable,
    pub(super) links: &'a [Encapsulation],
}

impl<'a> PartitionFlows<'a> {
    /// Returns the flows in unspecified order.
    pub fn iter(&self) -> impl Iterator<Item = Flow<'a>> + use<'a> {
        self.table.iter(self.links)
    }

    /// Returns the keys of the flows in the same order as [`Self::iter`].
    pub fn keys(&self) -> impl Iterator<Item = FlowKey> + use<'a> {
        self.table.keys()
    }

    /// Returns copies of the flows as records, which do not depend on the table.
    pub fn records(&self) -> impl Iterator<Item = FlowRecord> + use<'a> {
        self.iter().map(|flow| flow.record())
    }
}

/// All merged flows, in parts. Each flow is in exactly one part, and nearly always all flows of a
/// conversation are in the same part.
pub trait FlowPartitions: Sync {
    /// Returns the number of parts.
    fn count(&self) -> usize;

    /// Passes the flows of a part to a visitor.
    ///
    /// # Errors
    ///
    /// Returns an error if the part is in a file that cannot be read.
    fn visit_one(
        &self,
        number: usize,
        visitor: &mut dyn FnMut(PartitionFlows<'_>),
    ) -> io::Result<()>;

    /// Returns the evidence that is kept in addition to the flows.
    fn side(&self) -> &SideEvidence;

    /// Treats packets that came through tunnels on the interfaces `mirrors` as if they had been
    /// captured without a tunnel. The outer packets of these tunnels keep their own path, so that
    /// readers can exclude them.
    ///
    /// # Errors
    ///
    /// Returns an error if a part is in a file that cannot be read or written.
    fn trust_mirrors(&mut self, mirrors: &BTreeSet<u16>) -> io::Result<()>;

    /// Returns the number of bytes that were written to temporary files because memory was short.
    fn spilled(&self) -> u64 {
        0
    }

    /// Returns the number of flows, or `None` if it is not known without reading them.
    fn flow_count(&self) -> Option<usize> {
        None
    }

    /// Passes all flows to a visitor, one part at a time, in unspecified order.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`FlowPartitions::visit_one`].
    fn visit(&self, mut visitor: impl FnMut(PartitionFlows<'_>)) -> io::Result<()>
    where
        Self: Sized,
    {
        (0..self.count()).try_for_each(|number| self.visit_one(number, &mut visitor))
    }

    /// Reads all flows on `jobs` threads. Each thread collects them in a value of its own.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`FlowPartitions::visit_one`].
    fn fold<T: Default + Send>(
        &self,
        jobs: usize,
        take: impl Fn(&mut T, PartitionFlows<'_>) + Sync,
    ) -> io::Result<Vec<T>>
    where
        Self: Sized,
    {
        let next = AtomicUsize::new(0);
        on_threads(jobs, || {
            let mut all = T::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.count() {
                    return Ok(all);
                }
                self.visit_one(number, &mut |partition| take(&mut all, partition))?;
            }
        })
    }

    /// Does the same as [`FlowPartitions::fold`], but may be called only if the flows are not
    /// needed again. An implementation may free the flows part by part and then has none left.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`FlowPartitions::visit_one`].
    fn drain<T: Default + Send>(
        &mut self,
        jobs: usize,
        take: impl Fn(&mut T, PartitionFlows<'_>) + Sync,
    ) -> io::Result<Vec<T>>
    where
        Self: Sized,
    {
        self.fold(jobs, take)
    }
}

/// Runs `work` once on each of `jobs` threads and returns the results.
pub(super) fn on_threads<T: Send>(
    jobs: usize,
    work: impl Fn() -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..jobs).map(|_| scope.spawn(&work)).collect();
        let mut all = vec![work()?];
        for other in others {
            all.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}
