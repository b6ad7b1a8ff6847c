//! What explains other findings: an inventory that is wrong, or one host that tries everything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::coverage::{Coverage, HostReport};
use super::filter::display_filter;
use super::finding::{End, Finding};
use super::judge::{Judge, Judged};
use super::verdict::{Code, Doubts, Verdict};
use super::wording::service_words;
use crate::conversation::{Conversation, Conversations, Grade, State};
use crate::policy::{Policy, RoleSet, Row, Scope, Who};

/// From so many servers that one client tried in vain it is one scan.
const TARGETS: usize = 10;

/// Services that are shown of one address.
const SHOWN: usize = 3;

/// Returns a finding for each unlisted address that does, proved by handshakes, what only one role of the product does,
/// while listed hosts of that role were never seen.
pub(super) fn unlisted(
    judge: &Judge<'_>,
    conversations: &Conversations,
    judged: &[Judged],
    hosts: &[HostReport],
) -> Vec<Finding> {
    let policy = judge.policy;
    let mut doing: BTreeMap<(IpAddr, usize), Vec<usize>> = BTreeMap::new();
    for (number, (c, j)) in conversations.list.iter().zip(judged).enumerate() {
        let proved =
            c.grade == Grade::Handshake && c.state == State::Established && !c.is_doubted();
        if !proved {
            continue;
        }
        let (client, server) = (c.subject.client, c.subject.server);
        let pair = match (j.client.who, j.server.who) {
            (Who::Host(_), Who::Stranger) => {
                Some((server, only_role(policy, c, |row| row.destination)))
            }
            (Who::Stranger, Who::Host(_)) => Some((client, only_role(policy, c, |row| row.source))),
            _ => None,
        };
        if let Some((address, Some(role))) = pair.filter(|(a, _)| policy.is_internal(*a)) {
            doing.entry((address, role)).or_default().push(number);
        }
    }
    let unseen = |role: usize| -> Vec<&str> {
        let all = policy.inventory.hosts.iter().zip(hosts);
        let all = all.filter(|(host, seen)| {
            !host.is_virtual()
                && seen.coverage == Coverage::NotSeen
                && host.roles.meets(RoleSet::one(role))
        });
        all.map(|(host, _)| host.name.as_str()).collect()
    };
    let doing = doing.into_iter();
    let with_unseen =
        doing.map(|((address, role), members)| (address, role, members, unseen(role)));
    with_unseen
        .filter(|(.., unseen)| !unseen.is_empty())
        .map(|(address, role, members, unseen)| {
            look_alike(judge, conversations, address, role, &members, &unseen)
        })
        .collect()
}

/// The one role of the product that all rows of a conversation's service give one side, if there is just one.
fn only_role(policy: &Policy, c: &Conversation, side: impl Fn(&Row) -> usize) -> Option<usize> {
    let matrix = &policy.matrix;
    let rows = policy.rows_at(c.subject.transport, c.subject.port).map(|row| &matrix.rows[row]);
    let rows = rows
        .filter(|row| row.scope == Scope::Network && row.only.is_none() && row.overlay.is_none());
    let mut roles = RoleSet::default();
    for row in rows {
        if matrix.roles[side(row)].everybody {
            return None;
        }
        roles = roles.with(matrix.roles[side(row)].members);
    }
    let mut roles = roles.iter();
    let (first, None) = (roles.next()?, roles.next()) else { return None };
    (matrix.roles[first].kind == "ras-component").then_some(first)
}

/// The finding about an address that does what an unseen host should do.
fn look_alike(
    judge: &Judge<'_>,
    conversations: &Conversations,
    address: IpAddr,
    role: usize,
    members: &[usize],
    unseen: &[&str],
) -> Finding {
    let (policy, list) = (judge.policy, &conversations.list);
    let end = || End::of(policy, &Policy::nobody(), &address.to_string());
    let mut finding = Finding::new(Code::RoleMismatch, end(), end());
    finding.severity = judge.severity(Code::RoleMismatch, true, Doubts::default());
    let matrix_role = &policy.matrix.roles[role];
    finding.group.clone_from(&matrix_role.slug);
    let mut deeds = BTreeSet::new();
    for number in members {
        finding.add(list, *number);
        let subject = list[*number].subject;
        let verb = if subject.server == address { "serves" } else { "opens" };
        deeds.insert((verb, subject.transport, subject.port));
    }
    let words = |(verb, transport, port): &(&str, crate::model::Transport, u16)| {
        format!("{verb} {}", service_words(*transport, &port.to_string()))
    };
    let mut shown: Vec<String> = deeds.iter().take(SHOWN).map(words).collect();
    shown.extend((deeds.len() > SHOWN).then(|| format!("{} more", deeds.len() - SHOWN)));
    let (names, verb) = match unseen {
        [one] => ((*one).to_owned(), "was"),
        several => (several.join(" and "), "were"),
    };
    finding.message = format!(
        "{address} does what only {} does ({}), and {names} {verb} never seen: is it the same?",
        matrix_role.name,
        shown.join(", ")
    );
    finding.action = format!(
        "If it is, correct the address of {names} in the inventory; else find out what {address} is"
    );
    finding.display_filter = display_filter(list, members);
    finding.trace.push(format!("{address} is not in the inventory"));
    finding.trace.push(format!("the inventory gives the role {} to {names}", matrix_role.name));
    finding.trace.push(format!(
        "{} conversations, each opened by a handshake, are of services that no other role has",
        members.len()
    ));
    finding.identify();
    finding
}

/// Who would be what, were the inventory right.
struct Cause {
    id: String,
    /// The listed host or the address that plays another role.
    who: Result<usize, IpAddr>,
    roles: RoleSet,
    /// The listed hosts that it may be.
    names: Vec<String>,
}

/// Says of each finding which other one explains it: a contradiction of the inventory without which it would not be
/// there, or the first of a scan.
pub(super) fn explain(
    judge: &Judge<'_>,
    conversations: &Conversations,
    judged: &[Judged],
    findings: &mut [Finding],
) {
    let causes = causes(judge.policy, conversations, judged, findings);
    let explaining = |finding: &Finding| {
        let mut causes = causes.iter().filter(|cause| cause.id != finding.id);
        causes.find(|cause| is_explained(judge, conversations, judged, finding, cause))
    };
    let by_cause: Vec<Option<String>> = findings
        .iter()
        .map(|finding| match finding.code {
            Code::RoleMismatch => None,
            _ => explaining(finding).map(|cause| cause.id.clone()),
        })
        .collect();
    for (finding, cause) in findings.iter_mut().zip(by_cause) {
        finding.explained_by = cause;
    }
    // What answered keeps its own finding.
    let is_attempt = |f: &Finding| {
        matches!(f.verdict, Verdict::UnexpectedPort | Verdict::Undocumented)
            && f.explained_by.is_none()
            && f.client.is_one()
            && f.server.is_one()
            && f.state.is_some_and(|state| !state.reached())
    };
    let mut tried: BTreeMap<String, (BTreeSet<String>, Vec<usize>)> = BTreeMap::new();
    for (number, finding) in findings.iter().enumerate().filter(|(_, f)| is_attempt(f)) {
        let (servers, numbers) = tried.entry(finding.client.identity().to_owned()).or_default();
        servers.insert(finding.server.identity().to_owned());
        numbers.push(number);
    }
    for (servers, numbers) in tried.into_values() {
        if servers.len() >= TARGETS {
            let first = findings[numbers[0]].id.clone();
            for number in &numbers[1..] {
                findings[*number].explained_by = Some(first.clone());
            }
        }
    }
}

/// The contradictions of the inventory that may explain something.
fn causes(
    policy: &Policy,
    conversations: &Conversations,
    judged: &[Judged],
    findings: &[Finding],
) -> Vec<Cause> {
    let mut causes = Vec::new();
    for finding in findings.iter().filter(|f| f.code == Code::RoleMismatch) {
        let Some(first) = finding.grounds.conversations.first() else { continue };
        let (c, j) = (&conversations.list[*first], &judged[*first]);
        let id = finding.id.clone();
        match finding.client.address.parse() {
            Ok(address) if policy.host_of(address).is_none() => {
                let roles = policy.matrix.role(&finding.group).map(RoleSet::one);
                let roles = roles.unwrap_or_default();
                let listed = policy.inventory.hosts.iter().filter(|h| h.roles.meets(roles));
                let names = listed.map(|host| host.name.clone()).collect();
                causes.push(Cause { id, who: Err(address), roles, names });
            }
            _ => {
                let Who::Host(host) = j.server.who else { continue };
                let Some(role) = only_role(policy, c, |row| row.destination) else { continue };
                let roles = RoleSet::one(role);
                causes.push(Cause { id, who: Ok(host), roles, names: Vec::new() });
            }
        }
    }
    causes
}

/// Whether a finding would not be there, had the one of the cause its role.
fn is_explained(
    judge: &Judge<'_>,
    conversations: &Conversations,
    judged: &[Judged],
    finding: &Finding,
    cause: &Cause,
) -> bool {
    let members = &finding.grounds.conversations;
    if members.is_empty() {
        // What is not seen of a host that may have another address.
        let is_it = |end: &End| cause.names.contains(&end.name);
        return finding.code == Code::HostNotSeen
            && (is_it(&finding.client) || is_it(&finding.server));
    }
    if !matches!(finding.verdict, Verdict::UnexpectedPort | Verdict::Undocumented) {
        return false;
    }
    members.iter().all(|number| {
        let (c, j) = (&conversations.list[*number], &judged[*number]);
        let is_it = |who: Who, address: IpAddr| match cause.who {
            Ok(host) => who == Who::Host(host),
            Err(cause) => address == cause,
        };
        let (mut client, mut server) = (j.client, j.server);
        let of_client = is_it(client.who, c.subject.client);
        let of_server = is_it(server.who, c.subject.server);
        if of_client {
            client.roles = client.roles.with(cause.roles);
        }
        if of_server {
            server.roles = server.roles.with(cause.roles);
        }
        (of_client || of_server)
            && matches!(
                judge.rule_between(c, client, server).verdict(),
                Verdict::Documented | Verdict::Background | Verdict::Excepted
            )
    })
}
