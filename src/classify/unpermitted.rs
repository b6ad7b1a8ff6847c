//! Conversations that nobody documented become findings.

use std::collections::BTreeMap;

use super::finding::{End, Finding};
use super::fold::{About, Key, fold_clients, fold_ports};
use super::judge::{Judge, Judged};
use super::verdict::{Code, Verdict};
use super::wording::explain;
use crate::conversation::{Conversation, Conversations, Taint};
use crate::policy::Who;

/// The findings of conversations that nobody documented.
pub(super) fn of_conversations(
    judge: &Judge<'_>,
    conversations: &Conversations,
    judged: &[Judged],
) -> Vec<Finding> {
    let (policy, list) = (judge.policy, &conversations.list);
    let unusual =
        |row: Option<usize>| row.is_some_and(|row| policy.is_unusual(&policy.matrix.rows[row]));
    let code = |j: &Judged| match j.verdict() {
        Verdict::UnexpectedPort | Verdict::Undocumented => Some(j.ruling.code),
        Verdict::Documented if unusual(j.ruling.row) => Some(Code::FeatureUnstated),
        _ => None,
    };
    let mut strangers = Vec::new();
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (number, (c, j)) in list.iter().zip(judged).enumerate() {
        let Some(code) = code(j) else { continue };
        // Of what an ICMP error quotes alone nobody is accused; loopback addresses have a finding of their own.
        if c.taints.has(Taint::Quoted) || c.rare().on_wire {
            continue;
        }
        if j.client.who == Who::Stranger && j.server.who == Who::Stranger {
            strangers.push(number);
            continue;
        }
        let key = Key {
            code,
            client: End::identity_of(policy, &j.client, || c.subject.client.to_string()),
            server: End::identity_of(policy, &j.server, || c.subject.server.to_string()),
            transport: c.subject.transport,
            about: About::Port(c.subject.port),
        };
        groups.entry(key).or_default().push(number);
    }
    let folds = fold_clients(policy, fold_ports(groups), list, judged);
    let mut findings: Vec<Finding> =
        folds.iter().map(|fold| explain(judge, conversations, judged, fold)).collect();
    if !strangers.is_empty() {
        findings.push(of_strangers(list, judged, &strangers));
    }
    findings
}

fn of_strangers(list: &[Conversation], judged: &[Judged], members: &[usize]) -> Finding {
    let mut finding = Finding::new(Code::UnknownHost, End::everybody(), End::everybody());
    for number in members {
        finding.add(list, *number);
    }
    // As sure as the surest of them.
    let doubts = members.iter().map(|n| judged[*n].doubts).min_by_key(|doubts| !doubts.certain());
    finding.doubts = doubts.unwrap_or_default();
    finding.certain = finding.doubts.certain();
    "*".clone_into(&mut finding.transport);
    "*".clone_into(&mut finding.port);
    finding.message = format!(
        "{} conversations between addresses that the inventory does not list",
        finding.count
    );
    finding.action =
        "List the hosts in the inventory if they belong to the farm; --format conversations lists who talked to whom"
            .into();
    finding.identify();
    finding
}
