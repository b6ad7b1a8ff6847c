//! Phrases that several reports use.

use super::Time;
use crate::classify::Code;

/// Formats a share from 0 to 1 as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Formats a time with a precision of one second.
pub fn short(time: crate::model::Nanos) -> String {
    let text = Time(time).to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// Formats a number with its noun, which is in the plural unless the number is 1.
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Returns a number of bytes in the largest binary unit that gives at least 1, rounded up, as
/// options take it: `512MiB`, `2GiB`.
pub(super) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len()).rev().find(|unit| bytes >> (10 * unit) > 0).unwrap_or(0);
    // Below ten, rounding up to a whole number would be too coarse.
    let unit = if unit > 0 && bytes >> (10 * unit) < 10 && bytes % (1 << (10 * unit)) > 0 {
        unit - 1
    } else {
        unit
    };
    format!("{}{}", bytes.div_ceil(1 << (10 * unit)), UNITS[unit])
}

/// Describes a reason why something could not be assessed. Empty for other codes.
pub fn meaning(code: Code) -> &'static str {
    match code {
        Code::HostNotSeen => "the capture shows no unicast packets from a host",
        Code::PairNotCovered => "no evidence shows that the span port covers a pair of hosts",
        Code::OneSidedView => "only one direction is visible",
        Code::LoopbackOnly => "the traffic stays inside a host",
        Code::WindowTooShort => "the watch time was shorter than the row requires",
        Code::CaptureFiltered => "a capture filter was used",
        Code::LossTooHigh => "too many frames were lost",
        Code::FeatureUnknown => "the inventory does not mention a required feature",
        Code::TriggerNotSeen => "the trigger of the traffic was not seen",
        _ => "",
    }
}
