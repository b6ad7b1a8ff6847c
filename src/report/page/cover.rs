//! The first sheet of the printed page: what was audited, with digests, the verdict, what was not
//! looked at, the exceptions in force, and places for signatures. The screen does not show it.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::overview::judged_by;
use super::wording::{file_name, time_utc, tone_class};
use crate::classify::{Coverage, Status};
use crate::model::{SkipReason, escape_control};
use crate::report::findings_summary::{self, NotAssessed};
use crate::result::{Accounting, AuditResult, ExceptionUse, Head, Headline, percent, plural};

/// The maximum numbers of inputs, exceptions and items of a list, so that the cover is one sheet.
const INPUTS: usize = 8;
const EXCEPTIONS: usize = 6;
const ITEMS: usize = 6;

/// Returns the cover.
pub(super) fn sheet(result: &AuditResult<'_>) -> Markup {
    let Headline { tone, lead, rest } = &result.head.headline;
    let farm = result.head.farm.as_deref().unwrap_or_default();
    html! {
        section #cover aria-label="Cover" {
            p.farm { "Audit of captured traffic against the vendor's port matrix" }
            p.title { @if farm.is_empty() { "Capture without an inventory" } @else { (escape_control(farm)) } }
            p.verdict { b class=(tone_class(*tone)) { (lead) } (rest) }
            (record(result))
            (inputs(result))
            h2 { "Not looked at" }
            ul { @for item in not_looked_at(result) { li { (item) } } }
            @if result.is_judged() {
                h2 { "Exceptions in force" }
                (exceptions(result))
            }
            h2 { "Signatures" }
            // The script fills this line if a filter of the page leaves something out.
            p #printed.warning hidden {}
            table.signatures {
                thead { tr { @for label in ["", "Name", "Date", "Signature"] { th scope="col" { (label) } } } }
                tbody {
                    @for role in ["Prepared by", "Checked by", "Approved by"] {
                        tr { th scope="row" { (role) } td {} td {} td {} }
                    }
                }
            }
        }
    }
}

/// Returns the table of what was audited, with digests.
fn record(result: &AuditResult<'_>) -> Markup {
    let Head { window, accounting, tool, exceptions, .. } = &result.head;
    html! {
        table.record { tbody {
            tr {
                th scope="row" { "Capture window" }
                td {
                    @match (window.first, window.last) {
                        (Some(first), Some(last)) => {
                            (time_utc(first)) " to " (time_utc(last)) "; " (window.watched_seconds) " s watched, "
                            (audited(accounting))
                        },
                        _ => "The capture contains no frames.",
                    }
                }
            }
            @if let Some((matrix, inventory)) = judged_by(result) {
                tr {
                    th scope="row" { "Matrix" }
                    td { (escape_control(&matrix.name)) " (" (escape_control(&matrix.version)) ")" (sha256(&matrix.sha256)) }
                }
                tr {
                    th scope="row" { "Inventory" }
                    td { (escape_control(file_name(&inventory.file))) (sha256(&inventory.sha256)) }
                }
                @if let Some(list) = exceptions {
                    tr {
                        th scope="row" { "Exceptions" }
                        td { (escape_control(file_name(&list.file))) (sha256(&list.sha256)) }
                    }
                }
            }
            tr { th scope="row" { "Tool" } td { (escape_control(&tool.name)) " " (escape_control(&tool.version)) } }
        } }
    }
}

/// Returns the number of frames that were audited, and of how many if the user left some out.
fn audited(accounting: &Accounting) -> String {
    match accounting.frames_audited() {
        audited if audited == accounting.frames_read => plural(audited, "frame"),
        audited => format!("{audited} of {} audited", plural(accounting.frames_read, "frame")),
    }
}

/// Returns a number of frames in brackets; nothing if there are none.
fn in_brackets(frames: u64) -> String {
    if frames == 0 { String::new() } else { format!(" ({})", plural(frames, "frame")) }
}

/// Returns the inputs with their digests, and those that were not read completely.
fn inputs(result: &AuditResult<'_>) -> Markup {
    let inputs = &result.head.inputs;
    let damaged: Vec<_> = inputs.iter().filter(|input| input.error.is_some()).collect();
    html! {
        div.inputs {
            table.record { tbody {
                @for input in inputs.iter().take(INPUTS) {
                    tr {
                        th scope="row" { "Input" }
                        td {
                            (escape_control(file_name(&input.file))) ", " (plural(input.frames, "frame"))
                            @if let Some(digest) = &input.sha256 { (sha256(digest)) }
                        }
                    }
                }
                @if inputs.len() > INPUTS {
                    tr { th scope="row" { "Input" } td { "and " (inputs.len() - INPUTS) " more, in audit.json" } }
                }
                @if !damaged.is_empty() {
                    tr {
                        th scope="row" { "Not read completely" }
                        td { (list(damaged.iter().map(|input| file_name(&input.file)))) }
                    }
                }
            } }
        }
    }
}

/// Returns a digest on a line of its own.
fn sha256(digest: &str) -> Markup {
    html! { br; span.hash { "SHA-256 " (digest) } }
}

/// Joins the first names of a list, and adds how many more there are.
fn list<'n>(names: impl ExactSizeIterator<Item = &'n str>) -> String {
    let more = names.len().saturating_sub(ITEMS);
    let shown: Vec<_> = names.take(ITEMS).map(escape_control).collect();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// Describes what the audit did not look at or could not assess.
fn not_looked_at(result: &AuditResult<'_>) -> Vec<String> {
    let Head { window, accounting, filter, inputs, conditions, .. } = &result.head;
    let mut items = Vec::new();
    if let Some(filter) = filter {
        let frames = in_brackets(accounting.skipped_for(SkipReason::Filtered));
        let filter = escape_control(filter);
        items.push(format!("Frames that do not match the filter {filter}{frames}"));
    }
    let filters: BTreeSet<&str> =
        inputs.iter().flat_map(|input| &input.capture_filters).map(String::as_str).collect();
    if !filters.is_empty() {
        items.push(format!("Frames that capture filters left out: {}", list(filters.into_iter())));
    }
    if window.since.is_some() || window.until.is_some() {
        let since = window.since.map(|time| format!("before {}", time_utc(time)));
        let until = window.until.map(|time| format!("from {} on", time_utc(time)));
        let both: Vec<String> = since.into_iter().chain(until).collect();
        let frames = in_brackets(accounting.skipped_for(SkipReason::OutsideWindow));
        items.push(format!("Frames {}{frames}", both.join(" and ")));
    }
    let is_requested =
        |name: &str| SkipReason::REQUESTED.iter().any(|reason| reason.name() == name);
    let reasons = accounting.skipped.iter();
    let reasons: Vec<(&str, u64)> = reasons
        .map(|(reason, count)| (reason.as_str(), *count))
        .filter(|(reason, count)| *count > 0 && !is_requested(reason))
        .collect();
    let skipped: u64 = reasons.iter().map(|(_, count)| count).sum();
    if skipped > 0 {
        let reasons: Vec<&str> = reasons.iter().map(|(reason, _)| *reason).collect();
        let frames = plural(skipped, "frame");
        items.push(format!("{frames} that could not be decoded ({})", list(reasons.into_iter())));
    }
    if conditions.loss > 0.0 {
        items.push(format!("{} of the traffic, which the capture lost", percent(conditions.loss)));
    }
    items.extend(partly_seen(result));
    for (code, NotAssessed { meaning, rows, findings, .. }) in
        findings_summary::not_assessed(result)
    {
        let what = match (rows, findings) {
            (rows, 0) => format!("{} of the matrix", plural(rows, "row")),
            (0, findings) => plural(findings, "case"),
            (rows, findings) => {
                format!("{} of the matrix and {}", plural(rows, "row"), plural(findings, "case"))
            }
        };
        items.push(format!("{what}: {meaning} ({code})"));
    }
    for (status, reason) in [
        (Status::RoleAbsent, "no host of the inventory has one of the roles"),
        (Status::FeatureOff, "the inventory states that a required feature is off"),
    ] {
        let rows = result.head.summary.matrix_rows.get(status.name()).copied().unwrap_or(0);
        if rows > 0 {
            let rows = plural(rows, "row");
            items.push(format!("{rows} of the matrix: {reason} ({})", status.name()));
        }
    }
    items.push("Traffic inside a host, and traffic that did not cross a captured link".to_owned());
    items
}

/// Lists the hosts that the capture does not show completely, by coverage.
fn partly_seen(result: &AuditResult<'_>) -> Vec<String> {
    let mut hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for host in result.hosts().filter(|host| host.coverage != Coverage::Full.name()) {
        hosts.entry(host.coverage.into_owned()).or_default().push(host.name.into_owned());
    }
    let words = hosts.into_iter().map(|(coverage, names)| {
        let count = plural(names.len() as u64, "host");
        let coverage = escape_control(&coverage).into_owned();
        format!("{count} with the coverage {coverage}: {}", list(names.iter().map(String::as_str)))
    });
    words.collect()
}

/// Returns the exceptions that have not expired.
fn exceptions(result: &AuditResult<'_>) -> Markup {
    let all = result.exceptions();
    let is_in_force = |exception: &&ExceptionUse<'_>| !exception.has_status("expired");
    let in_force: Vec<_> = all.iter().filter(is_in_force).collect();
    html! {
        @if !all.is_empty() {
            @let used = all.iter().filter(|exception| exception.has_status("used")).count();
            @let used_in_force = in_force.iter().filter(|exception| exception.has_status("used")).count();
            p {
                "In the list: " (plural(all.len() as u64, "exception")) ", of which " (in_force.len()) " in force and "
                (all.len() - in_force.len()) " expired. With captured traffic: " (used) ", of which " (used_in_force)
                " in force and " (used - used_in_force) " expired."
            }
        }
        @if in_force.is_empty() {
            p { "None." }
        } @else {
            ul {
                @for exception in in_force.iter().take(EXCEPTIONS) {
                    li {
                        b { (escape_control(&exception.id)) } " permits " (escape_control(&exception.scope_words()))
                        ": " (escape_control(&exception.reason)) "; owner " (escape_control(&exception.owner))
                        ", approved by " (escape_control(&exception.approved_by))
                        @if !exception.ticket.is_empty() { ", ticket " (escape_control(&exception.ticket)) }
                        ", until " span.date { (escape_control(&exception.expires)) }
                        @if exception.has_status("unused") { "; unused" }
                        @for question in exception.questions() { "; " b.warning { "⚠ " (question) } }
                    }
                }
                @if in_force.len() > EXCEPTIONS { li { "and " (in_force.len() - EXCEPTIONS) " more, in the section Exceptions" } }
            }
        }
    }
}
