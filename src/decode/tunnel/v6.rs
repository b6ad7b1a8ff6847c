//! Tunnels for IPv6 hosts behind IPv4: Teredo (RFC 4380) and AYIYA (draft-massar-v6ops-ayiya).

use super::{Next, Packet, Tunnel, TunnelHeader};

/// Length of an IPv6 header in bytes.
const HEADER: usize = 40;

/// Decodes Teredo. An authentication header and an origin indication may precede the packet, and
/// trailers may follow it.
pub(super) fn teredo(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    const AUTHENTICATION: u16 = 1;
    const ORIGIN: u16 = 0;
    let mut inner = packet;
    if inner.u16(0)? == AUTHENTICATION {
        let &[_, _, client, value, ..] = inner.bytes else { return None };
        inner = inner.after(13 + usize::from(client) + usize::from(value))?;
    }
    if inner.u16(0)? == ORIGIN {
        inner = inner.after(8)?;
    }
    let length = HEADER + usize::from(inner.u16(4)?);
    let fits = inner.bytes.first()? >> 4 == 6 && length <= inner.wire;
    let next = Next::Ip(Some(6), inner.limited(length));
    fits.then_some(TunnelHeader { tunnel: Tunnel::Teredo, id: None, next })
}

/// Decodes AYIYA. A fixed header, an identity and a signature precede the packet. The first two
/// bytes contain the lengths of identity and signature.
pub(super) fn ayiya(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    const FORWARD: u8 = 1;
    const ECHO_AND_FORWARD: u8 = 3;
    let &[identity, signature, operation, protocol, ..] = packet.bytes else { return None };
    let length = 8 + (1usize << (identity >> 4)) + usize::from(signature >> 4) * 4;
    let version = match (operation & 0x0f, protocol) {
        (FORWARD | ECHO_AND_FORWARD, 4) => 4,
        (FORWARD | ECHO_AND_FORWARD, 41) => 6,
        _ => return None,
    };
    let inner = packet.after(length)?;
    let is_ip = inner.bytes.first()? >> 4 == version;
    let next = Next::Ip(Some(version), inner);
    is_ip.then_some(TunnelHeader { tunnel: Tunnel::Ayiya, id: None, next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::{ipv6, packet};

    /// Returns the IPv6 packet after a tunnel header.
    fn inner_of(header: Option<TunnelHeader<'_>>) -> Option<Packet<'_>> {
        match header?.next {
            Next::Ip(Some(6), inner) => Some(inner),
            _ => None,
        }
    }

    #[test]
    fn teredo_may_have_two_headers_before_the_packet() {
        let ip = ipv6(59, &[9, 9]);
        // RFC 4380, 5.1.1: indicator, lengths of client identifier and authentication value, both
        // values, nonce (8 bytes), confirmation.
        let authentication = [&[0, 1, 2, 3][..], &[5; 5], &[0; 9]].concat();
        let origin = [0; 8];
        for header in [
            Vec::new(),
            origin.to_vec(),
            authentication.clone(),
            [&authentication[..], &origin].concat(),
        ] {
            let bytes = [&header[..], &ip].concat();
            assert_eq!(inner_of(teredo(packet(&bytes))), Some(packet(&ip)), "{}", header.len());
            for kept in 0..header.len() + 6 {
                assert_eq!(teredo(packet(&bytes[..kept])), None, "{kept} bytes");
            }
        }
        // The origin indication must come last.
        let bytes = [&origin[..], &authentication, &ip].concat();
        assert_eq!(teredo(packet(&bytes)), None);
    }

    #[test]
    fn teredo_ends_with_the_packet_and_has_to_contain_all_of_it() {
        let ip = ipv6(59, &[9, 9]);
        let trailer = [&ip[..], &[1, 4, 0, 0, 0, 0]].concat();
        assert_eq!(inner_of(teredo(packet(&trailer))), Some(packet(&ip)));
        // The packet is shorter on the wire than its header declares.
        assert_eq!(teredo(packet(&ip[..ip.len() - 1])), None);
        // A packet that only the capture truncated is accepted.
        let cut = Packet { bytes: &ip[..41], wire: ip.len() };
        assert_eq!(inner_of(teredo(cut)), Some(cut));
        let mut four = ip;
        four[0] = 0x40;
        assert_eq!(teredo(packet(&four)), None);
    }

    #[test]
    fn ayiya_is_as_long_as_its_identity_and_signature() {
        // draft-massar-v6ops-ayiya, 3: length of the identity as a power of two (4 bits) and its
        // type, length of the signature in words (4 bits) and its method, operation, next header.
        let of = |identity: u8, signature: u8, operation: u8, protocol: u8, inner: u8| {
            let length = 8 + (1 << identity) + usize::from(signature) * 4;
            let mut bytes = vec![identity << 4 | 1, signature << 4 | 2, operation, protocol];
            bytes.resize(length, 0);
            bytes.push(inner);
            bytes
        };
        for (identity, signature) in [(4, 5), (0, 0), (4, 0)] {
            let bytes = of(identity, signature, 1, 41, 0x60);
            assert_eq!(inner_of(ayiya(packet(&bytes))), Some(packet(&[0x60])));
            for kept in 0..bytes.len() {
                assert_eq!(ayiya(packet(&bytes[..kept])), None, "{kept} bytes");
            }
        }
        // The upper bits of the operation are the authentication method.
        let accepted = |operation, protocol, inner| {
            ayiya(packet(&of(4, 5, operation, protocol, inner))).is_some()
        };
        assert!(accepted(0x21, 41, 0x60) && accepted(3, 41, 0x60) && accepted(1, 4, 0x45));
        assert!(!accepted(0, 41, 0x60) && !accepted(2, 41, 0x60) && !accepted(4, 41, 0x60));
        // A packet without content, and packets whose IP version is not the declared one.
        assert!(!accepted(1, 59, 0x60) && !accepted(1, 4, 0x60) && !accepted(1, 41, 0x45));
    }
}
