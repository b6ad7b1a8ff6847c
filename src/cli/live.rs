//! Implements `rasaudit live` and `rasaudit interfaces`.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::args::{LiveArguments, PolicyArgs};
use super::audit::requires_check;
use super::exit::{AuditStatus, Exit};
use super::policy::{file_problem, report_errors};
use super::policy_args::load_judging;
use super::work::{Verbosity, report_failure};
use super::{print_message, report_error, warn};
use crate::live::{
    CollectedWindow, Confinement, Control, Duty, Listener, LiveEvent, LiveOptions, LiveOutcome,
    LiveSnapshot, Syslog, UnsentMessages, WindowClosed, ready, watch,
};
use crate::model::escape_control;
use crate::pipeline::{
    AggregationLevel, CaptureOptions, FailOn, Limits, LineFormat, Message, WindowFolders, folder_of,
};
use crate::policy::{Diagnostic, Inventory, MATRICES, Policy, TextFile, is_toml};
use crate::result::{ConfigurationFile, plural};
#[cfg(feature = "store")]
use crate::store::SpoolOptions;

/// The maximum number of new findings of one window that are printed and sent to syslog. The worst
/// come first.
const MAX_PRINTED: usize = 1000;

/// Prints all interfaces, each with its state, its addresses and whether frames can be captured
/// from it.
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
        let usable = match &interface.usable {
            Ok(()) => "capture possible".to_owned(),
            Err(reason) => format!("capture not possible: {reason}"),
        };
        let name = &interface.name;
        let line = format!("{name:<16} {link:<5} {usable}  {}", addresses.join(" "));
        text.push_str(&escape_control(line.trim_end()));
        text.push('\n');
    }
    io::stdout().write_all(text.as_bytes())?;
    if !found.iter().any(|interface| interface.usable.is_ok()) {
        report_error(
            "rasaudit cannot capture on any interface; if it lacks permission, run it as root, or grant CAP_NET_RAW to the program file with `setcap cap_net_raw+ep FILE` (docs/live.md)",
        );
        return Ok(Exit::CannotDo);
    }
    Ok(Exit::Compliant)
}

/// Ends the program if any of its threads panics. Otherwise, the other threads would wait for this
/// one, and a service manager would not notice that nothing is audited any more.
fn end_on_panic() {
    /// The exit status of a program whose main thread panicked.
    const PANICKED: i32 = 101;
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(PANICKED);
    }));
}

/// Runs a live audit until a signal or the end of the last window stops it.
pub(super) fn run(
    arguments: &LiveArguments,
    configuration: Option<ConfigurationFile>,
) -> io::Result<Exit> {
    let Some(inventory) = arguments.inventory.as_deref() else { return Ok(Exit::CannotDo) };
    end_on_panic();
    let policy = match load_safely(inventory, &arguments.policy_args) {
        Ok(policy) => policy,
        Err(problems) => {
            report_errors(&problems);
            return Ok(Exit::CannotDo);
        }
    };
    #[cfg(feature = "store")]
    let rows = match super::store::spool_options(&arguments.rows) {
        Ok(rows) => rows,
        Err(reason) => {
            report_error(&reason);
            return Ok(Exit::CannotDo);
        }
    };
    let Some((folders, syslog)) = prepare(arguments) else { return Ok(Exit::CannotDo) };
    #[cfg(feature = "serve")]
    let Some(server) = super::serve::PageServer::open(arguments) else {
        return Ok(Exit::CannotDo);
    };
    let options = LiveOptions { configuration, ..options(arguments, inventory) };
    #[cfg(feature = "store")]
    let options = with_rows(options, rows);
    let limits = Limits {
        max_loss: arguments.policy_args.max_loss,
        min_watch: arguments.policy_args.min_watch,
        as_of: None,
        fail_on: arguments.fail_on.unwrap_or(FailOn::USUAL),
        require_assessed: requires_check(arguments.fail_on, arguments.require_assessed),
    };
    // `ready` gives up privileges, which belong to a thread, so it must run before other threads
    // start.
    let setup = match ready(&options) {
        Ok(setup) => setup,
        Err(failure) => return Ok(report_failure(failure)),
    };
    let control = Arc::new(Control::default());
    handle_signals(&control)?;
    let pages = Arc::new(LiveSnapshot::default());
    #[cfg(feature = "serve")]
    let Ok(page_address) = server.start(&pages, options.every, &control) else {
        return Ok(Exit::CannotDo);
    };
    #[cfg(not(feature = "serve"))]
    let page_address = None;
    let observer = ConsoleObserver {
        arguments,
        inventory,
        folders,
        findings: AtomicU64::new(0),
        pages,
        syslog,
        unchecked: AtomicBool::new(false),
        unsent: Mutex::default(),
    };
    observer.print_start(page_address);
    setup
        .unconfined
        .iter()
        .for_each(|what| warn(&format!("the audit is not fully sandboxed: {what}")));
    let verbosity = Verbosity::of(arguments.quiet);
    let ended = with_status_line(&control, verbosity, &observer, || {
        watch(&options, setup, policy, &limits, &control, &observer)
    });
    Ok(match ended {
        Ok(LiveOutcome { failed, unchecked, partial }) => {
            let is_partial = partial || observer.pages.is_output_incomplete();
            AuditStatus { is_partial, is_unchecked: unchecked, has_failed: failed }.into()
        }
        Err(failure) => report_failure(failure),
    })
}

/// The outputs of a live audit: the folders of windows and the syslog daemon.
type LiveOutputs = (Option<WindowFolders>, Option<Syslog>);

/// Checks the options and opens the outputs. If there is a problem, reports it and returns `None`.
fn prepare(arguments: &LiveArguments) -> Option<LiveOutputs> {
    if arguments.fail_on == Some(FailOn::New) {
        report_error(
            "--fail-on new is only for rasaudit audit; rasaudit live reports new findings at the end of each window",
        );
        return None;
    }
    if let Some(problem) = doubled_interface(&arguments.interfaces) {
        report_error(&problem);
        return None;
    }
    if let Some(file) = arguments.write.as_ref().filter(|file| is_folder(file)) {
        report_error(&format!("--write {} is a folder; name a file in it", file.display()));
        return None;
    }
    if let Some(Err(error)) = arguments.filter.as_deref().map(crate::pipeline::check_filter) {
        report_error(&error.to_string());
        return None;
    }
    let out = arguments.out.as_deref();
    let folders = out.map(|out| WindowFolders::prepare(out, arguments.keep.into())).transpose();
    let folders = folders
        .map_err(|error| report_error(&format!("{}: {}", error.path.display(), error.error)))
        .ok()?;
    let syslog = arguments.syslog.as_ref().map(Syslog::new).transpose();
    let syslog = syslog.map_err(|error| report_error(&format!("--syslog: {error}")));
    Some((folders, syslog.ok()?))
}

/// Returns what is wrong if frames of an interface would be captured twice.
fn doubled_interface(interfaces: &[String]) -> Option<String> {
    let mut known = BTreeSet::new();
    if let Some(twice) = interfaces.iter().find(|name| !known.insert(name.as_str())) {
        return Some(format!("the interface {twice} is given more than once"));
    }
    let has_others = known.contains("any") && known.len() > 1;
    has_others.then(|| {
        "any captures on all interfaces; give either any or the names of interfaces".to_owned()
    })
}

/// Returns whether a path names a folder: one that exists, or any with a slash at its end.
fn is_folder(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// Returns the options of the live audit that the arguments describe.
fn options(arguments: &LiveArguments, inventory: &Path) -> LiveOptions {
    LiveOptions {
        interfaces: arguments.interfaces.clone(),
        threads: arguments.jobs.into(),
        capture: CaptureOptions {
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
        configuration: None,
        confinement: Confinement {
            sandbox: arguments.sandbox,
            user: arguments.user.clone(),
            read: reloaded_paths(inventory, &arguments.policy_args),
            write: written_folders(arguments),
            give: arguments.out.iter().chain(&arguments.state).cloned().collect(),
        },
        record: arguments
            .write
            .clone()
            .map(|path| (path, arguments.write_size as u64, usize::from(arguments.write_files))),
        #[cfg(feature = "store")]
        rows: None,
    }
}

/// Returns the options with a folder for the rows of windows, if there is one.
#[cfg(feature = "store")]
fn with_rows(mut options: LiveOptions, rows: Option<SpoolOptions>) -> LiveOptions {
    if let Some(rows) = &rows {
        options.confinement.write.push(rows.folder.clone());
        options.confinement.give.extend(rows.folders());
    }
    LiveOptions { rows, ..options }
}

/// Loads the policy. Returns an error if users other than root and the current user could change a
/// file or folder that the arguments or the inventory name.
fn load_safely(inventory: &Path, policy_args: &PolicyArgs) -> Result<Policy, Vec<Diagnostic>> {
    let named = [Some(inventory), policy_args.exceptions.as_deref(), policy_args.rules.as_deref()];
    let names_or_paths = policy_args.overlays.iter().chain(&policy_args.matrix).map(Path::new);
    let by_inventory = rules_named_by(inventory);
    let by_inventory = by_inventory.iter().map(PathBuf::as_path);
    let mut writable = Vec::new();
    for file in named.into_iter().flatten().chain(names_or_paths).chain(by_inventory) {
        find_writable_by_others(file, 0, &mut writable);
    }
    let problem = |file: PathBuf| {
        let message = "other users can write to it and could thereby change the reports; run chmod go-w and chown root";
        file_problem(&file.display().to_string(), message)
    };
    let problems: Vec<Diagnostic> = writable.into_iter().flat_map(problem).collect();
    if problems.is_empty() { load_judging(inventory, policy_args, None) } else { Err(problems) }
}

/// Returns the paths of the matrix and the overlays that a TOML inventory names, except built-in
/// ones. If the inventory cannot be read, returns nothing, because loading it reports the problem.
fn rules_named_by(inventory: &Path) -> Vec<PathBuf> {
    // A pipe cannot be read twice, so it is left to the loading of the inventory.
    let text = inventory.is_file().then(|| TextFile::read(inventory).ok()).flatten();
    let Some(TextFile { name, text, .. }) = text.filter(|file| is_toml(&file.name)) else {
        return Vec::new();
    };
    let named = Inventory::rules_named(&text);
    let names = named.matrix.into_iter().chain(named.overlays).map(|(name, _)| name);
    let is_built_in = |name: &String| MATRICES.contains(&name.as_str());
    names
        .filter(|name| !is_built_in(name))
        .map(|rules| folder_of(Path::new(&name)).join(rules))
        .collect()
}

/// Collects the files and folders at a path, and up to four levels below it, that users other than
/// root and the current user could change.
#[cfg(unix)]
fn find_writable_by_others(path: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    const MAX_DEPTH: usize = 4;
    let Ok(data) = path.metadata() else { return };
    let ours = [0, nix::unistd::geteuid().as_raw()].contains(&data.uid());
    if data.permissions().mode() & 0o022 != 0 || !ours {
        found.push(path.to_owned());
    }
    if depth < MAX_DEPTH {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            find_writable_by_others(&entry.path(), depth + 1, found);
        }
    }
}

#[cfg(not(unix))]
fn find_writable_by_others(_: &Path, _: usize, _: &mut Vec<PathBuf>) {}

/// Returns the folders that the audit writes to, except that of the rows of windows.
fn written_folders(arguments: &LiveArguments) -> Vec<PathBuf> {
    let folders = arguments.out.iter().chain(&arguments.state).cloned();
    folders.chain(arguments.write.as_deref().map(folder_of)).collect()
}

/// Returns the files and folders that must stay readable for a reload.
fn reloaded_paths(inventory: &Path, policy_args: &PolicyArgs) -> Vec<PathBuf> {
    let named = [Some(inventory), policy_args.exceptions.as_deref(), policy_args.rules.as_deref()];
    // Editors replace files, so the folder of each file must be readable. `--matrix` and
    // `--overlay` may also contain paths.
    let mut paths: Vec<PathBuf> = named.into_iter().flatten().map(folder_of).collect();
    paths.extend(policy_args.rules.clone());
    paths.extend(policy_args.overlays.iter().chain(&policy_args.matrix).map(PathBuf::from));
    paths.extend(rules_named_by(inventory));
    paths
}

/// Handles signals: INT and TERM stop the audit, HUP reloads the policy, USR1 closes the window. A
/// second INT or TERM ends the program immediately.
fn handle_signals(control: &Arc<Control>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])?;
    let control = Arc::clone(control);
    std::thread::spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => control.reload.store(true, Ordering::Relaxed),
                SIGUSR1 => control.close_now.store(true, Ordering::Relaxed),
                _ if control.stop.swap(true, Ordering::Relaxed) => std::process::exit(130),
                _ => {}
            }
        }
    });
    Ok(())
}

/// A listener that prints events and new findings, sends new findings to syslog, writes the reports
/// of each window, and updates the web page.
struct ConsoleObserver<'a> {
    arguments: &'a LiveArguments,
    inventory: &'a Path,
    folders: Option<WindowFolders>,
    /// The number of findings of all windows.
    findings: AtomicU64,
    pages: Arc<LiveSnapshot>,
    syslog: Option<Syslog>,
    /// Whether it was already reported that nothing was checked.
    unchecked: AtomicBool,
    /// The messages that syslog has not accepted yet.
    unsent: Mutex<UnsentMessages>,
}

impl ConsoleObserver<'_> {
    /// Prints the interfaces, the inventory, the length of a window, and where the results are.
    fn print_start(&self, page: Option<SocketAddr>) {
        let LiveArguments { interfaces, every, out, state, .. } = self.arguments;
        let inventory = self.inventory.display();
        self.print(&format!(
            "watching {} with {inventory}, one window every {every} s",
            interfaces.join(", ")
        ));
        if let Some(out) = out {
            self.print(&format!("reports: {}/latest", out.display()));
        }
        #[cfg(feature = "store")]
        if let Some(rows) = &self.arguments.rows.collect {
            self.print(&format!("rows: {}", rows.display()));
        }
        if let Some(state) = state {
            self.print(&format!("state: {}", state.display()));
        }
        if let Some(page) = page {
            self.print(&format!("page: http://{page}/"));
        }
    }

    /// Returns the end of a message about findings that were not shown or sent, which says where
    /// all findings are listed. It is empty without `--out`.
    fn report_place(&self) -> &'static str {
        match self.arguments.out {
            Some(_) => "; the reports contain all findings",
            None => "",
        }
    }

    /// Prints a message to standard error, unless `--quiet` is set.
    fn print(&self, text: &str) {
        if !self.arguments.quiet {
            print_message(escape_control(text));
        }
    }

    /// Sends findings to syslog, starting with those that could not be sent before. A repeated
    /// failure is reported only once.
    fn send(&self, new: Vec<Message>) {
        let Some(syslog) = &self.syslog else { return };
        let mut unsent = self.unsent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let more = new.len().saturating_sub(MAX_PRINTED);
        let dropped = unsent.add(new.into_iter().take(MAX_PRINTED));
        self.pages.count_unsent(more as u64 + dropped);
        if more > 0 {
            report_error(&format!(
                "--syslog: {} of this window not sent, because at most {MAX_PRINTED} are sent per window{}",
                plural(more as u64, "new finding"),
                self.report_place()
            ));
        }
        if dropped > 0 {
            report_error(&format!(
                "--syslog: {} of earlier windows will not be sent, because at most {} can wait{}",
                plural(dropped, "finding"),
                UnsentMessages::MAX,
                self.report_place()
            ));
        }
        match unsent.send(syslog) {
            Ok(()) => self.pages.record_success(Duty::Syslog),
            Err(error) => {
                if !self.pages.record_failure(Duty::Syslog) {
                    report_error(&format!(
                        "--syslog: {error}; if the audit continues, it tries again at the end of each window{}",
                        self.report_place()
                    ));
                }
            }
        }
    }
}

impl ConsoleObserver<'_> {
    /// Writes the reports of a closed window, if they were requested.
    fn write_reports(&self, WindowClosed { window, all, .. }: &WindowClosed<'_>) {
        match self.folders.as_ref().map(|folders| all.write_window_reports(window, folders)) {
            None => {}
            Some(Ok(folder)) => {
                self.pages.record_success(Duty::Reports);
                let frames = plural(window.reading.account.frames, "frame");
                self.print(&format!("{frames}: {}", folder.display()));
            }
            Some(Err(failure)) => {
                self.pages.record_failure(Duty::Reports);
                report_failure(failure);
            }
        }
    }
}

impl Listener for ConsoleObserver<'_> {
    fn on_event(&self, event: &LiveEvent) {
        match event {
            LiveEvent::InterfaceDown(name, reason) => {
                self.pages.set_interface_down(name);
                report_error(&format!(
                    "{name} can no longer be read ({reason}); retrying every second"
                ));
            }
            LiveEvent::InterfaceMissing(name) => {
                self.pages.set_interface_down(name);
                report_error(&format!(
                    "{name} does not exist (see rasaudit interfaces); retrying every second"
                ));
            }
            LiveEvent::InterfaceUp(name, after) => {
                self.pages.set_interface_up(name);
                self.print(&format!("{name} is now being read; it was unavailable for {} s", after.as_secs()));
            }
            LiveEvent::Aggregated(level, flows) => {
                self.pages.count_aggregated(*level, *flows);
                self.print(&format!(
                    "to stay within --max-memory, aggregated {} ({})",
                    plural(*flows, "flow"),
                    level_words(*level)
                ));
            }
            LiveEvent::EvidenceDropped(count) => self.print(&format!(
                "to stay within --max-memory, dropped evidence other than flows, such as address claims, lookups and fragments (entries: {count})"
            )),
            LiveEvent::StateBroken(error) => report_error(&format!(
                "{error}; using another saved state or, if none can be read, starting without a state"
            )),
            LiveEvent::Restored(flows) => {
                self.print(&format!("restored {} from the saved state", plural(*flows, "flow")));
            }
            LiveEvent::Waiting => report_error(
                "waiting for a capture thread to hand over its part of the window",
            ),
            LiveEvent::NotSpilled(error) => {
                report_error(&format!("idle flows stay in memory, because they cannot be written to disk ({error})"));
            }
            LiveEvent::NotRecorded(error) => {
                self.pages.record_failure(Duty::Frames);
                report_error(&format!("--write: {error}; if the audit continues, it tries again in the next window"));
            }
            LiveEvent::RecordingGap(frames) => {
                self.pages.count_unrecorded(*frames);
                self.pages.record_failure(Duty::Frames);
                report_error(&format!(
                    "--write: the files lack at least {} of this window; the audit is not affected",
                    plural(*frames, "frame")
                ));
            }
            LiveEvent::NotCollected(error) => {
                self.pages.record_failure(Duty::Rows);
                report_error(&format!(
                    "--collect: {error}; the rows of this window are lost; if the audit continues, the next file of rows records the loss"
                ));
            }
            LiveEvent::Collected(window) => {
                self.pages.record_success(Duty::Rows);
                self.pages.record_collected(window);
                let CollectedWindow { removed_windows, removed_frames, .. } = *window;
                if removed_windows > 0 {
                    report_error(&format!(
                        "--collect: removed the rows of {} ({}), because --collect-size was reached; move the files away sooner",
                        plural(removed_windows, "older window"),
                        plural(removed_frames, "frame")
                    ));
                }
            }
            LiveEvent::Saved => self.pages.record_success(Duty::State),
            LiveEvent::Recorded => self.pages.record_success(Duty::Frames),
            LiveEvent::NotSaved(error) => {
                self.pages.record_failure(Duty::State);
                report_error(&format!("{error}; keeping the last state that was saved, if any"));
            }
        }
    }

    fn reload(&self) -> Option<Policy> {
        match load_safely(self.inventory, &self.arguments.policy_args) {
            Ok(policy) => {
                self.print("reloaded the inventory, the rules and the exceptions");
                Some(policy)
            }
            Err(problems) => {
                report_errors(&problems);
                report_error("keeping the previous inventory, rules and exceptions");
                None
            }
        }
    }

    fn on_window_closed(&self, closed: &WindowClosed<'_>) {
        let WindowClosed { window, all, before, .. } = closed;
        self.findings.store(all.outcome.findings().len() as u64, Ordering::Relaxed);
        let mut out = io::stdout().lock();
        let format = match self.arguments.format.as_str() {
            "json" => LineFormat::Json,
            _ => LineFormat::Text,
        };
        let new = all.new_findings(before, format);
        for line in new.iter().take(MAX_PRINTED) {
            // The reports are written even if standard output is closed.
            let _ = writeln!(out, "{line}");
        }
        if new.len() > MAX_PRINTED {
            let more = plural((new.len() - MAX_PRINTED) as u64, "more new finding");
            self.print(&format!("{more} not shown{}", self.report_place()));
        }
        let _ = out.flush();
        let checked = all.outcome.checked_anything();
        if !checked && !self.unchecked.swap(true, Ordering::Relaxed) {
            self.print(
                "nothing could be assessed: no unicast packets from a listed host with a role were seen, except background traffic; check that the inventory and the span port belong to the same farm",
            );
        } else if checked {
            self.unchecked.store(false, Ordering::Relaxed);
        }
        let loss = window.reading.loss;
        if loss.dropped > 0 {
            let lost = plural(loss.dropped, "frame");
            self.print(&format!("this window lost {lost} {}", loss.of_all()));
        }
        self.send(all.new_messages(before));
        std::thread::scope(|scope| {
            #[cfg(feature = "serve")]
            let is_served = self.arguments.listen.is_some();
            #[cfg(feature = "serve")]
            let rendered = is_served.then(|| scope.spawn(|| self.pages.render(closed)));
            #[cfg(not(feature = "serve"))]
            let _ = scope;
            self.write_reports(closed);
            #[cfg(feature = "serve")]
            if let Some(thread) = rendered {
                let report = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                self.pages.update(closed, report);
            }
        });
    }
}

/// Describes which flows a level of aggregation affects, and how they are aggregated.
fn level_words(level: AggregationLevel) -> &'static str {
    match level {
        AggregationLevel::Attempts => {
            "unlisted clients' flows without a completed TCP handshake, by network"
        }
        AggregationLevel::Outside => "flows of unlisted clients, by network",
        AggregationLevel::Strangers => {
            "flows of unlisted hosts: all unlisted clients become one, and unlisted servers are aggregated by network"
        }
        AggregationLevel::Ports => "flows of all hosts, by conversation",
        AggregationLevel::Scans => {
            "flows without a completed TCP handshake, which lose their service ports"
        }
        AggregationLevel::Inside => "flows without a completed TCP handshake, by network",
    }
}

/// Shows a status line on a terminal while `work` runs.
fn with_status_line<T>(
    control: &Control,
    verbosity: Verbosity,
    observer: &ConsoleObserver<'_>,
    work: impl FnOnce() -> T,
) -> T {
    if !verbosity.shows_progress() {
        return work();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    let (done, is_done) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        let shown = &bar;
        scope.spawn(move || {
            let mut before = 0;
            let mut since = Instant::now();
            while is_done.recv_timeout(Duration::from_secs(1)).is_err_and(|e| e.is_timeout()) {
                let frames = control.progress.frames.load(Ordering::Relaxed);
                let rate = (frames - before) as f64 / since.elapsed().as_secs_f64();
                (before, since) = (frames, Instant::now());
                let findings = observer.findings.load(Ordering::Relaxed);
                let lost = control.progress.lost.load(Ordering::Relaxed);
                shown.set_message(format!(
                    "{}, {rate:.0} per second, {lost} lost, {}",
                    plural(frames, "frame"),
                    plural(findings, "finding")
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
