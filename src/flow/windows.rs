//! Flows of window after window as one: taking in, folding when memory runs short, saving and restoring.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::copies::Sample;
use super::links::Links;
use super::meeting::{Askers, Claim, Claimant, Flows, Holders, Lookups, Meeting, PairKey, Tables};
use super::state::Side;
use super::table::{FlowTable, PARTITIONS, Split};
use super::unread::Unreads;
use super::{FlowKey, Ports, Seed};
use crate::decode::{Link, Path, Tuple, sign};
use crate::model::{AtMost, Merge, Nanos, words};

words!(
    /// How flows are folded when memory runs short, from what loses least to what loses most. Each takes in those
    /// before it. What was folded is never certain.
    Fold {
        /// Flows without an established handshake that a host outside the inventory opened: by its /24 or /64,
        /// server, transport and service port.
        Attempts = "attempts-from-outside",
        /// All flows that a host outside the inventory opened: the same.
        Outside = "flows-from-outside",
        /// All hosts outside the inventory as one client, 0.0.0.0 or ::, and as servers by their /24 or /64.
        Strangers = "outside-as-one",
        /// All flows: by client, server, transport and service port.
        Ports = "client-ports",
        /// Of flows without an established handshake the service port too, as 0; servers outside as one.
        Scans = "service-ports",
        /// Of those also hosts of the inventory by their /24 or /64. Taken however little it helps.
        Inside = "inside-networks",
    }
);

/// The flow that stands for `key` when memory runs short, and which side of `key` is its side 0; none where it stays
/// as it is. `is_listed` says whether an address is the inventory's.
pub(super) fn stands_for(
    key: &FlowKey,
    sides: &[Side; 2],
    fold: Fold,
    is_listed: &dyn Fn(IpAddr) -> bool,
) -> Option<(FlowKey, usize)> {
    let transport = key.transport();
    let ends = [key.endpoint(0), key.endpoint(1)];
    let asks = |side: usize| sides[side].has(sign::SYN) && !sides[side].has(sign::SYN_ACK);
    let accepted = |side: usize| sides[side].has(sign::SYN_ACK);
    let opener = match [asks(0) || accepted(1), asks(1) || accepted(0)] {
        [true, false] => 0,
        [false, true] => 1,
        // What was folded has no port where it asked.
        _ if transport.has_ports() && (ends[0].port == 0) != (ends[1].port == 0) => {
            usize::from(ends[1].port == 0)
        }
        // As direction guesses: who has the greater port asks.
        _ => usize::from(ends[1].port > ends[0].port),
    };
    let (client, server) = (ends[opener], ends[1 - opener]);
    let outside = !is_listed(client.addr);
    let established = accepted(1 - opener) && sides[opener].has(sign::ACK);
    let folds = match fold {
        Fold::Attempts => outside && !established,
        Fold::Outside => outside,
        Fold::Strangers => outside || !is_listed(server.addr),
        Fold::Ports | Fold::Scans => true,
        Fold::Inside => !established,
    };
    if !folds {
        return None;
    }
    let client_address = match fold {
        Fold::Inside if !outside => network(client.addr),
        _ if !outside => client.addr,
        Fold::Attempts | Fold::Outside => network(client.addr),
        _ => nobody(client.addr),
    };
    let server_address = match fold {
        Fold::Strangers | Fold::Ports if !is_listed(server.addr) => network(server.addr),
        Fold::Scans | Fold::Inside if !is_listed(server.addr) => nobody(server.addr),
        Fold::Inside => network(server.addr),
        _ => server.addr,
    };
    // A host inside that opened something keeps its ports as long as it can.
    let keeps_port = !outside && fold == Fold::Strangers;
    let tuple = Tuple {
        src: client_address,
        dst: server_address,
        // What an ICMP conversation is stands in both numbers.
        sport: if transport.has_ports() && !keeps_port { 0 } else { client.port },
        dport: match fold {
            Fold::Scans | Fold::Inside if transport.has_ports() && !established => 0,
            _ => server.port,
        },
        transport,
    };
    let (stand_in, side) = FlowKey::new(&tuple, key.path());
    // `side` of the new flow is the opener.
    (stand_in != *key).then_some((stand_in, if side == 0 { opener } else { 1 - opener }))
}

/// The /24 or /64 of an address, as its first address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) & 0xffff_ff00).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
    }
}

/// The address that stands for all of a kind.
fn nobody(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Flows that would be folded, and those that would stand for them.
pub(super) struct Helps<'a> {
    seed: &'a Seed,
    moving: usize,
    places: HashSet<u64, Seed>,
}

impl<'a> Helps<'a> {
    pub fn new(seed: &'a Seed) -> Self {
        Self { seed, moving: 0, places: HashSet::default() }
    }

    pub fn add(&mut self, table: &FlowTable, fold: Fold, is_listed: &dyn Fn(IpAddr) -> bool) {
        for (key, sides) in table.keys() {
            if let Some((key, _)) = stands_for(key, sides, fold, is_listed) {
                self.moving += 1;
                self.places.insert(self.seed.hash_one(key));
            }
        }
    }

    /// Where hardly two flows fall together, as of senders that are all made up, the next way is for them.
    pub fn hardly(&self, fold: Fold) -> bool {
        self.moving == 0 || (self.places.len() * 5 > self.moving * 4 && fold != Fold::Inside)
    }
}

/// Folds the flows of all partitions. Returns how many flows were taken into others.
fn fold_tables(
    tables: &mut [&mut FlowTable],
    seed: &Seed,
    links: &mut Links,
    fold: Fold,
    is_listed: &dyn Fn(IpAddr) -> bool,
) -> u64 {
    let mut helps = Helps::new(seed);
    tables.iter().for_each(|table| helps.add(table, fold, is_listed));
    if helps.hardly(fold) {
        return 0;
    }
    let mut folded = 0;
    for number in 0..tables.len() {
        let whole = std::mem::take(&mut *tables[number]);
        let Split { kept, moved } =
            whole.split(seed, |key, sides| stands_for(key, sides, fold, is_listed));
        *tables[number] = kept;
        folded += moved.len() as u64;
        for flow in moved {
            let partition = flow.partition(seed);
            tables[partition].take_folded(flow, seed, links);
        }
    }
    folded
}

impl Tables {
    /// Keeps at most `most` of each kind of what is beside the flows. Returns how many were forgotten.
    pub fn forget_beyond(&mut self, most: usize) -> u64 {
        self.rest.forget_beyond(most)
    }

    /// Folds flows, and forgets no packet of them. Returns how many were taken into others.
    pub fn fold_up(&mut self, fold: Fold, is_listed: &dyn Fn(IpAddr) -> bool) -> u64 {
        let (parts, seed, links) = self.flows.for_folding();
        fold_tables(&mut parts.iter_mut().collect::<Vec<_>>(), seed, links, fold, is_listed)
    }
}

impl Flows {
    /// Takes in the flows of a window, whose meeting was another of this one's.
    pub fn absorb(&mut self, mut window: Self) -> io::Result<()> {
        let mut links = Links::new(&self.meeting.seed, &self.meeting.book);
        for number in 0..PARTITIONS {
            let spilled = window.load(number)?.flows;
            let table = std::mem::take(&mut window.parts[number].flows);
            for table in [spilled, table] {
                self.parts[number].flows.merge(table, &self.meeting.seed, &mut links);
            }
        }
        self.links = self.meeting.book.all();
        for (pair, side) in window.loose {
            self.loose.entry(pair).or_default().merge(&side);
        }
        for (claim, seen) in window.claims {
            self.claims.entry(claim).or_default().merge(&seen);
        }
        self.unread.merge(&window.unread);
        for (interface, to) in window.tunnels {
            self.tunnels.entry(interface).or_default().merge(&to);
        }
        for (resolver, askers) in window.askers {
            self.askers.entry(resolver).or_default().merge(&askers);
        }
        for (pair, count) in window.orphans {
            *self.orphans.entry(pair).or_default() += count;
        }
        for (pair, names) in window.lookups {
            self.lookups.entry(pair).or_default().extend(names);
        }
        for (pair, ports) in window.announced {
            self.announced.entry(pair).or_default().merge(&ports);
        }
        for (address, holders) in window.holders {
            self.holders.entry(address).or_default().merge(&holders);
        }
        self.cuts.extend(window.cuts);
        let theirs = window.meeting.sample.into_inner().unwrap_or_else(|p| p.into_inner());
        self.meeting.sample.get_mut().unwrap_or_else(|p| p.into_inner()).merge(&theirs);
        Ok(())
    }

    /// A meeting whose flows can be taken in here.
    pub fn another_meeting(&self) -> Meeting {
        self.meeting.another()
    }

    /// Reads names out of what is kept of sides that started before `time`, and forgets the bytes.
    pub fn settle_names(&mut self, time: Nanos) {
        self.parts.iter_mut().for_each(|part| part.flows.settle_names(time));
    }

    /// Bytes of memory that the flows hold, about.
    pub fn memory(&self) -> usize {
        const SMALL: usize = 256;
        let rest = self.loose.len()
            + self.claims.len()
            + self.orphans.len()
            + self.lookups.len() * 2
            + self.announced.len()
            + self.holders.len();
        self.parts.iter().map(|part| part.flows.memory()).sum::<usize>() + rest * SMALL
    }

    /// How many conversations there are, about: pairs of addresses with a lesser port. One that goes on after its flows
    /// were idle counts twice.
    pub fn talks(&self) -> usize {
        let own: usize = self.parts.iter().map(|part| part.flows.talks(&self.meeting.seed)).sum();
        own + self.idle_sums().talks
    }

    /// The number of flows. One that goes on after it was idle counts twice.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.flows.len()).sum::<usize>() + self.idle_sums().flows
    }

    /// Whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Folds flows, and packets without ports the same way. Returns how many were taken into others.
    pub fn fold_up(&mut self, fold: Fold, is_listed: &dyn Fn(IpAddr) -> bool) -> io::Result<u64> {
        let seed = self.meeting.seed.clone();
        let idle = self.fold_idle(fold, is_listed)?;
        let mut links = Links::new(&seed, &self.meeting.book);
        let mut tables: Vec<_> = self.parts.iter_mut().map(|part| &mut part.flows).collect();
        let mut folded = idle + fold_tables(&mut tables, &seed, &mut links, fold, is_listed);
        let wide = |address| if is_listed(address) { address } else { network(address) };
        let before = self.loose.len() + self.orphans.len();
        for ((src, dst, transport, path), side) in std::mem::take(&mut self.loose) {
            let pair = (wide(src), wide(dst), transport, path);
            self.loose.entry(pair).or_default().merge(&side);
        }
        for ((src, dst, transport, path), count) in std::mem::take(&mut self.orphans) {
            *self.orphans.entry((wide(src), wide(dst), transport, path)).or_default() += count;
        }
        folded += (before - self.loose.len() - self.orphans.len()) as u64;
        Ok(folded)
    }

    /// Keeps at most `most` of each kind of what is beside the flows, those that come first in their order. Returns how
    /// many were forgotten.
    pub fn forget_beyond(&mut self, most: usize) -> u64 {
        fn cut<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, most: usize) -> u64 {
            match map.keys().nth(most).cloned() {
                Some(first) => map.split_off(&first).len() as u64,
                None => 0,
            }
        }
        cut(&mut self.loose, most)
            + cut(&mut self.claims, most)
            + cut(&mut self.orphans, most)
            + cut(&mut self.askers, most)
            + cut(&mut self.lookups, most)
            + cut(&mut self.announced, most)
            + cut(&mut self.holders, most)
    }

    /// Writes all flows, partition by partition. What is written holds evidence alone.
    pub fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        let sample = self.meeting.sample.lock().unwrap_or_else(|p| p.into_inner());
        write_part(out, &self.meeting.book.all())?;
        write_part(
            out,
            &Beside {
                loose: self.loose.clone(),
                claims: self.claims.clone(),
                unread: self.unread.clone(),
                tunnels: self.tunnels.clone(),
                askers: self.askers.clone(),
                orphans: self.orphans.clone(),
                lookups: self.lookups.clone(),
                announced: self.announced.clone(),
                holders: self.holders.clone(),
                cuts: self.cuts.clone(),
                sample: sample.clone(),
            },
        )?;
        // What was idle is read as that again.
        for (number, part) in self.parts.iter().enumerate() {
            let idle = self.load(number)?.flows;
            for table in [&idle, &part.flows] {
                write_bytes(out, &table.to_bytes().map_err(io::Error::other)?)?;
            }
        }
        Ok(())
    }

    /// Reads what [`Flows::save`] wrote, into flows of a new meeting.
    pub fn restore(meeting: Meeting, from: &mut dyn Read) -> io::Result<Self> {
        let links: Vec<Link> = read_part(from)?;
        meeting.book.restore(&links);
        let beside: Beside = read_part(from)?;
        let seed = meeting.seed.clone();
        let mut flows = meeting.settle(false, 1, usize::MAX)?;
        let mut links = Links::new(&seed, &flows.meeting.book);
        for _ in 0..PARTITIONS {
            let mut next = || {
                let bytes = read_bytes(from)?;
                let table = FlowTable::from_bytes(&seed, &bytes).map_err(io::Error::other)?;
                // Another seed has other partitions.
                io::Result::Ok(table.into_partitions(&seed))
            };
            let (idle, own) = (next()?, next()?);
            flows.add_idle(idle, &mut links);
            for (number, part) in own.into_iter().enumerate() {
                flows.parts[number].flows.merge(part, &seed, &mut links);
            }
        }
        flows.tidy_idle()?;
        flows.links = flows.meeting.book.all();
        let Beside { loose, claims, orphans, lookups, announced, holders, cuts, sample, .. } =
            beside;
        (flows.unread, flows.tunnels, flows.askers) =
            (beside.unread, beside.tunnels, beside.askers);
        flows.cuts = cuts;
        (flows.loose, flows.claims, flows.orphans) = (loose, claims, orphans);
        (flows.lookups, flows.announced, flows.holders) = (lookups, announced, holders);
        flows.starts = HashSet::default();
        *flows.meeting.sample.get_mut().unwrap_or_else(|p| p.into_inner()) = sample;
        Ok(flows)
    }
}

/// What is beside the flows.
#[derive(Serialize, Deserialize)]
struct Beside {
    loose: BTreeMap<PairKey, Side>,
    claims: BTreeMap<Claimant, Claim>,
    unread: Unreads,
    tunnels: BTreeMap<u16, AtMost<IpAddr, 1>>,
    askers: BTreeMap<(IpAddr, Path), Askers>,
    orphans: BTreeMap<PairKey, u64>,
    lookups: Lookups,
    announced: BTreeMap<(IpAddr, IpAddr, Path), Ports>,
    holders: BTreeMap<(IpAddr, Path), Holders>,
    cuts: BTreeSet<Nanos>,
    sample: Sample,
}

fn write_part(out: &mut dyn Write, part: &impl Serialize) -> io::Result<()> {
    write_bytes(out, &postcard::to_stdvec(part).map_err(io::Error::other)?)
}

fn write_bytes(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

fn read_part<T: DeserializeOwned>(from: &mut dyn Read) -> io::Result<T> {
    postcard::from_bytes(&read_bytes(from)?).map_err(io::Error::other)
}

fn read_bytes(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let mut bytes = Vec::new();
    // As much as there is, whatever the length says.
    let length = u64::from_le_bytes(length);
    match from.take(length).read_to_end(&mut bytes)? as u64 == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Body, Observation};
    use crate::flow::{Keep, Pending};
    use crate::model::Transport;

    fn listed(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10)
    }

    /// A packet of a TCP flow.
    fn packet(
        time: Nanos,
        src: [u8; 4],
        sport: u16,
        dst: [u8; 4],
        dport: u16,
        signs: u16,
    ) -> Observation {
        let (src, dst) = (Ipv4Addr::from(src).into(), Ipv4Addr::from(dst).into());
        let tuple = Tuple { src, dst, sport, dport, transport: Transport::TCP };
        let (acked, fragment) = (None, None);
        let body = Body::Segment { tuple, signs, payload: 3, seq: 0, acked, fragment };
        Observation { time, wire_len: 60, body, ..Observation::default() }
    }

    /// Attempts from outside, connections from outside and inside.
    fn traffic() -> Vec<Observation> {
        let (server, inside) = ([10, 0, 0, 1], [10, 0, 0, 9]);
        let mut seen = Vec::new();
        for number in 0..2000u16 {
            let [hi, lo] = number.to_be_bytes();
            let port = 1024 + number;
            seen.push(packet(i64::from(number), [203, 0, hi, lo], port, server, 443, sign::SYN));
            for (client, open) in [([198, 51, 100, lo], 80), (inside, 88)] {
                seen.push(packet(1, client, port, server, open, sign::SYN));
                seen.push(packet(2, server, open, client, port, sign::SYN_ACK));
                seen.push(packet(3, client, port, server, open, sign::ACK));
            }
        }
        seen
    }

    fn flows(meeting: Meeting, seen: &[Observation]) -> Flows {
        let mut tables = meeting.tables(&Keep::default());
        seen.chunks(32).for_each(|some| tables.observe(some, &[]));
        meeting.take_in(tables).unwrap();
        meeting.settle_window(1, &mut Pending::default(), None).unwrap()
    }

    fn new_meeting() -> Meeting {
        Meeting::new(&Seed::new(), std::env::temp_dir())
    }

    /// Packets, bytes, and flows with those that were folded into them.
    fn sums(flows: &Flows) -> (u64, u64, u64) {
        let mut sums = (0, 0, 0);
        flows
            .visit(|shard| {
                for flow in shard.iter() {
                    for side in flow.sides {
                        sums.0 += side.sent.packets.0;
                        sums.1 += side.sent.bytes.0;
                    }
                    sums.2 += flow.extra.map_or(1, |extra| extra.folded.0.max(1));
                }
            })
            .unwrap();
        sums
    }

    #[test]
    fn folding_loses_no_packet_and_no_flow_and_ever_fewer_remain() {
        let seen = traffic();
        let mut all = flows(new_meeting(), &seen);
        let before = sums(&all);
        assert_eq!((before.0, before.2), (2000 * 7, all.len() as u64));
        let mut sizes = vec![all.len()];
        for fold in Fold::ALL {
            let folded = all.fold_up(*fold, &listed).unwrap();
            assert_eq!(sums(&all), before, "{fold}");
            assert!(folded > 0 || sizes.last() == Some(&all.len()), "{fold}");
            sizes.push(all.len());
        }
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        // Eight networks of attempts; one of connections; all outside as one; inside by conversation.
        assert_eq!(sizes, [6000, 4008, 2009, 2002, 3, 3, 3]);
        assert_eq!(all.talks(), 3);
        // What goes on after folding folds to the same places.
        let again = flows(all.another_meeting(), &seen);
        all.absorb(again).unwrap();
        assert_eq!(all.len(), 6003);
        for fold in Fold::ALL {
            all.fold_up(*fold, &listed).unwrap();
        }
        assert_eq!(all.len(), 3);
        assert_eq!(sums(&all).0, 2 * before.0);
    }

    #[test]
    fn folding_a_workers_tables_first_comes_to_the_same() {
        let (seen, meeting) = (traffic(), new_meeting());
        let mut tables = meeting.tables(&Keep::default());
        for (number, some) in seen.chunks(32).enumerate() {
            tables.observe(some, &[]);
            if number % 50 == 0 {
                tables.fold_up(Fold::Ports, &listed);
            }
        }
        tables.fold_up(Fold::Ports, &listed);
        meeting.take_in(tables).unwrap();
        let late = meeting.settle_window(1, &mut Pending::default(), None).unwrap();
        let mut early = flows(new_meeting(), &seen);
        early.fold_up(Fold::Ports, &listed).unwrap();
        assert_eq!((late.len(), sums(&late).0), (early.len(), sums(&early).0));
    }

    #[test]
    fn what_is_idle_lies_in_files_and_stays_the_same_evidence() {
        let seen = traffic();
        let mut all = flows(new_meeting(), &seen);
        let (before, talks) = (sums(&all), all.talks());
        // Attempts have times from 0 on; of connections the last packet has 3.
        all.rest_idle(1000).unwrap();
        let (resting, bytes) = all.resting();
        assert_eq!((resting, all.len()), (5000, 6000));
        assert!(bytes > 0 && all.memory() < flows(new_meeting(), &seen).memory() / 3);
        assert_eq!((sums(&all), all.talks()), (before, talks));
        // What goes on is in memory again, and one with its past for whoever reads.
        let again = flows(all.another_meeting(), &seen[..700]);
        let more = sums(&again);
        all.absorb(again).unwrap();
        assert_eq!(sums(&all), (before.0 + more.0, before.1 + more.1, before.2));
        all.rest_idle(Nanos::MAX).unwrap();
        // Until its file is written anew, one that was idle twice counts twice.
        assert_eq!((all.resting().0, all.len(), all.memory() < 1 << 16), (6300, 6300, true));
        assert_eq!(sums(&all), (before.0 + more.0, before.1 + more.1, before.2));
        // The state holds them, and a fold takes them in.
        let mut bytes = Vec::new();
        all.save(&mut bytes).unwrap();
        let mut back = Flows::restore(new_meeting(), &mut &bytes[..]).unwrap();
        assert_eq!((back.resting().0, sums(&back)), (6000, sums(&all)));
        // Where there is no room for them they come into memory.
        let nowhere = Meeting::new(&Seed::new(), "/nowhere/at/all".into());
        let held = Flows::restore(nowhere, &mut &bytes[..]).unwrap();
        assert_eq!((held.resting().0, held.len(), sums(&held)), (0, 6000, sums(&all)));
        for fold in Fold::ALL {
            let before = sums(&back);
            back.fold_up(*fold, &listed).unwrap();
            assert_eq!(sums(&back), before, "{fold}");
        }
        assert_eq!((back.len(), back.resting().0), (3, 0));
    }

    #[test]
    fn what_cannot_be_written_stays_in_memory() {
        let seen = traffic();
        let meeting = Meeting::new(&Seed::new(), "/nowhere/at/all".into());
        let mut all = flows(meeting, &seen);
        let before = sums(&all);
        assert!(all.rest_idle(Nanos::MAX).is_err());
        assert_eq!((all.len(), all.resting().0, sums(&all)), (6000, 0, before));
    }

    #[test]
    fn what_was_saved_comes_back_under_another_seed() {
        let seen = traffic();
        let mut all = flows(new_meeting(), &seen);
        all.fold_up(Fold::Attempts, &listed).unwrap();
        let mut bytes = Vec::new();
        all.save(&mut bytes).unwrap();
        let back = Flows::restore(new_meeting(), &mut &bytes[..]).unwrap();
        assert_eq!((back.len(), sums(&back)), (all.len(), sums(&all)));
        // No piece of it is taken for the whole.
        for end in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
            assert!(Flows::restore(new_meeting(), &mut &bytes[..end]).is_err(), "{end}");
        }
    }
}
