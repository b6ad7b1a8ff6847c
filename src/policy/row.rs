//! Rows of the matrix: which role may open which ports of which other role, and what that is based
//! on.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Pattern;
use crate::model::{Transport, named_enum};

named_enum!(
    /// Where a row's traffic goes.
    Scope {
        /// From host to host.
        Network = "network",
        /// To or from the internet.
        Internet = "internet",
        /// To a broadcast or multicast address.
        Broadcast = "broadcast",
        /// Inside one host.
        Localhost = "localhost",
    }
);

named_enum!(
    /// The meaning of missing traffic.
    Expectation {
        /// Missing traffic in a long capture is a finding.
        Steady = "steady",
        /// Missing traffic means nothing.
        OnDemand = "on-demand",
        /// The traffic occurs only with its feature, and then on demand.
        Feature = "feature",
        /// The traffic never appears on a span port.
        Localhost = "localhost",
    }
);

named_enum!(
    /// The pairs of hosts that must show the traffic of a group.
    Quantifier {
        /// Each source reaches at least one destination.
        AnyDestination = "any-destination",
        /// One host of the source role is enough.
        OneSource = "one-source",
        /// One direction between every two hosts is enough.
        EitherDirection = "either-direction",
        /// Each source reaches each destination.
        EveryPair = "every-pair",
    }
);

named_enum!(
    /// The basis of a row.
    Certainty {
        /// The lines of the document that the row names support it.
        Document = "document",
        /// A public page of the vendor completed damaged lines.
        Completed = "completed-from-public-page",
        /// The document can be read in another way. The note says how.
        Doubtful = "doubtful",
        /// No line of the document contains it. The note says what it was inferred from.
        Inferred = "inferred",
    }
);

named_enum!(
    /// Where a port may be reached from, as the older document states for each port.
    Exposure {
        /// From all network nodes.
        External = "external",
        /// Only from the farm.
        Internal = "internal",
        /// The farm opens the connection to the outside.
        Outbound = "outbound",
        /// From the host itself.
        Localhost = "localhost",
    }
);

/// The single destination of a row that is not a role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndpointTarget {
    /// Any host with a matching name.
    Name(Pattern),
    /// An address.
    Address(IpAddr),
}

/// One row of the matrix: a source role may open these ports of a destination role.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its stable name.
    pub id: String,
    /// The table of the vendor's document that contains it.
    pub section: String,
    /// The number of the source role.
    pub source: usize,
    /// The number of the destination role.
    pub destination: usize,
    /// The destination, if it is not a role.
    pub only: Option<EndpointTarget>,
    /// TCP, UDP, or an IP protocol without ports.
    pub transport: Transport,
    /// The ports; only 0 for an IP protocol without ports.
    pub ports: RangeInclusive<u16>,
    /// The features that it needs, all of which must be on.
    pub features: Vec<String>,
    /// The destination of its traffic.
    pub scope: Scope,
    /// Where the document lets the port be reached from, if it says so.
    pub exposure: Option<Exposure>,
    /// The multicast addresses that its traffic goes to; empty if it is broadcast.
    pub multicast: Vec<IpAddr>,
    /// The port of the service that announces which of the ports is in use.
    pub announced_by: Option<u16>,
    /// The meaning of missing traffic.
    pub expectation: Expectation,
    /// The purpose of the traffic.
    pub purpose: String,
    /// The document and line that it comes from.
    pub provenance: String,
    /// How certain the transcription is.
    pub certainty: Certainty,
    /// What is doubtful or special about it.
    pub note: String,
    /// The group of rows that serve the same purpose.
    pub group: String,
    /// The pairs of hosts that must show the traffic of the group.
    pub quantifier: Quantifier,
    /// The groups that make this row expected. The traffic of one of them is enough.
    pub triggers: Vec<String>,
    /// The number of seconds to watch before missing traffic means anything.
    pub watch_s: u64,
    /// Conversations that it must decide: `FROM > TO TRANSPORT/PORT`.
    pub examples: Vec<Example>,
    /// The overlay that contains it; `None` for a row of the matrix itself.
    pub overlay: Option<String>,
    /// The file that contains it.
    pub file: Arc<str>,
    /// Its line in that file.
    pub line: usize,
}

/// A conversation that a row must decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Example {
    /// The role of the client.
    pub from: usize,
    /// The server.
    pub to: ExampleTarget,
    /// The protocol above IP.
    pub transport: Transport,
    /// The port; 0 if the protocol does not have ports.
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
    /// Returns whether its traffic must appear: always, or after a trigger.
    pub fn is_expected(&self) -> bool {
        self.expectation == Expectation::Steady || !self.triggers.is_empty()
    }

    /// Returns whether the row is doubtful or inferred, so that a finding that it decides must say
    /// so.
    pub fn is_doubtful(&self) -> bool {
        self.certainty >= Certainty::Doubtful
    }

    /// Returns the ports in words; empty for a protocol without ports.
    pub fn ports_text(&self) -> String {
        match (self.ports.start(), self.ports.end()) {
            _ if !self.transport.has_ports() => String::new(),
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low}-{high}"),
        }
    }
}
