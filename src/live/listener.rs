//! The caller's side of a live audit: events, closed windows and the outcome.

use std::time::{Duration, Instant};

use super::state::StateError;
use crate::flow::AggregationLevel;
use crate::model::named_enum;
use crate::pipeline::{Audit, Reading};
use crate::policy::Policy;
use crate::report::Baseline;

/// An event that a live audit reports while it runs.
#[derive(Clone, Debug)]
pub enum LiveEvent {
    /// An interface does not exist yet (name). The audit keeps trying.
    InterfaceMissing(String),
    /// An interface can no longer be read (name and reason). The audit keeps trying.
    InterfaceDown(String, String),
    /// An interface is being read now, after it was down or missing for this time (name and time).
    InterfaceUp(String, Duration),
    /// Memory ran short, and this many flows were aggregated to this level.
    Aggregated(AggregationLevel, u64),
    /// Memory ran short, and this many entries of side evidence were dropped, such as address
    /// claims, DNS queries, fragments and packets without ports.
    EvidenceDropped(u64),
    /// The state of an earlier run is damaged (file and reason). If a complete older state exists,
    /// it is used. Otherwise, the audit starts without a state.
    StateBroken(StateError),
    /// The state of an earlier run was restored, with this many flows.
    Restored(u64),
    /// The state could not be written.
    NotSaved(StateError),
    /// The state was written.
    Saved,
    /// No frame of the window is known to be missing from the recorded files.
    Recorded,
    /// A capture thread has not handed over its part of the window yet. The audit waits for it.
    Waiting,
    /// Idle flows could not be written to disk and stay in memory (reason).
    NotSpilled(String),
    /// Frames could not be recorded (reason). If the audit continues, recording is attempted again
    /// in the next window.
    NotRecorded(String),
    /// At least this many frames are missing from the recorded files, because the disk did not keep
    /// up with the traffic or could not be written to. The audit itself contains them.
    RecordingGap(u64),
    /// The rows of the window could not be written (reason). The next rows that are written state
    /// that these rows are missing.
    NotCollected(String),
    /// The rows of the window were written.
    Collected(CollectedWindow),
}

/// The outcome of writing the rows of a window.
#[derive(Clone, Copy, Default, Debug)]
pub struct CollectedWindow {
    /// The total size, in bytes, of the row files of all windows that are kept.
    pub bytes: u64,
    /// The number of older windows whose rows were removed because the files exceeded their limit.
    pub removed_windows: u64,
    /// The number of frames in the windows whose rows were removed.
    pub removed_frames: u64,
}

/// A closed window: its audit, and the audit of all windows so far.
pub struct WindowClosed<'a> {
    /// The audit of this window.
    pub window: &'a Audit<&'a mut Reading>,
    /// The audit of all windows so far.
    pub all: &'a Audit<&'a mut Reading>,
    /// The findings of all windows before this one.
    pub before: &'a Baseline,
    /// When the window ended.
    pub ended: Instant,
}

/// The caller's side of a live audit: receives its events and supplies the policy.
pub trait Listener: Sync {
    /// Receives an event.
    fn on_event(&self, event: &LiveEvent);
    /// Loads the policy from its files again. Returns `None` if they are not valid. The
    /// implementation reports the errors.
    fn reload(&self) -> Option<Policy>;
    /// Receives a closed window. The implementation reports its own errors, which do not end the
    /// audit.
    fn on_window_closed(&self, closed: &WindowClosed<'_>);
}

/// The outcome of a live audit, which determines the exit status.
pub struct LiveOutcome {
    /// Whether the findings of all windows together fail the audit.
    pub failed: bool,
    /// Whether nothing was checked although a check was required.
    pub unchecked: bool,
    /// Whether an interface could not be read for some time.
    pub partial: bool,
}

impl Duty {
    /// Returns a sentence about a failure of this task.
    pub fn failure(self) -> &'static str {
        match self {
            Self::Reports => "the reports of the last window could not be written",
            Self::State => "the state could not be saved",
            Self::Syslog => "findings could not be sent to syslog",
            Self::Frames => "frames could not be recorded (--write)",
            Self::Rows => "the rows of the last window could not be written (--collect)",
        }
    }
}

named_enum!(
    /// A task of a live audit in addition to capturing.
    Duty {
        /// Writing the reports of a window.
        Reports = "reports",
        /// Saving the state.
        State = "state",
        /// Sending findings to syslog.
        Syslog = "syslog",
        /// Recording frames (`--write`).
        Frames = "frames",
        /// Writing the rows of a window (`--collect`).
        Rows = "rows",
    }
);
