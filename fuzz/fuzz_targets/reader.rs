//! Fuzzes capture files. For any input, reading must end, frames must lie inside their batch, and
//! the reader must not count more bytes than the input has.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use rasaudit::capture::{Batch, CaptureReader, InputHash};

fuzz_target!(|bytes: &[u8]| {
    let input = Box::new(Cursor::new(bytes.to_vec()));
    let Ok(mut reader) = CaptureReader::new(input, InputHash::Compute) else { return };
    let mut batch = Batch::default();
    // A small file may decompress to a very large one, so the number of batches is limited.
    for _ in 0..64 {
        let more = reader.next(&mut batch);
        for frame in &batch.frames {
            assert_eq!(batch.data(frame).len(), frame.cap_len as usize);
        }
        if !more.unwrap_or(false) {
            break;
        }
    }
    assert!(reader.position() <= bytes.len() as u64);
});
