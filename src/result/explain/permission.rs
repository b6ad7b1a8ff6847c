//! Explains traffic that is not permitted, or that is permitted only by a feature that the
//! inventory does not mention.

use std::collections::BTreeSet;

use super::conversation::{FeatureWords, feature_words, hardware};
use super::{Explainer, ReportedFinding, Words};
use crate::classify::{
    About, Code, Conversation, Doubt, FeatureState, Finding, Judged, Party, PartyKind, Policy,
    RoleSet, Row, Scope, State,
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
        let (did, how) = how_far(finding.state, transport, self.outcomes(finding));
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
        let mut message = self.message(finding, reported, c, did, &how);
        let mut members = self.conversations(finding);
        let conversations = &self.outcome.conversations;
        if let Some(words) = members.find_map(|(c, j)| hardware(self.policy, conversations, c, j)) {
            message.push_str(&format!("; {words}"));
        }
        if let Some(words) = self.certain_members(finding) {
            message.push_str(&format!("; {words}"));
        }
        let lost = self.conversations(finding).filter(|(c, _)| c.lost_port());
        let lost: u64 = lost.map(|(c, _)| c.flows).sum();
        if lost > 0 {
            let flows = plural(lost, "flow");
            message.push_str(&format!(
                "; the ports of {flows} are unknown, because flows were aggregated to stay within --max-memory"
            ));
        }
        let action = self.action(finding, reported);
        Words { message, action, display_filter: self.filter(finding) }
    }

    /// Counts the conversations of a finding and those among them that have its outcome.
    fn outcomes(&self, finding: &Finding) -> OutcomeCounts {
        let mut counts = OutcomeCounts::default();
        for (c, _) in self.conversations(finding) {
            let number = c.stands_for().map_or(1, |all| all.conversations);
            counts.all += number;
            if finding.state.is_none_or(|state| c.state == state) {
                counts.alike += number;
            }
            counts.may_be_more |= c.rare().aggregated > 0;
            counts.has_single |= c.stands_for().is_none();
            counts.may_be_fewer |= c.stands_for().is_some_and(|all| all.may_repeat);
        }
        counts
    }

    /// Returns the rows that the rulings on the conversations of a finding are based on. `None`
    /// stands for rulings that are not based on a row.
    fn rows(&self, finding: &Finding) -> BTreeSet<Option<usize>> {
        self.conversations(finding).map(|(_, j)| j.ruling.row()).collect()
    }

    /// Returns the row that the rulings on all conversations of a finding are based on, or `None`
    /// if there is no such row.
    fn common_row(&self, finding: &Finding) -> Option<&Row> {
        let rows = self.rows(finding);
        let only = rows.first().copied().flatten().filter(|_| rows.len() == 1);
        only.map(|row| &self.policy.matrix.rows[row])
    }

    /// Names all features that a list returns for the rows of a finding.
    fn features_of<'f, I: Iterator<Item = &'f str>>(
        &'f self,
        finding: &Finding,
        list: impl Fn(&'f Policy, &'f Row) -> I,
    ) -> FeatureWords {
        let rows = self.rows(finding).into_iter().flatten();
        let rows = rows.map(|row| &self.policy.matrix.rows[row]);
        let names: BTreeSet<&str> = rows.flat_map(|row| list(self.policy, row)).collect();
        feature_words(&names.into_iter().collect::<Vec<_>>())
    }

    pub(super) fn permission_trace(&self, finding: &Finding) -> Vec<String> {
        let mut trace = self.conversation_trace(finding);
        trace.extend(self.list_clients(finding));
        trace.extend(self.describe_doubtful_members(finding));
        trace
    }

    /// Describes the ports of a finding about many ports, and which of them were reached. Ports
    /// that were dropped when flows were aggregated are only mentioned.
    fn many_ports(&self, finding: &Finding) -> String {
        let transport = self.outcome.transport_of(finding).to_uppercase();
        let Some([low, high]) = self.port_range(finding) else {
            return format!("unknown {transport} ports");
        };
        let all = || self.conversations(finding).map(|(c, _)| c);
        let single = || all().filter(|c| !c.is_of_several_ports());
        let reached = single().filter(|c| c.state.reached());
        let reached: BTreeSet<u16> = reached.map(|c| c.subject.port).collect();
        // The outcome of a one-sided conversation is not known.
        let is_unclear = all().any(|c| c.state == State::OneSided);
        let list = if reached.is_empty() && is_unclear {
            "none known to be reached".to_owned()
        } else if reached.is_empty() {
            "none reached".to_owned()
        } else {
            format!("reached: {}", some(&reached))
        };
        // An aggregated conversation does not list its ports, so they cannot be counted.
        let count = if all().any(|c| c.is_of_several_ports() && !c.lost_port()) {
            String::new()
        } else {
            let ports: BTreeSet<u16> = single().map(|c| c.subject.port).collect();
            format!("{} ", ports.len())
        };
        let others = if all().any(Conversation::lost_port) { ", and unknown ports" } else { "" };
        format!("{count}{transport} ports from {low} to {high} ({list}){others}")
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
        c: &Conversation,
        did: &str,
        how: &str,
    ) -> String {
        let common = self.common_row(finding);
        let client = reported.client.words_with_roles();
        let server = reported.server.words_with_roles();
        let talked = format!("{client} {did} {server}{how}");
        let (service, are) = service_noun(finding);
        let reason = match finding.code() {
            Code::ExpiredException => return format!("{talked}; {}", self.expired(finding)),
            Code::FeatureOff => {
                let (features, are, _) = self.features_of(finding, Policy::off);
                format!(
                    "the matrix documents this traffic only with {features}, which {are} off in the inventory"
                )
            }
            Code::WrongTransport => format!(
                "the matrix documents {service} in this direction only over {}",
                self.documented_transport(finding)
            ),
            Code::Reversed => {
                format!("the matrix documents {service} only in the opposite direction")
            }
            Code::PortNotInMatrix => self.other_port(finding, c.subject.transport),
            Code::ExposedInternal => {
                let purpose = common.map_or_else(String::new, |row| format!(" ({})", row.purpose));
                let is_guess = finding.doubts.iter().any(|doubt| doubt == Doubt::Site);
                let certainly = if is_guess { "probably " } else { "" };
                format!(
                    "{service} {are} internal to the farm{purpose}, and the client is {certainly}external"
                )
            }
            Code::WrongSource => format!(
                "the matrix documents {service} of the server only for {}",
                self.documented_sources(finding)
            ),
            Code::NoRelation => self.no_relation(finding, c),
            Code::FeatureUnstated => match self.features_of(finding, features_unstated) {
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

    /// Says that no row allows the traffic of a finding, or that only rows whose features are off
    /// allow it or some of it. `c` is the first conversation of the finding.
    fn no_relation(&self, finding: &Finding, c: &Conversation) -> String {
        let rows = self.rows(finding);
        if rows.iter().all(Option::is_none) {
            return if c.broadcast {
                "the matrix documents no such broadcast or multicast from the client".to_owned()
            } else {
                "the matrix never allows these roles to communicate in this direction".to_owned()
            };
        }
        let (features, are, _) = self.features_of(finding, Policy::off);
        let with = |purpose: &str| {
            format!("only with {features}{purpose}, which {are} off in the inventory")
        };
        if rows.contains(&None) {
            let with = with("");
            return format!(
                "the matrix documents some of this traffic {with}, and the rest not at all"
            );
        }
        let common = self.common_row(finding);
        let purpose = common.map_or_else(String::new, |row| format!(" ({})", row.purpose));
        format!("the matrix documents this traffic {}", with(&purpose))
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

    /// Says when the exceptions that match a finding expired.
    fn expired(&self, finding: &Finding) -> String {
        let numbers = self.conversations(finding).filter_map(|(_, j)| j.ruling.exception());
        let numbers: BTreeSet<usize> = numbers.collect();
        let exceptions = numbers.iter().filter_map(|n| self.policy.exceptions.list.get(*n));
        match exceptions.collect::<Vec<_>>().as_slice() {
            [] => String::new(),
            [e] => format!(
                "the matching exception {} ({}, owner {}) was valid only until {}",
                e.id, e.reason, e.owner, e.expires
            ),
            several => {
                let ids: Vec<&str> = several.iter().map(|e| e.id.as_str()).collect();
                format!("the matching exceptions {} have expired", ids.join(", "))
            }
        }
    }

    /// Returns the transport over which the matrix documents the ports of a finding.
    fn documented_transport(&self, finding: &Finding) -> String {
        let rows = self.rows(finding).into_iter().flatten();
        let all: BTreeSet<String> = rows
            .map(|row| self.policy.matrix.rows[row].transport.to_string().to_uppercase())
            .collect();
        let mut all = all.into_iter();
        let only = all.next().filter(|_| all.next().is_none());
        only.unwrap_or_else(|| "other transports".to_owned())
    }

    /// Says why the ports of a finding are unexpected: the site moved them, they need features that
    /// are off, or no row documents them.
    fn other_port(&self, finding: &Finding, transport: Transport) -> String {
        let policy = self.policy;
        if self.port_range(finding).is_none() {
            return "the matrix allows traffic from this client to this server; whether it documents these ports is not known".to_owned();
        }
        let (service, _) = service_noun(finding);
        let is_of_many = Self::is_of_many_ports(finding);
        let rows = self.rows(finding);
        let is_off =
            |row: usize| policy.feature_state(&policy.matrix.rows[row]) == FeatureState::Off;
        let [any_off, any_moved] =
            [true, false].map(|off| rows.iter().flatten().any(|row| is_off(*row) == off));
        let was = if is_of_many { "were" } else { "was" };
        if any_moved && !any_off && !rows.contains(&None) {
            let of = self.moved_of(finding);
            return format!("according to the inventory, {service}{of} {was} moved");
        }
        let mut words = "the matrix allows traffic from this client to this server, but".to_owned();
        let (features, are, _) = self.features_of(finding, Policy::off);
        if any_off && rows.len() == 1 {
            let only = format!(" {service} only with {features}, which {are} off in the inventory");
            return words + &only;
        }
        let preposition = if transport.has_ports() { "on" } else { "with" };
        words.push_str(&format!(" not {preposition} {service}"));
        if any_off {
            words.push_str(&format!("; {features} {are} off, which some of them need"));
        }
        if any_moved {
            words.push_str("; according to the inventory, some of them were moved");
        }
        words
    }

    /// Returns whose ports the inventory moved, as a phrase that follows the ports of a finding, or
    /// an empty text if there are several.
    fn moved_of(&self, finding: &Finding) -> String {
        let policy = self.policy;
        let entries = self
            .conversations(finding)
            .filter_map(|(c, j)| policy.moved_from(c.subject.transport, c.subject.port, j.server));
        let owners: BTreeSet<String> = entries
            .map(|entry| match entry.host {
                Some(host) => policy.inventory.hosts[host].name.clone(),
                None => policy.matrix.title_of(entry.roles),
            })
            .collect();
        let mut owners = owners.into_iter();
        let only = owners.next().filter(|_| owners.next().is_none());
        only.map_or_else(String::new, |owner| format!(" of {owner}"))
    }

    /// Names the clients for which the matrix documents the ports of a finding at its server. If
    /// the ports have different clients, none is named.
    fn documented_sources(&self, finding: &Finding) -> String {
        let services = self
            .conversations(finding)
            .filter_map(|(c, j)| Some((j.ruling.row()?, c.ruled_subject().port, j.server.roles)));
        let services: BTreeSet<(usize, u16, RoleSet)> = services.collect();
        let sources = services.into_iter().map(|(row, port, server)| {
            self.sources_of(&self.policy.matrix.rows[row], port, server)
        });
        let sources: BTreeSet<BTreeSet<&str>> = sources.collect();
        let mut sources = sources.into_iter();
        let only = sources.next().filter(|_| sources.next().is_none());
        let Some(only) = only else { return "other clients".to_owned() };
        match only.into_iter().collect::<Vec<_>>().as_slice() {
            [one] => format!("clients with the role {one}"),
            several => format!("clients with one of the roles {}", several.join(", ")),
        }
    }

    /// Returns the names of the roles that may connect to a port of a server with these roles,
    /// which a row documents.
    fn sources_of(&self, row: &Row, port: u16, server: RoleSet) -> BTreeSet<&str> {
        let matrix = &self.policy.matrix;
        // A port that the site moved is in no row.
        let port = if row.ports.contains(&port) { port } else { *row.ports.start() };
        let destination = matrix.roles[row.destination].members;
        // A server may have the destination's role only by its name.
        let destination = if server.intersects(destination) { server } else { destination };
        let same = |r: &&Row| {
            r.transport == row.transport
                && r.ports.contains(&port)
                && matches!(r.scope, Scope::Network | Scope::Internet)
                && matrix.is_destination(r, destination)
        };
        let rows = matrix.rows.iter().filter(same);
        rows.map(|r| matrix.roles[r.source].name.as_str()).collect()
    }

    /// Says what to do about a finding. Traffic that an overlay would document should not be
    /// blocked before it is clear whether the overlay applies.
    fn action(&self, finding: &Finding, reported: &ReportedFinding) -> String {
        let action = self.action_without_overlays(finding, reported);
        let may_be_blocked = matches!(
            reported.code,
            Code::WrongSource
                | Code::NoRelation
                | Code::PortNotInMatrix
                | Code::WrongTransport
                | Code::Reversed
        );
        let overlay = may_be_blocked.then(|| self.outcome.overlay_for(self.policy, finding));
        match overlay.flatten() {
            Some(overlay) => format!(
                "If the overlay {overlay} applies to the farm, set overlays = {} in [farm]; otherwise {}",
                self.policy.matrix.overlays_with(overlay),
                uncapitalized(&action)
            ),
            None => action,
        }
    }

    fn action_without_overlays(&self, finding: &Finding, reported: &ReportedFinding) -> String {
        match reported.code {
        Code::FeatureOff => {
            let (features, _, them) = self.features_of(finding, Policy::off);
            format!("If the farm uses {features}, set {them} to true in the inventory; otherwise find out which program causes the traffic")
        }
        Code::WrongTransport => {
            let server = reported.server.words();
            let transport = reported.transport.to_uppercase();
            let ports = if Self::is_of_many_ports(finding) { "these ports" } else { "the port" };
            format!("Find out which program uses {ports} over {transport} on {server}; block the traffic, or add an exception if it is approved")
        }
        Code::PortNotInMatrix => {
            let server = reported.server.words();
            match reported.port.as_str() {
                "*" => format!("Find out which programs use these ports on {server}; close the ports or, if they are moved ports, add them to the inventory"),
                port if port.is_empty() || reported.transport.starts_with("icmp") => format!("Find out which program causes the traffic to {server}; block the traffic, or add an exception if it is approved"),
                _ => format!("Find out which program uses the port on {server}; close the port, add it to the inventory if it is a moved port, or add an exception if it is approved"),
            }
        }
        Code::ExpiredException => {
            "Renew the exception if the traffic is still approved; otherwise block the traffic"
                .to_owned()
        },
        Code::Reversed => "Check the roles of both hosts in the inventory; if they are right, find out why the connection is opened in the opposite direction".to_owned(),
        Code::ExposedInternal => format!("Close the port of {} to addresses outside the farm", reported.server.words()),
        Code::WrongSource | Code::NoRelation => format!(
            "Find out the reason for the traffic from {} to {}; block it on the firewall between them, or correct the roles in the inventory",
            reported.client.words(),
            reported.server.words()
        ),
        Code::FeatureUnstated => {
            let (features, _, them) = self.features_of(finding, features_unstated);
            format!("Set {features} in the inventory: to true if the farm uses {them}, or to false if not")
        }
        Code::NoRole => {
            "Add the roles of the host to the inventory; if it has none, list its approved traffic as exceptions".to_owned()
        }
        _ => {
            let identify = "Identify each host that is not in the inventory; if it belongs to the farm, add it with its roles; otherwise block its traffic";
            match self.probable_owner(finding) {
                Some(owner) => format!("{owner}. Otherwise, {}", uncapitalized(identify)),
                None => identify.to_owned(),
            }
        }
    }
    }

    /// Says what to do if the unlisted end of a finding is probably an address of listed hosts:
    /// they advertise it as virtual, or it has the hardware address of one of them.
    fn probable_owner(&self, finding: &Finding) -> Option<String> {
        let policy = self.policy;
        let conversations = &self.outcome.conversations;
        let name = |host: usize| policy.inventory.hosts[host].name.as_str();
        let ends = self
            .conversations(finding)
            .flat_map(|(c, j)| [(&j.client, c.subject.client), (&j.server, c.subject.server)]);
        let mut unlisted = ends.filter(|(party, _)| party.kind == PartyKind::Stranger);
        let shared = unlisted.find_map(|(_, address)| {
            let masters = conversations.vrrp_masters.get(&address)?.iter();
            let holders: BTreeSet<usize> = masters.filter_map(|m| policy.host_of(*m)).collect();
            (!holders.is_empty()).then_some((address, holders))
        });
        if let Some((address, holders)) = shared {
            let names: Vec<&str> = holders.into_iter().map(name).collect();
            return Some(format!(
                "If {address} is a virtual address of {}, which advertised it (VRRP), add it as a host of its own with held-by",
                names.join(" and ")
            ));
        }
        let mut members = self.conversations(finding);
        let (address, host) = members
            .find_map(|(c, j)| super::conversation::owner_of_card(policy, conversations, c, j))?;
        let host = name(host);
        Some(format!(
            "If {address}, which has the MAC address of {host}, is an address of {host}, add it to this host"
        ))
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

/// The numbers of conversations of a finding.
#[derive(Default)]
struct OutcomeCounts {
    /// The number of all conversations.
    all: u64,
    /// The number of conversations with the best outcome.
    alike: u64,
    /// Whether the numbers may be too low, because flows were aggregated.
    may_be_more: bool,
    /// Whether the numbers may be too high, because parts of one conversation may count as several.
    may_be_fewer: bool,
    /// Whether a conversation does not stand for others. If all of them do, the end of the message
    /// states their number.
    has_single: bool,
}

/// Returns what the client did, and a phrase that follows the service: the number of conversations,
/// if there are several, and the outcome, which is the best one.
fn how_far(
    state: Option<State>,
    transport: Transport,
    counts: OutcomeCounts,
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
    let OutcomeCounts { all, alike, may_be_more, may_be_fewer, has_single } = counts;
    let limit = if may_be_more && may_be_fewer {
        "about "
    } else if may_be_more {
        "at least "
    } else if may_be_fewer {
        "up to "
    } else {
        ""
    };
    let phrase = match (all, state) {
        (1, _) => state.to_owned(),
        _ if !has_single && alike == all => state.to_owned(),
        (_, "") if alike < all => {
            format!(" ({limit}{all} conversations, {alike} of them established)")
        }
        (_, _) if alike < all => {
            format!(
                " ({limit}{all} conversations){state} (the best outcome, seen in {alike} of them)"
            )
        }
        _ => format!(" ({limit}{all} conversations){state}"),
    };
    (did, phrase)
}

/// Returns the features of a row that the inventory does not mention.
fn features_unstated<'p>(policy: &'p Policy, row: &'p Row) -> impl Iterator<Item = &'p str> {
    policy.unstated(row).map(|(name, _)| name)
}

/// Returns a sentence that begins with a lowercase letter, to follow other words.
pub(super) fn uncapitalized(sentence: &str) -> String {
    let mut chars = sentence.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Judgement;
    use crate::classify::sample::{BROKER, DC, FARM, GW, Packets, RDSH, policy, view, with_code};

    #[test]
    fn a_feature_that_would_allow_some_of_the_traffic_is_named() {
        let farm = FARM.replace("[capture]", "[farm.features]\nwyse = false\n[capture]");
        let hosts = "[[host]]\nname = \"console1\"\naddresses = [\"10.1.0.60\"]\nroles = [\"console\"]\n\
            [[host]]\nname = \"wyse1\"\naddresses = [\"10.1.0.61\"]\nroles = [\"wyse-broker\"]\n";
        let policy = policy(&format!("{farm}{hosts}"));
        let message = |ports: &[u16]| {
            let mut packets = Packets::default();
            for port in ports {
                packets.send(0, Transport::UDP, ("10.1.0.60", 50_000), ("10.1.0.255", *port));
            }
            let judgement = packets.judge(&policy, &view(60));
            let found = with_code(&judgement, Code::NoRelation);
            let [finding] = &found[..] else { panic!("{} findings", found.len()) };
            Explainer::of(&policy, &judgement).expect("it was judged").explain(finding).message
        };
        let others: Vec<u16> = (40_001..40_012).collect();
        let never = "the matrix documents no such broadcast or multicast from the client";
        assert!(message(&others).ends_with(never), "{}", message(&others));
        let only = "the matrix documents this traffic only with the feature wyse (Ask the network for \
            a Wyse broker), which is off in the inventory";
        assert!(message(&[1234]).ends_with(only), "{}", message(&[1234]));
        let some = "the matrix documents some of this traffic only with the feature wyse, which is \
            off in the inventory, and the rest not at all";
        let message = message(&[&[1234], &others[..]].concat());
        assert!(message.ends_with(some), "{message}");
    }

    #[test]
    fn ports_that_aggregated_flows_lost_are_unknown_and_not_counted() {
        let policy = policy(FARM);
        // Flows to port 0 stand for flows whose ports were dropped.
        let explained = |code: Code, packets: &Packets| {
            let mut conversations = packets.conversations(&policy);
            let folded = conversations.list.iter_mut().filter(|c| c.subject.port == 0);
            folded.for_each(Conversation::set_aggregated);
            let judgement = Judgement::of(&policy, conversations, &view(60), 1);
            let found = with_code(&judgement, code);
            let explainer = Explainer::of(&policy, &judgement).expect("it was judged");
            let texts = found.iter().map(|finding| explainer.explain(finding));
            texts.map(|text| (text.port, text.message)).collect::<Vec<_>>()
        };
        let mut packets = Packets::default();
        packets.syn(0, (DC, 50_000), (RDSH, 0));
        let texts = explained(Code::NoRelation, &packets);
        let [(port, message)] = &texts[..] else { panic!("{texts:?}") };
        assert_eq!(port, "*");
        assert!(message.contains(" on unknown TCP ports"), "{message}");
        let lost = "the ports of 1 flow are unknown, because flows were aggregated";
        assert!(message.contains(lost) && !message.contains("TCP 0"), "{message}");
        // Nine known ports have findings of their own.
        for port in 4000..4009 {
            packets.refuse(1, (DC, port + 10_000), (RDSH, port));
        }
        assert_eq!(explained(Code::NoRelation, &packets).len(), 10);
        for port in 4009..4012 {
            packets.refuse(1, (DC, port + 10_000), (RDSH, port));
        }
        let texts = explained(Code::NoRelation, &packets);
        let [(_, message)] = &texts[..] else { panic!("{texts:?}") };
        let counted = "12 TCP ports from 4000 to 4011 (none known to be reached), and unknown ports \
            (at least 13 conversations) and was refused (the best outcome, seen in 12 of them)";
        assert!(message.contains(counted), "{message}");
        assert!(message.contains("this is certain for 12 conversations only"), "{message}");
        // The matrix may document the unknown ports.
        let mut packets = Packets::default();
        packets.syn(0, (GW, 50_000), (BROKER, 0));
        let texts = explained(Code::PortNotInMatrix, &packets);
        let unknown = "whether it documents these ports is not known";
        assert!(texts[0].1.contains(unknown), "{texts:?}");
    }
}
