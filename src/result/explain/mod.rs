//! Explains findings as text: what was found, what to do about it, and what was considered. The
//! submodules `inventory`, `missing`, `not_assessable` and `permission` explain one kind of finding
//! each.

mod conversation;
mod display_filter;
mod inventory;
mod missing;
mod not_assessable;
mod permission;

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::OnceLock;

use display_filter::PairIndex;

use super::{EndIdentity, Members};
use crate::classify::DirectionEvidence;
use crate::classify::{
    About, AggregatedConversations, Code, Conversation, Doubts, EndKey, Finding, Judge, Judged,
    JudgedCapture, Judgement, Party, Policy, Reason, RoleSet, Severity, State, Verdict,
    exception_rule,
};
use crate::model::{Endpoint, Nanos, Transport};
use crate::result::plural;

pub use conversation::state_changes;

/// A finding as reports show it, without its trace.
#[derive(Clone, Debug)]
pub struct ReportedFinding {
    /// Id that is the same in every capture that shows the same finding. It depends only on
    /// verdict, code, ends, transport, and port or group.
    pub id: String,
    /// Severity of the finding.
    pub severity: Severity,
    /// Verdict of the finding.
    pub verdict: Verdict,
    /// Reason for the verdict.
    pub code: Code,
    /// Whether the finding is certain; if not, `doubts` contains the reasons.
    pub certain: bool,
    /// Client: the end that opened the connection, or should have.
    pub client: EndIdentity,
    /// Server: the end that the client connected to, or should have.
    pub server: EndIdentity,
    /// Protocol above IP; `*` for several.
    pub transport: String,
    /// Port. Several ports are joined by `;`, and `*` stands for many.
    pub port: String,
    /// Best state among the conversations of the finding.
    pub state: Option<State>,
    /// Strongest direction evidence among the conversations of the finding.
    pub direction: Option<DirectionEvidence>,
    /// Row of the matrix, or exception, that the finding is based on.
    pub rule: String,
    /// Group of matrix rows that the finding is about.
    pub group: String,
    /// Number of conversations, or of pairs of hosts, that the finding stands for; 0 if it is about
    /// a single pair without traffic, or not about traffic.
    pub count: u64,
    /// Time of the earliest packet or ICMP error.
    pub first_seen: Option<Nanos>,
    /// Time of the latest packet or ICMP error.
    pub last_seen: Option<Nanos>,
    /// Sentence that describes what was found.
    pub message: String,
    /// What the user should do about the finding.
    pub action: String,
    /// Wireshark display filter that shows the packets of the finding.
    pub display_filter: String,
    /// Reasons why the finding is not certain.
    pub doubts: Doubts,
    /// Id of the finding that explains this one, if there is one.
    pub explained_by: Option<String>,
}

/// The texts that explain a finding.
#[derive(Default)]
struct Words {
    message: String,
    action: String,
    display_filter: String,
}

/// The facts that determine the cause of a finding about permission. Findings with equal facts have
/// the same cause.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct CauseFacts {
    severity: Severity,
    code: Code,
    certain: bool,
    /// The indices of the row and of the exception that the finding is based on.
    rule: [Option<usize>; 2],
    roles: [RoleSet; 2],
    transport: Option<Transport>,
    about: About,
}

/// Hashes the parts that usually differ. Hashing all parts takes several times as long.
impl Hash for CauseFacts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let port = match self.about {
            About::Port(port) => u32::from(port),
            About::Ports | About::Group => 1 << 16,
        };
        let [client, server] = self.roles.map(RoleSet::bits);
        state.write_u128(client.rotate_left(64) ^ server);
        state.write_u64((self.code as u64) << 32 | u64::from(port));
    }
}

/// Explains the findings of an audit as text.
pub struct Explainer<'a> {
    policy: &'a Policy,
    outcome: &'a Judgement,
    judge: Judge<'a>,
    seen: JudgedCapture<'a>,
    pairs: PairIndex,
    /// The latest clients for which each service worked. Only failures need them.
    worked: OnceLock<HashMap<(Endpoint, Transport), Vec<Success>>>,
}

/// A client for which a service worked.
struct Success {
    /// The first address of the client in the inventory, or its only one.
    client: IpAddr,
    /// When its first connection that worked began.
    time: Nanos,
}

impl<'a> Explainer<'a> {
    /// Returns the explainer of an audit, or `None` if nothing was judged.
    pub fn of(policy: &'a Policy, outcome: &'a Judgement) -> Option<Self> {
        let seen = outcome.seen(policy)?;
        let pairs = PairIndex::of(&outcome.conversations.list);
        Some(Self {
            policy,
            outcome,
            judge: Judge::new(policy),
            seen,
            pairs,
            worked: OnceLock::new(),
        })
    }

    /// Explains all findings, worst first.
    pub fn all(&self) -> impl Iterator<Item = ReportedFinding> {
        self.outcome.findings().iter().map(|finding| self.explain(finding))
    }

    /// Returns the judgement that is explained.
    pub fn outcome(&self) -> &'a Judgement {
        self.outcome
    }

    /// Returns the clients and the servers of a finding.
    pub fn members(&self, finding: &Finding) -> [Members; 2] {
        Members::of(self.policy, self.outcome, finding)
    }

    /// Returns at most `most` clients and servers of a finding.
    pub(super) fn members_up_to(&self, most: usize, finding: &Finding) -> [Members; 2] {
        Members::up_to(most, self.policy, self.outcome, finding)
    }

    /// Returns the address of the server of a finding; `*` for several. The string is empty if the
    /// finding does not state an address.
    pub fn server_address(&self, finding: &Finding) -> String {
        let [_, server] = self.ends(finding);
        server.address
    }

    /// Returns the roles of the client and of the server of a finding. A side is empty if its
    /// members have no roles or different roles.
    pub fn roles(&self, finding: &Finding) -> [RoleSet; 2] {
        if let Reason::Claim(claim) = finding.reason
            && self.outcome.claims().merged_pairs(claim).is_some()
        {
            return self.roles_of_claims(claim);
        }
        if !Self::is_described_by_members(finding) {
            return [finding.key.client, finding.key.server].map(|end| {
                match self.outcome.end(end) {
                    EndKey::Host(host) => self.policy.inventory.hosts[*host as usize].roles,
                    EndKey::Roles(roles) | EndKey::Network(_, roles) => *roles,
                    _ => RoleSet::default(),
                }
            });
        }
        let mut all = self.conversations(finding).map(|(_, j)| [j.client.roles, j.server.roles]);
        let first = all.next().unwrap_or_default();
        let shared = |roles: [RoleSet; 2], other: [RoleSet; 2]| {
            [0, 1].map(
                |side| if first[side] == other[side] { roles[side] } else { RoleSet::default() },
            )
        };
        all.fold(first, shared)
    }

    fn is_described_by_members(finding: &Finding) -> bool {
        matches!(finding.reason, Reason::Permission | Reason::Failed(_))
    }

    /// Returns the id of a finding.
    pub fn id(&self, finding: &Finding) -> String {
        self.outcome.id_of(self.policy, finding)
    }

    /// Returns the id of the finding that would combine the pair of `finding` with many others, or
    /// `None` if pairs are never combined for its reason.
    pub(super) fn id_as_many(&self, finding: &Finding) -> Option<String> {
        let is_of_pairs = matches!(finding.reason, Reason::Claim(_) | Reason::Failed(_));
        is_of_pairs.then(|| self.outcome.id_as_many(self.policy, finding))
    }

    /// Returns whether a finding stands for many pairs.
    pub(super) fn is_of_many(&self, finding: &Finding) -> bool {
        let is_of_pairs = matches!(finding.reason, Reason::Claim(_) | Reason::Failed(_));
        is_of_pairs && matches!(self.outcome.end(finding.key.client), EndKey::Everybody)
    }

    /// Returns the number of conversations, or of pairs of hosts, that a finding stands for. It is
    /// 0 for a single pair without traffic, and for findings that are not about traffic.
    pub(super) fn count(&self, finding: &Finding) -> u64 {
        if self.outcome.conversations.aggregation.is_some() && !finding.members.is_empty() {
            let all = self.conversations(finding).map(|(c, _)| c.stands_for());
            return all.map(|all| all.map_or(1, |all| all.conversations)).sum();
        }
        match finding.reason {
            Reason::Claim(claim) => {
                self.outcome.claims().merged_pairs(claim).map_or(0, |merged| merged.pairs)
            }
            Reason::Failed(_) if self.is_of_many(finding) => {
                let pairs = self.conversations(finding).map(|(c, j)| {
                    [(&j.client, c.subject.client), (&j.server, c.subject.server)]
                        .map(|(party, address)| self.policy.label(party, address))
                });
                pairs.collect::<std::collections::BTreeSet<_>>().len() as u64
            }
            _ => finding.members.len() as u64,
        }
    }

    /// Explains a finding.
    pub fn explain(&self, finding: &Finding) -> ReportedFinding {
        let mut reported = self.without_words(finding);
        let Words { message, action, display_filter } = match finding.reason {
            Reason::Permission => self.permission(finding, &reported),
            Reason::Strangers => permission::strangers(&reported),
            Reason::Failed(_) => self.failure(finding, &reported),
            Reason::Claim(claim) => match finding.code() {
                Code::NeverAttempted => self.never_attempted(claim, &reported),
                _ => self.not_assessable(claim, &reported),
            },
            Reason::Serves => self.serves(finding, &reported),
            Reason::LooksAlike(role) => self.looks_alike(finding, role.into()),
            Reason::Silent(role) => self.silent_role(finding, role.into(), &reported),
            Reason::Conflict(number) => self.conflict(number, &reported),
            Reason::Loopback => self.loopback(finding),
            Reason::Unused(number) => self.unused(number as usize),
        };
        (reported.message, reported.action, reported.display_filter) =
            (message, action, display_filter);
        let is_certain_failure = matches!(finding.reason, Reason::Failed(_)) && finding.certain();
        if let Some(words) = self.certain_members(finding).filter(|_| is_certain_failure) {
            reported.message.push_str(&format!("; {words}"));
        }
        if let Some(words) = self.aggregated(finding) {
            reported.message.push_str(&format!("; {words}"));
        }
        if let Some(words) = self.moved(finding) {
            reported.action = format!(
                "First check which machine used the address: {words}; then {}",
                permission::uncapitalized(&reported.action)
            );
        }
        reported
    }

    /// Says how the addresses of a finding's conversations moved from one hardware address to
    /// another, or were claimed by several, so that the traffic may come from another machine than
    /// the listed host. Returns `None` if they did not.
    fn moved(&self, finding: &Finding) -> Option<String> {
        let moves = &self.outcome.moves;
        let is_about_traffic = matches!(finding.reason, Reason::Permission | Reason::Failed(_));
        if moves.is_empty() || !is_about_traffic {
            return None;
        }
        let ends = self.conversations(finding);
        let ends = ends.flat_map(|(c, _)| [c.subject.client, c.subject.server]);
        let moved: BTreeMap<IpAddr, &String> =
            ends.filter_map(|end| Some((end, moves.get(&end)?))).collect();
        let first = moved.values().next()?;
        Some(match moved.len() - 1 {
            0 => (*first).clone(),
            1 => format!("{first}, and 1 more address was also claimed by another one"),
            more => format!("{first}, and {more} more addresses were also claimed by others"),
        })
    }

    /// Returns the lowest and the highest known port of a finding; `None` if none is known.
    fn port_range(&self, finding: &Finding) -> Option<[u16; 2]> {
        let known = self.conversations(finding).filter(|(c, _)| !c.lost_port());
        let ranges =
            known.map(|(c, _)| c.stands_for().map_or([c.subject.port; 2], |all| all.ports));
        ranges.reduce(|[low, high], [other_low, other_high]| {
            [low.min(other_low), high.max(other_high)]
        })
    }

    /// Says how many conversations were aggregated into those of a finding about permission,
    /// unlisted addresses or failed connections. Returns `None` if none were, and for other
    /// findings.
    fn aggregated(&self, finding: &Finding) -> Option<String> {
        if !matches!(finding.reason, Reason::Permission | Reason::Strangers | Reason::Failed(_)) {
            return None;
        }
        let mut conversations = 0;
        let mut may_repeat = false;
        let mut flows = 0;
        let mut ends: [Option<[IpAddr; 2]>; 2] = [None; 2];
        for (c, _) in self.conversations(finding) {
            let Some(all) = c.stands_for() else { continue };
            conversations += all.conversations;
            may_repeat |= all.may_repeat;
            flows += c.flows;
            for (mine, theirs) in ends.iter_mut().zip([all.clients, all.servers]) {
                let [low, high] = mine.unwrap_or(theirs);
                *mine = Some([low.min(theirs[0]), high.max(theirs[1])]);
            }
        }
        if conversations == 0 {
            return None;
        }
        let range = |noun: &str, end: Option<[IpAddr; 2]>| match end {
            Some([low, high]) if low != high => format!(", {noun} from {low} to {high}"),
            _ => String::new(),
        };
        let verb = if conversations == 1 { "was" } else { "were" };
        let up_to = if may_repeat { "up to " } else { "" };
        Some(format!(
            "{up_to}{} ({}{}{}) {verb} aggregated to stay within --max-memory",
            plural(conversations, "conversation"),
            plural(flows, "flow"),
            range("clients", ends[0]),
            range("servers", ends[1]),
        ))
    }

    /// Returns the facts that were considered for a finding, in order.
    pub fn trace(&self, finding: &Finding) -> Vec<String> {
        match finding.reason {
            Reason::Permission => self.permission_trace(finding),
            Reason::Strangers | Reason::Unused(_) => Vec::new(),
            Reason::Failed(_) => self.failure_trace(finding),
            Reason::Claim(claim) => self.claim_trace(claim),
            Reason::Serves => self.host_trace(finding),
            Reason::LooksAlike(role) => self.look_alike_trace(finding, role.into()),
            Reason::Silent(role) => self.silent_role_trace(finding, role.into()),
            Reason::Conflict(number) => self.conflict_trace(finding, number),
            Reason::Loopback => self.loopback_trace(finding),
        }
    }

    /// Returns a finding without its texts.
    fn without_words(&self, finding: &Finding) -> ReportedFinding {
        let id = |finding| self.outcome.id_of(self.policy, finding);
        let cause = finding.explained_by().map(|cause| &self.outcome.findings()[cause]);
        ReportedFinding { id: id(finding), explained_by: cause.map(id), ..self.without_id(finding) }
    }

    /// Returns a finding without its texts and ids, which take a long time to compute.
    pub(super) fn without_id(&self, finding: &Finding) -> ReportedFinding {
        let policy = self.policy;
        let outcome = self.outcome;
        let [client, server] = self.ends(finding);
        ReportedFinding {
            id: String::new(),
            severity: finding.severity,
            verdict: finding.verdict(),
            code: finding.code(),
            certain: finding.certain(),
            client,
            server,
            transport: outcome.transport_of(finding),
            port: outcome.port_of(policy, finding),
            state: finding.state,
            direction: finding.direction,
            rule: self.rule(finding),
            group: outcome.group_of(policy, finding),
            count: self.count(finding),
            first_seen: finding.first.get(),
            last_seen: finding.last.get(),
            message: String::new(),
            action: String::new(),
            display_filter: String::new(),
            doubts: finding.doubts,
            explained_by: None,
        }
    }

    /// Returns the facts that determine the cause of a finding about permission. Returns `None` if
    /// these facts are not enough, and for other findings, which are few.
    pub(super) fn cause_facts(&self, finding: &Finding) -> Option<CauseFacts> {
        if finding.reason != Reason::Permission || finding.key.about == About::Group {
            return None;
        }
        let ruling = self.first(finding)?.2.ruling;
        Some(CauseFacts {
            severity: finding.severity,
            code: finding.code(),
            certain: finding.certain(),
            rule: [ruling.row(), ruling.exception()],
            roles: self.roles(finding),
            transport: finding.key.transport,
            about: finding.key.about,
        })
    }

    /// Returns the row or the exception that a finding is based on, or an empty string if there is
    /// none.
    fn rule(&self, finding: &Finding) -> String {
        let rows = &self.policy.matrix.rows;
        let first = || Some(self.first(finding)?.2.ruling);
        let row = match finding.reason {
            Reason::Permission => match first() {
                Some(ruling) if ruling.exception().is_some() => {
                    let exception = ruling.exception().unwrap_or_default();
                    return exception_rule(self.policy, exception);
                }
                ruling => ruling.and_then(|ruling| ruling.row()),
            },
            Reason::Failed(_) => first().and_then(|ruling| ruling.row()),
            Reason::Claim(claim) => {
                let claims = self.outcome.claims();
                claims.rows(claims.get(claim).rows).first().copied()
            }
            Reason::Unused(number) => return exception_rule(self.policy, number as usize),
            _ => None,
        };
        row.map_or_else(String::new, |row| rows[row].id.clone())
    }

    /// Returns the first conversation of a finding, with its index and its judgement.
    fn first(&self, finding: &Finding) -> Option<(usize, &'a Conversation, &'a Judged)> {
        let first = *self.outcome.members_of(finding).first()? as usize;
        Some((first, &self.outcome.conversations.list[first], &self.outcome.judged[first]))
    }

    /// Returns the conversations of a finding, each with its judgement.
    fn conversations(
        &self,
        finding: &Finding,
    ) -> impl Iterator<Item = (&'a Conversation, &'a Judged)> {
        let outcome = self.outcome;
        let members = outcome.members_of(finding).iter().map(|number| *number as usize);
        members.map(|number| (&outcome.conversations.list[number], &outcome.judged[number]))
    }

    /// Returns the two ends of a finding.
    fn ends(&self, finding: &Finding) -> [EndIdentity; 2] {
        let policy = self.policy;
        let keys = [finding.key.client, finding.key.server].map(|end| self.outcome.end(end));
        if let Reason::Claim(claim) = finding.reason
            && self.outcome.claims().merged_pairs(claim).is_some()
        {
            return self.ends_of_claims(claim);
        }
        if !Self::is_described_by_members(finding) {
            return keys.map(|key| EndIdentity::of_key(policy, key));
        }
        // All conversations of a single pair have the same ends.
        let most = if finding.single == [true; 2] { 1 } else { usize::MAX };
        type ExplainedSide = for<'c> fn(&'c Conversation, &'c Judged) -> (&'c Party, IpAddr);
        let sides: [ExplainedSide; 2] =
            [|c, j| (&j.client, c.subject.client), |c, j| (&j.server, c.subject.server)];
        let mut ends = sides.map(|side| {
            let all = self.conversations(finding).take(most).map(|(c, j)| side(c, j));
            EndIdentity::of_all(policy, all)
        });
        let several: [fn(&AggregatedConversations) -> bool; 2] = [
            AggregatedConversations::has_several_clients,
            AggregatedConversations::has_several_servers,
        ];
        for (end, several) in ends.iter_mut().zip(several) {
            let mut all = self.conversations(finding).take(most);
            if all.any(|(c, _)| c.stands_for().is_some_and(several)) {
                "*".clone_into(&mut end.address);
            }
        }
        match keys[0] {
            EndKey::Many(network) => ends[0].become_network(policy, *network),
            EndKey::Everybody => {
                let counts = self.members(finding).map(|side| side.len());
                let [client, server] = ends;
                return [client.many(counts[0]), server.many(counts[1])];
            }
            _ => {}
        }
        ends
    }

    /// Lists the clients of a finding with many clients; `None` for other findings.
    fn list_clients(&self, finding: &Finding) -> Option<String> {
        const SHOWN: usize = 20;
        let client = self.outcome.end(finding.key.client);
        if !matches!(client, EndKey::Many(_) | EndKey::Everybody) {
            return None;
        }
        let name =
            |(c, j): (&Conversation, &Judged)| self.policy.label(&j.client, c.subject.client);
        let clients: std::collections::BTreeSet<String> =
            self.conversations(finding).map(name).collect();
        let shown: Vec<&str> = clients.iter().take(SHOWN).map(String::as_str).collect();
        let more = clients.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("{} clients: {}{more}", clients.len(), shown.join(", ")))
    }

    /// Returns for how many conversations of a finding the verdict is not certain, and all reasons
    /// for doubting it; `None` if this applies to all or none of them.
    fn doubtful_members(&self, finding: &Finding) -> Option<(usize, Doubts)> {
        let doubts_of = |number: usize| {
            let judged = &self.outcome.judged[number];
            match finding.reason {
                Reason::Failed(_) => self.seen.doubts_of_failure(number, judged),
                _ => judged.doubts,
            }
        };
        let members = self.outcome.members_of(finding);
        let doubts = members.iter().map(|number| doubts_of(*number as usize));
        let mut count = 0;
        let mut all = Doubts::default();
        for doubts in doubts.filter(|doubts| !doubts.certain()) {
            count += 1;
            all = all.with(doubts);
        }
        (1..members.len()).contains(&count).then_some((count, all))
    }

    /// Says how many of its conversations a finding is certain for; `None` if it is for all or
    /// none. A reader expects a certain finding to be certain for each of them.
    fn certain_members(&self, finding: &Finding) -> Option<String> {
        let members = finding.members.len();
        let certain = members - self.doubtful_members(finding)?.0;
        // How many conversations an aggregated one stands for may not be known.
        Some(if self.conversations(finding).any(|(c, _)| c.is_aggregated()) {
            format!("this is certain for {} only", plural(certain as u64, "conversation"))
        } else {
            format!("this is certain for {certain} of the {members} conversations")
        })
    }

    /// Says for how many conversations of a finding the verdict is not certain, and why; `None` if
    /// this applies to all or none of them.
    fn describe_doubtful_members(&self, finding: &Finding) -> Option<String> {
        let members = finding.members.len();
        let (count, all) = self.doubtful_members(finding)?;
        let words: Vec<&str> = all.iter().map(|doubt| doubt.name()).collect();
        Some(format!(
            "the verdict is not certain for {count} of {members} conversations ({}); the finding is based on the other conversations",
            words.join(", ")
        ))
    }

    /// Returns a filter that shows the packets of a finding's conversations.
    fn filter(&self, finding: &Finding) -> String {
        display_filter::display_filter(
            &self.outcome.conversations.list,
            &self.pairs,
            self.outcome.members_of(finding),
        )
    }

    /// Returns whether a finding is about many ports.
    fn is_of_many_ports(finding: &Finding) -> bool {
        finding.key.about == About::Ports
    }
}
