//! Why a flow may be another than it seems, whatever it looks like. Such flows stand apart, so that they change
//! nothing of what sure ones say.

use std::collections::BTreeMap;

use super::capture_index::SAME_WAY;
use super::direction::Orientation;
use super::{CaptureIndex, DirectionEvidence, DirectionHints, ServiceKey, State};
use crate::flow::{Encapsulation, Flow};
use crate::model::{Mac, named_enum};

named_enum!(
    /// Why a flow is doubted.
    DoubtSource {
        /// Its direction is a guess, and the other reading is worse or of another verdict.
        Direction = "direction",
        /// Its packets contradict each other: another device may have sent some of them.
        Spoof = "spoof",
        /// It was inside a tunnel that nobody stated.
        Tunnel = "tunnel",
        /// Nothing of it was seen but an ICMP error that quotes it.
        Quoted = "quoted",
    }
);

/// A set of reasons for doubt; nearly always empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct DoubtSources(u8);

impl DoubtSources {
    fn add(&mut self, taint: DoubtSource) {
        self.0 |= 1 << taint as u8;
    }

    /// Those of both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is one of them.
    pub fn has(self, taint: DoubtSource) -> bool {
        self.0 >> taint as u8 & 1 == 1
    }
}

/// Why a flow is doubted in a reading.
pub(super) fn of(
    flow: &Flow<'_>,
    reading: &Orientation,
    state: State,
    subject: &ServiceKey,
    (survey, lens): (&CaptureIndex, &dyn DirectionHints),
) -> DoubtSources {
    let mut taints = DoubtSources::default();
    let client_port = flow.key.endpoint(reading.client).port;
    if reading.grade.is_guess() && !lens.reads_the_same(subject, client_port, reading.broadcast) {
        taints.add(DoubtSource::Direction);
    }
    if flow.key.path().is_inside() {
        taints.add(DoubtSource::Tunnel);
    }
    if !flow.sides.iter().any(|side| side.spoke()) {
        taints.add(DoubtSource::Quoted);
    }
    // Who acknowledges what only the server knew is who he says; nothing sent into his connection changes that.
    let proved = reading.grade == DirectionEvidence::Handshake && state == State::Established;
    // Queries of ICMP are flows by their identifiers (RFC 5508, 3.1), which are not kept: those of two hosts stand in one
    // entry, and one that traces a route gives each a hop count of its own.
    let is_one_flow = !flow.key.transport().is_icmp();
    if is_one_flow && !proved && contradicts_itself(flow, survey, lens) {
        taints.add(DoubtSource::Spoof);
    }
    taints
}

/// Whether the packets of one side come from two devices: as many hops away, but from two hardware addresses on one
/// interface and VLAN that are nobody's known; or ways that differ by more hops than ways do.
fn contradicts_itself(flow: &Flow<'_>, survey: &CaptureIndex, lens: &dyn DirectionHints) -> bool {
    (0..2).any(|side| {
        let mut links = flow.links(side);
        // Nearly all sides have one link.
        let (Some(first), Some(second)) = (links.next(), links.next()) else { return false };
        let all = [first, second].into_iter().chain(links);
        let mut places: BTreeMap<(u16, Vec<u32>), Vec<&Encapsulation>> = BTreeMap::new();
        for link in all.filter(|link| !link.is_tunnelled()) {
            places.entry((link.interface, link.vlans().collect())).or_default().push(link);
        }
        places.values().any(|links| {
            let ttl = links.iter().map(|link| link.ttl);
            let (least, most) = (ttl.clone().min(), ttl.max());
            let ways = least.zip(most).is_some_and(|(least, most)| most - least > SAME_WAY);
            ways || has_two_senders(links, survey, lens)
        })
    })
}

fn has_two_senders(
    links: &[&Encapsulation],
    survey: &CaptureIndex,
    lens: &dyn DirectionHints,
) -> bool {
    let is_known = |mac: Mac| {
        mac == Mac::NONE || mac.is_shared() || survey.is_router(mac) || lens.is_listed_mac(mac)
    };
    let unknown: Vec<&&Encapsulation> =
        links.iter().filter(|link| !is_known(link.source)).collect();
    unknown.iter().enumerate().any(|(number, a)| {
        unknown[number + 1..].iter().any(|b| a.source != b.source && a.ttl == b.ttl)
    })
}
