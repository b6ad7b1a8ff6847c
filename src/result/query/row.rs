//! The rows of listings: rows of the tables of a result, and groups of them.

use std::borrow::Cow;

use serde::Serialize;

use super::key::FilterKey;
use super::text::service_of;
use super::totals::{ConversationTotals, FindingTotals};
use crate::result::{
    AuditResult, ConversationRow, EndIdentity, ExceptionUse, FindingRow, HostRow, MatrixRow,
};

/// A row of a listing.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub enum ListedRow<'a> {
    /// A finding.
    Finding(Box<FindingRow<'a>>),
    /// A conversation.
    Conversation(Box<ConversationRow<'a>>),
    /// A row of the matrix.
    Matrix(Box<MatrixRow<'a>>),
    /// A host of the inventory.
    Host(Box<HostRow<'a>>),
    /// An exception.
    Exception(Box<ExceptionUse<'a>>),
    /// A group of findings.
    FindingGroup(Box<FindingTotals<'a>>),
    /// A group of conversations.
    ConversationGroup(Box<ConversationTotals<'a>>),
}

impl ListedRow<'_> {
    /// Returns the kind of row, as the key `record` of JSON lines names it.
    pub fn record(&self) -> &'static str {
        match self {
            Self::Finding(_) => "finding",
            Self::Conversation(_) => "conversation",
            Self::Matrix(_) => "matrix",
            Self::Host(_) => "host",
            Self::Exception(_) => "exception",
            Self::FindingGroup(_) | Self::ConversationGroup(_) => "group",
        }
    }

    fn columns(&self) -> &'static [&'static str] {
        match self {
            Self::Finding(_) => FindingRow::COLUMNS,
            Self::Conversation(_) => ConversationRow::COLUMNS,
            Self::Matrix(_) => MatrixRow::COLUMNS,
            Self::Host(_) => HostRow::COLUMNS,
            Self::Exception(_) => ExceptionUse::COLUMNS,
            Self::FindingGroup(_) => FindingTotals::COLUMNS,
            Self::ConversationGroup(_) => ConversationTotals::COLUMNS,
        }
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = Vec::with_capacity(self.columns().len());
        let add = |text: &str| cells.push(text.to_owned());
        match self {
            Self::Finding(row) => row.cells(add),
            Self::Conversation(row) => row.cells(add),
            Self::Matrix(row) => row.cells(add),
            Self::Host(row) => row.cells(add),
            Self::Exception(row) => row.cells(add),
            Self::FindingGroup(row) => row.cells(add),
            Self::ConversationGroup(row) => row.cells(add),
        }
        cells
    }

    /// Returns the text of the row in each of these columns.
    pub fn texts(&self, columns: &[&str], result: &AuditResult<'_>) -> Vec<String> {
        let mut cells = self.cells();
        let own = self.columns();
        let text = |name: &&str| match own.iter().position(|column| column == name) {
            // A column may be listed twice, so its text is moved only if it is listed once.
            Some(at) if columns.iter().filter(|c| *c == name).count() == 1 => {
                std::mem::take(&mut cells[at])
            }
            Some(at) => cells[at].clone(),
            None => self.derived(name, result),
        };
        columns.iter().map(text).collect()
    }

    /// Returns the text of a derived column.
    fn derived(&self, column: &str, result: &AuditResult<'_>) -> String {
        match (self, column) {
            (Self::Finding(row), "from") => result.client(row).words(),
            (Self::Finding(row), "to") => result.server(row).words(),
            (Self::Conversation(row), "from") => {
                let roles = owned(&row.client_roles);
                let address = row.client.to_string();
                EndIdentity::of_row(result.site(), &address, &row.client_name, &roles).words()
            }
            (Self::Conversation(row), "to") => {
                let roles = owned(&row.server_roles);
                let address = row.server.to_string();
                EndIdentity::of_row(result.site(), &address, &row.server_name, &roles).words()
            }
            (row, "service") => {
                let service = row.service();
                service.map_or_else(String::new, |(transport, port)| service_of(&transport, &port))
            }
            _ => String::new(),
        }
    }

    /// Returns the transport and the port of the row; `*` stands for several or all. Returns `None`
    /// for hosts and groups.
    pub(super) fn service(&self) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
        fn pair<'c>(transport: &'c str, port: &'c str) -> Option<(Cow<'c, str>, Cow<'c, str>)> {
            Some((transport.into(), port.into()))
        }
        match self {
            Self::Finding(row) => pair(&row.transport, &row.port),
            Self::Matrix(row) => pair(&row.transport, &row.ports),
            Self::Exception(row) => pair(&row.transport, &row.port),
            Self::Conversation(row) => {
                let port = row.port.map_or_else(String::new, |port| port.to_string());
                Some((row.transport.as_str().into(), port.into()))
            }
            _ => None,
        }
    }

    /// Returns the words that a filter with this key compares.
    pub fn words(&self, key: FilterKey) -> Vec<&str> {
        match (self, key) {
            (Self::Finding(row), FilterKey::Verdict) => vec![row.verdict.as_ref()],
            (Self::Finding(row), FilterKey::Code) => vec![row.code.as_ref()],
            (Self::Finding(row), FilterKey::Severity) => vec![row.severity.as_ref()],
            (Self::Finding(row), FilterKey::State) => {
                vec![row.state.as_ref(), row.baseline_state.as_ref()]
            }
            (Self::Conversation(row), FilterKey::Verdict) => vec![row.verdict.as_ref()],
            (Self::Conversation(row), FilterKey::Code) => vec![row.code.as_ref()],
            (Self::Conversation(row), FilterKey::Severity) => vec![row.severity.as_ref()],
            (Self::Conversation(row), FilterKey::State) => vec![row.state.as_ref()],
            (Self::Finding(row), FilterKey::Sensor) => sensors(&row.sensors),
            (Self::Conversation(row), FilterKey::Sensor) => sensors(&row.sensors),
            (Self::Matrix(row), FilterKey::Code) => vec![row.reason.as_ref()],
            (Self::Matrix(row), FilterKey::State) => vec![row.status.as_ref()],
            (Self::Host(row), FilterKey::State) => vec![row.coverage.as_ref()],
            (Self::Exception(row), FilterKey::State) => {
                row.status.iter().map(AsRef::as_ref).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Returns whether the verdict is certain; `None` if the row has no verdict.
    pub(super) fn certain(&self) -> Option<bool> {
        match self {
            Self::Finding(row) => Some(row.certain),
            Self::Conversation(row) => row.certain,
            _ => None,
        }
    }
}

/// Returns the names of sensors, each with its site, if it has one, and without it.
fn sensors(names: &[String]) -> Vec<&str> {
    let without_site = names.iter().filter_map(|name| name.split_once('/')).map(|(_, own)| own);
    names.iter().map(String::as_str).chain(without_site).collect()
}

fn owned(roles: &[Cow<'_, str>]) -> Vec<String> {
    roles.iter().map(|role| role.clone().into_owned()).collect()
}
