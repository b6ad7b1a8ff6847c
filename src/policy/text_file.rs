//! Text files that a user wrote, in UTF-8 or in UTF-16, which spreadsheets and Windows programs
//! use.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Diagnostic;
use super::diagnostic::unreadable;
use crate::model::hex;

/// A file that a user wrote.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// The file as the user named it.
    pub name: String,
    /// The text, without a byte order mark.
    pub text: String,
    /// SHA-256 of the bytes, in hex.
    pub sha256: String,
}

impl TextFile {
    /// Reads and decodes a file. If it is not text, the error contains the line that cannot be
    /// decoded.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        Self::of(path, Self::bytes(path)?)
    }

    /// Reads the bytes of a file. A file must be read only once, because it may be a pipe.
    pub fn bytes(path: &Path) -> Result<Vec<u8>, Diagnostic> {
        let problem =
            |message: String| Diagnostic { file: path.display().to_string(), line: 0, message };
        if path.is_dir() {
            return Err(problem("this is a folder; give a file".to_owned()));
        }
        fs::read(path).map_err(|error| problem(unreadable(path, &error)))
    }

    /// Decodes `bytes`, the content of the file `path`.
    pub fn of(path: &Path, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        let name = path.display().to_string();
        let sha256 = hex(&Sha256::digest(&bytes));
        let text = decode(bytes).map_err(|(line, message)| Diagnostic {
            file: name.clone(),
            line,
            message: message.to_owned(),
        })?;
        Ok(Self { name, text, sha256 })
    }
}

/// Decodes the bytes of a file. The error contains the line that cannot be decoded, which is always
/// 1 for UTF-16, and a message for the user.
fn decode(bytes: Vec<u8>) -> Result<String, (usize, &'static str)> {
    let decode_utf16 = |bytes: &[u8], read_unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let text = char::decode_utf16(pairs.iter().map(|pair| read_unit(*pair)))
            .collect::<Result<String, _>>();
        text.ok().filter(|_| rest.is_empty())
    };
    let utf16 = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => Some(decode_utf16(rest, u16::from_le_bytes)),
        [0xfe, 0xff, rest @ ..] => Some(decode_utf16(rest, u16::from_be_bytes)),
        // In UTF-16 text without a byte order mark, every second byte of ASCII characters is zero.
        [first, 0, second, 0, ..] if *first != 0 && *second != 0 => {
            Some(decode_utf16(&bytes, u16::from_le_bytes))
        }
        _ => None,
    };
    if let Some(text) = utf16 {
        return text.ok_or((1, "the file is not UTF-16 text; save it as UTF-8"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        }),
        Err(error) => {
            let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + before.iter().filter(|b| **b == b'\n').count();
            Err((line, "the file is not UTF-8 text; save it as UTF-8"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_in_each_form_that_programs_write() {
        let text = "name,ä\r\n𝄞";
        let wide: Vec<u16> = text.encode_utf16().collect();
        let le = |units: &[u16]| units.iter().flat_map(|u| u.to_le_bytes()).collect::<Vec<u8>>();
        let be = |units: &[u16]| units.iter().flat_map(|u| u.to_be_bytes()).collect::<Vec<u8>>();
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [b"\xff\xfe", &le(&wide)[..]].concat(),
            [b"\xfe\xff", &be(&wide)[..]].concat(),
            le(&wide),
        ] {
            assert_eq!(decode(bytes.clone()).as_deref(), Ok(text), "{bytes:?}");
        }
        assert_eq!(decode(b"a\nb\xff".to_vec()).map_err(|e| e.0), Err(2));
        assert!(decode(vec![0xff, 0xfe, 0x00, 0xd8]).is_err());
    }
}
