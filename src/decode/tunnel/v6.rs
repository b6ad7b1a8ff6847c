//! Tunnels for IPv6 hosts behind IPv4: Teredo (RFC 4380) and AYIYA (draft-massar-v6ops-ayiya).

use super::{Next, Packet, Tunnel, TunnelHeader};

/// Length of an IPv6 header in bytes.
const HEADER: usize = 40;

/// Decodes Teredo. An authentication header and an origin indication may precede the packet, and
/// trailers may follow it.
pub(super) fn teredo(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    const AUTHENTICATION: u16 = 1;
    const ORIGIN: u16 = 0;
    let mut inner = packet;
    if inner.u16(0)? == AUTHENTICATION {
        let &[_, _, client, value, ..] = inner.bytes else { return None };
        inner = inner.after(13 + usize::from(client) + usize::from(value))?;
    }
    if inner.u16(0)? == ORIGIN {
        inner = inner.after(8)?;
    }
    let length = HEADER + usize::from(inner.u16(4)?);
    let fits = inner.bytes.first()? >> 4 == 6 && length <= inner.wire;
    let next = Next::Ip(Some(6), inner.limited(length));
    fits.then_some(TunnelHeader { tunnel: Tunnel::Teredo, id: None, next })
}

/// Decodes AYIYA. A fixed header, an identity and a signature precede the packet. The first two
/// bytes contain the lengths of identity and signature.
pub(super) fn ayiya(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    const FORWARD: u8 = 1;
    const ECHO_AND_FORWARD: u8 = 3;
    let &[identity, signature, operation, protocol, ..] = packet.bytes else { return None };
    let length = 8 + (1usize << (identity >> 4)) + usize::from(signature >> 4) * 4;
    let version = match (operation & 0x0f, protocol) {
        (FORWARD | ECHO_AND_FORWARD, 4) => 4,
        (FORWARD | ECHO_AND_FORWARD, 41) => 6,
        _ => return None,
    };
    let inner = packet.after(length)?;
    let is_ip = inner.bytes.first()? >> 4 == version;
    let next = Next::Ip(Some(version), inner);
    is_ip.then_some(TunnelHeader { tunnel: Tunnel::Ayiya, id: None, next })
}
