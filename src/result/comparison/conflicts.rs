//! Determines why a finding about the inventory or the exceptions appears in only one of two
//! audits.

use super::cause::{
    Age, CauseText, ChangeCause, ChangeCauses, counterpart, exception_entry, role_list, unknown,
};
use super::side::Seen;
use super::unseen::FindingEnds;
use crate::classify::{Code, Verdict};
use crate::result::{ExceptionUse, FindingRow};

impl ChangeCauses<'_, '_> {
    /// Returns why a finding about the inventory appears in only one of the audits. `age` says
    /// which audit has it. `seen` contains the conversations of that audit, then those of the other
    /// audit.
    pub fn of_inventory(
        &self,
        finding: &FindingRow<'_>,
        seen: (&[Seen], &[Seen]),
        age: Age,
    ) -> CauseText {
        if let Some(id) = finding.rule.strip_prefix("exception:") {
            return self.of_unused(id, age);
        }
        self.feature_of(&finding.rule)
            .or_else(|| self.listing(finding))
            .or_else(|| self.still_there(finding, seen, age))
            .unwrap_or_else(|| self.shown_conflict(finding, seen.0, age))
    }

    /// Returns why only one of the audits says that an exception matched no traffic.
    fn of_unused(&self, id: &str, age: Age) -> CauseText {
        let (has, lacks) = (self.with(age), self.without(age));
        let matching = |entry: &ExceptionUse<'_>| {
            [&entry.from, &entry.to, &entry.transport, &entry.port, &entry.direction]
                .map(Clone::clone)
        };
        let dates = |entry: &ExceptionUse<'_>| [entry.created.clone(), entry.expires.clone()];
        let is_same = |a: &ExceptionUse<'_>, b: &ExceptionUse<'_>| {
            matching(a) == matching(b) && dates(a) == dates(b)
        };
        let was_or_is = match age {
            Age::Old => "removed",
            Age::New => "added",
        };
        match (exception_entry(has, id), exception_entry(lacks, id)) {
            (_, None) => (ChangeCause::Exception, format!("the exception {id} was {was_or_is}")),
            (Some(own), Some(other)) if !is_same(own, other) => {
                let words = format!("the exception {id} differs between the two lists");
                (ChangeCause::Exception, words)
            }
            (_, Some(other)) if other.conversations > 0 => {
                let traffic = format!(
                    "the exception {id} matches {} in the {} capture",
                    crate::result::plural(other.conversations, "conversation"),
                    age.other()
                );
                let why = matches!(age, Age::New).then(|| {
                    let lists = [&other.clients[..], &other.servers[..]];
                    let ends =
                        FindingEnds::new(lists, &other.transport, &[], |name| self.new_name(name));
                    has.why_unseen(&ends, Some(lacks))
                });
                match why.flatten() {
                    Some(why) => {
                        let words = format!(
                            "{traffic}; the new capture might not have shown such traffic: {why}"
                        );
                        (ChangeCause::NotSeen, words)
                    }
                    None => (ChangeCause::Traffic, traffic),
                }
            }
            _ => unknown(),
        }
    }

    /// Returns a cause if the inventories list an end of a finding differently.
    fn listing(&self, finding: &FindingRow<'_>) -> Option<CauseText> {
        for end in finding.clients.iter().chain(&finding.servers) {
            let was = self.old.hosts.get(&self.old_name(end));
            let is = self.new.hosts.get(&self.new_name(end));
            match (was, is) {
                (Some(was), Some(is)) if was.roles != is.roles => {
                    let words = format!(
                        "{end} has {} in the new inventory, and {} in the old one",
                        role_list(&is.roles),
                        role_list(&was.roles)
                    );
                    return Some((ChangeCause::Inventory, words));
                }
                (Some(_), None) => {
                    let words = format!("{end} is not in the new inventory");
                    return Some((ChangeCause::Inventory, words));
                }
                (None, Some(_)) => {
                    let words = format!("{end} is not in the old inventory");
                    return Some((ChangeCause::Inventory, words));
                }
                _ => {}
            }
        }
        None
    }

    /// Returns a cause if the audit without the finding also contains a conversation of the
    /// finding, but the conversation has another state or ruling, or only one of the inventories
    /// mentions its feature.
    fn still_there(
        &self,
        finding: &FindingRow<'_>,
        (own, others): (&[Seen], &[Seen]),
        age: Age,
    ) -> Option<CauseText> {
        let states_feature = finding.code == Code::FeatureUnstated.name();
        // Other findings about the inventory stand for a service that was reached, so only
        // conversations that reached it count.
        let own_seen = own.iter().filter(|seen| states_feature || seen.is_reached);
        let mut pairs = own_seen.filter_map(|seen| Some((seen, counterpart(seen, (own, others))?)));
        let (seen, other) = pairs.next()?;
        let (before, now) = match age {
            Age::Old => (seen, other),
            Age::New => (other, seen),
        };
        if let Some(explained) = self.visibility(&before.state, &now.state) {
            return Some(explained);
        }
        if states_feature && before.is_judged_like(now) {
            let words = format!(
                "only the {} inventory states whether the farm uses the feature that the traffic needs",
                age.other()
            );
            return Some((ChangeCause::Feature, words));
        }
        (before.state != now.state || !before.is_judged_like(now)).then(|| self.why(before, now))
    }

    /// Derives a cause from what the audit without the finding shows, or could have shown. A
    /// finding that is missing does not show why it is missing.
    fn shown_conflict(&self, finding: &FindingRow<'_>, own: &[Seen], age: Age) -> CauseText {
        if finding.code == Code::SilentRole.name() {
            return self.shown_role(finding, age);
        }
        if !own.is_empty() {
            let own: Vec<&Seen> = own.iter().collect();
            return match age {
                Age::Old => self.stopped(finding, &own),
                Age::New => self.started(finding, &own),
            };
        }
        let (has, lacks, which) = (self.with(age), self.without(age), age.other());
        let ends = self.ends_without(finding, age);
        match lacks.why_unseen(&ends, Some(has)) {
            Some(why) => (ChangeCause::NotSeen, format!("not seen in the {which} capture: {why}")),
            None => {
                let words = format!(
                    "unknown: the {which} result does not contain the finding, and does not state what its capture could have shown of it"
                );
                (ChangeCause::Unknown, words)
            }
        }
    }

    /// Derives a cause for the silence of a role from what the audit without the finding shows of
    /// the role.
    fn shown_role(&self, finding: &FindingRow<'_>, age: Age) -> CauseText {
        let (has, lacks, which) = (self.with(age), self.without(age), age.other());
        let ends = self.ends_without(finding, age);
        let role = &finding.group;
        for end in ends.distinct() {
            let host = &end.other;
            if let Some(seen) = lacks.traffic_of_role(host, role) {
                let words = if seen.is_reached { seen.words() } else { seen.outcome() };
                let words = format!(
                    "{host} showed traffic of the role {role} in the {which} capture: {words}"
                );
                return (ChangeCause::Traffic, words);
            }
            let is_reported = |other: &FindingRow<'_>| {
                Verdict::parse(&other.verdict) == Some(Verdict::Missing)
                    && other.clients.contains(host)
            };
            if lacks.findings.iter().any(is_reported) {
                let words = format!(
                    "not assessed in the {which} capture: other traffic of {host} is reported as missing"
                );
                return (ChangeCause::NotSeen, words);
            }
        }
        match lacks.why_unseen(&ends, Some(has)) {
            Some(why) => {
                (ChangeCause::NotSeen, format!("not assessed in the {which} capture: {why}"))
            }
            None => {
                let words = format!(
                    "unknown: the {which} result does not show whether there was traffic of the role {role}"
                );
                (ChangeCause::Unknown, words)
            }
        }
    }
}
