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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::sample::{assert_truncation, next, packet};

    #[test]
    fn framing_is_skipped_if_it_is_there() {
        // RFC 1662, 3.1: address 0xff, control 0x03.
        let bytes = [0xff, 0x03, 0x00, 0x21, 0x45];
        assert_eq!(next(ppp, &bytes), Ok(Next::Ppp(packet(&bytes[2..]))));
        // RFC 1661, 6.6: both bytes may be left out.
        assert_eq!(next(ppp, &bytes[2..]), Ok(Next::Ppp(packet(&bytes[2..]))));
        // Bytes with another control byte are not framing, and neither is a single byte.
        let other = [0xff, 0x13, 0x00, 0x21];
        assert_eq!(next(ppp, &other), Ok(Next::Ppp(packet(&other))));
        assert_eq!(next(ppp, &[0xff]), Ok(Next::Ppp(packet(&[0xff]))));
    }

    #[test]
    fn cisco_framing_is_recognized_under_the_link_type_of_ppp() {
        for address in [0x0f, 0x8f] {
            let bytes = [address, 0x00, 0x08, 0x00, 0x45];
            let expected = Ok(Next::Ether(0x0800, packet(&[0x45])));
            assert_eq!(next(ppp, &bytes), expected);
            assert_eq!(next(cisco, &bytes), Ok(Next::Ether(0x0800, packet(&[0x45]))));
            assert_eq!(next(ppp, &bytes[..3]), Err(CUT));
        }
        let other = [0x0f, 0x01, 0x08, 0x00, 0x45];
        assert_eq!(next(ppp, &other), Ok(Next::Ppp(packet(&other))));
        // In Cisco HDLC, the framing is always there, so its bytes are not checked.
        assert_truncation(cisco, &[0x55, 0x55, 0x86, 0xdd, 0x60, 0], 4, CUT);
    }

    #[test]
    fn a_direction_comes_before_the_framing() {
        let bytes = [0x01, 0xff, 0x03, 0x00, 0x21, 0x45];
        assert_eq!(next(ppp_direction, &bytes), Ok(Next::Ppp(packet(&bytes[3..]))));
        assert_eq!(next(ppp_direction, &[]), Err(CUT));
    }

    #[test]
    fn a_session_packet_has_its_own_link_type() {
        let bytes = [0x11, 0, 0, 1, 0, 2, 0x00, 0x21];
        assert_eq!(next(pppoe, &bytes), Ok(Next::Ppp(packet(&[0x00, 0x21]))));
        assert_eq!(next(pppoe, &bytes[..5]), Err(CUT));
    }
}
