//! Writes the summary for a terminal: the headline, the notes, the worst findings, what could not
//! be assessed and why, and where the reports are.
//!
//! The output contains ANSI styles. The caller strips them if the output does not go to a terminal.

use std::io::{self, Write};
use std::path::Path;

use super::findings_summary::{self, NotAssessed, SummaryCause};
use super::styles::{BOLD, DIM, style_of, style_of_severity};
use super::{OutputPaths, ReportFiles, RowListing};
use crate::classify::Severity;
use crate::model::escape_control;
use crate::result::{AuditResult, FindingRow, Headline, Note, Tone};

/// The maximum number of causes that are shown, each with one of its findings. All other findings
/// are only counted.
const SHOWN: usize = 5;

/// Writes the report of `--format text`.
pub(super) fn write(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    summary(result, &OutputPaths::default(), None, None, out)
}

/// Writes the summary. `places` contains the paths of the written files. `listing` replaces the
/// worst findings. If `width` is given, the headline, the notes, the findings and what could not be
/// assessed are wrapped to this number of columns.
pub(super) fn summary(
    result: &AuditResult<'_>,
    places: &OutputPaths<'_>,
    listing: Option<&RowListing>,
    width: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Headline { tone, lead, rest } = &result.head.headline;
    let style = style_of(*tone);
    let headline = wrapped("", &format!("{lead}{rest}"), width);
    writeln!(
        out,
        "{style}{lead}{style:#}{}",
        headline.strip_prefix(lead.as_str()).unwrap_or(rest)
    )?;
    writeln!(out)?;
    for Note { tone, label, text } in &result.head.notes {
        let style = if *tone == Tone::Plain { BOLD } else { style_of(*tone) };
        let note = wrapped(&format!("{label:<10}"), text, width);
        writeln!(out, "{style}{label}{style:#}{}", &note[label.len()..])?;
    }
    match listing {
        Some(listing) => {
            writeln!(out)?;
            listing.write(result, "text", width, out)?;
        }
        None => write_findings(result, places, width, out)?,
    }
    write_not_assessed(result, width, out)?;
    if !result.is_judged() {
        writeln!(out)?;
        writeln!(
            out,
            "To audit the conversations, rasaudit needs the role of each host. Draft an inventory from the traffic:"
        )?;
        writeln!(
            out,
            "  rasaudit inventory draft CAPTURE... -o inventory.toml    (then correct it)"
        )?;
        writeln!(out, "  rasaudit audit CAPTURE... --inventory inventory.toml --out report/")?;
    }
    let OutputPaths { reports, evidence, files, .. } = places;
    let written = written_files(files);
    let lines = [
        ("Reports ", reports, written.as_str()),
        (
            "Evidence",
            evidence,
            "frames of the findings in ID.pcapng; evidence.csv lists all findings",
        ),
    ];
    for (number, (name, folder, what)) in lines.iter().filter(|l| l.1.is_some()).enumerate() {
        if number == 0 {
            writeln!(out)?;
        }
        let folder = folder.map_or_else(String::new, |folder| folder.display().to_string());
        writeln!(out, "{BOLD}{name}{BOLD:#}  {} ({what})", escape_control(&folder))?;
    }
    match reports.filter(|_| files.contains("html")) {
        Some(folder) => write_page_link(&folder.join("report.html"), places.links, out),
        None => Ok(()),
    }
}

/// Lists the selected files of the reports. If all are selected, the list is abbreviated and omits
/// the page, whose path has a line of its own.
fn written_files(files: &ReportFiles) -> String {
    let has_all = ReportFiles::names().all(|name| files.contains(name));
    if has_all {
        return "findings, conversations, matrix, hosts, exceptions as .csv; audit.json".to_owned();
    }
    let names: Vec<&str> = files.selected().map(|(_, file)| file).collect();
    names.join(", ")
}

/// Writes the path of the page. `host` is the name of this host; if it is given, the path is a
/// hyperlink (OSC 8).
fn write_page_link(path: &Path, host: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
    let name = path.display().to_string();
    let name = escape_control(&name);
    write!(out, "{BOLD}Page{BOLD:#}      ")?;
    match host.zip(std::path::absolute(path).ok()) {
        Some((host, absolute)) => {
            writeln!(
                out,
                "\u{1b}]8;;file://{host}{}\u{1b}\\{name}\u{1b}]8;;\u{1b}\\",
                uri_path(&absolute)
            )
        }
        None => writeln!(out, "{name} (open it in a browser)"),
    }
}

/// Percent-encodes a path for a URI (RFC 3986).
fn uri_path(path: &Path) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.fold(String::new(), |mut text, byte| {
        if is_plain(*byte) {
            text.push(char::from(*byte))
        } else {
            text.push_str(&format!("%{byte:02X}"))
        }
        text
    })
}

fn write_findings(
    result: &AuditResult<'_>,
    places: &OutputPaths<'_>,
    width: Width,
    out: &mut dyn Write,
) -> io::Result<()> {
    let causes = findings_summary::shown_causes(result);
    if causes.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    for SummaryCause { example, count, .. } in causes.iter().take(SHOWN) {
        let Some(finding) = result.finding(example.number) else { continue };
        let severity = Severity::parse(&finding.severity).unwrap_or(Severity::Info);
        let style = style_of_severity(severity);
        let guess = if finding.certain { "" } else { " (not certain)" };
        let FindingRow { severity, verdict, code, id, .. } = &finding;
        let many = match count {
            1 => String::new(),
            count => format!(" and {} more with the same cause", count - 1),
        };
        writeln!(
            out,
            "{style}{severity:<9}{style:#} {verdict}/{code}{guess} {DIM}{id}{DIM:#}{many}"
        )?;
        let message = escape_control(&example.message(result, &finding)).into_owned();
        writeln!(out, "{}", wrapped("          ", &message, width))?;
        if *count > 1 {
            let folder = places.reports.map_or_else(|| "RESULT".to_owned(), shell_word);
            let folder = escape_control(&folder);
            writeln!(
                out,
                "          all {count}: rasaudit show findings {folder} --code {code} --cause {id}"
            )?;
        }
    }
    let (shown, rest) = causes.split_at(causes.len().min(SHOWN));
    let more: usize = rest.iter().map(|cause| cause.count).sum();
    if more > 0 {
        let explained = match shown.iter().chain(rest).map(|cause| cause.explains).sum() {
            0 => String::new(),
            explained => format!(", and {explained} that other findings explain"),
        };
        let place = match places.reports {
            Some(_) if places.files.contains("csv") => "findings.csv lists all",
            Some(_) => "--format csv lists all",
            None => "--format csv lists all, and --out DIR writes them to a folder",
        };
        writeln!(out, "          and {more} more{explained}; {place}")?;
    }
    Ok(())
}

/// Returns a path as one word of a shell command. A path that begins with `-` gets the prefix `./`,
/// so that it is not read as an option.
fn shell_word(path: &Path) -> String {
    let mut text = path.display().to_string();
    if text.starts_with('-') {
        text.insert_str(0, "./");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Writes what could not be assessed: one entry for each reason that a finding has, with an
/// example.
fn write_not_assessed(
    result: &AuditResult<'_>,
    width: Width,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut reasons = findings_summary::not_assessed(result);
    // Reasons without a finding concern only matrix rows, which are not listed here.
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
        let example = format!("{}{more}", escape_control(&first.unwrap_or_default()));
        writeln!(out, "{}", wrapped(&format!("  {code:<17} "), &example, width))?;
    }
    Ok(())
}

/// The width of the terminal in columns; `None` if the output does not go to a terminal.
type Width = Option<usize>;

/// Wraps a string after a label to the width of the terminal, or does not wrap it if `width` is
/// `None`. Further lines are indented by the width of the label.
fn wrapped(first: &str, text: &str, width: Width) -> String {
    /// The minimum width of the text in columns, even if the terminal is narrower.
    const MIN_WIDTH: usize = 40;
    let Some(width) = width else { return format!("{first}{text}") };
    let inset = textwrap::core::display_width(first);
    let options =
        textwrap::Options::new(width.saturating_sub(inset).max(MIN_WIDTH)).break_words(false);
    let lines = textwrap::wrap(text, options);
    let further = format!("\n{}", " ".repeat(inset));
    format!("{first}{}", lines.join(&further))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_command() {
        assert_eq!(shell_word(Path::new("reports/today")), "reports/today");
        assert_eq!(shell_word(Path::new("my report; rm")), "'my report; rm'");
        assert_eq!(shell_word(Path::new("it's")), "'it'\\''s'");
        assert_eq!(shell_word(Path::new("-x/today")), "./-x/today");
        assert_eq!(shell_word(Path::new("-my report")), "'./-my report'");
    }

    #[test]
    fn long_texts_wrap_and_lose_nothing() {
        let text = "one two three four five six seven eight nine ten eleven twelve";
        let told = wrapped("Label     ", text, Some(50));
        assert_eq!(told.lines().count(), 2);
        assert!(told.lines().all(|line| line.len() <= 50));
        assert!(told.lines().nth(1).is_some_and(|line| line.starts_with("          ")));
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&told)[1..], words(text));
        assert_eq!(wrapped("Label     ", text, None), format!("Label     {text}"));
    }
}
