//! Frames that could not be understood: what seems to be missing may be in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::keyed::EvidenceKind;
use crate::model::{Mac, Merge, SkipReason};

/// Why a frame could not be understood.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum UndecodedReason {
    /// Its ethertype is not decoded.
    Ethertype(u16),
    /// It was skipped, for the reason of this number.
    Skipped(u16),
    /// It is a tunnel, and what it carries cannot be read.
    Tunnel,
}

/// A kind of frames that could not be understood, between two hardware addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct UndecodedFrames {
    /// Who put them on the link; [`Mac::NONE`] where that is not known.
    pub from: Mac,
    /// For whom.
    pub to: Mac,
    /// Why they could not be understood.
    pub why: UndecodedReason,
}

impl UndecodedReason {
    /// Skipped for a reason.
    pub fn skipped(reason: SkipReason) -> Self {
        Self::Skipped(reason as u16)
    }

    /// In words.
    pub fn words(self) -> String {
        match self {
            Self::Ethertype(number) => format!("frames of ethertype {number:#06x}"),
            Self::Skipped(number) => {
                let reason = SkipReason::ALL.get(usize::from(number)).map_or("", |r| r.name());
                format!("frames that were skipped ({reason})")
            }
            Self::Tunnel => "tunnels whose content cannot be read".to_owned(),
        }
    }
}

/// How many frames of each kind could not be understood.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct UndecodedCounts {
    kinds: BTreeMap<UndecodedFrames, u64>,
    more: u64,
}

impl UndecodedCounts {
    /// Kinds that are kept; of more only the number of frames.
    const MOST: usize = 4096;

    /// Takes in frames of a kind.
    pub(super) fn insert(&mut self, unread: UndecodedFrames, frames: u64) {
        *self.kinds.entry(unread).or_default() += frames;
        if self.kinds.len() > Self::MOST
            && let Some((_, frames)) = self.kinds.pop_last()
        {
            self.more += frames;
        }
    }

    /// The kinds, with the number of frames of each.
    pub fn iter(&self) -> impl Iterator<Item = (&UndecodedFrames, u64)> {
        self.kinds.iter().map(|(unread, frames)| (unread, *frames))
    }

    /// Frames of kinds that are not kept.
    pub fn more(&self) -> u64 {
        self.more
    }
}

/// It is bounded by itself.
impl EvidenceKind for UndecodedCounts {
    fn merge(&mut self, other: Self) {
        Merge::merge(self, &other);
    }

    fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.more == 0
    }

    fn memory(&self) -> usize {
        const KIND: usize = 256;
        self.kinds.len() * KIND
    }

    fn keep_least(&mut self, _most: usize) -> u64 {
        0
    }
}

impl Merge for UndecodedCounts {
    fn merge(&mut self, other: &Self) {
        other.kinds.iter().for_each(|(unread, frames)| self.insert(*unread, *frames));
        self.more += other.more;
    }
}
