//! Every row of the matrix with what came of it, grouped as the vendor's tables are, to be ticked off beside them.

use maud::{Markup, html};

use super::farm::{Farm, Standing};
use crate::classify::{Code, RowReport, Status};
use crate::model::clean;
use crate::report::Report;

/// Host names that are listed in a cell.
const NAMES: usize = 6;

pub(super) fn table(report: &Report<'_>, farm: &Farm<'_>) -> Markup {
    let matrix = &farm.policy.matrix;
    let rows = matrix.rows.iter().zip(&report.outcome.rows).enumerate();
    let rows: Vec<_> = rows.map(|(number, (row, seen))| (number, row, seen)).collect();
    let table = |row: &crate::classify::Row| {
        row.overlay
            .clone()
            .map_or_else(|| row.section.clone(), |overlay| format!("overlay {overlay}"))
    };
    // The file is in the order of the document, but a table may come in several pieces.
    let mut tables: Vec<String> = Vec::new();
    for (_, row, _) in &rows {
        let name = table(row);
        if !tables.contains(&name) {
            tables.push(name);
        }
    }
    html! {
        section #matrix aria-labelledby="matrix-title" {
            h2 #matrix-title { "The matrix, row by row" }
            p {
                (clean(&matrix.title)) ", " (matrix.rows.len()) " rows: "
                @for (number, status) in Status::ALL.iter().enumerate() {
                    @let count = rows.iter().filter(|(.., seen)| seen.status == *status).count();
                    @if number > 0 { ", " } (count) " " (status.name())
                }
                "."
            }
            p #rows-note {}
            form #rows hidden { label { "Rows " select name="rows" { option value="" { "all" } } } }
            @for name in &tables {
                @let mine = || rows.iter().filter(|(_, row, _)| table(row) == *name);
                @let told = mine().any(|(.., seen)| matches!(seen.status, Status::Missing | Status::NotAssessable | Status::Seen));
                details open[told] {
                    summary { (clean(name)) span.faint { " · " (mine().count()) " rows" } }
                    div.scroll tabindex="0" role="region" aria-label={ "Rows of " (clean(name)) } {
                        table.rows {
                            (head())
                            tbody {
                                @for (number, row, seen) in mine() {
                                    @let destination = match row.only {
                                        Some(_) => matrix.destination_text(row),
                                        None => matrix.roles[row.destination].name.clone(),
                                    };
                                    tr id={ "row-" (number) } data-status=(seen.status.name()) data-reason=[seen.reason.map(Code::name)] {
                                        td { (standing(seen)) }
                                        td { (clean(&matrix.roles[row.source].name)) }
                                        td { (clean(&destination)) }
                                        td { (row.transport.to_string()) " " (row.ports_text()) }
                                        td { (clean(&row.purpose)) @if !row.features.is_empty() { span.faint { " if " (clean(&row.features.join(" and "))) } } }
                                        td { (row.expectation.name()) }
                                        td.number { (seen.conversations) }
                                        td { (hosts(seen)) }
                                        td { (clean(&row.provenance)) br; code { (clean(&row.id)) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn head() -> Markup {
    html! {
        thead { tr {
            @for label in ["Status", "From", "To", "Port", "Purpose", "Need", "Conversations", "Hosts", "Document and row"] {
                th scope="col" { (label) }
            }
        } }
    }
}

/// The status with its sign.
fn standing(seen: &RowReport) -> Markup {
    let shown = match seen.status {
        Status::Seen => Some(Standing::Seen),
        Status::Missing => Some(Standing::Missing),
        Status::NotAssessable => Some(Standing::Unknown),
        Status::NotExpected => Some(Standing::Silent),
        Status::RoleAbsent | Status::FeatureOff => None,
    };
    html! {
        span.status {
            @if let Some((class, sign, _)) = shown.map(Standing::shown) {
                span class={ "cell " (class) } aria-hidden="true" { (sign) } " "
            }
            (seen.status.name())
            @if let Some(reason) = seen.reason { span.faint { " " (reason.name()) } }
        }
    }
}

/// Who was seen, and who should have been.
fn hosts(seen: &RowReport) -> Markup {
    let list = |names: &std::collections::BTreeSet<String>| {
        let some: Vec<&str> = names.iter().take(NAMES).map(String::as_str).collect();
        let more = names.len() - some.len();
        let some = clean(&some.join(", ")).into_owned();
        if more > 0 { format!("{some} and {more} more") } else { some }
    };
    html! {
        (list(&seen.source_hosts_seen))
        @if !seen.source_hosts_missing.is_empty() {
            @if !seen.source_hosts_seen.is_empty() { br; }
            span.missing { "missing: " (list(&seen.source_hosts_missing)) }
        }
    }
}
