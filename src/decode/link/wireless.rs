//! Headers that wireless cards in monitor mode add before an IEEE 802.11 frame: none
//! (LINKTYPE_IEEE802_11, 105), radiotap (127), Prism (119) or AVS (163).

use crate::decode::{CUT, DecodeState, Next, Packet, WlanForm};
use crate::model::SkipReason;

pub(super) fn plain<'p>(
    packet: Packet<'p>,
    _: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    Ok(Next::Wlan(packet, WlanForm::Plain))
}

/// Reads a radiotap header (radiotap.org): a length, bitmaps of the fields that are present, and
/// the fields. Only the flags field is used. It shows whether the frame ends with a frame check
/// sequence and whether padding follows the 802.11 header.
pub(super) fn radiotap<'p>(
    packet: Packet<'p>,
    _: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    const HAS_TIME: u32 = 1 << 0;
    const HAS_FLAGS: u32 = 1 << 1;
    const MORE_MAPS: u32 = 1 << 31;
    const FCS_AT_END: u8 = 0x10;
    const PADDED: u8 = 0x20;
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(*packet.bytes.get(at..)?.first_chunk()?))
    };
    let &[version, _, a, b, ..] = packet.bytes else {
        return Err(CUT);
    };
    if version != 0 {
        return Err(SkipReason::BadLinkHeader);
    }
    let length = usize::from(u16::from_le_bytes([a, b]));
    let first = word(4).ok_or(CUT)?;
    let mut at = 8;
    let mut map = first;
    while map & MORE_MAPS != 0 && at < length {
        map = word(at).ok_or(CUT)?;
        at += 4;
    }
    if first & HAS_TIME != 0 {
        at = at.next_multiple_of(8) + 8;
    }
    let flags = match first & HAS_FLAGS {
        0 => 0,
        _ => packet.bytes.get(at).copied().ok_or(CUT)?,
    };
    let frame = packet.after(length).ok_or(CUT)?;
    let fcs = if flags & FCS_AT_END != 0 { 4 } else { 0 };
    let frame = frame.limited(frame.wire.saturating_sub(fcs));
    let form = if flags & PADDED != 0 { WlanForm::Padded } else { WlanForm::Plain };
    Ok(Next::Wlan(frame, form))
}

/// Reads a Prism header: a message code, then the length of the header in the byte order of the
/// capturing machine.
pub(super) fn prism<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    // AVS headers also occur under the link type of Prism. They start with a magic number.
    if packet.u32(0).ok_or(CUT)? & 0xffff_f000 == 0x8021_1000 {
        return avs(packet, layers);
    }
    let length = packet.u32(4).ok_or(CUT)?;
    let length = if length > 0xffff { length.swap_bytes() } else { length };
    Ok(Next::Wlan(packet.after(length as usize).ok_or(CUT)?, WlanForm::Plain))
}

/// Reads an AVS header: a magic number, then the length of the header in network byte order.
pub(super) fn avs<'p>(packet: Packet<'p>, _: &mut DecodeState<'_>) -> Result<Next<'p>, SkipReason> {
    let length = packet.u32(4).ok_or(CUT)?;
    Ok(Next::Wlan(packet.after(length as usize).ok_or(CUT)?, WlanForm::Plain))
}
