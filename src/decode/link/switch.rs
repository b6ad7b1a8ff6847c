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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::{FROM, LayerDecoder, TO, assert_truncation, layer, next, packet};

    /// Returns a frame with a tag between the addresses and the EtherType.
    fn tagged(tag: &[u8]) -> Vec<u8> {
        [&TO.0[..], &FROM.0, tag, &[0x08, 0x00, 0x45, 0]].concat()
    }

    fn vlans(decode: LayerDecoder, bytes: &[u8]) -> Vec<u32> {
        layer(decode, packet(bytes)).1.link.vlans().collect()
    }

    #[test]
    fn a_broadcom_tag_is_skipped_in_the_frame_or_before_it() {
        // The tag has four bytes (Linux, net/dsa/tag_brcm.c).
        let bytes = tagged(&[0xff; 4]);
        let (result, seen) = layer(broadcom, packet(&bytes));
        assert_eq!(result, Ok(Next::Ether(0x0800, packet(&[0x45, 0]))));
        assert_eq!((seen.link.source, seen.link.tags().count()), (FROM, 0));
        assert_truncation(broadcom, &bytes, 18, CUT);
        let bytes = [&[0xff; 4][..], &tagged(&[])].concat();
        assert_eq!(next(broadcom_before, &bytes), Ok(Next::Ethernet(packet(&bytes[4..]))));
        assert_truncation(broadcom_before, &bytes, 4, CUT);
    }

    #[test]
    fn a_marvell_tag_names_the_vlan_of_a_tagged_frame() {
        // Linux, net/dsa/tag_dsa.c: bit 29 is set if the frame was tagged, and the VLAN identifier
        // has twelve bits.
        let bytes = tagged(&[0x20, 0, 0xf0, 0x07]);
        assert_eq!(next(dsa, &bytes), Ok(Next::Ether(0x0800, packet(&[0x45, 0]))));
        assert_eq!(vlans(dsa, &bytes), [7]);
        assert_eq!(vlans(dsa, &tagged(&[0xdf, 0, 0xf0, 0x07])), [0u32; 0]);
        assert_truncation(dsa, &bytes, 18, CUT);
    }

    #[test]
    fn an_ethertype_and_two_bytes_precede_the_tag_of_an_edsa_frame() {
        let bytes = tagged(&[0xda, 0xda, 0, 0, 0x20, 0, 0, 0x09]);
        assert_eq!(next(edsa, &bytes), Ok(Next::Ether(0x0800, packet(&[0x45, 0]))));
        assert_eq!(vlans(edsa, &bytes), [9]);
        assert_eq!(layer(edsa, packet(&bytes)).1.link.source, FROM);
        assert_truncation(edsa, &bytes, 22, CUT);
    }
}
