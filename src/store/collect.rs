//! Turns captures into rows. Each capture becomes one file of rows, which ends with the row of the
//! input. On standard output, all captures become one stream.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::columns::HeadContent;
use super::earlier::{EarlierFile, EarlierFiles, check_replaced};
use super::file_run::RunError;
use super::files::{Destination, RowWriter, check_destination, delete_leftovers, row_file};
use super::group::{Doubles, GroupError, check_single, merge_group};
use super::input::{CollectOptions, InputRow, KeptPackets, hash_start, unreadable_content};
use super::ledger::Ledger;
use super::row::{StoredRef, StoredRow};
use super::sensor::Sensor;
use super::sensor_rows::SensorRows;
use super::sort::{NextRows, RowSorter};
use super::{StoreError, output};
use crate::capture::InputContent;
use crate::flow::{EvidenceRow, PacketRetention, PrefixRetention, Retention, RowFacts};
use crate::model::{InputRecord, Nanos, VantagePoint};
use crate::pipeline::{AuditError, CollectedInput, Plan, Progress, WindowStart};

/// What is collected.
#[derive(Clone, Debug)]
pub struct CollectRequest {
    /// The captures and the options with which they are read.
    pub plan: Plan,
    /// What is kept of single packets in addition to other evidence.
    pub kept: KeptPackets,
    /// The vantage point of the captures, if it has a name.
    pub sensor: Option<VantagePoint>,
    /// The length of the windows that divide the rows, in nanoseconds: a multiple of 10 s. `None`
    /// if rows are not divided.
    pub window: Option<Nanos>,
    /// The reason why the captures cannot be read. If there is one, they are not opened.
    pub unreadable: Option<String>,
}

/// A capture whose rows were written.
#[derive(Clone, Debug)]
pub struct CollectedFile {
    /// The name of the capture.
    pub name: String,
    /// The file of rows; `None` if the rows were written to standard output.
    pub path: Option<PathBuf>,
    /// The number of frames that were read.
    pub frames: u64,
    /// Why the capture could not be read at all, or not to its end, or why the file was skipped.
    pub error: Option<String>,
    /// Whether the file was found in a folder and skipped, because neither its name nor its content
    /// is that of a capture. This is not an error.
    pub passed_over: bool,
    /// Other files in the folder of the store that contain rows of the same capture, or did until
    /// they were removed.
    pub earlier: Vec<EarlierFile>,
}

impl CollectedFile {
    /// Returns whether the capture could not be read at all, or not to its end.
    pub fn has_failed(&self) -> bool {
        self.error.is_some() && !self.passed_over
    }
}

/// Reads captures and writes their rows. Calls `done` for each capture whose rows are complete. If
/// a capture has grown since it was collected into the same store, its earlier file is removed,
/// unless the file contains rows of other captures.
///
/// # Errors
///
/// Returns an error if the rows cannot be written, if the store is complete, so that nothing can be
/// added to it, or if the work is stopped. A capture that cannot be read is not an error: its row
/// contains the reason.
pub fn collect(
    request: &CollectRequest,
    to: &Destination,
    progress: &Progress,
    mut done: impl FnMut(CollectedFile),
) -> Result<(), StoreError> {
    let CollectRequest { plan, kept, sensor, window, unreadable } = request;
    let options = CollectOptions { window: *window, ..CollectOptions::of(&plan.request, *kept) };
    let mut stream = match to {
        Destination::StandardOutput => Some(RowWriter::stream()?),
        Destination::Store(_) => None,
    };
    let before = match to {
        Destination::StandardOutput => EarlierFiles::default(),
        Destination::Store(folder) => {
            check_destination(folder)?;
            delete_leftovers(folder);
            EarlierFiles::find(folder)?
        }
    };
    let mut contents = BTreeMap::new();
    for (number, source) in plan.sources.iter().enumerate() {
        let mut writer = match (stream.take(), to) {
            (Some(stream), _) => stream,
            (None, Destination::Store(folder)) => RowWriter::file(folder, &progress.unfinished)?,
            (None, Destination::StandardOutput) => return Ok(()),
        };
        let input = match source.same_as.as_ref().and_then(|first| contents.get(first)) {
            Some(content) => copy_of(source, *content, &options, sensor.as_ref()),
            None if unreadable.is_some() => unread(request, number, &options, unreadable.clone()),
            None => collect_one(request, number, &options, &mut writer, progress)?,
        };
        contents.insert(source.name.clone(), input.content);
        let (id, record) = (input.id(), input.record.clone());
        let InputRecord { name, account, error, passed_over, .. } = record;
        let earlier = match to {
            Destination::StandardOutput => Vec::new(),
            Destination::Store(folder) => {
                let own = row_file(folder, &id);
                check_replaced(&input, &own)?;
                before.of(&input, source.file(), &own)
            }
        };
        let head = HeadContent::Input(Box::new(input));
        writer.write_head(&head)?;
        let path = match to {
            Destination::StandardOutput => {
                stream = Some(writer);
                None
            }
            Destination::Store(_) => writer.finish(&id)?,
        };
        progress.timings.done("writing");
        // Earlier rows are removed only now, because all rows of the capture have been written.
        let earlier = earlier.into_iter().map(EarlierFile::removed).collect();
        done(CollectedFile { name, path, frames: account.frames, error, passed_over, earlier });
    }
    stream.map(|stream| stream.finish("")).transpose()?;
    Ok(())
}

/// Returns the row of an input whose content equals that of an earlier input of the same run.
fn copy_of(
    source: &crate::capture::CaptureInput,
    content: InputContent,
    options: &CollectOptions,
    sensor: Option<&VantagePoint>,
) -> InputRow {
    let record = InputRecord {
        name: source.name.clone(),
        size: source.size,
        same_as: source.same_as.clone(),
        ..InputRecord::default()
    };
    InputRow {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        options: options.clone(),
        content,
        record,
        timeline: Default::default(),
        manifest: Vec::new(),
        sensor: sensor.map(Sensor::of_capture),
        windows: Vec::new(),
    }
}

/// Returns the row of an input without any evidence. `error` is the reason.
fn unread(
    CollectRequest { plan, sensor, .. }: &CollectRequest,
    number: usize,
    options: &CollectOptions,
    error: Option<String>,
) -> InputRow {
    let source = &plan.sources[number];
    let input = copy_of(source, InputContent::default(), options, sensor.as_ref());
    let record = InputRecord { error, ..input.record };
    let content = content_of(&record, source.file());
    InputRow { content, record, ..input }
}

/// Reads a capture and writes its rows of evidence. Returns the row of the input.
fn collect_one(
    request: &CollectRequest,
    number: usize,
    options: &CollectOptions,
    writer: &mut RowWriter,
    progress: &Progress,
) -> Result<InputRow, StoreError> {
    let CollectRequest { plan, kept: KeptPackets { pieces, traces }, sensor, window, .. } = request;
    let parts = if *pieces { PrefixRetention::StartsAndAll } else { PrefixRetention::Starts };
    let packets = if *traces { PacketRetention::Logs } else { PacketRetention::Nothing };
    let retention = Retention { packets, parts };
    // The sorter gets half of the memory. The tables take the other half, and are freed one by one.
    let sorter = RowSorter::new(plan.temp.clone(), plan.request.max_memory / 2);
    let sorter = Mutex::new((sorter, SensorRows::new(sensor.as_ref())));
    let add = |window: WindowStart, row: EvidenceRow| {
        let mut locked = sorter.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (sorter, rows) = &mut *locked;
        let (row, added) = rows.of(window, row);
        let mut rows = [row].into_iter().chain(added);
        rows.try_for_each(|row| sorter.add(&StoredRow::of_evidence(window, row).as_ref()))
    };
    let collected = match CollectedInput::read(plan, number, &retention, *window, &add, progress) {
        // This capture has timestamps in too many windows, so nothing of it is kept. Other captures
        // are not affected.
        Err(AuditError::Sources(wrong)) => {
            let error = wrong.into_iter().next().map(|(_, reason)| reason);
            return Ok(unread(request, number, options, error));
        }
        collected => collected?,
    };
    let CollectedInput { input: record, timeline, windows, evidence } = collected;
    let content = content_of(&record, plan.sources[number].file());
    let mut input = InputRow {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        options: options.clone(),
        content,
        record,
        timeline,
        manifest: Vec::new(),
        sensor: sensor.as_ref().map(Sensor::of_capture),
        windows: windows.into_iter().collect(),
    };
    let temporary = output(&plan.temp);
    for (window, own) in evidence {
        own.into_rows(plan.jobs, &mut |row| add(window, row)).map_err(&temporary)?;
    }
    progress.timings.done("rows");
    let (sorter, _) = sorter.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    let ledger = write_rows(&input, sorter, writer, &temporary, progress)?;
    let accounted = ledger.accounted + input.accounted();
    if accounted != input.record.account.frames {
        let InputRecord { name, account, .. } = &input.record;
        return Err(StoreError::rows(
            name,
            format!(
                "has rows that do not account for exactly the frames that were read (frames: {}, accounted for: {accounted}); this is a bug in rasaudit; please report it",
                account.frames
            ),
        ));
    }
    input.manifest = ledger.manifest();
    Ok(input)
}

/// Merges and writes the sorted rows of an input. Returns what was written.
pub(super) fn write_rows(
    input: &InputRow,
    sorter: RowSorter,
    writer: &mut RowWriter,
    temporary: impl Fn(io::Error) -> StoreError,
    progress: &Progress,
) -> Result<Ledger, StoreError> {
    let name = &input.record.name;
    let id = input.id();
    let failed = |error| match error {
        RunError::Temporary(error) => temporary(error),
        // Rows that are being collected are not read from files.
        RunError::Unusable => temporary(io::Error::other("the rows are not sorted")),
        RunError::Interrupted => AuditError::Interrupted.into(),
    };
    let wrong = |error| match error {
        GroupError::Row(_, reason) => StoreError::rows(name, reason),
        GroupError::Group(reason) => StoreError::rows(format!("the rows of {name}"), reason),
        // Rows that are being collected may be there several times.
        GroupError::Twice(doubled) => StoreError::rows(
            format!("the rows of {name}"),
            format!("contain {}", doubled.words("")),
        ),
    };
    let mut ledger = Ledger::default();
    // However often the evidence of a key was passed on, it becomes one row.
    let mut write = |row: StoredRef<'_>, facts: RowFacts| {
        let row = StoredRef { parts: 1, input: &id, ..row };
        ledger.add(&row, facts.accounted);
        writer.write(&row, &facts)
    };
    let mut rows = sorter.finish([]).map_err(failed)?;
    while let Some(next) = rows.next().map_err(failed)? {
        if progress.stop.load(Ordering::Relaxed) {
            return Err(AuditError::Interrupted.into());
        }
        match next {
            NextRows::Single(row) => {
                write(row, check_single(&row, Doubles::Merge).map_err(wrong)?.facts)?;
            }
            // A part is a whole group, because the rows do not yet have an input by which to divide
            // them.
            NextRows::Part(part) => {
                let (row, facts) = merge_group(part.rows, Doubles::Merge).map_err(wrong)?;
                write(row.as_ref(), facts)?;
            }
        }
    }
    Ok(ledger)
}

/// Returns the SHA-256 of the content of an input after decompression. If it cannot be
/// decompressed, returns that of its stored bytes, or of a text with its name if these cannot be
/// read.
fn content_of(record: &InputRecord, path: Option<&Path>) -> InputContent {
    let read = record.sha256.as_deref().and_then(parse_hex);
    let hashed = || hash_start(path?, u64::MAX).ok();
    let unreadable = || unreadable_content(&record.name);
    record.unpacked.or(read).or_else(hashed).unwrap_or_else(unreadable)
}

fn parse_hex(text: &str) -> Option<InputContent> {
    let mut bytes = InputContent::default();
    for (number, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * number..2 * number + 2)?, 16).ok()?;
    }
    Some(bytes)
}
