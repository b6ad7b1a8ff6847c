//! Ethernet II and IEEE 802.3 (LINKTYPE_ETHERNET, 1).

use crate::decode::ether::is_known;
use crate::decode::{Layers, Next, Packet, wlan};
use crate::model::{Mac, SkipReason};

const CUT: SkipReason = SkipReason::TruncatedLinkHeader;

/// Stands in the place of an ethertype for an IEEE 802.11 frame in a capture that calls it Ethernet, as Windows' pktmon
/// writes the frames of a wireless card.
pub(in crate::decode) const WLAN_AS_ETHERNET: u16 = 2;

/// Reads the hardware addresses.
pub(super) fn addresses(packet: Packet<'_>, layers: &mut Layers<'_>) -> Result<(), SkipReason> {
    let mac = |at: usize| -> Result<Mac, SkipReason> {
        let bytes = packet.bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(CUT)?;
        Ok(Mac(*bytes))
    };
    layers.seen.broadcast = mac(0)? == Mac::BROADCAST;
    layers.seen.link.source = mac(6)?;
    Ok(())
}

/// Returns what the ethertype at `at` announces.
pub(super) fn announced(packet: Packet<'_>, at: usize) -> Result<Next<'_>, SkipReason> {
    Ok(Next::Ether(packet.u16(at).ok_or(CUT)?, packet.after(at + 2).ok_or(CUT)?))
}

pub(in crate::decode) fn decode<'p>(
    packet: Packet<'p>,
    layers: &mut Layers<'_>,
) -> Result<Next<'p>, SkipReason> {
    addresses(packet, layers)?;
    let next = announced(packet, 12)?;
    if let Next::Ether(ethertype, _) = next
        && !is_known(ethertype)
        && wlan::is_clear_data(packet.bytes)
    {
        return Ok(layers.non_ip(WLAN_AS_ETHERNET));
    }
    Ok(next)
}
