//! Writes findings and conversations as one JSON object per line: `--format jsonl`.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;

use super::json_text::EscapingFormatter;
use crate::result::{AuditResult, Gone};

/// A row with the name of its table.
#[derive(Serialize)]
struct Line<R> {
    /// `finding` or `conversation`.
    record: &'static str,
    /// The columns of the table.
    #[serde(flatten)]
    row: R,
}

/// Writes the report of `--format jsonl`: the rows of `findings.csv`, then those of
/// `conversations.csv`.
pub(super) fn write(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let gone = result.head.known.iter().flat_map(|known| &known.gone).map(Gone::row);
    for row in result.findings().chain(gone) {
        write_line(&Line { record: "finding", row }, out)?;
    }
    for row in result.conversations() {
        write_line(&Line { record: "conversation", row }, out)?;
    }
    Ok(())
}

fn write_line(line: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    line.serialize(&mut Serializer::with_formatter(&mut *out, EscapingFormatter::one_line()))?;
    writeln!(out)
}
