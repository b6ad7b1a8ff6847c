//! Decodes frames one by one: the headers of a frame yield an observation, and its payload yields
//! facts.
//!
//! `cargo run --no-default-features --example decode_frame [-- CAPTURE]`
//!
//! Without a capture, it decodes a frame that is part of this file.

use std::error::Error;
use std::fs::File;

use rasaudit::capture::{Batch, CaptureReader, Frame, InputHash};
use rasaudit::decode::{Body, Decoder, Observation};
use rasaudit::model::NO_TIME;
use rasaudit::payload::{MessageParts, read_payloads};

/// A SYN from 10.0.0.1 to port 443 of 10.0.0.2, in VLAN 7.
const SYN: &[u8] = &[
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x81, 0, 0, 7, 0x08, 0, // Ethernet, with a tag
    0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0x26, 0xcd, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
    0xc3, 0x50, 1, 0xbb, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0, // TCP
];

fn main() -> Result<(), Box<dyn Error>> {
    let decoder = Decoder::new(&[]);
    let Some(file) = std::env::args_os().nth(1) else {
        let length = SYN.len().try_into()?;
        let (cap_len, wire_len) = (length, length);
        let frame = Frame { time: NO_TIME, offset: 0, cap_len, wire_len, link: 1, interface: 0 };
        println!("{}", describe(&decoder, &frame, SYN));
        return Ok(());
    };
    let mut reader = CaptureReader::new(Box::new(File::open(file)?), InputHash::Skip)?;
    // A batch contains whole frames. Its memory is reused.
    let mut batch = Batch::default();
    loop {
        let has_more = reader.next(&mut batch)?;
        for frame in &batch.frames {
            println!("{}", describe(&decoder, frame, batch.data(frame)));
        }
        if !has_more {
            return Ok(());
        }
    }
}

/// Describes a frame, or the reason why it cannot be decoded.
fn describe(decoder: &Decoder, frame: &Frame, data: &[u8]) -> String {
    let mut seen = Observation::default();
    if let Err(reason) = decoder.decode(frame, data, &mut seen) {
        return format!("skipped: {reason}");
    }
    let mut facts = Vec::new();
    read_payloads(&[seen], &[seen.payload(data)], MessageParts::All, &mut facts);
    let facts: Vec<_> = facts.iter().map(|(_, fact)| format!(" {fact:?}")).collect();
    let facts = facts.concat();
    match seen.body {
        Body::Transport { tuple, payload, .. } => format!(
            "{} {}:{} > {}:{}, {payload} bytes of payload{facts}",
            tuple.transport, tuple.src, tuple.sport, tuple.dst, tuple.dport
        ),
        other => format!("{other:?}{facts}"),
    }
}
