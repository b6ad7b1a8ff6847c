//! All flows of a run, merged.

use std::collections::BTreeSet;
use std::io;
use std::sync::Mutex;

use super::copied_amounts::CopiedAmounts;
use super::duplicates::{DuplicateCorrection, FlowSide, LinkClocks};
use super::interner::InternerCache;
use super::key::PARTITIONS;
use super::partitions::{FlowPartitions, PartitionEvidence, PartitionFlows, on_threads};
use super::records::Evidence;
use super::side_evidence::SideEvidence;
use super::spill::parse_pieces;
use super::store::FlowStore;
use crate::decode::{Encapsulation, Path};
use crate::model::{DuplicateCounts, Nanos};

/// All flows of a run, merged. If they were spilled, each thread has only one partition at a time
/// in memory.
pub struct MergedFlows {
    pub(super) store: FlowStore,
    /// The part of each partition that is in memory.
    pub(super) parts: Vec<PartitionEvidence>,
    /// The encapsulations of all flows. The index of each is its number minus one.
    pub(super) links: Vec<Encapsulation>,
    /// The evidence that is kept in addition to the flows.
    pub side: SideEvidence,
    /// The paths that are trusted like the plain path, because they carry mirrored traffic.
    pub(super) plain: BTreeSet<Path>,
    /// The packets of mirrors that are duplicates of other packets. They are subtracted once the
    /// mirrors are trusted.
    pub(super) mirrored_duplicates: DuplicateCorrection,
    /// The number of packets that were subtracted because mirrors are trusted.
    pub removed_from_mirrors: u64,
    /// The statistics of the idle flows in the file of each partition.
    pub(super) idle: Vec<IdleStats>,
}

/// Statistics of the idle flows in the file of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct IdleStats {
    pub pieces: usize,
    pub flows: usize,
    pub estimated_conversations: usize,
    pub bytes: u64,
}

impl MergedFlows {
    /// Returns [`Path::PLAIN`] for the paths of known mirrors, or `path` itself for all others.
    pub fn trusted_path(&self, path: Path) -> Path {
        if self.plain.contains(&path) { Path::PLAIN } else { path }
    }

    /// Returns how far the clocks of two captured links differ, in nanoseconds, if a sample of the
    /// packets shows it.
    pub fn clock_offset(&self) -> Option<Nanos> {
        self.side.sample().clock_offset()
    }

    /// Returns how often captures of at most `places` places show the same packet at different
    /// times, as a sample of the packets shows. The result is at least 1.
    pub fn late_copies(&self, places: usize) -> usize {
        self.side.sample().late_copies(places)
    }

    /// Returns the number of duplicates of each kind in a sample of the packets.
    pub fn duplicate_counts(&self) -> DuplicateCounts {
        self.side.duplicate_counts()
    }

    /// Returns an unpacked copy of all evidence, with the flows sorted by key.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be read.
    pub fn evidence(&self) -> io::Result<Evidence> {
        let mut flows = Vec::new();
        self.visit(|partition| flows.extend(partition.records()))?;
        flows.sort_unstable_by_key(|flow| flow.key);
        Ok(Evidence { flows, side: self.side.clone() })
    }

    /// Returns the numbers of duplicate packets and bytes that the packet records show, if records
    /// were kept, and those that an earlier run found. Also returns what is to be subtracted in
    /// addition if mirrors are trusted. It must be called only once.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be read.
    pub(super) fn find_duplicates(
        &mut self,
    ) -> io::Result<(DuplicateCorrection, DuplicateCorrection)> {
        let mut correction = DuplicateCorrection::default();
        let mut mirrored = DuplicateCorrection::default();
        let mirrors: BTreeSet<Path> =
            self.side.only_tunnel().into_iter().map(Path::inside).collect();
        let clocks = match self.clock_offset() {
            Some(_) => LinkClocks::Differ,
            None => LinkClocks::Agree,
        };
        for number in 0..PARTITIONS {
            let mut traces = std::mem::take(&mut self.parts[number].side.traces);
            traces.extend(self.load(number)?.side.traces);
            correction.find(&mut traces, clocks);
            if !mirrors.is_empty() {
                let inside = traces.iter_mut().filter(|t| mirrors.contains(&t.sender.path));
                inside.for_each(|trace| trace.sender.path = Path::PLAIN);
                mirrored.find(&mut traces, clocks);
            }
        }
        let mut mirrored = mirrored.beyond(&correction, &mirrors);
        let known =
            [(&self.side.copies, &mut correction), (&self.side.mirror_copies, &mut mirrored)];
        for (known, correction) in known {
            for (flow, CopiedAmounts(copies)) in known.sorted() {
                let sides = FlowSide::both(&self.store.seed, flow);
                sides.into_iter().zip(copies).for_each(|(side, own)| correction.add(side, own));
            }
        }
        Ok((correction, mirrored))
    }

    /// Subtracts the known duplicates from all amounts. It must be called only once. Returns the
    /// number of packets removed.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be read or written.
    pub fn remove_duplicates(&mut self) -> io::Result<u64> {
        let (correction, mirrored) = self.find_duplicates()?;
        self.mirrored_duplicates = mirrored;
        let mut removed = 0;
        let seed = self.store.seed.clone();
        for number in 0..PARTITIONS {
            let mut flows = self.load(number)?.flows;
            if flows.is_empty() {
                removed += self.parts[number].flows.remove_duplicates(&correction, &seed);
                continue;
            }
            removed += flows.remove_duplicates(&correction, &seed);
            // The corrected flows replace the content of the partition's file.
            self.store.spill.replace(number, &flows)?;
        }
        Ok(removed)
    }

    /// Returns the evidence in the temporary file of a partition.
    pub(super) fn load(&self, number: usize) -> io::Result<PartitionEvidence> {
        // The file is read as a whole and parsed afterwards, so that other threads can read their
        // files in the meantime.
        let bytes = self.store.spill.read(number)?;
        if bytes.is_empty() {
            return Ok(PartitionEvidence::default());
        }
        parse_pieces(&bytes, &self.store.seed, &mut self.store.links())
    }

    /// Merges the flows of a partition that are on trusted paths into those on [`Path::PLAIN`].
    fn make_plain(&mut self, number: usize, links: &mut InternerCache) -> io::Result<()> {
        let seed = self.store.seed.clone();
        let mut flows = self.load(number)?.flows;
        let in_file = !flows.is_empty();
        flows.merge(std::mem::take(&mut self.parts[number].flows), &seed, links);
        let mut flows = flows.make_plain(&seed, links, |path| self.plain.contains(&path));
        if !self.mirrored_duplicates.is_empty() {
            self.removed_from_mirrors += flows.remove_duplicates(&self.mirrored_duplicates, &seed);
        }
        if in_file {
            self.store.spill.replace(number, &flows)?;
        } else {
            self.parts[number].flows = flows;
        }
        Ok(())
    }
}

impl FlowPartitions for MergedFlows {
    fn count(&self) -> usize {
        PARTITIONS
    }

    fn visit_one(
        &self,
        number: usize,
        visitor: &mut dyn FnMut(PartitionFlows<'_>),
    ) -> io::Result<()> {
        let links = &self.links;
        let own = &self.parts[number].flows;
        let mut spilled = self.load(number)?.flows;
        if spilled.is_empty() {
            visitor(PartitionFlows { table: own, links });
        } else {
            spilled.merge_all(own, &self.store.seed, &mut self.store.links());
            visitor(PartitionFlows { table: &spilled, links });
        }
        Ok(())
    }

    fn side(&self) -> &SideEvidence {
        &self.side
    }

    fn trust_mirrors(&mut self, mirrors: &BTreeSet<u16>) -> io::Result<()> {
        let paths: BTreeSet<Path> = mirrors.iter().map(|at| Path::inside(*at)).collect();
        if paths.is_subset(&self.plain) {
            return Ok(());
        }
        self.plain.extend(paths);
        let mut links = self.store.links();
        (0..PARTITIONS).try_for_each(|number| self.make_plain(number, &mut links))?;
        self.mirrored_duplicates = DuplicateCorrection::default();
        let plain = &self.plain;
        self.side.map_paths(&|path| if plain.contains(&path) { Path::PLAIN } else { path });
        self.links = self.store.interner.all();
        Ok(())
    }

    fn spilled(&self) -> u64 {
        self.store.spill.written()
    }

    fn flow_count(&self) -> Option<usize> {
        (self.spilled() == 0).then(|| self.len())
    }

    fn drain<T: Default + Send>(
        &mut self,
        jobs: usize,
        take: impl Fn(&mut T, PartitionFlows<'_>) + Sync,
    ) -> io::Result<Vec<T>> {
        let empty = (0..PARTITIONS).map(|_| PartitionEvidence::default()).collect();
        let parts = std::mem::replace(&mut self.parts, empty);
        let waiting = Mutex::new(parts.into_iter().enumerate());
        let next = || waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        let all = on_threads(jobs, || {
            let mut all = T::default();
            while let Some((number, mut part)) = next() {
                let spilled = self.load(number)?.flows;
                if !spilled.is_empty() {
                    part.flows.merge(spilled, &self.store.seed, &mut self.store.links());
                }
                take(&mut all, PartitionFlows { table: &part.flows, links: &self.links });
            }
            Ok(all)
        });
        self.store.spill.clear();
        all
    }
}
