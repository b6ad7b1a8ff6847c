//! Tunnels with little or no header of their own: IP in IP (RFC 2003, RFC 4213, RFC 2473), Ethernet
//! in IP (RFC 3378), and MPLS in IP (RFC 4023) or UDP (RFC 7510).

use super::{Next, Packet, Tunnel, TunnelHeader};

/// Decodes IP in IP. `version` is the IP version of the inner packet.
pub(super) fn decode(version: u8, inner: Packet<'_>) -> Option<TunnelHeader<'_>> {
    let is_ip = inner.bytes.first().is_some_and(|first| first >> 4 == version);
    let next = Next::Ip(Some(version), inner);
    is_ip.then_some(TunnelHeader { tunnel: Tunnel::IpInIp, id: None, next })
}

pub(super) fn etherip(inner: Packet<'_>) -> Option<TunnelHeader<'_>> {
    let next = Next::Ethernet(inner.after(2)?);
    (inner.bytes[0] >> 4 == 3).then_some(TunnelHeader { tunnel: Tunnel::EtherIp, id: None, next })
}

pub(super) fn mpls(inner: Packet<'_>) -> Option<TunnelHeader<'_>> {
    inner.u32(0)?;
    Some(TunnelHeader { tunnel: Tunnel::MplsInIp, id: None, next: Next::Ether(0x8847, inner) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::packet;

    #[test]
    fn ip_in_ip_has_to_start_with_the_announced_version() {
        for (version, first) in [(4, 0x45), (6, 0x60)] {
            let bytes = [first, 1, 2];
            let next = Next::Ip(Some(version), packet(&bytes));
            let expected = TunnelHeader { tunnel: Tunnel::IpInIp, id: None, next };
            assert_eq!(decode(version, packet(&bytes)), Some(expected));
            assert_eq!(decode(10 - version, packet(&bytes)), None);
            assert_eq!(decode(version, packet(&[])), None);
        }
    }

    #[test]
    fn ethernet_in_ip_is_of_version_three() {
        // RFC 3378, 3: version (4 bits), reserved (12 bits).
        let next = Next::Ethernet(packet(&[7]));
        let expected = TunnelHeader { tunnel: Tunnel::EtherIp, id: None, next };
        assert_eq!(etherip(packet(&[0x30, 0, 7])), Some(expected));
        assert_eq!(etherip(packet(&[0x20, 0, 7])), None);
        assert_eq!(etherip(packet(&[0x03, 0, 7])), None);
        assert_eq!(etherip(packet(&[0x30])), None);
    }

    #[test]
    fn mpls_needs_a_whole_label() {
        let bytes = [0, 1, 1, 64];
        let next = Next::Ether(0x8847, packet(&bytes));
        let expected = TunnelHeader { tunnel: Tunnel::MplsInIp, id: None, next };
        assert_eq!(mpls(packet(&bytes)), Some(expected));
        assert_eq!(mpls(packet(&bytes[..3])), None);
    }
}
