//! Finds out which ports the traffic of findings about many ports reached.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::{AuditResult, ConversationRow, FindingRow};
use crate::classify::State;
use crate::model::EPHEMERAL_PORTS;

/// The column `port` of a finding about many ports.
const MANY: &str = "*";

/// Returns whether a port is that of a service. Dynamic ports differ from day to day, and if the
/// direction is a guess, they may be those of clients.
pub(super) fn is_of_service(port: u16) -> bool {
    port < EPHEMERAL_PORTS
}

/// The ports that a result reached, for its findings about many ports.
#[derive(Default)]
pub(super) struct ReachedPorts {
    /// The ports by client, by code, transport and server. Each end has an entry by address and one
    /// by name.
    by_server: HashMap<[String; 3], HashMap<String, BTreeSet<u16>>>,
}

impl ReachedPorts {
    /// Returns the ports that were certainly reached in a result.
    pub fn of(result: &AuditResult<'_>) -> Self {
        Self::in_states(result, State::reached)
    }

    /// Returns the ports that may have been reached in an earlier result, because the outcome of
    /// one-sided conversations is not known.
    pub fn possible(result: &AuditResult<'_>) -> Self {
        Self::in_states(result, |state| state.reached() || state == State::OneSided)
    }

    fn in_states(result: &AuditResult<'_>, counts: impl Fn(State) -> bool) -> Self {
        let mut reached = Self::default();
        for row in result.findings().filter(|row| row.port == MANY) {
            for server in &row.servers {
                reached.by_server.entry(place(&row.code, &row.transport, server)).or_default();
            }
        }
        // Few results have findings about many ports.
        if !reached.by_server.is_empty() {
            let counts = |row: &ConversationRow<'_>| State::parse(&row.state).is_some_and(&counts);
            result.conversations().filter(counts).for_each(|row| reached.add(&row));
        }
        reached
    }

    fn add(&mut self, row: &ConversationRow<'_>) {
        let Some(port) = row.port.filter(|port| is_of_service(*port)) else { return };
        for server in words(row.server, &row.server_name) {
            let place = place(&row.code, &row.transport, &server);
            let Some(clients) = self.by_server.get_mut(&place) else { continue };
            for client in words(row.client, &row.client_name) {
                clients.entry(client).or_default().insert(port);
            }
        }
    }

    /// Returns the ports that the traffic of a finding reached; `None` if the finding is not about
    /// many ports or does not list all of its clients and servers.
    pub fn of_finding(&self, row: &FindingRow<'_>) -> Option<BTreeSet<u16>> {
        let is_whole =
            |list: &[String]| !list.is_empty() && !list.iter().any(|word| word.starts_with('+'));
        if row.port != MANY || !is_whole(&row.clients) || !is_whole(&row.servers) {
            return None;
        }
        let places = row.servers.iter().map(|server| place(&row.code, &row.transport, server));
        let known = places.filter_map(|place| self.by_server.get(&place));
        let ports =
            known.flat_map(|clients| row.clients.iter().filter_map(|client| clients.get(client)));
        Some(ports.flatten().copied().collect())
    }
}

fn place(code: &str, transport: &str, server: &str) -> [String; 3] {
    [code, transport, server].map(str::to_owned)
}

/// Returns the words by which findings may list an end: its address, and its name if it has one.
fn words(address: IpAddr, name: &str) -> impl Iterator<Item = String> {
    [address.to_string(), name.to_owned()].into_iter().filter(|word| !word.is_empty())
}
