//! The conditions under which traffic that was not seen is reported as missing, in the order in
//! which they are checked. The first condition that does not hold is the reason why the traffic
//! could not be assessed.

use super::absence_claims::{GroupId, To};
use super::coverage::Peer;
use super::facts::JudgedCapture;
use super::verdict::Code;
use crate::conversation::VantageSet;

/// A host whose traffic of some rows in a group was not seen. The conditions are checked for this
/// host.
pub(super) struct Silent<'s> {
    /// The policy, the conversations, and the facts about the capture.
    pub seen: JudgedCapture<'s>,
    /// The host that should have initiated the traffic, as its index in the inventory.
    pub source: usize,
    /// The rows whose features are on.
    pub on: &'s [usize],
    /// The rows in `on` that are expected, because they are steady or their trigger was seen.
    pub due: &'s [usize],
    /// The destination that the traffic should have gone to.
    pub to: To,
    /// How completely the capture shows the destinations.
    pub towards: &'s DestinationCoverage,
    /// The time for which the rows have to be watched, in seconds.
    pub watch_s: u64,
    /// Whether the host itself may be the destination, because it also has the destination role of
    /// a row. Then its traffic may stay inside it.
    pub may_serve_itself: bool,
    /// The trigger of the rows, if any: the group of rows that documents it, and the index of its
    /// conversation.
    pub trigger: Option<(GroupId, u32)>,
    /// Whether the traffic is expected only because of few sessions of one client.
    pub is_weakly_triggered: bool,
    /// Whether traffic that matches the rows was seen inside a tunnel that the inventory does not
    /// declare.
    pub tunnelled: bool,
}

impl Silent<'_> {
    /// Returns the watched time that counts for the traffic, in seconds.
    pub fn watched_s(&self) -> u64 {
        let Self { seen, source, to, towards, watch_s, trigger, .. } = self;
        let trigger = trigger.map(|(_, conversation)| conversation);
        seen.watched_s(*source, towards.seen_from, to.peer(), *watch_s, trigger)
    }
}

/// How completely the capture shows the destinations of a source.
pub(super) struct DestinationCoverage {
    /// The number of destinations.
    pub len: usize,
    /// Whether the capture shows unicast traffic from at least one destination.
    pub sends: bool,
    /// Whether the capture covers all traffic of each destination.
    pub all_covered: bool,
    /// The named vantage points that saw at least one destination.
    pub seen_from: VantageSet,
    /// Whether the source and a destination can use an IP version that does not occur in the
    /// capture.
    pub may_use_unseen_version: bool,
}

/// A condition that has to hold before traffic that was not seen is reported as missing.
#[derive(Clone, Copy)]
pub struct Condition {
    /// The reason why traffic is not assessable if the condition does not hold.
    pub code: Code,
    /// The condition in words, as reports show it.
    pub words: &'static str,
    holds: fn(&Silent<'_>) -> bool,
}

/// Conditions that have to hold before connection attempts are examined.
pub(super) const BEFORE: &[Condition] = &[
    Condition {
        code: Code::FeatureUnknown,
        words: "all features that the row needs are on in the inventory",
        holds: |silent| !silent.on.is_empty(),
    },
    Condition {
        code: Code::TriggerNotSeen,
        words: "the traffic is always expected, or its trigger was seen",
        holds: |silent| !silent.due.is_empty(),
    },
];

/// The condition on connection attempts, which reports list between [`BEFORE`] and [`AFTER`]. The
/// code that examines the attempts checks it, so `holds` always returns true.
const ATTEMPTS: Condition = Condition {
    code: Code::OneSidedView,
    words: "no connection attempt was seen in one direction only",
    holds: |_| true,
};

/// Conditions that have to hold before traffic without any connection attempt is reported as
/// missing.
pub(super) const AFTER: &[Condition] = &[
    Condition {
        code: Code::HostNotSeen,
        words: "if the row's destination is a name or address, it was seen",
        holds: |silent| {
            let rows = &silent.seen.policy.matrix.rows;
            silent.towards.len > 0 || silent.due.iter().all(|row| rows[*row].only.is_none())
        },
    },
    Condition {
        code: Code::PairNotCovered,
        words: "a host of the inventory, not only a network, has the destination role",
        holds: |silent| {
            let rows = &silent.seen.policy.matrix.rows;
            let networked = |row: &usize| silent.seen.is_played_by_network(rows[*row].destination);
            silent.towards.len > 0 || !silent.due.iter().any(networked)
        },
    },
    Condition {
        code: Code::LoopbackOnly,
        words: "there is a destination other than the source host itself, and the source host has no destination role",
        holds: |silent| silent.towards.len > 0 && !silent.may_serve_itself,
    },
    Condition {
        code: Code::HostNotSeen,
        words: "the capture shows unicast packets from the host and from one of its destinations",
        holds: |silent| silent.seen.is_sending(Peer::Host(silent.source)) && silent.towards.sends,
    },
    Condition {
        code: Code::PairNotCovered,
        words: "the capture covers the traffic from the host to all destinations, as the inventory states or traffic shows",
        holds: |silent| silent.seen.watches(silent.source).is_some() || silent.towards.all_covered,
    },
    Condition {
        code: Code::CaptureFiltered,
        words: "the capture was not filtered",
        holds: |silent| !silent.seen.view().filtered,
    },
    Condition {
        code: Code::CaptureFiltered,
        words: "the capture contains packets of each transport that the traffic may use",
        holds: |silent| !silent.due.iter().any(|row| silent.seen.lacks_transport_of(*row)),
    },
    Condition {
        code: Code::CaptureFiltered,
        words: "the capture contains packets of every IP version that both hosts can use",
        holds: |silent| !silent.towards.may_use_unseen_version,
    },
    Condition {
        code: Code::LossTooHigh,
        words: "the capture lost no more frames than --max-loss allows",
        holds: |silent| silent.seen.view().loss <= silent.seen.view().max_loss,
    },
    Condition {
        code: Code::WindowTooShort,
        words: "the watch time was at least as long as the row or --min-watch requires",
        holds: |silent| silent.watched_s() >= silent.watch_s,
    },
];

/// Returns the code of the first condition that does not hold; `None` if all hold.
pub(super) fn fails(silent: &Silent<'_>, conditions: &[Condition]) -> Option<Code> {
    let failing = conditions.iter().find(|condition| !(condition.holds)(silent));
    failing.map(|condition| condition.code)
}

/// Returns whether the condition with this code is checked only after the capture is known to cover
/// the pair of hosts.
pub(super) fn is_late(code: Code) -> bool {
    matches!(code, Code::CaptureFiltered | Code::LossTooHigh | Code::WindowTooShort)
}

/// Returns the conditions under which traffic that was not seen is reported as missing, in the
/// order in which they are checked.
pub fn conditions_of_absence() -> impl Iterator<Item = &'static Condition> {
    BEFORE.iter().chain(std::iter::once(&ATTEMPTS)).chain(AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Verdict;

    #[test]
    fn each_reason_for_not_assessing_has_a_condition_and_none_stands_twice() {
        let all: Vec<&Condition> = conditions_of_absence().collect();
        let codes: Vec<Code> = Code::ALL
            .iter()
            .copied()
            .filter(|code| code.verdict() == Verdict::NotAssessable)
            .collect();
        for code in codes {
            assert!(all.iter().any(|condition| condition.code == code), "{code}");
        }
        assert!(all.iter().all(|c| c.code.verdict() == Verdict::NotAssessable));
        for (number, condition) in all.iter().enumerate() {
            assert!(all[..number].iter().all(|other| other.words != condition.words));
        }
    }
}
