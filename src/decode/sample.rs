//! Small packets for the unit tests of the layers, and helper functions that decode them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Body, DecodeState, Decoder, FiveTuple, Next, Observation, Packet};
use crate::capture::Frame;
use crate::model::{Mac, NO_TIME, SkipReason};

/// The addresses of the sender (`SRC`, `FROM`) and of the receiver (`DST`, `TO`) of all samples.
pub(super) const SRC: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(super) const DST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
pub(super) const SRC_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
pub(super) const DST_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
pub(super) const FROM: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(super) const TO: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A function that decodes one layer.
pub(super) type LayerDecoder =
    for<'p> fn(Packet<'p>, &mut DecodeState<'_>) -> Result<Next<'p>, SkipReason>;

/// Returns a packet that was captured completely.
pub(super) fn packet(bytes: &[u8]) -> Packet<'_> {
    Packet { bytes, wire: bytes.len() }
}

/// Returns an Ethernet II frame (IEEE 802.3, 3.1.1).
pub(super) fn ethernet(ethertype: u16, content: &[u8]) -> Vec<u8> {
    [&TO.0[..], &FROM.0, &ethertype.to_be_bytes(), content].concat()
}

/// Returns an IPv4 packet (RFC 791, 3.1) with a valid checksum and a TTL of 64.
pub(super) fn ipv4(protocol: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (20 + content.len() as u16).to_be_bytes();
    let mut header = vec![0x45, 0, high, low, 0x12, 0x34, 0, 0, 64, protocol, 0, 0];
    header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    fix_checksum(&mut header);
    [&header, content].concat()
}

/// Sets the checksum of an IPv4 header of 20 bytes (RFC 1071).
pub(super) fn fix_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let words = header[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// Returns an IPv6 packet (RFC 8200, 3) with a hop limit of 64.
pub(super) fn ipv6(next: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let mut header = vec![0x60, 0, 0, 0, high, low, next, 64];
    for last in [1, 2] {
        header.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    [&header, content].concat()
}

/// Returns a UDP datagram (RFC 768).
pub(super) fn udp(sport: u16, dport: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let header: Vec<u8> = [sport, dport, length, 0].iter().flat_map(|w| w.to_be_bytes()).collect();
    [&header, payload].concat()
}

/// Returns a TCP segment (RFC 9293, 3.1) with sequence number 1,000 and acknowledgement number
/// 2,000.
pub(super) fn tcp(sport: u16, dport: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut header: Vec<u8> = [sport, dport].iter().flat_map(|w| w.to_be_bytes()).collect();
    header.extend([1000u32, 2000].iter().flat_map(|w| w.to_be_bytes()));
    header.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    [&header, payload].concat()
}

/// Decodes one layer. Returns the result and the observation.
pub(super) fn layer<'p>(
    decode: LayerDecoder,
    packet: Packet<'p>,
) -> (Result<Next<'p>, SkipReason>, Observation) {
    let decoder = Decoder::default();
    let mut seen = Observation::default();
    let mut layers = DecodeState::new(&decoder, &mut seen);
    layers.start = packet.bytes.as_ptr().addr();
    let result = decode(packet, &mut layers);
    (result, seen)
}

/// Decodes one layer of a complete packet and returns only its content.
pub(super) fn next(decode: LayerDecoder, bytes: &[u8]) -> Result<Next<'_>, SkipReason> {
    layer(decode, packet(bytes)).0
}

/// Decodes an IP packet that has no link layer (LINKTYPE_RAW).
pub(super) fn ip_packet(bytes: &[u8]) -> Result<Observation, SkipReason> {
    frame(101, bytes, bytes.len())
}

/// Decodes a frame of a link type. The capture contains only the first `kept` bytes of the frame.
pub(super) fn frame(link: u16, bytes: &[u8], kept: usize) -> Result<Observation, SkipReason> {
    decode_with(&Decoder::default(), link, bytes, kept)
}

/// Decodes a frame with the given decoder. The capture kept the first `kept` bytes.
pub(super) fn decode_with(
    decoder: &Decoder,
    link: u16,
    bytes: &[u8],
    kept: usize,
) -> Result<Observation, SkipReason> {
    let (cap_len, wire_len) = (kept as u32, bytes.len() as u32);
    let frame = Frame { time: NO_TIME, offset: 0, cap_len, wire_len, link, interface: 0 };
    let mut seen = Observation::default();
    decoder.decode(&frame, &bytes[..kept], &mut seen)?;
    Ok(seen)
}

/// Returns the five-tuple and the payload length of a packet of a flow.
pub(super) fn flow(seen: &Observation) -> Option<(FiveTuple, u32)> {
    match seen.body {
        Body::Transport { tuple, payload, .. } => Some((tuple, payload)),
        _ => None,
    }
}

/// Returns the packet flags of a packet of a flow.
pub(super) fn flags(seen: &Observation) -> Option<u16> {
    match seen.body {
        Body::Transport { flags, .. } => Some(flags),
        _ => None,
    }
}

/// Checks how a layer treats a packet that the capture truncated at each possible place. If the
/// truncation is inside the header, which has `header` bytes, the frame is skipped for `reason`.
/// Otherwise, the layer returns the captured bytes after the header, and their length on the wire
/// is not affected.
#[track_caller]
pub(super) fn assert_truncation(
    decode: LayerDecoder,
    bytes: &[u8],
    header: usize,
    reason: SkipReason,
) {
    assert!(header <= bytes.len(), "the sample is shorter than its header");
    for kept in 0..=bytes.len() {
        let packet = Packet { bytes: &bytes[..kept], wire: bytes.len() };
        let (result, _) = layer(decode, packet);
        if kept < header {
            assert_eq!(result, Err(reason), "{kept} bytes");
            continue;
        }
        let content = content_of(result.unwrap_or_else(|reason| panic!("{kept} bytes: {reason}")));
        let content = content.expect("the layer carries something");
        assert_eq!(content.bytes, &bytes[header..kept], "{kept} bytes");
        assert_eq!(content.wire, bytes.len() - header, "{kept} bytes");
    }
}

/// Returns the bytes that a layer carries.
pub(super) fn content_of(next: Next<'_>) -> Option<Packet<'_>> {
    match next {
        Next::Ethernet(packet)
        | Next::Ether(_, packet)
        | Next::Llc(packet)
        | Next::Ppp(packet)
        | Next::Wlan(packet, _)
        | Next::Ip(_, packet) => Some(packet),
        Next::Done => None,
    }
}
