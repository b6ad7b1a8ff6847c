//! Implements `rasaudit audit`, from arguments to reports.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use supports_hyperlinks::Stream;

use super::args::AuditArguments;
use super::diff::{read_judged, stored_result};
use super::exit::{AuditStatus, Exit};
use super::policy::{read_report, report_errors};
use super::policy_args::load_judging;
use super::selection::{SelectionParser, TEXT_LIMIT, Vocabulary};
#[cfg(feature = "store")]
use super::store::{OpenedStore, check_policy, plan_audit, warn_about_rows};
use super::work::{
    NOTHING_WRITTEN, Verbosity, print_timings, put_folders, report_failure, stop_on_interrupt,
    take_folders, with_progress_bar,
};
use super::{print_message, print_result, print_some, report_error, terminal_width, warn};
use crate::pipeline::{
    Audit, Baseline, FailOn, Folders, JsonLayout, Limits, OutputPaths, Plan, Progress, Request,
    Unreadable, digest_of, folder_of,
};
use crate::policy::{Policy, TextFile};
use crate::report::{Format, Needs, RowListing, is_exceptions_report, summary};
use crate::result::{AuditResult, ConfigurationFile, HostWatch, ListedTable, Site};
#[cfg(not(feature = "store"))]
use without_store::{NoStore as OpenedStore, check_policy, plan_audit, warn_about_rows};

pub(super) fn run(
    arguments: &AuditArguments,
    configuration: Option<ConfigurationFile>,
) -> io::Result<Exit> {
    let progress = Arc::new(Progress::default());
    let folders = Arc::new(Mutex::new(Some(Folders::default())));
    // The handler is installed first, because `prepare` reads files to find those with equal
    // content, which may take a while.
    stop_on_interrupt(Arc::clone(&progress), Arc::clone(&folders), NOTHING_WRITTEN);
    let Some(Prepared { plan, store, policy, baseline, listing }) =
        prepare(arguments, configuration)
    else {
        return Ok(Exit::CannotDo);
    };
    // The folders are created before the long work starts, so that an unusable path is reported
    // early.
    let files = arguments.files.files();
    match Folders::prepare(arguments.out.as_deref(), &files, arguments.evidence.as_deref()) {
        Ok(made) => put_folders(&folders, made),
        Err(failure) => return Ok(report_failure(failure)),
    }
    let started = Instant::now();
    let limits = Limits {
        max_loss: arguments.policy_args.max_loss,
        min_watch: arguments.policy_args.min_watch,
        as_of: arguments.as_of,
        fail_on: arguments.fail_on.unwrap_or(FailOn::USUAL),
        require_assessed: requires_check(arguments.fail_on, arguments.require_assessed),
    };
    let audit = with_progress_bar(&plan, &progress, Verbosity::of(arguments.quiet), || {
        Audit::of(&plan, policy, baseline, &limits, &progress)
    });
    let audit = match audit {
        Ok(audit) => audit,
        Err(failure) => {
            // The interrupt handler never drops its reference. To remove the created folders, they
            // must therefore be dropped here.
            drop(take_folders(&folders));
            return Ok(report_failure(failure));
        }
    };
    if arguments.verbose {
        let conversations = &audit.outcome.conversations;
        print_message(format_args!(
            "frames: {}, conversations: {}, time: {:.2?}, workers: {}, flow tables written to disk: {} bytes",
            audit.reading.account.frames,
            conversations.list.len(),
            started.elapsed(),
            plan.jobs,
            conversations.spilled,
        ));
    }
    print_some(audit.damaged.iter().cloned(), report_error);
    warn_about_rows(store.as_ref(), &audit);
    // If the interrupt handler has already taken the folders, nothing is written.
    let Some(folders) = take_folders(&folders) else { return Ok(Exit::Interrupted) };
    if let Err(failure) = audit.write_folders(folders, &progress) {
        return Ok(report_failure(failure));
    }
    let format = arguments.format.as_deref();
    // Only the result shows which sensors there are, so the filters are checked again.
    let problems = parse_show_with(&arguments.show, Vocabulary::of(&audit.result())).err();
    problems.iter().flatten().for_each(|problem| warn(problem));
    match &listing {
        Some(listing) if arguments.quiet => print_listing(&audit.result(), listing)?,
        _ if format.is_some() || !arguments.quiet => {
            let (reports, evidence) = (arguments.out.as_deref(), arguments.evidence.as_deref());
            let places = OutputPaths { reports, files, evidence, links: None };
            print_report(&audit.result(), format, places, listing.as_ref())?;
        }
        _ => {}
    }
    progress.timings.done("reports");
    if arguments.timings {
        print_timings(&progress, audit.reading.account.frames);
    }
    let status = AuditStatus {
        is_partial: !audit.damaged.is_empty(),
        is_unchecked: audit.unchecked,
        has_failed: audit.failed,
    };
    // Freeing every conversation takes time, and the process ends anyway. All files are complete.
    std::mem::forget(audit);
    Ok(status.into())
}

/// Returns whether an audit that checked nothing must exit with status 4: with
/// `--require-assessed`, or with `--fail-on` unless its value is `never`. Users who set `--fail-on`
/// rely on the exit code.
pub(super) fn requires_check(fail_on: Option<FailOn>, require_assessed: bool) -> bool {
    require_assessed || fail_on.is_some_and(|fail_on| fail_on != FailOn::Never)
}

/// The checked input of an audit.
struct Prepared {
    plan: Plan,
    /// The store of evidence rows; `None` if all inputs are captures.
    store: Option<OpenedStore>,
    policy: Option<Policy>,
    baseline: Option<Baseline>,
    /// The listing of `--show`.
    listing: Option<RowListing>,
}

/// Checks everything that can be checked before the work starts. Reports problems and returns
/// `None` if there are any.
fn prepare(
    arguments: &AuditArguments,
    configuration: Option<ConfigurationFile>,
) -> Option<Prepared> {
    let format = arguments.format.as_deref().and_then(Format::named);
    let request = Request {
        captures: arguments.captures.clone(),
        jobs: arguments.jobs.map(usize::from),
        max_memory: arguments.max_memory,
        filter: arguments.filter.clone(),
        since: arguments.since,
        until: arguments.until,
        unreadable: Unreadable::Refuse,
        hash: arguments.out.is_some() || format.is_some_and(|format| format.has_digests),
        no_decap: arguments.tunnels.no_decap,
        vxlan_ports: arguments.tunnels.vxlan_ports.clone(),
        tunnels: Vec::new(),
        dedup: arguments.dedup,
        evidence: arguments.evidence.clone(),
        configuration,
    };
    let plan = plan_audit(request);
    let format = format.filter(|format| format.needs == Needs::Judgement);
    if let Some(format) = format.filter(|_| arguments.inventory.is_none()) {
        report_error(&format!(
            "--format {} needs an inventory; without one, use --format conversations",
            format.name
        ));
        return None;
    }
    let inventory = arguments.inventory.as_deref();
    let load = |file| load_judging(file, &arguments.policy_args, arguments.as_of);
    let policy = inventory.map(load).transpose();
    let policy = policy.map_err(|problems| report_errors(&problems));
    let baseline = arguments.baseline.as_deref().map(load_baseline).transpose();
    let baseline = baseline.map_err(|message| report_error(&message));
    if arguments.fail_on == Some(FailOn::New) && arguments.baseline.is_none() {
        report_error("--fail-on new needs --baseline, which names the result of an earlier audit");
        return None;
    }
    if let Some(problem) = list_in_report(arguments) {
        report_error(&problem);
        return None;
    }
    let listing = match &policy {
        Ok(Some(policy)) => parse_show(&arguments.show, policy),
        _ => Ok(None),
    };
    let listing = listing.map_err(|problems| problems.iter().for_each(|p| report_error(p)));
    let ((plan, store), policy) = (plan?, policy.ok()?);
    check_policy(store.as_ref(), &plan, policy.as_ref())?;
    Some(Prepared { plan, store, policy, baseline: baseline.ok()?, listing: listing.ok()? })
}

/// Returns a message if the list of exceptions is the exceptions report in the output folder,
/// because the new report would replace the list.
fn list_in_report(arguments: &AuditArguments) -> Option<String> {
    let list = arguments.policy_args.exceptions.as_deref()?;
    let folder = [folder_of(list), arguments.out.clone()?].map(|folder| folder.canonicalize().ok());
    let [Some(of_list), Some(of_report)] = folder else { return None };
    (of_list == of_report && is_exceptions_report(list)).then(|| {
        format!(
            "{}: the reports of this audit would replace this list of exceptions; keep it elsewhere, or use another folder for the reports",
            list.display()
        )
    })
}

/// Replaces the functions for stores in a build without the feature `store`, which cannot read
/// stores.
#[cfg(not(feature = "store"))]
mod without_store {
    use super::{Audit, Plan, Policy, Request, report_error};

    /// A store. The type has no values, because this build cannot open stores.
    pub enum NoStore {}

    pub fn plan_audit(request: Request) -> Option<(Plan, Option<NoStore>)> {
        let plan = Plan::new(request);
        let plan = plan.map_err(|wrong| wrong.iter().for_each(|w| report_error(&w.to_string())));
        Some((plan.ok()?, None))
    }

    pub fn check_policy(_: Option<&NoStore>, _: &Plan, _: Option<&Policy>) -> Option<()> {
        Some(())
    }

    pub fn warn_about_rows(_: Option<&NoStore>, _: &Audit) {}
}

/// Checks the filters of `--show` against the inventory. Returns `None` if `texts` is empty. The
/// error lists all problems.
fn parse_show(texts: &[String], policy: &Policy) -> Result<Option<RowListing>, Vec<String>> {
    let site = Site::of(policy, |_| HostWatch::default());
    parse_show_with(texts, Vocabulary { site: Some(&site), result: None, is_judged: true })
}

fn parse_show_with(
    texts: &[String],
    vocabulary: Vocabulary<'_>,
) -> Result<Option<RowListing>, Vec<String>> {
    if texts.is_empty() {
        return Ok(None);
    }
    let mut parser = SelectionParser::new(ListedTable::Findings, vocabulary);
    parser.limit(Some(TEXT_LIMIT));
    for text in texts {
        parser.show(text);
    }
    parser.finish("--show limit=all").map(Some)
}

/// Prints only the listing of `--show`.
fn print_listing(result: &AuditResult<'_>, listing: &RowListing) -> io::Result<()> {
    let mut text = Vec::new();
    listing.write(result, "text", terminal_width(), &mut text)?;
    print_result(&text)
}

/// Prints the report to standard output, in the requested format or as the summary. `reports` and
/// `evidence` in `places` are the folders that were written. `listing` replaces the worst findings
/// of the summary.
pub(super) fn print_report(
    result: &AuditResult<'_>,
    format: Option<&str>,
    places: OutputPaths<'_>,
    listing: Option<&RowListing>,
) -> io::Result<()> {
    let printed = match format {
        None | Some("text") => print_summary(result, places, listing),
        Some(format) => print_format(result, format, places.files.layout),
    };
    match printed {
        // The program that reads the output may close it early. The result of the audit is valid
        // even then.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

fn print_summary(
    result: &AuditResult<'_>,
    places: OutputPaths<'_>,
    listing: Option<&RowListing>,
) -> io::Result<()> {
    let mut text = Vec::new();
    // The terminal may run on another host, so the link contains the name of the host that has the
    // file.
    let host = host_name().filter(|_| supports_hyperlinks::on(Stream::Stdout));
    let places = OutputPaths { links: host.as_deref(), ..places };
    summary(result, &places, listing, terminal_width(), &mut text)?;
    let mut out = anstream::stdout();
    out.write_all(&text)?;
    out.flush()
}

fn print_format(result: &AuditResult<'_>, format: &str, layout: JsonLayout) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if let Some(format) = Format::named(format) {
        format.write_as(layout, result, &mut out)?;
    }
    out.flush()
}

/// Returns the name of this host; `None` if it cannot be read or a URL cannot contain it. On
/// systems other than Unix, the name is empty.
fn host_name() -> Option<String> {
    #[cfg(unix)]
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    #[cfg(not(unix))]
    let name = String::new();
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)).then_some(name)
}

/// Reads the result of an earlier audit: either a complete result, or only a findings.csv.
fn load_baseline(file: &Path) -> Result<Baseline, String> {
    let name = file.display().to_string();
    let path = if file.is_dir() { stored_result(file)? } else { file.to_owned() };
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
        let mut baseline = Baseline::of_result(name, read_judged(&path)?);
        // The result is large, so the digest is computed without holding the file in memory.
        baseline.sha256 = path.canonicalize().and_then(|path| digest_of(&path)).ok();
        return Ok(baseline);
    }
    let TextFile { text, sha256, .. } = read_report(&path)?;
    let mut baseline = Baseline::load(&name, &text).map_err(|error| error.to_string())?;
    baseline.sha256 = Some(sha256);
    Ok(baseline)
}
