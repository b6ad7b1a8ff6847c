//! Draws traffic and findings over time.

use maud::{Markup, html};

use super::wording::time_utc;
use crate::classify::Severity;
use crate::model::{BUCKET_NS, Nanos, SECOND};
use crate::result::{AuditResult, Time, plural};

/// The maximum number of bars.
const BARS: usize = 180;
const WIDTH: usize = 900;
const LEFT: usize = 90;
const HEIGHT: u64 = 120;
/// The height of a lane of findings.
const LANE: usize = 18;

/// A division of time into bins of equal length. The fields are wider than [`Nanos`], because the
/// difference between two arbitrary times can overflow it.
pub(super) struct TimeBins {
    start: i128,
    length: i128,
    pub count: usize,
}

impl TimeBins {
    /// Divides the time from `first` to `last` into at most `most` bins. Their length is a multiple
    /// of 10 s, or of one hour if the time is longer than a day.
    pub fn between(first: Nanos, last: Nanos, most: usize) -> Self {
        let bucket = i128::from(BUCKET_NS);
        let [low, high] = [first, last].map(|time| i128::from(time).div_euclid(bucket));
        let div_up = |number: i128, by: i128| (number + by - 1) / by;
        // The older part of a long timeline has a resolution of one hour, so shorter bins would
        // show gaps.
        let hour = 3600 * i128::from(SECOND) / bucket;
        let unit = if high - low > 24 * hour { hour } else { 1 };
        let low = low.div_euclid(unit) * unit;
        let tens = (high - low + 1).max(1);
        let length = div_up(div_up(tens, most as i128), unit) * unit;
        let count = div_up(tens, length) as usize;
        Self { start: low * bucket, length: length * bucket, count }
    }

    /// Returns the index of the bin that contains a time, or of the nearest bin.
    pub fn of(&self, time: Nanos) -> usize {
        let bin = (i128::from(time) - self.start).div_euclid(self.length);
        usize::try_from(bin).unwrap_or(0).min(self.count - 1)
    }

    /// Returns the length of a bin in seconds.
    pub fn seconds(&self) -> i128 {
        self.length / i128::from(SECOND)
    }
}

pub(super) fn draw(result: &AuditResult<'_>) -> Markup {
    let window = &result.head.window;
    let (Some(Time(first)), Some(Time(last))) = (window.first, window.last) else {
        return html! {
            section #timeline aria-labelledby="timeline-title" {
                h2 #timeline-title { "Traffic and findings over time" }
                p { "No frame with a timestamp was audited." }
            }
        };
    };
    let bins = TimeBins::between(first, last, BARS);
    let mut bars = vec![(0u64, 0u64); bins.count];
    for (seconds, frames, bytes) in &result.head.timeline {
        let bar = &mut bars[bins.of(seconds.saturating_mul(SECOND))];
        bar.0 = bar.0.saturating_add(*frames);
        bar.1 = bar.1.saturating_add(*bytes);
    }
    let most = bars.iter().map(|bar| bar.0).max().unwrap_or(0).max(1);
    let lanes: Vec<(Severity, Vec<u64>)> = Severity::ALL
        .iter()
        .rev()
        .filter_map(|severity| Some((*severity, count_findings(result, *severity, &bins)?)))
        .collect();
    let x = |bin: usize| LEFT + bin * (WIDTH - LEFT) / bins.count;
    let width = |bin: usize| (x(bin + 1) - x(bin)).max(1);
    let lane_y = |lane: usize| HEIGHT as usize + 10 + lane * LANE;
    let bottom = lane_y(lanes.len()) + 4;
    let label = format!(
        "Frames in each interval of {} s (maximum {most}), from {} to {}{}",
        bins.seconds(),
        time_utc(Time(first)),
        time_utc(Time(last)),
        if lanes.is_empty() {
            ""
        } else {
            "; below the frames, the findings, each from its first to its last packet"
        }
    );
    html! {
        section #timeline aria-labelledby="timeline-title" {
            h2 #timeline-title { "Traffic and findings over time" }
            figure { div.scroll tabindex="0" role="region" aria-label="Drawing of the timeline" {
                svg viewBox={ "0 0 " (WIDTH) " " (bottom + 20) } role="img" aria-label=(label) {
                    line.axis x1=(LEFT) y1=(HEIGHT) x2=(WIDTH) y2=(HEIGHT) {}
                    text x=(LEFT - 6) y="12" text-anchor="end" { (most) }
                    text x=(LEFT - 6) y=(HEIGHT) text-anchor="end" { "frames" }
                    @for (bin, (frames, bytes)) in bars.iter().enumerate().filter(|(_, bar)| bar.0 > 0) {
                        // A bar is always visible, even if it represents few frames.
                        @let height = (u128::from(*frames) * u128::from(HEIGHT - 4) / u128::from(most)).max(1) as u64;
                        rect.bar x=(x(bin)) y=(HEIGHT - height) width=(width(bin)) height=(height) {
                            title { (plural(*frames, "frame")) ", " (plural(*bytes, "byte")) }
                        }
                    }
                    @for (number, (severity, counts)) in lanes.iter().enumerate() {
                        text x=(LEFT - 6) y=(lane_y(number) + LANE - 6) text-anchor="end" { (severity.name()) }
                        @for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                            rect class={ "mark severity " (severity.name()) } x=(x(bin)) y=(lane_y(number) + 2)
                                width=(width(bin)) height=(LANE - 4) {
                                title { (plural(*count, "finding")) " of severity " (severity.name()) }
                            }
                        }
                    }
                    text x=(LEFT) y=(bottom + 14) { (time_utc(Time(first))) }
                    text x=(WIDTH) y=(bottom + 14) text-anchor="end" { (time_utc(Time(last))) }
                }
                }
                figcaption { (label) "." }
            }
        }
    }
}

/// Returns the number of findings of a severity in each bin; `None` if no finding has
/// this severity.
fn count_findings(
    result: &AuditResult<'_>,
    severity: Severity,
    bins: &TimeBins,
) -> Option<Vec<u64>> {
    // A finding adds one to the step of its first bin, and subtracts one from the step after its
    // last bin. The running sum of the steps is the number of findings in each bin.
    let mut steps = vec![0i64; bins.count + 1];
    for finding in result.briefs().filter(|f| f.severity == severity) {
        if let (Some(first), Some(last)) = (finding.first, finding.last) {
            steps[bins.of(first)] += 1;
            steps[bins.of(last) + 1] -= 1;
        }
    }
    let mut now = 0;
    let counts: Vec<u64> = steps[..bins.count]
        .iter()
        .map(|step| {
            now += step;
            now.unsigned_abs()
        })
        .collect();
    counts.iter().any(|count| *count > 0).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_all_of_the_time_whatever_the_clock_says() {
        for (first, last) in [
            (0, 0),
            (0, 3600 * SECOND),
            (5 * SECOND, 1_234_567 * SECOND),
            (-1, 1),
            (Nanos::MIN + 1, Nanos::MAX),
        ] {
            let bins = TimeBins::between(first, last, BARS);
            assert!((1..=BARS).contains(&bins.count), "{first} {last}: {}", bins.count);
            assert_eq!(bins.of(first), 0);
            assert_eq!(bins.of(last), bins.count - 1, "{first} {last}");
        }
        assert_eq!(TimeBins::between(0, 3600 * SECOND, 360).count, 181);
    }
}
