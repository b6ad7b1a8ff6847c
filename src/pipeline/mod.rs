//! Organises the work: threads, channels, memory limits, stopping.
//!
//! ```text
//!  workers in turn: read a batch --> decode it, into tables of their own
//!                                        |
//!                        flow store -> conversations -> judgement
//! ```
//!
//! Any worker takes any batch. No packet and no flow requires access to shared data.

mod audit;
mod confine;
mod draft;
mod evidence;
mod live;
mod pages;
mod plan;
mod read;
mod serve;
mod source;
mod state;
mod syslog;
mod timings;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::capture::Filter;
use crate::flow::{MergedFlows, PrefixRetention, Retention};
use crate::model::{
    ActivityHistogram, Correction, Duplicates, FrameCounters, InputRecord, Loss, Merge, Nanos,
};

pub use crate::capture::{CaptureError, CaptureOptions, Interface, capture_kind, interfaces};
pub use crate::classify::Given;
pub use crate::flow::AggregationLevel;
pub use crate::report::{
    Baseline, LineFormat, Message, OutputPaths, WindowFolders, fits_manifest, folder_of,
};
pub use audit::{Audit, FailOn, Folders, Limits};
pub use confine::{ConfineError, Confinement, Sandbox, confine};
pub use draft::DraftedInventory;
pub use live::{
    Control, Listener, LiveEvent, LiveOptions, LiveOutcome, LiveSetup, WindowClosed, ready, watch,
};
pub use pages::{Duty, LiveSnapshot};
pub use plan::{Dedup, Plan, PlanError, Request};
pub use serve::{Auth, ServeError, listen, serve};
pub use source::{Chunk, Origin, Source};
pub use state::StateError;
pub use syslog::{Syslog, SyslogTarget, UnknownTarget};
pub use timings::{Step, Timings};

/// The progress of reading, for displays.
#[derive(Default)]
pub struct Progress {
    /// The number of bytes read from all sources.
    pub bytes: AtomicU64,
    /// The number of decoded frames.
    pub frames: AtomicU64,
    /// The number of frames known to be dropped by the kernel or an interface. A live audit updates
    /// it every second.
    pub lost: AtomicU64,
    /// Set to stop the work.
    pub stop: AtomicBool,
    /// The time that each step of the work took.
    pub timings: Timings,
}

impl Progress {
    /// Resets the counters before the sources are read again.
    fn reset(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.frames.store(0, Ordering::Relaxed);
    }
}

/// Why an audit failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// [`Progress::stop`] was set.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// These sources cannot be read (name and reason).
    #[error("{}", join_reasons(.0))]
    Sources(Vec<(String, String)>),
    /// Temporary files in this folder cannot be written or read.
    #[error("temporary files in {}: {error}", .0.display(), error = .1)]
    Temporary(PathBuf, #[source] io::Error),
    /// A capture thread does not respond.
    #[error("a capture thread does not respond; the disk of --write may hang; the audit ends")]
    Hung,
    /// Privileges that have to be given up cannot be.
    #[error(transparent)]
    Confinement(#[from] ConfineError),
    /// A report cannot be written (path and reason).
    #[error("{}: {error}", .0.display(), error = .1)]
    Output(PathBuf, #[source] io::Error),
}

/// Joins all names with their reasons.
fn join_reasons(sources: &[(String, String)]) -> String {
    let reasons = sources.iter().map(|(name, reason)| format!("{name} {reason}"));
    reasons.collect::<Vec<_>>().join("; ")
}

/// Returns a function that turns an error with temporary files in a folder into an [`AuditError`].
fn temporary(folder: &Path) -> impl FnOnce(io::Error) -> AuditError {
    |error| AuditError::Temporary(folder.to_owned(), error)
}

/// What was read.
pub struct Reading {
    /// The records of the sources, in order.
    pub inputs: Vec<InputRecord>,
    /// The counters of all frames.
    pub account: FrameCounters,
    /// The loss that the captures report.
    pub loss: Loss,
    /// When frames were captured.
    pub timeline: ActivityHistogram,
    /// The time of the latest frame. For several windows, it is the latest of the last window, even
    /// if a clock showed a later time before.
    pub end: Option<Nanos>,
    /// Packets that were captured more than once.
    pub duplicates: Duplicates,
    /// All flows.
    pub flows: MergedFlows,
}

impl Reading {
    /// Reads all sources.
    ///
    /// They are read a second time if a sample shows duplicate packets, or if a message that names
    /// a server continues in another segment. The second pass remembers every packet until its
    /// duplicates are found, and the start of the sides with such messages.
    pub fn of(plan: &Plan, progress: &Progress) -> Result<Self, AuditError> {
        // The packets of ready-made flows are not available here, so their duplicates cannot be
        // removed.
        let wanted = match plan.request.dedup {
            Dedup::On if !plan.origins.is_empty() => Dedup::Auto,
            wanted => wanted,
        };
        let rereadable = plan.is_rereadable();
        let parts = if rereadable { PrefixRetention::Starts } else { PrefixRetention::All };
        let mut retention = Retention { traces: wanted == Dedup::On, parts };
        let mut reading = read::run(plan, progress, &retention)?;
        let doubled = reading.duplicates.sample.shows_doubling();
        let correction = match wanted {
            Dedup::Off => Correction::Off,
            Dedup::On => Correction::Done,
            Dedup::Auto if !doubled => Correction::NotNeeded,
            Dedup::Auto if !rereadable => Correction::Impossible,
            Dedup::Auto => Correction::Done,
        };
        // For a message that names a server and continues in another segment, the second pass
        // searches all segments of that side.
        let sides = reading.flows.side.take_starts();
        let traces = correction == Correction::Done;
        if !sides.is_empty() || traces != retention.traces {
            drop(reading);
            progress.reset();
            retention = Retention { traces, parts: PrefixRetention::Of(Arc::new(sides)) };
            reading = read::run(plan, progress, &retention)?;
        }
        reading.duplicates.correction = correction;
        if reading.duplicates.correction == Correction::Done {
            reading.duplicates.removed =
                reading.flows.remove_duplicates().map_err(temporary(&plan.temp))?;
        }
        Ok(reading)
    }

    /// Returns the share of lost frames that the traffic itself shows. It is zero if counters
    /// include duplicates, which make up for lost frames.
    fn estimated(&self, share: f64) -> f64 {
        if self.duplicates.are_counted() { 0.0 } else { share }
    }

    /// Returns when frames were captured, without those whose timestamps are doubted, and the
    /// number of the doubted ones.
    fn believed(&self) -> (ActivityHistogram, u64) {
        self.timeline.without_outliers()
    }

    /// Returns the inputs that could be read only in part: name and error.
    fn damaged(&self) -> Vec<String> {
        let inputs = self.inputs.iter().filter(|input| !input.passed_over);
        inputs.filter_map(|i| Some(format!("{}: {}", i.name, i.error.as_ref()?))).collect()
    }

    /// Combines what was read from inputs. Duplicates are not removed yet.
    fn new(
        inputs: Vec<InputRecord>,
        timeline: ActivityHistogram,
        flows: MergedFlows,
        correction: Correction,
    ) -> Self {
        let (mut account, loss) = total(&inputs);
        limit_to_believed_times(&mut account, &timeline);
        let duplicates = Duplicates { sample: flows.duplicate_counts(), correction, removed: 0 };
        let end = account.last.get();
        Self { inputs, account, loss, timeline, end, duplicates, flows }
    }
}

/// Checks a filter expression for live interfaces.
///
/// # Errors
///
/// Returns an error if libpcap does not compile the expression.
pub fn check_filter(expression: &str) -> Result<(), CaptureError> {
    Filter::new(expression).map(drop)
}

/// Locks a mutex. If a thread panicked while it held the lock, another place ends the work.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Limits the first and last time of all frames to timestamps that are believed.
fn limit_to_believed_times(account: &mut FrameCounters, timeline: &ActivityHistogram) {
    let (believed, doubted) = timeline.without_outliers();
    if doubted > 0 {
        (account.first, account.last) = Default::default();
        believed.first().into_iter().for_each(|time| account.first.see(time));
        believed.last().into_iter().for_each(|time| account.last.see(time));
    }
}

/// Returns the totals of all inputs.
fn total(inputs: &[InputRecord]) -> (FrameCounters, Loss) {
    let mut account = FrameCounters::default();
    let mut loss = Loss::default();
    for input in inputs {
        account.merge(&input.account);
        loss.merge(&input.loss);
    }
    (account, loss)
}
