//! The inputs of each sensor: when it watched, and whether two sensors use one name.

use std::collections::BTreeMap;

use super::input::InputRow;
use super::sensor::{Sensor, SensorWindow};
use crate::model::{ActivityHistogram, Loss, Merge, Nanos, SECOND, VantagePoint};

/// The time by which windows of one sensor may overlap, in nanoseconds. The clock of a computer is
/// sometimes set back.
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

/// Returns the greatest share of frames that a sensor lost, from 0 to 1.
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
            // The next window of the same run begins when this one is closed.
            if next != Some(window.to) {
                times.extend(input.record.account.last.get());
            }
        }
    }
    times
}

/// Returns the windows of each sensor that overlap those of another run. Two sensors that use one
/// name hide each other's gaps. Each item names the second input and gives the reason.
pub(super) fn overlaps<'i>(inputs: impl Iterator<Item = &'i InputRow>) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (point, windows) in windows(inputs) {
        let overlap = windows.windows(2).find(|pair| {
            let [(first, _), (second, _)] = pair else { return false };
            first.run != second.run && first.to.saturating_sub(second.from) > TOLERANCE
        });
        if let Some([(_, first), (_, second)]) = overlap {
            let first = &first.record.name;
            wrong.push((
                second.record.name.clone(),
                format!(
                    "was captured at the same time as {first}, but both are of the sensor {point}; give each sensor a name of its own with --site and --sensor"
                ),
            ));
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
        let two = [window("a", 1, 0, 300), window("b", 2, 120, 420)];
        let found = overlaps(two.iter());
        assert!(matches!(&found[..], [(name, reason)] if name == "b"
            && reason.contains("same time as a") && reason.contains("sensor span")));
    }
}
