//! The row of an input, which is a capture or a window of a live audit. It states what was read,
//! with which options, and which rows of evidence were written for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ledger::Manifest;
use super::row::{INPUT_BUCKET, StoredKind, StoredRef, StoredRow};
use super::sensor::Sensor;
use super::windows::WindowSelection;
use crate::capture::InputContent;
use crate::model::{
    ActivityHistogram, FrameCounters, InputRecord, Merge, Nanos, SkipReason, VantagePoint,
};
use crate::pipeline::{Request, WindowStart};

/// The first byte of the record of an input: the version of its layout. In layout 1, the record
/// ends before [`WindowedPart`]. Layouts 1 and 2 are not sealed. Up to layout 3, the fingerprints
/// of packets depend on the checksums of TCP and UDP.
const VERSION: u8 = 4;

/// The last layout in which fingerprints depend on checksums. Apart from that, it is the same as
/// the current one.
const WITH_CHECKSUMS: u8 = 3;

/// The largest plausible value of a counter. This limit keeps sums from overflowing.
const MOST: u64 = 1 << 48;

/// Returns the content that an input has if not a single byte of it can be read.
pub(super) fn unreadable_content(name: &str) -> InputContent {
    Sha256::digest(format!("unreadable {name}")).into()
}

/// The options that determine which rows are written for a capture.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CollectOptions {
    /// A BPF expression; frames that do not match are skipped.
    pub filter: Option<String>,
    /// Frames before this time are skipped.
    pub since: Option<Nanos>,
    /// Frames at or after this time are skipped.
    pub until: Option<Nanos>,
    /// Whether the tunnels themselves are read instead of their contents.
    pub no_decap: bool,
    /// UDP ports on which to look for VXLAN in addition to the usual ones.
    pub vxlan_ports: Vec<u16>,
    /// The tunnels that the inventory lists, as text.
    pub tunnels: Vec<String>,
    /// Whether parts of messages that name a server are kept.
    pub pieces: bool,
    /// Whether the fingerprint, time, size and encapsulation of each packet are kept, so that
    /// duplicates can be found.
    pub traces: bool,
    /// The length of the windows that divide the rows, in nanoseconds; `None` if the rows are not
    /// divided.
    #[serde(skip)]
    pub window: Option<Nanos>,
    /// How the fingerprints of packets were computed.
    #[serde(skip)]
    pub fingerprints: FingerprintRule,
}

/// How the fingerprints of packets were computed. Only fingerprints that were computed in the same
/// way can be compared.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum FingerprintRule {
    /// As this version computes them.
    #[default]
    Current,
    /// With the checksums of TCP and UDP, as in layouts 1 to 3.
    Checksums,
}

/// What is kept of single packets in addition to other evidence.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct KeptPackets {
    /// Whether parts of messages that name a server are kept. They contain payload.
    pub pieces: bool,
    /// Whether the fingerprint, time, size and encapsulation of each packet are kept, so that
    /// duplicates can be found.
    pub traces: bool,
}

impl CollectOptions {
    /// Returns the options of a request that does not divide rows by windows.
    pub fn of(request: &Request, KeptPackets { pieces, traces }: KeptPackets) -> Self {
        let mut vxlan_ports = request.vxlan_ports.clone();
        vxlan_ports.sort_unstable();
        vxlan_ports.dedup();
        Self {
            filter: request.filter.clone(),
            since: request.since,
            until: request.until,
            no_decap: request.no_decap,
            vxlan_ports,
            tunnels: tunnel_texts(request),
            pieces,
            traces,
            window: None,
            fingerprints: FingerprintRule::Current,
        }
    }

    /// Returns the windows that the options select.
    pub(super) fn windows(&self) -> WindowSelection {
        WindowSelection::collected(self.window, self.since, self.until)
    }

    /// Returns what is kept of single packets.
    pub fn kept(&self) -> KeptPackets {
        KeptPackets { pieces: self.pieces, traces: self.traces }
    }

    /// Returns the first difference from other options, as the part of a sentence between "was
    /// collected" and the name of the input with those options; `like` if there is none.
    pub fn difference(&self, other: &Self) -> String {
        if self.filter != other.filter {
            let [own, other] = [self, other].map(|options| match &options.filter {
                Some(filter) => format!("\"{filter}\""),
                None => "none".to_owned(),
            });
            return format!("with a different --filter ({own} instead of {other}) than");
        }
        let differences = [
            (self.since != other.since, "with a different --since than"),
            (self.until != other.until, "with a different --until than"),
            (self.no_decap != other.no_decap, "with a different setting of --no-decap than"),
            (self.vxlan_ports != other.vxlan_ports, "with a different --vxlan-port than"),
            (self.tunnels != other.tunnels, "with different tunnels in --inventory than"),
            (self.pieces != other.pieces, "with a different setting of --pieces than"),
            (self.traces != other.traces, "with a different setting of --traces than"),
            (self.window != other.window, "with a different --window than"),
            (
                self.fingerprints != other.fingerprints,
                "by a version that recognizes duplicates differently than the version that collected",
            ),
        ];
        let first = differences.into_iter().find(|(differs, _)| *differs);
        first.map_or("like", |(_, words)| words).to_owned()
    }

    /// Returns the option `--filter` with its value, or the words `no --filter`.
    pub(super) fn filter_words(&self) -> String {
        match &self.filter {
            Some(filter) => format!("--filter \"{filter}\""),
            None => "no --filter".to_owned(),
        }
    }

    /// Returns a short hash of the options, for identities of inputs and names of files.
    pub fn hash(&self) -> String {
        let mut bytes = postcard::to_stdvec(self).unwrap_or_default();
        // Without windows, the hash is that of earlier versions, so that identities do not change.
        bytes.extend(self.window.iter().flat_map(|window| window.to_le_bytes()));
        hex(&Sha256::digest(bytes)[..4])
    }
}

/// Returns the tunnels of a request as text, sorted.
pub(super) fn tunnel_texts(request: &Request) -> Vec<String> {
    let mut tunnels: Vec<_> = request.tunnels.iter().map(|tunnel| format!("{tunnel:?}")).collect();
    tunnels.sort_unstable();
    tunnels
}

/// Returns a short hash of the name of an input, for identities of inputs and names of files.
pub(super) fn name_hash(name: &str) -> String {
    hex(&Sha256::digest(name.as_bytes())[..4])
}

/// Returns whether two names of captures are the same path, written in two ways: one of them may
/// begin with `./`, or be absolute and end with the other.
pub(super) fn is_same_path(a: &str, b: &str) -> bool {
    let [a, b] = [a, b].map(Path::new).map(|path| path.strip_prefix(".").unwrap_or(path));
    let ends_with = |long: &Path, short: &Path| {
        long.is_absolute() && short.is_relative() && long.ends_with(short)
    };
    a == b || ends_with(a, b) || ends_with(b, a)
}

/// Returns other ways to write a path: without `./` at its start, with it, as an absolute path, and
/// as one that is relative to the current folder.
pub(super) fn other_spellings(name: &str) -> Vec<String> {
    let path = Path::new(name);
    let path = path.strip_prefix(".").unwrap_or(path);
    let here = std::env::current_dir().unwrap_or_default();
    let relative = path.strip_prefix(&here).unwrap_or(path);
    let all = [relative.to_owned(), Path::new(".").join(relative), here.join(relative)];
    let all = all.into_iter().filter_map(|path| path.into_os_string().into_string().ok());
    all.filter(|other| other != name).collect()
}

/// What was read from an input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct InputRow {
    /// The version of the program that read the input.
    pub tool: String,
    /// The options with which it was read.
    pub options: CollectOptions,
    /// The SHA-256 of the capture after decompression, or as it is stored if it cannot be
    /// decompressed. For a window of a live audit, or a capture that cannot be read,
    /// it is the SHA-256 of a text that identifies the input.
    pub content: InputContent,
    /// The record of the input.
    pub record: InputRecord,
    /// When its frames were captured.
    pub timeline: ActivityHistogram,
    /// The rows of evidence that were written for it.
    pub manifest: Manifest,
    /// The counters of the frames of each window, in order; empty if the rows are not divided.
    #[serde(skip)]
    pub windows: Vec<(WindowStart, FrameCounters)>,
    /// The sensor that captured the input; `None` if the sensor has no name. It is the last part of
    /// the stored record.
    #[serde(skip)]
    pub sensor: Option<Sensor>,
}

/// The part that follows [`InputRow`] in the record of an input. Layout 1 does not have it.
#[derive(Serialize, Deserialize)]
struct WindowedPart {
    window: Option<Nanos>,
    windows: Vec<(WindowStart, FrameCounters)>,
}

impl InputRow {
    /// Returns the identity of the input, which is the same for the same content, name and options.
    pub fn id(&self) -> String {
        let name = name_hash(&self.record.name);
        format!("{}-{name}-{}", hex(&self.content[..16]), self.options.hash())
    }

    /// Returns whether the evidence of the input was written for the input itself. If inputs of one
    /// `rasaudit collect` have the same content, only the first of them has evidence.
    pub fn has_evidence(&self) -> bool {
        self.record.same_as.is_none()
    }

    /// Returns the size of the content in bytes, after decompression; `None` if it is unknown. For
    /// a window of a live audit, which no file can equal, it is 0.
    pub fn content_size(&self) -> Option<u64> {
        let InputRecord { format, size, .. } = &self.record;
        let is_window = self.sensor.as_ref().is_some_and(|sensor| sensor.window.is_some());
        let is_known = is_window || *size > 0 && !format.contains(", ");
        is_known.then_some(*size)
    }

    /// Returns the number of frames that the row of the input accounts for, because no row of
    /// evidence does: skipped frames, frames without an IP packet, and frames whose evidence was
    /// dropped because memory was short.
    pub fn accounted(&self) -> u64 {
        let FrameCounters { skipped, non_ip, .. } = &self.record.account;
        let window = self.sensor.as_ref().and_then(|sensor| sensor.window.as_ref());
        let dropped = window.map_or(0, |window| window.dropped);
        skipped.total() + non_ip.values().sum::<u64>() + dropped
    }

    /// Returns the name of the sensor that captured the input; `None` if it has none.
    pub fn point(&self) -> Option<&VantagePoint> {
        self.sensor.as_ref().map(|sensor| &sensor.point)
    }

    /// Returns the record and the timeline that the input has if the frames of windows that are not
    /// selected are skipped. If the rows are not divided by windows, both are unchanged.
    pub fn within(&self, selection: &WindowSelection) -> (InputRecord, ActivityHistogram) {
        let mut record = self.record.clone();
        if self.windows.is_empty() {
            return (record, self.timeline.clone());
        }
        record.account = FrameCounters::default();
        for (window, own) in &self.windows {
            if selection.includes(*window) {
                record.account.merge(own);
                continue;
            }
            let FrameCounters { frames, bytes, truncated, .. } = *own;
            let mut outside = FrameCounters { frames, bytes, truncated, ..Default::default() };
            outside.skipped.add(SkipReason::OutsideWindow, frames);
            record.account.merge(&outside);
        }
        (record, self.timeline.within(|time| selection.includes_time(time)))
    }

    /// Returns the input as a row.
    pub fn to_row(&self) -> StoredRow {
        let windowed = WindowedPart { window: self.options.window, windows: self.windows.clone() };
        let mut record = postcard::to_stdvec(&(self, windowed)).unwrap_or_default();
        if let Some(sensor) = &self.sensor {
            record.extend(postcard::to_stdvec(sensor).unwrap_or_default());
        }
        let version = match self.options.fingerprints {
            FingerprintRule::Current => VERSION,
            FingerprintRule::Checksums => WITH_CHECKSUMS,
        };
        StoredRow {
            bucket: INPUT_BUCKET,
            kind: StoredKind::Input,
            key: self.id().into_bytes(),
            window: None,
            input: self.id(),
            parts: 1,
            record: sealed(version, &record),
            read: Default::default(),
        }
    }

    /// Reads the row of an input.
    ///
    /// # Errors
    ///
    /// Returns an error if the row is not valid.
    pub fn of_row(row: &StoredRef<'_>) -> Result<Self, String> {
        let damaged = || "has a damaged record of an input; collect the captures again".to_owned();
        let (version, rest) = row.record.split_first().ok_or_else(damaged)?;
        if !(1..=VERSION).contains(version) {
            return Err(format!(
                "has a record of an input in layout {version}; this version reads layouts 1 to {VERSION}; use the version that wrote it"
            ));
        }
        let rest = if *version < 3 { Some(rest) } else { unsealed(rest) };
        let (mut input, mut rest): (Self, _) =
            rest.and_then(|rest| postcard::take_from_bytes(rest).ok()).ok_or_else(damaged)?;
        if *version <= WITH_CHECKSUMS {
            input.options.fingerprints = FingerprintRule::Checksums;
        }
        if *version > 1 {
            let (windowed, after): (WindowedPart, _) =
                postcard::take_from_bytes(rest).map_err(|_| damaged())?;
            input.options.window = windowed.window;
            input.windows = windowed.windows;
            rest = after;
            if !rest.is_empty() {
                let (sensor, after) = postcard::take_from_bytes(rest).map_err(|_| damaged())?;
                input.sensor = Some(sensor);
                rest = after;
            }
        }
        if !rest.is_empty() || row.window.is_some() {
            return Err(damaged());
        }
        let id = input.id();
        let is_own = row.key == id.as_bytes() && row.input == id && row.bucket == INPUT_BUCKET;
        if is_own && row.parts == 1 && input.is_plausible() { Ok(input) } else { Err(damaged()) }
    }

    /// Returns whether all counters are plausible, so that their sums cannot overflow, and whether
    /// the windows are: only divided rows have them, and their counters add up to those of the
    /// input.
    fn is_plausible(&self) -> bool {
        let InputRecord { account, loss, size, .. } = &self.record;
        let windows = self.windows.iter().map(|(_, own)| own);
        if !std::iter::once(account).chain(windows.clone()).all(has_plausible_counters) {
            return false;
        }
        let mut all = FrameCounters::default();
        windows.for_each(|own| all.merge(own));
        let has_windows = self.options.window.is_none_or(|length| length > 0 && all == *account);
        let is_divided = self.options.window.is_some() || self.windows.is_empty();
        let window = self.sensor.as_ref().and_then(|sensor| sensor.window.as_ref());
        let dropped = window.map_or(0, |window| window.dropped);
        let own = [loss.received, loss.dropped, *size, dropped];
        let is_plausible = own.iter().all(|count| *count <= MOST);
        is_plausible && has_windows && is_divided && self.timeline.is_plausible(MOST)
    }
}

/// Returns whether all counters are at most [`MOST`].
fn has_plausible_counters(account: &FrameCounters) -> bool {
    let of_map = |counts: &BTreeMap<u16, u64>| counts.values().copied().collect::<Vec<_>>();
    let counters = [
        account.frames,
        account.observations,
        account.truncated,
        account.bad_checksums,
        account.portless,
        account.fragments,
        account.bytes,
    ];
    let skipped = account.skipped.iter().map(|(_, count)| count);
    let mut all = counters
        .into_iter()
        .chain(skipped)
        .chain(of_map(&account.non_ip))
        .chain(of_map(&account.unknown_links))
        .chain(account.opaque.values().copied());
    all.all(|count| count <= MOST)
}

/// The number of bytes of the hash in a sealed record.
const SEAL: usize = 8;

/// Returns a sealed record: the version of its layout, a hash of the content, and the content.
pub(super) fn sealed(version: u8, content: &[u8]) -> Vec<u8> {
    let hash = Sha256::digest(content);
    [&[version], &hash[..SEAL], content].concat()
}

/// Returns the content of a sealed record from which the version was removed; `None` if the record
/// is too short or its hash does not match the content.
pub(super) fn unsealed(record: &[u8]) -> Option<&[u8]> {
    let (seal, content) = record.split_at_checked(SEAL)?;
    (Sha256::digest(content)[..SEAL] == *seal).then_some(content)
}

/// Returns bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the hash of the first `size` bytes of a file, or of all of them if it is shorter.
///
/// # Errors
///
/// Returns an error if the file cannot be read.
pub(super) fn hash_start(path: &Path, size: u64) -> io::Result<InputContent> {
    let mut file = File::open(path)?.take(size);
    let mut digest = Sha256::new();
    let mut block = vec![0; 1 << 18];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(digest.finalize().into()),
            read => digest.update(&block[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_written_in_several_ways() {
        for (a, b) in [("c/f", "./c/f"), ("c/f", "/a/b/c/f"), ("/a/c/f", "./c/f"), ("c//f", "c/f")]
        {
            assert!(is_same_path(a, b) && is_same_path(b, a), "{a} {b}");
        }
        for (a, b) in [("a/f", "b/f"), ("/a/c/f", "/b/c/f"), ("f", "ef"), ("-", "./f")] {
            assert!(!is_same_path(a, b) && !is_same_path(b, a), "{a} {b}");
        }
        let here = std::env::current_dir().expect("a folder");
        let absolute = here.join("c/f").display().to_string();
        for own in ["c/f", "./c/f", &absolute] {
            let mut all = other_spellings(own);
            all.push(own.to_owned());
            all.sort();
            assert_eq!(all, ["./c/f", &absolute, "c/f"], "{own}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_an_error() {
        let mut input = InputRow {
            tool: "1.2.3".to_owned(),
            options: CollectOptions::default(),
            content: Default::default(),
            record: InputRecord { name: "a.pcap".to_owned(), ..InputRecord::default() },
            timeline: ActivityHistogram::default(),
            manifest: Vec::new(),
            windows: Vec::new(),
            sensor: None,
        };
        input.record.loss.dropped = 7;
        let row = input.to_row();
        assert_eq!(InputRow::of_row(&row.as_ref()).map(|read| read.to_row()).as_ref(), Ok(&row));
        for bit in 0..8 * row.record.len() {
            let mut flipped = row.clone();
            flipped.record[bit / 8] ^= 1 << (bit % 8);
            assert!(InputRow::of_row(&flipped.as_ref()).is_err(), "bit {bit}");
        }
    }
}
