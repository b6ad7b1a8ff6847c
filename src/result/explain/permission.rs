//! Explains traffic that is not permitted, or that is permitted only by a feature that the
//! inventory does not mention.

use std::collections::BTreeSet;

use super::conversation::{FeatureWords, feature_words, hardware, off};
use super::{Explainer, ReportedFinding, Words};
use crate::classify::{
    About, Code, Conversation, FeatureState, Finding, Judged, Party, PartyKind, Policy, RoleSet,
    Row, Ruling, State,
};
use crate::model::{Transport, service_words};
use crate::result::plural;

impl Explainer<'_> {
    pub(super) fn permission(&self, finding: &Finding, reported: &ReportedFinding) -> Words {
        let Some((number, c, j)) = self.first(finding) else { return Words::default() };
        let service = if Self::is_of_many_ports(finding) {
            self.many_ports(finding)
        } else {
            service_words(c.subject.transport, &reported.port)
        };
        let transport = c.subject.transport;
        let members = finding.members.len();
        let is_alike = |c: &Conversation| finding.state.is_none_or(|state| c.state == state);
        let alike = self.conversations(finding).filter(|(c, _)| is_alike(c));
        let (did, how) = how_far(finding.state, transport, [members, alike.count()]);
        let of_network =
            matches!(self.outcome.end(finding.key.client), crate::classify::EndKey::Many(_));
        let how = if of_network || reported.client.address == "*" {
            how.replacen("and was ", "and were ", 1)
        } else {
            how
        };
        let called = self.called(number, j);
        let preposition = if transport.has_ports() { "on" } else { "with" };
        let how = format!("{called} {preposition} {service}{how}");
        let mut message = self.message(finding, reported, (c, j.ruling), did, &how);
        if let Some(words) = hardware(self.policy, &self.outcome.conversations, c, j) {
            message.push_str(&format!("; {words}"));
        }
        let action = self.action(reported, j.ruling.row());
        Words { message, action, display_filter: self.filter(finding) }
    }

    pub(super) fn permission_trace(&self, finding: &Finding) -> Vec<String> {
        let mut trace = self.conversation_trace(finding);
        trace.extend(self.list_clients(finding));
        trace.extend(self.doubtful_members(finding));
        trace
    }

    fn many_ports(&self, finding: &Finding) -> String {
        let transport = || self.outcome.transport_of(finding).to_uppercase();
        let ports: BTreeSet<u16> =
            self.conversations(finding).map(|(c, _)| c.subject.port).collect();
        let reached = self.conversations(finding).filter(|(c, _)| c.state.reached());
        let reached: BTreeSet<u16> = reached.map(|(c, _)| c.subject.port).collect();
        if let Some([low, high]) = self.aggregated_ports(finding) {
            return format!("{} ports from {low} to {high} (none reached)", transport());
        }
        let low = ports.first().unwrap_or(&0);
        let high = ports.last().unwrap_or(&0);
        // The outcome of a one-sided conversation is not known.
        let is_unclear = self.conversations(finding).any(|(c, _)| c.state == State::OneSided);
        let list = if reached.is_empty() && is_unclear {
            "none known to be reached".to_owned()
        } else if reached.is_empty() {
            "none reached".to_owned()
        } else {
            format!("reached: {}", some(&reached))
        };
        format!("{} {} ports from {low} to {high} ({list})", ports.len(), transport())
    }

    /// Returns the server name that the ruling is based on, as a phrase that follows the server.
    /// The text is empty if the ruling is not based on a name.
    fn called(&self, number: usize, j: &Judged) -> String {
        let conversations = &self.outcome.conversations;
        let names = conversations.names_of(&conversations.list[number]);
        let name = j.named().map(|(known, alias)| &names.known[known].names[alias]);
        name.map_or_else(String::new, |name| format!(" under the name {name}"))
    }

    fn message(
        &self,
        finding: &Finding,
        reported: &ReportedFinding,
        (c, ruling): (&Conversation, Ruling),
        did: &str,
        how: &str,
    ) -> String {
        let policy = self.policy;
        let row = ruling.row().map(|row| &policy.matrix.rows[row]);
        let client = reported.client.words_with_roles();
        let server = reported.server.words_with_roles();
        let talked = format!("{client} {did} {server}{how}");
        let (service, are) = service_noun(finding);
        let reason = match (finding.code(), row) {
            (Code::ExpiredException, _) => {
                return format!("{talked}; {}", self.expired(ruling.exception()));
            }
            (Code::FeatureOff, Some(row)) => {
                let (features, are, _) = off(policy, row);
                format!(
                    "the matrix documents this traffic only with {features}, which {are} off in the inventory"
                )
            }
            (Code::WrongTransport, Some(row)) => {
                format!(
                    "the matrix documents {service} in this direction only over {}",
                    row.transport.to_string().to_uppercase()
                )
            }
            (Code::Reversed, Some(_)) => {
                format!("the matrix documents {service} only in the opposite direction")
            }
            // The client may use a listed endpoint, but the row for this port is off.
            (Code::PortNotInMatrix, Some(row))
                if policy.feature_state(row) == FeatureState::Off =>
            {
                let (features, are, _) = off(policy, row);
                format!(
                    "the matrix allows traffic from this client to this server, but {service} only with {features}, which {are} off in the inventory"
                )
            }
            (Code::PortNotInMatrix, Some(row)) => {
                let was = if are == "are" { "were" } else { "was" };
                format!(
                    "according to the inventory, {service} of {} {was} moved",
                    policy.matrix.roles[row.destination].name
                )
            }
            (Code::PortNotInMatrix, None) => {
                let preposition = if c.subject.transport.has_ports() { "on" } else { "with" };
                format!(
                    "the matrix allows traffic from this client to this server, but not {preposition} {service}"
                )
            }
            (Code::ExposedInternal, Some(row)) => format!(
                "{service} {are} internal to the farm ({}), and the client is external",
                row.purpose
            ),
            (Code::WrongSource, Some(_)) => {
                let others = self.documented_sources(reported, row);
                format!(
                    "the matrix documents {service} of the server only for clients with {others}"
                )
            }
            (Code::NoRelation, Some(row)) => {
                let (features, are, _) = off(policy, row);
                let purpose = &row.purpose;
                format!(
                    "the matrix documents this traffic only with {features} ({purpose}), which {are} off in the inventory"
                )
            }
            (Code::NoRelation, None) if c.broadcast => {
                "the matrix documents no such broadcast or multicast from the client".to_owned()
            }
            (Code::NoRelation, None) => {
                "the matrix never allows these roles to communicate in this direction".to_owned()
            }
            (Code::FeatureUnstated, Some(row)) => match unstated(policy, row) {
                (feature, "is", _) => format!(
                    "only {feature} permits this traffic; it is usually off, and the inventory does not state whether the farm uses it"
                ),
                (features, ..) => format!(
                    "only {features} together permit this traffic, and the inventory does not state whether the farm uses them"
                ),
            },
            _ => self.lacking_end(finding, reported),
        };
        format!("{talked}; {reason}")
    }

    /// Says which end of a finding has no role, or is not in the inventory.
    fn lacking_end(&self, finding: &Finding, reported: &ReportedFinding) -> String {
        let [one, several, other] = match finding.code() {
            Code::NoRole => {
                ["has no role in", "have no role in", "one of the hosts has no role in"]
            }
            _ => ["is not in", "are not in", "one of the addresses is not in"],
        };
        let lacks = |party: &Party| match finding.code() {
            Code::NoRole => party.kind != PartyKind::Stranger && party.roles.is_empty(),
            _ => party.kind == PartyKind::Stranger,
        };
        let of_network =
            matches!(self.outcome.end(finding.key.client), crate::classify::EndKey::Many(_));
        let ends = self.first(finding).map(|(_, _, j)| [lacks(&j.client), lacks(&j.server)]);
        let words = match ends {
            Some([true, true]) => format!("the client and the server {several}"),
            Some([true, false]) if of_network || reported.client.address == "*" => {
                format!("the clients {several}")
            }
            Some([true, false]) => format!("the client {one}"),
            Some([false, true]) => format!("the server {one}"),
            _ => other.to_owned(),
        };
        format!("{words} the inventory")
    }

    /// Says when an exception expired.
    fn expired(&self, exception: Option<usize>) -> String {
        let exception = exception.and_then(|number| self.policy.exceptions.list.get(number));
        exception.map_or_else(String::new, |e| {
            format!(
                "the matching exception {} ({}, owner {}) was valid only until {}",
                e.id, e.reason, e.owner, e.expires
            )
        })
    }

    /// Names the roles that may connect to the first port of a row on hosts with the roles of the
    /// server. Without a row, the text is empty.
    fn documented_sources(&self, reported: &ReportedFinding, row: Option<&Row>) -> String {
        let matrix = &self.policy.matrix;
        let Some(row) = row else { return String::new() };
        let port = *row.ports.start();
        let same = |r: &&Row| {
            r.transport == row.transport
                && r.ports.contains(&port)
                && matrix.roles[r.destination]
                    .members
                    .intersects(matrix.roles[row.destination].members)
                && reported.server.roles.split(';').any(|role| {
                    matrix.role(role).is_some_and(|n| {
                        matrix.roles[r.destination].members.intersects(RoleSet::one(n))
                    })
                })
        };
        let sources: BTreeSet<&str> =
            matrix.rows.iter().filter(same).map(|r| matrix.roles[r.source].name.as_str()).collect();
        match sources.into_iter().collect::<Vec<_>>().as_slice() {
            [one] => format!("the role {one}"),
            several => format!("one of the roles {}", several.join(", ")),
        }
    }

    fn action(&self, reported: &ReportedFinding, row: Option<usize>) -> String {
        let policy = self.policy;
        match reported.code {
        Code::FeatureOff => {
            let row = row.map(|r| &policy.matrix.rows[r]);
            let (features, _, them) = row.map_or_else(FeatureWords::default, |r| off(policy, r));
            format!("If the farm uses {features}, set {them} to true in the inventory; otherwise find out which program causes the traffic")
        }
        Code::WrongTransport | Code::PortNotInMatrix => {
            let server = reported.server.words();
            match reported.port.as_str() {
                "*" => format!("Find out which programs use these ports on {server}; close the ports, or add those that were moved to the inventory"),
                port if port.is_empty() || reported.transport.starts_with("icmp") => format!("Find out which program causes the traffic to {server}; block the traffic, or add an exception if it is approved"),
                _ => format!("Find out which program uses the port on {server}; close the port, or add it to the inventory if it is a moved port"),
            }
        }
        Code::ExpiredException => {
            "Renew the exception if the traffic is still approved; otherwise block the traffic"
                .to_owned()
        },
        Code::Reversed => "Check the roles of both hosts in the inventory; if they are right, find out why the connection is opened in the opposite direction".to_owned(),
        Code::ExposedInternal => format!("Close the port of {} to addresses outside the farm", reported.server.words()),
        Code::WrongSource | Code::NoRelation => format!(
            "Find out why {} communicates with {}; block the traffic on the firewall between them, or correct the roles in the inventory",
            reported.client.words(),
            reported.server.words()
        ),
        Code::FeatureUnstated => {
            let row = row.map(|r| &policy.matrix.rows[r]);
            let (features, _, them) = row.map_or_else(FeatureWords::default, |r| unstated(policy, r));
            format!("Set {features} in the inventory: to true if the farm uses {them}, or to false if not")
        }
        Code::NoRole => {
            "Add the roles of the host to the inventory; if it has none, list its approved traffic as exceptions".to_owned()
        }
        _ => "Identify each host that is not in the inventory; if it belongs to the farm, add it with its roles; otherwise block its traffic".to_owned(),
    }
    }
}

/// Explains conversations between addresses that are not in the inventory.
pub(super) fn strangers(reported: &ReportedFinding) -> Words {
    Words {
        message: format!(
            "{} between addresses that are not in the inventory",
            plural(reported.count, "conversation")
        ),
        action: "Add the hosts to the inventory if they belong to the farm; conversations.csv lists their conversations".to_owned(),
        display_filter: String::new(),
    }
}

/// Returns a noun phrase for the service that a finding is about, and the verb that agrees with it.
fn service_noun(finding: &Finding) -> (&'static str, &'static str) {
    match finding.key.transport {
        _ if finding.key.about == About::Ports => ("these ports", "are"),
        Some(transport) if transport.is_icmp() => ("this ICMP type", "is"),
        Some(transport) if !transport.has_ports() => ("this protocol", "is"),
        _ => ("this port", "is"),
    }
}

/// Lists the first 20 ports, and counts the others.
fn some(ports: &BTreeSet<u16>) -> String {
    let shown: Vec<String> = ports.iter().take(20).map(u16::to_string).collect();
    let more = ports.len().saturating_sub(shown.len());
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// Returns what the client did, and a phrase that follows the service: the number of conversations,
/// if there are several, and the outcome. The outcome is the best one, which `alike` of the `count`
/// conversations have.
fn how_far(
    state: Option<State>,
    transport: Transport,
    [count, alike]: [usize; 2],
) -> (&'static str, String) {
    let (did, state) = match state {
        Some(State::Established) if transport == Transport::TCP => ("connected to", ""),
        Some(State::Established) => ("contacted", " and was answered"),
        Some(State::Midstream) => ("communicated with", " over a connection that was already open"),
        Some(State::HalfOpen) => {
            ("tried to reach", " and was answered, but did not complete the connection")
        }
        Some(State::Refused) => ("tried to reach", " and was refused"),
        Some(State::Rejected) => ("tried to reach", " and was rejected, probably by a firewall"),
        Some(State::Challenged) => {
            ("tried to reach", " and was answered by an ACK instead of a SYN-ACK")
        }
        Some(State::Unanswered) => ("tried to reach", " and got no answer"),
        Some(State::OneWay) => ("sent packets to", " and got no answer"),
        Some(State::AnswerOnly) => ("reached", " by broadcast and was answered"),
        Some(State::OneSided) | None => {
            ("tried to reach", "; the outcome is unknown, because too little is visible")
        }
    };
    let phrase = match (count, state) {
        (1, _) => state.to_owned(),
        (_, "") if alike < count => {
            format!(" ({count} conversations, {alike} of them established)")
        }
        (_, _) if alike < count => {
            format!(" ({count} conversations){state} (the best outcome, seen in {alike} of them)")
        }
        _ => format!(" ({count} conversations){state}"),
    };
    (did, phrase)
}

/// Names the features of a row that the inventory does not mention.
fn unstated(policy: &Policy, row: &Row) -> FeatureWords {
    let names: Vec<&str> = policy.unstated(row).map(|(name, _)| name).collect();
    feature_words(&names)
}
