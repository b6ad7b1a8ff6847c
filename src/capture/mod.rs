//! Sources of frames: capture files, standard input and live interfaces, read as batches of whole
//! records.
//!
//! This module reads frames but does not look inside them. One [`CaptureReader`] per source fills
//! pooled [`Batch`]es with large reads. Record headers are parsed here, so that a batch holds whole
//! frames and any worker can take any batch.

mod compression;
mod error;
mod file_type;
mod filter;
mod input;
mod live;
mod pcap;
mod pcapng;
mod reader;

pub use compression::InputHash;
pub use error::{CaptureError, ReadError};
pub use file_type::capture_kind;
pub use filter::{Filter, link_name};
pub use input::{CaptureInput, expand};
pub use live::{CaptureOptions, Interface, LiveCapture, interfaces, vlan_transparent_filter};
pub use reader::CaptureReader;

use crate::model::Nanos;

/// Bytes requested from the operating system at once. By measurement, reads of this size into
/// pooled buffers cost less than a memory map, whose page faults cost more than the copy.
pub const BLOCK: usize = 256 << 10;

/// The largest plausible record in bytes. A greater length counts as damage, as in libpcap for
/// ordinary link types.
pub const MAX_RECORD: usize = 256 << 10;

/// One record of a capture: where its bytes are in the batch, and what the capture says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Packet time in nanoseconds, or [`crate::model::NO_TIME`].
    pub time: Nanos,
    /// Position of the first captured byte in the batch's part of the source.
    pub offset: u32,
    /// Captured bytes.
    pub cap_len: u32,
    /// Bytes on the wire, according to the record.
    pub wire_len: u32,
    /// Link type, by registry number.
    pub link: u16,
    /// The interface that saw the frame, by its number in the section of a pcapng file; otherwise
    /// zero.
    pub interface: u16,
}

/// Whole records of one source, with the bytes that contain them. Buffers are pooled: a batch is
/// filled, decoded and filled again.
#[derive(Debug, Default)]
pub struct Batch {
    /// The number of the source in the plan.
    pub source: usize,
    /// The records that lie completely in the part of the source that this batch holds.
    pub frames: Vec<Frame>,
    buffer: reader::ReadBuffer,
}

impl Batch {
    /// Returns the captured bytes of `frame`.
    pub fn data(&self, frame: &Frame) -> &[u8] {
        let start = frame.offset as usize;
        &self.buffer.filled()[start..start + frame.cap_len as usize]
    }

    /// Removes all frames and bytes.
    fn clear(&mut self) {
        self.frames.clear();
        self.buffer.restart(&[]);
    }

    /// Adds a frame with its captured bytes.
    fn push(&mut self, frame: Frame, data: &[u8]) {
        let offset = self.buffer.filled().len() as u32;
        self.buffer.extend(data);
        self.frames.push(Frame { offset, cap_len: data.len() as u32, ..frame });
    }
}

/// What a format says about a file apart from its frames.
#[derive(Clone, Debug, Default)]
struct FileMetadata {
    link_types: Vec<u16>,
    filters: Vec<String>,
    loss: crate::model::Loss,
    /// Whether the timestamps contain nanoseconds although the file declares microseconds.
    hidden_nanos: bool,
    /// Zeros in place of records.
    zeros: ZeroRun,
    /// The number of drop counters that cannot be true.
    impossible_drops: u64,
}

/// Zeros in place of records, which a file system leaves in a file if its writing was interrupted.
#[derive(Clone, Copy, Default, Debug)]
struct ZeroRun {
    /// Where the first zeros are, in bytes from the start of the file.
    first: u64,
    /// How many bytes of zeros there are.
    bytes: u64,
}

impl ZeroRun {
    /// Adds zeros at a position in the file.
    fn add(&mut self, at: u64, bytes: u64) {
        if self.bytes == 0 {
            self.first = at;
        }
        self.bytes += bytes;
    }
}

/// What follows zeros in place of a record.
enum ZeroRunEnd {
    /// Undecided: more of the file is needed, starting at this position.
    More(usize),
    /// A record at this position.
    Record(usize),
    /// Anything other than a record.
    Nothing,
}

/// Looks for the record that follows zeros starting at `at`. The header of the record has `header`
/// bytes and may itself begin with up to three zeros.
fn after_zeros(
    bytes: &[u8],
    at: usize,
    header: usize,
    is_record: impl Fn(usize) -> bool,
) -> ZeroRunEnd {
    const OWN: usize = 3;
    let first = bytes[at..].iter().position(|byte| *byte != 0).map(|zeros| at + zeros);
    match first {
        Some(first) if bytes.len() - first >= header => {
            let mut starts = (0..=OWN.min(first - at)).map(|own| first - own);
            starts.find(|start| is_record(*start)).map_or(ZeroRunEnd::Nothing, ZeroRunEnd::Record)
        }
        // Keep enough zeros for a header, so that what follows is examined again.
        first => {
            let end = first.unwrap_or(bytes.len());
            ZeroRunEnd::More(end.saturating_sub(header + OWN).max(at))
        }
    }
}

impl FileMetadata {
    fn add_link(&mut self, link: u16) {
        if !self.link_types.contains(&link) {
            self.link_types.push(link);
        }
    }
}

/// A capture format that finds whole records in a part of a file.
trait RecordParser: Send {
    /// Parses the records at the start of `bytes` and appends their frames.
    fn parse_records(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> ParsedRecords;

    /// Returns what the format has said so far apart from the frames.
    fn metadata(&self) -> FileMetadata;
}

/// How far a parser came.
#[derive(Default, Debug, PartialEq, Eq)]
struct ParsedRecords {
    /// Bytes that are done. The number exceeds the part if a block can be skipped unread.
    consumed: usize,
    /// Bytes that the next record needs to be complete, as far as known.
    need: usize,
    /// Why the rest of the file cannot be read.
    damage: Option<String>,
}

/// Returns the bytes of a fixed-size field; `None` if `bytes` ends before it does.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The link type of raw IP in files, and its number in libpcap's interface.
const RAW_IP: u16 = 101;
const DLT_RAW: u16 = 12;

/// The byte order of a file or section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }
}
