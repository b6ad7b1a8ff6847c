//! Fuzzes payloads: DNS, TLS, HTTP, RPC, VRRP, neighbour discovery. The first byte chooses the
//! packet that carries the payload. The second byte chooses where the payload is split into two
//! parts of a TCP stream. The merge of the parts must yield the same name in both orders.
#![no_main]

use std::net::{IpAddr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use rasaudit::decode::{Body, Encapsulation, FiveTuple, Observation, flag};
use rasaudit::model::{Merge, Transport};
use rasaudit::payload::{StreamPrefix, read};

fuzz_target!(|bytes: &[u8]| {
    let &[how, cut, ref payload @ ..] = bytes else { return };
    let address = |last| IpAddr::from([10, 0, 0, last]);
    let (transport, sport, dport, flags) = match how % 8 {
        0 => (Transport::UDP, 53, 40_000, 0),
        1 => (Transport::UDP, 40_000, 53, 0),
        2 => (Transport::TCP, 53, 40_000, 0),
        3 => (Transport::TCP, 135, 40_000, 0),
        4 => (Transport(112), 0, 0, 0),
        5 => (Transport::TCP, 40_000, 443, flag::CLIENT_HELLO),
        6 => (Transport::TCP, 40_000, 80, 0),
        _ => (Transport::ICMP6, 135 + u16::from(how >> 7), 0, 0),
    };
    let dst = if transport == Transport(112) { IpAddr::from([224, 0, 0, 18]) } else { address(2) };
    let src = if transport == Transport::ICMP6 { Ipv6Addr::LOCALHOST.into() } else { address(1) };
    let tuple = FiveTuple { src, dst, sport, dport, transport };
    let body = Body::Transport { tuple, flags, payload: 0, seq: 1, acked: Some(1), fragment: None };
    // Neighbour discovery is accepted only with a hop limit of 255, which no router leaves
    // unchanged.
    let mut link = Encapsulation::default();
    link.ttl = 255;
    let seen = Observation { body, link, ..Observation::default() };
    assert_eq!(read(&seen, payload), read(&seen, payload));
    let at = usize::from(cut) * payload.len() / 256;
    let piece = |from: usize, part: &[u8]| {
        let mut pieces = StreamPrefix::default();
        pieces.see(from as i64, from as u32, part);
        pieces
    };
    let front = piece(0, &payload[..at]);
    let back = piece(at, &payload[at..]);
    let mut forth = front.clone();
    let mut turned = back.clone();
    forth.merge(&back);
    turned.merge(&front);
    assert_eq!(forth, turned);
    forth.merge(&turned);
    assert_eq!(forth, turned);
    assert_eq!(forth.server_name(0), turned.server_name(0));
});
