//! Claims that an IP address belongs to a hardware address (ARP, neighbour discovery).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::keyed::EvidenceKey;
use crate::decode::Path;
use crate::model::{BUCKET_NS, DoubtedTimes, Mac, Max, Merge, Min, NO_TIME, Nanos, SECOND, Sum};

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
    /// of the word. At most the earliest and the latest [`EDGE_WORDS`] words are kept.
    pub slots: BTreeMap<Nanos, u64>,
}

/// The number of the earliest words, and of the latest words, that are kept for each binding. Each
/// part covers at least three and a half days. A conflict at the beginning is found however long
/// the capture goes on, and one at the end however long it has gone on.
pub const EDGE_WORDS: usize = 512;

/// The length of the time that a word covers, in seconds.
pub const WORD_S: Nanos = 64 * BUCKET_NS / SECOND;

impl AddressClaim {
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

    /// Returns the words that may have been dropped: those between the earliest and the latest
    /// words that are kept. Returns `None` if all words are there.
    pub fn dropped_words(&self) -> Option<Range<Nanos>> {
        if self.slots.len() < 2 * EDGE_WORDS {
            return None;
        }
        let mut inner = self.slots.keys().skip(EDGE_WORDS - 1);
        let [earlier, later] = [*inner.next()?, *inner.next()?];
        (earlier + 1 < later).then_some(earlier + 1..later)
    }

    /// Adds slots. If there are too many words, the one in the middle is dropped. A word that is
    /// dropped from a part would also be dropped from the whole.
    fn add(&mut self, word: Nanos, slots: u64) {
        *self.slots.entry(word).or_default() |= slots;
        if self.slots.len() > 2 * EDGE_WORDS {
            let middle = self.slots.keys().nth(EDGE_WORDS).copied();
            middle.and_then(|middle| self.slots.remove(&middle));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a claim with one frame in each of these words.
    fn claim(words: impl IntoIterator<Item = Nanos>) -> AddressClaim {
        let mut claim = AddressClaim::default();
        words.into_iter().for_each(|word| claim.see(word * 64 * BUCKET_NS));
        claim
    }

    #[test]
    fn the_earliest_and_the_latest_words_are_kept_whatever_came_first() {
        let edge = EDGE_WORDS as Nanos;
        let kept: Vec<Nanos> = (0..edge).chain(3000 - edge..3000).collect();
        let mut backwards = claim((1000..2000).rev());
        backwards.merge(&claim((2000..3000).rev()));
        backwards.merge(&claim(0..1000));
        // Parts that overlap, and a part with words that another one dropped.
        let mut overlapping = claim(0..2500);
        overlapping.merge(&claim(1400..1500));
        overlapping.merge(&claim(700..3000));
        for all in [claim(0..3000), backwards, overlapping] {
            assert!(all.slots.keys().eq(&kept), "{:?}", all.slots.len());
            assert!(all.slots.values().all(|slots| *slots == 1));
            assert_eq!(all.dropped_words(), Some(edge..3000 - edge));
        }
        assert_eq!(claim(0..2 * edge).dropped_words(), None);
        assert_eq!(claim((0..2 * edge - 1).map(|word| 2 * word)).dropped_words(), None);
    }
}
