//! Merges rows with the same key. The result is the same for any order and grouping of the rows.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::audit::EvidenceStore;
use super::columns::HeadContent;
use super::file_run::{FileRun, Labels, RunError, RunMemory, sorted_files};
use super::files::{
    Destination, RowFile, RowOrigin, RowWriter, check_destination, delete_leftovers,
    files_in_destination, row_file,
};
use super::group::{Doubles, GroupError, PartialGroup, check_single, merge_group, single};
use super::inputs::StoredInputs;
use super::ledger::Ledger;
use super::row::{ReadPlace, StoredKind, StoredRef, StoredRow};
use super::sort::{NextRows, RowSorter};
use super::stream::read_stream;
use super::{StoreError, output};
use crate::flow::{DecidedEvidence, Decision, RowError, RowFacts, RowKind};
use crate::pipeline::{AuditError, Progress, Request};

/// What is merged.
#[derive(Clone, Debug)]
pub struct MergeRequest {
    /// The rows to merge.
    pub from: Vec<RowOrigin>,
    /// Where the merged rows are written.
    pub to: Destination,
    /// Whether the rows become a complete store: server names and duplicates are decided, packets
    /// and segments that are no longer needed are dropped, and no further inputs can be added.
    pub complete: bool,
    /// The approximate number of bytes of rows that may be in memory.
    pub max_memory: usize,
}

/// The result of merging rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MergedStore {
    /// The number of captures.
    pub captures: usize,
    /// The number of connections whose segments are still in a store that became complete.
    pub with_segments: usize,
}

/// Merges rows.
///
/// # Errors
///
/// Returns an error if the request is not valid, if rows cannot be read or written, if inputs do
/// not belong together or are there twice, if whole stores are merged and rows or all inputs are
/// missing, or if the work is stopped.
pub fn merge(request: &MergeRequest, progress: &Progress) -> Result<MergedStore, StoreError> {
    let MergeRequest { from, to, complete, max_memory } = request;
    let stores: Vec<PathBuf> = from.iter().filter_map(RowOrigin::store).collect();
    if let Destination::Store(folder) = to {
        check_destination(folder)?;
        if let Some(store) = stores.iter().find(|store| is_inside(folder, store)) {
            let what = format!(
                "is also read, so the merged rows cannot be written to {}; write them to a folder outside it",
                folder.display()
            );
            return Err(StoreError::rows(store.display().to_string(), what));
        }
        delete_leftovers(folder);
    }
    let is_stream = from.contains(&RowOrigin::StandardInput);
    if is_stream && *complete {
        let what = "may be a part of a store; --complete needs whole stores";
        return Err(StoreError::rows("standard input", what));
    }
    let files = RowFile::open_all(&stores)?;
    // Finds inputs that are there twice before anything is written.
    let inputs = StoredInputs::read(&files)?;
    if !is_stream && inputs.iter().next().is_none() {
        return Err(StoreError::no_inputs(&stores));
    }
    // For a store that is already complete, nothing is decided again.
    let decided = (*complete && inputs.completion().is_none())
        .then(|| decide(&stores, *max_memory, progress))
        .transpose()?;
    let mut merging = Merging { request, files: &files, inputs, decided, progress };
    // Rows cannot be taken back from a stream, and standard input cannot be read twice.
    let may_repeat = !is_stream && matches!(to, Destination::Store(_));
    let none = vec![false; files.len()];
    let sorted = if may_repeat { sorted_files(&files, max_memory / 4) } else { none.clone() };
    let written = match merging.write(&sorted) {
        Err(Stopped::Unusable) => merging.write(&none),
        written => written,
    };
    match written {
        Ok(()) => Ok(MergedStore {
            captures: merging.inputs.iter().filter(|input| !input.record.passed_over).count(),
            with_segments: merging.decided.as_ref().map_or(0, DecidedEvidence::undecided_flows),
        }),
        Err(Stopped::Failed(error)) => Err(error),
        Err(Stopped::Unusable) => Err(StoreError::rows("the merged rows", "are not sorted")),
    }
}

/// Why rows were not merged.
enum Stopped {
    /// The work failed.
    Failed(StoreError),
    /// Not all files can be read in order, so all rows have to be sorted.
    Unusable,
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Rows that are being merged.
struct Merging<'m> {
    request: &'m MergeRequest,
    files: &'m [RowFile],
    inputs: StoredInputs,
    /// What is decided, if the store becomes complete.
    decided: Option<DecidedEvidence>,
    progress: &'m Progress,
}

impl Merging<'_> {
    /// Merges and writes all rows. `sorted` states for each file whether its rows are read in order
    /// or have to be sorted.
    fn write(&mut self, sorted: &[bool]) -> Result<(), Stopped> {
        let MergeRequest { from, to, max_memory, .. } = self.request;
        let mut rows = RowSorter::new(std::env::temp_dir(), max_memory / 2);
        let labels = self.inputs.labels();
        let files = self.files.iter().enumerate();
        let (sorted, others): (Vec<_>, Vec<_>) = files.partition(|(number, _)| sorted[*number]);
        sort_files(&others, &labels, &mut rows, self.progress)?;
        let is_stream = from.contains(&RowOrigin::StandardInput);
        if is_stream {
            let taken = read_stream(io::stdin().lock(), |row| {
                self.inputs.add(&row, STANDARD_INPUT)?;
                rows.add(&row).map_err(cannot_be_sorted)
            });
            taken.map_err(|reason| StoreError::rows(STANDARD_INPUT, reason))?;
        }
        self.inputs.check()?;
        let mut writer = match to {
            Destination::Store(folder) => RowWriter::file(folder, &self.progress.unfinished)?,
            Destination::StandardOutput => RowWriter::stream()?,
        };
        let memory = RunMemory::new(max_memory / 4);
        let runs = sorted.into_iter();
        let runs = runs.map(|file| FileRun::new(file, &labels, &memory, self.progress)).collect();
        let Ledgers { found, written } = self.write_groups(rows, runs, &mut writer)?;
        // A stream may be only a part of a store, so its rows cannot be compared.
        if !is_stream {
            self.inputs.compare(&found)?;
        }
        if self.decided.is_some() {
            writer.write_head(&HeadContent::Completion(self.inputs.complete(&written)))?;
        }
        let is_complete = self.decided.is_some() || self.inputs.completion().is_some();
        let name = self.inputs.merged_name(if is_complete { "complete" } else { "merged" });
        if let Destination::Store(folder) = to {
            refuse_other_files(folder, &name)?;
        }
        writer.finish(&name)?;
        Ok(())
    }

    /// Merges and writes sorted rows. If evidence was decided, adds its rows, and applies it to all
    /// rows of evidence.
    fn write_groups(
        &self,
        mut rows: RowSorter,
        runs: Vec<FileRun<'_>>,
        writer: &mut RowWriter,
    ) -> Result<Ledgers, Stopped> {
        let temp = std::env::temp_dir();
        let temporary = output(&temp);
        for copies in self.decided.as_ref().map(DecidedEvidence::rows).unwrap_or_default() {
            let copies = StoredRow::of_evidence(None, copies);
            rows.add(&copies.as_ref()).map_err(&temporary)?;
        }
        let failed = |error| match error {
            RunError::Temporary(error) => Stopped::Failed(temporary(error)),
            RunError::Unusable => Stopped::Unusable,
            RunError::Interrupted => Stopped::Failed(AuditError::Interrupted.into()),
        };
        let mut ledgers = Ledgers::default();
        let mut partial = PartialGroup::default();
        let mut rows = rows.finish(runs).map_err(failed)?;
        while let Some(next) = rows.next().map_err(failed)? {
            stop_if_asked(self.progress)?;
            let part = match next {
                NextRows::Single(row) => {
                    match self.read_head(&row)? {
                        Some(content) => writer.write_head(&content)?,
                        None => {
                            let checked = check_single(&row, Doubles::Refuse);
                            let checked = checked.map_err(|error| self.wrong(error))?;
                            let record = checked.record.as_deref().unwrap_or(row.record);
                            let row = StoredRef { record, ..row };
                            self.write_row(&row, checked.facts, &mut ledgers, writer)?;
                        }
                    }
                    continue;
                }
                NextRows::Part(part) => part,
            };
            let group = partial.add(part).map_err(|error| self.wrong(error))?;
            let Some(group) = group else { continue };
            if group.iter().any(|row| row.as_ref().evidence().is_none()) {
                let row = single(group).map_err(|error| self.wrong(error))?;
                let content = self.read_head(&row.as_ref())?;
                content.iter().try_for_each(|content| writer.write_head(content))?;
                continue;
            }
            let merged = merge_group(group, Doubles::Refuse);
            let (row, facts) = merged.map_err(|error| self.wrong(error))?;
            self.write_row(&row.as_ref(), facts, &mut ledgers, writer)?;
        }
        Ok(ledgers)
    }

    /// Writes a merged row of evidence, unless the decided evidence replaces it.
    fn write_row(
        &self,
        row: &StoredRef<'_>,
        mut facts: RowFacts,
        ledgers: &mut Ledgers,
        writer: &mut RowWriter,
    ) -> Result<(), StoreError> {
        let Some(decided) = &self.decided else {
            ledgers.found.add(row, facts.accounted);
            return writer.write(row, &facts);
        };
        let is_own =
            [RowKind::COPIES, RowKind::MIRROR_COPIES].map(StoredKind::Evidence).contains(&row.kind);
        if !is_own {
            ledgers.found.add(row, facts.accounted);
        }
        let mut row = *row;
        let replaced;
        let decision = row.evidence().map(|row| decided.apply(row)).transpose();
        let wrong = |error: RowError| StoreError::rows("a merged row", error.to_string());
        match decision.map_err(wrong)? {
            Some(Decision::Drop) => return Ok(()),
            Some(Decision::Replace(record, own)) => {
                replaced = record;
                (row.record, facts) = (&replaced, *own);
            }
            Some(Decision::Keep) | None => {}
        }
        ledgers.written.add(&row, facts.accounted);
        writer.write(&row, &facts)
    }

    /// Reads a row that is not evidence; returns `None` if the row is evidence.
    fn read_head(&self, row: &StoredRef<'_>) -> Result<Option<HeadContent>, StoreError> {
        HeadContent::of_row(row).map_err(|reason| self.wrong(GroupError::Row(row.read, reason)))
    }

    fn wrong(&self, error: GroupError) -> StoreError {
        match error {
            GroupError::Group(reason) => StoreError::rows("the merged rows", reason),
            GroupError::Row(read, reason) => {
                StoreError::rows(self.file_name(read), format!("(row {}) {reason}", read.row))
            }
            GroupError::Twice(doubled) => {
                let [first, second] = doubled.reads;
                let input = self.inputs.iter().find(|input| input.id() == doubled.input);
                let input = input.map_or(&*doubled.input, |input| &input.record.name);
                let place = format!(
                    "(row {}) and {} (row {})",
                    first.row,
                    self.file_name(second),
                    second.row
                );
                StoreError::rows(
                    self.file_name(first),
                    format!("{place} contain {}", doubled.words(input)),
                )
            }
        }
    }

    /// Returns the name of the file from which a row was read.
    fn file_name(&self, read: ReadPlace) -> String {
        let file = read.file.and_then(|number| self.files.get(number as usize));
        file.map_or_else(|| STANDARD_INPUT.to_owned(), RowFile::name)
    }
}

/// The name of standard input in messages.
const STANDARD_INPUT: &str = "standard input";

/// Decides which server names the segments in stores contain, and which packets are duplicates.
fn decide(
    stores: &[PathBuf],
    max_memory: usize,
    progress: &Progress,
) -> Result<DecidedEvidence, StoreError> {
    let store = EvidenceStore::open(stores)?;
    let plan = store.plan(Request { max_memory, ..Request::default() }).map_err(|wrong| {
        let name = stores.first().map(|store| store.display().to_string()).unwrap_or_default();
        StoreError::Rows(wrong.iter().map(|error| (name.clone(), error.to_string())).collect())
    })?;
    Ok(plan.decide(progress)?)
}

/// Adds the rows of files, each with its index, to a sorter, and gives rows of evidence the
/// identities in `labels`. Leaves out rows that do not count because another input has the same
/// content.
fn sort_files(
    files: &[(usize, &RowFile)],
    labels: &Labels,
    rows: &mut RowSorter,
    progress: &Progress,
) -> Result<(), StoreError> {
    for (number, file) in files {
        let mut add = |row: StoredRef<'_>| {
            let mut row = row;
            row.read.file = Some(*number as u32);
            if let StoredKind::Evidence(_) = row.kind {
                match labels.get(row.input) {
                    Some(Some(label)) => row.input = label,
                    Some(None) => return Ok(()),
                    // The row comes from several inputs, or from an input that is missing.
                    None => {}
                }
            }
            rows.add(&row).map_err(cannot_be_sorted)
        };
        for group in file.groups(*number) {
            let wrong = |reason| StoreError::rows(file.name(), reason);
            let mut reader = file.read(group).map_err(wrong)?;
            while reader.next(|_| true, &mut add).map_err(wrong)? {
                stop_if_asked(progress)?;
            }
        }
    }
    Ok(())
}

fn cannot_be_sorted(error: io::Error) -> String {
    let temp = std::env::temp_dir();
    format!("cannot be sorted: temporary files in {} cannot be written: {error}", temp.display())
}

/// Rows that were counted.
#[derive(Default)]
struct Ledgers {
    /// The rows that were read.
    found: Ledger,
    /// The rows that were written, if evidence was decided.
    written: Ledger,
}

fn stop_if_asked(progress: &Progress) -> Result<(), StoreError> {
    if progress.stop.load(Ordering::Relaxed) { Err(AuditError::Interrupted.into()) } else { Ok(()) }
}

/// Returns whether a path is `folder` itself or is inside it. The path need not exist.
fn is_inside(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let Ok(path) = std::path::absolute(path) else { return false };
    let existing = path.ancestors().find_map(|parent| parent.canonicalize().ok());
    existing.is_some_and(|existing| existing.starts_with(&folder))
}

/// Returns an error if a folder contains a file of rows other than the one that will be written, or
/// if its files cannot be listed.
fn refuse_other_files(folder: &Path, name: &str) -> Result<(), StoreError> {
    let own = row_file(folder, name);
    match files_in_destination(folder)?.iter().find(|path| **path != own) {
        Some(other) => Err(StoreError::rows(
            folder.display().to_string(),
            format!("contains other rows ({}); use an empty folder", other.display()),
        )),
        None => Ok(()),
    }
}
