//! Merges rows with the same key. The result is the same for any order and grouping of the rows.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::columns::ReadRow;
use super::files::{Destination, RowFile, RowOrigin, RowWriter, other_files, read_stream};
use super::group::{Doubles, merge_group};
use super::inputs::StoredInputs;
use super::ledger::Ledger;
use super::row::StoredKind;
use super::sort::RowSorter;
use super::{StoreError, output};
use crate::pipeline::{AuditError, Progress};

/// Merges the rows of `from` and writes them to `to`. At most about `max_memory` bytes of rows are
/// in memory. Returns the number of inputs.
///
/// # Errors
///
/// Returns an error if rows cannot be read or written, if rows are there twice, or if whole stores
/// are merged and rows are missing.
pub fn merge(
    from: &[RowOrigin],
    to: &Destination,
    max_memory: usize,
    progress: &Progress,
) -> Result<usize, StoreError> {
    let stores: Vec<PathBuf> = from.iter().filter_map(RowOrigin::store).collect();
    if let Destination::Store(folder) = to
        && let Some(same) = stores.iter().find(|store| is_same(store, folder))
    {
        let what = "is also read; write the merged rows to another folder";
        return Err(StoreError::rows(same.display().to_string(), what));
    }
    let temp = std::env::temp_dir();
    let temporary = output(&temp);
    let files = RowFile::open_all(&stores)?;
    // Finds inputs that are there twice before anything is written.
    let mut inputs = StoredInputs::read(&files)?;
    let labels = inputs.labels();
    let mut sorter = RowSorter::new(temp.clone(), max_memory / 2);
    for (number, file) in files.iter().enumerate() {
        for group in file.groups(number) {
            let wrong = |reason| StoreError::rows(file.name(), reason);
            let mut reader = file.read(group).map_err(wrong)?;
            while reader.next(|_| true, |read| add(&mut sorter, read, &labels)).map_err(wrong)? {
                stop_if_asked(progress)?;
            }
        }
    }
    let is_stream = from.contains(&RowOrigin::StandardInput);
    if is_stream {
        let taken = read_stream(io::stdin().lock(), |read| {
            let checked = read.checked()?;
            if let Some(input) = checked.input {
                inputs.add(*input, "standard input")?;
            }
            sorter.add(checked.row).map_err(|error| format!("cannot be sorted: {error}"))
        });
        taken.map_err(|reason| StoreError::rows("standard input", reason))?;
    }
    inputs.check()?;
    let mut writer = match to {
        Destination::Store(folder) => RowWriter::file(folder)?,
        Destination::StandardOutput => RowWriter::stream(Box::new(io::stdout()))?,
    };
    let mut ledger = Ledger::default();
    for group in sorter.finish().map_err(&temporary)? {
        stop_if_asked(progress)?;
        let group = group.map_err(&temporary)?;
        let wrong = |reason| StoreError::rows("the merged rows", reason);
        let row = merge_group(group, Doubles::Refuse).map_err(wrong)?;
        if let Some(evidence) = row.evidence() {
            let facts = evidence.facts().map_err(|error| wrong(error.to_string()))?;
            ledger.add(&row, facts.accounted);
        }
        writer.write(&row)?;
    }
    // A stream may be a part of a store.
    if !is_stream {
        inputs.compare(&ledger)?;
    }
    let name = inputs.merged_name();
    if let Destination::Store(folder) = to {
        refuse_other_files(folder, &name)?;
    }
    writer.finish(&name)?;
    Ok(inputs.iter().count())
}

/// Adds a row to a sorter after checking that it is valid. The rows of inputs that do not count are
/// left out.
fn add(
    sorter: &mut RowSorter,
    read: ReadRow,
    labels: &BTreeMap<String, Option<String>>,
) -> Result<(), String> {
    let mut row = read.checked()?.row;
    if let StoredKind::Evidence(_) = row.kind {
        match labels.get(&row.input) {
            Some(Some(label)) => row.input.clone_from(label),
            Some(None) => return Ok(()),
            // The row comes from several inputs.
            None => {}
        }
    }
    sorter.add(row).map_err(|error| format!("cannot be sorted: {error}"))
}

fn stop_if_asked(progress: &Progress) -> Result<(), StoreError> {
    if progress.stop.load(Ordering::Relaxed) { Err(AuditError::Interrupted.into()) } else { Ok(()) }
}

/// Returns whether two paths are the same folder.
fn is_same(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b))
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
