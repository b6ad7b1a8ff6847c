//! Writes a capture with the traffic of a large farm for measurements. The generator is seeded, so
//! that the bytes are always the same. Optionally writes the inventory of the farm, too. Prints the
//! numbers that an audit must find: `frames=… flows=… conversations=…`.
//!
//! `cargo run --release --example generate -- mixed OUT.pcap [--inventory OUT.toml]`
//!
//! docs/performance.md describes the traffic.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

/// Writes a capture for measurements, and prints the numbers of its frames, flows and
/// conversations.
#[derive(Parser)]
struct Arguments {
    /// The kind of traffic.
    shape: Shape,
    /// The capture to write.
    capture: PathBuf,
    /// The number of frames. The default depends on the shape. The capture always lasts 600 s.
    #[arg(long)]
    packets: Option<u64>,
    /// The largest number of flows. The default depends on the shape.
    #[arg(long)]
    flows: Option<u32>,
    /// Write pcapng instead of pcap.
    #[arg(long)]
    pcapng: bool,
    /// Write the inventory of the farm to this file.
    #[arg(long)]
    inventory: Option<PathBuf>,
    /// List this many additional hosts in the inventory, with the eight roles of the farm in turn.
    /// The capture does not contain them.
    #[arg(long, default_value_t = 0)]
    more_hosts: u32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Shape {
    /// 20,000 concurrent sessions: 1.9 million frames of 570 bytes on average, 200,000 flows.
    Mixed,
    /// The worst case for the packet path: 10 million frames of 60 to 104 bytes (TLS hellos and
    /// some DNS answers are longer), each from a random one of a million flows.
    Small,
    /// The worst case for the judgement: 4 million frames of 60 to 84 bytes in 400,000 flows
    /// between random hosts and networks at random ports, so that nearly every conversation is a
    /// finding.
    Hostile,
}

/// The duration of the capture in seconds, regardless of the number of frames.
const LASTS: u64 = 600;

/// The largest number of concurrent sessions in mixed traffic.
const AT_ONCE: usize = 20_000;

const NETWORKS: u32 = 200;

fn main() -> io::Result<()> {
    generate(std::env::args_os())
}

/// Generates a capture as the command-line arguments specify. Tests also call this function.
pub fn generate(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> io::Result<()> {
    let arguments = Arguments::parse_from(arguments);
    let (packets, flows) = match arguments.shape {
        Shape::Mixed => (1_900_000, 200_000),
        Shape::Small => (10_000_000, 1_000_000),
        Shape::Hostile => (4_000_000, 400_000),
    };
    let packets = arguments.packets.unwrap_or(packets);
    let flows = arguments.flows.unwrap_or(flows);
    if let Some(path) = &arguments.inventory {
        std::fs::write(path, inventory(arguments.shape, arguments.more_hosts))?;
    }
    let mut out = Capture::create(&arguments.capture, arguments.pcapng, packets)?;
    let mut random = Random(1);
    let mut talks = match arguments.shape {
        Shape::Hostile => MergedFlows::hostile(flows, &mut random),
        Shape::Mixed | Shape::Small => MergedFlows::new(flows, &mut random),
    };
    match arguments.shape {
        Shape::Mixed => mixed(&mut out, packets, &mut talks, &mut random)?,
        Shape::Small | Shape::Hostile => {
            for _ in 0..packets {
                let flow = random.below(flows) as usize;
                out.frame(&mut talks, flow, &mut random, |random| random.below(31) as usize)?;
            }
        }
    }
    out.end()?;
    let seen: Vec<&Flow> = talks.list.iter().filter(|flow| flow.sent > 0).collect();
    let conversations: HashSet<_> = seen.iter().map(|flow| flow.conversation()).collect();
    println!("frames={packets} flows={} conversations={}", seen.len(), conversations.len());
    Ok(())
}

/// Writes sessions, most of which are short. At most [`AT_ONCE`] are open at a time. With the
/// default arguments, a session has 3 to 108 packets, and a DNS lookup has 2.
fn mixed(
    out: &mut Capture,
    packets: u64,
    talks: &mut MergedFlows,
    random: &mut Random,
) -> io::Result<()> {
    let flows = talks.list.len();
    let scale = packets as f64 / flows as f64 / 9.5;
    let mut next = 0;
    let mut open: Vec<(usize, u32)> = Vec::new();
    for _ in 0..packets {
        if open.len() < AT_ONCE && next < flows {
            let length = match random.below(100) {
                0..70 => 3 + random.below(4),
                70..95 => 7 + random.below(15),
                _ => 20 + random.below(89),
            };
            open.push((next, ((f64::from(length) * scale) as u32).max(3)));
            next += 1;
        }
        // The last session continues until the capture ends.
        let place = random.below(open.len() as u32) as usize;
        let (flow, left) = &mut open[place];
        let flow = *flow;
        *left = left.saturating_sub(1);
        // A DNS flow consists of a query and its answer.
        if talks.list[flow].says == Says::Dns && talks.list[flow].sent > 0 {
            *left = 0;
        }
        if *left == 0 && (next < flows || open.len() > 1) {
            open.swap_remove(place);
        }
        out.frame(talks, flow, random, |random| match random.below(100) {
            0..24 => 0,
            24..52 => 1 + random.below(250) as usize,
            _ => 1440,
        })?;
    }
    Ok(())
}

/// A xorshift64* random number generator, which yields the same numbers on every platform.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u32) -> u32 {
        (((self.next() >> 32) * u64::from(limit)) >> 32) as u32
    }
}

/// The hosts of a role. `first` contains the last two bytes of the first host's address in
/// 10.20.0.0/16.
struct Group {
    role: &'static str,
    hosts: u32,
    first: u32,
}

const GATEWAY: usize = 0;
const BROKER: usize = 1;
const SESSION_HOST: usize = 2;
const DC: usize = 3;
const HALB: usize = 4;
const ENROLLMENT: usize = 5;
const MFA: usize = 6;
const CONSOLE: usize = 7;
const CLIENT: usize = 8;

const FARM: [Group; 8] = [
    Group { role: "gateway-normal", hosts: 60, first: 0x0101 },
    Group { role: "broker", hosts: 16, first: 0x0201 },
    Group { role: "rdsh-agent", hosts: 880, first: 0x1001 },
    Group { role: "ad-dc", hosts: 12, first: 0x0301 },
    Group { role: "halb", hosts: 8, first: 0x0401 },
    Group { role: "enrollment-server", hosts: 8, first: 0x0501 },
    Group { role: "mfa-server", hosts: 6, first: 0x0601 },
    Group { role: "console", hosts: 10, first: 0x0701 },
];

/// The traffic of the farm: share of the flows in percent, client, server, transport, port, and the
/// payload that contains a name.
const TRAFFIC: [(u32, usize, usize, u8, u16, Says); 14] = [
    (26, CLIENT, GATEWAY, TCP, 443, Says::Tls),
    (6, CLIENT, HALB, TCP, 443, Says::Tls),
    (4, HALB, GATEWAY, TCP, 443, Says::Tls),
    (10, GATEWAY, BROKER, TCP, 20_002, Says::Nothing),
    (14, GATEWAY, SESSION_HOST, TCP, 3_389, Says::Nothing),
    (4, GATEWAY, SESSION_HOST, UDP, 3_389, Says::Nothing),
    (8, SESSION_HOST, BROKER, TCP, 20_003, Says::Nothing),
    (8, BROKER, SESSION_HOST, UDP, 30_004, Says::Nothing),
    // The matrix does not document the next two lines (the overlay `windows-domain` would), so an
    // audit has findings about them.
    (1, SESSION_HOST, DC, UDP, 53, Says::Dns),
    (13, SESSION_HOST, DC, TCP, 445, Says::Nothing),
    (2, ENROLLMENT, DC, TCP, 389, Says::Nothing),
    (1, BROKER, MFA, UDP, 1_812, Says::Nothing),
    (1, CONSOLE, BROKER, TCP, 20_002, Says::Nothing),
    // Direct connections, which need the feature `direct-mode`. It is off by default.
    (2, CLIENT, SESSION_HOST, TCP, 3_389, Says::Nothing),
];

const TCP: u8 = 6;
const UDP: u8 = 17;

#[derive(Clone, Copy, PartialEq)]
enum Says {
    Nothing,
    Tls,
    Dns,
}

/// Returns the address of the host with this number in its group. Clients have addresses in the
/// listed networks.
fn address(group: usize, number: u32) -> u32 {
    match FARM.get(group) {
        Some(Group { hosts, first, .. }) => 0x0a14_0000 | (first + number % hosts),
        None => 0x0a40_0000 | (number % NETWORKS) << 8 | (1 + number / NETWORKS % 250),
    }
}

fn name(role: &str, number: u32) -> String {
    format!("{role}-{number}")
}

fn inventory(shape: Shape, more: u32) -> String {
    let mut text = "[farm]\nname = \"Generated farm\"\nmatrix = \"ras-19\"\n".to_owned();
    for (group, Group { role, hosts, .. }) in FARM.iter().enumerate() {
        for number in 0..*hosts {
            let v4 = std::net::Ipv4Addr::from(address(group, number));
            let v6 = std::net::Ipv6Addr::from(mapped(address(group, number)));
            text += &format!(
                "\n[[host]]\nname = \"{}\"\naddresses = [\"{v4}\", \"{v6}\"]\nroles = [\"{role}\"]\n",
                name(role, number)
            );
        }
    }
    for number in 0..NETWORKS {
        let (first, length) = match shape {
            Shape::Hostile => (LARGE_NETWORKS | number << 16, 16),
            Shape::Mixed | Shape::Small => (address(CLIENT, number) & !0xff, 24),
        };
        let first = std::net::Ipv4Addr::from(first);
        text += &format!(
            "\n[[network]]\nname = \"clients-{number}\"\ncidr = \"{first}/{length}\"\nroles = [\"parallels-client\"]\n"
        );
    }
    for number in 0..more {
        let address = std::net::Ipv4Addr::from(0x0b00_0000 | number);
        let role = FARM[number as usize % FARM.len()].role;
        text += &format!(
            "\n[[host]]\nname = \"more-{number}\"\naddresses = [\"{address}\"]\nroles = [\"{role}\"]\n"
        );
    }
    text
}

/// The first address of the networks in hostile traffic. Each network is a /16.
const LARGE_NETWORKS: u32 = 0x3c00_0000;

/// The server ports of hostile traffic. Some are in the matrix, others are not.
const PORTS: [u16; 40] = [
    22, 25, 53, 80, 88, 123, 135, 139, 389, 443, 445, 514, 636, 1433, 1812, 3128, 3306, 3389, 5432,
    5985, 6379, 8080, 8443, 9000, 9200, 9300, 20_000, 20_001, 20_002, 20_003, 20_009, 20_010,
    20_020, 20_030, 30_004, 30_005, 30_006, 30_009, 30_010, 50_051,
];

/// Returns the address in fd00:20::/96 that represents an IPv4 address.
fn mapped(v4: u32) -> u128 {
    0xfd00_0020_u128 << 96 | u128::from(v4)
}

struct Flow {
    client: u32,
    server: u32,
    sport: u16,
    port: u16,
    protocol: u8,
    v6: bool,
    says: Says,
    /// The number of packets sent so far.
    sent: u32,
    /// The number of bytes that each side has sent.
    bytes: [u32; 2],
}

impl Flow {
    fn conversation(&self) -> (u32, u32, u8, u16, bool) {
        (self.client, self.server, self.protocol, self.port, self.v6)
    }
}

struct MergedFlows {
    list: Vec<Flow>,
}

impl MergedFlows {
    fn new(number: u32, random: &mut Random) -> Self {
        let mut known = HashSet::new();
        let mut list = Vec::new();
        while list.len() < number as usize {
            let mut kind = random.below(100);
            let (_, from, to, protocol, port, says) = *TRAFFIC
                .iter()
                .find(|(share, ..)| {
                    let this = kind < *share;
                    kind = kind.wrapping_sub(*share);
                    this
                })
                .expect("the shares are a hundred");
            let client = address(from, random.below(40_000));
            let server = address(to, random.below(40_000));
            let sport = 32_768 + random.below(28_000) as u16;
            // Client networks are listed only for IPv4.
            let v6 = from != CLIENT && random.below(10) == 0;
            if known.insert((client, server, sport, port, protocol, v6)) {
                list.push(Flow {
                    client,
                    server,
                    sport,
                    port,
                    protocol,
                    v6,
                    says,
                    sent: 0,
                    bytes: [0; 2],
                });
            }
        }
        Self { list }
    }

    /// Returns flows between random hosts of the farm at random ports. One end in five is a random
    /// address in a listed network instead of a host.
    fn hostile(number: u32, random: &mut Random) -> Self {
        let hosts: u32 = FARM.iter().map(|group| group.hosts).sum();
        let any = |random: &mut Random| {
            if random.below(5) == 0 {
                return LARGE_NETWORKS | random.below(NETWORKS) << 16 | random.below(65_536);
            }
            let mut host = random.below(hosts);
            let group = FARM.iter().position(|group| {
                let here = host < group.hosts;
                host -= if here { 0 } else { group.hosts };
                here
            });
            address(group.unwrap_or_default(), host)
        };
        let mut known = HashSet::new();
        let mut list = Vec::new();
        while list.len() < number as usize {
            let client = any(random);
            let server = any(random);
            let sport = 32_768 + random.below(28_000) as u16;
            let port = PORTS[random.below(PORTS.len() as u32) as usize];
            let protocol = if random.below(4) == 0 { UDP } else { TCP };
            if client != server && known.insert((client, server, sport, port, protocol)) {
                let v6 = false;
                let says = Says::Nothing;
                let sent = 0;
                let bytes = [0; 2];
                list.push(Flow { client, server, sport, port, protocol, v6, says, sent, bytes });
            }
        }
        Self { list }
    }
}

struct Capture {
    out: BufWriter<File>,
    pcapng: bool,
    packets: u64,
    written: u64,
    frame: Vec<u8>,
}

impl Capture {
    fn create(path: &Path, pcapng: bool, packets: u64) -> io::Result<Self> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let words: &[u32] = if pcapng {
            // A section header of unspecified section length, and an interface whose timestamps are
            // in microseconds.
            &[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28, 1, 20, 1, 262_144, 20]
        } else {
            &[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 262_144, 1]
        };
        for word in words {
            out.write_all(&word.to_le_bytes())?;
        }
        Ok(Self { out, pcapng, packets, written: 0, frame: Vec::new() })
    }

    /// Writes the next packet of a flow. `size` returns the payload length in bytes, which applies
    /// unless the packet has a fixed payload, such as a handshake or a DNS message. Other UDP
    /// payloads have at least 4 and at most 1,200 bytes.
    fn frame(
        &mut self,
        flows: &mut MergedFlows,
        flow: usize,
        random: &mut Random,
        size: impl FnOnce(&mut Random) -> usize,
    ) -> io::Result<()> {
        let flow = &mut flows.list[flow];
        let step = flow.sent;
        flow.sent += 1;
        let side = usize::from(step % 2 == 1);
        let size = size(random);
        let (flags, payload) = match (flow.protocol, step, flow.says) {
            (TCP, 0, _) => (0x02, Vec::new()),
            (TCP, 1, _) => (0x12, Vec::new()),
            (TCP, 2, _) => (0x10, Vec::new()),
            (TCP, 4, Says::Tls) if size > 0 => (0x18, hello(&name("www", flow.server % 500))),
            (UDP, _, Says::Dns) => (0, lookup(flow, side)),
            (UDP, ..) => (0, vec![0xa5; size.clamp(4, 1200)]),
            _ => (if size > 0 { 0x18 } else { 0x10 }, vec![0xa5; size]),
        };
        let sent = flow.bytes;
        flow.bytes[side] += payload.len() as u32 + u32::from(flags & 0x02 != 0);
        build(&mut self.frame, flow, side, flags, sent, &payload);
        let micros = self.written * LASTS * 1_000_000 / self.packets;
        self.written += 1;
        let length = self.frame.len() as u32;
        let micros = 1_780_000_000_000_000 + micros;
        let padded = self.frame.len().next_multiple_of(4);
        let head: &[u32] = if self.pcapng {
            &[6, 32 + padded as u32, 0, (micros >> 32) as u32, micros as u32, length, length]
        } else {
            &[(micros / 1_000_000) as u32, (micros % 1_000_000) as u32, length, length]
        };
        for word in head {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(&self.frame)?;
        if self.pcapng {
            self.out.write_all(&[0; 3][..padded - self.frame.len()])?;
            self.out.write_all(&(32 + padded as u32).to_le_bytes())?;
        }
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Builds the Ethernet frame of a packet from `side` of a flow. `sent` is the number of bytes that
/// each side has sent before, which determines the TCP sequence numbers.
fn build(frame: &mut Vec<u8>, flow: &Flow, side: usize, flags: u8, sent: [u32; 2], payload: &[u8]) {
    let ends = [(flow.client, flow.sport), (flow.server, flow.port)];
    let (src, sport) = ends[side];
    let (dst, dport) = ends[1 - side];
    let header = if flow.protocol == TCP { 20 } else { 8 };
    let segment = header + payload.len();
    frame.clear();
    let mac = |address: u32| [2, 0, address.to_be_bytes()[0], address.to_be_bytes()[1], 0, 1];
    frame.extend(mac(dst));
    frame.extend(mac(src));
    if flow.v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend((segment as u16).to_be_bytes());
        frame.extend([flow.protocol, 64]);
        frame.extend(mapped(src).to_be_bytes());
        frame.extend(mapped(dst).to_be_bytes());
    } else {
        let start = frame.len() + 2;
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + segment as u16).to_be_bytes());
        frame.extend(((flow.sent as u16) ^ flow.sport).to_be_bytes());
        frame.extend([0x40, 0, 64, flow.protocol, 0, 0]);
        frame.extend(src.to_be_bytes());
        frame.extend(dst.to_be_bytes());
        let words = frame[start..].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = words.sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[start + 10..start + 12].copy_from_slice(&sum.to_be_bytes());
    }
    frame.extend(sport.to_be_bytes());
    frame.extend(dport.to_be_bytes());
    if flow.protocol == TCP {
        frame.extend(sent[side].to_be_bytes());
        frame.extend(sent[1 - side].to_be_bytes());
        frame.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    } else {
        frame.extend((segment as u16).to_be_bytes());
        frame.extend([0, 0]);
    }
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
}

/// Returns a DNS query for the name of a session host if `side` is 0, otherwise the answer.
fn lookup(flow: &Flow, side: usize) -> Vec<u8> {
    let host = u32::from(flow.sport);
    let mut text =
        vec![0x12, 0x34, if side == 0 { 1 } else { 0x81 }, 0, 0, 1, 0, side as u8, 0, 0, 0, 0];
    let label = name("rdsh", host % 880);
    text.push(label.len() as u8);
    text.extend(label.as_bytes());
    text.extend(b"\x04farm\x04test\0\0\x01\0\x01");
    if side == 1 {
        text.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4]);
        text.extend(address(SESSION_HOST, host % 880).to_be_bytes());
    }
    text
}

/// Returns a TLS 1.2 ClientHello with a server name.
fn hello(host: &str) -> Vec<u8> {
    let host = host.as_bytes();
    let mut names = vec![0, 0];
    names.extend((host.len() as u16 + 5).to_be_bytes());
    names.extend((host.len() as u16 + 3).to_be_bytes());
    names.push(0);
    names.extend((host.len() as u16).to_be_bytes());
    names.extend(host);
    let mut body = vec![3, 3];
    body.extend([0x11; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend((names.len() as u16).to_be_bytes());
    body.extend(names);
    let mut text = vec![0x16, 3, 1];
    text.extend((body.len() as u16 + 4).to_be_bytes());
    text.extend([1, 0]);
    text.extend((body.len() as u16).to_be_bytes());
    text.extend(body);
    text
}
