//! Vantage points: the places in a network at which traffic is captured.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The maximum number of characters of the name of a site or a sensor.
const MOST_CHARACTERS: usize = 64;

/// The name of a vantage point: `SITE/SENSOR`, or `SENSOR` without a site.
///
/// Each part has at most 64 characters: ASCII letters and digits, `-`, `_` and `.`. It starts with
/// a letter or digit. A name may come from a stored row, which anyone may have written, so the
/// program rejects any other name when it reads a row. The parts therefore need no escaping in
/// reports, file names and terminals.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct VantagePoint(String);

/// The error for a text that cannot be the name of a site or a sensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidVantageName;

impl fmt::Display for InvalidVantageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "use 1 to {MOST_CHARACTERS} letters (a to z, A to Z), digits, hyphens, underscores or dots, and start with a letter or digit"
        )
    }
}

impl std::error::Error for InvalidVantageName {}

/// Returns whether a text may be the name of a site or a sensor.
fn is_name(text: &str) -> bool {
    let others = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(others)
        && text.len() <= MOST_CHARACTERS
}

impl VantagePoint {
    /// Returns the vantage point of a sensor at a site.
    ///
    /// # Errors
    ///
    /// Returns an error if one of the names is not valid.
    pub fn new(site: Option<&str>, sensor: &str) -> Result<Self, InvalidVantageName> {
        let site = site.map(Self::check).transpose()?;
        let sensor = Self::check(sensor)?;
        Ok(Self(site.map_or_else(|| sensor.to_owned(), |site| format!("{site}/{sensor}"))))
    }

    /// Returns the name of a site or a sensor unchanged if it is valid.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is not valid.
    pub fn check(name: &str) -> Result<&str, InvalidVantageName> {
        if is_name(name) { Ok(name) } else { Err(InvalidVantageName) }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for VantagePoint {
    type Error = InvalidVantageName;

    fn try_from(text: String) -> Result<Self, InvalidVantageName> {
        match text.split_once('/') {
            Some((site, sensor)) => Self::new(Some(site), sensor),
            None => Self::new(None, &text),
        }
    }
}

impl fmt::Display for VantagePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_contain_what_a_report_or_a_path_would_have_to_escape() {
        for (site, sensor, name) in [
            (None, "span-1", Some("span-1")),
            (Some("Berlin"), "core_2.eth0", Some("Berlin/core_2.eth0")),
            (Some("Köln"), "a", None),
            (None, "", None),
            (Some(""), "a", None),
            (None, "../a", None),
            (None, "=cmd", None),
            (None, "-x", None),
            (None, "a/b", None),
            (None, "a;b", None),
            (None, "<b>", None),
            (None, "a b", None),
            (None, "a\u{1b}[2J", None),
            (None, "a\u{202e}b", None),
        ] {
            let point = VantagePoint::new(site, sensor);
            assert_eq!(point.as_ref().ok().map(VantagePoint::as_str), name, "{site:?} {sensor}");
            if let Ok(point) = point {
                assert_eq!(VantagePoint::try_from(point.to_string()), Ok(point));
            }
        }
        let longest = "a".repeat(MOST_CHARACTERS);
        assert!(VantagePoint::new(None, &longest).is_ok());
        assert!(VantagePoint::new(None, &format!("{longest}a")).is_err());
        assert!(VantagePoint::try_from("a/b/c".to_owned()).is_err());
    }
}
