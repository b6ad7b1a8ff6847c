//! Lists what an audit did not look at or could not assess. The page (on its cover and in its
//! overview) and the Markdown report show the same list.

use std::collections::{BTreeMap, BTreeSet};

use super::findings_summary::{self, NotAssessed};
use crate::classify::{Code, Coverage, Status, Verdict};
use crate::model::{SkipReason, escape_control};
use crate::result::{AuditResult, Head, Time, percent, plural, short};

/// The maximum number of names that an item lists.
const NAMES: usize = 6;

/// Something that the audit did not look at or could not assess.
pub(super) enum Limit {
    /// Frames that were lost, left out, truncated or not decoded, hosts that the capture does not
    /// show completely, or traffic that a capture cannot show or that is not compared with the
    /// matrix.
    Capture(String),
    /// Matrix rows and findings that could not be assessed for one reason.
    Reason(Code, NotAssessed),
    /// Matrix rows with a status that makes an assessment unnecessary.
    Rows {
        /// The status.
        status: Status,
        /// The number of rows.
        rows: u64,
        /// The meaning of the status.
        meaning: &'static str,
    },
}

impl Limit {
    /// Describes the limit in one line.
    pub fn words(&self) -> String {
        match self {
            Self::Capture(text) => text.clone(),
            Self::Reason(code, NotAssessed { meaning, rows, findings, .. }) => {
                let what = match (*rows, *findings) {
                    (rows, 0) => rows_of_matrix(rows),
                    (0, findings) => plural(findings, "finding"),
                    (rows, findings) => {
                        format!("{} and {}", rows_of_matrix(rows), plural(findings, "finding"))
                    }
                };
                format!("{what}: {meaning} ({})", code.name())
            }
            Self::Rows { status, rows, meaning } => {
                format!("{}: {meaning} ({})", rows_of_matrix(*rows), status.name())
            }
        }
    }
}

/// Returns a number of matrix rows as text, such as `3 rows of the matrix`.
pub(super) fn rows_of_matrix(rows: u64) -> String {
    format!("{} of the matrix", plural(rows, "row"))
}

/// Returns everything that the audit did not look at or could not assess.
pub(super) fn limits(result: &AuditResult<'_>) -> Vec<Limit> {
    let capture = selection(result).into_iter().chain(capture(result)).chain(partly_seen(result));
    let mut limits: Vec<Limit> = capture.map(Limit::Capture).collect();
    let reasons = findings_summary::not_assessed(result);
    limits.extend(reasons.into_iter().map(|(code, reason)| Limit::Reason(code, reason)));
    for (status, meaning) in [
        (Status::RoleAbsent, "the client role or the server role is not assigned in the inventory"),
        (Status::FeatureOff, "the inventory states that a required feature is off"),
        (Status::NotExpected, "the traffic was neither seen nor expected"),
    ] {
        let rows = result.head.summary.matrix_rows.get(status.name()).copied().unwrap_or(0);
        if rows > 0 {
            limits.push(Limit::Rows { status, rows, meaning });
        }
    }
    let background = Verdict::Background.name();
    let by_verdict = &result.head.summary.conversations.by_verdict;
    if let Some(count) = by_verdict.get(background).filter(|count| **count > 0) {
        let conversations = plural(*count, "conversation");
        limits.push(Limit::Capture(format!(
            "{conversations} of background traffic, which is not compared with the matrix ({background})"
        )));
    }
    let outside = "Traffic that did not cross a captured interface, such as traffic inside a host";
    limits.push(Limit::Capture(outside.to_owned()));
    limits
}

/// Describes the frames that a filter or a time range left out.
fn selection(result: &AuditResult<'_>) -> Vec<String> {
    let Head { window, accounting, filter, inputs, .. } = &result.head;
    let in_brackets = |reason: SkipReason| match accounting.skipped_for(reason) {
        0 => String::new(),
        frames => format!(" ({})", plural(frames, "frame")),
    };
    let mut items = Vec::new();
    if let Some(filter) = filter {
        let frames = in_brackets(SkipReason::Filtered);
        let filter = escape_control(filter);
        items.push(format!("Frames that do not match the filter {filter}{frames}"));
    }
    let filters: BTreeSet<&str> =
        inputs.iter().flat_map(|input| &input.capture_filters).map(String::as_str).collect();
    if !filters.is_empty() {
        let noun = plural(filters.len() as u64, "capture filter");
        let filters = first_names(filters.into_iter());
        items.push(format!("Frames left out by {noun}: {filters}"));
    }
    if window.since.is_some() || window.until.is_some() {
        let utc = |Time(time)| format!("{} UTC", short(time));
        let since = window.since.map(|time| format!("before {}", utc(time)));
        let until = window.until.map(|time| format!("at or after {}", utc(time)));
        let both: Vec<String> = since.into_iter().chain(until).collect();
        let frames = in_brackets(SkipReason::OutsideWindow);
        items.push(format!("Frames {}{frames}", both.join(" and frames ")));
    }
    items
}

/// Describes the frames that were not decoded, were truncated, or were lost.
fn capture(result: &AuditResult<'_>) -> Vec<String> {
    let Head { accounting, conditions, .. } = &result.head;
    let is_requested =
        |name: &str| SkipReason::REQUESTED.iter().any(|reason| reason.name() == name);
    let reasons = accounting.skipped.iter();
    let reasons: Vec<(&str, u64)> = reasons
        .map(|(reason, count)| (reason.as_str(), *count))
        .filter(|(reason, count)| *count > 0 && !is_requested(reason))
        .collect();
    let mut items = Vec::new();
    let skipped: u64 = reasons.iter().map(|(_, count)| count).sum();
    if skipped > 0 {
        let frames = plural(skipped, "frame");
        let reasons = first_names(reasons.iter().map(|(reason, _)| *reason));
        let verb = if skipped == 1 { "was" } else { "were" };
        items.push(format!("{frames} that {verb} not decoded ({reasons})"));
    }
    if accounting.truncated > 0 {
        let frames = plural(accounting.truncated, "frame");
        let noun = if accounting.truncated == 1 { "end" } else { "ends" };
        items.push(format!("The {noun} of {frames} that the snaplen truncated"));
    }
    if conditions.loss > 0.0 {
        items
            .push(format!("The {} of the traffic that the capture lost", percent(conditions.loss)));
    } else if accounting.loss.received == 0 && accounting.loss.dropped == 0 {
        let unmeasured =
            "Frames that may have been lost: the capture does not state whether any were";
        items.push(unmeasured.to_owned());
    }
    items
}

/// Lists the hosts that the capture does not show completely, by coverage.
fn partly_seen(result: &AuditResult<'_>) -> Vec<String> {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in result.hosts().filter(|host| host.coverage != Coverage::Full.name()) {
        hosts.entry(host.coverage.into_owned()).or_default().push(host.name.into_owned());
    }
    let words = hosts.into_iter().map(|(coverage, names)| {
        let count = plural(names.len() as u64, "host");
        let seen = match Coverage::parse(&coverage) {
            Some(Coverage::SentOnly) => "whose incoming packets were not seen".to_owned(),
            Some(Coverage::ReceivedOnly) => "whose replies were not seen".to_owned(),
            Some(Coverage::BroadcastOnly) => {
                "that sent only broadcasts or address claims in the capture".to_owned()
            }
            Some(Coverage::TargetOnly) => "that sent no packets in the capture".to_owned(),
            Some(Coverage::NotSeen) => "without any packets in the capture".to_owned(),
            _ => format!("with the coverage {}", escape_control(&coverage)),
        };
        format!("{count} {seen}: {}", first_names(names.iter().map(String::as_str)))
    });
    words.collect()
}

/// Joins the first [`NAMES`] names of a list, and adds the number of the remaining ones.
pub(super) fn first_names<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    let more = names.len().saturating_sub(NAMES);
    let shown: Vec<_> = names.take(NAMES).map(escape_control).collect();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
