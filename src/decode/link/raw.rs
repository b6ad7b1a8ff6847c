//! Links that carry IP with little or nothing before it: raw IP (LINKTYPE_RAW, 101, and 12 and 14,
//! the numbers that operating systems gave it; LINKTYPE_IPV4, 228; LINKTYPE_IPV6, 229), BSD
//! loopback (LINKTYPE_NULL, 0; also from Npcap) and OpenBSD loopback (LINKTYPE_LOOP, 108).

use crate::decode::{CUT, DecodeState, Next, Packet};
use crate::model::SkipReason;

pub(super) fn either<'p>(
    packet: Packet<'p>,
    _: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    Ok(Next::Ip(None, packet))
}

pub(super) fn v4<'p>(packet: Packet<'p>, _: &mut DecodeState<'_>) -> Result<Next<'p>, SkipReason> {
    Ok(Next::Ip(Some(4), packet))
}

pub(super) fn v6<'p>(packet: Packet<'p>, _: &mut DecodeState<'_>) -> Result<Next<'p>, SkipReason> {
    Ok(Next::Ip(Some(6), packet))
}

/// Reads an address family in the byte order of the capturing machine or (OpenBSD) of the network.
/// The family of IPv6 has a different number on each system, always below 256.
pub(super) fn family<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let word: &[u8; 4] = packet.bytes.first_chunk().ok_or(CUT)?;
    let family = match u32::from_le_bytes(*word) {
        low @ 0..=0xff => low,
        _ => u32::from_be_bytes(*word),
    };
    let inner = packet.after(word.len()).ok_or(CUT)?;
    Ok(match family {
        2 => Next::Ip(Some(4), inner),
        // FreeBSD 28, Darwin 30, NetBSD and OpenBSD 24, Linux 10, Windows 23.
        10 | 23 | 24 | 28 | 30 => Next::Ip(Some(6), inner),
        _ => layers.end_at_non_ip(0),
    })
}
