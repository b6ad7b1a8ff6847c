//! What was captured when.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BUCKET_NS, Merge, Nanos, SECOND};

/// The frames of each ten seconds that hold one, by the number of the ten seconds since 1970.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Timeline(BTreeMap<Nanos, Slot>);

/// Ten seconds of a capture; of what is long ago an hour.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Slot {
    /// Frames.
    pub frames: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// How many ten seconds of it were watched: all that was to be watched was there, so that silence says something.
    pub watched: u64,
}

impl Merge for Slot {
    fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.watched = self.watched.max(other.watched);
    }
}

impl Merge for Timeline {
    fn merge(&mut self, other: &Self) {
        for (number, slot) in &other.0 {
            self.add(*number, slot);
        }
    }
}

impl Timeline {
    /// Adds frames of ten seconds.
    pub fn add(&mut self, number: Nanos, slot: &Slot) {
        self.0.entry(number).or_default().merge(slot);
    }

    /// The same frames, at a time when something that was to be watched was away.
    pub fn unwatched(&self) -> Self {
        Self(self.0.iter().map(|(n, slot)| (*n, Slot { watched: 0, ..*slot })).collect())
    }

    /// Seconds that were watched: ten for each slot.
    pub fn watched_s(&self) -> u64 {
        let watched: u64 = self.0.values().map(|slot| slot.watched).sum();
        watched * (BUCKET_NS / SECOND) as u64
    }

    /// Takes slots before `time` together by the hour, so that months stay small.
    pub fn coarsen(&mut self, time: Nanos) {
        const HOUR: Nanos = 3600 * SECOND / BUCKET_NS;
        let first = time.div_euclid(BUCKET_NS).div_euclid(HOUR) * HOUR;
        let late = self.0.split_off(&first);
        for (number, slot) in std::mem::replace(&mut self.0, late) {
            let hour = self.0.entry(number.div_euclid(HOUR) * HOUR).or_default();
            hour.frames += slot.frames;
            hour.bytes += slot.bytes;
            hour.watched += slot.watched;
        }
    }

    /// The slots in order of time, each with the time of its start.
    pub fn iter(&self) -> impl Iterator<Item = (Nanos, &Slot)> {
        self.0.iter().map(|(number, slot)| (number.saturating_mul(BUCKET_NS), slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_slot_add_up_and_unwatched_ones_count_no_time() {
        let slot = |frames| Slot { frames, bytes: frames * 100, watched: 1 };
        let (mut all, mut other) = (Timeline::default(), Timeline::default());
        all.add(7, &slot(2));
        other.add(7, &slot(3));
        other.add(9, &slot(1));
        all.merge(&other.unwatched());
        let seen: Vec<_> = all.iter().map(|(t, s)| (t / SECOND, s.frames, s.bytes)).collect();
        assert_eq!(seen, [(70, 5, 500), (90, 1, 100)]);
        assert_eq!(all.watched_s(), 10);
        all.merge(&other);
        assert_eq!(all.watched_s(), 20);
        // Long ago they are hours, once and again.
        all.add(360, &slot(4));
        for _ in 0..2 {
            all.coarsen(3600 * SECOND);
            let seen: Vec<_> = all.iter().map(|(t, s)| (t / SECOND, s.frames)).collect();
            assert_eq!((seen, all.watched_s()), (vec![(0, 10), (3600, 4)], 30));
        }
    }
}
