//! Tests the merge laws: partial results yield the same total in any order and any grouping.

use proptest::prelude::*;

use rasaudit::decode::{
    Body, Datagram, EncapTagKind, Encapsulation, ErrorKind, FiveTuple, Observation, Path, Quoted,
    flag,
};
use rasaudit::flow::{
    Amount, CopiedAmounts, DirectionStats, Evidence, EvidenceLimit, FlowPartitions, FlowRecord,
    FlowStore, HashSeed, MergedFlows, PacketRetention, PartitionFlows, PrefixRetention, Retention,
    SideEvidence,
};
use rasaudit::model::{
    BoundedSet, FlagSet, FrameCounters, Mac, Max, Merge, Min, NumberRange, SkipReason, Sum,
    Transport,
};

/// Asserts that merging is commutative and associative, with the empty value as its neutral
/// element.
fn laws<T: Merge + Clone + PartialEq + std::fmt::Debug + Default>(a: &T, b: &T, c: &T) {
    let join = |x: &T, y: &T| {
        let mut joined = x.clone();
        joined.merge(y);
        joined
    };
    assert_eq!(join(a, b), join(b, a), "commutative");
    assert_eq!(join(&join(a, b), c), join(a, &join(b, c)), "associative");
    assert_eq!(join(a, &T::default()), *a, "neutral");
}

/// Asserts that merging a value a second time does not change anything.
fn idempotent<T: Merge + Clone + PartialEq + std::fmt::Debug>(a: &T, b: &T) {
    let mut once = a.clone();
    once.merge(b);
    let mut twice = once.clone();
    twice.merge(b);
    assert_eq!(once, twice);
}

fn sums() -> impl Strategy<Value = Sum> {
    prop_oneof![any::<u64>(), Just(u64::MAX), 0..9u64].prop_map(Sum)
}

fn min() -> impl Strategy<Value = Min> {
    proptest::collection::vec(any::<i64>(), 0..3).prop_map(|times| {
        let mut min = Min::default();
        times.into_iter().for_each(|t| min.see(t));
        min
    })
}

fn max() -> impl Strategy<Value = Max> {
    proptest::collection::vec(any::<i64>(), 0..3).prop_map(|times| {
        let mut max = Max::default();
        times.into_iter().for_each(|t| max.see(t));
        max
    })
}

fn spans() -> impl Strategy<Value = NumberRange> {
    proptest::collection::vec(any::<u32>(), 0..3).prop_map(|numbers| {
        let mut span = NumberRange::default();
        numbers.into_iter().for_each(|n| span.see(n));
        span
    })
}

fn sets() -> impl Strategy<Value = BoundedSet<u8, 4>> {
    proptest::collection::vec(0..20u8, 0..12).prop_map(|members| {
        let mut set = BoundedSet::default();
        members.into_iter().for_each(|m| set.insert(m));
        set
    })
}

fn sides() -> impl Strategy<Value = DirectionStats> {
    (sums(), sums(), min(), max(), spans(), any::<u32>(), any::<u16>()).prop_map(
        |(packets, bytes, first, last, acked, syns, flags)| {
            let mut side = DirectionStats::default();
            side.sent = Amount { packets, bytes, payload: bytes };
            (side.first, side.last, side.acked) = (first, last, acked);
            (side.syns, side.flags) = (Sum(syns), FlagSet(flags));
            side
        },
    )
}

fn accounts() -> impl Strategy<Value = FrameCounters> {
    let counts = proptest::collection::vec((0..9u16, 0..1000u64), 0..4);
    (0..1u64 << 40, 0..1u64 << 40, counts, min(), max()).prop_map(
        |(frames, bytes, counts, first, last)| {
            let mut account =
                FrameCounters { frames, bytes, first, last, ..FrameCounters::default() };
            for (key, count) in counts {
                *account.non_ip.entry(key).or_default() += count;
                *account.unknown_links.entry(key).or_default() += count;
                account.skipped.count(SkipReason::ALL[usize::from(key)]);
            }
            account
        },
    )
}

proptest! {
    #[test]
    fn building_blocks_merge(a in (sums(), min(), max(), sets(), spans()), b in (sums(), min(), max(), sets(), spans()), c in (sums(), min(), max(), sets(), spans())) {
        laws(&a.0, &b.0, &c.0);
        laws(&a.1, &b.1, &c.1);
        laws(&a.2, &b.2, &c.2);
        laws(&a.3, &b.3, &c.3);
        laws(&a.4, &b.4, &c.4);
        idempotent(&a.4, &b.4);
        idempotent(&a.1, &b.1);
        idempotent(&a.2, &b.2);
        idempotent(&a.3, &b.3);
    }

    #[test]
    fn sides_merge(a in sides(), b in sides(), c in sides()) {
        laws(&a, &b, &c);
        let [a, b, c] = [[&a, &b], [&b, &c], [&c, &a]].map(|both| CopiedAmounts(both.map(|s| s.sent)));
        laws(&a, &b, &c);
    }

    #[test]
    fn accounts_merge(a in accounts(), b in accounts(), c in accounts()) {
        laws(&a, &b, &c);
    }
}

/// Generates observations with few distinct values, so that flows, fragments and errors coincide.
fn observations() -> impl Strategy<Value = Observation> {
    let address = |n: u8| -> std::net::IpAddr { [10, 0, 0, n].into() };
    let tuple = (1..4u8, 1..4u8, 1..4u16, 1..4u16, prop_oneof![Just(6u8), Just(17)]).prop_map(
        move |(src, dst, sport, dport, transport)| FiveTuple {
            src: address(src),
            dst: address(dst),
            sport,
            dport,
            transport: Transport(transport),
        },
    );
    let kinds = prop_oneof![
        Just(ErrorKind::PortUnreachable),
        Just(ErrorKind::Prohibited),
        Just(ErrorKind::Other)
    ];
    let body = (tuple, 0..6u8, 0..2048u16, 0..3u32, kinds).prop_map(
        move |(tuple, what, flags, id, kind)| {
            let FiveTuple { src, dst, transport, .. } = tuple;
            let path = Path::PLAIN;
            match what {
                0 => Body::Fragment {
                    datagram: Datagram { src, dst, transport, id, path },
                    payload: 8,
                },
                1 => Body::Error {
                    quoted: if id == 0 {
                        Quoted::Fragment(Datagram { src, dst, transport, id: 1, path })
                    } else {
                        Quoted::Flow { tuple, path, seq: id, answers: id == 2 }
                    },
                    kind,
                    by: dst,
                    to: src,
                    transport: Transport::ICMP,
                },
                2 => Body::NoPorts { src, dst, transport },
                3 => Body::NonIp {
                    ethertype: 0x806,
                    claim: Some((src, Mac([2, 0, 0, 0, 0, id as u8]))),
                },
                4 => Body::Transport {
                    tuple,
                    flags,
                    payload: 8,
                    seq: id,
                    acked: Some(id),
                    fragment: Some(Datagram { src, dst, transport, id, path }),
                },
                _ => Body::Transport {
                    tuple,
                    flags: flags & !flag::BROADCAST,
                    payload: 9,
                    seq: id,
                    acked: None,
                    fragment: None,
                },
            }
        },
    );
    (body, 0..200i64, 60..1500u32, prop_oneof![0..3u16, 0..40u16]).prop_map(
        |(body, time, wire_len, vlan)| Observation {
            time: time * 1_000_000_000,
            wire_len,
            link: {
                let mut link =
                    Encapsulation::default().with_tag(EncapTagKind::Vlan, Some(u32::from(vlan)));
                link.source = Mac([2, 0, 0, 0, 1, vlan as u8]);
                link.ttl = (vlan % 3) as u8;
                link
            },
            fingerprint: u64::from(vlan % 2),
            body,
            ..Observation::default()
        },
    )
}

/// Returns the flows of a partition as sorted strings.
fn content(shard: &PartitionFlows<'_>) -> Vec<String> {
    let mut flows: Vec<String> = shard
        .iter()
        .map(|flow| {
            // The index of an encapsulation is valid only within one run of the program, so the
            // encapsulations themselves are compared.
            let links: Vec<Vec<_>> = [0, 1].map(|side| flow.links(side).collect()).into();
            let sides = flow.sides.map(|s| (s.sent, s.first, s.last, s.acked, s.syns, s.flags));
            let openings = [0, 1].map(|side| {
                (flow.syns(side).collect::<Vec<_>>(), flow.syn_acks(side).collect::<Vec<_>>())
            });
            let errors =
                flow.extra.map(|e| (e.errors.clone(), e.error_first, e.error_last, e.error_count));
            let errors = errors.filter(|e| e.3.0 > 0);
            format!("{:?} {sides:?} {openings:?} {links:?} {errors:?}", flow.key)
        })
        .collect();
    flows.sort();
    flows
}

/// Returns the merged flows of several workers, each of which observed one part, as sorted text.
/// Also returns their side evidence with the number of duplicates that were removed. If `spill` is
/// set, the tables of the workers are written to disk first.
fn met(parts: &[&[Observation]], spill: bool) -> (Vec<String>, String) {
    let seed = HashSeed::new();
    let store = FlowStore::new(&seed, std::env::temp_dir());
    let keep = Retention { packets: PacketRetention::Records, parts: PrefixRetention::All };
    for part in parts {
        let mut tables = store.tables(&keep);
        tables.observe(part, []);
        if spill { store.spill(tables) } else { store.submit(tables) }.expect("a temporary file");
    }
    let mut flows =
        store.finish(&keep, 2, &EvidenceLimit::NONE).expect("what was spilled comes back");
    let removed = flows.remove_duplicates().expect("what was spilled comes back");
    let whole = known(&flows);
    // Exporting all flows as values and importing them in two parts does not change them.
    let Evidence { flows, side } = flows.evidence().expect("what was spilled comes back");
    let bytes = postcard::to_stdvec(&flows).expect("values");
    let flows: Vec<FlowRecord> = postcard::from_bytes(&bytes).expect("what was written");
    let store = FlowStore::new(&HashSeed::new(), std::env::temp_dir());
    let (front, back) = flows.split_at(flows.len() / 2);
    for (flows, side) in [(back, side), (front, SideEvidence::default())] {
        let mut tables = store.tables(&Retention::default());
        tables.take_evidence(Evidence { flows: flows.to_vec(), side });
        store.submit(tables).expect("in memory");
    }
    let again = store.finish(&Retention::default(), 1, &EvidenceLimit::NONE).expect("in memory");
    assert_eq!(known(&again), whole);
    (whole.0, format!("{} {removed}", whole.1))
}

/// Returns all flows as sorted text, and their side evidence.
fn known(flows: &MergedFlows) -> (Vec<String>, String) {
    let mut all = Vec::new();
    flows.visit(|shard| all.extend(content(&shard))).expect("what was spilled comes back");
    all.sort();
    (all, format!("{:?}", flows.side))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_meet_to_the_same_whole(
        seen in proptest::collection::vec(observations(), 1..60),
        cut in any::<prop::sample::Index>(),
        shuffle in any::<u64>(),
    ) {
        let whole = met(&[&seen], false);
        let at = cut.index(seen.len());
        let (a, b) = seen.split_at(at);
        prop_assert_eq!(&met(&[a, b], false), &whole);
        prop_assert_eq!(&met(&[b, a], false), &whole);
        prop_assert_eq!(&met(&[b, a], true), &whole);
        let mut other = seen.clone();
        let mut state = shuffle | 1;
        for last in (1..other.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            other.swap(last, (state >> 33) as usize % (last + 1));
        }
        prop_assert_eq!(&met(&[&other], false), &whole);
    }
}
