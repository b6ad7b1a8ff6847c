//! The pcap file format (draft-ietf-opsawg-pcap): both byte orders, timestamps in microseconds and
//! nanoseconds, and the older variant with a longer record header (magic 0xa1b2cd34).

use super::{
    ByteOrder, FileMetadata, Frame, MAX_RECORD, ParsedRecords, RecordParser, WrongLengths, ZeroRun,
    ZeroRunEnd, after_zeros, field,
};
use crate::model::{Nanos, SECOND};

/// Length of the file header in bytes.
pub(super) const FILE_HEADER: usize = 24;

/// The state of parsing a pcap file after its header.
pub(super) struct Pcap {
    order: ByteOrder,
    /// Whether the fractions of seconds are read as nanoseconds.
    nanos: bool,
    /// Whether the magic number declares nanoseconds.
    declares_nanos: bool,
    /// If the magic number declares microseconds, the number of records whose fractions are below a
    /// million or at least a billion, and the number of the others, whose fractions may be
    /// nanoseconds.
    fractions: [u64; 2],
    /// Whether an earlier file of a concatenation contains nanoseconds although its magic number
    /// declares microseconds.
    hid_nanos_before: bool,
    header_len: usize,
    link: u16,
    /// The link types of all file headers. A concatenation of several files has several headers.
    links: Vec<u16>,
    magic: [u8; 4],
    lengths: LengthOrder,
    /// Offset in the file of the part that is being parsed.
    before: u64,
    zeros: ZeroRun,
    /// Records that claim an impossible length on the wire.
    wire_lengths: WrongLengths,
    /// Timestamp of the last record, in whole seconds.
    last: Option<u32>,
}

/// The order of the two lengths in a record header. Old versions of libpcap wrote them in reverse
/// order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LengthOrder {
    /// The captured length first.
    Captured,
    /// The length on the wire first, as before version 2.3.
    Wire,
    /// Either order, as in files of version 2.3. The smaller one is the captured length.
    Either,
}

impl LengthOrder {
    /// Returns the order in files of a version (major, minor), as in libpcap's sf-pcap.c.
    fn of(version: [u16; 2]) -> Self {
        match version {
            [2, 0..=2] | [543, 0] => Self::Wire,
            [2, 3] => Self::Either,
            _ => Self::Captured,
        }
    }

    /// Returns the captured length and the length on the wire, in bytes.
    fn read(self, first: u32, second: u32) -> (u32, u32) {
        match self {
            Self::Wire => (second, first),
            Self::Either if first > second => (second, first),
            Self::Captured | Self::Either => (first, second),
        }
    }
}

impl Pcap {
    /// Returns whether a file that consists of these bytes is a pcap file that ends inside its file
    /// header.
    pub fn is_cut(start: &[u8]) -> bool {
        let mut header = [0; FILE_HEADER];
        match header.get_mut(..start.len()) {
            Some(room) if start.len() >= 4 => room.copy_from_slice(start),
            _ => return false,
        }
        Self::new(&header).is_some()
    }

    /// Reads the file header. Returns `None` if `header` does not start a pcap file.
    pub fn new(header: &[u8]) -> Option<Self> {
        let magic: [u8; 4] = field(header, 0)?;
        let (order, magic) = match u32::from_le_bytes(magic) {
            le @ (0xa1b2_c3d4 | 0xa1b2_3c4d | 0xa1b2_cd34) => (ByteOrder::Little, le),
            _ => (ByteOrder::Big, u32::from_be_bytes(magic)),
        };
        let (nanos, header_len) = match magic {
            0xa1b2_c3d4 => (false, 16),
            0xa1b2_3c4d => (true, 16),
            0xa1b2_cd34 => (false, 24),
            _ => return None,
        };
        // The upper six bits describe the frame check sequence and do not belong to the link type.
        let link = order.u32(field(header, 20)?) & 0x03ff_ffff;
        let link = u16::try_from(link).unwrap_or(u16::MAX);
        let magic = field(header, 0)?;
        Some(Self {
            order,
            nanos,
            declares_nanos: nanos,
            fractions: [0; 2],
            wire_lengths: WrongLengths::default(),
            hid_nanos_before: false,
            header_len,
            link,
            links: vec![link],
            magic,
            lengths: LengthOrder::of(
                [4, 6].map(|at| order.u16(field(header, at).unwrap_or_default())),
            ),
            before: FILE_HEADER as u64,
            zeros: ZeroRun::default(),
            last: None,
        })
    }

    /// Parses a file header that is found in place of a record, as in concatenated files. If it
    /// were read as a record header, the record would be empty and date from the year 2055. Returns
    /// `None` if `bytes` does not start with a header of version 2.4 with the same magic number.
    fn appended_file(&self, bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..FILE_HEADER).filter(|b| b.starts_with(&self.magic))?;
        let version = [4, 6].map(|at| self.order.u16(field(header, at).unwrap_or_default()));
        (version == [2, 4]).then(|| Self::new(header)).flatten()
    }
}

/// Microseconds per second.
const MICROSECONDS: Nanos = 1_000_000;

/// The length in bytes of the fields that all variants of a record header start with.
const RECORD_FIELDS: usize = 16;

/// The fields of a record header.
struct RecordHeader {
    seconds: u32,
    fraction: u32,
    cap_len: u32,
    wire_len: u32,
}

impl Pcap {
    /// Reads the record header at offset `at`, if it is complete.
    fn record_header(&self, bytes: &[u8], at: usize) -> Option<RecordHeader> {
        Some(self.parse_header(bytes.get(at..at + self.header_len)?.first_chunk()?))
    }

    #[inline]
    fn parse_header(&self, header: &[u8; RECORD_FIELDS]) -> RecordHeader {
        let word = |at: usize| {
            self.order.u32([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (cap_len, wire_len) = self.lengths.read(word(8), word(12));
        RecordHeader { seconds: word(0), fraction: word(4), cap_len, wire_len }
    }

    /// Returns whether the bytes that follow zeros are a record. Its time must be within a year of
    /// the previous record, its fraction of a second and its lengths must be plausible, and another
    /// such record or more zeros must follow, as far as `bytes` extends.
    fn is_record(&self, bytes: &[u8], at: usize) -> bool {
        const YEAR: u32 = 366 * 24 * 3600;
        let is_like_one = |at: usize| {
            self.record_header(bytes, at).is_none_or(|record| {
                let near = self.last.is_none_or(|last| last.abs_diff(record.seconds) < YEAR);
                let is_plausible = (1..=MAX_RECORD as u32).contains(&record.cap_len);
                let fraction = Nanos::from(record.fraction);
                let per_second = if self.nanos { SECOND } else { MICROSECONDS };
                near && is_plausible && record.wire_len >= record.cap_len && fraction < per_second
            })
        };
        let next = self.record_header(bytes, at).map(|r| at + self.header_len + r.cap_len as usize);
        let follows = |next: usize| {
            let zeros = bytes.get(next..next + self.header_len);
            zeros.is_some_and(|header| header.iter().all(|b| *b == 0)) || is_like_one(next)
        };
        is_like_one(at) && next.is_some_and(follows)
    }

    /// Returns whether the timestamps contain nanoseconds although the magic number declares
    /// microseconds.
    fn hides_nanos(&self) -> bool {
        self.nanos && !self.declares_nanos
    }

    /// Returns the time of a record. Excess microseconds carry over to the seconds.
    #[inline]
    fn time_of(&self, seconds: u32, fraction: u32) -> Nanos {
        let unit = if self.nanos { 1 } else { 1_000 };
        Nanos::from(seconds) * SECOND + Nanos::from(fraction) * unit
    }

    /// Counts the fraction of a record. Returns whether it changes how fractions are read.
    ///
    /// Some writers declare microseconds and write nanoseconds. Nearly all of their fractions are
    /// at least one million. A single such fraction may also be a wrong or a badly rounded number
    /// of microseconds, so the majority of all records so far decides.
    #[inline]
    fn note_fraction(&mut self, fraction: u32) -> bool {
        if self.declares_nanos {
            return false;
        }
        let is_nanos = (MICROSECONDS..SECOND).contains(&fraction.into());
        self.fractions[usize::from(is_nanos)] += 1;
        let nanos = self.fractions[1] > self.fractions[0];
        std::mem::replace(&mut self.nanos, nanos) != nanos
    }

    /// Computes the times of frames of the current file again.
    fn restamp(&self, bytes: &[u8], frames: &mut [Frame]) {
        for frame in frames {
            let header = (frame.offset as usize).checked_sub(self.header_len);
            if let Some(record) = header.and_then(|at| self.record_header(bytes, at)) {
                frame.time = self.time_of(record.seconds, record.fraction);
            }
        }
    }

    /// Parses records. `first` is the first frame of the current file in `frames`, and `changed`
    /// becomes true if the times of frames from there on have to be computed again.
    fn parse_part(
        &mut self,
        bytes: &[u8],
        frames: &mut Vec<Frame>,
        first: &mut usize,
        changed: &mut bool,
    ) -> ParsedRecords {
        let mut at = 0;
        while let Some(header) = bytes.get(at..at + self.header_len) {
            let Some(fields) = header.first_chunk() else { break };
            if header.starts_with(&self.magic) {
                if bytes.len() < at + FILE_HEADER {
                    return ParsedRecords { consumed: at, need: FILE_HEADER, damage: None };
                }
                if let Some(mut next) = self.appended_file(&bytes[at..]) {
                    if std::mem::take(changed) {
                        self.restamp(bytes, &mut frames[*first..]);
                    }
                    next.links.append(&mut self.links);
                    next.hid_nanos_before = self.hid_nanos_before || self.hides_nanos();
                    next.wire_lengths = self.wire_lengths;
                    (next.before, next.zeros) = (self.before, self.zeros);
                    *self = next;
                    at += FILE_HEADER;
                    *first = frames.len();
                    continue;
                }
            }
            if *fields == [0; RECORD_FIELDS] && header.iter().all(|byte| *byte == 0) {
                let (next, is_more) = match after_zeros(bytes, at, self.header_len, |place| {
                    self.is_record(bytes, place)
                }) {
                    ZeroRunEnd::Record(next) => (next, false),
                    ZeroRunEnd::More(next) => (next, true),
                    ZeroRunEnd::Nothing => {
                        let damage = "no record follows the zeros".to_owned();
                        return ParsedRecords { consumed: at, need: 0, damage: Some(damage) };
                    }
                };
                self.zeros.add(self.before + at as u64, (next - at) as u64);
                at = next;
                if is_more {
                    break;
                }
                continue;
            }
            let RecordHeader { seconds, fraction, cap_len, wire_len } = self.parse_header(fields);
            if cap_len as usize > MAX_RECORD {
                let damage = format!("a record claims an impossible length of {cap_len} bytes");
                return ParsedRecords { consumed: at, need: 0, damage: Some(damage) };
            }
            let start = at + self.header_len;
            let end = start + cap_len as usize;
            if bytes.len() < end {
                return ParsedRecords { consumed: at, need: end - at, damage: None };
            }
            *changed |= self.note_fraction(fraction);
            frames.push(Frame {
                time: self.time_of(seconds, fraction),
                offset: start as u32,
                cap_len,
                wire_len: self.wire_lengths.correct(wire_len, cap_len),
                link: self.link,
                interface: 0,
            });
            self.last = Some(seconds);
            at = end;
        }
        ParsedRecords { consumed: at, need: self.header_len, damage: None }
    }
}

impl RecordParser for Pcap {
    fn parse_records(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> ParsedRecords {
        let mut first = frames.len();
        let mut changed = false;
        let parsed = self.parse_part(bytes, frames, &mut first, &mut changed);
        if changed {
            self.restamp(bytes, &mut frames[first..]);
        }
        self.before += parsed.consumed as u64;
        parsed
    }

    fn metadata(&self) -> FileMetadata {
        let mut metadata = FileMetadata::default();
        self.links.iter().for_each(|link| metadata.add_link(*link));
        metadata.hidden_nanos = self.hid_nanos_before || self.hides_nanos();
        metadata.zeros = self.zeros;
        metadata.wire_lengths = self.wire_lengths;
        metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Returns the header of a file that declares microseconds.
    fn header() -> Vec<u8> {
        bytes(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, 1])
    }

    /// Returns an empty record seven seconds after the start of 1970, plus a fraction.
    fn record(fraction: u32) -> Vec<u8> {
        bytes(&[7, fraction, 0, 60])
    }

    #[test]
    fn hidden_nanoseconds_apply_to_all_records_of_their_file() {
        let header = header();
        let mut pcap = Pcap::new(&header).unwrap();
        // The first file contains microseconds. The appended one shows only in its third record
        // that it contains nanoseconds.
        let others = [record(2_000_000), record(3_000_000)].concat();
        let records = [record(5), header, record(10), others].concat();
        let mut frames = Vec::new();
        let parsed = pcap.parse_records(&records, &mut frames);
        assert_eq!(parsed.damage, None);
        let times: Vec<Nanos> = frames.iter().map(|frame| frame.time - 7 * SECOND).collect();
        assert_eq!(times, [5_000, 10, 2_000_000, 3_000_000]);
        assert!(pcap.metadata().hidden_nanos);
    }

    #[test]
    fn single_fractions_above_a_second_carry_over() {
        let header = header();
        let fractions = [1_500_000, 999_999, 5, 1_000_000, 6, 1_000_000_000, 7];
        let records: Vec<u8> = fractions.into_iter().flat_map(record).collect();
        // The result does not depend on how much is parsed at a time.
        for step in [records.len(), 20] {
            let mut pcap = Pcap::new(&header).unwrap();
            let mut times: Vec<Nanos> = Vec::new();
            let mut from = 0;
            for to in (step..=records.len()).step_by(step).chain([records.len()]) {
                let mut frames = Vec::new();
                from += pcap.parse_records(&records[from..to], &mut frames).consumed;
                times.extend(frames.iter().map(|frame| frame.time - 7 * SECOND));
            }
            let carried = fractions.map(|fraction| Nanos::from(fraction) * 1_000);
            // The first record alone looks like nanoseconds until the second one has been read.
            assert_eq!(times[1..], carried[1..], "{step}");
            assert!(!pcap.metadata().hidden_nanos);
        }
    }
}
