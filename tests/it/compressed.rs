//! Tests that compressed captures yield the same results as plain ones. If a file is truncated or
//! damaged, the readable part is used, with a message. Files that expand enormously do not need
//! additional memory.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use crate::support::{Random, fixture, rasaudit, stderr, stdout};

/// A compression format: file extension, reported name, compressor.
type Format = (&'static str, &'static str, fn(&[u8]) -> Vec<u8>);

const FORMATS: &[Format] = &[
    ("gz", "gzip", |bytes| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).and_then(|()| out.finish()).expect("in memory")
    }),
    ("zst", "zstd", |bytes| zstd::encode_all(bytes, 1).expect("in memory")),
    ("xz", "xz", |bytes| {
        let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
        out.write_all(bytes).and_then(|()| out.finish()).expect("in memory")
    }),
    ("lz4", "lz4", |bytes| {
        let mut info = lz4_flex::frame::FrameInfo::new();
        info.block_size = lz4_flex::frame::BlockSize::Max64KB;
        let mut out = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        out.write_all(bytes).expect("in memory");
        out.finish().expect("in memory")
    }),
    ("bz2", "bzip2", |bytes| {
        let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        out.write_all(bytes).and_then(|()| out.finish()).expect("in memory")
    }),
];

fn conversations(capture: &Path) -> String {
    let output = rasaudit([
        "audit".as_ref(),
        capture.as_os_str(),
        "--format".as_ref(),
        "conversations".as_ref(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}: {}", capture.display(), stderr(&output));
    stdout(&output)
}

#[test]
fn each_compression_gives_what_the_plain_file_gives() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let plain = fixture("farm-healthy/span.pcap");
    let bytes = fs::read(&plain).expect("the fixture");
    let (front, back) = bytes.split_at(70_000);
    let expected = conversations(&plain);
    for (ending, name, pack) in FORMATS {
        let path = scratch.path().join(format!("farm.pcap.{ending}"));
        fs::write(&path, pack(&bytes)).expect("writable");
        assert_eq!(conversations(&path), expected, "{name}");
        // The standard tools also decompress concatenated streams to one file.
        fs::write(&path, [pack(front), pack(back)].concat()).expect("writable");
        assert_eq!(conversations(&path), expected, "two streams of {name}");
        let output =
            rasaudit(["audit".as_ref(), path.as_os_str(), "--format".as_ref(), "json".as_ref()]);
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        assert_eq!(json["inputs"][0]["format"], format!("pcap, {name}"));
    }
}

#[test]
fn a_cut_or_damaged_file_gives_what_could_be_read() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let bytes = fs::read(fixture("farm-healthy/span.pcap")).expect("the fixture");
    let mut random = Random(11);
    for (ending, name, pack) in FORMATS {
        let packed = pack(&bytes);
        let path = scratch.path().join(format!("farm.pcap.{ending}"));
        let mut codes = Vec::new();
        for number in 0..12 {
            let mut damaged = packed.clone();
            if number % 2 == 0 {
                damaged.truncate(1 + random.below(packed.len() - 1));
            } else {
                let at = 16 + random.below(packed.len() - 16);
                damaged[at] ^= 0x55;
            }
            fs::write(&path, damaged).expect("writable");
            let output = rasaudit(["audit".as_ref(), path.as_os_str()]);
            let code = output.status.code().unwrap_or_else(|| panic!("{name}: ended by a signal"));
            // With exit code 2, no part of the capture was readable.
            let told = stderr(&output);
            match code {
                3 => assert!(
                    told.contains(" complete frame") || told.contains("copy the file again"),
                    "{name}: {told}"
                ),
                2 => assert!(told.contains("in it"), "{name}: {told}"),
                // Not every damaged byte is covered by a checksum. A truncated file is always
                // detected, except for lz4 at the end of a block.
                0 => assert!(number % 2 == 1 || *name == "lz4", "{name}"),
                other => panic!("{name}: {other}"),
            }
            codes.push(code);
        }
        assert!(codes.contains(&3), "{name}: {codes:?}");
    }
    // Half of a file contains about half of its frames.
    let path = scratch.path().join("half.pcap.gz");
    let packed = FORMATS[0].2(&bytes);
    fs::write(&path, &packed[..packed.len() / 2]).expect("writable");
    let output =
        rasaudit(["audit".as_ref(), path.as_os_str(), "--format".as_ref(), "json".as_ref()]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let frames = json["accounting"]["frames_read"].as_u64().expect("a number");
    assert!((2_000..9_000).contains(&frames), "{frames}");
}

#[test]
fn what_is_no_capture_inside_is_told() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("notes.gz");
    fs::write(&path, FORMATS[0].2(b"only text")).expect("writable");
    let output = rasaudit(["audit".as_ref(), path.as_os_str()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("it looks like gzip data that contains text"),
        "{}",
        stderr(&output)
    );
    let twice = FORMATS[0].2(&FORMATS[1].2(b"only text"));
    fs::write(&path, twice).expect("writable");
    let output = rasaudit(["audit".as_ref(), path.as_os_str()]);
    assert!(stderr(&output).contains("decompress the file once"), "{}", stderr(&output));
}

#[test]
fn a_bomb_costs_time_and_no_memory() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let header = &fs::read(fixture("farm-healthy/span.pcap")).expect("the fixture")[..24];
    // 300 MiB of empty records, which compress to less than 3 MiB.
    let mut record = [0; 16];
    record[..4].copy_from_slice(&1_780_000_000u32.to_le_bytes());
    let bomb = [header, &record.repeat((300 << 20) / 16)].concat();
    for (ending, name, pack) in FORMATS.iter().filter(|f| f.1 == "gzip" || f.1 == "zstd") {
        let path = scratch.path().join(format!("bomb.pcap.{ending}"));
        let packed = pack(&bomb);
        assert!(packed.len() < bomb.len() / 100, "{name}: {}", packed.len());
        fs::write(&path, packed).expect("writable");
        // The limit is on address space. By default, the allocator of each thread reserves much
        // more of it than it uses.
        let output = Command::new("sh")
            .args(["-c", "ulimit -v 200000; exec \"$0\" audit \"$1\" --jobs 1"])
            .env("MALLOC_ARENA_MAX", "1")
            .arg(env!("CARGO_BIN_EXE_rasaudit"))
            .arg(&path)
            .output()
            .expect("a shell");
        assert_eq!(output.status.code(), Some(0), "{name}: {}", stderr(&output));
        assert!(stdout(&output).contains("truncated-link-header"), "{name}");
    }
}
