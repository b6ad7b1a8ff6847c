//! Documented conversations that failed: direct evidence of something missing, whatever the row's need.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::expected::Assessor;
use super::expected::CLOCKS;
use super::filter::display_filter;
use super::finding::{End, Finding};
use super::fold::{About, Fold, Key, ends, fold_clients};
use super::judge::Judged;
use super::verdict::{Code, Doubt, Doubts, Status, Verdict};
use super::wording::{clock_words, doubtful_members, service_words, trace, who};
use crate::conversation::{Basis, Conversation};
use crate::model::Transport;
use crate::policy::{Quantifier, Who};

/// What worked for a client of a group: servers and services, in words.
type Ways<'a> = BTreeMap<(&'a str, IpAddr), BTreeSet<(String, String)>>;

/// Codes of failures that rest on silence, which may be the capture's.
const SILENT: [Code; 2] = [Code::Unanswered, Code::HalfOpen];

impl Assessor<'_> {
    /// Returns how a conversation failed: in all of its flows, or in the last ones. A late silence counts only if a
    /// lost answer does not explain it.
    fn failing(&self, c: &Conversation) -> Option<Code> {
        let at_last = c.fails_at_last().and_then(|failed| {
            let code = Code::parse(failed.state.name())?;
            let sure = !SILENT.contains(&code) || self.view.is_certain_after(failed.chances);
            sure.then_some(code)
        });
        at_last.or_else(|| Code::parse(c.state.name()).filter(|_| c.has_failed()))
    }

    /// Documented conversations that failed: direct evidence, whatever the row's need.
    pub(super) fn failures(&mut self) {
        let (policy, list, judged) = (self.policy, &self.conversations.list, self.judged);
        let group = |j: &Judged| {
            let row = j.ruling.row.filter(|_| j.verdict() == Verdict::Documented)?;
            Some(policy.matrix.rows[row].group.as_str())
        };
        let mut failed: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        let mut ways: Ways<'_> = BTreeMap::new();
        for (number, (c, j)) in list.iter().zip(judged).enumerate() {
            let code = self.failing(c);
            let (Some(group), Some(code)) = (group(j), code) else { continue };
            let end =
                |party, address: IpAddr| End::identity_of(policy, party, || address.to_string());
            ways.entry((group, c.subject.client)).or_default();
            let key = Key {
                code,
                client: end(&j.client, c.subject.client),
                server: end(&j.server, c.subject.server),
                transport: c.subject.transport,
                about: About::Group(group.to_owned()),
            };
            failed.entry(key).or_default().push(number);
        }
        // Traffic that anybody could have made up does not prove that a way works.
        let worked = |c: &Conversation| c.is_answered() && !c.is_made_up();
        for (c, j) in list.iter().zip(judged).filter(|(c, _)| worked(c)) {
            // A way that worked once and has failed since no longer counts.
            if c.fails_at_last().is_some() && self.failing(c).is_some() {
                continue;
            }
            let Some(ways) = group(j).and_then(|g| ways.get_mut(&(g, c.subject.client))) else {
                continue;
            };
            let port = c.subject.shown_port().map_or_else(String::new, |p| p.to_string());
            let server = End::of(policy, &j.server, &c.subject.server.to_string());
            ways.insert((server.words(), service_words(c.subject.transport, &port)));
        }
        for fold in fold_clients(policy, failed, list, judged) {
            self.failure(&fold, &ways);
        }
    }

    fn failure(&mut self, fold: &Fold, ways: &Ways<'_>) {
        let (policy, list, judged) = (self.policy, &self.conversations.list, self.judged);
        let (c, j) = (&list[fold.members[0]], &judged[fold.members[0]]);
        let (About::Group(group), Some(code)) = (&fold.about, self.failing(c)) else {
            return;
        };
        let transport = c.subject.transport;
        let (client, server) = ends(policy, list, judged, fold);
        let mut finding = Finding::new(code, client, server);
        let sure = fold.members.iter().any(|n| judged[*n].doubts.certain());
        let (mut doubts, mut chances, mut attempts) = (Doubts::default(), 0, 0);
        let (mut ports, mut sources, mut rows) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for number in &fold.members {
            let (c, j) = (&list[*number], &judged[*number]);
            finding.add(list, *number);
            // Doubtful attempts take nothing from what sure ones show.
            if !sure {
                doubts = doubts.with(j.doubts);
            }
            if !sure || j.doubts.certain() {
                chances += c.fails_at_last().map_or(c.chances, |failed| failed.chances);
            }
            attempts += c.attempts;
            ports.insert(c.subject.port);
            // Of a host with several roles every row that documents it has failed.
            rows.extend(self.fitting[*number].iter().flat_map(|fitting| &fitting.rows).copied());
            sources.insert(policy.label(&j.client, c.subject.client));
        }
        // A refusal was seen; silence may be the capture's.
        let silent = SILENT.contains(&code);
        if silent && !self.view.is_certain_after(chances) {
            doubts.add(Doubt::Loss);
        }
        let mut hidden = None;
        if silent {
            if self.view.misses_a_direction() {
                doubts.add(Doubt::Coverage);
            }
            if self.conversations.survey.has_doubtful_clocks() {
                doubts.add(Doubt::Clock);
                hidden = Some(CLOCKS.to_owned());
            }
            let ends =
                fold.members.iter().flat_map(|n| [judged[*n].client.who, judged[*n].server.who]);
            let hosts = ends.filter_map(|who| match who {
                Who::Host(host) => Some(host),
                _ => None,
            });
            let hosts: BTreeSet<usize> = hosts.collect();
            let hosts: Vec<usize> = hosts.into_iter().collect();
            let unread = match hosts.split_first() {
                Some((first, others)) => self.unread_between(*first, others),
                None => self.unread_between(usize::MAX, &[]),
            };
            if unread.is_some() {
                doubts.add(Doubt::Unread);
                hidden = unread;
            }
        }
        // Of datagrams anybody can say that he rejected them: nothing in the error proves that he was on the way.
        if code == Code::Rejected && transport != Transport::TCP {
            doubts.add(Doubt::Quoted);
        }
        // What every one of these clients could do another way is no loss to them, unless the row
        // asks for each pair.
        let of_each_pair = rows.iter().any(|r| {
            let quantifier = policy.matrix.rows[*r].quantifier;
            matches!(quantifier, Quantifier::EveryPair | Quantifier::EitherDirection)
        });
        let worked = |n: &usize| ways.get(&(group.as_str(), list[*n].subject.client));
        let all_worked = fold.members.iter().all(|n| worked(n).is_some_and(|w| !w.is_empty()));
        let otherwise = all_worked && !of_each_pair;
        let expected = rows.iter().any(|r| policy.matrix.rows[*r].is_expected());
        finding.severity = if otherwise {
            let table = &policy.matrix.severities;
            table.get(code.verdict().name(), "another-way-worked", true)
        } else {
            self.judge.severity(code, expected, doubts)
        };
        finding.doubts = doubts;
        finding.certain = doubts.certain();
        finding.transport = transport.to_string();
        finding.port = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(";");
        group.clone_into(&mut finding.group);
        if let Some(row) = j.ruling.row {
            finding.rule.clone_from(&policy.matrix.rows[row].id);
        }
        // Of a port that an RST refused an error about some other attempt says nothing.
        let telling = fold.members.iter().map(|n| &list[*n]);
        let telling =
            telling.filter(|c| matches!(c.basis, Basis::IcmpError | Basis::PortUnreachable));
        let errors = telling.flat_map(|c| c.rare().errors.iter());
        let who_says: BTreeSet<String> =
            errors.filter(|e| e.side == 0).map(|e| e.by.to_string()).collect();
        let how = match code {
            Code::Refused => "is refused",
            Code::Rejected => "is rejected",
            Code::HalfOpen => "is answered, but goes no further",
            Code::Challenged => "is answered by an ACK, no SYN-ACK",
            _ => "gets no answer",
        };
        let by = match who_says.is_empty() {
            true => String::new(),
            false => format!(", says {}", who_says.into_iter().collect::<Vec<_>>().join(", ")),
        };
        let mut other = worked(&fold.members[0]).into_iter().flatten();
        let lucky =
            fold.members.iter().filter(|n| worked(n).is_some_and(|w| !w.is_empty())).count();
        let alternative = match (other.next(), other.count()) {
            _ if lucky > 0 && !all_worked => {
                format!(
                    "; of {} conversations {lucky} have another way that worked",
                    fold.members.len()
                )
            }
            (Some((server, service)), 0) => format!("; {service} to {server} worked"),
            (Some((server, service)), n) => {
                format!("; {service} to {server} and {n} other ways worked")
            }
            (None, _) => String::new(),
        };
        let foreign = [Basis::ResetOnTheWay, Basis::UnrelatedReset];
        let reset_on_the_way = fold.members.iter().any(|n| foreign.contains(&list[*n].basis));
        let by = match reset_on_the_way {
            true => format!("{by}; the resets came from another device, likely a firewall"),
            false => by,
        };
        // What worked before has stopped.
        let stopped = fold.members.iter().filter(|n| list[**n].fails_at_last().is_some());
        let worked_until = stopped.filter_map(|n| list[*n].opened.last.get()).max();
        let since = worked_until
            .map_or_else(String::new, |time| format!("; it worked until {}", clock_words(time)));
        let service = service_words(transport, &finding.port.replace(';', ", "));
        let (from, to) = (finding.client.words_with_roles(), finding.server.words_with_roles());
        let flows: u64 = fold.members.iter().map(|n| list[*n].flows).sum();
        let flows = if flows == 1 { "1 connection".into() } else { format!("{flows} connections") };
        let attempts = match attempts {
            0 => flows.replace("connection", "flow"),
            1 => format!("{flows}, 1 SYN"),
            n => format!("{flows}, {n} SYNs"),
        };
        finding.message =
            format!("{service} from {from} to {to} {how} ({attempts}{by}){alternative}{since}");
        let (from, to) = (finding.client.words(), finding.server.words());
        finding.action = match code {
            Code::Refused => {
                format!("Check that the service on {to} runs and listens on {service}")
            }
            Code::HalfOpen => format!("Look for a broken return path or a port scan from {from}"),
            Code::Challenged => format!(
                "Close the older connections that {to} still knows of these ports, or let {from} use its client ports again later"
            ),
            Code::Rejected if reset_on_the_way => format!(
                "Open {service} from {from} to {to} on the firewall between them, whose resets these likely are"
            ),
            _ => format!(
                "Open {service} from {from} to {to} on the firewalls between them and on {to} itself"
            ),
        };
        finding.display_filter = display_filter(list, &fold.members);
        finding.trace = trace(self.judge, self.conversations, &finding, fold.members[0], j);
        finding.trace.extend(who(policy, list, judged, fold));
        finding.trace.extend(hidden);
        finding.trace.extend(doubtful_members(judged, &fold.members));
        finding.identify();
        for row in rows {
            self.rows[row].status = Status::Missing;
            self.rows[row].source_hosts_missing.extend(sources.iter().cloned());
        }
        self.findings.push(finding);
    }
}
