//! Exceptions that nothing needed.

use super::finding::{End, Finding};
use super::judge::Judge;
use super::verdict::{Code, Doubts};
use super::wording::exception_rule;
use crate::policy::Side;

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
