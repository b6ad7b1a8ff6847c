//! Writes a capture for measurements: a farm's traffic, seeded, the same bytes each time.
//!
//! `cargo run --release --example generate -- OUT.pcap PACKETS [FLOWS]`
//!
//! TCP flows between clients, gateways, brokers and session hosts in random interleaving, each with its
//! handshake, data both ways and an end; frames of 60 to 1514 bytes, about 570 on average.

use std::fs::File;
use std::io::{BufWriter, Write};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "generate OUT.pcap PACKETS [FLOWS]";
    let path = arguments.next().expect(usage);
    let packets: u64 = arguments.next().and_then(|n| n.parse().ok()).expect(usage);
    let flows: u64 = arguments.next().map_or(packets / 10, |n| n.parse().expect(usage));
    write(&mut BufWriter::new(File::create(path)?), packets, flows.max(1))
}

/// xorshift64*: no crate needed, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

fn write(out: &mut impl Write, packets: u64, flows: u64) -> std::io::Result<()> {
    let header: [u32; 6] = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 262_144, 1];
    for word in header {
        out.write_all(&word.to_le_bytes())?;
    }
    let mut random = Random(1);
    // How many packets of each flow were sent; the flow's number gives its ends.
    let mut sent = vec![0u32; flows as usize];
    for number in 0..packets {
        let flow = random.next() % flows;
        let step = sent[flow as usize];
        sent[flow as usize] += 1;
        let from_client = step.is_multiple_of(2);
        let (flags, payload) = match step {
            0 => (0x02, 0),
            1 => (0x12, 0),
            2 => (0x10, 0),
            _ if random.next().is_multiple_of(3) => (0x10, 1460),
            _ => (0x18, (random.next() % 300) as usize),
        };
        frame(out, number, flow, from_client, flags, payload)?;
    }
    out.flush()
}

fn frame(
    out: &mut impl Write,
    number: u64,
    flow: u64,
    from_client: bool,
    flags: u8,
    payload: usize,
) -> std::io::Result<()> {
    let port = [443u16, 20_002, 20_003, 3_389][flow as usize % 4];
    let client = (0x0a14_0900 | (flow as u32 >> 16 & 0xff), (1024 + flow % 64_000) as u16);
    let server = (0x0a14_0100 | (flow as u32 % 200), port);
    let (source, destination) = if from_client { (client, server) } else { (server, client) };
    let ip_len = 40 + payload;
    let length = (14 + ip_len).max(60);
    let mut frame = [0u8; 1514];
    frame[5] = 1;
    frame[11] = 2;
    frame[12] = 8;
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(ip_len as u16).to_be_bytes());
    (frame[22], frame[23]) = (64, 6);
    frame[26..30].copy_from_slice(&source.0.to_be_bytes());
    frame[30..34].copy_from_slice(&destination.0.to_be_bytes());
    frame[34..36].copy_from_slice(&source.1.to_be_bytes());
    frame[36..38].copy_from_slice(&destination.1.to_be_bytes());
    (frame[46], frame[47]) = (0x50, flags);
    let micros = number * 100;
    for word in [
        1_780_000_000 + (micros / 1_000_000) as u32,
        (micros % 1_000_000) as u32,
        length as u32,
        length as u32,
    ] {
        out.write_all(&word.to_le_bytes())?;
    }
    out.write_all(&frame[..length])
}
