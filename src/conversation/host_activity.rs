//! The traffic of each address in the capture.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{ActivePeriods, TimeSpan};
use crate::flow::{Amount, HashSeed};
use crate::model::{InlineBoundedSet, Mac, Merge, Sum};

/// The traffic of one address in the capture.
#[derive(Clone, Default, Debug)]
pub struct HostActivity {
    /// Traffic sent from the address, including broadcasts and address claims (ARP).
    pub sent: Amount,
    /// Unicast traffic sent to the address.
    pub received: Amount,
    /// Number of unicast packets sent from the address.
    pub unicast_sent: Sum,
    /// Time span of the unicast packets sent from the address. Broadcasts and address claims do not
    /// count, because any host can forge them with this address as the source.
    pub unicast_in: TimeSpan,
    /// The periods in which unicast packets were sent without a long pause; `None` for addresses
    /// that the inventory does not list.
    pub active: Option<Box<ActivePeriods>>,
    /// Whether a peer acknowledges replies from this address that the capture does not contain.
    pub answered_unseen: bool,
    /// Time span of all traffic sent from the address.
    pub sent_in: TimeSpan,
    /// Time span of the unicast traffic sent to the address.
    pub received_in: TimeSpan,
    /// Number of truncated packets in flows: those sent from the address, then those sent to it by
    /// unicast.
    pub cut: [Sum; 2],
    /// Source hardware addresses of the frames sent from the address.
    pub macs: InlineBoundedSet<Mac, 4>,
    /// Whether at least one unicast packet from the address has a TTL or hop limit that is not a
    /// usual initial value, which shows that the packet passed a router.
    pub routed: bool,
    /// Whether the address is a loopback address that was seen on a link with hardware addresses or
    /// in a tunnel.
    pub on_wire: bool,
    /// TTLs or hop limits of the unicast packets from the address, each with the place of its frame
    /// ([`place_of`]). They exclude protocols without ports other than ICMPv4, and TCP flows in
    /// which the address sent only resets.
    ttl: InlineBoundedSet<(u8, u8), 4>,
}

/// Returns a number for the place at which a frame with this source hardware address was captured.
/// Few frames from one IP address have different hardware addresses, so a short number is enough.
fn place_of(source: Mac) -> u8 {
    source.0.into_iter().fold(0, |place, byte| place.rotate_left(3) ^ byte)
}

impl HostActivity {
    /// Adds the TTL of a packet from the address, in a frame with this source hardware address.
    pub(super) fn add_ttl(&mut self, source: Mac, ttl: u8) {
        self.ttl.insert((place_of(source), ttl));
    }

    /// Returns the TTLs of the packets in frames with this source hardware address; none if not all
    /// of them are kept.
    pub fn ttls_at(&self, source: Mac) -> impl Iterator<Item = u8> {
        let place = place_of(source);
        let last = self.ttl.iter().next_back().filter(|_| self.ttl.more());
        let is_complete = last.is_none_or(|(at, _)| place < *at);
        let here = self.ttl.iter().filter(move |(at, _)| *at == place && is_complete);
        here.map(|(_, ttl)| *ttl)
    }

    /// Returns whether there were too many TTLs to keep all of them.
    pub fn lacks_ttls(&self) -> bool {
        self.ttl.more()
    }
}

impl Merge for HostActivity {
    fn merge(&mut self, other: &Self) {
        self.sent.merge(&other.sent);
        self.received.merge(&other.received);
        self.unicast_sent.merge(&other.unicast_sent);
        self.answered_unseen |= other.answered_unseen;
        self.unicast_in.merge(&other.unicast_in);
        match (&mut self.active, &other.active) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (mine @ None, Some(_)) => mine.clone_from(&other.active),
            (_, None) => {}
        }
        self.sent_in.merge(&other.sent_in);
        self.received_in.merge(&other.received_in);
        self.cut.iter_mut().zip(&other.cut).for_each(|(mine, theirs)| mine.merge(theirs));
        self.macs.merge(&other.macs);
        self.routed |= other.routed;
        self.ttl.merge(&other.ttl);
        self.on_wire |= other.on_wire;
    }
}

const _: () = assert!(size_of::<HostActivity>() <= 168);

/// The activity of all addresses. A flood may have a million addresses. A hash map leaves at least
/// an eighth of its slots empty, and while it grows, the old and the new table exist together. The
/// map therefore contains only small positions, and the activity is in a list.
#[derive(Default)]
pub(super) struct HostActivities {
    positions: HashMap<IpAddr, u32, HashSeed>,
    list: Vec<HostActivity>,
}

impl HostActivities {
    /// Returns the position of an address, after adding the address if it is new. `active` returns
    /// the periods to begin with.
    pub fn position(
        &mut self,
        address: IpAddr,
        active: impl FnOnce() -> Option<Box<ActivePeriods>>,
    ) -> u32 {
        let next = self.list.len() as u32;
        let position = *self.positions.entry(address).or_insert(next);
        if position == next {
            self.list.push(HostActivity { active: active(), ..HostActivity::default() });
        }
        position
    }

    /// Returns the activity at a position.
    pub fn at(&mut self, position: u32) -> &mut HostActivity {
        &mut self.list[position as usize]
    }

    /// Returns the activity of an address, after adding the address if it is new.
    pub fn of(&mut self, address: IpAddr) -> &mut HostActivity {
        let position = self.position(address, || None);
        self.at(position)
    }

    /// Returns the activity of an address, or `None` if the capture does not show the address.
    pub fn get(&self, address: IpAddr) -> Option<&HostActivity> {
        self.positions.get(&address).map(|position| &self.list[*position as usize])
    }

    /// Returns all addresses with their activity, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &HostActivity)> {
        self.positions.iter().map(|(address, position)| (*address, &self.list[*position as usize]))
    }

    /// Merges the activities from another part of the flows.
    pub fn merge(&mut self, other: Self) {
        if self.list.is_empty() {
            *self = other;
            return;
        }
        for (address, activity) in other.iter() {
            self.of(address).merge(activity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttls_are_known_by_place_unless_some_were_dropped() {
        let mac = |last: u8| Mac([2, 0, 0, 0, 0, last]);
        let mut seen = HostActivity::default();
        for (place, ttl) in [(1, 64), (1, 128), (2, 61), (1, 64)] {
            seen.add_ttl(mac(place), ttl);
        }
        let at = |seen: &HostActivity, place| seen.ttls_at(mac(place)).collect::<Vec<_>>();
        assert_eq!([at(&seen, 1), at(&seen, 2), at(&seen, 3)], [vec![64, 128], vec![61], vec![]]);
        for ttl in [62, 63] {
            seen.add_ttl(mac(2), ttl);
        }
        let dropped = [1, 2].into_iter().filter(|place| at(&seen, *place).is_empty());
        assert_eq!(dropped.count(), 1, "only the place with dropped TTLs is not known");
    }

    #[test]
    fn activities_merge_by_address() {
        let [a, b] = ["10.0.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap());
        let mut first = HostActivities::default();
        first.of(a).unicast_sent.add(1);
        let mut second = HostActivities::default();
        second.of(b).unicast_sent.add(2);
        second.of(a).unicast_sent.add(4);
        let mut position = |address| second.position(address, || None);
        assert_eq!((position(b), position(a)), (0, 1));
        first.merge(second);
        let sent = |address| first.get(address).map(|activity| activity.unicast_sent.0);
        assert_eq!((sent(a), sent(b)), (Some(5), Some(2)));
        assert_eq!(sent("10.0.0.2".parse().unwrap()), None);
        assert_eq!(first.iter().count(), 2);
    }
}
