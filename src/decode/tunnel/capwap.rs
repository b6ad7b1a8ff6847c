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
    // Only version 0 with an unencrypted header is read. DTLS hides the content, and keep-alives
    // carry no frames.
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
