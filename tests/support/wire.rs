//! Captures made packet by packet.

use std::net::Ipv4Addr;

/// A capture in the making.
#[derive(Default, Clone)]
pub struct Wire(pub Vec<(u64, Vec<u8>)>);

pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

impl Wire {
    pub fn ip(&mut self, ms: u64, from: &str, to: &str, protocol: u8, body: &[u8]) {
        let ip = |text: &str| text.parse::<Ipv4Addr>().expect("an address").octets();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
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
        body.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 4, 0, 0, 0, 0, 0]);
        body.resize(20 + payload, 0);
        self.ip(ms, from.0, to.0, 6, &body);
    }

    pub fn udp(&mut self, ms: u64, from: (&str, u16), to: (&str, u16)) {
        let mut body = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        body.extend([0, 12, 0, 0, 1, 2, 3, 4]);
        self.ip(ms, from.0, to.0, 17, &body);
    }

    /// A connection with data both ways.
    pub fn connect(&mut self, ms: u64, from: (&str, u16), to: (&str, u16)) {
        self.session(ms, from, to, 0);
    }

    /// A connection that goes on for some seconds, a kilobyte each way a second.
    pub fn session(&mut self, ms: u64, from: (&str, u16), to: (&str, u16), seconds: u64) {
        self.tcp(ms, from, to, SYN, 0);
        self.tcp(ms + 1, to, from, SYN | ACK, 0);
        self.tcp(ms + 2, from, to, ACK, 0);
        for second in 0..=seconds {
            self.tcp(ms + 3 + second * 1000, from, to, ACK, 1000);
            self.tcp(ms + 4 + second * 1000, to, from, ACK, 1000);
        }
    }

    /// A SYN that is repeated as a kernel does, at 1, 3 and 7 seconds.
    pub fn knock(&mut self, ms: u64, from: (&str, u16), to: (&str, u16)) {
        for later in [0, 1000, 3000, 7000] {
            self.tcp(ms + later, from, to, SYN, 0);
        }
    }

    pub fn file(&self) -> Vec<u8> {
        let mut frames: Vec<_> = self.0.iter().collect();
        frames.sort_by_key(|f| f.0);
        let mut bytes: Vec<u8> = [0xa1b2_c3d4u32, 2 | 4 << 16, 0, 0, 65_535, 1]
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect();
        for (ms, frame) in frames {
            let length = frame.len() as u32;
            let words =
                [1_780_000_000 + (ms / 1000) as u32, (ms % 1000 * 1000) as u32, length, length];
            bytes.extend(words.iter().flat_map(|w| w.to_le_bytes()));
            bytes.extend(frame);
        }
        bytes
    }
}
