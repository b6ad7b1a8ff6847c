//! Link types: one file each, one line in the list.

mod cooked;
mod ethernet;
mod raw;

use super::{Observation, Packet};
use crate::model::SkipReason;

/// Decodes a frame of one link type into what it carries.
type LinkDecoder = fn(Packet<'_>, &mut Observation) -> Result<(), SkipReason>;

/// The link types that are decoded: registry number (LINKTYPE), name, decoder. The commonest first.
#[allow(
    private_interfaces,
    reason = "the list is read for its names; only this room calls decoders"
)]
pub const LINKS: &[(u16, &str, LinkDecoder)] = &[
    (1, "Ethernet", ethernet::decode),
    (113, "Linux cooked", cooked::version_1),
    (276, "Linux cooked, version 2", cooked::version_2),
    (101, "raw IP", raw::either),
    (12, "raw IP", raw::either),
    (14, "raw IP", raw::either),
    (228, "raw IPv4", raw::v4),
    (229, "raw IPv6", raw::v6),
    (0, "BSD loopback", raw::family),
    (108, "OpenBSD loopback", raw::family),
];
