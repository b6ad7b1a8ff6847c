//! The selection of the files that `--out` writes (`--reports`), and their layout (`--pretty`).

use super::{FORMATS, Format};

/// The layout of `audit.json`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum JsonLayout {
    /// One line for each row of a table.
    #[default]
    Compact,
    /// Indented, for people.
    Indented,
}

/// The files that a folder of reports contains.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ReportFiles {
    /// The names of the selected formats; empty for all formats that have a file.
    formats: Vec<String>,
    /// The layout of `audit.json`.
    pub layout: JsonLayout,
}

impl ReportFiles {
    /// Returns the names of the formats that have a file.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FORMATS.iter().filter(|format| format.file.is_some()).map(|format| format.name)
    }

    /// Selects formats by name. An empty list selects all formats that have a file.
    pub fn new(formats: Vec<String>, layout: JsonLayout) -> Self {
        Self { formats, layout }
    }

    /// Returns the selected formats with their files, in the order in which the files are moved
    /// into place.
    pub fn selected(&self) -> impl Iterator<Item = (&'static Format, &'static str)> {
        self.divided(Selection::Selected)
    }

    /// Returns the files of the formats that are not selected.
    pub(super) fn left_out(&self) -> impl Iterator<Item = &'static str> {
        self.divided(Selection::LeftOut).map(|(_, file)| file)
    }

    /// Returns whether the files include that of `format`, the name of a format that has a file.
    pub fn contains(&self, format: &str) -> bool {
        self.formats.is_empty() || self.formats.iter().any(|name| name == format)
    }

    /// Returns whether a format is written in the same pass as `audit.json`.
    pub(super) fn is_shared(&self, format: &Format) -> bool {
        let is_json = format.write_indented.is_some();
        is_json || (format.table.is_some() && self.contains("json"))
    }

    fn divided(&self, wanted: Selection) -> impl Iterator<Item = (&'static Format, &'static str)> {
        let with_files = FORMATS.iter().filter_map(|format| Some((format, format.file?)));
        with_files.filter(move |(format, _)| {
            self.contains(format.name) == (wanted == Selection::Selected)
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Selection {
    Selected,
    LeftOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_keeps_the_order_of_the_formats() {
        let files = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let files = ReportFiles::new(names, JsonLayout::Compact);
            let selected: Vec<_> = files.selected().map(|(_, file)| file).collect();
            (selected, files.left_out().collect::<Vec<_>>())
        };
        let (all, none) = files(&[]);
        assert_eq!((all.len(), all.last()), (7, Some(&"audit.json")));
        assert!(none.is_empty());
        let (some, rest) = files(&["html", "csv"]);
        assert_eq!(some, ["findings.csv", "report.html"]);
        assert_eq!(rest.len(), 5);
    }
}
