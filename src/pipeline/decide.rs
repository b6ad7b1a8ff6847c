//! Decides which server names and duplicates stored evidence contains, without judging the
//! evidence.

use std::sync::Arc;

use super::{AuditError, Plan, Progress, read, temporary};
use crate::flow::{DecidedEvidence, PacketRetention, PrefixRetention, Retention};

impl Plan {
    /// Reads all stored evidence, and decides which server names its segments contain and which of
    /// its packets are duplicates. Returns no decisions if the plan has no stored evidence.
    ///
    /// # Errors
    ///
    /// Returns an error if the work is stopped, if a temporary file cannot be written or read, or
    /// if the evidence cannot be read or is not complete.
    pub fn decide(&self, progress: &Progress) -> Result<DecidedEvidence, AuditError> {
        let Some(shared) = &self.shared else { return Ok(DecidedEvidence::default()) };
        let packets =
            if shared.has_packets() { PacketRetention::Records } else { PacketRetention::Nothing };
        let sides = shared.read_ahead().take_starts();
        let retention = Retention { packets, parts: PrefixRetention::Of(Arc::new(sides)) };
        let mut reading = read::run(self, progress, &retention)?;
        reading.flows.decide().map_err(temporary(&self.temp))
    }
}
