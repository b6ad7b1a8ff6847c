//! IEEE 802.11 frames. Unencrypted data frames that carry one packet, or its first fragment, are
//! decoded; all others are counted by skip reason.

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
    // Only data frames carry packets. Bit 2 of the subtype means that a data frame has no data.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::{layer, packet};
    use crate::decode::{Observation, WlanForm};

    const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
    const C: [u8; 6] = [2, 0, 0, 0, 0, 0xc];
    const D: [u8; 6] = [2, 0, 0, 0, 0, 0xd];
    const TO_SYSTEM: u8 = 1;
    const FROM_SYSTEM: u8 = 2;
    const PROTECTED: u8 = 0x40;
    const ORDER: u8 = 0x80;
    const DATA: u8 = 0x08;
    const QOS: u8 = 0x88;

    /// Returns a header (IEEE 802.11, 9.2.3): frame control, duration, three addresses and sequence
    /// control.
    fn header(control: u8, flags: u8) -> Vec<u8> {
        [&[control, flags, 0, 0][..], &A, &B, &C, &[0, 0]].concat()
    }

    /// Returns a frame whose content is an LLC and SNAP header for IPv4.
    fn with_llc(header: &[u8]) -> Vec<u8> {
        [header, &SNAP, &[0x08, 0x00, 0x45]].concat()
    }

    fn read(bytes: &[u8], form: WlanForm) -> (Result<Next<'_>, SkipReason>, Observation) {
        match form {
            WlanForm::Plain => layer(|p, l| decode(p, WlanForm::Plain, l), packet(bytes)),
            WlanForm::Padded => layer(|p, l| decode(p, WlanForm::Padded, l), packet(bytes)),
            WlanForm::Swapped => layer(|p, l| decode(p, WlanForm::Swapped, l), packet(bytes)),
        }
    }

    /// Checks that the content of a frame starts after `length` bytes.
    #[track_caller]
    fn assert_header(bytes: &[u8], form: WlanForm, length: usize) -> Observation {
        let (result, seen) = read(bytes, form);
        assert_eq!(result, Ok(Next::Llc(packet(&bytes[length..]))));
        seen
    }

    #[test]
    fn the_direction_says_which_address_is_the_source() {
        // IEEE 802.11, 9.3.2.1, table 9-30.
        for (flags, source) in [(0, B), (FROM_SYSTEM, C), (TO_SYSTEM, B)] {
            let seen = assert_header(&with_llc(&header(DATA, flags)), WlanForm::Plain, 24);
            assert_eq!(seen.link.source, Mac(source), "{flags}");
        }
        let four = [&header(DATA, TO_SYSTEM | FROM_SYSTEM)[..], &D].concat();
        assert_eq!(assert_header(&with_llc(&four), WlanForm::Plain, 30).link.source, Mac(D));
    }

    #[test]
    fn a_broadcast_is_known_by_the_destination_and_not_by_the_receiver() {
        let all = [0xff; 6];
        for (flags, at) in [(0, 4), (FROM_SYSTEM, 4), (TO_SYSTEM, 16)] {
            for place in [4, 16] {
                let mut bytes = with_llc(&header(DATA, flags));
                bytes[place..place + 6].copy_from_slice(&all);
                let (_, seen) = read(&bytes, WlanForm::Plain);
                assert_eq!(seen.broadcast, place == at, "{flags} {place}");
            }
        }
    }

    #[test]
    fn qos_and_ht_control_lengthen_the_header() {
        // IEEE 802.11, 9.2.4.5 and 9.2.4.6. The order bit of plain data has another meaning.
        let qos = [&header(QOS, 0)[..], &[0, 0]].concat();
        assert_header(&with_llc(&qos), WlanForm::Plain, 26);
        let ht = [&header(QOS, ORDER)[..], &[0; 6]].concat();
        assert_header(&with_llc(&ht), WlanForm::Plain, 30);
        assert_header(&with_llc(&header(DATA, ORDER)), WlanForm::Plain, 24);
    }

    #[test]
    fn padding_ends_at_a_multiple_of_four_and_only_if_it_was_announced() {
        let padded = [&header(QOS, 0)[..], &[0, 0, 0, 0]].concat();
        assert_header(&with_llc(&padded), WlanForm::Padded, 28);
        assert_header(&with_llc(&padded), WlanForm::Plain, 26);
        assert_header(&with_llc(&header(DATA, 0)), WlanForm::Padded, 24);
    }

    #[test]
    fn swapped_frame_control_is_read_in_the_other_order() {
        let mut bytes = with_llc(&header(DATA, FROM_SYSTEM));
        bytes.swap(0, 1);
        assert_eq!(assert_header(&bytes, WlanForm::Swapped, 24).link.source, Mac(C));
        assert_eq!(read(&bytes, WlanForm::Plain).0, Err(SkipReason::WlanManagement));
    }

    #[test]
    fn a_frame_without_a_packet_is_skipped_with_its_reason() {
        let reason_of = |bytes: &[u8]| read(bytes, WlanForm::Plain).0.err();
        // A beacon, an acknowledgement, null data with and without QoS, and a later version.
        for control in [0x80, 0xd4, 0x48, 0xc8, 0x09] {
            let bytes = with_llc(&header(control, 0));
            assert_eq!(reason_of(&bytes), Some(SkipReason::WlanManagement), "{control:#04x}");
        }
        // The low four bits of sequence control are the number of the fragment.
        let mut bytes = with_llc(&header(DATA, 0));
        bytes[22] = 0xf0;
        assert_eq!(reason_of(&bytes), None);
        bytes[22] = 0xf1;
        assert_eq!(reason_of(&bytes), Some(SkipReason::WlanFragment));
        let aggregate = [&header(QOS, 0)[..], &[0x80, 0]].concat();
        assert_eq!(reason_of(&with_llc(&aggregate)), Some(SkipReason::WlanAggregate));
        // Bit 7 marks an aggregate only in the first byte of QoS control.
        let queue = [&header(QOS, 0)[..], &[0x7f, 0x80]].concat();
        assert_eq!(reason_of(&with_llc(&queue)), None);
    }

    #[test]
    fn a_protected_frame_is_read_only_if_it_is_in_clear() {
        assert_header(&with_llc(&header(DATA, PROTECTED)), WlanForm::Plain, 24);
        let mut bytes = with_llc(&header(DATA, PROTECTED));
        bytes[24] ^= 1;
        assert_eq!(read(&bytes, WlanForm::Plain).0, Err(SkipReason::EncryptedLink));
        // Without content, nothing shows that the frame is unencrypted.
        assert_eq!(read(&bytes[..24], WlanForm::Plain).0, Err(SkipReason::EncryptedLink));
        bytes[1] = 0;
        assert!(read(&bytes, WlanForm::Plain).0.is_ok());
    }

    #[test]
    fn a_truncated_header_is_reported_at_every_length() {
        let four = [&header(QOS, TO_SYSTEM | FROM_SYSTEM | ORDER)[..], &D, &[0; 6]].concat();
        let bytes = with_llc(&four);
        for kept in 0..bytes.len() {
            let (result, _) = read(&bytes[..kept], WlanForm::Plain);
            let expected = bytes[..kept].get(four.len()..).map(|rest| Next::Llc(packet(rest)));
            assert_eq!(result, expected.ok_or(CUT), "{kept} bytes");
        }
    }

    #[test]
    fn clear_data_is_recognized_only_where_its_flags_put_snap() {
        assert!(is_clear_data(&with_llc(&header(DATA, TO_SYSTEM))));
        assert!(is_clear_data(&with_llc(&[&header(QOS, 0)[..], &[0, 0]].concat())));
        assert!(is_clear_data(&with_llc(&[&header(QOS, ORDER)[..], &[0; 6]].concat())));
        assert!(is_clear_data(&with_llc(&[&header(DATA, 3)[..], &D].concat())));
        // SNAP at another offset, a beacon, null data, and another protocol.
        assert!(!is_clear_data(&with_llc(&header(QOS, 0))));
        assert!(!is_clear_data(&with_llc(&header(0x80, 0))));
        assert!(!is_clear_data(&with_llc(&header(0x48, 0))));
        let mut other = with_llc(&header(DATA, 0));
        other[31] = 0x01;
        assert!(!is_clear_data(&other));
        let all = with_llc(&header(DATA, 0));
        for kept in 0..all.len() {
            assert_eq!(is_clear_data(&all[..kept]), kept >= 32, "{kept} bytes");
        }
    }
}
