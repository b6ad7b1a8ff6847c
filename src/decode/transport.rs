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
    // An ICMP error about a segment counts only if it quotes the sequence number.
    let is_cut_quote = layers.quoted && ip.transport == Transport::TCP && segment.u32(4).is_none();
    let ports = segment.u16(0).zip(segment.u16(2)).filter(|_| !is_cut_quote);
    let Some((sport, dport)) = ports else {
        return Body::NoPorts { src: ip.src, dst: ip.dst, transport: ip.transport };
    };
    let ports = (sport, dport);
    match ip.transport {
        Transport::TCP => {
            let (mut flags, payload, captured) = tcp(segment);
            layers.note_payload(captured);
            let tcp_flags = segment.bytes.get(13).copied();
            // A segment is marked if fragmentation hides its flags. It is not marked if a short
            // snaplen hides them, because that affects all flows of the capture.
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

/// Returns the packet flags of a TCP segment without [`flag::DATA`], and also its payload length in
/// bytes and the captured payload.
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

/// The packet flags of a TCP segment with each combination of TCP flags.
const TCP_FLAGS: [u16; 256] = {
    let mut table = [0; 256];
    let mut tcp_flags = 0;
    while tcp_flags < table.len() {
        let [syn, ack, rst] = [tcp_flags & 0x02 != 0, tcp_flags & 0x10 != 0, tcp_flags & 0x04 != 0];
        let fin = if tcp_flags & 0x01 != 0 { flag::FIN } else { 0 };
        table[tcp_flags] = fin
            | match (syn, ack, rst) {
                (_, _, true) => flag::RST,
                (true, false, _) => flag::SYN,
                (true, true, _) => flag::SYN_ACK,
                (false, true, _) => flag::ACK,
                (false, false, _) => 0,
            };
        tcp_flags += 1;
    }
    table
};

/// Returns the packet flags of a TCP segment with these TCP flags and this payload, except
/// [`flag::DATA`].
pub(super) fn flags_of(tcp_flags: u8, payload: &[u8]) -> u16 {
    let mut flags = TCP_FLAGS[usize::from(tcp_flags)];
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

/// Returns the packet flags of a UDP datagram without [`flag::DATA`], and its payload length in
/// bytes.
pub(super) fn udp(segment: Packet<'_>, (sport, dport): (u16, u16)) -> (u16, usize) {
    let Ok(header) = UdpHeaderSlice::from_slice(segment.bytes) else {
        return (0, segment.wire.saturating_sub(UDP_HEADER));
    };
    let mut payload = segment.wire.saturating_sub(UDP_HEADER);
    // A length below that of the header is ignored. Zero occurs in jumbograms (RFC 2675) and means
    // that the payload extends to the end of the packet.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::{flags, flow, frame, ip_packet, ipv4, tcp};
    use crate::decode::{Decoder, Observation};

    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const FIN: u8 = 0x01;

    fn payload_of(protocol: u8, segment: &[u8]) -> u32 {
        let seen = ip_packet(&ipv4(protocol, segment)).expect("an IP packet");
        flow(&seen).expect("a flow").1
    }

    /// Returns a UDP datagram whose length field contains `length`, which may be wrong.
    fn datagram(length: u16, payload: &[u8]) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        [&[0, 1, 0, 2, high, low, 0, 0][..], payload].concat()
    }

    #[test]
    fn the_flags_of_a_segment_say_what_it_is() {
        // RFC 9293, 3.1.
        let cases = [
            (0, 0),
            (SYN, flag::SYN),
            (SYN | ACK, flag::SYN_ACK),
            (ACK, flag::ACK),
            (RST, flag::RST),
            (RST | ACK, flag::RST),
            (RST | SYN, flag::RST),
            (FIN, flag::FIN),
            (FIN | ACK, flag::FIN | flag::ACK),
            (SYN | FIN, flag::SYN | flag::FIN),
            // PSH, URG, ECE and CWR have no packet flag.
            (0xe8, 0),
        ];
        for (bits, expected) in cases {
            assert_eq!(flags_of(bits, &[]), expected, "{bits:#04x}");
        }
    }

    #[test]
    fn a_tls_hello_is_known_by_its_sixth_byte() {
        // RFC 8446, 5.1: content type 22, version, length; then the type of the message.
        let of = |record: &[u8]| flags_of(0, record);
        assert_eq!(of(&[0x16, 3, 1, 0, 9, 1]), flag::CLIENT_HELLO);
        assert_eq!(of(&[0x16, 3, 3, 0, 9, 2]), flag::SERVER_HELLO);
        assert_eq!(of(&[0x16, 3, 1, 0, 9]), 0);
        assert_eq!(of(&[0x16, 3, 1, 0, 9, 11]), 0);
        assert_eq!(of(&[0x17, 3, 1, 0, 9, 1]), 0);
        assert_eq!(of(&[0x16, 2, 1, 0, 9, 1]), 0);
    }

    #[test]
    fn data_in_the_segments_that_open_or_reset_is_no_data() {
        let is_data = |bits: u8, payload: &[u8]| {
            let seen = ip_packet(&ipv4(6, &tcp(1, 2, bits, payload))).expect("a segment");
            flags(&seen).expect("a flow") & flag::DATA != 0
        };
        assert!(is_data(ACK, &[1]));
        assert!(!is_data(ACK, &[]));
        assert!(is_data(FIN | ACK, &[1]));
        for bits in [SYN, SYN | ACK, RST, RST | ACK] {
            assert!(!is_data(bits, &[1]), "{bits:#04x}");
        }
    }

    #[test]
    fn an_acknowledgement_counts_only_with_its_flag() {
        let numbers = |bits: u8| {
            let seen = ip_packet(&ipv4(6, &tcp(1, 2, bits, &[]))).expect("a segment");
            match seen.body {
                Body::Transport { seq, acked, .. } => (seq, acked),
                _ => (0, None),
            }
        };
        assert_eq!(numbers(SYN), (1000, None));
        assert_eq!(numbers(SYN | ACK), (1000, Some(2000)));
    }

    #[test]
    fn a_truncated_segment_shows_its_flags_from_the_fourteenth_byte_on() {
        let segment = tcp(1, 2, SYN | ACK, &[]);
        let bytes = ipv4(6, &segment);
        let seen = |kept: usize| frame(101, &bytes, 20 + kept).expect("an IP packet");
        for kept in 0..4 {
            assert!(matches!(seen(kept).body, Body::NoPorts { .. }), "{kept} bytes");
        }
        for kept in 4..=segment.len() {
            let shown = if kept < 14 { 0 } else { flag::SYN_ACK };
            let found = flags(&seen(kept)).expect("a flow");
            assert_eq!(found & (flag::SYN_ACK | flag::HIDDEN | flag::DATA), shown, "{kept} bytes");
            let Body::Transport { seq, acked, .. } = seen(kept).body else { continue };
            assert_eq!(seq, if kept < 8 { 0 } else { 1000 }, "{kept} bytes");
            assert_eq!(acked, (kept >= 14).then_some(2000), "{kept} bytes");
        }
    }

    #[test]
    fn only_fragmentation_hides_the_flags() {
        let of = |flags_and_offset: u8, kept: usize| {
            let mut bytes = ipv4(6, &tcp(1, 2, SYN, &[])[..kept]);
            bytes[6] = flags_and_offset;
            let seen = ip_packet(&bytes).expect("an IP packet");
            flags(&seen).expect("a flow") & flag::OPENS
        };
        assert_eq!(of(0x20, 8), flag::HIDDEN);
        assert_eq!(of(0x20, 16), flag::SYN);
        assert_eq!(of(0x00, 8), 0);
    }

    #[test]
    fn an_invalid_header_length_does_not_lengthen_the_payload() {
        // RFC 9293, 3.1: the data offset is at least five words.
        let with_offset = |offset: u8| {
            let mut segment = tcp(1, 2, ACK, &[7; 12]);
            segment[12] = offset << 4;
            payload_of(6, &segment)
        };
        assert_eq!((with_offset(5), with_offset(8)), (12, 0));
        assert_eq!((with_offset(0), with_offset(4)), (12, 12));
        // The header would be longer than the segment.
        assert_eq!(with_offset(15), 0);
    }

    #[test]
    fn the_shorter_of_both_lengths_of_a_datagram_counts() {
        // RFC 768: the length includes the header of eight bytes. RFC 2675: zero means that the
        // payload extends to the end of the packet.
        for (length, expected) in [(12, 4), (8, 0), (9, 1), (99, 6), (0, 6), (7, 6), (14, 6)] {
            assert_eq!(payload_of(17, &datagram(length, &[1; 6])), expected, "{length}");
        }
    }

    #[test]
    fn a_dns_message_asks_or_answers_only_in_its_own_direction() {
        // RFC 1035, 4.1.1: the QR bit is the highest bit of the third byte.
        let of = |ports: (u16, u16), third: u8, length: usize| {
            let mut bytes = datagram(8 + length as u16, &vec![0; length]);
            bytes[10] = third;
            let packet = Packet { bytes: &bytes, wire: bytes.len() };
            udp(packet, ports).0
        };
        assert_eq!(of((50_000, DNS_PORT), 0x01, 12), flag::ASKS);
        assert_eq!(of((DNS_PORT, 50_000), 0x81, 12), flag::ANSWERS);
        assert_eq!(of((DNS_PORT, 50_000), 0x01, 12), 0);
        assert_eq!(of((50_000, DNS_PORT), 0x81, 12), 0);
        assert_eq!(of((50_000, 54), 0x01, 12), 0);
        // The header of a message has twelve bytes.
        assert_eq!(of((50_000, DNS_PORT), 0x01, 11), 0);
    }

    #[test]
    fn protocols_without_these_headers_are_measured_from_their_own() {
        // The common header of SCTP has twelve bytes (RFC 9260, 3). ESP has no ports, so all of it
        // is payload.
        assert_eq!(payload_of(132, &[0; 12]), 0);
        assert_eq!(payload_of(132, &[0; 13]), 1);
        assert_eq!(payload_of(132, &[0; 4]), 0);
        assert_eq!(payload_of(50, &[0; 13]), 13);
        let seen = ip_packet(&ipv4(50, &[9; 13])).expect("an IP packet");
        let (tuple, _) = flow(&seen).expect("a flow");
        assert_eq!((tuple.sport, tuple.dport), (0, 0));
    }

    #[test]
    fn the_payload_is_found_in_the_frame() {
        let segment = tcp(1, 2, ACK, &[5, 6, 7]);
        let bytes = ipv4(6, &segment);
        let seen = ip_packet(&bytes).expect("a segment");
        assert_eq!((seen.payload_at, seen.payload(&bytes)), (40, &[5, 6, 7][..]));
        let bytes = ipv4(17, &datagram(11, &[5, 6, 7]));
        let seen = ip_packet(&bytes).expect("a datagram");
        assert_eq!((seen.payload_at, seen.payload(&bytes)), (28, &[5, 6, 7][..]));
    }

    #[test]
    fn three_bytes_are_no_ports() {
        let decoder = Decoder::default();
        let mut seen = Observation::default();
        let mut layers = DecodeState::new(&decoder, &mut seen);
        let [src, dst] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(std::net::IpAddr::from);
        let ip = IpHeader { src, dst, transport: Transport::UDP };
        let body = decode(&ip, Packet { bytes: &[0, 1, 0], wire: 50 }, &mut layers);
        assert_eq!(body, Body::NoPorts { src, dst, transport: Transport::UDP });
        assert_eq!(seen.payload_kept, 0);
    }
}
