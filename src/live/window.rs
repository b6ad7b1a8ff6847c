//! The main thread of a live audit: closes windows, judges them and saves the state.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::capture_thread::WindowPart;
use super::listener::{Listener, LiveEvent, LiveOutcome, WindowClosed};
use super::memory::stay_bounded;
use super::options::{AfterWindow, LiveOptions};
#[cfg(feature = "store")]
use super::rows::ClosedWindow;
use super::state::StateFolder;
use super::{ListedAddresses, LiveContext, POLL_INTERVAL};
use crate::flow::{EvidenceLimit, FlowStore, MergedFlows, Retention, WindowCarryOver, WindowEnd};
use crate::model::{
    ActivityHistogram, Correction, FrameCounters, InputRecord, Loss, Merge, Nanos, SECOND,
};
use crate::pipeline::{AuditError, Reading, limit_to_believed_times, lock, temporary, total};
use crate::policy::Policy;
use crate::report::Baseline;

/// The age up to which the timeline has a resolution of ten seconds, in ns. Older parts have a
/// resolution of one hour.
const FINE_TIMELINE: Nanos = 7 * 24 * 3600 * SECOND;

/// The time that a thread may take to hand over its part of a window before a warning is reported.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// The time after which a thread that has not handed over its part is considered hung. While the
/// audit ends, [`PART_TIMEOUT`] applies instead.
const HUNG_AFTER: Duration = Duration::from_secs(600);

/// The main thread of a live audit: closes windows, judges them and saves the state.
pub(super) struct WindowLoop<'a> {
    pub shared: &'a LiveContext<'a>,
    pub state: Option<&'a StateFolder>,
    /// The parts of a window that the capture threads hand over.
    pub parts: Receiver<WindowPart>,
    pub threads: usize,
    pub policy: Arc<Policy>,
    /// The findings of all windows so far.
    pub baseline: Baseline,
    pub carry_over: WindowCarryOver,
}

impl WindowLoop<'_> {
    /// Closes and judges windows until the audit ends. `all` is the evidence of earlier runs, to
    /// which the evidence of each window is added.
    pub fn run(mut self, mut all: Reading) -> Result<LiveOutcome, AuditError> {
        let mut partial = false;
        let mut since = now();
        loop {
            let after = self.wait();
            let ended = Instant::now();
            let closed = self.close(after, since, &mut all);
            self.check_recorder(after);
            let (mut window, until) = closed?;
            // If no interface was down, the whole window counts as watched, even without frames.
            if window.inputs.iter().all(|input| input.error.is_none()) {
                window.timeline.watch(since, until);
            }
            since = until;
            partial |= !window.damaged().is_empty();
            self.reload_if_requested();
            let (failed, unchecked) = self.judge(window, &mut all, ended)?;
            self.save(&all);
            if after == AfterWindow::Stop {
                return Ok(LiveOutcome { failed, unchecked, partial });
            }
        }
    }

    /// Reports whether all frames of the window were recorded, and lets the recorder try again
    /// after an error.
    fn check_recorder(&self, after: AfterWindow) {
        let Some(recorder) = self.shared.recorder else { return };
        let lost = match after {
            AfterWindow::Continue => recorder.end_window(),
            AfterWindow::Stop => recorder.finish(),
        };
        if let Some(error) = recorder.take_error() {
            self.shared.listener.on_event(&LiveEvent::NotRecorded(error.to_string()));
        }
        self.shared.listener.on_event(&match lost {
            0 => LiveEvent::Recorded,
            lost => LiveEvent::RecordingGap(lost),
        });
    }

    fn reload_if_requested(&mut self) {
        if self.shared.control.reload.swap(false, Ordering::Relaxed)
            && let Some(new) = self.shared.listener.reload()
        {
            self.policy = Arc::new(new);
            *lock(&self.shared.listed) = Arc::new(ListedAddresses::of(&self.policy));
        }
    }

    fn save(&self, all: &Reading) {
        let Some(state) = self.state else { return };
        self.shared.listener.on_event(&match state.save(all) {
            Ok(()) => LiveEvent::Saved,
            Err(error) => LiveEvent::NotSaved(error),
        });
    }

    /// Merges a window into the evidence of all windows. Judges the window alone and, at the same
    /// time, that evidence. Passes both results to the listener. Returns whether the findings of
    /// all windows fail the audit, and whether nothing was checked although a check was required.
    fn judge(
        &mut self,
        mut window: Reading,
        all: &mut Reading,
        ended: Instant,
    ) -> Result<(bool, bool), AuditError> {
        let shared = self.shared;
        absorb(shared, all, &window)?;
        let (alone, together) = thread::scope(|scope| {
            let alone = scope.spawn(|| shared.judge(&mut window, &self.policy));
            let together = shared.judge(all, &self.policy);
            (alone.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), together)
        });
        let (mut alone, together) = (alone?, together?);
        // Reports do not need the flows of the window.
        alone.take_flows(no_flows(shared.store).map_err(temporary(&shared.plan.temp))?);
        let closed = WindowClosed { window: &alone, all: &together, before: &self.baseline, ended };
        shared.listener.on_window_closed(&closed);
        together.remember(&mut self.baseline);
        Ok((together.failed, together.unchecked))
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

    /// Closes the window, which was opened at `since`, collects the part of every thread, and
    /// writes the rows of the window if they were requested. Also returns the time at which the
    /// window was closed and the next one begins. In the rows, both times must be equal, or the
    /// capture would seem to be interrupted between the windows.
    fn close(
        &mut self,
        after: AfterWindow,
        since: Nanos,
        all: &mut Reading,
    ) -> Result<(Reading, Nanos), AuditError> {
        let shared = self.shared;
        if after == AfterWindow::Stop {
            shared.end.store(true, Ordering::Relaxed);
        }
        // The threads must see `end` when they see the new window.
        shared.window.fetch_add(1, Ordering::Release);
        let store = all.flows.sibling_store();
        let mut inputs = inputs(shared.watch);
        let mut timeline = ActivityHistogram::default();
        let mut cuts = BTreeSet::new();
        #[cfg(feature = "store")]
        let (mut dropped, mut packets) = (0, Ok(Vec::new()));
        let requested = Instant::now();
        for _ in 0..self.threads {
            let part = self.receive_part(after, requested)?;
            let input = &mut inputs[part.interface];
            part.counters.accounts.iter().for_each(|account| input.account.merge(account));
            input.loss.merge(&part.loss);
            match part.link {
                Some(link) if !input.link_types.contains(&link) => input.link_types.push(link),
                Some(_) => {}
                None => input.error = Some("was unavailable for part of the time".to_owned()),
            }
            timeline.merge(&part.counters.timeline);
            store.submit(part.tables).map_err(temporary(&shared.plan.temp))?;
            for (level, count) in part.aggregated {
                shared.listener.on_event(&LiveEvent::Aggregated(level, count));
            }
            if part.dropped > 0 {
                shared.listener.on_event(&LiveEvent::EvidenceDropped(part.dropped));
            }
            #[cfg(feature = "store")]
            {
                dropped += part.dropped;
                packets = match (packets, part.packets) {
                    (Ok(mut all), Some(Ok(own))) => {
                        all.push(own);
                        Ok(all)
                    }
                    (Ok(_), Some(Err(error))) => Err(error),
                    (packets, _) => packets,
                };
            }
            cuts.extend(part.cuts);
        }
        let until = now();
        #[cfg(feature = "store")]
        if let Some(spool) = &shared.spool {
            let period = (since, until);
            let (flows, inputs) = (&store, &inputs[..]);
            let (timeline, cuts) = (&timeline, &cuts);
            let closed = ClosedWindow { flows, inputs, timeline, cuts, period, dropped, packets };
            super::rows::write(shared, spool, closed);
        }
        let end = match after {
            AfterWindow::Continue => WindowEnd::Continued(total(&inputs).0.last.get()),
            AfterWindow::Stop => WindowEnd::Last,
        };
        let mut flows = store
            .finish_window(shared.plan.jobs, &mut self.carry_over, end)
            .map_err(temporary(&shared.plan.temp))?;
        flows.side.note_cuts(cuts);
        for input in &inputs {
            flows.side.note_loss(since, until, input.loss.share());
        }
        // A live capture cannot be read twice, so duplicates cannot be removed.
        Ok((Reading::new(inputs, timeline, flows, Correction::Impossible), until))
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
                // The thread may be blocked, for example because standard error does not accept its
                // message. Meanwhile, the kernel counts the frames that are lost.
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

/// Merges a window into the evidence of all windows, moves idle flows to disk if there is a state
/// folder, and drops or aggregates evidence that exceeds its share of memory.
fn absorb(shared: &LiveContext<'_>, all: &mut Reading, window: &Reading) -> Result<(), AuditError> {
    for theirs in &window.inputs {
        // The restored state may contain other interfaces, so inputs are matched by name.
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
    // If an interface was down, the time of the window does not count as watched.
    if window.inputs.iter().all(|input| input.error.is_none()) {
        all.timeline.merge(&window.timeline)
    } else {
        all.timeline.merge(&window.timeline.unwatched())
    }
    all.flows.absorb(&window.flows).map_err(temporary(&shared.plan.temp))?;
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

pub(super) fn inputs(watch: &LiveOptions) -> Vec<InputRecord> {
    let input = |name: &String| InputRecord {
        name: name.clone(),
        format: "live".to_owned(),
        filters: watch.capture.filter.iter().cloned().collect(),
        ..InputRecord::default()
    };
    watch.interfaces.iter().map(input).collect()
}

pub(super) fn empty(watch: &LiveOptions, store: &FlowStore) -> std::io::Result<Reading> {
    let (inputs, flows) = (inputs(watch), no_flows(store)?);
    Ok(Reading::new(inputs, ActivityHistogram::default(), flows, Correction::Impossible))
}

fn no_flows(store: &FlowStore) -> std::io::Result<MergedFlows> {
    store.sibling().finish(&Retention::default(), 1, &EvidenceLimit::NONE)
}

/// Returns the evidence of an earlier run, if there is any.
pub(super) fn restored(
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
