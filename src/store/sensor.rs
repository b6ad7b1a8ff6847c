//! Where and when the frames of an input were captured, if a sensor with a name captured them.

use serde::{Deserialize, Serialize};

use crate::model::{Nanos, VantagePoint};

/// The sensor that captured an input.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Sensor {
    /// The name of the vantage point.
    pub point: VantagePoint,
    /// The window; `None` if the input is a capture.
    pub window: Option<SensorWindow>,
}

impl Sensor {
    /// Returns the sensor of a capture.
    pub fn of_capture(point: &VantagePoint) -> Self {
        Self { point: point.clone(), window: None }
    }
}

/// A window of a live audit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct SensorWindow {
    /// When the window was opened.
    pub from: Nanos,
    /// When the window was closed.
    pub to: Nanos,
    /// A number that all windows of one run of the program have in common.
    pub run: u64,
    /// The number of frames whose evidence was dropped because memory was short, so that no row
    /// accounts for them.
    pub dropped: u64,
}
