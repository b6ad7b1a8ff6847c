//! Implements `rasaudit exceptions`, which creates and checks lists of exceptions.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::args::{AddExceptionArguments, ExceptionsCommand};
use super::diff::{read_judged, stored_result};
use super::draft::{replace, write_new};
use super::exit::Exit;
use super::policy::{RulesWanted, load_policy, read_report, read_text, report_errors};
use super::{report_error, warn};
use crate::classify::id_of;
use crate::model::escape_control;
use crate::policy::{
    Diagnostic, EXCEPTION_COLUMNS, Exception, Exceptions, ListedException, Policy, TICKET_COLUMN,
    TextFile, add_exceptions,
};
use crate::report::{excepted_traffic, exceptions_from, is_exceptions_report};
use crate::result::{AuditResult, FindingRow, Time};

/// The comment at the top of a new list.
const ABOUT: &str = "\
# Approved traffic that the matrix does not permit, one entry per line. All cells except port,
# direction and ticket are required. from, to: a host or network of the inventory, an address or prefix, role:NAME, or *.
# transport: tcp, udp, sctp, icmp, icmp6, ip-N (N is the number of an IP protocol) or *.
# port (for icmp and icmp6, the type): 443, 5000-5010 or * (default: any). direction: to-server (default) or both.
# created, expires: a date like 2027-01-31; the expiry day is included. ticket: the ticket of the approval (optional).
# To check the list: rasaudit exceptions check FILE -i inventory.toml
";

pub(super) fn run(command: &ExceptionsCommand) -> io::Result<Exit> {
    match command {
        ExceptionsCommand::Template { from } => print_template(from.as_deref()),
        ExceptionsCommand::Add(arguments) => add(arguments),
        ExceptionsCommand::Check { file, inventory, .. } => check(file, inventory),
    }
}

fn print_template(from: Option<&Path>) -> io::Result<Exit> {
    let mut lines = String::new();
    if let Some(path) = from {
        let name = path.display().to_string();
        match read_report(path)
            .and_then(|read| exceptions_from(&name, &read.text).map_err(|error| error.to_string()))
        {
            Ok(made) => lines = made,
            Err(message) => {
                report_error(&message);
                return Ok(Exit::CannotDo);
            }
        }
    }
    let mut out = io::stdout().lock();
    out.write_all(empty_list().as_bytes())?;
    out.write_all(lines.as_bytes())?;
    Ok(Exit::Compliant)
}

/// Returns the text of a list without exceptions: the comment and the column names.
fn empty_list() -> String {
    format!("{ABOUT}{},{TICKET_COLUMN}\n", EXCEPTION_COLUMNS.join(","))
}

/// Adds the exceptions for a finding to a list. If this fails, the list remains unchanged.
fn add(arguments: &AddExceptionArguments) -> io::Result<Exit> {
    let added = plan_addition(arguments).and_then(|addition| {
        let Addition { file, text, is_new, .. } = &addition;
        let written =
            if *is_new { write_new(file, text.as_bytes()) } else { replace(file, text.as_bytes()) };
        written.map_err(|error| vec![format!("{}: {error}", file.display())])?;
        Ok(addition)
    });
    match added {
        Ok(Addition { file, ids, warnings, .. }) => {
            for warning in warnings {
                warn(&warning);
            }
            let name = escape_control(&file.display().to_string()).into_owned();
            let ids = escape_control(&ids.join(", ")).into_owned();
            writeln!(io::stdout(), "{name}: added {ids}")?;
            Ok(Exit::Compliant)
        }
        Err(problems) => {
            problems.iter().for_each(|problem| report_error(problem));
            Ok(Exit::CannotDo)
        }
    }
}

/// The text of a list after exceptions were added to it.
struct Addition {
    file: PathBuf,
    text: String,
    is_new: bool,
    ids: Vec<String>,
    /// Warnings about the new exceptions, such as a validity that an auditor would question.
    warnings: Vec<String>,
}

/// Adds the new exceptions to the text of the list, and checks the result as a whole. The error
/// lists all problems of the first step that fails.
fn plan_addition(arguments: &AddExceptionArguments) -> Result<Addition, Vec<String>> {
    let one = |problem: String| vec![problem];
    let shown = |problems: Vec<Diagnostic>| -> Vec<String> {
        problems.iter().map(ToString::to_string).collect()
    };
    let path = stored_result(&arguments.report).map_err(one)?;
    let result = read_judged(&path).map_err(one)?;
    let file = arguments.exceptions.clone().or_else(|| {
        result.head.exceptions.as_ref().map(|exceptions| PathBuf::from(&exceptions.file))
    });
    let file = file.ok_or_else(|| {
        one("the audit had no list of exceptions; name one with --exceptions".to_owned())
    })?;
    let named = result.head.inventory.as_ref().map(|inventory| PathBuf::from(&inventory.file));
    if let (None, Some(used)) = (&arguments.inventory, &named)
        && matches!(used.try_exists(), Ok(false))
    {
        return Err(one(format!(
            "{}: the audit used this inventory, but it was not found; give the inventory with -i",
            used.display()
        )));
    }
    let inventory = arguments.inventory.clone().or(named).unwrap_or_default();
    let policy = load_policy(&inventory, &RulesWanted::default()).map_err(shown)?;
    let finding = finding_named(&result, &arguments.finding).map_err(one)?;
    let new = new_exceptions(arguments, &finding).map_err(one)?;
    let is_new = !file.exists();
    if is_exceptions_report(&file) {
        return Err(one(format!(
            "{}: this is the exceptions report of an audit, and the next audit would replace the file; name another list with --exceptions",
            file.display()
        )));
    }
    let (text, before) = if is_new {
        (empty_list(), Vec::new())
    } else {
        let TextFile { text, .. } = read_text(&file, "a list of exceptions").map_err(shown)?;
        let name = file.display().to_string();
        let before = Exceptions::load(&name, &text, &policy.matrix, &policy.inventory);
        (text, before.map_err(shown)?.list)
    };
    let is_used = |id: &str| before.iter().any(|exception| exception.id == id);
    let before = before.len();
    let name = file.display().to_string();
    let lines = text.lines().count();
    let text = add_exceptions(&text, &new).map_err(|problem| one(format!("{name}: {problem}")))?;
    // The lines of the new entries are not in the file, so they cannot be looked up.
    let new_or_listed = |problem: &Diagnostic| {
        if problem.line > lines {
            format!("{name}: the new exception cannot be added: {}", problem.message)
        } else {
            problem.to_string()
        }
    };
    let all =
        Exceptions::load(&name, &text, &policy.matrix, &policy.inventory).map_err(|problems| {
            let mut problems: Vec<String> = problems.iter().map(new_or_listed).collect();
            // A finding with several pairs of hosts has several exceptions, and any of their ids
            // may already be used.
            if let Some(used) = new.iter().find(|exception| is_used(&exception.id)) {
                problems = vec![format!(
                    "{name}: the list already has an exception with the id {}; if it does not permit this traffic, choose another id with --id",
                    used.id
                )];
            }
            problems
        })?;
    if all.list.len() != before + new.len() {
        return Err(one(format!(
            "\"{}\" cannot be the id of an exception, because a line that begins with it would be a comment; choose another id with --id",
            new[0].id
        )));
    }
    let duplicates = duplicates(&all, before, &policy);
    if !duplicates.is_empty() {
        return Err(duplicates);
    }
    let judged_at = result.head.window.as_of.or(finding.last_seen);
    check_expiry(&all.list[before..], judged_at).map_err(one)?;
    let ids: Vec<String> = new.into_iter().map(|exception| exception.id).collect();
    let first_line = all.list[before].line;
    let warnings = all.warnings().into_iter().filter(|warning| warning.line >= first_line);
    let warnings = warnings.map(|warning| warning.to_string()).collect();
    Ok(Addition { file, text, is_new, ids, warnings })
}

/// Checks that new exceptions are valid at the time with which an audit compares their expiry.
fn check_expiry(new: &[Exception], judged_at: Option<Time>) -> Result<(), String> {
    let Some(at) = judged_at else { return Ok(()) };
    match new.iter().find(|exception| exception.ends <= at.0) {
        Some(Exception { id, expires, .. }) => Err(format!(
            "the exception {id} would expire on {expires} and therefore not permit the traffic of the finding, because expiry is compared with {at}; choose a later day with --expires"
        )),
        None => Ok(()),
    }
}

/// Returns the finding with this ID. The prefix `f-` may be missing, because earlier versions wrote
/// IDs without it.
fn finding_named<'r>(result: &'r AuditResult<'_>, given: &str) -> Result<FindingRow<'r>, String> {
    let id = id_of(given.trim());
    result.findings().find(|finding| id_of(&finding.id) == id).ok_or_else(|| {
        format!("the audit has no finding \"{given}\"; rasaudit show findings lists the ids")
    })
}

/// Returns the exceptions for a finding, one for each pair of a client and a server.
fn new_exceptions(
    arguments: &AddExceptionArguments,
    finding: &FindingRow<'_>,
) -> Result<Vec<ListedException>, String> {
    let traffic = excepted_traffic(finding).map_err(|why| format!("{}: {why}", finding.id))?;
    let today = || Timestamp::now().to_zoned(TimeZone::UTC).date();
    let created = arguments.created.unwrap_or_else(today);
    let name = arguments.id.clone().unwrap_or_else(|| id_of(&finding.id));
    let exceptions = traffic.into_iter().enumerate().map(|(number, traffic)| ListedException {
        id: if number == 0 { name.clone() } else { format!("{name}-{}", number + 1) },
        from: traffic.from,
        to: traffic.to,
        transport: traffic.transport,
        port: traffic.port,
        owner: arguments.owner.clone(),
        reason: arguments.reason.clone(),
        approved_by: arguments.approved_by.clone(),
        created: created.to_string(),
        expires: arguments.expires.to_string(),
        ticket: arguments.ticket.clone().unwrap_or_default(),
    });
    Ok(exceptions.collect())
}

/// Returns a message for each new exception whose traffic an earlier entry already permits: an
/// entry with the same ends, transport and ports, if both are ever valid at the same time, or a
/// wider one that is valid on all days of the new one. `before` is the number of earlier entries.
fn duplicates(all: &Exceptions, before: usize, policy: &Policy) -> Vec<String> {
    let (old, new) = all.list.split_at(before);
    let mut messages = Vec::new();
    for new in new {
        let permits = |old: &&Exception| {
            let is_same = (&old.from, &old.to, old.transport, old.ports)
                == (&new.from, &new.to, new.transport, new.ports);
            let [starts, ends] = if is_same {
                [old.created <= new.expires, new.created <= old.expires]
            } else {
                [old.created <= new.created, new.expires <= old.expires]
            };
            starts && ends && policy.covers(old, new)
        };
        if let Some(old) = old.iter().find(permits) {
            messages.push(format!(
                "{}:{}: the exception {} permits this traffic from {} to {}; to permit it for another period, change that entry",
                all.file, old.line, old.id, old.created, old.expires
            ));
        }
    }
    messages
}

/// Reads a list of exceptions and checks it against a policy.
pub(super) fn load_exceptions(file: &Path, policy: &Policy) -> Result<Exceptions, Vec<Diagnostic>> {
    let TextFile { name, text, sha256 } = read_text(file, "a list of exceptions")?;
    let exceptions = Exceptions::load(&name, &text, &policy.matrix, &policy.inventory)?;
    Ok(Exceptions { sha256, ..exceptions })
}

fn check(file: &Path, inventory: &Path) -> io::Result<Exit> {
    let loaded = load_policy(inventory, &RulesWanted::default())
        .and_then(|policy| load_exceptions(file, &policy));
    match loaded {
        Ok(exceptions) => {
            for warning in exceptions.warnings() {
                warn(&warning.to_string());
            }
            let name = exceptions.file;
            let count = exceptions.list.len();
            writeln!(io::stdout(), "{}: valid; exceptions: {count}", escape_control(&name))?;
            Ok(Exit::Compliant)
        }
        Err(problems) => {
            report_errors(&problems);
            Ok(Exit::CannotDo)
        }
    }
}
