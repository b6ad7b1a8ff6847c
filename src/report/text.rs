//! The summary for a terminal: one screen that says the verdict, the worst findings in words, what
//! could not be assessed and why, and where the rest is.
//!
//! Styled for a terminal; the caller strips styles where there is none.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::known::changes;
use super::{Places, Report, Time};
use crate::classify::{Coverage, Finding, Severity, Verdict};
use crate::model::{Account, Correction, Duplicates, SkipReason, clean};

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
    headline(report, out)?;
    writeln!(out)?;
    facts(report, out)?;
    findings(report, width, out)?;
    not_assessed(report, width, out)?;
    if report.policy.is_none() {
        writeln!(out)?;
        writeln!(out, "To judge them, tell which host plays which role:")?;
        writeln!(out, "  rasaudit inventory template > inventory.toml    (then fill it in)")?;
        writeln!(out, "  rasaudit audit CAPTURE... --inventory inventory.toml --out report/")?;
    }
    let Places { reports, evidence } = places;
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
    Ok(())
}

fn style_of(severity: Severity) -> Style {
    match severity {
        Severity::Info => DIM,
        Severity::Low => Style::new(),
        Severity::Medium => YELLOW,
        Severity::High | Severity::Critical => RED,
    }
}

/// The verdict in a sentence.
fn headline(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Some(policy) = report.policy else {
        let count = report.outcome.conversations.list.len();
        return writeln!(
            out,
            "{YELLOW}Nothing was judged:{YELLOW:#} without an inventory rasaudit lists conversations ({count} here), no more."
        );
    };
    let name = match policy.inventory.farm.as_str() {
        "" => "the farm",
        name => name,
    };
    let (name, title) = (clean(name), clean(&policy.matrix.title));
    if !report.outcome.assessed_anything() {
        return writeln!(
            out,
            "{YELLOW}Nothing could be assessed:{YELLOW:#} what was read shows no traffic of {name}."
        );
    }
    let findings = &report.outcome.findings;
    let mut counts: BTreeMap<Severity, usize> = BTreeMap::new();
    for finding in findings.iter().filter(|f| f.severity > Severity::Info) {
        *counts.entry(finding.severity).or_default() += 1;
    }
    let total: usize = counts.values().sum();
    let unknown = findings.iter().filter(|f| f.verdict == Verdict::NotAssessable).count();
    let but = match unknown {
        0 => String::new(),
        1 => "; 1 thing could not be assessed".to_owned(),
        n => format!("; {n} things could not be assessed"),
    };
    let partly = report.inputs.iter().any(|i| i.error.is_some() && !i.passed_over);
    let but = if partly { format!("{but}; part of the input could not be read") } else { but };
    let Some(worst) = counts.keys().next_back() else {
        let style = if partly { YELLOW } else { GREEN };
        return writeln!(
            out,
            "{style}No findings:{style:#} what the capture shows of {name} agrees with the {title} matrix{but}."
        );
    };
    let style = style_of(*worst);
    let list: Vec<String> = counts.iter().rev().map(|(s, n)| format!("{n} {s}")).collect();
    let noun = if total == 1 { "finding" } else { "findings" };
    writeln!(
        out,
        "{style}{total} {noun}{style:#} ({}) on {name} against the {title} matrix{but}.",
        list.join(", ")
    )
}

/// What was read, and what it came to.
fn facts(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let account = report.account;
    let mut window = match (account.first.get(), account.last.get()) {
        (Some(first), Some(last)) => format!("{} to {}, ", short(first), short(last)),
        _ => String::new(),
    };
    window.push_str(&format!("{} s watched", report.watched_s));
    writeln!(
        out,
        "{BOLD}Capture{BOLD:#}   {} in {}: {window}",
        plural(account.frames, "frame"),
        plural(report.inputs.iter().filter(|i| !i.passed_over).count() as u64, "input")
    )?;
    writeln!(out, "{BOLD}Frames{BOLD:#}    {}", frames(account))?;
    for (reason, count) in account.skipped.iter() {
        // Unknown link types have lines of their own.
        if let Some(advice) = reason.advice().filter(|_| reason != SkipReason::UnknownLinkType) {
            writeln!(out, "{YELLOW}Skipped{YELLOW:#}   {count} {reason}: {advice}")?;
        }
    }
    for (link, count) in &report.unknown_links {
        let frames = plural(*count, "frame");
        let advice = SkipReason::UnknownLinkType.advice().unwrap_or_default();
        writeln!(
            out,
            "{YELLOW}Links{YELLOW:#}     {frames} of link type {link}, which is not decoded: {advice}"
        )?;
    }
    let mut loss = match report.loss.received {
        0 if report.loss.dropped == 0 => "not reported by the capture".to_owned(),
        _ => format!(
            "{} dropped of {} ({:.2} %)",
            report.loss.dropped,
            report.loss.received,
            report.loss.share() * 100.0
        ),
    };
    let vantage = &report.outcome.conversations.survey.vantage;
    if vantage.loss() > 0.0 && !report.duplicates.are_counted() {
        let share = percent(vantage.loss());
        let least = if vantage.mostly_missing() { "at least " } else { "" };
        loss.push_str(&format!("; {least}{share} of acknowledged TCP bytes were not captured"));
    }
    if account.truncated > 0 {
        loss.push_str(&format!("; {} frames cut short by the snaplen", account.truncated));
    }
    writeln!(out, "{BOLD}Loss{BOLD:#}      {loss}")?;
    views(report, out)?;
    if let Some(filter) = &report.wishes.filter {
        writeln!(
            out,
            "{YELLOW}Filter{YELLOW:#}    {} was on: nothing is claimed to be missing",
            clean(filter)
        )?;
    }
    if report.wishes.since.is_some() || report.wishes.until.is_some() {
        let bound = |time: Option<_>, open: &str| time.map_or_else(|| open.to_owned(), short);
        let (since, until) =
            (bound(report.wishes.since, "the start"), bound(report.wishes.until, "the end"));
        writeln!(out, "{YELLOW}Time{YELLOW:#}      only from {since} to before {until}")?;
    }
    inputs(report, out)?;
    let outcome = report.outcome;
    if report.policy.is_none() {
        return writeln!(
            out,
            "{BOLD}Talks{BOLD:#}     {}",
            plural(outcome.conversations.list.len() as u64, "conversation")
        );
    }
    let counts: Vec<String> =
        outcome.by_verdict().iter().map(|(v, n)| format!("{n} {v}")).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let talks = plural(outcome.judged.len() as u64, "conversation");
    writeln!(out, "{BOLD}Talks{BOLD:#}     {talks}{counts}")?;
    unseen(report, out)?;
    let excepted: u64 = outcome.excepted.iter().sum();
    if excepted > 0 {
        let used = outcome.excepted.iter().filter(|count| **count > 0).count();
        let (talks, of) =
            (plural(excepted, "conversation"), plural(outcome.excepted.len() as u64, "exception"));
        writeln!(out, "{BOLD}Excepted{BOLD:#}  {talks} by {used} of {of}, current or expired")?;
    }
    if let Some(known) = report.known {
        let (new, still, gone) = changes(known, outcome);
        let file = clean(&known.file);
        let gone = gone.len();
        writeln!(
            out,
            "{BOLD}Since{BOLD:#}     {new} new, {still} still there, {gone} gone since {file}"
        )?;
    }
    let mut rows: BTreeMap<_, u64> = BTreeMap::new();
    for row in &outcome.rows {
        *rows.entry(row.status).or_default() += 1;
    }
    let rows: Vec<String> = rows.iter().map(|(status, n)| format!("{n} {status}")).collect();
    writeln!(
        out,
        "{BOLD}Matrix{BOLD:#}    {}: {}",
        plural(outcome.rows.len() as u64, "row"),
        rows.join(", ")
    )
}

/// Hosts of which nothing was seen, and what that leaves open.
fn unseen(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    const SHOWN: usize = 4;
    let Some(policy) = report.policy else { return Ok(()) };
    let hosts = policy.inventory.hosts.iter().zip(&report.outcome.hosts);
    let unseen: Vec<String> = hosts
        .filter(|(host, seen)| !host.is_virtual() && seen.coverage == Coverage::NotSeen)
        .map(|(host, seen)| match seen.rows_not_assessable {
            0 => clean(&host.name).into_owned(),
            rows => format!("{} ({} not assessable)", clean(&host.name), plural(rows, "row")),
        })
        .collect();
    let shown = unseen.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match unseen.len() {
        0 => Ok(()),
        n if n > SHOWN => {
            writeln!(out, "{YELLOW}Unseen{YELLOW:#}    {shown} and {} more", n - SHOWN)
        }
        _ => writeln!(out, "{YELLOW}Unseen{YELLOW:#}    {shown}"),
    }
}

/// How the capture looks at the traffic, where that is not plain: doubled, one-sided or split views.
fn views(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    /// Shares below it are not worth a line.
    const TOLD: f64 = 0.01;
    let Duplicates { sample, correction, .. } = report.duplicates;
    if sample.shows_doubling() {
        let kinds = [
            (sample.same, "the same again"),
            (sample.interfaces, "from another interface"),
            (sample.vlans, "in another VLAN"),
            (sample.hops, "at another hop"),
        ];
        let kinds = kinds.into_iter().filter(|(count, _)| *count > 0);
        let kinds: Vec<_> =
            kinds.map(|(n, name)| format!("{} {name}", percent(sample.share(n)))).collect();
        let done = match correction {
            Correction::Done => "amounts count a packet once",
            Correction::Off => "amounts include them (--dedup off)",
            Correction::NotNeeded => "amounts include them",
            Correction::Impossible => {
                "amounts include them, for this input cannot be read twice (try --dedup on)"
            }
        };
        let share = percent(sample.share(sample.total()));
        let kinds = kinds.join(", ");
        writeln!(out, "{BOLD}View{BOLD:#}      {share} of frames are copies ({kinds}): {done}")?;
    }
    let vantage = &report.outcome.conversations.survey.vantage;
    let lines = [
        (
            vantage.one_sided,
            "are of flows that show one direction only: nothing is claimed of them",
        ),
        (vantage.split, "are of flows whose directions carry different VLAN ids"),
        (vantage.cut_one_way, "are of flows with one direction alone cut short by the snaplen"),
    ];
    for (frames, what) in lines {
        let share = vantage.share(frames);
        if share >= TOLD {
            writeln!(out, "{BOLD}View{BOLD:#}      {} of packets {what}", percent(share))?;
        }
    }
    Ok(())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// What is particular about single inputs, the worst first.
fn inputs(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    const SHOWN: usize = 4;
    let mut lines: Vec<(u8, Style, String)> = Vec::new();
    for input in report.inputs {
        let name = clean(&input.name);
        if let Some(error) = &input.error {
            let (rank, style, how) =
                if input.passed_over { (2, DIM, " passed over:") } else { (0, YELLOW, ":") };
            lines.push((rank, style, format!("{name}{how} {}", clean(error))));
        }
        if let Some(other) = &input.same_as {
            let line = format!("{name} has the content of {} and was read once", clean(other));
            lines.push((3, DIM, line));
        }
        for filter in &input.filters {
            lines.push((
                1,
                YELLOW,
                format!("{name} was captured with the filter {}", clean(filter)),
            ));
        }
    }
    lines.sort_by_key(|line| line.0);
    for (_, style, line) in lines.iter().take(SHOWN) {
        writeln!(out, "{style}Input{style:#}     {line}")?;
    }
    match lines.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "{DIM}Input     and {more} more, in audit.json{DIM:#}"),
    }
}

/// Every frame counted once.
fn frames(account: &Account) -> String {
    let mut text = format!(
        "{} = {} observed + {} skipped",
        account.frames,
        account.observations,
        account.skipped.total()
    );
    let reasons: Vec<String> =
        account.skipped.iter().map(|(reason, n)| format!("{n} {reason}")).collect();
    if !reasons.is_empty() {
        text.push_str(&format!(" ({})", reasons.join(", ")));
    }
    text
}

fn findings(report: &Report<'_>, width: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let shown = |f: &&Finding| f.severity > Severity::Info;
    let findings: Vec<&Finding> = report.outcome.findings.iter().filter(shown).collect();
    if findings.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    for finding in findings.iter().take(SHOWN) {
        let style = style_of(finding.severity);
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
    let mut reasons: BTreeMap<_, Vec<&Finding>> = BTreeMap::new();
    for finding in report.outcome.findings.iter().filter(|f| f.verdict == Verdict::NotAssessable) {
        reasons.entry(finding.code).or_default().push(finding);
    }
    if reasons.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "{BOLD}Not assessed{BOLD:#}")?;
    for (code, findings) in reasons {
        let more = match findings.len() {
            1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        let example = clip(&findings[0].message, width, 20 + more.len());
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

/// A time to the second.
fn short(time: crate::model::Nanos) -> String {
    let text = Time(time).to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
