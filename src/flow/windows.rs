//! Merges the flows of successive windows.

use std::io;

use super::evidence_limit::EvidenceLimit;
use super::key::PARTITIONS;
use super::merged::MergedFlows;
use super::store::FlowStore;
use crate::model::Nanos;

impl MergedFlows {
    /// Merges copies of the flows and the side evidence of a window. The window must come from a
    /// store that [`MergedFlows::sibling_store`] or [`FlowStore::sibling`] created, so that both
    /// use the same numbers for encapsulations.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file of the window cannot be read.
    pub fn absorb(&mut self, window: &Self) -> io::Result<()> {
        let mut links = self.store.links();
        for number in 0..PARTITIONS {
            let spilled = window.load(number)?.flows;
            for table in [&spilled, &window.parts[number].flows] {
                self.parts[number].flows.merge_all(table, &self.store.seed, &mut links);
            }
        }
        self.links = self.store.interner.all();
        let mut side = window.side.clone();
        // A live capture cannot be read a second time, so the starts of messages are not needed.
        side.take_starts();
        self.side.merge(side);
        Ok(())
    }

    /// Returns an empty store whose flows can be merged into these.
    pub fn sibling_store(&self) -> FlowStore {
        self.store.sibling()
    }

    /// Extracts server names from the stored segments of sides that started too long before `time`
    /// for further segments to belong to their first message, then discards these segments.
    pub fn extract_names_before(&mut self, time: Nanos) {
        self.parts.iter_mut().for_each(|part| part.flows.extract_names_before(time));
    }

    /// Returns the approximate memory of the flows and the side evidence in bytes, without idle
    /// flows in files.
    pub fn memory(&self) -> usize {
        self.parts.iter().map(|part| part.flows.memory()).sum::<usize>() + self.side.memory()
    }

    /// Returns the estimated number of conversations: distinct combinations of two addresses, the
    /// transport and the lower port. A conversation that continues after its flows were moved to a
    /// file counts more than once.
    pub fn estimated_conversations(&self) -> usize {
        let own: usize = self
            .parts
            .iter()
            .map(|part| part.flows.estimated_conversations(&self.store.seed))
            .sum();
        own + self.idle_sums().estimated_conversations
    }

    /// Returns the number of flows. A flow that continues after it was moved to a file counts more
    /// than once.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.flows.len()).sum::<usize>() + self.idle_sums().flows
    }

    /// Returns whether there are no flows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops entries of side evidence beyond a limit, and records their kinds. Returns the number
    /// of entries dropped.
    pub fn keep_within(&mut self, limit: &EvidenceLimit<'_>) -> u64 {
        self.side.keep_within(limit)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::{
        AggregationLevel, FlowPartitions, HashSeed, LOOKUP_BATCH, Retention, StateLayout,
        WindowCarryOver, WindowEnd,
    };
    use super::*;
    use crate::decode::{Body, Datagram, FiveTuple, Observation, Path, flag};
    use crate::model::Transport;

    fn listed(address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 10)
    }

    /// Returns a packet of a TCP flow.
    fn packet(
        time: Nanos,
        src: [u8; 4],
        sport: u16,
        dst: [u8; 4],
        dport: u16,
        flags: u16,
    ) -> Observation {
        let src = Ipv4Addr::from(src).into();
        let dst = Ipv4Addr::from(dst).into();
        let tuple = FiveTuple { src, dst, sport, dport, transport: Transport::TCP };
        let acked = None;
        let fragment = None;
        let body = Body::Transport { tuple, flags, payload: 3, seq: 0, acked, fragment };
        Observation { time, wire_len: 60, body, ..Observation::default() }
    }

    /// Returns connection attempts from outside, and established connections from outside and from
    /// inside.
    fn traffic() -> Vec<Observation> {
        let server = [10, 0, 0, 1];
        let inside = [10, 0, 0, 9];
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
        seen.chunks(LOOKUP_BATCH).for_each(|some| tables.observe(some, []));
        store.submit(tables).unwrap();
        store.finish_window(1, &mut WindowCarryOver::default(), WindowEnd::Last).unwrap()
    }

    fn new_store() -> FlowStore {
        FlowStore::new(&HashSeed::new(), std::env::temp_dir())
    }

    /// Returns the numbers of packets, bytes and flows. An aggregated flow counts as all the flows
    /// that were merged into it.
    fn sums(flows: &MergedFlows) -> (u64, u64, u64) {
        let mut sums = (0, 0, 0);
        flows
            .visit(|partition| {
                for flow in partition.iter() {
                    for side in flow.sides {
                        sums.0 += side.sent.packets.0;
                        sums.1 += side.sent.bytes.0;
                    }
                    sums.2 += flow.extra.map_or(1, |extra| extra.aggregated.0.max(1));
                }
            })
            .unwrap();
        sums
    }

    #[test]
    fn aggregation_loses_no_packet_and_no_flow_and_ever_fewer_remain() {
        let seen = traffic();
        let mut all = flows(new_store(), &seen);
        let before = sums(&all);
        assert_eq!((before.0, before.2), (2000 * 7, all.len() as u64));
        let mut sizes = vec![all.len()];
        for level in AggregationLevel::ALL {
            let aggregated = all.aggregate(*level, &listed).unwrap();
            assert_eq!(sums(&all), before, "{level}");
            assert!(aggregated > 0 || sizes.last() == Some(&all.len()), "{level}");
            sizes.push(all.len());
        }
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        // First, the attempts become one flow for each of their eight networks. Then the outside
        // connections become one flow for their network, and all outside hosts become a single
        // client. Finally, the inside connections become one flow per conversation.
        assert_eq!(sizes, [6000, 4008, 2009, 2002, 3, 3, 3]);
        assert_eq!(all.estimated_conversations(), 3);
        // If the same flows are captured again, they are aggregated into the existing flows.
        let again = flows(all.sibling_store(), &seen);
        all.absorb(&again).unwrap();
        assert_eq!(all.len(), 6003);
        for level in AggregationLevel::ALL {
            all.aggregate(*level, &listed).unwrap();
        }
        assert_eq!(all.len(), 3);
        assert_eq!(sums(&all).0, 2 * before.0);
    }

    #[test]
    fn aggregating_a_workers_tables_first_gives_the_same() {
        let seen = traffic();
        let store = new_store();
        let mut tables = store.tables(&Retention::default());
        for (number, some) in seen.chunks(LOOKUP_BATCH).enumerate() {
            tables.observe(some, []);
            if number % 50 == 0 {
                tables.aggregate(AggregationLevel::Ports, &listed);
            }
        }
        tables.aggregate(AggregationLevel::Ports, &listed);
        store.submit(tables).unwrap();
        let late =
            store.finish_window(1, &mut WindowCarryOver::default(), WindowEnd::Last).unwrap();
        let mut early = flows(new_store(), &seen);
        early.aggregate(AggregationLevel::Ports, &listed).unwrap();
        assert_eq!((late.len(), sums(&late).0), (early.len(), sums(&early).0));
    }

    #[test]
    fn a_fragment_waits_for_its_datagram_over_a_window_without_packets() {
        let seed = HashSeed::new();
        let mut carry_over = WindowCarryOver::default();
        let mut window = |seen: &[Observation], end| {
            let store = FlowStore::new(&seed, std::env::temp_dir());
            let mut tables = store.tables(&Retention::default());
            tables.observe(seen, []);
            store.submit(tables).unwrap();
            store.finish_window(1, &mut carry_over, end).unwrap()
        };
        let [src, dst]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let datagram = Datagram { src, dst, transport: Transport::TCP, id: 7, path: Path::PLAIN };
        let mut first = packet(5, [10, 0, 0, 1], 50_000, [10, 0, 0, 2], 443, flag::DATA);
        if let Body::Transport { fragment, .. } = &mut first.body {
            *fragment = Some(datagram);
        }
        let body = Body::Fragment { datagram, payload: 8 };
        let later = Observation { time: 9, wire_len: 60, body, ..Observation::default() };
        window(&[first], WindowEnd::Continued(Some(5)));
        window(&[], WindowEnd::Continued(None));
        let joined = window(&[later], WindowEnd::Last);
        assert_eq!((joined.len(), joined.side().orphans().count()), (1, 0));
    }

    #[test]
    fn evidence_about_hosts_is_kept_first_and_what_a_window_dropped_stays_known() {
        let window = |pairs: &[[u8; 2]]| {
            let store = new_store();
            let mut tables = store.tables(&Retention::default());
            for [src, dst] in pairs {
                let [src, dst] = [[*src, 0, 0, 1], [*dst, 0, 0, 2]].map(IpAddr::from);
                let body = Body::NoPorts { src, dst, transport: Transport::TCP };
                tables.observe(&[Observation { wire_len: 60, body, ..Observation::default() }], []);
            }
            let dropped = tables.keep_within(&EvidenceLimit { most: 2, is_host: &listed });
            store.submit(tables).unwrap();
            let merged = store.finish_window(1, &mut WindowCarryOver::default(), WindowEnd::Last);
            (merged.unwrap(), dropped)
        };
        let (mut strangers, dropped) = window(&[[1, 2], [3, 4], [5, 6], [9, 10]]);
        assert_eq!((dropped, strangers.side().trimmed().count()), (2, 1));
        assert!(!strangers.side().lacks_traffic());
        let kept: Vec<_> = strangers.side().portless().map(|(pair, _)| pair.dst).collect();
        assert_eq!(kept, [IpAddr::from([2, 0, 0, 2]), IpAddr::from([10, 0, 0, 2])]);
        let (hosts, dropped) = window(&[[10, 1], [10, 2], [10, 3]]);
        assert_eq!(dropped, 1);
        assert!(hosts.side().lacks_traffic());
        strangers.absorb(&hosts).unwrap();
        assert!(strangers.side().lacks_traffic());
    }

    #[test]
    fn what_is_idle_lies_in_files_and_stays_the_same_evidence() {
        let seen = traffic();
        let mut all = flows(new_store(), &seen);
        let before = sums(&all);
        let estimated_conversations = all.estimated_conversations();
        // The timestamps of the attempts range from 0 to 1999 ns. The last packet of each
        // connection has the timestamp 3 ns.
        all.spill_idle(1000).unwrap();
        let (idle_size, bytes) = all.idle_size();
        assert_eq!((idle_size, all.len()), (5000, 6000));
        assert!(bytes > 0 && all.memory() < flows(new_store(), &seen).memory() / 3);
        assert_eq!((sums(&all), all.estimated_conversations()), (before, estimated_conversations));
        // A flow that continues is in memory again, and readers see it merged with its earlier
        // part.
        let again = flows(all.sibling_store(), &seen[..700]);
        let more = sums(&again);
        all.absorb(&again).unwrap();
        assert_eq!(sums(&all), (before.0 + more.0, before.1 + more.1, before.2));
        all.spill_idle(Nanos::MAX).unwrap();
        // A flow that was idle twice counts twice until its file is rewritten.
        assert_eq!((all.idle_size().0, all.len(), all.memory() < 1 << 16), (6300, 6300, true));
        assert_eq!(sums(&all), (before.0 + more.0, before.1 + more.1, before.2));
        // The saved state contains the idle flows, and aggregation includes them.
        let mut bytes = Vec::new();
        all.save(&mut bytes).unwrap();
        let mut back =
            MergedFlows::restore(new_store(), StateLayout::Named, &mut &bytes[..]).unwrap();
        assert_eq!((back.idle_size().0, sums(&back)), (6000, sums(&all)));
        // If idle flows cannot be written to a file, they are kept in memory.
        let nowhere = FlowStore::new(&HashSeed::new(), "/nowhere/at/all".into());
        let held = MergedFlows::restore(nowhere, StateLayout::Named, &mut &bytes[..]).unwrap();
        assert_eq!((held.idle_size().0, held.len(), sums(&held)), (0, 6000, sums(&all)));
        for level in AggregationLevel::ALL {
            let before = sums(&back);
            back.aggregate(*level, &listed).unwrap();
            assert_eq!(sums(&back), before, "{level}");
        }
        assert_eq!((back.len(), back.idle_size().0), (3, 0));
    }

    #[test]
    fn what_cannot_be_written_stays_in_memory() {
        let seen = traffic();
        let store = FlowStore::new(&HashSeed::new(), "/nowhere/at/all".into());
        let mut all = flows(store, &seen);
        let before = sums(&all);
        assert!(all.spill_idle(Nanos::MAX).is_err());
        assert_eq!((all.len(), all.idle_size().0, sums(&all)), (6000, 0, before));
    }

    #[test]
    fn what_was_saved_comes_back_under_another_seed() {
        let seen = traffic();
        let mut all = flows(new_store(), &seen);
        all.aggregate(AggregationLevel::Attempts, &listed).unwrap();
        let mut bytes = Vec::new();
        all.save(&mut bytes).unwrap();
        let back = MergedFlows::restore(new_store(), StateLayout::Named, &mut &bytes[..]).unwrap();
        assert_eq!((back.len(), sums(&back)), (all.len(), sums(&all)));
        // A truncated state is never accepted as complete.
        for end in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
            assert!(
                MergedFlows::restore(new_store(), StateLayout::Named, &mut &bytes[..end]).is_err(),
                "{end}"
            );
        }
    }
}
