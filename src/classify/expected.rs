//! Checks expected traffic. Finds groups of rows for which a host made no attempt although the
//! capture could have shown one, and groups for which this could not be assessed.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::absence::{self, DestinationCoverage, Silent};
use super::absence_claims::{AbsenceClaim, GroupId, To};
use super::coverage::Peer;
use super::facts::{JudgedCapture, with_ports};
use super::finding::FindingBook;
use super::judge::Judge;
use super::row_counts::{Attempt, ByGroup, Fitting, RowCounts, RowReport, TriggerPath, groups_of};
use super::ruling::Judged;
use super::sites::{HostSite, Sites};
use super::verdict::{Code, Doubt, Doubts, Status};
use super::virtual_addresses::UndeclaredVirtual;
use crate::conversation::{Conversation, Conversations, State, VantageSet};
use crate::model::{Nanos, Transport};
use crate::policy::{Expectation, FeatureState, PartyKind, Policy, RoleSet, Row, Scope};

/// Whether a row was triggered for one source.
enum Trigger {
    NotSeen,
    /// The triggers went through a virtual address, and another holder of the address sent the
    /// traffic that follows.
    AnsweredByHolder,
    Seen(SeenTrigger),
}

/// The evidence that a row was triggered.
struct SeenTrigger {
    /// The group of rows that documents the trigger.
    group: GroupId,
    /// The index of the first conversation that is a trigger.
    conversation: u32,
    /// Whether the triggers had several clients, or at least [`MANY_SESSIONS`] sessions.
    is_strong: bool,
}

/// The number of long sessions of a single client that make a triggered row certain. The bytes and
/// the duration of a session show only that it probably led to other traffic.
const MANY_SESSIONS: u64 = 3;

/// The rows of a group that a source should have used.
struct DueRows {
    /// The rows whose features are on.
    on: Vec<usize>,
    /// The rows in `on` that are expected, because they are steady or their trigger was seen.
    due: Vec<usize>,
    /// The trigger, if a row in `due` needed one: the group of rows that documents it, and the
    /// index of its conversation.
    trigger: Option<(GroupId, u32)>,
    /// Whether all rows in `due` needed a trigger, and each trigger consists of few sessions of one
    /// client.
    is_weakly_triggered: bool,
    /// Whether another holder of a virtual address sent the traffic that follows a trigger.
    answered_by_holder: bool,
}

/// The attempts that are assumed for a source.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// The attempts that the capture shows.
    AsSeen,
    /// No attempts.
    Nothing,
}

/// The result of checking whether one source lacks the traffic of one group.
#[derive(Clone, Copy)]
pub(super) enum AbsenceCheck {
    /// The traffic was seen, or none is expected.
    Fine,
    /// The source tried and failed. Its conversations have findings of their own.
    Failed,
    /// The source should have initiated the traffic, and the capture could have shown it.
    Missing(AbsenceClaim),
    /// Whether the traffic is missing could not be assessed, for the reason that the code gives.
    Unknown(Code, AbsenceClaim),
}

impl AbsenceCheck {
    /// Combines the checks of the two directions of a pair. Traffic in one direction is enough.
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Fine, _) | (_, Self::Fine) => Self::Fine,
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (_, unknown @ Self::Unknown(..)) | (unknown @ Self::Unknown(..), _) => unknown,
            (Self::Missing(_), missing) => missing,
        }
    }

    /// Returns the claim with its code; `None` if nothing is claimed.
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
    /// The triggers that each host served, by group.
    triggers: ByGroup<Arc<TriggerPath>>,
    /// Summaries of the lists of hosts and services that absence claims refer to, with the same
    /// indices.
    summaries: RefCell<Vec<PeerSummary>>,
    pub(super) book: RefCell<&'a mut FindingBook>,
    /// The hosts that hold an address which may be virtual although the inventory does not say so.
    /// Traffic that seems to be missing from one of them may have come from another.
    sharing: BTreeSet<usize>,
    /// Hosts that already have a finding about missing traffic.
    pub(super) missing: HashSet<usize>,
    /// The hosts whose addresses another machine may have used.
    replaced: BTreeSet<usize>,
    /// The sites that the hosts belong to.
    pub(super) sites: Sites,
    /// Descriptions of host addresses that one hardware address took over from another.
    pub(super) moves: BTreeMap<IpAddr, String>,
    /// The addresses of hosts about which a conflict may have been missed, because not all times of
    /// their claims were kept; with the names of the hosts.
    pub(super) forgotten_claims: BTreeMap<IpAddr, String>,
}

/// Totals for a list of hosts and services.
#[derive(Default)]
struct PeerSummary {
    hosts: HashSet<usize, ahash::RandomState>,
    len: usize,
    sending: usize,
    covered: usize,
    /// Whether a network of the inventory also has a destination role.
    is_in_network: bool,
    /// The named vantage points that saw at least one of these hosts and services.
    seen_from: VantageSet,
    unreadable_with_unlisted: usize,
    undecoded: usize,
    with_unseen_version: usize,
    /// The number of hosts by what is known about their sites.
    sites: BTreeMap<HostSite, usize>,
    /// The longest time for which each host sent unicast frames without a long pause, in seconds,
    /// with the host. The longest time comes first.
    there_s: Vec<(Nanos, usize)>,
    /// The number of services from which the capture shows unicast packets.
    services: usize,
}

impl<'a> Assessor<'a> {
    /// Counts the conversations of each row on `jobs` threads. Returns the assessor and the group
    /// of each row.
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
        let sites = Sites::new(policy, &attempts);
        let mut assessor = Self {
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
            summaries: RefCell::default(),
            book: RefCell::new(book),
            sharing: UndeclaredVirtual::all(policy, seen.conversations)
                .into_iter()
                .flat_map(|shared| shared.holders.into_iter().chain([shared.host]))
                .collect(),
            missing: HashSet::new(),
            replaced: BTreeSet::new(),
            sites,
            moves: BTreeMap::new(),
            forgotten_claims: BTreeMap::new(),
        };
        assessor.replaced = assessor.replaced_hosts();
        (assessor, groups_of)
    }

    /// Returns the attempts of a source on the rows of a group, to one peer or to all peers.
    pub(super) fn attempts(&self, group: GroupId, source: usize, only: Option<Peer>) -> &[Attempt] {
        let all = self.attempts.get(&(group, source)).map_or(&[][..], Vec::as_slice);
        let Some(to) = only else { return all };
        let from = all.partition_point(|attempt| attempt.to < to);
        let len = all[from..].partition_point(|attempt| attempt.to == to);
        &all[from..from + len]
    }

    /// Returns whether both roles of a row occur in the inventory. The destination role does not
    /// matter if the row is for traffic inside a host or for a particular name or address.
    fn is_present(&self, row: &Row) -> bool {
        let roles = &self.policy.matrix.roles;
        let present = self.judge.present();
        let played = |role: usize| roles[role].is_any || roles[role].members.intersects(present);
        let anybody = row.scope == Scope::Localhost || row.only.is_some();
        played(row.source) && (anybody || played(row.destination))
    }

    /// Returns the rows of a group that are expected to show traffic.
    pub(super) fn expected_rows(&self, rows: &[usize]) -> Vec<usize> {
        let expected = rows.iter().copied().filter(|row| {
            let row = &self.policy.matrix.rows[*row];
            row.is_expected()
                && row.scope != Scope::Localhost
                && self.is_present(row)
                && self.policy.feature_state(row) != FeatureState::Off
        });
        expected.collect()
    }

    /// Returns the index of the list of destinations of the given rows, and summarizes the list.
    pub(super) fn destinations(&self, rows: &[usize]) -> u32 {
        let matrix = &self.policy.matrix;
        let roles = rows.iter().fold(RoleSet::default(), |set, row| {
            set.with(matrix.roles[matrix.rows[*row].destination].members)
        });
        let list = self.book.borrow_mut().claims.peer_list_of(self.policy, roles);
        let mut summaries = self.summaries.borrow_mut();
        if summaries.len() == list as usize {
            let book = self.book.borrow();
            let peers = book.claims.peer_list(list);
            let is_in_network = self.seen.is_in_network(roles);
            let summary = PeerSummary::of(&self.seen, &self.sites, peers);
            let next = PeerSummary { is_in_network, ..summary };
            summaries.push(next);
        }
        list
    }

    /// Checks whether traffic from `source` is missing on the expected rows of a group. The
    /// destination is `only`, or else any destination of these rows.
    pub(super) fn silence(
        &self,
        group: GroupId,
        expected: &[usize],
        source: usize,
        only: Option<To>,
        tried: Tried,
    ) -> AbsenceCheck {
        let matrix = &self.policy.matrix;
        let roles = self.policy.inventory.hosts[source].roles;
        let is_of_source = |row: &usize| matrix.is_source(&matrix.rows[*row], roles);
        let own_rows: Vec<usize> = expected.iter().copied().filter(is_of_source).collect();
        if own_rows.is_empty() {
            return AbsenceCheck::Fine;
        }
        let to = only.unwrap_or_else(|| To::AnyOf(self.destinations(&own_rows)));
        if self.are_sites(source, to, HostSite::differs) {
            return AbsenceCheck::Fine;
        }
        let attempts = match tried {
            Tried::AsSeen => self.attempts(group, source, only.and_then(To::peer)),
            Tried::Nothing => &[],
        };
        // The servers of an aggregated attempt may include this destination, so such attempts
        // count, too.
        let to_several = only.map_or(&[][..], |_| self.attempts(group, source, None));
        let to_several = to_several.iter().filter(|attempt| attempt.to_several);
        let attempts: Vec<&Attempt> = attempts.iter().chain(to_several).collect();
        // Traffic that any host could have forged is not an attempt, but it makes the absence
        // uncertain.
        let is_tunnelled = |attempt: &&Attempt| attempt.tunnelled;
        let tunnelled = attempts.iter().any(is_tunnelled);
        let attempts: Vec<&Attempt> =
            attempts.into_iter().filter(|attempt| !is_tunnelled(attempt)).collect();
        if attempts.iter().any(|a| a.answered || a.state == State::AnswerOnly) {
            return AbsenceCheck::Fine;
        }
        if attempts.iter().any(|a| a.failed) {
            return AbsenceCheck::Failed;
        }
        let DueRows { on, due, trigger, is_weakly_triggered, answered_by_holder } =
            self.due_rows(group, &own_rows, source);
        if due.is_empty() && answered_by_holder {
            return AbsenceCheck::Fine;
        }
        let rows = if due.is_empty() { &own_rows } else { &due };
        let view = self.seen.view();
        let watch = rows.iter().map(|row| view.watch(matrix.rows[*row].watch_s));
        let silent = Silent {
            seen: self.seen,
            source,
            on: &on,
            due: &due,
            to,
            towards: &self.towards(to, source),
            watch_s: watch.max().unwrap_or(0),
            may_serve_itself: only.is_none() && self.may_serve_itself(source, &own_rows),
            trigger,
            is_weakly_triggered,
            tunnelled,
        };
        self.check_absence(&silent, &attempts, rows)
    }

    /// Returns whether a source of some rows also has the destination role of one of them. Traffic
    /// between hosts with the same role does not stay inside a host.
    pub(super) fn may_serve_itself(&self, source: usize, rows: &[usize]) -> bool {
        let matrix = &self.policy.matrix;
        let roles = self.policy.inventory.hosts[source].roles;
        rows.iter().map(|row| &matrix.rows[*row]).any(|row| {
            let destination = &matrix.roles[row.destination];
            row.source != row.destination
                && !destination.is_any
                && destination.members.intersects(roles)
        })
    }

    /// Returns the rows of a group that a source should have used, and what triggered them.
    fn due_rows(&self, group: GroupId, rows: &[usize], source: usize) -> DueRows {
        let matrix = &self.policy.matrix;
        let is_on = |row: &usize| self.policy.feature_state(&matrix.rows[*row]) == FeatureState::On;
        let on: Vec<usize> = rows.iter().copied().filter(is_on).collect();
        let mut trigger = None;
        let mut is_certainly_due = false;
        let mut answered_by_holder = false;
        let mut due = on.clone();
        due.retain(|number| {
            let row = &matrix.rows[*number];
            if row.expectation == Expectation::Steady {
                is_certainly_due = true;
                return true;
            }
            match self.trigger(group, row, source) {
                Trigger::NotSeen => false,
                Trigger::AnsweredByHolder => {
                    answered_by_holder = true;
                    false
                }
                Trigger::Seen(seen) => {
                    trigger = Some((seen.group, seen.conversation));
                    is_certainly_due |= seen.is_strong;
                    true
                }
            }
        });
        let is_weakly_triggered = trigger.is_some() && !is_certainly_due;
        DueRows { on, due, trigger, is_weakly_triggered, answered_by_holder }
    }

    /// Checks the conditions of absence for `rows`, on which no attempt was answered.
    fn check_absence(
        &self,
        silent: &Silent<'_>,
        attempts: &[&Attempt],
        rows: &[usize],
    ) -> AbsenceCheck {
        if let Some(code) = absence::fails(silent, absence::BEFORE) {
            return self.unknown(code, silent, rows, Doubts::default());
        }
        // If no expected row uses TCP, one-way datagrams are sufficient, because they may need no
        // reply.
        let matrix = &self.policy.matrix;
        let connects = silent.due.iter().any(|row| matrix.rows[*row].transport == Transport::TCP);
        let has_state = |state| attempts.iter().any(|attempt| attempt.state == state);
        if !connects && has_state(State::OneWay) {
            return AbsenceCheck::Fine;
        }
        if has_state(State::OneSided) {
            return self.unknown(Code::OneSidedView, silent, rows, Doubts::default());
        }
        // One-way traffic counts as an attempt, so the claim excludes the rows that document it. If
        // a host was contacted directly, the claim also excludes broadcasts to the same port,
        // because it names only transport and port.
        let tried = || attempts.iter().flat_map(|attempt| attempt.rows.iter().copied());
        let was_tried = |row: &usize| {
            let own = &matrix.rows[*row];
            tried().any(|number| {
                let tried = &matrix.rows[number];
                let is_direct = tried.scope != Scope::Broadcast;
                number == *row
                    || is_direct && (tried.transport, &tried.ports) == (own.transport, &own.ports)
            })
        };
        let rows: Vec<usize> = rows.iter().copied().filter(|row| !was_tried(row)).collect();
        // Traffic that the rows do not document, for example to a single host instead of a
        // multicast address, has findings of its own. It shows that the hosts do communicate.
        if self.has_contacted(silent.source, silent.to, &rows) {
            return AbsenceCheck::Fine;
        }
        if let Some(code) = absence::fails(silent, absence::AFTER) {
            let mut doubts = Doubts::default();
            if self.policy.inventory.covers.is_none() && absence::is_late(code) {
                doubts.add(Doubt::Coverage);
            }
            return self.unknown(code, silent, &rows, doubts);
        }
        let doubts = self.doubts_of_absence(silent, &rows);
        AbsenceCheck::Missing(self.claim_of(silent, &rows, doubts))
    }

    /// Returns whether a source sent packets with the transport and a port of a multicast row
    /// directly to one of the destinations.
    fn has_contacted(&self, source: usize, to: To, rows: &[usize]) -> bool {
        let rows = rows.iter().map(|row| &self.policy.matrix.rows[*row]);
        let rows: Vec<&Row> = rows.filter(|row| !row.multicast.is_empty()).collect();
        let addresses = &self.policy.inventory.hosts[source].addresses;
        !rows.is_empty()
            && addresses.iter().any(|address| {
                let own = self.conversations.of_client(*address);
                let mut own = self.conversations.list[own.clone()].iter().zip(&self.judged[own]);
                own.any(|(c, j)| {
                    let subject = &c.subject;
                    let fits = |row: &&Row| {
                        row.transport == subject.transport && row.ports.contains(&subject.port)
                    };
                    let is_to = matches!(j.server.kind, PartyKind::Host(host)
                        if self.is_destination(host, source, to));
                    is_to && !c.is_made_up() && rows.iter().any(fits)
                })
            })
    }

    /// Returns a claim of absence for some rows.
    fn claim_of(&self, silent: &Silent<'_>, rows: &[usize], doubts: Doubts) -> AbsenceClaim {
        AbsenceClaim {
            source: silent.source as u32,
            to: silent.to,
            rows: self.book.borrow_mut().claims.rows_id(rows),
            watch_s: silent.watch_s,
            trigger: silent.trigger,
            doubts,
            is_weakly_triggered: silent.is_weakly_triggered,
            tunnelled: silent.tunnelled,
            is_of_absence: true,
        }
    }

    /// Returns the claim that the traffic of `rows` could not be assessed, with the reason `code`.
    fn unknown(
        &self,
        code: Code,
        silent: &Silent<'_>,
        rows: &[usize],
        doubts: Doubts,
    ) -> AbsenceCheck {
        let claim = self.claim_of(silent, rows, doubts);
        AbsenceCheck::Unknown(code, AbsenceClaim { is_of_absence: false, ..claim })
    }

    /// Returns the reasons why it is not certain that the traffic of `rows` is missing, although
    /// all conditions of absence hold.
    fn doubts_of_absence(&self, silent: &Silent<'_>, rows: &[usize]) -> Doubts {
        let Silent { source, to, watch_s, .. } = *silent;
        let view = self.seen.view();
        let mut doubts = self.doubts_of_hidden_traffic(rows, source, to);
        // A host that was active only briefly had no time for occasional traffic, and others had no
        // time to contact it.
        let due_s = silent.watched_s().min(watch_s);
        let in_time = self.seen.was_there_for(Peer::Host(source), due_s)
            && self.any_was_there(to, source, due_s);
        let is_shared = self.may_share(source)
            || self.sharing.iter().any(|host| self.is_destination(*host, source, to))
            || self.replaced.iter().any(|host| self.is_destination(*host, source, to));
        if self.policy.inventory.covers.is_none()
            || is_shared
            || self.is_forwarded(silent, rows)
            || self.is_out_of_place(source, to)
            || !in_time
            || view.misses_a_direction()
            || view.has_short_series(watch_s)
        {
            doubts.add(Doubt::Coverage);
        }
        let is_among_peers = rows.iter().any(|row| {
            let row = &self.policy.matrix.rows[*row];
            let [from, to] =
                [row.source, row.destination].map(|role| &self.policy.matrix.roles[role]);
            !to.is_any && from.members.intersects(to.members)
        });
        let is_about_pair = matches!(to, To::Host(_)) || is_among_peers;
        if is_about_pair && self.are_sites(source, to, |own, other| !own.is_same(other)) {
            doubts.add(Doubt::Site);
        }
        if silent.tunnelled {
            doubts.add(Doubt::Tunnel);
        }
        if self.seen.has_aggregated(source) {
            doubts.add(Doubt::Aggregated);
        }
        if silent.is_weakly_triggered
            || self.may_pause(silent.watched_s(), rows)
            || rows.iter().all(|row| self.policy.matrix.rows[*row].is_doubtful())
        {
            doubts.add(Doubt::Row);
        }
        if !view.is_certain_after(view.chances(watch_s)) {
            doubts.add(Doubt::Loss);
        }
        doubts
    }

    /// Returns whether the traffic of a row may pause for longer than it was watched. A user who
    /// states the required watch time knows how often the traffic occurs.
    fn may_pause(&self, watched_s: u64, rows: &[usize]) -> bool {
        let pauses = rows.iter().map(|row| self.policy.matrix.rows[*row].pause_s);
        self.seen.view().min_watch.is_none() && pauses.max().is_some_and(|pause| watched_s < pause)
    }

    /// Returns whether a relation holds between the site of a source and those of all destinations.
    /// It holds only if there is a destination and all destinations are listed hosts.
    fn are_sites(
        &self,
        source: usize,
        to: To,
        relation: impl Fn(HostSite, HostSite) -> bool,
    ) -> bool {
        let own = self.sites.of(source);
        match to {
            To::Host(host) => relation(own, self.sites.of(host as usize)),
            To::Service(_) => false,
            To::AnyOf(list) => {
                let peers = &self.summaries.borrow()[list as usize];
                let count = |site: &HostSite| peers.sites.get(site).copied().unwrap_or(0);
                let others = peers.hosts.len() - usize::from(peers.hosts.contains(&source));
                let is_own = |site: &HostSite| *site == own && peers.hosts.contains(&source);
                // The source itself is not a destination.
                let mut sites = peers.sites.keys().filter(|site| !is_own(site) || count(site) > 1);
                others > 0
                    && peers.len == peers.hosts.len()
                    && !peers.is_in_network
                    && sites.all(|site| relation(own, *site))
            }
        }
    }

    /// Returns whether the capture was probably made on a host that has no part in the missing
    /// traffic.
    fn is_out_of_place(&self, source: usize, to: To) -> bool {
        match to {
            To::Host(host) => {
                self.seen.place_elsewhere(source, std::iter::once(host as usize)).is_some()
            }
            To::Service(_) => self.seen.is_not_on_place(source),
            To::AnyOf(list) => {
                let peers = &self.summaries.borrow()[list as usize];
                let has_others = peers.len > peers.hosts.len() || peers.is_in_network;
                has_others && self.seen.is_not_on_place(source)
                    || self.seen.place_elsewhere(source, peers.hosts.iter().copied()).is_some()
            }
        }
    }

    /// Returns whether a client whose session should have led to the missing traffic reached
    /// another host with the destination role itself. A load balancer can forward packets with the
    /// address of the client.
    fn is_forwarded(&self, silent: &Silent<'_>, rows: &[usize]) -> bool {
        let Some((group, _)) = silent.trigger else { return false };
        let triggers = self.triggers.get(&(group, silent.source)).into_iter().flatten();
        let mut clients =
            triggers.map(|trigger| self.conversations.list[trigger.conversation].subject.client);
        let is_elsewhere = |(c, j): (&Conversation, &Judged)| {
            let Some(host) = j.server.host().filter(|_| c.state.reached() && !c.is_made_up())
            else {
                return false;
            };
            let own = &self.policy.inventory.hosts[host];
            let is_source = host == silent.source || own.held_by.contains(&silent.source);
            !is_source
                && rows.iter().map(|row| &self.policy.matrix.rows[*row]).any(|row| {
                    row.transport == c.subject.transport
                        && row.ports.contains(&c.subject.port)
                        && self.policy.matrix.is_destination(row, own.roles)
                })
        };
        clients.any(|client| {
            let own = self.conversations.of_client(client);
            self.conversations.list[own.clone()].iter().zip(&self.judged[own]).any(is_elsewhere)
        })
    }

    /// Returns how completely the capture shows the destinations that a source should have
    /// contacted.
    pub(super) fn towards(&self, to: To, source: usize) -> DestinationCoverage {
        let may_use_unseen_version = self.seen.has_unseen_version(source)
            && self.any_destination(
                source,
                to,
                |peers| peers.with_unseen_version,
                |host| self.seen.has_unseen_version(host),
            );
        let seen = &self.seen;
        match to {
            To::Host(host) => {
                let host = host as usize;
                DestinationCoverage {
                    len: 1,
                    sends: seen.is_sending(Peer::Host(host)),
                    all_covered: seen.watches(host).is_some(),
                    seen_from: seen.seen_from(Peer::Host(host)),
                    may_use_unseen_version,
                }
            }
            To::Service(service) => DestinationCoverage {
                len: 1,
                sends: seen.is_sending(Peer::Service(service as usize)),
                all_covered: self.covers_everything(),
                seen_from: seen.seen_from(Peer::Service(service as usize)),
                may_use_unseen_version,
            },
            To::AnyOf(list) => {
                let peers = &self.summaries.borrow()[list as usize];
                let own = usize::from(peers.hosts.contains(&source));
                let own_if = |holds: bool| if holds { own } else { 0 };
                let len = peers.len - own;
                let sending = own_if(seen.is_sending(Peer::Host(source)));
                let covered = own_if(seen.watches(source).is_some());
                DestinationCoverage {
                    len,
                    sends: peers.sending > sending,
                    // The hosts of a network are not listed, so the capture may not cover them.
                    all_covered: self.covers_everything()
                        || peers.covered - covered == len && !peers.is_in_network,
                    seen_from: peers.seen_from,
                    may_use_unseen_version,
                }
            }
        }
    }

    fn covers_everything(&self) -> bool {
        matches!(self.policy.inventory.covers, Some(super::CoverageStatement::All))
    }

    /// Returns whether one of the destinations that a source should have contacted was active for
    /// `due_s` seconds while the source was active, too. For a service, one unicast frame is
    /// enough.
    fn any_was_there(&self, to: To, source: usize, due_s: u64) -> bool {
        /// The maximum number of hosts that are compared with a source. Of many hosts, those that
        /// were active longest are compared.
        const MOST: usize = 64;
        match to {
            To::Host(host) => self.seen.were_there_together(source, host as usize, due_s),
            To::Service(service) => self.seen.is_sending(Peer::Service(service as usize)),
            To::AnyOf(list) => {
                let peers = &self.summaries.borrow()[list as usize];
                let is_long =
                    |(there_s, _): &&(Nanos, usize)| JudgedCapture::is_long_enough(*there_s, due_s);
                let others = peers.there_s.iter().take_while(is_long).map(|(_, host)| *host);
                let mut others = others.filter(|host| *host != source).take(MOST);
                peers.services > 0
                    || others.any(|host| self.seen.were_there_together(source, host, due_s))
            }
        }
    }

    /// Returns the doubts that arise because traffic that seems to be missing may have passed
    /// without being seen.
    pub(super) fn doubts_of_hidden_traffic(&self, rows: &[usize], source: usize, to: To) -> Doubts {
        let seen = &self.seen;
        let mut doubts = Doubts::default();
        let is_destination = |host| self.is_destination(host, source, to);
        if seen.tunnel_peers(source, rows).any(is_destination) {
            doubts.add(Doubt::Tunnel);
        }
        let is_mixed_up = seen.mixed_up_host(rows, source).is_some();
        let is_multicast_elsewhere = seen.multicast_from_elsewhere(rows).is_some();
        let rows = with_ports(self.policy, rows);
        if is_mixed_up
            || is_multicast_elsewhere
            || seen.has_unlisted_server(&rows)
            || seen.is_misdirected(source, &rows)
            || seen.has_moved()
            || self.has_unlisted_client(&rows, source, to)
        {
            doubts.add(Doubt::Coverage);
        }
        let unreadable = self.any_destination(
            source,
            to,
            |peers| peers.unreadable_with_unlisted,
            |host| seen.has_unreadable_with_unlisted(host),
        );
        let undecoded = self.any_destination(
            source,
            to,
            |peers| peers.undecoded,
            |host| seen.has_undecoded(host),
        );
        if seen.view().unread_of_all().is_some()
            || unreadable
            || seen.has_unreadable_with_unlisted(source)
            || seen.unreadable_peers(source).any(is_destination)
            || seen.has_undecoded(source)
            || undecoded
        {
            doubts.add(Doubt::Unread);
        }
        if self.conversations.index.has_doubtful_clocks() {
            doubts.add(Doubt::Clock);
        }
        doubts
    }

    /// Returns whether traffic from the addresses of a host may come from other machines: the host
    /// shares an address with others although the inventory does not say so, or another machine
    /// took over an address.
    pub(super) fn may_share(&self, host: usize) -> bool {
        self.sharing.contains(&host) || self.replaced.contains(&host)
    }

    /// Returns whether a source should have contacted a host.
    fn is_destination(&self, host: usize, source: usize, to: To) -> bool {
        match to {
            To::Host(to) => to as usize == host,
            To::Service(_) => false,
            To::AnyOf(list) => {
                host != source && self.summaries.borrow()[list as usize].hosts.contains(&host)
            }
        }
    }

    /// Returns whether an unlisted address used a service of `rows` on a host that a source should
    /// have contacted.
    fn has_unlisted_client(&self, rows: &[&Row], source: usize, to: To) -> bool {
        match to {
            To::Host(host) => self.seen.has_unlisted_client(host as usize, rows),
            To::Service(_) => false,
            To::AnyOf(_) => {
                let mut hosts = self.seen.hosts_with_unlisted_clients();
                hosts.any(|host| {
                    self.is_destination(host, source, to)
                        && self.seen.has_unlisted_client(host, rows)
                })
            }
        }
    }

    /// Returns whether `holds` is true for any host that a source should have contacted. For a list
    /// of hosts, `count` returns the number of hosts for which `holds` is true.
    fn any_destination(
        &self,
        source: usize,
        to: To,
        count: fn(&PeerSummary) -> usize,
        holds: impl Fn(usize) -> bool,
    ) -> bool {
        match to {
            To::Host(host) => holds(host as usize),
            To::Service(_) => false,
            To::AnyOf(list) => {
                let peers = &self.summaries.borrow()[list as usize];
                let own = peers.hosts.contains(&source) && holds(source);
                count(peers) > usize::from(own)
            }
        }
    }

    /// Returns the groups of rows whose traffic triggers a row.
    fn triggers_of(&self, row: &Row) -> impl Iterator<Item = GroupId> {
        let groups = &self.policy.matrix.groups;
        let number = |name: &String| groups.keys().position(|group| group == name);
        row.triggers.iter().filter_map(number).map(|number| number as GroupId)
    }

    /// Returns whether a host served a conversation that triggers a row.
    pub(super) fn is_triggered(&self, row: &Row, host: usize) -> bool {
        self.triggers_of(row).any(|group| self.triggers.contains_key(&(group, host)))
    }

    /// Returns whether a host served a trigger of a row. If the trigger went through a virtual
    /// address, any holder of the address may send the traffic that follows.
    fn trigger(&self, group: GroupId, row: &Row, source: usize) -> Trigger {
        let mut seen: Option<SeenTrigger> = None;
        let mut answered_by_holder = false;
        let mut clients = HashSet::new();
        let mut sessions = 0;
        for name in self.triggers_of(row) {
            for through in self.triggers.get(&(name, source)).into_iter().flatten() {
                let answered = through.hosts.iter().any(|holder| {
                    let attempts = self.attempts.get(&(group, *holder));
                    *holder != source
                        && attempts.is_some_and(|a| a.iter().any(|a| a.state.reached()))
                });
                if answered {
                    answered_by_holder = true;
                    continue;
                }
                let conversation = &self.conversations.list[through.conversation];
                clients.insert(conversation.subject.client);
                sessions += u64::from(conversation.long_sessions);
                // Any holder of a virtual address may have served the sessions.
                let is_strong =
                    through.hosts.len() == 1 && (clients.len() > 1 || sessions >= MANY_SESSIONS);
                let first = through.conversation as u32;
                let seen =
                    seen.get_or_insert(SeenTrigger { group: name, conversation: first, is_strong });
                seen.is_strong = is_strong;
                if is_strong {
                    break;
                }
            }
        }
        match seen {
            Some(seen) => Trigger::Seen(seen),
            None if answered_by_holder => Trigger::AnsweredByHolder,
            None => Trigger::NotSeen,
        }
    }

    /// Sets the status of every row to the first status that applies.
    pub(super) fn statuses(&mut self) {
        for (number, row) in self.policy.matrix.rows.iter().enumerate() {
            let present = self.is_present(row);
            let off = self.policy.feature_state(row) == FeatureState::Off;
            let report = &mut self.rows[number];
            // Traffic inside a host is watched only if a loopback capture was taken on a host with
            // the row's source role.
            let on = self.policy.inventory.on.filter(|_| self.conversations.index.saw_loopback());
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
                // A row may have conversations although one of its roles does not occur in the
                // inventory, because a server name alone can show that a server has a role.
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

impl PeerSummary {
    fn of(seen: &JudgedCapture<'_>, sites: &Sites, peers: &[Peer]) -> Self {
        let mut summary = Self { len: peers.len(), ..Self::default() };
        for peer in peers {
            let sends = seen.is_sending(*peer);
            summary.sending += usize::from(sends);
            summary.seen_from = summary.seen_from.with(seen.seen_from(*peer));
            let Peer::Host(host) = peer else {
                summary.services += usize::from(sends);
                continue;
            };
            summary.hosts.insert(*host);
            *summary.sites.entry(sites.of(*host)).or_default() += 1;
            summary.covered += usize::from(seen.watches(*host).is_some());
            summary.unreadable_with_unlisted +=
                usize::from(seen.has_unreadable_with_unlisted(*host));
            summary.undecoded += usize::from(seen.has_undecoded(*host));
            summary.with_unseen_version += usize::from(seen.has_unseen_version(*host));
            summary.there_s.push((seen.seconds_of(*host), *host));
        }
        summary.there_s.sort_unstable_by_key(|(there_s, host)| (Reverse(*there_s), *host));
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::absence_claims::AbsenceClaims;

    fn claim(source: u32) -> AbsenceClaim {
        AbsenceClaim {
            source,
            to: To::Host(0),
            rows: AbsenceClaims::default().rows_id(&[0]),
            watch_s: 60,
            trigger: None,
            is_weakly_triggered: false,
            doubts: Doubts::default(),
            tunnelled: false,
            is_of_absence: true,
        }
    }

    /// Returns whether the result is [`AbsenceCheck::Fine`], and the code and the source of its
    /// claim if it contains one.
    fn outcome(check: AbsenceCheck) -> (bool, Option<(Code, u32)>) {
        let is_fine = matches!(check, AbsenceCheck::Fine);
        (is_fine, check.claim().map(|(code, claim)| (code, claim.source)))
    }

    #[test]
    fn a_pair_lacks_traffic_only_if_both_directions_do() {
        let fine = AbsenceCheck::Fine;
        let failed = AbsenceCheck::Failed;
        let missing = |source| AbsenceCheck::Missing(claim(source));
        let unknown = |source| AbsenceCheck::Unknown(Code::HostNotSeen, claim(source));
        for other in [fine, failed, missing(1), unknown(1)] {
            assert_eq!(outcome(fine.or(other)), (true, None));
            assert_eq!(outcome(other.or(fine)), (true, None));
        }
        for other in [failed, missing(1), unknown(1)] {
            assert_eq!(outcome(failed.or(other)), (false, None));
            assert_eq!(outcome(other.or(failed)), (false, None));
        }
        // If one direction could not have been seen, nothing is known about the pair.
        let of_unknown = (false, Some((Code::HostNotSeen, 1)));
        assert_eq!(outcome(missing(2).or(unknown(1))), of_unknown);
        assert_eq!(outcome(unknown(1).or(missing(2))), of_unknown);
        let both = (false, Some((Code::NeverAttempted, 2)));
        assert_eq!(outcome(missing(1).or(missing(2))), both);
    }
}
