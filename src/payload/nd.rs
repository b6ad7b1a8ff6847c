//! Reads IPv6 neighbour discovery messages (RFC 4861), which claim a hardware address for an IP
//! address.

use std::net::{IpAddr, Ipv6Addr};

use crate::decode::FiveTuple;
use crate::model::Mac;

/// The ICMPv6 types of neighbour solicitations and advertisements.
const SOLICITATION: u16 = 135;
const ADVERTISEMENT: u16 = 136;
/// The override flag of an advertisement: the advertised hardware address replaces a cached one
/// (4.4).
const OVERRIDE: u8 = 0x20;
/// The options that contain the hardware address of the sender and of the target (4.6.1).
const SOURCE: u8 = 1;
const TARGET: u8 = 2;

/// Returns the address claim in a message. `ttl` is the hop limit. A message that has passed a
/// router is forged and is ignored (7.1).
pub(super) fn read(tuple: &FiveTuple, ttl: u8, payload: &[u8]) -> Option<(IpAddr, Mac)> {
    if ttl != 255 {
        return None;
    }
    let (flags, after_flags) = payload.split_first_chunk::<4>()?;
    let (target, mut options) = after_flags.split_first_chunk::<16>()?;
    let target = Ipv6Addr::from(*target);
    let overrides = flags[0] & OVERRIDE != 0;
    let (address, wanted) = match tuple.sport {
        // An advertisement without the override flag is for an anycast address or is sent by a
        // proxy (4.4), so it is ignored.
        ADVERTISEMENT if overrides && !target.is_multicast() => (IpAddr::from(target), TARGET),
        // A host that checks whether an address is in use does not have that address yet, so its
        // solicitation claims nothing.
        SOLICITATION if !tuple.src.is_unspecified() => (tuple.src, SOURCE),
        _ => return None,
    };
    // The length of an option is in units of eight bytes. An option with an Ethernet address has a
    // length of one.
    while let &[kind, length, ref value @ ..] = options {
        if let (true, 1, Some(mac)) = (kind == wanted, length, value.first_chunk::<6>()) {
            return Some((address, Mac(*mac)));
        }
        if length == 0 {
            return None;
        }
        options = options.get(usize::from(length) * 8..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    #[test]
    fn solicitations_and_advertisements_claim_addresses() {
        let tuple = |src: &str, kind| FiveTuple {
            src: src.parse().unwrap(),
            dst: "ff02::1".parse().unwrap(),
            sport: kind,
            dport: 0,
            transport: Transport::ICMP6,
        };
        let target: Ipv6Addr = "fd00::5".parse().unwrap();
        let body = |options: &[u8]| [&[OVERRIDE, 0, 0, 0][..], &target.octets(), options].concat();
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let own = body(&[TARGET, 1, 2, 0, 0, 0, 0, 7]);
        let advertised = tuple("fe80::1", ADVERTISEMENT);
        assert_eq!(read(&advertised, 255, &own), Some((target.into(), mac)));
        assert_eq!(read(&advertised, 254, &own), None);
        let mut unset = own.clone();
        unset[0] = 0;
        assert_eq!(read(&advertised, 255, &unset), None);
        // An option is found after an unknown one. Truncated options, and an option of length zero,
        // which would never end, are rejected.
        let behind = body(&[14, 1, 0, 0, 0, 0, 0, 0, TARGET, 1, 2, 0, 0, 0, 0, 7]);
        assert_eq!(read(&advertised, 255, &behind), Some((target.into(), mac)));
        for end in 0..own.len() {
            assert_eq!(read(&advertised, 255, &own[..end]), None);
        }
        assert_eq!(read(&advertised, 255, &body(&[14, 0, 1, 1, 1, 1, 1, 1])), None);
        // A solicitation claims the sender's own address.
        let asked = body(&[SOURCE, 1, 2, 0, 0, 0, 0, 7]);
        let source = ("fd00::9".parse::<IpAddr>().unwrap(), mac);
        assert_eq!(read(&tuple("fd00::9", SOLICITATION), 255, &asked), Some(source));
        assert_eq!(read(&tuple("::", SOLICITATION), 255, &asked), None);
        assert_eq!(read(&tuple("fd00::9", SOLICITATION), 255, &own), None);
    }
}
