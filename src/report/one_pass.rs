//! Writes `audit.json` and the CSV tables with the same rows in one pass, because generating the
//! rows takes longer than writing them.

use std::io::{self, Write};

use super::JsonLayout;
use super::csv::CsvTable;
use super::json::write_rows;
use crate::result::AuditResult;

/// A table of a result that is written both to a CSV file and to `audit.json`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SharedTable {
    /// The findings.
    Findings,
    /// The conversations.
    Conversations,
}

/// The files that are written in one pass.
pub(super) struct Outputs<'o> {
    pub json: &'o mut dyn Write,
    pub findings: Option<&'o mut dyn Write>,
    pub conversations: Option<&'o mut dyn Write>,
}

/// The error of a failed pass.
pub(super) struct PassError {
    /// The table whose file could not be written; `None` for `audit.json`.
    pub table: Option<SharedTable>,
    pub error: io::Error,
}

/// Writes the files. Their contents are the same as if each file were written alone.
pub(super) fn write(
    result: &AuditResult<'_>,
    layout: JsonLayout,
    Outputs { json, findings, conversations }: Outputs<'_>,
) -> Result<(), PassError> {
    let of_findings = failed_at(Some(SharedTable::Findings));
    let of_conversations = failed_at(Some(SharedTable::Conversations));
    let mut findings = findings.map(CsvTable::of_findings).transpose().map_err(of_findings)?;
    let mut conversations =
        conversations.map(CsvTable::of_conversations).transpose().map_err(of_conversations)?;
    let (mut findings_error, mut conversations_error) = (Ok(()), Ok(()));
    write_rows(
        result,
        layout,
        |row| {
            if let (Some(table), Ok(())) = (&mut findings, &findings_error) {
                findings_error = table.finding(row);
            }
        },
        |row| {
            if let (Some(table), Ok(())) = (&mut conversations, &conversations_error) {
                conversations_error = table.conversation(row);
            }
        },
        json,
    )
    .map_err(failed_at(None))?;
    let ended = findings.map_or(Ok(()), |table| table.end_findings(result));
    findings_error.and(ended).map_err(of_findings)?;
    let ended = conversations.map_or(Ok(()), CsvTable::end);
    conversations_error.and(ended).map_err(of_conversations)
}

fn failed_at(table: Option<SharedTable>) -> impl Fn(io::Error) -> PassError + Copy {
    move |error| PassError { table, error }
}
