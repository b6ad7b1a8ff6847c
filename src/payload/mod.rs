//! Extracts facts from payloads: DNS lookups, TLS server names, HTTP hosts, ports that an RPC
//! endpoint mapper announced, virtual addresses that routers hold (VRRP), and hardware addresses of
//! IPv6 neighbours. Also recognizes requests and replies in UDP.
//!
//! Like decoding, reading payloads never fails: a damaged or unknown payload yields no fact. This
//! module does not judge. Later modules determine which host a name belongs to and how far it can
//! be trusted.

mod dns;
mod http;
mod nd;
mod requests;
mod rpc;
mod stream_prefix;
mod tls;
mod vrrp;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use stream_prefix::StreamPrefix;

use crate::decode::{Body, Observation, Path, flag};
use crate::model::{BoundedSet, DNS_PORT, EPHEMERAL_PORTS, FlagSet, Mac, Merge, Transport};

/// The port of the DCE/RPC endpoint mapper (IANA "epmap").
pub const ENDPOINT_MAPPER: u16 = 135;

/// A fact from the payload of one packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PayloadFact<'a> {
    /// A DNS query or response.
    DnsQuery(DnsQuery, DnsExchange),
    /// The name of the server that a client requested.
    ServerNameRequest(ServerNameRequest),
    /// The possible start of a message that names a server and continues in another packet.
    Start(&'a [u8]),
    /// A payload that may continue a message that names a server.
    Part(&'a [u8]),
    /// TCP ports that an endpoint mapper announced for its host.
    Announced(AnnouncedPorts),
    /// Virtual addresses that the sender holds (VRRP).
    Holds(Vec<IpAddr>),
    /// A claim that an IP address has this hardware address.
    Claims(IpAddr, Mac),
    /// Whether the message is a request or a reply, as [`flag::ASKS`], with [`flag::CLIENT_HELLO`]
    /// if it opens a session, or [`flag::ANSWERS`].
    Says(u16),
}

/// The lowest TCP ports that an endpoint mapper announced, 64 at most.
pub type AnnouncedPorts = BoundedSet<u16, 64>;

/// The identity of a DNS lookup: client, resolver, client port, message ID, name and path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct DnsQuery {
    /// The host that sent the query.
    pub client: IpAddr,
    /// The address of the resolver.
    pub resolver: IpAddr,
    /// The port from which the client sent the query.
    pub port: u16,
    /// The message ID (RFC 1035, 4.1.1), which is the same in the query and the response.
    pub id: u16,
    /// The queried name, in lower case and without a final dot.
    pub name: String,
    /// How far the lookup can be trusted.
    pub path: Path,
}

/// What the capture shows about a DNS lookup. Merging is idempotent.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DnsExchange {
    /// Bit 0 is set if the query was seen.
    #[serde(rename = "asked")]
    pub queried: FlagSet,
    /// The addresses in the responses, each with the names that led to it: first the queried name,
    /// then its aliases.
    pub answers: BoundedSet<(IpAddr, Vec<String>), 64>,
}

impl DnsExchange {
    /// Returns whether the query and a response with addresses were seen.
    pub fn is_complete(&self) -> bool {
        self.queried.0 != 0 && !self.answers.is_empty()
    }
}

impl Merge for DnsExchange {
    fn merge(&mut self, other: &Self) {
        self.queried.merge(&other.queried);
        self.answers.merge(&other.answers);
    }
}

/// The server that a client named in a TLS server name (RFC 6066) or an HTTP host field (RFC 9112).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ServerNameRequest {
    /// The name, in lower case and without a final dot; empty if the message contains no host name,
    /// or is an HTTP request to a proxy.
    pub name: String,
    /// Whether the true name may be a different one, which an encrypted ClientHello inside this
    /// ClientHello contains.
    pub hidden: bool,
}

/// Which payloads are read as parts of a message that names a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageParts {
    /// The starts, and all payloads that may continue them.
    All,
    /// Only the starts. Almost no payload is a start, so almost none is read.
    StartsOnly,
}

/// Reads the payloads of `packets`, one per packet in the same order, and adds their facts to
/// `facts`, each with the index of its packet.
pub fn read_payloads<'a>(
    packets: &[Observation],
    payloads: &[&'a [u8]],
    parts: MessageParts,
    facts: &mut Vec<(usize, PayloadFact<'a>)>,
) {
    for (position, (seen, payload)) in packets.iter().zip(payloads).enumerate() {
        let is_all = parts == MessageParts::All;
        if !payload.is_empty() && (is_all || may_be_start(seen, payload)) {
            facts.extend(read(seen, payload).map(|fact| (position, fact)));
        }
    }
}

/// Reads the payload of a packet. `payload` is the captured part.
pub fn read<'a>(seen: &Observation, payload: &'a [u8]) -> Option<PayloadFact<'a>> {
    let Body::Transport { tuple, flags, payload: length, .. } = &seen.body else { return None };
    match tuple.transport {
        Transport::ICMP6 => {
            let (address, mac) = nd::read(tuple, seen.link.ttl, payload)?;
            Some(PayloadFact::Claims(address, mac))
        }
        vrrp::PROTOCOL => Some(PayloadFact::Holds(vrrp::read(tuple, payload)?)),
        Transport::UDP if tuple.sport == DNS_PORT || tuple.dport == DNS_PORT => {
            dns::read(tuple, seen.path, payload)
        }
        Transport::UDP => requests::read(tuple, payload, *length as usize).map(PayloadFact::Says),
        Transport::TCP if tuple.sport == ENDPOINT_MAPPER => {
            rpc::read(payload).map(PayloadFact::Announced)
        }
        Transport::TCP if tuple.sport == DNS_PORT || tuple.dport == DNS_PORT => {
            // Over TCP, the length of a DNS message precedes it (RFC 1035, 4.2.2), possibly in a
            // segment of its own.
            let length = payload.first_chunk().map_or(0, |b| usize::from(u16::from_be_bytes(*b)));
            let message = if length + 2 == payload.len() { &payload[2..] } else { payload };
            dns::read(tuple, seen.path, message)
        }
        Transport::TCP if flags & flag::CLIENT_HELLO != 0 => Some(
            tls::server_name(payload)
                .map_or(PayloadFact::Start(payload), PayloadFact::ServerNameRequest),
        ),
        Transport::TCP if http::is_request(payload) => Some(
            http::host(payload).map_or(PayloadFact::Start(payload), PayloadFact::ServerNameRequest),
        ),
        Transport::TCP if starts_message(payload) => Some(PayloadFact::Start(payload)),
        // Only the client sends continuations. Its port is almost always the higher one. If both
        // ports are ephemeral, either side may be the client. A payload that starts a new TLS
        // record is not a continuation.
        Transport::TCP if tuple.sport > tuple.dport || tuple.sport >= EPHEMERAL_PORTS => {
            let is_record = matches!(
                payload,
                [0x14 | 0x15 | 0x17, 0x03, ..] | [0x16, 0x03, _, _, _, 0 | 2..=255, ..]
            );
            (!is_record && !payload.is_empty()).then_some(PayloadFact::Part(payload))
        }
        _ => None,
    }
}

/// Returns whether a payload may contain a fact other than the continuation of a message that names
/// a server. Few payloads do.
fn may_be_start(seen: &Observation, payload: &[u8]) -> bool {
    let Body::Transport { tuple, payload: length, .. } = &seen.body else { return false };
    let is_dns = tuple.sport == DNS_PORT || tuple.dport == DNS_PORT;
    match tuple.transport {
        Transport::TCP => {
            is_dns
                || tuple.sport == ENDPOINT_MAPPER
                || payload.first().is_some_and(|b| *b == 0x16 || b.is_ascii_uppercase())
        }
        Transport::UDP => is_dns || requests::may_match(tuple, payload, *length as usize),
        Transport::ICMP6 | vrrp::PROTOCOL => true,
        _ => false,
    }
}

/// Returns whether `bytes` can be the start of a message that names a server. A single byte can be
/// enough.
fn starts_message(bytes: &[u8]) -> bool {
    const CLIENT_HELLO: [Option<u8>; 6] = [Some(0x16), Some(0x03), None, None, None, Some(1)];
    let is_client_hello =
        bytes.iter().zip(CLIENT_HELLO).all(|(byte, wanted)| wanted.is_none_or(|w| w == *byte));
    !bytes.is_empty() && (is_client_hello || http::may_be_request(bytes))
}

/// Returns a host name in the form that reports and patterns use; `None` for an address or an
/// invalid name.
fn host_name(bytes: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(bytes).ok()?.trim_end_matches('.').to_ascii_lowercase();
    let is_name = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_graphic())
        && name.parse::<IpAddr>().is_err();
    is_name.then(|| escape_name(&name))
}

/// Escapes characters that do not occur in host names, for example as `\059`, which is the notation
/// of DNS (RFC 1035, 5.1). Existing escapes are not changed.
fn escape_name(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len()), |mut text, c| {
        match c {
            'a'..='z' | '0'..='9' | '-' | '_' | '.' | '\\' => text.push(c),
            odd => text.push_str(&format!("\\{:03}", u32::from(odd) & 0xff)),
        }
        text
    })
}
