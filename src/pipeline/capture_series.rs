//! Divides captures without a sensor name into series. Captures that follow one another may come
//! from one place. Captures that overlap in time may come from different places, where different
//! hosts are visible.

use crate::model::{ActivityHistogram, Nanos, SECOND};

/// The time by which two captures of one place may overlap, and the longest gap between them that
/// is ignored, in nanoseconds.
const TOLERANCE: Nanos = 60 * SECOND;

/// The time by which frames of one capture may be out of order, in nanoseconds. If a capture is cut
/// shortly after its start, the first piece may therefore begin after the second one.
const DISORDER: Nanos = SECOND;

/// The times of the first and the last frame of a capture.
pub(crate) type CaptureSpan = (Nanos, Nanos);

/// Divides captures into series. Captures of the same series overlap by at most a minute, or the
/// later one lasts at most a second and begins in the first second of the other. If a capture can
/// continue several series, it continues the one that ends last. The result does not depend on the
/// order of the captures.
fn series(mut captures: Vec<CaptureSpan>) -> Vec<Vec<CaptureSpan>> {
    captures.sort_unstable();
    let mut all: Vec<Vec<CaptureSpan>> = Vec::new();
    for capture in captures {
        let end_of = |series: &[CaptureSpan]| series.iter().map(|(_, end)| *end).max();
        let is_short = capture.1.saturating_sub(capture.0) <= DISORDER;
        let may_precede = |(start, end): &CaptureSpan| {
            end.saturating_sub(capture.0) <= TOLERANCE
                || is_short && capture.0.saturating_sub(*start) <= DISORDER
        };
        let continued = all
            .iter_mut()
            .filter(|series| series.iter().all(may_precede))
            .max_by_key(|series| end_of(series));
        match continued {
            Some(series) => series.push(capture),
            None => all.push(vec![capture]),
        }
    }
    all
}

/// When series of captures were captured.
#[derive(Default)]
pub(crate) struct SeriesTimes {
    /// For each series, the part of the timeline of all inputs in which it was captured.
    pub timelines: Vec<ActivityHistogram>,
    /// The periods in which a series was not captured although other inputs were. Unlike the
    /// timelines, they include the time before a series began and after it ended, however short.
    pub outages: Vec<(Nanos, Nanos)>,
}

/// Returns when each series of captures was captured. `all` is the timeline of all inputs, and
/// `has_others` states whether there are other inputs than these captures. Returns nothing if there
/// are no frames, or if the captures are one series and there are no other inputs, because all
/// inputs then have one timeline.
pub(crate) fn series_times(
    all: &ActivityHistogram,
    captures: impl Iterator<Item = CaptureSpan>,
    has_others: bool,
) -> SeriesTimes {
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return SeriesTimes::default();
    };
    // Implausible timestamps are not part of the timeline, so captures are limited to its range.
    let plausible = captures.map(|(start, end)| (start.max(first), end.min(last)));
    let series = series(plausible.filter(|(start, end)| start <= end).collect());
    let mut times = SeriesTimes::default();
    if series.len() < 2 && !has_others {
        return times;
    }
    for series in series {
        let mut gaps = Vec::new();
        let mut captured_to = first;
        for (start, end) in series.into_iter().chain([(last, last)]) {
            if start > captured_to {
                gaps.push((captured_to, start));
            }
            captured_to = captured_to.max(end);
        }
        let is_long = |(from, to): &(Nanos, Nanos)| to.saturating_sub(*from) > TOLERANCE;
        // Between two files of a series, a short gap may be a time without traffic.
        let is_outer = |(from, to): &(Nanos, Nanos)| *from == first || *to == last;
        times.outages.extend(gaps.iter().filter(|gap| is_long(gap) || is_outer(gap)));
        gaps.retain(is_long);
        times.timelines.push(all.without(&gaps));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ActivityBucket;

    fn watched_s(captures: &[(Nanos, Nanos)], has_others: bool) -> Vec<u64> {
        let mut all = ActivityHistogram::default();
        for second in (0..=3000).step_by(5) {
            let mut slot = ActivityBucket::WATCHED;
            slot.see(second * SECOND, 60);
            all.add(second / 10, &slot);
        }
        let captures = captures.iter().map(|(start, end)| (start * SECOND, end * SECOND));
        let found = series_times(&all, captures, has_others);
        found.timelines.iter().map(ActivityHistogram::watched_s).collect()
    }

    #[test]
    fn captures_that_follow_one_another_are_one_series() {
        assert!(watched_s(&[(0, 1000), (990, 2000), (2000, 3000)], false).is_empty());
        // The frames of a capture that was cut after its first frame are out of order.
        assert!(watched_s(&[(1, 1), (0, 3000)], false).is_empty());
        // The short files of another place are a series of their own.
        let mut short: Vec<(i64, i64)> = (0..1500).map(|second| (second, second)).collect();
        short.push((0, 3000));
        let found = watched_s(&short, false);
        assert_eq!(found.len(), 2);
        assert!(found.iter().any(|seconds| (1480..=1520).contains(seconds)), "{found:?}");
        // Two series of two files each, in any order.
        let four = [(1000, 2990), (0, 1500), (1500, 3000), (0, 1000)];
        assert!(watched_s(&four, false).iter().all(|seconds| *seconds >= 2980));
    }

    #[test]
    fn a_series_that_does_not_cover_all_of_the_capture_has_outages() {
        let mut all = ActivityHistogram::default();
        for second in [0, 1000, 2000, 3000] {
            let mut slot = ActivityBucket::WATCHED;
            slot.see(second * SECOND, 60);
            all.add(second / 10, &slot);
        }
        let outages = |captures: &[CaptureSpan]| {
            let captures = captures.iter().map(|(start, end)| (start * SECOND, end * SECOND));
            let found = series_times(&all, captures, false).outages.into_iter();
            found.map(|(from, to)| (from / SECOND, to / SECOND)).collect::<Vec<_>>()
        };
        assert_eq!(outages(&[(0, 3000), (0, 1500)]), [(1500, 3000)]);
        // The way in which a series was cut does not matter.
        let cut = [(0, 3000), (0, 700), (710, 1500), (2000, 2970)];
        assert_eq!(outages(&cut), [(1500, 2000), (2970, 3000)]);
        assert_eq!(outages(&[(0, 3000), (20, 3000)]), [(0, 20)]);
        assert!(outages(&[(0, 700), (710, 3000)]).is_empty());
    }

    #[test]
    fn a_gap_in_a_series_is_a_time_in_which_it_was_not_captured() {
        let found = watched_s(&[(0, 3000), (0, 1000), (1900, 3000)], false);
        assert_eq!(found.len(), 2);
        let shortest = found.iter().min().copied().unwrap_or_default();
        assert!((1080..=1100).contains(&shortest), "{found:?}");
        // A single capture is compared with inputs of other places.
        let found = watched_s(&[(0, 500)], true);
        assert!(matches!(found[..], [480..=510]), "{found:?}");
        // Timestamps outside of the timeline are ignored.
        assert!(watched_s(&[(-5000, 9000), (5000, 6000)], false).is_empty());
    }
}
