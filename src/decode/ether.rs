//! What an ethertype announces: VLAN tags (IEEE 802.1Q, 802.1ad), ARP, IP, or something that is
//! counted by its number.

use std::net::IpAddr;

use etherparse::{ArpPacketSlice, SingleVlanHeaderSlice};

use super::{Body, KEPT_TAGS, Observation, Packet, ip};
use crate::model::{Mac, SkipReason};

/// VLAN tags followed before a frame is given up.
const MAX_TAGS: usize = 8;

pub(super) fn decode(
    mut ethertype: u16,
    mut packet: Packet<'_>,
    seen: &mut Observation,
) -> Result<(), SkipReason> {
    let mut tags = 0;
    // 0x8100 is 802.1Q, 0x88a8 802.1ad, 0x9100 what early stacking switches send.
    while matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
        let tag = SingleVlanHeaderSlice::from_slice(packet.bytes)
            .map_err(|_| SkipReason::TruncatedVlanTag)?;
        if tags == MAX_TAGS {
            return Err(SkipReason::TooManyVlanTags);
        }
        if tags < KEPT_TAGS {
            seen.link.vlans[tags] = tag.vlan_identifier().value();
        }
        tags += 1;
        ethertype = tag.ether_type().0;
        packet = packet.after(tag.slice().len()).ok_or(SkipReason::TruncatedVlanTag)?;
    }
    match ethertype {
        0x0800 => ip::decode(packet, Some(4), seen),
        0x86dd => ip::decode(packet, Some(6), seen),
        0x0806 => {
            seen.body = Body::NonIp { ethertype, claim: arp_claim(packet.bytes) };
            Ok(())
        }
        // Below 0x0600 the field is a length (IEEE 802.3, 3.2.6).
        length if length < 0x0600 => {
            seen.body = Body::NonIp { ethertype: 0, claim: None };
            Ok(())
        }
        _ => {
            seen.body = Body::NonIp { ethertype, claim: None };
            Ok(())
        }
    }
}

/// Who says which IPv4 address is his; a probe (RFC 5227) claims nothing.
fn arp_claim(bytes: &[u8]) -> Option<(IpAddr, Mac)> {
    let arp = ArpPacketSlice::from_slice(bytes).ok()?;
    let mac = Mac(arp.sender_hw_addr().try_into().ok()?);
    let ip: [u8; 4] = arp.sender_protocol_addr().try_into().ok()?;
    (ip != [0; 4]).then_some((IpAddr::from(ip), mac))
}
