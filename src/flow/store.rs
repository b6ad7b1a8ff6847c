//! The store where the workers' tables merge. It keeps hash partitions in memory or, when memory is
//! short, in temporary files. The result is the same in both cases.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use super::HashSeed;
use super::interner::{Interner, InternerCache};
use super::key::PARTITIONS;
use super::memory::return_large_blocks;
use super::partitions::PartitionEvidence;
use super::spill::Spill;
use super::worker_tables::{Retention, WorkerTables};

/// The store where tables merge. All workers share it. Locks cover a partition, never a single
/// flow.
pub struct FlowStore {
    pub(super) seed: HashSeed,
    pub(super) interner: Arc<Interner>,
    pub(super) spill: Spill,
    partitions: DashMap<usize, Vec<PartitionEvidence>>,
}

impl FlowStore {
    /// Returns an empty store that spills into unnamed files in `folder`.
    pub fn new(seed: &HashSeed, folder: PathBuf) -> Self {
        return_large_blocks();
        Self {
            seed: seed.clone(),
            interner: Arc::default(),
            spill: Spill::new(folder),
            partitions: DashMap::new(),
        }
    }

    /// Returns an empty store whose flows can be merged with those of this store.
    pub fn sibling(&self) -> Self {
        let interner = Arc::clone(&self.interner);
        Self { interner, ..Self::new(&self.seed, self.spill.folder().to_owned()) }
    }

    /// Returns empty tables for a worker. `keep` determines which evidence of individual packets
    /// they retain.
    pub fn tables(&self, keep: &Retention) -> WorkerTables {
        WorkerTables::new(&self.seed, &self.interner, keep)
    }

    /// Returns a new cache of the interner for one thread.
    pub(super) fn links(&self) -> InternerCache {
        InternerCache::new(&self.seed, &self.interner)
    }

    /// Adds the tables of a worker that has finished.
    ///
    /// # Errors
    ///
    /// Returns an error if evidence was spilled before and a temporary file cannot be written.
    pub fn submit(&self, tables: WorkerTables) -> io::Result<()> {
        // After a spill, the last tables go to the same files as the earlier ones.
        if self.spill.written() > 0 {
            return self.spill(tables);
        }
        for (number, partition) in tables.into_partitions(&self.seed) {
            self.partitions.entry(number).or_default().push(partition);
        }
        Ok(())
    }

    /// Writes the tables of a worker that exceeds its share of memory to the temporary files.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be written.
    pub fn spill(&self, tables: WorkerTables) -> io::Result<()> {
        for (number, partition) in tables.into_partitions(&self.seed) {
            if !partition.is_empty() {
                self.spill.add(number, &partition)?;
            }
        }
        Ok(())
    }

    /// Merges the tables that the workers submitted, on `jobs` threads.
    pub(super) fn merge(&self, jobs: usize) {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut links = self.links();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= PARTITIONS {
                    return;
                }
                self.merge_partition(number, &mut links);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs {
                scope.spawn(work);
            }
            work();
        });
    }

    /// Merges the workers' parts of a partition into the largest one.
    fn merge_partition(&self, number: usize, links: &mut InternerCache) {
        let Some(mut parts) = self.partitions.get_mut(&number) else { return };
        let mut all = std::mem::take(&mut *parts);
        all.sort_by_key(|part| part.flows.len());
        let Some(mut largest) = all.pop() else { return };
        for part in all {
            largest.merge(part, &self.seed, links);
        }
        parts.push(largest);
    }

    /// Returns the merged part of a partition that is in memory; `None` if there is none.
    pub(super) fn part(
        &self,
        number: usize,
    ) -> Option<impl std::ops::Deref<Target = PartitionEvidence>> {
        let parts = self.partitions.get(&number)?;
        parts.try_map(|parts| parts.last()).ok()
    }

    /// Removes and returns the part of each partition that is in memory.
    pub(super) fn take_parts(&self) -> Vec<PartitionEvidence> {
        let part = |number| {
            let parts = self.partitions.remove(&number);
            parts.and_then(|(_, mut parts)| parts.pop()).unwrap_or_default()
        };
        (0..PARTITIONS).map(part).collect()
    }
}
