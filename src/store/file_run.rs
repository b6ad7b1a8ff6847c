//! Reads the rows of a sorted file of a store in order, so that they need not be sorted again. A
//! file may contain anything, so its order is checked while it is read.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::vec;

use super::columns::BatchRows;
use super::files::{GroupReader, RowFile, RowGroup};
use super::row::{RowStart, StoredKind, StoredRef};
use crate::pipeline::{Progress, WindowStart};

/// The maximum number of files that are read at the same time.
const MOST_FILES: usize = 64;

/// Why the next row of a run cannot be read.
#[derive(Debug)]
pub(super) enum RunError {
    /// A temporary file cannot be read or written.
    Temporary(io::Error),
    /// The rows of a file are not valid, are not in order, or take too much memory. All files have
    /// to be read one after the other, so that the message about an invalid file does not depend on
    /// how the rows are merged.
    Unusable,
    /// The work was stopped.
    Interrupted,
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        Self::Temporary(error)
    }
}

/// The identities that replace those of inputs in rows of evidence; `None` if the rows of the input
/// do not count.
pub(super) type Labels = BTreeMap<String, Option<String>>;

/// The memory for the rows that several files have in memory at the same time, in bytes.
#[derive(Debug)]
pub(super) struct RunMemory {
    limit: usize,
    used: Cell<usize>,
}

impl RunMemory {
    /// Creates an empty memory of this size.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: Cell::new(0) }
    }

    /// Replaces rows that take `old` bytes by rows that take `new` bytes.
    ///
    /// # Errors
    ///
    /// Returns an error if all rows take more memory than the limit.
    fn replace(&self, old: usize, new: usize) -> Result<(), RunError> {
        let used = self.used.get().saturating_sub(old).saturating_add(new);
        self.used.set(used);
        if used > self.limit { Err(RunError::Unusable) } else { Ok(()) }
    }
}

/// Returns for each file whether its rows can be read in order, as far as its metadata shows. At
/// most [`MOST_FILES`] files are chosen, and no more than can be read in `memory` bytes.
pub(super) fn sorted_files(files: &[RowFile], memory: usize) -> Vec<bool> {
    let mut left = memory;
    let mut chosen = 0;
    let is_chosen = |file: &RowFile| {
        let needs = file.read_memory();
        let is_chosen = chosen < MOST_FILES && needs <= left && file.may_be_sorted();
        if is_chosen {
            chosen += 1;
            left -= needs;
        }
        is_chosen
    };
    files.iter().map(is_chosen).collect()
}

/// The rows of a sorted file, with the identities of its inputs replaced. No two rows have the same
/// bucket, kind, key and window.
pub(super) struct FileRun<'f> {
    file: &'f RowFile,
    number: usize,
    labels: &'f Labels,
    memory: &'f RunMemory,
    progress: &'f Progress,
    groups: vec::IntoIter<RowGroup>,
    reader: Option<GroupReader>,
    batch: Option<BatchRows>,
    /// The index of the first row in `batch`.
    row: usize,
    /// The number of rows before `batch` in the file.
    before: u64,
    /// The identity of the input of the last row, and the one that replaces it.
    label: (String, Option<&'f str>),
    /// The start, the key and the window of the first row; `None` before the first and at the end.
    start: Option<RowStart>,
    key: Vec<u8>,
    window: WindowStart,
}

impl<'f> FileRun<'f> {
    /// Creates the run of the file with this index. The caller reads the first row.
    pub fn new(
        (number, file): (usize, &'f RowFile),
        labels: &'f Labels,
        memory: &'f RunMemory,
        progress: &'f Progress,
    ) -> Self {
        Self {
            file,
            number,
            labels,
            memory,
            progress,
            groups: file.groups(number).collect::<Vec<_>>().into_iter(),
            reader: None,
            batch: None,
            row: 0,
            before: 0,
            label: Default::default(),
            start: None,
            key: Vec::new(),
            window: None,
        }
    }

    /// Returns the first row; `None` at the end.
    pub fn first(&self) -> Option<StoredRef<'_>> {
        let mut row = self.batch.as_ref()?.get(self.row).ok()?;
        if let StoredKind::Evidence(_) = row.kind {
            row.input = self.label.1.unwrap_or(row.input);
        }
        row.read.file = Some(self.number as u32);
        row.read.row = self.before + self.row as u64 + 1;
        Some(row)
    }

    /// Returns the start of the first row; `None` at the end.
    pub fn start(&self) -> Option<RowStart> {
        self.start
    }

    /// Removes the first row and reads the next one. Skips rows that do not count.
    ///
    /// # Errors
    ///
    /// Returns an error if the next row cannot be read or is not valid, if it is not after the
    /// previous one, if the rows in memory take too much memory, or if the work was stopped.
    pub fn advance(&mut self) -> Result<(), RunError> {
        while self.next_row()? {
            if self.progress.stop.load(Ordering::Relaxed) {
                return Err(RunError::Interrupted);
            }
            if self.check_row()? {
                return Ok(());
            }
        }
        self.start = None;
        Ok(())
    }

    /// Goes to the next row. Returns false at the end.
    fn next_row(&mut self) -> Result<bool, RunError> {
        let unusable = |_| RunError::Unusable;
        if let Some(batch) = &self.batch
            && self.row + 1 < batch.len()
        {
            self.row += 1;
            return Ok(true);
        }
        loop {
            let old = self.batch.take();
            self.before += old.as_ref().map_or(0, |old| old.len() as u64);
            self.row = 0;
            self.batch = match &mut self.reader {
                Some(reader) => reader.next_batch().map_err(unusable)?,
                None => None,
            };
            let memory = |batch: &Option<BatchRows>| batch.as_ref().map_or(0, BatchRows::memory);
            self.memory.replace(memory(&old), memory(&self.batch))?;
            if self.batch.as_ref().is_some_and(|batch| batch.len() > 0) {
                return Ok(true);
            }
            if self.batch.is_none() {
                let Some(group) = self.groups.next() else { return Ok(false) };
                self.reader = Some(self.file.read(group).map_err(unusable)?);
            }
        }
    }

    /// Checks that the current row is valid and is after the previous one. Returns whether it
    /// counts.
    fn check_row(&mut self) -> Result<bool, RunError> {
        let Some(batch) = &self.batch else { return Ok(false) };
        let row = batch.get(self.row).map_err(|_| RunError::Unusable)?;
        let start = row.start();
        let is_after = self.start.is_none_or(|last| {
            last < start || last == start && (&*self.key, self.window) < (row.key, row.window)
        });
        if !is_after {
            return Err(RunError::Unusable);
        }
        self.start = Some(start);
        self.key.clear();
        self.key.extend_from_slice(row.key);
        self.window = row.window;
        let StoredKind::Evidence(_) = row.kind else { return Ok(true) };
        if self.label.0 != row.input {
            let label = match self.labels.get(row.input) {
                Some(None) => return Ok(false),
                Some(Some(label)) => Some(label.as_str()),
                // The row comes from several inputs, or from an input that is missing.
                None => None,
            };
            self.label = (row.input.to_owned(), label);
        }
        Ok(true)
    }
}
