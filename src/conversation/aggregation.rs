//! Aggregates conversations that nobody answered, if the capture has more conversations than memory
//! has room for.
//!
//! The merged evidence alone determines what is aggregated: first the conversations are counted,
//! then the steps are chosen, then the conversations are built. The result therefore does not
//! depend on threads, on the order of packets, or on the partitions of the flows.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::flow_facts::{is_loopback_on_wire, link_local_macs_of, only_resets};
use super::{Conversation, DirectionHints, DoubtSources, ServiceKey, State};
use crate::flow::{Flow, FlowPartitions, HashSeed, PartitionFlows, flag};
use crate::model::{BoundedSet, Mac, Merge, Transport, is_link_local, named_enum, network_around};

/// The memory that a conversation takes until all reports are written, in bytes, together with its
/// judgement and its share of the findings. A flood takes up to 1.3 KiB for each conversation.
const CONVERSATION_BYTES: usize = 2048;

/// The number of conversations that are kept even if there is little memory.
const MIN_CONVERSATIONS: usize = 1 << 14;

/// The memory that a partition takes while its conversations are built, as a multiple of its size
/// in the temporary file: the bytes of the file, the table of flows, and the conversations.
const PARTITION_FACTOR: u64 = 8;

named_enum!(
    /// The steps that aggregate unanswered conversations, in the order in which they are taken. Of
    /// the steps for the same kind of client, only the last one taken has an effect.
    AggregationStep {
        /// Replaces unlisted clients with their /24 or /64.
        UnlistedNetworks = "unlisted-networks",
        /// Replaces all unlisted clients with 0.0.0.0 or ::, unlisted servers with their /24 or
        /// /64, and servers in listed networks with their network.
        UnlistedAsOne = "unlisted-as-one",
        /// Replaces all unlisted clients and servers with 0.0.0.0 or ::, replaces servers in listed
        /// networks with their network, and drops the ports that nothing permits.
        UnlistedPorts = "unlisted-ports",
        /// Replaces clients in listed networks with their network.
        MemberNetworks = "member-networks",
        /// Replaces clients and servers in listed networks with their network and unlisted servers
        /// with 0.0.0.0 or ::, and drops the ports that nothing permits.
        MemberPorts = "member-ports",
        /// Keeps listed clients and their servers, and drops the ports that nothing permits.
        HostPorts = "host-ports",
        /// Keeps listed clients, replaces their servers with 0.0.0.0 or ::, and drops the ports
        /// that nothing permits.
        HostServers = "host-servers",
    }
);

/// The steps for unlisted clients, for clients in listed networks and for listed hosts.
const STEPS: [&[AggregationStep]; 3] = [
    &[
        AggregationStep::UnlistedNetworks,
        AggregationStep::UnlistedAsOne,
        AggregationStep::UnlistedPorts,
    ],
    &[AggregationStep::MemberNetworks, AggregationStep::MemberPorts],
    &[AggregationStep::HostPorts, AggregationStep::HostServers],
];

impl AggregationStep {
    /// Returns whether the step drops the ports that nothing permits.
    fn drops_ports(self) -> bool {
        matches!(
            self,
            Self::UnlistedPorts | Self::MemberPorts | Self::HostPorts | Self::HostServers
        )
    }

    /// Returns whether the step is for clients that are listed hosts.
    fn is_of_hosts(self) -> bool {
        matches!(self, Self::HostPorts | Self::HostServers)
    }
}

/// The kind of inventory entry that an address belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AddressOwner {
    /// Neither the address nor a network around it is listed.
    Unlisted,
    /// The address is in a listed network with this first address and prefix length.
    Network(IpAddr, u8),
    /// The address belongs to a listed host or service.
    Host,
}

impl AddressOwner {
    /// Returns the index of the owner's kind in [`STEPS`].
    fn kind(self) -> usize {
        match self {
            Self::Unlisted => 0,
            Self::Network(..) => 1,
            Self::Host => 2,
        }
    }
}

/// The ruling on a conversation, as far as aggregation has to preserve it. Only conversations with
/// equal rulings are aggregated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RulingKind {
    /// The number of the code.
    pub code: u8,
    /// The number of the exception that the code is based on or, without an exception, of the row
    /// that permits the traffic; `None` if there is neither.
    pub basis: Option<usize>,
    /// The roles of the server, as bits.
    pub server_roles: u128,
    /// Whether something permits the traffic. If so, its port is kept.
    pub is_permitted: bool,
}

/// The conversations that an aggregated conversation stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AggregatedConversations {
    /// The number of conversations. If `may_repeat` is set, it may be too high.
    pub conversations: u64,
    /// Whether parts of one conversation may have been counted as several conversations. Its flows
    /// are in several partitions if some ports of the client are lower than the server's port.
    pub may_repeat: bool,
    /// The lowest subject of these conversations. Its ruling applies to all of them.
    pub example: ServiceKey,
    /// The lowest and the highest client address of these conversations.
    pub clients: [IpAddr; 2],
    /// The lowest and the highest server address of these conversations.
    pub servers: [IpAddr; 2],
    /// The lowest and the highest server port of these conversations.
    pub ports: [u16; 2],
    /// The step that aggregated these conversations.
    pub step: AggregationStep,
}

impl AggregatedConversations {
    fn of(subject: ServiceKey, step: AggregationStep) -> Self {
        let ServiceKey { client, server, port, .. } = subject;
        Self {
            conversations: 1,
            may_repeat: false,
            example: subject,
            clients: [client; 2],
            servers: [server; 2],
            ports: [port; 2],
            step,
        }
    }

    /// Returns whether the conversations have several clients.
    pub fn has_several_clients(&self) -> bool {
        self.clients[0] != self.clients[1]
    }

    /// Returns whether the conversations have several servers.
    pub fn has_several_servers(&self) -> bool {
        self.servers[0] != self.servers[1]
    }

    /// Returns whether the conversations have several ports.
    pub fn has_several_ports(&self) -> bool {
        self.ports[0] != self.ports[1]
    }

    /// Returns whether the client is a listed host.
    pub fn is_of_host(&self) -> bool {
        self.step.is_of_hosts()
    }
}

impl Merge for AggregatedConversations {
    fn merge(&mut self, other: &Self) {
        fn widen<T: Ord + Copy>(mine: &mut [T; 2], theirs: &[T; 2]) {
            *mine = [mine[0].min(theirs[0]), mine[1].max(theirs[1])];
        }
        self.conversations += other.conversations;
        self.may_repeat |= other.may_repeat;
        self.example = self.example.min(other.example);
        widen(&mut self.clients, &other.clients);
        widen(&mut self.servers, &other.servers);
        widen(&mut self.ports, &other.ports);
    }
}

/// A report on the conversations that were aggregated in a capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AggregationReport {
    /// The number of conversations before aggregation.
    pub found: u64,
    /// The number of conversations that memory has room for.
    pub room: u64,
    /// The memory limit in bytes.
    pub max_memory: usize,
    /// The number of conversations that were aggregated.
    pub conversations: u64,
    /// Whether the numbers of conversations may be too high. See
    /// [`AggregatedConversations::may_repeat`].
    pub may_repeat: bool,
    /// The number of flows of the conversations that were aggregated.
    pub flows: u64,
    /// The number of conversations after aggregation that stand for those that were aggregated.
    pub into: u64,
    /// The lowest and the highest server port of the conversations that were aggregated. If none of
    /// them has a port, the first value is higher than the second.
    pub ports: [u16; 2],
    /// The steps that aggregated conversations.
    pub steps: Vec<AggregationStep>,
}

impl AggregationReport {
    /// Returns the memory limit, in bytes, at which nothing would have been aggregated.
    pub fn sufficient_memory(&self) -> u64 {
        self.found * CONVERSATION_BYTES as u64
    }
}

/// The properties that all parts of an aggregated conversation share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct AggregateKey {
    subject: ServiceKey,
    doubts: DoubtSources,
    state: State,
    broadcast: bool,
    on_wire: bool,
    kind: RulingKind,
    /// The index of the kind of the server's owner in [`STEPS`].
    server: usize,
    step: AggregationStep,
}

/// The steps that are taken for each kind of client. Conversations whose kind of client has no step
/// stay as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct AggregationPlan {
    steps: [Option<AggregationStep>; 3],
    room: usize,
    max_memory: usize,
}

impl AggregationPlan {
    /// Counts the conversations and chooses the steps. Returns `None` if there is enough memory for
    /// all conversations.
    pub fn decide(
        flows: &impl FlowPartitions,
        hints: &dyn DirectionHints,
        max_memory: usize,
        jobs: usize,
    ) -> io::Result<Option<Self>> {
        let room = room(max_memory);
        if flows.flow_count().is_some_and(|count| count <= room) {
            return Ok(None);
        }
        let seed = HashSeed::new();
        let counts = flows.fold(jobs, |count: &mut usize, part| {
            let hashes = part.keys().map(|key| key.conversation_hash(&seed));
            *count += hashes.collect::<HashSet<u64, HashSeed>>().len();
        })?;
        if counts.into_iter().sum::<usize>() <= room {
            return Ok(None);
        }
        let counts = flows.fold(jobs, |counts: &mut StepCounts, part| {
            counts.add(part, hints, &seed, room);
        })?;
        let counts = counts.into_iter().reduce(StepCounts::with).unwrap_or_default();
        Ok(Some(Self { steps: counts.steps(room), room, max_memory }))
    }

    /// Returns, for each end of a flow, whether its activity is not recorded. If the flow is to be
    /// aggregated, this is true for each end that does not belong to a listed host.
    pub fn forgets(&self, flow: &Flow<'_>, hints: &dyn DirectionHints) -> [bool; 2] {
        let Some(client) = initiator_of_unanswered(flow) else { return [false; 2] };
        let owners = [0, 1].map(|side| owner_in_flow(flow, side, hints));
        if self.steps[owners[client].kind()].is_none() || is_local(flow) {
            return [false; 2];
        }
        owners.map(|owner| owner != AddressOwner::Host)
    }

    /// Returns the key of the aggregated conversation that a conversation becomes part of, or
    /// `None` if it stays as it is. The conversation must consist of unanswered flows only.
    pub fn target(&self, c: &Conversation, hints: &dyn DirectionHints) -> Option<AggregateKey> {
        let subject = c.subject;
        let is_unanswered = matches!(
            c.state,
            State::Refused | State::Rejected | State::Unanswered | State::OneWay | State::OneSided
        );
        let rare = c.rare();
        let has_loopback = subject.client.is_loopback() || subject.server.is_loopback();
        if !is_unanswered || (has_loopback && !rare.on_wire) {
            return None;
        }
        let ends = [(subject.client, &rare.macs[0]), (subject.server, &rare.macs[1])];
        let macs = ends.map(|(address, macs)| {
            let used = macs.iter().filter(|_| is_link_local(address));
            used.copied().collect::<Vec<_>>()
        });
        let owners = [0, 1].map(|end| owner(ends[end].0, hints, &macs[end]));
        let step = self.steps[owners[0].kind()]?;
        let kind = hints.ruling_kind(&subject, c.broadcast, [&macs[0], &macs[1]]);
        let keeps_port = kind.is_permitted || !step.drops_ports();
        let coarser = coarser(subject, owners, step, keeps_port);
        (coarser != subject).then_some(AggregateKey {
            subject: coarser,
            doubts: c.doubts,
            state: c.state,
            broadcast: c.broadcast,
            on_wire: rare.on_wire,
            kind,
            server: owners[1].kind(),
            step,
        })
    }

    /// Describes what was aggregated; `None` if nothing was. `list` contains the conversations
    /// after aggregation.
    pub fn report(&self, list: &[Conversation]) -> Option<AggregationReport> {
        let mut report = AggregationReport {
            found: list.len() as u64,
            room: self.room as u64,
            max_memory: self.max_memory,
            conversations: 0,
            may_repeat: false,
            flows: 0,
            into: 0,
            ports: [u16::MAX, 0],
            steps: self.steps.into_iter().flatten().collect(),
        };
        let mut steps = HashSet::new();
        for c in list {
            let Some(aggregated) = &c.rare().stands_for else { continue };
            report.found += aggregated.conversations - 1;
            report.conversations += aggregated.conversations;
            report.may_repeat |= aggregated.may_repeat;
            report.flows += c.flows;
            report.into += 1;
            if c.subject.transport.has_ports() {
                let [low, high] = aggregated.ports;
                report.ports = [report.ports[0].min(low), report.ports[1].max(high)];
            }
            steps.insert(aggregated.step);
        }
        report.steps.retain(|step| steps.contains(step));
        (report.into > 0).then_some(report)
    }
}

impl Conversation {
    /// Turns the conversation into a part of an aggregated conversation.
    /// `may_repeat` is described at [`AggregatedConversations`].
    pub(super) fn become_part_of(&mut self, key: &AggregateKey, may_repeat: bool) {
        let of_one = AggregatedConversations::of(self.subject, key.step);
        let aggregated = AggregatedConversations { may_repeat, ..of_one };
        let rare = self.rare.get_or_insert_default();
        rare.stands_for = Some(aggregated);
        // The hardware addresses of some hosts show nothing about the others.
        if key.subject.client != self.subject.client {
            rare.macs[0] = BoundedSet::new();
        }
        if key.subject.server != self.subject.server {
            rare.macs[1] = BoundedSet::new();
        }
        self.subject = key.subject;
    }

    /// Undoes [`Conversation::become_part_of`] if there are no other parts, because nothing would
    /// be gained. Returns whether there are others.
    pub(super) fn is_still_aggregated(&mut self) -> bool {
        let Some(rare) = &mut self.rare else { return false };
        if let Some(single) = rare.stands_for.take_if(|parts| parts.conversations == 1) {
            self.subject = single.example;
        }
        if let Some(parts) = &rare.stands_for {
            // Addresses and ports that all parts share keep their exact values.
            let ServiceKey { client, server, port, .. } = &mut self.subject;
            if !parts.has_several_clients() {
                *client = parts.example.client;
            }
            if !parts.has_several_servers() {
                *server = parts.example.server;
            }
            if !parts.has_several_ports() {
                *port = parts.example.port;
            }
        }
        rare.stands_for.is_some()
    }
}

/// The effect of each step: how many conversations would remain.
#[derive(Default)]
struct StepCounts {
    /// The number of answered conversations, which are never aggregated.
    answered: usize,
    /// The number of unanswered conversations of each kind of client.
    unanswered: [usize; 3],
    /// The conversations that would remain of each kind after each step. A set with more members
    /// than memory has room for is no longer filled.
    remaining: [[HashSet<u64, HashSeed>; 3]; 3],
}

impl StepCounts {
    fn add(
        &mut self,
        part: PartitionFlows<'_>,
        hints: &dyn DirectionHints,
        seed: &HashSeed,
        room: usize,
    ) {
        let mut answered = HashSet::<u64, HashSeed>::default();
        let mut unanswered: [HashSet<u64, HashSeed>; 3] = Default::default();
        for flow in part.iter() {
            let hash = flow.key.conversation_hash(seed);
            let Some(side) = initiator_of_unanswered(&flow) else {
                answered.insert(hash);
                continue;
            };
            let ends = [flow.key.endpoint(side), flow.key.endpoint(1 - side)];
            let owners = [side, 1 - side].map(|side| owner_in_flow(&flow, side, hints));
            let kind = owners[0].kind();
            unanswered[kind].insert(hash);
            let transport = flow.key.transport();
            let [client, server] = ends;
            let port = if transport.is_icmp() { client.port } else { server.port };
            let subject = ServiceKey { client: client.addr, server: server.addr, transport, port };
            for (step, remaining) in STEPS[kind].iter().zip(&mut self.remaining[kind]) {
                if remaining.len() <= room {
                    let coarser = coarser(subject, owners, *step, !step.drops_ports());
                    remaining.insert(seed.hash_one(coarser));
                }
            }
        }
        self.answered += answered.len();
        self.unanswered.iter_mut().zip(&unanswered).for_each(|(all, own)| *all += own.len());
    }

    fn with(mut self, other: Self) -> Self {
        self.answered += other.answered;
        self.unanswered.iter_mut().zip(other.unanswered).for_each(|(mine, more)| *mine += more);
        let pairs = self.remaining.iter_mut().zip(other.remaining);
        for (mine, theirs) in pairs.flat_map(|(mine, theirs)| mine.iter_mut().zip(theirs)) {
            mine.extend(theirs);
        }
        self
    }

    /// Returns the steps after which at most `room` conversations remain, or all steps if even they
    /// are not enough.
    fn steps(&self, room: usize) -> [Option<AggregationStep>; 3] {
        let mut steps = [None; 3];
        let mut total = self.answered + self.unanswered.iter().sum::<usize>();
        for kind in 0..STEPS.len() {
            let others = total - self.unanswered[kind];
            for (step, remaining) in STEPS[kind].iter().zip(&self.remaining[kind]) {
                if total <= room {
                    return steps;
                }
                steps[kind] = Some(*step);
                total = others + remaining.len().min(self.unanswered[kind]);
            }
        }
        steps
    }
}

/// Returns the subject that replaces `subject` in a step.
fn coarser(
    subject: ServiceKey,
    [client_owner, server_owner]: [AddressOwner; 2],
    step: AggregationStep,
    keeps_port: bool,
) -> ServiceKey {
    use AggregationStep::{
        HostPorts, HostServers, MemberNetworks, MemberPorts, UnlistedAsOne, UnlistedNetworks,
        UnlistedPorts,
    };
    let ServiceKey { client, server, .. } = subject;
    let new_client = match (step, client_owner) {
        (UnlistedNetworks, _) => network_around(client),
        (UnlistedAsOne | UnlistedPorts, _) => unspecified(client),
        (MemberNetworks | MemberPorts, AddressOwner::Network(first, _)) => first,
        _ => client,
    };
    let new_server = match (step, server_owner) {
        (HostServers, _) => unspecified(server),
        (UnlistedNetworks | MemberNetworks | HostPorts, _) | (_, AddressOwner::Host) => server,
        (UnlistedAsOne, AddressOwner::Unlisted) => network_around(server),
        (_, AddressOwner::Unlisted) => unspecified(server),
        (_, AddressOwner::Network(first, _)) => first,
    };
    let port = if keeps_port { subject.port } else { 0 };
    ServiceKey { client: new_client, server: new_server, port, ..subject }
}

/// Returns the side that initiated a flow that got no answer: the other side sent nothing or, in
/// TCP, only resets. Returns `None` if the other side answered, if an acknowledgement shows that it
/// did so outside of the capture, or if both sides sent only resets.
fn initiator_of_unanswered(flow: &Flow<'_>) -> Option<usize> {
    let sends = [0, 1].map(|side: usize| flow.sides[side].has_packets());
    let is_tcp = flow.key.transport() == Transport::TCP;
    let speaks = [0, 1].map(|side| sends[side] && !(is_tcp && only_resets(&flow.sides[side])));
    let acknowledges = |side: usize| speaks[side] && flow.sides[side].has(flag::ACK);
    if is_tcp && (acknowledges(0) || acknowledges(1)) {
        return None;
    }
    match (speaks, sends) {
        ([true, true], _) => None,
        ([true, false], _) | ([false, false], [true, false]) => Some(0),
        ([false, true], _) | ([false, false], [false, true]) => Some(1),
        ([false, false], [true, true]) => None,
        // Only ICMP errors about the flow were seen.
        ([false, false], [false, false]) => {
            let quoted = flow.extra.and_then(|extra| extra.errors.iter().next());
            Some(quoted.map_or(0, |(error, _)| usize::from(error.side & 1)))
        }
    }
}

/// Returns the number of conversations that memory has room for.
pub(super) fn room(max_memory: usize) -> usize {
    (max_memory / CONVERSATION_BYTES).max(MIN_CONVERSATIONS)
}

/// Returns whether a flow got no answer.
pub(super) fn is_unanswered(flow: &Flow<'_>) -> bool {
    initiator_of_unanswered(flow).is_some()
}

/// Returns the lower port of a flow. Flows of one conversation with the same lower port are in the
/// same partition.
pub(super) fn lower_port(flow: &Flow<'_>) -> u16 {
    flow.key.endpoint(0).port.min(flow.key.endpoint(1).port)
}

/// Returns whether a flow has a loopback address and was seen inside a host. Conversations of
/// such flows are never aggregated.
fn is_local(flow: &Flow<'_>) -> bool {
    let has_loopback = (0..2).any(|side| flow.key.endpoint(side).addr.is_loopback());
    has_loopback && !is_loopback_on_wire(flow)
}

/// Returns the owner of an address of a flow.
fn owner_in_flow(flow: &Flow<'_>, side: usize, hints: &dyn DirectionHints) -> AddressOwner {
    owner(flow.key.endpoint(side).addr, hints, &link_local_macs_of(flow, side))
}

/// Returns the owner of an address. A link-local address belongs to the host that has one of its
/// hardware addresses, `macs`. A loopback address on a wire belongs to nobody.
fn owner(address: IpAddr, hints: &dyn DirectionHints, macs: &[Mac]) -> AddressOwner {
    if address.is_loopback() { AddressOwner::Unlisted } else { hints.owner(address, macs) }
}

/// Returns the number of threads, at most `jobs`, that can build conversations at the same time
/// within half of the memory limit.
pub(super) fn jobs_within(max_memory: usize, flows: &impl FlowPartitions, jobs: usize) -> usize {
    let one = flows.spilled() / flows.count().max(1) as u64 * PARTITION_FACTOR;
    if one == 0 {
        return jobs;
    }
    let fitting = usize::try_from(max_memory as u64 / 2 / one).unwrap_or(usize::MAX);
    fitting.clamp(1, jobs.max(1))
}

/// Returns the address that stands for all addresses of the same IP version, or for all IPv4
/// loopback addresses.
fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::new(127, 0, 0, 0).into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(answered: usize, unanswered: [usize; 3], remaining: [[u64; 3]; 3]) -> StepCounts {
        let set = |count: u64| (0..count).collect();
        StepCounts { answered, unanswered, remaining: remaining.map(|kind| kind.map(set)) }
    }

    #[test]
    fn the_least_steps_are_taken_and_unlisted_clients_come_first() {
        use AggregationStep::{
            HostPorts, HostServers, MemberNetworks, MemberPorts, UnlistedAsOne, UnlistedNetworks,
            UnlistedPorts,
        };
        let remaining = [[50, 10, 2], [30, 5, 0], [20, 4, 0]];
        let steps = |answered, unanswered| {
            let steps = counts(answered, unanswered, remaining).steps(100);
            steps.map(|step| step.map(AggregationStep::name))
        };
        let names = |steps: [Option<AggregationStep>; 3]| steps.map(|step| step.map(|s| s.name()));
        assert_eq!(steps(10, [60, 20, 10]), names([None; 3]));
        assert_eq!(steps(10, [200, 20, 10]), names([Some(UnlistedNetworks), None, None]));
        assert_eq!(steps(50, [200, 20, 10]), names([Some(UnlistedAsOne), None, None]));
        assert_eq!(steps(69, [200, 20, 10]), names([Some(UnlistedPorts), Some(MemberPorts), None]));
        let all = [Some(UnlistedPorts), Some(MemberNetworks), None];
        assert_eq!(steps(10, [200, 200, 40]), names(all));
        let all = [Some(UnlistedPorts), Some(MemberPorts), Some(HostPorts)];
        assert_eq!(steps(10, [200, 200, 200]), names(all));
        // Answered conversations are never aggregated, even if they do not fit.
        let all = [Some(UnlistedPorts), Some(MemberPorts), Some(HostServers)];
        assert_eq!(steps(1000, [200, 200, 200]), names(all));
    }

    #[test]
    fn a_coarser_subject_keeps_what_the_step_does_not_mention() {
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let subject = ServiceKey {
            client: ip("203.0.113.7"),
            server: ip("10.0.0.1"),
            transport: Transport::TCP,
            port: 443,
        };
        let shown = |step: AggregationStep, owners| {
            let ServiceKey { client, server, port, .. } =
                coarser(subject, owners, step, !step.drops_ports());
            format!("{client} {server} {port}")
        };
        let network = AddressOwner::Network(ip("203.0.112.0"), 20);
        let cases = [
            (AddressOwner::Unlisted, "203.0.113.0 10.0.0.1 443"),
            (AddressOwner::Unlisted, "0.0.0.0 10.0.0.1 443"),
            (AddressOwner::Unlisted, "0.0.0.0 10.0.0.1 0"),
            (network, "203.0.112.0 10.0.0.1 443"),
            (network, "203.0.112.0 10.0.0.1 0"),
            (AddressOwner::Host, "203.0.113.7 10.0.0.1 0"),
            (AddressOwner::Host, "203.0.113.7 0.0.0.0 0"),
        ];
        for ((owner, text), step) in cases.into_iter().zip(AggregationStep::ALL) {
            assert_eq!(shown(*step, [owner, AddressOwner::Host]), text, "{step}");
        }
        let of_unlisted = |step| shown(step, [AddressOwner::Unlisted; 2]);
        assert_eq!(of_unlisted(AggregationStep::UnlistedAsOne), "0.0.0.0 10.0.0.0 443");
        assert_eq!(of_unlisted(AggregationStep::UnlistedPorts), "0.0.0.0 0.0.0.0 0");
        assert_eq!(unspecified(ip("127.4.5.6")), ip("127.0.0.0"));
        assert_eq!(unspecified(ip("2001:db8::1")), ip("::"));
    }

    #[test]
    fn the_parts_of_an_aggregated_conversation_merge_in_any_order() {
        let subject = |client: &str, port| ServiceKey {
            client: client.parse().expect("an address"),
            server: "10.0.0.1".parse().expect("an address"),
            transport: Transport::TCP,
            port,
        };
        let part = |client, port| {
            AggregatedConversations::of(subject(client, port), AggregationStep::UnlistedPorts)
        };
        let mut forth = part("203.0.113.7", 80);
        forth.merge(&part("198.51.100.1", 443));
        let mut back = part("198.51.100.1", 443);
        back.merge(&part("203.0.113.7", 80));
        assert_eq!(forth, back);
        assert_eq!((forth.conversations, forth.ports), (2, [80, 443]));
        assert_eq!(forth.example, subject("198.51.100.1", 443));
        assert!(forth.has_several_clients() && forth.has_several_ports());
        assert!(!forth.has_several_servers() && !forth.is_of_host());
    }
}
