//! The health of a live audit: which of its tasks fail, which interfaces are down, and how many
//! frames were not recorded. `pages.rs` serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::flow::AggregationLevel;
use crate::model::named_enum;
use crate::pipeline::lock;

named_enum!(
    /// A task of a live audit in addition to capturing.
    Duty {
        /// Write the reports of a window.
        Reports = "reports",
        /// Save the state.
        State = "state",
        /// Send findings to syslog.
        Syslog = "syslog",
        /// Record frames (`--write`).
        Frames = "frames",
    }
);

/// The state of a live audit, and what is served of it.
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
    /// The pages of the last window.
    #[cfg(feature = "serve")]
    pub(super) pages: super::pages::ServedPages,
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

    /// Counts aggregated flows.
    pub fn count_aggregated(&self, level: AggregationLevel, flows: u64) {
        *lock(&self.aggregated).entry(level).or_default() += flows;
    }

    /// Counts frames that are missing from the recorded files.
    pub fn count_unrecorded(&self, frames: u64) {
        self.unrecorded.fetch_add(frames, Ordering::Relaxed);
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
