//! Compares two audits: which findings are new, gone, worse, better or larger, and why.

mod cause;
mod conflicts;
mod missing;
mod renames;
mod side;
mod unseen;
mod visibility;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::Change;
use super::baseline::{BaselineFinding, FindingFacts, is_of_many};
use super::reached_ports::ReachedPorts;
use super::{AuditResult, FindingRow};
use crate::classify::{Severity, id_of};

pub use cause::ChangeCause;
use cause::ChangeCauses;
pub use renames::HostRename;
use side::Side;

/// A finding of one or both audits, and how it changed.
#[derive(Clone, Serialize, Debug)]
pub struct FindingChange {
    /// How the finding compares with the old audit.
    pub change: Change,
    /// The id of the finding: in the new audit if it has the finding, else in the old one.
    pub id: String,
    /// The severity of the finding, in the audit that `id` is from.
    pub severity: String,
    /// The verdict of the finding.
    pub verdict: String,
    /// The code that gives the reason for the verdict.
    pub code: String,
    /// Whether the finding is certain, in the audit that `id` is from.
    pub certain: bool,
    /// The message of the finding, in the audit that `id` is from.
    pub message: String,
    /// Why the finding differs; `None` if it does not. A finding that is the same has a cause if
    /// only one of the audits shows the outcome of the traffic.
    pub cause: Option<ChangeCause>,
    /// The cause in words, or the finding that this one is now part of. Empty if nothing differs.
    pub reason: String,
}

/// The comparison of two audits.
#[derive(Clone, Serialize, Debug)]
pub struct Comparison {
    /// The number of findings with each change.
    pub counts: BTreeMap<&'static str, u64>,
    /// The hosts that have another name in the new audit.
    pub renames: Vec<HostRename>,
    /// Reasons why the comparison may mislead, such as a new capture that begins before the old
    /// one.
    pub warnings: Vec<String>,
    /// Descriptions of other differences between the audits: farm, matrix, inventory, exceptions,
    /// filter, settings and version.
    pub differences: Vec<String>,
    /// All findings above info with their changes, in this order: new, worse, grown, gone, better,
    /// excepted, same.
    pub findings: Vec<FindingChange>,
    /// The index of each finding in `findings`, by id.
    #[serde(skip)]
    by_id: HashMap<String, usize>,
}

impl Comparison {
    /// Compares the findings above info of two judged audits.
    pub fn of<'a>(old: &'a AuditResult<'a>, new: &'a AuditResult<'a>) -> Self {
        let old = Side::new(old);
        let new = Side::new(new);
        let renames = renames::between(old.result, new.result);
        let renamed = renames.iter().map(|r| (r.old.clone(), r.new.clone())).collect();
        let causes = ChangeCauses { old: &old, new: &new, renamed: &renamed };
        let mut findings = compared(&causes, &renamed);
        findings.sort_by_cached_key(|finding| {
            let severity = Severity::parse(&finding.severity);
            let order = ORDER.iter().position(|change| *change == finding.change);
            (order, std::cmp::Reverse(severity), finding.id.clone())
        });
        let mut counts: BTreeMap<&'static str, u64> =
            Change::NAMES.iter().map(|name| (*name, 0)).collect();
        for finding in &findings {
            *counts.entry(finding.change.name()).or_default() += 1;
        }
        let differences = differences(old.result, new.result);
        let by_id = findings.iter().enumerate().map(|(number, f)| (f.id.clone(), number)).collect();
        let warnings = new.begins_before(&old).then(|| {
            "the new capture begins before the old one; are the two audits in the wrong order?"
                .to_owned()
        });
        let warnings = warnings.into_iter().collect();
        Self { counts, renames, warnings, differences, findings, by_id }
    }

    /// Returns how the finding with this id changed.
    pub fn of_finding(&self, id: &str) -> Option<&FindingChange> {
        self.by_id.get(id).map(|number| &self.findings[*number])
    }

    /// Returns the findings that are gone, or that an exception now permits.
    pub fn gone(&self) -> impl Iterator<Item = &FindingChange> {
        let is_gone =
            |finding: &&FindingChange| matches!(finding.change, Change::Gone | Change::Excepted);
        self.findings.iter().filter(is_gone)
    }

    /// Returns the number of findings with a change.
    pub fn count(&self, change: Change) -> u64 {
        self.counts.get(change.name()).copied().unwrap_or_default()
    }

    /// Returns whether any finding is new, gone, worse, better or larger.
    pub fn has_changes(&self) -> bool {
        ORDER.iter().filter(|change| change.is_difference()).any(|change| self.count(*change) > 0)
    }
}

/// The order in which reports list changes.
const ORDER: [Change; 7] = [
    Change::New,
    Change::Worse,
    Change::Grown,
    Change::Gone,
    Change::Better,
    Change::Excepted,
    Change::Same,
];

/// Compares the findings above info of the two audits.
fn compared(
    causes: &ChangeCauses<'_, '_>,
    renamed: &BTreeMap<String, String>,
) -> Vec<FindingChange> {
    let counts = |row: &&FindingRow<'_>| {
        Severity::parse(&row.severity).is_some_and(|severity| severity > Severity::Info)
    };
    let old: Vec<&FindingRow<'_>> = causes.old.findings.iter().filter(counts).collect();
    let new: Vec<&FindingRow<'_>> = causes.new.findings.iter().filter(counts).collect();
    let by_id: HashMap<String, usize> =
        old.iter().enumerate().map(|(number, row)| (id_of(&row.id), number)).collect();
    // Renaming a host changes the ids of its findings, so findings are also matched by a key that
    // contains the new names.
    let by_key: HashMap<Key, usize> = old
        .iter()
        .enumerate()
        .map(|(number, row)| (key(row, |name| renamed.get(name).map_or(name, |new| new)), number))
        .collect();
    let of_many: Vec<usize> = (0..old.len()).filter(|number| is_of_many(old[*number])).collect();
    let old_ports = ReachedPorts::possible(causes.old.result);
    let new_ports = ReachedPorts::of(causes.new.result);
    let mut matched: BTreeSet<usize> = BTreeSet::new();
    let mut changes = Vec::new();
    for row in &new {
        let counterpart = by_id
            .get(&id_of(&row.id))
            .or_else(|| (!renamed.is_empty()).then(|| by_key.get(&key(row, |name| name)))?);
        // The pair may have been part of one finding about many pairs.
        let many = || {
            let name = |name: &str| causes.old_name(name);
            of_many.iter().find(|number| is_part_of(row, old[**number], causes.old, name))
        };
        let Some(number) = counterpart.or_else(many).copied() else {
            let (cause, reason) = causes.of_new(row);
            changes.push(told(row, Change::New, Some(cause), reason));
            continue;
        };
        matched.insert(number);
        let before = BaselineFinding::of_row(old[number], &old_ports, |name| {
            renamed.get(name).map_or_else(|| name.to_owned(), Clone::clone)
        });
        // A list of many hosts may leave out those of the pair.
        let before = if counterpart.is_none() { before.without_members() } else { before };
        let now = FindingFacts::of_row(row, &new_ports);
        let change = before.change(&now);
        if change.is_difference() {
            let (cause, reason) = causes.of_changed(old[number], row, &before.new_ports(&now));
            changes.push(told(row, change, Some(cause), reason));
        } else {
            let visibility = causes.visibility(&old[number].state, &row.state);
            let (cause, reason) = visibility.unzip();
            changes.push(told(row, change, cause, reason.unwrap_or_default()));
        }
    }
    let parts: Vec<&FindingRow<'_>> = new.iter().copied().filter(|row| is_of_many(row)).collect();
    for (number, row) in old.iter().enumerate().filter(|(number, _)| !matched.contains(number)) {
        // The pair may now be part of one finding about many pairs.
        let name = |name: &str| causes.new_name(name);
        let is_part = |many: &&&FindingRow<'_>| is_part_of(row, many, causes.new, name);
        if let Some(many) = parts.iter().find(is_part) {
            let reason = format!("now part of {}", many.id);
            changes.push(told(old[number], Change::Same, None, reason));
            continue;
        }
        let (change, (cause, reason)) = causes.of_gone(row);
        changes.push(told(row, change, Some(cause), reason));
    }
    changes
}

fn told(
    row: &FindingRow<'_>,
    change: Change,
    cause: Option<ChangeCause>,
    reason: String,
) -> FindingChange {
    FindingChange {
        change,
        id: id_of(&row.id),
        severity: row.severity.to_string(),
        verdict: row.verdict.to_string(),
        code: row.code.to_string(),
        certain: row.certain,
        message: row.message.clone(),
        cause,
        reason,
    }
}

/// The properties that identify a finding even if its hosts were renamed.
type Key = (String, String, [String; 2], String, String, String);

fn key<'n>(row: &'n FindingRow<'_>, name: impl Fn(&'n str) -> &'n str) -> Key {
    let end = |own: &'n str, address: &'n str, roles: &[String]| {
        if own.is_empty() { format!("{address} {}", roles.join(";")) } else { name(own).to_owned() }
    };
    let ends = [
        end(&row.client_name, &row.client, &row.client_roles),
        end(&row.server_name, &row.server, &row.server_roles),
    ];
    let about = (row.transport.clone(), row.port.clone(), row.group.clone());
    (row.verdict.to_string(), row.code.to_string(), ends, about.0, about.1, about.2)
}

/// Returns whether a finding about one pair of hosts is part of `many`, a finding of `side` about
/// many pairs. `name` translates the name of a host to its name in `side`. If `many` does not list
/// all of its hosts, other results of `side` have to show that the pair is part of it.
fn is_part_of(
    row: &FindingRow<'_>,
    many: &FindingRow<'_>,
    side: &Side<'_>,
    name: impl Fn(&str) -> String,
) -> bool {
    if row.id == many.id
        || (&row.verdict, &row.code, &row.group) != (&many.verdict, &many.code, &many.group)
        || is_of_many(row)
    {
        return false;
    }
    let named = |own: &[String]| own.iter().map(|own| name(own)).collect::<Vec<_>>();
    let [clients, servers] = [&row.clients, &row.servers].map(|own| named(own));
    let is_cut = |names: &[String]| names.iter().any(|name| name.starts_with('+'));
    let failed = |client: &str, server: &str| side.shows_failure(&many.group, client, server);
    let had_client = |own: &String| {
        many.clients.contains(own)
            || (is_cut(&many.clients)
                && (side.lacks_traffic_of(&many.group, own)
                    || servers.iter().any(|server| failed(own, server))))
    };
    let had_server = |own: &String| {
        many.servers.contains(own)
            || (is_cut(&many.servers) && clients.iter().any(|client| failed(client, own)))
    };
    clients.iter().all(had_client) && servers.iter().all(had_server)
}

/// Describes how two audits differ apart from their findings.
fn differences(old: &AuditResult<'_>, new: &AuditResult<'_>) -> Vec<String> {
    let (before, now) = (&old.head, &new.head);
    let mut words = Vec::new();
    let mut differs = |what: &str, was: Option<&str>, is: Option<&str>, shown: [String; 2]| {
        if was != is {
            let [was, is] = shown;
            words.push(format!("{what}: {is} instead of {was}"));
        }
    };
    let farm = |head: &super::Head| {
        let name = head.farm.as_deref().filter(|name| !name.is_empty());
        name.unwrap_or("none").to_owned()
    };
    differs("farm", before.farm.as_deref(), now.farm.as_deref(), [farm(before), farm(now)]);
    let digest = |sha256: &str| sha256.get(..12).unwrap_or(sha256).to_owned();
    // Results of early versions do not contain the names of files and matrices.
    let file = |name: &str, sha256: &str| match name {
        "" => format!("unnamed ({})", digest(sha256)),
        name => format!("{name} ({})", digest(sha256)),
    };
    let none = || "none".to_owned();
    let matrix = |head: &super::Head| {
        head.matrix.as_ref().map_or_else(none, |m| file(&m.words(), &m.sha256))
    };
    differs(
        "matrix",
        before.matrix.as_ref().map(|m| m.sha256.as_str()),
        now.matrix.as_ref().map(|m| m.sha256.as_str()),
        [matrix(before), matrix(now)],
    );
    let inventory = |head: &super::Head| {
        head.inventory.as_ref().map_or_else(none, |i| file(&i.file, &i.sha256))
    };
    differs(
        "inventory",
        before.inventory.as_ref().map(|i| i.sha256.as_str()),
        now.inventory.as_ref().map(|i| i.sha256.as_str()),
        [inventory(before), inventory(now)],
    );
    let exceptions = |head: &super::Head| {
        head.exceptions.as_ref().map_or_else(none, |e| file(&e.file, &e.sha256))
    };
    differs(
        "exceptions",
        before.exceptions.as_ref().map(|e| e.sha256.as_str()),
        now.exceptions.as_ref().map(|e| e.sha256.as_str()),
        [exceptions(before), exceptions(now)],
    );
    let filter = |head: &super::Head| head.filter.clone().unwrap_or_else(|| "none".to_owned());
    differs(
        "filter",
        before.filter.as_deref(),
        now.filter.as_deref(),
        [filter(before), filter(now)],
    );
    let settings = |head: &super::Head| {
        let all: Vec<String> = head.settings.iter().map(super::OptionSetting::words).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    };
    let [was, is] = [settings(before), settings(now)];
    differs("settings", Some(&was), Some(&is), [was.clone(), is.clone()]);
    differs(
        "version of rasaudit",
        Some(&before.tool.version),
        Some(&now.tool.version),
        [before.tool.version.clone(), now.tool.version.clone()],
    );
    words
}
