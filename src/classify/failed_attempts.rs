//! Findings about documented conversations that failed. A failed attempt is direct evidence of
//! missing traffic, even if the row does not require any.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use super::absence_claims::GroupId;
use super::ends::EndKey;
use super::expected::Assessor;
use super::facts::is_silent;
use super::finding::{About, Finding, FindingBook, FindingKey, Reason};
use super::grouping::{ConversationGroup, GroupEntries, PortMerge, PortScope, merge_clients};
use super::judge::Judged;
use super::pairs::MANY_PAIRS;
use super::verdict::{Code, Doubt, Doubts, Status, Verdict};
use super::violations::pair;
use crate::conversation::Conversation;
use crate::model::Transport;
use crate::policy::{PartyKind, Quantifier, SeverityColumn};

/// Clients, each with a group of rows.
type ClientsByGroup = HashSet<(GroupId, IpAddr), ahash::RandomState>;

impl Assessor<'_> {
    /// Adds findings for documented conversations that failed, even if their rows do not require
    /// traffic.
    pub(super) fn failures(&mut self, groups_of: &[GroupId]) {
        let policy = self.policy;
        let list = &self.conversations.list;
        let judged = self.judged;
        let group = |j: &Judged| {
            let row = j.ruling.row.filter(|_| j.verdict() == Verdict::Documented)?;
            Some(groups_of[row])
        };
        let mut entries = GroupEntries::default();
        let mut failed = ClientsByGroup::default();
        let mut guard = self.book.borrow_mut();
        let book: &mut FindingBook = &mut guard;
        for (number, (c, j)) in list.iter().zip(judged).enumerate() {
            let Some(group) = group(j) else { continue };
            let Some(code) = self.seen.failing(c) else { continue };
            failed.insert((group, c.subject.client));
            let ends = pair(&mut book.ends, j, &c.subject);
            entries.add(code, ends, c.subject.transport, group, number as u32);
        }
        if failed.is_empty() {
            return;
        }
        let mut succeeded = ClientsByGroup::default();
        for (c, j) in list.iter().zip(judged).filter(|(c, _)| self.seen.has_worked(c)) {
            let way = group(j).map(|group| (group, c.subject.client));
            succeeded.extend(way.filter(|way| failed.contains(way)));
        }
        let groups = entries.into_groups(PortMerge::Never, &mut book.pool);
        let groups = merge_clients(policy, groups, (list, judged), &mut book.ends, &mut book.pool);
        drop(guard);
        let mut by_group: BTreeMap<(Code, Transport, GroupId), Vec<Finding>> = BTreeMap::new();
        for attempts in groups {
            let PortScope::One(group) = attempts.target.ports else { continue };
            let finding = self.failure(&attempts, group, &succeeded);
            let key = (attempts.target.code, attempts.target.transport, group);
            by_group.entry(key).or_default().push(finding);
        }
        for findings in by_group.into_values() {
            if (findings.len() as u64) < MANY_PAIRS {
                self.book.borrow_mut().findings.extend(findings);
            } else {
                self.many_failures(&findings);
            }
        }
    }

    /// Reports many failures of one group as one finding.
    fn many_failures(&self, findings: &[Finding]) {
        let list = &self.conversations.list;
        let mut book = self.book.borrow_mut();
        let members = findings.iter().flat_map(|f| book.pool.get(f.members).iter().copied());
        let members: BTreeSet<u32> = members.collect();
        let members = book.pool.add(members);
        // The finding is as certain as the most certain one of the worst findings.
        let weight = |f: &&Finding| (f.severity, f.certain());
        let Some(worst) = findings.iter().max_by_key(weight) else { return };
        let is_any = book.ends.id(EndKey::Everybody);
        let key = FindingKey { client: is_any, server: is_any, ..worst.key };
        let finding = Finding::new(key, worst.reason).weighing(worst.severity, worst.doubts);
        let finding = finding.with_members(list, &book.pool, members);
        book.findings.push(finding);
    }

    fn failure(
        &mut self,
        attempts: &ConversationGroup,
        group: GroupId,
        succeeded: &ClientsByGroup,
    ) -> Finding {
        let policy = self.policy;
        let list = &self.conversations.list;
        let judged = self.judged;
        let members = self.book.borrow().pool.get(attempts.members).to_vec();
        let code = attempts.target.code;
        let transport = attempts.target.transport;
        let key = FindingKey {
            code,
            client: attempts.client,
            server: attempts.target.server,
            transport: Some(transport),
            about: About::Group,
        };
        let sure = members.iter().any(|n| judged[*n as usize].doubts.certain());
        let mut doubts = Doubts::default();
        let mut chances = 0;
        let mut sources = BTreeSet::new();
        let mut rows = BTreeSet::new();
        let mut hosts = BTreeSet::new();
        for number in &members {
            let number = *number as usize;
            let (c, j): (&Conversation, &Judged) = (&list[number], &judged[number]);
            // Doubtful attempts do not weaken what certain ones show.
            if !sure {
                doubts = doubts.with(j.doubts);
            }
            if !sure || j.doubts.certain() {
                chances += c.fails_at_last().map_or(c.chances, |failed| failed.chances);
            }
            // If a host has several roles, the failure counts for every row that documents the
            // conversation.
            rows.extend(self.fitting[number].iter().flat_map(|fitting| &fitting.rows).copied());
            sources.insert(policy.label(&j.client, c.subject.client));
            hosts.extend([j.client.kind, j.server.kind].into_iter().filter_map(
                |kind| match kind {
                    PartyKind::Host(host) => Some(host),
                    _ => None,
                },
            ));
            if let PartyKind::Host(host) = j.client.kind {
                self.missing.insert(host);
            }
        }
        // If no answer was seen, the capture itself may have lost it.
        if is_silent(code) && !self.seen.view().is_certain_after(chances) {
            doubts.add(Doubt::Loss);
        }
        let hosts: Vec<usize> = hosts.into_iter().collect();
        for (doubt, _) in self.seen.silence_of(code, &hosts) {
            doubts.add(doubt);
        }
        // Any host can send an ICMP error that rejects datagrams: nothing in the error proves that
        // the sender was on the path.
        if code == Code::Rejected && transport != Transport::TCP {
            doubts.add(Doubt::Quoted);
        }
        // The failure is less severe if each of these clients reached the service in another way,
        // unless a row requires traffic between every pair.
        let of_each_pair = rows.iter().any(|r| {
            let quantifier = policy.matrix.rows[*r].quantifier;
            matches!(quantifier, Quantifier::EveryPair | Quantifier::EitherDirection)
        });
        let worked = |n: &u32| succeeded.contains(&(group, list[*n as usize].subject.client));
        let otherwise = members.iter().all(worked) && !of_each_pair;
        let expected = rows.iter().any(|r| policy.matrix.rows[*r].is_expected());
        let mut finding = Finding::new(key, Reason::Failed(group));
        finding.severity = if otherwise {
            self.judge.another_way_worked(code)
        } else {
            self.judge.severity(code, SeverityColumn::reached_if(expected), doubts)
        };
        finding.doubts = doubts;
        for row in rows {
            self.rows[row].status = Status::Missing;
            self.rows[row].source_hosts_missing.extend(sources.iter().cloned());
        }
        finding.with_members(list, &self.book.borrow().pool, attempts.members)
    }
}
