//! Facts that follow from one flow alone, such as which side certainly initiated it, and which ICMP
//! errors about it count as evidence.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::DirectionHints;
use crate::flow::{DirectionStats, Flow, IcmpError, Opening, flag};
use crate::model::{
    DNS_PORT, FlagSet, KERBEROS_PORT, Mac, Nanos, REQUEST_PORTS, SECOND, Transport, is_link_local,
};

/// The minimum size of a long session, in bytes.
const SESSION_BYTES: u64 = 20 * 1000;
/// The minimum duration of a long session, and the minimum time after its end for which the capture
/// continues without interruption, in nanoseconds.
pub(super) const SESSION_NS: Nanos = 30 * SECOND;

/// Returns which sides are proved to have initiated a connection: a SYN-ACK from the other side
/// acknowledges the sequence number of a SYN. A host that received no SYN cannot be made to send
/// such a SYN-ACK, and a host that did not receive the SYN cannot know its number (RFC 6528). A
/// segment whose flags are hidden by fragmentation may be that SYN: ordinary systems never split a
/// TCP header.
///
/// A host that has sent a SYN itself answers a SYN of the other side with a SYN-ACK that has the
/// number of its own SYN (RFC 9293, 3.5). Such a SYN-ACK proves nothing, because a server can make
/// its client send one by answering a SYN with another SYN.
pub(super) fn proved(flow: &Flow<'_>) -> [bool; 2] {
    [0, 1].map(|client: usize| {
        let [own, other] = [client, 1 - client].map(|side| &flow.sides[side]);
        // The flags are checked first because they rule out most flows. The comparison of all pairs
        // is cheap, because nearly all other flows have one SYN and one SYN-ACK.
        if !other.has(flag::SYN_ACK) {
            return false;
        }
        let is_of_opener = |syn_ack: &Opening| {
            other.has(flag::SYN | flag::HIDDEN)
                && flow.syns(1 - client).any(|syn| syn.number == syn_ack.other)
        };
        let proves = |syn_ack: Opening| {
            own.has(flag::SYN | flag::HIDDEN)
                && flow.syns(client).any(|syn| syn.is_answered_by(&syn_ack))
                // If a side sent more SYNs than are kept, the SYN-ACK may acknowledge one that was
                // not kept.
                || flow.may_have_sent_syn(client, syn_ack.number)
        };
        flow.syn_acks(1 - client).any(|syn_ack| proves(syn_ack) && !is_of_opener(&syn_ack))
    })
}

/// Returns whether the client acknowledges the server's SYN-ACK or a number soon after it. Sequence
/// numbers wrap around (RFC 9293, 3.4).
pub(super) fn acknowledges_opening(flow: &Flow<'_>, client_side: usize) -> bool {
    let client = &flow.sides[client_side];
    flow.syn_acks(1 - client_side).any(|syn_ack| {
        let opening = syn_ack.other.wrapping_add(1);
        client.acked.holds(opening) || acknowledges_after(flow, client_side, opening)
    })
}

/// Returns whether all acknowledgements of the client are of data that followed the SYN-ACK.
pub(super) fn acknowledges_data(flow: &Flow<'_>, client_side: usize) -> bool {
    flow.syn_acks(1 - client_side)
        .any(|syn_ack| acknowledges_after(flow, client_side, syn_ack.other.wrapping_add(2)))
}

/// Returns whether the lowest number that the client acknowledges is `number` or soon after it.
fn acknowledges_after(flow: &Flow<'_>, client_side: usize, number: u32) -> bool {
    /// The maximum number of bytes from the server that the capture may be missing.
    const LACKING: u64 = 1 << 24;
    let server = &flow.sides[1 - client_side];
    let sent = server.sent.payload.0.saturating_mul(2).saturating_add(LACKING);
    let after = |acked: u32| u64::from(acked.wrapping_sub(number)) <= sent.min(1 << 31);
    flow.sides[client_side].acked.least().is_some_and(after)
}

/// Returns whether both sides opened the connection simultaneously (RFC 9293, 3.5): each sent a
/// SYN, and a SYN-ACK with the same sequence number.
pub(super) fn is_simultaneous(flow: &Flow<'_>) -> bool {
    if !(0..2).all(|side: usize| flow.sides[side].has(flag::SYN)) {
        return false;
    }
    (0..2).all(|side: usize| {
        let mut syn_acks = flow.syn_acks(side).peekable();
        syn_acks.peek().is_some()
            && syn_acks.all(|own| flow.syns(side).any(|syn| syn.number == own.other))
    })
}

/// Returns the ICMP errors about a flow that count as evidence. The sender of the quoted packet
/// must have been seen, and must not be the sender of the error. For TCP, the quoted sequence
/// number must be that of a SYN, which only devices on the path know (RFC 5927, 4).
pub(super) fn errors(flow: &Flow<'_>) -> impl Iterator<Item = IcmpError> {
    let all = flow.extra.into_iter().flat_map(|extra| extra.errors.iter());
    let tcp = flow.key.transport() == Transport::TCP;
    let counts = move |side: usize, seqs: &mut std::slice::Iter<'_, u32>| {
        flow.sides[side].has_packets()
            && (!tcp || seqs.any(|seq| flow.syns(side).any(|syn| syn.number == *seq)))
    };
    // The sender of a packet cannot reject it, so errors from this sender do not count.
    let is_own = move |error: &IcmpError| error.by == flow.key.endpoint(error.side.into()).addr;
    all.filter(move |(error, quotes)| {
        !is_own(error) && counts(usize::from(error.side), &mut quotes.seqs.iter())
    })
    .map(|(error, _)| *error)
}

/// Returns the side that sent to a broadcast or multicast address, or sent all of its frames to the
/// link-layer broadcast address. An address that sends packets is neither a broadcast nor a
/// multicast address, so the other side must be silent. A single frame to the link-layer broadcast
/// address does not turn a flow between two hosts into a broadcast, and no such frame turns packets
/// to a listed host into one: a sender chooses the hardware address of its frames.
pub(super) fn broadcast_sender(flow: &Flow<'_>, hints: &dyn DirectionHints) -> Option<usize> {
    (0..2).find(|&side| {
        let sender = &flow.sides[side];
        let target = &flow.sides[1 - side];
        let address = flow.key.endpoint(1 - side).addr;
        let to_all = sender.has(flag::BROADCAST) && !sender.has(flag::UNICAST);
        sender.has_packets()
            && !target.has_packets()
            && (to_all && !hints.is_listed(address)
                || is_group(address)
                || hints.is_broadcast(address))
    })
}

/// Returns whether an address is a multicast address or the limited broadcast address.
pub(super) fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}

/// Returns whether the flow has a loopback address and was seen on a link with hardware addresses
/// or in a tunnel.
pub(super) fn is_loopback_on_wire(flow: &Flow<'_>) -> bool {
    let loopback = (0..2).any(|side| flow.key.endpoint(side).addr.is_loopback());
    loopback
        && (0..2).any(|side| {
            flow.links(side).any(|link| link.source != Mac::NONE || link.is_tunnelled())
        })
}

/// Returns whether a side of a TCP flow sent only resets.
pub(super) fn only_resets(side: &DirectionStats) -> bool {
    let others = flag::SYN | flag::SYN_ACK | flag::ACK | flag::DATA | flag::FIN;
    side.has(flag::RST) && !side.has(others)
}

/// The time that a reply may take, in nanoseconds. If the capture ends or is interrupted sooner
/// after a request, a missing reply proves nothing.
pub(super) const TIME_TO_ANSWER: Nanos = SECOND;

/// The time that the reply to a SYN or SYN-ACK may take, in nanoseconds. A server that is busy, or
/// whose hardware address a router does not know yet, may answer only a repetition of the SYN.
/// Clients repeat it after one second and again after two more (RFC 6298), so if two SYNs count,
/// the third had a second to be answered.
const TIME_TO_CONNECT: Nanos = 3 * SECOND;

/// The time that a reply of a RADIUS server may take, in nanoseconds: a user may have to confirm
/// the login at another device.
pub(super) const TIME_TO_ANSWER_LOGIN: Nanos = 60 * SECOND;

/// The time that a reply of DNS or Kerberos may take, in nanoseconds, because the server may have
/// to ask others.
pub(super) const TIME_TO_ANSWER_LOOKUP: Nanos = 10 * SECOND;

/// Returns the time that a reply from the side `server` of a flow may take, in nanoseconds.
pub(super) fn time_to_answer(flow: &Flow<'_>, server: usize) -> Nanos {
    let client = flow.sides[1 - server].flags;
    time_to_answer_at(flow.key.transport(), flow.key.endpoint(server).port, client)
}

/// Returns the time that a reply from a port may take, in nanoseconds. `client` contains the kinds
/// of packets that the client sent.
pub(super) fn time_to_answer_at(transport: Transport, port: u16, client: FlagSet) -> Nanos {
    match transport {
        Transport::TCP => return TIME_TO_CONNECT,
        Transport::UDP if client.has(flag::ASKS) => {}
        _ => return TIME_TO_ANSWER,
    }
    match port {
        DNS_PORT | KERBEROS_PORT => TIME_TO_ANSWER_LOOKUP,
        // At other ports, the only requests that open no session are those of RADIUS.
        _ if !REQUEST_PORTS.contains(&port) && !client.has(flag::CLIENT_HELLO) => {
            TIME_TO_ANSWER_LOGIN
        }
        _ => TIME_TO_ANSWER,
    }
}

/// Returns whether a flow is a long session. Each flow must satisfy the conditions by itself: many
/// short flows do not add up to a session. A flow that was opened several times, by one side or by
/// both, is not a single session.
pub(super) fn is_long_session(flow: &Flow<'_>, first: Nanos, last: Nanos) -> bool {
    let [a, b] = &flow.sides;
    a.sent.payload.0 > 0
        && b.sent.payload.0 > 0
        && a.sent.bytes.0 + b.sent.bytes.0 >= SESSION_BYTES
        && last.saturating_sub(first) >= SESSION_NS
        && proved(flow) != [true; 2]
        && (0..2).all(|side| accepted_syns(flow, side) < 2)
}

/// Returns how many connections a side of a TCP flow opened: the number of its initial sequence
/// numbers that a SYN-ACK acknowledges.
fn accepted_syns(flow: &Flow<'_>, side: usize) -> usize {
    // Over other protocols, there are times of requests in place of the numbers.
    if flow.key.transport() != Transport::TCP {
        return 0;
    }
    let is_accepted =
        |syn: &Opening| flow.syn_acks(1 - side).any(|syn_ack| syn.is_answered_by(&syn_ack));
    let accepted: BTreeSet<u32> =
        flow.syns(side).filter(is_accepted).map(|syn| syn.number).collect();
    accepted.len()
}

/// Returns the hardware addresses of the link-local ends of a flow, for each side. Hosts are
/// recognized by them. The lists of other ends are empty.
pub(super) fn link_local_macs(flow: &Flow<'_>) -> [Vec<Mac>; 2] {
    [0, 1].map(|side| link_local_macs_of(flow, side))
}

/// Returns the hardware addresses of one side of a flow, as [`link_local_macs`] does.
pub(super) fn link_local_macs_of(flow: &Flow<'_>, side: usize) -> Vec<Mac> {
    if !is_link_local(flow.key.endpoint(side).addr) {
        return Vec::new();
    }
    flow.links(side).map(|link| link.source).filter(|mac| *mac != Mac::NONE).collect()
}
