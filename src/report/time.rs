//! Times as people and programs read them: RFC 3339, UTC, nanoseconds.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::model::Nanos;

/// A point in packet time, shown as RFC 3339 in UTC with nine digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time(pub Nanos);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nanoseconds in 64 bits reach from 1677 to 2262, well inside what a Timestamp holds.
        let time = Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default();
        write!(f, "{time:.9}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads an RFC 3339 time, a date (its first moment, UTC), or a date and time without zone (UTC).
pub fn parse_time(text: &str) -> Result<Nanos, String> {
    let utc = |time: jiff::civil::DateTime| {
        time.to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|z| z.timestamp())
    };
    let time = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<jiff::civil::DateTime>().ok().and_then(utc))
        .or_else(|| {
            text.parse::<jiff::civil::Date>()
                .ok()
                .and_then(|d| utc(d.at(0, 0, 0, 0)))
        });
    let time =
        time.ok_or("give a time like 2026-05-04T08:00:00Z or a date like 2026-05-04 (UTC)")?;
    Nanos::try_from(time.as_nanosecond()).map_err(|_| "the time is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits_and_read_back() {
        let text = Time(1_500_000_000_000_000_007).to_string();
        assert_eq!(text, "2017-07-14T02:40:00.000000007Z");
        assert_eq!(parse_time(&text), Ok(1_500_000_000_000_000_007));
        assert_eq!(parse_time("2017-07-14"), parse_time("2017-07-14T00:00:00Z"));
        assert_eq!(
            parse_time("2017-07-14 02:40"),
            parse_time("2017-07-14T02:40:00Z")
        );
        assert!(parse_time("yesterday").is_err());
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000000000Z");
    }
}
