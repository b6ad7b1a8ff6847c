//! Implements `rasaudit inventory draft`, which drafts an inventory from captures.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;

use super::args::DraftArguments;
use super::exit::Exit;
use super::policy::{RulesWanted, file_problem, load_matrix, load_policy, report_errors};
use super::work::{
    NOTHING_WRITTEN, Verbosity, report_failure, stop_on_interrupt, with_progress_bar,
};
use super::{report_error, warn};
use crate::pipeline::{DraftedInventory, Folders, Given, Plan, Progress, Request, folder_of};
use crate::policy::{Diagnostic, Inventory, MATRICES, Matrix, Policy, TextFile, is_toml};

/// The matrix that roles are guessed from if the user does not name one.
const DEFAULT_MATRIX: &str = MATRICES[0];

/// The data that a draft is based on.
struct DraftContext {
    matrix: Matrix,
    /// The inventory that the draft extends, and its text.
    merged: Option<(Policy, String)>,
    given: Given,
}

pub(super) fn run(arguments: &DraftArguments) -> io::Result<Exit> {
    let context = load_context(arguments).map_err(|problems| report_errors(&problems));
    let request = Request {
        captures: arguments.captures.clone(),
        jobs: arguments.jobs.map(usize::from),
        max_memory: arguments.max_memory,
        ..Request::default()
    };
    let plan =
        Plan::new(request).map_err(|wrong| wrong.iter().for_each(|w| report_error(&w.to_string())));
    let (Ok(context), Ok(plan)) = (context, plan) else { return Ok(Exit::CannotDo) };
    #[cfg(feature = "store")]
    {
        let remedy = "a draft needs the captures from which the rows were collected";
        if let Err(problem) = super::stored_rows::rows_among(&plan, remedy) {
            report_error(&problem);
            return Ok(Exit::CannotDo);
        }
    }
    if let Err(problem) = check_output(arguments) {
        report_error(&problem);
        return Ok(Exit::CannotDo);
    }
    let progress = Arc::new(Progress::default());
    let folders = Arc::new(Mutex::new(Some(Folders::default())));
    stop_on_interrupt(Arc::clone(&progress), folders, NOTHING_WRITTEN);
    let drafted = with_progress_bar(&plan, &progress, Verbosity::of(arguments.quiet), || {
        DraftedInventory::of(&plan, &context.matrix, &context.given, &progress)
    });
    let drafted = match drafted {
        Ok(drafted) => drafted,
        Err(failure) => return Ok(report_failure(failure)),
    };
    for problem in &drafted.damaged {
        report_error(problem);
    }
    if let Some(words) = drafted.left_out().filter(|_| !arguments.quiet) {
        warn(&format!(
            "the draft leaves out {words}; if any of them belong to the farm, add their networks with --internal CIDR"
        ));
    }
    if drafted.is_empty() {
        report_error(
            "no internal host was seen, so there is nothing to draft: use a capture of the farm's traffic or, if the farm has public addresses, name its networks with --internal (rasaudit audit CAPTURE shows what a capture contains)",
        );
        return Ok(Exit::CannotDo);
    }
    let mut text = Vec::new();
    match &context.merged {
        None => drafted.write(&context.matrix, &mut text)?,
        Some((policy, before)) => {
            let Some(merged) = merge(&drafted, &context.matrix, policy, before)? else {
                let file = arguments.merge.as_deref().unwrap_or(Path::new("")).display();
                report_error(&format!(
                    "{file}: nothing can be added to hosts or networks that are written as one array (host = [...]); write them as [[host]] and [[network]]"
                ));
                return Ok(Exit::CannotDo);
            };
            text.extend(merged.as_bytes());
        }
    }
    match &arguments.out {
        Some(path) => {
            let written =
                if is_in_place(arguments) { replace(path, &text) } else { write_new(path, &text) };
            if let Err(error) = written {
                report_error(&format!("{}: {error}", path.display()));
                return Ok(Exit::CannotDo);
            }
        }
        None => io::stdout().write_all(&text)?,
    }
    Ok(if drafted.damaged.is_empty() { Exit::Compliant } else { Exit::Partial })
}

/// Returns whether the draft replaces the inventory that it extends.
fn is_in_place(arguments: &DraftArguments) -> bool {
    arguments.out.is_some() && arguments.out == arguments.merge
}

/// Checks that the draft can be written to the requested path. A new draft must not overwrite a
/// file that the user has corrected by hand.
fn check_output(arguments: &DraftArguments) -> Result<(), String> {
    let Some(path) = arguments.out.as_deref() else { return Ok(()) };
    if path.exists() && !is_in_place(arguments) {
        let what = if path.is_dir() {
            "this is a folder; name a file in it"
        } else {
            "this file already exists; name another file"
        };
        return Err(format!("{}: {what}", path.display()));
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(format!("{}: the folder does not exist; create it first", folder.display()));
    }
    Ok(())
}

/// Returns an inventory with the additions of a draft. Returns `None` if the result is not a valid
/// inventory. This happens if hosts or networks are written as one array, to which nothing can be
/// appended.
fn merge(
    drafted: &DraftedInventory,
    matrix: &Matrix,
    policy: &Policy,
    before: &str,
) -> io::Result<Option<String>> {
    let mut new = Vec::new();
    if drafted.write_new(matrix, policy, before, &mut new)? == 0 {
        warn("the inventory already contains all hosts and networks that the captures show");
    }
    let new = String::from_utf8_lossy(&new);
    let merged = if new.is_empty() {
        before.to_owned()
    } else if before.contains("\r\n") {
        format!("{}\r\n{}", before.trim_end(), new.replace('\n', "\r\n"))
    } else {
        format!("{}\n{new}", before.trim_end())
    };
    let is_valid = Inventory::from_toml("the merged inventory", &merged, matrix).is_ok();
    Ok(is_valid.then_some(merged))
}

/// Loads the data that a draft is based on. The error lists all problems.
fn load_context(arguments: &DraftArguments) -> Result<DraftContext, Vec<Diagnostic>> {
    let mut internal = Given::usual_internal();
    internal.extend(arguments.internal.iter().map(IpNet::trunc));
    let Some(file) = arguments.merge.as_deref() else {
        let matrix = load_matrix(
            "--matrix",
            arguments.matrix.as_deref().unwrap_or(DEFAULT_MATRIX),
            &arguments.overlays,
        )?;
        return Ok(DraftContext { matrix, merged: None, given: Given { internal, listed: None } });
    };
    let name = file.display().to_string();
    // The file is read more than once, so it cannot be a pipe.
    if !file.is_file() && file.exists() {
        return Err(file_problem(&name, "--merge needs a regular file".to_owned()));
    }
    if !is_toml(&name) {
        return Err(file_problem(&name, "--merge needs a TOML inventory".to_owned()));
    }
    let policy = load_policy(
        file,
        &RulesWanted { overlays: &arguments.overlays, ..RulesWanted::default() },
    )?;
    let text = TextFile::read(file).map_err(|problem| vec![problem])?.text;
    internal.extend(&policy.inventory.internal);
    internal.sort_unstable();
    internal.dedup();
    let given = Given { internal, listed: Some(policy.clone()) };
    Ok(DraftContext { matrix: policy.matrix.clone(), merged: Some((policy, text)), given })
}

/// Replaces a file atomically: if this fails, the old content remains. The owner, the permissions
/// and a byte order mark are kept. A file that is not UTF-8 text is an error.
pub(super) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    // If the path is a symbolic link, its target is replaced, not the link itself.
    let path = &path.canonicalize()?;
    let before = std::fs::read(path)?;
    let is_utf8 = std::str::from_utf8(&before).is_ok() && !before.contains(&0);
    if !is_utf8 {
        return Err(io::Error::other(
            "the file is not UTF-8 text; save it as UTF-8, or write to another file",
        ));
    }
    let byte_order_mark: &[u8] =
        if before.starts_with(b"\xef\xbb\xbf") { b"\xef\xbb\xbf" } else { b"" };
    let mut new = tempfile::NamedTempFile::new_in(folder_of(path))?;
    new.write_all(&[byte_order_mark, text].concat())?;
    let data = std::fs::metadata(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let own = new.as_file().metadata()?;
        if (own.uid(), own.gid()) != (data.uid(), data.gid()) {
            std::os::unix::fs::chown(new.path(), Some(data.uid()), Some(data.gid()))?;
        }
    }
    new.as_file().set_permissions(data.permissions())?;
    new.as_file().sync_all()?;
    new.persist(path).map(drop).map_err(|error| error.error)
}

/// Creates a file, and returns an error if it exists already. The caller has checked that it does
/// not. If writing fails, the partly written file is removed.
pub(super) fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => io::Error::new(
            error.kind(),
            "another program has just created this file; it was not changed, so run the command again",
        ),
        _ => error,
    })?;
    file.write_all(text).inspect_err(|_| drop(std::fs::remove_file(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_program_is_not_overwritten() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("new");
        write_new(&path, b"one").unwrap();
        let error = write_new(&path, b"two").unwrap_err().to_string();
        assert!(error.ends_with("so run the command again"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
    }
}
