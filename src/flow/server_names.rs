//! What the sides of a flow said about whom they want to talk to.

use serde::{Deserialize, Serialize};

use super::DirectionStats;
use crate::model::{BoundedSet, Merge, Nanos};
use crate::payload::{ServerNameRequest, StreamPrefix};

/// What a flow tells about the server's name; few flows do.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerNameEvidence {
    /// What stood whole in one segment, of each side.
    pub(super) hellos: [BoundedSet<ServerNameRequest, 16>; 2],
    /// What may be parts of it.
    pub(super) pieces: [StreamPrefix; 2],
}

impl ServerNameEvidence {
    /// What a side said.
    pub fn hellos(
        &self,
        number: usize,
        side: &DirectionStats,
    ) -> impl Iterator<Item = ServerNameRequest> {
        let joined = side.first.get().and_then(|first| self.pieces[number].hello(first));
        self.hellos[number].iter().cloned().chain(joined)
    }

    /// Whether a side said more than is kept.
    pub fn more(&self, number: usize) -> bool {
        self.hellos[number].more()
    }

    /// Turns the sides round.
    pub(super) fn swap_sides(&mut self) {
        self.hellos.swap(0, 1);
        self.pieces.swap(0, 1);
    }

    /// Reads the names out of the pieces of sides that started before `time`; then they are not needed any more.
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
