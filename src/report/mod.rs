//! Telling people and programs: one file each, one line in the list.
//!
//! The same report gives the same bytes. Strings from traffic and from files of the user are hostile:
//! they are text, never formula, markup or terminal control.

mod community_id;
mod csv;
mod dated;
mod draft;
mod evidence;
mod exceptions;
mod folder;
mod json;
mod json_text;
mod known;
mod line;
mod markdown;
mod page;
mod pcapng;
mod record;
mod rows;
mod sheet;
mod story;
mod text;
mod time;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use crate::classify::{Finding, Outcome, Policy};
use crate::model::{Account, Duplicates, InputRecord, Loss, Nanos, Timeline, Transport};
use crate::result::{Teller, ToldFinding};

pub use community_id::community_id;
pub use dated::Dated;
pub use draft::{draft, draft_more, left_out};
pub use evidence::{Evidence, EvidenceFrame};
pub use exceptions::exceptions_from;
pub use folder::{Folder, FolderError, fits_manifest, folder_of};
pub use known::{Change, Known};
pub use line::{Message, lines, messages};
pub use page::write_live as live_page;
pub use record::{Recorded, Recorder};
pub use sheet::{SHEETS, Sheet};
pub use time::Time;

/// Everything that a report tells.
pub struct Report<'a> {
    /// All reports were written into a folder, and may be named.
    pub has_files: bool,
    /// The inputs, in the order of their names.
    pub inputs: &'a [InputRecord],
    /// What became of all frames.
    pub account: &'a Account,
    /// What the captures say they lost.
    pub loss: Loss,
    /// Packets that were seen more than once.
    pub duplicates: Duplicates,
    /// Later fragments whose first fragment is not in the capture: source, destination, protocol.
    pub orphans: &'a BTreeMap<(IpAddr, IpAddr, Transport), u64>,
    /// What the user wanted of the capture.
    pub wishes: &'a Wishes,
    /// The findings of an earlier audit.
    pub known: Option<&'a Known>,
    /// Link types that are not decoded, by name, with their frames.
    pub unknown_links: Vec<(String, u64)>,
    /// Of what there was more than fits into memory, in words.
    pub trimmed: Vec<&'static str>,
    /// Frames that became observations, but of whose content nothing is known: in words, the most frames first.
    pub unread: Vec<(String, u64)>,
    /// When frames were captured.
    pub timeline: &'a Timeline,
    /// Frames whose stamps are doubted: they set no time.
    pub odd_stamps: u64,
    /// The policy; none where nothing was judged.
    pub policy: Option<&'a Policy>,
    /// The judgement; without a policy it holds conversations alone.
    pub outcome: &'a Outcome,
    /// Who tells the findings; nobody where nothing was judged.
    pub teller: Option<Teller<'a>>,
    /// Why the exit code is what it is.
    pub exit_reasons: &'a [String],
}

impl<'a> Report<'a> {
    /// Returns the findings, worst first.
    fn findings(&self) -> &'a [Finding] {
        self.outcome.findings()
    }

    /// Tells a finding; nothing where nothing was judged.
    fn tell(&self, finding: &Finding) -> Option<ToldFinding> {
        self.teller.as_ref().map(|teller| teller.tell(finding))
    }

    /// Returns what was considered for a finding.
    fn trace(&self, finding: &Finding) -> Vec<String> {
        self.teller.as_ref().map_or_else(Vec::new, |teller| teller.trace(finding))
    }
}

/// What the user wanted of the capture.
#[derive(Clone, Default, Debug)]
pub struct Wishes {
    /// The filter expression.
    pub filter: Option<String>,
    /// Frames before it were left out.
    pub since: Option<Nanos>,
    /// Frames from it on were left out.
    pub until: Option<Nanos>,
    /// Expiry dates are held against it.
    pub as_of: Option<Nanos>,
}

/// Writes a report in one format.
pub type Writer = fn(&Report<'_>, &mut dyn Write) -> io::Result<()>;

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
    report: &Report<'_>,
    places: &Places<'_>,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    text::summary(report, places, width, out)
}
