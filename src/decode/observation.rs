//! What is known of a frame: the facts that decoding hands on.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{ErrorKind, Tunnel};
use crate::model::{Mac, NO_TIME, Nanos, Transport};

/// Facts about the packets of one side of a flow, as bits of an `FlagSet`.
pub mod flag {
    /// TCP: a SYN without ACK.
    pub const SYN: u16 = 1 << 0;
    /// TCP: a SYN with ACK.
    pub const SYN_ACK: u16 = 1 << 1;
    /// TCP: an ACK that is neither SYN nor RST.
    pub const ACK: u16 = 1 << 2;
    /// Transport payload, at least one byte.
    pub const DATA: u16 = 1 << 3;
    /// TCP: a FIN.
    pub const FIN: u16 = 1 << 4;
    /// TCP: an RST.
    pub const RST: u16 = 1 << 5;
    /// The payload says that it asks: the query bit of DNS, and requests of other protocols that want an answer.
    pub const ASKS: u16 = 1 << 6;
    /// The payload says that it answers: the response bit of DNS, and replies of those protocols.
    pub const ANSWERS: u16 = 1 << 7;
    /// TLS (RFC 8446): a ClientHello starts a segment.
    pub const CLIENT_HELLO: u16 = 1 << 8;
    /// TLS: a ServerHello starts a segment.
    pub const SERVER_HELLO: u16 = 1 << 9;
    /// Sent to the link layer's broadcast address.
    pub const BROADCAST: u16 = 1 << 10;
    /// Sent to another address of the link layer.
    pub const UNICAST: u16 = 1 << 11;
    /// The capture kept some bytes of a longer frame, fewer than [`super::SHORT`].
    pub const CUT_SHORT: u16 = 1 << 12;
    /// The capture kept at least [`super::SHORT`] bytes of a frame.
    pub const KEPT_LONG: u16 = 1 << 13;
    /// TCP: several opening numbers, which lie in the side table.
    pub const SEVERAL: u16 = 1 << 14;
    /// TCP: a fragment hides the flags of a segment.
    pub const HIDDEN: u16 = 1 << 15;
    /// Signs of a side that has an opening number.
    pub const OPENS: u16 = SYN | SYN_ACK | HIDDEN;
}

/// Bytes of a frame below which a snaplen is a short one: headers, and next to no payload.
pub const SHORT: u32 = 96;

/// The most tags kept as evidence of one frame; deeper ones are followed, not kept.
pub const KEPT_TAGS: usize = 4;

/// The most tunnels whose endpoints are kept as evidence of one frame.
pub const KEPT_TUNNELS: usize = 2;

/// What a packet was wrapped in.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub enum EncapTagKind {
    /// Nothing.
    #[default]
    None,
    /// IEEE 802.1Q or 802.1ad; the VLAN identifier.
    Vlan,
    /// MPLS (RFC 3032); the label.
    Mpls,
    /// PPP over Ethernet (RFC 2516); the session.
    Pppoe,
    /// IEEE 802.1AE in clear; no number.
    Macsec,
    /// A tunnel of the list; the number of its key, network or session where it has one.
    Tunnel(Tunnel),
}

impl EncapTagKind {
    /// The word for it in reports.
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

/// What a packet was wrapped in, and the number that the wrapper gives it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct EncapTag {
    /// What it is.
    pub kind: EncapTagKind,
    /// The number, where the wrapper carries one.
    pub id: Option<u32>,
}

/// What the user says of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum TunnelUse {
    /// Nothing: whoever sent it may have made up what is in it.
    Unstated,
    /// It carries a network of the site, whose packets are believed.
    Overlay,
    /// A mirror sends it to a sensor: its packets are believed, and the tunnel itself is no traffic of the farm.
    Mirror,
}

/// The ends of a tunnel: who wrapped the packet, and for whom. Of a mirror this is the sensor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TunnelEndpoints {
    /// Who wrapped the packet.
    pub src: IpAddr,
    /// For whom.
    pub dst: IpAddr,
    /// The protocol that carries the tunnel.
    pub transport: Transport,
    /// Its source port, where that is an end's own; zero where it is drawn from a hash or there is none.
    pub sport: u16,
    /// Its destination port; zero where it has none.
    pub port: u16,
    /// What the user says of it.
    pub stated: TunnelUse,
}

/// How far a packet may be believed, by what it came in. Packets of one flow on different paths are different flows.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Path(u16);

impl Path {
    /// On the wire itself, or in a tunnel that the user stated.
    pub const PLAIN: Self = Self(0);

    /// In a tunnel that nobody stated, on this interface.
    pub fn inside(interface: u16) -> Self {
        Self(interface.min(Self::INTERFACE - 1) + 1)
    }

    /// In a tunnel that nobody stated, which came on this path: of what a mirror carries that is a tunnel of the
    /// network that is mirrored.
    pub fn deeper(self, interface: u16) -> Self {
        let inside = Self::inside(interface);
        if self == Self::PLAIN { inside } else { Self(inside.0 | Self::NESTED) }
    }

    const INTERFACE: u16 = 0x3fff;
    const NESTED: u16 = 0x4000;
    const AROUND: u16 = 0x8000;

    /// The packets around such a tunnel, on this interface.
    pub fn around(interface: u16) -> Self {
        Self(Self::inside(interface).0 | Self::AROUND)
    }

    /// The interface of a tunnel's packets that nobody stated: those in it, or those around it.
    pub fn interface(self) -> Option<u16> {
        (self.0 & Self::INTERFACE).checked_sub(1)
    }

    /// Whether it was inside a tunnel that nobody stated.
    pub fn is_inside(self) -> bool {
        self.0 != 0 && self.0 & Self::AROUND == 0
    }

    /// Whether it is a packet around such a tunnel.
    pub fn is_around(self) -> bool {
        self.0 & Self::AROUND != 0
    }

    /// As a number, for keys.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// What [`Path::number`] gave.
    pub(crate) fn from_number(number: u16) -> Self {
        Self(number)
    }
}

/// What the layers below say of an IP packet.
#[derive(Clone, Copy, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Encapsulation {
    /// Tags, outermost first; [`EncapTagKind::None`] where there is none.
    tags: [EncapTag; KEPT_TAGS],
    /// The ends of tunnels, outermost first.
    outer: [Option<TunnelEndpoints>; KEPT_TUNNELS],
    /// Who put the frame on this link; [`Mac::NONE`] where the link has no addresses.
    pub source: Mac,
    /// The packet's time to live or hop limit, by which two sights of one packet are told apart.
    pub ttl: u8,
    /// The interface of the capture that saw it.
    pub interface: u16,
}

/// Every packet's link is compared with its flow's. Nearly none is wrapped, and what is in no tunnel has no
/// ends of one.
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
    /// The whole link as a number that is not zero, where it is no more than a sender and a hop count on one of
    /// the first interfaces.
    pub fn short(&self) -> Option<u64> {
        const FIRST: u16 = 255;
        let Mac([a, b, c, d, e, f]) = self.source;
        let plain = self.tags[0].kind == EncapTagKind::None && self.interface < FIRST;
        let interface = (self.interface as u8).wrapping_add(1);
        plain.then_some(u64::from_be_bytes([interface, self.ttl, a, b, c, d, e, f]))
    }

    /// The same link, whichever interface saw it.
    #[must_use]
    pub fn anywhere(self) -> Self {
        Self { interface: 0, ..self }
    }

    /// Whether it is inside a tunnel.
    pub fn is_tunnelled(&self) -> bool {
        self.tags[0].kind != EncapTagKind::None && self.outer[0].is_some()
    }

    /// Forgets what another packet was wrapped in.
    pub(super) fn clear(&mut self) {
        // Without a tag there is no tunnel either: nearly no packet has to pay for the room of both.
        if self.tags[0].kind != EncapTagKind::None {
            *self = Self::default();
        }
        (self.source, self.ttl, self.interface) = (Mac::NONE, 0, 0);
    }

    /// What the packet was wrapped in, outermost first.
    pub fn tags(&self) -> impl Iterator<Item = EncapTag> + '_ {
        self.tags.iter().copied().take_while(|tag| tag.kind != EncapTagKind::None)
    }

    /// The VLANs it was in, outermost first. Identifier zero is a priority, no VLAN (IEEE 802.1Q, 9.6).
    pub fn vlans(&self) -> impl Iterator<Item = u32> + '_ {
        let vlans = self.tags().filter(|tag| tag.kind == EncapTagKind::Vlan);
        vlans.filter_map(|tag| tag.id).filter(|id| *id != 0)
    }

    /// The ends of the tunnels it went through, outermost first.
    pub fn outer(&self) -> impl Iterator<Item = TunnelEndpoints> + '_ {
        self.outer.iter().copied().flatten()
    }

    /// The same link as a tunnel between two addresses carries it. The frame's sender is the tunnel's
    /// end, not the inner packet's.
    #[must_use]
    pub fn with_tunnel(self, tunnel: Tunnel, id: Option<u32>, ends: TunnelEndpoints) -> Self {
        let mut inside = self.with_tag(EncapTagKind::Tunnel(tunnel), id);
        if let Some(room) = inside.outer.iter_mut().find(|outer| outer.is_none()) {
            *room = Some(ends);
        }
        Self { source: Mac::NONE, ..inside }
    }

    /// The same link with `tag` inside the others.
    #[must_use]
    pub fn with_tag(mut self, kind: EncapTagKind, id: Option<u32>) -> Self {
        if let Some(room) = self.tags.iter_mut().find(|tag| tag.kind == EncapTagKind::None) {
            *room = EncapTag { kind, id };
        }
        self
    }
}

/// Addresses, ports and protocol of one packet, in the direction it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FiveTuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; ICMP: see [`super::icmp_ports`].
    pub sport: u16,
    /// Destination port; ICMP: see [`super::icmp_ports`].
    pub dport: u16,
    /// The protocol above IP.
    pub transport: Transport,
}

/// What makes IP fragments one datagram (RFC 791, RFC 8200).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Datagram {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The protocol of the fragmented part, which all its fragments name.
    pub transport: Transport,
    /// IP identification.
    pub id: u32,
    /// How far it may be believed.
    pub path: Path,
}

/// The facts of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// Packet time in nanoseconds, or [`crate::model::NO_TIME`].
    pub time: Nanos,
    /// Bytes on the wire.
    pub wire_len: u32,
    /// The interface of the file that saw it.
    pub interface: u16,
    /// Sent to the link layer's broadcast address.
    pub broadcast: bool,
    /// What the capture kept of the frame, as [`flag::CUT_SHORT`] or [`flag::KEPT_LONG`].
    pub kept: u16,
    /// The capture kept fewer bytes than the frame had.
    pub cut: bool,
    /// The IPv4 header checksum is wrong. Counted, never a reason to drop.
    pub bad_checksum: bool,
    /// The tunnel in it whose packet could not be read; what is told is the packet around it.
    pub undecoded_tunnel: Option<Tunnel>,
    /// How far it may be believed, by the tunnels that it came through.
    pub path: Path,
    /// Evidence of the layers below.
    pub link: Encapsulation,
    /// What two sights of one packet have in common, hop or tag aside, as a number that differs for
    /// different packets; zero for what is no IP packet. The same on every machine and in every run.
    pub fingerprint: u64,
    /// Where the transport payload starts in the bytes that the capture kept of the frame.
    pub payload_at: u32,
    /// How many bytes of it the capture kept.
    pub payload_kept: u32,
    /// What the frame carries.
    pub body: Body,
}

impl Observation {
    /// The transport payload, as far as the capture kept it; `frame` is what was decoded.
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

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// A packet of a flow.
    Transport {
        /// Its flow, in the direction it was sent.
        tuple: FiveTuple,
        /// Facts about it, see [`flag`].
        flags: u16,
        /// Transport payload in bytes, by the lengths in the headers.
        payload: u32,
        /// TCP: the number of its first byte (RFC 9293, 3.4); else zero.
        seq: u32,
        /// TCP: what it acknowledges.
        acked: Option<u32>,
        /// The datagram that it is the first fragment of, or that carried it in one.
        fragment: Option<Datagram>,
    },
    /// A later fragment; its ports are in the first one.
    Fragment {
        /// What it is a part of.
        datagram: Datagram,
        /// Bytes of IP payload that it carries.
        payload: u32,
    },
    /// An ICMP error about a packet.
    Error {
        /// The packet that it quotes.
        quoted: Quoted,
        /// What the error says.
        kind: ErrorKind,
        /// Who says so.
        by: IpAddr,
        /// Whom it was sent to.
        to: IpAddr,
        /// ICMP or ICMPv6.
        transport: Transport,
    },
    /// An IP packet that shows no ports: cut off before them, or an ICMP error that quotes nothing
    /// readable.
    NoPorts {
        /// Source address.
        src: IpAddr,
        /// Destination address.
        dst: IpAddr,
        /// The protocol above IP.
        transport: Transport,
    },
    /// A frame that is no IP packet.
    NonIp {
        /// The ethertype; zero where there is none, as in most of IEEE 802.2.
        ethertype: u16,
        /// The address claim of an ARP packet for IPv4 over Ethernet (RFC 826).
        claim: Option<(IpAddr, Mac)>,
    },
}

/// The packet that an ICMP error is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quoted {
    /// Its flow, in the direction it was sent.
    Flow {
        /// The flow.
        tuple: FiveTuple,
        /// How far it may be believed that there is such a flow.
        path: Path,
        /// TCP: its sequence number; else zero.
        seq: u32,
        /// Its payload says that it answers.
        answers: bool,
    },
    /// It is a later fragment; the flow is that of its datagram.
    Fragment(Datagram),
}
