//! Facts from flows, for people and query engines.

use super::FlowKey;
use super::records::{DirectionRecord, FlowRecord};
use super::row::RowFacts;
use crate::model::Merge;

/// Facts from a flow whose sides are added one after the other.
pub(super) struct FlowFacts {
    facts: RowFacts,
    /// Whether each side opened the flow.
    opened: [bool; 2],
}

impl FlowFacts {
    /// Creates the facts of a flow with this key.
    pub fn new(key: &FlowKey) -> Self {
        Self { facts: flow_ends(key), opened: [false; 2] }
    }

    /// Adds a side. Side 0 comes first.
    #[inline]
    pub fn add(&mut self, number: usize, side: &DirectionRecord) {
        let facts = &mut self.facts;
        facts.packets[number] = side.sent.packets.0;
        facts.bytes[number] = side.sent.bytes.0;
        facts.payload[number] = side.sent.payload.0;
        facts.flags[number] = side.flags.0;
        facts.first.merge(&side.first);
        facts.last.merge(&side.last);
        facts.accounted = facts.accounted.saturating_add(side.sent.packets.0);
        self.opened[number] = side.syn_count.0 > 0;
        if facts.name.is_none() {
            let request = side.requests.iter().find(|request| !request.name.is_empty());
            facts.name = request.map(|request| request.name.clone());
        }
    }

    /// Returns the facts after both sides were added.
    #[inline]
    pub fn finish(self) -> RowFacts {
        // Only a flow that exactly one side opened has an opener.
        let opener = match self.opened {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        };
        RowFacts { opener, ..self.facts }
    }
}

/// Returns facts from a flow.
pub(super) fn flow_facts(flow: &FlowRecord) -> RowFacts {
    let mut facts = FlowFacts::new(&flow.key);
    flow.sides.iter().enumerate().for_each(|(number, side)| facts.add(number, side));
    facts.finish()
}

/// Returns the addresses, ports and transport of a flow.
pub(super) fn flow_ends(key: &FlowKey) -> RowFacts {
    let ends = [key.endpoint(0), key.endpoint(1)];
    RowFacts {
        addresses: Some(ends.map(|end| end.addr)),
        ports: ends.map(|end| end.port),
        transport: Some(key.transport()),
        ..RowFacts::default()
    }
}
