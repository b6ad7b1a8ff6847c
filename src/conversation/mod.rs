//! Who talked to whom about which service: flows become conversations, each with its direction and
//! how sure that is, its state, and its amounts.
//!
//! Everything here is asked of merged evidence and so does not depend on the order of arrival. What
//! a host is and what is documented is not known here; the two questions that direction has to ask
//! of the policy go through [`Lens`].

mod direction;
mod names;
mod pick;
mod state;
mod survey;
mod vantage;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;

use names::{Asked, Directory};

use crate::flow::{Amount, Flow, Flows, Holders, IcmpError, PairKey, Seed, Shard, TagKind};
use crate::model::{AtMost, Endpoint, Few, Mac, Max, Merge, Min, Or, Transport};

pub use crate::flow::{Outer, Tag, sign};
pub use direction::Grade;
pub use names::{Known, ServerNames};
pub use pick::{Picked, Speaking};
pub use state::{Basis, State};
pub use survey::{Presence, Sight, Survey, Window};
pub use vantage::Vantage;

/// What the direction of a flow asks of the policy.
pub trait Lens: Sync {
    /// Whether the address is the broadcast address of a network, as far as the inventory knows.
    fn is_broadcast(&self, address: IpAddr) -> bool;

    /// Whether a documented row fits a conversation read this way.
    fn is_documented(&self, client: IpAddr, server: Endpoint, transport: Transport) -> bool;

    /// One address for all of a host's, as far as the inventory knows them.
    fn canonical(&self, address: IpAddr) -> IpAddr {
        address
    }
}

/// The identity of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Subject {
    /// Who asks.
    pub client: IpAddr,
    /// Who serves.
    pub server: IpAddr,
    /// The protocol above IP.
    pub transport: Transport,
    /// The server's port; for ICMP the message type; else zero.
    pub port: u16,
}

impl Subject {
    /// The server and its port.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.server, self.port)
    }

    /// The port as reports show it: none where the protocol has no ports.
    pub fn shown_port(&self) -> Option<u16> {
        (self.transport.has_ports() || self.transport.is_icmp()).then_some(self.port)
    }
}

/// All flows of one client with one service of one server.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Who talked to whom about what.
    pub subject: Subject,
    /// The strongest evidence for the direction among its flows.
    pub grade: Grade,
    /// The best state among its flows.
    pub state: State,
    /// What it rests on, in the best of those.
    pub basis: Basis,
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
    /// Kinds of packets that were seen of the client and of the server, see [`sign`].
    pub signs: [Or; 2],
    /// Sent by the client.
    pub to_server: Amount,
    /// Sent by the server.
    pub to_client: Amount,
    /// The earliest packet, or ICMP error where no packet was seen.
    pub first: Min,
    /// The latest.
    pub last: Max,
    /// The client's ports, for the reading in the other direction.
    pub client_ports: Few<u16, 16>,
    /// The number that stands for the server's port in its first flow: for ICMP the type of the reply,
    /// or the code.
    pub server_number: u16,
    /// An endpoint mapper on the server announced the port to the client.
    pub announced: bool,
    /// The number of the server's names.
    names: u32,
    /// What few conversations have.
    rare: Option<Box<Rare>>,
}

/// Evidence that few conversations have.
#[derive(Clone, Default, Debug)]
pub struct Rare {
    /// What its packets were wrapped in; several of a kind one in the other are one stack, outermost
    /// first.
    pub tags: AtMost<Vec<Tag>, 16>,
    /// The ends of the tunnels that they came through.
    pub outer: AtMost<Outer, 16>,
    /// Hardware addresses that frames came from, the client's and the server's, where the address is
    /// link-local.
    pub macs: [AtMost<Mac, 4>; 2],
    /// ICMP errors; side 0 is the client's packet quoted, side 1 the server's.
    pub errors: AtMost<IcmpError, 16>,
    /// Flows that were folded into others because memory ran short.
    pub folded: u64,
}

impl Merge for Rare {
    fn merge(&mut self, other: &Self) {
        self.tags.merge(&other.tags);
        self.outer.merge(&other.outer);
        for (mine, theirs) in self.macs.iter_mut().zip(&other.macs) {
            mine.merge(theirs);
        }
        self.errors.merge(&other.errors);
        self.folded += other.folded;
    }
}

impl Conversation {
    /// Evidence that few conversations have.
    pub fn rare(&self) -> &Rare {
        static NONE: Rare = Rare {
            tags: AtMost::new(),
            outer: AtMost::new(),
            macs: [AtMost::new(), AtMost::new()],
            errors: AtMost::new(),
            folded: 0,
        };
        self.rare.as_deref().unwrap_or(&NONE)
    }

    /// The two ends of its first flow in order.
    pub fn first_flow(&self) -> [Endpoint; 2] {
        let port = self.client_ports.iter().next().copied().unwrap_or_default();
        let Subject { client, server, .. } = self.subject;
        [Endpoint::new(client, port), Endpoint::new(server, self.server_number)]
    }

    /// Whether it is an ICMP request with its reply.
    pub fn is_paired_icmp(&self) -> bool {
        let Subject { transport, port, .. } = self.subject;
        transport.is_icmp() && crate::flow::icmp_paired(transport, port as u8)
    }
}

/// How flows are read.
#[derive(Clone, Copy, Debug)]
pub struct Work {
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
    pub survey: Survey,
    /// Bytes written to temporary files because memory ran short.
    pub spilled: u64,
    /// The names by which anybody looked an address up, the least ones.
    pub called: BTreeMap<IpAddr, AtMost<String, 8>>,
    /// Source, destination and protocol of later fragments whose first one is not in the capture.
    pub orphans: Vec<PairKey>,
    /// Who held virtual addresses (VRRP), by address.
    pub holders: BTreeMap<IpAddr, Holders>,
    /// The names of servers, each set of them once.
    names: Vec<ServerNames>,
}

impl Conversations {
    /// Reads all flows: once to learn who serves and who is seen, once to read directions and states.
    pub fn read(
        flows: &mut Flows,
        lens: &dyn Lens,
        sight: Sight,
        Work { jobs, keep }: Work,
    ) -> io::Result<Self> {
        let mut survey = Survey::new(sight);
        survey.add_loose(flows, lens);
        let surveys = flows.fold(jobs, |survey: &mut Survey, shard| {
            shard.iter().for_each(|flow| survey.add(&flow, lens, sight));
        })?;
        surveys.into_iter().for_each(|part| survey.merge(part));
        let read = |part: &mut Part, shard: Shard<'_>| part.read(&shard, &survey, lens);
        // Nobody asks for the flows again, unless the inventory learns from what stays inside a host.
        let again = keep || survey.saw_loopback();
        let parts = if again { flows.fold(jobs, read)? } else { flows.drain(jobs, read)? };
        let (mut one_sided, mut list) = (0, Vec::new());
        let mut heard: HashMap<Subject, Asked, Seed> = HashMap::default();
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
        list.sort_by_cached_key(|c| c.subject);
        // A conversation is nearly always whole, because its flows have the lesser port in common and so the
        // partition; where not, its parts merge.
        list.dedup_by(|part, whole| {
            let same = part.subject == whole.subject;
            if same {
                whole.merge(part);
            }
            same
        });
        survey.vantage.one_sided = one_sided;
        let spilled = flows.spilled();
        let (mut directory, nothing) = (Directory::new(flows, lens), Asked::default());
        for c in &mut list {
            let Subject { client, server, transport, port } = c.subject;
            let asked = heard.get(&c.subject).unwrap_or(&nothing);
            c.names = directory.number(client, server, asked);
            c.announced =
                transport == Transport::TCP && directory.is_announced(client, server, port);
        }
        let mut called: BTreeMap<IpAddr, AtMost<String, 8>> = BTreeMap::new();
        for ((_, address), chains) in &flows.lookups {
            let asked = chains.iter().filter_map(|chain: &Vec<String>| chain.first());
            asked.for_each(|name| called.entry(*address).or_default().insert(name.clone()));
        }
        let (holders, names) = (flows.holders.clone(), directory.into_sets());
        let orphans = flows.orphans.keys().copied().collect();
        Ok(Self { list, survey, spilled, called, orphans, holders, names })
    }

    /// The names of a conversation's server.
    pub fn names_of(&self, c: &Conversation) -> &ServerNames {
        &self.names[c.names as usize]
    }
}

impl Conversations {
    /// The two ends of each conversation between two addresses.
    pub fn ends(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let unicast = self.list.iter().filter(|c| !c.broadcast);
        unicast.map(|c| (c.subject.client, c.subject.server))
    }
}

/// The conversations of some partitions of the flows.
#[derive(Default)]
struct Part {
    list: Vec<Conversation>,
    heard: HashMap<Subject, Asked, Seed>,
    one_sided: u64,
}

impl Part {
    fn read(&mut self, shard: &Shard<'_>, survey: &Survey, lens: &dyn Lens) {
        // Dense conversations beside a small index: a map of them would hold half as much again.
        let list = &mut self.list;
        let mut found = HashMap::<Subject, u32, Seed>::default();
        for flow in shard.iter() {
            let (part, client) = read_flow(&flow, survey, lens);
            if let Some(names) = flow.heard {
                let asked = self.heard.entry(part.subject).or_default();
                names.hellos(client, &flow.sides[client]).for_each(|h| asked.hellos.insert(h));
                asked.more |= names.more(client);
            }
            if part.state == State::OneSided {
                self.one_sided += part.to_server.packets.0 + part.to_client.packets.0;
            }
            match found.entry(part.subject) {
                Entry::Occupied(entry) => list[*entry.get() as usize].merge(&part),
                Entry::Vacant(entry) => {
                    entry.insert(list.len() as u32);
                    list.push(part);
                }
            }
        }
    }
}

/// The conversation that a flow is a part of, and which side is the client.
fn read_flow(flow: &Flow<'_>, survey: &Survey, lens: &dyn Lens) -> (Conversation, usize) {
    let reading = direction::read(flow, survey, lens);
    let (c, s) = (reading.client, 1 - reading.client);
    let (client, server) = (flow.key.endpoint(c), flow.key.endpoint(s));
    let transport = flow.key.transport();
    // An ICMP conversation is known by the type that the client sends.
    let port = if transport.is_icmp() { client.port } else { server.port };
    let subject = Subject { client: client.addr, server: server.addr, transport, port };
    let state = state::of(flow, &reading, survey);
    let (mut first, mut last) = (flow.sides[0].first, flow.sides[0].last);
    first.merge(&flow.sides[1].first);
    last.merge(&flow.sides[1].last);
    let mut rare = Rare::default();
    if let Some(extra) = flow.extra {
        first.merge(&extra.error_first);
        last.merge(&extra.error_last);
        for error in extra.errors.iter() {
            rare.errors.insert(IcmpError { side: error.side ^ c as u8, ..*error });
        }
        rare.folded = extra.folded.0;
    }
    for (side, macs) in [c, s].into_iter().zip(&mut rare.macs) {
        let link_local = crate::model::is_link_local(flow.key.endpoint(side).addr);
        for link in flow.links(side) {
            let priority = Tag { kind: TagKind::Vlan, id: Some(0) };
            let tags: Vec<Tag> = link.tags().filter(|tag| *tag != priority).collect();
            for stack in tags.chunk_by(|a, b| a.kind == b.kind) {
                rare.tags.insert(stack.to_vec());
            }
            link.outer().for_each(|outer| rare.outer.insert(outer));
            if link_local && link.source != Mac::NONE {
                macs.insert(link.source);
            }
        }
    }
    let is_rare = rare.folded > 0
        || !(rare.tags.is_empty()
            && rare.errors.is_empty()
            && rare.macs.iter().all(AtMost::is_empty));
    let mut client_ports = Few::default();
    client_ports.insert(client.port);
    let part = Conversation {
        subject,
        grade: reading.grade,
        state,
        basis: state::basis(flow, &reading, state),
        broadcast: reading.broadcast,
        flows: rare.folded.max(1),
        attempts: u64::from(flow.sides[c].syns.0),
        established: u64::from(state == State::Established),
        chances: state::chances(flow, &reading, state),
        signs: [c, s].map(|side| flow.sides[side].signs),
        to_server: flow.sides[c].sent,
        to_client: flow.sides[s].sent,
        first,
        last,
        client_ports,
        server_number: server.port,
        announced: false,
        names: 0,
        rare: is_rare.then(|| Box::new(rare)),
    };
    (part, c)
}

impl Merge for Conversation {
    fn merge(&mut self, other: &Self) {
        // Of a failing conversation the chances count that speak for its state.
        match self.state.cmp(&other.state) {
            std::cmp::Ordering::Equal => self.chances += other.chances,
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Greater => self.chances = other.chances,
        }
        (self.state, self.basis) = (self.state, self.basis).min((other.state, other.basis));
        self.grade = self.grade.min(other.grade);
        self.broadcast &= other.broadcast;
        self.flows += other.flows;
        self.attempts += other.attempts;
        self.established += other.established;
        self.signs.iter_mut().zip(&other.signs).for_each(|(mine, theirs)| mine.merge(theirs));
        self.to_server.merge(&other.to_server);
        self.to_client.merge(&other.to_client);
        self.first.merge(&other.first);
        self.last.merge(&other.last);
        // The first flow is that of the least client port.
        let least = |c: &Self| (c.client_ports.iter().next().copied(), c.server_number);
        self.server_number = least(self).min(least(other)).1;
        self.client_ports.merge(&other.client_ports);
        if let Some(theirs) = &other.rare {
            self.rare.get_or_insert_default().merge(theirs);
        }
    }
}
