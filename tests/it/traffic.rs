//! Tests how TCP, fragments, ICMP errors, tunnels and duplicates appear as conversations.

use std::path::PathBuf;

use crate::support::wire::{ACK, RST, SYN, Wire};
use rasaudit::decode::{StatedTunnel, Tunnel, TunnelUse};
use rasaudit::model::SkipReason;
use rasaudit::pipeline::{Audit, Dedup, Limits, Plan, Progress, Request};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const ROUTER: &str = "10.0.0.254";
const CLIENT: (&str, u16) = (A, 50_000);
const SERVER: (&str, u16) = (B, 443);
const FIN: u8 = 1;

/// Returns traffic with a third host, which shows that the capture sees both hosts and continues
/// after the tested packets.
fn others() -> Wire {
    let mut wire = Wire::default();
    for (number, host) in [A, B].into_iter().enumerate() {
        let port = 40_000 + number as u16;
        wire.session(0, (host, port), ("10.0.0.3", 80), 20);
    }
    wire
}

fn read(files: &[Wire], plan: impl Fn(&mut Request)) -> Audit {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let captures: Vec<PathBuf> =
        (0..files.len()).map(|n| scratch.path().join(format!("{n}.pcap"))).collect();
    for (wire, path) in files.iter().zip(&captures) {
        std::fs::write(path, wire.file()).expect("the scratch folder is writable");
    }
    let mut request =
        Request { captures, jobs: Some(2), max_memory: 1 << 30, ..Request::default() };
    // These tests declare their tunnels as the site's mirrors. tests/it/threat.rs tests undeclared
    // tunnels.
    let ends = ["192.0.2.0/24", "fd00::/64"].map(|net| net.parse().expect("a network"));
    let kinds = [Tunnel::Vxlan, Tunnel::VxlanGpe, Tunnel::IpInIp];
    request.tunnels = kinds
        .map(|kind| StatedTunnel { ends: ends.to_vec(), kind, stated: TunnelUse::Mirror })
        .to_vec();
    plan(&mut request);
    let plan = Plan::new(request).expect("a plan");
    let limits = Limits::default();
    Audit::of(&plan, None, None, &limits, &Progress::default()).expect("it is read")
}

/// Returns the client, server, port, state, direction evidence, and the numbers of five-tuples,
/// SYNs and packets in each direction, of all conversations except those of `others`.
fn conversations(files: &[Wire]) -> Vec<String> {
    told(&read(files, |_| {}))
}

fn told(audit: &Audit) -> Vec<String> {
    let list = audit.outcome.conversations.list.iter();
    let mine = list.filter(|c| c.subject.server.to_string() != "10.0.0.3");
    mine.map(|c| {
        let s = c.subject;
        let there = c.to_server.packets.0;
        let back = c.to_client.packets.0;
        format!(
            "{}>{}:{} {} {} {} {} {there}/{back}",
            s.client, s.server, s.port, c.state, c.grade, c.flows, c.attempts
        )
    })
    .collect()
}

#[track_caller]
fn expect(wire: &Wire, expected: &str) {
    assert_eq!(conversations(std::slice::from_ref(wire)), [expected]);
    // The result is the same if the packets are out of order and split into two files.
    let mut turned = wire.clone();
    turned.0.reverse();
    let (front, back) = turned.0.split_at(turned.0.len() / 2);
    assert_eq!(conversations(&[Wire(back.to_vec()), Wire(front.to_vec())]), [expected]);
}

#[test]
fn a_start_in_midstream() {
    let mut wire = others();
    wire.tcp(5_000, CLIENT, SERVER, ACK, 100);
    wire.tcp(5_001, SERVER, CLIENT, ACK, 100);
    expect(&wire, "10.0.0.1>10.0.0.2:443 midstream ports 1 0 1/1");
}

#[test]
fn a_syn_sent_again_is_one_attempt_at_one_connection() {
    let mut wire = others();
    wire.tcp(5_000, CLIENT, SERVER, SYN, 0);
    wire.tcp(6_000, CLIENT, SERVER, SYN, 0);
    wire.tcp(6_001, SERVER, CLIENT, SYN | ACK, 0);
    wire.tcp(6_002, CLIENT, SERVER, ACK, 0);
    expect(&wire, "10.0.0.1>10.0.0.2:443 established handshake 1 2 3/1");
}

#[test]
fn both_open_at_once() {
    // This is figure 7 of RFC 9293. A forged SYN in the opposite direction looks the same, so the
    // direction is a guess.
    let mut wire = others();
    wire.tcp(5_000, CLIENT, SERVER, SYN, 0);
    wire.tcp(5_001, SERVER, CLIENT, SYN, 0);
    wire.tcp(5_002, CLIENT, SERVER, SYN | ACK, 0);
    wire.tcp(5_003, SERVER, CLIENT, SYN | ACK, 0);
    wire.tcp(5_004, CLIENT, SERVER, ACK, 10);
    wire.tcp(5_005, SERVER, CLIENT, ACK, 10);
    expect(&wire, "10.0.0.1>10.0.0.2:443 established ports 1 1 3/3");
}

#[test]
fn a_port_used_again() {
    // The first connection succeeds, and the second is refused. The best state and both SYNs count.
    let mut wire = others();
    wire.connect(5_000, CLIENT, SERVER);
    wire.tcp(9_000, CLIENT, SERVER, SYN, 0);
    wire.tcp(9_001, SERVER, CLIENT, RST | ACK, 0);
    expect(&wire, "10.0.0.1>10.0.0.2:443 established handshake 1 2 4/3");
}

/// The reply may have arrived when nothing was captured.
#[test]
fn a_request_just_before_an_interruption_proves_nothing() {
    let session = |from_ms: u64, seconds: u64| {
        let mut wire = Wire::default();
        for (number, host) in [A, B].into_iter().enumerate() {
            wire.session(from_ms, (host, 40_000 + number as u16), ("10.0.0.3", 80), seconds);
        }
        wire
    };
    let mut monday = session(0, 200);
    monday.tcp(199_900, CLIENT, SERVER, SYN, 0);
    let state = |files: &[Wire]| conversations(files)[0].split(' ').nth(1).map(str::to_owned);
    assert_eq!(state(std::slice::from_ref(&monday)).as_deref(), Some("one-sided"));
    let tuesday = session(7_200_000, 200);
    assert_eq!(state(&[monday.clone(), tuesday.clone()]).as_deref(), Some("one-sided"));
    let both = Wire([monday.0.clone(), tuesday.0].concat());
    assert_eq!(state(&[both]).as_deref(), Some("one-sided"));
    // A capture at another place that continues does not show the reply, either.
    assert_eq!(state(&[monday.clone(), session(0, 600)]).as_deref(), Some("one-sided"));
    // The files of one capture do not interrupt it.
    assert_eq!(state(&[monday, session(201_000, 600)]).as_deref(), Some("unanswered"));
}

#[test]
fn a_storm_of_resets() {
    let mut wire = others();
    for number in 0..50 {
        let client = (A, 50_000 + number);
        wire.tcp(5_000 + u64::from(number), client, SERVER, SYN, 0);
        wire.tcp(5_000 + u64::from(number), SERVER, client, RST | ACK, 0);
    }
    expect(&wire, "10.0.0.1>10.0.0.2:443 refused syn 50 50 50/50");
    // Unsolicited resets do not prove anything.
    let mut wire = others();
    for number in 0..50 {
        wire.tcp(5_000 + number * 2, SERVER, CLIENT, RST, 0);
    }
    expect(&wire, "10.0.0.1>10.0.0.2:443 one-sided ports 1 0 0/50");
}

#[test]
fn one_side_goes_on_after_the_other_has_ended() {
    let mut wire = others();
    wire.connect(5_000, CLIENT, SERVER);
    wire.tcp(6_000, CLIENT, SERVER, FIN | ACK, 0);
    wire.tcp(6_001, SERVER, CLIENT, ACK, 1000);
    wire.tcp(7_000, SERVER, CLIENT, FIN | ACK, 0);
    expect(&wire, "10.0.0.1>10.0.0.2:443 established handshake 1 1 4/4");
}

#[test]
fn nothing_but_keepalives() {
    // Keep-alives may contain one garbage byte (RFC 9293, 3.8.4). The peer acknowledges them.
    let mut wire = others();
    for second in 0..10 {
        wire.tcp(5_000 + second * 1000, CLIENT, SERVER, ACK, 1);
        wire.tcp(5_001 + second * 1000, SERVER, CLIENT, ACK, 0);
    }
    expect(&wire, "10.0.0.1>10.0.0.2:443 midstream ports 1 0 10/10");
}

#[test]
fn a_syn_ack_that_overtook_its_syn() {
    let mut wire = others();
    wire.tcp(5_000, SERVER, CLIENT, SYN | ACK, 0);
    wire.tcp(5_001, CLIENT, SERVER, SYN, 0);
    wire.tcp(5_002, CLIENT, SERVER, ACK, 10);
    expect(&wire, "10.0.0.1>10.0.0.2:443 established handshake 1 1 2/1");
}

/// Appends a fragment of a UDP datagram. `offset` is in bytes.
fn fragment(wire: &mut Wire, ms: u64, id: u16, offset: u16, more: bool, body: &[u8]) {
    wire.ip(ms, A, B, 17, body);
    let (_, frame) = wire.0.last_mut().expect("a frame");
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    let place = (offset / 8) | if more { 0x2000 } else { 0 };
    frame[20..22].copy_from_slice(&place.to_be_bytes());
}

fn datagram(wire: &mut Wire, ms: u64, id: u16) {
    let first = [&[0xc3, 0x50, 0x01, 0xbb, 0, 40, 0, 0][..], &[7; 8]].concat();
    fragment(wire, ms, id, 0, true, &first);
    fragment(wire, ms + 1, id, 16, true, &[8; 16]);
    // The last fragment overlaps the previous one.
    fragment(wire, ms + 2, id, 24, false, &[9; 16]);
}

#[test]
fn fragments_join_in_any_order_and_from_any_file() {
    let mut wire = others();
    datagram(&mut wire, 5_000, 1);
    datagram(&mut wire, 5_100, 2);
    expect(&wire, "10.0.0.1>10.0.0.2:443 one-way ports 1 0 6/0");
}

#[test]
fn fragments_without_their_first_are_counted_by_their_pair() {
    let mut wire = others();
    datagram(&mut wire, 5_000, 1);
    let first = wire.0.len() - 3;
    wire.0.remove(first);
    let audit = read(&[wire], |_| {});
    assert_eq!(told(&audit), Vec::<String>::new());
    let pairs: Vec<_> = audit.reading.flows.side.orphans().collect();
    let [(pair, packets)] = pairs[..] else { panic!("{pairs:?}") };
    let ends = (pair.src.to_string(), pair.dst.to_string());
    assert_eq!((ends, pair.transport.0, packets), ((A.into(), B.into()), 17, 2));
    let mut json = Vec::new();
    audit.write_json(&mut json).expect("in memory");
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    let told = serde_json::json!({"later": 2, "orphaned": 2, "orphans": [
        {"source": A, "destination": B, "transport": "udp", "packets": 2},
    ]});
    assert_eq!(json["accounting"]["fragments"], told);
}

/// Appends an ICMP error from the router that quotes the IP packet `quoted`.
fn error(wire: &mut Wire, ms: u64, kind: u8, code: u8, quoted: &[u8]) {
    wire.ip(ms, ROUTER, A, 1, &[&[kind, code, 0, 0, 0, 0, 0, 0], quoted].concat());
}

#[test]
fn an_error_about_a_fragment_belongs_to_the_flow_of_its_datagram() {
    let mut wire = others();
    datagram(&mut wire, 5_000, 1);
    let later = wire.0.last().expect("a frame").1[14..].to_vec();
    error(&mut wire, 5_010, 3, 13, &later);
    expect(&wire, "10.0.0.1>10.0.0.2:443 rejected protocol 1 0 3/0");
}

/// Returns the frame in a VXLAN packet between two other hosts, without an Ethernet header.
fn in_vxlan(frame: &[u8], id: u16) -> Vec<u8> {
    let body = [
        &[0xc0, 0, 0x12, 0xb5][..],
        &(16 + frame.len() as u16).to_be_bytes(),
        &[0, 0, 8, 0, 0, 0, 0, 0, 100, 0],
        frame,
    ]
    .concat();
    let mut wire = Wire::default();
    wire.ip(0, "192.0.2.1", "192.0.2.2", 17, &body);
    let mut packet = wire.0[0].1[14..].to_vec();
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet
}

#[test]
fn an_error_about_a_tunnel_belongs_to_the_flow_in_it() {
    let mut wire = others();
    wire.tcp(5_000, CLIENT, SERVER, SYN, 0);
    let (_, inner) = wire.0.pop().expect("a frame");
    let outer = in_vxlan(&inner, 9);
    wire.0.push((5_000, [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0][..], &outer].concat()));
    error(&mut wire, 5_010, 3, 1, &outer);
    expect(&wire, "10.0.0.1>10.0.0.2:443 rejected syn 1 1 1/0");
    let audit = read(std::slice::from_ref(&wire), |_| {});
    let found = audit.outcome.conversations.list.iter().find(|c| c.subject.port == 443);
    let rare = found.expect("the conversation").rare();
    let outer: Vec<_> = rare.outer.iter().map(|o| format!("{}>{}", o.src, o.dst)).collect();
    assert_eq!(outer, ["192.0.2.1>192.0.2.2"]);
    // Without decapsulation, only the conversation between the tunnel endpoints is shown.
    let plain = read(&[wire], |request| request.no_decap = true);
    assert_eq!(told(&plain), ["192.0.2.1>192.0.2.2:4789 rejected protocol 1 0 1/0"]);
}

#[test]
fn nobody_but_the_server_refuses() {
    // A firewall on the path and the endpoint of a tunnel may also report "port unreachable". Such
    // a report is not a refusal by the server.
    let mut wire = others();
    wire.tcp(5_000, CLIENT, SERVER, SYN, 0);
    let (_, inner) = wire.0.last().expect("a frame").clone();
    error(&mut wire, 5_010, 3, 3, &inner[14..]);
    expect(&wire, "10.0.0.1>10.0.0.2:443 rejected syn 1 1 1/0");
    // A closed TCP port sends a reset, so a server that reports this about a SYN has a filter.
    wire.ip(5_020, B, A, 1, &[&[3, 3, 0, 0, 0, 0, 0, 0], &inner[14..]].concat());
    expect(&wire, "10.0.0.1>10.0.0.2:443 rejected syn 1 1 1/0");
    let mut wire = others();
    wire.udp(5_000, (A, 50_000), (B, 1812));
    let datagram = wire.0.last().expect("a frame").1[14..].to_vec();
    wire.ip(5_020, B, A, 1, &[&[3, 3, 0, 0, 0, 0, 0, 0], &datagram[..]].concat());
    expect(&wire, "10.0.0.1>10.0.0.2:1812 refused protocol 1 0 1/0");
    let mut wire = others();
    let outer = in_vxlan(&inner, 9);
    wire.0.push((5_000, [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0][..], &outer].concat()));
    wire.ip(5_010, "192.0.2.2", "192.0.2.1", 1, &[&[3, 3, 0, 0, 0, 0, 0, 0], &outer[..]].concat());
    expect(&wire, "10.0.0.1>10.0.0.2:443 rejected syn 1 1 1/0");
}

#[test]
fn what_only_comes_to_the_port_of_a_tunnel_is_none() {
    // The source port of the DNS client equals the port of a tunnel.
    for port in [4789, 8472, 4790, 6635, 2152, 37008] {
        let mut wire = others();
        for id in 0..200u8 {
            let answer =
                [&[id, 8, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0][..], b"\x07example\x03com\0"];
            let body = answer.concat();
            let length = (8 + body.len() as u16).to_be_bytes();
            let ports = [53u16.to_be_bytes(), u16::to_be_bytes(port)].concat();
            wire.ip(
                5_000 + u64::from(id) * 5,
                B,
                A,
                17,
                &[&ports, &length[..], &[0, 0], &body].concat(),
            );
        }
        let told = conversations(&[wire]);
        assert_eq!(told, ["10.0.0.1>10.0.0.2:53 one-sided ports 1 0 0/200"], "{port}");
    }
}

#[test]
fn a_port_used_again_and_a_forged_acknowledgement_are_no_loss() {
    let bulk_to = |wire: &mut Wire, to, at: u64, port: u16, base: u32, kilobytes: u32| {
        let from = (A, port);
        let mut number = |flags, ack: u32, there: bool, payload, ms| {
            if there {
                wire.tcp(ms, from, to, flags, payload)
            } else {
                wire.tcp(ms, to, from, flags, payload)
            }
            let (_, frame) = wire.0.last_mut().expect("a frame");
            frame[42..46].copy_from_slice(&ack.to_be_bytes());
        };
        number(SYN, 0, true, 0, at);
        number(SYN | ACK, base, false, 0, at + 1);
        number(ACK, 1, true, 0, at + 2);
        for sent in 0..kilobytes {
            number(ACK, 1, true, 1000, at + 3 + u64::from(sent) * 2);
            number(ACK, base + (sent + 1) * 1000, false, 0, at + 4 + u64::from(sent) * 2);
        }
        number(ACK | FIN, 1, true, 0, at + 900);
        number(ACK | FIN, base + kilobytes * 1000 + 1, false, 0, at + 901);
    };
    let bulk = |wire: &mut Wire, at, port, base, kilobytes| {
        bulk_to(wire, SERVER, at, port, base, kilobytes)
    };
    let loss = |wire: Wire| {
        let audit = read(&[wire], |_| {});
        let vantage = audit.outcome.conversations.index.visibility;
        (vantage.loss(), vantage.acked)
    };
    let mut wire = others();
    (0..4).for_each(|n| bulk(&mut wire, 2_000, 51_000 + n, 1000, 100));
    let (none, acked) = loss(wire.clone());
    assert_eq!(none, 0.0);
    assert!(acked > 300_000, "{acked}");
    // If a port is reused, Linux starts 65,537 above the last sequence number of the previous
    // connection.
    let mut again = wire.clone();
    bulk(&mut again, 4_000, 51_000, 101_000 + 65_537, 100);
    assert_eq!(loss(again).0, 0.0);
    let mut forged = wire.clone();
    forged.tcp(6_000, SERVER, (A, 51_000), ACK, 0);
    forged.0.last_mut().expect("a frame").1[42..46].copy_from_slice(&150_000u32.to_be_bytes());
    assert_eq!(loss(forged).0, 0.0);
    // Real loss affects the flows to several hosts.
    let mut lossy = wire;
    bulk_to(&mut lossy, ("10.0.0.3", 443), 2_000, 51_000, 1000, 100);
    let mut number = 0;
    lossy.0.retain(|(_, frame)| {
        number += 1;
        frame.len() < 500 || number % 10 != 0
    });
    let (share, _) = loss(lossy);
    assert!((0.04..0.25).contains(&share), "{share}");
}

#[test]
fn a_tunnel_at_a_port_of_the_users_own() {
    let mut wire = others();
    wire.tcp(5_000, CLIENT, SERVER, SYN, 0);
    let (_, inner) = wire.0.pop().expect("a frame");
    let mut outer = in_vxlan(&inner, 9);
    outer[22..24].copy_from_slice(&4444u16.to_be_bytes());
    wire.0.push((5_000, [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0][..], &outer].concat()));
    let port = read(std::slice::from_ref(&wire), |request| request.vxlan_ports = vec![4444]);
    assert_eq!(told(&port), ["10.0.0.1>10.0.0.2:443 unanswered syn 1 1 1/0"]);
    assert_eq!(told(&read(&[wire], |_| {})).len(), 1);
}

#[test]
fn a_fragmented_tunnel_counts_for_the_flow_in_it() {
    let mut wire = others();
    wire.tcp(5_000, CLIENT, SERVER, ACK, 200);
    let (_, inner) = wire.0.pop().expect("a frame");
    let outer = in_vxlan(&inner, 77);
    let (header, body) = outer.split_at(20);
    let cut = 128;
    for (offset, piece) in [(0, &body[..cut]), (cut, &body[cut..])] {
        let mut packet = header.to_vec();
        packet[2..4].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
        let place = ((offset / 8) as u16) | if offset == 0 { 0x2000 } else { 0 };
        packet[6..8].copy_from_slice(&place.to_be_bytes());
        packet.extend(piece);
        let frame = [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0][..], &packet].concat();
        wire.0.push((5_000 + offset as u64, frame));
    }
    wire.tcp(5_300, SERVER, CLIENT, ACK, 10);
    expect(&wire, "10.0.0.1>10.0.0.2:443 midstream ports 1 0 2/1");
}

#[test]
fn an_inner_flow_mirrored_twice_is_one_flow() {
    let mut wire = others();
    let mut plain = Wire::default();
    plain.connect(5_000, CLIENT, SERVER);
    for (ms, inner) in &plain.0 {
        for mirror in 1..3u8 {
            let mut outer = in_vxlan(inner, 9);
            outer[15] = mirror;
            let frame = [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0][..], &outer].concat();
            wire.0.push((ms + u64::from(mirror), frame));
        }
    }
    let audit = read(&[wire], |request| request.dedup = Dedup::Auto);
    assert_eq!(told(&audit), ["10.0.0.1>10.0.0.2:443 established handshake 1 2 3/2"]);
}

/// Appends an IPv6 packet from fd00::1 to fd00::2, or in the other direction if `back` is set.
/// `next` is the Next Header value.
fn ipv6(wire: &mut Wire, ms: u64, back: bool, next: u8, body: &[u8]) {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0];
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend([next, 64]);
    for last in if back { [2, 1] } else { [1, 2] } {
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    frame.extend(body);
    wire.0.push((ms, frame));
}

/// A UDP datagram from port 50000 to port 443 with 8 bytes of payload.
const UDP: [u8; 16] = [0xc3, 0x50, 0x01, 0xbb, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn ipv6_fragments_join_in_any_order_and_from_any_file() {
    let piece = |offset: u16, more: u8, body: &[u8]| {
        let place = (offset | u16::from(more)).to_be_bytes();
        [&[17, 0, place[0], place[1], 0, 0, 0, 9][..], body].concat()
    };
    let mut wire = others();
    ipv6(&mut wire, 5_000, false, 44, &piece(0, 1, &UDP));
    ipv6(&mut wire, 5_001, false, 44, &piece(16, 1, &[7; 16]));
    ipv6(&mut wire, 5_002, false, 44, &piece(24, 0, &[7; 16]));
    expect(&wire, "fd00::1>fd00::2:443 one-sided ports 1 0 3/0");
}

#[test]
fn extension_headers_are_passed_and_esp_has_no_ports() {
    // Hop-by-hop options, a routing header and destination options, each followed by the next one.
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    let chain = [&options(43)[..], &[60, 0, 4, 0, 0, 0, 0, 0], &options(17), &UDP].concat();
    let mut wire = others();
    ipv6(&mut wire, 5_000, false, 0, &chain);
    expect(&wire, "fd00::1>fd00::2:443 one-sided ports 1 0 1/0");
    let mut wire = others();
    ipv6(&mut wire, 5_000, false, 50, &[0, 0, 1, 0, 0, 0, 0, 1, 9, 9]);
    let audit = read(&[wire], |_| {});
    let list = audit.outcome.conversations.list.iter();
    let esp: Vec<_> = list.filter(|c| c.subject.transport.0 == 50).collect();
    assert_eq!(esp.len(), 1);
    assert_eq!(esp[0].subject.shown_port(), None);
}

#[test]
fn an_icmpv6_error_belongs_to_the_flow_in_a_tunnel() {
    let mut wire = others();
    ipv6(&mut wire, 5_000, false, 17, &UDP);
    let inner = wire.0.pop().expect("a frame").1[14..].to_vec();
    // An IPv6 packet is tunnelled in IPv6. An ICMPv6 error (administratively prohibited) quotes the
    // outer packet.
    ipv6(&mut wire, 5_000, false, 41, &inner);
    let outer = wire.0.last().expect("a frame").1[14..].to_vec();
    let error = [&[1, 1, 0, 0, 0, 0, 0, 0][..], &outer].concat();
    ipv6(&mut wire, 5_001, true, 58, &error);
    expect(&wire, "fd00::1>fd00::2:443 rejected protocol 1 0 1/0");
}

#[test]
fn a_flow_that_moves_is_no_copy() {
    // Another router takes over halfway, so the MAC address changes. Some packets are captured
    // twice.
    let mut wire = others();
    for number in 0..100u64 {
        wire.tcp(5_000 + number * 10, CLIENT, SERVER, ACK, 100);
        let (_, frame) = wire.0.last_mut().expect("a frame");
        frame[18..20].copy_from_slice(&(number as u16).to_be_bytes());
        if number >= 50 {
            frame[11] = 0xee;
        }
    }
    for number in 0..20u64 {
        wire.udp(5_000 + number * 10, (A, 600), ("10.0.0.3", 80));
        let (ms, frame) = wire.0.last().expect("a frame").clone();
        wire.0.push((ms, frame));
    }
    wire.tcp(6_000, SERVER, CLIENT, ACK, 100);
    for dedup in [Dedup::Auto, Dedup::On] {
        let audit = read(std::slice::from_ref(&wire), |request| request.dedup = dedup);
        assert_eq!(told(&audit), ["10.0.0.1>10.0.0.2:443 midstream ports 1 0 100/1"]);
        assert_eq!(audit.reading.duplicates.removed, 20);
    }
    // A traceroute has many TTLs, but no duplicate packets.
    let mut wire = others();
    for hop in 1..30u8 {
        wire.udp(5_000 + u64::from(hop) * 100, CLIENT, SERVER);
        let (_, frame) = wire.0.last_mut().expect("a frame");
        (frame[19], frame[22]) = (hop, hop);
    }
    let audit = read(&[wire], |request| request.dedup = Dedup::On);
    assert_eq!(audit.reading.duplicates.removed, 0);
}

#[test]
fn a_generic_vxlan_is_known_at_any_port_of_the_users() {
    let mut wire = others();
    wire.tcp(5_000, CLIENT, SERVER, SYN, 0);
    let (_, inner) = wire.0.pop().expect("a frame");
    // VXLAN-GPE: the flags I and P are set, so the header contains a network identifier (VNI) and a
    // next protocol, here IPv4.
    let tunnel = [&[0x0c, 0, 0, 1, 0, 0, 100, 0][..], &inner[14..]].concat();
    let length = (8 + tunnel.len() as u16).to_be_bytes();
    let body = [&[0xc0, 0, 0x17, 0xc1, length[0], length[1], 0, 0][..], &tunnel].concat();
    wire.ip(5_000, "192.0.2.1", "192.0.2.2", 17, &body);
    // `--vxlan-port` assigns the Geneve port to VXLAN.
    let audit = read(&[wire], |request| request.vxlan_ports = vec![6081]);
    assert_eq!(told(&audit), ["10.0.0.1>10.0.0.2:443 unanswered syn 1 1 1/0"]);
}

#[test]
fn depth_is_bounded_and_what_lies_deeper_is_counted() {
    let tagged = |tags: usize| {
        let mut wire = others();
        wire.tcp(5_000, CLIENT, SERVER, SYN, 0);
        let (_, frame) = wire.0.last_mut().expect("a frame");
        frame.splice(12..12, [0x81, 0x00, 0x00, 0x07].repeat(tags));
        let audit = read(&[wire], |_| {});
        let skipped = audit.reading.account.skipped.get(SkipReason::TooManyEncapsulations);
        (told(&audit).len(), skipped)
    };
    assert_eq!(tagged(20), (1, 0));
    assert_eq!(tagged(40), (0, 1));
    // The limit also applies to nested tunnels, whose outer packets are not hidden.
    let mut wire = others();
    wire.tcp(5_000, CLIENT, SERVER, SYN, 0);
    let (_, mut frame) = wire.0.pop().expect("a frame");
    for _ in 0..12 {
        frame = [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 8, 0][..], &in_vxlan(&frame, 9)].concat();
    }
    wire.0.push((5_000, frame));
    let audit = read(&[wire], |_| {});
    assert_eq!(audit.reading.account.skipped.get(SkipReason::TooManyEncapsulations), 0);
    assert_eq!(told(&audit).len(), 1);
}
