//! Lists the largest conversations.

use maud::{Markup, html};

use super::wording::{time, unbroken};
use crate::result::{AuditResult, plural};

/// The maximum number of conversations that are shown, largest first. `conversations.csv` lists all
/// of them.
const CONVERSATIONS: usize = 200;

/// The number of conversations that are printed. The style sheet has the same number.
const ON_PAPER: usize = 15;

/// Returns the section of the largest conversations.
pub(super) fn table(result: &AuditResult<'_>) -> Markup {
    let total = result.conversations_len();
    let mut largest: Vec<(std::cmp::Reverse<u64>, usize)> =
        result.conversation_briefs().map(|talk| std::cmp::Reverse(talk.bytes)).zip(0..).collect();
    largest.sort_unstable();
    largest.truncate(CONVERSATIONS);
    let name_and_address = |address: std::net::IpAddr, name: &str| match name {
        "" => unbroken(&address.to_string()),
        name => html! { (unbroken(name)) " " span.faint { (unbroken(&address.to_string())) } },
    };
    html! {
        section #conversations aria-labelledby="conversations-title" {
            h2 #conversations-title { "Conversations" }
            p {
                @if total > CONVERSATIONS { "The " (CONVERSATIONS) " largest of " (total) "; all of them are in conversations.csv." }
                @else if total > 1 { "All " (total) ", the largest first." }
                @else { (plural(total as u64, "conversation")) "." }
                @if largest.len() > ON_PAPER { span.paper { " The largest " (ON_PAPER) " are printed." } }
            }
            div.scroll tabindex="0" role="region" aria-label="Table of conversations" {
                table {
                    thead { tr {
                        @for label in ["Client", "Server", "Port", "Verdict", "State", "Packets", "Bytes", "First seen (UTC)", "Last seen (UTC)"] {
                            th scope="col" { (label) }
                        }
                    } }
                    tbody {
                        @for row in largest.iter().filter_map(|(_, number)| result.conversation(*number)) {
                            tr {
                                td { (name_and_address(row.client, &row.client_name)) }
                                td { (name_and_address(row.server, &row.server_name)) }
                                td.word { (row.transport) @if let Some(port) = row.port { " " (port) } }
                                td { @if !row.verdict.is_empty() { (unbroken(&format!("{}/{}", row.verdict, row.code))) } }
                                td.word { (row.state) }
                                td.number { (row.packets_to_server.saturating_add(row.packets_to_client)) }
                                td.number { (row.bytes_to_server.saturating_add(row.bytes_to_client)) }
                                td.time { (time(row.first_seen)) }
                                td.time { (time(row.last_seen)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
