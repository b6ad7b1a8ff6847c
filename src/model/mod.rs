//! The shared vocabulary: addresses, transports, timestamps, the merge law and the account of what
//! was read. Nothing here decodes, decides or prints.

mod account;
mod addr;
mod merge;
mod text;
mod time;
mod timeline;
mod words;

pub use account::{
    Account, Copies, Correction, Duplicates, InputRecord, Loss, Reasons, SkipReason,
};
pub use addr::{Endpoint, Mac, Transport, is_link_local, service_words};
pub use merge::{AtMost, Few, Max, Merge, Min, Or, Span, Sum};
pub use text::{cell, clean, is_plain, steers};
pub use time::{BUCKET_NS, NO_TIME, Nanos, SECOND};
pub use timeline::{Slot, Timeline};
pub(crate) use words::words;

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
