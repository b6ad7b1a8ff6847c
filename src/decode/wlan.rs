//! IEEE 802.11 frames. Unencrypted data frames are decoded; all others are counted by skip reason.

use super::{CUT, DecodeState, Next, Packet, WlanForm};
use crate::model::{Mac, SkipReason};

/// The LLC and SNAP bytes before an EtherType (RFC 1042).
const SNAP: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];

/// Returns whether bytes look like an unencrypted data frame that carries IP, ARP or EAPOL. The
/// frame must be a data frame, and SNAP must immediately follow a header of the length that its
/// flags require.
pub(super) fn is_clear_data(bytes: &[u8]) -> bool {
    let &[control, flags, ..] = bytes else { return false };
    if control & 0x0f != 0x08 || control & 0x40 != 0 {
        return false;
    }
    let mut length = if flags & 3 == 3 { 30 } else { 24 };
    if control & 0x80 != 0 {
        length += if flags & 0x80 != 0 { 6 } else { 2 };
    }
    let Some(inner) = bytes.get(length..) else { return false };
    let carried = inner.get(6..8);
    inner.starts_with(&SNAP)
        && matches!(carried, Some([0x08, 0x00 | 0x06] | [0x86, 0xdd] | [0x88, 0x8e]))
}

pub(super) fn decode<'p>(
    packet: Packet<'p>,
    form: WlanForm,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let &[first, second, ..] = packet.bytes else {
        return Err(CUT);
    };
    let (control, flags) = match form {
        WlanForm::Swapped => (second, first),
        WlanForm::Plain | WlanForm::Padded => (first, second),
    };
    let version = control & 3;
    let kind = control >> 2 & 3;
    let subtype = control >> 4;
    // Only data frames carry packets, unless their subtype means "no data".
    if version != 0 || kind != 2 || subtype & 4 != 0 {
        return Err(SkipReason::WlanManagement);
    }
    let to_system = flags & 1 != 0;
    let from_system = flags & 2 != 0;
    let protected = flags & 0x40 != 0;
    let address = |at: usize| -> Result<Mac, SkipReason> {
        let bytes = packet.bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(CUT)?;
        Ok(Mac(*bytes))
    };
    let first = address(4)?;
    let second = address(10)?;
    let third = address(16)?;
    let mut length = 24;
    let (destination, source) = match (to_system, from_system) {
        (false, false) => (first, second),
        (false, true) => (first, third),
        (true, false) => (third, second),
        (true, true) => {
            length += 6;
            (third, address(24)?)
        }
    };
    if packet.u16(22).ok_or(CUT)?.swap_bytes() & 0x0f != 0 {
        return Err(SkipReason::WlanFragment);
    }
    if subtype & 8 != 0 {
        // QoS control field. If bit 7 is set, the frame contains several packets (A-MSDU).
        if packet.bytes.get(length).ok_or(CUT)? & 0x80 != 0 {
            return Err(SkipReason::WlanAggregate);
        }
        length += 2;
        // HT control field.
        if flags & 0x80 != 0 {
            length += 4;
        }
    }
    if form == WlanForm::Padded {
        length = length.next_multiple_of(4);
    }
    // A driver that delivers decrypted frames may leave the flag set. Ciphertext never starts like
    // SNAP (IEEE 802.11, 12.5).
    if protected && !packet.bytes[length.min(packet.bytes.len())..].starts_with(&SNAP) {
        return Err(SkipReason::EncryptedLink);
    }
    layers.seen.link.source = source;
    layers.seen.broadcast = destination == Mac::BROADCAST;
    Ok(Next::Llc(packet.after(length).ok_or(CUT)?))
}
