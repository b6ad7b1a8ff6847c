//! `rasaudit live` and `rasaudit interfaces`.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::args::{LiveArguments, PolicyArgs};
use super::audit::{ended as how_it_ended, must_check};
use super::exit::Exit;
use super::policy::{report_errors, whole_file};
use super::policy_args::load_judging;
use super::report_error;
use super::work::report_failure;
use crate::model::{Loss, escape_control};
use crate::pipeline::{
    AggregationLevel, Auth, CaptureOptions, Confinement, Control, Duty, FailOn, Limits, Listener,
    LiveEvent, LiveOptions, LiveOutcome, LiveSnapshot, Message, StateError, Syslog, WindowClosed,
    WindowFolders, folder_of, listen, ready, serve, watch,
};
use crate::policy::{Diagnostic, Policy, unreadable};

/// The maximum number of messages that wait while the syslog daemon does not accept them. Older
/// ones are dropped.
const WAITING: usize = 1000;

/// The maximum number of new findings of one window that are printed. The worst come first.
const TOLD: usize = 1000;

/// Lists the interfaces.
pub(super) fn interfaces() -> io::Result<Exit> {
    let found = match crate::pipeline::interfaces() {
        Ok(found) => found,
        Err(error) => {
            report_error(&error.to_string());
            return Ok(Exit::CannotDo);
        }
    };
    let mut text = String::new();
    for interface in &found {
        let mut addresses: Vec<_> = interface.addresses.iter().map(ToString::to_string).collect();
        addresses.sort();
        let link = if interface.up { "up" } else { "down" };
        let can = match &interface.usable {
            Ok(()) => "can be captured".to_owned(),
            Err(gone) => format!("cannot be captured: {gone}"),
        };
        let name = &interface.name;
        let line = format!("{name:<16} {link:<5} {can}  {}", addresses.join(" "));
        text.push_str(&escape_control(line.trim_end()));
        text.push('\n');
    }
    io::stdout().write_all(text.as_bytes())?;
    if !found.iter().any(|interface| interface.usable.is_ok()) {
        report_error(
            "no interface can be captured: run as root, or grant the capability with `setcap cap_net_raw+ep` (docs/live.md)",
        );
        return Ok(Exit::CannotDo);
    }
    Ok(Exit::Compliant)
}

/// Runs a live audit until a signal stops it.
pub(super) fn run(arguments: &LiveArguments) -> io::Result<Exit> {
    let Some(inventory) = arguments.inventory.as_deref() else { return Ok(Exit::CannotDo) };
    let policy = match load_safely(inventory, &arguments.policy_args) {
        Ok(policy) => policy,
        Err(problems) => {
            report_errors(&problems);
            return Ok(Exit::CannotDo);
        }
    };
    if arguments.fail_on == Some(FailOn::New) {
        report_error("--fail-on new is only for audit: live reports new findings as they occur");
        return Ok(Exit::CannotDo);
    }
    if let Some(Err(error)) = arguments.filter.as_deref().map(crate::pipeline::check_filter) {
        report_error(&format!("--filter: {error}"));
        return Ok(Exit::CannotDo);
    }
    let out = arguments.out.as_deref();
    let dated = match out.map(|out| WindowFolders::prepare(out, arguments.keep.into())).transpose()
    {
        Ok(dated) => dated,
        Err(error) => {
            report_error(&format!("{}: {}", error.path.display(), error.error));
            return Ok(Exit::CannotDo);
        }
    };
    let wanted = LiveOptions {
        interfaces: arguments.interfaces.clone(),
        threads: arguments.jobs.into(),
        tap: CaptureOptions {
            snaplen: arguments.snaplen,
            buffer: u32::try_from(arguments.buffer).unwrap_or(u32::MAX),
            promiscuous: !arguments.no_promiscuous,
            filter: arguments.filter.clone(),
        },
        every: Duration::from_secs(arguments.every),
        max_memory: arguments.max_memory,
        no_decap: arguments.tunnels.no_decap,
        vxlan_ports: arguments.tunnels.vxlan_ports.clone(),
        state: arguments.state.clone(),
        idle: Duration::from_secs(arguments.idle),
        windows: arguments.windows,
        confinement: Confinement {
            sandbox: arguments.sandbox,
            user: arguments.user.clone(),
            read: read_again(inventory, &arguments.policy_args),
            write: written(arguments),
            give: arguments.out.iter().chain(&arguments.state).cloned().collect(),
        },
        record: arguments
            .write
            .clone()
            .map(|path| (path, arguments.write_size as u64, usize::from(arguments.write_files))),
    };
    let limits = Limits {
        max_loss: arguments.policy_args.max_loss,
        min_watch: arguments.policy_args.min_watch,
        as_of: None,
        fail_on: arguments.fail_on.unwrap_or(FailOn::USUAL),
        require_assessed: must_check(arguments.fail_on, arguments.require_assessed),
    };
    let auth = arguments.token.as_deref().map(auth).transpose().map(Option::unwrap_or_default);
    let place = auth.and_then(|auth| {
        let place = arguments.listen.map(|address| listen(address, &auth)).transpose();
        place.map_err(|error| format!("--listen: {error}")).map(|place| Some((place?, auth)))
    });
    let syslog = arguments.syslog.as_ref().map(Syslog::new).transpose();
    let (place, syslog) = match (place, syslog) {
        (Ok(place), Ok(syslog)) => (place, syslog),
        (place, syslog) => {
            place.err().iter().for_each(|message| report_error(message));
            syslog.err().iter().for_each(|error| report_error(&format!("--syslog: {error}")));
            return Ok(Exit::CannotDo);
        }
    };
    // This comes before any thread starts, so that all threads give up the same privileges.
    let ready = match ready(&wanted) {
        Ok(ready) => ready,
        Err(failure) => return Ok(report_failure(failure)),
    };
    let control = Arc::new(Control::default());
    listen_to_signals(&control)?;
    let pages = Arc::new(LiveSnapshot::default());
    let place_of_page = place.as_ref().and_then(|(place, _)| place.local_addr().ok());
    let serving = place.map(|(place, auth)| serve(place, auth, &pages, wanted.every, &control));
    if let Some(Err(message)) = serving {
        report_error(&format!("--listen: {message}"));
        return Ok(Exit::CannotDo);
    }
    let teller = ConsoleObserver {
        arguments,
        inventory,
        dated,
        findings: AtomicU64::new(0),
        trouble: AtomicBool::new(false),
        pages,
        syslog,
        unchecked: AtomicBool::new(false),
        unsent: Mutex::default(),
    };
    teller.begin(place_of_page);
    ready.unconfined.iter().for_each(|what| teller.say(&format!("not confined: {what}")));
    let ended = with_status(&control, !arguments.quiet, &teller, || {
        watch(&wanted, ready, policy, &limits, &control, &teller)
    });
    Ok(match ended {
        Ok(LiveOutcome { failed, unchecked, partial }) => {
            how_it_ended(partial || teller.trouble.load(Ordering::Relaxed), unchecked, failed)
        }
        Err(failure) => report_failure(failure),
    })
}

/// Loads the policy from files that no other user can change.
fn load_safely(inventory: &Path, policy_args: &PolicyArgs) -> Result<Policy, Vec<Diagnostic>> {
    let named = [Some(inventory), policy_args.exceptions.as_deref(), policy_args.rules.as_deref()];
    let words = policy_args.overlays.iter().chain(&policy_args.matrix).map(Path::new);
    let mut open = Vec::new();
    for file in named.into_iter().flatten().chain(words) {
        others_may_write(file, 0, &mut open);
    }
    let problem = |file: PathBuf| {
        let message = "others may write it and so change what is reported: chmod go-w, chown root";
        whole_file(&file.display().to_string(), message.to_owned())
    };
    let problems: Vec<Diagnostic> = open.into_iter().flat_map(problem).collect();
    if problems.is_empty() { load_judging(inventory, policy_args, None) } else { Err(problems) }
}

/// Reads the token that HTTP clients must send, from a file that no other user can read.
fn auth(file: &Path) -> Result<Auth, String> {
    let wrong = |what: &str| format!("--token {}: {what}", file.display());
    let failed = |error: &io::Error| wrong(&unreadable(file, error));
    // A device would never end, and a pipe would block until something is written to it.
    if !file.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(wrong("is no file"));
    }
    let mut open = std::fs::File::open(file).map_err(|error| failed(&error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let data = open.metadata().map_err(|error| failed(&error))?;
        let ours = [0, nix::unistd::geteuid().as_raw()].contains(&data.uid());
        if data.permissions().mode() & 0o077 != 0 || !ours {
            return Err(wrong("others may read or write it: chmod 600, chown root"));
        }
    }
    let mut text = String::new();
    open.read_to_string(&mut text).map_err(|error| failed(&error))?;
    Auth::with_token(text.trim()).map_err(|error| wrong(&error.to_string()))
}

/// Collects the files at and below a path that users other than root and this user may write.
#[cfg(unix)]
fn others_may_write(path: &Path, depth: usize, open: &mut Vec<PathBuf>) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    const DEEPEST: usize = 4;
    let Ok(data) = path.metadata() else { return };
    let ours = [0, nix::unistd::geteuid().as_raw()].contains(&data.uid());
    if data.permissions().mode() & 0o022 != 0 || !ours {
        open.push(path.to_owned());
    }
    if depth < DEEPEST {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            others_may_write(&entry.path(), depth + 1, open);
        }
    }
}

#[cfg(not(unix))]
fn others_may_write(_: &Path, _: usize, _: &mut Vec<PathBuf>) {}

/// Returns the folders that are written to.
fn written(arguments: &LiveArguments) -> Vec<PathBuf> {
    let folders = arguments.out.iter().chain(&arguments.state).cloned();
    folders.chain(arguments.write.as_deref().map(folder_of)).collect()
}

/// Returns the files and folders that a reload reads.
fn read_again(inventory: &Path, policy_args: &PolicyArgs) -> Vec<PathBuf> {
    let named = [Some(inventory), policy_args.exceptions.as_deref(), policy_args.rules.as_deref()];
    // An editor replaces a file, so its folder must be readable. A matrix or an overlay may be a
    // folder beside it.
    let mut paths: Vec<PathBuf> = named.into_iter().flatten().map(folder_of).collect();
    paths.extend(policy_args.rules.clone());
    paths.extend(policy_args.overlays.iter().chain(&policy_args.matrix).map(PathBuf::from));
    paths
}

/// Handles signals: INT and TERM stop the audit, HUP reloads the policy, USR1 closes the window. A
/// second INT or TERM ends the program at once.
fn listen_to_signals(control: &Arc<Control>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
    let control = Arc::clone(control);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => control.reload.store(true, Ordering::Relaxed),
                SIGUSR1 => control.now.store(true, Ordering::Relaxed),
                _ if control.stop.swap(true, Ordering::Relaxed) => std::process::exit(130),
                _ => {}
            }
        }
    });
    Ok(())
}

/// A listener that reports events on the console, to syslog and on the web page.
struct ConsoleObserver<'a> {
    arguments: &'a LiveArguments,
    inventory: &'a Path,
    dated: Option<WindowFolders>,
    /// The number of findings of all windows.
    findings: AtomicU64,
    /// Whether reports, state or frames could not be written, until reports are written again.
    trouble: AtomicBool,
    pages: Arc<LiveSnapshot>,
    syslog: Option<Syslog>,
    /// Whether it was already reported that nothing was checked.
    unchecked: AtomicBool,
    /// Messages that syslog has not accepted yet, oldest first.
    unsent: Mutex<Vec<Message>>,
}

impl ConsoleObserver<'_> {
    /// Prints what is watched, how, and where the results are.
    fn begin(&self, page: Option<std::net::SocketAddr>) {
        let LiveArguments { interfaces, every, out, state, .. } = self.arguments;
        let inventory = self.inventory.display();
        self.say(&format!(
            "watching {} with {inventory}, one window every {every} s",
            interfaces.join(", ")
        ));
        let folder = |folder: &Option<PathBuf>| folder.as_ref().map(|f| f.display().to_string());
        if let Some(out) = folder(out) {
            self.say(&format!("reports: {out}/latest"));
        }
        if let Some(state) = folder(state) {
            self.say(&format!("state: {state}"));
        }
        if let Some(page) = page {
            self.say(&format!("page: http://{page}/"));
        }
    }

    fn say(&self, text: &str) {
        if !self.arguments.quiet {
            anstream::eprintln!("{}", escape_control(text));
        }
    }
}

impl ConsoleObserver<'_> {
    /// Sends findings to syslog, starting with those that it did not accept before. A failure is
    /// reported once.
    fn send(&self, new: Vec<Message>) {
        let Some(syslog) = &self.syslog else { return };
        let mut waiting = self.unsent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        waiting.extend(new.into_iter().take(TOLD));
        let beyond = waiting.len().saturating_sub(WAITING);
        waiting.drain(..beyond);
        while let Some(message) = waiting.first() {
            if let Err(error) = syslog.send(message) {
                if !self.pages.fails(Duty::Syslog) {
                    report_error(&format!(
                        "--syslog: {error}; retrying with each window; the findings are in the reports"
                    ));
                }
                return;
            }
            waiting.remove(0);
        }
        self.pages.works(Duty::Syslog);
    }
}

impl Listener for ConsoleObserver<'_> {
    fn notice(&self, notice: &LiveEvent) {
        let state =
            |StateError { path, error }: &StateError| format!("{}: {error}", path.display());
        match notice {
            LiveEvent::Lost(name, why) => {
                self.pages.is_away(name, true);
                report_error(&format!(
                    "{name} can no longer be read ({why}); retrying every second"
                ));
            }
            LiveEvent::Back(name, after) => {
                self.pages.is_away(name, false);
                self.say(&format!("{name} is being read again, after {} s", after.as_secs()));
            }
            LiveEvent::Folded(fold, flows) => {
                self.pages.folded(*fold, *flows);
                self.say(&format!(
                    "memory is short: {flows} flows were aggregated ({})",
                    told(*fold)
                ));
            }
            LiveEvent::Forgotten(count) => self.say(&format!(
                "memory is short: {count} address claims, lookups, fragments or packets without ports were dropped"
            )),
            LiveEvent::Broken(error) => report_error(&format!(
                "{}; trying the state of the previous window, otherwise starting without a state",
                state(error)
            )),
            LiveEvent::Restored(flows) => {
                self.say(&format!("restored {flows} flows from the saved state"));
            }
            LiveEvent::Waits => report_error(
                "waiting for a capture thread to hand over its window (does the disk of --write hang?)",
            ),
            LiveEvent::NotRested(error) => {
                report_error(&format!("idle flows stay in memory because they cannot be written ({error})"));
            }
            LiveEvent::NotKept(error) => {
                self.pages.fails(Duty::Frames);
                self.trouble.store(true, Ordering::Relaxed);
                report_error(&format!("--write: {error}; retrying with the next window"));
            }
            LiveEvent::Saved => self.pages.works(Duty::State),
            LiveEvent::Kept => self.pages.works(Duty::Frames),
            LiveEvent::NotSaved(error) => {
                self.pages.fails(Duty::State);
                self.trouble.store(true, Ordering::Relaxed);
                report_error(&format!("{}; keeping the state of the previous window", state(error)));
            }
        }
    }

    fn reload(&self) -> Option<Policy> {
        match load_safely(self.inventory, &self.arguments.policy_args) {
            Ok(policy) => {
                self.say("reloaded inventory, rules and exceptions");
                Some(policy)
            }
            Err(problems) => {
                report_errors(&problems);
                report_error("keeping the previous configuration");
                None
            }
        }
    }

    fn closed(&self, closed: &WindowClosed<'_>) {
        let WindowClosed { window, all, before, .. } = closed;
        self.findings.store(all.outcome.findings().len() as u64, Ordering::Relaxed);
        let mut out = io::stdout().lock();
        let new = all.new_findings(before, self.arguments.format == "json");
        for line in new.iter().take(TOLD) {
            // The reports are written even if standard output is closed.
            let _ = writeln!(out, "{line}");
        }
        if new.len() > TOLD {
            self.say(&format!("{} more new findings are in findings.csv", new.len() - TOLD));
        }
        let _ = out.flush();
        let checked = all.outcome.checked_anything();
        if !checked && !self.unchecked.swap(true, Ordering::Relaxed) {
            self.say(
                "nothing could be assessed: no listed host with a role was seen sending (are this the inventory and the span port of the farm?)",
            );
        } else if checked {
            self.unchecked.store(false, Ordering::Relaxed);
        }
        let Loss { received, dropped } = window.reading.loss;
        if dropped > 0 {
            self.say(&format!("{dropped} of {received} frames of this window were lost"));
        }
        self.send(all.new_messages(before));
        match self.dated.as_ref().map(|dated| all.write_dated(window, dated)) {
            None => {}
            Some(Ok(place)) => {
                self.trouble.store(false, Ordering::Relaxed);
                self.pages.works(Duty::Reports);
                self.say(&format!("{} frames: {}", window.reading.account.frames, place.display()));
            }
            Some(Err(failure)) => {
                self.pages.fails(Duty::Reports);
                self.trouble.store(true, Ordering::Relaxed);
                report_failure(failure);
            }
        }
        if self.arguments.listen.is_some() {
            self.pages.update(closed);
        }
    }
}

fn told(fold: AggregationLevel) -> &'static str {
    match fold {
        AggregationLevel::Attempts => "unanswered and one-way flows of unlisted hosts, by network",
        AggregationLevel::Outside => "flows of unlisted hosts, by network",
        AggregationLevel::Strangers => "all unlisted hosts as one",
        AggregationLevel::Ports => "by conversation",
        AggregationLevel::Scans => "flows that were never established, without port",
        AggregationLevel::Inside => "flows that were never established, by network",
    }
}

/// Shows a status line on a terminal while `work` runs.
fn with_status<T>(
    control: &Control,
    wanted: bool,
    teller: &ConsoleObserver<'_>,
    work: impl FnOnce() -> T,
) -> T {
    if !wanted || !io::stderr().is_terminal() {
        return work();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let (done, wait) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        let shown = &bar;
        scope.spawn(move || {
            let mut before = 0;
            let mut since = Instant::now();
            while wait.recv_timeout(Duration::from_secs(1)).is_err_and(|e| e.is_timeout()) {
                let frames = control.progress.frames.load(Ordering::Relaxed);
                let rate = (frames - before) as f64 / since.elapsed().as_secs_f64();
                (before, since) = (frames, Instant::now());
                let findings = teller.findings.load(Ordering::Relaxed);
                let lost = control.progress.lost.load(Ordering::Relaxed);
                shown.set_message(format!(
                    "{frames} frames, {rate:.0} a second, {lost} lost, {findings} findings"
                ));
                shown.tick();
            }
            shown.finish_and_clear();
        });
        let result = work();
        drop(done);
        result
    })
}
