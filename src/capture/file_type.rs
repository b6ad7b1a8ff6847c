//! Identifies files by their first bytes. The descriptions of some files that are not pcap or
//! pcapng also tell the user what to do, for example which program converts them.

/// The description of a Parquet file, which may contain rows of evidence.
const PARQUET: &str = if cfg!(feature = "store") {
    "a Parquet file: to read a store, name its own folder on the command line"
} else {
    "a Parquet file, which this build of rasaudit cannot read, because it lacks the feature \"store\""
};

/// The description of an Arrow file or stream, which may contain rows of evidence.
const ARROW: &str = if cfg!(feature = "store") {
    "an Arrow stream or file: rasaudit merge - --to STORE turns a stream of rows into a store"
} else {
    "an Arrow stream or file, which this build of rasaudit cannot read, because it lacks the feature \"store\""
};

/// Returns the format of a file that starts like a capture or like compressed data; `None` for any
/// other file.
pub fn capture_kind(start: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 12] = [
        (b"\x0a\x0d\x0d\x0a", "pcapng"),
        (b"\xd4\xc3\xb2\xa1", "pcap"),
        (b"\xa1\xb2\xc3\xd4", "pcap"),
        (b"\x4d\x3c\xb2\xa1", "pcap"),
        (b"\xa1\xb2\x3c\x4d", "pcap"),
        (b"\x34\xcd\xb2\xa1", "pcap"),
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ", "xz"),
        (b"BZh", "bzip2"),
        (b"\x04\x22\x4d\x18", "lz4"),
    ];
    KINDS.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| *kind)
}

/// Describes a file that is not a capture, judging by its first bytes.
pub(super) fn describe_magic(start: &[u8]) -> &'static str {
    const MAGICS: &[(&[u8], &str)] = &[
        (b"\x0a\x0d\x0d\x0a", "the beginning of a damaged pcapng file"),
        (b"\xd4\xc3\xb2", "the beginning of a damaged pcap file"),
        (b"\xa1\xb2\xc3", "the beginning of a damaged pcap file"),
        (
            b"\x1f\x8b",
            "gzip data: decompress the file once, because rasaudit decompresses only once",
        ),
        (
            b"\x28\xb5\x2f\xfd",
            "zstd data: decompress the file once, because rasaudit decompresses only once",
        ),
        (
            b"\xfd7zXZ\0",
            "xz data: decompress the file once, because rasaudit decompresses only once",
        ),
        (b"BZh", "bzip2 data: decompress the file once, because rasaudit decompresses only once"),
        (
            b"\x04\x22\x4d\x18",
            "lz4 data: decompress the file once, because rasaudit decompresses only once",
        ),
        (
            b"\x02\x21\x4c\x18",
            "lz4 data: decompress the file once, because rasaudit decompresses only once",
        ),
        (b"PAR1", PARQUET),
        (b"\xff\xff\xff\xff", ARROW),
        (b"ARROW1", ARROW),
        (b"PK\x03\x04", "a zip archive: unpack it first"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it first"),
        (b"Rar!", "a rar archive: unpack it first"),
        (b"GMBU", "a Microsoft Network Monitor capture: convert it with editcap -F pcapng"),
        (b"RTSS", "an old Network Monitor capture: convert it with editcap -F pcapng"),
        (b"snoop\0\0\0", "a snoop capture: convert it with editcap -F pcapng"),
        (b"TRSNIFF data", "a Sniffer capture: convert it with editcap -F pcapng"),
        (b"ElfFile\0", "a Windows event log (EVTX)"),
        (b"\x7fELF", "an ELF program"),
        (b"MZ", "a Windows program"),
        (b"%PDF", "a PDF document"),
        (b"\x89PNG", "a PNG picture"),
        (b"{\n  \"schema\": \"rasaudit", "the audit.json of an audit"),
        (b"{", "JSON text"),
        (b"<?xml", "XML text"),
        (b"<", "HTML or XML text"),
    ];
    if start.is_empty() {
        return "an empty file";
    }
    if let Some((_, name)) = MAGICS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return name;
    }
    if is_etl(start) {
        return "a Windows event trace (ETL): convert it with etl2pcapng or pktmon etl2pcap";
    }
    if start.iter().all(|b| *b == 0) {
        return "a run of zeros";
    }
    // `start` may end inside a character.
    let is_utf8 = std::str::from_utf8(start).map_or_else(|e| e.error_len().is_none(), |_| true);
    let controls = start.iter().any(|b| *b < 0x20 && !b"\t\n\r\x0c\x1b".contains(b));
    if is_utf8 && !controls {
        let text = String::from_utf8_lossy(start);
        let has = |word: &str| text.contains(word);
        return match () {
            () if has("[farm]") || has("[[host]]") => "an inventory",
            () if has("id,severity,verdict") => "the findings.csv of an audit",
            () if has("id,from,to,transport") => "a list of exceptions",
            () if has("name,addresses,roles") => "a list of hosts",
            () => "text",
        };
    }
    "data of an unknown kind"
}

/// Returns whether a file starts with the WMI buffer header of an event trace log: the size of the
/// buffer, the saved size, and the current offset.
fn is_etl(start: &[u8]) -> bool {
    let word =
        |at: usize| start.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (Some(size), Some(saved), Some(current)) = (word(0), word(4), word(8)) else {
        return false;
    };
    size.is_power_of_two()
        && (4096..=1 << 20).contains(&size)
        && saved <= size
        && current <= size
        && saved > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_files_are_named() {
        assert!(describe_magic(b"\x1f\x8b\x08\0").starts_with("gzip"));
        assert_eq!(describe_magic("Zeit und Stunde: ä".as_bytes()), "text");
        assert_eq!(describe_magic(b""), "an empty file");
        assert_eq!(describe_magic(b"\x01\x02\x03\xff\xfe"), "data of an unknown kind");
        let mut etl = vec![0; 64];
        etl[..12].copy_from_slice(&[0, 0, 1, 0, 0x40, 2, 0, 0, 0x40, 2, 0, 0]);
        assert!(describe_magic(&etl).contains("ETL"));
    }
}
