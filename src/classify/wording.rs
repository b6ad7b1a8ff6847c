//! Findings about conversations in words: what was found, what to do about it, what was considered.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::filter::display_filter;
use super::finding::Finding;
use super::fold::{About, Fold, ends};
use super::judge::{Judge, Judged, Ruling};
use super::verdict::{Code, Doubt, Doubts};
use crate::conversation::{Conversation, Conversations, State, sign};
use crate::model::{Nanos, Transport};
use crate::policy::{FeatureState, Policy, RoleSet, Row, Scope, Who};

/// The clients of a fold of many, in words; nothing for one.
pub(super) fn who(
    policy: &Policy,
    list: &[Conversation],
    judged: &[Judged],
    fold: &Fold,
) -> Vec<String> {
    const SHOWN: usize = 20;
    if fold.network.is_none() {
        return Vec::new();
    }
    let name = |n: &usize| policy.label(&judged[*n].client, list[*n].subject.client);
    let clients: BTreeSet<String> = fold.members.iter().map(name).collect();
    let shown: Vec<&str> = clients.iter().take(SHOWN).map(String::as_str).collect();
    let more = clients.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    vec![format!("{} clients: {}{more}", clients.len(), shown.join(", "))]
}

/// The finding of a fold, with its explanation.
pub(super) fn explain(
    judge: &Judge<'_>,
    conversations: &Conversations,
    judged: &[Judged],
    fold: &Fold,
) -> Finding {
    let (policy, list, members) = (judge.policy, &conversations.list, &fold.members);
    let (first, ruling) = (members[0], judged[members[0]].ruling);
    let many_ports = fold.about == About::ManyPorts;
    let (client, server) = ends(policy, list, judged, fold);
    let mut finding = Finding::new(fold.code, client, server);
    let transport = list[first].subject.transport;
    finding.transport = transport.to_string();
    finding.port = match list[first].subject.shown_port() {
        _ if many_ports => "*".to_owned(),
        Some(port) => port.to_string(),
        None => String::new(),
    };
    if let Some(exception) = ruling.exception {
        finding.rule = exception_rule(policy, exception);
    } else if let Some(row) = ruling.row {
        finding.rule.clone_from(&policy.matrix.rows[row].id);
    }
    // The shown severity and doubts are those of the member that weighs most.
    let weight = |n: &&usize| (judged[**n].severity, judged[**n].doubts.certain(), Reverse(**n));
    if let Some(worst) = members.iter().max_by_key(weight) {
        finding.severity = match fold.code == ruling.code {
            true => judged[*worst].severity,
            // Of what is documented the conversation weighs nothing, and the finding something.
            false => {
                let reached = members.iter().any(|n| list[*n].state.reached());
                judge.severity(fold.code, reached, judged[*worst].doubts)
            }
        };
        finding.doubts = judged[*worst].doubts;
        finding.certain = finding.doubts.certain();
    }
    for number in members {
        finding.add(list, *number);
    }
    let service = if many_ports {
        let ports: BTreeSet<u16> = members.iter().map(|n| list[*n].subject.port).collect();
        let reached = members.iter().filter(|n| list[**n].state.reached());
        let reached: BTreeSet<u16> = reached.map(|n| list[*n].subject.port).collect();
        let (low, high) = (ports.first().unwrap_or(&0), ports.last().unwrap_or(&0));
        let list = if reached.is_empty() {
            "none reached".into()
        } else {
            format!("reached: {}", some(&reached))
        };
        format!(
            "{} {} ports from {low} to {high}, {list}",
            ports.len(),
            transport.to_string().to_uppercase()
        )
    } else {
        service_words(transport, &finding.port)
    };
    let (did, how) = how_far(finding.state, finding.count);
    let how = if fold.network.is_some() || finding.client.address == "*" {
        how.replacen("and was ", "and were ", 1)
    } else {
        how
    };
    let how = format!("{}{how}", called(conversations, first, &judged[first]));
    finding.message = message(judge, &finding, ruling, &format!("{did} {service}"), &how);
    if let Some(words) = hardware(policy, conversations, &list[first], &judged[first]) {
        finding.message.push_str(&format!("; {words}"));
    }
    finding.action = action(policy, &finding, ruling.row);
    finding.display_filter = display_filter(list, members);
    finding.trace = trace(judge, conversations, &finding, first, &judged[first]);
    finding.trace.extend(who(policy, list, judged, fold));
    finding.trace.extend(doubtful_members(judged, members));
    finding.identify();
    finding
}

/// How many conversations of a finding are not certain, where others are.
pub(super) fn doubtful_members(judged: &[Judged], members: &[usize]) -> Option<String> {
    let doubtful: Vec<_> =
        members.iter().map(|n| judged[*n].doubts).filter(|d| !d.certain()).collect();
    if doubtful.is_empty() || doubtful.len() == members.len() {
        return None;
    }
    let doubts = doubtful.iter().fold(Doubts::default(), |all, doubts| all.with(*doubts));
    let words: Vec<&str> = doubts.iter().map(|doubt| doubt.name()).collect();
    Some(format!(
        "of {} conversations {} are not certain ({}); the others are what is claimed",
        members.len(),
        doubtful.len(),
        words.join(", ")
    ))
}

/// A time in words, to the second.
pub(super) fn clock_words(time: Nanos) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default();
    stamp.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// How reports name an exception where a row would stand.
pub(super) fn exception_rule(policy: &Policy, exception: usize) -> String {
    format!("exception:{}", policy.exceptions.list[exception].id)
}

/// The name that decided about a server, behind its address.
fn called(conversations: &Conversations, number: usize, j: &Judged) -> String {
    let names = conversations.names_of(&conversations.list[number]);
    let name = j.named.map(|(known, alias)| &names.known[known].names[alias]);
    name.map_or_else(String::new, |name| format!("called {name} "))
}

/// The first of some ports in words.
fn some(ports: &BTreeSet<u16>) -> String {
    let shown: Vec<String> = ports.iter().take(20).map(u16::to_string).collect();
    let more = ports.len().saturating_sub(shown.len());
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// `TCP 443`, `ICMP type 3`, `IP protocol 112`.
pub fn service_words(transport: Transport, port: &str) -> String {
    match transport {
        t if t.is_icmp() => format!("{} type {port}", t.to_string().to_uppercase()),
        t if t.has_ports() => format!("{} {port}", t.to_string().to_uppercase()),
        t => format!("IP protocol {}", t.0),
    }
}

/// What the client did, and what came of it.
fn how_far(state: Option<State>, count: u64) -> (&'static str, String) {
    let (did, state) = match state {
        Some(State::Established) => ("opened", "and was answered"),
        Some(State::Midstream) => ("used", "on a connection that was open already"),
        Some(State::HalfOpen) => ("tried", "and was answered, but did not go on"),
        Some(State::Refused) => ("tried", "and was refused"),
        Some(State::Rejected) => ("tried", "and was rejected on the way"),
        Some(State::Challenged) => ("tried", "and was answered by an ACK, no SYN-ACK"),
        Some(State::Unanswered) => ("tried", "and got no answer"),
        Some(State::OneWay) => ("sent", "one way, without an answer"),
        Some(State::AnswerOnly) => ("asked", "by broadcast, and was answered"),
        Some(State::OneSided) | None => {
            ("tried", "with too little visible to tell what came of it")
        }
    };
    let many = if count == 1 { String::new() } else { format!(" ({count} conversations)") };
    (did, format!("{state}{many}"))
}

fn message(
    judge: &Judge<'_>,
    finding: &Finding,
    Ruling { row, exception, .. }: Ruling,
    did: &str,
    how: &str,
) -> String {
    let policy = judge.policy;
    let row = row.map(|r| &policy.matrix.rows[r]);
    let (client, server) = (finding.client.words_with_roles(), finding.server.words_with_roles());
    let talked = format!("{client} {did} to {server} {how}");
    let reason = match (finding.code, row) {
        (Code::ExpiredException, _) => return format!("{talked}; {}", expired(judge, exception)),
        (Code::FeatureOff, Some(row)) => {
            format!(
                "the matrix documents it only with {}, which the inventory says is off",
                off(policy, row)
            )
        }
        (Code::WrongTransport, Some(row)) => {
            format!("the matrix documents this port between them over {} only", row.transport)
        }
        (Code::Reversed, Some(_)) => {
            "the matrix documents this port the other way round".to_owned()
        }
        (Code::PortNotInMatrix, Some(row)) => {
            format!(
                "the inventory moved this port of {} elsewhere",
                policy.matrix.roles[row.destination].name
            )
        }
        (Code::PortNotInMatrix, None) => {
            "the matrix joins these roles, but not on this port".to_owned()
        }
        (Code::ExposedInternal, Some(row)) => format!(
            "the port is internal to the farm ({}), and the client comes from outside",
            row.purpose
        ),
        (Code::WrongSource, Some(_)) => {
            let others = documented_sources(judge, finding, row);
            format!("the matrix documents this port there for {others} only")
        }
        (Code::NoRelation, Some(row)) => {
            let (feature, purpose) = (off(policy, row), &row.purpose);
            format!(
                "the matrix documents it only with {feature} ({purpose}), which the inventory says is off"
            )
        }
        (Code::NoRelation, None) => {
            "the matrix never joins these roles in this direction".to_owned()
        }
        (Code::FeatureUnstated, Some(row)) => format!(
            "only {} permits it, which is usually off, and the inventory does not say whether the farm uses it",
            unstated(policy, row)
        ),
        (Code::NoRole, _) => "an end of it has no role in the inventory".to_owned(),
        _ => "the inventory does not list one end of it".to_owned(),
    };
    format!("{talked}; {reason}")
}

/// Why an exception no longer holds.
fn expired(judge: &Judge<'_>, exception: Option<usize>) -> String {
    let exception = exception.and_then(|number| judge.policy.exceptions.list.get(number));
    exception.map_or_else(String::new, |e| {
        format!(
            "the exception {} for it ({}, owner {}) expired after {}",
            e.id, e.reason, e.owner, e.expires
        )
    })
}

/// The features of a row that are off, in words.
pub(super) fn off(policy: &Policy, row: &Row) -> String {
    let is_off = |f: &&String| policy.inventory.features.get(*f) == Some(&false);
    let names: Vec<_> = row.features.iter().filter(is_off).map(String::as_str).collect();
    format!("the feature {}", names.join(" and "))
}

/// The features of a row that the inventory does not name, in words.
fn unstated(policy: &Policy, row: &Row) -> String {
    let names: Vec<&str> = policy.unstated(row).map(|(name, _)| name).collect();
    format!("the feature {}", names.join(" and "))
}

/// The roles that may use the port that a row documents.
fn documented_sources(judge: &Judge<'_>, finding: &Finding, row: Option<&Row>) -> String {
    let matrix = &judge.policy.matrix;
    let Some(row) = row else { return String::new() };
    let port = *row.ports.start();
    let same = |r: &&Row| {
        r.transport == row.transport
            && r.ports.contains(&port)
            && matrix.roles[r.destination].members.meets(matrix.roles[row.destination].members)
            && finding.server.roles.split(';').any(|role| {
                matrix
                    .role(role)
                    .is_some_and(|n| matrix.roles[r.destination].members.meets(RoleSet::one(n)))
            })
    };
    let sources: BTreeSet<&str> =
        matrix.rows.iter().filter(same).map(|r| matrix.roles[r.source].name.as_str()).collect();
    sources.into_iter().collect::<Vec<_>>().join(", ")
}

fn action(policy: &Policy, finding: &Finding, row: Option<usize>) -> String {
    match finding.code {
        Code::FeatureOff => {
            let row = row.map(|r| &policy.matrix.rows[r]);
            let feature = row.map_or_else(String::new, |r| off(policy, r));
            format!("Set {feature} to true in the inventory if the farm uses it; else find out what uses it")
        }
        Code::WrongTransport | Code::PortNotInMatrix => format!(
            "Find out what on {} uses it; close it, or record a moved port in the inventory",
            finding.server.words()
        ),
        Code::ExpiredException => "Renew the exception with a new approval, or close the port".to_owned(),
        Code::Reversed => "Check the roles of both hosts in the inventory; else find out why the server calls back".to_owned(),
        Code::ExposedInternal => format!("Close the port of {} to addresses outside the farm", finding.server.words()),
        Code::WrongSource | Code::NoRelation => format!(
            "Find out why {} talks to {}; forbid it on the firewall between them, or correct the roles in the inventory",
            finding.client.words(),
            finding.server.words()
        ),
        Code::FeatureUnstated => {
            let row = row.map(|r| &policy.matrix.rows[r]);
            let feature = row.map_or_else(String::new, |r| unstated(policy, r));
            format!("Set {feature} to true in the inventory if the farm uses it, to false if it must not")
        }
        Code::NoRole => {
            "Give the host its roles in the inventory; if it plays none, list what it may do as exceptions".to_owned()
        }
        _ => "List the host in the inventory with its roles, or find out who it is".to_owned(),
    }
}

/// What was considered for the first conversation of a finding.
pub(super) fn trace(
    judge: &Judge<'_>,
    conversations: &Conversations,
    finding: &Finding,
    number: usize,
    j: &Judged,
) -> Vec<String> {
    let (policy, c) = (judge.policy, &conversations.list[number]);
    let mut trace = vec![
        format!("client {}: {}", c.subject.client, policy.describe(&j.client)),
        format!("server {}: {}", c.subject.server, policy.describe(&j.server)),
        format!(
            "direction by {}; {} packets and {} bytes to the server, {} and {} back",
            c.grade,
            c.to_server.packets.0,
            c.to_server.bytes.0,
            c.to_client.packets.0,
            c.to_client.bytes.0
        ),
    ];
    let syns = match c.attempts {
        0 | 1 => String::new(),
        n => format!(" (in all {n} SYNs in {} flows)", c.flows),
    };
    trace.push(format!("state {}: {}{syns}", c.state, c.basis.words()));
    trace.extend(flags(c));
    for error in c.rare().errors.iter() {
        let whose = if error.side == 0 { "client" } else { "server" };
        trace.push(format!(
            "{} answered a packet of the {whose} with ICMP: {}",
            error.by,
            error.kind.words()
        ));
    }
    for error in c.rare().unseen_errors.iter() {
        trace.push(format!(
            "an ICMP error of {} ({}) quotes a packet that the capture does not show, and counts for nothing",
            error.by,
            error.kind.words()
        ));
    }
    trace.extend(state_changes(c).map(|words| format!("the service changed: {words}")));
    trace.extend(about_names(conversations, c, j));
    if let Some(row) = j.ruling.row {
        let row = &policy.matrix.rows[row];
        let features = match policy.feature_state(row) {
            FeatureState::On => String::new(),
            FeatureState::Unknown => {
                format!("; the inventory does not name {}", row.features.join(" and "))
            }
            FeatureState::Off => format!("; {} is off", off(policy, row)),
        };
        trace.push(format!("row {} ({}, {}){features}", row.id, row.purpose, row.provenance));
        if row.is_doubtful() {
            trace.push(format!("the row is {}: {}", row.certainty, row.note));
        }
        trace.extend(about_announcement(row, c));
    } else {
        let nearest = nearest_rows(judge, j);
        if nearest.is_empty() {
            trace.push("no row of the matrix joins these ends".to_owned());
        } else {
            trace.push(format!("rows that join these ends: {}", nearest.join(", ")));
        }
    }
    trace.extend(seems(policy, c, j));
    trace.extend(hardware(policy, conversations, c, j));
    if let Some(other) = j.other {
        trace.push(format!("read the other way round it would be {}/{}", other.verdict(), other));
    }
    if finding.count > 1 {
        trace.push(format!("the first of {} conversations of this finding", finding.count));
    }
    trace
}

/// Which kinds of TCP packets each side sent.
fn flags(c: &Conversation) -> Option<String> {
    const NAMES: [(u16, &str); 6] = [
        (sign::SYN, "SYN"),
        (sign::SYN_ACK, "SYN-ACK"),
        (sign::ACK, "ACK"),
        (sign::DATA, "data"),
        (sign::FIN, "FIN"),
        (sign::RST, "RST"),
    ];
    let sent = |side: usize| {
        let names = NAMES.iter().filter(|(bit, _)| c.signs[side].has(*bit)).map(|(_, name)| *name);
        let names: Vec<&str> = names.collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    (c.subject.transport == Transport::TCP)
        .then(|| format!("seen of the client: {}; of the server: {}", sent(0), sent(1)))
}

/// When a service stopped or started, of a conversation that both reached it and failed.
pub fn state_changes(c: &Conversation) -> Option<String> {
    let failed = c.last_failures()?;
    let time = |time: Option<Nanos>| time.map_or_else(String::new, clock_words);
    let (worked, opened) = (c.opened, failed.opened);
    let how = match failed.state {
        State::HalfOpen => "half-open",
        state => state.name(),
    };
    let failing = format!("{how} from {} to {}", time(opened.first.get()), time(opened.last.get()));
    Some(if opened.first.get() > worked.last.get() {
        format!("worked until {}, {failing}", time(worked.last.get()))
    } else if opened.last.get() < worked.first.get() {
        format!("{failing}, works since {}", time(worked.first.get()))
    } else {
        format!(
            "worked from {} to {}, {failing}",
            time(worked.first.get()),
            time(worked.last.get())
        )
    })
}

/// The host whose hardware address an end that is in no list has: it may be another address of that host.
fn hardware(
    policy: &Policy,
    conversations: &Conversations,
    c: &Conversation,
    j: &Judged,
) -> Option<String> {
    [(&j.client, c.subject.client), (&j.server, c.subject.server)]
        .into_iter()
        .filter(|(party, _)| !matches!(party.who, Who::Host(_) | Who::Service(_)))
        .find_map(|(_, address)| {
            let presence = conversations.survey.presence(address)?;
            // A router's frames are of others.
            let own = presence.macs.iter().filter(|mac| !conversations.survey.is_router(**mac));
            let host = own.filter(|_| !presence.routed).find_map(|mac| policy.host_of_mac(*mac))?;
            let name = &policy.inventory.hosts[host].name;
            Some(format!("the hardware address of {address} is that of {name}"))
        })
}

/// The roles that an end without one would need for the matrix to document it, where they are few.
fn seems(policy: &Policy, c: &Conversation, j: &Judged) -> Option<String> {
    const FEW: usize = 4;
    let matrix = &policy.matrix;
    let rows = || {
        let rows = policy.rows_at(c.subject.transport, c.subject.port).map(|row| &matrix.rows[row]);
        rows.filter(|row| row.scope == Scope::Network && row.only.is_none())
    };
    let (client, server) = (j.client.roles, j.server.roles);
    let (who, address, roles) = match (client.is_empty(), server.is_empty()) {
        (true, false) => {
            let fits = rows().filter(|row| matrix.is_destination(row, server));
            ("does", c.subject.client, fits.map(|row| row.source).collect::<BTreeSet<_>>())
        }
        (false, true) => {
            let fits = rows().filter(|row| matrix.is_source(row, client));
            ("serves", c.subject.server, fits.map(|row| row.destination).collect())
        }
        _ => return None,
    };
    let names: Vec<&str> = roles.iter().map(|role| matrix.roles[*role].name.as_str()).collect();
    ((1..=FEW).contains(&names.len()))
        .then(|| format!("{address} {who} what {} would", names.join(", ")))
}

/// What the capture shows of the server's name, where that was asked for.
fn about_names(all: &Conversations, c: &Conversation, j: &Judged) -> Option<String> {
    let names = all.names_of(c);
    if let Some((number, alias)) = j.named {
        let known = &names.known[number];
        let (asked, name) = (&known.names[0], &known.names[alias]);
        let alias = if alias == 0 { String::new() } else { format!(", an alias of {asked},") };
        let hidden = match names.hidden {
            true => "; another may be hidden (ECH, or beyond what is kept)",
            false => "",
        };
        return Some(format!("the server is {name}{alias} {}{hidden}", known.witnesses()));
    }
    let why = match names.hidden {
        true => {
            "the client may have named another server, in an encrypted TLS hello (ECH) or beyond what is kept"
        }
        false => "no DNS answer and no TLS or HTTP request tells the server's name",
    };
    j.doubts.iter().any(|d| d == Doubt::Name).then(|| why.to_owned())
}

/// Whether the port of a row's range was announced.
fn about_announcement(row: &Row, c: &Conversation) -> Option<String> {
    let mapper = row.announced_by?;
    let (port, server, client) = (c.subject.port, c.subject.server, c.subject.client);
    Some(match c.announced {
        true => format!(
            "the endpoint mapper (TCP {mapper}) of {server} announced port {port} to {client}"
        ),
        false => format!(
            "no answer of the endpoint mapper (TCP {mapper}) of {server} to {client} that announces port {port} could be read; the row's range decides"
        ),
    })
}

/// Rows that join the two ends on other ports.
fn nearest_rows<'a>(judge: &Judge<'a>, j: &Judged) -> Vec<&'a str> {
    const SHOWN: usize = 5;
    let policy = judge.policy;
    let (client, server) = (policy.client_roles(&j.client, &j.server, false), j.server.roles);
    let matrix = &policy.matrix;
    let joins = |row: &&Row| matrix.is_source(row, client) && matrix.is_destination(row, server);
    matrix.rows.iter().filter(joins).take(SHOWN).map(|row| row.id.as_str()).collect()
}
