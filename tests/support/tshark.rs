//! Runs tshark without reassembly and returns what it finds in each frame.

use std::path::Path;
use std::process::Command;

/// The innermost packet of a frame. Packets quoted in ICMP errors are ignored.
#[derive(PartialEq, Eq, Debug)]
pub enum Sees {
    /// Source and destination as `ADDRESS PORT`, and the IP protocol number.
    Flow(String, String, u8),
    /// A fragment other than the first.
    Fragment,
    /// A packet without ports, a frame without an IP packet, or a frame whose innermost tunnel
    /// carries something other than IP.
    Other,
}

/// A frame as tshark dissects it.
#[derive(Debug)]
pub struct Packet {
    /// The innermost packet, inside all tunnels.
    pub sees: Sees,
    /// The value of `frame.protocols`: tshark's protocol names, separated by colons.
    pub protocols: String,
    /// Bytes on the wire.
    pub length: u64,
    /// Addresses and identification of the fragmented datagram that the frame belongs to.
    pub datagram: Option<(String, String, String)>,
}

const FIELDS: &[&str] = &[
    "frame.protocols",
    "frame.len",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "tcp.srcport",
    "tcp.dstport",
    "udp.srcport",
    "udp.dstport",
    "sctp.srcport",
    "sctp.dstport",
    "ip.frag_offset",
    "ip.flags.mf",
    "ip.id",
    "ipv6.fraghdr.offset",
    "ipv6.fraghdr.ident",
    "frame.encap_type",
];

/// Returns the frames of a capture, or `None` if tshark is not installed. Panics instead if
/// `RASAUDIT_REQUIRE_TSHARK` is set.
pub fn packets(capture: &Path) -> Option<Vec<Packet>> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-T", "fields", "-E", "occurrence=a", "-E", "separator=/t", "-r"]);
    // Linux's original VXLAN port, which tshark does not decode by default.
    command.arg(capture).args(["-d", "udp.port==8472,vxlan"]);
    // EtherTypes that old switches use for VLAN tags.
    command.args(["-d", "ethertype==0x9200,vlan", "-d", "ethertype==0x9300,vlan"]);
    for option in [
        "ip.defragment:FALSE",
        "ipv6.defragment:FALSE",
        "tcp.desegment_tcp_streams:FALSE",
        "wlan.defragment:FALSE",
    ] {
        command.args(["-o", option]);
    }
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(_) if std::env::var_os("RASAUDIT_REQUIRE_TSHARK").is_none() => return None,
        Err(error) => panic!("tshark is required: {error}"),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("-o flag"), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // tshark lists some pcapng blocks without a packet as frames without a link type.
    let carries = |line: &&str| line.split('\t').next_back() != Some("");
    Some(text.lines().filter(carries).map(packet).collect())
}

fn packet(line: &str) -> Packet {
    let columns: Vec<Vec<&str>> = line.split('\t').map(|c| c.split(',').collect()).collect();
    let protocols = columns[0].join(",");
    let layers: Vec<&str> = protocols.split(':').collect();
    // The layers after ICMP belong to the quoted packet.
    let end = layers.iter().position(|l| matches!(*l, "icmp" | "icmpv6")).unwrap_or(layers.len());
    let count = |name: &str| layers[..end].iter().filter(|l| **l == name).count();
    let length = columns[1][0].parse().unwrap_or_default();
    let mut found =
        Packet { sees: Sees::Other, protocols: protocols.clone(), length, datagram: None };
    let innermost = layers[..end].iter().rposition(|l| matches!(*l, "ip" | "ipv6"));
    let Some(at) = innermost else { return found };
    if layers[at..end].contains(&"eth") {
        // The innermost tunnel carries something other than IP.
        return found;
    }
    let v6 = layers[at] == "ipv6";
    let number = count(layers[at]);
    let pick = |column: usize, number: usize| {
        columns[column].get(number.wrapping_sub(1)).copied().unwrap_or_default().to_owned()
    };
    let (src, dst) =
        if v6 { (pick(4, number), pick(5, number)) } else { (pick(2, number), pick(3, number)) };
    let (offset, id) = if v6 {
        (
            columns[15].last().copied().unwrap_or_default().to_owned(),
            columns[16].last().copied().unwrap_or_default().to_owned(),
        )
    } else {
        (pick(12, number), pick(14, number))
    };
    let fragments = layers[at..end].contains(&"ipv6.fraghdr");
    let later = !matches!(offset.as_str(), "" | "0") && (!v6 || fragments);
    let more = matches!(pick(13, number).as_str(), "1" | "True") && !v6;
    if later || more || (v6 && fragments) {
        found.datagram = Some((src.clone(), dst.clone(), id));
    }
    if later {
        found.sees = Sees::Fragment;
        return found;
    }
    let above = [("tcp", 6, 6), ("udp", 17, 8), ("udplite", 136, 8), ("sctp", 132, 10)];
    for (name, protocol, column) in above {
        if protocol != 136 && layers[at..end].contains(&name) {
            let number = count(name);
            let sport = pick(column, number);
            let dport = pick(column + 1, number);
            if !sport.is_empty() {
                found.sees =
                    Sees::Flow(format!("{src} {sport}"), format!("{dst} {dport}"), protocol);
            }
            return found;
        }
    }
    found
}
