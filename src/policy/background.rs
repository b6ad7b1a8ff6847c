//! Background traffic, which occurs in every network and does not belong to a product.

use crate::model::Transport;

/// A kind of background traffic. Except for ICMP, only traffic to a broadcast, multicast or
/// link-local address, or a direct reply to such traffic, is background traffic.
#[derive(Clone, Debug)]
pub struct Background {
    /// The stable name in the rule file.
    pub id: String,
    /// The protocol above IP.
    pub transport: Transport,
    /// The server port, or `None` for all ports.
    pub port: Option<u16>,
    /// Whether traffic to any address is background traffic (ICMP).
    pub anywhere: bool,
}
