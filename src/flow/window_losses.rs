//! The loss of the windows of a live audit, which the counters of all windows together hide.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::keyed::EvidenceKind;
use crate::model::{Nanos, SECOND};

/// The length of a period for which the loss is kept, in nanoseconds.
const PERIOD: Nanos = 600 * SECOND;

/// Shares of lost frames are kept in millionths.
const MILLION: f64 = 1e6;

/// For each period in which a window lost frames, the greatest share that a window lost.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct WindowLosses(BTreeMap<Nanos, u32>);

impl WindowLosses {
    /// Adds a window from `from` to `to`, which lost this share of its frames, from 0 to 1.
    pub(super) fn add(&mut self, from: Nanos, to: Nanos, share: f64) {
        /// The maximum number of periods that a window has. If it seems to have more, the clock was
        /// set meanwhile.
        const MOST: usize = 1 << 12;
        let share = (share.clamp(0.0, 1.0) * MILLION).ceil() as u32;
        if share > 0 {
            let last = to.div_euclid(PERIOD);
            let periods = (from.div_euclid(PERIOD)..=last).take(MOST);
            periods.chain([last]).for_each(|period| self.add_period(period, share));
        }
    }

    fn add_period(&mut self, period: Nanos, share: u32) {
        let known = self.0.entry(period).or_default();
        *known = share.max(*known);
    }

    /// Returns the start and the end of each period, and the greatest share of lost frames, from 0
    /// to 1.
    pub fn iter(&self) -> impl Iterator<Item = (Nanos, Nanos, f64)> {
        self.0.iter().map(|(period, share)| {
            let from = period.saturating_mul(PERIOD);
            (from, from.saturating_add(PERIOD), (f64::from(*share) / MILLION).min(1.0))
        })
    }
}

/// A period takes a few bytes, so that the losses of years need no limit.
impl EvidenceKind for WindowLosses {
    fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(period, share)| self.add_period(period, share));
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn memory(&self) -> usize {
        const ENTRY: usize = 2 * size_of::<(Nanos, u32)>();
        self.0.len() * ENTRY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_loss_of_a_period_is_kept_whatever_came_first() {
        let mut calm = WindowLosses::default();
        calm.add(0, 10 * SECOND, 0.0);
        assert!(calm.is_empty());
        let mut burst = WindowLosses::default();
        burst.add(10 * SECOND, 20 * SECOND, 0.5);
        burst.add(590 * SECOND, 610 * SECOND, 0.02);
        calm.add(20 * SECOND, 30 * SECOND, 0.001);
        let [mut there, mut back] = [burst.clone(), calm.clone()];
        EvidenceKind::merge(&mut there, calm);
        EvidenceKind::merge(&mut back, burst);
        let expected = [(0, PERIOD, 0.5), (PERIOD, 2 * PERIOD, 0.02)];
        for merged in [there, back] {
            assert_eq!(merged.iter().collect::<Vec<_>>(), expected);
        }
    }
}
