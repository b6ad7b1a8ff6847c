//! Link types. Each family has a file, and each link type has an entry in [`LINKS`].

mod cooked;
pub(super) mod ethernet;
mod hdlc;
mod raw;
mod switch;
mod wireless;

use super::{DecodeState, Next, Packet};
use crate::model::SkipReason;

/// A function that reads the header of a link type and returns the content after it.
type LinkDecoder = for<'p> fn(Packet<'p>, &mut DecodeState<'_>) -> Result<Next<'p>, SkipReason>;

/// A link type that rasaudit decodes.
pub struct LinkType {
    /// The number of the link type in the registry of LINKTYPE values.
    pub number: u16,
    /// The name of the link type, for example `Ethernet`.
    pub name: &'static str,
    /// The document that specifies the link type, for example `IEEE 802.3`.
    pub document: &'static str,
    /// The version of rasaudit that first decoded the link type.
    pub since: &'static str,
    pub(super) decode: LinkDecoder,
}

const fn link(
    number: u16,
    name: &'static str,
    document: &'static str,
    since: &'static str,
    decode: LinkDecoder,
) -> LinkType {
    LinkType { number, name, document, since, decode }
}

/// The link types that are decoded, the most common first.
pub const LINKS: &[LinkType] = &[
    link(1, "Ethernet", "IEEE 802.3", "0.1", ethernet::decode),
    link(113, "Linux cooked", "LINKTYPE_LINUX_SLL", "0.1", cooked::version_1),
    link(276, "Linux cooked, version 2", "LINKTYPE_LINUX_SLL2", "0.1", cooked::version_2),
    link(101, "raw IP", "LINKTYPE_RAW", "0.1", raw::either),
    link(12, "raw IP", "DLT_RAW of most systems", "0.1", raw::either),
    link(14, "raw IP", "DLT_RAW of OpenBSD", "0.1", raw::either),
    link(228, "raw IPv4", "LINKTYPE_IPV4", "0.1", raw::v4),
    link(229, "raw IPv6", "LINKTYPE_IPV6", "0.1", raw::v6),
    link(0, "BSD loopback, Npcap loopback", "LINKTYPE_NULL", "0.1", raw::family),
    link(108, "OpenBSD loopback", "LINKTYPE_LOOP", "0.1", raw::family),
    link(9, "PPP", "RFC 1661, RFC 1662", "0.1", hdlc::ppp),
    link(50, "PPP in HDLC framing", "RFC 1662", "0.1", hdlc::ppp),
    link(51, "PPP over Ethernet", "RFC 2516", "0.1", hdlc::pppoe),
    link(166, "PPP with a direction", "LINKTYPE_PPP_PPPD", "0.1", hdlc::ppp_direction),
    link(204, "PPP with a direction", "LINKTYPE_PPP_WITH_DIR", "0.1", hdlc::ppp_direction),
    link(104, "Cisco HDLC", "LINKTYPE_C_HDLC", "0.1", hdlc::cisco),
    link(105, "IEEE 802.11", "IEEE 802.11", "0.1", wireless::plain),
    link(127, "IEEE 802.11 with radiotap", "radiotap.org", "0.1", wireless::radiotap),
    link(119, "IEEE 802.11 with Prism header", "LINKTYPE_IEEE802_11_PRISM", "0.1", wireless::prism),
    link(281, "Ethernet with a Broadcom tag", "LINKTYPE_DSA_TAG_BRCM", "0.1", switch::broadcom),
    link(
        282,
        "Ethernet behind a Broadcom tag",
        "LINKTYPE_DSA_TAG_BRCM_PREPEND",
        "0.1",
        switch::broadcom_before,
    ),
    link(284, "Ethernet with a Marvell tag", "LINKTYPE_DSA_TAG_DSA", "0.1", switch::dsa),
    link(285, "Ethernet with a Marvell EtherType", "LINKTYPE_DSA_TAG_EDSA", "0.1", switch::edsa),
    link(163, "IEEE 802.11 with AVS header", "LINKTYPE_IEEE802_11_AVS", "0.1", wireless::avs),
];

#[cfg(test)]
mod tests {
    use super::LINKS;
    use crate::decode::sample::frame;
    use crate::model::SkipReason;

    #[test]
    fn an_empty_frame_is_truncated_on_every_link() {
        for link in LINKS {
            let reason = match link.number {
                // In frames of these link types, nothing precedes the IP packet.
                101 | 12 | 14 | 228 | 229 => SkipReason::TruncatedIpHeader,
                _ => SkipReason::TruncatedLinkHeader,
            };
            assert_eq!(frame(link.number, &[], 0), Err(reason), "{}", link.name);
        }
    }
}
