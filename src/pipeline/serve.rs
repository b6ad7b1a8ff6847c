//! What a live audit serves over HTTP: metrics, its health, the last report. It answers; nobody can change anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Header, Method, Request, Response, Server};

use super::Progress;
use super::live::{Closed, Control};
use crate::flow::Fold;
use crate::model::Loss;

/// Threads that answer, so that one client who does not read keeps nobody from an answer.
const ANSWERING: usize = 4;

/// What is served: made anew with each window.
#[derive(Default)]
pub struct Pages {
    made: Mutex<Made>,
    folded: Mutex<BTreeMap<Fold, u64>>,
    /// Interfaces that are away.
    away: Mutex<Vec<String>>,
    windows: AtomicU64,
}

#[derive(Default)]
struct Made {
    metrics: String,
    report: Vec<u8>,
    /// When the last window was closed.
    closed: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Metrics in the text format of Prometheus.
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

impl Pages {
    /// Flows were folded.
    pub fn folded(&self, fold: Fold, flows: u64) {
        *lock(&self.folded).entry(fold).or_default() += flows;
    }

    /// An interface is away, or back.
    pub fn is_away(&self, name: &str, away: bool) {
        let mut list = lock(&self.away);
        list.retain(|known| known != name);
        if away {
            list.push(name.to_owned());
        }
    }

    /// A window was closed; telling it took so long.
    pub fn update(&self, closed: &Closed<'_>, took: Duration) {
        let (all, window) = (closed.all, closed.window);
        let windows = self.windows.fetch_add(1, Ordering::Relaxed) + 1;
        let mut m = Metrics::default();
        m.single("windows_total", "counter", "Windows closed since the start.", windows);
        m.single(
            "window_lag_seconds",
            "gauge",
            "How long it took to judge and tell the last window.",
            took.as_secs_f64(),
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
            "Frames read, those of earlier runs of the state among them.",
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
        m.single("flows", "gauge", "Flows held.", all.reading.flows.len());
        m.family(
            "folded_flows_total",
            "counter",
            "Flows taken into others because memory ran short.",
        );
        for (fold, flows) in lock(&self.folded).iter() {
            m.sample("folded_flows_total", &[("fold", fold.name())], flows);
        }
        m.family("conversations", "gauge", "Conversations of all windows by verdict.");
        for (verdict, count) in all.outcome.by_verdict() {
            m.sample("conversations", &[("verdict", verdict.name())], count);
        }
        m.family("findings", "gauge", "Findings of all windows by verdict, code and severity.");
        let mut by_code: BTreeMap<_, u64> = BTreeMap::new();
        let mut by_roles: BTreeMap<_, u64> = BTreeMap::new();
        for f in &all.outcome.findings {
            *by_code.entry((f.verdict, f.code, f.severity)).or_default() += 1;
            *by_roles
                .entry((f.code, f.client.roles.clone(), f.server.roles.clone()))
                .or_default() += 1;
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
        let mut report = Vec::new();
        // Into memory nothing fails.
        let _ = all.write_format("json", &mut report);
        *lock(&self.made) = Made { metrics: m.0, report, closed: Some(Instant::now()) };
    }

    fn answer(&self, request: Request, every: Duration, progress: &Progress) {
        let get = matches!(request.method(), Method::Get | Method::Head);
        let path = request.url().split('?').next().unwrap_or_default().to_owned();
        let (code, kind, body) = match path.as_str() {
            _ if !get => (405, "text/plain; charset=utf-8", b"only GET\n".to_vec()),
            "/metrics" => (200, "text/plain; version=0.0.4; charset=utf-8", self.metrics(progress)),
            "/healthz" => self.health(every),
            "/report.json" => match lock(&self.made).report.clone() {
                none if none.is_empty() => {
                    (503, "text/plain; charset=utf-8", b"no window was closed yet\n".to_vec())
                }
                report => (200, "application/json", report),
            },
            _ => (
                404,
                "text/plain; charset=utf-8",
                b"there is /metrics, /healthz and /report.json\n".to_vec(),
            ),
        };
        let header = |name: &str, value: &str| Header::from_bytes(name, value).ok();
        let headers = [
            header("Content-Type", kind),
            header("X-Content-Type-Options", "nosniff"),
            header("Cache-Control", "no-store"),
        ];
        let mut response = Response::from_data(body).with_status_code(code);
        headers.into_iter().flatten().for_each(|header| response.add_header(header));
        // Who asked may be gone.
        let _ = request.respond(response);
    }

    fn metrics(&self, progress: &Progress) -> Vec<u8> {
        let mut now = Metrics::default();
        now.single(
            "frames_decoded_total",
            "counter",
            "Frames decoded since the start, at this moment.",
            progress.frames.load(Ordering::Relaxed),
        );
        (lock(&self.made).metrics.clone() + &now.0).into_bytes()
    }

    /// Well where windows are closed in time and all interfaces are there.
    fn health(&self, every: Duration) -> (u16, &'static str, Vec<u8>) {
        let kind = "text/plain; charset=utf-8";
        let away = lock(&self.away).join(", ");
        let late = lock(&self.made).closed.is_some_and(|closed| closed.elapsed() > every * 3);
        match (late, away.is_empty()) {
            (false, true) => (200, kind, b"ok\n".to_vec()),
            (true, _) => (503, kind, b"windows are closed late\n".to_vec()),
            (false, false) => (503, kind, format!("not read: {away}\n").into_bytes()),
        }
    }
}

/// Opens the place to listen at: of this host alone.
pub fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    if !address.ip().is_loopback() {
        return Err(format!(
            "{address} can be reached from elsewhere, and what is served is for nobody to see; give a loopback \
             address, and a proxy that asks who it is"
        ));
    }
    TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))
}

/// Answers there for as long as the process lives: nobody waits for who does not read.
pub fn serve(
    listener: TcpListener,
    pages: &Arc<Pages>,
    every: Duration,
    control: &Arc<Control>,
) -> Result<(), String> {
    let server = Server::from_listener(listener, None).map_err(|error| error.to_string())?;
    let server = Arc::new(server);
    for _ in 0..ANSWERING {
        let (server, pages, control) =
            (Arc::clone(&server), Arc::clone(pages), Arc::clone(control));
        thread::spawn(move || {
            while let Ok(request) = server.recv() {
                pages.answer(request, every, &control.progress);
            }
        });
    }
    Ok(())
}

/// Memory of this process in bytes, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
