//! Runs a live audit: judges each window of traffic alone and together with all windows before it.
//!
//! Each interface has at least one capture thread, which reads and decodes frames into tables of
//! its own. No queue lies between the kernel and the tables. To close a window, each thread hands
//! its tables over and continues with empty ones, so that the capture never stops.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::audit::{Audit, Limits};
use super::confine::{Confinement, confine};
use super::read::{Worker, WorkerCounters};
use super::state::{StateError, StateFolder};
use super::{AuditError, Plan, Progress, Reading, Request, bound, lock, temporary, total};
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

/// The number of parts that memory is divided into. The tables of all threads, those of the window
/// that is judged, those of all windows, and the judgement of all windows get one part each. While
/// a window is closed, some tables are held twice; buffers and reports take the rest.
const SHARES: usize = 10;

/// The divisor of `max_memory` that limits idle flows on disk: all of them are read for each window
/// and written into the state.
const ON_DISK: usize = 4;

/// The age up to which the timeline keeps buckets of ten seconds, in ns. Older parts are kept by
/// the hour.
const FINE: Nanos = 7 * 24 * 3600 * SECOND;

/// Bytes that a conversation takes while it is judged and reported, including its findings.
const JUDGED: usize = 2048;

/// Bytes that one entry of each of the six kinds of side evidence (address claims, DNS queries and
/// so on) takes together.
const BESIDE: usize = 2048;

/// The time that a thread without an interface waits before it tries to open it again.
const RETRY: Duration = Duration::from_secs(1);

/// The time that a thread may take to hand over its part of a window.
const ANSWER: Duration = Duration::from_secs(30);

/// The time after which a thread that has not handed over its part is taken for dead.
const PATIENCE: Duration = Duration::from_secs(600);

/// The interval at which the loss counters of an interface are read.
const ASK: Duration = Duration::from_secs(1);

/// The interval at which a waiting thread checks for requests.
const LOOK: Duration = Duration::from_millis(50);

/// The longest time for which the kernel's buffers are drained at the end of the audit.
const LAST: Duration = Duration::from_secs(3);

/// Options of a live audit.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// The names of the interfaces.
    pub interfaces: Vec<String>,
    /// The number of threads for each interface.
    pub threads: usize,
    /// How frames are captured.
    pub tap: CaptureOptions,
    /// The length of a window.
    pub every: Duration,
    /// Bytes that the flow tables may hold. Above this limit, flows are aggregated.
    pub max_memory: usize,
    /// Whether to audit the tunnels themselves instead of their contents.
    pub no_decap: bool,
    /// UDP ports on which to look for VXLAN in addition to the usual ones.
    pub vxlan_ports: Vec<u16>,
    /// The folder that keeps the evidence of all windows for the next start.
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
    /// The frames decoded so far, for progress displays.
    pub progress: Progress,
    /// Set to close the window and end the audit.
    pub stop: AtomicBool,
    /// Set to close the window now.
    pub now: AtomicBool,
    /// Set to read the rules, the inventory and the exceptions again.
    pub reload: AtomicBool,
}

/// An event that a live audit reports while it runs.
#[derive(Clone, Debug)]
pub enum LiveEvent {
    /// An interface can no longer be read (name and reason). The audit keeps trying.
    Lost(String, String),
    /// An interface is read again, after this time.
    Back(String, Duration),
    /// Memory ran short, and this many flows were aggregated to this level.
    Folded(AggregationLevel, u64),
    /// Memory ran short, and this many address claims, DNS queries, fragments and packets without
    /// ports were dropped.
    Forgotten(u64),
    /// The state of an earlier run is broken. The one before it is used, if there is one.
    Broken(StateError),
    /// The state of an earlier run was restored, with this many flows.
    Restored(u64),
    /// The state could not be written.
    NotSaved(StateError),
    /// The state was written.
    Saved,
    /// All frames of the window were recorded.
    Kept,
    /// A capture thread has not handed over its part of the window yet. The audit waits for it.
    Waits,
    /// Idle flows could not be written to disk and stay in memory.
    NotRested(String),
    /// Frames could not be recorded. Recording is tried again in the next window.
    NotKept(String),
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
    fn notice(&self, notice: &LiveEvent);
    /// Returns the policy as its files are now; `None` if they are not valid. The implementation
    /// reports the errors.
    fn reload(&self) -> Option<Policy>;
    /// Receives a closed window. The implementation reports its own errors, which do not end the
    /// audit.
    fn closed(&self, closed: &WindowClosed<'_>);
}

/// The part of a window that one thread hands over.
struct WindowPart {
    interface: usize,
    tables: WorkerTables,
    counted: WorkerCounters,
    loss: Loss,
    link: Option<u16>,
    folded: Vec<(AggregationLevel, u64)>,
    forgotten: u64,
    /// Times of the last frames before the capture was interrupted.
    cuts: Vec<Nanos>,
}

/// What the capture threads share.
struct LiveContext<'a> {
    plan: &'a Plan,
    watch: &'a LiveOptions,
    progress: &'a Progress,
    keep: &'a Retention,
    /// The store that the empty tables of this run come from.
    origin: &'a FlowStore,
    /// The number of the open window.
    window: AtomicU64,
    /// Returns whether the inventory lists an address.
    listed: Mutex<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>,
    end: AtomicBool,
    listener: &'a dyn Listener,
    recorder: Option<&'a Mutex<Recorder>>,
}

/// The outcome of a live audit.
pub struct LiveOutcome {
    /// Whether findings of all windows together reach the severity that fails an audit.
    pub failed: bool,
    /// Whether nothing was checked although a check was required.
    pub unchecked: bool,
    /// Whether an interface could not be read for some time.
    pub partial: bool,
}

/// The open resources of a live audit, after the privileges to open more were given up.
pub struct LiveSetup {
    wires: OpenCaptures,
    state: Option<StateFolder>,
    recorder: Option<Mutex<Recorder>>,
    /// What could not be given up, in words.
    pub unconfined: Vec<String>,
}

/// Opens all resources and then gives up the privileges to open more. This applies to the calling
/// thread and to the threads that it starts afterwards.
pub fn ready(watch: &LiveOptions) -> Result<LiveSetup, AuditError> {
    let wires = open_all(watch)?;
    let state = watch.state.as_deref().map(StateFolder::open).transpose();
    let state = state.map_err(|no| AuditError::Output(no.path, no.error))?;
    let recorder = recorder(watch, &wires)?;
    let unconfined = confine(&watch.confinement)?;
    Ok(LiveSetup { wires, state, recorder, unconfined })
}

/// Runs the live audit until `control` requests the end or the last window is closed.
pub fn watch(
    watch: &LiveOptions,
    LiveSetup { wires, state, recorder, .. }: LiveSetup,
    mut policy: Policy,
    limits: &Limits,
    control: &Control,
    listener: &dyn Listener,
) -> Result<LiveOutcome, AuditError> {
    let plan = plan(watch).stating(&policy);
    let seed = HashSeed::new();
    let origin = FlowStore::new(&seed, plan.temp.clone());
    let keep = Retention { traces: false, parts: PrefixRetention::All };
    let mut all = restored(state.as_ref(), &origin, listener)?
        .map_or_else(|| empty(watch, &origin), Ok)
        .map_err(temporary(&plan.temp))?;
    let progress = &control.progress;
    let shared = LiveContext {
        plan: &plan,
        watch,
        progress,
        keep: &keep,
        origin: &origin,
        window: AtomicU64::new(0),
        listed: Mutex::new(listing(&policy)),
        end: AtomicBool::new(false),
        listener,
        recorder: recorder.as_ref(),
    };
    let mut before = Baseline::default();
    if all.account.frames > 0 {
        // This run may have less memory than the earlier one.
        stay_bounded(&shared, &mut all.flows)?;
        // Findings from before the restart are not new.
        let judged = Audit::judged(&plan, all, Some(policy.clone()), None, limits, progress, true)?;
        judged.remember(&mut before);
        all = judged.into_reading();
    }
    let threads = wires.len();
    thread::scope(|scope| {
        let (hand, handed) = unbounded();
        let mut led = BTreeSet::new();
        for (interface, group, wire) in wires {
            let shared = &shared;
            let hand = hand.clone();
            let is_primary = led.insert(interface);
            scope.spawn(move || {
                CaptureThread::new(shared, interface, group, wire, is_primary).run(&hand)
            });
        }
        drop(hand);
        let mut pending = WindowCarryOver::default();
        let mut partial = false;
        let mut since = now();
        let result = loop {
            let last = wait(watch, control, shared.window.load(Ordering::Relaxed));
            let ended = Instant::now();
            let closed = close(&shared, control, &handed, threads, last, &mut pending, &mut all);
            if let Some(recorder) = shared.recorder {
                let mut recorder = lock(recorder);
                if !recorder.recover() {
                    listener.notice(&LiveEvent::Kept);
                }
                if last && let Err(error) = recorder.finish() {
                    listener.notice(&LiveEvent::NotKept(error.to_string()));
                }
            }
            let mut window = match closed {
                Ok(window) => window,
                Err(failure) => break Err(failure),
            };
            let until = now();
            // An interface that is up counts as watched even without frames.
            if window.inputs.iter().all(|input| input.error.is_none()) {
                window.timeline.watch(since, until);
            }
            since = until;
            partial |= !window.damaged().is_empty();
            if control.reload.swap(false, Ordering::Relaxed)
                && let Some(new) = listener.reload()
            {
                policy = new;
                *lock(&shared.listed) = listing(&policy);
            }
            let told = tell(&shared, window, all, &policy, limits, &mut before, ended);
            let (failed, unchecked);
            (all, failed, unchecked) = match told {
                Ok(told) => told,
                Err(failure) => break Err(failure),
            };
            match state.as_ref().map(|state| state.save(&all)) {
                Some(Err(error)) => listener.notice(&LiveEvent::NotSaved(error)),
                Some(Ok(())) => listener.notice(&LiveEvent::Saved),
                None => {}
            }
            if last {
                break Ok(LiveOutcome { failed, unchecked, partial });
            }
        };
        // The threads end, too, whatever ended the loop.
        shared.end.store(true, Ordering::Relaxed);
        shared.window.fetch_add(1, Ordering::Relaxed);
        result
    })
}

/// Returns the time of the clock that stamps frames.
fn now() -> Nanos {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as Nanos)
}

/// Judges a window alone and together with all windows, and passes both to the listener.
fn tell(
    shared: &LiveContext<'_>,
    window: Reading,
    mut all: Reading,
    policy: &Policy,
    limits: &Limits,
    before: &mut Baseline,
    ended: Instant,
) -> Result<(Reading, bool, bool), AuditError> {
    let plan = shared.plan;
    let progress = shared.progress;
    let its_own = Some(policy.clone());
    let mut alone = Audit::judged(plan, window, its_own, None, limits, progress, true)?;
    let nothing = shared
        .origin
        .sibling()
        .finish(false, 1, usize::MAX)
        .map_err(temporary(&shared.plan.temp))?;
    let flows = alone.take_flows(nothing);
    absorb(shared, &mut all, &alone.reading, flows)?;
    let whole = Audit::judged(plan, all, Some(policy.clone()), None, limits, progress, true)?;
    let closed = WindowClosed { window: &alone, all: &whole, before, ended };
    shared.listener.closed(&closed);
    whole.remember(before);
    let failed = whole.failed;
    let unchecked = whole.unchecked;
    Ok((whole.into_reading(), failed, unchecked))
}

/// Merges a window into all windows, and aggregates flows if these exceed their share of memory.
fn absorb(
    shared: &LiveContext<'_>,
    all: &mut Reading,
    window: &Reading,
    flows: MergedFlows,
) -> Result<(), AuditError> {
    for theirs in &window.inputs {
        // An earlier run may have watched other interfaces.
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
    // While an interface was missing, nothing was watched for certain.
    if window.inputs.iter().all(|input| input.error.is_none()) {
        all.timeline.merge(&window.timeline)
    } else {
        all.timeline.merge(&window.timeline.unwatched())
    }
    all.flows.absorb(flows).map_err(temporary(&shared.plan.temp))?;
    (all.account, all.loss) = total(&all.inputs);
    bound(&mut all.account, &all.timeline);
    all.end = window.account.last.get().or(all.end);
    if let Some(end) = all.end {
        all.flows.extract_names_before(end.saturating_sub(120 * SECOND));
        all.timeline.coarsen(end.saturating_sub(FINE));
    }
    if let (Some(_), Some(end)) = (&shared.watch.state, all.end) {
        let since = end.saturating_sub(shared.watch.idle.as_nanos() as Nanos);
        // If the disk is full, the flows stay in memory.
        if let Err(error) = all.flows.spill_idle(since) {
            shared.listener.notice(&LiveEvent::NotRested(error.to_string()));
        }
    }
    stay_bounded(shared, &mut all.flows)?;
    all.duplicates.sample = all.flows.copies();
    Ok(())
}

/// Aggregates flows if they exceed their share of memory, or if judging them would.
fn stay_bounded(shared: &LiveContext<'_>, flows: &mut MergedFlows) -> Result<(), AuditError> {
    let is_listed = Arc::clone(&lock(&shared.listed));
    let share = shared.watch.max_memory / SHARES;
    let forgotten = flows.keep_at_most(share / BESIDE);
    if forgotten > 0 {
        shared.listener.notice(&LiveEvent::Forgotten(forgotten));
    }
    let fits = |flows: &MergedFlows| {
        let on_disk = flows.resting().1 <= (shared.watch.max_memory / ON_DISK) as u64;
        on_disk && flows.memory() <= share && flows.estimated_conversations() <= share / JUDGED
    };
    if !fits(flows) {
        // A flow that was spilled several times counts each time until its file is rewritten.
        flows.compact_idle().map_err(temporary(&shared.plan.temp))?;
    }
    for fold in AggregationLevel::ALL {
        if fits(flows) {
            break;
        }
        let folded = flows.aggregate(*fold, &*is_listed).map_err(temporary(&shared.plan.temp))?;
        if folded > 0 {
            shared.listener.notice(&LiveEvent::Folded(*fold, folded));
        }
    }
    Ok(())
}

/// Waits for the end of the window. Returns whether it is the last one.
fn wait(watch: &LiveOptions, control: &Control, number: u64) -> bool {
    let start = Instant::now();
    loop {
        if control.stop.load(Ordering::Relaxed) {
            return true;
        }
        if start.elapsed() >= watch.every || control.now.swap(false, Ordering::Relaxed) {
            return watch.windows.is_some_and(|windows| number + 1 >= windows);
        }
        thread::sleep(LOOK.min(watch.every.saturating_sub(start.elapsed())));
    }
}

/// Closes the window and collects the part of every thread.
fn close(
    shared: &LiveContext<'_>,
    control: &Control,
    handed: &Receiver<WindowPart>,
    threads: usize,
    last: bool,
    pending: &mut WindowCarryOver,
    all: &mut Reading,
) -> Result<Reading, AuditError> {
    if last {
        shared.end.store(true, Ordering::Relaxed);
    }
    shared.window.fetch_add(1, Ordering::Relaxed);
    let store = all.flows.sibling_store();
    let mut inputs = inputs(shared.watch);
    let mut timeline = ActivityHistogram::default();
    let mut cuts = BTreeSet::new();
    let asked = Instant::now();
    for _ in 0..threads {
        let given = loop {
            match handed.recv_timeout(ANSWER) {
                Ok(given) => break given,
                // For example, the disk that the thread writes frames to hangs. Meanwhile, the
                // kernel counts the frames that the thread does not read.
                Err(RecvTimeoutError::Timeout)
                    if !last
                        && asked.elapsed() < PATIENCE
                        && !control.stop.load(Ordering::Relaxed) =>
                {
                    shared.listener.notice(&LiveEvent::Waits);
                }
                Err(_) => {
                    return Err(AuditError::Hung);
                }
            }
        };
        let input = &mut inputs[given.interface];
        given.counted.accounts.iter().for_each(|account| input.account.merge(account));
        input.loss.merge(&given.loss);
        match given.link {
            Some(link) if !input.link_types.contains(&link) => input.link_types.push(link),
            Some(_) => {}
            None => input.error = Some("was not available all of the time".to_owned()),
        }
        timeline.merge(&given.counted.timeline);
        store.submit(given.tables).map_err(temporary(&shared.plan.temp))?;
        for (fold, count) in given.folded {
            shared.listener.notice(&LiveEvent::Folded(fold, count));
        }
        if given.forgotten > 0 {
            shared.listener.notice(&LiveEvent::Forgotten(given.forgotten));
        }
        cuts.extend(given.cuts);
    }
    let end = if last { None } else { total(&inputs).0.last.get() };
    let mut flows = store
        .finish_window(shared.plan.jobs, pending, end)
        .map_err(temporary(&shared.plan.temp))?;
    flows.side.note_cuts(cuts);
    // A live capture cannot be read twice, so duplicates cannot be removed.
    Ok(Reading::new(inputs, timeline, flows, Correction::Impossible))
}

fn inputs(watch: &LiveOptions) -> Vec<InputRecord> {
    let input = |name: &String| InputRecord {
        name: name.clone(),
        format: "live".to_owned(),
        filters: watch.tap.filter.iter().cloned().collect(),
        ..InputRecord::default()
    };
    watch.interfaces.iter().map(input).collect()
}

fn empty(watch: &LiveOptions, origin: &FlowStore) -> std::io::Result<Reading> {
    let flows = origin.sibling().finish(false, 1, usize::MAX)?;
    Ok(Reading::new(inputs(watch), ActivityHistogram::default(), flows, Correction::Impossible))
}

/// Returns the evidence that an earlier run left, if there is any.
fn restored(
    state: Option<&StateFolder>,
    origin: &FlowStore,
    listener: &dyn Listener,
) -> Result<Option<Reading>, AuditError> {
    let Some(state) = state else { return Ok(None) };
    let found = state.load(|| origin.sibling());
    let (found, broken) = found.map_err(|no| AuditError::Output(no.path, no.error))?;
    broken.into_iter().for_each(|error| listener.notice(&LiveEvent::Broken(error)));
    Ok(found.map(|mut found| {
        listener.notice(&LiveEvent::Restored(found.flows.len() as u64));
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

/// Returns the plan by which batches are decoded. Each interface is a source.
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
        // Next to the state, where files may be written once file access is confined.
        temp: watch.state.clone().unwrap_or_else(std::env::temp_dir),
        request,
    }
}

/// Returns the recorder of frames, if frames are to be recorded.
fn recorder(
    watch: &LiveOptions,
    wires: &OpenCaptures,
) -> Result<Option<Mutex<Recorder>>, AuditError> {
    let Some((path, size, files)) = &watch.record else { return Ok(None) };
    let recorded = |(number, name): (usize, &String)| {
        let link = wires.iter().find(|(interface, ..)| *interface == number);
        let link = link.map_or(1, |(.., wire)| wire.link());
        Recorded { name: name.clone(), link, snaplen: watch.tap.snaplen }
    };
    let interfaces = watch.interfaces.iter().enumerate().map(recorded).collect();
    let recorder = Recorder::new(path, *size, *files, interfaces);
    let recorder = recorder.map_err(|failed| AuditError::Output(failed.path, failed.error))?;
    Ok(Some(Mutex::new(recorder)))
}

/// Every open capture, with the number of its interface and its fan-out group.
type OpenCaptures = Vec<(usize, Option<u16>, LiveCapture)>;

fn not_captured(why: &CaptureError) -> String {
    format!("cannot be captured: {why}; see rasaudit interfaces")
}

/// Opens all interfaces. The error lists each one that cannot be opened, with the reason.
fn open_all(watch: &LiveOptions) -> Result<OpenCaptures, AuditError> {
    let mut wires = Vec::new();
    let mut wrong = Vec::new();
    for (interface, name) in watch.interfaces.iter().enumerate() {
        // Other programs on this host are unlikely to have this number.
        let group = (std::process::id() as u16).wrapping_mul(31).wrapping_add(interface as u16);
        let group = (watch.threads > 1).then_some(group);
        for thread in 0..watch.threads {
            match LiveCapture::open(name, &watch.tap, group, thread == 0) {
                Ok(wire) => wires.push((interface, group, wire)),
                Err(why) => {
                    wrong.push((name.clone(), not_captured(&why)));
                    break;
                }
            }
        }
    }
    // Starts only now, so that all threads of an interface share its frames from the first one.
    for (interface, _, wire) in &mut wires {
        if let Err(why) = wire.start_capture(&watch.tap) {
            wrong.push((watch.interfaces[*interface].clone(), not_captured(&why)));
        }
    }
    if wrong.is_empty() { Ok(wires) } else { Err(AuditError::Sources(wrong)) }
}

/// Reads one capture.
struct CaptureThread<'a> {
    shared: &'a LiveContext<'a>,
    interface: usize,
    group: Option<u16>,
    wire: Option<LiveCapture>,
    worker: Worker<'a>,
    loss: Loss,
    /// When the loss counters were last read.
    asked: Instant,
    /// Since when the interface is gone, and when it was last tried.
    gone: Option<(Instant, Instant)>,
    /// The link type, as long as the interface was there for the whole window.
    link: Option<u16>,
    folded: Vec<(AggregationLevel, u64)>,
    forgotten: u64,
    /// Bytes from which aggregation is tried again.
    patience: usize,
    /// Whether this thread reports what happens to the interface, which one thread of each does.
    is_primary: bool,
    last: Nanos,
    cuts: Vec<Nanos>,
}

impl<'a> CaptureThread<'a> {
    fn new(
        shared: &'a LiveContext<'a>,
        interface: usize,
        group: Option<u16>,
        wire: LiveCapture,
        is_primary: bool,
    ) -> Self {
        Self {
            worker: Worker::new(shared.plan, shared.progress, shared.origin, shared.keep),
            shared,
            interface,
            group,
            link: Some(wire.link()),
            wire: Some(wire),
            loss: Loss::default(),
            asked: Instant::now(),
            gone: None,
            folded: Vec::new(),
            forgotten: 0,
            patience: 0,
            is_primary,
            last: NO_TIME,
            cuts: Vec::new(),
        }
    }

    fn run(mut self, hand: &Sender<WindowPart>) {
        let mut window = 0;
        let mut batch = Batch::default();
        loop {
            let now = self.shared.window.load(Ordering::Relaxed);
            if now != window {
                window = now;
                let end = self.shared.end.load(Ordering::Relaxed);
                if end {
                    self.drain(&mut batch);
                }
                if hand.send(self.hand_over(end)).is_err() || end {
                    return;
                }
            }
            self.read(&mut batch);
        }
    }

    /// Reads the frames that have arrived, or waits briefly.
    fn read(&mut self, batch: &mut Batch) {
        batch.frames.clear();
        if self.gone.is_some() {
            return self.try_again();
        }
        let Some(wire) = &mut self.wire else { return };
        let read = wire.next(batch);
        if read.is_err() || self.asked.elapsed() >= ASK {
            let loss = wire.loss();
            self.count(loss);
        }
        batch.source = self.interface;
        if let Some(last) = batch.frames.last() {
            self.last = last.time;
            if let Some(recorder) = self.shared.recorder {
                let frames = batch.frames.iter().map(|f| (f.time, f.wire_len, batch.data(f)));
                if let Err(error) = lock(recorder).keep(self.interface, frames) {
                    self.shared.listener.notice(&LiveEvent::NotKept(error.to_string()));
                }
            }
            self.worker.take(batch);
            self.stay_bounded();
        }
        if let Err(why) = read {
            // An interface that is only down may come up again and then needs no privilege to be
            // opened.
            if !self.wire.as_ref().is_some_and(LiveCapture::is_there)
                && let Some(mut wire) = self.wire.take()
            {
                let loss = wire.final_loss();
                self.count(loss);
            }
            self.link = None;
            self.cuts.extend((self.last != NO_TIME).then_some(self.last));
            self.gone = Some((Instant::now(), Instant::now()));
            let name = self.shared.watch.interfaces[self.interface].clone();
            self.say(LiveEvent::Lost(name, escape_control(&why.to_string()).into_owned()));
        }
    }

    fn count(&mut self, loss: Loss) {
        self.asked = Instant::now();
        self.shared.progress.lost.fetch_add(loss.dropped, Ordering::Relaxed);
        self.loss.merge(&loss);
    }

    fn say(&self, notice: LiveEvent) {
        if self.is_primary {
            self.shared.listener.notice(&notice);
        }
    }

    /// Reads what is left in the kernel's buffer, for a limited time.
    fn drain(&mut self, batch: &mut Batch) {
        let start = Instant::now();
        while self.gone.is_none() && start.elapsed() < LAST {
            self.read(batch);
            if batch.frames.is_empty() {
                return;
            }
        }
    }

    fn try_again(&mut self) {
        thread::sleep(LOOK);
        let Some((since, tried)) = self.gone else { return };
        if tried.elapsed() < RETRY {
            return;
        }
        let name = &self.shared.watch.interfaces[self.interface];
        let tap = &self.shared.watch.tap;
        let opened = match self.wire.take() {
            Some(wire) if wire.is_there() => {
                if wire.is_down() {
                    self.wire = Some(wire);
                    Err(CaptureError::Down)
                } else {
                    Ok(wire)
                }
            }
            _ => LiveCapture::open(name, tap, self.group, self.is_primary)
                .and_then(|mut wire| wire.start_capture(tap).map(|()| wire)),
        };
        match opened {
            Ok(wire) => {
                (self.wire, self.gone) = (Some(wire), None);
                self.say(LiveEvent::Back(name.clone(), since.elapsed()));
            }
            Err(_) => self.gone = Some((since, Instant::now())),
        }
    }

    /// Aggregates flows if the tables exceed this thread's share of memory.
    fn stay_bounded(&mut self) {
        let watch = self.shared.watch;
        let threads = (watch.threads * watch.interfaces.len()).max(1);
        let budget = watch.max_memory / SHARES / threads;
        let held = self.worker.tables().memory();
        if held <= budget || held < self.patience {
            return;
        }
        self.forgotten += self.worker.tables_mut().keep_at_most(budget / 4 / BESIDE);
        let is_listed = Arc::clone(&lock(&self.shared.listed));
        for fold in AggregationLevel::ALL {
            // Tables that are nearly all aggregated already would be aggregated again at once.
            if self.worker.tables().memory() <= budget / 2 {
                break;
            }
            let folded = self.worker.tables_mut().aggregate(*fold, &*is_listed);
            if folded > 0 {
                match self.folded.iter_mut().find(|(known, _)| known == fold) {
                    Some((_, count)) => *count += folded,
                    None => self.folded.push((*fold, folded)),
                }
            }
        }
        // Aggregation that gained little is not tried again for each batch.
        self.patience = self.worker.tables().memory() / 4 * 5;
    }

    fn hand_over(&mut self, end: bool) -> WindowPart {
        if let Some(wire) = &mut self.wire {
            let loss = if end { wire.final_loss() } else { wire.loss() };
            self.count(loss);
        }
        self.patience = 0;
        let (tables, counted) = self.worker.hand_over();
        let there = self.wire.as_ref().filter(|_| self.gone.is_none()).map(LiveCapture::link);
        let link = std::mem::replace(&mut self.link, there);
        let forgotten = std::mem::take(&mut self.forgotten);
        let cuts = std::mem::take(&mut self.cuts);
        let loss = std::mem::take(&mut self.loss);
        let folded = std::mem::take(&mut self.folded);
        let interface = self.interface;
        WindowPart { interface, tables, counted, loss, link, folded, forgotten, cuts }
    }
}
