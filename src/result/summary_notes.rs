//! The headline and the notes at the start of reports for people: the overall verdict in a
//! sentence, what was read, what was found, and what could not be assessed. The terminal, the page
//! and Markdown show the same notes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::OptionSetting;
use super::head::{BaselineFile, Headline, JudgedBy, Note, Tone};
use super::run::AuditRun;
use super::since::changes;
use super::words::{binary_size, percent, plural, short};
use crate::classify::{
    AggregationReport, AggregationStep, Code, Coverage, CoverageStatement, DoubtSource, EDGE_WORDS,
    Policy, Severity, UndeclaredVirtual, Verdict, WORD_S,
};
use crate::model::{
    Correction, Duplicates, FrameCounters, InputRecord, Nanos, SECOND, SkipReason, Transport,
    escape_control, name_and_reason, service_words,
};

impl From<Severity> for Tone {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Info => Self::Faint,
            Severity::Low => Self::Plain,
            Severity::Medium => Self::Warning,
            Severity::High | Severity::Critical => Self::Bad,
        }
    }
}

/// Maximum number of notes of most kinds, and of items in most lists within a note.
const SHOWN: usize = 4;

/// Notes, in the order in which reports show them.
#[derive(Default)]
struct NoteList(Vec<Note>);

impl NoteList {
    fn add(&mut self, tone: Tone, label: &str, text: impl Into<String>) {
        self.0.push(Note { tone, label: label.to_owned(), text: text.into() });
    }
}

/// Returns the overall verdict in a sentence.
pub(super) fn headline(run: &AuditRun<'_>) -> Headline {
    if let Some(reason) = why_no_frames(run) {
        return headline_of(Tone::Warning, "No frame was audited:", format!(" {reason}."));
    }
    let Some(policy) = run.policy else {
        let count = run.outcome.conversations.list.len();
        let rest =
            format!(" without an inventory, rasaudit only lists conversations ({count} here).");
        return headline_of(Tone::Warning, "Nothing was judged:", rest);
    };
    let name = match policy.inventory.farm.trim() {
        "" => "the farm",
        name => name,
    };
    let name = escape_control(name);
    let title = escape_control(&policy.matrix.title);
    if !run.outcome.checked_anything() {
        let rest = format!(
            " the input shows no unicast traffic from a listed host of {name} with a role, except background traffic."
        );
        return headline_of(Tone::Warning, "Nothing could be assessed:", rest);
    }
    let findings = run.outcome.findings();
    let mut counts: BTreeMap<Severity, usize> = BTreeMap::new();
    for finding in findings.iter().filter(|f| f.severity > Severity::Info) {
        *counts.entry(finding.severity).or_default() += 1;
    }
    let total: usize = counts.values().sum();
    let unknown = findings.iter().filter(|f| f.verdict() == Verdict::NotAssessable).count();
    let info = findings.len() - total;
    let but = match (info, unknown) {
        (0, _) => String::new(),
        (info, 0) => format!("; {info} more with severity info"),
        (1, 1) => {
            "; 1 more with severity info, about traffic that could not be assessed".to_owned()
        }
        (info, unknown) if info == unknown => {
            format!(
                "; {info} more with severity info, all about traffic that could not be assessed"
            )
        }
        (info, unknown) => format!(
            "; {info} more with severity info, {unknown} of them about traffic that could not be assessed"
        ),
    };
    let partly = run.inputs.iter().any(|i| i.error.is_some() && !i.passed_over);
    let but = if partly { format!("{but}; part of the input could not be read") } else { but };
    // Without findings above info, "more" would have nothing to refer to.
    let noun = if info == 1 { " finding with" } else { " findings with" };
    let but = if total == 0 { but.replacen(" more with", noun, 1) } else { but };
    let Some(worst) = counts.keys().next_back() else {
        let tone = if partly { Tone::Warning } else { Tone::Good };
        let excepted = run.outcome.by_verdict().get(&Verdict::Excepted).copied().unwrap_or(0);
        let lead = if info == 0 { "No findings:" } else { "No findings above info:" };
        let rest = match excepted {
            0 => format!(" the captured traffic of {name} agrees with the {title} matrix{but}."),
            // Traffic that only an exception permits does not agree with the vendor's matrix, so
            // the headline must not say that it does.
            excepted => format!(
                " the {title} matrix documents the captured traffic of {name}, except {} that {}{but}.",
                plural(excepted, "conversation"),
                if excepted == 1 {
                    "is permitted only by an exception"
                } else {
                    "are permitted only by exceptions"
                }
            ),
        };
        return headline_of(if excepted == 0 { tone } else { Tone::Warning }, lead, rest);
    };
    let list: Vec<String> = counts.iter().rev().map(|(s, n)| format!("{n} {s}")).collect();
    let noun = if total == 1 { "finding" } else { "findings" };
    let excepted = run.outcome.by_verdict().get(&Verdict::Excepted).copied().unwrap_or(0);
    let but = match excepted {
        0 => but,
        1 => format!("{but}; 1 conversation is permitted only by an exception"),
        excepted => {
            format!("{but}; {excepted} conversations are permitted only by exceptions")
        }
    };
    let rest = format!(" ({}) for {name} compared with the {title} matrix{but}.", list.join(", "));
    headline_of(Tone::from(*worst), &format!("{total} {noun}"), rest)
}

/// Says why no frame was audited; `None` if at least one was.
fn why_no_frames(run: &AuditRun<'_>) -> Option<String> {
    let account = run.account;
    if account.observations > 0 {
        return None;
    }
    if account.frames == 0 {
        let is_damaged = run.inputs.iter().any(|i| i.error.is_some());
        let words = if is_damaged {
            "no frame of the input could be read"
        } else {
            "the input has no frames"
        };
        return Some(words.to_owned());
    }
    let left_out = |reason: SkipReason| {
        account.skipped.iter().any(|(skipped, count)| skipped == reason && count == account.frames)
    };
    let read = format!("({} read)", plural(account.frames, "frame"));
    if left_out(SkipReason::Filtered) && !run.unfiltered_links.is_empty() {
        let links = run.unfiltered_links.join(", ");
        Some(format!(
            "the filter matched no frame and cannot be compiled for the link type {links} {read}"
        ))
    } else if left_out(SkipReason::Filtered) {
        Some(format!("the filter matched no frame {read}"))
    } else if left_out(SkipReason::OutsideWindow) {
        Some(format!("no frame is in the requested time range {read}"))
    } else {
        Some(format!("every frame was skipped {read}"))
    }
}

/// Builds a headline from its first words and the rest.
fn headline_of(tone: Tone, lead: &str, rest: String) -> Headline {
    Headline { tone, lead: lead.to_owned(), rest }
}

/// Returns notes about what was read and what was found.
pub(super) fn collect_notes(run: &AuditRun<'_>) -> Vec<Note> {
    let mut notes = NoteList::default();
    add_frames(run, &mut notes);
    add_undecoded(run, &mut notes);
    if !run.trimmed.is_empty() {
        let mut text = format!(
            "--max-memory is too small for: {}; the first entries in a fixed order were used, those of listed hosts before others, and the other entries were ignored",
            run.trimmed.join(", ")
        );
        let seen = run.policy.and_then(|policy| run.outcome.seen(policy));
        if seen.is_some_and(|seen| seen.view().lacks_evidence) {
            text.push_str(
                ". They include entries of listed hosts, so no report of a missing reply or of traffic that was never attempted is certain (doubt: unread).",
            );
        }
        notes.add(Tone::Warning, "Memory", text);
    }
    if let Some(report) = &run.outcome.conversations.aggregation {
        notes.add(Tone::Warning, "Memory", aggregated(report));
    }
    add_clocks(run, &mut notes);
    add_sensors(run, &mut notes);
    notes.add(Tone::Plain, "Loss", loss(run));
    add_views(run, &mut notes);
    add_selection(run, &mut notes);
    add_settings(run, &mut notes);
    add_inputs(run, &mut notes);
    let outcome = run.outcome;
    let Some(policy) = run.policy else {
        let conversations = plural(outcome.conversations.list.len() as u64, "conversation");
        notes.add(Tone::Plain, "Traffic", conversations);
        return notes.0;
    };
    let counts: Vec<String> =
        outcome.by_verdict().iter().map(|(v, n)| format!("{n} {v}")).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let conversations = plural(outcome.judged.len() as u64, "conversation");
    notes.add(Tone::Plain, "Traffic", format!("{conversations}{counts}"));
    add_unseen_hosts(run, &mut notes);
    add_mute_services(run, &mut notes);
    add_undeclared_virtual(run, &mut notes);
    add_statements(run, &mut notes);
    add_undeclared_tunnels(run, &mut notes);
    add_moves(run, &mut notes);
    add_forgotten_claims(run, &mut notes);
    add_exceptions(run, &mut notes);
    add_changes(run, &mut notes);
    let mut rows: BTreeMap<_, u64> = BTreeMap::new();
    for row in &outcome.rows {
        *rows.entry(row.status).or_default() += 1;
    }
    let rows: Vec<String> = rows.iter().map(|(status, n)| format!("{n} {status}")).collect();
    let judged_by = JudgedBy::of(policy);
    // With the default overlays, the name is left out: the headline has the title of the matrix.
    let name = match judged_by.words() {
        name if name == judged_by.name => String::new(),
        name => format!("{}, ", escape_control(&name)),
    };
    let text = format!("{name}{}: {}", plural(outcome.rows.len() as u64, "row"), rows.join(", "));
    notes.add(Tone::Plain, "Matrix", text);
    notes.0
}

/// Describes which conversations were aggregated, and why.
fn aggregated(report: &AggregationReport) -> String {
    let [low, high] = report.ports;
    let ports = match low.cmp(&high) {
        Ordering::Less => format!(" to ports from {low} to {high}"),
        Ordering::Equal => format!(" to port {low}"),
        Ordering::Greater => String::new(),
    };
    let up_to = if report.may_repeat { "up to " } else { "" };
    let verb = if report.conversations == 1 { "was" } else { "were" };
    let steps: Vec<&str> = report.steps.iter().map(|step| step_words(*step)).collect();
    format!(
        "the capture has {up_to}{}, and --max-memory {} has room for {}, so {up_to}{} without an answer ({}{ports}) {verb} aggregated into {}: {}. All their packets are counted, but no ruling on them is certain (doubt: fold). With --max-memory {} or more, each of them would be reported separately.",
        plural(report.found, "conversation"),
        binary_size(report.max_memory as u64),
        report.room,
        plural(report.conversations, "conversation"),
        plural(report.flows, "flow"),
        report.into,
        steps.join("; "),
        binary_size(report.sufficient_memory()),
    )
}

/// Describes which conversations a step aggregates, and how it groups them.
fn step_words(step: AggregationStep) -> &'static str {
    match step {
        AggregationStep::UnlistedNetworks => "those of unlisted clients, by network",
        AggregationStep::UnlistedAsOne => {
            "those of unlisted clients, with all unlisted clients as one"
        }
        AggregationStep::UnlistedPorts => {
            "those of unlisted clients, with all unlisted clients as one and without ports"
        }
        AggregationStep::MemberNetworks => "those of clients in listed networks, by network",
        AggregationStep::MemberPorts => {
            "those of clients in listed networks, by network and without ports"
        }
        AggregationStep::HostPorts => {
            "those of listed hosts, by client and server and without ports"
        }
        AggregationStep::HostServers => "those of listed hosts, by client and without ports",
    }
}

/// Adds notes about the frames that were read, and about those that were skipped for a reason that
/// the user can do something about.
fn add_frames(run: &AuditRun<'_>, notes: &mut NoteList) {
    let account = run.account;
    let mut window = match (account.first.get(), account.last.get()) {
        (Some(first), Some(last)) => format!("{} to {} UTC, ", short(first), short(last)),
        _ => String::new(),
    };
    window.push_str(&format!("{} s watched", run.timeline.watched_s()));
    let is_read = |input: &&InputRecord| !input.passed_over && input.same_as.is_none();
    let read = run.inputs.iter().filter(is_read).count() as u64;
    let read = format!("{} in {}", plural(account.frames, "frame"), plural(read, "input"));
    notes.add(Tone::Plain, "Capture", format!("{read}: {window}"));
    notes.add(Tone::Plain, "Frames", count_frames(account));
    for (reason, count) in account.skipped.iter() {
        // Unknown link types have notes of their own.
        if let Some(advice) = reason.advice().filter(|_| reason != SkipReason::UnknownLinkType) {
            notes.add(Tone::Warning, "Skipped", format!("{count} {reason}: {advice}"));
        }
    }
    for (link, count) in &run.unknown_links {
        let frames = plural(*count, "frame");
        let advice = SkipReason::UnknownLinkType.advice().unwrap_or_default();
        let text = format!("{frames} of link type {link}, which is not decoded: {advice}");
        notes.add(Tone::Warning, "Links", text);
    }
}

/// Adds notes about timestamps that are not trusted and clocks that differ.
fn add_clocks(run: &AuditRun<'_>, notes: &mut NoteList) {
    if run.odd_stamps > 0 {
        let frames = plural(run.odd_stamps, "frame");
        let [verb, stamps] = match run.odd_stamps {
            1 => ["is", "its timestamp was"],
            _ => ["are", "their timestamps were"],
        };
        let text = format!("{frames} {verb} more than a day from all others; {stamps} ignored");
        notes.add(Tone::Warning, "Clock", text);
    }
    if run.outcome.conversations.index.has_doubtful_clocks() {
        let text = "some replies have earlier timestamps than their requests, because clocks differ or timestamps are wrong, so no report of missing traffic or replies is certain";
        notes.add(Tone::Warning, "Clock", text);
    }
    if let Some(apart) = run.outcome.conversations.index.clock_offset() {
        let text = format!(
            "the same packets were captured on two links about {} to {} s apart: the clocks of these links differ",
            apart / SECOND - 1,
            apart / SECOND
        );
        notes.add(Tone::Warning, "Clock", text);
    }
}

/// Adds notes about sensors that did not watch all the time, about overlapping inputs without a
/// sensor name, and about packets that several sensors may have seen.
fn add_sensors(run: &AuditRun<'_>, notes: &mut NoteList) {
    let seen = run.policy.and_then(|policy| run.outcome.seen(policy));
    let vantages = seen.map(|seen| &seen.view().vantages);
    let broken: Vec<_> = vantages.iter().flat_map(|vantages| vantages.breaks()).collect();
    for (point, breaks) in broken.iter().take(SHOWN) {
        let Some((from, to)) = breaks.iter().max_by_key(|(from, to)| to - from) else { continue };
        let when = format!("from {} to {} UTC", short(*from), short(*to));
        let when = match breaks.len() {
            1 => when,
            periods => {
                let total = breaks.iter().map(|(from, to)| to - from).sum::<Nanos>() / SECOND;
                format!("for {total} s in {periods} periods, the longest {when}")
            }
        };
        let text = format!(
            "{point} did not watch {when}; traffic that it could have seen then is not reported as missing"
        );
        notes.add(Tone::Warning, "Sensor", text);
    }
    if broken.len() > SHOWN {
        let others = plural((broken.len() - SHOWN) as u64, "more sensor");
        notes.add(Tone::Warning, "Sensor", format!("{others} did not watch all the time"));
    }
    let mut sets = run.outcome.conversations.list.iter().map(|c| c.sensors);
    if seen.is_some_and(|seen| seen.view().has_short_series(u64::MAX)) {
        let text = "inputs without the name of a sensor overlap in time by more than a minute, because several sensors captured them or a clock was set back, and some of them do not cover the whole capture time; if only these inputs show a host, a report that it never attempted some traffic is not certain for rows that require a longer watch time than these inputs cover; name the sensor of each input with rasaudit collect --sensor";
        notes.add(Tone::Warning, "Sensor", text);
    }
    if run.duplicates.correction != Correction::Done && sets.any(|set| set.has_several()) {
        let text = "several sensors saw the same conversations; a packet that several of them captured counts once in verdicts, but several times in the numbers of packets and bytes";
        notes.add(Tone::Plain, "Sensor", text);
    }
}

/// Describes the loss that the capture reports, the acknowledged bytes that were not captured, and
/// the truncated frames.
fn loss(run: &AuditRun<'_>) -> String {
    let mut loss = match run.loss.received {
        0 if run.loss.dropped == 0 => "not reported by the capture".to_owned(),
        _ => format!(
            "{} dropped {} ({:.2} %)",
            run.loss.dropped,
            run.loss.of_all(),
            run.loss.share() * 100.0
        ),
    };
    let vantage = &run.outcome.conversations.index.visibility;
    if vantage.loss() > 0.0 && !run.duplicates.are_counted() {
        let share = percent(vantage.loss());
        let least = if vantage.mostly_missing() { "at least " } else { "" };
        loss.push_str(&format!("; {least}{share} of acknowledged TCP bytes were not captured"));
    }
    if run.account.truncated > 0 {
        loss.push_str(&format!(
            "; {} truncated by the snaplen",
            plural(run.account.truncated, "frame")
        ));
    }
    loss
}

/// Adds notes about the part of the capture that the user selected.
fn add_selection(run: &AuditRun<'_>, notes: &mut NoteList) {
    if let Some(filter) = &run.selection.filter {
        let text = format!(
            "{} was used: missing replies and traffic that was never attempted are not reported",
            escape_control(filter)
        );
        notes.add(Tone::Warning, "Filter", text);
        for link in run.unfiltered_links {
            let text = format!(
                "the expression cannot be compiled for the link type {link}, so all frames of this type were left out without being tested"
            );
            notes.add(Tone::Warning, "Filter", text);
        }
    }
    add_evident_filters(run, notes);
    if run.selection.since.is_some() || run.selection.until.is_some() {
        let bound = |time: Option<_>, open: &str| {
            time.map_or_else(|| open.to_owned(), |time| format!("{} UTC", short(time)))
        };
        let since = bound(run.selection.since, "the start");
        let until = bound(run.selection.until, "the end");
        notes.add(
            Tone::Warning,
            "Time",
            format!("only frames from {since} to {until} were audited"),
        );
    }
}

/// Adds a note about the filter that the kinds of packets in the capture show, although nobody
/// states it.
fn add_evident_filters(run: &AuditRun<'_>, notes: &mut NoteList) {
    let index = &run.outcome.conversations.index;
    if index.has_only_openings() {
        let text = "the capture contains no TCP segments other than SYN, FIN and RST, so it was filtered: missing replies and traffic that was never attempted are not reported";
        notes.add(Tone::Warning, "Filter", text.to_owned());
    }
    let lacking = |transport: &Transport| index.lacks(*transport);
    let lacking: Vec<Transport> =
        [Transport::TCP, Transport::UDP].into_iter().filter(lacking).collect();
    if let ([transport], true) = (&lacking[..], run.policy.is_some()) {
        let transport = transport.to_string().to_uppercase();
        let text = format!(
            "the capture contains no {transport} packets, perhaps because of a filter: expected {transport} traffic is not reported as missing"
        );
        notes.add(Tone::Warning, "Filter", text);
    }
    let hosts = run.policy.iter().flat_map(|policy| &policy.inventory.hosts);
    let with_version =
        hosts.filter(|host| host.addresses.iter().any(|own| index.lacks_version_of(*own)));
    if let [version] = index.lacking_versions()[..]
        && with_version.take(2).count() == 2
    {
        let text = format!(
            "the capture contains no {version} packets, perhaps because of a filter: traffic between hosts that have {version} addresses is not reported as missing"
        );
        notes.add(Tone::Warning, "Filter", text);
    }
}

/// Adds a note for each option that changes the judgement, with its values.
fn add_settings(run: &AuditRun<'_>, notes: &mut NoteList) {
    for group in run.settings.chunk_by(|a, b| a.option == b.option) {
        let values = group.iter().map(|setting| match setting.value.as_str() {
            "" => format!("({})", setting.effect),
            value => format!("{value} ({})", setting.effect),
        });
        let values: Vec<String> = values.collect();
        let Some(OptionSetting { option, file, .. }) = group.first() else { continue };
        let from = file.as_deref().map_or_else(String::new, |file| {
            format!("; set in the configuration file {}", escape_control(file))
        });
        let text = format!("{option} {}{from}", values.join(", "));
        notes.add(Tone::Warning, "Settings", text);
    }
}

/// Adds a note about the conversations that exceptions allow, or would allow if they had not
/// expired. Without such conversations, there is no note.
fn add_exceptions(run: &AuditRun<'_>, notes: &mut NoteList) {
    let outcome = run.outcome;
    let count_of =
        |code: Code| outcome.judged.iter().filter(|j| j.ruling.code == code).count() as u64;
    let holding = count_of(Code::Exception);
    let expired = count_of(Code::ExpiredException);
    if holding + expired == 0 {
        return;
    }
    let used = outcome.excepted.iter().filter(|count| **count > 0).count();
    let exceptions = plural(outcome.excepted.len() as u64, "exception");
    let mut text = format!("{} by {used} of {exceptions}", plural(holding, "conversation"));
    if expired > 0 {
        let verb = if used == 1 { "matches" } else { "match" };
        text = format!(
            "{} ({used} of {exceptions} {verb} captured traffic, including expired exceptions; {} would be permitted if no exception had expired)",
            plural(holding, "conversation"),
            plural(expired, "conversation")
        );
    }
    notes.add(Tone::Plain, "Excepted", text);
}

/// Adds notes about the changes since an earlier audit, and about findings that no longer appear.
fn add_changes(run: &AuditRun<'_>, notes: &mut NoteList) {
    let (Some(known), Some(since)) = (run.known, changes(run)) else { return };
    let in_brackets = |counts: &[(u64, &str)]| {
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = counts.map(|(count, what)| format!("{count} {what}")).collect();
        if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
    };
    let window = since.baseline.as_ref().map(BaselineFile::window).unwrap_or_default();
    let window = if window.is_empty() { window } else { format!(" ({window})") };
    let text = format!(
        "{} new{}, {} still there{}, {} gone since {}{window}",
        since.new,
        if since.worse > 0 {
            format!(" or worse ({} already known)", since.worse)
        } else {
            String::new()
        },
        since.still_there,
        in_brackets(&[(since.grown, "with new unlisted clients"), (since.better, "better")]),
        since.gone.len(),
        escape_control(&known.file)
    );
    notes.add(Tone::Plain, "Since", text);
    for gone in since.gone.iter().take(SHOWN) {
        let reason = if gone.baseline_reason.is_empty() { "" } else { "; reason: " };
        let text = format!("{} {}{reason}{}", gone.id, gone.message, gone.baseline_reason);
        notes.add(Tone::Good, "Gone", text);
    }
    if since.gone.len() > SHOWN {
        let more = since.gone.len() - SHOWN;
        notes.add(Tone::Good, "Gone", format!("{more} more; --format csv lists all"));
    }
}

/// Adds notes about frames that may contain packets of hosts, but whose content is unknown: one for
/// each of the [`SHOWN`] most frequent kinds, and one for all others.
fn add_undecoded(run: &AuditRun<'_>, notes: &mut NoteList) {
    for (what, frames) in run.unread.iter().take(SHOWN) {
        let frames = plural(*frames, "frame");
        let text = format!("{frames} of {what} may contain traffic that seems to be missing");
        notes.add(Tone::Warning, "Unread", text);
    }
    if run.unread.len() > SHOWN {
        let rest = &run.unread[SHOWN..];
        let kinds: Vec<String> = rest
            .iter()
            .map(|(what, frames)| format!("{} of {what}", plural(*frames, "frame")))
            .collect();
        let text = format!("the same applies to {}", kinds.join(", "));
        notes.add(Tone::Warning, "Unread", text);
    }
}

/// Adds notes about what the inventory and the exceptions state or omit, as far as this affects the
/// results.
fn add_statements(run: &AuditRun<'_>, notes: &mut NoteList) {
    let Some(policy) = run.policy else { return };
    let outside: Vec<String> = policy
        .outside_internal()
        .map(|(name, address)| format!("{} ({address})", escape_control(name)))
        .collect();
    if !outside.is_empty() {
        let text = format!(
            "hosts outside all internal prefixes: {}; if the farm uses such addresses, add them to [capture] internal",
            list_some(&outside)
        );
        notes.add(Tone::Warning, "Inventory", text);
    }
    let mut by_row = vec![0; policy.matrix.rows.len()];
    let documented = run.outcome.judged.iter().filter(|j| j.verdict() == Verdict::Documented);
    documented.filter_map(|j| j.ruling.row()).for_each(|row| by_row[row] += 1);
    let mut unnamed: BTreeMap<&str, u64> = BTreeMap::new();
    for (row, count) in policy.matrix.rows.iter().zip(by_row).filter(|(_, count)| *count > 0) {
        // Traffic that needs a feature that is usually off causes a finding instead of a note.
        for (feature, _) in policy.unstated(row).filter(|(_, usual)| *usual) {
            *unnamed.entry(feature).or_default() += count;
        }
    }
    if !unnamed.is_empty() {
        let names: Vec<String> = unnamed
            .iter()
            .map(|(name, count)| {
                format!("{} ({})", escape_control(name), plural(*count, "conversation"))
            })
            .collect();
        let text = format!(
            "traffic is permitted by features that the inventory does not mention: {}; set each of them to true or false in [farm.features]",
            list_some(&names)
        );
        notes.add(Tone::Plain, "Features", text);
    }
    for (overlay, count) in &run.outcome.by_overlay {
        let text = format!(
            "the overlay {overlay} would explain {}: if it applies to the farm, set overlays = {} in [farm], or use --overlay {overlay}",
            plural(*count as u64, "finding"),
            policy.matrix.overlays_with(overlay)
        );
        notes.add(Tone::Warning, "Overlay", text);
    }
    for (number, count) in run.outcome.predated.iter().take(SHOWN) {
        let exception = &policy.exceptions.list[*number];
        let text = format!(
            "the exception {} was created on {}, after the end of {} that the exception allows",
            escape_control(&exception.id),
            exception.created,
            plural(*count, "conversation")
        );
        notes.add(Tone::Warning, "Excepted", text);
    }
    match run.outcome.predated.len().saturating_sub(SHOWN) {
        0 => {}
        1 => notes.add(
            Tone::Warning,
            "Excepted",
            "1 other exception was also created after the end of traffic that it allows",
        ),
        others => notes.add(
            Tone::Warning,
            "Excepted",
            format!(
                "{others} other exceptions were also created after the end of traffic that they allow"
            ),
        ),
    }
    let questions = policy.exceptions.warnings();
    for question in questions.iter().take(SHOWN) {
        notes.add(Tone::Warning, "Excepted", escape_control(&question.message));
    }
    if questions.len() > SHOWN {
        let text = format!(
            "and {} (see rasaudit exceptions check)",
            plural((questions.len() - SHOWN) as u64, "more warning")
        );
        notes.add(Tone::Warning, "Excepted", text);
    }
}

/// Joins the first [`SHOWN`] strings, and adds the number of the remaining ones.
fn list_some(texts: &[String]) -> String {
    let first = texts.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match texts.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Adds a note about hosts that the capture does not show, with the number of rows that could not
/// be assessed for each of them. Virtual addresses are left out.
fn add_unseen_hosts(run: &AuditRun<'_>, notes: &mut NoteList) {
    let Some(policy) = run.policy else { return };
    let hosts = policy.inventory.hosts.iter().zip(&run.outcome.hosts);
    let unseen: Vec<String> = hosts
        .filter(|(host, seen)| !host.is_virtual() && seen.coverage == Coverage::NotSeen)
        .map(|(host, seen)| match seen.rows_not_assessable {
            0 => escape_control(&host.name).into_owned(),
            rows => {
                format!("{} ({} not assessable)", escape_control(&host.name), plural(rows, "row"))
            }
        })
        .collect();
    if !unseen.is_empty() {
        notes.add(Tone::Warning, "Unseen", list_some(&unseen));
    }
}

/// Adds a note about documented services that accepted connections and received data, but sent no
/// data that the capture shows. A firewall may reset each connection after its first request, or
/// packets that are too large may be lost on the way.
fn add_mute_services(run: &AuditRun<'_>, notes: &mut NoteList) {
    /// The minimum number of connections of one client.
    const FEW: u32 = 3;
    let Some(policy) = run.policy else { return };
    let pairs = run.outcome.conversations.list.iter().zip(&run.outcome.judged);
    let mute = pairs.filter(|(c, j)| {
        j.verdict() == Verdict::Documented
            && c.subject.transport == Transport::TCP
            && c.established >= FEW
            && !c.is_doubted()
            && c.to_server.payload.0 > 0
            && c.to_client.payload.0 == 0
    });
    let names: BTreeSet<String> = mute
        .map(|(c, j)| {
            let service = service_words(Transport::TCP, &c.subject.port.to_string());
            let server = policy.label(&j.server, c.subject.server);
            format!("{service} of {}", escape_control(&server))
        })
        .collect();
    if !names.is_empty() {
        let names: Vec<String> = names.into_iter().collect();
        let text = format!(
            "clients connected and sent data, but the capture shows no data in reply: {}",
            list_some(&names)
        );
        notes.add(Tone::Warning, "Replies", text);
    }
}

/// Adds notes about addresses that listed hosts advertise as virtual, although the inventory lists
/// them for one host.
fn add_undeclared_virtual(run: &AuditRun<'_>, notes: &mut NoteList) {
    let Some(policy) = run.policy else { return };
    let hosts = &policy.inventory.hosts;
    let all = UndeclaredVirtual::all(policy, &run.outcome.conversations);
    let texts: Vec<String> = all
        .iter()
        .map(|shared| {
            let names: Vec<&str> = shared.holders.iter().map(|h| hosts[*h].name.as_str()).collect();
            let text = format!(
                "{} of {} is advertised as virtual (VRRP) by {}",
                shared.address,
                hosts[shared.host].name,
                names.join(" and ")
            );
            escape_control(&text).into_owned()
        })
        .collect();
    if !texts.is_empty() {
        let advice = "list it as a host of its own with held-by; until then, claims that traffic of these hosts is missing are not certain";
        notes.add(Tone::Warning, "Inventory", format!("{}: {advice}", list_some(&texts)));
    }
}

/// Adds a note about the tunnels that the inventory does not list and in which traffic of listed
/// hosts was seen.
fn add_undeclared_tunnels(run: &AuditRun<'_>, notes: &mut NoteList) {
    let Some(policy) = run.policy else { return };
    let list = run.outcome.conversations.list.iter();
    let inside = list.filter(|c| {
        let ends = [c.subject.client, c.subject.server];
        c.doubts.has(DoubtSource::Tunnel) && ends.iter().any(|a| policy.host_of(*a).is_some())
    });
    let mut count = 0;
    let mut tunnels = BTreeSet::new();
    for c in inside {
        count += 1;
        tunnels.extend(c.rare().outer.iter().map(|outer| (outer.src, outer.dst)));
    }
    if count > 0 {
        let ends: Vec<String> =
            tunnels.iter().map(|(src, dst)| format!("from {src} to {dst}")).collect();
        notes.add(
            Tone::Warning,
            "Tunnels",
            format!(
                "{} of listed hosts in tunnels that the inventory does not list ({}): nothing about them is certain; list tunnels of the site in [capture] tunnels, with use = \"mirror\" if they carry mirrored traffic",
                plural(count, "conversation"),
                list_some(&ends)
            ),
        );
    }
}

/// Adds notes about addresses that moved from one hardware address to another, or that another one
/// claimed as well.
fn add_moves(run: &AuditRun<'_>, notes: &mut NoteList) {
    let moves = &run.outcome.moves;
    for text in moves.values().take(SHOWN) {
        notes.add(Tone::Plain, "Address", escape_control(text).into_owned());
    }
    if moves.len() > SHOWN {
        let more = match moves.len() - SHOWN {
            1 => "and 1 more address".to_owned(),
            more => format!("and {more} more addresses"),
        };
        notes.add(Tone::Plain, "Address", more);
    }
}

/// Adds a note about addresses of hosts about which a conflict may have been missed, because not
/// all times of their claims were kept.
fn add_forgotten_claims(run: &AuditRun<'_>, notes: &mut NoteList) {
    let forgotten = &run.outcome.forgotten_claims;
    if forgotten.is_empty() {
        return;
    }
    let names: Vec<String> =
        forgotten.values().map(|name| escape_control(name).into_owned()).collect();
    let text = format!(
        "several MAC addresses claimed {} over so long a time that only the first {EDGE_WORDS} and the last {EDGE_WORDS} periods of {WORD_S} s with a claim were kept for each of them; a conflict between these may not be reported",
        list_some(&names)
    );
    notes.add(Tone::Warning, "Claims", text);
}

/// Says how many packets are duplicates, as the start of a sentence that goes on with a participle.
fn are_duplicates(count: u64) -> String {
    match count {
        1 => "1 packet is a duplicate and is".to_owned(),
        count => format!("{count} packets are duplicates and are"),
    }
}

/// Adds notes about incomplete or distorted views: duplicated, one-sided, split or truncated
/// traffic.
fn add_views(run: &AuditRun<'_>, notes: &mut NoteList) {
    /// The smallest share of packets that is worth a note.
    const LEAST_SHOWN: f64 = 0.01;
    let Duplicates { sample, correction, removed } = run.duplicates;
    if sample.shows_doubling() {
        let has_sensors = run.outcome.conversations.vantage_points.are_several();
        let other = if has_sensors { " or at another sensor" } else { "" };
        let same = format!("on the same interface{other}");
        let kinds = [
            (sample.same, same.as_str()),
            (sample.interfaces, "on another interface"),
            (sample.vlans, "in another VLAN"),
            (sample.hops, "behind a router"),
        ];
        let kinds = kinds.into_iter().filter(|(count, _)| *count > 0);
        let kinds: Vec<_> =
            kinds.map(|(n, name)| format!("{} {name}", percent(sample.share(n)))).collect();
        let done = match correction {
            Correction::Done => "each packet is counted once",
            Correction::Off => "all of them are counted (--dedup off)",
            Correction::NotNeeded => "all of them are counted",
            Correction::Impossible => {
                "all of them are counted, because the packets cannot be read a second time (for a stream, use --dedup on; for stored rows, collect with --traces; a live audit cannot remove duplicates)"
            }
        };
        let share = percent(sample.share(sample.total()));
        let kinds = kinds.join(", ");
        let text = format!(
            "about {share} of packets are duplicates, estimated from a sample ({kinds}): {done}"
        );
        notes.add(Tone::Plain, "View", text);
    } else if removed > 0 {
        let text = format!("{} counted only once", are_duplicates(removed));
        notes.add(Tone::Plain, "View", text);
    }
    let orphans: u64 = run.orphans.values().sum();
    if orphans > 0 {
        let pairs: BTreeSet<_> = run.orphans.keys().map(|(from, to, _)| (from, to)).collect();
        let ends: Vec<String> = pairs.iter().map(|(from, to)| format!("{from} > {to}")).collect();
        let what = match orphans {
            1 => "1 later fragment has no first fragment in the capture, so its ports are unknown and it belongs to no conversation".to_owned(),
            count => format!("{count} later fragments have no first fragment in the capture, so their ports are unknown and they belong to no conversation"),
        };
        let text = format!("{what}: {}", list_some(&ends));
        notes.add(Tone::Warning, "Fragments", text);
    }
    let vantage = &run.outcome.conversations.index.visibility;
    let lines = [
        (
            vantage.one_sided,
            "belong to flows with only one visible direction; nothing is reported as missing for these flows",
        ),
        (vantage.split, "belong to flows whose directions carry different VLAN ids"),
        (vantage.cut_one_way, "belong to flows of which the snaplen truncated only one direction"),
    ];
    for (frames, what) in lines {
        let share = vantage.share(frames);
        if share >= LEAST_SHOWN {
            notes.add(Tone::Plain, "View", format!("{} of packets {what}", percent(share)));
        }
    }
}

/// Adds notes about individual inputs, the most serious first.
fn add_inputs(run: &AuditRun<'_>, notes: &mut NoteList) {
    let mut lines: Vec<(u8, Tone, String)> = Vec::new();
    for input in run.inputs {
        let name = escape_control(&input.name);
        if let Some(error) = &input.error {
            let error = escape_control(error);
            lines.push(if input.passed_over {
                let reason = error.strip_prefix("is ").unwrap_or(&error);
                (2, Tone::Faint, format!("{name} skipped: {reason}"))
            } else {
                (0, Tone::Warning, name_and_reason(&name, &error))
            });
        }
        if input.hidden_nanos {
            let line = format!(
                "{name} declares microseconds but contains nanoseconds; its timestamps were read as nanoseconds"
            );
            lines.push((1, Tone::Warning, line));
        }
        if input.impossible_drops > 0 {
            let line = format!(
                "{name} has {} with impossible values, which were ignored; its loss may be higher than reported",
                plural(input.impossible_drops, "drop counter")
            );
            lines.push((1, Tone::Warning, line));
        }
        if let Some(other) = &input.same_as {
            let line = if input.name == *other {
                format!("{name} was given more than once, or is also in a store; it counts once")
            } else {
                let other = escape_control(other);
                format!("{name} has the same content as {other} and was not read again")
            };
            lines.push((3, Tone::Faint, line));
        }
        for filter in &input.filters {
            lines.push((
                1,
                Tone::Warning,
                format!("{name} was captured with the filter {}", escape_control(filter)),
            ));
        }
    }
    for (part, whole) in earlier_states(run.inputs) {
        let [part, whole] = [part, whole].map(|input| escape_control(&input.name));
        let line = format!(
            "{part} begins at the same time as {whole} and has fewer frames; if it is an earlier state of the same capture, leave it out"
        );
        lines.push((1, Tone::Warning, line));
    }
    lines.sort_by_key(|line| line.0);
    let more = lines.len().saturating_sub(SHOWN);
    for (_, tone, line) in lines.into_iter().take(SHOWN) {
        notes.add(tone, "Input", line);
    }
    if more > 0 {
        notes.add(
            Tone::Faint,
            "Input",
            format!(
                "and {more} more; audit.json lists the errors, copies and filters of all inputs"
            ),
        );
    }
}

/// Returns the captures that may be earlier states of another, each with the longest such capture:
/// both begin at the same nanosecond, and the one with fewer frames does not end later. A capture
/// that is renamed while it grows is not recognized by its name.
fn earlier_states(inputs: &[InputRecord]) -> Vec<(&InputRecord, &InputRecord)> {
    let mut by_start: BTreeMap<Nanos, Vec<&InputRecord>> = BTreeMap::new();
    let read = inputs.iter().filter(|input| input.same_as.is_none() && input.format != "live");
    for input in read {
        // Frames without a valid time have the time 0 or an earlier one.
        if let Some(first) = input.account.first.get().filter(|first| *first > 0) {
            by_start.entry(first).or_default().push(input);
        }
    }
    let mut found = Vec::new();
    for mut alike in by_start.into_values() {
        alike.sort_by_key(|input| input.account.frames);
        let Some(whole) = alike.pop() else { continue };
        let is_part = |part: &&InputRecord| {
            let [part, whole] = [&part.account, &whole.account];
            part.frames < whole.frames && part.last <= whole.last
        };
        found.extend(alike.into_iter().filter(is_part).map(|part| (part, whole)));
    }
    found
}

/// Describes how many frames were read, and how many of them were audited or skipped. Every frame
/// is either audited or skipped.
fn count_frames(account: &FrameCounters) -> String {
    let mut text = format!(
        "{} read: {} audited, {} skipped",
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

/// Describes how many hosts have each kind of coverage, and whether the coverage is declared in the
/// inventory or inferred.
pub(super) fn coverage(run: &AuditRun<'_>, policy: &Policy) -> String {
    let mut seen: BTreeMap<_, u64> = BTreeMap::new();
    for host in &run.outcome.hosts {
        *seen.entry(host.coverage).or_default() += 1;
    }
    let seen: Vec<String> = seen.iter().map(|(coverage, n)| format!("{n} {coverage}")).collect();
    let stated = match &policy.inventory.covers {
        Some(CoverageStatement::All) => {
            "the inventory states that the capture covers the whole farm".to_owned()
        }
        Some(CoverageStatement::Hosts(hosts)) => {
            format!(
                "the inventory states that the capture covers {}",
                plural(hosts.len() as u64, "host")
            )
        }
        None => "coverage is inferred from traffic".to_owned(),
    };
    format!("hosts: {}; {stated}", seen.join(", "))
}
