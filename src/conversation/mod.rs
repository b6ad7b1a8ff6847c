//! Turns flows into conversations, which record the client, the server and the service, how certain
//! the direction is, how far the conversation got, and how much it carried.
//!
//! Conversations are computed from merged evidence, so they do not depend on the order in which
//! packets arrive. This module knows neither the roles of hosts nor the port matrix.
//! [`DirectionHints`] supplies the parts of the policy that the direction of a flow depends on.

mod active_periods;
mod aggregation;
mod by_address;
mod capture_index;
mod capture_limits;
mod common_ends;
mod direction;
mod doubt_sources;
mod flow_facts;
mod host_activity;
mod name_table;
mod order;
mod packet_kinds;
mod sample_flows;
mod state;
mod vantage_set;
mod visibility;

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::io;
use std::net::IpAddr;
use std::ops::Range;

use aggregation::{AggregateKey, AggregationPlan};
use direction::Orientation;
use name_table::{NameTable, RequestedNames, RequestsByConversation};

use crate::flow::{
    AddressPair, Amount, ENDPOINT_MAPPER, EncapTagKind, Encapsulation, Flow, FlowPartitions,
    HashSeed, IcmpError, PartitionFlows, Path, SideEvidence, TunnelUse, UndecodedCounts,
};
use crate::model::{
    BoundedSet, Endpoint, FlagSet, InlineBoundedSet, Mac, Max, Merge, Min, Nanos, Transport,
};

pub(crate) use crate::flow::{
    AddressBinding, EDGE_WORDS, EncapTag, ErrorKind, TunnelEndpoints, WORD_S, flag,
};
pub use active_periods::ActivePeriods;
pub use aggregation::{
    AddressOwner, AggregatedConversations, AggregationReport, AggregationStep, RulingKind,
};
pub use capture_index::CaptureIndex;
pub use capture_limits::{CaptureLimits, Outages, TimeSpan};
pub use direction::DirectionEvidence;
pub use doubt_sources::{DoubtSource, DoubtSources};
pub use host_activity::HostActivity;
pub use name_table::{KnownName, ServerNames};
pub use sample_flows::{SampleFlow, SampleFlows};
pub use state::{State, StateEvidence};
pub use vantage_set::{OTHER_SENSORS, VantagePoints, VantageSet};
use visibility::OneSidedPackets;
pub use visibility::VisibilityStats;

/// The part of the policy that the direction of a flow depends on.
pub trait DirectionHints: Sync {
    /// Returns whether the address is the broadcast address of a network in the inventory.
    fn is_broadcast(&self, address: IpAddr) -> bool;

    /// Returns whether a conversation with this client and server, whose link-local addresses have
    /// these hardware addresses, is documented.
    fn is_documented(
        &self,
        client: IpAddr,
        server: Endpoint,
        transport: Transport,
        macs: EndMacs<'_>,
    ) -> bool;

    /// Returns the address that represents all addresses that the inventory lists for a host.
    fn canonical(&self, address: IpAddr) -> IpAddr {
        address
    }

    /// Returns whether the address belongs to a host in the inventory.
    fn is_listed(&self, _: IpAddr) -> bool {
        false
    }

    /// Returns whether there is an inventory that lists the address for no host. The evidence of a
    /// single stranger does not count against a capture.
    fn is_stranger(&self, _: IpAddr) -> bool {
        false
    }

    /// Returns whether the address belongs to a host or network in the inventory, or `None` if
    /// there is no inventory.
    fn belongs(&self, _: IpAddr) -> Option<bool> {
        None
    }

    /// Returns whether the answers of this resolver are trusted, because the inventory lists it as
    /// a resolver or gives it a directory role.
    fn is_resolver(&self, _: IpAddr) -> bool {
        false
    }

    /// Returns whether a hardware address is in the inventory.
    fn is_listed_mac(&self, _: Mac) -> bool {
        false
    }

    /// Compares the ruling on a conversation with a guessed direction with that in the other
    /// orientation, in which the client serves `client_port`.
    fn other_orientation(
        &self,
        _: &ServiceKey,
        _client_port: u16,
        _broadcast: bool,
        _macs: EndMacs<'_>,
    ) -> OtherOrientation {
        OtherOrientation::SamePermission
    }

    /// Returns the kind of inventory entry that an address with these hardware addresses belongs
    /// to.
    fn owner(&self, _: IpAddr, _macs: &[Mac]) -> AddressOwner {
        AddressOwner::Unlisted
    }

    /// Returns the ruling on traffic, as far as aggregation has to preserve it. Server names are
    /// not known here.
    fn ruling_kind(&self, _: &ServiceKey, _broadcast: bool, _macs: EndMacs<'_>) -> RulingKind {
        RulingKind::default()
    }
}

/// The hardware addresses by which the hosts of link-local addresses are recognized, those of the
/// client first. For other addresses, there may be none.
pub type EndMacs<'m> = [&'m [Mac]; 2];

/// How the ruling on a conversation changes if its client and its server change places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtherOrientation {
    /// The code is worse, or the verdict is another one. Server names are not known when
    /// orientations are compared, so this includes conversations whose ruling depends on a name.
    Differs,
    /// The traffic is a finding in both orientations.
    SameFinding,
    /// The traffic is permitted in both orientations.
    SamePermission,
}

/// The identity of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceKey {
    /// The client's address.
    pub client: IpAddr,
    /// The server's address.
    pub server: IpAddr,
    /// The protocol above IP.
    pub transport: Transport,
    /// The server's port; for ICMP, the message type; otherwise zero.
    pub port: u16,
}

impl ServiceKey {
    /// Returns the server's address and port.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.server, self.port)
    }

    /// Returns the port or the ICMP type for reports, or `None` if the protocol has neither.
    pub fn shown_port(&self) -> Option<u16> {
        (self.transport.has_ports() || self.transport.is_icmp()).then_some(self.port)
    }
}

/// Compares the fields in their order. Addresses are compared as numbers, because comparing their
/// bytes takes a call for each.
impl Ord for ServiceKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let address = |a: IpAddr, b: IpAddr| match (a, b) {
            (IpAddr::V4(a), IpAddr::V4(b)) => a.to_bits().cmp(&b.to_bits()),
            (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits().cmp(&b.to_bits()),
            _ => a.is_ipv6().cmp(&b.is_ipv6()),
        };
        let service = |key: &Self| (key.transport, key.port);
        address(self.client, other.client)
            .then_with(|| address(self.server, other.server))
            .then_with(|| service(self).cmp(&service(other)))
    }
}

impl PartialOrd for ServiceKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Hashes IPv4 addresses as numbers, because hashing their bytes takes several times as long.
impl Hash for ServiceKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match (self.client, self.server) {
            (IpAddr::V4(client), IpAddr::V4(server)) => {
                state.write_u64(u64::from(client.to_bits()) << 32 | u64::from(server.to_bits()));
            }
            ends => ends.hash(state),
        }
        state.write_u32(u32::from(self.transport.0) << 16 | u32::from(self.port));
    }
}

/// All flows between one client and one service of one server. Doubted flows form a separate
/// conversation.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The client, the server and the service.
    pub subject: ServiceKey,
    /// Reasons to doubt the flows. Undoubted flows of the same subject form another conversation.
    pub doubts: DoubtSources,
    /// The strongest direction evidence among the flows.
    pub grade: DirectionEvidence,
    /// The best state among the flows.
    pub state: State,
    /// The best evidence for that state among the flows.
    pub basis: StateEvidence,
    /// Whether the client sent all flows to a broadcast or multicast address, or to the link-layer
    /// broadcast address.
    pub broadcast: bool,
    /// Number of five-tuples.
    pub flows: u64,
    /// SYNs sent by the client, including retransmissions and duplicates.
    pub attempts: u64,
    /// Number of established five-tuples, at most 4,294,967,295.
    pub established: u32,
    /// Number of independent chances to see a reply: one per five-tuple, plus one for each later
    /// repetition of a failed attempt. Only flows with the conversation's state count.
    pub chances: u32,
    /// Kinds of packets seen from the client and from the server. See [`flag`].
    pub flags: [FlagSet; 2],
    /// Packets and bytes sent by the client.
    pub to_server: Amount,
    /// Packets and bytes sent by the server.
    pub to_client: Amount,
    /// Time of the earliest packet or ICMP error.
    pub first: Min,
    /// Time of the latest packet or ICMP error.
    pub last: Max,
    /// Time span in which the answered flows began. If no flow was answered, the failed flows
    /// count, and if none failed either, all flows. A flow that reached the service counts until
    /// its last packet or, if the service did not answer the last requests, until the last packet
    /// of the server.
    pub opened: TimeSpan,
    /// The client's 16 lowest ports, needed to read the conversation in the other direction.
    pub client_ports: InlineBoundedSet<u16, 16>,
    /// The server's port in the flow with the lowest client port. For ICMP, the type of the reply,
    /// or the code if the type has no reply.
    pub server_number: u16,
    /// Whether an endpoint mapper on the server announced the port to the client.
    pub announced: bool,
    /// Number of flows without a reply in which the SYN, SYN-ACK or request was repeated, minus the
    /// number of those in which it was not. An end that gets no reply repeats it (RFC 6298 for
    /// TCP).
    repeated: i32,
    /// Number of flows that were long sessions and ended early enough for the capture to show what
    /// follows them, at most 255. Each flow is counted by its own bytes and times, so many
    /// short flows do not change the number, and neither does a flow that is still open.
    pub long_sessions: u8,
    /// The named vantage points that saw the flows.
    pub sensors: VantageSet,
    /// The index of the set of server names in `Conversations::names`. Before the names are
    /// determined, it is [`HAS_REQUESTS`] if a flow has evidence of server names, otherwise zero.
    names: u32,
    /// Evidence that only a few conversations have.
    rare: Option<Box<ConversationExtras>>,
}

const _: () = assert!(size_of::<Conversation>() <= 216);

/// Marks conversations whose flows have evidence of server names. Requested names are looked up
/// only for marked conversations, because most conversations have none.
const HAS_REQUESTS: u32 = 1;

/// Evidence that only a few conversations have.
#[derive(Clone, Default, Debug)]
pub struct ConversationExtras {
    /// The encapsulations of the packets, without VLAN tags that have the identifier 0. Several
    /// nested tags of the same kind form one stack, outermost first.
    pub tags: BoundedSet<Vec<EncapTag>, 16>,
    /// The endpoints of the tunnels that carried the packets.
    pub outer: BoundedSet<TunnelEndpoints, 16>,
    /// Source hardware addresses of the client's and the server's frames, kept only if the IP
    /// address is link-local or loopback.
    pub macs: [BoundedSet<Mac, 4>; 2],
    /// ICMP errors that count as evidence. Side 0 means that the error quotes a packet from the
    /// client, side 1 from the server.
    pub errors: BoundedSet<IcmpError, 16>,
    /// Number of flows that were aggregated because memory ran short.
    pub aggregated: u64,
    /// The conversations that were aggregated into this one because there were too many.
    pub stands_for: Option<AggregatedConversations>,
    /// Whether a loopback address was seen on a wire or in a tunnel.
    pub on_wire: bool,
    /// ICMP errors that do not count as evidence, for example because the capture does not show the
    /// packets that they quote.
    pub unseen_errors: BoundedSet<IcmpError, 16>,
    /// The latest time at which the last packet may have arrived, if the timestamps of some frames
    /// are doubted.
    latest: Max,
    /// Failed flows, sorted by state. The list is empty if the conversation's own state describes
    /// them completely.
    failures: Vec<FailedFlows>,
}

/// Flows that failed in the same way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailedFlows {
    /// How these flows failed.
    pub state: State,
    /// The evidence for that state.
    pub basis: StateEvidence,
    /// See [`Conversation::chances`].
    pub chances: u64,
    /// Time span in which these flows began.
    pub opened: TimeSpan,
}

/// Merges failed flows of the same conversation. The result is sorted by state.
fn merge_failures(mut failures: Vec<FailedFlows>, others: &[FailedFlows]) -> Vec<FailedFlows> {
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
        self.aggregated += other.aggregated;
        match (&mut self.stands_for, &other.stands_for) {
            (Some(mine), Some(theirs)) => mine.merge(theirs),
            (None, Some(theirs)) => self.stands_for = Some(theirs.clone()),
            (_, None) => {}
        }
        self.on_wire |= other.on_wire;
        self.unseen_errors.merge(&other.unseen_errors);
        self.latest.merge(&other.latest);
    }
}

impl Conversation {
    /// Returns the evidence that only a few conversations have.
    pub fn rare(&self) -> &ConversationExtras {
        static NONE: ConversationExtras = ConversationExtras {
            tags: BoundedSet::new(),
            outer: BoundedSet::new(),
            macs: [BoundedSet::new(), BoundedSet::new()],
            errors: BoundedSet::new(),
            aggregated: 0,
            stands_for: None,
            on_wire: false,
            unseen_errors: BoundedSet::new(),
            latest: Max::EMPTY,
            failures: Vec::new(),
        };
        self.rare.as_deref().unwrap_or(&NONE)
    }

    /// Returns the latest time at which the last packet may have arrived. It is later than `last`
    /// only if the timestamps of some frames are doubted.
    pub fn latest(&self) -> Option<Nanos> {
        self.last.get().max(self.rare().latest.get())
    }

    /// Returns the conversations that were aggregated into this one because there were too many.
    pub fn stands_for(&self) -> Option<&AggregatedConversations> {
        self.rare.as_ref()?.stands_for.as_ref()
    }

    /// Returns the subject that the ruling is based on: the lowest one if the conversation stands
    /// for several.
    pub fn ruled_subject(&self) -> ServiceKey {
        self.stands_for().map_or(self.subject, |aggregated| aggregated.example)
    }

    /// Makes this the conversation of an aggregated flow.
    #[cfg(test)]
    pub(crate) fn set_aggregated(&mut self) {
        self.rare.get_or_insert_default().aggregated = 1;
    }

    /// Returns whether flows or other conversations were aggregated into the conversation.
    pub fn is_aggregated(&self) -> bool {
        let rare = self.rare();
        rare.aggregated > 0 || rare.stands_for.is_some()
    }

    /// Returns whether the port was dropped when flows were aggregated, so that the conversation
    /// may be about any ports.
    pub fn lost_port(&self) -> bool {
        let ServiceKey { transport, port, .. } = self.subject;
        transport.has_ports() && port == 0 && self.rare().aggregated > 0
    }

    /// Returns whether the conversation is about several ports, or about unknown ones.
    pub fn is_of_several_ports(&self) -> bool {
        self.lost_port() || self.stands_for().is_some_and(|all| all.has_several_ports())
    }

    /// Returns the client's and the server's endpoint in the flow with the lowest client port.
    pub fn first_flow(&self) -> [Endpoint; 2] {
        let port = self.client_ports.iter().next().copied().unwrap_or_default();
        let ServiceKey { client, server, .. } = self.subject;
        [Endpoint::new(client, port), Endpoint::new(server, self.server_number)]
    }

    /// Returns whether the service answered: it was reached, or a probe found the port open.
    pub fn is_answered(&self) -> bool {
        self.state.reached() || self.basis == StateEvidence::Probe
    }

    /// Returns whether the attempt failed. A probe, which only tests whether the port is open, is
    /// not a failure.
    pub fn has_failed(&self) -> bool {
        self.state.failed() && self.basis != StateEvidence::Probe
    }

    /// Returns whether the server refused flows. Flows that it merely did not answer do not count.
    pub fn was_refused(&self) -> bool {
        let failures = self.rare().failures.iter().map(|failed| failed.state);
        failures.chain([self.state]).any(|state| state == State::Refused)
    }

    /// Returns the failed flows that began last if the service also answered. These flows have the
    /// same state.
    pub fn last_failures(&self) -> Option<&FailedFlows> {
        let failures = self.rare().failures.iter().filter(|_| self.is_answered());
        failures.max_by_key(|failed| (failed.opened.last, std::cmp::Reverse(failed.state)))
    }

    /// Returns the last failures if the latest of them began after the last sign that the service
    /// worked, which means that the service has stopped.
    pub fn fails_at_last(&self) -> Option<&FailedFlows> {
        let worked = self.opened.last.get()?;
        self.last_failures().filter(|failed| failed.opened.last.get() > Some(worked))
    }

    /// Returns whether all RADIUS, DNS or Kerberos requests without a reply since a service last
    /// worked were sent within the time that a reply may take. They can then be repetitions of one
    /// request: if a user does not confirm a login, or if another server that is asked about a name
    /// does not reply, this request gets no reply, however often the client repeats it.
    pub fn may_lack_one_reply(&self) -> bool {
        self.fails_at_last().is_some_and(|failed| {
            let ServiceKey { transport, port, .. } = self.subject;
            let time = flow_facts::time_to_answer_at(transport, port, self.flags[0]);
            [flow_facts::TIME_TO_ANSWER_LOGIN, flow_facts::TIME_TO_ANSWER_LOOKUP].contains(&time)
                && failed.state == State::Unanswered
                && failed.opened.length().is_some_and(|length| length < time)
        })
    }

    /// Returns the number of chances to see a reply that support the last state of the service: of
    /// all flows with this state, or, if the service has stopped, of those that failed since it
    /// last worked. If flows also failed before, only the last failure is certain to count, because
    /// the times of the others are not known.
    pub fn chances_at_last(&self) -> u64 {
        match self.fails_at_last() {
            Some(failed) if failed.opened.first.get() > self.opened.last.get() => failed.chances,
            Some(_) => 1,
            None => u64::from(self.chances),
        }
    }

    /// Returns whether at least half of the flows without a reply show a repeated SYN, SYN-ACK or
    /// request. If fewer do, the capture may lack the replies.
    pub fn repeats_requests(&self) -> bool {
        self.repeated >= 0
    }

    /// Returns whether the flows may be forged: they were inside an undeclared tunnel, or only an
    /// ICMP error quotes them.
    pub fn is_made_up(&self) -> bool {
        self.doubts.has(DoubtSource::Tunnel) || self.doubts.has(DoubtSource::Quoted)
    }

    /// Returns whether the flows are doubted and therefore kept apart from the subject's other
    /// flows.
    pub fn is_doubted(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// Returns whether the conversation's ICMP type is one of a pair of request and reply, such as
    /// echo. The reply need not have been seen.
    pub fn is_paired_icmp(&self) -> bool {
        let ServiceKey { transport, port, .. } = self.subject;
        transport.is_icmp() && crate::flow::icmp_paired(transport, port as u8)
    }
}

/// Options of [`Conversations::read`].
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Number of threads.
    pub jobs: usize,
    /// Whether the flows are still needed after the conversations have been read.
    pub keep: bool,
    /// The memory limit in bytes. If there are too many conversations for it, those that nobody
    /// answered are aggregated.
    pub max_memory: usize,
    /// Which tunnels count as mirrors.
    pub mirrors: TrustedMirrors,
}

/// The tunnels whose content is trusted because they carry mirrored traffic.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum TrustedMirrors {
    /// Those that the inventory lists, and a tunnel in which alone the capture shows the farm.
    #[default]
    Inferred,
    /// Only those that the inventory lists.
    Listed,
}

/// The number of conversations for which memory is reserved if the number of flows is not known.
const MOST_RESERVED: usize = 1 << 20;

/// The conversations of a capture, with the evidence of what the capture can show.
pub struct Conversations {
    /// The conversations, sorted by subject.
    pub list: Vec<Conversation>,
    /// The hosts and services that the capture shows, and their activity.
    pub index: CaptureIndex,
    /// Bytes written to temporary files because memory ran short.
    pub spilled: u64,
    /// For each address, the names that DNS queries resolved to it. Each set keeps the first eight
    /// names in sort order.
    pub dns_names: BTreeMap<IpAddr, BoundedSet<String, 8>>,
    /// Source, destination and protocol of later fragments whose first fragment is not in the
    /// capture.
    pub orphans: Vec<AddressPair>,
    /// Frames that could not be decoded.
    pub undecoded: UndecodedCounts,
    /// The hosts that were master of each virtual address (VRRP).
    pub vrrp_masters: BTreeMap<IpAddr, BTreeSet<IpAddr>>,
    /// The named vantage points that saw flows.
    pub vantage_points: VantagePoints,
    /// The report on the conversations that were aggregated because there were too many; `None` if
    /// none were aggregated.
    pub aggregation: Option<AggregationReport>,
    /// The distinct sets of server names.
    names: Vec<ServerNames>,
}

impl Conversations {
    /// Reads all flows twice: first to find the endpoints that accept connections and the hosts
    /// that were seen, then to determine directions and states. Before that, flows may also be read
    /// to find mirrored traffic and to plan the aggregation.
    pub fn read(
        flows: &mut impl FlowPartitions,
        hints: &dyn DirectionHints,
        limits: &CaptureLimits,
        ReadOptions { jobs, keep, max_memory, mirrors }: ReadOptions,
    ) -> io::Result<Self> {
        let mirrors = match mirrors {
            TrustedMirrors::Inferred => find_mirrors(flows, hints)?,
            TrustedMirrors::Listed => BTreeSet::new(),
        };
        flows.trust_mirrors(&mirrors)?;
        // The outer packets of tunnels that carry mirrored traffic are not farm traffic.
        let is_farm_traffic = |flow: &Flow<'_>| {
            let path = flow.key.path();
            !(path.is_around() && path.interface().is_some_and(|at| mirrors.contains(&at)))
        };
        let jobs = aggregation::jobs_within(max_memory, flows, jobs);
        let plan = AggregationPlan::decide(flows, hints, max_memory, jobs)?;
        let plan = plan.as_ref();
        let mut index = CaptureIndex::new(limits.clone());
        index.add_side(flows.side(), hints);
        let indexes = flows.fold(jobs, |index: &mut CaptureIndex, part| {
            for mut flow in part.iter().filter(is_farm_traffic) {
                flow.remove_times(&limits.doubted);
                let forgets = plan.map_or([false; 2], |plan| plan.forgets(&flow, hints));
                index.add(&flow, hints, limits, forgets);
            }
        })?;
        indexes.into_iter().for_each(|part| index.merge(part));
        index.conclude(hints);
        // Growing the list would copy it, so two copies would briefly be in memory. Reserved memory
        // takes no pages until it is used. If the reservation fails, the list grows as needed.
        let count = flows.flow_count().unwrap_or(MOST_RESERVED);
        let most = count.min(aggregation::room(max_memory)) / jobs.max(1);
        let read = |partial: &mut PartialConversations, part: PartitionFlows<'_>| {
            if partial.list.capacity() == 0 {
                let _ = partial.list.try_reserve_exact(most);
            }
            let flows = part.iter().filter(is_farm_traffic);
            match plan {
                Some(plan) => partial.read_aggregating(flows, &index, hints, plan),
                None => partial.read(flows, &index, hints),
            }
        };
        // Without `keep`, the flows are needed again only if loopback traffic reveals the host on
        // which the capture was taken.
        let again = keep || index.saw_loopback();
        let parts = if again { flows.fold(jobs, read)? } else { flows.drain(jobs, read)? };
        let PartialConversations { mut list, requested, one_sided, .. } =
            PartialConversations::merge(parts);
        index.visibility.note_one_sided(&one_sided);
        let side = flows.side();
        let names = name_servers(&mut list, &requested, side, hints);
        let plain_orphans = side.orphans().filter(|(pair, _)| pair.path == Path::PLAIN);
        Ok(Self {
            spilled: flows.spilled(),
            dns_names: queried_names(side),
            orphans: plain_orphans.map(|(pair, _)| *pair).collect(),
            undecoded: side.undecoded().clone(),
            vrrp_masters: side.virtual_address_masters(),
            vantage_points: std::mem::take(&mut index.sightings).points,
            aggregation: plan.and_then(|plan| plan.report(&list)),
            list,
            index,
            names,
        })
    }

    /// Returns the names of a conversation's server.
    pub fn names_of(&self, c: &Conversation) -> &ServerNames {
        &self.names[c.names as usize]
    }
}

/// Determines the names of the servers of all conversations, and which ports endpoint mappers
/// announced. Returns the distinct sets of names.
fn name_servers(
    list: &mut [Conversation],
    requested: &RequestsByConversation,
    side: &SideEvidence,
    hints: &dyn DirectionHints,
) -> Vec<ServerNames> {
    // An announcement is only as trustworthy as the connection that carried it.
    let is_mapper = |c: &&Conversation| {
        let subject = &c.subject;
        (subject.transport, subject.port) == (Transport::TCP, ENDPOINT_MAPPER)
            && c.state == State::Established
            && !c.is_doubted()
    };
    let mappers: HashSet<(IpAddr, IpAddr), HashSeed> =
        list.iter().filter(is_mapper).map(|c| (c.subject.client, c.subject.server)).collect();
    let has_connected = |client, mapper| mappers.contains(&(client, mapper));
    let mut table = NameTable::new(side, hints, has_connected);
    let nothing = RequestedNames::default();
    for c in list {
        let ServiceKey { client, server, transport, port } = c.subject;
        // A conversation that stands for several servers has no name.
        if c.stands_for().is_some_and(AggregatedConversations::has_several_servers) {
            c.names = 0;
            continue;
        }
        let own = if c.names == HAS_REQUESTS { requested.get(&c.key()) } else { None };
        c.names = table.number(client, server, own.unwrap_or(&nothing));
        c.announced = transport == Transport::TCP && table.is_announced(client, server, port);
    }
    table.into_sets()
}

/// Returns the names that DNS queries resolved to each address.
fn queried_names(side: &SideEvidence) -> BTreeMap<IpAddr, BoundedSet<String, 8>> {
    let mut names: BTreeMap<IpAddr, BoundedSet<String, 8>> = BTreeMap::new();
    let plain = side.dns_names().filter(|((.., path), _)| *path == Path::PLAIN);
    for ((_, address, _), chains) in plain {
        let queried = chains.iter().filter_map(|(chain, _)| chain.first());
        queried.for_each(|name| names.entry(*address).or_default().insert(name.clone()));
    }
    names
}

/// Returns the interfaces that receive mirrored traffic in a tunnel, inferred from the traffic. The
/// capture must show the farm in this tunnel alone: all undeclared tunnels lead from one address to
/// one other, neither of which belongs to the farm, and no host of the farm sends or receives a
/// packet outside of it. Otherwise, the sender of the tunnel may be any host that forges packets.
/// Without an inventory, any address may belong to the farm, so a single packet outside the tunnel
/// rules out the mirror.
fn find_mirrors(
    flows: &impl FlowPartitions,
    hints: &dyn DirectionHints,
) -> io::Result<BTreeSet<u16>> {
    let mirrors = flows.side().only_tunnel();
    if mirrors.is_empty() {
        return Ok(mirrors);
    }
    let mut shows_farm = false;
    flows.visit(|partition| {
        shows_farm = shows_farm
            || partition.iter().any(|flow| {
                let path = flow.key.path();
                let belongs = |address| hints.belongs(address).unwrap_or(!path.is_around());
                let is_of_farm = flow.key.addresses().into_iter().any(belongs);
                // The content of a mirror that was inferred earlier is on the plain path, too.
                let is_outside = |link: &Encapsulation| {
                    link.outer().all(|tunnel| tunnel.stated != TunnelUse::Unstated)
                };
                let is_plain = || [0, 1].iter().any(|side| flow.links(*side).any(is_outside));
                !path.is_inside() && is_of_farm && (path.is_around() || is_plain())
            });
    })?;
    Ok(if shows_farm { BTreeSet::new() } else { mirrors })
}

impl Conversations {
    /// Returns the indices of the conversations with a client address. The list is sorted by
    /// client.
    pub fn of_client(&self, client: IpAddr) -> Range<usize> {
        let start = self.list.partition_point(|c| c.subject.client < client);
        let len = self.list[start..].partition_point(|c| c.subject.client == client);
        start..start + len
    }

    /// Returns the conversations of a client with a server.
    pub fn between(&self, client: IpAddr, server: IpAddr) -> &[Conversation] {
        let own = &self.list[self.of_client(client)];
        let start = own.partition_point(|c| c.subject.server < server);
        let len = own[start..].partition_point(|c| c.subject.server == server);
        &own[start..start + len]
    }

    /// Returns the client and the server of each unicast conversation, except those with loopback
    /// addresses that were seen on a wire.
    pub fn ends(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + Clone {
        let unicast = self.list.iter().filter(|c| !c.broadcast && !c.rare().on_wire);
        unicast.map(|c| (c.subject.client, c.subject.server))
    }
}

/// The conversations of some partitions of the flows.
#[derive(Default)]
struct PartialConversations {
    list: Vec<Conversation>,
    requested: RequestsByConversation,
    one_sided: OneSidedPackets,
    /// Conversations that stand for others, because there were too many.
    aggregated: HashMap<AggregateKey, Conversation, HashSeed>,
}

impl PartialConversations {
    /// Merges the conversations of all partitions and sorts them by key.
    fn merge(parts: Vec<Self>) -> Self {
        let mut merged = Self::default();
        for part in parts {
            merged.one_sided.merge(&part.one_sided);
            for (key, theirs) in part.aggregated {
                merged.aggregate(key, theirs);
            }
            if merged.list.is_empty() {
                merged.list = part.list;
            } else {
                merged.list.extend(part.list);
            }
            merged.requested.merge(part.requested);
        }
        let mut aggregated: Vec<_> = std::mem::take(&mut merged.aggregated).into_iter().collect();
        aggregated.sort_unstable_by_key(|(key, _)| *key);
        let aggregated = aggregated.into_iter().map(|(_, conversation)| conversation);
        let (aggregated, single): (Vec<_>, Vec<_>) = aggregated
            .map(|mut conversation| (conversation.is_still_aggregated(), conversation))
            .partition(|(is_aggregated, _)| *is_aggregated);
        merged.list.extend(single.into_iter().map(|(_, conversation)| conversation));
        order::sort(&mut merged.list);
        // A conversation is nearly always complete in one partition, because its flows share the
        // lower port, which selects the partition. Otherwise its parts merge here.
        merged.list.dedup_by(|part, first| {
            let is_same = part.key() == first.key();
            if is_same {
                first.merge(part);
            }
            is_same
        });
        // Aggregated conversations are added last, because those with equal keys must not merge:
        // they differ, for example, in their rulings or states.
        if !aggregated.is_empty() {
            merged.list.extend(aggregated.into_iter().map(|(_, conversation)| conversation));
            order::sort(&mut merged.list);
        }
        merged
    }

    /// Adds a part of an aggregated conversation.
    fn aggregate(&mut self, key: AggregateKey, part: Conversation) {
        match self.aggregated.entry(key) {
            Entry::Occupied(mut entry) => entry.get_mut().merge(&part),
            Entry::Vacant(entry) => drop(entry.insert(part)),
        }
    }

    /// Reads flows and aggregates the conversations that nobody answered. Flows of one conversation
    /// with different lower ports may be in different partitions, so they form separate
    /// conversations until all partitions have been read.
    fn read_aggregating<'a>(
        &mut self,
        flows: impl Iterator<Item = Flow<'a>>,
        index: &CaptureIndex,
        hints: &dyn DirectionHints,
        plan: &AggregationPlan,
    ) {
        let mut found = HashMap::<(ServiceKey, bool, u16), u32, HashSeed>::default();
        // Each unit consists of a part of a conversation, its lower port, and whether none of its
        // flows was answered.
        let mut units: Vec<(Conversation, u16, bool)> = Vec::new();
        for mut flow in flows {
            flow.remove_times(index.doubted_times());
            let is_unanswered = aggregation::is_unanswered(&flow);
            let lower_port = aggregation::lower_port(&flow);
            let (first, second) = direction::read(&flow, index, hints);
            for orientation in [Some(first), second].into_iter().flatten() {
                let part = self.part_of(&flow, &orientation, index, hints);
                let (subject, is_doubted) = part.key();
                match found.entry((subject, is_doubted, lower_port)) {
                    Entry::Occupied(entry) => {
                        let (unit, _, all_unanswered) = &mut units[*entry.get() as usize];
                        unit.merge(&part);
                        *all_unanswered &= is_unanswered;
                    }
                    Entry::Vacant(entry) => {
                        entry.insert(units.len() as u32);
                        units.push((part, lower_port, is_unanswered));
                    }
                }
            }
        }
        drop(found);
        for (mut unit, lower_port, is_unanswered) in units {
            match plan.target(&unit, hints).filter(|_| is_unanswered) {
                Some(key) => {
                    let has_ports = unit.subject.transport.has_ports();
                    let may_repeat = has_ports && lower_port != unit.subject.port;
                    unit.become_part_of(&key, may_repeat);
                    self.aggregate(key, unit);
                }
                None => self.list.push(unit),
            }
        }
    }

    fn read<'a>(
        &mut self,
        flows: impl Iterator<Item = Flow<'a>>,
        index: &CaptureIndex,
        hints: &dyn DirectionHints,
    ) {
        // The conversations are in a dense list with a small index, because a map of conversations
        // would take one and a half times the memory.
        let mut found = HashMap::<(ServiceKey, bool), u32, HashSeed>::default();
        for mut flow in flows {
            flow.remove_times(index.doubted_times());
            let (first, second) = direction::read(&flow, index, hints);
            for orientation in [Some(first), second].into_iter().flatten() {
                self.add_flow(&flow, &orientation, index, hints, &mut found);
            }
        }
    }

    /// Adds a flow, read in one orientation, to its conversation.
    fn add_flow(
        &mut self,
        flow: &Flow<'_>,
        orientation: &Orientation,
        index: &CaptureIndex,
        hints: &dyn DirectionHints,
        found: &mut HashMap<(ServiceKey, bool), u32, HashSeed>,
    ) {
        let part = self.part_of(flow, orientation, index, hints);
        match found.entry(part.key()) {
            Entry::Occupied(entry) => self.list[*entry.get() as usize].merge(&part),
            Entry::Vacant(entry) => {
                entry.insert(self.list.len() as u32);
                self.list.push(part);
            }
        }
    }

    /// Converts a flow, read in one orientation, into a part of its conversation. Records the names
    /// that its client requested and, if the flow is one-sided, its packets.
    fn part_of(
        &mut self,
        flow: &Flow<'_>,
        orientation: &Orientation,
        index: &CaptureIndex,
        hints: &dyn DirectionHints,
    ) -> Conversation {
        let mut part = read_flow(flow, orientation, index, hints);
        let client = orientation.client;
        if let Some(names) = flow.server_names {
            part.names = HAS_REQUESTS;
            let requested = self.requested.of(part.key());
            let requests = names.requests(client, &flow.sides[client]);
            requests.for_each(|request| requested.requests.insert(request));
            requested.more |= names.more(client);
        }
        if part.state == State::OneSided && !flow.key.path().is_inside() {
            let senders = (0..2).filter(|side| flow.sides[*side].has_packets());
            let senders = senders.map(|side| flow.key.endpoint(side).addr);
            let packets = part.to_server.packets.0 + part.to_client.packets.0;
            self.one_sided.add(packets, senders.filter(|sender| hints.is_stranger(*sender)));
        }
        part
    }
}

/// Converts a single flow, read in one orientation, into a part of its conversation.
fn read_flow(
    flow: &Flow<'_>,
    orientation: &Orientation,
    index: &CaptureIndex,
    hints: &dyn DirectionHints,
) -> Conversation {
    let client_side = orientation.client;
    let server_side = 1 - orientation.client;
    let client = flow.key.endpoint(client_side);
    let server = flow.key.endpoint(server_side);
    let transport = flow.key.transport();
    // An ICMP conversation is identified by the type that the client sends.
    let port = if transport.is_icmp() { client.port } else { server.port };
    let subject = ServiceKey { client: client.addr, server: server.addr, transport, port };
    let (state, basis) = state::of(flow, orientation, index);
    let last_failure = (basis == StateEvidence::BothSpoke)
        .then(|| state::last_failure(flow, orientation, index))
        .flatten();
    let last_state = last_failure.map_or(state, |failure| failure.state);
    let is_silent =
        matches!(last_state, State::Unanswered | State::HalfOpen) && basis != StateEvidence::Probe;
    let mut first = flow.sides[0].first;
    let mut last = flow.sides[0].last;
    first.merge(&flow.sides[1].first);
    last.merge(&flow.sides[1].last);
    let mut lacks_times = flow.lacks_times;
    // Anyone can send an ICMP error that quotes a flow, so its time counts only if nothing else of
    // the flow was seen.
    if let Some(extra) = flow.extra.filter(|_| first.get().is_none()) {
        let mut errors = TimeSpan { first: extra.error_first, last: extra.error_last };
        lacks_times |= index.doubted_times().remove_from(&mut errors.first, &mut errors.last);
        first.merge(&errors.first);
        last.merge(&errors.last);
    }
    let mut rare = extras_of(flow, client_side);
    if lacks_times {
        let latest = &mut rare.get_or_insert_default().latest;
        index.end().into_iter().for_each(|end| latest.see(end));
    }
    let aggregated = flow.extra.map_or(0, |extra| extra.aggregated.0);
    let mut client_ports = InlineBoundedSet::default();
    client_ports.insert(client.port);
    let began = flow.sides[client_side].first.get().or(first.get());
    let mut opened = began.map_or_else(TimeSpan::default, TimeSpan::at);
    // A service that was reached counts as working until the last packet of the flow, unless it did
    // not answer the last request.
    if let Some(failure) = last_failure {
        rare.get_or_insert_default().failures.push(failure);
        opened.last.merge(&flow.sides[server_side].last);
    } else if state.reached() {
        last.get().into_iter().for_each(|time| opened.see(time));
    }
    Conversation {
        subject,
        doubts: doubt_sources::of(flow, orientation, state, &subject, (index, hints)),
        grade: orientation.grade,
        state,
        basis,
        broadcast: orientation.broadcast,
        flows: aggregated.max(1),
        attempts: u64::from(flow.sides[client_side].syns.0),
        established: u32::from(state == State::Established),
        chances: u32::try_from(state::chances(flow, orientation, state, index.end()))
            .unwrap_or(u32::MAX),
        flags: [client_side, server_side].map(|side| flow.sides[side].flags),
        to_server: flow.sides[client_side].sent,
        to_client: flow.sides[server_side].sent,
        first,
        last,
        opened,
        client_ports,
        server_number: server.port,
        announced: false,
        repeated: if is_silent { state::repetition(flow, orientation, index) } else { 0 },
        long_sessions: u8::from(
            state == State::Established
                && aggregated == 0
                && first.get().zip(last.get()).is_some_and(|(first, last)| {
                    flow_facts::is_long_session(flow, first, last)
                        && index.is_watched_for(flow, last, flow_facts::SESSION_NS)
                }),
        ),
        sensors: index.sightings.from(&flow.key),
        names: 0,
        rare,
    }
}

/// Returns the evidence that only a few conversations have; `None` if the flow has none.
fn extras_of(flow: &Flow<'_>, client_side: usize) -> Option<Box<ConversationExtras>> {
    let mut rare: Option<Box<ConversationExtras>> = None;
    if let Some(extra) = flow.extra {
        let countable: BTreeSet<IcmpError> = flow_facts::errors(flow).collect();
        for (error, _) in extra.errors.iter() {
            let seen_from_client = IcmpError { side: error.side ^ client_side as u8, ..*error };
            let rare = rare.get_or_insert_default();
            if countable.contains(error) {
                rare.errors.insert(seen_from_client)
            } else {
                rare.unseen_errors.insert(seen_from_client)
            }
        }
        if extra.aggregated.0 > 0 {
            rare.get_or_insert_default().aggregated = extra.aggregated.0;
        }
    }
    for (number, side) in [client_side, 1 - client_side].into_iter().enumerate() {
        let address = flow.key.endpoint(side).addr;
        let link_local = crate::model::is_link_local(address) || address.is_loopback();
        for link in flow.links(side) {
            let priority = EncapTag { kind: EncapTagKind::Vlan, id: Some(0) };
            let tags: Vec<EncapTag> = link.tags().filter(|tag| *tag != priority).collect();
            for stack in tags.chunk_by(|a, b| a.kind == b.kind) {
                rare.get_or_insert_default().tags.insert(stack.to_vec());
            }
            link.outer().for_each(|outer| rare.get_or_insert_default().outer.insert(outer));
            if link_local && link.source != Mac::NONE {
                rare.get_or_insert_default().macs[number].insert(link.source);
            }
        }
    }
    if flow_facts::is_loopback_on_wire(flow) {
        rare.get_or_insert_default().on_wire = true;
    }
    rare
}

impl Conversation {
    /// Returns the key that groups flows into one conversation.
    fn key(&self) -> (ServiceKey, bool) {
        (self.subject, self.is_doubted())
    }

    /// Returns the failed flows, sorted by state.
    fn failures(&self) -> Vec<FailedFlows> {
        let state = self.state;
        let basis = self.basis;
        let chances = u64::from(self.chances);
        let opened = self.opened;
        if self.rare().failures.is_empty() && self.has_failed() {
            vec![FailedFlows { state, basis, chances, opened }]
        } else {
            self.rare().failures.clone()
        }
    }

    /// Returns the rank of the outcome: 0 for answered, 1 for failed, 2 for neither. The lowest
    /// rank is the best and determines `opened`.
    fn rank(&self) -> u8 {
        if self.is_answered() {
            0
        } else if self.has_failed() || !self.rare().failures.is_empty() {
            1
        } else {
            2
        }
    }

    /// Merges another part of the conversation, except for its names and its numbers of flows,
    /// packets and bytes.
    fn merge_all(&mut self, other: &Self) {
        // Nearly all parts have the same outcome, so the list of failures is rarely needed.
        let same = self.state == other.state
            && self.rank() == other.rank()
            && self.rare().failures.is_empty()
            && other.rare().failures.is_empty();
        let failures =
            if same { Vec::new() } else { merge_failures(self.failures(), &other.failures()) };
        match self.rank().cmp(&other.rank()) {
            Ordering::Less => {}
            Ordering::Equal => self.opened.merge(&other.opened),
            Ordering::Greater => self.opened = other.opened,
        }
        // Only the chances that support the resulting state count.
        match self.state.cmp(&other.state) {
            Ordering::Equal => self.chances = self.chances.saturating_add(other.chances),
            Ordering::Less => {}
            Ordering::Greater => self.chances = other.chances,
        }
        (self.state, self.basis) = (self.state, self.basis).min((other.state, other.basis));
        self.doubts = self.doubts.with(other.doubts);
        self.grade = self.grade.min(other.grade);
        self.broadcast &= other.broadcast;
        self.sensors = self.sensors.with(other.sensors);
        self.attempts += other.attempts;
        self.established = self.established.saturating_add(other.established);
        // Saturation would make the sum depend on the order.
        self.repeated = self.repeated.wrapping_add(other.repeated);
        self.long_sessions = self.long_sessions.saturating_add(other.long_sessions);
        self.flags.iter_mut().zip(&other.flags).for_each(|(mine, theirs)| mine.merge(theirs));
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        // The number comes from the part that contains the flow with the lowest client port.
        let least = |c: &Self| (c.client_ports.iter().next().copied(), c.server_number);
        self.server_number = least(self).min(least(other)).1;
        self.client_ports.merge(&other.client_ports);
        if let Some(theirs) = &other.rare {
            self.rare.get_or_insert_default().merge(theirs);
        }
        // The state alone describes the failures if all flows failed in the same way.
        let is_described =
            !self.is_answered() && matches!(&failures[..], [one] if one.state == self.state);
        if !same && (self.rare.is_some() || !(is_described || failures.is_empty())) {
            self.rare.get_or_insert_default().failures =
                if is_described { Vec::new() } else { failures };
        }
    }
}

impl Merge for Conversation {
    fn merge(&mut self, other: &Self) {
        let flows = self.flows;
        let names = self.names.max(other.names);
        let to_server = self.to_server;
        let to_client = self.to_client;
        match (self.is_made_up(), other.is_made_up()) {
            // Flows that may be forged must not change the evidence of other flows, even if those
            // are doubted.
            (false, true) => {}
            (true, false) => *self = other.clone(),
            _ => self.merge_all(other),
        }
        self.flows = flows + other.flows;
        self.names = names;
        (self.to_server, self.to_client) = (to_server, to_client);
        self.to_server.merge(&other.to_server);
        self.to_client.merge(&other.to_client);
    }
}
