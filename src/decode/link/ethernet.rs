//! Ethernet II and IEEE 802.3 (LINKTYPE_ETHERNET, 1).

use crate::decode::ether::{WLAN_AS_ETHERNET, is_known, is_length};
use crate::decode::{CUT, DecodeState, Next, Packet, wlan};
use crate::model::{Mac, SkipReason};

/// Records the source address and whether the frame is a broadcast, from the two hardware addresses
/// at its start.
pub(super) fn addresses(
    packet: Packet<'_>,
    layers: &mut DecodeState<'_>,
) -> Result<(), SkipReason> {
    let mac = |at: usize| -> Result<Mac, SkipReason> {
        let bytes = packet.bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(CUT)?;
        Ok(Mac(*bytes))
    };
    layers.seen.broadcast = mac(0)? == Mac::BROADCAST;
    layers.seen.link.source = mac(6)?;
    Ok(())
}

/// Returns the content that the EtherType at offset `at` identifies.
pub(super) fn announced(packet: Packet<'_>, at: usize) -> Result<Next<'_>, SkipReason> {
    Ok(Next::Ether(packet.u16(at).ok_or(CUT)?, packet.after(at + 2).ok_or(CUT)?))
}

pub(in crate::decode) fn decode<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let Some((head, _)) = packet.bytes.split_first_chunk::<14>() else { return Err(CUT) };
    let [to @ .., _, _, _, _, _, _, _, _] = head;
    let [_, _, _, _, _, _, from @ .., high, low] = head;
    layers.seen.broadcast = Mac(*to) == Mac::BROADCAST;
    layers.seen.link.source = Mac(*from);
    let ethertype = u16::from_be_bytes([*high, *low]);
    let inner = packet.after(head.len()).ok_or(CUT)?;
    if !matches!(ethertype, 0x0800 | 0x86dd) && is_wlan(ethertype, packet, inner) {
        return Ok(layers.end_at_non_ip(WLAN_AS_ETHERNET));
    }
    Ok(Next::Ether(ethertype, inner))
}

/// Returns whether a frame that the capture declares as Ethernet is an IEEE 802.11 frame: its
/// EtherType field contains neither a known EtherType nor a length before a SNAP header, and its
/// bytes match the layout of an unencrypted data frame.
fn is_wlan(ethertype: u16, packet: Packet<'_>, inner: Packet<'_>) -> bool {
    let is_snap = inner.bytes.starts_with(&[0xaa, 0xaa]);
    let is_unknown = !is_known(ethertype) || (is_length(ethertype) && !is_snap);
    is_unknown && wlan::is_clear_data(packet.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Body;
    use crate::decode::sample::{FROM, assert_truncation, ethernet, layer, packet};

    #[test]
    fn the_ethertype_follows_the_two_addresses() {
        // IEEE 802.3, 3.1.1: destination, source, EtherType.
        let bytes = ethernet(0x0800, &[0x45, 0]);
        let (result, seen) = layer(decode, packet(&bytes));
        assert_eq!(result, Ok(Next::Ether(0x0800, packet(&[0x45, 0]))));
        assert_eq!((seen.link.source, seen.broadcast), (FROM, false));
        assert_truncation(decode, &bytes, 14, CUT);
    }

    #[test]
    fn only_the_all_ones_destination_is_a_broadcast() {
        let mut bytes = ethernet(0x0800, &[0x45]);
        bytes[..6].fill(0xff);
        assert!(layer(decode, packet(&bytes)).1.broadcast);
        bytes[0] = 0xfe;
        assert!(!layer(decode, packet(&bytes)).1.broadcast);
        // A multicast address is not the broadcast address.
        bytes[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
        assert!(!layer(decode, packet(&bytes)).1.broadcast);
    }

    /// Returns an IEEE 802.11 data frame with these bytes where Ethernet has its EtherType.
    fn wlan_with(ethertype: [u8; 2]) -> Vec<u8> {
        let mut bytes = vec![0x08, 0x02, 0, 0];
        bytes.resize(24, 2);
        bytes[12..14].copy_from_slice(&ethertype);
        bytes.extend([0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x00, 0x45]);
        bytes
    }

    #[test]
    fn a_wireless_frame_under_the_wrong_label_is_recognized() {
        for unknown in [[0x77, 0x77], [0x00, 0x10]] {
            let bytes = wlan_with(unknown);
            let (result, seen) = layer(decode, packet(&bytes));
            assert_eq!(result, Ok(Next::Done));
            let claim = None;
            assert_eq!(seen.body, Body::NonIp { ethertype: WLAN_AS_ETHERNET, claim });
        }
        // If the EtherType is known, the frame counts as Ethernet.
        for known in [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x08, 0x06]] {
            let bytes = wlan_with(known);
            let expected = Ok(Next::Ether(u16::from_be_bytes(known), packet(&bytes[14..])));
            assert_eq!(layer(decode, packet(&bytes)).0, expected);
        }
        // A length followed by a SNAP header means IEEE 802.3.
        let mut snap = wlan_with([0x00, 0x10]);
        snap[14..16].copy_from_slice(&[0xaa, 0xaa]);
        let expected = Ok(Next::Ether(0x0010, packet(&snap[14..])));
        assert_eq!(layer(decode, packet(&snap)).0, expected);
    }

    #[test]
    fn addresses_need_all_of_their_bytes() {
        let bytes = ethernet(0x0800, &[]);
        let read = |kept: usize| {
            layer(|p, l| addresses(p, l).map(|()| Next::Done), packet(&bytes[..kept])).0
        };
        assert_eq!((read(11), read(12)), (Err(CUT), Ok(Next::Done)));
        assert_eq!(announced(packet(&bytes), 12), Ok(Next::Ether(0x0800, packet(&[]))));
        assert_eq!(announced(packet(&bytes), 13), Err(CUT));
    }
}
