//! What an audit found, of one that has just run or of a stored one (`audit.json`). Every report is made from a result,
//! and from nothing else.

mod baseline;
mod community_id;
mod end_identity;
mod error;
mod explain;
mod head;
mod members;
mod rows;
mod run;
mod site;
mod stored;
mod summary;
mod summary_notes;
mod time;
mod words;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::classify::{Code, Party, RoleSet, Severity, Verdict};
use crate::model::{Nanos, Transport};

pub use baseline::{Baseline, Change};
pub use community_id::community_id;
pub use end_identity::EndIdentity;
pub use error::{StoredError, StoredProblem};
pub use explain::{Explainer, ToldFinding, state_changes};
pub use head::{Head, Headline, InventoryFile, JudgedBy, Layout, Note, Tone};
pub use members::Members;
pub use rows::{Cell, ConversationRow, FindingRow, HostRow, MatrixRow};
pub use run::{AuditRun, CaptureSelection};
pub use site::{Site, SiteRow};
pub use stored::schema;
pub use time::Time;
pub use words::{percent, plural, short};

use stored::Stored;

/// Conversations that are shown of a finding, the largest ones.
const TALKERS: usize = 5;

/// What an audit found.
pub struct AuditResult<'a> {
    /// What stands above the tables.
    pub head: Head,
    source: TableSource<'a>,
}

/// Where the tables come from.
enum TableSource<'a> {
    Run(Box<AuditRun<'a>>),
    Stored(Box<Stored>),
}

/// A finding with what was considered, as `audit.json` has it.
#[derive(Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FindingEntry<'a> {
    /// The columns of `findings.csv`.
    #[serde(flatten)]
    pub row: FindingRow<'a>,
    /// What was considered, in the order of the considering.
    pub trace: Vec<String>,
    /// Its largest conversations, by their places in the list.
    #[serde(default)]
    pub talkers: Vec<usize>,
}

/// What counts and drawings need of a finding.
#[derive(Clone, Copy, Debug)]
pub struct Brief {
    /// How much it weighs.
    pub severity: Severity,
    /// What it says; none where a newer version says it.
    pub verdict: Option<Verdict>,
    /// Why; none where a newer version says it.
    pub code: Option<Code>,
    /// The roles of client and server; none where they differ.
    pub roles: [RoleSet; 2],
    /// The place of the finding that explains it.
    pub explained_by: Option<usize>,
    /// The earliest packet.
    pub first: Option<Nanos>,
    /// The latest.
    pub last: Option<Nanos>,
}

/// What drawings need of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    /// Client and server; none where nothing was judged.
    pub parties: Option<[Party; 2]>,
    /// The protocol above IP.
    pub transport: Transport,
    /// The server's port.
    pub port: u16,
    /// What is said of it.
    pub verdict: Option<Verdict>,
    /// The row that decided, by its place.
    pub row: Option<usize>,
    /// Packets of the client and of the server.
    pub packets: [u64; 2],
    /// Bytes of both.
    pub bytes: u64,
    /// The earliest packet.
    pub first: Option<Nanos>,
    /// The latest.
    pub last: Option<Nanos>,
}

type All<'r, T> = Box<dyn Iterator<Item = T> + 'r>;

impl<'a> AuditResult<'a> {
    /// The result of an audit that has just run.
    pub fn of(run: AuditRun<'a>) -> Self {
        Self { head: run.head(), source: TableSource::Run(Box::new(run)) }
    }

    /// Returns what it was judged by; nothing where nothing was judged.
    pub fn site(&self) -> Option<&Site> {
        self.head.site.as_ref()
    }

    /// Whether it holds its tables alone, and not what else reports show: so did the results of version 2.0.
    pub fn has_only_tables(&self) -> bool {
        stored::is_early(&self.head)
    }

    /// Whether there was an inventory to judge by.
    pub fn is_judged(&self) -> bool {
        self.head.summary.judged
    }

    /// Returns how many findings there are.
    pub fn findings_len(&self) -> usize {
        match &self.source {
            TableSource::Run(run) => run.outcome.findings().len(),
            TableSource::Stored(stored) => stored.findings.len(),
        }
    }

    /// Returns what counts and drawings need of all findings, worst first.
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
                            .teller
                            .as_ref()
                            .map_or_else(Default::default, |teller| teller.roles(finding)),
                        explained_by: finding.explained_by(),
                        first: finding.first.get(),
                        last: finding.last.get(),
                    }
                }))
            }
            TableSource::Stored(stored) => Box::new(stored.briefs.iter().copied()),
        }
    }

    /// Returns a finding by its place.
    pub fn finding(&self, number: usize) -> Option<FindingRow<'_>> {
        match &self.source {
            TableSource::Run(run) => rows::finding(run, run.outcome.findings().get(number)?),
            TableSource::Stored(stored) => {
                stored.findings.get(number).map(|entry| entry.row.clone())
            }
        }
    }

    /// Returns all findings, worst first.
    pub fn findings(&self) -> impl Iterator<Item = FindingRow<'_>> {
        (0..self.findings_len()).filter_map(|number| self.finding(number))
    }

    /// Returns what was considered for a finding.
    pub fn trace(&self, number: usize) -> Vec<String> {
        match &self.source {
            TableSource::Run(run) => {
                let finding = run.outcome.findings().get(number);
                let told = finding.zip(run.teller.as_ref());
                told.map_or_else(Vec::new, |(finding, teller)| teller.trace(finding))
            }
            TableSource::Stored(stored) => {
                stored.findings.get(number).map_or_else(Vec::new, |entry| entry.trace.clone())
            }
        }
    }

    /// Returns the largest conversations of a finding, by their places.
    pub fn talkers(&self, number: usize) -> Vec<usize> {
        match &self.source {
            TableSource::Run(run) => run.talkers(number),
            TableSource::Stored(stored) => {
                stored.findings.get(number).map_or_else(Vec::new, |entry| entry.talkers.clone())
            }
        }
    }

    /// Returns all findings as `audit.json` has them.
    pub fn entries(&self) -> impl Iterator<Item = FindingEntry<'_>> {
        (0..self.findings_len()).filter_map(|number| {
            let (trace, talkers) = (self.trace(number), self.talkers(number));
            Some(FindingEntry { row: self.finding(number)?, trace, talkers })
        })
    }

    /// Returns the address of the server of a finding; `*` for several.
    pub fn server_address(&self, number: usize) -> String {
        match &self.source {
            TableSource::Run(run) => {
                let finding = run.outcome.findings().get(number);
                let told = finding.zip(run.teller.as_ref());
                told.map_or_else(String::new, |(finding, teller)| teller.server_address(finding))
            }
            TableSource::Stored(stored) => {
                stored.findings.get(number).map_or_else(String::new, |f| f.row.server.clone())
            }
        }
    }

    /// Returns the client of a finding as people read it.
    pub fn client(&self, row: &FindingRow<'_>) -> EndIdentity {
        EndIdentity::of_row(self.site(), &row.client, &row.client_name, &row.client_roles)
    }

    /// Returns the server of a finding as people read it.
    pub fn server(&self, row: &FindingRow<'_>) -> EndIdentity {
        EndIdentity::of_row(self.site(), &row.server, &row.server_name, &row.server_roles)
    }

    /// Returns how many conversations there are.
    pub fn conversations_len(&self) -> usize {
        match &self.source {
            TableSource::Run(run) => run.outcome.conversations.list.len(),
            TableSource::Stored(stored) => stored.conversations.len(),
        }
    }

    /// Returns what drawings need of all conversations.
    pub fn talks(&self) -> All<'_, Talk> {
        match &self.source {
            TableSource::Run(run) => Box::new(run.talks()),
            TableSource::Stored(stored) => Box::new(stored.talks.iter().copied()),
        }
    }

    /// Returns all conversations, in order.
    pub fn conversations(&self) -> All<'_, ConversationRow<'_>> {
        match &self.source {
            TableSource::Run(run) => Box::new(rows::conversations(run)),
            TableSource::Stored(stored) => Box::new(stored.conversations.iter().cloned()),
        }
    }

    /// Returns a conversation by its place.
    pub fn conversation(&self, number: usize) -> Option<ConversationRow<'_>> {
        match &self.source {
            TableSource::Run(run) => rows::conversation_at(run, number),
            TableSource::Stored(stored) => stored.conversations.get(number).cloned(),
        }
    }

    /// Returns the rows of the matrix, in its order.
    pub fn matrix_rows(&self) -> All<'_, MatrixRow<'_>> {
        match &self.source {
            TableSource::Run(run) => Box::new(rows::matrix(run)),
            TableSource::Stored(stored) => Box::new(stored.matrix_rows.iter().cloned()),
        }
    }

    /// Returns the hosts of the inventory, in its order.
    pub fn hosts(&self) -> All<'_, HostRow<'_>> {
        match &self.source {
            TableSource::Run(run) => Box::new(rows::hosts(run)),
            TableSource::Stored(stored) => Box::new(stored.hosts.iter().cloned()),
        }
    }
}

/// The largest of some conversations, by bytes.
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

    fn talks(&self) -> impl Iterator<Item = Talk> {
        let outcome = self.outcome;
        outcome.conversations.list.iter().enumerate().map(|(number, c)| {
            let judged = outcome.judged.get(number);
            Talk {
                parties: judged.map(|j| [j.client, j.server]),
                transport: c.subject.transport,
                port: c.subject.port,
                verdict: judged.map(|j| j.verdict()),
                row: judged.and_then(|j| j.ruling.row),
                packets: [c.to_server.packets.0, c.to_client.packets.0],
                bytes: c.to_server.bytes.0 + c.to_client.bytes.0,
                first: c.first.get(),
                last: c.last.get(),
            }
        })
    }
}

/// A transport by the name that rows have.
fn transport_of(name: &str) -> Option<Transport> {
    (0..=u8::MAX).map(Transport).find(|transport| transport.to_string() == name)
}

/// An address of a row; none for several.
pub fn address_of(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}
