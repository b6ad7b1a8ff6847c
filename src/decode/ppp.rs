//! PPP (RFC 1661) and PPP over Ethernet (RFC 2516).

use super::{CUT, DecodeState, EncapTagKind, Next, Packet};
use crate::model::SkipReason;

/// The EtherType of PPP, under which its control protocols are counted.
const PPP: u16 = 0x880b;

/// Decodes a PPP frame that starts with its protocol field.
pub(super) fn decode<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    // The first byte of a protocol number is even. An odd first byte is a compressed protocol
    // number (RFC 1661, 6.5).
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

/// Reads a bridged Ethernet frame (RFC 3518). A byte of flags and the MAC type of Ethernet precede
/// it, and padding follows it, whose length is in the low four bits of the flags.
fn bridged(packet: Packet<'_>) -> Option<Next<'_>> {
    let &[flags, 1, ..] = packet.bytes else {
        return None;
    };
    let frame = packet.after(2)?;
    Some(Next::Ethernet(frame.limited(frame.wire.saturating_sub(usize::from(flags & 0x0f)))))
}

/// Decodes a PPP over Ethernet session packet: version and type, code, session, length, PPP frame.
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
