//! The account of what was read. Each input has its own record, and every frame is counted exactly
//! once, as an observation or under a named reason.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize};

use super::merge::{Max, Merge, Min};
use super::named_enum;

named_enum!(
    /// Why a frame did not become an observation. The list is closed: a new reason needs a new line
    /// here.
    SkipReason {
        /// Rasaudit does not decode this link type.
        UnknownLinkType = "unknown-link-type",
        /// Cut off before the end of the link-layer header.
        TruncatedLinkHeader = "truncated-link-header",
        /// The link-layer header contradicts itself.
        BadLinkHeader = "bad-link-header",
        /// Encrypted below IP: IEEE 802.11 protection, IEEE 802.1AE (MACsec).
        EncryptedLink = "encrypted-link",
        /// An IEEE 802.11 management or control frame, which carries no packet.
        WlanManagement = "wlan-management",
        /// A later fragment of an IEEE 802.11 frame, whose headers are in the first one.
        WlanFragment = "wlan-fragment",
        /// Several packets in one IEEE 802.11 frame.
        WlanAggregate = "wlan-aggregate",
        /// Cut off inside a VLAN tag.
        TruncatedVlanTag = "truncated-vlan-tag",
        /// More layers around the packet than the decoder follows.
        TooManyEncapsulations = "too-many-encapsulations",
        /// Cut off before the end of the IP header.
        TruncatedIpHeader = "truncated-ip-header",
        /// The IP header contradicts itself: wrong version or impossible length.
        BadIpHeader = "bad-ip-header",
        /// A longer chain of IPv6 extension headers than the decoder follows.
        TooManyExtensionHeaders = "too-many-extension-headers",
        /// Excluded by the user's filter (`--filter`).
        Filtered = "filtered",
        /// Outside the requested time (`--since`, `--until`).
        OutsideWindow = "outside-window",
    }
);

impl SkipReason {
    /// Returns what a user can do about it; `None` if there is nothing to do.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::TruncatedLinkHeader | Self::TruncatedVlanTag | Self::TruncatedIpHeader => {
                "capture with a longer snaplen (128 bytes or more)"
            }
            Self::EncryptedLink => {
                "capture behind the access point or switch that decrypts, or decrypt the capture first"
            }
            Self::WlanFragment | Self::WlanAggregate => "capture on the wired side",
            Self::TooManyEncapsulations | Self::TooManyExtensionHeaders => {
                "inspect these frames: such deep nesting is not normal"
            }
            Self::UnknownLinkType => "capture on an interface of another kind, such as Ethernet",
            Self::BadLinkHeader | Self::BadIpHeader => {
                "inspect these frames: they are damaged, or the file states the wrong link type"
            }
            Self::WlanManagement | Self::Filtered | Self::OutsideWindow => return None,
        })
    }
}

/// Skipped frames by reason.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SkipCounts([u64; SkipReason::ALL.len()]);

impl SkipCounts {
    /// Counts one frame.
    pub fn count(&mut self, reason: SkipReason) {
        self.0[reason as usize] += 1;
    }

    /// Returns the count of one reason.
    pub fn get(&self, reason: SkipReason) -> u64 {
        self.0[reason as usize]
    }

    /// Returns the number of all skipped frames.
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
        // Some formats write the number of entries first.
        let mut map = serializer.serialize_map(Some(self.iter().count()))?;
        for (reason, count) in self.iter() {
            map.serialize_entry(reason.name(), &count)?;
        }
        map.end()
    }
}

/// Reads counts by reason name, as they are written. Unknown reasons, written by another version,
/// are dropped.
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

/// What became of the frames of one input, or of all inputs. Can be merged.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct FrameCounters {
    /// Frames read from the input.
    pub frames: u64,
    /// Frames that became observations.
    pub observations: u64,
    /// Frames that did not, by reason.
    pub skipped: SkipCounts,
    /// Frames of which the capture kept fewer bytes than were on the wire.
    pub truncated: u64,
    /// Observations whose IPv4 header checksum is wrong. They are used anyway.
    pub bad_checksums: u64,
    /// Observations that are not IP packets, by EtherType (IEEE 802.3 length fields count as 0).
    pub non_ip: BTreeMap<u16, u64>,
    /// IP packets cut off before their ports.
    pub portless: u64,
    /// Later IP fragments, which carry no ports of their own.
    pub fragments: u64,
    /// Observations of a tunnel whose inner packet could not be decoded, by the name of the tunnel.
    pub opaque: BTreeMap<String, u64>,
    /// Frames whose link type is not decoded, by link type.
    pub unknown_links: BTreeMap<u16, u64>,
    /// Bytes on the wire of all frames.
    pub bytes: u64,
    /// Time of the earliest frame within the requested time.
    pub first: Min,
    /// Time of the latest frame within the requested time.
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

/// What a sample of packets shows about duplicate frames.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct DuplicateCounts {
    /// Frames in the sample.
    pub sampled: u64,
    /// Duplicates that do not differ from the first frame.
    pub same: u64,
    /// Duplicates seen on another interface of the file.
    pub interfaces: u64,
    /// Duplicates in another VLAN.
    pub vlans: u64,
    /// Duplicates with another hardware address, time to live or tunnel.
    pub hops: u64,
}

impl DuplicateCounts {
    /// Returns the number of all duplicates in the sample.
    pub fn total(self) -> u64 {
        self.same + self.interfaces + self.vlans + self.hops
    }

    /// Returns whether there are enough duplicates to distort packet and byte counts.
    pub fn shows_doubling(self) -> bool {
        self.share(self.total()) >= 0.01
    }

    /// Returns which share of the sampled frames `count` is, 0 to 1.
    pub fn share(self, count: u64) -> f64 {
        if self.sampled == 0 { 0.0 } else { count as f64 / self.sampled as f64 }
    }
}

named_enum!(
    /// How duplicates in packet and byte counts were handled.
    Correction {
        /// The sample shows almost no duplicates.
        NotNeeded = "not-needed",
        /// The duplicates were removed.
        Done = "done",
        /// The user switched the correction off (`--dedup off`).
        Off = "off",
        /// The correction takes a second reading, which the input does not allow.
        Impossible = "impossible",
    }
);

impl Duplicates {
    /// Returns whether counters include packets more than once.
    pub fn are_counted(self) -> bool {
        self.sample.shows_doubling() && self.correction != Correction::Done
    }
}

/// Packets that the capture shows more than once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Duplicates {
    /// What a sample shows.
    pub sample: DuplicateCounts,
    /// How they were handled.
    pub correction: Correction,
    /// Number of packets removed from the counters.
    pub removed: u64,
}

/// Frames that the capture itself reports as lost.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// Frames that the capturing interface or system received, as far as it reports them.
    pub received: u64,
    /// Frames dropped by the interface or the operating system.
    pub dropped: u64,
}

impl Loss {
    /// Returns the share of frames lost, 0 to 1; zero if the capture reports nothing.
    pub fn share(self) -> f64 {
        let all = self.received.max(self.dropped);
        if all == 0 { 0.0 } else { self.dropped as f64 / all as f64 }
    }
}

impl Merge for Loss {
    fn merge(&mut self, other: &Self) {
        self.received = self.received.saturating_add(other.received);
        self.dropped = self.dropped.saturating_add(other.dropped);
    }
}

/// One input: what it is, and what was read from it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct InputRecord {
    /// The file as the user named it, or `-` for standard input.
    pub name: String,
    /// Size in bytes, if known.
    pub size: u64,
    /// `pcap`, `pcapng`, or what else the file looks like.
    pub format: String,
    /// Link types of its frames, by registry number.
    pub link_types: Vec<u16>,
    /// Capture filters that the file records as active.
    pub filters: Vec<String>,
    /// SHA-256 of its bytes in lower-case hex, if requested.
    pub sha256: Option<String>,
    /// What its frames became.
    pub account: FrameCounters,
    /// The loss that it reports.
    pub loss: Loss,
    /// Why it could not be read at all, or to its end.
    pub error: Option<String>,
    /// Whether it merely ends inside a record, like an interrupted capture. Nothing before that is
    /// missing.
    pub is_cut: bool,
    /// Whether its timestamps hold nanoseconds although it declares microseconds.
    pub hidden_nanos: bool,
    /// Zeros in place of records: the byte position of the first, and the number of bytes.
    pub zeros: (u64, u64),
    /// Number of its drop counters that cannot be true and are ignored.
    pub impossible_drops: u64,
    /// Whether it is not a capture and was only found in a directory, which is not an error.
    pub passed_over: bool,
    /// The input with the same content that was read instead of it.
    pub same_as: Option<String>,
}
