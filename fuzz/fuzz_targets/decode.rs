//! Fuzzes frames. The first byte chooses the link type, the next two the number of truncated bytes,
//! and the fourth the decoder's options. Decoding must never panic, and its result must depend only
//! on the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rasaudit::capture::Frame;
use rasaudit::decode::{Decoder, LINKS, Observation};

fuzz_target!(|bytes: &[u8]| {
    let Some((&[link, cut, more, options], data)) = bytes.split_first_chunk() else { return };
    let link = LINKS[usize::from(link) % LINKS.len()].number;
    let wire_len = data.len() as u32 + u32::from(u16::from_be_bytes([cut, more]));
    let cap_len = data.len() as u32;
    let frame = Frame { time: 1, offset: 0, cap_len, wire_len, link, interface: 0 };
    let decoder = Decoder::new(&[u16::from(options)]).with_decapsulation(options & 1 == 0);
    let mut seen = Observation::default();
    let first = decoder.decode(&frame, data, &mut seen).map(|()| seen);
    let second = decoder.decode(&frame, data, &mut seen).map(|()| seen);
    assert_eq!(first, second);
});
