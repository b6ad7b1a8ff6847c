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
const VERSION: u16 = 0x0007;

/// The IP protocol number of GRE.
const GRE: u8 = 47;

/// Returns the length of a GRE header with these flags, without source routes. The acknowledgement
/// number exists only in version 1.
fn header_length(flags: u16) -> usize {
    let acknowledges = if flags & VERSION == 1 { ACKNOWLEDGES } else { 0 };
    let optional = [CHECKSUM, KEY, SEQUENCE, acknowledges];
    4 + 4 * optional.into_iter().filter(|bit| flags & bit != 0).count()
}

/// Returns whether a packet is a router's GRE keepalive. A keepalive contains the reply that the
/// peer is expected to return: a GRE packet without content (protocol 0). That inner packet has the
/// address of the peer as its source, but the peer did not send it. Both headers may have a key, a
/// checksum and a sequence number.
pub(super) fn is_keepalive(ip: &IpHeader, packet: Packet<'_>) -> bool {
    let Some(flags) = packet.u16(0) else { return false };
    if ip.transport.0 != GRE || packet.u16(2) != Some(0x0800) || flags & (ROUTING | VERSION) != 0 {
        return false;
    }
    let Some(inner) = packet.after(header_length(flags)) else { return false };
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
    let version = flags & VERSION;
    // Packets with source routes (RFC 1701) are rejected. They are obsolete, and their length
    // cannot be trusted.
    if version > 1 || flags & ROUTING != 0 {
        return None;
    }
    let key_at = if flags & CHECKSUM != 0 { 8 } else { 4 };
    let key = if flags & KEY != 0 { packet.u32(key_at) } else { None };
    let inner = packet.after(header_length(flags))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::{DST, SRC, ethernet, ipv4, packet};
    use crate::model::Transport;

    /// Returns a GRE packet (RFC 2784, 2.1; RFC 2890, 2): flags and version, protocol, then `rest`.
    fn gre(flags: u16, protocol: u16, rest: &[u8]) -> Vec<u8> {
        [&flags.to_be_bytes()[..], &protocol.to_be_bytes(), rest].concat()
    }

    fn read(bytes: &[u8]) -> Option<TunnelHeader<'_>> {
        decode(packet(bytes))
    }

    fn header(tunnel: Tunnel, id: Option<u32>, next: Next<'_>) -> Option<TunnelHeader<'_>> {
        Some(TunnelHeader { tunnel, id, next })
    }

    #[test]
    fn each_flag_adds_its_field() {
        let key = [0, 0, 0, 9];
        let cases: [(u16, usize, Option<u32>); 6] = [
            (0, 0, None),
            (CHECKSUM, 4, None),
            (SEQUENCE, 4, None),
            (KEY, 4, Some(9)),
            (CHECKSUM | KEY | SEQUENCE, 12, Some(9)),
            // In version 0, no field belongs to this flag of version 1.
            (ACKNOWLEDGES, 0, None),
        ];
        for (flags, fields, id) in cases {
            let mut rest = key.repeat(fields / 4);
            rest.push(0x45);
            let bytes = gre(flags, 0x0800, &rest);
            let next = Next::Ether(0x0800, packet(&[0x45]));
            assert_eq!(read(&bytes), header(Tunnel::Gre, id, next), "{flags:#06x}");
            for kept in 0..4 + fields {
                assert_eq!(read(&bytes[..kept]), None, "{flags:#06x}, {kept} bytes");
            }
        }
    }

    #[test]
    fn routes_and_later_versions_are_not_read() {
        for flags in [ROUTING, 2, 7] {
            assert_eq!(read(&gre(flags, 0x0800, &[0x45; 40])), None, "{flags:#06x}");
        }
        assert!(read(&gre(0, 0x0800, &[0x45; 40])).is_some());
        assert_eq!(read(&gre(0, 0x0806, &[0; 40])), None);
    }

    #[test]
    fn version_one_carries_only_ppp_and_has_the_call_in_its_key() {
        // RFC 2637, 4.1: the key consists of the payload length and the call ID.
        let rest = [0, 5, 0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0x03, 0x00, 0x21, 0x45];
        let bytes = gre(KEY | SEQUENCE | ACKNOWLEDGES | 1, 0x880b, &rest);
        let next = Next::Ppp(packet(&rest[14..]));
        assert_eq!(read(&bytes), header(Tunnel::Gre, Some(0x1234), next));
        assert_eq!(read(&gre(KEY | 1, 0x0800, &rest)), None);
        // The address and control bytes of PPP may be absent.
        let bytes = gre(0, 0x880b, &[0x00, 0x21]);
        let next = Next::Ppp(packet(&[0x00, 0x21]));
        assert_eq!(read(&bytes), header(Tunnel::Gre, None, next));
    }

    #[test]
    fn ethernet_with_nothing_but_a_key_is_nvgre() {
        // RFC 7637, 3.2: the identifier (24 bits) and the flow (8 bits).
        let rest = [0x12, 0x34, 0x56, 0x78, 7];
        let bytes = gre(KEY, 0x6558, &rest);
        let next = || Next::Ethernet(packet(&[7]));
        assert_eq!(read(&bytes), header(Tunnel::Nvgre, Some(0x12_3456), next()));
        let with_sequence = gre(KEY | SEQUENCE, 0x6558, &[0, 0, 0, 9, 0, 0, 0, 1, 7]);
        assert_eq!(read(&with_sequence), header(Tunnel::Gre, Some(9), next()));
        let bytes = gre(0, 0x6558, &[7]);
        assert_eq!(read(&bytes), header(Tunnel::Gre, None, next()));
    }

    #[test]
    fn the_types_of_erspan_differ_in_their_headers() {
        // draft-foschiano-erspan, 4: the session has ten bits.
        let frame = Next::Ethernet(packet(&[7]));
        assert_eq!(read(&gre(0, 0x88be, &[7])), header(Tunnel::Erspan, None, frame));
        let sequence = [0, 0, 0, 1];
        let second = [&sequence[..], &[0x10, 0x05, 0xff, 0xff], &[0; 4], &[7]].concat();
        let bytes = gre(SEQUENCE, 0x88be, &second);
        let frame = Next::Ethernet(packet(&[7]));
        assert_eq!(read(&bytes), header(Tunnel::Erspan, Some(0x3ff), frame));
        assert_eq!(read(&bytes[..15]), None);
        // ERSPAN type III: the O bit announces an 8-byte subheader, and the FT field (5 bits) is
        // the type of the inner frame.
        let third = |kind: u8, optional: u8| {
            let fixed = [0x20, 0, 0xfc, 0x03, 0, 0, 0, 0, 0, 0, kind << 2, optional];
            let more = vec![0; usize::from(optional) * 8];
            gre(SEQUENCE, 0x22eb, &[&sequence[..], &fixed, &more, &[7]].concat())
        };
        for optional in [0, 1] {
            let frame = Next::Ethernet(packet(&[7]));
            let bytes = third(0, optional);
            assert_eq!(read(&bytes), header(Tunnel::Erspan, Some(3), frame));
            assert_eq!(read(&bytes[..bytes.len() - 2]), None);
            let ip = Next::Ip(None, packet(&[7]));
            assert_eq!(read(&third(2, optional)), header(Tunnel::Erspan, Some(3), ip));
        }
    }

    #[test]
    fn redirected_web_traffic_may_have_a_header_of_its_own() {
        // WCCP version 1 has no header; version 2 has one of four bytes.
        let ip = [0x45, 0, 0, 20];
        let first = gre(0, 0x883e, &ip);
        let next = || Next::Ip(Some(4), packet(&ip));
        assert_eq!(read(&first), header(Tunnel::Gre, None, next()));
        let second = gre(0, 0x883e, &[&[0, 0, 0, 0][..], &ip].concat());
        assert_eq!(read(&second), header(Tunnel::Gre, None, next()));
        assert_eq!(read(&gre(0, 0x883e, &[])), None);
        assert_eq!(read(&gre(0, 0x883e, &[0, 0, 0])), None);
    }

    #[test]
    fn the_numbers_of_access_points_go_in_steps() {
        for protocol in [0x8200, 0x8210, 0x8370] {
            let bytes = gre(0, protocol, &[8, 0]);
            let next = Next::Wlan(packet(&[8, 0]), WlanForm::Plain);
            assert_eq!(read(&bytes), header(Tunnel::Gre, None, next), "{protocol:#06x}");
        }
        for protocol in [0x81f0, 0x8201, 0x8380] {
            assert_eq!(read(&gre(0, protocol, &[8, 0])), None, "{protocol:#06x}");
        }
    }

    #[test]
    fn cisco_metadata_names_its_content_first() {
        let bytes = gre(0, 0x8909, &[0x86, 0xdd, 0, 0, 0, 0, 0, 0, 0x60]);
        let next = Next::Ether(0x86dd, packet(&[0x60]));
        assert_eq!(read(&bytes), header(Tunnel::Gre, None, next));
        assert_eq!(read(&bytes[..11]), None);
    }

    #[test]
    fn a_keepalive_contains_the_answer_that_is_expected_to_it() {
        let ip = IpHeader { src: SRC, dst: DST, transport: Transport(GRE) };
        let mut answer = ipv4(GRE, &gre(0, 0, &[]));
        answer[12..20].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
        let bytes = gre(0, 0x0800, &answer);
        assert!(is_keepalive(&ip, packet(&bytes)));
        // The inner packet goes to another host, has content, or is not GRE.
        let mut other = bytes.clone();
        other[4 + 19] = 3;
        assert!(!is_keepalive(&ip, packet(&other)));
        let mut other = bytes.clone();
        other[4 + 20 + 2] = 8;
        assert!(!is_keepalive(&ip, packet(&other)));
        let mut other = bytes.clone();
        other[4 + 9] = 17;
        assert!(!is_keepalive(&ip, packet(&other)));
        let routed = gre(ROUTING, 0x0800, &answer);
        assert!(!is_keepalive(&ip, packet(&routed)));
        // Both headers may have optional fields.
        let options = CHECKSUM | KEY | SEQUENCE;
        for (flags, length) in [(CHECKSUM, 4), (KEY, 4), (SEQUENCE, 4), (options, 12)] {
            let mut answer = ipv4(GRE, &gre(flags, 0, &[7; 12][..length]));
            answer[12..20].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
            let with_options = gre(flags, 0x0800, &[&[7; 12][..length], &answer].concat());
            assert!(is_keepalive(&ip, packet(&with_options)), "{flags:#06x}");
        }
        let udp = IpHeader { transport: Transport::UDP, ..ip };
        assert!(!is_keepalive(&udp, packet(&bytes)));
        for kept in 0..bytes.len() {
            assert!(!is_keepalive(&ip, packet(&bytes[..kept])), "{kept} bytes");
        }
        let frame = ethernet(0x0800, &answer);
        assert!(!is_keepalive(&ip, packet(&gre(0, 0x6558, &frame))));
    }
}
