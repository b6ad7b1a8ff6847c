//! The first sheet of the printed page: the headline, what was audited, with digests, what was not
//! assessed, the exceptions in force, and places for signatures. The screen does not show it.

use maud::{Markup, html};

use super::overview::judged_by;
use super::wording::{dated, file_name, time_utc, tone_class};
use crate::model::escape_control;
use crate::report::limits::{first_names, limits};
use crate::result::{Accounting, AuditResult, ExceptionUse, Head, Headline, OptionSetting, plural};

/// The maximum numbers of listed inputs and exceptions, so that the cover fits on one sheet.
const INPUTS: usize = 8;
const EXCEPTIONS: usize = 6;

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
            h2 { "Not assessed" }
            ul { @for limit in limits(result) { li { (dated(&limit.words())) } } }
            @if result.is_judged() {
                h2 { "Exceptions in force" }
                (exceptions(result))
            }
            h2 { "Signatures" }
            // The script fills this line if the printed page omits findings or rows, for example
            // because of a filter.
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
    let Head { window, accounting, tool, exceptions, configuration, known, .. } = &result.head;
    html! {
        table.record { tbody {
            tr {
                th scope="row" { "Capture window" }
                td {
                    @match (window.first, window.last) {
                        (Some(first), Some(last)) => {
                            (dated(&time_utc(first))) " to " (dated(&time_utc(last))) "; " (window.watched_seconds) " s watched, "
                            (audited(accounting))
                        },
                        _ => "No frame with a timestamp was audited.",
                    }
                }
            }
            @if let Some((matrix, inventory)) = judged_by(result) {
                tr {
                    th scope="row" { "Matrix" }
                    td { (escape_control(&matrix.words())) " (" (escape_control(&matrix.version)) ")" (sha256(&matrix.sha256)) }
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
            @if let Some(baseline) = known.as_ref().and_then(|known| known.baseline.as_ref()) {
                tr {
                    th scope="row" { "Baseline" }
                    td {
                        (escape_control(file_name(&baseline.file)))
                        @if !baseline.window().is_empty() { ", " (baseline.window()) }
                        @if let Some(digest) = &baseline.sha256 { (sha256(digest)) }
                    }
                }
            }
            @if let Some(file) = configuration {
                tr {
                    th scope="row" { "Configuration" }
                    td { (escape_control(file_name(&file.file))) (sha256(&file.sha256)) }
                }
            }
            @if !result.head.settings.is_empty() {
                tr { th scope="row" { "Settings" } td { (settings(result)) } }
            }
            tr {
                th scope="row" { "Result" }
                td {
                    "audit.json; manifest.sha256 lists the digests of all reports"
                    br;
                    "First 16 digits of the SHA-256 of manifest.sha256: ________________"
                }
            }
            tr { th scope="row" { "Tool" } td { (escape_control(&tool.name)) " " (escape_control(&tool.version)) } }
        } }
    }
}

/// Lists the first few options that differ from their defaults and affect the judgement.
fn settings(result: &AuditResult<'_>) -> String {
    let settings: Vec<String> = result.head.settings.iter().map(OptionSetting::words).collect();
    first_names(settings.iter().map(String::as_str))
}

/// Returns the number of frames that were audited and, if the user left some out, the number of all
/// frames that were read.
fn audited(accounting: &Accounting) -> String {
    match accounting.frames_audited() {
        audited if audited == accounting.frames_read => plural(audited, "frame"),
        audited => format!("{audited} of {} audited", plural(accounting.frames_read, "frame")),
    }
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
                    tr { th scope="row" { "Input" } td { "and " (inputs.len() - INPUTS) " more in audit.json" } }
                }
                @if !damaged.is_empty() {
                    tr {
                        th scope="row" { "Not read completely" }
                        td { (first_names(damaged.iter().map(|input| file_name(&input.file)))) }
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

/// Returns the numbers of exceptions, and the first [`EXCEPTIONS`] that have not expired.
fn exceptions(result: &AuditResult<'_>) -> Markup {
    let all = result.exceptions();
    let is_in_force = |exception: &&ExceptionUse<'_>| !exception.has_status("expired");
    let in_force: Vec<_> = all.iter().filter(is_in_force).collect();
    html! {
        @if !all.is_empty() {
            @let used = all.iter().filter(|exception| exception.has_status("used")).count();
            @let used_in_force = in_force.iter().filter(|exception| exception.has_status("used")).count();
            p {
                "In the list: " (plural(all.len() as u64, "exception")) " (" (in_force.len()) " in force, "
                (all.len() - in_force.len()) " expired). With captured traffic: " (used) " (" (used_in_force)
                " in force, " (used - used_in_force) " expired)."
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
                @if in_force.len() > EXCEPTIONS { li { "and " (in_force.len() - EXCEPTIONS) " more in the section Exceptions" } }
            }
        }
    }
}
