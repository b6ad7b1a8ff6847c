//! Implements `rasaudit exceptions`, which creates and checks lists of exceptions.

use std::io::{self, Write};
use std::path::Path;

use super::args::ExceptionsCommand;
use super::exit::Exit;
use super::policy::{RulesWanted, load_policy, read_report, read_text, report_errors};
use super::{report_error, warn};
use crate::model::escape_control;
use crate::policy::{Diagnostic, EXCEPTION_COLUMNS, Exceptions, Policy, TextFile};
use crate::report::exceptions_from;

/// The comment at the top of a new list.
const ABOUT: &str = "\
# Traffic that the matrix does not permit but an owner has approved, one entry per line. All cells except port
# and direction are required. from, to: a host or network of the inventory, an address or prefix, role:NAME, or *.
# transport: tcp, udp, ... or *. port: 443, 5000-5010 or *. direction: to-server (default) or both.
# created, expires: a date like 2027-01-31; the expiry day is included.
# To check the list: rasaudit exceptions check FILE -i inventory.toml
";

pub(super) fn run(command: &ExceptionsCommand) -> io::Result<Exit> {
    match command {
        ExceptionsCommand::Template { from } => print_template(from.as_deref()),
        ExceptionsCommand::Check { file, inventory } => check(file, inventory),
    }
}

fn print_template(from: Option<&Path>) -> io::Result<Exit> {
    let mut lines = String::new();
    if let Some(path) = from {
        let name = path.display().to_string();
        match read_report(path)
            .and_then(|text| exceptions_from(&name, &text).map_err(|error| error.to_string()))
        {
            Ok(made) => lines = made,
            Err(message) => {
                report_error(&message);
                return Ok(Exit::CannotDo);
            }
        }
    }
    let mut out = io::stdout().lock();
    out.write_all(ABOUT.as_bytes())?;
    writeln!(out, "{}", EXCEPTION_COLUMNS.join(","))?;
    out.write_all(lines.as_bytes())?;
    Ok(Exit::Compliant)
}

/// Reads a list and checks it against a policy.
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
