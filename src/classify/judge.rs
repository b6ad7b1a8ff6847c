//! Determines the code of each conversation, and the row or exception that it is based on.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::OnceLock;

use super::parallel::map_ranges;
use super::query_kind::{ByQueryKind, PortClasses, QueryKind, Rulings, Undocumented};
use super::ruling::{Judged, Ruling, SmallIndex};
use super::verdict::{Code, Doubt, Doubts, Verdict};
use crate::conversation::{
    Conversation, Conversations, DoubtSource, KnownName, ServerNames, ServiceKey, State,
};
use crate::model::{Mac, Nanos, Transport, is_of_platform};
use crate::policy::{
    EndpointTarget, ExceptionMatch, Exposure, FeatureState, Party, PartyKind, Policy, RoleSet, Row,
    Scope, Severity, SeverityColumn,
};

/// Facts about a query that several permission checks need.
pub(super) struct PermissionFacts {
    /// The ruling based on the best row that matches the query. Rows whose features are off do not
    /// count.
    pub documented: Option<Ruling>,
    /// A row that matches the query, but needs a feature that is off.
    pub off: Option<usize>,
    /// Whether both ends have roles.
    pub have_roles: bool,
}

/// The host that owns each hardware address; `None` if several hosts own it.
type CardOwners = HashMap<Mac, Option<usize>, ahash::RandomState>;

/// A query to the judge: the traffic, and how it was sent.
#[derive(Clone, Copy)]
pub(super) struct Query<'n> {
    pub client: Party,
    pub server: Party,
    pub client_roles: RoleSet,
    pub server_roles: RoleSet,
    pub subject: ServiceKey,
    pub broadcast: bool,
    /// Whether the traffic answers a broadcast, so that the row of the broadcast applies.
    pub answer: bool,
    /// Whether an endpoint mapper announced the port.
    pub announced: bool,
    /// The name of the server, if the query is about one of its names.
    pub name: Option<&'n str>,
    /// Whether both the client and a witness confirm the name.
    pub name_is_sure: bool,
    /// The latest time at which the last packet may have arrived.
    pub latest: Option<Nanos>,
}

/// The transports that have ports.
const WITH_PORTS: [Transport; 3] = [Transport::TCP, Transport::UDP, Transport::SCTP];

/// The doubt about a ruling that follows from each doubt about the flows.
pub(super) const DOUBTS_BY_SOURCE: [(DoubtSource, Doubt); 4] = [
    (DoubtSource::Direction, Doubt::Direction),
    (DoubtSource::Spoof, Doubt::Spoof),
    (DoubtSource::Tunnel, Doubt::Tunnel),
    (DoubtSource::Quoted, Doubt::Quoted),
];

/// Judges conversations against a policy.
pub struct Judge<'a> {
    /// The policy that conversations are judged against.
    pub policy: &'a Policy,
    /// For each role, the roles that some row allows it to reach, and whether a row allows it to
    /// reach any host.
    reachable: Vec<(RoleSet, bool)>,
    /// The roles that occur in the inventory.
    present: RoleSet,
    /// The roles of the services that the inventory lists by names.
    named: RoleSet,
    /// The rows whose destination is a name or an address.
    endpoints: Vec<usize>,
    ports: PortClasses,
    /// The addresses that rows name. Traffic from or to them is ruled on separately.
    named_addresses: HashSet<IpAddr, ahash::RandomState>,
    /// For each code, its severity in each [`SeverityColumn`].
    severities: Vec<[Severity; 2]>,
    /// The rulings made so far.
    rulings: Rulings,
}

impl<'a> Judge<'a> {
    /// Returns a judge for one policy.
    pub fn new(policy: &'a Policy) -> Self {
        let matrix = &policy.matrix;
        let reachable = (0..matrix.roles.len()).map(|role| {
            let mut reach = (RoleSet::default(), false);
            let rows = matrix.rows.iter().filter(|r| r.scope != Scope::Localhost);
            for row in rows.filter(|r| matrix.is_source(r, RoleSet::one(role))) {
                let destination = &matrix.roles[row.destination];
                reach = (reach.0.with(destination.members), reach.1 || destination.is_any);
            }
            reach
        });
        let rows = matrix.rows.iter().enumerate();
        let endpoints = rows.filter(|(_, row)| row.only.is_some()).map(|(number, _)| number);
        let named_addresses = matrix.rows.iter().flat_map(|row| {
            let own = match &row.only {
                Some(EndpointTarget::Address(address)) => Some(*address),
                Some(EndpointTarget::Name(_)) | None => None,
            };
            own.into_iter().chain(row.multicast.iter().copied())
        });
        let named_addresses = named_addresses.collect();
        let reachable = reachable.collect();
        let endpoints = endpoints.collect();
        let table = &matrix.severities;
        let columns = [SeverityColumn::Attempted, SeverityColumn::Reached];
        let severities = Code::ALL.iter().map(|code| {
            columns.map(|column| table.get(code.verdict().name(), code.name(), column))
        });
        let severities = severities.collect();
        let present = policy.present_roles();
        let services = policy.inventory.services.iter().filter(|service| !service.names.is_empty());
        let named = services.map(|s| RoleSet::one(s.role)).fold(RoleSet::default(), RoleSet::with);
        let rulings = Rulings::default();
        let ports = PortClasses::of(policy);
        Self {
            policy,
            reachable,
            present,
            named,
            endpoints,
            ports,
            named_addresses,
            severities,
            rulings,
        }
    }

    /// Returns a judge for which every role is present, for queries without an inventory.
    pub fn of_any_farm(policy: &'a Policy) -> Self {
        let roles = policy.matrix.roles.iter();
        let present = roles.map(|r| r.members).fold(RoleSet::default(), RoleSet::with);
        Self { present, ..Self::new(policy) }
    }

    /// Returns the roles that occur in the inventory, or all roles for [`Self::of_any_farm`].
    pub fn present(&self) -> RoleSet {
        self.present
    }

    /// Judges all conversations on `jobs` threads, and returns the results in the order of the
    /// conversations.
    pub(super) fn judge_all(&self, conversations: &Conversations, jobs: usize) -> Vec<Judged> {
        let list = &conversations.list;
        let parts = map_ranges(list.len(), jobs, |range| {
            let judged = |c| self.judge(conversations, c, &self.rulings);
            list[range].iter().map(judged).collect::<Vec<_>>()
        });
        parts.into_iter().reduce(|all, next| [all, next].concat()).unwrap_or_default()
    }

    /// Judges one conversation without reusing earlier rulings.
    pub fn judge_alone(&self, conversations: &Conversations, number: usize) -> Judged {
        self.judge(conversations, &conversations.list[number], &Rulings::default())
    }

    /// Returns the judgements of conversations between unlisted addresses that probably belong to
    /// listed hosts, each with the index of the conversation. Such a guess is only shown: it must
    /// not become a fact about the hosts.
    pub(super) fn guesses(
        &self,
        conversations: &Conversations,
        judged: &[Judged],
        jobs: usize,
    ) -> Vec<(usize, Judged)> {
        let list = &conversations.list;
        let owners = OnceLock::new();
        let parts = map_ranges(list.len(), jobs, |range| {
            let are_strangers = |n: &usize| {
                let Judged { ruling, client, server, .. } = &judged[*n];
                ruling.code == Code::UnknownHost
                    && [client, server].into_iter().all(|end| end.kind == PartyKind::Stranger)
            };
            let guess = |n: usize| {
                let owners = owners.get_or_init(|| self.card_owners(conversations));
                Some((n, self.guess(conversations, &list[n], owners)?))
            };
            range.filter(are_strangers).filter_map(guess).collect::<Vec<_>>()
        });
        parts.into_iter().flatten().collect()
    }

    fn guess(
        &self,
        conversations: &Conversations,
        c: &Conversation,
        owners: &CardOwners,
    ) -> Option<Judged> {
        let (query, ruling) = self.ruled_by_macs(conversations, c, owners)?;
        let mut doubts = Doubts::default();
        doubts.add(Doubt::Spoof);
        Some(self.judge_query(conversations, c, (query, ruling, doubts), &self.rulings))
    }

    fn judge(
        &self,
        conversations: &Conversations,
        conversation: &Conversation,
        known: &Rulings,
    ) -> Judged {
        let query = self.query_of(conversation);
        let ruling = self.rule_once(&query, known);
        self.judge_query(conversations, conversation, (query, ruling, Doubts::default()), known)
    }

    /// Judges a conversation, given the query about it, the ruling on this query, and the doubts
    /// about its ends.
    fn judge_query(
        &self,
        conversations: &Conversations,
        conversation: &Conversation,
        (query, mut ruling, mut doubts): (Query<'static>, Ruling, Doubts),
        known: &Rulings,
    ) -> Judged {
        let names = conversations.names_of(conversation);
        let mut named = None;
        if self.may_depend_on_name(&query, ruling)
            && let Some((place, decided)) = self.rule_by_names(&query, names)
        {
            // A chain of aliases fits in a DNS message of at most 65,535 bytes, so its index fits
            // in 16 bits.
            let (number, alias) = place;
            (ruling, named) = (decided, Some((SmallIndex::new(number), alias as u16)));
            let about_names = decided.code != Code::UnknownHost || self.only_a_name_decides(&query);
            let sure = names.known[place.0].is_strong(place.1) && !names.hidden;
            if about_names && !sure {
                doubts.add(Doubt::Name);
            }
        } else if ruling.code == Code::UnknownHost && self.only_a_name_decides(&query) {
            doubts.add(Doubt::Name);
        }
        let mut other = None;
        if conversation.doubts.has(DoubtSource::Direction) {
            other = self.other_reading(conversation, &query, ruling.code, known);
        }
        for (source, doubt) in DOUBTS_BY_SOURCE {
            if conversation.doubts.has(source) {
                doubts.add(doubt);
            }
        }
        if ruling.row().is_some_and(|row| self.is_doubtful(row, conversation.announced)) {
            doubts.add(Doubt::Row);
        }
        if ruling.code == Code::ExposedInternal
            && self.policy.may_be_of_site(&query.client, query.subject.client)
        {
            doubts.add(Doubt::Site);
        }
        if self.may_answer_from_elsewhere(conversations, conversation) {
            doubts.add(Doubt::Direction);
        }
        if conversation.is_aggregated() {
            doubts.add(Doubt::Aggregated);
        }
        // The exception may have expired only after the last packet, whose time is not known.
        let last = conversation.last.get();
        if ruling.code == Code::ExpiredException
            && last != query.latest
            && matches!(self.exception_at(&query, last), Some(ExceptionMatch::Holds(_)))
        {
            doubts.add(Doubt::Clock);
        }
        let strangers =
            query.client.kind == PartyKind::Stranger && query.server.kind == PartyKind::Stranger;
        let severity = if strangers {
            Severity::Info
        } else {
            let column = SeverityColumn::reached_if(conversation.state.reached());
            self.severity(ruling.code, column, doubts)
        };
        let kind = shown_kind(query.server.kind, conversation);
        let server = Party { kind, ..query.server };
        Judged { ruling, client: query.client, server, doubts, named, other, severity }
    }

    /// Returns whether a row leaves a doubt: either the row itself is doubtful, or an endpoint
    /// mapper assigns the ports of the row and the capture does not show that it announced this
    /// port.
    fn is_doubtful(&self, row: usize, announced: bool) -> bool {
        let row = &self.policy.matrix.rows[row];
        row.is_doubtful() || (row.announced_by.is_some() && !announced)
    }

    /// Returns whether the server's name may change the ruling. Names do not matter for hosts and
    /// services that are listed by address, for broadcasts, or for traffic that is permitted
    /// without a name.
    pub(super) fn may_depend_on_name(&self, query: &Query<'_>, ruling: Ruling) -> bool {
        let listed = matches!(query.server.kind, PartyKind::Host(_) | PartyKind::Service(_));
        !listed && !query.broadcast && ruling.code.verdict().is_unpermitted()
    }

    /// Returns the ruling based on the server's names: the best one among the aliases of a name,
    /// and the worst one among several names. Also returns the index of the name and of its alias.
    /// Returns `None` if no name counts.
    fn rule_by_names(
        &self,
        query: &Query<'_>,
        names: &ServerNames,
    ) -> Option<((usize, usize), Ruling)> {
        let of_name = |(number, known): (usize, &KnownName)| {
            let aliases = known.names.iter().enumerate().map(|(alias, name)| {
                let name_is_sure = known.is_strong(alias) && !names.hidden;
                let query = Query { name_is_sure, ..self.with_name(query, name) };
                ((number, alias), self.rule(&query))
            });
            aliases.min_by_key(|(place, ruling)| (ruling.code, *place))
        };
        // For an internal address or an address in a listed network, a name counts only if both the
        // client and a witness confirm it.
        let inside = query.server.kind != PartyKind::Stranger
            || self.policy.is_internal(query.subject.server);
        let known = names.known.iter().enumerate().filter(|(_, k)| !inside || k.is_strong(0));
        let rulings = known.filter_map(of_name);
        // Among equally bad rulings, the first one counts.
        rulings.max_by_key(|(place, ruling)| (ruling.code, std::cmp::Reverse(*place)))
    }

    pub(super) fn with_name<'n>(&self, query: &Query<'_>, name: &'n str) -> Query<'n> {
        let server_roles = query.server_roles.with(self.policy.roles_of_name(name));
        Query { server_roles, name: Some(name), ..*query }
    }

    /// Returns the severity of a code. A judgement with doubts never exceeds medium.
    pub fn severity(&self, code: Code, column: SeverityColumn, doubts: Doubts) -> Severity {
        let severity = self.severities[code as usize][column as usize];
        if doubts.certain() { severity } else { severity.min(Severity::Medium) }
    }

    /// Returns the severity of a failure if every client also had a connection that worked and that
    /// a row of the same group documents.
    pub(super) fn another_way_worked(&self, code: Code) -> Severity {
        let table = &self.policy.matrix.severities;
        table.get(code.verdict().name(), "another-way-worked", SeverityColumn::Reached)
    }

    /// Returns the kind of a query: the properties that determine which rows document it. Only
    /// plain traffic has a kind: it has no server name, is neither a broadcast nor the answer to
    /// one, no row names one of its addresses, and the inventory moves no ports.
    fn kind(&self, query: &Query<'_>) -> Option<QueryKind> {
        let ServiceKey { client, server, transport, port } = query.subject;
        // A port may be moved for a single host, and a kind does not contain the host, so no query
        // has a kind if any port is moved.
        let moved = !self.policy.inventory.moved.is_empty();
        let is_named = || [client, server].iter().any(|end| self.named_addresses.contains(end));
        let plain =
            query.name.is_none() && !query.broadcast && !query.answer && !moved && !is_named();
        plain.then(|| QueryKind {
            client: query.client_roles,
            server: query.server_roles,
            anybody: self.policy.is_anybody(&query.client),
            same: matches!(query.client.kind, PartyKind::Host(_))
                && query.client.kind == query.server.kind,
            loopback: client.is_loopback() && server.is_loopback(),
            announced: query.announced,
            service: (transport, self.ports.class(transport, port)),
            undocumented: None,
        })
    }

    /// Returns the kind that determines the ruling on plain traffic that no row documents.
    fn undocumented_kind(&self, kind: QueryKind, query: &Query<'_>) -> QueryKind {
        let undocumented = Undocumented {
            is_listed: [query.client.kind, query.server.kind]
                .map(|kind| kind != PartyKind::Stranger),
            is_outside: self.is_outside(&query.client, query.subject.client),
            is_link_local: crate::model::is_link_local(query.subject.server),
        };
        QueryKind { undocumented: Some(undocumented), ..kind }
    }

    /// Returns the ruling on a query; earlier rulings are reused.
    pub(super) fn rule_shared(&self, query: &Query<'_>) -> Ruling {
        self.rule_once(query, &self.rulings)
    }

    /// Returns the ruling on a query. Where possible, a ruling is reused for queries of the same
    /// kind, but exceptions are checked each time unless a row documents the traffic.
    pub(super) fn rule_once(&self, query: &Query<'_>, known: &Rulings) -> Ruling {
        let Some(kind) = self.kind(query) else { return self.rule(query) };
        if let Some(ruling) = known.get(kind) {
            return ruling;
        }
        let undocumented = self.undocumented_kind(kind, query);
        if let Some(ruling) = known.get(undocumented) {
            return self.with_exceptions(query, ruling);
        }
        let ruling = self.rule_without_exceptions(query);
        let by_row = ruling.row().is_some() && ruling.code.verdict() == Verdict::Documented;
        known.insert(if by_row { kind } else { undocumented }, ruling);
        self.with_exceptions(query, ruling)
    }

    /// Calls `make` with all rows that document a judged conversation, whatever the state of their
    /// features. The result is reused for conversations of the same kind.
    pub(super) fn fitting<T: Clone>(
        &self,
        all: &Conversations,
        c: &Conversation,
        judged: &Judged,
        known: &mut ByQueryKind<T>,
        make: impl FnOnce(Vec<usize>) -> T,
    ) -> T {
        let mut query = self.query_between(c, judged.client, judged.server);
        if let Some((number, alias)) = judged.named() {
            query = self.with_name(&query, &all.names_of(c).known[number].names[alias]);
        }
        let kind = self.kind(&query);
        if let Some(made) = kind.and_then(|kind| known.get(&kind)) {
            return made.clone();
        }
        let made = make(self.matching_rows(&query).map(|(row, _)| row).collect());
        if let Some(kind) = kind {
            known.insert(kind, made.clone());
        }
        made
    }

    fn query_of(&self, c: &Conversation) -> Query<'static> {
        let party = |address: IpAddr, side: usize| {
            if address.is_loopback() && c.rare().on_wire {
                Policy::nobody()
            } else {
                self.policy.party(address, c.rare().macs[side].iter())
            }
        };
        let ServiceKey { client, server, .. } = c.ruled_subject();
        self.query_between(c, party(client, 0), party(server, 1))
    }

    /// Returns the query and the ruling of a conversation between two addresses that the inventory
    /// does not list, if one of them probably belongs to a listed host: its packets passed no
    /// router, and only this host sends other frames with the same hardware addresses. Anyone can
    /// forge these, so such a guess permits nothing. Without it, the conversation would be one of
    /// two unlisted ends, and no finding.
    fn ruled_by_macs(
        &self,
        conversations: &Conversations,
        c: &Conversation,
        owners: &CardOwners,
    ) -> Option<(Query<'static>, Ruling)> {
        let index = &conversations.index;
        let host_at = |side: usize, address: IpAddr| {
            let is_link_local = crate::model::is_link_local(address);
            let seen = index.presence(address).filter(|seen| !is_link_local && !seen.routed);
            let of_flows = c.rare().macs[side].iter().filter(|_| is_link_local);
            let mut macs = of_flows.chain(seen.iter().flat_map(|seen| seen.macs.iter()));
            let owner = |mac: &Mac| {
                // The policy recognizes link-local addresses by listed hardware addresses.
                let is_known = is_link_local && self.policy.is_listed_mac(*mac);
                let host = owners.get(mac).copied().flatten().filter(|_| !is_known);
                host.filter(|_| !index.gateways().contains(mac))
            };
            let host = owner(macs.next()?)?;
            let own = self.policy.inventory.hosts[host].addresses.first()?;
            macs.all(|mac| owner(mac) == Some(host)).then(|| self.policy.party(*own, []))
        };
        let ServiceKey { client, server, .. } = c.ruled_subject();
        let hosts = [host_at(0, client), host_at(1, server)];
        if hosts == [None; 2] {
            return None;
        }
        let plain = self.query_of(c);
        let [client, server] = hosts;
        let (client, server) = (client.unwrap_or(plain.client), server.unwrap_or(plain.server));
        let query = self.query_between(c, client, server);
        let ruling = self.rule_once(&query, &self.rulings);
        ruling.code.verdict().is_unpermitted().then_some((query, ruling))
    }

    /// Returns the hosts that own hardware addresses, because they are listed for the host or send
    /// the frames of a listed address. `None` means that somebody else also uses it, as with a
    /// router. Unlisted addresses do not count, because they may be those of the host. The holders
    /// of a virtual address send its frames, so virtual addresses do not count, either.
    fn card_owners(&self, conversations: &Conversations) -> CardOwners {
        let hosts = &self.policy.inventory.hosts;
        let mut owners = CardOwners::default();
        let mut add = |mac: Mac, owner: Option<usize>| {
            let known = owners.entry(mac).or_insert(owner);
            *known = known.filter(|known| Some(*known) == owner);
        };
        for (address, seen) in conversations.index.activities().filter(|(_, seen)| !seen.routed) {
            let owner = match self.policy.party(address, []).kind {
                PartyKind::Host(host) if hosts[host].is_virtual() => continue,
                PartyKind::Host(host) => Some(host),
                PartyKind::Stranger => continue,
                _ => None,
            };
            seen.macs.iter().for_each(|mac| add(*mac, owner));
        }
        for (host, entry) in hosts.iter().enumerate() {
            entry.macs.iter().for_each(|mac| add(*mac, Some(host)));
        }
        owners
    }

    /// Returns the code that a conversation would have between the given ends.
    pub(super) fn rule_between(&self, c: &Conversation, client: Party, server: Party) -> Code {
        self.rule(&self.query_between(c, client, server)).code
    }

    fn query_between(&self, c: &Conversation, client: Party, server: Party) -> Query<'static> {
        let plain = self.plain_query(client, server, c.ruled_subject());
        Query {
            answer: c.state == State::AnswerOnly,
            announced: c.announced,
            latest: c.latest(),
            ..self.with_broadcast(plain, c.broadcast)
        }
    }

    /// Turns a plain query into one about a broadcast if `broadcast` is true.
    pub(super) fn with_broadcast<'n>(&self, plain: Query<'n>, broadcast: bool) -> Query<'n> {
        if broadcast {
            let client_roles = self.policy.broadcaster_roles(&plain.client);
            Query { broadcast, client_roles, ..plain }
        } else {
            plain
        }
    }

    /// Returns the query for plain traffic between two parties.
    pub(super) fn plain_query(
        &self,
        client: Party,
        server: Party,
        subject: ServiceKey,
    ) -> Query<'static> {
        Query {
            client,
            server,
            client_roles: self.policy.client_roles(&client, &server),
            server_roles: server.roles,
            subject,
            broadcast: false,
            answer: false,
            announced: false,
            name: None,
            name_is_sure: false,
            latest: None,
        }
    }

    /// Returns the rows that allow the two ends to communicate on this port, each with a flag that
    /// is true if the inventory moved the port. A moved port matches only at its new number.
    pub(super) fn matching_rows<'q>(
        &'q self,
        query: &Query<'q>,
    ) -> impl Iterator<Item = (usize, bool)> + use<'q, 'a> {
        let query = *query;
        let matrix = &self.policy.matrix;
        let subject = query.subject;
        let same = matches!(query.client.kind, PartyKind::Host(_))
            && query.client.kind == query.server.kind;
        let loopback = subject.client.is_loopback() && subject.server.is_loopback();
        let anybody = self.policy.is_anybody(&query.client);
        // The roles of the party are not enough: a broadcast reaches every role that is present,
        // and a server may have roles by its name that its address lacks.
        let roles = if query.broadcast { self.present } else { query.server_roles };
        let server = Party { roles, ..query.server };
        self.policy.candidates(subject.transport, subject.port, server).filter_map(
            move |candidate| {
                let row = &matrix.rows[candidate.row];
                let scope_fits = match row.scope {
                    Scope::Localhost => loopback || same,
                    Scope::Broadcast if row.multicast.is_empty() => {
                        query.answer || (query.broadcast && !subject.server.is_multicast())
                    }
                    Scope::Broadcast => row.multicast.contains(&subject.server),
                    // A host may use its own services under any of its addresses.
                    Scope::Network | Scope::Internet => !query.broadcast && (!loopback || same),
                };
                let destination_fits = match (&row.only, row.scope) {
                    (Some(EndpointTarget::Name(name)), _) => {
                        query.name.is_some_and(|n| name.matches(n))
                    }
                    (Some(EndpointTarget::Address(address)), _) => *address == subject.server,
                    (None, Scope::Localhost) => true,
                    // A row for broadcasts matches only if its destination role occurs in the
                    // inventory, whether for a host, a network or a service.
                    (None, Scope::Broadcast) if query.broadcast => {
                        matrix.is_destination(row, self.present)
                    }
                    (None, _) => matrix.is_destination(row, query.server_roles),
                };
                let matches = scope_fits
                    && destination_fits
                    && matrix.is_source(row, query.client_roles)
                    && (!anybody || self.policy.is_for_anybody(row));
                matches.then_some((candidate.row, candidate.moved))
            },
        )
    }

    /// Returns the ruling on a query: the first code that applies. An exception applies only if
    /// nothing else permits the traffic.
    pub(super) fn rule(&self, query: &Query<'_>) -> Ruling {
        self.with_exceptions(query, self.rule_without_exceptions(query))
    }

    fn with_exceptions(&self, query: &Query<'_>, ruling: Ruling) -> Ruling {
        if !ruling.code.verdict().is_unpermitted() || self.policy.exceptions.list.is_empty() {
            return ruling;
        }
        match self.exception_at(query, query.latest) {
            Some(ExceptionMatch::Holds(number)) => Ruling::by_exception(number),
            Some(ExceptionMatch::Expired(number)) => ruling.after_expiry_of(number),
            None => ruling,
        }
    }

    /// Returns the exception that matches a query if its last packet arrived at `last`.
    fn exception_at(&self, query: &Query<'_>, last: Option<Nanos>) -> Option<ExceptionMatch> {
        let ServiceKey { client, server, transport, port } = query.subject;
        let ends = [(&query.client, client), (&query.server, server)];
        self.policy.exceptions.find(ends, transport, port, last)
    }

    /// Finds the best of the rows that match a query, and the other facts that several checks need.
    pub(super) fn permission_facts(&self, query: &Query<'_>) -> PermissionFacts {
        let matrix = &self.policy.matrix;
        let mut off = None;
        let mut best = None;
        for (number, moved) in self.matching_rows(query) {
            let row = &matrix.rows[number];
            let features = self.policy.feature_state(row);
            if features == FeatureState::Off {
                off = off.or(Some(number));
                continue;
            }
            let code = match &row.overlay {
                Some(_) => Code::Overlay,
                None if moved => Code::Renumbered,
                None => Code::Matrix,
            };
            let doubtful = self.is_doubtful(number, query.announced);
            let overlay = row.overlay.is_some();
            // A row that needs a feature which is usually off and not mentioned in the inventory
            // counts only if no other row matches.
            let unusual = self.policy.is_unusual(row);
            let rank = (unusual, overlay, features, doubtful, moved, matrix.precedence(number));
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, Ruling::by_row(code, number)));
            }
        }
        let have_roles = !query.client_roles.is_empty() && !query.server_roles.is_empty();
        PermissionFacts { documented: best.map(|(_, ruling)| ruling), off, have_roles }
    }

    /// Returns whether some row allows the two ends to communicate in this direction, on any port.
    pub(super) fn may_communicate(&self, query: &Query<'_>) -> bool {
        query.client_roles.iter().any(|role| {
            let (roles, any_host) = self.reachable[role];
            any_host || roles.intersects(query.server_roles)
        })
    }

    /// Returns whether the server is an endpoint that the matrix itself names, by its address or by
    /// a confirmed name, and that the client may reach on some port.
    pub(super) fn may_reach_endpoint(&self, query: &Query<'_>) -> bool {
        self.endpoints.iter().any(|row| {
            let row = &self.policy.matrix.rows[*row];
            let is_it = match &row.only {
                Some(EndpointTarget::Name(pattern)) => {
                    query.name_is_sure && query.name.is_some_and(|name| pattern.matches(name))
                }
                Some(EndpointTarget::Address(address)) => *address == query.subject.server,
                None => false,
            };
            is_it && self.policy.matrix.is_source(row, query.client_roles)
        })
    }

    pub(super) fn is_background(&self, query: &Query<'_>) -> bool {
        let ServiceKey { server, transport, port, .. } = query.subject;
        self.policy.background(transport, port).is_some_and(|entry| {
            entry.anywhere || query.broadcast || query.answer || crate::model::is_link_local(server)
        })
    }

    /// Returns the row that would document the query if the inventory had not moved its port
    /// elsewhere.
    pub(super) fn moved_away(&self, query: &Query<'_>) -> Option<usize> {
        let matrix = &self.policy.matrix;
        let ServiceKey { transport, port, .. } = query.subject;
        self.policy.moved_away(transport, port, query.server).find(|row| {
            let row = &matrix.rows[*row];
            matrix.is_source(row, query.client_roles)
                && matrix.is_destination(row, query.server_roles)
        })
    }

    /// Returns the first row that would document the query over another transport, unless a feature
    /// of the row is off.
    pub(super) fn other_transport(&self, query: &Query<'_>) -> Option<usize> {
        if !query.subject.transport.has_ports() {
            return None;
        }
        let others = WITH_PORTS.into_iter().filter(|other| *other != query.subject.transport);
        let mut rows = others.flat_map(|transport| {
            let subject = ServiceKey { transport, ..query.subject };
            let mut rows = self.matching_rows(&Query { subject, ..*query }).map(|(row, _)| row);
            rows.find(|row| !self.is_off(*row))
        });
        rows.next()
    }

    pub(super) fn reversed(&self, query: &Query<'_>) -> Option<usize> {
        let turned = Query {
            client: query.server,
            server: query.client,
            client_roles: query.server_roles,
            server_roles: query.client_roles,
            subject: ServiceKey {
                client: query.subject.server,
                server: query.subject.client,
                ..query.subject
            },
            name: None,
            name_is_sure: false,
            ..*query
        };
        self.matching_rows(&turned).map(|(row, _)| row).next()
    }

    /// Returns the rows for network or internet traffic that document the port at the server,
    /// whatever their clients.
    pub(super) fn documented_for_others(
        &self,
        query: &Query<'_>,
    ) -> impl Iterator<Item = usize> + use<'_> {
        let server = query.server;
        let roles = query.server_roles;
        let subject = query.subject;
        let matrix = &self.policy.matrix;
        self.policy.candidates(subject.transport, subject.port, server).map(|c| c.row).filter(
            move |row| {
                let row = &matrix.rows[*row];
                matches!(row.scope, Scope::Network | Scope::Internet)
                    && matrix.is_destination(row, roles)
            },
        )
    }

    /// Returns the roles that may serve a conversation's port according to some row. Only rows for
    /// network traffic to a role count. Rows of overlays, rows for broadcast, internet or loopback
    /// traffic, and rows whose destination is any host or a name or address do not count.
    pub fn serving(&self, c: &Conversation) -> RoleSet {
        let roles = &self.policy.matrix.roles;
        self.serving_rows(c)
            .fold(RoleSet::default(), |set, row| set.with(roles[row.destination].members))
    }

    /// Returns the rows that [`Self::serving`] is based on.
    pub(super) fn serving_rows(&self, c: &Conversation) -> impl Iterator<Item = &'a Row> {
        let matrix = &self.policy.matrix;
        let rows = self.policy.rows_at(c.subject.transport, c.subject.port);
        rows.map(|row| &matrix.rows[row]).filter(|row| {
            let to = &matrix.roles[row.destination];
            row.scope == Scope::Network && row.only.is_none() && row.overlay.is_none() && !to.is_any
        })
    }

    /// Returns whether a client is external. A party without a known address is never external, and
    /// neither is a listed host with a role. If the address of such a host is outside the internal
    /// networks, reports contain a note. A neighbour of such a host is not external either, because
    /// it may be another address of the host, such as a temporary IPv6 address. A host without a
    /// role, such as a firewall, is external only if it has no internal address.
    fn is_outside(&self, client: &Party, address: IpAddr) -> bool {
        let policy = self.policy;
        let is_inside = |address: &IpAddr| policy.is_internal(*address);
        let listed = match client.kind {
            PartyKind::Host(host) => {
                !client.roles.is_empty()
                    || policy.inventory.hosts[host].addresses.iter().any(is_inside)
            }
            _ => false,
        };
        client.kind != PartyKind::RolesOnly
            && !listed
            && !is_inside(&address)
            && !is_of_platform(address)
            && !policy.is_neighbour(client, address)
    }

    /// Returns whether a feature of a row is off.
    fn is_off(&self, row: usize) -> bool {
        self.policy.feature_state(&self.policy.matrix.rows[row]) == FeatureState::Off
    }

    /// Returns the row that documents a port of a farm host, if the client is external and no row
    /// allows external clients. A row whose features are off allows nothing to them.
    pub(super) fn exposed(&self, query: &Query<'_>) -> Option<usize> {
        let matrix = &self.policy.matrix;
        let farm = query.server_roles.iter().any(|r| matrix.roles[r].is_component());
        let outside_client = || self.is_outside(&query.client, query.subject.client);
        if !farm || query.broadcast || !outside_client() {
            return None;
        }
        // A port is also internal if the vendor's document lists it for traffic inside the host or
        // for broadcasts.
        let ServiceKey { transport, port, .. } = query.subject;
        let inside =
            self.policy.candidates(transport, port, query.server).map(|c| c.row).find(|row| {
                let row = &matrix.rows[*row];
                let internal =
                    matches!(row.exposure, Some(Exposure::Internal | Exposure::Localhost));
                internal
                    && match row.scope {
                        Scope::Localhost => matrix.is_source(row, query.server_roles),
                        Scope::Broadcast => matrix.is_destination(row, query.server_roles),
                        Scope::Network | Scope::Internet => false,
                    }
            });
        if inside.is_some() {
            return inside;
        }
        let outside = |row: &Row| match row.exposure {
            Some(exposure) => exposure == Exposure::External,
            None => row.scope == Scope::Internet || matrix.roles[row.source].is_client(),
        };
        let mut first = None;
        for row in self.documented_for_others(query) {
            if !outside(&matrix.rows[row]) {
                first = first.or(Some(row));
            } else if !self.is_off(row) {
                return None;
            }
        }
        first
    }

    /// Returns whether only the server's name decides: the server is external and the client may
    /// reach an internet service on this port, or the client may reach a service on this port that
    /// the inventory lists by its name.
    pub(super) fn only_a_name_decides(&self, query: &Query<'_>) -> bool {
        let matrix = &self.policy.matrix;
        let ServiceKey { server, transport, port, .. } = query.subject;
        let is_external = !self.policy.is_internal(server);
        let is_listed = matches!(query.server.kind, PartyKind::Host(_) | PartyKind::Service(_));
        self.policy.rows_at(transport, port).any(|row| {
            let row = &matrix.rows[row];
            let is_of_name = match row.scope {
                Scope::Internet => is_external,
                Scope::Network => {
                    !is_listed && row.only.is_none() && matrix.is_destination(row, self.named)
                }
                Scope::Broadcast | Scope::Localhost => false,
            };
            is_of_name && matrix.is_source(row, query.client_roles)
        })
    }
}

/// Returns the kind of the server that reports show.
fn shown_kind(server: PartyKind, conversation: &Conversation) -> PartyKind {
    match server {
        // Several servers together are not a single host or service of the inventory.
        PartyKind::Host(_) | PartyKind::Service(_)
            if conversation.stands_for().is_some_and(|all| all.has_several_servers()) =>
        {
            PartyKind::RolesOnly
        }
        // Servers in several networks do not belong to a single network of the inventory.
        PartyKind::Network(_) if conversation.subject.server.is_unspecified() => {
            PartyKind::RolesOnly
        }
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{
        BROKER, BROKER_1, DC, FARM, GW, Packets, RDSH, RDSH_2, STRANGER, policy,
    };
    use crate::conversation::DirectionEvidence;

    /// Builds a capture and returns the judgement of its only conversation. The conversation of a
    /// GRE tunnel is ignored.
    fn only(fill: impl FnOnce(&mut Packets)) -> Judged {
        let mut packets = Packets::default();
        fill(&mut packets);
        let (conversations, judged) = packets.judged(&policy(FARM));
        let all = conversations.list.iter().zip(&judged);
        let all = all.filter(|(c, _)| c.subject.transport != Transport(47));
        let all: Vec<&Judged> = all.map(|(_, judged)| judged).collect();
        let [one] = all[..] else { panic!("{} conversations", all.len()) };
        *one
    }

    #[test]
    fn a_client_is_not_accused_by_packets_that_others_sent_or_by_mere_port_numbers() {
        let certain = |fill: fn(&mut Packets)| {
            let one = only(fill);
            assert_eq!(one.verdict(), Verdict::Undocumented);
            one.doubts.certain()
        };
        assert!(certain(|packets| packets.midstream(0, (RDSH, 50_000), (RDSH_2, 22))));
        // Some devices use 8888 for clients, and RPC and SQL use dynamic ports for servers.
        assert!(!certain(|packets| packets.midstream(0, (RDSH, 50_000), (RDSH_2, 8_888))));
        // An FTP server opens data connections from this port.
        assert!(!certain(|packets| packets.midstream(0, (RDSH, 50_000), (RDSH_2, 20))));
        // Some systems use both of these ports for clients.
        assert!(!certain(|packets| packets.midstream(0, (RDSH, 50_000), (RDSH_2, 40_000))));
        // Both are ports of services.
        assert!(!certain(|packets| packets.midstream(0, (RDSH, 2_049), (RDSH_2, 750))));
        const UDP: Transport = Transport::UDP;
        assert!(certain(|packets| packets.send(0, UDP, (RDSH, 50_000), (RDSH_2, 8_888))));
        // Only the supposed server sent something.
        assert!(!certain(|packets| packets.send(0, UDP, (RDSH_2, 8_888), (RDSH, 50_000))));
        // The supposed server sent the first packet.
        assert!(certain(|packets| {
            packets.send(0, UDP, (RDSH, 50_000), (RDSH_2, 8_888));
            packets.send(1, UDP, (RDSH_2, 8_888), (RDSH, 50_000));
        }));
        assert!(!certain(|packets| {
            packets.send(0, UDP, (RDSH_2, 8_888), (RDSH, 50_000));
            packets.send(1, UDP, (RDSH, 50_000), (RDSH_2, 8_888));
        }));
        // A port below those of clients may be that of the sender of replies.
        assert!(certain(|packets| packets.send(0, UDP, (RDSH, 2_000), (RDSH_2, 2_001))));
        assert!(!certain(|packets| packets.send(0, UDP, (RDSH, 750), (RDSH_2, 2_001))));
    }

    #[test]
    fn a_guess_about_link_local_ends_is_one_about_their_hosts() {
        let [broker, dc] = [Mac([2, 0, 0, 0, 0, 0xb]), Mac([2, 0, 0, 0, 0, 0xd])];
        let farm = FARM
            .replace("\"ras-19\"", "\"ras-19\"\noverlays = [\"windows-domain\"]")
            .replace("[\"broker\"]", &format!("[\"broker\"]\nmacs = [\"{broker}\"]"))
            .replace("[\"ad-dc\"]", &format!("[\"ad-dc\"]\nmacs = [\"{dc}\"]"));
        let policy = policy(&farm);
        // RPC to the controller is documented, so the controller may be the server of this
        // connection, although its port is the higher one.
        let between = |ends: [&str; 2], ports: [u16; 2]| {
            let mut packets = Packets::default();
            packets.midstream(0, (ends[0], ports[0]), (ends[1], ports[1]));
            packets.sent_by(0, broker);
            packets.sent_by(1, dc);
            let (_, judged) = packets.judged(&policy);
            let [one] = judged[..] else { panic!("{} conversations", judged.len()) };
            (one.ruling.code, one.doubts.certain(), one.severity)
        };
        for ends in [[BROKER, DC], ["fe80::b", "fe80::d"]] {
            let guessed = between(ends, [10_123, 49_700]);
            assert_eq!(guessed, (Code::NoRelation, false, Severity::Medium), "{ends:?}");
        }
        // A handshake proves who the client is.
        let mut packets = Packets::default();
        packets.connect(0, ("fe80::d", 49_700), ("fe80::b", 10_123));
        for (first, mac) in [dc, broker, dc, dc, broker].into_iter().enumerate() {
            packets.sent_by(first, mac);
        }
        let (_, judged) = packets.judged(&policy);
        assert_eq!((judged[0].ruling.code, judged[0].doubts.certain()), (Code::NoRelation, true));
    }

    #[test]
    fn unlisted_addresses_with_the_hardware_addresses_of_hosts_are_probably_theirs() {
        let [rdsh, dc] = [Mac([2, 0, 0, 0, 0, 0xa]), Mac([2, 0, 0, 0, 0, 0xd])];
        let policy = policy(FARM);
        let judged = |ends: [&str; 2], others: &[&str]| {
            let mut packets = Packets::default();
            packets.connect(0, (ends[0], 50_000), (ends[1], 4444));
            for (first, mac) in [rdsh, dc, rdsh, rdsh, dc].into_iter().enumerate() {
                packets.sent_by(first, mac);
            }
            let others = others.iter().map(|other| (*other, dc));
            for (from, mac) in [(RDSH, rdsh), (DC, dc)].into_iter().chain(others) {
                let first = packets.len();
                packets.ping(10, from, GW);
                packets.sent_by(first, mac);
                packets.sent_by(first + 1, Mac([2, 0, 0, 0, 0, 1]));
            }
            let (conversations, judged) = packets.judged(&policy);
            let mut all = conversations.list.iter().zip(judged);
            let (_, one) = all.find(|(c, _)| c.subject.port == 4444).expect("the conversation");
            (one.ruling.code, one.doubts.certain(), one.severity)
        };
        let guess = (Code::NoRelation, false, Severity::Medium);
        assert_eq!(judged(["fd00::a", "fd00::d"], &[]), guess);
        assert_eq!(judged(["10.8.0.1", "10.8.0.2"], &[]), guess);
        assert_eq!(judged(["2001:4860::a", "2001:4860::d"], &[]), guess);
        // The hardware address of the server is that of a router, or of two listed hosts, so only
        // the client is known.
        let of_client = (Code::UnknownHost, false, Severity::Medium);
        for others in [&["10.6.0.1", "10.7.0.1", "10.8.0.1"][..], &[BROKER]] {
            assert_eq!(judged(["fd00::a", "fd00::d"], others), of_client, "{others:?}");
        }
    }

    #[test]
    fn traffic_inside_a_host_is_not_a_matter_of_the_matrix() {
        let judged = |client: &str, port: u16| {
            only(|packets| packets.connect(0, (client, 50_000), (BROKER, port))).ruling.code
        };
        assert_eq!(judged(BROKER, 1433), Code::Background);
        assert_ne!(judged(RDSH, 1433), Code::Background);
    }

    #[test]
    fn a_server_that_the_inventory_lists_by_name_may_be_any_unlisted_one() {
        let named = FARM.to_owned()
            + "[[service]]\nrole = \"smtp-server\"\nnames = [\"smtp.corp.example\"]\n";
        let doubts = |farm: &str, port: u16| {
            let policy = policy(farm);
            let mut packets = Packets::default();
            packets.connect(0, (BROKER, 50_000), (STRANGER, port));
            let (_, judged) = packets.judged(&policy);
            (judged[0].ruling.code, judged[0].doubts.iter().collect::<Vec<_>>())
        };
        assert_eq!(doubts(&named, 587), (Code::UnknownHost, vec![Doubt::Name]));
        assert_eq!(doubts(&named, 4444), (Code::UnknownHost, vec![]));
        assert_eq!(doubts(FARM, 587), (Code::UnknownHost, vec![]));
    }

    #[test]
    fn another_address_of_a_host_is_not_outside() {
        let farm = FARM.replace("\"10.1.0.10\"", "\"10.1.0.10\", \"2001:db8:1::10\"");
        let policy = policy(&farm);
        let code = |client: &str| {
            let mut packets = Packets::default();
            packets.connect(0, (client, 50_000), ("2001:db8:1::10", 20_003));
            packets.judged(&policy).1[0].ruling.code
        };
        // A temporary address of a host has the prefix of its other addresses.
        assert_eq!(code("2001:db8:1::a1b2:c3d4"), Code::UnknownHost);
        assert_eq!(code("2001:db8:2::a1b2:c3d4"), Code::ExposedInternal);
    }

    #[test]
    fn an_address_of_the_same_site_is_external_only_by_a_guess() {
        let farm = FARM.replace("\"10.1.0.10\"", "\"10.1.0.10\", \"2001:db8:1:10::10\"");
        let judged = |farm: &str, client: &str| {
            let mut packets = Packets::default();
            packets.connect(0, (client, 50_000), ("2001:db8:1:10::10", 20_003));
            let one = packets.judged(&policy(farm)).1[0];
            (one.ruling.code, one.doubts.iter().collect::<Vec<_>>(), one.severity)
        };
        let (code, doubts, severity) = judged(&farm, "2001:db8:1:20::5");
        assert_eq!((code, doubts), (Code::ExposedInternal, vec![Doubt::Site]));
        assert_eq!(severity, Severity::Medium);
        // Another site is external, and so is every address outside the prefixes that are listed.
        assert_eq!(judged(&farm, "2001:db8:2:20::5").1, []);
        let listed = farm.replace("[capture]", "[capture]\ninternal = [\"10.0.0.0/8\"]");
        assert_eq!(judged(&listed, "2001:db8:1:20::5"), (code, vec![], Severity::Critical));
    }

    #[test]
    fn replies_that_nobody_requested_do_not_show_a_client() {
        let policy = policy(FARM);
        let judged = |is_requested: bool| {
            let mut packets = Packets::default();
            if is_requested {
                packets.send(0, Transport::ICMP, (BROKER, 8), (STRANGER, 0));
            }
            packets.send(1, Transport::ICMP, (STRANGER, 0), (BROKER, 8));
            let c = &packets.judged(&policy).0.list[0];
            (c.subject.client.to_string(), c.grade)
        };
        let client = || BROKER.to_owned();
        assert_eq!(judged(true), (client(), DirectionEvidence::Protocol));
        assert_eq!(judged(false), (client(), DirectionEvidence::First));
    }

    #[test]
    fn an_address_that_the_internet_does_not_use_is_external_only_by_a_guess() {
        let judged = |farm: &str, client: &str, server: &str| {
            let mut packets = Packets::default();
            packets.connect(0, (client, 50_000), (server, 20_003));
            let one = packets.judged(&policy(farm)).1[0];
            (one.ruling.code, one.doubts.iter().collect::<Vec<_>>())
        };
        for client in ["198.18.0.5", "192.0.0.3", "240.1.1.5", "0.1.2.3"] {
            let found = judged(FARM, client, BROKER);
            assert_eq!(found, (Code::ExposedInternal, vec![Doubt::Site]), "{client}");
        }
        for client in ["203.0.113.7", "192.0.2.5", "8.8.8.8"] {
            assert_eq!(judged(FARM, client, BROKER), (Code::ExposedInternal, vec![]), "{client}");
        }
        // A translator put the IPv4 address of the client into an IPv6 address.
        let farm = FARM.replace("\"10.1.0.10\"", "\"10.1.0.10\", \"fd00::10\"");
        for client in ["64:ff9b::10.1.9.5", "::ffff:10.1.9.5", "2002:a01:905::1"] {
            assert_eq!(judged(&farm, client, "fd00::10"), (Code::UnknownHost, vec![]), "{client}");
        }
        for client in ["64:ff9b::203.0.113.7", "2002:cb00:7107::1", "2600::1"] {
            let found = judged(&farm, client, "fd00::10");
            assert_eq!(found, (Code::ExposedInternal, vec![]), "{client}");
        }
        let found = judged(&farm, "fec0::9", "fd00::10");
        assert_eq!(found, (Code::ExposedInternal, vec![Doubt::Site]));
        // The inventory states which prefixes are internal.
        let listed = farm.replace("[capture]", "[capture]\ninternal = [\"10.0.0.0/8\"]");
        assert_eq!(judged(&listed, "198.18.0.5", BROKER), (Code::ExposedInternal, vec![]));
    }

    #[test]
    fn probes_of_a_cloud_platform_and_addresses_of_listed_hosts_are_not_external() {
        let farm = format!(
            "{FARM}\n[[host]]\nname = \"fw1\"\naddresses = [\"10.1.0.254\", \"203.0.113.1\"]\nroles = []\n"
        );
        let code = |client: &str| {
            let mut packets = Packets::default();
            packets.connect(0, (client, 50_000), (BROKER, 20_003));
            packets.judged(&policy(&farm)).1[0].ruling.code
        };
        for inside in ["168.63.129.16", "35.191.3.7", "130.211.3.9", "100.64.7.7", "203.0.113.1"] {
            assert_ne!(code(inside), Code::ExposedInternal, "{inside}");
        }
        for outside in ["168.63.129.17", "130.211.4.9", "100.128.0.1", "203.0.113.2"] {
            assert_eq!(code(outside), Code::ExposedInternal, "{outside}");
        }
    }

    #[test]
    fn a_doubt_limits_the_severity_to_medium() {
        let policy = policy(FARM);
        let judge = Judge::new(&policy);
        let mut doubts = Doubts::default();
        doubts.add(Doubt::Loss);
        let mut limited = 0;
        for code in Code::ALL {
            for column in [SeverityColumn::Attempted, SeverityColumn::Reached] {
                let certain = judge.severity(*code, column, Doubts::default());
                let doubtful = judge.severity(*code, column, doubts);
                assert_eq!(doubtful, certain.min(Severity::Medium), "{code}");
                limited += usize::from(certain > Severity::Medium);
            }
        }
        assert!(limited > 0, "no code is worse than medium");
    }

    #[test]
    fn a_shared_ruling_is_that_of_the_conversation_alone() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        let clients = [GW, BROKER, DC, RDSH, "10.1.0.50", "10.9.0.5", "10.9.0.6", STRANGER];
        for client in clients {
            for server in [GW, BROKER, DC, RDSH, "10.1.0.50", STRANGER] {
                for port in [53, 80, 389, 443, 4444, 20_001, 20_002, 20_003, 30_004] {
                    if client != server {
                        packets.connect(0, (client, 50_000), (server, port));
                    }
                }
            }
        }
        let conversations = packets.conversations(&policy);
        let judge = Judge::new(&policy);
        let judged = judge.judge_all(&conversations, 2);
        assert_eq!(judged.len(), conversations.list.len());
        for (number, shared) in judged.iter().enumerate() {
            let alone = judge.judge_alone(&conversations, number);
            assert_eq!(*shared, alone, "{:?}", conversations.list[number].subject);
        }
        let codes: std::collections::BTreeSet<Code> =
            judged.iter().map(|judged| judged.ruling.code).collect();
        assert!(codes.len() >= 7, "{codes:?}");
    }

    #[test]
    fn what_could_be_forged_is_judged_with_its_doubt() {
        let doubts = |judged: Judged| judged.doubts.iter().collect::<Vec<_>>();
        let plain = only(|packets| packets.connect(0, (DC, 50_000), (RDSH, 4444)));
        assert_eq!((plain.ruling.code, doubts(plain)), (Code::NoRelation, vec![]));
        let tunnelled = only(|packets| {
            packets.connect(0, (DC, 50_000), (RDSH, 4444));
            packets.tunnel(0);
        });
        assert_eq!((tunnelled.ruling, doubts(tunnelled)), (plain.ruling, vec![Doubt::Tunnel]));
        let quoted = only(|packets| {
            packets.error(0, "10.1.0.254", Transport::UDP, (DC, 50_000), (RDSH, 4444));
        });
        assert!(doubts(quoted).contains(&Doubt::Quoted));
    }

    #[test]
    fn strangers_among_themselves_only_inform() {
        let strangers = only(|packets| packets.connect(0, (STRANGER, 1), ("198.51.100.8", 4444)));
        assert_eq!(strangers.severity, Severity::Info);
        let listed = only(|packets| packets.connect(0, (STRANGER, 1), (GW, 4444)));
        assert_eq!(listed.ruling.code, strangers.ruling.code);
        assert!(listed.severity > Severity::Info);
    }

    #[test]
    fn an_external_client_at_an_internal_port_is_exposure_and_an_internal_one_is_not() {
        let code = |client: &str, server: &str, port: u16| {
            only(|packets| packets.connect(0, (client, 50_000), (server, port))).ruling.code
        };
        assert_eq!(code(STRANGER, BROKER, 20_003), Code::ExposedInternal);
        // These are not exposures: an unlisted client with an internal address, a port that no row
        // contains, and a server that is not a component of the product.
        assert_eq!(code("10.7.0.1", BROKER, 20_003), Code::UnknownHost);
        assert_eq!(code(STRANGER, BROKER, 4444), Code::UnknownHost);
        assert_eq!(code(STRANGER, DC, 389), Code::UnknownHost);
        // The gateway is meant to serve external clients on this port.
        assert_eq!(code(STRANGER, GW, 443), Code::UnknownHost);
    }

    #[test]
    fn a_port_of_one_role_is_served_by_nobody_else() {
        let policy = policy(FARM);
        let judge = Judge::new(&policy);
        let serving = |port: u16| {
            let mut packets = Packets::default();
            packets.connect(0, (GW, 50_000), (BROKER, port));
            let conversations = packets.conversations(&policy);
            judge.serving(&conversations.list[0])
        };
        assert_eq!(serving(20_002), policy.inventory.hosts[BROKER_1].roles);
        assert_eq!(serving(4444), RoleSet::default());
    }
}
