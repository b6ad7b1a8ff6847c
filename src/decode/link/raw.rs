//! Links that carry IP with little or nothing before it: raw IP (LINKTYPE_RAW, 101; also 12 and 14,
//! the numbers that operating systems use; LINKTYPE_IPV4, 228; LINKTYPE_IPV6, 229), BSD loopback
//! (LINKTYPE_NULL, 0; also from Npcap) and OpenBSD loopback (LINKTYPE_LOOP, 108).

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

/// Reads an address family, which is in the byte order of the capturing machine or, from OpenBSD,
/// in network byte order. The number of the IPv6 family depends on the system, but is always below
/// 256.
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
        // IPv6 is 28 on FreeBSD, 30 on Darwin, 24 on NetBSD and OpenBSD, 10 on Linux, 23 on
        // Windows.
        10 | 23 | 24 | 28 | 30 => Next::Ip(Some(6), inner),
        _ => layers.end_at_non_ip(0),
    })
}
