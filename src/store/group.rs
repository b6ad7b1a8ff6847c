//! Merges a group of rows with the same bucket, kind, key and window.

use std::collections::BTreeMap;

use super::row::{StoredKind, StoredRow};
use crate::flow::EvidenceRow;

/// Whether a group may contain several rows of one input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doubles {
    /// They are merged, because the input is being collected.
    Merge,
    /// They are an error, because something doubled them.
    Refuse,
}

/// Merges rows with the same bucket, kind, key and window. The rows of inputs with the same content are
/// equal, so only those of one of them count.
///
/// # Errors
///
/// Returns an error if the group contains two rows of one input, or a row that is not valid.
pub(super) fn merge_group(group: Vec<StoredRow>, doubles: Doubles) -> Result<StoredRow, String> {
    let rows = if doubles == Doubles::Merge { group } else { without_copies(group)? };
    let Some(first) = rows.first() else { return Err("contain an empty group".to_owned()) };
    if rows.len() == 1 {
        return Ok(first.clone());
    }
    let is_same = rows.iter().all(|row| row.input == first.input);
    let input = if is_same { first.input.clone() } else { String::new() };
    let parts = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.parts));
    let evidence: Vec<EvidenceRow> = rows.iter().filter_map(StoredRow::evidence).collect();
    match EvidenceRow::merged(&evidence).map_err(|error| error.to_string())? {
        Some(EvidenceRow { record, .. }) => Ok(StoredRow { input, parts, record, ..first.clone() }),
        None => Err(twice(first)),
    }
}

/// Keeps one row for each content. Rows that come from several inputs are kept, too.
fn without_copies(group: Vec<StoredRow>) -> Result<Vec<StoredRow>, String> {
    let mut by_content: BTreeMap<String, StoredRow> = BTreeMap::new();
    let mut rows = Vec::new();
    for row in group {
        if row.input.is_empty() {
            rows.push(row);
            continue;
        }
        let content = match row.kind {
            StoredKind::Input => row.input.as_str(),
            StoredKind::Evidence(_) => content_part(&row.input),
        };
        match by_content.get_mut(content) {
            Some(known) if known.input == row.input => return Err(twice(&row)),
            Some(known) if row.input < known.input => *known = row,
            Some(_) => {}
            None => drop(by_content.insert(content.to_owned(), row)),
        }
    }
    rows.extend(by_content.into_values());
    Ok(rows)
}

fn twice(row: &StoredRow) -> String {
    let (kind, bucket, input) = (row.kind.name(), row.bucket, &row.input);
    format!("contain a row of kind {kind} in bucket {bucket} of input {input} twice")
}

/// Returns the part of an input's identity that depends on its content.
pub(super) fn content_part(input: &str) -> &str {
    input.split_once('-').map_or(input, |(content, _)| content)
}
