//! Who said that an IP address is at a hardware address (ARP, neighbour discovery).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::keyed::EvidenceKey;
use crate::decode::Path;
use crate::model::{BUCKET_NS, Mac, Max, Merge, Min, NO_TIME, Nanos, Sum};

/// Who said that an IP address is his, and where it was heard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AddressBinding {
    /// The IP address.
    pub address: IpAddr,
    /// The hardware address.
    pub mac: Mac,
    /// The VLANs, outermost first; zero for none.
    pub vlans: [u16; 2],
    /// How far it may be believed.
    pub path: Path,
}

impl EvidenceKey for AddressBinding {
    fn believed(self, believed: &dyn Fn(Path) -> Path) -> Self {
        Self { path: believed(self.path), ..self }
    }
}

/// How often and when a hardware address claimed an IP address.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AddressClaim {
    /// Frames.
    pub frames: Sum,
    /// The earliest.
    pub first: Min,
    /// The latest.
    pub last: Max,
    /// The ten seconds in which it did: a bit each, 64 to a word, by the number of the word.
    pub slots: BTreeMap<Nanos, u64>,
}

impl AddressClaim {
    /// Words that are kept: a week.
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
