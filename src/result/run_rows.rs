//! The rows of an audit that has just run.

use std::borrow::Cow;

use super::rows::{ConversationRow, FindingRow, HostRow, MatrixRow, Share};
use super::run::AuditRun;
use super::{Change, Directionality, Members, Time, community_id, state_changes};
use crate::classify::{
    Code, Conversation, Doubts, EncapTag, Finding, HostActivity, Judged, Policy, Severity, Verdict,
    exception_rule,
};
use crate::model::Merge as _;

/// Returns all conversations.
pub(super) fn conversations<'a>(run: &AuditRun<'a>) -> impl Iterator<Item = ConversationRow<'a>> {
    let outcome = run.outcome;
    let policy = run.policy;
    outcome.conversations.list.iter().enumerate().map(move |(number, c)| {
        let judged = policy.map(|policy| (policy, &outcome.judged[number]));
        let names = outcome.conversations.names_of(c).seen.clone();
        let sensors = outcome.conversations.vantage_points.words(c.sensors);
        ConversationRow { names, sensors, ..conversation(c, judged) }
    })
}

/// Returns the conversation with this index. Its `names` are left empty.
pub(super) fn conversation_at<'a>(
    run: &AuditRun<'a>,
    number: usize,
) -> Option<ConversationRow<'a>> {
    let judged = run.policy.and_then(|policy| Some((policy, run.outcome.judged.get(number)?)));
    let conversations = &run.outcome.conversations;
    let c = conversations.list.get(number)?;
    let sensors = conversations.vantage_points.words(c.sensors);
    Some(ConversationRow { sensors, ..conversation(c, judged) })
}

fn conversation<'a>(
    c: &'a Conversation,
    judged: Option<(&'a Policy, &'a Judged)>,
) -> ConversationRow<'a> {
    let subject = c.subject;
    let client = judged.map(|j| j.1.client);
    let server = judged.map(|j| j.1.server);
    let end = |party: Option<crate::classify::Party>| match (judged, party) {
        (Some((policy, _)), Some(party)) => {
            (Cow::Borrowed(policy.name_of(&party)), words(policy.matrix.role_names(party.roles)))
        }
        _ => (Cow::Borrowed(""), Vec::new()),
    };
    let (client_name, client_roles) = end(client);
    let (server_name, server_roles) = end(server);
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
        rule: judged.map_or_else(String::new, |(policy, j)| {
            match (j.ruling.exception(), j.ruling.row()) {
                (Some(number), _) => exception_rule(policy, number),
                (None, Some(row)) => policy.matrix.rows[row].id.clone(),
                (None, None) => String::new(),
            }
        }),
        flows: c.flows,
        attempts: c.attempts,
        established: c.established.into(),
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
        unstated_feature: judged.map_or_else(Vec::new, |(policy, j)| match j.ruling.row() {
            Some(row) if j.verdict() == Verdict::Documented => {
                policy.unstated(&policy.matrix.rows[row]).map(|(name, _)| name.into()).collect()
            }
            _ => Vec::new(),
        }),
        sensors: Vec::new(),
    }
}

/// Returns the endpoints of the tunnels of a conversation, each pair once.
fn outer(c: &Conversation) -> Vec<String> {
    let mut ends: Vec<String> =
        c.rare().outer.iter().map(|o| format!("{}>{}", o.src, o.dst)).collect();
    ends.dedup();
    ends
}

/// Formats tags of one kind, outermost first: `vlan:20`, `vlan:100.20`, `vxlan:7`, `gre`.
fn tag(stack: &[EncapTag]) -> String {
    let name = stack.first().map_or("", |tag| tag.kind.name());
    let ids: Vec<_> = stack.iter().filter_map(|tag| tag.id).map(|id| id.to_string()).collect();
    if ids.is_empty() { name.to_owned() } else { format!("{name}:{}", ids.join(".")) }
}

fn flow_id(c: &Conversation) -> String {
    let directionality = if c.subject.transport.is_icmp() && !c.is_paired_icmp() {
        Directionality::OneWay
    } else {
        Directionality::TwoWay
    };
    // An aggregated conversation has no single flow, and therefore no ID.
    if c.stands_for().is_some() {
        return String::new();
    }
    let [client, server] = c.first_flow();
    community_id(0, client, server, c.subject.transport, directionality)
}

/// Splits a string of items that are joined by `;`.
fn list(text: &str) -> Vec<String> {
    text.split(';').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn words(words: Vec<&str>) -> Vec<Cow<'_, str>> {
    words.into_iter().map(Cow::Borrowed).collect()
}

fn doubts<'a>(doubts: Doubts) -> Vec<Cow<'a, str>> {
    doubts.iter().map(|doubt| doubt.name().into()).collect()
}

/// Returns the row of one finding; `None` if nothing was judged.
pub(super) fn finding<'a>(run: &AuditRun<'a>, finding: &Finding) -> Option<FindingRow<'a>> {
    let policy = run.policy?;
    let reported = run.explainer.as_ref()?.explain(finding);
    let [clients, servers] = Members::of(policy, run.outcome, finding).map(|side| side.words());
    let (change, reason) = match run.change(finding) {
        Some((change, reason)) => (Some(change), reason),
        None => (None, String::new()),
    };
    let since = match change {
        Some(Change::New | Change::Worse) => "new",
        Some(_) => "known",
        None => "",
    };
    let baseline_state = change.filter(|_| finding.severity > Severity::Info);
    Some(FindingRow {
        id: reported.id,
        severity: reported.severity.name().into(),
        verdict: reported.verdict.name().into(),
        code: reported.code.name().into(),
        certain: reported.certain,
        client_roles: list(&reported.client.roles),
        client: reported.client.address,
        client_name: reported.client.name,
        server_roles: list(&reported.server.roles),
        server: reported.server.address,
        server_name: reported.server.name,
        transport: reported.transport,
        port: reported.port,
        state: reported.state.map_or("", |s| s.name()).into(),
        direction: reported.direction.map_or("", |g| g.name()).into(),
        rule: reported.rule,
        group: reported.group,
        count: reported.count,
        first_seen: reported.first_seen.map(Time),
        last_seen: reported.last_seen.map(Time),
        message: reported.message,
        action: reported.action,
        display_filter: reported.display_filter,
        doubt: doubts(reported.doubts),
        since: since.into(),
        clients,
        servers,
        explained_by: reported.explained_by.unwrap_or_default(),
        baseline_state: baseline_state.map_or("", |change| change.name()).into(),
        baseline_reason: reason,
        sensors: run.outcome.sensors_of(policy, finding),
    })
}

/// Returns all rows of the matrix.
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

/// Returns all hosts of the inventory.
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
            hardware_addresses: seen.presence.macs.iter().map(ToString::to_string).collect(),
        })
    })
}
