//! Exceptions that matched no traffic that requires them, or that were created after traffic that
//! they permit had ended.

use std::collections::BTreeMap;

use super::Judgement;
use super::ends::EndKey;
use super::facts::CaptureFacts;
use super::finding::{About, Finding, FindingKey, Reason};
use super::judge::Judge;
use super::ruling::Judged;
use super::verdict::{Code, Doubt, Doubts};
use crate::conversation::{Conversations, ServiceKey};
use crate::policy::{ExceptionParty, Policy, SeverityColumn};

/// Returns the index of each exception that was created after conversations that it permits had
/// ended, and the number of these conversations.
pub(super) fn predated(
    policy: &Policy,
    conversations: &Conversations,
    judged: &[Judged],
) -> Vec<(usize, u64)> {
    let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
    for (c, j) in conversations.list.iter().zip(judged) {
        let Some(number) = j.ruling.exception() else { continue };
        if c.latest().is_some_and(|last| last < policy.exceptions.list[number].begins) {
            *counts.entry(number).or_default() += 1;
        }
    }
    counts.into_iter().collect()
}

/// Returns, for each exception that no conversation counts for, the first other exception that
/// takes precedence for a conversation which both match. Exceptions without such a conversation are
/// left out.
pub(super) fn shadowed(
    policy: &Policy,
    conversations: &Conversations,
    judged: &[Judged],
    counts: &[u64],
) -> BTreeMap<usize, usize> {
    let list = &policy.exceptions.list;
    let mut unused: Vec<usize> = (0..list.len()).filter(|number| counts[*number] == 0).collect();
    let mut shadowed = BTreeMap::new();
    for (c, j) in conversations.list.iter().zip(judged) {
        if unused.is_empty() {
            break;
        }
        let Some(applied) = j.ruling.exception() else { continue };
        let ServiceKey { client, server, transport, port } = c.ruled_subject();
        let ends = [(&j.client, client), (&j.server, server)];
        unused.retain(|number| {
            let is_shadowed = list[*number].matches(ends, transport, port);
            if is_shadowed {
                shadowed.insert(*number, applied);
            }
            !is_shadowed
        });
    }
    shadowed
}

impl Judgement {
    /// Adds a finding for each exception that matched no traffic that requires it.
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
        // Aggregated flows have no ports, so they may be the traffic that an exception is for.
        let mut doubts = Doubts::default();
        if self.facts.as_ref().is_some_and(CaptureFacts::has_aggregated) {
            doubts.add(Doubt::Aggregated);
        }
        let severity = judge.severity(code, SeverityColumn::Reached, doubts);
        for (number, exception) in policy.exceptions.list.iter().enumerate() {
            if self.excepted[number] > 0 {
                continue;
            }
            let [client, server] = [&exception.from, &exception.to]
                .map(|side| self.book.ends.id(EndKey::Words(words(side).into())));
            let key = FindingKey { code, client, server, transport: None, about: About::Group };
            let finding = Finding::new(key, Reason::Unused(number as u32));
            self.book.findings.push(finding.weighing(severity, doubts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{
        DC, DC_1, FARM, Packets, RDSH, ends_of, policy, view, with_code,
    };
    use crate::model::{Nanos, SECOND};
    use crate::policy::Exception;

    /// Returns an exception for one port, created this many seconds after the sample starts.
    fn exception(id: &str, from: ExceptionParty, port: u16, begins_s: Nanos) -> Exception {
        let start = view(0).start.expect("a start");
        Exception {
            id: id.to_owned(),
            from,
            to: ExceptionParty::Any,
            transport: None,
            ports: Some((port, port)),
            both: false,
            owner: "ops".to_owned(),
            reason: "a test".to_owned(),
            approved_by: "alice".to_owned(),
            created: "2026-01-01".parse().expect("a day"),
            expires: "2026-12-31".parse().expect("a day"),
            begins: start + begins_s * SECOND,
            ends: start + 1_000_000 * SECOND,
            ticket: String::new(),
            written: Default::default(),
            line: 1,
        }
    }

    fn packets() -> Packets {
        let mut packets = Packets::default();
        packets.connect(10, (DC, 50_000), (RDSH, 4444));
        packets
    }

    #[test]
    fn an_exception_without_traffic_is_a_finding_with_its_words() {
        let mut policy = policy(FARM);
        let broker = policy.matrix.roles.iter().position(|role| role.slug == "broker");
        let broker = crate::policy::RoleSet::one(broker.expect("a role"));
        let title = policy.matrix.role_titles(broker).join(" or ");
        let sides = [
            (ExceptionParty::Host(DC_1), "any dc1".to_owned()),
            (ExceptionParty::Network(0), "any office".to_owned()),
            (
                ExceptionParty::Addresses("10.7.0.0/16".parse().expect("a network")),
                "any 10.7.0.0/16".to_owned(),
            ),
            (ExceptionParty::Roles(broker), format!("any {title}")),
            (ExceptionParty::Any, "any anybody".to_owned()),
        ];
        for (side, words) in sides {
            let unused = exception("unused", side, 9, 0);
            policy.exceptions.list = vec![exception("used", ExceptionParty::Any, 4444, 0), unused];
            let judgement = packets().judge(&policy, &view(60));
            let found = with_code(&judgement, Code::UnusedException);
            let [finding] = &found[..] else { panic!("{} findings", found.len()) };
            assert_eq!(finding.reason, Reason::Unused(1));
            let ends = ends_of(&policy, &judgement, finding);
            assert_eq!(ends, [words, "any anybody".to_owned()]);
            assert_eq!(judgement.excepted, [1, 0]);
        }
    }

    #[test]
    fn an_exception_that_another_one_shadows_is_known() {
        let mut policy = policy(FARM);
        let broad = exception("broad", ExceptionParty::Host(DC_1), 4444, 0);
        let narrow = exception("narrow", ExceptionParty::Any, 4444, 0);
        let other = exception("other", ExceptionParty::Any, 4445, 0);
        let expired = |exception: &Exception| Exception { ends: 0, ..exception.clone() };
        let mut shadowed = |list: &[Exception]| {
            policy.exceptions.list = list.to_vec();
            packets().judge(&policy, &view(60)).shadowed.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(shadowed(&[broad.clone(), other.clone(), narrow.clone()]), [(2, 0)]);
        assert_eq!(shadowed(&[other.clone(), narrow.clone()]), []);
        // A valid exception takes precedence over one that has expired.
        assert_eq!(shadowed(&[expired(&narrow), broad.clone()]), [(0, 1)]);
        assert_eq!(shadowed(&[expired(&narrow), expired(&broad)]), [(1, 0)]);
    }

    #[test]
    fn an_exception_predates_traffic_only_if_it_begins_after_all_of_it() {
        let mut policy = policy(FARM);
        let mut predated = |begins_s| {
            policy.exceptions.list = vec![exception("late", ExceptionParty::Any, 4444, begins_s)];
            packets().judge(&policy, &view(60)).predated
        };
        // The packets of the sample are sent just after its tenth second.
        assert_eq!(predated(10), []);
        assert_eq!(predated(11), [(0, 1)]);
    }
}
