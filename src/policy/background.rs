//! Traffic found in every network, which belongs to no product.

use crate::model::Transport;

/// Traffic that belongs to no product. Except for ICMP, only traffic to a broadcast, multicast or
/// link-local address, or in direct answer to such traffic, is background traffic.
#[derive(Clone, Debug)]
pub struct Background {
    /// Its stable name.
    pub id: String,
    /// The protocol above IP.
    pub transport: Transport,
    /// The server port; `None` matches every port.
    pub port: Option<u16>,
    /// Whether it is background traffic towards any address (ICMP).
    pub anywhere: bool,
}
