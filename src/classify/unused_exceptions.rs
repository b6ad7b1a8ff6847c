//! Exceptions that matched no traffic, or that were created after the traffic had ended.

use std::collections::BTreeMap;

use super::Judgement;
use super::ends::EndKey;
use super::finding::{About, Finding, FindingKey, Reason};
use super::judge::{Judge, Judged};
use super::verdict::{Code, Doubts};
use crate::conversation::Conversations;
use crate::policy::{ExceptionParty, Policy, SeverityColumn};

/// Returns the exceptions that were created after the traffic that they permit had ended: the index
/// of each, and the number of such conversations.
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

impl Judgement {
    /// Adds a finding for each exception that matched no traffic.
    pub(super) fn add_unused_exceptions(&mut self, judge: &Judge<'_>) {
        let policy = judge.policy;
        let words = |side: &ExceptionParty| match side {
            ExceptionParty::Host(host) => policy.inventory.hosts[*host].name.clone(),
            ExceptionParty::Network(network) => policy.inventory.networks[*network].name.clone(),
            ExceptionParty::Addresses(net) => net.to_string(),
            ExceptionParty::Roles(roles) => policy.matrix.role_titles(*roles).join(" or "),
            ExceptionParty::Any => "anybody".to_owned(),
        };
        let code = Code::UnusedException;
        let severity = judge.severity(code, SeverityColumn::Reached, Doubts::default());
        for (number, exception) in policy.exceptions.list.iter().enumerate() {
            if self.excepted[number] > 0 {
                continue;
            }
            let [client, server] = [&exception.from, &exception.to]
                .map(|side| self.book.ends.id(EndKey::Words(words(side).into())));
            let key = FindingKey { code, client, server, transport: None, about: About::Group };
            let finding = Finding::new(key, Reason::Unused(number as u32));
            self.book.findings.push(finding.weighing(severity, Doubts::default()));
        }
    }
}
