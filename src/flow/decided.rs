//! Decides what the segments and the packets of all inputs show, so that rows need not contain them
//! any longer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use super::copied_amounts::CopiedAmounts;
use super::flow_facts::flow_facts;
use super::flow_rows::{flow_of, flow_to_record};
use super::merged::MergedFlows;
use super::partitions::FlowPartitions;
use super::row::{EvidenceRow, RowError, RowFacts, RowKind, RowRef, RowTrust, to_key};
use super::side_evidence::SideEvidence;
use super::{FlowKey, HashSeed};
use crate::payload::ServerNameRequest;

/// What the segments and the packets of all inputs show: server names, and the numbers of duplicate
/// packets and bytes. `names` and `undecided` identify flows by the keys of their rows.
#[derive(Default, Debug)]
pub struct DecidedEvidence {
    names: HashMap<Vec<u8>, [Option<ServerNameRequest>; 2], HashSeed>,
    /// The flows whose segments are still needed.
    undecided: BTreeSet<Vec<u8>>,
    copies: BTreeMap<FlowKey, CopiedAmounts>,
    /// The duplicates that count in addition if mirrors are trusted. The flows are on the plain
    /// path.
    mirror_copies: BTreeMap<FlowKey, CopiedAmounts>,
}

/// The change to a row of evidence when segments and packets are dropped.
#[derive(Clone, Debug)]
pub enum Decision {
    /// The row stays as it is.
    Keep,
    /// The row is removed, because the decisions replace its evidence.
    Drop,
    /// The row gets this record and these facts.
    Replace(Vec<u8>, Box<RowFacts>),
}

impl DecidedEvidence {
    /// Returns the numbers of duplicate packets and bytes as rows.
    pub fn rows(&self) -> Vec<EvidenceRow> {
        let mut side = SideEvidence::default();
        self.copies.iter().for_each(|(flow, copies)| side.copies.add(*flow, *copies));
        let mirrored = self.mirror_copies.iter();
        mirrored.for_each(|(flow, copies)| side.mirror_copies.add(*flow, *copies));
        let mut rows = Vec::new();
        // Adding to a list cannot fail.
        let _ = side.each_row(&mut |row| {
            rows.push(row);
            Ok(())
        });
        rows
    }

    /// Returns the number of flows whose segments are still needed.
    pub fn undecided_flows(&self) -> usize {
        self.undecided.len()
    }

    /// Decides how a row changes.
    ///
    /// # Errors
    ///
    /// Returns an error if the row is not valid.
    pub fn apply(&self, row: RowRef<'_>) -> Result<Decision, RowError> {
        let is_needed = match row.kind {
            RowKind::PACKETS => false,
            RowKind::PIECES => self.undecided.contains(row.key),
            // The last byte of the key is the side. The row states that a name may be missing, so
            // it is kept unless the segments of its flow have been decided.
            RowKind::STARTS => {
                row.key.split_last().is_some_and(|(_, flow)| !self.names.contains_key(flow))
            }
            RowKind::FLOWS => return self.with_names(row),
            _ => true,
        };
        Ok(if is_needed { Decision::Keep } else { Decision::Drop })
    }

    /// Adds the names in the segments of a flow to its row.
    fn with_names(&self, row: RowRef<'_>) -> Result<Decision, RowError> {
        let Some(names) = self.names.get(row.key) else { return Ok(Decision::Keep) };
        let mut flow = flow_of(row, RowTrust::File)?;
        for (side, name) in flow.sides.iter_mut().zip(names) {
            name.iter().for_each(|name| side.requests.insert(name.clone()));
        }
        Ok(Decision::Replace(flow_to_record(&flow), Box::new(flow_facts(&flow))))
    }
}

impl MergedFlows {
    /// Decides what the segments and the packets of all flows show. The flows are not changed. It
    /// must be called only once, because it consumes the packet records.
    ///
    /// # Errors
    ///
    /// Returns an error if a temporary file cannot be read.
    pub fn decide(&mut self) -> io::Result<DecidedEvidence> {
        let (correction, mirrored) = self.find_duplicates()?;
        let mut decided = DecidedEvidence::default();
        // The flows with segments, by their key on the plain path.
        let mut paths: BTreeMap<FlowKey, Vec<FlowKey>> = BTreeMap::new();
        self.visit(|partition| {
            for flow in partition.iter() {
                let copies = correction.of_flow(&self.store.seed, &flow.key);
                copies.and_then(|copies| decided.copies.insert(flow.key, copies));
                let plain = flow.key.plain();
                let copies = mirrored.of_flow(&self.store.seed, &plain);
                copies.and_then(|copies| decided.mirror_copies.insert(plain, copies));
                let Some(evidence) = flow.server_names.filter(|own| own.has_segments()) else {
                    continue;
                };
                paths.entry(flow.key.plain()).or_default().push(flow.key);
                let names = [0, 1].map(|side| evidence.name_in_segments(side, &flow.sides[side]));
                let fits = |side: usize| {
                    names[side].as_ref().is_none_or(|name| evidence.has_room(side, name))
                };
                let key = to_key(&flow.key);
                if fits(0) && fits(1) {
                    decided.names.insert(key, names);
                } else {
                    decided.undecided.insert(key);
                }
            }
        })?;
        // If a mirror is found later, flows that differ only in their path become one, and their
        // segments may then form other messages.
        for flow in paths.into_values().filter(|flows| flows.len() > 1).flatten() {
            let key = to_key(&flow);
            decided.names.remove(&key);
            decided.undecided.insert(key);
        }
        Ok(decided)
    }
}
