//! Values that only a few of the flows of a table have.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::HashSeed;

/// The most memory that an index in a hash table takes, in bytes: its key, its value and a control
/// byte, for each of the eight slots of which at most seven are used.
const INDEX: usize = (2 * size_of::<u32>() + 1) * 8 / 7 + 1;

/// A value that only a few flows have.
pub(super) trait SparseValue: Default {
    /// Returns the most memory, in bytes, that the value takes in addition to its own size.
    fn heap(&self) -> usize;
}

/// Values by the position of their flow. The values are in a list, because the values of a hash
/// table would take up to twice the memory: a quarter to half of its slots are empty.
#[derive(Default)]
pub(super) struct SparseValues<T> {
    /// For each position of a flow, the index of its value.
    indexes: HashMap<u32, u32, HashSeed>,
    /// The values, each with the position of its flow.
    list: Vec<(u32, T)>,
    /// The memory of the values in addition to their own size, in bytes.
    heap: usize,
}

impl<T: SparseValue> SparseValues<T> {
    /// Returns the most memory that the values take, in bytes.
    pub fn memory(&self) -> usize {
        let own = self.list.capacity() * size_of::<(u32, T)>();
        own + self.indexes.capacity() * INDEX + self.heap
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns the value of the flow at a position.
    pub fn get(&self, position: usize) -> Option<&T> {
        let index = self.indexes.get(&(position as u32))?;
        Some(&self.list[*index as usize].1)
    }

    /// Sets the value of the flow at a position.
    pub fn insert(&mut self, position: usize, value: T) {
        self.update(position, |own| *own = value);
    }

    /// Changes the value of the flow at a position, after adding an empty one if there is none.
    /// Returns the result of `change`.
    pub fn update<R>(&mut self, position: usize, change: impl FnOnce(&mut T) -> R) -> R {
        let position = position as u32;
        let next = self.list.len() as u32;
        let index = *self.indexes.entry(position).or_insert(next);
        if index == next {
            self.list.push((position, T::default()));
        }
        let value = &mut self.list[index as usize].1;
        let before = value.heap();
        let result = change(value);
        self.heap = self.heap + value.heap() - before;
        result
    }

    /// Removes and returns the value of the flow at a position.
    pub fn remove(&mut self, position: usize) -> Option<T> {
        let index = self.indexes.remove(&(position as u32))?;
        let (_, value) = self.list.swap_remove(index as usize);
        self.heap -= value.heap();
        if let Some((moved, _)) = self.list.get(index as usize) {
            self.indexes.insert(*moved, index);
        }
        Some(value)
    }

    /// Returns all values with the positions of their flows, in no particular order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &T)> {
        self.list.iter().map(|(position, value)| (*position, value))
    }

    /// Changes each value with `change`, which returns whether the value is kept.
    pub fn update_all(&mut self, mut change: impl FnMut(usize, &mut T) -> bool) {
        self.list.retain_mut(|(position, value)| change(*position as usize, value));
        let positions = self.list.iter().map(|(position, _)| *position);
        self.indexes = positions.zip(0..).collect();
        self.heap = self.list.iter().map(|(_, value)| value.heap()).sum();
    }
}

impl<T: SparseValue + Serialize> Serialize for SparseValues<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: SparseValue + Deserialize<'de>> Deserialize<'de> for SparseValues<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = HashMap::<u32, T, HashSeed>::deserialize(deserializer)?;
        let list: Vec<(u32, T)> = values.into_iter().collect();
        let positions = list.iter().map(|(position, _)| *position);
        let heap = list.iter().map(|(_, value)| value.heap()).sum();
        Ok(Self { indexes: positions.zip(0..).collect(), list, heap })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number counts as the memory that it takes.
    impl SparseValue for usize {
        fn heap(&self) -> usize {
            *self
        }
    }

    #[test]
    fn values_are_found_by_position_after_others_were_removed() {
        let mut values = SparseValues::default();
        (0..10).for_each(|n| values.insert(n * 7, n));
        assert_eq!(values.remove(14), Some(2));
        assert_eq!(values.remove(14), None);
        values.update_all(|position, value| {
            *value += 100;
            position != 35
        });
        values.update(14, |value| *value += 1);
        let restored: SparseValues<usize> =
            postcard::from_bytes(&postcard::to_stdvec(&values).unwrap()).unwrap();
        for values in [values, restored] {
            let expected = [0, 7, 14, 21, 28, 35, 42, 49, 56, 63, 70].map(|n| match n {
                14 => Some(1),
                35 | 70 => None,
                n => Some(n / 7 + 100),
            });
            let found = (0..=10).map(|n| values.get(n * 7).copied());
            assert!(found.eq(expected));
            assert_eq!(values.list.len(), 9);
            assert_eq!(values.heap, values.iter().map(|(_, value)| *value).sum::<usize>());
            let least = 9 * size_of::<(u32, usize)>() + 9 * 2 * size_of::<u32>() + values.heap;
            assert!(values.memory() >= least, "{}", values.memory());
        }
    }
}
