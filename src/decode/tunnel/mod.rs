//! Tunnels over IP and UDP. Each family has a file, and each kind has an entry in [`TUNNELS`].

mod capwap;
mod gre;
mod gtp;
mod ip;
mod pim;
mod tzsp;
mod v6;
mod vxlan;

use serde::{Deserialize, Serialize};

use ipnet::IpNet;

use super::transport::UDP_HEADER;
use super::{DecodeState, IpHeader, Next, Packet, TunnelEndpoints, TunnelUse};
use crate::model::Transport;

/// A kind of tunnel. Saved states contain the position of a variant in this list, so new variants
/// must be added at the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Tunnel {
    /// IPv4 or IPv6 in IP.
    IpInIp,
    /// Generic routing encapsulation.
    Gre,
    /// Network virtualization with GRE.
    Nvgre,
    /// Encapsulated remote switched port analyzer (ERSPAN) of any type.
    Erspan,
    /// Virtual extensible LAN.
    Vxlan,
    /// Generic protocol extension of VXLAN, which may also carry content other than Ethernet.
    VxlanGpe,
    /// Generic network virtualization encapsulation.
    Geneve,
    /// User plane of the GPRS tunnelling protocol.
    Gtp,
    /// Ethernet in IP.
    EtherIp,
    /// MPLS in IP or UDP.
    MplsInIp,
    /// TaZmen sniffer protocol.
    Tzsp,
    /// Data channel of wireless access points (CAPWAP).
    Capwap,
    /// IPv6 over UDP through network address translation.
    Teredo,
    /// Anything In Anything (AYIYA), which carries IP over UDP.
    Ayiya,
    /// PIM register messages, which carry multicast packets to a rendezvous point.
    Pim,
}

/// The kinds of tunnels. Each entry contains the kind, its name in tags, the protocol that carries
/// it, the document that describes it, and the version of rasaudit that first decoded it.
pub const TUNNELS: &[(Tunnel, &str, &str, &str, &str)] = &[
    (Tunnel::IpInIp, "ip-in-ip", "IP protocols 4 and 41", "RFC 2003, RFC 4213, RFC 2473", "0.1"),
    (
        Tunnel::Gre,
        "gre",
        "IP protocol 47, UDP 4754",
        "RFC 2784, RFC 2890, RFC 2637 (PPTP), RFC 8086; access points of Aruba",
        "0.1",
    ),
    (
        Tunnel::Nvgre,
        "nvgre",
        "GRE with Ethernet and a key, but no checksum or sequence number",
        "RFC 7637",
        "0.1",
    ),
    (Tunnel::Erspan, "erspan", "GRE", "draft-foschiano-erspan (types I, II, III)", "0.1"),
    (Tunnel::Vxlan, "vxlan", "UDP 4789, 8472, and --vxlan-port", "RFC 7348", "0.1"),
    (Tunnel::VxlanGpe, "vxlan-gpe", "UDP 4790", "draft-ietf-nvo3-vxlan-gpe", "0.1"),
    (Tunnel::Geneve, "geneve", "UDP 6081", "RFC 8926", "0.1"),
    (Tunnel::Gtp, "gtp-u", "UDP 2152", "3GPP TS 29.281", "0.1"),
    (Tunnel::EtherIp, "etherip", "IP protocol 97", "RFC 3378", "0.1"),
    (Tunnel::MplsInIp, "mpls-in-ip", "IP protocol 137, UDP 6635", "RFC 4023, RFC 7510", "0.1"),
    (Tunnel::Tzsp, "tzsp", "UDP 37008", "TaZmen Sniffer Protocol", "0.1"),
    (Tunnel::Capwap, "capwap", "UDP 5247, to or from", "RFC 5415, RFC 5416", "0.1"),
    (Tunnel::Teredo, "teredo", "UDP 3544, to or from", "RFC 4380", "0.1"),
    (Tunnel::Ayiya, "ayiya", "UDP 5072, to or from", "draft-massar-v6ops-ayiya", "0.1"),
    (Tunnel::Pim, "pim-register", "IP protocol 103", "RFC 7761", "0.1"),
];

/// A function that reads the header of a tunnel. Returns `None` if the bytes are not such a header.
type ReadHeader = for<'p> fn(Packet<'p>) -> Option<TunnelHeader<'p>>;

/// The tunnels over UDP, each with the destination ports on which it is expected. IANA assigned
/// them to these protocols, except 8472, the first VXLAN port of Linux, and the port of TZSP.
const OVER_UDP: &[(Tunnel, &[u16], ReadHeader)] = &[
    (Tunnel::Vxlan, &[4789, 8472], vxlan::plain),
    (Tunnel::VxlanGpe, &[4790], vxlan::generic),
    (Tunnel::Geneve, &[6081], vxlan::geneve),
    (Tunnel::Gtp, &[2152], gtp::decode),
    (Tunnel::MplsInIp, &[6635], self::ip::mpls),
    (Tunnel::Tzsp, &[37008], tzsp::decode),
    (Tunnel::Gre, &[4754], gre::decode),
    (Tunnel::Capwap, &[5247], capwap::decode),
    (Tunnel::Teredo, &[3544], v6::teredo),
    (Tunnel::Ayiya, &[5072], v6::ayiya),
];

/// Returns the UDP destination ports on which tunnels are expected.
pub(super) fn udp_ports() -> impl Iterator<Item = (u16, Tunnel)> {
    OVER_UDP.iter().flat_map(|(tunnel, ports, _)| ports.iter().map(|port| (*port, *tunnel)))
}

/// The user's declaration about the tunnels of one kind between some networks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatedTunnel {
    /// Networks that together contain both endpoints of each tunnel to which the declaration
    /// applies.
    pub ends: Vec<IpNet>,
    /// The kind of tunnel that the declaration applies to.
    pub kind: Tunnel,
    /// What the tunnels carry, which determines whether their content is trusted.
    pub stated: TunnelUse,
}

impl StatedTunnel {
    /// Returns whether the declaration applies to a tunnel of this kind between these ends.
    pub(super) fn holds(&self, kind: Tunnel, ends: &TunnelEndpoints) -> bool {
        let inside = |address| self.ends.iter().any(|network| network.contains(&address));
        self.kind == kind && inside(ends.src) && inside(ends.dst)
    }
}

impl Tunnel {
    /// Returns the kind with this name in tags.
    pub fn parse(word: &str) -> Option<Self> {
        TUNNELS.iter().find(|line| line.1 == word).map(|line| line.0)
    }

    /// Returns whether replies have the tunnel's port as their source port.
    pub(super) fn answers(self) -> bool {
        matches!(self, Self::Capwap | Self::Teredo | Self::Ayiya)
    }

    /// Returns whether the UDP source port belongs to an endpoint, as in an ordinary datagram. The
    /// packets of the tunnel are then part of the same flow as other messages between its ends.
    fn has_own_ports(self) -> bool {
        self.answers() || self == Self::Gre
    }

    /// Returns the name of this kind in tags.
    pub fn name(self) -> &'static str {
        TUNNELS.iter().find(|line| line.0 == self).map_or("tunnel", |line| line.1)
    }
}

/// A decoded tunnel header: the kind of the tunnel, its key, network identifier or session ID, and
/// its content.
#[derive(PartialEq, Debug)]
struct TunnelHeader<'p> {
    tunnel: Tunnel,
    id: Option<u32>,
    next: Next<'p>,
}

/// Enters the tunnel in an IP packet if the tunnel header can be read. Otherwise the packet is part
/// of an ordinary flow.
pub(super) fn enter<'p>(
    ip: &IpHeader,
    inner: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Next<'p> {
    if gre::is_keepalive(ip, inner) {
        return Next::Done;
    }
    let mut sport = 0;
    let mut dport = 0;
    let mut is_sealed = false;
    let found = match ip.transport {
        Transport::TCP => return Next::Done,
        Transport::UDP => {
            let (Some(from), Some(to)) = (inner.u16(0), inner.u16(2)) else { return Next::Done };
            let Some(tunnel) = layers.decoder.tunnel_at(from, to) else { return Next::Done };
            // If the source port has no meaning, it counts as zero, so that all packets between two
            // hosts are one flow.
            (sport, dport) = (if tunnel.has_own_ports() { from } else { 0 }, to);
            is_sealed = tunnel == Tunnel::Capwap && capwap::is_sealed(inner);
            inner.after(UDP_HEADER).and_then(|payload| over_udp(tunnel, payload))
        }
        Transport(4) => self::ip::decode(4, inner),
        Transport(41) => self::ip::decode(6, inner),
        Transport(47) => gre::decode(inner),
        Transport(103) if pim::is_register(inner) => pim::decode(inner),
        Transport(97) => self::ip::etherip(inner),
        Transport(137) => self::ip::mpls(inner),
        _ => return Next::Done,
    };
    match found {
        Some(TunnelHeader { tunnel, id, next }) => {
            let src = ip.src;
            let dst = ip.dst;
            let transport = ip.transport;
            let stated = TunnelUse::Unstated;
            layers.enter_tunnel(
                tunnel,
                id,
                TunnelEndpoints { src, dst, transport, sport, port: dport, stated },
            );
            next
        }
        None => {
            // Any protocol may use a UDP port, so an unreadable datagram need not be a tunnel. The
            // number of an IP protocol is unambiguous.
            layers.seen.undecoded_tunnel =
                if is_sealed { Some(Tunnel::Capwap) } else { of_protocol(ip.transport) };
            Next::Done
        }
    }
}

/// Returns the tunnel that an IP protocol number identifies.
fn of_protocol(transport: Transport) -> Option<Tunnel> {
    match transport {
        Transport(4 | 41) => Some(Tunnel::IpInIp),
        Transport(47) => Some(Tunnel::Gre),
        Transport(97) => Some(Tunnel::EtherIp),
        Transport(103) => Some(Tunnel::Pim),
        Transport(137) => Some(Tunnel::MplsInIp),
        _ => None,
    }
}

fn over_udp(tunnel: Tunnel, payload: Packet<'_>) -> Option<TunnelHeader<'_>> {
    let (.., read) = OVER_UDP.iter().find(|line| line.0 == tunnel)?;
    read(payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::{
        DST, SRC, decode_with, ethernet, flow, frame, ip_packet, ipv4, ipv6, udp,
    };
    use crate::decode::{Decoder, EncapTagKind, Observation};

    /// Returns the packet that all tunnels in these tests carry.
    fn inner() -> Vec<u8> {
        let mut bytes = ipv4(17, &udp(1, 2, &[9]));
        bytes[12..20].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
        bytes
    }

    fn vxlan(inner: &[u8]) -> Vec<u8> {
        let payload = [&[8, 0, 0, 0, 0, 0, 9, 0][..], &ethernet(0x0800, inner)].concat();
        ipv4(17, &udp(50_000, 4789, &payload))
    }

    fn read(bytes: &[u8]) -> Observation {
        ip_packet(bytes).expect("an IP packet")
    }

    fn ports(seen: &Observation) -> Option<(u16, u16)> {
        flow(seen).map(|(tuple, _)| (tuple.sport, tuple.dport))
    }

    #[test]
    fn each_kind_has_one_name_that_can_be_parsed() {
        for (place, (tunnel, name, ..)) in TUNNELS.iter().enumerate() {
            assert_eq!((Tunnel::parse(name), tunnel.name()), (Some(*tunnel), *name));
            assert!(TUNNELS[..place].iter().all(|line| line.0 != *tunnel && line.1 != *name));
        }
        assert_eq!(Tunnel::parse("GRE"), None);
        assert!(udp_ports().map(|(port, _)| port).eq(crate::model::TUNNEL_PORTS));
        assert!(udp_ports().all(|(_, tunnel)| TUNNELS.iter().any(|line| line.0 == tunnel)));
    }

    #[test]
    fn the_numbers_in_saved_states_never_change() {
        let names: Vec<&str> = (0..TUNNELS.len())
            .filter_map(|number| TUNNELS.iter().find(|line| line.0 as usize == number))
            .map(|line| line.1)
            .collect();
        // New kinds are added at the end.
        let expected = [
            "ip-in-ip",
            "gre",
            "nvgre",
            "erspan",
            "vxlan",
            "vxlan-gpe",
            "geneve",
            "gtp-u",
            "etherip",
            "mpls-in-ip",
            "tzsp",
            "capwap",
            "teredo",
            "ayiya",
            "pim-register",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_packet_in_a_tunnel_is_seen_with_the_ends_of_the_tunnel() {
        let seen = read(&vxlan(&inner()));
        assert_eq!(ports(&seen), Some((1, 2)));
        assert!(seen.path.is_inside());
        assert_eq!(seen.undecoded_tunnel, None);
        let tag = seen.link.tags().next().expect("a tag");
        assert_eq!((tag.kind, tag.id), (EncapTagKind::Tunnel(Tunnel::Vxlan), Some(9)));
        let ends = seen.link.outer().next().expect("the ends");
        // The source port of VXLAN has no meaning (RFC 7348, 5).
        assert_eq!((ends.src, ends.dst, ends.sport, ends.port), (SRC, DST, 0, 4789));
    }

    #[test]
    fn the_source_port_of_gre_in_udp_belongs_to_its_sender() {
        let gre = [&[0, 0, 0x08, 0x00][..], &inner()].concat();
        let seen = read(&ipv4(17, &udp(50_000, 4754, &gre)));
        let ends = seen.link.outer().next().expect("the ends");
        assert_eq!((ends.sport, ends.port, ends.transport), (50_000, 4754, Transport::UDP));
    }

    #[test]
    fn each_ip_protocol_enters_its_tunnel() {
        let inner = inner();
        let six = ipv6(17, &udp(1, 2, &[]));
        let frame = ethernet(0x0800, &inner);
        let cases = [
            (4, inner.clone(), Tunnel::IpInIp),
            (41, six, Tunnel::IpInIp),
            (47, [&[0, 0, 0x08, 0x00][..], &inner].concat(), Tunnel::Gre),
            (97, [&[0x30, 0][..], &frame].concat(), Tunnel::EtherIp),
            (103, [&[0x21, 0, 0, 0, 0, 0, 0, 0][..], &inner].concat(), Tunnel::Pim),
            (137, [&[0, 1, 1, 64][..], &inner].concat(), Tunnel::MplsInIp),
        ];
        for (protocol, payload, tunnel) in cases {
            let seen = read(&ipv4(protocol, &payload));
            assert_eq!(ports(&seen), Some((1, 2)), "{tunnel:?}");
            let kind = seen.link.tags().next().map(|tag| tag.kind);
            assert_eq!(kind, Some(EncapTagKind::Tunnel(tunnel)));
            // If the header of the tunnel is truncated, the packet is part of the outer flow.
            let seen = read(&ipv4(protocol, &payload[..1]));
            assert_eq!(flow(&seen).map(|(tuple, _)| tuple.src), Some(SRC), "{tunnel:?}");
            // A PIM message without a packet is not a tunnel.
            let expected = Some(tunnel).filter(|tunnel| *tunnel != Tunnel::Pim);
            assert_eq!(seen.undecoded_tunnel, expected, "{tunnel:?}");
        }
    }

    #[test]
    fn a_tunnel_whose_content_is_damaged_is_seen_from_outside() {
        let mut damaged = inner();
        damaged[0] = 0x41;
        let seen = read(&vxlan(&damaged));
        assert_eq!(ports(&seen), Some((50_000, 4789)));
        assert_eq!(seen.undecoded_tunnel, Some(Tunnel::Vxlan));
        assert!(!seen.path.is_inside());
        assert_eq!((seen.link.tags().count(), seen.link.outer().count()), (0, 0));
    }

    #[test]
    fn a_truncated_tunnel_never_shows_more_than_was_captured() {
        let bytes = vxlan(&inner());
        // The headers of IP, UDP, VXLAN and Ethernet. The inner IP header follows with 20 bytes,
        // and then the inner ports.
        let header = 20 + 8 + 8 + 14;
        for kept in 24..=bytes.len() {
            let seen = frame(101, &bytes, kept).expect("an outer packet");
            let is_inside = kept >= header + 20;
            assert_eq!(seen.path.is_inside(), is_inside, "{kept} bytes");
            let expected = match kept {
                _ if !is_inside => Some((50_000, 4789)),
                _ if kept >= header + 24 => Some((1, 2)),
                _ => None,
            };
            assert_eq!(ports(&seen), expected, "{kept} bytes");
            let payload = seen.payload(&bytes[..kept]);
            assert_eq!(payload.len(), seen.payload_kept as usize, "{kept} bytes");
        }
    }

    #[test]
    fn a_datagram_on_the_port_of_a_tunnel_may_be_something_else() {
        let seen = read(&ipv4(17, &udp(50_000, 4789, &[0; 40])));
        assert_eq!(ports(&seen), Some((50_000, 4789)));
        // Any protocol may use this port, so the datagram does not count as an undecoded tunnel.
        assert_eq!(seen.undecoded_tunnel, None);
        let sealed = [1, 0, 0, 0, 22, 0xfe, 0xfd, 0, 0];
        let seen = read(&ipv4(17, &udp(50_000, 5247, &sealed)));
        assert_eq!(seen.undecoded_tunnel, Some(Tunnel::Capwap));
        let seen = read(&ipv4(17, &udp(50_000, 5247, &[1, 0, 0, 0, 9])));
        assert_eq!(seen.undecoded_tunnel, None);
    }

    #[test]
    fn a_keepalive_of_gre_is_no_packet_of_the_peer() {
        let mut answer = ipv4(47, &[0; 4]);
        answer[12..20].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
        let seen = read(&ipv4(47, &[&[0, 0, 0x08, 0x00][..], &answer].concat()));
        assert_eq!(flow(&seen).map(|(tuple, _)| tuple.src), Some(SRC));
        assert_eq!((seen.path.is_inside(), seen.undecoded_tunnel), (false, None));
    }

    #[test]
    fn a_declaration_holds_for_its_kind_and_only_between_its_ends() {
        let net = |text: &str| text.parse::<IpNet>().expect("a network");
        let declare = |kind, ends: &[&str]| StatedTunnel {
            ends: ends.iter().map(|text| net(text)).collect(),
            kind,
            stated: TunnelUse::Overlay,
        };
        let used = |stated: StatedTunnel| {
            let decoder = Decoder::default().with_stated_tunnels(vec![stated]);
            let bytes = vxlan(&inner());
            let seen = decode_with(&decoder, 101, &bytes, bytes.len()).expect("a packet");
            let ends = seen.link.outer().next().expect("the ends");
            (ends.stated, seen.path.is_inside())
        };
        let trusted = (TunnelUse::Overlay, false);
        let unknown = (TunnelUse::Unstated, true);
        assert_eq!(used(declare(Tunnel::Vxlan, &["10.0.0.0/24"])), trusted);
        assert_eq!(used(declare(Tunnel::Vxlan, &["10.0.0.1/32", "10.0.0.2/32"])), trusted);
        assert_eq!(used(declare(Tunnel::Vxlan, &["10.0.0.1/32"])), unknown);
        assert_eq!(used(declare(Tunnel::Vxlan, &["10.0.0.2/32"])), unknown);
        assert_eq!(used(declare(Tunnel::Gre, &["10.0.0.0/24"])), unknown);
    }
}
