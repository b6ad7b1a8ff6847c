//! The inputs of each sensor: when it watched, what it lost, and whether two sensors use one name.

use std::collections::BTreeMap;

use super::input::InputRow;
use super::sensor::{Sensor, SensorWindow};
use crate::model::{ActivityHistogram, Loss, Merge, Nanos, SECOND, VantagePoint};

/// The time by which the runs and captures of one sensor may overlap, in nanoseconds. The clock of
/// a computer is sometimes set back.
const TOLERANCE: Nanos = 60 * SECOND;

/// Returns when each sensor watched.
pub(super) fn timelines<'i>(
    inputs: impl Iterator<Item = &'i InputRow>,
) -> BTreeMap<VantagePoint, ActivityHistogram> {
    let mut points: BTreeMap<VantagePoint, ActivityHistogram> = BTreeMap::new();
    for input in inputs {
        if let Some(sensor) = &input.sensor {
            points.entry(sensor.point.clone()).or_default().merge(&input.timeline);
        }
    }
    points
}

/// Returns the greatest share of frames that a sensor lost, from 0 to 1; 0 if there are no sensors.
pub(super) fn greatest_loss<'i>(inputs: impl Iterator<Item = &'i InputRow>) -> f64 {
    let mut points: BTreeMap<&VantagePoint, Loss> = BTreeMap::new();
    for input in inputs {
        if let Some(sensor) = &input.sensor {
            points.entry(&sensor.point).or_default().merge(&input.record.loss);
        }
    }
    points.into_values().map(Loss::share).fold(0.0, f64::max)
}

/// Returns the windows of each sensor, in order of time, each with its input.
fn windows<'i>(
    inputs: impl Iterator<Item = &'i InputRow>,
) -> BTreeMap<&'i VantagePoint, Vec<(&'i SensorWindow, &'i InputRow)>> {
    let mut windows: BTreeMap<&VantagePoint, Vec<(&SensorWindow, &InputRow)>> = BTreeMap::new();
    for input in inputs {
        if let Some(Sensor { point, window: Some(window) }) = &input.sensor {
            windows.entry(point).or_default().push((window, input));
        }
    }
    for own in windows.values_mut() {
        own.sort_by_key(|(window, _)| (window.from, window.to, window.run));
    }
    windows
}

/// Returns the times of the last frames before a live audit stopped, or before a window whose rows
/// are missing.
pub(super) fn interruptions<'i>(inputs: impl Iterator<Item = &'i InputRow>) -> Vec<Nanos> {
    let mut times = Vec::new();
    for own in windows(inputs).into_values() {
        let next = own.iter().skip(1).map(|(window, _)| Some(window.from)).chain([None]);
        for ((window, input), next) in own.iter().zip(next) {
            // If the next window is not missing and belongs to the same run, it begins when this
            // one was closed.
            if next != Some(window.to) {
                times.extend(input.record.account.last.get());
            }
        }
    }
    times
}

/// The period of a run of a live audit, or of a capture. Breaks within the period are ignored.
struct SensorSpan<'i> {
    from: Nanos,
    to: Nanos,
    /// The name of the capture, or of the first window of the run.
    name: &'i str,
}

/// Returns the runs and captures of each sensor.
fn spans<'i>(
    inputs: impl Iterator<Item = &'i InputRow>,
) -> BTreeMap<&'i VantagePoint, Vec<SensorSpan<'i>>> {
    let mut runs: BTreeMap<(&VantagePoint, u64), SensorSpan<'i>> = BTreeMap::new();
    let mut spans: BTreeMap<&VantagePoint, Vec<SensorSpan<'i>>> = BTreeMap::new();
    for input in inputs {
        let name = input.record.name.as_str();
        match &input.sensor {
            Some(Sensor { point, window: Some(SensorWindow { from, to, run, .. }) }) => {
                let (from, to) = (*from, *to);
                let known = runs.entry((point, *run)).or_insert(SensorSpan { from, to, name });
                // The error names the first window of a run.
                if (from, name) < (known.from, known.name) {
                    (known.from, known.name) = (from, name);
                }
                known.to = known.to.max(to);
            }
            Some(Sensor { point, window: None }) => {
                // Implausible timestamps do not show when a capture was made.
                let (plausible, _) = input.timeline.without_outliers();
                if let (Some(from), Some(to)) = (plausible.first(), plausible.last()) {
                    spans.entry(point).or_default().push(SensorSpan { from, to, name });
                }
            }
            None => {}
        }
    }
    for ((point, _), span) in runs {
        spans.entry(point).or_default().push(span);
    }
    for own in spans.values_mut() {
        own.sort_by_key(|span| (span.from, span.to, span.name));
    }
    spans
}

/// Returns, for each sensor, the first run or capture that overlaps an earlier one by more than
/// [`TOLERANCE`]. Two sensors that use one name hide each other's breaks. Each item names the later
/// input and gives the reason.
pub(super) fn overlaps<'i>(inputs: impl Iterator<Item = &'i InputRow>) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (point, spans) in spans(inputs) {
        let mut spans = spans.into_iter();
        let Some(mut last) = spans.next() else { continue };
        for span in spans {
            if last.to.saturating_sub(span.from).min(span.to.saturating_sub(span.from)) > TOLERANCE
            {
                let first = last.name;
                wrong.push((
                    span.name.to_owned(),
                    format!(
                        "was captured at the same time as {first}, but both are of the sensor {point}; give each sensor a name of its own with --site and --sensor"
                    ),
                ));
                break;
            }
            if span.to > last.to {
                last = span;
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::InputRecord;

    fn window(name: &str, run: u64, from_s: Nanos, to_s: Nanos) -> InputRow {
        let point = VantagePoint::new(None, "span").expect("a name");
        let (from, to) = (from_s * SECOND, to_s * SECOND);
        let window = Some(SensorWindow { from, to, run, dropped: 0 });
        InputRow {
            tool: String::new(),
            options: Default::default(),
            content: Default::default(),
            record: InputRecord { name: name.to_owned(), ..InputRecord::default() },
            timeline: ActivityHistogram::default(),
            manifest: Vec::new(),
            windows: Vec::new(),
            sensor: Some(Sensor { point, window }),
        }
    }

    #[test]
    fn two_sensors_with_one_name_are_found_and_a_restart_is_not_one() {
        let restart = [window("a", 1, 0, 300), window("b", 1, 300, 600), window("c", 2, 590, 900)];
        assert_eq!(overlaps(restart.iter()), []);
        let mut stopped = restart.clone();
        for (number, input) in stopped.iter_mut().enumerate() {
            input.record.account.last.see(number as Nanos);
        }
        // The first window is followed by another one of its run; the other two are not.
        assert_eq!(interruptions(stopped.iter()), [1, 2]);
        // Two windows of a minute overlap by at most a minute, but two runs at the same time
        // overlap by more.
        let short = [1, 2].map(|run| {
            let minutes = (0..5).map(move |minute| (run, minute * 60, minute * 60 + 60));
            minutes
                .map(|(run, from, to)| window(&format!("{run}-{from}"), run, from + run as i64, to))
        });
        let short: Vec<InputRow> = short.into_iter().flatten().collect();
        let found = overlaps(short.iter());
        assert!(
            matches!(&found[..], [(name, reason)] if name == "2-0"
            && reason.contains("same time as 1-0")),
            "{found:?}"
        );
        let two = [window("a", 1, 0, 300), window("b", 2, 120, 420)];
        let found = overlaps(two.iter());
        assert!(matches!(&found[..], [(name, reason)] if name == "b"
            && reason.contains("same time as a") && reason.contains("sensor span")));
    }
}
