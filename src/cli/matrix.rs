//! Implements `rasaudit matrix`, which shows, checks and compares port matrices.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use super::args::{DiffArguments, ShowArguments};
use super::exit::Exit;
use super::policy::{file_problem, find_matrix, load_matrix, report_errors};
use super::{report_error, terminal_width};
use crate::classify::check_examples;
use crate::model::escape_control;
use crate::policy::{
    MATRICES, Matrix, MatrixChange, OVERLAYS, PolicyError, RoleSet, Row, RuleFiles,
};
use crate::report::TextTable;
use crate::result::plural;

pub(super) fn check(name: &str) -> io::Result<Exit> {
    let path = Path::new(name);
    let loaded = find_rules_to_check(name)
        .map_err(|message| file_problem(name, message))
        .and_then(|files| files.load());
    let matrix = match loaded {
        Ok(matrix) => matrix,
        Err(problems) => {
            report_errors(&problems);
            return Ok(Exit::CannotDo);
        }
    };
    let mut problems = matrix.lint();
    problems.extend(check_examples(&matrix));
    // For a single file, only problems in this file are reported, not those in the built-in roles
    // and features.
    problems.retain(|problem| !path.is_file() || problem.file == name);
    if !problems.is_empty() {
        report_errors(&problems);
        return Ok(Exit::CannotDo);
    }
    if matrix.rows.iter().all(|row| row.file.as_ref() != name) && path.is_file() {
        let count = matrix.background.len();
        writeln!(
            io::stdout(),
            "{}: valid; {} of background traffic",
            escape_control(name),
            plural(count as u64, "kind")
        )?;
        return Ok(Exit::Compliant);
    }
    writeln!(
        io::stdout(),
        "{}: valid; {} in {}, with {} and {}; every example matches its row",
        escape_control(name),
        plural(matrix.rows.len() as u64, "row"),
        plural(matrix.groups.len() as u64, "group"),
        plural(matrix.roles.len() as u64, "role"),
        plural(matrix.features.len() as u64, "feature"),
    )?;
    Ok(Exit::Compliant)
}

/// Finds rules by the path of a file or folder, or by the name of an overlay or a matrix.
fn find_rules_to_check(name: &str) -> Result<RuleFiles, PolicyError> {
    let path = Path::new(name);
    if path.is_file() {
        return RuleFiles::of_file(path, MATRICES[0]);
    }
    if path.is_dir() {
        return RuleFiles::folder(path);
    }
    if OVERLAYS.contains(&name) {
        let mut files = RuleFiles::named(MATRICES[0], None)?;
        files.add_overlay(name, None)?;
        return Ok(files);
    }
    if name.ends_with(".csv") {
        return Err(PolicyError::NoFile);
    }
    find_matrix(name, None, None)
}

pub(super) fn show(arguments: &ShowArguments) -> io::Result<Exit> {
    let mut loaded = find_matrix(&arguments.matrix, None, None);
    if let Ok(files) = &mut loaded {
        for overlay in &arguments.overlays {
            if let Err(message) = files.add_overlay(overlay, None) {
                report_error(&message.to_string());
                return Ok(Exit::CannotDo);
            }
        }
    }
    let loaded = loaded.map_err(|message| file_problem("--matrix", message));
    let matrix = match loaded.and_then(|files| files.load()) {
        Ok(matrix) => matrix,
        Err(problems) => {
            report_errors(&problems);
            return Ok(Exit::CannotDo);
        }
    };
    let parse_role =
        |role: &Option<String>| role.as_deref().map(|role| matrix.roles_named(role)).transpose();
    let (from, to) = match (parse_role(&arguments.from), parse_role(&arguments.to)) {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => {
            for message in [from.err(), to.err()].into_iter().flatten() {
                report_error(&message.to_string());
            }
            return Ok(Exit::CannotDo);
        }
    };
    let table = if arguments.roles {
        role_table(&matrix)
    } else if arguments.features {
        feature_table(&matrix)
    } else {
        row_table(&matrix, from, to, MatrixColumns::of(&arguments.format))
    };
    print_table(&table, &arguments.format, "No row of the matrix matches.")
}

/// Prints a table, or the sentence `empty` if the format is `table` and there are no rows.
fn print_table(table: &TextTable, format: &str, empty: &str) -> io::Result<Exit> {
    let mut out = anstream::stdout().lock();
    if table.rows.is_empty() && format == "table" {
        writeln!(out, "{empty}")?;
    } else {
        let mut text = Vec::new();
        table.write(format, terminal_width(), &mut text)?;
        out.write_all(&text)?;
    }
    out.flush()?;
    Ok(Exit::Compliant)
}

pub(super) fn diff(arguments: &DiffArguments) -> io::Result<Exit> {
    let [old, new] = [("OLD", &arguments.old), ("NEW", &arguments.new)]
        .map(|(argument, name)| load_matrix(argument, name, &[]));
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            for problems in [old.err(), new.err()].into_iter().flatten() {
                report_errors(&problems);
            }
            return Ok(Exit::CannotDo);
        }
    };
    let columns = MatrixColumns::of(&arguments.format);
    let mut table = TextTable::new(match columns {
        MatrixColumns::Main => &["change", "from", "to", "port", "feature", "purpose"],
        MatrixColumns::All => {
            &["change", "from", "to", "transport", "ports", "feature", "purpose", "rule", "others"]
        }
    });
    let mut add_rows = |change: [&str; 2], changes: Vec<MatrixChange<'_>>| {
        for entry in changes {
            let change = change[usize::from(!entry.others.is_empty())];
            table.rows.push(change_cells(change, &entry, columns));
        }
    };
    // If the other matrix documents the service for other sources, the port is open with either
    // matrix, so the change only widens or narrows the access.
    add_rows(["opens", "widens"], new.beyond(&old));
    add_rows(["closes", "narrows"], old.beyond(&new));
    let before = service_names(&old);
    let after = service_names(&new);
    let services = [("opens", after.difference(&before)), ("closes", before.difference(&after))];
    for (change, (role, name)) in
        services.into_iter().flat_map(|(change, list)| list.map(move |service| (change, service)))
    {
        let purpose = format!("{name} is a name of the external service {role}");
        let cells: &[&str] = match columns {
            MatrixColumns::Main => &[change, "", name, "", "", &purpose],
            MatrixColumns::All => &[change, "", name, "", "", "", &purpose, "", ""],
        };
        table.rows.push(cells.iter().map(|cell| (*cell).to_owned()).collect());
    }
    print_table(&table, &arguments.format, "No difference.")
}

/// Returns the cells of a change.
fn change_cells(change: &str, entry: &MatrixChange<'_>, columns: MatrixColumns) -> Vec<String> {
    let MatrixChange { row, from, to, others } = entry;
    let mut cells = vec![change.to_owned(), from.join(", "), to.join(", ")];
    let others = others.join(", ");
    match columns {
        MatrixColumns::Main => {
            let others = match others.as_str() {
                "" => String::new(),
                others => format!("; the other matrix documents this traffic from {others}"),
            };
            let purpose = format!("{} ({}){others}", row.purpose, row.id);
            cells.extend([port_text(row), row.features.join("+"), purpose]);
        }
        MatrixColumns::All => cells.extend([
            row.transport.to_string(),
            row.ports_text(),
            row.features.join("+"),
            row.purpose.clone(),
            row.id.clone(),
            others,
        ]),
    }
    cells
}

/// Returns the transport and the ports of a row as one word, such as `tcp/443`.
fn port_text(row: &Row) -> String {
    match row.ports_text().as_str() {
        "" => row.transport.to_string(),
        ports => format!("{}/{ports}", row.transport),
    }
}

/// Returns the role and the name of each external service.
fn service_names(matrix: &Matrix) -> BTreeSet<(String, String)> {
    let slug = |role: usize| matrix.roles[role].slug.clone();
    matrix.services.iter().map(|(role, name)| (slug(*role), name.to_string())).collect()
}

fn role_table(matrix: &Matrix) -> TextTable {
    let mut table = TextTable::new(&["role", "name", "also", "kind"]);
    for role in matrix.roles.iter().filter(|r| r.is_playable()) {
        let also = role.aliases.join("; ");
        table.rows.push(vec![role.slug.clone(), role.name.clone(), also, role.kind.to_string()]);
    }
    table
}

fn feature_table(matrix: &Matrix) -> TextTable {
    let mut table = TextTable::new(&["feature", "usually", "meaning"]);
    for (name, feature) in &matrix.features {
        let usual = if feature.usual { "on" } else { "off" };
        table.rows.push(vec![name.clone(), usual.to_owned(), feature.meaning.clone()]);
    }
    table
}

/// The columns of a matrix that a table contains.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MatrixColumns {
    /// The columns that fit on a terminal.
    Main,
    /// All columns. In a table of rows, they include the scope, the certainty and the provenance.
    All,
}

impl MatrixColumns {
    /// Returns the columns that a format shows.
    fn of(format: &str) -> Self {
        if format == "table" { Self::Main } else { Self::All }
    }
}

/// Returns the rows with these source and destination roles; `None` means any role.
fn row_table(
    matrix: &Matrix,
    from: Option<RoleSet>,
    to: Option<RoleSet>,
    columns: MatrixColumns,
) -> TextTable {
    const MAIN: &[&str] = &["from", "to", "port", "feature", "need", "purpose"];
    const ALL: &[&str] = &[
        "from",
        "to",
        "transport",
        "ports",
        "feature",
        "need",
        "purpose",
        "rule",
        "scope",
        "certainty",
        "provenance",
        "note",
        "overlay",
    ];
    let mut table = TextTable::new(match columns {
        MatrixColumns::Main => MAIN,
        MatrixColumns::All => ALL,
    });
    for row in &matrix.rows {
        let matches = from.is_none_or(|roles| matrix.is_source(row, roles))
            && to.is_none_or(|roles| matrix.is_destination(row, roles));
        if !matches {
            continue;
        }
        let mut cells = vec![matrix.roles[row.source].slug.clone(), matrix.destination_text(row)];
        match columns {
            MatrixColumns::Main => cells.push(port_text(row)),
            MatrixColumns::All => cells.extend([row.transport.to_string(), row.ports_text()]),
        }
        cells.extend([row.features.join("+"), row.expectation.to_string(), row.purpose.clone()]);
        if columns == MatrixColumns::All {
            cells.extend([
                row.id.clone(),
                row.scope.to_string(),
                row.certainty.to_string(),
                row.provenance.clone(),
                row.note.clone(),
                row.overlay.clone().unwrap_or_default(),
            ]);
        }
        table.rows.push(cells);
    }
    table
}
