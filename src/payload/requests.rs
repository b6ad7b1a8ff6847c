//! Recognizes UDP datagrams that are requests, and the replies to them. Requests are recognized
//! only if they always expect a reply, so that a missing reply shows that the service did not
//! answer. This is also true of DNS and ICMP, but their headers are read during decoding.

use crate::decode::{FiveTuple, flag};

/// A function that classifies a datagram as a request ([`flag::ASKS`], with
/// [`flag::CLIENT_HELLO`] if it opens a session) or a reply ([`flag::ANSWERS`]). Returns `None` if
/// it is not a message of the protocol. A message that is either a request or a reply, depending on
/// which port is the server port, has the flags of both.
type RequestKind = fn(&[u8]) -> Option<u16>;

/// Protocols whose messages have few distinctive features. They are recognized only on their server
/// ports (IANA).
const AT_PORTS: &[(u16, RequestKind)] =
    &[(88, kerberos), (123, ntp), (137, name_reply), (443, quic), (5353, name_reply)];

/// Does the same as a [`RequestKind`]. The second argument is the length of the payload on the
/// wire, in bytes.
type SizedRequestKind = fn(&[u8], usize) -> Option<u16>;

/// Protocols whose messages are distinctive enough to be recognized on any port. Their length is
/// one of their features.
const ANYWHERE: &[SizedRequestKind] = &[radius, rdp];

/// Returns whether a datagram may be a message of one of the listed protocols. `payload` is the
/// captured part of its payload, and `length` the length of the payload on the wire.
pub(super) fn may_match(tuple: &FiveTuple, payload: &[u8], length: usize) -> bool {
    AT_PORTS.iter().any(|(port, _)| *port == tuple.dport || *port == tuple.sport)
        || ANYWHERE.iter().any(|recognize| recognize(payload, length).is_some())
}

/// Returns the flags of a request or a reply as a [`RequestKind`] does, and `None` for other
/// datagrams. The arguments are those of [`may_match`].
pub(super) fn read(tuple: &FiveTuple, payload: &[u8], length: usize) -> Option<u16> {
    let known = AT_PORTS.iter().find(|(port, _)| *port == tuple.dport || *port == tuple.sport);
    if let Some((port, recognize)) = known {
        let kinds = recognize(payload)?;
        let is_request = tuple.dport == *port && kinds & flag::ASKS != 0;
        let is_reply = tuple.sport == *port && kinds & flag::ANSWERS != 0;
        return if is_request {
            Some(kinds & !flag::ANSWERS)
        } else {
            is_reply.then_some(flag::ANSWERS)
        };
    }
    ANYWHERE.iter().find_map(|recognize| recognize(payload, length))
}

/// Recognizes Kerberos (RFC 4120, 5) by its tags: AS-REQ and TGS-REQ, their replies, and KRB-ERROR.
fn kerberos(payload: &[u8]) -> Option<u16> {
    match payload {
        [0x6a | 0x6c, _, _, ..] => Some(flag::ASKS),
        [0x6b | 0x6d | 0x7e, _, _, ..] => Some(flag::ANSWERS),
        _ => None,
    }
}

/// Recognizes NTP (RFC 5905, 7.3): packets of at least 48 bytes in client mode or server mode.
fn ntp(payload: &[u8]) -> Option<u16> {
    let first = payload.first()?;
    let is_complete = payload.len() >= 48;
    match first & 0x07 {
        3 if is_complete => Some(flag::ASKS),
        4 if is_complete => Some(flag::ANSWERS),
        _ => None,
    }
}

/// Recognizes the replies of the NetBIOS name service (RFC 1002, 4.2.1.1) and of multicast DNS (RFC
/// 6762, 18.2) by the bit that marks a response in DNS. Their requests are not recognized here,
/// because many of them expect no reply.
fn name_reply(payload: &[u8]) -> Option<u16> {
    let flags = payload.get(..12)?[2];
    (flags & 0x80 != 0).then_some(flag::ANSWERS)
}

/// Recognizes QUIC by the packets with long headers (RFC 9000, 17.2; RFC 9369, 3.2) with which a
/// connection begins. The Initial packets of client and server look the same. The server's other
/// packets are Handshake, Retry and Version Negotiation packets.
fn quic(payload: &[u8]) -> Option<u16> {
    const INITIAL: u8 = 0;
    const ZERO_RTT: u8 = 1;
    let first = *payload.first()?;
    let version = payload.get(1..5)?;
    let kind = first >> 4 & 0x03;
    // The types of version 2 are those of version 1 plus one.
    let kind = match version {
        [0, 0, 0, 0] if first & 0x80 != 0 => return Some(flag::ANSWERS),
        [0, 0, 0, 1] => kind,
        [0x6b, 0x33, 0x43, 0xcf] => kind.wrapping_sub(1) & 0x03,
        _ => return None,
    };
    match kind {
        _ if first & 0xc0 != 0xc0 => None,
        INITIAL => Some(flag::ASKS | flag::CLIENT_HELLO | flag::ANSWERS),
        ZERO_RTT => None,
        _ => Some(flag::ANSWERS),
    }
}

/// Recognizes RADIUS (RFC 2865, 3; RFC 2866) by the codes of requests and replies. The length must
/// match the datagram, and the first attribute, if there is one, must have a valid type and length.
/// The snaplen may truncate what follows.
fn radius(payload: &[u8], length: usize) -> Option<u16> {
    let (&[code, _, high, low], attributes) = (payload.first_chunk()?, payload.get(20..)?);
    match code {
        _ if usize::from(u16::from_be_bytes([high, low])) != length => None,
        _ if matches!(attributes, [0, ..] | [_, 0 | 1, ..]) => None,
        _ if attributes.len() < 2 && length > 20 => None,
        1 | 4 | 12 => Some(flag::ASKS),
        2 | 3 | 5 | 11 => Some(flag::ANSWERS),
        _ => None,
    }
}

/// Recognizes RDP over UDP ([MS-RDPEUDP], 2.2.2). The flags follow the acknowledgement (four bytes)
/// and the window (two bytes): the client sends a SYN without ACK, and the server a SYN with ACK.
fn rdp(payload: &[u8], length: usize) -> Option<u16> {
    const SYN: u16 = 0x0001;
    const ACK: u16 = 0x0004;
    let flags = u16::from_be_bytes(*payload.get(6..)?.first_chunk()?);
    // The client's SYN has an acknowledgement number of all ones. Both sides pad their SYNs to the
    // MTU (3.1.5.1).
    let is_padded = length >= 1000;
    match (flags & SYN != 0, flags & ACK != 0) {
        (true, false) if is_padded && payload.starts_with(&[0xff; 4]) => {
            Some(flag::ASKS | flag::CLIENT_HELLO)
        }
        (true, true) if is_padded => Some(flag::ANSWERS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{REQUEST_PORTS, Transport};

    #[test]
    fn the_model_lists_the_ports() {
        assert!(AT_PORTS.iter().map(|(port, _)| *port).eq(REQUEST_PORTS));
    }

    fn kind_of(sport: u16, dport: u16, payload: &[u8]) -> Option<u16> {
        let [src, dst] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let tuple = FiveTuple { src, dst, sport, dport, transport: Transport::UDP };
        let kind = read(&tuple, payload, payload.len());
        assert!(kind.is_none() || may_match(&tuple, payload, payload.len()));
        kind
    }

    #[test]
    fn a_truncated_radius_message_is_recognized_by_its_length_on_the_wire() {
        let [src, dst] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let tuple = FiveTuple { src, dst, sport: 50_000, dport: 1812, transport: Transport::UDP };
        let message = [&[1, 7, 0, 170][..], &[0; 16], &[1, 6], &[b'a'; 148]].concat();
        for captured in 0..=message.len() {
            let kind = read(&tuple, &message[..captured], 170);
            assert_eq!(kind, (captured >= 22).then_some(flag::ASKS), "{captured}");
            assert_eq!(read(&tuple, &message[..captured], 171), None, "{captured}");
        }
    }

    #[test]
    fn requests_ask_and_replies_answer() {
        let radius = |code: u8| [&[code, 7, 0, 20][..], &[0; 16]].concat();
        assert_eq!(kind_of(50_000, 1812, &radius(1)), Some(flag::ASKS));
        assert_eq!(kind_of(1812, 50_000, &radius(2)), Some(flag::ANSWERS));
        assert_eq!(kind_of(50_000, 1812, &radius(99)), None);
        // An unrelated heartbeat that starts the same way has no valid attribute.
        assert_eq!(kind_of(50_000, 20_003, &[&radius(1)[..3], &[24], &[0; 20]].concat()), None);
        // A reply that is sent to the server port does not count.
        assert_eq!(kind_of(50_000, 88, &[0x6b, 0x81, 0x80]), None);
        assert_eq!(kind_of(50_000, 88, &[0x6a, 0x81, 0x80]), Some(flag::ASKS));
        assert_eq!(kind_of(88, 50_000, &[0x6b, 0x81, 0x80]), Some(flag::ANSWERS));
        let mut name = [0; 12];
        assert_eq!(kind_of(137, 137, &name), None);
        name[2] = 0x85;
        assert_eq!(kind_of(137, 137, &name), Some(flag::ANSWERS));
        assert_eq!(kind_of(50_000, 5353, &name), None);
        assert_eq!(
            kind_of(50_000, 123, &[[0x23; 1].as_slice(), &[0; 47]].concat()),
            Some(flag::ASKS)
        );
        assert_eq!(
            kind_of(123, 50_000, &[[0x24; 1].as_slice(), &[0; 47]].concat()),
            Some(flag::ANSWERS)
        );
        let opens = Some(flag::ASKS | flag::CLIENT_HELLO);
        assert_eq!(kind_of(50_000, 443, &[0xc3, 0, 0, 0, 1, 8, 1]), opens);
        assert_eq!(kind_of(50_000, 443, &[0x43, 0, 0, 0, 1, 8, 1]), None);
        // The Initial packets of a QUIC server look like those of its client. A server also sends
        // Handshake, Retry and Version Negotiation packets.
        let version_2 = |first: u8| [first, 0x6b, 0x33, 0x43, 0xcf, 8, 1];
        let initial = [[0xc3, 0, 0, 0, 1, 8, 1], version_2(0xd3)];
        let handshake = [[0xe3, 0, 0, 0, 1, 8, 1], version_2(0xf3)];
        let retry = [[0xf3, 0, 0, 0, 1, 8, 1], version_2(0xc3)];
        let negotiation = [[0x80, 0, 0, 0, 0, 8, 1]; 1];
        for server in [&initial[..], &handshake, &retry, &negotiation].concat() {
            assert_eq!(kind_of(443, 50_000, &server), Some(flag::ANSWERS), "{server:x?}");
        }
        for client in handshake.iter().chain(&retry) {
            assert_eq!(kind_of(50_000, 443, client), None, "{client:x?}");
        }
        assert_eq!(kind_of(50_000, 443, &version_2(0xd3)), opens);
        assert_eq!(kind_of(443, 50_000, &version_2(0xe3)), None, "0-RTT");
        let rdp = |first: u8, flags: u8| {
            [&[first, first, first, first, 0, 64, 0, flags][..], &[0; 1200]].concat()
        };
        assert_eq!(kind_of(50_000, 3389, &rdp(0xff, 1)), opens);
        assert_eq!(kind_of(3389, 50_000, &rdp(1, 5)), Some(flag::ANSWERS));
        assert_eq!(kind_of(50_000, 3389, &rdp(0, 4)), None);
    }
}
