//! Sends findings to a syslog daemon as RFC 5424 messages: to a local datagram socket, over UDP
//! (RFC 5426), or over TCP with octet counting (RFC 6587).

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::Mutex;
use std::time::Duration;

use crate::policy::Severity;
use crate::report::Message;

/// The facility "log audit" (13) of RFC 5424, section 6.2.1.
const FACILITY: u8 = 13;

/// The structured data ID of a finding (RFC 5424, section 6.3.2). The project has no enterprise
/// number, so it uses 32473, which is reserved for examples (RFC 5612).
const STRUCTURED_DATA_ID: &str = "finding@32473";

/// The timeout for connecting over TCP and for sending, so that a slow daemon delays the audit only
/// briefly.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// The destination of the messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyslogTarget {
    /// The path of a local datagram socket.
    Local(std::path::PathBuf),
    /// UDP datagrams to a host and port.
    Udp(String),
    /// A TCP connection to a host and port.
    Tcp(String),
}

/// The error for a string that is not a valid target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("give local, unix:PATH, udp:HOST[:PORT] or tcp:HOST[:PORT]; ports are 1 to 65535")]
pub struct UnknownTarget;

impl SyslogTarget {
    /// Parses `local`, `unix:PATH`, `udp:HOST[:PORT]` or `tcp:HOST[:PORT]`.
    pub fn parse(text: &str) -> Result<Self, UnknownTarget> {
        let is_port = |number: &str| number.parse::<u16>().is_ok_and(|port| port > 0);
        let with_port = |host: &str, port: u16| match host.rsplit_once(':') {
            Some((name, number)) if is_port(number) && !name.ends_with(':') => Ok(host.to_owned()),
            // Only within an IPv6 address may anything but a port follow a colon.
            Some((name, _)) if !name.contains(':') || name.ends_with(']') => Err(UnknownTarget),
            _ => Ok(format!("{host}:{port}")),
        };
        match text.split_once(':') {
            None if text == "local" => Ok(Self::Local("/dev/log".into())),
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Local(path.into())),
            Some(("udp", host)) if !host.is_empty() => Ok(Self::Udp(with_port(host, 514)?)),
            Some(("tcp", host)) if !host.is_empty() => Ok(Self::Tcp(with_port(host, 601)?)),
            _ => Err(UnknownTarget),
        }
    }
}

/// A client of a syslog daemon.
pub struct Syslog {
    route: Route,
    /// The name of this host, or `-` if it has none that RFC 5424 allows.
    host: String,
}

/// The route to the daemon, with the socket if it stays open.
enum Route {
    Local(std::path::PathBuf),
    Udp(UdpSocket, SocketAddr),
    Tcp(Mutex<Option<TcpStream>>, SocketAddr),
}

impl Syslog {
    /// Resolves the address of a daemon. A TCP connection is opened only when the first message is
    /// sent.
    pub fn new(target: &SyslogTarget) -> io::Result<Self> {
        let route = match target {
            SyslogTarget::Local(path) => Route::Local(path.clone()),
            SyslogTarget::Udp(to) => {
                let address = resolve(to)?;
                let here = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                Route::Udp(UdpSocket::bind(here)?, address)
            }
            SyslogTarget::Tcp(to) => Route::Tcp(Mutex::new(None), resolve(to)?),
        };
        Ok(Self { route, host: host_name() })
    }

    /// Sends a message to the daemon. Connects again if the TCP connection cannot be used any more.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        let message = format_message(&self.host, message);
        match &self.route {
            Route::Local(path) => send_local(path, &message),
            Route::Udp(socket, to) => socket.send_to(message.as_bytes(), to).map(drop),
            Route::Tcp(stream, to) => {
                let mut stream = stream.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let framed = format!("{} {message}", message.len());
                if let Some(open) = stream.as_mut().filter(|open| is_open(open))
                    && open.write_all(framed.as_bytes()).is_ok()
                {
                    return Ok(());
                }
                // There is no usable connection: this is the first message, the daemon has closed
                // the connection, for example because it was restarted, or writing failed.
                let mut new = TcpStream::connect_timeout(to, SEND_TIMEOUT)?;
                new.set_write_timeout(Some(SEND_TIMEOUT))?;
                new.write_all(framed.as_bytes())?;
                *stream = Some(new);
                Ok(())
            }
        }
    }
}

/// The messages that the daemon has not accepted yet, oldest first.
#[derive(Default)]
pub struct UnsentMessages(VecDeque<Message>);

impl UnsentMessages {
    /// The maximum number of messages that wait.
    pub const MAX: usize = 1000;

    /// Adds messages. If there are then too many, drops the oldest. Returns how many were dropped.
    pub fn add(&mut self, new: impl IntoIterator<Item = Message>) -> u64 {
        self.0.extend(new);
        let excess = self.0.len().saturating_sub(Self::MAX);
        self.0.drain(..excess);
        excess as u64
    }

    /// Sends the messages, oldest first, until the daemon does not accept one.
    ///
    /// # Errors
    ///
    /// Returns the reason why a message was not accepted. This message and those after it are kept.
    pub fn send(&mut self, syslog: &Syslog) -> io::Result<()> {
        while let Some(message) = self.0.front() {
            syslog.send(message)?;
            self.0.pop_front();
        }
        Ok(())
    }
}

/// Returns whether the daemon still keeps the connection open. Data written to a closed connection
/// is lost.
fn is_open(stream: &TcpStream) -> bool {
    let is_open = stream.set_nonblocking(true).is_ok()
        && match stream.peek(&mut [0]) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            // A read of zero bytes means that the daemon has closed the connection.
            Ok(read) => read > 0,
        };
    stream.set_nonblocking(false).is_ok() && is_open
}

#[cfg(unix)]
fn send_local(path: &std::path::Path, message: &str) -> io::Result<()> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.send_to(message.as_bytes(), path).map(drop)
}

#[cfg(not(unix))]
fn send_local(_: &std::path::Path, _: &str) -> io::Result<()> {
    Err(io::Error::other("this system has no local syslog socket"))
}

fn resolve(to: &str) -> io::Result<SocketAddr> {
    to.to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::other(format!("no address was found for {to}")))
}

/// Returns the name of this host, or `-` if it has none that RFC 5424, section 6.2.4, allows.
fn host_name() -> String {
    #[cfg(unix)]
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    #[cfg(not(unix))]
    let name: Option<String> = None;
    let is_fit = |name: &String| {
        (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    name.filter(is_fit).unwrap_or_else(|| "-".to_owned())
}

/// Formats a message (RFC 5424, section 6) with the fields of the finding as structured data.
fn format_message(host: &str, Message { severity, time, fields, text }: &Message) -> String {
    let level = match severity {
        Severity::Critical => 2,
        Severity::High => 3,
        Severity::Medium => 4,
        Severity::Low => 5,
        Severity::Info => 6,
    };
    let priority = u32::from(FACILITY) * 8 + level;
    let mut data = format!("[{STRUCTURED_DATA_ID}");
    for (name, value) in fields {
        data.push_str(&format!(" {name}=\""));
        for c in value.chars() {
            if matches!(c, '"' | '\\' | ']') {
                data.push('\\');
            }
            data.push(c);
        }
        data.push('"');
    }
    data.push(']');
    format!("<{priority}>1 {time} {host} rasaudit {} finding {data} {text}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_words_with_usual_ports() {
        let parsed = |text| SyslogTarget::parse(text).unwrap();
        assert_eq!(parsed("local"), SyslogTarget::Local("/dev/log".into()));
        assert_eq!(parsed("udp:10.0.0.1"), SyslogTarget::Udp("10.0.0.1:514".into()));
        assert_eq!(parsed("tcp:log.example:6514"), SyslogTarget::Tcp("log.example:6514".into()));
        assert_eq!(parsed("udp:[::1]:99"), SyslogTarget::Udp("[::1]:99".into()));
        for wrong in ["", "tcp", "udp:", "http://x"] {
            assert!(SyslogTarget::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn messages_that_do_not_fit_are_counted_and_the_others_are_sent_in_order() {
        let message = |number: usize| Message {
            severity: Severity::High,
            time: "2026-01-01T00:00:00Z".to_owned(),
            fields: Vec::new(),
            text: format!("number {number}"),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let syslog = Syslog::new(&SyslogTarget::Local(path.clone())).unwrap();
        let mut unsent = UnsentMessages::default();
        assert_eq!(unsent.add((0..UnsentMessages::MAX).map(message)), 0);
        assert!(unsent.send(&syslog).is_err());
        assert_eq!(unsent.add([message(1000), message(1001), message(1002)]), 3);
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let receiver = std::thread::spawn(move || {
            let mut bytes = [0; 500];
            let mut receive = || {
                let length = socket.recv(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes[..length]).into_owned()
            };
            (0..UnsentMessages::MAX).map(|_| receive()).collect::<Vec<_>>()
        });
        unsent.send(&syslog).unwrap();
        let received = receiver.join().unwrap();
        assert!(received[0].ends_with("number 3") && received[999].ends_with("number 1002"));
        assert_eq!(unsent.add([]), 0);
    }

    #[test]
    fn messages_arrive_over_each_way() {
        use std::io::Read;
        let text = "high missing/refused f-0123456789ab broker";
        let expected = |told: &str| {
            let start = format!("<107>1 2026-01-01T00:00:00Z {} rasaudit ", host_name());
            assert!(told.contains(&start), "{told}");
            let data = r#" finding [finding@32473 id="f-0123456789ab" client="a\"b\]c\\"] "#;
            assert!(told.ends_with(&format!("{data}{text}")), "{told}");
        };
        let send = |target: &str| {
            let syslog = Syslog::new(&SyslogTarget::parse(target).unwrap()).unwrap();
            let fields =
                vec![("id", "f-0123456789ab".to_owned()), ("client", "a\"b]c\\".to_owned())];
            let severity = Severity::High;
            let time = "2026-01-01T00:00:00Z".to_owned();
            syslog.send(&Message { severity, time, fields, text: text.to_owned() }).unwrap();
        };
        let mut bytes = [0; 500];
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        send(&format!("udp:{}", udp.local_addr().unwrap()));
        let length = udp.recv(&mut bytes).unwrap();
        expected(std::str::from_utf8(&bytes[..length]).unwrap());
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        send(&format!("tcp:{}", tcp.local_addr().unwrap()));
        let mut told = String::new();
        tcp.accept().unwrap().0.read_to_string(&mut told).unwrap();
        let (length, message) = told.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()));
        expected(message);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        send(&format!("unix:{}", path.display()));
        let length = socket.recv(&mut bytes).unwrap();
        expected(std::str::from_utf8(&bytes[..length]).unwrap());
    }
}
