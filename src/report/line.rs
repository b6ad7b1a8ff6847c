//! Findings in one line each, for whoever follows a live audit.

use serde::Serialize;

use super::json_text::Harmless;
use super::{Report, Time, rows};
use crate::classify::Finding;
use crate::model::clean;

/// The findings that are wanted, a line each: of text, or of JSON with the columns of `findings.csv`.
pub fn lines(report: &Report<'_>, json: bool, wanted: impl Fn(&Finding) -> bool) -> Vec<String> {
    let findings = report.outcome.findings.iter().zip(rows::findings(report));
    let wanted = findings.filter(|(finding, _)| wanted(finding));
    wanted.map(|(finding, row)| if json { json_line(&row) } else { line(finding) }).collect()
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
