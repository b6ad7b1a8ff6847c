//! IEEE 802.11 frames from wireless cards in monitor mode, without a capture header
//! (LINKTYPE_IEEE802_11, 105) or after a radiotap (127), Prism (119) or AVS (163) header.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::{assert_truncation, next, packet};

    const FRAME: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    /// Returns a frame after a radiotap header (radiotap.org), which consists of version, padding,
    /// length, bitmaps and fields.
    fn tap(maps: &[u32], fields: &[u8]) -> Vec<u8> {
        let length = 4 + maps.len() * 4 + fields.len();
        let mut bytes = vec![0, 0];
        bytes.extend((length as u16).to_le_bytes());
        bytes.extend(maps.iter().flat_map(|map| map.to_le_bytes()));
        bytes.extend(fields);
        bytes.extend(FRAME);
        bytes
    }

    /// Returns the length of the frame on the wire in bytes, and how the frame was recorded.
    fn read(bytes: &[u8]) -> Option<(usize, WlanForm)> {
        match next(radiotap, bytes) {
            Ok(Next::Wlan(frame, form)) if FRAME.starts_with(frame.bytes) => {
                Some((frame.wire, form))
            }
            _ => None,
        }
    }

    #[test]
    fn the_flags_say_whether_a_check_sequence_or_padding_is_there() {
        assert_eq!(read(&tap(&[0], &[])), Some((8, WlanForm::Plain)));
        assert_eq!(read(&tap(&[2], &[0x00])), Some((8, WlanForm::Plain)));
        assert_eq!(read(&tap(&[2], &[0x10])), Some((4, WlanForm::Plain)));
        assert_eq!(read(&tap(&[2], &[0x20])), Some((8, WlanForm::Padded)));
        assert_eq!(read(&tap(&[2], &[0x30])), Some((4, WlanForm::Padded)));
        // If the bitmap does not contain the flags, the same byte belongs to another field.
        assert_eq!(read(&tap(&[4], &[0x30])), Some((8, WlanForm::Plain)));
    }

    #[test]
    fn the_time_and_further_bitmaps_move_the_flags() {
        // The time is aligned to eight bytes.
        let time = [0x30; 8];
        let fields = [&time[..], &[0x10]].concat();
        assert_eq!(read(&tap(&[3], &fields)), Some((4, WlanForm::Plain)));
        let more = 1 << 31;
        let fields = [&[0x30; 4][..], &time, &[0x10]].concat();
        assert_eq!(read(&tap(&[more | 3, 0], &fields)), Some((4, WlanForm::Plain)));
        assert_eq!(read(&tap(&[more | 2, 0], &[0x20])), Some((8, WlanForm::Padded)));
        assert_eq!(read(&tap(&[more | 2, more, 0], &[0x20])), Some((8, WlanForm::Padded)));
    }

    #[test]
    fn bitmaps_end_with_the_header() {
        // The top bit of each bitmap announces another one, but the header ends after the second.
        let bytes = tap(&[1 << 31, 1 << 31], &[]);
        assert_eq!(read(&bytes), Some((8, WlanForm::Plain)));
    }

    #[test]
    fn another_version_is_bad_and_a_truncated_header_is_no_packet() {
        let mut bytes = tap(&[0], &[]);
        assert_truncation(radiotap, &bytes, 8, CUT);
        bytes[0] = 1;
        assert_eq!(next(radiotap, &bytes), Err(SkipReason::BadLinkHeader));
        // A length that exceeds the frame, and flags that were not captured.
        let mut long = tap(&[0], &[]);
        long[2] = 17;
        assert_eq!(next(radiotap, &long), Err(CUT));
        assert_eq!(next(radiotap, &tap(&[2], &[])[..8]), Err(CUT));
        // The frame is shorter than the frame check sequence that the flags declare.
        let short = &tap(&[2], &[0x10])[..11];
        assert_eq!(next(radiotap, short), Ok(Next::Wlan(packet(&[]), WlanForm::Plain)));
    }

    #[test]
    fn a_prism_header_has_its_length_in_either_byte_order() {
        // LINKTYPE_IEEE802_11_PRISM: message code 0x44, then the length of the header.
        for length in [[12, 0, 0, 0], [0, 0, 0, 12]] {
            let bytes = [&[0x44, 0, 0, 0][..], &length, &[0; 4], &FRAME].concat();
            let expected = Ok(Next::Wlan(packet(&FRAME), WlanForm::Plain));
            assert_eq!(next(prism, &bytes), expected);
            assert_truncation(prism, &bytes, 12, CUT);
        }
    }

    #[test]
    fn an_avs_header_is_known_by_its_magic_number_and_is_in_network_order() {
        // LINKTYPE_IEEE802_11_AVS: the low twelve bits of the magic number are the version.
        for version in [0x00, 0x01, 0xff] {
            let bytes = [&[0x80, 0x21, 0x10, version, 0, 0, 0, 12][..], &[0; 4], &FRAME].concat();
            assert_eq!(next(avs, &bytes), Ok(Next::Wlan(packet(&FRAME), WlanForm::Plain)));
            assert_eq!(next(prism, &bytes), Ok(Next::Wlan(packet(&FRAME), WlanForm::Plain)));
            assert_truncation(avs, &bytes, 12, CUT);
        }
        // A header with any other magic number is a Prism header, whose length is in the byte order
        // of the capturing machine.
        let bytes = [&[0x80, 0x21, 0x20, 0, 0, 0, 1, 0][..], &[0; 400]].concat();
        let expected = Ok(Next::Wlan(packet(&bytes[256..]), WlanForm::Plain));
        assert_eq!(next(prism, &bytes), expected);
    }
}
