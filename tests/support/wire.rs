//! Builds captures packet by packet.

use std::net::Ipv4Addr;

/// The frames of a capture, each with its time in milliseconds.
#[derive(Default, Clone)]
pub struct Wire(pub Vec<(u64, Vec<u8>)>);

pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

impl Wire {
    pub fn ip(&mut self, ms: u64, from: &str, to: &str, protocol: u8, body: &[u8]) {
        let ip = |text: &str| text.parse::<Ipv4Addr>().expect("an address").octets();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        // Loopback packets have all-zero MAC addresses.
        if from.starts_with("127.") && to.starts_with("127.") {
            frame[..12].fill(0);
        }
        frame.extend([0x45, 0]);
        frame.extend(((20 + body.len()) as u16).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend(ip(from));
        frame.extend(ip(to));
        frame.extend(body);
        self.0.push((ms, frame));
    }

    pub fn tcp(&mut self, ms: u64, from: (&str, u16), to: (&str, u16), flags: u8, payload: usize) {
        let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        // Both initial sequence numbers are 1, so that each SYN-ACK acknowledges its SYN.
        let (seq, acked) = match flags {
            SYN => (1u32, 0u32),
            flags if flags & SYN != 0 => (1, 2),
            flags if flags & RST != 0 && flags & ACK != 0 => (0, 2),
            _ => (2, if flags & ACK != 0 { 2 } else { 0 }),
        };
        body.extend([seq.to_be_bytes(), acked.to_be_bytes()].concat());
        body.extend([0x50, flags, 4, 0, 0, 0, 0, 0]);
        body.resize(20 + payload, 0);
        self.ip(ms, from.0, to.0, 6, &body);
    }

    /// Appends a TCP segment with these sequence and acknowledgement numbers.
    pub fn segment(
        &mut self,
        ms: u64,
        from: (&str, u16),
        to: (&str, u16),
        flags: u8,
        (seq, acked): (u32, u32),
        payload: usize,
    ) {
        let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        body.extend([seq.to_be_bytes(), acked.to_be_bytes()].concat());
        body.extend([0x50, flags, 4, 0, 0, 0, 0, 0]);
        body.resize(20 + payload, 0);
        self.ip(ms, from.0, to.0, 6, &body);
    }

    /// Appends a connection with a handshake and data in both directions. `isn` is the client's
    /// initial sequence number.
    pub fn opened(&mut self, ms: u64, from: (&str, u16), to: (&str, u16), isn: u32) {
        let a = isn;
        let b = isn.wrapping_mul(7);
        self.segment(ms, from, to, SYN, (a, 0), 0);
        self.segment(ms + 1, to, from, SYN | ACK, (b, a + 1), 0);
        self.segment(ms + 2, from, to, ACK, (a + 1, b + 1), 0);
        self.segment(ms + 3, from, to, ACK, (a + 1, b + 1), 50);
        self.segment(ms + 4, to, from, ACK, (b + 1, a + 51), 50);
    }

    /// Sets the last byte of the source MAC address and the TTL of all frames from index `first`.
    pub fn sent_by(&mut self, first: usize, mac: u8, ttl: u8) {
        for (_, frame) in &mut self.0[first..] {
            frame[11] = mac;
            frame[22] = ttl;
        }
    }

    /// Encapsulates all frames from index `first` in VXLAN between two addresses.
    pub fn tunnel(&mut self, first: usize, from: &str, to: &str) {
        for (ms, inner) in self.0.split_off(first) {
            let body = [
                &[0xc0, 0, 0x12, 0xb5][..],
                &(16 + inner.len() as u16).to_be_bytes(),
                &[0, 0, 8, 0, 0, 0, 0, 0, 100, 0],
                &inner,
            ]
            .concat();
            self.ip(ms, from, to, 17, &body);
        }
    }

    /// Appends a frame with this EtherType. `from` and `to` are the last bytes of the MAC
    /// addresses.
    pub fn ether(&mut self, ms: u64, from: u8, to: u8, ethertype: u16, payload: &[u8]) {
        let mut frame = vec![2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from];
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        self.0.push((ms, frame));
    }

    /// Appends a TCP segment with this data and with these sequence and acknowledgement numbers.
    pub fn data(
        &mut self,
        ms: u64,
        from: (&str, u16),
        to: (&str, u16),
        (seq, acked): (u32, u32),
        data: &[u8],
    ) {
        let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        body.extend([seq.to_be_bytes(), acked.to_be_bytes()].concat());
        body.extend([0x50, ACK | 8, 4, 0, 0, 0, 0, 0]);
        body.extend(data);
        self.ip(ms, from.0, to.0, 6, &body);
    }

    /// Appends a connection whose client begins with `first`, in segments of at most `most` bytes.
    pub fn start(
        &mut self,
        ms: u64,
        from: (&str, u16),
        to: (&str, u16),
        first: &[u8],
        most: usize,
    ) {
        self.tcp(ms, from, to, SYN, 0);
        self.tcp(ms + 1, to, from, SYN | ACK, 0);
        self.tcp(ms + 2, from, to, ACK, 0);
        for (number, part) in first.chunks(most).enumerate() {
            let at = ((number * most) as u32 + 2, 2);
            self.data(ms + 3 + number as u64, from, to, at, part);
        }
        self.data(ms + 30, to, from, (2, first.len() as u32 + 2), &[0x16, 3, 3, 0, 1, 2]);
    }

    /// Appends a DNS query for the first name, and its answer, in which each name is an alias of
    /// the next and the last one has the address.
    pub fn lookup(&mut self, ms: u64, client: &str, resolver: &str, names: &[&str], address: &str) {
        let [query, answer] = dns(ms as u16, names, address);
        self.datagram(ms, (client, 40_000), (resolver, 53), &query);
        self.datagram(ms + 1, (resolver, 53), (client, 40_000), &answer);
    }

    pub fn datagram(&mut self, ms: u64, from: (&str, u16), to: (&str, u16), data: &[u8]) {
        let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        body.extend((8 + data.len() as u16).to_be_bytes());
        body.extend([0, 0]);
        body.extend(data);
        self.ip(ms, from.0, to.0, 17, &body);
    }

    pub fn udp(&mut self, ms: u64, from: (&str, u16), to: (&str, u16)) {
        let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        body.extend([0, 12, 0, 0, 1, 2, 3, 4]);
        self.ip(ms, from.0, to.0, 17, &body);
    }

    /// Appends a connection with data in both directions.
    pub fn connect(&mut self, ms: u64, from: (&str, u16), to: (&str, u16)) {
        self.session(ms, from, to, 0);
    }

    /// Appends a connection that lasts this many seconds, with 1,000 bytes per second in each
    /// direction.
    pub fn session(&mut self, ms: u64, from: (&str, u16), to: (&str, u16), seconds: u64) {
        self.tcp(ms, from, to, SYN, 0);
        self.tcp(ms + 1, to, from, SYN | ACK, 0);
        self.tcp(ms + 2, from, to, ACK, 0);
        for second in 0..=seconds {
            self.tcp(ms + 3 + second * 1000, from, to, ACK, 1000);
            self.tcp(ms + 4 + second * 1000, to, from, ACK, 1000);
        }
    }

    /// Appends a SYN and its retransmissions after 1, 3 and 7 seconds, as a kernel sends them.
    pub fn knock(&mut self, ms: u64, from: (&str, u16), to: (&str, u16)) {
        for later in [0, 1000, 3000, 7000] {
            self.tcp(ms + later, from, to, SYN, 0);
        }
    }

    /// Appends a broadcast ARP reply, in which `mac` (the last byte) claims the address.
    pub fn claim(&mut self, ms: u64, address: &str, mac: u8) {
        let ip = address.parse::<std::net::Ipv4Addr>().expect("an address").octets();
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, mac, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend([2, 0, 0, 0, 0, mac]);
        frame.extend(ip);
        frame.extend([0xff; 6]);
        frame.extend(ip);
        self.0.push((ms, frame));
    }

    /// Appends a neighbour advertisement to all nodes, in which `mac` (the last byte) claims the
    /// address.
    pub fn advertisement(&mut self, ms: u64, address: &str, mac: u8) {
        let ip = |text: &str| text.parse::<std::net::Ipv6Addr>().expect("an address").octets();
        let mut frame = vec![0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, mac, 0x86, 0xdd];
        frame.extend([0x60, 0, 0, 0, 0, 32, 58, 255]);
        frame.extend([ip(address), ip("ff02::1")].concat());
        frame.extend([136, 0, 0, 0, 0x20, 0, 0, 0]);
        frame.extend(ip(address));
        frame.extend([2, 1, 2, 0, 0, 0, 0, mac]);
        self.0.push((ms, frame));
    }

    pub fn file(&self) -> Vec<u8> {
        self.truncated(usize::MAX)
    }

    /// Returns a capture that keeps `snaplen` bytes of each frame.
    pub fn truncated(&self, snaplen: usize) -> Vec<u8> {
        let mut frames: Vec<_> = self.0.iter().collect();
        frames.sort_by_key(|f| f.0);
        let mut bytes: Vec<u8> = [0xa1b2_c3d4u32, 2 | 4 << 16, 0, 0, 65_535, 1]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        for (ms, frame) in frames {
            let captured = &frame[..frame.len().min(snaplen)];
            let lengths = [captured.len() as u32, frame.len() as u32];
            let time = [1_780_000_000 + (ms / 1000) as u32, (ms % 1000 * 1000) as u32];
            let words = [time, lengths].concat();
            bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
            bytes.extend(captured);
        }
        bytes
    }
}

/// Returns a DNS query and its answer.
pub fn dns(id: u16, names: &[&str], address: &str) -> [Vec<u8>; 2] {
    let name = |text: &str| -> Vec<u8> {
        let labels = text.split('.').flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat());
        labels.chain([0]).collect()
    };
    let record = |owner: &str, kind: u8, data: &[u8]| {
        [&name(owner)[..], &[0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8], data].concat()
    };
    let address = address.parse::<Ipv4Addr>().expect("an address").octets();
    let mut records: Vec<u8> =
        names.windows(2).flat_map(|pair| record(pair[0], 5, &name(pair[1]))).collect();
    records.extend(record(names[names.len() - 1], 1, &address));
    let message = |flags: [u8; 2], count: u8, records: &[u8]| {
        let header = [0, 1, 0, count, 0, 0, 0, 0];
        [&id.to_be_bytes()[..], &flags, &header, &name(names[0]), &[0, 1, 0, 1], records].concat()
    };
    [message([1, 0], 0, &[]), message([0x81, 0x80], names.len() as u8, &records)]
}

/// Returns a TLS 1.3 ClientHello. An empty `name` leaves out the server name. `size` bytes of
/// padding precede the server name. `hidden` adds the extension `encrypted_client_hello`.
pub fn client_hello(name: &str, hidden: bool, size: usize) -> Vec<u8> {
    let sized = |bytes: &[u8], width: usize| {
        let length = (bytes.len() as u32).to_be_bytes();
        [&length[4 - width..], bytes].concat()
    };
    let extension = |kind: u16, data: &[u8]| [kind.to_be_bytes().to_vec(), sized(data, 2)].concat();
    let mut extensions = extension(21, &vec![0; size]);
    if hidden {
        extensions.extend(extension(0xfe0d, &[0; 40]));
    }
    if !name.is_empty() {
        let entry = [vec![0], sized(name.as_bytes(), 2)].concat();
        extensions.extend(extension(0, &sized(&entry, 2)));
    }
    extensions.extend(extension(43, &[2, 3, 4]));
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(
        [sized(&[], 1), sized(&[0x13, 0x01], 2), sized(&[0], 1), sized(&extensions, 2)].concat(),
    );
    let message = [vec![1], sized(&body, 3)].concat();
    [vec![0x16, 3, 1], sized(&message, 2)].concat()
}
