//! `rasaudit audit`: from arguments to reports.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::args::AuditArguments;
use super::complain;
use super::exit::Exit;
use super::policy::{Wanted, complain_all, load_policy};
use crate::pipeline::{Audit, Failure, Folder, Limits, Plan, Progress, Request, prepare_folder};
use crate::policy::Policy;

/// How long the work may take to stop by itself after an interrupt. A read that waits for standard
/// input cannot stop.
const GRACE: Duration = Duration::from_millis(500);

pub(super) fn run(arguments: &AuditArguments) -> io::Result<Exit> {
    let Some((plan, policy)) = prepare(arguments) else {
        return Ok(Exit::CannotDo);
    };
    let (progress, folder) = (Arc::new(Progress::default()), Arc::new(Mutex::new(None)));
    stop_on_interrupt(Arc::clone(&progress), Arc::clone(&folder));
    // Made before the long work starts, so that a wrong name is told at once.
    match arguments.out.as_deref().map(prepare_folder).transpose() {
        Ok(made) => *folder.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = made,
        Err(failure) => return Ok(tell(failure)),
    }
    let started = Instant::now();
    let limits = Limits {
        max_loss: arguments.max_loss,
        min_watch: arguments.min_watch,
        as_of: arguments.as_of,
        fail_on: arguments.fail_on.0,
    };
    let audit = with_bar(&plan, &progress, !arguments.quiet, || {
        Audit::of(&plan, policy, &limits, &progress)
    });
    let audit = match audit {
        Ok(audit) => audit,
        Err(failure) => {
            // The interrupt handler keeps its share for ever; what is in it must go now.
            drop(folder.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take());
            return Ok(tell(failure));
        }
    };
    if arguments.verbose {
        let conversations = &audit.outcome.conversations;
        anstream::eprintln!(
            "{} frames, {} conversations in {:.2?} with {} workers; {} bytes of flow tables spilled",
            audit.reading.account.frames,
            conversations.list.len(),
            started.elapsed(),
            plan.jobs,
            conversations.spilled,
        );
    }
    for problem in &audit.damaged {
        complain(problem);
    }
    // Held to the end: an interrupt from here on comes too late, and the reports are whole.
    let mut folder = folder.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(folder) = folder.take()
        && let Err(failure) = audit.write_folder(folder)
    {
        return Ok(tell(failure));
    }
    match print(arguments, &audit) {
        // Whoever reads our output has seen enough; the audit's result stands.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result?,
    }
    Ok(match (audit.damaged.is_empty(), audit.failed) {
        (false, _) => Exit::Partial,
        (true, true) => Exit::Findings,
        (true, false) => Exit::Compliant,
    })
}

/// Stops the work on an interrupt: by itself where it can, else by ending the program. Either way
/// nothing half written is left.
fn stop_on_interrupt(progress: Arc<Progress>, folder: Arc<Mutex<Option<Folder>>>) {
    // Without a handler an interrupt ends the program at once, which is no worse.
    let _ = ctrlc::set_handler(move || {
        progress.stop.store(true, Ordering::Relaxed);
        std::thread::sleep(GRACE);
        let mut folder = folder.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        drop(folder.take());
        complain("interrupted; nothing was written");
        std::process::exit(130);
    });
}

/// Checks everything that can be checked before the work starts, and tells all that is wrong.
fn prepare(arguments: &AuditArguments) -> Option<(Plan, Option<Policy>)> {
    let request = Request {
        captures: arguments.captures.clone(),
        jobs: arguments.jobs.map(usize::from),
        max_memory: arguments.max_memory,
        filter: arguments.filter.clone(),
        since: arguments.since,
        until: arguments.until,
        hash: arguments.out.is_some(),
        no_decap: arguments.no_decap,
        vxlan_ports: arguments.vxlan_ports.clone(),
        dedup: arguments.dedup,
    };
    let plan = Plan::new(request).map_err(|wrong| wrong.iter().for_each(|w| complain(w)));
    let lists_nothing = |format: &&str| matches!(*format, "csv" | "matrix" | "hosts");
    let format = arguments.format.as_deref().filter(lists_nothing);
    if let Some(format) = format.filter(|_| arguments.inventory.is_none()) {
        complain(&format!(
            "--format {format} needs an inventory; without one try --format conversations"
        ));
        return None;
    }
    let wanted = Wanted {
        matrix: arguments.matrix.as_deref(),
        rules: arguments.rules.as_deref(),
        overlays: &arguments.overlays,
    };
    let policy = arguments.inventory.as_deref().map(|file| load_policy(file, &wanted)).transpose();
    let policy = policy.map_err(|problems| complain_all(&problems));
    Some((plan.ok()?, policy.ok()?))
}

fn tell(failure: Failure) -> Exit {
    match failure {
        Failure::Interrupted => {
            complain("interrupted; nothing was written");
            return Exit::Interrupted;
        }
        Failure::Sources(sources) => {
            for (name, reason) in sources {
                complain(&format!("{name} {reason}"));
            }
        }
        Failure::Temporary(error) => {
            complain(&format!("temporary files in {}: {error}", std::env::temp_dir().display()));
        }
        Failure::Output(path, error) => complain(&format!("{}: {error}", path.display())),
    }
    Exit::CannotDo
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
            while wait.recv_timeout(Duration::from_millis(100)).is_err_and(|e| e.is_timeout()) {
                shown.set_position(progress.bytes.load(Ordering::Relaxed));
                shown.set_message(format!("{} frames", progress.frames.load(Ordering::Relaxed)));
            }
            shown.finish_and_clear();
        });
        let result = work();
        drop(done);
        result
    })
}

/// The report on standard output: the wanted format, or the summary.
fn print(arguments: &AuditArguments, audit: &Audit) -> io::Result<()> {
    match arguments.format.as_deref() {
        None if arguments.quiet => Ok(()),
        None | Some("text") => {
            let mut text = Vec::new();
            let files = arguments.out.as_deref().map(|out| out.display().to_string());
            let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
            let width = width.filter(|_| io::stdout().is_terminal());
            audit.write_summary(files.as_deref(), width, &mut text)?;
            let mut out = anstream::stdout();
            out.write_all(&text)?;
            out.flush()
        }
        Some(format) => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            audit.write_format(format, &mut out)?;
            out.flush()
        }
    }
}
