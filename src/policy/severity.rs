//! Severities of findings.

use std::collections::HashMap;

use crate::model::named_enum;

named_enum!(
    /// The severity of a finding.
    Severity {
        /// Nothing to do.
        Info = "info",
        /// Look at it some day.
        Low = "low",
        /// Look at it.
        Medium = "medium",
        /// Look at it now.
        High = "high",
        /// Drop everything.
        Critical = "critical",
    }
);

/// The columns of the table of severities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SeverityColumn {
    /// For traffic that did not reach its destination.
    Attempted,
    /// For traffic that reached its destination, and for findings without traffic.
    Reached,
}

impl SeverityColumn {
    /// Returns [`SeverityColumn::Reached`] if `reached` holds.
    pub fn reached_if(reached: bool) -> Self {
        if reached { Self::Reached } else { Self::Attempted }
    }
}

/// Severities by verdict and code, for traffic that reached its destination and for mere attempts.
#[derive(Clone, Default, Debug)]
pub struct SeverityTable(HashMap<(String, String), (Severity, Severity)>);

impl SeverityTable {
    pub(super) fn set(
        &mut self,
        verdict: &str,
        code: &str,
        reached: Severity,
        attempted: Severity,
    ) {
        self.0.insert((verdict.to_owned(), code.to_owned()), (reached, attempted));
    }

    /// Sets one severity for a code, whether or not the traffic reached its destination.
    pub fn override_code(&mut self, verdict: &str, code: &str, severity: Severity) {
        self.set(verdict, code, severity, severity);
    }

    /// Returns the severity of a code.
    pub fn get(&self, verdict: &str, code: &str, column: SeverityColumn) -> Severity {
        let key = (verdict.to_owned(), code.to_owned());
        let found = self.0.get(&key).or_else(|| self.0.get(&(key.0, "*".to_owned())));
        found.map_or(Severity::Info, |(reached, attempted)| match column {
            SeverityColumn::Reached => *reached,
            SeverityColumn::Attempted => *attempted,
        })
    }
}
