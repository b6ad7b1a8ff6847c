//! Linux cooked captures, for example from the device `any`: version 1 (LINKTYPE_LINUX_SLL, 113)
//! and version 2 (LINKTYPE_LINUX_SLL2, 276).

use super::wireless;
use crate::decode::{CUT, DecodeState, Next, Packet};
use crate::model::{Mac, SkipReason};

/// The packet type of broadcasts in both versions.
const BROADCAST: u16 = 1;
/// The length of an Ethernet address in bytes.
const MAC_LEN: u16 = 6;

pub(super) fn version_1<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let header: &[u8; 16] = packet.bytes.first_chunk().ok_or(CUT)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    source(layers, word(4), &header[6..12]);
    layers.seen.broadcast = word(0) == BROADCAST;
    let inner = packet.after(header.len()).ok_or(CUT)?;
    carried(word(2), word(14), inner, layers)
}

pub(super) fn version_2<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let header: &[u8; 20] = packet.bytes.first_chunk().ok_or(CUT)?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    source(layers, u16::from(header[11]), &header[12..18]);
    layers.seen.broadcast = u16::from(header[10]) == BROADCAST;
    let inner = packet.after(header.len()).ok_or(CUT)?;
    carried(word(8), word(0), inner, layers)
}

/// Records the hardware address of the sender, if it has the length of an Ethernet address.
fn source(layers: &mut DecodeState<'_>, length: u16, address: &[u8]) {
    if let (MAC_LEN, Ok(mac)) = (length, address.try_into()) {
        layers.seen.link.source = Mac(mac);
    }
}

/// Returns the content that the protocol field announces, depending on the device type (ARPHRD).
fn carried<'p>(
    device: u16,
    protocol: u16,
    inner: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    match (device, protocol) {
        // IEEE 802.11 devices: without a capture header, with a Prism header, and with radiotap.
        (801, _) => wireless::plain(inner, layers),
        (802, _) => wireless::prism(inner, layers),
        (803, _) => wireless::radiotap(inner, layers),
        // Linux's own number for IEEE 802.2 frames (ETH_P_802_2).
        (_, 4) => Ok(Next::Llc(inner)),
        _ => Ok(Next::Ether(protocol, inner)),
    }
}
