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
use crate::policy::{Policy, RoleSet, Scope, Severity, Who};

/// From so many servers that one client tried in vain it is one scan.
const TARGETS: usize = 10;

/// Services that are shown of one address.
const SHOWN: usize = 3;

/// Returns a finding for each unlisted address that serves a listed host, proved by handshakes, what only one role of the
/// product serves, while listed hosts of that role were never seen. Anybody can open such a port; to serve it, a listed
/// host has to take him for the server.
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
        // Whoever is in a network without roles is as unlisted as anybody else.
        let is_unlisted = match j.server.who {
            Who::Stranger => true,
            Who::Network(_) => j.server.roles.is_empty(),
            _ => false,
        };
        let of_interest = matches!(j.client.who, Who::Host(_)) && is_unlisted && proved;
        if !of_interest || !policy.is_internal(c.subject.server) {
            continue;
        }
        if let Some(role) = only_role(policy, c).filter(|role| may_ask(policy, c, j, *role)) {
            doing.entry((c.subject.server, role)).or_default().push(number);
        }
    }
    let doing = doing.into_iter();
    let with_unseen = doing
        .map(|((address, role), members)| (address, role, members, unseen(policy, hosts, role)));
    with_unseen
        .filter(|(.., unseen)| !unseen.is_empty())
        .map(|(address, role, members, unseen)| {
            look_alike(judge, conversations, address, role, &members, &unseen)
        })
        .collect()
}

/// The listed hosts of a role that were never seen.
fn unseen<'p>(policy: &'p Policy, hosts: &[HostReport], role: usize) -> Vec<&'p str> {
    let all = policy.inventory.hosts.iter().zip(hosts);
    let all = all.filter(|(host, seen)| {
        !host.is_virtual()
            && seen.coverage == Coverage::NotSeen
            && host.roles.meets(RoleSet::one(role))
    });
    all.map(|(host, _)| host.name.as_str()).collect()
}

/// The one role that serves a conversation's port, where it is the product's own.
fn only_role(policy: &Policy, c: &Conversation) -> Option<usize> {
    let (transport, port) = (c.subject.transport, c.subject.port);
    let mut roles = policy.serving(transport, port).iter();
    let (first, None) = (roles.next()?, roles.next()) else { return None };
    policy.is_own_port(transport, port).then_some(first)
}

/// Whether a row lets the client of a conversation open its port at a role.
fn may_ask(policy: &Policy, c: &Conversation, j: &Judged, role: usize) -> bool {
    let matrix = &policy.matrix;
    let mut rows = policy.rows_at(c.subject.transport, c.subject.port).map(|row| &matrix.rows[row]);
    rows.any(|row| {
        row.scope == Scope::Network
            && matrix.is_source(row, j.client.roles)
            && matrix.is_destination(row, RoleSet::one(role))
    })
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
        deeds.insert((subject.transport, subject.port));
    }
    let words = |(transport, port): &(crate::model::Transport, u16)| {
        service_words(*transport, &port.to_string())
    };
    let mut shown: Vec<String> = deeds.iter().take(SHOWN).map(words).collect();
    shown.extend((deeds.len() > SHOWN).then(|| format!("{} more", deeds.len() - SHOWN)));
    let (names, verb) = match unseen {
        [one] => ((*one).to_owned(), "was"),
        several => (several.join(" and "), "were"),
    };
    finding.message = format!(
        "{address} serves what only {} serves ({}), and {names} {verb} never seen: is it the same?",
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
    severity: Severity,
    /// The listed host or the address that plays another role.
    who: Result<usize, IpAddr>,
    roles: RoleSet,
    /// The listed hosts that it may be.
    names: BTreeSet<String>,
}

/// Says of each finding which other one explains it: a contradiction of the inventory without which it would not be
/// there, or the first of a scan.
pub(super) fn explain(
    judge: &Judge<'_>,
    conversations: &Conversations,
    judged: &[Judged],
    findings: &mut [Finding],
    hosts: &[HostReport],
) {
    let causes = Causes::of(judge.policy, conversations, judged, findings, hosts);
    let by_cause: Vec<Option<String>> = findings
        .iter()
        .map(|finding| {
            let cause = causes.about(conversations, judged, finding)?;
            let weighs_less = finding.severity <= cause.severity;
            let explained = is_explained(judge, conversations, judged, finding, cause);
            (finding.code != Code::RoleMismatch && weighs_less && explained)
                .then(|| cause.id.clone())
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
            && f.state.is_some_and(State::failed)
    };
    // Only like things fold: of one client, for one reason, to one port.
    let mut tried: BTreeMap<_, (BTreeSet<&str>, Vec<usize>)> = BTreeMap::new();
    for (number, f) in findings.iter().enumerate().filter(|(_, f)| is_attempt(f)) {
        let key = (f.client.identity(), f.code, f.transport.as_str(), f.port.as_str());
        let (servers, numbers) = tried.entry(key).or_default();
        servers.insert(f.server.identity());
        numbers.push(number);
    }
    let scans = tried.into_values().filter(|(servers, _)| servers.len() >= TARGETS);
    let scans: Vec<Vec<usize>> = scans.map(|(_, numbers)| numbers).collect();
    for numbers in scans {
        let first = findings[numbers[0]].id.clone();
        for number in &numbers[1..] {
            findings[*number].explained_by = Some(first.clone());
        }
    }
}

/// The contradictions of the inventory that may explain something, by whom they are about.
#[derive(Default)]
struct Causes {
    list: Vec<Cause>,
    of_host: BTreeMap<usize, usize>,
    of_address: BTreeMap<IpAddr, usize>,
    of_name: BTreeMap<String, usize>,
}

impl Causes {
    fn of(
        policy: &Policy,
        conversations: &Conversations,
        judged: &[Judged],
        findings: &[Finding],
        hosts: &[HostReport],
    ) -> Self {
        let mut causes = Self::default();
        for finding in findings.iter().filter(|f| f.code == Code::RoleMismatch) {
            let Some(first) = finding.grounds.conversations.first() else { continue };
            let (c, j) = (&conversations.list[*first], &judged[*first]);
            let Some(role) = only_role(policy, c) else { continue };
            let (number, mut names) = (causes.list.len(), BTreeSet::new());
            let who = match j.server.who {
                Who::Host(host) => {
                    causes.of_host.entry(host).or_insert(number);
                    Ok(host)
                }
                _ => {
                    causes.of_address.entry(c.subject.server).or_insert(number);
                    names.extend(unseen(policy, hosts, role).into_iter().map(str::to_owned));
                    Err(c.subject.server)
                }
            };
            for name in &names {
                causes.of_name.entry(name.clone()).or_insert(number);
            }
            let (id, severity, roles) = (finding.id.clone(), finding.severity, RoleSet::one(role));
            causes.list.push(Cause { id, severity, who, roles, names });
        }
        causes
    }

    /// The cause that may explain a finding: that of an end of its first conversation, or of a host that is not seen.
    fn about(
        &self,
        conversations: &Conversations,
        judged: &[Judged],
        finding: &Finding,
    ) -> Option<&Cause> {
        let number = match finding.grounds.conversations.first() {
            Some(first) => {
                let (subject, j) = (conversations.list[*first].subject, &judged[*first]);
                let of = |who: Who, address: IpAddr| match who {
                    Who::Host(host) => self.of_host.get(&host),
                    _ => self.of_address.get(&address),
                };
                of(j.server.who, subject.server).or_else(|| of(j.client.who, subject.client))
            }
            None => {
                let of = |end: &End| self.of_name.get(&end.name);
                of(&finding.client).or_else(|| of(&finding.server))
            }
        };
        number.map(|number| &self.list[*number])
    }
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
