//! Lays out the rows of a table for a terminal.
//!
//! Words are never broken, so that a name can be copied. A cell wraps between words. If a single
//! word is wider than its column, it extends to the right, or starts farther to the left if there
//! is no room, and the next cells continue below it.

use std::collections::BTreeSet;
use std::io::{self, Write};

use anstyle::Style;
use textwrap::core::display_width;
use textwrap::{WordSeparator, WordSplitter};

use crate::model::escape_control;

/// The width of a table, in characters, if the output does not go to a terminal.
pub(super) const DEFAULT_WIDTH: usize = 100;

/// The number of spaces between two columns.
const GAP: usize = 2;

/// The number of spaces before a cell that has lines of its own below its row.
const INDENT: usize = 4;

/// The minimum width of a long last cell. If less space remains for it, it moves below its row.
const MIN_LAST: usize = 30;

/// A function that returns the style of a cell, given the index of its column and its text.
pub(super) type CellStyle<'s> = &'s dyn Fn(usize, &str) -> Style;

/// Writes a header and rows in columns. No line is wider than `width` characters, unless a single
/// word is. Control characters are escaped.
pub(super) fn write_rows(
    header: &[&str],
    rows: &[Vec<String>],
    width: usize,
    style: CellStyle<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let header: Vec<String> = header.iter().map(|name| name.to_uppercase()).collect();
    let escape = |cell: &String| escape_control(cell).into_owned();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(escape).collect()).collect();
    let layout = ColumnLayout::of(&header, &rows, width);
    let bold = |_: usize, _: &str| Style::new().bold();
    layout.write_row(&header, &bold, out)?;
    rows.iter().try_for_each(|row| layout.write_row(row, style, out))
}

/// The widths and positions of columns.
struct ColumnLayout {
    /// The widths of the columns that share the lines of a row.
    widths: Vec<usize>,
    /// The position of each of these columns.
    offsets: Vec<usize>,
    /// The width of the output.
    width: usize,
}

/// A piece of a cell on one line.
struct Piece {
    offset: usize,
    column: usize,
    text: String,
}

impl ColumnLayout {
    /// Chooses the widths for these cells.
    fn of(header: &[String], rows: &[Vec<String>], width: usize) -> Self {
        let count = header.len();
        let mut natural = vec![0; count];
        let mut words = vec![BTreeSet::new(); count];
        for row in rows.iter().map(Vec::as_slice).chain([header]) {
            for (column, cell) in row.iter().enumerate().take(count) {
                natural[column] = natural[column].max(display_width(cell));
                words[column].extend(cell.split(' ').map(display_width));
            }
        }
        let longest = |words: &BTreeSet<usize>| words.last().copied().unwrap_or_default();
        let total =
            |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        let widths = if total(&natural) <= width {
            natural
        } else {
            let mut widths: Vec<usize> = words.iter().map(longest).collect();
            let last = count.saturating_sub(1);
            let rest = width.saturating_sub(total(&widths[..last]) + GAP);
            if count > 1 && natural[last] > MIN_LAST && rest < MIN_LAST {
                widths.pop();
            }
            shrink(&mut widths, &mut words, |widths| total(widths) > width);
            let spare = width.saturating_sub(total(&widths));
            grow(&mut widths, &natural, spare);
            widths
        };
        let offsets = (0..widths.len()).map(|column| total(&widths[..column]) + GAP);
        let offsets = offsets.enumerate().map(|(column, at)| if column == 0 { 0 } else { at });
        Self { offsets: offsets.collect(), widths, width }
    }

    fn write_row(
        &self,
        cells: &[String],
        style: CellStyle<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        for line in self.place(cells) {
            let mut at = 0;
            for Piece { offset, column, text } in line {
                let style = style(column, &cells[column]);
                write!(out, "{:1$}{style}{text}{style:#}", "", offset.saturating_sub(at))?;
                at = offset + display_width(&text);
            }
            writeln!(out)?;
        }
        Ok(())
    }

    /// Distributes the cells of a row over lines.
    fn place(&self, cells: &[String]) -> Vec<Vec<Piece>> {
        let mut lines: Vec<Vec<Piece>> = Vec::new();
        let mut put = |line: usize, piece: Piece| {
            if lines.len() <= line {
                lines.resize_with(line + 1, Vec::new);
            }
            lines[line].push(piece);
            lines.len()
        };
        // The number of lines that are in use, and the first line for the next cell.
        let (mut used, mut top) = (0, 0);
        for (column, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            let Some(own) = self.widths.get(column) else {
                for text in wrap(cell, self.width.saturating_sub(INDENT)) {
                    let offset = self.width.saturating_sub(display_width(&text)).min(INDENT);
                    used = put(used, Piece { offset, column, text });
                }
                continue;
            };
            let mut line = top;
            for text in wrap(cell, *own) {
                let wide = display_width(&text);
                let mut offset = self.offsets[column];
                if offset + wide > self.width && column > 0 {
                    // The word gets a line of its own, and starts as far to the right as it fits.
                    offset = self.width.saturating_sub(wide).min(offset);
                    line = line.max(used);
                }
                used = put(line, Piece { offset, column, text }).max(used);
                line += 1;
                if wide > *own {
                    top = line;
                }
            }
        }
        if lines.is_empty() { vec![Vec::new()] } else { lines }
    }
}

/// Narrows columns until they fit or none can be narrowed. In each step, the widest column that can
/// be narrowed gets the width of its next shorter word.
fn shrink(
    widths: &mut [usize],
    words: &mut [BTreeSet<usize>],
    is_too_wide: impl Fn(&[usize]) -> bool,
) {
    while is_too_wide(widths) {
        let can_shrink = (0..widths.len()).filter(|column| words[*column].len() > 1);
        let Some(widest) = can_shrink.max_by_key(|column| (widths[*column], usize::MAX - column))
        else {
            return;
        };
        words[widest].pop_last();
        widths[widest] = words[widest].last().copied().unwrap_or_default();
    }
}

/// Distributes spare width among the columns whose cells wrap, most to those that wrap most.
fn grow(widths: &mut [usize], natural: &[usize], spare: usize) {
    for _ in 0..spare {
        let wrapping = (0..widths.len()).filter(|column| widths[*column] < natural[*column]);
        let lines = |column: &usize| natural[*column] * 1000 / widths[*column].max(1);
        let Some(column) = wrapping.max_by_key(|column| (lines(column), usize::MAX - column))
        else {
            return;
        };
        widths[column] += 1;
    }
}

/// Wraps text between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let options = textwrap::Options::new(width.max(1))
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(|line| line.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(header: &[&str], rows: &[&[&str]], width: usize) -> Vec<String> {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        let mut text = Vec::new();
        write_rows(header, &rows, width, &|_, _| Style::new(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let text = text.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_fits_stays_on_one_line() {
        let shown = lines(&["a", "b"], &[&["one two", ""], &["three", "x\u{1b}"]], 40);
        assert_eq!(shown, ["A        B", "one two", "three    x\\u{1b}"]);
    }

    #[test]
    fn cells_wrap_between_words() {
        let shown = lines(&["a", "b"], &[&["aa bb cc dd", "x y"]], 10);
        assert_eq!(shown, ["A       B", "aa bb   x", "cc dd   y"]);
    }

    #[test]
    fn a_word_wider_than_its_column_pushes_the_next_cells_down() {
        let rows: &[&[&str]] =
            &[&["a-very-long-name", "tcp/443", "p"], &["b", "tcp/443", "p"], &["c", "u", "p"]];
        let shown = lines(&["to", "port", "need"], rows, 17);
        let expected = [
            "TO  PORT     NEED",
            "a-very-long-name",
            "    tcp/443  p",
            "b   tcp/443  p",
            "c   u        p",
        ];
        assert_eq!(shown, expected);
        // A word that does not fit to the right of the others has a line of its own.
        let rows: &[&[&str]] = &[&["aaaa bbbb", "a-very-long-word", "q"], &["c", "d", "e"]];
        let shown = lines(&["x", "y", "z"], rows, 17);
        assert_eq!(
            shown,
            [
                "X     Y         Z",
                "aaaa",
                "bbbb",
                " a-very-long-word",
                "                q",
                "c     d         e"
            ]
        );
    }

    #[test]
    fn a_long_last_cell_moves_below_its_row() {
        let purpose = "Users log on and work through the load balancer of the farm";
        let rows: &[&[&str]] = &[&["gateway-forwarding", "gateway-normal", purpose]];
        let shown = lines(&["from", "to", "purpose"], rows, 40);
        let expected = [
            "FROM                TO",
            "    PURPOSE",
            "gateway-forwarding  gateway-normal",
            "    Users log on and work through the",
            "    load balancer of the farm",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn no_line_is_too_wide_and_no_word_is_lost() {
        let words = ["a", "bb-cc", "ddd.eee.fff", "0123456789abcdef", "x"];
        for width in 17..60 {
            for shift in 0..words.len() {
                let cell = |n: usize| format!("{} {}", words[n % 5], words[(n + shift) % 5]);
                let cells: Vec<String> = (0..4).map(cell).collect();
                let row: Vec<&str> = cells.iter().map(String::as_str).collect();
                let shown = lines(&["p", "q", "r", "s"], &[&row, &["1", "2", "3", "4"]], width);
                assert!(shown.iter().all(|line| line.len() <= width), "{width}: {shown:#?}");
                let mut found: Vec<&str> =
                    shown.iter().flat_map(|line| line.split_whitespace()).collect();
                let mut all: Vec<&str> = row.iter().flat_map(|cell| cell.split(' ')).collect();
                all.extend(["P", "Q", "R", "S", "1", "2", "3", "4"]);
                found.sort_unstable();
                all.sort_unstable();
                assert_eq!(found, all, "{width}");
            }
        }
    }
}
