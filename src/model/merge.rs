//! The merge law and the building blocks that obey it.
//!
//! Partial results (of a thread, a file or a part of a file) can be merged in any order and any
//! grouping, and the whole is always the same. Types that consist only of the building blocks below
//! obey the law field by field. `tests/it/merge_laws.rs` checks this.

use serde::{Deserialize, Serialize};

use super::time::{NO_TIME, Nanos};

/// Commutative and associative combination of two partial results.
pub trait Merge {
    /// Merges `other` into this result.
    fn merge(&mut self, other: &Self);
}

/// Does nothing: for a key without a value, presence is the only information.
impl Merge for () {
    fn merge(&mut self, (): &Self) {}
}

/// Merges by union.
impl<T: Ord + Clone> Merge for std::collections::BTreeSet<T> {
    fn merge(&mut self, other: &Self) {
        self.extend(other.iter().cloned());
    }
}

/// A sum that saturates at its maximum. Saturating addition is still commutative and associative,
/// but not idempotent, so this type is used only for amounts on which no ruling depends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
pub struct Sum<T = u64>(pub T);

impl Sum<u64> {
    /// Adds `amount`. The sum saturates at the maximum of its type.
    pub fn add(&mut self, amount: u64) {
        self.0 = self.0.saturating_add(amount);
    }
}

impl Sum<u32> {
    /// Adds `amount`. The sum saturates at the maximum of its type.
    pub fn add(&mut self, amount: u32) {
        self.0 = self.0.saturating_add(amount);
    }
}

impl Merge for Sum<u64> {
    fn merge(&mut self, other: &Self) {
        self.add(other.0);
    }
}

impl Merge for Sum<u32> {
    fn merge(&mut self, other: &Self) {
        self.add(other.0);
    }
}

/// The earliest time seen; empty until one is seen. Merging is idempotent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Min(Nanos);

impl Default for Min {
    fn default() -> Self {
        Self(Nanos::MAX)
    }
}

impl Min {
    /// No time seen.
    pub const EMPTY: Self = Self(Nanos::MAX);

    /// Includes `time`; ignores [`NO_TIME`].
    pub fn see(&mut self, time: Nanos) {
        if time != NO_TIME && time < self.0 {
            self.0 = time;
        }
    }

    /// Returns the earliest time seen.
    pub fn get(self) -> Option<Nanos> {
        (self.0 != Nanos::MAX).then_some(self.0)
    }
}

impl Merge for Min {
    fn merge(&mut self, other: &Self) {
        self.0 = self.0.min(other.0);
    }
}

/// The latest time seen; empty until one is seen. Merging is idempotent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Max(Nanos);

impl Default for Max {
    fn default() -> Self {
        Self(NO_TIME)
    }
}

impl Max {
    /// No time seen.
    pub const EMPTY: Self = Self(NO_TIME);

    /// Includes `time`. [`NO_TIME`] has no effect because it is the lowest value.
    pub fn see(&mut self, time: Nanos) {
        self.0 = self.0.max(time);
    }

    /// Returns the latest time seen.
    pub fn get(self) -> Option<Nanos> {
        (self.0 != NO_TIME).then_some(self.0)
    }
}

impl Merge for Max {
    fn merge(&mut self, other: &Self) {
        self.0 = self.0.max(other.0);
    }
}

/// The range of the 32-bit numbers seen; empty until one is seen. Merging is idempotent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NumberRange {
    least: u32,
    most: u32,
}

impl Default for NumberRange {
    fn default() -> Self {
        Self { least: u32::MAX, most: 0 }
    }
}

impl NumberRange {
    /// Extends the range, if necessary, to include `number`.
    pub fn see(&mut self, number: u32) {
        self.least = self.least.min(number);
        self.most = self.most.max(number);
    }

    /// Returns whether the range contains `number`.
    pub fn holds(self, number: u32) -> bool {
        (self.least..=self.most).contains(&number)
    }

    /// Returns the range from `least` to the number that is `width` higher; `None` if that number
    /// does not exist.
    pub fn of(least: u32, width: u32) -> Option<Self> {
        least.checked_add(width).map(|most| Self { least, most })
    }

    /// Returns the lowest number seen.
    pub fn least(self) -> Option<u32> {
        (self.least <= self.most).then_some(self.least)
    }

    /// Returns the difference between the highest and the lowest number seen.
    pub fn width(self) -> Option<u32> {
        self.most.checked_sub(self.least)
    }
}

impl Merge for NumberRange {
    fn merge(&mut self, other: &Self) {
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }
}

/// A set of bits that stay set once they have been seen. Merging is idempotent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct FlagSet(pub u16);

impl FlagSet {
    /// Returns whether any of `bits` is set.
    pub fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

impl Merge for FlagSet {
    fn merge(&mut self, other: &Self) {
        self.0 |= other.0;
    }
}

/// The most that the allocator takes for a small block of memory in addition to its size, in bytes.
pub(crate) const BLOCK_OVERHEAD: usize = 32;

/// A set that keeps only its `N` lowest members and records whether there were more. This bounds
/// the memory that hostile input can take, and the result does not depend on the order of arrival.
/// Merging is idempotent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BoundedSet<T, const N: usize> {
    /// The members, sorted. Most sets have one member, for which a vector takes the least memory.
    kept: Vec<T>,
    more: bool,
}

impl<T, const N: usize> Default for BoundedSet<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> BoundedSet<T, N> {
    /// Creates an empty set.
    pub const fn new() -> Self {
        Self { kept: Vec::new(), more: false }
    }

    /// Returns the set with these members, which must be at most `N`, in ascending order and
    /// without duplicates. `more` states whether there were more.
    pub(crate) const fn of_sorted(kept: Vec<T>, more: bool) -> Self {
        Self { kept, more }
    }

    /// Returns whether the set has no members.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns the most memory, in bytes, that the set takes in addition to its own size. What the
    /// members refer to does not count.
    pub(crate) fn heap(&self) -> usize {
        match self.kept.capacity() {
            0 => 0,
            capacity => capacity * size_of::<T>() + BLOCK_OVERHEAD,
        }
    }
}

impl<T: Ord + Clone, const N: usize> BoundedSet<T, N> {
    /// Inserts a member. If the set is full, it keeps the `N` lowest members and records that there
    /// were more.
    pub fn insert(&mut self, member: T) {
        let Err(position) = self.kept.binary_search(&member) else {
            return;
        };
        if self.kept.len() < N {
            if self.kept.is_empty() {
                self.kept.reserve_exact(1);
            }
            self.kept.insert(position, member);
            return;
        }
        self.more = true;
        if position < N {
            self.kept.pop();
            self.kept.insert(position, member);
        }
    }

    /// Returns the kept members, lowest first.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.kept.iter()
    }

    /// Returns whether a member is kept.
    pub fn contains(&self, member: &T) -> bool {
        self.kept.binary_search(member).is_ok()
    }

    /// Returns the number of kept members.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns whether the set had more members than it keeps.
    pub fn more(&self) -> bool {
        self.more
    }

    /// Returns whether the set has at most `N` members, in ascending order and without duplicates.
    /// A set that was read from a file may violate this.
    pub fn is_canonical(&self) -> bool {
        self.kept.len() <= N && self.kept.is_sorted_by(|a, b| a < b)
    }
}

impl<T: Ord + Clone, const N: usize> Merge for BoundedSet<T, N> {
    fn merge(&mut self, other: &Self) {
        for member in &other.kept {
            self.insert(member.clone());
        }
        self.more |= other.more;
    }
}

/// A [`BoundedSet`] for small members that needs no heap memory. It suits sets that exist in very
/// large numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InlineBoundedSet<T, const N: usize> {
    /// The first `count` elements are the members, sorted.
    kept: [T; N],
    count: u8,
    more: bool,
}

impl<T: Copy + Default, const N: usize> Default for InlineBoundedSet<T, N> {
    fn default() -> Self {
        Self { kept: [T::default(); N], count: 0, more: false }
    }
}

impl<T: Copy + Ord, const N: usize> InlineBoundedSet<T, N> {
    /// Inserts a member. If the set is full, it keeps the `N` lowest members and records that there
    /// were more.
    #[inline]
    pub fn insert(&mut self, member: T) {
        // Nearly all members are known, and a few members are compared sooner than searched.
        if !self.kept[..usize::from(self.count)].contains(&member) {
            self.insert_new(member);
        }
    }

    fn insert_new(&mut self, member: T) {
        let count = usize::from(self.count);
        let Err(position) = self.kept[..count].binary_search(&member) else { return };
        self.more |= count == N;
        if position == N {
            return;
        }
        let last = count.min(N - 1);
        self.kept.copy_within(position..last, position + 1);
        self.kept[position] = member;
        self.count = (last + 1) as u8;
    }

    /// Returns the kept members, lowest first.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.kept[..usize::from(self.count)].iter()
    }

    /// Returns whether a member is kept.
    pub fn contains(&self, member: &T) -> bool {
        self.kept[..usize::from(self.count)].binary_search(member).is_ok()
    }

    /// Returns whether the set had more members than it keeps.
    pub fn more(&self) -> bool {
        self.more
    }
}

impl<T: Copy + Ord, const N: usize> Merge for InlineBoundedSet<T, N> {
    fn merge(&mut self, other: &Self) {
        other.iter().for_each(|member| self.insert(*member));
        self.more |= other.more;
    }
}
