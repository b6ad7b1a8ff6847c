//! Expected traffic: groups of rows that no host tried although the capture could have shown it,
//! and groups that the capture could not have shown.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::absence::{self, DestinationCoverage, Silent};
use super::absence_claims::{AbsenceClaim, GroupId, To};
use super::coverage::Peer;
use super::facts::{JudgedCapture, with_ports};
use super::finding::FindingBook;
use super::judge::{Judge, Judged};
use super::row_counts::{Attempt, ByGroup, Fitting, RowCounts, RowReport, TriggerPath, groups_of};
use super::verdict::{Code, Doubt, Doubts, Status};
use crate::conversation::{Conversations, State};
use crate::model::{Nanos, Transport};
use crate::policy::{Expectation, FeatureState, Policy, RoleSet, Row, Scope};

/// What became of the triggers of a row, for one source.
enum Trigger {
    NotSeen,
    /// A trigger was seen only through a virtual address, and another of its holders did what
    /// follows.
    AnsweredByHolder,
    /// The group that triggered, and the conversation.
    Seen(GroupId, u32),
}

/// What the silence of one source on one group means.
#[derive(Clone, Copy)]
pub(super) enum AbsenceCheck {
    /// The source was not silent, or nothing is due.
    Fine,
    /// The source tried and failed, which the conversations themselves show.
    Failed,
    /// The source should have spoken, and the capture could have shown it.
    Missing(AbsenceClaim),
    /// The source may have spoken unseen.
    Unknown(Code, AbsenceClaim),
}

impl AbsenceCheck {
    /// Combines the checks of the two directions of a pair, one of which is enough.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fine, _) | (_, Self::Fine) => Self::Fine,
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (_, unknown @ Self::Unknown(..)) | (unknown @ Self::Unknown(..), _) => unknown,
            (Self::Missing(_), missing) => missing,
        }
    }

    /// Returns the claim that it makes, with its code.
    pub fn claim(self) -> Option<(Code, AbsenceClaim)> {
        match self {
            Self::Fine | Self::Failed => None,
            Self::Missing(claim) => Some((Code::NeverAttempted, claim)),
            Self::Unknown(code, claim) => Some((code, claim)),
        }
    }
}

pub(super) struct Assessor<'a> {
    pub(super) judge: &'a Judge<'a>,
    pub(super) policy: &'a Policy,
    pub(super) conversations: &'a Conversations,
    pub(super) judged: &'a [Judged],
    pub(super) seen: JudgedCapture<'a>,
    pub(super) rows: Vec<RowReport>,
    pub(super) not_assessable: Vec<u64>,
    /// The rows that document each conversation.
    pub(super) fitting: Vec<Option<Arc<Fitting>>>,
    attempts: ByGroup<Attempt>,
    /// The triggers that went through each host, by group.
    triggers: ByGroup<Arc<TriggerPath>>,
    /// What the hosts and services of some roles have in common, by their position in the claims.
    reaches: RefCell<Vec<Reach>>,
    pub(super) book: RefCell<&'a mut FindingBook>,
    /// Hosts that already have a finding about something missing.
    pub(super) missing: HashSet<usize>,
    /// Descriptions of host addresses that one hardware address took over from another.
    pub(super) moves: Vec<String>,
}

/// What the hosts and services of some roles have in common.
#[derive(Default)]
struct Reach {
    hosts: HashSet<usize, ahash::RandomState>,
    len: usize,
    sending: usize,
    covered: usize,
    sealed_beside: usize,
    unreadable: usize,
    /// The time between the first and the last unicast frame of each host, in seconds, in ascending
    /// order.
    there_s: Vec<Nanos>,
    /// The number of services that were seen sending.
    services: usize,
}

impl<'a> Assessor<'a> {
    /// Returns an assessor that has counted the conversations of each row on `jobs` threads, and
    /// the group of each row.
    pub(super) fn new(
        judge: &'a Judge<'a>,
        seen: JudgedCapture<'a>,
        judged: &'a [Judged],
        book: &'a mut FindingBook,
        jobs: usize,
    ) -> (Self, Vec<GroupId>) {
        let policy = judge.policy;
        let groups_of = groups_of(policy);
        let RowCounts { rows, fitting, attempts, triggers } =
            RowCounts::of(judge, seen, judged, &groups_of, jobs);
        let assessor = Self {
            judge,
            policy,
            conversations: seen.conversations,
            judged,
            seen,
            rows,
            not_assessable: vec![0; policy.inventory.hosts.len()],
            fitting,
            attempts,
            triggers,
            reaches: RefCell::default(),
            book: RefCell::new(book),
            missing: HashSet::new(),
            moves: Vec::new(),
        };
        (assessor, groups_of)
    }

    /// Returns what a source tried of a group, towards one peer or towards all of them.
    pub(super) fn attempts(&self, group: GroupId, source: usize, only: Option<Peer>) -> &[Attempt] {
        let all = self.attempts.get(&(group, source)).map_or(&[][..], Vec::as_slice);
        let Some(to) = only else { return all };
        let from = all.partition_point(|attempt| attempt.to < to);
        let len = all[from..].partition_point(|attempt| attempt.to == to);
        &all[from..from + len]
    }

    /// Returns whether both roles of a row are present.
    fn is_present(&self, row: &Row) -> bool {
        let roles = &self.policy.matrix.roles;
        let present = self.judge.present();
        let played = |role: usize| roles[role].is_any || roles[role].members.intersects(present);
        let anybody = row.scope == Scope::Localhost || row.only.is_some();
        played(row.source) && (anybody || played(row.destination))
    }

    /// Returns the rows of a group that are expected to show traffic.
    pub(super) fn live(&self, rows: &[usize]) -> Vec<usize> {
        let live = rows.iter().copied().filter(|row| {
            let row = &self.policy.matrix.rows[*row];
            row.is_expected()
                && row.scope != Scope::Localhost
                && self.is_present(row)
                && self.policy.feature_state(row) != FeatureState::Off
        });
        live.collect()
    }

    /// Returns the destinations of the given rows, by their position in the claims.
    pub(super) fn destinations(&self, rows: &[usize]) -> u32 {
        let matrix = &self.policy.matrix;
        let roles = rows.iter().fold(RoleSet::default(), |set, row| {
            set.with(matrix.roles[matrix.rows[*row].destination].members)
        });
        let reach = self.book.borrow_mut().claims.reach_of(self.policy, roles);
        let mut reaches = self.reaches.borrow_mut();
        while reaches.len() <= reach as usize {
            let book = self.book.borrow();
            let next = Reach::of(&self.seen, book.claims.reach(reaches.len() as u32));
            reaches.push(next);
        }
        reach
    }

    /// Returns what it means that `source` did not speak to `only`, or to any destination, by the
    /// rows of a group. Without `tried`, the source is taken to have tried nothing.
    pub(super) fn silence(
        &self,
        group: GroupId,
        live: &[usize],
        source: usize,
        only: Option<To>,
        tried: bool,
    ) -> AbsenceCheck {
        let matrix = &self.policy.matrix;
        let roles = self.policy.inventory.hosts[source].roles;
        let mine: Vec<usize> = live
            .iter()
            .copied()
            .filter(|row| matrix.is_source(&matrix.rows[*row], roles))
            .collect();
        if mine.is_empty() {
            return AbsenceCheck::Fine;
        }
        let unit = match only {
            Some(To::Host(host)) => Some(Peer::Host(host as usize)),
            Some(To::Service(service)) => Some(Peer::Service(service as usize)),
            Some(To::AnyOf(_)) | None => None,
        };
        let attempts = if tried { self.attempts(group, source, unit) } else { &[] };
        // Traffic that any host may have forged does not break a silence, but it makes the silence
        // uncertain.
        let tunnelled = attempts.iter().any(|attempt| attempt.tunnelled);
        let attempts = || attempts.iter().filter(|attempt| !attempt.tunnelled);
        if attempts().any(|a| a.answered || a.state == State::AnswerOnly) {
            return AbsenceCheck::Fine;
        }
        if attempts().any(|a| a.failed) {
            return AbsenceCheck::Failed;
        }
        let is_on = |row: &usize| self.policy.feature_state(&matrix.rows[*row]) == FeatureState::On;
        let on: Vec<usize> = mine.iter().copied().filter(is_on).collect();
        let mut trigger = None;
        let mut answered = false;
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
            return AbsenceCheck::Fine;
        }
        let to = only.unwrap_or_else(|| To::AnyOf(self.destinations(&mine)));
        let mut rows = if due.is_empty() { mine.clone() } else { due.clone() };
        let view = self.seen.view();
        let watch = rows.iter().map(|r| view.watch(matrix.rows[*r].watch_s));
        let watch_s = watch.max().unwrap_or(0);
        let mut doubts = Doubts::default();
        let claim = |rows: &[usize], doubts: Doubts| {
            let rows = self.book.borrow_mut().claims.rows_id(rows);
            let source = source as u32;
            let is_of_absence = true;
            AbsenceClaim { source, to, rows, watch_s, trigger, doubts, tunnelled, is_of_absence }
        };
        let unknown = |code| {
            AbsenceCheck::Unknown(
                code,
                AbsenceClaim { is_of_absence: false, ..claim(&rows, doubts) },
            )
        };
        let towards = self.towards(to, source);
        let seen = self.seen;
        let asked = Silent { seen, source, on: &on, due: &due, towards: &towards, watch_s };
        if let Some(code) = absence::fails(&asked, absence::BEFORE) {
            return unknown(code);
        }
        // A group without TCP has nothing to show but datagrams that need no reply.
        let connects = due.iter().any(|row| matrix.rows[*row].transport == Transport::TCP);
        let any = |state| attempts().any(|a| a.state == state);
        if !connects && any(State::OneWay) {
            return AbsenceCheck::Fine;
        }
        if any(State::OneSided) {
            return unknown(Code::OneSidedView);
        }
        // A row that was tried in one direction was tried. Only the rest of the group is silent.
        rows.retain(|row| !attempts().any(|a| a.rows.contains(row)));
        let unknown = |code, doubts| {
            AbsenceCheck::Unknown(
                code,
                AbsenceClaim { is_of_absence: false, ..claim(&rows, doubts) },
            )
        };
        if let Some(code) = absence::fails(&asked, absence::AFTER) {
            let inferred = self.policy.inventory.covers.is_none() && absence::is_late(code);
            if inferred {
                doubts.add(Doubt::Coverage);
            }
            return unknown(code, doubts);
        }
        if self.policy.inventory.covers.is_none() {
            doubts.add(Doubt::Coverage);
        }
        let watched_s = view.watched.seconds_for(watch_s);
        // A host that was there only for a moment had no time for what it does occasionally, or for
        // others to contact it.
        let due_s = watched_s.min(watch_s);
        let in_time = self.seen.was_there_for(Peer::Host(source), due_s)
            && self.any_was_there(to, source, due_s);
        if !in_time || view.misses_a_direction() {
            doubts.add(Doubt::Coverage);
        }
        if tunnelled {
            doubts.add(Doubt::Tunnel);
        }
        self.hidden_ways(&rows, source, to, &mut doubts);
        if rows.iter().all(|row| matrix.rows[*row].is_doubtful()) {
            doubts.add(Doubt::Row);
        }
        // In each watch time, an exchange would have shown at least two frames.
        let chances = 2 * (watched_s / watch_s.max(1)).max(1);
        if !view.is_certain_after(chances) {
            doubts.add(Doubt::Loss);
        }
        AbsenceCheck::Missing(claim(&rows, doubts))
    }

    /// Returns what the destinations that a source should have spoken to have in common.
    pub(super) fn towards(&self, to: To, source: usize) -> DestinationCoverage {
        let seen = &self.seen;
        match to {
            To::Host(host) => {
                let host = host as usize;
                DestinationCoverage {
                    len: 1,
                    sends: seen.is_sending(Peer::Host(host)),
                    all_covered: seen.watches(host).is_some(),
                }
            }
            To::Service(service) => DestinationCoverage {
                len: 1,
                sends: seen.is_sending(Peer::Service(service as usize)),
                all_covered: self.covers_everything(),
            },
            To::AnyOf(reach) => {
                let reach = &self.reaches.borrow()[reach as usize];
                let own = usize::from(reach.hosts.contains(&source));
                let own_if = |holds: bool| if holds { own } else { 0 };
                let len = reach.len - own;
                let sending = own_if(seen.is_sending(Peer::Host(source)));
                let covered = own_if(seen.watches(source).is_some());
                DestinationCoverage {
                    len,
                    sends: reach.sending > sending,
                    all_covered: self.covers_everything() || reach.covered - covered == len,
                }
            }
        }
    }

    fn covers_everything(&self) -> bool {
        matches!(self.policy.inventory.covers, Some(super::CoverageStatement::All))
    }

    /// Returns whether one of the destinations that a source should have spoken to was there for
    /// `due_s` seconds.
    fn any_was_there(&self, to: To, source: usize, due_s: u64) -> bool {
        match to {
            To::Host(host) => self.seen.was_there_for(Peer::Host(host as usize), due_s),
            To::Service(service) => self.seen.is_sending(Peer::Service(service as usize)),
            To::AnyOf(reach) => {
                let reach = &self.reaches.borrow()[reach as usize];
                let long = |there_s: &Nanos| JudgedCapture::is_long_enough(*there_s, due_s);
                let short = reach.there_s.partition_point(|there_s| !long(there_s));
                let own = reach.hosts.contains(&source) && long(&self.seen.seconds_of(source));
                reach.there_s.len() - short > usize::from(own) || reach.services > 0
            }
        }
    }

    /// Adds doubts for the ways in which the traffic that a claim misses may have passed unseen.
    fn hidden_ways(&self, rows: &[usize], source: usize, to: To, doubts: &mut Doubts) {
        let seen = &self.seen;
        let rows = with_ports(self.policy, rows);
        let is_in = |host: usize| match to {
            To::Host(to) => to as usize == host,
            To::Service(_) => false,
            To::AnyOf(reach) => {
                host != source && self.reaches.borrow()[reach as usize].hosts.contains(&host)
            }
        };
        let clients = || match to {
            To::Host(host) => seen.has_unlisted_client(host as usize, &rows),
            To::Service(_) => false,
            To::AnyOf(_) => {
                let mut hosts = seen.hosts_with_unlisted_clients();
                hosts.any(|host| is_in(host) && seen.has_unlisted_client(host, &rows))
            }
        };
        if seen.has_unlisted_server(&rows) || clients() {
            doubts.add(Doubt::Coverage);
        }
        let unreadable_pairs = || {
            let beside = match to {
                To::Host(host) => seen.is_sealed_beside(host as usize),
                To::Service(_) => false,
                To::AnyOf(reach) => {
                    let reach = &self.reaches.borrow()[reach as usize];
                    let own = reach.hosts.contains(&source) && seen.is_sealed_beside(source);
                    reach.sealed_beside > usize::from(own)
                }
            };
            beside || seen.is_sealed_beside(source) || seen.sealed_with(source).any(is_in)
        };
        let unreadable = || match to {
            To::Host(host) => seen.is_unreadable(host as usize),
            To::Service(_) => false,
            To::AnyOf(reach) => {
                let reach = &self.reaches.borrow()[reach as usize];
                let own = reach.hosts.contains(&source) && seen.is_unreadable(source);
                reach.unreadable > usize::from(own)
            }
        };
        if seen.view().damaged || unreadable_pairs() || seen.is_unreadable(source) || unreadable() {
            doubts.add(Doubt::Unread);
        }
        if self.conversations.survey.has_doubtful_clocks() {
            doubts.add(Doubt::Clock);
        }
    }

    /// Returns the groups that trigger a row.
    fn triggers_of(&self, row: &Row) -> impl Iterator<Item = GroupId> {
        let groups = &self.policy.matrix.groups;
        let number = |name: &String| groups.keys().position(|group| group == name);
        row.triggers.iter().filter_map(number).map(|number| number as GroupId)
    }

    /// Returns whether something that triggers a row went through a host.
    pub(super) fn is_triggered(&self, row: &Row, host: usize) -> bool {
        self.triggers_of(row).any(|group| self.triggers.contains_key(&(group, host)))
    }

    /// Returns whether a trigger of a row was seen through a host. If it went through a virtual
    /// address, any of the holders may do what follows.
    fn trigger(&self, group: GroupId, row: &Row, source: usize) -> Trigger {
        let mut result = Trigger::NotSeen;
        for name in self.triggers_of(row) {
            for through in self.triggers.get(&(name, source)).into_iter().flatten() {
                let answered = through.hosts.iter().any(|holder| {
                    let attempts = self.attempts.get(&(group, *holder));
                    *holder != source
                        && attempts.is_some_and(|a| a.iter().any(|a| a.state.reached()))
                });
                if !answered {
                    return Trigger::Seen(name, through.conversation as u32);
                }
                result = Trigger::AnsweredByHolder;
            }
        }
        result
    }

    /// Sets the status of every row to the first that applies.
    pub(super) fn statuses(&mut self) {
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
                // A row whose role is in no list may still have conversations, because a name alone
                // can show a role.
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

impl Reach {
    fn of(seen: &JudgedCapture<'_>, units: &[Peer]) -> Self {
        let mut reach = Self { len: units.len(), ..Self::default() };
        for unit in units {
            let sends = seen.is_sending(*unit);
            reach.sending += usize::from(sends);
            let Peer::Host(host) = unit else {
                reach.services += usize::from(sends);
                continue;
            };
            reach.hosts.insert(*host);
            reach.covered += usize::from(seen.watches(*host).is_some());
            reach.sealed_beside += usize::from(seen.is_sealed_beside(*host));
            reach.unreadable += usize::from(seen.is_unreadable(*host));
            reach.there_s.push(seen.seconds_of(*host));
        }
        reach.there_s.sort_unstable();
        reach
    }
}
