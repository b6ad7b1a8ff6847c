//! IPv4 (RFC 791) and IPv6 (RFC 8200) with their extension headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice};

use super::{Body, Observation, Packet, sign, transport};
use crate::model::{SkipReason, Transport};

/// IPv6 extension headers followed before a packet is given up.
const MAX_EXTENSIONS: usize = 16;

/// An IP packet down to where its transport starts.
pub(super) struct Ip<'a> {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub transport: Transport,
    /// The transport header and what follows; none where the capture ends before it.
    pub rest: Option<Packet<'a>>,
    pub fragment: Option<Fragment>,
    pub bad_checksum: bool,
}

/// The place of a packet among the fragments of a datagram.
pub(super) struct Fragment {
    pub id: u32,
    /// The protocol of the fragmented part, which all its fragments name.
    pub transport: Transport,
    pub first: bool,
}

/// Decodes an IP packet. `version` is what the layer below announced, if it announces one.
pub(super) fn decode(
    packet: Packet<'_>,
    version: Option<u8>,
    seen: &mut Observation,
) -> Result<(), SkipReason> {
    if let (Some(version), Some(first)) = (version, packet.bytes.first())
        && first >> 4 != version
    {
        return Err(SkipReason::BadIpHeader);
    }
    let ip = parse(packet)?;
    seen.bad_checksum = ip.bad_checksum;
    seen.body = match (&ip.fragment, ip.rest) {
        (Some(Fragment { id, first: false, transport }), rest) => Body::Fragment {
            src: ip.src,
            dst: ip.dst,
            transport: *transport,
            id: *id,
            payload: rest.map_or(0, |r| r.wire as u32),
        },
        (_, Some(rest)) => transport::decode(&ip, rest),
        (_, None) => Body::Portless { src: ip.src, dst: ip.dst, transport: ip.transport },
    };
    if let Body::Segment { signs, .. } = &mut seen.body {
        *signs |= if seen.broadcast { sign::BROADCAST } else { sign::UNICAST };
    }
    Ok(())
}

/// Reads the headers of an IP packet of either version.
pub(super) fn parse(packet: Packet<'_>) -> Result<Ip<'_>, SkipReason> {
    match packet.bytes.first().map(|b| b >> 4) {
        Some(4) => parse_v4(packet),
        Some(6) => parse_v6(packet),
        Some(_) => Err(SkipReason::BadIpHeader),
        None => Err(SkipReason::TruncatedIpHeader),
    }
}

fn parse_v4(packet: Packet<'_>) -> Result<Ip<'_>, SkipReason> {
    let fixed: &[u8; 20] = packet.bytes.first_chunk().ok_or(SkipReason::TruncatedIpHeader)?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    // A total length of zero is what segmentation offload leaves behind on a capturing host.
    if header_len < 20 || (total != 0 && total < header_len) {
        return Err(SkipReason::BadIpHeader);
    }
    let mut ip = Ip {
        src: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
        dst: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
        transport: Transport(fixed[9]),
        rest: None,
        fragment: None,
        bad_checksum: false,
    };
    let offset = u16::from_be_bytes([fixed[6], fixed[7]]);
    let (more, offset) = (offset & 0x2000 != 0, offset & 0x1fff);
    if more || offset != 0 {
        let id = u32::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        ip.fragment = Some(Fragment { id, first: offset == 0, transport: Transport(fixed[9]) });
    }
    // Options that the capture cut off leave the addresses, but no ports.
    let Ok(header) = Ipv4HeaderSlice::from_slice(packet.bytes) else {
        return Ok(ip);
    };
    ip.bad_checksum = header.to_header().calc_header_checksum() != header.header_checksum();
    let packet = if total == 0 { packet } else { packet.limited(total) };
    let rest = packet.after(header_len);
    if ip.fragment.as_ref().is_none_or(|f| f.first) {
        (ip.transport, ip.rest) = follow(ip.transport, rest, |t| t == AH, &mut None)?;
    } else {
        ip.rest = rest;
    }
    Ok(ip)
}

fn parse_v6(packet: Packet<'_>) -> Result<Ip<'_>, SkipReason> {
    let header =
        Ipv6HeaderSlice::from_slice(packet.bytes).map_err(|_| SkipReason::TruncatedIpHeader)?;
    let (length, next) = (usize::from(header.payload_length()), Transport(header.next_header().0));
    let rest = packet.after(header.slice().len());
    // A payload length of zero belongs to jumbograms (RFC 2675) and segmentation offload.
    let rest = if length == 0 { rest } else { rest.map(|r| r.limited(length)) };
    let mut fragment = None;
    let (transport, rest) = follow(next, rest, is_extension, &mut fragment)?;
    Ok(Ip {
        src: Ipv6Addr::from(header.source()).into(),
        dst: Ipv6Addr::from(header.destination()).into(),
        transport,
        rest,
        fragment,
        bad_checksum: false,
    })
}

const AH: Transport = Transport(51);
const FRAGMENT: Transport = Transport(44);

/// Hop-by-hop options, routing, fragment, AH, destination options, mobility, HIP, shim6.
fn is_extension(transport: Transport) -> bool {
    matches!(transport.0, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140)
}

/// Follows a chain of extension headers to the transport. The chain ends early where the capture
/// does, and at a later fragment, whose bytes are no header.
fn follow<'a>(
    mut transport: Transport,
    mut rest: Option<Packet<'a>>,
    extends: fn(Transport) -> bool,
    fragment: &mut Option<Fragment>,
) -> Result<(Transport, Option<Packet<'a>>), SkipReason> {
    for _ in 0..MAX_EXTENSIONS {
        if !extends(transport) {
            return Ok((transport, rest));
        }
        let Some(packet) = rest else {
            return Ok((transport, None));
        };
        if transport == FRAGMENT {
            let Ok(header) = Ipv6FragmentHeaderSlice::from_slice(packet.bytes) else {
                return Ok((transport, None));
            };
            transport = Transport(header.next_header().0);
            rest = packet.after(header.slice().len());
            // A fragment header on a whole packet (RFC 6946) fragments nothing.
            if header.is_fragmenting_payload() {
                let first = header.fragment_offset().value() == 0;
                *fragment = Some(Fragment { id: header.identification(), first, transport });
                if !first {
                    return Ok((transport, rest));
                }
            }
            continue;
        }
        let &[next, length, ..] = packet.bytes else {
            return Ok((transport, None));
        };
        // AH counts in units of four bytes, less two (RFC 4302); the others in eights, less one.
        let length = usize::from(length);
        let length = if transport == AH { (length + 2) * 4 } else { (length + 1) * 8 };
        let after = packet.after(length);
        if after.is_none() {
            return Ok((transport, None));
        }
        (transport, rest) = (Transport(next), after);
    }
    Err(SkipReason::TooManyExtensionHeaders)
}
