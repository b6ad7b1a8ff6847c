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

/// How the reading of the sources proceeds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Pace {
    /// Bytes are being read.
    #[default]
    Reading,
    /// Nothing was read for a second, because the program processes what it has read. The remaining
    /// time is then not known.
    Standing,
}

/// Watches whether the position in the sources changes.
#[derive(Default)]
struct PositionWatch {
    position: u64,
    since: Duration,
    pace: Pace,
}

impl PositionWatch {
    /// Returns the pace at the time `now` after the start; `None` if it is the same as before.
    fn changed(&mut self, position: u64, now: Duration) -> Option<Pace> {
        if position != self.position {
            (self.position, self.since) = (position, now);
        }
        let is_standing = position > 0 && now.saturating_sub(self.since) >= Duration::from_secs(1);
        let pace = if is_standing { Pace::Standing } else { Pace::Reading };
        let has_changed = std::mem::replace(&mut self.pace, pace) != pace;
        has_changed.then_some(pace)
    }
}

/// Describes what was read, besides the number of bytes. Stored rows contain no frames.
fn read_so_far(has_rows: bool, frames: u64) -> String {
    match (has_rows, frames) {
        (true, 0) => "of rows".to_owned(),
        (true, _) => format!("of rows and {}", plural(frames, "frame")),
        (false, _) => plural(frames, "frame"),
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
    // The content of a capture is not known before it is read.
    let has_rows = sources.clone().any(|s| s.content.is_some());
    // Between the bytes of standard input, the program may only be waiting.
    let may_wait = sources.clone().any(|s| s.path.is_none() && s.content.is_none());
    let bar = ProgressBar::new(sources.map(|s| s.size).sum());
    let style = |pace: Pace| {
        let (position, left) = if has_known_size {
            ("{bar:32} {bytes}/{total_bytes}", " {eta} left")
        } else {
            ("{spinner} {bytes}", "")
        };
        let template = match pace {
            Pace::Reading => format!("{position} {{msg}} {{binary_bytes_per_sec}}{left}"),
            Pace::Standing => format!("{position} {{msg}}, being processed"),
        };
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar())
    };
    bar.set_style(style(Pace::Reading));
    let (done, is_done) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        let shown = &bar;
        scope.spawn(move || {
            let mut watch = PositionWatch::default();
            while is_done.recv_timeout(Duration::from_millis(100)).is_err_and(|e| e.is_timeout()) {
                let bytes = progress.bytes.load(Ordering::Relaxed);
                let changed = watch.changed(bytes, shown.elapsed());
                if let Some(pace) = changed.filter(|_| !may_wait) {
                    shown.set_style(style(pace));
                }
                shown.set_position(bytes);
                shown.set_message(read_so_far(has_rows, progress.frames.load(Ordering::Relaxed)));
            }
            shown.finish_and_clear();
        });
        let result = work();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_that_stands_for_a_second_is_being_processed() {
        let mut watch = PositionWatch::default();
        let mut at = |millis, position| watch.changed(position, Duration::from_millis(millis));
        // Before the first byte, the program waits for its input.
        assert_eq!(at(3000, 0), None);
        assert_eq!(at(3100, 5), None);
        assert_eq!(at(4000, 5), None);
        assert_eq!(at(4100, 5), Some(Pace::Standing));
        assert_eq!(at(9000, 5), None);
        // The sources are read again.
        assert_eq!(at(9100, 2), Some(Pace::Reading));
    }

    #[test]
    fn stored_rows_are_not_counted_as_frames() {
        assert_eq!(read_so_far(true, 0), "of rows");
        assert_eq!(read_so_far(true, 1), "of rows and 1 frame");
        assert_eq!(read_so_far(false, 0), "0 frames");
    }
}
