//! Provides the data that a live audit serves: the last report as a page and as JSON, metrics, and
//! the health status.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::audit::Audit;
use super::live::WindowClosed;
use super::{Progress, lock};
use crate::flow::AggregationLevel;
use crate::model::named_enum;

named_enum!(
    /// A task of a live audit in addition to capturing.
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

/// The data that is served. It is updated after each window.
pub struct LiveSnapshot {
    /// The duties whose last attempt failed, and how often each duty has failed.
    failing: Mutex<(BTreeSet<Duty>, BTreeMap<Duty, u64>)>,
    started: Instant,
    rendered: Mutex<RenderedPage>,
    /// The number of aggregated flows, by level.
    aggregated: Mutex<BTreeMap<AggregationLevel, u64>>,
    /// The interfaces that cannot currently be read.
    down: Mutex<Vec<String>>,
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

    /// Adds the state, the frames and the loss of each interface. `down` names the interfaces that
    /// cannot be read.
    fn add_interfaces(&mut self, closed: &WindowClosed<'_>, down: &[String]) {
        let window = closed.window;
        let all = closed.all;
        self.family("interface_up", "gauge", "Whether the interface is being read.");
        for input in &window.reading.inputs {
            let is_up = u8::from(!down.contains(&input.name));
            self.sample("interface_up", &[("interface", &input.name)], is_up);
        }
        self.family(
            "frames_total",
            "counter",
            "Frames read, including those of earlier runs in the state.",
        );
        for input in &all.reading.inputs {
            self.sample("frames_total", &[("interface", &input.name)], input.account.frames);
        }
        let help = "Frames dropped by the kernel or the interface.";
        self.family("frames_lost_total", "counter", help);
        for input in &all.reading.inputs {
            self.sample("frames_lost_total", &[("interface", &input.name)], input.loss.dropped);
        }
        self.single(
            "window_loss_ratio",
            "gauge",
            "Share of the last window's frames that were lost.",
            window.reading.loss.share(),
        );
    }

    /// Adds the flows of all windows, and how many flows were aggregated to each level.
    fn add_flows(&mut self, all: &Audit, aggregated: &BTreeMap<AggregationLevel, u64>) {
        let flows = &all.reading.flows;
        let (on_disk, _) = flows.idle_size();
        self.single("flows", "gauge", "Flows held, including those on disk.", flows.len());
        self.single("flows_on_disk", "gauge", "Idle flows on disk.", on_disk);
        self.family(
            "folded_flows_total",
            "counter",
            "Flows that were aggregated because memory was short.",
        );
        for (level, flows) in aggregated {
            self.sample("folded_flows_total", &[("fold", level.name())], flows);
        }
    }

    fn add_conversations(&mut self, all: &Audit) {
        self.single(
            "assessed",
            "gauge",
            "Whether anything was checked: a listed host with a role was seen sending.",
            u8::from(all.outcome.checked_anything()),
        );
        self.family("conversations", "gauge", "Conversations of all windows by verdict.");
        for (verdict, count) in all.outcome.by_verdict() {
            self.sample("conversations", &[("verdict", verdict.name())], count);
        }
    }

    /// Adds the findings of all windows, by code and by the roles of their ends.
    fn add_findings(&mut self, all: &Audit) {
        let mut by_code: BTreeMap<_, u64> = BTreeMap::new();
        let mut by_roles: BTreeMap<_, u64> = BTreeMap::new();
        let judged_by = all.explainer().zip(all.policy());
        for finding in all.outcome.findings() {
            let code = finding.code();
            *by_code.entry((finding.verdict(), code, finding.severity)).or_default() += 1;
            if let Some((explainer, policy)) = &judged_by {
                let roles = |roles| policy.matrix.role_names(roles).join(";");
                let [client, server] = explainer.roles(finding).map(roles);
                *by_roles.entry((code, client, server)).or_default() += 1;
            }
        }
        let help = "Findings of all windows by verdict, code and severity.";
        self.family("findings", "gauge", help);
        for ((verdict, code, severity), count) in by_code {
            let severity = severity.to_string();
            let labels =
                [("verdict", verdict.name()), ("code", code.name()), ("severity", &severity)];
            self.sample("findings", &labels, count);
        }
        self.family(
            "findings_by_roles",
            "gauge",
            "Findings of all windows by code and the roles of the ends.",
        );
        for ((code, client, server), count) in by_roles {
            let labels =
                [("code", code.name()), ("client_roles", &client), ("server_roles", &server)];
            self.sample("findings_by_roles", &labels, count);
        }
    }
}

impl Default for LiveSnapshot {
    fn default() -> Self {
        Self {
            failing: Mutex::default(),
            started: Instant::now(),
            rendered: Mutex::default(),
            aggregated: Mutex::default(),
            down: Mutex::default(),
            windows: AtomicU64::default(),
        }
    }
}

impl LiveSnapshot {
    /// Records that a duty failed. Returns whether it had already failed at the last attempt.
    pub fn record_failure(&self, duty: Duty) -> bool {
        let (failing, counts) = &mut *lock(&self.failing);
        *counts.entry(duty).or_default() += 1;
        !failing.insert(duty)
    }

    /// Records that a duty succeeded.
    pub fn record_success(&self, duty: Duty) {
        lock(&self.failing).0.remove(&duty);
    }

    /// Counts aggregated flows.
    pub fn count_aggregated(&self, level: AggregationLevel, flows: u64) {
        *lock(&self.aggregated).entry(level).or_default() += flows;
    }

    /// Records that an interface can no longer be read.
    pub fn set_interface_down(&self, name: &str) {
        let mut down = lock(&self.down);
        down.retain(|known| known != name);
        down.push(name.to_owned());
    }

    /// Records that an interface is read again.
    pub fn set_interface_up(&self, name: &str) {
        lock(&self.down).retain(|known| known != name);
    }

    /// Updates the data from a closed window.
    pub fn update(&self, closed: &WindowClosed<'_>) {
        let all = closed.all;
        let windows = self.windows.load(Ordering::Relaxed) + 1;
        let mut report = Vec::new();
        let mut page = Vec::new();
        // Writing to memory does not fail.
        let _ = all.write_json(&mut report);
        let _ = all.write_live_page(windows, &mut page);
        let mut metrics = Metrics::default();
        metrics.single("windows_total", "counter", "Windows closed since the start.", windows);
        metrics.single(
            "window_lag_seconds",
            "gauge",
            "Seconds from the end of the last window until it was judged and reported.",
            closed.ended.elapsed().as_secs_f64(),
        );
        let down = lock(&self.down).clone();
        metrics.add_interfaces(closed, &down);
        metrics.add_flows(all, &lock(&self.aggregated));
        metrics.add_conversations(all);
        metrics.add_findings(all);
        if let Some(bytes) = resident_memory() {
            metrics.single("resident_memory_bytes", "gauge", "Memory of the process.", bytes);
        }
        let rendered = RenderedPage {
            metrics: metrics.0,
            report: report.into(),
            page: page.into(),
            loss: closed.window.reading.loss.share(),
            closed: Some(Instant::now()),
        };
        // The page is replaced before the number of windows is updated, so that subscribers that
        // receive the event find the new page.
        *lock(&self.rendered) = rendered;
        self.windows.store(windows, Ordering::Relaxed);
    }

    /// Returns the last report as JSON; empty before the first window is closed.
    pub(super) fn report(&self) -> Bytes {
        lock(&self.rendered).report.clone()
    }

    /// Returns the last report as HTML; empty before the first window is closed.
    pub(super) fn page(&self) -> Bytes {
        lock(&self.rendered).page.clone()
    }

    /// Returns the number of windows closed since the start.
    pub(super) fn windows(&self) -> u64 {
        self.windows.load(Ordering::Relaxed)
    }

    /// Returns the share of the last window's frames that were lost, and the interfaces that cannot
    /// be read.
    pub(super) fn loss_and_interfaces_down(&self) -> (f64, Vec<String>) {
        (lock(&self.rendered).loss, lock(&self.down).clone())
    }

    /// Returns the metrics of the last window, followed by current ones.
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
        lock(&self.rendered).metrics.clone() + &now.0
    }

    /// Returns whether the last window was closed more than three window lengths ago. Before the
    /// first window is closed, the time is counted from the start.
    fn is_late(&self, every: Duration) -> bool {
        lock(&self.rendered).closed.unwrap_or(self.started).elapsed() > every * 3
    }

    /// Returns the current problems, one per line; `None` if windows are closed in time, all
    /// interfaces are read and everything could be written.
    pub(super) fn unhealthy_reason(&self, every: Duration) -> Option<String> {
        let mut problems = String::new();
        if self.is_late(every) {
            problems.push_str("windows are closed late\n");
        }
        for duty in &lock(&self.failing).0 {
            let _ = writeln!(problems, "cannot be written: {duty}");
        }
        let down = lock(&self.down).join(", ");
        if !down.is_empty() {
            let _ = writeln!(problems, "not read: {down}");
        }
        (!problems.is_empty()).then_some(problems)
    }
}

/// Returns the resident memory of this process in bytes, if the system reports it.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
