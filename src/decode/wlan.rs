//! IEEE 802.11 frames: the data frames in clear; all others are counted by what they are.

use super::{Layers, Next, Packet};
use crate::model::{Mac, SkipReason};

const CUT: SkipReason = SkipReason::TruncatedLinkHeader;

pub(super) fn decode<'p>(
    packet: Packet<'p>,
    padded: bool,
    layers: &mut Layers<'_>,
) -> Result<Next<'p>, SkipReason> {
    let &[control, flags, ..] = packet.bytes else {
        return Err(CUT);
    };
    let (version, kind, subtype) = (control & 3, control >> 2 & 3, control >> 4);
    // Only data frames carry packets, and of them not those whose subtype says "no data".
    if version != 0 || kind != 2 || subtype & 4 != 0 {
        return Err(SkipReason::WlanManagement);
    }
    let (to_system, from_system) = (flags & 1 != 0, flags & 2 != 0);
    let protected = flags & 0x40 != 0;
    let address = |at: usize| -> Result<Mac, SkipReason> {
        let bytes = packet.bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(CUT)?;
        Ok(Mac(*bytes))
    };
    let (first, second, third) = (address(4)?, address(10)?, address(16)?);
    let mut length = 24;
    let (destination, source) = match (to_system, from_system) {
        (false, false) => (first, second),
        (false, true) => (first, third),
        (true, false) => (third, second),
        (true, true) => {
            length += 6;
            (third, address(24)?)
        }
    };
    if protected {
        return Err(SkipReason::EncryptedLink);
    }
    if packet.u16(22).ok_or(CUT)?.swap_bytes() & 0x0f != 0 {
        return Err(SkipReason::WlanFragment);
    }
    if subtype & 8 != 0 {
        // Quality of service; its seventh bit says that several packets follow in one frame.
        if packet.bytes.get(length).ok_or(CUT)? & 0x80 != 0 {
            return Err(SkipReason::WlanAggregate);
        }
        length += 2;
        // High-throughput control.
        if flags & 0x80 != 0 {
            length += 4;
        }
    }
    if padded {
        length = length.next_multiple_of(4);
    }
    layers.seen.link.source = source;
    layers.seen.broadcast = destination == Mac::BROADCAST;
    Ok(Next::Llc(packet.after(length).ok_or(CUT)?))
}
