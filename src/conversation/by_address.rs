//! Counts for each address, in a fixed amount of memory.

use std::net::IpAddr;

use crate::model::Merge;

/// The number of places for counts.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 12;

/// Counts for each address, with which the evidence of any one address can be left out of a total.
/// Addresses share a fixed number of places, so that a flood takes no memory. If two addresses have
/// the same place, the evidence of both is left out.
#[derive(Clone, Debug)]
pub(super) struct CountsByAddress<T> {
    /// One element for each place, or none if nothing was counted.
    places: Vec<T>,
}

impl<T> Default for CountsByAddress<T> {
    fn default() -> Self {
        Self { places: Vec::new() }
    }
}

impl<T: Clone + Default> CountsByAddress<T> {
    /// Returns the counts of an address.
    pub fn of(&mut self, address: IpAddr) -> &mut T {
        if self.places.is_empty() {
            self.places.resize(PLACES, T::default());
        }
        &mut self.places[place(address)]
    }

    /// Returns the counts of all places, or an empty iterator if nothing was counted.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter()
    }
}

impl<T: Clone + Default + Merge> Merge for CountsByAddress<T> {
    fn merge(&mut self, other: &Self) {
        if self.places.is_empty() {
            self.places.clone_from(&other.places);
            return;
        }
        for (mine, theirs) in self.places.iter_mut().zip(&other.places) {
            mine.merge(theirs);
        }
    }
}

/// Returns the place of an address. It is the same in every run, so that reports do not differ
/// (Fibonacci hashing, which gives the addresses of a small network different places).
fn place(address: IpAddr) -> usize {
    let bits = match address {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() ^ v6.to_bits() >> 64) as u64,
    };
    (bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - PLACE_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::Sum;

    #[test]
    fn the_addresses_of_a_network_have_places_of_their_own() {
        let places: BTreeSet<usize> =
            (0..=255).map(|last| place([10, 1, 0, last].into())).collect();
        assert_eq!(places.len(), 256);
        let of_v6 = |last: u16| place([0x2001, 0xdb8, 0, 0, 0, 0, 0, last].into());
        let places: BTreeSet<usize> = (0..256).map(of_v6).collect();
        assert_eq!(places.len(), 256);
    }

    #[test]
    fn counts_merge_by_place() {
        let [a, b] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let mut first = CountsByAddress::<Sum>::default();
        assert_eq!(first.iter().count(), 0);
        let mut second = CountsByAddress::<Sum>::default();
        second.of(a).add(1);
        first.merge(&second);
        second.of(b).add(4);
        first.merge(&second);
        first.merge(&CountsByAddress::default());
        assert_eq!((first.of(a).0, first.of(b).0), (2, 4));
        assert_eq!(first.iter().map(|count| count.0).sum::<u64>(), 6);
    }
}
