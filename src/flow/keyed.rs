//! Evidence by key. All kinds of evidence are merged, divided among partitions, limited in number
//! and serialized in the same way.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;

use indexmap::IndexMap;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::evidence_limit::{DroppedEntries, EvidenceLimit};
use super::key::{PARTITIONS, partition};
use super::row::{bucket, stable_hash, to_key};
use super::{FlowKey, HashSeed};
use crate::decode::Path;
use crate::model::{Merge, Nanos};

/// A kind of side evidence. `side_evidence.rs` lists all kinds.
pub(super) trait EvidenceKind: Default + Serialize + DeserializeOwned {
    /// Merges all evidence of `other`.
    fn merge(&mut self, other: Self);

    /// Returns whether there is no evidence of this kind.
    fn is_empty(&self) -> bool;

    /// Returns the approximate number of bytes of memory that the evidence takes.
    fn memory(&self) -> usize;

    /// Drops entries beyond a limit. Those whose keys contain the most addresses of hosts are kept,
    /// and of these the ones with the lowest keys, so that an entry that is dropped from a part
    /// would also be dropped from the whole. By default, all entries are kept, which suits kinds
    /// that are not bounded.
    fn keep_within(&mut self, _limit: &EvidenceLimit<'_>) -> DroppedEntries {
        DroppedEntries::default()
    }

    /// Divides the evidence among the partitions. By default, all of it goes to the first
    /// partition, which suits small evidence.
    fn split(self, _seed: &HashSeed) -> Vec<Self> {
        vec![self]
    }

    /// Moves evidence from each path to the path that `new_path` returns.
    fn map_paths(&mut self, _new_path: &dyn Fn(Path) -> Path) {}

    /// Returns the evidence in the form in which the program writes it. Evidence that was read from
    /// a row may have another form.
    #[must_use]
    fn canonical(self) -> Self {
        self
    }

    /// Divides the evidence into rows. Each has a bucket, a key, and the evidence with that key. By
    /// default, all of it is one row with an empty key, which suits small evidence.
    fn into_rows(self) -> Vec<(u16, Vec<u8>, Self)> {
        if self.is_empty() { Vec::new() } else { vec![(0, Vec::new(), self)] }
    }
}

/// Returns an empty value for each partition.
pub(super) fn empty_parts<T: Default>() -> Vec<T> {
    (0..PARTITIONS).map(|_| T::default()).collect()
}

/// The key of a piece of evidence.
pub trait EvidenceKey: Clone + Eq + Ord + Hash {
    /// The approximate number of bytes of memory that an entry takes.
    const MEMORY: usize = 256;

    /// Returns the same key on the path that `new_path` returns. By default, the key is unchanged,
    /// which suits keys without a path, and evidence that is resolved when tables are merged.
    #[must_use]
    fn with_path(self, _new_path: &dyn Fn(Path) -> Path) -> Self {
        self
    }

    /// Returns the addresses that evidence with this key is about, if its number is limited.
    fn addresses(&self) -> [Option<IpAddr>; 2] {
        [None; 2]
    }

    /// Returns the bucket of a row with this key, whose canonical bytes are `bytes`. By default, it
    /// depends on the whole key.
    fn bucket(&self, bytes: &[u8]) -> u16 {
        bucket(stable_hash(bytes))
    }
}

impl EvidenceKey for (IpAddr, Path) {
    fn with_path(self, new_path: &dyn Fn(Path) -> Path) -> Self {
        (self.0, new_path(self.1))
    }

    fn addresses(&self) -> [Option<IpAddr>; 2] {
        [Some(self.0), None]
    }
}

impl EvidenceKey for (IpAddr, IpAddr, Path) {
    fn with_path(self, new_path: &dyn Fn(Path) -> Path) -> Self {
        (self.0, self.1, new_path(self.2))
    }

    fn addresses(&self) -> [Option<IpAddr>; 2] {
        [Some(self.0), Some(self.1)]
    }
}

/// A side of a flow, as the key of evidence about it.
impl EvidenceKey for (FlowKey, u8) {
    fn bucket(&self, _bytes: &[u8]) -> u16 {
        self.0.bucket()
    }
}

/// The index of an interface, as the key of evidence about it.
impl EvidenceKey for u16 {}

/// A map of values that can be merged.
#[derive(Clone)]
pub struct Keyed<K, V> {
    entries: IndexMap<K, V, HashSeed>,
    /// The index of the entry that was used last, because the next access is nearly always to the
    /// same entry.
    last: usize,
}

impl<K, V> Default for Keyed<K, V> {
    fn default() -> Self {
        Self { entries: IndexMap::default(), last: 0 }
    }
}

impl<K: EvidenceKey, V: Merge + Default> Keyed<K, V> {
    /// Returns the value of a key, after adding a default value if the key is new.
    #[inline]
    pub fn entry(&mut self, key: K) -> &mut V {
        let last = self.entries.get_index(self.last);
        if last.is_none_or(|(known, _)| *known != key) {
            let entry = self.entries.entry(key);
            self.last = entry.index();
            entry.or_default();
        }
        &mut self.entries[self.last]
    }

    /// Merges `value` into the value of a key, or adds it if the key is new.
    pub fn add(&mut self, key: K, value: V) {
        use indexmap::map::Entry;
        match self.entries.entry(key) {
            Entry::Occupied(mut entry) => entry.get_mut().merge(&value),
            Entry::Vacant(entry) => drop(entry.insert(value)),
        }
    }

    /// Returns the value of a key, or `None` if the key has no value.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// Returns whether a key has a value.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns all entries in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter()
    }

    /// Returns all entries in no particular order, with values that can be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut()
    }

    /// Returns all entries in the order of their keys.
    pub fn sorted(&self) -> std::vec::IntoIter<(&K, &V)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries.into_iter()
    }

    /// Replaces the key of every entry with the result of `change`. Entries that get the same key
    /// are merged.
    pub(super) fn rekey(&mut self, change: impl Fn(K) -> K) {
        for (key, value) in std::mem::take(self).entries {
            self.add(change(key), value);
        }
    }
}

/// Iterates over all entries in unspecified order.
impl<K, V> IntoIterator for Keyed<K, V> {
    type Item = (K, V);
    type IntoIter = indexmap::map::IntoIter<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<K: EvidenceKey, V: Merge + Default> FromIterator<(K, V)> for Keyed<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut keyed = Self::default();
        entries.into_iter().for_each(|(key, value)| keyed.add(key, value));
        keyed
    }
}

impl<K: EvidenceKey + Serialize, V: Merge + Default> EvidenceKind for Keyed<K, V>
where
    Self: Serialize + DeserializeOwned,
{
    fn merge(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        other.into_iter().for_each(|(key, value)| self.add(key, value));
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn memory(&self) -> usize {
        self.entries.len() * K::MEMORY
    }

    fn keep_within(&mut self, limit: &EvidenceLimit<'_>) -> DroppedEntries {
        if self.entries.len() <= limit.most {
            return DroppedEntries::default();
        }
        let ranked = std::mem::take(self).entries.into_iter();
        let mut ranked: Vec<_> = ranked
            .map(|(key, value)| (Reverse(limit.hosts_among(key.addresses())), key, value))
            .collect();
        ranked.sort_unstable_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let dropped = ranked.split_off(limit.most);
        self.entries = ranked.into_iter().map(|(_, key, value)| (key, value)).collect();
        // The first of them has the most addresses of hosts.
        let of_hosts = dropped.first().is_some_and(|(Reverse(hosts), ..)| *hosts > 0);
        DroppedEntries { count: dropped.len() as u64, of_hosts }
    }

    fn split(self, seed: &HashSeed) -> Vec<Self> {
        let mut parts = empty_parts::<Self>();
        for (key, value) in self {
            parts[partition(seed.hash_one(&key))].entries.insert(key, value);
        }
        parts
    }

    fn map_paths(&mut self, new_path: &dyn Fn(Path) -> Path) {
        self.rekey(|key| key.with_path(new_path));
    }

    fn canonical(self) -> Self {
        let mut canonical = Self::default();
        self.into_iter().for_each(|(key, value)| canonical.entry(key).merge(&value));
        canonical
    }

    fn into_rows(self) -> Vec<(u16, Vec<u8>, Self)> {
        let row = |(key, value): (K, V)| {
            let bytes = to_key(&key);
            (key.bucket(&bytes), bytes, std::iter::once((key, value)).collect())
        };
        self.into_iter().map(row).collect()
    }
}

/// Writes the entries in the order of their keys, so that equal evidence is written as equal bytes.
impl<K: EvidenceKey + Serialize, V: Merge + Default + Serialize> Serialize for Keyed<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.sorted())
    }
}

impl<'de, K: EvidenceKey + Deserialize<'de>, V: Merge + Default + Deserialize<'de>> Deserialize<'de>
    for Keyed<K, V>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor(Self::default()))
    }
}

/// A visitor that adds the entries of a serialized map to its value.
struct EntryVisitor<K, V>(Keyed<K, V>);

impl<'de, K: EvidenceKey + Deserialize<'de>, V: Merge + Default + Deserialize<'de>> Visitor<'de>
    for EntryVisitor<K, V>
{
    type Value = Keyed<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a map")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some((key, value)) = map.next_entry()? {
            self.0.add(key, value);
        }
        Ok(self.0)
    }
}

impl<K: EvidenceKey + fmt::Debug, V: Merge + Default + fmt::Debug> fmt::Debug for Keyed<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.sorted()).finish()
    }
}

/// Evidence that consists of points in time, such as interruptions of the capture.
impl EvidenceKind for BTreeSet<Nanos> {
    fn merge(&mut self, other: Self) {
        self.extend(other);
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    fn memory(&self) -> usize {
        self.len() * size_of::<Nanos>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sum;

    fn keyed(entries: &[(u16, u64)]) -> Keyed<u16, Sum> {
        entries.iter().map(|(key, value)| (*key, Sum(*value))).collect()
    }

    #[test]
    fn whatever_came_first_the_same_is_kept_and_written() {
        let a = keyed(&[(7, 1), (3, 2)]);
        let b = keyed(&[(3, 5), (9, 1), (1, 4)]);
        let mut there = a.clone();
        let mut back = b.clone();
        EvidenceKind::merge(&mut there, b);
        EvidenceKind::merge(&mut back, a);
        let bytes = |keyed: &Keyed<u16, Sum>| postcard::to_stdvec(keyed).unwrap();
        assert_eq!(bytes(&there), bytes(&back));
        assert_eq!(there.get(&3), Some(&Sum(7)));
        let limit = EvidenceLimit { most: 2, ..EvidenceLimit::NONE };
        let dropped = DroppedEntries { count: 2, of_hosts: false };
        assert_eq!([there.keep_within(&limit), back.keep_within(&limit)], [dropped; 2]);
        assert_eq!(format!("{there:?}"), "{1: Sum(4), 3: Sum(7)}");
        let again: Keyed<u16, Sum> = postcard::from_bytes(&bytes(&back)).unwrap();
        assert_eq!(bytes(&again), bytes(&there));
        // The index of the last used entry is correct after all these operations.
        there.entry(3).add(1);
        there.entry(3).add(1);
        there.entry(8).add(1);
        assert_eq!(format!("{there:?}"), "{1: Sum(4), 3: Sum(9), 8: Sum(1)}");
    }
}
