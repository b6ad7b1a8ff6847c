//! Determines why a finding about missing traffic appears in only one of two audits.

use std::collections::HashSet;

use super::cause::{Age, CauseText, ChangeCause, ChangeCauses, cited, role_list, unknown};
use super::side::{Seen, Side};
use super::unseen::FindingEnds;
use super::visibility::why_one_sided;
use crate::classify::{Code, State};
use crate::result::{FindingRow, meaning};

impl<'a, 's> ChangeCauses<'a, 's> {
    /// Returns the audit that does not have a finding.
    pub(super) fn without(&self, age: Age) -> &'s Side<'a> {
        match age {
            Age::Old => self.new,
            Age::New => self.old,
        }
    }

    /// Returns the audit that has a finding.
    pub(super) fn with(&self, age: Age) -> &'s Side<'a> {
        match age {
            Age::Old => self.old,
            Age::New => self.new,
        }
    }

    /// Translates a host name from the audit that has the finding (`age`) to the other audit.
    fn name_without(&self, name: &str, age: Age) -> String {
        match age {
            Age::Old => self.new_name(name),
            Age::New => self.old_name(name),
        }
    }

    /// Returns why a claim about missing traffic appears in only one of the audits. `age` says
    /// which audit has it. `seen` contains the other audit's conversations between the same ends.
    pub fn of_missing(&self, finding: &FindingRow<'_>, seen: &[Seen], age: Age) -> CauseText {
        let which = age.other();
        let has = self.with(age);
        let rows = || has.rows.values().filter(|entry| entry.row.group == finding.group);
        let rule = Some(finding.rule.as_str()).filter(|rule| !rule.is_empty());
        let rule = rule.map(str::to_owned).or_else(|| rows().map(|e| e.row.rule.to_string()).min());
        let Some(rule) = rule else { return unknown() };
        if let Some(worked) = seen.iter().find(|seen| seen.is_reached && !seen.is_made_up) {
            let words = format!("{} in the {which} capture", worked.words());
            return (ChangeCause::Traffic, words);
        }
        self.row_of(&rule)
            .or_else(|| self.feature_of(&rule))
            .or_else(|| self.listing_of(finding, age))
            .unwrap_or_else(|| self.shown(finding, &rule, seen, age))
    }

    /// Returns a cause if a row of the matrix differs between the audits.
    fn row_of(&self, rule: &str) -> Option<CauseText> {
        let words = match (self.old.rows.get(rule), self.new.rows.get(rule)) {
            (None, Some(row)) if !self.old.rows.is_empty() => {
                format!("the matrix has a new row, {}", cited(row))
            }
            (Some(row), None) if !self.new.rows.is_empty() => {
                format!("the matrix no longer has the row {}", cited(row))
            }
            (Some(old), Some(new)) => {
                format!("the row {} differs: {}", cited(new), new.difference(old)?)
            }
            _ => return None,
        };
        Some((ChangeCause::Row, words))
    }

    /// Returns a cause if the inventories list an end of a finding differently.
    fn listing_of(&self, finding: &FindingRow<'_>, age: Age) -> Option<CauseText> {
        let (has, lacks, which) = (self.with(age), self.without(age), age.other());
        let roles = |side: &Side<'_>, name: &str| -> Option<Vec<String>> {
            let host = side.hosts.get(name)?;
            Some(host.roles.iter().map(ToString::to_string).collect())
        };
        for end in finding.clients.iter().chain(&finding.servers) {
            let Some(own) = roles(has, end) else { continue };
            match roles(lacks, &self.name_without(end, age)) {
                None if !lacks.hosts.is_empty() => {
                    let words = format!("{end} is not in the {which} inventory");
                    return Some((ChangeCause::Inventory, words));
                }
                Some(theirs) if theirs != own => {
                    let words = format!(
                        "{end} has {} in the {which} inventory, and {} in the {} one",
                        role_list(&theirs),
                        role_list(&own),
                        age.word()
                    );
                    return Some((ChangeCause::Inventory, words));
                }
                _ => {}
            }
        }
        None
    }

    /// Derives a cause from what the audit without the finding shows: a connection, an attempt, or
    /// the reason why the audit could not make the claim.
    fn shown(&self, finding: &FindingRow<'_>, rule: &str, seen: &[Seen], age: Age) -> CauseText {
        let (lacks, which) = (self.without(age), age.other());
        let row = lacks.rows.get(rule).map(|entry| &entry.row);
        let ends = self.ends_without(finding, age);
        if let Some(row) = row.filter(|row| row.status == "not-assessable") {
            let words = why_not_assessable(lacks, &row.reason, &ends);
            let words = format!("not assessed in the {which} capture: {words}");
            return (ChangeCause::NotSeen, words);
        }
        let clients = || ends.clients.iter().map(|end| &end.other);
        let opened = clients().filter(|name| lacks.has_succeeded(rule, name));
        if let Some(names) = some_clients(opened, &ends) {
            let words = format!("{names} opened such a connection in the {which} capture");
            return (ChangeCause::Traffic, words);
        }
        // An attempt contradicts a claim that there was none, whatever its outcome.
        let tried = row.filter(|_| finding.code == Code::NeverAttempted.name());
        let tried = tried.map_or(&[][..], |row| &row.source_hosts_seen);
        let tried: HashSet<&String> = tried.iter().collect();
        let attempted = clients().filter(|name| tried.contains(name));
        if let Some(names) = some_clients(attempted, &ends) {
            let words = format!("{names} attempted such a connection in the {which} capture");
            return (ChangeCause::Traffic, words);
        }
        // Traffic that any host could have forged proves nothing.
        let seen = || seen.iter().filter(|seen| !seen.is_made_up);
        if seen().any(|seen| seen.state == State::OneSided.name()) {
            let why = why_one_sided(lacks);
            return (ChangeCause::NotSeen, format!("not assessed in the {which} capture: {why}"));
        }
        if let Some(failed) = seen().find(|s| State::parse(&s.state).is_some_and(State::failed)) {
            let words = format!("{} in the {which} capture", failed.outcome());
            return (ChangeCause::Traffic, words);
        }
        self.why_not_assessed(finding, lacks, age)
    }

    /// Returns why the audit that lacks a claim about missing traffic could not have made it. If it
    /// could have, the cause is that failed attempts stopped or started. If the claim is that there
    /// were no attempts, the cause is [`ChangeCause::Unknown`].
    fn why_not_assessed(&self, finding: &FindingRow<'_>, lacks: &Side<'_>, age: Age) -> CauseText {
        let which = age.other();
        let not_assessed = |why: &str| {
            (ChangeCause::NotSeen, format!("not assessed in the {which} capture: {why}"))
        };
        let ends = self.ends_without(finding, age);
        if let Some(why) = lacks.why_unseen(&ends, Some(self.with(age))) {
            return not_assessed(&why);
        }
        // Other rows of the group have the same purpose, so their reason applies, too.
        let rows = lacks.rows.values().map(|entry| &entry.row);
        let siblings =
            rows.filter(|row| row.group == finding.group && row.status == "not-assessable");
        if let Some(row) = siblings.min_by(|a, b| a.rule.cmp(&b.rule)) {
            return not_assessed(&why_not_assessable(lacks, &row.reason, &ends));
        }
        // Failed attempts are traffic, which can stop and start.
        match age {
            _ if finding.code == Code::NeverAttempted.name() => unknown(),
            Age::Old => {
                let before = self.old.conversations_of(finding, str::to_owned);
                self.stopped(finding, &before.iter().collect::<Vec<_>>())
            }
            Age::New => {
                let now = self.new.conversations_of(finding, str::to_owned);
                self.started(finding, &now.iter().collect::<Vec<_>>())
            }
        }
    }

    /// Returns the ends of a finding with the names that they have in the audit without the
    /// finding. A finding about any server of a role names no server.
    pub(super) fn ends_without(&self, finding: &FindingRow<'_>, age: Age) -> FindingEnds {
        let lists = [&finding.clients[..], &finding.servers[..]];
        let FindingRow { transport, sensors, .. } = finding;
        FindingEnds::new(lists, transport, sensors, |name| self.name_without(name, age))
    }
}

/// Names the first of some clients of a finding; if the finding has several, adds their number.
fn some_clients<'n>(
    mut names: impl Iterator<Item = &'n String>,
    ends: &FindingEnds,
) -> Option<String> {
    let first = names.next()?;
    let unnamed = ends.unnamed[0];
    let all = ends.clients.len() + unnamed;
    if all == 1 {
        return Some(first.clone());
    }
    let least = if unnamed > 0 { "at least " } else { "" };
    Some(format!("{least}{} of {all} clients, such as {first},", 1 + names.count()))
}

/// Describes the reason why an audit could not assess a row. `ends` contains the ends of the
/// finding that another audit has.
fn why_not_assessable(side: &Side<'_>, reason: &str, ends: &FindingEnds) -> String {
    let Some(code) = Code::parse(reason) else { return reason.to_owned() };
    match code {
        Code::CaptureFiltered | Code::OneSidedView if side.result.head.filter.is_some() => {
            let filter = side.result.head.filter.as_deref().unwrap_or_default();
            format!("{} (the filter was {filter})", meaning(code))
        }
        Code::HostNotSeen | Code::PairNotCovered => {
            side.why_unseen(ends, None).unwrap_or_else(|| meaning(code).to_owned())
        }
        Code::WindowTooShort => {
            format!(
                "the time in which the capture could have shown the traffic was shorter than required (total watch time: {} s)",
                side.watched_s()
            )
        }
        _ if meaning(code).is_empty() => reason.to_owned(),
        _ => meaning(code).to_owned(),
    }
}
