//! Converts evidence into rows and back, and merges rows by key.
//!
//! A row is one flow, or one entry of side evidence, with its kind and its key. Rows with the same
//! kind and key can be merged in any order and grouping. Fragments, DNS lookups and the outer
//! packets of tunnels are stored as captured, because other rows may contain the rest of them. Once
//! the rows have been merged, fragments join their flows, lookups yield names, and outer packets
//! become flows.

use std::io;

use serde::{Deserialize, Serialize};

use super::flow_facts::{flow_ends, flow_facts};
use super::flow_rows::{facts_of, flow_of, flow_to_record, is_earlier_form, is_in_place};
use super::key::PARTITIONS;
use super::partitions::PartitionFlows;
use super::records::{Evidence, FlowRecord};
use super::row::{
    EvidenceRow, RowError, RowFacts, RowKind, RowRef, RowTrust, from_record, to_key, to_record,
};
use super::side_evidence::SideEvidence;
use super::spill::parse_pieces;
use super::store::FlowStore;
use super::{FlowKey, StreamPrefix};
use crate::model::Merge;

impl RowKind {
    /// Sides of flows that sent the start of a message that spans several segments.
    pub const STARTS: Self = Self::side("starts");
    /// Logs of packets, from which duplicates can be found.
    pub const PACKETS: Self = Self::side("packets");
    /// A sample of packets, which shows whether there are duplicates.
    pub const SAMPLE: Self = Self::side("sample");
    /// The numbers of duplicate packets and bytes in each flow.
    pub const COPIES: Self = Self::side("copies");
    /// The numbers of duplicate packets and bytes that each flow has in addition if a mirror is
    /// inferred.
    pub const MIRROR_COPIES: Self = Self::side("mirror_copies");

    /// Returns the kind of side evidence with this name, which must be in the list of kinds.
    const fn side(name: &str) -> Self {
        let mut number = 0;
        while number < SideEvidence::KINDS.len() {
            if is_same(SideEvidence::KINDS[number].as_bytes(), name.as_bytes()) {
                break;
            }
            number += 1;
        }
        Self::of_side_evidence(number)
    }

    /// Returns all kinds, in the order in which their rows are sorted.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..2 + SideEvidence::KINDS.len() as u8).map(Self)
    }

    /// Returns the name of the kind in stored rows, which must not change.
    pub fn name(self) -> &'static str {
        match self {
            Self::FLOWS => "flows",
            Self::PIECES => "pieces",
            Self(side) => SideEvidence::KINDS.get(usize::from(side) - 2).copied().unwrap_or(""),
        }
    }

    /// Returns the kind with this name; `None` if the name is unknown.
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }
}

/// Returns whether two byte strings are equal. Unlike `==`, it can be used in constants.
const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut number = 0;
    while number < a.len() && number < b.len() && a[number] == b[number] {
        number += 1;
    }
    number == a.len() && number == b.len()
}

/// Rows of the same kind and key, merged.
#[derive(Clone, Debug)]
pub struct MergedRows {
    /// The record; `None` if there was only one row, and its record stays the same.
    pub record: Option<Vec<u8>>,
    /// Facts from the merged row.
    pub facts: RowFacts,
}

/// The parts of messages from both sides of a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct FlowPieces {
    key: FlowKey,
    sides: [StreamPrefix; 2],
}

/// The evidence of one row.
enum RowEvidence {
    Flow(Box<FlowRecord>),
    Pieces(Box<FlowPieces>),
    Side(Box<SideEvidence>),
}

impl RowEvidence {
    /// Reads the evidence of a row. Checks that it is canonical and matches the row's key and
    /// bucket, because a row from a file may contain anything. For trusted rows of flows, the key
    /// and the bucket are not checked.
    fn of(row: RowRef<'_>, trust: RowTrust) -> Result<Self, RowError> {
        let (evidence, is_own) = match row.kind {
            RowKind::FLOWS => {
                return Ok(Self::Flow(Box::new(flow_of(row, trust)?)));
            }
            RowKind::PIECES => {
                let pieces: FlowPieces = from_record(row.record)?;
                let mut again = FlowPieces { key: pieces.key, sides: Default::default() };
                again.merge(&pieces);
                if again != pieces || !pieces.key.is_canonical() {
                    return Err(RowError::Damaged);
                }
                let is_own = is_in_place(row, &pieces.key);
                (Self::Pieces(Box::new(pieces)), is_own)
            }
            RowKind(_) => {
                let mut side = SideEvidence::default();
                let (bucket, key) = side.take_record(row.kind.name(), row.record)?;
                (Self::Side(Box::new(side)), (bucket, &*key) == (row.bucket, row.key))
            }
        };
        if is_own { Ok(evidence) } else { Err(RowError::Key) }
    }

    fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Flow(mine), Self::Flow(theirs)) => mine.merge(&theirs),
            (Self::Pieces(mine), Self::Pieces(theirs)) => mine.merge(&theirs),
            (Self::Side(mine), Self::Side(theirs)) => mine.merge(*theirs),
            // The caller merges only rows of the same kind, so this case does not occur.
            _ => {}
        }
    }

    /// Returns the record of the evidence.
    fn record(self) -> Vec<u8> {
        match self {
            Self::Flow(flow) => flow_to_record(&flow),
            Self::Pieces(pieces) => to_record(&*pieces),
            Self::Side(side) => {
                let mut record = Vec::new();
                side.each_row(&mut |row| {
                    record = row.record;
                    Ok(())
                })
                .unwrap_or_default();
                record
            }
        }
    }

    /// Returns the number of frames that the row accounts for.
    fn accounted(&self) -> u64 {
        match self {
            Self::Flow(flow) => {
                flow.sides.iter().fold(0, |sum, side| side.sent.packets.0.saturating_add(sum))
            }
            Self::Pieces(_) => 0,
            Self::Side(side) => side.facts().accounted,
        }
    }

    fn facts(&self) -> RowFacts {
        match self {
            Self::Flow(flow) => flow_facts(flow),
            Self::Pieces(pieces) => flow_ends(&pieces.key),
            Self::Side(side) => side.facts(),
        }
    }
}

impl Merge for FlowPieces {
    fn merge(&mut self, other: &Self) {
        self.sides.iter_mut().zip(&other.sides).for_each(|(mine, theirs)| mine.merge(theirs));
    }
}

impl EvidenceRow {
    /// Returns the row of a flow, and the row of the parts of its messages if any are kept.
    pub(super) fn of_flow(mut flow: FlowRecord) -> (Self, Option<Self>) {
        let key = to_key(&flow.key);
        let bucket = flow.key.bucket();
        let sides = flow.sides.each_mut().map(|side| std::mem::take(&mut side.prefix));
        let pieces = sides.iter().any(|side| !side.is_empty()).then(|| Self {
            kind: RowKind::PIECES,
            bucket,
            key: key.clone(),
            record: to_record(&FlowPieces { key: flow.key, sides }),
        });
        (Self { kind: RowKind::FLOWS, bucket, key, record: flow_to_record(&flow) }, pieces)
    }

    /// Returns facts from the row.
    ///
    /// # Errors
    ///
    /// Returns an error if the row is not valid.
    pub fn facts(&self) -> Result<RowFacts, RowError> {
        Ok(RowEvidence::of(self.as_ref(), RowTrust::File)?.facts())
    }
}

impl RowRef<'_> {
    /// Merges rows of the same kind and key into one. Passes the index of each row, and the number
    /// of frames that it accounts for, to `each`. Returns `None` if `rows` is empty.
    ///
    /// # Errors
    ///
    /// Returns an error, with the index of the row, if a row is not valid.
    pub fn merged(
        rows: &[Self],
        trust: RowTrust,
        mut each: impl FnMut(usize, u64),
    ) -> Result<Option<MergedRows>, (usize, RowError)> {
        let is_earlier = |row: &Self| row.kind == RowKind::FLOWS && is_earlier_form(row.record);
        if let [row] = rows
            && row.kind == RowKind::FLOWS
            && !is_earlier(row)
        {
            let facts = facts_of(*row, trust).map_err(|error| (0, error))?;
            each(0, facts.accounted);
            return Ok(Some(MergedRows { record: None, facts }));
        }
        let mut all: Option<RowEvidence> = None;
        for (number, row) in rows.iter().enumerate() {
            let evidence = RowEvidence::of(*row, trust).map_err(|error| (number, error))?;
            each(number, evidence.accounted());
            match &mut all {
                Some(all) => all.merge(evidence),
                None => all = Some(evidence),
            }
        }
        Ok(all.map(|all| MergedRows {
            facts: all.facts(),
            record: (rows.len() > 1 || rows.iter().any(is_earlier)).then(|| all.record()),
        }))
    }
}

impl Evidence {
    /// Adds the evidence of a row. Parts of messages are kept only if `wants_pieces` returns true
    /// for their flow and side. Returns the number of captured frames that the row accounts for.
    ///
    /// # Errors
    ///
    /// Returns an error if the row is not valid.
    pub fn take_row(
        &mut self,
        row: RowRef<'_>,
        wants_pieces: impl Fn(FlowKey, u8) -> bool,
    ) -> Result<u64, RowError> {
        let evidence = RowEvidence::of(row, RowTrust::File)?;
        let accounted = evidence.accounted();
        match evidence {
            RowEvidence::Flow(flow) => self.flows.push(*flow),
            RowEvidence::Side(side) => self.side.merge(*side),
            RowEvidence::Pieces(pieces) => {
                let FlowPieces { key, sides } = *pieces;
                let mut flow = FlowRecord::new(key);
                let mut any = false;
                for (number, prefix) in sides.into_iter().enumerate() {
                    if !prefix.is_empty() && wants_pieces(key, number as u8) {
                        flow.sides[number].prefix = prefix;
                        any = true;
                    }
                }
                if any {
                    self.flows.push(flow);
                }
            }
        }
        Ok(accounted)
    }
}

impl FlowStore {
    /// Merges all tables on `jobs` threads and passes their evidence to `take` as rows, in
    /// unspecified order. Evidence that was spilled is read one partition at a time.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be read, or the error of `take`.
    pub fn into_rows(
        self,
        jobs: usize,
        take: &mut dyn FnMut(EvidenceRow) -> io::Result<()>,
    ) -> io::Result<()> {
        self.merge(jobs);
        let parts = self.take_parts();
        let mut links = self.links();
        for (number, mut part) in parts.into_iter().enumerate().take(PARTITIONS) {
            let bytes = self.spill.read(number)?;
            part.merge(parse_pieces(&bytes, &self.seed, &mut links)?, &self.seed, &mut links);
            let known = self.interner.all();
            for flow in (PartitionFlows { table: &part.flows, links: &known }).records() {
                let (flow, pieces) = EvidenceRow::of_flow(flow);
                take(flow)?;
                pieces.map(&mut *take).transpose()?;
            }
            part.side.each_row(take)?;
        }
        Ok(())
    }
}
