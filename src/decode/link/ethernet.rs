//! Ethernet II and IEEE 802.3 (LINKTYPE_ETHERNET, 1).

use etherparse::Ethernet2HeaderSlice;

use crate::decode::{Observation, Packet, ether};
use crate::model::{Mac, SkipReason};

pub(super) fn decode(packet: Packet<'_>, seen: &mut Observation) -> Result<(), SkipReason> {
    let header = Ethernet2HeaderSlice::from_slice(packet.bytes)
        .map_err(|_| SkipReason::TruncatedLinkHeader)?;
    seen.link.source = Mac(header.source());
    seen.broadcast = Mac(header.destination()) == Mac::BROADCAST;
    let rest = packet.after(header.slice().len()).ok_or(SkipReason::TruncatedLinkHeader)?;
    ether::decode(header.ether_type().0, rest, seen)
}
