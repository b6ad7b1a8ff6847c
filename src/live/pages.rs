//! The data that a live audit serves: the last report as a page and as JSON, the metrics, and the
//! health status.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::listener::WindowClosed;
use super::metrics::Metrics;
use super::snapshot::{LiveSnapshot, RenderedPage, RenderedReport};
use crate::pipeline::{Progress, lock};

/// The number of window lengths after which a window should have been completed.
const LATE: u32 = 3;

impl LiveSnapshot {
    /// Renders the report after a window is closed.
    pub fn render(&self, closed: &WindowClosed<'_>) -> RenderedReport {
        let windows = self.pages.windows.load(Ordering::Relaxed) + 1;
        let (mut json, mut page) = (Vec::new(), Vec::new());
        thread::scope(|scope| {
            // Writing to memory does not fail.
            scope.spawn(|| drop(closed.all.write_json(&mut json)));
            let _ = closed.all.write_live_page(windows, &mut page);
        });
        RenderedReport { json: json.into(), page: page.into() }
    }

    /// Replaces the report and the metrics after a window is closed. The caller first writes all
    /// other reports, because a metric states how long they took.
    pub fn update(&self, closed: &WindowClosed<'_>, report: RenderedReport) {
        let all = closed.all;
        let windows = self.pages.windows.load(Ordering::Relaxed) + 1;
        let metrics = Metrics::default();
        metrics.count("windows_total", "Windows closed since the start.", windows);
        let help = "Seconds between the end of the last window and its report.";
        metrics.single("window_lag_seconds", help, closed.ended.elapsed().as_secs_f64());
        let down = lock(&self.down).clone();
        metrics.add_interfaces(closed, &down);
        metrics.add_flows(all, &lock(&self.aggregated));
        metrics.add_conversations(all);
        metrics.add_findings(all);
        if let Some(bytes) = resident_memory() {
            metrics.single(
                "resident_memory_bytes",
                "Resident memory of the process in bytes.",
                bytes as f64,
            );
        }
        let rendered = RenderedPage {
            metrics: metrics.text(),
            report,
            loss: closed.window.reading.loss.share(),
            closed: Some(Instant::now()),
        };
        // The page is replaced before the number of windows is updated, so that a subscriber that
        // receives the event `window` finds the new page.
        *lock(&self.pages.rendered) = rendered;
        self.pages.windows.store(windows, Ordering::Relaxed);
    }

    /// Returns the last report as JSON; empty before the first window is closed.
    pub(super) fn report(&self) -> Bytes {
        lock(&self.pages.rendered).report.json.clone()
    }

    /// Returns the last report as HTML; empty before the first window is closed.
    pub(super) fn page(&self) -> Bytes {
        lock(&self.pages.rendered).report.page.clone()
    }

    /// Returns the number of windows closed since the start.
    pub(super) fn windows(&self) -> u64 {
        self.pages.windows.load(Ordering::Relaxed)
    }

    /// Returns the share of the last window's frames that were lost, and the interfaces that cannot
    /// be read.
    pub(super) fn loss_and_interfaces_down(&self) -> (f64, Vec<String>) {
        (lock(&self.pages.rendered).loss, lock(&self.down).clone())
    }

    /// Returns the metrics that were rendered after the last window, followed by current ones.
    pub(super) fn metrics(&self, progress: &Progress, every: Duration) -> String {
        let now = Metrics::default();
        now.add_failures(&lock(&self.failing).1);
        let help = "1 if the next window is more than two window lengths late, 0 if not.";
        now.single("window_late", help, f64::from(u8::from(self.is_late(every))));
        let frames = progress.frames.load(Ordering::Relaxed);
        now.count("frames_decoded_total", "Frames decoded since the start.", frames);
        let missing = self.unrecorded.load(Ordering::Relaxed);
        let help = "Frames that are missing from the files of --write; the audit contains them.";
        now.count("frames_not_recorded_total", help, missing);
        let unsent = self.unsent.load(Ordering::Relaxed);
        let help = "New findings that were not sent to syslog, because there were too many of them; the reports contain them.";
        now.count("findings_not_sent_total", help, unsent);
        if let Some(rows) = *lock(&self.rows) {
            let help = "Size of the files of --collect in bytes.";
            now.single("collected_bytes", help, rows.bytes as f64);
            let help = "Windows whose rows were removed because --collect-size was reached.";
            now.count("collected_windows_removed_total", help, rows.removed_windows);
            let help =
                "Frames in windows whose rows were removed because --collect-size was reached.";
            now.count("collected_frames_removed_total", help, rows.removed_frames);
        }
        lock(&self.pages.rendered).metrics.clone() + &now.text()
    }

    /// Returns whether the pages of the last window were rendered more than [`LATE`] window lengths
    /// ago. Before the first window is closed, the time is counted from the start.
    fn is_late(&self, every: Duration) -> bool {
        let last = lock(&self.pages.rendered).closed.unwrap_or(self.pages.started);
        last.elapsed() > every * LATE
    }

    /// Returns the current problems, one per line; `None` if windows are closed in time, all
    /// interfaces are read and the last attempt at every duty succeeded.
    pub(super) fn unhealthy_reason(&self, every: Duration) -> Option<String> {
        let mut problems = String::new();
        if self.is_late(every) {
            let seconds = every.as_secs();
            let late = seconds * u64::from(LATE);
            let _ = writeln!(
                problems,
                "no window was completed in the last {late} s, although a window takes {seconds} s"
            );
        }
        for duty in &lock(&self.failing).0 {
            let _ = writeln!(problems, "{}", duty.failure());
        }
        let down = lock(&self.down).join(", ");
        if !down.is_empty() {
            let _ = writeln!(problems, "these interfaces cannot be read: {down}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_that_were_not_sent_are_a_metric() {
        let snapshot = LiveSnapshot::default();
        snapshot.count_unsent(3);
        let metrics = snapshot.metrics(&Progress::default(), Duration::from_secs(60));
        assert!(metrics.lines().any(|line| line == "rasaudit_findings_not_sent_total 3"));
    }
}
