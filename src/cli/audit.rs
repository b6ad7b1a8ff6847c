//! `rasaudit audit`: from arguments to reports.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::args::AuditArguments;
use super::complain;
use super::exit::Exit;
use super::rules::{complain_all, load_policy};
use crate::pipeline::{Failure, Limits, Plan, Progress, Reading, judge};
use crate::report::{FORMATS, Folder, Report, Wishes, summary};

pub(super) fn run(arguments: AuditArguments) -> io::Result<Exit> {
    let Some((plan, policy)) = prepare(&arguments) else {
        return Ok(Exit::CannotDo);
    };
    // The folder is made before the long work starts, so that a wrong name is told at once.
    let folder = match arguments.out.as_deref().map(Folder::prepare).transpose() {
        Ok(folder) => folder,
        Err(error) => {
            complain(&format!("{}: {}", error.path.display(), error.error));
            return Ok(Exit::CannotDo);
        }
    };
    let progress = Arc::new(Progress::default());
    let flag = Arc::clone(&progress);
    // A second interrupt ends the program at once. Without a handler the first one does.
    let _ = ctrlc::set_handler(move || {
        if flag.stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    });
    let started = Instant::now();
    let read = with_bar(&plan, &progress, !arguments.quiet, || {
        Reading::of(&plan, &progress)
    });
    let mut reading = match read {
        Ok(reading) => reading,
        Err(failure) => return Ok(tell(failure)),
    };
    let read_after = started.elapsed();
    let limits = Limits {
        max_loss: arguments.max_loss,
        min_watch: arguments.min_watch,
    };
    let outcome = judge(&plan, &mut reading, policy.as_ref(), limits)?;
    if progress.stop.load(Ordering::Relaxed) {
        return Ok(tell(Failure::Interrupted));
    }
    if arguments.verbose {
        let spilled = outcome.conversations.spilled;
        anstream::eprintln!(
            "read {} frames in {:.2?}, judged {} conversations in {:.2?}; {} bytes of tables spilled",
            reading.account.frames,
            read_after,
            outcome.conversations.list.len(),
            started.elapsed() - read_after,
            spilled
        );
    }
    let damaged: Vec<_> = reading
        .inputs
        .iter()
        .filter(|i| !i.format.is_empty())
        .filter_map(|i| Some(format!("{}: {}", i.name, i.error.as_ref()?)))
        .collect();
    let worst = outcome.worst();
    let failing = arguments
        .fail_on
        .0
        .filter(|from| worst.is_some_and(|worst| worst >= *from));
    let mut exit_reasons = damaged.clone();
    if let Some(from) = failing {
        exit_reasons.push(format!("findings of severity {from} or above"));
    }
    let wishes = Wishes {
        filter: arguments.filter.clone(),
        since: arguments.since,
        until: arguments.until,
        as_of: arguments.as_of,
    };
    let report = Report {
        inputs: &reading.inputs,
        account: &reading.account,
        loss: reading.loss,
        orphan_fragments: reading.flows.orphans,
        wishes: &wishes,
        watched_s: reading.watched_s(),
        policy: policy.as_ref(),
        outcome: &outcome,
        exit_reasons: &exit_reasons,
    };
    for problem in &damaged {
        complain(problem);
    }
    if let Some(folder) = folder
        && let Err(error) = folder.write(&report)
    {
        complain(&format!("{}: {}", error.path.display(), error.error));
        return Ok(Exit::CannotDo);
    }
    print(&arguments, &report)?;
    Ok(match (damaged.is_empty(), failing) {
        (false, _) => Exit::Partial,
        (true, Some(_)) => Exit::Findings,
        (true, None) => Exit::Compliant,
    })
}

/// Checks everything that can be checked before the work starts, and tells all that is wrong.
fn prepare(arguments: &AuditArguments) -> Option<(Plan, Option<crate::policy::Policy>)> {
    let mut sound = true;
    let sources = crate::capture::expand(&arguments.captures).unwrap_or_else(|errors| {
        for error in &errors {
            complain(&format!("{}: {}", error.name, error.error));
        }
        sound = false;
        Vec::new()
    });
    if sound && sources.is_empty() {
        complain("the directories hold no files");
        sound = false;
    }
    if let Some(Err(error)) = arguments.filter.as_deref().map(crate::capture::Filter::new) {
        complain(&format!("--filter: {error}"));
        sound = false;
    }
    if let (Some(since), Some(until)) = (arguments.since, arguments.until)
        && since >= until
    {
        complain("--since is not before --until: no frame can be inside");
        sound = false;
    }
    let (matrix, rules) = (arguments.matrix.as_deref(), arguments.rules.as_deref());
    let policy = match &arguments.inventory {
        Some(file) => match load_policy(file, matrix, rules) {
            Ok(policy) => Some(policy),
            Err(problems) => {
                complain_all(&problems);
                sound = false;
                None
            }
        },
        None => None,
    };
    let jobs = arguments.jobs.map_or_else(
        || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        usize::from,
    );
    let plan = Plan {
        sources,
        jobs,
        max_memory: arguments.max_memory,
        temp: std::env::temp_dir(),
        filter: arguments.filter.clone(),
        since: arguments.since,
        until: arguments.until,
        hash: arguments.out.is_some(),
    };
    sound.then_some((plan, policy))
}

fn tell(failure: Failure) -> Exit {
    match failure {
        Failure::Interrupted => {
            complain("interrupted; nothing was written");
            Exit::Interrupted
        }
        Failure::Sources(sources) => {
            for (name, reason) in sources {
                complain(&format!("{name} {reason}"));
            }
            Exit::CannotDo
        }
        Failure::Temporary(error) => {
            complain(&format!(
                "temporary files in {}: {error}",
                std::env::temp_dir().display()
            ));
            Exit::CannotDo
        }
    }
}

/// Shows a bar on a terminal while `work` runs.
fn with_bar<T>(plan: &Plan, progress: &Progress, wanted: bool, work: impl FnOnce() -> T) -> T {
    if !wanted || !io::stderr().is_terminal() {
        return work();
    }
    let sources = plan.sources.iter().filter(|s| s.same_as.is_none());
    let known = sources.clone().all(|s| s.path.is_some());
    let bar = ProgressBar::new(sources.map(|s| s.size).sum());
    let template = if known {
        "{bar:32} {bytes}/{total_bytes} {msg} {binary_bytes_per_sec} {eta} left"
    } else {
        "{spinner} {bytes} {msg} {binary_bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let (done, wait) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        let shown = &bar;
        scope.spawn(move || {
            while wait
                .recv_timeout(Duration::from_millis(100))
                .is_err_and(|e| e.is_timeout())
            {
                shown.set_position(progress.bytes.load(Ordering::Relaxed));
                shown.set_message(format!(
                    "{} frames",
                    progress.frames.load(Ordering::Relaxed)
                ));
            }
            shown.finish_and_clear();
        });
        let result = work();
        drop(done);
        result
    })
}

/// The report on standard output: the wanted format, or the summary.
fn print(arguments: &AuditArguments, report: &Report<'_>) -> io::Result<()> {
    let format = arguments.format.as_deref().filter(|f| *f != "text");
    let mut buffer = Vec::new();
    match FORMATS.iter().find(|(name, ..)| Some(*name) == format) {
        Some((name, _, writer)) => {
            if report.policy.is_none() && !matches!(*name, "json" | "conversations") {
                complain(
                    "without an inventory there is nothing to list here; try --format conversations",
                );
            }
            let mut out = io::BufWriter::new(io::stdout().lock());
            writer(report, &mut out)?;
            out.flush()
        }
        None if arguments.quiet && arguments.format.is_none() => Ok(()),
        None => {
            let files = arguments
                .out
                .as_deref()
                .map(Path::display)
                .map(|d| d.to_string());
            summary(report, files.as_deref(), &mut buffer)?;
            let mut out = anstream::stdout();
            out.write_all(&buffer)?;
            out.flush()
        }
    }
}
