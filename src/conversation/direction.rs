//! Determines which side of a flow is the client, and how certain that is.

use super::capture_index::BroadcastReply;
use super::flow_facts::{broadcast_sender, errors, is_simultaneous, link_local_macs, proved};
use super::{CaptureIndex, DirectionHints};
use crate::flow::{ErrorKind, Flow, IcmpError, flag};
use crate::model::{EPHEMERAL_PORTS, Transport, named_enum};

named_enum!(
    /// The evidence for the direction of a conversation, strongest first.
    DirectionEvidence {
        /// A SYN, and a SYN-ACK from the other side that acknowledges its sequence number.
        Handshake = "handshake",
        /// A SYN-ACK without its SYN.
        SynAck = "syn-ack",
        /// A SYN from one side only, without a SYN-ACK that acknowledges it, and no packets that
        /// only a connection explains.
        Syn = "syn",
        /// The protocol shows which side is the client: an ICMP error that quotes a captured packet
        /// other than a reply, a self-identifying request or a TLS ClientHello whose receiver sent
        /// the matching reply or nothing, a broadcast or multicast destination, the unicast reply
        /// to such a packet, or the type of an ICMP request.
        Protocol = "protocol",
        /// The handshake of another flow proves that this endpoint accepts connections.
        Service = "service",
        /// Only one orientation matches a documented row.
        Matrix = "matrix",
        /// The port numbers belong to different classes, such as well-known and dynamic.
        Ports = "ports",
        /// The sender of the earliest packet is assumed to be the client, or the side whose packets
        /// may be replies is assumed to be the server.
        First = "first",
        /// No evidence.
        Unknown = "unknown",
    }
);

impl DirectionEvidence {
    /// Returns whether the direction is a guess, so the other orientation must be judged too.
    pub fn is_guess(self) -> bool {
        self == Self::SynAck || self >= Self::Service
    }
}

/// An assumption about which side of a flow is the client.
#[derive(Clone, Copy)]
pub(super) struct Orientation {
    /// The client's side of the flow: 0 or 1.
    pub client: usize,
    pub grade: DirectionEvidence,
    /// Whether the client sends to a broadcast or multicast address.
    pub broadcast: bool,
    /// Whether the server answers a broadcast from the client.
    pub answers_broadcast: bool,
    /// Whether the packets of the client may be replies to broadcasts of the server.
    pub may_answer_broadcast: bool,
}

impl Orientation {
    fn new(client: usize, grade: DirectionEvidence) -> Self {
        Self {
            client,
            grade,
            broadcast: false,
            answers_broadcast: false,
            may_answer_broadcast: false,
        }
    }

    /// Returns whether a guessed direction is not even likely enough to accuse the client: it sent
    /// nothing; the other side may have sent an unsolicited SYN-ACK; the port numbers are not those
    /// of a service and of a client, or contradict the services that the two sides have; its
    /// packets may be replies to a broadcast; only the order of the packets in the capture supports
    /// the guess; or the order contradicts it.
    ///
    /// Anyone can send from a low port, and the first packet of a connection that is older than the
    /// capture shows nothing. A host acknowledges an unexpected SYN-ACK that arrives in an open
    /// connection (RFC 5961, 4.2), so its acknowledgement shows nothing either. Without a
    /// handshake, only ports that no system assigns to clients are those of a service.
    pub(super) fn is_weak(&self, flow: &Flow<'_>) -> bool {
        let [client, server] = [self.client, 1 - self.client].map(|side| &flow.sides[side]);
        let ports = [self.client, 1 - self.client].map(|side| flow.key.endpoint(side).port);
        let [is_of_client, is_of_server] =
            [port_class(ports[0]) >= EPHEMERAL_CLASS, port_class(ports[1]) < EPHEMERAL_CLASS];
        let has_asked = client.has_packets();
        if self.may_answer_broadcast {
            return true;
        }
        let is_tcp = flow.key.transport() == Transport::TCP;
        let server_spoke_first = matches!(
            (client.first.get(), server.first.get()),
            (Some(asked), Some(answered)) if answered < asked
        );
        match self.grade {
            DirectionEvidence::Ports if is_tcp => {
                let have_both = has_asked && server.has_packets();
                !(have_both && is_of_client && is_service_port(ports[1]))
            }
            DirectionEvidence::Ports => {
                !(has_asked && is_of_client && is_of_server) || server_spoke_first
            }
            DirectionEvidence::First => {
                !has_asked || server.has_packets() || is_tcp || client_by_ports(ports) == Some(1)
            }
            DirectionEvidence::SynAck => !has_telling_ports(flow, self.client),
            DirectionEvidence::Service => !has_asked || is_tcp && client_by_ports(ports) == Some(1),
            DirectionEvidence::Unknown => true,
            _ => !has_asked,
        }
    }
}

/// Returns the orientation of a flow. If each side is proved to have initiated a connection, one
/// after the other, returns both orientations.
pub(super) fn read(
    flow: &Flow<'_>,
    index: &CaptureIndex,
    hints: &dyn DirectionHints,
) -> (Orientation, Option<Orientation>) {
    if flow.key.transport() == Transport::TCP && !is_simultaneous(flow) {
        match proved(flow) {
            [true, true] => {
                let [first, second] =
                    [0, 1].map(|client| Orientation::new(client, DirectionEvidence::Handshake));
                return (first, Some(second));
            }
            proved => {
                if let Some(client) = only(proved) {
                    return (Orientation::new(client, DirectionEvidence::Handshake), None);
                }
            }
        }
        let opened = only([0, 1].map(|side: usize| flow.sides[side].has(flag::SYN)));
        if let Some(client) = opened.filter(|client| may_begin_with_syn(flow, *client)) {
            return (Orientation::new(client, DirectionEvidence::Syn), None);
        }
    }
    (read_unproved(flow, index, hints), None)
}

/// Returns whether all packets of the other side may be replies to a SYN of this side that opened
/// no connection. A server can also send a SYN into a connection that is older than the capture,
/// with any sequence number. Such a SYN does not explain data from its receiver, or segments of a
/// connection from both sides.
fn may_begin_with_syn(flow: &Flow<'_>, client: usize) -> bool {
    let [client, server] = [client, 1 - client].map(|side: usize| &flow.sides[side]);
    let continues = flag::ACK | flag::DATA;
    !(server.has(flag::DATA) || client.has(continues) && server.has(continues))
}

/// Returns the orientation of a flow whose direction follows neither from a handshake nor from a
/// SYN from only one side.
fn read_unproved(flow: &Flow<'_>, index: &CaptureIndex, hints: &dyn DirectionHints) -> Orientation {
    let sender = broadcast_sender(flow, hints);
    if let Some(client) = sender.filter(|sender| !index.is_sent_to_host(flow, *sender)) {
        return Orientation {
            broadcast: true,
            ..Orientation::new(client, DirectionEvidence::Protocol)
        };
    }
    let reply = index.broadcast_reply(flow);
    if let Some(orientation) =
        reply.and_then(|(requester, reply)| as_broadcast_reply(flow, requester, reply))
    {
        return orientation;
    }
    Orientation { may_answer_broadcast: reply.is_some(), ..read_unicast(flow, index, hints) }
}

/// Returns the orientation of a flow that neither contains broadcasts nor begins with a reply to
/// one.
fn read_unicast(flow: &Flow<'_>, index: &CaptureIndex, hints: &dyn DirectionHints) -> Orientation {
    let transport = flow.key.transport();
    let with = |flag: u16| only([0, 1].map(|side: usize| flow.sides[side].has(flag)));
    let accepted = with(flag::SYN_ACK).filter(|_| !is_simultaneous(flow));
    // The server of a connection may be the client of TLS (RFC 4217; RFC 8071, 1.3).
    let is_opener = |client: usize| {
        accepted != Some(client) && with(flag::SYN).is_none_or(|opener| opener == client)
    };
    if let Some(client) = client_by_protocol(flow, index).filter(|client| is_opener(*client)) {
        // Anyone can send ICMP replies that nobody requested.
        let is_unsolicited = transport.is_icmp() && !flow.sides[client].has_packets();
        let grade =
            if is_unsolicited { DirectionEvidence::First } else { DirectionEvidence::Protocol };
        return Orientation::new(client, grade);
    }
    if let Some(server) = accepted {
        return Orientation::new(1 - server, DirectionEvidence::SynAck);
    }
    let ends = [flow.key.endpoint(0), flow.key.endpoint(1)];
    let ports = ends.map(|end| end.port);
    let by_ports = client_by_ports(ports).filter(|_| transport.has_ports());
    // No service listens on port 0.
    let may_serve = ports.map(|port| port != 0 || !transport.has_ports());
    let is_server = [0, 1].map(|s| may_serve[s] && index.serves(ends[s], transport));
    if let Some(server) = only(is_server) {
        return Orientation::new(1 - server, DirectionEvidence::Service);
    }
    let macs = link_local_macs(flow);
    let is_documented = [0, 1].map(|s| {
        let macs = [&macs[1 - s][..], &macs[s]];
        may_serve[s] && hints.is_documented(ends[1 - s].addr, ends[s], transport, macs)
    });
    let by_matrix = only(is_documented).map(|server| 1 - server);
    let guess = match (by_matrix, by_ports) {
        // An attacker can choose source ports. If the matrix and the ports disagree, the matrix
        // must not turn a violation into a documented flow.
        (Some(matrix), Some(ports)) if matrix != ports => Some((ports, DirectionEvidence::Ports)),
        (Some(matrix), _) => Some((matrix, DirectionEvidence::Matrix)),
        (None, Some(ports)) => Some((ports, DirectionEvidence::Ports)),
        (None, None) => None,
    };
    let is_datagram = transport.has_ports() && transport != Transport::TCP;
    let is_same_port = ports[0] == ports[1];
    // The sender of one-way datagrams is more likely to be the client, whatever its port, unless
    // the datagrams look like replies.
    let sender = only([0, 1].map(|side: usize| flow.sides[side].has_packets()));
    let sender = sender.filter(|side| {
        let answers = flow.sides[*side].has(flag::ANSWERS);
        let to_client = port_class(ports[1 - side]) >= EPHEMERAL_CLASS;
        is_datagram && !answers && !(to_client && port_class(ports[*side]) < EPHEMERAL_CLASS)
    });
    match (guess, sender) {
        (Some((client, grade)), Some(sender))
            if client != sender && (grade == DirectionEvidence::Ports || !is_same_port) =>
        {
            return Orientation::new(sender, DirectionEvidence::First);
        }
        // If the ports say nothing, the matrix must not turn a violation into a documented flow
        // either. Two equal ports are those of a service that both sides have.
        (Some((client, _)), _)
            if is_datagram
                && by_ports.is_none()
                && !is_same_port
                && first_sender(flow) == Some(1 - client) =>
        {
            return Orientation::new(1 - client, DirectionEvidence::First);
        }
        (Some((client, grade)), _) => return Orientation::new(client, grade),
        (None, _) => {}
    }
    // A reply without a visible request comes from the server.
    if let Some(server) = only([0, 1].map(|s: usize| flow.sides[s].has(flag::ANSWERS))) {
        return Orientation::new(1 - server, DirectionEvidence::First);
    }
    match first_sender(flow) {
        Some(client) => Orientation::new(client, DirectionEvidence::First),
        None => Orientation::new(1, DirectionEvidence::Unknown),
    }
}

/// Returns the side that sent the earliest packet; `None` if that is unknown.
fn first_sender(flow: &Flow<'_>) -> Option<usize> {
    match (flow.sides[0].first.get(), flow.sides[1].first.get()) {
        (Some(a), Some(b)) if a != b => Some(usize::from(b < a)),
        (Some(_), None) => Some(0),
        (None, Some(_)) => Some(1),
        _ => None,
    }
}

/// Returns the orientation of a flow whose first packet comes from the port to which its receiver
/// had sent broadcasts. If the flow need not begin with a reply, this is a guess: two hosts that
/// both use the port of the service may also send requests to each other.
fn as_broadcast_reply(
    flow: &Flow<'_>,
    requester: usize,
    reply: BroadcastReply,
) -> Option<Orientation> {
    let responder = &flow.sides[1 - requester];
    let is_from_port = reply != BroadcastReply::FromOtherPort;
    let is_proved = reply == BroadcastReply::Proved || is_from_port && responder.has(flag::ANSWERS);
    let is_request = !is_proved && responder.has(flag::ASKS);
    let grade = if is_proved { DirectionEvidence::Protocol } else { DirectionEvidence::First };
    let orientation = Orientation::new(requester, grade);
    (is_from_port && !is_request).then_some(Orientation { answers_broadcast: true, ..orientation })
}

/// Returns the index of the only true value, or `None` if both or neither are true.
fn only(facts: [bool; 2]) -> Option<usize> {
    match facts {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    }
}

/// Returns the side that the protocol itself identifies as the client.
fn client_by_protocol(flow: &Flow<'_>, index: &CaptureIndex) -> Option<usize> {
    let transport = flow.key.transport();
    let sides = &flow.sides;
    if transport.is_icmp() {
        return only([0, 1].map(|side| {
            let paired = crate::flow::icmp_paired(transport, flow.key.endpoint(side).port as u8);
            asks(flow, side) && (paired || sides[side].has_packets())
        }));
    }
    // Neither a reply alone nor a request alone is proof, because its sender may have chosen to
    // look like a server or a client. If the other side sent nothing, the sender of a request
    // accuses only itself.
    let is_client_by = |side: usize, query, answer| {
        let other = &sides[1 - side];
        sides[side].has(query) && (other.has(answer) || !other.has_packets())
    };
    let requested = [0, 1].map(|side| {
        is_client_by(side, flag::ASKS, flag::ANSWERS)
            || is_client_by(side, flag::CLIENT_HELLO, flag::SERVER_HELLO)
    });
    // The sender of a packet that an ICMP error quotes is the client only if the other side sent
    // nothing and the packet is not a reply. A late reply to a closed socket also triggers an
    // error.
    let ports = [0, 1].map(|side| flow.key.endpoint(side).port);
    let is_answer = |side: usize| {
        let quoted_as_answer = flow.extra.is_some_and(|extra| {
            extra.errors.iter().any(|(e, quotes)| usize::from(e.side) == side && quotes.answers)
        });
        quoted_as_answer
            || sides[side].has(flag::ANSWERS)
            || client_by_ports(ports) == Some(1 - side)
            || index.serves(flow.key.endpoint(side), transport)
    };
    let quoted = [0, 1].map(|side: usize| {
        let about = |e: IcmpError| {
            usize::from(e.side) == side
                && !matches!(e.kind, ErrorKind::Other | ErrorKind::TimeExceeded)
        };
        !sides[1 - side].has_packets()
            && errors(flow).any(about)
            && !is_answer(side)
            && index.broadcast_reply(flow).is_none()
    });
    only(requested).or_else(|| only(quoted).filter(|_| requested == [false; 2]))
}

/// Returns whether the ICMP message type of a side is a request, or a type that has no reply.
fn asks(flow: &Flow<'_>, side: usize) -> bool {
    let transport = flow.key.transport();
    let kind = flow.key.endpoint(side).port as u8;
    if !crate::flow::icmp_paired(transport, kind) {
        return true;
    }
    match transport {
        Transport::ICMP => matches!(kind, 8 | 10 | 13 | 15 | 17),
        _ => matches!(kind, 128 | 130 | 133 | 135 | 139 | 144),
    }
}

/// Returns the side whose port number has the higher class; `None` if both classes are equal. This
/// side is assumed to be the client. In ascending order, the classes are well-known ports,
/// registered ports, the lower ephemeral range that some systems use, and the dynamic range (RFC
/// 6335). Port 0 ranks highest.
fn client_by_ports(ports: [u16; 2]) -> Option<usize> {
    match port_class(ports[0]).cmp(&port_class(ports[1])) {
        std::cmp::Ordering::Less => Some(1),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(0),
    }
}

/// Returns whether a TCP port is that of a service. Systems assign the well-known ports from 512 on
/// to privileged clients, for example of NFS; of these, only a few count that services use. An FTP
/// server opens data connections from port 20 (RFC 959, 3.3).
fn is_service_port(port: u16) -> bool {
    matches!(port, 1..=19 | 21..512 | 636 | 853 | 989 | 990 | 993 | 995)
}

/// Returns whether both sides of a TCP flow sent data, and the ports are those of a client and of a
/// service. Such ports show the direction of a connection, whatever else its sides send.
fn has_telling_ports(flow: &Flow<'_>, client: usize) -> bool {
    let [own, other] = [client, 1 - client].map(|side| flow.key.endpoint(side).port);
    flow.sides.iter().all(|side| side.has(flag::DATA))
        && port_class(own) >= EPHEMERAL_CLASS
        && is_service_port(other)
}

/// The lowest class of ports that systems assign to clients.
const EPHEMERAL_CLASS: u8 = 2;

fn port_class(port: u16) -> u8 {
    match port {
        // No service listens on port 0.
        0 => 4,
        1..1024 => 0,
        1024..EPHEMERAL_PORTS => 1,
        EPHEMERAL_PORTS..49152 => EPHEMERAL_CLASS,
        49152.. => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_classes_follow_the_design() {
        for (server, client) in
            [(443, 1024), (1023, 65535), (1024, 32768), (32767, 49152), (32768, 49152)]
        {
            assert_eq!(client_by_ports([server, client]), Some(1), "{server} {client}");
            assert_eq!(client_by_ports([client, server]), Some(0), "{server} {client}");
        }
        for (a, b) in [(1, 1023), (1024, 32767), (32768, 49151), (49152, 65535)] {
            assert_eq!(client_by_ports([a, b]), None, "{a} {b}");
        }
    }
}
