//! Blocks of addresses with a special meaning (IANA special-purpose address registries).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Returns the IPv4 address that a translator or a tunnel embedded in an IPv6 address, or the
/// address itself if it contains none: IPv4-mapped and IPv4-compatible addresses (RFC 4291,
/// 2.5.5), those of stateless translation and of NAT64 (RFC 2765, 2.1; RFC 6052, 2.1), and 6to4
/// (RFC 3056, 2).
pub(super) fn without_translation(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let segments = v6.segments();
    let [high, low] = match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => [high, low],
        // `::` and `::1` are not IPv4-compatible addresses.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => [high, low],
        _ => return address,
    };
    let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
    Ipv4Addr::new(a, b, c, d).into()
}

/// Returns whether an address is outside the usual internal prefixes but is not used on the
/// internet, so that only a host of the site can have it. Addresses for documentation do not count,
/// because they stand for public ones.
pub(super) fn is_unroutable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_unroutable_v4(v4),
        IpAddr::V6(v6) => is_unroutable_v6(v6),
    }
}

fn is_unroutable_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        // "This network" (RFC 791, 3.2), and reserved addresses (RFC 1112, 4).
        [0 | 240..=255, ..] => true,
        // IETF protocol assignments, for example DS-Lite (RFC 6890, 2.2.2).
        [192, 0, 0, _] => true,
        // Benchmarks (RFC 2544, appendix C.2.2).
        [198, 18 | 19, ..] => true,
        _ => false,
    }
}

fn is_unroutable_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // Local translation (RFC 8215), and addresses that are discarded (RFC 6666).
        [0x64, 0xff9b, 1, ..] | [0x100, 0, 0, 0, ..] => true,
        // Benchmarks (RFC 5180, 8), and segment identifiers of SRv6 (RFC 9602).
        [0x2001, 2, 0, ..] | [0x5f00, ..] => true,
        // Site-local addresses, which are obsolete (RFC 3879).
        [first, ..] => first & 0xffc0 == 0xfec0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_embedded_address_is_found_in_every_form() {
        for text in [
            "::ffff:10.1.2.3",
            "::ffff:0:10.1.2.3",
            "::10.1.2.3",
            "64:ff9b::10.1.2.3",
            "2002:0a01:0203::5",
            "10.1.2.3",
        ] {
            assert_eq!(without_translation(address(text)), address("10.1.2.3"), "{text}");
        }
        for text in ["::", "::1", "64:ff9b:1::10.1.2.3", "2001:db8::a01:203"] {
            assert_eq!(without_translation(address(text)), address(text));
        }
    }

    #[test]
    fn addresses_that_the_internet_does_not_use_are_unroutable() {
        for text in
            ["0.1.2.3", "192.0.0.4", "198.18.0.1", "198.19.255.1", "240.0.0.9", "255.255.255.255"]
        {
            assert!(is_unroutable(address(text)), "{text}");
        }
        for text in ["64:ff9b:1::5", "100::1", "2001:2::1", "5f00::1", "fec0::1", "feff::1"] {
            assert!(is_unroutable(address(text)), "{text}");
        }
        for text in [
            "192.0.2.1",
            "198.20.0.1",
            "203.0.113.5",
            "8.8.8.8",
            "2001:db8::1",
            "2600::1",
            "100:1::",
        ] {
            assert!(!is_unroutable(address(text)), "{text}");
        }
    }
}
