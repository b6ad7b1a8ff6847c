//! The tables of a result, and their columns.

use crate::model::named_enum;
use crate::result::{ConversationRow, ExceptionUse, FindingRow, HostRow, MatrixRow};

named_enum!(
    /// A table that can be listed.
    ListedTable {
        /// The findings, worst first.
        Findings = "findings",
        /// The conversations.
        Conversations = "conversations",
        /// The rows of the matrix, with their status.
        Matrix = "matrix",
        /// The hosts of the inventory.
        Hosts = "hosts",
        /// The exceptions, with the traffic that they covered.
        Exceptions = "exceptions",
    }
);

/// The columns for human readers, which are derived from other columns.
const DERIVED: [&str; 3] = ["from", "to", "service"];

impl ListedTable {
    /// Returns the noun for one row of the table.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Findings => "finding",
            Self::Conversations => "conversation",
            Self::Matrix => "matrix row",
            Self::Hosts => "host",
            Self::Exceptions => "exception",
        }
    }

    /// Returns the columns of the CSV file of the table.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Findings => FindingRow::COLUMNS,
            Self::Conversations => ConversationRow::COLUMNS,
            Self::Matrix => MatrixRow::COLUMNS,
            Self::Hosts => HostRow::COLUMNS,
            Self::Exceptions => ExceptionUse::COLUMNS,
        }
    }

    /// Returns the columns that are derived from those of the CSV file: the two ends and the
    /// service, each in one cell. Matrix rows and exceptions have only the service, and hosts have
    /// none.
    pub fn derived_columns(self) -> &'static [&'static str] {
        match self {
            Self::Findings | Self::Conversations => &DERIVED,
            Self::Matrix | Self::Exceptions => &DERIVED[2..],
            Self::Hosts => &[],
        }
    }

    /// Returns the columns that fit on a terminal.
    pub fn main_columns(self) -> &'static [&'static str] {
        match self {
            Self::Findings => {
                &["severity", "code", "certain", "from", "to", "service", "count", "id"]
            }
            Self::Conversations => &["from", "to", "service", "verdict", "code", "state", "flows"],
            Self::Matrix => {
                &["source_role", "destination_role", "service", "need", "status", "conversations"]
            }
            Self::Hosts => &["name", "addresses", "roles", "coverage", "frames_sent"],
            Self::Exceptions => {
                &["id", "from", "to", "service", "expires", "status", "conversations"]
            }
        }
    }
}
