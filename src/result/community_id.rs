//! Computes the Community ID, version 1: a flow identifier that many tools share
//! (github.com/corelight/community-id-spec).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::model::{Endpoint, Transport};

/// Whether packets of a five-tuple can go both ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Directionality {
    /// Both directions have the same Community ID.
    TwoWay,
    /// The order of the ends matters. The specification requires this for ICMP messages that have
    /// no reply.
    OneWay,
}

/// Returns the Community ID of a five-tuple. The ports of an ICMP message are its type and, as the
/// specification defines, the type of the reply or the code.
pub fn community_id(
    seed: u16,
    source: Endpoint,
    destination: Endpoint,
    transport: Transport,
    directionality: Directionality,
) -> String {
    let keeps_order = directionality == Directionality::OneWay;
    let (a, b) = if keeps_order || source <= destination {
        (source, destination)
    } else {
        (destination, source)
    };
    let mut hasher = Sha1::new();
    hasher.update(seed.to_be_bytes());
    for address in [a.addr, b.addr] {
        match address {
            IpAddr::V4(v4) => hasher.update(v4.octets()),
            IpAddr::V6(v6) => hasher.update(v6.octets()),
        }
    }
    hasher.update([transport.0, 0]);
    if transport.has_ports() || transport.is_icmp() {
        hasher.update(a.port.to_be_bytes());
        hasher.update(b.port.to_be_bytes());
    }
    format!("1:{}", STANDARD.encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use Directionality::{OneWay, TwoWay};

    fn id(
        source: (&str, u16),
        destination: (&str, u16),
        transport: u8,
        directionality: Directionality,
    ) -> String {
        let end = |(addr, port): (&str, u16)| Endpoint::new(addr.parse().unwrap(), port);
        community_id(0, end(source), end(destination), Transport(transport), directionality)
    }

    /// Checks the values that the specification publishes in its baseline folder.
    #[test]
    fn published_baseline() {
        let tcp = ("128.232.110.120", 34855);
        assert_eq!(id(tcp, ("66.35.250.204", 80), 6, TwoWay), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        assert_eq!(id(("66.35.250.204", 80), tcp, 6, TwoWay), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        let dns = ("192.168.1.52", 54585);
        assert_eq!(id(dns, ("8.8.8.8", 53), 17, TwoWay), "1:d/FP5EW3wiY1vCndhwleRRKHowQ=");
        let ping = ("192.168.0.89", 8);
        assert_eq!(id(ping, ("192.168.0.1", 0), 1, TwoWay), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=");
        let sctp = ("192.168.170.8", 7);
        assert_eq!(id(sctp, ("192.168.170.56", 7), 132, TwoWay), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=");
        let solicit = ("fe80::200:86ff:fe05:80da", 135);
        let advertise = ("fe80::260:97ff:fe07:69ea", 136);
        assert_eq!(id(solicit, advertise, 58, TwoWay), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=");
        let alone = ("192.168.0.89", 20);
        assert_eq!(id(alone, ("192.168.0.1", 1), 1, OneWay), "1:tz/fHIDUHs19NkixVVoOZywde+I=");
    }
}
