//! Findings: what somebody should look at, folded so that a scan stays one line, and explained.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::judge::{Judge, Judged};
use super::verdict::{Code, Doubts, Verdict};
use crate::conversation::{Conversation, Grade, State};
use crate::model::{Nanos, Transport, hex};
use crate::policy::{FeatureState, Party, Policy, Row, Severity, Who};

/// From so many ports of one pair, or clients of one network, it is one finding.
const FOLD: usize = 10;
/// From so many networks that nobody listed, to one server port, it is one finding too: a flood.
const FLOOD: usize = 100;

/// Something that somebody should look at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Stable across captures: from verdict, code, ends, transport and port or group alone.
    pub id: String,
    /// How much it weighs.
    pub severity: Severity,
    /// What it says.
    pub verdict: Verdict,
    /// Why.
    pub code: Code,
    /// Whether it is certain; if not, `doubt` says why.
    pub certain: bool,
    /// Who asks, or should have asked.
    pub client: End,
    /// Who serves, or should have been asked.
    pub server: End,
    /// The protocol above IP; `*` for several.
    pub transport: String,
    /// The port; several joined by `;`, `*` for many.
    pub port: String,
    /// The best state among its conversations.
    pub state: Option<State>,
    /// The strongest grade of direction among its conversations.
    pub direction: Option<Grade>,
    /// The row that decided.
    pub rule: String,
    /// The group of rows that it is about.
    pub group: String,
    /// Conversations that it stands for.
    pub count: u64,
    /// The earliest packet.
    pub first_seen: Option<Nanos>,
    /// The latest packet.
    pub last_seen: Option<Nanos>,
    /// What was found, in a sentence.
    pub message: String,
    /// What to do about it.
    pub action: String,
    /// A Wireshark display filter that shows its packets.
    pub display_filter: String,
    /// Why it is not certain.
    #[serde(skip)]
    pub doubts: Doubts,
    /// What was considered, in the order of the considering.
    pub trace: Vec<String>,
}

/// One end of a finding.
#[derive(Clone, Default, Debug, Serialize)]
pub struct End {
    /// Address; `*` for several.
    pub address: String,
    /// Host or network name.
    pub name: String,
    /// Role slugs joined by `;`.
    pub roles: String,
    #[serde(skip)]
    identity: String,
    /// The name is of its network, not of itself.
    #[serde(skip)]
    in_network: bool,
}

impl End {
    /// The end that an address is.
    pub fn of(policy: &Policy, party: &Party, address: &str) -> Self {
        let roles = policy.matrix.role_names(party.roles).join(";");
        let name = policy.name_of(party).to_owned();
        let identity = match party.who {
            Who::Host(_) => name.clone(),
            Who::Network(_) => format!("{name}\u{1f}{roles}"),
            Who::Service(_) | Who::Stranger => address.to_owned(),
        };
        Self {
            address: address.to_owned(),
            name,
            roles,
            identity,
            in_network: matches!(party.who, Who::Network(_)),
        }
    }

    /// An end of which only the role is known.
    pub fn any_of(policy: &Policy, roles: crate::policy::RoleSet) -> Self {
        let roles = policy.matrix.role_names(roles).join(";");
        Self { identity: format!("any {roles}"), roles, ..Self::default() }
    }

    /// What makes it the same end in another capture.
    pub(super) fn identity(self) -> String {
        self.identity
    }

    /// Both ends as one: what they share, `*` where they differ.
    pub(super) fn with(&mut self, other: &Self) {
        if self.address != other.address {
            "*".clone_into(&mut self.address);
        }
        if self.name != other.name {
            self.name.clear();
        }
        if self.roles != other.roles {
            self.roles.clear();
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match (self.name.as_str(), self.address.as_str()) {
            ("", "") => format!("any {}", self.roles.replace(';', " or ")),
            ("", "*") => "several hosts".to_owned(),
            ("", address) => address.to_owned(),
            (name, "*") => format!("several addresses of {name}"),
            (name, address) if self.in_network => format!("{address} of {name}"),
            (name, _) => name.to_owned(),
        }
    }

    /// In words, with the roles.
    pub fn words_with_roles(&self) -> String {
        match (self.name.is_empty() && self.address.is_empty(), self.roles.as_str()) {
            (true, _) | (_, "") => self.words(),
            (_, roles) => format!("{} ({})", self.words(), roles.replace(';', ", ")),
        }
    }
}

impl Finding {
    /// Findings are shown worst first; of equal weight in the order of their words.
    pub(super) fn order(&self) -> impl Ord + use<> {
        (
            Reverse(self.severity),
            self.code,
            self.client.identity.clone(),
            self.server.identity.clone(),
            self.transport.clone(),
            self.port.clone(),
            self.group.clone(),
        )
    }

    /// The first 12 hex digits of SHA-256 over the finding's identity, its parts each followed by
    /// the byte 0x1e.
    pub(super) fn identify(&mut self) {
        let subject = if self.group.is_empty() { &self.port } else { &self.group };
        let mut hasher = Sha256::new();
        let (client, server) = (&self.client.identity, &self.server.identity);
        for part in
            [self.verdict.name(), self.code.name(), client, server, &self.transport, subject]
        {
            hasher.update(part.as_bytes());
            hasher.update([0x1e]);
        }
        self.id = hex(&hasher.finalize())[..12].to_owned();
    }

    /// A finding without its explanation.
    pub(super) fn new(code: Code, client: End, server: End) -> Self {
        Self {
            id: String::new(),
            severity: Severity::Info,
            verdict: code.verdict(),
            code,
            certain: true,
            client,
            server,
            transport: String::new(),
            port: String::new(),
            state: None,
            direction: None,
            rule: String::new(),
            group: String::new(),
            count: 0,
            first_seen: None,
            last_seen: None,
            message: String::new(),
            action: String::new(),
            display_filter: String::new(),
            doubts: Doubts::default(),
            trace: Vec::new(),
        }
    }

    /// Takes in a conversation that the finding stands for.
    pub(super) fn add(&mut self, c: &Conversation) {
        self.count += 1;
        self.state = self.state.into_iter().chain([c.state]).min();
        self.direction = self.direction.into_iter().chain([c.grade]).min();
        self.first_seen = self.first_seen.into_iter().chain(c.first.get()).min();
        self.last_seen = self.last_seen.into_iter().chain(c.last.get()).max();
    }
}

/// What makes conversations one finding.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub code: Code,
    pub client: String,
    pub server: String,
    pub transport: Transport,
    pub about: About,
}

/// What a finding is about at the server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    Port(u16),
    ManyPorts,
    Group(String),
}

/// The conversations of one finding; of many clients, their network.
pub(super) struct Fold {
    pub about: About,
    pub members: Vec<usize>,
    pub network: Option<String>,
}

/// The findings of conversations that nobody documented.
pub(super) fn of_conversations(
    judge: &Judge<'_>,
    list: &[Conversation],
    judged: &[Judged],
) -> Vec<Finding> {
    let policy = judge.policy;
    let wanted =
        |j: &Judged| matches!(j.verdict(), Verdict::UnexpectedPort | Verdict::Undocumented);
    let mut strangers = Vec::new();
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (number, (c, j)) in list.iter().zip(judged).enumerate().filter(|(_, (_, j))| wanted(j)) {
        if j.client.who == Who::Stranger && j.server.who == Who::Stranger {
            strangers.push(number);
            continue;
        }
        let key = Key {
            code: j.ruling.code,
            client: End::of(policy, &j.client, &c.subject.client.to_string()).identity,
            server: End::of(policy, &j.server, &c.subject.server.to_string()).identity,
            transport: c.subject.transport,
            about: About::Port(c.subject.port),
        };
        groups.entry(key).or_default().push(number);
    }
    let folds = fold_clients(policy, fold_ports(groups), list, judged);
    let mut findings: Vec<Finding> =
        folds.iter().map(|fold| explain(judge, list, judged, fold)).collect();
    if !strangers.is_empty() {
        findings.push(of_strangers(list, &strangers));
    }
    findings
}

/// Many ports of one pair become one.
fn fold_ports(groups: BTreeMap<Key, Vec<usize>>) -> BTreeMap<Key, Vec<usize>> {
    let mut ports: BTreeMap<Key, usize> = BTreeMap::new();
    let pair = |key: &Key| Key { about: About::ManyPorts, ..key.clone() };
    for key in groups.keys() {
        *ports.entry(pair(key)).or_default() += 1;
    }
    let mut folded: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (key, members) in groups {
        let many = pair(&key);
        let key = if ports[&many] >= FOLD { many } else { key };
        folded.entry(key).or_default().extend(members);
    }
    folded
}

/// Many clients of one network become one: of a network of the inventory, else of a /24 or /64.
pub(super) fn fold_clients(
    policy: &Policy,
    groups: BTreeMap<Key, Vec<usize>>,
    list: &[Conversation],
    judged: &[Judged],
) -> Vec<Fold> {
    let by_network = |key: &Key, members: &[usize]| {
        let (party, address) = (&judged[members[0]].client, list[members[0]].subject.client);
        // Everybody in a listed network is one client already.
        let listed = matches!(party.who, Who::Network(_));
        let network = policy.network(address).map(|n| policy.inventory.networks[n].name.clone());
        let network = network.unwrap_or_else(|| prefix_of(address).to_string());
        (!listed).then(|| Key { client: network, ..key.clone() })
    };
    let mut clients: BTreeMap<Key, usize> = BTreeMap::new();
    for (key, members) in &groups {
        if let Some(network) = by_network(key, members) {
            *clients.entry(network).or_default() += 1;
        }
    }
    // Unlisted networks that go to the same place.
    let place = |key: &Key| Key { client: "*".to_owned(), ..key.clone() };
    let mut networks: BTreeMap<Key, usize> = BTreeMap::new();
    let is_stranger = |members: &[usize]| judged[members[0]].client.who == Who::Stranger;
    let unlisted: BTreeSet<Key> = groups
        .iter()
        .filter(|(_, members)| is_stranger(members))
        .filter_map(|(key, members)| by_network(key, members))
        .collect();
    for network in &unlisted {
        *networks.entry(place(network)).or_default() += 1;
    }
    let (mut folds, mut many) = (Vec::new(), BTreeMap::<Key, Vec<usize>>::new());
    for (key, members) in groups {
        let network = by_network(&key, &members);
        let flood =
            is_stranger(&members) && networks.get(&place(&key)).is_some_and(|n| *n >= FLOOD);
        match network {
            Some(_) if flood => many.entry(place(&key)).or_default().extend(members),
            Some(network) if clients[&network] >= FOLD => {
                many.entry(network).or_default().extend(members);
            }
            _ => folds.push(Fold { about: key.about, members, network: None }),
        }
    }
    folds.extend(many.into_iter().map(|(key, mut members)| {
        members.sort_unstable();
        Fold { about: key.about, members, network: Some(key.client) }
    }));
    folds
}

/// The /24 or /64 of an address.
fn prefix_of(address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).map_or_else(|_| IpNet::from(address), |net| net.trunc())
}

/// The two ends of some conversations together.
pub(super) fn ends(
    policy: &Policy,
    list: &[Conversation],
    judged: &[Judged],
    fold: &Fold,
) -> (End, End) {
    let of = |number: usize| {
        let (c, j) = (&list[number], &judged[number]);
        let end = |party, address: IpAddr| End::of(policy, party, &address.to_string());
        (end(&j.client, c.subject.client), end(&j.server, c.subject.server))
    };
    let (mut client, mut server) = of(fold.members[0]);
    for number in &fold.members[1..] {
        let (other_client, other_server) = of(*number);
        client.with(&other_client);
        server.with(&other_server);
    }
    if let Some(network) = &fold.network {
        client.name = if network == "*" { "many networks".to_owned() } else { network.clone() };
        client.identity = format!("{network} *");
        client.in_network = true;
    }
    (client, server)
}

/// The clients of a fold of many, in words; nothing for one.
pub(super) fn who(
    policy: &Policy,
    list: &[Conversation],
    judged: &[Judged],
    fold: &Fold,
) -> Vec<String> {
    const SHOWN: usize = 20;
    if fold.network.is_none() {
        return Vec::new();
    }
    let name = |n: &usize| policy.label(&judged[*n].client, list[*n].subject.client);
    let clients: BTreeSet<String> = fold.members.iter().map(name).collect();
    let shown: Vec<&str> = clients.iter().take(SHOWN).map(String::as_str).collect();
    let more = clients.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    vec![format!("{} clients: {}{more}", clients.len(), shown.join(", "))]
}

fn of_strangers(list: &[Conversation], members: &[usize]) -> Finding {
    let everybody = || End { address: "*".into(), identity: "*".into(), ..End::default() };
    let mut finding = Finding::new(Code::UnknownHost, everybody(), everybody());
    for number in members {
        finding.add(&list[*number]);
    }
    "*".clone_into(&mut finding.transport);
    "*".clone_into(&mut finding.port);
    finding.message = format!(
        "{} conversations between addresses that the inventory does not list",
        finding.count
    );
    finding.action =
        "List the hosts in the inventory if they belong to the farm; the conversations are in conversations.csv"
            .into();
    finding.identify();
    finding
}

fn explain(judge: &Judge<'_>, list: &[Conversation], judged: &[Judged], fold: &Fold) -> Finding {
    let (policy, members) = (judge.policy, &fold.members);
    let (first, ruling) = (members[0], judged[members[0]].ruling);
    let many_ports = fold.about == About::ManyPorts;
    let (client, server) = ends(policy, list, judged, fold);
    let mut finding = Finding::new(ruling.code, client, server);
    let transport = list[first].subject.transport;
    finding.transport = transport.to_string();
    finding.port = match list[first].subject.shown_port() {
        _ if many_ports => "*".to_owned(),
        Some(port) => port.to_string(),
        None => String::new(),
    };
    if let Some(row) = ruling.row {
        finding.rule.clone_from(&policy.matrix.rows[row].id);
    }
    // The shown severity and doubts are those of the member that weighs most.
    let weight = |n: &&usize| (judged[**n].severity, judged[**n].doubts.certain(), Reverse(**n));
    if let Some(worst) = members.iter().max_by_key(weight) {
        finding.severity = judged[*worst].severity;
        finding.doubts = judged[*worst].doubts;
        finding.certain = finding.doubts.certain();
    }
    for number in members {
        finding.add(&list[*number]);
    }
    let service = if many_ports {
        let ports: BTreeSet<u16> = members.iter().map(|n| list[*n].subject.port).collect();
        let reached = members.iter().filter(|n| list[**n].state.reached());
        let reached: BTreeSet<u16> = reached.map(|n| list[*n].subject.port).collect();
        let (low, high) = (ports.first().unwrap_or(&0), ports.last().unwrap_or(&0));
        let list = if reached.is_empty() {
            "none reached".into()
        } else {
            format!("reached: {}", some(&reached))
        };
        format!(
            "{} {} ports from {low} to {high}, {list}",
            ports.len(),
            transport.to_string().to_uppercase()
        )
    } else {
        service_words(transport, &finding.port)
    };
    let (did, how) = how_far(finding.state, finding.count);
    finding.message = message(judge, &finding, ruling.row, &format!("{did} {service}"), &how);
    finding.action = action(policy, &finding, ruling.row);
    finding.display_filter = display_filter(list, members, many_ports);
    finding.trace = trace(judge, &finding, &list[first], &judged[first]);
    finding.trace.extend(who(policy, list, judged, fold));
    finding.identify();
    finding
}

/// The first of some ports in words.
fn some(ports: &BTreeSet<u16>) -> String {
    let shown: Vec<String> = ports.iter().take(20).map(u16::to_string).collect();
    let more = ports.len().saturating_sub(shown.len());
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// `TCP 443`, `ICMP type 3`, `IP protocol 112`.
pub(super) fn service_words(transport: Transport, port: &str) -> String {
    match transport {
        t if t.is_icmp() => format!("{} type {port}", t.to_string().to_uppercase()),
        t if t.has_ports() => format!("{} {port}", t.to_string().to_uppercase()),
        t => format!("IP protocol {}", t.0),
    }
}

/// What the client did, and what came of it.
fn how_far(state: Option<State>, count: u64) -> (&'static str, String) {
    let (did, state) = match state {
        Some(State::Established) => ("opened", "and was answered"),
        Some(State::Midstream) => ("used", "on a connection that was open already"),
        Some(State::HalfOpen) => ("tried", "and was answered, but did not go on"),
        Some(State::Refused) => ("tried", "and was refused"),
        Some(State::Rejected) => ("tried", "and was rejected on the way"),
        Some(State::Unanswered) => ("tried", "and got no answer"),
        Some(State::OneWay) => ("sent", "one way, without an answer"),
        Some(State::AnswerOnly) => ("asked", "by broadcast, and was answered"),
        Some(State::OneSided) | None => ("tried", "with only one direction visible"),
    };
    let many = if count == 1 { String::new() } else { format!(" ({count} conversations)") };
    (did, format!("{state}{many}"))
}

fn message(
    judge: &Judge<'_>,
    finding: &Finding,
    row: Option<usize>,
    did: &str,
    how: &str,
) -> String {
    let policy = judge.policy;
    let row = row.map(|r| &policy.matrix.rows[r]);
    let (client, server) = (finding.client.words_with_roles(), finding.server.words_with_roles());
    let talked = format!("{client} {did} to {server} {how}");
    let reason = match (finding.code, row) {
        (Code::FeatureOff, Some(row)) => {
            format!(
                "the matrix documents it only with {}, which the inventory says is off",
                off(policy, row)
            )
        }
        (Code::WrongTransport, Some(row)) => {
            format!("the matrix documents this port between them over {} only", row.transport)
        }
        (Code::Reversed, Some(_)) => {
            "the matrix documents this port the other way round".to_owned()
        }
        (Code::PortNotInMatrix, Some(row)) => {
            format!(
                "the inventory moved this port of {} elsewhere",
                policy.matrix.roles[row.destination].slug
            )
        }
        (Code::PortNotInMatrix, None) => {
            "the matrix joins these roles, but not on this port".to_owned()
        }
        (Code::ExposedInternal, Some(row)) => format!(
            "the port is internal to the farm ({}), and the client comes from outside",
            row.purpose
        ),
        (Code::WrongSource, Some(_)) => {
            let others = documented_sources(judge, finding, row);
            format!("the matrix documents this port there for {others} only")
        }
        (Code::NoRelation, _) => "the matrix never joins these roles in this direction".to_owned(),
        (Code::NoRole, _) => "an end of it has no role in the inventory".to_owned(),
        _ => "the inventory does not list one end of it".to_owned(),
    };
    format!("{talked}; {reason}")
}

/// The features of a row that are off, in words.
pub(super) fn off(policy: &Policy, row: &Row) -> String {
    let is_off = |f: &&String| policy.inventory.features.get(*f) == Some(&false);
    let names: Vec<_> = row.features.iter().filter(is_off).map(String::as_str).collect();
    format!("the feature {}", names.join(" and "))
}

/// The roles that may use the port that a row documents.
fn documented_sources(judge: &Judge<'_>, finding: &Finding, row: Option<&Row>) -> String {
    let matrix = &judge.policy.matrix;
    let Some(row) = row else { return String::new() };
    let port = *row.ports.start();
    let same = |r: &&Row| {
        r.transport == row.transport
            && r.ports.contains(&port)
            && matrix.roles[r.destination].members.meets(matrix.roles[row.destination].members)
            && finding.server.roles.split(';').any(|role| {
                matrix.role(role).is_some_and(|n| {
                    matrix.roles[r.destination].members.meets(crate::policy::RoleSet::one(n))
                })
            })
    };
    let sources: BTreeSet<&str> =
        matrix.rows.iter().filter(same).map(|r| matrix.roles[r.source].slug.as_str()).collect();
    sources.into_iter().collect::<Vec<_>>().join(", ")
}

fn action(policy: &Policy, finding: &Finding, row: Option<usize>) -> String {
    match finding.code {
        Code::FeatureOff => {
            let row = row.map(|r| &policy.matrix.rows[r]);
            let feature = row.map_or_else(String::new, |r| off(policy, r));
            format!("Set {feature} to true in the inventory if the farm uses it; else find out what uses it")
        }
        Code::WrongTransport | Code::PortNotInMatrix => format!(
            "Find out what on {} uses it; close it, or record a moved port in the inventory",
            finding.server.words()
        ),
        Code::Reversed => "Check the roles of both hosts in the inventory; else find out why the server calls back".to_owned(),
        Code::ExposedInternal => format!("Close the port of {} to addresses outside the farm", finding.server.words()),
        Code::WrongSource | Code::NoRelation => format!(
            "Find out why {} talks to {}; forbid it on the firewall between them, or correct the roles in the inventory",
            finding.client.words(),
            finding.server.words()
        ),
        Code::NoRole => "Give the host its roles in the inventory".to_owned(),
        _ => "List the host in the inventory with its roles, or find out who it is".to_owned(),
    }
}

/// A Wireshark display filter for the packets of some conversations.
pub(super) fn display_filter(list: &[Conversation], members: &[usize], many_ports: bool) -> String {
    const SHOWN: usize = 8;
    let address = |a: IpAddr| match a {
        IpAddr::V4(a) => format!("ip.addr == {a}"),
        IpAddr::V6(a) => format!("ipv6.addr == {a}"),
    };
    let pairs: BTreeSet<(IpAddr, IpAddr)> =
        members.iter().map(|n| (list[*n].subject.client, list[*n].subject.server)).collect();
    let servers: BTreeSet<IpAddr> = pairs.iter().map(|p| p.1).collect();
    let ends: Vec<String> = if pairs.len() <= SHOWN {
        pairs.iter().map(|(c, s)| format!("({} && {})", address(*c), address(*s))).collect()
    } else {
        servers.iter().take(SHOWN).map(|s| format!("({})", address(*s))).collect()
    };
    let mut filter = ends.join(" || ");
    if ends.len() > 1 {
        filter = format!("({filter})");
    }
    let subject = list[members[0]].subject;
    let _ = match subject.transport {
        t if t.has_ports() && !many_ports => write!(filter, " && {t}.port == {}", subject.port),
        t if t.has_ports() => write!(filter, " && {t}"),
        Transport::ICMP => write!(filter, " && icmp.type == {}", subject.port),
        Transport::ICMP6 => write!(filter, " && icmpv6.type == {}", subject.port),
        t if subject.server.is_ipv6() => write!(filter, " && ipv6.nxt == {}", t.0),
        t => write!(filter, " && ip.proto == {}", t.0),
    };
    filter
}

/// What was considered for the first conversation of a finding.
pub(super) fn trace(
    judge: &Judge<'_>,
    finding: &Finding,
    c: &Conversation,
    j: &Judged,
) -> Vec<String> {
    let policy = judge.policy;
    let mut trace = vec![
        format!("client {}: {}", c.subject.client, policy.describe(&j.client)),
        format!("server {}: {}", c.subject.server, policy.describe(&j.server)),
        format!(
            "direction by {}; state {}; {} packets and {} bytes to the server, {} and {} back",
            c.grade,
            c.state,
            c.to_server.packets.0,
            c.to_server.bytes.0,
            c.to_client.packets.0,
            c.to_client.bytes.0
        ),
    ];
    for error in c.rare().errors.iter() {
        let whose = if error.side == 0 { "client" } else { "server" };
        trace.push(format!(
            "{} answered a packet of the {whose} with ICMP {:?}",
            error.by, error.kind
        ));
    }
    if let Some(row) = j.ruling.row {
        let row = &policy.matrix.rows[row];
        let features = match policy.feature_state(row) {
            FeatureState::On => String::new(),
            FeatureState::Unknown => {
                format!("; the inventory does not name {}", row.features.join(" and "))
            }
            FeatureState::Off => format!("; {} is off", off(policy, row)),
        };
        trace.push(format!("row {} ({}, {}){features}", row.id, row.purpose, row.provenance));
        if row.is_doubtful() {
            trace.push(format!("the row is doubtful: {}", row.note));
        }
    } else {
        let nearest = nearest_rows(judge, j);
        if nearest.is_empty() {
            trace.push("no row of the matrix joins these ends".to_owned());
        } else {
            trace.push(format!("rows that join these ends: {}", nearest.join(", ")));
        }
    }
    if let Some(other) = j.other {
        trace.push(format!("read the other way round it would be {}/{}", other.verdict(), other));
    }
    if finding.count > 1 {
        trace.push(format!("the first of {} conversations of this finding", finding.count));
    }
    trace
}

/// Rows that join the two ends on other ports.
fn nearest_rows<'a>(judge: &Judge<'a>, j: &Judged) -> Vec<&'a str> {
    const SHOWN: usize = 5;
    let policy = judge.policy;
    let (client, server) = (policy.client_roles(&j.client, &j.server, false), j.server.roles);
    let matrix = &policy.matrix;
    let joins = |row: &&Row| matrix.is_source(row, client) && matrix.is_destination(row, server);
    matrix.rows.iter().filter(joins).take(SHOWN).map(|row| row.id.as_str()).collect()
}
