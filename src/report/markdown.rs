//! Writes the report of an audit for a ticket: `--format markdown`.

use std::io::{self, Write};

use super::findings_summary::{self, NotAssessed, SummaryFinding};
use super::limits::{Limit, limits};
use crate::model::escape_control;
use crate::result::{AuditResult, ConfigurationFile, ExceptionUse, FindingRow, Headline, plural};

/// The maximum number of findings that are reported in full, worst first, so that the report fits
/// into a ticket. The list of the findings that a finding explains, and that of the findings that
/// no longer appear, have the same maximum.
const SHOWN: usize = 25;

/// The maximum number of exceptions that are listed.
const EXCEPTIONS: usize = 100;

pub(super) fn write(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let head = &result.head;
    let Headline { lead, rest, .. } = &head.headline;
    writeln!(out, "# {}{}\n", text(lead), text(rest))?;
    // The findings that are gone have a section of their own.
    for note in head.notes.iter().filter(|note| note.label != "Gone") {
        writeln!(out, "- **{}**: {}", note.label, text(&note.text))?;
    }
    if result.is_judged() {
        writeln!(out, "- **Coverage**: {}", text(&head.coverage_note))?;
    }
    let findings = findings_summary::shown_findings(result);
    for (number, summary) in findings.iter().take(SHOWN).enumerate() {
        if number == 0 {
            writeln!(out, "\n## Findings")?;
        }
        write_finding(result, summary, out)?;
        let explained = result.briefs().enumerate();
        let explained = explained.filter(|(_, f)| f.explained_by == Some(summary.number));
        for FindingRow { id, severity, verdict, code, message, .. } in
            explained.take(SHOWN).filter_map(|(number, _)| result.finding(number))
        {
            let message = text(&message);
            writeln!(out, "- explains {} ({severity} {verdict}/{code}): {message}", quoted(&id))?;
        }
        if summary.explains > SHOWN {
            writeln!(out, "- and {} more", summary.explains - SHOWN)?;
        }
    }
    if findings.len() > SHOWN {
        writeln!(out, "\nand {} more (`--format csv` lists all of them)", findings.len() - SHOWN)?;
    }
    write_gone(result, out)?;
    write_exceptions(result, out)?;
    writeln!(out, "\n## Not assessed\n")?;
    for limit in limits(result) {
        write!(out, "- {}", text(&limit.words()))?;
        if let Limit::Reason(_, NotAssessed { first: Some(first), .. }) = &limit {
            write!(out, ", for example: {}", text(first))?;
        }
        writeln!(out)?;
    }
    write_inputs(result, out)
}

/// Writes the list of findings of the baseline that no longer appear, with the reasons.
fn write_gone(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let gone = result.head.known.as_ref().map_or(&[][..], |known| &known.gone);
    for (number, finding) in gone.iter().take(SHOWN).enumerate() {
        if number == 0 {
            writeln!(out, "\n## Gone since the baseline\n")?;
        }
        write!(out, "- {} {}", quoted(&finding.id), text(&finding.message))?;
        if !finding.baseline_reason.is_empty() {
            write!(out, " **{}**: {}", finding.baseline_state, text(&finding.baseline_reason))?;
        }
        writeln!(out)?;
    }
    if gone.len() > SHOWN {
        writeln!(out, "\nand {} more (`--format csv` lists all of them)", gone.len() - SHOWN)?;
    }
    Ok(())
}

/// Writes the list of exceptions, each with the traffic that it allowed.
fn write_exceptions(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let exceptions = result.exceptions();
    for (number, exception) in exceptions.iter().take(EXCEPTIONS).enumerate() {
        if number == 0 {
            writeln!(out, "\n## Exceptions\n")?;
        }
        let ExceptionUse { id, owner, approved_by, reason, created, expires, .. } = exception;
        write!(out, "- {}", quoted(id))?;
        if !exception.status.is_empty() {
            write!(out, " **{}**", text(&exception.status.join(", ")))?;
        }
        let scope = exception.scope_words();
        if !scope.is_empty() {
            write!(out, " permits {}", quoted(&scope))?;
        }
        write!(
            out,
            ": {}; owner {}, approved by {}, created {created}, expires {expires}",
            text(reason),
            text(owner),
            text(approved_by)
        )?;
        if !exception.ticket.is_empty() {
            write!(out, ", ticket {}", text(&exception.ticket))?;
        }
        write!(out, "; {}", text(&exception.use_words()))?;
        for question in exception.questions() {
            write!(out, "; **warning**: {question}")?;
        }
        writeln!(out)?;
    }
    if exceptions.len() > EXCEPTIONS {
        let more = exceptions.len() - EXCEPTIONS;
        writeln!(out, "\nand {more} more (`--format exceptions` lists all of them)")?;
    }
    Ok(())
}

fn write_finding(
    result: &AuditResult<'_>,
    summary: &SummaryFinding,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Some(finding) = result.finding(summary.number) else { return Ok(()) };
    let FindingRow { id, severity, verdict, code, action, .. } = &finding;
    let guess = if finding.certain { "" } else { " (not certain)" };
    writeln!(out, "\n### {severity} {verdict}/{code}{guess} {}\n", quoted(id))?;
    writeln!(out, "{}\n", line_start(&summary.message(result, &finding)))?;
    if !action.is_empty() {
        writeln!(out, "**To do**: {}\n", text(action))?;
    }
    for line in result.trace(summary.number) {
        writeln!(out, "- {}", line_start(&line))?;
    }
    if let (Some(first), Some(last)) = (finding.first_seen, finding.last_seen) {
        writeln!(out, "- seen from {first} to {last}")?;
    }
    if !finding.baseline_state.is_empty() {
        write!(out, "- since the baseline: **{}**", text(&finding.baseline_state))?;
        if !finding.baseline_reason.is_empty() {
            write!(out, ", {}", text(&finding.baseline_reason))?;
        }
        writeln!(out)?;
    }
    if !finding.display_filter.is_empty() {
        writeln!(out, "- Wireshark: {}", quoted(&finding.display_filter))?;
    }
    Ok(())
}

/// Writes the list of files that the audit is based on, with their digests.
fn write_inputs(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    const INPUTS: usize = 20;
    writeln!(out, "\n## Inputs\n")?;
    let head = &result.head;
    writeln!(out, "- {} {}", text(&head.tool.name), text(&head.tool.version))?;
    if let Some((matrix, inventory)) = head.matrix.as_ref().zip(head.inventory.as_ref()) {
        writeln!(out, "- matrix {}, SHA-256 {}", text(&matrix.words()), quoted(&matrix.sha256))?;
        for document in &matrix.documents {
            writeln!(out, "- source {}", text(&document.words()))?;
        }
        writeln!(
            out,
            "- inventory {}, SHA-256 {}",
            text(&inventory.file),
            quoted(&inventory.sha256)
        )?;
        if let Some(exceptions) = &head.exceptions {
            let file = &exceptions.file;
            let sha256 = &exceptions.sha256;
            writeln!(out, "- exceptions {}, SHA-256 {}", text(file), quoted(sha256))?;
        }
    }
    if let Some(baseline) = head.known.as_ref().and_then(|known| known.baseline.as_ref()) {
        write!(out, "- baseline {}", text(&baseline.file))?;
        if !baseline.window().is_empty() {
            write!(out, ", {}", baseline.window())?;
        }
        let digest = baseline.sha256.as_ref().map(|digest| format!(", SHA-256 {}", quoted(digest)));
        writeln!(out, "{}", digest.unwrap_or_default())?;
    }
    if let Some(ConfigurationFile { file, sha256, .. }) = &head.configuration {
        writeln!(out, "- configuration {}, SHA-256 {}", text(file), quoted(sha256))?;
    }
    for input in head.inputs.iter().take(INPUTS) {
        let digest = input.sha256.as_ref().map(|digest| format!(", SHA-256 {}", quoted(digest)));
        let name = line_start(&input.file);
        let frames = input.frames;
        writeln!(out, "- {name}: {}{}", plural(frames, "frame"), digest.unwrap_or_default())?;
    }
    match head.inputs.len().saturating_sub(INPUTS) {
        0 => Ok(()),
        more => writeln!(out, "- and {more} more (`--format json` lists all)"),
    }
}

/// Escapes markup (by CommonMark, section 2.4, any ASCII punctuation may be escaped). It also
/// breaks up URLs, host names that begin with `www`, and mentions, so that GitHub does not turn
/// them into links.
pub(super) fn text(text: &str) -> String {
    let text = escape_control(text);
    let mut plain = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let before = &text[..at];
        let after = &text[at + c.len_utf8()..];
        let is_escaped = match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '&' | '!' | '$' => {
                true
            }
            ':' => after.starts_with("//"),
            '.' => {
                before.len() >= 3
                    && before.is_char_boundary(before.len() - 3)
                    && before[before.len() - 3..].eq_ignore_ascii_case("www")
            }
            _ => false,
        };
        if is_escaped {
            plain.push('\\');
        }
        plain.push(c);
    }
    // Text from a packet must not turn into a mention of a user.
    plain.replace('@', "@<!-- -->")
}

/// Escapes a string at the start of a line, where it could also begin a list, a thematic break or a
/// code block.
fn line_start(line: &str) -> String {
    let line = text(line.trim());
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let after = line.as_bytes().get(digits + 1).copied();
    let starts_list = match line.as_bytes().get(digits) {
        // A list marker is followed by a space or the end of the line, unlike the first number of
        // an IP address.
        Some(b'.' | b')') => digits > 0 && matches!(after, None | Some(b' ' | b'\t')),
        Some(b'-' | b'+' | b'=') => digits == 0,
        _ => false,
    };
    if starts_list { format!("{}\\{}", &line[..digits], &line[digits..]) } else { line }
}

/// Returns a string as a code span, in which markup is not interpreted. The span is enclosed in
/// more backticks than the string contains in a row.
pub(super) fn quoted(text: &str) -> String {
    let text = escape_control(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let space = if longest > 0 { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_packet_says_is_no_markup() {
        assert_eq!(text("a_b*c [x](y) <b>"), "a\\_b\\*c \\[x\\](y) \\<b\\>");
        assert_eq!(text("http://evil WWW.evil"), "http\\://evil WWW\\.evil");
        assert_eq!(text("10.0.0.1: ok"), "10.0.0.1: ok");
        assert_eq!(text("@all"), "@<!-- -->all");
        for (start, escaped) in [
            ("- a", "\\- a"),
            ("1. a", "1\\. a"),
            ("12) a", "12\\) a"),
            ("    a", "a"),
            ("10.0.0.1 b", "10.0.0.1 b"),
        ] {
            assert_eq!(line_start(start), escaped);
        }
        assert_eq!(quoted("a"), "`a`");
        assert_eq!(quoted("a``b"), "``` a``b ```");
    }
}
