//! TCP (RFC 9293), UDP (RFC 768), SCTP (RFC 9260), and protocols without ports.

use etherparse::{TcpHeaderSlice, UdpHeaderSlice};

use super::{Body, DecodeState, FiveTuple, IpHeader, Packet, flag, icmp};
use crate::model::{DNS_PORT, Transport};

/// The length of a UDP header in bytes.
pub(super) const UDP_HEADER: usize = 8;

pub(super) fn decode(ip: &IpHeader, segment: Packet<'_>, layers: &mut DecodeState<'_>) -> Body {
    let body_of = |(sport, dport), flags, payload: usize, (seq, acked)| {
        let tuple = FiveTuple { src: ip.src, dst: ip.dst, sport, dport, transport: ip.transport };
        // Data in a SYN or RST segment does not belong to an established connection.
        let is_data = payload > 0 && flags & (flag::SYN | flag::SYN_ACK | flag::RST) == 0;
        let flags = if is_data { flags | flag::DATA } else { flags };
        Body::Transport { tuple, flags, payload: payload as u32, seq, acked, fragment: None }
    };
    if ip.transport.is_icmp() {
        return icmp::decode(ip, segment, layers);
    }
    if !ip.transport.has_ports() {
        layers.note_payload(segment.bytes);
        return body_of((0, 0), 0, segment.wire, (0, None));
    }
    let (Some(sport), Some(dport)) = (segment.u16(0), segment.u16(2)) else {
        return Body::NoPorts { src: ip.src, dst: ip.dst, transport: ip.transport };
    };
    let ports = (sport, dport);
    match ip.transport {
        Transport::TCP => {
            let (mut flags, payload, captured) = tcp(segment);
            layers.note_payload(captured);
            let tcp_flags = segment.bytes.get(13).copied();
            // If fragmentation hides the flags, those of this segment are unknown. If a short
            // snaplen hides them, it does so in all flows of the capture, so the segment is not
            // marked.
            if tcp_flags.is_none() && layers.datagram.is_some() {
                flags |= flag::HIDDEN;
            }
            let acked = segment.u32(8).filter(|_| tcp_flags.is_some_and(|flags| flags & ACK != 0));
            body_of(ports, flags, payload, (segment.u32(4).unwrap_or_default(), acked))
        }
        Transport::UDP => {
            let (flags, payload) = udp(segment, ports);
            layers.note_payload(segment.bytes.get(UDP_HEADER..).unwrap_or_default());
            body_of(ports, flags, payload, (0, None))
        }
        _ => body_of(ports, 0, segment.wire.saturating_sub(12), (0, None)),
    }
}

/// The ACK bit in the TCP flags.
pub(super) const ACK: u8 = 0x10;

/// Returns the packet flags of a TCP segment, its payload length in bytes, and the captured
/// payload.
fn tcp(segment: Packet<'_>) -> (u16, usize, &[u8]) {
    let (tcp_flags, header_len, payload) = match TcpHeaderSlice::from_slice(segment.bytes) {
        Ok(header) => {
            let length = header.slice().len();
            (header.slice()[13], length, segment.bytes.get(length..).unwrap_or_default())
        }
        // The header is truncated or invalid, but the flags may be present.
        Err(_) => match segment.bytes.get(12..14) {
            Some(&[offset, flags]) => (flags, usize::from(offset >> 4) * 4, &[][..]),
            _ => return (0, 0, &[]),
        },
    };
    (flags_of(tcp_flags, payload), segment.wire.saturating_sub(header_len.max(20)), payload)
}

/// Returns the packet flags of a TCP segment with these TCP flags and this payload, except
/// [`flag::DATA`].
pub(super) fn flags_of(tcp_flags: u8, payload: &[u8]) -> u16 {
    let [syn, ack, rst, fin] = [0x02, 0x10, 0x04, 0x01].map(|bit| tcp_flags & bit != 0);
    let mut flags = match (syn, ack, rst) {
        (_, _, true) => flag::RST,
        (true, false, _) => flag::SYN,
        (true, true, _) => flag::SYN_ACK,
        (false, true, _) => flag::ACK,
        (false, false, _) => 0,
    };
    if fin {
        flags |= flag::FIN;
    }
    // A TLS 1.x handshake record, in which the sixth byte is the message type.
    if let &[0x16, 0x03, _, _, _, message, ..] = payload {
        flags |= match message {
            1 => flag::CLIENT_HELLO,
            2 => flag::SERVER_HELLO,
            _ => 0,
        };
    }
    flags
}

/// Returns the packet flags of a UDP datagram and its payload length in bytes.
pub(super) fn udp(segment: Packet<'_>, (sport, dport): (u16, u16)) -> (u16, usize) {
    let Ok(header) = UdpHeaderSlice::from_slice(segment.bytes) else {
        return (0, segment.wire.saturating_sub(UDP_HEADER));
    };
    let mut payload = segment.wire.saturating_sub(UDP_HEADER);
    // A length of zero occurs in jumbograms (RFC 2675) and means that the payload fills the rest.
    if header.length() >= UDP_HEADER as u16 {
        payload = payload.min(usize::from(header.length()) - UDP_HEADER);
    }
    // A query is sent to the DNS port, and a response is sent from it. A QR bit that contradicts
    // this may be forged and is ignored.
    let mut flags = 0;
    if let Some(message) = segment.bytes.get(UDP_HEADER..UDP_HEADER + 12) {
        match message[2] & 0x80 {
            0 if dport == DNS_PORT => flags |= flag::ASKS,
            0x80 if sport == DNS_PORT => flags |= flag::ANSWERS,
            _ => {}
        }
    }
    (flags, payload)
}
