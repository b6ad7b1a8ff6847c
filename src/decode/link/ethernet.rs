//! Ethernet II and IEEE 802.3 (LINKTYPE_ETHERNET, 1).

use crate::decode::ether::{WLAN_AS_ETHERNET, is_known, is_length};
use crate::decode::{CUT, DecodeState, Next, Packet, wlan};
use crate::model::{Mac, SkipReason};

/// Reads the two hardware addresses at the start of a frame.
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

/// Returns the content that the EtherType at offset `at` announces.
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

/// Returns whether a frame that the capture declares as Ethernet is an IEEE 802.11 frame. Its
/// EtherType would be unknown, and all fields are where a data frame has them.
fn is_wlan(ethertype: u16, packet: Packet<'_>, inner: Packet<'_>) -> bool {
    let is_snap = inner.bytes.starts_with(&[0xaa, 0xaa]);
    let is_unknown = !is_known(ethertype) || (is_length(ethertype) && !is_snap);
    is_unknown && wlan::is_clear_data(packet.bytes)
}
