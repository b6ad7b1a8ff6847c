//! Writes selected rows of a result: `rasaudit show`, and `--show` of an audit.

use std::io::{self, Write};

use anstyle::Style;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::columns::{DEFAULT_WIDTH, write_rows};
use super::csv;
use super::json_text::EscapingFormatter;
use super::styles::style_of_severity;
use crate::classify::Severity;
use crate::result::{AuditResult, ListedRow, RowQuery, RowSelection, plural};

/// The formats of a listing.
pub const LISTING_FORMATS: &[&str] = &["text", "csv", "jsonl"];

/// A listing of rows.
#[derive(Clone, Debug)]
pub struct RowListing {
    /// The query that selects the rows.
    pub query: RowQuery,
    /// The columns. If none are given, text shows the main columns, and the other formats show all.
    pub columns: Vec<&'static str>,
    /// The option that lists all rows. Text output names it if the limit leaves out rows.
    pub all_option: &'static str,
}

impl RowListing {
    /// Writes the listing in one of [`LISTING_FORMATS`]. Text has ANSI styles, and lines of at most
    /// `width` characters (default: 100) unless a single word is wider.
    pub fn write(
        &self,
        result: &AuditResult<'_>,
        format: &str,
        width: Option<usize>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let selection = result.select(&self.query);
        let all = if format == "text" { self.query.main_columns() } else { self.query.columns() };
        let columns = if self.columns.is_empty() { all } else { &self.columns };
        match format {
            "csv" => {
                csv::rows(columns, selection.rows().map(|row| row.texts(columns, result)), out)
            }
            "jsonl" => selection.rows().try_for_each(|row| write_line(&row, columns, result, out)),
            _ => self.write_text(result, &selection, columns, width, out),
        }
    }

    fn write_text(
        &self,
        result: &AuditResult<'_>,
        selection: &RowSelection<'_>,
        columns: &[&str],
        width: Option<usize>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if !selection.is_empty() {
            let shown = |row: ListedRow<'_>| {
                let texts = row.texts(columns, result).into_iter().zip(columns);
                texts.map(|(text, column)| for_reader(column, text)).collect()
            };
            let rows: Vec<Vec<String>> = selection.rows().map(shown).collect();
            let style = |column: usize, text: &str| match columns.get(column) {
                Some(&"severity") => {
                    Severity::parse(text).map_or_else(Style::new, style_of_severity)
                }
                _ => Style::new(),
            };
            write_rows(columns, &rows, width.unwrap_or(DEFAULT_WIDTH), &style, out)?;
            writeln!(out)?;
        }
        writeln!(out, "{}", self.closing_line(selection))
    }

    /// Says how many rows or groups there are, how many of them are shown if some are not, and how
    /// many rows do not match the filter.
    fn closing_line(&self, selection: &RowSelection<'_>) -> String {
        let noun = self.query.table.noun();
        let RowSelection { total, fitting, entries, .. } = *selection;
        let left_out = match (total - fitting) as u64 {
            0 => String::new(),
            1 => "; 1 other does not match".to_owned(),
            others => format!("; {others} others do not match"),
        };
        if total == 0 {
            return format!("The result has no {noun}s.");
        }
        if fitting == 0 {
            return format!(
                "No {noun} matches; the filter left out {}.",
                plural(total as u64, noun)
            );
        }
        let (entries_noun, of_rows) = match self.query.group_by {
            Some(_) => ("group", format!(" of {}", plural(fitting as u64, noun))),
            None => (noun, String::new()),
        };
        if selection.len() < entries {
            let shown = selection.len();
            let all = self.all_option;
            return format!(
                "{shown} of {}{of_rows} shown; {all} lists all{left_out}",
                plural(entries as u64, entries_noun)
            );
        }
        format!("{}{of_rows}{left_out}", plural(entries as u64, entries_noun))
    }
}

/// Formats a cell for a reader: times without fractions of a second, and lists with a space after
/// each semicolon. A text that already contains a space is not a list and stays as it is.
fn for_reader(column: &str, text: String) -> String {
    if column.starts_with("first_") || column.starts_with("last_") {
        return text.get(..19).map_or(text.clone(), |seconds| format!("{seconds}Z"));
    }
    if !text.contains(';') || text.contains(' ') {
        return text;
    }
    text.replace(';', "; ")
}

/// A row as a line of JSON, with its kind and the chosen columns in order.
struct ListedLine<'a> {
    record: &'static str,
    cells: Vec<(&'a str, Value)>,
}

impl Serialize for ListedLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = ("record", Value::from(self.record));
        let cells = self.cells.iter().map(|(name, value)| (*name, value));
        serializer.collect_map([(record.0, &record.1)].into_iter().chain(cells))
    }
}

fn write_line(
    row: &ListedRow<'_>,
    columns: &[&str],
    result: &AuditResult<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut value = serde_json::to_value(row)?;
    let cells = columns.iter().map(|name| {
        let own = value.get_mut(*name).map(Value::take);
        // A derived column is not part of the row.
        let derived = || row.texts(&[*name], result).pop().map(Value::from).unwrap_or_default();
        (*name, own.unwrap_or_else(derived))
    });
    let line = ListedLine { record: row.record(), cells: cells.collect() };
    let formatter = EscapingFormatter::one_line();
    line.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, formatter))?;
    writeln!(out)
}
