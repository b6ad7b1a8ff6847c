//! The summary for a terminal: one screen that says the verdict, the worst findings in words, what
//! could not be assessed and why, and where the rest is.
//!
//! Styled for a terminal; the caller strips styles where there is none.

use std::io::{self, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};

use super::story::{self, Fact, Headline, NotAssessed, Tone};
use super::{Places, Report};
use crate::classify::{Finding, Severity};
use crate::model::clean;

/// Findings shown in words; the rest are counted.
const SHOWN: usize = 5;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const YELLOW: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow)));
const RED: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));

/// `--format text`.
pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    summary(report, &Places::default(), None, out)
}

/// The summary; `places` says what was written where. For a terminal of `width` columns
/// sentences are cut to a line each, so that the whole fits one screen.
pub(super) fn summary(
    report: &Report<'_>,
    places: &Places<'_>,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Headline { tone, lead, rest } = story::headline(report);
    let style = style_of(tone);
    writeln!(out, "{style}{lead}{style:#}{rest}")?;
    writeln!(out)?;
    for Fact { tone, label, text } in story::facts(report) {
        let style = if tone == Tone::Plain { BOLD } else { style_of(tone) };
        writeln!(out, "{style}{label}{style:#}{:1$}{text}", "", 10 - label.len())?;
    }
    findings(report, width, out)?;
    not_assessed(report, width, out)?;
    if report.policy.is_none() {
        writeln!(out)?;
        writeln!(out, "To judge them, tell which host plays which role:")?;
        writeln!(out, "  rasaudit inventory template > inventory.toml    (then fill it in)")?;
        writeln!(out, "  rasaudit audit CAPTURE... --inventory inventory.toml --out report/")?;
    }
    let Places { reports, evidence, .. } = places;
    let lines = [
        ("Reports ", reports, "findings, conversations, matrix, hosts as .csv; audit.json"),
        ("Evidence", evidence, "the frames of each finding as ID.pcapng; evidence.csv lists all"),
    ];
    for (number, (name, folder, what)) in lines.iter().filter(|l| l.1.is_some()).enumerate() {
        if number == 0 {
            writeln!(out)?;
        }
        let folder = folder.map_or_else(String::new, |folder| folder.display().to_string());
        writeln!(out, "{BOLD}{name}{BOLD:#}  {} ({what})", clean(&folder))?;
    }
    match reports {
        Some(folder) => page(&folder.join("report.html"), places.links, out),
        None => Ok(()),
    }
}

/// Where the page is: a link where the terminal makes one (OSC 8).
fn page(path: &Path, host: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    let name = path.display().to_string();
    let name = clean(&name);
    write!(out, "{BOLD}Page{BOLD:#}      ")?;
    match host.zip(std::path::absolute(path).ok()) {
        Some((host, whole)) => {
            writeln!(
                out,
                "\u{1b}]8;;file://{host}{}\u{1b}\\{name}\u{1b}]8;;\u{1b}\\",
                encoded(&whole)
            )
        }
        None => writeln!(out, "{name} (for a browser)"),
    }
}

/// A path as part of an address (RFC 3986).
fn encoded(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.fold(String::new(), |mut text, byte| {
        match plain(*byte) {
            true => text.push(char::from(*byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
        text
    })
}

fn style_of(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Faint => DIM,
        Tone::Good => GREEN,
        Tone::Warning => YELLOW,
        Tone::Bad => RED,
    }
}

fn findings(report: &Report<'_>, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let shown = |f: &&Finding| f.severity > Severity::Info;
    let findings: Vec<&Finding> = report.outcome.findings.iter().filter(shown).collect();
    if findings.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    for finding in findings.iter().take(SHOWN) {
        let style = style_of(finding.severity.into());
        let guess = if finding.certain { "" } else { " (not certain)" };
        writeln!(
            out,
            "{style}{:<9}{style:#} {}/{}{guess} {DIM}{}{DIM:#}",
            finding.severity.name(),
            finding.verdict,
            finding.code,
            finding.id
        )?;
        writeln!(out, "          {}", clip(&finding.message, width, 10))?;
    }
    if findings.len() > SHOWN {
        writeln!(out, "          and {} more in findings.csv", findings.len() - SHOWN)?;
    }
    Ok(())
}

/// What could not be assessed, by reason, with an example and what would settle it.
fn not_assessed(report: &Report<'_>, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let mut reasons = story::not_assessed(report);
    // The rows are counted above.
    reasons.retain(|_, reason| reason.first.is_some());
    if reasons.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "{BOLD}Not assessed{BOLD:#}")?;
    for (code, NotAssessed { findings, first, .. }) in reasons {
        let more = match findings.saturating_sub(1) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let first = first.map_or("", |finding| finding.message.as_str());
        let example = clip(first, width, 20 + more.len());
        writeln!(out, "  {code:<17} {example}{more}")?;
    }
    Ok(())
}

/// Text that steers nothing, cut to what a line has room for beside `taken` columns.
fn clip(text: &str, width: Option<usize>, taken: usize) -> String {
    const LEAST: usize = 40;
    let text = clean(text);
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(taken).max(LEAST));
    if text.chars().count() <= room {
        return text.into_owned();
    }
    text.chars().take(room - 1).chain(['…']).collect()
}
