//! The loss of single inputs and windows, which the loss of the whole capture hides.

use crate::model::{Nanos, SECOND};

/// The share of lost frames that is always assumed, from 0 to 1. Periods with less loss change
/// nothing.
pub(super) const LEAST_LOSS: f64 = 0.01;

/// The time by which a reply may follow a request, in nanoseconds: the longest that a protocol
/// allows.
const TIME_TO_ANSWER: Nanos = 60 * SECOND;

/// The periods in which an input, or a window of a live audit, lost more frames than is always
/// assumed.
#[derive(Clone, Default, Debug)]
pub struct LossPeriods {
    /// The start, the end and the share of lost frames, from 0 to 1. The greatest loss is first.
    list: Vec<(Nanos, Nanos, f64)>,
}

impl LossPeriods {
    /// Creates the list of periods. Each has a start, an end and a share of lost frames, from 0 to
    /// 1.
    pub fn new(periods: impl Iterator<Item = (Nanos, Nanos, f64)>) -> Self {
        let mut list: Vec<_> = periods.filter(|(.., share)| *share > LEAST_LOSS).collect();
        list.sort_by(|a, b| b.2.total_cmp(&a.2).then((a.0, a.1).cmp(&(b.0, b.1))));
        Self { list }
    }

    /// Returns the greatest share of frames that was lost in a period that overlaps the time from
    /// `from` to `to`, or the time of the replies to the last requests.
    pub fn greatest_in(&self, from: Nanos, to: Nanos) -> f64 {
        let until = to.saturating_add(TIME_TO_ANSWER);
        let mut overlapping =
            self.list.iter().filter(|(start, end, _)| *start <= until && *end >= from);
        overlapping.next().map_or(0.0, |(.., share)| *share)
    }

    /// Returns the share of frames that a capture which watched for `watched` nanoseconds lost on
    /// average over time. A short input with many frames does not hide that a long one with few
    /// frames lost most of them. The result is at most the greatest loss of a period.
    pub fn mean_over(&self, watched: Nanos) -> f64 {
        let greatest = self.list.first().map_or(0.0, |(.., share)| *share);
        let known = self.list.iter().filter(|(from, to, _)| *from > Nanos::MIN && *to < Nanos::MAX);
        let lost = known.map(|(from, to, share)| to.saturating_sub(*from) as f64 * share);
        (lost.sum::<f64>() / watched.max(1) as f64).min(greatest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_counts_for_the_time_around_it() {
        let minute = |number: Nanos| number * 60 * SECOND;
        let of = |minutes: &[(Nanos, Nanos, f64)]| {
            LossPeriods::new(minutes.iter().map(|(a, b, share)| (minute(*a), minute(*b), *share)))
        };
        let losses = of(&[(0, 10, 0.005), (10, 11, 0.5), (11, 30, 0.02)]);
        let greatest = |a, b| losses.greatest_in(minute(a), minute(b));
        assert_eq!([greatest(0, 5), greatest(8, 9), greatest(8, 10)], [0.0, 0.5, 0.5]);
        assert_eq!([greatest(12, 12), greatest(11, 12), greatest(31, 40)], [0.02, 0.5, 0.0]);
        // Half of the frames of one minute in 100 were lost, and a fiftieth in 19.
        assert!((losses.mean_over(minute(100)) - 0.0088).abs() < 1e-9);
        // The order of the inputs does not matter.
        let turned = of(&[(11, 30, 0.02), (10, 11, 0.5), (0, 10, 0.005)]);
        assert_eq!(turned.list, losses.list);
        // A single input that lost a tenth of its frames.
        let single = of(&[(0, 10, 0.1)]);
        assert_eq!([single.mean_over(minute(10)), single.mean_over(minute(1))], [0.1, 0.1]);
        assert_eq!(LossPeriods::default().mean_over(minute(10)), 0.0);
    }
}
