//! What claims of absence rest on: who was seen how, what the capture covers, and what it could not show.

use std::collections::HashSet;

use super::coverage::{
    HostReport, Peer, UndecodedByHost, Unlisted, UnreadablePairs, unlisted, unreadable_pairs,
    unreadables, watched,
};
use super::judge::Judged;
use super::parallel::both;
use super::verdict::{Code, Doubt};
use super::{CaptureConditions, CoverageStatement};
use crate::conversation::{Conversation, Conversations, HostActivity};
use crate::model::{Nanos, SECOND, Transport};
use crate::policy::{Policy, Row};

/// Why silence under contradicting clocks is not certain.
pub(super) const CLOCKS: &str =
    "the clocks of the capture contradict each other: answers are stamped before what they answer";

/// Why silence that a tunnel may break is not certain.
const TUNNELLED: &str =
    "it was seen inside a tunnel that nobody stated, in which anybody may have made it up";

/// Seconds that a host's own time may fall short of a row's: watched time is counted in tens of seconds.
const SLACK_S: Nanos = 20;

/// Codes of failures that rest on silence, which may be the capture's.
const SILENT: [Code; 2] = [Code::Unanswered, Code::HalfOpen];

/// Whether a failure rests on silence.
pub(super) fn is_silent(code: Code) -> bool {
    SILENT.contains(&code)
}

/// What was learned of the capture as a whole.
pub struct CaptureFacts {
    /// What the judgement knew of the capture and of the user's wishes.
    pub view: CaptureConditions,
    /// The hosts whose switch port the span carries, as traffic shows.
    watched: HashSet<usize>,
    /// Services that somebody reached at an address which the inventory does not list, or lists without
    /// a role: it may be a listed host's other address.
    unlisted: Unlisted,
    /// What hosts exchanged that could not be read.
    unreadable_pairs: UnreadablePairs,
    /// Frames that could not be understood.
    unreadables: UndecodedByHost,
}

impl CaptureFacts {
    pub(super) fn of(
        policy: &Policy,
        conversations: &Conversations,
        judged: &[Judged],
        hosts: &[HostReport],
        view: &CaptureConditions,
        jobs: usize,
    ) -> Self {
        let told = || (watched(conversations, judged), unlisted(conversations, judged));
        let hidden = || {
            (
                unreadable_pairs(policy, conversations, view),
                unreadables(policy, conversations, hosts),
            )
        };
        let ((watched, unlisted), (unreadable_pairs, unreadables)) = both(jobs, told, hidden);
        Self { view: view.clone(), watched, unlisted, unreadable_pairs, unreadables }
    }
}

/// The facts, with what they are about.
#[derive(Clone, Copy)]
pub struct JudgedCapture<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// What was judged.
    pub conversations: &'a Conversations,
    /// How each host was seen.
    pub hosts: &'a [HostReport],
    /// What was learned.
    pub facts: &'a CaptureFacts,
}

impl<'a> JudgedCapture<'a> {
    /// Returns what the judgement knew of the capture.
    pub fn view(&self) -> &'a CaptureConditions {
        &self.facts.view
    }

    /// Whether a network of the inventory plays a role.
    pub(super) fn is_played_by_network(&self, role: usize) -> bool {
        let members = self.policy.matrix.roles[role].members;
        self.policy.inventory.networks.iter().any(|n| n.roles.intersects(members))
    }

    /// Whether a unicast frame of it was seen.
    pub fn is_sending(&self, unit: Peer) -> bool {
        match unit {
            Peer::Host(host) => self.hosts[host].presence.unicast_sent.0 > 0,
            Peer::Service(service) => {
                let addresses = &self.policy.inventory.services[service].addresses;
                let mut presences =
                    addresses.iter().filter_map(|a| self.conversations.survey.presence(*a));
                presences.any(|p| p.unicast_sent.0 > 0)
            }
            Peer::Other(_) => false,
        }
    }

    /// Returns the seconds from the first to the last unicast frame of a host.
    pub(super) fn seconds_of(&self, host: usize) -> Nanos {
        self.hosts[host].presence.unicast_in.length().unwrap_or_default() / SECOND
    }

    /// Whether a host that was seen sending for so many seconds was there for as long as is due, give or take.
    pub(super) fn is_long_enough(there_s: Nanos, due_s: u64) -> bool {
        there_s >= due_s as Nanos - SLACK_S
    }

    /// Whether something was seen sending for so many seconds. Of a service only that it was.
    pub(super) fn was_there_for(&self, unit: Peer, seconds: u64) -> bool {
        let Peer::Host(host) = unit else { return self.is_sending(unit) };
        Self::is_long_enough(self.seconds_of(host), seconds)
    }

    /// Whether the span covers all that a host says: stated (true), inferred (false), or not.
    pub fn watches(&self, host: usize) -> Option<bool> {
        match &self.policy.inventory.covers {
            Some(CoverageStatement::All) => Some(true),
            Some(CoverageStatement::Hosts(hosts)) => hosts.contains(&host).then_some(true),
            None => self.facts.watched.contains(&host).then_some(false),
        }
    }

    /// Whether the span covers what a source says to all of `to`: stated (true), inferred (false),
    /// or not.
    pub fn covers(&self, source: usize, to: &[Peer]) -> Option<bool> {
        let stated = self.policy.inventory.covers.is_some();
        let everything = matches!(self.policy.inventory.covers, Some(CoverageStatement::All));
        let covered = |host: usize| self.watches(host).is_some();
        let all = || to.iter().all(|unit| matches!(unit, Peer::Host(host) if covered(*host)));
        (everything || covered(source) || all()).then_some(stated)
    }

    /// Whether an address without a role used one of these services of a host.
    pub(super) fn has_unlisted_client(&self, host: usize, rows: &[&Row]) -> bool {
        let clients = self.facts.unlisted.clients.get(&host).into_iter().flatten();
        clients.copied().any(|(transport, port, _)| covers(rows, transport, port))
    }

    /// Hosts whose services were used by an address without a role.
    pub(super) fn hosts_with_unlisted_clients(&self) -> impl Iterator<Item = usize> + 'a {
        self.facts.unlisted.clients.keys().copied()
    }

    /// Whether one of these services was reached at an address without a role.
    pub(super) fn has_unlisted_server(&self, rows: &[&Row]) -> bool {
        let mut servers = self.facts.unlisted.servers.keys();
        servers.any(|(transport, port)| covers(rows, *transport, *port))
    }

    /// The listed hosts with which a host exchanged what could not be read.
    pub(super) fn sealed_with(&self, host: usize) -> impl Iterator<Item = usize> + 'a {
        self.facts.unreadable_pairs.with(host)
    }

    /// Whether a host exchanged what could not be read with an address that nobody listed.
    pub(super) fn is_sealed_beside(&self, host: usize) -> bool {
        self.facts.unreadable_pairs.is_beside(host)
    }

    /// Whether frames that could not be understood may be a host's.
    pub(super) fn is_unreadable(&self, host: usize) -> bool {
        self.facts.unreadables.of([host]).is_some()
    }

    /// Describes the traffic between a host and some others that the audit could not read. This includes encrypted
    /// or truncated packets that any of them exchanged with an unlisted address, and frames that were not decoded.
    pub fn unread_between(&self, source: usize, others: &[usize]) -> Option<String> {
        if self.view().damaged {
            let words = "part of the input could not be read: what seems absent may be in it";
            return Some(words.to_owned());
        }
        if let Some(words) = self.facts.unreadable_pairs.between(source, others) {
            return Some(words.to_owned());
        }
        let frames = self.facts.unreadables.of(others.iter().copied().chain([source]));
        frames.map(|frames| format!("the capture has {frames}, which may hold it"))
    }

    /// Returns how what a claim misses may have gone all the same, in words.
    pub fn hidden_ways(
        &self,
        rows: &[usize],
        source: usize,
        to: &[Peer],
        tunnelled: bool,
    ) -> Vec<String> {
        let mut ways: Vec<String> = tunnelled.then(|| TUNNELLED.to_owned()).into_iter().collect();
        let rows = with_ports(self.policy, rows);
        let servers = self.facts.unlisted.servers.iter();
        let servers = servers.filter(|((transport, port), _)| covers(&rows, *transport, *port));
        if let Some(address) = servers.map(|(_, address)| *address).min() {
            ways.push(format!(
                "the same service was reached at {address}, which has no role in the inventory: it may be another address of a listed host"
            ));
        }
        let hosts = to.iter().filter_map(|unit| match unit {
            Peer::Host(host) => Some(*host),
            _ => None,
        });
        let hosts: Vec<usize> = hosts.collect();
        let clients = hosts.iter().filter_map(|host| self.facts.unlisted.clients.get(host));
        let clients =
            clients.flatten().filter(|(transport, port, _)| covers(&rows, *transport, *port));
        if let Some(address) = clients.map(|(.., address)| *address).min() {
            ways.push(format!(
                "{address}, which has no role in the inventory, used the same service: it may be another address of a listed host"
            ));
        }
        ways.extend(self.unread_between(source, &hosts));
        if self.conversations.survey.has_doubtful_clocks() {
            ways.push(CLOCKS.to_owned());
        }
        ways
    }

    /// Returns how a conversation failed: in all of its flows, or in the last ones. A late silence counts only if a
    /// lost answer does not explain it.
    pub fn failing(&self, c: &Conversation) -> Option<Code> {
        let at_last = c.fails_at_last().and_then(|failed| {
            let code = Code::parse(failed.state.name())?;
            let sure = !is_silent(code) || self.view().is_certain_after(failed.chances);
            sure.then_some(code)
        });
        at_last.or_else(|| Code::parse(c.state.name()).filter(|_| c.has_failed()))
    }

    /// Whether a conversation shows that its way works. One that worked once and has failed since no longer counts,
    /// and traffic that anybody could have made up proves nothing.
    pub fn has_worked(&self, c: &Conversation) -> bool {
        c.is_answered()
            && !c.is_made_up()
            && !(c.fails_at_last().is_some() && self.failing(c).is_some())
    }

    /// Returns why a failure that rests on silence may be the capture's own, with the doubt that this is.
    pub fn silence_of(&self, code: Code, hosts: &[usize]) -> Vec<(Doubt, Option<String>)> {
        let mut doubts = Vec::new();
        if !is_silent(code) {
            return doubts;
        }
        if self.view().misses_a_direction() {
            doubts.push((Doubt::Coverage, None));
        }
        if self.conversations.survey.has_doubtful_clocks() {
            doubts.push((Doubt::Clock, Some(CLOCKS.to_owned())));
        }
        let unread = match hosts.split_first() {
            Some((first, others)) => self.unread_between(*first, others),
            None => self.unread_between(usize::MAX, &[]),
        };
        doubts.extend(unread.map(|words| (Doubt::Unread, Some(words))));
        doubts
    }

    /// Returns that the clocks contradict each other, in words, where they do.
    pub fn clock_words(&self) -> Option<String> {
        self.conversations.survey.has_doubtful_clocks().then(|| CLOCKS.to_owned())
    }

    /// Returns how a host was seen, in words.
    pub fn words(&self, unit: Peer) -> Option<String> {
        let Peer::Host(host) = unit else { return None };
        let (name, report) = (&self.policy.inventory.hosts[host].name, &self.hosts[host]);
        let HostActivity { unicast_sent, received, .. } = &report.presence;
        let seconds = self.seconds_of(host);
        Some(match (unicast_sent.0, received.packets.0) {
            (0, 0) => format!("{name} was not seen"),
            (0, received) => {
                format!("{name} was sent {received} packets and not seen sending any to one host")
            }
            (sent, received) => format!(
                "{name} sent {sent} packets to single hosts, {seconds} s from the first to the last, and was sent {received}"
            ),
        })
    }
}

/// The rows among some that are about ports.
pub(super) fn with_ports<'p>(policy: &'p Policy, rows: &[usize]) -> Vec<&'p Row> {
    let rows = rows.iter().map(|row| &policy.matrix.rows[*row]);
    rows.filter(|row| row.transport.has_ports()).collect()
}

fn covers(rows: &[&Row], transport: Transport, port: u16) -> bool {
    rows.iter().any(|row| row.transport == transport && row.ports.contains(&port))
}
