//! The evidence of one flow: the statistics of its two sides, which merge field by field, and rare
//! evidence.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::sparse::SparseValue;
use crate::decode::{Encapsulation, ErrorKind, flag};
use crate::model::{
    BLOCK_OVERHEAD, BoundedSet, FlagSet, Max, Merge, Min, Nanos, NumberRange, SECOND, Sum,
    is_capture_time,
};

/// Packets and bytes. These are sums for reports and do not affect rulings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
pub struct Amount {
    /// Number of packets.
    pub packets: Sum,
    /// Bytes on the wire.
    pub bytes: Sum,
    /// Transport payload in bytes.
    pub payload: Sum,
}

impl Amount {
    /// Subtracts duplicates. Returns the number of packets removed.
    pub(super) fn subtract(&mut self, duplicates: &Self) -> u64 {
        let before = self.packets.0;
        self.packets.0 = self.packets.0.saturating_sub(duplicates.packets.0);
        self.bytes.0 = self.bytes.0.saturating_sub(duplicates.bytes.0);
        self.payload.0 = self.payload.0.saturating_sub(duplicates.payload.0);
        before - self.packets.0
    }
}

impl Merge for Amount {
    fn merge(&mut self, other: &Self) {
        self.packets.merge(&other.packets);
        self.bytes.merge(&other.bytes);
        self.payload.merge(&other.payload);
    }
}

/// The initial sequence numbers of a TCP connection (RFC 9293, 3.5), from a SYN or a SYN-ACK. They
/// are ordered by the client's number, which both segments contain.
///
/// A side that sends requests over another protocol than TCP has the times of its requests in the
/// same place. They are ordered from the latest to the earliest, so that the latest are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
pub struct Opening {
    /// The client's initial sequence number: the sequence number of the SYN, or the acknowledgement
    /// number of the SYN-ACK minus one.
    pub number: u32,
    /// For a SYN, the length of its payload in bytes (RFC 7413). For a SYN-ACK, the server's
    /// initial sequence number.
    pub other: u32,
}

impl Opening {
    /// Returns the initial sequence numbers of a segment with these flags, at least one of which
    /// must be in [`flag::OPENS`].
    pub(super) fn of(flags: u16, payload: u32, seq: u32, acked: Option<u32>) -> Self {
        match OpeningKind::of(flags) {
            OpeningKind::Syn => Self { number: seq, other: payload },
            OpeningKind::SynAck => {
                Self { number: acked.unwrap_or_default().wrapping_sub(1), other: seq }
            }
        }
    }

    /// Returns the entry for a request that is not sent over TCP; `None` if its time is not known.
    /// Requests in the same second have the same entry, so that copies and fragments of a request
    /// do not count.
    pub(super) fn of_request(time: Nanos) -> Option<Self> {
        let second = u32::try_from(time / SECOND).ok().filter(|second| *second < u32::MAX)?;
        is_capture_time(time).then_some(Self { number: !second, other: 0 })
    }

    /// Returns the second of a request that is not sent over TCP, as the time of its start.
    pub(super) fn request_time(self) -> Nanos {
        Nanos::from(!self.number) * SECOND
    }

    /// Returns whether a SYN-ACK answers this SYN: it acknowledges the SYN and possibly some of its
    /// payload.
    pub fn is_answered_by(&self, answer: &Self) -> bool {
        answer.number.wrapping_sub(self.number) <= self.other
    }
}

/// The kind of segment that an initial sequence number comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OpeningKind {
    /// A SYN, or a segment whose flags are hidden by fragmentation.
    Syn,
    /// A SYN-ACK.
    SynAck,
}

impl OpeningKind {
    /// Returns the kind of a segment with these flags. For the flags of a side, the result is valid
    /// only if the side has a single initial sequence number.
    #[inline]
    pub fn of(flags: u16) -> Self {
        if flags & flag::SYN_ACK != 0 { Self::SynAck } else { Self::Syn }
    }

    /// Returns the flags of segments of this kind.
    pub fn flags(self) -> u16 {
        match self {
            Self::Syn => flag::SYN | flag::HIDDEN,
            Self::SynAck => flag::SYN_ACK,
        }
    }
}

/// The initial sequence numbers of a side that has several. Those from SYNs and those from SYN-ACKs
/// are kept separately: of each kind, the four with the lowest client number.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Openings {
    syns: BoundedSet<Opening, 4>,
    syn_acks: BoundedSet<Opening, 4>,
}

impl Openings {
    /// Records the initial sequence numbers of a segment.
    pub(super) fn insert(&mut self, kind: OpeningKind, opening: Opening) {
        self.of_kind_mut(kind).insert(opening);
    }

    /// Merges initial sequence numbers of one kind from another set.
    pub(super) fn merge_kind(&mut self, kind: OpeningKind, others: &BoundedSet<Opening, 4>) {
        self.of_kind_mut(kind).merge(others);
    }

    /// Returns the initial sequence numbers of one kind.
    pub(super) fn of_kind(&self, kind: OpeningKind) -> &BoundedSet<Opening, 4> {
        match kind {
            OpeningKind::Syn => &self.syns,
            OpeningKind::SynAck => &self.syn_acks,
        }
    }

    /// Returns the most memory, in bytes, that the numbers take in addition to their own size.
    fn heap(&self) -> usize {
        self.syns.heap() + self.syn_acks.heap()
    }

    fn of_kind_mut(&mut self, kind: OpeningKind) -> &mut BoundedSet<Opening, 4> {
        match kind {
            OpeningKind::Syn => &mut self.syns,
            OpeningKind::SynAck => &mut self.syn_acks,
        }
    }
}

impl Merge for Openings {
    fn merge(&mut self, other: &Self) {
        self.syns.merge(&other.syns);
        self.syn_acks.merge(&other.syn_acks);
    }
}

/// What one side of a flow sent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct DirectionStats {
    /// Packets and bytes sent.
    pub sent: Amount,
    /// Time of the earliest packet.
    pub first: Min,
    /// Time of the latest packet.
    pub last: Max,
    /// The only `Opening` of the side. See [`super::Flow::syns`] and [`super::Flow::requests`].
    pub(super) opening: Opening,
    /// The range of the sequence numbers that the side acknowledged.
    pub acked: NumberRange,
    /// SYNs sent, including retransmissions and duplicates.
    pub syns: Sum<u32>,
    /// The kinds of packets sent. See [`flag`].
    pub flags: FlagSet,
    /// The number of the encapsulation of the side's packets, or one of the special numbers of the
    /// interner. It is valid only in the table that contains this side.
    pub(super) link: u16,
}

impl DirectionStats {
    /// Records one packet, except for its sequence and acknowledgement numbers and its
    /// encapsulation.
    pub(super) fn see(&mut self, time: Nanos, wire_len: u32, payload: u32, flags: u16) {
        self.sent.packets.add(1);
        self.sent.bytes.add(u64::from(wire_len));
        self.sent.payload.add(u64::from(payload));
        self.first.see(time);
        self.last.see(time);
        self.flags.0 |= flags;
        if flags & flag::SYN != 0 {
            self.syns.add(1);
        }
    }

    /// Returns whether any packet from this side was seen.
    pub fn has_packets(&self) -> bool {
        self.sent.packets.0 > 0
    }

    /// Returns whether any of the `flags` was seen.
    pub fn has(&self, flags: u16) -> bool {
        self.flags.has(flags)
    }

    /// Returns the `Opening` of this side if it has exactly one.
    pub(super) fn single_opening(&self) -> Option<Opening> {
        single_opening(self.flags, self.opening)
    }
}

/// Returns the `Opening` of a side with these flags if it has exactly one.
pub(super) fn single_opening(flags: FlagSet, opening: Opening) -> Option<Opening> {
    // Earlier versions did not record the times of requests.
    let has_any = flags.has(flag::OPENS) || flags.has(flag::ASKS) && opening != Opening::default();
    (has_any && !flags.has(flag::SEVERAL)).then_some(opening)
}

/// Merges everything except the initial sequence numbers and `link`, which only the table can merge
/// because several values need rare evidence.
impl Merge for DirectionStats {
    fn merge(&mut self, other: &Self) {
        self.sent.merge(&other.sent);
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        self.acked.merge(&other.acked);
        self.syns.merge(&other.syns);
        self.flags.merge(&other.flags);
    }
}

/// The state of a flow: what each side sent. Evidence that only a few flows have is in
/// [`RareEvidence`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct FlowState {
    /// The sides, in the order of the key's endpoints.
    pub sides: [DirectionStats; 2],
}

/// An ICMP error about a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct IcmpError {
    /// The side that sent the quoted packet.
    pub side: u8,
    /// What the error reports.
    pub kind: ErrorKind,
    /// The sender of the error: the host itself, a router or a firewall.
    pub by: IpAddr,
}

/// What is kept of the packets that are quoted in ICMP errors with the same side, kind and sender.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct QuotedPackets {
    /// The TCP sequence numbers of the quoted packets. If there are more than four, the lowest are
    /// kept.
    pub seqs: BoundedSet<u32, 4>,
    /// Whether at least one of the quoted packets is a reply.
    pub answers: bool,
}

impl Merge for QuotedPackets {
    fn merge(&mut self, other: &Self) {
        self.seqs.merge(&other.seqs);
        self.answers |= other.answers;
    }
}

/// ICMP errors that quote a flow, grouped by side, kind and sender. All groups of the ends of the
/// flow are kept, and the lowest groups of other senders, so that neither many errors from one
/// sender nor many senders displace the errors of an end.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct IcmpErrors(BTreeMap<IcmpError, QuotedPackets>);

impl IcmpErrors {
    /// The maximum number of groups from senders that are not ends of the flow.
    const MOST: usize = 16;

    /// Records an error about a flow between `ends`, and the packets that it quotes. If there are
    /// too many groups, drops the highest that is not from an end.
    pub fn insert(&mut self, ends: [IpAddr; 2], error: IcmpError, quotes: &QuotedPackets) {
        self.0.entry(error).or_default().merge(quotes);
        if self.0.len() > Self::MOST && self.others(ends).count() > Self::MOST {
            let highest = self.others(ends).next_back().copied();
            highest.and_then(|highest| self.0.remove(&highest));
        }
    }

    /// Merges errors about a flow between `ends`.
    pub(super) fn merge(&mut self, ends: [IpAddr; 2], other: &Self) {
        other.0.iter().for_each(|(error, quotes)| self.insert(ends, *error, quotes));
    }

    /// Returns the most memory, in bytes, that the errors take in addition to their own size.
    fn heap(&self) -> usize {
        // A node of the map has room for eleven entries and, unless it is a leaf, for twelve
        // pointers. All but the root have at least five entries.
        const NODE: usize = 11 * size_of::<(IcmpError, QuotedPackets)>() + 14 * size_of::<usize>();
        let nodes = self.0.len().div_ceil(5);
        let seqs = self.0.values().map(|quotes| quotes.seqs.heap());
        nodes * (NODE + BLOCK_OVERHEAD) + seqs.sum::<usize>()
    }

    /// Returns the groups that are not from an end of the flow.
    fn others(&self, ends: [IpAddr; 2]) -> impl DoubleEndedIterator<Item = &IcmpError> {
        self.0.keys().filter(move |error| !ends.contains(&error.by))
    }

    /// Returns the errors in order, each with the packets that it quotes.
    pub fn iter(&self) -> impl Iterator<Item = (&IcmpError, &QuotedPackets)> {
        self.0.iter()
    }

    /// Returns whether there are no errors.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether at most [`Self::MOST`] groups are from senders that are not `ends` of the
    /// flow, and each group has a canonical set of sequence numbers. Errors that were read from a
    /// file may violate this.
    pub(super) fn is_canonical(&self, ends: [IpAddr; 2]) -> bool {
        self.others(ends).count() <= Self::MOST
            && self.0.values().all(|quotes| quotes.seqs.is_canonical())
    }
}

/// Evidence that only a few flows have.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct RareEvidence {
    /// The encapsulations of each side's packets, if there are several.
    pub(super) links: [BoundedSet<Encapsulation, 16>; 2],
    /// The initial sequence numbers of each side, if there are several.
    pub(super) openings: [Openings; 2],
    /// The ICMP errors that quote the flow.
    pub errors: IcmpErrors,
    /// Time of the earliest ICMP error.
    pub error_first: Min,
    /// Time of the latest ICMP error.
    pub error_last: Max,
    /// The number of ICMP errors.
    pub error_count: Sum,
    /// The number of flows that were merged into this one when memory was short.
    #[serde(rename = "folded")]
    pub aggregated: Sum,
}

impl RareEvidence {
    pub(super) fn swap_sides(&mut self) {
        self.links.swap(0, 1);
        self.openings.swap(0, 1);
        let errors = std::mem::take(&mut self.errors.0).into_iter();
        self.errors.0 = errors
            .map(|(error, quotes)| (IcmpError { side: error.side ^ 1, ..error }, quotes))
            .collect();
    }

    /// Merges the rare evidence of another part of the flow, which is between `ends`.
    pub(super) fn merge(&mut self, ends: [IpAddr; 2], other: &Self) {
        for (mine, theirs) in self.links.iter_mut().zip(&other.links) {
            mine.merge(theirs);
        }
        for (mine, theirs) in self.openings.iter_mut().zip(&other.openings) {
            mine.merge(theirs);
        }
        self.errors.merge(ends, &other.errors);
        self.error_first.merge(&other.error_first);
        self.error_last.merge(&other.error_last);
        self.error_count.merge(&other.error_count);
        self.aggregated.merge(&other.aggregated);
    }
}

impl SparseValue for RareEvidence {
    fn heap(&self) -> usize {
        self.links.iter().map(BoundedSet::heap).sum::<usize>()
            + self.openings.iter().map(Openings::heap).sum::<usize>()
            + self.errors.heap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syn_ack_answers_the_syn_whose_number_it_acknowledges() {
        let syn = |seq, payload| Opening::of(flag::SYN, payload, seq, None);
        let answer = |acked| Opening::of(flag::SYN_ACK, 0, 77, Some(acked));
        assert!(syn(5, 0).is_answered_by(&answer(6)));
        assert!(!syn(5, 0).is_answered_by(&answer(5)) && !syn(5, 0).is_answered_by(&answer(7)));
        // Sequence numbers wrap around at zero.
        assert!(syn(u32::MAX, 0).is_answered_by(&answer(0)));
        // With TCP Fast Open, some of the payload may be acknowledged.
        assert!(syn(5, 10).is_answered_by(&answer(6)) && syn(5, 10).is_answered_by(&answer(16)));
        assert!(!syn(5, 10).is_answered_by(&answer(17)));
    }

    #[test]
    fn both_sides_keep_the_same_numbers() {
        let mut syns = Openings::default();
        let mut answers = Openings::default();
        for number in [9, 3, 7, 1, 5, 8] {
            syns.insert(OpeningKind::Syn, Opening { number, other: 0 });
            answers.insert(OpeningKind::SynAck, Opening { number, other: 100 - number });
        }
        let numbers =
            |kept: &BoundedSet<Opening, 4>| kept.iter().map(|o| o.number).collect::<Vec<_>>();
        assert_eq!(numbers(&syns.syns), [1, 3, 5, 7]);
        assert_eq!(numbers(&syns.syns), numbers(&answers.syn_acks));
        assert!(syns.syns.more() && answers.syn_acks.more());
    }

    #[test]
    fn the_latest_requests_are_kept_and_a_copy_is_none() {
        let mut requests = Openings::default();
        for time in [9, 3, 70, 1, 70, 50, 8].map(|second| second * SECOND + 5) {
            requests.insert(OpeningKind::Syn, Opening::of_request(time).unwrap());
        }
        let times: Vec<Nanos> = requests.syns.iter().map(|o| o.request_time() / SECOND).collect();
        assert_eq!(times, [70, 50, 9, 8]);
        for unknown in [0, crate::model::NO_TIME, Nanos::MAX] {
            assert_eq!(Opening::of_request(unknown), None);
        }
    }

    #[test]
    fn errors_of_one_sender_displace_no_other() {
        let by = |last: u8| IpAddr::from([10, 0, 0, last]);
        let error = |by| IcmpError { side: 0, kind: ErrorKind::Prohibited, by };
        let ends = [by(200), by(201)];
        let mut errors = IcmpErrors::default();
        errors.insert(ends, error(by(9)), &QuotedPackets::default());
        for seq in 0..100 {
            let mut quotes = QuotedPackets::default();
            quotes.seqs.insert(seq);
            errors.insert(ends, error(by(1)), &quotes);
        }
        assert_eq!(errors.iter().map(|(e, _)| e.by).collect::<Vec<_>>(), [by(1), by(9)]);
        // Many senders do not displace an end of the flow.
        errors.insert(ends, error(by(201)), &QuotedPackets::default());
        (2..90).for_each(|last| errors.insert(ends, error(by(last)), &QuotedPackets::default()));
        let kept: Vec<IpAddr> = errors.iter().map(|(e, _)| e.by).collect();
        assert_eq!(kept, (1..=16).chain([201]).map(by).collect::<Vec<_>>());
        assert!(errors.is_canonical(ends) && !errors.is_canonical([by(200); 2]));
    }
}
