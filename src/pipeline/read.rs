//! Reading: one reader a source, workers that take any batch, tables that meet at the end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::source::{Chunk, Origin, Source};
use super::{AuditError, Plan, Progress, Reading, Request, lock, temporary};
use crate::capture::{Batch, CaptureError, Filter, Frame, ReadError};
use crate::decode::{Body, Decoder, Observation};
use crate::flow::{
    FlowStore, HashSeed, PrefixRetention, Retention, UndecodedFrames, UndecodedReason, WorkerTables,
};
use crate::model::{
    ActivityBucket, ActivityHistogram, BUCKET_NS, Correction, FrameCounters, InputRecord, Mac,
    Merge, NO_TIME, Nanos, SkipReason,
};
use crate::payload::read_payloads;
use crate::policy::is_control;

/// Observations that are looked up together: enough for their misses of memory to overlap, few enough
/// to stay in the first-level cache.
const TOGETHER: usize = 32;

/// Of each kind of what is kept beside the flows (address claims, lookups and so on) there may be one for so many bytes
/// of memory: a quarter of it, for eight kinds of 256 bytes.
const BESIDE: usize = 8192;

/// However little memory there may be, so many of each kind are kept: a farm has fewer.
const LEAST: usize = 1 << 14;

/// Reads all sources. With `traces` the tables remember each packet, so that copies can be taken out.
pub(super) fn run(
    plan: &Plan,
    progress: &Progress,
    keep: &Retention,
) -> Result<Reading, AuditError> {
    let seed = HashSeed::new();
    let store = FlowStore::new(&seed, plan.temp.clone());
    let work = |batches: &Batches<'_>| Worker::new(plan, progress, &store, keep).work(batches);
    progress.timings.done("start");
    let ReadResult { mut inputs, mut timeline, found: counted } = each_batch(plan, progress, work)?;
    progress.timings.done("packets");
    for counted in counted {
        let counted = counted.map_err(temporary(&plan.temp))?;
        for (input, account) in inputs.iter_mut().zip(&counted.accounts) {
            input.account.merge(account);
        }
        timeline.merge(&counted.timeline);
    }
    // Nothing that was named or found is a capture: there is nothing to say about a farm.
    if !inputs.is_empty() && inputs.iter().all(|i| i.passed_over) {
        let told = |i: &InputRecord| (i.name.clone(), i.error.clone().unwrap_or_default());
        return Err(AuditError::Sources(inputs.iter().map(told).collect()));
    }
    let most = (plan.request.max_memory / BESIDE).max(LEAST);
    let flows = store.finish(keep.traces, plan.jobs, most).map_err(temporary(&plan.temp))?;
    progress.timings.done("merge");
    Ok(Reading::new(inputs, timeline, flows, Correction::NotNeeded))
}

/// The batches that a worker gets.
pub(super) struct Batches<'a> {
    sources: &'a Sources<'a>,
    turns: Receiver<ReadToken>,
}

/// What the workers share: who has a turn reads the next batch of its source, and gives the turn on before he
/// looks into the batch. So the bytes that a worker has read are still in the cache of its processor.
struct Sources<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    /// The next source that nobody has opened.
    next: AtomicUsize,
    inputs: Mutex<Vec<InputRecord>>,
    /// When the frames were captured of which sources give flows.
    timeline: Mutex<ActivityHistogram>,
    /// Sources that the user named and that are no captures, with the reason.
    unreadable: Mutex<Vec<(usize, String)>>,
}

/// The right to read on. The channel of turns lives as long as one of them does.
struct ReadToken {
    source: Option<OpenSource>,
    back: Sender<ReadToken>,
}

/// A source that is being read.
struct OpenSource {
    number: usize,
    reader: Box<dyn Source>,
    frames: usize,
}

impl Batches<'_> {
    /// Hands what the sources give to `take`, until there is no more.
    pub fn each(&self, mut take: impl FnMut(&mut Chunk)) {
        let mut chunk = Chunk::default();
        for mut turn in &self.turns {
            chunk.evidence = None;
            if self.sources.read(&mut turn.source, &mut chunk) {
                let back = turn.back.clone();
                // The others wait for it, and so are there to take it.
                let _ = back.send(turn);
                take(&mut chunk);
            }
        }
    }
}

/// What is known of the sources beside their frames, and what each worker found.
pub(super) struct ReadResult<T> {
    pub inputs: Vec<InputRecord>,
    /// When the frames were captured of which sources gave flows.
    pub timeline: ActivityHistogram,
    pub found: Vec<T>,
}

/// Reads all sources: workers that do `work` share what they give.
pub(super) fn each_batch<T: Send>(
    plan: &Plan,
    progress: &Progress,
    work: impl Fn(&Batches<'_>) -> T + Sync,
) -> Result<ReadResult<T>, AuditError> {
    let inputs = plan.sources.iter().map(|s| InputRecord {
        name: s.name.clone(),
        size: s.size,
        same_as: s.same_as.clone(),
        ..InputRecord::default()
    });
    let sources = Sources {
        plan,
        progress,
        next: AtomicUsize::new(0),
        inputs: Mutex::new(inputs.collect()),
        timeline: Mutex::default(),
        unreadable: Mutex::default(),
    };
    let jobs = plan.jobs.max(1);
    let (back, turns) = unbounded();
    for _ in 0..plan.sources.len().min(jobs) {
        let _ = back.send(ReadToken { source: None, back: back.clone() });
    }
    drop(back);
    let found = thread::scope(|scope| {
        let start = |_| {
            let (batches, work) = (Batches { sources: &sources, turns: turns.clone() }, &work);
            scope.spawn(move || work(&batches))
        };
        let workers: Vec<_> = (0..jobs).map(start).collect();
        workers.into_iter().map(join).collect::<Vec<_>>()
    });
    if progress.stop.load(Ordering::Relaxed) {
        return Err(AuditError::Interrupted);
    }
    let mut unreadable = sources.unreadable.into_inner().unwrap_or_else(|p| p.into_inner());
    if !unreadable.is_empty() {
        unreadable.sort();
        let named = |(number, reason): (usize, String)| (plan.sources[number].name.clone(), reason);
        return Err(AuditError::Sources(unreadable.into_iter().map(named).collect()));
    }
    let inputs = sources.inputs.into_inner().unwrap_or_else(|p| p.into_inner());
    let timeline = sources.timeline.into_inner().unwrap_or_else(|p| p.into_inner());
    Ok(ReadResult { inputs, timeline, found })
}

/// The result of a thread; its panic goes on here.
fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Sources<'_> {
    /// Reads the next batch of the source that is open, or of the next one. False where there is none.
    fn read(&self, source: &mut Option<OpenSource>, chunk: &mut Chunk) -> bool {
        loop {
            if self.progress.stop.load(Ordering::Relaxed) {
                return false;
            }
            if let Some(open) = source {
                let before = open.reader.position();
                let more = open.reader.next(chunk);
                let read = open.reader.position() - before;
                self.progress.bytes.fetch_add(read, Ordering::Relaxed);
                chunk.frames.source = open.number;
                open.frames += chunk.frames.frames.len();
                if more != Ok(true)
                    && let Some(open) = source.take()
                {
                    self.close(open, more.err());
                }
                return true;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.sources.len() {
                return false;
            }
            match self.open(number) {
                Ok(opened) => *source = opened,
                Err(reason) => lock(&self.unreadable).push((number, reason)),
            }
        }
    }

    /// Opens a source. The error is for one that the user named and that is no capture.
    fn open(&self, number: usize) -> Result<Option<OpenSource>, String> {
        let source = &self.plan.sources[number];
        if source.same_as.is_some() {
            return Ok(None);
        }
        let origin = self.plan.origins.get(&number).map_or(source as &dyn Origin, |o| &**o);
        let error = match origin.open(self.plan.request.hash) {
            Ok(reader) => return Ok(Some(OpenSource { number, reader, frames: 0 })),
            Err(error) => error,
        };
        let mut inputs = lock(&self.inputs);
        let input = &mut inputs[number];
        let (reason, passed_over) = match &error {
            CaptureError::Cut(at) => {
                "pcap".clone_into(&mut input.format);
                input.error = Some(told("cut off inside the file header", *at, 0));
                return Ok(None);
            }
            CaptureError::Compressed { format, .. } => {
                (*format).clone_into(&mut input.format);
                input.error = Some(format!(
                    "{error}; nothing of it could be used: copy it again from where it was taken"
                ));
                return Ok(None);
            }
            CaptureError::NotACapture(_) => {
                let hint = match source.name.rsplit('.').next() {
                    Some("toml" | "csv") => "; give an inventory with --inventory",
                    _ => "; give pcap or pcapng files",
                };
                (format!("{error}{hint}"), true)
            }
            _ => (error.to_string(), false),
        };
        if !source.found {
            return Err(reason);
        }
        input.error = Some(reason);
        input.passed_over = passed_over;
        Ok(None)
    }

    /// Notes what is known of a source that has come to its end.
    fn close(&self, OpenSource { number, reader, frames }: OpenSource, damage: Option<ReadError>) {
        let mut record = InputRecord::default();
        let finished = reader.finish(&mut record, &mut lock(&self.timeline));
        let mut inputs = lock(&self.inputs);
        let input = &mut inputs[number];
        (input.format, input.link_types) = (record.format, record.link_types);
        (input.filters, input.loss, input.sha256) = (record.filters, record.loss, record.sha256);
        input.account.merge(&record.account);
        input.size = input.size.max(record.size);
        input.hidden_nanos = record.hidden_nanos;
        (input.zeros, input.impossible_drops) = (record.zeros, record.impossible_drops);
        input.is_cut = damage.as_ref().map_or(record.is_cut, |damage| damage.is_cut);
        input.error = match (damage, finished) {
            (Some(damage), _) => Some(told(&damage.what, damage.offset, frames)),
            (None, Err(error)) => Some(error.to_string()),
            (None, Ok(())) if record.error.is_some() => record.error,
            (None, Ok(())) => match input.zeros {
                (_, 0) => None,
                (first, bytes) => Some(format!(
                    "{bytes} bytes of zeros stand where records should, the first at byte {first}; the records before and after them were read"
                )),
            },
        };
    }
}

/// How an input ended too early.
fn told(what: &str, offset: u64, frames: usize) -> String {
    format!("{what} at byte {offset}, after {frames} whole frames; what could be read was used")
}

/// What a worker counted beside its tables.
#[derive(Default)]
pub(super) struct WorkerCounters {
    pub accounts: Vec<FrameCounters>,
    pub timeline: ActivityHistogram,
}

/// Nothing since the last ten seconds that were counted.
const NO_SLOT: (Nanos, ActivityBucket) = (NO_TIME, ActivityBucket::WATCHED);

/// Whether frames of an ethertype that are no IP packets may carry some all the same.
pub(super) fn is_unread(ethertype: u16) -> bool {
    const ARP: u16 = 0x0806;
    ethertype != ARP && !is_control(ethertype)
}

/// Why nothing is known of what an observation carries, if that is so.
fn unreadable(seen: &Observation) -> Option<UndecodedReason> {
    match seen.body {
        Body::NonIp { ethertype, claim: None } if is_unread(ethertype) => {
            Some(UndecodedReason::Ethertype(ethertype))
        }
        _ => seen.undecoded_tunnel.map(|_| UndecodedReason::Tunnel),
    }
}

/// Whether a frame is long enough for a packet of TCP over IPv4.
fn is_long_enough(frame: &Frame) -> bool {
    const PACKET: u32 = 40;
    const ETHERNET_HEADER: u32 = 14;
    let header = if frame.link == ETHERNET { ETHERNET_HEADER } else { 0 };
    frame.wire_len >= PACKET + header
}

/// The link type of Ethernet.
const ETHERNET: u16 = 1;

/// Whom a frame that cannot be understood comes from and goes to, as far as Ethernet tells.
fn unread(frame: &Frame, data: &[u8]) -> UndecodedFrames {
    let mac = |at: usize| {
        let bytes = data.get(at..).and_then(|rest| rest.first_chunk::<6>());
        bytes.filter(|_| frame.link == ETHERNET).map_or(Mac::NONE, |bytes| Mac(*bytes))
    };
    UndecodedFrames { from: mac(6), to: mac(0), why: UndecodedReason::Tunnel }
}

/// Adds the frames of the latest ten seconds to a timeline.
fn end_slot(timeline: &mut ActivityHistogram, slot: &mut (Nanos, ActivityBucket)) {
    let (number, slot) = std::mem::replace(slot, NO_SLOT);
    if number != NO_TIME {
        timeline.add(number, &slot);
    }
}

/// Which frames the user wants left out.
pub(super) struct FrameFilter {
    since: Option<Nanos>,
    until: Option<Nanos>,
    filter: Option<Filter>,
}

impl FrameFilter {
    pub fn new(request: &Request) -> Self {
        // The expression was checked when the plan was made.
        let filter = request.filter.as_deref().and_then(|f| Filter::new(f).ok());
        Self { since: request.since, until: request.until, filter }
    }

    /// Whether a frame is before or after the wanted time.
    pub fn is_outside(&self, frame: &Frame) -> bool {
        let timed = frame.time != NO_TIME;
        let early = self.since.is_some_and(|since| timed && frame.time < since);
        let late = self.until.is_some_and(|until| timed && frame.time >= until);
        early || late
    }

    /// Whether the filter lets a frame pass.
    pub fn passes(&mut self, frame: &Frame, data: &[u8]) -> bool {
        let filter = self.filter.as_mut();
        filter.is_none_or(|filter| filter.passes(frame.link, data, frame.wire_len))
    }
}

/// A decoder as the user wants it.
pub(super) fn decoder(request: &Request) -> Decoder {
    Decoder::new(!request.no_decap, &request.vxlan_ports).stating(request.tunnels.clone())
}

/// Decodes batches into tables of its own.
pub(super) struct Worker<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    store: &'a FlowStore,
    gate: FrameFilter,
    decoder: Decoder,
    keep: &'a Retention,
    tables: WorkerTables,
    /// Observations that go into the tables together; written in place.
    pending: Vec<Observation>,
    counted: WorkerCounters,
    /// The ten seconds of the latest frame, which are nearly always the next one's too, and what they hold.
    slot: (Nanos, ActivityBucket),
}

impl<'a> Worker<'a> {
    pub fn new(
        plan: &'a Plan,
        progress: &'a Progress,
        store: &'a FlowStore,
        keep: &'a Retention,
    ) -> Self {
        let accounts = vec![FrameCounters::default(); plan.sources.len()];
        Self {
            plan,
            progress,
            store,
            gate: FrameFilter::new(&plan.request),
            decoder: decoder(&plan.request),
            keep,
            tables: store.tables(keep),
            pending: vec![Observation::default(); TOGETHER],
            counted: WorkerCounters { accounts, timeline: ActivityHistogram::default() },
            slot: NO_SLOT,
        }
    }

    fn work(mut self, batches: &Batches<'_>) -> std::io::Result<WorkerCounters> {
        // Half of the memory for the tables of all workers; where they meet needs as much again.
        let budget = self.plan.request.max_memory / 2 / self.plan.jobs.max(1);
        let mut trouble = None;
        batches.each(|chunk| {
            if trouble.is_none() && !self.progress.stop.load(Ordering::Relaxed) {
                self.take(&chunk.frames);
                if let Some(evidence) = chunk.evidence.take() {
                    self.tables.take_evidence(evidence);
                }
                if self.tables.memory() > budget {
                    let empty = self.store.tables(self.keep);
                    let tables = std::mem::replace(&mut self.tables, empty);
                    trouble = self.store.spill(tables).err();
                }
            }
        });
        match trouble {
            Some(error) => Err(error),
            None => {
                end_slot(&mut self.counted.timeline, &mut self.slot);
                self.store.submit(self.tables)?;
                Ok(self.counted)
            }
        }
    }

    /// The tables as they are.
    pub fn tables(&self) -> &WorkerTables {
        &self.tables
    }

    /// The tables, to be folded.
    pub fn tables_mut(&mut self) -> &mut WorkerTables {
        &mut self.tables
    }

    /// Gives away what was found, and starts anew.
    pub fn hand_over(&mut self) -> (WorkerTables, WorkerCounters) {
        let accounts = vec![FrameCounters::default(); self.plan.sources.len()];
        let empty = WorkerCounters { accounts, timeline: ActivityHistogram::default() };
        end_slot(&mut self.counted.timeline, &mut self.slot);
        let tables = std::mem::replace(&mut self.tables, self.store.tables(self.keep));
        (tables, std::mem::replace(&mut self.counted, empty))
    }

    /// Decodes a batch into the tables.
    pub fn take(&mut self, batch: &Batch) {
        let account = &mut self.counted.accounts[batch.source];
        let mut waiting = 0;
        let mut payloads: Vec<&[u8]> = Vec::with_capacity(TOGETHER);
        let mut facts = Vec::new();
        let starts = matches!(self.keep.parts, PrefixRetention::Starts);
        for frame in &batch.frames {
            account.frames += 1;
            account.bytes += u64::from(frame.wire_len);
            account.truncated += u64::from(frame.cap_len < frame.wire_len);
            if self.gate.is_outside(frame) {
                account.skipped.count(SkipReason::OutsideWindow);
                continue;
            }
            account.first.see(frame.time);
            account.last.see(frame.time);
            let bucket = frame.time.div_euclid(BUCKET_NS);
            if frame.time != NO_TIME {
                if bucket != self.slot.0 {
                    end_slot(&mut self.counted.timeline, &mut self.slot);
                    self.slot.0 = bucket;
                }
                self.slot.1.see(frame.time, frame.wire_len);
            }
            let data = batch.data(frame);
            if !self.gate.passes(frame, data) {
                account.skipped.count(SkipReason::Filtered);
                continue;
            }
            let seen = &mut self.pending[waiting];
            match self.decoder.decode(frame, data, seen) {
                Ok(()) => {
                    account.observations += 1;
                    if let Some(why) = unreadable(seen)
                        && is_long_enough(frame)
                    {
                        self.tables.miss(UndecodedFrames { why, ..unread(frame, data) });
                    }
                    if let Some(tunnel) = seen.undecoded_tunnel {
                        match account.opaque.get_mut(tunnel.name()) {
                            Some(count) => *count += 1,
                            None => drop(account.opaque.insert(tunnel.name().to_owned(), 1)),
                        }
                    }
                    account.bad_checksums += u64::from(seen.bad_checksum);
                    match seen.body {
                        Body::NoPorts { .. } => account.portless += 1,
                        Body::Fragment { .. } => account.fragments += 1,
                        Body::NonIp { ethertype, .. } => {
                            *account.non_ip.entry(ethertype).or_default() += 1;
                        }
                        Body::Transport { .. } | Body::Error { .. } => {}
                    }
                    waiting += 1;
                    payloads.push(seen.payload(data));
                    if waiting == TOGETHER {
                        read_payloads(&self.pending, &payloads, starts, &mut facts);
                        self.tables.observe(&self.pending, facts.drain(..));
                        payloads.clear();
                        waiting = 0;
                    }
                }
                Err(reason) => {
                    account.skipped.count(reason);
                    // What carries no packet hides none.
                    if reason != SkipReason::WlanManagement && is_long_enough(frame) {
                        let why = UndecodedReason::skipped(reason);
                        self.tables.miss(UndecodedFrames { why, ..unread(frame, data) });
                    }
                    if reason == SkipReason::UnknownLinkType {
                        *account.unknown_links.entry(frame.link).or_default() += 1;
                    }
                }
            }
        }
        read_payloads(&self.pending[..waiting], &payloads, starts, &mut facts);
        self.tables.observe(&self.pending[..waiting], facts.drain(..));
        self.progress.frames.fetch_add(batch.frames.len() as u64, Ordering::Relaxed);
    }
}
