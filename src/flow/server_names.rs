//! What the sides of a flow say about the server that they want to reach.

use serde::{Deserialize, Serialize};

use super::DirectionStats;
use crate::model::{BoundedSet, Merge, Nanos};
use crate::payload::{ServerNameRequest, StreamPrefix};

/// The evidence of the server's name in a flow. Only a few flows have any.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerNameEvidence {
    /// The names in messages that fit in one segment, for each side.
    pub(super) hellos: [BoundedSet<ServerNameRequest, 16>; 2],
    /// Segments that may be parts of such messages, for each side.
    pub(super) pieces: [StreamPrefix; 2],
}

impl ServerNameEvidence {
    /// Returns the names that a side requested.
    pub fn hellos(
        &self,
        number: usize,
        side: &DirectionStats,
    ) -> impl Iterator<Item = ServerNameRequest> {
        let joined = side.first.get().and_then(|first| self.pieces[number].hello(first));
        self.hellos[number].iter().cloned().chain(joined)
    }

    /// Returns whether a side requested more names than are kept.
    pub fn more(&self, number: usize) -> bool {
        self.hellos[number].more()
    }

    /// Swaps the two sides.
    pub(super) fn swap_sides(&mut self) {
        self.hellos.swap(0, 1);
        self.pieces.swap(0, 1);
    }

    /// Reads the names from the segments of sides that started before `time`, then discards these
    /// segments because they are not needed any more.
    pub(super) fn extract_names(&mut self, sides: &[DirectionStats; 2], time: Nanos) {
        for (number, side) in sides.iter().enumerate() {
            let Some(first) =
                side.first.get().filter(|first| !StreamPrefix::is_young(time, *first))
            else {
                continue;
            };
            if let Some(hello) = std::mem::take(&mut self.pieces[number]).hello(first) {
                self.hellos[number].insert(hello);
            }
        }
    }

    pub(super) fn memory(&self) -> usize {
        let hellos = self.hellos.iter().flat_map(|h| h.iter());
        let names: usize =
            hellos.map(|hello| size_of::<ServerNameRequest>() + hello.name.len()).sum();
        size_of::<Self>() + names + self.pieces.iter().map(StreamPrefix::memory).sum::<usize>()
    }
}

impl Merge for ServerNameEvidence {
    fn merge(&mut self, other: &Self) {
        for side in 0..2 {
            self.hellos[side].merge(&other.hellos[side]);
            self.pieces[side].merge(&other.pieces[side]);
        }
    }
}
