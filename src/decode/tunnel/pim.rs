//! PIM register messages (RFC 7761, 4.9.3), which carry multicast packets to a rendezvous point.

use super::{Next, Packet, Tunnel, TunnelHeader};

/// Returns whether a PIM message carries a packet, that is, whether it is a version 2 register
/// message without the null-register flag.
pub(super) fn is_register(packet: Packet<'_>) -> bool {
    const REGISTER: u8 = 0x21;
    const NULL: u32 = 1 << 30;
    packet.bytes.first() == Some(&REGISTER) && packet.u32(4).is_some_and(|flags| flags & NULL == 0)
}

pub(super) fn decode(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    let inner = packet.after(8)?;
    let version = inner.bytes.first()? >> 4;
    let next = Next::Ip(Some(version), inner);
    matches!(version, 4 | 6).then_some(TunnelHeader { tunnel: Tunnel::Pim, id: None, next })
}
