//! Reads replies of the DCE/RPC endpoint mapper (The Open Group C706, appendix O, and [MS-RPCE]).
//! They contain the ports on which the services of the host listen. No published crate parses these
//! replies from captured traffic.

use super::AnnouncedPorts;

/// The size of the header of a connection-oriented response in bytes (C706, 12.6.4.10).
const HEADER: usize = 24;
/// The PDU type of a response.
const RESPONSE: u8 = 2;
/// The protocol identifiers of TCP and IP in the floors of a protocol tower (C706, appendix I).
const TCP: u8 = 7;
const IP: u8 = 9;

/// Returns the TCP ports in the responses of an endpoint mapper; `None` if it announces none or
/// they cannot be read.
pub(super) fn read(payload: &[u8]) -> Option<AnnouncedPorts> {
    let mut ports = AnnouncedPorts::default();
    let mut unread = payload;
    // Several PDUs may share a segment.
    while let Some(&[5, 0, kind, _, order, _, _, _, a, b, ..]) = unread.get(..HEADER) {
        let number = |a, b| if order & 0x10 != 0 { [a, b] } else { [b, a] };
        let length = usize::from(u16::from_le_bytes(number(a, b)));
        let Some(pdu) = unread.get(..length).filter(|pdu| pdu.len() >= HEADER) else { break };
        if kind == RESPONSE {
            collect_ports(&pdu[HEADER..], &mut ports);
        }
        unread = &unread[length..];
    }
    (!ports.is_empty()).then_some(ports)
}

/// Collects the ports in the protocol towers of a response. A floor for TCP, which contains the
/// port in network byte order, immediately precedes a floor for IP. Lengths in floors are always
/// little-endian, whatever the byte order of the response (C706, appendix L).
fn collect_ports(stub: &[u8], ports: &mut AnnouncedPorts) {
    for floors in stub.windows(12) {
        if let &[1, 0, TCP, 2, 0, high, low, 1, 0, IP, 4, 0] = floors {
            let port = u16::from_be_bytes([high, low]);
            if port != 0 {
                ports.insert(port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reply of a real endpoint mapper (Samba 4.17) to a request for the server service.
    const ANSWER: &str = "\
        05000203100000009800000002000000800000000000000000000000000000000000000000000000\
        000000000100000001000000000000000100000002000000\
        4b0000004b000000050013000dc84f324b7016d30112785a47bf6ee188030002000000\
        13000d045d888aeb1cc9119fe808002b1048600200020000000100\
        0b020000000100070200c0020100090400\
        0a4200010000000000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    #[test]
    fn the_port_of_a_tower_is_announced() {
        let answer = bytes(ANSWER);
        let ports = read(&answer).unwrap();
        assert_eq!(ports.iter().collect::<Vec<_>>(), [&49154]);
        assert_eq!(read(&[&answer[..], &answer[..]].concat()), read(&answer));
    }

    #[test]
    fn questions_and_pieces_announce_nothing() {
        let mut request = bytes(ANSWER);
        request[2] = 0;
        assert_eq!(read(&request), None);
        let answer = bytes(ANSWER);
        for end in 0..answer.len() {
            assert_eq!(read(&answer[..end]), None, "{end}");
        }
        let mut lying = answer.clone();
        lying[8] = 4;
        assert_eq!(read(&lying), None);
    }
}
