//! Merges rows with the same key. The result is the same for any order and grouping of the rows.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::audit::EvidenceStore;
use super::columns::HeadContent;
use super::files::{
    Destination, RowFile, RowOrigin, RowWriter, check_destination, delete_leftovers, other_files,
    read_stream,
};
use super::group::{Doubles, GroupError, PartialGroup, merge_group, single};
use super::inputs::StoredInputs;
use super::ledger::Ledger;
use super::row::{StoredKind, StoredRow};
use super::sort::RowSorter;
use super::{StoreError, output};
use crate::flow::{DecidedEvidence, Decision, RowKind};
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

/// Merges rows. Returns the number of captures.
///
/// # Errors
///
/// Returns an error if the request is not valid, if rows cannot be read or written, if inputs do
/// not belong together or are there twice, if whole stores are merged and rows are missing, or if
/// the work is stopped.
pub fn merge(request: &MergeRequest, progress: &Progress) -> Result<usize, StoreError> {
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
    let mut inputs = StoredInputs::read(&files)?;
    let mut rows = RowSorter::new(std::env::temp_dir(), max_memory / 2);
    // For a store that is already complete, nothing is decided again.
    let decided = (*complete && inputs.completion().is_none())
        .then(|| decide(&stores, *max_memory, progress))
        .transpose()?;
    sort_files(&files, &inputs.labels(), &mut rows, progress)?;
    if is_stream {
        let taken = read_stream(io::stdin().lock(), |row| {
            inputs.add(&row, STANDARD_INPUT)?;
            rows.add(&row).map_err(cannot_be_sorted)
        });
        taken.map_err(|reason| StoreError::rows(STANDARD_INPUT, reason))?;
    }
    inputs.check()?;
    let mut writer = match to {
        Destination::Store(folder) => RowWriter::file(folder, &progress.unfinished)?,
        Destination::StandardOutput => RowWriter::stream(Box::new(io::stdout()))?,
    };
    let Ledgers { found, written } =
        write_groups(rows, &files, decided.as_ref(), &mut writer, progress)?;
    // A stream may be only a part of a store, so its rows cannot be compared.
    if !is_stream {
        inputs.compare(&found)?;
    }
    if decided.is_some() {
        writer.write_head(&HeadContent::Completion(inputs.complete(&written)))?;
    }
    let is_complete = decided.is_some() || inputs.completion().is_some();
    let name = inputs.merged_name(if is_complete { "complete" } else { "merged" });
    if let Destination::Store(folder) = to {
        refuse_other_files(folder, &name)?;
    }
    writer.finish(&name)?;
    Ok(inputs.iter().filter(|input| !input.record.passed_over).count())
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

/// Adds the rows of files to a sorter, and gives rows of evidence the identities in `labels`.
/// Leaves out rows that do not count because another input has the same content.
fn sort_files(
    files: &[RowFile],
    labels: &BTreeMap<String, Option<String>>,
    rows: &mut RowSorter,
    progress: &Progress,
) -> Result<(), StoreError> {
    for (number, file) in files.iter().enumerate() {
        let mut add = |mut row: StoredRow| {
            row.read.file = Some(number as u32);
            if let StoredKind::Evidence(_) = row.kind {
                match labels.get(&row.input) {
                    Some(Some(label)) => row.input.clone_from(label),
                    Some(None) => return Ok(()),
                    // The row comes from several inputs, or from an input that is missing.
                    None => {}
                }
            }
            rows.add(&row).map_err(cannot_be_sorted)
        };
        for group in file.groups(number) {
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
    format!("cannot be sorted: {error}")
}

/// Rows that were counted.
#[derive(Default)]
struct Ledgers {
    /// The rows that were read.
    found: Ledger,
    /// The rows that were written, if evidence was decided.
    written: Ledger,
}

/// Sorts, merges and writes rows. If `decided` is given, adds its rows, and applies it to all rows
/// of evidence.
fn write_groups(
    mut rows: RowSorter,
    files: &[RowFile],
    decided: Option<&DecidedEvidence>,
    writer: &mut RowWriter,
    progress: &Progress,
) -> Result<Ledgers, StoreError> {
    let temp = std::env::temp_dir();
    let temporary = output(&temp);
    for copies in decided.map(DecidedEvidence::rows).unwrap_or_default() {
        rows.add(&StoredRow::of_evidence(None, copies)).map_err(&temporary)?;
    }
    let wrong = |error| match error {
        GroupError::Group(reason) => StoreError::rows("the merged rows", reason),
        GroupError::Row(read, reason) => {
            let file = read.file.and_then(|number| files.get(number as usize));
            let name = file.map_or_else(|| STANDARD_INPUT.to_owned(), RowFile::name);
            StoreError::rows(name, format!("(row {}) {reason}", read.row))
        }
    };
    let mut ledgers = Ledgers::default();
    let mut partial = PartialGroup::default();
    for part in rows.finish().map_err(&temporary)? {
        stop_if_asked(progress)?;
        let part = part.map_err(&temporary)?;
        let Some(group) = partial.add(part).map_err(wrong)? else { continue };
        if group.iter().any(|row| row.evidence().is_none()) {
            let row = single(group).map_err(wrong)?;
            let content = HeadContent::of_row(&row);
            let content = content.map_err(|reason| wrong(GroupError::Row(row.read, reason)))?;
            content.iter().try_for_each(|content| writer.write_head(content))?;
            continue;
        }
        let (mut row, mut facts) = merge_group(group, Doubles::Refuse).map_err(wrong)?;
        let is_own = decided.is_some()
            && [RowKind::COPIES, RowKind::MIRROR_COPIES]
                .map(StoredKind::Evidence)
                .contains(&row.kind);
        if !is_own {
            ledgers.found.add(&row, facts.accounted);
        }
        let decision = decided.zip(row.evidence()).map(|(decided, row)| decided.apply(row));
        let decision = decision
            .transpose()
            .map_err(|error| StoreError::rows("a merged row", error.to_string()))?;
        match decision {
            Some(Decision::Drop) => continue,
            Some(Decision::Replace(record, own)) => (row.record, facts) = (record, *own),
            Some(Decision::Keep) | None => {}
        }
        if decided.is_some() {
            ledgers.written.add(&row, facts.accounted);
        }
        writer.write(&row, &facts)?;
    }
    Ok(ledgers)
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

/// Returns an error if a folder contains a file of rows other than the one that will be written.
fn refuse_other_files(folder: &Path, name: &str) -> Result<(), StoreError> {
    match other_files(folder, name).first() {
        Some(other) => Err(StoreError::rows(
            folder.display().to_string(),
            format!("contains other rows ({}); use an empty folder", other.display()),
        )),
        None => Ok(()),
    }
}
