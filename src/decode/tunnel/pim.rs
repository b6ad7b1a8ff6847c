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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::packet;

    #[test]
    fn only_a_register_message_that_is_not_null_carries_a_packet() {
        // RFC 7761, 4.9.3: version and type, reserved, checksum; border bit, null bit.
        assert!(is_register(packet(&[0x21, 0, 0, 0, 0, 0, 0, 0])));
        assert!(is_register(packet(&[0x21, 0, 0, 0, 0x80, 0, 0, 0])));
        assert!(!is_register(packet(&[0x21, 0, 0, 0, 0x40, 0, 0, 0])));
        // A hello message, another version, and a truncated header.
        assert!(!is_register(packet(&[0x20, 0, 0, 0, 0, 0, 0, 0])));
        assert!(!is_register(packet(&[0x11, 0, 0, 0, 0, 0, 0, 0])));
        assert!(!is_register(packet(&[0x21, 0, 0, 0, 0, 0, 0])));
    }

    #[test]
    fn the_packet_follows_after_eight_bytes() {
        for (first, version) in [(0x45, 4), (0x60, 6)] {
            let bytes = [0x21, 0, 0, 0, 0, 0, 0, 0, first, 9];
            let next = Next::Ip(Some(version), packet(&bytes[8..]));
            let expected = TunnelHeader { tunnel: Tunnel::Pim, id: None, next };
            assert_eq!(decode(packet(&bytes)), Some(expected));
            for kept in 0..9 {
                assert_eq!(decode(packet(&bytes[..kept])), None, "{kept} bytes");
            }
        }
        assert_eq!(decode(packet(&[0x21, 0, 0, 0, 0, 0, 0, 0, 0x50])), None);
    }
}
