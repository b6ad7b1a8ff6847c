//! Loads and checks the matrix and the inventory, and reports all their problems together.

use std::io::{self, Write};
use std::path::Path;

use super::args::CheckArguments;
use super::exit::Exit;
use super::{report_error, warn};
use crate::model::escape_control;
use crate::pipeline::{capture_kind, fits_manifest};
use crate::policy::{
    Diagnostic, Inventory, MATRICES, Matrix, NamedRules, Policy, PolicyError, RuleFiles, TextFile,
    is_toml,
};

/// The comment with which a draft marks a guess.
const GUESS_MARK: &str = "# a guess";

/// Prints all problems to standard error.
pub(super) fn report_errors(problems: &[Diagnostic]) {
    for problem in problems {
        report_error(&problem.to_string());
    }
}

/// Returns a problem that concerns a file as a whole.
pub(super) fn file_problem(file: &str, message: impl ToString) -> Vec<Diagnostic> {
    vec![Diagnostic { file: file.to_owned(), line: 0, message: message.to_string() }]
}

/// Reads a text file that the user wrote. `wanted` describes the expected content in error
/// messages.
pub(super) fn read_text(file: &Path, wanted: &str) -> Result<TextFile, Vec<Diagnostic>> {
    let bytes = TextFile::bytes(file).map_err(|problem| vec![problem])?;
    match capture_kind(&bytes) {
        Some(kind) => {
            let message = format!("this is a {kind} file, not {wanted}");
            Err(file_problem(&file.display().to_string(), message))
        }
        None => TextFile::of(file, bytes).map_err(|problem| vec![problem]),
    }
}

/// Reads the `findings.csv` of an earlier audit, and checks it against the manifest in its folder.
pub(super) fn read_report(file: &Path) -> Result<TextFile, String> {
    let read = read_text(file, "the findings.csv of an audit").map_err(|problems| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    })?;
    fits_manifest(file).map_err(|message| format!("{}: {message}", read.name))?;
    Ok(read)
}

/// The rules that the command line names, in addition to those that an inventory names.
#[derive(Clone, Copy, Default)]
pub(super) struct RulesWanted<'a> {
    pub matrix: Option<&'a str>,
    pub rules: Option<&'a Path>,
    pub overlays: &'a [String],
}

/// Loads an inventory, and the rules that it and the command line name. The error lists all
/// problems. If the files of the rules are not valid, the inventory is not checked.
pub(super) fn load_policy(
    file: &Path,
    wanted: &RulesWanted<'_>,
) -> Result<Policy, Vec<Diagnostic>> {
    let RulesWanted { matrix, rules, overlays } = *wanted;
    let name = file.display().to_string();
    let TextFile { text, sha256, .. } =
        read_text(file, "an inventory").map_err(|problems| with_remedy(file, problems))?;
    let problem_at = |line, message| Diagnostic { file: name.clone(), line, message };
    let toml = is_toml(&name);
    let named = if toml { Inventory::rules_named(&text) } else { NamedRules::default() };
    let mut problems = Vec::new();
    let files = match (&named.matrix, matrix) {
        (Some((own, line)), Some(given)) if own != given => {
            let message = format!(
                "the inventory names the matrix \"{own}\", but --matrix names \"{given}\"; leave out --matrix"
            );
            problems.push(problem_at(*line, message));
            None
        }
        (Some((own, line)), _) => find_matrix(own, rules, file.parent())
            .map_err(|error| problems.push(problem_at(*line, error.to_string())))
            .ok(),
        (None, Some(given)) => find_matrix(given, rules, None)
            .map_err(|message| problems.extend(file_problem("--matrix", message)))
            .ok(),
        // A TOML inventory without a matrix is reported below, with all its other problems.
        (None, None) if toml => None,
        (None, None) => {
            let example = MATRICES[0];
            let message =
                format!("a CSV file of hosts needs --matrix, for example --matrix {example}");
            problems.extend(file_problem(&name, message));
            None
        }
    };
    // If no matrix was found, the rest of the inventory is checked against the first built-in
    // matrix.
    let mut files = match files {
        Some(files) => files,
        None => RuleFiles::named(MATRICES[0], None).map_err(|error| file_problem(&name, error))?,
    };
    if named.no_background {
        files.without_background();
    }
    for (overlay, line) in &named.overlays {
        if let Err(error) = files.add_overlay(overlay, file.parent()) {
            problems.push(problem_at(*line, error.to_string()));
        }
    }
    for overlay in overlays {
        if let Err(message) = files.add_overlay(overlay, None) {
            problems.extend(file_problem("--overlay", message));
        }
    }
    let matrix = files.load().map_err(|more| {
        problems.extend(more);
        std::mem::take(&mut problems)
    })?;
    let inventory = if toml {
        Inventory::from_toml(&name, &text, &matrix)
    } else {
        Inventory::from_csv(&name, &text, &matrix)
    };
    match inventory {
        Ok(inventory) if problems.is_empty() => {
            Ok(Policy::new(matrix, Inventory { sha256, ..inventory }))
        }
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            problems.sort_by_key(|problem| problem.line);
            Err(problems)
        }
    }
}

/// Finds a matrix by its name in the folder `rules` (among the built-in matrices if that is
/// `None`), or by the path of its own folder. If `from` (the folder of the inventory) is given, a
/// relative path is resolved against it.
pub(super) fn find_matrix(
    name: &str,
    rules: Option<&Path>,
    from: Option<&Path>,
) -> Result<RuleFiles, PolicyError> {
    let folder = from.map_or_else(|| Path::new(name).to_owned(), |from| from.join(name));
    let is_path = name.contains(['/', '\\']) || name.starts_with('.');
    let is_name = rules.is_some() || MATRICES.contains(&name);
    if is_path || (folder.is_dir() && !is_name) {
        RuleFiles::folder(&folder)
    } else {
        RuleFiles::named(name, rules)
    }
}

/// The maximum number of addresses for which `inventory check` prints a warning of its own.
const WARNED_ADDRESSES: usize = 10;

pub(super) fn check_inventory(arguments: &CheckArguments) -> io::Result<Exit> {
    let wanted = RulesWanted {
        matrix: arguments.matrix.as_deref(),
        rules: arguments.rules.as_deref(),
        ..RulesWanted::default()
    };
    match load_policy(&arguments.file, &wanted) {
        Ok(policy) => {
            let inventory = &policy.inventory;
            let mut outside = policy.outside_internal();
            for (name, address) in outside.by_ref().take(WARNED_ADDRESSES) {
                warn(&format!(
                    "{}: {address} of {name} is outside all internal prefixes; if it is internal, add its network to [capture] internal",
                    inventory.file
                ));
            }
            let more = outside.count();
            if more > 0 {
                warn(&format!(
                    "{}: more addresses outside all internal prefixes: {more}",
                    inventory.file
                ));
            }
            for mac in policy.shared_macs() {
                let hosts = inventory.hosts.iter().filter(|host| host.macs.contains(&mac));
                let names: Vec<&str> = hosts.map(|host| host.name.as_str()).collect();
                warn(&format!(
                    "{}: the MAC address {mac} is listed for {}, so none of them is recognized by it",
                    inventory.file,
                    names.join(" and ")
                ));
            }
            writeln!(
                io::stdout(),
                "{}: valid; hosts: {}, networks: {}, services: {}, features named: {}, matrix: {}{}",
                escape_control(&inventory.file),
                inventory.hosts.len(),
                inventory.networks.len(),
                inventory.services.len(),
                inventory.features.len(),
                escape_control(&policy.matrix.name),
                guesses_left(&arguments.file),
            )?;
            Ok(Exit::Compliant)
        }
        Err(problems) => {
            report_errors(&problems);
            Ok(Exit::CannotDo)
        }
    }
}

/// Returns how many lines of a drafted inventory are still marked as guesses, as the end of a
/// message. Returns an empty string if no line is marked.
fn guesses_left(file: &Path) -> String {
    // A pipe cannot be read twice, so its guesses are not counted.
    let text = if file.is_file() { std::fs::read(file).unwrap_or_default() } else { Vec::new() };
    let text = String::from_utf8_lossy(&text);
    match text.lines().filter(|line| line.contains(GUESS_MARK)).count() as u64 {
        0 => String::new(),
        1 => format!("; 1 line is still a guess (marked \"{GUESS_MARK}\")"),
        count => format!("; {count} lines are still guesses (marked \"{GUESS_MARK}\")"),
    }
}

/// Adds advice on how to make an inventory to the message that it does not exist, unless the
/// message suggests another file.
fn with_remedy(file: &Path, mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if matches!(file.try_exists(), Ok(false)) {
        for problem in problems.iter_mut().filter(|one| !one.message.contains("did you mean")) {
            problem.message.push_str(
                "; give the path of the inventory, or make one from a capture with rasaudit inventory draft",
            );
        }
    }
    problems
}

/// Loads a matrix by name or folder, without an inventory. `argument` is the command-line argument
/// that gives the name; error messages show it. The error lists all problems of the matrix.
pub(super) fn load_matrix(
    argument: &str,
    name: &str,
    overlays: &[String],
) -> Result<Matrix, Vec<Diagnostic>> {
    let mut files =
        find_matrix(name, None, None).map_err(|message| file_problem(argument, message))?;
    for overlay in overlays {
        files.add_overlay(overlay, None).map_err(|message| file_problem("--overlay", message))?;
    }
    files.load()
}
