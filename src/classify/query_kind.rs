//! Kinds of queries that have the same ruling, so that it is determined only once.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use dashmap::DashMap;

use super::ruling::Ruling;
use crate::model::Transport;
use crate::policy::{Policy, RoleSet};

/// The properties that determine which rows document plain traffic. The judge defines which traffic
/// is plain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct QueryKind {
    pub client: RoleSet,
    pub server: RoleSet,
    pub anybody: bool,
    pub same: bool,
    pub loopback: bool,
    pub announced: bool,
    pub service: (Transport, PortClass),
    /// The properties that determine the ruling if no row documents the traffic.
    pub undocumented: Option<Undocumented>,
}

/// The properties that, in addition to the other fields of [`QueryKind`], determine the ruling on
/// plain traffic that no row documents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Undocumented {
    pub is_listed: [bool; 2],
    pub is_outside: bool,
    pub is_link_local: bool,
}

/// Hashes all flags as one number, because every conversation is looked up several times.
impl Hash for QueryKind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (transport, port) = self.service;
        let (is_range, number) = match port {
            PortClass::Single(port) => (false, port),
            PortClass::Range(number) => (true, number),
        };
        let none = Undocumented { is_listed: [false; 2], is_outside: false, is_link_local: false };
        let Undocumented { is_listed, is_outside, is_link_local } =
            self.undocumented.unwrap_or(none);
        let flags = [
            self.anybody,
            self.same,
            self.loopback,
            self.announced,
            is_range,
            self.undocumented.is_some(),
            is_listed[0],
            is_listed[1],
            is_outside,
            is_link_local,
        ];
        let flags = flags.iter().fold(0, |all, flag| all << 1 | u64::from(*flag));
        state.write_u128(self.client.bits());
        state.write_u128(self.server.bits());
        state.write_u64(flags << 24 | u64::from(transport.0) << 16 | u64::from(number));
    }
}

/// Ports that all rows and all entries for background traffic treat alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PortClass {
    /// A single port of a row or an entry or, for a protocol without ports, the ICMP type or zero.
    Single(u16),
    /// The ports between two bounds of ranges, except single ports. The number is that of the
    /// range.
    Range(u16),
}

/// The classes of all ports.
pub(super) struct PortClasses {
    single: HashSet<u16, ahash::RandomState>,
    /// The first ports of the ranges, in order. The range before the first one has number 0.
    bounds: Vec<u16>,
}

impl PortClasses {
    pub fn of(policy: &Policy) -> Self {
        let matrix = &policy.matrix;
        let rows = matrix.rows.iter().filter(|row| row.transport.has_ports());
        let (single, ranges): (Vec<_>, Vec<_>) =
            rows.map(|row| &row.ports).partition(|ports| ports.start() == ports.end());
        let background = matrix.background.iter().filter_map(|entry| entry.port);
        let single = single.into_iter().map(|ports| *ports.start()).chain(background).collect();
        let mut bounds: Vec<u16> = ranges
            .iter()
            .flat_map(|ports| [Some(*ports.start()), ports.end().checked_add(1)])
            .flatten()
            .collect();
        bounds.sort_unstable();
        bounds.dedup();
        Self { single, bounds }
    }

    pub fn class(&self, transport: Transport, port: u16) -> PortClass {
        if !transport.has_ports() || self.single.contains(&port) {
            PortClass::Single(port)
        } else {
            PortClass::Range(self.bounds.partition_point(|bound| *bound <= port) as u16)
        }
    }
}

/// Values by query kind. Traffic that is not plain has no kind, so each of its conversations needs
/// a value of its own.
pub(super) type ByQueryKind<T> = HashMap<QueryKind, T, ahash::RandomState>;

/// Rulings by query kind. All workers share them with the direction hints, which are needed before
/// the judgement.
#[derive(Default)]
pub(super) struct Rulings(DashMap<QueryKind, Ruling, ahash::RandomState>);

impl Rulings {
    pub fn get(&self, kind: QueryKind) -> Option<Ruling> {
        self.0.get(&kind).map(|ruling| *ruling)
    }

    pub fn insert(&self, kind: QueryKind, ruling: Ruling) {
        self.0.insert(kind, ruling);
    }
}
