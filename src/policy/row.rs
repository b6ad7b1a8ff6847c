//! Rows of the matrix: who may open which ports to whom, and what that rests on.

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
    /// What silence means.
    Expectation {
        /// Silence in a long capture is a finding.
        Steady = "steady",
        /// Silence means nothing.
        OnDemand = "on-demand",
        /// Only with its feature; then as on demand.
        Feature = "feature",
        /// Never on a span.
        Localhost = "localhost",
    }
);

named_enum!(
    /// Which pairs of hosts have to show a group's traffic.
    Quantifier {
        /// Each source reaches at least one destination.
        AnyDestination = "any-destination",
        /// One host of the source role is enough.
        OneSource = "one-source",
        /// One direction between each two hosts is enough.
        EitherDirection = "either-direction",
        /// Each source reaches each destination.
        EveryPair = "every-pair",
    }
);

named_enum!(
    /// What a row rests on.
    Certainty {
        /// Its lines of the document carry it.
        Document = "document",
        /// A public page of the vendor completed damaged lines.
        Completed = "completed-from-public-page",
        /// The document can be read in another way; the note says how.
        Doubtful = "doubtful",
        /// It stands in no line; the note says what it was inferred from.
        Inferred = "inferred",
    }
);

named_enum!(
    /// From where a port may be reached, as the older document says of each.
    Exposure {
        /// From all network nodes.
        External = "external",
        /// From the farm alone.
        Internal = "internal",
        /// It is the farm that goes out.
        Outbound = "outbound",
        /// From the host itself.
        Localhost = "localhost",
    }
);

/// The one destination of a row that stands for no role.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndpointTarget {
    /// Whoever has a name.
    Name(Pattern),
    /// An address.
    Address(IpAddr),
}

/// One row of the matrix: a source role may open these ports of a destination role.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its stable name.
    pub id: String,
    /// The table of the vendor's document that it stands in.
    pub section: String,
    /// The source role's number.
    pub source: usize,
    /// The destination role's number.
    pub destination: usize,
    /// The destination, where it is no role.
    pub only: Option<EndpointTarget>,
    /// TCP, UDP, or an IP protocol without ports.
    pub transport: Transport,
    /// The ports; for IP protocols zero alone.
    pub ports: RangeInclusive<u16>,
    /// The features that it needs, all of them.
    pub features: Vec<String>,
    /// Where its traffic goes.
    pub scope: Scope,
    /// From where the document lets the port be reached, if it says so.
    pub exposure: Option<Exposure>,
    /// The multicast addresses that its traffic goes to; none where it is broadcast.
    pub multicast: Vec<IpAddr>,
    /// The port of the service that announces which of the ports is in use.
    pub announced_by: Option<u16>,
    /// What silence means.
    pub expectation: Expectation,
    /// What the traffic is for.
    pub purpose: String,
    /// The document and line it comes from.
    pub provenance: String,
    /// How sure the transcription is.
    pub certainty: Certainty,
    /// What is doubtful or particular.
    pub note: String,
    /// Rows that serve one purpose share a group.
    pub group: String,
    /// Which pairs of hosts have to show the group's traffic.
    pub quantifier: Quantifier,
    /// Groups any of which, when seen, makes this row expected.
    pub triggers: Vec<String>,
    /// Seconds to be watched before silence means anything.
    pub watch_s: u64,
    /// Conversations that it must decide: `FROM > TO TRANSPORT/PORT`.
    pub examples: Vec<Example>,
    /// The overlay that it stands in; none for a row of the matrix itself.
    pub overlay: Option<String>,
    /// The file that it stands in.
    pub file: Arc<str>,
    /// Its line there.
    pub line: usize,
}

/// A conversation that a row must decide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Example {
    /// The client's role.
    pub from: usize,
    /// Whom it goes to.
    pub to: ExampleTarget,
    /// The protocol above IP.
    pub transport: Transport,
    /// The port; zero where the protocol has none.
    pub port: u16,
}

/// The server of an example.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExampleTarget {
    /// A host of this role.
    Role(usize),
    /// Everybody on the link, or a multicast address of the row.
    Everybody,
    /// The client itself.
    Itself,
    /// Whoever has this name.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Row {
    /// Whether its traffic has to show: always, or after a trigger.
    pub fn is_expected(&self) -> bool {
        self.expectation == Expectation::Steady || !self.triggers.is_empty()
    }

    /// Whether the document's reading is in doubt, so that a finding decided by it must say so.
    pub fn is_doubtful(&self) -> bool {
        self.certainty >= Certainty::Doubtful
    }

    /// The ports in words.
    pub fn ports_text(&self) -> String {
        match (self.ports.start(), self.ports.end()) {
            _ if !self.transport.has_ports() => String::new(),
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("{low}-{high}"),
        }
    }
}
