//! Telling people and programs: one file each, one line in the list.
//!
//! The same report gives the same bytes. Strings from traffic and from files of the user are hostile:
//! they are text, never formula, markup or terminal control.

mod csv;
mod dated;
mod draft;
mod evidence;
mod exceptions;
mod folder;
mod json;
mod json_text;
mod line;
mod markdown;
mod page;
mod pcapng;
mod record;
mod sheet;
mod story;
mod text;

use std::io::{self, Write};
use std::path::Path;

use crate::result::AuditResult;

pub use crate::result::{Change, Known, Run, Time, Wishes, community_id};
pub use dated::Dated;
pub use draft::{draft, draft_more, left_out};
pub use evidence::{Evidence, EvidenceFrame};
pub use exceptions::{NotFindings, exceptions_from};
pub use folder::{Folder, FolderError, Torn, fits_manifest, folder_of};
pub use json::write as json;
pub use line::{Message, lines, messages};
pub use page::write_live as live_page;
pub use record::{Recorded, Recorder};
pub use sheet::{SHEETS, Sheet};

/// Writes a report in one format.
pub type Writer = fn(&AuditResult<'_>, &mut dyn Write) -> io::Result<()>;

/// The formats: name for `--format`, file in `--out` (none for the terminal's own), writer.
pub const FORMATS: &[(&str, Option<&str>, Writer)] = &[
    ("text", None, text::write),
    ("csv", Some("findings.csv"), csv::findings),
    ("conversations", Some("conversations.csv"), csv::conversations),
    ("matrix", Some("matrix.csv"), csv::matrix),
    ("hosts", Some("hosts.csv"), csv::hosts),
    ("html", Some("report.html"), page::write),
    ("markdown", None, markdown::write),
    // Last, so that whoever waits for it finds the others complete.
    ("json", Some("audit.json"), json::write),
];

/// The folders that were written into.
#[derive(Clone, Copy, Default, Debug)]
pub struct Places<'a> {
    /// All reports.
    pub reports: Option<&'a Path>,
    /// The frames that findings rest on.
    pub evidence: Option<&'a Path>,
    /// The name of this host, where the terminal makes links of what says that it is one.
    pub links: Option<&'a str>,
}

/// The terminal's summary, with the places of the files, for a terminal of `width` columns.
pub fn summary(
    result: &AuditResult<'_>,
    places: &Places<'_>,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    text::summary(result, places, width, out)
}
