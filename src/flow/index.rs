//! A hash index of flow positions with open addressing. A slot has four bytes of hash and four
//! bytes of position.
//!
//! A lookup in the index nearly always causes one cache miss, and growing never reads a key.

use super::memory::prefetch;

/// The position that marks an empty slot.
const EMPTY: u32 = u32::MAX;

/// The minimum number of slots, which is a power of two.
const LEAST: usize = 16;

/// A map from hashes to positions.
#[derive(Default)]
pub(super) struct Index {
    /// The slots. Their number is zero or a power of two.
    slots: Vec<IndexSlot>,
    used: usize,
}

#[derive(Clone, Copy)]
struct IndexSlot {
    tag: u32,
    position: u32,
}

impl Index {
    /// Prefetches the home slot of a hash.
    pub fn prefetch(&self, hash: u64) {
        prefetch(self.slots.get(self.home(hash as u32)));
    }

    /// Returns the position in the home slot of a hash, which is nearly always the right one.
    /// Returns an invalid position if the slot is empty.
    #[inline]
    pub fn guess(&self, hash: u64) -> usize {
        self.slots.get(self.home(hash as u32)).map_or(usize::MAX, |slot| slot.position as usize)
    }

    /// Returns the position with this hash for which `is_it` holds. If there is none, inserts and
    /// returns the position that `new` returns.
    #[inline]
    pub fn find_or_insert(
        &mut self,
        hash: u64,
        new: impl FnOnce() -> usize,
        is_it: impl Fn(usize) -> bool,
    ) -> usize {
        // At most three quarters of the slots are used, so that probing ends near the home slot.
        if self.used * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let tag = hash as u32;
        let mask = self.slots.len() - 1;
        let mut at = self.home(tag);
        loop {
            let slot = self.slots[at];
            if slot.position == EMPTY {
                let new = new();
                self.slots[at] = IndexSlot { tag, position: new as u32 };
                self.used += 1;
                return new;
            }
            if slot.tag == tag && is_it(slot.position as usize) {
                return slot.position as usize;
            }
            at = (at + 1) & mask;
        }
    }

    /// Returns the allocated memory in bytes.
    pub fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<IndexSlot>()
    }

    fn home(&self, tag: u32) -> usize {
        tag as usize & self.slots.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(LEAST);
        let empty = IndexSlot { tag: 0, position: EMPTY };
        let old = std::mem::replace(&mut self.slots, vec![empty; size]);
        for slot in old.into_iter().filter(|slot| slot.position != EMPTY) {
            let mut at = self.home(slot.tag);
            while self.slots[at].position != EMPTY {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hashes_and_growth_keep_everything() {
        let keys: Vec<u64> = (0..1000).map(|n| n * 7).collect();
        // In turn, all keys share one hash, share ten hashes, or have different hashes.
        for hash in [|_| 5, |key: u64| key % 10, |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)]
        {
            let mut index = Index::default();
            let mut held: Vec<u64> = Vec::new();
            for key in keys.iter().chain(&keys) {
                let new = held.len();
                let position = index.find_or_insert(hash(*key), || new, |at| held[at] == *key);
                if position == held.len() {
                    held.push(*key);
                }
                assert_eq!(held[position], *key);
            }
            assert_eq!(held, keys);
        }
    }
}
