//! Finds out which ports the traffic of a finding about many ports reached.

use std::collections::{BTreeSet, HashMap};

use super::{AuditResult, ConversationRow, FindingRow};
use crate::classify::State;

/// The column `port` of a finding about many ports.
const MANY: &str = "*";

/// The conversations of a result that reached a port, for its findings about many ports.
#[derive(Default)]
pub(super) struct ReachedPorts {
    /// The client, by address and by name, and the port. The key consists of the code, the
    /// transport, and the address or name of the server.
    by_server: HashMap<[String; 3], Vec<([String; 2], u16)>>,
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
        // Few results have findings about many ports.
        if result.findings().any(|row| row.port == MANY) {
            let counts = |row: &ConversationRow<'_>| State::parse(&row.state).is_some_and(&counts);
            result.conversations().filter(counts).for_each(|row| reached.add(row));
        }
        reached
    }

    fn add(&mut self, row: ConversationRow<'_>) {
        let Some(port) = row.port else { return };
        let words = |address: std::net::IpAddr, name: &str| [address.to_string(), name.to_owned()];
        let client = words(row.client, &row.client_name);
        for server in words(row.server, &row.server_name).into_iter().filter(|w| !w.is_empty()) {
            let place = [row.code.clone().into_owned(), row.transport.clone(), server];
            self.by_server.entry(place).or_default().push((client.clone(), port));
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
        let place = |server: &String| {
            [row.code.clone().into_owned(), row.transport.clone(), server.clone()]
        };
        let known = row.servers.iter().filter_map(|server| self.by_server.get(&place(server)));
        let is_own = |(client, _): &&([String; 2], u16)| {
            client.iter().any(|word| row.clients.contains(word))
        };
        Some(known.flatten().filter(is_own).map(|(_, port)| *port).collect())
    }
}
