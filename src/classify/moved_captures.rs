//! Captures that were made one after the other at different places. Each of them shows other
//! connections, so a connection that one of them lacks is not missing.

use std::collections::HashMap;
use std::net::IpAddr;

use super::capture_places::CapturePlaces;
use crate::conversation::CaptureIndex;
use crate::model::{Nanos, SECOND};

/// The connections of two consecutive periods.
#[derive(Clone, Copy, Default)]
struct PairComparison {
    /// The number of pairs of hosts in the first period, and of those with a host that the second
    /// period shows, too.
    before: [u64; 2],
    /// The same for the second period.
    after: [u64; 2],
    /// The number of pairs in both periods.
    common: u64,
}

impl PairComparison {
    /// Returns whether the periods were probably captured at different places: fewer than half of
    /// the pairs with a host of both periods occur in both, or none at all. The period with fewer
    /// such pairs counts, because a host may have been off in the other.
    fn shows_other_place(&self) -> bool {
        let ([all_before, before], [all_after, after]) = (self.before, self.after);
        all_before > 0 && all_after > 0 && (self.common == 0 || 2 * self.common < before.min(after))
    }
}

/// Returns whether two consecutive periods without interruption were probably captured at different
/// places. Periods that each show only the traffic of a single host do not count, because
/// [`CapturePlaces`] knows what they cover.
///
/// Captures of one place, too, show other on-demand traffic. But most connections of a farm recur
/// all the time.
pub(super) fn have_moved(index: &CaptureIndex, places: &CapturePlaces) -> bool {
    /// The minimum length of a period whose connections are compared, in nanoseconds.
    const MIN_PERIOD: Nanos = 60 * SECOND;
    let all = index.periods().iter().enumerate();
    let long = all.filter(|(_, (from, to))| to.saturating_sub(*from) >= MIN_PERIOD);
    let long: Vec<(usize, &(Nanos, Nanos))> = long.collect();
    let pairs: Vec<_> = index.pairs_by_period().map(|(pair, seen)| (*pair, *seen)).collect();
    let numbers: Vec<usize> = long.iter().map(|(number, _)| *number).collect();
    long.windows(2).zip(compare(&pairs, &numbers)).any(|(both, comparison)| {
        let is_single = |(_, period): &(usize, &_)| places.is_single_host(period);
        comparison.shows_other_place() && !both.iter().all(is_single)
    })
}

/// Compares each of these periods with the next one. Each pair of hosts has one bit for each period
/// that shows it.
fn compare(pairs: &[([IpAddr; 2], u64)], periods: &[usize]) -> Vec<PairComparison> {
    let mut hosts = HashMap::<IpAddr, u64, ahash::RandomState>::default();
    for (pair, seen) in pairs {
        pair.iter().for_each(|host| *hosts.entry(*host).or_default() |= seen);
    }
    let mut comparisons = vec![PairComparison::default(); periods.len().saturating_sub(1)];
    for (pair, seen) in pairs {
        let known = pair.iter().fold(0, |known, host| known | hosts[host]);
        for (comparison, both) in comparisons.iter_mut().zip(periods.windows(2)) {
            let [before, after] =
                [both[0], both[1]].map(|period| [*seen, known].map(|bits| has(bits, period)));
            comparison.before[0] += before[0];
            comparison.before[1] += before[0] & after[1];
            comparison.after[0] += after[0];
            comparison.after[1] += after[0] & before[1];
            comparison.common += before[0] & after[0];
        }
    }
    comparisons
}

/// Returns 1 if the bit of a period is set, otherwise 0.
fn has(bits: u64, period: usize) -> u64 {
    bits.unbounded_shr(period as u32) & 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether each period shows another place than the one before it. Hosts are numbers.
    fn moves(periods: &[&[[u8; 2]]]) -> Vec<bool> {
        let mut pairs = HashMap::<[IpAddr; 2], u64>::new();
        for (number, period) in periods.iter().enumerate() {
            for pair in *period {
                let pair = pair.map(|host| IpAddr::from([10, 0, 0, host]));
                *pairs.entry(pair).or_default() |= 1 << number;
            }
        }
        let pairs: Vec<_> = pairs.into_iter().collect();
        let numbers: Vec<usize> = (0..periods.len()).collect();
        compare(&pairs, &numbers).iter().map(PairComparison::shows_other_place).collect()
    }

    #[test]
    fn captures_of_one_place_have_most_connections_in_common() {
        let all = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3]];
        assert_eq!(moves(&[&all, &all, &all]), [false, false]);
        // Hosts are off for a while, or some traffic does not recur.
        assert_eq!(moves(&[&all, &[[0, 1], [1, 2]], &all]), [false, false]);
        assert_eq!(moves(&[&all, &[[0, 1], [1, 2], [2, 3]]]), [false]);
        assert_eq!(moves(&[&all, &[], &all]), [false, false]);
        assert!(moves(&[&all]).is_empty() && moves(&[]).is_empty());
    }

    #[test]
    fn captures_of_other_places_have_few_connections_in_common() {
        // A span port of the broker 0, and one of the directory 1.
        let of_broker = [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]];
        let of_directory = [[0, 1], [1, 2], [1, 3], [1, 4]];
        assert_eq!(moves(&[&of_broker, &of_directory, &of_broker]), [true, true]);
        assert_eq!(moves(&[&of_directory, &of_broker, &of_broker]), [true, false]);
        assert_eq!(moves(&[&of_broker, &[[1, 2], [1, 3]]]), [true]);
        assert_eq!(moves(&[&of_broker, &[[6, 7]]]), [true]);
    }
}
