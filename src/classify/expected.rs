//! What the farm has to show: groups of rows that nobody tried although the capture could have seen
//! it, and those that it could not have seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::View;
use super::coverage::{HostReport, Unit, hosts, unlisted, watched};
use super::finding::{End, Finding, service_words};
use super::judge::{Judge, Judged};
use super::verdict::{Code, Doubt, Doubts, Status, Verdict};
use crate::conversation::{Conversation, Conversations, State};
use crate::model::{Max, Merge, Min, Nanos, SECOND, Transport};
use crate::policy::{
    Covers, Expectation, FeatureState, Policy, Quantifier, RoleSet, Row, Scope, Who,
};

/// A trigger counts from so many bytes, ...
const TRIGGER_BYTES: u64 = 20 * 1000;
/// ... so long, and so long before the capture ends, in nanoseconds.
const TRIGGER_NS: Nanos = 30 * SECOND;

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
}

/// A conversation of a group, seen from its source.
struct Attempt {
    to: Unit,
    state: State,
    /// The rows that document it.
    rows: Vec<usize>,
}

/// A trigger, and the hosts it went through: one, or the holders of a virtual address.
type Through = Vec<usize>;

/// What became of the triggers of a row, for one source.
enum Trigger {
    NotSeen,
    /// Only through a virtual address, and another of its holders did what follows.
    AnsweredByHolder,
    /// The group that triggered.
    Seen(String),
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
struct Claim {
    source: usize,
    /// The rows that were due, or would have been.
    rows: Vec<usize>,
    to: Vec<Unit>,
    doubts: Doubts,
    watch_s: u64,
    /// The trigger that made it due.
    trigger: Option<String>,
}

pub(super) struct Assessor<'a> {
    pub(super) judge: &'a Judge<'a>,
    pub(super) policy: &'a Policy,
    pub(super) conversations: &'a Conversations,
    pub(super) judged: &'a [Judged],
    pub(super) view: &'a View,
    hosts: Vec<HostReport>,
    pub(super) rows: Vec<RowReport>,
    attempts: HashMap<(&'a str, usize), Vec<Attempt>>,
    triggers: HashMap<&'a str, Vec<Through>>,
    watched: HashSet<usize>,
    /// Services that somebody reached at an address which the inventory does not list, or lists without
    /// a role: it may be a listed host's other address.
    unlisted: HashMap<(Transport, u16), IpAddr>,
    pub(super) findings: Vec<Finding>,
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
    let mut assessor = Assessor {
        judge,
        policy,
        conversations,
        judged,
        view,
        hosts: hosts(policy, conversations),
        rows: vec![row; policy.matrix.rows.len()],
        attempts: HashMap::new(),
        triggers: HashMap::new(),
        watched: watched(conversations, judged),
        unlisted: unlisted(conversations, judged),
        findings: Vec::new(),
    };
    assessor.collect();
    assessor.failures();
    for rows in policy.matrix.groups.values() {
        assessor.group(rows);
    }
    assessor.statuses();
    Assessed { findings: assessor.findings, rows: assessor.rows, hosts: assessor.hosts }
}

impl<'a> Assessor<'a> {
    /// Sorts documented conversations by row, group and source.
    fn collect(&mut self) {
        let documented = |j: &Judged| j.verdict() == Verdict::Documented;
        let pairs = self.conversations.list.iter().zip(self.judged);
        for (c, j) in pairs.filter(|(_, j)| documented(j)) {
            let matrix = &self.policy.matrix;
            let rows: Vec<usize> = self
                .judge
                .fitting(c)
                .into_iter()
                .filter(|row| self.policy.feature_state(&matrix.rows[*row]) != FeatureState::Off)
                .collect();
            let name = self.policy.label(&j.client, c.subject.client);
            let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for row in rows {
                let report = &mut self.rows[row];
                report.conversations += 1;
                report.visible += u64::from(c.state != State::OneSided);
                report.first.merge(&c.first);
                report.last.merge(&c.last);
                if !report.source_hosts_seen.contains(&name) {
                    report.source_hosts_seen.insert(name.clone());
                }
                groups.entry(matrix.rows[row].group.as_str()).or_default().push(row);
            }
            let through = match j.server.who {
                Who::Host(host) => self.policy.holders(host).to_vec(),
                _ => Vec::new(),
            };
            let to: Vec<Unit> = match j.server.who {
                Who::Service(service) => vec![Unit::Service(service)],
                Who::Host(_) => through.iter().map(|h| Unit::Host(*h)).collect(),
                _ => vec![Unit::Other(c.subject.server)],
            };
            for (group, rows) in groups {
                if !through.is_empty() && self.is_trigger(c) {
                    self.triggers.entry(group).or_default().push(through.clone());
                }
                if let Who::Host(client) = j.client.who {
                    for source in self.policy.holders(client) {
                        let attempts = self.attempts.entry((group, *source)).or_default();
                        let attempt =
                            |to: &Unit| Attempt { to: *to, state: c.state, rows: rows.clone() };
                        attempts.extend(to.iter().map(attempt));
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
        played(row.source) && (row.scope == Scope::Localhost || played(row.destination))
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
    fn is_sending(&self, unit: Unit) -> bool {
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
        let attempts: Vec<&Attempt> = self
            .attempts
            .get(&(group, source))
            .into_iter()
            .flatten()
            .filter(|a| only.is_none_or(|to| a.to == to))
            .collect();
        if attempts.iter().any(|a| a.state.reached() || a.state == State::AnswerOnly) {
            return Silence::Fine;
        }
        if attempts.iter().any(|a| a.state.failed()) {
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
                Trigger::Seen(name) => {
                    trigger = Some(name);
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
        let mut claim = Claim { source, rows, to, doubts: Doubts::default(), watch_s, trigger };
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
        if self.view.watched_s < watch_s {
            return unknown(Code::WindowTooShort, &claim);
        }
        if self.unlisted_way(&claim).is_some() || self.view.misses_a_direction() {
            claim.doubts.add(Doubt::Coverage);
        }
        // In each watch time an exchange would have shown at least two frames.
        let chances = 2 * (self.view.watched_s / watch_s.max(1)).max(1);
        if !self.view.is_certain_after(chances) {
            claim.doubts.add(Doubt::Loss);
        }
        Silence::Missing(claim)
    }

    /// An address without a role where the service of a claim was reached.
    fn unlisted_way(&self, claim: &Claim) -> Option<IpAddr> {
        let rows = claim.rows.iter().map(|row| &self.policy.matrix.rows[*row]);
        rows.filter(|row| row.transport.has_ports()).find_map(|row| {
            let services = self.unlisted.iter();
            let fits = services.filter(|((t, p), _)| *t == row.transport && row.ports.contains(p));
            fits.map(|(_, address)| *address).min()
        })
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
            for through in seen.filter(|through| through.contains(&source)) {
                let answered = through.iter().any(|holder| {
                    let attempts = self.attempts.get(&(group, *holder));
                    *holder != source
                        && attempts.is_some_and(|a| a.iter().any(|a| a.state.reached()))
                });
                if !answered {
                    return Trigger::Seen(name.clone());
                }
                result = Trigger::AnsweredByHolder;
            }
        }
        result
    }

    /// Whether the span covers what a source says to all of `to`: stated (true), inferred (false),
    /// or not.
    fn covers(&self, source: usize, to: &[Unit]) -> Option<bool> {
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

    /// A finding about a claim, without its words.
    fn claimed(&self, code: Code, group: &str, claim: &Claim, any_source: bool) -> Finding {
        let policy = self.policy;
        let matrix = &policy.matrix;
        let host_end = |host: usize| {
            let entry = &policy.inventory.hosts[host];
            let address = entry.addresses.first().map_or_else(String::new, ToString::to_string);
            let party = crate::policy::Party { who: Who::Host(host), roles: entry.roles };
            End::of(policy, &party, &address)
        };
        let roles = |role: fn(&Row) -> usize| {
            claim.rows.iter().fold(RoleSet::default(), |set, row| {
                set.with(matrix.roles[role(&matrix.rows[*row])].members)
            })
        };
        let client = if any_source {
            End::any_of(policy, roles(|r| r.source))
        } else {
            host_end(claim.source)
        };
        let server = match claim.to.as_slice() {
            [Unit::Host(host)] => host_end(*host),
            _ => End::any_of(policy, roles(|r| r.destination)),
        };
        let mut finding = Finding::new(code, client, server);
        finding.severity = self.judge.severity(code, true, claim.doubts);
        finding.doubts = claim.doubts;
        finding.certain = claim.doubts.certain();
        if let Some(row) = claim.rows.first() {
            let row = &matrix.rows[*row];
            finding.transport = row.transport.to_string();
            finding.rule.clone_from(&row.id);
            finding.trace.push(format!("row {} ({}, {})", row.id, row.purpose, row.provenance));
        }
        let mut ports: Vec<String> = Vec::new();
        for port in claim.rows.iter().map(|r| policy.ports_here(&matrix.rows[*r])) {
            if !port.is_empty() && !ports.contains(&port) {
                ports.push(port);
            }
        }
        finding.port = ports.join(";");
        group.clone_into(&mut finding.group);
        if let Some(trigger) = &claim.trigger {
            finding.trace.push(format!(
                "expected because a conversation of {trigger} went through this host"
            ));
        }
        finding.trace.push(format!(
            "watched {} s, the row needs {}; loss at most {:.2} %",
            self.view.watched_s,
            claim.watch_s,
            self.view.miss() * 100.0
        ));
        let coverage = match (&policy.inventory.covers, self.covers(claim.source, &claim.to)) {
            (Some(_), Some(_)) => "the inventory states that the capture covers the pair",
            (Some(_), None) => "the inventory states that the capture does not cover the pair",
            (None, Some(_)) => "the capture covers the pair, as its other traffic shows",
            (None, None) => "nothing shows that the capture covers the pair",
        };
        finding.trace.push(coverage.to_owned());
        if let Some(address) = self.unlisted_way(claim) {
            finding.trace.push(format!(
                "the same service was reached at {address}, which has no role in the inventory: it may be another address of a listed host"
            ));
        }
        finding
    }

    /// What a claim is about, in words.
    fn services(&self, claim: &Claim) -> String {
        let rows = claim.rows.iter().map(|r| &self.policy.matrix.rows[*r]);
        let words: BTreeSet<String> =
            rows.map(|row| service_words(row.transport, &self.policy.ports_here(row))).collect();
        words.into_iter().collect::<Vec<_>>().join(" or ")
    }

    fn never_attempted(&mut self, group: &str, claim: &Claim, any_source: bool) {
        let mut finding = self.claimed(Code::NeverAttempted, group, claim, any_source);
        let (client, server) =
            (finding.client.words_with_roles(), finding.server.words_with_roles());
        let because = if claim.trigger.is_some() { ", though users worked through it" } else { "" };
        finding.message = format!(
            "{client} never opened {} to {server} in {} s watched{because}",
            self.services(claim),
            self.view.watched_s
        );
        finding.action = format!(
            "Check that the service of {} runs and knows where to go, and that nothing on the host itself keeps it from trying",
            finding.client.words()
        );
        finding.identify();
        self.findings.push(finding);
        let name = self.policy.inventory.hosts[claim.source].name.clone();
        for row in &claim.rows {
            self.rows[*row].status = Status::Missing;
            self.rows[*row].source_hosts_missing.insert(name.clone());
        }
    }

    fn not_assessable(&mut self, group: &str, code: Code, claim: &Claim, any_source: bool) {
        let mut finding = self.claimed(code, group, claim, any_source);
        let (client, server) = (finding.client.words(), finding.server.words());
        let minutes = claim.watch_s.div_ceil(60).max(1);
        let features: BTreeSet<&str> = claim
            .rows
            .iter()
            .flat_map(|r| &self.policy.matrix.rows[*r].features)
            .map(String::as_str)
            .filter(|f| !self.policy.inventory.features.contains_key(*f))
            .collect();
        let unseen_end = if self.is_sending(Unit::Host(claim.source)) {
            &finding.server
        } else {
            &finding.client
        };
        let unseen = unseen_end.words();
        let never_seen = match unseen.strip_prefix("any ") {
            Some(roles) => format!("no {roles} was seen sending"),
            None => format!("{unseen} was never seen sending"),
        };
        let (why, action) = match code {
            Code::HostNotSeen => (
                never_seen,
                format!("Capture at the switch port of {unseen} for {minutes} minutes"),
            ),
            Code::PairNotCovered => (
                "nothing shows that the capture covers the pair".to_owned(),
                format!(
                    "Capture at the switch port of {client} for {minutes} minutes, or state in [capture] what the span covers"
                ),
            ),
            Code::OneSidedView => (
                "only one direction of the pair is visible".to_owned(),
                format!("Mirror both directions of the switch port of {client}"),
            ),
            Code::LoopbackOnly => (
                "the farm has no second host of the role".to_owned(),
                format!(
                    "Nothing, if that is so; else list the other hosts, or capture on the loopback interface of {client}"
                ),
            ),
            Code::WindowTooShort => (
                format!("{} s were watched, {} are needed", self.view.watched_s, claim.watch_s),
                format!("Capture for at least {minutes} minutes"),
            ),
            Code::CaptureFiltered => (
                "a capture filter may have hidden it".to_owned(),
                "Capture without a filter".to_owned(),
            ),
            Code::LossTooHigh => (
                format!("the capture lost {:.1} % of its frames", self.view.loss * 100.0),
                "Capture again with a larger buffer or a shorter snaplen".to_owned(),
            ),
            Code::FeatureUnknown => (
                "the inventory does not say whether its feature is in use".to_owned(),
                format!(
                    "Set {} to true or false in [farm.features]",
                    features.into_iter().collect::<Vec<_>>().join(" and ")
                ),
            ),
            _ => (
                "nothing was seen that makes it necessary".to_owned(),
                format!("Capture while somebody works through {client}"),
            ),
        };
        finding.message =
            format!("{} from {client} to {server} cannot be assessed: {why}", self.services(claim));
        finding.action = action;
        finding.identify();
        self.findings.push(finding);
        for row in &claim.rows {
            let reason = &mut self.rows[*row].reason;
            *reason = Some(reason.map_or(code, |first| first.min(code)));
        }
        self.hosts[claim.source].rows_not_assessable += claim.rows.len() as u64;
    }

    /// The status of every row: the first that applies.
    fn statuses(&mut self) {
        for (number, row) in self.policy.matrix.rows.iter().enumerate() {
            let present = self.is_present(row);
            let off = self.policy.feature_state(row) == FeatureState::Off;
            let report = &mut self.rows[number];
            if report.conversations == 0 && row.scope == Scope::Localhost {
                report.reason = Some(Code::LoopbackOnly);
            }
            if report.conversations > 0 && report.visible == 0 {
                report.reason = Some(Code::OneSidedView);
            }
            report.status = match report.status {
                _ if !present => Status::RoleAbsent,
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
