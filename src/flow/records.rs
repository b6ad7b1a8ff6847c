//! Flows as values outside of any table, for input and output.

use serde::{Deserialize, Serialize};

use super::server_names::MOST_REQUESTS;
use super::side_evidence::SideEvidence;
use super::state::{Amount, IcmpErrors, Opening};
use super::{FlowKey, StreamPrefix};
use crate::decode::Encapsulation;
use crate::model::{BoundedSet, FlagSet, Max, Merge, Min, NumberRange, Sum};
use crate::payload::ServerNameRequest;

/// The maximum number of openings of a kind that are kept for a side.
pub(super) const MOST_OPENINGS: usize = 4;

/// The maximum number of encapsulations that are kept for a side.
pub(super) const MOST_LINKS: usize = 16;

/// Flows from any source, with the evidence that is kept in addition to them. Merging two values
/// yields the evidence of an observer that saw all packets of both. Dividing evidence by time,
/// place or hash therefore does not change the result, as long as all parts are merged.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Evidence {
    /// Flows, in any order. A flow may be divided among several records.
    pub flows: Vec<FlowRecord>,
    /// The evidence that is kept in addition to the flows.
    pub side: SideEvidence,
}

/// All evidence of a flow. Records can be merged. They mean the same in every run, because they
/// contain encapsulations and not their numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FlowRecord {
    /// The identity of the flow.
    pub key: FlowKey,
    /// What each side sent, in the order of the key's endpoints.
    pub sides: [DirectionRecord; 2],
    /// The ICMP errors that quote the flow.
    pub errors: IcmpErrors,
    /// Time of the earliest ICMP error.
    pub error_first: Min,
    /// Time of the latest ICMP error.
    pub error_last: Max,
    /// The number of ICMP errors.
    pub error_count: Sum,
    /// The number of flows that were merged into this one when memory was short.
    #[serde(rename = "folded")]
    pub aggregated: Sum,
}

/// What one side of a flow sent.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct DirectionRecord {
    /// Packets and bytes sent.
    pub sent: Amount,
    /// Packets that the capture truncated.
    pub cut: Sum,
    /// Time of the earliest packet.
    pub first: Min,
    /// Time of the latest packet.
    pub last: Max,
    /// The kinds of packets sent. See [`crate::decode::flag`].
    pub flags: FlagSet,
    /// SYNs sent, including retransmissions and duplicates.
    pub syn_count: Sum<u32>,
    /// Initial sequence numbers from the side's SYNs, and sequence numbers of segments whose flags
    /// are hidden by fragmentation. If there are more than four, the lowest are kept.
    pub syns: BoundedSet<Opening, MOST_OPENINGS>,
    /// Initial sequence numbers from the side's SYN-ACKs. If there are more than four, the pairs
    /// with the lowest client number are kept.
    pub syn_acks: BoundedSet<Opening, MOST_OPENINGS>,
    /// The range of the sequence numbers that the side acknowledged.
    pub acked: NumberRange,
    /// The encapsulations of the side's packets.
    pub links: BoundedSet<Encapsulation, MOST_LINKS>,
    /// The server names that the side requested, except a name that is only in `prefix`.
    #[serde(rename = "hellos")]
    pub requests: BoundedSet<ServerNameRequest, MOST_REQUESTS>,
    /// Segments that may be part of a message that names the server.
    #[serde(rename = "pieces")]
    pub prefix: StreamPrefix,
}

impl FlowRecord {
    /// Returns a flow without any evidence.
    pub fn new(key: FlowKey) -> Self {
        Self {
            key,
            sides: Default::default(),
            errors: IcmpErrors::default(),
            error_first: Min::default(),
            error_last: Max::default(),
            error_count: Sum::default(),
            aggregated: Sum::default(),
        }
    }
}

/// Merges two records that have the same key.
impl Merge for FlowRecord {
    fn merge(&mut self, other: &Self) {
        self.sides.iter_mut().zip(&other.sides).for_each(|(mine, theirs)| mine.merge(theirs));
        self.errors.merge(self.key.addresses(), &other.errors);
        self.error_first.merge(&other.error_first);
        self.error_last.merge(&other.error_last);
        self.error_count.merge(&other.error_count);
        self.aggregated.merge(&other.aggregated);
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
        self.requests.merge(&other.requests);
        self.prefix.merge(&other.prefix);
    }
}
