//! Bytes to facts: every frame becomes an [`Observation`] or a named [`SkipReason`].
//!
//! Decoding is total: no byte string makes it panic, fail or loop, and a packet that the capture cut
//! short gives what it still holds. Nothing is decided here: who opened a flow and what a host is
//! are questions for later rooms.
//!
//! Each layer says what comes next, and a loop goes on until nothing does. Where a packet carries
//! another one, the inner is what is audited; the outer is kept as evidence.

mod ether;
mod fast_path;
mod icmp;
mod ip;
mod link;
mod observation;
mod ppp;
mod transport;
mod tunnel;
mod wlan;

use std::net::IpAddr;

use crate::capture::Frame;
use crate::model::{SkipReason, Transport};

pub use ether::{ETHERTYPES, EtherType, ethertype_words};
pub use icmp::ErrorKind;
pub use link::{LINKS, LinkType};
pub use observation::{
    Body, Datagram, EncapTag, EncapTagKind, Encapsulation, FiveTuple, KEPT_TAGS, KEPT_TUNNELS,
    Observation, Path, Quoted, SHORT, TunnelEndpoints, TunnelUse, flag,
};
pub use tunnel::{StatedTunnel, TUNNELS, Tunnel};

/// Layers followed before a frame is given up. A packet in VXLAN has three more than without.
const MAX_LAYERS: usize = 32;

/// The link type of Ethernet.
const ETHERNET: u16 = 1;

/// How frames are decoded.
#[derive(Clone, Debug)]
pub struct Decoder {
    decap: bool,
    /// UDP ports that tunnels are looked for at.
    ports: Vec<(u16, Tunnel)>,
    /// A bit for each of them, by its remainder of 64: nearly no other datagram has to be compared with all.
    hints: u64,
    /// What the user says of tunnels.
    stated: Vec<StatedTunnel>,
}

/// The bit that stands for a port.
fn hint(port: u16) -> u64 {
    1 << (port & 63)
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(true, &[])
    }
}

impl Decoder {
    /// A decoder; without `decap` a tunnel is a flow like any other. VXLAN is also looked for at
    /// `vxlan_ports`.
    pub fn new(decap: bool, vxlan_ports: &[u16]) -> Self {
        // The user knows better what is at a port than the registry.
        let own = vxlan_ports.iter().map(|port| (*port, Tunnel::Vxlan));
        let ports: Vec<_> = own.chain(tunnel::PORTS.iter().copied()).collect();
        let hints = ports.iter().fold(0, |hints, (port, _)| hints | hint(*port));
        Self { decap, ports, hints, stated: Vec::new() }
    }

    /// The tunnel that a datagram between two ports may be.
    fn tunnel_at(&self, sport: u16, dport: u16) -> Option<Tunnel> {
        if self.hints & (hint(sport) | hint(dport)) == 0 {
            return None;
        }
        let at = |port: u16| self.ports.iter().find(|(known, _)| *known == port).map(|line| line.1);
        at(dport).or_else(|| at(sport).filter(|tunnel| tunnel.answers()))
    }

    /// The same, with what the user says of tunnels.
    #[must_use]
    pub fn stating(self, stated: Vec<StatedTunnel>) -> Self {
        Self { stated, ..self }
    }

    /// Decodes one frame into `seen`, whatever was in it. After an error it means nothing.
    pub fn decode(
        &self,
        frame: &Frame,
        data: &[u8],
        seen: &mut Observation,
    ) -> Result<(), SkipReason> {
        Self::prepare(frame, seen);
        // A record may claim fewer bytes on the wire than it holds; what is held was on the wire.
        let wire = data.len().max(frame.wire_len as usize);
        if frame.link == ETHERNET && fast_path::decode(self, data, wire, seen) {
            return Ok(());
        }
        self.decode_layers(frame.link, Packet { bytes: data, wire }, seen)
    }

    /// Writes what is known before anything is decoded: all but the body, which every way to an observation
    /// writes.
    fn prepare(frame: &Frame, seen: &mut Observation) {
        seen.time = frame.time;
        seen.wire_len = frame.wire_len;
        seen.interface = frame.interface;
        seen.kept = match frame.cap_len {
            SHORT.. => flag::KEPT_LONG,
            short if short < frame.wire_len => flag::CUT_SHORT,
            _ => 0,
        };
        seen.cut = frame.cap_len < frame.wire_len;
        (seen.broadcast, seen.bad_checksum, seen.undecoded_tunnel) = (false, false, None);
        seen.path = Path::PLAIN;
        seen.link.clear();
        seen.link.interface = frame.interface;
        seen.fingerprint = 0;
        (seen.payload_at, seen.payload_kept) = (0, 0);
    }

    /// Decodes a frame from layer to layer.
    fn decode_layers(
        &self,
        link: u16,
        packet: Packet<'_>,
        seen: &mut Observation,
    ) -> Result<(), SkipReason> {
        let mut layers = DecodeState::new(self, seen);
        layers.start = packet.bytes.as_ptr().addr();
        let link = LINKS.iter().find(|known| known.number == link);
        let link = link.ok_or(SkipReason::UnknownLinkType)?;
        let next = (link.decode)(packet, &mut layers)?;
        layers.run(next)
    }
}

/// An IP packet as the layers above it see it.
#[derive(Clone, Copy)]
struct IpHeader {
    src: IpAddr,
    dst: IpAddr,
    transport: Transport,
}

/// The layers of one packet, on the way from the outermost to the innermost.
struct DecodeState<'a> {
    decoder: &'a Decoder,
    seen: &'a mut Observation,
    /// The address of the frame's first byte, by which the place of its payload is told.
    start: usize,
    /// The packet is the one that an ICMP error quotes.
    quoted: bool,
    /// The fragmented datagram that this is the first fragment of.
    datagram: Option<Datagram>,
    /// The packet around the one being read, as it is told where the one in it cannot be read.
    around: Option<Observation>,
}

/// How an IEEE 802.11 frame was written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WlanForm {
    /// As it was sent.
    Plain,
    /// With its header padded to words of four bytes.
    Padded,
    /// With the two bytes of its frame control in the other order.
    Swapped,
}

/// What a layer carries.
enum Next<'p> {
    /// An Ethernet frame.
    Ethernet(Packet<'p>),
    /// What an ethertype announces.
    Ether(u16, Packet<'p>),
    /// IEEE 802.2 logical link control.
    Llc(Packet<'p>),
    /// A PPP frame from its protocol field on.
    Ppp(Packet<'p>),
    /// An IEEE 802.11 frame.
    Wlan(Packet<'p>, WlanForm),
    /// IP, of a version that the layer below announced, if it announced one.
    Ip(Option<u8>, Packet<'p>),
    /// Nothing that is read.
    Done,
}

impl<'a> DecodeState<'a> {
    fn new(decoder: &'a Decoder, seen: &'a mut Observation) -> Self {
        Self { decoder, seen, start: 0, quoted: false, datagram: None, around: None }
    }

    /// Goes through the layers from `next` on.
    fn run(&mut self, mut next: Next<'_>) -> Result<(), SkipReason> {
        for _ in 0..MAX_LAYERS {
            let result = match next {
                Next::Ethernet(packet) => link::ethernet::decode(packet, self),
                Next::Ether(ethertype, packet) => ether::decode(ethertype, packet, self),
                Next::Llc(packet) => ether::llc(packet, self),
                Next::Ppp(packet) => ppp::decode(packet, self),
                Next::Wlan(packet, form) => wlan::decode(packet, form, self),
                Next::Ip(version, packet) => ip::decode(packet, version, self),
                Next::Done => return Ok(()),
            };
            next = match result {
                Ok(next) => next,
                Err(reason) => {
                    let Some(around) = &self.around else { return Err(reason) };
                    // What it carries cannot be read, so the packet around it is what was seen.
                    *self.seen = *around;
                    return Ok(());
                }
            };
        }
        Err(SkipReason::TooManyEncapsulations)
    }

    /// Notes that what follows was wrapped.
    fn tag(&mut self, kind: EncapTagKind, id: Option<u32>) {
        self.seen.link = self.seen.link.with_tag(kind, id);
    }

    /// Goes into a tunnel between two addresses. What is observed so far stays as the packet around
    /// what follows.
    fn enter(&mut self, tunnel: Tunnel, id: Option<u32>, mut ends: TunnelEndpoints) {
        self.around = Some(Observation { undecoded_tunnel: Some(tunnel), ..*self.seen });
        let stated = self.decoder.stated.iter().find(|stated| stated.holds(tunnel, &ends));
        ends.stated = stated.map_or(TunnelUse::Unstated, |stated| stated.stated);
        if ends.stated == TunnelUse::Unstated {
            self.seen.path = self.seen.path.deeper(self.seen.interface);
        }
        self.seen.link = self.seen.link.with_tunnel(tunnel, id, ends);
        self.seen.broadcast = false;
        self.seen.fingerprint = 0;
        (self.seen.payload_at, self.seen.payload_kept) = (0, 0);
    }

    /// Notes where the payload of the packet lies.
    fn hold(&mut self, payload: &[u8]) {
        self.seen.payload_at = payload.as_ptr().addr().wrapping_sub(self.start) as u32;
        self.seen.payload_kept = payload.len() as u32;
    }

    /// Ends the way at something that is no IP packet.
    fn non_ip<'p>(&mut self, ethertype: u16) -> Next<'p> {
        self.seen.body = Body::NonIp { ethertype, claim: None };
        Next::Done
    }
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

    /// Two bytes in network order.
    fn u16(self, at: usize) -> Option<u16> {
        self.bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
    }

    /// Four bytes in network order.
    fn u32(self, at: usize) -> Option<u32> {
        self.bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
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
