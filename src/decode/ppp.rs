//! PPP (RFC 1661) and its session over Ethernet (RFC 2516).

use super::{DecodeState, EncapTagKind, Next, Packet};
use crate::model::SkipReason;

/// The ethertype of PPP, under which its control protocols are counted.
const PPP: u16 = 0x880b;

/// Decodes a frame that starts with its protocol field.
pub(super) fn decode<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let cut = SkipReason::TruncatedLinkHeader;
    // The first byte of a protocol number is even. An odd byte is the whole number in compressed
    // form.
    let &[first, ..] = packet.bytes else {
        return Err(cut);
    };
    let (protocol, length) = match first & 1 {
        1 => (u16::from(first), 1),
        _ => (packet.u16(0).ok_or(cut)?, 2),
    };
    let rest = packet.after(length).ok_or(cut)?;
    Ok(match protocol {
        0x0021 => Next::Ip(Some(4), rest),
        0x0057 => Next::Ip(Some(6), rest),
        0x0281 => Next::Ether(0x8847, rest),
        0x0283 => Next::Ether(0x8848, rest),
        0x0031 => bridged(rest).unwrap_or_else(|| layers.non_ip(PPP)),
        _ => layers.non_ip(PPP),
    })
}

/// Reads bridged Ethernet (RFC 3518): flags, the MAC type of Ethernet, and padding whose length is
/// in the last bits of the flags.
fn bridged(packet: Packet<'_>) -> Option<Next<'_>> {
    let &[flags, 1, ..] = packet.bytes else {
        return None;
    };
    let frame = packet.after(2)?;
    Some(Next::Ethernet(frame.limited(frame.wire.saturating_sub(usize::from(flags & 0x0f)))))
}

/// Decodes the session stage of PPP over Ethernet: version and type, code, session, length.
pub(super) fn session<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let cut = SkipReason::TruncatedLinkHeader;
    let number = packet.u16(2).ok_or(cut)?;
    let length = packet.u16(4).ok_or(cut)?;
    let rest = packet.after(6).ok_or(cut)?;
    if packet.bytes[0] != 0x11 || packet.bytes[1] != 0 {
        return Ok(layers.non_ip(0x8864));
    }
    layers.tag(EncapTagKind::Pppoe, Some(u32::from(number)));
    Ok(Next::Ppp(rest.limited(usize::from(length))))
}
