//! One of the two audits that are compared, with lookups for its conversations, rows and hosts.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use crate::classify::{Doubt, RoleSet, State, Verdict};
use crate::model::service_words;
use crate::result::{
    AuditResult, ConversationRow, FindingRow, HostRow, MatrixRow, SiteRow, Time, transport_of,
};

/// A conversation to be compared: how it was judged, and how often it was seen.
pub(super) struct Seen {
    pub client: IpAddr,
    pub server: IpAddr,
    pub transport: String,
    pub port: Option<u16>,
    pub verdict: String,
    pub code: String,
    pub severity: String,
    /// The row of the matrix, or the exception (`exception:ID`), that the verdict is based on.
    pub rule: String,
    pub is_reached: bool,
    /// Whether any host could have forged the traffic, which therefore proves nothing.
    pub is_made_up: bool,
    /// Whether the conversation may stand for others, because traffic was aggregated.
    pub is_aggregated: bool,
    pub state: String,
    pub flows: u64,
    pub first: Option<Time>,
    pub last: Option<Time>,
    /// Roles of the client and of the server.
    pub roles: [Vec<String>; 2],
    /// Names of the client and of the server, which are empty for unlisted addresses.
    names: [String; 2],
}

impl Seen {
    /// Describes which client reached which server, and on which port.
    pub fn words(&self) -> String {
        self.sentence("reached")
    }

    /// Describes which client tried to reach which server, on which port, and the outcome.
    pub fn outcome(&self) -> String {
        format!("{} ({})", self.sentence("tried to reach"), self.state)
    }

    fn sentence(&self, verb: &str) -> String {
        let end = |name: &str, address: IpAddr| match name {
            "" => address.to_string(),
            name => name.to_owned(),
        };
        let port = self.port.map_or_else(|| "*".to_owned(), |port| port.to_string());
        let service = match transport_of(&self.transport) {
            Some(transport) if transport.has_ports() => {
                format!("on {}", service_words(transport, &port))
            }
            Some(transport) => format!("with {}", service_words(transport, &port)),
            None => format!("on {} {port}", self.transport.to_uppercase()),
        };
        format!(
            "{} {verb} {} {service}",
            end(&self.names[0], self.client),
            end(&self.names[1], self.server)
        )
    }

    fn of(row: ConversationRow<'_>) -> Self {
        let owned = |list: Vec<std::borrow::Cow<'_, str>>| {
            list.into_iter().map(std::borrow::Cow::into_owned).collect()
        };
        let is_made_up = is_made_up(&row);
        let is_aggregated = is_aggregated(&row);
        Self {
            client: row.client,
            server: row.server,
            transport: row.transport,
            port: row.port,
            verdict: row.verdict.into_owned(),
            code: row.code.into_owned(),
            severity: row.severity.into_owned(),
            rule: row.rule,
            is_reached: State::parse(&row.state).is_some_and(State::reached),
            is_made_up,
            is_aggregated,
            state: row.state.into_owned(),
            flows: row.flows,
            first: row.first_seen,
            last: row.last_seen,
            roles: [owned(row.client_roles), owned(row.server_roles)],
            names: [row.client_name.into_owned(), row.server_name.into_owned()],
        }
    }

    /// Returns whether both conversations have the same client, server, transport and port.
    pub fn has_ends_of(&self, other: &Self) -> bool {
        (self.client, self.server, &self.transport, self.port)
            == (other.client, other.server, &other.transport, other.port)
    }

    /// Returns whether both conversations have the same verdict and code, based on the same row or
    /// exception.
    pub fn is_judged_like(&self, other: &Self) -> bool {
        (&self.verdict, &self.code, &self.rule) == (&other.verdict, &other.code, &other.rule)
    }
}

/// A row of the matrix in one audit. `site` is `None` if the result does not contain the matrix.
pub(super) struct MatrixEntry<'a> {
    pub row: MatrixRow<'a>,
    pub site: Option<&'a SiteRow>,
}

impl MatrixEntry<'_> {
    /// Describes how the row differs from `other`, the same row in the other audit, in its ends,
    /// transport, ports, features or need; `None` if it does not.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let parts = |entry: &Self| {
            [
                entry.row.source_role.to_string(),
                entry.row.destination_role.to_string(),
                format!("{} {}", entry.row.transport, entry.row.ports),
                entry.row.feature.clone(),
                entry.row.need.to_string(),
                entry.site.and_then(|site| site.only.clone()).unwrap_or_default(),
            ]
        };
        let names = ["source role", "destination role", "port", "feature", "need", "destination"];
        let before = parts(other);
        let now = parts(self);
        let differs = names.iter().zip(before.iter().zip(&now)).filter(|(_, (a, b))| a != b);
        let words = differs
            .map(|(name, (a, b))| format!("{name} {} instead of {}", or_none(b), or_none(a)));
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// One audit, with the lookups that the comparison needs.
pub(super) struct Side<'a> {
    pub result: &'a AuditResult<'a>,
    pub findings: Vec<FindingRow<'a>>,
    pub rows: HashMap<String, MatrixEntry<'a>>,
    pub hosts: HashMap<String, HostRow<'a>>,
    /// The number of each party, by the name of a listed host or by address.
    pub(super) words: HashMap<String, u32>,
    /// The number of the party at each address.
    by_address: HashMap<IpAddr, u32>,
    /// The conversations between two parties, by their numbers.
    pairs: HashMap<(u32, u32), Vec<u32>>,
    /// The conversations by verdict and code.
    by_code: HashMap<(String, String), Vec<u32>>,
    /// The clients whose connections succeeded, by the row or exception that the ruling is based
    /// on.
    succeeded: HashMap<String, HashSet<u32>>,
    /// The subjects of aggregated conversations.
    pub(super) aggregated: HashSet<AggregatedSubject>,
    /// The named vantage points that saw each listed host, by the number of the party.
    pub(super) sensors: HashMap<u32, BTreeSet<String>>,
    /// The names of the hosts at each address that the inventory lists.
    pub(super) names: HashMap<IpAddr, String>,
    /// The index of each host in the site.
    pub(super) site_hosts: HashMap<&'a str, usize>,
}

/// The client, the server, the transport and the port of an aggregated conversation, as its row
/// shows them.
type AggregatedSubject = (IpAddr, IpAddr, String, Option<u16>);

/// Returns whether any host could have forged the traffic of a conversation: it was seen only in an
/// undeclared tunnel or in quotes of ICMP errors.
fn is_made_up(row: &ConversationRow<'_>) -> bool {
    let forgeable = [Doubt::Tunnel, Doubt::Quoted].map(Doubt::name);
    row.doubt.iter().any(|doubt| forgeable.contains(&doubt.as_ref()))
}

/// Returns whether a conversation stands for others, because traffic was aggregated.
fn is_aggregated(row: &ConversationRow<'_>) -> bool {
    row.doubt.iter().any(|doubt| doubt == Doubt::Aggregated.name())
}

/// Returns whether a state shows that the traffic of a row worked.
fn is_success(state: &str) -> bool {
    let success = [State::Established, State::Midstream, State::AnswerOnly, State::OneWay];
    State::parse(state).is_some_and(|state| success.contains(&state))
}

impl<'a> Side<'a> {
    pub fn new(result: &'a AuditResult<'a>) -> Self {
        let site = result.site();
        let rows = result.matrix_rows().enumerate().map(|(number, row)| {
            let site = site.and_then(|site| site.rows.get(number));
            (row.rule.to_string(), MatrixEntry { row, site })
        });
        let hosts = result.hosts().map(|host| (host.name.to_string(), host));
        let mut side = Self {
            result,
            findings: result.findings().collect(),
            rows: rows.collect(),
            hosts: hosts.collect(),
            words: HashMap::new(),
            by_address: HashMap::new(),
            pairs: HashMap::new(),
            by_code: HashMap::new(),
            succeeded: HashMap::new(),
            aggregated: HashSet::new(),
            sensors: HashMap::new(),
            names: HashMap::new(),
            site_hosts: HashMap::new(),
        };
        let site_hosts = site.into_iter().flat_map(|site| site.hosts.iter().enumerate());
        side.site_hosts = site_hosts.map(|(number, host)| (host.name.as_str(), number)).collect();
        for host in side.hosts.values() {
            let name = host.name.as_ref();
            side.names.extend(host.addresses.iter().map(|address| (*address, name.to_owned())));
        }
        for (number, row) in (0..).zip(result.conversations()) {
            let client = side.word(&row.client_name, row.client);
            let server = side.word(&row.server_name, row.server);
            side.by_address.insert(row.client, client);
            side.by_address.insert(row.server, server);
            side.pairs.entry((client, server)).or_default().push(number);
            if !row.rule.is_empty() && is_success(&row.state) && !is_made_up(&row) {
                side.succeeded.entry(row.rule.clone()).or_default().insert(client);
            }
            if is_aggregated(&row) {
                side.aggregated.insert((row.client, row.server, row.transport.clone(), row.port));
            }
            if !row.sensors.is_empty() && !is_made_up(&row) {
                for (word, name) in [(client, &row.client_name), (server, &row.server_name)] {
                    if side.hosts.contains_key(name.as_ref()) {
                        side.sensors.entry(word).or_default().extend(row.sensors.iter().cloned());
                    }
                }
            }
            let key = (row.verdict.into_owned(), row.code.into_owned());
            side.by_code.entry(key).or_default().push(number);
        }
        side
    }

    /// Returns whether this audit shows that the traffic of a row worked for the client with this
    /// name or address.
    pub fn has_succeeded(&self, rule: &str, client: &str) -> bool {
        let number = self.words.get(client);
        let clients = self.succeeded.get(rule);
        number.zip(clients).is_some_and(|(number, clients)| clients.contains(number))
    }

    /// Returns a conversation of a host that a row for one of its roles documents, so that it shows
    /// this role; `None` if the result contains none. Traffic that any host could have forged shows
    /// no role.
    pub fn traffic_of_role(&self, host: &str, role: &str) -> Option<Seen> {
        let site = self.result.site()?;
        let party = *self.words.get(host)?;
        let role = RoleSet::one(site.roles.iter().position(|known| known.slug == role)?);
        let rows: Vec<(&MatrixEntry<'_>, [bool; 2])> = self
            .rows
            .values()
            .filter_map(|entry| {
                let row = entry.site.filter(|row| !row.is_off)?;
                let has_role = |other: usize| site.roles[other].members.intersects(role);
                Some((entry, [row.source, row.destination].map(has_role)))
            })
            .filter(|(_, ends)| ends.contains(&true))
            .collect();
        let shows_role = |row: &ConversationRow<'_>, is_end: [bool; 2]| {
            let [client, server] =
                [&row.client_roles, &row.server_roles].map(|roles| site.roles_of(roles));
            rows.iter().any(|(entry, ends)| {
                let covers = |own: &SiteRow| {
                    entry.row.transport == row.transport
                        && row.port.is_none_or(|port| (own.ports.0..=own.ports.1).contains(&port))
                        && own.only.is_none()
                        && site.is_source(own, client)
                        && site.is_destination(own, server)
                };
                (0..2).any(|end| is_end[end] && ends[end])
                    && (entry.row.rule == row.rule || entry.site.is_some_and(covers))
            })
        };
        let of_host =
            self.pairs.iter().filter(|((client, server), _)| *client == party || *server == party);
        let mut numbers: Vec<u32> = of_host.flat_map(|(_, numbers)| numbers).copied().collect();
        numbers.sort_unstable();
        let rows =
            numbers.into_iter().filter_map(|number| self.result.conversation(number as usize));
        let mut documented =
            rows.filter(|row| row.verdict == Verdict::Documented.name() && !is_made_up(row));
        let shown = documented
            .find(|row| shows_role(row, [row.client_name == host, row.server_name == host]))?;
        Some(Seen::of(shown))
    }

    /// Returns whether a row of a group lists the host with this name as one whose traffic is
    /// missing or failed.
    pub fn lacks_traffic_of(&self, group: &str, name: &str) -> bool {
        let mut rows = self.rows.values().filter(|entry| entry.row.group == group);
        let place = |missing: &[String]| missing.binary_search_by(|other| other.as_str().cmp(name));
        rows.any(|entry| place(&entry.row.source_hosts_missing).is_ok())
    }

    /// Returns whether a connection that a row of a group documents failed between two parties, by
    /// their names or addresses.
    pub fn shows_failure(&self, group: &str, client: &str, server: &str) -> bool {
        let word = |name: &str| self.words.get(name).copied();
        let pair = word(client).zip(word(server));
        let numbers = pair.and_then(|pair| self.pairs.get(&pair)).into_iter().flatten();
        let mut rows = numbers.filter_map(|number| self.result.conversation(*number as usize));
        rows.any(|row| {
            State::parse(&row.state).is_some_and(State::failed)
                && self.rows.get(&row.rule).is_some_and(|entry| entry.row.group == group)
        })
    }

    /// Returns the number of a party. A new party gets the next number.
    fn word(&mut self, name: &str, address: IpAddr) -> u32 {
        let word =
            if self.hosts.contains_key(name) { name.to_owned() } else { address.to_string() };
        let next = self.words.len() as u32;
        *self.words.entry(word).or_insert(next)
    }

    /// Returns the conversations between the members of a finding on its ports, at most
    /// [`MAX_CONVERSATIONS`]. If the members cannot be looked up one by one, the verdict and the
    /// code of the finding select the conversations instead. `name` translates the name of a host
    /// in the other audit to its name in this one.
    pub fn conversations_of(
        &self,
        finding: &FindingRow<'_>,
        name: impl Fn(&str) -> String,
    ) -> Vec<Seen> {
        let numbers = |list: &[String]| -> HashSet<u32> {
            list.iter().filter_map(|word| self.words.get(&name(word)).copied()).collect()
        };
        let clients = numbers(&finding.clients);
        let servers = numbers(&finding.servers);
        let is_listed =
            |side: &[String]| !side.is_empty() && !side.iter().any(|w| w.starts_with('+'));
        let few = clients.len().saturating_mul(servers.len()) <= MAX_PAIRS;
        let mut found: Vec<u32> = Vec::new();
        if few && is_listed(&finding.clients) && is_listed(&finding.servers) {
            for client in &clients {
                for server in &servers {
                    found.extend(self.pairs.get(&(*client, *server)).into_iter().flatten());
                }
            }
        } else if let Some(same) =
            self.by_code.get(&(finding.verdict.to_string(), finding.code.to_string()))
        {
            // If the lists of members are empty, truncated or too long, all conversations with the
            // finding's verdict and code are compared.
            found.extend(same);
        }
        found.sort_unstable();
        let ports: Vec<&str> = finding.port.split(';').collect();
        let fits = |seen: &Seen| {
            let port = seen.port.map_or_else(String::new, |port| port.to_string());
            (finding.transport == "*" || finding.transport == seen.transport)
                && (matches!(ports[..], ["*" | ""]) || ports.contains(&port.as_str()))
        };
        let rows = found.into_iter().filter_map(|number| self.result.conversation(number as usize));
        rows.map(Seen::of).filter(fits).take(MAX_CONVERSATIONS).collect()
    }

    /// Returns the counterpart of each conversation in `others`: the first conversation of this
    /// audit with the same addresses, transport and port, if there is one. The two inventories may
    /// name the addresses differently.
    pub fn counterparts_of(&self, others: &[Seen]) -> Vec<Seen> {
        let find = |other: &Seen| {
            let client = *self.by_address.get(&other.client)?;
            let server = *self.by_address.get(&other.server)?;
            let numbers = self.pairs.get(&(client, server))?.iter();
            let mut rows = numbers.filter_map(|number| self.result.conversation(*number as usize));
            let row = rows.find(|row| {
                (row.client, row.server, &row.transport, row.port)
                    == (other.client, other.server, &other.transport, other.port)
            })?;
            Some(Seen::of(row))
        };
        others.iter().filter_map(find).collect()
    }

    /// Returns why nothing was assessed in this audit; `None` if something was.
    pub fn why_nothing_assessed(&self) -> Option<&'static str> {
        let head = &self.result.head;
        if head.accounting.frames_read == 0 {
            Some("it has no frames")
        } else if !head.summary.assessed {
            Some("it shows no traffic of the farm that could be assessed")
        } else {
            None
        }
    }

    /// Returns whether this capture begins before another one. A difference of up to [`MARGIN`]
    /// counts only if this capture also ends earlier: a filter may have made the other one shorter
    /// at both ends.
    pub fn begins_before(&self, other: &Self) -> bool {
        let begins = |side: &Self| side.result.head.window.first.map(|time| time.0);
        let ends = |side: &Self| side.result.head.window.last.map(|time| time.0);
        let starts = begins(self).zip(begins(other));
        starts.is_some_and(|(own, theirs)| {
            let earlier = theirs.saturating_sub(own);
            earlier > MARGIN || (earlier > 0 && ends(self) < ends(other))
        })
    }

    /// Returns the longest time for which the capture watched without a break, in seconds.
    pub fn watched_s(&self) -> u64 {
        self.result.head.window.watched_seconds
    }
}

/// The time, in ns, by which a capture may begin earlier than another without counting as the
/// earlier one, unless it also ends earlier.
const MARGIN: crate::model::Nanos = 60 * crate::model::SECOND;

/// Maximum number of pairs of members whose conversations are looked up one by one.
const MAX_PAIRS: usize = 10_000;

/// Maximum number of conversations that are compared for one finding.
const MAX_CONVERSATIONS: usize = 2_000;
