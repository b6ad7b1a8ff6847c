//! The evidence of one flow: two sides of building blocks that merge field by field.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::decode::{ErrorKind, Link, sign};
use crate::model::{AtMost, Max, Merge, Min, Nanos, Span, Sum};

/// Packets and bytes. Sums: they decide nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
pub struct Amount {
    /// Packets.
    pub packets: Sum,
    /// Bytes on the wire.
    pub bytes: Sum,
    /// Transport payload in bytes.
    pub payload: Sum,
}

impl Amount {
    /// Takes copies out again. Returns how many packets that were.
    pub(super) fn remove(&mut self, copies: &Self) -> u64 {
        let before = self.packets.0;
        self.packets.0 = self.packets.0.saturating_sub(copies.packets.0);
        self.bytes.0 = self.bytes.0.saturating_sub(copies.bytes.0);
        self.payload.0 = self.payload.0.saturating_sub(copies.payload.0);
        before - self.packets.0
    }
}

impl Merge for Amount {
    fn merge(&mut self, other: &Self) {
        self.packets.merge(&other.packets);
        self.bytes.merge(&other.bytes);
        self.payload.merge(&other.payload);
    }
}

/// What one side of a flow sent. One cache line.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[repr(C, align(64))]
pub struct Side {
    /// Packets and bytes sent.
    pub sent: Amount,
    /// Time of the earliest packet.
    pub first: Min,
    /// Time of the latest packet.
    pub last: Max,
    /// Time of the earliest SYN or SYN-ACK.
    pub opened: Min,
    /// The numbers that it acknowledged.
    pub acked: Span,
    /// SYNs sent, retransmissions and copies among them.
    pub syns: Sum<u32>,
    /// Which kinds of packets were sent, see [`sign`].
    pub signs: crate::model::Or,
    /// Which links they were seen on: a number of the table that holds this side.
    pub(super) link: u16,
}

const _: () = assert!(size_of::<Side>() == 64);

impl Side {
    /// Takes in one packet.
    pub(super) fn see(&mut self, time: Nanos, wire_len: u32, payload: u32, signs: u16) {
        self.sent.packets.add(1);
        self.sent.bytes.add(u64::from(wire_len));
        self.sent.payload.add(u64::from(payload));
        self.first.see(time);
        self.last.see(time);
        self.signs.0 |= signs;
        if signs & (sign::SYN | sign::SYN_ACK) != 0 {
            self.opened.see(time);
            self.syns.add(u32::from(signs & sign::SYN != 0));
        }
    }

    /// Time of the earliest SYN. Of a side that also accepted connections, the earlier of both.
    pub fn syn(&self) -> Min {
        if self.has(sign::SYN) { self.opened } else { Min::default() }
    }

    /// Time of the earliest SYN-ACK. Of a side that also opened connections, the earlier of both.
    pub fn syn_ack(&self) -> Min {
        if self.has(sign::SYN_ACK) { self.opened } else { Min::default() }
    }

    /// Whether any packet of this side was seen.
    pub fn spoke(&self) -> bool {
        self.sent.packets.0 > 0
    }

    /// Whether any of the `signs` was seen.
    pub fn has(&self, signs: u16) -> bool {
        self.signs.has(signs)
    }
}

/// All but `link`, whose numbers mean something only in the table that holds them.
impl Merge for Side {
    fn merge(&mut self, other: &Self) {
        self.sent.merge(&other.sent);
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        self.opened.merge(&other.opened);
        self.acked.merge(&other.acked);
        self.syns.merge(&other.syns);
        self.signs.merge(&other.signs);
    }
}

/// The state of a flow: what each side sent. Two cache lines, and the unit of merging; what few flows
/// need lies in [`Extra`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct FlowState {
    /// The sides, in the order of the key's endpoints.
    pub sides: [Side; 2],
}

const _: () = assert!(size_of::<FlowState>() == 128);

impl Merge for FlowState {
    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.sides.iter_mut().zip(&other.sides) {
            mine.merge(theirs);
        }
    }
}

/// An ICMP error about a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct IcmpError {
    /// The side whose packet is quoted.
    pub side: u8,
    /// What the error says.
    pub kind: ErrorKind,
    /// Who says so.
    pub by: IpAddr,
}

/// Evidence that few flows have.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Extra {
    /// The links each side was seen on, where they are several.
    pub(super) links: [AtMost<Link, 16>; 2],
    /// The ICMP errors that quote the flow.
    pub errors: AtMost<IcmpError, 16>,
    /// Time of the earliest of them.
    pub error_first: Min,
    /// Time of the latest of them.
    pub error_last: Max,
    /// How many there were.
    pub error_count: Sum,
    /// Flows that were taken into this one when memory ran short.
    pub folded: Sum,
}

impl Extra {
    /// Turns the sides round.
    pub(super) fn turn(&mut self) {
        self.links.swap(0, 1);
        let mut errors = AtMost::new();
        self.errors.iter().for_each(|e| errors.insert(IcmpError { side: e.side ^ 1, ..*e }));
        self.errors = errors;
    }
}

impl Merge for Extra {
    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.links.iter_mut().zip(&other.links) {
            mine.merge(theirs);
        }
        self.errors.merge(&other.errors);
        self.error_first.merge(&other.error_first);
        self.error_last.merge(&other.error_last);
        self.error_count.merge(&other.error_count);
        self.folded.merge(&other.folded);
    }
}
