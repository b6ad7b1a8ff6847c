//! Decides which problems of an inventory are certain if the file is not valid TOML, and describes
//! keys that are set twice.

use std::ops::Range;

use super::Diagnostic;

/// The beginning of the message that a host is missing.
pub(super) const NO_HOST: &str = "no host has the name";

/// The beginning of the message that the table `[farm]` is missing.
pub(super) const NO_FARM: &str = "the table [farm]";

/// The tables of a document that are not valid TOML.
pub(super) struct Damage<'t> {
    lines: Vec<&'t str>,
    /// The tables with errors, as ranges of lines, counted from 1.
    tables: Vec<Range<usize>>,
}

impl<'t> Damage<'t> {
    /// Determines the tables that contain these lines.
    pub(super) fn new(text: &'t str, errors: &[usize]) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let is_header = |line: &usize| lines[line - 1].trim_start().starts_with('[');
        let table_of = |error: &usize| {
            let start = (1..=(*error).min(lines.len())).rev().find(is_header).unwrap_or(1);
            let end = (error + 1..=lines.len()).find(is_header).unwrap_or(lines.len() + 1);
            start..end
        };
        let tables = errors.iter().map(table_of).collect();
        Self { lines, tables }
    }

    /// Returns whether a problem is certain although the document is damaged. It is not if its
    /// table is damaged, or if it is about something that may be defined in a damaged table. If
    /// that is `[farm]`, the matrix and its roles are not known.
    pub(super) fn leaves(&self, problem: &Diagnostic) -> bool {
        let farm = |table: &Range<usize>| {
            let header = self.lines.get(table.start - 1).map_or("", |line| line.trim());
            header.starts_with("[farm") || !header.starts_with('[')
        };
        !self.tables.iter().any(|table| table.contains(&problem.line) || farm(table))
            && !problem.message.starts_with(NO_HOST)
            && !problem.message.starts_with(NO_FARM)
    }

    /// Describes a key or table that is defined a second time, in this line.
    pub(super) fn of_repeated(&self, key: &str, line: usize) -> String {
        let here = self.lines.get(line - 1).map_or("", |line| line.trim());
        if here.starts_with('[') {
            let first = self.lines.iter().position(|line| line.trim() == here);
            return format!("{here} is written twice{}", first_line(first, line));
        }
        let before = self.lines[..line.min(self.lines.len()) - 1].iter().enumerate().rev();
        let mut table = before.take_while(|(_, line)| !line.trim_start().starts_with('['));
        let sets = |text: &str| {
            text.trim_start().strip_prefix(key).is_some_and(|t| t.trim_start().starts_with('='))
        };
        let first = table.find(|(_, text)| sets(text)).map(|(number, _)| number);
        format!("the key {key} is set twice{}", first_line(first, line))
    }
}

/// Returns `, first in line ...` for the index of a line before another line.
fn first_line(index: Option<usize>, before: usize) -> String {
    let line = index.map(|index| index + 1).filter(|line| *line < before);
    line.map_or_else(String::new, |line| format!(", first in line {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[farm]\nmatrix = 1\n[[host]]\nname = \"a\nroles = [\n  2,\n]\n[[host]]\nname = \"b\"\nname = \"c\"\n";

    fn problem(line: usize, message: &str) -> Diagnostic {
        Diagnostic { file: String::new(), line, message: message.to_owned() }
    }

    #[test]
    fn what_a_damaged_table_may_have_caused_is_left_out() {
        let damage = Damage::new(TEXT, &[4]);
        assert!(!damage.leaves(&problem(3, "a host must have addresses")));
        assert!(!damage.leaves(&problem(6, "a role must be a string")));
        assert!(damage.leaves(&problem(8, "a host must have addresses")));
        assert!(!damage.leaves(&problem(8, "no host has the name \"a\"")));
        // Without the matrix, no role is known.
        assert!(!Damage::new(TEXT, &[2]).leaves(&problem(8, "unknown role")));
        assert!(!Damage::new("matrix = \n[[host]]", &[1]).leaves(&problem(2, "unknown role")));
    }

    #[test]
    fn a_repeated_key_is_named_with_its_first_line() {
        let damage = Damage::new(TEXT, &[10]);
        assert_eq!(damage.of_repeated("name", 10), "the key name is set twice, first in line 9");
        assert_eq!(damage.of_repeated("matrix", 10), "the key matrix is set twice");
        let twice = Damage::new("[farm]\n[farm]\n", &[2]);
        assert_eq!(twice.of_repeated("farm", 2), "[farm] is written twice, first in line 1");
    }
}
