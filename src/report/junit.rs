//! Writes the audit as tests in the XML format of JUnit, which CI systems show: two tests of the
//! audit itself, a test for each source host of each group of matrix rows, a test for every other
//! finding, and a skipped test for each exception that allowed traffic.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Write};

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};

use crate::classify::{Severity, Status, Verdict};
use crate::model::escape_control;
use crate::result::{AuditResult, FindingRow, MatrixRow, Time, plural};

/// The outcome of a test.
enum Outcome {
    Passed,
    /// Any other outcome: the name of the XML element, the type, the message and more lines.
    Other(&'static str, String, String, Vec<String>),
}

impl Outcome {
    fn skipped(kind: &str, message: String) -> Self {
        Self::Other(SKIPPED, kind.to_owned(), message, Vec::new())
    }
}

const FAILURE: &str = "failure";
const ERROR: &str = "error";
const SKIPPED: &str = "skipped";

/// A test, in the sense of JUnit.
struct Case {
    class: String,
    name: String,
    outcome: Outcome,
}

/// A function that calls another function with each test of a suite, in order.
type Suite = fn(&Tests<'_>, &mut dyn FnMut(Case) -> io::Result<()>) -> io::Result<()>;

/// The name of each suite and the function that generates its tests, in the order of the report.
const SUITES: [(&str, Suite); 4] = [
    ("audit", audit_cases),
    ("matrix", matrix_cases),
    ("findings", finding_cases),
    ("exceptions", exception_cases),
];

/// The number of tests of a suite, in total and with each outcome other than success.
#[derive(Clone, Copy, Default)]
struct TestCounts {
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
}

impl TestCounts {
    fn add(&mut self, case: &Case) {
        self.tests += 1;
        if let Outcome::Other(element, ..) = case.outcome {
            match element {
                FAILURE => self.failures += 1,
                ERROR => self.errors += 1,
                _ => self.skipped += 1,
            }
        }
    }
}

/// Writes the report of `--format junit`.
pub(super) fn write(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    let tests = Tests::of(result);
    // The counts precede the tests, so the tests are generated twice instead of being kept in
    // memory.
    let mut counts = [TestCounts::default(); SUITES.len()];
    for ((_, cases), counts) in SUITES.iter().zip(&mut counts) {
        cases(&tests, &mut |case| {
            counts.add(&case);
            Ok(())
        })?;
    }
    let mut xml = Writer::new_with_indent(&mut *out, b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let total = |count: fn(&TestCounts) -> u64| counts.iter().map(count).sum::<u64>().to_string();
    let suites = BytesStart::new("testsuites").with_attributes([
        ("name", "rasaudit"),
        ("tests", &total(|c| c.tests)),
        ("failures", &total(|c| c.failures)),
        ("errors", &total(|c| c.errors)),
        ("time", "0"),
    ]);
    xml.write_event(Event::Start(suites))?;
    for ((name, cases), counts) in SUITES.iter().zip(&counts) {
        let mut suite = BytesStart::new("testsuite").with_attributes([
            ("name", *name),
            ("tests", &counts.tests.to_string()),
            ("failures", &counts.failures.to_string()),
            ("errors", &counts.errors.to_string()),
            ("skipped", &counts.skipped.to_string()),
            ("time", "0"),
        ]);
        if let Some(Time(first)) = result.head.window.first {
            // Readers expect a time without a fraction and without a zone.
            let first = Time(first).to_string();
            suite.push_attribute(("timestamp", first.get(..19).unwrap_or_default()));
        }
        xml.write_event(Event::Start(suite))?;
        cases(&tests, &mut |case| write_case(&mut xml, &case))?;
        xml.write_event(Event::End(BytesEnd::new("testsuite")))?;
    }
    xml.write_event(Event::End(BytesEnd::new("testsuites")))?;
    writeln!(out)
}

fn write_case<W: Write>(xml: &mut Writer<W>, case: &Case) -> io::Result<()> {
    let class = xml_text(&case.class);
    let name = xml_text(&case.name);
    let attributes = [("classname", class.as_str()), ("name", &name), ("time", "0")];
    let element = xml.create_element("testcase").with_attributes(attributes);
    let Outcome::Other(outcome, kind, message, lines) = &case.outcome else {
        return element.write_empty().map(drop);
    };
    element
        .write_inner_content(|xml| {
            let kind = xml_text(kind);
            let message = xml_text(message);
            let attributes = [("type", kind.as_str()), ("message", &message)];
            let element = xml.create_element(*outcome).with_attributes(attributes);
            if lines.is_empty() {
                return element.write_empty().map(drop);
            }
            let lines: Vec<String> = lines.iter().map(|line| xml_text(line)).collect();
            element.write_text_content(BytesText::new(&lines.join("\n"))).map(drop)
        })
        .map(drop)
}

/// Escapes control characters and characters that XML 1.0 does not allow. Markup is escaped by the
/// writer.
fn xml_text(text: &str) -> String {
    escape_control(text).replace('\u{fffe}', "\\u{fffe}").replace('\u{ffff}', "\\u{ffff}")
}

/// The findings that fail the audit (`--fail-on`).
#[derive(Clone, Copy)]
enum Threshold {
    Never,
    From(Severity),
    New,
}

impl Threshold {
    /// Returns the threshold of an audit. Results of earlier versions do not contain it, so the
    /// default (severity low) is used for them.
    fn of(result: &AuditResult<'_>) -> Self {
        match result.head.fail_on.as_deref() {
            Some("never") => Self::Never,
            Some("new") => Self::New,
            word => Self::From(word.and_then(Severity::parse).unwrap_or(Severity::Low)),
        }
    }

    /// Returns why a finding does not fail the audit; `None` if it does.
    fn passes(self, severity: Severity, row: &FindingRow<'_>) -> Option<String> {
        match self {
            Self::Never => Some("--fail-on never".to_owned()),
            Self::From(from) => (severity < from).then(|| format!("below --fail-on {from}")),
            Self::New if severity == Severity::Info => {
                Some("severity info (--fail-on new)".to_owned())
            }
            Self::New => (row.since != "new").then(|| "not new (--fail-on new)".to_owned()),
        }
    }
}

/// A finding about missing or not assessable traffic of a group of matrix rows.
struct GroupFinding {
    number: usize,
    severity: Severity,
    is_failure: bool,
    clients: HashSet<String>,
    /// Whether the finding has clients that the result does not list.
    has_more: bool,
    transport: String,
    ports: Vec<u16>,
}

impl GroupFinding {
    /// Returns whether a row has the transport of the finding and, if the row has ports, one of the
    /// finding's ports.
    fn is_about(&self, row: &MatrixRow<'_>) -> bool {
        let (low, high) = row.ports.split_once('-').unwrap_or((&row.ports, &row.ports));
        let range = low.parse::<u16>().ok().zip(high.parse::<u16>().ok());
        let fits = |(low, high)| self.ports.iter().any(|port| (low..=high).contains(port));
        self.transport == row.transport && range.is_none_or(fits)
    }
}

/// A group of matrix rows that serve the same purpose.
#[derive(Default)]
struct Group {
    rows: Vec<usize>,
    seen: BTreeSet<String>,
    /// The hosts whose traffic was seen for a row that could be assessed.
    assessed: BTreeSet<String>,
    missing: BTreeSet<String>,
    /// The findings about the group, worst first.
    findings: Vec<GroupFinding>,
}

/// The data from which the tests are generated.
struct Tests<'r> {
    result: &'r AuditResult<'r>,
    threshold: Threshold,
    rows: Vec<MatrixRow<'r>>,
    /// The names of the groups, in the order of the matrix.
    order: Vec<String>,
    groups: HashMap<String, Group>,
    /// The indexes of the findings that the tests of groups show.
    shown: HashSet<usize>,
}

impl<'r> Tests<'r> {
    fn of(result: &'r AuditResult<'r>) -> Self {
        let rows: Vec<MatrixRow<'_>> = result.matrix_rows().collect();
        let mut order = Vec::new();
        let mut groups: HashMap<String, Group> = HashMap::new();
        for (number, row) in rows.iter().enumerate() {
            let group = groups.entry(row.group.to_string()).or_default();
            if group.rows.is_empty() {
                order.push(row.group.to_string());
            }
            group.rows.push(number);
            group.seen.extend(row.source_hosts_seen.iter().cloned());
            // A row that could not be assessed does not show that the traffic works.
            if row.status != Status::NotAssessable.name() {
                group.assessed.extend(row.source_hosts_seen.iter().cloned());
            }
            group.missing.extend(row.source_hosts_missing.iter().cloned());
        }
        let threshold = Threshold::of(result);
        let mut shown = HashSet::new();
        for (number, row) in result.findings().enumerate() {
            let is_about_group =
                [Verdict::Missing, Verdict::NotAssessable].iter().any(|v| row.verdict == v.name());
            let Some(group) = groups.get_mut(&row.group).filter(|_| is_about_group) else {
                continue;
            };
            let severity = severity_of(&row);
            let is_failure = threshold.passes(severity, &row).is_none();
            let (more, clients): (Vec<String>, Vec<String>) =
                row.clients.into_iter().partition(|client| client.starts_with('+'));
            if !clients.is_empty() {
                shown.insert(number);
            }
            group.findings.push(GroupFinding {
                number,
                severity,
                is_failure,
                has_more: clients.is_empty() || !more.is_empty(),
                transport: row.transport,
                ports: row.port.split(';').filter_map(|port| port.parse().ok()).collect(),
                clients: clients.into_iter().collect(),
            });
        }
        Self { result, threshold, rows, order, groups, shown }
    }

    /// Returns the source hosts of a group, each with its index in the inventory: first the hosts
    /// of the inventory, in order, then other hosts by name, with `None` instead of an index.
    fn sources(&self, group: &Group) -> BTreeMap<(usize, String), Option<usize>> {
        let hosts = self.result.site().map_or(&[][..], |site| &site.hosts);
        let places: HashMap<&str, usize> =
            hosts.iter().zip(0..).map(|(host, number)| (host.name.as_str(), number)).collect();
        let listed = group.findings.iter().flat_map(|finding| &finding.clients);
        let seen = group.seen.iter().chain(&group.missing).chain(listed);
        let seen = seen.map(|name| {
            let place = places.get(name.as_str()).copied();
            ((place.unwrap_or(usize::MAX), name.clone()), place)
        });
        let required = hosts.iter().enumerate().filter(|(_, host)| {
            !host.is_virtual && group.rows.iter().any(|row| self.is_source(*row, host.roles))
        });
        let required = required.map(|(place, host)| ((place, host.name.clone()), Some(place)));
        required.chain(seen).collect()
    }

    /// Returns whether a host with these roles is a source of a row. A row whose source is any host
    /// does not count.
    fn is_source(&self, row: usize, roles: crate::classify::RoleSet) -> bool {
        self.result.site().is_some_and(|site| {
            site.rows
                .get(row)
                .is_some_and(|row| !site.roles[row.source].everybody && site.is_source(row, roles))
        })
    }

    /// Returns the outcome of a finding: a failure, or skipped if the finding does not fail the
    /// audit (`--fail-on`). `None` if there is no finding with this number.
    fn outcome(&self, number: usize) -> Option<Outcome> {
        let row = self.result.finding(number)?;
        let kind = format!("{}/{}", row.verdict, row.code);
        let message = format!("{} {}: {}", row.severity, row.id, row.message);
        if let Some(reason) = self.threshold.passes(severity_of(&row), &row) {
            return Some(Outcome::skipped(&kind, format!("{reason}: {message}")));
        }
        let mut lines = Vec::new();
        if !row.action.is_empty() {
            lines.push(format!("To do: {}", row.action));
        }
        lines.extend(self.result.trace(number));
        if !row.display_filter.is_empty() {
            lines.push(format!("Wireshark: {}", row.display_filter));
        }
        Some(Outcome::Other(FAILURE, kind, message, lines))
    }

    /// Returns the outcome of the test of a group and one of its source hosts.
    fn group_outcome(&self, group: &Group, host: &str, place: Option<usize>) -> Outcome {
        let is_missing = group.missing.contains(host);
        let listed = group.findings.iter().filter(|finding| finding.clients.contains(host));
        let unlisted = group.findings.iter().filter(|finding| is_missing && finding.has_more);
        let mut findings: Vec<&GroupFinding> = listed.chain(unlisted).collect();
        if findings.is_empty() && is_missing {
            // Several groups may document the same traffic, and its finding names only one of them.
            let others = self.order.iter().filter_map(|name| self.groups.get(name));
            let same = others.flat_map(|other| &other.findings).filter(|finding| {
                finding.clients.contains(host)
                    && group.rows.iter().any(|row| finding.is_about(&self.rows[*row]))
            });
            findings.extend(same);
        }
        // Failures come first, and the most severe finding comes first among them.
        findings.sort_by_key(|finding| (!finding.is_failure, Reverse(finding.severity)));
        if let Some((first, others)) = findings.split_first()
            && let Some(mut outcome) = self.outcome(first.number)
        {
            if let Outcome::Other(FAILURE, _, _, lines) = &mut outcome {
                let others = others.iter().filter(|other| other.number != first.number);
                let others = others.filter_map(|other| self.result.finding(other.number));
                lines.extend(
                    others.map(|row| format!("also {} {}: {}", row.severity, row.id, row.message)),
                );
            }
            return outcome;
        }
        match (is_missing, group.assessed.contains(host)) {
            (false, true) => Outcome::Passed,
            (true, _) => Outcome::skipped(
                "missing",
                "the traffic is missing, but no finding is about this host".to_owned(),
            ),
            (false, false) => self.skip_reason(group, place),
        }
    }

    /// Returns the outcome for a host that has neither traffic nor a finding. The reason comes from
    /// the row whose status comes first in `ORDER`. Only rows with this host as a source count, if
    /// there are any.
    fn skip_reason(&self, group: &Group, place: Option<usize>) -> Outcome {
        const ORDER: [Status; 6] = [
            Status::NotAssessable,
            Status::Missing,
            Status::Seen,
            Status::NotExpected,
            Status::FeatureOff,
            Status::RoleAbsent,
        ];
        let roles = place.and_then(|place| self.result.site()?.hosts.get(place)).map(|h| h.roles);
        let is_own = |row: usize| roles.is_none_or(|roles| self.is_source(row, roles));
        let rank = |row: usize| ORDER.iter().position(|s| self.rows[row].status == s.name());
        let closest =
            group.rows.iter().min_by_key(|row| (!is_own(**row), rank(**row).unwrap_or(9)));
        let Some(row) = closest.map(|row| &self.rows[*row]) else { return Outcome::Passed };
        let (kind, reason) = match Status::parse(&row.status) {
            Some(Status::NotAssessable) => (
                format!("not-assessable/{}", row.reason),
                "the traffic could not be assessed".to_owned(),
            ),
            Some(Status::FeatureOff) => (
                row.status.to_string(),
                format!(
                    "the traffic needs a feature that is off in the inventory ({})",
                    row.feature
                ),
            ),
            Some(Status::RoleAbsent) => (
                row.status.to_string(),
                "one of the roles of this traffic is not assigned to any host in the inventory"
                    .to_owned(),
            ),
            Some(Status::Missing | Status::Seen | Status::NotExpected) => (
                "not-expected".to_owned(),
                "not seen from this host, and not expected from it".to_owned(),
            ),
            None => (row.status.to_string(), String::new()),
        };
        let message = format!("{kind}: {reason}");
        Outcome::skipped(&kind, message)
    }
}

fn severity_of(row: &FindingRow<'_>) -> Severity {
    Severity::parse(&row.severity).unwrap_or(Severity::Info)
}

/// Calls `each` with the tests of the audit itself: whether every input was read completely, and
/// whether something was checked.
fn audit_cases(tests: &Tests<'_>, each: &mut dyn FnMut(Case) -> io::Result<()>) -> io::Result<()> {
    let head = &tests.result.head;
    let case = |name: &str, outcome| Case { class: "audit".to_owned(), name: name.into(), outcome };
    let broken = head.inputs.iter().filter_map(|input| Some((input, input.error.as_ref()?)));
    let lines: Vec<String> =
        broken.map(|(input, error)| format!("{}: {error}", input.file)).collect();
    each(case(
        "the input was read completely",
        if lines.is_empty() {
            Outcome::Passed
        } else {
            let message =
                format!("{} could not be read completely", plural(lines.len() as u64, "input"));
            Outcome::Other(ERROR, "input".to_owned(), message, lines)
        },
    ))?;
    let headline = format!("{}{}", head.headline.lead, head.headline.rest);
    let outcome = if head.summary.assessed {
        Outcome::Passed
    } else if head.exit_reasons.iter().any(|reason| reason == "nothing was checked") {
        Outcome::Other(ERROR, "unchecked".to_owned(), headline, Vec::new())
    } else {
        Outcome::skipped("unchecked", headline)
    };
    each(case("something was checked", outcome))
}

/// Calls `each` with a test for each source host of each group of matrix rows.
fn matrix_cases(tests: &Tests<'_>, each: &mut dyn FnMut(Case) -> io::Result<()>) -> io::Result<()> {
    for (name, group) in tests.order.iter().filter_map(|name| tests.groups.get_key_value(name)) {
        for ((_, host), place) in tests.sources(group) {
            let outcome = tests.group_outcome(group, &host, place);
            each(Case { class: name.clone(), name: host, outcome })?;
        }
    }
    Ok(())
}

/// Calls `each` with a test for each finding that no test of a group shows.
fn finding_cases(
    tests: &Tests<'_>,
    each: &mut dyn FnMut(Case) -> io::Result<()>,
) -> io::Result<()> {
    let numbers = (0..tests.result.findings_len()).filter(|number| !tests.shown.contains(number));
    for number in numbers {
        let Some((row, outcome)) = tests.result.finding(number).zip(tests.outcome(number)) else {
            continue;
        };
        let ends = [
            (&row.clients, &row.client_name, &row.client),
            (&row.servers, &row.server_name, &row.server),
        ];
        let [client, server] = ends.map(|(members, name, address)| match members.as_slice() {
            [only] => only.as_str(),
            _ if !name.is_empty() => name,
            _ if !address.is_empty() => address,
            _ => "-",
        });
        let name = match (client, server) {
            ("-", "-") => format!("{} {}", row.id, row.group),
            _ => format!("{} {client} to {server} {} {}", row.id, row.transport, row.port),
        };
        let class = format!("findings.{}", row.code);
        each(Case { class, name: name.trim_end().to_owned(), outcome })?;
    }
    Ok(())
}

/// Calls `each` with a skipped test for each exception that allowed traffic.
fn exception_cases(
    tests: &Tests<'_>,
    each: &mut dyn FnMut(Case) -> io::Result<()>,
) -> io::Result<()> {
    for exception in tests.result.exceptions() {
        let allowed = exception.conversations.saturating_sub(exception.conversations_expired);
        if allowed == 0 {
            continue;
        }
        let message = format!(
            "excepted: {} ({}; owner {}, approved by {}, until {})",
            plural(allowed, "conversation"),
            exception.reason,
            exception.owner,
            exception.approved_by,
            exception.expires
        );
        let outcome = Outcome::skipped("excepted", message);
        each(Case { class: "exceptions".to_owned(), name: exception.id.clone(), outcome })?;
    }
    Ok(())
}
