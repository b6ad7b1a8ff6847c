//! Timestamps in RFC 3339 format, in UTC with nanoseconds.

use std::fmt;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::Nanos;

/// A capture timestamp, shown in RFC 3339 format in UTC with nine fractional digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time(pub Nanos);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A 64-bit number of nanoseconds covers 1677 to 2262, well within the range of a
        // `Timestamp`, so the conversion cannot fail.
        let time = Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default();
        write!(f, "{time:.9}")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        let nanos = Nanos::try_from(time.as_nanosecond());
        nanos.map(Self).map_err(|_| serde::de::Error::custom("a time out of range"))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "A point in packet time: RFC 3339, UTC, with nine fractional digits of the second."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits() {
        let text = Time(1_500_000_000_000_000_007).to_string();
        assert_eq!(text, "2017-07-14T02:40:00.000000007Z");
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(Time(-1).to_string(), "1969-12-31T23:59:59.999999999Z");
    }
}
