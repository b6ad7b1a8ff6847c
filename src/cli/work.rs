//! Supports long-running work: progress on a terminal, interrupts and failures.

use std::io::{self, IsTerminal};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::exit::Exit;
use super::{print_message, print_some, report_error};
use crate::pipeline::{AuditError, Folders, Plan, Progress, Step};
use crate::result::plural;

/// The time that the work has to stop by itself after an interrupt. Work that waits for standard
/// input cannot stop by itself.
const GRACE: Duration = Duration::from_millis(500);

/// The message if an interrupt ends the program before anything was written.
pub(super) const NOTHING_WRITTEN: &str = "interrupted; nothing was written";

/// Installs a handler that stops the work on an interrupt. The work stops by itself if it can.
/// Otherwise, the handler reports `message` and ends the program. In both cases, no partially
/// written report or store is left.
///
/// If the work has already taken the folders to write into them, the handler does not end the
/// program. The work then stops by itself or finishes.
pub(super) fn stop_on_interrupt(
    progress: Arc<Progress>,
    folders: Arc<Mutex<Option<Folders>>>,
    message: &'static str,
) {
    #[cfg(unix)]
    clean_up_on_quit(Arc::clone(&progress), Arc::clone(&folders));
    // If the handler cannot be installed, an interrupt ends the program immediately, which is
    // acceptable.
    let _ = ctrlc::set_handler(move || {
        progress.stop.store(true, Ordering::Relaxed);
        std::thread::sleep(GRACE);
        if let Some(folders) = take_folders(&folders) {
            drop(folders);
            progress.unfinished.delete();
            report_error(message);
            std::process::exit(130);
        }
    });
}

/// Prints the wall-clock time and the processor time of each step, and its processor time per
/// frame.
pub(super) fn print_timings(progress: &Progress, frames: u64) {
    print_message(format_args!("{:<14} {:>10} {:>10} {:>12}", "step", "wall", "cpu", "cpu/frame"));
    for Step { name, wall, cpu } in progress.timings.steps() {
        let wall = wall.as_secs_f64() * 1e3;
        let per_frame = cpu.as_secs_f64() * 1e9 / frames.max(1) as f64;
        let cpu = cpu.as_secs_f64() * 1e3;
        print_message(format_args!("{name:<14} {wall:>7.1} ms {cpu:>7.1} ms {per_frame:>9.1} ns"));
    }
}

/// Removes the created folders and files on SIGQUIT, and then does what the system does on this
/// signal: it ends the program immediately and may write a core dump.
#[cfg(unix)]
fn clean_up_on_quit(progress: Arc<Progress>, folders: Arc<Mutex<Option<Folders>>>) {
    use signal_hook::consts::SIGQUIT;
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGQUIT]) else { return };
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            drop(take_folders(&folders));
            progress.unfinished.delete();
            let _ = signal_hook::low_level::emulate_default_handler(SIGQUIT);
        }
    });
}

/// Stores the folders where the interrupt handler finds them.
pub(super) fn put_folders(shared: &Mutex<Option<Folders>>, folders: Folders) {
    *shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(folders);
}

/// Takes the folders. Only the first caller gets them.
pub(super) fn take_folders(folders: &Mutex<Option<Folders>>) -> Option<Folders> {
    folders.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
}

pub(super) fn report_failure(failure: AuditError) -> Exit {
    match &failure {
        AuditError::Sources(sources) => {
            let messages = sources.iter().map(|(name, reason)| format!("{name} {reason}"));
            print_some(messages, report_error);
        }
        failure => report_error(&failure.to_string()),
    }
    match failure {
        AuditError::Interrupted => Exit::Interrupted,
        _ => Exit::CannotDo,
    }
}

/// The output in addition to results and errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verbosity {
    /// Nothing (`--quiet`).
    Quiet,
    /// Progress and messages.
    Normal,
}

impl Verbosity {
    /// Returns the verbosity that `--quiet` selects.
    pub fn of(quiet: bool) -> Self {
        if quiet { Self::Quiet } else { Self::Normal }
    }

    /// Returns whether progress is displayed, which requires a terminal.
    pub fn shows_progress(self) -> bool {
        self == Self::Normal && io::stderr().is_terminal()
    }
}

/// Shows a progress bar on a terminal while `work` runs.
pub(super) fn with_progress_bar<T>(
    plan: &Plan,
    progress: &Progress,
    verbosity: Verbosity,
    work: impl FnOnce() -> T,
) -> T {
    if !verbosity.shows_progress() {
        return work();
    }
    let sources = plan.sources.iter().filter(|s| s.same_as.is_none());
    let has_known_size = sources.clone().all(|s| s.path.is_some());
    let bar = ProgressBar::new(sources.map(|s| s.size).sum());
    let template = if has_known_size {
        "{bar:32} {bytes}/{total_bytes} {msg} {binary_bytes_per_sec} {eta} left"
    } else {
        "{spinner} {bytes} {msg} {binary_bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let (done, is_done) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        let shown = &bar;
        scope.spawn(move || {
            while is_done.recv_timeout(Duration::from_millis(100)).is_err_and(|e| e.is_timeout()) {
                shown.set_position(progress.bytes.load(Ordering::Relaxed));
                shown.set_message(plural(progress.frames.load(Ordering::Relaxed), "frame"));
            }
            shown.finish_and_clear();
        });
        let result = work();
        drop(done);
        result
    })
}
