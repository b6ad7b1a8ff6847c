//! A stored row: evidence, an input, or the statement that a store is complete. It also contains
//! what is needed to account for the row.

use serde::{Deserialize, Serialize, Serializer};

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
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct StoredRow {
    /// The bucket, a number up to [`INPUT_BUCKET`].
    pub bucket: u16,
    /// The kind.
    pub kind: StoredKind,
    /// The key. Rows of evidence with the same kind, key and window can be merged.
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
    pub record: Vec<u8>,
    /// Where the row was read, and what its column `accounted` states.
    pub read: ReadPlace,
}

/// The part of a row that nearly always determines its place: the bucket, the kind and the start of
/// the key. These values are much smaller than rows and adjacent in memory, so they are compared
/// and moved faster.
pub(super) type RowStart = (u16, StoredKind, u128);

/// A stored row that another value owns. Most rows are never copied on their way from one file to
/// another. While rows are being sorted, they have the serialized form of this type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct StoredRef<'a> {
    /// See [`StoredRow::bucket`].
    pub bucket: u16,
    /// See [`StoredRow::kind`].
    pub kind: StoredKind,
    /// See [`StoredRow::key`].
    #[serde(serialize_with = "as_bytes")]
    pub key: &'a [u8],
    /// See [`StoredRow::window`].
    pub window: WindowStart,
    /// See [`StoredRow::input`].
    pub input: &'a str,
    /// See [`StoredRow::parts`].
    pub parts: u64,
    /// See [`StoredRow::record`].
    #[serde(serialize_with = "as_bytes")]
    pub record: &'a [u8],
    /// See [`StoredRow::read`].
    pub read: ReadPlace,
}

/// Serializes bytes as a whole. Without it, each byte is serialized separately.
fn as_bytes<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
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
    /// Returns the same row without copying it.
    pub fn as_ref(&self) -> StoredRef<'_> {
        let Self { bucket, kind, key, window, input, parts, record, read } = self;
        StoredRef {
            bucket: *bucket,
            kind: *kind,
            key,
            window: *window,
            input,
            parts: *parts,
            record,
            read: *read,
        }
    }

    /// Converts a row of evidence into a stored row that does not name its input yet.
    pub fn of_evidence(window: WindowStart, row: EvidenceRow) -> Self {
        let EvidenceRow { kind, bucket, key, record } = row;
        let kind = StoredKind::Evidence(kind);
        let (input, read) = (String::new(), ReadPlace::default());
        Self { bucket, kind, key, window, input, parts: 1, record, read }
    }
}

impl<'a> StoredRef<'a> {
    /// Returns a copy that owns its values.
    pub fn copied(&self) -> StoredRow {
        let Self { bucket, kind, key, window, input, parts, record, read } = *self;
        let (key, record) = (key.to_vec(), record.to_vec());
        StoredRow { bucket, kind, key, window, input: input.to_owned(), parts, record, read }
    }

    /// Returns the key by which stored rows are sorted.
    pub fn order(&self) -> (u16, StoredKind, &'a [u8], WindowStart) {
        (self.bucket, self.kind, self.key, self.window)
    }

    /// Returns the start of [`StoredRef::order`]. Shorter keys are filled with zeros.
    pub fn start(&self) -> RowStart {
        let start = self.key.first_chunk().copied().unwrap_or_else(|| {
            let mut start = [0; 16];
            start[..self.key.len()].copy_from_slice(self.key);
            start
        });
        (self.bucket, self.kind, u128::from_be_bytes(start))
    }

    /// Returns the part of the input's identity that depends only on the content of the input;
    /// empty if the row names no input.
    pub fn content(&self) -> &'a str {
        self.input.split_once('-').map_or(self.input, |(content, _)| content)
    }

    /// Returns the row of evidence; `None` if the row is not evidence.
    pub fn evidence(&self) -> Option<RowRef<'a>> {
        let StoredKind::Evidence(kind) = self.kind else { return None };
        let Self { bucket, key, record, .. } = *self;
        Some(RowRef { kind, bucket, key, record })
    }

    /// Returns the approximate memory that the row takes if it is copied, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<StoredRow>() + self.key.len() + self.input.len() + self.record.len() + 96
    }
}
