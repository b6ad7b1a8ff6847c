//! PPP (RFC 1661) and PPP over Ethernet (RFC 2516).

use super::{CUT, DecodeState, EncapTagKind, Next, Packet};
use crate::model::SkipReason;

/// The EtherType of PPP. Frames whose protocol is not decoded are counted under it.
const PPP: u16 = 0x880b;

/// Decodes a PPP frame that starts with its protocol field.
pub(super) fn decode<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    // The first byte of an uncompressed protocol number is even. An odd first byte is a compressed
    // protocol number (RFC 1661, 6.5).
    let &[first, ..] = packet.bytes else {
        return Err(CUT);
    };
    let (protocol, length) = match first & 1 {
        1 => (u16::from(first), 1),
        _ => (packet.u16(0).ok_or(CUT)?, 2),
    };
    let inner = packet.after(length).ok_or(CUT)?;
    Ok(match protocol {
        0x0021 => Next::Ip(Some(4), inner),
        0x0057 => Next::Ip(Some(6), inner),
        0x0281 => Next::Ether(0x8847, inner),
        0x0283 => Next::Ether(0x8848, inner),
        0x0031 => bridged(inner).unwrap_or_else(|| layers.end_at_non_ip(PPP)),
        _ => layers.end_at_non_ip(PPP),
    })
}

/// Reads a bridged Ethernet frame (RFC 3518). A byte of flags and the MAC type (1 for Ethernet)
/// precede the frame. The low four bits of the flags are the length in bytes of the padding after
/// it.
fn bridged(packet: Packet<'_>) -> Option<Next<'_>> {
    let &[flags, 1, ..] = packet.bytes else {
        return None;
    };
    let frame = packet.after(2)?;
    Some(Next::Ethernet(frame.limited(frame.wire.saturating_sub(usize::from(flags & 0x0f)))))
}

/// Decodes a PPP over Ethernet session packet. Version and type, code, session ID and length
/// precede the PPP frame.
pub(super) fn session<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let number = packet.u16(2).ok_or(CUT)?;
    let length = packet.u16(4).ok_or(CUT)?;
    let inner = packet.after(6).ok_or(CUT)?;
    if packet.bytes[0] != 0x11 || packet.bytes[1] != 0 {
        return Ok(layers.end_at_non_ip(0x8864));
    }
    layers.note_tag(EncapTagKind::Pppoe, Some(u32::from(number)));
    Ok(Next::Ppp(inner.limited(usize::from(length))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Body;
    use crate::decode::sample::{LayerDecoder, assert_truncation, layer, next, packet};

    fn ends_at(decode: LayerDecoder, bytes: &[u8]) -> Option<u16> {
        match (layer(decode, packet(bytes)).0, layer(decode, packet(bytes)).1.body) {
            (Ok(Next::Done), Body::NonIp { ethertype, .. }) => Some(ethertype),
            _ => None,
        }
    }

    #[test]
    fn the_protocol_field_says_what_follows() {
        // The numbers of IPv4 (RFC 1332), IPv6 (RFC 5072) and MPLS (RFC 3032).
        let cases = [
            ([0x00, 0x21], Next::Ip(Some(4), packet(&[9]))),
            ([0x00, 0x57], Next::Ip(Some(6), packet(&[9]))),
            ([0x02, 0x81], Next::Ether(0x8847, packet(&[9]))),
            ([0x02, 0x83], Next::Ether(0x8848, packet(&[9]))),
        ];
        for (protocol, expected) in cases {
            let bytes = [&protocol[..], &[9]].concat();
            assert_eq!(next(decode, &bytes), Ok(expected), "{protocol:02x?}");
            assert_truncation(decode, &bytes, 2, CUT);
        }
    }

    #[test]
    fn an_odd_first_byte_is_a_compressed_protocol() {
        // RFC 1661, 6.5.
        assert_eq!(next(decode, &[0x21, 0x45]), Ok(Next::Ip(Some(4), packet(&[0x45]))));
        assert_eq!(next(decode, &[0x57, 0x60]), Ok(Next::Ip(Some(6), packet(&[0x60]))));
        assert_truncation(decode, &[0x21, 0x45, 0], 1, CUT);
        // If the first byte is even, the second byte belongs to the number.
        assert_eq!(ends_at(decode, &[0x20, 0x21, 0x45]), Some(PPP));
    }

    #[test]
    fn control_protocols_are_counted_as_ppp() {
        // Link control protocol (0xc021) and a compressed datagram (0x00fd).
        assert_eq!(ends_at(decode, &[0xc0, 0x21, 1, 1, 0, 4]), Some(PPP));
        assert_eq!(ends_at(decode, &[0x00, 0xfd, 1]), Some(PPP));
    }

    #[test]
    fn a_bridged_frame_ends_before_its_padding() {
        // RFC 3518, 4.2: flags with the length of the padding, MAC type, frame.
        let bytes = [0x00, 0x31, 0x03, 1, 7, 7, 7, 7, 0, 0, 0];
        assert_eq!(next(decode, &bytes), Ok(Next::Ethernet(packet(&[7; 4]))));
        // The upper bits of the flags do not belong to the length.
        let bytes = [0x00, 0x31, 0xf1, 1, 7, 0];
        assert_eq!(next(decode, &bytes), Ok(Next::Ethernet(packet(&[7]))));
        // The flags declare more padding than there is content.
        let bytes = [0x00, 0x31, 0x0f, 1, 7];
        assert_eq!(next(decode, &bytes), Ok(Next::Ethernet(packet(&[]))));
        // A token ring frame, and a frame without a MAC type.
        assert_eq!(ends_at(decode, &[0x00, 0x31, 0x00, 2, 7]), Some(PPP));
        assert_eq!(ends_at(decode, &[0x00, 0x31, 0x00]), Some(PPP));
    }

    #[test]
    fn a_session_packet_has_a_number_and_a_length() {
        // RFC 2516, 4: version and type, code, session, length. Padding follows.
        let bytes = [0x11, 0, 0x12, 0x34, 0, 3, 0x00, 0x21, 0x45, 0, 0];
        let (result, seen) = layer(session, packet(&bytes));
        assert_eq!(result, Ok(Next::Ppp(packet(&bytes[6..9]))));
        let tags: Vec<_> = seen.link.tags().map(|tag| (tag.kind, tag.id)).collect();
        assert_eq!(tags, [(EncapTagKind::Pppoe, Some(0x1234))]);
        let all = [0x11, 0, 0, 1, 0, 5, 0x00, 0x21, 0x45, 0, 0];
        assert_truncation(session, &all, 6, CUT);
    }

    #[test]
    fn another_version_or_code_is_no_session() {
        for head in [[0x12, 0], [0x21, 0], [0x11, 0xa7]] {
            let bytes = [&head[..], &[0, 1, 0, 2, 0x00, 0x21]].concat();
            assert_eq!(ends_at(session, &bytes), Some(0x8864), "{head:02x?}");
            assert_eq!(layer(session, packet(&bytes)).1.link.tags().count(), 0);
        }
    }
}
