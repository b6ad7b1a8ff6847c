//! A stored row: evidence, an input, or the statement that a store is complete. It also contains
//! what is needed to account for the row.

use serde::{Deserialize, Serialize};

use crate::flow::{BUCKETS, EvidenceRow, RowKind, RowRef};
use crate::pipeline::WindowStart;

/// The bucket of the rows that are not evidence: those of inputs, and the statement that a store is
/// complete. In a file, these rows follow all rows of evidence.
pub(super) const INPUT_BUCKET: u16 = BUCKETS;

/// The kind of a stored row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) enum StoredKind {
    /// A kind of evidence.
    Evidence(RowKind),
    /// An input.
    Input,
    /// The statement that a store is complete.
    Completion,
}

impl StoredKind {
    const INPUT: &str = "input";
    const COMPLETION: &str = "complete";

    /// Returns the name of the kind in stored rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evidence(kind) => kind.name(),
            Self::Input => Self::INPUT,
            Self::Completion => Self::COMPLETION,
        }
    }

    /// Returns the kind with this name; `None` if this version does not know it.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            Self::INPUT => Some(Self::Input),
            Self::COMPLETION => Some(Self::Completion),
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
    #[serde(with = "as_bytes")]
    pub key: Vec<u8>,
    /// The start of the window that contains the evidence; `None` if the rows are not divided by
    /// windows, for frames without a timestamp, and for rows that are not evidence.
    pub window: WindowStart,
    /// The identity of the input that the row comes from. It is empty if the row does not come from
    /// exactly one input, or if the input is not known yet.
    pub input: String,
    /// The number of rows that were written when the inputs were read and that this row contains.
    pub parts: u64,
    /// The exact evidence, or the record of the input or of the complete store.
    #[serde(with = "as_bytes")]
    pub record: Vec<u8>,
    /// Where the row was read, and what its column `accounted` states.
    pub read: ReadPlace,
}

/// Serializes bytes as a whole. Without it, each byte is serialized separately.
mod as_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(from).map(<[u8]>::to_vec)
    }
}

/// Where a row was read.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct ReadPlace {
    /// The index of the file; `None` for standard input. Only a merge sets it.
    pub file: Option<u32>,
    /// The number of the row in the file or on standard input, from 1; 0 if the row was not read.
    pub row: u64,
    /// The number of frames that the row accounts for according to its column.
    pub accounted: i64,
}

impl StoredRow {
    /// Returns the key by which stored rows are sorted.
    pub fn order(&self) -> (u16, StoredKind, &[u8], WindowStart) {
        (self.bucket, self.kind, &self.key, self.window)
    }

    /// Returns the part of the input's identity that depends only on the content of the input;
    /// empty if the row names no input.
    pub fn content(&self) -> &str {
        self.input.split_once('-').map_or(&self.input, |(content, _)| content)
    }

    /// Returns the row of evidence; `None` if the row is not evidence.
    pub fn evidence(&self) -> Option<RowRef<'_>> {
        let StoredKind::Evidence(kind) = self.kind else { return None };
        let Self { bucket, key, record, .. } = self;
        Some(RowRef { kind, bucket: *bucket, key, record })
    }

    /// Converts a row of evidence into a stored row that does not name its input yet.
    pub fn of_evidence(window: WindowStart, row: EvidenceRow) -> Self {
        let EvidenceRow { kind, bucket, key, record } = row;
        let kind = StoredKind::Evidence(kind);
        let (input, read) = (String::new(), ReadPlace::default());
        Self { bucket, kind, key, window, input, parts: 1, record, read }
    }

    /// Returns the approximate memory that the row takes, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.input.len() + self.record.len() + 96
    }
}
