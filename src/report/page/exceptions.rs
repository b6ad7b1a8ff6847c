//! Lists the exceptions, each with the traffic that it allowed.

use maud::{Markup, html};

use super::wording::{time, unbroken};
use crate::model::escape_control;
use crate::result::{AuditResult, ExceptionUse};

/// The maximum number of exceptions that are shown. `exceptions.csv` lists all of them.
const EXCEPTIONS: usize = 1000;

/// The maximum number of clients or servers that a row shows.
const MEMBERS: usize = 10;

/// Returns the section of the exceptions; nothing without exceptions.
pub(super) fn table(result: &AuditResult<'_>) -> Markup {
    let exceptions = result.exceptions();
    html! {
        @if !exceptions.is_empty() {
            section #exceptions aria-labelledby="exceptions-title" {
                h2 #exceptions-title { "Exceptions" }
                p {
                    "An exception permits traffic that the matrix does not permit and that somebody has approved. An exception that is still valid at the "
                    "end of the capture, but for at most 30 more days, is expiring."
                }
                div.scroll tabindex="0" role="region" aria-label="Table of exceptions" {
                    table {
                        thead { tr {
                            @for label in [
                                "Exception", "Permits", "Reason", "Status", "Owner", "Approved by", "Ticket", "Created to expires",
                                "Conversations", "Clients", "Servers", "Last seen (UTC)",
                            ] {
                                th scope="col" { (label) }
                            }
                        } }
                        tbody { @for exception in exceptions.iter().take(EXCEPTIONS) { (row(exception)) } }
                    }
                }
                @if exceptions.len() > EXCEPTIONS {
                    p { "and " (exceptions.len() - EXCEPTIONS) " more in exceptions.csv" }
                }
            }
        }
    }
}

fn row(exception: &ExceptionUse<'_>) -> Markup {
    let needs_attention = exception.status.iter().any(|word| word != "used");
    html! {
        tr class=(if needs_attention { "partly" } else { "" }) {
            th scope="row" { (unbroken(&exception.id)) }
            td { (escape_control(&exception.scope_words())) }
            td { (escape_control(&exception.reason)) }
            td {
                (escape_control(&exception.status.join(", ")))
                @for question in exception.questions() { " " span.warning { "⚠ " (question) } }
            }
            td { (escape_control(&exception.owner)) }
            td { (escape_control(&exception.approved_by)) }
            td { (escape_control(&exception.ticket)) }
            td {
                span.date { (escape_control(&exception.created)) } " to "
                span.date { (escape_control(&exception.expires)) }
            }
            td.number {
                (exception.conversations)
                @if exception.conversations_expired > 0 {
                    " (" (exception.conversations_expired) " after the exception had expired)"
                }
            }
            td { (members(&exception.clients)) }
            td { (members(&exception.servers)) }
            td.time { (time(exception.last_seen)) }
        }
    }
}

/// Returns the members of a list, up to [`MEMBERS`] of them, and a hint if there are more.
fn members(members: &[String]) -> Markup {
    html! {
        @for (number, member) in members.iter().take(MEMBERS).enumerate() {
            @if number > 0 { ", " }
            (unbroken(member))
        }
        @if members.len() > MEMBERS { ", and more in exceptions.csv" }
    }
}
