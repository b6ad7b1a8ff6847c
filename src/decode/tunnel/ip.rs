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
