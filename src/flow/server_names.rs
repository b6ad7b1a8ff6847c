//! Evidence of server names: the names that the sides of a flow request.

use serde::{Deserialize, Serialize};

use super::DirectionStats;
use super::sparse::SparseValue;
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
            if let Some(request) = std::mem::take(&mut self.prefixes[number]).server_name(first) {
                self.requests[number].insert(request);
            }
        }
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
