//! Traffic of every network, which belongs to no product.

use crate::model::Transport;

/// Traffic that belongs to no product: only to a broadcast, multicast or link-local address or the
/// direct answer to such, and ICMP.
#[derive(Clone, Debug)]
pub struct Background {
    /// Its stable name.
    pub id: String,
    /// The protocol above IP.
    pub transport: Transport,
    /// The server port; none matches every one.
    pub port: Option<u16>,
    /// It is background towards any address (ICMP).
    pub anywhere: bool,
}
