//! Lists every row of the matrix with its status, grouped like the vendor's tables, so that a
//! reader can tick the rows off. Rows without expected traffic are folded.

use maud::{Markup, html};

use super::farm::{Farm, Standing};
use super::wording::unbroken;
use crate::classify::Status;
use crate::model::escape_control;
use crate::result::{AuditResult, MatrixRow, Site, SiteRow, plural};

/// The maximum number of host names that are listed in a cell.
const NAMES: usize = 6;

/// A row of the matrix with its index and its status.
type NumberedRow<'r> = (usize, &'r SiteRow, MatrixRow<'r>);

/// The statuses whose rows are folded, with the reason why their traffic was not expected.
const FOLDED: [(Status, &str); 3] = [
    (Status::NotExpected, "the traffic was neither seen nor expected"),
    (Status::RoleAbsent, "the client role or the server role is not assigned in the inventory"),
    (Status::FeatureOff, "the inventory states that a required feature is off"),
];

/// Returns the section of the matrix. The tables of the document contain the rows that were seen,
/// are missing or could not be assessed. The other rows follow, folded by status.
pub(super) fn table(result: &AuditResult<'_>, farm: &Farm<'_>) -> Markup {
    let rows = farm.site.rows.iter().zip(result.matrix_rows()).enumerate();
    let rows: Vec<NumberedRow<'_>> =
        rows.map(|(number, (row, seen))| (number, row, seen)).collect();
    let folded = |status: Status| rows.iter().filter(move |row| has_status(row, status));
    let shown = rows.iter().filter(|row| !FOLDED.iter().any(|fold| has_status(row, fold.0)));
    let shown: Vec<&NumberedRow<'_>> = shown.collect();
    let version = result.head.matrix.as_ref().map_or("", |matrix| matrix.version.as_str());
    let documents = result.head.matrix.as_ref().map_or(&[][..], |matrix| &matrix.documents);
    html! {
        section #matrix aria-labelledby="matrix-title" {
            h2 #matrix-title { "The matrix, row by row" }
            p {
                (escape_control(version)) ", " (plural(rows.len() as u64, "row")) ": "
                @for (number, status) in Status::ALL.iter().enumerate() {
                    @if number > 0 { ", " } (folded(*status).count()) " " (status.name())
                }
                "."
                @if shown.len() < rows.len() {
                    " The rows that were seen, are missing or could not be assessed come first. The other rows (" (rows.len() - shown.len()) ") follow in lists that can be opened."
                }
            }
            @if !documents.is_empty() {
                h3 { "Sources of the rows" }
                ul { @for document in documents { li { (escape_control(&document.words())) } } }
            }
            p #rows-note {}
            form #rows hidden { label { "Rows " select name="rows" { option value="" { "all" } } } }
            @for name in tables(&shown) {
                @let of_table: Vec<&NumberedRow<'_>> = shown.iter().filter(|(_, row, _)| table_name(row) == name).copied().collect();
                details open {
                    summary { (escape_control(&name)) span.faint { " · " (plural(of_table.len() as u64, "row")) } }
                    (rows_table(farm, &of_table, &format!("Rows of {name}")))
                }
            }
            @for (status, reason) in FOLDED {
                @let of_status: Vec<&NumberedRow<'_>> = folded(status).collect();
                @if !of_status.is_empty() {
                    details.fold {
                        summary { (status.name()) span.faint { " · " (plural(of_status.len() as u64, "row")) ": " (reason) } }
                        (rows_table(farm, &of_status, &format!("Rows that are {}", status.name())))
                    }
                }
            }
        }
    }
}

/// Returns whether a row has this status.
fn has_status((_, _, seen): &NumberedRow<'_>, status: Status) -> bool {
    seen.status == status.name()
}

/// Returns the names of the tables that contain these rows, each once. The rows are in the order of
/// the document, but those of one table need not be adjacent.
fn tables(rows: &[&NumberedRow<'_>]) -> Vec<String> {
    let mut tables: Vec<String> = Vec::new();
    for (_, row, _) in rows {
        let name = table_name(row);
        if !tables.contains(&name) {
            tables.push(name);
        }
    }
    tables
}

/// Returns a table of rows.
fn rows_table(farm: &Farm<'_>, rows: &[&NumberedRow<'_>], label: &str) -> Markup {
    let roles = &farm.site.roles;
    html! {
        div.scroll tabindex="0" role="region" aria-label=(escape_control(label)) {
            table.rows {
                (table_head())
                tbody {
                    @for (number, row, seen) in rows {
                        @let reason = (!seen.reason.is_empty()).then_some(&seen.reason);
                        tr id={ "row-" (number) } data-status=(seen.status) data-reason=[reason] data-rule=(escape_control(&seen.rule)) {
                            td { (status_cell(seen)) }
                            td { (role_cell(farm.site, row.source)) }
                            td {
                                @match &row.only {
                                    Some(only) => span title=(escape_control(&roles[row.destination].name)) { (escape_control(only)) },
                                    None => (role_cell(farm.site, row.destination)),
                                }
                            }
                            td.port { (seen.transport) " " (seen.ports) }
                            td.purpose { (escape_control(&row.purpose)) @if !row.features.is_empty() { span.faint { " if " (escape_control(&row.features.join(" and "))) } } }
                            td.word { (seen.need) }
                            td.number { (seen.conversations) }
                            td { (hosts_cell(seen)) }
                            td.source { span { (escape_control(&seen.provenance)) span.screen { ", " (unbroken(&format!("table {}", table_name(row)))) } } br; (rule_name(&seen.rule)) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the short name of a role, with its name as a tooltip.
fn role_cell(site: &Site, role: usize) -> Markup {
    html! { span title=(escape_control(&site.roles[role].name)) { (escape_control(site.short_title(role))) } }
}

/// Returns the name of a row, which may wrap after its dots.
fn rule_name(rule: &str) -> Markup {
    let rule = escape_control(rule);
    html! { code { @for part in rule.split_inclusive('.') { (part) wbr; } } }
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
        let more = names.len().saturating_sub(NAMES);
        html! {
            @for (number, name) in names.iter().take(NAMES).enumerate() {
                @if number > 0 { ", " }
                (unbroken(name))
            }
            @if more > 0 { " and " (more) " more" }
        }
    };
    html! {
        (list(&seen.source_hosts_seen))
        @if !seen.source_hosts_missing.is_empty() {
            @if !seen.source_hosts_seen.is_empty() { br; }
            span.missing { "missing: " (list(&seen.source_hosts_missing)) }
        }
    }
}
