//! Overlay networks over UDP: VXLAN (RFC 7348), VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe) and GENEVE
//! (RFC 8926). In all three, the network identifier (VNI) is in bytes 4 to 6.

use super::{Next, Packet, Tunnel, TunnelHeader};

/// Returns the network identifier (VNI, 24 bits); `None` if it is truncated.
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
    // Group policy (draft-smith-vxlan-group-policy) uses some of the reserved bits. Cisco ACI
    // (iVXLAN) also does so and sets one more flag.
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
    // Require version 0, a valid identifier and a last reserved byte of zero, and reject OAM
    // messages.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::packet;

    /// Returns a VXLAN header (RFC 7348, 5) and one byte of content. The header consists of the
    /// flags, three reserved bytes, the network identifier (three bytes) and one more reserved
    /// byte.
    fn header(flags: u8, reserved: [u8; 3], last: u8) -> Vec<u8> {
        [&[flags][..], &reserved, &[0x12, 0x34, 0x56, last, 7]].concat()
    }

    fn found(result: Option<TunnelHeader<'_>>) -> Option<(Tunnel, Next<'_>)> {
        result.map(|header| {
            assert_eq!(header.id, Some(0x12_3456));
            (header.tunnel, header.next)
        })
    }

    #[test]
    fn plain_vxlan_has_only_the_flag_of_its_network() {
        let frame = || Next::Ethernet(packet(&[7]));
        let bytes = header(0x08, [0; 3], 0);
        assert_eq!(found(plain(packet(&bytes))), Some((Tunnel::Vxlan, frame())));
        for kept in 0..8 {
            assert_eq!(plain(packet(&bytes[..kept])), None, "{kept} bytes");
        }
        // The VNI flag is missing, or a reserved flag or bit is set.
        let others = [
            header(0x00, [0; 3], 0),
            header(0x18, [0; 3], 0),
            header(0x08, [0, 0, 1], 0),
            header(0x08, [0x80, 0, 0], 0),
            header(0x08, [0; 3], 1),
        ];
        for other in others {
            assert_eq!(plain(packet(&other)), None, "{other:02x?}");
        }
    }

    #[test]
    fn a_group_policy_uses_some_of_the_reserved_bits() {
        // draft-smith-vxlan-group-policy, 2.1: flag G, and the flags D (0x40) and A (0x08).
        let vxlan = Some((Tunnel::Vxlan, Next::Ethernet(packet(&[7]))));
        let accepted = [header(0x88, [0x48, 0xff, 0xff], 0), header(0xc8, [0xff; 3], 0xff)];
        for bytes in &accepted {
            assert_eq!(found(plain(packet(bytes))), vxlan, "{bytes:02x?}");
        }
        for other in [header(0x88, [0x49, 0, 0], 0), header(0x88, [0x48, 0, 0], 1)] {
            assert_eq!(plain(packet(&other)), None, "{other:02x?}");
        }
    }

    #[test]
    fn the_next_protocol_names_the_content_of_the_generic_form() {
        // draft-ietf-nvo3-vxlan-gpe, 3.
        let of = |protocol: u8| header(0x0c, [0, 0, protocol], 0);
        let cases = [
            (1, Next::Ip(Some(4), packet(&[7]))),
            (2, Next::Ip(Some(6), packet(&[7]))),
            (3, Next::Ethernet(packet(&[7]))),
            (4, Next::Ether(0x894f, packet(&[7]))),
            (5, Next::Ether(0x8847, packet(&[7]))),
        ];
        for (protocol, next) in cases {
            let bytes = of(protocol);
            let expected = Some((Tunnel::VxlanGpe, next));
            assert_eq!(found(generic(packet(&bytes))), expected);
            // The next-protocol flag has the same meaning on the port of VXLAN.
            assert_eq!(found(plain(packet(&bytes))), expected);
        }
        for protocol in [0, 6] {
            assert_eq!(generic(packet(&of(protocol))), None, "{protocol}");
        }
        // Without the next-protocol flag, the content is an Ethernet frame.
        let bytes = header(0x08, [0, 0, 1], 0);
        let frame = Next::Ethernet(packet(&[7]));
        assert_eq!(found(generic(packet(&bytes))), Some((Tunnel::VxlanGpe, frame)));
    }

    #[test]
    fn other_versions_and_messages_of_the_generic_form_are_not_read() {
        // Versions 1 and 2, no valid VNI, and an OAM message.
        for flags in [0x1c, 0x2c, 0x04, 0x0d] {
            assert_eq!(generic(packet(&header(flags, [0, 0, 3], 0))), None, "{flags:#04x}");
        }
        // A reserved byte is not zero.
        assert_eq!(generic(packet(&header(0x0c, [0, 0, 3], 1))), None);
        let bytes = header(0x0c, [0, 0, 3], 0);
        for kept in 0..8 {
            assert_eq!(generic(packet(&bytes[..kept])), None, "{kept} bytes");
        }
    }

    #[test]
    fn geneve_is_read_after_its_options() {
        // RFC 8926, 3.4: version (2 bits) and length of the options in words (6 bits), flags,
        // protocol, network, reserved.
        let of = |first: u8, protocol: u16, options: usize| {
            let [high, low] = protocol.to_be_bytes();
            let fixed = [first, 0, high, low, 0x12, 0x34, 0x56, 0];
            [&fixed[..], &vec![0; options], &[7]].concat()
        };
        let frame = || Next::Ethernet(packet(&[7]));
        for words in [0, 1, 63] {
            let bytes = of(words, 0x6558, usize::from(words) * 4);
            assert_eq!(found(geneve(packet(&bytes))), Some((Tunnel::Geneve, frame())));
            let header = bytes.len() - 1;
            assert_eq!(geneve(packet(&bytes[..header - 1])), None, "{words}");
        }
        for ethertype in [0x0800, 0x86dd, 0x8847, 0x894f] {
            let bytes = of(0, ethertype, 0);
            let next = Next::Ether(ethertype, packet(&[7]));
            assert_eq!(found(geneve(packet(&bytes))), Some((Tunnel::Geneve, next)));
        }
        // Version 1, and a protocol (ARP) that is not decoded.
        assert_eq!(geneve(packet(&of(0x40, 0x6558, 0))), None);
        assert_eq!(geneve(packet(&of(0, 0x0806, 0))), None);
    }
}
