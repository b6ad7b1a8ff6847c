//! Time spans, and the limits of what a capture can show.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{DoubtedTimes, Max, Merge, Min, Nanos, VantagePoint};

/// The time from the first event to the last.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TimeSpan {
    /// Time of the earliest event.
    pub first: Min,
    /// Time of the latest event.
    pub last: Max,
}

impl TimeSpan {
    /// Returns the span of a single event.
    pub fn at(time: Nanos) -> Self {
        let mut span = Self::default();
        span.see(time);
        span
    }

    /// Extends the span to include `time`.
    pub fn see(&mut self, time: Nanos) {
        self.first.see(time);
        self.last.see(time);
    }

    /// Returns the part of the span from `start` to `end`. `None` means no limit.
    #[must_use]
    pub fn within(&self, start: Option<Nanos>, end: Option<Nanos>) -> Self {
        let (Some(first), Some(last)) = (self.first.get(), self.last.get()) else { return *self };
        let first = start.map_or(first, |start| first.max(start));
        let last = end.map_or(last, |end| last.min(end));
        let mut within = Self::default();
        if first <= last {
            within.see(first);
            within.see(last);
        }
        within
    }

    /// Returns the length in nanoseconds, or `None` for an empty span.
    pub fn length(&self) -> Option<Nanos> {
        Some(self.last.get()?.saturating_sub(self.first.get()?))
    }
}

impl Merge for TimeSpan {
    fn merge(&mut self, other: &Self) {
        self.first.merge(&other.first);
        self.last.merge(&other.last);
    }
}

/// The limits of what the whole capture can show.
#[derive(Clone, Default, Debug)]
pub struct CaptureLimits {
    /// Whether a filter was active, which may have excluded missing packets.
    pub filtered: bool,
    /// Whether the capture shows packets twice.
    pub doubled: bool,
    /// Whether the capture contains at least one packet twice.
    pub has_copies: bool,
    /// How often captures without the name of a sensor may show the same packet, because they come
    /// from several places whose clocks differ: 0 or 1 if nothing indicates this.
    pub late_copies: usize,
    /// Time between the two sightings of the same packet, in nanoseconds, if it was captured on two
    /// links with different clocks.
    pub clock_offset: Option<Nanos>,
    /// Time of the earliest frame.
    pub start: Option<Nanos>,
    /// Time of the latest frame.
    pub end: Option<Nanos>,
    /// The times of frames whose timestamps are doubted. They do not count as times of flows.
    pub doubted: DoubtedTimes,
    /// When some of the captures without the name of a sensor were not running, although others
    /// were.
    pub outages: Outages,
    /// The periods that were captured without interruption, in order of time. Empty if there is
    /// only one, or if a sensor has a name.
    pub periods: Vec<(Nanos, Nanos)>,
    /// When each named vantage point did not watch, although another input did.
    pub vantage_outages: BTreeMap<VantagePoint, Outages>,
}

/// Periods in which a part of the capture was not running, although another part was.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outages {
    /// The periods, in order. They do not overlap.
    periods: Arc<[(Nanos, Nanos)]>,
}

impl Outages {
    /// Creates the union of some periods. If clocks differ by `clock_offset` nanoseconds, each
    /// period is extended by this time, because it is not known by which clock its ends were
    /// measured.
    pub fn new(mut periods: Vec<(Nanos, Nanos)>, clock_offset: Option<Nanos>) -> Self {
        let offset = clock_offset.unwrap_or(0).max(0);
        for (from, to) in &mut periods {
            *from = from.saturating_sub(offset);
            *to = to.saturating_add(offset);
        }
        periods.sort_unstable();
        periods.dedup_by(|next, kept| {
            let overlaps = next.0 <= kept.1;
            if overlaps {
                kept.1 = kept.1.max(next.1);
            }
            overlaps
        });
        Self { periods: periods.into() }
    }

    /// Returns whether an outage overlaps the time from `from` to `to`.
    pub fn overlap(&self, from: Nanos, to: Nanos) -> bool {
        let next = self.periods.partition_point(|(_, end)| *end <= from);
        self.periods.get(next).is_some_and(|(start, _)| *start < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_that_overlap_are_one() {
        let outages = Outages::new(vec![(50, 60), (10, 20), (15, 30)], None);
        assert_eq!(outages.periods[..], [(10, 30), (50, 60)]);
        for (from, to, expected) in
            [(0, 10, false), (0, 11, true), (30, 50, false), (29, 31, true), (60, 70, false)]
        {
            assert_eq!(outages.overlap(from, to), expected, "{from} {to}");
        }
        let apart = Outages::new(vec![(50, 60), (10, 20)], Some(20));
        assert_eq!(apart.periods[..], [(-10, 80)]);
        assert!(!Outages::default().overlap(0, 100));
    }
}
