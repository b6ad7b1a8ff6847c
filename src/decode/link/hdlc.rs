//! Serial lines: PPP with or without HDLC framing (LINKTYPE_PPP, 9; LINKTYPE_PPP_HDLC, 50; with a
//! leading direction byte, 166 and 204), PPP over Ethernet (LINKTYPE_PPP_ETHER, 51) and Cisco HDLC
//! (LINKTYPE_C_HDLC, 104).

use crate::decode::{CUT, DecodeState, Next, Packet, ppp};
use crate::model::SkipReason;

/// The "all stations" address and the "unnumbered information" control byte of PPP in HDLC framing.
const FRAMING: &[u8] = &[0xff, 0x03];

pub(super) fn ppp<'p>(packet: Packet<'p>, _: &mut DecodeState<'_>) -> Result<Next<'p>, SkipReason> {
    Ok(match packet.after(FRAMING.len()).filter(|_| packet.bytes.starts_with(FRAMING)) {
        Some(inner) => Next::Ppp(inner),
        None => match packet.bytes {
            // Cisco framing under the link type of PPP: a unicast or broadcast address, and a
            // control byte of zero.
            [0x0f | 0x8f, 0x00, ..] => cisco_rest(packet)?,
            _ => Next::Ppp(packet),
        },
    })
}

pub(super) fn ppp_direction<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    ppp(packet.after(1).ok_or(CUT)?, layers)
}

pub(super) fn pppoe<'p>(
    packet: Packet<'p>,
    layers: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    ppp::session(packet, layers)
}

pub(super) fn cisco<'p>(
    packet: Packet<'p>,
    _: &mut DecodeState<'_>,
) -> Result<Next<'p>, SkipReason> {
    cisco_rest(packet)
}

/// Reads the EtherType that follows the address and control bytes.
fn cisco_rest(packet: Packet<'_>) -> Result<Next<'_>, SkipReason> {
    Ok(Next::Ether(packet.u16(2).ok_or(CUT)?, packet.after(4).ok_or(CUT)?))
}
