//! The rows of the tables, with their columns in the order that scripts rely on.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::baseline::Change;
use super::run::AuditRun;
use super::{Members, Time, community_id, state_changes};
use crate::classify::{
    Code, Conversation, Doubts, EncapTag, Finding, HostActivity, Judged, Policy, Ruling, Verdict,
};
use crate::model::Merge as _;

/// What stands in a cell.
pub trait Cell {
    /// Appends the escape_csv_formula's text.
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
displayed!(u16, u64, String, Cow<'_, str>, IpAddr, Time, Share);

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share(u64);

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

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        Ok(Self((share.clamp(0.0, 1.0) * 10_000.0).round() as u64))
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 1})
    }
}

/// Defines a row: its columns are its fields, in order.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident<$life:lifetime> { $($(#[$about:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        pub struct $name<$life> { $($(#[$about])* pub $field: $type,)+ }

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
        /// The client.
        client: IpAddr,
        /// The inventory's name of it.
        client_name: Cow<'a, str>,
        /// Its roles.
        client_roles: Vec<Cow<'a, str>>,
        /// The server.
        server: IpAddr,
        /// The inventory's name of it.
        server_name: Cow<'a, str>,
        /// Its roles.
        server_roles: Vec<Cow<'a, str>>,
        /// The protocol above IP.
        transport: String,
        /// The server's port, or the type of an ICMP message.
        port: Option<u16>,
        /// What is said of it.
        verdict: Cow<'a, str>,
        /// Why.
        code: Cow<'a, str>,
        /// How much it weighs.
        severity: Cow<'a, str>,
        /// Whether that is certain.
        certain: Option<bool>,
        /// How far it came.
        state: Cow<'a, str>,
        /// What the direction rests on.
        direction: Cow<'a, str>,
        /// The row of the matrix, or the exception, that decided.
        rule: String,
        /// Five-tuples.
        flows: u64,
        /// SYNs of the client.
        attempts: u64,
        /// Five-tuples that were established.
        established: u64,
        /// Packets of the client.
        packets_to_server: u64,
        /// Packets of the server.
        packets_to_client: u64,
        /// Bytes of the client.
        bytes_to_server: u64,
        /// Bytes of the server.
        bytes_to_client: u64,
        /// The earliest packet.
        first_seen: Option<Time>,
        /// The latest.
        last_seen: Option<Time>,
        /// Names of the server that were seen.
        names: Vec<String>,
        /// What its packets were wrapped in.
        tags: Vec<String>,
        /// Community ID of its first flow.
        community_id: String,
        /// Why it is not certain.
        doubt: Vec<Cow<'a, str>>,
        /// What it would be, read the other way round.
        other_reading: String,
        /// The ends of its tunnels.
        outer: Vec<String>,
        /// When the service stopped or started.
        state_changes: String,
        /// Features that permit it and that the inventory does not name.
        unstated_feature: Vec<Cow<'a, str>>,
    }
);

record!(
    /// A finding.
    FindingRow<'a> {
        /// Stable across captures.
        id: String,
        /// How much it weighs.
        severity: Cow<'a, str>,
        /// What it says.
        verdict: Cow<'a, str>,
        /// Why.
        code: Cow<'a, str>,
        /// Whether it is certain.
        certain: bool,
        /// The client: the end that opened the traffic, or should have; `*` for several.
        client: String,
        /// The inventory's name of it.
        client_name: String,
        /// Its roles.
        client_roles: Vec<String>,
        /// The server: the end that was opened, or should have been; `*` for several.
        server: String,
        /// The inventory's name of it.
        server_name: String,
        /// Its roles.
        server_roles: Vec<String>,
        /// The protocol above IP; `*` for several.
        transport: String,
        /// The port; several joined by `;`, `*` for many.
        port: String,
        /// The best state among its conversations.
        state: Cow<'a, str>,
        /// The strongest grade of direction among them.
        direction: Cow<'a, str>,
        /// The row of the matrix, or the exception, that decided.
        rule: String,
        /// The group of rows that it is about.
        group: String,
        /// Conversations, or pairs of hosts, that it stands for.
        count: u64,
        /// The earliest packet.
        first_seen: Option<Time>,
        /// The latest.
        last_seen: Option<Time>,
        /// What was found, in a sentence.
        message: String,
        /// What to do about it.
        action: String,
        /// A Wireshark display filter that shows its packets.
        display_filter: String,
        /// Why it is not certain.
        doubt: Vec<Cow<'a, str>>,
        /// `new` or `known` against an earlier audit.
        since: Cow<'a, str>,
        /// Its clients, one by one.
        clients: Vec<String>,
        /// Its servers, one by one.
        servers: Vec<String>,
        /// The id of the finding that explains it.
        explained_by: String,
    }
);

record!(
    /// A row of the matrix.
    MatrixRow<'a> {
        /// Its stable name.
        rule: Cow<'a, str>,
        /// Rows that serve one purpose.
        group: Cow<'a, str>,
        /// Who may open it.
        source_role: Cow<'a, str>,
        /// Who serves it.
        destination_role: Cow<'a, str>,
        /// The protocol above IP.
        transport: String,
        /// The port, or the first and the last.
        ports: String,
        /// The features that it needs.
        feature: String,
        /// What silence means.
        need: Cow<'a, str>,
        /// What it came to.
        status: Cow<'a, str>,
        /// Why it could not be assessed.
        reason: Cow<'a, str>,
        /// Conversations that it documents.
        conversations: u64,
        /// Who opened it.
        source_hosts_seen: Vec<String>,
        /// Who should have.
        source_hosts_missing: Vec<String>,
        /// The earliest packet.
        first_seen: Option<Time>,
        /// The latest.
        last_seen: Option<Time>,
        /// The document and line that it comes from.
        provenance: Cow<'a, str>,
    }
);

record!(
    /// A host of the inventory.
    HostRow<'a> {
        /// Its name.
        name: Cow<'a, str>,
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// Its roles.
        roles: Vec<Cow<'a, str>>,
        /// Frames that it sent.
        frames_sent: u64,
        /// Frames that were sent to it.
        frames_received: u64,
        /// Frames that it sent to single hosts.
        unicast_sent: u64,
        /// The earliest frame from or to it.
        first_seen: Option<Time>,
        /// The latest.
        last_seen: Option<Time>,
        /// How much of it the capture shows.
        coverage: Cow<'a, str>,
        /// Rows of which it is a source and that could not be assessed.
        rows_not_assessable: u64,
        /// The earliest frame that it sent.
        first_sent: Option<Time>,
        /// The latest.
        last_sent: Option<Time>,
        /// The earliest frame that was sent to it.
        first_received: Option<Time>,
        /// The latest.
        last_received: Option<Time>,
        /// The share of what it sent that was cut short.
        truncated_sent: Option<Share>,
        /// The share of what was sent to it that was cut short.
        truncated_received: Option<Share>,
    }
);

/// All conversations.
pub(super) fn conversations<'a>(run: &AuditRun<'a>) -> impl Iterator<Item = ConversationRow<'a>> {
    let (outcome, policy) = (run.outcome, run.policy);
    outcome.conversations.list.iter().enumerate().map(move |(number, c)| {
        let judged = policy.map(|policy| (policy, &outcome.judged[number]));
        let names = outcome.conversations.names_of(c).seen.clone();
        ConversationRow { names, ..conversation(c, judged) }
    })
}

/// One conversation, without its names.
pub(super) fn conversation_at<'a>(
    run: &AuditRun<'a>,
    number: usize,
) -> Option<ConversationRow<'a>> {
    let judged = run.policy.and_then(|policy| Some((policy, run.outcome.judged.get(number)?)));
    Some(conversation(run.outcome.conversations.list.get(number)?, judged))
}

fn conversation<'a>(
    c: &'a Conversation,
    judged: Option<(&'a Policy, &'a Judged)>,
) -> ConversationRow<'a> {
    let subject = c.subject;
    let (client, server) = (judged.map(|j| j.1.client), judged.map(|j| j.1.server));
    let end = |party: Option<crate::classify::Party>| match (judged, party) {
        (Some((policy, _)), Some(party)) => {
            (Cow::Borrowed(policy.name_of(&party)), words(policy.matrix.role_names(party.roles)))
        }
        _ => (Cow::Borrowed(""), Vec::new()),
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
        verdict: ruling.map_or("", |r| r.code.verdict().name()).into(),
        code: ruling.map_or("", |r| r.code.name()).into(),
        severity: judged.map_or("", |(_, j)| j.severity.name()).into(),
        certain: judged.map(|(_, j)| j.doubts.certain()),
        state: c.state.name().into(),
        direction: c.grade.name().into(),
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
        doubt: doubts(judged.map(|(_, j)| j.doubts).unwrap_or_default()),
        other_reading: judged
            .and_then(|(_, j)| j.other)
            .map_or_else(String::new, |other: Code| format!("{}/{other}", other.verdict())),
        outer: outer(c),
        state_changes: state_changes(c).unwrap_or_default(),
        unstated_feature: judged.map_or_else(Vec::new, |(policy, j)| match j.ruling.row {
            Some(row) if j.verdict() == Verdict::Documented => {
                policy.unstated(&policy.matrix.rows[row]).map(|(name, _)| name.into()).collect()
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
fn tag(stack: &[EncapTag]) -> String {
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

fn words(words: Vec<&str>) -> Vec<Cow<'_, str>> {
    words.into_iter().map(Cow::Borrowed).collect()
}

fn doubts<'a>(doubts: Doubts) -> Vec<Cow<'a, str>> {
    doubts.iter().map(|doubt| doubt.name().into()).collect()
}

/// One finding.
pub(super) fn finding<'a>(run: &AuditRun<'a>, finding: &Finding) -> Option<FindingRow<'a>> {
    let (policy, told) = (run.policy?, run.teller.as_ref()?.tell(finding));
    let [clients, servers] = Members::of(policy, run.outcome, finding).map(|side| side.words());
    let change = run.known.zip(run.teller.as_ref());
    let since = match change.map(|(known, teller)| known.change(teller, finding)) {
        Some(Change::New | Change::Worse) => "new",
        Some(Change::Same | Change::Grown) => "known",
        None => "",
    };
    Some(FindingRow {
        id: told.id,
        severity: told.severity.name().into(),
        verdict: told.verdict.name().into(),
        code: told.code.name().into(),
        certain: told.certain,
        client_roles: list(&told.client.roles),
        client: told.client.address,
        client_name: told.client.name,
        server_roles: list(&told.server.roles),
        server: told.server.address,
        server_name: told.server.name,
        transport: told.transport,
        port: told.port,
        state: told.state.map_or("", |s| s.name()).into(),
        direction: told.direction.map_or("", |g| g.name()).into(),
        rule: told.rule,
        group: told.group,
        count: told.count,
        first_seen: told.first_seen.map(Time),
        last_seen: told.last_seen.map(Time),
        message: told.message,
        action: told.action,
        display_filter: told.display_filter,
        doubt: doubts(told.doubts),
        since: since.into(),
        clients,
        servers,
        explained_by: told.explained_by.unwrap_or_default(),
    })
}

/// All rows of the matrix.
pub(super) fn matrix<'a>(run: &AuditRun<'a>) -> impl Iterator<Item = MatrixRow<'a>> {
    let matrix = run.policy.map(|policy| &policy.matrix);
    let rows = matrix.map(|m| m.rows.iter()).into_iter().flatten().zip(&run.outcome.rows);
    rows.zip(std::iter::repeat(matrix)).filter_map(|((row, seen), matrix)| {
        let matrix = matrix?;
        Some(MatrixRow {
            rule: row.id.as_str().into(),
            group: row.group.as_str().into(),
            source_role: matrix.roles[row.source].slug.as_str().into(),
            destination_role: matrix.roles[row.destination].slug.as_str().into(),
            transport: row.transport.to_string(),
            ports: row.ports_text(),
            feature: row.features.join("+"),
            need: row.expectation.name().into(),
            status: seen.status.name().into(),
            reason: seen.reason.map_or("", |r| r.name()).into(),
            conversations: seen.conversations,
            source_hosts_seen: seen.source_hosts_seen.iter().cloned().collect(),
            source_hosts_missing: seen.source_hosts_missing.iter().cloned().collect(),
            first_seen: seen.first.get().map(Time),
            last_seen: seen.last.get().map(Time),
            provenance: row.provenance.as_str().into(),
        })
    })
}

/// All hosts of the inventory.
pub(super) fn hosts<'a>(run: &AuditRun<'a>) -> impl Iterator<Item = HostRow<'a>> {
    let policy = run.policy;
    let hosts = policy.map(|p| p.inventory.hosts.iter()).into_iter().flatten();
    hosts.zip(&run.outcome.hosts).filter_map(move |(host, seen)| {
        let HostActivity { sent_in: sent, received_in: received, cut, .. } = &seen.presence;
        let mut either = *sent;
        either.merge(received);
        Some(HostRow {
            name: host.name.as_str().into(),
            addresses: host.addresses.clone(),
            roles: words(policy?.matrix.role_names(host.roles)),
            frames_sent: seen.presence.sent.packets.0,
            frames_received: seen.presence.received.packets.0,
            unicast_sent: seen.presence.unicast_sent.0,
            first_seen: either.first.get().map(Time),
            last_seen: either.last.get().map(Time),
            coverage: seen.coverage.name().into(),
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
