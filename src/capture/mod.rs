//! Sources of frames: capture files, standard input and live interfaces, read as batches of whole
//! records.
//!
//! This module reads frames but does not look inside them. One [`CaptureReader`] per file or stream
//! fills pooled [`Batch`]es with large reads. Record headers are parsed here, so that a batch holds
//! whole frames and any worker can take any batch.

mod compression;
mod error;
mod file_type;
mod filter;
mod input;
mod link_names;
#[cfg(feature = "bpf")]
mod live;
mod pcap;
mod pcapng;
mod reader;

pub use compression::InputHash;
pub use error::{CaptureError, ReadError};
pub use file_type::capture_kind;
pub use filter::Filter;
pub use input::{CaptureInput, InputContent, Unreadable, expand, expand_with};
pub use link_names::link_name;
#[cfg(feature = "live")]
pub(crate) use live::may_appear;
#[cfg(feature = "bpf")]
pub use live::{CaptureOptions, Interface, LiveCapture, interfaces};
pub use reader::CaptureReader;

use crate::model::Nanos;

/// The number of bytes per read from the operating system. In measurements, reads of this size into
/// pooled buffers cost less than a memory map, whose page faults cost more than the copy.
pub(crate) const BLOCK: usize = 256 << 10;

/// The largest plausible record in bytes. A larger one counts as damage, as in libpcap for ordinary
/// link types.
pub(crate) const MAX_RECORD: usize = 256 << 10;

/// One record of a capture: the position of its bytes in the batch, and its record header fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Packet time in nanoseconds, or [`crate::model::NO_TIME`].
    pub time: Nanos,
    /// Offset of the first captured byte in the bytes of the batch.
    pub offset: u32,
    /// Number of captured bytes.
    pub cap_len: u32,
    /// Number of bytes on the wire, according to the record.
    pub wire_len: u32,
    /// Registry number of the link type (LINKTYPE).
    pub link: u16,
    /// The interface that saw the frame, as its index in the section of a pcapng file; otherwise
    /// zero.
    pub interface: u16,
}

/// Whole records of one source and the bytes that contain them. Batches are reused: each is filled,
/// decoded and filled again.
#[derive(Debug, Default)]
pub struct Batch {
    /// The index of the source in the list of inputs.
    pub source: usize,
    /// The complete records in the part of the source that this batch contains.
    pub frames: Vec<Frame>,
    buffer: reader::ReadBuffer,
}

impl Batch {
    /// Returns the captured bytes of `frame`, which must belong to this batch.
    pub fn data(&self, frame: &Frame) -> &[u8] {
        let start = frame.offset as usize;
        &self.buffer.filled()[start..start + frame.cap_len as usize]
    }

    /// Removes all frames and bytes but keeps the memory.
    #[cfg(feature = "bpf")]
    fn clear(&mut self) {
        self.frames.clear();
        self.buffer.restart(&[]);
    }

    /// Adds a frame with its captured bytes.
    #[cfg(feature = "bpf")]
    fn push(&mut self, frame: Frame, data: &[u8]) {
        let offset = self.buffer.filled().len() as u32;
        self.buffer.extend(data);
        self.frames.push(Frame { offset, cap_len: data.len() as u32, ..frame });
    }
}

/// What a file contains apart from its frames.
#[derive(Clone, Debug, Default)]
struct FileMetadata {
    link_types: Vec<u16>,
    filters: Vec<String>,
    loss: crate::model::Loss,
    /// Whether the timestamps contain nanoseconds although the file declares microseconds.
    hidden_nanos: bool,
    /// Zeros in place of records.
    zeros: ZeroRun,
    /// Number of frames whose timestamps cannot be represented and are ignored.
    impossible_times: u64,
    /// Frames that claim an impossible length on the wire.
    wire_lengths: WrongLengths,
    /// Number of drop counters that are ignored because their values are impossible.
    impossible_drops: u64,
}

/// The longest plausible frame on the wire, in bytes. Linux joins packets to at most 512 KiB, and a
/// USB transfer may have several MiB.
const MAX_WIRE: u32 = 16 << 20;

/// The numbers of frames that claim an impossible length on the wire.
#[derive(Clone, Copy, Default, Debug)]
struct WrongLengths {
    /// Frames with captured bytes that claim a length of zero.
    zero: u64,
    /// Frames that claim another length below the number of captured bytes.
    short: u64,
    /// Frames that claim a length above [`MAX_WIRE`].
    long: u64,
}

impl WrongLengths {
    /// Returns the length of a frame on the wire, according to its record. If the record claims an
    /// impossible length, counts it and returns the number of captured bytes.
    #[inline]
    fn correct(&mut self, wire_len: u32, cap_len: u32) -> u32 {
        if (cap_len..=MAX_WIRE).contains(&wire_len) {
            return wire_len;
        }
        let count = match wire_len {
            0 => &mut self.zero,
            long if long > MAX_WIRE => &mut self.long,
            _ => &mut self.short,
        };
        *count += 1;
        cap_len
    }
}

/// Zeros in place of records. A file system may leave them in a file if writing is interrupted.
#[derive(Clone, Copy, Default, Debug)]
struct ZeroRun {
    /// Offset of the first zero, in bytes from the start of the file.
    first: u64,
    /// Number of zero bytes.
    bytes: u64,
}

impl ZeroRun {
    /// Adds `bytes` zeros at offset `at` in the file.
    fn add(&mut self, at: u64, bytes: u64) {
        if self.bytes == 0 {
            self.first = at;
        }
        self.bytes += bytes;
    }
}

/// What follows a run of zeros where a record was expected.
enum ZeroRunEnd {
    /// Undecided: more of the file is needed, starting at this position.
    More(usize),
    /// A record at this position.
    Record(usize),
    /// Anything other than a record.
    Nothing,
}

/// Searches for the record that follows zeros starting at offset `at`. `header` is the length of a
/// record header in bytes. The header may itself begin with up to three zeros.
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
        // Keep enough zeros for a header, so that the next part examines the end of the zeros
        // again.
        first => {
            let end = first.unwrap_or(bytes.len());
            ZeroRunEnd::More(end.saturating_sub(header + OWN).max(at))
        }
    }
}

impl FileMetadata {
    /// Describes frames whose headers are wrong, and the number of `zeros` in place of records;
    /// `None` if no header is wrong.
    fn wrong_headers(&self, zeros: u64) -> Option<String> {
        let claims = |count: u64| match count {
            1 => "1 frame claims".to_owned(),
            count => format!("{count} frames claim"),
        };
        let mut wrong = Vec::new();
        if self.impossible_times > 0 {
            let claims = claims(self.impossible_times);
            wrong.push(format!("{claims} a time before 1677 or after 2262, which was ignored"));
        }
        let WrongLengths { zero, short, long } = self.wire_lengths;
        let lengths = [
            (zero, "of 0 bytes on the wire"),
            (short, "on the wire below the number of captured bytes"),
            (long, "on the wire above 16 MiB"),
        ];
        for (count, what) in lengths.into_iter().filter(|(count, _)| *count > 0) {
            wrong.push(format!(
                "{} a length {what}; the number of captured bytes was used",
                claims(count)
            ));
        }
        if zeros > 0 && !wrong.is_empty() {
            wrong.push(format!("the input contains zeros in place of records (bytes: {zeros})"));
        }
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }

    fn add_link(&mut self, link: u16) {
        if !self.link_types.contains(&link) {
            self.link_types.push(link);
        }
    }
}

/// A parser for a capture format, which finds the whole records in a part of a file.
trait RecordParser: Send {
    /// Parses the records at the start of `bytes` and appends their frames.
    fn parse_records(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> ParsedRecords;

    /// Returns what is known so far about the file apart from its frames.
    fn metadata(&self) -> FileMetadata;
}

/// How far a parser got in a part of a file.
#[derive(Default, Debug, PartialEq, Eq)]
struct ParsedRecords {
    /// Number of parsed bytes. It exceeds the length of the part if the rest of a block can be
    /// skipped.
    consumed: usize,
    /// Number of bytes that the next record needs to be complete, as far as known.
    need: usize,
    /// Why the rest of the file cannot be read; `None` if it can.
    damage: Option<String>,
}

/// Returns the bytes of a fixed-size field at offset `at`; `None` if `bytes` is too short.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The link type of raw IP in files (LINKTYPE_RAW).
#[cfg(feature = "bpf")]
const RAW_IP: u16 = 101;
/// The number of [`RAW_IP`] in libpcap's API.
#[cfg(feature = "bpf")]
const DLT_RAW: u16 = 12;

/// The byte order of a pcap file or a pcapng section.
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
