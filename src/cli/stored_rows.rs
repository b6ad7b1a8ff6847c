//! Finds files of stored rows where only captures can be read.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::pipeline::Plan;
use crate::store::find_stores;

/// Returns the files of stored rows among the sources of a plan, which are not captures.
///
/// # Errors
///
/// Returns a message that ends with `remedy` if the user named such a file, or if the plan has no
/// other files.
pub(super) fn rows_among(plan: &Plan, remedy: &str) -> Result<BTreeSet<PathBuf>, String> {
    let paths: Vec<PathBuf> =
        plan.sources.iter().filter_map(|source| source.path.clone()).collect();
    let rows: BTreeSet<PathBuf> = find_stores(&paths).0.into_iter().collect();
    let is_rows = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| rows.contains(path));
    let only_rows = plan.sources.iter().all(|source| is_rows(&source.path));
    let mut sources = plan.sources.iter();
    match sources.find(|source| is_rows(&source.path) && (only_rows || !source.found)) {
        Some(source) => {
            Err(format!("{}: this Parquet file contains rows, not frames; {remedy}", source.name))
        }
        None => Ok(rows),
    }
}
