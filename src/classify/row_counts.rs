//! Counts documented conversations by row, group of rows, and source. All workers share the list of
//! conversations.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use super::absence_claims::GroupId;
use super::coverage::Peer;
use super::facts::JudgedCapture;
use super::judge::Judge;
use super::parallel::map_ranges;
use super::query_kind::ByQueryKind;
use super::ruling::Judged;
use super::verdict::{Code, Status, Verdict};
use crate::conversation::{Conversation, DoubtSource, State};
use crate::model::{Max, Merge, Min};
use crate::policy::{FeatureState, PartyKind, Policy};

/// The result for a row of the matrix.
#[derive(Clone, Debug)]
pub struct RowReport {
    /// The first status that applies.
    pub status: Status,
    /// The reason why the row could not be assessed.
    pub reason: Option<Code>,
    /// The number of conversations that the row documents. Traffic that could be forged does not
    /// count.
    pub conversations: u64,
    /// The number of those conversations that are not one-sided.
    pub visible: u64,
    /// The clients that initiated these conversations, by name, or by address if they have no name.
    pub source_hosts_seen: BTreeSet<String>,
    /// The clients that should have initiated such a conversation, but did not try or failed, by
    /// name, or by address if they have no name.
    pub source_hosts_missing: BTreeSet<String>,
    /// Time of the earliest packet or ICMP error of these conversations.
    pub first: Min,
    /// Time of the latest packet or ICMP error of these conversations.
    pub last: Max,
}

impl RowReport {
    /// Returns the report of a row without any conversations.
    fn empty() -> Self {
        Self {
            status: Status::NotExpected,
            reason: None,
            conversations: 0,
            visible: 0,
            source_hosts_seen: BTreeSet::new(),
            source_hosts_missing: BTreeSet::new(),
            first: Min::default(),
            last: Max::default(),
        }
    }

    /// Adds the counts of another worker.
    fn merge(&mut self, other: Self) {
        self.conversations += other.conversations;
        self.visible += other.visible;
        self.source_hosts_seen.extend(other.source_hosts_seen);
        self.first.merge(&other.first);
        self.last.merge(&other.last);
    }
}

/// A conversation that the rows of a group document, as seen from its source.
pub(super) struct Attempt {
    pub to: Peer,
    pub state: State,
    /// Whether the service answered.
    pub answered: bool,
    /// Whether the attempt failed. If so, its conversation has a finding of its own.
    pub failed: bool,
    /// Whether the attempt was inside a tunnel that the inventory does not declare.
    pub tunnelled: bool,
    /// Whether the attempt stands for attempts to several servers, which may be any hosts with the
    /// destination role.
    pub to_several: bool,
    /// The rows that document the attempt.
    pub rows: Arc<[usize]>,
}

/// The rows that document conversations of one kind.
pub(super) struct Fitting {
    /// All of these rows, whatever the state of their features.
    pub rows: Vec<usize>,
    /// The rows whose features are not off, by group.
    groups: Vec<(GroupId, Arc<[usize]>)>,
}

impl Fitting {
    fn new(policy: &Policy, groups_of: &[GroupId], rows: Vec<usize>) -> Self {
        let mut groups: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for row in &rows {
            if policy.feature_state(&policy.matrix.rows[*row]) != FeatureState::Off {
                groups.entry(groups_of[*row]).or_default().push(*row);
            }
        }
        let groups = groups.into_iter().map(|(group, rows)| (group, rows.into())).collect();
        Self { rows, groups }
    }
}

/// A conversation that triggers other traffic, and the hosts that served it: one host, or the
/// holders of a virtual address.
pub(super) struct TriggerPath {
    pub conversation: usize,
    pub hosts: Vec<usize>,
}

/// Items by group of rows and by host.
pub(super) type ByGroup<T> = HashMap<(GroupId, usize), Vec<T>, ahash::RandomState>;

/// Returns the group of each row.
pub(super) fn groups_of(policy: &Policy) -> Vec<GroupId> {
    let mut groups = vec![0; policy.matrix.rows.len()];
    for (number, rows) in policy.matrix.groups.values().enumerate() {
        rows.iter().for_each(|row| groups[*row] = number as GroupId);
    }
    groups
}

/// The results of counting the documented conversations.
#[derive(Default)]
pub(super) struct RowCounts {
    /// One report for each row of the matrix.
    pub rows: Vec<RowReport>,
    /// The rows that document each conversation; `None` if it is not documented.
    pub fitting: Vec<Option<Arc<Fitting>>>,
    /// The attempts of each source, ordered by destination.
    pub attempts: ByGroup<Attempt>,
    /// The triggers that each host served, in the order of the conversations.
    pub triggers: ByGroup<Arc<TriggerPath>>,
}

impl RowCounts {
    /// Counts all conversations, on `jobs` threads.
    pub fn of(
        judge: &Judge<'_>,
        seen: JudgedCapture<'_>,
        judged: &[Judged],
        groups_of: &[GroupId],
        jobs: usize,
    ) -> Self {
        let parts = map_ranges(judged.len(), jobs, |range| {
            let mut counting = RowCounter::new(judge, seen, groups_of);
            counting.count(range, judged);
            counting.counted
        });
        let mut all = parts.into_iter().reduce(Self::with).unwrap_or_default();
        // All rows need a report, even if nothing was counted.
        all.rows.resize_with(judge.policy.matrix.rows.len(), RowReport::empty);
        for attempts in all.attempts.values_mut() {
            attempts.sort_by_key(|attempt| attempt.to);
        }
        all
    }

    /// Adds the counts of the next range of conversations.
    fn with(mut self, next: Self) -> Self {
        self.rows.iter_mut().zip(next.rows).for_each(|(mine, theirs)| mine.merge(theirs));
        self.fitting.extend(next.fitting);
        for (key, attempts) in next.attempts {
            self.attempts.entry(key).or_default().extend(attempts);
        }
        for (key, through) in next.triggers {
            self.triggers.entry(key).or_default().extend(through);
        }
        self
    }
}

/// The state of one worker while it counts documented conversations.
struct RowCounter<'a> {
    judge: &'a Judge<'a>,
    seen: JudgedCapture<'a>,
    groups_of: &'a [GroupId],
    /// The rows that document each kind of conversation. They are looked up once per kind.
    known: ByQueryKind<Arc<Fitting>>,
    /// The clients whose names have been added to a row.
    named: HashSet<(usize, PartyKind, Option<IpAddr>), ahash::RandomState>,
    counted: RowCounts,
}

impl<'a> RowCounter<'a> {
    fn new(judge: &'a Judge<'a>, seen: JudgedCapture<'a>, groups_of: &'a [GroupId]) -> Self {
        let rows = vec![RowReport::empty(); judge.policy.matrix.rows.len()];
        let counted = RowCounts { rows, ..RowCounts::default() };
        let known = ByQueryKind::default();
        let named = HashSet::default();
        Self { judge, seen, groups_of, known, named, counted }
    }

    /// Counts the conversations of one range of the list.
    fn count(&mut self, range: Range<usize>, judged: &[Judged]) {
        for number in range {
            let conversation = &self.seen.conversations.list[number];
            let judgement = &judged[number];
            let fitting = self.fitting(conversation, judgement);
            if let Some(fitting) = &fitting {
                self.count_rows(conversation, judgement, fitting);
                self.note_attempts(conversation, judgement, fitting);
                self.note_triggers(number, conversation, judgement, fitting);
            }
            self.counted.fitting.push(fitting);
        }
    }

    /// Returns the rows that document a conversation, if it is documented.
    fn fitting(&mut self, c: &Conversation, j: &Judged) -> Option<Arc<Fitting>> {
        let policy = self.judge.policy;
        let groups_of = self.groups_of;
        let new = |rows| Arc::new(Fitting::new(policy, groups_of, rows));
        let all = self.seen.conversations;
        let known = &mut self.known;
        let documented = j.verdict() == Verdict::Documented;
        documented.then(|| self.judge.fitting(all, c, j, known, new))
    }

    fn count_rows(&mut self, c: &Conversation, j: &Judged, fitting: &Fitting) {
        // Traffic that could be forged does not show that a row is in use.
        if c.is_made_up() {
            return;
        }
        let address = matches!(j.client.kind, PartyKind::Stranger).then_some(c.subject.client);
        for row in fitting.groups.iter().flat_map(|(_, rows)| rows.iter()) {
            let report = &mut self.counted.rows[*row];
            report.conversations += 1;
            report.visible += u64::from(c.state != State::OneSided);
            report.first.merge(&c.first);
            report.last.merge(&c.last);
            if self.named.insert((*row, j.client.kind, address)) {
                let name = self.judge.policy.label(&j.client, c.subject.client);
                report.source_hosts_seen.insert(name);
            }
        }
    }

    fn note_attempts(&mut self, c: &Conversation, j: &Judged, fitting: &Fitting) {
        let PartyKind::Host(client) = j.client.kind else { return };
        let policy = self.judge.policy;
        let other = match j.server.kind {
            PartyKind::Service(service) => Some(Peer::Service(service)),
            PartyKind::Host(_) => None,
            _ => Some(Peer::Other(c.subject.server)),
        };
        let is_attempt = !c.doubts.has(DoubtSource::Quoted);
        for (group, rows) in &fitting.groups {
            for source in policy.holders(client) {
                let attempts = self.counted.attempts.entry((*group, *source)).or_default();
                let hosts = through(policy, j).iter().map(|host| Peer::Host(*host));
                let attempt = |to| Attempt {
                    to,
                    state: c.state,
                    answered: c.is_answered(),
                    failed: c.has_failed(),
                    tunnelled: c.doubts.has(DoubtSource::Tunnel),
                    to_several: c.stands_for().is_some_and(|all| all.has_several_servers()),
                    rows: Arc::clone(rows),
                };
                attempts.extend(hosts.chain(other).filter(|_| is_attempt).map(attempt));
            }
        }
    }

    fn note_triggers(&mut self, number: usize, c: &Conversation, j: &Judged, fitting: &Fitting) {
        let hosts = through(self.judge.policy, j);
        if hosts.is_empty() || c.is_made_up() || c.long_sessions == 0 {
            return;
        }
        for (group, _) in &fitting.groups {
            let all = Arc::new(TriggerPath { conversation: number, hosts: hosts.to_vec() });
            for host in hosts {
                let triggers = self.counted.triggers.entry((*group, *host)).or_default();
                triggers.push(Arc::clone(&all));
            }
        }
    }
}

/// Returns the listed hosts that served a conversation: its server, or the holders of a virtual
/// address.
fn through<'a>(policy: &'a Policy, j: &Judged) -> &'a [usize] {
    match j.server.kind {
        PartyKind::Host(host) => policy.holders(host),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Judgement;
    use crate::classify::sample::{BROKER, DC, FARM, GW, Packets, RDSH, ip, policy, view};
    use crate::flow::flag;
    use crate::model::{Nanos, SECOND, Transport};

    fn row(policy: &Policy, source: &str, port: u16) -> usize {
        let matrix = &policy.matrix;
        let mut rows = matrix.rows.iter();
        let fits = |row: &crate::policy::Row| {
            matrix.roles[row.source].slug == source
                && row.ports == (port..=port)
                && row.transport == crate::model::Transport::TCP
        };
        rows.position(fits).expect("a row")
    }

    #[test]
    fn a_row_counts_its_conversations_and_names_each_client_once() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.connect(3, (RDSH, 50_000), (BROKER, 20_003));
        packets.connect(5, ("10.1.0.31", 50_001), (BROKER, 20_003));
        packets.connect(9, (RDSH, 50_001), (BROKER, 20_003));
        packets.connect(9, (GW, 50_001), (BROKER, 4444));
        let judgement = packets.judge(&policy, &view(60));
        let report = &judgement.rows[row(&policy, "rdsh-agent", 20_003)];
        assert_eq!((report.conversations, report.visible), (2, 2));
        let names: Vec<_> = report.source_hosts_seen.iter().collect();
        assert_eq!(names, ["rdsh1", "rdsh2"]);
        let start = view(60).start.expect("a start");
        let second = |time: Option<Nanos>| time.map(|time| (time - start) / SECOND);
        assert_eq!((second(report.first.get()), second(report.last.get())), (Some(3), Some(9)));
        assert_eq!(report.status, Status::Seen);
        let other = &judgement.rows[row(&policy, "gateway-normal", 20_002)];
        assert_eq!((other.conversations, other.first.get()), (0, None));
    }

    #[test]
    fn what_could_be_forged_does_not_count() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.connect(3, (RDSH, 50_000), (BROKER, 20_003));
        packets.tunnel(0);
        let judgement = packets.judge(&policy, &view(60));
        let mut all = judgement.judged.iter();
        assert!(all.any(|judged| judged.verdict() == Verdict::Documented));
        assert_eq!(judgement.rows[row(&policy, "rdsh-agent", 20_003)].conversations, 0);
    }

    #[test]
    fn the_parts_of_two_workers_add_up_to_those_of_one() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        for host in 1..=40 {
            packets.connect(host, (&format!("10.9.0.{host}"), 50_000), (GW, 443));
        }
        packets.connect(50, (RDSH, 50_000), (BROKER, 20_003));
        let count = |jobs: usize| {
            let outcome = Judgement::of(&policy, packets.conversations(&policy), &view(60), jobs);
            let rows = outcome.rows.iter();
            rows.map(|r| (r.conversations, r.first.get(), r.last.get())).collect::<Vec<_>>()
        };
        let alone = count(1);
        assert_eq!(alone, count(3));
        assert!(alone.iter().any(|(conversations, ..)| *conversations == 40));
    }

    /// Returns the number of triggers in a capture that ends `end_s` seconds after its start. Each
    /// flow consists of its start and its duration in seconds, and of the bytes of each packet.
    fn triggers(flows: &[(i64, i64, u32)], end_s: i64) -> u8 {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        for (port, (start_s, seconds, bytes)) in (50_000..).zip(flows) {
            let first = packets.len();
            packets.connect(*start_s, ("10.9.0.5", port), (GW, 443));
            packets.midstream(start_s + seconds, ("10.9.0.5", port), (GW, 443));
            packets.set_size(first, *bytes);
        }
        packets.ping(end_s, DC, RDSH);
        let conversations = packets.conversations(&policy);
        let c = conversations.list.iter().find(|c| c.subject.server == ip(GW)).expect("a session");
        assert_eq!(c.state, State::Established);
        c.long_sessions
    }

    #[test]
    fn a_session_triggers_traffic_only_if_it_was_long_enough_and_over() {
        // A flow has seven packets, and 20 kB are enough.
        let enough = 20_000_u32.div_ceil(7);
        assert_eq!(triggers(&[(0, 31, enough)], 62), 1);
        assert_eq!(triggers(&[(0, 29, enough)], 62), 0);
        assert_eq!(triggers(&[(0, 31, enough)], 60), 0);
        assert_eq!(triggers(&[(0, 31, enough - 1)], 62), 0);
    }

    #[test]
    fn each_flow_is_a_trigger_by_itself() {
        let enough = 20_000_u32.div_ceil(7);
        // Short flows do not add up to a session, whatever their total size and duration.
        let polls: Vec<_> = (0..15).map(|poll| (poll * 60, 1, enough / 4)).collect();
        assert_eq!(triggers(&polls, 2_000), 0);
        let downloads: Vec<_> = (0..15).map(|poll| (poll * 60, 1, enough)).collect();
        assert_eq!(triggers(&downloads, 2_000), 0);
        // A monitoring system may use the same port for each connection.
        let policy = policy(FARM);
        let mut packets = Packets::default();
        for poll in 0..15 {
            let ends = [("10.9.0.5", 50_000), (GW, 443)];
            packets.connect(poll * 60, ends[0], ends[1]);
            let [number, back] = [poll as u32 * 1000, 77];
            packets.packet(poll * 60, Transport::TCP, ends, flag::SYN, (number, None));
            let answer = (back, Some(number + 1));
            packets.packet(poll * 60, Transport::TCP, [ends[1], ends[0]], flag::SYN_ACK, answer);
        }
        packets.set_size(0, enough);
        packets.ping(2_000, DC, RDSH);
        let conversations = packets.conversations(&policy);
        let c = conversations.list.iter().find(|c| c.subject.server == ip(GW)).expect("a session");
        assert_eq!(c.long_sessions, 0);
        // A session that is still open at the end does not hide those that have ended.
        assert_eq!(triggers(&[(0, 40, enough), (60, 40, enough), (900, 90, enough)], 1_000), 2);
    }
}
