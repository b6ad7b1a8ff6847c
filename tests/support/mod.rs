//! Helpers that the tests share: run the program, find fixtures, split and shuffle captures.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod browser;
pub mod engines;
pub mod frames;
pub mod span;
pub mod truth;
pub mod tshark;
pub mod wire;
pub mod wrap;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A capture below `fixtures/` with its inventory.
pub struct Fixture {
    pub name: &'static str,
    capture: &'static str,
    inventory: &'static str,
    exceptions: Option<&'static str>,
}

impl Fixture {
    const fn new(name: &'static str, capture: &'static str, inventory: &'static str) -> Self {
        Self { name, capture, inventory, exceptions: None }
    }

    pub fn capture(&self) -> PathBuf {
        fixture(self.capture)
    }

    pub fn inventory(&self) -> PathBuf {
        fixture(self.inventory)
    }

    /// Returns the arguments for an audit of the fixture, except the capture and the inventory.
    pub fn more(&self) -> Vec<String> {
        // The path is relative to the package root, because reports show it as it was given.
        let exceptions = self.exceptions.map(|file| format!("fixtures/{file}"));
        exceptions.map_or_else(Vec::new, |file| vec!["--exceptions".to_owned(), file])
    }

    /// Returns all arguments for an audit of the fixture.
    pub fn arguments(&self) -> Vec<String> {
        let capture = self.capture();
        let inventory = self.inventory();
        let [capture, inventory] = [capture, inventory].map(|path| path.display().to_string());
        [vec!["audit".to_owned(), capture, "-i".to_owned(), inventory], self.more()].concat()
    }

    /// Returns whether the capture is in the pcap format, not in pcapng.
    pub fn is_pcap(&self) -> bool {
        self.capture.ends_with(".pcap")
    }
}

/// The fixtures that consist of a capture and an inventory.
pub const FIXTURES: &[Fixture] = &[
    Fixture::new("farm-healthy", "farm-healthy/span.pcap", "farm-healthy/inventory.toml"),
    Fixture::new("farm-faults", "farm-faults/span.pcap", "farm-healthy/inventory.toml"),
    Fixture {
        exceptions: Some("farm-codes/exceptions.csv"),
        ..Fixture::new("farm-codes", "farm-codes/span.pcap", "farm-codes/inventory.toml")
    },
    Fixture::new("farm-domain", "farm-domain/span.pcap", "farm-domain/inventory.toml"),
    Fixture::new("farm-running", "farm-running/span.pcap", "farm-running/inventory.toml"),
    Fixture::new("decode-mix", "decode-mix/mix.pcap", "decode-mix/inventory.toml"),
    Fixture::new("decode-mix", "formats/sections.pcapng", "decode-mix/inventory.toml"),
    Fixture::new("services/names", "services/names.pcap", "services/inventory.toml"),
    Fixture::new("services/rpc", "services/rpc.pcap", "services/inventory.toml"),
    Fixture::new("services/lookups", "services/lookups.pcap", "services/inventory.toml"),
    Fixture::new("services/vrrp", "services/vrrp.pcap", "services/inventory.toml"),
];

pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path)
}

/// Reports that a test was skipped. Bypasses the harness, which would capture the message.
pub fn skipped(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}

/// Runs `rasaudit` with these arguments and waits for it to end.
pub fn rasaudit<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(arguments: I) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rasaudit")).args(arguments).output().expect("the program runs")
}

/// Runs `rasaudit audit --out` and returns the exit code. Panics if a signal ended the program.
pub fn audit(captures: &[PathBuf], inventory: &Path, out: &Path, more: &[&str]) -> i32 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
    command.arg("audit").args(captures).arg("--inventory").arg(inventory).arg("--out").arg(out);
    let output = command.args(more).output().expect("the program runs");
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

/// A generated capture and its inventory in a temporary folder.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub capture: PathBuf,
    pub inventory: PathBuf,
}

impl Site {
    pub fn new(inventory: &str, wire: &wire::Wire) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let at = |name| folder.path().join(name);
        let site = Self { capture: at("a.pcap"), inventory: at("a.toml"), folder };
        fs::write(&site.capture, wire.file()).expect("writable");
        fs::write(&site.inventory, inventory).expect("writable");
        site
    }

    /// Runs `rasaudit audit` on the capture with these additional arguments.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, more: &[S]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        command.arg("audit").arg(&self.capture).arg("-i").arg(&self.inventory);
        command.args(more).output().expect("the program runs")
    }

    /// Returns the report in this format. Panics if the exit code is neither 0 nor 1.
    pub fn report(&self, format: &str) -> String {
        let run = self.run(&["--format", format]);
        assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
        stdout(&run)
    }
}

/// Returns `[[host]]` tables of an inventory, one for each tuple of name, address and role.
pub fn hosts(list: &[(&str, &str, &str)]) -> String {
    let entry = |(name, address, role): &(&str, &str, &str)| {
        format!("[[host]]\nname = \"{name}\"\naddresses = [\"{address}\"]\nroles = [\"{role}\"]\n")
    };
    list.iter().map(entry).collect()
}

/// Audits a capture and returns the report in the format `conversations`.
pub fn conversations(capture: &Path, inventory: &Path) -> String {
    let output = rasaudit([
        "audit".as_ref(),
        capture.as_os_str(),
        "-i".as_ref(),
        inventory.as_os_str(),
        "--format".as_ref(),
        "conversations".as_ref(),
    ]);
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", stderr(&output));
    stdout(&output)
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8 on standard output")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8 on standard error")
}

/// Returns the reports in a folder, each with its file name. The parts of `audit.json` and of the
/// page that may depend on how a capture is split into files are removed: the list and the number
/// of inputs, the notes on individual inputs, the loss by input, and the exit reasons about inputs
/// that are cut off inside a record.
pub fn reports(folder: &Path) -> Vec<(String, String)> {
    let mut reports = Vec::new();
    for name in [
        "audit.json",
        "conversations.csv",
        "exceptions.csv",
        "findings.csv",
        "hosts.csv",
        "matrix.csv",
    ] {
        let path = folder.join(name);
        let mut text =
            fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if name == "audit.json" {
            let mut json: serde_json::Value =
                serde_json::from_str(&text).expect("audit.json is JSON");
            json.as_object_mut().expect("an object").remove("inputs");
            let reasons = json["exit_reasons"].as_array_mut().expect("a list");
            reasons.retain(|reason| {
                !reason.as_str().is_some_and(|r| r.contains("cut off inside a record"))
            });
            json["accounting"]["loss"].as_object_mut().expect("an object").remove("by_source");
            // Notes on the number of inputs and on individual inputs also depend on the split.
            let notes = json["notes"].as_array_mut().expect("a list");
            notes.retain(|note| note["label"] != "Capture" && note["label"] != "Input");
            text = serde_json::to_string_pretty(&json).expect("JSON");
        }
        reports.push((name.to_owned(), text));
    }
    let page = fs::read_to_string(folder.join("report.html")).expect("a page");
    reports.push(("report.html".to_owned(), without_inputs(&page)));
    reports
}

/// Returns a page without the list of inputs, the number of inputs, and the notes on individual
/// inputs.
fn without_inputs(page: &str) -> String {
    let (before, cover) = page.split_once("<div class=\"inputs\">").expect("inputs of the cover");
    let (_, cover) = cover.split_once("</div>").expect("their end");
    let page = format!("{before}{cover}");
    let (before, rest) = page.split_once("<details class=\"read\">").expect("inputs");
    let (_, after) = rest.split_once("</details>").expect("their end");
    let (before, facts) = before.split_once("<dl class=\"facts\">").expect("facts");
    let counted = |fact: &str| {
        let (count, rest) = fact.split_once(" in ")?;
        let (_, rest) = rest.split_once(": ")?;
        fact.contains("<dt>Capture</dt>").then(|| format!("{count}: {rest}"))
    };
    let facts = facts.split_inclusive("</div>").filter(|fact| !fact.contains("<dt>Input</dt>"));
    let facts: String =
        facts.map(|fact| counted(fact).unwrap_or_else(|| fact.to_owned())).collect();
    format!("{before}{facts}{after}")
}

/// A xorshift64* random number generator. Tests use fixed seeds, so that failures can be
/// reproduced.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// A little-endian pcap file split into its header, its complete records, and the rest of a
/// truncated last record.
pub struct Records {
    pub header: Vec<u8>,
    pub records: Vec<Vec<u8>>,
    pub rest: Vec<u8>,
}

impl Records {
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).expect("the fixture is there");
        assert_eq!(bytes[..4], [0xd4, 0xc3, 0xb2, 0xa1], "a little-endian pcap file");
        let mut records = Vec::new();
        let mut at = 24;
        while at < bytes.len() {
            let length: [u8; 4] = bytes[at + 8..at + 12].try_into().expect("four bytes");
            let end = at + 16 + u32::from_le_bytes(length) as usize;
            let Some(record) = bytes.get(at..end) else { break };
            records.push(record.to_vec());
            at = end;
        }
        Self { header: bytes[..24].to_vec(), records, rest: bytes[at..].to_vec() }
    }

    pub fn write(&self, path: &Path, records: &[Vec<u8>]) {
        let bytes: Vec<u8> = self.header.iter().chain(records.iter().flatten()).copied().collect();
        fs::write(path, bytes).expect("the scratch folder is writable");
    }

    /// Splits the capture at random records into `pieces` files, whose names sort in random order.
    pub fn cut(&self, folder: &Path, pieces: usize, random: &mut Random) -> Vec<PathBuf> {
        let mut cuts: Vec<usize> =
            (1..pieces).map(|_| random.below(self.records.len() + 1)).collect();
        cuts.extend([0, self.records.len()]);
        cuts.sort_unstable();
        let mut names: Vec<usize> = (0..pieces).collect();
        random.shuffle(&mut names);
        let mut files = Vec::new();
        for (piece, name) in cuts.windows(2).zip(names) {
            let path = folder.join(format!("piece{name}.pcap"));
            let mut records = self.records[piece[0]..piece[1]].to_vec();
            if files.len() + 1 == pieces {
                records.push(self.rest.clone());
            }
            self.write(&path, &records);
            files.push(path);
        }
        files
    }
}

/// Returns the named columns of a CSV report, row by row.
pub fn columns(report: &str, wanted: &[&str]) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_reader(report.as_bytes());
    let header = reader.headers().expect("a header").clone();
    let positions: Vec<usize> =
        wanted.iter().map(|w| header.iter().position(|h| h == *w).expect("the column")).collect();
    reader
        .records()
        .map(|row| {
            let row = row.expect("a row");
            positions.iter().map(|p| row[*p].to_owned()).collect()
        })
        .collect()
}
