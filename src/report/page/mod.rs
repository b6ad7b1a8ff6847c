//! `report.html`: one page that a manager understands in ten seconds and an engineer works from for an hour.
//!
//! One file, without a network: style and script are in it, and its policy lets nothing else run. What can be read
//! without the script is markup, made here; the table of findings is made by the script from data that hold no markup.
//! Every text comes through a template that escapes it, or through `textContent`.

mod coverage;
mod data;
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
use super::rows;
use super::story::{self, Fact, Headline, NotAssessed, Tone};
use super::{Report, Time};
use crate::classify::{Severity, Verdict};
use crate::model::clean;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Conversations that are shown, the largest ones; all of them are in `conversations.csv`.
const CONVERSATIONS: usize = 200;

/// Findings that stand at the top.
const WORST: usize = 5;

/// Inputs that are shown; all of them are in `audit.json`.
const INPUTS: usize = 50;

/// The page as a file.
pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    page(report, None, out)
}

/// The page as a live audit serves it after so many windows, which asks for the next one when there is one.
pub fn write_live(report: &Report<'_>, windows: u64, out: &mut dyn Write) -> io::Result<()> {
    page(report, Some(windows), out)
}

fn page(report: &Report<'_>, windows: Option<u64>, out: &mut dyn Write) -> io::Result<()> {
    let connect = if windows.is_some() { "self" } else { "none" };
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let rules = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src '{connect}'; \
         base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    let Headline { tone, lead, rest } = story::headline(report);
    let farm_name = report.policy.map_or("", |policy| policy.inventory.farm.as_str());
    let title = match farm_name {
        "" => "rasaudit".to_owned(),
        name => format!("{} · rasaudit", clean(name)),
    };
    let farm = Farm::of(report);
    let judged = report.policy.is_some();
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
                a.skip href="#main" { "To the content" }
                header {
                    p.farm { (clean(farm_name)) }
                    h1 class=(tone_class(tone)) { (lead) span { (rest) } }
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
                        }
                        a href="#conversations" { "Conversations" }
                    }
                    p #live hidden {}
                    p #said.skip role="status" {}
                }
                main #main tabindex="-1" {
                    (overview(report))
                    @if let Some(farm) = &farm {
                        (heat::map(farm))
                        (graph::draw(report, farm))
                    }
                    (timeline::draw(report))
                    @if judged { (findings()) }
                    @if let Some(farm) = &farm {
                        (matrix::table(report, farm))
                        (coverage::table(report))
                    }
                    (conversations(report))
                }
                footer {
                    p { "rasaudit " (env!("CARGO_PKG_VERSION")) ". Times are UTC, of the packets." }
                }
            }
        }
    };
    // What is left is data and script, before the body's end.
    let end = "</body></html>";
    let top = top.into_string();
    let whole = top.strip_suffix(end).unwrap_or(&top);
    out.write_all(whole.as_bytes())?;
    out.write_all(b"<script type=\"application/json\" id=\"data\">")?;
    data::write(report, farm.as_ref(), out)?;
    out.write_all(b"</script><script>")?;
    out.write_all(SCRIPT.as_bytes())?;
    out.write_all(b"</script>")?;
    out.write_all(end.as_bytes())
}

/// The class of a tone.
fn tone_class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Faint => "faint",
        Tone::Good => "good",
        Tone::Warning => "warning",
        Tone::Bad => "bad",
    }
}

/// What can be known in ten seconds.
fn overview(report: &Report<'_>) -> Markup {
    let count = |wanted: &dyn Fn(&crate::classify::Finding) -> bool| {
        report.findings().iter().filter(|f| wanted(f)).count()
    };
    let worst = story::told(report).into_iter().take(WORST);
    let worst: Vec<_> = worst.filter_map(|told| Some((report.tell(told.finding)?, told))).collect();
    let not_assessed = story::not_assessed(report);
    html! {
        section #overview aria-labelledby="overview-title" {
            h2 #overview-title { "Overview" }
            @if report.policy.is_some() {
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
                        @for verdict in Verdict::ALL.iter().filter(|v| count(&|f| f.verdict() == **v) > 0) {
                            li class={ "tile verdict " (verdict.name()) } {
                                a href={ "#findings?verdict=" (verdict.name()) } {
                                    b { (count(&|f| f.verdict() == *verdict)) } " " (verdict.name())
                                }
                            }
                        }
                    }
                }
            }
            @if !worst.is_empty() {
                ol.worst {
                    @for (finding, told) in &worst {
                        li {
                            span class={ "sev " (finding.severity.name()) } { (finding.severity.name()) } " "
                            a href={ "#findings?open=" (finding.id) } { (clean(&told.message(finding))) }
                            @if !finding.certain { " " span.tag { "not certain" } }
                        }
                    }
                }
            }
            dl.facts {
                @for Fact { tone, label, text } in story::facts(report) {
                    div class=(tone_class(tone)) { dt { (label) } dd { (text) } }
                }
                @if let Some(policy) = report.policy {
                    div { dt { "Coverage" } dd { (story::coverage(report, policy)) } }
                    div { dt { "Judged by" } dd {
                        (clean(&policy.matrix.name)) " " span.hash { (policy.matrix.sha256) } ", "
                        (clean(&policy.inventory.file)) " " span.hash { (policy.inventory.sha256) }
                    } }
                }
            }
            @if !not_assessed.is_empty() {
                h3 { "What could not be assessed" }
                ul.open {
                    @for (code, NotAssessed { meaning, rows, findings, first }) in &not_assessed {
                        li {
                            b { (code.name()) } ", " (meaning) ": "
                            @if *rows > 0 {
                                a href={ "#matrix?reason=" (code.name()) } { (story::plural(*rows, "row")) " of the matrix" }
                            }
                            @if *rows > 0 && *findings > 0 { "; " }
                            @if let Some(first) = first {
                                a href={ "#findings?code=" (code.name()) } { (story::plural(*findings, "finding")) }
                                ", for example: " (clean(first))
                            }
                        }
                    }
                }
            }
            (read(report))
        }
    }
}

/// What was judged, and by what, with digests.
fn read(report: &Report<'_>) -> Markup {
    html! {
        details.read {
            summary { "What was read, and what it was judged by" }
            div.scroll tabindex="0" role="region" aria-label="Inputs" {
                table {
                    thead { tr {
                        th scope="col" { "What" } th scope="col" { "Name" } th scope="col" { "SHA-256" }
                        th scope="col" { "Frames" } th scope="col" { "Lost" }
                    } }
                    tbody {
                        @if let Some(policy) = report.policy {
                            tr {
                                th scope="row" { "matrix" }
                                td { (clean(&policy.matrix.name)) " (" (clean(&policy.matrix.title)) ")" }
                                td.hash { (policy.matrix.sha256) } td {} td {}
                            }
                            tr {
                                th scope="row" { "inventory" }
                                td { (clean(&policy.inventory.file)) }
                                td.hash { (policy.inventory.sha256) } td {} td {}
                            }
                            @if !policy.exceptions.file.is_empty() {
                                tr {
                                    th scope="row" { "exceptions" }
                                    td { (clean(&policy.exceptions.file)) }
                                    td.hash { (policy.exceptions.sha256) } td {} td {}
                                }
                            }
                        }
                        @for input in report.inputs.iter().take(INPUTS) {
                            tr {
                                th scope="row" { (clean(&input.format)) }
                                td { (clean(&input.name)) }
                                td.hash { (input.sha256.as_deref().unwrap_or_default()) }
                                td.number { (input.account.frames) }
                                td.number { (input.loss.dropped) }
                            }
                        }
                    }
                }
            }
            @if report.inputs.len() > INPUTS {
                p { "and " (report.inputs.len() - INPUTS) " more inputs, in audit.json" }
            }
        }
    }
}

/// The place of the findings, which the script fills.
fn findings() -> Markup {
    html! {
        section #findings aria-labelledby="findings-title" {
            h2 #findings-title { "Findings" }
            noscript { p.warning { "Findings are shown by a script, which does not run here: see findings.csv." } }
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
                            ("server", "To"), ("port", "Port"), ("count", "Count"), ("message", "What"),
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

/// The largest conversations.
fn conversations(report: &Report<'_>) -> Markup {
    let list = &report.outcome.conversations.list;
    let total = list.len();
    let bytes = |number: &usize| list[*number].to_server.bytes.0 + list[*number].to_client.bytes.0;
    let mut largest: Vec<usize> = (0..total).collect();
    largest.sort_by_cached_key(|number| (std::cmp::Reverse(bytes(number)), *number));
    largest.truncate(CONVERSATIONS);
    let end = |address: std::net::IpAddr, name: &str| match name {
        "" => html! { (address) },
        name => html! { (clean(name)) " " span.faint { (address) } },
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
                        @for label in ["Client", "Server", "Port", "Verdict", "State", "Packets", "Bytes", "From", "Until"] {
                            th scope="col" { (label) }
                        }
                    } }
                    tbody {
                        @for number in largest {
                            @let row = rows::conversation_at(report, number);
                            tr {
                                td { (end(row.client, row.client_name)) }
                                td { (end(row.server, row.server_name)) }
                                td { (row.transport) @if let Some(port) = row.port { " " (port) } }
                                td { @if !row.verdict.is_empty() { (row.verdict) "/" (row.code) } }
                                td { (row.state) }
                                td.number { (row.packets_to_server + row.packets_to_client) }
                                td.number { (row.bytes_to_server + row.bytes_to_client) }
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

/// A time to the second, if there is one.
fn time(time: Option<Time>) -> String {
    time.map_or_else(String::new, |Time(time)| story::short(time))
}
