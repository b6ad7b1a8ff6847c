//! Time spans, and the limits of what a capture can show.

use crate::model::{DoubtedTimes, Max, Merge, Min, Nanos};

/// The time from the first event to the last.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct TimeSpan {
    /// Time of the earliest event.
    pub first: Min,
    /// Time of the latest event.
    pub last: Max,
}

impl TimeSpan {
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
    /// Time between the two sightings of the same packet, in nanoseconds, if it was captured on two
    /// links with different clocks.
    pub clock_offset: Option<Nanos>,
    /// Time of the earliest frame.
    pub start: Option<Nanos>,
    /// Time of the latest frame.
    pub end: Option<Nanos>,
    /// The times of frames whose timestamps are doubted. They do not count as times of flows.
    pub doubted: DoubtedTimes,
}
