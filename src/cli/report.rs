//! Implements `rasaudit report`, which writes reports from a stored result.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::{fs, io};

use super::args::ReportArguments;
use super::audit::print_report;
use super::diff::stored_result;
use super::exit::Exit;
use super::report_error;
use super::work::{NOTHING_WRITTEN, put_folders, report_failure, stop_on_interrupt, take_folders};
use crate::pipeline::{Folders, OutputPaths, Progress, ReportFiles, fits_manifest};
use crate::report::{FORMATS, Format, Needs};
use crate::result::AuditResult;

/// Writes reports from the result of an earlier audit.
pub(super) fn run(arguments: &ReportArguments) -> io::Result<Exit> {
    let progress = Arc::new(Progress::default());
    let folders = Arc::new(Mutex::new(Some(Folders::default())));
    stop_on_interrupt(Arc::clone(&progress), Arc::clone(&folders), NOTHING_WRITTEN);
    let path = match stored_result(&arguments.result) {
        Ok(path) => path,
        Err(problem) => {
            report_error(&problem);
            return Ok(Exit::CannotDo);
        }
    };
    if let Err(problem) = fits_manifest(&path) {
        report_error(&format!("{} {problem}", path.display()));
        return Ok(Exit::CannotDo);
    }
    let result = match AuditResult::read(&path) {
        Ok(result) => result,
        Err(error) => {
            report_error(&error.to_string());
            return Ok(Exit::CannotDo);
        }
    };
    let format = arguments.format.as_deref();
    let needs = format.and_then(Format::named).map_or(Needs::Result, |format| format.needs);
    if result.has_only_tables() && needs == Needs::Result {
        let tables = FORMATS.iter().filter(|format| format.needs != Needs::Result);
        let tables: Vec<&str> = tables.map(|format| format.name).collect();
        report_error(&format!(
            "{} was written by an earlier version and contains only tables: it supports --format {}; for other formats, audit the captures again",
            path.display(),
            tables.join(", ")
        ));
        return Ok(Exit::CannotDo);
    }
    if let Some(format) = format.filter(|_| needs == Needs::Judgement && !result.is_judged()) {
        report_error(&format!(
            "--format {format} needs an audit with an inventory, but this one had none; use --format conversations"
        ));
        return Ok(Exit::CannotDo);
    }
    let files = arguments.files.files();
    if let Some(out) = arguments.out.as_deref().filter(|out| would_remove(out, &path, &files)) {
        report_error(&format!(
            "--reports without json would remove {}, from which the reports are made; add json, or choose a folder other than {}",
            path.display(),
            out.display()
        ));
        return Ok(Exit::CannotDo);
    }
    match Folders::prepare(arguments.out.as_deref(), &files, None) {
        Ok(made) => put_folders(&folders, made),
        Err(failure) => return Ok(report_failure(failure)),
    }
    let Some(folders) = take_folders(&folders) else { return Ok(Exit::Interrupted) };
    if let Err(failure) = folders.write(&result, std::iter::empty(), &progress) {
        return Ok(report_failure(failure));
    }
    if format.is_some() || !arguments.quiet {
        let reports = arguments.out.as_deref();
        let places = OutputPaths { reports, files, evidence: None, links: None };
        print_report(&result, format, places, None)?;
    }
    Ok(Exit::Compliant)
}

/// Returns whether writing the selected files into a folder would remove the stored result from
/// which they are made.
fn would_remove(out: &Path, result: &Path, files: &ReportFiles) -> bool {
    let source = fs::canonicalize(result).ok();
    let target = fs::canonicalize(out).ok().map(|out| out.join("audit.json"));
    source.is_some() && source == target && !files.contains("json")
}
