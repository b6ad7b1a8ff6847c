//! Control and provisioning of wireless access points (CAPWAP, RFC 5415). The data channel carries
//! frames of clients as IEEE 802.11 (RFC 5416) or Ethernet.

use super::{Next, Packet, Tunnel, TunnelHeader};
use crate::decode::WlanForm;
use crate::decode::transport::UDP_HEADER;

pub(super) fn decode(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    const NATIVE: u32 = 1 << 8;
    const IS_FRAGMENT: u32 = 1 << 7;
    const KEEP_ALIVE: u32 = 1 << 3;
    /// The wireless binding identifier of IEEE 802.11.
    const WLAN: u32 = 1;
    let head = packet.u32(0)?;
    // Only version 0 without DTLS is read, because DTLS hides the content. Keep-alives carry no
    // frames.
    if head >> 24 != 0 || head & KEEP_ALIVE != 0 {
        return None;
    }
    let length = (head >> 19 & 0x1f) as usize * 4;
    // The fixed part of the header has eight bytes. Only the first fragment of a frame contains the
    // frame's headers.
    let offset = packet.u16(6)? >> 3;
    if length < 8 || (head & IS_FRAGMENT != 0 && offset != 0) {
        return None;
    }
    let frame = packet.after(length)?;
    let next = match (head & NATIVE != 0, head >> 9 & 0x1f) {
        (false, _) => Next::Ethernet(frame),
        (true, WLAN) => Next::Wlan(frame, form(frame)?),
        (true, _) => return None,
    };
    Some(TunnelHeader { tunnel: Tunnel::Capwap, id: None, next })
}

/// Returns whether a datagram is encrypted with DTLS (RFC 5415, 4.2), so that its content cannot be
/// read. Such a datagram starts with the DTLS header of CAPWAP, followed by a DTLS record (RFC
/// 6347, 4.1).
pub(super) fn is_sealed(datagram: Packet<'_>) -> bool {
    let payload = datagram.bytes.get(UDP_HEADER..).unwrap_or_default();
    matches!(payload, [1, 0, 0, 0, 20..=25, 0xfe, 0xff | 0xfd, ..])
}

/// Returns how a data frame was recorded. Cisco controllers swap the two bytes of the frame control
/// field.
fn form(frame: Packet<'_>) -> Option<WlanForm> {
    let &[first, second, ..] = frame.bytes else { return None };
    let is_data = |byte: u8| byte & 0x0f == 0x08;
    Some(if !is_data(first) && is_data(second) && first & 3 != 0 {
        WlanForm::Swapped
    } else {
        WlanForm::Plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::packet;

    /// Returns a CAPWAP header (RFC 5415, 4.3), followed by `frame`. The header consists of
    /// preamble, length in words (5 bits), radio (5 bits), wireless binding (5 bits), flags T, F,
    /// L, W, M and K, three reserved flags, fragment ID and fragment offset.
    fn header(words: u32, binding: u32, flags: u32, fragment: u16, frame: &[u8]) -> Vec<u8> {
        let head = words << 19 | binding << 9 | flags << 3;
        let mut bytes = head.to_be_bytes().to_vec();
        bytes.extend([0, 1]);
        bytes.extend((fragment << 3).to_be_bytes());
        bytes.resize((words as usize * 4).max(8), 0);
        bytes.extend(frame);
        bytes
    }

    const NATIVE: u32 = 1 << 5;
    const FRAGMENT: u32 = 1 << 4;
    const KEEP_ALIVE: u32 = 1;

    fn read(bytes: &[u8]) -> Option<Next<'_>> {
        decode(packet(bytes)).map(|header| header.next)
    }

    #[test]
    fn the_native_flag_and_the_binding_name_the_frame() {
        let frame = [0x08, 0x01, 0];
        assert_eq!(read(&header(2, 1, 0, 0, &frame)), Some(Next::Ethernet(packet(&frame))));
        let wlan = Next::Wlan(packet(&frame), WlanForm::Plain);
        assert_eq!(read(&header(2, 1, NATIVE, 0, &frame)), Some(wlan));
        // Binding 3 (EPCglobal) is not IEEE 802.11.
        assert_eq!(read(&header(2, 3, NATIVE, 0, &frame)), None);
        let bytes = header(4, 1, 0, 0, &frame);
        assert_eq!(read(&bytes), Some(Next::Ethernet(packet(&frame))));
        for kept in 0..16 {
            assert_eq!(read(&bytes[..kept]), None, "{kept} bytes");
        }
    }

    #[test]
    fn only_the_first_fragment_contains_the_headers() {
        assert!(read(&header(2, 1, FRAGMENT, 0, &[1; 20])).is_some());
        assert_eq!(read(&header(2, 1, FRAGMENT, 1, &[1; 20])), None);
        // Without the flag, the offset has no meaning.
        assert!(read(&header(2, 1, 0, 1, &[1; 20])).is_some());
    }

    #[test]
    fn keep_alives_other_versions_and_short_headers_are_not_read() {
        assert_eq!(read(&header(2, 1, KEEP_ALIVE, 0, &[1; 20])), None);
        assert_eq!(read(&header(1, 1, 0, 0, &[1; 20])), None);
        let mut bytes = header(2, 1, 0, 0, &[1; 20]);
        bytes[0] = 0x10;
        assert_eq!(read(&bytes), None);
        // Type 1 of the preamble is DTLS.
        bytes[0] = 1;
        assert_eq!(read(&bytes), None);
    }

    #[test]
    fn a_controller_may_swap_the_frame_control_of_data() {
        let form_of = |first: u8, second: u8| form(packet(&[first, second]));
        assert_eq!(form_of(0x08, 0x01), Some(WlanForm::Plain));
        assert_eq!(form_of(0x01, 0x08), Some(WlanForm::Swapped));
        assert_eq!(form_of(0x02, 0x88), Some(WlanForm::Swapped));
        // The order is kept if neither order yields a data frame, if both do, or if the swapped
        // frame has no direction.
        assert_eq!(form_of(0x80, 0x00), Some(WlanForm::Plain));
        assert_eq!(form_of(0x08, 0x08), Some(WlanForm::Plain));
        assert_eq!(form_of(0x40, 0x08), Some(WlanForm::Plain));
        assert_eq!(form(packet(&[0x08])), None);
    }

    #[test]
    fn a_sealed_datagram_starts_with_a_record_of_dtls() {
        // RFC 6347, 4.1: a content type of TLS (20 to 25), version 1.0 (fe ff) or 1.2 (fe fd).
        let sealed = |payload: &[u8]| is_sealed(packet(&[&[0; 8][..], payload].concat()));
        assert!(sealed(&[1, 0, 0, 0, 22, 0xfe, 0xfd]));
        assert!(sealed(&[1, 0, 0, 0, 20, 0xfe, 0xff, 0]));
        assert!(sealed(&[1, 0, 0, 0, 25, 0xfe, 0xfd]));
        for other in [
            &[1, 0, 0, 0, 19, 0xfe, 0xfd][..],
            &[1, 0, 0, 0, 26, 0xfe, 0xfd],
            &[1, 0, 0, 0, 22, 0x03, 0x03],
            &[0, 0, 0, 0, 22, 0xfe, 0xfd],
            &[1, 0, 0, 0, 22, 0xfe],
        ] {
            assert!(!sealed(other), "{other:02x?}");
        }
    }
}
