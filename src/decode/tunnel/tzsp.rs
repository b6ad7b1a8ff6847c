//! The TaZmen sniffer protocol, which access points and routers (MikroTik, Cisco Meraki, Aruba) use
//! to mirror frames over UDP.

use super::{Next, Packet, Tunnel, TunnelHeader};
use crate::decode::WlanForm;

pub(super) fn decode(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    const END: u8 = 1;
    const PADDING: u8 = 0;
    // Require version 1 and a packet that was received or is to be transmitted.
    let &[1, 0 | 1, ..] = packet.bytes else {
        return None;
    };
    let protocol = packet.u16(2)?;
    let mut at = 4;
    // The loop ends because each field consumes bytes of the packet.
    loop {
        match *packet.bytes.get(at)? {
            END => break,
            PADDING => at += 1,
            _ => at += 2 + usize::from(*packet.bytes.get(at + 1)?),
        }
    }
    let frame = packet.after(at + 1)?;
    let next = match protocol {
        1 => Next::Ethernet(frame),
        18 => Next::Wlan(frame, WlanForm::Plain),
        _ => return None,
    };
    Some(TunnelHeader { tunnel: Tunnel::Tzsp, id: None, next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::packet;

    fn read(bytes: &[u8]) -> Option<Next<'_>> {
        decode(packet(bytes)).map(|header| {
            assert_eq!((header.tunnel, header.id), (Tunnel::Tzsp, None));
            header.next
        })
    }

    #[test]
    fn the_frame_follows_the_field_that_ends_the_list() {
        // Version, type, encapsulated protocol; then fields of type, length and value.
        let ethernet = [1, 0, 0, 1, 1, 7];
        assert_eq!(read(&ethernet), Some(Next::Ethernet(packet(&[7]))));
        let wlan = [1, 1, 0, 18, 1, 7];
        assert_eq!(read(&wlan), Some(Next::Wlan(packet(&[7]), WlanForm::Plain)));
        // A padding field has no length byte, and an end tag inside a value does not end the list.
        let fields = [1, 0, 0, 1, 0, 0, 10, 2, 1, 1, 41, 0, 1, 7];
        assert_eq!(read(&fields), Some(Next::Ethernet(packet(&[7]))));
        for kept in 0..fields.len() - 1 {
            assert_eq!(read(&fields[..kept]), None, "{kept} bytes");
        }
        assert_eq!(read(&fields[..13]), Some(Next::Ethernet(packet(&[]))));
    }

    #[test]
    fn other_versions_types_and_protocols_are_not_read() {
        // Types that carry no frame, such as keepalives, and other versions.
        for head in [[1, 4], [1, 3], [1, 2], [2, 0], [0, 0]] {
            assert_eq!(read(&[&head[..], &[0, 1, 1, 7]].concat()), None, "{head:?}");
        }
        for protocol in [0, 2, 119] {
            assert_eq!(read(&[1, 0, 0, protocol, 1, 7]), None, "{protocol}");
        }
    }
}
