//! IP fragments: later ones carry no ports and join the flow of their first one, by addresses,
//! protocol and identification. Payload is never reassembled.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::FlowKey;
use super::state::Side;
use crate::model::{Nanos, SECOND, Transport};

/// How long a datagram may take to arrive: the longest reassembly timeout (RFC 8200, 4.5).
/// Identifications are used again sooner than a capture ends.
const TIMEOUT: Nanos = 60 * SECOND;

/// What makes fragments one datagram.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FragmentKey {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The protocol above IP.
    pub transport: Transport,
    /// IP identification.
    pub id: u32,
}

/// Fragments that have not met yet. Merging is the union of what was seen.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Fragments {
    pub(super) datagrams: HashMap<FragmentKey, Datagrams>,
    /// Fragments remembered, for the account of memory.
    count: usize,
}

/// The datagrams of one key, in the course of time.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Datagrams {
    firsts: Vec<(Nanos, FlowKey, u8)>,
    later: Vec<(Nanos, u32, u32)>,
}

impl Datagrams {
    fn append(&mut self, other: Self) {
        self.firsts.extend(other.firsts);
        self.later.extend(other.later);
    }
}

/// Where the later fragments of a key went.
pub(super) enum Joined {
    /// To a side of a flow.
    Flow(FlowKey, usize, Side),
    /// Nowhere: their first fragment is not in the capture.
    Orphan(FragmentKey, Side),
}

impl Fragments {
    /// Remembers the flow of a first fragment.
    pub fn first(&mut self, key: FragmentKey, time: Nanos, flow: FlowKey, side: usize) {
        self.count += 1;
        self.datagrams.entry(key).or_default().firsts.push((time, flow, side as u8));
    }

    /// Remembers a later fragment.
    pub fn later(&mut self, key: FragmentKey, time: Nanos, wire_len: u32, payload: u32) {
        self.count += 1;
        self.datagrams.entry(key).or_default().later.push((time, wire_len, payload));
    }

    /// Bytes of memory that the fragments hold, about.
    pub fn memory(&self) -> usize {
        const KEY: usize = 160;
        const FRAGMENT: usize = 96;
        self.datagrams.len() * KEY + self.count * FRAGMENT
    }

    /// Takes in the datagrams of a key that is new here.
    pub(super) fn insert(&mut self, key: FragmentKey, datagrams: Datagrams) {
        self.count += datagrams.firsts.len() + datagrams.later.len();
        self.datagrams.insert(key, datagrams);
    }

    /// Takes in all of `other`.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        for (key, datagrams) in other.datagrams {
            self.datagrams.entry(key).or_default().append(datagrams);
        }
    }

    /// Joins each later fragment with the first fragment nearest in time, of equally near ones the
    /// earlier.
    pub(super) fn resolve(self) -> Vec<Joined> {
        let mut joined = Vec::new();
        for (key, mut datagrams) in self.datagrams {
            datagrams.firsts.sort_unstable();
            for (time, wire_len, payload) in datagrams.later {
                let mut part = Side::default();
                part.see(time, wire_len, payload, 0);
                // The last first fragment at or before this one, and the one after that.
                let after = datagrams.firsts.partition_point(|first| first.0 <= time);
                let near = &datagrams.firsts
                    [after.saturating_sub(1)..(after + 1).min(datagrams.firsts.len())];
                // Of equal ones the least, wherever the search ended among them.
                let nearest = near.iter().min_by_key(|first| first.0.abs_diff(time));
                let nearest = nearest.and_then(|n| {
                    let least = datagrams.firsts.partition_point(|first| first.0 < n.0);
                    datagrams.firsts.get(least)
                });
                joined.push(match nearest {
                    Some(first) if first.0.abs_diff(time) <= TIMEOUT as u64 => {
                        Joined::Flow(first.1, usize::from(first.2), part)
                    }
                    _ => Joined::Orphan(key, part),
                });
            }
        }
        joined
    }
}
