//! A stored row: a row of evidence, or the row of an input, with what is needed to account for it.

use serde::{Deserialize, Serialize};

use crate::flow::{BUCKETS, EvidenceRow, RowKind};
use crate::pipeline::WindowStart;

/// The bucket of the rows of inputs, which follow all rows of evidence.
pub(super) const INPUT_BUCKET: u16 = BUCKETS;

/// The kind of a stored row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) enum StoredKind {
    /// A kind of evidence.
    Evidence(RowKind),
    /// An input.
    Input,
}

impl StoredKind {
    const INPUT: &str = "input";

    /// Returns the name of the kind in stored rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evidence(kind) => kind.name(),
            Self::Input => Self::INPUT,
        }
    }

    /// Returns the kind with this name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            Self::INPUT => Some(Self::Input),
            name => RowKind::parse(name).map(Self::Evidence),
        }
    }
}

/// A stored row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct StoredRow {
    /// The bucket, a number up to [`INPUT_BUCKET`].
    pub bucket: u16,
    /// The kind.
    pub kind: StoredKind,
    /// The key. Rows of evidence with the same kind, key and window can be merged.
    pub key: Vec<u8>,
    /// The start of the window that contains the evidence; `None` if the rows are not divided by
    /// windows, and for frames without a timestamp.
    pub window: WindowStart,
    /// The input that the row comes from; empty if it comes from several.
    pub input: String,
    /// The number of rows that were written when the inputs were read and that this row contains.
    pub parts: u64,
    /// The exact evidence, or the record of the input.
    pub record: Vec<u8>,
}

impl StoredRow {
    /// Returns the order in which rows are stored.
    pub fn order(&self) -> (u16, StoredKind, &[u8], WindowStart) {
        (self.bucket, self.kind, &self.key, self.window)
    }

    /// Returns the row of evidence; `None` if this is the row of an input.
    pub fn evidence(&self) -> Option<EvidenceRow> {
        let StoredKind::Evidence(kind) = self.kind else { return None };
        let Self { bucket, key, record, .. } = self;
        Some(EvidenceRow { kind, bucket: *bucket, key: key.clone(), record: record.clone() })
    }

    /// Returns the approximate memory that the row takes, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.input.len() + self.record.len() + 48
    }
}
