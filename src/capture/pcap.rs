//! The pcap file format (draft-ietf-opsawg-pcap): both byte orders, microsecond and nanosecond
//! stamps, and the older variant with a longer record header (magic 0xa1b2cd34).

use super::{Facts, Frame, MAX_RECORD, Order, Walk, Walked, field};
use crate::model::{Nanos, SECOND};

/// Length of the file header in bytes.
pub(super) const FILE_HEADER: usize = 24;

/// A pcap file after its header.
pub(super) struct Pcap {
    order: Order,
    nanos: bool,
    /// The stamps have nanoseconds although the magic number says microseconds.
    hidden_nanos: bool,
    record_header: usize,
    link: u16,
    /// The link types of all headers, of which a file that others were appended to has several.
    links: Vec<u16>,
    magic: [u8; 4],
}

impl Pcap {
    /// Whether `start` is all of a pcap file that ends inside its header.
    pub fn is_cut(start: &[u8]) -> bool {
        let mut header = [0; FILE_HEADER];
        match header.get_mut(..start.len()) {
            Some(room) if start.len() >= 4 => room.copy_from_slice(start),
            _ => return false,
        }
        Self::new(&header).is_some()
    }

    /// Reads the file header; none where `header` starts no pcap file.
    pub fn new(header: &[u8]) -> Option<Self> {
        let magic: [u8; 4] = field(header, 0)?;
        let (order, magic) = match u32::from_le_bytes(magic) {
            le @ (0xa1b2_c3d4 | 0xa1b2_3c4d | 0xa1b2_cd34) => (Order::Little, le),
            _ => (Order::Big, u32::from_be_bytes(magic)),
        };
        let (nanos, record_header) = match magic {
            0xa1b2_c3d4 => (false, 16),
            0xa1b2_3c4d => (true, 16),
            0xa1b2_cd34 => (false, 24),
            _ => return None,
        };
        // The upper six bits carry frame check sequence facts, not the link type.
        let link = order.u32(field(header, 20)?) & 0x03ff_ffff;
        let link = u16::try_from(link).unwrap_or(u16::MAX);
        let magic = field(header, 0)?;
        Some(Self {
            order,
            nanos,
            hidden_nanos: false,
            record_header,
            link,
            links: vec![link],
            magic,
        })
    }

    /// The file header that stands where a record is expected, because files were put one after the
    /// other. As a record it would be empty and of the year 2055.
    fn appended(&self, bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..FILE_HEADER).filter(|b| b.starts_with(&self.magic))?;
        let version = [4, 6].map(|at| self.order.u16(field(header, at).unwrap_or_default()));
        (version == [2, 4]).then(|| Self::new(header)).flatten()
    }
}

impl Pcap {
    /// Whether some record here has more microseconds than a second has: the writer meant nanoseconds.
    fn has_nanos(&self, bytes: &[u8]) -> bool {
        let mut at = 0;
        while let Some(header) = bytes.get(at..at + self.record_header) {
            let word = |position| self.order.u32(field(header, position).unwrap_or_default());
            let length = word(8) as usize;
            if header.starts_with(&self.magic) || length > MAX_RECORD {
                break;
            }
            if (MICROSECONDS..SECOND).contains(&Nanos::from(word(4))) {
                return true;
            }
            at += self.record_header + length;
        }
        false
    }
}

/// Microseconds of a second.
const MICROSECONDS: Nanos = 1_000_000;

impl Walk for Pcap {
    fn walk(&mut self, bytes: &[u8], frames: &mut Vec<Frame>) -> Walked {
        let mut at = 0;
        if !self.nanos && self.has_nanos(bytes) {
            (self.nanos, self.hidden_nanos) = (true, true);
        }
        while let Some(header) = bytes.get(at..at + self.record_header) {
            if header.starts_with(&self.magic) {
                if bytes.len() < at + FILE_HEADER {
                    return Walked { consumed: at, need: FILE_HEADER, damage: None };
                }
                if let Some(mut next) = self.appended(&bytes[at..]) {
                    next.links.append(&mut self.links);
                    next.hidden_nanos = self.hidden_nanos;
                    *self = next;
                    at += FILE_HEADER;
                    continue;
                }
            }
            let word = |position| self.order.u32(field(header, position).unwrap_or_default());
            let cap_len = word(8) as usize;
            if cap_len > MAX_RECORD {
                let damage = format!("the record claims {cap_len} captured bytes");
                return Walked { consumed: at, need: 0, damage: Some(damage) };
            }
            let start = at + self.record_header;
            if bytes.len() < start + cap_len {
                return Walked { consumed: at, need: self.record_header + cap_len, damage: None };
            }
            let fraction = Nanos::from(word(4)) * if self.nanos { 1 } else { 1_000 };
            frames.push(Frame {
                time: Nanos::from(word(0)) * SECOND + fraction,
                offset: start as u32,
                cap_len: cap_len as u32,
                wire_len: word(12),
                link: self.link,
                interface: 0,
            });
            at = start + cap_len;
        }
        Walked { consumed: at, need: self.record_header, damage: None }
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        self.links.iter().for_each(|link| facts.link(*link));
        facts.hidden_nanos = self.hidden_nanos;
        facts
    }
}
