//! The pcapng file format (draft-ietf-opsawg-pcapng): several sections and interfaces, where each
//! interface has its own link type and timestamp resolution. The parser also collects the capture
//! filters and the loss that the file reports.

use std::collections::BTreeMap;

use super::{
    ByteOrder, FileMetadata, Frame, MAX_RECORD, ParsedRecords, RecordParser, ZeroRunEnd,
    after_zeros, field,
};
use crate::model::{Loss, Merge, NO_TIME, Nanos, SECOND};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// Options of an Interface Description Block: timestamp resolution (if_tsresol), capture filter
/// (if_filter) and timestamp offset in seconds (if_tsoffset).
const TIME_RESOLUTION: u16 = 9;
const FILTER: u16 = 11;
const TIME_OFFSET: u16 = 14;
/// The option of an Enhanced Packet Block that counts packets lost before it (epb_dropcount).
const DROP_COUNT: u16 = 4;
/// Options of an Interface Statistics Block: packets received (isb_ifrecv), and packets dropped by
/// the interface (isb_ifdrop) and by the operating system (isb_osdrop).
const RECEIVED: u16 = 4;
const INTERFACE_DROPS: u16 = 5;
const SYSTEM_DROPS: u16 = 7;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// The length of the shortest block in bytes: type, length, and the length repeated.
const MIN_BLOCK: usize = 12;
/// The length of the largest block that is held in memory, in bytes. A larger block counts as
/// damage if it contains a packet or describes an interface; otherwise it is skipped.
const MAX_BLOCK: usize = 2 * MAX_RECORD;

/// The state of parsing a pcapng file.
pub(super) struct PcapNg {
    order: ByteOrder,
    interfaces: Vec<InterfaceBlock>,
    section: u32,
    metadata: FileMetadata,
    /// Offset in the file of the part that is being parsed.
    before: u64,
    /// The counters of each interface. The key is the section and the index of the interface in it.
    counters: BTreeMap<(u32, u32), InterfaceCounters>,
}

/// Counts from which the loss of an interface is computed.
#[derive(Default)]
struct InterfaceCounters {
    /// The highest counts in the statistics blocks of the interface. The counts are cumulative.
    statistics: Loss,
    /// Number of packets of the interface in the file.
    packets: u64,
    /// Number of packets that the packet blocks of the interface report as lost.
    gaps: u64,
}

impl InterfaceCounters {
    fn loss(&self) -> Loss {
        let dropped = self.statistics.dropped.max(self.gaps);
        let received = match self.statistics.received {
            // If the file does not contain the number of received packets, use the sum of captured
            // and lost packets.
            0 if dropped > 0 => self.packets.saturating_add(dropped),
            received => received,
        };
        Loss { received, dropped }
    }
}

struct InterfaceBlock {
    link: u16,
    snaplen: u32,
    resolution: Resolution,
    offset: Nanos,
}

/// The number of timestamp units per second.
#[derive(Clone, Copy)]
enum Resolution {
    PowerOfTen(u32),
    PowerOfTwo(u32),
}

impl Resolution {
    fn new(value: u8) -> Self {
        let exponent = u32::from(value & 0x7f);
        if value & 0x80 == 0 { Self::PowerOfTen(exponent) } else { Self::PowerOfTwo(exponent) }
    }

    /// Converts `units` to nanoseconds. Returns zero if the resolution is too fine for the
    /// arithmetic.
    fn nanos(self, units: u64) -> i128 {
        let nanos = i128::from(units) * i128::from(SECOND);
        match self {
            Self::PowerOfTen(exponent) => 10i128.checked_pow(exponent).map_or(0, |per| nanos / per),
            Self::PowerOfTwo(exponent) => nanos.checked_shr(exponent).unwrap_or(0),
        }
    }
}

/// Why a complete block cannot be parsed.
#[derive(Debug, thiserror::Error)]
enum BlockError {
    #[error("a block of type {0:#x} is too short for its fields")]
    Short(u32),
    #[error("a Simple Packet Block precedes all interface descriptions")]
    NoInterface,
    #[error("a packet names interface {0}, which the section does not describe")]
    UnknownInterface(u32),
    #[error("a packet claims {0} captured bytes, more than its block contains")]
    Length(u32),
}

impl PcapNg {
    /// Creates a parser; `None` if `start` does not begin with a Section Header Block.
    pub fn new(start: &[u8]) -> Option<Self> {
        let kind: [u8; 4] = field(start, 0)?;
        let magic: [u8; 4] = field(start, 8)?;
        let known = [magic, [magic[3], magic[2], magic[1], magic[0]]]
            .iter()
            .any(|m| u32::from_be_bytes(*m) == BYTE_ORDER_MAGIC);
        (u32::from_be_bytes(kind) == SECTION && known).then_some(Self {
            order: ByteOrder::Little,
            interfaces: Vec::new(),
            section: 0,
            metadata: FileMetadata::default(),
            before: 0,
            counters: BTreeMap::new(),
        })
    }

    /// Processes one whole block. `at` is the offset of its body in the batch.
    fn read_block(
        &mut self,
        kind: u32,
        body: &[u8],
        at: usize,
        frames: &mut Vec<Frame>,
    ) -> Result<(), BlockError> {
        let body = BlockBody { kind, order: self.order, bytes: body };
        match kind {
            INTERFACE => self.read_interface(body),
            ENHANCED_PACKET | OLD_PACKET => self.read_packet(body, at, frames),
            SIMPLE_PACKET => self.read_simple_packet(body, at, frames),
            STATISTICS => self.read_statistics(body),
            _ => Ok(()),
        }
    }

    fn read_interface(&mut self, body: BlockBody<'_>) -> Result<(), BlockError> {
        let mut interface = InterfaceBlock {
            link: body.u16(0)?,
            snaplen: body.u32(4)?,
            resolution: Resolution::PowerOfTen(6),
            offset: 0,
        };
        for (code, value) in body.options(8) {
            match (code, value) {
                (TIME_RESOLUTION, [resolution, ..]) => {
                    interface.resolution = Resolution::new(*resolution);
                }
                (FILTER, [form, filter @ ..]) => {
                    let filter = describe_filter(*form, filter);
                    // An empty expression does not filter anything.
                    if !filter.trim().is_empty() && !self.metadata.filters.contains(&filter) {
                        self.metadata.filters.push(filter);
                    }
                }
                (TIME_OFFSET, value) => {
                    let seconds = field(value, 0).map_or(0, |b| body.order.u64(b) as Nanos);
                    interface.offset = seconds.saturating_mul(SECOND);
                }
                _ => {}
            }
        }
        self.metadata.add_link(interface.link);
        self.interfaces.push(interface);
        Ok(())
    }

    /// Processes an Enhanced Packet Block or the obsolete Packet Block.
    fn read_packet(
        &mut self,
        body: BlockBody<'_>,
        at: usize,
        frames: &mut Vec<Frame>,
    ) -> Result<(), BlockError> {
        const HEADER: usize = 20;
        let is_enhanced = body.kind == ENHANCED_PACKET;
        let number = if is_enhanced { body.u32(0)? } else { u32::from(body.u16(0)?) };
        let interface =
            self.interfaces.get(number as usize).ok_or(BlockError::UnknownInterface(number))?;
        let units = u64::from(body.u32(4)?) << 32 | u64::from(body.u32(8)?);
        let nanos = interface.resolution.nanos(units) + i128::from(interface.offset);
        let cap_len = body.u32(12)?;
        if cap_len as usize > body.bytes.len().saturating_sub(HEADER) {
            return Err(BlockError::Length(cap_len));
        }
        let wire_len = body.u32(16)?;
        let time =
            Nanos::try_from(nanos).ok().filter(|time| (NO_TIME + 1..Nanos::MAX).contains(time));
        self.metadata.impossible_times += u64::from(time.is_none());
        frames.push(Frame {
            time: time.unwrap_or(NO_TIME),
            offset: (at + HEADER) as u32,
            cap_len,
            wire_len: self.metadata.wire_lengths.correct(wire_len, cap_len),
            link: interface.link,
            interface: number as u16,
        });
        let counters = self.counters.entry((self.section, number)).or_default();
        counters.packets += 1;
        if is_enhanced {
            let end = HEADER + (cap_len as usize).next_multiple_of(4);
            for (code, value) in body.options(end) {
                if let (DROP_COUNT, Some(count)) = (code, field(value, 0)) {
                    match plausible_drops(body.order.u64(count)) {
                        Some(count) => counters.gaps = counters.gaps.saturating_add(count),
                        None => self.metadata.impossible_drops += 1,
                    }
                }
            }
        } else {
            // The obsolete block has a 16-bit drop counter, in which all ones mean unknown.
            let lost = body.order.u16(field(body.bytes, 2).unwrap_or_default());
            counters.gaps += u64::from(if lost == u16::MAX { 0 } else { lost });
        }
        Ok(())
    }

    fn read_simple_packet(
        &mut self,
        body: BlockBody<'_>,
        at: usize,
        frames: &mut Vec<Frame>,
    ) -> Result<(), BlockError> {
        const HEADER: usize = 4;
        let interface = self.interfaces.first().ok_or(BlockError::NoInterface)?;
        let wire_len = body.u32(0)?;
        let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let held = body.bytes.len().saturating_sub(HEADER) as u32;
        let cap_len = wire_len.min(limit).min(held);
        frames.push(Frame {
            time: NO_TIME,
            offset: (at + HEADER) as u32,
            cap_len,
            wire_len: self.metadata.wire_lengths.correct(wire_len, cap_len),
            link: interface.link,
            interface: 0,
        });
        Ok(())
    }

    fn read_statistics(&mut self, body: BlockBody<'_>) -> Result<(), BlockError> {
        let number = body.u32(0)?;
        let counters = self.counters.entry((self.section, number)).or_default();
        let loss = &mut counters.statistics;
        let mut interface_drops = 0;
        let mut system_drops = 0;
        for (code, value) in body.options(12) {
            let count = field(value, 0).map_or(0, |b| body.order.u64(b));
            match code {
                RECEIVED => loss.received = loss.received.max(count),
                INTERFACE_DROPS | SYSTEM_DROPS => match plausible_drops(count) {
                    Some(count) if code == INTERFACE_DROPS => interface_drops = count,
                    Some(count) => system_drops = count,
                    None => self.metadata.impossible_drops += 1,
                },
                _ => {}
            }
        }
        loss.dropped = loss.dropped.max(interface_drops.saturating_add(system_drops));
        Ok(())
    }
}

/// The body of a block, from which fields are read at fixed offsets.
#[derive(Clone, Copy)]
struct BlockBody<'a> {
    kind: u32,
    order: ByteOrder,
    bytes: &'a [u8],
}

impl<'a> BlockBody<'a> {
    fn u16(self, at: usize) -> Result<u16, BlockError> {
        field(self.bytes, at).map(|b| self.order.u16(b)).ok_or(BlockError::Short(self.kind))
    }

    fn u32(self, at: usize) -> Result<u32, BlockError> {
        field(self.bytes, at).map(|b| self.order.u32(b)).ok_or(BlockError::Short(self.kind))
    }

    /// Returns the options that start at offset `at`.
    fn options(self, at: usize) -> impl Iterator<Item = (u16, &'a [u8])> {
        options(self.order, self.bytes.get(at..).unwrap_or_default())
    }
}

/// Returns a capture filter as text. `form` is the first byte of the option: 0 for an expression, 1
/// for a BPF program.
fn describe_filter(form: u8, filter: &[u8]) -> String {
    match form {
        0 => String::from_utf8_lossy(filter).into_owned(),
        1 => format!("(a BPF program, {} bytes long)", filter.len()),
        form => format!("(in the unknown format {form})"),
    }
}

/// Returns a count of lost packets; `None` if it is not plausible. All ones, in 32 or 64 bits, mean
/// that nothing was counted, and no interface loses 2^48 packets during a capture.
fn plausible_drops(count: u64) -> Option<u64> {
    const MAX: u64 = 1 << 48;
    (count < MAX && count != u64::from(u32::MAX)).then_some(count)
}

/// Returns the options of a block, up to the end mark or the first option that extends beyond the
/// block.
fn options(order: ByteOrder, mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let code = order.u16(field(bytes, 0)?);
        let length = usize::from(order.u16(field(bytes, 2)?));
        let value = bytes.get(4..4 + length)?;
        bytes = bytes.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        (code != 0).then_some((code, value))
    })
}

impl PcapNg {
    /// Returns whether a block may start at offset `at`: its two copies of the length must agree,
    /// as far as `bytes` extends.
    fn is_block(&self, bytes: &[u8], at: usize) -> bool {
        let word = |place: usize| field(bytes, place).map(|b| self.order.u32(b));
        let Some(length) = word(at + 4).map(|length| length as usize) else { return false };
        let fits = (MIN_BLOCK..=MAX_BLOCK).contains(&length) && length.is_multiple_of(4);
        fits && word(at + length - 4).is_none_or(|again| again as usize == length)
    }

    fn parse_part(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> ParsedRecords {
        let mut at = 0;
        let damage = |at, text| ParsedRecords { consumed: at, need: 0, damage: Some(text) };
        while let Some(header) = bytes.get(at..at + MIN_BLOCK) {
            let kind: [u8; 4] = field(header, 0).unwrap_or_default();
            if header.iter().all(|byte| *byte == 0) {
                let (next, is_more) =
                    match after_zeros(bytes, at, MIN_BLOCK, |place| self.is_block(bytes, place)) {
                        ZeroRunEnd::Record(next) => (next, false),
                        ZeroRunEnd::More(next) => (next, true),
                        ZeroRunEnd::Nothing => {
                            return damage(at, "no block follows the zeros".into());
                        }
                    };
                self.metadata.zeros.add(self.before + at as u64, (next - at) as u64);
                at = next;
                if is_more {
                    break;
                }
                continue;
            }
            if u32::from_be_bytes(kind) == SECTION {
                let magic = field(header, 8).unwrap_or_default();
                self.order = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
                    (BYTE_ORDER_MAGIC, _) => ByteOrder::Little,
                    (_, BYTE_ORDER_MAGIC) => ByteOrder::Big,
                    _ => return damage(at, "a section header has an invalid byte order".into()),
                };
                self.interfaces.clear();
                self.section = self.section.saturating_add(1);
            }
            let kind = self.order.u32(kind);
            let length = self.order.u32(field(header, 4).unwrap_or_default()) as usize;
            if length < MIN_BLOCK || !length.is_multiple_of(4) {
                return damage(
                    at,
                    format!("a block claims an impossible length of {length} bytes"),
                );
            }
            if length > MAX_BLOCK {
                if matches!(kind, INTERFACE | OLD_PACKET | SIMPLE_PACKET | ENHANCED_PACKET) {
                    let text = format!("a block claims an impossible length of {length} bytes");
                    return damage(at, text);
                }
                return ParsedRecords { consumed: at + length, need: MIN_BLOCK, damage: None };
            }
            let Some(block) = bytes.get(at..at + length) else {
                return ParsedRecords { consumed: at, need: length, damage: None };
            };
            let again = self.order.u32(field(block, length - 4).unwrap_or_default()) as usize;
            if again != length {
                return damage(
                    at,
                    format!("a block claims two different lengths ({length} and {again} bytes)"),
                );
            }
            if let Err(broken) = self.read_block(kind, &block[8..length - 4], at + 8, frames) {
                return damage(at, broken.to_string());
            }
            at += length;
        }
        ParsedRecords { consumed: at, need: MIN_BLOCK, damage: None }
    }
}

impl RecordParser for PcapNg {
    fn parse_records(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> ParsedRecords {
        let parsed = self.parse_part(bytes, frames);
        self.before += parsed.consumed as u64;
        parsed
    }

    fn metadata(&self) -> FileMetadata {
        let mut metadata = self.metadata.clone();
        self.counters.values().for_each(|counters| metadata.loss.merge(&counters.loss()));
        metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolutions_of_both_bases_give_nanoseconds() {
        assert_eq!(Resolution::new(6).nanos(1_500_000), 1_500_000_000);
        assert_eq!(Resolution::new(9).nanos(7), 7);
        assert_eq!(Resolution::new(0).nanos(2), 2_000_000_000);
        assert_eq!(Resolution::new(0x80 | 10).nanos(1536), 1_500_000_000);
        assert_eq!(Resolution::new(0x7f).nanos(u64::MAX), 0);
        assert_eq!(Resolution::new(0xff).nanos(u64::MAX), 0);
    }

    #[test]
    fn options_end_at_the_first_that_does_not_fit() {
        let bytes = [9, 0, 1, 0, 6, 0, 0, 0, 11, 0, 200, 0, 1];
        let found: Vec<_> = options(ByteOrder::Little, &bytes).collect();
        assert_eq!(found, [(9, &[6u8][..])]);
    }

    #[test]
    fn packets_report_those_lost_before_them() {
        let mut file = PcapNg::new(&[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d])
            .expect("a section");
        let mut frames = Vec::new();
        file.read_block(INTERFACE, &[1, 0, 0, 0, 0, 0, 0, 0], 0, &mut frames)
            .expect("an interface");
        let mut packet = [0u32, 0, 0, 3, 3].map(u32::to_le_bytes).concat();
        // Three bytes and padding, then an option that reports three packets lost before this one.
        packet.extend([7, 7, 7, 0, 4, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for _ in 0..2 {
            file.read_block(ENHANCED_PACKET, &packet, 0, &mut frames).expect("a packet");
        }
        let mut statistics = vec![0; 12];
        assert_eq!(file.metadata().loss, Loss { received: 8, dropped: 6 });
        // The statistics block reports higher counts, which take precedence.
        statistics.extend([4, 0, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0]);
        statistics.extend([5, 0, 8, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        file.read_block(STATISTICS, &statistics, 0, &mut frames).expect("statistics");
        assert_eq!(file.metadata().loss, Loss { received: 100, dropped: 9 });
    }
}
