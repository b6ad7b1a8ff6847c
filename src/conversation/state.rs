//! How far a flow came.

use super::Survey;
use super::direction::Reading;
use crate::flow::{ErrorKind, Flow, Side, sign};
use crate::model::{Max, Min, SECOND, Transport, words};

words!(
    /// How far a flow or conversation came. The best state comes first: proof of success, then proof of
    /// failure, then silence.
    State {
        /// SYN, SYN-ACK and the client's bare ACK or data; UDP answered.
        Established = "established",
        /// Both sides speak, no handshake seen.
        Midstream = "midstream",
        /// The unicast answer to a broadcast.
        AnswerOnly = "answer-only",
        /// SYN-ACK, nothing after it from the client but RST or silence.
        HalfOpen = "half-open",
        /// RST answering a SYN, or ICMP port unreachable.
        Refused = "refused",
        /// ICMP administratively prohibited or host unreachable.
        Rejected = "rejected",
        /// SYN or request, no reply.
        Unanswered = "unanswered",
        /// UDP or another protocol that asks for no reply: heartbeats, broadcasts, VRRP.
        OneWay = "one-way",
        /// The span carries only this direction: nothing may be claimed.
        OneSided = "one-sided",
    }
);

impl State {
    /// Whether the service was reached.
    pub fn reached(self) -> bool {
        matches!(self, Self::Established | Self::Midstream)
    }

    /// Whether the capture shows that the attempt failed.
    pub fn failed(self) -> bool {
        matches!(self, Self::HalfOpen | Self::Refused | Self::Rejected | Self::Unanswered)
    }
}

/// What a state rests on, in the packets of one flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Basis {
    /// All of a three-way handshake.
    Handshake,
    /// A handshake without its SYN.
    Accepted,
    /// Packets of both sides.
    BothSpoke,
    /// Packets of both sides, of a connection whose opening is not in the capture.
    BothWays,
    /// The answer to a broadcast.
    BroadcastAnswer,
    /// A SYN-ACK, and the client's RST.
    ResetByClient,
    /// A SYN-ACK, and a silent client.
    SilentClient,
    /// An RST of the server, answering a SYN.
    ResetByServer,
    /// ICMP port unreachable from the server.
    PortUnreachable,
    /// An ICMP error from something on the way, or of a filter.
    IcmpError,
    /// Attempts, and a silent server that the capture could have shown.
    SilentServer,
    /// Datagrams that ask for no answer.
    NoAnswerWanted,
    /// One direction, where nothing shows that the other would be visible.
    OneDirection,
    /// Packets both ways that show neither an opening nor an answer to one.
    Unclear,
}

impl Basis {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Handshake => {
                "SYN of the client, SYN-ACK of the server, ACK or data of the client, and its last packet after the SYN-ACK"
            }
            Self::Accepted => {
                "SYN-ACK of the server, ACK or data of the client, and its last packet after the SYN-ACK; its SYN is not in the capture"
            }
            Self::BothSpoke => "both sides spoke",
            Self::BothWays => "packets both ways, and no handshake in the capture",
            Self::BroadcastAnswer => "the answer to a broadcast that the capture shows",
            Self::ResetByClient => "SYN-ACK of the server, and RST of the client",
            Self::SilentClient => {
                "SYN-ACK of the server, and nothing of the client that answers it"
            }
            Self::ResetByServer => "RST of the server, answering a SYN",
            Self::PortUnreachable => "ICMP port or protocol unreachable from the server itself",
            Self::IcmpError => {
                "an ICMP error from something on the way, or from a filter of the server"
            }
            Self::SilentServer => {
                "asked and not answered, while the capture shows what the server, or others, send to this side"
            }
            Self::NoAnswerWanted => {
                "datagrams, of which the protocol does not tell that they ask for an answer"
            }
            Self::OneDirection => {
                "one direction, and too little to say that the other would have shown: coverage, time or a filter"
            }
            Self::Unclear => "packets both ways that show no opening with its answer",
        }
    }
}

/// What the state of a flow rests on.
pub(super) fn basis(flow: &Flow<'_>, reading: &Reading, state: State) -> Basis {
    let (client, server) = (&flow.sides[reading.client], &flow.sides[1 - reading.client]);
    let tcp = flow.key.transport() == Transport::TCP;
    match state {
        State::Established if !tcp => Basis::BothSpoke,
        State::Established if client.has(sign::SYN) => Basis::Handshake,
        State::Established => Basis::Accepted,
        State::Midstream => Basis::BothWays,
        State::AnswerOnly => Basis::BroadcastAnswer,
        State::HalfOpen if client.has(sign::RST) => Basis::ResetByClient,
        State::HalfOpen => Basis::SilentClient,
        State::Refused if tcp && server.has(sign::RST) => Basis::ResetByServer,
        State::Refused => Basis::PortUnreachable,
        State::Rejected => Basis::IcmpError,
        State::Unanswered => Basis::SilentServer,
        State::OneWay => Basis::NoAnswerWanted,
        State::OneSided if client.spoke() && server.spoke() => Basis::Unclear,
        State::OneSided => Basis::OneDirection,
    }
}

/// The state of a flow in a reading.
pub(super) fn of(flow: &Flow<'_>, reading: &Reading, survey: &Survey) -> State {
    let (c, s) = (reading.client, 1 - reading.client);
    let (client, server) = (&flow.sides[c], &flow.sides[s]);
    let (client_addr, server_addr) = (flow.key.endpoint(c).addr, flow.key.endpoint(s).addr);
    if reading.broadcast {
        return State::OneWay;
    }
    let errors = flow.extra.into_iter().flat_map(|extra| extra.errors.iter());
    let by_icmp = errors.filter(|e| usize::from(e.side) == c).filter_map(|e| match e.kind {
        // Nobody but the server can refuse; others who say so are filters.
        ErrorKind::PortUnreachable if e.by == server_addr => Some(State::Refused),
        ErrorKind::PortUnreachable | ErrorKind::Prohibited | ErrorKind::HostUnreachable => {
            Some(State::Rejected)
        }
        ErrorKind::Other => None,
    });
    let by_icmp = by_icmp.min();
    if flow.key.transport() == Transport::TCP {
        return tcp(client, server, by_icmp, |silent_is_server| {
            if silent_is_server {
                survey.could_see(server_addr, client_addr, client.syn())
            } else {
                survey.could_see(client_addr, server_addr, server.syn_ack())
            }
        });
    }
    if reading.answers_broadcast && !client.spoke() {
        return State::AnswerOnly;
    }
    if client.spoke() && server.spoke() {
        return State::Established;
    }
    if let Some(state) = by_icmp {
        return state;
    }
    if !survey.could_see(server_addr, client_addr, client.first) || !client.spoke() {
        return State::OneSided;
    }
    if asks(flow, client, c) { State::Unanswered } else { State::OneWay }
}

fn tcp(client: &Side, server: &Side, by_icmp: Option<State>, sees: impl Fn(bool) -> bool) -> State {
    if server.has(sign::SYN_ACK) {
        // What the client acknowledged before belongs to an earlier connection of these ports.
        if client.has(sign::ACK | sign::DATA) && follows(client.last, server.syn_ack()) {
            return State::Established;
        }
        // A SYN-ACK alone may be anybody's.
        return if client.spoke() && sees(false) { State::HalfOpen } else { State::OneSided };
    }
    let speaks = client.has(sign::ACK | sign::DATA);
    let answers = server.has(sign::ACK | sign::DATA);
    if speaks && answers {
        return State::Midstream;
    }
    // A client that acknowledges has had an answer, whether we saw it or not.
    if speaks || !client.has(sign::SYN) {
        return by_icmp.filter(|_| !speaks && !server.spoke()).unwrap_or(State::OneSided);
    }
    if server.has(sign::RST) && !answers && follows(server.last, client.syn()) {
        return State::Refused;
    }
    if let Some(state) = by_icmp.filter(|_| !server.spoke()) {
        return state;
    }
    if !server.spoke() && sees(true) {
        return State::Unanswered;
    }
    State::OneSided
}

/// Whether the latest packet of a side may follow something of the other's. Clocks of two interfaces differ, by
/// less than a second.
fn follows(last: Max, first: Min) -> bool {
    match (last.get(), first.get()) {
        (Some(last), Some(first)) => last.saturating_add(SECOND) >= first,
        _ => true,
    }
}

/// Whether the client's packets ask for a reply, by the protocol's own word.
fn asks(flow: &Flow<'_>, client: &Side, c: usize) -> bool {
    let transport = flow.key.transport();
    let icmp_request =
        transport.is_icmp() && crate::flow::icmp_paired(transport, flow.key.endpoint(c).port as u8);
    client.has(sign::DNS_QUERY) || icmp_request
}

/// Independent chances to see the missing answer of a failed flow: one, and one more each time the
/// attempt was repeated later, assuming that repetitions back off by doubling from one second.
///
/// Uses the times of the earliest and the latest packet alone, so that a frame seen twice is no
/// second chance.
pub(super) fn chances(flow: &Flow<'_>, reading: &Reading, state: State) -> u64 {
    let (from, to) = match state {
        State::Unanswered => {
            let client = &flow.sides[reading.client];
            (client.first, client.last)
        }
        State::HalfOpen => {
            let server = &flow.sides[1 - reading.client];
            (server.syn_ack(), server.last)
        }
        _ => return 1,
    };
    let (Some(from), Some(to)) = (from.get(), to.get()) else {
        return 1;
    };
    // A first repetition comes after one second, give or take what stacks and stamps allow.
    let seconds = to.saturating_sub(from).max(0).saturating_add(SECOND / 5) / SECOND;
    1 + u64::from((seconds as u64 + 1).ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(signs: u16) -> Side {
        let mut side = Side::default();
        if signs != 0 {
            side.sent.packets.add(1);
        }
        side.signs.0 = signs;
        side
    }

    #[test]
    fn tcp_states_rest_on_what_each_side_sent() {
        use sign::{ACK, DATA, RST, SYN, SYN_ACK};
        let cases = [
            (SYN | ACK, SYN_ACK | ACK, true, State::Established),
            (SYN | ACK, SYN_ACK, true, State::Established),
            (SYN, SYN_ACK, true, State::HalfOpen),
            (SYN | RST, SYN_ACK, true, State::HalfOpen),
            // A SYN-ACK to somebody who was not seen asking is anybody's.
            (0, SYN_ACK, true, State::OneSided),
            (0, SYN_ACK, false, State::OneSided),
            (ACK | DATA, ACK | DATA, false, State::Midstream),
            (ACK, ACK, false, State::Midstream),
            (SYN, RST, true, State::Refused),
            // An ACK scan is refused nothing and reaches nothing.
            (ACK, RST, true, State::OneSided),
            (SYN, 0, true, State::Unanswered),
            (SYN, 0, false, State::OneSided),
            (ACK | DATA, 0, true, State::OneSided),
            // The client's acknowledgement proves an answer that the capture lacks.
            (SYN | ACK | DATA, 0, true, State::OneSided),
            (SYN | ACK | DATA, RST, true, State::OneSided),
        ];
        for (client, server, sees, expected) in cases {
            let state = tcp(&side(client), &side(server), None, |_| sees);
            assert_eq!(state, expected, "{client:#b} {server:#b} {sees}");
        }
    }

    #[test]
    fn what_came_long_before_answers_nothing() {
        use sign::{ACK, RST, SYN, SYN_ACK};
        let at = |signs, first: i64, last: i64| {
            let mut seen = side(signs);
            seen.first.see(first * SECOND);
            seen.last.see(last * SECOND);
            if signs & (SYN | SYN_ACK) != 0 {
                seen.opened.see(last * SECOND);
            }
            seen
        };
        let state = |client: Side, server: Side| tcp(&client, &server, None, |_| true);
        // An ACK of an earlier connection, then a SYN whose answer nobody took up.
        assert_eq!(state(at(SYN | ACK, 0, 10), at(SYN_ACK, 20, 20)), State::HalfOpen);
        assert_eq!(state(at(SYN | ACK, 0, 20), at(SYN_ACK, 20, 20)), State::Established);
        // A reset of an earlier connection refuses nothing.
        assert_eq!(state(at(SYN, 10, 10), at(RST, 0, 0)), State::OneSided);
        assert_eq!(state(at(SYN, 10, 10), at(RST, 10, 10)), State::Refused);
    }

    #[test]
    fn proof_of_success_outweighs_proof_of_failure_and_that_outweighs_silence() {
        assert!(State::Established < State::Midstream);
        assert!(State::Refused < State::OneWay);
        assert!(State::Unanswered < State::OneSided);
    }
}
