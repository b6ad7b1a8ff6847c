//! Link types: one file each, one line in the list.

mod ethernet;

use super::{Observation, Packet};
use crate::model::SkipReason;

/// Decodes a frame of one link type into what it carries.
type LinkDecoder = fn(Packet<'_>, &mut Observation) -> Result<(), SkipReason>;

/// The link types that are decoded: registry number (LINKTYPE), name, decoder.
#[allow(
    private_interfaces,
    reason = "the list is read for its names; only this room calls decoders"
)]
pub const LINKS: &[(u16, &str, LinkDecoder)] = &[(1, "Ethernet", ethernet::decode)];
