//! `audit.json`: everything, for programs. Described by `docs/audit.schema.json`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::json_text::pretty;
use super::known::{Changes, changes};
use super::rows::{self, FindingRow};
use super::{Known, Report, Time};
use crate::classify::{Covers, Outcome, Policy};
use crate::model::{Account, InputRecord};
use crate::result::Teller;

/// Pairs that are listed with their orphaned fragments; more are a flood, and only counted.
const MAX_ORPHANS: usize = 100;

/// The version of the layout.
const SCHEMA: &str = "rasaudit.audit/2";

pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut serializer = pretty(&mut *out);
    let mut map = serializer.serialize_map(None)?;
    let policy = report.policy;
    let outcome = report.outcome;
    map.serialize_entry("schema", SCHEMA)?;
    map.serialize_entry(
        "tool",
        &json!({"name": "rasaudit", "version": env!("CARGO_PKG_VERSION")}),
    )?;
    map.serialize_entry("farm", &policy.map(|p| &p.inventory.farm))?;
    map.serialize_entry("summary", &summary(report))?;
    map.serialize_entry("exit_reasons", report.exit_reasons)?;
    map.serialize_entry("inputs", &report.inputs.iter().map(input).collect::<Vec<_>>())?;
    map.serialize_entry("accounting", &accounting(report))?;
    map.serialize_entry(
        "window",
        &json!({
            "first": report.account.first.get().map(Time),
            "last": report.account.last.get().map(Time),
            "watched_seconds": report.timeline.watched_s(),
            "doubted_stamps": report.odd_stamps,
            "since": report.wishes.since.map(Time),
            "until": report.wishes.until.map(Time),
            "as_of": report.wishes.as_of.map(Time),
        }),
    )?;
    map.serialize_entry(
        "matrix",
        &policy.map(|p| {
            let (name, version, sha256) = (&p.matrix.name, &p.matrix.title, &p.matrix.sha256);
            json!({"name": name, "version": version, "sha256": sha256})
        }),
    )?;
    map.serialize_entry("inventory", &policy.map(|p| json!({"sha256": p.inventory.sha256})))?;
    map.serialize_entry("exceptions", &policy.and_then(|p| exceptions(p, outcome)))?;
    let since = report.known.zip(report.teller.as_ref());
    let since = since.map(|(known, teller)| self::since(known, teller));
    map.serialize_entry("known", &since)?;
    map.serialize_entry("filter", &report.wishes.filter)?;
    map.serialize_entry(
        "coverage",
        &policy.map(|p| {
            let name = |host: &usize| Value::from(p.inventory.hosts[*host].name.as_str());
            json!({"stated": match &p.inventory.covers {
                Some(Covers::All) => Value::from("all"),
                Some(Covers::Hosts(hosts)) => hosts.iter().map(name).collect(),
                None => Value::Null,
            }})
        }),
    )?;
    let findings = report.findings().iter().filter_map(|finding| {
        let trace = report.trace(finding);
        rows::finding(report, finding).map(|row| Explained { row, trace })
    });
    map.serialize_entry("findings", &List::new(findings))?;
    map.serialize_entry("conversations", &List::new(rows::conversations(report)))?;
    map.serialize_entry("matrix_rows", &List::new(rows::matrix(report)))?;
    map.serialize_entry("hosts", &List::new(rows::hosts(report)))?;
    map.end()?;
    writeln!(out)
}

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    row: FindingRow<'a>,
    trace: Vec<String>,
}

/// An array that is made while it is written, so that memory never holds it whole.
struct List<I>(RefCell<Option<I>>);

impl<I> List<I> {
    fn new(items: I) -> Self {
        Self(RefCell::new(Some(items)))
    }
}

impl<I: Iterator<Item: Serialize>> Serialize for List<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.borrow_mut().take().into_iter().flatten())
    }
}

fn summary(report: &Report<'_>) -> Value {
    let outcome = report.outcome;
    let mut conversations: BTreeMap<&str, u64> = BTreeMap::new();
    for judged in &outcome.judged {
        *conversations.entry(judged.verdict().name()).or_default() += 1;
    }
    let mut by: [BTreeMap<&str, u64>; 3] = Default::default();
    for finding in outcome.findings() {
        let names = [finding.verdict().name(), finding.code().name(), finding.severity.name()];
        for (counts, name) in by.iter_mut().zip(names) {
            *counts.entry(name).or_default() += 1;
        }
    }
    let mut rows: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &outcome.rows {
        *rows.entry(row.status.name()).or_default() += 1;
    }
    let [verdict, code, severity] = by;
    json!({
        "judged": report.policy.is_some(),
        "assessed": report.policy.is_some() && outcome.checked_anything(),
        "conversations": {"total": outcome.conversations.list.len(), "by_verdict": conversations},
        "findings": {
            "total": outcome.findings().len(),
            "by_verdict": verdict, "by_code": code, "by_severity": severity,
        },
        "matrix_rows": rows,
    })
}

/// The site's exceptions and what each justified.
fn exceptions(policy: &Policy, outcome: &Outcome) -> Option<Value> {
    let exceptions = &policy.exceptions;
    let list = exceptions.list.iter().zip(&outcome.excepted).map(|(exception, conversations)| {
        json!({
            "id": exception.id,
            "owner": exception.owner,
            "reason": exception.reason,
            "approved_by": exception.approved_by,
            "created": exception.created.to_string(),
            "expires": exception.expires.to_string(),
            "conversations": conversations,
        })
    });
    let list: Vec<Value> = list.collect();
    (!exceptions.file.is_empty()).then(|| json!({"sha256": exceptions.sha256, "list": list}))
}

/// What changed against an earlier audit.
fn since(known: &Known, teller: &Teller<'_>) -> Value {
    let Changes { new, worse, still, grown, gone } = changes(known, teller);
    let gone: Vec<Value> =
        gone.into_iter().map(|(id, message)| json!({"id": id, "message": message})).collect();
    json!({"new": new, "worse": worse, "still_there": still, "grown": grown, "gone": gone})
}

fn input(input: &InputRecord) -> Value {
    json!({
        "file": input.name,
        "sha256": input.sha256,
        "size": input.size,
        "format": input.format,
        "link_types": input.link_types,
        "capture_filters": input.filters,
        "frames": input.account.frames,
        "observations": input.account.observations,
        "skipped": input.account.skipped,
        "first": input.account.first.get().map(Time),
        "last": input.account.last.get().map(Time),
        "loss": input.loss,
        "error": input.error,
        "same_as": input.same_as,
    })
}

fn accounting(report: &Report<'_>) -> Value {
    let Account {
        frames,
        observations,
        skipped,
        truncated,
        bad_checksums,
        non_ip,
        portless,
        fragments,
        opaque,
        bytes,
        ..
    } = report.account;
    let view = &report.outcome.conversations.survey.vantage;
    let orphans: Vec<Value> = report
        .orphans
        .iter()
        .take(MAX_ORPHANS)
        .map(|((src, dst, transport), packets)| {
            json!({"source": src, "destination": dst, "transport": transport.to_string(), "packets": packets})
        })
        .collect();
    let non_ip: BTreeMap<String, u64> = non_ip
        .iter()
        .map(|(ethertype, count)| match ethertype {
            0 => ("802.3".to_owned(), *count),
            ethertype => (format!("{ethertype:#06x}"), *count),
        })
        .collect();
    json!({
        "frames_read": frames,
        "observations": observations,
        "skipped": skipped,
        "duplicates": report.duplicates.removed,
        "copies": report.duplicates,
        "view": {
            "one_sided_frames": view.one_sided,
            "split_frames": view.split,
            "cut_one_way_frames": view.cut_one_way,
        },
        "truncated": truncated,
        "loss": {
            "received": report.loss.received,
            "dropped": report.loss.dropped,
            "acknowledged_bytes": view.acked,
            "unseen_bytes": view.unseen,
            "by_source": report.inputs.iter().filter(|i| i.loss.dropped > 0).map(|i| {
                json!({"file": i.name, "dropped": i.loss.dropped})
            }).collect::<Vec<_>>(),
        },
        "bytes": bytes,
        "bad_checksums": bad_checksums,
        "non_ip": non_ip,
        "portless": portless,
        "opaque_tunnels": opaque.values().sum::<u64>(),
        "opaque_by_tunnel": opaque,
        "fragments": {"later": fragments, "orphaned": report.orphans.values().sum::<u64>(), "orphans": orphans},
        "unknown_link_types": report.unknown_links.iter().cloned().collect::<BTreeMap<_, _>>(),
    })
}
