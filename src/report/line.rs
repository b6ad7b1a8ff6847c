//! Findings in one line each, for whoever follows a live audit.

use serde::Serialize;

use super::json_text::Harmless;
use super::{Report, Time, rows};
use crate::classify::{Finding, Severity};
use crate::model::clean;

/// The findings that are wanted, a line each: of text, or of JSON with the columns of `findings.csv`.
pub fn lines(report: &Report<'_>, json: bool, wanted: impl Fn(&Finding) -> bool) -> Vec<String> {
    let findings = report.outcome.findings.iter().zip(rows::findings(report));
    let wanted = findings.filter(|(finding, _)| wanted(finding));
    wanted.map(|(finding, row)| if json { json_line(&row) } else { line(finding) }).collect()
}

/// The findings that are wanted, with their severity and the time of their last packet as RFC 5424 writes it.
pub fn messages(
    report: &Report<'_>,
    wanted: impl Fn(&Finding) -> bool,
) -> Vec<(Severity, String, String)> {
    let message = |f: &Finding| {
        // Six digits at most (RFC 5424, 6.2.3).
        let time = f.last_seen.map(|time| Time(time - time.rem_euclid(1000)).to_string());
        let time = time.map_or_else(|| "-".to_owned(), |time| time.replace("000Z", "Z"));
        let Finding { severity, verdict, code, id, message, .. } = f;
        let text = format!("{severity} {verdict}/{code} {id} {message}");
        (*severity, time, clean(&text).into_owned())
    };
    report.outcome.findings.iter().filter(|finding| wanted(finding)).map(message).collect()
}

fn line(finding: &Finding) -> String {
    let time = finding.last_seen.map_or_else(|| "-".to_owned(), |time| Time(time).to_string());
    let Finding { severity, verdict, code, id, message, .. } = finding;
    clean(&format!("{time} {severity} {verdict}/{code} {id} {message}")).into_owned()
}

fn json_line(row: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut out = serde_json::Serializer::with_formatter(&mut bytes, Harmless::one_line());
    // Writing into memory does not fail, and a row has no keys that are no strings.
    let _ = row.serialize(&mut out);
    String::from_utf8_lossy(&bytes).into_owned()
}
