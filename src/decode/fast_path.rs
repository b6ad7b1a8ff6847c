//! The fast path for almost every frame: Ethernet with at most one VLAN tag, an unfragmented IP
//! packet without options or extension headers, and TCP or UDP with complete headers and at least
//! 20 bytes above IP, outside any tunnel. On the general path, half of the time for such a packet
//! is spent on moving from layer to layer.
//!
//! The results equal those of the general path, which the test below checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ip::{address_word, fingerprint_of};
use super::transport::{ACK, UDP_HEADER, flags_of, udp};
use super::{Body, Decoder, FiveTuple, Observation, Packet, Path, flag, kept};
use crate::capture::Frame;
use crate::model::{Mac, Transport};

/// The minimum number of bytes above IP: the length of a TCP header without options. Shorter UDP
/// datagrams take the general path.
const ABOVE_IP: usize = 20;

/// An IP packet without options or extension headers that is not a fragment.
struct PlainIp<'p> {
    src: IpAddr,
    dst: IpAddr,
    transport: Transport,
    /// The length of the header in bytes.
    header: usize,
    ttl: u8,
    /// The addresses as a number. See [`fingerprint_of`].
    addresses: u64,
    /// The fields that distinguish the packet from others between the same addresses. See
    /// [`fingerprint_of`].
    ip_id: [u64; 2],
    bad_checksum: bool,
    /// The first bytes of `above`.
    start: &'p [u8; ABOVE_IP],
    /// The transport header and its payload.
    above: Packet<'p>,
}

/// The transport header of a packet.
struct PlainTransport {
    sport: u16,
    dport: u16,
    flags: u16,
    /// The length of the header in bytes.
    header: usize,
    /// The length of the payload on the wire in bytes.
    payload: usize,
    seq: u32,
    acked: Option<u32>,
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Decodes a frame into `seen`, replacing its content, if the fast path applies to the frame.
/// Otherwise returns false and leaves `seen` unchanged. `wire` is the length of the frame on the
/// wire in bytes.
pub(super) fn decode(
    decoder: &Decoder,
    frame: &Frame,
    Packet { bytes: data, wire }: Packet<'_>,
    seen: &mut Observation,
) -> bool {
    let Some(ethernet) = data.first_chunk::<18>() else { return false };
    let (vlan, ethertype, length) = match be16(ethernet, 12) {
        0x8100 => (Some(u32::from(be16(ethernet, 14) & 0x0fff)), be16(ethernet, 16), 18),
        ethertype => (None, ethertype, 14),
    };
    let Some(packet) = (Packet { bytes: data, wire }).after(length) else { return false };
    let ip = match ethertype {
        0x0800 => ipv4(packet),
        0x86dd => ipv6(packet),
        _ => None,
    };
    let Some(ip) = ip else { return false };
    let Some(above) = transport(decoder, &ip) else { return false };
    let [target, source] = [mac(ethernet, 0), mac(ethernet, 6)];
    // Every field is written once. Resetting them all first would take longer than decoding IP.
    seen.time = frame.time;
    seen.wire_len = frame.wire_len;
    seen.interface = frame.interface;
    seen.broadcast = target == Mac::BROADCAST;
    seen.kept = kept(frame);
    seen.cut = frame.cap_len < frame.wire_len;
    seen.bad_checksum = ip.bad_checksum;
    seen.undecoded_tunnel = None;
    seen.path = Path::PLAIN;
    seen.link.replace(vlan);
    (seen.link.source, seen.link.ttl, seen.link.interface) = (source, ip.ttl, frame.interface);
    seen.fingerprint = fingerprint_of(ip.addresses, ip.ip_id, ip.transport, ip.above.bytes);
    seen.payload_at = (length + ip.header + above.header) as u32;
    seen.payload_kept = (ip.above.bytes.len() - above.header) as u32;
    let PlainTransport { sport, dport, flags, payload, seq, acked, .. } = above;
    let cast = if seen.broadcast { flag::BROADCAST } else { flag::UNICAST };
    seen.body = Body::Transport {
        tuple: FiveTuple { src: ip.src, dst: ip.dst, sport, dport, transport: ip.transport },
        flags: flags | cast | seen.kept | if payload > 0 { data_flag(flags) } else { 0 },
        payload: payload as u32,
        seq,
        acked,
        fragment: None,
    };
    true
}

/// Returns the hardware address at offset `at` of an Ethernet header.
fn mac(ethernet: &[u8; 18], at: usize) -> Mac {
    Mac([0, 1, 2, 3, 4, 5].map(|byte: usize| ethernet[at + byte]))
}

/// Returns [`flag::DATA`] for a packet with payload, or 0 if it opens or resets a connection,
/// because such payload does not count as data.
fn data_flag(flags: u16) -> u16 {
    if flags & (flag::SYN | flag::SYN_ACK | flag::RST) == 0 { flag::DATA } else { 0 }
}

/// Reads an IPv4 header without options.
#[inline]
fn ipv4(packet: Packet<'_>) -> Option<PlainIp<'_>> {
    const HEADER: usize = 20;
    let head: &[u8; HEADER] = packet.bytes.first_chunk()?;
    let total = usize::from(be16(head, 2));
    if head[0] != 0x45 || be16(head, 6) & 0x3fff != 0 || total < HEADER + ABOVE_IP {
        return None;
    }
    // The sum over a valid header, including its checksum, is all ones (RFC 1071).
    let word = |at: usize| u64::from(be32(head, at));
    // Whether it is all ones does not depend on the byte order.
    let native = |at: usize| {
        u64::from(u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]))
    };
    let sum = native(0) + native(4) + native(8) + native(12) + native(16);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let above = packet.limited(total).after(HEADER)?;
    Some(PlainIp {
        src: Ipv4Addr::from(be32(head, 12)).into(),
        dst: Ipv4Addr::from(be32(head, 16)).into(),
        transport: Transport(head[9]),
        header: HEADER,
        ttl: head[8],
        addresses: word(12) << 32 | word(16),
        ip_id: [total as u64, word(4)],
        bad_checksum: (sum & 0xffff) + (sum >> 16) != 0xffff,
        start: above.bytes.first_chunk()?,
        above,
    })
}

/// Reads an IPv6 header.
#[inline]
fn ipv6(packet: Packet<'_>) -> Option<PlainIp<'_>> {
    const HEADER: usize = 40;
    let head: &[u8; HEADER] = packet.bytes.first_chunk()?;
    let length = usize::from(be16(head, 4));
    if head[0] >> 4 != 6 || length < ABOVE_IP {
        return None;
    }
    let half = |at: usize| u64::from(be32(head, at)) << 32 | u64::from(be32(head, at + 4));
    let [src, dst] = [[half(8), half(16)], [half(24), half(32)]];
    let address = |[a, b]: [u64; 2]| Ipv6Addr::from(u128::from(a) << 64 | u128::from(b)).into();
    let above = packet.limited(HEADER + length).after(HEADER)?;
    let label = u64::from(be32(head, 0) & 0x000f_ffff);
    Some(PlainIp {
        src: address(src),
        dst: address(dst),
        transport: Transport(head[6]),
        header: HEADER,
        ttl: head[7],
        addresses: address_word(src, dst),
        ip_id: [label << 32 | length as u64, 0],
        bad_checksum: false,
        start: above.bytes.first_chunk()?,
        above,
    })
}

/// Reads a TCP or UDP header, unless the datagram may belong to a tunnel.
#[inline]
fn transport(decoder: &Decoder, ip: &PlainIp<'_>) -> Option<PlainTransport> {
    let start = ip.start;
    let [sport, dport] = [be16(start, 0), be16(start, 2)];
    match ip.transport {
        Transport::TCP => {
            let header = usize::from(start[12] >> 4) * 4;
            if header < ABOVE_IP || header > ip.above.bytes.len() {
                return None;
            }
            Some(PlainTransport {
                sport,
                dport,
                flags: flags_of(start[13], &ip.above.bytes[header..]),
                header,
                payload: ip.above.wire.saturating_sub(header),
                seq: be32(start, 4),
                acked: (start[13] & ACK != 0).then(|| be32(start, 8)),
            })
        }
        Transport::UDP => {
            if decoder.decapsulates && decoder.tunnel_at(sport, dport).is_some() {
                return None;
            }
            let (flags, payload) = udp(ip.above, (sport, dport));
            let header = UDP_HEADER;
            Some(PlainTransport { sport, dport, flags, header, payload, seq: 0, acked: None })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::capture::{Batch, CaptureReader, InputHash, expand};
    use crate::decode::{ETHERNET, EncapTagKind, Tunnel, TunnelEndpoints, TunnelUse};

    /// Returns a copy of a frame with a VLAN tag inserted before its EtherType.
    fn tagged((frame, data): &(Frame, Vec<u8>)) -> Option<(Frame, Vec<u8>)> {
        let (addresses, content) = data.split_at_checked(12)?;
        let tag = [0x81, 0x00, 0xf0 | content.first()?, *content.last()?];
        let data = [addresses, &tag, content].concat();
        let (cap_len, wire_len) = (frame.cap_len + 4, frame.wire_len + 4);
        Some((Frame { cap_len, wire_len, ..*frame }, data))
    }

    /// Returns each Ethernet frame in the fixtures twice: unchanged and with an additional VLAN
    /// tag.
    fn frames() -> Vec<(Frame, Vec<u8>)> {
        let mut folders = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")];
        let mut files: Vec<PathBuf> = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.extension().and_then(|e| e.to_str()) {
                    _ if path.is_dir() => folders.push(path),
                    Some("pcap" | "pcapng") => files.push(path),
                    _ => {}
                }
            }
        }
        let mut frames = Vec::new();
        for source in files.iter().flat_map(|file| expand(std::slice::from_ref(file)).unwrap()) {
            let Ok(mut reader) = CaptureReader::open(&source, InputHash::Skip) else { continue };
            let mut more = true;
            while more {
                let mut batch = Batch::default();
                more = reader.next(&mut batch).unwrap_or(false);
                let ethernet = batch.frames.iter().filter(|f| f.link == ETHERNET);
                frames.extend(ethernet.map(|f| (*f, batch.data(f).to_vec())));
            }
        }
        let tagged: Vec<_> = frames.iter().filter_map(tagged).collect();
        frames.extend(tagged);
        frames
    }

    /// Returns observations of other packets: one without tags, one with a VLAN tag, one with two,
    /// one in a tunnel, and one that differs in all other fields.
    fn remains() -> [Observation; 5] {
        let [none, mut vlan, mut vlans, mut tunnel, mut other] = [Observation::default(); 5];
        vlan.link = none.link.with_tag(EncapTagKind::Vlan, Some(7));
        vlans.link = vlan.link.with_tag(EncapTagKind::Vlan, Some(8));
        let address = Ipv4Addr::LOCALHOST.into();
        let ends = TunnelEndpoints {
            src: address,
            dst: address,
            transport: Transport::UDP,
            sport: 1,
            port: 2,
            stated: TunnelUse::Unstated,
        };
        tunnel.link = vlan.link.with_tunnel(Tunnel::Vxlan, Some(1), ends);
        (other.interface, other.broadcast, other.kept, other.cut) =
            (9, true, flag::KEPT_LONG, true);
        (other.bad_checksum, other.undecoded_tunnel) = (true, Some(Tunnel::Gre));
        (other.path, other.fingerprint) = (Path::inside(3), 5);
        (other.payload_at, other.payload_kept) = (1, 1);
        [none, vlan, vlans, tunnel, other]
    }

    /// Checks that both paths agree on a frame. Returns whether the fast path decoded it.
    fn agree(decoder: &Decoder, frame: &Frame, data: &[u8]) -> bool {
        let packet = Packet { bytes: data, wire: data.len().max(frame.wire_len as usize) };
        let mut layers = Observation::default();
        let mut is_fast = false;
        // Data that remains from another packet must not affect the result.
        for mut fast_path in remains() {
            is_fast = decode(decoder, frame, packet, &mut fast_path);
            if !is_fast {
                break;
            }
            assert_eq!(decoder.decode_layers(frame, packet, &mut layers), Ok(()), "{data:02x?}");
            assert_eq!(fast_path, layers, "{data:02x?}");
            // Equality ignores tunnel endpoints without a tag, so they are checked separately.
            assert_eq!(fast_path.link.outer().count(), 0);
        }
        is_fast
    }

    #[test]
    fn agrees_with_the_layers_on_every_fixture_and_on_damaged_frames() {
        let frames = frames();
        let decoders = [Decoder::default(), Decoder::default().with_decapsulation(false)];
        for decoder in &decoders {
            let taken: Vec<_> =
                frames.iter().filter(|(frame, data)| agree(decoder, frame, data)).collect();
            // Most of a farm's traffic takes the fast path.
            assert!(taken.len() * 2 > frames.len(), "{} of {}", taken.len(), frames.len());
            for ethertype in [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00]] {
                let count = taken.iter().filter(|(_, data)| data[12..14] == ethertype).count();
                assert!(count >= 20, "{count} frames with EtherType {ethertype:02x?}");
            }
        }
        let damage = (0..frames.len(), 0..80usize, any::<u8>(), 0..1600usize, any::<bool>());
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(20_000));
        let outcome = runner.run(&damage, |(number, at, byte, cut, decap)| {
            let (frame, mut data) = frames[number].clone();
            if let Some(place) = data.get_mut(at) {
                *place = byte;
            }
            data.truncate(cut);
            let frame = Frame { cap_len: data.len() as u32, ..frame };
            agree(&decoders[usize::from(decap)], &frame, &data);
            Ok(())
        });
        outcome.unwrap();
    }
}
