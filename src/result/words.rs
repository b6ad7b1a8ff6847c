//! Phrases that several reports use.

use super::Time;

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
