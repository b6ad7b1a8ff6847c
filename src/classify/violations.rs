//! Findings for conversations that are not permitted, or that are permitted only by a feature that
//! is usually off and that the inventory does not mention.

use std::cmp::Reverse;

use super::ends::{EndId, EndInterner, EndKey, NetworkGroup, prefix_of};
use super::finding::{About, Finding, FindingBook, FindingKey, Reason};
use super::grouping::{ConversationGroup, GroupEntries, PortEvidence, PortMerge, merge_clients};
use super::judge::Judge;
use super::ruling::Judged;
use super::verdict::{Code, Doubt, Verdict};
use crate::conversation::{Conversation, DoubtSource, ServiceKey};
use crate::policy::{PartyKind, SeverityColumn};

/// The input for findings about conversations, and the book that the findings are added to.
pub(super) struct Grouping<'a> {
    pub judge: &'a Judge<'a>,
    pub list: &'a [Conversation],
    pub judged: &'a [Judged],
    pub book: FindingBook,
}

impl Grouping<'_> {
    /// Adds the findings for conversations that are not permitted, or that are permitted only by a
    /// feature that is usually off and that the inventory does not mention. Returns the book.
    pub(super) fn unpermitted(mut self) -> FindingBook {
        let policy = self.judge.policy;
        let unusual: Vec<bool> =
            policy.matrix.rows.iter().map(|row| policy.is_unusual(row)).collect();
        let code = |j: &Judged| match j.verdict() {
            verdict if verdict.is_unpermitted() => Some(j.ruling.code),
            Verdict::Documented if j.ruling.row().is_some_and(|row| unusual[row]) => {
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
            let ends = pair(&mut self.book.ends, j, c);
            entries.add(code, ends, c.subject.transport, c.subject.port, number as u32);
        }
        let evidence = |number: u32| {
            let c = &list[number as usize];
            if c.is_of_several_ports() {
                PortEvidence::Several
            } else if c.is_doubted()
                || judged[number as usize].doubts.iter().any(|doubt| doubt == Doubt::Direction)
            {
                PortEvidence::Guess
            } else {
                PortEvidence::Sure
            }
        };
        let merge = PortMerge::ManyIntoOne(&evidence);
        let groups = entries.into_groups(merge, &mut self.book.pool);
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
        // The doubts are those of the worst conversation. The severity is also that of the worst
        // conversation, unless the code of the finding is not that of its conversations.
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

/// Returns the ends of a conversation, client first. If the conversation stands for several
/// unlisted clients, the client is their network, or all unlisted networks together. If it stands
/// for servers in several networks, the server is [`EndKey::Everybody`]. The same applies if
/// conversations of a listed client were aggregated, so that a scan by this client becomes one
/// finding.
pub(super) fn pair(ends: &mut EndInterner, j: &Judged, c: &Conversation) -> [EndId; 2] {
    let ServiceKey { client, server, .. } = c.subject;
    let aggregated = c.stands_for();
    let has_several_clients = aggregated.is_some_and(|all| all.has_several_clients());
    let client = match j.client.kind {
        PartyKind::Stranger if has_several_clients && client.is_unspecified() => {
            ends.id(EndKey::Many(NetworkGroup::Flood))
        }
        PartyKind::Stranger if has_several_clients => {
            ends.id(EndKey::Many(NetworkGroup::Prefix(prefix_of(client))))
        }
        _ => ends.id_of(&j.client, client),
    };
    let is_any_server = aggregated.is_some_and(|all| {
        all.is_of_host() || (all.has_several_servers() && server.is_unspecified())
    });
    let server =
        if is_any_server { ends.id(EndKey::Everybody) } else { ends.id_of(&j.server, server) };
    [client, server]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{
        BROKER, DC, FARM, GW, Packets, RDSH, STRANGER, ends_of, policy, view, with_code,
    };
    use crate::model::Transport;
    use crate::policy::Policy;

    /// Returns the findings about traffic as their ends, their code, and whether they are certain.
    fn unpermitted(policy: &Policy, packets: &Packets) -> Vec<([String; 2], Code, bool)> {
        let judgement = packets.judge(policy, &view(60));
        let found = judgement.findings().iter();
        found
            .filter(|finding| matches!(finding.reason, Reason::Permission | Reason::Strangers))
            .map(|f| (ends_of(policy, &judgement, f), f.code(), f.certain()))
            .collect()
    }

    fn ends(client: &str, server: &str) -> [String; 2] {
        [client.to_owned(), server.to_owned()]
    }

    #[test]
    fn only_what_nothing_documents_is_a_finding() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (BROKER, 20_002));
        packets.ping(1, GW, BROKER);
        assert_eq!(unpermitted(&policy, &packets), []);
        packets.connect(2, (DC, 50_000), (RDSH, 4444));
        let expected = (ends("dc1", "rdsh1"), Code::NoRelation, true);
        assert_eq!(unpermitted(&policy, &packets), [expected]);
    }

    #[test]
    fn strangers_among_themselves_are_one_finding_about_nobody() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.connect(0, (STRANGER, 50_000), ("198.51.100.8", 80));
        packets.connect(1, ("203.0.113.1", 50_000), ("203.0.113.2", 25));
        let judgement = packets.judge(&policy, &view(60));
        let found = with_code(&judgement, Code::UnknownHost);
        let [finding] = &found[..] else { panic!("{} findings", found.len()) };
        assert_eq!(ends_of(&policy, &judgement, finding), ends("*", "*"));
        assert_eq!((finding.reason, finding.members.len()), (Reason::Strangers, 2));
        // A conversation with a listed end has a finding of its own.
        packets.connect(2, (STRANGER, 50_001), (GW, 8080));
        let found = unpermitted(&policy, &packets);
        assert_eq!(found.len(), 2);
        assert!(found.contains(&(ends(STRANGER, "gw1"), Code::UnknownHost, true)), "{found:?}");
    }

    #[test]
    fn a_conversation_that_only_an_error_quotes_accuses_nobody() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.error(0, "10.1.0.254", Transport::UDP, (DC, 50_000), (RDSH, 4444));
        packets.ping(1, GW, BROKER);
        let (conversations, judged) = packets.judged(&policy);
        let quoted = conversations.list.iter().position(|c| c.doubts.has(DoubtSource::Quoted));
        assert!(quoted.is_some_and(|number| judged[number].verdict().is_unpermitted()));
        assert_eq!(unpermitted(&policy, &packets), []);
        packets.send(0, Transport::UDP, (DC, 50_000), (RDSH, 4444));
        assert_eq!(unpermitted(&policy, &packets).len(), 1);
    }

    #[test]
    fn a_certain_finding_counts_no_ports_that_are_guesses() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.connect(0, (DC, 50_000), (RDSH, 7000));
        let found = |packets: &Packets| {
            let judgement = packets.judge(&policy, &view(60));
            let found = with_code(&judgement, Code::NoRelation);
            let mut found: Vec<_> =
                found.iter().map(|f| (f.key.about, f.certain(), f.members.len())).collect();
            found.sort_unstable();
            found
        };
        // Both ends have ports of clients, so either may be the client.
        for number in 0..11 {
            packets.midstream(1, (DC, 40_001 + number), (RDSH, 41_001 + number));
        }
        let expected = [(About::Port(7000), true, 1), (About::Ports, false, 11)];
        assert_eq!(found(&packets), expected);
        for port in 7001..7012 {
            packets.connect(2, (DC, 50_000), (RDSH, port));
        }
        assert_eq!(found(&packets), [(About::Ports, true, 23)]);
    }

    #[test]
    fn many_ports_weigh_as_much_as_the_worst_of_them() {
        let policy = policy(FARM);
        let severity_of = |is_reached: bool| {
            let mut packets = Packets::default();
            for port in 4000..4012 {
                packets.refuse(0, (DC, port + 10_000), (RDSH, port));
            }
            if is_reached {
                packets.connect(1, (DC, 50_000), (RDSH, 4012));
            }
            let judgement = packets.judge(&policy, &view(60));
            let found = with_code(&judgement, Code::NoRelation);
            assert_eq!(found.len(), 1, "all ports are one finding");
            assert_eq!(found[0].key.about, About::Ports);
            found[0].severity
        };
        assert!(severity_of(true) > severity_of(false));
    }
}
