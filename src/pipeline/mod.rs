//! Coordinates the work: threads, channels, memory limits and stopping.
//!
//! ```text
//!  each worker in turn: reads a batch --> decodes it into its own tables
//!                                             |
//!                             flow store -> conversations -> judgement
//! ```
//!
//! Any worker can process any batch. While workers process packets and flows, they share only the
//! numbers of encapsulations and a few counters.

mod audit;
mod capture_series;
mod decide;
mod draft;
mod evidence;
mod limits;
mod plan;
mod read;
mod settings;
mod source;
mod timings;
mod unfinished;
mod windows;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::capture::Filter;
use crate::flow::{MergedFlows, OpenMessages, PacketRetention, PrefixRetention, Retention};
use crate::model::{
    ActivityHistogram, Correction, Duplicates, FrameCounters, InputRecord, Loss, Merge, Nanos,
    VantagePoint, name_and_reason,
};

pub use crate::capture::{CaptureError, Unreadable, capture_kind};
#[cfg(feature = "bpf")]
pub use crate::capture::{CaptureOptions, Interface, interfaces};
pub use crate::classify::Given;
use crate::classify::LossPeriods;
#[cfg(feature = "live")]
pub(crate) use crate::conversation::TrustedMirrors;
pub use crate::flow::AggregationLevel;
pub use crate::report::{
    Baseline, JsonLayout, LineFormat, Message, OutputPaths, ReportFiles, WindowFolders, digest_of,
    fits_manifest, folder_of, is_leftover,
};
pub use crate::result::ConfigurationFile;
#[cfg(feature = "live")]
pub(crate) use audit::FlowRetention;
pub use audit::{Audit, Folders};
pub use draft::DraftedInventory;
pub use limits::{FailOn, Limits};
pub use plan::{Dedup, Plan, PlanError, Request, StoredInput};
#[cfg(feature = "live")]
pub(crate) use read::{ETHERNET, Worker, WorkerCounters};
pub use source::{Chunk, Origin, SharedEvidence, Source};
pub use timings::{Step, Timings};
pub use unfinished::UnfinishedFiles;
pub use windows::{CollectedInput, RowSink, WindowStart};

/// The progress of reading, for progress displays. If the sources are read again, the counters of
/// bytes and frames start again from zero.
#[derive(Default)]
pub struct Progress {
    /// The number of bytes read from all sources, before decompression.
    pub bytes: AtomicU64,
    /// The number of processed frames, including those that were skipped.
    pub frames: AtomicU64,
    /// The number of frames known to be dropped by the kernel or an interface. A live audit updates
    /// it every second.
    pub lost: AtomicU64,
    /// Set to stop the work.
    pub stop: AtomicBool,
    /// The time that each step of the work took.
    pub timings: Timings,
    /// The files that are being written and are of no use until they are complete.
    pub unfinished: UnfinishedFiles,
}

impl Progress {
    /// Resets the byte and frame counters before the sources are read again.
    fn reset(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.frames.store(0, Ordering::Relaxed);
    }
}

/// The reason why an audit failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// [`Progress::stop`] was set.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// These sources cannot be used (name and reason).
    #[error("{}", join_reasons(.0))]
    Sources(Vec<(String, String)>),
    /// Temporary files in this folder cannot be written or read.
    #[error("temporary files in {} cannot be written or read: {error}", .0.display(), error = .1)]
    Temporary(PathBuf, #[source] io::Error),
    /// A capture thread does not respond.
    #[error("a capture thread does not respond; the audit ends")]
    Hung,
    /// The process cannot give up its privileges as required.
    #[error("{0}")]
    Confinement(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Output (a report, the evidence of findings, the state of a live audit, recorded frames or
    /// evidence rows) cannot be written, or the state cannot be read. Contains the path and the
    /// reason.
    #[error("{}: {error}", .0.display(), error = .1)]
    Output(PathBuf, #[source] io::Error),
}

/// Joins the names and their reasons into one message.
fn join_reasons(sources: &[(String, String)]) -> String {
    let reasons = sources.iter().map(|(name, reason)| format!("{name} {reason}"));
    reasons.collect::<Vec<_>>().join("; ")
}

/// Returns a function that turns an I/O error on temporary files in this folder into an
/// [`AuditError`].
pub(crate) fn temporary(folder: &Path) -> impl FnOnce(io::Error) -> AuditError {
    |error| AuditError::Temporary(folder.to_owned(), error)
}

/// The result of reading the sources.
pub struct Reading {
    /// The records of the sources, in order.
    pub inputs: Vec<InputRecord>,
    /// The counters of all frames.
    pub account: FrameCounters,
    /// The loss according to the counters of the captures.
    pub loss: Loss,
    /// When frames were captured.
    pub timeline: ActivityHistogram,
    /// The time of the latest frame. For several windows, this is the latest frame of the last
    /// window with frames, even if an earlier window contains a later time.
    pub end: Option<Nanos>,
    /// Statistics of the packets that were captured more than once.
    pub duplicates: Duplicates,
    /// The greatest share of frames, from 0 to 1, that a vantage point with a name lost.
    pub vantage_loss: f64,
    /// When each vantage point with a name watched.
    pub vantages: BTreeMap<VantagePoint, ActivityHistogram>,
    /// The timeline of each series of captures that have no sensor name. Empty if there is only one
    /// series and no vantage point has a name.
    pub(crate) series: Vec<ActivityHistogram>,
    /// The periods in which one of these series was not captured although other inputs were.
    pub(crate) outages: Vec<(Nanos, Nanos)>,
    /// All flows.
    pub flows: MergedFlows,
}

impl Reading {
    /// Reads all sources.
    ///
    /// With [`Dedup::Auto`], sources that can be read again are read a second time if a sample
    /// shows duplicate packets, or if several sensors saw the same conversation. The second pass
    /// remembers every packet, so that duplicates can be removed.
    ///
    /// Such sources are also read a second time if a message that contains a server name continues
    /// in another segment. The second pass then remembers the first bytes from each side that sent
    /// such a message. For stored evidence, a small part that is read in advance shows these sides
    /// and whether there are duplicates, so that the first pass can already remember what is
    /// needed.
    pub fn of(plan: &Plan, progress: &Progress) -> Result<Self, AuditError> {
        // The packets behind ready-made flows are not available, so their duplicates cannot be
        // removed.
        let has_packets = match &plan.shared {
            Some(shared) => shared.has_packets(),
            None => plan.origins.is_empty(),
        };
        let wanted = match plan.request.dedup {
            Dedup::On if !has_packets => Dedup::Auto,
            wanted => wanted,
        };
        let rereadable = plan.is_rereadable();
        // A small part of stored evidence, read in advance, shows what a second pass would have to
        // remember, so that the first pass can already do so.
        let shared = plan.shared.as_ref().filter(|_| !plan.reads_captures());
        let ahead = shared.map(|shared| shared.read_ahead());
        let is_doubled = ahead.as_ref().map(|ahead| ahead.duplicate_counts().shows_doubling());
        let parts = match ahead.map(|mut ahead| ahead.take_starts()) {
            Some(sides) => PrefixRetention::Of(Arc::new(sides)),
            None if rereadable => PrefixRetention::Starts,
            None => PrefixRetention::All,
        };
        // Joined fragments must not be counted as duplicates again.
        let knows_duplicates = plan.shared.as_ref().is_some_and(|shared| shared.knows_duplicates());
        let packets = |traces| match traces {
            Correction::Done if !knows_duplicates => PacketRetention::Records,
            _ => PacketRetention::Nothing,
        };
        let first = match wanted {
            Dedup::On => Correction::Done,
            Dedup::Auto if has_packets && is_doubled == Some(true) => Correction::Done,
            Dedup::Auto | Dedup::Off => Correction::Off,
        };
        let mut retention = Retention { packets: packets(first), parts };
        let mut reading = read::run(plan, progress, &retention)?;
        if let Some(shared) = &plan.shared {
            reading.vantages = shared.vantage_points();
        }
        let doubled = reading.shows_doubling();
        // The sample does not show duplicates among the packets of sensors whose clocks differ.
        let overlaps = reading.has_overlapping_sensors();
        let correction = match wanted {
            Dedup::Off => Correction::Off,
            Dedup::On => Correction::Done,
            Dedup::Auto if !(doubled || has_packets && overlaps) => Correction::NotNeeded,
            Dedup::Auto if !(rereadable && has_packets) => Correction::Impossible,
            Dedup::Auto => Correction::Done,
        };
        // Each of these sides sent a message with a server name that continues in another segment.
        // The second pass remembers the segments in which the message may continue.
        let mut sides = reading.flows.side.take_starts();
        if shared.is_some() {
            sides = OpenMessages::default();
        }
        let packets = packets(correction);
        if !sides.is_empty() || packets != retention.packets {
            drop(reading);
            progress.reset();
            // With stored evidence, the first pass already remembered the segments of these sides.
            let parts = match shared {
                Some(_) => retention.parts,
                None => PrefixRetention::Of(Arc::new(sides)),
            };
            retention = Retention { packets, parts };
            reading = read::run(plan, progress, &retention)?;
        }
        if let Some(shared) = &plan.shared {
            reading.vantages = shared.vantage_points();
            reading.vantage_loss = shared.vantage_loss();
            reading.flows.side.note_cuts(shared.interruptions());
        }
        reading.note_series(plan);
        reading.duplicates.correction = correction;
        if reading.duplicates.correction == Correction::Done {
            reading.duplicates.removed =
                reading.flows.remove_duplicates().map_err(temporary(&plan.temp))?;
        }
        Ok(reading)
    }

    /// Returns whether packets were captured more than once, as the sample of packets shows, or by
    /// sensors whose clocks differ.
    pub(crate) fn shows_doubling(&self) -> bool {
        let by_sensors = self.vantages.len() > 1 && self.flows.clock_offset().is_some();
        self.duplicates.sample.shows_doubling() || by_sensors
    }

    /// Returns whether several vantage points saw the same conversation.
    fn has_overlapping_sensors(&self) -> bool {
        self.flows.side.sightings().any(|(_, points)| points.len() > 1)
    }

    /// Notes when captures without a sensor name were made, because they may come from several
    /// places, and when the capture was interrupted. Replies to requests that were sent shortly
    /// before may be missing.
    fn note_series(&mut self, plan: &Plan) {
        let (all, _) = self.believed();
        let inputs = self.inputs.iter().enumerate().filter(|(number, _)| {
            !plan.origins.get(number).is_some_and(|origin| origin.has_vantage_point())
        });
        // Frames with doubted timestamps do not show when a capture was made.
        let doubted = self.timeline.doubted_times();
        let spans = inputs.filter_map(|(_, input)| {
            let FrameCounters { mut first, mut last, .. } = input.account;
            doubted.remove_from(&mut first, &mut last);
            Some((first.get()?, last.get()?))
        });
        let spans: Vec<_> = spans.collect();
        let times =
            capture_series::series_times(&all, spans.into_iter(), !self.vantages.is_empty());
        let gaps = all.gaps().into_iter().map(|(from, _)| from);
        self.flows.side.note_cuts(gaps);
        (self.series, self.outages) = (times.timelines, times.outages);
    }

    /// Returns the loss of each input or, in a live audit, of its windows. An input without frames
    /// may have lost them at any time.
    pub(crate) fn loss_periods(&self) -> LossPeriods {
        let windows = self.flows.side.losses();
        if windows.iter().next().is_some() {
            return LossPeriods::new(windows.iter());
        }
        let doubted = self.timeline.doubted_times();
        let inputs = self.inputs.iter().map(|input| {
            let FrameCounters { mut first, mut last, .. } = input.account;
            doubted.remove_from(&mut first, &mut last);
            let from = first.get().unwrap_or(Nanos::MIN);
            (from, last.get().unwrap_or(Nanos::MAX), input.loss.share())
        });
        LossPeriods::new(inputs)
    }

    /// Returns `share`, an estimated share of lost frames. Returns 0 if the counters include
    /// duplicates, because duplicates hide the loss.
    fn estimated(&self, share: f64) -> f64 {
        if self.duplicates.are_counted() { 0.0 } else { share }
    }

    /// Returns when frames were captured, and the number of frames that are excluded from this
    /// because their timestamps are implausible.
    pub(crate) fn believed(&self) -> (ActivityHistogram, u64) {
        self.timeline.without_outliers()
    }

    /// Returns the name and the error of each input that could not be read completely. Files in a
    /// folder that are not captures do not count.
    pub(crate) fn damaged(&self) -> Vec<String> {
        let inputs = self.inputs.iter().filter(|input| !input.passed_over);
        inputs.filter_map(|i| Some(name_and_reason(&i.name, i.error.as_ref()?))).collect()
    }

    /// Combines the parts of a reading. Duplicates are not removed here.
    pub(crate) fn new(
        inputs: Vec<InputRecord>,
        timeline: ActivityHistogram,
        flows: MergedFlows,
        correction: Correction,
    ) -> Self {
        let (mut account, loss) = total(&inputs);
        limit_to_believed_times(&mut account, &timeline);
        let duplicates = Duplicates { sample: flows.duplicate_counts(), correction, removed: 0 };
        let end = account.last.get();
        let vantages = BTreeMap::new();
        let vantage_loss = 0.0;
        Self {
            inputs,
            account,
            loss,
            timeline,
            end,
            duplicates,
            vantage_loss,
            vantages,
            series: Vec::new(),
            outages: Vec::new(),
            flows,
        }
    }
}

/// Checks a filter expression for live interfaces.
///
/// # Errors
///
/// Returns an error if the expression is empty, if libpcap rejects it, or if this build has no
/// libpcap.
pub fn check_filter(expression: &str) -> Result<(), PlanError> {
    let failed = |source| PlanError::Filter { expression: expression.to_owned(), source };
    Filter::new(expression).map(drop).map_err(failed)
}

/// Locks a mutex, even if a thread panicked while it held the lock. The thread that joins the
/// panicked one ends the work.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Limits the first and the last time of all frames to the range of plausible timestamps.
pub(crate) fn limit_to_believed_times(account: &mut FrameCounters, timeline: &ActivityHistogram) {
    let (believed, doubted) = timeline.without_outliers();
    if doubted > 0 {
        (account.first, account.last) = Default::default();
        believed.first().into_iter().for_each(|time| account.first.see(time));
        believed.last().into_iter().for_each(|time| account.last.see(time));
    }
}

/// Returns the sums of the counters and of the losses of all inputs.
pub(crate) fn total(inputs: &[InputRecord]) -> (FrameCounters, Loss) {
    let mut account = FrameCounters::default();
    let mut loss = Loss::default();
    for input in inputs {
        account.merge(&input.account);
        loss.merge(&input.loss);
    }
    (account, loss)
}
