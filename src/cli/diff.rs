//! Implements `rasaudit diff`, which compares two stored results.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::args::AuditDiffArguments;
use super::exit::Exit;
use super::{print_result, report_error, warn};
use crate::pipeline::{capture_kind, fits_manifest};
use crate::report::{COMPARISON_FORMATS, ComparedAudit, ComparisonReport};
use crate::result::{AuditResult, Comparison};

/// Compares two audits and prints what changed, and why.
pub(super) fn run(arguments: &AuditDiffArguments) -> io::Result<Exit> {
    let [old, new] = [&arguments.old, &arguments.new].map(|given| {
        let path = stored_result(given).and_then(complete_result);
        let result = path.and_then(|path| read_judged(&path));
        result.map_err(|problem| report_error(&problem)).ok()
    });
    let (Some(old), Some(new)) = (old, new) else { return Ok(Exit::CannotDo) };
    let comparison = Comparison::of(&old, &new);
    for warning in &comparison.warnings {
        warn(warning);
    }
    let compared = |file: &Path, result| ComparedAudit::of(file.display().to_string(), result);
    let report = ComparisonReport::new(
        compared(&arguments.old, &old),
        compared(&arguments.new, &new),
        &comparison,
    );
    let format = arguments.format.as_deref().unwrap_or("text");
    let mut text = Vec::new();
    for (_, write) in COMPARISON_FORMATS.iter().filter(|(name, _)| *name == format) {
        write(&report, &mut text)?;
    }
    let exit = if comparison.has_changes() { Exit::Findings } else { Exit::Compliant };
    print_result(&text)?;
    Ok(exit)
}

/// Reads a stored result that was judged against an inventory.
///
/// # Errors
///
/// Returns a message that names the file if it cannot be read, does not match its manifest, or was
/// not judged.
pub(super) fn read_judged(path: &Path) -> Result<AuditResult<'static>, String> {
    fits_manifest(path).map_err(|problem| format!("{} {problem}", path.display()))?;
    let result = AuditResult::read(path).map_err(|error| error.to_string())?;
    if !result.is_judged() {
        return Err(format!(
            "{}: the audit had no inventory, so there are no findings; audit the captures again with --inventory",
            path.display()
        ));
    }
    Ok(result)
}

/// Returns the path unchanged, unless it is that of a CSV file, which is not a complete result.
///
/// # Errors
///
/// Returns a message that says which file is needed instead of the CSV file.
fn complete_result(path: PathBuf) -> Result<PathBuf, String> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        return Err(format!(
            "{} is a table; rasaudit diff needs audit.json or the folder that contains it (only --baseline can read a findings.csv)",
            path.display()
        ));
    }
    Ok(path)
}

/// Returns whether a path is a file that contains an uncompressed capture. What a pipe contains can
/// be read only once, so pipes are not examined.
fn is_capture(path: &Path) -> bool {
    let mut start = [0; 4];
    path.is_file()
        && File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
        && matches!(capture_kind(&start), Some("pcap" | "pcapng"))
}

/// Returns the path of a stored result: the given file, or `audit.json` in the given folder.
///
/// # Errors
///
/// Returns a message if the path is `-`, if the file is a capture, or if the folder contains no
/// `audit.json`.
pub(super) fn stored_result(given: &Path) -> Result<PathBuf, String> {
    if given.as_os_str() == "-" {
        return Err("a result cannot be read from standard input; give a file or folder".to_owned());
    }
    if !given.is_dir() {
        if is_capture(given) {
            return Err(format!(
                "{} is a capture, not the result of an audit; audit it first (rasaudit audit {} --out FOLDER), and give the folder",
                given.display(),
                given.display()
            ));
        }
        return Ok(given.to_owned());
    }
    let path = given.join("audit.json");
    if path.is_file() {
        return Ok(path);
    }
    if given.join("findings.csv").is_file() {
        return Err(format!(
            "{} contains findings.csv, but no audit.json, which is the complete result; audit again with --reports csv,json (rasaudit audit --baseline also accepts the path of findings.csv)",
            given.display()
        ));
    }
    Err(format!(
        "{} contains no audit.json, the complete result of an audit; create it with rasaudit audit ... --out {}",
        given.display(),
        given.display()
    ))
}
