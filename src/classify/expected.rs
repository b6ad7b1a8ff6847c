//! What the farm has to show: groups of rows that nobody tried although the capture could have seen
//! it, and those that it could not have seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::rc::Rc;

use super::View;
use super::coverage::{
    HostReport, Sealed, Unit, Unlisted, Unreadables, hosts, sealed, unlisted, unreadables, watched,
};
use super::finding::Finding;
use super::judge::{ByKind, Judge, Judged};
use super::verdict::{Code, Doubt, Doubts, Status, Verdict};
use crate::conversation::{Conversation, Conversations, State, Taint};
use crate::model::{Max, Merge, Min, Nanos, SECOND, Transport};
use crate::policy::{
    Covers, Expectation, FeatureState, Policy, Quantifier, RoleSet, Row, Scope, Who,
};

/// A trigger counts from so many bytes, ...
const TRIGGER_BYTES: u64 = 20 * 1000;
/// ... so long, and so long before the capture ends, in nanoseconds.
const TRIGGER_NS: Nanos = 30 * SECOND;

/// Why silence under contradicting clocks is not certain.
pub(super) const CLOCKS: &str =
    "the clocks of the capture contradict each other: answers are stamped before what they answer";

/// Seconds that a host's own time may fall short of a row's: watched time is counted in tens of seconds.
const SLACK_S: Nanos = 20;

/// What a row of the matrix came to.
#[derive(Clone, Debug)]
pub struct RowReport {
    /// The first status that applies.
    pub status: Status,
    /// Why it could not be assessed.
    pub reason: Option<Code>,
    /// Conversations that the row documents.
    pub conversations: u64,
    /// Those of them whose other direction the capture could have shown.
    pub visible: u64,
    /// Names, else addresses, of who opened them.
    pub source_hosts_seen: BTreeSet<String>,
    /// Names of who should have.
    pub source_hosts_missing: BTreeSet<String>,
    /// The earliest packet of those conversations.
    pub first: Min,
    /// The latest.
    pub last: Max,
}

/// What [`assess`] gives.
pub(super) struct Assessed {
    pub findings: Vec<Finding>,
    pub rows: Vec<RowReport>,
    pub hosts: Vec<HostReport>,
    pub moves: Vec<String>,
}

/// A conversation of a group, seen from its source.
struct Attempt {
    to: Unit,
    state: State,
    /// The service answered.
    answered: bool,
    /// It failed.
    failed: bool,
    /// It was inside a tunnel that nobody stated.
    tunnelled: bool,
    /// The rows that document it.
    rows: Rc<[usize]>,
}

/// The rows that document conversations of one kind.
pub(super) struct Fitting<'a> {
    /// Whatever their features.
    pub rows: Vec<usize>,
    /// Those whose features are not off, by group.
    groups: BTreeMap<&'a str, Rc<[usize]>>,
}

impl<'a> Fitting<'a> {
    fn new(policy: &'a Policy, rows: Vec<usize>) -> Self {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for row in &rows {
            let entry = &policy.matrix.rows[*row];
            if policy.feature_state(entry) != FeatureState::Off {
                groups.entry(entry.group.as_str()).or_default().push(*row);
            }
        }
        let groups = groups.into_iter().map(|(group, rows)| (group, rows.into())).collect();
        Self { rows, groups }
    }
}

/// What documents each conversation that is documented. Many are of one kind, and are asked for once.
fn fitting<'a>(
    judge: &Judge<'a>,
    conversations: &Conversations,
    judged: &[Judged],
) -> Vec<Option<Rc<Fitting<'a>>>> {
    let mut known = ByKind::default();
    let of = |(c, j): (&Conversation, &Judged)| {
        let new = |rows| Rc::new(Fitting::new(judge.policy, rows));
        let documented = j.verdict() == Verdict::Documented;
        documented.then(|| judge.fitting(conversations, c, j, &mut known, new))
    };
    conversations.list.iter().zip(judged).map(of).collect()
}

/// A conversation that triggers, and the hosts it went through: one, or the holders of a virtual address.
struct Through {
    conversation: usize,
    hosts: Vec<usize>,
}

/// What became of the triggers of a row, for one source.
enum Trigger {
    NotSeen,
    /// Only through a virtual address, and another of its holders did what follows.
    AnsweredByHolder,
    /// The group that triggered, and its conversation.
    Seen(String, usize),
}

/// What the silence of one source on one group means.
enum Silence {
    /// It is none, or nothing is due.
    Fine,
    /// It tried and failed, which the conversations themselves show.
    Failed,
    /// It should have spoken, and could have been seen.
    Missing(Claim),
    /// It may have spoken unseen.
    Unknown(Code, Claim),
}

impl Silence {
    /// What two directions of a pair come to, of which one is enough.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fine, _) | (_, Self::Fine) => Self::Fine,
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (_, unknown @ Self::Unknown(..)) | (unknown @ Self::Unknown(..), _) => unknown,
            (Self::Missing(_), missing) => missing,
        }
    }
}

/// The ground of a claim.
#[derive(Clone)]
pub(super) struct Claim {
    pub source: usize,
    /// The rows that were due, or would have been.
    pub rows: Vec<usize>,
    pub to: Vec<Unit>,
    pub doubts: Doubts,
    /// Why it may be wrong, in words.
    pub hidden: Vec<String>,
    pub watch_s: u64,
    /// The group that made it due, and its conversation.
    pub trigger: Option<(String, usize)>,
}

pub(super) struct Assessor<'a> {
    pub(super) judge: &'a Judge<'a>,
    pub(super) policy: &'a Policy,
    pub(super) conversations: &'a Conversations,
    pub(super) judged: &'a [Judged],
    pub(super) view: &'a View,
    pub(super) hosts: Vec<HostReport>,
    pub(super) rows: Vec<RowReport>,
    /// What documents each conversation.
    pub(super) fitting: Vec<Option<Rc<Fitting<'a>>>>,
    attempts: HashMap<(&'a str, usize), Vec<Attempt>, ahash::RandomState>,
    triggers: HashMap<&'a str, Vec<Through>>,
    watched: HashSet<usize>,
    /// Services that somebody reached at an address which the inventory does not list, or lists without
    /// a role: it may be a listed host's other address.
    unlisted: Unlisted,
    /// What hosts exchanged that could not be read.
    sealed: Sealed,
    /// Frames that could not be understood.
    unreadables: Unreadables,
    pub(super) findings: Vec<Finding>,
    /// Addresses of hosts that one hardware address took over from another, in words.
    pub(super) moves: Vec<String>,
}

/// Assesses failures, silences, rows and hosts.
pub(super) fn assess(
    judge: &Judge<'_>,
    conversations: &Conversations,
    judged: &[Judged],
    view: &View,
) -> Assessed {
    let policy = judge.policy;
    let row = RowReport {
        status: Status::NotExpected,
        reason: None,
        conversations: 0,
        visible: 0,
        source_hosts_seen: BTreeSet::new(),
        source_hosts_missing: BTreeSet::new(),
        first: Min::default(),
        last: Max::default(),
    };
    let reports = hosts(policy, conversations, view);
    let mut assessor = Assessor {
        judge,
        policy,
        conversations,
        judged,
        view,
        unreadables: unreadables(policy, conversations, &reports),
        hosts: reports,
        rows: vec![row; policy.matrix.rows.len()],
        fitting: fitting(judge, conversations, judged),
        attempts: HashMap::default(),
        triggers: HashMap::new(),
        watched: watched(conversations, judged),
        unlisted: unlisted(conversations, judged),
        sealed: sealed(policy, conversations, view),
        findings: Vec::new(),
        moves: Vec::new(),
    };
    assessor.collect();
    assessor.failures();
    for rows in policy.matrix.groups.values() {
        assessor.group(rows);
    }
    assessor.contradictions();
    assessor.statuses();
    let Assessor { findings, rows, hosts, moves, .. } = assessor;
    Assessed { findings, rows, hosts, moves }
}

impl<'a> Assessor<'a> {
    /// Sorts documented conversations by row, group and source.
    fn collect(&mut self) {
        // Whose name stands in which row already.
        let mut named = HashSet::<(usize, Who, Option<IpAddr>), ahash::RandomState>::default();
        for (number, (c, j)) in self.conversations.list.iter().zip(self.judged).enumerate() {
            let Some(fitting) = self.fitting[number].clone() else { continue };
            // Of what nobody saw, or anybody may have made up, no row is seen.
            let tunnelled = c.taints.has(Taint::Tunnel);
            let made_up = c.is_made_up();
            let address = matches!(j.client.who, Who::Stranger).then_some(c.subject.client);
            for row in fitting.groups.values().flat_map(|rows| rows.iter()).filter(|_| !made_up) {
                let report = &mut self.rows[*row];
                report.conversations += 1;
                report.visible += u64::from(c.state != State::OneSided);
                report.first.merge(&c.first);
                report.last.merge(&c.last);
                if named.insert((*row, j.client.who, address)) {
                    let name = self.policy.label(&j.client, c.subject.client);
                    report.source_hosts_seen.insert(name);
                }
            }
            let through = match j.server.who {
                Who::Host(host) => self.policy.holders(host),
                _ => &[],
            };
            let other = match j.server.who {
                Who::Service(service) => Some(Unit::Service(service)),
                Who::Host(_) => None,
                _ => Some(Unit::Other(c.subject.server)),
            };
            let to = || through.iter().map(|host| Unit::Host(*host)).chain(other);
            for (group, rows) in &fitting.groups {
                if !through.is_empty() && !made_up && self.is_trigger(c) {
                    let through = Through { conversation: number, hosts: through.to_vec() };
                    self.triggers.entry(group).or_default().push(through);
                }
                if let Who::Host(client) = j.client.who {
                    for source in self.policy.holders(client) {
                        let attempts = self.attempts.entry((group, *source)).or_default();
                        let attempt = |to| Attempt {
                            to,
                            state: c.state,
                            answered: c.is_answered(),
                            failed: c.has_failed(),
                            tunnelled,
                            rows: Rc::clone(rows),
                        };
                        let attempted = !c.taints.has(Taint::Quoted);
                        attempts.extend(to().filter(|_| attempted).map(attempt));
                    }
                }
            }
        }
    }

    fn is_trigger(&self, c: &Conversation) -> bool {
        let (Some(first), Some(last), Some(end)) = (c.first.get(), c.last.get(), self.view.end)
        else {
            return false;
        };
        c.state == State::Established
            && c.to_server.payload.0 > 0
            && c.to_client.payload.0 > 0
            && c.to_server.bytes.0 + c.to_client.bytes.0 >= TRIGGER_BYTES
            && last.saturating_sub(first) >= TRIGGER_NS
            && end.saturating_sub(last) >= TRIGGER_NS
    }

    /// Whether somebody plays both roles of a row.
    fn is_present(&self, row: &Row) -> bool {
        let (roles, present) = (&self.policy.matrix.roles, self.judge.present());
        let played = |role: usize| roles[role].everybody || roles[role].members.meets(present);
        let anybody = row.scope == Scope::Localhost || row.only.is_some();
        played(row.source) && (anybody || played(row.destination))
    }

    /// Looks for silence on a group.
    fn group(&mut self, rows: &[usize]) {
        let matrix = &self.policy.matrix;
        let live: Vec<usize> = rows
            .iter()
            .copied()
            .filter(|row| {
                let row = &matrix.rows[*row];
                row.is_expected() && row.scope != Scope::Localhost && self.is_present(row)
            })
            .filter(|row| self.policy.feature_state(&matrix.rows[*row]) != FeatureState::Off)
            .collect();
        let Some(first) = live.first() else { return };
        let quantifier = matrix.rows[*first].quantifier;
        let sources = live.iter().fold(RoleSet::default(), |set, row| {
            set.with(matrix.roles[matrix.rows[*row].source].members)
        });
        let sources: Vec<usize> = self.policy.hosts_of(sources).collect();
        let group = matrix.rows[*first].group.as_str();
        let mut silences = Vec::new();
        for source in &sources {
            match quantifier {
                Quantifier::AnyDestination | Quantifier::OneSource => {
                    silences.push((*source, self.silence(group, &live, *source, None)));
                }
                Quantifier::EveryPair | Quantifier::EitherDirection => {
                    let to = self.destinations(&live, *source);
                    if to.is_empty() {
                        silences.push((*source, self.silence(group, &live, *source, None)));
                    }
                    for to in to {
                        let forth = self.silence(group, &live, *source, Some(to));
                        let silence = match to {
                            Unit::Host(other)
                                if quantifier == Quantifier::EitherDirection
                                    && sources.contains(&other) =>
                            {
                                // Each pair is asked for once, in both directions.
                                if other < *source {
                                    continue;
                                }
                                let back = Some(Unit::Host(*source));
                                self.silence(group, &live, other, back).or(forth)
                            }
                            _ => forth,
                        };
                        silences.push((*source, silence));
                    }
                }
            }
        }
        self.settle(group, quantifier, silences);
    }

    /// Turns the silences of a group into findings.
    fn settle(&mut self, group: &str, quantifier: Quantifier, silences: Vec<(usize, Silence)>) {
        if quantifier == Quantifier::OneSource {
            let is_fine = |s: &Silence| matches!(s, Silence::Fine | Silence::Failed);
            if silences.iter().any(|(_, s)| is_fine(s)) {
                return;
            }
            // One source that may have spoken unseen is enough to claim nothing.
            let unknown = silences.iter().find(|(_, s)| matches!(s, Silence::Unknown(..)));
            match unknown.or(silences.first()) {
                Some((_, Silence::Unknown(code, claim))) => {
                    self.not_assessable(group, *code, claim, true)
                }
                Some((_, Silence::Missing(claim))) => self.never_attempted(group, claim, true),
                _ => {}
            }
            return;
        }
        for (_, silence) in silences {
            match silence {
                Silence::Fine | Silence::Failed => {}
                Silence::Missing(claim) => self.never_attempted(group, &claim, false),
                Silence::Unknown(code, claim) => self.not_assessable(group, code, &claim, false),
            }
        }
    }

    /// The hosts and services that a source could go to by some rows; never itself.
    fn destinations(&self, rows: &[usize], source: usize) -> Vec<Unit> {
        let matrix = &self.policy.matrix;
        let roles = rows.iter().fold(RoleSet::default(), |set, row| {
            set.with(matrix.roles[matrix.rows[*row].destination].members)
        });
        let hosts = self.policy.hosts_of(roles).filter(|h| *h != source).map(Unit::Host);
        let services = self.policy.inventory.services.iter().enumerate();
        let services = services.filter(|(_, s)| RoleSet::one(s.role).meets(roles));
        hosts.chain(services.map(|(number, _)| Unit::Service(number))).collect()
    }

    /// Whether a unicast frame of it was seen.
    pub(super) fn is_sending(&self, unit: Unit) -> bool {
        match unit {
            Unit::Host(host) => self.hosts[host].presence.unicast_sent.0 > 0,
            Unit::Service(service) => {
                let addresses = &self.policy.inventory.services[service].addresses;
                let mut presences =
                    addresses.iter().filter_map(|a| self.conversations.survey.presence(*a));
                presences.any(|p| p.unicast_sent.0 > 0)
            }
            Unit::Other(_) => false,
        }
    }

    /// What it means that `source` did not speak to `only`, or to anybody, by the rows of a group.
    fn silence(
        &self,
        group: &'a str,
        live: &[usize],
        source: usize,
        only: Option<Unit>,
    ) -> Silence {
        let matrix = &self.policy.matrix;
        let roles = self.policy.inventory.hosts[source].roles;
        let mine: Vec<usize> = live
            .iter()
            .copied()
            .filter(|row| matrix.is_source(&matrix.rows[*row], roles))
            .collect();
        if mine.is_empty() {
            return Silence::Fine;
        }
        let attempts = self
            .attempts
            .get(&(group, source))
            .into_iter()
            .flatten()
            .filter(|a| only.is_none_or(|to| a.to == to));
        // What anybody may have made up breaks no silence, but one that may be broken is not certain.
        let (tunnelled, attempts): (Vec<&Attempt>, Vec<&Attempt>) =
            attempts.partition(|attempt| attempt.tunnelled);
        if attempts.iter().any(|a| a.answered || a.state == State::AnswerOnly) {
            return Silence::Fine;
        }
        if attempts.iter().any(|a| a.failed) {
            return Silence::Failed;
        }
        let is_on = |row: &usize| self.policy.feature_state(&matrix.rows[*row]) == FeatureState::On;
        let on: Vec<usize> = mine.iter().copied().filter(is_on).collect();
        let (mut trigger, mut answered) = (None, false);
        let mut due = on.clone();
        due.retain(|number| {
            let row = &matrix.rows[*number];
            if row.expectation == Expectation::Steady {
                return true;
            }
            match self.trigger(group, row, source) {
                Trigger::NotSeen => false,
                Trigger::AnsweredByHolder => {
                    answered = true;
                    false
                }
                Trigger::Seen(name, conversation) => {
                    trigger = Some((name, conversation));
                    true
                }
            }
        });
        if due.is_empty() && answered {
            return Silence::Fine;
        }
        let to = only.map_or_else(|| self.destinations(&mine, source), |to| vec![to]);
        let rows = if due.is_empty() { mine.clone() } else { due.clone() };
        let watch = rows.iter().map(|r| self.view.watch(matrix.rows[*r].watch_s));
        let watch_s = watch.max().unwrap_or(0);
        let (doubts, hidden) = (Doubts::default(), Vec::new());
        let mut claim = Claim { source, rows, to, doubts, hidden, watch_s, trigger };
        let unknown = |code, claim: &Claim| Silence::Unknown(code, claim.clone());
        if on.is_empty() {
            return unknown(Code::FeatureUnknown, &claim);
        }
        if due.is_empty() {
            return unknown(Code::TriggerNotSeen, &claim);
        }
        // Datagrams that ask for no reply are all that a group without TCP has to show.
        let connects = due.iter().any(|row| matrix.rows[*row].transport == Transport::TCP);
        let any = |state| attempts.iter().any(|a| a.state == state);
        if !connects && any(State::OneWay) {
            return Silence::Fine;
        }
        if any(State::OneSided) {
            return unknown(Code::OneSidedView, &claim);
        }
        // What was tried one way was tried; the rest of the group is what is silent.
        claim.rows.retain(|row| !attempts.iter().any(|a| a.rows.contains(row)));
        if claim.to.is_empty() && due.iter().any(|row| matrix.rows[*row].only.is_some()) {
            // Nobody of that name was seen, so nobody knows who should have been talked to.
            return unknown(Code::HostNotSeen, &claim);
        }
        if claim.to.is_empty() {
            // A network may play the role: then others are there, but nobody knows which.
            let others = |row: &usize| self.is_played_by_network(matrix.rows[*row].destination);
            let networked = due.iter().any(others);
            return unknown(
                if networked { Code::PairNotCovered } else { Code::LoopbackOnly },
                &claim,
            );
        }
        if !self.is_sending(Unit::Host(source)) || !claim.to.iter().any(|to| self.is_sending(*to)) {
            return unknown(Code::HostNotSeen, &claim);
        }
        match self.covers(source, &claim.to) {
            None => return unknown(Code::PairNotCovered, &claim),
            Some(true) => {}
            Some(false) => claim.doubts.add(Doubt::Coverage),
        }
        if self.view.filtered {
            return unknown(Code::CaptureFiltered, &claim);
        }
        if self.view.loss > self.view.max_loss {
            return unknown(Code::LossTooHigh, &claim);
        }
        let watched_s = self.view.watched.seconds_for(watch_s);
        if watched_s < watch_s {
            return unknown(Code::WindowTooShort, &claim);
        }
        // A host that was there for a moment only had no time to do what it does now and then, or to be asked.
        let due_s = watched_s.min(watch_s);
        let in_time = |unit: &Unit| self.was_there_for(*unit, due_s);
        if !in_time(&Unit::Host(source))
            || !claim.to.iter().any(in_time)
            || self.view.misses_a_direction()
        {
            claim.doubts.add(Doubt::Coverage);
        }
        if !tunnelled.is_empty() {
            claim.doubts.add(Doubt::Tunnel);
            let words = "it was seen inside a tunnel that nobody stated, in which anybody may have made it up";
            claim.hidden.push(words.to_owned());
        }
        for (doubt, words) in self.hidden_ways(&claim) {
            claim.doubts.add(doubt);
            claim.hidden.push(words);
        }
        if claim.rows.iter().all(|row| matrix.rows[*row].is_doubtful()) {
            claim.doubts.add(Doubt::Row);
        }
        // In each watch time an exchange would have shown at least two frames.
        let chances = 2 * (watched_s / watch_s.max(1)).max(1);
        if !self.view.is_certain_after(chances) {
            claim.doubts.add(Doubt::Loss);
        }
        Silence::Missing(claim)
    }

    /// Whether something was seen sending for so many seconds, give or take. Of a service only that it was.
    pub(super) fn was_there_for(&self, unit: Unit, seconds: u64) -> bool {
        let Unit::Host(host) = unit else { return self.is_sending(unit) };
        let there = self.hosts[host].presence.unicast_in.length().unwrap_or_default();
        there / SECOND >= seconds as Nanos - SLACK_S
    }

    /// How what a claim misses may have gone all the same, in words, and which doubt that is.
    fn hidden_ways(&self, claim: &Claim) -> Vec<(Doubt, String)> {
        let rows = claim.rows.iter().map(|row| &self.policy.matrix.rows[*row]);
        let rows: Vec<&Row> = rows.filter(|row| row.transport.has_ports()).collect();
        let covers = |(transport, port): &(Transport, u16)| {
            rows.iter().any(|row| row.transport == *transport && row.ports.contains(port))
        };
        let mut ways = Vec::new();
        let servers = self.unlisted.servers.iter().filter(|(service, _)| covers(service));
        if let Some(address) = servers.map(|(_, address)| *address).min() {
            ways.push((
                Doubt::Coverage,
                format!(
                    "the same service was reached at {address}, which has no role in the inventory: it may be another address of a listed host"
                ),
            ));
        }
        let clients = self.unlisted.clients.iter();
        let clients = clients.filter(|((host, transport, port), _)| {
            covers(&(*transport, *port)) && claim.to.contains(&Unit::Host(*host))
        });
        if let Some(address) = clients.map(|(_, address)| *address).min() {
            ways.push((
                Doubt::Coverage,
                format!(
                    "{address}, which has no role in the inventory, used the same service: it may be another address of a listed host"
                ),
            ));
        }
        let hosts = claim.to.iter().filter_map(|unit| match unit {
            Unit::Host(host) => Some(*host),
            _ => None,
        });
        let hosts: Vec<usize> = hosts.collect();
        ways.extend(self.unread_between(claim.source, &hosts).map(|words| (Doubt::Unread, words)));
        if self.conversations.survey.has_doubtful_clocks() {
            ways.push((Doubt::Clock, CLOCKS.to_owned()));
        }
        ways
    }

    /// Describes the traffic between a host and some others that the audit could not read. This includes encrypted
    /// or truncated packets that any of them exchanged with an unlisted address, and frames that were not decoded.
    pub(super) fn unread_between(&self, source: usize, others: &[usize]) -> Option<String> {
        if self.view.damaged {
            let words = "part of the input could not be read: what seems absent may be in it";
            return Some(words.to_owned());
        }
        if let Some(words) = self.sealed.between(source, others) {
            return Some(words.to_owned());
        }
        let frames = self.unreadables.of(others.iter().copied().chain([source]));
        frames.map(|frames| format!("the capture has {frames}, which may hold it"))
    }

    /// Whether a network of the inventory plays a role.
    fn is_played_by_network(&self, role: usize) -> bool {
        let members = self.policy.matrix.roles[role].members;
        self.policy.inventory.networks.iter().any(|n| n.roles.meets(members))
    }

    /// Whether a trigger of a row was seen through a host. One that went through a virtual address
    /// is answered by any of its holders.
    fn trigger(&self, group: &'a str, row: &Row, source: usize) -> Trigger {
        let mut result = Trigger::NotSeen;
        for name in &row.triggers {
            let seen = self.triggers.get(name.as_str()).into_iter().flatten();
            for through in seen.filter(|through| through.hosts.contains(&source)) {
                let answered = through.hosts.iter().any(|holder| {
                    let attempts = self.attempts.get(&(group, *holder));
                    *holder != source
                        && attempts.is_some_and(|a| a.iter().any(|a| a.state.reached()))
                });
                if !answered {
                    return Trigger::Seen(name.clone(), through.conversation);
                }
                result = Trigger::AnsweredByHolder;
            }
        }
        result
    }

    /// Whether the span covers all that a host says: stated (true), inferred (false), or not.
    pub(super) fn watches(&self, host: usize) -> Option<bool> {
        match &self.policy.inventory.covers {
            Some(Covers::All) => Some(true),
            Some(Covers::Hosts(hosts)) => hosts.contains(&host).then_some(true),
            None => self.watched.contains(&host).then_some(false),
        }
    }

    /// Whether the span covers what a source says to all of `to`: stated (true), inferred (false),
    /// or not.
    pub(super) fn covers(&self, source: usize, to: &[Unit]) -> Option<bool> {
        let all = |covered: &dyn Fn(usize) -> bool| {
            covered(source)
                || to.iter().all(|unit| matches!(unit, Unit::Host(host) if covered(*host)))
        };
        match &self.policy.inventory.covers {
            Some(Covers::All) => Some(true),
            Some(Covers::Hosts(hosts)) => all(&|host| hosts.contains(&host)).then_some(true),
            None => all(&|host| self.watched.contains(&host)).then_some(false),
        }
    }

    /// The status of every row: the first that applies.
    fn statuses(&mut self) {
        for (number, row) in self.policy.matrix.rows.iter().enumerate() {
            let present = self.is_present(row);
            let off = self.policy.feature_state(row) == FeatureState::Off;
            let report = &mut self.rows[number];
            // A loopback capture shows what stays inside the host that it was taken on.
            let on = self.policy.inventory.on.filter(|_| self.conversations.survey.saw_loopback());
            let watched = on.is_some_and(|host| {
                self.policy.matrix.is_source(row, self.policy.inventory.hosts[host].roles)
            });
            if report.conversations == 0 && row.scope == Scope::Localhost && !watched {
                report.reason = Some(Code::LoopbackOnly);
            }
            if report.conversations > 0 && report.visible == 0 {
                report.reason = Some(Code::OneSidedView);
            }
            report.status = match report.status {
                // What a name alone told may be in no list.
                _ if !present && report.conversations == 0 => Status::RoleAbsent,
                _ if off => Status::FeatureOff,
                Status::Missing => Status::Missing,
                _ if report.visible > 0 => Status::Seen,
                _ if report.reason.is_some() => Status::NotAssessable,
                _ => Status::NotExpected,
            };
            if report.status != Status::NotAssessable {
                report.reason = None;
            }
        }
    }
}
