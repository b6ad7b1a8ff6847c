//! `rasaudit matrix`: showing, checking and comparing port matrices.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use super::args::{DiffArguments, ShowArguments};
use super::exit::Exit;
use super::policy::{find_matrix, load_matrix, report_errors, whole_file};
use super::report_error;
use crate::classify::check_examples;
use crate::model::escape_control;
use crate::policy::{
    MATRICES, Matrix, MatrixChange, OVERLAYS, PolicyError, RoleSet, Row, RuleFiles,
};
use crate::report::TextTable;

pub(super) fn check(name: &str) -> io::Result<Exit> {
    let path = Path::new(name);
    let overlay = OVERLAYS.contains(&name);
    let files = match path.is_file() {
        true => RuleFiles::of_file(path, MATRICES[0]),
        false if path.is_dir() => RuleFiles::folder(path),
        false if overlay => RuleFiles::named(MATRICES[0], None).and_then(|mut files| {
            files.add_overlay(name, None)?;
            Ok(files)
        }),
        false if name.ends_with(".csv") => Err(PolicyError::NoFile),
        false => find_matrix(name, None, None),
    };
    let loaded = files.map_err(|message| whole_file(name, message)).and_then(|files| files.load());
    let matrix = match loaded {
        Ok(matrix) => matrix,
        Err(problems) => {
            report_errors(&problems);
            return Ok(Exit::CannotDo);
        }
    };
    let mut problems = matrix.lint();
    problems.extend(check_examples(&matrix));
    // For a single file, only its own rows are checked, not the roles and features that it is read
    // with.
    problems.retain(|problem| !path.is_file() || problem.file == name);
    if !problems.is_empty() {
        report_errors(&problems);
        return Ok(Exit::CannotDo);
    }
    if matrix.rows.iter().all(|row| row.file.as_ref() != name) && path.is_file() {
        let count = matrix.background.len();
        writeln!(
            io::stdout(),
            "{}: sound; {count} kinds of background traffic",
            escape_control(name)
        )?;
        return Ok(Exit::Compliant);
    }
    writeln!(
        io::stdout(),
        "{}: sound; {} rows in {} groups, {} roles, {} features; every example is decided by its row",
        escape_control(name),
        matrix.rows.len(),
        matrix.groups.len(),
        matrix.roles.len(),
        matrix.features.len(),
    )?;
    Ok(Exit::Compliant)
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
    let loaded = loaded.map_err(|message| whole_file("--matrix", message));
    let matrix = match loaded.and_then(|files| files.load()) {
        Ok(matrix) => matrix,
        Err(problems) => {
            report_errors(&problems);
            return Ok(Exit::CannotDo);
        }
    };
    let wanted = |role: &Option<String>| role.as_deref().map(|r| matrix.roles_named(r)).transpose();
    let (from, to) = match (wanted(&arguments.from), wanted(&arguments.to)) {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => {
            for message in [from.err(), to.err()].into_iter().flatten() {
                report_error(&message.to_string());
            }
            return Ok(Exit::CannotDo);
        }
    };
    let table = if arguments.roles {
        roles(&matrix)
    } else if arguments.features {
        features(&matrix)
    } else {
        rows(&matrix, from, to, arguments.format != "table")
    };
    if table.rows.is_empty() && arguments.format == "table" {
        writeln!(io::stdout(), "No row of the matrix matches.")?;
        return Ok(Exit::Compliant);
    }
    table.write(&arguments.format, &mut io::stdout().lock())?;
    Ok(Exit::Compliant)
}

pub(super) fn diff(arguments: &DiffArguments) -> io::Result<Exit> {
    let (old, new) = match (load_matrix(&arguments.old, &[]), load_matrix(&arguments.new, &[])) {
        (Ok(old), Ok(new)) => (old, new),
        (old, new) => {
            for problems in [old.err(), new.err()].into_iter().flatten() {
                report_errors(&problems);
            }
            return Ok(Exit::CannotDo);
        }
    };
    let mut table = TextTable::new(&[
        "change",
        "from",
        "to",
        "transport",
        "ports",
        "feature",
        "purpose",
        "rule",
        "others",
    ]);
    let mut add = |change: [&str; 2], found: Vec<MatrixChange<'_>>| {
        for MatrixChange { row, from, to, others } in found {
            table.rows.push(vec![
                change[usize::from(!others.is_empty())].to_owned(),
                from.join(", "),
                to.join(", "),
                transport(row),
                row.ports_text(),
                row.features.join("+"),
                row.purpose.clone(),
                row.id.clone(),
                others.join(", "),
            ]);
        }
    };
    // If the other matrix allows it for other sources, the port itself stays open.
    add(["opens", "widens"], new.beyond(&old));
    add(["closes", "narrows"], old.beyond(&new));
    let names = |matrix: &Matrix| -> BTreeSet<(String, String)> {
        let slug = |role: usize| matrix.roles[role].slug.clone();
        matrix.services.iter().map(|(role, name)| (slug(*role), name.to_string())).collect()
    };
    let before = names(&old);
    let after = names(&new);
    let services = [("opens", after.difference(&before)), ("closes", before.difference(&after))];
    for (change, (role, name)) in
        services.into_iter().flat_map(|(change, list)| list.map(move |service| (change, service)))
    {
        let purpose = format!("{name} stands for {role}");
        let cells = [change, "", name, "", "", "", &purpose, "", ""];
        table.rows.push(cells.map(str::to_owned).to_vec());
    }
    if table.rows.is_empty() && arguments.format == "table" {
        writeln!(io::stdout(), "No difference.")?;
        return Ok(Exit::Compliant);
    }
    table.write(&arguments.format, &mut io::stdout().lock())?;
    Ok(Exit::Compliant)
}

fn transport(row: &Row) -> String {
    row.transport.to_string()
}

fn roles(matrix: &Matrix) -> TextTable {
    let mut table = TextTable::new(&["role", "name", "also", "kind"]);
    for role in matrix.roles.iter().filter(|r| r.is_playable()) {
        let also = role.aliases.join("; ");
        table.rows.push(vec![role.slug.clone(), role.name.clone(), also, role.kind.to_string()]);
    }
    table
}

fn features(matrix: &Matrix) -> TextTable {
    let mut table = TextTable::new(&["feature", "usually", "meaning"]);
    for (name, feature) in &matrix.features {
        let usual = if feature.usual { "on" } else { "off" };
        table.rows.push(vec![name.clone(), usual.to_owned(), feature.meaning.clone()]);
    }
    table
}

/// Returns the rows between some roles. With `whole`, they include what they are based on.
fn rows(matrix: &Matrix, from: Option<RoleSet>, to: Option<RoleSet>, whole: bool) -> TextTable {
    const SHORT: &[&str] = &["from", "to", "transport", "ports", "feature", "need", "purpose"];
    const WHOLE: &[&str] = &[
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
    let mut table = TextTable::new(if whole { WHOLE } else { SHORT });
    for row in &matrix.rows {
        let fits = from.is_none_or(|roles| matrix.is_source(row, roles))
            && to.is_none_or(|roles| matrix.is_destination(row, roles));
        if !fits {
            continue;
        }
        let mut cells = vec![
            matrix.roles[row.source].slug.clone(),
            matrix.destination_text(row),
            transport(row),
            row.ports_text(),
            row.features.join("+"),
            row.expectation.to_string(),
            row.purpose.clone(),
        ];
        if whole {
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
