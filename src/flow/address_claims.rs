//! Claims that an IP address belongs to a hardware address (ARP, neighbour discovery).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::keyed::EvidenceKey;
use crate::decode::Path;
use crate::model::{BUCKET_NS, DoubtedTimes, Mac, Max, Merge, Min, NO_TIME, Nanos, Sum};

/// The binding of an IP address to a hardware address, and the VLANs and path on which it was seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AddressBinding {
    /// The claimed IP address.
    pub address: IpAddr,
    /// The hardware address that is claimed to have the IP address.
    pub mac: Mac,
    /// The two outermost VLAN identifiers, outermost first. Zero means none.
    pub vlans: [u16; 2],
    /// The path, which determines whether the binding is trusted.
    pub path: Path,
}

impl EvidenceKey for AddressBinding {
    fn with_path(self, new_path: &dyn Fn(Path) -> Path) -> Self {
        Self { path: new_path(self.path), ..self }
    }

    fn addresses(&self) -> [Option<IpAddr>; 2] {
        [Some(self.address), None]
    }
}

/// The number and the times of the claims to an IP address by a hardware address.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddressClaim {
    /// The number of frames with this claim.
    pub frames: Sum,
    /// The time of the earliest frame.
    pub first: Min,
    /// The time of the latest frame.
    pub last: Max,
    /// The ten-second slots with a claim: one bit per slot, 64 slots per word. The key is the index
    /// of the word.
    pub slots: BTreeMap<Nanos, u64>,
}

impl AddressClaim {
    /// The maximum number of words. The earliest are kept, and they cover at least a week.
    const MOST: usize = 1024;

    pub(super) fn see(&mut self, time: Nanos) {
        self.frames.add(1);
        self.first.see(time);
        self.last.see(time);
        if time != NO_TIME {
            let slot = time.div_euclid(BUCKET_NS);
            self.add(slot.div_euclid(64), 1 << slot.rem_euclid(64));
        }
    }

    /// Removes the times of frames whose timestamps are doubted. The number of frames stays.
    pub fn remove_times(&mut self, doubted: &DoubtedTimes) {
        if !doubted.remove_from(&mut self.first, &mut self.last) {
            return;
        }
        for (word, slots) in &mut self.slots {
            let start = |slot: Nanos| {
                word.saturating_mul(64).saturating_add(slot).saturating_mul(BUCKET_NS)
            };
            let is_doubted = |slot: &Nanos| {
                doubted.overlaps(start(*slot), start(*slot).saturating_add(BUCKET_NS - 1))
            };
            (0..64).filter(is_doubted).for_each(|slot| *slots &= !(1 << slot));
        }
        self.slots.retain(|_, slots| *slots != 0);
    }

    fn add(&mut self, word: Nanos, slots: u64) {
        *self.slots.entry(word).or_default() |= slots;
        if self.slots.len() > Self::MOST {
            self.slots.pop_last();
        }
    }
}

impl Merge for AddressClaim {
    fn merge(&mut self, other: &Self) {
        self.frames.merge(&other.frames);
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        other.slots.iter().for_each(|(word, slots)| self.add(*word, *slots));
    }
}
