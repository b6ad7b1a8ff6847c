//! Determines why a finding differs between two audits.

use std::net::IpAddr;

use super::Change;
use super::side::{MatrixEntry, Seen, Side};
use crate::classify::{State, Verdict};
use crate::model::named_enum;
use crate::result::{FindingRow, Listing, Time};

named_enum!(
    /// The reason why a finding differs between two audits.
    ChangeCause {
        /// The row of the matrix that decided the verdict was added, removed or changed.
        Row = "row",
        /// An exception was added, removed or changed, or it expired.
        Exception = "exception",
        /// A feature was switched on or off, or only one of the inventories states it.
        Feature = "feature",
        /// The inventory lists an end of the traffic differently.
        Inventory = "inventory",
        /// The severity of the finding's code was set differently.
        Severity = "severity",
        /// The new capture does not show the outcome of the traffic, but the old one does.
        LessVisible = "less-visible",
        /// The new capture shows the outcome of the traffic, but the old one does not.
        MoreVisible = "more-visible",
        /// The traffic itself differs.
        Traffic = "traffic",
        /// The traffic has stopped: the new capture could have shown it.
        Stopped = "stopped",
        /// One of the captures does not show the traffic or does not allow it to be assessed, so
        /// the traffic itself may be the same.
        NotSeen = "not-seen",
        /// Nothing could be assessed in the audit that does not have the finding.
        NotAssessed = "not-assessed",
        /// Nothing that the two results state explains the difference.
        Unknown = "unknown",
    }
);

/// A cause, and its description.
pub(super) type CauseText = (ChangeCause, String);

/// The two audits, and the hosts that were renamed between them.
pub(super) struct ChangeCauses<'a, 's> {
    pub old: &'s Side<'a>,
    pub new: &'s Side<'a>,
    /// The new names of renamed hosts, by old name.
    pub renamed: &'s std::collections::BTreeMap<String, String>,
}

impl ChangeCauses<'_, '_> {
    /// Returns the name that a host of the old audit has in the new one.
    pub(super) fn new_name(&self, name: &str) -> String {
        self.renamed.get(name).map_or_else(|| name.to_owned(), Clone::clone)
    }

    /// Returns the name that a host of the new audit had in the old one.
    pub(super) fn old_name(&self, name: &str) -> String {
        let before = self.renamed.iter().find(|(_, now)| *now == name);
        before.map_or_else(|| name.to_owned(), |(before, _)| before.clone())
    }

    /// Returns the change and the cause for a finding that the new audit does not have: the finding
    /// is gone or excepted. If its traffic is still there, but too little of it is visible, the
    /// finding counts as the same.
    pub fn of_gone(&self, finding: &FindingRow<'_>) -> (Change, CauseText) {
        if let Some(why) = self.new.why_nothing_assessed() {
            let words = format!("nothing was assessed in the new capture: {why}");
            return (Change::Gone, (ChangeCause::NotAssessed, words));
        }
        let before = self.old.conversations_of(finding, str::to_owned);
        let mut now = self.new.conversations_of(finding, |name| self.new_name(name));
        now.extend(self.new.counterparts_of(&before));
        if let Some(id) = exception_of_all(&now) {
            return (Change::Excepted, (ChangeCause::Exception, self.permitted_by(self.new, id)));
        }
        let explained = match Verdict::parse(&finding.verdict) {
            Some(Verdict::Missing) => self.of_missing(finding, &now, Age::Old),
            Some(Verdict::Undocumented | Verdict::UnexpectedPort) => {
                let own: Vec<&Seen> = before.iter().filter(|seen| is_of(seen, finding)).collect();
                match self.judged_differently(&own, (&before, &now), Age::Old) {
                    Some(explained) => explained,
                    None if !own.is_empty() || self.old.result.conversations_len() == 0 => {
                        self.absent(finding, &own, &now)
                    }
                    None => unknown(),
                }
            }
            Some(Verdict::Inventory) => self.of_inventory(finding, (&before, &now), Age::Old),
            _ => unknown(),
        };
        // If the new capture shows only one direction of the traffic, nothing shows that the
        // traffic has ended, so the finding counts as the same.
        let verdict = Verdict::parse(&finding.verdict);
        let is_unpermitted = verdict.is_some_and(Verdict::is_unpermitted);
        let is_hidden = is_unpermitted && explained.0 == ChangeCause::LessVisible;
        (if is_hidden { Change::Same } else { Change::Gone }, explained)
    }

    /// Returns why the old audit does not have a finding of the new one.
    pub fn of_new(&self, finding: &FindingRow<'_>) -> CauseText {
        if let Some(why) = self.old.why_nothing_assessed() {
            let words = format!("nothing was assessed in the old capture: {why}");
            return (ChangeCause::NotAssessed, words);
        }
        let now = self.new.conversations_of(finding, str::to_owned);
        let mut before = self.old.conversations_of(finding, |name| self.old_name(name));
        before.extend(self.old.counterparts_of(&now));
        match Verdict::parse(&finding.verdict) {
            Some(Verdict::Missing) => self.of_missing(finding, &before, Age::New),
            Some(Verdict::Undocumented | Verdict::UnexpectedPort) => {
                let own: Vec<&Seen> = now.iter().filter(|seen| is_of(seen, finding)).collect();
                match self.judged_differently(&own, (&now, &before), Age::New) {
                    Some(explained) => explained,
                    None if self.old.result.conversations_len() == 0 => unknown(),
                    None => self.started(finding, &own),
                }
            }
            Some(Verdict::Inventory) => self.of_inventory(finding, (&now, &before), Age::New),
            _ => unknown(),
        }
    }

    /// Returns why a finding that both audits have is worse, better or larger.
    pub fn of_changed(
        &self,
        before: &FindingRow<'_>,
        now: &FindingRow<'_>,
        new_ports: &[u16],
    ) -> CauseText {
        let reached = |row: &FindingRow<'_>| State::parse(&row.state).is_some_and(State::reached);
        let visibility = self.visibility(&before.state, &now.state);
        if visibility.is_none() && reached(before) != reached(now) {
            let (then, today) = (&before.state, &now.state);
            return (
                ChangeCause::Traffic,
                format!("the best state of the conversations was {then} and is now {today}"),
            );
        }
        let joined = self.joined(before, now);
        if !joined.is_empty() {
            return (ChangeCause::Traffic, format!("new clients or servers: {}", some(&joined)));
        }
        if !new_ports.is_empty() {
            let ports: Vec<String> = new_ports.iter().map(u16::to_string).collect();
            let words = format!("ports that were not reached before: {}", some(&ports));
            return (ChangeCause::Traffic, words);
        }
        if visibility.is_none() && before.severity != now.severity {
            let (then, today) = (&before.severity, &now.severity);
            if before.certain != now.certain {
                let certainty = if now.certain { "now certain" } else { "no longer certain" };
                let words = format!(
                    "the severity was {then} and is now {today}: the finding is {certainty}"
                );
                return (ChangeCause::Traffic, words);
            }
            let is_failure = Verdict::parse(&now.verdict) == Some(Verdict::Missing);
            if self.severities_may_differ() {
                let words =
                    format!("the severity of the code {} was {then} and is now {today}", now.code);
                return (ChangeCause::Severity, words);
            }
            if is_failure {
                let words = format!(
                    "the severity was {then} and is now {today}; a failure is less severe if its traffic is not expected, or if every client reached the service in another way"
                );
                return (ChangeCause::Traffic, words);
            }
        }
        if before.count != now.count {
            let words = format!(
                "the number of conversations or pairs of hosts was {} and is now {}",
                before.count, now.count
            );
            return (ChangeCause::Traffic, words);
        }
        visibility.unwrap_or_else(unknown)
    }

    /// Returns whether the two audits may have assigned different severities to a code, because the
    /// matrix, `--severity` or the version of the program differs.
    fn severities_may_differ(&self) -> bool {
        let [before, now] = [self.old, self.new].map(|side| {
            let head = &side.result.head;
            let set = head.settings.iter().filter(|setting| setting.option == "--severity");
            let set: Vec<&str> = set.map(|setting| setting.value.as_str()).collect();
            (&head.tool.version, head.matrix.as_ref().map(|matrix| &matrix.sha256), set)
        });
        before != now
    }

    /// Returns the members of a finding that it did not have before.
    fn joined(&self, before: &FindingRow<'_>, now: &FindingRow<'_>) -> Vec<String> {
        let sides = [(&before.clients, &now.clients), (&before.servers, &now.servers)];
        let joined = sides.into_iter().flat_map(|(before, now)| {
            let had: std::collections::BTreeSet<String> =
                before.iter().map(|name| self.new_name(name)).collect();
            now.iter().filter(move |name| !name.starts_with('+') && !had.contains(*name))
        });
        joined.cloned().collect()
    }

    /// Compares conversations that both audits show, and returns the first known cause of a
    /// difference in how they were judged. If no cause is known, the result is
    /// [`ChangeCause::Unknown`]; `None` means that the other audit has no corresponding
    /// conversation. `age` says which audit has the finding, and `own` contains the conversations
    /// of the finding. `all` contains the conversations of that audit, then those of the other
    /// audit.
    fn judged_differently(
        &self,
        own: &[&Seen],
        all: (&[Seen], &[Seen]),
        age: Age,
    ) -> Option<CauseText> {
        let pairs = own.iter().filter_map(|seen| Some((*seen, counterpart(seen, all)?)));
        let mut first = None;
        for (seen, counterpart) in pairs {
            let (before, now) = match age {
                Age::Old => (seen, counterpart),
                Age::New => (counterpart, seen),
            };
            let explained = self.why(before, now);
            if explained.0 != ChangeCause::Unknown {
                return Some(explained);
            }
            first.get_or_insert(explained);
        }
        first
    }

    /// Returns why one conversation was judged differently. The first cause that applies is
    /// returned: the deciding row, an exception, a feature, the inventory, the visibility, the
    /// severity or the state. If none applies, the result is [`ChangeCause::Unknown`].
    pub(super) fn why(&self, before: &Seen, now: &Seen) -> CauseText {
        self.row(before, now)
            .or_else(|| self.exception(before, now))
            .or_else(|| self.feature(before, now))
            .or_else(|| self.inventory(before, now))
            .or_else(|| {
                let is_same = before.is_judged_like(now);
                is_same.then(|| self.visibility(&before.state, &now.state)).flatten()
            })
            .or_else(|| {
                let differ = before.is_judged_like(now) && before.severity != now.severity;
                (differ && self.severities_may_differ()).then(|| {
                    let words = format!(
                        "the severity of the code {} was {} and is now {}",
                        now.code, before.severity, now.severity
                    );
                    (ChangeCause::Severity, words)
                })
            })
            .or_else(|| {
                (before.is_judged_like(now) && before.is_reached != now.is_reached).then(|| {
                    let words = format!(
                        "the state of the conversation was {} and is now {}",
                        before.state, now.state
                    );
                    (ChangeCause::Traffic, words)
                })
            })
            .unwrap_or_else(|| {
                if before.is_judged_like(now) && before.severity != now.severity {
                    let (then, today) = (&before.severity, &now.severity);
                    let words = format!("the severity was {then} and is now {today}");
                    return (ChangeCause::Unknown, words);
                }
                let ruling = |seen: &Seen| match seen.rule.as_str() {
                    "" => format!("{}/{}", seen.verdict, seen.code),
                    rule => format!("{}/{} by {rule}", seen.verdict, seen.code),
                };
                let words =
                    format!("the verdict was {} and is now {}", ruling(before), ruling(now));
                (ChangeCause::Unknown, words)
            })
    }

    fn row(&self, before: &Seen, now: &Seen) -> Option<CauseText> {
        for rule in [&now.rule, &before.rule] {
            if rule.is_empty() || rule.starts_with("exception:") {
                continue;
            }
            let words = match (self.old.rows.get(rule), self.new.rows.get(rule)) {
                (None, Some(row)) if !self.old.rows.is_empty() => {
                    format!("the matrix has a new row, {}", cited(row))
                }
                (Some(row), None) => format!("the matrix no longer has the row {}", cited(row)),
                (Some(old), Some(new)) => match new.difference(old) {
                    Some(difference) => format!("the row {} differs: {difference}", cited(new)),
                    None => continue,
                },
                _ => continue,
            };
            return Some((ChangeCause::Row, words));
        }
        None
    }

    fn exception(&self, before: &Seen, now: &Seen) -> Option<CauseText> {
        let id = |seen: &Seen| seen.rule.strip_prefix("exception:").map(str::to_owned);
        let (was, is) = (id(before), id(now));
        if was == is && before.code == now.code {
            return None;
        }
        if let Some(id) = is.filter(|_| now.verdict == Verdict::Excepted.name()) {
            return Some((ChangeCause::Exception, self.permitted_by(self.new, &id)));
        }
        let id = was.filter(|_| before.verdict == Verdict::Excepted.name())?;
        let entry = exception_entry(self.new, &id);
        let words = match entry {
            None => format!("the exception {id} was removed"),
            Some(entry) if now.code == "expired-exception" => {
                format!("the exception {id} expired on {}", entry.expires)
            }
            Some(_) => format!("the exception {id} no longer applies to the traffic"),
        };
        Some((ChangeCause::Exception, words))
    }

    /// Describes the exception that permits traffic, with its owner and expiry date.
    fn permitted_by(&self, side: &Side<'_>, id: &str) -> String {
        match exception_entry(side, id) {
            Some(entry) => {
                format!(
                    "permitted by the exception {id} (owner {}, expires {})",
                    entry.owner, entry.expires
                )
            }
            None => format!("permitted by the exception {id}"),
        }
    }

    fn feature(&self, before: &Seen, now: &Seen) -> Option<CauseText> {
        [&now.rule, &before.rule].into_iter().find_map(|rule| self.feature_of(rule))
    }

    /// Returns a cause if one of the features that a row needs is off in only one of the
    /// inventories.
    pub(super) fn feature_of(&self, rule: &str) -> Option<CauseText> {
        let was_off = self.old.rows.get(rule)?.site?.is_off;
        let row = self.new.rows.get(rule)?.site?;
        (was_off != row.is_off).then(|| {
            let features = row.features.join(", ");
            let words = match (row.features.len(), row.is_off) {
                (0 | 1, true) => format!("the feature {features} is off in the new inventory"),
                (0 | 1, false) => {
                    format!("the feature {features} is no longer off in the new inventory")
                }
                (_, true) => {
                    format!("one of the features {features} is off in the new inventory")
                }
                (_, false) => {
                    format!(
                        "none of the features {features} is off any longer in the new inventory"
                    )
                }
            };
            (ChangeCause::Feature, words)
        })
    }

    fn inventory(&self, before: &Seen, now: &Seen) -> Option<CauseText> {
        let ends =
            [before.client, before.server].into_iter().zip(before.roles.iter().zip(&now.roles));
        for (address, (was, is)) in ends {
            if let Some(words) = self.listed_differently(&address.to_string(), was, is) {
                return Some((ChangeCause::Inventory, words));
            }
        }
        None
    }

    /// Describes how the inventories list an address differently; `None` if they do not.
    pub(super) fn listed_differently(
        &self,
        address: &str,
        was: &[String],
        is: &[String],
    ) -> Option<String> {
        let parsed: IpAddr = address.parse().ok()?;
        let old = self.old.result.site().and_then(|site| site.listing(parsed));
        let new = self.new.result.site().and_then(|site| site.listing(parsed));
        let line = |listing: &Listing<'_>| match listing.line {
            0 => String::new(),
            line => format!(" (line {line})"),
        };
        match (old, new) {
            (None, Some(new)) => Some(format!(
                "{address} is listed as {}, with {}, in the new inventory{}",
                new.name,
                role_list(is),
                line(&new)
            )),
            (Some(old), None) => Some(format!(
                "{address} is not listed in the new inventory; in the old one, it was {}",
                old.name
            )),
            (Some(_), Some(new)) if was != is => Some(format!(
                "{} has {} in the new inventory{}, and {} in the old one",
                new.name,
                role_list(is),
                line(&new),
                role_list(was)
            )),
            _ => None,
        }
    }

    /// Describes the absence of traffic in the new audit. `now` contains conversations of the new
    /// audit. If one of them has the same ends, transport and port, the traffic may be part of it,
    /// so it does not count as stopped.
    fn absent(&self, finding: &FindingRow<'_>, own: &[&Seen], now: &[Seen]) -> CauseText {
        let explained = self.stopped(finding, own);
        let other = own.iter().find_map(|seen| now.iter().find(|other| seen.has_ends_of(other)));
        match other.filter(|_| explained.0 == ChangeCause::Stopped) {
            Some(other) => {
                let words = format!(
                    "not seen in the new capture, which shows other traffic between the same ends on this port ({}/{})",
                    other.verdict, other.code
                );
                (ChangeCause::NotSeen, words)
            }
            None => explained,
        }
    }

    /// Describes whether traffic that the new audit does not show has stopped, or may only have
    /// been missed.
    pub(super) fn stopped(&self, finding: &FindingRow<'_>, own: &[&Seen]) -> CauseText {
        let not_seen =
            |why: &str| (ChangeCause::NotSeen, format!("not seen in the new capture{why}"));
        let ends = self.ends_without(finding, Age::Old);
        let unseen = self.new.why_unseen(&ends, Some(self.old));
        if let Some(why) = unseen.or_else(|| self.new.why_without_version(own.iter().copied())) {
            return not_seen(&format!(": {why}"));
        }
        if self.new.begins_before(self.old) {
            return not_seen(", which begins before the old one");
        }
        if own.iter().any(|seen| seen.is_aggregated) {
            return not_seen(
                "; in the old capture, it is part of an aggregated conversation, so it is not known which traffic it was",
            );
        }
        if self.new.may_hide(own.iter().copied()) {
            return not_seen(", but one of its aggregated conversations may contain the traffic");
        }
        // Traffic that was seen only a few times, or only for a moment, may recur at any time.
        if let Some(few) = self.too_few(own) {
            return not_seen(&format!(", but it may recur: the old capture shows {few}"));
        }
        let words = format!(
            "stopped: the new capture does not show the traffic, although its watch time was {} s",
            self.new.watched_s()
        );
        (ChangeCause::Stopped, words)
    }

    /// Describes why the conversations of the old audit do not show that their traffic recurs;
    /// `None` if they do: a flow lasted half of the watch time, or at least
    /// [`MIN_RECURRENCES`] flows extend over half of it.
    fn too_few(&self, own: &[&Seen]) -> Option<String> {
        let needed_s = i64::try_from(self.old.watched_s() / 2).unwrap_or(i64::MAX);
        let lasted_s = |first: Option<Time>, last: Option<Time>| {
            let span = first.zip(last).map_or(0, |(first, last)| last.0.saturating_sub(first.0));
            span / crate::model::SECOND
        };
        if own.iter().any(|s| s.flows == 1 && lasted_s(s.first, s.last) >= needed_s) {
            return None;
        }
        let flows: u64 = own.iter().map(|seen| seen.flows).sum();
        let times = crate::result::plural(flows.max(1), "flow");
        if flows < MIN_RECURRENCES {
            return Some(format!("only {times}"));
        }
        let first = own.iter().filter_map(|seen| seen.first).min_by_key(|time| time.0);
        let last = own.iter().filter_map(|seen| seen.last).max_by_key(|time| time.0);
        let within_s = lasted_s(first, last);
        (within_s < needed_s).then(|| format!("{times}, all within {within_s} s"))
    }

    /// Describes whether the old capture could have shown traffic that only the new audit shows.
    pub(super) fn started(&self, finding: &FindingRow<'_>, own: &[&Seen]) -> CauseText {
        let ends = self.ends_without(finding, Age::New);
        let unseen = self.old.why_unseen(&ends, Some(self.new));
        let words = match unseen.or_else(|| self.old.why_without_version(own.iter().copied())) {
            Some(why) => format!("not in the old capture, which might not have shown it: {why}"),
            None if self.old.may_hide(own.iter().copied()) => {
                "not in the old capture, but one of its aggregated conversations may contain it"
                    .to_owned()
            }
            None => "not in the old capture, which could have shown it".to_owned(),
        };
        (ChangeCause::Traffic, words)
    }
}

/// The number of flows that are needed to show that traffic recurs.
const MIN_RECURRENCES: u64 = 3;

/// The audit that has a finding: the old or the new one.
#[derive(Clone, Copy)]
pub(super) enum Age {
    Old,
    New,
}

impl Age {
    /// Returns which audit has the finding: `old` or `new`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }

    /// Returns which audit does not have the finding: `new` or `old`.
    pub fn other(self) -> &'static str {
        match self {
            Self::Old => "new",
            Self::New => "old",
        }
    }
}

pub(super) fn unknown() -> CauseText {
    (ChangeCause::Unknown, "unknown: the two results do not show what changed".to_owned())
}

/// Returns the exception that permits the first of these conversations, if exceptions permit all of
/// them.
fn exception_of_all(seen: &[Seen]) -> Option<&str> {
    let id = |seen: &'_ Seen| -> Option<String> {
        let is_excepted = seen.verdict == Verdict::Excepted.name();
        seen.rule.strip_prefix("exception:").filter(|_| is_excepted).map(str::to_owned)
    };
    let first = seen.first()?.rule.strip_prefix("exception:")?;
    seen.iter().all(|seen| id(seen).is_some()).then_some(first)
}

/// Returns whether a conversation has the verdict and the code of a finding.
fn is_of(seen: &Seen, finding: &FindingRow<'_>) -> bool {
    seen.verdict == finding.verdict && seen.code == finding.code
}

/// Returns the conversation of the other audit that corresponds to `seen`. `own` contains the
/// conversations of the audit with `seen`, and `others` those of the other audit. The same ends can
/// have several conversations on a port, so one that was judged like `seen` is preferred.
/// Otherwise, the result is the first one that was not judged like any conversation in `own`, or
/// `None` if there is no such conversation.
pub(super) fn counterpart<'s>(
    seen: &Seen,
    (own, others): (&[Seen], &'s [Seen]),
) -> Option<&'s Seen> {
    let mut same = others.iter().filter(|other| seen.has_ends_of(other));
    let is_alike = |a: &Seen, b: &Seen| a.has_ends_of(b) && a.is_judged_like(b);
    let alike = same.clone().find(|other| other.is_judged_like(seen));
    alike.or_else(|| same.find(|other| !own.iter().any(|own| is_alike(own, other))))
}

pub(super) fn exception_entry<'s>(
    side: &'s Side<'_>,
    id: &str,
) -> Option<&'s crate::result::ExceptionUse<'static>> {
    side.result.head.exceptions.as_ref()?.list.iter().find(|entry| entry.id == id)
}

/// Formats the name of a row with the document and the line that it comes from.
pub(super) fn cited(entry: &MatrixEntry<'_>) -> String {
    format!("{} ({})", entry.row.rule, entry.row.provenance)
}

/// Formats a list of roles as a phrase, such as `the role broker` or `no roles`.
pub(super) fn role_list<T: AsRef<str>>(roles: &[T]) -> String {
    let names: Vec<&str> = roles.iter().map(AsRef::as_ref).collect();
    match names[..] {
        [] => "no roles".to_owned(),
        [one] => format!("the role {one}"),
        _ => format!("the roles {}", names.join(", ")),
    }
}

/// Joins the first ten names, and adds the number of the remaining ones.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
