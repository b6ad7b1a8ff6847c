//! Decodes the content that an EtherType identifies: VLAN tags (IEEE 802.1Q, 802.1ad) and other
//! link-layer wrappers, ARP and IP. Other content is only counted by its EtherType. Also decodes
//! IEEE 802.2, whose SNAP header contains an EtherType.

use std::net::IpAddr;

use etherparse::{ArpPacketSlice, SingleVlanHeaderSlice};

use super::{Body, CUT, DecodeState, EncapTagKind, Next, Packet, ppp};
use crate::model::{Mac, SkipReason, VLAN_TAG_TYPES};

/// The largest length in an IEEE 802.3 length field. All larger values are read as EtherTypes,
/// although these start at 0x0600 (IEEE 802.3, 3.2.6).
const MAX_LENGTH: u16 = 1500;

/// The maximum number of labels in an MPLS stack. Frames with deeper stacks are skipped.
const MAX_LABELS: usize = 16;

/// A function that decodes the header that an EtherType identifies and returns the content after
/// it.
type EtherDecoder =
    for<'p> fn(u16, Packet<'p>, &mut DecodeState<'_>) -> Result<Next<'p>, SkipReason>;

/// A protocol other than IP that rasaudit decodes by EtherType.
pub struct EtherType {
    /// The EtherTypes of the protocol. Some of those in use are not in the IEEE registry.
    pub numbers: &'static [u16],
    /// The name of the protocol, for example `ARP`.
    pub name: &'static str,
    /// The document that specifies the protocol, for example `RFC 826`.
    pub document: &'static str,
    /// The version of rasaudit that first decoded the protocol.
    pub since: &'static str,
    decode: EtherDecoder,
}

const fn ether(
    numbers: &'static [u16],
    name: &'static str,
    document: &'static str,
    since: &'static str,
    decode: EtherDecoder,
) -> EtherType {
    EtherType { numbers, name, document, since, decode }
}

/// The protocols other than IP that are decoded by EtherType.
pub const ETHERTYPES: &[EtherType] = &[
    ether(&VLAN_TAG_TYPES, "VLAN tag", "IEEE 802.1Q, 802.1ad", "0.1", vlan),
    ether(&[0x0806], "ARP", "RFC 826", "0.1", arp),
    ether(&[0x8847, 0x8848], "MPLS label stack, pseudowire", "RFC 3032, RFC 4448", "0.1", mpls),
    ether(&[0x8864], "PPP over Ethernet", "RFC 2516", "0.1", |_, packet, layers| {
        ppp::session(packet, layers)
    }),
    ether(&[0x88e5], "MACsec without encryption", "IEEE 802.1AE", "0.1", macsec),
    ether(&[0x88e7], "provider backbone bridging", "IEEE 802.1ah", "0.1", |_, packet, _| {
        Ok(Next::Ethernet(packet.after(4).ok_or(CUT)?))
    }),
    ether(&[0x893f], "bridge port extension", "IEEE 802.1BR", "0.1", |_, packet, _| {
        Ok(Next::Ether(packet.u16(6).ok_or(CUT)?, packet.after(8).ok_or(CUT)?))
    }),
    ether(&[0x8926], "VN-Tag", "Cisco", "0.1", |_, packet, _| {
        Ok(Next::Ether(packet.u16(4).ok_or(CUT)?, packet.after(6).ok_or(CUT)?))
    }),
    ether(&[0x8903], "FabricPath", "Cisco", "0.1", |_, packet, _| {
        Ok(Next::Ethernet(packet.after(2).ok_or(CUT)?))
    }),
    ether(&[0x8909], "Cisco metadata (TrustSec)", "Cisco", "0.1", metadata),
    ether(&[0x8988], "Cisco timestamp", "Cisco", "0.1", |_, packet, _| {
        Ok(Next::Ether(packet.u16(6).ok_or(CUT)?, packet.after(8).ok_or(CUT)?))
    }),
    ether(&[0xd28b], "Arista timestamp", "Arista, Overview of timestamps", "0.1", timestamp),
    ether(
        &[0xdada],
        "Marvell switch tag",
        "Linux, net/dsa/tag_dsa.c",
        "0.1",
        |_, packet, layers| {
            marvell(packet.u32(2).ok_or(CUT)?, layers);
            Ok(Next::Ether(packet.u16(6).ok_or(CUT)?, packet.after(8).ok_or(CUT)?))
        },
    ),
    ether(&[0x8874], "Broadcom switch tag", "Linux, net/dsa/tag_brcm.c", "0.1", |_, packet, _| {
        Ok(Next::Ether(packet.u16(4).ok_or(CUT)?, packet.after(6).ok_or(CUT)?))
    }),
    // The tag of a ring with redundant paths (HSR): two bytes of path and size, a sequence number,
    // and the EtherType of the content.
    ether(&[0x892f], "HSR tag", "IEC 62439-3", "0.1", |_, packet, _| {
        Ok(Next::Ether(packet.u16(4).ok_or(CUT)?, packet.after(6).ok_or(CUT)?))
    }),
    ether(&[0x894f], "network service header", "RFC 8300", "0.1", service_chain),
];

pub(super) fn decode<'p>(
    ethertype: u16,
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    match ethertype {
        0x0800 => Ok(Next::Ip(Some(4), packet)),
        0x86dd => Ok(Next::Ip(Some(6), packet)),
        length if length <= MAX_LENGTH => Ok(Next::Llc(packet.limited(usize::from(length)))),
        _ => match ETHERTYPES.iter().find(|known| known.numbers.contains(&ethertype)) {
            Some(known) => (known.decode)(ethertype, packet, layers),
            None => Ok(layers.end_at_non_ip(ethertype)),
        },
    }
}

/// Returns whether the value in the EtherType field is a length.
pub(super) fn is_length(ethertype: u16) -> bool {
    ethertype <= MAX_LENGTH
}

/// Returns whether the value in the EtherType field is a decoded EtherType or a length.
pub(super) fn is_known(ethertype: u16) -> bool {
    ethertype <= MAX_LENGTH
        || matches!(ethertype, 0x0800 | 0x86dd)
        || ETHERTYPES.iter().any(|known| known.numbers.contains(&ethertype))
}

/// Reads Cisco metadata: a version, a length, options, and the EtherType of the content. The length
/// is in units of eight bytes and includes the EtherType of the metadata itself.
fn metadata<'p>(
    ethertype: u16,
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let &[version, words, ..] = packet.bytes else { return Err(CUT) };
    if version != 1 || words == 0 {
        return Ok(layers.end_at_non_ip(ethertype));
    }
    let end = usize::from(words) * 8 - 2;
    Ok(Next::Ether(packet.u16(end).ok_or(CUT)?, packet.after(end + 2).ok_or(CUT)?))
}

/// Reads an Arista timestamp: a subtype, a version that determines the length of the timestamp, and
/// the EtherType of the content.
fn timestamp<'p>(
    ethertype: u16,
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    const TIMESTAMP: u16 = 1;
    let subtype = packet.u16(0).ok_or(CUT)?;
    let version = packet.u16(2).ok_or(CUT)?;
    let end = match (subtype, version >> 4 & 0xf) {
        (TIMESTAMP, 1) => 12,
        (TIMESTAMP, 2) => 10,
        _ => return Ok(layers.end_at_non_ip(ethertype)),
    };
    Ok(Next::Ether(packet.u16(end).ok_or(CUT)?, packet.after(end + 2).ok_or(CUT)?))
}

/// Names (IEEE registry) of EtherTypes whose content is not decoded, or not in every case.
const NAMES: &[(u16, &str)] = &[
    (0x0600, "Xerox NS IDP"),
    (0x22f0, "Audio Video Transport Protocol"),
    (0x80f3, "AppleTalk ARP"),
    (0x809b, "AppleTalk"),
    (0x80d5, "IBM SNA"),
    (0x8137, "IPX"),
    (0x86dd, "IPv6"),
    (0x8847, "MPLS"),
    (0x8848, "MPLS, multicast"),
    (0x8870, "jumbo frames with LLC"),
    (0x888d, "HyperSCSI"),
    (0x8892, "PROFINET"),
    (0x88a2, "ATA over Ethernet"),
    (0x88a4, "EtherCAT"),
    (0x88b5, "local experiments"),
    (0x88b6, "local experiments"),
    (0x88b7, "OUI extended"),
    (0x88b8, "GOOSE"),
    (0x88ba, "sampled values"),
    (0x88f8, "NC-SI"),
    (0x8906, "Fibre Channel over Ethernet"),
    (0x8909, "Cisco metadata"),
    (0x890d, "TDLS"),
    (0x8914, "FCoE initialization"),
    (0x8915, "RoCE"),
    (0x894f, "network service header"),
    (0xcafe, "Arista, generated traffic"),
    (0xd28b, "Arista"),
];

/// Describes an EtherType, or a number below 3 that replaces the EtherType of a frame that has
/// none.
pub fn ethertype_words(number: u16) -> String {
    let name = NAMES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
    match (number, name) {
        (WLAN_AS_ETHERNET, _) => {
            "IEEE 802.11 in a capture that is labelled as Ethernet (editcap -T ieee-802-11 corrects this)"
                .to_owned()
        }
        (0, _) => "a protocol without an EtherType".to_owned(),
        (1..=MAX_LENGTH, _) => "IEEE 802.2 of an unknown kind".to_owned(),
        (_, Some(name)) => format!("EtherType {number:#06x} ({name})"),
        (_, None) => format!("EtherType {number:#06x}"),
    }
}

fn vlan<'p>(
    _: u16,
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let tag = SingleVlanHeaderSlice::from_slice(packet.bytes)
        .map_err(|_| SkipReason::TruncatedVlanTag)?;
    layers.note_tag(EncapTagKind::Vlan, Some(u32::from(tag.vlan_identifier().value())));
    let inner = packet.after(tag.slice().len()).ok_or(SkipReason::TruncatedVlanTag)?;
    Ok(Next::Ether(tag.ether_type().0, inner))
}

fn arp<'p>(
    ethertype: u16,
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    layers.seen.body = Body::NonIp { ethertype, claim: arp_claim(packet.bytes) };
    Ok(Next::Done)
}

/// Reads IEEE 802.2 logical link control: SNAP with an EtherType or a bridged frame, or the service
/// access point of IP.
pub(super) fn llc<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    Ok(match packet.bytes {
        // The encapsulation of RFC 1042 and the bridge tunnel of IEEE 802.1H.
        [0xaa, 0xaa, 0x03, 0, 0, 0 | 0xf8, ..] => {
            Next::Ether(packet.u16(6).ok_or(CUT)?, packet.after(8).ok_or(CUT)?)
        }
        // Bridged frames (RFC 2684), with or without their frame check sequence.
        [0xaa, 0xaa, 0x03, 0x00, 0x80, 0xc2, 0x00, 0x01 | 0x07, ..] => {
            Next::Ethernet(packet.after(8).ok_or(CUT)?)
        }
        [0x06, 0x06, 0x03, ..] => Next::Ip(Some(4), packet.after(3).ok_or(CUT)?),
        // Known content other than IP: spanning tree, vendors' SNAP, NetWare, NetBIOS, ISO, SNA and
        // link tests.
        [0x42, 0x42, ..]
        | [0xaa, 0xaa, 0x03, ..]
        | [0xe0, 0xe0, ..]
        | [0xff, 0xff, ..]
        | [0xf0, 0xf0 | 0xf1, ..]
        | [0xfe, 0xfe, ..]
        | [0x04, 0x04 | 0x05, ..]
        | [0x00, 0x00 | 0x01, ..] => layers.end_at_non_ip(0),
        _ => layers.end_at_non_ip(UNKNOWN_LLC),
    })
}

/// The number that replaces the EtherType of an IEEE 802.11 frame that the capture declares as
/// Ethernet. The Windows tool pktmon writes such captures for wireless cards.
pub(super) const WLAN_AS_ETHERNET: u16 = 2;

/// Records the VLAN of a Marvell switch tag, which replaces the outermost VLAN tag. The tag of an
/// untagged frame also contains a number, but only the switch knows its meaning.
pub(super) fn marvell(tag: u32, layers: &mut DecodeState<'_>) {
    const TAGGED: u32 = 1 << 29;
    if tag & TAGGED != 0 {
        layers.note_tag(EncapTagKind::Vlan, Some(tag & 0xfff));
    }
}

/// The number that replaces the EtherType of an IEEE 802.2 frame of an unknown kind, which may
/// contain anything.
const UNKNOWN_LLC: u16 = 1;

/// Reads an MPLS label stack (RFC 3032) and its content: IP, which is recognized by its first
/// nibble (RFC 4928), or an Ethernet pseudowire (RFC 4448) with or without a control word, which is
/// recognized by a known EtherType.
fn mpls<'p>(
    _: u16,
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let mut inner = packet;
    for _ in 0..MAX_LABELS {
        let entry = inner.u32(0).ok_or(CUT)?;
        inner = inner.after(4).ok_or(CUT)?;
        layers.note_tag(EncapTagKind::Mpls, Some(entry >> 12));
        if entry & 0x100 == 0 {
            continue;
        }
        // The nibble alone is not enough, because a hardware address may start with the same bits.
        let version = inner.bytes.first().ok_or(CUT)? >> 4;
        return match version {
            4 | 6 if fits_ip(inner, version) || !carries_ethernet(Some(inner)) => {
                Ok(Next::Ip(Some(version), inner))
            }
            0 if carries_ethernet(inner.after(4)) => Ok(Next::Ethernet(inner.after(4).ok_or(CUT)?)),
            _ if carries_ethernet(Some(inner)) => Ok(Next::Ethernet(inner)),
            // In a tunnel, such bytes may not be a label stack at all, so the packet around the
            // tunnel becomes the observation.
            _ if layers.outer.is_some() => Err(SkipReason::BadLinkHeader),
            _ => Ok(layers.end_at_non_ip(0x8847)),
        };
    }
    Err(SkipReason::TooManyEncapsulations)
}

/// Returns whether the length in an IP header of this version matches the length of the packet.
fn fits_ip(packet: Packet<'_>, version: u8) -> bool {
    let length = match version {
        // The total length includes the header. A smaller number may be part of a hardware address.
        4 => packet.u16(2).map(usize::from).filter(|length| *length >= 20),
        _ => packet.u16(4).map(|payload| 40 + usize::from(payload)),
    };
    // Padding may extend a short packet to a length of up to 60 bytes. For any other packet, the
    // two lengths must be equal.
    length.is_some_and(|length| length <= packet.wire && packet.wire <= length.max(60))
}

/// Returns whether a packet looks like an Ethernet frame: its EtherType field contains a known
/// EtherType, or a length before a SNAP header.
fn carries_ethernet(packet: Option<Packet<'_>>) -> bool {
    let Some((packet, ethertype)) = packet.and_then(|p| Some((p, p.u16(12)?))) else {
        return false;
    };
    matches!(ethertype, 0x0800 | 0x86dd)
        || ETHERTYPES.iter().any(|known| known.numbers.contains(&ethertype))
        || (ethertype <= MAX_LENGTH && packet.bytes[14..].starts_with(&[0xaa, 0xaa, 0x03]))
}

/// Reads a MACsec security tag (IEEE 802.1AE) and, if the frame is not encrypted, the EtherType
/// after it.
fn macsec<'p>(
    _: u16,
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    const CHECK_VALUE: usize = 16;
    let control = packet.bytes.first().ok_or(CUT)?;
    if control & 0x0c != 0 {
        return Err(SkipReason::EncryptedLink);
    }
    let length = if control & 0x20 != 0 { 14 } else { 6 };
    layers.note_tag(EncapTagKind::Macsec, None);
    let ethertype = packet.u16(length).ok_or(CUT)?;
    let inner = packet.after(length + 2).ok_or(CUT)?;
    Ok(Next::Ether(ethertype, inner.limited(inner.wire.saturating_sub(CHECK_VALUE))))
}

/// Reads a network service header (RFC 8300), whose length is in units of four bytes, and returns
/// its content.
fn service_chain<'p>(
    _: u16,
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    let length = usize::from(packet.u16(0).ok_or(CUT)? & 0x3f) * 4;
    let protocol = *packet.bytes.get(3).ok_or(CUT)?;
    // The base header and the service path header have four bytes each.
    if length < 8 {
        return Ok(layers.end_at_non_ip(0x894f));
    }
    let inner = packet.after(length).ok_or(CUT)?;
    Ok(match protocol {
        1 => Next::Ip(Some(4), inner),
        2 => Next::Ip(Some(6), inner),
        3 => Next::Ethernet(inner),
        5 => Next::Ether(0x8847, inner),
        _ => layers.end_at_non_ip(0x894f),
    })
}

/// Returns the IPv4 address and the hardware address that the sender of an ARP packet claims;
/// `None` for a probe (RFC 5227), which does not claim an address, and for a packet that is
/// truncated or not for IPv4 over Ethernet.
fn arp_claim(bytes: &[u8]) -> Option<(IpAddr, Mac)> {
    let arp = ArpPacketSlice::from_slice(bytes).ok()?;
    let mac = Mac(arp.sender_hw_addr().try_into().ok()?);
    let ip: [u8; 4] = arp.sender_protocol_addr().try_into().ok()?;
    (ip != [0; 4]).then_some((IpAddr::from(ip), mac))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::{
        LayerDecoder, assert_truncation, ethernet, ipv4, ipv6, layer, next, packet, udp,
    };
    use crate::decode::{Decoder, Observation};

    /// Returns the bytes of a small UDP packet.
    fn ip() -> Vec<u8> {
        ipv4(17, &udp(50_000, 50_001, &[1, 2, 3]))
    }

    fn tags_of(ethertype: u16, bytes: &[u8]) -> Vec<(EncapTagKind, Option<u32>)> {
        let decoder = Decoder::default();
        let mut seen = Observation::default();
        let mut layers = DecodeState::new(&decoder, &mut seen);
        decode(ethertype, packet(bytes), &mut layers).expect("it can be read");
        seen.link.tags().map(|tag| (tag.kind, tag.id)).collect()
    }

    fn non_ip(decode: LayerDecoder, bytes: &[u8]) -> Option<u16> {
        match layer(decode, packet(bytes)) {
            (Ok(Next::Done), seen) => match seen.body {
                Body::NonIp { ethertype, .. } => Some(ethertype),
                _ => None,
            },
            _ => None,
        }
    }

    #[test]
    fn the_largest_length_is_llc_and_the_next_number_is_an_ethertype() {
        // IEEE 802.3, 3.2.6: the padding of a short frame does not belong to its content.
        let bytes = [0x42, 0x42, 3, 0, 0, 0];
        assert_eq!(next(|p, l| decode(4, p, l), &bytes), Ok(Next::Llc(packet(&bytes[..4]))));
        assert_eq!(next(|p, l| decode(MAX_LENGTH, p, l), &bytes), Ok(Next::Llc(packet(&bytes))));
        assert_eq!(non_ip(|p, l| decode(MAX_LENGTH + 1, p, l), &bytes), Some(MAX_LENGTH + 1));
        assert!(is_length(MAX_LENGTH) && is_known(MAX_LENGTH));
        assert!(!is_length(MAX_LENGTH + 1) && !is_known(MAX_LENGTH + 1));
        assert!(is_known(0x0800) && is_known(0x86dd) && is_known(0x8100));
    }

    #[test]
    fn ip_is_announced_with_its_version() {
        let bytes = [0x45, 0];
        assert_eq!(
            next(|p, l| decode(0x0800, p, l), &bytes),
            Ok(Next::Ip(Some(4), packet(&bytes)))
        );
        assert_eq!(
            next(|p, l| decode(0x86dd, p, l), &bytes),
            Ok(Next::Ip(Some(6), packet(&bytes)))
        );
    }

    #[test]
    fn only_the_low_twelve_bits_of_a_tag_are_its_vlan() {
        // IEEE 802.1Q, 9.6: priority (3 bits), drop eligible (1 bit), VLAN identifier (12 bits).
        let bytes = [0xff, 0xff, 0x08, 0x00, 0x45];
        for ethertype in VLAN_TAG_TYPES {
            assert_eq!(tags_of(ethertype, &bytes), [(EncapTagKind::Vlan, Some(0xfff))]);
        }
        assert_eq!(
            next(|p, l| decode(0x8100, p, l), &bytes),
            Ok(Next::Ether(0x0800, packet(&bytes[4..])))
        );
        let reason = SkipReason::TruncatedVlanTag;
        assert_truncation(|p, l| decode(0x8100, p, l), &bytes, 4, reason);
    }

    #[test]
    fn an_arp_packet_claims_the_address_of_its_sender() {
        // RFC 826: hardware and protocol type, their lengths, operation, sender, target.
        let mut bytes = vec![0, 1, 0x08, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1];
        bytes.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        let claim = Some((IpAddr::from([10, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 1])));
        assert_eq!(arp_claim(&bytes), claim);
        for kept in 0..bytes.len() {
            assert_eq!(arp_claim(&bytes[..kept]), None, "{kept} bytes");
        }
        // RFC 5227, 2.1.1: the sender of a probe has no address yet.
        let mut probe = bytes.clone();
        probe[14..18].fill(0);
        assert_eq!(arp_claim(&probe), None);
        // Hardware addresses that do not have six bytes are not Ethernet addresses.
        let mut long = bytes.clone();
        long[4] = 8;
        long.extend([0; 4]);
        assert_eq!(arp_claim(&long), None);
        assert_eq!(non_ip(|p, l| decode(0x0806, p, l), &bytes[..5]), Some(0x0806));
    }

    #[test]
    fn snap_and_the_service_access_point_of_ip_carry_packets() {
        for last in [0x00, 0xf8] {
            // RFC 1042, and the bridge tunnel of IEEE 802.1H.
            let bytes = [0xaa, 0xaa, 3, 0, 0, last, 0x08, 0x00, 0x45, 0];
            assert_eq!(next(llc, &bytes), Ok(Next::Ether(0x0800, packet(&bytes[8..]))));
            assert_eq!(next(llc, &bytes[..8]), Ok(Next::Ether(0x0800, packet(&[]))));
            assert_eq!(next(llc, &bytes[..7]), Err(CUT));
        }
        // RFC 2684, 5.2: 1 with the frame check sequence, 7 without it.
        for kind in [1, 7] {
            let bytes = [0xaa, 0xaa, 3, 0, 0x80, 0xc2, 0, kind, 9, 9];
            assert_eq!(next(llc, &bytes), Ok(Next::Ethernet(packet(&[9, 9]))));
        }
        assert_eq!(non_ip(llc, &[0xaa, 0xaa, 3, 0, 0x80, 0xc2, 0, 2, 9, 9]), Some(0));
        let bytes = [6, 6, 3, 0x45];
        assert_eq!(next(llc, &bytes), Ok(Next::Ip(Some(4), packet(&bytes[3..]))));
    }

    #[test]
    fn other_llc_is_counted_as_known_or_unknown() {
        let known: [&[u8]; 8] = [
            &[0x42, 0x42, 3],
            &[0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0],
            &[0xe0, 0xe0],
            &[0xff, 0xff],
            &[0xf0, 0xf1],
            &[0xfe, 0xfe],
            &[4, 5],
            &[0, 1],
        ];
        for bytes in known {
            assert_eq!(non_ip(llc, bytes), Some(0), "{bytes:02x?}");
        }
        for bytes in [&[0x42][..], &[], &[6, 6, 4], &[0xaa, 0xaa, 4, 0, 0, 0, 8, 0], &[0x42, 0x43]]
        {
            assert_eq!(non_ip(llc, bytes), Some(UNKNOWN_LLC), "{bytes:02x?}");
        }
        assert_eq!(ethertype_words(UNKNOWN_LLC), "IEEE 802.2 of an unknown kind");
    }

    #[test]
    fn labels_are_followed_to_the_bottom_of_the_stack() {
        // RFC 3032, 2.1: label (20 bits), traffic class (3), bottom of stack (1), TTL (8).
        let ip = ip();
        let bytes = [&[0, 1, 0x00, 64, 0xff, 0xff, 0xff, 64][..], &ip].concat();
        let decode = |p, l: &mut DecodeState<'_>| mpls(0x8847, p, l);
        assert_truncation_of_ip(&bytes, 8);
        assert_eq!(next(|p, l| mpls(0, p, l), &bytes), Ok(Next::Ip(Some(4), packet(&ip))));
        let labels = [(EncapTagKind::Mpls, Some(16)), (EncapTagKind::Mpls, Some(0xf_ffff))];
        assert_eq!(tags_of(0x8847, &bytes), labels);
        let stack = |labels: usize| {
            let mut bytes = [0, 1, 0x00, 64].repeat(labels - 1);
            bytes.extend([0, 1, 0x01, 64]);
            [&bytes[..], &ip].concat()
        };
        let decoder = Decoder::default();
        let mut seen = Observation::default();
        let mut layers = DecodeState::new(&decoder, &mut seen);
        let most = stack(MAX_LABELS);
        assert_eq!(decode(packet(&most), &mut layers), Ok(Next::Ip(Some(4), packet(&ip))));
        let more = stack(MAX_LABELS + 1);
        let result = decode(packet(&more), &mut layers);
        assert_eq!(result, Err(SkipReason::TooManyEncapsulations));
    }

    /// Checks every truncation of a packet whose label stack has `header` bytes. The first byte
    /// after the stack is needed, too.
    fn assert_truncation_of_ip(bytes: &[u8], header: usize) {
        for kept in 0..bytes.len() {
            let cut = Packet { bytes: &bytes[..kept], wire: bytes.len() };
            let (result, _) = layer(|p, l| mpls(0, p, l), cut);
            if kept <= header {
                assert_eq!(result, Err(CUT), "{kept} bytes");
            } else {
                let inner = Packet { bytes: &bytes[header..kept], wire: bytes.len() - header };
                assert_eq!(result, Ok(Next::Ip(Some(4), inner)), "{kept} bytes");
            }
        }
    }

    #[test]
    fn a_pseudowire_is_told_from_ip_by_its_ethertype() {
        let label = [0, 1, 0x01, 64];
        let frame = ethernet(0x0800, &ip());
        // RFC 4448, 4.6: without and with a control word.
        let bytes = [&label[..], &frame].concat();
        assert_eq!(next(|p, l| mpls(0, p, l), &bytes), Ok(Next::Ethernet(packet(&frame))));
        let bytes = [&label[..], &[0; 4], &frame].concat();
        assert_eq!(next(|p, l| mpls(0, p, l), &bytes), Ok(Next::Ethernet(packet(&frame))));
        // A hardware address may start with the same nibble as an IPv4 header.
        let mut frame = frame;
        frame[0] = 0x46;
        let bytes = [&label[..], &frame].concat();
        assert_eq!(next(|p, l| mpls(0, p, l), &bytes), Ok(Next::Ethernet(packet(&frame))));
        let unknown = [&label[..], &[0x90; 30]].concat();
        assert_eq!(non_ip(|p, l| mpls(0, p, l), &unknown), Some(0x8847));
    }

    #[test]
    fn ip_in_mpls_has_its_exact_length_unless_a_short_frame_is_padded() {
        let short = ip();
        let padded = [&short[..], &[0; 29]].concat();
        assert_eq!(padded.len(), 60);
        assert!(fits_ip(packet(&short), 4) && fits_ip(packet(&padded), 4));
        assert!(!fits_ip(packet(&[&padded[..], &[0]].concat()), 4));
        let with_length = |length: u8| [&short[..3], &[length], &short[4..]].concat();
        assert!(fits_ip(packet(&with_length(20)), 4) && !fits_ip(packet(&with_length(19)), 4));
        assert!(!fits_ip(packet(&short[..short.len() - 1]), 4));
        let six = ipv6(17, &[0; 30]);
        assert!(fits_ip(packet(&six), 6) && !fits_ip(packet(&six[..69]), 6));
    }

    #[test]
    fn macsec_in_clear_is_read_without_its_check_value() {
        // IEEE 802.1AE, 9.3: control, short length, packet number and, if the SC bit is set, 8
        // bytes of channel identifier.
        let content = [7; 20];
        for (control, header) in [(0x00, 6), (0x20, 14)] {
            let mut bytes = vec![0; header];
            bytes[0] = control;
            bytes.extend([0x08, 0x00]);
            bytes.extend(content);
            let result = next(|p, l| macsec(0, p, l), &bytes);
            assert_eq!(result, Ok(Next::Ether(0x0800, packet(&content[..4]))));
            for kept in 0..header + 2 {
                assert_eq!(next(|p, l| macsec(0, p, l), &bytes[..kept]), Err(CUT), "{kept}");
            }
            assert_eq!(tags_of(0x88e5, &bytes), [(EncapTagKind::Macsec, None)]);
        }
        // The bit C (changed text), the bit E (encrypted), or both.
        for control in [0x04, 0x08, 0x0c] {
            let bytes = [control, 0, 0, 0, 0, 0, 8, 0];
            let result = next(|p, l| macsec(0, p, l), &bytes);
            assert_eq!(result, Err(SkipReason::EncryptedLink));
        }
    }

    #[test]
    fn wrappers_of_a_fixed_length_are_skipped() {
        let cases: [(u16, usize, bool); 9] = [
            (0x88e7, 4, false),
            (0x8903, 2, false),
            (0x893f, 8, true),
            (0x8926, 6, true),
            (0x8988, 8, true),
            (0xdada, 8, true),
            (0x8874, 6, true),
            (0x892f, 6, true),
            (0x8909, 8, true),
        ];
        for (ethertype, header, is_announced) in cases {
            let mut bytes = vec![0; header];
            if ethertype == 0x8909 {
                bytes[..2].copy_from_slice(&[1, 1]);
                bytes.drain(6..);
                bytes.extend([0x08, 0x00]);
            } else if is_announced {
                bytes[header - 2..].copy_from_slice(&[0x08, 0x00]);
            }
            bytes.extend([1, 2, 3]);
            for kept in 0..=bytes.len() {
                let cut = Packet { bytes: &bytes[..kept], wire: bytes.len() };
                let decoder = Decoder::default();
                let mut seen = Observation::default();
                let mut layers = DecodeState::new(&decoder, &mut seen);
                let result = decode(ethertype, cut, &mut layers);
                let inner = cut.after(header);
                let expected = inner.ok_or(CUT).map(|inner| {
                    if is_announced { Next::Ether(0x0800, inner) } else { Next::Ethernet(inner) }
                });
                assert_eq!(result, expected, "{ethertype:#06x}, {kept} bytes");
            }
        }
    }

    #[test]
    fn cisco_metadata_of_another_version_or_without_a_length_is_not_read() {
        let of = |version, words| {
            let bytes = [version, words, 0, 1, 0, 0, 0x08, 0, 0x45];
            non_ip(|p, l| decode(0x8909, p, l), &bytes)
        };
        assert_eq!(of(1, 1), None);
        assert_eq!(of(2, 1), Some(0x8909));
        assert_eq!(of(1, 0), Some(0x8909));
    }

    #[test]
    fn the_version_of_an_arista_timestamp_says_where_it_ends() {
        for (version, header) in [(0x10, 14), (0x20, 12)] {
            let mut bytes = vec![0, 1, 0, version];
            bytes.resize(header - 2, 0);
            bytes.extend([0x86, 0xdd, 0x60]);
            assert_truncation(|p, l| decode(0xd28b, p, l), &bytes, header, CUT);
            let expected = Ok(Next::Ether(0x86dd, packet(&bytes[header..])));
            assert_eq!(next(|p, l| decode(0xd28b, p, l), &bytes), expected);
        }
        for head in [[0, 1, 0, 0x30], [0, 1, 0, 0x00], [0, 2, 0, 0x10]] {
            let bytes = [&head[..], &[0; 20]].concat();
            assert_eq!(non_ip(|p, l| decode(0xd28b, p, l), &bytes), Some(0xd28b), "{head:?}");
        }
    }

    #[test]
    fn a_marvell_tag_names_a_vlan_only_if_the_frame_was_tagged() {
        let with = |tag: u32| {
            let bytes = [&[0, 0][..], &tag.to_be_bytes(), &[0x08, 0x00, 0x45]].concat();
            tags_of(0xdada, &bytes)
        };
        assert_eq!(with(0x2000_f123), [(EncapTagKind::Vlan, Some(0x123))]);
        assert_eq!(with(0xdfff_ffff), []);
    }

    #[test]
    fn a_service_header_carries_what_it_names_after_its_own_length() {
        // RFC 8300, 2.2: the length in words is in the low six bits of the first two bytes.
        let of = |words: u8, protocol: u8| [&[0, words, 1, protocol][..], &[9; 12]].concat();
        let carried = [
            (1, Next::Ip(Some(4), packet(&[9; 8]))),
            (2, Next::Ip(Some(6), packet(&[9; 8]))),
            (3, Next::Ethernet(packet(&[9; 8]))),
            (5, Next::Ether(0x8847, packet(&[9; 8]))),
        ];
        for (protocol, expected) in carried {
            assert_eq!(next(|p, l| decode(0x894f, p, l), &of(2, protocol)), Ok(expected));
        }
        let longer = of(3, 1);
        let expected = Ok(Next::Ip(Some(4), packet(&longer[12..])));
        assert_eq!(next(|p, l| decode(0x894f, p, l), &longer), expected);
        assert_truncation(|p, l| decode(0x894f, p, l), &longer, 12, CUT);
        // A length that is too short for the two fixed headers, and a next protocol that is not
        // decoded.
        assert_eq!(non_ip(|p, l| decode(0x894f, p, l), &of(1, 1)), Some(0x894f));
        assert_eq!(non_ip(|p, l| decode(0x894f, p, l), &of(2, 4)), Some(0x894f));
    }

    #[test]
    fn numbers_that_stand_in_for_ethertypes_are_described_without_one() {
        assert_eq!(ethertype_words(0x8892), "EtherType 0x8892 (PROFINET)");
        assert_eq!(ethertype_words(0x1234), "EtherType 0x1234");
        assert!(ethertype_words(WLAN_AS_ETHERNET).starts_with("IEEE 802.11 in a capture"));
        assert_eq!(ethertype_words(0), "a protocol without an EtherType");
        assert_eq!(ethertype_words(MAX_LENGTH), "IEEE 802.2 of an unknown kind");
        assert_eq!(ethertype_words(MAX_LENGTH + 1), "EtherType 0x05dd");
    }
}
