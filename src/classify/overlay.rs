//! Overlays that the inventory does not name, and the findings that they would explain.

use std::collections::{BTreeMap, HashSet};

use super::Judgement;
use super::judge::Judged;
use crate::conversation::{Conversation, ServiceKey};
use crate::model::Transport;
use crate::policy::{Policy, Row, Scope};

/// Returns the number of findings about unpermitted traffic that each built-in overlay would
/// explain if the inventory named it. A finding counts only if such overlays document all its
/// conversations. The finding counts for the overlay that documents the first conversation.
pub(super) fn explained(policy: &Policy, outcome: &Judgement) -> BTreeMap<String, usize> {
    let matrix = &policy.matrix;
    let list = &outcome.conversations.list;
    let judged = &outcome.judged;
    let documents = |row: &&Row, c: &Conversation, j: &Judged| {
        row.transport == c.subject.transport
            && row.ports.contains(&c.subject.port)
            && (row.scope == Scope::Broadcast) == c.broadcast
            && matrix.is_source(row, j.client.roles)
            && matrix.is_destination(row, j.server.roles)
    };
    let mut counts = BTreeMap::new();
    // Most ports do not occur in any overlay, so they are skipped early.
    let rows = matrix.unused_overlays.iter();
    let services: HashSet<(Transport, u16), ahash::RandomState> =
        rows.flat_map(|row| row.ports.clone().map(|port| (row.transport, port))).collect();
    for finding in outcome.findings() {
        let members = outcome.members_of(finding);
        let is_unpermitted = finding.verdict().is_unpermitted();
        let Some(first) = members.first().filter(|_| is_unpermitted) else { continue };
        let ServiceKey { transport, port, .. } = list[*first as usize].subject;
        if !services.contains(&(transport, port)) {
            continue;
        }
        let documenting = |number: &u32| {
            let number = *number as usize;
            matrix.unused_overlays.iter().find(|row| documents(row, &list[number], &judged[number]))
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
