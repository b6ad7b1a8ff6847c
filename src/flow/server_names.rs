//! What the sides of a flow say about the server that they want to reach.

use serde::{Deserialize, Serialize};

use super::DirectionStats;
use crate::model::{BoundedSet, Merge, Nanos};
use crate::payload::{ServerNameRequest, StreamPrefix};

/// The evidence of the server's name in a flow. Only a few flows have any.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerNameEvidence {
    /// The names in messages that fit in one segment, for each side.
    #[serde(rename = "hellos")]
    pub(super) requests: [BoundedSet<ServerNameRequest, 16>; 2],
    /// Segments that may be parts of such messages, for each side.
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
        let from_segments =
            side.first.get().and_then(|first| self.prefixes[number].server_name(first));
        self.requests[number].iter().cloned().chain(from_segments)
    }

    /// Returns whether a side requested more names than are kept.
    pub fn more(&self, number: usize) -> bool {
        self.requests[number].more()
    }

    /// Swaps the two sides.
    pub(super) fn swap_sides(&mut self) {
        self.requests.swap(0, 1);
        self.prefixes.swap(0, 1);
    }

    /// Reads the names from the segments of sides that started before `time`, then discards these
    /// segments because they are not needed any more.
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

    pub(super) fn memory(&self) -> usize {
        let requests = self.requests.iter().flat_map(|h| h.iter());
        let names: usize =
            requests.map(|request| size_of::<ServerNameRequest>() + request.name.len()).sum();
        size_of::<Self>() + names + self.prefixes.iter().map(StreamPrefix::memory).sum::<usize>()
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
