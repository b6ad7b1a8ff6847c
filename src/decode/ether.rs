//! Decodes the content that an EtherType announces: VLAN tags (IEEE 802.1Q, 802.1ad) and other
//! link-layer wrappers, ARP and IP. Other content is only counted by its EtherType. Also decodes
//! IEEE 802.2, whose SNAP header contains an EtherType.

use std::net::IpAddr;

use etherparse::{ArpPacketSlice, SingleVlanHeaderSlice};

use super::{Body, CUT, DecodeState, EncapTagKind, Next, Packet, ppp};
use crate::model::{Mac, SkipReason};

/// The largest length in an IEEE 802.3 length field. Values of 0x0600 and above are EtherTypes
/// (IEEE 802.3, 3.2.6).
const MAX_LENGTH: u16 = 1500;

/// The maximum number of labels that are followed in an MPLS stack.
const MAX_LABELS: usize = 16;

/// A function that decodes the header that an EtherType announces and returns the content after it.
type EtherDecoder =
    for<'p> fn(u16, Packet<'p>, &mut DecodeState<'_>) -> Result<Next<'p>, SkipReason>;

/// An EtherType other than IP that rasaudit decodes.
pub struct EtherType {
    /// The numbers in the IEEE registry.
    pub numbers: &'static [u16],
    /// The name of the protocol.
    pub name: &'static str,
    /// The document that specifies it, for example `RFC 826`.
    pub document: &'static str,
    /// The version of rasaudit that first decoded it.
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

/// The decoded EtherTypes other than IP.
pub const ETHERTYPES: &[EtherType] = &[
    ether(
        &[0x8100, 0x88a8, 0x9100, 0x9200, 0x9300],
        "VLAN tag",
        "IEEE 802.1Q, 802.1ad",
        "0.1",
        vlan,
    ),
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

/// Reads Cisco metadata: a version, a length in units of eight bytes that includes the EtherType
/// before it, options, and the EtherType of the content.
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

/// Names of EtherTypes that are not decoded, or not in every form (IEEE registry).
const NAMES: &[(u16, &str)] = &[
    (0x0600, "Xerox NS IDP"),
    (0x22f0, "audio and video bridging"),
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

/// Describes an EtherType, or one of the numbers below 3 that are used in place of one.
pub fn ethertype_words(number: u16) -> String {
    let name = NAMES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
    match (number, name) {
        (WLAN_AS_ETHERNET, _) => {
            "IEEE 802.11 in a capture that is labelled as Ethernet (editcap -T ieee-802-11 corrects this)"
                .to_owned()
        }
        (0..=MAX_LENGTH, _) => "IEEE 802.2 of an unknown kind".to_owned(),
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

/// Reads IEEE 802.2 logical link control: SNAP with an EtherType, or the service access point of
/// IP.
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

/// The number in place of an EtherType if the capture declares an IEEE 802.11 frame as Ethernet, as
/// the Windows tool pktmon does for frames of wireless cards.
pub(super) const WLAN_AS_ETHERNET: u16 = 2;

/// Records the VLAN of a Marvell switch tag, which replaces the outermost VLAN tag. The tag of an
/// untagged frame also contains a number, but only the switch knows its meaning.
pub(super) fn marvell(tag: u32, layers: &mut DecodeState<'_>) {
    const TAGGED: u32 = 1 << 29;
    if tag & TAGGED != 0 {
        layers.note_tag(EncapTagKind::Vlan, Some(tag & 0xfff));
    }
}

/// The number in place of an EtherType if the kind of an IEEE 802.2 frame is unknown. The frame may
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
            // In a tunnel, labels above unknown content may not be MPLS at all.
            _ if layers.outer.is_some() => Err(SkipReason::BadLinkHeader),
            _ => Ok(layers.end_at_non_ip(0x8847)),
        };
    }
    Err(SkipReason::TooManyEncapsulations)
}

/// Returns whether the length in an IP header of this version matches the length of the packet.
fn fits_ip(packet: Packet<'_>, version: u8) -> bool {
    let length = match version {
        4 => packet.u16(2).map(usize::from),
        _ => packet.u16(4).map(|payload| 40 + usize::from(payload)),
    };
    // A short frame may have been padded on the way; a longer frame has its exact length.
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
/// `None` for a probe (RFC 5227), which does not claim an address.
fn arp_claim(bytes: &[u8]) -> Option<(IpAddr, Mac)> {
    let arp = ArpPacketSlice::from_slice(bytes).ok()?;
    let mac = Mac(arp.sender_hw_addr().try_into().ok()?);
    let ip: [u8; 4] = arp.sender_protocol_addr().try_into().ok()?;
    (ip != [0; 4]).then_some((IpAddr::from(ip), mac))
}
