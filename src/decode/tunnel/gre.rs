//! Generic routing encapsulation (RFC 2784) with key and sequence number (RFC 2890), version 1 for
//! PPTP (RFC 2637), and the protocols built on it: NVGRE (RFC 7637) and ERSPAN
//! (draft-foschiano-erspan).

use std::net::{IpAddr, Ipv4Addr};

use super::{IpHeader, Next, Packet, Tunnel, TunnelHeader};
use crate::decode::WlanForm;

const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
/// The flag for an acknowledgement number, in version 1 only.
const ACKNOWLEDGES: u16 = 0x0080;

/// The IP protocol number of GRE.
const GRE: u8 = 47;

/// Returns whether a packet is a router's GRE keepalive. A keepalive contains the reply that the
/// peer is expected to return: a GRE packet without content (protocol 0). That inner packet has the
/// address of the peer as its source, but the peer did not send it.
pub(super) fn is_keepalive(ip: &IpHeader, packet: Packet<'_>) -> bool {
    if ip.transport.0 != GRE || packet.u16(2) != Some(0x0800) || packet.u16(0) != Some(0) {
        return false;
    }
    let Some(inner) = packet.after(4) else { return false };
    let address = |at: usize| {
        let bytes = inner.bytes.get(at..)?.first_chunk::<4>()?;
        Some(IpAddr::from(Ipv4Addr::from(*bytes)))
    };
    let header = inner.bytes.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    (address(12), address(16)) == (Some(ip.dst), Some(ip.src))
        && inner.bytes.get(9) == Some(&GRE)
        && inner.u16(header + 2) == Some(0)
}

pub(super) fn decode(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    let flags = packet.u16(0)?;
    let protocol = packet.u16(2)?;
    let version = flags & 7;
    // Packets with source routes (RFC 1701) are rejected. They are obsolete, and their length
    // cannot be trusted.
    if version > 1 || flags & ROUTING != 0 {
        return None;
    }
    let mut length = 4;
    if flags & CHECKSUM != 0 {
        length += 4;
    }
    let key = if flags & KEY != 0 { packet.u32(length) } else { None };
    for (bit, size) in [(KEY, 4), (SEQUENCE, 4), (ACKNOWLEDGES, 4)] {
        if flags & bit != 0 && (bit != ACKNOWLEDGES || version == 1) {
            length += size;
        }
    }
    let inner = packet.after(length)?;
    let gre = |id, next| Some(TunnelHeader { tunnel: Tunnel::Gre, id, next });
    match protocol {
        // Version 1 carries PPP. Its key consists of the payload length and the call ID.
        0x880b if version == 1 => gre(key.map(|k| k & 0xffff), Next::Ppp(framed(inner))),
        _ if version == 1 => None,
        0x880b => gre(key, Next::Ppp(framed(inner))),
        0x6558 => match key {
            Some(key) if flags & (CHECKSUM | SEQUENCE) == 0 => {
                let next = Next::Ethernet(inner);
                Some(TunnelHeader { tunnel: Tunnel::Nvgre, id: Some(key >> 8), next })
            }
            _ => gre(key, Next::Ethernet(inner)),
        },
        // ERSPAN type I has neither a header of its own nor a sequence number.
        0x88be if flags & SEQUENCE == 0 => erspan(None, Some(inner)),
        0x88be => erspan(Some(u32::from(inner.u16(2)? & 0x3ff)), inner.after(8)),
        0x22eb => {
            let optional = inner.bytes.get(11)? & 1 != 0;
            let frame = inner.after(if optional { 20 } else { 12 })?;
            let session = Some(u32::from(inner.u16(2)? & 0x3ff));
            // ERSPAN type III declares its content: 0 is Ethernet, 2 is IP.
            match inner.u16(10)? >> 10 & 0x1f {
                2 => Some(TunnelHeader {
                    tunnel: Tunnel::Erspan,
                    id: session,
                    next: Next::Ip(None, frame),
                }),
                _ => erspan(session, Some(frame)),
            }
        }
        // Cisco WCCP (redirected web traffic) has a header of four bytes in version 2 only.
        0x883e => match inner.bytes.first()? >> 4 {
            4 => gre(key, Next::Ip(Some(4), inner)),
            _ => gre(key, Next::Ip(Some(4), inner.after(4)?)),
        },
        // Aruba access points tunnel the IEEE 802.11 frames of their clients under these numbers,
        // in steps of 0x10.
        0x8200..=0x8370 if protocol & 0xf == 0 => gre(key, Next::Wlan(inner, WlanForm::Plain)),
        // In GRE, Cisco metadata starts with the EtherType of the content, followed by six more
        // bytes.
        0x8909 => gre(key, Next::Ether(inner.u16(0)?, inner.after(8)?)),
        0x0800 | 0x86dd | 0x8100 | 0x88a8 | 0x8847 | 0x8848 | 0x88e5 | 0x894f => {
            gre(key, Next::Ether(protocol, inner))
        }
        _ => None,
    }
}

fn erspan(session: Option<u32>, frame: Option<Packet<'_>>) -> Option<TunnelHeader<'_>> {
    Some(TunnelHeader { tunnel: Tunnel::Erspan, id: session, next: Next::Ethernet(frame?) })
}

/// Returns a PPP frame without the address and control bytes that may precede it.
fn framed(packet: Packet<'_>) -> Packet<'_> {
    packet.after(2).filter(|_| packet.bytes.starts_with(&[0xff, 0x03])).unwrap_or(packet)
}
