//! Bytes to facts: every frame becomes an [`Observation`] or a named [`SkipReason`].
//!
//! Decoding is total: no byte string makes it panic, fail or loop, and a packet that the capture cut
//! short gives what it still holds. Nothing is decided here: who opened a flow and what a host is
//! are questions for later rooms.

mod ether;
mod icmp;
mod ip;
mod link;
mod transport;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::capture::Frame;
use crate::model::{Mac, Nanos, SkipReason, Transport};

pub use icmp::ErrorKind;
pub use link::LINKS;

/// Facts about the packets of one side of a flow, as bits of an `Or`.
pub mod sign {
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
    /// DNS (RFC 1035): the query/response bit says query.
    pub const DNS_QUERY: u16 = 1 << 6;
    /// DNS: the query/response bit says response.
    pub const DNS_ANSWER: u16 = 1 << 7;
    /// TLS (RFC 8446): a ClientHello starts a segment.
    pub const CLIENT_HELLO: u16 = 1 << 8;
    /// TLS: a ServerHello starts a segment.
    pub const SERVER_HELLO: u16 = 1 << 9;
    /// Sent to the link layer's broadcast address.
    pub const BROADCAST: u16 = 1 << 10;
    /// Sent to another address of the link layer.
    pub const UNICAST: u16 = 1 << 11;
}

/// The most VLAN tags kept as evidence of one frame; deeper ones are followed, not kept.
pub const KEPT_TAGS: usize = 2;

/// No VLAN tag. Identifiers have twelve bits.
pub const NO_TAG: u16 = u16::MAX;

/// What the link layer says of a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Link {
    /// VLAN identifiers, outermost first; [`NO_TAG`] where there is none.
    pub vlans: [u16; KEPT_TAGS],
    /// Who put the frame on this link; [`Mac::NONE`] where the link has no addresses.
    pub source: Mac,
}

impl Default for Link {
    fn default() -> Self {
        Self { vlans: [NO_TAG; KEPT_TAGS], source: Mac::NONE }
    }
}

/// Addresses, ports and protocol of one packet, in the direction it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port; ICMP: see [`icmp_ports`].
    pub sport: u16,
    /// Destination port; ICMP: see [`icmp_ports`].
    pub dport: u16,
    /// The protocol above IP.
    pub transport: Transport,
}

/// The facts of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// Packet time in nanoseconds, or [`crate::model::NO_TIME`].
    pub time: Nanos,
    /// Bytes on the wire.
    pub wire_len: u32,
    /// Link-layer evidence.
    pub link: Link,
    /// Sent to the link layer's broadcast address.
    pub broadcast: bool,
    /// The IPv4 header checksum is wrong. Counted, never a reason to drop.
    pub bad_checksum: bool,
    /// What the frame carries.
    pub body: Body,
}

/// What a frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// A packet of a flow.
    Segment {
        /// Its flow, in the direction it was sent.
        tuple: Tuple,
        /// Facts about it, see [`sign`].
        signs: u16,
        /// Transport payload in bytes, by the lengths in the headers.
        payload: u32,
        /// The identification of the packet that this is the first fragment of, and the protocol that
        /// its later fragments name.
        fragment: Option<(u32, Transport)>,
    },
    /// A later fragment; its ports are in the first one.
    Fragment {
        /// Source address.
        src: IpAddr,
        /// Destination address.
        dst: IpAddr,
        /// The protocol of the fragmented part.
        transport: Transport,
        /// IP identification.
        id: u32,
        /// Bytes of IP payload that it carries.
        payload: u32,
    },
    /// An ICMP error with the flow whose header it quotes.
    Error {
        /// The flow of the quoted packet, in the direction that packet was sent.
        quoted: Tuple,
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
    Portless {
        /// Source address.
        src: IpAddr,
        /// Destination address.
        dst: IpAddr,
        /// The protocol above IP.
        transport: Transport,
    },
    /// A frame that is no IP packet.
    NonIp {
        /// The ethertype; zero for IEEE 802.3 length-delimited frames.
        ethertype: u16,
        /// The address claim of an ARP packet for IPv4 over Ethernet (RFC 826).
        claim: Option<(IpAddr, Mac)>,
    },
}

/// Decodes one frame.
pub fn decode(frame: &Frame, data: &[u8]) -> Result<Observation, SkipReason> {
    let mut seen = Observation {
        time: frame.time,
        wire_len: frame.wire_len,
        link: Link::default(),
        broadcast: false,
        bad_checksum: false,
        body: Body::NonIp { ethertype: 0, claim: None },
    };
    let decoder = LINKS
        .iter()
        .find(|(number, ..)| *number == frame.link)
        .ok_or(SkipReason::UnknownLinkType)?;
    // A record may claim fewer bytes on the wire than it holds; what is held was on the wire.
    let wire = data.len().max(frame.wire_len as usize);
    (decoder.2)(Packet { bytes: data, wire }, &mut seen)?;
    Ok(seen)
}

/// The rest of a packet: the bytes the capture kept, and how many there were on the wire.
#[derive(Clone, Copy)]
struct Packet<'a> {
    bytes: &'a [u8],
    wire: usize,
}

impl<'a> Packet<'a> {
    /// What follows the first `length` bytes, if they were captured.
    fn after(self, length: usize) -> Option<Self> {
        Some(Self { bytes: self.bytes.get(length..)?, wire: self.wire.saturating_sub(length) })
    }

    /// The packet without what lies beyond `length` bytes (padding, trailers).
    fn limited(self, length: usize) -> Self {
        Self { bytes: &self.bytes[..self.bytes.len().min(length)], wire: self.wire.min(length) }
    }
}

/// The pair of numbers that stands for ports in an ICMP flow: for messages that come in pairs (echo
/// and its reply, ...) the type sent and the type that answers it, so that both directions are one
/// flow; for others type and code. This is the convention of Community ID version 1.
pub fn icmp_ports(transport: Transport, kind: u8, code: u8) -> (u16, u16) {
    (u16::from(kind), u16::from(icmp::answer(transport, kind).unwrap_or(code)))
}

/// Whether an ICMP message of this type belongs to a request and reply pair.
pub fn icmp_paired(transport: Transport, kind: u8) -> bool {
    icmp::answer(transport, kind).is_some()
}
