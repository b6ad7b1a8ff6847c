//! Drafts an inventory from captures, which are read without a policy.

use std::io::{self, Write};
use std::sync::atomic::Ordering;

use super::audit::{NoPolicy, capture_limits};
use super::{AuditError, Plan, Progress, Reading, temporary};
use crate::classify::{Draft, Given};
use crate::conversation::{Conversations, ReadOptions};
use crate::policy::{Matrix, Policy};
use crate::report;
use crate::result::plural;

/// A finished draft, and the inputs that could not be read completely.
pub struct DraftedInventory {
    /// The name and the error of each input that could not be read completely.
    pub damaged: Vec<String>,
    draft: Draft,
    about: String,
}

impl DraftedInventory {
    /// Reads captures and drafts an inventory. The roles of a host are guessed: they are those that
    /// explain its traffic according to the matrix.
    pub fn of(
        plan: &Plan,
        matrix: &Matrix,
        given: &Given,
        progress: &Progress,
    ) -> Result<Self, AuditError> {
        let mut reading = Reading::of(plan, progress)?;
        let capture = capture_limits(plan, &reading);
        let Plan { jobs, mirrors, .. } = *plan;
        let options = ReadOptions { jobs, keep: false, max_memory: usize::MAX, mirrors };
        let conversations = Conversations::read(&mut reading.flows, &NoPolicy, &capture, options)
            .map_err(temporary(&plan.temp))?;
        if progress.stop.load(Ordering::Relaxed) {
            return Err(AuditError::Interrupted);
        }
        let inputs = reading
            .inputs
            .iter()
            .filter(|input| !input.passed_over && input.same_as.is_none())
            .count();
        let about = format!(
            "{} in {} ({} s)",
            plural(reading.account.frames, "frame"),
            plural(inputs as u64, "input"),
            reading.timeline.watched_s()
        );
        let damaged = reading.damaged();
        let about = if damaged.is_empty() {
            about
        } else {
            format!("{about}; part of the input could not be read")
        };
        Ok(Self { damaged, draft: Draft::of(matrix, &conversations, given), about })
    }

    /// Returns whether the draft contains neither hosts nor networks.
    pub fn is_empty(&self) -> bool {
        self.draft.hosts.is_empty() && self.draft.networks.is_empty()
    }

    /// Describes the external networks that the draft leaves out although they sent traffic; `None`
    /// if nothing was left out.
    pub fn left_out(&self) -> Option<String> {
        report::left_out(&self.draft)
    }

    /// Writes the draft as a commented TOML inventory.
    pub fn write(&self, matrix: &Matrix, out: &mut dyn Write) -> io::Result<()> {
        report::draft(&self.draft, matrix, &self.about, out)
    }

    /// Writes only the hosts and networks that the inventory of `listed` lacks, and hints as
    /// comments that its `text` does not contain yet. Returns the number of hosts and networks.
    pub fn write_new(
        &self,
        matrix: &Matrix,
        listed: &Policy,
        text: &str,
        out: &mut dyn Write,
    ) -> io::Result<usize> {
        report::draft_more(&self.draft, matrix, listed, text, &self.about, out)
    }
}
