//! What a live audit serves over HTTP: the last report as a page and as data, metrics, its health. It answers; nobody can
//! change anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use sha2::{Digest, Sha256};
use tiny_http::{Header, Method, Request, Response, Server};

use super::live::{Closed, Control};
use super::{Progress, lock};
use crate::flow::Fold;
use crate::model::Loss;

/// Threads that answer, so that one client who does not read keeps nobody from an answer.
const ANSWERING: usize = 4;

/// Pages that are told of each window; more are refused.
const FOLLOWING: usize = 32;

/// How often they are told what is going on.
const TELL: Duration = Duration::from_secs(2);

/// The fewest characters of a token.
const TOKEN: usize = 16;

const TEXT: &str = "text/plain; charset=utf-8";

/// Who may look.
#[derive(Clone, Default)]
pub struct Door {
    /// The SHA-256 of the token that opens it; without one, only this host may look.
    token: Option<[u8; 32]>,
}

impl Door {
    /// A door that a token opens.
    pub fn with_token(token: &str) -> Result<Self, String> {
        if token.len() < TOKEN || token.contains(char::is_whitespace) {
            return Err(format!(
                "a token has at least {TOKEN} characters and no space: openssl rand -hex 16"
            ));
        }
        Ok(Self { token: Some(Sha256::digest(token).into()) })
    }

    /// Whether a request may be answered; else what to tell.
    fn lets_in(&self, request: &Request) -> Result<(), (u16, &'static [u8])> {
        let header = |name: &'static str| {
            let mut headers = request.headers().iter();
            headers.find(|header| header.field.equiv(name)).map(|header| header.value.as_str())
        };
        let Some(token) = &self.token else {
            // A page from elsewhere that gives its own name this host's address may not read what is here.
            return match header("Host").is_some_and(is_of_this_host) {
                true => Ok(()),
                false => Err((403, b"ask by address or localhost\n")),
            };
        };
        let given = header("Authorization").and_then(given_token);
        // Digests are compared, so that the time it takes tells nothing.
        match given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given)) == *token) {
            true => Ok(()),
            false => Err((401, b"give the token\n")),
        }
    }
}

/// Whether the name that a request gives is an address or `localhost`.
fn is_of_this_host(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// The token of an `Authorization` header: a bearer's, or the password of any user (RFC 6750, RFC 7617).
fn given_token(value: &str) -> Option<Vec<u8>> {
    let (scheme, value) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().as_bytes().to_vec());
    }
    let pair = BASE64_STANDARD.decode(value.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| pair[colon + 1..].to_vec())
}

/// What is served: made anew with each window.
#[derive(Default)]
pub struct Pages {
    made: Mutex<Made>,
    folded: Mutex<BTreeMap<Fold, u64>>,
    /// Interfaces that are away.
    away: Mutex<Vec<String>>,
    windows: AtomicU64,
    following: AtomicUsize,
}

#[derive(Default)]
struct Made {
    metrics: String,
    /// The report as data and as a page.
    report: Arc<[u8]>,
    page: Arc<[u8]>,
    /// The share of the last window's frames that were lost.
    loss: f64,
    /// When the last window was closed.
    closed: Option<Instant>,
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
        let windows = self.windows.load(Ordering::Relaxed) + 1;
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
        let (resting, _) = all.reading.flows.resting();
        m.single(
            "flows",
            "gauge",
            "Flows held, those on disk among them.",
            all.reading.flows.len(),
        );
        m.single("flows_on_disk", "gauge", "Flows that were idle for long.", resting);
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
        let (mut report, mut page) = (Vec::new(), Vec::new());
        // Into memory nothing fails.
        let _ = all.write_format("json", &mut report);
        let _ = all.write_live_page(&mut page);
        let (report, page, closed) = (report.into(), page.into(), Some(Instant::now()));
        // Who is told of the window finds its page.
        *lock(&self.made) = Made { metrics: m.0, report, page, loss: share, closed };
        self.windows.store(windows, Ordering::Relaxed);
    }

    fn answer(
        self: &Arc<Self>,
        request: Request,
        door: &Door,
        every: Duration,
        control: &Arc<Control>,
    ) {
        let get = matches!(request.method(), Method::Get | Method::Head);
        let path = request.url().split('?').next().unwrap_or_default().to_owned();
        let made = |which: fn(&Made) -> Arc<[u8]>, kind| match which(&lock(&self.made)) {
            none if none.is_empty() => (503, TEXT, b"no window was closed yet\n".to_vec()),
            whole => (200, kind, whole.to_vec()),
        };
        let (code, kind, body) = match (path.as_str(), door.lets_in(&request)) {
            (_, Err((code, what))) => (code, TEXT, what.to_vec()),
            _ if !get => (405, TEXT, b"only GET\n".to_vec()),
            ("/", _) => made(|made| Arc::clone(&made.page), "text/html; charset=utf-8"),
            ("/report.json", _) => made(|made| Arc::clone(&made.report), "application/json"),
            ("/metrics", _) => {
                (200, "text/plain; version=0.0.4; charset=utf-8", self.metrics(&control.progress))
            }
            ("/healthz", _) => self.health(every),
            ("/events", _) => match self.follow(request, control) {
                None => return,
                Some(request) => return respond(request, 503, TEXT, b"too many follow\n".to_vec()),
            },
            _ => (404, TEXT, b"there is /, /report.json, /metrics and /healthz\n".to_vec()),
        };
        respond(request, code, kind, body);
    }

    /// Tells a page what is going on until it goes away. Gives the request back where too many are told already.
    fn follow(self: &Arc<Self>, request: Request, control: &Arc<Control>) -> Option<Request> {
        if self.following.fetch_add(1, Ordering::Relaxed) >= FOLLOWING {
            self.following.fetch_sub(1, Ordering::Relaxed);
            return Some(request);
        }
        let (pages, control) = (Arc::clone(self), Arc::clone(control));
        thread::spawn(move || {
            // That the page went away is how it ends.
            let _ = pages.tell(request.into_writer(), &control);
            pages.following.fetch_sub(1, Ordering::Relaxed);
        });
        None
    }

    /// Server-sent events: `now` with rate and loss, `window` when one was closed.
    fn tell(&self, mut out: impl io::Write, control: &Control) -> io::Result<()> {
        let head = [
            "HTTP/1.1 200 OK",
            "Content-Type: text/event-stream",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Connection: close",
        ];
        write!(out, "{}\r\n\r\n", head.join("\r\n"))?;
        let frames = || control.progress.frames.load(Ordering::Relaxed);
        let lost = || control.progress.lost.load(Ordering::Relaxed);
        let mut window = self.windows.load(Ordering::Relaxed);
        let mut before = (frames(), lost(), Instant::now());
        loop {
            thread::sleep(TELL);
            let now = (frames(), lost(), Instant::now());
            let seconds = (now.2 - before.2).as_secs_f64();
            let rate =
                |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds).round();
            let told = json!({
                "rate": rate(now.0, before.0),
                "lost": rate(now.1, before.1),
                "loss": lock(&self.made).loss,
                "away": *lock(&self.away),
            });
            before = now;
            write!(out, "event: now\ndata: {told}\n\n")?;
            let closed = self.windows.load(Ordering::Relaxed);
            if std::mem::replace(&mut window, closed) != closed {
                write!(out, "event: window\ndata: {closed}\n\n")?;
            }
            out.flush()?;
        }
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
        let away = lock(&self.away).join(", ");
        let late = lock(&self.made).closed.is_some_and(|closed| closed.elapsed() > every * 3);
        match (late, away.is_empty()) {
            (false, true) => (200, TEXT, b"ok\n".to_vec()),
            (true, _) => (503, TEXT, b"windows are closed late\n".to_vec()),
            (false, false) => (503, TEXT, format!("not read: {away}\n").into_bytes()),
        }
    }
}

fn respond(request: Request, code: u16, kind: &str, body: Vec<u8>) {
    let header = |(name, value): (&str, &str)| Header::from_bytes(name, value).ok();
    let mut headers = vec![
        ("Content-Type", kind),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "frame-ancestors 'none'"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ];
    if code == 401 {
        headers.push(("WWW-Authenticate", "Basic realm=\"rasaudit\", charset=\"UTF-8\""));
    }
    let mut response = Response::from_data(body).with_status_code(code);
    headers.into_iter().filter_map(header).for_each(|header| response.add_header(header));
    // Who asked may be gone.
    let _ = request.respond(response);
}

/// Opens the place to listen at: of this host alone, or behind a door.
pub fn listen(address: SocketAddr, door: &Door) -> Result<TcpListener, String> {
    if !address.ip().is_loopback() && door.token.is_none() {
        return Err(format!(
            "{address} can be reached from elsewhere, and what is served is not for everybody; give a loopback \
             address, or --token with a file that holds a token"
        ));
    }
    TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))
}

/// Answers there for as long as the process lives: nobody waits for who does not read.
pub fn serve(
    listener: TcpListener,
    door: Door,
    pages: &Arc<Pages>,
    every: Duration,
    control: &Arc<Control>,
) -> Result<(), String> {
    let server = Server::from_listener(listener, None).map_err(|error| error.to_string())?;
    let server = Arc::new(server);
    for _ in 0..ANSWERING {
        let (server, pages, control, door) =
            (Arc::clone(&server), Arc::clone(pages), Arc::clone(control), door.clone());
        thread::spawn(move || {
            while let Ok(request) = server.recv() {
                pages.answer(request, &door, every, &control);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_without_a_token_is_for_this_hosts_own_names() {
        for host in
            ["127.0.0.1:9475", "localhost:9475", "LOCALHOST", "[::1]:9475", "[::1]", "192.0.2.1"]
        {
            assert!(is_of_this_host(host), "{host}");
        }
        for host in ["evil.example:9475", "localhost.evil.example", "", "127.0.0.1.evil.example"] {
            assert!(!is_of_this_host(host), "{host}");
        }
    }

    #[test]
    fn a_token_comes_as_a_bearer_or_as_a_password() {
        let token = |value| given_token(value).map(|t| String::from_utf8(t).expect("text"));
        assert_eq!(token("Bearer abc").as_deref(), Some("abc"));
        let basic = format!("basic {}", BASE64_STANDARD.encode("me:a:c"));
        assert_eq!(token(&basic).as_deref(), Some("a:c"));
        for none in [
            "",
            "abc",
            "Basic !",
            "Digest abc",
            &format!("Basic {}", BASE64_STANDARD.encode("abc")),
        ] {
            assert_eq!(token(none), None, "{none}");
        }
        assert!(Door::with_token("short").is_err());
        assert!(Door::with_token("sixteen characters").is_err());
    }
}
