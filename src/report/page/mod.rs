//! Writes `report.html`: a page that a manager can understand in ten seconds, and that an engineer
//! can work with for an hour.
//!
//! The page is a single file and needs no network. It contains its style and script, and its
//! content security policy does not allow anything else to run. Everything that is readable without
//! the script is markup generated here. The script builds the table of findings from JSON data
//! without markup. All strings are inserted by a template that escapes them, or through
//! `textContent`.

mod coverage;
mod data;
mod exceptions;
mod farm;
mod graph;
mod heat;
mod matrix;
mod timeline;

use std::io::{self, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use self::farm::Farm;
use super::findings_summary::{self, NotAssessed};
use crate::classify::{Severity, Verdict};
use crate::model::escape_control;
use crate::result::{
    AuditResult, Brief, Headline, InventoryFile, JudgedBy, Note, Time, Tone, plural, short,
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The maximum number of conversations that are shown, largest first. `conversations.csv` lists all
/// of them.
const CONVERSATIONS: usize = 200;

/// The maximum number of findings that the overview shows.
const WORST: usize = 5;

/// The maximum number of inputs that are shown. `audit.json` lists all of them.
const INPUTS: usize = 50;

/// Writes the page for a file, which does not reload itself.
pub(super) fn write(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    page(result, None, out)
}

/// Writes the page that a live audit serves after `windows` windows. The page loads the next report
/// when another window is closed.
pub fn write_live(result: &AuditResult<'_>, windows: u64, out: &mut dyn Write) -> io::Result<()> {
    page(result, Some(windows), out)
}

fn page(result: &AuditResult<'_>, windows: Option<u64>, out: &mut dyn Write) -> io::Result<()> {
    let connect = if windows.is_some() { "self" } else { "none" };
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let rules = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src '{connect}'; \
         base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    let Headline { tone, lead, rest } = &result.head.headline;
    let farm_name = result.head.farm.as_deref().unwrap_or_default();
    let title = match farm_name {
        "" => "rasaudit".to_owned(),
        name => format!("{} · rasaudit", escape_control(name)),
    };
    let farm = Farm::of(result);
    let judged = result.is_judged();
    let top = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(rules);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body data-window=[windows] {
                a.skip href="#main" { "Skip to content" }
                header {
                    p.farm { (escape_control(farm_name)) }
                    h1 class=(tone_class(*tone)) { (lead) span { (rest) } }
                    (navigation(result))
                    p #live hidden {}
                    p #said.skip role="status" {}
                }
                main #main tabindex="-1" {
                    (overview(result))
                    @if let Some(farm) = &farm {
                        (heat::map(farm))
                        (graph::draw(result, farm))
                    }
                    (timeline::draw(result))
                    @if judged { (findings()) }
                    @if let Some(farm) = &farm {
                        (matrix::table(result, farm))
                        (coverage::table(result))
                    }
                    (exceptions::table(result))
                    (conversations(result))
                }
                footer {
                    p { "rasaudit " (env!("CARGO_PKG_VERSION")) ". All times are packet times in UTC." }
                }
            }
        }
    };
    // The data and the script are inserted before the end of the body.
    let end = "</body></html>";
    let top = top.into_string();
    let start = top.strip_suffix(end).unwrap_or(&top);
    out.write_all(start.as_bytes())?;
    out.write_all(b"<script type=\"application/json\" id=\"data\">")?;
    data::write(result, farm.as_ref(), out)?;
    out.write_all(b"</script><script>")?;
    out.write_all(SCRIPT.as_bytes())?;
    out.write_all(b"</script>")?;
    out.write_all(end.as_bytes())
}

/// Returns the links to the sections.
fn navigation(result: &AuditResult<'_>) -> Markup {
    let judged = result.is_judged();
    html! {
        nav aria-label="Sections" {
            a href="#overview" { "Overview" }
            @if judged {
                a href="#map" { "Matrix map" }
                a href="#graph" { "Farm" }
            }
            a href="#timeline" { "Timeline" }
            @if judged {
                a href="#findings" { "Findings" }
                a href="#matrix" { "Matrix" }
                a href="#coverage" { "Coverage" }
                @if !result.exceptions().is_empty() { a href="#exceptions" { "Exceptions" } }
            }
            a href="#conversations" { "Conversations" }
        }
    }
}

/// Returns the CSS class of a tone.
fn tone_class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain | Tone::Other => "plain",
        Tone::Faint => "faint",
        Tone::Good => "good",
        Tone::Warning => "warning",
        Tone::Bad => "bad",
    }
}

/// Returns the list of findings of the baseline that no longer appear, with the reasons.
fn gone_list(result: &AuditResult<'_>) -> Markup {
    let gone = result.head.known.as_ref().map_or(&[][..], |known| &known.gone);
    html! {
        @if !gone.is_empty() {
            details.gone {
                summary { "Gone since the baseline: " (plural(gone.len() as u64, "finding")) }
                ul {
                    @for finding in gone {
                        li {
                            span.hash { (finding.id) } " " (escape_control(&finding.message))
                            @if !finding.baseline_reason.is_empty() {
                                " " b { (finding.baseline_state) } ": " (escape_control(&finding.baseline_reason))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the overview, which a reader can understand in ten seconds.
fn overview(result: &AuditResult<'_>) -> Markup {
    let briefs: Vec<Brief> = result.briefs().collect();
    let count = |is_counted: &dyn Fn(&Brief) -> bool| {
        briefs.iter().filter(|brief| is_counted(brief)).count()
    };
    let worst = findings_summary::shown_findings(result).into_iter().take(WORST);
    let worst: Vec<_> =
        worst.filter_map(|summary| Some((result.finding(summary.number)?, summary))).collect();
    let not_assessed = findings_summary::not_assessed(result);
    html! {
        section #overview aria-labelledby="overview-title" {
            h2 #overview-title { "Overview" }
            @if result.is_judged() {
                div.tiles {
                    ul aria-label="Findings by severity" {
                        @for severity in Severity::ALL.iter().rev() {
                            li class={ "tile severity " (severity.name()) } {
                                a href={ "#findings?severity=" (severity.name()) } {
                                    b { (count(&|f| f.severity == *severity)) } " " (severity.name())
                                }
                            }
                        }
                    }
                    ul aria-label="Findings by verdict" {
                        @for verdict in Verdict::ALL.iter().filter(|v| count(&|f| f.verdict == Some(**v)) > 0) {
                            li class={ "tile verdict " (verdict.name()) } {
                                a href={ "#findings?verdict=" (verdict.name()) } {
                                    b { (count(&|f| f.verdict == Some(*verdict))) } " " (verdict.name())
                                }
                            }
                        }
                    }
                }
            }
            @if !worst.is_empty() {
                ol.worst {
                    @for (finding, summary) in &worst {
                        li {
                            span class={ "sev " (finding.severity) } { (finding.severity) } " "
                            a href={ "#findings?open=" (finding.id) } { (escape_control(&summary.message(result, finding))) }
                            @if !finding.certain { " " span.tag { "not certain" } }
                        }
                    }
                }
            }
            dl.facts {
                @for Note { tone, label, text } in &result.head.notes {
                    div class=(tone_class(*tone)) { dt { (label) } dd { (text) } }
                }
                @if let Some((matrix, inventory)) = judged_by(result) {
                    div { dt { "Coverage" } dd { (result.head.coverage_note) } }
                    div { dt { "Policy" } dd {
                        (escape_control(&matrix.name)) " " span.hash { (matrix.sha256) } ", "
                        (escape_control(&inventory.file)) " " span.hash { (inventory.sha256) }
                    } }
                }
            }
            (gone_list(result))
            @if !not_assessed.is_empty() {
                h3 { "Not assessed" }
                ul.open {
                    @for (code, NotAssessed { meaning, rows, findings, first }) in &not_assessed {
                        li {
                            b { (code.name()) } ", " (meaning) ": "
                            @if *rows > 0 {
                                a href={ "#matrix?reason=" (code.name()) } { (plural(*rows, "row")) " of the matrix" }
                            }
                            @if *rows > 0 && *findings > 0 { "; " }
                            @if let Some(first) = first {
                                a href={ "#findings?code=" (code.name()) } { (plural(*findings, "finding")) }
                                ", for example: " (escape_control(first))
                            }
                        }
                    }
                }
            }
            (inputs_table(result))
        }
    }
}

/// Returns the table of the inputs, the matrix, the inventory and the exceptions, with digests.
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
                                td { (escape_control(&matrix.name)) " (" (escape_control(&matrix.version)) ")" }
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
                        @for input in result.head.inputs.iter().take(INPUTS) {
                            tr {
                                th scope="row" { (escape_control(&input.format)) }
                                td { (escape_control(&input.file)) }
                                td.hash { (input.sha256.as_deref().unwrap_or_default()) }
                                td.number { (input.frames) }
                                td.number { (input.loss.dropped) }
                            }
                        }
                    }
                }
            }
            @if result.head.inputs.len() > INPUTS {
                p { "and " (result.head.inputs.len() - INPUTS) " more inputs, in audit.json" }
            }
        }
    }
}

/// Returns the matrix and the inventory that the traffic was judged against.
fn judged_by<'r>(result: &'r AuditResult<'_>) -> Option<(&'r JudgedBy, &'r InventoryFile)> {
    result.head.matrix.as_ref().zip(result.head.inventory.as_ref())
}

/// Returns the section of the findings. The script fills its table.
fn findings() -> Markup {
    html! {
        section #findings aria-labelledby="findings-title" {
            h2 #findings-title { "Findings" }
            noscript { p.warning { "The table of findings needs JavaScript. findings.csv lists all findings." } }
            form #filters role="search" aria-label="Filter findings" hidden {
                label { "Text" input type="search" name="text" autocomplete="off"; }
                label { "Severity" select name="severity" { option value="" { "all" } } }
                label { "Verdict" select name="verdict" { option value="" { "all" } } }
                label { "Code" select name="code" { option value="" { "all" } } }
                label { "Role" select name="role" { option value="" { "all" } } }
                label { "From" select name="from" { option value="" { "all" } } }
                label { "To" select name="to" { option value="" { "all" } } }
                label { "Host" input type="search" name="host" autocomplete="off"; }
                label { "Port" input type="search" name="port" inputmode="numeric" autocomplete="off"; }
                button #reset type="reset" { "Clear" }
            }
            p #count role="status" {}
            div.scroll tabindex="0" role="region" aria-label="Table of findings" {
                table #list hidden {
                    thead { tr {
                        @for (key, label) in [
                            ("severity", "Severity"), ("verdict", "Verdict"), ("client", "From"),
                            ("server", "To"), ("port", "Port"), ("count", "Count"), ("message", "Finding"),
                        ] {
                            th scope="col" data-key=(key) { button type="button" { (label) } }
                        }
                    } }
                    tbody {}
                }
            }
            nav #pages aria-label="Pages of findings" hidden {}
        }
    }
}

/// Returns the section of the largest conversations.
fn conversations(result: &AuditResult<'_>) -> Markup {
    let total = result.conversations_len();
    let mut largest: Vec<(std::cmp::Reverse<u64>, usize)> =
        result.conversation_briefs().map(|talk| std::cmp::Reverse(talk.bytes)).zip(0..).collect();
    largest.sort_unstable();
    largest.truncate(CONVERSATIONS);
    let name_and_address = |address: std::net::IpAddr, name: &str| match name {
        "" => html! { (address) },
        name => html! { (escape_control(name)) " " span.faint { (address) } },
    };
    html! {
        section #conversations aria-labelledby="conversations-title" {
            h2 #conversations-title { "Conversations" }
            p {
                @if total > CONVERSATIONS { "The " (CONVERSATIONS) " largest of " (total) "; all of them are in conversations.csv." }
                @else { "All " (total) ", the largest first." }
            }
            div.scroll tabindex="0" role="region" aria-label="Table of conversations" {
                table {
                    thead { tr {
                        @for label in ["Client", "Server", "Port", "Verdict", "State", "Packets", "Bytes", "First seen", "Last seen"] {
                            th scope="col" { (label) }
                        }
                    } }
                    tbody {
                        @for row in largest.iter().filter_map(|(_, number)| result.conversation(*number)) {
                            tr {
                                td { (name_and_address(row.client, &row.client_name)) }
                                td { (name_and_address(row.server, &row.server_name)) }
                                td { (row.transport) @if let Some(port) = row.port { " " (port) } }
                                td { @if !row.verdict.is_empty() { (row.verdict) "/" (row.code) } }
                                td { (row.state) }
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

/// Formats a time with a resolution of one second. Returns an empty string for `None`.
fn time(time: Option<Time>) -> String {
    time.map_or_else(String::new, |Time(time)| short(time))
}
