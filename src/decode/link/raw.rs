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

/// Reads an address family, which is in the byte order of the capturing machine or, on OpenBSD
/// loopback links, in network byte order. All families are below 256, which shows the byte order.
/// The number of the IPv6 family depends on the system.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Body;
    use crate::decode::sample::{assert_truncation, layer, next, packet};

    #[test]
    fn raw_links_announce_the_version_only_if_they_know_it() {
        assert_eq!(next(either, &[0x45]), Ok(Next::Ip(None, packet(&[0x45]))));
        assert_eq!(next(v4, &[0x45]), Ok(Next::Ip(Some(4), packet(&[0x45]))));
        assert_eq!(next(v6, &[0x45]), Ok(Next::Ip(Some(6), packet(&[0x45]))));
    }

    #[test]
    fn a_family_is_read_in_either_byte_order() {
        let version_of = |word: [u8; 4]| {
            let bytes = [&word[..], &[9]].concat();
            match next(family, &bytes) {
                Ok(Next::Ip(version, inner)) if inner.bytes == [9] => version,
                _ => None,
            }
        };
        // LINKTYPE_NULL has either byte order, LINKTYPE_LOOP always network byte order.
        for (number, version) in [(2, 4), (10, 6), (23, 6), (24, 6), (28, 6), (30, 6)] {
            assert_eq!(version_of([number, 0, 0, 0]), Some(version), "{number}");
            assert_eq!(version_of([0, 0, 0, number]), Some(version), "{number}");
        }
        for word in [[0; 4], [3, 0, 0, 0], [2, 0, 0, 2], [0, 2, 0, 0], [255, 0, 0, 0]] {
            assert_eq!(version_of(word), None, "{word:?}");
        }
    }

    #[test]
    fn another_family_is_not_ip_and_a_truncated_one_is_no_packet() {
        let (result, seen) = layer(family, packet(&[7, 0, 0, 0, 1]));
        assert_eq!(result, Ok(Next::Done));
        assert_eq!(seen.body, Body::NonIp { ethertype: 0, claim: None });
        assert_truncation(family, &[2, 0, 0, 0, 0x45, 0], 4, CUT);
    }
}
