//! Ethernet II and IEEE 802.3 (LINKTYPE_ETHERNET, 1).

use etherparse::Ethernet2HeaderSlice;

use crate::decode::{Layers, Next, Packet};
use crate::model::{Mac, SkipReason};

pub(in crate::decode) fn decode<'p>(
    packet: Packet<'p>,
    layers: &mut Layers<'_>,
) -> Result<Next<'p>, SkipReason> {
    let header = Ethernet2HeaderSlice::from_slice(packet.bytes)
        .map_err(|_| SkipReason::TruncatedLinkHeader)?;
    layers.seen.link.source = Mac(header.source());
    layers.seen.broadcast = Mac(header.destination()) == Mac::BROADCAST;
    let rest = packet.after(header.slice().len()).ok_or(SkipReason::TruncatedLinkHeader)?;
    Ok(Next::Ether(header.ether_type().0, rest))
}
