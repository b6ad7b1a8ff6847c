//! Rows of the tables, with their columns in the order that scripts rely on.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Time;

/// A value that can be written to a cell of a table.
pub trait Cell {
    /// Appends the text of the value to `out`.
    fn write(&self, out: &mut String);
}

/// Implements [`Cell`] for types that are written with `Display`.
macro_rules! displayed {
    ($($type:ty),+) => {$(
        impl Cell for $type {
            fn write(&self, out: &mut String) {
                use std::fmt::Write as _;
                let _ = write!(out, "{self}");
            }
        }
    )+};
}
displayed!(u16, u64, String, Cow<'_, str>, IpAddr, Time, Share);

impl Cell for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "yes" } else { "no" });
    }
}

impl<T: Cell> Cell for Option<T> {
    fn write(&self, out: &mut String) {
        if let Some(value) = self {
            value.write(out);
        }
    }
}

/// Several values in one cell, joined by `;`. In JSON they are an array.
impl<T: Cell> Cell for Vec<T> {
    fn write(&self, out: &mut String) {
        for (number, value) in self.iter().enumerate() {
            if number > 0 {
                out.push(';');
            }
            value.write(out);
        }
    }
}

/// A share from 0 to 1, in units of 1/10,000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share(u64);

impl Share {
    /// Returns `part` as a share of `whole`, or `None` if `whole` is 0.
    pub(super) fn of(part: u64, whole: u64) -> Option<Self> {
        if whole == 0 {
            return None;
        }
        let share = u128::from(part.min(whole)) * 10_000 / u128::from(whole);
        // A share above zero must not be shown as zero, however small it is.
        Some(Self((share as u64).max(u64::from(part > 0))))
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:04}", self.0 / 10_000, self.0 % 10_000)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 10_000.0)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        Ok(Self((share.clamp(0.0, 1.0) * 10_000.0).round() as u64))
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 1})
    }
}

/// Defines a row type whose columns are its fields, in order.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident<$life:lifetime> { $($(#[$about:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
        pub struct $name<$life> { $($(#[$about])* pub $field: $type,)+ }

        impl $name<'_> {
            /// The names of the columns.
            pub const COLUMNS: &'static [&'static str] = &[$(stringify!($field),)+];

            /// Passes the text of each cell to `each`.
            pub fn cells(&self, mut each: impl FnMut(&str)) {
                let mut text = String::new();
                $(
                    text.clear();
                    self.$field.write(&mut text);
                    each(&text);
                )+
            }
        }
    };
}

pub(super) use record;

record!(
    /// A conversation: all flows between a client and a server on one service port.
    ConversationRow<'a> {
        /// The address of the client.
        client: IpAddr,
        /// The name of the client's host in the inventory, or of its network if no host is listed.
        client_name: Cow<'a, str>,
        /// The roles of the client.
        client_roles: Vec<Cow<'a, str>>,
        /// The address of the server.
        server: IpAddr,
        /// The name of the server's host in the inventory, or of its network if no host is listed.
        server_name: Cow<'a, str>,
        /// The roles of the server.
        server_roles: Vec<Cow<'a, str>>,
        /// The protocol above IP.
        transport: String,
        /// The port of the server, or the type of an ICMP message. Null for other protocols.
        port: Option<u16>,
        /// The verdict on the conversation. Empty without an inventory.
        verdict: Cow<'a, str>,
        /// The code that gives the reason for the verdict. Empty without an inventory.
        code: Cow<'a, str>,
        /// The severity of the conversation. Empty without an inventory.
        severity: Cow<'a, str>,
        /// Whether the verdict is certain; if not, `doubt` has the reasons. Null without an
        /// inventory.
        certain: Option<bool>,
        /// The best state of the flows.
        state: Cow<'a, str>,
        /// The evidence that shows which end is the client.
        direction: Cow<'a, str>,
        /// The row of the matrix, or the exception (`exception:ID`), that the verdict is based on.
        rule: String,
        /// The number of five-tuples.
        flows: u64,
        /// The number of SYNs that the client sent, including retransmissions.
        attempts: u64,
        /// The number of five-tuples that were established.
        established: u64,
        /// The number of packets that the client sent.
        packets_to_server: u64,
        /// The number of packets that the server sent.
        packets_to_client: u64,
        /// The number of bytes that the client sent.
        bytes_to_server: u64,
        /// The number of bytes that the server sent.
        bytes_to_client: u64,
        /// The time of the earliest packet or ICMP error.
        first_seen: Option<Time>,
        /// The time of the latest packet or ICMP error.
        last_seen: Option<Time>,
        /// The names of the server that the capture shows.
        names: Vec<String>,
        /// The encapsulations of the packets, such as `vlan:20` or `vxlan:7`.
        tags: Vec<String>,
        /// The Community ID (version 1, seed 0) of the first flow. Empty if the conversation is
        /// aggregated.
        community_id: String,
        /// The reasons why the verdict is not certain.
        doubt: Vec<Cow<'a, str>>,
        /// The verdict and the code that would apply if client and server were exchanged.
        other_reading: String,
        /// The endpoints of the tunnels that carried the packets, as `SOURCE>DESTINATION`.
        outer: Vec<String>,
        /// The times when the service stopped or started, if some flows reached it and others
        /// failed.
        state_changes: String,
        /// The features that the row in `rule` needs and that the inventory does not mention.
        unstated_feature: Vec<Cow<'a, str>>,
        /// The vantage points that saw the conversation, as `SITE/SENSOR` or `SENSOR`. Captures
        /// whose vantage point has no name do not count.
        #[serde(default)]
        sensors: Vec<String>,
    }
);

record!(
    /// A finding: a result that a person should examine.
    #[derive(Default)]
    FindingRow<'a> {
        /// The id of the finding, which is the same in every capture that shows the same finding.
        id: String,
        /// The severity of the finding.
        severity: Cow<'a, str>,
        /// The verdict of the finding.
        verdict: Cow<'a, str>,
        /// The code that gives the reason for the verdict.
        code: Cow<'a, str>,
        /// Whether the finding is certain; if not, `doubt` has the reasons.
        certain: bool,
        /// The address of the client: the end that opened the connection, or should have. `*`
        /// stands for several. Empty if any host with the roles is meant, or if no address is
        /// known.
        client: String,
        /// The name of the client's host or network in the inventory; the prefix of the network for
        /// many clients of an unlisted network; `many networks` for clients of many networks.
        client_name: String,
        /// The roles of the client.
        client_roles: Vec<String>,
        /// The address of the server: the end that the client connected to, or should have. `*`
        /// stands for several. Empty if any host with the roles is meant, or if no address is
        /// known.
        server: String,
        /// The name of the server's host or network in the inventory.
        server_name: String,
        /// The roles of the server.
        server_roles: Vec<String>,
        /// The protocol above IP; `*` for several.
        transport: String,
        /// The port. Several ports are joined by `;`, and `*` stands for many.
        port: String,
        /// The best state among the conversations of the finding.
        state: Cow<'a, str>,
        /// The strongest direction evidence among the conversations of the finding.
        direction: Cow<'a, str>,
        /// The row of the matrix, or the exception (`exception:ID`), that the finding is based on.
        rule: String,
        /// The group of matrix rows that the finding is about.
        group: String,
        /// The number of conversations, or of pairs of hosts, that the finding stands for; 0 if it
        /// is about a single pair without traffic, or not about traffic.
        count: u64,
        /// The time of the earliest packet or ICMP error.
        first_seen: Option<Time>,
        /// The time of the latest packet or ICMP error.
        last_seen: Option<Time>,
        /// A sentence that describes what was found.
        message: String,
        /// What the user should do about the finding.
        action: String,
        /// A Wireshark display filter that shows the packets of the finding.
        display_filter: String,
        /// The reasons why the finding is not certain.
        doubt: Vec<Cow<'a, str>>,
        /// `new` if an earlier audit does not have the finding or if the finding is worse now,
        /// otherwise `known`. Empty without an earlier audit.
        since: Cow<'a, str>,
        /// The clients of the finding, one by one.
        clients: Vec<String>,
        /// The servers of the finding, one by one.
        servers: Vec<String>,
        /// The id of the finding that explains this one. Empty if there is none.
        explained_by: String,
        /// How the finding compares with the baseline: new, worse, grown, same, better, gone or
        /// excepted. Empty without a baseline, and for severity info.
        #[serde(default)]
        baseline_state: Cow<'a, str>,
        /// Why the finding differs from the baseline. Empty if it does not, or if the baseline is
        /// only a CSV file.
        #[serde(default)]
        baseline_reason: String,
        /// The vantage points that saw the traffic of the finding, or one of its hosts if the
        /// finding is about traffic that was not seen, as `SITE/SENSOR` or `SENSOR`. Captures whose
        /// vantage point has no name do not count.
        #[serde(default)]
        sensors: Vec<String>,
    }
);

record!(
    /// An exception, and the traffic that it covered.
    ExceptionUse<'a> {
        /// The id of the exception.
        id: String,
        /// The person or team responsible for the exception.
        owner: String,
        /// The reason why the exception is needed.
        reason: String,
        /// The person who approved the exception.
        approved_by: String,
        /// The date on which the exception was created.
        created: String,
        /// The last day on which the exception is valid.
        expires: String,
        /// The number of conversations that the exception covers, including those in
        /// `conversations_expired`.
        conversations: u64,
        /// The ticket of the approval. Empty if the list has none.
        #[serde(default)]
        ticket: String,
        /// The side that may open connections, as the list writes it.
        #[serde(default)]
        from: String,
        /// The side that may accept connections, as the list writes it.
        #[serde(default)]
        to: String,
        /// The protocol above IP; `*` for all.
        #[serde(default)]
        transport: String,
        /// The port, or the first and the last port of a range; `*` for all.
        #[serde(default)]
        port: String,
        /// `to-server` or `both`.
        #[serde(default)]
        direction: String,
        /// `used` or `unused`; `expired` or `expiring` (within 30 days), compared with the end of
        /// the capture or with `--as-of`; `retroactive` if the exception was created after the end
        /// of traffic that it allows; `self-approved` if its owner is also the approver.
        #[serde(default)]
        status: Vec<Cow<'a, str>>,
        /// The number of conversations that the exception no longer allows, because it expired
        /// before their last packet or, with `--as-of`, before the given time.
        #[serde(default)]
        conversations_expired: u64,
        /// The clients of the conversations: listed hosts by name, others by address.
        #[serde(default)]
        clients: Vec<String>,
        /// The servers of the conversations: listed hosts by name, others by address.
        #[serde(default)]
        servers: Vec<String>,
        /// The time of the earliest packet or ICMP error.
        #[serde(default)]
        first_seen: Option<Time>,
        /// The time of the latest packet or ICMP error.
        #[serde(default)]
        last_seen: Option<Time>,
        /// The line of the list that contains the exception; 0 if unknown.
        #[serde(default)]
        line: u64,
    }
);

record!(
    /// A row of the matrix.
    MatrixRow<'a> {
        /// The stable name of the row.
        rule: Cow<'a, str>,
        /// The group of rows that serve the same purpose.
        group: Cow<'a, str>,
        /// The role that may open the connection.
        source_role: Cow<'a, str>,
        /// The role that serves the connection.
        destination_role: Cow<'a, str>,
        /// The protocol above IP.
        transport: String,
        /// The port, or the first and the last port of a range. Empty for a protocol without ports.
        ports: String,
        /// The features that the row needs, joined by `+`.
        feature: String,
        /// The result if the traffic is absent: `steady` (a finding), `on-demand` (none), `feature`
        /// (none, because the traffic needs a feature) or `localhost` (none, because the traffic
        /// stays inside a host).
        need: Cow<'a, str>,
        /// The result for the row, such as `seen`, `missing` or `not-assessable`.
        status: Cow<'a, str>,
        /// The reason why the row could not be assessed.
        reason: Cow<'a, str>,
        /// The number of conversations that the row documents. Traffic that could be forged does
        /// not count.
        conversations: u64,
        /// The clients that opened or tried to open a connection of the row, by name or address.
        source_hosts_seen: Vec<String>,
        /// The source hosts that should have opened a connection of the row, but did not try or
        /// failed.
        source_hosts_missing: Vec<String>,
        /// The time of the earliest packet or ICMP error.
        first_seen: Option<Time>,
        /// The time of the latest packet or ICMP error.
        last_seen: Option<Time>,
        /// The document and the line that the row comes from.
        provenance: Cow<'a, str>,
    }
);

record!(
    /// A host of the inventory.
    HostRow<'a> {
        /// The name of the host.
        name: Cow<'a, str>,
        /// The addresses of the host.
        addresses: Vec<IpAddr>,
        /// The roles of the host.
        roles: Vec<Cow<'a, str>>,
        /// The number of frames that the host sent.
        frames_sent: u64,
        /// The number of frames that were sent to the host.
        frames_received: u64,
        /// The number of unicast frames that the host sent.
        unicast_sent: u64,
        /// The time of the earliest frame from or to the host.
        first_seen: Option<Time>,
        /// The time of the latest frame from or to the host.
        last_seen: Option<Time>,
        /// How much of the host's traffic the capture shows.
        coverage: Cow<'a, str>,
        /// The number of matrix rows that could not be assessed with this host as a source. A row
        /// may count once for each destination.
        rows_not_assessable: u64,
        /// The time of the earliest frame that the host sent.
        first_sent: Option<Time>,
        /// The time of the latest frame that the host sent.
        last_sent: Option<Time>,
        /// The time of the earliest frame that was sent to the host.
        first_received: Option<Time>,
        /// The time of the latest frame that was sent to the host.
        last_received: Option<Time>,
        /// The share of frames from the host that the capture truncated. Null if there are no
        /// frames.
        truncated_sent: Option<Share>,
        /// The share of frames to the host that the capture truncated. Null if there are no frames.
        truncated_received: Option<Share>,
        /// The source hardware addresses of the host's frames. For a host behind a router, they are
        /// the router's.
        #[serde(default)]
        hardware_addresses: Vec<String>,
    }
);
