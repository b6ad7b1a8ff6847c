//! Returns the rows of stores to an audit, as the evidence of its inputs.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::StoreError;
use super::columns::{ReadRow, check_accounted};
use super::files::{GroupReader, RowFile, RowGroup};
use super::input::{CollectOptions, InputRow, tunnel_texts};
use super::inputs::StoredInputs;
use super::ledger::Ledger;
use crate::capture::{CaptureError, ReadError};
use crate::flow::{Evidence, PrefixRetention, Retention};
use crate::model::{ActivityHistogram, InputRecord, Merge};
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

/// The state of reading all rows once.
#[derive(Default)]
struct StoreReading {
    parts: PrefixRetention,
    /// The row groups that have not been read yet.
    waiting: Vec<RowGroup>,
    found: Ledger,
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
        "{0} differs from the setting with which the rows were collected; collect the captures again with the new setting"
    )]
    OtherOption(&'static str),
    /// The rows do not contain what the option needs.
    #[error("{0}")]
    NotInRows(&'static str),
    /// The tunnels in the inventory differ from those with which the rows were collected.
    #[error(
        "the tunnels in the inventory differ from those with which the rows were collected; collect the captures again with rasaudit collect --inventory"
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
    /// Returns everything that is wrong.
    pub fn open(stores: &[PathBuf]) -> Result<Arc<Self>, StoreError> {
        let files = RowFile::open_all(stores)?;
        let inputs = StoredInputs::read(&files)?;
        inputs.check()?;
        if inputs.iter().next().is_none() {
            let name = stores.first().map(|store| store.display().to_string()).unwrap_or_default();
            return Err(StoreError::rows(
                name,
                "contains no row of an input, because rasaudit collect did not finish",
            ));
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
    /// Returns all reasons why the request cannot be carried out.
    pub fn plan(self: &Arc<Self>, request: Request) -> Result<Plan, Vec<StoreRequestError>> {
        let wrong = self.refusals(&request);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let CollectOptions { filter, since, until, no_decap, vxlan_ports, .. } =
            self.options.clone();
        let request = Request { filter, since, until, no_decap, vxlan_ports, ..request };
        let stored = self.inputs.iter().map(|input| StoredInput {
            name: input.record.name.clone(),
            size: input.record.size,
            content: input.content,
            origin: Arc::new(StoredOrigin { store: Arc::clone(self), input: self.used_for(input) }),
        });
        let stored = stored.collect();
        let shared = Arc::clone(self);
        Plan::with_stored(request, stored, shared)
            .map_err(|wrong| wrong.into_iter().map(StoreRequestError::Plan).collect())
    }

    /// Checks that the rows were collected with the tunnels that a plan states.
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

    /// Returns whether the rows contain the parts of messages that name a server.
    pub fn has_pieces(&self) -> bool {
        self.options.pieces
    }

    /// Returns the number of sides of flows that started a message that continues in another
    /// segment.
    pub fn open_messages(&self) -> u64 {
        self.reading().found.rows("starts")
    }

    /// Returns why options of a request cannot be carried out. Options that are not given are taken
    /// from the store.
    fn refusals(&self, request: &Request) -> Vec<StoreRequestError> {
        let own = &self.options;
        let given = CollectOptions::of(request, own.kept());
        let others = [
            ("--filter", given.filter.is_some() && given.filter != own.filter),
            ("--since", given.since.is_some() && given.since != own.since),
            ("--until", given.until.is_some() && given.until != own.until),
            ("--no-decap", given.no_decap && !own.no_decap),
            ("--vxlan-port", !given.vxlan_ports.is_empty() && given.vxlan_ports != own.vxlan_ports),
        ];
        let others = others.into_iter().filter(|(_, differs)| *differs);
        let mut wrong: Vec<_> =
            others.map(|(option, _)| StoreRequestError::OtherOption(option)).collect();
        let missing = [
            (
                request.evidence.is_some(),
                "--evidence needs the frames, and a store contains no frames; audit the captures",
            ),
            (
                request.dedup == Dedup::On && !own.traces,
                "--dedup on needs every packet, which the rows do not contain; collect the captures with --traces",
            ),
        ];
        let missing = missing.into_iter().filter(|(is_missing, _)| *is_missing);
        wrong.extend(missing.map(|(_, reason)| StoreRequestError::NotInRows(reason)));
        wrong
    }

    /// Returns the input with the same content whose rows count.
    fn used_for(&self, input: &InputRow) -> InputRow {
        let used = self.inputs.used().find(|used| used.content == input.content);
        used.unwrap_or(input).clone()
    }

    fn reading(&self) -> MutexGuard<'_, StoreReading> {
        self.reading.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl SharedEvidence for EvidenceStore {
    fn begin(&self, retention: &Retention) {
        let groups = self.files.iter().enumerate().flat_map(|(number, file)| file.groups(number));
        *self.reading() = StoreReading {
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

    fn has_message_parts(&self) -> bool {
        self.options.pieces
    }

    fn has_packets(&self) -> bool {
        self.options.traces
    }
}

/// An input of a store.
#[derive(Debug)]
struct StoredOrigin {
    store: Arc<EvidenceStore>,
    input: InputRow,
}

impl Origin for StoredOrigin {
    fn open(&self, hash: bool) -> Result<Box<dyn Source>, CaptureError> {
        let sha256 = self.input.record.sha256.clone().filter(|_| hash);
        Ok(Box::new(StoredSource {
            store: Arc::clone(&self.store),
            parts: self.store.reading().parts.clone(),
            record: InputRecord { sha256, ..self.input.record.clone() },
            timeline: self.input.timeline.clone(),
            reader: None,
            found: Ledger::default(),
            read: 0,
        }))
    }
}

/// An input that is being read. All inputs of a store share the work of reading its rows.
struct StoredSource {
    store: Arc<EvidenceStore>,
    parts: PrefixRetention,
    record: InputRecord,
    timeline: ActivityHistogram,
    /// The row group that is being read, with the index of its file.
    reader: Option<(usize, GroupReader)>,
    found: Ledger,
    /// The number of bytes of records that were read.
    read: u64,
}

impl StoredSource {
    /// Reads the next rows into `evidence`. Returns false if there are no more.
    fn read_rows(&mut self, evidence: &mut Evidence) -> Result<bool, (usize, String)> {
        let Self { store, parts, reader, found, read, .. } = self;
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
        let take = |ReadRow { row, accounted: stated }: ReadRow| {
            let Some(own) = row.evidence() else { return Ok(()) };
            if store.unused.contains(&row.input) {
                return Ok(());
            }
            let accounted = evidence.take_row(&own, wants).map_err(|error| error.to_string())?;
            check_accounted(stated, accounted)?;
            found.add(&row, accounted);
            *read += row.record.len() as u64;
            Ok(())
        };
        if !group.next(|is_input| !is_input, take).map_err(|reason| (*file, reason))? {
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
            // The check after reading reports the error.
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
        self.store.reading().found.merge(&self.found);
        timeline.merge(&self.timeline);
        *record = self.record;
        Ok(())
    }
}
