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

/// A kind of tunnel.
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
    (Tunnel::Nvgre, "nvgre", "GRE with Ethernet and a key", "RFC 7637", "0.1"),
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

/// The UDP destination ports on which tunnels are expected. IANA assigned them to these protocols,
/// except 8472, the first VXLAN port of Linux, and the port of TZSP.
pub(super) const PORTS: &[(u16, Tunnel)] = &[
    (4789, Tunnel::Vxlan),
    (8472, Tunnel::Vxlan),
    (4790, Tunnel::VxlanGpe),
    (6081, Tunnel::Geneve),
    (2152, Tunnel::Gtp),
    (6635, Tunnel::MplsInIp),
    (37008, Tunnel::Tzsp),
    (4754, Tunnel::Gre),
    (5247, Tunnel::Capwap),
    (3544, Tunnel::Teredo),
    (5072, Tunnel::Ayiya),
];

/// The user's declaration about the tunnels between some addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatedTunnel {
    /// Networks that contain both ends of such a tunnel.
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

/// A decoded tunnel header: the kind of the tunnel, its key, network or session, and its content.
struct TunnelHeader<'p> {
    tunnel: Tunnel,
    id: Option<u32>,
    next: Next<'p>,
}

/// Enters the tunnel that an IP packet carries, if its header can be read. Otherwise the packet is
/// part of an ordinary flow.
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
    match tunnel {
        Tunnel::Vxlan => vxlan::plain(payload),
        Tunnel::VxlanGpe => vxlan::generic(payload),
        Tunnel::Geneve => vxlan::geneve(payload),
        Tunnel::Gtp => gtp::decode(payload),
        Tunnel::MplsInIp => self::ip::mpls(payload),
        Tunnel::Tzsp => tzsp::decode(payload),
        Tunnel::Gre => gre::decode(payload),
        Tunnel::Capwap => capwap::decode(payload),
        Tunnel::Teredo => v6::teredo(payload),
        Tunnel::Ayiya => v6::ayiya(payload),
        Tunnel::IpInIp | Tunnel::Nvgre | Tunnel::Erspan | Tunnel::EtherIp | Tunnel::Pim => None,
    }
}
