//! Flows as values, outside of any table: what goes in and out, whoever gathered it.

use serde::{Deserialize, Serialize};

use super::side_evidence::SideEvidence;
use super::state::{Amount, IcmpErrors, Opening};
use super::{FlowKey, StreamPrefix};
use crate::decode::Encapsulation;
use crate::model::{BoundedSet, FlagSet, Max, Merge, Min, NumberRange, Sum};
use crate::payload::ServerNameRequest;

/// Evidence of whatever origin: some flows, and what is beside them. Two of them together are what one would be that
/// had seen both; whoever divides evidence, by time, place or hash, and gives all of it, changes nothing.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// Flows, in any order; one may stand here in several parts.
    pub flows: Vec<FlowRecord>,
    /// What is beside them.
    pub side: SideEvidence,
}

/// All that is known of a flow. It merges, and means the same in every run: links stand in it themselves, not by their
/// number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowRecord {
    /// Its identity.
    pub key: FlowKey,
    /// What each side sent, in the order of the key's endpoints.
    pub sides: [DirectionRecord; 2],
    /// The ICMP errors that quote it.
    pub errors: IcmpErrors,
    /// Time of the earliest of them.
    pub error_first: Min,
    /// Time of the latest of them.
    pub error_last: Max,
    /// How many there were.
    pub error_count: Sum,
    /// Flows that were taken into this one when memory ran short.
    pub folded: Sum,
}

/// What one side of a flow sent.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct DirectionRecord {
    /// Packets and bytes.
    pub sent: Amount,
    /// Packets that the capture cut short.
    pub cut: Sum,
    /// Time of the earliest packet.
    pub first: Min,
    /// Time of the latest packet.
    pub last: Max,
    /// Which kinds of packets were sent, see [`crate::decode::flag`].
    pub flags: FlagSet,
    /// SYNs sent, retransmissions and copies among them.
    pub syn_count: Sum<u32>,
    /// The numbers of its SYNs, the least ones; those whose flags a fragment hides among them.
    pub syns: BoundedSet<Opening, 4>,
    /// The numbers of its SYN-ACKs, the least ones.
    pub syn_acks: BoundedSet<Opening, 4>,
    /// The numbers that it acknowledged.
    pub acked: NumberRange,
    /// The links that it was seen on.
    pub links: BoundedSet<Encapsulation, 16>,
    /// The names that it asked for, as far as one segment tells.
    pub hellos: BoundedSet<ServerNameRequest, 16>,
    /// What may be parts of a message that names the server.
    pub pieces: StreamPrefix,
}

impl FlowRecord {
    /// Returns a flow of which nothing is known yet.
    pub fn new(key: FlowKey) -> Self {
        Self {
            key,
            sides: Default::default(),
            errors: IcmpErrors::default(),
            error_first: Min::default(),
            error_last: Max::default(),
            error_count: Sum::default(),
            folded: Sum::default(),
        }
    }
}

/// Of two that have the same key.
impl Merge for FlowRecord {
    fn merge(&mut self, other: &Self) {
        self.sides.iter_mut().zip(&other.sides).for_each(|(mine, theirs)| mine.merge(theirs));
        self.errors.merge(&other.errors);
        self.error_first.merge(&other.error_first);
        self.error_last.merge(&other.error_last);
        self.error_count.merge(&other.error_count);
        self.folded.merge(&other.folded);
    }
}

impl Merge for DirectionRecord {
    fn merge(&mut self, other: &Self) {
        self.sent.merge(&other.sent);
        self.cut.merge(&other.cut);
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        self.flags.merge(&other.flags);
        self.syn_count.merge(&other.syn_count);
        self.syns.merge(&other.syns);
        self.syn_acks.merge(&other.syn_acks);
        self.acked.merge(&other.acked);
        self.links.merge(&other.links);
        self.hellos.merge(&other.hellos);
        self.pieces.merge(&other.pieces);
    }
}
