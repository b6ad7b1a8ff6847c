//! What was captured when.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BUCKET_NS, Merge, Nanos, SECOND};

/// The frames of each ten seconds that hold one, by the number of the ten seconds since 1970.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Timeline(BTreeMap<Nanos, Slot>);

/// Ten seconds of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Slot {
    /// Frames.
    pub frames: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// All that was to be watched was there, so that silence says something.
    pub watched: bool,
}

impl Merge for Slot {
    fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.watched |= other.watched;
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
        Self(self.0.iter().map(|(n, slot)| (*n, Slot { watched: false, ..*slot })).collect())
    }

    /// Seconds that were watched: ten for each slot.
    pub fn watched_s(&self) -> u64 {
        let watched = self.0.values().filter(|slot| slot.watched).count() as u64;
        watched * (BUCKET_NS / SECOND) as u64
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
        let slot = |frames| Slot { frames, bytes: frames * 100, watched: true };
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
    }
}
