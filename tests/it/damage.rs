//! Tests that damaged captures do not cause a panic, that every frame is accounted for, and that
//! the exit code is right.

use crate::support;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use crate::support::{FIXTURES, Random, Records, audit, fixture, rasaudit, stderr};
use rasaudit::pipeline::{Audit, AuditError, Limits, Plan, Progress, Request};
use rasaudit::policy::{Inventory, Matrix, Policy, RuleFiles};

lab_tests! {
    every_prefix_is_read_to_its_last_whole_record: [],
}

/// Audits a capture within the test process, so that a panic fails the test. Returns the number of
/// frames and whether the input was damaged, or `None` if it is not a capture. Asserts that the
/// frame counters add up.
fn read(capture: &Path, jobs: usize, judged: bool) -> Option<(u64, bool)> {
    let request = Request {
        captures: vec![capture.to_owned()],
        jobs: Some(jobs),
        max_memory: 1 << 30,
        ..Request::default()
    };
    let plan = Plan::new(request).expect("the file is there");
    let limits = Limits::default();
    let progress = Progress::default();
    let policy = judged.then(|| {
        static LOADED: OnceLock<(Matrix, Inventory)> = OnceLock::new();
        let (matrix, inventory) = LOADED.get_or_init(|| {
            let matrix = RuleFiles::named("ras-19", None).expect("shipped").load().expect("valid");
            let text = include_str!("../../fixtures/decode-mix/inventory.toml");
            let inventory = Inventory::from_toml("inventory.toml", text, &matrix).expect("valid");
            (matrix, inventory)
        });
        Policy::new(matrix.clone(), inventory.clone())
    });
    let audit = match Audit::of(&plan, policy, None, &limits, &progress) {
        Ok(audit) => audit,
        Err(AuditError::Sources(_)) => return None,
        Err(other) => panic!("{other:?}"),
    };
    let account = &audit.reading.account;
    assert_eq!(account.frames, account.observations + account.skipped.total());
    assert_eq!(account.frames, progress.frames.load(Ordering::Relaxed));
    let mut json = Vec::new();
    audit.write_json(&mut json).expect("memory");
    let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json["accounting"]["frames_read"], account.frames);
    Some((account.frames, !audit.damaged.is_empty()))
}

fn small_fixtures() -> Vec<std::path::PathBuf> {
    let formats = fs::read_dir(fixture("formats")).expect("the folder is there");
    let mut files: Vec<_> = formats.map(|f| f.expect("a file").path()).collect();
    files.push(fixture("decode-mix/mix.pcap"));
    files.sort();
    files
}

/// Tests every prefix of every small fixture, and 40 random prefixes of the capture of each lab
/// farm. Each of the latter ends inside a record.
fn every_prefix_is_read_to_its_last_whole_record() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("prefix");
    for file in small_fixtures() {
        let whole = fs::read(&file).expect("the fixture is there");
        let mut before = 0;
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).expect("the scratch folder is writable");
            let Some((frames, damaged)) = read(&path, 1, false) else {
                assert!(length < 12, "{}: {length} bytes are not a capture", file.display());
                continue;
            };
            assert!(frames >= before, "{}: fewer frames of {length} bytes", file.display());
            assert!(frames <= before + 1, "{}: too many frames of {length} bytes", file.display());
            let whole_record = frames > before;
            assert!(!(whole_record && damaged), "{}: {length}", file.display());
            before = frames;
        }
        assert_eq!(read(&file, 1, false).expect("a capture").0, before, "{}", file.display());
    }
    for case in FIXTURES.iter().filter(|f| f.name.starts_with("farm")) {
        let capture = Records::read(&case.capture());
        let mut random = Random(7);
        for _ in 0..40 {
            let count = random.below(capture.records.len());
            let mut bytes = capture.header.clone();
            bytes.extend(capture.records[..count].iter().flatten());
            let cut = 1 + random.below(capture.records[count].len() - 1);
            bytes.extend(&capture.records[count][..cut]);
            fs::write(&path, &bytes).expect("the scratch folder is writable");
            assert_eq!(read(&path, 2, true), Some((count as u64, true)));
        }
    }
}

#[test]
fn random_corruption_is_survived() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("corrupt");
    let mut random = Random(42);
    let mut files = small_fixtures();
    files.push(fixture("farm-healthy/span.pcap"));
    files.push(fixture("farm-faults/span.pcap"));
    let inventory = fixture("decode-mix/inventory.toml");
    for file in files {
        let whole = fs::read(&file).expect("the fixture is there");
        for round in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(12) {
                let at = random.below(bytes.len());
                bytes[at] = match random.below(4) {
                    0 => 0,
                    1 => 0xff,
                    _ => random.next() as u8,
                };
            }
            fs::write(&path, &bytes).expect("the scratch folder is writable");
            let result = read(&path, 2, true);
            // The exit code of the program must match the library's result.
            if round % 20 == 0 {
                let arguments =
                    ["audit".as_ref(), path.as_os_str(), "-i".as_ref(), inventory.as_os_str()];
                let code = rasaudit(arguments).status.code();
                let expected: &[i32] = match result {
                    None => &[2],
                    Some((_, true)) => &[3],
                    Some((_, false)) => &[0, 1],
                };
                assert!(code.is_some_and(|c| expected.contains(&c)), "{code:?}, {expected:?}");
            }
        }
    }
}

#[test]
fn a_cut_capture_says_where_and_exits_with_3() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("cut.pcap");
    let whole = fs::read(fixture("farm-faults/span.pcap")).expect("the fixture is there");
    fs::write(&path, &whole[..whole.len() - 5]).expect("the scratch folder is writable");
    let records = Records::read(&fixture("farm-faults/span.pcap")).records;
    let last = whole.len() - records.last().expect("records").len();
    let out = scratch.path().join("report");
    let inventory = fixture("farm-healthy/inventory.toml");
    assert_eq!(audit(std::slice::from_ref(&path), &inventory, &out, &[]), 3, "3 beats 1");
    let json = fs::read_to_string(out.join("audit.json")).expect("the report");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["accounting"]["frames_read"], records.len() - 1);
    assert_eq!(
        json["exit_reasons"].as_array().expect("reasons").len(),
        2,
        "all reasons are listed"
    );
    let output =
        rasaudit(["audit".as_ref(), path.as_os_str(), "-i".as_ref(), inventory.as_os_str()]);
    let headline = support::stdout(&output).lines().next().map(str::to_owned);
    assert!(headline.is_some_and(|h| h.contains("part of the input could not be read")));
    let told = stderr(&output);
    for part in
        ["cut.pcap", &format!("byte {last}"), &format!("{} complete frames", records.len() - 1)]
    {
        assert!(told.contains(part), "{told}");
    }
}

/// If two captures are concatenated, both are read. The header of the second one must not be read
/// as a frame from the year 2055.
#[test]
fn captures_put_one_after_the_other_are_read_on() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let bytes = fs::read(fixture("decode-mix/mix.pcap")).expect("the fixture");
    let path = scratch.path().join("both.pcap");
    fs::write(&path, [&bytes[..], &bytes].concat()).expect("writable");
    let (frames, damaged) = read(&path, 1, false).expect("a capture");
    let (once, _) = read(&fixture("decode-mix/mix.pcap"), 1, false).expect("a capture");
    assert_eq!((frames, damaged), (2 * once, false));
}

/// Tests a named pipe, which can be opened only once.
#[test]
fn a_named_pipe_is_read() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let pipe = scratch.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let from = fixture("decode-mix/mix.pcap");
    let to = pipe.clone();
    let writer = std::thread::spawn(move || fs::copy(from, to).expect("the reader is there"));
    let output = rasaudit(["audit".as_ref(), pipe.as_os_str()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(support::stdout(&output).contains("84 frames in 1 input"));
    writer.join().expect("all was written");
}

/// A named pipe in a folder is not opened, because it might never end, but it is listed.
#[test]
fn a_named_pipe_in_a_folder_is_skipped_with_a_word() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let make = std::process::Command::new("mkfifo").arg(folder.path().join("pipe.pcap")).status();
    assert!(make.expect("mkfifo").success());
    let audit = |command: &str, more: &[&str]| {
        let folder = folder.path().as_os_str();
        let more = more.iter().map(std::ffi::OsStr::new);
        let output = rasaudit([command.as_ref(), folder].into_iter().chain(more));
        (output.status.code(), support::stdout(&output) + &stderr(&output))
    };
    let (code, said) = audit("audit", &[]);
    assert!(code == Some(2) && said.contains("pipe.pcap is a named pipe"), "{said}");
    fs::copy(fixture("farm-healthy/span.pcap"), folder.path().join("a.pcap")).expect("a copy");
    // A link to a folder is not followed.
    std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).expect("a link");
    let (code, said) = audit("audit", &[]);
    assert!(code == Some(0) && said.contains("pipe.pcap skipped: a named pipe"), "{said}");
    assert!(!said.contains("link"), "{said}");
    assert!(said.contains("10956 frames in 1 input:"), "{said}");
    let store = tempfile::tempdir().expect("a scratch folder");
    let (code, said) = audit("collect", &["--to", &store.path().display().to_string()]);
    assert!(code == Some(0) && said.contains("captures: 1, skipped files: 1"), "{said}");
    // A copy is not read again, so it is not counted as a further input.
    fs::copy(fixture("farm-healthy/span.pcap"), folder.path().join("b.pcap")).expect("a copy");
    let (_, said) = audit("audit", &[]);
    assert!(said.contains("10956 frames in 1 input:"), "{said}");
}

/// Returns a block of a pcapng file that claims the length `at_end` at its end.
fn block(kind: u32, body: &[u8], at_end: Option<u32>) -> Vec<u8> {
    let length = body.len() as u32 + 12;
    let head = [kind, length].map(u32::to_le_bytes).concat();
    [&head, body, &at_end.unwrap_or(length).to_le_bytes()].concat()
}

/// Returns a packet block with 60 zeros, at this time in microseconds and with this length on the
/// wire.
fn packet(micros: u64, wire_len: u32, at_end: Option<u32>) -> Vec<u8> {
    let fields = [0, (micros >> 32) as u32, micros as u32, 60, wire_len];
    block(6, &[fields.map(u32::to_le_bytes).concat(), vec![0; 60]].concat(), at_end)
}

/// Wrong lengths and times in the headers of frames are reported.
#[test]
fn wrong_headers_of_frames_are_reported() {
    const NOW: u64 = 1_780_000_000_000_000;
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("a.pcapng");
    let section = [0x1a2b_3c4d, 1, u32::MAX, u32::MAX].map(u32::to_le_bytes).concat();
    let start = [block(0x0a0d_0d0a, &section, None), block(1, &[1, 0, 0, 0, 0, 0, 0, 0], None)];
    let audit = |packets: &[Vec<u8>]| {
        fs::write(&path, [start.concat(), packets.concat()].concat()).expect("writable");
        let output = rasaudit(["audit".as_ref(), path.as_os_str()]);
        (output.status.code(), support::stdout(&output), stderr(&output))
    };
    let good = || packet(NOW, 60, None);
    assert_eq!(audit(&[good(), good()]).0, Some(0));
    let (code, out, err) = audit(&[good(), packet(NOW, 60, Some(96)), good()]);
    let words = "a block claims two different lengths (92 and 96 bytes) at byte";
    assert!(code == Some(3) && err.contains(words) && out.contains("1 frame in"), "{err}\n{out}");
    let (code, out, err) = audit(&[good(), packet(NOW, 0, None)]);
    let words = "1 frame claims a length of 0 bytes on the wire";
    assert!(code == Some(3) && err.contains(words) && out.contains("2 frames in"), "{err}\n{out}");
    let (code, out, err) = audit(&[packet(NOW, 59, None), packet(NOW, u32::MAX, None)]);
    let words = "1 frame claims a length on the wire below the number of captured bytes; the number of captured bytes was used; 1 frame claims a length on the wire above 16 MiB; the number";
    assert!(code == Some(3) && err.contains(words) && out.contains("2 frames in"), "{err}\n{out}");
    assert!(!out.contains("4.0 GiB") && !out.contains("4 GiB"), "{out}");
    let (code, out, err) = audit(&[packet(10 * NOW, 60, None), packet(11 * NOW, 60, None)]);
    let words = "2 frames claim a time before 1677 or after 2262, which was ignored";
    assert!(code == Some(3) && err.contains(words) && !out.contains("2262-04"), "{err}\n{out}");
}

/// A note in a folder of captures is not an error. An unreadable file with the name of a capture is
/// an error, because its traffic is missing.
#[test]
fn an_unusable_capture_in_a_folder_is_an_error_and_a_note_is_none() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let audit = || {
        let inventory = fixture("farm-healthy/inventory.toml");
        let output = rasaudit([
            "audit".as_ref(),
            folder.path().as_os_str(),
            "-i".as_ref(),
            inventory.as_os_str(),
        ]);
        (output.status.code(), stderr(&output))
    };
    let place = |name: &str| folder.path().join(name);
    std::fs::copy(fixture("farm-healthy/span.pcap"), place("a.pcap")).expect("a copy");
    std::fs::write(place("readme.txt"), "Recorded on Monday").expect("a note");
    assert_eq!(audit(), (Some(0), String::new()));
    for name in ["b.pcap", "b.pcapng.gz", "b.cap.7", "b.pcap9"] {
        std::fs::write(place(name), "").expect("an empty file");
        let (code, err) = audit();
        assert_eq!(code, Some(3), "{name}: {err}");
        assert!(err.contains(name), "{name}: {err}");
        std::fs::remove_file(place(name)).expect("a file");
    }
}
