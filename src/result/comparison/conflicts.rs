//! Determines why a finding about the inventory or the exceptions appears in only one of two
//! audits.

use super::cause::{
    Age, CauseText, ChangeCause, ChangeCauses, counterpart, exception_entry, role_list, unknown,
};
use super::side::Seen;
use crate::classify::Code;
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
                match has.why_unseen(&[], lacks.watched_s()).filter(|_| matches!(age, Age::New)) {
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

    /// Derives a cause from what the audit without the finding shows, or could have shown.
    fn shown_conflict(&self, finding: &FindingRow<'_>, own: &[Seen], age: Age) -> CauseText {
        let is_silence = finding.code == Code::SilentRole.name();
        if !is_silence && !own.is_empty() {
            return match age {
                Age::Old => self.stopped(finding, &own.iter().collect::<Vec<_>>()),
                Age::New => self.started(finding),
            };
        }
        let (has, lacks, which) = (self.with(age), self.without(age), age.other());
        let ends = self.ends_without(finding, age);
        match lacks.why_unseen(&ends, has.watched_s()) {
            Some(why) => {
                let what = if is_silence { "not assessed" } else { "not seen" };
                (ChangeCause::NotSeen, format!("{what} in the {which} capture: {why}"))
            }
            None if is_silence => {
                let words = format!(
                    "{} showed traffic of the role {} in the {which} capture",
                    ends.join(", "),
                    finding.group
                );
                (ChangeCause::Traffic, words)
            }
            None => {
                let words = format!(
                    "the {which} capture does not show the conflict, although it could have shown it"
                );
                (ChangeCause::Traffic, words)
            }
        }
    }
}
