//! CSV as RFC 4180 has it: lines end in CR LF, the first names the columns. No cell is a formula.

use std::io::{self, Write};

use csv::{StringRecord, Terminator, WriterBuilder};

use super::Report;
use super::rows::{self, ConversationRow, FindingRow, HostRow, MatrixRow};
use crate::model::cell;

macro_rules! table {
    ($(#[$doc:meta])* $name:ident, $row:ident) => {
        $(#[$doc])*
        pub(super) fn $name(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
            let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
            writer.write_record($row::COLUMNS).map_err(as_io)?;
            let mut record = StringRecord::new();
            for row in rows::$name(report) {
                record.clear();
                row.cells(|text| record.push_field(&cell(text)));
                writer.write_record(&record).map_err(as_io)?;
            }
            writer.flush()
        }
    };
}

table!(
    /// `findings.csv`
    findings, FindingRow
);
table!(
    /// `conversations.csv`
    conversations, ConversationRow
);
table!(
    /// `matrix.csv`
    matrix, MatrixRow
);
table!(
    /// `hosts.csv`
    hosts, HostRow
);

/// The error of the stream below, with its own kind: a closed pipe must stay one.
fn as_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
