//! Overlays that the inventory does not name, and the findings that they would explain.

use std::collections::{BTreeMap, HashSet};

use super::Judgement;
use super::finding::Finding;
use super::ruling::Judged;
use crate::conversation::{Conversation, ServiceKey};
use crate::model::Transport;
use crate::policy::{Policy, Row, Scope};

impl Judgement {
    /// Returns the built-in overlay that would document the first conversation of a finding about
    /// unpermitted traffic, if such overlays would document all conversations of the finding and
    /// the inventory names none of them.
    pub fn overlay_for<'p>(&self, policy: &'p Policy, finding: &Finding) -> Option<&'p str> {
        if !finding.verdict().is_unpermitted() {
            return None;
        }
        let matrix = &policy.matrix;
        let list = &self.conversations.list;
        let mut overlays = self.members_of(finding).iter().map(|number| {
            let number = *number as usize;
            let rows = &matrix.unused_overlays;
            let row =
                rows.iter().find(|row| documents(policy, row, &list[number], &self.judged[number]));
            row.and_then(|row| row.overlay.as_deref())
        });
        let first = overlays.next()??;
        overlays.all(|overlay| overlay.is_some()).then_some(first)
    }
}

fn documents(policy: &Policy, row: &Row, c: &Conversation, j: &Judged) -> bool {
    let matrix = &policy.matrix;
    row.transport == c.subject.transport
        && row.ports.contains(&c.subject.port)
        && (row.scope == Scope::Broadcast) == c.broadcast
        && matrix.is_source(row, j.client.roles)
        && matrix.is_destination(row, j.server.roles)
}

/// Returns the number of findings about unpermitted traffic that each built-in overlay would
/// explain if the inventory named it. See [`Judgement::overlay_for`].
pub(super) fn explained(policy: &Policy, outcome: &Judgement) -> BTreeMap<String, usize> {
    let list = &outcome.conversations.list;
    let mut counts = BTreeMap::new();
    // Most ports do not occur in any overlay, so they are skipped early.
    let rows = policy.matrix.unused_overlays.iter();
    let services: HashSet<(Transport, u16), ahash::RandomState> =
        rows.flat_map(|row| row.ports.clone().map(|port| (row.transport, port))).collect();
    for finding in outcome.findings() {
        let Some(first) = outcome.members_of(finding).first() else { continue };
        let ServiceKey { transport, port, .. } = list[*first as usize].subject;
        if !services.contains(&(transport, port)) {
            continue;
        }
        if let Some(overlay) = outcome.overlay_for(policy, finding) {
            *counts.entry(overlay.to_owned()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{DC, FARM, Packets, RDSH, policy, view};

    /// Returns, for each overlay, the number of findings about traffic from the session host to
    /// these ports of the directory that the overlay would explain.
    fn by_overlay(farm: &str, ports: &[(Transport, u16)]) -> BTreeMap<String, usize> {
        let policy = policy(farm);
        let mut packets = Packets::default();
        for (transport, port) in ports {
            match *transport {
                Transport::TCP => packets.connect(0, (RDSH, 50_000), (DC, *port)),
                other => {
                    packets.send(0, other, (RDSH, 50_000), (DC, *port));
                    packets.send(0, other, (DC, *port), (RDSH, 50_000));
                }
            }
        }
        let judgement = packets.judge(&policy, &view(60));
        assert_eq!(judgement.judged.len(), ports.len());
        judgement.by_overlay
    }

    #[test]
    fn an_overlay_explains_a_finding_only_if_it_documents_its_traffic() {
        let dns = (Transport::UDP, 53);
        let domain = |count: usize| BTreeMap::from([("windows-domain".to_owned(), count)]);
        assert_eq!(by_overlay(FARM, &[dns]), domain(1));
        assert_eq!(by_overlay(FARM, &[dns, (Transport::TCP, 53)]), domain(2));
        assert_eq!(by_overlay(FARM, &[(Transport::UDP, 54)]), BTreeMap::new());
        assert_eq!(by_overlay(FARM, &[(Transport::UDP, 3268)]), BTreeMap::new());
        // Without a host with the directory's role, the overlay does not document this traffic.
        let no_directory = FARM.replace("roles = [\"ad-dc\"]", "roles = [\"sql-server\"]");
        assert_eq!(by_overlay(&no_directory, &[dns]), BTreeMap::new());
    }

    #[test]
    fn an_overlay_that_the_inventory_names_explains_nothing_more() {
        let named = FARM
            .replace("matrix = \"ras-19\"", "matrix = \"ras-19\"\noverlays = [\"windows-domain\"]");
        assert_eq!(by_overlay(&named, &[(Transport::UDP, 53)]), BTreeMap::new());
    }
}
