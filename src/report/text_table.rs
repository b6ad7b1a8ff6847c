//! A table of strings that can be written in several formats.

use std::io::{self, Write};

use anstyle::Style;
use serde::Serialize as _;

use super::columns::{DEFAULT_WIDTH, write_rows};
use super::json_text::pretty;
use crate::model::{escape_control, escape_csv_formula};

/// A table of strings.
pub struct TextTable {
    /// The names of the columns.
    pub columns: &'static [&'static str],
    /// The cells, row by row.
    pub rows: Vec<Vec<String>>,
}

/// The names of the table formats.
pub const TABLE_FORMATS: &[&str] = &["table", "csv", "json", "markdown"];

impl TextTable {
    /// Returns an empty table.
    pub fn new(columns: &'static [&'static str]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Writes the table in one of [`TABLE_FORMATS`]. The format `table` has ANSI styles, and lines
    /// of at most `width` characters (default: 100) unless a single word is wider.
    pub fn write(&self, format: &str, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
        match format {
            "csv" => self.write_csv(out),
            "json" => self.write_json(out),
            "markdown" => self.write_markdown(out),
            _ => {
                let width = width.unwrap_or(DEFAULT_WIDTH);
                write_rows(self.columns, &self.rows, width, &|_, _| Style::new(), out)
            }
        }
    }

    fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(self.columns)?;
        for row in &self.rows {
            writer.write_record(row.iter().map(|text| escape_csv_formula(text).into_owned()))?;
        }
        writer.flush()
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<serde_json::Map<String, serde_json::Value>> = self
            .rows
            .iter()
            .map(|row| {
                let cells = self.columns.iter().zip(row);
                cells.map(|(name, text)| ((*name).to_owned(), text.as_str().into())).collect()
            })
            .collect();
        rows.serialize(&mut pretty(&mut *out))?;
        writeln!(out)
    }

    fn write_markdown(&self, out: &mut dyn Write) -> io::Result<()> {
        // A vertical bar would end the cell, and other punctuation could become markup.
        let escape = |text: &str| {
            escape_control(text).chars().fold(String::new(), |mut safe, c| {
                if "\\|*_`<>[]&".contains(c) {
                    safe.push('\\');
                }
                safe.push(c);
                safe
            })
        };
        let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
        writeln!(out, "{}", line(self.columns.iter().map(|c| escape(c)).collect()))?;
        writeln!(out, "{}", line(vec!["---".to_owned(); self.columns.len()]))?;
        for row in &self.rows {
            writeln!(out, "{}", line(row.iter().map(|text| escape(text)).collect()))?;
        }
        Ok(())
    }
}
