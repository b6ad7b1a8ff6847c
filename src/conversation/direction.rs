//! Which side is the client, and how sure that is.

use std::net::IpAddr;

use super::{Lens, Survey};
use crate::flow::{ErrorKind, Flow, sign};
use crate::model::{Min, Transport, words};

words!(
    /// How sure the direction of a conversation is, the strongest evidence first.
    Grade {
        /// One side sent a SYN and the other a SYN-ACK; or a SYN-ACK and the other side's bare ACK.
        Handshake = "handshake",
        /// A SYN alone.
        Syn = "syn",
        /// The protocol says who asks: an ICMP error quoting the flow, the DNS query bit, a TLS hello, a
        /// broadcast or multicast destination and the unicast answer to it, the type of an ICMP message.
        Protocol = "protocol",
        /// Another flow proves by handshake that this endpoint serves.
        Service = "service",
        /// Only one orientation fits a documented row.
        Matrix = "matrix",
        /// The classes of the port numbers.
        Ports = "ports",
        /// The earliest packet's sender is taken for the client.
        First = "first",
        /// No evidence.
        Unknown = "unknown",
    }
);

impl Grade {
    /// Whether the direction is a guess, so that the other reading has to be judged too.
    pub fn is_guess(self) -> bool {
        self >= Self::Matrix
    }
}

/// How a flow is read.
pub(super) struct Reading {
    /// The side that is the client.
    pub client: usize,
    pub grade: Grade,
    /// The client sends to a broadcast or multicast address.
    pub broadcast: bool,
    /// The server answers a broadcast of the client.
    pub answers_broadcast: bool,
}

pub(super) fn read(flow: &Flow<'_>, survey: &Survey, lens: &dyn Lens) -> Reading {
    let reading =
        |client, grade| Reading { client, grade, broadcast: false, answers_broadcast: false };
    let transport = flow.key.transport();
    if transport == Transport::TCP {
        if let Some(client) = handshake(flow) {
            return reading(client, Grade::Handshake);
        }
        let syns = [0, 1].map(|side: usize| flow.sides[side].has(sign::SYN));
        if let Some(client) = only(syns) {
            return reading(client, Grade::Syn);
        }
    }
    if let Some(client) = broadcast_sender(flow, lens) {
        return Reading { broadcast: true, ..reading(client, Grade::Protocol) };
    }
    if let Some(client) = survey.broadcast_asker(flow) {
        return Reading { answers_broadcast: true, ..reading(client, Grade::Protocol) };
    }
    if let Some(client) = protocol(flow) {
        return reading(client, Grade::Protocol);
    }
    let ends = [flow.key.endpoint(0), flow.key.endpoint(1)];
    let ports = ends.map(|end| end.port);
    let by_ports = by_ports(ports).filter(|_| transport.has_ports());
    // A host that shares the port of its own service can open connections from it: where the other port is none
    // that clients are given, a proven service proves nothing of this flow.
    let clientlike = |client: usize| port_class(ports[client]) >= EPHEMERAL_CLASS;
    let serves = ends.map(|end| survey.serves(end, transport));
    if let Some(server) = only(serves).filter(|server| clientlike(1 - server)) {
        return reading(1 - server, Grade::Service);
    }
    let fits = [0, 1].map(|s| lens.is_documented(ends[1 - s].addr, ends[s], transport));
    let by_matrix = only(fits).map(|server| 1 - server);
    match (by_matrix, by_ports) {
        // An attacker chooses source ports: where the two disagree the matrix must not turn a
        // violation into a documented flow.
        (Some(matrix), Some(ports)) if matrix != ports => return reading(ports, Grade::Ports),
        (Some(matrix), _) => return reading(matrix, Grade::Matrix),
        (None, Some(ports)) => return reading(ports, Grade::Ports),
        (None, None) => {}
    }
    match (flow.sides[0].first.get(), flow.sides[1].first.get()) {
        (Some(a), Some(b)) if a != b => reading(usize::from(b < a), Grade::First),
        (Some(_), None) => reading(0, Grade::First),
        (None, Some(_)) => reading(1, Grade::First),
        _ => reading(1, Grade::Unknown),
    }
}

/// The position of the only true one.
fn only(facts: [bool; 2]) -> Option<usize> {
    match facts {
        [true, false] => Some(0),
        [false, true] => Some(1),
        _ => None,
    }
}

/// Which of two times is the earlier; of equal ones the first.
fn earliest(times: [Min; 2]) -> Option<usize> {
    match times.map(Min::get) {
        [Some(a), Some(b)] => Some(usize::from(b < a)),
        [Some(_), None] => Some(0),
        [None, Some(_)] => Some(1),
        [None, None] => None,
    }
}

/// The client of a three-way handshake. A SYN with its SYN-ACK outweighs a SYN-ACK with an ACK,
/// which one side alone could forge into a connection that it opened itself: the other's answer would be a
/// challenge ACK (RFC 5961, 4). So such a SYN-ACK counts only where neither side spoke before it.
pub(super) fn handshake(flow: &Flow<'_>) -> Option<usize> {
    let sides = flow.sides;
    let opened = [0, 1].map(|c| sides[c].has(sign::SYN) && sides[1 - c].has(sign::SYN_ACK));
    let accepted = [0, 1].map(|c| {
        let at = sides[1 - c].syn_ack();
        let begins = sides[1 - c].first == at && earliest([at, sides[c].first]) == Some(0);
        sides[c].has(sign::ACK) && sides[1 - c].has(sign::SYN_ACK) && begins
    });
    // Where both sides show all of an opening one of them is forged, or the port was used again the other way
    // round: nothing here tells which.
    if opened == [true, true] {
        return None;
    }
    only(opened).or_else(|| only(accepted)).or_else(|| {
        earliest([sides[0].syn_ack(), sides[1].syn_ack()])
            .filter(|_| accepted[0])
            .map(|server| 1 - server)
    })
}

/// The side that sent to a broadcast or multicast address. An address that itself sends is none,
/// and one frame to everybody does not turn a flow between two into a broadcast.
pub(super) fn broadcast_sender(flow: &Flow<'_>, lens: &dyn Lens) -> Option<usize> {
    (0..2).find(|&side| {
        let (sender, target) = (&flow.sides[side], &flow.sides[1 - side]);
        let address = flow.key.endpoint(1 - side).addr;
        let to_all = sender.has(sign::BROADCAST) && !sender.has(sign::UNICAST);
        sender.spoke()
            && !target.spoke()
            && (to_all || is_group(address) || lens.is_broadcast(address))
    })
}

/// Whether an address stands for many by itself.
pub(super) fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// The client as the protocol itself tells it.
fn protocol(flow: &Flow<'_>) -> Option<usize> {
    let (transport, sides) = (flow.key.transport(), flow.sides);
    if transport.is_icmp() {
        return only([0, 1].map(|side| {
            let paired = crate::flow::icmp_paired(transport, flow.key.endpoint(side).port as u8);
            asks(flow, side) && (paired || sides[side].spoke())
        }));
    }
    // An answer alone is no proof: whoever sends it chose to look like a server.
    let asked = |c: usize, query, answer| {
        sides[c].has(query) && (sides[1 - c].has(answer) || !sides[1 - c].has(query))
    };
    let client = [0, 1].map(|c| {
        asked(c, sign::DNS_QUERY, sign::DNS_ANSWER)
            || asked(c, sign::CLIENT_HELLO, sign::SERVER_HELLO)
    });
    // An error answers the packet it quotes only where the other side has not answered itself: a late
    // answer to a socket that is closed again draws one too.
    let quoted = [0, 1].map(|side: usize| {
        !sides[1 - side].spoke()
            && flow.extra.is_some_and(|extra| {
                extra
                    .errors
                    .iter()
                    .any(|e| usize::from(e.side) == side && e.kind != ErrorKind::Other)
            })
    });
    only(client).or_else(|| only(quoted).filter(|_| client == [false; 2]))
}

/// Whether the ICMP message type of a side is one that asks, or stands alone.
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

/// The client by the classes of the port numbers: well-known ports serve rather than others,
/// registered ones rather than ephemeral ones, the lower ephemeral range of old rather than
/// the dynamic range (RFC 6335).
fn by_ports(ports: [u16; 2]) -> Option<usize> {
    match port_class(ports[0]).cmp(&port_class(ports[1])) {
        std::cmp::Ordering::Less => Some(1),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(0),
    }
}

/// The first class that systems give to clients.
const EPHEMERAL_CLASS: u8 = 2;

fn port_class(port: u16) -> u8 {
    match port {
        0..1024 => 0,
        1024..32768 => 1,
        32768..49152 => EPHEMERAL_CLASS,
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
            assert_eq!(by_ports([server, client]), Some(1), "{server} {client}");
            assert_eq!(by_ports([client, server]), Some(0), "{server} {client}");
        }
        for (a, b) in [(1, 1023), (1024, 32767), (32768, 49151), (49152, 65535)] {
            assert_eq!(by_ports([a, b]), None, "{a} {b}");
        }
    }
}
