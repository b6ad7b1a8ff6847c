//! The control and provisioning of wireless access points (RFC 5415), whose data channel carries the frames of clients:
//! IEEE 802.11 (RFC 5416), or Ethernet.

use super::{Next, Packet, Tunnel, TunnelHeader};
use crate::decode::WlanForm;

pub(super) fn decode(packet: Packet<'_>) -> Option<TunnelHeader<'_>> {
    const NATIVE: u32 = 1 << 8;
    const IS_FRAGMENT: u32 = 1 << 7;
    const KEEP_ALIVE: u32 = 1 << 3;
    /// The binding of IEEE 802.11.
    const WLAN: u32 = 1;
    let head = packet.u32(0)?;
    // Version 0 and a header in clear; where it is DTLS, nothing can be read.
    if head >> 24 != 0 || head & KEEP_ALIVE != 0 {
        return None;
    }
    let length = (head >> 19 & 0x1f) as usize * 4;
    // The fixed part has two words. The headers of a fragmented frame are in its first fragment.
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

/// Whether a datagram is one of DTLS (RFC 5415, 4.2), whose content nobody can read: its own header, and a record behind
/// it (RFC 6347, 4.1).
pub(super) fn is_sealed(datagram: Packet<'_>) -> bool {
    const UDP_HEADER: usize = 8;
    let payload = datagram.bytes.get(UDP_HEADER..).unwrap_or_default();
    matches!(payload, [1, 0, 0, 0, 20..=25, 0xfe, 0xff | 0xfd, ..])
}

/// The form of an infrastructure data frame: controllers of Cisco write the two bytes of its frame control in the other
/// order.
fn form(frame: Packet<'_>) -> Option<WlanForm> {
    let &[first, second, ..] = frame.bytes else { return None };
    let is_data = |byte: u8| byte & 0x0f == 0x08;
    Some(if !is_data(first) && is_data(second) && first & 3 != 0 {
        WlanForm::Swapped
    } else {
        WlanForm::Plain
    })
}
