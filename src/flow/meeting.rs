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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use super::copies::{Removals, Sample, Trace};
use super::fragments::{Fragments, Joined};
use super::state::Side;
use super::table::{FlowTable, Place, partition};
use super::{FlowKey, Seed};
use crate::decode::{Body, Observation, Quoted};
use crate::model::{AtMost, Copies, Mac, Max, Merge, Min, Nanos, Sum, Transport};
use crate::names::{Clue, Lookup, Ports, Reply, read};

/// Hash partitions. Enough that one of them is small beside the memory of all.
const PARTITIONS: usize = 64;

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
    Of(Arc<HashSet<(FlowKey, u8)>>),
    /// All, where nothing can be read again.
    All,
}

/// Source, destination and protocol of packets without ports.
pub type PairKey = (IpAddr, IpAddr, Transport);

/// What one worker has seen: private, no locks.
pub struct Tables {
    /// The flows.
    pub flows: FlowTable,
    rest: Rest,
    sample: Sample,
    keep: Keep,
    /// Scratch: the places of the packets of a batch.
    places: Vec<Place>,
}

/// What is neither flow nor part of one.
#[derive(Default, Serialize, Deserialize)]
struct Rest {
    /// Packets whose ports were not seen, and ICMP errors, by pair.
    loose: HashMap<PairKey, Side>,
    /// Address claims.
    claims: HashMap<(IpAddr, Mac), Claim>,
    fragments: Fragments,
    /// DNS lookups.
    lookups: HashMap<Lookup, Reply>,
    /// TCP ports that endpoint mappers announced, by mapper and who asked it.
    announced: HashMap<(IpAddr, IpAddr), Ports>,
    /// Who held virtual addresses, by address.
    holders: HashMap<IpAddr, Holders>,
    /// Sides that started a message which goes on in another segment.
    starts: HashSet<(FlowKey, u8)>,
    /// What each packet leaves behind where copies are looked for.
    traces: Vec<Trace>,
}

/// How often and when a hardware address claimed an IP address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// Frames.
    pub frames: Sum,
    /// The earliest.
    pub first: Min,
    /// The latest.
    pub last: Max,
}

impl Merge for Claim {
    fn merge(&mut self, other: &Self) {
        self.frames.merge(&other.frames);
        self.first.merge(&other.first);
        self.last.merge(&other.last);
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

    fn memory(&self) -> usize {
        const LOOKUP: usize = 400;
        (self.loose.len()
            + self.claims.len()
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
            parts[partition(seed.hash_one(key), PARTITIONS)].loose.insert(key, side);
        }
        for (key, claim) in self.claims {
            parts[partition(seed.hash_one(key), PARTITIONS)].claims.insert(key, claim);
        }
        for (key, datagrams) in self.fragments.datagrams {
            parts[partition(seed.hash_one(key), PARTITIONS)].fragments.insert(key, datagrams);
        }
        for (lookup, reply) in self.lookups {
            parts[partition(seed.hash_one(&lookup), PARTITIONS)].lookups.insert(lookup, reply);
        }
        for (key, side) in self.starts {
            parts[partition(seed.hash_one(key), PARTITIONS)].starts.insert((key, side));
        }
        for (address, holders) in self.holders {
            parts[partition(seed.hash_one(address), PARTITIONS)].holders.insert(address, holders);
        }
        for (pair, ports) in self.announced {
            parts[partition(seed.hash_one(pair), PARTITIONS)].announced.insert(pair, ports);
        }
        // All traces of a content meet in one partition, however many one flow has.
        for trace in self.traces {
            parts[partition(seed.hash_one(trace.content), PARTITIONS)].traces.push(trace);
        }
        parts
    }
}

impl Tables {
    /// Empty tables.
    pub fn new(seed: &Seed, keep: &Keep) -> Self {
        Self {
            flows: FlowTable::new(seed),
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
            Body::Segment { signs, payload, acked, fragment, .. } => {
                let flow = self.flows.observe(place, seen, payload, signs, acked);
                self.trace(&flow, usize::from(place.side), seen, payload);
                if let Some(datagram) = fragment {
                    let side = usize::from(place.side);
                    self.rest.fragments.first(datagram, time, flow, side, seen.link);
                }
            }
            Body::Fragment { datagram, payload } => {
                self.rest.fragments.later(datagram, seen, payload);
            }
            Body::Error { quoted, kind, by, to, transport } => {
                match quoted {
                    Quoted::Flow(tuple) => {
                        let (key, side) = FlowKey::new(&tuple);
                        self.flows.observe_error(&key, side, kind, by, time);
                    }
                    Quoted::Fragment(datagram) => {
                        self.rest.fragments.error(datagram, time, kind, by);
                    }
                }
                self.loose((by, to, transport), seen);
            }
            Body::Portless { src, dst, transport } => self.loose((src, dst, transport), seen),
            Body::NonIp { claim: Some((address, mac)), .. } => self.claim(address, mac, time),
            Body::NonIp { claim: None, .. } => {}
        }
    }

    fn claim(&mut self, address: IpAddr, mac: Mac, time: Nanos) {
        let claim = self.rest.claims.entry((address, mac)).or_default();
        claim.frames.add(1);
        claim.first.see(time);
        claim.last.see(time);
    }

    /// Takes in what a payload tells about names.
    fn listen(&mut self, seen: &Observation, place: Place, payload: &[u8]) {
        match (read(seen, payload), seen.body) {
            (Some(Clue::Hello(hello)), _) => self.flows.observe_hello(place, hello),
            (Some(clue @ (Clue::Start | Clue::Part)), Body::Segment { tuple, seq, .. }) => {
                let side = || {
                    let (key, side) = FlowKey::new(&tuple);
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
                self.rest.announced.entry((tuple.src, tuple.dst)).or_default().merge(&ports);
            }
            (Some(Clue::Holds(addresses)), Body::Segment { tuple, .. }) => {
                for address in addresses {
                    self.rest.holders.entry(address).or_default().insert(tuple.src);
                }
            }
            (Some(Clue::Claims(address, mac)), _) => self.claim(address, mac, seen.time),
            _ => {}
        }
    }

    fn trace(&mut self, flow: &FlowKey, side: usize, seen: &Observation, payload: u32) {
        if self.keep.traces {
            self.rest.traces.extend(self.flows.trace(flow, side, seen, payload));
        }
    }

    fn loose(&mut self, key: PairKey, seen: &Observation) {
        let signs = if seen.broadcast { crate::decode::sign::BROADCAST } else { 0 };
        self.rest.loose.entry(key).or_default().see(seen.time, seen.wire_len, 0, signs);
    }

    /// Bytes of memory that the tables hold, about.
    pub fn memory(&self) -> usize {
        self.flows.memory() + self.rest.memory()
    }
}

/// Where tables meet. Shared by all workers; locks are taken for a partition, never for a flow.
pub struct Meeting {
    seed: Seed,
    partitions: DashMap<usize, Partition>,
    sample: Mutex<Sample>,
    files: Mutex<Vec<Option<File>>>,
    folder: PathBuf,
    spilled: AtomicU64,
}

struct Partition {
    flows: FlowTable,
    rest: Rest,
}

impl Partition {
    fn new(seed: &Seed) -> Self {
        Self { flows: FlowTable::new(seed), rest: Rest::default() }
    }
}

impl Meeting {
    /// An empty meeting that spills into unnamed files in `folder`.
    pub fn new(seed: &Seed, folder: PathBuf) -> Self {
        Self {
            seed: seed.clone(),
            partitions: DashMap::new(),
            sample: Mutex::new(Sample::default()),
            files: Mutex::new((0..PARTITIONS).map(|_| None).collect()),
            folder,
            spilled: AtomicU64::new(0),
        }
    }

    /// Takes in the tables of a worker that has ended.
    pub fn take_in(&self, tables: Tables) -> io::Result<()> {
        // Once memory has run short, the last tables go where the earlier ones went.
        if self.spilled.load(Ordering::Relaxed) > 0 {
            return self.spill(tables);
        }
        self.take_sample(&tables);
        let positions = tables.flows.by_partition(PARTITIONS);
        for (number, rest) in tables.rest.split(&self.seed).into_iter().enumerate() {
            let mut here =
                self.partitions.entry(number).or_insert_with(|| Partition::new(&self.seed));
            here.flows.merge_from(&tables.flows, &positions[number]);
            here.rest.merge(rest);
        }
        Ok(())
    }

    /// Writes the tables of a worker that has grown over its share of memory into the temporary
    /// files.
    pub fn spill(&self, tables: Tables) -> io::Result<()> {
        self.take_sample(&tables);
        let positions = tables.flows.by_partition(PARTITIONS);
        for (number, rest) in tables.rest.split(&self.seed).into_iter().enumerate() {
            if positions[number].is_empty() && rest.memory() == 0 {
                continue;
            }
            let flows = tables.flows.subset(&positions[number]);
            self.write(number, &Partition { flows, rest })?;
        }
        Ok(())
    }

    fn take_sample(&self, tables: &Tables) {
        self.sample.lock().unwrap_or_else(|p| p.into_inner()).merge(&tables.sample);
    }

    fn write(&self, number: usize, partition: &Partition) -> io::Result<()> {
        let flows = partition.flows.to_bytes().map_err(io::Error::other)?;
        let rest = postcard::to_stdvec(&partition.rest).map_err(io::Error::other)?;
        // Writing is rare and large; one lock for all files keeps it simple.
        let mut files = self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
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

    /// Writes a partition in the place of the pieces that were written of it.
    fn rewrite(&mut self, number: usize, partition: &Partition) -> io::Result<()> {
        let files = self.files.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        files[number] = None;
        if partition.flows.is_empty() { Ok(()) } else { self.write(number, partition) }
    }

    /// The merged whole. Fragments join their flows here; with `traces` they are remembered too.
    pub fn settle(self, traces: bool) -> io::Result<Flows> {
        let mut flows = Flows {
            meeting: self,
            loose: BTreeMap::new(),
            claims: BTreeMap::new(),
            orphans: BTreeMap::new(),
            lookups: BTreeMap::new(),
            announced: BTreeMap::new(),
            holders: BTreeMap::new(),
            starts: HashSet::new(),
        };
        let keep = Keep { traces, ..Keep::default() };
        let mut joined = Tables::new(&flows.meeting.seed, &keep);
        for number in 0..PARTITIONS {
            // Traces wait until those of fragments have come.
            let here = flows.meeting.partitions.get_mut(&number);
            let traces = here.map(|mut here| std::mem::take(&mut here.rest.traces));
            let rest = flows.load(number)?.1;
            if let Some(mut here) = flows.meeting.partitions.get_mut(&number) {
                here.rest.traces = traces.unwrap_or_default();
            }
            for (key, side) in rest.loose {
                flows.loose.entry(key).or_default().merge(&side);
            }
            flows.claims.extend(rest.claims);
            flows.announced.extend(rest.announced);
            flows.holders.extend(rest.holders);
            flows.starts.extend(rest.starts);
            // An answer that nobody asked for is none.
            for (lookup, reply) in rest.lookups.into_iter().filter(|(_, r)| r.asked.0 != 0) {
                for (address, names) in reply.answers.iter() {
                    let told = flows.lookups.entry((lookup.client, *address)).or_default();
                    told.insert(names.clone());
                }
            }
            for piece in rest.fragments.resolve() {
                match piece {
                    Joined::Flow(key, side, seen, payload) => {
                        let place = joined.flows.place(&key, side);
                        joined.flows.observe(place, &seen, payload, 0, None);
                        joined.trace(&key, side, &seen, payload);
                    }
                    Joined::Error(key, side, time, kind, by) => {
                        joined.flows.observe_error(&key, side, kind, by, time);
                    }
                    Joined::Orphan(key, seen) => {
                        let pair = (key.src, key.dst, key.transport);
                        *flows.orphans.entry(pair).or_default() += 1;
                        let side = flows.loose.entry(pair).or_default();
                        side.see(seen.time, seen.wire_len, 0, 0);
                    }
                }
            }
        }
        flows.meeting.take_in(joined)?;
        Ok(flows)
    }
}

/// All flows of a run, merged; one partition of them in memory at a time where they were spilled.
pub struct Flows {
    meeting: Meeting,
    /// Packets whose ports were not seen, and ICMP errors, by pair.
    pub loose: BTreeMap<PairKey, Side>,
    /// Address claims (ARP, neighbour discovery).
    pub claims: BTreeMap<(IpAddr, Mac), Claim>,
    /// Later fragments whose first fragment is not in the capture, by pair.
    pub orphans: BTreeMap<PairKey, u64>,
    /// The names by which a client was told an address: the name asked for, then its aliases.
    pub lookups: Lookups,
    /// TCP ports that an endpoint mapper announced, by mapper and who asked it.
    pub announced: BTreeMap<(IpAddr, IpAddr), Ports>,
    /// Who held virtual addresses, by address (VRRP).
    pub holders: BTreeMap<IpAddr, Holders>,
    /// Sides that started a message which goes on in another segment, where starts alone were remembered.
    pub starts: HashSet<(FlowKey, u8)>,
}

/// The names by which clients were told addresses.
pub type Lookups = BTreeMap<(IpAddr, IpAddr), BTreeSet<Vec<String>>>;

/// Addresses that advertised themselves as the master of a virtual one.
pub type Holders = AtMost<IpAddr, 8>;

impl Flows {
    /// Bytes written to temporary files because memory ran short.
    pub fn spilled(&self) -> u64 {
        self.meeting.spilled.load(Ordering::Relaxed)
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
            removals.find(self.load(number)?.1.traces);
        }
        for number in 0..PARTITIONS {
            let mut flows = self.load(number)?.0;
            match self.meeting.partitions.get_mut(&number) {
                Some(mut here) if flows.is_empty() => {
                    removed += here.flows.remove(&removals);
                    continue;
                }
                Some(here) => flows.merge(&here.flows),
                None => {}
            }
            removed += flows.remove(&removals);
            // What is corrected takes the place of its pieces.
            self.meeting.partitions.remove(&number);
            self.meeting.rewrite(number, &Partition { flows, rest: Rest::default() })?;
        }
        Ok(removed)
    }

    /// Visits all flows, a partition at a time, in no order that means anything.
    pub fn visit(&mut self, mut visitor: impl FnMut(&FlowTable)) -> io::Result<()> {
        for number in 0..PARTITIONS {
            let (from_files, _) = self.load(number)?;
            match self.meeting.partitions.get(&number) {
                Some(here) if from_files.is_empty() => visitor(&here.flows),
                Some(here) => {
                    let mut all = from_files;
                    all.merge(&here.flows);
                    visitor(&all);
                }
                None => visitor(&from_files),
            }
        }
        Ok(())
    }

    /// What the temporary file of a partition holds, and the rest that is in memory (once).
    fn load(&mut self, number: usize) -> io::Result<(FlowTable, Rest)> {
        let seed = &self.meeting.seed;
        let (mut flows, mut rest) = (FlowTable::new(seed), Rest::default());
        if let Some(mut here) = self.meeting.partitions.get_mut(&number) {
            rest = std::mem::take(&mut here.rest);
        }
        let files = self.meeting.files.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(file) = &mut files[number] {
            let end = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(0))?;
            while file.stream_position()? < end {
                let mut next = || {
                    let mut length = [0; 8];
                    file.read_exact(&mut length)?;
                    let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
                    file.read_exact(&mut bytes)?;
                    io::Result::Ok(bytes)
                };
                let (flow_bytes, rest_bytes) = (next()?, next()?);
                let piece = FlowTable::from_bytes(seed, &flow_bytes).map_err(io::Error::other)?;
                flows.merge(&piece);
                rest.merge(postcard::from_bytes(&rest_bytes).map_err(io::Error::other)?);
            }
        }
        Ok((flows, rest))
    }
}
