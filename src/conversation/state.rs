//! How far a flow got, and the evidence for it.

use std::collections::BTreeSet;

use super::direction::Orientation;
use super::flow_facts::{
    TIME_TO_ANSWER, acknowledges_data, acknowledges_opening, errors, is_simultaneous,
    time_to_answer,
};
use super::{CaptureIndex, FailedFlows, TimeSpan};
use crate::flow::{DirectionStats, ErrorKind, Flow, IcmpError, flag};
use crate::model::{Mac, Min, Nanos, SECOND, Transport, named_enum};

named_enum!(
    /// How far a flow or conversation got, best state first: proof of success, then proof of
    /// failure, then missing replies.
    State {
        /// TCP: a SYN-ACK and the client's acknowledgement of it, data from both sides, or a SYN
        /// and data from the server; or a simultaneous open. Other protocols: both sides sent
        /// packets.
        Established = "established",
        /// Both sides send, but no handshake was seen.
        Midstream = "midstream",
        /// The unicast reply to a broadcast or multicast packet.
        AnswerOnly = "answer-only",
        /// A SYN-ACK, followed by only an RST from the client or by no packet from it.
        HalfOpen = "half-open",
        /// An RST from the server that answers a SYN, or ICMP port unreachable from the server
        /// about a packet of another protocol than TCP.
        Refused = "refused",
        /// ICMP administratively prohibited or host unreachable, ICMP port unreachable from a
        /// device other than the server or about a SYN, or RSTs that come from a device on the path
        /// or do not acknowledge the SYN.
        Rejected = "rejected",
        /// A bare ACK that does not acknowledge the SYN (RFC 5961, 4): the server still holds an
        /// older connection.
        Challenged = "challenged",
        /// A SYN or request without a reply.
        Unanswered = "unanswered",
        /// Packets that expect no reply, of UDP or another protocol: heartbeats, broadcasts, VRRP.
        OneWay = "one-way",
        /// The capture shows only one direction, or too little of both, so it proves neither
        /// success nor failure.
        OneSided = "one-sided",
    }
);

impl State {
    /// Returns whether the service was reached.
    pub fn reached(self) -> bool {
        matches!(self, Self::Established | Self::Midstream)
    }

    /// Returns whether the capture shows that the attempt failed.
    pub fn failed(self) -> bool {
        matches!(
            self,
            Self::HalfOpen | Self::Refused | Self::Rejected | Self::Challenged | Self::Unanswered
        )
    }
}

/// The evidence that determines the state of a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum StateEvidence {
    /// A SYN, a SYN-ACK, and the client's acknowledgement of it or data from the server.
    Handshake,
    /// A handshake without its SYN.
    Accepted,
    /// A simultaneous open by both sides.
    Simultaneous,
    /// Both sides sent packets. The flow is not TCP, so there is no handshake to see.
    BothSpoke,
    /// Packets from both sides of a TCP connection whose handshake is not in the capture.
    BothWays,
    /// The unicast reply to a broadcast or multicast packet.
    BroadcastAnswer,
    /// A SYN-ACK, and the client's RST right after it.
    Probe,
    /// A SYN-ACK, and the client's RST much later, or after the client had waited too long.
    ResetByClient,
    /// A SYN-ACK, and no reply from the client.
    SilentClient,
    /// An RST from the server that answers a SYN.
    ResetByServer,
    /// ICMP port unreachable from the server.
    PortUnreachable,
    /// An RST that answers a SYN but comes from a device other than the server.
    ResetOnTheWay,
    /// RSTs from the server's address, none of which acknowledges a SYN.
    UnrelatedReset,
    /// An ICMP error from a device on the path, or from a filter.
    IcmpError,
    /// A bare ACK that does not acknowledge the SYN.
    ChallengeAck,
    /// Requests without a reply from the server, although the capture could have shown one.
    SilentServer,
    /// Datagrams that expect no reply.
    NoAnswerWanted,
    /// Packets in one direction, without evidence that the capture could show the other direction.
    OneDirection,
    /// Packets in both directions that do not show a connection attempt together with its outcome.
    Unclear,
}

impl StateEvidence {
    /// Returns the description used in reports.
    pub fn words(self) -> &'static str {
        match self {
            Self::Handshake => {
                "the client sent a SYN, the server sent a SYN-ACK, and the client acknowledged it or the server sent data"
            }
            Self::Accepted => {
                "the server sent a SYN-ACK, and the client acknowledged it or both sides sent data; the client's SYN is not in the capture"
            }
            Self::Simultaneous => {
                "each side sent a SYN and then a SYN-ACK with the same sequence number (simultaneous open)"
            }
            Self::BothSpoke => "both sides sent packets",
            Self::BothWays => "both sides sent packets, but the capture contains no handshake",
            Self::BroadcastAnswer => {
                "the client sent a broadcast or multicast that the capture contains, and the server replied to it"
            }
            Self::Probe => {
                "the server sent a SYN-ACK, and the client sent an RST within 3 s: it only probed whether the port is open"
            }
            Self::ResetByClient => {
                "the server sent a SYN-ACK, and the client sent an RST more than 3 s later, or the SYN-ACK came more than 3 s after the first SYN"
            }
            Self::SilentClient => "the server sent a SYN-ACK, and the client never replied to it",
            Self::ResetByServer => "the server answered a SYN with an RST",
            Self::ResetOnTheWay => {
                "an RST answered a SYN, but it came from another device, probably a firewall: its hop count differs from that of every other packet from the server in frames with the same source MAC address"
            }
            Self::UnrelatedReset => {
                "the server's address sent RSTs that do not acknowledge the SYN: they come from another device or belong to an older connection"
            }
            Self::ChallengeAck => {
                "the server sent an ACK that does not acknowledge the SYN, and no SYN-ACK: the server still has an older connection on the same ports (RFC 5961)"
            }
            Self::PortUnreachable => {
                "the server itself sent an ICMP error: port or protocol unreachable"
            }
            Self::IcmpError => {
                "an ICMP error came from a device on the path, or from a filter on the server"
            }
            Self::SilentServer => {
                "the server did not reply, although the capture shows other packets from it, or packets from other hosts to the client"
            }
            Self::NoAnswerWanted => {
                "the client sent broadcasts, or datagrams of a protocol that is not known to require a reply"
            }
            Self::OneDirection => {
                "only one direction was seen; the capture may lack the other because of its coverage, its duration or a filter"
            }
            Self::Unclear => {
                "both sides sent packets, but the capture does not show a connection attempt together with its outcome"
            }
        }
    }
}

/// The longest time from the server's SYN-ACK to the client's RST at which the connection still
/// counts as a probe, in nanoseconds.
const MAX_PROBE: Nanos = 3 * SECOND;

/// The minimum time span of a client's attempts for them to count as repeated, in nanoseconds.
const MIN_REPEATED: Nanos = SECOND / 5;

/// Returns the state of a flow in an orientation, and the evidence for it.
pub(super) fn of(
    flow: &Flow<'_>,
    orientation: &Orientation,
    index: &CaptureIndex,
) -> (State, StateEvidence) {
    let client_side = orientation.client;
    let server_side = 1 - orientation.client;
    let client = &flow.sides[client_side];
    let server = &flow.sides[server_side];
    if orientation.broadcast {
        return (State::OneWay, StateEvidence::NoAnswerWanted);
    }
    let service = flow.key.endpoint(server_side);
    let transport = flow.key.transport();
    let about_client = errors(flow).filter(|e| usize::from(e.side) == client_side);
    let by_icmp = about_client.filter_map(|e| match e.kind {
        // Only the server itself can refuse. Any other device that sends this error is a filter,
        // and so is a server that sends it about a SYN, because a closed TCP port sends a reset
        // (RFC 9293, 3.10.7.1).
        ErrorKind::PortUnreachable if e.by == service.addr && transport != Transport::TCP => {
            Some((State::Refused, StateEvidence::PortUnreachable))
        }
        ErrorKind::PortUnreachable | ErrorKind::Prohibited | ErrorKind::HostUnreachable => {
            Some((State::Rejected, StateEvidence::IcmpError))
        }
        ErrorKind::Other | ErrorKind::TimeExceeded => None,
    });
    // A service that refused datagrams may have begun to work later, for example at the end of a
    // restart.
    let is_outdated = || {
        let refused = last_refusal(flow, client_side, index);
        refused.is_some_and(|refused| sent_long_after(client, refused))
    };
    let by_icmp = by_icmp.min().filter(|(state, _)| *state != State::Refused || !is_outdated());
    let unclear = || {
        if client.has_packets() && server.has_packets() {
            (State::OneSided, StateEvidence::Unclear)
        } else {
            (State::OneSided, StateEvidence::OneDirection)
        }
    };
    if transport == Transport::TCP {
        let could_see = |silent| match silent {
            SilentEnd::Server => index.could_see(flow, server_side, since(client, flag::SYN)),
            SilentEnd::Client => index.could_see(flow, client_side, since(server, flag::SYN_ACK)),
        };
        return of_tcp(flow, client_side, by_icmp, index, could_see).unwrap_or_else(unclear);
    }
    if orientation.answers_broadcast && !client.has_packets() {
        return (State::AnswerOnly, StateEvidence::BroadcastAnswer);
    }
    if client.has_packets() && server.has_packets() {
        return (State::Established, StateEvidence::BothSpoke);
    }
    if let Some(state) = by_icmp {
        return state;
    }
    if !client.has_packets() || !index.could_see(flow, server_side, client.first) {
        return unclear();
    }
    if asks(flow, client, client_side) {
        (State::Unanswered, StateEvidence::SilentServer)
    } else {
        (State::OneWay, StateEvidence::NoAnswerWanted)
    }
}

/// Returns whether a side sent packets long after its last refused one, although each packet to a
/// closed port triggers an error, if not too many are sent (RFC 1812, 4.3.2.8).
fn sent_long_after(side: &DirectionStats, refused: Nanos) -> bool {
    /// The time without an error after which the last error no longer counts, in nanoseconds.
    const OUTDATED: Nanos = 30 * SECOND;
    side.last.get().is_some_and(|sent| sent.saturating_sub(refused) > OUTDATED)
}

/// Returns how the last requests of an established flow failed although its service answered
/// earlier ones; `None` if they did not fail, or if the capture could not have shown the answers.
/// A flow contains several requests if its client always uses the same source port, as NTP and
/// RADIUS clients do.
pub(super) fn last_failure(
    flow: &Flow<'_>,
    orientation: &Orientation,
    index: &CaptureIndex,
) -> Option<FailedFlows> {
    let [client, server] =
        [orientation.client, 1 - orientation.client].map(|side| &flow.sides[side]);
    let answered = server.last.get();
    let refused = last_refusal(flow, orientation.client, index).filter(|refused| {
        answered.is_some_and(|answered| refused.saturating_sub(answered) > TIME_TO_ANSWER)
            && !sent_long_after(client, *refused)
    });
    if let Some(time) = refused {
        return Some(FailedFlows {
            state: State::Refused,
            basis: StateEvidence::PortUnreachable,
            chances: 1,
            opened: TimeSpan::at(time),
        });
    }
    let (opened, chances) = last_unanswered_requests(flow, orientation, index)?;
    let (state, basis) = (State::Unanswered, StateEvidence::SilentServer);
    Some(FailedFlows { state, basis, chances, opened })
}

/// Returns the time of the last ICMP error with which a server refused datagrams of a flow. Returns
/// `None` if there are other errors about the flow, because only the time of the last one of all is
/// kept, or if the times of errors and packets may come from different clocks.
fn last_refusal(flow: &Flow<'_>, client_side: usize, index: &CaptureIndex) -> Option<Nanos> {
    let extra = flow.extra?;
    let service = flow.key.endpoint(1 - client_side);
    let is_refusal = |error: &IcmpError| {
        usize::from(error.side) == client_side
            && error.kind == ErrorKind::PortUnreachable
            && error.by == service.addr
    };
    let clocks_agree = index.clock_offset().is_none() && !index.has_doubtful_clocks();
    let mut times = TimeSpan { first: extra.error_first, last: extra.error_last };
    index.doubted_times().remove_from(&mut times.first, &mut times.last);
    let may_be_last = clocks_agree
        && flow.key.transport() != Transport::TCP
        && extra.errors.iter().all(|(error, _)| is_refusal(error))
        && errors(flow).any(|error| is_refusal(&error));
    times.last.get().filter(|_| may_be_last)
}

/// Returns the times of the last requests of an established flow whose service answered earlier
/// requests, but no longer these, and at least how many requests it did not answer; `None` if there
/// are no such requests or the capture could not have shown the answers.
fn last_unanswered_requests(
    flow: &Flow<'_>,
    orientation: &Orientation,
    index: &CaptureIndex,
) -> Option<(TimeSpan, u64)> {
    let client = &flow.sides[orientation.client];
    let server = &flow.sides[1 - orientation.client];
    // In a session, not each datagram needs a reply.
    if !asks(flow, client, orientation.client) || client.has(flag::CLIENT_HELLO) {
        return None;
    }
    let (last, answered) = client.last.get().zip(server.last.get())?;
    // A request does not count if the reply may have come after the end of the capture.
    let time = time_to_answer(flow, 1 - orientation.client);
    let until = index.end().map_or(Nanos::MAX, |end| end.saturating_sub(time));
    let in_time = || flow.requests(orientation.client).skip_while(move |time| *time > until);
    let requested = if last <= until { last } else { in_time().next()? };
    let silence = requested.saturating_sub(answered);
    // The two directions may have been captured with different clocks, so their times are compared
    // only if there is no sign of that.
    if silence < TIME_TO_ANSWER || index.clock_offset().is_some() || index.has_doubtful_clocks() {
        return None;
    }
    // Only seconds with a request count, and only those that are not adjacent, so that copies and
    // fragments of a request do not count.
    let mut missing = 0;
    let mut latest = Nanos::MAX;
    for time in in_time().take_while(|time| *time > answered) {
        if latest.saturating_sub(time) > SECOND {
            (missing, latest) = (missing + 1, time);
        }
    }
    let since = TimeSpan::at(requested).first;
    // A single datagram may be lost in the network without any failure.
    (missing > 1 && index.could_see(flow, 1 - orientation.client, since)).then_some((
        TimeSpan { first: TimeSpan::at(latest).first, ..TimeSpan::at(requested) },
        missing,
    ))
}

/// Returns the time at which this side began to wait for a reply: the time of its first packet if
/// it sent only packets with `flag`, otherwise the time of its last packet.
fn since(side: &DirectionStats, flag: u16) -> Min {
    let others = flag::SYN | flag::SYN_ACK | flag::ACK | flag::DATA | flag::RST | flag::FIN;
    if !side.has(others & !flag) {
        return side.first;
    }
    side.last.get().map_or_else(Min::default, |time| TimeSpan::at(time).first)
}

/// The end of a connection from which a reply is missing.
#[derive(Clone, Copy)]
enum SilentEnd {
    Client,
    Server,
}

/// Returns how far a TCP flow got, or `None` if its packets do not show it. The order of packets
/// follows from sequence numbers; only [`is_probe`] compares timestamps.
fn of_tcp(
    flow: &Flow<'_>,
    client_side: usize,
    by_icmp: Option<(State, StateEvidence)>,
    index: &CaptureIndex,
    could_see: impl Fn(SilentEnd) -> bool,
) -> Option<(State, StateEvidence)> {
    let server_side = 1 - client_side;
    let client = &flow.sides[client_side];
    let server = &flow.sides[server_side];
    let client_continues = client.has(flag::ACK | flag::DATA);
    let server_continues = server.has(flag::ACK | flag::DATA);
    if is_simultaneous(flow) {
        return Some((State::Established, StateEvidence::Simultaneous));
    }
    if server.has(flag::SYN_ACK) {
        let both_send = client.has(flag::DATA) && server.has(flag::DATA);
        // A server sends data only after the handshake, which the capture then shows in part.
        let is_accepted = server.has(flag::DATA) && client.has(flag::SYN) && !client.has(flag::RST);
        if both_send || is_accepted || (client_continues && acknowledges_opening(flow, client_side))
        {
            let opened = client.has(flag::SYN | flag::HIDDEN);
            let basis = if opened { StateEvidence::Handshake } else { StateEvidence::Accepted };
            return Some((State::Established, basis));
        }
        // A SYN-ACK alone may be forged, so it proves nothing.
        if !client.has_packets() {
            return None;
        }
        // A reset that acknowledges data ends a connection whose other segments the capture lacks.
        if client.has(flag::RST) && acknowledges_data(flow, client_side) {
            return None;
        }
        let basis = match client.has(flag::RST) {
            // The client's RST is visible, whatever else the capture misses.
            true if is_probe([client, server], index.clock_offset(), index.copies_of(flow)) => {
                StateEvidence::Probe
            }
            true if could_see(SilentEnd::Client) => StateEvidence::ResetByClient,
            false if could_see(SilentEnd::Client) => StateEvidence::SilentClient,
            _ => return None,
        };
        return Some((State::HalfOpen, basis));
    }
    if client_continues && server_continues {
        return Some((State::Midstream, StateEvidence::BothWays));
    }
    // A client that sends acknowledgements has received a reply, whether the capture shows it or
    // not.
    if client_continues || !client.has(flag::SYN) {
        return by_icmp.filter(|_| !client_continues && !server.has_packets());
    }
    // A reply acknowledges the SYN and, with TCP Fast Open, possibly its payload.
    let acknowledged = || {
        flow.syns(client_side).any(|syn| {
            let least = syn.number.wrapping_add(1);
            server.acked.holds(least) || server.acked.holds(least.wrapping_add(syn.other))
        })
    };
    if server.has(flag::RST) && !server_continues && acknowledged() {
        return Some(if index.is_foreign_reset(flow, server_side) {
            (State::Rejected, StateEvidence::ResetOnTheWay)
        } else {
            (State::Refused, StateEvidence::ResetByServer)
        });
    }
    if let Some(state) = by_icmp.filter(|_| !server.has_packets()) {
        return Some(state);
    }
    if server.has_packets() && !server.has(flag::DATA) && !acknowledged() {
        let gave_up = client.has(flag::RST) || duration(client) >= MIN_REPEATED;
        let how = match (server.has(flag::ACK), server.has(flag::RST)) {
            (true, _) => Some((State::Challenged, StateEvidence::ChallengeAck)),
            (false, true) => Some((State::Rejected, StateEvidence::UnrelatedReset)),
            (false, false) => None,
        };
        return how.filter(|_| gave_up);
    }
    (!server.has_packets() && could_see(SilentEnd::Server))
        .then_some((State::Unanswered, StateEvidence::SilentServer))
}

/// Returns 1 if an end of a flow without a reply repeated its SYN, SYN-ACK or request, otherwise
/// -1.
pub(super) fn repetition(flow: &Flow<'_>, orientation: &Orientation, index: &CaptureIndex) -> i32 {
    if is_repeated(flow, orientation, index.copies_of(flow)) { 1 } else { -1 }
}

/// Returns whether an end of a flow repeated its SYN, SYN-ACK or request because it got no reply.
/// Copies of a packet are captured within a moment or on several links, and several connections
/// from the same port have different sequence numbers, so neither counts. `copies` is how often the
/// capture may contain a packet of the flow.
fn is_repeated(flow: &Flow<'_>, orientation: &Orientation, copies: usize) -> bool {
    /// The number of sequence numbers from which on some may not have been kept.
    const MOST_NUMBERS: usize = 4;
    let (client_side, server_side) = (orientation.client, 1 - orientation.client);
    let [client, server] = [client_side, server_side].map(|side| &flow.sides[side]);
    // A packet that a router forwarded has another hardware address and another TTL. Interfaces do
    // not count, because a single place may have several of them.
    let copies_of = |side: usize| {
        let places: BTreeSet<(Mac, u8)> =
            flow.links(side).map(|link| (link.source, link.ttl)).collect();
        places.len().max(copies) as u64
    };
    let transport = flow.key.transport();
    if transport != Transport::TCP {
        // Echo requests are sent at regular intervals, whether they are answered or not.
        return !transport.is_icmp()
            && client.sent.packets.0 > copies_of(client_side)
            && repeats_request(flow, client_side, duration(client));
    }
    // A client without a reply has nothing to acknowledge (RFC 9293, 3.10.7.3).
    let acknowledges = client.acked.least().is_some_and(|number| number > 0);
    if client.has(flag::RST) && acknowledges && !server.has_packets() {
        return false;
    }
    let repeats = |side: usize, sent: u64, numbers: usize| {
        (1..MOST_NUMBERS).contains(&numbers)
            && sent > copies_of(side) * numbers as u64
            && duration(&flow.sides[side]) >= MIN_REPEATED
    };
    let others = flag::ACK | flag::DATA | flag::FIN | flag::RST;
    let sent_only_syn_acks = server.has(flag::SYN_ACK) && !server.has(others);
    repeats(client_side, client.syns.0.into(), flow.syns(client_side).count())
        || sent_only_syn_acks
            && repeats(server_side, server.sent.packets.0, flow.syn_acks(server_side).count())
}

/// Returns whether two requests of a side that does not use TCP are so close to each other that the
/// second probably repeats the first. `duration` is the time from its first packet to its last.
/// Requests at longer intervals are independent of each other, such as those of an NTP client.
fn repeats_request(flow: &Flow<'_>, side: usize, duration: Nanos) -> bool {
    /// The longest interval between repetitions, in nanoseconds. RADIUS clients wait longest, up to
    /// about ten seconds.
    const LONGEST: Nanos = 15 * SECOND;
    let times: Vec<Nanos> = flow.requests(side).collect();
    (MIN_REPEATED..=LONGEST).contains(&duration)
        || times.windows(2).any(|pair| {
            // Copies of a request may be in adjacent seconds.
            (SECOND + 1..=LONGEST).contains(&pair[0].saturating_sub(pair[1]))
        })
}

/// Returns whether a client that only opened and reset the connection reset it immediately, within
/// [`MAX_PROBE`] of the server's SYN-ACK. The server repeats a SYN-ACK that is not acknowledged, so
/// its first packet counts. If the client tried repeatedly from one port, its last packet counts.
///
/// The client's own packets are sufficient proof if all of them were sent within [`MAX_PROBE`],
/// even if the server's packets were captured with another clock. If two links with different
/// clocks captured the client, this time looks longer by `clock_offset`.
///
/// A client that resets the connection because the SYN-ACK came too late is no probe: the server
/// did not answer before the client gave up.
fn is_probe(
    [client, server]: [&DirectionStats; 2],
    clock_offset: Option<Nanos>,
    copies: usize,
) -> bool {
    let has_repeated = u64::from(client.syns.0) > copies as u64;
    if has_repeated && is_late(client, server, clock_offset) {
        return false;
    }
    let longer = clock_offset.is_some_and(|clock_offset| {
        // The offset is accurate to about a second and rounded up.
        (clock_offset - 2 * SECOND..=clock_offset.saturating_add(MAX_PROBE))
            .contains(&duration(client))
    });
    if longer || duration(client) <= MAX_PROBE {
        return true;
    }
    let answered = match (client.has(flag::SEVERAL), clock_offset) {
        (true, _) => server.last.get(),
        (false, None) => server.first.get(),
        // The packets of the two sides may have been captured with different clocks, so their times
        // are not compared.
        (false, Some(_)) => None,
    };
    let after_answer =
        client.last.get().zip(answered).map(|(reset, time)| reset.saturating_sub(time));
    after_answer.is_some_and(|after| (0..=MAX_PROBE).contains(&after))
}

/// Returns whether the server's first packet came more than [`MAX_PROBE`] after the client's first
/// SYN. The system of a client that has given up resets the connection without acknowledging
/// anything (RFC 9293, 3.5.2).
fn is_late(client: &DirectionStats, server: &DirectionStats, clock_offset: Option<Nanos>) -> bool {
    let waited = server.first.get().zip(client.first.get());
    clock_offset.is_none()
        && client.acked.least().is_none_or(|number| number == 0)
        && !client.has(flag::SEVERAL)
        && waited.is_some_and(|(answer, syn)| answer.saturating_sub(syn) > MAX_PROBE)
}

/// Returns the time from a side's first packet to its last, in nanoseconds.
fn duration(side: &DirectionStats) -> Nanos {
    TimeSpan { first: side.first, last: side.last }.length().unwrap_or_default()
}

/// Returns whether the client's packets request a reply, as far as the protocol shows.
fn asks(flow: &Flow<'_>, client: &DirectionStats, client_side: usize) -> bool {
    let transport = flow.key.transport();
    let icmp_request = transport.is_icmp()
        && crate::flow::icmp_paired(transport, flow.key.endpoint(client_side).port as u8);
    client.has(flag::ASKS) || icmp_request
}

/// Returns the number of independent chances to see the missing reply of a flow. For the states
/// [`State::Unanswered`] and [`State::HalfOpen`], the number is one, plus one for each later
/// repetition, assuming that the interval between repetitions starts at one second and doubles each
/// time. For all other states, it is one.
///
/// Uses only the times of the earliest and the latest packet, so a frame seen twice does not count
/// as a second chance. Packets do not count if the reply may have come after `end`, the end of the
/// capture.
pub(super) fn chances(
    flow: &Flow<'_>,
    orientation: &Orientation,
    state: State,
    end: Option<Nanos>,
) -> u64 {
    let side = match state {
        State::Unanswered => &flow.sides[orientation.client],
        State::HalfOpen => &flow.sides[1 - orientation.client],
        _ => return 1,
    };
    let (Some(from), Some(to)) = (side.first.get(), side.last.get()) else {
        return 1;
    };
    let time = time_to_answer(flow, 1 - orientation.client);
    let to = end.map_or(to, |end| to.min(end.saturating_sub(time)));
    // The first repetition comes after one second, within the tolerance of network stacks and
    // timestamps.
    let seconds = to.saturating_sub(from).max(0).saturating_add(SECOND / 5) / SECOND;
    1 + u64::from((seconds as u64 + 1).ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_of_success_outweighs_proof_of_failure_and_that_outweighs_silence() {
        assert!(State::Established < State::Midstream);
        assert!(State::Refused < State::OneWay);
        assert!(State::Challenged < State::Unanswered);
        assert!(State::Unanswered < State::OneSided);
    }
}
