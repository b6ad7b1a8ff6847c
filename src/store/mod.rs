//! Stores evidence as rows in Parquet files and Arrow streams, so that captures can be collected
//! where they are and audited elsewhere.
//!
//! [`collect()`] turns each capture into rows, [`merge()`] merges rows with the same key, and
//! [`EvidenceStore`] returns the rows of a store to an audit. The rows are exact, and merging obeys
//! the merge law, so the result of an audit does not depend on how the captures were divided among
//! stores, or on the order in which these were merged.
//!
//! Every input has a row that states which rows of evidence were written for it. Before an audit
//! judges the evidence, the number and the keys of its rows, and the frames that they account for,
//! are compared with these statements, because a query engine that moved the rows may have lost or
//! doubled some.

mod audit;
mod checksums;
mod collect;
mod columns;
mod completion;
mod earlier;
mod file_run;
mod files;
mod group;
mod input;
mod inputs;
mod ledger;
mod merge;
mod row;
mod sensor;
mod sensor_inputs;
mod sensor_rows;
mod sort;
mod spool;
mod stream;
mod windows;

use std::io;
use std::path::{Path, PathBuf};

pub use audit::{EvidenceStore, StoreRequestError};
pub use collect::{CollectRequest, CollectedFile, collect};
pub use earlier::{EarlierDifference, EarlierFile};
pub use files::{Destination, RowOrigin, captures_in, find_stores, linked_folders_in};
pub use input::{CollectOptions, KeptPackets};
pub use merge::{MergeRequest, MergedStore, merge};
pub use spool::{LostWindows, PacketSpill, Spool, SpoolOptions, SpooledWindow, WindowEvidence};
pub use windows::{WindowError, WindowLength, WindowTime};

use crate::pipeline::AuditError;

/// Why rows cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Files, folders or inputs that cannot be used, each with its name and the reason.
    #[error("{}", .0.iter().map(|(name, reason)| format!("{name} {reason}")).collect::<Vec<_>>().join("; "))]
    Rows(Vec<(String, String)>),
    /// A file or folder cannot be written.
    #[error("{}: {error}", .0.display(), error = .1)]
    Output(PathBuf, #[source] io::Error),
    /// The captures cannot be read, or the work was stopped.
    #[error(transparent)]
    Read(#[from] AuditError),
}

impl StoreError {
    /// Returns a [`StoreError::Rows`] about one file, folder or input.
    fn rows(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Rows(vec![(name.into(), reason.into())])
    }

    /// Returns the error that stores contain no inputs.
    fn no_inputs(stores: &[PathBuf]) -> Self {
        let name = stores.first().map(|store| store.display().to_string()).unwrap_or_default();
        Self::rows(
            name,
            "contains no record of an input, probably because rasaudit collect did not finish; collect the captures again",
        )
    }
}

/// Returns a function that turns an I/O error on this path into a [`StoreError`].
fn output(path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Output(path.clone(), error)
}
