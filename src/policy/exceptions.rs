//! Exceptions: traffic that the matrix does not allow, but for which a person has taken
//! responsibility.
//!
//! Exceptions are rows of a CSV file. Owner, reason, approval, creation and expiry are mandatory.
//! All problems of a file are reported together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::csv_file::{CsvRecord, each_record_separated, separator_of};
use super::dates::DateOrder;
use super::{
    Diagnostic, Diagnostics, Inventory, Matrix, Party, PartyKind, RoleSet,
    beyond_prefix_or_address, nearest,
};
use crate::model::{Nanos, Transport, hex};

/// The columns that a list of exceptions must have.
pub const EXCEPTION_COLUMNS: &[&str] = &[
    "id",
    "from",
    "to",
    "transport",
    "port",
    "direction",
    "owner",
    "reason",
    "approved_by",
    "created",
    "expires",
];

/// The optional column of a list of exceptions: the ticket of the approval.
pub const TICKET_COLUMN: &str = "ticket";

/// The prefix of the placeholder for a reason that has not been written yet.
pub const UNFILLED: &str = "TO BE FILLED IN:";

/// A list of exceptions.
#[derive(Clone, Default, Debug)]
pub struct Exceptions {
    /// The file as the user named it.
    pub file: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// The exceptions, in the order of the file.
    pub list: Vec<Exception>,
    /// The time against which expiry is checked. Without it, the time of the last packet of each
    /// conversation is used.
    pub as_of: Option<Nanos>,
}

/// An exception, which is one row of the list.
#[derive(Clone, Debug)]
pub struct Exception {
    /// The unique name of the exception.
    pub id: String,
    /// The side that may initiate connections.
    pub from: ExceptionParty,
    /// The side that may accept the connections.
    pub to: ExceptionParty,
    /// The protocol above IP, or `None` for all protocols.
    pub transport: Option<Transport>,
    /// The lowest and the highest port or ICMP type, or `None` for all of them.
    pub ports: Option<(u16, u16)>,
    /// Whether the exception applies in both directions.
    pub both: bool,
    /// The person who is responsible for the exception.
    pub owner: String,
    /// The reason why the exception is needed.
    pub reason: String,
    /// The person who approved the exception.
    pub approved_by: String,
    /// The day on which the exception was created.
    pub created: Date,
    /// The last day on which the exception is valid.
    pub expires: Date,
    /// The start of the day of creation (UTC), in ns since the epoch.
    pub begins: Nanos,
    /// The start of the day after the last valid day (UTC), in ns since the epoch.
    pub ends: Nanos,
    /// The ticket of the approval, or an empty string.
    pub ticket: String,
    /// Both sides as the file writes them, `from` first.
    pub written: [String; 2],
    /// The line in the file, counted from 1.
    pub line: usize,
}

impl Exception {
    /// Returns whether the owner also approved the exception.
    pub fn is_self_approved(&self) -> bool {
        let [owner, approver] =
            [&self.owner, &self.approved_by].map(|name| name.trim().to_lowercase());
        owner == approver
    }
}

/// One side of an exception.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExceptionParty {
    /// The index of a host in the inventory.
    Host(usize),
    /// The index of a network in the inventory.
    Network(usize),
    /// An address or a prefix.
    Addresses(IpNet),
    /// Any party that has one of these roles.
    Roles(RoleSet),
    /// Any address.
    Any,
}

/// The exception that matches some traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExceptionMatch {
    /// The index of a valid exception.
    Holds(usize),
    /// The index of an exception that would apply but has expired.
    Expired(usize),
}

impl ExceptionParty {
    /// Returns whether the side includes all addresses, whether written as `*` or as a prefix.
    fn is_anybody(&self) -> bool {
        match self {
            Self::Any => true,
            Self::Addresses(net) => net.prefix_len() == 0,
            Self::Host(_) | Self::Network(_) | Self::Roles(_) => false,
        }
    }

    /// Returns whether the side includes a party that has this address.
    pub(super) fn includes(&self, party: &Party, address: IpAddr) -> bool {
        match self {
            Self::Host(host) => party.kind == PartyKind::Host(*host),
            Self::Network(network) => party.kind == PartyKind::Network(*network),
            Self::Addresses(net) => net.contains(&address),
            Self::Roles(roles) => roles.intersects(party.roles),
            Self::Any => true,
        }
    }
}

impl Exception {
    /// Returns whether the exception matches traffic from `ends[0]` (the client) to `ends[1]`,
    /// whether or not it has expired.
    pub fn matches(&self, ends: [(&Party, IpAddr); 2], transport: Transport, port: u16) -> bool {
        let [client, server] = ends;
        let fits = |from: (&Party, IpAddr), to: (&Party, IpAddr)| {
            self.from.includes(from.0, from.1) && self.to.includes(to.0, to.1)
        };
        self.transport.is_none_or(|t| t == transport)
            && self.ports.is_none_or(|(low, high)| {
                // The type of an ICMP message is not a port, so only an exception for ICMP can
                // restrict it.
                let is_meant = transport.has_ports() || self.transport.is_some();
                is_meant && (low..=high).contains(&port)
            })
            && (fits(client, server) || (self.both && fits(server, client)))
    }
}

impl Exceptions {
    /// Returns the exception that matches traffic from `ends[0]` (the client) to `ends[1]`, whose
    /// last packet arrived at `last`; `None` if no exception matches. A valid exception takes
    /// precedence over an expired one. Among valid ones, and among expired ones, the first in the
    /// list applies.
    pub fn find(
        &self,
        ends: [(&Party, IpAddr); 2],
        transport: Transport,
        port: u16,
        last: Option<Nanos>,
    ) -> Option<ExceptionMatch> {
        let now = self.as_of.or(last);
        let mut expired = None;
        for (number, exception) in self.list.iter().enumerate() {
            if !exception.matches(ends, transport, port) {
                continue;
            }
            // Without a timestamp, the expiry date cannot be checked.
            if now.is_none_or(|now| now < exception.ends) {
                return Some(ExceptionMatch::Holds(number));
            }
            expired = expired.or(Some(ExceptionMatch::Expired(number)));
        }
        expired
    }

    /// Returns warnings about exceptions that an auditor would question.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let mut warnings = Vec::new();
        for exception in &self.list {
            let Exception { from, to, ports, transport, created, expires, .. } = exception;
            let mut warn = |message: String| {
                let message = format!("the exception {} {message}", exception.id);
                warnings.push(Diagnostic {
                    file: self.file.clone(),
                    line: exception.line,
                    message,
                });
            };
            let all_ports = ports.is_none_or(|(low, high)| low <= 1 && high == u16::MAX);
            let every_port = all_ports && transport.is_none_or(Transport::has_ports);
            match (from.is_anybody(), to.is_anybody()) {
                (true, true) if every_port => {
                    warn("allows every host to reach every port of every host".to_owned());
                }
                (true, true) => warn("allows every host to reach every host".to_owned()),
                (true, false) | (false, true) if every_port => {
                    warn(
                        "allows every port and, on one side, every host; restrict the ports or the hosts".to_owned(),
                    );
                }
                _ => {}
            }
            if exception.is_self_approved() {
                warn(format!("has {} as both owner and approver", exception.owner));
            }
            let a_year = created.checked_add(jiff::Span::new().years(1));
            if a_year.is_ok_and(|a_year| *expires > a_year) {
                warn(format!("is valid for more than a year, from {created} to {expires}"));
            }
            if exception.reason.starts_with(UNFILLED) {
                warn("still has the reason from the template; state why it is needed".to_owned());
            }
        }
        warnings
    }

    /// Reads a list of exceptions and checks it against an inventory and its matrix.
    pub fn load(
        file: &str,
        text: &str,
        matrix: &Matrix,
        inventory: &Inventory,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Diagnostics::of(file);
        let mut exceptions = Self {
            file: file.to_owned(),
            sha256: hex(&Sha256::digest(text.as_bytes())),
            ..Self::default()
        };
        let separator = separator_of(text);
        let order = DateOrder::of(separator, text);
        let mut ids: BTreeMap<String, usize> = BTreeMap::new();
        each_record_separated(
            separator,
            text,
            EXCEPTION_COLUMNS,
            &mut problems,
            |record, problems| {
                if record.is_blank() {
                    return;
                }
                let first = *ids.entry(record.get("id").to_owned()).or_insert(record.line);
                if first != record.line {
                    let message = format!(
                        "duplicate id \"{}\", first used in line {first}",
                        record.get("id")
                    );
                    problems.add(record.line, message);
                }
                exceptions.list.extend(
                    ExceptionReader { matrix, inventory, record: &record, order, problems }.read(),
                );
            },
        );
        problems.or(exceptions)
    }
}

struct ExceptionReader<'a, 'r> {
    matrix: &'a Matrix,
    inventory: &'a Inventory,
    record: &'a CsvRecord<'r>,
    order: DateOrder,
    problems: &'a mut Diagnostics,
}

impl ExceptionReader<'_, '_> {
    fn problem(&mut self, message: impl Into<String>) {
        self.problems.add(self.record.line, message);
    }

    /// Reads one exception. If it is not valid, reports all its problems and returns `None`.
    fn read(mut self) -> Option<Exception> {
        for column in ["id", "owner", "reason", "approved_by", "created", "expires"] {
            if self.record.get(column).is_empty() {
                self.problem(format!("{column} is empty, but required"));
            }
        }
        let from = self.side("from");
        let to = self.side("to");
        let transport = match self.record.get("transport") {
            "*" => Some(None),
            text => {
                let transport = Transport::parse(text);
                if transport.is_none() {
                    self.problem(format!(
                        "transport: \"{text}\" is not tcp, udp, sctp, icmp, icmp6, ip-N (N is the number of an IP protocol) or *"
                    ));
                }
                transport.map(Some)
            }
        };
        let ports = self.ports();
        self.check_ports(transport.flatten(), ports.flatten());
        let both = match self.record.get("direction") {
            "" | "to-server" => Some(false),
            "both" => Some(true),
            text => {
                let near = nearest(text, ["to-server", "both"]);
                self.problem(format!("direction must be to-server or both, not \"{text}\"{near}"));
                None
            }
        };
        let created = self.date("created");
        let expires = self.date("expires");
        if let (Some(created), Some(expires)) = (created, expires)
            && expires < created
        {
            self.problem(format!(
                "the exception expires on {expires}, before it was created ({created})"
            ));
        }
        let cell = |column: &str| self.record.get(column).to_owned();
        Some(Exception {
            id: cell("id"),
            owner: cell("owner"),
            reason: cell("reason"),
            approved_by: cell("approved_by"),
            ticket: cell(TICKET_COLUMN),
            written: [cell("from"), cell("to")],
            line: self.record.line,
            from: from?,
            to: to?,
            transport: transport?,
            ports: ports?,
            both: both?,
            created: created?,
            expires: expires?,
            begins: start_of(created?)?,
            ends: start_of(expires?.tomorrow().ok()?)?,
        })
    }

    /// Reads one side: a host or network by name, an address, a prefix, a role, or `*`.
    fn side(&mut self, column: &str) -> Option<ExceptionParty> {
        let text = self.record.get(column);
        let hosts = &self.inventory.hosts;
        let networks = &self.inventory.networks;
        if text == "*" {
            return Some(ExceptionParty::Any);
        }
        if let Some(host) = hosts.iter().position(|host| host.name == text) {
            return Some(ExceptionParty::Host(host));
        }
        if let Some(network) = networks.iter().position(|network| network.name == text) {
            return Some(ExceptionParty::Network(network));
        }
        if let Some(role) = text.strip_prefix("role:") {
            let roles = self.matrix.roles_named(role);
            return roles
                .map(ExceptionParty::Roles)
                .map_err(|m| self.problem(format!("{column}: {m}")))
                .ok();
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(ExceptionParty::Addresses(address.into()));
        }
        if let Ok(net) = text.parse::<IpNet>() {
            if let Some(message) = beyond_prefix_or_address(net) {
                self.problem(format!("{column}: {message}"));
                return None;
            }
            return Some(ExceptionParty::Addresses(net));
        }
        let known =
            hosts.iter().map(|h| h.name.as_str()).chain(networks.iter().map(|n| n.name.as_str()));
        let near = nearest(text, known);
        self.problem(format!(
            "{column}: \"{text}\" is not a host or network of the inventory, an address or prefix, role:NAME, or *{near}"
        ));
        None
    }

    fn ports(&mut self) -> Option<Option<(u16, u16)>> {
        let text = self.record.get("port");
        if matches!(text, "*" | "") {
            return Some(None);
        }
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (low.trim().parse(), high.trim().parse()) {
            (Ok(low), Ok(high)) if low <= high => Some(Some((low, high))),
            _ => {
                self.problem(format!(
                    "port: \"{text}\" is not a port, a range (for example 5000-5010) or *"
                ));
                None
            }
        }
    }

    /// Reports ports of a protocol that has none, and impossible ICMP types.
    fn check_ports(&mut self, transport: Option<Transport>, ports: Option<(u16, u16)>) {
        match (transport, ports) {
            (Some(transport), Some((_, high))) if transport.is_icmp() && high > 255 => {
                self.problem(format!("port: {high} is not an ICMP type; ICMP types are 0 to 255"));
            }
            (Some(transport), Some(_)) if !transport.has_ports() && !transport.is_icmp() => {
                self.problem(format!("port: {transport} has no ports; leave the cell empty"));
            }
            _ => {}
        }
    }

    fn date(&mut self, column: &str) -> Option<Date> {
        let text = self.record.get(column);
        if text.is_empty() {
            return None;
        }
        let read = self.order.read(text).map_err(|message| format!("{column}: {message}"));
        let in_range = read.and_then(|date| match date.tomorrow().ok().and_then(start_of) {
            Some(_) => Ok(date),
            None => Err(format!("{column}: {date} is out of range; {DAYS}")),
        });
        in_range.map_err(|message| self.problem(message)).ok()
    }
}

/// The advice for a day whose time in ns since the epoch is out of range.
const DAYS: &str = "give a day from 1677-09-22 to 2262-04-10";

/// Returns the start of a day (UTC) in ns since the epoch; `None` if it is out of range.
fn start_of(day: Date) -> Option<Nanos> {
    let start = day.to_zoned(TimeZone::UTC).ok()?;
    Nanos::try_from(start.timestamp().as_nanosecond()).ok()
}
