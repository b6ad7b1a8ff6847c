//! Selects whole windows of rows.

use std::fmt;

use jiff::Timestamp;

use crate::model::{Nanos, SECOND};
use crate::pipeline::WindowStart;

/// The windows that an audit reads.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct WindowSelection {
    /// The length of the windows; `None` if the rows are not divided.
    length: Option<Nanos>,
    since: Option<Nanos>,
    until: Option<Nanos>,
}

/// Why rows do not contain exactly the frames of a time range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WindowError {
    /// The rows are not divided by windows.
    #[error(
        "{0}: the rows were collected without --window, so the frames before and after a time cannot be separated; leave {0} out, or collect the captures again with --window (e.g. 1h) or with {0}"
    )]
    NotDivided(&'static str),
    /// The time is inside a window.
    #[error(
        "{option}: the time is inside a window of the rows ({length} each); give the start of a window, such as {before} or {after}"
    )]
    InsideWindow {
        /// The option.
        option: &'static str,
        /// The length of the windows.
        length: WindowLength,
        /// The start of the window.
        before: WindowTime,
        /// The end of the window.
        after: WindowTime,
    },
    /// The captures were collected only for a time range that does not overlap the given one.
    #[error(
        "{option}: the captures were collected with {other} {own}; give a time {direction}, or collect them again"
    )]
    OutsideCollected {
        /// The option.
        option: &'static str,
        /// The option that limits the time range of the collection.
        other: &'static str,
        /// The time with which the captures were collected.
        own: WindowTime,
        /// The words that state which times the rows contain, such as "before it".
        direction: &'static str,
    },
    /// The captures were collected only from or up to another time.
    #[error(
        "{option}: the captures were collected with {option} {own}; give a time {direction}, or collect them again"
    )]
    NotCollected {
        /// The option.
        option: &'static str,
        /// The time with which the captures were collected.
        own: WindowTime,
        /// The words that state which times the rows contain, such as "at or before it".
        direction: &'static str,
    },
}

/// A point in time, which is shown as the options accept it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowTime(Nanos);

impl fmt::Display for WindowTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or_default();
        write!(f, "{time}")
    }
}

/// The length of a window, which is shown in the largest unit of which it is a multiple.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowLength(Nanos);

impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 / SECOND {
            seconds if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl WindowSelection {
    /// Returns the windows of this length that were collected for a time range.
    pub fn collected(length: Option<Nanos>, since: Option<Nanos>, until: Option<Nanos>) -> Self {
        Self { length, since, until }
    }

    /// Selects the windows of a time range among those that were collected. Where `since` or
    /// `until` is `None`, the time with which the captures were collected applies.
    ///
    /// # Errors
    ///
    /// Returns the reasons why the rows do not contain exactly the frames of the range.
    pub fn within(
        self,
        since: Option<Nanos>,
        until: Option<Nanos>,
    ) -> Result<Self, Vec<WindowError>> {
        let is_before = |a: Nanos, b: Nanos| a < b;
        let is_after = |a: Nanos, b: Nanos| a > b;
        let wrong = [
            time_error("--since", (since, self.since), self.length, is_before, "at or after it"),
            time_error("--until", (until, self.until), self.length, is_after, "at or before it"),
        ];
        let wrong: Vec<_> = wrong.into_iter().flatten().collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let range = Self { since: since.or(self.since), until: until.or(self.until), ..self };
        let outside = |option, other, own, direction| {
            Err(vec![WindowError::OutsideCollected { option, other, own, direction }])
        };
        match (since, until, self.since, self.until) {
            _ if !range.is_empty() => Ok(range),
            (Some(_), None, _, Some(end)) => {
                outside("--since", "--until", WindowTime(end), "before it")
            }
            (None, Some(_), Some(start), _) => {
                outside("--until", "--since", WindowTime(start), "after it")
            }
            _ => Ok(range),
        }
    }

    /// Returns whether no time is in the time range.
    pub fn is_empty(&self) -> bool {
        matches!((self.since, self.until), (Some(since), Some(until)) if since >= until)
    }

    /// Returns the start of the time range; `None` if the range has no start.
    pub fn since(&self) -> Option<Nanos> {
        self.since
    }

    /// Returns the end of the time range, which is exclusive; `None` if the range has no end.
    pub fn until(&self) -> Option<Nanos> {
        self.until
    }

    /// Returns whether at least a part of a window is in the time range. Rows that are not divided,
    /// and frames without a timestamp, always belong to the range.
    pub fn includes(&self, window: WindowStart) -> bool {
        let (Some(length), Some(start)) = (self.length, window) else { return true };
        // Every window ends at a multiple of the length, but the first may start between two
        // multiples.
        let end = start.div_euclid(length).saturating_add(1).saturating_mul(length);
        let ends_later = |since| end > since;
        self.since.is_none_or(ends_later) && self.until.is_none_or(|until| start < until)
    }

    /// Returns whether the window that contains a time belongs to the time range; always true if
    /// the rows are not divided.
    pub fn includes_time(&self, time: Nanos) -> bool {
        self.includes(self.length.map(|length| time.div_euclid(length).saturating_mul(length)))
    }
}

/// Returns why the rows do not begin or end exactly at a time; `None` if they do, or if no time is
/// given. `is_outside` returns whether a time is outside of the range with which the captures were
/// collected.
fn time_error(
    option: &'static str,
    (given, own): (Option<Nanos>, Option<Nanos>),
    window: Option<Nanos>,
    is_outside: impl Fn(Nanos, Nanos) -> bool,
    direction: &'static str,
) -> Option<WindowError> {
    let given = given.filter(|_| given != own)?;
    if let Some(own) = own.filter(|own| is_outside(given, *own)) {
        return Some(WindowError::NotCollected { option, own: WindowTime(own), direction });
    }
    let Some(length) = window else { return Some(WindowError::NotDivided(option)) };
    let before = given.div_euclid(length).saturating_mul(length);
    let after = given.div_euclid(length).saturating_add(1).saturating_mul(length);
    let after = WindowTime(after);
    let (length, before) = (WindowLength(length), WindowTime(before));
    (given != before.0).then_some(WindowError::InsideWindow { option, length, before, after })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Nanos = 3600 * SECOND;

    fn errors(own: WindowSelection, since: Option<Nanos>, until: Option<Nanos>) -> Vec<String> {
        let wrong = own.within(since, until).unwrap_err();
        wrong.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_time_range_consists_of_whole_windows() {
        let own = WindowSelection::collected(Some(HOUR), None, None);
        let range = own.within(Some(HOUR), Some(3 * HOUR)).unwrap();
        let included = |hour: Nanos| range.includes(Some(hour * HOUR));
        assert_eq!([0, 1, 2, 3].map(included), [false, true, true, false]);
        assert!(range.includes(None));
        // The first window starts at the earliest possible time.
        let end = (Nanos::MIN.div_euclid(HOUR) + 1) * HOUR;
        let late = own.within(Some(end), None).unwrap();
        assert!(!late.includes(Some(Nanos::MIN)) && late.includes(Some(end)));
        assert!(range.includes_time(3 * HOUR - 1) && !range.includes_time(3 * HOUR));
        assert_eq!(
            errors(own, Some(HOUR + 1), None),
            [
                "--since: the time is inside a window of the rows (1h each); give the start of a window, such as 1970-01-01T01:00:00Z or 1970-01-01T02:00:00Z"
            ]
        );
    }

    #[test]
    fn the_range_of_the_collection_limits_the_range_of_the_audit() {
        let since = Some(HOUR / 2);
        let own = WindowSelection::collected(Some(HOUR), since, None);
        let whole = own.within(None, None).unwrap();
        assert_eq!(whole, own.within(since, None).unwrap());
        // The first window contains only frames from the start of the range.
        assert!(whole.includes(Some(0)) && !whole.includes(Some(-HOUR)));
        assert_eq!(
            errors(own, Some(0), None),
            [
                "--since: the captures were collected with --since 1970-01-01T00:30:00Z; give a time at or after it, or collect them again"
            ]
        );
        // The `--until` contradicts the `--since` of the collection. The user gave no `--since`.
        assert_eq!(
            errors(own, None, Some(0)),
            [
                "--until: the captures were collected with --since 1970-01-01T00:30:00Z; give a time after it, or collect them again"
            ]
        );
        let ended = WindowSelection::collected(Some(HOUR), None, Some(2 * HOUR));
        let wrong = errors(ended, Some(2 * HOUR), None);
        assert!(wrong[0].starts_with("--since: the captures were collected with --until"));
        assert!(ended.within(Some(2 * HOUR), Some(HOUR)).is_ok_and(|range| range.is_empty()));
        let own = WindowSelection::collected(None, since, None);
        let wrong = errors(own, Some(HOUR), None);
        assert!(wrong[0].contains("collected without --window"), "{wrong:?}");
    }
}
