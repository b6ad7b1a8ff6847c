//! The judgement: what is permitted, what is missing, what could not be assessed.
//!
//! Pure: conversations, a policy and the facts about the capture go in; judgements, findings and
//! the status of every matrix row come out, sorted, decided once.

mod absence;
mod absence_claims;
mod assess;
mod coverage;
mod draft;
mod ends;
mod expected;
mod explained;
mod facts;
mod failed_attempts;
mod finding;
mod fold;
mod inventory_conflicts;
mod judge;
mod loopback;
mod overlay;
mod pairs;
mod parallel;
mod permission;
mod query;
mod row_counts;
mod unused_exceptions;
mod verdict;
mod violations;

use std::collections::BTreeMap;

pub use absence::{Condition, conditions_of_absence};
pub use absence_claims::{
    AbsenceClaim, AbsenceClaims, ClaimId, FoldedPairs, GroupId, To, roles_on,
};
pub use coverage::Peer;
pub use coverage::{Coverage, HostReport};
pub use draft::{ClientNetwork, Draft, DraftHost, Given, Guess, Outside};
pub use ends::{EndId, EndKey, NetworkGroup};
pub use inventory_conflicts::WATCH_S as ROLE_WATCH_S;
pub use row_counts::RowReport;

pub use explained::unseen;
pub use facts::JudgedCapture;
pub use finding::{About, Conflict, Finding, FindingKey, Reason, exception_rule, id_of};
pub use judge::{Judge, Judged, Ruling};
pub use query::{Answer, Question, check_examples};
pub use verdict::{Code, Doubt, Doubts, Status, Verdict};

use assess::Assessed;
use facts::CaptureFacts;
use finding::FindingBook;
use parallel::both;
use violations::Grouping;

use crate::model::{ActivityHistogram, Nanos, SECOND};

// What the judgement is about, for those who tell it.
pub use crate::conversation::{
    Conversation, Conversations, DirectionEvidence, DoubtSource, EncapTag, HostActivity,
    ServiceKey, State, StateEvidence, TimeSpan, UndecodedReason, VisibilityStats, flag,
};
pub use crate::policy::{
    CoverageStatement, EndpointTarget, FeatureState, Matrix, Party, PartyKind, Policy, RoleSet,
    Row, Scope, Severity, UNFILLED, is_control,
};

/// What the judgement has to know of the capture and the user's wishes.
#[derive(Clone, Debug)]
pub struct CaptureConditions {
    /// Time of the earliest frame.
    pub start: Option<Nanos>,
    /// Time of the latest frame.
    pub end: Option<Nanos>,
    /// How long was watched without a break.
    pub watched: Watched,
    /// A capture filter was on, of the user's or of the capture's own.
    pub filtered: bool,
    /// The share of frames that belong to flows of which one direction alone was captured, 0 to 1.
    pub one_sided: f64,
    /// The share of frames lost, 0 to 1, as far as the capture says.
    pub loss: f64,
    /// The share that may have been lost, 0 to 1, from evidence too small to state it.
    pub suspected_loss: f64,
    /// Part of the input could not be read: what seems absent may be in it.
    pub damaged: bool,
    /// What is in tunnels was not looked at.
    pub no_decap: bool,
    /// The share above which absence cannot be claimed.
    pub max_loss: f64,
    /// Seconds that replace every row's own watch time.
    pub min_watch: Option<u64>,
}

/// How long was watched without a break, in seconds.
#[derive(Clone, Default, Debug)]
pub struct Watched {
    /// The longest stretch.
    pub longest_s: u64,
    /// For a row that has to be watched for so long: the longest stretch whose gaps fill at most a tenth of that.
    by_watch: BTreeMap<u64, u64>,
}

impl Watched {
    /// What a timeline shows, for rows that have to be watched for so long. Where the same packets were seen twice,
    /// `apart` nanoseconds from each other, one stretch looks longer by that.
    pub fn new(
        timeline: &ActivityHistogram,
        apart: Option<Nanos>,
        watches: impl Iterator<Item = u64>,
    ) -> Self {
        let apart_s = apart.map_or(0, |apart| apart.max(0) as u64 / SECOND as u64);
        let once = |seconds: u64| if apart_s < seconds { seconds - apart_s } else { seconds };
        let mut by_watch = BTreeMap::new();
        for watch_s in watches {
            by_watch.entry(watch_s).or_insert_with(|| once(timeline.stretch_s(watch_s / 10)));
        }
        Self { longest_s: once(timeline.watched_s()), by_watch }
    }

    /// Seconds without a break for what has to be watched for `watch_s`.
    pub fn seconds_for(&self, watch_s: u64) -> u64 {
        self.by_watch.get(&watch_s).copied().unwrap_or(self.longest_s)
    }
}

impl CaptureConditions {
    /// Returns how likely, at worst, one chance to see something was lost.
    pub fn miss(&self) -> f64 {
        self.loss.max(self.suspected_loss).max(0.01)
    }

    /// Whether that many independent chances make an absence certain.
    fn is_certain_after(&self, chances: u64) -> bool {
        /// An audit asks this of hundreds of rows, and of a hundred that it is certain of one may be wrong.
        const UNLIKELY: f64 = 0.0002;
        self.miss().powi(chances.min(1000) as i32) < UNLIKELY
    }

    /// Whether the capture as a whole misses one direction, whatever it is said to cover. Then no
    /// silence is certain.
    fn misses_a_direction(&self) -> bool {
        self.one_sided >= 0.1
    }

    /// Returns the seconds to be watched before silence on a row means anything.
    pub fn watch(&self, row: u64) -> u64 {
        // What nobody was to wait for would be missing at once.
        self.min_watch.unwrap_or(if row == 0 { ROLE_WATCH_S } else { row })
    }
}

/// The whole judgement of a capture.
pub struct Judgement {
    /// What was judged.
    pub conversations: Conversations,
    /// One for each conversation, in the same order.
    pub judged: Vec<Judged>,
    /// The findings, worst first, and what their numbers stand for.
    book: FindingBook,
    /// One for each row of the matrix, in the same order.
    pub rows: Vec<RowReport>,
    /// One for each host of the inventory, in the same order.
    pub hosts: Vec<HostReport>,
    /// What claims of absence rest on; none where nothing was judged.
    facts: Option<CaptureFacts>,
    /// Conversations that each exception justified, in the order of the list.
    pub excepted: Vec<u64>,
    /// How many findings an overlay would explain that the inventory does not name, by its name.
    pub by_overlay: BTreeMap<String, usize>,
    /// The exceptions that were made after traffic they let through had ended, by position, with how many
    /// conversations.
    pub predated: Vec<(usize, u64)>,
    /// Addresses of hosts that one hardware address took over from another, in words.
    pub moves: Vec<String>,
}

impl Judgement {
    /// Judges a capture.
    pub fn of(
        policy: &Policy,
        conversations: Conversations,
        view: &CaptureConditions,
        jobs: usize,
    ) -> Self {
        let judge = Judge::new(policy);
        let judged = judge.judge_all(&conversations, jobs);
        let (list, book) = (&conversations.list[..], FindingBook::default());
        let grouping = Grouping { judge: &judge, list, judged: &judged, book };
        let learn = || {
            let hosts = coverage::hosts(policy, &conversations, view);
            let facts = CaptureFacts::of(policy, &conversations, &judged, &hosts, view, jobs);
            (hosts, facts)
        };
        let ((mut hosts, facts), book) = both(jobs, learn, || grouping.unpermitted());
        let mut outcome = Self { judged, book, ..Self::unjudged(conversations) };
        let seen = JudgedCapture {
            policy,
            conversations: &outcome.conversations,
            hosts: &hosts,
            facts: &facts,
        };
        let Assessed { rows, not_assessable, moves } =
            assess::assess(&judge, seen, &outcome.judged, &mut outcome.book, jobs);
        for (host, rows) in hosts.iter_mut().zip(not_assessable) {
            host.rows_not_assessable = rows;
        }
        outcome.excepted = vec![0; policy.exceptions.list.len()];
        for number in outcome.judged.iter().filter_map(|j| j.ruling.exception) {
            outcome.excepted[number] += 1;
        }
        (outcome.rows, outcome.hosts, outcome.moves) = (rows, hosts, moves);
        outcome.facts = Some(facts);
        outcome.add_unused_exceptions(&judge);
        outcome.add_loopback(&judge);
        outcome.add_look_alikes(&judge);
        outcome.sort(policy);
        outcome.explain_findings(&judge);
        outcome.by_overlay = overlay::explained(policy, &outcome);
        outcome.predated =
            unused_exceptions::predated(policy, &outcome.conversations, &outcome.judged);
        outcome
    }

    /// Returns the findings, worst first.
    pub fn findings(&self) -> &[Finding] {
        &self.book.findings
    }

    /// Returns what an end of a finding is.
    pub fn end(&self, end: EndId) -> &EndKey {
        self.book.ends.get(end)
    }

    /// Returns the silences that findings rest on.
    pub fn claims(&self) -> &AbsenceClaims {
        &self.book.claims
    }

    /// Returns an address that several hardware addresses claim.
    pub fn conflict(&self, number: u32) -> &Conflict {
        &self.book.conflicts[number as usize]
    }

    /// Returns what was seen of the farm; none where nothing was judged.
    pub fn seen<'a>(&'a self, policy: &'a Policy) -> Option<JudgedCapture<'a>> {
        let (conversations, hosts) = (&self.conversations, &self.hosts[..]);
        self.facts.as_ref().map(|facts| JudgedCapture { policy, conversations, hosts, facts })
    }

    /// Conversations without a judgement, where there is no policy to judge by.
    pub fn unjudged(conversations: Conversations) -> Self {
        Self {
            judged: Vec::new(),
            book: FindingBook::default(),
            facts: None,
            rows: Vec::new(),
            hosts: Vec::new(),
            excepted: Vec::new(),
            moves: Vec::new(),
            by_overlay: BTreeMap::new(),
            predated: Vec::new(),
            conversations,
        }
    }

    /// Whether anything of the farm was checked: a listed host with a role sent unicast, and a conversation of it was
    /// judged.
    pub fn checked_anything(&self) -> bool {
        let sent = |party: &Party| match party.who {
            PartyKind::Host(host) => {
                !party.roles.is_empty() && self.hosts[host].presence.unicast_sent.0 > 0
            }
            _ => false,
        };
        let checked =
            |j: &Judged| j.verdict() != Verdict::Background && (sent(&j.client) || sent(&j.server));
        self.judged.iter().any(checked)
            || self.findings().iter().any(|f| f.verdict() == Verdict::Missing)
    }

    /// The worst severity of the findings.
    pub fn worst(&self) -> Option<Severity> {
        self.findings().iter().map(|f| f.severity).max()
    }

    /// Conversations by verdict.
    pub fn by_verdict(&self) -> BTreeMap<Verdict, u64> {
        let mut counts = BTreeMap::new();
        for judged in &self.judged {
            *counts.entry(judged.verdict()).or_default() += 1;
        }
        counts
    }
}

/// Writes a time to the second.
pub fn clock_words(time: Nanos) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default();
    stamp.strftime("%Y-%m-%d %H:%M:%S").to_string()
}
