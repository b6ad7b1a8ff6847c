//! Encapsulates Ethernet frames in every link type and every tunnel.

/// An Ethernet frame split into its parts.
#[derive(Clone, Copy)]
pub struct FrameParts<'a> {
    pub whole: &'a [u8],
    pub to: &'a [u8],
    pub from: &'a [u8],
    pub kind: [u8; 2],
    pub payload: &'a [u8],
    /// The length of the whole frame on the wire, in bytes. It exceeds the captured bytes if the
    /// capture truncated the frame.
    pub wire: usize,
}

impl<'a> FrameParts<'a> {
    pub fn new(whole: &'a [u8], wire: usize) -> Self {
        let kind = [whole[12], whole[13]];
        Self { whole, to: &whole[..6], from: &whole[6..12], kind, payload: &whole[14..], wire }
    }

    fn v4(&self) -> bool {
        self.kind == [0x08, 0x00]
    }

    fn is_ip(&self) -> bool {
        self.v4() || self.kind == [0x86, 0xdd]
    }

    /// Returns the number of bytes on the wire after the Ethernet header.
    fn rest(&self) -> usize {
        self.wire - 14
    }

    /// Returns `header` followed by the payload, or `None` if the payload is not IP.
    fn ip(&self, header: &[u8]) -> Option<Vec<u8>> {
        self.is_ip().then(|| [header, self.payload].concat())
    }

    /// Returns `v4` or `v6`, depending on the payload's IP version, followed by the payload.
    fn versioned(&self, v4: &[u8], v6: &[u8]) -> Option<Vec<u8>> {
        self.ip(if self.v4() { v4 } else { v6 })
    }

    /// Returns an Ethernet frame with the same MAC addresses, this EtherType and this payload.
    fn ethernet(&self, kind: u16, payload: &[&[u8]]) -> Option<Vec<u8>> {
        Some([self.to, self.from, &kind.to_be_bytes(), &payload.concat()].concat())
    }
}

/// A link type or tunnel, with the function that encapsulates frames in it.
pub struct Wrapper {
    pub name: &'static str,
    pub link: u16,
    /// Returns the encapsulated frame, or `None` if the encapsulation cannot carry it.
    pub wrap: fn(FrameParts<'_>) -> Option<Vec<u8>>,
    /// Describes the evidence that the encapsulation loses.
    pub loses: &'static str,
}

/// The MAC addresses of two machines of the underlay network, destination first.
const UNDERLAY: &[u8] = &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

fn sum16(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Returns an Ethernet frame with an IPv4 packet from 192.0.2.1 to 192.0.2.2. `wire` is the length
/// of `inner` on the wire, in bytes.
fn over_ipv4(protocol: u8, header: &[u8], inner: &[u8], wire: usize) -> Vec<u8> {
    let total = (20 + header.len() + wire) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(total.to_be_bytes());
    ip.extend([0, 7, 0, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    let sum = sum16(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    [UNDERLAY, &[0x08, 0x00], &ip, header, inner].concat()
}

/// Returns an Ethernet frame with an IPv6 packet from 2001:db8::1 to 2001:db8::2. `wire` is the
/// length of `inner` on the wire, in bytes.
fn over_ipv6(protocol: u8, header: &[u8], inner: &[u8], wire: usize) -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend(((header.len() + wire) as u16).to_be_bytes());
    ip.extend([protocol, 64]);
    for last in [1, 2] {
        ip.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    [UNDERLAY, &[0x86, 0xdd], &ip, header, inner].concat()
}

/// Returns a UDP header with destination port `port` and no checksum, followed by the tunnel
/// header.
fn udp(port: u16, header: &[u8], wire: usize) -> Vec<u8> {
    let mut udp = 50_000u16.to_be_bytes().to_vec();
    udp.extend(port.to_be_bytes());
    udp.extend(((8 + header.len() + wire) as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(header);
    udp
}

/// Returns the whole Ethernet frame in a tunnel over UDP and IPv4.
fn frame_in_udp(frame: FrameParts<'_>, port: u16, header: &[u8]) -> Option<Vec<u8>> {
    let header = udp(port, header, frame.wire);
    Some(over_ipv4(17, &header, frame.whole, frame.wire))
}

/// Returns the whole Ethernet frame in a GRE tunnel over IPv4.
fn frame_in_gre(frame: FrameParts<'_>, header: &[u8]) -> Option<Vec<u8>> {
    Some(over_ipv4(47, header, frame.whole, frame.wire))
}

fn packet_type(destination: &[u8]) -> u8 {
    match destination {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => 1,
        [first, ..] if first & 1 == 1 => 2,
        _ => 3,
    }
}

/// Returns an IEEE 802.11 data frame from an access point, or a QoS data frame if `quality` is set.
fn wlan(frame: FrameParts<'_>, quality: bool) -> Vec<u8> {
    let mut bytes = vec![if quality { 0x88 } else { 0x08 }, 0x02, 0, 0];
    bytes.extend([frame.to, &[2, 0, 0, 0, 0, 9], frame.from, &[0x10, 0]].concat());
    if quality {
        bytes.extend([0, 0]);
    }
    bytes.extend([0xaa, 0xaa, 0x03, 0, 0, 0]);
    bytes.extend(frame.kind);
    bytes.extend(frame.payload);
    bytes
}

fn snap(frame: FrameParts<'_>) -> Vec<u8> {
    [&[0xaa, 0xaa, 0x03, 0, 0, 0], &frame.kind[..], frame.payload].concat()
}

const MACS: &str = "hardware addresses; frames without IP packets";
const SENDERS: &str = "the destination's hardware address";
const UNDER: &str = "hardware addresses of the inner packet; non-IP traffic";
pub const NOTHING: &str = "nothing";

macro_rules! wrappers {
    ($($name:literal, $link:literal, $loses:expr, |$frame:ident| $wrap:expr;)+) => {
        pub const WRAPPERS: &[Wrapper] = &[$(Wrapper {
            name: $name, link: $link, loses: $loses, wrap: |$frame| $wrap,
        },)+];
    };
}

wrappers! {
    // Link types.
    "linux-cooked", 113, SENDERS, |f| {
        let header = [&[0, packet_type(f.to), 0, 1, 0, 6], f.from, &[0, 0], &f.kind].concat();
        Some([&header, f.payload].concat())
    };
    "linux-cooked-2", 276, SENDERS, |f| {
        let middle = [0, 0, 0, 0, 0, 3, 0, 1, packet_type(f.to), 6];
        Some([&f.kind[..], &middle, f.from, &[0, 0], f.payload].concat())
    };
    "raw-ip", 101, MACS, |f| f.ip(&[]);
    "raw-ip-bsd", 12, MACS, |f| f.ip(&[]);
    "null-little-endian", 0, MACS, |f| f.versioned(&[2, 0, 0, 0], &[30, 0, 0, 0]);
    "null-big-endian", 0, MACS, |f| f.versioned(&[0, 0, 0, 2], &[0, 0, 0, 24]);
    "npcap-loopback", 0, MACS, |f| f.versioned(&[2, 0, 0, 0], &[23, 0, 0, 0]);
    "openbsd-loopback", 108, MACS, |f| f.versioned(&[0, 0, 0, 2], &[0, 0, 0, 24]);
    "ppp", 9, MACS, |f| f.versioned(&[0xff, 3, 0, 0x21], &[0xff, 3, 0, 0x57]);
    "ppp-compressed", 9, MACS, |f| f.versioned(&[0x21], &[0x57]);
    "ppp-hdlc", 50, MACS, |f| f.versioned(&[0xff, 3, 0, 0x21], &[0xff, 3, 0, 0x57]);
    "ppp-direction", 204, MACS, |f| f.versioned(&[1, 0xff, 3, 0, 0x21], &[1, 0xff, 3, 0, 0x57]);
    "pppoe-link", 51, MACS, |f| {
        let length = ((f.rest() + 2) as u16).to_be_bytes();
        let header = [0x11, 0, 0, 5, length[0], length[1], 0];
        f.versioned(&[&header[..], &[0x21]].concat(), &[&header[..], &[0x57]].concat())
    };
    "cisco-hdlc", 104, MACS, |f| f.ip(&[0x0f, 0, f.kind[0], f.kind[1]]);
    "wlan", 105, NOTHING, |f| Some(wlan(f, false));
    "wlan-quality", 105, NOTHING, |f| Some(wlan(f, true));
    "radiotap", 127, NOTHING, |f| {
        // The header contains a timestamp and flags. One flag indicates a frame check sequence,
        // which follows if the whole frame was captured.
        let header = [0, 0, 17, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0x10];
        let fcs: &[u8] = if f.whole.len() == f.wire { &[1, 2, 3, 4] } else { &[] };
        Some([&header[..], &wlan(f, true), fcs].concat())
    };
    "radiotap-padded", 127, NOTHING, |f| {
        // The flags indicate that the 26-byte 802.11 header is padded to a multiple of four bytes.
        let frame = wlan(f, true);
        Some([&[0, 0, 9, 0, 2, 0, 0, 0, 0x20][..], &frame[..26], &[0, 0], &frame[26..]].concat())
    };
    "prism", 119, NOTHING, |f| {
        let mut header = vec![0; 144];
        header[..8].copy_from_slice(&[0x44, 0, 0, 0, 144, 0, 0, 0]);
        Some([header, wlan(f, false)].concat())
    };
    "avs", 163, NOTHING, |f| {
        let mut header = vec![0; 64];
        header[..8].copy_from_slice(&[0x80, 0x21, 0x10, 0x01, 0, 0, 0, 64]);
        Some([header, wlan(f, false)].concat())
    };
    // Tags and headers in or around an Ethernet frame.
    "snap", 1, NOTHING, |f| {
        // The length field of IEEE 802.3 must not exceed 1,500. Longer packets can only be sent as
        // Ethernet II.
        let length = f.rest() + 8;
        if length > 1500 { Some(f.whole.to_vec()) } else { f.ethernet(length as u16, &[&snap(f)]) }
    };
    "vlan", 1, NOTHING, |f| f.ethernet(0x8100, &[&[0, 20], &f.kind, f.payload]);
    "qinq", 1, NOTHING, |f| {
        f.ethernet(0x88a8, &[&[0, 100, 0x81, 0, 0, 20], &f.kind, f.payload])
    };
    "mpls", 1, MACS, |f| {
        let labels = [0, 1, 0, 64, 0, 2, 1, 64];
        f.is_ip().then(|| f.ethernet(0x8847, &[&labels, f.payload]))?
    };
    "mpls-pseudowire", 1, NOTHING, |f| {
        Some([UNDERLAY, &[0x88, 0x47, 0, 1, 1, 64, 0, 0, 0, 0], f.whole].concat())
    };
    "macsec-clear", 1, NOTHING, |f| {
        let tag = [0x20, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0, 1];
        let check: &[u8] = if f.whole.len() == f.wire { &[9; 16] } else { &[] };
        f.ethernet(0x88e5, &[&tag, &f.kind, f.payload, check])
    };
    "pppoe", 1, MACS, |f| {
        let length = ((f.rest() + 2) as u16).to_be_bytes();
        let protocol = if f.v4() { 0x21 } else { 0x57 };
        let header = [0x11, 0, 0, 5, length[0], length[1], 0, protocol];
        f.is_ip().then(|| f.ethernet(0x8864, &[&header, f.payload]))?
    };
    "provider-backbone", 1, NOTHING, |f| {
        Some([UNDERLAY, &[0x88, 0xe7, 0, 0, 0, 9], f.whole].concat())
    };
    "bridge-port-extension", 1, NOTHING, |f| {
        f.ethernet(0x893f, &[&[0x10, 0, 0, 0xd3, 0, 0], &f.kind, f.payload])
    };
    "vn-tag", 1, NOTHING, |f| f.ethernet(0x8926, &[&[0x80, 1, 0, 2], &f.kind, f.payload]);
    "fabricpath", 1, NOTHING, |f| Some([UNDERLAY, &[0x89, 0x03, 0, 9], f.whole].concat());
    "vlan-9200", 1, NOTHING, |f| f.ethernet(0x9200, &[&[0, 20], &f.kind, f.payload]);
    "vlan-9300", 1, NOTHING, |f| f.ethernet(0x9300, &[&[0, 20], &f.kind, f.payload]);
    "cisco-metadata", 1, NOTHING, |f| f.ethernet(0x8909, &[&[1, 1, 0, 1, 0, 7], &f.kind, f.payload]);
    "cisco-timestamp", 1, NOTHING, |f| {
        f.ethernet(0x8988, &[&[0, 0, 1, 2, 3, 4], &f.kind, f.payload])
    };
    "arista-timestamp", 1, NOTHING, |f| {
        f.ethernet(0xd28b, &[&[0, 1, 0, 0x10, 0, 0, 0, 9, 0, 0, 0, 1], &f.kind, f.payload])
    };
    "arista-timestamp-short", 1, NOTHING, |f| {
        f.ethernet(0xd28b, &[&[0, 1, 1, 0x20, 0, 9, 0, 0, 0, 1], &f.kind, f.payload])
    };
    "marvell-ethertype", 1, NOTHING, |f| {
        f.ethernet(0xdada, &[&[0, 0, 0xc1, 8, 0, 20], &f.kind, f.payload])
    };
    "broadcom-ethertype", 1, NOTHING, |f| {
        f.ethernet(0x8874, &[&[0, 0, 0, 4], &f.kind, f.payload])
    };
    "marvell-tag", 284, NOTHING, |f| {
        Some([f.to, f.from, &[0xe1, 8, 0, 20], &f.kind, f.payload].concat())
    };
    "marvell-ethertype-link", 285, NOTHING, |f| {
        Some([f.to, f.from, &[0xda, 0xda, 0, 0, 0xc1, 8, 0, 20], &f.kind, f.payload].concat())
    };
    "broadcom-tag", 281, NOTHING, |f| {
        Some([f.to, f.from, &[0, 0, 0, 4], &f.kind, f.payload].concat())
    };
    "broadcom-tag-before", 282, NOTHING, |f| Some([&[0, 0, 0, 4], f.whole].concat());
    "service-chain", 1, NOTHING, |f| {
        Some([UNDERLAY, &[0x89, 0x4f, 0, 2, 2, 3, 0, 0, 9, 1], f.whole].concat())
    };
    // Tunnels.
    "ip-in-ipv4", 1, UNDER, |f| {
        let protocol = if f.v4() { 4 } else { 41 };
        f.is_ip().then(|| over_ipv4(protocol, &[], f.payload, f.rest()))
    };
    "ip-in-ipv6", 1, UNDER, |f| {
        let protocol = if f.v4() { 4 } else { 41 };
        f.is_ip().then(|| over_ipv6(protocol, &[], f.payload, f.rest()))
    };
    "gre", 1, UNDER, |f| {
        let header = [0, 0, f.kind[0], f.kind[1]];
        f.is_ip().then(|| over_ipv4(47, &header, f.payload, f.rest()))
    };
    "gre-key-sequence", 1, UNDER, |f| {
        let header = [0x30, 0, f.kind[0], f.kind[1], 0, 0, 0, 77, 0, 0, 0, 1];
        f.is_ip().then(|| over_ipv4(47, &header, f.payload, f.rest()))
    };
    "gre-checksum", 1, UNDER, |f| {
        let header = [0x80, 0, f.kind[0], f.kind[1], 0, 0, 0, 0];
        f.is_ip().then(|| over_ipv6(47, &header, f.payload, f.rest()))
    };
    "gre-ethernet", 1, NOTHING, |f| frame_in_gre(f, &[0, 0, 0x65, 0x58]);
    "pptp", 1, UNDER, |f| {
        let length = ((f.rest() + 4) as u16).to_be_bytes();
        let protocol = if f.v4() { 0x21 } else { 0x57 };
        let header =
            [0x30, 1, 0x88, 0x0b, length[0], length[1], 0, 9, 0, 0, 0, 1, 0xff, 3, 0, protocol];
        f.is_ip().then(|| over_ipv4(47, &header, f.payload, f.rest()))
    };
    "nvgre", 1, NOTHING, |f| frame_in_gre(f, &[0x20, 0, 0x65, 0x58, 0, 0, 100, 1]);
    "erspan-1", 1, NOTHING, |f| frame_in_gre(f, &[0, 0, 0x88, 0xbe]);
    "erspan-2", 1, NOTHING, |f| {
        frame_in_gre(f, &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 20, 0, 7, 0, 0, 0, 3])
    };
    "erspan-3", 1, NOTHING, |f| {
        let header = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 20, 0, 7, 1, 2, 3, 4, 0, 0, 0, 0];
        frame_in_gre(f, &header)
    };
    "erspan-3-subheader", 1, NOTHING, |f| {
        let header = [0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 20, 0, 7, 1, 2, 3, 4, 0, 0, 0, 1];
        frame_in_gre(f, &[&header[..], &[0x0c, 0, 0, 0, 0, 0, 0, 1]].concat())
    };
    "vxlan", 1, NOTHING, |f| frame_in_udp(f, 4789, &[8, 0, 0, 0, 0, 0, 100, 0]);
    "vxlan-linux-port", 1, NOTHING, |f| frame_in_udp(f, 8472, &[8, 0, 0, 0, 0, 0, 100, 0]);
    "vxlan-over-ipv6", 1, NOTHING, |f| {
        let header = udp(4789, &[8, 0, 0, 0, 0, 0, 100, 0], f.wire);
        Some(over_ipv6(17, &header, f.whole, f.wire))
    };
    "vxlan-gpe", 1, UNDER, |f| {
        let header = udp(4790, &[0x0c, 0, 0, if f.v4() { 1 } else { 2 }, 0, 0, 100, 0], f.rest());
        f.is_ip().then(|| over_ipv4(17, &header, f.payload, f.rest()))
    };
    "geneve", 1, NOTHING, |f| {
        frame_in_udp(f, 6081, &[1, 0, 0x65, 0x58, 0, 0, 100, 0, 1, 2, 0x80, 0])
    };
    "gtp-u", 1, UNDER, |f| {
        let length = ((f.rest() + 12) as u16).to_be_bytes();
        let header = [
            0x36, 255, length[0], length[1], 0, 0, 0, 5, 0, 1, 0, 0x85, 2, 0, 9, 0, 0, 0, 0, 0,
        ];
        let header = udp(2152, &header, f.rest());
        f.is_ip().then(|| over_ipv4(17, &header, f.payload, f.rest()))
    };
    "ethernet-in-ip", 1, NOTHING, |f| Some(over_ipv4(97, &[0x30, 0], f.whole, f.wire));
    "mpls-in-udp", 1, UNDER, |f| {
        let header = udp(6635, &[0, 1, 1, 64], f.rest());
        f.is_ip().then(|| over_ipv4(17, &header, f.payload, f.rest()))
    };
    "mpls-in-ip", 1, UNDER, |f| {
        f.is_ip().then(|| over_ipv4(137, &[0, 1, 1, 64], f.payload, f.rest()))
    };
    "tzsp", 1, NOTHING, |f| frame_in_udp(f, 37008, &[1, 0, 0, 1, 10, 1, 5, 0, 1]);
    "gre-in-udp", 1, UNDER, |f| {
        let header = udp(4754, &[0, 0, f.kind[0], f.kind[1]], f.rest());
        f.is_ip().then(|| over_ipv4(17, &header, f.payload, f.rest()))
    };
    "gre-cisco-metadata", 1, UNDER, |f| {
        let header = [0, 0, 0x89, 0x09, f.kind[0], f.kind[1], 1, 1, 0, 1, 0, 7];
        f.is_ip().then(|| over_ipv4(47, &header, f.payload, f.rest()))
    };
    "aruba-gre", 1, NOTHING, |f| {
        let frame = wlan(f, true);
        let wire = f.wire + frame.len() - f.whole.len();
        Some(over_ipv4(47, &[0, 0, 0x82, 0], &frame, wire))
    };
    "capwap-ethernet", 1, NOTHING, |f| frame_in_udp(f, 5247, &[0, 0x10, 2, 0, 0, 0, 0, 0]);
    "capwap-wlan", 1, NOTHING, |f| {
        // Cisco controllers swap the two bytes of the frame control field.
        let mut frame = wlan(f, true);
        frame.swap(0, 1);
        let wire = f.wire + frame.len() - f.whole.len();
        let header = udp(5247, &[0, 0x10, 3, 0, 0, 0, 0, 0], wire);
        Some(over_ipv4(17, &header, &frame, wire))
    };
    "ayiya", 1, UNDER, |f| {
        let mut header = vec![0x42, 0x52, 0x11, if f.v4() { 4 } else { 41 }, 0, 0, 0, 1];
        header.extend([7; 16 + 20]);
        let header = udp(5072, &header, f.rest());
        f.is_ip().then(|| over_ipv4(17, &header, f.payload, f.rest()))
    };
    "pim-register", 1, UNDER, |f| {
        f.is_ip().then(|| over_ipv4(103, &[0x21, 0, 0, 0, 0, 0, 0, 0], f.payload, f.rest()))
    };
    // Nested tunnels: a VXLAN overlay in a VLAN that is mirrored over ERSPAN.
    "vxlan-in-vlan-in-erspan", 1, NOTHING, |f| {
        let overlay = frame_in_udp(f, 4789, &[8, 0, 0, 0, 0, 0, 100, 0])?;
        let tagged = [&overlay[..12], &[0x81, 0, 0, 20], &overlay[12..]].concat();
        let header = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 20, 0, 7, 0, 0, 0, 3];
        let wire = f.wire + tagged.len() - f.whole.len();
        Some(over_ipv4(47, &header, &tagged, wire))
    };
}

/// IPv6 packets in Teredo, with or without authentication and origin headers, and with or without a
/// trailer.
pub const TEREDO: &[Wrapper] = &[
    Wrapper { name: "teredo", link: 1, loses: UNDER, wrap: |f| teredo(f, &[], &[]) },
    Wrapper {
        name: "teredo-origin",
        link: 1,
        loses: UNDER,
        wrap: |f| teredo(f, &[0, 0, 0x63, 0xbf, 0xf5, 0xfe, 0xfe, 0xfe], &[]),
    },
    Wrapper {
        name: "teredo-authentication",
        link: 1,
        loses: UNDER,
        wrap: |f| {
            let authentication = [0, 1, 1, 2, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 0];
            let origin = [0, 0, 0x63, 0xbf, 0xf5, 0xfe, 0xfe, 0xfe];
            teredo(f, &[&authentication[..], &origin].concat(), &[1, 4, 0, 0, 0, 0])
        },
    },
];

fn teredo(frame: FrameParts<'_>, header: &[u8], trailer: &[u8]) -> Option<Vec<u8>> {
    let is_v6 = frame.kind == [0x86, 0xdd] && frame.whole.len() == frame.wire;
    let length = 40 + usize::from(u16::from_be_bytes(*frame.payload.get(4..)?.first_chunk()?));
    let packet = frame.payload.get(..length).filter(|_| is_v6)?;
    let header = udp(3544, header, packet.len() + trailer.len());
    let inner = [packet, trailer].concat();
    Some(over_ipv4(17, &header, &inner, inner.len()))
}

/// Encapsulates the records that `keep` selects (by index and bytes) and returns them as a pcap
/// file.
pub fn capture(
    records: &super::Records,
    wrapper: &Wrapper,
    mut keep: impl FnMut(usize, &[u8]) -> bool,
) -> Vec<u8> {
    let mut bytes = records.header.clone();
    bytes[20..24].copy_from_slice(&u32::from(wrapper.link).to_le_bytes());
    for (number, record) in records.records.iter().enumerate() {
        let frame = &record[16..];
        if frame.len() < 14 || !keep(number, record) {
            continue;
        }
        let wire = u32::from_le_bytes(record[12..16].try_into().expect("four bytes")) as usize;
        let Some(wrapped) = (wrapper.wrap)(FrameParts::new(frame, wire)) else { continue };
        let wire = wire + wrapped.len() - frame.len();
        bytes.extend(&record[..8]);
        bytes.extend((wrapped.len() as u32).to_le_bytes());
        bytes.extend((wire as u32).to_le_bytes());
        bytes.extend(wrapped);
    }
    bytes
}
