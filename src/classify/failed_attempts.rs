//! Findings about documented conversations that failed. A failed attempt is direct evidence of
//! missing traffic, even if the row does not require traffic.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use super::absence_claims::GroupId;
use super::ends::EndKey;
use super::expected::Assessor;
use super::facts::{JudgedCapture, is_silent};
use super::finding::{About, Finding, FindingBook, FindingKey, Reason};
use super::grouping::{ConversationGroup, GroupEntries, PortMerge, PortScope, merge_clients};
use super::is_unlikely;
use super::pairs::MANY_PAIRS;
use super::ruling::Judged;
use super::verdict::{Code, Doubt, Doubts, Status, Verdict};
use super::violations::pair;
use crate::conversation::{Conversation, flag};
use crate::model::Transport;
use crate::policy::{Party, PartyKind, Quantifier, SeverityColumn};

/// The least number of packets of a connection that worked: the handshake, a request and a reply.
const WORKING: u64 = 5;

/// Clients, each with a group of rows. A host of the inventory is represented by one of its
/// addresses, whichever of them it used.
type ClientsByGroup = HashSet<(GroupId, IpAddr), ahash::RandomState>;

/// The connections of a group of rows that worked.
#[derive(Default)]
struct Succeeded {
    /// The clients that reached any server.
    clients: ClientsByGroup,
    /// The clients and servers that reached each other, represented as in [`ClientsByGroup`].
    pairs: HashSet<(GroupId, IpAddr, IpAddr), ahash::RandomState>,
}

impl Assessor<'_> {
    /// Adds findings for documented conversations that failed, even if their rows do not require
    /// traffic.
    pub(super) fn failures(&mut self, groups_of: &[GroupId]) {
        let policy = self.policy;
        let list = &self.conversations.list;
        let judged = self.judged;
        let group = |j: &Judged| {
            let row = j.ruling.row().filter(|_| j.verdict() == Verdict::Documented)?;
            Some(groups_of[row])
        };
        let mut entries = GroupEntries::default();
        let mut failed = ClientsByGroup::default();
        let mut guard = self.book.borrow_mut();
        let book: &mut FindingBook = &mut guard;
        for (number, (c, j)) in list.iter().zip(judged).enumerate() {
            let Some(group) = group(j) else { continue };
            let Some(code) = self.seen.failing(c) else { continue };
            failed.insert((group, policy.canonical(c.subject.client)));
            let ends = pair(&mut book.ends, j, c);
            entries.add(code, ends, c.subject.transport, group, number as u32);
        }
        if failed.is_empty() {
            return;
        }
        let mut succeeded = Succeeded::default();
        for (c, j) in list.iter().zip(judged).filter(|(c, _)| self.seen.has_worked(c)) {
            let Some(group) = group(j) else { continue };
            let client = policy.canonical(c.subject.client);
            if failed.contains(&(group, client)) {
                succeeded.clients.insert((group, client));
                succeeded.pairs.insert((group, client, policy.canonical(c.subject.server)));
            }
        }
        let groups = entries.into_groups(PortMerge::Never, &mut book.pool);
        let groups = merge_clients(policy, groups, (list, judged), &mut book.ends, &mut book.pool);
        drop(guard);
        let mut by_group: BTreeMap<(Code, Transport, GroupId), Vec<Finding>> = BTreeMap::new();
        for attempts in groups {
            let PortScope::One(group) = attempts.target.ports else { continue };
            let finding = self.failure(&attempts, group, &succeeded);
            let key = (attempts.target.code, attempts.target.transport, group);
            by_group.entry(key).or_default().push(finding);
        }
        for findings in by_group.into_values() {
            if (findings.len() as u64) < MANY_PAIRS {
                self.book.borrow_mut().findings.extend(findings);
            } else {
                self.many_failures(&findings);
            }
        }
    }

    /// Reports many failures of one group as one finding.
    fn many_failures(&self, findings: &[Finding]) {
        let list = &self.conversations.list;
        let mut book = self.book.borrow_mut();
        let members = findings.iter().flat_map(|f| book.pool.get(f.members).iter().copied());
        let members: BTreeSet<u32> = members.collect();
        let members = book.pool.add(members);
        // The merged finding gets its severity and doubts from the most severe of these findings.
        // If several are equally severe, a certain one takes precedence.
        let weight = |f: &&Finding| (f.severity, f.certain());
        let Some(worst) = findings.iter().max_by_key(weight) else { return };
        let is_any = book.ends.id(EndKey::Everybody);
        let key = FindingKey { client: is_any, server: is_any, ..worst.key };
        let finding = Finding::new(key, worst.reason).weighing(worst.severity, worst.doubts);
        let finding = finding.with_members(list, &book.pool, members);
        book.findings.push(finding);
    }

    fn failure(
        &mut self,
        attempts: &ConversationGroup,
        group: GroupId,
        succeeded: &Succeeded,
    ) -> Finding {
        let policy = self.policy;
        let list = &self.conversations.list;
        let judged = self.judged;
        let members = self.book.borrow().pool.get(attempts.members).to_vec();
        let code = attempts.target.code;
        let transport = attempts.target.transport;
        let key = FindingKey {
            code,
            client: attempts.client,
            server: attempts.target.server,
            transport: Some(transport),
            about: About::Group,
        };
        let doubts_of = |number: usize| self.seen.doubts_of_failure(number, &judged[number]);
        let sure = members.iter().any(|n| doubts_of(*n as usize).certain());
        let mut doubts = Doubts::default();
        let mut all_lost = 1.0;
        let mut sources = BTreeSet::new();
        let mut rows = BTreeSet::new();
        let mut hosts = BTreeSet::new();
        for number in &members {
            let number = *number as usize;
            let (c, j): (&Conversation, &Judged) = (&list[number], &judged[number]);
            let own = doubts_of(number);
            // Doubtful attempts do not weaken what certain ones show.
            if !sure {
                doubts = doubts.with(own);
            }
            if !sure || own.certain() {
                all_lost *= self.seen.all_lost(c, c.chances_at_last());
            }
            // If a host has several roles, the failure counts for every row that documents the
            // conversation.
            rows.extend(self.fitting[number].iter().flat_map(|fitting| &fitting.rows).copied());
            sources.insert(policy.label(&j.client, c.subject.client));
            hosts.extend([&j.client, &j.server].into_iter().filter_map(Party::host));
            if let PartyKind::Host(host) = j.client.kind {
                self.missing.insert(host);
            }
        }
        // If no answer was seen, the capture itself may have lost it.
        if is_silent(code) && !is_unlikely(all_lost) {
            doubts.add(Doubt::Loss);
        }
        let hosts: Vec<usize> = hosts.into_iter().collect();
        for (doubt, _) in self.seen.silence_of(code, &hosts) {
            doubts.add(doubt);
        }
        doubts = doubts.with(self.doubts_of_reply(code, &members));
        // Any host can send an ICMP error that rejects a packet. Unless the error quotes a TCP
        // sequence number, nothing in it proves that the sender was on the path.
        if code == Code::Rejected && transport != Transport::TCP {
            doubts.add(Doubt::Quoted);
        }
        // The failure is less severe if each of these clients also had a connection that worked and
        // that a row of the same group documents. If a row requires traffic between every pair, it
        // must have reached the same server, for example at another address.
        let of_each_pair = rows.iter().any(|r| {
            let quantifier = policy.matrix.rows[*r].quantifier;
            matches!(quantifier, Quantifier::EveryPair | Quantifier::EitherDirection)
        });
        let worked = |n: &u32| {
            let subject = &list[*n as usize].subject;
            let [client, server] = [subject.client, subject.server].map(|a| policy.canonical(a));
            if of_each_pair {
                succeeded.pairs.contains(&(group, client, server))
            } else {
                succeeded.clients.contains(&(group, client))
            }
        };
        let otherwise = members.iter().all(worked);
        let expected = rows.iter().any(|r| policy.matrix.rows[*r].is_expected());
        let mut finding = Finding::new(key, Reason::Failed(group));
        finding.severity = if otherwise {
            self.judge.another_way_worked(code)
        } else {
            self.judge.severity(code, SeverityColumn::reached_if(expected), doubts)
        };
        finding.doubts = doubts;
        for row in rows {
            self.rows[row].status = Status::Missing;
            self.rows[row].source_hosts_missing.extend(sources.iter().cloned());
        }
        finding.with_members(list, &self.book.borrow().pool, attempts.members)
    }

    /// Returns the reasons to doubt that the reply in these failed conversations is their last
    /// state. A reply proves only that its attempt failed. That no later attempt worked is shown
    /// only by a capture that cannot have lost all packets of a connection, or its second
    /// direction.
    fn doubts_of_reply(&self, code: Code, members: &[u32]) -> Doubts {
        let mut doubts = Doubts::default();
        if is_silent(code) {
            return doubts;
        }
        let conversations = members.iter().map(|n| &self.conversations.list[*n as usize]);
        let lost = conversations.map(|c| self.seen.all_lost(c, WORKING)).fold(0.0, f64::max);
        if !is_unlikely(lost) {
            doubts.add(Doubt::Loss);
        }
        if self.seen.view().misses_a_direction() {
            doubts.add(Doubt::Coverage);
        }
        doubts
    }
}

impl JudgedCapture<'_> {
    /// Returns the reasons to doubt the conversation with this index, and to doubt that its
    /// failures are its last state.
    pub fn doubts_of_failure(&self, number: usize, judged: &Judged) -> Doubts {
        let list = &self.conversations.list;
        let c = &list[number];
        let index = &self.conversations.index;
        let mut doubts = judged.doubts;
        // Which of two flows began later is not certain if their times come from different clocks.
        let clocks_differ = index.has_doubtful_clocks() || index.clock_offset().is_some();
        if c.fails_at_last().is_some() && clocks_differ {
            doubts.add(Doubt::Clock);
        }
        // Flows of the same subject that are doubted form the next conversation. One that worked
        // later, for example because only its SYN is missing, shows that the service may work
        // again. Both sides sent packets, so neither of them alone can have forged it.
        let failed = c.fails_at_last().map_or(c.opened.last, |failed| failed.opened.last);
        let works_later = list.get(number + 1).is_some_and(|next| {
            next.subject == c.subject
                && next.is_doubted()
                && !next.is_made_up()
                && next.state.reached()
                && next.opened.last > failed
        });
        if works_later {
            doubts.add(Doubt::Direction);
        }
        // If the capture contains replies without their requests, it may also lack the replies to
        // other requests. A server that sent such replies on its own could as well reply. Replies
        // to earlier requests may only be the last ones of a service that has stopped.
        let began = c.fails_at_last().map_or(c.opened.first, |failed| failed.opened.first);
        let lacks_requests = self.failing(c).is_some_and(is_silent)
            && list.get(number + 1).is_some_and(|next| {
                next.subject == c.subject
                    && next.is_doubted()
                    && !next.is_made_up()
                    && next.flags[1].has(flag::ANSWERS | flag::SYN_ACK)
                    && next.opened.last.get() > began.get()
            });
        if lacks_requests || c.may_lack_one_reply() {
            doubts.add(Doubt::Loss);
        }
        // A client can send such acknowledgements on its own, so they make the failure uncertain
        // but do not hide it.
        let is_silent = self.failing(c).is_some_and(is_silent);
        if self.lacks_repetition(c)
            || is_silent && index.may_be_hidden(c.subject.server, c.subject.client)
            || is_silent && index.may_be_hidden_service(c.subject.endpoint(), c.subject.transport)
        {
            doubts.add(Doubt::Coverage);
        }
        // Some clients accept an answer from another address than the one that they asked.
        if self.answered_from(c).is_some() {
            doubts.add(Doubt::Coverage);
        }
        doubts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Judgement;
    use crate::classify::sample::{
        BROKER, DC, FARM, GW, Packets, RDSH, RDSH_2, policy, view, with_code,
    };

    /// Returns a capture that shows packets from all hosts until its end.
    fn packets() -> Packets {
        let mut packets = Packets::default();
        for second in [0, 60, 120] {
            for host in [GW, DC, RDSH, RDSH_2] {
                packets.ping(second, BROKER, host);
            }
        }
        packets
    }

    fn judge(packets: &Packets) -> Judgement {
        packets.judge(&policy(FARM), &view(120))
    }

    #[test]
    fn a_documented_attempt_that_was_refused_is_missing_and_one_that_worked_is_not() {
        let mut worked = packets();
        worked.connect(10, (BROKER, 50_000), (RDSH, 30_004));
        assert!(with_code(&judge(&worked), Code::Refused).is_empty());
        let mut refused = packets();
        refused.refuse(10, (BROKER, 50_000), (RDSH, 30_004));
        let judgement = judge(&refused);
        let found = with_code(&judgement, Code::Refused);
        assert_eq!((found.len(), found[0].certain()), (1, true));
        let missing = judgement.rows.iter().filter(|row| row.status == Status::Missing);
        let sources: Vec<_> = missing.flat_map(|row| &row.source_hosts_missing).collect();
        assert_eq!(sources, ["broker1"]);
        // Undocumented traffic that fails is not missing traffic.
        let mut other = packets();
        other.refuse(10, (BROKER, 50_000), (RDSH, 4444));
        assert!(with_code(&judge(&other), Code::Refused).is_empty());
    }

    #[test]
    fn only_the_last_state_of_a_service_counts() {
        let mut recovered = packets();
        recovered.refuse(10, (BROKER, 50_000), (RDSH, 30_004));
        recovered.connect(20, (BROKER, 50_001), (RDSH, 30_004));
        assert!(with_code(&judge(&recovered), Code::Refused).is_empty());
        let mut stopped = packets();
        stopped.connect(10, (BROKER, 50_000), (RDSH, 30_004));
        stopped.refuse(20, (BROKER, 50_001), (RDSH, 30_004));
        assert_eq!(with_code(&judge(&stopped), Code::Refused).len(), 1);
    }

    #[test]
    fn a_failure_weighs_less_if_the_client_reached_another_server() {
        let severity = |other_way: bool| {
            let mut packets = packets();
            packets.refuse(10, (BROKER, 50_000), (RDSH, 30_004));
            if other_way {
                packets.connect(20, (BROKER, 50_001), (RDSH_2, 30_004));
            }
            let policy = policy(FARM);
            let judgement = packets.judge(&policy, &view(120));
            let found = with_code(&judgement, Code::Refused);
            assert_eq!(found.len(), 1);
            let rows = judgement.rows.iter().zip(&policy.matrix.rows);
            let mut missing = rows.filter(|(report, _)| report.status == Status::Missing);
            let every = |row: &crate::policy::Row| row.quantifier == Quantifier::EveryPair;
            assert!(
                !missing.any(|(_, row)| every(row)),
                "the row needs no connection of each pair"
            );
            found[0].severity
        };
        assert!(severity(true) < severity(false));
    }

    #[test]
    fn a_probe_of_another_server_is_no_way_that_worked() {
        let severity = |probed: bool| {
            let mut packets = packets();
            packets.refuse(10, (BROKER, 50_000), (RDSH, 30_004));
            if probed {
                packets.probe(20, (BROKER, 50_001), (RDSH_2, 30_004));
            }
            let found = with_code(&judge(&packets), Code::Refused);
            assert_eq!(found.len(), 1);
            found[0].severity
        };
        assert_eq!(severity(true), severity(false));
    }

    #[test]
    fn silence_is_doubted_if_a_single_answer_may_have_been_lost() {
        let found = |attempts: i64| {
            let mut packets = packets();
            for attempt in 0..attempts {
                packets.syn(10 + 2 * attempt, (BROKER, 50_000), (RDSH, 30_004));
            }
            let found = with_code(&judge(&packets), Code::Unanswered);
            assert_eq!(found.len(), 1);
            found[0].doubts.iter().collect::<Vec<_>>()
        };
        assert_eq!(found(1), [Doubt::Coverage, Doubt::Loss]);
        assert_eq!(found(4), []);
    }

    #[test]
    fn losses_before_a_service_worked_do_not_show_that_it_has_stopped() {
        let found = |failed: &[i64], repeated: i64| {
            let mut packets = packets();
            for second in (10..110).step_by(10) {
                let port = 50_000 + second as u16;
                if failed.contains(&second) {
                    packets.syn(second, (BROKER, port), (RDSH, 30_004));
                    // If half of the flows repeat their SYN, the capture does not lack the replies.
                    if second > 80 || second == repeated {
                        packets.syn(second + 1, (BROKER, port), (RDSH, 30_004));
                    }
                } else {
                    packets.connect(second, (BROKER, port), (RDSH, 30_004));
                }
            }
            let found = with_code(&judge(&packets), Code::Unanswered);
            found.iter().map(|finding| finding.certain()).collect::<Vec<_>>()
        };
        assert!(found(&[20, 40, 60], 0).is_empty());
        assert_eq!(found(&[20, 40, 60, 100], 0), [false]);
        assert_eq!(found(&[60, 70, 80, 90, 100], 0), [false]);
        assert_eq!(found(&[60, 70, 80, 90, 100], 60), [true]);
    }

    #[test]
    fn an_error_about_datagrams_may_come_from_anybody() {
        let found = |transport: Transport| {
            let mut packets = packets();
            match transport {
                Transport::TCP => packets.syn(10, (BROKER, 50_000), (RDSH, 30_004)),
                _ => packets.send(10, transport, (BROKER, 50_000), (RDSH, 30_004)),
            }
            packets.error(11, "10.1.0.254", transport, (BROKER, 50_000), (RDSH, 30_004));
            let found = with_code(&judge(&packets), Code::Rejected);
            assert_eq!(found.len(), 1, "{transport}");
            found[0].doubts.iter().any(|doubt| doubt == Doubt::Quoted)
        };
        assert!(found(Transport::UDP));
        assert!(!found(Transport::TCP));
    }

    #[test]
    fn many_failures_of_one_group_are_one_finding() {
        let farm = |hosts: u64| {
            let more = (0..hosts).map(|host| {
                format!(
                    "[[host]]\nname = \"more{host}\"\naddresses = [\"10.2.0.{host}\"]\nroles = [\"rdsh-agent\"]\n"
                )
            });
            FARM.to_owned() + &more.collect::<String>()
        };
        let found = |hosts: u64| {
            let mut packets = packets();
            for host in 0..hosts {
                packets.refuse(10, (BROKER, 50_000), (&format!("10.2.0.{host}"), 30_004));
            }
            let judgement = packets.judge(&policy(&farm(hosts)), &view(120));
            let found = with_code(&judgement, Code::Refused);
            (found.len(), found.iter().map(|finding| finding.members.len()).sum::<usize>())
        };
        let few = MANY_PAIRS - 1;
        assert_eq!(found(few), (few as usize, few as usize));
        assert_eq!(found(MANY_PAIRS), (1, MANY_PAIRS as usize));
    }
}
