//! The result of an audit that has just run, or of an earlier audit, read from `audit.json`.
//! Reports use no other data.

mod baseline;
mod change;
mod community_id;
mod comparison;
mod end_identity;
mod error;
mod exception_use;
mod explain;
mod head;
mod members;
mod query;
mod reached_ports;
mod rows;
mod run;
mod run_rows;
mod since;
mod site;
mod stored;
mod summary;
mod summary_notes;
mod time;
mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::classify::{Code, Party, RoleSet, Severity, Verdict, id_of};
use crate::model::{Nanos, Transport};

pub use baseline::Baseline;
pub use change::Change;
pub use community_id::{Directionality, community_id};
pub use comparison::{ChangeCause, Comparison, FindingChange, HostRename};
pub use end_identity::EndIdentity;
pub use error::{StoredError, StoredProblem};
pub use explain::{Explainer, ReportedFinding, state_changes};
pub use head::{
    Accounting, BaselineFile, Conditions, ConfigurationFile, Gone, Head, Headline, InventoryFile,
    JudgedBy, Layout, LostFrames, Note, OptionSetting, SensorWatch, SourceReference, Tone,
};
pub use members::Members;
pub use query::{
    CauseNumbers, EndFilter, FilterKey, FilterValue, GroupBy, ListedRow, ListedTable, PortFilter,
    RowFilter, RowQuery, RowSelection, SharedCause, SortColumn, known_ends, known_roles,
};
pub use rows::{Cell, ConversationRow, ExceptionUse, FindingRow, HostRow, MatrixRow};
pub use run::{AuditRun, CaptureSelection};
pub use site::{HostWatch, Listing, Site, SiteHost, SiteRow};
pub use stored::schema;
pub use time::Time;
pub(crate) use words::plural;
pub use words::{meaning, percent, short};

use stored::Stored;

/// Maximum number of conversations that are shown for a finding, starting with the largest.
const TALKERS: usize = 5;

/// Everything that an audit found.
pub struct AuditResult<'a> {
    /// Everything except the tables.
    pub head: Head,
    /// The evidence files that the reports can link to. `None` if a report does not know its own
    /// folder, or if no evidence was written.
    pub evidence: Option<EvidenceFiles>,
    source: TableSource<'a>,
}

/// The files with the frames of findings. Each file has the id of its finding as its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EvidenceFiles {
    /// The URL of their folder, relative to the folder of the reports. It ends with `/`.
    pub folder: String,
    /// The indices of the findings that have a file.
    pub findings: BTreeSet<usize>,
}

/// The source of the tables.
enum TableSource<'a> {
    Run(Box<AuditRun<'a>>),
    Stored(Box<Stored>),
}

/// A finding in `audit.json`: the columns of `findings.csv`, and the facts that were considered.
#[derive(Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FindingEntry<'a> {
    /// The columns of `findings.csv`.
    #[serde(flatten)]
    pub row: FindingRow<'a>,
    /// The facts that were considered, in order.
    pub trace: Vec<String>,
    /// The largest conversations of the finding, as indices into `conversations`.
    #[serde(default)]
    pub talkers: Vec<usize>,
}

/// The part of a finding that counts and diagrams need.
#[derive(Clone, Copy, Debug)]
pub struct Brief {
    /// Severity of the finding.
    pub severity: Severity,
    /// Verdict; `None` if only a newer version knows it.
    pub verdict: Option<Verdict>,
    /// Reason for the verdict; `None` if only a newer version knows it.
    pub code: Option<Code>,
    /// Roles of the client and of the server. A side is empty if its members have no roles or
    /// different roles.
    pub roles: [RoleSet; 2],
    /// Index of the finding that explains this one; `None` if there is none.
    pub explained_by: Option<usize>,
    /// Time of the earliest packet or ICMP error.
    pub first: Option<Nanos>,
    /// Time of the latest packet or ICMP error.
    pub last: Option<Nanos>,
}

/// The part of a conversation that diagrams need.
#[derive(Clone, Copy, Debug)]
pub struct ConversationBrief {
    /// Client and server; `None` if nothing was judged.
    pub parties: Option<[Party; 2]>,
    /// Protocol above IP.
    pub transport: Transport,
    /// Port of the server, or type of an ICMP message; 0 if there is neither.
    pub port: u16,
    /// Verdict on the conversation; `None` if nothing was judged or only a newer version knows it.
    pub verdict: Option<Verdict>,
    /// Index of the row that the ruling is based on; `None` if it is not based on a row.
    pub row: Option<usize>,
    /// Numbers of packets from the client and from the server.
    pub packets: [u64; 2],
    /// Number of bytes in both directions.
    pub bytes: u64,
    /// Time of the earliest packet or ICMP error.
    pub first: Option<Nanos>,
    /// Time of the latest packet or ICMP error.
    pub last: Option<Nanos>,
}

type All<'r, T> = Box<dyn Iterator<Item = T> + 'r>;

impl<'a> AuditResult<'a> {
    /// Returns the result of an audit that has just run.
    pub fn of(run: AuditRun<'a>) -> Self {
        Self { head: run.head(), evidence: None, source: TableSource::Run(Box::new(run)) }
    }

    /// Returns the matrix and the inventory that the capture was judged against, or `None` if
    /// nothing was judged or the result has only its tables.
    pub fn site(&self) -> Option<&Site> {
        self.head.site.as_ref()
    }

    /// Returns whether the result has only its tables and lacks the other data that reports show,
    /// as results with minor version 0 of the layout do.
    pub fn has_only_tables(&self) -> bool {
        stored::is_early(&self.head)
    }

    /// Returns whether the capture was judged against an inventory.
    pub fn is_judged(&self) -> bool {
        self.head.summary.judged
    }

    /// Returns the number of findings.
    pub fn findings_len(&self) -> usize {
        match &self.source {
            TableSource::Run(run) => run.outcome.findings().len(),
            TableSource::Stored(stored) => stored.findings.len(),
        }
    }

    /// Returns the parts of all findings that counts and diagrams need, worst first.
    pub fn briefs(&self) -> All<'_, Brief> {
        match &self.source {
            TableSource::Run(run) => {
                let findings = run.outcome.findings().iter();
                Box::new(findings.map(|finding| {
                    Brief {
                        severity: finding.severity,
                        verdict: Some(finding.verdict()),
                        code: Some(finding.code()),
                        roles: run
                            .explainer
                            .as_ref()
                            .map_or_else(Default::default, |explainer| explainer.roles(finding)),
                        explained_by: finding.explained_by(),
                        first: finding.first.get(),
                        last: finding.last.get(),
                    }
                }))
            }
            TableSource::Stored(stored) => Box::new(stored.finding_briefs.iter().copied()),
        }
    }

    /// Returns the finding with this index.
    pub fn finding(&self, number: usize) -> Option<FindingRow<'_>> {
        match &self.source {
            TableSource::Run(run) => run_rows::finding(run, run.outcome.findings().get(number)?),
            TableSource::Stored(stored) => {
                stored.findings.get(number).map(|entry| entry.row.clone())
            }
        }
    }

    /// Returns all findings, worst first.
    pub fn findings(&self) -> impl Iterator<Item = FindingRow<'_>> {
        (0..self.findings_len()).filter_map(|number| self.finding(number))
    }

    /// Returns the index of the finding with this id, with or without its prefix.
    pub fn finding_number(&self, id: &str) -> Option<usize> {
        let id = id_of(id.trim());
        self.findings().position(|finding| id_of(&finding.id) == id)
    }

    /// Returns what a finding has in common with others of the same cause. `None` if there is no
    /// finding with this index.
    pub fn cause(&self, number: usize) -> Option<SharedCause> {
        match &self.source {
            TableSource::Run(run) => {
                let finding = run.outcome.findings().get(number)?;
                Some(SharedCause::of_reported(run.explainer.as_ref()?.without_id(finding)))
            }
            TableSource::Stored(stored) => {
                stored.findings.get(number).map(|entry| SharedCause::of_finding(&entry.row))
            }
        }
    }

    /// Returns the facts that determine the cause of a finding, if they are enough and the audit
    /// has just run.
    fn cause_facts(&self, number: usize) -> Option<explain::CauseFacts> {
        let TableSource::Run(run) = &self.source else { return None };
        run.explainer.as_ref()?.cause_facts(run.outcome.findings().get(number)?)
    }

    /// Returns the facts that were considered for a finding.
    pub fn trace(&self, number: usize) -> Vec<String> {
        match &self.source {
            TableSource::Run(run) => {
                let finding = run.outcome.findings().get(number);
                let both = finding.zip(run.explainer.as_ref());
                both.map_or_else(Vec::new, |(finding, explainer)| explainer.trace(finding))
            }
            TableSource::Stored(stored) => {
                stored.findings.get(number).map_or_else(Vec::new, |entry| entry.trace.clone())
            }
        }
    }

    /// Returns the indices of the largest conversations of a finding.
    pub fn talkers(&self, number: usize) -> Vec<usize> {
        match &self.source {
            TableSource::Run(run) => run.talkers(number),
            TableSource::Stored(stored) => {
                stored.findings.get(number).map_or_else(Vec::new, |entry| entry.talkers.clone())
            }
        }
    }

    /// Returns all findings as `audit.json` stores them.
    pub fn entries(&self) -> impl Iterator<Item = FindingEntry<'_>> {
        (0..self.findings_len()).filter_map(|number| {
            let trace = self.trace(number);
            let talkers = self.talkers(number);
            Some(FindingEntry { row: self.finding(number)?, trace, talkers })
        })
    }

    /// Returns the address of the server of a finding; `*` for several. The string is empty if the
    /// finding does not exist or does not state an address.
    pub fn server_address(&self, number: usize) -> String {
        match &self.source {
            TableSource::Run(run) => {
                let finding = run.outcome.findings().get(number);
                let both = finding.zip(run.explainer.as_ref());
                both.map_or_else(String::new, |(finding, explainer)| {
                    explainer.server_address(finding)
                })
            }
            TableSource::Stored(stored) => {
                stored.findings.get(number).map_or_else(String::new, |f| f.row.server.clone())
            }
        }
    }

    /// Returns the client of a finding for display.
    pub fn client(&self, row: &FindingRow<'_>) -> EndIdentity {
        EndIdentity::of_row(self.site(), &row.client, &row.client_name, &row.client_roles)
    }

    /// Returns the server of a finding for display.
    pub fn server(&self, row: &FindingRow<'_>) -> EndIdentity {
        EndIdentity::of_row(self.site(), &row.server, &row.server_name, &row.server_roles)
    }

    /// Returns the number of conversations.
    pub fn conversations_len(&self) -> usize {
        match &self.source {
            TableSource::Run(run) => run.outcome.conversations.list.len(),
            TableSource::Stored(stored) => stored.conversations.len(),
        }
    }

    /// Returns the parts of all conversations that diagrams need.
    pub fn conversation_briefs(&self) -> All<'_, ConversationBrief> {
        match &self.source {
            TableSource::Run(run) => Box::new(run.conversation_briefs()),
            TableSource::Stored(stored) => Box::new(stored.conversation_briefs.iter().copied()),
        }
    }

    /// Returns all conversations, in order.
    pub fn conversations(&self) -> All<'_, ConversationRow<'_>> {
        match &self.source {
            TableSource::Run(run) => Box::new(run_rows::conversations(run)),
            TableSource::Stored(stored) => Box::new(stored.conversations.iter().cloned()),
        }
    }

    /// Returns the findings of the baseline that this audit does not have.
    pub fn gone(&self) -> &[Gone] {
        self.head.known.as_ref().map_or(&[], |known| &known.gone)
    }

    /// Returns the conversation with this index. If the audit has just run, the names of the server
    /// are missing.
    pub fn conversation(&self, number: usize) -> Option<ConversationRow<'_>> {
        match &self.source {
            TableSource::Run(run) => run_rows::conversation_at(run, number),
            TableSource::Stored(stored) => stored.conversations.get(number).cloned(),
        }
    }

    /// Returns the rows of the matrix, in the order of the matrix.
    pub fn matrix_rows(&self) -> All<'_, MatrixRow<'_>> {
        match &self.source {
            TableSource::Run(run) => Box::new(run_rows::matrix(run)),
            TableSource::Stored(stored) => Box::new(stored.matrix_rows.iter().cloned()),
        }
    }

    /// Returns the exceptions, in the order of the file.
    pub fn exceptions(&self) -> &[ExceptionUse<'static>] {
        self.head.exceptions.as_ref().map_or(&[], |exceptions| &exceptions.list)
    }

    /// Returns the hosts of the inventory, in the order of the inventory.
    pub fn hosts(&self) -> All<'_, HostRow<'_>> {
        match &self.source {
            TableSource::Run(run) => Box::new(run_rows::hosts(run)),
            TableSource::Stored(stored) => Box::new(stored.hosts.iter().cloned()),
        }
    }
}

/// Returns the conversations with the most bytes, largest first; at most [`TALKERS`].
fn largest(mut numbers: Vec<usize>, bytes: impl Fn(usize) -> u64) -> Vec<usize> {
    let order = |number: &usize| (std::cmp::Reverse(bytes(*number)), *number);
    if numbers.len() > TALKERS {
        numbers.select_nth_unstable_by_key(TALKERS, order);
        numbers.truncate(TALKERS);
    }
    numbers.sort_unstable_by_key(order);
    numbers
}

impl AuditRun<'_> {
    fn talkers(&self, number: usize) -> Vec<usize> {
        let Some(finding) = self.outcome.findings().get(number) else { return Vec::new() };
        let list = &self.outcome.conversations.list;
        let members = self.outcome.members_of(finding).iter();
        let bytes = |number: usize| list[number].to_server.bytes.0 + list[number].to_client.bytes.0;
        largest(members.map(|number| *number as usize).collect(), bytes)
    }

    fn conversation_briefs(&self) -> impl Iterator<Item = ConversationBrief> {
        let outcome = self.outcome;
        outcome.conversations.list.iter().enumerate().map(|(number, c)| {
            let judged = outcome.judged.get(number);
            ConversationBrief {
                parties: judged.map(|j| [j.client, j.server]),
                transport: c.subject.transport,
                port: c.subject.port,
                verdict: judged.map(|j| j.verdict()),
                row: judged.and_then(|j| j.ruling.row()),
                packets: [c.to_server.packets.0, c.to_client.packets.0],
                bytes: c.to_server.bytes.0 + c.to_client.bytes.0,
                first: c.first.get(),
                last: c.last.get(),
            }
        })
    }
}

/// Parses the name of a transport as it appears in rows.
fn transport_of(name: &str) -> Option<Transport> {
    (0..=u8::MAX).map(Transport).find(|transport| transport.to_string() == name)
}

/// Parses an address in a row. Returns `None` if the text is not an address, such as `*` for
/// several.
pub(crate) fn address_of(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}
