//! Phrases that several reports use.

use super::Time;
use crate::classify::Code;

/// Formats a share from 0 to 1 as a percentage.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Formats a time in UTC with a precision of one second.
pub fn short(time: crate::model::Nanos) -> String {
    let text = Time(time).to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// Formats a number with its noun, which is in the plural unless the number is 1.
pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Formats a number of bytes as the value of an option, such as `512MiB` or `2GiB`. It is rounded
/// up in the largest binary unit in which rounding adds at most 10 %.
pub(super) fn binary_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let fits = |size: u64| bytes >= 10 * size || (bytes > 0 && bytes.is_multiple_of(size));
    let (size, unit) = UNITS.into_iter().find(|(size, _)| fits(*size)).unwrap_or((1, ""));
    format!("{}{unit}", bytes.div_ceil(size))
}

/// Describes a reason why something could not be assessed. Returns an empty string for other codes.
pub fn meaning(code: Code) -> &'static str {
    match code {
        Code::HostNotSeen => {
            "the capture shows no unicast packets from a host, or does not show the name or address of a destination"
        }
        Code::PairNotCovered => "no evidence shows that the span port covers a pair of hosts",
        Code::OneSidedView => "only one direction is visible",
        Code::LoopbackOnly => "the traffic stays inside a host",
        Code::WindowTooShort => "the watch time was shorter than required",
        Code::CaptureFiltered => {
            "the capture was filtered, or it contains no packets of a transport or IP version"
        }
        Code::LossTooHigh => "too many frames were lost",
        Code::FeatureUnknown => "the inventory does not mention a required feature",
        Code::TriggerNotSeen => "the trigger of the traffic was not seen",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_written_as_options_take_it_and_never_rounded_down() {
        let cases = [
            (0, "0"),
            (1, "1"),
            (1 << 30, "1GiB"),
            (512 << 20, "512MiB"),
            ((2 << 30) + 1, "2049MiB"),
            ((26 << 30) - 1, "26GiB"),
            (102 << 20, "102MiB"),
            (9000, "9000"),
        ];
        for (bytes, text) in cases {
            assert_eq!(binary_size(bytes), text);
        }
    }
}
