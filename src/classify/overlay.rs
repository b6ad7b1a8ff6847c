//! Overlays that the inventory does not name, and what they would explain.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::judge::Judged;
use super::verdict::Verdict;
use crate::conversation::{Conversation, Conversations};
use crate::policy::{Policy, Row, Scope};

/// Returns how many findings each overlay would explain that is built in and not named: those whose every conversation
/// one of its rows documents.
pub(super) fn explained(
    policy: &Policy,
    conversations: &Conversations,
    judged: &[Judged],
    findings: &[Finding],
) -> BTreeMap<String, usize> {
    let matrix = &policy.matrix;
    let documents = |row: &&Row, c: &Conversation, j: &Judged| {
        row.transport == c.subject.transport
            && row.ports.contains(&c.subject.port)
            && (row.scope == Scope::Broadcast) == c.broadcast
            && matrix.is_source(row, j.client.roles)
            && matrix.is_destination(row, j.server.roles)
    };
    let mut counts = BTreeMap::new();
    for finding in findings {
        let members = &finding.grounds.conversations;
        let accuses = matches!(finding.verdict, Verdict::UnexpectedPort | Verdict::Undocumented);
        let Some(first) = members.first().filter(|_| accuses) else { continue };
        let documenting = |number: &usize| {
            let (c, j) = (&conversations.list[*number], &judged[*number]);
            matrix.unused_overlays.iter().find(|row| documents(row, c, j))
        };
        let Some(overlay) = documenting(first).and_then(|row| row.overlay.as_ref()) else {
            continue;
        };
        if members.iter().all(|number| documenting(number).is_some()) {
            *counts.entry(overlay.clone()).or_default() += 1;
        }
    }
    counts
}
