//! Formats findings as single lines and as syslog messages, for users and programs that follow a
//! live audit.

use serde::Serialize;

use super::json_text::EscapingFormatter;
use crate::classify::Severity;
use crate::model::escape_control;
use crate::result::{AuditResult, FindingRow, Time};

/// The format of a finding on one line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineFormat {
    /// Text for people.
    Text,
    /// A JSON object with the columns of `findings.csv` as keys.
    Json,
}

/// Returns one line per finding. `wanted` contains the indexes of the findings in the result.
pub fn lines(result: &AuditResult<'_>, format: LineFormat, wanted: &[usize]) -> Vec<String> {
    let rows = wanted.iter().filter_map(|number| result.finding(*number));
    rows.map(|row| match format {
        LineFormat::Text => text_line(&row),
        LineFormat::Json => json_line(&row),
    })
    .collect()
}

/// A finding for a syslog daemon.
pub struct Message {
    /// The severity of the finding.
    pub severity: Severity,
    /// The time of the last packet of the finding (RFC 5424, section 6.2.3); `-` if there is none.
    pub time: String,
    /// The names and values of the structured data. The values are those of `findings.csv`.
    pub fields: Vec<(&'static str, String)>,
    /// The finding as text on one line.
    pub text: String,
}

/// Returns one syslog message per finding. `wanted` contains the indexes of the findings in the
/// result.
pub fn messages(result: &AuditResult<'_>, wanted: &[usize]) -> Vec<Message> {
    let to_message = |row: FindingRow<'_>| {
        // A fraction of a second may have at most six digits (RFC 5424, section 6.2.3).
        let time = row.last_seen.map(|Time(time)| Time(time - time.rem_euclid(1000)).to_string());
        let time = time.map_or_else(|| "-".to_owned(), |time| time.replace("000Z", "Z"));
        let certain = if row.certain { "yes" } else { "no" };
        let fields = [
            ("id", row.id.as_str()),
            ("severity", &row.severity),
            ("code", &row.code),
            ("certain", certain),
            ("client", &row.client),
            ("server", &row.server),
            ("port", &row.port),
        ];
        let fields = fields.map(|(name, value)| (name, escape_control(value).into_owned()));
        let severity = Severity::parse(&row.severity).unwrap_or(Severity::Info);
        Message { severity, time, fields: fields.into(), text: finding_text(&row) }
    };
    wanted.iter().filter_map(|number| result.finding(*number)).map(to_message).collect()
}

/// Returns a finding on one line, without its time.
fn finding_text(row: &FindingRow<'_>) -> String {
    let FindingRow { severity, verdict, code, id, message, .. } = row;
    escape_control(&format!("{severity} {verdict}/{code} {id} {message}")).into_owned()
}

fn text_line(row: &FindingRow<'_>) -> String {
    let time = row.last_seen.map_or_else(|| "-".to_owned(), |time| time.to_string());
    format!("{time} {}", finding_text(row))
}

fn json_line(row: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let mut out = serde_json::Serializer::with_formatter(&mut bytes, EscapingFormatter::one_line());
    // Writing to memory does not fail, and all keys of a row are strings.
    let _ = row.serialize(&mut out);
    String::from_utf8_lossy(&bytes).into_owned()
}
