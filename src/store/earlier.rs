//! Finds the rows of a capture that the folder of a store already contains when the capture is
//! collected again.
//!
//! The name of a file of rows depends on the content and the name of the capture, and on the
//! options. If a capture has grown, or is collected with other options, its new rows therefore do
//! not replace the file with the earlier ones. The earlier file of a capture that has grown is
//! removed if it contains nothing else, and so is a file that only states that the capture could
//! not be read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::files::{RowFile, files_in_destination};
use super::input::{
    InputRow, hash_start, is_same_path, name_hash, other_spellings, unreadable_content,
};
use super::inputs::StoredInputs;
use crate::capture::InputContent;
use crate::model::hex;

/// A file with rows of a capture that was collected earlier, beside the file that was written now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EarlierFile {
    /// The file.
    pub path: PathBuf,
    /// How its rows differ from those that were written now.
    pub difference: EarlierDifference,
}

/// How earlier rows of a capture differ from those that were written now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EarlierDifference {
    /// The capture has grown since then. The earlier rows were removed.
    Removed,
    /// The capture could not be read at all then. The file only stated this, and was removed.
    Unread,
    /// The capture has grown since then. The earlier rows are still there, because the file
    /// contains other rows, too, or cannot be removed.
    Grown,
    /// The capture had another content.
    Content,
    /// The capture had another size and the same first frame, so an audit takes the smaller one for
    /// an earlier state of the other.
    Start,
    /// The capture was collected with other options. The words stand between "was collected" and
    /// "now".
    Options(String),
    /// There is no difference: the file also contains the same rows.
    Nothing,
}

/// The files that were in the folder of a store before captures were collected.
#[derive(Default, Debug)]
pub(super) struct EarlierFiles {
    /// The files with the rows of one capture, by the hash of its name.
    single: BTreeMap<String, Vec<PathBuf>>,
    /// The inputs of all other files, by name.
    others: BTreeMap<String, Vec<(PathBuf, InputRow)>>,
}

impl EarlierFiles {
    /// Lists the files in a folder.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder contains a complete store, to which nothing can be added, or
    /// if the folder or one of its subfolders cannot be read.
    pub fn find(folder: &Path) -> Result<Self, StoreError> {
        let mut files = Self::default();
        for path in files_in_destination(folder)? {
            if let Some(hash) = hash_in_name(&path) {
                files.single.entry(hash).or_default().push(path);
                continue;
            }
            // Files that cannot be read are skipped, because an audit reports them.
            let Some(inputs) = inputs_of(&path) else { continue };
            if inputs.completion().is_some() {
                return Err(StoreError::rows(
                    folder.display().to_string(),
                    format!(
                        "contains a complete store ({}), to which no capture can be added; collect into another folder",
                        path.display()
                    ),
                ));
            }
            for input in inputs.iter() {
                let same = files.others.entry(input.record.name.clone()).or_default();
                same.push((path.clone(), input.clone()));
            }
        }
        Ok(files)
    }

    /// Returns the files with rows of the same capture, other than the file `own`. `capture` is the
    /// path of the capture, if it is a file.
    pub fn of(&self, input: &InputRow, capture: Option<&Path>, own: &Path) -> Vec<EarlierFile> {
        let mut found = Vec::new();
        let names = [vec![input.record.name.clone()], other_spellings(&input.record.name)].concat();
        let single = names.iter().filter_map(|name| self.single.get(&name_hash(name)));
        for path in single.flatten().filter(|path| *path != own) {
            let inputs = inputs_of(path);
            let inputs: Vec<_> = inputs.iter().flat_map(StoredInputs::iter).collect();
            if let [earlier] = inputs[..] {
                found.extend(compare(path, earlier, input, capture, true));
            }
        }
        let others = names.iter().filter_map(|name| self.others.get(name)).flatten();
        found.extend(others.filter_map(|(path, e)| compare(path, e, input, capture, false)));
        found
    }
}

impl EarlierFile {
    /// Removes the file if its difference is [`EarlierDifference::Removed`] or
    /// [`EarlierDifference::Unread`]. If that fails, the difference becomes one for which the user
    /// has to delete the file.
    pub fn removed(mut self) -> Self {
        let left = match self.difference {
            EarlierDifference::Removed => EarlierDifference::Grown,
            EarlierDifference::Unread => EarlierDifference::Content,
            _ => return self,
        };
        if fs::remove_file(&self.path).is_err() {
            self.difference = left;
        }
        self
    }
}

/// Checks that the file `own`, which the rows of an input will replace, does not contain the rows
/// of the same capture from another sensor, or those of another capture. The name of the file does
/// not depend on the sensor, and contains only hashes of the content and of the name.
///
/// # Errors
///
/// Returns an error if the file contains such rows. A capture is from one place, so one of the two
/// sensors must be wrong.
pub fn check_replaced(input: &InputRow, own: &Path) -> Result<(), StoreError> {
    let earlier = inputs_of(own);
    let other = earlier.iter().flat_map(StoredInputs::iter).find(|earlier| {
        let is_other = earlier.point() != input.point() || earlier.record.name != input.record.name;
        earlier.id() == input.id() && is_other
    });
    let Some(other) = other else { return Ok(()) };
    if other.record.name != input.record.name {
        return Err(StoreError::rows(
            own.display().to_string(),
            format!(
                "contains rows of {}, and those of {} would replace them, because both captures have the same content and their names have the same hash; rename one of them",
                other.record.name, input.record.name
            ),
        ));
    }
    let words = |input: &InputRow| match input.point() {
        Some(point) => format!("for the sensor {point}"),
        None => "without a sensor".to_owned(),
    };
    Err(StoreError::rows(
        own.display().to_string(),
        format!(
            "contains rows of {} that were collected {}, and rows that are collected {} would replace them; delete the file first, or collect into another folder",
            input.record.name,
            words(other),
            words(input)
        ),
    ))
}

/// Returns how an earlier input differs from one that is collected now; `None` if it has another
/// path, comes from another sensor, or is standard input. If the path is the same, but was written
/// in another way, returns only that the capture has grown. `is_alone` states whether the file
/// contains no other rows.
fn compare(
    path: &Path,
    earlier: &InputRow,
    now: &InputRow,
    capture: Option<&Path>,
    is_alone: bool,
) -> Option<EarlierFile> {
    let [own, other] = [&now.record.name, &earlier.record.name];
    let is_same = is_same_path(own, other) && earlier.sensor == now.sensor;
    // Standard input has no name of its own, so it cannot be recognized as the same input.
    if !is_same || own == "-" {
        return None;
    }
    let has_grown = || capture.is_some_and(|capture| has_grown(earlier, capture));
    if own != other && !has_grown() {
        return None;
    }
    let difference = if is_alone && is_unread(earlier) && !is_unread(now) && !has_grown() {
        EarlierDifference::Unread
    } else if earlier.options != now.options {
        EarlierDifference::Options(earlier.options.difference(&now.options))
    } else if earlier.content == now.content {
        EarlierDifference::Nothing
    } else if !has_grown() {
        let start = |input: &InputRow| input.record.account.first.get();
        let starts_alike = start(earlier).is_some() && start(earlier) == start(now);
        if starts_alike && earlier.record.size != now.record.size {
            EarlierDifference::Start
        } else {
            EarlierDifference::Content
        }
    } else if is_alone {
        EarlierDifference::Removed
    } else {
        EarlierDifference::Grown
    };
    Some(EarlierFile { path: path.to_owned(), difference })
}

/// Returns whether not a single byte of an input could be read, so that the input states nothing
/// that could differ from another capture with the same name.
fn is_unread(input: &InputRow) -> bool {
    input.record.error.is_some() && input.content == unreadable_content(&input.record.name)
}

/// Returns whether a capture is longer than an input and begins with the content of the input. An
/// input whose size is not known has the size 0, but not the content of an empty file, so it never
/// counts as grown.
pub(super) fn has_grown(earlier: &InputRow, capture: &Path) -> bool {
    let size = earlier.record.size;
    let is_longer = fs::metadata(capture).is_ok_and(|data| data.is_file() && data.len() > size);
    // The bytes of the file are compared as they are, because the start of a compressed file may
    // not be decompressible.
    let is_start = |hash: InputContent| match &earlier.record.sha256 {
        Some(stored) => hex(&hash) == *stored,
        None => hash == earlier.content,
    };
    is_longer && hash_start(capture, size).is_ok_and(is_start)
}

/// Returns the inputs of a file; `None` if the file cannot be read.
fn inputs_of(path: &Path) -> Option<StoredInputs> {
    StoredInputs::read(&RowFile::open_all(&[path.to_owned()]).ok()?).ok()
}

/// Returns the hash of the name of a capture in the name of its file; `None` if the file does not
/// have the name of a file with one capture.
fn hash_in_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let mut parts = stem.rsplit('-');
    let [options, name, content] = [parts.next()?, parts.next()?, parts.next()?];
    let is_hash = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    (is_hash(options, 8) && is_hash(name, 8) && is_hash(content, 32)).then(|| name.to_owned())
}
