//! The data that a live audit serves at any time: the last report as a page and as JSON, metrics,
//! and its health.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::live::WindowClosed;
use super::{Progress, lock};
use crate::flow::AggregationLevel;
use crate::model::{Loss, named_enum};

named_enum!(
    /// A task of a live audit beside capturing.
    Duty {
        /// Write the reports of a window.
        Reports = "reports",
        /// Save the state.
        State = "state",
        /// Send findings to syslog.
        Syslog = "syslog",
        /// Record frames (`--write`).
        Frames = "frames",
    }
);

/// The data that is served, renewed with each window.
pub struct LiveSnapshot {
    /// The duties that failed at the last attempt, and how often each one failed.
    failing: Mutex<(BTreeSet<Duty>, BTreeMap<Duty, u64>)>,
    started: Instant,
    made: Mutex<RenderedPage>,
    folded: Mutex<BTreeMap<AggregationLevel, u64>>,
    /// The interfaces that cannot be read at present.
    away: Mutex<Vec<String>>,
    windows: AtomicU64,
}

#[derive(Default)]
struct RenderedPage {
    metrics: String,
    /// The report as JSON. `page` contains it as HTML.
    report: Bytes,
    page: Bytes,
    /// The share of the last window's frames that were lost.
    loss: f64,
    /// When the last window was closed.
    closed: Option<Instant>,
}

/// Metrics in the Prometheus text format.
#[derive(Default)]
struct Metrics(String);

impl Metrics {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP rasaudit_{name} {help}\n# TYPE rasaudit_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let escaped =
            |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> =
            labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "rasaudit_{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

impl Default for LiveSnapshot {
    fn default() -> Self {
        Self {
            failing: Mutex::default(),
            started: Instant::now(),
            made: Mutex::default(),
            folded: Mutex::default(),
            away: Mutex::default(),
            windows: AtomicU64::default(),
        }
    }
}

impl LiveSnapshot {
    /// Records that a duty failed. Returns whether it had already failed at the last attempt.
    pub fn fails(&self, duty: Duty) -> bool {
        let (failing, counts) = &mut *lock(&self.failing);
        *counts.entry(duty).or_default() += 1;
        !failing.insert(duty)
    }

    /// Records that a duty succeeded.
    pub fn works(&self, duty: Duty) {
        lock(&self.failing).0.remove(&duty);
    }

    /// Counts aggregated flows.
    pub fn folded(&self, fold: AggregationLevel, flows: u64) {
        *lock(&self.folded).entry(fold).or_default() += flows;
    }

    /// Records whether an interface is missing or back.
    pub fn is_away(&self, name: &str, away: bool) {
        let mut list = lock(&self.away);
        list.retain(|known| known != name);
        if away {
            list.push(name.to_owned());
        }
    }

    /// Renews the data from a closed window.
    pub fn update(&self, closed: &WindowClosed<'_>) {
        let all = closed.all;
        let window = closed.window;
        let windows = self.windows.load(Ordering::Relaxed) + 1;
        let mut report = Vec::new();
        let mut page = Vec::new();
        // Writing to memory does not fail.
        let _ = all.write_json(&mut report);
        let _ = all.write_live_page(windows, &mut page);
        let mut m = Metrics::default();
        m.single("windows_total", "counter", "Windows closed since the start.", windows);
        m.single(
            "window_lag_seconds",
            "gauge",
            "Seconds from the end of the last window until it was judged and reported.",
            closed.ended.elapsed().as_secs_f64(),
        );
        m.family("interface_up", "gauge", "Whether the interface is being read.");
        let away = lock(&self.away).clone();
        for input in &window.reading.inputs {
            m.sample(
                "interface_up",
                &[("interface", &input.name)],
                u8::from(!away.contains(&input.name)),
            );
        }
        m.family(
            "frames_total",
            "counter",
            "Frames read, including those of earlier runs in the state.",
        );
        for input in &all.reading.inputs {
            m.sample("frames_total", &[("interface", &input.name)], input.account.frames);
        }
        m.family("frames_lost_total", "counter", "Frames dropped by the kernel or the interface.");
        for input in &all.reading.inputs {
            m.sample("frames_lost_total", &[("interface", &input.name)], input.loss.dropped);
        }
        let Loss { received, dropped } = window.reading.loss;
        let share = Loss { received, dropped }.share();
        m.single(
            "window_loss_ratio",
            "gauge",
            "Share of the last window's frames that were lost.",
            share,
        );
        let (resting, _) = all.reading.flows.resting();
        m.single("flows", "gauge", "Flows held, including those on disk.", all.reading.flows.len());
        m.single("flows_on_disk", "gauge", "Idle flows on disk.", resting);
        m.family(
            "folded_flows_total",
            "counter",
            "Flows that were aggregated because memory was short.",
        );
        for (fold, flows) in lock(&self.folded).iter() {
            m.sample("folded_flows_total", &[("fold", fold.name())], flows);
        }
        m.single(
            "assessed",
            "gauge",
            "Whether anything was checked: a listed host with a role was seen sending.",
            u8::from(all.outcome.checked_anything()),
        );
        m.family("conversations", "gauge", "Conversations of all windows by verdict.");
        for (verdict, count) in all.outcome.by_verdict() {
            m.sample("conversations", &[("verdict", verdict.name())], count);
        }
        m.family("findings", "gauge", "Findings of all windows by verdict, code and severity.");
        let mut by_code: BTreeMap<_, u64> = BTreeMap::new();
        let mut by_roles: BTreeMap<_, u64> = BTreeMap::new();
        let teller = all.teller();
        let policy = all.policy();
        for f in all.outcome.findings() {
            *by_code.entry((f.verdict(), f.code(), f.severity)).or_default() += 1;
            if let Some((teller, policy)) = teller.as_ref().zip(policy) {
                let roles = |roles| policy.matrix.role_names(roles).join(";");
                let [client, server] = teller.roles(f).map(roles);
                *by_roles.entry((f.code(), client, server)).or_default() += 1;
            }
        }
        for ((verdict, code, severity), count) in by_code {
            let severity = severity.to_string();
            let labels =
                [("verdict", verdict.name()), ("code", code.name()), ("severity", &severity)];
            m.sample("findings", &labels, count);
        }
        m.family(
            "findings_by_roles",
            "gauge",
            "Findings of all windows by code and the roles of the ends.",
        );
        for ((code, client, server), count) in by_roles {
            let labels =
                [("code", code.name()), ("client_roles", &client), ("server_roles", &server)];
            m.sample("findings_by_roles", &labels, count);
        }
        if let Some(bytes) = resident() {
            m.single("resident_memory_bytes", "gauge", "Memory of the process.", bytes);
        }
        let report = report.into();
        let page = page.into();
        let closed = Some(Instant::now());
        // The page is replaced before the number of windows, so that subscribers that receive the
        // event find the new page.
        *lock(&self.made) = RenderedPage { metrics: m.0, report, page, loss: share, closed };
        self.windows.store(windows, Ordering::Relaxed);
    }

    /// Returns the last report as JSON, or nothing before the first window.
    pub(super) fn report(&self) -> Bytes {
        lock(&self.made).report.clone()
    }

    /// Returns the last report as HTML, or nothing before the first window.
    pub(super) fn page(&self) -> Bytes {
        lock(&self.made).page.clone()
    }

    /// Returns the number of windows closed since the start.
    pub(super) fn windows(&self) -> u64 {
        self.windows.load(Ordering::Relaxed)
    }

    /// Returns the share of the last window's frames that were lost, and the interfaces that cannot
    /// be read.
    pub(super) fn trouble(&self) -> (f64, Vec<String>) {
        (lock(&self.made).loss, lock(&self.away).clone())
    }

    /// Returns the metrics of the last window and those of this moment.
    pub(super) fn metrics(&self, progress: &Progress, every: Duration) -> String {
        let mut now = Metrics::default();
        now.family(
            "failures_total",
            "counter",
            "Failures to write reports, the state, syslog messages or frames.",
        );
        for duty in Duty::ALL {
            let count = lock(&self.failing).1.get(duty).copied().unwrap_or_default();
            now.sample("failures_total", &[("what", duty.name())], count);
        }
        now.single(
            "window_late",
            "gauge",
            "Whether the next window, or the first one, is more than two windows late.",
            u8::from(self.is_late(every)),
        );
        now.single(
            "frames_decoded_total",
            "counter",
            "Frames decoded since the start.",
            progress.frames.load(Ordering::Relaxed),
        );
        lock(&self.made).metrics.clone() + &now.0
    }

    /// Returns whether no window was closed for three times the length of a window, counted from
    /// the start for the first one.
    fn is_late(&self, every: Duration) -> bool {
        lock(&self.made).closed.unwrap_or(self.started).elapsed() > every * 3
    }

    /// Returns what is wrong; `None` if windows are closed in time, all interfaces are read and
    /// everything could be written.
    pub(super) fn unhealthy_reason(&self, every: Duration) -> Option<String> {
        let mut wrong = String::new();
        if self.is_late(every) {
            wrong.push_str("windows are closed late\n");
        }
        for duty in &lock(&self.failing).0 {
            let _ = writeln!(wrong, "cannot be written: {duty}");
        }
        let away = lock(&self.away).join(", ");
        if !away.is_empty() {
            let _ = writeln!(wrong, "not read: {away}");
        }
        (!wrong.is_empty()).then_some(wrong)
    }
}

/// Returns the resident memory of this process in bytes, if the system reports it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
