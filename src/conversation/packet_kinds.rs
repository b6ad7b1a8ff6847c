//! The kinds of packets that a capture contains. A capture that lacks a kind that every network has
//! was probably taken with a filter, even if its file does not state one.

use std::net::IpAddr;

use crate::flow::{DirectionStats, flag};
use crate::model::{Merge, Transport};

/// The number of connections without any other segment from which on a capture counts as filtered.
const SEVERAL_CONNECTIONS: u64 = 3;

/// The kinds of packets outside undeclared tunnels.
#[derive(Clone, Default)]
pub(super) struct PacketKinds {
    has_tcp: bool,
    has_udp: bool,
    has_ipv4: bool,
    has_ipv6: bool,
    /// The number of TCP connections whose opening was seen.
    opened: u64,
    /// One of their clients.
    client: Option<IpAddr>,
    /// Whether they have several clients.
    has_several_clients: bool,
    /// Whether any TCP segment is neither a SYN nor a FIN nor an RST.
    has_plain_segments: bool,
}

impl PacketKinds {
    /// Adds packets of a transport from an address.
    pub fn add(&mut self, transport: Transport, sender: IpAddr) {
        self.has_tcp |= transport == Transport::TCP;
        self.has_udp |= transport == Transport::UDP;
        self.has_ipv4 |= sender.is_ipv4();
        self.has_ipv6 |= sender.is_ipv6();
    }

    /// Adds the segments of one side of a TCP connection.
    pub fn add_segments(&mut self, side: &DirectionStats) {
        // A FIN is also an ACK.
        self.has_plain_segments |=
            side.has(flag::DATA) || side.has(flag::ACK) && !side.has(flag::FIN);
    }

    /// Adds a TCP connection whose opening was seen.
    pub fn add_opened(&mut self, client: IpAddr) {
        self.opened += 1;
        self.add_client(client);
    }

    fn add_client(&mut self, client: IpAddr) {
        self.has_several_clients |= *self.client.get_or_insert(client) != client;
    }

    /// Returns whether the capture lacks a transport that every network has.
    pub fn lack(&self, transport: Transport) -> bool {
        match transport {
            Transport::TCP => !self.has_tcp,
            Transport::UDP => !self.has_udp,
            _ => false,
        }
    }

    /// Returns whether the capture lacks the IP version of an address although it contains the
    /// other one.
    pub fn lack_version_of(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.has_ipv6 && !self.has_ipv4,
            IpAddr::V6(_) => self.has_ipv4 && !self.has_ipv6,
        }
    }

    /// Returns whether the capture contains no TCP segments other than those that open and close
    /// connections, although it shows several connections. They must have two clients, so that no
    /// host alone can bring this about.
    pub fn are_only_openings(&self) -> bool {
        !self.has_plain_segments && self.opened >= SEVERAL_CONNECTIONS && self.has_several_clients
    }
}

impl Merge for PacketKinds {
    fn merge(&mut self, other: &Self) {
        self.has_tcp |= other.has_tcp;
        self.has_udp |= other.has_udp;
        self.has_ipv4 |= other.has_ipv4;
        self.has_ipv6 |= other.has_ipv6;
        self.opened += other.opened;
        self.has_several_clients |= other.has_several_clients;
        other.client.into_iter().for_each(|client| self.add_client(client));
        self.has_plain_segments |= other.has_plain_segments;
    }
}
