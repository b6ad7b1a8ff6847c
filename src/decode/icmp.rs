//! ICMP (RFC 792, RFC 1812) and ICMPv6 (RFC 4443): messages that come in pairs, and errors that
//! quote a packet.

use super::{
    Body, DecodeState, ErrorKind, FiveTuple, IpHeader, Next, Observation, Packet, Quoted, flag,
    icmp_ports,
};
use crate::model::Transport;

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
    let flags = if is_request(ip.transport, kind) { flag::ASKS } else { 0 };
    Body::Transport { tuple, flags, payload, seq: 0, acked: None, fragment: None }
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
    use ErrorKind::{HostUnreachable, Other, PortUnreachable, Prohibited, TimeExceeded};
    if transport == Transport::ICMP6 {
        return Some(match (kind, code) {
            (1, 4) => PortUnreachable,
            (1, 1 | 5 | 6) => Prohibited,
            (1, _) => HostUnreachable,
            // Code 1 reports missing fragments (RFC 4443, 3.3).
            (3, 0) => TimeExceeded,
            (2..=4, _) => Other,
            _ => return None,
        });
    }
    Some(match (kind, code) {
        (3, 2 | 3) => PortUnreachable,
        (3, 9 | 10 | 13) => Prohibited,
        (3, 4) => Other,
        (3, _) => HostUnreachable,
        // Code 1 reports missing fragments (RFC 792).
        (11, 0) => TimeExceeded,
        (4 | 5 | 11 | 12, _) => Other,
        _ => return None,
    })
}

/// Returns the types of the messages that come in pairs, each request before its reply.
fn pairs(transport: Transport) -> &'static [(u8, u8)] {
    const V4: [(u8, u8); 5] = [(8, 0), (13, 14), (15, 16), (10, 9), (17, 18)];
    const V6: [(u8, u8); 6] =
        [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)];
    if transport == Transport::ICMP6 { &V6 } else { &V4 }
}

/// Returns whether messages of type `kind` request a reply.
fn is_request(transport: Transport, kind: u8) -> bool {
    pairs(transport).iter().any(|(asks, _)| *asks == kind)
}

/// Returns the type of the reply to a request, or of the request for a reply; `None` if messages of
/// type `kind` are not paired.
pub(super) fn answer(transport: Transport, kind: u8) -> Option<u8> {
    pairs(transport).iter().find_map(|&(asks, answers)| match kind {
        k if k == asks => Some(answers),
        k if k == answers => Some(asks),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::icmp_paired;
    use crate::decode::sample::{DST, SRC, SRC_6, flow, ip_packet, ipv4, ipv6, tcp, udp};
    use crate::model::SkipReason;

    const V4: Transport = Transport::ICMP;
    const V6: Transport = Transport::ICMP6;

    /// Returns an ICMP error (RFC 792): type, code, checksum and four unused bytes, followed by the
    /// quoted packet.
    fn error(kind: u8, code: u8, quoted: &[u8]) -> Vec<u8> {
        ipv4(1, &[&[kind, code, 0, 0, 0, 0, 0, 0][..], quoted].concat())
    }

    fn body(bytes: &[u8]) -> Result<Body, SkipReason> {
        ip_packet(bytes).map(|seen| seen.body)
    }

    /// Returns the kind of an error and the port of the flow that it quotes.
    fn reported(bytes: &[u8]) -> Option<(ErrorKind, u16)> {
        match body(bytes).expect("an IP packet") {
            Body::Error { quoted: Quoted::Flow { tuple, .. }, kind, .. } => {
                Some((kind, tuple.dport))
            }
            _ => None,
        }
    }

    #[test]
    fn a_request_and_its_reply_are_one_flow() {
        let ports = |kind: u8| {
            let seen = ip_packet(&ipv4(1, &[kind, 0, 0, 0, 0, 1, 0, 1, 9, 9])).expect("a message");
            flow(&seen).map(|(tuple, payload)| (tuple.sport, tuple.dport, payload))
        };
        assert_eq!(ports(8), Some((8, 0, 2)));
        assert_eq!(ports(0), Some((0, 8, 2)));
        // A redirect has no counterpart, so its code replaces the type of a counterpart.
        assert_eq!(icmp_ports(V4, 5, 1), (5, 1));
        assert_eq!(icmp_ports(V6, 128, 7), (128, 129));
    }

    #[test]
    fn each_pair_belongs_to_one_version() {
        for (kind, other) in [(8, 0), (13, 14), (15, 16), (10, 9), (17, 18)] {
            assert_eq!((answer(V4, kind), answer(V4, other)), (Some(other), Some(kind)));
            assert!(!icmp_paired(V6, kind), "{kind}");
        }
        for (kind, other) in
            [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)]
        {
            assert_eq!((answer(V6, kind), answer(V6, other)), (Some(other), Some(kind)));
            assert!(!icmp_paired(V4, kind), "{kind}");
        }
        assert!(!icmp_paired(V4, 3) && !icmp_paired(V6, 1) && !icmp_paired(V6, 137));
    }

    #[test]
    fn each_code_of_an_error_has_its_kind() {
        use ErrorKind::{HostUnreachable, Other, PortUnreachable, Prohibited, TimeExceeded};
        // The codes of type 3 (RFC 792; RFC 1812, 5.2.7.1).
        let unreachable = |code| error_kind(V4, 3, code);
        for code in 0..16 {
            let expected = match code {
                2 | 3 => PortUnreachable,
                4 => Other,
                9 | 10 | 13 => Prohibited,
                _ => HostUnreachable,
            };
            assert_eq!(unreachable(code), Some(expected), "{code}");
        }
        for kind in 0..=255 {
            let is_error = matches!(kind, 3 | 4 | 5 | 11 | 12);
            assert_eq!(error_kind(V4, kind, 0).is_some(), is_error, "{kind}");
            assert_eq!(error_kind(V6, kind, 0).is_some(), matches!(kind, 1..=4), "{kind}");
        }
        // Code 1 reports that fragments are missing.
        let exceeded = [(V4, 11), (V6, 3)]
            .map(|(transport, kind)| [0, 1].map(|code| error_kind(transport, kind, code)));
        assert_eq!(exceeded, [[Some(TimeExceeded), Some(Other)]; 2]);
        // The codes of type 1 (RFC 4443, 3.1).
        let of_6 = [0, 1, 2, 3, 4, 5, 6].map(|code| error_kind(V6, 1, code));
        let host = Some(HostUnreachable);
        let no = Some(Prohibited);
        assert_eq!(of_6, [host, no, host, host, Some(PortUnreachable), no, no]);
    }

    #[test]
    fn an_error_is_about_the_packet_that_it_quotes() {
        let quoted = ipv4(17, &udp(50_000, 50_001, &[]));
        let message = error(3, 3, &quoted);
        let Ok(Body::Error { quoted, kind, by, to, transport }) = body(&message) else {
            panic!("an error");
        };
        assert_eq!((kind, by, to, transport), (ErrorKind::PortUnreachable, SRC, DST, V4));
        let Quoted::Flow { tuple, seq, answers, .. } = quoted else { panic!("a flow") };
        assert_eq!((tuple.src, tuple.dst, tuple.dport), (SRC, DST, 50_001));
        assert_eq!((seq, answers), (0, false));
        // RFC 4443, 3.1: code 4 of type 1 is "port unreachable".
        let inner = ipv6(17, &udp(1, 50_001, &[]));
        let six = ipv6(58, &[&[1, 4, 0, 0, 0, 0, 0, 0][..], &inner].concat());
        assert_eq!(reported(&six), Some((ErrorKind::PortUnreachable, 50_001)));
        assert!(matches!(body(&six), Ok(Body::Error { by: SRC_6, .. })));
    }

    #[test]
    fn a_quotation_needs_its_ports_and_may_lack_the_rest() {
        // RFC 792 requires an error to quote only the first eight bytes of the datagram, which
        // include the sequence number of TCP, but not its flags.
        let datagram = ipv4(17, &udp(50_000, 443, &[]));
        let quoted = ipv4(6, &tcp(50_000, 443, 0x12, &[]));
        for (quoted, needed) in [(&datagram, 24), (&quoted, 28)] {
            for kept in 0..=quoted.len() {
                let expected = (kept >= needed).then_some((ErrorKind::Prohibited, 443));
                assert_eq!(reported(&error(3, 13, &quoted[..kept])), expected, "{kept} bytes");
            }
        }
        let Ok(Body::Error { quoted: Quoted::Flow { seq, .. }, .. }) =
            body(&error(3, 13, &quoted[..28]))
        else {
            panic!("an error");
        };
        assert_eq!(seq, 1000);
        // Without a quotation, only the addresses are known.
        assert!(matches!(body(&error(3, 13, &[])), Ok(Body::NoPorts { .. })));
        assert!(matches!(body(&ipv4(1, &[3])), Ok(Body::NoPorts { .. })));
    }

    #[test]
    fn an_error_about_an_error_is_about_nothing() {
        // RFC 1122, 3.2.2: such an error is never sent.
        let inner = error(3, 3, &ipv4(17, &udp(50_000, 50_001, &[])));
        assert!(matches!(body(&error(3, 1, &inner)), Ok(Body::NoPorts { .. })));
        // An error about an echo request counts as an error.
        let request = ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 1]);
        assert_eq!(reported(&error(3, 1, &request)), Some((ErrorKind::HostUnreachable, 0)));
    }

    #[test]
    fn the_end_of_a_tunnel_that_rejects_it_makes_the_inner_host_unreachable() {
        let inner = ipv4(17, &udp(50_000, 50_001, &[]));
        let tunnel = ipv4(4, &inner);
        let port = Some((ErrorKind::HostUnreachable, 50_001));
        assert_eq!(reported(&error(3, 3, &tunnel)), port);
        assert_eq!(reported(&error(3, 13, &tunnel)), Some((ErrorKind::Prohibited, 50_001)));
        // If the content of the tunnel is not quoted, the error is about the tunnel itself.
        let Ok(Body::Error { quoted: Quoted::Flow { tuple, .. }, kind, .. }) =
            body(&error(3, 3, &tunnel[..24]))
        else {
            panic!("an error");
        };
        assert_eq!((tuple.transport.0, kind), (4, ErrorKind::PortUnreachable));
    }

    #[test]
    fn an_error_may_quote_a_later_fragment() {
        let mut fragment = ipv4(17, &[9; 8]);
        fragment[7] = 1;
        let Ok(Body::Error { quoted: Quoted::Fragment(datagram), .. }) =
            body(&error(3, 3, &fragment))
        else {
            panic!("an error about a fragment");
        };
        assert_eq!((datagram.id, datagram.src), (0x1234, SRC));
    }

    #[test]
    fn the_payload_of_a_message_starts_after_its_checksum() {
        let bytes = ipv4(1, &[8, 0, 0, 0, 0, 1, 0, 1, 7]);
        let seen = ip_packet(&bytes).expect("a message");
        assert_eq!(seen.payload(&bytes), [0, 1, 0, 1, 7]);
        let bytes = ipv4(1, &[8, 0]);
        assert!(ip_packet(&bytes).expect("a message").payload(&bytes).is_empty());
    }
}
