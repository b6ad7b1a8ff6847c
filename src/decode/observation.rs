//! The facts that decoding yields about one frame.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Tunnel;
use crate::model::{Mac, NO_TIME, Nanos, Transport};

/// Facts about the packets of one side of a flow, as bits of a `FlagSet`.
pub mod flag {
    /// TCP: a SYN without ACK.
    pub const SYN: u16 = 1 << 0;
    /// TCP: a SYN with ACK.
    pub const SYN_ACK: u16 = 1 << 1;
    /// TCP: an ACK without SYN or RST.
    pub const ACK: u16 = 1 << 2;
    /// At least one byte of transport payload. TCP segments with SYN or RST and ICMP messages do
    /// not count.
    pub const DATA: u16 = 1 << 3;
    /// TCP: a FIN.
    pub const FIN: u16 = 1 << 4;
    /// TCP: an RST.
    pub const RST: u16 = 1 << 5;
    /// The payload is a request: a DNS query (QR bit clear), or a request of another protocol that
    /// expects a reply, such as an ICMP echo request.
    pub const ASKS: u16 = 1 << 6;
    /// The payload is a reply: a DNS response (QR bit set), or a reply of another protocol whose
    /// requests expect one.
    pub const ANSWERS: u16 = 1 << 7;
    /// TLS (RFC 8446): a segment starts with a ClientHello. UDP: the payload is a request that
    /// opens a session, whose later datagrams need no reply.
    pub const CLIENT_HELLO: u16 = 1 << 8;
    /// TLS: a segment starts with a ServerHello.
    pub const SERVER_HELLO: u16 = 1 << 9;
    /// A frame was sent to the broadcast address of the link layer.
    pub const BROADCAST: u16 = 1 << 10;
    /// A frame was not sent to the broadcast address of the link layer, or its link has no
    /// addresses.
    pub const UNICAST: u16 = 1 << 11;
    /// The capture truncated a frame to fewer than [`super::SHORT`] bytes.
    pub const CUT_SHORT: u16 = 1 << 12;
    /// The capture kept at least [`super::SHORT`] bytes of a frame.
    pub const KEPT_LONG: u16 = 1 << 13;
    /// The side has several initial sequence numbers (TCP) or times of requests (others), which are
    /// kept as rare evidence.
    pub const SEVERAL: u16 = 1 << 14;
    /// TCP: fragmentation hides the flags of a segment.
    pub const HIDDEN: u16 = 1 << 15;
    /// Flags of segments that contain, or may contain, an initial sequence number.
    pub const OPENS: u16 = SYN | SYN_ACK | HIDDEN;
}

/// A snaplen below this number of bytes is short: it keeps headers, but almost no payload.
pub const SHORT: u32 = 96;

/// The maximum number of tags kept as evidence per frame. Deeper tags are decoded but not kept.
pub const KEPT_TAGS: usize = 4;

/// The maximum number of tunnels per frame whose endpoints are kept as evidence.
pub const KEPT_TUNNELS: usize = 2;

/// The kind of an encapsulation tag.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub enum EncapTagKind {
    /// No tag: an unused place in the list of tags.
    #[default]
    None,
    /// IEEE 802.1Q or 802.1ad. The number is the VLAN identifier.
    Vlan,
    /// MPLS (RFC 3032). The number is the label.
    Mpls,
    /// PPP over Ethernet (RFC 2516). The number is the session ID.
    Pppoe,
    /// IEEE 802.1AE (MACsec) without encryption. There is no number.
    Macsec,
    /// A tunnel. The number is its key, network identifier or session ID, if it has one.
    Tunnel(Tunnel),
}

impl EncapTagKind {
    /// Returns the name of this kind in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Vlan => "vlan",
            Self::Mpls => "mpls",
            Self::Pppoe => "pppoe",
            Self::Macsec => "macsec",
            Self::Tunnel(tunnel) => tunnel.name(),
        }
    }
}

/// A tag or tunnel that encapsulates a packet, with its number.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct EncapTag {
    /// The kind, for example a VLAN tag.
    pub kind: EncapTagKind,
    /// The number, such as a VLAN identifier, if the encapsulation has one.
    pub id: Option<u32>,
}

/// What the user declares about a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum TunnelUse {
    /// Nothing. The sender may have forged the content of the tunnel.
    Unstated,
    /// The tunnel carries a network of the site, whose packets are trusted.
    Overlay,
    /// The tunnel carries mirrored packets to a sensor. The packets in it are trusted, and the
    /// tunnel itself is not traffic of the farm.
    Mirror,
}

/// The endpoints of a tunnel: the host that encapsulates packets, and the host that decapsulates
/// them. If the tunnel carries mirrored packets, the host that decapsulates them is the sensor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TunnelEndpoints {
    /// The source address of the outer packet: the host that encapsulated the inner one.
    pub src: IpAddr,
    /// The destination address of the outer packet: the host that decapsulates it.
    pub dst: IpAddr,
    /// The protocol that carries the tunnel.
    pub transport: Transport,
    /// The source port; zero if there is none, or if it does not identify an endpoint, as in VXLAN,
    /// where it is a hash of the inner packet's headers (RFC 7348, 5).
    pub sport: u16,
    /// The destination port; zero if there is none.
    pub port: u16,
    /// What the user declares about the tunnel.
    pub stated: TunnelUse,
}

/// How far a packet can be trusted, given the tunnels that carried it. Packets with the same
/// five-tuple but different paths belong to different flows.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Path(u16);

impl Path {
    /// Outside any tunnel, or in a tunnel that the user declared.
    pub const PLAIN: Self = Self(0);

    /// Returns the path of packets inside an undeclared tunnel on this interface.
    pub fn inside(interface: u16) -> Self {
        Self(interface.min(Self::INTERFACE - 1) + 1)
    }

    /// Returns the path of packets inside an undeclared tunnel whose outer packets have this path.
    /// A tunnel inside a declared tunnel, such as that of a mirror, does not count as nested.
    pub fn deeper(self, interface: u16) -> Self {
        let inside = Self::inside(interface);
        if self == Self::PLAIN { inside } else { Self(inside.0 | Self::NESTED) }
    }

    const INTERFACE: u16 = 0x3fff;
    const NESTED: u16 = 0x4000;
    const AROUND: u16 = 0x8000;

    /// Returns the path of the packets that carry an undeclared tunnel on this interface.
    pub fn around(interface: u16) -> Self {
        Self(Self::inside(interface).0 | Self::AROUND)
    }

    /// Returns the interface of packets inside or around an undeclared tunnel; `None` for other
    /// packets.
    pub fn interface(self) -> Option<u16> {
        (self.0 & Self::INTERFACE).checked_sub(1)
    }

    /// Returns whether the packet was inside an undeclared tunnel.
    pub fn is_inside(self) -> bool {
        self.0 != 0 && self.0 & Self::AROUND == 0
    }

    /// Returns whether the packet carries an undeclared tunnel.
    pub fn is_around(self) -> bool {
        self.0 & Self::AROUND != 0
    }

    /// Returns the path as a number, for use in keys.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// Returns the path whose [`Path::number`] is `number`.
    pub(crate) fn from_number(number: u16) -> Self {
        Self(number)
    }
}

/// Evidence about a packet apart from its five-tuple: tags, tunnels, source hardware address, TTL
/// and interface.
#[derive(Clone, Copy, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Encapsulation {
    /// Tags, outermost first. Unused places contain [`EncapTagKind::None`].
    tags: [EncapTag; KEPT_TAGS],
    /// The ends of tunnels, outermost first.
    outer: [Option<TunnelEndpoints>; KEPT_TUNNELS],
    /// The source hardware address of the frame on this link; [`Mac::NONE`] if the link has no
    /// addresses.
    pub source: Mac,
    /// The time to live or hop limit of the packet. It may differ between sightings of the same
    /// packet.
    pub ttl: u8,
    /// The interface that saw the packet, as its index in the section of the file.
    pub interface: u16,
}

/// The bit of a tag in the short form of an encapsulation that states that there is one.
const SHORT_TAGGED: u64 = 1 << 32;

/// Skips both arrays in most comparisons. Every packet is compared with the evidence of its flow,
/// almost no packet has tags, and a packet without tags has no tunnel endpoints.
impl PartialEq for Encapsulation {
    fn eq(&self, other: &Self) -> bool {
        let same =
            (self.source, self.ttl, self.interface) == (other.source, other.ttl, other.interface);
        let plain =
            self.tags[0].kind == EncapTagKind::None && other.tags[0].kind == EncapTagKind::None;
        same && (plain || (self.tags == other.tags && self.outer == other.outer))
    }
}

impl Hash for Encapsulation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.source, self.ttl, self.interface).hash(state);
        self.tags().for_each(|tag| tag.hash(state));
        self.outer().for_each(|outer| outer.hash(state));
    }
}

impl Encapsulation {
    /// Returns the whole encapsulation as a nonzero number. Returns `None` if the packet has tags
    /// other than a single VLAN tag.
    #[inline]
    pub fn short(&self) -> Option<u128> {
        const PRESENT: u128 = 1 << 127;
        let tag = match self.tags[0] {
            EncapTag { kind: EncapTagKind::None, .. } => 0,
            EncapTag { kind: EncapTagKind::Vlan, id: Some(id) }
                if self.tags[1].kind == EncapTagKind::None && self.outer[0].is_none() =>
            {
                SHORT_TAGGED | u64::from(id)
            }
            _ => return None,
        };
        let Mac([a, b, c, d, e, f]) = self.source;
        let mac = u64::from(u16::from_le_bytes([e, f])) << 32
            | u64::from(u32::from_le_bytes([a, b, c, d]));
        let rest = u64::from(self.interface) << 48 | mac;
        // The tag takes 33 bits and the TTL 8, so the highest bit stays free.
        let rare = tag << 8 | u64::from(self.ttl);
        Some(PRESENT | u128::from(rare) << 64 | u128::from(rest))
    }

    /// Returns the encapsulation with this [`Encapsulation::short`] form; `None` if `short` is not
    /// the short form of any.
    pub fn of_short(short: u128) -> Option<Self> {
        let (rare, rest) = ((short >> 64) as u64, short.to_le_bytes());
        let [a, b, c, d, e, f, interface @ ..] = *rest.first_chunk::<8>()?;
        let mut link = Self {
            source: Mac([a, b, c, d, e, f]),
            ttl: rare as u8,
            interface: u16::from_le_bytes(interface),
            ..Self::default()
        };
        let tag = rare >> 8;
        if tag & SHORT_TAGGED != 0 {
            link.tags[0] = EncapTag { kind: EncapTagKind::Vlan, id: Some(tag as u32) };
        }
        (link.short() == Some(short)).then_some(link)
    }

    /// Returns the same encapsulation without its interface.
    #[must_use]
    pub fn anywhere(self) -> Self {
        Self { interface: 0, ..self }
    }

    /// Returns whether the packet is inside a tunnel.
    pub fn is_tunnelled(&self) -> bool {
        self.tags[0].kind != EncapTagKind::None && self.outer[0].is_some()
    }

    /// Replaces the tags and tunnels of another packet by those of a packet outside any tunnel that
    /// has at most a VLAN tag.
    pub(super) fn replace(&mut self, vlan: Option<u32>) {
        let [first, second, ..] = &self.tags;
        // Without a tag there is no tunnel either, so almost no packet incurs the cost of clearing
        // both arrays.
        if second.kind != EncapTagKind::None
            || !matches!(first.kind, EncapTagKind::None | EncapTagKind::Vlan)
        {
            *self = Self::default();
        }
        self.tags[0] = match vlan {
            Some(_) => EncapTag { kind: EncapTagKind::Vlan, id: vlan },
            None => EncapTag::default(),
        };
    }

    /// Returns the tags of the packet, outermost first.
    pub fn tags(&self) -> impl Iterator<Item = EncapTag> + '_ {
        self.tags.iter().copied().take_while(|tag| tag.kind != EncapTagKind::None)
    }

    /// Returns the VLAN identifiers of the packet, outermost first. Identifier zero marks a
    /// priority tag, not a VLAN (IEEE 802.1Q, 9.6), and is left out.
    pub fn vlans(&self) -> impl Iterator<Item = u32> + '_ {
        let vlans = self.tags().filter(|tag| tag.kind == EncapTagKind::Vlan);
        vlans.filter_map(|tag| tag.id).filter(|id| *id != 0)
    }

    /// Returns the ends of the tunnels that carried the packet, outermost first.
    pub fn outer(&self) -> impl Iterator<Item = TunnelEndpoints> + '_ {
        self.outer.iter().copied().flatten()
    }

    /// Adds an innermost tunnel, as far as places for its tag and its ends are free. The source
    /// address of the frame is removed, because it belongs to the endpoint of the tunnel, not to
    /// the sender of the inner packet.
    #[must_use]
    pub fn with_tunnel(self, tunnel: Tunnel, id: Option<u32>, ends: TunnelEndpoints) -> Self {
        let mut inside = self.with_tag(EncapTagKind::Tunnel(tunnel), id);
        if let Some(room) = inside.outer.iter_mut().find(|outer| outer.is_none()) {
            *room = Some(ends);
        }
        Self { source: Mac::NONE, ..inside }
    }

    /// Adds an innermost tag, unless all places are in use.
    #[must_use]
    pub fn with_tag(mut self, kind: EncapTagKind, id: Option<u32>) -> Self {
        if let Some(room) = self.tags.iter_mut().find(|tag| tag.kind == EncapTagKind::None) {
            *room = EncapTag { kind, id };
        }
        self
    }
}

/// The addresses, ports and protocol of one packet, in the direction in which it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FiveTuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port. For ICMP, see [`super::icmp_ports`].
    pub sport: u16,
    /// Destination port. For ICMP, see [`super::icmp_ports`].
    pub dport: u16,
    /// The protocol above IP.
    pub transport: Transport,
}

/// The fields that identify the datagram of an IP fragment (RFC 791, RFC 8200).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Datagram {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The protocol of the fragmented part, as given in every fragment.
    pub transport: Transport,
    /// The IP identification.
    pub id: u32,
    /// How far the datagram can be trusted.
    pub path: Path,
}

/// The result of decoding one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// Packet time in nanoseconds, or [`crate::model::NO_TIME`].
    pub time: Nanos,
    /// Length on the wire in bytes.
    pub wire_len: u32,
    /// The interface that saw the frame, as its index in the section of the file.
    pub interface: u16,
    /// Whether the frame was sent to the broadcast address of the link layer.
    pub broadcast: bool,
    /// How much of the frame the capture kept: [`flag::CUT_SHORT`], [`flag::KEPT_LONG`], or zero if
    /// it kept all of a short frame.
    pub kept: u16,
    /// Whether the capture truncated the frame.
    pub cut: bool,
    /// Whether the IPv4 header checksum is wrong. Such packets are counted but not dropped.
    pub bad_checksum: bool,
    /// The tunnel in the frame whose content could not be read. The observation then describes the
    /// packet around it.
    pub undecoded_tunnel: Option<Tunnel>,
    /// How far the packet can be trusted, given the tunnels that carried it.
    pub path: Path,
    /// Evidence apart from the five-tuple: tags, tunnels, source hardware address, TTL and
    /// interface.
    pub link: Encapsulation,
    /// A hash that is equal for all copies of a packet, regardless of hops and tags, and differs
    /// between packets; zero if the frame is not an IP packet. It is the same on every machine and
    /// in every run.
    pub fingerprint: u64,
    /// Offset of the transport payload in the captured bytes of the frame.
    pub payload_at: u32,
    /// Number of bytes of the payload that the capture kept.
    pub payload_kept: u32,
    /// What the frame carries.
    pub body: Body,
}

impl Observation {
    /// Returns the captured part of the transport payload. `frame` contains the captured bytes of
    /// the decoded frame.
    pub fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let start = self.payload_at as usize;
        frame.get(start..start + self.payload_kept as usize).unwrap_or_default()
    }
}

impl Default for Observation {
    fn default() -> Self {
        Self {
            time: NO_TIME,
            wire_len: 0,
            interface: 0,
            broadcast: false,
            kept: 0,
            cut: false,
            bad_checksum: false,
            undecoded_tunnel: None,
            path: Path::PLAIN,
            link: Encapsulation::default(),
            fingerprint: 0,
            payload_at: 0,
            payload_kept: 0,
            body: Body::NonIp { ethertype: 0, claim: None },
        }
    }
}

/// What an ICMP error reports about the packet that it quotes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Nothing listens on the port or handles the protocol.
    PortUnreachable,
    /// A filter forbids the packet.
    Prohibited,
    /// The host or its network cannot be reached.
    HostUnreachable,
    /// An error that does not show whether the packet is allowed, such as packet too big or a
    /// redirect.
    Other,
    /// The packet passed too many routers.
    TimeExceeded,
}

impl ErrorKind {
    /// Returns a description of the error.
    pub fn words(self) -> &'static str {
        match self {
            Self::PortUnreachable => "port unreachable",
            Self::Prohibited => "administratively prohibited",
            Self::HostUnreachable => "host unreachable",
            Self::Other => "packet too big, parameter problem, redirect or source quench",
            Self::TimeExceeded => "time exceeded",
        }
    }
}

/// What a frame carries inside all tags and tunnels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// A packet of a flow.
    Transport {
        /// The five-tuple, in the direction in which the packet was sent.
        tuple: FiveTuple,
        /// Facts about the packet, as bits of [`flag`].
        flags: u16,
        /// Length of the transport payload in bytes, according to the headers.
        payload: u32,
        /// TCP: the sequence number of the first byte (RFC 9293, 3.4); otherwise zero.
        seq: u32,
        /// TCP: the acknowledgement number, if the ACK flag is set.
        acked: Option<u32>,
        /// The datagram whose first fragment is, or contains, this packet.
        fragment: Option<Datagram>,
    },
    /// A later fragment. The ports are in the first fragment.
    Fragment {
        /// The datagram to which the fragment belongs.
        datagram: Datagram,
        /// Length of the IP payload of the fragment in bytes.
        payload: u32,
    },
    /// An ICMP error about a packet.
    Error {
        /// The packet that the error quotes.
        quoted: Quoted,
        /// What the error reports.
        kind: ErrorKind,
        /// The sender of the error: the host itself, a router or a firewall.
        by: IpAddr,
        /// The host to which the error was sent.
        to: IpAddr,
        /// ICMP or ICMPv6.
        transport: Transport,
    },
    /// An IP packet whose ports are unknown: it is truncated before them, or it is an ICMP error
    /// that quotes nothing readable.
    NoPorts {
        /// Source address.
        src: IpAddr,
        /// Destination address.
        dst: IpAddr,
        /// The protocol above IP.
        transport: Transport,
    },
    /// A frame that is not an IP packet.
    NonIp {
        /// The EtherType, or a number below 3 in place of one: zero if there is none, as in most
        /// IEEE 802.2 frames.
        ethertype: u16,
        /// The address claim of an ARP packet for IPv4 over Ethernet (RFC 826).
        claim: Option<(IpAddr, Mac)>,
    },
}

/// The packet that an ICMP error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quoted {
    /// A packet of a flow, in the direction in which it was sent.
    Flow {
        /// The five-tuple of the quoted packet.
        tuple: FiveTuple,
        /// How far the quotation can be trusted.
        path: Path,
        /// TCP: the sequence number; otherwise zero.
        seq: u32,
        /// Whether the quoted packet is a DNS response.
        answers: bool,
    },
    /// A later fragment, which belongs to the flow of its datagram.
    Fragment(Datagram),
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ends(last: u8) -> TunnelEndpoints {
        TunnelEndpoints {
            src: IpAddr::from([10, 0, 0, last]),
            dst: IpAddr::from([10, 0, 1, last]),
            transport: Transport(47),
            sport: 0,
            port: 0,
            stated: TunnelUse::Unstated,
        }
    }

    #[test]
    fn a_path_tells_outside_inside_and_around_apart() {
        let plain = Path::PLAIN;
        assert_eq!((plain.is_inside(), plain.is_around(), plain.interface()), (false, false, None));
        let inside = Path::inside(0);
        assert_eq!((inside.is_inside(), inside.is_around()), (true, false));
        assert_eq!(inside.interface(), Some(0));
        let around = Path::around(0);
        assert_eq!((around.is_inside(), around.is_around()), (false, true));
        assert_eq!(around.interface(), Some(0));
        assert_ne!(Path::inside(1), Path::inside(2));
    }

    #[test]
    fn a_tunnel_in_a_tunnel_is_deeper_only_if_the_outer_one_is_undeclared() {
        // Packets in a declared tunnel have the plain path.
        assert_eq!(Path::PLAIN.deeper(4), Path::inside(4));
        let nested = Path::inside(4).deeper(4);
        assert_ne!(nested, Path::inside(4));
        assert_eq!((nested.is_inside(), nested.is_around()), (true, false));
        assert_eq!(nested.interface(), Some(4));
        assert_eq!(nested.deeper(4), nested);
    }

    #[test]
    fn the_largest_interface_does_not_touch_the_bits_of_a_path() {
        for path in [Path::inside(u16::MAX), Path::inside(u16::MAX).deeper(u16::MAX)] {
            assert_eq!((path.is_inside(), path.is_around()), (true, false));
            assert_eq!(path.interface(), Some(Path::INTERFACE - 1));
            assert_eq!(Path::from_number(path.number()), path);
        }
        assert_ne!(Path::inside(u16::MAX), Path::inside(u16::MAX).deeper(u16::MAX));
        assert_eq!(Path::inside(Path::INTERFACE - 2).interface(), Some(Path::INTERFACE - 2));
    }

    #[test]
    fn the_outermost_tags_and_tunnels_are_kept() {
        let mut link = Encapsulation::default();
        for number in 0..KEPT_TAGS as u32 + 1 {
            link = link.with_tag(EncapTagKind::Vlan, Some(number + 1));
        }
        assert_eq!(link.vlans().collect::<Vec<_>>(), [1, 2, 3, 4]);
        let mut link = Encapsulation::default();
        for last in 1..=KEPT_TUNNELS as u8 + 1 {
            link = link.with_tunnel(Tunnel::Gre, None, ends(last));
        }
        assert_eq!(link.outer().collect::<Vec<_>>(), [ends(1), ends(2)]);
        assert_eq!(link.tags().count(), 3);
    }

    #[test]
    fn a_priority_tag_is_a_tag_but_no_vlan() {
        let link = Encapsulation::default()
            .with_tag(EncapTagKind::Vlan, Some(0))
            .with_tag(EncapTagKind::Mpls, Some(9))
            .with_tag(EncapTagKind::Vlan, Some(5));
        assert_eq!(link.tags().count(), 3);
        assert_eq!(link.vlans().collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn a_tunnel_hides_the_hardware_address_of_the_sender_and_a_tag_does_not() {
        let link = Encapsulation { source: Mac([2; 6]), ttl: 9, ..Encapsulation::default() };
        assert_eq!(link.with_tag(EncapTagKind::Vlan, Some(5)).source, Mac([2; 6]));
        assert!(!link.with_tag(EncapTagKind::Vlan, Some(5)).is_tunnelled());
        let inside = link.with_tunnel(Tunnel::Vxlan, Some(5), ends(1));
        assert_eq!((inside.source, inside.ttl), (Mac::NONE, 9));
        assert!(inside.is_tunnelled());
    }

    #[test]
    fn different_encapsulations_without_tags_or_with_one_vlan_tag_have_different_short_forms() {
        let plain = Encapsulation { source: Mac([1, 2, 3, 4, 5, 6]), ttl: 7, ..Default::default() };
        let tagged = |id| plain.with_tag(EncapTagKind::Vlan, id);
        let with = [
            Encapsulation::default(),
            plain,
            Encapsulation { source: Mac([1, 2, 3, 4, 6, 5]), ..plain },
            Encapsulation { ttl: 8, ..plain },
            Encapsulation { interface: 0xabcd, ..plain },
            Encapsulation { interface: u16::MAX, ttl: u8::MAX, source: Mac([0xff; 6]), ..plain },
            tagged(Some(0)),
            tagged(Some(5)),
            tagged(Some(u32::MAX)),
        ];
        let numbers: HashSet<u128> = with.iter().filter_map(Encapsulation::short).collect();
        assert_eq!(numbers.len(), with.len());
        assert!(!numbers.contains(&0));
        let without = [
            tagged(None),
            tagged(Some(5)).with_tag(EncapTagKind::Vlan, Some(5)),
            plain.with_tag(EncapTagKind::Macsec, None),
            plain.with_tunnel(Tunnel::Gre, None, ends(1)),
        ];
        assert!(without.iter().all(|link| link.short().is_none()));
    }

    #[test]
    fn every_part_of_an_encapsulation_counts_in_a_comparison() {
        let plain = Encapsulation { source: Mac([2; 6]), ttl: 64, ..Encapsulation::default() };
        let tagged = plain.with_tag(EncapTagKind::Vlan, Some(5));
        let different = [
            plain,
            Encapsulation { ttl: 63, ..plain },
            Encapsulation { interface: 1, ..plain },
            Encapsulation { source: Mac([4; 6]), ..plain },
            tagged,
            plain.with_tag(EncapTagKind::Vlan, Some(6)),
            plain.with_tag(EncapTagKind::Mpls, Some(5)),
            tagged.with_tag(EncapTagKind::Vlan, Some(5)),
            plain.with_tunnel(Tunnel::Gre, None, ends(1)),
            plain.with_tunnel(Tunnel::Gre, None, ends(2)),
        ];
        for (a, first) in different.iter().enumerate() {
            for (b, second) in different.iter().enumerate() {
                assert_eq!(first == second, a == b, "{a} {b}");
            }
        }
        // Equal evidence from another frame has the same hash.
        let known: HashSet<Encapsulation> = different.into_iter().collect();
        let again = Encapsulation { source: Mac([2; 6]), ttl: 64, ..Encapsulation::default() };
        assert!(known.contains(&again.with_tag(EncapTagKind::Vlan, Some(5))));
        assert!(known.contains(&again.with_tunnel(Tunnel::Gre, None, ends(2))));
        assert!(!known.contains(&again.with_tunnel(Tunnel::Gre, None, ends(3))));
        assert_eq!(Encapsulation { interface: 1, ..plain }.anywhere(), plain);
    }

    #[test]
    fn a_payload_outside_the_captured_bytes_is_empty() {
        let payload_of = |payload_at, payload_kept| {
            let seen = Observation { payload_at, payload_kept, ..Observation::default() };
            seen.payload(&[1, 2, 3, 4]).to_vec()
        };
        assert_eq!(payload_of(1, 2), [2, 3]);
        assert_eq!(payload_of(0, 4), [1, 2, 3, 4]);
        assert!(payload_of(4, 0).is_empty());
        assert!(payload_of(3, 2).is_empty());
        assert!(payload_of(u32::MAX, u32::MAX).is_empty());
    }
}
