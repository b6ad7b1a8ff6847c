//! Finds causes that explain other findings: an error in the inventory, or one host that scans.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Judgement;
use super::coverage::{Coverage, HostReport};
use super::ends::EndKey;
use super::finding::{About, Finding, FindingKey, Reason};
use super::judge::Judge;
use super::ruling::Judged;
use super::verdict::{Code, Doubts, Verdict};
use crate::conversation::{Conversation, DirectionEvidence, State};
use crate::policy::{PartyKind, Policy, RoleSet, Scope, Severity, SeverityColumn};

/// The minimum number of servers for which the failed attempts of one client count as a scan.
const TARGETS: usize = 10;

impl Judgement {
    /// Adds a finding for each unlisted internal address that may be a listed host: handshakes show
    /// that the address serves a listed host on a port that only one role of the product serves,
    /// and at least one listed host with that role was never seen. Any host can listen on such a
    /// port, but a listed host connects only to an address that it believes to be the server's.
    pub(super) fn add_look_alikes(&mut self, judge: &Judge<'_>) {
        let policy = judge.policy;
        let mut doing: BTreeMap<(IpAddr, usize), Vec<u32>> = BTreeMap::new();
        for (number, (c, j)) in self.conversations.list.iter().zip(&self.judged).enumerate() {
            let proved = c.grade == DirectionEvidence::Handshake
                && c.state == State::Established
                && !c.is_doubted();
            // An address in a network without roles counts as unlisted.
            let is_unlisted = match j.server.kind {
                PartyKind::Stranger => true,
                PartyKind::Network(_) => j.server.roles.is_empty(),
                _ => false,
            };
            let of_interest = matches!(j.client.kind, PartyKind::Host(_)) && is_unlisted && proved;
            if !of_interest || !policy.is_internal(c.subject.server) {
                continue;
            }
            if let Some(role) = only_role(policy, c).filter(|role| may_ask(policy, c, j, *role)) {
                doing.entry((c.subject.server, role)).or_default().push(number as u32);
            }
        }
        let code = Code::RoleMismatch;
        let severity = judge.severity(code, SeverityColumn::Reached, Doubts::default());
        for ((address, role), members) in doing {
            if unseen(policy, &self.hosts, role).is_empty() {
                continue;
            }
            let end = self.book.ends.id(EndKey::Address(address));
            let client = end;
            let server = end;
            let key = FindingKey { code, client, server, transport: None, about: About::Group };
            let finding = Finding::new(key, Reason::LooksAlike(role as u16));
            let members = self.book.pool.add(members);
            let list = &self.conversations.list;
            let finding = finding.with_members(list, &self.book.pool, members);
            self.book.findings.push(finding.weighing(severity, Doubts::default()));
        }
    }
}

/// Returns the indices of the listed hosts with a role that were never seen. Virtual addresses do
/// not count.
pub fn unseen(policy: &Policy, hosts: &[HostReport], role: usize) -> Vec<usize> {
    let all = policy.inventory.hosts.iter().zip(hosts).enumerate();
    let all = all.filter(|(_, (host, seen))| {
        !host.is_virtual()
            && seen.coverage == Coverage::NotSeen
            && host.roles.intersects(RoleSet::one(role))
    });
    all.map(|(number, _)| number).collect()
}

/// Returns the only role that serves a conversation's port, if the port is specific to the product.
fn only_role(policy: &Policy, c: &Conversation) -> Option<usize> {
    let transport = c.subject.transport;
    let port = c.subject.port;
    let mut roles = policy.serving(transport, port).iter();
    let (first, None) = (roles.next()?, roles.next()) else { return None };
    let is_own = policy.is_own_port(transport, port) && policy.matrix.roles[first].has_own_ports();
    is_own.then_some(first)
}

/// Returns whether a row allows the client of a conversation to connect to this port of a role.
fn may_ask(policy: &Policy, c: &Conversation, j: &Judged, role: usize) -> bool {
    let matrix = &policy.matrix;
    let mut rows = policy.rows_at(c.subject.transport, c.subject.port).map(|row| &matrix.rows[row]);
    rows.any(|row| {
        row.scope == Scope::Network
            && matrix.is_source(row, j.client.roles)
            && matrix.is_destination(row, RoleSet::one(role))
    })
}

/// An error in the inventory that may explain other findings: a party lacks a role that its traffic
/// shows.
struct Cause {
    /// The index of the finding that reports the error.
    finding: usize,
    severity: Severity,
    /// The listed host (`Ok`) or the unlisted address (`Err`) that seems to have the role.
    culprit: Result<usize, IpAddr>,
    roles: RoleSet,
    /// The unseen listed hosts that an unlisted address may belong to.
    hosts: BTreeSet<usize>,
}

impl Judgement {
    /// Records for each finding which other finding explains it: a contradiction of the inventory
    /// that causes it, or the first finding of a scan.
    pub(super) fn explain_findings(&mut self, judge: &Judge<'_>) {
        let causes = Causes::of(judge.policy, self);
        if !causes.list.is_empty() {
            let explained = |finding: &Finding| {
                let cause = causes.about(self, finding)?;
                let weighs_less = finding.severity <= cause.severity;
                (finding.code() != Code::RoleMismatch
                    && weighs_less
                    && is_explained(judge, self, finding, cause))
                .then_some(cause.finding)
            };
            let by_cause: Vec<Option<usize>> = self.findings().iter().map(explained).collect();
            for (finding, cause) in self.book.findings.iter_mut().zip(by_cause) {
                cause.into_iter().for_each(|cause| finding.set_explained_by(cause));
            }
        }
        self.explain_scans();
    }

    /// Marks findings about one client's failed attempts to reach many servers as explained by the
    /// first of these findings.
    fn explain_scans(&mut self) {
        // Attempts that were answered keep their own findings.
        let is_attempt = |f: &Finding| {
            f.verdict().is_unpermitted()
                && f.explained_by().is_none()
                && self.is_of_a_pair(f)
                && f.state.is_some_and(State::failed)
        };
        // Only similar findings are grouped: those of one client, with one code, about one port.
        let key = |f: &Finding| (f.key.client, f.key.code, f.key.transport, f.key.about);
        let attempts = self.findings().iter().enumerate().filter(|(_, f)| is_attempt(f));
        let mut tried: Vec<_> =
            attempts.map(|(number, f)| (key(f), number, f.key.server)).collect();
        tried.sort_unstable();
        let mut scans = Vec::new();
        for alike in tried.chunk_by(|a, b| a.0 == b.0).filter(|alike| alike.len() >= TARGETS) {
            let servers: BTreeSet<_> = alike.iter().map(|(.., server)| *server).collect();
            if servers.len() >= TARGETS {
                let first = alike[0].1;
                scans.extend(alike[1..].iter().map(|(_, number, _)| (*number, first)));
            }
        }
        for (number, first) in scans {
            self.book.findings[number].set_explained_by(first);
        }
    }
}

/// The errors in the inventory that may explain other findings, indexed by the hosts and addresses
/// that they are about.
#[derive(Default)]
struct Causes {
    list: Vec<Cause>,
    of_host: BTreeMap<usize, usize>,
    of_address: BTreeMap<IpAddr, usize>,
    of_unseen: BTreeMap<usize, usize>,
}

impl Causes {
    fn of(policy: &Policy, outcome: &Judgement) -> Self {
        let mut causes = Self::default();
        let mismatches = outcome.findings().iter().enumerate();
        for (place, finding) in mismatches.filter(|(_, f)| f.code() == Code::RoleMismatch) {
            let Some(first) = outcome.members_of(finding).first() else { continue };
            let first = *first as usize;
            let conversation = &outcome.conversations.list[first];
            let judgement = &outcome.judged[first];
            let Some(role) = only_role(policy, conversation) else { continue };
            let number = causes.list.len();
            let mut hosts = BTreeSet::new();
            let culprit = match judgement.server.kind {
                PartyKind::Host(host) => {
                    causes.of_host.entry(host).or_insert(number);
                    Ok(host)
                }
                _ => {
                    causes.of_address.entry(conversation.subject.server).or_insert(number);
                    hosts.extend(unseen(policy, &outcome.hosts, role));
                    Err(conversation.subject.server)
                }
            };
            for host in &hosts {
                causes.of_unseen.entry(*host).or_insert(number);
            }
            let severity = finding.severity;
            let roles = RoleSet::one(role);
            causes.list.push(Cause { finding: place, severity, culprit, roles, hosts });
        }
        causes
    }

    /// Returns the cause that may explain a finding. The cause concerns an end of the first
    /// conversation or, if there are no conversations, a host that was not seen.
    fn about(&self, outcome: &Judgement, finding: &Finding) -> Option<&Cause> {
        let number = match outcome.members_of(finding).first() {
            Some(first) => {
                let first = *first as usize;
                let subject = outcome.conversations.list[first].subject;
                let judgement = &outcome.judged[first];
                let cause_of = |kind: PartyKind, address: IpAddr| match kind {
                    PartyKind::Host(host) => self.of_host.get(&host),
                    _ => self.of_address.get(&address),
                };
                cause_of(judgement.server.kind, subject.server)
                    .or_else(|| cause_of(judgement.client.kind, subject.client))
            }
            None => outcome.hosts_of(finding).find_map(|host| self.of_unseen.get(&host)),
        };
        number.map(|number| &self.list[*number])
    }
}

/// Returns whether a finding would not exist if the party of the cause had the role that its
/// traffic shows.
fn is_explained(judge: &Judge<'_>, outcome: &Judgement, finding: &Finding, cause: &Cause) -> bool {
    let members = outcome.members_of(finding);
    if members.is_empty() {
        // The host that was not seen may be at the address of the cause.
        return finding.code() == Code::HostNotSeen
            && outcome.hosts_of(finding).any(|host| cause.hosts.contains(&host));
    }
    if !finding.verdict().is_unpermitted() {
        return false;
    }
    members.iter().all(|number| {
        let number = *number as usize;
        let conversation = &outcome.conversations.list[number];
        let judgement = &outcome.judged[number];
        let is_culprit = |kind: PartyKind, address: IpAddr| match cause.culprit {
            Ok(host) => kind == PartyKind::Host(host),
            Err(cause) => address == cause,
        };
        let mut client = judgement.client;
        let mut server = judgement.server;
        let of_client = is_culprit(client.kind, conversation.subject.client);
        let of_server = is_culprit(server.kind, conversation.subject.server);
        if of_client {
            client.roles = client.roles.with(cause.roles);
        }
        if of_server {
            server.roles = server.roles.with(cause.roles);
        }
        (of_client || of_server)
            && matches!(
                judge.rule_between(conversation, client, server).verdict(),
                Verdict::Documented | Verdict::Background | Verdict::Excepted
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{
        BROKER, DC, FARM, GW, Packets, STRANGER, ends_of, policy, view, with_code,
    };

    const UNLISTED: &str = "10.1.0.99";

    /// Returns the ends of each finding about an unlisted address that may be a listed host.
    fn look_alikes(packets: &Packets) -> Vec<[String; 2]> {
        let policy = policy(FARM);
        let judgement = packets.judge(&policy, &view(60));
        let found = with_code(&judgement, Code::RoleMismatch);
        found.iter().map(|finding| ends_of(&policy, &judgement, finding)).collect()
    }

    #[test]
    fn an_address_that_does_the_work_of_an_unseen_host_may_be_that_host() {
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (UNLISTED, 20_002));
        let address = || [UNLISTED.to_owned(), UNLISTED.to_owned()];
        assert_eq!(look_alikes(&packets), [address()]);
        // If the broker is seen at its own address, the unlisted address cannot be the broker.
        packets.ping(1, GW, BROKER);
        assert_eq!(look_alikes(&packets), Vec::<[String; 2]>::new());
    }

    #[test]
    fn not_every_server_looks_like_a_listed_host() {
        let found = |client: &str, server: &str, port: u16| {
            let mut packets = Packets::default();
            packets.connect(0, (client, 50_000), (server, port));
            look_alikes(&packets).len()
        };
        assert_eq!(found(GW, UNLISTED, 20_002), 1);
        assert_eq!(found(STRANGER, UNLISTED, 20_002), 0, "an unlisted client");
        assert_eq!(found(GW, STRANGER, 20_002), 0, "an address outside the site");
        assert_eq!(found(DC, UNLISTED, 20_002), 0, "a client that no row lets in");
        assert_eq!(found(GW, UNLISTED, 389), 0, "a port of other software");
        let mut refused = Packets::default();
        refused.refuse(0, (GW, 50_000), (UNLISTED, 20_002));
        assert!(look_alikes(&refused).is_empty(), "nothing answers");
    }

    #[test]
    fn a_look_alike_explains_what_its_missing_role_causes() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (UNLISTED, 20_002));
        packets.connect(1, (GW, 50_001), (UNLISTED, 4444));
        let judgement = packets.judge(&policy, &view(60));
        let cause = judgement.findings().iter().position(|f| f.code() == Code::RoleMismatch);
        let explained = |port: u16| {
            let mut all = judgement.findings().iter();
            let of_port = |f: &&Finding| f.key.about == About::Port(port);
            all.find(of_port).expect("a finding about the port").explained_by()
        };
        assert!(cause.is_some());
        assert_eq!(explained(20_002), cause);
        // Even with the role of a broker, the address would not be expected to serve port 4444.
        assert_eq!(explained(4444), None);
    }

    #[test]
    fn ten_servers_that_one_client_tried_in_vain_are_a_scan_and_nine_are_not() {
        let explained = |servers: usize, ports: u16| {
            let farm = (0..servers).fold(FARM.to_owned(), |farm, host| {
                farm + &format!(
                    "[[host]]\nname = \"more{host}\"\naddresses = [\"10.2.0.{host}\"]\nroles = [\"rdsh-agent\"]\n"
                )
            });
            let policy = policy(&farm);
            let mut packets = Packets::default();
            for host in 0..servers {
                let port = 4000 + host as u16 % ports;
                packets.refuse(0, (DC, 50_000), (&format!("10.2.0.{host}"), port));
            }
            let judgement = packets.judge(&policy, &view(60));
            let tried = with_code(&judgement, Code::NoRelation);
            assert_eq!(tried.len(), servers);
            tried.iter().filter(|finding| finding.explained_by().is_some()).count()
        };
        assert_eq!(explained(TARGETS, 1), TARGETS - 1);
        assert_eq!(explained(TARGETS - 1, 1), 0);
        // Attempts on two ports do not count as one scan.
        assert_eq!(explained(TARGETS, 2), 0);
    }
}
