//! Writes `report.html`: a page that a manager can understand in ten seconds, and that an engineer
//! can work with for an hour.
//!
//! The page is a single file and needs no network. It contains its style and script, and its
//! content security policy does not allow anything else to run. Everything that is readable without
//! the script is markup generated here. The script builds the table of findings from JSON data
//! without markup. All strings are inserted by a template that escapes them, or through
//! `textContent`.

mod conversations;
mod cover;
mod coverage;
mod data;
mod exceptions;
mod farm;
mod findings;
mod graph;
mod groups;
mod heat;
mod matrix;
mod overview;
mod timeline;
mod wording;

use std::io::{self, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use self::farm::Farm;
use self::groups::FarmGroups;
use self::wording::{FolderNames, tone_class};
use crate::model::escape_control;
use crate::result::{AuditResult, FindingRow, Headline, Tone};

const STYLE: &str = concat!(include_str!("page.css"), include_str!("print.css"));
const SCRIPT: &str = concat!(include_str!("lines.js"), include_str!("page.js"));

/// The maximum number of findings in the page, worst first. `findings.csv` lists all of them.
const FINDINGS: usize = 2000;

/// Writes the page for a file. This page does not reload itself.
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
    let names = FolderNames::of(result);
    let shown = result.findings().take(FINDINGS).map(|mut finding| {
        finding.message = names.removed_from(&finding.message);
        finding.action = names.removed_from(&finding.action);
        finding
    });
    let findings: Vec<FindingRow<'_>> = shown.collect();
    let groups = farm.as_ref().map(|farm| FarmGroups::of(result, farm, &findings));
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
                    (cover::sheet(result))
                    (overview::section(result))
                    @if result.is_judged() { (findings::section(&findings)) }
                    @if let Some(farm) = &farm {
                        (heat::map(farm))
                        (matrix::table(result, farm))
                    }
                    @if let Some((farm, groups)) = farm.as_ref().zip(groups.as_ref()) {
                        (graph::draw(result, farm, groups))
                    }
                    (timeline::draw(result))
                    @if farm.is_some() { (coverage::table(result)) }
                    (exceptions::table(result))
                    (conversations::table(result))
                }
                footer {
                    p { "rasaudit " (env!("CARGO_PKG_VERSION")) ". Times of traffic are packet times in UTC." }
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
    data::write(result, farm.as_ref(), groups.as_ref(), findings, out)?;
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
                a href="#findings" { "Findings" }
                a href="#map" { "Map" }
                a href="#matrix" { "Matrix" }
                a href="#graph" { "Farm" }
            }
            a href="#timeline" { "Timeline" }
            @if judged {
                a href="#coverage" { "Coverage" }
                @if !result.exceptions().is_empty() { a href="#exceptions" { "Exceptions" } }
            }
            a href="#conversations" { "Conversations" }
        }
    }
}
