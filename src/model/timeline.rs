//! A timeline of captured frames and of watched time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{BUCKET_NS, Max, Merge, Min, Nanos, SECOND};

/// The ten-second buckets that contain frames or were watched. The key is the number of ten-second
/// periods since 1970; an hour has the key of its first bucket.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ActivityHistogram(BTreeMap<Nanos, ActivityBucket>);

/// Ten seconds of a capture, or a whole hour after [`ActivityHistogram::coarsen`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ActivityBucket {
    /// Number of frames.
    pub frames: u64,
    /// Bytes of these frames on the wire.
    pub bytes: u64,
    /// Number of ten-second periods in this bucket in which all sources were watched, so that
    /// missing traffic is meaningful.
    pub watched: u64,
    /// Time of the earliest frame.
    pub first: Min,
    /// Time of the latest frame.
    pub last: Max,
    /// The stretches of watched time, if the bucket is an hour.
    hour: Option<Stretches>,
}

/// The lengths of the stretches of watched time in an hour, in units of ten seconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
struct Stretches {
    /// The stretch that starts at the start of the hour.
    leading: u64,
    /// The stretch that ends at the end of the hour.
    trailing: u64,
    /// The longest stretch.
    longest: u64,
}

/// An hour, in units of ten seconds.
const HOUR: Nanos = 3600 * SECOND / BUCKET_NS;

/// The longest time without a frame that does not break a stretch of watched time, in nanoseconds.
const GAP: Nanos = 60 * SECOND;

/// The distance from every other frame, in nanoseconds, above which the timestamps of a few frames
/// are doubted.
const DAY: Nanos = 24 * 3600 * SECOND;

/// Timestamps are doubted only in groups of fewer frames than this.
const FEW: u64 = 10;

impl ActivityBucket {
    /// Ten watched seconds without a frame.
    pub const WATCHED: Self =
        Self { frames: 0, bytes: 0, watched: 1, first: Min::EMPTY, last: Max::EMPTY, hour: None };

    /// Counts one frame of `wire_len` bytes.
    pub fn see(&mut self, time: Nanos, wire_len: u32) {
        self.frames += 1;
        self.bytes += u64::from(wire_len);
        self.first.see(time);
        self.last.see(time);
    }
}

impl Merge for ActivityBucket {
    fn merge(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.watched = self.watched.max(other.watched);
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        if let Some(theirs) = other.hour {
            let mine = self.hour.get_or_insert_default();
            mine.leading = mine.leading.max(theirs.leading);
            mine.trailing = mine.trailing.max(theirs.trailing);
            mine.longest = mine.longest.max(theirs.longest);
        }
    }
}

impl Merge for ActivityHistogram {
    fn merge(&mut self, other: &Self) {
        for (number, slot) in &other.0 {
            self.add(*number, slot);
        }
    }
}

/// The periods of the frames whose timestamps are doubted, from the first such frame of each period
/// to its last, in nanoseconds.
#[derive(Clone, Default, Debug)]
pub struct DoubtedTimes(Arc<[(Nanos, Nanos)]>);

impl DoubtedTimes {
    /// Returns whether the timestamp of a frame at `time` is doubted.
    pub fn contains(&self, time: Nanos) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&time))
    }

    /// Returns whether any timestamp between two points in time is doubted.
    pub fn overlaps(&self, from: Nanos, to: Nanos) -> bool {
        self.0.iter().any(|(first, last)| *first <= to && from <= *last)
    }

    /// Limits a span to the timestamps that are not doubted, and returns whether this changed it.
    /// If one of the two times is doubted, the span shrinks to the other one, because nothing shows
    /// when the rest of its frames arrived. If both are doubted, the span is empty afterwards.
    pub fn remove_from(&self, first: &mut Min, last: &mut Max) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let trusted = |time: Option<Nanos>| time.filter(|time| !self.contains(*time));
        let both = [trusted(first.get()), trusted(last.get())];
        if both == [first.get(), last.get()] {
            return false;
        }
        (*first, *last) = Default::default();
        for time in both.into_iter().flatten() {
            first.see(time);
            last.see(time);
        }
        true
    }
}

/// A stretch of watched time. `from` and `to` are bucket numbers; `to` is exclusive.
#[derive(Clone, Copy)]
struct WatchedStretch {
    from: Nanos,
    to: Nanos,
    /// Times of the first and the last frame in nanoseconds; `None` if they are not known.
    first: Option<Nanos>,
    last: Option<Nanos>,
}

impl WatchedStretch {
    /// Returns the start of the stretch in nanoseconds: the time of its first frame if that is
    /// known, because nothing proves that the capture was already running before.
    fn start_ns(&self) -> Nanos {
        self.first.unwrap_or_else(|| self.from.saturating_mul(BUCKET_NS))
    }

    /// Returns the end of the stretch in nanoseconds: the time of its last frame if that is known.
    fn end_ns(&self) -> Nanos {
        self.last.unwrap_or_else(|| self.to.saturating_mul(BUCKET_NS))
    }
}

impl ActivityHistogram {
    /// Merges `slot` into the bucket with this number.
    pub fn add(&mut self, number: Nanos, slot: &ActivityBucket) {
        self.0.entry(number).or_default().merge(slot);
    }

    /// Returns whether all counts of frames and bytes are at most `most`, the watched time of each
    /// bucket is at most two hours, and all buckets contain times that can be expressed in
    /// nanoseconds. A timeline from a stored row may contain anything.
    #[cfg(feature = "store")]
    pub(crate) fn is_plausible(&self, most: u64) -> bool {
        let [first, last] = [Nanos::MIN, Nanos::MAX].map(|time| time.div_euclid(BUCKET_NS));
        self.0.iter().all(|(number, slot)| {
            let counters = [slot.frames, slot.bytes];
            let hour = slot.hour.unwrap_or_default();
            let watched = [slot.watched, hour.leading, hour.trailing, hour.longest];
            (first..=last).contains(number)
                && counters.iter().all(|count| *count <= most)
                // The limit is two hours, not one: an hour that was already merged into one bucket
                // is merged again if more of its buckets arrive, and their watched times are added.
                && watched.iter().all(|count| *count <= 2 * HOUR as u64)
        })
    }

    /// Returns the buckets for whose start, in nanoseconds, `is_wanted` returns true.
    #[cfg(feature = "store")]
    pub(crate) fn within(&self, is_wanted: impl Fn(Nanos) -> bool) -> Self {
        let wanted =
            self.0.iter().filter(|(number, _)| is_wanted(number.saturating_mul(BUCKET_NS)));
        Self(wanted.map(|(number, slot)| (*number, *slot)).collect())
    }

    /// Marks as watched all ten-second buckets that are entirely between two points in time (in
    /// nanoseconds), with or without frames.
    pub fn watch(&mut self, from: Nanos, to: Nanos) {
        let first = from.saturating_add(BUCKET_NS - 1).div_euclid(BUCKET_NS);
        for number in first..to.div_euclid(BUCKET_NS) {
            self.add(number, &ActivityBucket::WATCHED);
        }
    }

    /// Returns the same frames, marked as unwatched because a source was absent.
    pub fn unwatched(&self) -> Self {
        let unwatched = |slot: &ActivityBucket| ActivityBucket { watched: 0, hour: None, ..*slot };
        Self(self.0.iter().map(|(n, slot)| (*n, unwatched(slot))).collect())
    }

    /// Returns the time of the earliest frame.
    pub fn first(&self) -> Option<Nanos> {
        self.0.values().find_map(|slot| slot.first.get())
    }

    /// Returns the time of the latest frame.
    pub fn last(&self) -> Option<Nanos> {
        self.0.values().rev().find_map(|slot| slot.last.get())
    }

    /// Returns the numbers of frames and the buckets of each group of frames whose timestamps are
    /// doubted. A group of frames is doubted if it is more than a day from every other frame and
    /// consists of one frame among more than ten, or of fewer than ten frames that make up less
    /// than 0.1% of all frames.
    fn outliers(&self) -> impl Iterator<Item = (u64, Vec<Nanos>)> {
        let total: u64 = self.0.values().map(|slot| slot.frames).sum();
        let mut groups: Vec<(u64, Vec<Nanos>)> = Vec::new();
        let mut last: Option<Nanos> = None;
        for (number, slot) in self.0.iter().filter(|(_, slot)| slot.frames > 0) {
            let near = match (last, slot.first.get()) {
                (Some(last), Some(first)) => first.saturating_sub(last) <= DAY,
                _ => last.is_some(),
            };
            last = slot.last.get().or(last);
            match groups.last_mut().filter(|_| near) {
                Some((frames, numbers)) => {
                    *frames += slot.frames;
                    numbers.push(*number);
                }
                None => groups.push((slot.frames, vec![*number])),
            }
        }
        let is_odd = move |frames: u64| match frames {
            1 => total > FEW,
            _ => frames < FEW && frames * 1000 < total,
        };
        groups.into_iter().filter(move |(frames, _)| is_odd(*frames))
    }

    /// Returns the timeline without frames whose timestamps are doubted, and the number of those
    /// frames.
    pub fn without_outliers(&self) -> (Self, u64) {
        let mut timeline = self.clone();
        let mut doubted = 0;
        for (frames, numbers) in self.outliers() {
            doubted += frames;
            numbers.iter().for_each(|number| {
                timeline.0.remove(number);
            });
        }
        (timeline, doubted)
    }

    /// Returns the periods of the frames whose timestamps are doubted.
    pub fn doubted_times(&self) -> DoubtedTimes {
        let period = |numbers: Vec<Nanos>| {
            let slots = || numbers.iter().filter_map(|number| self.0.get(number));
            let first = slots().find_map(|slot| slot.first.get())?;
            Some((first, slots().rev().find_map(|slot| slot.last.get())?))
        };
        DoubtedTimes(self.outliers().filter_map(|(_, numbers)| period(numbers)).collect())
    }

    /// Returns the watched stretches of all buckets, in order of time. Of an hour, these are only
    /// the stretches at its start and its end.
    fn pieces(&self) -> Vec<WatchedStretch> {
        let mut pieces = Vec::with_capacity(self.0.len());
        for (number, slot) in &self.0 {
            let first = slot.first.get();
            let last = slot.last.get();
            match slot.hour {
                _ if slot.watched == 0 => {}
                None => pieces.push(WatchedStretch { from: *number, to: number + 1, first, last }),
                Some(hour) if hour.leading >= HOUR as u64 => {
                    pieces.push(WatchedStretch { from: *number, to: number + HOUR, first, last });
                }
                Some(Stretches { leading, trailing, .. }) => {
                    if leading > 0 {
                        let to = number + leading as Nanos;
                        pieces.push(WatchedStretch { from: *number, to, first, last: None });
                    }
                    if trailing > 0 {
                        let from = number + HOUR - trailing as Nanos;
                        pieces.push(WatchedStretch { from, to: number + HOUR, first: None, last });
                    }
                }
            }
        }
        pieces
    }

    /// Returns the longest stretch of watched time in whole seconds, from its first frame to its
    /// last. Up to a minute without a frame does not break a stretch, but all gaps in a stretch
    /// together last at most `gaps_s` seconds.
    pub fn stretch_s(&self, gaps_s: u64) -> u64 {
        let most = (gaps_s / TEN_S) as Nanos;
        let pieces = self.pieces();
        let hours = self.0.values().filter(|slot| slot.watched > 0).filter_map(|slot| slot.hour);
        let mut longest = hours.map(|hour| hour.longest as Nanos * BUCKET_NS).max().unwrap_or(0);
        let mut start = 0;
        let mut gaps = 0;
        for at in 0..pieces.len() {
            if at > start {
                let before = pieces[at - 1];
                let here = pieces[at];
                let gap = here.from.saturating_sub(before.to).max(0);
                let quiet = match (before.last, here.first) {
                    (Some(last), Some(first)) => first.saturating_sub(last),
                    _ => gap.saturating_mul(BUCKET_NS),
                };
                if gap > 0 && quiet > GAP {
                    (start, gaps) = (at, 0);
                } else {
                    gaps += gap;
                }
            }
            while gaps > most && start < at {
                gaps -= (pieces[start + 1].from - pieces[start].to).max(0);
                start += 1;
            }
            longest = longest.max(pieces[at].end_ns().saturating_sub(pieces[start].start_ns()));
        }
        (longest / SECOND) as u64
    }

    /// Returns the longest stretch of watched time in seconds, without a limit on the sum of its
    /// gaps.
    pub fn watched_s(&self) -> u64 {
        self.stretch_s(u64::MAX)
    }

    /// Returns the parts of a period that were not watched, in order of time, in nanoseconds. Up to
    /// a minute without a frame counts as watched.
    fn breaks(&self, start: Nanos, end: Nanos) -> Vec<(Nanos, Nanos)> {
        let mut breaks = Vec::new();
        let mut watched_to = start;
        for piece in self.pieces() {
            // A piece that was watched without frames begins and ends with its bucket.
            if piece.start_ns().saturating_sub(watched_to) > GAP {
                breaks.push((watched_to, piece.start_ns().min(end)));
            }
            watched_to = watched_to.max(piece.end_ns());
        }
        if end.saturating_sub(watched_to) > GAP {
            breaks.push((watched_to, end));
        }
        breaks.retain(|(from, to)| from < to);
        breaks
    }

    /// Returns the periods between the first and the last frame that were not watched, in order of
    /// time, in nanoseconds. Each begins with the last frame before it and ends with the next one.
    pub fn gaps(&self) -> Vec<(Nanos, Nanos)> {
        match (self.first(), self.last()) {
            (Some(first), Some(last)) => self.breaks(first, last),
            _ => Vec::new(),
        }
    }

    /// Returns the periods between the [gaps](Self::gaps), in order of time, in nanoseconds.
    pub fn stretches(&self) -> Vec<(Nanos, Nanos)> {
        let Some((mut from, end)) = self.first().zip(self.last()) else { return Vec::new() };
        let mut stretches = Vec::new();
        for (last, next) in self.gaps() {
            stretches.push((from, last));
            from = next;
        }
        stretches.push((from, end));
        stretches
    }

    /// Returns whether at least one watched bucket is entirely within a period, given in
    /// nanoseconds.
    pub fn is_watched_within(&self, (start, end): (Nanos, Nanos)) -> bool {
        self.0.iter().filter(|(_, slot)| slot.watched > 0).any(|(number, slot)| {
            let buckets = if slot.hour.is_some() { HOUR } else { 1 };
            let from = number.saturating_mul(BUCKET_NS);
            start < from && from.saturating_add(buckets * BUCKET_NS) < end
        })
    }

    /// Returns the periods, in nanoseconds, in which this timeline was not watched, but `all` was.
    pub fn breaks_in(&self, all: &Self) -> Vec<(Nanos, Nanos)> {
        let (Some(start), Some(end)) = (all.first(), all.last()) else { return Vec::new() };
        let mut breaks = self.breaks(start, end);
        breaks.retain(|period| all.is_watched_within(*period));
        breaks
    }

    /// Returns the periods of [`Self::breaks_in`] and, however short they are, those before this
    /// timeline begins and after it ends.
    pub fn outages_in(&self, all: &Self) -> Vec<(Nanos, Nanos)> {
        let (Some(start), Some(end)) = (all.first(), all.last()) else { return Vec::new() };
        let pieces = self.pieces();
        let begins = pieces.first().map_or(end, WatchedStretch::start_ns);
        let ends = pieces.last().map_or(start, WatchedStretch::end_ns);
        let outer = [(start, begins), (ends, end)].into_iter().filter(|(from, to)| from < to);
        self.breaks_in(all).into_iter().chain(outer).collect()
    }

    /// Returns a copy of the timeline in which all buckets that overlap one of these periods, given
    /// in nanoseconds, are marked as unwatched.
    #[must_use]
    pub fn without(&self, breaks: &[(Nanos, Nanos)]) -> Self {
        let overlaps = |number: Nanos, slot: &ActivityBucket| {
            let buckets = if slot.hour.is_some() { HOUR } else { 1 };
            let from = number.saturating_mul(BUCKET_NS);
            let to = from.saturating_add(buckets * BUCKET_NS);
            breaks.iter().any(|(start, end)| *start < to && from <= *end)
        };
        let slots = self.0.iter().map(|(number, slot)| {
            let unwatched = ActivityBucket { watched: 0, hour: None, ..*slot };
            (*number, if overlaps(*number, slot) { unwatched } else { *slot })
        });
        Self(slots.collect())
    }

    /// Merges the buckets of each whole hour before `time` into one, so that months of capture take
    /// little memory.
    pub fn coarsen(&mut self, time: Nanos) {
        let first = time.div_euclid(BUCKET_NS).div_euclid(HOUR) * HOUR;
        let late = self.0.split_off(&first);
        let mut hours: BTreeMap<Nanos, Self> = BTreeMap::new();
        for (number, slot) in std::mem::replace(&mut self.0, late) {
            let hour = number.div_euclid(HOUR) * HOUR;
            hours.entry(hour).or_default().0.insert(number, slot);
        }
        for (hour, slots) in hours {
            self.0.entry(hour).or_default().merge(&slots.as_hour(hour));
        }
    }

    /// Merges the buckets of one hour into a single bucket. `hour` is the number of its first
    /// bucket.
    fn as_hour(&self, hour: Nanos) -> ActivityBucket {
        let mut whole = ActivityBucket::default();
        let mut stretches: Vec<WatchedStretch> = Vec::new();
        for slot in self.0.values() {
            whole.merge(&ActivityBucket { watched: 0, ..*slot });
            whole.watched += slot.watched;
        }
        for piece in self.pieces() {
            match stretches.last_mut() {
                Some(before) if (piece.from - before.to) * BUCKET_NS <= GAP => {
                    (before.to, before.last) = (piece.to, piece.last);
                }
                _ => stretches.push(piece),
            }
        }
        // Round down to units of ten seconds, so that an hour never claims more watched time than
        // its frames show. A stretch that reaches the start or the end of the hour is counted up to
        // there, because it may continue in the adjacent hour.
        let tens = |from: Nanos, to: Nanos| (to.saturating_sub(from) / BUCKET_NS).max(0) as u64;
        let starts = hour.saturating_mul(BUCKET_NS);
        let ends = (hour + HOUR).saturating_mul(BUCKET_NS);
        let from =
            |piece: &WatchedStretch| if piece.from == hour { starts } else { piece.start_ns() };
        let to =
            |piece: &WatchedStretch| if piece.to == hour + HOUR { ends } else { piece.end_ns() };
        let leading = stretches.first().filter(|piece| piece.from == hour);
        let leading = leading.map_or(0, |piece| tens(starts, to(piece)));
        let trailing = stretches.last().filter(|piece| piece.to == hour + HOUR);
        let trailing = trailing.map_or(0, |piece| tens(from(piece), ends));
        let inner = |piece: &WatchedStretch| tens(piece.start_ns(), piece.end_ns());
        let longest = stretches.iter().map(inner).max().unwrap_or(0);
        let before = whole.hour.map_or(0, |hour| hour.longest);
        whole.hour = Some(Stretches { leading, trailing, longest: longest.max(before) });
        whole
    }

    /// Returns the buckets in order of time, each with its start time in nanoseconds.
    pub fn iter(&self) -> impl Iterator<Item = (Nanos, &ActivityBucket)> {
        self.0.iter().map(|(number, slot)| (number.saturating_mul(BUCKET_NS), slot))
    }
}

/// The width of a bucket in seconds.
const TEN_S: u64 = (BUCKET_NS / SECOND) as u64;

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: Nanos, frames: u64) -> ActivityBucket {
        let mut slot = ActivityBucket { watched: 1, ..ActivityBucket::default() };
        for _ in 0..frames {
            slot.see(number * BUCKET_NS + 5 * SECOND, 100);
        }
        slot
    }

    /// A frame may have any time, so a row with the first or the last possible time is valid.
    #[cfg(feature = "store")]
    #[test]
    fn the_first_and_the_last_possible_times_are_plausible() {
        for time in [Nanos::MIN, Nanos::MAX] {
            let mut timeline = ActivityHistogram::default();
            let bucket = time.div_euclid(BUCKET_NS);
            timeline.add(bucket, &ActivityBucket { frames: 1, ..ActivityBucket::default() });
            assert!(timeline.is_plausible(1), "{time}");
            assert!(!timeline.is_plausible(0), "{time}");
            let beyond = bucket + time.signum();
            timeline.add(beyond, &ActivityBucket::default());
            assert!(!timeline.is_plausible(1), "{beyond}");
        }
    }

    fn timeline(numbers: impl IntoIterator<Item = Nanos>) -> ActivityHistogram {
        let mut timeline = ActivityHistogram::default();
        numbers.into_iter().for_each(|number| timeline.add(number, &slot(number, 1)));
        timeline
    }

    #[test]
    fn frames_of_a_slot_add_up_and_unwatched_ones_count_no_time() {
        let mut all = ActivityHistogram::default();
        let mut other = ActivityHistogram::default();
        all.add(7, &slot(7, 2));
        other.add(7, &slot(7, 3));
        other.add(9, &slot(9, 1));
        all.merge(&other.unwatched());
        let seen: Vec<_> = all.iter().map(|(t, s)| (t / SECOND, s.frames, s.bytes)).collect();
        assert_eq!(seen, [(70, 5, 500), (90, 1, 100)]);
        assert_eq!(all.watched_s(), 0);
        all.merge(&other);
        assert_eq!((all.watched_s(), all.stretch_s(0)), (20, 0));
        // Old buckets become hours, and coarsening again changes nothing.
        all.add(360, &slot(360, 4));
        for _ in 0..2 {
            all.coarsen(3600 * SECOND);
            let seen: Vec<_> = all.iter().map(|(t, s)| (t / SECOND, s.frames)).collect();
            assert_eq!((seen, all.watched_s()), (vec![(0, 10), (3600, 4)], 20));
        }
    }

    #[test]
    fn stretches_lie_between_the_gaps() {
        let at = |number: Nanos| number * BUCKET_NS + 5 * SECOND;
        let two = timeline((0..18).chain(24..42));
        assert_eq!(two.stretches(), [(at(0), at(17)), (at(24), at(41))]);
        // A minute without a frame does not count as a gap.
        let one = timeline((0..18).chain(23..41));
        assert_eq!(one.stretches(), [(at(0), at(40))]);
        assert_eq!(timeline([7]).stretches(), [(at(7), at(7))]);
        assert_eq!(ActivityHistogram::default().stretches(), []);
    }

    #[test]
    fn a_stretch_bears_short_gaps_and_no_long_ones() {
        // Three minutes with frames, a minute without, three minutes with frames.
        let quiet = timeline((0..18).chain(24..42));
        assert_eq!((quiet.stretch_s(60), quiet.stretch_s(50), quiet.watched_s()), (170, 170, 170));
        let short = timeline((0..18).chain(23..41));
        assert_eq!((short.stretch_s(50), short.stretch_s(40)), (400, 170));
        // Twenty separate pieces do not form one stretch.
        let pieces = timeline((0..20).flat_map(|piece| piece * 60..piece * 60 + 3));
        assert_eq!(pieces.watched_s(), 20);
        let mut up = timeline([0, 30]);
        up.watch(0, 305 * SECOND);
        assert_eq!(up.watched_s(), 300);
    }

    /// Checks that nine minutes and 41 seconds do not count as ten minutes. Otherwise, an absence
    /// claim that requires ten watched minutes would be made too early.
    #[test]
    fn a_stretch_ends_with_its_last_frame() {
        let mut almost = ActivityHistogram::default();
        for (number, second) in [(0, 9), (1, 19)].into_iter().chain((2..60).map(|n| (n, n * 10))) {
            let mut slot = ActivityBucket { watched: 1, ..ActivityBucket::default() };
            slot.see(second * SECOND, 100);
            almost.add(number, &slot);
        }
        assert_eq!(almost.stretch_s(60), 581);
    }

    #[cfg(feature = "store")]
    #[test]
    fn an_hour_of_a_stored_row_contains_no_more_than_an_hour() {
        let mut timeline = ActivityHistogram::default();
        timeline.watch(0, 4 * HOUR * BUCKET_NS);
        timeline.coarsen(2 * HOUR * BUCKET_NS);
        assert!(timeline.is_plausible(1 << 48));
        let with = |change: &dyn Fn(&mut ActivityBucket)| {
            let mut changed = timeline.clone();
            changed.0.values_mut().take(1).for_each(change);
            changed.is_plausible(1 << 48)
        };
        let hour = |leading, trailing, longest| Some(Stretches { leading, trailing, longest });
        assert!(!with(&|slot| slot.hour = hour(1 << 40, 0, 0)));
        assert!(!with(&|slot| slot.hour = hour(0, 1 << 40, 0)));
        assert!(!with(&|slot| slot.hour = hour(0, 0, u64::MAX)));
        assert!(!with(&|slot| slot.watched = 1 << 40));
    }

    #[test]
    fn hours_keep_their_stretches() {
        for numbers in [0..1000, 300..1000, 0..700, 100..300] {
            let fine = timeline(numbers.clone());
            let mut coarse = fine.clone();
            coarse.coarsen(1080 * BUCKET_NS);
            let coarse = coarse.watched_s();
            let fine = fine.watched_s();
            assert!(coarse <= fine && coarse + 20 >= fine, "{numbers:?}: {coarse} of {fine}");
        }
    }

    #[test]
    fn a_few_stamps_far_from_all_others_are_doubted_and_two_bodies_are_not() {
        let mut all = ActivityHistogram::default();
        all.add(7, &slot(7, 2000));
        let far = 7 + 2 * DAY / BUCKET_NS;
        all.add(far, &slot(far, 1));
        let (believed, doubted) = all.without_outliers();
        assert_eq!((doubted, believed.last()), (1, all.first()));
        all.add(far, &slot(far, 9));
        assert_eq!(all.without_outliers(), (all.clone(), 0));
    }
}
