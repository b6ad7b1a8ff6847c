//! Reads VRRP advertisements (RFC 3768, RFC 9568), in which the active router lists its virtual
//! addresses. CARP uses the same protocol number and looks like version 2, but has a different
//! length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::decode::FiveTuple;
use crate::model::Transport;

/// The IP protocol number of VRRP.
pub(super) const PROTOCOL: Transport = Transport(112);

/// Returns the virtual addresses of a VRRP advertisement; `None` if it is not one, is truncated, or
/// announces that the router resigns.
pub(super) fn read(tuple: &FiveTuple, payload: &[u8]) -> Option<Vec<IpAddr>> {
    let &[version @ (0x21 | 0x31), _, priority, count, _, _, _, _, ref addresses @ ..] = payload
    else {
        return None;
    };
    // A router that resigns sends a priority of zero, so it no longer has the addresses.
    if priority == 0 || !tuple.dst.is_multicast() {
        return None;
    }
    let count = usize::from(count);
    // Version 2 ends with eight bytes of authentication data, version 3 with the addresses.
    let size = if tuple.src.is_ipv4() { 4 } else { 16 };
    let end = if version == 0x21 { 8 } else { 0 };
    if addresses.len() != count * size + end {
        return None;
    }
    let v4 = addresses.as_chunks::<4>().0;
    let v6 = addresses.as_chunks::<16>().0;
    let all: Vec<IpAddr> = match tuple.src {
        IpAddr::V4(_) => v4.iter().take(count).map(|b| Ipv4Addr::from(*b).into()).collect(),
        IpAddr::V6(_) => v6.iter().take(count).map(|b| Ipv6Addr::from(*b).into()).collect(),
    };
    (count > 0 && all.len() == count).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_names_its_addresses() {
        let tuple = |src: &str, dst: &str| FiveTuple {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            sport: 0,
            dport: 0,
            transport: PROTOCOL,
        };
        // Version 2 with authentication data at the end, as keepalived sends it.
        let bytes = [0x21, 51, 150, 1, 0, 1, 0x3e, 0x23, 10, 67, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0];
        let v4 = tuple("10.67.0.1", "224.0.0.18");
        assert_eq!(read(&v4, &bytes), Some(vec!["10.67.0.100".parse().unwrap()]));
        for end in 0..20 {
            assert_eq!(read(&v4, &bytes[..end]), None);
        }
        // CARP: version 2, seven words of authentication, and no addresses.
        let mut carp = [0; 36];
        carp[..8].copy_from_slice(&[0x21, 1, 0, 7, 0, 1, 0x3e, 0x23]);
        carp[2] = 100;
        assert_eq!(read(&v4, &carp), None);
        let mut leaves = bytes;
        leaves[2] = 0;
        assert_eq!(read(&v4, &leaves), None);
        assert_eq!(read(&tuple("10.67.0.1", "10.67.0.2"), &bytes), None);
        let mut v3 = vec![0x31, 52, 150, 1, 0, 100, 0, 0];
        v3.extend("fd67::100".parse::<Ipv6Addr>().unwrap().octets());
        let v6 = tuple("fe80::1", "ff02::12");
        assert_eq!(read(&v6, &v3), Some(vec!["fd67::100".parse().unwrap()]));
    }
}
