//! Accounts for rows of evidence. A manifest states the rows that were written for an input or a
//! complete store, and a ledger counts the rows that were read or written.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::row::{StoredKind, StoredRef};
use crate::flow::{BUCKETS, RowKind};
use crate::model::Nanos;
use crate::pipeline::WindowStart;

/// Tallies of rows of evidence, by kind and bucket.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Ledger {
    tallies: BTreeMap<(RowKind, u16), RowTally>,
    /// The number of captured frames that the rows account for.
    pub accounted: u64,
}

/// The number of rows, and a sum over the hashes of their kinds, keys and windows. Neither changes
/// when rows are merged.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct RowTally {
    rows: u64,
    checksum: u64,
}

/// The tallies of an input or a complete store, by the name of the kind and the bucket.
pub(super) type Manifest = Vec<(String, Vec<(u16, RowTally)>)>;

/// The maximum number of differences that an error lists.
const LISTED: usize = 8;

impl Ledger {
    /// Adds a row of evidence that accounts for `accounted` frames. Ignores other rows.
    pub fn add(&mut self, row: &StoredRef<'_>, accounted: u64) {
        let StoredKind::Evidence(kind) = row.kind else { return };
        let tally = self.tallies.entry((kind, row.bucket)).or_default();
        tally.rows = tally.rows.saturating_add(row.parts);
        let hash = key_hash(kind, row.key, row.window).wrapping_mul(row.parts);
        tally.checksum = tally.checksum.wrapping_add(hash);
        self.accounted = self.accounted.saturating_add(accounted);
    }

    /// Merges another ledger.
    pub fn merge(&mut self, other: &Self) {
        for (place, tally) in &other.tallies {
            self.tallies.entry(*place).or_default().merge(tally);
        }
        self.accounted = self.accounted.saturating_add(other.accounted);
    }

    /// Returns the tallies as a manifest.
    pub fn manifest(&self) -> Manifest {
        let mut manifest: Manifest = Vec::new();
        for ((kind, bucket), tally) in &self.tallies {
            match manifest.last_mut() {
                Some((name, list)) if name == kind.name() => list.push((*bucket, *tally)),
                _ => manifest.push((kind.name().to_owned(), vec![(*bucket, *tally)])),
            }
        }
        manifest
    }

    /// Adds the rows that a manifest states. Returns false if the manifest is not valid.
    pub fn add_manifest(&mut self, manifest: &Manifest) -> bool {
        manifest.iter().all(|(name, list)| {
            let Some(kind) = RowKind::parse(name) else { return false };
            list.iter().all(|(bucket, tally)| {
                self.tallies.entry((kind, *bucket)).or_default().merge(tally);
                *bucket < BUCKETS
            })
        })
    }

    /// Describes the differences from the expected rows: up to [`LISTED`] of them, and the number
    /// of the others.
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let places: BTreeSet<_> = self.tallies.keys().chain(expected.tallies.keys()).collect();
        let mut wrong = Vec::new();
        for place in places {
            let found = self.tallies.get(place).copied().unwrap_or_default();
            let wanted = expected.tallies.get(place).copied().unwrap_or_default();
            let (found_rows, wanted_rows) = (found.rows, wanted.rows);
            let difference = if found_rows > wanted_rows {
                format!("{} too many", found_rows - wanted_rows)
            } else if found_rows < wanted_rows {
                format!("{} missing", wanted_rows - found_rows)
            } else if found != wanted {
                "but with different content".to_owned()
            } else {
                continue;
            };
            wrong.push(format!(
                "kind {}, bucket {}: {found_rows} of {wanted_rows} rows, {difference}",
                place.0.name(),
                place.1
            ));
        }
        let more = wrong.len().saturating_sub(LISTED);
        if more > 0 {
            wrong.truncate(LISTED);
            let noun = if more == 1 { "difference" } else { "differences" };
            wrong.push(format!("{more} more {noun}"));
        }
        wrong
    }
}

impl RowTally {
    fn merge(&mut self, other: &Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

/// Returns a hash of a kind, a key and a window that is the same in every run and version (FNV-1a,
/// then the finalizer of SplitMix64).
fn key_hash(kind: RowKind, key: &[u8], window: WindowStart) -> u64 {
    let window = window.map(Nanos::to_le_bytes);
    let parts = [kind.name().as_bytes(), &[0], key, window.as_slice().as_flattened()];
    let mut hash = parts.into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, bytes| {
        bytes
            .iter()
            .fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    });
    hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::super::row::StoredRow;
    use super::*;

    fn row(key: u8, parts: u64) -> StoredRow {
        StoredRow {
            bucket: 3,
            kind: StoredKind::Evidence(RowKind::FLOWS),
            key: vec![key],
            window: None,
            input: String::new(),
            parts,
            record: Vec::new(),
            read: Default::default(),
        }
    }

    fn ledger(rows: &[(u8, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        rows.iter().for_each(|(key, parts)| ledger.add(&row(*key, *parts).as_ref(), *parts));
        ledger
    }

    #[test]
    fn merged_rows_count_as_their_parts_and_every_other_change_shows() {
        let written = ledger(&[(1, 1), (1, 1), (2, 1)]);
        let mut expected = Ledger::default();
        assert!(expected.add_manifest(&written.manifest()));
        let differences = |rows| ledger(rows).differences(&expected);
        assert_eq!(differences(&[(1, 2), (2, 1)]), Vec::<String>::new());
        assert_eq!(differences(&[(1, 2)]), ["kind flows, bucket 3: 2 of 3 rows, 1 missing"]);
        assert_eq!(
            differences(&[(1, 2), (2, 2)]),
            ["kind flows, bucket 3: 4 of 3 rows, 1 too many"]
        );
        // One row is missing and another one is there twice.
        assert_eq!(
            differences(&[(1, 1), (2, 2)]),
            ["kind flows, bucket 3: 3 of 3 rows, but with different content"]
        );
    }
}
