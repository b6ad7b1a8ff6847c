//! Overlay networks over UDP: VXLAN (RFC 7348), VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe) and GENEVE
//! (RFC 8926). In all three, the network identifier (VNI) is in bytes 4 to 6.

use super::{Next, Packet, Tunnel, TunnelHeader};

/// Returns the network identifier.
fn network(packet: Packet<'_>) -> Option<u32> {
    packet.u32(4).map(|word| word >> 8)
}

pub(super) fn plain(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    let id = Some(network(packet)?);
    // If the next-protocol flag is set, the packet is VXLAN-GPE, whatever its port.
    if packet.bytes[0] & 0x04 != 0 {
        return generic(packet);
    }
    // The flag for a valid identifier must be set, and reserved bits must be zero, because
    // unrelated datagrams also use this port.
    let word = packet.u32(0)?;
    // Group policy (draft-smith-vxlan-group-policy) uses some of the reserved bits. Cisco's fabric
    // also does so and sets one more flag.
    let reserved = match word >> 24 {
        0x08 => word & 0x00ff_ffff,
        0x88 => word & 0x00b7_0000,
        0xc8 => {
            return Some(TunnelHeader {
                tunnel: Tunnel::Vxlan,
                id,
                next: Next::Ethernet(packet.after(8)?),
            });
        }
        _ => return None,
    };
    let valid = reserved == 0 && packet.bytes[7] == 0;
    let next = Next::Ethernet(packet.after(8)?);
    valid.then_some(TunnelHeader { tunnel: Tunnel::Vxlan, id, next })
}

pub(super) fn generic(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    let flags = packet.bytes.first()?;
    let id = network(packet)?;
    // Require version 0 and a valid identifier, and reject OAM messages.
    if flags & 0x30 != 0 || flags & 0x08 == 0 || flags & 0x01 != 0 || packet.bytes[7] != 0 {
        return None;
    }
    let inner = packet.after(8)?;
    // Without the next-protocol flag, the packet is plain VXLAN.
    let next = match packet.bytes[3] {
        _ if flags & 0x04 == 0 => Next::Ethernet(inner),
        1 => Next::Ip(Some(4), inner),
        2 => Next::Ip(Some(6), inner),
        3 => Next::Ethernet(inner),
        4 => Next::Ether(0x894f, inner),
        5 => Next::Ether(0x8847, inner),
        _ => return None,
    };
    Some(TunnelHeader { tunnel: Tunnel::VxlanGpe, id: Some(id), next })
}

pub(super) fn geneve(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    let first = packet.bytes.first()?;
    let id = network(packet)?;
    if first >> 6 != 0 {
        return None;
    }
    let inner = packet.after(8 + usize::from(first & 0x3f) * 4)?;
    let next = match packet.u16(2)? {
        0x6558 => Next::Ethernet(inner),
        ethertype @ (0x0800 | 0x86dd | 0x8847 | 0x894f) => Next::Ether(ethertype, inner),
        _ => return None,
    };
    Some(TunnelHeader { tunnel: Tunnel::Geneve, id: Some(id), next })
}
