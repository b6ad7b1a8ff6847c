//! The findings of an earlier audit, with which new findings are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::change::Change;
use super::error::{StoredError, StoredProblem};
use super::head::{BaselineFile, Gone};
use super::members::MOST as MOST_LISTED;
use super::reached_ports::{ReachedPorts, is_of_service};
use super::{AuditResult, Explainer, FindingRow, Members};
use crate::classify::{Finding, Judgement, Severity, State, id_of};

/// Findings that an earlier audit, or earlier windows of a live audit, reported.
#[derive(Clone, Default)]
pub struct Baseline {
    /// The file as the user named it. Empty for the findings of earlier windows.
    pub file: String,
    /// The complete result of the earlier audit, if it was given. Without it, the audit cannot
    /// explain why findings differ.
    pub result: Option<Arc<AuditResult<'static>>>,
    /// The SHA-256 of the file, in hexadecimal, if it was computed.
    pub sha256: Option<String>,
    /// The findings above info, by id.
    findings: BTreeMap<String, BaselineFinding>,
}

/// The address of a server, and the port that was reached on it.
type Reached = (IpAddr, u16);

/// Maximum number of reached services that are stored for one finding.
const REACHED: usize = 1000;

/// Returns the services that the connections of a finding reached: the first [`REACHED`] by address
/// and port.
fn reached(outcome: &Judgement, finding: &Finding) -> BTreeSet<Reached> {
    let list = &outcome.conversations.list;
    let all = outcome.members_of(finding).iter().map(|number| &list[*number as usize]);
    let reached = all.filter(|c| c.state.reached());
    let mut reached: BTreeSet<Reached> =
        reached.map(|c| (c.subject.server, c.subject.port)).collect();
    keep_first(&mut reached, REACHED);
    reached
}

/// Removes the last items of a set until at most `most` remain.
fn keep_first<T: Ord>(set: &mut BTreeSet<T>, most: usize) {
    while set.len() > most {
        set.pop_last();
    }
}

/// Maximum number of members that are stored for one side of a finding of earlier windows.
const MEMBERS: usize = 10_000;

/// The item that stands for members that were left out.
const MORE: &str = "+";

/// Leaves out members beyond [`MEMBERS`], addresses first. A sender of forged packets could
/// increase their number with each window.
fn limit_members(members: &mut BTreeSet<String>) {
    let excess = members.len().saturating_sub(MEMBERS);
    if excess > 0 {
        let is_address = |member: &&String| member.parse::<IpAddr>().is_ok();
        let last = members.iter().rev().filter(is_address).take(excess).cloned();
        for address in last.collect::<Vec<_>>() {
            members.remove(&address);
        }
        keep_first(members, MEMBERS);
        members.insert(MORE.to_owned());
    }
}

/// Returns whether a state is `one-sided`, which proves neither success nor failure, because too
/// little is visible. Returns `None` if the text is not a state.
fn is_one_sided(state: &str) -> Option<bool> {
    State::parse(state).map(|state| state == State::OneSided)
}

/// A finding as an earlier audit or earlier windows reported it.
#[derive(Clone, Debug)]
pub(super) struct BaselineFinding {
    message: String,
    severity: Severity,
    is_certain: bool,
    was_reached: bool,
    /// Whether the best state was `one-sided`; `None` if the finding has no state or comes from
    /// earlier windows.
    was_one_sided: Option<bool>,
    /// Services that were reached; `None` if the earlier audit was read from a file, which does not
    /// list them. At most [`REACHED`].
    reached: Option<BTreeSet<Reached>>,
    /// The ports that were reached, for a finding about many ports; `None` if they are not known.
    reached_ports: Option<BTreeSet<u16>>,
    /// Clients and servers by name or address; `None` if the file does not list them. An item that
    /// starts with `+` stands for members that the file leaves out.
    members: Option<[BTreeSet<String>; 2]>,
    /// Number of pairs of hosts or of conversations that the finding stands for.
    pairs: u64,
}

/// The facts about a finding of the new audit that a comparison needs.
pub(super) struct FindingFacts {
    severity: Severity,
    is_reached: bool,
    /// Whether the best state is `one-sided`; `None` without a state.
    is_one_sided: Option<bool>,
    /// Services that were reached, at most [`REACHED`]; `None` if the result does not list them.
    reached: Option<BTreeSet<Reached>>,
    /// See [`BaselineFinding::reached_ports`].
    reached_ports: Option<BTreeSet<u16>>,
    /// The clients and the servers of the finding.
    members: [Members; 2],
    /// Number of pairs of hosts, if the finding stands for many pairs.
    pairs: Option<u64>,
}

impl FindingFacts {
    /// Returns the facts about a finding with at most `most` members on each side.
    fn of(most: usize, explainer: &Explainer<'_>, finding: &Finding) -> Self {
        let reached = reached(explainer.outcome(), finding);
        Self {
            severity: finding.severity,
            is_reached: finding.state.is_some_and(State::reached),
            is_one_sided: finding.state.map(|state| state == State::OneSided),
            reached_ports: Some(
                reached.iter().map(|(_, port)| *port).filter(|p| is_of_service(*p)).collect(),
            ),
            reached: Some(reached),
            members: explainer.members_up_to(most, finding),
            pairs: explainer.is_of_many(finding).then(|| explainer.count(finding)),
        }
    }

    /// Returns the facts about a finding of a stored result.
    pub(super) fn of_row(row: &FindingRow<'_>, ports: &ReachedPorts) -> Self {
        let members = |words: &[String]| {
            let mut members = Members::default();
            for word in words {
                if let Some(more) = word.strip_prefix('+') {
                    let count = more.split(' ').next().and_then(|count| count.parse().ok());
                    members.more = count.unwrap_or(1);
                } else if let Ok(address) = word.parse() {
                    members.addresses.push(address);
                } else {
                    members.hosts.push(word.clone());
                }
            }
            members
        };
        Self {
            severity: Severity::parse(&row.severity).unwrap_or(Severity::Info),
            is_reached: State::parse(&row.state).is_some_and(State::reached),
            reached_ports: ports.of_finding(row),
            is_one_sided: is_one_sided(&row.state),
            reached: None,
            members: [members(&row.clients), members(&row.servers)],
            pairs: is_of_many(row).then_some(row.count),
        }
    }
}

/// Returns whether a finding stands for many pairs of hosts. All of them may have the same server,
/// or any server of a role. A finding about the clients of one network has the name of the network.
pub(super) fn is_of_many(row: &FindingRow<'_>) -> bool {
    row.client == "*" && !row.group.is_empty() && (row.server == "*" || row.client_name.is_empty())
}

impl Baseline {
    /// Returns the findings of the baseline whose ids are not in `now`.
    pub(super) fn gone(&self, now: &BTreeSet<String>) -> Vec<Gone> {
        let gone = self.findings.iter().filter(|(id, _)| !now.contains(*id));
        gone.map(|(id, before)| before.gone(id)).collect()
    }

    /// Returns the file that the findings come from.
    pub(super) fn origin(&self) -> BaselineFile {
        let window = self.result.as_ref().map(|result| &result.head.window);
        BaselineFile {
            file: self.file.clone(),
            sha256: self.sha256.clone(),
            first: window.and_then(|window| window.first),
            last: window.and_then(|window| window.last),
        }
    }

    /// Returns the findings above info of a stored result that was read from `file`.
    pub fn of_result(file: String, result: AuditResult<'static>) -> Self {
        let ports = ReachedPorts::possible(&result);
        let rows = result
            .findings()
            .map(|row| (id_of(&row.id), BaselineFinding::of_row(&row, &ports, str::to_owned)));
        let findings = rows.filter(|(_, before)| before.severity > Severity::Info).collect();
        Self { file, findings, result: Some(Arc::new(result)), sha256: None }
    }

    /// Reads the findings of an earlier audit that are above info.
    ///
    /// # Errors
    ///
    /// Returns an error if `text` is not the `findings.csv` of an audit.
    pub fn load(file: &str, text: &str) -> Result<Self, StoredError> {
        let failed = |kind| StoredError { path: file.into(), kind };
        let broken = |error| failed(StoredProblem::Csv(error));
        let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        let header = reader.headers().map_err(broken)?.clone();
        let place = |name: &str| header.iter().position(|column| column == name);
        let column = |name| place(name).ok_or_else(|| failed(StoredProblem::Column(name)));
        // `evidence.csv` also has an id, a severity and a message, but it is not a list of findings
        // to compare with. Only `findings.csv` has this column.
        column("display_filter")?;
        let id = column("id")?;
        let severity = column("severity")?;
        let message = column("message")?;
        let certain = column("certain")?;
        let state = column("state")?;
        // Earlier versions did not write these columns.
        let members = place("clients").zip(place("servers"));
        let count = place("count");
        let baseline_state = place("baseline_state");
        let mut known = Self { file: file.to_owned(), ..Self::default() };
        for record in reader.records() {
            let record = record.map_err(broken)?;
            // Findings that were gone or excepted in the earlier audit are listed only because its
            // own baseline contained them.
            let is_gone = |place: usize| {
                matches!(Change::parse(&record[place]), Some(Change::Gone | Change::Excepted))
            };
            if baseline_state.is_some_and(is_gone) {
                continue;
            }
            let Some(severity) = Severity::parse(&record[severity]) else {
                let line = record.position().map_or(0, csv::Position::line);
                return Err(failed(StoredProblem::Severity(line, record[severity].to_owned())));
            };
            let list = |place: usize| {
                let items = record[place].split(';').filter(|item| !item.is_empty());
                items.map(|item| item.trim_start_matches('\'').to_owned()).collect()
            };
            let before = BaselineFinding {
                message: record[message].to_owned(),
                severity,
                is_certain: &record[certain] == "yes",
                was_reached: State::parse(&record[state]).is_some_and(State::reached),
                was_one_sided: is_one_sided(&record[state]),
                reached: None,
                reached_ports: None,
                members: members.map(|(clients, servers)| [list(clients), list(servers)]),
                pairs: count.and_then(|count| record[count].parse().ok()).unwrap_or_default(),
            };
            if before.severity > Severity::Info {
                known.findings.insert(id_of(&record[id]), before);
            }
        }
        Ok(known)
    }

    /// Adds the findings of an audit that are above info, so that they are not reported as new
    /// again.
    pub fn learn(&mut self, explainer: &Explainer<'_>) {
        let outcome = explainer.outcome();
        for finding in outcome.findings().iter().filter(|f| f.severity > Severity::Info) {
            let reported = explainer.explain(finding);
            let mut members = explainer.members_up_to(MEMBERS, finding).map(|side| {
                let words = side.words().into_iter();
                words
                    .map(|word| if word.starts_with('+') { MORE.to_owned() } else { word })
                    .collect::<BTreeSet<_>>()
            });
            let before = self.findings.remove(&reported.id);
            if let Some(earlier) = before.as_ref().and_then(|before| before.members.as_ref()) {
                members
                    .iter_mut()
                    .zip(earlier)
                    .for_each(|(now, earlier)| now.extend(earlier.iter().cloned()));
            }
            members.iter_mut().for_each(limit_members);
            let earlier_was = |of: fn(&BaselineFinding) -> bool| before.as_ref().is_some_and(of);
            let mut reached = reached(outcome, finding);
            if let Some(earlier) = before.as_ref().and_then(|before| before.reached.as_ref()) {
                reached.extend(earlier.iter().copied());
                keep_first(&mut reached, REACHED);
            }
            let now = BaselineFinding {
                reached: Some(reached),
                reached_ports: None,
                message: reported.message,
                severity: before
                    .as_ref()
                    .map_or(finding.severity, |b| b.severity.max(finding.severity)),
                is_certain: reported.certain || earlier_was(|before| before.is_certain),
                was_reached: finding.state.is_some_and(State::reached)
                    || earlier_was(|before| before.was_reached),
                was_one_sided: None,
                members: Some(members),
                pairs: reported.count.max(before.as_ref().map_or(0, |before| before.pairs)),
            };
            self.findings.insert(reported.id, now);
        }
    }

    /// Returns the number of stored findings.
    pub fn len(&self) -> usize {
        self.findings.len()
    }

    /// Returns whether no findings are stored.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Compares a finding with the earlier audit or the earlier windows. A finding is not new if
    /// its pair of hosts was part of an earlier finding about many pairs.
    pub fn change(&self, teller: &Explainer<'_>, finding: &Finding) -> Change {
        if let Some(before) = self.findings.get(&teller.id(finding)) {
            // The lists of members are comparable only if they are limited in the same way.
            let most = if self.file.is_empty() { MEMBERS } else { MOST_LISTED };
            return before.change(&FindingFacts::of(most, teller, finding));
        }
        // An earlier finding may have combined this pair with many others.
        let many = teller.id_as_many(finding).and_then(|id| self.findings.get(&id));
        let was_in = |before: &&BaselineFinding| {
            let [client, server] = teller.members(finding).map(|side| side.words());
            // A member that a truncated list may have left out counts as new.
            let had = |told: &BTreeSet<String>, names: &[String]| {
                names.iter().all(|name| told.contains(name))
            };
            before.members.as_ref().is_some_and(|[clients, servers]| {
                // The earlier finding may list the two ends in reverse order.
                (had(clients, &client) || had(servers, &client))
                    && (had(servers, &server) || had(clients, &server))
            })
        };
        match many.filter(was_in) {
            Some(before) if finding.severity <= before.severity => Change::Same,
            Some(_) => Change::Worse,
            None => Change::New,
        }
    }

    /// Returns whether a finding is worth reporting again, because it is new or worse, or has
    /// become certain.
    pub fn is_news(&self, teller: &Explainer<'_>, finding: &Finding) -> bool {
        let became_certain = |before: &BaselineFinding| finding.certain() && !before.is_certain;
        self.change(teller, finding) >= Change::Worse
            || self.findings.get(&teller.id(finding)).is_some_and(became_certain)
    }
}

impl BaselineFinding {
    /// Returns a finding of a stored result. `name` translates the names of its hosts to those of
    /// the new audit.
    pub(super) fn of_row(
        row: &FindingRow<'_>,
        ports: &ReachedPorts,
        name: impl Fn(&str) -> String,
    ) -> Self {
        let words = |list: &[String]| list.iter().map(|word| name(word)).collect();
        Self {
            message: row.message.clone(),
            severity: Severity::parse(&row.severity).unwrap_or(Severity::Info),
            is_certain: row.certain,
            was_reached: State::parse(&row.state).is_some_and(State::reached),
            was_one_sided: is_one_sided(&row.state),
            reached: None,
            reached_ports: ports.of_finding(row),
            members: Some([words(&row.clients), words(&row.servers)]),
            pairs: row.count,
        }
    }

    /// Returns this finding without its clients and servers, which are then not compared.
    pub(super) fn without_members(self) -> Self {
        Self { members: None, ..self }
    }

    /// Returns this finding as one that no longer appears.
    fn gone(&self, id: &str) -> Gone {
        Gone {
            id: id.to_owned(),
            message: self.message.clone(),
            severity: self.severity.name().to_owned(),
            certain: self.is_certain,
            baseline_state: Change::Gone.name().to_owned(),
            ..Gone::default()
        }
    }

    /// Returns the ports of a finding about many ports that only the new audit saw reached.
    pub(super) fn new_ports(&self, now: &FindingFacts) -> Vec<u16> {
        let both = self.reached_ports.as_ref().zip(now.reached_ports.as_ref());
        let new = both.map(|(before, now)| now.difference(before).copied().collect());
        new.unwrap_or_default()
    }

    /// Compares a finding of the new audit with this one. If only one of the audits shows the
    /// outcome, severity and outcome are not compared: the traffic may be the same.
    pub(super) fn change(&self, now: &FindingFacts) -> Change {
        let sides = self.was_one_sided.zip(now.is_one_sided);
        let can_compare = sides.is_none_or(|(before, now)| before == now);
        let is_worse = now.severity > self.severity || (now.is_reached && !self.was_reached);
        if now.pairs.is_some_and(|pairs| pairs > self.pairs) || (can_compare && is_worse) {
            return Change::Worse;
        }
        let reached_more = self
            .reached
            .as_ref()
            .zip(now.reached.as_ref())
            .is_some_and(|(before, now)| before.len() < REACHED && !now.is_subset(before));
        if reached_more || (can_compare && !self.new_ports(now).is_empty()) {
            return Change::Worse;
        }
        let is_better = now.severity < self.severity || (self.was_reached && !now.is_reached);
        let fallback = if can_compare && is_better { Change::Better } else { Change::Same };
        let Some([clients, servers]) = &self.members else { return fallback };
        let [now_clients, now_servers] = &now.members;
        // A truncated list may have left out a member that now seems to be new.
        let find_new_members = |before: &BTreeSet<String>, now: &Members| {
            let is_whole = !before.iter().any(|item| item.starts_with('+'));
            let host = now.hosts.iter().any(|name| !before.contains(name));
            let address =
                is_whole && now.addresses.iter().any(|a| !before.contains(&a.to_string()));
            (host, address || (is_whole && now.more > 0))
        };
        let (client_host, client_address) = find_new_members(clients, now_clients);
        let (server_host, server_address) = find_new_members(servers, now_servers);
        let several = clients.len() == 1 && now_clients.len() > 1;
        if client_host || server_host || server_address || several {
            Change::Worse
        } else if client_address {
            Change::Grown
        } else {
            fallback
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{BROKER, FARM, Packets, RDSH, policy, view};

    #[test]
    fn a_finding_with_more_members_than_are_listed_does_not_grow_in_each_window() {
        let policy = policy(FARM);
        let window = |clients: u32| {
            let mut packets = Packets::default();
            for number in 0..clients {
                let client = std::net::Ipv4Addr::from_bits(0xcb00_0000 + number * 300).to_string();
                packets.connect(i64::from(number), (&client, 50_000), (RDSH, 4444));
            }
            Judgement::of(&policy, packets.conversations(&policy), &view(600), 1)
        };
        let change = |first: u32, second: u32| {
            let mut known = Baseline::default();
            let [first, second] = [first, second].map(window);
            known.learn(&Explainer::of(&policy, &first).expect("it was judged"));
            let explainer = Explainer::of(&policy, &second).expect("it was judged");
            let flood = second.findings().iter().find(|f| f.members.len() > 100);
            known.change(&explainer, flood.expect("one finding for all clients"))
        };
        assert_eq!(change(20_000, 20_000), Change::Same);
        assert_eq!(change(200, 200), Change::Same);
        assert_eq!(change(200, 201), Change::Grown);
        assert_eq!(change(1100, 1100), Change::Same);
    }

    #[test]
    fn a_pair_that_was_not_part_of_a_failure_of_many_is_new() {
        const AGENTS: usize = 1_100;
        // Ten clients in one network would be one client.
        let address = |agent: usize| format!("10.2.{}.{}", agent / 6, 1 + agent % 6);
        let agents = (0..AGENTS).map(|agent| {
            let address = address(agent);
            format!("[[host]]\nname = \"r{agent:04}\"\naddresses = [\"{address}\"]\nroles = [\"rdsh-agent\"]\n")
        });
        let policy = policy(&format!("{FARM}{}", agents.collect::<String>()));
        let window = |fails: &dyn Fn(usize) -> bool| {
            let mut packets = Packets::default();
            for agent in 0..AGENTS {
                let client = address(agent);
                let ends = ((client.as_str(), 50_000), (BROKER, 20_003));
                if fails(agent) {
                    packets.refuse(1, ends.0, ends.1);
                } else {
                    packets.connect(1, ends.0, ends.1);
                }
            }
            Judgement::of(&policy, packets.conversations(&policy), &view(60), 1)
        };
        let mut known = Baseline::default();
        let first = window(&|agent| agent != AGENTS - 1);
        known.learn(&Explainer::of(&policy, &first).expect("it was judged"));
        // More hosts failed than a report lists.
        for (agent, expected) in [(3, Change::Same), (1_050, Change::Same), (1_099, Change::New)] {
            let second = window(&|other| other == agent);
            let explainer = Explainer::of(&policy, &second).expect("it was judged");
            let mut findings = second.findings().iter();
            let refused = findings.find(|f| f.code() == crate::classify::Code::Refused);
            assert_eq!(known.change(&explainer, refused.expect("a finding")), expected, "{agent}");
        }
    }

    #[test]
    fn addresses_are_left_out_before_hosts() {
        let hosts = (0..MEMBERS / 2).map(|host| format!("host{host}"));
        let addresses = (0..MEMBERS as u32)
            .map(|number| std::net::Ipv4Addr::from_bits(0xcb00_0000 + number).to_string());
        let mut members: BTreeSet<String> = hosts.chain(addresses).collect();
        limit_members(&mut members);
        assert_eq!(members.len(), MEMBERS + 1);
        let kept = members.iter().filter(|member| member.starts_with("host")).count();
        assert_eq!(kept, MEMBERS / 2);
    }
}
