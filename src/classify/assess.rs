//! The order in which failures, silences, contradictions and the status of every row are assessed.

use super::claims::GroupId;
use super::counted::RowReport;
use super::expected::Assessor;
use super::facts::Seen;
use super::finding::Book;
use super::judge::{Judge, Judged};

/// What [`assess`] gives beside findings.
pub(super) struct Assessed {
    pub rows: Vec<RowReport>,
    /// Counts, by host, the rows that the host should have opened and that could not be assessed.
    pub not_assessable: Vec<u64>,
    pub moves: Vec<String>,
}

/// Assesses failures, silences, rows and hosts, counting on `jobs` threads.
pub(super) fn assess(
    judge: &Judge<'_>,
    seen: Seen<'_>,
    judged: &[Judged],
    book: &mut Book,
    jobs: usize,
) -> Assessed {
    let (mut assessor, groups_of) = Assessor::new(judge, seen, judged, book, jobs);
    assessor.failures(&groups_of);
    for (number, rows) in judge.policy.matrix.groups.values().enumerate() {
        assessor.group(number as GroupId, rows);
    }
    assessor.contradictions();
    assessor.statuses();
    let Assessor { rows, not_assessable, moves, .. } = assessor;
    Assessed { rows, not_assessable, moves }
}
