//! Reads the host that a client names in an HTTP/1 request (RFC 9112).

use super::{ServerNameRequest, host_name};

/// The maximum number of header fields. Requests with more fields yield no host.
const MAX_FIELDS: usize = 64;

/// The methods that a request may start with, each with the space after it.
const METHODS: &[&[u8]] =
    &[b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ", b"DELETE ", b"PATCH "];

/// Returns whether a payload starts with a request method.
pub(super) fn is_request(payload: &[u8]) -> bool {
    METHODS.iter().any(|method| payload.starts_with(method))
}

/// Returns whether a payload starts with a request method or is the beginning of one.
pub(super) fn may_be_request(payload: &[u8]) -> bool {
    METHODS.iter().any(|method| payload.starts_with(method) || method.starts_with(payload))
}

/// Returns the host of a request; `None` if the header is invalid, ends before the host, or
/// contains several hosts. The name is empty if the request has no host name or goes to a proxy.
pub(super) fn host(payload: &[u8]) -> Option<ServerNameRequest> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let complete = request.parse(payload).ok()?.is_complete();
    // A request with an absolute target goes to a proxy, and its host is the origin server (RFC
    // 9112, 3.2.2).
    if !request.path.is_none_or(|path| path.starts_with(['/', '*'])) {
        return Some(ServerNameRequest { name: String::new(), hidden: false });
    }
    let mut hosts = request.headers.iter().filter(|f| f.name.eq_ignore_ascii_case("host"));
    let host = hosts.next().map(|field| field.value.trim_ascii());
    let (host, None) = (host, hosts.next()) else { return None };
    if host.is_none() && !complete {
        return None;
    }
    // A port may follow the host. An IPv6 address is in brackets and is not a name.
    let host = host.filter(|host| !host.starts_with(b"["));
    let name = host.and_then(|h| h.split(|b| *b == b':').next()).and_then(host_name);
    Some(ServerNameRequest { name: name.unwrap_or_default(), hidden: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_field_names_the_server() {
        let name = |text: &str| host(text.as_bytes()).map(|request| request.name);
        let request = "GET / HTTP/1.1\r\nAccept: */*\r\nhost: Download.Example.com:80 \r\n\r\n";
        assert_eq!(name(request).as_deref(), Some("download.example.com"));
        assert_eq!(name("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n").as_deref(), Some(""));
        assert_eq!(name("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n").as_deref(), Some(""));
        assert_eq!(name("GET / HTTP/1.0\r\n\r\n").as_deref(), Some(""));
        // A request to a proxy yields an empty name, because its host field names the origin
        // server, not the proxy.
        let proxied = "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n";
        assert_eq!(name(proxied).as_deref(), Some(""));
        // An incomplete header and a duplicate host field yield `None`.
        assert_eq!(name("GET / HTTP/1.1\r\nAccept: */*\r\n"), None);
        assert_eq!(name("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n"), None);
    }
}
