//! Reads stored results (`audit.json`).

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::Value;

use super::error::{StoredError, StoredProblem};
use super::head::{Head, Layout, SCHEMA};
use super::site::Finder;
use super::{
    AuditResult, Brief, ConversationBrief, ConversationRow, FindingEntry, HostRow, MatrixRow,
    TableSource, Time, transport_of,
};
use crate::classify::{Code, RoleSet, Severity, Verdict};
use crate::model::Transport;

/// Identifier of the schema. Nothing is fetched from it.
const SCHEMA_ID: &str = "urn:rasaudit:schema:audit:2";

/// `audit.json` with its tables.
type StoredTables<'a> =
    Layout<Vec<FindingEntry<'a>>, Vec<ConversationRow<'a>>, Vec<MatrixRow<'a>>, Vec<HostRow<'a>>>;

/// The tables of a stored result.
pub(super) struct Stored {
    pub findings: Vec<FindingEntry<'static>>,
    pub conversations: Vec<ConversationRow<'static>>,
    pub matrix_rows: Vec<MatrixRow<'static>>,
    pub hosts: Vec<HostRow<'static>>,
    pub finding_briefs: Vec<Brief>,
    pub conversation_briefs: Vec<ConversationBrief>,
}

impl AuditResult<'static> {
    /// Reads a stored result.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read, is not the `audit.json` of an audit, has a
    /// different layout, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self, StoredError> {
        let failed = |kind| StoredError { path: path.to_owned(), kind };
        let mut file = File::open(path).map_err(|error| failed(StoredProblem::Read(error)))?;
        match from_reader(&mut file) {
            Ok(result) => Ok(result),
            // If the file is from another version, an error about its layout is clearer than one
            // about a missing key.
            Err(StoredProblem::Json(error)) => Err(failed(match layout_of(&mut file) {
                Some(layout) if layout != SCHEMA => StoredProblem::Layout(layout),
                _ => StoredProblem::Json(error),
            })),
            Err(kind) => Err(failed(kind)),
        }
    }
}

/// Returns whether a result has only its tables, as results of minor version 0 do.
pub(super) fn is_early(head: &Head) -> bool {
    head.schema_minor == 0
}

/// Returns the layout that a file names; `None` if the file is not JSON or does not name a layout.
fn layout_of(file: &mut File) -> Option<String> {
    #[derive(Deserialize)]
    struct SchemaOnly {
        schema: String,
    }
    file.seek(SeekFrom::Start(0)).ok()?;
    let only: SchemaOnly = serde_json::from_reader(BufReader::new(file)).ok()?;
    Some(only.schema)
}

fn from_reader(reader: impl Read) -> Result<AuditResult<'static>, StoredProblem> {
    let whole: StoredTables<'static> =
        serde_json::from_reader(BufReader::with_capacity(1 << 16, reader)).map_err(|error| {
            if error.is_io() {
                StoredProblem::Read(error.into())
            } else {
                StoredProblem::Json(error)
            }
        })?;
    if whole.schema != SCHEMA {
        return Err(StoredProblem::Layout(whole.schema));
    }
    let (head, (findings, conversations, matrix_rows, hosts)) = whole.with_tables(((), (), (), ()));
    let mut stored = Stored {
        findings,
        conversations,
        matrix_rows,
        hosts,
        finding_briefs: Vec::new(),
        conversation_briefs: Vec::new(),
    };
    stored.check(&head).map_err(StoredProblem::Unsound)?;
    stored.index(&head);
    Ok(AuditResult { head, evidence: None, source: TableSource::Stored(Box::new(stored)) })
}

impl Stored {
    /// Returns an error if parts of the result contradict each other.
    fn check(&self, head: &Head) -> Result<(), &'static str> {
        let count = self.conversations.len();
        if self.findings.iter().flat_map(|f| &f.talkers).any(|talker| *talker >= count) {
            return Err("a finding refers to a conversation that does not exist");
        }
        let turned = |first: Option<Time>, last: Option<Time>| {
            first.zip(last).is_some_and(|(first, last)| first.0 > last.0)
        };
        let findings = self.findings.iter().map(|f| (f.row.first_seen, f.row.last_seen));
        let conversations = self.conversations.iter().map(|c| (c.first_seen, c.last_seen));
        let window = (head.window.first, head.window.last);
        if findings.chain(conversations).chain([window]).any(|(first, last)| turned(first, last)) {
            return Err("a time span ends before it begins");
        }
        let explained: HashSet<&str> = self
            .findings
            .iter()
            .filter(|f| !f.row.explained_by.is_empty())
            .map(|f| f.row.id.as_str())
            .collect();
        if self.findings.iter().any(|f| explained.contains(f.row.explained_by.as_str())) {
            return Err("a finding is explained by one that is itself explained");
        }
        let counted = (head.summary.findings.total, head.summary.conversations.total);
        if counted != (self.findings.len() as u64, self.conversations.len() as u64) {
            return Err("its summary does not match the listed findings and conversations");
        }
        match &head.site {
            Some(site) if !site.is_sound() => {
                Err("its description of the farm refers to a role that does not exist")
            }
            Some(site)
                if site.rows.len() != self.matrix_rows.len()
                    || site.hosts.len() != self.hosts.len() =>
            {
                Err(
                    "its description of the farm and its tables have different numbers of rows or hosts",
                )
            }
            None if head.summary.judged && !is_early(head) => {
                Err("it has verdicts, but no description of the farm")
            }
            _ => Ok(()),
        }
    }

    /// Builds the short forms of findings and conversations that counts and diagrams need.
    fn index(&mut self, head: &Head) {
        let places: HashMap<&str, usize> = self
            .findings
            .iter()
            .zip(0..)
            .map(|(entry, place)| (entry.row.id.as_str(), place))
            .collect();
        let finder = head.site.as_ref().map(Finder::new);
        let roles = |slugs: &[String]| -> RoleSet {
            finder.as_ref().map_or_else(RoleSet::default, |finder| finder.site().roles_of(slugs))
        };
        let brief = |entry: &FindingEntry<'_>| {
            let row = &entry.row;
            Brief {
                severity: Severity::parse(&row.severity).unwrap_or(Severity::Info),
                verdict: Verdict::parse(&row.verdict),
                code: Code::parse(&row.code),
                roles: [roles(&row.client_roles), roles(&row.server_roles)],
                explained_by: places.get(row.explained_by.as_str()).copied(),
                first: row.first_seen.map(|time| time.0),
                last: row.last_seen.map(|time| time.0),
            }
        };
        self.finding_briefs = self.findings.iter().map(brief).collect();
        let rules: HashMap<&str, usize> = self
            .matrix_rows
            .iter()
            .zip(0..)
            .map(|(row, place)| (row.rule.as_ref(), place))
            .collect();
        let mut transports: HashMap<&str, Transport> = HashMap::new();
        let mut conversation_briefs = Vec::with_capacity(self.conversations.len());
        for row in &self.conversations {
            let transport = *transports
                .entry(row.transport.as_str())
                .or_insert_with(|| transport_of(&row.transport).unwrap_or(Transport(0)));
            let parties = finder.as_ref().map(|finder| {
                [
                    finder.party(row.client, &row.client_name, &row.client_roles),
                    finder.party(row.server, &row.server_name, &row.server_roles),
                ]
            });
            conversation_briefs.push(ConversationBrief {
                parties,
                transport,
                port: row.port.unwrap_or_default(),
                verdict: Verdict::parse(&row.verdict),
                row: rules.get(row.rule.as_str()).copied(),
                packets: [row.packets_to_server, row.packets_to_client],
                bytes: row.bytes_to_server.saturating_add(row.bytes_to_client),
                first: row.first_seen.map(|time| time.0),
                last: row.last_seen.map(|time| time.0),
            });
        }
        self.conversation_briefs = conversation_briefs;
    }
}

/// Returns the schema of `audit.json`, which is generated from the types that read the file.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<StoredTables<'static>>();
    schema.insert("$id".to_owned(), SCHEMA_ID.into());
    schema.insert("title".to_owned(), SCHEMA.into());
    schema.to_value()
}
