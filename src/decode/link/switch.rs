//! Tags that Ethernet switch chips add to frames for the host CPU: Marvell (LINKTYPE_DSA_TAG_DSA,
//! 284; LINKTYPE_DSA_TAG_EDSA, 285) and Broadcom (LINKTYPE_DSA_TAG_BRCM, 281;
//! LINKTYPE_DSA_TAG_BRCM_PREPEND, 282).

use super::ethernet;
use crate::decode::ether::marvell;
use crate::decode::{CUT, DecodeState, Next, Packet};
use crate::model::SkipReason;

/// Length of the two hardware addresses in bytes.
const ADDRESSES: usize = 12;

/// Length of a switch tag in bytes.
const TAG: usize = 4;

/// Reads a Marvell tag between the addresses and the EtherType.
pub(super) fn dsa<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let frame = broadcom(packet, layers)?;
    marvell(packet.u32(ADDRESSES).ok_or(CUT)?, layers);
    Ok(frame)
}

/// Reads a Marvell tag that follows an EtherType configured on the switch and two more bytes.
pub(super) fn edsa<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    ethernet::addresses(packet, layers)?;
    marvell(packet.u32(ADDRESSES + 4).ok_or(CUT)?, layers);
    ethernet::announced(packet, ADDRESSES + 4 + TAG)
}

/// Skips a Broadcom tag between the addresses and the EtherType.
pub(super) fn broadcom<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    ethernet::addresses(packet, layers)?;
    ethernet::announced(packet, ADDRESSES + TAG)
}

/// Skips a Broadcom tag before the Ethernet header.
pub(super) fn broadcom_before<'p>(
    packet: Packet<'p>,
    _: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    Ok(Next::Ethernet(packet.after(TAG).ok_or(CUT)?))
}
