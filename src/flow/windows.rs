//! Flows of window after window as one.

use std::io;

use super::key::PARTITIONS;
use super::merged::MergedFlows;
use super::side_evidence::TrimmedKinds;
use super::store::FlowStore;
use crate::model::Nanos;

impl MergedFlows {
    /// Takes in the flows of a window, whose meeting was another of this one's.
    ///
    /// # Errors
    ///
    /// Where a temporary file of the window cannot be read.
    pub fn absorb(&mut self, mut window: Self) -> io::Result<()> {
        let mut links = self.store.links();
        for number in 0..PARTITIONS {
            let spilled = window.load(number)?.flows;
            let table = std::mem::take(&mut window.parts[number].flows);
            for table in [spilled, table] {
                self.parts[number].flows.merge(table, &self.store.seed, &mut links);
            }
        }
        self.links = self.store.interner.all();
        // Nothing is read a second time, so nobody asks what starts anywhere.
        window.side.take_starts();
        self.side.merge(window.side);
        Ok(())
    }

    /// Returns a meeting whose flows can be taken in here.
    pub fn sibling_store(&self) -> FlowStore {
        self.store.sibling()
    }

    /// Reads names out of what is kept of sides that started before `time`, and forgets the bytes.
    pub fn extract_names_before(&mut self, time: Nanos) {
        self.parts.iter_mut().for_each(|part| part.flows.extract_names_before(time));
    }

    /// Returns the bytes of memory that the flows hold, about.
    pub fn memory(&self) -> usize {
        self.parts.iter().map(|part| part.flows.memory()).sum::<usize>() + self.side.memory()
    }

    /// Returns how many conversations there are, about: pairs of addresses with a lesser port. One that goes on after its
    /// flows were idle counts twice.
    pub fn estimated_conversations(&self) -> usize {
        let own: usize = self
            .parts
            .iter()
            .map(|part| part.flows.estimated_conversations(&self.store.seed))
            .sum();
        own + self.idle_sums().estimated_conversations
    }

    /// Returns the number of flows. One that goes on after it was idle counts twice.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.flows.len()).sum::<usize>() + self.idle_sums().flows
    }

    /// Returns whether there is no flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps at most `most` of each kind of what is beside the flows, those that come first in their order. Returns how
    /// many were forgotten.
    pub fn keep_at_most(&mut self, most: usize) -> u64 {
        self.side.keep_least(most, &mut TrimmedKinds::new())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::{
        AggregationLevel, FlowPartitions, HashSeed, Retention, StateLayout, WindowCarryOver,
    };
    use super::*;
    use crate::decode::{Body, FiveTuple, Observation, flag};
    use crate::model::Transport;

    fn listed(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10)
    }

    /// A packet of a TCP flow.
    fn packet(
        time: Nanos,
        src: [u8; 4],
        sport: u16,
        dst: [u8; 4],
        dport: u16,
        flags: u16,
    ) -> Observation {
        let (src, dst) = (Ipv4Addr::from(src).into(), Ipv4Addr::from(dst).into());
        let tuple = FiveTuple { src, dst, sport, dport, transport: Transport::TCP };
        let (acked, fragment) = (None, None);
        let body = Body::Transport { tuple, flags, payload: 3, seq: 0, acked, fragment };
        Observation { time, wire_len: 60, body, ..Observation::default() }
    }

    /// Attempts from outside, connections from outside and inside.
    fn traffic() -> Vec<Observation> {
        let (server, inside) = ([10, 0, 0, 1], [10, 0, 0, 9]);
        let mut seen = Vec::new();
        for number in 0..2000u16 {
            let [hi, lo] = number.to_be_bytes();
            let port = 1024 + number;
            seen.push(packet(i64::from(number), [203, 0, hi, lo], port, server, 443, flag::SYN));
            for (client, open) in [([198, 51, 100, lo], 80), (inside, 88)] {
                seen.push(packet(1, client, port, server, open, flag::SYN));
                seen.push(packet(2, server, open, client, port, flag::SYN_ACK));
                seen.push(packet(3, client, port, server, open, flag::ACK));
            }
        }
        seen
    }

    fn flows(store: FlowStore, seen: &[Observation]) -> MergedFlows {
        let mut tables = store.tables(&Retention::default());
        seen.chunks(32).for_each(|some| tables.observe(some, []));
        store.submit(tables).unwrap();
        store.finish_window(1, &mut WindowCarryOver::default(), None).unwrap()
    }

    fn new_meeting() -> FlowStore {
        FlowStore::new(&HashSeed::new(), std::env::temp_dir())
    }

    /// Packets, bytes, and flows with those that were folded into them.
    fn sums(flows: &MergedFlows) -> (u64, u64, u64) {
        let mut sums = (0, 0, 0);
        flows
            .visit(|shard| {
                for flow in shard.iter() {
                    for side in flow.sides {
                        sums.0 += side.sent.packets.0;
                        sums.1 += side.sent.bytes.0;
                    }
                    sums.2 += flow.extra.map_or(1, |extra| extra.folded.0.max(1));
                }
            })
            .unwrap();
        sums
    }

    #[test]
    fn folding_loses_no_packet_and_no_flow_and_ever_fewer_remain() {
        let seen = traffic();
        let mut all = flows(new_meeting(), &seen);
        let before = sums(&all);
        assert_eq!((before.0, before.2), (2000 * 7, all.len() as u64));
        let mut sizes = vec![all.len()];
        for fold in AggregationLevel::ALL {
            let folded = all.aggregate(*fold, &listed).unwrap();
            assert_eq!(sums(&all), before, "{fold}");
            assert!(folded > 0 || sizes.last() == Some(&all.len()), "{fold}");
            sizes.push(all.len());
        }
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        // Eight networks of attempts; one of connections; all outside as one; inside by conversation.
        assert_eq!(sizes, [6000, 4008, 2009, 2002, 3, 3, 3]);
        assert_eq!(all.estimated_conversations(), 3);
        // What goes on after folding folds to the same places.
        let again = flows(all.sibling_store(), &seen);
        all.absorb(again).unwrap();
        assert_eq!(all.len(), 6003);
        for fold in AggregationLevel::ALL {
            all.aggregate(*fold, &listed).unwrap();
        }
        assert_eq!(all.len(), 3);
        assert_eq!(sums(&all).0, 2 * before.0);
    }

    #[test]
    fn folding_a_workers_tables_first_comes_to_the_same() {
        let (seen, store) = (traffic(), new_meeting());
        let mut tables = store.tables(&Retention::default());
        for (number, some) in seen.chunks(32).enumerate() {
            tables.observe(some, []);
            if number % 50 == 0 {
                tables.aggregate(AggregationLevel::Ports, &listed);
            }
        }
        tables.aggregate(AggregationLevel::Ports, &listed);
        store.submit(tables).unwrap();
        let late = store.finish_window(1, &mut WindowCarryOver::default(), None).unwrap();
        let mut early = flows(new_meeting(), &seen);
        early.aggregate(AggregationLevel::Ports, &listed).unwrap();
        assert_eq!((late.len(), sums(&late).0), (early.len(), sums(&early).0));
    }

    #[test]
    fn what_is_idle_lies_in_files_and_stays_the_same_evidence() {
        let seen = traffic();
        let mut all = flows(new_meeting(), &seen);
        let (before, estimated_conversations) = (sums(&all), all.estimated_conversations());
        // Attempts have times from 0 on; of connections the last packet has 3.
        all.spill_idle(1000).unwrap();
        let (resting, bytes) = all.resting();
        assert_eq!((resting, all.len()), (5000, 6000));
        assert!(bytes > 0 && all.memory() < flows(new_meeting(), &seen).memory() / 3);
        assert_eq!((sums(&all), all.estimated_conversations()), (before, estimated_conversations));
        // What goes on is in memory again, and one with its past for whoever reads.
        let again = flows(all.sibling_store(), &seen[..700]);
        let more = sums(&again);
        all.absorb(again).unwrap();
        assert_eq!(sums(&all), (before.0 + more.0, before.1 + more.1, before.2));
        all.spill_idle(Nanos::MAX).unwrap();
        // Until its file is written anew, one that was idle twice counts twice.
        assert_eq!((all.resting().0, all.len(), all.memory() < 1 << 16), (6300, 6300, true));
        assert_eq!(sums(&all), (before.0 + more.0, before.1 + more.1, before.2));
        // The state holds them, and a fold takes them in.
        let mut bytes = Vec::new();
        all.save(&mut bytes).unwrap();
        let mut back =
            MergedFlows::restore(new_meeting(), StateLayout::Named, &mut &bytes[..]).unwrap();
        assert_eq!((back.resting().0, sums(&back)), (6000, sums(&all)));
        // Where there is no room for them they come into memory.
        let nowhere = FlowStore::new(&HashSeed::new(), "/nowhere/at/all".into());
        let held = MergedFlows::restore(nowhere, StateLayout::Named, &mut &bytes[..]).unwrap();
        assert_eq!((held.resting().0, held.len(), sums(&held)), (0, 6000, sums(&all)));
        for fold in AggregationLevel::ALL {
            let before = sums(&back);
            back.aggregate(*fold, &listed).unwrap();
            assert_eq!(sums(&back), before, "{fold}");
        }
        assert_eq!((back.len(), back.resting().0), (3, 0));
    }

    #[test]
    fn what_cannot_be_written_stays_in_memory() {
        let seen = traffic();
        let store = FlowStore::new(&HashSeed::new(), "/nowhere/at/all".into());
        let mut all = flows(store, &seen);
        let before = sums(&all);
        assert!(all.spill_idle(Nanos::MAX).is_err());
        assert_eq!((all.len(), all.resting().0, sums(&all)), (6000, 0, before));
    }

    #[test]
    fn what_was_saved_comes_back_under_another_seed() {
        let seen = traffic();
        let mut all = flows(new_meeting(), &seen);
        all.aggregate(AggregationLevel::Attempts, &listed).unwrap();
        let mut bytes = Vec::new();
        all.save(&mut bytes).unwrap();
        let back =
            MergedFlows::restore(new_meeting(), StateLayout::Named, &mut &bytes[..]).unwrap();
        assert_eq!((back.len(), sums(&back)), (all.len(), sums(&all)));
        // No piece of it is taken for the whole.
        for end in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
            assert!(
                MergedFlows::restore(new_meeting(), StateLayout::Named, &mut &bytes[..end])
                    .is_err(),
                "{end}"
            );
        }
    }
}
