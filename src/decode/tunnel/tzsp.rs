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
