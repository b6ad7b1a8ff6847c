//! Where the workers' tables meet: hash partitions in memory, and in temporary files when memory runs short. The result
//! is the same.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use super::Seed;
use super::key::PARTITIONS;
use super::links::{Book, Links};
use super::memory::return_large_blocks;
use super::partitions::Partition;
use super::spill::Spill;
use super::tables::{Keep, Tables};

/// Where tables meet. Shared by all workers; locks are taken for a partition, never for a flow.
pub struct Meeting {
    pub(super) seed: Seed,
    pub(super) book: Arc<Book>,
    pub(super) spill: Spill,
    partitions: DashMap<usize, Vec<Partition>>,
}

impl Meeting {
    /// Returns an empty meeting that spills into unnamed files in `folder`.
    pub fn new(seed: &Seed, folder: PathBuf) -> Self {
        return_large_blocks();
        Self {
            seed: seed.clone(),
            book: Arc::default(),
            spill: Spill::new(folder),
            partitions: DashMap::new(),
        }
    }

    /// Returns another meeting, whose flows can be taken in where this one's are.
    pub fn another(&self) -> Self {
        let book = Arc::clone(&self.book);
        Self { book, ..Self::new(&self.seed, self.spill.folder().to_owned()) }
    }

    /// Returns empty tables for a worker.
    pub fn tables(&self, keep: &Keep) -> Tables {
        Tables::new(&self.seed, &self.book, keep)
    }

    /// Returns what one thread knows of the links of this run.
    pub(super) fn links(&self) -> Links {
        Links::new(&self.seed, &self.book)
    }

    /// Takes in the tables of a worker that has ended.
    ///
    /// # Errors
    ///
    /// Where memory ran short before, and a temporary file cannot be written.
    pub fn take_in(&self, tables: Tables) -> io::Result<()> {
        // Once memory has run short, the last tables go where the earlier ones went.
        if self.spill.written() > 0 {
            return self.spill(tables);
        }
        for (number, partition) in tables.into_partitions(&self.seed) {
            self.partitions.entry(number).or_default().push(partition);
        }
        Ok(())
    }

    /// Writes the tables of a worker that has grown over its share of memory into the temporary files.
    ///
    /// # Errors
    ///
    /// Where one cannot be written.
    pub fn spill(&self, tables: Tables) -> io::Result<()> {
        for (number, partition) in tables.into_partitions(&self.seed) {
            if !partition.is_empty() {
                self.spill.add(number, &partition)?;
            }
        }
        Ok(())
    }

    /// Merges what the workers brought, on `jobs` threads.
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

    /// Merges the workers' parts of a partition into the largest of them.
    fn merge_partition(&self, number: usize, links: &mut Links) {
        let Some(mut parts) = self.partitions.get_mut(&number) else { return };
        let mut all = std::mem::take(&mut *parts);
        all.sort_by_key(|part| part.flows.len());
        let Some(mut whole) = all.pop() else { return };
        for part in all {
            whole.merge(part, &self.seed, links);
        }
        parts.push(whole);
    }

    /// Takes out what is in memory of each partition.
    pub(super) fn take_parts(&self) -> Vec<Partition> {
        let part = |number| {
            let parts = self.partitions.remove(&number);
            parts.and_then(|(_, mut parts)| parts.pop()).unwrap_or_default()
        };
        (0..PARTITIONS).map(part).collect()
    }
}
