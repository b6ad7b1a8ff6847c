//! Serializes values. An eight-byte length precedes each value.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes a value, preceded by its length in bytes.
pub(super) fn write_part(out: &mut dyn Write, part: &impl Serialize) -> io::Result<()> {
    write_bytes(out, &postcard::to_stdvec(part).map_err(io::Error::other)?)
}

/// Writes bytes, preceded by their length.
pub(super) fn write_bytes(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)
}

/// Reads a value that [`write_part`] wrote.
pub(super) fn read_part<T: DeserializeOwned>(from: &mut dyn Read) -> io::Result<T> {
    postcard::from_bytes(&read_bytes(from)?).map_err(io::Error::other)
}

/// Reads bytes that [`write_bytes`] wrote.
pub(super) fn read_bytes(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let mut bytes = Vec::new();
    // The buffer grows only as bytes are read, so a wrong length cannot exhaust memory.
    let length = u64::from_le_bytes(length);
    if from.take(length).read_to_end(&mut bytes)? as u64 == length {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
