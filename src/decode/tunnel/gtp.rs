//! The user plane of the GPRS tunnelling protocol, version 1 (GTP-U, 3GPP TS 29.281).

use super::{Next, Packet, Tunnel, TunnelHeader};

/// The maximum number of extension headers that are followed.
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
