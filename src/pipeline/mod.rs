//! The order of work: threads, channels, memory limits, stopping.
//!
//! ```text
//!  workers in turn: read a batch --> decode it, into tables of their own
//!                                        |
//!                       the meeting -> conversations -> judgement
//! ```
//!
//! Any worker takes any batch. Nothing that is shared is touched for a packet or a flow.

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
pub use crate::report::{Baseline, Message, OutputPaths, WindowFolders, fits_manifest, folder_of};
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

/// How far the reading is; for whoever shows it.
#[derive(Default)]
pub struct Progress {
    /// Bytes read of all sources.
    pub bytes: AtomicU64,
    /// Frames decoded.
    pub frames: AtomicU64,
    /// Frames that the kernel or an interface is known to have dropped; of a live audit, each second.
    pub lost: AtomicU64,
    /// Set to stop the work.
    pub stop: AtomicBool,
    /// What each step of the work took.
    pub timings: Timings,
}

impl Progress {
    /// The reading starts anew.
    fn begin_again(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.frames.store(0, Ordering::Relaxed);
    }
}

/// Why the work could not be done.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Somebody set [`Progress::stop`].
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// These sources cannot be read: name and reason.
    #[error("{}", each(.0))]
    Sources(Vec<(String, String)>),
    /// Temporary files in this folder cannot be written or read.
    #[error("temporary files in {}: {error}", .0.display(), error = .1)]
    Temporary(PathBuf, #[source] io::Error),
    /// A thread that captures does not answer.
    #[error(
        "a capture thread does not answer: what it writes frames to may hang (--write); the audit ends here"
    )]
    Hung,
    /// Privileges that have to be given up cannot be.
    #[error(transparent)]
    Confinement(#[from] ConfineError),
    /// A report cannot be written: which, and why.
    #[error("{}: {error}", .0.display(), error = .1)]
    Output(PathBuf, #[source] io::Error),
}

/// All names with their reasons.
fn each(sources: &[(String, String)]) -> String {
    let told = sources.iter().map(|(name, reason)| format!("{name} {reason}"));
    told.collect::<Vec<_>>().join("; ")
}

/// What becomes of an error with the temporary files of a folder.
fn temporary(folder: &Path) -> impl FnOnce(io::Error) -> AuditError {
    |error| AuditError::Temporary(folder.to_owned(), error)
}

/// What was read.
pub struct Reading {
    /// One for each source, in order.
    pub inputs: Vec<InputRecord>,
    /// What became of all frames.
    pub account: FrameCounters,
    /// What the captures say they lost.
    pub loss: Loss,
    /// When frames were captured.
    pub timeline: ActivityHistogram,
    /// The latest frame; of windows that of the last one, whatever a clock said before.
    pub end: Option<Nanos>,
    /// Packets that were seen more than once.
    pub duplicates: Duplicates,
    /// All flows.
    pub flows: MergedFlows,
}

impl Reading {
    /// Reads all sources.
    ///
    /// Where a sample shows that packets were seen twice, or a message that names a server goes on in another
    /// segment, they are read a second time: then every packet is remembered until its copies are found, and the
    /// start of such sides.
    pub fn of(plan: &Plan, progress: &Progress) -> Result<Self, AuditError> {
        // What became of each packet of a flow that others have built only they know.
        let wanted = match plan.request.dedup {
            Dedup::On if !plan.origins.is_empty() => Dedup::Auto,
            wanted => wanted,
        };
        let again = plan.reads_again();
        let parts = if again { PrefixRetention::Starts } else { PrefixRetention::All };
        let mut keep = Retention { traces: wanted == Dedup::On, parts };
        let mut reading = read::run(plan, progress, &keep)?;
        let doubled = reading.duplicates.sample.shows_doubling();
        let correction = match wanted {
            Dedup::Off => Correction::Off,
            Dedup::On => Correction::Done,
            Dedup::Auto if !doubled => Correction::NotNeeded,
            Dedup::Auto if !again => Correction::Impossible,
            Dedup::Auto => Correction::Done,
        };
        // A message that names a server and goes on in another segment is looked for in all of its side's.
        let sides = reading.flows.side.take_starts();
        let traces = correction == Correction::Done;
        if !sides.is_empty() || traces != keep.traces {
            drop(reading);
            progress.begin_again();
            keep = Retention { traces, parts: PrefixRetention::Of(Arc::new(sides)) };
            reading = read::run(plan, progress, &keep)?;
        }
        reading.duplicates.correction = correction;
        if reading.duplicates.correction == Correction::Done {
            reading.duplicates.removed =
                reading.flows.drop_copies().map_err(temporary(&plan.temp))?;
        }
        Ok(reading)
    }

    /// A share of frames lost that the traffic itself shows; zero where amounts count copies, which
    /// stand in for what was lost.
    fn estimated(&self, share: f64) -> f64 {
        if self.duplicates.are_counted() { 0.0 } else { share }
    }

    /// When frames were captured, those aside whose stamps are doubted, and how many those are.
    fn believed(&self) -> (ActivityHistogram, u64) {
        self.timeline.believed()
    }

    /// The inputs that could be read only in part: name and what is wrong.
    fn damaged(&self) -> Vec<String> {
        let inputs = self.inputs.iter().filter(|input| !input.passed_over);
        inputs.filter_map(|i| Some(format!("{}: {}", i.name, i.error.as_ref()?))).collect()
    }

    /// What was read of inputs, not yet cleared of copies.
    fn new(
        inputs: Vec<InputRecord>,
        timeline: ActivityHistogram,
        flows: MergedFlows,
        correction: Correction,
    ) -> Self {
        let (mut account, loss) = total(&inputs);
        bound(&mut account, &timeline);
        let duplicates = Duplicates { sample: flows.copies(), correction, removed: 0 };
        let end = account.last.get();
        Self { inputs, account, loss, timeline, end, duplicates, flows }
    }
}

/// Checks a filter expression for live interfaces.
///
/// # Errors
///
/// Where libpcap does not compile it.
pub fn check_filter(expression: &str) -> Result<(), CaptureError> {
    Filter::new(expression).map(drop)
}

/// What a mutex guards. A thread that panicked with it ends the work elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Sets the time of all frames to that of those whose stamps are believed.
fn bound(account: &mut FrameCounters, timeline: &ActivityHistogram) {
    let (believed, doubted) = timeline.believed();
    if doubted > 0 {
        (account.first, account.last) = Default::default();
        believed.first().into_iter().for_each(|time| account.first.see(time));
        believed.last().into_iter().for_each(|time| account.last.see(time));
    }
}

/// Everything of all inputs.
fn total(inputs: &[InputRecord]) -> (FrameCounters, Loss) {
    let (mut account, mut loss) = (FrameCounters::default(), Loss::default());
    for input in inputs {
        account.merge(&input.account);
        loss.merge(&input.loss);
    }
    (account, loss)
}
