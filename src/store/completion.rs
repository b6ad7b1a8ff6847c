//! The row of a complete store: the inputs for which server names and duplicates were decided, and
//! the rows that the store contains.

use serde::{Deserialize, Serialize};

use super::input::{sealed, unsealed};
use super::ledger::Manifest;
use super::row::{INPUT_BUCKET, StoredKind, StoredRef, StoredRow};

/// The first byte of the record: the version of its layout. Layout 1 is not sealed.
const VERSION: u8 = 2;

/// The key of the row.
const KEY: &[u8] = b"complete";

/// The record of a complete store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Completion {
    /// The identities of all inputs, in order.
    pub inputs: Vec<String>,
    /// The rows of evidence in the store, which may differ from those that were written for the
    /// inputs.
    pub manifest: Manifest,
}

impl Completion {
    /// Returns the record as a row.
    pub fn to_row(&self) -> StoredRow {
        StoredRow {
            bucket: INPUT_BUCKET,
            kind: StoredKind::Completion,
            key: KEY.to_vec(),
            window: None,
            input: String::new(),
            parts: 1,
            record: sealed(VERSION, &postcard::to_stdvec(self).unwrap_or_default()),
            read: Default::default(),
        }
    }

    /// Reads the row of a complete store.
    ///
    /// # Errors
    ///
    /// Returns an error if the row is not valid.
    pub fn of_row(row: &StoredRef<'_>) -> Result<Self, String> {
        let damaged =
            || "has a damaged record of a complete store; merge the stores again".to_owned();
        let (version, rest) = row.record.split_first().ok_or_else(damaged)?;
        if !(1..=VERSION).contains(version) {
            return Err(format!(
                "has a record of a complete store in layout {version}; this version reads layouts 1 to {VERSION}; use the version that wrote it"
            ));
        }
        let rest = if *version < 2 { Some(rest) } else { unsealed(rest) };
        let (completion, rest): (Self, _) =
            rest.and_then(|rest| postcard::take_from_bytes(rest).ok()).ok_or_else(damaged)?;
        let own = completion.to_row();
        let own = own.as_ref();
        let is_own = (row.order(), row.input, row.parts) == (own.order(), own.input, own.parts);
        if is_own && rest.is_empty() { Ok(completion) } else { Err(damaged()) }
    }
}
