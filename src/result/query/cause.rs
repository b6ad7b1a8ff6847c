//! The cause that findings share.

use std::collections::HashMap;

use super::text::{role_pair, service_of};
use crate::result::explain::CauseFacts;
use crate::result::{AuditResult, ConversationRow, FindingRow, ReportedFinding};

/// What findings of one cause have in common. Findings that differ in severity or certainty never
/// share a cause, so that none of them is hidden behind another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SharedCause {
    severity: String,
    verdict: String,
    code: String,
    certain: bool,
    rule: String,
    group: String,
    /// The roles of the client and of the server, joined by `;`.
    roles: [String; 2],
    transport: String,
    port: String,
}

impl SharedCause {
    /// Returns the cause of a finding.
    pub fn of_finding(row: &FindingRow<'_>) -> Self {
        Self {
            severity: row.severity.to_string(),
            verdict: row.verdict.to_string(),
            code: row.code.to_string(),
            certain: row.certain,
            rule: row.rule.clone(),
            group: row.group.clone(),
            roles: [row.client_roles.join(";"), row.server_roles.join(";")],
            transport: row.transport.clone(),
            port: row.port.clone(),
        }
    }

    /// Returns the cause of a finding of an audit that has just run.
    pub(in crate::result) fn of_reported(finding: ReportedFinding) -> Self {
        Self {
            severity: finding.severity.name().to_owned(),
            verdict: finding.verdict.name().to_owned(),
            code: finding.code.name().to_owned(),
            certain: finding.certain,
            rule: finding.rule,
            group: finding.group,
            roles: [finding.client.roles, finding.server.roles],
            transport: finding.transport,
            port: finding.port,
        }
    }

    /// Returns the cause of the ruling on a conversation.
    pub(super) fn of_conversation(row: &ConversationRow<'_>) -> Self {
        Self {
            severity: row.severity.to_string(),
            verdict: row.verdict.to_string(),
            code: row.code.to_string(),
            certain: row.certain.unwrap_or_default(),
            rule: row.rule.clone(),
            group: String::new(),
            roles: [row.client_roles.join(";"), row.server_roles.join(";")],
            transport: row.transport.clone(),
            port: row.port.map_or_else(String::new, |port| port.to_string()),
        }
    }

    /// Describes the cause without its severity and certainty.
    pub(super) fn words(&self) -> String {
        let roles = role_pair(&self.roles[0], &self.roles[1]);
        let service = service_of(&self.transport, &self.port);
        let rule = if self.rule.is_empty() { &self.group } else { &self.rule };
        let code = format!("{}/{}:", self.verdict, self.code);
        let rule = if rule.is_empty() { String::new() } else { format!("({rule})") };
        let words = [code, roles, service, rule];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// Numbers the causes of findings, in the order in which they are met.
#[derive(Default)]
pub struct CauseNumbers {
    numbers: HashMap<SharedCause, usize>,
    /// The same numbers, by facts. Most findings are looked up here, because generating texts takes
    /// much longer.
    by_facts: HashMap<CauseFacts, usize>,
}

impl CauseNumbers {
    /// Returns the number of a finding's cause; `None` if there is no finding with this index.
    pub fn number(&mut self, result: &AuditResult<'_>, finding: usize) -> Option<usize> {
        let facts = result.cause_facts(finding);
        if let Some(number) = facts.and_then(|facts| self.by_facts.get(&facts)) {
            return Some(*number);
        }
        let next = self.numbers.len();
        let number = *self.numbers.entry(result.cause(finding)?).or_insert(next);
        if let Some(facts) = facts {
            self.by_facts.insert(facts, number);
        }
        Some(number)
    }
}
