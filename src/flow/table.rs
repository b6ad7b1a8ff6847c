//! One bag of flow states: a compact index beside dense records.
//!
//! The index holds four bytes of hash and four of position for each flow, so that a lookup misses
//! memory once for the index and once for the record. What few flows need lies in a side table.

use std::collections::HashMap;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::copies::{Removals, Trace};
use super::state::{Extra, FlowState, IcmpError, Side};
use super::{FlowKey, Heard, Seed};
use crate::decode::{Body, ErrorKind, Link, Observation, sign};
use crate::model::{AtMost, Merge, Nanos};
use crate::names::{Hello, Pieces};

/// A side's link number: none seen yet.
const NO_LINK: u16 = 0;
/// A side's link number: look into the side table, which then holds all links of the side.
const MANY_LINKS: u16 = u16::MAX;

/// A bag of flow states by key.
pub struct FlowTable {
    seed: Seed,
    index: HashTable<Slot>,
    records: Records,
    interned: HashMap<Link, u16, Seed>,
    /// Bytes that the names hold, about.
    heard: usize,
}

/// The content of a table without its index: what is written to a temporary file.
#[derive(Default, Serialize, Deserialize)]
struct Records {
    keys: Vec<FlowKey>,
    states: Vec<FlowState>,
    /// Links by number less one.
    links: Vec<Link>,
    /// Rare evidence by position.
    extras: HashMap<u32, Extra, Seed>,
    /// What was said about names, by position.
    heard: HashMap<u32, Heard, Seed>,
    /// How many packets of each side were cut short, by position. As long as the last flow of which any was: where
    /// nothing is cut it costs nothing, where a snaplen is set nearly every flow has some.
    cut: Vec<[u64; 2]>,
}

/// Where a packet belongs in a table.
#[derive(Clone, Copy)]
pub(super) struct Place {
    position: u32,
    pub side: u8,
}

#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    position: u32,
}

/// A flow as its table holds it.
#[derive(Clone, Copy)]
pub struct Flow<'a> {
    /// Its identity.
    pub key: &'a FlowKey,
    /// What each side sent.
    pub sides: &'a [Side; 2],
    /// Its rare evidence.
    pub extra: Option<&'a Extra>,
    /// What it tells about names.
    pub heard: Option<&'a Heard>,
    /// How many packets of each side the capture cut short.
    pub cut: [u64; 2],
    links: &'a [Link],
}

impl<'a> Flow<'a> {
    /// The links that a side was seen on, in order.
    pub fn links(&self, side: usize) -> impl Iterator<Item = &'a Link> + use<'a> {
        let single = self.links.get(usize::from(self.sides[side].link).wrapping_sub(1));
        let many = match self.sides[side].link {
            MANY_LINKS => self.extra.map(|e| e.links[side].iter()),
            _ => None,
        };
        single.filter(|_| many.is_none()).into_iter().chain(many.into_iter().flatten())
    }
}

impl FlowTable {
    /// An empty table.
    pub fn new(seed: &Seed) -> Self {
        Self {
            seed: seed.clone(),
            index: HashTable::new(),
            records: Records::default(),
            interned: HashMap::with_hasher(seed.clone()),
            heard: 0,
        }
    }

    /// The number of flows.
    pub fn len(&self) -> usize {
        self.records.keys.len()
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.records.keys.is_empty()
    }

    /// Bytes of memory that the table holds, about.
    pub fn memory(&self) -> usize {
        const EXTRA: usize = 1024;
        self.records.keys.capacity() * size_of::<FlowKey>()
            + self.records.states.capacity() * size_of::<FlowState>()
            + self.index.capacity() * (size_of::<Slot>() + 1) * 8 / 7
            + self.records.extras.len() * EXTRA
            + self.records.cut.capacity() * size_of::<[u64; 2]>()
            + self.heard
    }

    /// The flows, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = Flow<'_>> {
        let records = &self.records;
        records.keys.iter().zip(&records.states).enumerate().map(|(position, (key, state))| Flow {
            key,
            sides: &state.sides,
            extra: records.extras.get(&(position as u32)),
            heard: records.heard.get(&(position as u32)),
            cut: records.cut.get(position).copied().unwrap_or_default(),
            links: &records.links,
        })
    }

    /// Finds the flow of each packet, new if it is. All of a batch are looked up before any record is
    /// touched, so that the processor waits for several misses of memory at once.
    pub(super) fn locate(&mut self, batch: &[Observation], places: &mut Vec<Place>) {
        places.clear();
        places.extend(batch.iter().map(|seen| match &seen.body {
            Body::Segment { tuple, .. } => {
                let (key, side) = FlowKey::new(tuple);
                let position = self.position(&key);
                // Nobody waits for what is read here: the processor fetches the record while the
                // next packets are looked up.
                std::hint::black_box(self.records.states[position].sides[side].link);
                Place { position: position as u32, side: side as u8 }
            }
            _ => Place { position: 0, side: 0 },
        }));
    }

    /// Takes in one packet of the flow at a place. Returns the key.
    pub(super) fn observe(
        &mut self,
        place: Place,
        seen: &Observation,
        payload: u32,
        signs: u16,
        acked: Option<u32>,
    ) -> FlowKey {
        let (position, side) = (place.position as usize, usize::from(place.side));
        let record = &mut self.records.states[position].sides[side];
        record.see(seen.time, seen.wire_len, payload, signs);
        if let Some(acked) = acked {
            record.acked.see(acked);
        }
        // Nearly every packet of a side comes over the link that its first one came over.
        let known = record.link.wrapping_sub(1);
        if self.records.links.get(usize::from(known)) != Some(&seen.link) {
            self.add_link(position, side, &seen.link);
        }
        if seen.kept & sign::CUT != 0 {
            self.cut(position)[side] += 1;
        }
        self.records.keys[position]
    }

    /// How many packets of the sides of a flow were cut short.
    fn cut(&mut self, position: usize) -> &mut [u64; 2] {
        let cut = &mut self.records.cut;
        if cut.len() <= position {
            cut.resize(position + 1, [0; 2]);
        }
        &mut cut[position]
    }

    /// Takes in the name that a side asked for.
    pub(super) fn observe_hello(&mut self, place: Place, hello: Hello) {
        self.hear(place.position, |heard| heard.hellos[usize::from(place.side)].insert(hello));
    }

    /// Takes in what may be a part of the message that names the server.
    pub(super) fn observe_part(&mut self, place: Place, time: Nanos, seq: u32, bytes: &[u8]) {
        let side = usize::from(place.side);
        let first = self.records.states[place.position as usize].sides[side].first;
        // Nearly all packets of a long flow end here.
        if first.get().is_some_and(|first| Pieces::is_young(time, first)) {
            self.hear(place.position, |heard| heard.pieces[side].see(time, seq, bytes));
        }
    }

    fn hear(&mut self, position: u32, change: impl FnOnce(&mut Heard)) {
        let heard = self.records.heard.entry(position).or_default();
        let before = heard.memory();
        change(heard);
        self.heard = (self.heard + heard.memory()).saturating_sub(before);
        if *heard == Heard::default() {
            self.records.heard.remove(&position);
        }
    }

    /// Attaches an ICMP error to the flow that it quotes.
    pub(super) fn observe_error(
        &mut self,
        key: &FlowKey,
        side: usize,
        kind: ErrorKind,
        by: std::net::IpAddr,
        time: Nanos,
    ) {
        let position = self.position(key);
        let extra = self.records.extras.entry(position as u32).or_default();
        extra.errors.insert(IcmpError { side: side as u8, kind, by });
        extra.error_first.see(time);
        extra.error_last.see(time);
        extra.error_count.add(1);
    }

    /// What a packet of a flow leaves behind, by which its copies are found.
    pub(super) fn trace(
        &self,
        flow: &FlowKey,
        side: usize,
        seen: &Observation,
        payload: u32,
    ) -> Option<Trace> {
        Trace::new(&self.seed, self.hash(flow), side, seen, payload)
    }

    /// Where a side of a flow is, new if it is.
    pub(super) fn place(&mut self, key: &FlowKey, side: usize) -> Place {
        Place { position: self.position(key) as u32, side: side as u8 }
    }

    /// Takes copies out of the amounts, once. Returns how many packets that were.
    pub(super) fn remove(&mut self, copies: &Removals) -> u64 {
        let mut removed = 0;
        for (position, key) in self.records.keys.iter().enumerate() {
            for (number, side) in self.records.states[position].sides.iter_mut().enumerate() {
                let Some(amount) = copies.of(self.seed.hash_one(key), number) else { continue };
                let before = side.sent.packets.0;
                removed += side.sent.remove(amount);
                // Of a packet and its copies some may be cut and others not: their share stays.
                if let Some(cut) = self.records.cut.get_mut(position) {
                    let share = u128::from(cut[number]) * u128::from(side.sent.packets.0);
                    cut[number] = (share / u128::from(before.max(1))) as u64;
                }
            }
        }
        removed
    }

    /// The hash of a key; also decides its partition.
    fn hash(&self, key: &FlowKey) -> u64 {
        self.seed.hash_one(key)
    }

    /// The position of a flow, new if it is.
    fn position(&mut self, key: &FlowKey) -> usize {
        let hash = self.hash(key);
        let tag = hash as u32;
        let Records { keys, states, .. } = &mut self.records;
        let same = |slot: &Slot| slot.tag == tag && keys[slot.position as usize] == *key;
        if let Some(slot) = self.index.find(hash, same) {
            return slot.position as usize;
        }
        let position = keys.len();
        let seed = &self.seed;
        self.index.insert_unique(hash, Slot { tag, position: position as u32 }, |slot| {
            seed.hash_one(keys[slot.position as usize])
        });
        keys.push(*key);
        states.push(FlowState::default());
        position
    }

    fn add_link(&mut self, position: usize, side: usize, link: &Link) {
        let number = self.intern(link);
        let record = &mut self.records.states[position].sides[side];
        match (record.link, number) {
            (NO_LINK, Some(number)) => record.link = number,
            (old, Some(number)) if old == number => {}
            (old, _) => {
                record.link = MANY_LINKS;
                let links =
                    &mut self.records.extras.entry(position as u32).or_default().links[side];
                if let Some(old) = self.records.links.get(usize::from(old).wrapping_sub(1)) {
                    links.insert(*old);
                }
                links.insert(*link);
            }
        }
    }

    /// The number of a link; none when the numbers are used up.
    fn intern(&mut self, link: &Link) -> Option<u16> {
        if let Some(number) = self.interned.get(link) {
            return Some(*number);
        }
        let number =
            u16::try_from(self.records.links.len() + 1).ok().filter(|n| *n != MANY_LINKS)?;
        self.records.links.push(*link);
        self.interned.insert(*link, number);
        Some(number)
    }

    /// The positions of the flows of each of `parts` partitions.
    pub(super) fn by_partition(&self, parts: usize) -> Vec<Vec<u32>> {
        let mut positions = vec![Vec::new(); parts];
        for (position, key) in self.records.keys.iter().enumerate() {
            positions[partition(self.hash(key), parts)].push(position as u32);
        }
        positions
    }

    /// Takes in the flows of `other` at `positions`.
    pub(super) fn merge_from(&mut self, other: &Self, positions: &[u32]) {
        for &from in positions {
            let key = &other.records.keys[from as usize];
            let position = self.position(key);
            let theirs = other.records.states[from as usize];
            self.records.states[position].merge(&theirs);
            for (side, theirs) in theirs.sides.iter().enumerate() {
                let link = usize::from(theirs.link).wrapping_sub(1);
                if let Some(link) = other.records.links.get(link) {
                    self.add_link(position, side, link);
                }
            }
            if let Some(theirs) = other.records.extras.get(&from) {
                self.merge_extra(position, theirs);
            }
            let theirs = other.records.cut.get(from as usize).filter(|cut| **cut != [0; 2]);
            if let Some(theirs) = theirs {
                self.cut(position)
                    .iter_mut()
                    .zip(theirs)
                    .for_each(|(mine, theirs)| *mine += theirs);
            }
            if let Some(theirs) = other.records.heard.get(&from) {
                self.hear(position as u32, |heard| heard.merge(theirs));
            }
        }
    }

    fn merge_extra(&mut self, position: usize, theirs: &Extra) {
        for (side, links) in theirs.links.iter().enumerate() {
            for link in links.iter() {
                self.add_link(position, side, link);
            }
        }
        let without_links =
            Extra { links: [AtMost::default(), AtMost::default()], ..theirs.clone() };
        let mine = self.records.extras.entry(position as u32).or_default();
        mine.merge(&without_links);
        // A set that overflowed elsewhere has overflowed here.
        for (side, links) in theirs.links.iter().enumerate() {
            if links.more() {
                mine.links[side].merge(links);
            }
        }
    }

    /// A table of the flows at `positions` alone.
    pub(super) fn subset(&self, positions: &[u32]) -> Self {
        let mut part = Self::new(&self.seed);
        part.merge_from(self, positions);
        part
    }

    /// Takes in all flows of `other`.
    pub fn merge(&mut self, other: &Self) {
        let all: Vec<u32> = (0..other.len() as u32).collect();
        self.merge_from(other, &all);
    }

    /// Writes the records; the index is made anew when they are read.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(&self.records)
    }

    /// Reads what [`FlowTable::to_bytes`] wrote.
    pub(super) fn from_bytes(seed: &Seed, bytes: &[u8]) -> Result<Self, postcard::Error> {
        let records: Records = postcard::from_bytes(bytes)?;
        let mut table = Self::new(seed);
        let read = Self { records, ..Self::new(seed) };
        table.merge(&read);
        Ok(table)
    }
}

/// The partition of a hash, from bits that neither the index nor its tags use first.
pub(super) fn partition(hash: u64, parts: usize) -> usize {
    (hash >> 40) as usize % parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Tuple;
    use crate::model::{Mac, Transport};

    fn see(table: &mut FlowTable, sport: u16, time: Nanos, link: Link) {
        let (src, dst) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let tuple = Tuple { src, dst, sport, dport: 443, transport: Transport::TCP };
        let (signs, acked, fragment) = (sign::SYN, None, None);
        let body = Body::Segment { tuple, signs, payload: 0, seq: 0, acked, fragment };
        let seen = Observation { time, wire_len: 60, link, body, ..Observation::default() };
        let mut places = Vec::new();
        table.locate(&[seen], &mut places);
        table.observe(places[0], &seen, 0, sign::SYN, None);
    }

    fn link(vlan: u32) -> Link {
        Link::default().tagged(crate::decode::TagKind::Vlan, Some(vlan))
    }

    #[test]
    fn links_stay_a_set_through_merges_and_files() {
        let seed = Seed::new();
        let (mut a, mut b) = (FlowTable::new(&seed), FlowTable::new(&seed));
        for vlan in [7, 7, 9] {
            see(&mut a, 1, 5, link(vlan));
        }
        see(&mut b, 2, 5, link(1));
        see(&mut b, 1, 4, link(8));
        a.merge(&b);
        let back = FlowTable::from_bytes(&seed, &a.to_bytes().unwrap()).unwrap();
        for table in [&a, &back] {
            let flow = table.iter().find(|f| f.key.endpoint(0).port == 1).unwrap();
            assert_eq!(
                flow.links(0).map(|l| l.tags().next().unwrap().id).collect::<Vec<_>>(),
                [7, 8, 9].map(Some)
            );
            assert_eq!(flow.links(1).count(), 0);
            assert_eq!(flow.sides[0].syns.0, 4);
            assert_eq!(flow.sides[0].syn().get(), Some(4));
        }
    }

    #[test]
    fn more_links_than_numbers_are_kept_in_the_side_table() {
        let seed = Seed::new();
        let mut table = FlowTable::new(&seed);
        for number in 0..70_000u32 {
            let [_, a, b, c] = number.to_be_bytes();
            let mut link = Link::default();
            link.source = Mac([2, 0, 0, a, b, c]);
            see(&mut table, 1, 5, link);
        }
        let flow = table.iter().next().unwrap();
        assert_eq!(flow.links(0).count(), 16);
        assert_eq!(flow.links(0).next().unwrap().source, Mac([2, 0, 0, 0, 0, 0]));
    }
}
