//! Groups of findings and of conversations.

use std::collections::{BTreeMap, HashSet};

use super::cause::SharedCause;
use super::row::ListedRow;
use super::text::{role_pair, service_of};
use super::totals::{ConversationTotals, FindingTotals};
use crate::classify::Severity;
use crate::model::named_enum;
use crate::result::{AuditResult, ConversationRow, FindingRow, Time};

named_enum!(
    /// The property by which rows are grouped.
    GroupBy {
        /// The roles of the client and of the server.
        RolePair = "role-pair",
        /// The hosts. A row counts once for each of its hosts.
        Host = "host",
        /// The transport and the port.
        Port = "port",
        /// The verdict and the code.
        Code = "code",
        /// Severity, certainty, code, roles, transport, port, group of matrix rows, and the row or
        /// exception that the ruling is based on.
        Cause = "cause",
    }
);

/// Collects rows into groups.
pub(super) struct RowGroups<'a> {
    by_cause: BTreeMap<SharedCause, ListedRow<'a>>,
    by_text: BTreeMap<String, ListedRow<'a>>,
    /// The names of the hosts of the inventory.
    hosts: HashSet<String>,
}

impl<'a> RowGroups<'a> {
    /// Creates an empty set of groups.
    pub fn new(result: &AuditResult<'_>) -> Self {
        let hosts = result.hosts().map(|host| host.name.into_owned()).collect();
        Self { by_cause: BTreeMap::new(), by_text: BTreeMap::new(), hosts }
    }

    /// Adds a row to its groups.
    pub fn add(&mut self, row: &ListedRow<'a>, by: GroupBy) {
        if by == GroupBy::Cause {
            let cause = match row {
                ListedRow::Finding(row) => SharedCause::of_finding(row),
                ListedRow::Conversation(row) => SharedCause::of_conversation(row),
                _ => return,
            };
            let words = cause.words();
            merge(self.by_cause.entry(cause).or_insert_with(|| empty(row, words)), row);
            return;
        }
        for text in self.keys(row, by) {
            let group = self.by_text.entry(text.clone());
            merge(group.or_insert_with(|| empty(row, text)), row);
        }
    }

    /// Returns the groups, sorted by the number of rows and then by severity, both descending.
    pub fn finish(self) -> Vec<ListedRow<'a>> {
        let mut groups: Vec<ListedRow<'a>> =
            self.by_cause.into_values().chain(self.by_text.into_values()).collect();
        // The sort is stable and the maps are sorted, so equal groups stay in the order of their
        // keys.
        groups.sort_by_key(|group| std::cmp::Reverse(weight(group)));
        groups
    }

    /// Returns the names of the groups that a row belongs to.
    fn keys(&self, row: &ListedRow<'_>, by: GroupBy) -> Vec<String> {
        match (row, by) {
            (ListedRow::Finding(row), GroupBy::RolePair) => {
                vec![role_pair(&row.client_roles.join(";"), &row.server_roles.join(";"))]
            }
            (ListedRow::Conversation(row), GroupBy::RolePair) => {
                vec![role_pair(&row.client_roles.join(";"), &row.server_roles.join(";"))]
            }
            (ListedRow::Finding(row), GroupBy::Host) => hosts_of_finding(row),
            (ListedRow::Conversation(row), GroupBy::Host) => self.hosts_of_conversation(row),
            (row, GroupBy::Port) => row
                .service()
                .map(|(transport, port)| service_of(&transport, &port))
                .map(|service| if service.is_empty() { "no port".to_owned() } else { service })
                .into_iter()
                .collect(),
            (ListedRow::Finding(row), GroupBy::Code) => {
                vec![format!("{}/{}", row.verdict, row.code)]
            }
            (ListedRow::Conversation(row), GroupBy::Code) if row.code.is_empty() => {
                vec!["not judged".to_owned()]
            }
            (ListedRow::Conversation(row), GroupBy::Code) => {
                vec![format!("{}/{}", row.verdict, row.code)]
            }
            _ => Vec::new(),
        }
    }

    /// Returns the hosts of a conversation: listed ones by name, others by address. A host that is
    /// both client and server is returned once.
    fn hosts_of_conversation(&self, row: &ConversationRow<'_>) -> Vec<String> {
        let ends = [(&row.client, &row.client_name), (&row.server, &row.server_name)];
        let mut hosts: Vec<String> = ends
            .into_iter()
            .map(|(address, name)| match self.hosts.get(name.as_ref()) {
                Some(host) => host.clone(),
                None => address.to_string(),
            })
            .collect();
        hosts.dedup();
        hosts
    }
}

/// Returns the number of rows and the worst severity of a group.
fn weight(group: &ListedRow<'_>) -> (u64, Option<Severity>) {
    match group {
        ListedRow::FindingGroup(group) => (group.count, Severity::parse(&group.severity)),
        ListedRow::ConversationGroup(group) => (group.count, Severity::parse(&group.severity)),
        _ => (0, None),
    }
}

/// Returns an empty group for rows of this kind. A group of findings begins with the severity and
/// the id of `row`.
fn empty<'a>(row: &ListedRow<'a>, group: String) -> ListedRow<'a> {
    match row {
        ListedRow::Finding(row) => ListedRow::FindingGroup(Box::new(FindingTotals {
            group,
            count: 0,
            severity: row.severity.clone(),
            certain: 0,
            conversations: 0,
            first_seen: None,
            last_seen: None,
            example: row.id.clone(),
        })),
        _ => ListedRow::ConversationGroup(Box::new(ConversationTotals {
            group,
            count: 0,
            severity: "".into(),
            certain: 0,
            packets: 0,
            bytes: 0,
            first_seen: None,
            last_seen: None,
        })),
    }
}

/// Adds a row to a group.
fn merge<'a>(group: &mut ListedRow<'a>, row: &ListedRow<'a>) {
    match (group, row) {
        (ListedRow::FindingGroup(group), ListedRow::Finding(row)) => {
            group.count += 1;
            group.certain += u64::from(row.certain);
            group.conversations = group.conversations.saturating_add(row.count);
            if Severity::parse(&row.severity) > Severity::parse(&group.severity) {
                group.severity = row.severity.clone();
                group.example.clone_from(&row.id);
            }
            widen(&mut group.first_seen, &mut group.last_seen, row.first_seen, row.last_seen);
        }
        (ListedRow::ConversationGroup(group), ListedRow::Conversation(row)) => {
            group.count += 1;
            group.certain += u64::from(row.certain == Some(true));
            let packets = row.packets_to_server.saturating_add(row.packets_to_client);
            let bytes = row.bytes_to_server.saturating_add(row.bytes_to_client);
            group.packets = group.packets.saturating_add(packets);
            group.bytes = group.bytes.saturating_add(bytes);
            if Severity::parse(&row.severity) > Severity::parse(&group.severity) {
                group.severity = row.severity.clone();
            }
            widen(&mut group.first_seen, &mut group.last_seen, row.first_seen, row.last_seen);
        }
        _ => {}
    }
}

fn widen(
    first: &mut Option<Time>,
    last: &mut Option<Time>,
    row_first: Option<Time>,
    row_last: Option<Time>,
) {
    let both = [*first, row_first].into_iter().flatten();
    *first = both.min_by_key(|time| time.0);
    *last = [*last, row_last].into_iter().flatten().max_by_key(|time| time.0);
}

/// Returns the hosts at both ends of a finding, each once. Hosts that the finding does not list are
/// `others`, and any host with a role is `any ROLE`.
fn hosts_of_finding(row: &FindingRow<'_>) -> Vec<String> {
    let end = |members: &[String], address: &str, roles: &[String]| -> Vec<String> {
        if !members.is_empty() {
            let name = |member: &String| {
                if member.starts_with('+') { "others".to_owned() } else { member.clone() }
            };
            return members.iter().map(name).collect();
        }
        match (address, roles) {
            ("", []) => Vec::new(),
            ("", roles) => vec![format!("any {}", roles.join("+"))],
            ("*", _) => vec!["others".to_owned()],
            (address, _) => vec![address.to_owned()],
        }
    };
    let mut hosts = end(&row.clients, &row.client, &row.client_roles);
    hosts.extend(end(&row.servers, &row.server, &row.server_roles));
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}
