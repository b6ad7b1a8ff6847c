//! Writes CSV tables (RFC 4180): lines end with CR LF, and the first line names the columns. Cells
//! that a spreadsheet would evaluate as formulas are escaped.

use std::io::{self, Write};

use csv::{StringRecord, Terminator, WriterBuilder};

use crate::model::escape_csv_formula;
use crate::result::{
    AuditResult, ConversationRow, ExceptionUse, FindingRow, Gone, HostRow, MatrixRow,
};

/// A table that is written row by row.
pub(super) struct CsvTable<W: Write> {
    writer: csv::Writer<W>,
    record: StringRecord,
}

impl<W: Write> CsvTable<W> {
    fn new(out: W, columns: &[&str]) -> io::Result<Self> {
        let mut builder = WriterBuilder::new();
        builder.terminator(Terminator::CRLF).buffer_capacity(1 << 16);
        let mut writer = builder.from_writer(out);
        writer.write_record(columns).map_err(as_io)?;
        Ok(Self { writer, record: StringRecord::new() })
    }

    /// Begins `findings.csv`.
    pub fn of_findings(out: W) -> io::Result<Self> {
        Self::new(out, FindingRow::COLUMNS)
    }

    /// Begins `conversations.csv`.
    pub fn of_conversations(out: W) -> io::Result<Self> {
        Self::new(out, ConversationRow::COLUMNS)
    }

    /// Writes a row of `findings.csv`.
    pub fn finding(&mut self, row: &FindingRow<'_>) -> io::Result<()> {
        self.row(|each| row.cells(each))
    }

    /// Writes a row of `conversations.csv`.
    pub fn conversation(&mut self, row: &ConversationRow<'_>) -> io::Result<()> {
        self.row(|each| row.cells(each))
    }

    /// Writes a row. `cells` passes each cell to its argument.
    fn row(&mut self, cells: impl FnOnce(&mut dyn FnMut(&str))) -> io::Result<()> {
        self.record.clear();
        cells(&mut |text| self.record.push_field(&escape_csv_formula(text)));
        self.writer.write_record(&self.record).map_err(as_io)
    }

    /// Writes the findings of the baseline that no longer appear, and ends `findings.csv`.
    pub fn end_findings(mut self, result: &AuditResult<'_>) -> io::Result<()> {
        let gone = result.head.known.iter().flat_map(|known| &known.gone).map(Gone::row);
        for row in gone {
            self.finding(&row)?;
        }
        self.end()
    }

    /// Ends the table.
    pub fn end(mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Writes `findings.csv`. The findings of the baseline that no longer appear follow at the end.
pub(super) fn findings(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut table = CsvTable::of_findings(out)?;
    result.findings().try_for_each(|row| table.finding(&row))?;
    table.end_findings(result)
}

/// Writes `conversations.csv`.
pub(super) fn conversations(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut table = CsvTable::of_conversations(out)?;
    result.conversations().try_for_each(|row| table.conversation(&row))?;
    table.end()
}

/// Writes `matrix.csv`.
pub(super) fn matrix(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut table = CsvTable::new(out, MatrixRow::COLUMNS)?;
    result.matrix_rows().try_for_each(|row| table.row(|each| row.cells(each)))?;
    table.end()
}

/// Writes `hosts.csv`.
pub(super) fn hosts(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut table = CsvTable::new(out, HostRow::COLUMNS)?;
    result.hosts().try_for_each(|row| table.row(|each| row.cells(each)))?;
    table.end()
}

/// Writes `exceptions.csv`: the listed exceptions, each with the traffic that it allowed.
pub(super) fn exceptions(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut table = CsvTable::new(out, ExceptionUse::COLUMNS)?;
    result.exceptions().iter().try_for_each(|row| table.row(|each| row.cells(each)))?;
    table.end()
}

/// Writes the names of the columns and then the rows of a listing.
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

/// Returns the underlying I/O error unchanged, so that callers can still recognize a closed pipe,
/// and any other error as an I/O error.
fn as_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
