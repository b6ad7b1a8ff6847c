//! The time for which the vantage points of each host watched. Traffic that only one vantage point
//! could see does not count as missing if it may have passed during a break of that vantage point.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::absence_claims::MergedPairs;
use super::coverage::Peer;
use super::ends::EndKey;
use super::finding::{Finding, Reason};
use super::ruling::Judged;
use super::{Judgement, Watched};
use crate::conversation::{Conversations, TimeSpan, VantagePoints, VantageSet};
use crate::model::{ActivityHistogram, Nanos, SECOND, VantagePoint};
use crate::policy::Policy;

/// The time before and after a trigger in which the traffic that it triggers is expected, in
/// nanoseconds.
const AROUND_TRIGGER: Nanos = 60 * SECOND;

/// The times at which each named vantage point watched.
#[derive(Clone, Default, Debug)]
pub struct VantageTimes {
    /// The times at which at least one input watched.
    all: ActivityHistogram,
    /// The periods in which no input watched.
    gaps: Vec<(Nanos, Nanos)>,
    /// How far the clocks of two inputs differ, in nanoseconds.
    apart: Option<Nanos>,
    /// The watch times that rows and roles require, in seconds.
    watch_times: Vec<u64>,
    points: BTreeMap<VantagePoint, PointTimes>,
}

/// The times at which one vantage point watched.
#[derive(Clone, Debug)]
struct PointTimes {
    watched: Watched,
    /// The periods in which the vantage point did not watch, although another input did.
    breaks: Vec<(Nanos, Nanos)>,
}

impl VantageTimes {
    /// Compares the timelines of vantage points with the timeline of all inputs. `apart` is the
    /// difference between the clocks of two inputs in nanoseconds, and `watch_times` are the times
    /// that rows and roles require.
    pub fn new(
        all: &ActivityHistogram,
        points: &BTreeMap<VantagePoint, ActivityHistogram>,
        apart: Option<Nanos>,
        watch_times: impl Iterator<Item = u64>,
    ) -> Self {
        let watch_times: Vec<u64> = watch_times.collect();
        let times = points.iter().map(|(point, timeline)| {
            let watched = Watched::new(timeline, None, watch_times.iter().copied());
            let breaks = timeline.breaks_in(all);
            (point.clone(), PointTimes { watched, breaks })
        });
        let points = times.collect();
        Self { points, all: all.clone(), gaps: all.gaps(), apart, watch_times }
    }

    /// Returns the periods in which each vantage point did not watch, although another input did.
    pub fn breaks(&self) -> impl Iterator<Item = (&VantagePoint, &[(Nanos, Nanos)])> {
        let points = self.points.iter().filter(|(_, times)| !times.breaks.is_empty());
        points.map(|(point, times)| (point, &times.breaks[..]))
    }

    /// Returns the longest time, in seconds, for which each vantage point watched without a break,
    /// in the order of their names.
    pub fn longest_watched(&self) -> impl Iterator<Item = (&VantagePoint, u64)> {
        let all = Watched::new(&self.all, self.apart, std::iter::empty()).longest_s;
        self.points.keys().map(move |point| {
            let own = self.common(std::iter::once(point));
            (point, own.map_or(all, |own| own.watched.longest_s))
        })
    }

    /// Returns the time for which any input watched, without some periods.
    pub(super) fn watched_without(&self, periods: &[(Nanos, Nanos)]) -> Watched {
        Watched::new(&self.all.without(periods), self.apart, self.watch_times.iter().copied())
    }

    /// Returns the time for which all of these vantage points watched; `None` if none of them ever
    /// stopped.
    fn common<'p>(&self, points: impl Iterator<Item = &'p VantagePoint>) -> Option<CommonWatch> {
        let points: Vec<&PointTimes> = points.filter_map(|p| self.points.get(p)).collect();
        let by_point = points.iter().map(|times| times.breaks.clone());
        let by_point: Vec<_> = by_point.filter(|breaks| !breaks.is_empty()).collect();
        if by_point.is_empty() {
            return None;
        }
        let breaks = by_point.concat();
        let mut watched =
            Watched::new(&self.all.without(&breaks), self.apart, self.watch_times.iter().copied());
        points.iter().for_each(|times| watched.limit(&times.watched));
        Some(CommonWatch { watched, breaks: by_point })
    }
}

/// The time for which several vantage points all watched.
#[derive(Clone, Debug)]
pub struct CommonWatch {
    /// The watched time without the breaks of these vantage points.
    pub watched: Watched,
    /// For each vantage point that stopped, the periods in which it did not watch, in order.
    breaks: Vec<Vec<(Nanos, Nanos)>>,
}

/// Returns the length, in seconds, of the longest part of a span without a break; `None` if no
/// break overlaps the span. `breaks` must be in order of time.
fn cut_by(span: &TimeSpan, breaks: &[(Nanos, Nanos)]) -> Option<u64> {
    let (first, last) = (span.first.get()?, span.last.get()?);
    let mut overlapping = breaks.iter().filter(|(from, to)| *from < last && first < *to).peekable();
    overlapping.peek()?;
    let mut longest = 0;
    let mut from = first;
    for (start, end) in overlapping {
        longest = longest.max(start.saturating_sub(from));
        from = from.max(*end);
    }
    Some((longest.max(last.saturating_sub(from)).max(0) / SECOND) as u64)
}

impl CommonWatch {
    /// Returns the longest time, in seconds, for which a host was active while a vantage point
    /// watched without a break. If several vantage points stopped, the shortest of their times
    /// counts. Returns `None` if no break overlaps the activity.
    fn longest_part_s(&self, active: &TimeSpan) -> Option<u64> {
        self.breaks.iter().filter_map(|breaks| cut_by(active, breaks)).min()
    }

    /// Returns whether no break overlaps the time around an event.
    fn is_watched_around(&self, time: Nanos) -> bool {
        let from = time.saturating_sub(AROUND_TRIGGER);
        let to = time.saturating_add(AROUND_TRIGGER);
        self.breaks.iter().flatten().all(|(start, end)| to < *start || *end < from)
    }
}

/// The vantage points that saw each host or service, and the time for which they watched.
#[derive(Default)]
pub(super) struct VantageWatch {
    times: Arc<VantageTimes>,
    points: VantagePoints,
    peers: HashMap<Peer, VantageSet, ahash::RandomState>,
    /// The vantage points that saw aggregated conversations with several servers. Any host may be
    /// one of these servers.
    of_any_host: VantageSet,
    /// The results of [`Self::common`] for the sets that were needed so far.
    known: Mutex<HashMap<VantageSet, Option<Arc<CommonWatch>>, ahash::RandomState>>,
}

impl VantageWatch {
    pub fn of(times: &Arc<VantageTimes>, conversations: &Conversations, judged: &[Judged]) -> Self {
        let mut watch = Self {
            times: Arc::clone(times),
            points: conversations.vantage_points.clone(),
            ..Self::default()
        };
        for (c, j) in conversations.list.iter().zip(judged) {
            // Traffic that could be forged does not show where a host is seen.
            if c.sensors.is_empty() || c.is_made_up() {
                continue;
            }
            if c.stands_for().is_some_and(|all| all.has_several_servers()) {
                watch.of_any_host = watch.of_any_host.with(c.sensors);
            }
            let ends = [(&j.client, c.subject.client), (&j.server, c.subject.server)];
            for (party, address) in ends {
                let peer = Peer::of(party.kind, address);
                if matches!(peer, Peer::Host(_) | Peer::Service(_)) {
                    let known = watch.peers.entry(peer).or_default();
                    *known = known.with(c.sensors);
                }
            }
        }
        watch
    }

    /// Returns the vantage points that saw a host or a service.
    pub fn seen_from(&self, peer: Peer) -> VantageSet {
        self.peers.get(&peer).copied().unwrap_or_default().with(self.of_any_host)
    }

    /// Returns the longest part, in seconds, of a host's activity in which the capture was not
    /// interrupted. If the same packets were captured by two clocks, activity looks longer by their
    /// difference, which is therefore subtracted as in [`Watched::new`].
    pub fn active_s(&self, active: &TimeSpan) -> Nanos {
        let whole = active.length().unwrap_or_default() / SECOND;
        let longest = cut_by(active, &self.times.gaps).map_or(whole, |part| part as Nanos);
        let apart = self.times.apart.map_or(0, |apart| apart.max(0) / SECOND);
        if apart < longest { longest - apart } else { longest }
    }

    /// Returns the names of the vantage points in a set, in order.
    pub fn names(&self, set: VantageSet) -> Vec<String> {
        self.points.words(set)
    }

    /// Returns the names of the vantage points in a set that did not watch all the time.
    pub fn interrupted(&self, set: VantageSet) -> Vec<String> {
        let has_breaks = |point: &&VantagePoint| {
            self.times.points.get(*point).is_some_and(|times| !times.breaks.is_empty())
        };
        self.points.possible_members(set).filter(has_breaks).map(ToString::to_string).collect()
    }

    /// Returns the time for which all vantage points of a set watched; `None` if none of them ever
    /// stopped.
    pub fn common(&self, set: VantageSet) -> Option<Arc<CommonWatch>> {
        if set.is_empty() || self.times.points.is_empty() {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let common = || self.times.common(self.points.possible_members(set)).map(Arc::new);
        known.entry(set).or_insert_with(common).clone()
    }

    /// Returns the watched time, in seconds, that counts for a row with a watch time of `watch_s`
    /// seconds: the time during which every vantage point in `set` watched or, if none of them ever
    /// stopped, the watched time of all inputs (`all`). If a vantage point has breaks during the
    /// activity of a host in `active`, the result is at most the longest part of the activity
    /// without a break of that vantage point. Returns 0 if a break overlaps the time around
    /// `trigger`.
    pub fn seconds_for(
        &self,
        set: VantageSet,
        all: &Watched,
        watch_s: u64,
        active: &[&TimeSpan],
        trigger: Option<Nanos>,
    ) -> u64 {
        let Some(common) = self.common(set) else { return all.seconds_for(watch_s) };
        if trigger.is_some_and(|time| !common.is_watched_around(time)) {
            return 0;
        }
        let watched = common.watched.seconds_for(watch_s).min(all.seconds_for(watch_s));
        // A host that is not active cannot send, so only breaks during its activity count.
        active.iter().filter_map(|span| common.longest_part_s(span)).fold(watched, u64::min)
    }

    /// Returns, for each vantage point with breaks and each time in `seconds`, whether the longest
    /// part of a host's activity without a break is shorter than this time; false if no break
    /// overlaps the activity. For two hosts with the same vantage points and the same result, the
    /// breaks make [`VantageWatch::seconds_for`] fall below the same times.
    pub fn limits(&self, active: &TimeSpan, seconds: &[u64]) -> Vec<bool> {
        let parts = self.times.breaks().map(|(_, breaks)| cut_by(active, breaks));
        parts
            .flat_map(|part| {
                seconds.iter().map(move |seconds| part.is_some_and(|part| part < *seconds))
            })
            .collect()
    }
}

impl Judgement {
    /// Returns the names of the vantage points that saw the traffic of a finding, sorted by name.
    /// If the finding has no conversations, returns those that saw one of its hosts or services.
    pub fn sensors_of(&self, policy: &Policy, finding: &Finding) -> Vec<String> {
        let members = self.members_of(finding);
        if !members.is_empty() {
            let list = &self.conversations.list;
            let sets = members.iter().map(|number| list[*number as usize].sensors);
            let all = sets.fold(VantageSet::default(), VantageSet::with);
            return self.conversations.vantage_points.words(all);
        }
        let Some(seen) = self.seen(policy) else { return Vec::new() };
        seen.sensors_of(&self.peers_of(finding))
    }

    /// Returns the hosts and services that a finding without conversations is about.
    fn peers_of(&self, finding: &Finding) -> Vec<Peer> {
        let host = |number: &u32| Peer::Host(*number as usize);
        if let Reason::Claim(id) = finding.reason {
            if let Some(MergedPairs { sources, to, .. }) = self.claims().merged_pairs(id) {
                return sources.iter().map(host).chain(to.iter().copied()).collect();
            }
            let claim = self.claims().get(id);
            return [vec![host(&claim.source)], self.claims().to(claim)].concat();
        }
        let ends = [finding.key.client, finding.key.server].map(|end| self.end(end));
        let hosts = ends.into_iter().filter_map(|end| match end {
            EndKey::Host(number) => Some(host(number)),
            _ => None,
        });
        hosts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ActivityBucket;

    fn timeline(spans: &[(Nanos, Nanos)]) -> ActivityHistogram {
        let mut timeline = ActivityHistogram::default();
        for (from, to) in spans {
            for second in (*from..=*to).step_by(5) {
                let mut slot = ActivityBucket::WATCHED;
                slot.see(second * SECOND, 60);
                timeline.add(second / 10, &slot);
            }
        }
        timeline
    }

    fn point(name: &str) -> VantagePoint {
        VantagePoint::new(None, name).expect("a name")
    }

    fn span(from: Nanos, to: Nanos) -> TimeSpan {
        let mut span = TimeSpan::default();
        span.see(from * SECOND);
        span.see(to * SECOND);
        span
    }

    #[test]
    fn a_break_of_one_vantage_point_counts_only_for_what_it_saw() {
        let all = timeline(&[(0, 3000)]);
        let points = BTreeMap::from([
            (point("a"), timeline(&[(0, 3000)])),
            (point("b"), timeline(&[(0, 1000), (1900, 3000)])),
        ]);
        let times = VantageTimes::new(&all, &points, None, [60].into_iter());
        let broken: Vec<_> = times.breaks().map(|(point, _)| point.as_str()).collect();
        assert_eq!(broken, ["b"]);
        let longest: Vec<_> =
            times.longest_watched().map(|(point, s)| (point.as_str(), s)).collect();
        assert!(matches!(longest[..], [("a", 3000), ("b", 1080..=1100)]), "{longest:?}");
        let [a, b] = [point("a"), point("b")];
        assert!(times.common([&a].into_iter()).is_none());
        let both = times.common([&a, &b].into_iter()).expect("a break");
        let watched = both.watched.longest_s;
        assert!((1080..=1100).contains(&watched), "{watched}");
        // A host that was active only during the break was not watched at all.
        assert_eq!(both.longest_part_s(&span(1100, 1800)), Some(0));
        assert_eq!(both.longest_part_s(&span(700, 1800)), Some(300));
        assert_eq!(both.longest_part_s(&span(100, 2900)), Some(1000));
        assert_eq!(both.longest_part_s(&span(100, 900)), None);
        assert_eq!(both.longest_part_s(&TimeSpan::default()), None);
        // The traffic that a trigger causes may fall into the break.
        for (second, is_watched) in [(500, true), (950, false), (1500, false), (2500, true)] {
            assert_eq!(both.is_watched_around(second * SECOND), is_watched, "{second}");
        }
    }
}
