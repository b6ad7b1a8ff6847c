//! The changes since an earlier audit.

use std::collections::{BTreeMap, BTreeSet};

use super::head::{Gone, Since};
use super::{AuditRun, Change, FindingChange, FindingRow};
use crate::classify::Severity;

/// Returns how the findings above info have changed since an earlier audit; `None` if there is no
/// earlier audit or if nothing was judged.
pub(super) fn changes(run: &AuditRun<'_>) -> Option<Since> {
    let (known, explainer) = run.known.zip(run.explainer.as_ref())?;
    let findings = explainer.outcome().findings().iter().filter(|f| f.severity > Severity::Info);
    let mut counts: BTreeMap<Change, u64> = BTreeMap::new();
    let mut now = BTreeSet::new();
    for finding in findings {
        now.insert(explainer.id(finding));
        let change = run.change(finding).map_or(Change::New, |(change, _)| change);
        *counts.entry(change).or_default() += 1;
    }
    let count = |change| counts.get(&change).copied().unwrap_or_default();
    let gone = match run.comparison {
        Some(comparison) => comparison.gone().map(Gone::of).collect(),
        None => known.gone(&now),
    };
    Some(Since {
        new: count(Change::New) + count(Change::Worse),
        worse: count(Change::Worse),
        still_there: count(Change::Same) + count(Change::Grown) + count(Change::Better),
        grown: count(Change::Grown),
        better: count(Change::Better),
        gone,
        baseline: Some(known.origin()),
    })
}

impl Gone {
    fn of(finding: &FindingChange) -> Self {
        Self {
            id: finding.id.clone(),
            message: finding.message.clone(),
            severity: finding.severity.clone(),
            verdict: finding.verdict.clone(),
            code: finding.code.clone(),
            certain: finding.certain,
            baseline_state: finding.change.name().to_owned(),
            baseline_reason: finding.reason.clone(),
        }
    }

    /// Returns the finding as a row of `findings.csv`.
    pub fn row(&self) -> FindingRow<'_> {
        FindingRow {
            id: self.id.clone(),
            severity: self.severity.as_str().into(),
            verdict: self.verdict.as_str().into(),
            code: self.code.as_str().into(),
            certain: self.certain,
            message: self.message.clone(),
            baseline_state: self.baseline_state.as_str().into(),
            baseline_reason: self.baseline_reason.clone(),
            ..FindingRow::default()
        }
    }
}
