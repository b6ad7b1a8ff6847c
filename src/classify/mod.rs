//! Judges a capture: which traffic is permitted, which is missing, and which could not be assessed.
//!
//! The judgement is a pure function: it takes conversations, a policy and facts about the capture,
//! and returns rulings, findings and the status of every matrix row, each in a defined order.

mod absence;
mod absence_claims;
mod address_conflicts;
mod assess;
mod capture_places;
mod coverage;
mod draft;
mod ends;
mod expected;
mod explained;
mod facts;
mod failed_attempts;
mod finding;
mod grouping;
mod inventory_conflicts;
mod judge;
mod lone_answers;
mod loopback;
mod loss_periods;
mod moved_captures;
mod orientation;
mod overlay;
mod pairs;
mod parallel;
mod permission;
mod query;
mod query_kind;
mod row_counts;
mod ruling;
#[cfg(test)]
pub(crate) mod sample;
mod sites;
mod undecoded_frames;
mod unused_exceptions;
mod vantage_watch;
mod verdict;
mod violations;
mod virtual_addresses;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub use absence::{Condition, conditions_of_absence};
pub(crate) use absence_claims::roles_on;
pub use absence_claims::{AbsenceClaim, AbsenceClaims, ClaimId, GroupId, MergedPairs, To};
pub use coverage::Peer;
pub use coverage::{Coverage, HostReport, UnlistedUse};
pub use draft::{ClientNetwork, Draft, DraftHost, Given, Guess, Outside};
pub use ends::{EndId, EndKey, NetworkGroup};
pub(crate) use inventory_conflicts::WATCH_S as ROLE_WATCH_S;
pub use row_counts::RowReport;

pub use explained::unseen;
pub use facts::JudgedCapture;
pub use finding::{About, Conflict, Finding, FindingKey, HarmlessCause, Reason};
pub(crate) use finding::{SHOWN_CLAIMANTS, exception_rule, id_of};
pub use judge::Judge;
pub use loss_periods::LossPeriods;
pub use query::{Answer, Question, check_examples};
pub use ruling::{Judged, Ruling};
pub use vantage_watch::VantageTimes;
pub use verdict::{Code, Doubt, Doubts, Status, Verdict};
pub use virtual_addresses::UndeclaredVirtual;

use assess::Assessed;
use facts::CaptureFacts;
use finding::FindingBook;
use loss_periods::LEAST_LOSS;
use parallel::run_both;
use violations::Grouping;

use crate::model::{ActivityHistogram, Nanos, SECOND};

// Items of other modules that occur in the judgement, re-exported for the modules that report it.
pub(crate) use crate::conversation::{
    AggregatedConversations, AggregationReport, AggregationStep, Conversation, Conversations,
    DirectionEvidence, DoubtSource, EDGE_WORDS, EncapTag, ErrorKind, HostActivity, OTHER_SENSORS,
    ServiceKey, State, StateEvidence, TimeSpan, WORD_S, flag,
};
pub(crate) use crate::policy::{
    BACKGROUND, CoverageStatement, EndpointTarget, FeatureState, Matrix, Party, PartyKind, Policy,
    RoleSet, Row, Scope, Severity, UNFILLED,
};

/// The conditions of the capture and the user's settings that the judgement depends on.
#[derive(Clone, Debug)]
pub struct CaptureConditions {
    /// Time of the earliest frame.
    pub start: Option<Nanos>,
    /// Time of the latest frame. In a live audit, the latest frame of the last window counts.
    pub end: Option<Nanos>,
    /// The time for which the capture watched without a break.
    pub watched: Watched,
    /// The times at which each named vantage point watched.
    pub vantages: Arc<VantageTimes>,
    /// For each series of captures without a sensor name, the time for which it watched. It is not
    /// known which hosts each series could show.
    pub series: Vec<Watched>,
    /// Whether a capture filter was active: set by the user, recorded in a capture file, or evident
    /// from the kinds of packets that the capture contains.
    pub filtered: bool,
    /// The share of frames in flows for which only one direction was captured, 0 to 1, without
    /// those of the unlisted address that sent most of them.
    pub one_sided: f64,
    /// The share of lost frames, 0 to 1. The highest of these shares counts: that of the whole
    /// capture according to its counters, that of each named vantage point, and the one that is
    /// estimated from acknowledged TCP bytes that the capture does not contain.
    pub loss: f64,
    /// The share of frames that may have been lost, 0 to 1, according to evidence that is too weak
    /// to report as loss.
    pub suspected_loss: f64,
    /// The loss of single inputs and windows.
    pub losses: Arc<LossPeriods>,
    /// Whether part of the input could not be read. That part may contain traffic that seems to be
    /// missing. The missing end of an input that is merely cut off does not count.
    pub damaged: bool,
    /// Whether evidence about listed hosts was dropped because memory was short, which may have
    /// shown how traffic that seems to be missing passed.
    pub lacks_evidence: bool,
    /// Whether the contents of tunnels were not decoded, because decapsulation was off.
    pub no_decap: bool,
    /// The maximum loss at which traffic is reported as missing, 0 to 1.
    pub max_loss: f64,
    /// The watch time that replaces that of every row, in seconds, if the user set one.
    pub min_watch: Option<u64>,
}

/// The time for which the capture watched without a break, in seconds.
#[derive(Clone, Default, Debug)]
pub struct Watched {
    /// The longest stretch without a break.
    pub longest_s: u64,
    /// For each watch time in seconds, the longest stretch whose gaps without frames add up to at
    /// most a tenth of that watch time, in seconds.
    by_watch: BTreeMap<u64, u64>,
}

impl Watched {
    /// Measures the stretches in a timeline for rows with these watch times. If the same packets
    /// were captured twice, with timestamps `apart` nanoseconds apart, each stretch looks longer by
    /// this amount, which is therefore subtracted from every stretch that exceeds it.
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

    /// Returns the watched time, in seconds, that counts for a row with a watch time of `watch_s`
    /// seconds. For a watch time that was not measured, the longest stretch counts.
    pub fn seconds_for(&self, watch_s: u64) -> u64 {
        self.by_watch.get(&watch_s).copied().unwrap_or(self.longest_s)
    }
}

impl Watched {
    /// Limits each time to that of `other`, which was measured for the same watch times.
    fn limit(&mut self, other: &Self) {
        self.longest_s = self.longest_s.min(other.longest_s);
        for (watch_s, seconds) in &mut self.by_watch {
            *seconds = (*seconds).min(other.seconds_for(*watch_s));
        }
    }
}

impl CaptureConditions {
    /// Returns the worst-case probability that the capture lost a given frame. It is at least 0.01.
    pub fn miss(&self) -> f64 {
        self.loss.max(self.suspected_loss).max(LEAST_LOSS)
    }

    /// Returns the worst-case probability that the capture lost a given reply to requests that were
    /// sent in `span`.
    fn miss_in(&self, span: TimeSpan) -> f64 {
        let from = span.first.get().unwrap_or(Nanos::MIN);
        let to = span.last.get().unwrap_or(Nanos::MAX);
        self.miss().max(self.losses.greatest_in(from, to))
    }

    /// Returns the minimum number of frames that an expected exchange would have shown: two per
    /// watch time of `watch_s` seconds, and at least two.
    fn chances(&self, watch_s: u64) -> u64 {
        2 * (self.watched.seconds_for(watch_s) / watch_s.max(1)).max(1)
    }

    /// Returns whether the loss of all `chances` frames is so unlikely that traffic without any of
    /// them is certainly missing.
    fn is_certain_after(&self, chances: u64) -> bool {
        is_unlikely(all_lost(self.miss(), chances))
    }

    /// Returns whether some series of captures without a sensor name watched for less than
    /// `watch_s` seconds, and for less time than all inputs together. A host that only this series
    /// could show was not watched long enough.
    pub fn has_short_series(&self, watch_s: u64) -> bool {
        let needed = self.watched.seconds_for(watch_s).min(watch_s);
        self.series.iter().any(|series| series.seconds_for(watch_s) < needed)
    }

    /// Describes the part of the traffic of all hosts that is not known; `None` if there is none.
    fn unread_of_all(&self) -> Option<&'static str> {
        if self.damaged {
            Some("part of the input could not be read and may contain the missing traffic")
        } else if self.lacks_evidence {
            Some(
                "evidence about listed hosts, such as fragments, was dropped to stay within --max-memory; it may be part of the missing traffic",
            )
        } else {
            None
        }
    }

    /// Returns whether at least a tenth of the frames belong to flows for which only one direction
    /// was captured. Then no absence is certain, whatever coverage the inventory declares.
    fn misses_a_direction(&self) -> bool {
        self.one_sided >= 0.1
    }

    /// Returns the time for which a row has to be watched before its traffic counts as missing, in
    /// seconds. `row` is the watch time of the row itself.
    pub fn watch(&self, row: u64) -> u64 {
        self.min_watch.unwrap_or_else(|| Self::watch_of_row(row))
    }

    /// Returns the time that a row requires if no option replaces it, in seconds. `row` is its
    /// watch time in the matrix.
    pub fn watch_of_row(row: u64) -> u64 {
        // With a watch time of 0, traffic would count as missing even in the shortest capture.
        if row == 0 { ROLE_WATCH_S } else { row }
    }
}

/// Returns the probability that `chances` frames were all lost, each with the probability `miss`.
fn all_lost(miss: f64, chances: u64) -> f64 {
    miss.powi(chances.min(1000) as i32)
}

/// Returns whether it is so unlikely that all frames were lost that what they would have shown is
/// certainly missing. `all_lost` is the probability.
fn is_unlikely(all_lost: f64) -> bool {
    /// The maximum acceptable probability. It is low because an audit applies this test to hundreds
    /// of rows.
    const UNLIKELY: f64 = 0.0002;
    all_lost < UNLIKELY
}

/// The complete judgement of a capture.
pub struct Judgement {
    /// The judged conversations.
    pub conversations: Conversations,
    /// The rulings, one for each conversation, in the same order.
    pub judged: Vec<Judged>,
    /// The findings, worst first, and the tables that they refer to.
    book: FindingBook,
    /// The reports of the rows, one for each row of the matrix, in the same order.
    pub rows: Vec<RowReport>,
    /// The reports of the hosts, one for each host of the inventory, in the same order.
    pub hosts: Vec<HostReport>,
    /// The facts behind absence claims; `None` if nothing was judged.
    facts: Option<CaptureFacts>,
    /// The number of conversations that each exception permitted, or would have permitted if it had
    /// not expired, in the order of the exceptions.
    pub excepted: Vec<u64>,
    /// For each exception that no conversation counts for although it matches one, the index of the
    /// exception that takes precedence.
    pub shadowed: BTreeMap<usize, usize>,
    /// The number of findings that each overlay would explain if the inventory named it.
    pub by_overlay: BTreeMap<String, usize>,
    /// The index of each exception that was created after conversations that it permits had ended,
    /// and the number of these conversations.
    pub predated: Vec<(usize, u64)>,
    /// Descriptions of host addresses that one hardware address took over from another.
    pub moves: BTreeMap<IpAddr, String>,
    /// The addresses of hosts about which a conflict may have been missed, because not all times of
    /// their claims were kept; with the names of the hosts.
    pub forgotten_claims: BTreeMap<IpAddr, String>,
}

/// Exchanges judgements with those in a list, which have the indices of their conversations.
fn exchange(judged: &mut [Judged], others: &mut [(usize, Judged)]) {
    for (number, other) in others {
        std::mem::swap(&mut judged[*number], other);
    }
}

impl Judgement {
    /// Judges conversations against a policy, on `jobs` threads.
    pub fn of(
        policy: &Policy,
        conversations: Conversations,
        view: &CaptureConditions,
        jobs: usize,
    ) -> Self {
        let judge = Judge::new(policy);
        let mut judged = judge.judge_all(&conversations, jobs);
        let mut guesses = judge.guesses(&conversations, &judged, jobs);
        let learn = |judged: &[Judged]| {
            let hosts = coverage::host_reports(policy, &conversations, view);
            let facts = CaptureFacts::of(policy, &conversations, judged, &hosts, view, jobs);
            (hosts, facts)
        };
        let unpermitted = |judged: &[Judged]| {
            let book = FindingBook::default();
            Grouping { judge: &judge, list: &conversations.list, judged, book }.unpermitted()
        };
        let ((mut hosts, facts), book) = if guesses.is_empty() {
            run_both(jobs, || learn(&judged), || unpermitted(&judged))
        } else {
            let learned = learn(&judged);
            exchange(&mut judged, &mut guesses);
            let book = unpermitted(&judged);
            exchange(&mut judged, &mut guesses);
            (learned, book)
        };
        let mut outcome = Self { judged, book, ..Self::unjudged(conversations) };
        let seen = JudgedCapture {
            policy,
            conversations: &outcome.conversations,
            hosts: &hosts,
            facts: &facts,
        };
        let Assessed { rows, not_assessable, moves, forgotten_claims } =
            assess::assess(&judge, seen, &outcome.judged, &mut outcome.book, jobs);
        for (host, rows) in hosts.iter_mut().zip(not_assessable) {
            host.rows_not_assessable = rows;
        }
        outcome.excepted = vec![0; policy.exceptions.list.len()];
        for number in outcome.judged.iter().filter_map(|j| j.ruling.exception()) {
            outcome.excepted[number] += 1;
        }
        outcome.shadowed = unused_exceptions::shadowed(
            policy,
            &outcome.conversations,
            &outcome.judged,
            &outcome.excepted,
        );
        (outcome.rows, outcome.hosts, outcome.moves) = (rows, hosts, moves);
        outcome.forgotten_claims = forgotten_claims;
        outcome.facts = Some(facts);
        outcome.add_unused_exceptions(&judge);
        outcome.add_loopback(&judge);
        outcome.add_look_alikes(&judge);
        outcome.sort(policy);
        outcome.explain_findings(&judge);
        exchange(&mut outcome.judged, &mut guesses);
        outcome.by_overlay = overlay::explained(policy, &outcome);
        outcome.predated =
            unused_exceptions::predated(policy, &outcome.conversations, &outcome.judged);
        outcome
    }

    /// Returns the findings, worst first.
    pub fn findings(&self) -> &[Finding] {
        &self.book.findings
    }

    /// Returns the key of an end of a finding.
    pub fn end(&self, end: EndId) -> &EndKey {
        self.book.ends.get(end)
    }

    /// Returns the absence claims that findings are based on.
    pub fn claims(&self) -> &AbsenceClaims {
        &self.book.claims
    }

    /// Returns the address conflict with this index.
    pub fn conflict(&self, number: u32) -> &Conflict {
        &self.book.conflicts[number as usize]
    }

    /// Returns the judged capture; `None` if nothing was judged.
    pub fn seen<'a>(&'a self, policy: &'a Policy) -> Option<JudgedCapture<'a>> {
        let conversations = &self.conversations;
        let hosts = &self.hosts[..];
        self.facts.as_ref().map(|facts| JudgedCapture { policy, conversations, hosts, facts })
    }

    /// Wraps conversations without judging them, for use without a policy.
    pub fn unjudged(conversations: Conversations) -> Self {
        Self {
            judged: Vec::new(),
            book: FindingBook::default(),
            facts: None,
            rows: Vec::new(),
            hosts: Vec::new(),
            excepted: Vec::new(),
            shadowed: BTreeMap::new(),
            moves: BTreeMap::new(),
            forgotten_claims: BTreeMap::new(),
            by_overlay: BTreeMap::new(),
            predated: Vec::new(),
            conversations,
        }
    }

    /// Returns whether the audit checked any traffic of the farm: either a listed host with a role
    /// sent unicast frames and has a conversation that is not background traffic, or documented
    /// traffic is missing or failed.
    pub fn checked_anything(&self) -> bool {
        let sent = |party: &Party| match party.kind {
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

    /// Returns the worst severity of the findings; `None` without findings.
    pub fn worst(&self) -> Option<Severity> {
        self.findings().iter().map(|f| f.severity).max()
    }

    /// Returns the number of conversations with each verdict. Verdicts that do not occur are left
    /// out.
    pub fn by_verdict(&self) -> BTreeMap<Verdict, u64> {
        let mut counts = [0; Verdict::ALL.len()];
        for judged in &self.judged {
            counts[judged.verdict() as usize] += 1;
        }
        let counts = Verdict::ALL.iter().copied().zip(counts);
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// Formats a time in UTC with a precision of one second.
pub(crate) fn clock_words(time: Nanos) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default();
    stamp.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::sample::{BROKER, DC, FARM, GW, Packets, STRANGER, policy, view};
    use super::*;

    #[test]
    fn a_capture_that_lost_nothing_may_still_have_lost_one_frame_in_a_hundred() {
        assert_eq!(view(60).miss(), 0.01);
        assert_eq!(CaptureConditions { loss: 0.02, ..view(60) }.miss(), 0.02);
        let suspected = CaptureConditions { suspected_loss: 0.03, loss: 0.02, ..view(60) };
        assert_eq!(suspected.miss(), 0.03);
    }

    #[test]
    fn an_absence_is_certain_after_enough_chances() {
        // 0.01 to the power of two is below the limit of 0.0002, and 0.01 itself is not.
        assert!(!view(60).is_certain_after(1) && view(60).is_certain_after(2));
        let lossy = CaptureConditions { loss: 0.1, ..view(60) };
        assert!(!lossy.is_certain_after(3) && lossy.is_certain_after(4));
        let hopeless = CaptureConditions { loss: 1.0, ..view(60) };
        assert!(!hopeless.is_certain_after(u64::MAX));
        // Two frames per watch time, and at least two.
        assert_eq!([59, 60, 119, 120].map(|s| view(s).chances(60)), [2, 2, 2, 4]);
        assert_eq!(view(60).chances(0), 120);
    }

    #[test]
    fn a_direction_is_missing_from_a_tenth_of_the_frames_on() {
        let misses = |one_sided| CaptureConditions { one_sided, ..view(60) }.misses_a_direction();
        assert!(!misses(0.099) && misses(0.1));
    }

    #[test]
    fn the_watch_time_of_the_user_replaces_that_of_a_row() {
        assert_eq!((view(60).watch(300), view(60).watch(0)), (300, ROLE_WATCH_S));
        let set = CaptureConditions { min_watch: Some(5), ..view(60) };
        assert_eq!((set.watch(300), set.watch(0)), (5, 5));
    }

    #[test]
    fn two_sightings_of_a_packet_do_not_lengthen_the_watched_time() {
        let mut timeline = ActivityHistogram::default();
        timeline.watch(0, 100 * SECOND);
        let plain = Watched::new(&timeline, None, [60].into_iter());
        let apart = Watched::new(&timeline, Some(7 * SECOND), [60].into_iter());
        assert_eq!(plain.longest_s, 100);
        assert_eq!(apart.longest_s, plain.longest_s - 7);
        assert_eq!(apart.seconds_for(60), plain.seconds_for(60) - 7);
        // For a watch time that was not measured, the longest stretch counts.
        assert_eq!(plain.seconds_for(61), plain.longest_s);
        let further = Watched::new(&timeline, Some(1000 * SECOND), [60].into_iter());
        assert_eq!(further.longest_s, plain.longest_s);
    }

    #[test]
    fn an_audit_checked_something_only_if_a_host_with_a_role_took_part() {
        let policy = policy(FARM);
        let checked = |fill: fn(&mut Packets)| {
            let mut packets = Packets::default();
            fill(&mut packets);
            packets.judge(&policy, &view(60)).checked_anything()
        };
        assert!(checked(|packets| packets.connect(0, (GW, 50_000), (BROKER, 20_002))));
        assert!(checked(|packets| packets.connect(0, (STRANGER, 50_000), (GW, 4444))));
        assert!(!checked(|packets| packets.ping(0, GW, BROKER)), "background");
        assert!(!checked(|packets| packets.connect(0, (STRANGER, 1), ("10.1.0.50", 4444))));
        assert!(!checked(|packets| packets.syn(0, (STRANGER, 50_000), (GW, 4444))), "it is silent");
        assert!(!checked(|_| {}));
    }

    #[test]
    fn conversations_are_counted_by_verdict_and_the_worst_finding_is_named() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (BROKER, 20_002));
        packets.connect(1, (GW, 50_000), (DC, 4444));
        packets.ping(2, GW, BROKER);
        let judgement = packets.judge(&policy, &view(60));
        let counts = judgement.by_verdict();
        let expected =
            [(Verdict::Documented, 1), (Verdict::Background, 1), (Verdict::Undocumented, 1)];
        assert_eq!(counts, BTreeMap::from(expected));
        let severities = judgement.findings().iter().map(|finding| finding.severity);
        assert_eq!(judgement.worst(), severities.clone().next());
        assert!(severities.rev().is_sorted());
    }

    #[test]
    fn a_time_is_written_in_utc_to_the_second() {
        assert_eq!(clock_words(1_780_000_000 * SECOND + 999), "2026-05-28 20:26:40");
        assert_eq!(clock_words(-SECOND), "1969-12-31 23:59:59");
    }
}
