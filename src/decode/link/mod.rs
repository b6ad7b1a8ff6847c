//! Link types: one file each, one line in the list.

mod cooked;
pub(super) mod ethernet;
mod hdlc;
mod raw;
mod wireless;

use super::{Layers, Next, Packet};
use crate::model::SkipReason;

/// Reads the header of a link type and says what it carries.
type LinkDecoder = for<'p> fn(Packet<'p>, &mut Layers<'_>) -> Result<Next<'p>, SkipReason>;

/// The link types that are decoded: registry number (LINKTYPE), name, the document that describes it,
/// since which version, decoder. The commonest first.
#[allow(
    private_interfaces,
    reason = "the list is read for its names; only this room calls decoders"
)]
pub const LINKS: &[(u16, &str, &str, &str, LinkDecoder)] = &[
    (1, "Ethernet", "IEEE 802.3", "0.1", ethernet::decode),
    (113, "Linux cooked", "LINKTYPE_LINUX_SLL", "0.1", cooked::version_1),
    (276, "Linux cooked, version 2", "LINKTYPE_LINUX_SLL2", "0.1", cooked::version_2),
    (101, "raw IP", "LINKTYPE_RAW", "0.1", raw::either),
    (12, "raw IP", "DLT_RAW of most systems", "0.1", raw::either),
    (14, "raw IP", "DLT_RAW of OpenBSD", "0.1", raw::either),
    (228, "raw IPv4", "LINKTYPE_IPV4", "0.1", raw::v4),
    (229, "raw IPv6", "LINKTYPE_IPV6", "0.1", raw::v6),
    (0, "BSD loopback, Npcap loopback", "LINKTYPE_NULL", "0.1", raw::family),
    (108, "OpenBSD loopback", "LINKTYPE_LOOP", "0.1", raw::family),
    (9, "PPP", "RFC 1661, RFC 1662", "0.1", hdlc::ppp),
    (50, "PPP in HDLC framing", "RFC 1662", "0.1", hdlc::ppp),
    (51, "PPP over Ethernet", "RFC 2516", "0.1", hdlc::pppoe),
    (166, "PPP with a direction", "LINKTYPE_PPP_PPPD", "0.1", hdlc::ppp_direction),
    (204, "PPP with a direction", "LINKTYPE_PPP_WITH_DIR", "0.1", hdlc::ppp_direction),
    (104, "Cisco HDLC", "LINKTYPE_C_HDLC", "0.1", hdlc::cisco),
    (105, "IEEE 802.11", "IEEE 802.11", "0.1", wireless::plain),
    (127, "IEEE 802.11 with radiotap", "radiotap.org", "0.1", wireless::radiotap),
    (119, "IEEE 802.11 with Prism header", "LINKTYPE_IEEE802_11_PRISM", "0.1", wireless::prism),
    (163, "IEEE 802.11 with AVS header", "LINKTYPE_IEEE802_11_AVS", "0.1", wireless::avs),
];
