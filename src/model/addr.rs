//! Transports, endpoints and hardware addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The assigned number of the protocol above IP (IANA "Protocol Numbers").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Transport(pub u8);

impl Transport {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: Self = Self(1);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// ICMPv6 (RFC 4443).
    pub const ICMP6: Self = Self(58);
    /// SCTP (RFC 9260).
    pub const SCTP: Self = Self(132);

    /// Returns whether the protocol has port numbers that rasaudit reads.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP)
    }

    /// Returns whether this is ICMP or ICMPv6.
    pub fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMP6)
    }

    /// Parses a transport as [`fmt::Display`] writes it.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "tcp" => Self::TCP,
            "udp" => Self::UDP,
            "sctp" => Self::SCTP,
            "icmp" => Self::ICMP,
            "icmp6" => Self::ICMP6,
            other => Self(other.strip_prefix("ip-")?.parse().ok()?),
        })
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self::SCTP => f.write_str("sctp"),
            Self::ICMP => f.write_str("icmp"),
            Self::ICMP6 => f.write_str("icmp6"),
            Self(number) => write!(f, "ip-{number}"),
        }
    }
}

/// The DNS port (RFC 1035).
pub const DNS_PORT: u16 = 53;

/// The UDP ports at which `payload` recognizes requests only by the port: Kerberos, NTP, the
/// NetBIOS name service, QUIC and multicast DNS (IANA). DNS is recognized during decoding.
pub const REQUEST_PORTS: [u16; 5] = [KERBEROS_PORT, 123, 137, 443, 5353];

/// The UDP ports of the tunnels that `decode` reads.
pub const TUNNEL_PORTS: [u16; 11] =
    [4789, 8472, 4790, 6081, 2152, 6635, 37008, 4754, 5247, 3544, 5072];

/// The Kerberos port (RFC 4120).
pub const KERBEROS_PORT: u16 = 88;

/// The lowest port that operating systems assign to clients. This is the default of Linux. The
/// range in RFC 6335 starts at 49152.
pub const EPHEMERAL_PORTS: u16 = 32_768;

/// An address and a port. The port is zero for protocols without ports. For ICMP, it is a message
/// type or code (see `decode::icmp_ports`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Endpoint {
    /// The IP address.
    pub addr: IpAddr,
    /// The port number. For ICMP, a message type or code; for protocols without ports, zero.
    pub port: u16,
}

impl Endpoint {
    /// Creates an endpoint from an address and a port.
    pub fn new(addr: IpAddr, port: u16) -> Self {
        Self { addr, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            IpAddr::V4(v4) => write!(f, "{v4}:{}", self.port),
            IpAddr::V6(v6) => write!(f, "[{v6}]:{}", self.port),
        }
    }
}

/// Returns the first address of the /24 or /64 that contains an address.
pub fn network_around(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) & 0xffff_ff00).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !u128::from(u64::MAX)).into(),
    }
}

/// Returns the first address of the /16 or /48 that contains an address. A site usually gets at
/// least a /48 of IPv6 addresses (RFC 6177).
pub fn site_around(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) & 0xffff_0000).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & (u128::MAX << 80)).into(),
    }
}

/// Returns whether a cloud platform uses an address for its own services, such as health probes,
/// which reach only the virtual networks of its customers: 168.63.129.16 of Azure, and
/// 35.191.0.0/16 and 130.211.0.0/22 of Google Cloud.
pub fn is_of_platform(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            matches!(v4.octets(), [168, 63, 129, 16] | [35, 191, _, _] | [130, 211, 0..=3, _])
        }
        IpAddr::V6(_) => false,
    }
}

/// Returns whether an address is link-local (RFC 3927, RFC 4291). Packets with such an address
/// never cross a router, so their frames show the hardware address of the host itself.
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// A hardware (IEEE 802) address. The default is [`Mac::NONE`].
#[derive(
    Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The broadcast address.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// The all-zero address, which is used if there is no hardware address.
    pub const NONE: Self = Self([0; 6]);

    /// Returns whether several routers or servers may share the address, in turn or at the same
    /// time, as with VRRP (RFC 9568, 7.3), Cisco HSRP and GLBP, and Microsoft Network Load
    /// Balancing, or with the virtual networks of Microsoft Azure, which answer all ARP requests.
    pub fn is_shared(self) -> bool {
        matches!(
            self.0,
            [0x00, 0x00, 0x5e, 0x00, 0x01 | 0x02, _]
                | [0x00, 0x00, 0x0c, 0x07, 0xac, _]
                | [0x00, 0x00, 0x0c, 0x9f, 0xf0..=0xff, _]
                | [0x00, 0x05, 0x73, 0xa0, 0x00..=0x0f, _]
                | [0x00, 0x07, 0xb4, ..]
                | [0x02 | 0x03, 0xbf, ..]
                | [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc]
        )
    }

    /// Returns the modified EUI-64 interface identifier that IPv6 may form from this address (RFC
    /// 4291, appendix A).
    pub fn eui64(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [a ^ 2, b, c, 0xff, 0xfe, d, e, f]
    }

    /// Parses an address such as `aa:bb:cc:dd:ee:ff`, with colons or dashes between the bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2)?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// Returns a service as text, for example `TCP 443`, `ICMP type 3` or `IP protocol 112`.
pub fn service_words(transport: Transport, port: &str) -> String {
    match transport {
        t if t.is_icmp() => format!("{} type {port}", t.to_string().to_uppercase()),
        t if t.has_ports() => format!("{} {port}", t.to_string().to_uppercase()),
        t => format!("IP protocol {}", t.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_read_what_they_write() {
        for number in 0..=255 {
            let transport = Transport(number);
            assert_eq!(Transport::parse(&transport.to_string()), Some(transport));
        }
        assert_eq!(Transport::parse("ip-256"), None);
        assert_eq!(Transport::parse("quic"), None);
    }

    #[test]
    fn macs_read_both_separators_and_nothing_else() {
        let mac = Mac([0, 0x15, 0x5d, 0x10, 0, 7]);
        assert_eq!(Mac::parse("00:15:5d:10:00:07"), Some(mac));
        assert_eq!(Mac::parse("00-15-5D-10-00-07"), Some(mac));
        for wrong in
            ["", "00:15:5d:10:00", "00:15:5d:10:00:07:01", "0:15:5d:10:00:07", "+0:15:5d:10:00:07x"]
        {
            assert_eq!(Mac::parse(wrong), None, "{wrong}");
        }
    }
}
