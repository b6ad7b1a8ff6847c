//! Records in pieces of equal size. Growing moves no records and leaves little room unused.

use std::ops::{Index, IndexMut};

use serde::{Deserialize, Serialize};

/// The number of members of a piece. It is a power of two, so that bits of a position select the
/// piece.
const PIECE: usize = 1024;

/// A list that grows by pieces.
#[derive(Serialize, Deserialize)]
pub(super) struct ChunkedVec<T> {
    /// The pieces. All but the last one are full.
    pieces: Vec<Vec<T>>,
}

impl<T> Default for ChunkedVec<T> {
    fn default() -> Self {
        Self { pieces: Vec::new() }
    }
}

impl<T> ChunkedVec<T> {
    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.pieces.last().map_or(0, |last| (self.pieces.len() - 1) * PIECE + last.len())
    }

    /// Returns whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Returns the number of bytes of memory.
    pub fn memory(&self) -> usize {
        self.pieces.iter().map(|piece| piece.capacity() * size_of::<T>()).sum()
    }

    /// Adds a member at the end.
    pub fn push(&mut self, member: T) {
        match self.pieces.last_mut().filter(|last| last.len() < PIECE) {
            Some(last) => last.push(member),
            None => {
                // The first piece of a small table grows as needed. Further pieces will probably
                // fill up.
                let room = if self.pieces.is_empty() { 1 } else { PIECE };
                let mut piece = Vec::with_capacity(room);
                piece.push(member);
                self.pieces.push(piece);
            }
        }
    }

    /// Returns the member at a position, if there is one.
    pub fn get(&self, position: usize) -> Option<&T> {
        self.pieces.get(position / PIECE)?.get(position % PIECE)
    }

    /// Returns the members in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// Returns the members in order. Each piece is freed once it has been read.
    pub fn into_iter(self) -> impl Iterator<Item = T> {
        self.pieces.into_iter().flatten()
    }

    /// Returns the members in order, as mutable references.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pieces.iter_mut().flatten()
    }

    /// Returns the members in order, `size` at a time. `size` must divide the size of a piece.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = &[T]> {
        debug_assert_eq!(PIECE % size, 0);
        self.pieces.iter().flat_map(move |piece| piece.chunks(size))
    }
}

impl<T> Index<usize> for ChunkedVec<T> {
    type Output = T;

    fn index(&self, position: usize) -> &T {
        &self.pieces[position / PIECE][position % PIECE]
    }
}

impl<T> IndexMut<usize> for ChunkedVec<T> {
    fn index_mut(&mut self, position: usize) -> &mut T {
        &mut self.pieces[position / PIECE][position % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stay_over_all_sizes() {
        let mut dense = ChunkedVec::default();
        for number in 0..3 * PIECE + 7 {
            assert_eq!(dense.len(), number);
            assert_eq!(dense.get(number), None);
            dense.push(number);
            assert_eq!((dense[number], dense[number / 2]), (number, number / 2));
        }
        assert!(dense.iter().copied().eq(0..dense.len()));
        let chunks: Vec<&[usize]> = dense.chunks(32).collect();
        assert_eq!(chunks[17][3], 17 * 32 + 3);
        assert!(chunks.concat().into_iter().eq(0..dense.len()));
    }
}
