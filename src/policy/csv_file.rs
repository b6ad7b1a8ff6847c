//! Reads CSV files of rules, hosts and exceptions. Each row keeps its line number for error
//! messages.

use super::Diagnostics;

/// A row of a CSV file, with access to cells by column name.
pub(super) struct CsvRecord<'a> {
    pub line: usize,
    header: &'a csv::StringRecord,
    cells: &'a csv::StringRecord,
}

impl<'a> CsvRecord<'a> {
    /// Returns the trimmed cell of a column, or an empty string if the column is missing.
    pub fn get(&self, column: &str) -> &'a str {
        let position = self.header.iter().position(|name| name.trim() == column);
        position.and_then(|p| self.cells.get(p)).unwrap_or_default().trim()
    }

    /// Returns whether the row has no content: all cells are empty, or the first one begins with
    /// `#`. Spreadsheets write an empty row as separators only, and they quote a comment that
    /// contains a separator, so the CSV reader skips neither.
    pub fn is_blank(&self) -> bool {
        self.cells.iter().all(|cell| cell.trim().is_empty())
            || self.cells.get(0).is_some_and(|cell| cell.trim_start().starts_with('#'))
    }

    /// Returns the items of a cell that contains a list separated by semicolons.
    pub fn list(&self, column: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.get(column).split(';').map(str::trim).filter(|item| !item.is_empty())
    }
}

/// Returns the character that separates the cells of a file: a comma, a semicolon or a tab.
/// Spreadsheets write semicolons in locales with a decimal comma, and tabs in their text format.
pub(super) fn separator_of(text: &str) -> u8 {
    let is_header = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let header = text.trim_start_matches('\u{feff}').lines().find(is_header).unwrap_or_default();
    let count = |separator: u8| header.bytes().filter(|byte| *byte == separator).count();
    // `max_by_key` returns the last of several equal maxima, so the comma wins a tie.
    let most = [b'\t', b';', b','].into_iter().max_by_key(|separator| count(*separator));
    most.unwrap_or(b',')
}

/// Reads `text`, which must have all `columns`, and passes each row to `visit`. Adds errors to
/// `problems`.
pub(super) fn each_record(
    text: &str,
    columns: &[&str],
    problems: &mut Diagnostics,
    visit: impl FnMut(CsvRecord<'_>, &mut Diagnostics),
) {
    each_record_separated(b',', text, columns, problems, visit);
}

/// Reads `text` like [`each_record`], but with `separator` between the cells.
pub(super) fn each_record_separated(
    separator: u8,
    text: &str,
    columns: &[&str],
    problems: &mut Diagnostics,
    mut visit: impl FnMut(CsvRecord<'_>, &mut Diagnostics),
) {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .delimiter(separator)
        .from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return problems.add(1, error.to_string()),
    };
    let missing: Vec<_> =
        columns.iter().filter(|c| !header.iter().any(|name| name.trim() == **c)).copied().collect();
    if !missing.is_empty() {
        let found: Vec<&str> = header.iter().map(str::trim).collect();
        let separator = match found.as_slice() {
            [only] if only.contains(';') => "; separate cells with commas, not semicolons",
            [only] if only.contains('\t') => "; separate cells with commas, not tabs",
            _ => "",
        };
        let noun = if missing.len() == 1 { "column" } else { "columns" };
        let missing = missing.join(", ");
        let found = found.join(", ");
        let message = if found.is_empty() {
            format!("the file is empty; its first line must contain the {noun} {missing}")
        } else {
            format!("missing {noun}: {missing}; the header has: {found}{separator}")
        };
        return problems.add(1, message);
    }
    for row in reader.records() {
        match row {
            Ok(cells) => {
                let line = cells.position().map_or(0, |p| line_of(text, p));
                visit(CsvRecord { line, header: &header, cells: &cells }, problems);
            }
            Err(error) => {
                let line = error.position().map_or(0, |p| line_of(text, p));
                problems.add(line, csv_error(&error));
            }
        }
    }
}

/// Returns the line of a record, counted from 1. The CSV reader gives the position at which the
/// previous record ended. That may be before the end of that record's line (with Windows line
/// endings), before empty lines or before comments.
fn line_of(text: &str, position: &csv::Position) -> usize {
    let rest = text.get(position.byte() as usize..).unwrap_or_default();
    let mut line = position.line() as usize;
    for skipped in rest.split_inclusive('\n') {
        let blank = skipped.trim_end_matches(['\r', '\n']).is_empty();
        if !(blank || skipped.starts_with('#')) {
            break;
        }
        line += 1;
    }
    line
}

fn csv_error(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!(
                "the row and the header have different numbers of cells: {len} and {expected_len}"
            )
        }
        csv::ErrorKind::Utf8 { .. } => "the row is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}
