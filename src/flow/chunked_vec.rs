//! A vector in chunks of equal size. Growth moves only the elements of the first chunk, and leaves
//! little memory unused.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// The number of elements per chunk. It is a power of two, so that bits of an index select the
/// chunk.
const CHUNK: usize = 1024;

/// A vector whose elements are stored in chunks.
#[derive(Serialize, Deserialize)]
pub(super) struct ChunkedVec<T> {
    /// The chunks. All but the last one are full.
    #[serde(rename = "pieces")]
    chunks: Vec<Vec<T>>,
}

impl<T> Default for ChunkedVec<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> ChunkedVec<T> {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Returns the allocated memory in bytes.
    pub fn memory(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum()
    }

    /// Appends an element.
    pub fn push(&mut self, member: T) {
        match self.chunks.last_mut().filter(|last| last.len() < CHUNK) {
            Some(last) => last.push(member),
            None => {
                // The first chunk grows as needed, because most tables are small. Further chunks
                // will probably fill up.
                let room = if self.chunks.is_empty() { 1 } else { CHUNK };
                let mut chunk = Vec::with_capacity(room);
                chunk.push(member);
                self.chunks.push(chunk);
            }
        }
    }

    /// Returns the element at an index, or `None` if the index is out of range.
    pub fn get(&self, position: usize) -> Option<&T> {
        self.chunks.get(position / CHUNK)?.get(position % CHUNK)
    }

    /// Returns the elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Returns the elements in order. Each chunk is freed after it has been read.
    pub fn into_iter(self) -> impl Iterator<Item = T> {
        self.chunks.into_iter().flatten()
    }
}

impl<T> Index<usize> for ChunkedVec<T> {
    type Output = T;

    fn index(&self, position: usize) -> &T {
        &self.chunks[position / CHUNK][position % CHUNK]
    }
}

impl<T> IndexMut<usize> for ChunkedVec<T> {
    fn index_mut(&mut self, position: usize) -> &mut T {
        &mut self.chunks[position / CHUNK][position % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stay_over_all_sizes() {
        let mut dense = ChunkedVec::default();
        for number in 0..3 * CHUNK + 7 {
            assert_eq!(dense.len(), number);
            assert_eq!(dense.get(number), None);
            dense.push(number);
            assert_eq!((dense[number], dense[number / 2]), (number, number / 2));
        }
        assert!(dense.iter().copied().eq(0..dense.len()));
        assert!(dense.into_iter().eq(0..3 * CHUNK + 7));
    }
}
