//! The rows of evidence of a sensor: they state which flows the sensor saw.

use std::collections::HashSet;

use crate::flow::EvidenceRow;
use crate::model::VantagePoint;
use crate::pipeline::WindowStart;

/// The number of rows that are remembered. A row that was forgotten is written again, and is merged
/// when the rows are sorted.
const REMEMBERED: usize = 1 << 16;

/// Turns rows of evidence into those of a sensor. Adds one row for all flows between two addresses
/// with the same transport and lower port, which states that the sensor saw them.
pub(super) struct SensorRows<'s> {
    sensor: Option<&'s VantagePoint>,
    known: HashSet<(WindowStart, Vec<u8>)>,
}

impl<'s> SensorRows<'s> {
    /// Returns the rows of a sensor. Without a sensor, rows are not changed and none are added.
    pub fn new(sensor: Option<&'s VantagePoint>) -> Self {
        Self { sensor, known: HashSet::new() }
    }

    /// Returns the row of the sensor, and the row to add if there is none for its flow in this
    /// window yet.
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
