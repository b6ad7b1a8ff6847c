//! Assesses failures, missing traffic, contradictions and the status of every row, in this order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::absence_claims::GroupId;
use super::expected::Assessor;
use super::facts::JudgedCapture;
use super::finding::FindingBook;
use super::judge::Judge;
use super::row_counts::RowReport;
use super::ruling::Judged;

/// The results of [`assess`] other than findings.
pub(super) struct Assessed {
    pub rows: Vec<RowReport>,
    /// For each host, the number of rows that have the host as a source and could not be assessed.
    /// A row counts once for each destination.
    pub not_assessable: Vec<u64>,
    pub moves: BTreeMap<IpAddr, String>,
    pub forgotten_claims: BTreeMap<IpAddr, String>,
}

/// Assesses failures, missing traffic, contradictions and the status of every row. Conversations
/// are counted on `jobs` threads.
pub(super) fn assess(
    judge: &Judge<'_>,
    seen: JudgedCapture<'_>,
    judged: &[Judged],
    book: &mut FindingBook,
    jobs: usize,
) -> Assessed {
    let (mut assessor, groups_of) = Assessor::new(judge, seen, judged, book, jobs);
    assessor.failures(&groups_of);
    for (number, rows) in judge.policy.matrix.groups.values().enumerate() {
        assessor.group(number as GroupId, rows);
    }
    assessor.contradictions();
    assessor.statuses();
    let Assessor { rows, not_assessable, moves, forgotten_claims, .. } = assessor;
    Assessed { rows, not_assessable, moves, forgotten_claims }
}
