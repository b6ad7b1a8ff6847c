//! Who talked to whom about which service: flows become conversations, each with its direction and
//! how sure that is, its state, and its amounts.
//!
//! Everything here is asked of merged evidence and so does not depend on the order of arrival. What
//! a host is and what is documented is not known here; the two questions that direction has to ask
//! of the policy go through [`DirectionHints`].

mod capture_index;
mod direction;
mod doubt_sources;
mod name_table;
mod sample_flows;
mod state;
mod visibility;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use direction::Orientation;
use name_table::{NameTable, RequestedNames};

use crate::flow::{
    AddressPair, Amount, ENDPOINT_MAPPER, EncapTagKind, Flow, FlowPartitions, HashSeed, IcmpError,
    PartitionFlows, Path, UndecodedCounts, VirtualAddressMasters,
};
use crate::model::{
    BoundedSet, Endpoint, FlagSet, InlineBoundedSet, Mac, Max, Merge, Min, Transport,
};

pub use crate::flow::{
    AddressBinding, EncapTag, TunnelEndpoints, UndecodedFrames, UndecodedReason, flag,
};
pub use capture_index::{CaptureIndex, CaptureLimits, HostActivity, TimeSpan};
pub use direction::DirectionEvidence;
pub use doubt_sources::{DoubtSource, DoubtSources};
pub use name_table::{KnownName, ServerNames};
pub use sample_flows::{SampleFlow, SampleFlows};
pub use state::{State, StateEvidence};
pub use visibility::VisibilityStats;

/// What the direction of a flow asks of the policy.
pub trait DirectionHints: Sync {
    /// Whether the address is the broadcast address of a network, as far as the inventory knows.
    fn is_broadcast(&self, address: IpAddr) -> bool;

    /// Whether a documented row fits a conversation read this way.
    fn is_documented(&self, client: IpAddr, server: Endpoint, transport: Transport) -> bool;

    /// One address for all of a host's, as far as the inventory knows them.
    fn canonical(&self, address: IpAddr) -> IpAddr {
        address
    }

    /// Whether the address is one of a host of the inventory.
    fn is_listed(&self, _: IpAddr) -> bool {
        false
    }

    /// Whether the address belongs to the farm, as a host's or in a network of the inventory; none without an
    /// inventory.
    fn belongs(&self, _: IpAddr) -> Option<bool> {
        None
    }

    /// Whether the inventory says that a resolver's answers are to be believed.
    fn is_resolver(&self, _: IpAddr) -> bool {
        false
    }

    /// Whether a hardware address is one of the inventory.
    fn is_listed_mac(&self, _: Mac) -> bool {
        false
    }

    /// Whether a conversation whose direction is a guess is judged no worse the other way round: the client then
    /// serves `client_port`. What a name may decide is not known here, and reads differently.
    fn reads_the_same(&self, _: &ServiceKey, _client_port: u16, _broadcast: bool) -> bool {
        true
    }
}

/// The identity of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey {
    /// Who asks.
    pub client: IpAddr,
    /// Who serves.
    pub server: IpAddr,
    /// The protocol above IP.
    pub transport: Transport,
    /// The server's port; for ICMP the message type; else zero.
    pub port: u16,
}

impl ServiceKey {
    /// The server and its port.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.server, self.port)
    }

    /// The port as reports show it: none where the protocol has no ports.
    pub fn shown_port(&self) -> Option<u16> {
        (self.transport.has_ports() || self.transport.is_icmp()).then_some(self.port)
    }
}

/// All flows of one client with one service of one server that are as sure; those that are not are one more.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Who talked to whom about what.
    pub subject: ServiceKey,
    /// Why its flows are doubted; those that are not are another conversation of the subject.
    pub taints: DoubtSources,
    /// The strongest evidence for the direction among its flows.
    pub grade: DirectionEvidence,
    /// The best state among its flows.
    pub state: State,
    /// What it rests on, in the best of those.
    pub basis: StateEvidence,
    /// Sent to a broadcast or multicast address, or to everybody on the link.
    pub broadcast: bool,
    /// Five-tuples.
    pub flows: u64,
    /// SYNs of the client, retransmissions and copies among them.
    pub attempts: u64,
    /// Five-tuples established.
    pub established: u64,
    /// Independent chances to see an answer, over all five-tuples: one for each, and one more each
    /// time a failed attempt was repeated later.
    pub chances: u64,
    /// Kinds of packets that were seen of the client and of the server, see [`flag`].
    pub flags: [FlagSet; 2],
    /// Sent by the client.
    pub to_server: Amount,
    /// Sent by the server.
    pub to_client: Amount,
    /// The earliest packet, or ICMP error where no packet was seen.
    pub first: Min,
    /// The latest.
    pub last: Max,
    /// When the flows began that have its best state, or failed as it did.
    pub opened: TimeSpan,
    /// The client's ports, for the reading in the other direction.
    pub client_ports: InlineBoundedSet<u16, 16>,
    /// The number that stands for the server's port in its first flow: for ICMP the type of the reply,
    /// or the code.
    pub server_number: u16,
    /// An endpoint mapper on the server announced the port to the client.
    pub announced: bool,
    /// The number of the server's names.
    names: u32,
    /// What few conversations have.
    rare: Option<Box<ConversationExtras>>,
}

/// Evidence that few conversations have.
#[derive(Clone, Default, Debug)]
pub struct ConversationExtras {
    /// What its packets were wrapped in; several of a kind one in the other are one stack, outermost
    /// first.
    pub tags: BoundedSet<Vec<EncapTag>, 16>,
    /// The ends of the tunnels that they came through.
    pub outer: BoundedSet<TunnelEndpoints, 16>,
    /// Hardware addresses that frames came from, the client's and the server's, where the address is
    /// link-local.
    pub macs: [BoundedSet<Mac, 4>; 2],
    /// ICMP errors; side 0 is the client's packet quoted, side 1 the server's.
    pub errors: BoundedSet<IcmpError, 16>,
    /// Flows that were folded into others because memory ran short.
    pub folded: u64,
    /// An address that stays inside a host was seen on a wire, or in a tunnel.
    pub on_wire: bool,
    /// ICMP errors that quote packets which nobody saw: they count for nothing.
    pub unseen_errors: BoundedSet<IcmpError, 16>,
    /// The flows that failed, by their state, of a conversation that its own state does not tell of.
    failures: Vec<FailedFlows>,
}

/// Flows that failed in one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailedFlows {
    /// Their state.
    pub state: State,
    /// What it rests on.
    pub basis: StateEvidence,
    /// As [`Conversation::chances`].
    pub chances: u64,
    /// When they began.
    pub opened: TimeSpan,
}

/// Takes failures of the same conversation together, in order of their states.
fn join(mut failures: Vec<FailedFlows>, others: &[FailedFlows]) -> Vec<FailedFlows> {
    for other in others {
        match failures.binary_search_by_key(&other.state, |own| own.state) {
            Ok(at) => {
                let own = &mut failures[at];
                own.basis = own.basis.min(other.basis);
                own.chances += other.chances;
                own.opened.merge(&other.opened);
            }
            Err(at) => failures.insert(at, *other),
        }
    }
    failures
}

impl Merge for ConversationExtras {
    fn merge(&mut self, other: &Self) {
        self.tags.merge(&other.tags);
        self.outer.merge(&other.outer);
        for (mine, theirs) in self.macs.iter_mut().zip(&other.macs) {
            mine.merge(theirs);
        }
        self.errors.merge(&other.errors);
        self.folded += other.folded;
        self.on_wire |= other.on_wire;
        self.unseen_errors.merge(&other.unseen_errors);
    }
}

impl Conversation {
    /// Evidence that few conversations have.
    pub fn rare(&self) -> &ConversationExtras {
        static NONE: ConversationExtras = ConversationExtras {
            tags: BoundedSet::new(),
            outer: BoundedSet::new(),
            macs: [BoundedSet::new(), BoundedSet::new()],
            errors: BoundedSet::new(),
            folded: 0,
            on_wire: false,
            unseen_errors: BoundedSet::new(),
            failures: Vec::new(),
        };
        self.rare.as_deref().unwrap_or(&NONE)
    }

    /// The two ends of its first flow in order.
    pub fn first_flow(&self) -> [Endpoint; 2] {
        let port = self.client_ports.iter().next().copied().unwrap_or_default();
        let ServiceKey { client, server, .. } = self.subject;
        [Endpoint::new(client, port), Endpoint::new(server, self.server_number)]
    }

    /// Whether the service answered: reached, or asked by a probe that went no further.
    pub fn is_answered(&self) -> bool {
        self.state.reached() || self.basis == StateEvidence::Probe
    }

    /// Whether the attempt failed: not where the client asked no more than whether the port is open.
    pub fn has_failed(&self) -> bool {
        self.state.failed() && self.basis != StateEvidence::Probe
    }

    /// Of a service that answered: the flows that failed, in the way in which the last of them did.
    pub fn last_failures(&self) -> Option<&FailedFlows> {
        let failures = self.rare().failures.iter().filter(|_| self.is_answered());
        failures.max_by_key(|failed| (failed.opened.last, std::cmp::Reverse(failed.state)))
    }

    /// The same, where the last of them began after the last sign that the service worked: it has stopped.
    pub fn fails_at_last(&self) -> Option<&FailedFlows> {
        self.last_failures().filter(|failed| failed.opened.last > self.opened.last)
    }

    /// Whether anybody may have made its flows up: they were in a tunnel, or an ICMP error quotes them.
    pub fn is_made_up(&self) -> bool {
        self.taints.has(DoubtSource::Tunnel) || self.taints.has(DoubtSource::Quoted)
    }

    /// Whether its flows are doubted, so that they stand apart from the others of the subject.
    pub fn is_doubted(&self) -> bool {
        !self.taints.is_empty()
    }

    /// Whether it is an ICMP request with its reply.
    pub fn is_paired_icmp(&self) -> bool {
        let ServiceKey { transport, port, .. } = self.subject;
        transport.is_icmp() && crate::flow::icmp_paired(transport, port as u8)
    }
}

/// How flows are read.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// On so many threads.
    pub jobs: usize,
    /// The flows are needed afterwards.
    pub keep: bool,
}

/// The conversations of a capture in order, with what the capture could see.
pub struct Conversations {
    /// Sorted by subject.
    pub list: Vec<Conversation>,
    /// Who was seen, and how.
    pub survey: CaptureIndex,
    /// Bytes written to temporary files because memory ran short.
    pub spilled: u64,
    /// The names by which anybody looked an address up, the least ones.
    pub dns_names: BTreeMap<IpAddr, BoundedSet<String, 8>>,
    /// Source, destination and protocol of later fragments whose first one is not in the capture.
    pub orphans: Vec<AddressPair>,
    /// Frames that could not be understood.
    pub unread: UndecodedCounts,
    /// Who held virtual addresses (VRRP), by address.
    pub vrrp_masters: BTreeMap<IpAddr, VirtualAddressMasters>,
    /// The names of servers, each set of them once.
    names: Vec<ServerNames>,
}

impl Conversations {
    /// Reads all flows: once to learn who serves and who is seen, once to read directions and states.
    pub fn read(
        flows: &mut impl FlowPartitions,
        lens: &dyn DirectionHints,
        sight: CaptureLimits,
        ReadOptions { jobs, keep }: ReadOptions,
    ) -> io::Result<Self> {
        let mirrors = mirrors(flows, lens)?;
        flows.believe(&mirrors)?;
        // What carries a mirror is no traffic of the farm.
        let wanted = |flow: &Flow<'_>| {
            let path = flow.key.path();
            !(path.is_around() && path.interface().is_some_and(|at| mirrors.contains(&at)))
        };
        let mut survey = CaptureIndex::new(sight);
        survey.add_side(flows.side(), lens);
        let surveys = flows.fold(jobs, |survey: &mut CaptureIndex, shard| {
            shard.iter().filter(wanted).for_each(|flow| survey.add(&flow, lens, sight));
        })?;
        surveys.into_iter().for_each(|part| survey.merge(part));
        survey.conclude();
        let read = |part: &mut PartialConversations, shard: PartitionFlows<'_>| {
            part.read(shard.iter().filter(wanted), &survey, lens);
        };
        // Nobody asks for the flows again, unless the inventory learns from what stays inside a host.
        let again = keep || survey.saw_loopback();
        let parts = if again { flows.fold(jobs, read)? } else { flows.drain(jobs, read)? };
        let (mut one_sided, mut list) = (0, Vec::new());
        let mut heard: HashMap<(ServiceKey, bool), RequestedNames, HashSeed> = HashMap::default();
        for part in parts {
            one_sided += part.one_sided;
            match list.is_empty() {
                true => list = part.list,
                false => list.extend(part.list),
            }
            if heard.is_empty() {
                heard = part.heard;
                continue;
            }
            for (subject, theirs) in part.heard {
                match heard.entry(subject) {
                    Entry::Occupied(mut entry) => entry.get_mut().merge(&theirs),
                    Entry::Vacant(entry) => drop(entry.insert(theirs)),
                }
            }
        }
        list.sort_by_cached_key(Conversation::key);
        // A conversation is nearly always whole, because its flows have the lesser port in common and so the
        // partition; where not, its parts merge.
        list.dedup_by(|part, whole| {
            let same = part.key() == whole.key();
            if same {
                whole.merge(part);
            }
            same
        });
        survey.vantage.one_sided = one_sided;
        let spilled = flows.spilled();
        // An announcement is worth as much as the connection that it came by.
        let is_mapper = |c: &&Conversation| {
            let subject = &c.subject;
            (subject.transport, subject.port) == (Transport::TCP, ENDPOINT_MAPPER)
                && c.state == State::Established
                && !c.is_doubted()
        };
        let mappers: HashSet<(IpAddr, IpAddr), HashSeed> =
            list.iter().filter(is_mapper).map(|c| (c.subject.client, c.subject.server)).collect();
        let reached = |client, mapper| mappers.contains(&(client, mapper));
        let (mut directory, nothing) =
            (NameTable::new(flows.side(), lens, reached), RequestedNames::default());
        for c in &mut list {
            let ServiceKey { client, server, transport, port } = c.subject;
            let asked = heard.get(&c.key()).unwrap_or(&nothing);
            c.names = directory.number(client, server, asked);
            c.announced =
                transport == Transport::TCP && directory.is_announced(client, server, port);
        }
        let mut dns_names: BTreeMap<IpAddr, BoundedSet<String, 8>> = BTreeMap::new();
        let plain = flows.side().told().filter(|((.., path), _)| *path == Path::PLAIN);
        for ((_, address, _), chains) in plain {
            let asked = chains.iter().filter_map(|(chain, _)| chain.first());
            asked.for_each(|name| dns_names.entry(*address).or_default().insert(name.clone()));
        }
        let plain = flows.side().holders().filter(|((_, path), _)| *path == Path::PLAIN);
        let vrrp_masters = plain.map(|((address, _), who)| (*address, who.clone())).collect();
        let names = directory.into_sets();
        let orphans = flows
            .side()
            .orphans()
            .filter(|(pair, _)| pair.path == Path::PLAIN)
            .map(|(pair, _)| *pair)
            .collect();
        let unread = flows.side().unread().clone();
        Ok(Self { list, survey, spilled, dns_names, orphans, unread, vrrp_masters, names })
    }

    /// The names of a conversation's server.
    pub fn names_of(&self, c: &Conversation) -> &ServerNames {
        &self.names[c.names as usize]
    }
}

/// The interfaces that a mirror sends to, as far as the traffic shows it: on them nobody of the farm sends or receives
/// a plain frame, not as an end of a tunnel either, and all tunnels lead one way to one destination. Without an
/// inventory everybody may be of the farm, and there are no plain frames.
fn mirrors(flows: &impl FlowPartitions, lens: &dyn DirectionHints) -> io::Result<BTreeSet<u16>> {
    let mut mirrors = flows.side().one_way_tunnels();
    if mirrors.is_empty() {
        return Ok(mirrors);
    }
    flows.visit(|shard| {
        for flow in shard.iter() {
            let (path, ends) = (flow.key.path(), [0, 1].map(|side| flow.key.endpoint(side).addr));
            let around = path.interface().filter(|_| path.is_around());
            let belongs = |address| lens.belongs(address).unwrap_or(around.is_none());
            if path.is_inside() || !ends.into_iter().any(belongs) {
                continue;
            }
            if let Some(interface) = around {
                mirrors.remove(&interface);
            }
            for side in 0..2 {
                // What came through a tunnel that the user stated is no plain frame.
                let plain = flow.links(side).filter(|link| !link.is_tunnelled());
                plain.for_each(|link| {
                    mirrors.remove(&link.interface);
                });
                if flow.has_more_links(side) {
                    mirrors.clear();
                }
            }
        }
    })?;
    Ok(mirrors)
}

impl Conversations {
    /// The two ends of each conversation between two addresses.
    pub fn ends(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let unicast = self.list.iter().filter(|c| !c.broadcast && !c.rare().on_wire);
        unicast.map(|c| (c.subject.client, c.subject.server))
    }
}

/// The conversations of some partitions of the flows.
#[derive(Default)]
struct PartialConversations {
    list: Vec<Conversation>,
    heard: HashMap<(ServiceKey, bool), RequestedNames, HashSeed>,
    one_sided: u64,
}

impl PartialConversations {
    fn read<'a>(
        &mut self,
        flows: impl Iterator<Item = Flow<'a>>,
        survey: &CaptureIndex,
        lens: &dyn DirectionHints,
    ) {
        // Dense conversations beside a small index: a map of them would hold half as much again.
        let mut found = HashMap::<(ServiceKey, bool), u32, HashSeed>::default();
        for flow in flows {
            let (first, second) = direction::read(&flow, survey, lens);
            for reading in [Some(first), second].into_iter().flatten() {
                self.take(&flow, &reading, survey, lens, &mut found);
            }
        }
    }

    fn take(
        &mut self,
        flow: &Flow<'_>,
        reading: &Orientation,
        survey: &CaptureIndex,
        lens: &dyn DirectionHints,
        found: &mut HashMap<(ServiceKey, bool), u32, HashSeed>,
    ) {
        let part = read_flow(flow, reading, survey, lens);
        let client = reading.client;
        if let Some(names) = flow.heard {
            let asked = self.heard.entry(part.key()).or_default();
            names.hellos(client, &flow.sides[client]).for_each(|h| asked.hellos.insert(h));
            asked.more |= names.more(client);
        }
        if part.state == State::OneSided && !flow.key.path().is_inside() {
            self.one_sided += part.to_server.packets.0 + part.to_client.packets.0;
        }
        match found.entry(part.key()) {
            Entry::Occupied(entry) => self.list[*entry.get() as usize].merge(&part),
            Entry::Vacant(entry) => {
                entry.insert(self.list.len() as u32);
                self.list.push(part);
            }
        }
    }
}

/// The conversation that a flow is a part of in a reading.
fn read_flow(
    flow: &Flow<'_>,
    reading: &Orientation,
    survey: &CaptureIndex,
    lens: &dyn DirectionHints,
) -> Conversation {
    let (c, s) = (reading.client, 1 - reading.client);
    let (client, server) = (flow.key.endpoint(c), flow.key.endpoint(s));
    let transport = flow.key.transport();
    // An ICMP conversation is known by the type that the client sends.
    let port = if transport.is_icmp() { client.port } else { server.port };
    let subject = ServiceKey { client: client.addr, server: server.addr, transport, port };
    let (state, basis) = state::of(flow, reading, survey);
    let (mut first, mut last) = (flow.sides[0].first, flow.sides[0].last);
    first.merge(&flow.sides[1].first);
    last.merge(&flow.sides[1].last);
    let mut rare = ConversationExtras::default();
    if let Some(extra) = flow.extra {
        first.merge(&extra.error_first);
        last.merge(&extra.error_last);
        let counted: BTreeSet<IcmpError> = direction::errors(flow).collect();
        for (error, _) in extra.errors.iter() {
            let seen_from_client = IcmpError { side: error.side ^ c as u8, ..*error };
            match counted.contains(error) {
                true => rare.errors.insert(seen_from_client),
                false => rare.unseen_errors.insert(seen_from_client),
            }
        }
        rare.folded = extra.folded.0;
    }
    for (side, macs) in [c, s].into_iter().zip(&mut rare.macs) {
        let address = flow.key.endpoint(side).addr;
        let link_local = crate::model::is_link_local(address) || address.is_loopback();
        for link in flow.links(side) {
            let priority = EncapTag { kind: EncapTagKind::Vlan, id: Some(0) };
            let tags: Vec<EncapTag> = link.tags().filter(|tag| *tag != priority).collect();
            for stack in tags.chunk_by(|a, b| a.kind == b.kind) {
                rare.tags.insert(stack.to_vec());
            }
            link.outer().for_each(|outer| rare.outer.insert(outer));
            if link_local && link.source != Mac::NONE {
                macs.insert(link.source);
            }
        }
    }
    rare.on_wire = capture_index::is_loopback_on_wire(flow);
    let is_rare = rare.folded > 0
        || rare.on_wire
        || !(rare.tags.is_empty()
            && rare.errors.is_empty()
            && rare.unseen_errors.is_empty()
            && rare.macs.iter().all(BoundedSet::is_empty));
    let mut client_ports = InlineBoundedSet::default();
    client_ports.insert(client.port);
    let (asked, end) = (&flow.sides[c], survey.end());
    let began = asked.first.get().or(first.get());
    let mut opened = TimeSpan::default();
    began.into_iter().for_each(|time| opened.see(time));
    // What was reached works until its last packet.
    last.get().into_iter().filter(|_| state.reached()).for_each(|time| opened.see(time));
    Conversation {
        subject,
        taints: doubt_sources::of(flow, reading, state, &subject, (survey, lens)),
        grade: reading.grade,
        state,
        basis,
        broadcast: reading.broadcast,
        flows: rare.folded.max(1),
        attempts: u64::from(flow.sides[c].syns.0),
        established: u64::from(state == State::Established),
        chances: state::chances(flow, reading, state, end),
        flags: [c, s].map(|side| flow.sides[side].flags),
        to_server: flow.sides[c].sent,
        to_client: flow.sides[s].sent,
        first,
        last,
        opened,
        client_ports,
        server_number: server.port,
        announced: false,
        names: 0,
        rare: is_rare.then(|| Box::new(rare)),
    }
}

impl Conversation {
    /// What makes flows one conversation.
    fn key(&self) -> (ServiceKey, bool) {
        (self.subject, self.is_doubted())
    }

    /// The flows that failed, by their state.
    fn failures(&self) -> Vec<FailedFlows> {
        let (state, basis, chances, opened) = (self.state, self.basis, self.chances, self.opened);
        match self.rare().failures.is_empty() {
            true if self.has_failed() => vec![FailedFlows { state, basis, chances, opened }],
            _ => self.rare().failures.clone(),
        }
    }

    /// What its flows came to, the better first: when they were opened is that of the best of them.
    fn rank(&self) -> u8 {
        match self.is_answered() {
            true => 0,
            false if self.has_failed() || !self.rare().failures.is_empty() => 1,
            false => 2,
        }
    }

    /// Takes another part of the conversation in, all of which counts.
    fn take(&mut self, other: &Self) {
        // Nearly all parts came to the same.
        let same = self.state == other.state
            && self.rank() == other.rank()
            && self.rare().failures.is_empty()
            && other.rare().failures.is_empty();
        let failures = match same {
            true => Vec::new(),
            false => join(self.failures(), &other.failures()),
        };
        match self.rank().cmp(&other.rank()) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => self.opened.merge(&other.opened),
            std::cmp::Ordering::Greater => self.opened = other.opened,
        }
        // Of a failing conversation the chances count that speak for its state.
        match self.state.cmp(&other.state) {
            std::cmp::Ordering::Equal => self.chances += other.chances,
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Greater => self.chances = other.chances,
        }
        (self.state, self.basis) = (self.state, self.basis).min((other.state, other.basis));
        self.taints = self.taints.with(other.taints);
        self.grade = self.grade.min(other.grade);
        self.broadcast &= other.broadcast;
        self.attempts += other.attempts;
        self.established += other.established;
        self.flags.iter_mut().zip(&other.flags).for_each(|(mine, theirs)| mine.merge(theirs));
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        // The first flow is that of the least client port.
        let least = |c: &Self| (c.client_ports.iter().next().copied(), c.server_number);
        self.server_number = least(self).min(least(other)).1;
        self.client_ports.merge(&other.client_ports);
        if let Some(theirs) = &other.rare {
            self.rare.get_or_insert_default().merge(theirs);
        }
        // The state alone tells of failures where all failed in one way.
        let told = !self.is_answered() && matches!(&failures[..], [one] if one.state == self.state);
        if !same && (self.rare.is_some() || !(told || failures.is_empty())) {
            self.rare.get_or_insert_default().failures = if told { Vec::new() } else { failures };
        }
    }
}

impl Merge for Conversation {
    fn merge(&mut self, other: &Self) {
        let (flows, to_server, to_client) = (self.flows, self.to_server, self.to_client);
        match (self.is_made_up(), other.is_made_up()) {
            // What anybody may have made up changes nothing of what plain flows say, however they are doubted.
            (false, true) => {}
            (true, false) => *self = other.clone(),
            _ => self.take(other),
        }
        self.flows = flows + other.flows;
        (self.to_server, self.to_client) = (to_server, to_client);
        self.to_server.merge(&other.to_server);
        self.to_client.merge(&other.to_client);
    }
}
