//! Reads the captures. Each source has one reader, any worker can take any batch, and the tables of
//! the workers are merged at the end.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::source::{Chunk, Origin, Source};
use super::{AuditError, Plan, Progress, Reading, Request, lock, temporary};
use crate::capture::{Batch, CaptureError, Filter, Frame, ReadError};
use crate::decode::{Body, Decoder, Observation};
use crate::flow::{
    EvidenceLimit, FlowStore, HashSeed, LOOKUP_BATCH, PrefixRetention, Retention, UndecodedFrames,
    UndecodedReason, WorkerTables,
};
use crate::model::{
    ActivityBucket, ActivityHistogram, BUCKET_NS, Correction, FrameCounters, InputRecord, Mac,
    Merge, NO_TIME, Nanos, SkipReason,
};
use crate::payload::{MessageParts, read_payloads};
use crate::policy::is_control;
use crate::result::plural;

/// Each kind of side evidence, such as address claims or DNS queries, may have one entry for this
/// many bytes of memory. An entry takes about 256 bytes, so all kinds together take about a quarter
/// of the memory.
const MEMORY_PER_ENTRY: usize = 8192;

/// The number of entries of each kind that are allowed even if there is little memory. A farm
/// normally has fewer.
const MIN_ENTRIES: usize = 1 << 14;

/// Reads all sources. `retention` determines what the tables remember of each packet.
pub(crate) fn run(
    plan: &Plan,
    progress: &Progress,
    retention: &Retention,
) -> Result<Reading, AuditError> {
    if let Some(shared) = &plan.shared {
        shared.begin(retention);
    }
    let Unmerged { inputs, timeline, store } = read_tables(plan, progress, retention)?;
    if let Some(shared) = &plan.shared {
        shared.check().map_err(AuditError::Sources)?;
    }
    // If no input is a capture, there is nothing to audit, which is an error.
    if !inputs.is_empty() && inputs.iter().all(|i| i.passed_over) {
        let errors = inputs.iter().map(|i| (i.name.clone(), i.error.clone().unwrap_or_default()));
        return Err(AuditError::Sources(errors.collect()));
    }
    let limit = EvidenceLimit {
        most: (plan.request.max_memory / MEMORY_PER_ENTRY).max(MIN_ENTRIES),
        // Without an inventory, any entry may be about a host of it.
        is_host: &|address| plan.hosts.is_empty() || plan.hosts.contains(&address),
    };
    let flows = store.finish(retention, plan.jobs, &limit).map_err(temporary(&plan.temp))?;
    progress.timings.done("merge");
    Ok(Reading::new(inputs, timeline, flows, Correction::NotNeeded))
}

/// The data that was read from sources, before the tables of the workers are merged.
pub(super) struct Unmerged {
    pub inputs: Vec<InputRecord>,
    pub timeline: ActivityHistogram,
    pub store: FlowStore,
}

/// Reads all sources without merging the tables of the workers.
pub(super) fn read_tables(
    plan: &Plan,
    progress: &Progress,
    retention: &Retention,
) -> Result<Unmerged, AuditError> {
    let seed = HashSeed::new();
    let store = FlowStore::new(&seed, plan.temp.clone());
    let work = |batches: &Batches<'_>| Worker::new(plan, progress, &store, retention).work(batches);
    progress.timings.done("start");
    let ReadResult { mut inputs, mut timeline, found } = read_batches(plan, progress, work)?;
    progress.timings.done("packets");
    for counters in found {
        let counters = counters.map_err(temporary(&plan.temp))?;
        for (input, account) in inputs.iter_mut().zip(&counters.accounts) {
            input.account.merge(account);
        }
        timeline.merge(&counters.timeline);
    }
    Ok(Unmerged { inputs, timeline, store })
}

/// The batches that a worker receives.
pub(crate) struct Batches<'a> {
    sources: &'a Sources<'a>,
    tokens: Receiver<ReadToken>,
}

/// The data that the workers share. The worker that holds a read token reads the next batch of the
/// source and passes the token on before it decodes the batch. The bytes that it decodes are
/// therefore still in the cache of its processor.
struct Sources<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    /// The index of the next unopened source.
    next: AtomicUsize,
    inputs: Mutex<Vec<InputRecord>>,
    /// The capture times of the frames that ready-made flows were built from.
    timeline: Mutex<ActivityHistogram>,
    /// The sources that the user named but that cannot be opened, each with the reason.
    unreadable: Mutex<Vec<(usize, String)>>,
}

/// The right to read the next batch. The channel of tokens closes when the last token is dropped.
struct ReadToken {
    source: Option<OpenSource>,
    /// The channel that the token is returned to.
    tokens: Sender<ReadToken>,
}

/// A source that is being read.
struct OpenSource {
    number: usize,
    reader: Box<dyn Source>,
    frames: usize,
}

impl Batches<'_> {
    /// Passes the chunks that this worker reads to `take` until there are no more.
    pub fn for_each(&self, mut take: impl FnMut(&mut Chunk)) {
        let mut chunk = Chunk::default();
        for mut token in &self.tokens {
            chunk.evidence = None;
            if self.sources.read(&mut token.source, &mut chunk) {
                let tokens = token.tokens.clone();
                // Sending cannot fail, because this worker holds a receiver.
                let _ = tokens.send(token);
                take(&mut chunk);
            }
        }
    }
}

/// The records of the sources, and the result of each worker.
pub(crate) struct ReadResult<T> {
    pub inputs: Vec<InputRecord>,
    /// The capture times of the frames that ready-made flows were built from.
    pub timeline: ActivityHistogram,
    pub found: Vec<T>,
}

/// Reads all sources. Each worker runs `work`, and the workers share the chunks.
pub(crate) fn read_batches<T: Send>(
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
    let (sender, tokens) = unbounded();
    for _ in 0..plan.sources.len().min(jobs) {
        let _ = sender.send(ReadToken { source: None, tokens: sender.clone() });
    }
    drop(sender);
    let found = thread::scope(|scope| {
        let start = |_| {
            let batches = Batches { sources: &sources, tokens: tokens.clone() };
            let work = &work;
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

/// Returns the result of a thread. If the thread panicked, continues its panic in this thread.
fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Sources<'_> {
    /// Reads the next batch of the open source, or of the next source if none is open. Returns
    /// `false` if there is no further source to open or the work was stopped.
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

    /// Opens a source. Returns an error if a source that the user named cannot be opened. Returns
    /// `None` for a damaged source or an unusable file in a folder, whose error is recorded, and
    /// for a source whose content is read from another one.
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
                input.error = Some(describe_damage("cut off inside the file header", *at, 0));
                return Ok(None);
            }
            CaptureError::Compressed { format, .. } => {
                (*format).clone_into(&mut input.format);
                input.error = Some(format!(
                    "{error}; nothing in it could be read; copy the file again from its source"
                ));
                return Ok(None);
            }
            CaptureError::NotACapture(looks) => {
                let hint = match looks.as_str() {
                    "an inventory" | "a list of hosts" => {
                        "; give it with --inventory, and pcap or pcapng files as captures"
                    }
                    _ => "; give pcap or pcapng files",
                };
                (format!("{error}{hint}"), !source.is_named_as_capture())
            }
            CaptureError::Special => (error.to_string(), true),
            _ => (error.to_string(), false),
        };
        if !source.found {
            return Err(reason);
        }
        input.error = Some(reason);
        input.passed_over = passed_over;
        Ok(None)
    }

    /// Records the counters and errors of a source that has ended.
    fn close(&self, OpenSource { number, reader, frames }: OpenSource, damage: Option<ReadError>) {
        let mut record = InputRecord::default();
        let finished = reader.finish(&mut record, &mut lock(&self.timeline));
        let mut inputs = lock(&self.inputs);
        let input = &mut inputs[number];
        (input.format, input.link_types) = (record.format, record.link_types);
        (input.filters, input.loss) = (record.filters, record.loss);
        (input.sha256, input.unpacked) = (record.sha256, record.unpacked);
        input.account.merge(&record.account);
        input.size = input.size.max(record.size);
        input.hidden_nanos = record.hidden_nanos;
        input.passed_over = record.passed_over;
        (input.zeros, input.impossible_drops) = (record.zeros, record.impossible_drops);
        input.is_cut = damage.as_ref().map_or(record.is_cut, |damage| damage.is_cut);
        input.error = match (damage, finished) {
            (Some(damage), _) => Some(describe_damage(&damage.what, damage.offset, frames)),
            (None, Err(error)) => Some(error.to_string()),
            (None, Ok(())) if record.error.is_some() => record.error,
            (None, Ok(())) => match input.zeros {
                (_, 0) => None,
                (first, bytes) => Some(format!(
                    "{} of zeros in place of records, the first at byte {first}; all other records were read",
                    plural(bytes, "byte")
                )),
            },
        };
    }
}

/// Describes where and how an input ended early.
fn describe_damage(what: &str, offset: u64, frames: usize) -> String {
    let after = match frames {
        0 => "before the first complete frame".to_owned(),
        1 => "after 1 complete frame, which was used".to_owned(),
        _ => format!("after {frames} complete frames, which were used"),
    };
    format!("{what} at byte {offset}, {after}")
}

/// The counters that a worker keeps in addition to its tables.
#[derive(Default)]
pub(crate) struct WorkerCounters {
    pub accounts: Vec<FrameCounters>,
    pub timeline: ActivityHistogram,
}

/// Returns whether frames with a non-IP EtherType may still carry IP packets.
pub(crate) fn may_carry_ip(ethertype: u16) -> bool {
    const ARP: u16 = 0x0806;
    ethertype != ARP && !is_control(ethertype)
}

/// Returns the reason why the content of an observation is unknown; `None` if it is known.
fn undecoded_reason(seen: &Observation, frame: &Frame) -> Option<UndecodedReason> {
    match seen.body {
        // Of ICMP, only errors whose quoted packet cannot be read have no ports.
        Body::NoPorts { dst, transport, .. }
            if transport.is_icmp() && frame.cap_len < frame.wire_len =>
        {
            Some(UndecodedReason::Error(dst))
        }
        Body::NonIp { ethertype, claim: None } if may_carry_ip(ethertype) => {
            Some(UndecodedReason::Ethertype(ethertype))
        }
        _ => seen.undecoded_tunnel.map(|_| UndecodedReason::Tunnel),
    }
}

/// Returns whether a frame is long enough to contain a TCP packet over IPv4. A shorter frame cannot
/// hide a connection.
fn is_long_enough(frame: &Frame) -> bool {
    const PACKET: u32 = 40;
    const ETHERNET_HEADER: u32 = 14;
    let header = if frame.link == ETHERNET { ETHERNET_HEADER } else { 0 };
    frame.wire_len >= PACKET + header
}

/// The link type of Ethernet (LINKTYPE_ETHERNET).
pub(crate) const ETHERNET: u16 = 1;

/// Describes a frame that cannot be decoded. Its MAC addresses are known only if the link type is
/// Ethernet and the frame contains them. For an ICMP error, its receiver is enough.
fn undecoded_frame(frame: &Frame, data: &[u8], why: UndecodedReason) -> UndecodedFrames {
    if why.receiver_of_error().is_some() {
        return UndecodedFrames { from: Mac::NONE, to: Mac::NONE, why };
    }
    let mac = |at: usize| {
        let bytes = data.get(at..).and_then(|data| data.first_chunk::<6>());
        bytes.filter(|_| frame.link == ETHERNET).map_or(Mac::NONE, |bytes| Mac(*bytes))
    };
    UndecodedFrames { from: mac(6), to: mac(0), why }
}

/// Excludes frames outside the requested time range, and frames that do not match the filter
/// expression.
pub(crate) struct FrameFilter {
    since: Option<Nanos>,
    until: Option<Nanos>,
    filter: Option<Filter>,
}

impl FrameFilter {
    pub fn new(request: &Request) -> Self {
        // The expression was checked when the plan was created.
        let filter = request.filter.as_deref().and_then(|f| Filter::new(f).ok());
        Self { since: request.since, until: request.until, filter }
    }

    /// Returns whether a frame is outside the requested time range. A frame without a timestamp
    /// never is.
    pub fn is_outside(&self, frame: &Frame) -> bool {
        let timed = frame.time != NO_TIME;
        let early = self.since.is_some_and(|since| timed && frame.time < since);
        let late = self.until.is_some_and(|until| timed && frame.time >= until);
        early || late
    }

    /// Returns whether a frame passes the filter expression.
    pub fn passes(&mut self, frame: &Frame, data: &[u8]) -> bool {
        let filter = self.filter.as_mut();
        filter.is_none_or(|filter| filter.passes(frame.link, data, frame.wire_len))
    }
}

/// Returns a decoder that follows the tunnel options of the request.
pub(crate) fn decoder(request: &Request) -> Decoder {
    Decoder::new(&request.vxlan_ports)
        .with_decapsulation(!request.no_decap)
        .with_stated_tunnels(request.tunnels.clone())
}

/// A worker, which decodes batches into its own tables.
pub(crate) struct Worker<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    store: &'a FlowStore,
    filter: FrameFilter,
    decoder: Decoder,
    retention: &'a Retention,
    tables: WorkerTables,
    /// A reused buffer of observations, which are added to the tables together.
    pending: Vec<Observation>,
    counters: WorkerCounters,
}

impl<'a> Worker<'a> {
    pub fn new(
        plan: &'a Plan,
        progress: &'a Progress,
        store: &'a FlowStore,
        retention: &'a Retention,
    ) -> Self {
        let accounts = vec![FrameCounters::default(); plan.sources.len()];
        Self {
            plan,
            progress,
            store,
            filter: FrameFilter::new(&plan.request),
            decoder: decoder(&plan.request),
            retention,
            tables: store.tables(retention),
            pending: vec![Observation::default(); LOOKUP_BATCH],
            counters: WorkerCounters { accounts, timeline: ActivityHistogram::default() },
        }
    }

    fn work(mut self, batches: &Batches<'_>) -> std::io::Result<WorkerCounters> {
        let budget = memory_of_worker(self.plan);
        let mut failure = None;
        batches.for_each(|chunk| {
            if failure.is_none() && !self.progress.stop.load(Ordering::Relaxed) {
                self.decode_batch(&chunk.frames);
                if let Some(evidence) = chunk.evidence.take() {
                    self.tables.take_evidence(evidence);
                }
                if self.tables.memory() > budget {
                    let empty = self.store.tables(self.retention);
                    let tables = std::mem::replace(&mut self.tables, empty);
                    failure = self.store.spill(tables).err();
                }
            }
        });
        match failure {
            Some(error) => Err(error),
            None => {
                self.store.submit(self.tables)?;
                Ok(self.counters)
            }
        }
    }

    /// Decodes a batch into the tables.
    pub fn decode_batch(&mut self, batch: &Batch) {
        self.decode_frames(batch, &batch.frames);
    }

    /// Decodes some frames of a batch into the tables.
    pub fn decode_frames(&mut self, batch: &Batch, frames: &[Frame]) {
        self.count_frames(batch.source, frames);
        let account = &mut self.counters.accounts[batch.source];
        let mut waiting = 0;
        let mut payloads: Vec<&[u8]> = Vec::with_capacity(LOOKUP_BATCH);
        let mut facts = Vec::new();
        let parts = parts_to_read(&self.retention.parts);
        for frame in frames {
            if self.filter.is_outside(frame) {
                account.skipped.count(SkipReason::OutsideWindow);
                continue;
            }
            let data = batch.data(frame);
            if !self.filter.passes(frame, data) {
                account.skipped.count(SkipReason::Filtered);
                continue;
            }
            let seen = &mut self.pending[waiting];
            match self.decoder.decode(frame, data, seen) {
                Ok(()) => {
                    account.observations += 1;
                    account.bad_checksums += u64::from(seen.bad_checksum);
                    let is_of_flow = matches!(seen.body, Body::Transport { .. });
                    if !is_of_flow || seen.undecoded_tunnel.is_some() {
                        count_content(account, seen);
                        if let Some(why) = undecoded_reason(seen, frame)
                            && is_long_enough(frame)
                        {
                            self.tables.record_undecoded(undecoded_frame(frame, data, why));
                        }
                    }
                    waiting += 1;
                    payloads.push(seen.payload(data));
                    if waiting == LOOKUP_BATCH {
                        read_payloads(&self.pending, &payloads, parts, &mut facts);
                        self.tables.observe(&self.pending, facts.drain(..));
                        payloads.clear();
                        waiting = 0;
                    }
                }
                Err(reason) => {
                    account.skipped.count(reason);
                    // An IEEE 802.11 management frame does not carry a packet, so it cannot hide
                    // one.
                    if reason != SkipReason::WlanManagement && is_long_enough(frame) {
                        let why = UndecodedReason::skipped(reason);
                        self.tables.record_undecoded(undecoded_frame(frame, data, why));
                    }
                    if reason == SkipReason::UnknownLinkType {
                        *account.unknown_links.entry(frame.link).or_default() += 1;
                    }
                }
            }
        }
        read_payloads(&self.pending[..waiting], &payloads, parts, &mut facts);
        self.tables.observe(&self.pending[..waiting], facts.drain(..));
        self.progress.frames.fetch_add(frames.len() as u64, Ordering::Relaxed);
    }

    /// Counts frames by what is known before they are decoded: their lengths and times. In loops of
    /// their own, the sums stay in registers.
    fn count_frames(&mut self, source: usize, frames: &[Frame]) {
        let account = &mut self.counters.accounts[source];
        account.frames += frames.len() as u64;
        account.bytes += frames.iter().map(|frame| u64::from(frame.wire_len)).sum::<u64>();
        account.truncated += frames.iter().filter(|f| f.cap_len < f.wire_len).count() as u64;
        // The next frame nearly always belongs to the same ten-second bucket, so the bucket is kept
        // until it changes.
        let mut times = NO_TIME..NO_TIME;
        let mut bucket = ActivityBucket::WATCHED;
        let mut end_bucket = |start: Nanos, bucket: ActivityBucket| {
            if bucket.frames > 0 {
                account.first.merge(&bucket.first);
                account.last.merge(&bucket.last);
                self.counters.timeline.add(start.div_euclid(BUCKET_NS), &bucket);
            }
        };
        for frame in frames.iter().filter(|frame| !self.filter.is_outside(frame)) {
            if !times.contains(&frame.time) {
                if frame.time == NO_TIME {
                    continue;
                }
                end_bucket(times.start, std::mem::replace(&mut bucket, ActivityBucket::WATCHED));
                let start = frame.time.saturating_sub(frame.time.rem_euclid(BUCKET_NS));
                let start = start.max(NO_TIME + 1);
                times = start..start.saturating_add(BUCKET_NS);
            }
            bucket.see(frame.time, frame.wire_len);
        }
        end_bucket(times.start, bucket);
    }

    /// Returns the tables of the current window.
    pub fn tables(&self) -> &WorkerTables {
        &self.tables
    }

    /// Returns the tables of the current window, so that flows can be aggregated in place.
    #[cfg(feature = "live")]
    pub fn tables_mut(&mut self) -> &mut WorkerTables {
        &mut self.tables
    }

    /// Returns the tables and counters, and replaces them with empty ones.
    pub fn take_tables(&mut self) -> (WorkerTables, WorkerCounters) {
        let accounts = vec![FrameCounters::default(); self.plan.sources.len()];
        let empty = WorkerCounters { accounts, timeline: ActivityHistogram::default() };
        let tables = std::mem::replace(&mut self.tables, self.store.tables(self.retention));
        (tables, std::mem::replace(&mut self.counters, empty))
    }
}

/// Returns the bytes that the tables of one worker may take. The tables of all workers get half of
/// the memory, because merging them needs the same amount again.
pub(super) fn memory_of_worker(plan: &Plan) -> usize {
    plan.request.max_memory / 2 / plan.jobs.max(1)
}

/// Counts a decoded frame by its content.
fn count_content(account: &mut FrameCounters, seen: &Observation) {
    if let Some(tunnel) = seen.undecoded_tunnel {
        match account.opaque.get_mut(tunnel.name()) {
            Some(count) => *count += 1,
            None => drop(account.opaque.insert(tunnel.name().to_owned(), 1)),
        }
    }
    match seen.body {
        Body::NoPorts { .. } => account.portless += 1,
        Body::Fragment { .. } => account.fragments += 1,
        Body::NonIp { ethertype, .. } => *account.non_ip.entry(ethertype).or_default() += 1,
        Body::Transport { .. } | Body::Error { .. } => {}
    }
}

/// Returns which parts of messages must be read, depending on what is remembered.
fn parts_to_read(kept: &PrefixRetention) -> MessageParts {
    match kept {
        PrefixRetention::Starts => MessageParts::StartsOnly,
        PrefixRetention::Of(_) | PrefixRetention::All | PrefixRetention::StartsAndAll => {
            MessageParts::All
        }
    }
}
