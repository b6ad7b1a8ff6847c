//! Writes the frames that findings are based on: a pcapng file for each finding that has frames,
//! and an index of all findings.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use csv::{Terminator, WriterBuilder};
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use sha2::{Digest, Sha256};

use super::folder::{Folder, FolderError, digest_of};
use super::pcapng::{self, plain};
use crate::model::{NO_TIME, Nanos, escape_control, escape_csv_formula, hex};
use crate::result::ReportedFinding;

/// The name of the index in an evidence folder.
const INDEX: &str = "evidence.csv";

/// The columns of the index.
const COLUMNS: [&str; 9] =
    ["id", "severity", "verdict", "code", "file", "frames", "sha256", "message", "note"];
/// The indexes of the columns that contain the name of a file and its digest.
const FILE: usize = 4;
const DIGEST: usize = 6;

/// The maximum length of a comment in bytes, without the ellipsis. The format allows 65,535 bytes
/// (pcapng, section 3.5).
const MAX_COMMENT: usize = 16 << 10;

/// The frames that a finding is based on.
#[derive(Clone, Default, Debug)]
pub struct FindingEvidence {
    /// The frames in order of time.
    pub frames: Vec<EvidenceFrame>,
    /// A note on what was left out, or why there are no frames. Empty if neither applies.
    pub note: String,
}

/// A captured frame, and a description of what it shows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EvidenceFrame {
    /// Packet time in nanoseconds, or [`NO_TIME`].
    pub time: Nanos,
    /// Link type (number in the LINKTYPE_ registry).
    pub link: u16,
    /// Length on the wire in bytes.
    pub wire_len: u32,
    /// The bytes of the frame, possibly truncated.
    pub data: Vec<u8>,
    /// A description of what the frame shows.
    pub shows: String,
}

impl Folder {
    /// Creates a folder for evidence. Once the new evidence is in place, the evidence of an earlier
    /// audit is removed: the files that its index lists. Returns an error if the folder contains
    /// any other file, or a listed file that was changed.
    pub fn for_evidence(target: &Path) -> Result<Self, FolderError> {
        let failed = |error| FolderError { path: target.to_owned(), error };
        let mut earlier = Vec::new();
        if target.is_dir() {
            let listed = listed_files(&target.join(INDEX));
            for entry in std::fs::read_dir(target).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if Self::is_staging(&name) {
                    continue;
                }
                let found = digest_of(&entry.path()).ok();
                let Some(digest) = found.filter(|digest| listed.get(&name) == Some(digest)) else {
                    let name = escape_control(&name);
                    return Err(failed(io::Error::other(format!(
                        "the folder contains {name}, which no earlier audit wrote or which has changed since; --evidence needs a separate folder"
                    ))));
                };
                earlier.push((name, digest));
            }
        }
        let mut folder = Self::prepare(target)?;
        folder.set_replaced(earlier);
        Ok(folder)
    }

    /// Writes the evidence of findings to the staging folder.
    pub fn stage_evidence(
        &mut self,
        all: impl Iterator<Item = (ReportedFinding, Vec<String>, FindingEvidence)>,
    ) -> Result<(), FolderError> {
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        for (finding, trace, evidence) in all {
            let mut file = String::new();
            let mut digest = String::new();
            if !evidence.frames.is_empty() {
                file = format!("{}.pcapng", finding.id);
                let bytes = evidence_file(&finding, &trace, &evidence)
                    .map_err(|error| FolderError { path: self.place(&file), error })?;
                digest = hex(&Sha256::digest(&bytes));
                self.stage(&file, |out| out.write_all(&bytes))?;
            }
            rows.push([
                finding.id,
                finding.severity.to_string(),
                finding.verdict.to_string(),
                finding.code.to_string(),
                file,
                evidence.frames.len().to_string(),
                digest,
                finding.message,
                evidence.note,
            ]);
        }
        let bytes =
            index_file(rows).map_err(|error| FolderError { path: self.place(INDEX), error })?;
        self.stage(INDEX, |out| out.write_all(&bytes))
    }
}

/// Returns the content of the index. Its last line contains the digest of the lines above it.
fn index_file(rows: Vec<[String; COLUMNS.len()]>) -> io::Result<Vec<u8>> {
    let mut index = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    for row in rows {
        index.write_record(row.iter().map(|text| escape_csv_formula(text).into_owned()))?;
    }
    let mut bytes = index.into_inner().map_err(|error| error.into_error())?;
    let seal = seal(&bytes);
    bytes.extend(seal.bytes());
    Ok(bytes)
}

/// Returns the last line of an index, which contains the SHA-256 of the lines above it.
fn seal(above: &[u8]) -> String {
    let mut row = [""; COLUMNS.len()];
    let digest = hex(&Sha256::digest(above));
    (row[FILE], row[DIGEST]) = (INDEX, &digest);
    row.join(",") + "\r\n"
}

/// Returns the files that an index lists, and the index itself, with their SHA-256. The map is
/// empty if the file is not an index or was changed.
fn listed_files(index: &Path) -> BTreeMap<String, String> {
    let nothing = BTreeMap::new();
    let Ok((digest, bytes)) = digest_of(index).and_then(|d| Ok((d, std::fs::read(index)?))) else {
        return nothing;
    };
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    if reader.headers().map_or(true, |header| *header != COLUMNS[..]) {
        return nothing;
    }
    let length = seal(&[]).len();
    let Some((above, last)) = bytes.len().checked_sub(length).map(|at| bytes.split_at(at)) else {
        return nothing;
    };
    if last != seal(above).as_bytes() {
        return nothing;
    }
    let files = reader.records().flatten().filter(|row| !row[FILE].is_empty());
    let mut listed: BTreeMap<String, String> =
        files.map(|row| (row[FILE].to_owned(), row[DIGEST].to_owned())).collect();
    listed.insert(INDEX.to_owned(), digest);
    listed
}

/// Returns the pcapng file of one finding. It has one interface per link type, and a comment on
/// each frame that says what the frame shows.
fn evidence_file(
    finding: &ReportedFinding,
    trace: &[String],
    evidence: &FindingEvidence,
) -> io::Result<Vec<u8>> {
    let ReportedFinding { id, verdict, code, severity, message, action, .. } = finding;
    let about = format!("finding {id} ({verdict}/{code}, {severity})");
    let mut lines = vec![format!("{about}: {message}"), action.clone()];
    lines.extend(trace.iter().cloned());
    lines.extend((!evidence.note.is_empty()).then(|| evidence.note.clone()));
    let mut file = pcapng::begin(Vec::new(), Some(&comment(&lines.join("\n"))))?;
    let mut links: Vec<u16> = evidence.frames.iter().map(|frame| frame.link).collect();
    links.sort_unstable();
    links.dedup();
    for link in &links {
        pcapng::add_interface(&mut file, *link, 0, None)?;
    }
    for frame in &evidence.frames {
        let timed = if frame.time == NO_TIME { "; without a timestamp in the capture" } else { "" };
        let text = comment(&format!("{about}: {}{timed}", frame.shows));
        file.write_pcapng_block(EnhancedPacketBlock {
            interface_id: links.partition_point(|link| *link < frame.link) as u32,
            timestamp: Duration::from_nanos(u64::try_from(frame.time).unwrap_or_default()),
            original_len: frame.wire_len,
            data: Cow::Borrowed(&frame.data),
            options: vec![EnhancedPacketOption::Comment(text.into())],
        })
        .map_err(plain)?;
    }
    Ok(file.into_inner())
}

/// Escapes control characters other than line feeds. If the text is then longer than
/// [`MAX_COMMENT`], truncates it and appends an ellipsis.
fn comment(text: &str) -> String {
    let mut text = text.split('\n').map(escape_control).collect::<Vec<_>>().join("\n");
    if text.len() > MAX_COMMENT {
        let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_COMMENT).last();
        text.truncate(end.unwrap_or_default());
        text.push_str(" ...");
    }
    text
}
