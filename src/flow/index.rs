//! Where a flow is: four bytes of its hash and four of its position, in open addressing.
//!
//! A look-up misses memory once, and growing never looks at a key.

use super::memory::prefetch;

/// A slot that holds nothing.
const EMPTY: u32 = u32::MAX;

/// The least size; a power of two.
const LEAST: usize = 16;

/// Positions by hash.
#[derive(Default)]
pub(super) struct Index {
    /// A power of two of slots, or none.
    slots: Vec<IndexSlot>,
    used: usize,
}

#[derive(Clone, Copy)]
struct IndexSlot {
    tag: u32,
    position: u32,
}

impl Index {
    /// Has the slot fetched that a hash will be looked for at.
    pub fn prefetch(&self, hash: u64) {
        prefetch(self.slots.get(self.home(hash as u32)));
    }

    /// What the first slot for a hash points to, which is nearly always what is looked for; a place that is
    /// none where it is empty.
    #[inline]
    pub fn guess(&self, hash: u64) -> usize {
        self.slots.get(self.home(hash as u32)).map_or(usize::MAX, |slot| slot.position as usize)
    }

    /// The position with this hash for which `is_it` holds; where there is none, `new` comes in.
    #[inline]
    pub fn find_or_insert(
        &mut self,
        hash: u64,
        new: usize,
        is_it: impl Fn(usize) -> bool,
    ) -> usize {
        // Three quarters full: the next look-ups are still near home.
        if self.used * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let (tag, mask) = (hash as u32, self.slots.len() - 1);
        let mut at = self.home(tag);
        loop {
            let slot = self.slots[at];
            if slot.position == EMPTY {
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

    /// Bytes of memory.
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
        // All of one hash, of a few, and of many.
        for hash in [|_| 5, |key: u64| key % 10, |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15)]
        {
            let mut index = Index::default();
            let mut held: Vec<u64> = Vec::new();
            for key in keys.iter().chain(&keys) {
                let position = index.find_or_insert(hash(*key), held.len(), |at| held[at] == *key);
                if position == held.len() {
                    held.push(*key);
                }
                assert_eq!(held[position], *key);
            }
            assert_eq!(held, keys);
        }
    }
}
