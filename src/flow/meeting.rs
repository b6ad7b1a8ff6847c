//! Where the workers' tables meet: hash partitions in memory, and in temporary files when memory
//! runs short. The result is the same.
//!
//! A temporary file belongs to one partition and holds pieces, each a length in eight bytes and a
//! serialized [`Partition`]. It has no name, and so goes with the process however that ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use super::copies::{Removals, Sample, Trace};
use super::fragments::{Fragments, Joined, TIMEOUT};
use super::links::{Book, Links};
use super::memory::return_large_blocks;
use super::state::Side;
use super::state::{IcmpError, Quotes};
use super::table::{Flow, FlowTable, FlowTables, PARTITIONS, Place, partition};
use super::unread::{Unread, Unreads};
use super::{FlowKey, Seed};
use crate::decode::{Body, Link, Observation, Outer, Path, Quoted, TunnelUse, Tuple, sign};
use crate::model::{
    AtMost, BUCKET_NS, Copies, Mac, Max, Merge, Min, NO_TIME, Nanos, Sum, Transport, words,
};
use crate::names::{Clue, Lookup, Ports, Reply, is_mute, read};

/// What tables remember of single packets.
#[derive(Clone, Default, Debug)]
pub struct Keep {
    /// Each packet, until copies have been taken out.
    pub traces: bool,
    /// Parts of messages that name a server.
    pub parts: Parts,
}

/// Which parts of messages that name a server are remembered. A message nearly always stands in one segment;
/// where it goes on, any data of the side may be a part of it, and that is much to remember of all sides.
#[derive(Clone, Default, Debug)]
pub enum Parts {
    /// Starts alone, by which it is known which sides have to be read again.
    #[default]
    Starts,
    /// All of these sides.
    Of(Arc<HashSet<(FlowKey, u8), Seed>>),
    /// All, where nothing can be read again.
    All,
}

/// Source, destination and protocol of packets without ports, and how far they may be believed.
pub type PairKey = (IpAddr, IpAddr, Transport, Path);

/// Who said that an IP address is his, and where it was heard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Claimant {
    /// The IP address.
    pub address: IpAddr,
    /// The hardware address.
    pub mac: Mac,
    /// The VLANs, outermost first; zero for none.
    pub vlans: [u16; 2],
    /// How far it may be believed.
    pub path: Path,
}

/// The packets around tunnels: of two ends, on one interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Carrier {
    /// The ends.
    pub ends: Outer,
    /// How far they may be believed, and where they were seen.
    pub path: Path,
}

impl Carrier {
    /// The flow that they are, and the side that sent them. Its source port is zero where the tunnel spreads over ports
    /// that mean nothing (RFC 7348, 5).
    pub fn flow(&self) -> (FlowKey, usize) {
        let Outer { src, dst, transport, sport, port, .. } = self.ends;
        FlowKey::new(&Tuple { src, dst, sport, dport: port, transport }, self.path)
    }

    /// The packets around an observation that are traffic of their own; those of a stated mirror are not.
    pub fn around(seen: &Observation) -> impl Iterator<Item = Self> + use<'_> {
        let mut path = Path::PLAIN;
        seen.link.outer().filter_map(move |ends| {
            let here = match ends.stated {
                TunnelUse::Unstated if path == Path::PLAIN => Path::around(seen.interface),
                _ => path,
            };
            if ends.stated == TunnelUse::Unstated {
                path = path.deeper(seen.interface);
            }
            (ends.stated != TunnelUse::Mirror).then_some(Self { ends, path: here })
        })
    }
}

/// What one worker has seen: private, no locks.
pub struct Tables {
    pub(super) flows: FlowTables,
    pub(super) rest: Rest,
    sample: Sample,
    keep: Keep,
    /// Scratch: the places of the packets of a batch.
    places: Vec<Place>,
}

/// What is neither flow nor part of one.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Rest {
    /// Packets whose ports were not seen, and ICMP errors, by pair.
    loose: HashMap<PairKey, Side, Seed>,
    /// Address claims.
    claims: HashMap<Claimant, Claim, Seed>,
    /// The packets around tunnels.
    carriers: Carriers,
    /// Frames that could not be understood.
    unread: Unreads,
    fragments: Fragments,
    /// DNS lookups.
    lookups: HashMap<Lookup, Reply, Seed>,
    /// TCP ports that endpoint mappers announced, by mapper and who asked it.
    announced: HashMap<(IpAddr, IpAddr, Path), Ports, Seed>,
    /// Who held virtual addresses, by address.
    holders: HashMap<(IpAddr, Path), Holders, Seed>,
    /// Sides that started a message which goes on in another segment.
    starts: HashSet<(FlowKey, u8), Seed>,
    /// What each packet leaves behind where copies are looked for.
    traces: Vec<Trace>,
}

/// The packets around tunnels, by what they are.
#[derive(Default, Serialize, Deserialize)]
struct Carriers {
    list: Vec<(Carrier, Side)>,
    places: HashMap<Carrier, usize, Seed>,
    /// Where the last one is, which is nearly always the next one's place too.
    last: usize,
}

impl Carriers {
    /// What the packets of a carrier come to, new if they are.
    fn side(&mut self, carrier: Carrier) -> &mut Side {
        let is_last = self.list.get(self.last).is_some_and(|(known, _)| *known == carrier);
        if !is_last {
            self.last = *self.places.entry(carrier).or_insert(self.list.len());
            if self.last == self.list.len() {
                self.list.push((carrier, Side::default()));
            }
        }
        &mut self.list[self.last].1
    }

    /// Keeps at most `most`, the least. Returns how many were forgotten.
    fn forget_beyond(&mut self, most: usize) -> u64 {
        let before = self.list.len();
        if before > most {
            self.list.sort_unstable_by_key(|(carrier, _)| *carrier);
            self.list.truncate(most);
            let places = self.list.iter().enumerate();
            self.places = places.map(|(place, (carrier, _))| (*carrier, place)).collect();
            self.last = 0;
        }
        (before - self.list.len()) as u64
    }
}

/// How often and when a hardware address claimed an IP address.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Frames.
    pub frames: Sum,
    /// The earliest.
    pub first: Min,
    /// The latest.
    pub last: Max,
    /// The ten seconds in which it did: a bit each, 64 to a word, by the number of the word.
    pub slots: BTreeMap<Nanos, u64>,
}

impl Claim {
    /// Words that are kept: a week.
    const MOST: usize = 1024;

    fn see(&mut self, time: Nanos) {
        self.frames.add(1);
        self.first.see(time);
        self.last.see(time);
        if time != NO_TIME {
            let slot = time.div_euclid(BUCKET_NS);
            self.add(slot.div_euclid(64), 1 << slot.rem_euclid(64));
        }
    }

    fn add(&mut self, word: Nanos, slots: u64) {
        *self.slots.entry(word).or_default() |= slots;
        if self.slots.len() > Self::MOST {
            self.slots.pop_last();
        }
    }
}

impl Merge for Claim {
    fn merge(&mut self, other: &Self) {
        self.frames.merge(&other.frames);
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        other.slots.iter().for_each(|(word, slots)| self.add(*word, *slots));
    }
}

impl Rest {
    fn merge(&mut self, other: Self) {
        for (key, side) in other.loose {
            self.loose.entry(key).or_default().merge(&side);
        }
        for (key, claim) in other.claims {
            self.claims.entry(key).or_default().merge(&claim);
        }
        for (carrier, side) in other.carriers.list {
            self.carriers.side(carrier).merge(&side);
        }
        self.unread.merge(&other.unread);
        self.fragments.merge(other.fragments);
        for (lookup, reply) in other.lookups {
            self.lookups.entry(lookup).or_default().merge(&reply);
        }
        for (pair, ports) in other.announced {
            self.announced.entry(pair).or_default().merge(&ports);
        }
        for (address, holders) in other.holders {
            self.holders.entry(address).or_default().merge(&holders);
        }
        self.starts.extend(other.starts);
        self.traces.extend(other.traces);
    }

    /// Keeps at most `most` of each kind. Returns how many were forgotten.
    pub(super) fn forget_beyond(&mut self, most: usize) -> u64 {
        fn cut<K: Ord + Clone + Eq + std::hash::Hash, V>(
            map: &mut HashMap<K, V, Seed>,
            most: usize,
        ) -> u64 {
            let before = map.len();
            if before > most {
                let mut keys: Vec<K> = map.keys().cloned().collect();
                let (_, middle, _) = keys.select_nth_unstable(most);
                let first = middle.clone();
                map.retain(|key, _| *key < first);
            }
            (before - map.len()) as u64
        }
        cut(&mut self.loose, most)
            + cut(&mut self.claims, most)
            + self.carriers.forget_beyond(most)
            + cut(&mut self.lookups, most)
            + cut(&mut self.announced, most)
            + cut(&mut self.holders, most)
            + self.fragments.forget_beyond(most)
    }

    pub(super) fn memory(&self) -> usize {
        const LOOKUP: usize = 400;
        (self.loose.len()
            + self.claims.len()
            + self.carriers.list.len()
            + self.unread.len()
            + self.announced.len()
            + self.holders.len()
            + self.starts.len())
            * 256
            + self.lookups.len() * LOOKUP
            + self.fragments.memory()
            + self.traces.capacity() * size_of::<Trace>()
    }

    fn split(self, seed: &Seed) -> Vec<Self> {
        let mut parts: Vec<Self> = (0..PARTITIONS).map(|_| Self::default()).collect();
        for (key, side) in self.loose {
            parts[partition(seed.hash_one(key))].loose.insert(key, side);
        }
        for (key, claim) in self.claims {
            parts[partition(seed.hash_one(key))].claims.insert(key, claim);
        }
        for (carrier, side) in self.carriers.list {
            *parts[partition(seed.hash_one(carrier))].carriers.side(carrier) = side;
        }
        parts[0].unread = self.unread;
        for (key, datagrams) in self.fragments.datagrams {
            parts[partition(seed.hash_one(key))].fragments.insert(key, datagrams);
        }
        for (lookup, reply) in self.lookups {
            parts[partition(seed.hash_one(&lookup))].lookups.insert(lookup, reply);
        }
        for (key, side) in self.starts {
            parts[partition(seed.hash_one(key))].starts.insert((key, side));
        }
        for (address, holders) in self.holders {
            parts[partition(seed.hash_one(address))].holders.insert(address, holders);
        }
        for (pair, ports) in self.announced {
            parts[partition(seed.hash_one(pair))].announced.insert(pair, ports);
        }
        // All traces of a content meet in one partition, however many one flow has.
        for trace in self.traces {
            parts[partition(seed.hash_one(trace.content))].traces.push(trace);
        }
        parts
    }
}

impl Tables {
    fn new(seed: &Seed, book: &Arc<Book>, keep: &Keep) -> Self {
        Self {
            flows: FlowTables::new(seed, Links::new(seed, book)),
            rest: Rest::default(),
            sample: Sample::default(),
            keep: keep.clone(),
            places: Vec::new(),
        }
    }

    /// Takes in observations; best some dozens at once. `payloads` are what the capture kept of their
    /// transport payloads, in the same order; without them no names are learned.
    pub fn observe(&mut self, batch: &[Observation], payloads: &[&[u8]]) {
        let mut places = std::mem::take(&mut self.places);
        self.flows.locate(batch, &mut places);
        for (seen, place) in batch.iter().zip(&places) {
            self.sample.see(seen);
            self.take(seen, *place);
            if seen.link.is_tunnelled() {
                self.carry(seen);
            }
        }
        for ((seen, place), payload) in batch.iter().zip(&places).zip(payloads) {
            if !payload.is_empty() {
                self.listen(seen, *place, payload);
            }
        }
        self.places = places;
    }

    fn take(&mut self, seen: &Observation, place: Place) {
        let time = seen.time;
        match seen.body {
            Body::Segment { signs, payload, seq, acked, fragment, .. } => {
                self.flows.observe(place, seen, payload, signs, (seq, acked));
                if !self.keep.traces && fragment.is_none() {
                    return;
                }
                let (flow, side) = (self.flows.key(place), usize::from(place.side));
                self.trace(&flow, side, seen, payload);
                if let Some(datagram) = fragment {
                    self.rest.fragments.first(datagram, time, flow, side, seen.link);
                }
            }
            Body::Fragment { datagram, payload } => {
                self.rest.fragments.later(datagram, seen, payload);
            }
            Body::Error { quoted, kind, by, to, transport } => {
                match quoted {
                    Quoted::Flow { tuple, path, seq, answers } => {
                        let (key, side) = FlowKey::new(&tuple, path);
                        let mut quotes = Quotes { answers, ..Quotes::default() };
                        if tuple.transport == Transport::TCP {
                            quotes.seqs.insert(seq);
                        }
                        let error = IcmpError { side: side as u8, kind, by };
                        self.flows.observe_error(&key, error, &quotes, time);
                    }
                    Quoted::Fragment(datagram) => {
                        self.rest.fragments.error(datagram, time, kind, by);
                    }
                }
                self.loose((by, to, transport, seen.path), seen);
            }
            Body::Portless { src, dst, transport } => {
                self.loose((src, dst, transport, seen.path), seen);
            }
            Body::NonIp { claim: Some((address, mac)), .. } => self.claim(address, mac, seen),
            Body::NonIp { claim: None, .. } => {}
        }
    }

    fn claim(&mut self, address: IpAddr, mac: Mac, seen: &Observation) {
        let mut vlans = [0; 2];
        for (kept, id) in vlans.iter_mut().zip(seen.link.vlans()) {
            *kept = id as u16;
        }
        let claimant = Claimant { address, mac, vlans, path: seen.path };
        self.rest.claims.entry(claimant).or_default().see(seen.time);
    }

    /// Takes in the packets around one that came through tunnels.
    fn carry(&mut self, seen: &Observation) {
        let signs = if seen.broadcast { sign::BROADCAST } else { sign::UNICAST };
        for carrier in Carrier::around(seen) {
            let side = self.rest.carriers.side(carrier);
            side.see(seen.time, seen.wire_len, 0, signs);
        }
    }

    /// Takes in a frame that could not be understood.
    pub fn miss(&mut self, unread: Unread) {
        self.rest.unread.insert(unread, 1);
    }

    /// Takes in what a payload tells about names.
    fn listen(&mut self, seen: &Observation, place: Place, payload: &[u8]) {
        if matches!(self.keep.parts, Parts::Starts) && is_mute(seen, payload) {
            return;
        }
        match (read(seen, payload), seen.body) {
            (Some(Clue::Hello(hello)), _) => self.flows.observe_hello(place, hello),
            (Some(clue @ (Clue::Start | Clue::Part)), Body::Segment { tuple, seq, .. }) => {
                let side = || {
                    let (key, side) = FlowKey::new(&tuple, seen.path);
                    (key, side as u8)
                };
                let wanted = match &self.keep.parts {
                    Parts::Starts => {
                        if clue == Clue::Start {
                            self.rest.starts.insert(side());
                        }
                        false
                    }
                    Parts::Of(sides) => sides.contains(&side()),
                    Parts::All => true,
                };
                if wanted {
                    self.flows.observe_part(place, seen.time, seq, payload);
                }
            }
            (Some(Clue::Lookup(lookup, reply)), _) => {
                self.rest.lookups.entry(lookup).or_default().merge(&reply);
            }
            (Some(Clue::Announced(ports)), Body::Segment { tuple, .. }) => {
                let mapper = (tuple.src, tuple.dst, seen.path);
                self.rest.announced.entry(mapper).or_default().merge(&ports);
            }
            (Some(Clue::Holds(addresses)), Body::Segment { tuple, .. }) => {
                for address in addresses {
                    let holders = self.rest.holders.entry((address, seen.path)).or_default();
                    holders.insert(tuple.src);
                }
            }
            (Some(Clue::Claims(address, mac)), _) => self.claim(address, mac, seen),
            (Some(Clue::Says(signs)), _) => self.flows.note(place, signs),
            _ => {}
        }
    }

    fn trace(&mut self, flow: &FlowKey, side: usize, seen: &Observation, payload: u32) {
        if self.keep.traces {
            self.rest.traces.extend(self.flows.trace(flow, side, seen, payload));
        }
    }

    fn into_partitions(self, seed: &Seed) -> impl Iterator<Item = (usize, Partition)> {
        let rests = self.rest.split(seed);
        let parts = self.flows.parts.into_iter().zip(rests);
        parts.map(|(flows, rest)| Partition { flows, rest }).enumerate()
    }

    fn loose(&mut self, key: PairKey, seen: &Observation) {
        let signs = if seen.broadcast { crate::decode::sign::BROADCAST } else { 0 };
        self.rest.loose.entry(key).or_default().see(seen.time, seen.wire_len, 0, signs);
    }

    /// Bytes of memory that the tables hold, about.
    pub fn memory(&self) -> usize {
        self.flows.memory() + self.rest.memory()
    }

    /// The number of flows.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where tables meet. Shared by all workers; locks are taken for a partition, never for a flow.
pub struct Meeting {
    pub(super) seed: Seed,
    pub(super) book: Arc<Book>,
    partitions: DashMap<usize, Vec<Partition>>,
    pub(super) sample: Mutex<Sample>,
    files: Mutex<Vec<Option<File>>>,
    pub(super) folder: PathBuf,
    spilled: AtomicU64,
}

/// A worker's part of a partition.
#[derive(Default)]
pub(super) struct Partition {
    pub(super) flows: FlowTable,
    rest: Rest,
}

impl Partition {
    /// That there is nothing beside flows, as it is written.
    pub(super) fn no_rest() -> io::Result<Vec<u8>> {
        postcard::to_stdvec(&Rest::default()).map_err(io::Error::other)
    }

    fn merge(&mut self, other: Self, seed: &Seed, links: &mut Links) {
        self.flows.merge(other.flows, seed, links);
        self.rest.merge(other.rest);
    }
}

impl Meeting {
    /// An empty meeting that spills into unnamed files in `folder`.
    pub fn new(seed: &Seed, folder: PathBuf) -> Self {
        return_large_blocks();
        Self {
            seed: seed.clone(),
            book: Arc::default(),
            partitions: DashMap::new(),
            sample: Mutex::new(Sample::default()),
            files: Mutex::new((0..PARTITIONS).map(|_| None).collect()),
            folder,
            spilled: AtomicU64::new(0),
        }
    }

    /// Another meeting, whose flows can be taken in where this one's are.
    pub fn another(&self) -> Self {
        Self { book: Arc::clone(&self.book), ..Self::new(&self.seed, self.folder.clone()) }
    }

    /// Empty tables for a worker.
    pub fn tables(&self, keep: &Keep) -> Tables {
        Tables::new(&self.seed, &self.book, keep)
    }

    /// Takes in the tables of a worker that has ended.
    pub fn take_in(&self, mut tables: Tables) -> io::Result<()> {
        // Once memory has run short, the last tables go where the earlier ones went.
        if self.spilled.load(Ordering::Relaxed) > 0 {
            return self.spill(tables);
        }
        self.take_sample(&mut tables);
        for (number, partition) in tables.into_partitions(&self.seed) {
            self.partitions.entry(number).or_default().push(partition);
        }
        Ok(())
    }

    /// Merges what the workers brought, on `jobs` threads.
    pub fn merge(&self, jobs: usize) {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut links = Links::new(&self.seed, &self.book);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= PARTITIONS {
                    return;
                }
                self.merge_partition(number, &mut links);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs {
                scope.spawn(work);
            }
            work();
        });
    }

    /// Makes one of the parts of a partition, the largest of them the place for all.
    fn merge_partition(&self, number: usize, links: &mut Links) {
        let Some(mut parts) = self.partitions.get_mut(&number) else { return };
        let mut all = std::mem::take(&mut *parts);
        all.sort_by_key(|part| part.flows.len());
        let Some(mut whole) = all.pop() else { return };
        for part in all {
            whole.merge(part, &self.seed, links);
        }
        parts.push(whole);
    }

    /// Writes the tables of a worker that has grown over its share of memory into the temporary
    /// files.
    pub fn spill(&self, mut tables: Tables) -> io::Result<()> {
        self.take_sample(&mut tables);
        for (number, partition) in tables.into_partitions(&self.seed) {
            if !(partition.flows.is_empty() && partition.rest.memory() == 0) {
                self.write(number, &partition)?;
            }
        }
        Ok(())
    }

    fn take_sample(&self, tables: &mut Tables) {
        let sample = std::mem::take(&mut tables.sample);
        self.sample.lock().unwrap_or_else(|p| p.into_inner()).absorb(sample);
    }

    fn write(&self, number: usize, partition: &Partition) -> io::Result<()> {
        let flows = partition.flows.to_bytes().map_err(io::Error::other)?;
        let rest = postcard::to_stdvec(&partition.rest).map_err(io::Error::other)?;
        // Writing is rare and large; one lock for all files keeps it simple.
        let mut files = self.files();
        let file = match &mut files[number] {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.folder)?),
        };
        for bytes in [&flows, &rest] {
            file.write_all(&(bytes.len() as u64).to_le_bytes())?;
            file.write_all(bytes)?;
            self.spilled.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn files(&self) -> MutexGuard<'_, Vec<Option<File>>> {
        self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The merged whole; merging takes `jobs` threads. Fragments join their flows here; with `traces` they are
    /// remembered too. Of each kind of what is beside the flows at most `most` are kept.
    pub fn settle(self, traces: bool, jobs: usize, most: usize) -> io::Result<Flows> {
        self.settle_with(traces, jobs, &mut Pending::default(), None, most)
    }

    /// As [`Meeting::settle`], for one window of many: `pending` is what the window before left open, and then what
    /// this one does, whose last packet came at `end`.
    pub fn settle_window(
        self,
        jobs: usize,
        pending: &mut Pending,
        end: Option<Nanos>,
    ) -> io::Result<Flows> {
        self.settle_with(false, jobs, pending, end.map(|end| end - TIMEOUT), usize::MAX)
    }

    fn settle_with(
        self,
        traces: bool,
        jobs: usize,
        pending: &mut Pending,
        since: Option<Nanos>,
        most: usize,
    ) -> io::Result<Flows> {
        self.merge(jobs);
        pending.parts.resize_with(PARTITIONS, Default::default);
        let keep = Keep { traces, ..Keep::default() };
        let mut joined = self.tables(&keep);
        let mut flows = Flows {
            parts: self.take_parts(),
            links: Vec::new(),
            meeting: self,
            loose: BTreeMap::new(),
            claims: BTreeMap::new(),
            unread: Unreads::default(),
            tunnels: BTreeMap::new(),
            plain: BTreeSet::new(),
            askers: BTreeMap::new(),
            orphans: BTreeMap::new(),
            lookups: BTreeMap::new(),
            announced: BTreeMap::new(),
            holders: BTreeMap::new(),
            starts: HashSet::default(),
            cuts: BTreeSet::new(),
            idle: vec![Idle::default(); PARTITIONS],
            trimmed: BTreeSet::new(),
        };
        for number in 0..PARTITIONS {
            let mut rest = std::mem::take(&mut flows.parts[number].rest);
            // Traces wait until those of fragments have come.
            flows.parts[number].rest.traces = std::mem::take(&mut rest.traces);
            rest.merge(flows.load(number)?.rest);
            let open = std::mem::take(&mut pending.parts[number]);
            rest.fragments.merge(open.fragments);
            for (lookup, reply) in &open.lookups {
                rest.lookups.entry(lookup.clone()).or_default().merge(reply);
            }
            if let Some(since) = since {
                let held = &mut pending.parts[number];
                held.fragments = rest.fragments.hold_back(since);
                // A lookup waits for one window.
                let waits = |lookup: &Lookup, reply: &Reply| {
                    !reply.is_whole() && !open.lookups.contains_key(lookup)
                };
                let waiting = rest.lookups.iter().filter(|(lookup, reply)| waits(lookup, reply));
                held.lookups = waiting.map(|(l, r)| (l.clone(), r.clone())).collect();
            }
            for (key, side) in rest.loose {
                flows.loose.entry(key).or_default().merge(&side);
            }
            flows.claims.extend(rest.claims);
            flows.unread.merge(&rest.unread);
            for (carrier, side) in rest.carriers.list {
                flows.note_tunnel(&carrier);
                let (key, sender) = carrier.flow();
                joined.flows.observe_side(&key, sender, &side);
            }
            flows.announced.extend(rest.announced);
            flows.holders.extend(rest.holders);
            flows.starts.extend(rest.starts);
            // An answer that nobody asked for is none.
            for (lookup, reply) in rest.lookups.into_iter().filter(|(_, r)| r.asked.0 != 0) {
                let Lookup { client, resolver, path, .. } = lookup;
                flows.askers.entry((resolver, path)).or_default().insert(client);
                for (address, names) in reply.answers.iter() {
                    let told = flows.lookups.entry((client, *address, path)).or_default();
                    told.insert((names.clone(), resolver));
                }
            }
            for piece in rest.fragments.resolve() {
                match piece {
                    Joined::Flow(key, side, seen, payload) => {
                        let place = joined.flows.place(&key, side);
                        joined.flows.observe(place, &seen, payload, 0, (0, None));
                        joined.trace(&key, side, &seen, payload);
                    }
                    Joined::Error(key, side, time, kind, by) => {
                        let error = IcmpError { side: side as u8, kind, by };
                        joined.flows.observe_error(&key, error, &Quotes::default(), time);
                    }
                    Joined::Orphan(key, seen) => {
                        let pair = (key.src, key.dst, key.transport, key.path);
                        *flows.orphans.entry(pair).or_default() += 1;
                        let side = flows.loose.entry(pair).or_default();
                        side.see(seen.time, seen.wire_len, 0, 0);
                    }
                }
            }
            flows.trim(most);
        }
        let mut links = Links::new(&flows.meeting.seed, &flows.meeting.book);
        for (number, part) in joined.into_partitions(&flows.meeting.seed) {
            flows.parts[number].merge(part, &flows.meeting.seed, &mut links);
        }
        flows.links = flows.meeting.book.all();
        // What was spilled is read back from its file; what is in memory follows it there.
        if flows.spilled() > 0 {
            for (number, part) in flows.parts.iter_mut().enumerate() {
                flows.meeting.write(number, &std::mem::take(part))?;
            }
        }
        Ok(flows)
    }

    /// What is in memory of each partition.
    fn take_parts(&self) -> Vec<Partition> {
        let part = |number| {
            let parts = self.partitions.remove(&number);
            parts.and_then(|(_, mut parts)| parts.pop()).unwrap_or_default()
        };
        (0..PARTITIONS).map(part).collect()
    }
}

/// What the file of a partition holds of flows that were idle for long.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Idle {
    pub pieces: usize,
    pub flows: usize,
    pub talks: usize,
    pub bytes: u64,
}

/// What a window leaves open for the next one: fragments and lookups of which something may still come.
#[derive(Default)]
pub struct Pending {
    parts: Vec<Open>,
}

/// What one partition leaves open.
#[derive(Default)]
struct Open {
    fragments: Fragments,
    lookups: HashMap<Lookup, Reply>,
}

/// All flows of a run, merged; one partition of them in memory at a time where they were spilled.
pub struct Flows {
    pub(super) meeting: Meeting,
    /// What is in memory of each partition.
    pub(super) parts: Vec<Partition>,
    /// The links of all flows by number less one.
    pub(super) links: Vec<Link>,
    /// Packets whose ports were not seen, and ICMP errors, by pair.
    pub loose: BTreeMap<PairKey, Side>,
    /// Address claims (ARP, neighbour discovery).
    pub claims: BTreeMap<Claimant, Claim>,
    /// Frames that could not be understood.
    pub unread: Unreads,
    /// The destinations of tunnels that nobody stated, by the interface that saw them; of several the least.
    pub(super) tunnels: BTreeMap<u16, AtMost<IpAddr, 1>>,
    /// Paths that were found to be as good as the wire itself.
    pub(super) plain: BTreeSet<Path>,
    /// Who asked a resolver for names, the least addresses.
    pub askers: BTreeMap<(IpAddr, Path), Askers>,
    /// Later fragments whose first fragment is not in the capture, by pair.
    pub orphans: BTreeMap<PairKey, u64>,
    /// The names by which a client was told an address: the name asked for, then its aliases.
    pub lookups: Lookups,
    /// TCP ports that an endpoint mapper announced, by mapper and who asked it.
    pub announced: BTreeMap<(IpAddr, IpAddr, Path), Ports>,
    /// Who held virtual addresses, by address (VRRP).
    pub holders: BTreeMap<(IpAddr, Path), Holders>,
    /// Sides that started a message which goes on in another segment, where starts alone were remembered.
    pub starts: HashSet<(FlowKey, u8), Seed>,
    /// Times at which the capture broke off: what answers came after them nobody saw.
    pub cuts: BTreeSet<Nanos>,
    /// What the file of each partition holds of flows that were idle for long.
    pub(super) idle: Vec<Idle>,
    /// Of what there was more than is kept beside the flows.
    pub trimmed: BTreeSet<Beside>,
}

words!(
    /// What is kept beside the flows.
    Beside {
        /// Packets without ports and ICMP errors, by pair of hosts.
        Loose = "pairs of hosts with packets without ports",
        /// Address claims.
        Claims = "address claims (ARP, neighbour discovery)",
        /// Names that were looked up.
        Lookups = "names that were looked up",
        /// Who asked which resolver.
        Askers = "resolvers",
        /// Ports that endpoint mappers announced.
        Announced = "announced ports",
        /// Holders of virtual addresses.
        Holders = "virtual addresses",
        /// Fragments without their first one.
        Orphans = "pairs of hosts with orphaned fragments",
    }
);

/// The names by which clients were told addresses: the name asked for, then its aliases, and who told it.
pub type Lookups = BTreeMap<(IpAddr, IpAddr, Path), BTreeSet<(Vec<String>, IpAddr)>>;

/// Who asked a resolver.
pub type Askers = AtMost<IpAddr, 256>;

/// Addresses that advertised themselves as the master of a virtual one.
pub type Holders = AtMost<IpAddr, 8>;

impl Flows {
    /// Keeps at most `most` of each kind of what is beside the flows, those that come first in their order: what is left
    /// out of a part is left out of the whole, too.
    fn trim(&mut self, most: usize) {
        fn cut<K: Ord, V>(map: &mut BTreeMap<K, V>, most: usize) -> bool {
            let is_beyond = map.len() > most;
            while map.len() > most {
                map.pop_last();
            }
            is_beyond
        }
        let cuts = [
            (Beside::Loose, cut(&mut self.loose, most)),
            (Beside::Claims, cut(&mut self.claims, most)),
            (Beside::Lookups, cut(&mut self.lookups, most)),
            (Beside::Askers, cut(&mut self.askers, most)),
            (Beside::Announced, cut(&mut self.announced, most)),
            (Beside::Holders, cut(&mut self.holders, most)),
            (Beside::Orphans, cut(&mut self.orphans, most)),
        ];
        self.trimmed.extend(cuts.into_iter().filter(|(_, is_cut)| *is_cut).map(|(kind, _)| kind));
    }

    /// Notes where a tunnel leads that nobody stated.
    fn note_tunnel(&mut self, carrier: &Carrier) {
        if carrier.path.is_around()
            && let Some(interface) = carrier.path.interface()
        {
            self.tunnels.entry(interface).or_default().insert(carrier.ends.dst);
        }
    }

    /// The interfaces on which tunnels were seen that nobody stated and that all lead to one destination.
    pub fn one_way_tunnels(&self) -> BTreeSet<u16> {
        let one_way = self.tunnels.iter().filter(|(_, to)| !to.more() && to.len() == 1);
        one_way.map(|(interface, _)| *interface).collect()
    }

    /// How far packets may be believed, mirrors known.
    pub fn believed(&self, path: Path) -> Path {
        if self.plain.contains(&path) { Path::PLAIN } else { path }
    }

    /// Takes what came through the tunnels of these interfaces for what it was on the wire, and the packets around
    /// them for no traffic of the farm.
    pub fn believe(&mut self, mirrors: &BTreeSet<u16>) -> io::Result<()> {
        let paths: BTreeSet<Path> = mirrors.iter().map(|at| Path::inside(*at)).collect();
        if paths.is_subset(&self.plain) {
            return Ok(());
        }
        self.plain.extend(paths);
        let Meeting { seed, book, .. } = &self.meeting;
        let (seed, mut links) = (seed.clone(), Links::new(seed, book));
        let plain = self.plain.clone();
        for number in 0..PARTITIONS {
            let mut flows = self.load(number)?.flows;
            let in_file = !flows.is_empty();
            flows.merge(std::mem::take(&mut self.parts[number].flows), &seed, &mut links);
            let flows = flows.make_plain(&seed, &mut links, |path| plain.contains(&path));
            if in_file {
                self.meeting.files()[number] = None;
                self.meeting.write(number, &Partition { flows, rest: Rest::default() })?;
            } else {
                self.parts[number].flows = flows;
            }
        }
        for (pair, side) in std::mem::take(&mut self.loose) {
            let pair = (pair.0, pair.1, pair.2, self.believed(pair.3));
            self.loose.entry(pair).or_default().merge(&side);
        }
        for (claimant, claim) in std::mem::take(&mut self.claims) {
            let claimant = Claimant { path: self.believed(claimant.path), ..claimant };
            self.claims.entry(claimant).or_default().merge(&claim);
        }
        for ((resolver, path), askers) in std::mem::take(&mut self.askers) {
            self.askers.entry((resolver, self.believed(path))).or_default().merge(&askers);
        }
        for ((a, b, transport, path), count) in std::mem::take(&mut self.orphans) {
            *self.orphans.entry((a, b, transport, self.believed(path))).or_default() += count;
        }
        for ((client, address, path), told) in std::mem::take(&mut self.lookups) {
            let path = self.believed(path);
            self.lookups.entry((client, address, path)).or_default().extend(told);
        }
        for ((mapper, client, path), ports) in std::mem::take(&mut self.announced) {
            let path = self.believed(path);
            self.announced.entry((mapper, client, path)).or_default().merge(&ports);
        }
        for ((address, path), holders) in std::mem::take(&mut self.holders) {
            self.holders.entry((address, self.believed(path))).or_default().merge(&holders);
        }
        self.links = self.meeting.book.all();
        Ok(())
    }

    /// Bytes written to temporary files because memory ran short.
    pub fn spilled(&self) -> u64 {
        self.meeting.spilled.load(Ordering::Relaxed)
    }

    /// How far apart the same packets were seen twice, in nanoseconds, where a sample shows that two clocks differ.
    pub fn apart(&self) -> Option<Nanos> {
        self.meeting.sample.lock().unwrap_or_else(|p| p.into_inner()).apart()
    }

    /// What a sample of the packets says of copies among them.
    pub fn copies(&self) -> Copies {
        self.meeting.sample.lock().unwrap_or_else(|p| p.into_inner()).copies()
    }

    /// Takes the copies out of all amounts, once, where traces were wanted. Returns how many packets
    /// that were.
    pub fn drop_copies(&mut self) -> io::Result<u64> {
        let (mut removals, mut removed) = (Removals::default(), 0);
        for number in 0..PARTITIONS {
            let mut traces = std::mem::take(&mut self.parts[number].rest.traces);
            traces.extend(self.load(number)?.rest.traces);
            removals.find(traces);
        }
        let seed = self.meeting.seed.clone();
        for number in 0..PARTITIONS {
            let mut from_file = self.load(number)?;
            if from_file.flows.is_empty() {
                removed += self.parts[number].flows.remove(&removals, &seed);
                continue;
            }
            removed += from_file.flows.remove(&removals, &seed);
            // What is corrected takes the place of its pieces.
            self.meeting.files()[number] = None;
            from_file.rest = Rest::default();
            self.meeting.write(number, &from_file)?;
        }
        Ok(removed)
    }

    /// Visits all flows, a partition at a time, in no order that means anything.
    pub fn visit(&self, mut visitor: impl FnMut(Shard<'_>)) -> io::Result<()> {
        (0..PARTITIONS).try_for_each(|number| self.visit_one(number, &mut visitor))
    }

    /// Visits all flows on `jobs` threads, each with a value of its own that takes them in.
    pub fn fold<T: Default + Send>(
        &self,
        jobs: usize,
        take: impl Fn(&mut T, Shard<'_>) + Sync,
    ) -> io::Result<Vec<T>> {
        let next = AtomicUsize::new(0);
        on_threads(jobs, || {
            let mut all = T::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= PARTITIONS {
                    return Ok(all);
                }
                self.visit_one(number, &mut |shard| take(&mut all, shard))?;
            }
        })
    }

    /// As [`Flows::fold`], and each partition gives its memory back once it was visited. There are no flows from
    /// then on.
    pub fn drain<T: Default + Send>(
        &mut self,
        jobs: usize,
        take: impl Fn(&mut T, Shard<'_>) + Sync,
    ) -> io::Result<Vec<T>> {
        let empty = (0..PARTITIONS).map(|_| Partition::default()).collect();
        let parts = std::mem::replace(&mut self.parts, empty);
        let waiting = Mutex::new(parts.into_iter().enumerate());
        let next = || waiting.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        let all = on_threads(jobs, || {
            let mut all = T::default();
            while let Some((number, mut part)) = next() {
                let Meeting { seed, book, .. } = &self.meeting;
                let spilled = self.load(number)?.flows;
                part.flows.merge(spilled, seed, &mut Links::new(seed, book));
                take(&mut all, Shard { table: &part.flows, links: &self.links });
            }
            Ok(all)
        });
        self.meeting.files().iter_mut().for_each(|file| *file = None);
        all
    }

    fn visit_one(&self, number: usize, visitor: &mut impl FnMut(Shard<'_>)) -> io::Result<()> {
        let (links, own) = (&self.links, &self.parts[number].flows);
        let mut spilled = self.load(number)?.flows;
        if spilled.is_empty() {
            visitor(Shard { table: own, links });
        } else {
            let Meeting { seed, book, .. } = &self.meeting;
            spilled.merge_all(own, seed, &mut Links::new(seed, book));
            visitor(Shard { table: &spilled, links });
        }
        Ok(())
    }

    /// What the temporary file of a partition holds.
    pub(super) fn load(&self, number: usize) -> io::Result<Partition> {
        let mut whole = Partition::default();
        let Meeting { seed, book, .. } = &self.meeting;
        // Read at once and understood afterwards, so that others can read theirs meanwhile.
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.meeting.files()[number] {
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
        }
        if bytes.is_empty() {
            return Ok(whole);
        }
        let (mut links, mut rest) = (Links::new(seed, book), &bytes[..]);
        while !rest.is_empty() {
            let mut next = || -> io::Result<&[u8]> {
                let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
                let (length, after) = rest.split_first_chunk().ok_or_else(ended)?;
                let length = u64::from_le_bytes(*length) as usize;
                let (part, after) = after.split_at_checked(length).ok_or_else(ended)?;
                rest = after;
                Ok(part)
            };
            let (flow_bytes, rest_bytes) = (next()?, next()?);
            let flows = FlowTable::from_bytes(seed, flow_bytes).map_err(io::Error::other)?;
            let rest = postcard::from_bytes(rest_bytes).map_err(io::Error::other)?;
            whole.merge(Partition { flows, rest }, seed, &mut links);
        }
        Ok(whole)
    }
}

/// What each of `jobs` threads comes to.
fn on_threads<T: Send>(jobs: usize, work: impl Fn() -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..jobs).map(|_| scope.spawn(&work)).collect();
        let mut all = vec![work()?];
        for other in others {
            all.push(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

/// The flows of one partition.
pub struct Shard<'a> {
    table: &'a FlowTable,
    links: &'a [Link],
}

impl<'a> Shard<'a> {
    /// The flows, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = Flow<'a>> + use<'a> {
        self.table.iter(self.links)
    }
}
