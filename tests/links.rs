//! The same packets under every link type are the same conversations, but for what a link cannot say.

mod support;

use std::collections::BTreeMap;
use std::fs;

use support::{Records, fixture, rasaudit, stdout};

/// An Ethernet frame's destination, source, ethertype and payload.
type Parts<'a> = (&'a [u8], &'a [u8], [u8; 2], &'a [u8]);
/// A link type: its number and how it wraps a packet; none where it cannot carry it.
type Wrapper = (u16, fn(Parts<'_>) -> Option<Vec<u8>>);

fn ip_only(kind: [u8; 2], header: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    matches!(kind, [0x08, 0x00] | [0x86, 0xdd]).then(|| [header, payload].concat())
}

fn packet_type(destination: &[u8]) -> u8 {
    match destination {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => 1,
        [first, ..] if first & 1 == 1 => 2,
        _ => 3,
    }
}

const WRAPPERS: &[Wrapper] = &[
    (113, |(to, from, kind, payload)| {
        let mut header = vec![0, packet_type(to), 0, 1, 0, 6];
        header.extend(from);
        header.extend([0, 0]);
        header.extend(kind);
        Some([&header, payload].concat())
    }),
    (276, |(to, from, kind, payload)| {
        let mut header = kind.to_vec();
        header.extend([0, 0, 0, 0, 0, 3, 0, 1, packet_type(to), 6]);
        header.extend(from);
        header.extend([0, 0]);
        Some([&header, payload].concat())
    }),
    (101, |(_, _, kind, payload)| ip_only(kind, &[], payload)),
    (0, |(_, _, kind, payload)| {
        ip_only(kind, &if kind[0] == 8 { [2, 0, 0, 0] } else { [30, 0, 0, 0] }, payload)
    }),
    (108, |(_, _, kind, payload)| {
        ip_only(kind, &if kind[0] == 8 { [0, 0, 0, 2] } else { [0, 0, 0, 24] }, payload)
    }),
];

/// Client, server, transport, port -> verdict, code, state, direction, packets both ways.
fn conversations(capture: &std::path::Path) -> BTreeMap<Vec<String>, Vec<String>> {
    let inventory = fixture("farm-healthy/inventory.toml");
    let output = rasaudit([
        "audit".as_ref(),
        capture.as_os_str(),
        "-i".as_ref(),
        inventory.as_os_str(),
        "--format".as_ref(),
        "conversations".as_ref(),
    ]);
    let text = stdout(&output);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows = reader.records().map(|r| r.expect("a row"));
    rows.map(|r| {
        let pick = |columns: &[usize]| columns.iter().map(|c| r[*c].to_owned()).collect();
        (pick(&[0, 3, 6, 7]), pick(&[8, 9, 12, 13, 14, 15, 16, 17, 18, 19]))
    })
    .collect()
}

#[test]
fn every_link_type_gives_the_same_conversations() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    for fixed in ["farm-faults/span.pcap", "farm-healthy/span.pcap"] {
        let capture = fixture(fixed);
        let plain = conversations(&capture);
        assert!(plain.len() > 100);
        let records = Records::read(&capture);
        for (link, wrap) in WRAPPERS {
            let mut bytes = records.header.clone();
            bytes[20..24].copy_from_slice(&u32::from(*link).to_le_bytes());
            for record in &records.records {
                let frame = &record[16..];
                let parts = (&frame[..6], &frame[6..12], [frame[12], frame[13]], &frame[14..]);
                let Some(wrapped) = wrap(parts) else { continue };
                let wire = u32::from_le_bytes(record[12..16].try_into().expect("four bytes"));
                let wire = wire + wrapped.len() as u32 - frame.len() as u32;
                bytes.extend(&record[..8]);
                bytes.extend((wrapped.len() as u32).to_le_bytes());
                bytes.extend(wire.to_le_bytes());
                bytes.extend(wrapped);
            }
            let path = scratch.path().join(format!("{link}.pcap"));
            fs::write(&path, bytes).expect("the scratch folder is writable");
            let wrapped = conversations(&path);
            let differs: Vec<_> =
                plain.iter().filter(|(key, value)| wrapped.get(*key) != Some(value)).collect();
            assert!(differs.is_empty(), "{fixed} as link type {link}: {differs:?}");
            assert_eq!(plain.len(), wrapped.len(), "{fixed} as link type {link}");
        }
    }
}
