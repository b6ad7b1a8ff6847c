//! The current state of a live audit: which of its duties fail, which interfaces are down, how many
//! flows were aggregated, how many frames were not recorded, how many findings were not sent, how
//! large the files of rows are, and the pages that are served. `pages.rs` renders these pages and
//! the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "serve")]
use std::time::Instant;

#[cfg(feature = "serve")]
use bytes::Bytes;

use super::listener::{CollectedWindow, Duty};
use crate::flow::AggregationLevel;
use crate::pipeline::lock;

/// The pages that are served. They are updated after each window.
#[cfg(feature = "serve")]
pub(super) struct ServedPages {
    pub started: Instant,
    pub rendered: Mutex<RenderedPage>,
    /// The number of windows closed since the start.
    pub windows: AtomicU64,
}

#[cfg(feature = "serve")]
impl Default for ServedPages {
    fn default() -> Self {
        Self { started: Instant::now(), rendered: Mutex::default(), windows: AtomicU64::default() }
    }
}

/// The reports of all windows so far, as they are served.
#[cfg(feature = "serve")]
#[derive(Default)]
pub(super) struct RenderedPage {
    pub metrics: String,
    pub report: RenderedReport,
    /// The share of the last window's frames that were lost.
    pub loss: f64,
    /// When these pages were rendered; `None` before the first window is closed.
    pub closed: Option<Instant>,
}

/// The report of all windows so far, as JSON and as a page.
#[cfg(feature = "serve")]
#[derive(Default)]
pub struct RenderedReport {
    pub(super) json: Bytes,
    pub(super) page: Bytes,
}

/// The state of a live audit, and the pages that it serves.
#[derive(Default)]
pub struct LiveSnapshot {
    /// The duties whose last attempt failed, and how often each duty has failed.
    pub(super) failing: Mutex<(BTreeSet<Duty>, BTreeMap<Duty, u64>)>,
    /// The number of aggregated flows, by level.
    pub(super) aggregated: Mutex<BTreeMap<AggregationLevel, u64>>,
    /// The interfaces that cannot currently be read.
    pub(super) down: Mutex<Vec<String>>,
    /// The number of frames that are missing from the recorded files.
    pub(super) unrecorded: AtomicU64,
    /// The number of findings that were not sent to syslog and will not be sent.
    pub(super) unsent: AtomicU64,
    /// The rows of windows: the size of their files, and all that was removed since the start.
    pub(super) rows: Mutex<Option<CollectedWindow>>,
    /// The pages that are served.
    #[cfg(feature = "serve")]
    pub(super) pages: ServedPages,
}

impl LiveSnapshot {
    /// Records that a duty failed. Returns whether it had already failed at the last attempt.
    pub fn record_failure(&self, duty: Duty) -> bool {
        let (failing, counts) = &mut *lock(&self.failing);
        *counts.entry(duty).or_default() += 1;
        !failing.insert(duty)
    }

    /// Records that a duty succeeded.
    pub fn record_success(&self, duty: Duty) {
        lock(&self.failing).0.remove(&duty);
    }

    /// Returns whether output is missing: the last reports, state or rows, or recorded frames of
    /// any window. Findings that syslog did not accept are not missing, because the reports contain
    /// them.
    pub fn is_output_incomplete(&self) -> bool {
        let (failing, _) = &*lock(&self.failing);
        failing.iter().any(|duty| *duty != Duty::Syslog)
            || self.unrecorded.load(Ordering::Relaxed) > 0
    }

    /// Counts aggregated flows.
    pub fn count_aggregated(&self, level: AggregationLevel, flows: u64) {
        *lock(&self.aggregated).entry(level).or_default() += flows;
    }

    /// Counts frames that are missing from the recorded files.
    pub fn count_unrecorded(&self, frames: u64) {
        self.unrecorded.fetch_add(frames, Ordering::Relaxed);
    }

    /// Counts findings that will not be sent to syslog.
    pub fn count_unsent(&self, findings: u64) {
        self.unsent.fetch_add(findings, Ordering::Relaxed);
    }

    /// Records that the rows of a window were written.
    pub fn record_collected(&self, window: &CollectedWindow) {
        let rows = &mut *lock(&self.rows);
        let rows = rows.get_or_insert_default();
        rows.bytes = window.bytes;
        rows.removed_windows += window.removed_windows;
        rows.removed_frames += window.removed_frames;
    }

    /// Records that an interface can no longer be read.
    pub fn set_interface_down(&self, name: &str) {
        let mut down = lock(&self.down);
        down.retain(|known| known != name);
        down.push(name.to_owned());
    }

    /// Records that an interface is read again.
    pub fn set_interface_up(&self, name: &str) {
        lock(&self.down).retain(|known| known != name);
    }
}
