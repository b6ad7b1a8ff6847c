//! Sorts rows in bounded memory. Rows that do not fit are written to unnamed temporary files as
//! sorted runs, which are merged at the end.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;

use serde::Deserialize;

use super::row::{StoredKind, StoredRow};
use crate::pipeline::WindowStart;

/// The number of runs of a level that are merged into one run. More runs would need too many open
/// files.
const MOST_RUNS: usize = 64;

/// The size of a block of packed rows in bytes. A row that is larger gets a block of its own.
const BLOCK: usize = 1 << 20;

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
    pub fn add(&mut self, row: &StoredRow) -> io::Result<()> {
        self.rows.add(row)?;
        if self.rows.memory() > self.limit {
            let rows = std::mem::take(&mut self.rows);
            let run = self.write_run(rows.sorted())?;
            self.add_run(run)?;
        }
        Ok(())
    }

    fn write_run(&self, rows: impl Iterator<Item = io::Result<StoredRow>>) -> io::Result<File> {
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.folder)?);
        for row in rows {
            let bytes = postcard::to_stdvec(&row?).map_err(io::Error::other)?;
            out.write_all(&(bytes.len() as u64).to_le_bytes())?;
            out.write_all(&bytes)?;
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
            let merged = MergedRuns::new(runs.into_iter().map(SortedRun::of_file))?;
            run = self.write_run(merged)?;
        }
        Ok(())
    }

    /// Returns all rows in order, in groups of the same bucket, kind, key and window. A group of
    /// evidence that exceeds the memory of the sorter is returned in parts (see [`GroupPart`]).
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be read.
    pub fn finish(self) -> io::Result<SortedGroups> {
        let last = SortedRun { rows: Box::new(self.rows.sorted()) };
        let runs = self.levels.into_iter().flatten().map(SortedRun::of_file);
        let rows = MergedRuns::new(runs.chain([last]))?;
        Ok(SortedGroups { rows, next: None, limit: self.limit })
    }
}

/// The part of a row that nearly always determines its place: the bucket, the kind and the start of
/// the key. It is followed by the place of the packed row. These values are much smaller than rows
/// and adjacent in memory, so they are compared and moved faster.
type SortKey = (u16, StoredKind, u128, PackedPlace);

/// The place of a packed row: the number of its block, and its first byte in the block.
type PackedPlace = (u32, u32);

/// Serialized rows. They take much less memory than other rows, and no allocations of their own.
#[derive(Default)]
struct PackedRows {
    blocks: Vec<Vec<u8>>,
    /// The number of bytes of the last block that are used.
    used: usize,
    /// The number of bytes of all rows.
    bytes: usize,
    order: Vec<SortKey>,
}

impl PackedRows {
    fn add(&mut self, row: &StoredRow) -> io::Result<()> {
        // A packed row is smaller than a row in memory, so it fits in this number of bytes.
        let most = row.memory();
        if self.blocks.last().is_none_or(|block| block.len() - self.used < most) {
            self.blocks.push(vec![0; BLOCK.max(most)]);
            self.used = 0;
        }
        let number = self.blocks.len() - 1;
        let packed = postcard::to_slice(row, &mut self.blocks[number][self.used..]);
        let bytes = packed.map_err(io::Error::other)?.len();
        let mut start = [0; 16];
        let length = row.key.len().min(start.len());
        start[..length].copy_from_slice(&row.key[..length]);
        let place = (number as u32, self.used as u32);
        self.order.push((row.bucket, row.kind, u128::from_be_bytes(start), place));
        self.used += bytes;
        self.bytes += bytes;
        Ok(())
    }

    /// Returns the approximate memory that the rows take, in bytes. This includes the memory that
    /// sorting needs.
    fn memory(&self) -> usize {
        self.bytes + 2 * self.order.len() * size_of::<SortKey>()
    }

    fn packed(&self, (block, start): PackedPlace) -> &[u8] {
        &self.blocks[block as usize][start as usize..]
    }

    fn sorted(mut self) -> impl Iterator<Item = io::Result<StoredRow>> {
        let mut order = std::mem::take(&mut self.order);
        // The rows from a file are already sorted, and a stable sort is fast for sorted parts.
        order.sort_by(|a, b| {
            let start = (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2));
            start.then_with(|| RowHead::of(self.packed(a.3)).cmp(&RowHead::of(self.packed(b.3))))
        });
        order.into_iter().map(move |(.., place)| {
            let row = postcard::take_from_bytes(self.packed(place)).map_err(io::Error::other)?;
            Ok(row.0)
        })
    }
}

/// The start of a packed row, which determines its place: the first fields of [`StoredRow`], in the
/// same order.
#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct RowHead<'a> {
    bucket: u16,
    kind: StoredKind,
    key: &'a [u8],
    window: WindowStart,
    input: &'a str,
}

impl<'a> RowHead<'a> {
    /// Returns the head of a packed row; `None` never occurs, because the program packed the row.
    fn of(packed: &'a [u8]) -> Option<Self> {
        postcard::take_from_bytes(packed).ok().map(|(head, _)| head)
    }
}

/// Compares rows. Rows with the same bucket, kind, key and window are ordered by input, so that the
/// order is always the same.
fn compare(a: &StoredRow, b: &StoredRow) -> Ordering {
    a.order().cmp(&b.order()).then_with(|| a.input.cmp(&b.input))
}

/// Rows in order.
struct SortedRun {
    rows: Box<dyn Iterator<Item = io::Result<StoredRow>>>,
}

impl SortedRun {
    fn of_file(file: File) -> Self {
        let mut file = BufReader::new(file);
        let mut bytes = Vec::new();
        let rows = std::iter::from_fn(move || {
            let mut length = [0; 8];
            match file.read_exact(&mut length) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
                Err(error) => return Some(Err(error)),
                Ok(()) => {}
            }
            bytes.resize(u64::from_le_bytes(length) as usize, 0);
            let read = file.read_exact(&mut bytes);
            Some(read.and_then(|()| postcard::from_bytes(&bytes).map_err(io::Error::other)))
        });
        Self { rows: Box::new(rows) }
    }
}

/// Runs that are merged into one.
struct MergedRuns {
    runs: Vec<SortedRun>,
    heads: BinaryHeap<FirstRow>,
}

/// The next row of a run. The order is reversed, because the heap returns the greatest item first.
struct FirstRow {
    row: StoredRow,
    run: usize,
}

impl Ord for FirstRow {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&other.row, &self.row).then(other.run.cmp(&self.run))
    }
}

impl PartialOrd for FirstRow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for FirstRow {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for FirstRow {}

impl MergedRuns {
    fn new(runs: impl Iterator<Item = SortedRun>) -> io::Result<Self> {
        let mut merged = Self { runs: runs.collect(), heads: BinaryHeap::new() };
        for (run, SortedRun { rows }) in merged.runs.iter_mut().enumerate() {
            let row = rows.next().transpose()?;
            merged.heads.extend(row.map(|row| FirstRow { row, run }));
        }
        Ok(merged)
    }
}

impl Iterator for MergedRuns {
    type Item = io::Result<StoredRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut first = self.heads.peek_mut()?;
        match self.runs[first.run].rows.next() {
            Some(Ok(row)) => Some(Ok(std::mem::replace(&mut first.row, row))),
            Some(Err(error)) => Some(Err(error)),
            None => Some(Ok(PeekMut::pop(first).row)),
        }
    }
}

/// Sorted rows in groups of the same bucket, kind, key and window.
pub(super) struct SortedGroups {
    rows: MergedRuns,
    /// The first row of the next part; `None` before the first part and after the last.
    next: Option<StoredRow>,
    /// The bytes of memory above which a group is divided into parts.
    limit: usize,
}

/// Rows of a group. All rows of inputs with the same content are in the same part, so a part may
/// exceed the limit.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct GroupPart {
    pub rows: Vec<StoredRow>,
    /// Whether no further part of the group follows.
    pub is_last: bool,
}

impl SortedGroups {
    fn read_part(&mut self) -> io::Result<GroupPart> {
        let mut rows = Vec::new();
        rows.extend(self.next.take());
        let mut memory: usize = rows.iter().map(StoredRow::memory).sum();
        for row in self.rows.by_ref() {
            let row = row?;
            if let Some(last) = rows.last() {
                let is_last = last.order() != row.order();
                let is_full = memory > self.limit
                    && row.evidence().is_some()
                    && last.content() != row.content();
                if is_last || is_full {
                    self.next = Some(row);
                    return Ok(GroupPart { rows, is_last });
                }
            }
            memory += row.memory();
            rows.push(row);
        }
        Ok(GroupPart { rows, is_last: true })
    }
}

impl Iterator for SortedGroups {
    type Item = io::Result<GroupPart>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read_part() {
            Ok(part) if part.rows.is_empty() => None,
            part => Some(part),
        }
    }
}

#[cfg(test)]
mod tests {
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
            (0..3000).for_each(|number| sorter.add(&row(number * 7919 % 3000)).unwrap());
            let mut groups: Vec<Vec<StoredRow>> = Vec::new();
            let mut continues = false;
            for part in sorter.finish().unwrap().map(Result::unwrap) {
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
