//! Lists the facts that were considered for a conversation.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Explainer;
use crate::classify::Scope;
use crate::classify::flag;
use crate::classify::{
    Code, Conversation, Conversations, Doubt, DoubtSource, FeatureState, Finding, Judge, Judged,
    PartyKind, Policy, Row, State, clock_words,
};
use crate::model::{Nanos, Transport};
use crate::result::plural;

impl Explainer<'_> {
    /// Returns the facts that were considered for the first conversation of a finding.
    pub(super) fn conversation_trace(&self, finding: &Finding) -> Vec<String> {
        let Some((_, c, j)) = self.first(finding) else { return Vec::new() };
        let policy = self.policy;
        let conversations = &self.outcome.conversations;
        let mut trace = vec![
            format!("client {}: {}", c.subject.client, policy.describe(&j.client)),
            format!("server {}: {}", c.subject.server, policy.describe(&j.server)),
            format!(
                "direction evidence: {}; {} and {} to the server, {} and {} to the client",
                c.grade,
                plural(c.to_server.packets.0, "packet"),
                plural(c.to_server.bytes.0, "byte"),
                c.to_client.packets.0,
                c.to_client.bytes.0
            ),
        ];
        let syns = match c.attempts {
            0 | 1 => String::new(),
            n if conversations.index.has_copies() => {
                format!(" ({n} SYNs including duplicates, in {})", plural(c.flows, "flow"))
            }
            n => format!(" ({n} SYNs in {})", plural(c.flows, "flow")),
        };
        trace.push(format!("state {}: {}{syns}", c.state, c.basis.words()));
        trace.extend(flags(c));
        trace.extend(about_icmp_errors(c));
        trace.extend(
            state_changes(c).map(|words| format!("the state of the service changed: {words}")),
        );
        trace.extend(about_names(conversations, c, j));
        if let Some(row) = j.ruling.row() {
            let row = &policy.matrix.rows[row];
            let features = about_features(policy, row);
            trace.push(format!("row {} ({}, {}){features}", row.id, row.purpose, row.provenance));
            if row.is_doubtful() {
                trace.push(format!("the row is {}: {}", row.certainty, row.note));
            }
            trace.extend(about_announcement(row, c));
        } else {
            trace.push(self.without_row(finding, j));
        }
        if j.doubts.iter().any(|doubt| doubt == Doubt::Clock) {
            trace.push(
                "the timestamps of some packets are doubtful, so the last packet may have arrived before the exception expired".to_owned(),
            );
        }
        trace.extend(seems(policy, c, j));
        trace.extend(hardware(policy, conversations, c, j));
        trace.extend(guessed_hosts(policy, c, j));
        let ends = BTreeSet::from([c.subject.client, c.subject.server]);
        let moves = ends.iter().filter_map(|end| self.outcome.moves.get(end));
        trace.extend(
            moves.map(|words| format!("{words}; later packets may come from another machine")),
        );
        if let Some(other) = j.other {
            trace.push(format!(
                "with client and server exchanged, the conversation would be {}/{}",
                other.verdict(),
                other
            ));
        }
        if finding.members.len() > 1 {
            trace.push(format!(
                "this trace describes the first of {} conversations of the finding",
                finding.members.len()
            ));
        }
        trace
    }

    /// Names the rows that come closest to documenting a conversation that no row documents. If the
    /// conversation matches an expired exception, the text begins with the exception.
    fn without_row(&self, finding: &Finding, j: &Judged) -> String {
        let nearest = nearest_rows(&self.judge, j);
        let rows = if nearest.is_empty() {
            "no row of the matrix allows traffic from this client to this server".to_owned()
        } else {
            format!("rows that allow these roles to communicate (up to 5): {}", nearest.join(", "))
        };
        let exception = j.ruling.exception().and_then(|n| self.policy.exceptions.list.get(n));
        match exception.filter(|_| finding.code() == Code::ExpiredException) {
            Some(e) => format!(
                "the exception {} ({}, owner {}) allowed this traffic until {}; {rows}",
                e.id, e.reason, e.owner, e.expires
            ),
            None => rows,
        }
    }
}

/// Describes the ICMP errors that quote packets of the conversation.
fn about_icmp_errors(c: &Conversation) -> impl Iterator<Item = String> + '_ {
    let answers = c.rare().errors.iter().map(|error| {
        let whose = if error.side == 0 { "client" } else { "server" };
        let kind = error.kind.words();
        format!("{} answered a packet from the {whose} with an ICMP error: {kind}", error.by)
    });
    let unseen = c.rare().unseen_errors.iter().map(|error| {
        format!(
            "an ICMP error from {} ({}) quotes a packet that the capture does not contain, so the error is ignored",
            error.by,
            error.kind.words()
        )
    });
    answers.chain(unseen)
}

/// Names the features of a row that are off or, if none are, those that the inventory does not
/// mention. The text is empty if all are on.
fn about_features(policy: &Policy, row: &Row) -> String {
    match policy.feature_state(row) {
        FeatureState::On => String::new(),
        FeatureState::Unknown => {
            let unstated: Vec<&str> = policy.unstated(row).map(|(name, _)| name).collect();
            let (features, ..) = feature_words(&unstated);
            format!("; the inventory does not mention {features}")
        }
        FeatureState::Off => {
            let (features, are, _) = feature_words(&policy.off(row).collect::<Vec<_>>());
            format!("; {features} {are} off")
        }
    }
}

/// Describes the kinds of TCP packets that each side sent; `None` for other transports.
fn flags(c: &Conversation) -> Option<String> {
    const NAMES: [(u16, &str); 6] = [
        (flag::SYN, "SYN"),
        (flag::SYN_ACK, "SYN-ACK"),
        (flag::ACK, "ACK"),
        (flag::DATA, "data"),
        (flag::FIN, "FIN"),
        (flag::RST, "RST"),
    ];
    let sent = |side: usize| {
        let names = NAMES.iter().filter(|(bit, _)| c.flags[side].has(*bit)).map(|(_, name)| *name);
        let names: Vec<&str> = names.collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    (c.subject.transport == Transport::TCP)
        .then(|| format!("seen from the client: {}; from the server: {}", sent(0), sent(1)))
}

/// Describes when a service worked and when it failed last, if it answered some flows of a
/// conversation and others failed; `None` otherwise.
pub fn state_changes(c: &Conversation) -> Option<String> {
    let failed = c.last_failures()?;
    let time = |time: Option<Nanos>| time.map_or_else(String::new, clock_words);
    let worked = c.opened;
    let opened = failed.opened;
    let how = match failed.state {
        State::HalfOpen => "half-open",
        state => state.name(),
    };
    let failing =
        format!("{how} from {} to {} UTC", time(opened.first.get()), time(opened.last.get()));
    Some(if opened.first.get() > worked.last.get() {
        format!("worked until {} UTC, {failing}", time(worked.last.get()))
    } else if opened.last.get() < worked.first.get() {
        format!("{failing}, working since {} UTC", time(worked.first.get()))
    } else {
        format!(
            "worked from {} to {} UTC, {failing}",
            time(worked.first.get()),
            time(worked.last.get())
        )
    })
}

/// Names the host that has the hardware address of an end, because the end may be another address
/// of that host. Ends that are listed as hosts or services do not count.
pub(super) fn hardware(
    policy: &Policy,
    conversations: &Conversations,
    c: &Conversation,
    j: &Judged,
) -> Option<String> {
    let (address, host) = owner_of_card(policy, conversations, c, j)?;
    let name = &policy.inventory.hosts[host].name;
    Some(format!("{address} has the MAC address of {name}"))
}

/// Describes the ends of a conversation that were assigned to hosts by their hardware addresses,
/// and how to confirm this.
fn guessed_hosts(policy: &Policy, c: &Conversation, j: &Judged) -> Vec<String> {
    let is_guess =
        j.doubts.iter().any(|doubt| doubt == Doubt::Spoof) && !c.doubts.has(DoubtSource::Spoof);
    let ends =
        [(&j.client, c.subject.client), (&j.server, c.subject.server)].map(|(party, address)| {
            let host = party.host().filter(|_| policy.host_of(address).is_none())?;
            Some((address, &policy.inventory.hosts[host].name))
        });
    let ends = ends.into_iter().flatten().filter(|_| is_guess);
    let words = ends.map(|(address, name)| {
        format!("the inventory does not list {address}, but only {name} sent other frames with its MAC address; if it is an address of {name}, list it")
    });
    words.collect()
}

/// Returns the unlisted end of a conversation that has the hardware address of a listed host, and
/// this host.
pub(super) fn owner_of_card(
    policy: &Policy,
    conversations: &Conversations,
    c: &Conversation,
    j: &Judged,
) -> Option<(IpAddr, usize)> {
    [(&j.client, c.subject.client), (&j.server, c.subject.server)]
        .into_iter()
        .filter(|(party, _)| !matches!(party.kind, PartyKind::Host(_) | PartyKind::Service(_)))
        .find_map(|(_, address)| {
            let presence = conversations.index.presence(address).filter(|p| !p.routed)?;
            // Frames from the hardware address of a router belong to other hosts. A host with many
            // addresses of its own, such as temporary IPv6 addresses, is no router.
            let gateways = conversations.index.gateways();
            let mut own = presence.macs.iter().filter(|mac| !gateways.contains(mac));
            Some((address, own.find_map(|mac| policy.host_of_mac(*mac))?))
        })
}

/// Names the roles that an end without roles would need for the matrix to document the
/// conversation. Returns `None` if both ends or neither of them have roles, or if there are no such
/// roles or too many.
fn seems(policy: &Policy, c: &Conversation, j: &Judged) -> Option<String> {
    const FEW: usize = 4;
    let matrix = &policy.matrix;
    let rows = || {
        let rows = policy.rows_at(c.subject.transport, c.subject.port).map(|row| &matrix.rows[row]);
        rows.filter(|row| row.scope == Scope::Network && row.only.is_none())
    };
    let client = j.client.roles;
    let server = j.server.roles;
    let (verb, address, roles) = match (client.is_empty(), server.is_empty()) {
        (true, false) => {
            let fits = rows().filter(|row| matrix.is_destination(row, server));
            ("behaves like", c.subject.client, fits.map(|row| row.source).collect::<BTreeSet<_>>())
        }
        (false, true) => {
            let fits = rows().filter(|row| matrix.is_source(row, client));
            // A server that did not answer does not show that it has these services.
            let verb = if c.state.reached() { "offers a service of" } else { "was contacted like" };
            (verb, c.subject.server, fits.map(|row| row.destination).collect())
        }
        _ => return None,
    };
    let names: Vec<&str> = roles.iter().map(|role| matrix.roles[*role].name.as_str()).collect();
    ((1..=FEW).contains(&names.len()))
        .then(|| format!("{address} {verb} a host with the role {}", names.join(" or ")))
}

/// Returns what the capture shows about the server's name, if the judgement depends on the name.
fn about_names(all: &Conversations, c: &Conversation, j: &Judged) -> Option<String> {
    let names = all.names_of(c);
    if let Some((number, alias)) = j.named() {
        let known = &names.known[number];
        let requested = &known.names[0];
        let name = &known.names[alias];
        let alias =
            if alias == 0 { String::new() } else { format!(", to which {requested} is aliased,") };
        let hidden = if names.hidden {
            "; another name may be hidden (ECH) or may not have been kept"
        } else {
            ""
        };
        return Some(format!("the server is {name}{alias} {}{hidden}", known.witnesses()));
    }
    let why = if names.hidden {
        "the client may have requested another server name: in an encrypted ClientHello (ECH), or in one that was not kept"
    } else {
        "no DNS answer and no TLS or HTTP request shows the server's name"
    };
    j.doubts.iter().any(|d| d == Doubt::Name).then(|| why.to_owned())
}

/// Says whether the endpoint mapper announced the port; `None` if the row does not depend on it.
fn about_announcement(row: &Row, c: &Conversation) -> Option<String> {
    let mapper = row.announced_by?;
    let port = c.subject.port;
    let server = c.subject.server;
    let client = c.subject.client;
    Some(if c.announced {
        format!("the endpoint mapper (TCP {mapper}) of {server} announced port {port} to {client}")
    } else {
        format!(
            "no reply from the endpoint mapper (TCP {mapper}) of {server} to {client} announces port {port}; only the port range of the row matches"
        )
    })
}

/// Returns the ids of up to five rows that allow the roles of the ends to communicate on any port.
fn nearest_rows<'a>(judge: &Judge<'a>, j: &Judged) -> Vec<&'a str> {
    const SHOWN: usize = 5;
    let policy = judge.policy;
    let client = policy.client_roles(&j.client, &j.server);
    let server = j.server.roles;
    let matrix = &policy.matrix;
    let anybody = policy.is_anybody(&j.client);
    let joins = |row: &&Row| {
        matrix.is_source(row, client)
            && matrix.is_destination(row, server)
            && (!anybody || policy.is_for_anybody(row))
    };
    matrix.rows.iter().filter(joins).take(SHOWN).map(|row| row.id.as_str()).collect()
}

/// The names of some features, with the verb and the pronoun for their number.
pub(super) type FeatureWords = (String, &'static str, &'static str);

/// Returns the names of features as text, with the verb and the pronoun for their number.
pub(super) fn feature_words(names: &[&str]) -> FeatureWords {
    match names {
        [name] => (format!("the feature {name}"), "is", "it"),
        names => (format!("the features {}", names.join(" and ")), "are", "them"),
    }
}
