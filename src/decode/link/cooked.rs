//! Linux cooked captures, as of the device `any`: version 1 (LINKTYPE_LINUX_SLL, 113) and version 2
//! (LINKTYPE_LINUX_SLL2, 276).

use crate::decode::{Observation, Packet, ether};
use crate::model::{Mac, SkipReason};

/// Packet type "sent to everybody", in both versions.
const BROADCAST: u16 = 1;
/// The length of an Ethernet address.
const MAC_LEN: u16 = 6;

pub(super) fn version_1(packet: Packet<'_>, seen: &mut Observation) -> Result<(), SkipReason> {
    let header: &[u8; 16] = packet.bytes.first_chunk().ok_or(SkipReason::TruncatedLinkHeader)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    source(seen, word(4), &header[6..12]);
    seen.broadcast = word(0) == BROADCAST;
    let rest = packet.after(header.len()).ok_or(SkipReason::TruncatedLinkHeader)?;
    ether::decode(word(14), rest, seen)
}

pub(super) fn version_2(packet: Packet<'_>, seen: &mut Observation) -> Result<(), SkipReason> {
    let header: &[u8; 20] = packet.bytes.first_chunk().ok_or(SkipReason::TruncatedLinkHeader)?;
    source(seen, u16::from(header[11]), &header[12..18]);
    seen.broadcast = u16::from(header[10]) == BROADCAST;
    let rest = packet.after(header.len()).ok_or(SkipReason::TruncatedLinkHeader)?;
    ether::decode(u16::from_be_bytes([header[0], header[1]]), rest, seen)
}

/// The sender's hardware address, where it is one of Ethernet.
fn source(seen: &mut Observation, length: u16, address: &[u8]) {
    if let (MAC_LEN, Ok(mac)) = (length, address.try_into()) {
        seen.link.source = Mac(mac);
    }
}
