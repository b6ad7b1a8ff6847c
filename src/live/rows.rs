//! Writes the rows of windows, so that the windows of several sensors can be audited together.

use std::collections::BTreeSet;
use std::io;

use super::LiveContext;
use super::listener::{CollectedWindow, LiveEvent};
use crate::flow::{FlowStore, WorkerTables};
use crate::model::{ActivityHistogram, InputRecord, Nanos};
use crate::pipeline::AuditError;
use crate::store::{PacketSpill, Spool, SpoolOptions, StoreError, WindowEvidence};

/// While the rows of a window are sorted, they may take the memory limit divided by this number.
const MEMORY_SHARES: usize = 10;

/// Opens the folder of the rows.
pub(super) fn open(options: &SpoolOptions) -> Result<Spool, AuditError> {
    Spool::open(options).map_err(|error| match error {
        StoreError::Output(path, error) => AuditError::Output(path, error),
        other => AuditError::Output(options.folder.clone(), std::io::Error::other(other)),
    })
}

/// A closed window whose evidence has not been merged with that of the previous window.
pub(super) struct ClosedWindow<'a> {
    pub flows: &'a FlowStore,
    pub inputs: &'a [InputRecord],
    pub timeline: &'a ActivityHistogram,
    pub cuts: &'a BTreeSet<Nanos>,
    /// When the window was opened and closed.
    pub period: (Nanos, Nanos),
    /// The number of entries of evidence that were dropped because memory was short.
    pub dropped: u64,
    /// The records of packets that were written to disk before the window was closed, or the error
    /// if they could not be written.
    pub packets: io::Result<Vec<PacketSpill>>,
}

/// Moves the records of packets from `tables` to a list, which writes them to disk if they take
/// more than `memory` bytes. After an error, records are dropped until the window is closed,
/// because its rows are lost.
pub(super) fn spill_packets(
    spool: &Spool,
    tables: &mut WorkerTables,
    to: &mut Option<io::Result<PacketSpill>>,
    memory: usize,
) {
    let written = match to.take().unwrap_or_else(|| Ok(spool.packet_spill(memory))) {
        Ok(mut spill) => tables.take_packet_rows(&mut |row| spill.add(row)).map(|()| spill),
        Err(error) => tables.take_packet_rows(&mut |_| Ok(())).and(Err(error)),
    };
    *to = Some(written);
}

/// Writes the rows of a window, and reports the outcome to the listener.
pub(super) fn write(shared: &LiveContext<'_>, spool: &Spool, closed: ClosedWindow<'_>) {
    let written = spool.write(WindowEvidence {
        flows: closed.flows,
        request: &shared.plan.request,
        inputs: closed.inputs,
        timeline: closed.timeline.clone(),
        cuts: closed.cuts.iter().copied().collect(),
        period: closed.period,
        dropped: closed.dropped,
        packets: closed.packets,
        jobs: shared.plan.jobs,
        max_memory: shared.watch.max_memory / MEMORY_SHARES,
    });
    shared.listener.on_event(&match written {
        Ok(spooled) => LiveEvent::Collected(CollectedWindow {
            bytes: spooled.bytes,
            removed_windows: spooled.removed.windows,
            removed_frames: spooled.removed.frames,
        }),
        Err(error) => LiveEvent::NotCollected(error.to_string()),
    });
}
