//! Which flows speak for some conversations: the few whose packets are worth a look.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;

use super::{
    Conversations, DirectionEvidence, DirectionHints, ServiceKey, State, direction, read_flow,
};
use crate::flow::{FlowKey, FlowPartitions};
use crate::model::{Endpoint, Nanos, Transport};

/// A flow that speaks for a conversation, and which side of it is the client. In the order of what they have to
/// say: those that came furthest, then the earliest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SampleFlow {
    /// What became of it.
    pub state: State,
    /// Its earliest packet or error, in nanoseconds since the epoch.
    pub first: Option<Nanos>,
    /// The flow.
    pub flow: FlowKey,
    /// The side that is the client.
    pub client: usize,
}

/// The flows that speak for some conversations.
#[derive(Default, Debug)]
pub struct SampleFlows {
    /// Of each conversation, by its subject and whether it is doubted, the best first.
    pub flows: HashMap<(ServiceKey, bool), Vec<SampleFlow>>,
    /// A flow whose handshake proves that an endpoint serves, for conversations that are read by that.
    pub proofs: BTreeMap<(Endpoint, Transport), SampleFlow>,
    /// Broadcasts of a client to a port, for conversations that may be read by having been asked for so.
    pub asked: BTreeMap<(IpAddr, u16), Vec<(SampleFlow, ServiceKey)>>,
}

impl Conversations {
    /// Picks at most `most` flows of each of `wanted`, which are positions in the list; always the same ones.
    pub fn select_evidence(
        &self,
        flows: &impl FlowPartitions,
        lens: &dyn DirectionHints,
        wanted: &BTreeSet<usize>,
        most: usize,
    ) -> io::Result<SampleFlows> {
        let mut picked = SampleFlows::default();
        let mut unproved = BTreeSet::new();
        for number in wanted {
            let c = &self.list[*number];
            picked.flows.insert(c.key(), Vec::with_capacity(most));
            if c.grade == DirectionEvidence::Service {
                unproved.insert((c.subject.endpoint(), c.subject.transport));
            }
            if c.grade == DirectionEvidence::Protocol && c.subject.transport == Transport::UDP {
                picked.asked.insert((c.subject.client, c.subject.port), Vec::new());
            }
        }
        flows.visit(|shard| {
            for flow in shard.iter() {
                let readings = direction::read(&flow, &self.survey, lens);
                for reading in [Some(readings.0), readings.1].into_iter().flatten() {
                    let part = read_flow(&flow, &reading, &self.survey, lens);
                    let client = reading.client;
                    let (state, first) = (part.state, part.first.get());
                    let speaking = SampleFlow { state, first, flow: *flow.key, client };
                    if let Some(best) = picked.flows.get_mut(&part.key()) {
                        let at = best.partition_point(|other| *other < speaking);
                        best.insert(at, speaking);
                        best.truncate(most);
                    }
                    let asked = (part.subject.client, part.subject.port);
                    if part.broadcast
                        && part.subject.transport == Transport::UDP
                        && let Some(best) = picked.asked.get_mut(&asked)
                    {
                        let at = best.partition_point(|other| *other < (speaking, part.subject));
                        best.insert(at, (speaking, part.subject));
                        best.truncate(most);
                    }
                    let served = (part.subject.endpoint(), part.subject.transport);
                    if unproved.contains(&served) && reading.grade == DirectionEvidence::Handshake {
                        let proof = picked.proofs.entry(served).or_insert(speaking);
                        *proof = speaking.min(*proof);
                    }
                }
            }
        })?;
        Ok(picked)
    }
}
