//! `rasaudit matrix` and `rasaudit inventory`: showing and checking what is judged by.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use comfy_table::{ContentArrangement, Table};

use super::args::{CheckArguments, ShowArguments};
use super::complain;
use super::exit::Exit;
use crate::model::clean;
use crate::policy::{
    Inventory, MATRICES, Matrix, NamedRules, Policy, Problem, RoleSet, RuleFiles, is_toml,
};

/// Tells all problems of a file.
pub(super) fn complain_all(problems: &[Problem]) {
    for problem in problems {
        complain(&problem.to_string());
    }
}

fn whole_file(file: &str, message: String) -> Vec<Problem> {
    vec![Problem { file: file.to_owned(), line: 0, message }]
}

/// The rules that the command line asks for, beside those that an inventory names.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    pub matrix: Option<&'a str>,
    pub rules: Option<&'a Path>,
    pub overlays: &'a [String],
}

/// Loads an inventory and the matrix that it names, or says everything that is wrong.
pub(super) fn load_policy(file: &Path, wanted: &Wanted<'_>) -> Result<Policy, Vec<Problem>> {
    let Wanted { matrix, rules, overlays } = *wanted;
    let name = file.display().to_string();
    let text = fs::read(file).map_err(|error| whole_file(&name, error.to_string()))?;
    let text = String::from_utf8(text).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count();
        vec![Problem { file: name.clone(), line, message: "the file is not UTF-8 text".into() }]
    })?;
    let toml = is_toml(&name);
    let named = if toml { Inventory::rules_named(&text) } else { NamedRules::default() };
    let own = &named.matrix;
    let mut problems = Vec::new();
    let files = match (own, matrix) {
        (Some((own, line)), Some(given)) if own != given => {
            let message = format!("the matrix is \"{own}\" here and \"{given}\" by --matrix");
            problems.push(Problem { file: name.clone(), line: *line, message });
            None
        }
        (Some((own, line)), _) => find_matrix(own, rules, file.parent())
            .map_err(|message| problems.push(Problem { file: name.clone(), line: *line, message }))
            .ok(),
        (None, Some(given)) => find_matrix(given, rules, None)
            .map_err(|message| problems.extend(whole_file("--matrix", message)))
            .ok(),
        // A TOML inventory without a matrix is told below, with all its other problems.
        (None, None) if toml => None,
        (None, None) => {
            let example = MATRICES[0];
            let message = format!("a CSV of hosts needs --matrix, for example --matrix {example}");
            problems.extend(whole_file(&name, message));
            None
        }
    };
    // Without its matrix the rest of the inventory is still checked, against the one built in.
    let built_in = || RuleFiles::named(MATRICES[0], None).map_err(|m| whole_file(&name, m));
    let mut files = files.map_or_else(built_in, Ok)?;
    if named.no_background {
        files.without_background();
    }
    for (overlay, line) in &named.overlays {
        if let Err(message) = files.add_overlay(overlay, file.parent()) {
            problems.push(Problem { file: name.clone(), line: *line, message });
        }
    }
    for overlay in overlays {
        if let Err(message) = files.add_overlay(overlay, None) {
            problems.extend(whole_file("--overlay", message));
        }
    }
    let matrix = files.load()?;
    let inventory = if toml {
        Inventory::from_toml(&name, &text, &matrix)
    } else {
        Inventory::from_csv(&name, &text, &matrix)
    };
    match inventory {
        Ok(inventory) if problems.is_empty() => Ok(Policy::new(matrix, inventory)),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            problems.sort_by_key(|p| p.line);
            Err(problems)
        }
    }
}

/// A matrix by name, or a folder of rules, as seen from the folder of the inventory.
fn find_matrix(name: &str, rules: Option<&Path>, from: Option<&Path>) -> Result<RuleFiles, String> {
    let folder = from.map_or_else(|| Path::new(name).to_owned(), |from| from.join(name));
    let is_path = name.contains(['/', '\\']) || name.starts_with('.');
    let is_name = rules.is_some() || MATRICES.contains(&name);
    match is_path || (folder.is_dir() && !is_name) {
        true => RuleFiles::folder(&folder),
        false => RuleFiles::named(name, rules),
    }
}

pub(super) fn check_inventory(arguments: &CheckArguments) -> io::Result<Exit> {
    let wanted = Wanted {
        matrix: arguments.matrix.as_deref(),
        rules: arguments.rules.as_deref(),
        ..Wanted::default()
    };
    match load_policy(&arguments.file, &wanted) {
        Ok(policy) => {
            let inventory = &policy.inventory;
            writeln!(
                io::stdout(),
                "{}: sound; hosts: {}, networks: {}, services: {}, features named: {}, matrix {}",
                clean(&inventory.file),
                inventory.hosts.len(),
                inventory.networks.len(),
                inventory.services.len(),
                inventory.features.len(),
                clean(&policy.matrix.name),
            )?;
            Ok(Exit::Compliant)
        }
        Err(problems) => {
            complain_all(&problems);
            Ok(Exit::CannotDo)
        }
    }
}

pub(super) fn check_matrix(file: &Path) -> io::Result<Exit> {
    let name = file.display().to_string();
    let files = match file.is_dir() {
        true => RuleFiles::folder(file),
        false => RuleFiles::with_matrix(file, MATRICES[0]),
    };
    let loaded = files.map_err(|message| whole_file(&name, message)).and_then(|files| files.load());
    match loaded {
        Ok(matrix) => {
            writeln!(
                io::stdout(),
                "{}: sound; {} rows in {} groups, {} roles, {} features",
                clean(&name),
                matrix.rows.len(),
                matrix.groups.len(),
                matrix.roles.len(),
                matrix.features.len(),
            )?;
            Ok(Exit::Compliant)
        }
        Err(problems) => {
            complain_all(&problems);
            Ok(Exit::CannotDo)
        }
    }
}

pub(super) fn show(arguments: &ShowArguments) -> io::Result<Exit> {
    let name = arguments.matrix.as_str();
    let loaded = find_matrix(name, None, None).map_err(|message| whole_file("--matrix", message));
    let matrix = match loaded.and_then(|files| files.load()) {
        Ok(matrix) => matrix,
        Err(problems) => {
            complain_all(&problems);
            return Ok(Exit::CannotDo);
        }
    };
    let wanted = |role: &Option<String>| role.as_deref().map(|r| matrix.roles_named(r)).transpose();
    let (from, to) = match (wanted(&arguments.from), wanted(&arguments.to)) {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => {
            for message in [from.err(), to.err()].into_iter().flatten() {
                complain(&format!("{message} (rasaudit matrix show --roles lists them)"));
            }
            return Ok(Exit::CannotDo);
        }
    };
    let table = if arguments.roles {
        roles(&matrix)
    } else if arguments.features {
        let mut table = new_table(&["feature", "usually", "meaning"]);
        for (name, feature) in &matrix.features {
            let usual = if feature.usual { "on" } else { "off" };
            table.add_row([name, usual, &feature.meaning]);
        }
        table
    } else {
        rows(&matrix, from, to)
    };
    if table.is_empty() {
        complain("no row of the matrix fits");
    }
    writeln!(io::stdout(), "{table}")?;
    Ok(Exit::Compliant)
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(comfy_table::presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().map(|h| h.to_uppercase()));
    table
}

fn roles(matrix: &Matrix) -> Table {
    let mut table = new_table(&["role", "name", "also", "kind"]);
    for role in matrix.roles.iter().filter(|r| r.is_playable()) {
        table.add_row([&role.slug, &role.name, &role.aliases.join("; "), &role.kind]);
    }
    table
}

fn rows(matrix: &Matrix, from: Option<RoleSet>, to: Option<RoleSet>) -> Table {
    let mut table = new_table(&["from", "to", "transport", "ports", "feature", "need", "purpose"]);
    for row in &matrix.rows {
        let fits = from.is_none_or(|roles| matrix.is_source(row, roles))
            && to.is_none_or(|roles| matrix.is_destination(row, roles));
        if fits {
            table.add_row([
                matrix.roles[row.source].slug.clone(),
                matrix.roles[row.destination].slug.clone(),
                row.transport.to_string(),
                row.ports_text(),
                row.features.join("+"),
                row.expectation.to_string(),
                row.purpose.clone(),
            ]);
        }
    }
    table
}
