//! Lists every row of the matrix with its status, grouped like the vendor's tables, so that a
//! reader can tick the rows off.

use maud::{Markup, html};

use super::farm::{Farm, Standing};
use crate::classify::Status;
use crate::model::escape_control;
use crate::result::{AuditResult, MatrixRow, SiteRow};

/// The maximum number of host names that are listed in a cell.
const NAMES: usize = 6;

pub(super) fn table(result: &AuditResult<'_>, farm: &Farm<'_>) -> Markup {
    let site = farm.site;
    let rows = site.rows.iter().zip(result.matrix_rows()).enumerate();
    let rows: Vec<_> = rows.map(|(number, (row, seen))| (number, row, seen)).collect();
    let version = result.head.matrix.as_ref().map_or("", |matrix| matrix.version.as_str());
    // The rows are in the order of the document, in which the rows of one table need not be
    // adjacent.
    let mut tables: Vec<String> = Vec::new();
    for (_, row, _) in &rows {
        let name = table_name(row);
        if !tables.contains(&name) {
            tables.push(name);
        }
    }
    html! {
        section #matrix aria-labelledby="matrix-title" {
            h2 #matrix-title { "The matrix, row by row" }
            p {
                (escape_control(version)) ", " (rows.len()) " rows: "
                @for (number, status) in Status::ALL.iter().enumerate() {
                    @let count = rows.iter().filter(|(.., seen)| seen.status == status.name()).count();
                    @if number > 0 { ", " } (count) " " (status.name())
                }
                "."
            }
            p #rows-note {}
            form #rows hidden { label { "Rows " select name="rows" { option value="" { "all" } } } }
            @for name in &tables {
                @let rows_of_table = || rows.iter().filter(|(_, row, _)| table_name(row) == *name);
                @let is_open = rows_of_table().any(|(.., seen)| matches!(Status::parse(&seen.status), Some(Status::Missing | Status::NotAssessable | Status::Seen)));
                details open[is_open] {
                    summary { (escape_control(name)) span.faint { " · " (rows_of_table().count()) " rows" } }
                    div.scroll tabindex="0" role="region" aria-label={ "Rows of " (escape_control(name)) } {
                        table.rows {
                            (table_head())
                            tbody {
                                @for (number, row, seen) in rows_of_table() {
                                    @let destination = match &row.only {
                                        Some(only) => only,
                                        None => &site.roles[row.destination].name,
                                    };
                                    @let reason = (!seen.reason.is_empty()).then_some(&seen.reason);
                                    tr id={ "row-" (number) } data-status=(seen.status) data-reason=[reason] {
                                        td { (status_cell(seen)) }
                                        td { (escape_control(&site.roles[row.source].name)) }
                                        td { (escape_control(destination)) }
                                        td { (seen.transport) " " (seen.ports) }
                                        td { (escape_control(&row.purpose)) @if !row.features.is_empty() { span.faint { " if " (escape_control(&row.features.join(" and "))) } } }
                                        td { (seen.need) }
                                        td.number { (seen.conversations) }
                                        td { (hosts_cell(seen)) }
                                        td { (escape_control(&seen.provenance)) br; code { (escape_control(&seen.rule)) } }
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

/// Returns the name of the table of the document, or of the overlay, that a row belongs to.
fn table_name(row: &SiteRow) -> String {
    let overlay = row.overlay.as_ref().map(|overlay| format!("overlay {overlay}"));
    overlay.unwrap_or_else(|| row.section.clone())
}

fn table_head() -> Markup {
    html! {
        thead { tr {
            @for label in ["Status", "From", "To", "Port", "Purpose", "Need", "Conversations", "Hosts", "Source and row"] {
                th scope="col" { (label) }
            }
        } }
    }
}

/// Returns the status of a row, with its symbol and its reason.
fn status_cell(seen: &MatrixRow<'_>) -> Markup {
    let shown = match Status::parse(&seen.status) {
        Some(Status::Seen) => Some(Standing::Seen),
        Some(Status::Missing) => Some(Standing::Missing),
        Some(Status::NotAssessable) => Some(Standing::NotAssessable),
        Some(Status::NotExpected) => Some(Standing::Silent),
        Some(Status::RoleAbsent | Status::FeatureOff) | None => None,
    };
    html! {
        span.status {
            @if let Some((class, flag, _)) = shown.map(Standing::shown) {
                span class={ "cell " (class) } aria-hidden="true" { (flag) } " "
            }
            (seen.status)
            @if !seen.reason.is_empty() { span.faint { " " (seen.reason) } }
        }
    }
}

/// Returns the source hosts that were seen, and those that are missing.
fn hosts_cell(seen: &MatrixRow<'_>) -> Markup {
    let list = |names: &[String]| {
        let shown: Vec<&str> = names.iter().take(NAMES).map(String::as_str).collect();
        let more = names.len() - shown.len();
        let shown = escape_control(&shown.join(", ")).into_owned();
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    html! {
        (list(&seen.source_hosts_seen))
        @if !seen.source_hosts_missing.is_empty() {
            @if !seen.source_hosts_seen.is_empty() { br; }
            span.missing { "missing: " (list(&seen.source_hosts_missing)) }
        }
    }
}
