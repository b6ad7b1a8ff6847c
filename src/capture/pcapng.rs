//! The pcapng file format (draft-ietf-opsawg-pcapng): several sections and several interfaces, each
//! with its own link type and timestamp resolution, and the capture filters and loss that the file
//! reports.

use std::collections::BTreeMap;

use super::{
    ByteOrder, FileMetadata, Frame, MAX_RECORD, ParsedRecords, RecordParser, ZeroRunEnd,
    after_zeros, field,
};
use crate::model::{Loss, NO_TIME, Nanos, SECOND};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
/// The option of a packet block with the number of packets lost before it.
const DROP_COUNT: u16 = 4;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// The shortest block: type, length, and the length again.
const MIN_BLOCK: usize = 12;
/// The largest block that is held whole. A larger block counts as damage if it carries a packet or
/// an interface; otherwise it is skipped unread.
const MAX_BLOCK: usize = 2 * MAX_RECORD;

/// The state of reading a pcapng file.
pub(super) struct PcapNg {
    order: ByteOrder,
    interfaces: Vec<InterfaceBlock>,
    section: u32,
    facts: FileMetadata,
    /// Bytes of the file before the part that is being parsed.
    before: u64,
    /// The counters of each interface, by section and interface number.
    counters: BTreeMap<(u32, u32), InterfaceCounters>,
}

/// What is known about the loss of an interface.
#[derive(Default)]
struct InterfaceCounters {
    /// The largest counts in the statistics blocks of the interface, which are cumulative.
    statistics: Loss,
    /// Packets of the interface in the file.
    packets: u64,
    /// Packets that the packet blocks report as lost between those.
    gaps: u64,
}

impl InterfaceCounters {
    fn loss(&self) -> Loss {
        let dropped = self.statistics.dropped.max(self.gaps);
        let received = match self.statistics.received {
            // If the file does not say what the interface received, it is the sum of captured and
            // lost packets.
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

/// Units of a timestamp per second.
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

    /// Returns `units` since the epoch in nanoseconds; zero if the resolution is too fine for the
    /// arithmetic.
    fn nanos(self, units: u64) -> i128 {
        let nanos = i128::from(units) * i128::from(SECOND);
        match self {
            Self::PowerOfTen(exponent) => 10i128.checked_pow(exponent).map_or(0, |per| nanos / per),
            Self::PowerOfTwo(exponent) => nanos.checked_shr(exponent).unwrap_or(0),
        }
    }
}

/// Why a complete block cannot be understood.
#[derive(Debug, thiserror::Error)]
enum BlockError {
    #[error("a block of type {0:#x} is shorter than its fields")]
    Short(u32),
    #[error("a simple packet precedes all interface descriptions")]
    NoInterface,
    #[error("a packet names interface {0}, which the section does not describe")]
    UnknownInterface(u32),
    #[error("a packet claims {0} captured bytes, more than its block has")]
    Length(u32),
}

impl PcapNg {
    /// Creates a parser if `start` begins with a section header block.
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
            facts: FileMetadata::default(),
            before: 0,
            counters: BTreeMap::new(),
        })
    }

    /// Processes one whole block. `at` is the position of its body in the batch.
    fn block(
        &mut self,
        kind: u32,
        body: &[u8],
        at: usize,
        frames: &mut Vec<Frame>,
    ) -> Result<(), BlockError> {
        let order = self.order;
        let short = || BlockError::Short(kind);
        let word = |position| field(body, position).map(|b| order.u32(b)).ok_or_else(short);
        match kind {
            INTERFACE => {
                let link = order.u16(field(body, 0).ok_or_else(short)?);
                let snaplen = word(4)?;
                let mut interface = InterfaceBlock {
                    link,
                    snaplen,
                    resolution: Resolution::PowerOfTen(6),
                    offset: 0,
                };
                for (code, value) in options(order, body.get(8..).unwrap_or_default()) {
                    match (code, value) {
                        (9, [resolution, ..]) => {
                            interface.resolution = Resolution::new(*resolution)
                        }
                        (11, [form, filter @ ..]) => {
                            let filter = match form {
                                0 => String::from_utf8_lossy(filter).into_owned(),
                                1 => {
                                    format!("(a BPF program of {} instructions)", filter.len() / 8)
                                }
                                form => format!("(of the unknown form {form})"),
                            };
                            // An empty expression does not filter anything.
                            if !filter.trim().is_empty() && !self.facts.filters.contains(&filter) {
                                self.facts.filters.push(filter);
                            }
                        }
                        (14, value) => {
                            let seconds = field(value, 0).map_or(0, |b| order.u64(b) as Nanos);
                            interface.offset = seconds.saturating_mul(SECOND);
                        }
                        _ => {}
                    }
                }
                self.facts.link(link);
                self.interfaces.push(interface);
            }
            ENHANCED_PACKET | OLD_PACKET => {
                let number = if kind == ENHANCED_PACKET {
                    word(0)?
                } else {
                    u32::from(order.u16(field(body, 0).ok_or_else(short)?))
                };
                let interface = self
                    .interfaces
                    .get(number as usize)
                    .ok_or(BlockError::UnknownInterface(number))?;
                let units = u64::from(word(4)?) << 32 | u64::from(word(8)?);
                let nanos = interface.resolution.nanos(units) + i128::from(interface.offset);
                let cap_len = word(12)?;
                if cap_len as usize > body.len().saturating_sub(20) {
                    return Err(BlockError::Length(cap_len));
                }
                frames.push(Frame {
                    time: nanos.clamp(i128::from(NO_TIME) + 1, i128::from(Nanos::MAX) - 1) as Nanos,
                    offset: (at + 20) as u32,
                    cap_len,
                    wire_len: word(16)?,
                    link: interface.link,
                    interface: number as u16,
                });
                let counters = self.counters.entry((self.section, number)).or_default();
                counters.packets += 1;
                let after = 20 + (cap_len as usize).next_multiple_of(4);
                if kind == ENHANCED_PACKET {
                    for (code, value) in options(order, body.get(after..).unwrap_or_default()) {
                        if let (DROP_COUNT, Some(count)) = (code, field(value, 0)) {
                            match believed(order.u64(count)) {
                                Some(count) => {
                                    counters.gaps = counters.gaps.saturating_add(count);
                                }
                                None => self.facts.impossible_drops += 1,
                            }
                        }
                    }
                } else {
                    // The older block has sixteen bits for this counter, all ones if it is unknown.
                    let lost = order.u16(field(body, 2).unwrap_or_default());
                    counters.gaps += u64::from(if lost == u16::MAX { 0 } else { lost });
                }
            }
            SIMPLE_PACKET => {
                let interface = self.interfaces.first().ok_or(BlockError::NoInterface)?;
                let wire_len = word(0)?;
                let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
                let held = body.len().saturating_sub(4) as u32;
                frames.push(Frame {
                    time: NO_TIME,
                    offset: (at + 4) as u32,
                    cap_len: wire_len.min(limit).min(held),
                    wire_len,
                    link: interface.link,
                    interface: 0,
                });
            }
            STATISTICS => {
                let number = word(0)?;
                let counters = self.counters.entry((self.section, number)).or_default();
                let loss = &mut counters.statistics;
                let mut interface = 0;
                let mut system = 0;
                for (code, value) in options(order, body.get(12..).unwrap_or_default()) {
                    let count = field(value, 0).map_or(0, |b| order.u64(b));
                    match code {
                        4 => loss.received = loss.received.max(count),
                        5 | 7 => match believed(count) {
                            Some(count) if code == 5 => interface = count,
                            Some(count) => system = count,
                            None => self.facts.impossible_drops += 1,
                        },
                        _ => {}
                    }
                }
                loss.dropped = loss.dropped.max(interface.saturating_add(system));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Returns a count of lost packets if it is plausible. All ones mean that nothing was counted, and
/// no interface loses 2^48 packets during a capture.
fn believed(count: u64) -> Option<u64> {
    const MOST: u64 = 1 << 48;
    (count < MOST && count != u64::from(u32::MAX)).then_some(count)
}

/// Returns the options of a block, up to the first one that does not fit.
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
    /// Returns whether there is a block at a position, which states its length twice.
    fn is_block(&self, bytes: &[u8], at: usize) -> bool {
        let word = |place: usize| field(bytes, place).map(|b| self.order.u32(b));
        let Some(length) = word(at + 4).map(|length| length as usize) else { return false };
        let fits = (MIN_BLOCK..=MAX_BLOCK).contains(&length) && length.is_multiple_of(4);
        fits && word(at + length - 4).is_none_or(|again| again as usize == length)
    }

    fn walk_piece(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> ParsedRecords {
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
                            return damage(at, "zeros that are not followed by a block".into());
                        }
                    };
                self.facts.zeros.add(self.before + at as u64, (next - at) as u64);
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
                    _ => return damage(at, "a section header has no known byte order".into()),
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
                    return damage(at, format!("a packet block claims {length} bytes"));
                }
                return ParsedRecords { consumed: at + length, need: MIN_BLOCK, damage: None };
            }
            let Some(block) = bytes.get(at..at + length) else {
                return ParsedRecords { consumed: at, need: length, damage: None };
            };
            if let Err(broken) = self.block(kind, &block[8..length - 4], at + 8, frames) {
                return damage(at, broken.to_string());
            }
            at += length;
        }
        ParsedRecords { consumed: at, need: MIN_BLOCK, damage: None }
    }
}

impl RecordParser for PcapNg {
    fn parse_records(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> ParsedRecords {
        let walked = self.walk_piece(bytes, frames);
        self.before += walked.consumed as u64;
        walked
    }

    fn facts(&self) -> FileMetadata {
        let mut facts = self.facts.clone();
        for loss in self.counters.values().map(InterfaceCounters::loss) {
            facts.loss.received = facts.loss.received.saturating_add(loss.received);
            facts.loss.dropped = facts.loss.dropped.saturating_add(loss.dropped);
        }
        facts
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
    fn packets_tell_of_those_lost_before_them() {
        let mut file = PcapNg::new(&[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d])
            .expect("a section");
        let mut frames = Vec::new();
        file.block(INTERFACE, &[1, 0, 0, 0, 0, 0, 0, 0], 0, &mut frames).expect("an interface");
        let mut packet = [0u32, 0, 0, 3, 3].map(u32::to_le_bytes).concat();
        // Three bytes and padding, then the option: three packets were lost before this one.
        packet.extend([7, 7, 7, 0, 4, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for _ in 0..2 {
            file.block(ENHANCED_PACKET, &packet, 0, &mut frames).expect("a packet");
        }
        let mut statistics = vec![0; 12];
        assert_eq!(file.facts().loss, Loss { received: 8, dropped: 6 });
        // The interface's own statistics report more.
        statistics.extend([4, 0, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0]);
        statistics.extend([5, 0, 8, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        file.block(STATISTICS, &statistics, 0, &mut frames).expect("statistics");
        assert_eq!(file.facts().loss, Loss { received: 100, dropped: 9 });
    }
}
