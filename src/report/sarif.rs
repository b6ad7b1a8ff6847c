//! Writes findings in the Static Analysis Results Interchange Format (SARIF 2.1.0), which code
//! hosts show beside the files of a repository.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Value, json};

use super::json::StreamedList;
use super::json_text::pretty;
use super::rule_text::{RuleText, rule_text};
use crate::classify::{Code, Severity, Verdict};
use crate::model::escape_control;
use crate::result::{AuditResult, Change, FindingRow, Gone, Head, Site, plural};

/// The maximum number of results in a file. GitHub refuses files with more.
const RESULTS: usize = 25_000;

/// The key of the finding's ID in the partial fingerprints of a result.
const FINGERPRINT: &str = "rasauditFinding/v1";

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// A SARIF file.
#[derive(Serialize)]
struct Log<R> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<R>; 1],
}

/// A run of the program.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run<R> {
    tool: Value,
    invocations: [Value; 1],
    automation_details: Value,
    results: R,
}

/// Writes the report of `--format sarif`.
pub(super) fn write(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let gone = result.head.known.as_ref().map_or(&[][..], |known| &known.gone);
    let total = result.findings_len() + gone.len();
    let locations = Locations::of(result);
    let results = result
        .findings()
        .map(|row| finding_result(&row, result, &locations))
        .chain(gone.iter().map(gone_result))
        .take(RESULTS);
    let farm = result.head.farm.as_deref().unwrap_or_default();
    let log = Log {
        schema: SCHEMA,
        version: "2.1.0",
        runs: [Run {
            tool: tool(&result.head),
            invocations: [invocation(&result.head, total)],
            automation_details: json!({ "id": format!("rasaudit/{}/", escape_control(farm)) }),
            results: StreamedList::new(results),
        }],
    };
    log.serialize(&mut pretty(&mut *out))?;
    writeln!(out)
}

/// Returns the program with its rules, one for each code that a finding can have.
fn tool(head: &Head) -> Value {
    let rules = rules().map(|(code, RuleText { short, help })| {
        json!({
            "id": code.name(),
            "shortDescription": { "text": short },
            "help": { "text": help },
            "defaultConfiguration": { "level": usual_level(code.verdict()) },
            "properties": { "verdict": code.verdict().name() },
        })
    });
    json!({ "driver": {
        "name": head.tool.name,
        "version": escape_control(&head.tool.version),
        "rules": rules.collect::<Vec<_>>(),
    } })
}

/// Returns the codes that a finding can have, in order, with their descriptions.
fn rules() -> impl Iterator<Item = (Code, RuleText)> {
    Code::ALL.iter().filter_map(|code| Some((*code, rule_text(*code)?)))
}

/// Returns the default level of the rules for the codes of a verdict. The level of a result depends
/// on the severity of its finding instead.
fn usual_level(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::UnexpectedPort | Verdict::Undocumented | Verdict::Missing => "error",
        Verdict::Inventory => "warning",
        _ => "none",
    }
}

/// Returns the invocation object, with notifications about inputs that were not read completely,
/// results that are left out, and an audit in which nothing was assessed.
fn invocation(head: &Head, total: usize) -> Value {
    let mut notifications = Vec::new();
    for input in &head.inputs {
        if let Some(error) = &input.error {
            let text = format!("{}: {error}", input.file);
            notifications.push(notification("input", "error", &text));
        }
    }
    if total > RESULTS {
        let text = format!(
            "{} left out: this file has the first {RESULTS} of {total}, worst first; findings.csv \
             lists all of them",
            plural((total - RESULTS) as u64, "finding")
        );
        notifications.push(notification("results-left-out", "warning", &text));
    }
    if !head.summary.assessed {
        let Head { headline, .. } = head;
        let text = format!("{}{}", headline.lead, headline.rest);
        notifications.push(notification("nothing-assessed", "warning", &text));
    }
    json!({
        "executionSuccessful": head.inputs.iter().all(|input| input.error.is_none()),
        "toolExecutionNotifications": notifications,
    })
}

fn notification(id: &str, level: &str, text: &str) -> Value {
    json!({ "descriptor": { "id": id }, "level": level, "message": message(text) })
}

/// Returns the SARIF result for a finding.
fn finding_result(
    row: &FindingRow<'_>,
    result: &AuditResult<'_>,
    locations: &Locations<'_>,
) -> Value {
    let mut text = message_text(&row.message);
    if !row.action.is_empty() {
        text += "\nTo do: ";
        text += &message_text(&row.action);
    }
    let mut value = json!({
        "message": { "text": text },
        "locations": locations.of_finding(row).into_iter().collect::<Vec<_>>(),
        "relatedLocations": locations.ends_of(row),
        "properties": {
            "severity": row.severity,
            "verdict": row.verdict,
            "certain": row.certain,
            "doubt": row.doubt,
            "client": shown_end(&result.client(row).words_with_roles()),
            "server": shown_end(&result.server(row).words_with_roles()),
            "transport": row.transport,
            "port": row.port,
            "rule": escape_control(&row.rule),
            "group": escape_control(&row.group),
            "displayFilter": escape_control(&row.display_filter),
            "explainedBy": row.explained_by,
        },
    });
    if row.count > 0 {
        value["occurrenceCount"] = row.count.into();
    }
    if let Some((first, last)) = row.first_seen.zip(row.last_seen) {
        value["properties"]["firstSeen"] = first.to_string().into();
        value["properties"]["lastSeen"] = last.to_string().into();
    }
    add_identity(&mut value, row);
    // For findings of severity info, the columns contain no baseline state, only whether the
    // finding is new.
    let state = match (&*row.baseline_state, &*row.since) {
        ("", "") => None,
        ("", "new") => Some("new"),
        ("", _) => Some("unchanged"),
        (state, _) => Some(baseline_state(state)),
    };
    if let Some(state) = state {
        value["baselineState"] = state.into();
    }
    value
}

/// Returns the SARIF result for a finding of the baseline that no longer appears.
fn gone_result(gone: &Gone) -> Value {
    let text = match gone.baseline_reason.as_str() {
        "" => gone.message.clone(),
        reason => format!("{} ({}: {reason})", gone.message, gone.baseline_state),
    };
    let mut value = json!({
        "message": message(&text),
        "baselineState": "absent",
        "properties": { "severity": escape_control(&gone.severity), "certain": gone.certain },
    });
    add_identity(&mut value, &gone.row());
    value
}

/// Adds the rule, the kind, the level and the fingerprint of a finding.
fn add_identity(value: &mut Value, row: &FindingRow<'_>) {
    let (kind, level) = kind_and_level(row);
    value["kind"] = kind.into();
    value["level"] = level.into();
    value["partialFingerprints"] = json!({ FINGERPRINT: escape_control(&row.id) });
    if !row.code.is_empty() {
        value["ruleId"] = escape_control(&row.code).into();
    }
    // A stored result of a newer version may contain a code that has no rule here.
    if let Some(index) = rules().position(|(code, _)| code.name() == row.code) {
        value["ruleIndex"] = index.into();
    }
}

/// Returns the kind and the level of a result. Only a failure may have a level other than `none`
/// (SARIF, section 3.27.10).
fn kind_and_level(row: &FindingRow<'_>) -> (&'static str, &'static str) {
    match Severity::parse(&row.severity) {
        Some(Severity::Critical | Severity::High) => ("fail", "error"),
        Some(Severity::Medium) => ("fail", "warning"),
        Some(Severity::Low) => ("fail", "note"),
        _ if row.verdict == Verdict::NotAssessable.name() => ("open", "none"),
        _ => ("informational", "none"),
    }
}

/// Returns the SARIF baseline state that corresponds to a change.
fn baseline_state(state: &str) -> &'static str {
    match Change::parse(state) {
        Some(Change::New) | None => "new",
        Some(Change::Same) => "unchanged",
        Some(Change::Worse | Change::Grown | Change::Better) => "updated",
        Some(Change::Gone | Change::Excepted) => "absent",
    }
}

fn shown_end(words: &str) -> String {
    escape_control(words).into_owned()
}

/// Returns a message object.
fn message(text: &str) -> Value {
    json!({ "text": message_text(text) })
}

/// Escapes a text for a message. Braces would be placeholders (SARIF, section 3.11.5), and brackets
/// before parentheses would be links (section 3.11.6).
fn message_text(text: &str) -> String {
    let mut escaped = escape_control(text).replace('{', "{{").replace('}', "}}");
    if escaped.contains("](") {
        escaped = escaped.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]");
    }
    escaped
}

/// Finds the lines of the rules, the inventory and the exceptions that findings are based on.
struct Locations<'r> {
    head: &'r Head,
    site: Option<&'r Site>,
    /// The indices of the matrix rows by name.
    rows: HashMap<String, usize>,
}

impl<'r> Locations<'r> {
    fn of(result: &'r AuditResult<'_>) -> Self {
        let rows = result.matrix_rows().zip(0..).map(|(row, number)| (row.rule.into(), number));
        Self { head: &result.head, site: result.site(), rows: rows.collect() }
    }

    /// Returns the line of the matrix row or of the exception that the finding is based on;
    /// otherwise the line of the inventory that lists an end, or the inventory as a whole. `None`
    /// without an inventory.
    fn of_finding(&self, row: &FindingRow<'_>) -> Option<Value> {
        let named = [&row.rule, &row.group];
        let exception = named.iter().find_map(|name| name.strip_prefix("exception:"));
        if let Some((id, exceptions)) = exception.zip(self.head.exceptions.as_ref()) {
            let line = exceptions.list.iter().find(|exception| exception.id == id);
            let line = line.map_or(0, |exception| exception.line as usize);
            return location(&exceptions.file, line, "");
        }
        let matrix_row = self.rows.get(&row.rule).zip(self.site);
        let matrix_row = matrix_row.and_then(|(number, site)| site.rows.get(*number));
        if let Some(found) = matrix_row.and_then(|row| location(&row.file, row.line, "")) {
            return Some(found);
        }
        let file = &self.head.inventory.as_ref()?.file;
        let ends = [(&row.client, &row.client_name), (&row.server, &row.server_name)];
        let line = ends.into_iter().find_map(|(address, name)| self.inventory_line(address, name));
        location(file, line.unwrap_or(0), "")
    }

    /// Returns the lines of the inventory that list the client and the server.
    fn ends_of(&self, row: &FindingRow<'_>) -> Vec<Value> {
        let Some(inventory) = &self.head.inventory else { return Vec::new() };
        let ends =
            [("client", &row.client, &row.client_name), ("server", &row.server, &row.server_name)];
        let lines = ends.into_iter().filter_map(|(end, address, name)| {
            let line = self.inventory_line(address, name)?;
            location(&inventory.file, line, &format!("the {end}"))
        });
        lines.collect()
    }

    /// Returns the line of the inventory that lists an end; `None` if the end is not listed or its
    /// line is unknown.
    fn inventory_line(&self, address: &str, name: &str) -> Option<usize> {
        let site = self.site?;
        let listed = address.parse::<IpAddr>().ok().and_then(|address| site.listing(address));
        let line = listed.map(|listing| listing.line).or_else(|| {
            let hosts = site.hosts.iter().map(|host| (&host.name, host.line));
            let networks = site.networks.iter().map(|network| (&network.name, network.line));
            hosts.chain(networks).find(|(listed, _)| *listed == name).map(|(_, line)| line)
        });
        line.filter(|line| *line > 0)
    }
}

/// Returns the SARIF location of a line, with `text` as its message unless that is empty. Line 0
/// stands for the whole file. `None` if `file` is empty.
fn location(file: &str, line: usize, text: &str) -> Option<Value> {
    let mut physical = json!({ "artifactLocation": { "uri": uri_of(file)? } });
    if line > 0 {
        physical["region"] = json!({ "startLine": line });
    }
    let mut location = json!({ "physicalLocation": physical });
    if !text.is_empty() {
        location["message"] = message(text);
    }
    Some(location)
}

/// Returns the URI of a file (RFC 3986): a relative reference for a relative path. `None` for an
/// empty path.
fn uri_of(path: &str) -> Option<String> {
    let path = path.strip_prefix("./").unwrap_or(path);
    if path.is_empty() {
        return None;
    }
    let mut uri = String::new();
    if path.starts_with('/') {
        uri.push_str("file://");
    }
    for byte in path.bytes() {
        match byte {
            b'\\' if cfg!(windows) => uri.push('/'),
            b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(byte)),
            _ => drop(write!(uri, "%{byte:02X}")),
        }
    }
    Some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_a_finding_has_a_rule() {
        for code in Code::ALL {
            let is_finding = *code > Code::Background;
            assert_eq!(rule_text(*code).is_some(), is_finding, "{code}");
        }
    }

    #[test]
    fn what_a_packet_says_is_no_placeholder_and_no_link() {
        assert_eq!(message_text("a {0} \u{1b}"), "a {{0}} \\u{{1b}}");
        assert_eq!(message_text("[x](http://evil)"), "\\[x\\](http://evil)");
        assert_eq!(message_text("TCP [fe80::1]:443"), "TCP [fe80::1]:443");
    }

    #[test]
    fn paths_are_uris() {
        for (path, uri) in [
            ("rules/ras-19/matrix.csv", "rules/ras-19/matrix.csv"),
            ("./a b.toml", "a%20b.toml"),
            ("/etc/ras/ü?#.toml", "file:///etc/ras/%C3%BC%3F%23.toml"),
            ("c:x", "c%3Ax"),
        ] {
            assert_eq!(uri_of(path).as_deref(), Some(uri));
        }
        assert_eq!(uri_of(""), None);
    }
}
