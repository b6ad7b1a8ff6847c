//! Writes the comparison of two audits as text, Markdown, JSON or HTML.

use std::io::{self, Write};

use anstyle::Style;
use maud::{DOCTYPE, PreEscaped, html};
use serde::Serialize;

use super::markdown;
use super::styles::{BOLD, DIM, GREEN, RED, YELLOW};
use crate::classify::Severity;
use crate::model::escape_control;
use crate::result::{
    AuditResult, Change, Comparison, FindingChange, HostRename, Time, plural, short,
};

/// The name of the JSON layout. Its number changes when a key is renamed or removed.
const SCHEMA: &str = "rasaudit.diff/1";

/// A function that writes a comparison in one format.
type ComparisonWriter = fn(&ComparisonReport<'_>, &mut dyn Write) -> io::Result<()>;

/// The formats of a comparison, by the value for `--format`.
pub const COMPARISON_FORMATS: &[(&str, ComparisonWriter)] =
    &[("text", text), ("markdown", markdown), ("json", json), ("html", page)];

/// Facts about one of the two audits, as the reports show them.
#[derive(Serialize, Debug)]
pub struct ComparedAudit {
    /// The file as the user named it.
    pub file: String,
    /// The name of the farm; `None` without an inventory.
    pub farm: Option<String>,
    /// The version of rasaudit that wrote the result.
    pub version: String,
    /// The time of the earliest frame; `None` if no frame has a timestamp.
    pub first: Option<Time>,
    /// The time of the latest frame; `None` if no frame has a timestamp.
    pub last: Option<Time>,
    /// The length in seconds of the longest period that the capture watched without a break.
    pub watched_seconds: u64,
    /// The name and the SHA-256 of the matrix; `None` without an inventory.
    pub matrix: Option<[String; 2]>,
    /// The file and the SHA-256 of the inventory; `None` without an inventory.
    pub inventory: Option<[String; 2]>,
    /// The number of findings above info. Only these are compared.
    pub findings: u64,
}

impl ComparedAudit {
    /// Returns the facts about a result that was read from `file`.
    pub fn of(file: String, result: &AuditResult<'_>) -> Self {
        let head = &result.head;
        Self {
            file,
            farm: head.farm.clone(),
            version: head.tool.version.clone(),
            first: head.window.first,
            last: head.window.last,
            watched_seconds: head.window.watched_seconds,
            matrix: head.matrix.as_ref().map(|m| [m.name.clone(), m.sha256.clone()]),
            inventory: head.inventory.as_ref().map(|i| [i.file.clone(), i.sha256.clone()]),
            findings: result.briefs().filter(|brief| brief.severity > Severity::Info).count()
                as u64,
        }
    }

    /// Describes the time range and the watched time of the capture.
    fn window(&self) -> String {
        let times = self.first.zip(self.last);
        times.map_or_else(
            || "no frames with timestamps".to_owned(),
            |(first, last)| {
                format!(
                    "{} to {} UTC, {} s watched",
                    short(first.0),
                    short(last.0),
                    self.watched_seconds
                )
            },
        )
    }
}

/// A comparison of two audits, as the reports show it.
#[derive(Serialize, Debug)]
pub struct ComparisonReport<'a> {
    /// The name of the JSON layout, [`SCHEMA`].
    schema: &'static str,
    /// The facts about the earlier audit.
    old: ComparedAudit,
    /// The facts about the later audit.
    new: ComparedAudit,
    /// The changes of the findings, with their causes, and other differences.
    #[serde(flatten)]
    comparison: &'a Comparison,
}

impl<'a> ComparisonReport<'a> {
    /// Returns the report of a comparison.
    pub fn new(old: ComparedAudit, new: ComparedAudit, comparison: &'a Comparison) -> Self {
        Self { schema: SCHEMA, old, new, comparison }
    }

    /// Returns the number of findings with each change, on one line.
    fn headline(&self) -> String {
        let count = |change: Change| self.comparison.count(change);
        format!(
            "{} new, {} worse, {} grown, {} gone, {} better, {} excepted, {} unchanged",
            count(Change::New),
            count(Change::Worse),
            count(Change::Grown),
            count(Change::Gone),
            count(Change::Better),
            count(Change::Excepted),
            count(Change::Same)
        )
    }

    /// Returns the findings that have a cause: those that differ, and those whose outcome only one
    /// of the audits shows.
    fn differing(&self) -> impl Iterator<Item = &FindingChange> {
        self.comparison.findings.iter().filter(|finding| finding.cause.is_some())
    }
}

fn style_of(change: Change) -> Style {
    match change {
        Change::New | Change::Worse => RED,
        Change::Grown => YELLOW,
        Change::Gone | Change::Better | Change::Excepted => GREEN,
        Change::Same => DIM,
    }
}

/// Writes the comparison for a terminal. The caller strips the styles if the output does not go to
/// a terminal.
fn text(report: &ComparisonReport<'_>, out: &mut dyn Write) -> io::Result<()> {
    let escape = |text: &str| escape_control(text).into_owned();
    writeln!(out, "{BOLD}{}{BOLD:#}", report.headline())?;
    writeln!(out)?;
    for (name, audit) in [("Old", &report.old), ("New", &report.new)] {
        let findings = plural(audit.findings, "finding");
        writeln!(
            out,
            "{BOLD}{name:<10}{BOLD:#}{}: {}, {findings}",
            escape(&audit.file),
            audit.window()
        )?;
    }
    for words in &report.comparison.warnings {
        writeln!(out, "{RED}{:<10}{RED:#}{}", "Warning", escape(words))?;
    }
    for words in &report.comparison.differences {
        writeln!(out, "{BOLD}{:<10}{BOLD:#}{}", "Differs", escape(words))?;
    }
    for HostRename { old, new, .. } in &report.comparison.renames {
        writeln!(out, "{BOLD}{:<10}{BOLD:#}{} is now {}", "Renamed", escape(old), escape(new))?;
    }
    for finding in report.differing() {
        let style = style_of(finding.change);
        let guess = if finding.certain { "" } else { " (not certain)" };
        writeln!(out)?;
        writeln!(
            out,
            "{style}{:<9}{style:#} {} {}/{}{guess} {DIM}{}{DIM:#}",
            finding.change.name(),
            finding.severity,
            finding.verdict,
            finding.code,
            finding.id
        )?;
        writeln!(out, "          {}", escape(&finding.message))?;
        writeln!(out, "          {BOLD}why{BOLD:#}: {}", escape(&finding.reason))?;
    }
    Ok(())
}

/// Writes the comparison as Markdown, for example for a ticket.
fn markdown(report: &ComparisonReport<'_>, out: &mut dyn Write) -> io::Result<()> {
    let text = markdown::text;
    writeln!(out, "# {}\n", report.headline())?;
    for (name, audit) in [("Old", &report.old), ("New", &report.new)] {
        writeln!(
            out,
            "- **{name}**: {}, {}, {}",
            text(&audit.file),
            audit.window(),
            plural(audit.findings, "finding")
        )?;
    }
    for words in &report.comparison.warnings {
        writeln!(out, "- **Warning**: {}", text(words))?;
    }
    for words in &report.comparison.differences {
        writeln!(out, "- **Differs**: {}", text(words))?;
    }
    for HostRename { old, new, .. } in &report.comparison.renames {
        writeln!(out, "- **Renamed**: {} is now {}", text(old), text(new))?;
    }
    let mut last = None;
    for finding in report.differing() {
        if last != Some(finding.change) {
            let name = finding.change.name();
            let (first, rest) = name.split_at(1);
            writeln!(out, "\n## {}{rest}\n", first.to_uppercase())?;
            last = Some(finding.change);
        }
        let guess = if finding.certain { "" } else { " (not certain)" };
        writeln!(
            out,
            "- **{} {}/{}**{guess} {}: {}  \n  Why: {}",
            finding.severity,
            finding.verdict,
            finding.code,
            markdown::quoted(&finding.id),
            text(&finding.message),
            text(&finding.reason)
        )?;
    }
    Ok(())
}

fn json(report: &ComparisonReport<'_>, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

/// The style sheet of the page, which is readable in light and dark mode, on paper and on a narrow
/// screen.
const STYLE: &str = "\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\
h1{font-size:1.4rem}h2{font-size:1.15rem;margin-top:2rem;text-transform:capitalize}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:0}dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}\
article{border-left:.3rem solid #8884;padding:.2rem .8rem;margin:.8rem 0;overflow-wrap:anywhere}article p{margin:.2rem 0}\
.new,.worse{border-color:#c0392b}.grown{border-color:#b7791f}.gone,.better,.excepted{border-color:#2e7d32}\
code{font-size:.9em}";

/// Writes the comparison as a page that needs no network and no script.
fn page(report: &ComparisonReport<'_>, out: &mut dyn Write) -> io::Result<()> {
    let comparison = report.comparison;
    let escape = |text: &str| escape_control(text).into_owned();
    let mut changes: Vec<(Change, Vec<&FindingChange>)> = Vec::new();
    for finding in report.differing() {
        match changes.last_mut() {
            Some((change, list)) if *change == finding.change => list.push(finding),
            _ => changes.push((finding.change, vec![finding])),
        }
    }
    let farm = report.new.farm.as_deref().unwrap_or("two audits");
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                title { (escape(farm)) " compared · rasaudit" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (report.headline()) }
                    dl {
                        @for (name, audit) in [("Old", &report.old), ("New", &report.new)] {
                            dt { (name) }
                            dd {
                                (escape(&audit.file)) ": " (audit.window()) ", "
                                (plural(audit.findings, "finding"))
                            }
                        }
                        @for words in &comparison.warnings {
                            dt { "Warning" }
                            dd { (escape(words)) }
                        }
                        @for words in &comparison.differences {
                            dt { "Differs" }
                            dd { (escape(words)) }
                        }
                        @for HostRename { old, new, .. } in &comparison.renames {
                            dt { "Renamed" }
                            dd { (escape(old)) " is now " (escape(new)) }
                        }
                    }
                    @for (change, findings) in changes {
                        h2 { (change.name()) " (" (comparison.count(change)) ")" }
                        @for finding in findings {
                            article class=(change.name()) {
                                p {
                                    strong { (finding.severity) " " (finding.verdict) "/" (finding.code) }
                                    @if !finding.certain { " (not certain)" }
                                    " " code { (finding.id) }
                                }
                                p { (escape(&finding.message)) }
                                p { "Why: " (escape(&finding.reason)) }
                            }
                        }
                    }
                }
            }
        }
    };
    out.write_all(markup.into_string().as_bytes())
}
