//! Decodes bytes into facts: every frame becomes an [`Observation`] or a named [`SkipReason`].
//!
//! Decoding is total: no byte string makes it panic or loop forever, and a truncated packet yields
//! what it still contains. This module does not judge. Later modules determine which side is the
//! client of a flow, and which role a host has.
//!
//! The decoder of each layer returns the next layer, and a loop runs until no layer is left. If a
//! packet carries another packet, the inner one is audited and the outer one is kept as evidence.

mod ether;
mod fast_path;
mod icmp;
mod ip;
mod link;
mod observation;
mod ppp;
#[cfg(test)]
mod sample;
mod transport;
mod tunnel;
mod wlan;

use std::net::IpAddr;

use crate::capture::Frame;
use crate::model::{SkipReason, Transport};

pub(crate) use ether::ethertype_words;
pub use ether::{ETHERTYPES, EtherType};
pub use link::{LINKS, LinkType};
pub use observation::{
    Body, Datagram, EncapTag, EncapTagKind, Encapsulation, ErrorKind, FiveTuple, Observation, Path,
    Quoted, SHORT, TunnelEndpoints, TunnelUse, flag,
};
pub use tunnel::{StatedTunnel, TUNNELS, Tunnel};

/// The maximum number of layers that are decoded per frame. A packet in VXLAN has three more layers
/// than a plain one.
const MAX_LAYERS: usize = 32;

/// The skip reason of a frame that is truncated inside its link-layer header.
const CUT: SkipReason = SkipReason::TruncatedLinkHeader;

/// The registry number (LINKTYPE) of Ethernet.
const ETHERNET: u16 = 1;

/// The settings for decoding frames.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Whether packets in tunnels are decoded. Otherwise, the packets of a tunnel form an ordinary
    /// flow.
    decapsulates: bool,
    /// UDP ports on which tunnels are expected.
    ports: Vec<(u16, Tunnel)>,
    /// One bit for each of `ports`, modulo 64. Most datagrams on other ports match no bit, so they
    /// need not be compared with every entry of `ports`.
    port_bits: u64,
    /// The user's declarations about tunnels.
    stated: Vec<StatedTunnel>,
}

/// Returns the bit of a port in `port_bits`.
fn port_bit(port: u16) -> u64 {
    1 << (port & 63)
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Decoder {
    /// Returns a decoder that also expects VXLAN on `vxlan_ports`.
    pub fn new(vxlan_ports: &[u16]) -> Self {
        // The user's ports come first, because the user knows better than the registry what these
        // ports carry.
        let user_ports = vxlan_ports.iter().map(|port| (*port, Tunnel::Vxlan));
        let ports: Vec<_> = user_ports.chain(tunnel::udp_ports()).collect();
        let port_bits = ports.iter().fold(0, |bits, (port, _)| bits | port_bit(*port));
        Self { decapsulates: true, ports, port_bits, stated: Vec::new() }
    }

    /// Returns the kind of tunnel that a datagram between these ports may belong to.
    fn tunnel_at(&self, sport: u16, dport: u16) -> Option<Tunnel> {
        if self.port_bits & (port_bit(sport) | port_bit(dport)) == 0 {
            return None;
        }
        let find =
            |port: u16| self.ports.iter().find(|(known, _)| *known == port).map(|line| line.1);
        find(dport).or_else(|| find(sport).filter(|tunnel| tunnel.answers()))
    }

    /// Sets whether packets in tunnels are decoded.
    #[must_use]
    pub fn with_decapsulation(self, decapsulates: bool) -> Self {
        Self { decapsulates, ..self }
    }

    /// Sets the user's declarations about tunnels.
    #[must_use]
    pub fn with_stated_tunnels(self, stated: Vec<StatedTunnel>) -> Self {
        Self { stated, ..self }
    }

    /// Decodes one frame into `seen`, replacing its content. After an error, the content of `seen`
    /// is undefined.
    pub fn decode(
        &self,
        frame: &Frame,
        data: &[u8],
        seen: &mut Observation,
    ) -> Result<(), SkipReason> {
        // A record may give a length on the wire that is smaller than its data, but all of its data
        // was on the wire.
        let packet = Packet { bytes: data, wire: data.len().max(frame.wire_len as usize) };
        if frame.link == ETHERNET && fast_path::decode(self, frame, packet, seen) {
            return Ok(());
        }
        self.decode_layers(frame, packet, seen)
    }

    /// Decodes a frame on the general path, layer by layer.
    fn decode_layers(
        &self,
        frame: &Frame,
        packet: Packet<'_>,
        seen: &mut Observation,
    ) -> Result<(), SkipReason> {
        *seen = Observation {
            time: frame.time,
            wire_len: frame.wire_len,
            interface: frame.interface,
            kept: kept(frame),
            cut: frame.cap_len < frame.wire_len,
            ..Observation::default()
        };
        seen.link.interface = frame.interface;
        let mut layers = DecodeState::new(self, seen);
        layers.start = packet.bytes.as_ptr().addr();
        let link = LINKS.iter().find(|known| known.number == frame.link);
        let link = link.ok_or(SkipReason::UnknownLinkType)?;
        let next = (link.decode)(packet, &mut layers)?;
        layers.run(next)
    }
}

/// Returns how much of a frame the capture kept. See [`Observation::kept`].
fn kept(frame: &Frame) -> u16 {
    match frame.cap_len {
        SHORT.. => flag::KEPT_LONG,
        short if short < frame.wire_len => flag::CUT_SHORT,
        _ => 0,
    }
}

/// The fields of an IP header that the layers above IP need.
#[derive(Clone, Copy)]
struct IpHeader {
    src: IpAddr,
    dst: IpAddr,
    transport: Transport,
}

/// The state of decoding one frame from the outermost layer to the innermost.
struct DecodeState<'a> {
    decoder: &'a Decoder,
    seen: &'a mut Observation,
    /// The memory address of the first byte of the frame, from which the payload offset is
    /// computed.
    start: usize,
    /// Whether the packet is a quotation in an ICMP error.
    quoted: bool,
    /// The datagram whose first fragment is, or contains, the current packet.
    datagram: Option<Datagram>,
    /// The packet around the current one. It becomes the observation if the inner packet cannot be
    /// read.
    outer: Option<Observation>,
}

/// How an IEEE 802.11 frame was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WlanForm {
    /// As it was sent.
    Plain,
    /// With padding after the header, up to a multiple of four bytes.
    Padded,
    /// With the two bytes of the frame control field swapped.
    Swapped,
}

/// The content of a layer, which is decoded next.
#[derive(PartialEq, Debug)]
enum Next<'p> {
    /// An Ethernet frame.
    Ethernet(Packet<'p>),
    /// The content that an EtherType identifies.
    Ether(u16, Packet<'p>),
    /// IEEE 802.2 logical link control.
    Llc(Packet<'p>),
    /// A PPP frame that starts with its protocol field.
    Ppp(Packet<'p>),
    /// An IEEE 802.11 frame.
    Wlan(Packet<'p>, WlanForm),
    /// An IP packet, with its version according to the layer below, if that layer states it.
    Ip(Option<u8>, Packet<'p>),
    /// No further content to decode.
    Done,
}

impl<'a> DecodeState<'a> {
    fn new(decoder: &'a Decoder, seen: &'a mut Observation) -> Self {
        Self { decoder, seen, start: 0, quoted: false, datagram: None, outer: None }
    }

    /// Decodes the layers starting at `next`.
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
                Err(reason) => return self.end_at_outer(reason),
            };
        }
        self.end_at_outer(SkipReason::TooManyEncapsulations)
    }

    /// Ends decoding at content that cannot be read. The packet around it becomes the observation.
    ///
    /// # Errors
    ///
    /// Returns `reason` if there is no packet around the content.
    fn end_at_outer(&mut self, reason: SkipReason) -> Result<(), SkipReason> {
        *self.seen = self.outer.ok_or(reason)?;
        Ok(())
    }

    /// Records a tag around the packet.
    fn note_tag(&mut self, kind: EncapTagKind, id: Option<u32>) {
        self.seen.link = self.seen.link.with_tag(kind, id);
    }

    /// Enters a tunnel between two addresses. The observation so far is kept, in case the inner
    /// packet cannot be read.
    fn enter_tunnel(&mut self, tunnel: Tunnel, id: Option<u32>, mut ends: TunnelEndpoints) {
        self.outer = Some(Observation { undecoded_tunnel: Some(tunnel), ..*self.seen });
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

    /// Records where the payload is in the frame.
    fn note_payload(&mut self, payload: &[u8]) {
        self.seen.payload_at = payload.as_ptr().addr().wrapping_sub(self.start) as u32;
        self.seen.payload_kept = payload.len() as u32;
    }

    /// Ends decoding at content that is not an IP packet.
    fn end_at_non_ip<'p>(&mut self, ethertype: u16) -> Next<'p> {
        self.seen.body = Body::NonIp { ethertype, claim: None };
        Next::Done
    }
}

/// The rest of a packet: the bytes that the capture kept, and the number of bytes on the wire.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Packet<'a> {
    bytes: &'a [u8],
    wire: usize,
}

impl<'a> Packet<'a> {
    /// Returns the rest after the first `length` bytes; `None` if these were not all captured.
    fn after(self, length: usize) -> Option<Self> {
        Some(Self { bytes: self.bytes.get(length..)?, wire: self.wire.saturating_sub(length) })
    }

    /// Returns the packet without anything beyond `length` bytes, such as padding and trailers.
    fn limited(self, length: usize) -> Self {
        Self { bytes: &self.bytes[..self.bytes.len().min(length)], wire: self.wire.min(length) }
    }

    /// Returns the 16-bit number in network byte order at offset `at`.
    fn u16(self, at: usize) -> Option<u16> {
        self.bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
    }

    /// Returns the 32-bit number in network byte order at offset `at`.
    fn u32(self, at: usize) -> Option<u32> {
        self.bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
    }
}

/// Returns the two numbers that replace ports in an ICMP flow, as in Community ID version 1. For
/// paired messages, such as echo request and reply, these are the type of the message and the type
/// of its counterpart, so that both directions are one flow. For all other messages, they are type
/// and code.
pub fn icmp_ports(transport: Transport, kind: u8, code: u8) -> (u16, u16) {
    (u16::from(kind), u16::from(icmp::answer(transport, kind).unwrap_or(code)))
}

/// Returns whether an ICMP message of this type belongs to a pair of request and reply.
pub fn icmp_paired(transport: Transport, kind: u8) -> bool {
    icmp::answer(transport, kind).is_some()
}

#[cfg(test)]
mod tests {
    use super::sample::{decode_with, ethernet, flow, frame, ipv4, packet, udp};
    use super::*;
    use crate::decode::observation::KEPT_TAGS;

    /// Returns a UDP frame with VLAN tags around its IP packet.
    fn tagged(tags: usize) -> Vec<u8> {
        let mut content = [&[0x08, 0x00][..], &ipv4(17, &udp(50_000, 50_001, &[0; 40]))].concat();
        for _ in 1..tags {
            content = [&[0x81, 0x00, 0, 7][..], &content].concat();
        }
        ethernet(0x8100, &[&[0, 7][..], &content].concat())
    }

    #[test]
    fn a_packet_never_has_more_bytes_than_were_captured() {
        let cut = Packet { bytes: &[1, 2, 3, 4], wire: 10 };
        assert_eq!(cut.after(4), Some(Packet { bytes: &[], wire: 6 }));
        assert_eq!(cut.after(5), None);
        assert_eq!(cut.limited(6), Packet { bytes: &[1, 2, 3, 4], wire: 6 });
        assert_eq!(cut.limited(3), Packet { bytes: &[1, 2, 3], wire: 3 });
        assert_eq!(cut.limited(11), cut);
        // A record may declare a length on the wire that is smaller than its data.
        assert_eq!(Packet { bytes: &[1, 2], wire: 1 }.after(2).map(|rest| rest.wire), Some(0));
    }

    #[test]
    fn numbers_are_read_only_if_all_of_their_bytes_are_there() {
        let all = packet(&[0x12, 0x34, 0x56, 0x78, 0x9a]);
        assert_eq!((all.u16(0), all.u16(3), all.u16(4)), (Some(0x1234), Some(0x789a), None));
        assert_eq!((all.u32(1), all.u32(2)), (Some(0x3456_789a), None));
        assert_eq!((all.u16(usize::MAX), all.u32(6)), (None, None));
    }

    #[test]
    fn a_tunnel_is_expected_where_it_is_sent_to_and_at_its_source_only_if_it_answers() {
        let decoder = Decoder::default();
        assert_eq!(decoder.tunnel_at(50_000, 4789), Some(Tunnel::Vxlan));
        assert_eq!(decoder.tunnel_at(4789, 50_000), None);
        assert_eq!(decoder.tunnel_at(50_000, 5247), Some(Tunnel::Capwap));
        assert_eq!(decoder.tunnel_at(5247, 50_000), Some(Tunnel::Capwap));
        // Port 53 has the same bit as port 4789.
        assert_eq!(port_bit(53), port_bit(4789));
        assert_eq!(decoder.tunnel_at(50_000, 53), None);
    }

    #[test]
    fn a_port_of_the_user_carries_what_the_user_says() {
        assert_eq!(Decoder::default().tunnel_at(1, 6081), Some(Tunnel::Geneve));
        let decoder = Decoder::new(&[6081, 50_001]);
        assert_eq!(decoder.tunnel_at(1, 6081), Some(Tunnel::Vxlan));
        assert_eq!(decoder.tunnel_at(1, 50_001), Some(Tunnel::Vxlan));
        assert_eq!(decoder.tunnel_at(1, 50_002), None);
    }

    #[test]
    fn without_decapsulation_a_tunnel_is_an_ordinary_flow() {
        let inner = ethernet(0x0800, &ipv4(17, &udp(1, 2, &[])));
        let vxlan = [&[8, 0, 0, 0, 0, 0, 9, 0][..], &inner].concat();
        let bytes = ethernet(0x0800, &ipv4(17, &udp(50_000, 4789, &vxlan)));
        let port = |decoder: &Decoder| {
            let seen = decode_with(decoder, 1, &bytes, bytes.len()).expect("it can be read");
            (flow(&seen).map(|(tuple, _)| tuple.dport), seen.path.is_inside())
        };
        assert_eq!(port(&Decoder::default()), (Some(2), true));
        assert_eq!(port(&Decoder::default().with_decapsulation(false)), (Some(4789), false));
    }

    #[test]
    fn layers_are_followed_up_to_the_limit() {
        // The limit also covers the last EtherType, the IP packet and [`Next::Done`].
        let most = MAX_LAYERS - 3;
        let bytes = tagged(most);
        let seen = frame(1, &bytes, bytes.len()).expect("it is not too deep");
        assert_eq!(flow(&seen).map(|(tuple, _)| tuple.dport), Some(50_001));
        assert_eq!(seen.link.tags().count(), KEPT_TAGS);
        let bytes = tagged(most + 1);
        let result = frame(1, &bytes, bytes.len());
        assert_eq!(result, Err(SkipReason::TooManyEncapsulations));
    }

    #[test]
    fn too_many_layers_hide_no_tunnel() {
        let vxlan = [&[8, 0, 0, 0, 0, 0, 9, 0][..], &tagged(MAX_LAYERS)].concat();
        let bytes = ethernet(0x0800, &ipv4(17, &udp(50_000, 4789, &vxlan)));
        let seen = frame(1, &bytes, bytes.len()).expect("the outer packet");
        assert_eq!(flow(&seen).map(|(tuple, _)| tuple.dport), Some(4789));
        assert_eq!((seen.undecoded_tunnel, seen.path.is_inside()), (Some(Tunnel::Vxlan), false));
    }

    #[test]
    fn an_unlisted_link_type_is_skipped() {
        assert_eq!(frame(2, &[0; 60], 60), Err(SkipReason::UnknownLinkType));
        assert!(LINKS.iter().all(|link| link.number != 2));
    }

    #[test]
    fn each_link_type_and_each_port_of_a_tunnel_is_listed_once() {
        for (place, link) in LINKS.iter().enumerate() {
            assert!(
                LINKS[..place].iter().all(|other| other.number != link.number),
                "{}",
                link.name
            );
        }
        let ports: Vec<u16> = tunnel::udp_ports().map(|(port, _)| port).collect();
        for (place, port) in ports.iter().enumerate() {
            assert!(!ports[..place].contains(port), "{port}");
        }
    }

    #[test]
    fn what_was_kept_is_cut_short_only_below_the_limit_of_a_short_snaplen() {
        let bytes = ethernet(0x0800, &ipv4(17, &udp(50_000, 50_001, &[0; 100])));
        let kept = |kept: usize| {
            let seen = frame(1, &bytes, kept).expect("the headers are there");
            (seen.kept, seen.cut)
        };
        assert_eq!(kept(SHORT as usize - 1), (flag::CUT_SHORT, true));
        assert_eq!(kept(SHORT as usize), (flag::KEPT_LONG, true));
        assert_eq!(kept(bytes.len()), (flag::KEPT_LONG, false));
        // A short frame that was captured completely has neither flag.
        let short = ethernet(0x0800, &ipv4(17, &udp(50_000, 50_001, &[])));
        let seen = frame(1, &short, short.len()).expect("it is complete");
        assert_eq!((seen.kept, seen.cut), (0, false));
    }

    #[test]
    fn nothing_of_the_frame_before_remains() {
        let decoder = Decoder::default();
        let first = tagged(2);
        let mut seen = frame(1, &first, first.len()).expect("it can be read");
        seen.undecoded_tunnel = Some(Tunnel::Gre);
        (seen.bad_checksum, seen.broadcast) = (true, true);
        let arp = ethernet(0x0806, &[0; 4]);
        let record = Frame {
            time: 5,
            offset: 0,
            cap_len: arp.len() as u32,
            wire_len: arp.len() as u32,
            link: ETHERNET,
            interface: 3,
        };
        assert_eq!(decoder.decode(&record, &arp, &mut seen), Ok(()));
        let mut fresh = Observation::default();
        assert_eq!(decoder.decode(&record, &arp, &mut fresh), Ok(()));
        assert_eq!(seen, fresh);
        assert_eq!((seen.time, seen.interface, seen.link.interface), (5, 3, 3));
        assert_eq!((seen.fingerprint, seen.payload_at, seen.payload_kept), (0, 0, 0));
    }

    #[test]
    fn a_record_that_states_less_than_it_contains_is_as_long_as_its_content() {
        let bytes = ethernet(0x0800, &ipv4(17, &udp(50_000, 50_001, &[0; 30])));
        let length = bytes.len() as u32;
        let record = Frame {
            time: 0,
            offset: 0,
            cap_len: length,
            wire_len: 20,
            link: ETHERNET,
            interface: 0,
        };
        let mut seen = Observation::default();
        assert_eq!(Decoder::default().decode(&record, &bytes, &mut seen), Ok(()));
        assert_eq!(flow(&seen).map(|(_, payload)| payload), Some(30));
    }
}
