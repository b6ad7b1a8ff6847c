//! Exceptions that nothing needed.

use std::collections::BTreeMap;

use super::finding::{End, Finding};
use super::judge::{Judge, Judged};
use super::verdict::{Code, Doubts};
use super::wording::exception_rule;
use crate::conversation::Conversations;
use crate::policy::{Policy, Side};

/// Returns the exceptions that were made after traffic had ended which they let through, and how many conversations
/// each of them.
pub(super) fn predated(
    policy: &Policy,
    conversations: &Conversations,
    judged: &[Judged],
) -> Vec<(usize, u64)> {
    let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
    for (c, j) in conversations.list.iter().zip(judged) {
        let Some(number) = j.ruling.exception else { continue };
        let last = c.last.get();
        if last.is_some_and(|last| last < policy.exceptions.list[number].begins) {
            *counts.entry(number).or_default() += 1;
        }
    }
    counts.into_iter().collect()
}

/// A finding for each exception that matched nothing.
pub(super) fn exceptions(judge: &Judge<'_>, used: &[u64]) -> Vec<Finding> {
    let policy = judge.policy;
    let list = policy.exceptions.list.iter().enumerate().zip(used);
    let unused = list.filter(|(_, used)| **used == 0);
    unused
        .map(|((number, exception), _)| {
            let words = |side: &Side| match side {
                Side::Host(host) => policy.inventory.hosts[*host].name.clone(),
                Side::Network(network) => policy.inventory.networks[*network].name.clone(),
                Side::Addresses(net) => net.to_string(),
                Side::Roles(roles) => policy.matrix.role_titles(*roles).join(" or "),
                Side::Any => "anybody".to_owned(),
            };
            let (from, to) = (End::only(words(&exception.from)), End::only(words(&exception.to)));
            let mut finding = Finding::new(Code::UnusedException, from, to);
            finding.severity = judge.severity(Code::UnusedException, true, Doubts::default());
            finding.rule = exception_rule(policy, number);
            finding.group.clone_from(&finding.rule);
            finding.message = format!(
                "the exception {} ({}, owner {}, line {} of {}) matched nothing that needs one",
                exception.id,
                exception.reason,
                exception.owner,
                exception.line,
                policy.exceptions.file
            );
            finding.action =
                "Remove it if it is no longer needed; else capture where its traffic shows"
                    .to_owned();
            finding.identify();
            finding
        })
        .collect()
}
