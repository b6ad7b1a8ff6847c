//! The findings of an earlier audit, with which new findings are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::error::{StoredError, StoredProblem};
use super::{Explainer, Members};
use crate::classify::{Finding, Judgement, Severity, State, id_of};
use crate::model::named_enum;

/// Findings that were reported before, in an earlier `findings.csv` or in earlier windows.
#[derive(Clone, Default, Debug)]
pub struct Baseline {
    /// The file as the user named it.
    pub file: String,
    /// The findings above info, by id.
    findings: BTreeMap<String, BaselineFinding>,
}

/// A server address, and the port that was reached there.
type Reached = (IpAddr, u16);

/// Maximum number of reached services that are stored for one finding.
const REACHED: usize = 1000;

/// Returns the services that a finding reached. Only the lowest [`REACHED`] are kept.
fn reached(outcome: &Judgement, finding: &Finding) -> BTreeSet<Reached> {
    let list = &outcome.conversations.list;
    let all = outcome.members_of(finding).iter().map(|number| &list[*number as usize]);
    let reached = all.filter(|c| c.state.reached());
    let mut reached: BTreeSet<Reached> =
        reached.map(|c| (c.subject.server, c.subject.port)).collect();
    while reached.len() > REACHED {
        reached.pop_last();
    }
    reached
}

/// A finding as it was reported before.
#[derive(Clone, Debug)]
struct BaselineFinding {
    message: String,
    severity: Severity,
    is_certain: bool,
    was_reached: bool,
    /// Services that were reached, at most [`REACHED`]; `None` if the file does not list them.
    reached: Option<BTreeSet<Reached>>,
    /// Clients and servers by name or address; `None` if the file does not list them.
    members: Option<[BTreeSet<String>; 2]>,
    /// Number of pairs, for a finding that stands for many.
    pairs: u64,
}

named_enum!(
    /// How a finding compares with an earlier audit.
    Change {
        /// The finding is known and has not changed.
        Same = "same",
        /// The finding is known, and only unlisted clients have joined it.
        Grown = "grown",
        /// The finding is known, but its severity is higher, it reached more, or servers, listed
        /// hosts or a second client have joined it.
        Worse = "worse",
        /// The finding was not known.
        New = "new",
    }
);

/// Changes since an earlier audit, among findings above info.
pub(super) struct Changes<'a> {
    /// Number of findings that are new or have become worse.
    pub new: usize,
    /// Number of these findings that were known.
    pub worse: usize,
    /// Number of known findings that have not become worse.
    pub still: usize,
    /// Number of these findings that have further members.
    pub grown: usize,
    /// Id and message of each finding that no longer appears.
    pub gone: Vec<(&'a str, &'a str)>,
}

/// Compares the findings of an audit with an earlier audit.
pub(super) fn changes<'a>(known: &'a Baseline, explainer: &Explainer<'_>) -> Changes<'a> {
    let findings = explainer.outcome().findings().iter().filter(|f| f.severity > Severity::Info);
    let mut counts: BTreeMap<Change, usize> = BTreeMap::new();
    let mut now = BTreeSet::new();
    for finding in findings {
        now.insert(explainer.id(finding));
        *counts.entry(known.change(explainer, finding)).or_default() += 1;
    }
    let count = |change| counts.get(&change).copied().unwrap_or_default();
    let gone = known.findings.iter().filter(|(id, _)| !now.contains(*id));
    Changes {
        new: count(Change::New) + count(Change::Worse),
        worse: count(Change::Worse),
        still: count(Change::Same) + count(Change::Grown),
        grown: count(Change::Grown),
        gone: gone.map(|(id, before)| (id.as_str(), before.message.as_str())).collect(),
    }
}

impl Baseline {
    /// Reads the findings of an earlier audit.
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
        // to compare with.
        column("display_filter")?;
        let id = column("id")?;
        let severity = column("severity")?;
        let message = column("message")?;
        let certain = column("certain")?;
        let state = column("state")?;
        // Earlier versions did not write these columns.
        let members = place("clients").zip(place("servers"));
        let count = place("count");
        let mut known = Self { file: file.to_owned(), ..Self::default() };
        for record in reader.records() {
            let record = record.map_err(broken)?;
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
                reached: None,
                members: members.map(|(clients, servers)| [list(clients), list(servers)]),
                pairs: count.and_then(|count| record[count].parse().ok()).unwrap_or_default(),
            };
            if before.severity > Severity::Info {
                known.findings.insert(id_of(&record[id]), before);
            }
        }
        Ok(known)
    }

    /// Adds the findings of an audit, so that they are not reported as new again.
    pub fn learn(&mut self, explainer: &Explainer<'_>) {
        let outcome = explainer.outcome();
        for finding in outcome.findings().iter().filter(|f| f.severity > Severity::Info) {
            let reported = explainer.explain(finding);
            let members = explainer.members(finding);
            let mut members = members.map(|side| {
                side.words()
                    .into_iter()
                    .filter(|word| !word.starts_with('+'))
                    .collect::<BTreeSet<_>>()
            });
            let before = self.findings.remove(&reported.id);
            if let Some(earlier) = before.as_ref().and_then(|before| before.members.as_ref()) {
                members
                    .iter_mut()
                    .zip(earlier)
                    .for_each(|(now, earlier)| now.extend(earlier.iter().cloned()));
            }
            let earlier_was = |of: fn(&BaselineFinding) -> bool| before.as_ref().is_some_and(of);
            let mut reached = reached(outcome, finding);
            if let Some(earlier) = before.as_ref().and_then(|before| before.reached.as_ref()) {
                reached.extend(earlier.iter().copied());
            }
            let now = BaselineFinding {
                reached: Some(reached),
                message: reported.message,
                severity: before
                    .as_ref()
                    .map_or(finding.severity, |b| b.severity.max(finding.severity)),
                is_certain: reported.certain || earlier_was(|before| before.is_certain),
                was_reached: finding.state.is_some_and(State::reached)
                    || earlier_was(|before| before.was_reached),
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

    /// Compares a finding with the earlier audit. A further server or listed host makes it worse,
    /// and so does a second client. Further unlisted clients only make it grow.
    pub fn change(&self, explainer: &Explainer<'_>, finding: &Finding) -> Change {
        let outcome = explainer.outcome();
        let Some(before) = self.findings.get(&explainer.id(finding)) else {
            // The pair may have been part of one finding for many pairs.
            let many = explainer.id_as_many(finding).and_then(|id| self.findings.get(&id));
            let was_in = |before: &&BaselineFinding| {
                let [client, server] = explainer.members(finding).map(|side| side.words());
                let lists_all = |earlier: &BTreeSet<String>, names: &[String]| {
                    earlier.iter().any(|name| name.starts_with('+'))
                        || names.iter().all(|name| earlier.contains(name))
                };
                before.members.as_ref().is_some_and(|[clients, servers]| {
                    // The earlier finding may list the two ends in reverse order.
                    (lists_all(clients, &client) || lists_all(servers, &client))
                        && (lists_all(servers, &server) || lists_all(clients, &server))
                })
            };
            return match many.filter(was_in) {
                Some(before) if finding.severity <= before.severity => Change::Same,
                Some(_) => Change::Worse,
                None => Change::New,
            };
        };
        if explainer.is_of_many(finding) && explainer.count(finding) > before.pairs {
            return Change::Worse;
        }
        let reached = finding.state.is_some_and(State::reached);
        if finding.severity > before.severity || (reached && !before.was_reached) {
            return Change::Worse;
        }
        let reached_more = |earlier: &BTreeSet<Reached>| {
            earlier.len() < REACHED && !self::reached(outcome, finding).is_subset(earlier)
        };
        if before.reached.as_ref().is_some_and(reached_more) {
            return Change::Worse;
        }
        let Some([clients, servers]) = &before.members else { return Change::Same };
        let [now_clients, now_servers] = explainer.members(finding);
        // A truncated list may have left out a member that now seems to be new.
        let find_new_members = |before: &BTreeSet<String>, now: &Members| {
            let is_whole = !before.iter().any(|item| item.starts_with('+'));
            let host = now.hosts.iter().any(|name| !before.contains(name));
            let address =
                is_whole && now.addresses.iter().any(|a| !before.contains(&a.to_string()));
            (host, address || (is_whole && now.more > 0))
        };
        let (client_host, client_address) = find_new_members(clients, &now_clients);
        let (server_host, server_address) = find_new_members(servers, &now_servers);
        let several = clients.len() == 1 && now_clients.len() > 1;
        match (client_host || server_host || server_address || several, client_address) {
            (true, _) => Change::Worse,
            (false, true) => Change::Grown,
            (false, false) => Change::Same,
        }
    }

    /// Returns whether a finding is worth reporting again, because it is new or worse or has become
    /// certain.
    pub fn is_news(&self, explainer: &Explainer<'_>, finding: &Finding) -> bool {
        let became_certain = |before: &BaselineFinding| finding.certain() && !before.is_certain;
        self.change(explainer, finding) >= Change::Worse
            || self.findings.get(&explainer.id(finding)).is_some_and(became_certain)
    }
}
