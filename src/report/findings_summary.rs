//! Selects what summaries show: the worst findings, the number of others that each one explains,
//! and what could not be assessed.

use std::collections::{BTreeMap, BTreeSet};

use crate::classify::{Code, Severity, Status, Verdict};
use crate::result::{AuditResult, Brief, CauseNumbers, FindingRow, meaning, plural};

/// A finding as summaries show it.
pub(super) struct SummaryFinding {
    /// The index of the finding in the result.
    pub number: usize,
    /// The number of other findings that this one explains. These are not listed separately.
    pub explains: usize,
    /// The number of servers that the client tried, if the finding stands for a scan; otherwise
    /// zero.
    targets: usize,
}

impl SummaryFinding {
    /// Returns the message of the finding, with the number of findings that are grouped under it.
    pub fn message(&self, result: &AuditResult<'_>, row: &FindingRow<'_>) -> String {
        let message = &row.message;
        match (self.explains, self.targets) {
            (0, _) => message.clone(),
            (explains, 0) => {
                let others = plural(explains as u64, "other finding");
                format!("{message} (this would explain {others})")
            }
            (explains, targets) => format!(
                "{} made the same attempt on {}, and all attempts failed ({} like this one): {message}",
                result.client(row).words_with_roles(),
                plural(targets as u64, "server"),
                plural(explains as u64, "more finding")
            ),
        }
    }
}

/// Returns the findings above severity info, worst first, without those that another finding above
/// severity info explains.
pub(super) fn shown_findings(result: &AuditResult<'_>) -> Vec<SummaryFinding> {
    // There may be very many findings, so only their severities are kept.
    let severities: Vec<Severity> = result.briefs().map(|brief| brief.severity).collect();
    let mut explains: BTreeMap<usize, (usize, BTreeSet<String>)> = BTreeMap::new();
    for (number, brief) in result.briefs().enumerate() {
        if let Some(cause) = brief.explained_by {
            let (count, servers) = explains.entry(cause).or_default();
            *count += 1;
            servers.insert(result.server_address(number));
        }
    }
    let is_shown = |severity: Severity| severity > Severity::Info;
    let is_explained =
        |brief: &Brief| brief.explained_by.is_some_and(|cause| is_shown(severities[cause]));
    let shown = result
        .briefs()
        .enumerate()
        .filter(|(_, brief)| is_shown(brief.severity) && !is_explained(brief));
    let findings = shown.map(|(number, brief)| {
        let (explains, servers) =
            explains.get(&number).map_or((0, None), |(count, servers)| (*count, Some(servers)));
        let is_scan = brief.code != Some(Code::RoleMismatch);
        let targets = servers.filter(|_| is_scan).map_or(0, |servers| {
            let own = servers.contains(&result.server_address(number));
            servers.len() + usize::from(!own)
        });
        SummaryFinding { number, explains, targets }
    });
    findings.collect()
}

/// Findings of one cause as the summary shows them: an example and the number of findings.
pub(super) struct SummaryCause {
    /// The first finding.
    pub example: SummaryFinding,
    /// The number of findings.
    pub count: usize,
    /// The number of other findings that the findings of this cause explain.
    pub explains: usize,
}

/// Groups the shown findings by cause, worst first. Findings of one cause have the same severity
/// and certainty.
pub(super) fn shown_causes(result: &AuditResult<'_>) -> Vec<SummaryCause> {
    let mut numbers = CauseNumbers::default();
    let mut causes: Vec<SummaryCause> = Vec::new();
    for finding in shown_findings(result) {
        let known = numbers.number(result, finding.number);
        match known.and_then(|place| causes.get_mut(place)) {
            Some(cause) => {
                cause.count += 1;
                cause.explains += finding.explains;
            }
            None => {
                let explains = finding.explains;
                causes.push(SummaryCause { example: finding, count: 1, explains });
            }
        }
    }
    causes
}

/// The matrix rows and findings that could not be assessed for one reason.
#[derive(Default)]
pub(super) struct NotAssessed {
    /// A description of the reason.
    pub meaning: &'static str,
    /// The number of matrix rows that could not be assessed.
    pub rows: u64,
    /// The number of findings with this reason. `first` is the message of the first one.
    pub findings: u64,
    pub first: Option<String>,
}

/// Returns what could not be assessed, grouped by reason.
pub(super) fn not_assessed(result: &AuditResult<'_>) -> BTreeMap<Code, NotAssessed> {
    let mut reasons: BTreeMap<Code, NotAssessed> = BTreeMap::new();
    for row in result.matrix_rows().filter(|row| row.status == Status::NotAssessable.name()) {
        if let Some(reason) = Code::parse(&row.reason) {
            reasons.entry(reason).or_default().rows += 1;
        }
    }
    for (number, brief) in result.briefs().enumerate() {
        let Some(code) = brief.code.filter(|_| brief.verdict == Some(Verdict::NotAssessable))
        else {
            continue;
        };
        let reason = reasons.entry(code).or_default();
        reason.findings += 1;
        if reason.first.is_none() {
            reason.first = result.finding(number).map(|row| row.message);
        }
    }
    for (code, reason) in &mut reasons {
        reason.meaning = meaning(*code);
    }
    reasons
}
