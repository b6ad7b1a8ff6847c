//! Reads one source for its rows, and divides its evidence by windows of the clock.
//!
//! Each worker has tables for each window that it is reading. A capture is nearly always in order
//! of time, so few windows are open at the same time. The evidence of other windows is passed on as
//! rows.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;

use super::read::{
    Batches, ReadResult, Unmerged, Worker, WorkerCounters, memory_of_worker, read_batches,
    read_tables,
};
use super::{AuditError, Plan, Progress, temporary};
use crate::capture::{Batch, Frame};
use crate::flow::{EvidenceRow, FlowStore, HashSeed, Retention, WorkerTables};
use crate::model::{ActivityHistogram, FrameCounters, InputRecord, Merge, NO_TIME, Nanos};

/// The start of a window in nanoseconds since 1970. It is `None` for evidence that is not divided,
/// and for frames without a timestamp.
pub type WindowStart = Option<Nanos>;

/// Takes rows while a source is being read. Several rows of a window may have the same key.
pub type RowSink<'a> = &'a (dyn Fn(WindowStart, EvidenceRow) -> io::Result<()> + Sync);

/// The maximum number of windows for which a worker has tables at the same time.
const MOST_OPEN: usize = 4;

/// The maximum number of windows of one source. Damaged timestamps could otherwise require any
/// amount of memory. This limit suffices for 69 days with windows of one minute.
const MOST_WINDOWS: usize = 100_000;

/// The evidence of one source, before it is merged with evidence from other sources.
pub struct CollectedInput {
    /// The record of the source. If the source cannot be read, it contains the error.
    pub input: InputRecord,
    /// When its frames were captured.
    pub timeline: ActivityHistogram,
    /// The counters of the frames of each window; empty if the evidence is not divided.
    pub windows: BTreeMap<WindowStart, FrameCounters>,
    /// The evidence that was not passed on as rows, by window. [`FlowStore::into_rows`] turns it
    /// into rows.
    pub evidence: BTreeMap<WindowStart, FlowStore>,
}

impl CollectedInput {
    /// Reads the source with this index in the plan, and no other. If `window` contains the length
    /// of windows in nanoseconds, the evidence is divided by windows that start at multiples of it,
    /// and a part of the rows may be passed to `take` before this function returns.
    ///
    /// # Errors
    ///
    /// Returns an error if the work is stopped, a temporary file cannot be written, `take` fails,
    /// or the source has too many windows. A source that cannot be read is not an error.
    pub fn read(
        plan: &Plan,
        number: usize,
        retention: &Retention,
        window: Option<Nanos>,
        take: RowSink<'_>,
        progress: &Progress,
    ) -> Result<Self, AuditError> {
        let mut source = plan.sources[number].clone();
        // The error of a source that was found in a folder is recorded and is not returned, so this
        // source is treated like one.
        let found = std::mem::replace(&mut source.found, true);
        let single = Plan { sources: vec![source], ..plan.clone() };
        let mut collected = match window {
            Some(length) => Self::divided(&single, retention, length, take, progress)?,
            None => {
                let Unmerged { inputs, timeline, store } =
                    read_tables(&single, progress, retention)?;
                let input = inputs.into_iter().next().unwrap_or_default();
                let evidence = BTreeMap::from([(None, store)]);
                Self { input, timeline, windows: BTreeMap::new(), evidence }
            }
        };
        // A file that the user named is expected to be a capture, so it does not count as skipped.
        collected.input.passed_over &= found;
        Ok(collected)
    }

    /// Reads the only source of a plan in windows.
    fn divided(
        plan: &Plan,
        retention: &Retention,
        length: Nanos,
        take: RowSink<'_>,
        progress: &Progress,
    ) -> Result<Self, AuditError> {
        let store = FlowStore::new(&HashSeed::new(), plan.temp.clone());
        let worker = || Worker::new(plan, progress, &store, retention);
        let budget = memory_of_worker(plan);
        let work = |batches: &Batches<'_>| {
            let windows = WindowTables::new(&worker, &store, take, length);
            windows.work(batches, budget, progress)
        };
        let ReadResult { inputs, found, .. } = read_batches(plan, progress, work)?;
        let mut collected = Self {
            input: inputs.into_iter().next().unwrap_or_default(),
            timeline: ActivityHistogram::default(),
            windows: BTreeMap::new(),
            evidence: BTreeMap::new(),
        };
        for found in found {
            let (windows, tables) = found.map_err(temporary(&plan.temp))?;
            for (window, counters) in windows {
                let account = collected.windows.entry(window).or_default();
                counters.accounts.iter().for_each(|own| account.merge(own));
                collected.timeline.merge(&counters.timeline);
            }
            for (window, tables) in tables {
                let own = collected.evidence.entry(window).or_insert_with(|| store.sibling());
                own.submit(tables).map_err(temporary(&plan.temp))?;
            }
        }
        if collected.windows.len() > MOST_WINDOWS {
            let name = collected.input.name;
            let reason = format!(
                "has timestamps in more than {MOST_WINDOWS} windows; collect it without --window, or with a longer one"
            );
            return Err(AuditError::Sources(vec![(name, reason)]));
        }
        collected.windows.values().for_each(|own| collected.input.account.merge(own));
        Ok(collected)
    }
}

/// Returns the start of the window that contains a time; `None` for [`NO_TIME`]. Windows start at
/// multiples of their length.
fn window_of(time: Nanos, length: Nanos) -> WindowStart {
    // A window that starts before the earliest possible time starts at that time.
    (time != NO_TIME).then(|| time.div_euclid(length).saturating_mul(length))
}

/// The tables and counters of one worker, by window.
struct WindowTables<'a, 'w> {
    new_worker: &'a dyn Fn() -> Worker<'w>,
    store: &'a FlowStore,
    take: RowSink<'a>,
    length: Nanos,
    /// The windows that are being read. The one that was used last is at the end.
    open: Vec<(WindowStart, Worker<'w>)>,
    counters: BTreeMap<WindowStart, WorkerCounters>,
}

/// The counters of all windows of a worker, and the tables of the windows that were still open.
type WindowsOfWorker = (BTreeMap<WindowStart, WorkerCounters>, Vec<(WindowStart, WorkerTables)>);

impl<'a, 'w> WindowTables<'a, 'w> {
    fn new(
        new_worker: &'a dyn Fn() -> Worker<'w>,
        store: &'a FlowStore,
        take: RowSink<'a>,
        length: Nanos,
    ) -> Self {
        Self { new_worker, store, take, length, open: Vec::new(), counters: BTreeMap::new() }
    }

    fn work(
        mut self,
        batches: &Batches<'_>,
        budget: usize,
        progress: &Progress,
    ) -> io::Result<WindowsOfWorker> {
        let mut failure = None;
        batches.for_each(|chunk| {
            // Too many windows are an error, so the rest need not be read.
            let is_wanted = failure.is_none() && self.counters.len() <= MOST_WINDOWS;
            if is_wanted && !progress.stop.load(Ordering::Relaxed) {
                failure = self.decode(&chunk.frames, budget).err();
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let mut tables = Vec::new();
        while let Some((window, mut worker)) = self.open.pop() {
            let (own, counters) = worker.take_tables();
            self.count(window, counters);
            tables.push((window, own));
        }
        Ok((self.counters, tables))
    }

    /// Decodes a batch into the tables of its windows. If the tables of all open windows then take
    /// more than `budget` bytes, passes on the evidence of these windows.
    fn decode(&mut self, batch: &Batch, budget: usize) -> io::Result<()> {
        let length = self.length;
        let is_same = |a: &Frame, b: &Frame| window_of(a.time, length) == window_of(b.time, length);
        for frames in batch.frames.chunk_by(is_same) {
            let window = frames.first().and_then(|frame| window_of(frame.time, length));
            self.open(window)?;
            if let Some((_, worker)) = self.open.last_mut() {
                worker.decode_frames(batch, frames);
            }
        }
        let memory: usize = self.open.iter().map(|(_, worker)| worker.tables().memory()).sum();
        if memory > budget {
            (0..self.open.len()).try_for_each(|_| self.close_oldest())?;
        }
        Ok(())
    }

    /// Moves the tables of a window to the end of the list of open windows. If the window is not
    /// open, adds empty tables, and first closes another window if too many are open.
    fn open(&mut self, window: WindowStart) -> io::Result<()> {
        match self.open.iter().position(|(known, _)| *known == window) {
            Some(place) if place + 1 == self.open.len() => {}
            Some(place) => {
                let known = self.open.remove(place);
                self.open.push(known);
            }
            None => {
                if self.open.len() == MOST_OPEN {
                    self.close_oldest()?;
                }
                self.open.push((window, (self.new_worker)()));
            }
        }
        Ok(())
    }

    /// Passes on the evidence of the least recently used window.
    fn close_oldest(&mut self) -> io::Result<()> {
        let (window, mut worker) = self.open.remove(0);
        let (tables, counters) = worker.take_tables();
        self.count(window, counters);
        let store = self.store.sibling();
        store.submit(tables)?;
        store.into_rows(1, &mut |row| (self.take)(window, row))
    }

    fn count(&mut self, window: WindowStart, counters: WorkerCounters) {
        match self.counters.entry(window) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(counters)),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let known = entry.get_mut();
                for (mine, theirs) in known.accounts.iter_mut().zip(&counters.accounts) {
                    mine.merge(theirs);
                }
                known.timeline.merge(&counters.timeline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_start_at_multiples_of_their_length() {
        assert_eq!(window_of(59, 60), Some(0));
        assert_eq!(window_of(60, 60), Some(60));
        assert_eq!(window_of(-1, 60), Some(-60));
        assert_eq!(window_of(NO_TIME, 60), None);
        assert_eq!(window_of(NO_TIME + 1, 10), Some(Nanos::MIN));
    }
}
