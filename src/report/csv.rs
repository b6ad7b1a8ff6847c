//! Writes CSV tables (RFC 4180): lines end with CR LF, and the first line names the columns. Cells
//! that a spreadsheet would evaluate as formulas are escaped.

use std::io::{self, Write};

use csv::{StringRecord, Terminator, WriterBuilder};

use crate::model::escape_csv_formula;
use crate::result::{
    AuditResult, ConversationRow, ExceptionUse, FindingRow, Gone, HostRow, MatrixRow,
};

macro_rules! table {
    ($(#[$doc:meta])* $name:ident, $rows:ident, $row:ident) => {
        $(#[$doc])*
        pub(super) fn $name(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
            let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
            writer.write_record($row::COLUMNS).map_err(as_io)?;
            let mut record = StringRecord::new();
            for row in result.$rows() {
                record.clear();
                row.cells(|text| record.push_field(&escape_csv_formula(text)));
                writer.write_record(&record).map_err(as_io)?;
            }
            writer.flush()
        }
    };
}

/// Writes `findings.csv`. The findings of the baseline that no longer appear follow at the end.
pub(super) fn findings(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
    writer.write_record(FindingRow::COLUMNS).map_err(as_io)?;
    let mut record = StringRecord::new();
    let gone = result.head.known.iter().flat_map(|known| &known.gone).map(Gone::row);
    for row in result.findings().chain(gone) {
        record.clear();
        row.cells(|text| record.push_field(&escape_csv_formula(text)));
        writer.write_record(&record).map_err(as_io)?;
    }
    writer.flush()
}

table!(
    /// Writes `conversations.csv`.
    conversations, conversations, ConversationRow
);
table!(
    /// Writes `matrix.csv`.
    matrix, matrix_rows, MatrixRow
);
table!(
    /// Writes `hosts.csv`.
    hosts, hosts, HostRow
);

/// Writes `exceptions.csv`: the site's exceptions, each with the traffic that it allowed.
pub(super) fn exceptions(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
    writer.write_record(ExceptionUse::COLUMNS).map_err(as_io)?;
    let mut record = StringRecord::new();
    for exception in result.exceptions() {
        record.clear();
        exception.cells(|text| record.push_field(&escape_csv_formula(text)));
        writer.write_record(&record).map_err(as_io)?;
    }
    writer.flush()
}

/// Writes selected rows.
pub(super) fn rows(
    columns: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
    writer.write_record(columns).map_err(as_io)?;
    for row in rows {
        let cells = row.iter().map(|text| escape_csv_formula(text).into_owned());
        writer.write_record(cells).map_err(as_io)?;
    }
    writer.flush()
}

/// Returns the underlying I/O error unchanged, so that callers can still recognize a closed pipe.
fn as_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
