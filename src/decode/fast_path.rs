//! The fast path for almost every frame: Ethernet, an IPv4 header without options that is not a
//! fragment, and TCP or UDP with complete headers, outside any tunnel. On the general path, half of
//! the time for such a packet is spent on moving from layer to layer.
//!
//! The results equal those of the general path, which the test below checks.

use std::net::Ipv4Addr;

use super::ip::fingerprint_of;
use super::transport::{ACK, UDP_HEADER, flags_of, udp};
use super::{Body, Decoder, FiveTuple, Observation, Packet, flag};
use crate::model::{Mac, Transport};

/// Offsets of the IP header and of the transport header in the frame.
const IP: usize = 14;
const ABOVE: usize = IP + 20;
/// The number of bytes that a frame must have: up to the end of a TCP header without options.
const HEADERS: usize = ABOVE + 20;

/// Decodes a frame if the fast path applies to it. Otherwise returns false and leaves `seen`
/// unchanged. `wire` is the length of the frame on the wire in bytes.
pub(super) fn decode(decoder: &Decoder, data: &[u8], wire: usize, seen: &mut Observation) -> bool {
    let Some(head) = data.first_chunk::<HEADERS>() else { return false };
    let be16 = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let be32 = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let total = usize::from(be16(16));
    let fragment = be16(20) & 0x3fff;
    let transport = Transport(head[23]);
    let is_plain = head[12] == 0x08 && head[13] == 0x00 && head[14] == 0x45 && fragment == 0;
    if !is_plain || total < HEADERS - IP {
        return false;
    }
    let bytes = &data[ABOVE..data.len().min(IP + total)];
    let segment = Packet { bytes, wire: (wire - IP).min(total) - (ABOVE - IP) };
    let sport = be16(34);
    let dport = be16(36);
    let (flags, header, payload, seq, acked);
    match transport {
        Transport::TCP => {
            header = usize::from(head[46] >> 4) * 4;
            if header < 20 || header > bytes.len() {
                return false;
            }
            let header_flags = flags_of(head[47], &bytes[header..]);
            payload = segment.wire.saturating_sub(header);
            let is_data =
                payload > 0 && header_flags & (flag::SYN | flag::SYN_ACK | flag::RST) == 0;
            flags = if is_data { header_flags | flag::DATA } else { header_flags };
            seq = be32(38);
            acked = (head[47] & ACK != 0).then(|| be32(42));
        }
        Transport::UDP => {
            if decoder.decapsulates && decoder.tunnel_at(sport, dport).is_some() {
                return false;
            }
            header = UDP_HEADER;
            let header_flags;
            (header_flags, payload) = udp(segment, (sport, dport));
            flags = if payload > 0 { header_flags | flag::DATA } else { header_flags };
            (seq, acked) = (0, None);
        }
        _ => return false,
    }
    let mac = |at: usize| {
        Mac([head[at], head[at + 1], head[at + 2], head[at + 3], head[at + 4], head[at + 5]])
    };
    seen.link.source = mac(6);
    seen.link.ttl = head[22];
    seen.broadcast = mac(0) == Mac::BROADCAST;
    // The sum over a valid header, including its checksum, is all ones (RFC 1071).
    let word = |at: usize| u64::from(be32(at));
    let sum = word(14) + word(18) + word(22) + word(26) + word(30);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    seen.bad_checksum = (sum & 0xffff) + (sum >> 16) != 0xffff;
    let addresses = u64::from(be32(26)) << 32 | u64::from(be32(30));
    let ip_id = [total as u64, u64::from(be32(18))];
    seen.fingerprint = fingerprint_of(addresses, ip_id, transport, bytes);
    seen.payload_at = (ABOVE + header) as u32;
    seen.payload_kept = (bytes.len() - header) as u32;
    let cast = if seen.broadcast { flag::BROADCAST } else { flag::UNICAST };
    let src = Ipv4Addr::from(be32(26)).into();
    let dst = Ipv4Addr::from(be32(30)).into();
    seen.body = Body::Transport {
        tuple: FiveTuple { src, dst, sport, dport, transport },
        flags: flags | cast | seen.kept,
        payload: payload as u32,
        seq,
        acked,
        fragment: None,
    };
    true
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;

    use super::*;
    use crate::capture::{Batch, CaptureReader, Frame, InputHash, expand};
    use crate::decode::ETHERNET;

    /// Returns all Ethernet frames in the fixtures.
    fn frames() -> Vec<(Frame, Vec<u8>)> {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")];
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
        frames
    }

    /// Checks that both paths agree on a frame. Returns whether the fast path decoded it.
    fn agree(decoder: &Decoder, frame: &Frame, data: &[u8]) -> bool {
        let wire = data.len().max(frame.wire_len as usize);
        let mut fast_path = Observation::default();
        // Data that remains from another packet must not affect the result.
        fast_path.link = fast_path.link.with_tag(super::super::EncapTagKind::Vlan, Some(7));
        let mut layers = Observation::default();
        Decoder::prepare(frame, &mut fast_path);
        Decoder::prepare(frame, &mut layers);
        if !decode(decoder, data, wire, &mut fast_path) {
            return false;
        }
        let packet = Packet { bytes: data, wire };
        assert_eq!(decoder.decode_layers(frame.link, packet, &mut layers), Ok(()), "{data:02x?}");
        assert_eq!(fast_path, layers, "{data:02x?}");
        true
    }

    #[test]
    fn agrees_with_the_layers_on_every_fixture_and_on_damaged_frames() {
        let frames = frames();
        let decoders = [Decoder::default(), Decoder::default().with_decapsulation(false)];
        for decoder in &decoders {
            let taken = frames.iter().filter(|(frame, data)| agree(decoder, frame, data)).count();
            // Most of a farm's traffic takes the fast path.
            assert!(taken * 2 > frames.len(), "{taken} of {}", frames.len());
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
