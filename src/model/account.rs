//! Accounts for everything that was read. Each input has its own record, and every frame is counted
//! exactly once, either as an observation or under a skip reason.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize};

use super::merge::{Max, Merge, Min};
use super::named_enum;

named_enum!(
    /// Why a frame did not become an observation. The list is closed: every skipped frame has
    /// exactly one of these reasons.
    SkipReason {
        /// A link type that rasaudit does not decode.
        UnknownLinkType = "unknown-link-type",
        /// Truncated before the end of the link-layer header.
        TruncatedLinkHeader = "truncated-link-header",
        /// An invalid link-layer header.
        BadLinkHeader = "bad-link-header",
        /// Encrypted below IP, with IEEE 802.11 protection or IEEE 802.1AE (MACsec).
        EncryptedLink = "encrypted-link",
        /// An IEEE 802.11 frame that carries no packet: a management or control frame, or a data
        /// frame without data.
        WlanManagement = "wlan-management",
        /// A later fragment of an IEEE 802.11 frame. The headers are in the first fragment.
        WlanFragment = "wlan-fragment",
        /// An IEEE 802.11 frame that aggregates several packets (A-MSDU).
        WlanAggregate = "wlan-aggregate",
        /// Truncated inside a VLAN tag.
        TruncatedVlanTag = "truncated-vlan-tag",
        /// More nested layers than the decoder follows.
        TooManyEncapsulations = "too-many-encapsulations",
        /// Truncated before the end of the IP header.
        TruncatedIpHeader = "truncated-ip-header",
        /// An invalid IP header: a wrong version or an impossible length.
        BadIpHeader = "bad-ip-header",
        /// A chain of IPv6 extension headers that is longer than the decoder follows.
        TooManyExtensionHeaders = "too-many-extension-headers",
        /// Excluded by the user's filter (`--filter`).
        Filtered = "filtered",
        /// Outside the requested time range (`--since`, `--until`).
        OutsideWindow = "outside-window",
    }
);

impl SkipReason {
    /// The reasons of frames that the user asked to leave out.
    pub const REQUESTED: [Self; 2] = [Self::Filtered, Self::OutsideWindow];

    /// Returns advice on what the user can do about frames that were skipped for this reason;
    /// `None` if there is nothing to do.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::TruncatedLinkHeader | Self::TruncatedVlanTag | Self::TruncatedIpHeader => {
                "capture with a longer snaplen (128 bytes or more)"
            }
            Self::EncryptedLink => {
                "capture on the decrypted side of the access point or switch, or decrypt the capture first"
            }
            Self::WlanFragment | Self::WlanAggregate => "capture on the wired side",
            Self::TooManyEncapsulations => "inspect these frames: such deep nesting is not normal",
            Self::TooManyExtensionHeaders => {
                "inspect these frames: so many extension headers are not normal"
            }
            Self::UnknownLinkType => "capture on an interface of another kind, such as Ethernet",
            Self::BadLinkHeader | Self::BadIpHeader => {
                "inspect these frames: they are damaged, or the file states the wrong link type"
            }
            Self::WlanManagement | Self::Filtered | Self::OutsideWindow => return None,
        })
    }
}

/// Skipped frames, counted by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SkipCounts([u64; SkipReason::ALL.len()]);

impl SkipCounts {
    /// Counts one frame that was skipped for `reason`.
    pub fn count(&mut self, reason: SkipReason) {
        self.add(reason, 1);
    }

    /// Counts several frames that were skipped for `reason`.
    pub fn add(&mut self, reason: SkipReason, frames: u64) {
        self.0[reason as usize] += frames;
    }

    /// Returns the number of frames that were skipped for `reason`.
    pub fn get(&self, reason: SkipReason) -> u64 {
        self.0[reason as usize]
    }

    /// Returns the total number of skipped frames.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (SkipReason, u64)> + '_ {
        SkipReason::ALL.iter().map(|r| (*r, self.get(*r))).filter(|(_, n)| *n > 0)
    }
}

impl Merge for SkipCounts {
    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

impl Serialize for SkipCounts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Some formats write the number of entries first, so it must be known.
        let mut map = serializer.serialize_map(Some(self.iter().count()))?;
        for (reason, count) in self.iter() {
            map.serialize_entry(reason.name(), &count)?;
        }
        map.end()
    }
}

/// Reads counts that are keyed by reason name. Unknown reasons, which another version may have
/// written, are dropped.
impl<'de> Deserialize<'de> for SkipCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counts = BTreeMap::<String, u64>::deserialize(deserializer)?;
        let mut reasons = Self::default();
        for (name, count) in counts {
            if let Some(reason) = SkipReason::parse(&name) {
                reasons.0[reason as usize] += count;
            }
        }
        Ok(reasons)
    }
}

/// Counters of the frames of one input or, after merging, of all inputs, by outcome.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct FrameCounters {
    /// Frames read from the input.
    pub frames: u64,
    /// Frames that became observations.
    pub observations: u64,
    /// Frames that did not become observations, counted by reason.
    pub skipped: SkipCounts,
    /// Truncated frames. The capture kept fewer bytes than were on the wire.
    pub truncated: u64,
    /// Observations whose IPv4 header checksum is wrong. They are used anyway.
    pub bad_checksums: u64,
    /// Observations that are not IP packets, counted by EtherType. Values below 3 are not
    /// EtherTypes: 0 means content without one, as in most IEEE 802.2 frames, 1 an unknown kind of
    /// IEEE 802.2, and 2 IEEE 802.11 in a capture that declares it as Ethernet.
    pub non_ip: BTreeMap<u16, u64>,
    /// IP packets whose ports are unknown, because the packet is truncated, or is an ICMP error
    /// without a readable quotation.
    pub portless: u64,
    /// Later IP fragments. They do not contain ports.
    pub fragments: u64,
    /// Observations of a tunnel whose inner packet could not be decoded, counted by tunnel name.
    pub opaque: BTreeMap<String, u64>,
    /// Frames whose link type is not decoded, counted by link type.
    pub unknown_links: BTreeMap<u16, u64>,
    /// Sum of the lengths of all frames on the wire, in bytes.
    pub bytes: u64,
    /// Time of the earliest frame within the requested time range.
    pub first: Min,
    /// Time of the latest frame within the requested time range.
    pub last: Max,
}

impl Merge for FrameCounters {
    fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        self.observations += other.observations;
        self.skipped.merge(&other.skipped);
        self.truncated += other.truncated;
        self.bad_checksums += other.bad_checksums;
        for (ethertype, count) in &other.non_ip {
            *self.non_ip.entry(*ethertype).or_default() += count;
        }
        self.portless += other.portless;
        self.fragments += other.fragments;
        for (tunnel, count) in &other.opaque {
            *self.opaque.entry(tunnel.clone()).or_default() += count;
        }
        for (link, count) in &other.unknown_links {
            *self.unknown_links.entry(*link).or_default() += count;
        }
        self.bytes += other.bytes;
        self.first.merge(&other.first);
        self.last.merge(&other.last);
    }
}

/// Duplicate frames in a sample of packets, counted by how they differ from an earlier frame.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct DuplicateCounts {
    /// Frames in the sample.
    pub sampled: u64,
    /// Duplicates that do not differ from an earlier frame.
    pub same: u64,
    /// Duplicates seen on a different interface of the file.
    pub interfaces: u64,
    /// Duplicates in a different VLAN.
    pub vlans: u64,
    /// Duplicates with a different hardware address, time to live or tunnel.
    pub hops: u64,
}

impl DuplicateCounts {
    /// Returns the total number of duplicates in the sample.
    pub fn total(self) -> u64 {
        self.same + self.interfaces + self.vlans + self.hops
    }

    /// Returns the counts of a sample of at most `most` packets with the same shares. Packets that
    /// recur often count as an estimate, which may exceed the number of all packets.
    #[must_use]
    pub fn at_most(self, most: u64) -> Self {
        if self.sampled <= most {
            return self;
        }
        let of = u128::from(self.sampled);
        let scaled = |count: u64| {
            let scaled = u128::from(count) * u128::from(most) / of;
            u64::try_from(scaled).unwrap_or(most)
        };
        Self {
            sampled: most,
            same: scaled(self.same),
            interfaces: scaled(self.interfaces),
            vlans: scaled(self.vlans),
            hops: scaled(self.hops),
        }
    }

    /// Returns whether at least 1% of the sample are duplicates, enough to distort packet and byte
    /// counts.
    pub fn shows_doubling(self) -> bool {
        self.share(self.total()) >= 0.01
    }

    /// Returns `count` as a share of the sampled frames, 0 to 1.
    pub fn share(self, count: u64) -> f64 {
        if self.sampled == 0 { 0.0 } else { count as f64 / self.sampled as f64 }
    }
}

named_enum!(
    /// How duplicates in packet and byte counts were handled.
    Correction {
        /// The sample shows almost no duplicates.
        NotNeeded = "not-needed",
        /// The duplicates were removed from the counts.
        Done = "done",
        /// The user switched the correction off (`--dedup off`).
        Off = "off",
        /// The correction requires reading the input a second time, which is not possible.
        Impossible = "impossible",
    }
);

impl Duplicates {
    /// Returns whether duplicates still distort the counters.
    pub fn are_counted(self) -> bool {
        self.sample.shows_doubling() && self.correction != Correction::Done
    }
}

/// Packets that the capture shows more than once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Duplicates {
    /// Counts from a sample of the frames.
    pub sample: DuplicateCounts,
    /// How the duplicates were handled.
    pub correction: Correction,
    /// Number of packets removed from the counters.
    pub removed: u64,
}

/// Frame loss as the capture itself reports it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// Frames that reached the capturing interface or system, as far as it reports them.
    pub received: u64,
    /// Frames dropped by the interface or the operating system.
    pub dropped: u64,
}

impl Loss {
    /// Returns the share of frames that were lost, 0 to 1; zero if the capture reports no counts.
    pub fn share(self) -> f64 {
        let all = self.received.max(self.dropped);
        if all == 0 { 0.0 } else { self.dropped as f64 / all as f64 }
    }

    /// Returns the total that the number of lost frames refers to, as the end of a phrase, for
    /// example `of 10`. The total is unknown if the system counts only the lost frames.
    pub fn of_all(self) -> String {
        if self.received < self.dropped {
            "of an unknown number".to_owned()
        } else {
            format!("of {}", self.received)
        }
    }
}

impl Merge for Loss {
    fn merge(&mut self, other: &Self) {
        self.received = self.received.saturating_add(other.received);
        self.dropped = self.dropped.saturating_add(other.dropped);
    }
}

/// The record of one input: its identity and what was read from it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct InputRecord {
    /// The file as the user named it, `-` for standard input, or the name of an interface or of a
    /// window of a live audit.
    pub name: String,
    /// Size in bytes; 0 if unknown.
    pub size: u64,
    /// `pcap` or `pcapng`, followed by the compression format if there is one (`pcap, gzip`), or
    /// `live` for an interface and for a window of a live audit. If the input cannot be
    /// decompressed, only the compression format. Empty if the format is unknown or the input was
    /// not read.
    pub format: String,
    /// Registry numbers (LINKTYPE) of the link types that the input declares.
    pub link_types: Vec<u16>,
    /// Capture filters that were active according to the file.
    pub filters: Vec<String>,
    /// SHA-256 of the stored bytes in lower-case hex, if requested.
    pub sha256: Option<String>,
    /// SHA-256 of the bytes after decompression; `None` if the input is not compressed, a part of
    /// it cannot be decompressed, or the hash was not requested.
    #[serde(skip)]
    pub unpacked: Option<[u8; 32]>,
    /// How many frames became observations, and how many were skipped for each reason.
    pub account: FrameCounters,
    /// Frame loss that the input reports.
    pub loss: Loss,
    /// Why the input, or a part of it, could not be read or is missing; `None` if the input is
    /// complete.
    pub error: Option<String>,
    /// Whether something is missing, but nothing is damaged: the input ends inside a record, as an
    /// interrupted capture does, or rows are missing from a window of a live audit.
    pub is_cut: bool,
    /// Whether the timestamps contain nanoseconds although the file declares microseconds.
    pub hidden_nanos: bool,
    /// Zeros in place of records: the offset of the first zero in the file, and the number of zero
    /// bytes.
    pub zeros: (u64, u64),
    /// Number of drop counters in the file that have impossible values and are ignored.
    pub impossible_drops: u64,
    /// Whether the input was found in a directory and skipped because neither its name nor its
    /// content is that of a capture. This is not an error.
    pub passed_over: bool,
    /// Name of the input with the same content that was read instead, if any.
    pub same_as: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_never_larger_than_the_capture() {
        let sample = DuplicateCounts { sampled: 900, same: 450, hops: 90, ..Default::default() };
        let expected = DuplicateCounts { sampled: 600, same: 300, hops: 60, ..Default::default() };
        assert_eq!(sample.at_most(600), expected);
        assert_eq!(sample.at_most(900), sample);
    }

    #[test]
    fn lost_frames_are_never_more_than_all_frames() {
        assert_eq!(Loss { received: 10, dropped: 3 }.of_all(), "of 10");
        assert_eq!(Loss { received: 0, dropped: 1616 }.of_all(), "of an unknown number");
    }
}
