//! Evidence of server names: the names that the sides of a flow request.

use serde::{Deserialize, Serialize};

use super::sparse::SparseValue;
use super::{DirectionStats, flag};
use crate::model::{BLOCK_OVERHEAD, BoundedSet, Merge, Nanos};
use crate::payload::{ServerNameRequest, StreamPrefix};

/// The maximum number of names that are kept for each side.
pub(super) const MOST_REQUESTS: usize = 16;

/// The evidence of server names in a flow. Only a few flows have any.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerNameEvidence {
    /// For each side, the names in messages that fit in one segment, and those that were extracted
    /// from segments that are no longer stored.
    #[serde(rename = "hellos")]
    pub(super) requests: [BoundedSet<ServerNameRequest, MOST_REQUESTS>; 2],
    /// For each side, segments that may be parts of messages that name the server.
    #[serde(rename = "pieces")]
    pub(super) prefixes: [StreamPrefix; 2],
    /// For each side, whether no further segments are stored in this table.
    #[serde(skip)]
    pub(super) closed: [bool; 2],
}

/// How long after the first packet of a side its first data may be sent to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentDelay {
    /// As long as [`StreamPrefix::is_early`] allows.
    Short,
    /// For any time.
    Any,
}

/// Which segments are discarded to free memory, in addition to those whose message is complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentRelease {
    /// None.
    Complete,
    /// Those of sides that have not started a message that names a server. If a side starts one
    /// later, and it spans several segments, its name is lost.
    Unstarted,
}

impl ServerNameEvidence {
    /// Returns the names that a side requested.
    pub fn requests(
        &self,
        number: usize,
        side: &DirectionStats,
    ) -> impl Iterator<Item = ServerNameRequest> {
        let from_segments = self.name_in_segments(number, side);
        self.requests[number].iter().cloned().chain(from_segments)
    }

    /// Returns the name in the stored segments of a side; `None` if they contain none.
    pub(super) fn name_in_segments(
        &self,
        number: usize,
        side: &DirectionStats,
    ) -> Option<ServerNameRequest> {
        side.first.get().and_then(|first| self.prefixes[number].server_name(first))
    }

    /// Returns whether segments of either side are stored.
    pub(super) fn has_segments(&self) -> bool {
        self.prefixes.iter().any(|prefix| !prefix.is_empty())
    }

    /// Returns whether a name can be added to the requests of a side without dropping any.
    pub(super) fn has_room(&self, number: usize, name: &ServerNameRequest) -> bool {
        let requests = &self.requests[number];
        requests.len() < MOST_REQUESTS || requests.contains(name)
    }

    /// Returns whether a side requested more names than are kept.
    pub fn more(&self, number: usize) -> bool {
        self.requests[number].more()
    }

    pub(super) fn swap_sides(&mut self) {
        self.requests.swap(0, 1);
        self.prefixes.swap(0, 1);
    }

    /// Extracts the name from the stored segments of each side, and discards the segments, if the
    /// side started too long before `time` for further segments to belong to its first message.
    pub(super) fn extract_names(&mut self, sides: &[DirectionStats; 2], time: Nanos) {
        for (number, side) in sides.iter().enumerate() {
            let Some(first) =
                side.first.get().filter(|first| !StreamPrefix::is_early(time, *first))
            else {
                continue;
            };
            self.closed[number] = false;
            if let Some(request) = std::mem::take(&mut self.prefixes[number]).server_name(first) {
                self.requests[number].insert(request);
            }
        }
    }
}

impl ServerNameEvidence {
    /// Extracts the names from segments that no further segments can complete, discards these
    /// segments and others as `release` states, and stores no more of these sides. `now` is the
    /// time of the last packet, and `start` that of the first packet in the tables. Returns the
    /// number of sides whose segments were discarded although their message may not be complete.
    pub(super) fn release_segments(
        &mut self,
        sides: &[DirectionStats; 2],
        (start, now): (Nanos, Nanos),
        release: SegmentRelease,
    ) -> u64 {
        let mut dropped = 0;
        for (number, side) in sides.iter().enumerate() {
            let prefix = &self.prefixes[number];
            // Earlier segments may be in other tables.
            let is_whole = side.has(flag::SYN) || prefix.begins_after(start);
            let is_complete = prefix.is_complete_at(now);
            let is_unstarted = release == SegmentRelease::Unstarted && !prefix.has_start();
            if prefix.is_empty() || !is_whole || !(is_complete || is_unstarted) {
                continue;
            }
            let name = self.name_in_segments(number, side);
            name.into_iter().for_each(|name| self.requests[number].insert(name));
            self.prefixes[number] = StreamPrefix::default();
            self.closed[number] = true;
            dropped += u64::from(!is_complete);
        }
        dropped
    }
}

impl SparseValue for ServerNameEvidence {
    fn heap(&self) -> usize {
        let requests = self.requests.iter().flat_map(BoundedSet::iter);
        let names = requests.map(|request| request.name.capacity() + BLOCK_OVERHEAD);
        names.sum::<usize>()
            + self.requests.iter().map(BoundedSet::heap).sum::<usize>()
            + self.prefixes.iter().map(StreamPrefix::memory).sum::<usize>()
    }
}

impl Merge for ServerNameEvidence {
    fn merge(&mut self, other: &Self) {
        for side in 0..2 {
            self.requests[side].merge(&other.requests[side]);
            self.prefixes[side].merge(&other.prefixes[side]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SECOND;

    const START: &[u8] = b"GET / HTTP/1.1\r\nHos";
    const REST: &[u8] = b"t: www.example.com\r\n\r\n";

    /// Returns the evidence of a side that sent these segments, and its packets. All of them have
    /// the time of second 10. The first packet is a SYN if `opened`.
    fn sent(segments: &[&[u8]], opened: bool) -> (ServerNameEvidence, [DirectionStats; 2]) {
        let mut evidence = ServerNameEvidence::default();
        let mut sides = [DirectionStats::default(); 2];
        let mut seq = 1;
        for segment in segments {
            evidence.prefixes[0].see(10 * SECOND, seq, segment);
            seq += segment.len() as u32;
        }
        sides[0].see(10 * SECOND, 60, 0, if opened { flag::SYN } else { flag::ACK });
        (evidence, sides)
    }

    #[test]
    fn segments_of_complete_messages_are_released_and_their_names_stay() {
        let (mut evidence, sides) = sent(&[START, REST], true);
        let complete = SegmentRelease::Complete;
        let second = |second| (10 * SECOND, second * SECOND);
        assert_eq!(evidence.release_segments(&sides, second(12), complete), 0);
        assert!(evidence.has_segments(), "more segments may come");
        assert_eq!(evidence.release_segments(&sides, second(15), complete), 0);
        assert!(!evidence.has_segments() && evidence.closed[0]);
        let names: Vec<_> = evidence.requests(0, &sides[0]).map(|own| own.name).collect();
        assert_eq!(names, ["www.example.com"]);
    }

    #[test]
    fn only_sides_without_the_start_of_a_message_lose_segments_early() {
        let release = |segments: &[&[u8]], opened: bool, start: Nanos| {
            let (mut evidence, sides) = sent(segments, opened);
            let period = (start * SECOND, 11 * SECOND);
            let dropped = evidence.release_segments(&sides, period, SegmentRelease::Unstarted);
            (dropped, evidence.has_segments())
        };
        assert_eq!(release(&[REST], true, 10), (1, false));
        assert_eq!(release(&[START], true, 10), (0, true));
        // The start of the message may be in the tables of the previous window.
        assert_eq!(release(&[REST], false, 9), (0, true));
        assert_eq!(release(&[REST], false, 6), (1, false));
    }
}
