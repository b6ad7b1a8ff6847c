//! Summarizes the result: the counts, the worst findings, the notes, and what was read.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::wording::{FolderNames, dated, file_name, severity, tone_class};
use crate::classify::{Severity, Verdict};
use crate::model::escape_control;
use crate::report::findings_summary::{self, NotAssessed};
use crate::report::limits::{Limit, limits, rows_of_matrix};
use crate::result::{AuditResult, InventoryFile, JudgedBy, LostFrames, Note, plural};

/// The maximum number of findings that the overview shows. The list of the findings that are gone
/// since the baseline is folded if it is longer than this.
const WORST: usize = 5;

/// The maximum number of inputs that are shown. `audit.json` lists all of them.
const INPUTS: usize = 50;

/// Returns the overview, which a reader can understand in ten seconds.
pub(super) fn section(result: &AuditResult<'_>) -> Markup {
    let mut by_severity: BTreeMap<Severity, usize> = BTreeMap::new();
    let mut by_verdict: BTreeMap<Verdict, usize> = BTreeMap::new();
    for brief in result.briefs() {
        *by_severity.entry(brief.severity).or_default() += 1;
        brief.verdict.into_iter().for_each(|verdict| *by_verdict.entry(verdict).or_default() += 1);
    }
    let worst = findings_summary::shown_findings(result).into_iter().take(WORST);
    let worst: Vec<_> =
        worst.filter_map(|summary| Some((result.finding(summary.number)?, summary))).collect();
    let names = FolderNames::of(result);
    // The findings that no longer appear have a list of their own.
    let has_own_list = |note: &&Note| note.label != "Gone" || result.gone().is_empty();
    let notes = result.head.notes.iter().filter(has_own_list);
    html! {
        section #overview aria-labelledby="overview-title" {
            h2 #overview-title { "Overview" }
            @if result.is_judged() {
                div.tiles {
                    ul aria-label="Findings by severity" {
                        @for level in Severity::ALL.iter().rev() {
                            @let found = by_severity.get(level).copied().unwrap_or_default();
                            li class={ "tile severity " (level.name()) @if found == 0 { " none" } } {
                                a href={ "#findings?severity=" (level.name()) } {
                                    b { (found) } " " (severity(level.name()))
                                }
                            }
                        }
                    }
                    ul aria-label="Findings by verdict" {
                        @for (verdict, found) in &by_verdict {
                            li class={ "tile verdict " (verdict.name()) } {
                                a href={ "#findings?verdict=" (verdict.name()) } {
                                    b { (found) } " " (verdict.name())
                                }
                            }
                        }
                    }
                }
            }
            @if !worst.is_empty() {
                ol.worst.screen {
                    @for (finding, summary) in &worst {
                        li {
                            (severity(&finding.severity)) " "
                            a href={ "#findings?open=" (finding.id) } { (escape_control(&names.removed_from(&summary.message(result, finding)))) }
                            @if !finding.certain { " " span.tag { "not certain" } }
                        }
                    }
                }
            }
            dl.facts {
                @for Note { tone, label, text } in notes {
                    div class=(tone_class(*tone)) { dt { (label) } dd { (dated(&names.removed_from(text))) } }
                }
                @if let Some((matrix, inventory)) = judged_by(result) {
                    div { dt { "Coverage" } dd { (result.head.coverage_note) } }
                    div.screen { dt { "Policy" } dd {
                        (escape_control(&matrix.words())) " " span.hash { (matrix.sha256) } ", "
                        (escape_control(file_name(&inventory.file))) " " span.hash { (inventory.sha256) }
                    } }
                }
            }
            (gone_list(result, &names))
            h3 { "Not assessed" }
            ul.open { @for limit in limits(result) { li { (limit_line(&limit, &names)) } } }
            (inputs_table(result))
        }
    }
}

/// Returns something that was not assessed, with links to its rows of the matrix and its findings.
fn limit_line(limit: &Limit, names: &FolderNames<'_>) -> Markup {
    match limit {
        Limit::Capture(text) => html! { (dated(text)) },
        Limit::Rows { status, rows, meaning } => html! {
            a href={ "#matrix?status=" (status.name()) } { (rows_of_matrix(*rows)) }
            ": " (meaning) " (" (status.name()) ")"
        },
        Limit::Reason(code, NotAssessed { meaning, rows, findings, first }) => html! {
            @if *rows > 0 {
                a href={ "#matrix?reason=" (code.name()) } { (rows_of_matrix(*rows)) }
            }
            @if *rows > 0 && *findings > 0 { " and " }
            @if *findings > 0 {
                a href={ "#findings?code=" (code.name()) } { (plural(*findings, "finding")) }
            }
            ": " (meaning) " (" (code.name()) ")"
            @if let Some(first) = first {
                ", for example: " (escape_control(&names.removed_from(first)))
            }
        },
    }
}

/// Returns the table of the files that the audit is based on, with digests: the matrix, the
/// inventory, the exceptions, the baseline, the configuration and the inputs.
fn inputs_table(result: &AuditResult<'_>) -> Markup {
    html! {
        details.read {
            summary { "Inputs, matrix and inventory, with SHA-256" }
            div.scroll tabindex="0" role="region" aria-label="Inputs" {
                table {
                    thead { tr {
                        th scope="col" { "Kind" } th scope="col" { "Name" } th scope="col" { "SHA-256" }
                        th scope="col" { "Frames" } th scope="col" { "Lost" }
                    } }
                    tbody {
                        @if let Some((matrix, inventory)) = judged_by(result) {
                            tr {
                                th scope="row" { "matrix" }
                                td { (escape_control(&matrix.words())) " (" (escape_control(&matrix.version)) ")" }
                                td.hash { (matrix.sha256) } td {} td {}
                            }
                            tr {
                                th scope="row" { "inventory" }
                                td { (escape_control(&inventory.file)) }
                                td.hash { (inventory.sha256) } td {} td {}
                            }
                            @if let Some(exceptions) = &result.head.exceptions {
                                tr {
                                    th scope="row" { "exceptions" }
                                    td { (escape_control(&exceptions.file)) }
                                    td.hash { (exceptions.sha256) } td {} td {}
                                }
                            }
                        }
                        @if let Some(baseline) = result.head.known.as_ref().and_then(|known| known.baseline.as_ref()) {
                            tr {
                                th scope="row" { "baseline" }
                                td {
                                    (escape_control(&baseline.file))
                                    @if !baseline.window().is_empty() { ", " (baseline.window()) }
                                }
                                td.hash { (baseline.sha256.as_deref().unwrap_or_default()) } td {} td {}
                            }
                        }
                        @if let Some(configuration) = &result.head.configuration {
                            tr {
                                th scope="row" { "configuration" }
                                td { (escape_control(&configuration.file)) }
                                td.hash { (configuration.sha256) } td {} td {}
                            }
                        }
                        @for input in result.head.inputs.iter().take(INPUTS) {
                            tr {
                                th scope="row" { (escape_control(&input.format)) }
                                td { (escape_control(&input.file)) }
                                td.hash { (input.sha256.as_deref().unwrap_or_default()) }
                                td.number { (input.frames) }
                                td.number { (lost(&input.loss)) }
                            }
                        }
                    }
                }
            }
            @if result.head.inputs.len() > INPUTS {
                p { "and " (plural((result.head.inputs.len() - INPUTS) as u64, "more input")) " in audit.json" }
            }
        }
    }
}

/// Returns the number of lost frames as text, or `not reported` if the input does not report it.
fn lost(loss: &LostFrames) -> String {
    match loss {
        LostFrames { received: 0, dropped: 0 } => "not reported".to_owned(),
        loss => loss.dropped.to_string(),
    }
}

/// Returns the list of findings of the baseline that no longer appear, with the reasons.
fn gone_list(result: &AuditResult<'_>, names: &FolderNames<'_>) -> Markup {
    let gone = result.head.known.as_ref().map_or(&[][..], |known| &known.gone);
    html! {
        @if !gone.is_empty() {
            details.gone open[gone.len() <= WORST] {
                summary { "Gone since the baseline: " (plural(gone.len() as u64, "finding")) }
                ul {
                    @for finding in gone {
                        li {
                            span.hash { (finding.id) } " " (dated(&escape_control(&names.removed_from(&finding.message))))
                            @if !finding.baseline_reason.is_empty() {
                                " " b { (escape_control(&finding.baseline_state)) } ": " (dated(&escape_control(&finding.baseline_reason)))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the matrix and the inventory that the traffic was judged against; `None` if it was not
/// judged.
pub(super) fn judged_by<'r>(
    result: &'r AuditResult<'_>,
) -> Option<(&'r JudgedBy, &'r InventoryFile)> {
    result.head.matrix.as_ref().zip(result.head.inventory.as_ref())
}
