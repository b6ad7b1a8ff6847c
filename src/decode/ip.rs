//! IPv4 (RFC 791) and IPv6 (RFC 8200) with their extension headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::checksum::u64_16bit_word::{add_slice, ones_complement};
use etherparse::{Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};

use super::{Body, Datagram, DecodeState, IpHeader, Next, Packet, flag, transport, tunnel};
use crate::model::{SkipReason, Transport};

/// The maximum number of IPv6 extension headers that are followed.
const MAX_EXTENSIONS: usize = 16;

/// An IP packet that is parsed up to the start of its transport header.
struct Ip<'a> {
    src: IpAddr,
    dst: IpAddr,
    transport: Transport,
    /// The transport header and what follows; `None` if the packet is truncated before it.
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
    /// The protocol of the fragmented part, which every fragment names.
    transport: Transport,
    /// Fragment offset in units of eight bytes; zero for the first fragment.
    offset: u16,
}

impl Fragment {
    fn number(&self) -> u64 {
        u64::from(self.id) << 32 | u64::from(self.offset)
    }
}

/// Decodes an IP packet. `version` is the version that the layer below announced, if any.
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

/// Returns a hash that all sightings of one packet have in common. Time to live, traffic class and
/// header checksum are left out because they may change on the way. Only the start of the packet is
/// hashed, because it is present even if the capture truncated the packet.
fn fingerprint(ip: &Ip<'_>) -> u64 {
    let addresses = match (ip.src, ip.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            u64::from(u32::from(src)) << 32 | u64::from(u32::from(dst))
        }
        (src, dst) => {
            let halves = |address: IpAddr| match address {
                IpAddr::V4(v4) => (0, u64::from(u32::from(v4))),
                IpAddr::V6(v6) => ((u128::from(v6) >> 64) as u64, u128::from(v6) as u64),
            };
            let (a, b) = halves(src);
            let (c, d) = halves(dst);
            mix(a, b) ^ mix(c, d).rotate_left(32)
        }
    };
    fingerprint_of(addresses, ip.ip_id, ip.transport, ip.inner.map_or(&[][..], |inner| inner.bytes))
}

/// Computes the hash of [`fingerprint`] from its parts: the addresses as a number, [`Ip`]'s
/// `ip_id`, and the bytes above IP.
pub(super) fn fingerprint_of(
    addresses: u64,
    ip_id: [u64; 2],
    transport: Transport,
    bytes: &[u8],
) -> u64 {
    /// Number of bytes that are always hashed: a TCP header, with its sequence number and checksum.
    const COMPARED: usize = 20;
    /// Number of bytes hashed if the packet has no identification: a TCP header with its options.
    const MORE: usize = 60;
    let mut start = [0; 24];
    match bytes.first_chunk::<COMPARED>() {
        Some(complete) => start[..COMPARED].copy_from_slice(complete),
        None => start[..bytes.len()].copy_from_slice(bytes),
    }
    start[23] = transport.0;
    let words =
        [0, 8, 16].map(|at| start[at..].first_chunk().map_or(0, |w| u64::from_le_bytes(*w)));
    let more = match ip_id[1] >> 16 {
        0 => bytes.get(COMPARED..bytes.len().min(MORE)).unwrap_or_default(),
        _ => &[],
    };
    let more = more.chunks(8).fold(0, |all, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(all, u64::from_le_bytes(word))
    });
    let header = mix(addresses, ip_id[0]) ^ ip_id[1];
    mix(header, words[0] ^ mix(words[1], words[2]) ^ more).max(1)
}

/// Combines two words into one that depends on every bit of both. The result is the XOR of the two
/// halves of their product.
fn mix(a: u64, b: u64) -> u64 {
    // The constants are digits of pi. They prevent a word of zero from cancelling the other word.
    let product = u128::from(a ^ 0x243f_6a88_85a3_08d3) * u128::from(b ^ 0x1319_8a2e_0370_7344);
    product as u64 ^ (product >> 64) as u64
}

/// The source of the length of an IP packet on the wire.
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
    // zero.
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

/// Limits a packet to the length in its header. Its length on the wire is never greater.
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

/// Follows a chain of extension headers to the transport protocol. The chain ends early where the
/// capture ends, and at a later fragment, which does not start with a header.
fn follow_extensions<'a>(
    mut transport: Transport,
    mut inner: Option<Packet<'a>>,
    is_extension: fn(Transport) -> bool,
    fragment: &mut Option<Fragment>,
) -> Result<(Transport, Option<Packet<'a>>), SkipReason> {
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(transport) {
            return Ok((transport, inner));
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
