//! Runs a live audit, which judges each window of traffic alone and together with all windows
//! before it.
//!
//! Each interface has at least one capture thread, which reads frames and decodes them into tables
//! of its own. There is no queue between the kernel and the tables. When a window is closed, each
//! thread hands over its tables and continues with empty ones, so that the capture never stops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::audit::{Audit, FlowRetention, Limits};
use super::confine::{Confinement, confine};
use super::read::{ETHERNET, Worker, WorkerCounters};
use super::state::{StateError, StateFolder};
use super::{
    AuditError, Plan, Progress, Reading, Request, limit_to_believed_times, lock, temporary, total,
};
use crate::capture::{Batch, CaptureError, CaptureInput, CaptureOptions, LiveCapture};
use crate::flow::{
    AggregationLevel, FlowStore, HashSeed, MergedFlows, PrefixRetention, Retention,
    WindowCarryOver, WorkerTables,
};
use crate::model::{
    ActivityHistogram, Correction, FrameCounters, InputRecord, Loss, Merge, NO_TIME, Nanos, SECOND,
    escape_control,
};
use crate::policy::Policy;
use crate::report::{Baseline, Recorded, Recorder};

/// The number of shares that memory is divided into. One share each is for the tables of all
/// threads, the tables of the window that is judged, the tables of all windows, and the judgement
/// of all windows. While a window is closed, some tables exist twice. Buffers and reports take the
/// rest.
const MEMORY_SHARES: usize = 10;

/// The divisor of `max_memory` that gives the limit for idle flows on disk, because all of them are
/// read for each window and written into the state.
const DISK_DIVISOR: usize = 4;

/// The age up to which the timeline has a resolution of ten seconds, in ns. Older parts have a
/// resolution of one hour.
const FINE_TIMELINE: Nanos = 7 * 24 * 3600 * SECOND;

/// The estimated size in bytes of a conversation while it is judged and reported, including its
/// findings.
const JUDGED_CONVERSATION_BYTES: usize = 2048;

/// The estimated size in bytes of one entry of each kind of side evidence (address claims, DNS
/// queries and so on) together.
const SIDE_EVIDENCE_BYTES: usize = 2048;

/// The interval at which a thread tries to open an interface that is down.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// The time that a thread may take to hand over its part of a window before a warning is reported.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// The time after which a thread that has not handed over its part is considered hung.
const HUNG_AFTER: Duration = Duration::from_secs(600);

/// The interval at which the loss counters of an interface are read.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// The interval at which a waiting thread checks for requests.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The maximum time for draining the kernel's buffers at the end of the audit.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// Options of a live audit.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The names of the interfaces.
    pub interfaces: Vec<String>,
    /// The number of threads per interface.
    pub threads: usize,
    /// How frames are captured.
    pub capture: CaptureOptions,
    /// The length of a window.
    pub every: Duration,
    /// The memory limit in bytes. Flows that exceed their share of it are aggregated.
    pub max_memory: usize,
    /// Whether to audit the tunnels themselves instead of their contents.
    pub no_decap: bool,
    /// UDP ports on which to look for VXLAN in addition to the usual ones.
    pub vxlan_ports: Vec<u16>,
    /// The folder in which the evidence of all windows is kept for the next start.
    pub state: Option<PathBuf>,
    /// The time after which flows without traffic are moved to disk, if there is a state folder.
    pub idle: Duration,
    /// The number of windows after which the audit stops.
    pub windows: Option<u64>,
    /// The privileges to give up once the interfaces are open.
    pub confinement: Confinement,
    /// The path for captured frames, the size of a file in bytes, and the number of files to keep.
    pub record: Option<(PathBuf, u64, usize)>,
}

/// Requests to a running live audit, and its progress.
#[derive(Default)]
pub struct Control {
    /// The counters of the audit, for progress displays.
    pub progress: Progress,
    /// Set to close the window and end the audit.
    pub stop: AtomicBool,
    /// Set to close the window now.
    pub close_now: AtomicBool,
    /// Set to read the rules, the inventory and the exceptions again.
    pub reload: AtomicBool,
}

/// An event that a live audit reports while it runs.
#[derive(Clone, Debug)]
pub enum LiveEvent {
    /// An interface can no longer be read (name and reason). The audit keeps trying.
    InterfaceDown(String, String),
    /// An interface is being read again, after it was down for this time.
    InterfaceUp(String, Duration),
    /// Memory ran short, and this many flows were aggregated to this level.
    Aggregated(AggregationLevel, u64),
    /// Memory ran short, and this many address claims, DNS queries, fragments and packets without
    /// ports were dropped.
    EvidenceDropped(u64),
    /// The state of an earlier run is damaged. The one before it is used, if there is one.
    StateBroken(StateError),
    /// The state of an earlier run was restored, with this many flows.
    Restored(u64),
    /// The state could not be written.
    NotSaved(StateError),
    /// The state was written.
    Saved,
    /// All frames of the window were recorded.
    Recorded,
    /// A capture thread has not handed over its part of the window yet. The audit waits for it.
    Waiting,
    /// Idle flows could not be written to disk and stay in memory.
    NotSpilled(String),
    /// Frames could not be recorded. Recording is attempted again in the next window.
    NotRecorded(String),
}

/// A closed window.
pub struct WindowClosed<'a> {
    /// The audit of this window.
    pub window: &'a Audit,
    /// The audit of all windows so far.
    pub all: &'a Audit,
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

/// The part of a window that one thread hands over.
struct WindowPart {
    interface: usize,
    tables: WorkerTables,
    counters: WorkerCounters,
    loss: Loss,
    link: Option<u16>,
    /// The number of flows that were aggregated, by level.
    aggregated: Vec<(AggregationLevel, u64)>,
    /// The number of entries of side evidence that were dropped.
    dropped: u64,
    /// The times of the last frames before interruptions of the capture.
    cuts: Vec<Nanos>,
}

/// The data that the threads of a live audit share.
struct LiveContext<'a> {
    plan: &'a Plan,
    watch: &'a LiveOptions,
    limits: &'a Limits,
    control: &'a Control,
    retention: &'a Retention,
    /// The store that creates the empty tables of this run.
    store: &'a FlowStore,
    /// The number of the open window.
    window: AtomicU64,
    /// Returns whether the inventory lists an address.
    is_listed: Mutex<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>,
    end: AtomicBool,
    listener: &'a dyn Listener,
    recorder: Option<&'a Mutex<Recorder>>,
}

impl LiveContext<'_> {
    /// Judges a reading. The flows are kept for the next window.
    fn judge(&self, reading: Reading, policy: &Policy) -> Result<Audit, AuditError> {
        let progress = &self.control.progress;
        let policy = Some(policy.clone());
        Audit::judged(self.plan, reading, policy, None, self.limits, progress, FlowRetention::Keep)
    }
}

/// The outcome of a live audit.
pub struct LiveOutcome {
    /// Whether the findings of all windows together fail the audit.
    pub failed: bool,
    /// Whether nothing was checked although a check was required.
    pub unchecked: bool,
    /// Whether an interface could not be read for some time.
    pub partial: bool,
}

/// The open resources of a live audit, after the privileges to open more were given up.
pub struct LiveSetup {
    captures: Vec<OpenCapture>,
    state: Option<StateFolder>,
    recorder: Option<Mutex<Recorder>>,
    /// Descriptions of the privileges that could not be given up.
    pub unconfined: Vec<String>,
}

/// Opens all resources and then gives up the privileges to open more. This applies to the calling
/// thread and to the threads that it starts afterwards.
pub fn ready(watch: &LiveOptions) -> Result<LiveSetup, AuditError> {
    let captures = open_all(watch)?;
    let state = watch.state.as_deref().map(StateFolder::open).transpose();
    let state = state.map_err(|failed| AuditError::Output(failed.path, failed.error))?;
    let recorder = recorder(watch, &captures)?;
    let unconfined = confine(&watch.confinement)?;
    Ok(LiveSetup { captures, state, recorder, unconfined })
}

/// Runs the live audit until `control` requests the end or the last window is closed.
pub fn watch(
    watch: &LiveOptions,
    LiveSetup { captures, state, recorder, .. }: LiveSetup,
    policy: Policy,
    limits: &Limits,
    control: &Control,
    listener: &dyn Listener,
) -> Result<LiveOutcome, AuditError> {
    let plan = plan(watch).with_stated_tunnels(&policy);
    let seed = HashSeed::new();
    let store = FlowStore::new(&seed, plan.temp.clone());
    let retention = Retention { traces: false, parts: PrefixRetention::All };
    let mut all = restored(state.as_ref(), &store, listener)?
        .map_or_else(|| empty(watch, &store), Ok)
        .map_err(temporary(&plan.temp))?;
    let shared = LiveContext {
        plan: &plan,
        watch,
        limits,
        control,
        retention: &retention,
        store: &store,
        window: AtomicU64::new(0),
        is_listed: Mutex::new(listing(&policy)),
        end: AtomicBool::new(false),
        listener,
        recorder: recorder.as_ref(),
    };
    let mut baseline = Baseline::default();
    if all.account.frames > 0 {
        // This run may have less memory than the earlier one.
        stay_bounded(&shared, &mut all.flows)?;
        // Findings from before the restart are not new.
        let judged = shared.judge(all, &policy)?;
        judged.remember(&mut baseline);
        all = judged.into_reading();
    }
    let threads = captures.len();
    thread::scope(|scope| {
        let (sender, parts) = unbounded();
        for open in captures {
            let shared = &shared;
            let sender = sender.clone();
            scope.spawn(move || CaptureThread::new(shared, open).run(&sender));
        }
        drop(sender);
        let windows = WindowLoop {
            shared: &shared,
            state: state.as_ref(),
            parts,
            threads,
            policy,
            baseline,
            carry_over: WindowCarryOver::default(),
        };
        let result = windows.run(all);
        // The threads must end even if an error ended the loop.
        shared.end.store(true, Ordering::Relaxed);
        shared.window.fetch_add(1, Ordering::Relaxed);
        result
    })
}

/// What happens after a window.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterWindow {
    /// The next window is open already.
    Continue,
    /// The audit ends.
    Stop,
}

/// The main thread of a live audit: closes windows, judges them and saves the state.
struct WindowLoop<'a> {
    shared: &'a LiveContext<'a>,
    state: Option<&'a StateFolder>,
    /// The parts of a window that the capture threads hand over.
    parts: Receiver<WindowPart>,
    threads: usize,
    policy: Policy,
    /// The findings of all windows so far.
    baseline: Baseline,
    carry_over: WindowCarryOver,
}

impl WindowLoop<'_> {
    /// Closes and judges windows until the audit ends. `all` is the evidence of earlier runs.
    fn run(mut self, mut all: Reading) -> Result<LiveOutcome, AuditError> {
        let mut partial = false;
        let mut since = now();
        loop {
            let after = self.wait();
            let ended = Instant::now();
            let closed = self.close(after, &mut all);
            self.check_recorder(after);
            let mut window = closed?;
            let until = now();
            // An interface that is up counts as watched even without frames.
            if window.inputs.iter().all(|input| input.error.is_none()) {
                window.timeline.watch(since, until);
            }
            since = until;
            partial |= !window.damaged().is_empty();
            self.reload_if_requested();
            let (failed, unchecked);
            (all, failed, unchecked) = self.judge(window, all, ended)?;
            self.save(&all);
            if after == AfterWindow::Stop {
                return Ok(LiveOutcome { failed, unchecked, partial });
            }
        }
    }

    /// Reports whether all frames of the window were recorded, and allows recording again.
    fn check_recorder(&self, after: AfterWindow) {
        let Some(recorder) = self.shared.recorder else { return };
        let mut recorder = lock(recorder);
        if !recorder.recover() {
            self.shared.listener.on_event(&LiveEvent::Recorded);
        }
        if after == AfterWindow::Stop
            && let Err(error) = recorder.finish()
        {
            self.shared.listener.on_event(&LiveEvent::NotRecorded(error.to_string()));
        }
    }

    fn reload_if_requested(&mut self) {
        if self.shared.control.reload.swap(false, Ordering::Relaxed)
            && let Some(new) = self.shared.listener.reload()
        {
            self.policy = new;
            *lock(&self.shared.is_listed) = listing(&self.policy);
        }
    }

    fn save(&self, all: &Reading) {
        let Some(state) = self.state else { return };
        self.shared.listener.on_event(&match state.save(all) {
            Ok(()) => LiveEvent::Saved,
            Err(error) => LiveEvent::NotSaved(error),
        });
    }

    /// Judges a window alone and together with all windows, and passes both to the listener.
    /// Returns the evidence of all windows, whether the audit fails, and whether nothing was
    /// checked.
    fn judge(
        &mut self,
        window: Reading,
        mut all: Reading,
        ended: Instant,
    ) -> Result<(Reading, bool, bool), AuditError> {
        let shared = self.shared;
        let mut alone = shared.judge(window, &self.policy)?;
        let nothing = shared
            .store
            .sibling()
            .finish(&Retention::default(), 1, usize::MAX)
            .map_err(temporary(&shared.plan.temp))?;
        let flows = alone.take_flows(nothing);
        absorb(shared, &mut all, &alone.reading, flows)?;
        let together = shared.judge(all, &self.policy)?;
        let closed = WindowClosed { window: &alone, all: &together, before: &self.baseline, ended };
        shared.listener.on_window_closed(&closed);
        together.remember(&mut self.baseline);
        let failed = together.failed;
        let unchecked = together.unchecked;
        Ok((together.into_reading(), failed, unchecked))
    }

    /// Waits for the end of the window.
    fn wait(&self) -> AfterWindow {
        let LiveContext { watch, control, .. } = self.shared;
        let number = self.shared.window.load(Ordering::Relaxed);
        let start = Instant::now();
        loop {
            if control.stop.load(Ordering::Relaxed) {
                return AfterWindow::Stop;
            }
            if start.elapsed() >= watch.every || control.close_now.swap(false, Ordering::Relaxed) {
                let is_last = watch.windows.is_some_and(|windows| number + 1 >= windows);
                return if is_last { AfterWindow::Stop } else { AfterWindow::Continue };
            }
            thread::sleep(POLL_INTERVAL.min(watch.every.saturating_sub(start.elapsed())));
        }
    }

    /// Closes the window and collects the part of every thread.
    fn close(&mut self, after: AfterWindow, all: &mut Reading) -> Result<Reading, AuditError> {
        let shared = self.shared;
        if after == AfterWindow::Stop {
            shared.end.store(true, Ordering::Relaxed);
        }
        shared.window.fetch_add(1, Ordering::Relaxed);
        let store = all.flows.sibling_store();
        let mut inputs = inputs(shared.watch);
        let mut timeline = ActivityHistogram::default();
        let mut cuts = BTreeSet::new();
        let requested = Instant::now();
        for _ in 0..self.threads {
            let part = self.receive_part(after, requested)?;
            let input = &mut inputs[part.interface];
            part.counters.accounts.iter().for_each(|account| input.account.merge(account));
            input.loss.merge(&part.loss);
            match part.link {
                Some(link) if !input.link_types.contains(&link) => input.link_types.push(link),
                Some(_) => {}
                None => input.error = Some("was not available all of the time".to_owned()),
            }
            timeline.merge(&part.counters.timeline);
            store.submit(part.tables).map_err(temporary(&shared.plan.temp))?;
            for (level, count) in part.aggregated {
                shared.listener.on_event(&LiveEvent::Aggregated(level, count));
            }
            if part.dropped > 0 {
                shared.listener.on_event(&LiveEvent::EvidenceDropped(part.dropped));
            }
            cuts.extend(part.cuts);
        }
        let end = match after {
            AfterWindow::Continue => total(&inputs).0.last.get(),
            AfterWindow::Stop => None,
        };
        let mut flows = store
            .finish_window(shared.plan.jobs, &mut self.carry_over, end)
            .map_err(temporary(&shared.plan.temp))?;
        flows.side.note_cuts(cuts);
        // A live capture cannot be read twice, so duplicates cannot be removed.
        Ok(Reading::new(inputs, timeline, flows, Correction::Impossible))
    }

    /// Waits for the part of one thread. `requested` is the time at which the parts were requested.
    fn receive_part(
        &self,
        after: AfterWindow,
        requested: Instant,
    ) -> Result<WindowPart, AuditError> {
        let LiveContext { control, listener, .. } = self.shared;
        loop {
            match self.parts.recv_timeout(PART_TIMEOUT) {
                Ok(part) => return Ok(part),
                // The thread may be blocked, for example by a write to a disk that does not
                // respond. Meanwhile, the kernel counts the frames that are lost.
                Err(RecvTimeoutError::Timeout)
                    if after == AfterWindow::Continue
                        && requested.elapsed() < HUNG_AFTER
                        && !control.stop.load(Ordering::Relaxed) =>
                {
                    listener.on_event(&LiveEvent::Waiting);
                }
                Err(_) => return Err(AuditError::Hung),
            }
        }
    }
}

/// Returns the current time of the system clock, which also stamps frames.
fn now() -> Nanos {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as Nanos)
}

/// Merges a window into the evidence of all windows, and aggregates flows if the evidence exceeds
/// its share of memory.
fn absorb(
    shared: &LiveContext<'_>,
    all: &mut Reading,
    window: &Reading,
    flows: MergedFlows,
) -> Result<(), AuditError> {
    for theirs in &window.inputs {
        // The restored state may contain other interfaces.
        let known = all.inputs.iter().position(|input| input.name == theirs.name);
        let known = known.unwrap_or_else(|| {
            let account = FrameCounters::default();
            let loss = Loss::default();
            all.inputs.push(InputRecord { account, loss, error: None, ..theirs.clone() });
            all.inputs.len() - 1
        });
        let mine = &mut all.inputs[known];
        mine.account.merge(&theirs.account);
        mine.loss.merge(&theirs.loss);
        mine.link_types.extend(&theirs.link_types);
        mine.link_types.sort_unstable();
        mine.link_types.dedup();
        mine.filters.extend(theirs.filters.iter().cloned());
        mine.filters.sort_unstable();
        mine.filters.dedup();
    }
    all.inputs.sort_by(|a, b| a.name.cmp(&b.name));
    // If an interface was down, the window does not count as watched.
    if window.inputs.iter().all(|input| input.error.is_none()) {
        all.timeline.merge(&window.timeline)
    } else {
        all.timeline.merge(&window.timeline.unwatched())
    }
    all.flows.absorb(flows).map_err(temporary(&shared.plan.temp))?;
    (all.account, all.loss) = total(&all.inputs);
    limit_to_believed_times(&mut all.account, &all.timeline);
    all.end = window.account.last.get().or(all.end);
    if let Some(end) = all.end {
        all.flows.extract_names_before(end.saturating_sub(120 * SECOND));
        all.timeline.coarsen(end.saturating_sub(FINE_TIMELINE));
    }
    if let (Some(_), Some(end)) = (&shared.watch.state, all.end) {
        let idle_since = end.saturating_sub(shared.watch.idle.as_nanos() as Nanos);
        // If the flows cannot be written, for example because the disk is full, they stay in
        // memory.
        if let Err(error) = all.flows.spill_idle(idle_since) {
            shared.listener.on_event(&LiveEvent::NotSpilled(error.to_string()));
        }
    }
    stay_bounded(shared, &mut all.flows)?;
    all.duplicates.sample = all.flows.duplicate_counts();
    Ok(())
}

/// Aggregates flows if they exceed their share of memory, or if judging them would.
fn stay_bounded(shared: &LiveContext<'_>, flows: &mut MergedFlows) -> Result<(), AuditError> {
    let is_listed = Arc::clone(&lock(&shared.is_listed));
    let share = shared.watch.max_memory / MEMORY_SHARES;
    let dropped = flows.keep_at_most(share / SIDE_EVIDENCE_BYTES);
    if dropped > 0 {
        shared.listener.on_event(&LiveEvent::EvidenceDropped(dropped));
    }
    let fits = |flows: &MergedFlows| {
        let on_disk = flows.idle_size().1 <= (shared.watch.max_memory / DISK_DIVISOR) as u64;
        let conversations = flows.estimated_conversations();
        on_disk && flows.memory() <= share && conversations <= share / JUDGED_CONVERSATION_BYTES
    };
    if !fits(flows) {
        // A flow that was spilled several times is counted several times until its file is
        // rewritten.
        flows.compact_idle().map_err(temporary(&shared.plan.temp))?;
    }
    for level in AggregationLevel::ALL {
        if fits(flows) {
            break;
        }
        let count = flows.aggregate(*level, &*is_listed).map_err(temporary(&shared.plan.temp))?;
        if count > 0 {
            shared.listener.on_event(&LiveEvent::Aggregated(*level, count));
        }
    }
    Ok(())
}

fn inputs(watch: &LiveOptions) -> Vec<InputRecord> {
    let input = |name: &String| InputRecord {
        name: name.clone(),
        format: "live".to_owned(),
        filters: watch.capture.filter.iter().cloned().collect(),
        ..InputRecord::default()
    };
    watch.interfaces.iter().map(input).collect()
}

fn empty(watch: &LiveOptions, store: &FlowStore) -> std::io::Result<Reading> {
    let flows = store.sibling().finish(&Retention::default(), 1, usize::MAX)?;
    Ok(Reading::new(inputs(watch), ActivityHistogram::default(), flows, Correction::Impossible))
}

/// Returns the evidence of an earlier run, if there is any.
fn restored(
    state: Option<&StateFolder>,
    store: &FlowStore,
    listener: &dyn Listener,
) -> Result<Option<Reading>, AuditError> {
    let Some(state) = state else { return Ok(None) };
    let loaded = state.load(|| store.sibling());
    let (found, broken) = loaded.map_err(|failed| AuditError::Output(failed.path, failed.error))?;
    broken.into_iter().for_each(|error| listener.on_event(&LiveEvent::StateBroken(error)));
    Ok(found.map(|mut found| {
        listener.on_event(&LiveEvent::Restored(found.flows.len() as u64));
        // The time between the two runs was not watched.
        found.flows.side.note_cuts(found.account.last.get());
        found
    }))
}

/// Returns a function that checks whether the inventory of a policy lists an address, either as an
/// address of a host or in a network.
fn listing(policy: &Policy) -> Arc<dyn Fn(IpAddr) -> bool + Send + Sync> {
    let listed: BTreeSet<IpAddr> =
        policy.inventory.hosts.iter().flat_map(|host| host.addresses.iter().copied()).collect();
    let networks: Vec<_> = policy.inventory.networks.iter().map(|network| network.cidr).collect();
    Arc::new(move |address| {
        listed.contains(&address) || networks.iter().any(|network| network.contains(&address))
    })
}

/// Returns the plan for decoding batches. Each interface is a source.
fn plan(watch: &LiveOptions) -> Plan {
    let source = |name: &String| CaptureInput {
        path: None,
        name: name.clone(),
        size: 0,
        found: false,
        same_as: None,
    };
    let request = Request {
        max_memory: watch.max_memory,
        no_decap: watch.no_decap,
        vxlan_ports: watch.vxlan_ports.clone(),
        ..Request::default()
    };
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Plan {
        sources: watch.interfaces.iter().map(source).collect(),
        origins: BTreeMap::new(),
        jobs,
        // The folder of the state stays writable when file access is confined.
        temp: watch.state.clone().unwrap_or_else(std::env::temp_dir),
        request,
    }
}

/// Returns the recorder of frames, if frames are to be recorded.
fn recorder(
    watch: &LiveOptions,
    captures: &[OpenCapture],
) -> Result<Option<Mutex<Recorder>>, AuditError> {
    let Some((path, size, files)) = &watch.record else { return Ok(None) };
    let recorded = |(number, name): (usize, &String)| {
        let open = captures.iter().find(|open| open.interface == number);
        let link = open.map_or(ETHERNET, |open| open.capture.link());
        Recorded { name: name.clone(), link, snaplen: watch.capture.snaplen }
    };
    let interfaces = watch.interfaces.iter().enumerate().map(recorded).collect();
    let recorder = Recorder::new(path, *size, *files, interfaces);
    let recorder = recorder.map_err(|failed| AuditError::Output(failed.path, failed.error))?;
    Ok(Some(Mutex::new(recorder)))
}

/// An open capture. Each interface has one per thread.
struct OpenCapture {
    /// The index of the interface in [`LiveOptions::interfaces`].
    interface: usize,
    /// The fan-out group, if several threads share the frames of the interface.
    group: Option<u16>,
    /// Whether this is the first capture of its interface.
    is_primary: bool,
    capture: LiveCapture,
}

fn not_captured(error: &CaptureError) -> String {
    format!("cannot be captured: {error}; see rasaudit interfaces")
}

/// Opens all interfaces. The error lists each one that cannot be opened, with the reason.
fn open_all(watch: &LiveOptions) -> Result<Vec<OpenCapture>, AuditError> {
    let mut captures = Vec::new();
    let mut failures = Vec::new();
    for (interface, name) in watch.interfaces.iter().enumerate() {
        // The number is derived from the process ID, so other programs on this host are unlikely to
        // use it.
        let group = (std::process::id() as u16).wrapping_mul(31).wrapping_add(interface as u16);
        let group = (watch.threads > 1).then_some(group);
        for thread in 0..watch.threads {
            let is_primary = thread == 0;
            match LiveCapture::open(name, &watch.capture, group)
                .map(|capture| capture.with_interface_drops(is_primary))
            {
                Ok(capture) => {
                    captures.push(OpenCapture { interface, group, is_primary, capture });
                }
                Err(error) => {
                    failures.push((name.clone(), not_captured(&error)));
                    break;
                }
            }
        }
    }
    // Captures start only when all of them are open, so that the threads of an interface share even
    // its first frames.
    for OpenCapture { interface, capture, .. } in &mut captures {
        if let Err(error) = capture.start_capture(&watch.capture) {
            failures.push((watch.interfaces[*interface].clone(), not_captured(&error)));
        }
    }
    if failures.is_empty() { Ok(captures) } else { Err(AuditError::Sources(failures)) }
}

/// A thread that reads one capture.
struct CaptureThread<'a> {
    shared: &'a LiveContext<'a>,
    interface: usize,
    group: Option<u16>,
    capture: Option<LiveCapture>,
    worker: Worker<'a>,
    loss: Loss,
    /// When the loss counters were last read.
    loss_read: Instant,
    /// The time at which the interface went down, and the time of the last attempt to open it
    /// again.
    down: Option<(Instant, Instant)>,
    /// The link type; `None` if the interface was down for part of the window.
    link: Option<u16>,
    aggregated: Vec<(AggregationLevel, u64)>,
    dropped: u64,
    /// The size of the tables, in bytes, from which aggregation is attempted again.
    retry_above: usize,
    /// Whether this thread reports the events of the interface. Only one thread per interface does
    /// so.
    is_primary: bool,
    /// The time of the last frame.
    last: Nanos,
    cuts: Vec<Nanos>,
}

impl<'a> CaptureThread<'a> {
    fn new(shared: &'a LiveContext<'a>, open: OpenCapture) -> Self {
        let OpenCapture { interface, group, is_primary, capture } = open;
        let progress = &shared.control.progress;
        Self {
            worker: Worker::new(shared.plan, progress, shared.store, shared.retention),
            shared,
            interface,
            group,
            link: Some(capture.link()),
            capture: Some(capture),
            loss: Loss::default(),
            loss_read: Instant::now(),
            down: None,
            aggregated: Vec::new(),
            dropped: 0,
            retry_above: 0,
            is_primary,
            last: NO_TIME,
            cuts: Vec::new(),
        }
    }

    fn run(mut self, parts: &Sender<WindowPart>) {
        let mut window = 0;
        let mut batch = Batch::default();
        loop {
            let current = self.shared.window.load(Ordering::Relaxed);
            if current != window {
                window = current;
                if self.shared.end.load(Ordering::Relaxed) {
                    self.drain(&mut batch);
                    // The main thread may have stopped waiting.
                    let _ = parts.send(self.end_window(AfterWindow::Stop));
                    return;
                }
                if parts.send(self.end_window(AfterWindow::Continue)).is_err() {
                    return;
                }
            }
            self.read(&mut batch);
        }
    }

    /// Reads the frames that have arrived, or waits briefly.
    fn read(&mut self, batch: &mut Batch) {
        batch.frames.clear();
        if self.down.is_some() {
            return self.try_to_reopen();
        }
        let Some(capture) = &mut self.capture else { return };
        let read = capture.next(batch);
        if read.is_err() || self.loss_read.elapsed() >= LOSS_INTERVAL {
            let loss = capture.loss();
            self.count_loss(loss);
        }
        batch.source = self.interface;
        if let Some(last) = batch.frames.last() {
            self.last = last.time;
            if let Some(recorder) = self.shared.recorder {
                let frames = batch.frames.iter().map(|f| (f.time, f.wire_len, batch.data(f)));
                if let Err(error) = lock(recorder).record(self.interface, frames) {
                    self.shared.listener.on_event(&LiveEvent::NotRecorded(error.to_string()));
                }
            }
            self.worker.decode_batch(batch);
            self.stay_bounded();
        }
        if let Err(error) = read {
            // An interface that is down but still exists keeps its capture. When it comes up again,
            // it can be read without the privilege to open it.
            if !self.capture.as_ref().is_some_and(LiveCapture::is_there)
                && let Some(mut capture) = self.capture.take()
            {
                let loss = capture.final_loss();
                self.count_loss(loss);
            }
            self.link = None;
            self.cuts.extend((self.last != NO_TIME).then_some(self.last));
            self.down = Some((Instant::now(), Instant::now()));
            let name = self.shared.watch.interfaces[self.interface].clone();
            let reason = escape_control(&error.to_string()).into_owned();
            self.notify(LiveEvent::InterfaceDown(name, reason));
        }
    }

    fn count_loss(&mut self, loss: Loss) {
        self.loss_read = Instant::now();
        self.shared.control.progress.lost.fetch_add(loss.dropped, Ordering::Relaxed);
        self.loss.merge(&loss);
    }

    /// Reports an event of the interface, once for all of its threads.
    fn notify(&self, event: LiveEvent) {
        if self.is_primary {
            self.shared.listener.on_event(&event);
        }
    }

    /// Reads what is left in the kernel's buffer, for a limited time.
    fn drain(&mut self, batch: &mut Batch) {
        let start = Instant::now();
        while self.down.is_none() && start.elapsed() < DRAIN_LIMIT {
            self.read(batch);
            if batch.frames.is_empty() {
                return;
            }
        }
    }

    fn try_to_reopen(&mut self) {
        thread::sleep(POLL_INTERVAL);
        let Some((since, tried)) = self.down else { return };
        if tried.elapsed() < REOPEN_INTERVAL {
            return;
        }
        let name = &self.shared.watch.interfaces[self.interface];
        let options = &self.shared.watch.capture;
        let opened = match self.capture.take() {
            Some(capture) if capture.is_there() => {
                if capture.is_down() {
                    self.capture = Some(capture);
                    Err(CaptureError::Down)
                } else {
                    Ok(capture)
                }
            }
            _ => LiveCapture::open(name, options, self.group)
                .map(|capture| capture.with_interface_drops(self.is_primary))
                .and_then(|mut capture| capture.start_capture(options).map(|()| capture)),
        };
        match opened {
            Ok(capture) => {
                (self.capture, self.down) = (Some(capture), None);
                self.notify(LiveEvent::InterfaceUp(name.clone(), since.elapsed()));
            }
            Err(_) => self.down = Some((since, Instant::now())),
        }
    }

    /// Aggregates flows if the tables exceed this thread's share of memory.
    fn stay_bounded(&mut self) {
        let watch = self.shared.watch;
        let threads = (watch.threads * watch.interfaces.len()).max(1);
        let budget = watch.max_memory / MEMORY_SHARES / threads;
        let held = self.worker.tables().memory();
        if held <= budget || held < self.retry_above {
            return;
        }
        self.dropped += self.worker.tables_mut().keep_at_most(budget / 4 / SIDE_EVIDENCE_BYTES);
        let is_listed = Arc::clone(&lock(&self.shared.is_listed));
        for level in AggregationLevel::ALL {
            // Aggregation continues down to half of the budget. Otherwise, it would soon be needed
            // again.
            if self.worker.tables().memory() <= budget / 2 {
                break;
            }
            let count = self.worker.tables_mut().aggregate(*level, &*is_listed);
            if count > 0 {
                match self.aggregated.iter_mut().find(|(known, _)| known == level) {
                    Some((_, total)) => *total += count,
                    None => self.aggregated.push((*level, count)),
                }
            }
        }
        // If aggregation gained little, it is not attempted again for each batch.
        self.retry_above = self.worker.tables().memory() / 4 * 5;
    }

    /// Returns this thread's part of the window, and begins the next one with empty tables.
    fn end_window(&mut self, after: AfterWindow) -> WindowPart {
        if let Some(capture) = &mut self.capture {
            let loss = match after {
                AfterWindow::Continue => capture.loss(),
                AfterWindow::Stop => capture.final_loss(),
            };
            self.count_loss(loss);
        }
        self.retry_above = 0;
        let (tables, counters) = self.worker.take_tables();
        let next_link =
            self.capture.as_ref().filter(|_| self.down.is_none()).map(LiveCapture::link);
        let link = std::mem::replace(&mut self.link, next_link);
        let dropped = std::mem::take(&mut self.dropped);
        let cuts = std::mem::take(&mut self.cuts);
        let loss = std::mem::take(&mut self.loss);
        let aggregated = std::mem::take(&mut self.aggregated);
        let interface = self.interface;
        WindowPart { interface, tables, counters, loss, link, aggregated, dropped, cuts }
    }
}
