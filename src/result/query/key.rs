//! The properties of rows that filters test.

use super::table::ListedTable;
use crate::classify::{Code, Coverage, Severity, State, Status, Verdict};
use crate::model::named_enum;
use crate::result::Change;

named_enum!(
    /// The property of a row that a filter tests.
    FilterKey {
        /// The client of a connection, or the source of a matrix row or an exception.
        From = "from",
        /// The server of a connection, or the destination of a matrix row or an exception.
        To = "to",
        /// Either end, or the host itself.
        Host = "host",
        /// The role of either end, or of the host itself.
        Role = "role",
        /// The transport and the port.
        Port = "port",
        /// The verdict.
        Verdict = "verdict",
        /// The code; for a row of the matrix, the reason why it could not be assessed.
        Code = "code",
        /// The minimum severity.
        Severity = "severity",
        /// The state of a conversation or of a finding, the status of a row of the matrix or of an
        /// exception, the coverage of a host, or how a finding compares with the baseline.
        State = "state",
        /// Whether the verdict is certain.
        Certain = "certain",
        /// A sensor that saw the traffic.
        Sensor = "sensor",
        /// The cause that a finding shares with the finding that the user names.
        Cause = "cause",
    }
);

impl FilterKey {
    /// Returns whether rows of a table have the property.
    pub fn applies_to(self, table: ListedTable) -> bool {
        match table {
            ListedTable::Findings => true,
            ListedTable::Conversations => self != Self::Cause,
            ListedTable::Matrix => matches!(
                self,
                Self::From | Self::To | Self::Role | Self::Port | Self::Code | Self::State
            ),
            ListedTable::Hosts => matches!(self, Self::Host | Self::Role | Self::State),
            ListedTable::Exceptions => matches!(
                self,
                Self::From | Self::To | Self::Host | Self::Role | Self::Port | Self::State
            ),
        }
    }

    /// Returns whether a result states the property for findings that are gone. Their ends, for
    /// example, are not stated.
    pub(super) fn is_known_of_gone(self) -> bool {
        matches!(self, Self::Verdict | Self::Code | Self::Severity | Self::State | Self::Certain)
    }

    /// Returns the values that the property may have in a table; empty if the values are not from a
    /// closed list.
    pub fn words(self, table: ListedTable) -> Vec<&'static str> {
        match (self, table) {
            (Self::Verdict, _) => Verdict::NAMES.to_vec(),
            (Self::Code, _) => Code::NAMES.to_vec(),
            (Self::Severity, _) => Severity::NAMES.to_vec(),
            (Self::Certain, _) => vec!["yes", "no"],
            (Self::State, ListedTable::Matrix) => Status::NAMES.to_vec(),
            (Self::State, ListedTable::Hosts) => Coverage::NAMES.to_vec(),
            (Self::State, ListedTable::Exceptions) => {
                vec!["used", "unused", "expired", "expiring", "retroactive", "self-approved"]
            }
            (Self::State, ListedTable::Conversations) => State::NAMES.to_vec(),
            (Self::State, ListedTable::Findings) => [State::NAMES, Change::NAMES].concat(),
            _ => Vec::new(),
        }
    }
}

/// Whether a row matches a filter. Rows do not list everything, so the answer may be unknown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Fit {
    No,
    Unknown,
    Yes,
}

impl Fit {
    pub fn of(fits: bool) -> Self {
        if fits { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_changes_have_different_names() {
        assert!(State::NAMES.iter().all(|name| !Change::NAMES.contains(name)));
    }
}
