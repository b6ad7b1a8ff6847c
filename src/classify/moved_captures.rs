//! Captures that were made one after the other at different places. Each of them shows other
//! connections, so a connection that one of them lacks is not missing.

use std::collections::{BTreeMap, BTreeSet};

use super::capture_places::CapturePlaces;
use super::judge::Judged;
use crate::conversation::{Conversations, TimeSpan};
use crate::model::{Nanos, SECOND};
use crate::policy::Party;

/// The minimum length of a period whose connections are compared, in nanoseconds. Most connections
/// of a farm recur within this time.
const LEAST: Nanos = 120 * SECOND;

/// The time of a capture: its start and its end.
type Period = (Nanos, Nanos);

/// Two listed hosts, the lower one first.
type Pair = [usize; 2];

/// Returns whether two consecutive periods without interruption were probably captured at different
/// places: of the connections of listed hosts that both periods show, fewer than half are the same.
/// Periods that each show only the traffic of a single host do not count, because [`CapturePlaces`]
/// knows what they cover.
///
/// Captures of one place, too, show other on-demand traffic. But most connections of a farm recur
/// all the time.
pub(super) fn have_moved(
    conversations: &Conversations,
    judged: &[Judged],
    places: &CapturePlaces,
) -> bool {
    let all = conversations.index.watched_periods().iter().copied();
    let periods: Vec<Period> = all.filter(|(from, to)| to.saturating_sub(*from) >= LEAST).collect();
    if periods.len() < 2 {
        return false;
    }
    // Conversations of a pair often have the same first and last period.
    let mut ranges: BTreeMap<Pair, BTreeSet<[usize; 2]>> = BTreeMap::new();
    for (c, j) in conversations.list.iter().zip(judged) {
        let [Some(a), Some(b)] = [&j.client, &j.server].map(Party::host) else { continue };
        if a != b && !c.broadcast && !c.is_made_up() && !c.rare().on_wire {
            let own = ranges.entry([a.min(b), a.max(b)]).or_default();
            own.extend(range_of(&TimeSpan { first: c.first, last: c.last }, &periods));
        }
    }
    let mut pairs = vec![BTreeSet::new(); periods.len()];
    for (pair, ranges) in ranges {
        for [from, to] in ranges {
            pairs[from..=to].iter_mut().for_each(|of_period| {
                of_period.insert(pair);
            });
        }
    }
    (1..periods.len()).any(|number| {
        are_of_different_places(&pairs[number - 1], &pairs[number])
            && !places.are_single_hosts(&periods[number - 1..=number])
    })
}

/// Returns the numbers of the first and the last period that a time span touches; `None` if it
/// touches none.
fn range_of(span: &TimeSpan, periods: &[Period]) -> Option<[usize; 2]> {
    let (first, last) = span.first.get().zip(span.last.get())?;
    let from = periods.partition_point(|(_, end)| *end < first);
    let beyond = periods.partition_point(|(start, _)| *start <= last);
    (from < beyond).then(|| [from, beyond - 1])
}

/// Returns whether fewer than half of the pairs that include a host of both periods occur in both.
/// The period with fewer such pairs counts, because a host may have been off in the other.
fn are_of_different_places(one: &BTreeSet<Pair>, other: &BTreeSet<Pair>) -> bool {
    if one.is_empty() || other.is_empty() {
        return false;
    }
    let hosts = |pairs: &BTreeSet<Pair>| pairs.iter().flatten().copied().collect::<BTreeSet<_>>();
    let (own, others) = (hosts(one), hosts(other));
    let is_known =
        |pair: &&Pair| pair.iter().any(|host| own.contains(host) && others.contains(host));
    let least = one.iter().filter(is_known).count().min(other.iter().filter(is_known).count());
    let common = one.intersection(other).count();
    2 * common < least || common == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn different(one: &[Pair], other: &[Pair]) -> bool {
        let [one, other] = [one, other].map(|pairs| pairs.iter().copied().collect());
        let found = are_of_different_places(&one, &other);
        assert_eq!(found, are_of_different_places(&other, &one));
        found
    }

    #[test]
    fn captures_of_one_place_have_most_connections_in_common() {
        let all = [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3]];
        assert!(!different(&all, &all));
        // Two hosts are off, or some traffic does not recur.
        assert!(!different(&all, &[[0, 1], [1, 2]]));
        assert!(!different(&all, &[[0, 1], [1, 2], [2, 3]]));
        assert!(!different(&all, &[]));
    }

    #[test]
    fn captures_of_other_places_have_few_connections_in_common() {
        // A span port of the broker 0, and one of the directory 1.
        let of_broker = [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]];
        assert!(different(&of_broker, &[[0, 1], [1, 2], [1, 3], [1, 4]]));
        assert!(different(&of_broker, &[[1, 2], [1, 3]]));
        assert!(different(&of_broker, &[[6, 7]]));
    }

    #[test]
    fn a_time_span_belongs_to_every_period_that_it_touches() {
        let periods = [(0, 100), (200, 300), (400, 500)];
        let range = |first, last| {
            let mut span = TimeSpan::at(first);
            span.see(last);
            range_of(&span, &periods)
        };
        assert_eq!(range(50, 60), Some([0, 0]));
        assert_eq!(range(100, 200), Some([0, 1]));
        assert_eq!(range(0, 500), Some([0, 2]));
        assert_eq!(range(250, 450), Some([1, 2]));
        assert_eq!(range(120, 180), None);
        assert_eq!(range_of(&TimeSpan::default(), &periods), None);
    }
}
