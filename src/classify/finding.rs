//! Findings as data. They refer to their evidence by index, and their texts are added when a report
//! is written.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::Judgement;
use super::absence_claims::{AbsenceClaims, ClaimId, GroupId};
use super::ends::{EndId, EndInterner, EndKey};
use super::verdict::{Code, Doubts, Verdict};
use crate::conversation::{Conversation, DirectionEvidence, State};
use crate::model::{Mac, Max, Merge as _, Min, Transport, hex};
use crate::policy::{Policy, Severity};

/// The prefix of an id. It prevents spreadsheets from reading an id as a number.
const ID_MARK: &str = "f-";

/// The number of hex digits of an id.
const ID_DIGITS: usize = 12;

/// The maximum number of hardware addresses that reports show for one address.
pub const SHOWN_CLAIMANTS: usize = 8;

/// Adds the prefix to an id without one, as earlier versions wrote it. Returns any other text
/// unchanged.
pub fn id_of(text: &str) -> String {
    let bare = text.len() == ID_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit());
    if bare { format!("{ID_MARK}{text}") } else { text.to_owned() }
}

/// The range of the `MemberPool` that contains the conversations of one finding. See
/// [`Judgement::members_of`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MemberRange {
    start: u32,
    len: u32,
}

impl MemberRange {
    /// Returns the range as indices into the pool.
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }

    /// Returns whether the range is empty.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns the number of conversations in the range.
    pub fn len(self) -> usize {
        self.len as usize
    }
}

/// The indices of the conversations that findings are based on. Those of one finding are adjacent.
#[derive(Default)]
pub(super) struct MemberPool(pub Vec<u32>);

impl MemberPool {
    /// Adds the conversations of a finding and returns their range in the pool.
    pub fn add(&mut self, members: impl IntoIterator<Item = u32>) -> MemberRange {
        let start = self.0.len() as u32;
        self.0.extend(members);
        MemberRange { start, len: self.0.len() as u32 - start }
    }

    /// Returns the indices of the conversations in a range of the pool.
    pub fn get(&self, run: MemberRange) -> &[u32] {
        &self.0[run.range()]
    }
}

/// The port or other subject of a finding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum About {
    /// One port, or one ICMP type.
    Port(u16),
    /// Many ports.
    Ports,
    /// The subject that the reason names: a group of rows, a service, a role, an address or an
    /// exception.
    Group,
}

/// The properties that identify a finding across captures. Its id is computed from them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FindingKey {
    /// The code, which implies the verdict.
    pub code: Code,
    /// The client: the end that initiated the traffic, or should have.
    pub client: EndId,
    /// The server: the end that the client contacted, or should have.
    pub server: EndId,
    /// The protocol above IP, if there is a single one.
    pub transport: Option<Transport>,
    /// The port or other subject of the finding.
    pub about: About,
}

/// The reason for a finding, with the index of the data that it is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The conversations of the finding are not permitted, or are permitted only by a feature that
    /// the inventory does not mention. The ruling on the first conversation gives the reason.
    Permission,
    /// The conversations of the finding are between addresses that are not in the inventory.
    Strangers,
    /// The conversations of the finding are documented by rows of a group, but failed.
    Failed(GroupId),
    /// Traffic of a group of rows is missing or could not be assessed.
    Claim(ClaimId),
    /// A host serves a port that only one role serves, but does not have that role.
    Serves,
    /// An unlisted address serves a port that only this role serves, and at least one listed host
    /// with the role was never seen.
    LooksAlike(u16),
    /// The capture shows no traffic of this role of the host.
    Silent(u16),
    /// Several hardware addresses claim one address. The number is the index of the conflict.
    Conflict(u32),
    /// Loopback addresses were seen on a network.
    Loopback,
    /// The exception with this index matched no traffic that requires it.
    Unused(u32),
}

/// A result that a person should look at.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// The properties that identify the finding across captures.
    pub key: FindingKey,
    /// The severity of the finding.
    pub severity: Severity,
    /// The best state among its conversations.
    pub state: Option<State>,
    /// The strongest direction evidence among its conversations.
    pub direction: Option<DirectionEvidence>,
    /// Whether the client is a single address, and whether the server is a single address.
    pub single: [bool; 2],
    /// The reasons why the finding is not certain.
    pub doubts: Doubts,
    /// The reason for the finding.
    pub reason: Reason,
    /// The conversations that the finding stands for.
    pub members: MemberRange,
    /// The index of the finding that explains this one, plus one; zero if there is none.
    explained_by: u32,
    /// The time of the earliest packet or ICMP error.
    pub first: Min,
    /// The time of the latest packet or ICMP error.
    pub last: Max,
}

// An audit may hold hundreds of thousands of findings in memory, so each must be small.
const _: () = assert!(size_of::<Finding>() <= 64);

impl Finding {
    /// Returns a finding without conversations.
    pub(super) fn new(key: FindingKey, reason: Reason) -> Self {
        Self {
            key,
            severity: Severity::Info,
            state: None,
            direction: None,
            single: [true; 2],
            doubts: Doubts::default(),
            reason,
            members: MemberRange::default(),
            explained_by: 0,
            first: Min::EMPTY,
            last: Max::EMPTY,
        }
    }

    /// Returns the finding with a severity and the reasons why it is not certain.
    pub(super) fn weighing(self, severity: Severity, doubts: Doubts) -> Self {
        Self { severity, doubts, ..self }
    }

    /// Returns the finding with the conversations that it stands for.
    pub(super) fn with_members(
        mut self,
        list: &[Conversation],
        pool: &MemberPool,
        members: MemberRange,
    ) -> Self {
        self.members = members;
        let mut all = pool.get(members).iter().map(|number| &list[*number as usize]);
        let Some(first) = all.next() else { return self };
        let mut state = first.state;
        let mut grade = first.grade;
        (self.first, self.last) = (first.first, first.last);
        for c in all {
            state = state.min(c.state);
            grade = grade.min(c.grade);
            self.first.merge(&c.first);
            self.last.merge(&c.last);
            self.single[0] &= c.subject.client == first.subject.client;
            self.single[1] &= c.subject.server == first.subject.server;
        }
        (self.state, self.direction) = (Some(state), Some(grade));
        self
    }

    /// Returns the verdict that the code implies.
    pub fn verdict(&self) -> Verdict {
        self.key.code.verdict()
    }

    /// Returns the code, which is the reason for the verdict.
    pub fn code(&self) -> Code {
        self.key.code
    }

    /// Returns whether the finding is certain.
    pub fn certain(&self) -> bool {
        self.doubts.certain()
    }

    /// Returns the index of the finding that explains this one; `None` if there is none.
    pub fn explained_by(&self) -> Option<usize> {
        (self.explained_by as usize).checked_sub(1)
    }

    pub(super) fn set_explained_by(&mut self, cause: usize) {
        self.explained_by = cause as u32 + 1;
    }
}

/// Several hardware addresses that claim one address.
pub struct Conflict {
    /// The address that the hardware addresses claim.
    pub address: IpAddr,
    /// The hardware addresses that claim it.
    pub macs: BTreeSet<Mac>,
    /// The hosts of the inventory that advertised the address as virtual (VRRP), although it is not
    /// listed as virtual.
    pub holders: BTreeSet<usize>,
    /// Whether the address is listed as virtual. If so, the hardware addresses are those that are
    /// not known to belong to its holders.
    pub is_virtual: bool,
    /// Whether the hardware addresses claimed the address only in turn, never repeatedly within the
    /// same ten seconds.
    pub in_turn: bool,
    /// Whether this happened so often that it cannot be a takeover.
    pub is_repeated: bool,
    /// A cause of the claims other than two hosts with the same address, if one is possible.
    pub harmless_cause: Option<HarmlessCause>,
}

/// A cause of claims by several hardware addresses other than a second host with the same address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HarmlessCause {
    /// All hardware addresses are also those of another address of the host. A host may answer on
    /// each of its cards for all of its addresses (ARP flux).
    CardsOfHost,
    /// One connection of the address has frames from all of the hardware addresses. A host may
    /// spread its traffic over several cards.
    CardsOfConnection,
    /// The address sent frames with the same hop count from all of the hardware addresses, and none
    /// of its services both worked and failed. A host may use a different card for each of its
    /// clients (balance-alb).
    CardsOfTeam,
    /// A router with this hardware address may answer ARP requests for the host (proxy ARP).
    Router(Mac),
    /// A device with this hardware address also claims addresses of other hosts, which claim them
    /// themselves. It may answer all ARP requests of a network (local proxy ARP).
    Proxy(Mac),
}

/// All findings of an audit, and the tables that they refer to.
#[derive(Default)]
pub(super) struct FindingBook {
    /// The findings; [`Judgement::sort`] puts the worst first.
    pub findings: Vec<Finding>,
    /// The ends that findings are about.
    pub ends: EndInterner,
    /// The conversations that findings are based on.
    pub pool: MemberPool,
    /// The absence claims that findings are based on.
    pub claims: AbsenceClaims,
    /// The addresses that several hardware addresses claim.
    pub conflicts: Vec<Conflict>,
}

/// The parts of a finding that determine its order after severity, code and ends.
struct SubjectOrder {
    transport: String,
    port: String,
    group: String,
}

impl Judgement {
    /// Returns the indices of the conversations that a finding stands for.
    pub fn members_of(&self, finding: &Finding) -> &[u32] {
        self.book.pool.get(finding.members)
    }

    /// Returns the transport of a finding as reports show it. `*` stands for several, and the
    /// string is empty if the finding is not about traffic.
    pub fn transport_of(&self, finding: &Finding) -> String {
        match (finding.key.transport, finding.reason) {
            (Some(transport), _) => transport.to_string(),
            (None, Reason::Strangers | Reason::Loopback) => "*".to_owned(),
            (None, Reason::Claim(claim)) if self.book.claims.merged_pairs(claim).is_some() => {
                "*".to_owned()
            }
            (None, _) => String::new(),
        }
    }

    /// Returns the port of a finding as reports show it. Several ports are joined by `;`, and `*`
    /// stands for many. The string is empty if the finding is not about a port.
    pub fn port_of(&self, policy: &Policy, finding: &Finding) -> String {
        match (finding.key.about, finding.reason) {
            (_, Reason::Strangers | Reason::Loopback) | (About::Ports, _) => "*".to_owned(),
            (About::Port(port), _) => {
                let shown = |t: Transport| t.has_ports() || t.is_icmp();
                let shown = finding.key.transport.is_some_and(shown);
                if shown { port.to_string() } else { String::new() }
            }
            (About::Group, Reason::Serves | Reason::Failed(_)) => {
                let list = &self.conversations.list;
                let members = self.members_of(finding).iter();
                let mut ports: Vec<u16> =
                    members.map(|number| list[*number as usize].subject.port).collect();
                ports.sort_unstable();
                ports.dedup();
                ports.iter().map(u16::to_string).collect::<Vec<_>>().join(";")
            }
            (About::Group, Reason::Claim(claim)) => self.book.claims.ports(policy, claim),
            (About::Group, _) => String::new(),
        }
    }

    /// Returns the group of rows, role, service (`TRANSPORT/PORT`), address or exception that a
    /// finding is about. The string is empty for findings about whether traffic is permitted, and
    /// for those about loopback addresses.
    pub fn group_of(&self, policy: &Policy, finding: &Finding) -> String {
        let matrix = &policy.matrix;
        let group = |group: GroupId| matrix.groups.keys().nth(group.into()).cloned();
        match finding.reason {
            Reason::Permission | Reason::Strangers | Reason::Loopback => String::new(),
            Reason::Failed(number) => group(number).unwrap_or_default(),
            Reason::Claim(claim) => group(self.book.claims.group(claim)).unwrap_or_default(),
            Reason::Serves => {
                let port = self.port_of(policy, finding);
                format!("{}/{port}", self.transport_of(finding))
            }
            Reason::LooksAlike(role) | Reason::Silent(role) => {
                matrix.roles[usize::from(role)].slug.clone()
            }
            Reason::Conflict(number) => self.book.conflicts[number as usize].address.to_string(),
            Reason::Unused(number) => exception_rule(policy, number as usize),
        }
    }

    /// Returns the id of a finding: `f-` and the first 12 hex digits of SHA-256 over verdict, code,
    /// ends, transport, and group or port, each followed by the byte 0x1e.
    pub fn id_of(&self, policy: &Policy, finding: &Finding) -> String {
        let [client, server] = [finding.key.client, finding.key.server]
            .map(|end| self.book.ends.get(end).identity(policy));
        self.id_between(policy, finding, [&client, &server])
    }

    /// Returns the id that the finding would have if many pairs were reported as one.
    pub fn id_as_many(&self, policy: &Policy, finding: &Finding) -> String {
        self.id_between(policy, finding, ["*", "*"])
    }

    fn id_between(&self, policy: &Policy, finding: &Finding, ends: [&str; 2]) -> String {
        let code = finding.code();
        let group = self.group_of(policy, finding);
        let subject = if group.is_empty() { self.port_of(policy, finding) } else { group };
        let [client, server] = ends;
        let transport = self.transport_of(finding);
        let mut hasher = Sha256::new();
        for part in [code.verdict().name(), code.name(), client, server, &transport, &subject] {
            hasher.update(part.as_bytes());
            hasher.update([0x1e]);
        }
        format!("{ID_MARK}{}", &hex(&hasher.finalize())[..ID_DIGITS])
    }

    /// Sorts findings worst first. Findings of equal severity are ordered by code, ends and
    /// subject.
    pub(super) fn sort(&mut self, policy: &Policy) {
        let ranks = self.book.ends.ranks(policy);
        let rank = |end| u128::from(EndInterner::rank(&ranks, end));
        // A higher severity has a lower key.
        let weight = |s: Severity| (Severity::ALL.len() - 1 - s as usize) as u128;
        let key = |f: &Finding| {
            weight(f.severity) << 96
                | (f.code() as u128) << 88
                | rank(f.key.client) << 44
                | rank(f.key.server)
        };
        let mut order: Vec<(u128, u32)> =
            self.book.findings.iter().zip(0..).map(|(f, number)| (key(f), number)).collect();
        order.sort_unstable_by(|(a, first), (b, second)| {
            a.cmp(b)
                .then_with(|| self.by_subject(policy, *first, *second))
                .then_with(|| first.cmp(second))
        });
        self.book.findings =
            order.into_iter().map(|(_, number)| self.book.findings[number as usize]).collect();
    }

    /// Orders two findings by transport, port and group as reports show them.
    fn by_subject(&self, policy: &Policy, first: u32, second: u32) -> Ordering {
        let [a, b] = [first, second].map(|number| &self.book.findings[number as usize]);
        if a.key.transport == b.key.transport
            && let (About::Port(one), About::Port(other)) = (a.key.about, b.key.about)
            && a.reason == b.reason
        {
            return by_digits(one, other);
        }
        let subject = |f: &Finding| SubjectOrder {
            transport: self.transport_of(f),
            port: self.port_of(policy, f),
            group: self.group_of(policy, f),
        };
        let [a, b] = [subject(a), subject(b)];
        (a.transport, a.port, a.group).cmp(&(b.transport, b.port, b.group))
    }

    /// Returns the index of the conversation that triggered the missing traffic; `None` if the
    /// finding is not about triggered traffic.
    pub fn trigger_of(&self, finding: &Finding) -> Option<usize> {
        match finding.reason {
            Reason::Claim(claim) => {
                let trigger = self.book.claims.get(claim).trigger;
                trigger.map(|(_, conversation)| conversation as usize)
            }
            _ => None,
        }
    }

    /// Returns the conflicting address claims (ARP, neighbour discovery) of a finding, at most
    /// `SHOWN_CLAIMANTS`; none if the finding is not about an address conflict.
    pub fn address_claims_of(&self, finding: &Finding) -> Vec<(IpAddr, Mac)> {
        let Reason::Conflict(number) = finding.reason else { return Vec::new() };
        let conflict = self.conflict(number);
        conflict.macs.iter().take(SHOWN_CLAIMANTS).map(|mac| (conflict.address, *mac)).collect()
    }

    /// Returns the listed hosts that a finding is about, client first.
    pub(super) fn hosts_of(&self, finding: &Finding) -> impl Iterator<Item = usize> {
        let ends = [finding.key.client, finding.key.server];
        ends.into_iter().filter_map(|end| match self.book.ends.get(end) {
            EndKey::Host(host) => Some(*host as usize),
            _ => None,
        })
    }

    /// Returns whether all conversations of a finding have the same client and the same server, and
    /// neither end stands for any host.
    pub(super) fn is_of_a_pair(&self, finding: &Finding) -> bool {
        let known = |end: EndId| !matches!(self.book.ends.get(end), EndKey::Everybody);
        finding.single == [true; 2] && known(finding.key.client) && known(finding.key.server)
    }
}

/// Compares two numbers like strings of decimal digits.
fn by_digits(a: u16, b: u16) -> Ordering {
    let left = |n: u16| (u32::from(n) + u32::from(n == 0)).ilog10();
    let wide = |n: u16| u32::from(n) * 10_u32.pow(4 - left(n));
    wide(a).cmp(&wide(b)).then_with(|| left(a).cmp(&left(b)))
}

/// Returns the name of an exception, which reports show in place of a row.
pub fn exception_rule(policy: &Policy, exception: usize) -> String {
    format!("exception:{}", policy.exceptions.list[exception].id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ordered_as_their_digits_are() {
        let some =
            [0, 1, 2, 9, 10, 11, 19, 20, 99, 100, 443, 999, 1000, 3389, 9999, 10_000, 65_535];
        for a in some {
            for b in some {
                assert_eq!(by_digits(a, b), a.to_string().cmp(&b.to_string()), "{a} {b}");
            }
        }
    }
}
