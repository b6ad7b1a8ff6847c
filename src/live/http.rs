//! Serves a live audit over HTTP, read-only.
//!
//! Anyone who can reach the port can send arbitrary data before presenting a token. The server
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

use super::options::Control;
use super::snapshot::LiveSnapshot;

/// The maximum number of concurrent connections. A further connection replaces the oldest one that
/// has not sent a request. If all have sent one, the further connection is closed.
const MAX_CONNECTIONS: usize = 128;

/// The maximum number of pages that may subscribe to events. Further pages are refused.
const MAX_SUBSCRIBERS: usize = 32;

/// The interval at which events are sent to a subscriber.
const EVENT_INTERVAL: Duration = Duration::from_secs(2);

/// The time that the headers of a request may take to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that a connection may take in total. For an event stream, the limit applies to each
/// event.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The limit for the headers of a request, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;

const TEXT: &str = "text/plain; charset=utf-8";

/// The page that is served before the first window is closed. It reloads itself.
const NO_WINDOW_YET: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" \
    content=\"3\"><title>rasaudit</title></head><body><p>No window has been closed yet. This page reloads by \
    itself.</p></body></html>\n";

type ResponseBody = Either<Full<Bytes>, Channel<Bytes>>;

/// The minimum length of a token in bytes.
const MIN_TOKEN_LENGTH: usize = 16;

/// The reason why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The token is too short, or contains whitespace, which is not allowed in a bearer token (RFC
    /// 6750).
    #[error(
        "the token must have at least {MIN_TOKEN_LENGTH} characters and no spaces; openssl rand -hex 16 generates one"
    )]
    WeakToken,
    /// Other hosts could connect without a token.
    #[error(
        "other hosts can reach {0}, and the reports are confidential; use a loopback address, or --token with a token file"
    )]
    Exposed(SocketAddr),
    /// The listener cannot be bound to the address.
    #[error("{0}: {1}")]
    Bind(SocketAddr, #[source] io::Error),
    /// The server thread cannot be started.
    #[error("{0}")]
    Start(#[from] io::Error),
}

/// Decides which requests are authorized.
#[derive(Clone, Default)]
pub struct Auth {
    /// The SHA-256 of the required token. Without a token, the server listens only on a loopback
    /// address.
    token: Option<[u8; 32]>,
}

impl Auth {
    /// Requires every request to present this token, which must have at least 16 bytes and no
    /// whitespace.
    pub fn with_token(token: &str) -> Result<Self, ServeError> {
        if token.len() < MIN_TOKEN_LENGTH || token.contains(char::is_whitespace) {
            return Err(ServeError::WeakToken);
        }
        Ok(Self { token: Some(Sha256::digest(token).into()) })
    }

    /// Checks whether a request is authorized. If it is not, the error contains the status and the
    /// text of the response.
    fn authorize(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(token) = &self.token else {
            // Without this check, a foreign web page could make its own name resolve to the address
            // of this host and read the report (DNS rebinding).
            return if header(header::HOST).is_some_and(is_of_this_host) {
                Ok(())
            } else {
                Err((StatusCode::FORBIDDEN, "use an IP address or localhost in the URL\n"))
            };
        };
        let given = header(header::AUTHORIZATION).and_then(given_token);
        // Digests are compared, so that the duration does not reveal how much of the token is
        // correct.
        if given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given)) == *token) {
            Ok(())
        } else {
            Err((StatusCode::UNAUTHORIZED, "the token is missing or wrong\n"))
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

/// Returns the token in an `Authorization` header: a bearer token (RFC 6750), or the password for
/// any user name (RFC 7617). Returns `None` if the header contains neither.
fn given_token(value: &str) -> Option<Vec<u8>> {
    let (scheme, value) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().as_bytes().to_vec());
    }
    let pair = BASE64_STANDARD.decode(value.trim()).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    scheme.eq_ignore_ascii_case("basic").then(|| pair[colon + 1..].to_vec())
}

/// The data that all connections share.
struct HttpState {
    auth: Auth,
    pages: Arc<LiveSnapshot>,
    every: Duration,
    control: Arc<Control>,
    subscribers: Arc<AtomicUsize>,
}

impl HttpState {
    /// Answers a request. Sets `is_stream` to true while the response is an event stream.
    fn answer(
        self: &Arc<Self>,
        request: &Request<Incoming>,
        is_stream: &Arc<AtomicBool>,
    ) -> Response<ResponseBody> {
        let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
        let respond_with = |report: Bytes, kind, otherwise: (&'static str, &'static str)| {
            if report.is_empty() {
                full_response(StatusCode::SERVICE_UNAVAILABLE, otherwise.0, otherwise.1)
            } else {
                full_response(StatusCode::OK, kind, report)
            }
        };
        const HTML: &str = "text/html; charset=utf-8";
        const EVENTS: &str = "text/event-stream";
        match (request.uri().path(), self.auth.authorize(request.headers())) {
            (_, Err((code, what))) => full_response(code, TEXT, what),
            _ if !is_get => full_response(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "only GET and HEAD are supported\n",
            ),
            ("/", _) => respond_with(self.pages.page(), HTML, (HTML, NO_WINDOW_YET)),
            ("/report.json", _) => respond_with(
                self.pages.report(),
                "application/json",
                (TEXT, "no window has been closed yet\n"),
            ),
            ("/metrics", _) => {
                let metrics = self.pages.metrics(&self.control.progress, self.every);
                full_response(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics)
            }
            ("/healthz", _) => match self.pages.unhealthy_reason(self.every) {
                None => full_response(StatusCode::OK, TEXT, "ok\n"),
                Some(what) => full_response(StatusCode::SERVICE_UNAVAILABLE, TEXT, what),
            },
            ("/events", _) if request.method() == Method::HEAD => {
                full_response(StatusCode::OK, EVENTS, Bytes::new())
            }
            ("/events", _) => {
                match EventSubscriber::new(&self.subscribers) {
                    None => full_response(
                        StatusCode::SERVICE_UNAVAILABLE,
                        TEXT,
                        "too many clients are subscribed to /events\n",
                    ),
                    Some(subscriber) => {
                        is_stream.store(true, Ordering::Relaxed);
                        let (sender, body) = Channel::new(1);
                        let state = Arc::clone(self);
                        let is_stream = Arc::clone(is_stream);
                        tokio::spawn(async move {
                            state.send_events(sender, subscriber).await;
                            // The stream has ended, so the normal time limit applies to the
                            // connection again.
                            is_stream.store(false, Ordering::Relaxed);
                        });
                        respond(StatusCode::OK, EVENTS, Either::Right(body))
                    }
                }
            }
            _ => {
                let what = "there is nothing at this path; the paths are /, /events, /report.json, /metrics and /healthz\n";
                full_response(StatusCode::NOT_FOUND, TEXT, what)
            }
        }
    }

    /// Sends server-sent events until the page disconnects or stops reading them. The event
    /// `window` contains the number of closed windows. It is sent immediately, and again after a
    /// window is closed. The event `now` contains the current rates of decoded and lost frames, the
    /// loss of the last window, and the interfaces that are down.
    async fn send_events(&self, mut sender: Sender<Bytes>, _subscriber: EventSubscriber) {
        let read_counters = || {
            let progress = &self.control.progress;
            [&progress.frames, &progress.lost].map(|counter| counter.load(Ordering::Relaxed))
        };
        let mut sent_window = None;
        let mut before = read_counters();
        let mut since = Instant::now();
        loop {
            let mut text = String::new();
            let window = self.pages.windows();
            if sent_window.replace(window) != Some(window) {
                text.push_str(&format!("event: window\ndata: {window}\n\n"));
            }
            let now = read_counters();
            let seconds = since.elapsed().as_secs_f64();
            if seconds > 0.5 {
                let [rate, lost] =
                    [0, 1].map(|kind| now[kind].saturating_sub(before[kind]) as f64 / seconds);
                let (loss, down) = self.pages.loss_and_interfaces_down();
                let data =
                    json!({"rate": rate.round(), "lost": lost.ceil(), "loss": loss, "away": down});
                text.push_str(&format!("event: now\ndata: {data}\n\n"));
                (before, since) = (now, Instant::now());
            }
            let sent = timeout(RESPONSE_TIMEOUT, sender.send_data(text.into())).await;
            // The page has disconnected, or does not read the events.
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
            sleep(EVENT_INTERVAL).await;
        }
    }
}

/// A place among the limited number of event subscribers. Dropping it frees the place.
struct EventSubscriber(Arc<AtomicUsize>);

impl EventSubscriber {
    fn new(subscribers: &Arc<AtomicUsize>) -> Option<Self> {
        // The value must exist before the check, so that dropping it corrects the count if the
        // subscriber is refused.
        let subscriber = Self(Arc::clone(subscribers));
        (subscribers.fetch_add(1, Ordering::Relaxed) < MAX_SUBSCRIBERS).then_some(subscriber)
    }
}

impl Drop for EventSubscriber {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn full_response(
    code: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<ResponseBody> {
    respond(code, kind, Either::Left(Full::new(body.into())))
}

fn respond(code: StatusCode, kind: &'static str, body: ResponseBody) -> Response<ResponseBody> {
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

/// Starts a thread that answers requests until the process ends.
pub fn serve(
    listener: std::net::TcpListener,
    auth: Auth,
    pages: &Arc<LiveSnapshot>,
    every: Duration,
    control: &Arc<Control>,
) -> Result<(), ServeError> {
    let state = Arc::new(HttpState {
        auth,
        pages: Arc::clone(pages),
        every,
        control: Arc::clone(control),
        subscribers: Arc::default(),
    });
    let start = || -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = move || {
            runtime.block_on(async {
                // The listener must be registered inside its runtime.
                if let Ok(listener) = TcpListener::from_std(listener) {
                    accept(&listener, &state).await;
                }
            });
        };
        thread::Builder::new().name("http".to_owned()).spawn(work).map(drop)
    };
    Ok(start()?)
}

/// A connection that is being served.
struct OpenConnection {
    task: AbortHandle,
    /// Whether the headers of its request have arrived.
    has_request: Arc<AtomicBool>,
}

async fn accept(listener: &TcpListener, state: &Arc<HttpState>) {
    // The open connections, oldest first.
    let mut open: Vec<OpenConnection> = Vec::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // For example, the process has no file descriptors left until other connections end.
            Err(_) => {
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        open.retain(|open: &OpenConnection| !open.task.is_finished());
        if open.len() >= MAX_CONNECTIONS {
            // Closes the oldest connection whose request has not arrived.
            let silent = open.iter().position(|open| !open.has_request.load(Ordering::Relaxed));
            let Some(silent) = silent else { continue };
            open.remove(silent).task.abort();
        }
        let state = Arc::clone(state);
        let has_request = Arc::<AtomicBool>::default();
        let received = Arc::clone(&has_request);
        let task = tokio::spawn(async move { serve_connection(stream, &state, &received).await });
        open.push(OpenConnection { task: task.abort_handle(), has_request });
    }
}

/// Answers the only request of a connection.
async fn serve_connection(stream: TcpStream, state: &Arc<HttpState>, has_request: &AtomicBool) {
    let is_stream = Arc::new(AtomicBool::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        has_request.store(true, Ordering::Relaxed);
        let response = state.answer(&request, &is_stream);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // An event stream has a time limit per event instead.
    while timeout(RESPONSE_TIMEOUT, &mut connection).await.is_err() {
        if !is_stream.load(Ordering::Relaxed) {
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
