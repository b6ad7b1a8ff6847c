//! Merges a group of rows with the same bucket, kind, key and window.

use std::collections::BTreeMap;

use super::columns::check_accounted;
use super::row::{ReadPlace, StoredKind, StoredRef, StoredRow};
use super::sort::GroupPart;
use crate::flow::{MergedRows, RowFacts, RowRef, RowTrust};

/// Whether a group may contain several rows of one input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doubles {
    /// Several rows of one input are merged, because the input is being collected.
    Merge,
    /// Several rows of one input are an error, because something doubled them.
    Refuse,
}

/// Why rows cannot be merged.
#[derive(Debug)]
pub(super) enum GroupError {
    /// The row that was read at this place is not valid.
    Row(ReadPlace, String),
    /// A row that must not be there twice was read at both places.
    Twice(DoubledRow),
    /// The rows do not form a valid group.
    Group(String),
}

/// A row that is there twice.
#[derive(Debug)]
pub(super) struct DoubledRow {
    /// Describes the row.
    what: String,
    /// The identity of the input that the row comes from; empty for a complete store.
    pub input: String,
    /// Where the rows were read.
    pub reads: [ReadPlace; 2],
}

impl DoubledRow {
    /// Describes the row, which comes from `input`.
    pub fn words(&self, input: &str) -> String {
        let of = if input.is_empty() { String::new() } else { format!(" of {input}") };
        format!("{}{of} twice; collect the captures again, or read the rows only once", self.what)
    }
}

/// Checks the only row of a group of evidence. Returns facts from it, and its record in the present
/// form unless it has that form.
///
/// # Errors
///
/// Returns an error if the row is not valid or is not evidence.
pub(super) fn check_single(
    row: &StoredRef<'_>,
    doubles: Doubles,
) -> Result<MergedRows, GroupError> {
    let evidence = row.evidence().ok_or_else(not_evidence)?;
    merge_evidence(&[evidence], |_| row.read, doubles)
}

/// Merges rows of evidence with the same bucket, kind, key and window. Returns the merged row and
/// facts from it. With [`Doubles::Refuse`], the rows of inputs with the same content are equal, so
/// only one of them counts.
///
/// # Errors
///
/// Returns an error if the group is empty, or contains a row that is not valid or is not evidence.
/// With [`Doubles::Refuse`], two rows of one input are an error, too.
pub(super) fn merge_group(
    group: Vec<StoredRow>,
    doubles: Doubles,
) -> Result<(StoredRow, RowFacts), GroupError> {
    let mut rows =
        if doubles == Doubles::Merge || group.len() == 1 { group } else { without_copies(group)? };
    let evidence = rows.iter().map(|row| row.as_ref().evidence());
    let evidence: Option<Vec<RowRef<'_>>> = evidence.collect();
    let evidence = evidence.ok_or_else(not_evidence)?;
    let merged = merge_evidence(&evidence, |number| rows[number].read, doubles)?;
    let is_same = rows.iter().all(|row| row.input == rows[0].input);
    let parts = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.parts));
    let mut row = rows.swap_remove(0);
    row.parts = parts;
    if !is_same {
        row.input.clear();
    }
    if let Some(record) = merged.record {
        row.record = record;
    }
    Ok((row, merged.facts))
}

/// Merges rows of evidence. `read` returns where a row was read.
fn merge_evidence(
    rows: &[RowRef<'_>],
    read: impl Fn(usize) -> ReadPlace,
    doubles: Doubles,
) -> Result<MergedRows, GroupError> {
    let mut wrong = None;
    let trust = match doubles {
        Doubles::Merge => RowTrust::Own,
        Doubles::Refuse => RowTrust::File,
    };
    let merged = RowRef::merged(rows, trust, |number, accounted| {
        // Rows that are being collected have no columns yet.
        if doubles == Doubles::Refuse
            && let Err(reason) = check_accounted(read(number).accounted, accounted)
        {
            wrong = Some((number, reason));
        }
    });
    let merged = match merged {
        Err((number, error)) => Err((number, error.to_string())),
        Ok(merged) => wrong.map_or(Ok(merged), Err),
    };
    let merged = merged.map_err(|(number, reason)| GroupError::Row(read(number), reason))?;
    merged.ok_or_else(not_evidence)
}

fn not_evidence() -> GroupError {
    GroupError::Group(
        "contain a row that is not evidence among rows of evidence; collect the captures again"
            .to_owned(),
    )
}

/// The rows of a group that were read so far, merged into one.
#[derive(Default)]
pub(super) struct PartialGroup(Option<StoredRow>);

impl PartialGroup {
    /// Adds a part. If the part is the last one, returns its rows and the merged row of earlier
    /// parts. Otherwise, merges the rows, so that the group takes little memory, and returns
    /// `None`.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`merge_group`].
    pub fn add(&mut self, part: GroupPart) -> Result<Option<Vec<StoredRow>>, GroupError> {
        let mut rows = part.rows;
        rows.extend(self.0.take());
        if part.is_last {
            return Ok(Some(rows));
        }
        let (mut row, facts) = merge_group(rows, Doubles::Refuse)?;
        // Rows of other inputs follow, even if all rows so far come from one input.
        row.input.clear();
        row.read.accounted = i64::try_from(facts.accounted).unwrap_or(i64::MAX);
        self.0 = Some(row);
        Ok(None)
    }
}

/// Keeps one row of all inputs with the same content, and every row that was merged from several
/// inputs. Two rows of one input are an error.
fn without_copies(group: Vec<StoredRow>) -> Result<Vec<StoredRow>, GroupError> {
    let mut by_content: BTreeMap<String, StoredRow> = BTreeMap::new();
    let mut rows = Vec::new();
    for row in group {
        if row.input.is_empty() {
            rows.push(row);
            continue;
        }
        let content = row.as_ref().content().to_owned();
        match by_content.get_mut(&content) {
            Some(known) if known.input == row.input => return Err(twice(known, &row)),
            Some(known) if row.input < known.input => *known = row,
            Some(_) => {}
            None => drop(by_content.insert(content, row)),
        }
    }
    rows.extend(by_content.into_values());
    Ok(rows)
}

/// Returns the only row of a group of rows that are not evidence.
///
/// # Errors
///
/// Returns an error if the group contains several rows or none.
pub(super) fn single(mut group: Vec<StoredRow>) -> Result<StoredRow, GroupError> {
    match (group.pop(), group.last()) {
        (Some(row), None) => Ok(row),
        (Some(row), Some(other)) => Err(twice(other, &row)),
        (None, _) => {
            Err(GroupError::Group("are incomplete; collect the captures again".to_owned()))
        }
    }
}

/// Returns the error about a row that is there twice.
fn twice(first: &StoredRow, second: &StoredRow) -> GroupError {
    let StoredRow { kind, bucket, input, .. } = second;
    let what = match kind {
        StoredKind::Completion => "the statement of a complete store".to_owned(),
        kind => format!("a row of kind {} in bucket {bucket}", kind.name()),
    };
    let reads = [first.read, second.read];
    GroupError::Twice(DoubledRow { what, input: input.clone(), reads })
}
