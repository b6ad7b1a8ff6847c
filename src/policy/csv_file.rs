//! Reads CSV files of rules, hosts and exceptions. Each row keeps its line number for error
//! messages.

use std::borrow::Cow;

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
        let position = self.header.iter().position(|name| is_named(name, column));
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

/// Returns whether a cell of a header is the name of a column. Spreadsheets may write it with a
/// capital letter.
pub(super) fn is_named(cell: &str, column: &str) -> bool {
    cell.trim().eq_ignore_ascii_case(column)
}

/// Returns whether a line states the separator for a spreadsheet, as in `sep=;`.
fn states_separator(line: &str) -> bool {
    line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("sep="))
}

/// Returns the text of a file without its byte order mark. A first line that states the separator
/// becomes a comment, so that lines keep their numbers.
pub(super) fn without_separator_line(text: &str) -> Cow<'_, str> {
    let text = text.trim_start_matches('\u{feff}');
    match text.strip_prefix(['s', 'S']).filter(|_| states_separator(text)) {
        Some(rest) => Cow::Owned(format!("#{rest}")),
        None => Cow::Borrowed(text),
    }
}

/// Returns the character that separates the cells of a file: a comma, a semicolon or a tab.
/// Spreadsheets write semicolons in locales with a decimal comma, and tabs in their text format.
pub(super) fn separator_of(text: &str) -> u8 {
    let is_header =
        |line: &&str| !line.trim().is_empty() && !line.starts_with('#') && !states_separator(line);
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
    let text = &*without_separator_line(text);
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .delimiter(separator)
        .from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return problems.add(1, error.to_string()),
    };
    let missing: Vec<_> =
        columns.iter().filter(|c| !header.iter().any(|name| is_named(name, c))).copied().collect();
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
    // An open quotation mark swallows the rest of the file, so it can only be in the last row.
    let mut last: Option<(usize, u64, String)> = None;
    for row in reader.records() {
        if let Some((line, _, message)) = last.take() {
            problems.add(line, message);
        }
        match row {
            Ok(cells) => {
                let line = cells.position().map_or(0, |p| line_of(text, p));
                visit(CsvRecord { line, header: &header, cells: &cells }, problems);
            }
            Err(error) => {
                let line = error.position().map_or(0, |p| line_of(text, p));
                let from = error.position().map_or(0, csv::Position::byte);
                last = Some((line, from, csv_error(&error)));
            }
        }
    }
    if let Some((line, from, message)) = last {
        let rest = text.get(from as usize..).unwrap_or_default();
        let is_open = rest.matches('"').count() % 2 == 1;
        let hint = if is_open { "; a quotation mark (\") is not closed" } else { "" };
        problems.add(line, message + hint);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the cells of the columns `name` and `roles` in each row, with its line, and the
    /// problems.
    fn read(text: &str) -> (Vec<(usize, String, String)>, Vec<String>) {
        let mut rows = Vec::new();
        let mut problems = Diagnostics::of("hosts.csv");
        let separator = separator_of(text);
        each_record_separated(separator, text, &["name", "roles"], &mut problems, |row, _| {
            rows.push((row.line, row.get("name").to_owned(), row.get("roles").to_owned()));
        });
        let problems = problems.or(()).err().unwrap_or_default();
        (rows, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_spreadsheets_add_does_not_change_the_rows() {
        let rows = vec![(2, "gw1".to_owned(), "gateway-normal".to_owned())];
        assert_eq!(read("name,roles\ngw1,gateway-normal\n"), (rows.clone(), vec![]));
        assert_eq!(read("Name;ROLES\ngw1;gateway-normal\n"), (rows, vec![]));
        let below = vec![(3, "gw1".to_owned(), "gateway-normal".to_owned())];
        for start in ["sep=;\r\n", "\u{feff}sep=;\n", "SEP=;\n"] {
            assert_eq!(
                read(&format!("{start}Name;Roles\ngw1;gateway-normal\n")),
                (below.clone(), vec![])
            );
        }
    }

    #[test]
    fn a_quotation_mark_that_is_not_closed_is_named() {
        let (rows, problems) = read("name,roles\ngw1,halb\n\"gw2,halb\ngw3,halb\n");
        assert_eq!(rows.len(), 1);
        assert_eq!(
            problems,
            [
                "hosts.csv:3: the row and the header have different numbers of cells: 1 and 2; a quotation mark (\") is not closed"
            ]
        );
        // An open quotation mark in a later row does not explain an earlier one.
        let (_, problems) = read("name,roles\ngw1\n\"gw2\",halb\n5\" disk,halb\n");
        assert_eq!(
            problems,
            ["hosts.csv:2: the row and the header have different numbers of cells: 1 and 2"]
        );
    }
}
