//! What Ethernet switches put into the frames that go to their host: the tags of Marvell (LINKTYPE_DSA_TAG_DSA, 284;
//! LINKTYPE_DSA_TAG_EDSA, 285) and Broadcom (LINKTYPE_DSA_TAG_BRCM, 281; LINKTYPE_DSA_TAG_BRCM_PREPEND, 282).

use super::ethernet;
use crate::decode::{Layers, Next, Packet, TagKind};
use crate::model::SkipReason;

const CUT: SkipReason = SkipReason::TruncatedLinkHeader;

/// Length of both hardware addresses in bytes.
const ADDRESSES: usize = 12;

/// Notes the VLAN of a Marvell tag, which takes the place of the outermost VLAN tag. An untagged frame carries a
/// number too, which only the switch knows.
pub(in crate::decode) fn marvell(tag: u32, layers: &mut Layers<'_>) {
    const TAGGED: u32 = 1 << 29;
    if tag & TAGGED != 0 {
        layers.tag(TagKind::Vlan, Some(tag & 0xfff));
    }
}

/// A tag of four bytes between the addresses and the ethertype.
pub(super) fn dsa<'p>(packet: Packet<'p>, layers: &mut Layers<'_>) -> Result<Next<'p>, SkipReason> {
    ethernet::addresses(packet, layers)?;
    marvell(packet.u32(ADDRESSES).ok_or(CUT)?, layers);
    ethernet::announced(packet, ADDRESSES + 4)
}

/// An ethertype that the switch was told to use, two bytes, and the tag.
pub(super) fn edsa<'p>(
    packet: Packet<'p>,
    layers: &mut Layers<'_>,
) -> Result<Next<'p>, SkipReason> {
    ethernet::addresses(packet, layers)?;
    marvell(packet.u32(ADDRESSES + 4).ok_or(CUT)?, layers);
    ethernet::announced(packet, ADDRESSES + 8)
}

/// A tag of four bytes between the addresses and the ethertype.
pub(super) fn broadcom<'p>(
    packet: Packet<'p>,
    layers: &mut Layers<'_>,
) -> Result<Next<'p>, SkipReason> {
    ethernet::addresses(packet, layers)?;
    ethernet::announced(packet, ADDRESSES + 4)
}

/// A tag of four bytes before the frame.
pub(super) fn broadcom_before<'p>(
    packet: Packet<'p>,
    _: &mut Layers<'_>,
) -> Result<Next<'p>, SkipReason> {
    Ok(Next::Ethernet(packet.after(4).ok_or(CUT)?))
}
