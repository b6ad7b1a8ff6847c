//! Serves a live audit over HTTP, read-only.
//!
//! Anyone who can reach the port may send arbitrary data before presenting a token. The server
//! therefore limits connections, the size of request headers and the time of a request, and never
//! reads the body of a request.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::live::Control;
use super::pages::LiveSnapshot;

/// The largest number of concurrent connections. A further one replaces the oldest connection that
/// has not sent a request; if there is none, the new one is closed.
const CONNECTIONS: usize = 128;

/// The largest number of pages that may subscribe to events. More are refused.
const FOLLOWING: usize = 32;

/// The interval between events.
const TELL: Duration = Duration::from_secs(2);

/// The time that the headers of a request may take to arrive.
const ASK: Duration = Duration::from_secs(10);
/// The time that a response may take. For an event stream, the limit applies to each event.
const ANSWER: Duration = Duration::from_secs(60);

/// The limit for the headers of a request, in bytes.
const HEAD: usize = 16 << 10;

const TEXT: &str = "text/plain; charset=utf-8";

/// The page that is served before the first window is closed. It reloads itself.
const NOTHING_YET: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" \
    content=\"3\"><title>rasaudit</title></head><body><p>No window was closed yet. This page looks again by \
    itself.</p></body></html>\n";

type ResponseBody = Either<Full<Bytes>, Channel<Bytes>>;

/// The smallest number of characters in a token.
const TOKEN: usize = 16;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The token is easy to guess, or cannot be written in a header.
    #[error("a token needs at least {TOKEN} characters and no spaces: openssl rand -hex 16")]
    WeakToken,
    /// Other hosts could connect without a token.
    #[error(
        "{0} can be reached by other hosts, and the reports are confidential; use a loopback address, or --token with a token file"
    )]
    Exposed(SocketAddr),
    /// The system does not allow the address to be bound.
    #[error("{0}: {1}")]
    Bind(SocketAddr, #[source] io::Error),
    /// The server thread cannot be started.
    #[error("{0}")]
    Start(#[from] io::Error),
}

/// Who may connect.
#[derive(Clone, Default)]
pub struct Auth {
    /// The SHA-256 of the required token. Without a token, only connections from this host are
    /// possible.
    token: Option<[u8; 32]>,
}

impl Auth {
    /// Requires a token.
    pub fn with_token(token: &str) -> Result<Self, ServeError> {
        if token.len() < TOKEN || token.contains(char::is_whitespace) {
            return Err(ServeError::WeakToken);
        }
        Ok(Self { token: Some(Sha256::digest(token).into()) })
    }

    /// Checks whether a request may be answered. Returns the status and text to refuse it with
    /// otherwise.
    fn authorize(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(token) = &self.token else {
            // Otherwise, a foreign page could point its own name to the address of this host and
            // read the report (DNS rebinding).
            return if header(header::HOST).is_some_and(is_of_this_host) {
                Ok(())
            } else {
                Err((StatusCode::FORBIDDEN, "ask by address or localhost\n"))
            };
        };
        let given = header(header::AUTHORIZATION).and_then(given_token);
        // Comparing digests makes the time independent of the token.
        if given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given)) == *token) {
            Ok(())
        } else {
            Err((StatusCode::UNAUTHORIZED, "give the token\n"))
        }
    }
}

/// Returns whether the name in a `Host` header is an IP address or `localhost`.
fn is_of_this_host(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

/// Returns the token of an `Authorization` header: a bearer token, or the password of any user (RFC
/// 6750, RFC 7617).
fn given_token(value: &str) -> Option<Vec<u8>> {
    let (scheme, value) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().as_bytes().to_vec());
    }
    let pair = BASE64_STANDARD.decode(value.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| pair[colon + 1..].to_vec())
}

/// What every connection needs.
struct HttpState {
    auth: Auth,
    pages: Arc<LiveSnapshot>,
    every: Duration,
    control: Arc<Control>,
    following: Arc<AtomicUsize>,
}

impl HttpState {
    fn answer(
        self: &Arc<Self>,
        request: &Request<Incoming>,
        follows: &Arc<AtomicBool>,
    ) -> Response<ResponseBody> {
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        let made = |whole: Bytes, kind, otherwise: (&'static str, &'static str)| {
            if whole.is_empty() {
                whole_answer(StatusCode::SERVICE_UNAVAILABLE, otherwise.0, otherwise.1)
            } else {
                whole_answer(StatusCode::OK, kind, whole)
            }
        };
        const HTML: &str = "text/html; charset=utf-8";
        match (request.uri().path(), self.auth.authorize(request.headers())) {
            (_, Err((code, what))) => whole_answer(code, TEXT, what),
            _ if !get => whole_answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n"),
            ("/", _) => made(self.pages.page(), HTML, (HTML, NOTHING_YET)),
            ("/report.json", _) => {
                made(self.pages.report(), "application/json", (TEXT, "no window was closed yet\n"))
            }
            ("/metrics", _) => {
                let metrics = self.pages.metrics(&self.control.progress, self.every);
                whole_answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics)
            }
            ("/healthz", _) => match self.pages.unhealthy_reason(self.every) {
                None => whole_answer(StatusCode::OK, TEXT, "ok\n"),
                Some(what) => whole_answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, what),
            },
            ("/events", _) if request.method() == Method::GET => {
                match EventSubscriber::new(&self.following) {
                    None => {
                        whole_answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many follow\n")
                    }
                    Some(follower) => {
                        follows.store(true, Ordering::Relaxed);
                        let (sender, body) = Channel::new(1);
                        let host = Arc::clone(self);
                        let follows = Arc::clone(follows);
                        tokio::spawn(async move {
                            host.tell(sender, follower).await;
                            // From here, the connection has as much time to end as any other.
                            follows.store(false, Ordering::Relaxed);
                        });
                        answer(StatusCode::OK, "text/event-stream", Either::Right(body))
                    }
                }
            }
            _ => {
                let what = "there is /, /events, /report.json, /metrics and /healthz\n";
                whole_answer(StatusCode::NOT_FOUND, TEXT, what)
            }
        }
    }

    /// Sends server-sent events until the page disconnects: `window` with the number of the last
    /// window, first at once and then whenever one is closed, and `now` with the current rate and
    /// loss.
    async fn tell(&self, mut sender: Sender<Bytes>, _follower: EventSubscriber) {
        let amounts = || {
            let progress = &self.control.progress;
            [&progress.frames, &progress.lost].map(|amount| amount.load(Ordering::Relaxed))
        };
        let mut told = None;
        let mut before = amounts();
        let mut since = Instant::now();
        loop {
            let mut text = String::new();
            let window = self.pages.windows();
            if told.replace(window) != Some(window) {
                text.push_str(&format!("event: window\ndata: {window}\n\n"));
            }
            let now = amounts();
            let seconds = since.elapsed().as_secs_f64();
            if seconds > 0.5 {
                let each = |kind: usize| now[kind].saturating_sub(before[kind]) as f64 / seconds;
                let (loss, away) = self.pages.trouble();
                let moment = json!({"rate": each(0).round(), "lost": each(1).ceil(), "loss": loss, "away": away});
                text.push_str(&format!("event: now\ndata: {moment}\n\n"));
                (before, since) = (now, Instant::now());
            }
            let sent = timeout(ANSWER, sender.send_data(text.into())).await;
            // The page disconnected, or does not read.
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
            sleep(TELL).await;
        }
    }
}

/// One of the limited number of event subscribers.
struct EventSubscriber(Arc<AtomicUsize>);

impl EventSubscriber {
    fn new(following: &Arc<AtomicUsize>) -> Option<Self> {
        // Counting first lets the destructor correct the count for a refused subscriber, too.
        let follower = Self(Arc::clone(following));
        (following.fetch_add(1, Ordering::Relaxed) < FOLLOWING).then_some(follower)
    }
}

impl Drop for EventSubscriber {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn whole_answer(
    code: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<ResponseBody> {
    answer(code, kind, Either::Left(Full::new(body.into())))
}

fn answer(code: StatusCode, kind: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, kind);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::CACHE_CONTROL, "no-store");
    set(header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'");
    set(header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if code == StatusCode::UNAUTHORIZED {
        set(header::WWW_AUTHENTICATE, "Basic realm=\"rasaudit\", charset=\"UTF-8\"");
    }
    response
}

/// Binds the HTTP listener. A non-loopback address requires a token.
pub fn listen(address: SocketAddr, auth: &Auth) -> Result<std::net::TcpListener, ServeError> {
    if !address.ip().is_loopback() && auth.token.is_none() {
        return Err(ServeError::Exposed(address));
    }
    std::net::TcpListener::bind(address).map_err(|error| ServeError::Bind(address, error))
}

/// Answers requests on a thread of its own for as long as the process lives.
pub fn serve(
    listener: std::net::TcpListener,
    auth: Auth,
    pages: &Arc<LiveSnapshot>,
    every: Duration,
    control: &Arc<Control>,
) -> Result<(), ServeError> {
    let host = Arc::new(HttpState {
        auth,
        pages: Arc::clone(pages),
        every,
        control: Arc::clone(control),
        following: Arc::default(),
    });
    let started = || -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            runtime.block_on(async {
                // The listener has to be registered within its runtime.
                if let Ok(listener) = TcpListener::from_std(listener) {
                    accept(&listener, &host).await;
                }
            });
        };
        thread::Builder::new().name("http".to_owned()).spawn(work).map(drop)
    };
    Ok(started()?)
}

/// A connection that is being served.
struct OpenConnection {
    task: AbortHandle,
    /// Whether a complete request has arrived.
    has_asked: Arc<AtomicBool>,
}

async fn accept(listener: &TcpListener, host: &Arc<HttpState>) {
    // Oldest first.
    let mut open: Vec<OpenConnection> = Vec::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // For example, no descriptors are left. Other connections will end.
            Err(_) => {
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        open.retain(|open: &OpenConnection| !open.task.is_finished());
        if open.len() >= CONNECTIONS {
            // A connection without a request is closed first.
            let silent = open.iter().position(|open| !open.has_asked.load(Ordering::Relaxed));
            let Some(silent) = silent else { continue };
            open.remove(silent).task.abort();
        }
        let host = Arc::clone(host);
        let has_asked = Arc::<AtomicBool>::default();
        let asked = Arc::clone(&has_asked);
        let task = tokio::spawn(async move { connection(stream, &host, &asked).await });
        open.push(OpenConnection { task: task.abort_handle(), has_asked });
    }
}

/// Answers one request.
async fn connection(stream: TcpStream, host: &Arc<HttpState>, has_asked: &AtomicBool) {
    let follows = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        let response = host.answer(&request, &follows);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(ASK).max_buf_size(HEAD).keep_alive(false);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // An event stream is limited per event instead.
    while timeout(ANSWER, &mut connection).await.is_err() {
        if !follows.load(Ordering::Relaxed) {
            return;
        }
    }
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
        assert!(Auth::with_token("short").is_err());
        assert!(Auth::with_token("sixteen characters").is_err());
    }
}
