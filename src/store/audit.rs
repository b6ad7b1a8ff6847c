//! Provides an audit with the rows of stores, as the evidence of their inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::StoreError;
use super::columns::check_accounted;
use super::earlier::has_grown;
use super::files::{GroupReader, RowFile, RowGroup};
use super::input::{CollectOptions, FingerprintRule, InputRow, is_same_path, tunnel_texts};
use super::inputs::StoredInputs;
use super::ledger::Ledger;
use super::row::StoredRef;
use super::sensor_inputs::{greatest_loss, interruptions, timelines};
use super::windows::{WindowError, WindowSelection};
use crate::capture::{CaptureError, CaptureInput, InputContent, ReadError};
use crate::flow::{Evidence, PrefixRetention, Retention, RowKind, SideEvidence};
use crate::model::{ActivityHistogram, InputRecord, Merge, Nanos, VantagePoint};
use crate::pipeline::{
    Chunk, Dedup, Origin, Plan, PlanError, Request, SharedEvidence, Source, StoredInput,
};

/// The rows of stores.
pub struct EvidenceStore {
    files: Vec<RowFile>,
    inputs: StoredInputs,
    /// The inputs whose rows do not count, because another input has the same content.
    unused: BTreeSet<String>,
    options: CollectOptions,
    reading: Mutex<StoreReading>,
}

/// The state of one pass over all rows.
#[derive(Default)]
struct StoreReading {
    /// The windows that are read.
    selection: WindowSelection,
    parts: PrefixRetention,
    /// The row groups that have not been read yet.
    waiting: Vec<RowGroup>,
    found: Ledger,
    /// The number of sides that started a message that continues in another segment. A side counts
    /// once for each input that contains it.
    open_messages: u64,
    wrong: Vec<(String, String)>,
}

impl fmt::Debug for EvidenceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvidenceStore").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

/// Why a request cannot be carried out with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreRequestError {
    /// An option determines which rows are collected, and the store was collected with a different
    /// value of it.
    #[error(
        "{0} differs from the setting with which the rows were collected; leave {0} out, or collect the captures again with the new setting"
    )]
    OtherOption(&'static str),
    /// The filter differs from the one with which the rows were collected. The values are both
    /// filters, as options.
    #[error(
        "the rows were collected with {1}, not with {0}; leave --filter out, or collect the captures again with the new setting"
    )]
    OtherFilter(String, String),
    /// The rows do not contain what the option needs.
    #[error("{0}")]
    NotInRows(&'static str),
    /// The rows do not contain exactly the frames of the time range.
    #[error(transparent)]
    Window(#[from] WindowError),
    /// The store is complete, so no capture can be added.
    #[error(
        "{0}: server names and duplicates of the complete store were decided without this capture; audit the capture together with the stores from which the complete store was merged"
    )]
    Complete(String),
    /// The rows were collected by a version that computes fingerprints in another way, so copies of
    /// packets in the capture cannot be recognized.
    #[error(
        "{0}: the rows were collected by a version that recognizes duplicates differently; collect the captures again, audit this capture without the rows, or use --dedup off"
    )]
    OtherFingerprints(String),
    /// A capture that is read in addition to the store has grown since its rows were collected.
    #[error(
        "{0}: the capture has grown since its rows were collected, so its frames would count twice; collect it into the store again (rasaudit collect then removes the file with the earlier rows if it contains no others), or leave it out"
    )]
    Grown(String),
    /// The tunnels in the inventory differ from those with which the rows were collected.
    #[error(
        "the tunnels in the inventory differ from those with which the rows were collected (without --inventory, there are none); use the inventory with which the rows were collected, or collect the captures again with rasaudit collect --inventory"
    )]
    OtherTunnels,
    /// The captures that are read in addition to the store cannot be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl EvidenceStore {
    /// Opens stores and checks that their inputs belong together.
    ///
    /// # Errors
    ///
    /// Returns an error if files cannot be read, if inputs do not belong together, or if there are
    /// none.
    pub fn open(stores: &[PathBuf]) -> Result<Arc<Self>, StoreError> {
        let files = RowFile::open_all(stores)?;
        let inputs = StoredInputs::read(&files)?;
        inputs.check()?;
        if inputs.iter().next().is_none() {
            return Err(StoreError::no_inputs(stores));
        }
        Ok(Arc::new(Self {
            unused: inputs.labels().into_iter().filter(|l| l.1.is_none()).map(|l| l.0).collect(),
            options: inputs.options(),
            files,
            inputs,
            reading: Mutex::default(),
        }))
    }

    /// Returns the plan of an audit of the rows and of the captures of `request`. The options that
    /// determine which rows are collected are taken from the store.
    ///
    /// # Errors
    ///
    /// Returns the reasons why the request cannot be carried out.
    pub fn plan(self: &Arc<Self>, request: Request) -> Result<Plan, Vec<StoreRequestError>> {
        let selection = self.options.windows().within(request.since, request.until);
        let wrong = self.refusals(&request, selection.as_ref());
        let selection = match selection {
            Ok(selection) if wrong.is_empty() => selection,
            _ => return Err(wrong),
        };
        self.reading().selection = selection;
        let CollectOptions { filter, no_decap, vxlan_ports, .. } = self.options.clone();
        let (since, until) = (selection.since(), selection.until());
        let request = Request { filter, since, until, no_decap, vxlan_ports, ..request };
        let used = self.inputs.used().map(|input| (input.content, input));
        let used: BTreeMap<InputContent, &InputRow> = used.collect();
        let stored = self.inputs.iter().map(|input| {
            // An input without evidence was read as the one with the same content.
            let other = used.get(&input.content).filter(|_| !input.has_evidence());
            let (record, timeline) = other.copied().unwrap_or(input).within(&selection);
            let store = Arc::clone(self);
            StoredInput {
                name: input.record.name.clone(),
                size: input.record.size,
                content: input.content,
                content_size: input.content_size(),
                origin: Arc::new(StoredOrigin {
                    store,
                    record,
                    timeline,
                    has_vantage_point: input.sensor.is_some(),
                }),
            }
        });
        let stored = stored.collect();
        let shared = Arc::clone(self);
        let plan = Plan::with_stored(request, stored, shared);
        let plan = plan
            .map_err(|wrong| wrong.into_iter().map(StoreRequestError::Plan).collect::<Vec<_>>())?;
        let read = plan.captures().filter(|_| self.inputs.completion().is_some());
        let mut wrong: Vec<_> =
            read.map(|name| StoreRequestError::Complete(name.to_owned())).collect();
        let compares = plan.request.dedup != Dedup::Off
            && self.options.fingerprints != FingerprintRule::Current;
        let other = plan.captures().next().filter(|_| compares);
        wrong.extend(other.map(|name| StoreRequestError::OtherFingerprints(name.to_owned())));
        wrong.extend(self.grown(&plan).map(StoreRequestError::Grown));
        if wrong.is_empty() { Ok(plan) } else { Err(wrong) }
    }

    /// Checks that the rows were collected with the tunnels that a request states.
    ///
    /// # Errors
    ///
    /// Returns an error if they were not.
    pub fn check_tunnels(&self, request: &Request) -> Result<(), StoreRequestError> {
        if tunnel_texts(request) == self.options.tunnels {
            Ok(())
        } else {
            Err(StoreRequestError::OtherTunnels)
        }
    }

    /// Returns the version of the program that collected the rows.
    pub fn version(&self) -> Option<&str> {
        self.inputs.version()
    }

    /// Returns whether a live audit wrote rows of the store.
    pub fn is_live(&self) -> bool {
        self.inputs.iter().any(|input| input.record.format == "live")
    }

    /// Returns whether the rows were collected with the parts of messages that name a server. A
    /// complete store contains only those parts that are still needed.
    pub fn has_pieces(&self) -> bool {
        self.options.pieces
    }

    /// Returns the number of sides of flows that started a message that continues in another
    /// segment, in the rows that were read. A side counts once for each input that contains it.
    pub fn open_messages(&self) -> u64 {
        self.reading().open_messages
    }

    /// Returns why options of a request cannot be carried out. Options that are not given cause no
    /// error, because they are taken from the store.
    fn refusals(
        &self,
        request: &Request,
        selection: Result<&WindowSelection, &Vec<WindowError>>,
    ) -> Vec<StoreRequestError> {
        let own = &self.options;
        let given = CollectOptions::of(request, own.kept());
        let others = [
            ("--no-decap", given.no_decap && !own.no_decap),
            ("--vxlan-port", !given.vxlan_ports.is_empty() && given.vxlan_ports != own.vxlan_ports),
        ];
        let others = others.into_iter().filter(|(_, differs)| *differs);
        let mut wrong: Vec<_> =
            others.map(|(option, _)| StoreRequestError::OtherOption(option)).collect();
        if given.filter.is_some() && given.filter != own.filter {
            let [given, own] = [&given, own].map(|options| options.filter_words());
            wrong.push(StoreRequestError::OtherFilter(given, own));
        }
        match selection {
            Err(errors)
                if self.is_live()
                    && errors.iter().any(|error| matches!(error, WindowError::NotDivided(_))) =>
            {
                wrong.push(StoreRequestError::NotInRows(
                    "--since and --until cannot divide the rows of a live audit; each of its files contains one window and states its start in its name, so give only the files of the time that you need",
                ));
            }
            Err(errors) => wrong.extend(errors.iter().map(|error| (*error).into())),
            Ok(range) if range.is_empty() => wrong.push(PlanError::EmptyTimeRange.into()),
            Ok(_) => {}
        }
        let is_decided = self.inputs.completion().is_some() && (own.pieces || own.traces);
        let range = (request.since.or(own.since), request.until.or(own.until));
        let missing = [
            (
                is_decided && range != (own.since, own.until),
                "--since and --until cannot select a part of a complete store, because its server names and duplicates were decided for the whole period; instead, audit the stores from which it was merged",
            ),
            (
                request.evidence.is_some(),
                "--evidence needs the frames, and a store contains no frames; audit the captures",
            ),
            (
                request.dedup == Dedup::On && !own.traces,
                "--dedup on needs every packet, which the rows do not contain; leave it out, or collect the rows again with --traces",
            ),
        ];
        let missing = missing.into_iter().filter(|(is_missing, _)| *is_missing);
        wrong.extend(missing.map(|(_, reason)| StoreRequestError::NotInRows(reason)));
        wrong
    }

    /// Returns the names of the captures of a plan that have grown since the store got their rows.
    /// The path of a capture may have been written differently then.
    fn grown<'p>(&self, plan: &'p Plan) -> impl Iterator<Item = String> + use<'p, '_> {
        let read: BTreeSet<&str> = plan.captures().collect();
        let mut known: BTreeMap<Option<&OsStr>, Vec<&InputRow>> = BTreeMap::new();
        for input in self.inputs.iter().filter(|_| !read.is_empty()) {
            known.entry(Path::new(&input.record.name).file_name()).or_default().push(input);
        }
        let is_read = move |source: &&CaptureInput| read.contains(source.name.as_str());
        let has_grown = move |source: &&CaptureInput| {
            let path = source.path.as_deref();
            let known = known.get(&Path::new(&source.name).file_name());
            let mut known = known.into_iter().flatten();
            let mut known = known.by_ref().filter(|i| is_same_path(&i.record.name, &source.name));
            path.is_some_and(|path| known.any(|input| has_grown(input, path)))
        };
        let grown = plan.sources.iter().filter(is_read).filter(has_grown);
        grown.map(|source| source.name.clone())
    }

    fn reading(&self) -> MutexGuard<'_, StoreReading> {
        self.reading.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl SharedEvidence for EvidenceStore {
    fn begin(&self, retention: &Retention) {
        let groups = self.files.iter().enumerate().flat_map(|(number, file)| file.groups(number));
        let mut reading = self.reading();
        *reading = StoreReading {
            selection: reading.selection,
            parts: retention.parts.clone(),
            waiting: groups.collect(),
            ..StoreReading::default()
        };
    }

    fn check(&self) -> Result<(), Vec<(String, String)>> {
        let mut reading = self.reading();
        if !reading.wrong.is_empty() {
            let mut wrong = std::mem::take(&mut reading.wrong);
            wrong.sort();
            return Err(wrong);
        }
        match self.inputs.compare(&reading.found) {
            Err(StoreError::Rows(wrong)) => Err(wrong),
            Err(other) => Err(vec![("the store".to_owned(), other.to_string())]),
            Ok(()) => Ok(()),
        }
    }

    fn read_ahead(&self) -> SideEvidence {
        let selection = self.reading().selection;
        let mut ahead = Evidence::default();
        for (number, file) in self.files.iter().enumerate() {
            for group in file.groups(number) {
                let take = |row: StoredRef<'_>| {
                    let is_read =
                        !self.unused.contains(row.input) && selection.includes(row.window);
                    match row.evidence().filter(|_| is_read) {
                        Some(own) => {
                            ahead.take_row(own, |_, _| false).map_err(|error| error.to_string())?
                        }
                        None => 0,
                    };
                    Ok(())
                };
                // An error is ignored here, because the check after reading all rows reports it.
                let _ = file.read_kinds(group, &[RowKind::STARTS, RowKind::SAMPLE], take);
            }
        }
        ahead.side
    }

    fn has_packets(&self) -> bool {
        self.options.traces
    }

    fn knows_duplicates(&self) -> bool {
        self.inputs.completion().is_some()
    }

    fn interruptions(&self) -> Vec<Nanos> {
        interruptions(self.inputs.used())
    }

    fn vantage_points(&self) -> BTreeMap<VantagePoint, ActivityHistogram> {
        timelines(self.inputs.used())
    }

    fn vantage_loss(&self) -> f64 {
        greatest_loss(self.inputs.used())
    }
}

/// An input of a store.
#[derive(Debug)]
struct StoredOrigin {
    store: Arc<EvidenceStore>,
    record: InputRecord,
    timeline: ActivityHistogram,
    has_vantage_point: bool,
}

impl Origin for StoredOrigin {
    fn has_vantage_point(&self) -> bool {
        self.has_vantage_point
    }

    fn open(&self, hash: bool) -> Result<Box<dyn Source>, CaptureError> {
        let sha256 = self.record.sha256.clone().filter(|_| hash);
        let StoreReading { selection, parts, .. } = &*self.store.reading();
        Ok(Box::new(StoredSource {
            store: Arc::clone(&self.store),
            selection: *selection,
            parts: parts.clone(),
            record: InputRecord { sha256, ..self.record.clone() },
            timeline: self.timeline.clone(),
            reader: None,
            found: Ledger::default(),
            open_messages: 0,
            read: 0,
        }))
    }
}

/// An input that is being read. All inputs of a store share the work of reading its rows.
struct StoredSource {
    store: Arc<EvidenceStore>,
    selection: WindowSelection,
    parts: PrefixRetention,
    record: InputRecord,
    timeline: ActivityHistogram,
    /// The row group that is being read, with the index of its file.
    reader: Option<(usize, GroupReader)>,
    found: Ledger,
    open_messages: u64,
    /// The number of bytes of records that were read.
    read: u64,
}

impl StoredSource {
    /// Reads the next rows into `evidence`. Returns false if there are no more. An error has the
    /// index of the file.
    fn read_rows(&mut self, evidence: &mut Evidence) -> Result<bool, (usize, String)> {
        let Self { store, selection, parts, reader, found, open_messages, read, .. } = self;
        if reader.is_none() {
            let Some(group) = store.reading().waiting.pop() else { return Ok(false) };
            let opened = store.files[group.file].read(group);
            *reader = Some((group.file, opened.map_err(|reason| (group.file, reason))?));
        }
        let Some((file, group)) = reader else { return Ok(false) };
        let wants = |flow, side| match &*parts {
            PrefixRetention::Starts => false,
            PrefixRetention::Of(sides) => sides.contains(&(flow, side)),
            PrefixRetention::All | PrefixRetention::StartsAndAll => true,
        };
        let take = |row: StoredRef<'_>| {
            let stated = row.read.accounted;
            let Some(own) = row.evidence() else { return Ok(()) };
            if store.unused.contains(row.input) {
                return Ok(());
            }
            *read += row.record.len() as u64;
            // The rows of other windows are only counted.
            if !selection.includes(row.window) {
                found.add(&row, u64::try_from(stated).unwrap_or_default());
                return Ok(());
            }
            let accounted = evidence.take_row(own, wants).map_err(|error| error.to_string())?;
            check_accounted(stated, accounted)?;
            found.add(&row, accounted);
            if own.kind == RowKind::STARTS {
                *open_messages = open_messages.saturating_add(row.parts);
            }
            Ok(())
        };
        if !group.next(|is_evidence| is_evidence, take).map_err(|reason| (*file, reason))? {
            *reader = None;
        }
        Ok(true)
    }
}

impl Source for StoredSource {
    fn next(&mut self, chunk: &mut Chunk) -> Result<bool, ReadError> {
        chunk.frames.frames.clear();
        let mut evidence = Evidence::default();
        let more = match self.read_rows(&mut evidence) {
            Ok(more) => more,
            // The check after reading reports the error, so it is only noted here.
            Err((file, reason)) => {
                let mut reading = self.store.reading();
                reading.waiting.clear();
                reading.wrong.push((self.store.files[file].name(), reason));
                false
            }
        };
        chunk.evidence = Some(evidence);
        Ok(more)
    }

    fn position(&self) -> u64 {
        self.read
    }

    fn finish(
        self: Box<Self>,
        record: &mut InputRecord,
        timeline: &mut ActivityHistogram,
    ) -> io::Result<()> {
        let mut reading = self.store.reading();
        reading.found.merge(&self.found);
        reading.open_messages += self.open_messages;
        drop(reading);
        timeline.merge(&self.timeline);
        *record = self.record;
        Ok(())
    }
}
