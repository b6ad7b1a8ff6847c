//! How a live audit is looked at over HTTP. It answers; nobody can change anything.
//!
//! Whoever can reach the port may send what he likes, before he has shown a token: connections, the bytes of a request
//! and the time that all of it may take are bounded, and the body of a request is never read.

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

/// Connections at a time. For a further one the oldest is closed that has not asked anything, or else the new one.
const CONNECTIONS: usize = 128;

/// Pages that are told of each window; more are refused.
const FOLLOWING: usize = 32;

/// How often they are told what is going on.
const TELL: Duration = Duration::from_secs(2);

/// How long a request may take to come, ...
const ASK: Duration = Duration::from_secs(10);
/// ... and its answer to go. Who follows may take as long for each thing that he is told.
const ANSWER: Duration = Duration::from_secs(60);

/// Bytes of a request's head.
const HEAD: usize = 16 << 10;

const TEXT: &str = "text/plain; charset=utf-8";

/// What there is before the first window: a page that looks again.
const NOTHING_YET: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" \
    content=\"3\"><title>rasaudit</title></head><body><p>No window was closed yet. This page looks again by \
    itself.</p></body></html>\n";

type ResponseBody = Either<Full<Bytes>, Channel<Bytes>>;

/// The fewest characters of a token.
const TOKEN: usize = 16;

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A token could be guessed, or not be written in a header.
    #[error("a token has at least {TOKEN} characters and no space: openssl rand -hex 16")]
    WeakToken,
    /// Everybody could look.
    #[error(
        "{0} can be reached from elsewhere, and what is served is not for everybody; give a loopback address, or \
         --token with a file that holds a token"
    )]
    Exposed(SocketAddr),
    /// The system does not give the place.
    #[error("{0}: {1}")]
    Bind(SocketAddr, #[source] io::Error),
    /// What answers there does not start.
    #[error("{0}")]
    Start(#[from] io::Error),
}

/// Who may look.
#[derive(Clone, Default)]
pub struct Auth {
    /// The SHA-256 of the token that opens it; without one, only this host may look.
    token: Option<[u8; 32]>,
}

impl Auth {
    /// A door that a token opens.
    pub fn with_token(token: &str) -> Result<Self, ServeError> {
        if token.len() < TOKEN || token.contains(char::is_whitespace) {
            return Err(ServeError::WeakToken);
        }
        Ok(Self { token: Some(Sha256::digest(token).into()) })
    }

    /// Whether a request may be answered; else what to tell.
    fn authorize(&self, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(token) = &self.token else {
            // A page from elsewhere that gives its own name this host's address may not read what is here.
            return match header(header::HOST).is_some_and(is_of_this_host) {
                true => Ok(()),
                false => Err((StatusCode::FORBIDDEN, "ask by address or localhost\n")),
            };
        };
        let given = header(header::AUTHORIZATION).and_then(given_token);
        // Digests are compared, so that the time it takes tells nothing.
        match given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given)) == *token) {
            true => Ok(()),
            false => Err((StatusCode::UNAUTHORIZED, "give the token\n")),
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
        let made =
            |whole: Bytes, kind, otherwise: (&'static str, &'static str)| match whole.is_empty() {
                true => whole_answer(StatusCode::SERVICE_UNAVAILABLE, otherwise.0, otherwise.1),
                false => whole_answer(StatusCode::OK, kind, whole),
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
                        let (host, follows) = (Arc::clone(self), Arc::clone(follows));
                        tokio::spawn(async move {
                            host.tell(sender, follower).await;
                            // From now on the connection has as long as any other to end.
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

    /// Server-sent events until the page goes away: `window` with the number of the last one, at first and when one was
    /// closed, and `now` with rate and loss.
    async fn tell(&self, mut sender: Sender<Bytes>, _follower: EventSubscriber) {
        let amounts = || {
            let progress = &self.control.progress;
            [&progress.frames, &progress.lost].map(|amount| amount.load(Ordering::Relaxed))
        };
        let (mut told, mut before, mut since) = (None, amounts(), Instant::now());
        loop {
            let mut text = String::new();
            let window = self.pages.windows();
            if told.replace(window) != Some(window) {
                text.push_str(&format!("event: window\ndata: {window}\n\n"));
            }
            let (now, seconds) = (amounts(), since.elapsed().as_secs_f64());
            if seconds > 0.5 {
                let each = |kind: usize| now[kind].saturating_sub(before[kind]) as f64 / seconds;
                let (loss, away) = self.pages.trouble();
                let moment = json!({"rate": each(0).round(), "lost": each(1).ceil(), "loss": loss, "away": away});
                text.push_str(&format!("event: now\ndata: {moment}\n\n"));
                (before, since) = (now, Instant::now());
            }
            let sent = timeout(ANSWER, sender.send_data(text.into())).await;
            // It went away, or does not read.
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
            sleep(TELL).await;
        }
    }
}

/// One of those that may follow at a time.
struct EventSubscriber(Arc<AtomicUsize>);

impl EventSubscriber {
    fn new(following: &Arc<AtomicUsize>) -> Option<Self> {
        // Counted first, so that whoever is refused is uncounted as he goes.
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

/// Opens the place to listen at: of this host alone, or behind a door.
pub fn listen(address: SocketAddr, auth: &Auth) -> Result<std::net::TcpListener, ServeError> {
    if !address.ip().is_loopback() && auth.token.is_none() {
        return Err(ServeError::Exposed(address));
    }
    std::net::TcpListener::bind(address).map_err(|error| ServeError::Bind(address, error))
}

/// Answers there on a thread of its own, for as long as the process lives.
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
                // Within the runtime, which the listener belongs to.
                if let Ok(listener) = TcpListener::from_std(listener) {
                    accept(&listener, &host).await;
                }
            });
        };
        thread::Builder::new().name("http".to_owned()).spawn(work).map(drop)
    };
    Ok(started()?)
}

/// A connection that is being answered.
struct OpenConnection {
    task: AbortHandle,
    /// Whether a whole request has come.
    has_asked: Arc<AtomicBool>,
}

async fn accept(listener: &TcpListener, host: &Arc<HttpState>) {
    // The oldest first.
    let mut open: Vec<OpenConnection> = Vec::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // No descriptors are left, for example: others will go.
            Err(_) => {
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        open.retain(|open: &OpenConnection| !open.task.is_finished());
        if open.len() >= CONNECTIONS {
            // Whoever opens a connection and asks nothing goes first.
            let silent = open.iter().position(|open| !open.has_asked.load(Ordering::Relaxed));
            let Some(silent) = silent else { continue };
            open.remove(silent).task.abort();
        }
        let (host, has_asked) = (Arc::clone(host), Arc::<AtomicBool>::default());
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
    // Who follows is bounded by what he is told.
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
