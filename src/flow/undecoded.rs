//! Frames that could not be decoded. They may contain traffic that seems to be missing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::keyed::EvidenceKind;
use crate::model::{Mac, Merge, SkipReason};

/// The reason why a frame could not be decoded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum UndecodedReason {
    /// The decoder does not support the EtherType.
    Ethertype(u16),
    /// The frame was skipped for the [`SkipReason`] with this index.
    Skipped(u16),
    /// The frame carries a tunnel whose content cannot be read.
    Tunnel,
    /// The frame is an ICMP error to this address, and so little of the packet that it quotes was
    /// captured that its flow is not known. Its hardware addresses are not kept.
    Error(IpAddr),
}

/// A kind of undecoded frame: its sender, its receiver and the reason.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct UndecodedFrames {
    /// The source hardware address, or [`Mac::NONE`] if it is not known.
    pub from: Mac,
    /// The destination hardware address, or [`Mac::NONE`] if it is not known.
    pub to: Mac,
    /// The reason why the frames could not be decoded.
    pub why: UndecodedReason,
}

impl UndecodedReason {
    /// Returns the reason for a skipped frame.
    pub fn skipped(reason: SkipReason) -> Self {
        Self::Skipped(reason as u16)
    }

    /// Returns the receiver of an ICMP error whose quoted packet is truncated; `None` for other
    /// frames.
    pub fn receiver_of_error(self) -> Option<IpAddr> {
        match self {
            Self::Error(receiver) => Some(receiver),
            Self::Ethertype(_) | Self::Skipped(_) | Self::Tunnel => None,
        }
    }

    /// Returns the number of frames and the reason, as reports show them.
    pub fn words(self, count: u64) -> String {
        let (frames, were) = if count == 1 { ("frame", "was") } else { ("frames", "were") };
        match self {
            Self::Ethertype(number) => format!("{count} {frames} of EtherType {number:#06x}"),
            Self::Skipped(number) => {
                let reason = SkipReason::ALL.get(usize::from(number)).map_or("", |r| r.name());
                format!("{count} {frames} that {were} skipped ({reason})")
            }
            Self::Tunnel => format!("{count} {frames} of tunnels whose content cannot be decoded"),
            Self::Error(_) => {
                let (errors, packets) =
                    if count == 1 { ("error", "packet") } else { ("errors", "packets") };
                format!("{count} ICMP {errors} with truncated quoted {packets}")
            }
        }
    }
}

/// The number of undecoded frames of each kind.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct UndecodedCounts {
    kinds: BTreeMap<UndecodedFrames, u64>,
    more: u64,
}

impl UndecodedCounts {
    /// The maximum number of kinds that are kept. Frames of further kinds are only counted.
    const MOST: usize = 4096;

    /// Adds a number of frames to a kind.
    pub(super) fn insert(&mut self, kind: UndecodedFrames, frames: u64) {
        *self.kinds.entry(kind).or_default() += frames;
        if self.kinds.len() > Self::MOST
            && let Some((_, frames)) = self.kinds.pop_last()
        {
            self.more += frames;
        }
    }

    /// Returns the kinds with their numbers of frames, in ascending order of kind.
    pub fn iter(&self) -> impl Iterator<Item = (&UndecodedFrames, u64)> {
        self.kinds.iter().map(|(kind, frames)| (kind, *frames))
    }

    /// Returns the number of frames of kinds that are not kept.
    pub fn more(&self) -> u64 {
        self.more
    }
}

/// The counts have a fixed maximum size, so they need not be trimmed.
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

    fn canonical(self) -> Self {
        let mut canonical = Self::default();
        Merge::merge(&mut canonical, &self);
        canonical
    }
}

impl Merge for UndecodedCounts {
    fn merge(&mut self, other: &Self) {
        other.kinds.iter().for_each(|(kind, frames)| self.insert(*kind, *frames));
        self.more += other.more;
    }
}
