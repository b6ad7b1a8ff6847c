//! Where frames come from: capture files, standard input and live interfaces, as batches of whole records.
//!
//! This room reads; it does not look inside a frame. One [`CaptureReader`] per source fills pooled
//! [`Batch`]es with large reads; record headers are walked here, so that a batch holds whole
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

pub use error::{CaptureError, ReadError};
pub use file_type::capture_kind;
pub use filter::{Filter, link_name};
pub use input::{CaptureInput, expand};
pub use live::{CaptureOptions, Interface, LiveCapture, interfaces, vlan_transparent_filter};
pub use reader::CaptureReader;

use crate::model::Nanos;

/// Bytes asked of the operating system at once. Measured here: reads of this size into pooled
/// buffers cost less than a memory map, whose page faults cost more than the copy.
pub const BLOCK: usize = 256 << 10;

/// The largest record that is believed, in bytes. Above it a length is taken for damage, as
/// libpcap does for ordinary link types.
pub const MAX_RECORD: usize = 256 << 10;

/// One record of a capture: where its bytes lie in the batch, and what the capture says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Packet time in nanoseconds, or [`crate::model::NO_TIME`].
    pub time: Nanos,
    /// Position of the first captured byte in the batch's piece of its source.
    pub offset: u32,
    /// Captured bytes.
    pub cap_len: u32,
    /// Bytes on the wire, as the record says.
    pub wire_len: u32,
    /// Link type, by its registry number.
    pub link: u16,
    /// The interface that saw it, by its number in the section of a pcapng file; else zero.
    pub interface: u16,
}

/// Whole records of one source, with the bytes they stand in. Buffers are pooled: a batch is
/// filled, decoded and filled again.
#[derive(Debug, Default)]
pub struct Batch {
    /// The number of the source in the plan.
    pub source: usize,
    /// The records that lie wholly in the piece of the source that this batch holds.
    pub frames: Vec<Frame>,
    buffer: reader::ReadBuffer,
}

impl Batch {
    /// The captured bytes of `frame`.
    pub fn data(&self, frame: &Frame) -> &[u8] {
        let start = frame.offset as usize;
        &self.buffer.filled()[start..start + frame.cap_len as usize]
    }

    /// Takes everything out.
    fn clear(&mut self) {
        self.frames.clear();
        self.buffer.restart(&[]);
    }

    /// Adds a frame with what was captured of it.
    fn push(&mut self, frame: Frame, data: &[u8]) {
        let offset = self.buffer.filled().len() as u32;
        self.buffer.extend(data);
        self.frames.push(Frame { offset, cap_len: data.len() as u32, ..frame });
    }
}

/// What a format says about a file beside its frames.
#[derive(Clone, Debug, Default)]
struct FileMetadata {
    link_types: Vec<u16>,
    filters: Vec<String>,
    loss: crate::model::Loss,
    /// The stamps have nanoseconds although the file says microseconds.
    hidden_nanos: bool,
    /// Where zeros stood in the place of records.
    zeros: ZeroRun,
    /// Drop counters that cannot be true.
    impossible_drops: u64,
}

/// Zeros in the place of records: what a file system leaves of a file whose writing was broken off.
#[derive(Clone, Copy, Default, Debug)]
struct ZeroRun {
    /// Where the first of them stand, in bytes from the start of the file.
    first: u64,
    /// How many bytes there are.
    bytes: u64,
}

impl ZeroRun {
    /// Adds zeros that stand at a byte of the file.
    fn add(&mut self, at: u64, bytes: u64) {
        if self.bytes == 0 {
            self.first = at;
        }
        self.bytes += bytes;
    }
}

/// What follows zeros that stand where a record is expected.
enum ZeroRunEnd {
    /// Nothing that can be judged yet: from this position on more of the file is needed.
    More(usize),
    /// A record, at this position.
    Record(usize),
    /// Nothing that is a record.
    Nothing,
}

/// Looks for the record that follows zeros beginning at `at`. Its header is `header` bytes long and may itself begin with
/// up to three zeros.
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
        // A header of zeros stays, so that what follows is looked at again.
        first => {
            let end = first.unwrap_or(bytes.len());
            ZeroRunEnd::More(end.saturating_sub(header + OWN).max(at))
        }
    }
}

impl FileMetadata {
    fn link(&mut self, link: u16) {
        if !self.link_types.contains(&link) {
            self.link_types.push(link);
        }
    }
}

/// A capture format: finds whole records in a piece of a file.
trait RecordParser: Send {
    /// Walks the records at the start of `bytes` and appends their frames.
    fn parse_records(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> ParsedRecords;

    /// What the format has said so far beside the frames.
    fn facts(&self) -> FileMetadata;
}

/// How far a walk came.
#[derive(Default, Debug, PartialEq, Eq)]
struct ParsedRecords {
    /// Bytes that are done with; beyond the end of the piece where a block can be skipped unread.
    consumed: usize,
    /// Bytes that the record after them needs to be whole, as far as that is known.
    need: usize,
    /// Why the rest of the file cannot be read.
    damage: Option<String>,
}

/// The bytes of a fixed-size field, or none where `bytes` ends before it does.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Byte order of a file or section.
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
