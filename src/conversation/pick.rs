//! Which flows speak for some conversations: the few whose packets are worth a look.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;

use super::{Conversations, Grade, Lens, State, Subject, direction, read_flow};
use crate::flow::{FlowKey, FlowPartitions};
use crate::model::{Endpoint, Nanos, Transport};

/// A flow that speaks for a conversation, and which side of it is the client. In the order of what they have to
/// say: those that came furthest, then the earliest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Speaking {
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
pub struct Picked {
    /// Of each conversation, by its subject and whether it is doubted, the best first.
    pub flows: HashMap<(Subject, bool), Vec<Speaking>>,
    /// A flow whose handshake proves that an endpoint serves, for conversations that are read by that.
    pub proofs: BTreeMap<(Endpoint, Transport), Speaking>,
    /// Broadcasts of a client to a port, for conversations that may be read by having been asked for so.
    pub asked: BTreeMap<(IpAddr, u16), Vec<(Speaking, Subject)>>,
}

impl Conversations {
    /// Picks at most `most` flows of each of `wanted`, which are positions in the list; always the same ones.
    pub fn pick(
        &self,
        flows: &impl FlowPartitions,
        lens: &dyn Lens,
        wanted: &BTreeSet<usize>,
        most: usize,
    ) -> io::Result<Picked> {
        let mut picked = Picked::default();
        let mut unproved = BTreeSet::new();
        for number in wanted {
            let c = &self.list[*number];
            picked.flows.insert(c.key(), Vec::with_capacity(most));
            if c.grade == Grade::Service {
                unproved.insert((c.subject.endpoint(), c.subject.transport));
            }
            if c.grade == Grade::Protocol && c.subject.transport == Transport::UDP {
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
                    let speaking = Speaking { state, first, flow: *flow.key, client };
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
                    if unproved.contains(&served) && reading.grade == Grade::Handshake {
                        let proof = picked.proofs.entry(served).or_insert(speaking);
                        *proof = speaking.min(*proof);
                    }
                }
            }
        })?;
        Ok(picked)
    }
}
