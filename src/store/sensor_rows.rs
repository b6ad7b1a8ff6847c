//! Marks the rows of evidence of a sensor, and adds rows that state which flows the sensor saw.

use std::collections::HashSet;

use crate::flow::EvidenceRow;
use crate::model::VantagePoint;
use crate::pipeline::WindowStart;

/// The maximum number of added rows that are remembered. A row that was forgotten is added again,
/// and both are merged after the rows are sorted.
const REMEMBERED: usize = 1 << 16;

/// Turns rows of evidence into those of a sensor. Adds one row for all flows between two addresses
/// with the same transport, lower port and path. The row states that the sensor saw them.
pub(super) struct SensorRows<'s> {
    sensor: Option<&'s VantagePoint>,
    known: HashSet<(WindowStart, Vec<u8>)>,
}

impl<'s> SensorRows<'s> {
    /// Creates the converter for a sensor. Without a sensor, rows are not changed and none are
    /// added.
    pub fn new(sensor: Option<&'s VantagePoint>) -> Self {
        Self { sensor, known: HashSet::new() }
    }

    /// Returns the row as evidence of the sensor, and the row to add if none is known yet for the
    /// group of its flow in this window.
    pub fn of(
        &mut self,
        window: WindowStart,
        row: EvidenceRow,
    ) -> (EvidenceRow, Option<EvidenceRow>) {
        let Some(sensor) = self.sensor else { return (row, None) };
        let sighting = row.sighting(sensor);
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let added = sighting.filter(|row| self.known.insert((window, row.key.clone())));
        (row.from_point(sensor), added)
    }
}
