//! IPv4 (RFC 791) and IPv6 (RFC 8200) with their extension headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::checksum::u64_16bit_word::{add_slice, ones_complement};
use etherparse::{Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};

use super::{Body, Datagram, DecodeState, IpHeader, Next, Packet, flag, transport, tunnel};
use crate::model::{SkipReason, Transport};

/// The maximum number of IPv6 extension headers that are followed. No more of them fit in a packet,
/// except in a jumbogram (RFC 2675), so that a packet cannot hide its ports behind others.
const MAX_EXTENSIONS: usize = 1 << 13;

/// An IP packet that is parsed up to the start of its transport header.
struct Ip<'a> {
    src: IpAddr,
    dst: IpAddr,
    transport: Transport,
    /// The transport header and everything after it; `None` if the packet is truncated before it.
    inner: Option<Packet<'a>>,
    fragment: Option<Fragment>,
    ttl: u8,
    /// The fields that distinguish the packet from others between the same addresses. The first
    /// word contains the length and, for IPv6, the flow label. The second one contains the
    /// identification and the fragment offset.
    ip_id: [u64; 2],
    bad_checksum: bool,
}

/// The place of a packet among the fragments of a datagram.
struct Fragment {
    id: u32,
    /// The protocol of the fragmented part, as given in every fragment.
    transport: Transport,
    /// Fragment offset in units of eight bytes; zero for the first fragment.
    offset: u16,
}

impl Fragment {
    fn number(&self) -> u64 {
        u64::from(self.id) << 32 | u64::from(self.offset)
    }
}

/// Decodes an IP packet. `version` is the IP version according to the layer below, if that layer
/// states it.
pub(super) fn decode<'p>(
    packet: Packet<'p>,
    version: Option<u8>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    if let (Some(version), Some(first)) = (version, packet.bytes.first())
        && first >> 4 != version
    {
        return Err(SkipReason::BadIpHeader);
    }
    // A mirror may truncate packets, so inside a tunnel the length in the IP header is used.
    let wire = if layers.outer.is_some() { WireLength::Header } else { WireLength::Frame };
    let ip = parse(packet, wire)?;
    let seen = &mut *layers.seen;
    seen.bad_checksum |= ip.bad_checksum;
    seen.link.ttl = ip.ttl;
    seen.fingerprint = fingerprint(&ip);
    let datagram = ip.fragment.as_ref().map(|f| {
        let src = ip.src;
        let dst = ip.dst;
        let transport = f.transport;
        let id = f.id;
        (f.offset == 0, Datagram { src, dst, transport, id, path: seen.path })
    });
    let Some(inner) = ip.inner else {
        seen.body = match datagram {
            Some((false, datagram)) => Body::Fragment { datagram, payload: 0 },
            _ => Body::NoPorts { src: ip.src, dst: ip.dst, transport: ip.transport },
        };
        return Ok(Next::Done);
    };
    match datagram {
        Some((false, datagram)) => {
            seen.body = Body::Fragment { datagram, payload: inner.wire as u32 };
            return Ok(Next::Done);
        }
        Some((true, datagram)) => layers.datagram = Some(datagram),
        None => {}
    }
    let header = IpHeader { src: ip.src, dst: ip.dst, transport: ip.transport };
    let body = transport::decode(&header, inner, layers);
    let seen = &mut *layers.seen;
    seen.body = body;
    if let Body::Transport { flags, fragment, .. } = &mut seen.body {
        *flags |= if seen.broadcast { flag::BROADCAST } else { flag::UNICAST };
        *flags |= seen.kept;
        *fragment = layers.datagram;
    }
    Ok(if layers.decoder.decapsulates { tunnel::enter(&header, inner, layers) } else { Next::Done })
}

/// Returns a hash that is equal for all copies of a packet in a capture. TTL or hop limit, DSCP and
/// ECN, and the header checksum are left out because routers may change them. The checksums of TCP
/// and UDP are left out because a capture on the sending host contains unfinished ones if the
/// network card computes them. Only the start of the packet is hashed, because it is present even
/// if the capture truncated the packet.
fn fingerprint(ip: &Ip<'_>) -> u64 {
    let addresses = match (ip.src, ip.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            u64::from(u32::from(src)) << 32 | u64::from(u32::from(dst))
        }
        (src, dst) => {
            let halves = |address: IpAddr| match address {
                IpAddr::V4(v4) => [0, u64::from(u32::from(v4))],
                IpAddr::V6(v6) => [(u128::from(v6) >> 64) as u64, u128::from(v6) as u64],
            };
            address_word(halves(src), halves(dst))
        }
    };
    fingerprint_of(addresses, ip.ip_id, ip.transport, ip.inner.map_or(&[][..], |inner| inner.bytes))
}

/// Combines two IPv6 addresses, each in two halves, into the word of a fingerprint.
pub(super) fn address_word(src: [u64; 2], dst: [u64; 2]) -> u64 {
    mix(src[0], src[1]) ^ mix(dst[0], dst[1]).rotate_left(32)
}

/// Computes the hash of [`fingerprint`] from its parts: the addresses as a number, the field
/// `ip_id` of [`Ip`], the transport, and the bytes above IP.
pub(super) fn fingerprint_of(
    addresses: u64,
    ip_id: [u64; 2],
    transport: Transport,
    bytes: &[u8],
) -> u64 {
    /// Number of bytes that are always hashed: a TCP header, with its sequence number.
    const COMPARED: usize = 20;
    /// Number of bytes hashed if a packet has no identification: a TCP header with its options.
    const MORE: usize = 60;
    /// Number of bytes hashed if a UDP datagram has no identification. Unlike a TCP segment, it has
    /// no sequence number, and many datagrams start alike, such as messages of a log.
    const MORE_OF_DATAGRAM: usize = 512;
    let complete = bytes.first_chunk::<COMPARED>();
    let start = complete.copied().unwrap_or_else(|| {
        let mut padded = [0; COMPARED];
        padded[..bytes.len()].copy_from_slice(bytes);
        padded
    });
    let word = |at: usize| start[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let last = start.last_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    // Without the checksum, which is in bytes 16 and 17 of TCP, and in bytes 6 and 7 of UDP.
    let (first, last) = match transport {
        Transport::TCP => (word(0), last & 0xffff_0000),
        Transport::UDP => (word(0) & 0x0000_ffff_ffff_ffff, last),
        _ => (word(0), last),
    };
    let words = [first, word(8), u64::from(transport.0) << 56 | u64::from(last)];
    let most = match (ip_id[1] >> 16, transport) {
        (0, Transport::UDP) => MORE_OF_DATAGRAM,
        (0, _) => MORE,
        _ => 0,
    };
    let more = hash_of(bytes.get(COMPARED..bytes.len().min(most)).unwrap_or_default());
    let header = mix(addresses, ip_id[0]) ^ ip_id[1];
    mix(header, words[0] ^ mix(words[1], words[2]) ^ more).max(1)
}

/// Returns a hash of the bytes, or 0 if the slice is empty.
fn hash_of(bytes: &[u8]) -> u64 {
    let add = |hash, block: &[u8; 16]| {
        let block = u128::from_le_bytes(*block);
        mix(hash ^ block as u64, (block >> 64) as u64)
    };
    let (whole, rest) = bytes.as_chunks();
    let hash = whole.iter().fold(0, add);
    if rest.is_empty() {
        return hash;
    }
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    add(hash, &last)
}

/// Combines two words into one that depends on every bit of both. The result is the XOR of the two
/// halves of their product.
fn mix(a: u64, b: u64) -> u64 {
    // The constants are digits of pi. They prevent a word of zero from cancelling the other word.
    let product = u128::from(a ^ 0x243f_6a88_85a3_08d3) * u128::from(b ^ 0x1319_8a2e_0370_7344);
    product as u64 ^ (product >> 64) as u64
}

/// How the length of an IP packet on the wire is determined.
#[derive(Clone, Copy)]
enum WireLength {
    /// The frame, limited to the length in the IP header.
    Frame,
    /// The length in the IP header, even if the packet around it is shorter.
    Header,
}

/// Reads the headers of an IP packet of either version.
fn parse(packet: Packet<'_>, wire: WireLength) -> Result<Ip<'_>, SkipReason> {
    match packet.bytes.first().map(|b| b >> 4) {
        Some(4) => parse_v4(packet, wire),
        Some(6) => parse_v6(packet, wire),
        Some(_) => Err(SkipReason::BadIpHeader),
        None => Err(SkipReason::TruncatedIpHeader),
    }
}

fn parse_v4(packet: Packet<'_>, wire: WireLength) -> Result<Ip<'_>, SkipReason> {
    let fixed: &[u8; 20] = packet.bytes.first_chunk().ok_or(SkipReason::TruncatedIpHeader)?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    // With segmentation offload, a packet captured on the sending host may have a total length of
    // zero, which is not an error.
    if header_len < 20 || (total != 0 && total < header_len) {
        return Err(SkipReason::BadIpHeader);
    }
    let mut ip = Ip {
        src: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
        dst: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
        transport: Transport(fixed[9]),
        inner: None,
        fragment: None,
        ttl: fixed[8],
        ip_id: [
            total as u64,
            u64::from(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
        ],
        bad_checksum: false,
    };
    let offset = u16::from_be_bytes([fixed[6], fixed[7]]);
    let more = offset & 0x2000 != 0;
    let offset = offset & 0x1fff;
    if more || offset != 0 {
        let id = u32::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        ip.fragment = Some(Fragment { id, offset, transport: Transport(fixed[9]) });
    }
    // If the options are truncated, the addresses are known but not the ports.
    let Ok(header) = Ipv4HeaderSlice::from_slice(packet.bytes) else {
        return Ok(ip);
    };
    // The sum over a valid header, including its checksum, is all ones (RFC 1071).
    ip.bad_checksum = ones_complement(add_slice(0, header.slice())) != 0;
    let packet = if total == 0 { packet } else { limit_length(packet, total, wire) };
    let inner = packet.after(header_len);
    if ip.fragment.as_ref().is_none_or(|f| f.offset == 0) {
        (ip.transport, ip.inner) = follow_extensions(ip.transport, inner, |t| t == AH, &mut None)?;
    } else {
        ip.inner = inner;
    }
    Ok(ip)
}

fn parse_v6(packet: Packet<'_>, wire: WireLength) -> Result<Ip<'_>, SkipReason> {
    let header =
        Ipv6HeaderSlice::from_slice(packet.bytes).map_err(|_| SkipReason::TruncatedIpHeader)?;
    let length = usize::from(header.payload_length());
    let next = Transport(header.next_header().0);
    let inner = packet.after(header.slice().len());
    // A payload length of zero occurs in jumbograms (RFC 2675) and with segmentation offload.
    let inner = if length == 0 { inner } else { inner.map(|r| limit_length(r, length, wire)) };
    let label = u64::from(packet.u32(0).unwrap_or_default() & 0x000f_ffff);
    let mut fragment = None;
    let (transport, inner) = follow_extensions(next, inner, is_extension, &mut fragment)?;
    Ok(Ip {
        src: Ipv6Addr::from(header.source()).into(),
        dst: Ipv6Addr::from(header.destination()).into(),
        transport,
        inner,
        ip_id: [label << 32 | length as u64, fragment.as_ref().map_or(0, Fragment::number)],
        fragment,
        ttl: header.hop_limit(),
        bad_checksum: false,
    })
}

/// Limits a packet to the length in its header. With [`WireLength::Header`], the length on the wire
/// becomes exactly that length.
fn limit_length(packet: Packet<'_>, length: usize, wire: WireLength) -> Packet<'_> {
    let limited = packet.limited(length);
    match wire {
        WireLength::Frame => limited,
        WireLength::Header => Packet { wire: length, ..limited },
    }
}

const AH: Transport = Transport(51);
const FRAGMENT: Transport = Transport(44);

/// Returns whether a protocol number belongs to an extension header: hop-by-hop options, routing,
/// fragment, AH, destination options, mobility, HIP or shim6.
fn is_extension(transport: Transport) -> bool {
    matches!(transport.0, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140)
}

/// Follows a chain of extension headers to the transport protocol. The chain ends early at the end
/// of the captured bytes, and at a later fragment, which does not start with a header.
fn follow_extensions<'a>(
    mut transport: Transport,
    mut inner: Option<Packet<'a>>,
    is_extension: fn(Transport) -> bool,
    fragment: &mut Option<Fragment>,
) -> Result<(Transport, Option<Packet<'a>>), SkipReason> {
    for followed in 0..=MAX_EXTENSIONS {
        if !is_extension(transport) {
            return Ok((transport, inner));
        }
        if followed == MAX_EXTENSIONS {
            break;
        }
        let Some(packet) = inner else {
            return Ok((transport, None));
        };
        if transport == FRAGMENT {
            let Ok(header) = Ipv6FragmentHeaderSlice::from_slice(packet.bytes) else {
                return Ok((transport, None));
            };
            transport = Transport(header.next_header().0);
            inner = packet.after(header.slice().len());
            // A fragment header on a whole packet (atomic fragment, RFC 6946) does not fragment
            // anything.
            if header.is_fragmenting_payload() {
                let offset = header.fragment_offset().value();
                *fragment = Some(Fragment { id: header.identification(), offset, transport });
                if offset != 0 {
                    return Ok((transport, inner));
                }
            }
            continue;
        }
        let &[next, length, ..] = packet.bytes else {
            return Ok((transport, None));
        };
        // The length of AH is in units of four bytes, minus two (RFC 4302). The length of the
        // others is in units of eight bytes, minus one.
        let length = usize::from(length);
        let length = if transport == AH { (length + 2) * 4 } else { (length + 1) * 8 };
        let after = packet.after(length);
        if after.is_none() {
            return Ok((transport, None));
        }
        (transport, inner) = (Transport(next), after);
    }
    Err(SkipReason::TooManyExtensionHeaders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Observation;
    use crate::decode::sample::{
        DST, DST_6, SRC, SRC_6, fix_checksum, flow, frame, ip_packet, ipv4, ipv6, layer, packet,
        udp,
    };

    const UDP: u8 = 17;
    const HOP_BY_HOP: u8 = 0;
    const DESTINATION: u8 = 60;

    fn datagram() -> Vec<u8> {
        udp(50_000, 50_001, &[1, 2, 3, 4])
    }

    fn read(bytes: &[u8]) -> Observation {
        ip_packet(bytes).expect("an IP packet")
    }

    /// Returns the destination port and the length of the payload.
    fn port_of(seen: &Observation) -> Option<(u16, u32)> {
        flow(seen).map(|(tuple, payload)| (tuple.dport, payload))
    }

    /// Returns the transport of a packet whose ports are not known.
    fn portless(seen: &Observation) -> Option<u8> {
        match seen.body {
            Body::NoPorts { transport, .. } => Some(transport.0),
            _ => None,
        }
    }

    /// Returns the datagram of a fragment and, for a later fragment, the length of its payload in
    /// bytes.
    fn fragment(seen: &Observation) -> Option<(Datagram, Option<u32>)> {
        match seen.body {
            Body::Transport { fragment, .. } => fragment.map(|datagram| (datagram, None)),
            Body::Fragment { datagram, payload } => Some((datagram, Some(payload))),
            _ => None,
        }
    }

    /// Returns an IPv4 packet with its flags and fragment offset set.
    fn with_offset(flags_and_offset: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = ipv4(UDP, content);
        bytes[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
        fix_checksum(&mut bytes[..20]);
        bytes
    }

    #[test]
    fn the_fields_of_both_versions_are_found() {
        let seen = read(&ipv4(UDP, &datagram()));
        let (tuple, payload) = flow(&seen).expect("a flow");
        assert_eq!((tuple.src, tuple.dst, tuple.transport.0), (SRC, DST, UDP));
        assert_eq!((tuple.sport, tuple.dport, payload), (50_000, 50_001, 4));
        assert_eq!((seen.link.ttl, seen.bad_checksum), (64, false));
        let seen = read(&ipv6(UDP, &datagram()));
        let (tuple, payload) = flow(&seen).expect("a flow");
        assert_eq!((tuple.src, tuple.dst, tuple.transport.0), (SRC_6, DST_6, UDP));
        assert_eq!((tuple.dport, payload, seen.link.ttl), (50_001, 4, 64));
    }

    #[test]
    fn the_announced_version_has_to_be_that_of_the_packet() {
        let four = ipv4(UDP, &datagram());
        let six = ipv6(UDP, &datagram());
        let as_4 = |bytes: &[u8]| layer(|p, l| decode(p, Some(4), l), packet(bytes)).0.is_ok();
        let as_6 = |bytes: &[u8]| layer(|p, l| decode(p, Some(6), l), packet(bytes)).0.is_ok();
        assert_eq!((as_4(&four), as_4(&six)), (true, false));
        assert_eq!((as_6(&four), as_6(&six)), (false, true));
        for first in [0x00, 0x35, 0x55, 0x75, 0xf5] {
            let bytes = [&[first][..], &four[1..]].concat();
            assert_eq!(ip_packet(&bytes), Err(SkipReason::BadIpHeader), "{first:#04x}");
        }
        assert_eq!(ip_packet(&[]), Err(SkipReason::TruncatedIpHeader));
    }

    #[test]
    fn a_truncated_ipv4_packet_yields_what_it_contains() {
        let bytes = ipv4(UDP, &datagram());
        for kept in 0..=bytes.len() {
            let result = frame(101, &bytes, kept);
            match kept {
                0..20 => assert_eq!(result, Err(SkipReason::TruncatedIpHeader), "{kept}"),
                20..24 => assert_eq!(portless(&result.expect("addresses")), Some(UDP), "{kept}"),
                _ => assert_eq!(port_of(&result.expect("ports")), Some((50_001, 4)), "{kept}"),
            }
        }
    }

    #[test]
    fn a_truncated_ipv6_packet_yields_what_it_contains() {
        let bytes = ipv6(DESTINATION, &[&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &datagram()].concat());
        for kept in 0..=bytes.len() {
            let result = frame(101, &bytes, kept);
            match kept {
                0..40 => assert_eq!(result, Err(SkipReason::TruncatedIpHeader), "{kept}"),
                // The protocol is not known before the extension header is complete.
                40..48 => assert_eq!(portless(&result.expect("addresses")), Some(DESTINATION)),
                48..52 => assert_eq!(portless(&result.expect("addresses")), Some(UDP), "{kept}"),
                _ => assert_eq!(port_of(&result.expect("ports")), Some((50_001, 4)), "{kept}"),
            }
        }
    }

    #[test]
    fn an_impossible_length_of_an_ipv4_header_is_bad() {
        // RFC 791, 3.1: the header has at least five words, and the packet is at least as long as
        // its header.
        let mut bytes = ipv4(UDP, &datagram());
        bytes[0] = 0x44;
        assert_eq!(ip_packet(&bytes), Err(SkipReason::BadIpHeader));
        let mut bytes = ipv4(UDP, &datagram());
        bytes[3] = 19;
        assert_eq!(ip_packet(&bytes), Err(SkipReason::BadIpHeader));
        bytes[3] = 20;
        assert_eq!(portless(&read(&bytes)), Some(UDP));
        // With segmentation offload, the total length is zero, and the packet extends to the end of
        // the frame.
        bytes[3] = 0;
        fix_checksum(&mut bytes[..20]);
        assert_eq!(port_of(&read(&bytes)), Some((50_001, 4)));
    }

    #[test]
    fn truncated_options_hide_the_ports_and_not_the_addresses() {
        // RFC 791, 3.1: a header of six words, whose last one is an option (no operation).
        let mut bytes = ipv4(UDP, &[&[1, 1, 1, 1][..], &datagram()].concat());
        bytes[0] = 0x46;
        let seen = frame(101, &bytes, 23).expect("the addresses are there");
        assert_eq!(portless(&seen), Some(UDP));
        let seen = frame(101, &bytes, 28).expect("the ports are there");
        assert_eq!(flow(&seen).map(|(tuple, _)| tuple.dport), Some(50_001));
    }

    #[test]
    fn padding_after_a_packet_is_not_payload() {
        let four = [&ipv4(132, &[7; 14])[..], &[0; 12]].concat();
        assert_eq!(port_of(&read(&four)), Some((0x0707, 2)));
        let six = [&ipv6(132, &[7; 14])[..], &[0; 12]].concat();
        assert_eq!(port_of(&read(&six)), Some((0x0707, 2)));
        // RFC 2675: if the payload length is zero, the packet extends to the end of the frame.
        let mut jumbo = ipv6(132, &[7; 14]);
        jumbo[4..6].fill(0);
        assert_eq!(port_of(&read(&jumbo)), Some((0x0707, 2)));
    }

    #[test]
    fn a_wrong_checksum_is_recorded_and_the_packet_is_kept() {
        let mut bytes = ipv4(UDP, &datagram());
        bytes[10] ^= 1;
        let seen = read(&bytes);
        assert!(seen.bad_checksum);
        assert_eq!(port_of(&seen), Some((50_001, 4)));
        // A checksum of zero is wrong too, because IPv4 always has a header checksum.
        bytes[10..12].fill(0);
        assert!(read(&bytes).bad_checksum);
    }

    #[test]
    fn a_first_fragment_has_ports_and_a_later_one_only_its_datagram() {
        // RFC 791, 3.1: more fragments is 0x2000, do not fragment is 0x4000.
        let (first, none) = fragment(&read(&with_offset(0x2000, &datagram()))).expect("a fragment");
        assert_eq!((first.src, first.dst, first.id, none), (SRC, DST, 0x1234, None));
        assert_eq!(port_of(&read(&with_offset(0x2000, &datagram()))), Some((50_001, 4)));
        for later in [0x2001, 0x0001, 0x1fff] {
            let seen = read(&with_offset(later, &[9; 16]));
            assert_eq!(fragment(&seen), Some((first, Some(16))), "{later:#06x}");
        }
        for whole in [0x0000, 0x4000] {
            assert_eq!(fragment(&read(&with_offset(whole, &datagram()))), None, "{whole:#06x}");
        }
        // The capture ends after the header of a later fragment.
        let seen = frame(101, &with_offset(0x0001, &[9; 16]), 20).expect("a fragment");
        assert_eq!(fragment(&seen), Some((first, Some(16))));
    }

    #[test]
    fn an_ipv6_fragment_is_known_by_its_extension_header() {
        // RFC 8200, 4.5: next header, reserved, offset (13 bits), reserved, M, identification.
        let with = |offset: u16, content: &[u8]| {
            let [high, low] = offset.to_be_bytes();
            ipv6(44, &[&[UDP, 0, high, low, 0, 0, 0, 7][..], content].concat())
        };
        let (first, none) = fragment(&read(&with(0x0001, &datagram()))).expect("a fragment");
        assert_eq!((first.id, first.transport.0, none), (7, UDP, None));
        let later = fragment(&read(&with(0x0008, &[9; 16])));
        assert_eq!(later, Some((first, Some(16))));
        // An atomic fragment (RFC 6946) is a whole packet.
        let atomic = read(&with(0, &datagram()));
        assert_eq!((fragment(&atomic), port_of(&atomic)), (None, Some((50_001, 4))));
    }

    #[test]
    fn extension_headers_are_skipped_in_the_unit_of_each() {
        // RFC 8200, 4.3: the length is in units of eight bytes, without the first unit. RFC 4302,
        // 2.2: the length of AH is in units of four bytes, minus two.
        let ah = [&[UDP, 4][..], &[0; 22], &datagram()].concat();
        let options = [&[51, 1][..], &[0; 14], &ah].concat();
        for kind in [HOP_BY_HOP, 43, DESTINATION, 135, 139, 140] {
            assert_eq!(port_of(&read(&ipv6(kind, &options))), Some((50_001, 4)), "{kind}");
        }
        // AH is the only extension header in IPv4. Protocol 60 (destination options) is not one.
        assert_eq!(port_of(&read(&ipv4(51, &ah))), Some((50_001, 4)));
        let seen = read(&ipv4(DESTINATION, &options));
        assert_eq!(flow(&seen).map(|(tuple, _)| tuple.transport.0), Some(DESTINATION));
        // ESP (RFC 4303) hides everything that follows.
        let seen = read(&ipv6(50, &[0; 32]));
        assert_eq!(
            flow(&seen).map(|(tuple, payload)| (tuple.transport.0, payload)),
            Some((50, 32))
        );
    }

    #[test]
    fn extension_headers_are_followed_up_to_the_limit() {
        let chain = |headers: usize| {
            let mut bytes = [DESTINATION, 0, 1, 4, 0, 0, 0, 0].repeat(headers - 1);
            bytes.extend([UDP, 0, 1, 4, 0, 0, 0, 0]);
            let mut packet = ipv6(DESTINATION, &[&bytes[..], &datagram()].concat());
            // The length of a jumbogram is that of the frame.
            packet[4..6].fill(0);
            packet
        };
        for headers in [17, MAX_EXTENSIONS] {
            assert_eq!(port_of(&read(&chain(headers))), Some((50_001, 4)));
        }
        let result = ip_packet(&chain(MAX_EXTENSIONS + 1));
        assert_eq!(result, Err(SkipReason::TooManyExtensionHeaders));
    }

    #[test]
    fn a_fingerprint_survives_a_hop_and_differs_between_packets() {
        let of = |bytes: &[u8]| read(bytes).fingerprint;
        let bytes = ipv4(UDP, &datagram());
        let mut routed = bytes.clone();
        // Routers may change the DSCP and decrement the TTL, so the header checksum changes too.
        (routed[1], routed[8]) = (0x10, 63);
        fix_checksum(&mut routed[..20]);
        assert_eq!(of(&bytes), of(&routed));
        assert_ne!(of(&bytes), 0);
        for at in [4, 5, 12, 15, 16, 19, 20, 31] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(of(&bytes), of(&other), "byte {at}");
        }
        let bytes = ipv6(UDP, &datagram());
        let mut routed = bytes.clone();
        routed[7] = 63;
        assert_eq!(of(&bytes), of(&routed));
        // These bytes are in the flow label, in both halves of both addresses, and in the datagram.
        for at in [3, 8, 23, 24, 39, 40, 51] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(of(&bytes), of(&other), "byte {at}");
        }
    }

    #[test]
    fn a_fingerprint_is_that_of_the_packet_before_its_card_computed_the_checksum() {
        let at = |transport: Transport, at: usize| {
            let mut bytes = [7; 40];
            let of = |bytes: &[u8]| fingerprint_of(1, [60, 5 << 16], transport, bytes);
            let before = of(&bytes);
            bytes[at] ^= 1;
            before == of(&bytes)
        };
        for place in 0..20 {
            assert_eq!(at(Transport::TCP, place), [16, 17].contains(&place), "{place}");
            assert_eq!(at(Transport::UDP, place), [6, 7].contains(&place), "{place}");
            assert!(!at(Transport(132), place), "{place}");
        }
    }

    #[test]
    fn the_options_of_tcp_count_only_if_the_packet_has_no_identification() {
        let bytes = |last: u8| [&[1; 30][..], &[last]].concat();
        let of = |id: u64, last| fingerprint_of(1, [40, id << 16], Transport::TCP, &bytes(last));
        assert_ne!(of(0, 1), of(0, 2));
        assert_eq!(of(5, 1), of(5, 2));
        assert_ne!(of(5, 1), of(6, 1));
    }

    #[test]
    fn the_payload_of_udp_counts_only_if_the_datagram_has_no_identification() {
        let bytes = |at: usize| {
            let mut bytes = [1; 600];
            bytes[at] = 2;
            bytes
        };
        let of = |id: u64, at| fingerprint_of(1, [620, id << 16], Transport::UDP, &bytes(at));
        let all: std::collections::BTreeSet<u64> = (20..512).map(|at| of(0, at)).collect();
        assert_eq!(all.len(), 512 - 20);
        // These bytes are beyond those that are hashed.
        assert_eq!(of(0, 598), of(0, 599));
        assert_eq!(of(5, 20), of(5, 511));
        // The checksum does not count, whether the datagram has an identification or not.
        assert_eq!(of(0, 6), of(0, 7));
    }

    #[test]
    fn in_a_tunnel_the_header_says_how_long_a_packet_was() {
        let cut = packet(&[0; 10]);
        assert_eq!(limit_length(cut, 30, WireLength::Frame).wire, 10);
        assert_eq!(limit_length(cut, 30, WireLength::Header).wire, 30);
        for wire in [WireLength::Frame, WireLength::Header] {
            assert_eq!(limit_length(cut, 4, wire), packet(&[0; 4]));
        }
    }
}
