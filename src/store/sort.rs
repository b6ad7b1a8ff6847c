//! Sorts rows in bounded memory and merges sorted runs of rows. Rows that do not fit are written to
//! unnamed temporary files as sorted runs. Files of a store that are already sorted are runs, too,
//! so their rows are neither copied nor sorted.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;
use std::vec;

use super::file_run::{FileRun, RunError};
use super::row::{RowStart, StoredRef, StoredRow};

/// The number of runs of a level that are merged into one run. More runs would need too many open
/// files.
const MOST_RUNS: usize = 64;

/// The size of a block of packed rows in bytes. A row that is larger gets a block of its own.
const BLOCK: usize = 1 << 16;

/// Rows that are being sorted.
pub(super) struct RowSorter {
    folder: PathBuf,
    /// The bytes of memory above which rows are written to a run.
    limit: usize,
    rows: PackedRows,
    /// The runs by level. A full level is merged into one run of the next level.
    levels: Vec<Vec<File>>,
}

impl RowSorter {
    /// Creates a sorter that writes a run to `folder` whenever the rows take more than `limit`
    /// bytes.
    pub fn new(folder: PathBuf, limit: usize) -> Self {
        Self { folder, limit, rows: PackedRows::default(), levels: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be written or read.
    pub fn add(&mut self, row: &StoredRef<'_>) -> io::Result<()> {
        self.rows.add(row)?;
        if self.rows.memory() > self.limit {
            let rows = std::mem::take(&mut self.rows);
            let run = self.write_run([SortedRun::Packed(rows.sorted())])?;
            self.add_run(run)?;
        }
        Ok(())
    }

    /// Adds the rows of another sorter.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be written or read.
    pub fn take(&mut self, other: Self) -> io::Result<()> {
        let rows = self.write_run([SortedRun::Packed(other.rows.sorted())])?;
        let runs = other.levels.into_iter().flatten().chain([rows]);
        runs.into_iter().try_for_each(|run| self.add_run(run))
    }

    /// Merges runs into one.
    fn write_run<'f>(&self, runs: impl IntoIterator<Item = SortedRun<'f>>) -> io::Result<File> {
        // Only rows from temporary files and from memory are written to a run.
        let failed = |error| match error {
            RunError::Temporary(error) => error,
            RunError::Unusable => io::Error::other("the run is not sorted"),
            RunError::Interrupted => io::ErrorKind::Interrupted.into(),
        };
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.folder)?);
        let mut rows = MergedRuns::new(runs.into_iter().collect()).map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(row) = rows.first() {
            bytes.clear();
            bytes = postcard::to_extend(&row, bytes).map_err(io::Error::other)?;
            out.write_all(&(bytes.len() as u64).to_le_bytes())?;
            out.write_all(&bytes)?;
            rows.advance().map_err(failed)?;
        }
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }

    fn add_run(&mut self, mut run: File) -> io::Result<()> {
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(run);
            if self.levels[level].len() < MOST_RUNS {
                break;
            }
            let runs = std::mem::take(&mut self.levels[level]);
            run = self.write_run(runs.into_iter().map(SortedRun::of_file))?;
        }
        Ok(())
    }

    /// Returns all rows, and those of sorted files, in order and in groups of the same bucket,
    /// kind, key and window. A group of evidence that exceeds the memory of the sorter is returned
    /// in parts (see [`GroupPart`]).
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read.
    pub fn finish<'f>(
        self,
        files: impl IntoIterator<Item = FileRun<'f>>,
    ) -> Result<SortedGroups<'f>, RunError> {
        let mut runs: Vec<SortedRun<'f>> =
            self.levels.into_iter().flatten().map(SortedRun::of_file).collect();
        runs.push(SortedRun::Packed(self.rows.sorted()));
        runs.extend(files.into_iter().map(|file| SortedRun::Stored(Box::new(file))));
        let rows = MergedRuns::new(runs)?;
        Ok(SortedGroups { rows, limit: self.limit, is_taken: false, continues: false })
    }
}

/// The place of a packed row: the number of its block, and its first byte in the block.
type PackedPlace = (u32, u32);

/// Serialized rows, by bucket. The rows of a bucket usually fit into the cache of the processor
/// while they are sorted and read in order.
#[derive(Default)]
struct PackedRows {
    buckets: Vec<PackedBucket>,
    /// The number of rows, and the number of their bytes.
    rows: usize,
    bytes: usize,
}

/// The serialized rows of a bucket. They take much less memory than other rows, and no allocations
/// of their own.
#[derive(Default)]
struct PackedBucket {
    blocks: Vec<Vec<u8>>,
    /// The number of bytes of the last block that are used.
    used: usize,
    order: Vec<(RowStart, PackedPlace)>,
}

impl PackedRows {
    fn add(&mut self, row: &StoredRef<'_>) -> io::Result<()> {
        let bucket = usize::from(row.bucket);
        if self.buckets.len() <= bucket {
            self.buckets.resize_with(bucket + 1, PackedBucket::default);
        }
        self.rows += 1;
        self.bytes += self.buckets[bucket].add(row)?;
        Ok(())
    }

    /// Returns the approximate memory that the rows take, in bytes. This includes the memory that
    /// sorting needs.
    fn memory(&self) -> usize {
        self.bytes + 2 * self.rows * size_of::<(RowStart, PackedPlace)>()
    }

    fn sorted(self) -> PackedRun {
        let mut buckets = self.buckets.into_iter();
        let first = buckets.next().unwrap_or_default().sorted();
        let mut run = PackedRun { bucket: first, next: 0, later: buckets };
        run.skip_empty();
        run
    }
}

impl PackedBucket {
    /// Adds a row, and returns the number of its bytes.
    fn add(&mut self, row: &StoredRef<'_>) -> io::Result<usize> {
        // A packed row is smaller than a row in memory, so it fits in this number of bytes.
        let most = row.memory();
        if self.blocks.last().is_none_or(|block| block.len() - self.used < most) {
            self.blocks.push(vec![0; BLOCK.max(most)]);
            self.used = 0;
        }
        let number = self.blocks.len() - 1;
        let packed = postcard::to_slice(row, &mut self.blocks[number][self.used..]);
        let bytes = packed.map_err(io::Error::other)?.len();
        self.order.push((row.start(), (number as u32, self.used as u32)));
        self.used += bytes;
        Ok(bytes)
    }

    fn row(&self, (block, start): PackedPlace) -> Option<StoredRef<'_>> {
        unpacked(&self.blocks[block as usize][start as usize..])
    }

    fn sorted(mut self) -> Self {
        let mut order = std::mem::take(&mut self.order);
        // The rows from a file are already sorted, and a stable sort is fast for sorted parts.
        order.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| compare(self.row(a.1), self.row(b.1))));
        Self { order, ..self }
    }
}

/// Returns the row at the start of these bytes; `None` never occurs, because the program packed the
/// row.
fn unpacked(bytes: &[u8]) -> Option<StoredRef<'_>> {
    postcard::take_from_bytes(bytes).ok().map(|(row, _)| row)
}

/// Compares rows. Rows with the same bucket, kind, key and window are ordered by input, so that the
/// order is always the same.
fn compare(a: Option<StoredRef<'_>>, b: Option<StoredRef<'_>>) -> Ordering {
    let (a, b) = (a.as_ref(), b.as_ref());
    let order = a.map(StoredRef::order).cmp(&b.map(StoredRef::order));
    order.then_with(|| a.map(|row| row.input).cmp(&b.map(|row| row.input)))
}

fn is_same_group(a: Option<StoredRef<'_>>, b: Option<StoredRef<'_>>) -> bool {
    a.map(|row| row.order()) == b.map(|row| row.order())
}

/// Sorted rows in memory. A bucket is sorted when its first row is read, and freed after its last.
struct PackedRun {
    /// The bucket of the first row, sorted.
    bucket: PackedBucket,
    /// The index of the first row in the bucket.
    next: usize,
    /// The buckets after it, which are not sorted yet.
    later: vec::IntoIter<PackedBucket>,
}

impl PackedRun {
    /// Returns a row of the bucket of the first row.
    fn row(&self, number: usize) -> Option<StoredRef<'_>> {
        self.bucket.order.get(number).and_then(|(_, place)| self.bucket.row(*place))
    }

    /// Returns the start of a row of the bucket of the first row.
    fn start(&self, number: usize) -> Option<RowStart> {
        self.bucket.order.get(number).map(|(start, _)| *start)
    }

    fn advance(&mut self) {
        self.next += 1;
        self.skip_empty();
    }

    /// Goes on to the next bucket that has rows if no row of this bucket is left.
    fn skip_empty(&mut self) {
        while self.next >= self.bucket.order.len()
            && let Some(bucket) = self.later.next()
        {
            (self.bucket, self.next) = (bucket.sorted(), 0);
        }
    }
}

/// Sorted rows in a temporary file.
struct SpilledRun {
    file: BufReader<File>,
    /// The first row, packed; empty at the end.
    first: Vec<u8>,
    /// The row after it.
    second: Vec<u8>,
}

impl SpilledRun {
    fn advance(&mut self) -> io::Result<()> {
        std::mem::swap(&mut self.first, &mut self.second);
        self.second.clear();
        let mut length = [0; 8];
        match self.file.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        self.second.resize(u64::from_le_bytes(length) as usize, 0);
        self.file.read_exact(&mut self.second)
    }
}

/// Rows in order.
enum SortedRun<'f> {
    /// Rows in memory.
    Packed(PackedRun),
    /// Rows in a temporary file.
    Spilled(Box<SpilledRun>),
    /// Rows in a file of a store.
    Stored(Box<FileRun<'f>>),
}

impl SortedRun<'_> {
    fn of_file(file: File) -> Self {
        let file = BufReader::new(file);
        Self::Spilled(Box::new(SpilledRun { file, first: Vec::new(), second: Vec::new() }))
    }

    /// Reads the first row.
    fn open(&mut self) -> Result<(), RunError> {
        match self {
            Self::Packed(_) => Ok(()),
            Self::Spilled(run) => Ok(run.advance().and_then(|()| run.advance())?),
            Self::Stored(run) => run.advance(),
        }
    }

    /// Returns the first row; `None` at the end.
    fn first(&self) -> Option<StoredRef<'_>> {
        match self {
            Self::Packed(run) => run.row(run.next),
            Self::Spilled(run) => unpacked(&run.first),
            Self::Stored(run) => run.first(),
        }
    }

    /// Returns the start of the first row; `None` at the end.
    fn start(&self) -> Option<RowStart> {
        match self {
            Self::Packed(run) => run.start(run.next),
            Self::Spilled(run) => unpacked(&run.first).map(|row| row.start()),
            Self::Stored(run) => run.start(),
        }
    }

    /// Returns whether the row after the first one belongs to the same group.
    fn repeats(&self) -> bool {
        match self {
            Self::Packed(run) => {
                run.start(run.next) == run.start(run.next + 1)
                    && is_same_group(run.row(run.next), run.row(run.next + 1))
            }
            Self::Spilled(run) => is_same_group(unpacked(&run.first), unpacked(&run.second)),
            // Such rows are not accepted as sorted.
            Self::Stored(_) => false,
        }
    }

    /// Removes the first row.
    fn advance(&mut self) -> Result<(), RunError> {
        match self {
            Self::Packed(run) => {
                run.advance();
                Ok(())
            }
            Self::Spilled(run) => Ok(run.advance()?),
            Self::Stored(run) => run.advance(),
        }
    }
}

/// Runs that are merged into one.
struct MergedRuns<'f> {
    runs: Vec<SortedRun<'f>>,
    /// The runs that have rows, each with the start of its first row. They form a binary heap: no
    /// run is before its parent, so the first row of all runs is that of the first.
    heap: Vec<(RowStart, usize)>,
}

impl<'f> MergedRuns<'f> {
    fn new(mut runs: Vec<SortedRun<'f>>) -> Result<Self, RunError> {
        runs.iter_mut().try_for_each(SortedRun::open)?;
        let starts = runs.iter().enumerate().filter_map(|(run, own)| Some((own.start()?, run)));
        let mut merged = Self { heap: starts.collect(), runs };
        (0..merged.heap.len() / 2).rev().for_each(|place| merged.sift_down(place));
        Ok(merged)
    }

    /// Returns the first row of all runs; `None` at the end.
    fn first(&self) -> Option<StoredRef<'_>> {
        self.heap.first().and_then(|(_, run)| self.runs[*run].first())
    }

    /// Returns whether the group of the first row has only this row.
    fn is_single(&self) -> bool {
        let Some((start, run)) = self.heap.first() else { return false };
        let is_other = |place: usize| {
            self.heap.get(place).is_none_or(|(own, other)| {
                own != start || !is_same_group(self.runs[*run].first(), self.runs[*other].first())
            })
        };
        is_other(1) && is_other(2) && !self.runs[*run].repeats()
    }

    /// Removes the first row of all runs.
    fn advance(&mut self) -> Result<(), RunError> {
        let Some((start, run)) = self.heap.first_mut() else { return Ok(()) };
        let run = &mut self.runs[*run];
        run.advance()?;
        match run.start() {
            Some(next) => *start = next,
            None => drop(self.heap.swap_remove(0)),
        }
        self.sift_down(0);
        Ok(())
    }

    fn is_before(&self, a: usize, b: usize) -> bool {
        let ((a, one), (b, other)) = (&self.heap[a], &self.heap[b]);
        let rows = || compare(self.runs[*one].first(), self.runs[*other].first());
        a.cmp(b).then_with(rows).then(one.cmp(other)).is_lt()
    }

    /// Moves the run at this place in the heap down until no run below it is before it.
    fn sift_down(&mut self, mut place: usize) {
        loop {
            let below = [2 * place + 1, 2 * place + 2].into_iter();
            let below = below.filter(|below| *below < self.heap.len());
            let first = below.reduce(|a, b| if self.is_before(b, a) { b } else { a });
            let first = first.filter(|first| self.is_before(*first, place));
            let Some(first) = first else { return };
            self.heap.swap(place, first);
            place = first;
        }
    }
}

/// Sorted rows in groups of the same bucket, kind, key and window.
pub(super) struct SortedGroups<'f> {
    rows: MergedRuns<'f>,
    /// The bytes of memory above which a group is divided into parts.
    limit: usize,
    /// Whether the first row was returned, so that it has to be removed.
    is_taken: bool,
    /// Whether the first row belongs to a group that was partly returned.
    continues: bool,
}

/// The next rows of [`SortedGroups`].
pub(super) enum NextRows<'a> {
    /// A group that has only one row. Most groups are of this kind.
    Single(StoredRef<'a>),
    /// Several rows of a group, or the last row of a group that is returned in parts.
    Part(GroupPart),
}

/// Rows of a group. All rows of inputs with the same content are in the same part, so a part may
/// exceed the limit.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct GroupPart {
    pub rows: Vec<StoredRow>,
    /// Whether no further part of the group follows.
    pub is_last: bool,
}

impl SortedGroups<'_> {
    /// Returns the next rows; `None` at the end.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read.
    pub fn next(&mut self) -> Result<Option<NextRows<'_>>, RunError> {
        if std::mem::take(&mut self.is_taken) {
            self.rows.advance()?;
        }
        if !self.continues && self.rows.is_single() {
            self.is_taken = true;
            return Ok(self.rows.first().map(NextRows::Single));
        }
        let part = self.read_part()?;
        Ok((!part.rows.is_empty()).then_some(NextRows::Part(part)))
    }

    fn read_part(&mut self) -> Result<GroupPart, RunError> {
        let mut rows: Vec<StoredRow> = Vec::new();
        let mut memory: usize = 0;
        self.continues = false;
        while let Some(row) = self.rows.first() {
            if let Some(last) = rows.last().map(StoredRow::as_ref) {
                let is_last = last.order() != row.order();
                let is_full = memory > self.limit
                    && row.evidence().is_some()
                    && last.content() != row.content();
                if is_last || is_full {
                    self.continues = !is_last;
                    return Ok(GroupPart { rows, is_last });
                }
            }
            memory += row.memory();
            rows.push(row.copied());
            self.rows.advance()?;
        }
        Ok(GroupPart { rows, is_last: true })
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::StoredKind;
    use super::*;
    use crate::flow::RowKind;

    fn row(number: u32) -> StoredRow {
        StoredRow {
            bucket: (number % 3) as u16,
            kind: StoredKind::Evidence(RowKind::FLOWS),
            key: (number % 500).to_be_bytes().to_vec(),
            window: None,
            input: number.to_string(),
            parts: 1,
            record: vec![7; 20],
            read: Default::default(),
        }
    }

    #[test]
    fn rows_are_sorted_in_any_memory() {
        let sorted = |limit| {
            let folder = tempfile::tempdir().unwrap();
            let mut sorter = RowSorter::new(folder.path().to_owned(), limit);
            (0..3000).for_each(|n| sorter.add(&row(n * 7919 % 3000).as_ref()).unwrap());
            let mut groups: Vec<Vec<StoredRow>> = Vec::new();
            let mut continues = false;
            let mut sorted = sorter.finish([]).unwrap();
            while let Some(next) = sorted.next().unwrap() {
                let part = match next {
                    NextRows::Part(part) => part,
                    NextRows::Single(row) => {
                        assert!(!continues);
                        GroupPart { rows: vec![row.copied()], is_last: true }
                    }
                };
                match groups.last_mut().filter(|_| continues) {
                    Some(group) => group.extend(part.rows),
                    None => groups.push(part.rows),
                }
                continues = !part.is_last;
            }
            groups
        };
        let all = sorted(usize::MAX);
        assert_eq!(all.len(), 1500);
        assert!(all.iter().all(|group| group.len() == 2));
        assert!(all.is_sorted_by_key(|group| (group[0].bucket, group[0].key.clone())));
        // With this limit, there are more runs than fit into one level.
        assert_eq!(sorted(4000), all);
        // With this limit, each row is a part of its own.
        assert_eq!(sorted(1), all);
    }
}
