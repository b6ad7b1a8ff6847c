//! Implements `rasaudit collect` and `rasaudit merge`, and audits of stores.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

#[cfg(feature = "live")]
use super::args::WindowRowArgs;
use super::args::{CollectArguments, MergeArguments};
use super::exit::{AuditStatus, Exit};
use super::policy::report_errors;
use super::policy_args::load_judging;
use super::stored_rows::rows_among;
use super::work::{
    NOTHING_WRITTEN, Verbosity, print_timings, report_failure, stop_on_interrupt, with_progress_bar,
};
use super::{print_some, report_error, warn};
use crate::model::{Correction, VantagePoint, name_and_reason};
use crate::pipeline::{Audit, AuditError, Folders, Plan, Progress, Request, Unreadable};
use crate::policy::Policy;
use crate::result::plural;
#[cfg(feature = "live")]
use crate::store::SpoolOptions;
use crate::store::{
    CollectRequest, CollectedFile, Destination, EarlierDifference, EarlierFile, EvidenceStore,
    KeptPackets, MergeRequest, MergedStore, RowOrigin, StoreError, captures_in, collect,
    find_stores, linked_folders_in, merge,
};

/// The message about an interrupt while rows were written to standard output.
const STREAM_INTERRUPTED: &str = "interrupted; the stream of rows is incomplete";

/// Carries out `rasaudit collect`.
pub(super) fn run_collect(arguments: &CollectArguments) -> io::Result<Exit> {
    let to = Destination::of(&arguments.to);
    let interrupted = match to {
        Destination::Store(_) => {
            "interrupted; the rows of captures that were already collected are kept"
        }
        Destination::StandardOutput => STREAM_INTERRUPTED,
    };
    let progress = start(interrupted);
    let Some(request) = collect_request(arguments) else { return Ok(Exit::CannotDo) };
    let mut files: Vec<CollectedFile> = Vec::new();
    let collected =
        with_progress_bar(&request.plan, &progress, Verbosity::of(arguments.quiet), || {
            collect(&request, &to, &progress, |file| files.push(file))
        });
    report_collected(&files, arguments.quiet);
    if let Err(failure) = collected {
        let exit = report_failed_rows(failure, interrupted);
        if let (Destination::Store(folder), Exit::CannotDo, false) = (&to, exit, files.is_empty()) {
            warn(&format!(
                "{}: the rows of {}, which were collected before, are kept",
                folder.display(),
                plural(files.len() as u64, "capture")
            ));
        }
        return Ok(exit);
    }
    let is_empty = files.iter().all(|file| file.passed_over);
    if is_empty {
        report_error("none of the files is a capture, so no evidence was collected");
    }
    print_summary(&to, arguments.quiet, &count_collected(&files))?;
    if arguments.timings {
        print_timings(&progress, files.iter().map(|file| file.frames).sum());
    }
    let is_partial = arguments.strict && (is_empty || files.iter().any(CollectedFile::has_failed));
    Ok(AuditStatus { is_partial, is_unchecked: false, has_failed: false }.into())
}

/// Counts captures, those of them with errors, files that are not captures, and frames.
fn count_collected(files: &[CollectedFile]) -> String {
    let frames: u64 = files.iter().map(|file| file.frames).sum();
    let skipped = files.iter().filter(|file| file.passed_over).count();
    let failed = files.iter().filter(|file| file.has_failed()).count();
    let mut words = format!("captures: {}", files.len() - skipped);
    for (what, count) in [("with errors", failed), ("skipped files", skipped)] {
        if count > 0 {
            words.push_str(&format!(", {what}: {count}"));
        }
    }
    format!("{words}, frames: {frames}")
}

/// Reports captures that could not be read, and warns about files in the store that contain other
/// rows of the captures. With `quiet`, files that were removed are not mentioned.
fn report_collected(files: &[CollectedFile], quiet: bool) {
    let named = |file: &CollectedFile| Some(name_and_reason(&file.name, file.error.as_deref()?));
    let failed = files.iter().filter(|file| file.has_failed());
    print_some(failed.filter_map(named), report_error);
    let earlier = files.iter().flat_map(|file| file.earlier.iter().map(move |e| (file, e)));
    let is_removed = |earlier: &EarlierFile| {
        matches!(earlier.difference, EarlierDifference::Removed | EarlierDifference::Unread)
    };
    let told = earlier.filter(|(_, earlier)| !quiet || !is_removed(earlier));
    print_some(told.map(|(file, earlier)| describe_earlier(&file.name, earlier)), warn);
}

/// Describes other rows of a capture in the folder of the store.
fn describe_earlier(name: &str, EarlierFile { path, difference }: &EarlierFile) -> String {
    let path = path.display();
    match difference {
        EarlierDifference::Removed => format!(
            "{name}: the capture has grown since it was collected, so the earlier file {path} was removed"
        ),
        EarlierDifference::Unread => format!(
            "{name}: the capture could not be read before; the earlier file {path}, which stated this, was removed"
        ),
        EarlierDifference::Grown => format!(
            "{name}: the capture has grown since it was collected, and {path} still contains its earlier rows; an audit is refused until you delete that file; if it also contains other captures, first collect or merge these again without {name}"
        ),
        EarlierDifference::Content => format!(
            "{name}: {path} contains rows of another capture with this name, and an audit counts both; if the capture was replaced, delete that file; if it also contains other captures, first collect or merge these again without {name}"
        ),
        EarlierDifference::Start => format!(
            "{name}: {path} contains rows of a capture with this name and the same first frame; an audit is refused until you delete the file that contains fewer frames; if it also contains other captures, first collect or merge these again without {name}"
        ),
        EarlierDifference::Options(words) => format!(
            "{name}: {path} contains rows of this capture, which was collected {words} now; an audit is refused until all captures have the same options, so delete that file or the new one"
        ),
        EarlierDifference::Nothing => format!(
            "{name}: {path} also contains the rows of this capture; an audit is refused until you delete one of the two files"
        ),
    }
}

/// Carries out `rasaudit merge`.
pub(super) fn run_merge(arguments: &MergeArguments) -> io::Result<Exit> {
    let to = Destination::of(&arguments.to);
    let interrupted = match to {
        Destination::Store(_) => NOTHING_WRITTEN,
        Destination::StandardOutput => STREAM_INTERRUPTED,
    };
    let progress = start(interrupted);
    let from: Vec<RowOrigin> = arguments.stores.iter().map(|path| RowOrigin::of(path)).collect();
    if from.iter().filter(|source| **source == RowOrigin::StandardInput).count() > 1 {
        report_error("standard input (-) is given more than once");
        return Ok(Exit::CannotDo);
    }
    warn_of_links(&arguments.stores);
    let request =
        MergeRequest { from, to, complete: arguments.complete, max_memory: arguments.max_memory };
    match merge(&request, &progress) {
        Ok(MergedStore { captures, with_segments }) => {
            if with_segments > 0 {
                warn(&format!(
                    "the complete store still contains segments of {}; they are payload, but server names may depend on them, because these connections were also captured in a tunnel or requested many names",
                    plural(with_segments as u64, "connection")
                ));
            }
            print_summary(&request.to, arguments.quiet, &format!("merged captures: {captures}"))?;
            Ok(Exit::Compliant)
        }
        Err(failure) => Ok(report_failed_rows(failure, interrupted)),
    }
}

/// Installs the interrupt handler, and returns the progress that it stops. The handler prints the
/// message `interrupted`.
fn start(interrupted: &'static str) -> Arc<Progress> {
    let progress = Arc::new(Progress::default());
    let folders = Arc::new(Mutex::new(Some(Folders::default())));
    stop_on_interrupt(Arc::clone(&progress), folders, interrupted);
    progress
}

/// Prints what was written, unless `quiet` is set or standard output contains the rows.
fn print_summary(to: &Destination, quiet: bool, what: &str) -> io::Result<()> {
    match to {
        Destination::Store(folder) if !quiet => {
            let folder = folder.display().to_string();
            writeln!(io::stdout(), "{}: {what}", crate::model::escape_control(&folder))
        }
        _ => Ok(()),
    }
}

/// Checks the arguments of `rasaudit collect`. Reports problems and returns `None` if there are
/// any.
fn collect_request(arguments: &CollectArguments) -> Option<CollectRequest> {
    let request = Request {
        captures: arguments.captures.clone(),
        jobs: arguments.jobs.map(usize::from),
        max_memory: arguments.max_memory,
        filter: arguments.filter.clone(),
        since: arguments.since,
        until: arguments.until,
        unreadable: Unreadable::Keep,
        hash: true,
        no_decap: arguments.tunnels.no_decap,
        vxlan_ports: arguments.tunnels.vxlan_ports.clone(),
        ..Request::default()
    };
    let plan =
        Plan::new(request).map_err(|wrong| wrong.iter().for_each(|w| report_error(&w.to_string())));
    let load = |file: &PathBuf| load_judging(file, &arguments.policy_args, None);
    let policy = arguments.inventory.as_ref().map(load).transpose();
    let policy = policy.map_err(|problems| report_errors(&problems));
    let (plan, policy) = (without_rows(plan.ok()?, &arguments.to)?, policy.ok()?);
    let plan = match &arguments.name {
        Some(name) => renamed(plan, name)?,
        None => plan,
    };
    let plan = policy.map_or_else(|| plan.clone(), |policy| plan.with_inventory(&policy));
    let sensor = arguments.sensor.as_deref();
    let sensor = sensor.and_then(|s| VantagePoint::new(arguments.site.as_deref(), s).ok());
    let kept = KeptPackets { pieces: arguments.pieces, traces: arguments.traces };
    let (window, unreadable) = (arguments.window, arguments.unreadable.clone());
    Some(CollectRequest { plan, kept, sensor, window, unreadable })
}

/// Returns a plan without the files of stored rows in folders. Warns about those that are not below
/// the folder `to`. Reports a problem and returns `None` if the user named such a file, or if the
/// plan has no other files.
fn without_rows(mut plan: Plan, to: &Path) -> Option<Plan> {
    let remedy = "to combine stores, use rasaudit merge, and to audit them, rasaudit audit";
    let rows = rows_among(&plan, remedy).map_err(|problem| report_error(&problem)).ok()?;
    let is_rows = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| rows.contains(path));
    let warned = rows.iter().filter(|path| !path.starts_with(to)).collect::<Vec<_>>();
    if let [first, ..] = warned[..] {
        warn(&format!(
            "{} of rows skipped, because collect reads only captures (first: {})",
            plural(warned.len() as u64, "file"),
            first.display()
        ));
    }
    plan.sources.retain(|source| !is_rows(&source.path));
    Some(plan)
}

/// Returns where the rows of windows are written; `None` if they are not wanted.
///
/// # Errors
///
/// Returns an error if the arguments name no sensor, and the name of this host cannot be read or is
/// not valid for a sensor.
#[cfg(feature = "live")]
pub(super) fn spool_options(arguments: &WindowRowArgs) -> Result<Option<SpoolOptions>, String> {
    let Some(folder) = arguments.collect.clone() else { return Ok(None) };
    let sensor = match &arguments.sensor {
        Some(sensor) => sensor.clone(),
        None => host_name().ok_or(
            "--collect: the name of this host cannot be read; give the sensor a name with --sensor",
        )?,
    };
    let point = VantagePoint::new(arguments.site.as_deref(), &sensor).map_err(|error| {
        format!("--collect: the name of this host cannot be the name of a sensor ({error}); give the sensor a name with --sensor")
    })?;
    let kept = KeptPackets { pieces: false, traces: arguments.traces };
    Ok(Some(SpoolOptions { folder, point, size: arguments.collect_size as u64, kept }))
}

/// Returns the name of this host; `None` if it cannot be read.
#[cfg(feature = "live")]
fn host_name() -> Option<String> {
    let uname = nix::sys::utsname::uname().ok()?;
    uname.nodename().to_str().map(str::to_owned)
}

/// Renames the only capture of a plan, and treats it as if it had been found in a folder. Reports a
/// problem and returns `None` if the plan has several captures.
fn renamed(mut plan: Plan, name: &str) -> Option<Plan> {
    if let [source] = plan.sources.as_mut_slice() {
        name.clone_into(&mut source.name);
        source.found = true;
        return Some(plan);
    }
    let count = plan.sources.len();
    report_error(&format!("--name is for a single capture, but {count} captures are given"));
    None
}

/// Reports why rows were not collected or merged. `interrupted` is the message about an interrupt.
fn report_failed_rows(failure: StoreError, interrupted: &str) -> Exit {
    if matches!(failure, StoreError::Read(AuditError::Interrupted)) {
        report_error(interrupted);
        return Exit::Interrupted;
    }
    report_store_error(failure)
}

fn report_store_error(failure: StoreError) -> Exit {
    match failure {
        StoreError::Read(failure) => report_failure(failure),
        StoreError::Rows(rows) => {
            let messages = rows.iter().map(|(name, reason)| format!("{name} {reason}"));
            print_some(messages, report_error);
            Exit::CannotDo
        }
        failure => {
            report_error(&failure.to_string());
            Exit::CannotDo
        }
    }
}

/// The store of an audit.
pub(super) type OpenedStore = Arc<EvidenceStore>;

/// Plans an audit of the stores and captures of a request. Returns the plan and, if the request
/// names stores, their combined store. Reports problems and returns `None` if there are any.
pub(super) fn plan_audit(request: Request) -> Option<(Plan, Option<OpenedStore>)> {
    let (stores, captures) = find_stores(&request.captures);
    if stores.is_empty() {
        let plan = Plan::new(request);
        let plan = plan.map_err(|wrong| wrong.iter().for_each(|w| report_error(&w.to_string())));
        return Some((plan.ok()?, None));
    }
    warn_of_captures(&stores);
    warn_of_links(&stores);
    let store = EvidenceStore::open(&stores).map_err(report_store_error).ok()?;
    if let Some(warning) = version_warning(store.version(), env!("CARGO_PKG_VERSION")) {
        warn(&warning);
    }
    let plan = store.plan(Request { captures, ..request });
    let plan = plan.map_err(|wrong| wrong.iter().for_each(|w| report_error(&w.to_string())));
    Some((plan.ok()?, Some(store)))
}

/// Returns a warning if another version of the program than this one collected the rows.
fn version_warning(version: Option<&str>, own: &str) -> Option<String> {
    let other = version.filter(|version| *version != own)?;
    Some(format!(
        "rasaudit {other} collected the rows of the store, and this is rasaudit {own}; if these versions read frames differently, the reports differ from those of the captures; to be sure, collect the captures again with this version"
    ))
}

/// Warns about captures in the folders of stores, because they are not read.
fn warn_of_captures(stores: &[PathBuf]) {
    for store in stores {
        warn_of_unread(&captures_in(store), "capture", |count, first| {
            format!(
                "{}: the folder contains stored rows, so its {count} will not be read (first: {first}); name the captures, or move them to another folder",
                store.display()
            )
        });
    }
}

/// Warns about links to folders with rows in the folders of stores, because they are not followed.
fn warn_of_links(stores: &[PathBuf]) {
    for store in stores {
        warn_of_unread(&linked_folders_in(store, stores), "linked folder", |count, first| {
            format!(
                "{}: the rows in its {count} will not be read (first: {first}); to read them, name the folders as well",
                store.display()
            )
        });
    }
}

/// Prints a warning about paths that will not be read, unless the list is empty. `words` gets their
/// number, with the noun `one`, and the first of them.
fn warn_of_unread(paths: &[PathBuf], one: &str, words: impl Fn(&str, &str) -> String) {
    if let Some(first) = paths.first() {
        warn(&words(&plural(paths.len() as u64, one), &first.display().to_string()));
    }
}

/// Checks that the rows of a store can be judged with this policy. Reports the problem and returns
/// `None` if they cannot.
pub(super) fn check_policy(
    store: Option<&OpenedStore>,
    plan: &Plan,
    policy: Option<&Policy>,
) -> Option<()> {
    let Some(store) = store else { return Some(()) };
    let with_inventory = policy.map(|policy| plan.with_inventory(policy));
    let checked = store.check_tunnels(&with_inventory.as_ref().unwrap_or(plan).request);
    checked.map_err(|wrong| report_error(&wrong.to_string())).ok()
}

/// Warns about what the rows of a store could not show.
pub(super) fn warn_about_rows(store: Option<&OpenedStore>, audit: &Audit) {
    let Some(store) = store else { return };
    let open = store.open_messages();
    if open > 0 && !store.has_pieces() {
        let remedy = names_remedy(store.is_live());
        let verb = if open == 1 { "spans" } else { "span" };
        warn(&format!(
            "{} that may name a server {verb} several segments, which the rows do not contain; to get the names, {remedy}",
            plural(open, "message")
        ));
    }
    if audit.reading.duplicates.correction == Correction::Impossible {
        let remedy = counters_remedy(store.is_live());
        warn(&format!(
            "a sample shows duplicate packets, but the rows do not contain individual packets, so --dedup auto cannot correct the counters; to correct them, {remedy}"
        ));
    }
}

/// Returns what to do to get the server names that rows do not contain. `is_live` states whether a
/// live audit wrote some of the rows. Such rows never contain single segments.
fn names_remedy(is_live: bool) -> &'static str {
    if is_live {
        "record the frames with rasaudit live --write, and audit the recorded files"
    } else {
        "collect the captures again with --pieces"
    }
}

/// Returns what to do to correct the counters for duplicate packets. `is_live` is that of
/// [`names_remedy`].
fn counters_remedy(is_live: bool) -> &'static str {
    if is_live {
        "start rasaudit live --collect with --traces"
    } else {
        "collect the captures again with --traces"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_live_audit_have_no_options_of_a_collection() {
        assert!(names_remedy(false).contains("--pieces"));
        assert!(counters_remedy(false).contains("--traces"));
        assert!(names_remedy(true).contains("rasaudit live --write"));
        assert!(counters_remedy(true).contains("rasaudit live --collect with --traces"));
    }

    #[test]
    fn another_version_is_a_warning_that_names_both() {
        assert_eq!(version_warning(Some("1.2.0"), "1.2.0"), None);
        assert_eq!(version_warning(None, "1.2.0"), None);
        let warning = version_warning(Some("1.1.0"), "1.2.0").expect("a warning");
        assert!(warning.starts_with("rasaudit 1.1.0 collected the rows of the store"), "{warning}");
        assert!(warning.contains("this is rasaudit 1.2.0"), "{warning}");
    }
}
