//! Rows of the matrix. A row allows one role to connect to ports of another role and names the
//! source of this permission.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Pattern;
use crate::model::{Transport, named_enum};

named_enum!(
    /// The scope of a row's traffic.
    Scope {
        /// The traffic goes from one host to another.
        Network = "network",
        /// The traffic goes to or comes from the internet.
        Internet = "internet",
        /// The traffic goes to a broadcast or multicast address.
        Broadcast = "broadcast",
        /// The traffic stays inside one host.
        Localhost = "localhost",
    }
);

named_enum!(
    /// The meaning of missing traffic.
    Expectation {
        /// Missing traffic in a long capture is a finding.
        Steady = "steady",
        /// Missing traffic is not a finding.
        OnDemand = "on-demand",
        /// The traffic occurs only if its feature is on, and then on demand.
        Feature = "feature",
        /// The traffic never appears on a span port.
        Localhost = "localhost",
    }
);

named_enum!(
    /// The pairs of hosts between which the traffic of a group must appear.
    Quantifier {
        /// Each source reaches at least one destination.
        AnyDestination = "any-destination",
        /// At least one host of the source role reaches a destination.
        OneSource = "one-source",
        /// Each pair of hosts communicates in at least one direction.
        EitherDirection = "either-direction",
        /// Each source reaches each destination.
        EveryPair = "every-pair",
    }
);

named_enum!(
    /// The basis of a row, most certain first.
    Certainty {
        /// The lines of the document that the row names.
        Document = "document",
        /// Damaged lines of the document, completed from a public page of the vendor.
        Completed = "completed-from-public-page",
        /// An ambiguous passage of the document. The note gives the other reading.
        Doubtful = "doubtful",
        /// An inference, because the document does not contain the row. The note gives its basis.
        Inferred = "inferred",
    }
);

named_enum!(
    /// The hosts that may connect to a port, as the older document states for each port.
    Exposure {
        /// All network nodes.
        External = "external",
        /// Only hosts of the farm.
        Internal = "internal",
        /// Hosts of the farm connect to this port of a host outside the farm.
        Outbound = "outbound",
        /// Only the host itself.
        Localhost = "localhost",
    }
);

/// The destination of a row if it is not a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndpointTarget {
    /// Any host with a matching name.
    Name(Pattern),
    /// An address.
    Address(IpAddr),
}

/// One row of the matrix, which allows a source role to connect to these ports of a destination
/// role.
#[derive(Clone, Debug)]
pub struct Row {
    /// The stable name of the row, as reports print it.
    pub id: String,
    /// The table of the vendor's document that contains the row.
    pub section: String,
    /// The number of the source role.
    pub source: usize,
    /// The number of the destination role.
    pub destination: usize,
    /// The name or address of the destination, if it is not a role.
    pub only: Option<EndpointTarget>,
    /// The protocol above IP: TCP, UDP, SCTP, or a protocol without ports.
    pub transport: Transport,
    /// The ports, or only 0 for an IP protocol without ports.
    pub ports: RangeInclusive<u16>,
    /// The features that must all be on for the traffic to be allowed.
    pub features: Vec<String>,
    /// Where the traffic goes: to another host, to the internet, to all hosts or inside a host.
    pub scope: Scope,
    /// The hosts that may connect to the port, if the document states them.
    pub exposure: Option<Exposure>,
    /// The multicast addresses that the traffic is sent to; empty if it is not multicast.
    pub multicast: Vec<IpAddr>,
    /// The port of the service that announces which of the ports is in use; `None` if no service
    /// announces it.
    pub announced_by: Option<u16>,
    /// The meaning of missing traffic.
    pub expectation: Expectation,
    /// The purpose of the traffic.
    pub purpose: String,
    /// The document and the line that the row comes from.
    pub provenance: String,
    /// How certain the transcription is.
    pub certainty: Certainty,
    /// A note on doubtful or special aspects of the row.
    pub note: String,
    /// The name of the group of rows that serve the same purpose. A row without a group forms its
    /// own, named after its `id`.
    pub group: String,
    /// The pairs of hosts between which the traffic of the group must appear.
    pub quantifier: Quantifier,
    /// The groups that trigger this row: if the traffic of one of them appears, the traffic of this
    /// row is expected.
    pub triggers: Vec<String>,
    /// The time in seconds that the capture must cover before missing traffic is a finding.
    pub watch_s: u64,
    /// The longest time in seconds for which the traffic may pause although everything works.
    /// Missing traffic is certain only after this time.
    pub pause_s: u64,
    /// Conversations whose rulings the row must determine, written as `FROM > TO TRANSPORT/PORT`.
    pub examples: Vec<Example>,
    /// The overlay that contains the row, or `None` for a row of the matrix itself.
    pub overlay: Option<String>,
    /// The file that contains the row.
    pub file: Arc<str>,
    /// The line in that file, counted from 1.
    pub line: usize,
}

/// A conversation whose ruling a row must determine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Example {
    /// The number of the client's role.
    pub from: usize,
    /// The server: a role, a name, an address, all hosts or the client itself.
    pub to: ExampleTarget,
    /// The protocol above IP.
    pub transport: Transport,
    /// The port, or 0 if the protocol does not have ports.
    pub port: u16,
}

/// The server of an example.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExampleTarget {
    /// A host with this role.
    Role(usize),
    /// All hosts on the link, or a multicast address of the row.
    Everybody,
    /// The client itself.
    Itself,
    /// Any host with this name.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Row {
    /// Returns whether the traffic is expected, always or after a trigger.
    pub fn is_expected(&self) -> bool {
        self.expectation == Expectation::Steady || !self.triggers.is_empty()
    }

    /// Returns whether the row is doubtful or inferred. Findings that are based on it must state
    /// this.
    pub fn is_doubtful(&self) -> bool {
        self.certainty >= Certainty::Doubtful
    }

    /// Returns the ports as text, or an empty string for a protocol without ports.
    pub fn ports_text(&self) -> String {
        match (self.ports.start(), self.ports.end()) {
            _ if !self.transport.has_ports() => String::new(),
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low}-{high}"),
        }
    }
}
