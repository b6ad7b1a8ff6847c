//! Findings for conversations that are not documented.

use std::cmp::Reverse;

use super::ends::{EndInterner, EndKey};
use super::finding::{About, Finding, FindingBook, FindingKey, Reason};
use super::grouping::{ConversationGroup, GroupEntries, PortMerge, merge_clients};
use super::judge::{Judge, Judged};
use super::verdict::{Code, Verdict};
use crate::conversation::{Conversation, DoubtSource};
use crate::policy::{PartyKind, SeverityColumn};

/// The input for findings about conversations, and the book that they are added to.
pub(super) struct Grouping<'a> {
    pub judge: &'a Judge<'a>,
    pub list: &'a [Conversation],
    pub judged: &'a [Judged],
    pub book: FindingBook,
}

impl Grouping<'_> {
    /// Adds the findings for conversations that are not permitted, or only by an unusual feature.
    /// Returns the book.
    pub(super) fn unpermitted(mut self) -> FindingBook {
        let policy = self.judge.policy;
        let unusual: Vec<bool> =
            policy.matrix.rows.iter().map(|row| policy.is_unusual(row)).collect();
        let code = |j: &Judged| match j.verdict() {
            verdict if verdict.is_unpermitted() => Some(j.ruling.code),
            Verdict::Documented if j.ruling.row.is_some_and(|row| unusual[row]) => {
                Some(Code::FeatureUnstated)
            }
            _ => None,
        };
        let list = self.list;
        let judged = self.judged;
        let mut strangers = Vec::new();
        let mut entries = GroupEntries::default();
        for (number, (c, j)) in list.iter().zip(judged).enumerate() {
            let Some(code) = code(j) else { continue };
            // A conversation that is known only from ICMP errors is not evidence against its ends.
            // Loopback addresses have a finding of their own.
            if c.doubts.has(DoubtSource::Quoted) || c.rare().on_wire {
                continue;
            }
            if j.client.kind == PartyKind::Stranger && j.server.kind == PartyKind::Stranger {
                strangers.push(number as u32);
                continue;
            }
            let ends = pair(&mut self.book.ends, j, &c.subject);
            entries.add(code, ends, c.subject.transport, c.subject.port, number as u32);
        }
        let groups = entries.into_groups(PortMerge::ManyIntoOne, &mut self.book.pool);
        let groups =
            merge_clients(policy, groups, (list, judged), &mut self.book.ends, &mut self.book.pool);
        self.book.findings.reserve(groups.len());
        for group in groups {
            let finding = self.finding(&group);
            self.book.findings.push(finding);
        }
        if !strangers.is_empty() {
            self.add_strangers(strangers);
        }
        self.book
    }

    fn finding(&self, group: &ConversationGroup) -> Finding {
        let list = self.list;
        let judged = self.judged;
        let target = group.target;
        let key = FindingKey {
            code: target.code,
            client: group.client,
            server: target.server,
            transport: Some(target.transport),
            about: target.ports.about(),
        };
        let mut finding = Finding::new(key, Reason::Permission);
        finding = finding.with_members(list, &self.book.pool, group.members);
        let members = self.book.pool.get(group.members);
        // The severity and doubts shown are those of the worst conversation.
        let weight = |n: &&u32| {
            let judgement = &judged[**n as usize];
            (judgement.severity, judgement.doubts.certain(), Reverse(**n))
        };
        let Some(worst) = members.iter().max_by_key(weight) else { return finding };
        let worst = &judged[*worst as usize];
        finding.doubts = worst.doubts;
        finding.severity = if target.code == judged[members[0] as usize].ruling.code {
            worst.severity
        } else {
            let reached = members.iter().any(|n| list[*n as usize].state.reached());
            let column = SeverityColumn::reached_if(reached);
            self.judge.severity(target.code, column, worst.doubts)
        };
        finding
    }

    fn add_strangers(&mut self, strangers: Vec<u32>) {
        let is_any = self.book.ends.id(EndKey::Everybody);
        let client = is_any;
        let server = is_any;
        let code = Code::UnknownHost;
        let about = About::Port(0);
        let key = FindingKey { code, client, server, transport: None, about };
        // The finding is as certain as its most certain conversation.
        let doubts = strangers.iter().map(|n| self.judged[*n as usize].doubts);
        let doubts = doubts.min_by_key(|doubts| !doubts.certain()).unwrap_or_default();
        let members = self.book.pool.add(strangers);
        let mut finding = Finding::new(key, Reason::Strangers);
        finding.doubts = doubts;
        let finding = finding.with_members(self.list, &self.book.pool, members);
        self.book.findings.push(finding);
    }
}

/// Returns the ends of a conversation, client first.
pub(super) fn pair(
    ends: &mut EndInterner,
    j: &Judged,
    subject: &crate::conversation::ServiceKey,
) -> [super::ends::EndId; 2] {
    [(&j.client, subject.client), (&j.server, subject.server)]
        .map(|(party, address)| ends.id_of(party, address))
}
