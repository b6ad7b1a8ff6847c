//! Copies the evidence of a window into rows, while the window is still needed.

use std::io;

use super::key::PARTITIONS;
use super::partitions::PartitionFlows;
use super::row::EvidenceRow;
use super::side_evidence::SideEvidence;
use super::store::FlowStore;
use crate::model::Nanos;

impl FlowStore {
    /// Merges all tables on `jobs` threads and passes copies of their evidence to `take` as rows,
    /// in unspecified order. The store keeps the evidence. `pieces` states whether the rows include
    /// pieces of messages, which contain payload.
    ///
    /// # Errors
    ///
    /// Returns the error of `take`, or an error if evidence was spilled.
    pub fn copy_rows(
        &self,
        jobs: usize,
        pieces: RowPieces,
        take: &mut dyn FnMut(EvidenceRow) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.spill.written() > 0 {
            return Err(io::Error::other("evidence in temporary files cannot be copied as rows"));
        }
        self.merge(jobs);
        let known = self.interner.all();
        for number in 0..PARTITIONS {
            let Some(part) = self.part(number) else { continue };
            for flow in (PartitionFlows { table: &part.flows, links: &known }).records() {
                let (flow, parts) = EvidenceRow::of_flow(flow);
                take(flow)?;
                let parts = parts.filter(|_| pieces == RowPieces::Included);
                parts.map(&mut *take).transpose()?;
            }
            part.side.clone().each_row(take)?;
        }
        Ok(())
    }
}

/// Whether rows include pieces of messages that name a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RowPieces {
    /// The pieces are included.
    Included,
    /// The pieces are left out.
    LeftOut,
}

impl EvidenceRow {
    /// Returns the row of the times at which a capture was interrupted; `None` if it was
    /// never interrupted.
    pub fn of_cuts(cuts: impl IntoIterator<Item = Nanos>) -> Option<Self> {
        let mut side = SideEvidence::default();
        side.note_cuts(cuts);
        let mut found = None;
        let take = &mut |row| {
            found = Some(row);
            Ok(())
        };
        side.each_row(take).ok()?;
        found
    }
}
