//! The user plane of the GPRS tunnelling protocol, version 1 (GTP-U, 3GPP TS 29.281).

use super::{Next, Packet, Tunnel, TunnelHeader};

/// The maximum number of extension headers. A message with more is not decoded as a tunnel.
const MAX_EXTENSIONS: usize = 8;

pub(super) fn decode(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    const USER_DATA: u8 = 255;
    let &[flags, USER_DATA, ..] = packet.bytes else {
        return None;
    };
    // Require version 1 of GTP. The charging protocol GTP' has a different protocol type.
    if flags & 0xf0 != 0x30 {
        return None;
    }
    let id = Some(packet.u32(4)?);
    let mut inner = packet.after(8)?;
    // If any of the three flags (E, S, PN) is set, all three optional fields are present.
    if flags & 0x07 != 0 {
        let mut extension = *inner.bytes.get(3)?;
        inner = inner.after(4)?;
        if flags & 0x04 == 0 {
            extension = 0;
        }
        for number in 0.. {
            if extension == 0 {
                break;
            }
            if number == MAX_EXTENSIONS {
                return None;
            }
            // The length is in units of four bytes. The last byte is the type of the next extension
            // header.
            let length = usize::from(*inner.bytes.first()?) * 4;
            extension = *inner.bytes.get(length.checked_sub(1)?)?;
            inner = inner.after(length)?;
        }
    }
    let next = match inner.bytes.first()? >> 4 {
        version @ (4 | 6) => Next::Ip(Some(version), inner),
        _ => return None,
    };
    Some(TunnelHeader { tunnel: Tunnel::Gtp, id, next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::packet;

    /// Returns a message: the header (3GPP TS 29.281, 5.1) with flags, type, length and tunnel
    /// endpoint identifier, followed by `rest`.
    fn message(flags: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        [&[flags, kind, 0, 0, 0, 0, 0, 9][..], rest].concat()
    }

    /// Returns the IP version and the length of the packet that a message carries.
    fn carried(bytes: &[u8]) -> Option<(Option<u8>, usize)> {
        let header = decode(packet(bytes))?;
        assert_eq!((header.tunnel, header.id), (Tunnel::Gtp, Some(9)));
        match header.next {
            Next::Ip(version, inner) => Some((version, inner.bytes.len())),
            _ => None,
        }
    }

    #[test]
    fn user_data_carries_a_packet_of_either_version() {
        assert_eq!(carried(&message(0x30, 255, &[0x45, 0])), Some((Some(4), 2)));
        assert_eq!(carried(&message(0x30, 255, &[0x60, 0, 0])), Some((Some(6), 3)));
        assert_eq!(carried(&message(0x30, 255, &[0x50, 0])), None);
        let bytes = message(0x30, 255, &[0x45]);
        for kept in 0..bytes.len() {
            assert_eq!(carried(&bytes[..kept]), None, "{kept} bytes");
        }
    }

    #[test]
    fn other_messages_versions_and_protocols_are_not_read() {
        // An echo request, the end marker, version 2, and the charging protocol.
        for (flags, kind) in [(0x30, 1), (0x30, 254), (0x48, 255), (0x20, 255)] {
            assert_eq!(carried(&message(flags, kind, &[0x45, 0])), None, "{flags:#04x} {kind}");
        }
    }

    #[test]
    fn one_flag_brings_all_optional_fields() {
        // 3GPP TS 29.281, 5.1: the optional fields are the sequence number, the N-PDU number and
        // the type of the next extension header.
        for flags in [0x31, 0x32, 0x33] {
            // Without the flag E, the type has no meaning.
            let bytes = message(flags, 255, &[0, 1, 0, 0x85, 0x45]);
            assert_eq!(carried(&bytes), Some((Some(4), 1)), "{flags:#04x}");
            assert_eq!(carried(&message(flags, 255, &[0x45, 0, 0])), None);
        }
        assert_eq!(carried(&message(0x34, 255, &[0, 1, 0, 0, 0x45])), Some((Some(4), 1)));
    }

    #[test]
    fn extension_headers_are_followed_up_to_the_limit() {
        // 3GPP TS 29.281, 5.2.1: an extension header consists of its length in units of four bytes,
        // its content and the type of the next header.
        let chain = |headers: usize| {
            let mut rest = vec![0, 1, 0, 0x85];
            rest.extend([1, 0, 0, 0x85].repeat(headers - 1));
            rest.extend([1, 0, 0, 0, 0x45]);
            message(0x34, 255, &rest)
        };
        assert_eq!(carried(&chain(1)), Some((Some(4), 1)));
        assert_eq!(carried(&chain(MAX_EXTENSIONS)), Some((Some(4), 1)));
        assert_eq!(carried(&chain(MAX_EXTENSIONS + 1)), None);
        let longer = message(0x34, 255, &[0, 1, 0, 0x85, 2, 0, 0, 9, 9, 9, 9, 0, 0x60]);
        assert_eq!(carried(&longer), Some((Some(6), 1)));
        // With a length of zero, the chain would never end.
        assert_eq!(carried(&message(0x34, 255, &[0, 1, 0, 0x85, 0, 0, 0, 0, 0x45])), None);
        let bytes = chain(3);
        for kept in 0..bytes.len() {
            assert_eq!(carried(&bytes[..kept]), None, "{kept} bytes");
        }
    }
}
