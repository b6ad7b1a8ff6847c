//! The rows of the windows of a live audit. They stay in a folder until something moves them away,
//! for example `rsync --remove-source-files`.
//!
//! Each window becomes one file with its own name. A file is written in a hidden folder and is
//! moved to its place when it is complete. If the files exceed their limit, the oldest are removed.
//! A window whose rows alone exceed the limit is written without its evidence. The input row of the
//! next window that is written reports rows that were lost, and what removed rows had reported.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::collect::write_rows;
use super::columns::HeadContent;
use super::files::{RowFile, RowWriter};
use super::input::{CollectOptions, InputRow, KeptPackets};
use super::inputs::StoredInputs;
use super::row::StoredRow;
use super::sensor::{Sensor, SensorWindow};
use super::sensor_rows::SensorRows;
use super::sort::RowSorter;
use super::{StoreError, output};
use crate::flow::{EvidenceRow, FlowStore, RowPieces};
use crate::model::{
    ActivityHistogram, BUCKET_NS, FrameCounters, InputRecord, Loss, Merge, Nanos, VantagePoint,
};
use crate::pipeline::{Progress, Request, UnfinishedFiles, lock};

/// The number of bytes that a file is assumed to take in addition to its rows of evidence.
const FILE_OVERHEAD: u64 = 1 << 14;

/// Where the rows of windows are written.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The folder of the files.
    pub folder: PathBuf,
    /// The name of the vantage point.
    pub point: VantagePoint,
    /// The number of bytes that the files of the vantage point may take. If they take more, the
    /// oldest are removed.
    pub size: u64,
    /// What is kept of single packets.
    pub kept: KeptPackets,
}

impl SpoolOptions {
    /// Returns the name of the vantage point as file names contain it: `SENSOR@SITE` or `SENSOR`.
    fn label(&self) -> String {
        let name = self.point.as_str();
        name.split_once('/')
            .map_or_else(|| name.to_owned(), |(site, name)| format!("{name}@{site}"))
    }

    /// Returns the hidden folder in which files are written.
    fn own_folder(&self) -> PathBuf {
        self.folder.join(format!(".{}", self.label()))
    }

    /// Returns the folders that the program writes to.
    pub fn folders(&self) -> [PathBuf; 2] {
        [self.folder.clone(), self.own_folder()]
    }
}

/// The evidence of a window, before fragments, lookups and outer packets of tunnels are joined with
/// other evidence.
pub struct WindowEvidence<'a> {
    /// The flows of the window.
    pub flows: &'a FlowStore,
    /// The options with which frames were decoded.
    pub request: &'a Request,
    /// The records of the interfaces.
    pub inputs: &'a [InputRecord],
    /// When frames were captured.
    pub timeline: ActivityHistogram,
    /// The times at which the capture was interrupted.
    pub cuts: Vec<Nanos>,
    /// When the window was opened and closed.
    pub period: (Nanos, Nanos),
    /// The number of entries of evidence that were dropped because memory was short.
    pub dropped: u64,
    /// The records of packets that were written to disk before the window was closed, or the error
    /// if they could not be written.
    pub packets: io::Result<Vec<PacketSpill>>,
    /// The number of threads.
    pub jobs: usize,
    /// The number of bytes of rows that may be in memory.
    pub max_memory: usize,
}

/// Records of packets that a capture thread wrote to disk before its window was closed, because
/// they exceeded their memory.
pub struct PacketSpill {
    point: VantagePoint,
    rows: RowSorter,
}

impl PacketSpill {
    /// Adds a row of records.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be written.
    pub fn add(&mut self, row: EvidenceRow) -> io::Result<()> {
        let row = row.from_point(&self.point);
        self.rows.add(&StoredRow::of_evidence(None, row).as_ref())
    }
}

/// Rows of earlier windows that were lost.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LostWindows {
    /// The number of windows.
    pub windows: u64,
    /// The number of frames in them, as far as it is known.
    pub frames: u64,
    /// When the first of them was opened and the last of them was closed; `None` if that is not
    /// known.
    period: Option<(Nanos, Nanos)>,
}

impl LostWindows {
    /// Returns the loss of one window; `period` is `None` if it is not known.
    fn one(frames: u64, period: Option<(Nanos, Nanos)>) -> Self {
        Self { windows: 1, frames, period }
    }

    fn add(&mut self, other: &Self) {
        self.windows = self.windows.saturating_add(other.windows);
        self.frames = self.frames.saturating_add(other.frames);
        if let Some((from, to)) = other.period {
            let known = self.period.get_or_insert((from, to));
            *known = (known.0.min(from), known.1.max(to));
        }
    }

    /// Returns the numbers as one line of text.
    fn to_line(&self) -> String {
        let Self { windows, frames, period } = self;
        let period = period.map_or_else(String::new, |(from, to)| format!(" {from} {to}"));
        format!("{windows} {frames}{period}")
    }

    /// Reads the numbers from the text of [`Self::to_line`].
    fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (windows, frames) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut time = || words.next()?.parse().ok();
        let period = time().zip(time());
        Some(Self { windows, frames, period })
    }

    /// Describes what was lost, as part of a report that ends with `reason`; `None` if nothing was.
    fn words(&self, reason: &str) -> Option<String> {
        let Self { windows, frames, period } = self;
        if *windows == 0 {
            return None;
        }
        let windows = if *windows == 1 {
            "the rows of 1 earlier window".to_owned()
        } else {
            format!("the rows of {windows} earlier windows")
        };
        let noun = if *frames == 1 { "frame" } else { "frames" };
        let times = period.map_or_else(String::new, |(from, to)| {
            format!(", between {} and {}", time(from), time(to))
        });
        Some(format!("{windows} ({frames} {noun}{times}) {reason}"))
    }
}

/// The losses that the file of a window reports. They are also in its footer, as numbers, because
/// the file itself may be removed later.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct ReportedLosses {
    /// Windows that could not be written.
    unwritten: LostWindows,
    /// Windows that were removed because the files exceeded their limit.
    removed: LostWindows,
    /// The number of frames of the window itself, if its evidence was left out.
    left_out: u64,
}

impl ReportedLosses {
    /// The key of the losses in the footer of a file.
    const KEY: &str = "rasaudit.losses";

    /// Returns the losses as text; `None` if nothing was lost.
    fn to_text(&self) -> Option<String> {
        let Self { unwritten, removed, left_out } = self;
        let text = || format!("{}\n{}\n{left_out}", unwritten.to_line(), removed.to_line());
        (*self != Self::default()).then(text)
    }

    /// Reads the losses from the text of [`Self::to_text`].
    fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut windows = || LostWindows::from_line(lines.next()?);
        let (unwritten, removed) = (windows()?, windows()?);
        Some(Self { unwritten, removed, left_out: lines.next()?.parse().ok()? })
    }

    fn add(&mut self, other: &Self) {
        self.unwritten.add(&other.unwritten);
        self.removed.add(&other.removed);
    }
}

/// The oldest files, which are removed.
#[derive(Default, Debug)]
struct RemovedFiles {
    files: Vec<PathBuf>,
    /// Their windows, which are lost.
    lost: LostWindows,
    /// The earlier losses that the files report. The next file has to report them instead.
    reported: ReportedLosses,
}

impl RemovedFiles {
    /// Adds a file. If it cannot be read, only its window counts.
    fn add(&mut self, path: PathBuf) {
        let files = RowFile::open_all(std::slice::from_ref(&path)).unwrap_or_default();
        let reported = files
            .first()
            .and_then(|file| ReportedLosses::from_text(file.note(ReportedLosses::KEY)?));
        let reported = reported.unwrap_or_default();
        let inputs = StoredInputs::read(&files).ok();
        let input = inputs.as_ref().and_then(|inputs| inputs.iter().next());
        let frames = input.map_or(0, |input| input.record.account.frames);
        let window = input.and_then(|input| input.sensor.as_ref()?.window.as_ref());
        let period = window.map(|window| (window.from, window.to));
        self.lost.add(&LostWindows::one(frames.saturating_add(reported.left_out), period));
        self.reported.add(&reported);
        self.files.push(path);
    }
}

/// The result of writing a window.
#[derive(Clone, Default, Debug)]
pub struct SpooledWindow {
    /// The windows that were removed because the files exceeded their limit.
    pub removed: LostWindows,
    /// The number of bytes of all files of the vantage point.
    pub bytes: u64,
}

/// A folder for the rows of windows.
pub struct Spool {
    options: SpoolOptions,
    own: PathBuf,
    /// A number that all windows of this run have in common.
    run: u64,
    state: Mutex<SpoolState>,
    /// The file that is locked. Without the lock, two audits of sensors with the same name would
    /// remove each other's files. It also keeps the losses that no row reports yet, so that a
    /// restart does not hide them.
    lock: File,
}

/// What is known about earlier windows.
#[derive(Default)]
struct SpoolState {
    /// The windows that could not be written and that no input row reports yet.
    unreported: LostWindows,
    /// Since when all interfaces were watched without a break, and until when; `None` if they were
    /// not watched in the last window, or its rows were not written.
    watched: Option<(Nanos, Nanos)>,
}

impl SpoolState {
    /// Returns the time, at most ten seconds before `from`, since which all interfaces were watched
    /// before a window that began at `from`. Without this time, the ten seconds in which one window
    /// ends and the next one begins would not count as watched.
    fn watched_since(&self, from: Nanos) -> Nanos {
        match self.watched {
            Some((since, until)) if until == from => since.max(from.saturating_sub(BUCKET_NS)),
            _ => from,
        }
    }

    /// Records that a window was watched and written.
    fn add_watched(&mut self, (from, to): (Nanos, Nanos)) {
        let since = match self.watched {
            Some((since, until)) if until == from => since,
            _ => from,
        };
        self.watched = Some((since, to));
    }
}

/// Returns a UTC time in the format of RFC 3339, without fractions of a second.
fn time(at: Nanos) -> String {
    let stamp = Timestamp::from_nanosecond(i128::from(at)).unwrap_or_default();
    stamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Spool {
    /// Creates the folder if necessary, locks it for this process and this vantage point, and
    /// removes incomplete files of an earlier run.
    ///
    /// # Errors
    ///
    /// Returns an error if the folder cannot be used, or if another live audit writes rows of a
    /// sensor with this name to it.
    pub fn open(options: &SpoolOptions) -> Result<Self, StoreError> {
        let own = options.own_folder();
        let failed = output(&options.folder);
        fs::create_dir_all(&own).map_err(&failed)?;
        let mut file = OpenOptions::new();
        file.read(true).write(true).create(true).truncate(false);
        let mut lock = file.open(own.join("lock")).map_err(&failed)?;
        lock.try_lock().map_err(|error| {
            failed(match error {
                TryLockError::WouldBlock => io::Error::other(format!(
                    "another live audit writes the rows of the sensor {} to this folder; give each sensor a name of its own with --site and --sensor",
                    options.point
                )),
                TryLockError::Error(error) => io::Error::new(
                    error.kind(),
                    format!("the folder cannot be locked ({error}); use a folder on another file system"),
                ),
            })
        })?;
        // An earlier run may have left incomplete files.
        for entry in fs::read_dir(&own).map_err(&failed)?.flatten() {
            if entry.file_name() != "lock" {
                let _ = fs::remove_file(entry.path());
            }
        }
        let started = Timestamp::now().as_nanosecond().to_le_bytes();
        let run = Sha256::new()
            .chain_update(started)
            .chain_update(std::process::id().to_le_bytes())
            .finalize();
        let run = run.iter().take(8).fold(0, |run, byte| run << 8 | u64::from(*byte));
        let mut unreported = String::new();
        // The file is empty or, after a crash, possibly damaged. In both cases, no loss is known.
        let _ = lock.read_to_string(&mut unreported);
        let unreported = LostWindows::from_line(&unreported).unwrap_or_default();
        let state = Mutex::new(SpoolState { unreported, watched: None });
        let spool = Self { options: options.clone(), own, run, state, lock };
        spool.keep_losses(&self::lock(&spool.state).unreported).map_err(&failed)?;
        Ok(spool)
    }

    /// Writes the losses that no row reports yet to the locked file. The file always has the same
    /// size, so that it can also be written if the disk is full.
    fn keep_losses(&self, unreported: &LostWindows) -> io::Result<()> {
        const SIZE: usize = 128;
        let mut file = &self.lock;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(format!("{:SIZE$}", unreported.to_line()).as_bytes())?;
        file.sync_data()
    }

    /// Returns an empty list for records of packets. It writes them to disk if they take more than
    /// `memory` bytes.
    pub fn packet_spill(&self, memory: usize) -> PacketSpill {
        let point = self.options.point.clone();
        PacketSpill { point, rows: RowSorter::new(self.own.clone(), memory) }
    }

    /// Writes the rows of a window.
    ///
    /// # Errors
    ///
    /// Returns an error if the rows cannot be written. The input row of the next window that is
    /// written reports the loss.
    pub fn write(&self, window: WindowEvidence<'_>) -> Result<SpooledWindow, StoreError> {
        let period = window.period;
        let frames = window.inputs.iter().map(|input| input.account.frames).sum();
        let is_watched = window.inputs.iter().all(|input| input.error.is_none());
        let mut state = lock(&self.state);
        match self.try_to_write(window, &state) {
            Ok(spooled) => {
                if state.unreported != LostWindows::default() {
                    state.unreported = LostWindows::default();
                    let _ = self.keep_losses(&state.unreported);
                }
                if is_watched {
                    state.add_watched(period);
                } else {
                    state.watched = None;
                }
                Ok(spooled)
            }
            Err(error) => {
                state.unreported.add(&LostWindows::one(frames, Some(period)));
                // If this fails, too, only a restart before the next window hides the loss.
                let _ = self.keep_losses(&state.unreported);
                state.watched = None;
                Err(error)
            }
        }
    }

    fn try_to_write(
        &self,
        window: WindowEvidence<'_>,
        state: &SpoolState,
    ) -> Result<SpooledWindow, StoreError> {
        let temporary = output(&self.own);
        let mut input = self.input_of(&window, state);
        let entries = window.dropped;
        let id = input.id();
        let mut sorter = RowSorter::new(self.own.clone(), window.max_memory);
        for spill in window.packets.map_err(&temporary)? {
            sorter.take(spill.rows).map_err(&temporary)?;
        }
        let mut rows = SensorRows::new(Some(&self.options.point));
        let mut add = |row: EvidenceRow| {
            let (row, added) = rows.of(None, row);
            let mut rows = [row].into_iter().chain(added);
            rows.try_for_each(|row| sorter.add(&StoredRow::of_evidence(None, row).as_ref()))
        };
        window.flows.copy_rows(window.jobs, RowPieces::LeftOut, &mut add).map_err(&temporary)?;
        EvidenceRow::of_cuts(window.cuts).map_or(Ok(()), &mut add).map_err(&temporary)?;
        let unfinished = UnfinishedFiles::default();
        let mut writer = RowWriter::file(&self.own, &unfinished)?;
        let ledger = write_rows(&input, sorter, &mut writer, &temporary, &Progress::default())?;
        let mut notes: Vec<String> = input.record.error.take().into_iter().collect();
        let accounted = ledger.accounted + input.accounted();
        let unaccounted = input.record.account.frames.saturating_sub(accounted);
        if let Some(window) = input.sensor.as_mut().and_then(|sensor| sensor.window.as_mut())
            && let Some(missing) = describe_missing(unaccounted, entries)
        {
            window.dropped = unaccounted;
            input.timeline = input.timeline.unwatched();
            notes.push(missing);
        }
        input.manifest = ledger.manifest();
        let frames = input.record.account.frames;
        if writer.size()? + FILE_OVERHEAD > self.options.size {
            writer = RowWriter::file(&self.own, &unfinished)?;
            notes.push(leave_out_evidence(&mut input));
        }
        let RemovedFiles { files, lost, mut reported } =
            self.oldest_beyond(writer.size()? + FILE_OVERHEAD)?;
        reported.unwritten.add(&state.unreported);
        reported.removed.add(&lost);
        reported.left_out = frames.saturating_sub(input.record.account.frames);
        notes.extend(reported.unwritten.words("could not be written"));
        notes.extend(reported.removed.words("were removed because --collect-size was reached"));
        input.record.error = (!notes.is_empty()).then(|| notes.join("; "));
        // The rows are valid and the timeline shows what is missing, so the input counts as cut off
        // and not as damaged.
        input.record.is_cut = input.record.error.is_some();
        writer.write_head(&HeadContent::Input(Box::new(input)))?;
        if let Some(text) = reported.to_text() {
            writer.add_note(ReportedLosses::KEY, text);
        }
        let name = format!("{}-{}-{id}", self.options.label(), compact_time(window.period.0));
        let Some(path) = writer.finish(&name)? else { return Ok(SpooledWindow::default()) };
        let to = self.options.folder.join(path.file_name().unwrap_or_default());
        let failed = output(&self.options.folder);
        fs::rename(&path, &to).map_err(&failed)?;
        File::open(&self.options.folder).and_then(|f| f.sync_all()).map_err(&failed)?;
        // Errors are ignored: something may have moved a file away meanwhile, and a file that
        // cannot be removed is counted again with the next window.
        files.iter().for_each(|old| drop(fs::remove_file(old)));
        let bytes = self.files()?.iter().map(|(_, bytes)| bytes).sum();
        Ok(SpooledWindow { removed: lost, bytes })
    }

    /// Returns the input row of a window. The caller sets its manifest and the number of frames
    /// whose evidence was dropped, which are still empty and zero.
    fn input_of(&self, window: &WindowEvidence<'_>, state: &SpoolState) -> InputRow {
        let (from, to) = window.period;
        let point = &self.options.point;
        let content = Sha256::new()
            .chain_update(format!("window\0{point}\0{:x}\0{from}\0{to}", self.run))
            .finalize();
        let mut account = FrameCounters::default();
        let mut loss = Loss::default();
        let mut record = InputRecord {
            name: format!("{point} {}", time(from)),
            format: "live".to_owned(),
            ..InputRecord::default()
        };
        let mut errors = Vec::new();
        for input in window.inputs {
            account.merge(&input.account);
            loss.merge(&input.loss);
            record.link_types.extend(&input.link_types);
            record.filters.extend(input.filters.iter().cloned());
            errors.extend(input.error.as_ref().map(|error| format!("{} {error}", input.name)));
        }
        record.link_types.sort_unstable();
        record.link_types.dedup();
        record.filters.sort_unstable();
        record.filters.dedup();
        (record.account, record.loss) = (account, loss);
        let is_complete = errors.is_empty();
        record.error = (!is_complete).then(|| errors.join("; "));
        let mut timeline = window.timeline.clone();
        timeline.watch(state.watched_since(from), to);
        let window_row = SensorWindow { from, to, run: self.run, dropped: 0 };
        InputRow {
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            options: CollectOptions::of(window.request, self.options.kept),
            content: content.into(),
            record,
            timeline: if is_complete { timeline } else { timeline.unwatched() },
            manifest: Vec::new(),
            windows: Vec::new(),
            sensor: Some(Sensor { point: point.clone(), window: Some(window_row) }),
        }
    }

    /// Returns the oldest files that must be removed so that a file of this size fits.
    fn oldest_beyond(&self, size: u64) -> Result<RemovedFiles, StoreError> {
        let files = self.files()?;
        let mut total = files.iter().fold(size, |sum, (_, bytes)| sum.saturating_add(*bytes));
        let mut removed = RemovedFiles::default();
        for (path, bytes) in files {
            if total <= self.options.size {
                break;
            }
            total -= bytes;
            removed.add(path);
        }
        Ok(removed)
    }

    /// Returns the files of this vantage point, oldest first, each with its size in bytes.
    fn files(&self) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let label = self.options.label();
        let folder = &self.options.folder;
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(output(folder))?.flatten() {
            if is_window_of(&label, &entry.file_name().to_string_lossy())
                && let Ok(data) = entry.metadata()
            {
                files.push((entry.path(), data.len()));
            }
        }
        // The names differ first in the time, so the oldest file comes first.
        files.sort();
        Ok(files)
    }
}

/// Returns a time as file names contain it.
fn compact_time(at: Nanos) -> String {
    time(at).replace(['-', ':'], "")
}

/// Returns whether a file name belongs to a window of the vantage point with this label. Because a
/// label may contain a dash, the rest of the name is checked, too.
fn is_window_of(label: &str, name: &str) -> bool {
    let rest = name.strip_suffix(".parquet").and_then(|name| name.strip_prefix(label));
    let Some(rest) = rest.and_then(|rest| rest.strip_prefix('-')) else { return false };
    let parts: Vec<&str> = rest.split('-').collect();
    let is_id = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    matches!(parts[..], [time, content, name, options] if time.ends_with('Z')
        && is_id(content, 32) && is_id(name, 8) && is_id(options, 8))
}

/// Describes which evidence of a window is missing; `None` if none is. Some entries, such as names
/// that were looked up, account for no frame.
fn describe_missing(unaccounted: u64, entries: u64) -> Option<String> {
    match (unaccounted, entries) {
        (0, 0) => None,
        (frames, 0) => Some(format!(
            "frames are missing from the rows ({frames}), although no evidence was dropped; this is a bug in rasaudit; please report it"
        )),
        (frames, entries) => Some(format!(
            "evidence was dropped at the memory limit (entries: {entries}, frames: {frames})"
        )),
    }
}

/// Clears what the row of a window states about its evidence (counters, timeline, manifest, number
/// of dropped frames), because the evidence is not written. Returns the reason why it is not.
fn leave_out_evidence(input: &mut InputRow) -> String {
    let frames = input.record.account.frames;
    input.record.account = FrameCounters::default();
    input.timeline = ActivityHistogram::default();
    input.manifest = Vec::new();
    if let Some(window) = input.sensor.as_mut().and_then(|sensor| sensor.window.as_mut()) {
        window.dropped = 0;
    }
    format!("the rows of this window (frames: {frames}) are larger than --collect-size")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::decode::{Body, FiveTuple, Observation};
    use crate::flow::{HashSeed, PacketRetention, Retention, RowKind};
    use crate::model::{SECOND, Transport};
    use crate::store::row::{StoredKind, StoredRef};

    const FRAMES: u64 = 7;

    fn options(folder: &Path, size: u64) -> SpoolOptions {
        let point = VantagePoint::new(Some("lab"), "span-1").expect("a name");
        SpoolOptions { folder: folder.to_owned(), point, size, kept: KeptPackets::default() }
    }

    /// Writes a window of a minute that begins at `from` seconds and has frames, but no evidence.
    fn write(spool: &Spool, from: Nanos) -> Result<SpooledWindow, StoreError> {
        write_evidence(spool, from, &new_store(), Ok(Vec::new()))
    }

    fn new_store() -> FlowStore {
        FlowStore::new(&HashSeed::new(), std::env::temp_dir())
    }

    /// Does the same as [`write`] for a window with evidence.
    fn write_evidence(
        spool: &Spool,
        from: Nanos,
        flows: &FlowStore,
        packets: io::Result<Vec<PacketSpill>>,
    ) -> Result<SpooledWindow, StoreError> {
        let mut input = InputRecord { name: "eth0".to_owned(), ..InputRecord::default() };
        input.account.frames = FRAMES;
        spool.write(WindowEvidence {
            flows,
            request: &Request::default(),
            inputs: &[input],
            timeline: ActivityHistogram::default(),
            cuts: Vec::new(),
            period: (from * SECOND, (from + 60) * SECOND),
            dropped: 2,
            packets,
            jobs: 1,
            max_memory: 1 << 20,
        })
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".parquet")).collect();
        names.sort();
        names
    }

    /// Returns what the row of the newest window says about missing rows.
    fn reported(folder: &Path) -> String {
        reported_in(&folder.join(names(folder).pop().expect("a file")))
    }

    /// Returns what the row of the window in a file says about missing rows.
    fn reported_in(file: &Path) -> String {
        let files = RowFile::open_all(&[file.to_owned()]).expect("a file of rows");
        let inputs = StoredInputs::read(&files).expect("an input");
        let input = inputs.iter().next().expect("an input");
        assert!(input.record.is_cut, "the rows themselves are not damaged");
        input.record.error.clone().unwrap_or_default()
    }

    #[test]
    fn each_window_is_a_file_of_its_own_also_after_a_restart() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().join("rows");
        let spool = Spool::open(&options(&folder, 1 << 30)).expect("a spool");
        write(&spool, 0).expect("written");
        write(&spool, 60).expect("written");
        let Err(refused) = Spool::open(&options(&folder, 1 << 30)) else {
            panic!("two audits write under one name")
        };
        assert!(refused.to_string().contains("lab/span-1"), "{refused}");
        drop(spool);
        // A file that was being written when the program ended is removed at the next start.
        fs::write(folder.join(".span-1@lab/.rasaudit-x.tmp"), "torn").expect("writable");
        let spool = Spool::open(&options(&folder, 1 << 30)).expect("a spool");
        write(&spool, 60).expect("written");
        let all = names(&folder);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[0].starts_with("span-1@lab-19700101T000000Z-"), "{all:?}");
        assert!(all.iter().all(|name| is_window_of("span-1@lab", name)), "{all:?}");
        assert!(!all.iter().any(|name| is_window_of("span-1", name) || is_window_of("span", name)));
        assert!(!folder.join(".span-1@lab/.rasaudit-x.tmp").exists());
        let dropped = "evidence was dropped at the memory limit (entries: 2, frames: 7)";
        assert!(reported(&folder).contains(dropped), "{}", reported(&folder));
    }

    /// Writes a window with three packets of a flow, and returns the records of packets in its
    /// file. If `spilled`, the records of the first two packets are written to disk one after the
    /// other.
    fn packet_records(folder: &Path, spilled: bool) -> Vec<Vec<u8>> {
        let kept = KeptPackets { traces: true, ..KeptPackets::default() };
        let spool = Spool::open(&SpoolOptions { kept, ..options(folder, 1 << 30) });
        let spool = spool.expect("a spool");
        let flows = new_store();
        let packets = PacketRetention::Logs;
        let mut tables = flows.tables(&Retention { packets, ..Retention::default() });
        let (src, dst) = ("10.0.0.1".parse().expect("an address"), "10.0.0.2".parse());
        let tuple = FiveTuple {
            src,
            dst: dst.expect("an address"),
            sport: 50_000,
            dport: 443,
            transport: Transport::TCP,
        };
        let (flags, payload, seq, acked, fragment) = (0, 0, 0, None, None);
        let body = Body::Transport { tuple, flags, payload, seq, acked, fragment };
        let mut spill = spool.packet_spill(0);
        for fingerprint in 1..=3 {
            let packet = Observation { time: SECOND, fingerprint, body, ..Observation::default() };
            tables.observe(&[packet], []);
            if spilled && fingerprint < 3 {
                tables.take_packet_rows(&mut |row| spill.add(row)).expect("written");
            }
        }
        flows.submit(tables).expect("in memory");
        write_evidence(&spool, 0, &flows, Ok(vec![spill])).expect("written");

        let file = folder.join(names(folder).pop().expect("a file"));
        let files = RowFile::open_all(&[file]).expect("a file of rows");
        let mut records = Vec::new();
        for group in files[0].groups(0) {
            let mut reader = files[0].read(group).expect("rows");
            let mut take = |row: StoredRef<'_>| {
                let is_packets = row.kind == StoredKind::Evidence(RowKind::PACKETS);
                records.extend(is_packets.then(|| row.record.to_vec()));
                Ok(())
            };
            while reader.next(|_| true, &mut take).expect("valid rows") {}
        }
        records
    }

    #[test]
    fn records_of_packets_that_wait_on_disk_are_rows_of_their_window() {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [in_memory, spilled] = [(&folders[0], false), (&folders[1], true)]
            .map(|(folder, spilled)| packet_records(folder.path(), spilled));
        assert_eq!(in_memory.len(), 1, "all packets of a flow in ten seconds are one row");
        assert_eq!(spilled, in_memory);
    }

    #[test]
    fn a_window_whose_records_of_packets_cannot_be_written_is_lost_and_told() {
        let scratch = tempfile::tempdir().expect("a folder");
        let spool = Spool::open(&options(scratch.path(), 1 << 30)).expect("a spool");
        let failed = Err(io::Error::other("no space left"));
        let error = write_evidence(&spool, 60, &new_store(), failed).expect_err("not written");
        assert!(error.to_string().contains("no space left"), "{error}");
        write(&spool, 120).expect("written");
        let reported = reported(scratch.path());
        assert!(reported.contains("the rows of 1 earlier window (7 frames, between"), "{reported}");
    }

    #[test]
    fn only_evidence_that_was_dropped_counts_as_dropped() {
        assert_eq!(describe_missing(0, 0), None);
        let defect = describe_missing(3, 0).expect("frames are missing");
        assert!(defect.contains("(3)") && defect.contains("bug in rasaudit"), "{defect}");
        assert!(!defect.contains("memory limit"), "{defect}");
        let names = describe_missing(0, 5).expect("entries are missing");
        assert!(names.contains("entries: 5, frames: 0"), "{names}");
    }

    #[test]
    fn the_oldest_windows_are_removed_and_the_next_row_says_so() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path();
        let spool = Spool::open(&options(folder, 1 << 30)).expect("a spool");
        let one = write(&spool, 0).expect("written").bytes;
        drop(spool);
        let spool = Spool::open(&options(folder, 2 * one + FILE_OVERHEAD)).expect("a spool");
        let others = folder.join("another-file.parquet");
        fs::write(&others, vec![0; 1 << 20]).expect("writable");
        let mut removed = 0;
        for window in 1..6 {
            let written = write(&spool, window * 60).expect("written");
            removed += written.removed.windows;
            assert!(written.bytes <= 2 * one + FILE_OVERHEAD + one, "{}", written.bytes);
        }
        fs::remove_file(others).expect("the other file stays");
        // The files that reported the first losses were removed themselves.
        assert_eq!((removed, names(folder).len()), (4, 2));
        let lost = ["00:00:00Z and 1970-01-01T00:03:00Z", "00:01:00Z and 1970-01-01T00:04:00Z"];
        for (name, period) in names(folder).iter().zip(lost) {
            let reported = reported_in(&folder.join(name));
            let lost = format!(
                "the rows of 2 earlier windows (14 frames, between 1970-01-01T{period}) were removed because --collect-size was reached"
            );
            assert!(reported.contains(&lost), "{reported}");
        }
    }

    #[test]
    fn losses_are_told_until_the_rows_that_tell_them_are_moved_away() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path();
        let lost = || Err(io::Error::other("no space left"));
        let spool = Spool::open(&options(folder, 1 << 30)).expect("a spool");
        let one = write(&spool, 0).expect("written").bytes;
        write_evidence(&spool, 60, &new_store(), lost()).expect_err("not written");
        drop(spool);
        // Each file takes the place of the one before.
        let spool = Spool::open(&options(folder, one + FILE_OVERHEAD)).expect("a spool");
        for window in 2..5 {
            write(&spool, window * 60).expect("written");
        }
        let before = reported(folder);
        assert!(before.contains("the rows of 1 earlier window (7 frames, between 1970-01-01T00:01:00Z and 1970-01-01T00:02:00Z) could not be written"), "{before}");
        assert!(before.contains("the rows of 3 earlier windows (21 frames, between"), "{before}");
        for file in names(folder) {
            fs::remove_file(folder.join(file)).expect("it is there");
        }
        write(&spool, 300).expect("written");
        assert!(!reported(folder).contains("earlier window"), "{}", reported(folder));
    }

    #[test]
    fn a_removed_window_whose_evidence_was_left_out_counts_with_its_frames() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path();
        let spool = Spool::open(&options(folder, 1)).expect("a spool");
        write(&spool, 0).expect("written");
        let reported = || reported(folder);
        assert!(
            reported().contains("(frames: 7) are larger than --collect-size"),
            "{}",
            reported()
        );
        let written = write(&spool, 60).expect("written");
        assert_eq!((written.removed.windows, written.removed.frames), (1, FRAMES));
        assert!(
            reported().contains("the rows of 1 earlier window (7 frames, between"),
            "{}",
            reported()
        );
    }

    #[test]
    fn windows_that_could_not_be_written_are_told_by_the_next_row() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path();
        let spool = Spool::open(&options(folder, 1 << 30)).expect("a spool");
        // A file in place of the folder behaves like a disk that cannot be written to.
        let own = folder.join(".span-1@lab");
        fs::remove_dir_all(&own).expect("it is there");
        fs::write(&own, "").expect("writable");
        assert!(write(&spool, 0).is_err());
        assert!(write(&spool, 60).is_err());
        assert_eq!(names(folder), [] as [&str; 0]);
        fs::remove_file(&own).expect("it is there");
        fs::create_dir(&own).expect("writable");
        write(&spool, 120).expect("written");
        let reported = reported(folder);
        assert!(reported.contains("the rows of 2 earlier windows (14 frames, between 1970-01-01T00:00:00Z and 1970-01-01T00:02:00Z) could not be written"), "{reported}");
        write(&spool, 180).expect("written");
        assert!(!self::reported(folder).contains("could not be written"));
    }

    #[test]
    fn a_restart_does_not_hide_windows_that_could_not_be_written() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path();
        let spool = Spool::open(&options(folder, 1 << 30)).expect("a spool");
        let (own, aside) = (folder.join(".span-1@lab"), folder.join("aside"));
        fs::rename(&own, &aside).expect("writable");
        fs::write(&own, "").expect("writable");
        assert!(write(&spool, 0).is_err());
        drop(spool);
        fs::remove_file(&own).expect("it is there");
        fs::rename(&aside, &own).expect("writable");
        let spool = Spool::open(&options(folder, 1 << 30)).expect("a spool");
        write(&spool, 120).expect("written");
        let reported = reported(folder);
        assert!(reported.contains("the rows of 1 earlier window (7 frames, between"), "{reported}");
        // Once a row has reported the loss, later rows do not repeat it.
        drop(spool);
        let spool = Spool::open(&options(folder, 1 << 30)).expect("a spool");
        write(&spool, 180).expect("written");
        assert!(!self::reported(folder).contains("could not be written"));
    }

    #[test]
    fn a_sensor_watches_the_seconds_between_two_windows() {
        let mut state = SpoolState::default();
        let (first, second) = (5 * SECOND, 65 * SECOND);
        assert_eq!(state.watched_since(first), first);
        state.add_watched((first, second));
        assert_eq!(state.watched_since(second), second - BUCKET_NS);
        // Before a window that does not follow directly, and before the start of a run, nothing was
        // watched.
        assert_eq!(state.watched_since(second + 1), second + 1);
        let mut state = SpoolState::default();
        state.add_watched((first, first + SECOND));
        assert_eq!(state.watched_since(first + SECOND), first);
    }
}
