//! Types that all modules share: addresses, transports, timestamps, the merge law and the account
//! of what was read. Nothing in this module decodes, judges or prints.

mod account;
mod addr;
mod merge;
mod named_enum;
mod text;
mod time;
mod timeline;
mod vantage;

pub use account::{
    Correction, DuplicateCounts, Duplicates, FrameCounters, InputRecord, Loss, SkipCounts,
    SkipReason,
};
pub(crate) use addr::{
    DNS_PORT, EPHEMERAL_PORTS, KERBEROS_PORT, REQUEST_PORTS, TUNNEL_PORTS, is_link_local,
    is_of_platform, network_around, service_words, site_around,
};
pub use addr::{Endpoint, Mac, Transport};
pub(crate) use merge::BLOCK_OVERHEAD;
pub use merge::{BoundedSet, FlagSet, InlineBoundedSet, Max, Merge, Min, NumberRange, Sum};
pub(crate) use named_enum::named_enum;
pub(crate) use text::{
    escape_control, escape_csv_formula, is_control_or_bidi, is_plain, name_and_reason,
    write_address,
};
pub(crate) use time::BUCKET_NS;
pub(crate) use time::is_capture_time;
pub use time::{NO_TIME, Nanos, SECOND};
pub use timeline::{ActivityBucket, ActivityHistogram, DoubtedTimes};
pub use vantage::{InvalidVantageName, VantagePoint};

/// The EtherTypes of VLAN tags: those of IEEE 802.1Q and 802.1ad, and those that switches used
/// before there was a standard for nested tags.
pub(crate) const VLAN_TAG_TYPES: [u16; 5] = [0x8100, 0x88a8, 0x9100, 0x9200, 0x9300];

/// The beginning of the names of files and folders that exist only while the program writes to the
/// place where they are. They remain if the program is killed.
pub(crate) const TEMPORARY_PREFIX: &str = ".rasaudit-";

/// Returns bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
