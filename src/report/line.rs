//! Findings in one line each, for whoever follows a live audit.

use serde::Serialize;

use super::json_text::Harmless;
use super::{Report, Time, rows};
use crate::classify::{Finding, Severity};
use crate::model::clean;
use crate::result::ToldFinding;

/// The findings that are wanted, a line each: of text, or of JSON with the columns of `findings.csv`.
pub fn lines(report: &Report<'_>, json: bool, wanted: impl Fn(&Finding) -> bool) -> Vec<String> {
    let wanted = report.findings().iter().filter(|finding| wanted(finding));
    let told = |finding: &Finding| match json {
        true => rows::finding(report, finding).map(|row| json_line(&row)),
        false => report.tell(finding).map(|told| line(&told)),
    };
    wanted.filter_map(told).collect()
}

/// A finding for a syslog daemon.
pub struct Message {
    /// How much it weighs.
    pub severity: Severity,
    /// The time of its last packet as RFC 5424, 6.2.3 writes it; `-` where it has none.
    pub time: String,
    /// Its fields by name, as they stand in `findings.csv`.
    pub fields: Vec<(&'static str, String)>,
    /// The text.
    pub text: String,
}

/// The findings that are wanted, for a syslog daemon.
pub fn messages(report: &Report<'_>, wanted: impl Fn(&Finding) -> bool) -> Vec<Message> {
    let message = |f: ToldFinding| {
        // Six digits at most (RFC 5424, 6.2.3).
        let time = f.last_seen.map(|time| Time(time - time.rem_euclid(1000)).to_string());
        let time = time.map_or_else(|| "-".to_owned(), |time| time.replace("000Z", "Z"));
        let ToldFinding { severity, verdict, code, id, message, .. } = &f;
        let text = format!("{severity} {verdict}/{code} {id} {message}");
        let text = clean(&text).into_owned();
        let certain = if f.certain { "yes" } else { "no" };
        let fields = [
            ("id", id.as_str()),
            ("severity", severity.name()),
            ("code", code.name()),
            ("certain", certain),
            ("client", &f.client.address),
            ("server", &f.server.address),
            ("port", &f.port),
        ];
        let fields = fields.map(|(name, value)| (name, clean(value).into_owned()));
        Message { severity: *severity, time, fields: fields.into(), text }
    };
    let wanted = report.findings().iter().filter(|finding| wanted(finding));
    wanted.filter_map(|finding| report.tell(finding)).map(message).collect()
}

fn line(finding: &ToldFinding) -> String {
    let time = finding.last_seen.map_or_else(|| "-".to_owned(), |time| Time(time).to_string());
    let ToldFinding { severity, verdict, code, id, message, .. } = finding;
    clean(&format!("{time} {severity} {verdict}/{code} {id} {message}")).into_owned()
}

fn json_line(row: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut out = serde_json::Serializer::with_formatter(&mut bytes, Harmless::one_line());
    // Writing into memory does not fail, and a row has no keys that are no strings.
    let _ = row.serialize(&mut out);
    String::from_utf8_lossy(&bytes).into_owned()
}
