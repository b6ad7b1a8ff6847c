//! IP fragments. Later fragments have no ports, so they join the flow of the first fragment with
//! the same addresses, protocol and identification. Payload is never reassembled.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::evidence_limit::{DroppedEntries, EvidenceLimit};
use super::key::partition;
use super::keyed::{EvidenceKind, empty_parts};
use super::packet_log::sensor_number;
use super::row::{RowFacts, bucket, stable_hash, to_key};
use super::{FlowKey, HashSeed};
use crate::decode::{Datagram, Encapsulation, ErrorKind, Observation};
use crate::model::{Nanos, SECOND, VantagePoint};

/// The maximum time between fragments of a datagram, which is the reassembly timeout (RFC 8200,
/// 4.5). The limit is needed because identifications are reused during a capture.
pub(super) const TIMEOUT: Nanos = 60 * SECOND;

/// Fragments that have not been joined yet. Merging two tables yields the union of their fragments.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct FragmentTable {
    datagrams: HashMap<Datagram, FragmentedDatagrams>,
    /// The number of stored fragments and errors. It is used to limit them and to estimate memory.
    count: usize,
}

/// The fragments with the same datagram key, possibly of several datagrams over time.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
struct FragmentedDatagrams {
    firsts: Vec<FirstFragment>,
    later: Vec<LaterFragment>,
    errors: Vec<(Nanos, ErrorKind, IpAddr)>,
}

/// A first fragment: its time, flow, side and encapsulation.
type FirstFragment = (Nanos, FlowKey, u8, Encapsulation);

/// A later fragment as it was captured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct LaterFragment {
    time: Nanos,
    wire_len: u32,
    payload: u32,
    /// A number for the sensor, or 0 if the sensor has no name. Earlier versions stored the
    /// interface.
    sensor: u16,
    fingerprint: u64,
    link: Encapsulation,
}

impl LaterFragment {
    /// Returns the fragment as an observation, whose interface is the number of the sensor.
    fn seen(&self) -> Observation {
        Observation {
            time: self.time,
            wire_len: self.wire_len,
            interface: self.sensor,
            fingerprint: self.fingerprint,
            link: self.link,
            ..Observation::default()
        }
    }
}

impl FragmentedDatagrams {
    fn len(&self) -> usize {
        self.firsts.len() + self.later.len() + self.errors.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn append(&mut self, other: Self) {
        self.firsts.extend(other.firsts);
        self.later.extend(other.later);
        self.errors.extend(other.errors);
    }
}

/// The result of assigning a later fragment, or an ICMP error that quotes one, to a flow.
pub(super) enum JoinedFragment {
    /// A fragment that belongs to a side of a flow, with its payload length in bytes.
    Flow(FlowKey, usize, Observation, u32),
    /// An ICMP error that quotes a packet from a side of a flow.
    Error(FlowKey, usize, Nanos, ErrorKind, IpAddr),
    /// A fragment whose first fragment was not found.
    Orphan(Datagram, Observation),
}

impl FragmentTable {
    /// Stores the flow of a first fragment.
    pub fn first(
        &mut self,
        key: Datagram,
        time: Nanos,
        flow: FlowKey,
        side: usize,
        link: Encapsulation,
    ) {
        self.count += 1;
        self.datagrams.entry(key).or_default().firsts.push((time, flow, side as u8, link));
    }

    /// Stores a later fragment.
    pub fn later(&mut self, key: Datagram, seen: &Observation, payload: u32) {
        self.count += 1;
        let &Observation { time, wire_len, fingerprint, link, .. } = seen;
        let later = LaterFragment { time, wire_len, payload, sensor: 0, fingerprint, link };
        self.datagrams.entry(key).or_default().later.push(later);
    }

    /// Stores an ICMP error that quotes a later fragment.
    pub fn error(&mut self, key: Datagram, time: Nanos, kind: ErrorKind, by: IpAddr) {
        self.count += 1;
        self.datagrams.entry(key).or_default().errors.push((time, kind, by));
    }

    /// Marks all later fragments as seen by a sensor, like the other packets in
    /// [`PacketLogs::mark`](super::packet_log::PacketLogs::mark). First fragments are among these
    /// packets.
    pub fn mark(&mut self, sensor: &VantagePoint) {
        let number = sensor_number(sensor);
        for datagrams in self.datagrams.values_mut() {
            datagrams.later.iter_mut().for_each(|later| later.sensor = number);
            datagrams.later.sort_unstable();
        }
    }

    /// Adds the fragments of a key that the table does not contain yet.
    fn insert(&mut self, key: Datagram, datagrams: FragmentedDatagrams) {
        self.count += datagrams.len();
        self.datagrams.insert(key, datagrams);
    }

    /// Extracts later fragments and errors that arrived at or after `since`, because their first
    /// fragment may still arrive. First fragments to which later ones may still belong are copied.
    pub(super) fn take_unfinished(&mut self, since: Nanos) -> Self {
        let mut unfinished = Self::default();
        for (key, datagrams) in &mut self.datagrams {
            let mut recent = FragmentedDatagrams::default();
            let may_continue = |first: &&FirstFragment| first.0 >= since.saturating_sub(TIMEOUT);
            recent.firsts = datagrams.firsts.iter().filter(may_continue).copied().collect();
            recent.later = datagrams.later.extract_if(.., |later| later.time >= since).collect();
            recent.errors = datagrams.errors.extract_if(.., |error| error.0 >= since).collect();
            if !recent.is_empty() {
                unfinished.insert(*key, recent);
            }
        }
        self.datagrams.retain(|_, datagrams| !datagrams.is_empty());
        self.count = self.datagrams.values().map(FragmentedDatagrams::len).sum();
        unfinished
    }

    /// Returns facts from a table with the fragments of one key. They account for the later
    /// fragments. The first fragments are accounted for by the rows of their flows.
    pub(super) fn facts(&self) -> Option<RowFacts> {
        let (key, datagrams) = self.datagrams.iter().next()?;
        let mut facts = RowFacts {
            addresses: Some([key.src, key.dst]),
            transport: Some(key.transport),
            accounted: datagrams.later.len() as u64,
            ..RowFacts::default()
        };
        for later in &datagrams.later {
            facts.packets[0] += 1;
            facts.bytes[0] += u64::from(later.wire_len);
            facts.first.see(later.time);
            facts.last.see(later.time);
        }
        Some(facts)
    }

    /// Joins each later fragment, and each ICMP error that quotes one, with the first fragment of
    /// the same key that is nearest in time. If two are equally near, the earlier one is used. An
    /// error without a first fragment is dropped.
    pub(super) fn join_all(self) -> Vec<JoinedFragment> {
        let mut joined = Vec::new();
        for (key, mut datagrams) in self.datagrams {
            datagrams.firsts.sort_unstable();
            for later in &datagrams.later {
                joined.push(match nearest(&datagrams.firsts, later.time) {
                    Some(&(_, flow, side, link)) => {
                        let side = usize::from(side);
                        // The first fragment of an outer packet already counts the whole payload of
                        // the inner packet. It also shows the encapsulation of the inner packet.
                        let outer = flow.endpoint(side).addr != key.src;
                        let (payload, link) =
                            if outer { (0, link) } else { (later.payload, later.link) };
                        let seen = Observation { link, ..later.seen() };
                        JoinedFragment::Flow(flow, side, seen, payload)
                    }
                    None => JoinedFragment::Orphan(key, later.seen()),
                });
            }
            for (time, kind, by) in datagrams.errors {
                if let Some(&(_, flow, side, _)) = nearest(&datagrams.firsts, time) {
                    joined.push(JoinedFragment::Error(flow, usize::from(side), time, kind, by));
                }
            }
        }
        joined
    }
}

impl EvidenceKind for FragmentTable {
    fn merge(&mut self, other: Self) {
        self.count += other.count;
        for (key, datagrams) in other.datagrams {
            self.datagrams.entry(key).or_default().append(datagrams);
        }
    }

    fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    fn memory(&self) -> usize {
        const KEY: usize = 200;
        const FRAGMENT: usize = 2 * size_of::<LaterFragment>();
        self.datagrams.len() * KEY + self.count * FRAGMENT
    }

    /// Limits the number of fragments. The fragments of a key are kept together. If they do not
    /// fit, later keys with fewer fragments may still be kept.
    fn keep_within(&mut self, limit: &EvidenceLimit<'_>) -> DroppedEntries {
        let before = self.count;
        if before <= limit.most {
            return DroppedEntries::default();
        }
        let hosts = |key: &Datagram| limit.hosts_among([Some(key.src), Some(key.dst)]);
        let keys = self.datagrams.keys().map(|key| (Reverse(hosts(key)), *key));
        let mut keys: Vec<_> = keys.collect();
        keys.sort_unstable();
        let mut left = limit.most;
        let mut of_hosts = false;
        for (Reverse(hosts), key) in keys {
            let size = self.datagrams.get(&key).map_or(0, FragmentedDatagrams::len);
            if size <= left {
                left -= size;
            } else {
                self.datagrams.remove(&key);
                of_hosts |= hosts > 0;
            }
        }
        self.count = limit.most - left;
        DroppedEntries { count: (before - self.count) as u64, of_hosts }
    }

    /// Counts the fragments again, and drops first fragments whose flow cannot exist.
    fn canonical(self) -> Self {
        let mut canonical = Self::default();
        for (key, mut datagrams) in self.datagrams {
            datagrams.firsts.retain(|(_, flow, side, _)| *side < 2 && flow.is_canonical());
            canonical.insert(key, datagrams);
        }
        canonical
    }

    /// Returns one row for each key, with its fragments sorted.
    fn into_rows(self) -> Vec<(u16, Vec<u8>, Self)> {
        let row = |(key, mut datagrams): (Datagram, FragmentedDatagrams)| {
            datagrams.firsts.sort_unstable();
            datagrams.later.sort_unstable();
            datagrams.errors.sort_unstable();
            let bytes = to_key(&key);
            let mut part = Self::default();
            part.insert(key, datagrams);
            (bucket(stable_hash(&bytes)), bytes, part)
        };
        self.datagrams.into_iter().map(row).collect()
    }

    fn split(self, seed: &HashSeed) -> Vec<Self> {
        let mut parts = empty_parts::<Self>();
        for (key, datagrams) in self.datagrams {
            parts[partition(seed.hash_one(key))].insert(key, datagrams);
        }
        parts
    }
}

/// Returns the element of `firsts` whose time is closest to `time`; `None` if there is none within
/// [`TIMEOUT`] of `time`. `firsts` must be sorted.
fn nearest(firsts: &[FirstFragment], time: Nanos) -> Option<&FirstFragment> {
    // The latest first fragment at or before `time`, and the next one.
    let after = firsts.partition_point(|first| first.0 <= time);
    let near = &firsts[after.saturating_sub(1)..(after + 1).min(firsts.len())];
    let nearest = near.iter().map(|first| first.0).min_by_key(|first| first.abs_diff(time))?;
    // If several have the same time, the lowest is used, whichever of them the search found.
    let least = &firsts[firsts.partition_point(|first| first.0 < nearest)];
    (nearest.abs_diff(time) <= TIMEOUT as u64).then_some(least)
}
