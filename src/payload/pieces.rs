//! The first bytes of one side of a connection, as segments that can be merged. A message that
//! names the server may span several segments, and several workers may hold them.

use serde::{Deserialize, Serialize};

use super::{ServerNameRequest, http, starts, tls};
use crate::model::{Merge, Nanos, SECOND};

/// Bytes kept of each side.
const KEPT: usize = 4096;

/// Segments kept of each side.
const MOST: usize = 64;

/// How long after the first segment others still belong to the start, in nanoseconds.
const YOUNG: Nanos = 3 * SECOND;

/// How long after the side's first packet its first data may come, in nanoseconds. A SYN may be
/// repeated a few times.
const LATE: Nanos = 60 * SECOND;

/// The earliest data segments of a side, until they contain 4 KiB. The selection depends neither on
/// the order of arrival nor on where the segments are collected. If too many bytes precede a
/// segment in some part, sorted by time, too many precede it in the whole. And the earliest segment
/// of a part is never earlier than that of the whole.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamPrefix {
    /// The segments in the order of their times.
    list: Vec<PrefixSegment>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct PrefixSegment {
    time: Nanos,
    seq: u32,
    bytes: Box<[u8]>,
}

impl StreamPrefix {
    /// Returns whether data may still be the first on a side whose first packet came at `first`.
    /// The true first packet of the side came no later than that of any part of it.
    pub fn is_young(time: Nanos, first: Nanos) -> bool {
        time.saturating_sub(first) <= LATE
    }

    /// Adds a data segment.
    pub fn see(&mut self, time: Nanos, seq: u32, bytes: &[u8]) {
        let first = self.list.first().map_or(time, |piece| piece.time);
        if time.saturating_sub(first) > YOUNG {
            return;
        }
        self.add(PrefixSegment { time, seq, bytes: bytes.into() });
        self.trim();
    }

    /// Adds a segment. If the same bytes were seen at the same position before, the earliest time
    /// counts.
    fn add(&mut self, piece: PrefixSegment) {
        let same = |p: &PrefixSegment| (p.seq, &p.bytes) == (piece.seq, &piece.bytes);
        match self.list.iter_mut().find(|p| same(p)) {
            Some(known) => known.time = known.time.min(piece.time),
            None => self.list.push(piece),
        }
    }

    fn trim(&mut self) {
        self.list.sort_unstable();
        self.list.truncate(MOST);
        let first = self.list.first().map_or(0, |piece| piece.time);
        let mut before = 0;
        self.list.retain(|piece| {
            let fits = before < KEPT && piece.time.saturating_sub(first) <= YOUNG;
            before += piece.bytes.len();
            fits
        });
    }

    /// Returns whether no segment is kept.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the approximate memory of the segments in bytes.
    pub fn memory(&self) -> usize {
        self.list.iter().map(|p| p.bytes.len() + size_of::<PrefixSegment>()).sum()
    }

    /// Returns what the segments together say about the server's name, on a side whose first packet
    /// came at `first`.
    pub fn hello(&self, first: Nanos) -> Option<ServerNameRequest> {
        let young: Vec<&PrefixSegment> =
            self.list.iter().filter(|piece| Self::is_young(piece.time, first)).collect();
        // Take the first start of a message that, with its continuation, yields a name.
        young
            .iter()
            .find_map(|start| starts(&start.bytes).then(|| read(&joined(start, &young))).flatten())
    }
}

/// Returns the bytes starting with a segment, as far as others continue it without a gap. If
/// several continue it, the earliest counts.
fn joined(start: &PrefixSegment, pieces: &[&PrefixSegment]) -> Vec<u8> {
    let mut bytes = start.bytes.to_vec();
    while bytes.len() < KEPT {
        let rest = |piece: &&PrefixSegment| {
            let skip = bytes.len().checked_sub(piece.seq.wrapping_sub(start.seq) as usize)?;
            piece.bytes.get(skip..).filter(|rest| !rest.is_empty()).map(<[u8]>::to_vec)
        };
        match pieces.iter().find_map(rest) {
            Some(more) => bytes.extend(more),
            None => break,
        }
    }
    bytes
}

fn read(bytes: &[u8]) -> Option<ServerNameRequest> {
    if http::is_request(bytes) { http::host(bytes) } else { tls::hello(bytes) }
}

impl Merge for StreamPrefix {
    fn merge(&mut self, other: &Self) {
        other.list.iter().for_each(|piece| self.add(piece.clone()));
        self.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nAccept: */*\r\nHost: www.example.com\r\n\r\n";

    #[test]
    fn pieces_join_in_any_order_and_of_any_size() {
        for size in [1, 5, 20, 100] {
            let mut forth = StreamPrefix::default();
            let mut back = StreamPrefix::default();
            let parts: Vec<_> = REQUEST.chunks(size).enumerate().collect();
            for (number, part) in &parts {
                forth.see(*number as i64, 1000 + (number * size) as u32, part);
            }
            for (number, part) in parts.iter().rev() {
                let mut one = StreamPrefix::default();
                one.see(*number as i64, 1000 + (number * size) as u32, part);
                back.merge(&one);
            }
            assert_eq!(forth, back);
            assert_eq!(forth.hello(0).unwrap().name, "www.example.com", "{size}");
        }
    }

    /// Checks that a worker with only later segments neither excludes nor displaces the earliest
    /// ones.
    #[test]
    fn what_comes_later_elsewhere_changes_nothing() {
        let mut early = StreamPrefix::default();
        early.see(0, 1, &REQUEST[..20]);
        early.see(1, 21, &REQUEST[20..]);
        let mut late = StreamPrefix::default();
        late.see(YOUNG + 2, 7, &[0x17; 5000]);
        let mut all = late.clone();
        all.merge(&early);
        assert_eq!(all, early);
        early.merge(&late);
        assert_eq!(all, early);
    }

    #[test]
    fn a_gap_is_no_name_and_numbers_may_wrap() {
        let mut pieces = StreamPrefix::default();
        let seq = u32::MAX - 10;
        pieces.see(1, seq, &REQUEST[..20]);
        pieces.see(2, seq.wrapping_add(30), &REQUEST[30..]);
        assert_eq!(pieces.hello(0), None);
        pieces.see(3, seq.wrapping_add(15), &REQUEST[15..35]);
        assert_eq!(pieces.hello(0).unwrap().name, "www.example.com");
        // Data that comes long after the opening does not start a message.
        assert_eq!(pieces.hello(-LATE), None);
    }
}
