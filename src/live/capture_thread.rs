//! The threads of a live audit that capture frames and decode them.

#[cfg(feature = "store")]
use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::listener::LiveEvent;
use super::memory::ThreadMemory;
use super::options::{AfterWindow, LiveOptions};
use super::sandbox::Sandbox;
use super::{LiveContext, POLL_INTERVAL};
use crate::capture::{Batch, CaptureError, LiveCapture, may_appear};
use crate::flow::{AggregationLevel, WorkerTables};
use crate::model::{Loss, Merge, NO_TIME, Nanos, escape_control};
use crate::pipeline::{AuditError, Worker, WorkerCounters};
#[cfg(feature = "store")]
use crate::store::PacketSpill;

/// The interval at which a thread checks whether an interface that is down or missing can be read.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

/// The interval at which the loss counters of an interface are read.
const LOSS_INTERVAL: Duration = Duration::from_secs(1);

/// The maximum time for draining the kernel's buffers at the end of the audit.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// The part of a window that one thread hands over.
pub(super) struct WindowPart {
    pub interface: usize,
    pub tables: WorkerTables,
    pub counters: WorkerCounters,
    pub loss: Loss,
    pub link: Option<u16>,
    /// The number of flows that this thread aggregated, by level.
    pub aggregated: Vec<(AggregationLevel, u64)>,
    /// The number of entries of side evidence that were dropped.
    pub dropped: u64,
    /// The records of packets that were written to disk, or the error if they could not be written.
    #[cfg(feature = "store")]
    pub packets: Option<io::Result<PacketSpill>>,
    /// The times of the last frames before interruptions of the capture.
    pub cuts: Vec<Nanos>,
}

/// The capture of one thread on one interface. Each interface has one capture per thread.
pub(super) struct OpenCapture {
    /// The index of the interface in [`LiveOptions::interfaces`].
    pub interface: usize,
    /// The fan-out group, if several threads share the frames of the interface.
    group: Option<u16>,
    /// Whether this is the first capture of its interface.
    is_primary: bool,
    /// `None` if the interface does not exist yet.
    pub capture: Option<LiveCapture>,
}

fn not_captured(error: &CaptureError) -> String {
    format!("cannot be used for a capture: {error}; rasaudit interfaces lists all interfaces")
}

/// Opens all interfaces and starts their captures. Unless confinement is strict, an interface that
/// does not exist yet is opened when it appears. The error lists each interface that cannot be used
/// for a capture, with the reason.
pub(super) fn open_all(watch: &LiveOptions) -> Result<Vec<OpenCapture>, AuditError> {
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
                    let capture = Some(capture);
                    captures.push(OpenCapture { interface, group, is_primary, capture });
                }
                // With strict confinement, the interface could not be opened later, so a missing
                // interface is an error.
                Err(_) if watch.confinement.sandbox != Sandbox::Strict && may_appear(name) => {
                    captures.push(OpenCapture { interface, group, is_primary, capture: None });
                }
                Err(error) => {
                    failures.push((name.clone(), not_captured(&error)));
                    break;
                }
            }
        }
    }
    // Capturing starts only after all captures are open, so that the kernel distributes even the
    // first frames of an interface among all of its threads.
    for OpenCapture { interface, capture, .. } in &mut captures {
        let Some(capture) = capture else { continue };
        if let Err(error) = capture.start_capture(&watch.capture) {
            failures.push((watch.interfaces[*interface].clone(), not_captured(&error)));
        }
    }
    if failures.is_empty() { Ok(captures) } else { Err(AuditError::Sources(failures)) }
}

/// A thread that reads one capture.
pub(super) struct CaptureThread<'a> {
    shared: &'a LiveContext<'a>,
    interface: usize,
    group: Option<u16>,
    capture: Option<LiveCapture>,
    worker: Worker<'a>,
    loss: Loss,
    /// When the loss counters were last read.
    loss_read: Instant,
    /// The time at which the interface went down or was found missing, and the time of the last
    /// attempt to read it again. `None` while it is being read.
    down: Option<(Instant, Instant)>,
    /// The link type; `None` if the interface was down or missing for part of the window.
    link: Option<u16>,
    memory: ThreadMemory,
    /// Whether this thread reports the events of the interface. Only one thread per interface does
    /// so.
    is_primary: bool,
    /// The time of the last frame.
    last: Nanos,
    cuts: Vec<Nanos>,
}

impl<'a> CaptureThread<'a> {
    pub fn new(shared: &'a LiveContext<'a>, open: OpenCapture) -> Self {
        let OpenCapture { interface, group, is_primary, capture } = open;
        let progress = &shared.control.progress;
        Self {
            worker: Worker::new(shared.plan, progress, shared.store, shared.retention),
            shared,
            interface,
            group,
            link: capture.as_ref().map(LiveCapture::link),
            loss: Loss::default(),
            loss_read: Instant::now(),
            down: capture.is_none().then(|| (Instant::now(), Instant::now())),
            capture,
            memory: ThreadMemory::default(),
            is_primary,
            last: NO_TIME,
            cuts: Vec::new(),
        }
    }

    pub fn run(mut self, parts: &Sender<WindowPart>) {
        let mut window = 0;
        let mut batch = Batch::default();
        if self.capture.is_none() {
            let name = self.shared.watch.interfaces[self.interface].clone();
            self.notify(LiveEvent::InterfaceMissing(name));
        }
        loop {
            let current = self.shared.window.load(Ordering::Acquire);
            if current != window {
                window = current;
                if self.shared.end.load(Ordering::Relaxed) {
                    self.drain(&mut batch);
                    // Sending fails if the main thread has stopped waiting, which is not an error.
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

    /// Reads the frames that have arrived, or waits briefly. If the interface is down or missing,
    /// waits and, once per [`REOPEN_INTERVAL`], tries to read it again.
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
                recorder.record(self.interface, batch);
                if let Some(error) = recorder.take_error() {
                    self.shared.listener.on_event(&LiveEvent::NotRecorded(error.to_string()));
                }
            }
            self.worker.decode_batch(batch);
            self.memory.bound(self.shared, &mut self.worker, self.last);
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

    /// Returns this thread's part of the window, and begins the next window with empty tables.
    fn end_window(&mut self, after: AfterWindow) -> WindowPart {
        if let Some(capture) = &mut self.capture {
            let loss = match after {
                AfterWindow::Continue => capture.loss(),
                AfterWindow::Stop => capture.final_loss(),
            };
            self.count_loss(loss);
        }
        let (tables, counters) = self.worker.take_tables();
        let next_link =
            self.capture.as_ref().filter(|_| self.down.is_none()).map(LiveCapture::link);
        let link = std::mem::replace(&mut self.link, next_link);
        let memory = std::mem::take(&mut self.memory);
        WindowPart {
            interface: self.interface,
            tables,
            counters,
            loss: std::mem::take(&mut self.loss),
            link,
            aggregated: memory.aggregated,
            dropped: memory.dropped,
            #[cfg(feature = "store")]
            packets: memory.packets,
            cuts: std::mem::take(&mut self.cuts),
        }
    }
}
