//! Reasons to doubt that a flow is what it seems. Doubted flows are kept apart, so they do not
//! affect the results from undoubted flows.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::capture_index::TTL_TOLERANCE;
use super::direction::Orientation;
use super::flow_facts::link_local_macs;
use super::{CaptureIndex, DirectionEvidence, DirectionHints, OtherOrientation, ServiceKey, State};
use crate::flow::{Encapsulation, Flow};
use crate::model::{Mac, named_enum};

named_enum!(
    /// A reason to doubt a flow.
    DoubtSource {
        /// The direction is a guess, and either the other orientation gets a worse code or another
        /// verdict, or the flow is a finding and hardly shows which side is the client.
        Direction = "direction",
        /// The packets contradict each other, so another device may have sent some of them.
        Spoof = "spoof",
        /// The flow was inside a tunnel that the inventory does not declare.
        Tunnel = "tunnel",
        /// Only an ICMP error that quotes the flow was seen.
        Quoted = "quoted",
    }
);

/// A set of reasons for doubt, which is nearly always empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct DoubtSources(u8);

impl DoubtSources {
    fn add(&mut self, source: DoubtSource) {
        self.0 |= 1 << source as u8;
    }

    /// Returns the union of both sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the set contains this reason.
    pub fn has(self, source: DoubtSource) -> bool {
        self.0 >> source as u8 & 1 == 1
    }
}

/// Returns the reasons to doubt a flow in a given orientation.
pub(super) fn of(
    flow: &Flow<'_>,
    orientation: &Orientation,
    state: State,
    subject: &ServiceKey,
    (index, hints): (&CaptureIndex, &dyn DirectionHints),
) -> DoubtSources {
    let mut doubts = DoubtSources::default();
    let client_port = flow.key.endpoint(orientation.client).port;
    if orientation.grade.is_guess() {
        let macs = link_local_macs(flow);
        let macs = [&macs[orientation.client][..], &macs[1 - orientation.client]];
        let other = hints.other_orientation(subject, client_port, orientation.broadcast, macs);
        let is_doubtful = match other {
            OtherOrientation::Differs => true,
            // A finding accuses the client, and names the port of the server.
            OtherOrientation::SameFinding => orientation.is_weak(flow),
            OtherOrientation::SamePermission => false,
        };
        if is_doubtful {
            doubts.add(DoubtSource::Direction);
        }
    }
    if flow.key.path().is_inside() {
        doubts.add(DoubtSource::Tunnel);
    }
    if !flow.sides.iter().any(|side| side.has_packets()) {
        doubts.add(DoubtSource::Quoted);
    }
    // A client that acknowledges a number that only the server knew is the host that it claims to
    // be, even if another device injected packets into the connection.
    let proved = orientation.grade == DirectionEvidence::Handshake && state == State::Established;
    // ICMP queries are distinguished by identifiers (RFC 5508, 3.1), which are not kept. Queries
    // from two hosts behind a NAT may share one flow, and a host that traces a route sends each
    // query with a different TTL.
    let is_one_flow = !flow.key.transport().is_icmp();
    if is_one_flow && !proved && contradicts_itself(flow, index, hints) {
        doubts.add(DoubtSource::Spoof);
    }
    doubts
}

/// Returns whether the packets of one side seem to come from two devices on one interface and VLAN:
/// two unknown hardware addresses, which are not cards of one host, sent packets with the same TTL,
/// or the TTLs differ by more than different paths explain.
fn contradicts_itself(flow: &Flow<'_>, index: &CaptureIndex, hints: &dyn DirectionHints) -> bool {
    (0..2).any(|side| {
        let mut links = flow.links(side);
        // Nearly all sides have only one encapsulation, which cannot contradict itself.
        let (Some(first), Some(second)) = (links.next(), links.next()) else { return false };
        let all = [first, second].into_iter().chain(links);
        let mut places: BTreeMap<(u16, Vec<u32>), Vec<&Encapsulation>> = BTreeMap::new();
        for link in all.filter(|link| !link.is_tunnelled()) {
            places.entry((link.interface, link.vlans().collect())).or_default().push(link);
        }
        places.values().any(|links| {
            let ttl = links.iter().map(|link| link.ttl);
            let least = ttl.clone().min();
            let most = ttl.max();
            let has_two_paths =
                least.zip(most).is_some_and(|(least, most)| most - least > TTL_TOLERANCE);
            has_two_paths || has_two_senders(links, flow.key.endpoint(side).addr, index, hints)
        })
    })
}

fn has_two_senders(
    links: &[&Encapsulation],
    address: IpAddr,
    index: &CaptureIndex,
    hints: &dyn DirectionHints,
) -> bool {
    let is_known = |mac: Mac| {
        mac == Mac::NONE || mac.is_shared() || index.is_router(mac) || hints.is_listed_mac(mac)
    };
    let unknown: Vec<&&Encapsulation> =
        links.iter().filter(|link| !is_known(link.source)).collect();
    unknown.iter().enumerate().any(|(number, a)| {
        let is_card = |link: &Encapsulation| index.is_card(address, link.source);
        unknown[number + 1..]
            .iter()
            .any(|b| a.source != b.source && a.ttl == b.ttl && !(is_card(a) && is_card(b)))
    })
}
