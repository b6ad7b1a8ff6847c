//! Sets of vantage points.

use std::collections::{BTreeSet, HashMap};

use crate::flow::{FlowGroup, FlowKey, HashSeed, SideEvidence, SightedFrom};
use crate::model::VantagePoint;

/// The number of vantage points that have a bit of their own. All others share the next bit.
const OWN_BITS: usize = 62;

/// A bit that is set if several vantage points without a bit of their own saw one group of flows.
const SEVERAL_OTHERS: u64 = 1 << 63;

/// Stands for the members of a set that reports do not list.
pub const OTHER_SENSORS: &str = "and others";

/// A set of named vantage points, by their position in [`VantagePoints`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct VantageSet(u64);

impl VantageSet {
    /// Returns the union of both sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the set contains more than one vantage point. Vantage points without a bit
    /// of their own count as one unless several of them saw the same group of flows.
    pub fn has_several(self) -> bool {
        self.0.count_ones() > 1
    }

    /// Adds the vantage point at a position.
    fn add(&mut self, position: usize) {
        self.0 |= 1 << position.min(OWN_BITS);
    }

    /// Returns whether the set contains the vantage point at a position. All positions without a
    /// bit of their own count as contained if one of them is.
    fn has(self, position: usize) -> bool {
        self.0 >> position.min(OWN_BITS) & 1 == 1
    }
}

/// The named vantage points that saw flows.
#[derive(Clone, Default, Debug)]
pub struct VantagePoints {
    /// The names, in order.
    names: Vec<VantagePoint>,
}

impl VantagePoints {
    pub(super) fn of(side: &SideEvidence) -> Self {
        let names: BTreeSet<&VantagePoint> =
            side.sightings().flat_map(|(_, points)| points.iter()).collect();
        Self { names: names.into_iter().cloned().collect() }
    }

    /// Returns the set of these vantage points.
    fn set_of(&self, points: &SightedFrom) -> VantageSet {
        let mut set = VantageSet::default();
        let positions = points.iter().filter_map(|point| self.names.binary_search(point).ok());
        let mut others = 0;
        for position in positions {
            set.add(position);
            others += usize::from(position >= OWN_BITS);
        }
        if points.more() {
            set.add(OWN_BITS);
        }
        if others > 1 {
            set.0 |= SEVERAL_OTHERS;
        }
        set
    }

    /// Returns whether there are at least two vantage points.
    pub fn are_several(&self) -> bool {
        self.names.len() > 1
    }

    /// Returns the members of a set, in order. If the set contains the shared bit, it contains all
    /// vantage points without a bit of their own.
    pub fn members(&self, set: VantageSet) -> impl Iterator<Item = &VantagePoint> {
        let all = self.names.iter().enumerate();
        all.filter(move |(position, _)| set.has(*position)).map(|(_, point)| point)
    }

    /// Returns all vantage points that may be members of a set, in order. If the set does not list
    /// all of its members, any vantage point may be one.
    pub fn possible_members(&self, set: VantageSet) -> impl Iterator<Item = &VantagePoint> {
        let all = self.names.iter().enumerate();
        let may_be = move |position| set.has(OWN_BITS) || set.has(position);
        all.filter(move |(position, _)| may_be(*position)).map(|(_, point)| point)
    }

    /// Returns the members of a set as reports show them. If the set does not list all of its
    /// members, the last item is [`OTHER_SENSORS`].
    pub fn words(&self, set: VantageSet) -> Vec<String> {
        let own = self.members(set).take_while(|point| {
            self.names.binary_search(point).is_ok_and(|position| position < OWN_BITS)
        });
        let others = set.has(OWN_BITS).then(|| OTHER_SENSORS.to_owned());
        own.map(ToString::to_string).chain(others).collect()
    }
}

/// The vantage points that saw each group of flows.
#[derive(Default)]
pub(super) struct Sightings {
    pub points: VantagePoints,
    groups: HashMap<FlowGroup, VantageSet, HashSeed>,
}

impl Sightings {
    pub fn of(side: &SideEvidence) -> Self {
        let points = VantagePoints::of(side);
        let sets = side.sightings().map(|(group, from)| (*group, points.set_of(from)));
        let groups = sets.collect();
        Self { points, groups }
    }

    /// Returns the vantage points that saw a flow.
    pub fn from(&self, flow: &FlowKey) -> VantageSet {
        if self.groups.is_empty() {
            return VantageSet::default();
        }
        self.groups.get(&FlowGroup::of(flow)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_vantage_point_may_be_a_member_of_a_set_that_does_not_list_all() {
        let points = points(20);
        let mut set = VantageSet::default();
        set.add(3);
        assert_eq!(points.possible_members(set).count(), 1);
        set.add(OWN_BITS);
        assert_eq!(points.possible_members(set).count(), 20);
        assert_eq!(points.members(set).count(), 1);
    }

    fn points(count: usize) -> VantagePoints {
        let name = |number| VantagePoint::new(None, &format!("s{number:03}")).expect("a name");
        VantagePoints { names: (0..count).map(name).collect() }
    }

    #[test]
    fn a_set_names_its_members_in_order_and_says_if_it_does_not_list_all() {
        let few = points(3);
        let mut some = SightedFrom::new();
        some.insert(few.names[2].clone());
        some.insert(few.names[0].clone());
        let set = few.set_of(&some);
        assert_eq!(few.words(set), ["s000", "s002"]);
        assert!(few.words(VantageSet::default()).is_empty());

        let many = points(70);
        let mut some = SightedFrom::new();
        some.insert(many.names[1].clone());
        some.insert(many.names[66].clone());
        let set = many.set_of(&some);
        assert_eq!(many.words(set), ["s001", "and others"]);
        // It is not known which of the others saw the flow, so all of them count.
        assert_eq!(many.members(set).count(), 1 + (70 - OWN_BITS));
    }

    #[test]
    fn two_vantage_points_are_several_even_if_they_share_a_bit() {
        let many = points(70);
        let set = |positions: &[usize]| {
            let mut some = SightedFrom::new();
            positions.iter().for_each(|position| some.insert(many.names[*position].clone()));
            many.set_of(&some)
        };
        assert!(!set(&[1]).has_several() && !set(&[66]).has_several());
        for both in [set(&[1, 2]), set(&[1, 66]), set(&[66, 67])] {
            assert!(both.has_several() && both.with(set(&[66])).has_several());
        }
        assert_eq!(many.words(set(&[66, 67])), ["and others"]);
        assert_eq!(many.members(set(&[66, 67])).count(), 70 - OWN_BITS);
    }
}
