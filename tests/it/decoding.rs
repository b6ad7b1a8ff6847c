//! Tests that `docs/decoding.md` matches the lists in the code, and that decoding does not
//! allocate. `UPDATE_GOLDEN=1 cargo test --test it decoding` rewrites the page.

use crate::support;
use std::collections::BTreeMap;
use std::path::Path;

use crate::support::wrap::WRAPPERS;
use rasaudit::capture::{Batch, CaptureReader, InputHash, expand};
use rasaudit::decode::{Decoder, ETHERTYPES, LINKS, Observation, TUNNELS};
use rasaudit::model::SkipReason;

const HEAD: &str = "\
# What is decoded

Generated from the lists in the code by `tests/it/decoding.rs`; do not edit.

Every frame is counted once, either as an observation or as skipped for one of the reasons at the end of
this page. If a packet encapsulates another packet, the innermost one is audited. The column `tags` of
`conversations.csv` then shows its encapsulation, and the column `outer` shows the endpoints of its tunnels
(for a mirror, the switch and the sensor). The outer packets of a tunnel, except those of a mirror, are also a conversation
between these endpoints, so two conversations count such a packet and its bytes. `--no-decap` audits only the tunnels. If the
inner packet cannot be decoded, for example because a mirror truncated it, the outer packet is the observation
(counted as `opaque_tunnels` in `audit.json`). On the UDP port of a tunnel, a datagram without a valid tunnel header is an
ordinary datagram.

Capture files are pcap (both byte orders, microseconds and nanoseconds, and the older variant with longer
record headers) or pcapng (several sections and interfaces, statistics, filters). They may be compressed with gzip, zstd, xz,
lz4 or bzip2. On Windows, Wireshark and `pktmon etl2pcap` write pcapng. `pktmon` captures a packet at each
layer of the stack; these frames are recognized as duplicates
([Duplicate packets](reports.md#duplicate-packets)).

";

const TAIL: &str = "
Above these layers, the decoder reads:

- IPv4 with options, and IPv6 with up to 8,192 extension headers (hop-by-hop, routing, fragment, destination
  options, AH, mobility, HIP, shim6);
- fragments, which are assigned to the first fragment of their datagram by addresses, protocol and
  identification. A later fragment of an outer packet belongs to the inner flow of the first fragment;
- TCP, UDP, SCTP, ICMP and ICMPv6. An ICMP error belongs to the flow of the innermost packet that it quotes;
- every other protocol as a flow without ports (ESP is `ip-50`).

The decoder follows at most 32 layers of a frame, and at most 16 labels of an MPLS stack. 802.11 frames that contain several packets are not decoded;
they are skipped for the reason `wlan-aggregate`.
";

/// Returns a Markdown section with a lead paragraph and a table.
fn section(
    title: &str,
    lead: &str,
    columns: &[&str],
    rows: impl Iterator<Item = String>,
) -> String {
    let lead = if lead.is_empty() { String::new() } else { format!("{lead}\n\n") };
    let rule = "| --- ".repeat(columns.len());
    let rows: Vec<String> = rows.collect();
    format!("## {title}\n\n{lead}| {} |\n{rule}|\n{}\n", columns.join(" | "), rows.join("\n"))
}

fn document() -> String {
    let links = LINKS.iter();
    let links = section(
        "Link types",
        "",
        &["LINKTYPE", "link", "described in", "since"],
        links.map(|l| format!("| {} | {} | {} | {} |", l.number, l.name, l.document, l.since)),
    );
    let snap = "| length | IEEE 802.3 with LLC and SNAP | IEEE 802.2, RFC 1042 | 0.1 |".to_owned();
    let ethertypes = ETHERTYPES.iter().map(|e| {
        let numbers: Vec<_> = e.numbers.iter().map(|n| format!("{n:#06x}")).collect();
        format!("| {} | {} | {} | {} |", numbers.join(", "), e.name, e.document, e.since)
    });
    let ethertypes = section(
        "Inside Ethernet",
        "",
        &["EtherType", "content", "described in", "since"],
        ethertypes.chain([snap]),
    );
    let tunnels = TUNNELS.iter();
    let tunnels = section(
        "Tunnels",
        "",
        &["tag", "carried in", "described in", "since"],
        tunnels.map(|(_, name, over, document, since)| {
            format!("| `{name}` | {over} | {document} | {since} |")
        }),
    );
    let mut loses: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for wrapper in WRAPPERS {
        loses.entry(wrapper.loses).or_default().push(wrapper.name);
    }
    let loses = section(
        "Evidence that encapsulations lose",
        "The tests encapsulate the same frames in each of the following ways and require the same verdicts, states\n\
         and directions (`tests/it/links.rs`). The table shows the evidence that each encapsulation loses:",
        &["lost", "encapsulations"],
        loses.iter().map(|(what, who)| format!("| {what} | {} |", who.join(", "))),
    );
    let reasons = section(
        "Skipped frames",
        "Reports name each unknown link type by its number and its name in the registry.",
        &["reason", "remedy"],
        SkipReason::ALL
            .iter()
            .map(|r| format!("| `{r}` | {} |", r.advice().unwrap_or("none needed"))),
    );
    [HEAD, &links, "\n", &ethertypes, "\n", &tunnels, TAIL, "\n", &loses, "\n", &reasons].concat()
}

#[test]
fn decoding_allocates_nothing() {
    let mut counted = 0;
    for folder in ["wrapped", "decode-mix", "overlay"] {
        for entry in std::fs::read_dir(support::fixture(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|e| e != "pcap") {
                continue;
            }
            let sources = expand(std::slice::from_ref(&path)).expect("the fixture");
            let mut reader = CaptureReader::open(&sources[0], InputHash::Skip).expect("a capture");
            let mut batch = Batch::default();
            let _ = reader.next(&mut batch);
            let decoder = Decoder::default();
            let mut seen = Observation::default();
            let allocated = allocation_counter::measure(|| {
                for frame in &batch.frames {
                    let _ = decoder.decode(frame, batch.data(frame), &mut seen);
                }
            });
            assert_eq!(allocated.count_total, 0, "{}", path.display());
            counted += batch.frames.len();
        }
    }
    assert!(counted > 500, "{counted}");
}

#[test]
fn the_document_says_what_the_code_decodes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decoding.md");
    let text = document();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("the documents are writable");
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text);
}

/// The policy module must not import the decoder, so it has its own list of tunnel names. Both
/// lists must be equal.
#[test]
fn the_inventory_knows_every_kind_of_tunnel() {
    let decoded: Vec<&str> = TUNNELS.iter().map(|line| line.1).collect();
    assert_eq!(decoded, rasaudit::policy::TUNNEL_KINDS, "update it in src/policy/inventory.rs");
}
