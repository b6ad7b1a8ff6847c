//! Datagrams that say by themselves that they want an answer, and the answers to them: the list of protocols whose
//! silence means that nobody answered. DNS and ICMP, which do so too, are read with their headers.

use crate::decode::{FiveTuple, flag};

/// What a datagram says, if it is a message of a protocol.
type RequestKind = fn(&[u8]) -> Option<u16>;

/// Protocols whose messages say little about themselves, by the ports of their servers (IANA), and how to tell a
/// request from its answer.
const AT_PORTS: &[(u16, RequestKind)] = &[(88, kerberos), (123, ntp), (443, quic)];

/// Protocols whose messages cannot be mistaken, wherever their servers listen.
const ANYWHERE: &[RequestKind] = &[radius, rdp];

/// Whether a datagram may be a message of one of these protocols.
pub(super) fn may_say(tuple: &FiveTuple, payload: &[u8]) -> bool {
    AT_PORTS.iter().any(|(port, _)| *port == tuple.dport || *port == tuple.sport)
        || ANYWHERE.iter().any(|says| says(payload).is_some())
}

/// What a datagram says: that it asks, or that it answers.
pub(super) fn read(tuple: &FiveTuple, payload: &[u8]) -> Option<u16> {
    let known = AT_PORTS.iter().find(|(port, _)| *port == tuple.dport || *port == tuple.sport);
    if let Some((port, says)) = known {
        let says = says(payload)?;
        let at = if says == flag::ASKS { tuple.dport } else { tuple.sport };
        return (at == *port).then_some(says);
    }
    ANYWHERE.iter().find_map(|says| says(payload))
}

/// Kerberos (RFC 4120, 5): AS-REQ and TGS-REQ, their replies, and KRB-ERROR, by their tags.
fn kerberos(payload: &[u8]) -> Option<u16> {
    match payload {
        [0x6a | 0x6c, _, _, ..] => Some(flag::ASKS),
        [0x6b | 0x6d | 0x7e, _, _, ..] => Some(flag::ANSWERS),
        _ => None,
    }
}

/// NTP (RFC 5905, 7.3): the modes of client and server, in a packet of at least 48 bytes.
fn ntp(payload: &[u8]) -> Option<u16> {
    let (first, whole) = (payload.first()?, payload.len() >= 48);
    match first & 0x07 {
        3 if whole => Some(flag::ASKS),
        4 if whole => Some(flag::ANSWERS),
        _ => None,
    }
}

/// QUIC (RFC 9000, 17.2.2; RFC 9369): an Initial packet, of which a client's datagram has at least 1,200 bytes. A
/// server's Initial looks the same, so that only the direction tells.
fn quic(payload: &[u8]) -> Option<u16> {
    let (first, version) = (*payload.first()?, payload.get(1..5)?);
    let kind = first >> 4 & 0x03;
    let initial = match version {
        [0, 0, 0, 1] => kind == 0,
        [0x6b, 0x33, 0x43, 0xcf] => kind == 1,
        _ => false,
    };
    (first & 0xc0 == 0xc0 && initial).then_some(flag::ASKS)
}

/// RADIUS (RFC 2865, 3; RFC 2866): requests, and what answers them, by code. The length has to fit, and
/// the first attribute, if there is one, to have a kind and a length.
fn radius(payload: &[u8]) -> Option<u16> {
    let &[code, _, high, low, ..] = payload else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match code {
        _ if length < 20 || length != payload.len() => None,
        _ if matches!(payload[20..], [0, ..] | [_, 0 | 1, ..]) => None,
        1 | 4 | 12 => Some(flag::ASKS),
        2 | 3 | 5 | 11 => Some(flag::ANSWERS),
        _ => None,
    }
}

/// RDP over UDP ([MS-RDPEUDP], 2.2.2): after two words of acknowledgement and window the flags, SYN of the client
/// without and of the server with ACK.
fn rdp(payload: &[u8]) -> Option<u16> {
    const SYN: u16 = 0x0001;
    const ACK: u16 = 0x0004;
    let flags = u16::from_be_bytes(*payload.get(6..)?.first_chunk()?);
    // A SYN acknowledges nothing, in all ones, and both sides' SYNs are padded to the size of the path (3.1.5.1).
    let whole = payload.len() >= 1000;
    match (flags & SYN != 0, flags & ACK != 0) {
        (true, false) if whole && payload.starts_with(&[0xff; 4]) => Some(flag::ASKS),
        (true, true) if whole => Some(flag::ANSWERS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    fn says(sport: u16, dport: u16, payload: &[u8]) -> Option<u16> {
        let [src, dst] = ["10.0.0.1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let tuple = FiveTuple { src, dst, sport, dport, transport: Transport::UDP };
        let says = read(&tuple, payload);
        assert!(says.is_none() || may_say(&tuple, payload));
        says
    }

    #[test]
    fn requests_ask_and_replies_answer() {
        let radius = |code: u8| [&[code, 7, 0, 20][..], &[0; 16]].concat();
        assert_eq!(says(50_000, 1812, &radius(1)), Some(flag::ASKS));
        assert_eq!(says(1812, 50_000, &radius(2)), Some(flag::ANSWERS));
        assert_eq!(says(50_000, 1812, &radius(99)), None);
        // Somebody's heartbeat that starts alike has no attributes.
        assert_eq!(says(50_000, 20_003, &[&radius(1)[..3], &[24], &[0; 20]].concat()), None);
        // Who sends an answer to the port of a server answers nobody.
        assert_eq!(says(50_000, 88, &[0x6b, 0x81, 0x80]), None);
        assert_eq!(says(50_000, 88, &[0x6a, 0x81, 0x80]), Some(flag::ASKS));
        assert_eq!(says(88, 50_000, &[0x6b, 0x81, 0x80]), Some(flag::ANSWERS));
        assert_eq!(says(50_000, 123, &[[0x23; 1].as_slice(), &[0; 47]].concat()), Some(flag::ASKS));
        assert_eq!(
            says(123, 50_000, &[[0x24; 1].as_slice(), &[0; 47]].concat()),
            Some(flag::ANSWERS)
        );
        assert_eq!(says(50_000, 443, &[0xc3, 0, 0, 0, 1, 8, 1]), Some(flag::ASKS));
        assert_eq!(says(50_000, 443, &[0x43, 0, 0, 0, 1, 8, 1]), None);
        let rdp = |first: u8, flags: u8| {
            [&[first, first, first, first, 0, 64, 0, flags][..], &[0; 1200]].concat()
        };
        assert_eq!(says(50_000, 3389, &rdp(0xff, 1)), Some(flag::ASKS));
        assert_eq!(says(3389, 50_000, &rdp(1, 5)), Some(flag::ANSWERS));
        assert_eq!(says(50_000, 3389, &rdp(0, 4)), None);
    }
}
