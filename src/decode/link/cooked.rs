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

/// Returns the content that the protocol field identifies, depending on the device type (ARPHRD).
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::WlanForm;
    use crate::decode::sample::{LayerDecoder, assert_truncation, layer, next, packet};

    /// Returns a version 1 header (LINKTYPE_LINUX_SLL) and two bytes of content. The header
    /// consists of packet type, device type, address length, address and protocol.
    fn first(kind: u8, device: u16, length: u8, protocol: u16) -> Vec<u8> {
        let mut bytes = vec![0, kind];
        bytes.extend(device.to_be_bytes());
        bytes.extend([0, length, 2, 0, 0, 0, 0, 9, 0xee, 0xee]);
        bytes.extend(protocol.to_be_bytes());
        bytes.extend([7, 7]);
        bytes
    }

    /// Returns a version 2 header (LINKTYPE_LINUX_SLL2) and two bytes of content. The header
    /// consists of protocol, reserved bytes, interface, device type, packet type, address length
    /// and address.
    fn second(kind: u8, device: u16, length: u8, protocol: u16) -> Vec<u8> {
        let mut bytes = protocol.to_be_bytes().to_vec();
        bytes.extend([0, 0, 0, 0, 0, 3]);
        bytes.extend(device.to_be_bytes());
        bytes.extend([kind, length, 2, 0, 0, 0, 0, 9, 0xee, 0xee, 7, 7]);
        bytes
    }

    #[test]
    fn both_versions_name_the_protocol_and_the_sender() {
        for (decode, bytes, header) in [
            (version_1 as LayerDecoder, first(0, 1, 6, 0x0800), 16),
            (version_2, second(0, 1, 6, 0x0800), 20),
        ] {
            let (result, seen) = layer(decode, packet(&bytes));
            assert_eq!(result, Ok(Next::Ether(0x0800, packet(&[7, 7]))));
            assert_eq!((seen.link.source, seen.broadcast), (Mac([2, 0, 0, 0, 0, 9]), false));
            assert_truncation(decode, &bytes, header, CUT);
        }
    }

    #[test]
    fn only_packet_type_one_is_a_broadcast() {
        for kind in 0..=4 {
            let seen = layer(version_1, packet(&first(kind, 1, 6, 0x0800))).1;
            assert_eq!(seen.broadcast, kind == 1, "{kind}");
            let seen = layer(version_2, packet(&second(kind, 1, 6, 0x0800))).1;
            assert_eq!(seen.broadcast, kind == 1, "{kind}");
        }
    }

    #[test]
    fn an_address_of_another_length_is_not_a_hardware_address() {
        for length in [0, 4, 5, 7, 8] {
            let seen = layer(version_1, packet(&first(0, 1, length, 0x0800))).1;
            assert_eq!(seen.link.source, Mac::NONE, "{length}");
            let seen = layer(version_2, packet(&second(0, 1, length, 0x0800))).1;
            assert_eq!(seen.link.source, Mac::NONE, "{length}");
        }
    }

    #[test]
    fn the_device_and_the_protocol_say_what_is_carried() {
        let llc = first(0, 1, 6, 4);
        assert_eq!(next(version_1, &llc), Ok(Next::Llc(packet(&[7, 7]))));
        // ARPHRD_IEEE80211: no EtherType is read.
        let plain = first(0, 801, 6, 4);
        assert_eq!(next(version_1, &plain), Ok(Next::Wlan(packet(&[7, 7]), WlanForm::Plain)));
        let plain = second(0, 801, 6, 0x0800);
        assert_eq!(next(version_2, &plain), Ok(Next::Wlan(packet(&[7, 7]), WlanForm::Plain)));
        // The two bytes of content are too short for a Prism or radiotap header.
        for device in [802, 803] {
            assert_eq!(next(version_1, &first(0, device, 6, 4)), Err(CUT), "{device}");
        }
    }
}
