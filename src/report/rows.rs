//! The rows of the tables, with their columns in the order that scripts rely on.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::known::Change;
use super::{Report, Time, community_id};
use crate::classify::{
    Code, Conversation, Doubts, Finding, Judged, Policy, Presence, Ruling, Tag, Verdict,
};
use crate::model::Merge as _;
use crate::result::{Members, state_changes};

/// What stands in a cell.
pub(super) trait Cell {
    /// Appends the cell's text.
    fn write(&self, out: &mut String);
}

/// A cell that shows what `Display` shows.
macro_rules! displayed {
    ($($type:ty),+) => {$(
        impl Cell for $type {
            fn write(&self, out: &mut String) {
                use std::fmt::Write as _;
                let _ = write!(out, "{self}");
            }
        }
    )+};
}
displayed!(u16, u64, String, &str, IpAddr, Time, Share);

impl Cell for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "yes" } else { "no" });
    }
}

impl<T: Cell> Cell for Option<T> {
    fn write(&self, out: &mut String) {
        if let Some(value) = self {
            value.write(out);
        }
    }
}

/// Several words in one cell, joined by `;`; an array in JSON.
impl<T: Cell> Cell for Vec<T> {
    fn write(&self, out: &mut String) {
        for (number, value) in self.iter().enumerate() {
            if number > 0 {
                out.push(';');
            }
            value.write(out);
        }
    }
}

/// A share, 0 to 1, in ten thousandths.
#[derive(Clone, Copy)]
pub(super) struct Share(u64);

impl Share {
    /// The share of `part` in `whole`; none of nothing.
    fn of(part: u64, whole: u64) -> Option<Self> {
        if whole == 0 {
            return None;
        }
        let share = u128::from(part.min(whole)) * 10_000 / u128::from(whole);
        // However few, they are not none.
        Some(Self((share as u64).max(u64::from(part > 0))))
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 10_000.0)
    }
}

/// Doubts as a list of words.
#[derive(Clone, Copy)]
pub(super) struct DoubtList(pub Doubts);

impl Cell for DoubtList {
    fn write(&self, out: &mut String) {
        self.0.iter().map(|d| d.name()).collect::<Vec<_>>().write(out);
    }
}

impl Serialize for DoubtList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

/// Defines a row: its columns are its fields, in order.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident<$life:lifetime> { $($field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Serialize)]
        pub(super) struct $name<$life> { $(pub $field: $type,)+ }

        impl $name<'_> {
            /// The names of the columns.
            pub const COLUMNS: &'static [&'static str] = &[$(stringify!($field),)+];

            /// Hands the text of each cell to `each`.
            pub fn cells(&self, mut each: impl FnMut(&str)) {
                let mut text = String::new();
                $(
                    text.clear();
                    self.$field.write(&mut text);
                    each(&text);
                )+
            }
        }
    };
}

record!(
    /// A conversation.
    ConversationRow<'a> {
        client: IpAddr,
        client_name: &'a str,
        client_roles: Vec<&'a str>,
        server: IpAddr,
        server_name: &'a str,
        server_roles: Vec<&'a str>,
        transport: String,
        port: Option<u16>,
        verdict: &'a str,
        code: &'a str,
        severity: &'a str,
        certain: Option<bool>,
        state: &'a str,
        direction: &'a str,
        rule: String,
        flows: u64,
        attempts: u64,
        established: u64,
        packets_to_server: u64,
        packets_to_client: u64,
        bytes_to_server: u64,
        bytes_to_client: u64,
        first_seen: Option<Time>,
        last_seen: Option<Time>,
        names: Vec<String>,
        tags: Vec<String>,
        community_id: String,
        doubt: DoubtList,
        other_reading: String,
        outer: Vec<String>,
        state_changes: String,
        unstated_feature: Vec<&'a str>,
    }
);

record!(
    /// A finding.
    FindingRow<'a> {
        id: String,
        severity: &'a str,
        verdict: &'a str,
        code: &'a str,
        certain: bool,
        client: String,
        client_name: String,
        client_roles: Vec<String>,
        server: String,
        server_name: String,
        server_roles: Vec<String>,
        transport: String,
        port: String,
        state: &'a str,
        direction: &'a str,
        rule: String,
        group: String,
        count: u64,
        first_seen: Option<Time>,
        last_seen: Option<Time>,
        message: String,
        action: String,
        display_filter: String,
        doubt: DoubtList,
        since: &'a str,
        clients: Vec<String>,
        servers: Vec<String>,
        explained_by: String,
    }
);

record!(
    /// A row of the matrix.
    MatrixRow<'a> {
        rule: &'a str,
        group: &'a str,
        source_role: &'a str,
        destination_role: &'a str,
        transport: String,
        ports: String,
        feature: String,
        need: &'a str,
        status: &'a str,
        reason: &'a str,
        conversations: u64,
        source_hosts_seen: Vec<String>,
        source_hosts_missing: Vec<String>,
        first_seen: Option<Time>,
        last_seen: Option<Time>,
        provenance: &'a str,
    }
);

record!(
    /// A host of the inventory.
    HostRow<'a> {
        name: &'a str,
        addresses: Vec<IpAddr>,
        roles: Vec<&'a str>,
        frames_sent: u64,
        frames_received: u64,
        unicast_sent: u64,
        first_seen: Option<Time>,
        last_seen: Option<Time>,
        coverage: &'a str,
        rows_not_assessable: u64,
        first_sent: Option<Time>,
        last_sent: Option<Time>,
        first_received: Option<Time>,
        last_received: Option<Time>,
        truncated_sent: Option<Share>,
        truncated_received: Option<Share>,
    }
);

/// All conversations.
pub(super) fn conversations<'a>(report: &Report<'a>) -> impl Iterator<Item = ConversationRow<'a>> {
    let (outcome, policy) = (report.outcome, report.policy);
    outcome.conversations.list.iter().enumerate().map(move |(number, c)| {
        let judged = policy.map(|policy| (policy, &outcome.judged[number]));
        let names = outcome.conversations.names_of(c).seen.clone();
        ConversationRow { names, ..conversation(c, judged) }
    })
}

/// One conversation, without its names.
pub(super) fn conversation_at<'a>(report: &Report<'a>, number: usize) -> ConversationRow<'a> {
    let judged = report.policy.map(|policy| (policy, &report.outcome.judged[number]));
    conversation(&report.outcome.conversations.list[number], judged)
}

fn conversation<'a>(
    c: &'a Conversation,
    judged: Option<(&'a Policy, &'a Judged)>,
) -> ConversationRow<'a> {
    let subject = c.subject;
    let (client, server) = (judged.map(|j| j.1.client), judged.map(|j| j.1.server));
    let end = |party: Option<crate::classify::Party>| match (judged, party) {
        (Some((policy, _)), Some(party)) => {
            (policy.name_of(&party), policy.matrix.role_names(party.roles))
        }
        _ => ("", Vec::new()),
    };
    let ((client_name, client_roles), (server_name, server_roles)) = (end(client), end(server));
    let ruling = judged.map(|(_, j)| j.ruling);
    ConversationRow {
        client: subject.client,
        client_name,
        client_roles,
        server: subject.server,
        server_name,
        server_roles,
        transport: subject.transport.to_string(),
        port: subject.shown_port(),
        verdict: ruling.map_or("", |r| r.code.verdict().name()),
        code: ruling.map_or("", |r| r.code.name()),
        severity: judged.map_or("", |(_, j)| j.severity.name()),
        certain: judged.map(|(_, j)| j.doubts.certain()),
        state: c.state.name(),
        direction: c.grade.name(),
        rule: judged.map_or_else(String::new, |(policy, j)| match j.ruling {
            Ruling { exception: Some(number), .. } => {
                format!("exception:{}", policy.exceptions.list[number].id)
            }
            Ruling { row: Some(row), .. } => policy.matrix.rows[row].id.clone(),
            _ => String::new(),
        }),
        flows: c.flows,
        attempts: c.attempts,
        established: c.established,
        packets_to_server: c.to_server.packets.0,
        packets_to_client: c.to_client.packets.0,
        bytes_to_server: c.to_server.bytes.0,
        bytes_to_client: c.to_client.bytes.0,
        first_seen: c.first.get().map(Time),
        last_seen: c.last.get().map(Time),
        names: Vec::new(),
        tags: c.rare().tags.iter().map(|stack| tag(stack)).collect(),
        community_id: flow_id(c),
        doubt: DoubtList(judged.map(|(_, j)| j.doubts).unwrap_or_default()),
        other_reading: judged
            .and_then(|(_, j)| j.other)
            .map_or_else(String::new, |other: Code| format!("{}/{other}", other.verdict())),
        outer: outer(c),
        state_changes: state_changes(c).unwrap_or_default(),
        unstated_feature: judged.map_or_else(Vec::new, |(policy, j)| match j.ruling.row {
            Some(row) if j.verdict() == Verdict::Documented => {
                policy.unstated(&policy.matrix.rows[row]).map(|(name, _)| name).collect()
            }
            _ => Vec::new(),
        }),
    }
}

/// The ends of the tunnels of a conversation, each pair once.
fn outer(c: &Conversation) -> Vec<String> {
    let mut ends: Vec<String> =
        c.rare().outer.iter().map(|o| format!("{}>{}", o.src, o.dst)).collect();
    ends.dedup();
    ends
}

/// Tags of one kind, outermost first: `vlan:20`, `vlan:100.20`, `vxlan:7`, `gre`.
fn tag(stack: &[Tag]) -> String {
    let name = stack.first().map_or("", |tag| tag.kind.name());
    let ids: Vec<_> = stack.iter().filter_map(|tag| tag.id).map(|id| id.to_string()).collect();
    if ids.is_empty() { name.to_owned() } else { format!("{name}:{}", ids.join(".")) }
}

fn flow_id(c: &Conversation) -> String {
    let one_way = c.subject.transport.is_icmp() && !c.is_paired_icmp();
    let [client, server] = c.first_flow();
    community_id(0, client, server, c.subject.transport, one_way)
}

/// The members of a text that holds a list.
fn list(text: &str) -> Vec<String> {
    text.split(';').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// All findings, worst first.
pub(super) fn findings<'a>(report: &Report<'a>) -> impl Iterator<Item = FindingRow<'a>> {
    report.findings().iter().filter_map(|finding| self::finding(report, finding))
}

/// One finding.
pub(super) fn finding<'a>(report: &Report<'a>, finding: &Finding) -> Option<FindingRow<'a>> {
    let (policy, told) = (report.policy?, report.tell(finding)?);
    let [clients, servers] = Members::of(policy, report.outcome, finding).map(|side| side.words());
    let change = report.known.zip(report.teller.as_ref());
    let since = match change.map(|(known, teller)| known.change(teller, finding)) {
        Some(Change::New | Change::Worse) => "new",
        Some(Change::Same | Change::Grown) => "known",
        None => "",
    };
    Some(FindingRow {
        id: told.id,
        severity: told.severity.name(),
        verdict: told.verdict.name(),
        code: told.code.name(),
        certain: told.certain,
        client_roles: list(&told.client.roles),
        client: told.client.address,
        client_name: told.client.name,
        server_roles: list(&told.server.roles),
        server: told.server.address,
        server_name: told.server.name,
        transport: told.transport,
        port: told.port,
        state: told.state.map_or("", |s| s.name()),
        direction: told.direction.map_or("", |g| g.name()),
        rule: told.rule,
        group: told.group,
        count: told.count,
        first_seen: told.first_seen.map(Time),
        last_seen: told.last_seen.map(Time),
        message: told.message,
        action: told.action,
        display_filter: told.display_filter,
        doubt: DoubtList(told.doubts),
        since,
        clients,
        servers,
        explained_by: told.explained_by.unwrap_or_default(),
    })
}

/// All rows of the matrix.
pub(super) fn matrix<'a>(report: &Report<'a>) -> impl Iterator<Item = MatrixRow<'a>> {
    let matrix = report.policy.map(|policy| &policy.matrix);
    let rows = matrix.map(|m| m.rows.iter()).into_iter().flatten().zip(&report.outcome.rows);
    rows.zip(std::iter::repeat(matrix)).filter_map(|((row, seen), matrix)| {
        let matrix = matrix?;
        Some(MatrixRow {
            rule: &row.id,
            group: &row.group,
            source_role: &matrix.roles[row.source].slug,
            destination_role: &matrix.roles[row.destination].slug,
            transport: row.transport.to_string(),
            ports: row.ports_text(),
            feature: row.features.join("+"),
            need: row.expectation.name(),
            status: seen.status.name(),
            reason: seen.reason.map_or("", |r| r.name()),
            conversations: seen.conversations,
            source_hosts_seen: seen.source_hosts_seen.iter().cloned().collect(),
            source_hosts_missing: seen.source_hosts_missing.iter().cloned().collect(),
            first_seen: seen.first.get().map(Time),
            last_seen: seen.last.get().map(Time),
            provenance: &row.provenance,
        })
    })
}

/// All hosts of the inventory.
pub(super) fn hosts<'a>(report: &Report<'a>) -> impl Iterator<Item = HostRow<'a>> {
    let policy = report.policy;
    let hosts = policy.map(|p| p.inventory.hosts.iter()).into_iter().flatten();
    hosts.zip(&report.outcome.hosts).filter_map(move |(host, seen)| {
        let Presence { sent_in: sent, received_in: received, cut, .. } = &seen.presence;
        let mut either = *sent;
        either.merge(received);
        Some(HostRow {
            name: &host.name,
            addresses: host.addresses.clone(),
            roles: policy?.matrix.role_names(host.roles),
            frames_sent: seen.presence.sent.packets.0,
            frames_received: seen.presence.received.packets.0,
            unicast_sent: seen.presence.unicast_sent.0,
            first_seen: either.first.get().map(Time),
            last_seen: either.last.get().map(Time),
            coverage: seen.coverage.name(),
            rows_not_assessable: seen.rows_not_assessable,
            first_sent: sent.first.get().map(Time),
            last_sent: sent.last.get().map(Time),
            first_received: received.first.get().map(Time),
            last_received: received.last.get().map(Time),
            truncated_sent: Share::of(cut[0].0, seen.presence.sent.packets.0),
            truncated_received: Share::of(cut[1].0, seen.presence.received.packets.0),
        })
    })
}
