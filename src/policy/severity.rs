//! Severities of findings.

use std::collections::HashMap;

use crate::model::named_enum;

named_enum!(
    /// The severity of a finding.
    Severity {
        /// No action is needed.
        Info = "info",
        /// The finding can be reviewed later.
        Low = "low",
        /// The finding needs a review.
        Medium = "medium",
        /// The finding needs an immediate review.
        High = "high",
        /// The finding takes precedence over all other work.
        Critical = "critical",
    }
);

/// The columns of the table of severities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeverityColumn {
    /// The severity for traffic that did not reach its destination. For the verdict `missing`: for
    /// failed traffic that no row expects.
    Attempted,
    /// The severity for traffic that reached its destination, and for findings without traffic. For
    /// the verdict `missing`: for traffic that a row expects.
    Reached,
}

impl SeverityColumn {
    /// Returns [`SeverityColumn::Reached`] if `reached` is true, [`SeverityColumn::Attempted`]
    /// otherwise.
    pub fn reached_if(reached: bool) -> Self {
        if reached { Self::Reached } else { Self::Attempted }
    }
}

/// The severities by verdict and code. Each entry has one severity for traffic that reached its
/// destination and one for traffic that did not.
#[derive(Clone, Default, Debug)]
pub struct SeverityTable {
    entries: HashMap<(String, String), (Severity, Severity)>,
    overrides: Vec<SeverityOverride>,
}

/// A severity that the user set for a code.
#[derive(Clone, Debug)]
pub struct SeverityOverride {
    /// The code whose findings have the severity.
    pub code: String,
    /// The severity that the user set.
    pub severity: Severity,
    /// The severities that it replaced: for traffic that reached its destination, and for traffic
    /// that did not.
    pub replaced: [Severity; 2],
}

impl SeverityTable {
    pub(super) fn set(
        &mut self,
        verdict: &str,
        code: &str,
        reached: Severity,
        attempted: Severity,
    ) {
        self.entries.insert((verdict.to_owned(), code.to_owned()), (reached, attempted));
    }

    /// Sets one severity for a code, whether or not the traffic reached its destination.
    pub fn override_code(&mut self, verdict: &str, code: &str, severity: Severity) {
        let replaced = [SeverityColumn::Reached, SeverityColumn::Attempted]
            .map(|column| self.get(verdict, code, column));
        self.set(verdict, code, severity, severity);
        match self.overrides.iter_mut().find(|earlier| earlier.code == code) {
            Some(earlier) => earlier.severity = severity,
            None => {
                let code = code.to_owned();
                self.overrides.push(SeverityOverride { code, severity, replaced });
            }
        }
    }

    /// Returns the severities that the user set, one for each code, in the order in which the codes
    /// were first set.
    pub fn overrides(&self) -> &[SeverityOverride] {
        &self.overrides
    }

    /// Returns the severity of a code, or of the code `*` of the same verdict. Returns
    /// [`Severity::Info`] if the table has neither.
    pub fn get(&self, verdict: &str, code: &str, column: SeverityColumn) -> Severity {
        let key = (verdict.to_owned(), code.to_owned());
        let found = self.entries.get(&key).or_else(|| self.entries.get(&(key.0, "*".to_owned())));
        found.map_or(Severity::Info, |(reached, attempted)| match column {
            SeverityColumn::Reached => *reached,
            SeverityColumn::Attempted => *attempted,
        })
    }
}
