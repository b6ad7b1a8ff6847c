//! Packets that a capture shows more than once: a span of two ports, a router's both sides, two
//! interfaces of one file.
//!
//! A sample says how many of the frames are copies, and of what kind. It is made of the packets whose
//! content has the least numbers, and so is the same whoever saw which frame. Where copies are to be
//! dropped from the amounts, each packet leaves a [`Trace`] until all of a flow has been seen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Amount;
use crate::decode::{Link, Observation, TagKind};
use crate::model::{Copies, Merge, NO_TIME, Nanos, Sum};

/// How far apart two sights of one packet may be, in nanoseconds of packet time. A retransmission
/// comes later, or with another identification.
const APART: Nanos = 1_000_000;

/// Contents in the sample. A share of one in a hundred is then known to a sixth of its size.
const SAMPLED: usize = 4096;

/// Sights of one content that are kept.
const SIGHTS: usize = 32;

/// A packet as it was seen once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Sight {
    time: Nanos,
    interface: u16,
    link: Link,
}

/// A sample of contents, each with its sights.
#[derive(Clone, Default, Debug)]
pub(super) struct Sample {
    sights: BTreeMap<u64, Vec<Sight>>,
    /// The greatest content of a full sample.
    limit: Option<u64>,
}

impl Sample {
    /// Takes in a packet, if it is one of the sample.
    pub fn see(&mut self, seen: &Observation) {
        // Most packets of a long capture end here.
        if seen.content == 0
            || self.limit.is_some_and(|limit| seen.content > limit)
            || seen.time == NO_TIME
        {
            return;
        }
        let sight = Sight { time: seen.time, interface: seen.interface, link: seen.link };
        self.insert(seen.content, &[sight]);
    }

    fn insert(&mut self, content: u64, sights: &[Sight]) {
        let kept = self.sights.entry(content).or_default();
        kept.extend_from_slice(sights);
        kept.sort_unstable();
        kept.truncate(SIGHTS);
        if self.sights.len() > SAMPLED {
            self.sights.pop_last();
        }
        if self.sights.len() == SAMPLED {
            self.limit = self.sights.last_key_value().map(|(content, _)| *content);
        }
    }

    /// What the sample says of the capture.
    pub fn copies(&self) -> Copies {
        let mut copies = Copies::default();
        for sights in self.sights.values() {
            copies.sampled += sights.len() as u64;
            for packet in together(sights, |sight| sight.time) {
                for copy in &packet[1..] {
                    let first = &packet[0];
                    let count = if copy.interface != first.interface {
                        &mut copies.interfaces
                    } else if !vlans(&copy.link).eq(vlans(&first.link)) {
                        &mut copies.vlans
                    } else if copy.link != first.link {
                        &mut copies.hops
                    } else {
                        &mut copies.same
                    };
                    *count += 1;
                    copies.alike += u64::from(copy.link == first.link);
                }
            }
        }
        copies
    }
}

fn vlans(link: &Link) -> impl Iterator<Item = Option<u32>> + '_ {
    link.tags().filter(|tag| tag.kind == TagKind::Vlan).map(|tag| tag.id)
}

impl Merge for Sample {
    fn merge(&mut self, other: &Self) {
        for (content, sights) in &other.sights {
            if self.limit.is_none_or(|limit| *content <= limit) {
                self.insert(*content, sights);
            }
        }
    }
}

/// What a packet of a flow leaves behind where copies are looked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Trace {
    content: u64,
    /// The link, by its hash of this run.
    link: u64,
    time: Nanos,
    wire_len: u32,
    payload: u32,
    side: u8,
}

impl Trace {
    pub(super) fn new(side: usize, seen: &Observation, payload: u32, link: u64) -> Self {
        let &Observation { content, time, wire_len, .. } = seen;
        Self { content, link, time, wire_len, payload, side: side as u8 }
    }
}

/// The copies among the packets of a flow: side, hash of the link, amount of each.
pub(super) fn among(traces: &mut [Trace]) -> impl Iterator<Item = (usize, u64, Amount)> + '_ {
    traces.sort_unstable();
    let same = |a: &Trace, b: &Trace| (a.side, a.content, a.link) == (b.side, b.content, b.link);
    let timed = |t: &&[Trace]| t[0].content != 0 && t[0].time != NO_TIME;
    traces.chunk_by(same).filter(timed).flat_map(|sights| together(sights, |t| t.time)).flat_map(
        |packet| {
            packet[1..].iter().map(|copy| {
                let amount = Amount {
                    packets: Sum(1),
                    bytes: Sum(u64::from(copy.wire_len)),
                    payload: Sum(u64::from(copy.payload)),
                };
                (usize::from(copy.side), copy.link, amount)
            })
        },
    )
}

/// Sights in order of time, divided into those of one packet: not further apart than a copy may be
/// from the first.
fn together<T>(mut sights: &[T], time: impl Fn(&T) -> Nanos) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let first = time(sights.first()?);
        let end = sights.partition_point(|s| time(s).saturating_sub(first) <= APART);
        let (packet, rest) = sights.split_at(end);
        sights = rest;
        Some(packet)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(content: u64, time: Nanos, wire_len: u32) -> Trace {
        let seen = Observation { time, wire_len, content, ..Observation::default() };
        Trace::new(0, &seen, 7, 0)
    }

    #[test]
    fn copies_are_near_in_time_and_retransmissions_are_none() {
        let millisecond = 1_000_000;
        let mut traces = [
            // A packet, its copy at the limit, and the same content again just beyond it.
            trace(1, 0, 60),
            trace(1, millisecond, 60),
            trace(1, millisecond + 1, 60),
            // Another packet, and a retransmission that repeats it to the last bit.
            trace(2, 0, 70),
            trace(2, 200 * millisecond, 70),
            // Without content or time nothing is known.
            trace(0, 0, 80),
            trace(0, 0, 80),
            trace(3, NO_TIME, 90),
            trace(3, NO_TIME, 90),
        ];
        let found: Vec<_> = among(&mut traces).map(|(_, _, amount)| amount.bytes.0).collect();
        assert_eq!(found, [60]);
    }

    #[test]
    fn a_sample_does_not_depend_on_who_saw_what() {
        let see = |sample: &mut Sample, number: u64| {
            let content = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let time = number as Nanos;
            for copy in 0..1 + number % 2 {
                sample.see(&Observation {
                    content,
                    time: time + copy as i64,
                    ..Default::default()
                });
            }
        };
        let mut whole = Sample::default();
        let mut parts: [Sample; 3] = Default::default();
        for number in 0..40_000 {
            see(&mut whole, number);
            see(&mut parts[number as usize % 7 % 3], number);
        }
        let [a, mut b, c] = parts;
        b.merge(&c);
        b.merge(&a);
        assert_eq!(whole.sights, b.sights);
        assert_eq!(whole.sights.len(), SAMPLED);
        // Every second packet was seen twice: a third of the frames.
        let copies = whole.copies();
        assert!((copies.share(copies.same) - 1.0 / 3.0).abs() < 0.02, "{copies:?}");
        assert_eq!((copies.total(), copies.alike), (copies.same, copies.same));
    }
}
