//! The first bytes of one side of a connection, as segments that can be merged. A message that
//! names the server may span several segments, which different workers may have received.

use serde::{Deserialize, Serialize};

use super::{ServerNameRequest, http, starts_message, tls};
use crate::model::{BLOCK_OVERHEAD, Merge, Nanos, SECOND};

/// The number of bytes per side after which no more segments are kept.
const MAX_BYTES: usize = 4096;

/// The maximum number of segments kept per side.
const MAX_SEGMENTS: usize = 64;

/// The maximum time between the first and the last segment that are kept, in nanoseconds.
const MAX_DURATION: Nanos = 3 * SECOND;

/// The maximum time between a side's first packet and its first data, in nanoseconds. It allows for
/// a few retransmissions of the SYN.
const MAX_DELAY: Nanos = 60 * SECOND;

/// The earliest data segments of a side: at most 64, within three seconds, until they contain 4
/// KiB. The selection depends neither on the order of arrival nor on how the segments are
/// distributed among workers. A segment that one worker drops, because it comes too late or after
/// too many bytes, would also be dropped if that worker had all segments.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StreamPrefix {
    /// The segments, sorted by time.
    list: Vec<PrefixSegment>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct PrefixSegment {
    time: Nanos,
    seq: u32,
    bytes: Box<[u8]>,
}

impl StreamPrefix {
    /// Returns whether data at `time` may still be the first data of a side whose first packet was
    /// sent at `first`. If early packets of the side are unknown, `first` may be too late, which
    /// only makes the limit more generous.
    pub fn is_early(time: Nanos, first: Nanos) -> bool {
        time.saturating_sub(first) <= MAX_DELAY
    }

    /// Adds a data segment, unless it was sent more than three seconds after the first kept
    /// segment.
    pub fn see(&mut self, time: Nanos, seq: u32, bytes: &[u8]) {
        let first = self.list.first().map_or(time, |segment| segment.time);
        if time.saturating_sub(first) > MAX_DURATION {
            return;
        }
        self.add(PrefixSegment { time, seq, bytes: bytes.into() });
        self.trim();
    }

    /// Adds a segment. If the same bytes with the same sequence number were seen before, the
    /// earlier time is kept.
    fn add(&mut self, segment: PrefixSegment) {
        let same = |p: &PrefixSegment| (p.seq, &p.bytes) == (segment.seq, &segment.bytes);
        match self.list.iter_mut().find(|p| same(p)) {
            Some(known) => known.time = known.time.min(segment.time),
            None => self.list.push(segment),
        }
    }

    /// Sorts the segments and drops those beyond the limits.
    fn trim(&mut self) {
        self.list.sort_unstable();
        self.list.truncate(MAX_SEGMENTS);
        let first = self.list.first().map_or(0, |segment| segment.time);
        let mut before = 0;
        self.list.retain(|segment| {
            let fits = before < MAX_BYTES && segment.time.saturating_sub(first) <= MAX_DURATION;
            before += segment.bytes.len();
            fits
        });
    }

    /// Returns the time of the first segment.
    pub fn first_time(&self) -> Option<Nanos> {
        self.list.first().map(|segment| segment.time)
    }

    /// Returns whether segments that arrive after `time` are too late to be kept. Packets may
    /// arrive a second out of order.
    pub fn is_complete_at(&self, time: Nanos) -> bool {
        self.first_time().is_some_and(|first| time.saturating_sub(first) > MAX_DURATION + SECOND)
    }

    /// Returns whether segments from before `start` would be too early to be kept together with
    /// these.
    pub fn begins_after(&self, start: Nanos) -> bool {
        self.first_time().is_some_and(|first| first.saturating_sub(start) > MAX_DURATION)
    }

    /// Returns whether a segment starts a message that may name a server.
    pub fn has_start(&self) -> bool {
        self.list.iter().any(|segment| starts_message(&segment.bytes))
    }

    /// Returns whether no segments are kept.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the approximate memory that the segments take, in bytes.
    pub fn memory(&self) -> usize {
        let bytes = self.list.iter().map(|p| p.bytes.len() + BLOCK_OVERHEAD);
        self.list.capacity() * size_of::<PrefixSegment>() + bytes.sum::<usize>()
    }

    /// Returns the server name in the segments of a side whose first packet was sent at `first`.
    pub fn server_name(&self, first: Nanos) -> Option<ServerNameRequest> {
        let early: Vec<&PrefixSegment> =
            self.list.iter().filter(|segment| Self::is_early(segment.time, first)).collect();
        // Use the first segment that starts a message and, with its continuation, yields a name.
        early.iter().find_map(|start| {
            starts_message(&start.bytes).then(|| read_name(&join_segments(start, &early))).flatten()
        })
    }
}

/// Returns the bytes of `start` and of the segments that continue it without a gap. If several
/// segments continue it, the earliest is used.
fn join_segments(start: &PrefixSegment, segments: &[&PrefixSegment]) -> Vec<u8> {
    let mut bytes = start.bytes.to_vec();
    while bytes.len() < MAX_BYTES {
        let continuation = |segment: &&PrefixSegment| {
            let skip = bytes.len().checked_sub(segment.seq.wrapping_sub(start.seq) as usize)?;
            segment.bytes.get(skip..).filter(|more| !more.is_empty()).map(<[u8]>::to_vec)
        };
        match segments.iter().find_map(continuation) {
            Some(more) => bytes.extend(more),
            None => break,
        }
    }
    bytes
}

fn read_name(bytes: &[u8]) -> Option<ServerNameRequest> {
    if http::is_request(bytes) { http::host(bytes) } else { tls::server_name(bytes) }
}

impl Merge for StreamPrefix {
    fn merge(&mut self, other: &Self) {
        other.list.iter().for_each(|segment| self.add(segment.clone()));
        self.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"GET /a HTTP/1.1\r\nAccept: */*\r\nHost: www.example.com\r\n\r\n";

    #[test]
    fn segments_join_in_any_order_and_of_any_size() {
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
            assert_eq!(forth.server_name(0).unwrap().name, "www.example.com", "{size}");
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
        late.see(MAX_DURATION + 2, 7, &[0x17; 5000]);
        let mut all = late.clone();
        all.merge(&early);
        assert_eq!(all, early);
        early.merge(&late);
        assert_eq!(all, early);
    }

    #[test]
    fn a_gap_is_no_name_and_numbers_may_wrap() {
        let mut segments = StreamPrefix::default();
        let seq = u32::MAX - 10;
        segments.see(1, seq, &REQUEST[..20]);
        segments.see(2, seq.wrapping_add(30), &REQUEST[30..]);
        assert_eq!(segments.server_name(0), None);
        segments.see(3, seq.wrapping_add(15), &REQUEST[15..35]);
        assert_eq!(segments.server_name(0).unwrap().name, "www.example.com");
        // Data that is sent long after the first packet does not start a message.
        assert_eq!(segments.server_name(-MAX_DELAY), None);
    }
}
