//! Rows: the form in which evidence is stored outside of the program.

use std::fmt;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{Max, Min, Transport};

/// The number of buckets that rows are divided into. All rows of a conversation are in the same
/// bucket. Stored rows contain their bucket, so the number must not change.
pub const BUCKETS: u16 = 64;

/// The first byte of each record: the version of its layout. Flows have the compact form since
/// version 2; all other records have version 1.
pub(super) const VERSION: u8 = 1;

/// See [`VERSION`].
pub(super) const COMPACT_VERSION: u8 = 2;

/// The size in bytes that most records of side evidence do not exceed.
const USUAL_RECORD: usize = 160;

/// The size in bytes that no key of a flow exceeds.
const USUAL_KEY: usize = 50;

/// The kind of a row: flows, parts of messages that name a server, or a kind of side evidence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RowKind(pub(super) u8);

impl RowKind {
    /// Flows.
    pub const FLOWS: Self = Self(0);
    /// Segments that may be part of a message that names the server. They contain payload.
    pub const PIECES: Self = Self(1);

    /// Returns the kind of the side evidence with this index in the list of kinds.
    pub(super) const fn of_side_evidence(index: usize) -> Self {
        Self(2 + index as u8)
    }
}

/// A row of evidence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidenceRow {
    /// The kind of evidence.
    pub kind: RowKind,
    /// A number below [`BUCKETS`] that is the same for all rows of a conversation.
    pub bucket: u16,
    /// The key in a canonical form. Rows with the same kind and key can be merged.
    pub key: Vec<u8>,
    /// The exact evidence, in a versioned layout.
    pub record: Vec<u8>,
}

/// A row of evidence that another value owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RowRef<'a> {
    /// The kind of evidence.
    pub kind: RowKind,
    /// See [`EvidenceRow::bucket`].
    pub bucket: u16,
    /// See [`EvidenceRow::key`].
    pub key: &'a [u8],
    /// See [`EvidenceRow::record`].
    pub record: &'a [u8],
}

impl EvidenceRow {
    /// Returns the same row without copying it.
    pub fn as_ref(&self) -> RowRef<'_> {
        let Self { kind, bucket, key, record } = self;
        RowRef { kind: *kind, bucket: *bucket, key, record }
    }
}

/// Facts from a row for people and query engines. The audit uses only `accounted`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RowFacts {
    /// The addresses, side 0 first.
    pub addresses: Option<[IpAddr; 2]>,
    /// The ports, side 0 first; 0 if the evidence has none.
    pub ports: [u16; 2],
    /// The protocol above IP.
    pub transport: Option<Transport>,
    /// Packets of each side.
    pub packets: [u64; 2],
    /// Bytes on the wire of each side.
    pub bytes: [u64; 2],
    /// Transport payload of each side in bytes.
    pub payload: [u64; 2],
    /// The kinds of packets that each side sent. See [`crate::decode::flag`].
    pub flags: [u16; 2],
    /// Time of the earliest packet.
    pub first: Min,
    /// Time of the latest packet.
    pub last: Max,
    /// The side that opened the flow, if it sent a SYN and the other side did not.
    pub opener: Option<u8>,
    /// A server name that was requested, or a name that was looked up.
    pub name: Option<String>,
    /// The number of captured frames that this row accounts for. Every frame is accounted for by
    /// one row, or by the record of its input.
    pub accounted: u64,
}

/// Where rows come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowTrust {
    /// The program created the rows in this run.
    Own,
    /// The rows were read from a file, which may contain anything.
    File,
}

/// Why a row cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowError {
    /// Another version of the program wrote the record, in a layout with this number.
    Version(u8),
    /// The record is not valid, or is not in canonical form.
    Damaged,
    /// The key or the bucket does not match the record.
    Key,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(
                f,
                "has a record of layout {version}, and this version reads layouts up to {COMPACT_VERSION}; use the version that wrote it, or collect the captures again"
            ),
            Self::Damaged => f.write_str("has a damaged record; collect the captures again"),
            Self::Key => f.write_str(
                "has a key or bucket that does not match its record; collect the captures again",
            ),
        }
    }
}

impl std::error::Error for RowError {}

/// The hash of no bytes (FNV-1a).
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// The factor of the hash for each byte.
const PRIME: u64 = 0x0100_0000_01b3;

/// Returns a hash that is the same in every run and version (FNV-1a).
pub(super) fn stable_hash(bytes: &[u8]) -> u64 {
    continued_hash(OFFSET, bytes)
}

/// Returns the [`stable_hash`] of words in big-endian order. The zero bytes at the start of a word,
/// which most words have, take one multiplication together.
pub(super) fn stable_hash_of_words(words: &[u64]) -> u64 {
    const POWERS: [u64; 9] = {
        let mut powers = [1; 9];
        let mut number = 1;
        while number < powers.len() {
            powers[number] = PRIME.wrapping_mul(powers[number - 1]);
            number += 1;
        }
        powers
    };
    words.iter().fold(OFFSET, |hash, word| {
        let zeros = word.leading_zeros() as usize / 8;
        continued_hash(hash.wrapping_mul(POWERS[zeros]), &word.to_be_bytes()[zeros..])
    })
}

fn continued_hash(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// Returns the bucket for a stable hash.
pub(super) fn bucket(hash: u64) -> u16 {
    // The lowest bits of the hash depend only on the lowest bits of each byte, so higher bits
    // select the bucket.
    ((hash >> 32 ^ hash >> 16) % u64::from(BUCKETS)) as u16
}

/// Returns a value in the layout of rows. Serialization into memory fails only if a type cannot be
/// serialized at all, which the tests would show. If it fails, the record is empty, and is rejected
/// when it is read.
pub(super) fn to_record(value: &impl Serialize) -> Vec<u8> {
    let mut record = Vec::with_capacity(USUAL_RECORD);
    record.push(VERSION);
    postcard::to_extend(value, record).unwrap_or_default()
}

/// Returns a value in canonical bytes, for use as a key.
pub(super) fn to_key(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, Vec::with_capacity(USUAL_KEY)).unwrap_or_default()
}

/// Reads a value that [`to_record`] wrote.
pub(super) fn from_record<T: DeserializeOwned>(record: &[u8]) -> Result<T, RowError> {
    let (version, rest) = record.split_first().ok_or(RowError::Damaged)?;
    if *version != VERSION {
        return Err(RowError::Version(*version));
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        _ => Err(RowError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_the_hash_of_their_bytes() {
        let words = [0, 7, 0x0a00_0001, u64::MAX, 1 << 63, 0x0100, 0];
        assert_eq!(
            stable_hash_of_words(&words),
            stable_hash(words.map(u64::to_be_bytes).as_flattened())
        );
    }

    #[test]
    fn another_layout_is_an_error_with_a_remedy() {
        let mut record = to_record(&7_u8);
        record[0] = COMPACT_VERSION + 1;
        let error = from_record::<u8>(&record).unwrap_err().to_string();
        assert!(error.contains("use the version that wrote it, or collect the captures again"));
    }
}
