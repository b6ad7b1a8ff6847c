//! Selects the sample flows of conversations: the few whose packets are worth inspecting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;

use super::{
    Conversation, Conversations, DirectionEvidence, DirectionHints, ServiceKey, State, direction,
    read_flow,
};
use crate::flow::{FlowKey, FlowPartitions};
use crate::model::{Endpoint, Nanos, Transport};

/// A flow that represents a conversation, with the client's side of the flow. Sample flows are
/// ordered by relevance: best state first, then earliest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SampleFlow {
    /// How far the flow got.
    pub state: State,
    /// Time of the earliest packet or ICMP error, in nanoseconds since the epoch.
    pub first: Option<Nanos>,
    /// The key of the flow.
    pub flow: FlowKey,
    /// The client's side of the flow: 0 or 1.
    pub client: usize,
}

/// The sample flows of the selected conversations, and the flows that their directions are based
/// on.
#[derive(Default, Debug)]
pub struct SampleFlows {
    /// The sample flows of each conversation, best first. The key is [`Conversation::sample_key`].
    pub flows: HashMap<(ServiceKey, bool), Vec<SampleFlow>>,
    /// For each service that determines the direction of a conversation, a flow whose handshake
    /// proves that the endpoint accepts connections.
    pub proofs: BTreeMap<(Endpoint, Transport), SampleFlow>,
    /// Broadcasts from a client to a port, for conversations whose direction may be based on such a
    /// broadcast.
    pub broadcasts: BTreeMap<(IpAddr, u16), Vec<(SampleFlow, ServiceKey)>>,
}

impl Conversation {
    /// Returns the key of the conversation's sample flows: its subject and whether it is doubted.
    /// If it stands for several conversations, the lowest one provides the samples.
    pub fn sample_key(&self) -> (ServiceKey, bool) {
        (self.ruled_subject(), self.is_doubted())
    }
}

impl Conversations {
    /// Selects at most `most` flows for each conversation in `wanted`, which contains indexes of
    /// the list. Also selects the flows that the directions of these conversations are based on.
    /// The selection is deterministic.
    pub fn select_evidence(
        &self,
        flows: &impl FlowPartitions,
        hints: &dyn DirectionHints,
        wanted: &BTreeSet<usize>,
        most: usize,
    ) -> io::Result<SampleFlows> {
        let mut picked = SampleFlows::default();
        let mut unproved = BTreeSet::new();
        for number in wanted {
            let c = &self.list[*number];
            picked.flows.insert(c.sample_key(), Vec::with_capacity(most));
            if c.grade == DirectionEvidence::Service {
                unproved.insert((c.subject.endpoint(), c.subject.transport));
            }
            if c.grade == DirectionEvidence::Protocol && c.subject.transport == Transport::UDP {
                picked.broadcasts.insert((c.subject.client, c.subject.port), Vec::new());
            }
        }
        flows.visit(|partition| {
            for flow in partition.iter() {
                let orientations = direction::read(&flow, &self.index, hints);
                for orientation in [Some(orientations.0), orientations.1].into_iter().flatten() {
                    let part = read_flow(&flow, &orientation, &self.index, hints);
                    let client = orientation.client;
                    let state = part.state;
                    let first = part.first.get();
                    let sample = SampleFlow { state, first, flow: flow.key, client };
                    if let Some(best) = picked.flows.get_mut(&part.key()) {
                        let at = best.partition_point(|other| *other < sample);
                        best.insert(at, sample);
                        best.truncate(most);
                    }
                    let request = (part.subject.client, part.subject.port);
                    if part.broadcast
                        && part.subject.transport == Transport::UDP
                        && let Some(best) = picked.broadcasts.get_mut(&request)
                    {
                        let at = best.partition_point(|other| *other < (sample, part.subject));
                        best.insert(at, (sample, part.subject));
                        best.truncate(most);
                    }
                    let served = (part.subject.endpoint(), part.subject.transport);
                    if unproved.contains(&served)
                        && orientation.grade == DirectionEvidence::Handshake
                    {
                        let proof = picked.proofs.entry(served).or_insert(sample);
                        *proof = sample.min(*proof);
                    }
                }
            }
        })?;
        Ok(picked)
    }
}
