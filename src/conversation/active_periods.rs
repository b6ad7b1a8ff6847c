//! The periods in which a host was active.

use std::collections::BTreeMap;

use super::{CaptureLimits, TimeSpan};
use crate::model::{Merge, Nanos, SECOND};

/// The longest time without a packet in which a host counts as active, in nanoseconds. A running
/// host sends more often.
const PAUSE: Nanos = 120 * SECOND;

/// The maximum number of periods of a host.
const MOST: Nanos = 512;

/// The periods in which a host sent unicast packets without a long pause.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct ActivePeriods {
    /// The longest pause that does not end a period, in nanoseconds.
    pause: Nanos,
    /// The end of each period, by its start.
    periods: BTreeMap<Nanos, Nanos>,
}

impl ActivePeriods {
    /// Returns no periods. The pause is so long that a capture with these limits has few periods.
    pub(super) fn new(limits: &CaptureLimits) -> Self {
        let length = limits.end.unwrap_or(0).saturating_sub(limits.start.unwrap_or(0));
        Self { pause: PAUSE.max(length / MOST), periods: BTreeMap::new() }
    }

    /// Returns a single period.
    pub fn of(span: &TimeSpan) -> Self {
        let mut periods = Self { pause: PAUSE, periods: BTreeMap::new() };
        span.first.get().zip(span.last.get()).into_iter().for_each(|(a, b)| periods.insert(a, b));
        periods
    }

    /// Adds the packets of one side of a flow. If there are so few that long pauses must have
    /// occurred between them, only the first and the last one count.
    pub(super) fn add(&mut self, span: &TimeSpan, packets: u64) {
        let (Some(first), Some(last)) = (span.first.get(), span.last.get()) else { return };
        let packets = Nanos::try_from(packets).unwrap_or(Nanos::MAX);
        if last.saturating_sub(first) <= packets.saturating_mul(self.pause / 2) {
            self.insert(first, last);
        } else {
            self.insert(first, first);
            self.insert(last, last);
        }
    }

    /// Adds a period and joins periods that are not separated by a long pause.
    fn insert(&mut self, mut first: Nanos, mut last: Nanos) {
        // Nearly all packets of a busy host are in a known period.
        if self.last_before(first).is_some_and(|(_, end)| last <= end) {
            return;
        }
        while let Some((start, end)) = self.last_before(last.saturating_add(self.pause))
            && end.saturating_add(self.pause) >= first
        {
            self.periods.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.periods.insert(first, last);
    }

    fn last_before(&self, time: Nanos) -> Option<(Nanos, Nanos)> {
        self.periods.range(..=time).next_back().map(|(start, end)| (*start, *end))
    }

    /// Returns the parts of the periods from `start` to `end`. `None` means no limit.
    #[must_use]
    pub fn within(&self, start: Option<Nanos>, end: Option<Nanos>) -> Self {
        let mut within = Self { pause: self.pause, periods: BTreeMap::new() };
        for span in self.iter().map(|span| span.within(start, end)) {
            within.periods.extend(span.first.get().zip(span.last.get()));
        }
        within
    }

    /// Returns the periods in which both hosts sent packets, in order.
    pub fn overlaps<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = TimeSpan> + 'a {
        self.periods.iter().flat_map(|(start, end)| {
            // Of the periods that begin before `start`, only the last one can extend beyond it.
            let from = other.last_before(*start).map_or(*start, |(from, _)| from);
            let others = other.periods.range(from..).take_while(move |(from, _)| *from <= end);
            let both = others.map(move |(from, to)| (*start.max(from), *end.min(to)));
            both.filter(|(from, to)| from <= to).map(|(from, to)| {
                let mut span = TimeSpan::at(from);
                span.see(to);
                span
            })
        })
    }

    /// Returns the periods in order.
    pub fn iter(&self) -> impl Iterator<Item = TimeSpan> {
        self.periods.iter().map(|(start, end)| {
            let mut span = TimeSpan::at(*start);
            span.see(*end);
            span
        })
    }
}

impl Merge for ActivePeriods {
    fn merge(&mut self, other: &Self) {
        self.pause = self.pause.max(other.pause);
        other.periods.iter().for_each(|(start, end)| self.insert(*start, *end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(periods: &ActivePeriods) -> Vec<(Nanos, Nanos)> {
        periods.periods.iter().map(|(start, end)| (start / SECOND, end / SECOND)).collect()
    }

    fn span(first: Nanos, last: Nanos) -> TimeSpan {
        let mut span = TimeSpan::at(first * SECOND);
        span.see(last * SECOND);
        span
    }

    #[test]
    fn a_long_pause_ends_a_period_in_whatever_order_packets_come() {
        let packets = [(0, 5, 5), (700, 710, 3), (100, 100, 1), (215, 220, 2), (830, 830, 1)];
        for first in 0..packets.len() {
            let mut periods = ActivePeriods::new(&CaptureLimits::default());
            for number in 0..packets.len() {
                let (from, to, count) = packets[(first + 2 * number) % packets.len()];
                let mut part = ActivePeriods::new(&CaptureLimits::default());
                part.add(&span(from, to), count);
                periods.merge(&part);
            }
            assert_eq!(spans(&periods), [(0, 220), (700, 830)]);
            let within = periods.within(Some(10 * SECOND), Some(600 * SECOND));
            assert_eq!(spans(&within), [(10, 220)]);
        }
    }

    #[test]
    fn periods_of_two_hosts_overlap_only_while_both_send() {
        let of = |spans: &[(Nanos, Nanos)]| {
            let mut periods = ActivePeriods::new(&CaptureLimits::default());
            spans.iter().for_each(|(from, to)| periods.insert(from * SECOND, to * SECOND));
            periods
        };
        let overlaps = |a: &[(Nanos, Nanos)], b: &[(Nanos, Nanos)]| {
            let (a, b) = (of(a), of(b));
            let [found, reverse] = [(&a, &b), (&b, &a)].map(|(a, b)| {
                let ends = |span: TimeSpan| span.first.get().zip(span.last.get());
                a.overlaps(b).filter_map(ends).collect::<Vec<_>>()
            });
            assert_eq!(found, reverse);
            found.into_iter().map(|(from, to)| (from / SECOND, to / SECOND)).collect::<Vec<_>>()
        };
        let long = [(0, 1000), (2000, 3000)];
        assert_eq!(overlaps(&long, &[(1200, 1900), (4000, 5000)]), []);
        assert_eq!(overlaps(&long, &[(900, 2100)]), [(900, 1000), (2000, 2100)]);
        assert_eq!(overlaps(&long, &[(100, 200), (400, 500)]), [(100, 200), (400, 500)]);
        assert_eq!(overlaps(&long, &[(0, 3000)]), long);
        assert_eq!(overlaps(&long, &[(1000, 1500)]), [(1000, 1000)]);
    }

    #[test]
    fn few_packets_of_one_flow_do_not_fill_the_time_between_them() {
        let of = |packets| {
            let mut periods = ActivePeriods::new(&CaptureLimits::default());
            periods.add(&span(0, 710), packets);
            spans(&periods)
        };
        assert_eq!(of(8), [(0, 0), (710, 710)]);
        assert_eq!(of(12), [(0, 710)]);
    }

    #[test]
    fn a_long_capture_has_few_periods() {
        let end = Some(10_000_000 * SECOND);
        let limits = CaptureLimits { start: Some(0), end, ..CaptureLimits::default() };
        let mut periods = ActivePeriods::new(&limits);
        for number in 0..50_000 {
            periods.add(&span(number * 200, number * 200), 1);
        }
        assert!(periods.periods.len() <= MOST as usize);
    }
}
