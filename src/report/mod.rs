//! Reports for people and programs. Each report format of an audit has an entry in [`FORMATS`].
//!
//! The same result always gives the same bytes. Strings from traffic and from the user's files are
//! untrusted: they are written as text, never as formulas, markup or terminal control sequences.

mod columns;
mod comparison;
mod csv;
mod draft;
mod evidence;
mod exceptions;
mod findings_summary;
mod folder;
mod json;
mod json_lines;
mod json_text;
mod junit;
mod limits;
mod line;
mod listing;
mod markdown;
mod one_pass;
mod page;
pub(crate) mod pcapng;
mod rule_text;
mod sarif;
mod selection;
mod styles;
mod text;
mod text_table;
mod window_folders;

use std::io::{self, Write};
use std::path::Path;

use crate::result::AuditResult;

pub use crate::result::{AuditRun, Baseline, CaptureSelection, Change, Time, community_id};
pub use comparison::{COMPARISON_FORMATS, ComparedAudit, ComparisonReport};
pub use draft::{draft, draft_more, left_out};
pub use evidence::{EvidenceFrame, FindingEvidence};
pub use exceptions::{ExceptedTraffic, NotFindings, excepted_traffic, exceptions_from};
pub use folder::{
    Folder, FolderError, Torn, digest_of, fits_manifest, folder_of, is_exceptions_report,
    is_leftover,
};
pub use json::write as json;
pub use line::{LineFormat, Message, lines, messages};
pub use listing::{LISTING_FORMATS, RowListing};
pub use one_pass::SharedTable;
pub use page::write_live as live_page;
pub use selection::{JsonLayout, ReportFiles};
pub use text_table::{TABLE_FORMATS, TextTable};
pub use window_folders::WindowFolders;

/// A function that writes a report in one format.
pub type Writer = fn(&AuditResult<'_>, &mut dyn Write) -> io::Result<()>;

/// The input that a report needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// A complete result, with everything that reports show.
    Result,
    /// Only the tables of a result. The first versions stored nothing else.
    Tables,
    /// The tables of a judgement, which do not exist without an inventory.
    Judgement,
}

/// A report format, one of [`FORMATS`].
pub struct Format {
    /// The value for `--format`.
    pub name: &'static str,
    /// The file in `--out`; `None` for formats that are only printed.
    pub file: Option<&'static str>,
    /// The input that the format needs.
    pub needs: Needs,
    /// The function that writes the report.
    pub write: Writer,
    /// The function that writes the report indented, if it has two layouts.
    pub write_indented: Option<Writer>,
    /// The table that the report consists of, if `audit.json` contains the same rows and both files
    /// can be written in one pass.
    pub table: Option<SharedTable>,
    /// Whether the report contains the SHA-256 of each input.
    pub has_digests: bool,
}

impl Format {
    const fn new(
        name: &'static str,
        file: Option<&'static str>,
        needs: Needs,
        write: Writer,
    ) -> Self {
        let (write_indented, table) = (None, None);
        Self { name, file, needs, write, write_indented, table, has_digests: false }
    }

    const fn or_indented(self, write: Writer) -> Self {
        Self { write_indented: Some(write), ..self }
    }

    const fn of_table(self, table: SharedTable) -> Self {
        Self { table: Some(table), ..self }
    }

    const fn with_digests(self) -> Self {
        Self { has_digests: true, ..self }
    }

    /// Writes the report. The layout matters only for JSON.
    pub fn write_as(
        &self,
        layout: JsonLayout,
        result: &AuditResult<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let indented = self.write_indented.filter(|_| layout == JsonLayout::Indented);
        indented.unwrap_or(self.write)(result, out)
    }

    /// Returns the format with this name; `None` if there is none.
    pub fn named(name: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.name == name)
    }
}

/// All report formats.
pub const FORMATS: &[Format] = &[
    Format::new("text", None, Needs::Result, text::write),
    Format::new("csv", Some("findings.csv"), Needs::Judgement, csv::findings)
        .of_table(SharedTable::Findings),
    Format::new("conversations", Some("conversations.csv"), Needs::Tables, csv::conversations)
        .of_table(SharedTable::Conversations),
    Format::new("matrix", Some("matrix.csv"), Needs::Judgement, csv::matrix),
    Format::new("hosts", Some("hosts.csv"), Needs::Judgement, csv::hosts),
    Format::new("exceptions", Some("exceptions.csv"), Needs::Judgement, csv::exceptions),
    Format::new("html", Some("report.html"), Needs::Result, page::write).with_digests(),
    Format::new("markdown", None, Needs::Result, markdown::write).with_digests(),
    Format::new("junit", None, Needs::Judgement, junit::write),
    Format::new("sarif", None, Needs::Judgement, sarif::write),
    Format::new("jsonl", None, Needs::Tables, json_lines::write),
    // `audit.json` is moved into place after all other reports, so that a program that waits for
    // this file finds the others complete.
    Format::new("json", Some("audit.json"), Needs::Result, json::write)
        .or_indented(json::write_indented)
        .with_digests(),
];

/// The output that the summary refers to: folders, each `None` if it was not requested, and the
/// files in the folder of reports.
#[derive(Clone, Default, Debug)]
pub struct OutputPaths<'a> {
    /// The folder of all reports.
    pub reports: Option<&'a Path>,
    /// The files in the folder of reports.
    pub files: ReportFiles,
    /// The folder of the frames that findings are based on.
    pub evidence: Option<&'a Path>,
    /// The name of this host, for hyperlinks; `None` if the terminal does not support hyperlinks
    /// (OSC 8).
    pub links: Option<&'a str>,
}

/// Percent-encodes text for use in the path, the query or the fragment of a URL. Only unreserved
/// characters remain (RFC 3986, section 2.3).
fn url_encoded(text: &str) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => url.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => url.push(char::from(byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

/// Writes the summary, with the paths of the written files. `width` is the width of the terminal in
/// columns; `None` if the output does not go to a terminal. If `listing` is given, it replaces the
/// worst findings.
pub fn summary(
    result: &AuditResult<'_>,
    places: &OutputPaths<'_>,
    listing: Option<&RowListing>,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    text::summary(result, places, listing, width, out)
}
