//! ICMP (RFC 792, RFC 1812) and ICMPv6 (RFC 4443): messages that come in pairs, and errors that
//! quote a packet.

use serde::{Deserialize, Serialize};

use super::{
    Body, DecodeState, FiveTuple, IpHeader, Next, Observation, Packet, Quoted, flag, icmp_ports,
};
use crate::model::Transport;

/// What an ICMP error reports about the packet that it quotes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Nothing listens on the port or handles the protocol.
    PortUnreachable,
    /// A filter forbids the packet.
    Prohibited,
    /// The host or its network cannot be reached.
    HostUnreachable,
    /// An error that does not show whether the packet is allowed: time exceeded, packet too big,
    /// bad parameter.
    Other,
}

impl ErrorKind {
    /// Returns a description of the error.
    pub fn words(self) -> &'static str {
        match self {
            Self::PortUnreachable => "port unreachable",
            Self::Prohibited => "administratively prohibited",
            Self::HostUnreachable => "host unreachable",
            Self::Other => "time exceeded, packet too big or parameter problem",
        }
    }
}

pub(super) fn decode(ip: &IpHeader, message: Packet<'_>, layers: &mut DecodeState<'_>) -> Body {
    let portless = Body::NoPorts { src: ip.src, dst: ip.dst, transport: ip.transport };
    let &[kind, code, ..] = message.bytes else {
        return portless;
    };
    if let Some(error) = error_kind(ip.transport, kind, code) {
        // An error about an error is never sent (RFC 1122, 3.2.2). A forged one must not cause
        // recursion.
        let quoted = message.after(8).filter(|_| !layers.quoted);
        return quoted.and_then(|packet| quote(packet, layers)).map_or(
            portless,
            |(quoted, inside)| {
                // The endpoint of a tunnel rejects the tunnel, not the packet in it. For that
                // packet, the host is unreachable.
                let kind = match error {
                    ErrorKind::PortUnreachable if inside => ErrorKind::HostUnreachable,
                    kind => kind,
                };
                Body::Error { quoted, kind, by: ip.src, to: ip.dst, transport: ip.transport }
            },
        );
    }
    // The payload starts after the checksum.
    layers.note_payload(message.bytes.get(4..).unwrap_or_default());
    let (sport, dport) = icmp_ports(ip.transport, kind, code);
    let tuple = FiveTuple { src: ip.src, dst: ip.dst, sport, dport, transport: ip.transport };
    let payload = message.wire.saturating_sub(8) as u32;
    Body::Transport { tuple, flags: 0, payload, seq: 0, acked: None, fragment: None }
}

/// Returns the innermost packet that an error quotes, and whether that packet is in a tunnel.
fn quote(packet: Packet<'_>, layers: &DecodeState<'_>) -> Option<(Quoted, bool)> {
    let &Observation { interface, path, .. } = &*layers.seen;
    let mut seen = Observation { interface, path, ..Observation::default() };
    let mut inner = DecodeState { quoted: true, ..DecodeState::new(layers.decoder, &mut seen) };
    inner.run(Next::Ip(None, packet)).ok()?;
    let inside = seen.undecoded_tunnel.is_none() && seen.link.outer().next().is_some();
    let quoted = match seen.body {
        Body::Transport { tuple, flags, seq, .. } => {
            let answers = flags & flag::ANSWERS != 0;
            Quoted::Flow { tuple, path: seen.path, seq, answers }
        }
        Body::Fragment { datagram, .. } => Quoted::Fragment(datagram),
        Body::Error { .. } | Body::NoPorts { .. } | Body::NonIp { .. } => return None,
    };
    Some((quoted, inside))
}

fn error_kind(transport: Transport, kind: u8, code: u8) -> Option<ErrorKind> {
    use ErrorKind::{HostUnreachable, Other, PortUnreachable, Prohibited};
    if transport == Transport::ICMP6 {
        return Some(match (kind, code) {
            (1, 4) => PortUnreachable,
            (1, 1 | 5 | 6) => Prohibited,
            (1, _) => HostUnreachable,
            (2..=4, _) => Other,
            _ => return None,
        });
    }
    Some(match (kind, code) {
        (3, 2 | 3) => PortUnreachable,
        (3, 9 | 10 | 13) => Prohibited,
        (3, 4) => Other,
        (3, _) => HostUnreachable,
        (4 | 5 | 11 | 12, _) => Other,
        _ => return None,
    })
}

/// Returns the type of the reply to a request, or of the request for a reply; `None` if messages of
/// type `kind` are not paired.
pub(super) fn answer(transport: Transport, kind: u8) -> Option<u8> {
    const V4: [(u8, u8); 5] = [(8, 0), (13, 14), (15, 16), (10, 9), (17, 18)];
    const V6: [(u8, u8); 6] =
        [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)];
    let pairs = if transport == Transport::ICMP6 { &V6[..] } else { &V4[..] };
    pairs.iter().find_map(|&(asks, answers)| match kind {
        k if k == asks => Some(answers),
        k if k == answers => Some(asks),
        _ => None,
    })
}
