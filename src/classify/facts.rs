//! The facts behind absence claims: how each host was seen, what the capture covers, and which
//! traffic it could not show.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use super::absence_claims::{AbsenceClaim, To};
use super::capture_places::{self, CapturePlace, CapturePlaces};
use super::coverage::{
    CoveredPorts, HostReport, Peer, Unlisted, UnlistedUse, UnreadablePairs, covered_ports,
    undocumented_pairs, unlisted_services, unreadable_pairs,
};
use super::lone_answers::LoneAnswers;
use super::parallel::run_both;
use super::ruling::Judged;
use super::undecoded_frames::{UndecodedByHost, undecoded_by_host};
use super::vantage_watch::VantageWatch;
use super::verdict::{Code, Doubt};
use super::{CaptureConditions, CoverageStatement, all_lost, is_unlikely, moved_captures};
use crate::conversation::{Conversation, Conversations, HostActivity, TimeSpan, VantageSet};
use crate::model::{Nanos, Transport, network_around};
use crate::policy::{PartyKind, Policy, RoleSet, Row};

/// The reason why an absence is not certain if the clocks contradict each other.
pub(super) const CLOCKS: &str = "some replies have earlier timestamps than their requests, because clocks differ or timestamps are wrong";

/// The reason why an absence is not certain if the traffic was seen inside an undeclared tunnel.
const TUNNELLED: &str = "matching traffic was seen inside a tunnel that the inventory does not list, where anyone could have forged it";

/// The reason why an absence is not certain if hosts may have other addresses inside an undeclared
/// tunnel.
const IN_TUNNEL: &str = "inside a tunnel between the hosts that the inventory does not list, addresses that it does not list used the same service";

/// The time by which a host's activity may fall short of a row's watch time, in seconds, because
/// watched time is counted in units of ten seconds.
const SLACK_S: Nanos = 20;

/// The codes of failures that are based on missing packets, which the capture itself may have lost.
const SILENT: [Code; 2] = [Code::Unanswered, Code::HalfOpen];

/// Returns whether a failure is based on missing packets.
pub(super) fn is_silent(code: Code) -> bool {
    SILENT.contains(&code)
}

/// Facts about the capture as a whole.
pub struct CaptureFacts {
    /// The conditions of the capture and the user's settings.
    pub view: CaptureConditions,
    /// The switch ports that the capture covers, as inferred from traffic.
    ports: CoveredPorts,
    /// Services that unlisted addresses provided or used. Such an address may belong to a listed
    /// host.
    unlisted: Unlisted,
    /// Pairs of hosts that exchanged traffic that could not be read.
    unreadable_pairs: UnreadablePairs,
    /// Pairs of hosts that exchanged undocumented traffic which may carry other traffic.
    undocumented_pairs: UnreadablePairs,
    /// The frames that could not be decoded, by host.
    undecoded: UndecodedByHost,
    /// The vantage points that saw each host or service, and the time for which they watched.
    pub(super) vantages: VantageWatch,
    /// The hosts on which captures were made one after the other.
    places: CapturePlaces,
    /// The hosts whose traffic may be hidden in aggregated conversations.
    aggregated: HashSet<usize>,
    /// Replies whose requests the capture does not show.
    lone_answers: LoneAnswers,
    /// The host or the unlisted address at which the capture was probably made.
    only_place: Option<CapturePlace>,
    /// Whether captures that were made one after the other were probably made at different places.
    has_moved: bool,
}

impl CaptureFacts {
    /// Returns whether traffic of any host may be hidden in aggregated conversations.
    pub(super) fn has_aggregated(&self) -> bool {
        !self.aggregated.is_empty()
    }

    pub(super) fn of(
        policy: &Policy,
        conversations: &Conversations,
        judged: &[Judged],
        hosts: &[HostReport],
        view: &CaptureConditions,
        jobs: usize,
    ) -> Self {
        let find_addresses = || {
            (
                covered_ports(conversations, judged),
                unlisted_services(policy, conversations, judged, view),
            )
        };
        let find_hidden = || {
            (
                unreadable_pairs(policy, conversations, view),
                undocumented_pairs(policy, conversations, judged),
                undecoded_by_host(policy, conversations, hosts),
            )
        };
        let ((ports, unlisted), (unreadable_pairs, undocumented_pairs, undecoded)) =
            run_both(jobs, find_addresses, find_hidden);
        let aggregated = aggregated_hosts(policy, conversations, judged);
        let vantages = VantageWatch::of(&view.vantages, conversations, judged);
        let places = CapturePlaces::of(policy, &conversations.index, &view.vantages);
        let lone_answers = LoneAnswers::of(policy, conversations);
        let only_place = capture_places::only_place(policy, (conversations, judged), hosts);
        let has_moved = moved_captures::have_moved(&conversations.index, &places);
        Self {
            view: view.clone(),
            places,
            ports,
            unlisted,
            unreadable_pairs,
            undocumented_pairs,
            undecoded,
            vantages,
            aggregated,
            lone_answers,
            only_place,
            has_moved,
        }
    }
}

/// The facts about a capture, with the policy and the conversations that they are based on.
#[derive(Clone, Copy)]
pub struct JudgedCapture<'a> {
    /// The policy that the traffic was judged against.
    pub policy: &'a Policy,
    /// The conversations that were judged.
    pub conversations: &'a Conversations,
    /// The activity of each host of the inventory, and how much of it the capture shows.
    pub hosts: &'a [HostReport],
    /// The facts about the capture.
    pub facts: &'a CaptureFacts,
}

impl<'a> JudgedCapture<'a> {
    /// Returns the conditions of the capture.
    pub fn view(&self) -> &'a CaptureConditions {
        &self.facts.view
    }

    /// Returns the named vantage points that saw a host or a service.
    pub fn seen_from(&self, peer: Peer) -> VantageSet {
        self.facts.vantages.seen_from(peer)
    }

    /// Returns the names of the vantage points that saw one of these hosts or services, in order.
    pub fn sensors_of(&self, peers: &[Peer]) -> Vec<String> {
        self.facts.vantages.names(self.seen_from_any(peers))
    }

    /// Returns the names of the vantage points that saw one of these hosts or services and did not
    /// watch all the time.
    pub fn interrupted_sensors(&self, peers: &[Peer]) -> Vec<String> {
        self.facts.vantages.interrupted(self.seen_from_any(peers))
    }

    fn seen_from_any(&self, peers: &[Peer]) -> VantageSet {
        peers.iter().fold(VantageSet::default(), |set, peer| set.with(self.seen_from(*peer)))
    }

    /// Returns the watched time, in seconds, that counts for traffic from a host. Captures that
    /// show only the traffic of other single hosts do not count. `set` contains the vantage points
    /// that saw the destinations. Time counts only while all of them, and all vantage points that
    /// saw the host, watched. `only` is the destination if there is a single one. `trigger` is the
    /// index of the conversation that triggers the traffic, if any. If a vantage point did not
    /// watch around the start of this conversation, the result is 0.
    pub(super) fn watched_s(
        &self,
        source: usize,
        set: VantageSet,
        only: Option<Peer>,
        watch_s: u64,
        trigger: Option<u32>,
    ) -> u64 {
        let set = set.with(self.seen_from(Peer::Host(source)));
        let only = only.and_then(Peer::host).filter(|host| *host != source);
        let hosts: Vec<usize> = [Some(source), only].into_iter().flatten().collect();
        let active: Vec<_> =
            hosts.iter().map(|host| &self.hosts[*host].presence.unicast_in).collect();
        let trigger =
            trigger.and_then(|number| self.conversations.list[number as usize].first.get());
        let of_place = self.facts.places.watched(&hosts);
        let all = of_place.as_deref().unwrap_or(&self.view().watched);
        self.facts.vantages.seconds_for(set, all, watch_s, &active, trigger)
    }

    /// Returns the watched time, in seconds, that counts for a claim.
    pub fn watched_for(&self, claim: &AbsenceClaim, to: &[Peer]) -> u64 {
        let trigger = claim.trigger.map(|(_, conversation)| conversation);
        let only = claim.to.peer();
        let set = self.seen_from_any(to);
        self.watched_s(claim.source as usize, set, only, claim.watch_s, trigger)
    }

    /// Returns the watched time, in seconds, that counts for a finding that a host shows no traffic
    /// of a role.
    pub fn watched_for_host(&self, host: usize, watch_s: u64) -> u64 {
        self.watched_s(host, VantageSet::default(), None, watch_s, None)
    }

    /// Returns whether the capture contains no packets of a transport at all, perhaps because of a
    /// filter.
    pub fn lacks(&self, transport: Transport) -> bool {
        self.conversations.index.lacks(transport)
    }

    /// Returns the same as [`Self::lacks`] for the transport of a row.
    pub(super) fn lacks_transport_of(&self, row: usize) -> bool {
        self.lacks(self.policy.matrix.rows[row].transport)
    }

    /// Returns whether a host can use an IP version that does not occur in the capture, perhaps
    /// because of a filter.
    pub(super) fn has_unseen_version(&self, host: usize) -> bool {
        let mut addresses = self.policy.inventory.hosts[host].addresses.iter();
        addresses.any(|address| self.conversations.index.lacks_version_of(*address))
    }

    /// Returns whether a network of the inventory has a role.
    pub(super) fn is_played_by_network(&self, role: usize) -> bool {
        self.is_in_network(self.policy.matrix.roles[role].members)
    }

    /// Returns whether a network of the inventory has one of these roles.
    pub(super) fn is_in_network(&self, roles: RoleSet) -> bool {
        self.policy.inventory.networks.iter().any(|network| network.roles.intersects(roles))
    }

    /// Returns whether the capture shows a unicast frame from a host or a service. Returns false
    /// for any other peer.
    pub fn is_sending(&self, peer: Peer) -> bool {
        match peer {
            Peer::Host(host) => self.hosts[host].presence.unicast_sent.0 > 0,
            Peer::Service(service) => {
                let addresses = &self.policy.inventory.services[service].addresses;
                let mut presences =
                    addresses.iter().filter_map(|a| self.conversations.index.presence(*a));
                presences.any(|p| p.unicast_sent.0 > 0)
            }
            Peer::Other(_) => false,
        }
    }

    /// Returns the longest time for which a host sent unicast frames without a long pause, in
    /// seconds, and for which the capture was not interrupted.
    pub fn seconds_of(&self, host: usize) -> Nanos {
        let active = self.hosts[host].presence.active.iter().flat_map(|active| active.iter());
        active.map(|span| self.facts.vantages.active_s(&span)).max().unwrap_or(0)
    }

    /// Returns the longest time for which two hosts both sent unicast frames without a long pause,
    /// in seconds, and for which the capture was not interrupted.
    fn seconds_together(&self, host: usize, other: usize) -> Nanos {
        let [own, other] = [host, other].map(|host| self.hosts[host].presence.active.as_deref());
        let overlaps = own.zip(other).into_iter().flat_map(|(own, other)| own.overlaps(other));
        overlaps.map(|span| self.facts.vantages.active_s(&span)).max().unwrap_or(0)
    }

    /// Returns whether two hosts were both active for at least this time, in seconds, with the
    /// tolerance of [`Self::is_long_enough`].
    pub(super) fn were_there_together(&self, host: usize, other: usize, seconds: u64) -> bool {
        Self::is_long_enough(self.seconds_together(host, other), seconds)
    }

    /// Returns whether `there_s` seconds of activity are enough if `due_s` seconds are required. A
    /// shortfall of `SLACK_S` seconds is tolerated.
    pub(super) fn is_long_enough(there_s: Nanos, due_s: u64) -> bool {
        there_s >= due_s as Nanos - SLACK_S
    }

    /// Returns whether a host was active for at least this time, in seconds, with the tolerance of
    /// [`Self::is_long_enough`]. For a service, one unicast frame is enough.
    pub(super) fn was_there_for(&self, peer: Peer, seconds: u64) -> bool {
        let Peer::Host(host) = peer else { return self.is_sending(peer) };
        Self::is_long_enough(self.seconds_of(host), seconds)
    }

    /// Returns whether the capture covers all traffic of a host: `Some(true)` if the inventory
    /// declares this, `Some(false)` if it is inferred from traffic, and `None` if the host is not
    /// covered.
    pub fn watches(&self, host: usize) -> Option<bool> {
        match &self.policy.inventory.covers {
            Some(CoverageStatement::All) => Some(true),
            Some(CoverageStatement::Hosts(hosts)) => hosts.contains(&host).then_some(true),
            None => self.facts.ports.watched.contains(&host).then_some(false),
        }
    }

    /// Returns whether the capture covers the traffic of a claim about `rows` and the destinations
    /// `to`: `Some(true)` if the inventory declares this, `Some(false)` if it is inferred from
    /// traffic, and `None` if the traffic is not covered. If a network also has the destination
    /// role, its hosts are not listed, so the listed hosts are not all destinations.
    pub fn covers_claim(&self, claim: &AbsenceClaim, rows: &[usize], to: &[Peer]) -> Option<bool> {
        let matrix = &self.policy.matrix;
        let is_in_network = matches!(claim.to, To::AnyOf(_))
            && rows.iter().any(|row| self.is_played_by_network(matrix.rows[*row].destination));
        self.covers(claim.source as usize, Some(to).filter(|_| !is_in_network))
    }

    /// Returns whether the capture covers the traffic from a source to all destinations, as in
    /// [`Self::covers_claim`]. `to` is `None` if some destinations are not listed.
    fn covers(&self, source: usize, to: Option<&[Peer]>) -> Option<bool> {
        let stated = self.policy.inventory.covers.is_some();
        let covers_everything =
            matches!(self.policy.inventory.covers, Some(CoverageStatement::All));
        let covered = |host: usize| self.watches(host).is_some();
        let is_covered = |peer: &Peer| matches!(peer, Peer::Host(host) if covered(*host));
        let all = || to.is_some_and(|to| to.iter().all(is_covered));
        (covers_everything || covered(source) || all()).then_some(stated)
    }

    /// Returns whether an unlisted address used one of these services of a host.
    pub(super) fn has_unlisted_client(&self, host: usize, rows: &[&Row]) -> bool {
        least_use(self.facts.unlisted.clients.get(&host), rows).is_some()
    }

    /// Returns whether a host uses one of these services at a listed host of another role, or tries
    /// it again and again in vain at an address without a role.
    pub(super) fn is_misdirected(&self, host: usize, rows: &[&Row]) -> bool {
        least_use(self.facts.unlisted.misdirected.get(&host), rows).is_some()
    }

    /// Returns the name of the listed host of another role at which a host used a service, and
    /// which may have passed on the traffic; `None` if the host tried the service in vain.
    pub fn intermediary(&self, one: &UnlistedUse) -> Option<&'a str> {
        let host = self.policy.host_of(one.address).filter(|_| one.state.reached())?;
        Some(&self.policy.inventory.hosts[host].name)
    }

    /// Returns the use of services of `rows` by the source of a claim at a host of another role, or
    /// its attempts that fail again and again at an address without a role.
    pub fn misdirected(&self, claim: &AbsenceClaim, rows: &[usize]) -> Option<UnlistedUse> {
        let rows = with_ports(self.policy, rows);
        least_use(self.facts.unlisted.misdirected.get(&(claim.source as usize)), &rows)
    }

    /// Returns a host that plays a role which the inventory does not give it, if the inventory may
    /// have mixed it up with the source or a destination of these rows. The traffic of the rows may
    /// then be there under another name.
    pub fn mixed_up_host(&self, rows: &[usize], source: usize) -> Option<usize> {
        let matrix = &self.policy.matrix;
        let Unlisted { mistaken, serving, .. } = &self.facts.unlisted;
        let own = self.policy.inventory.hosts[source].roles;
        let own = Some(own).filter(|_| !serving.contains(&source)).unwrap_or_default();
        let roles = rows.iter().fold(own, |roles, row| {
            roles.with(matrix.roles[matrix.rows[*row].destination].members)
        });
        let found = mistaken.iter().find(|(host, own)| **host == source || own.intersects(roles));
        found.map(|(host, _)| *host)
    }

    /// Returns the use of services of `rows` on one of the destinations `to` from an unlisted
    /// address.
    pub fn unlisted_client(&self, rows: &[usize], to: &[Peer]) -> Option<UnlistedUse> {
        let rows = with_ports(self.policy, rows);
        let clients = |peer: &Peer| self.facts.unlisted.clients.get(&peer.host()?);
        to.iter().filter_map(|peer| least_use(clients(peer), &rows)).min()
    }

    /// Returns an unlisted address that sent multicasts of `rows` from a hardware address of a host
    /// with the source role, with this host. It is probably another address of the host.
    pub fn multicast_from_elsewhere(&self, rows: &[usize]) -> Option<(IpAddr, usize)> {
        rows.iter().find_map(|row| self.facts.unlisted.multicasting.get(row).copied())
    }

    /// Returns the hosts whose services were used by an unlisted address.
    pub(super) fn hosts_with_unlisted_clients(&self) -> impl Iterator<Item = usize> + 'a {
        self.facts.unlisted.clients.keys().copied()
    }

    /// Returns whether one of these services was reached at an unlisted address.
    pub(super) fn has_unlisted_server(&self, rows: &[&Row]) -> bool {
        let mut servers = self.facts.unlisted.servers.keys();
        servers.any(|(transport, port)| covers(rows, *transport, *port))
    }

    /// Returns the listed hosts that exchanged traffic with a host which may contain other traffic:
    /// unreadable packets, or many of a protocol that no row documents.
    pub(super) fn unreadable_peers(&self, host: usize) -> impl Iterator<Item = usize> + 'a {
        let undocumented = self.facts.undocumented_pairs.listed_peers(host);
        self.facts.unreadable_pairs.listed_peers(host).chain(undocumented)
    }

    /// Returns the other ends of undeclared tunnels of a host in which unlisted addresses used one
    /// of these services.
    pub(super) fn tunnel_peers(&self, host: usize, rows: &[usize]) -> impl Iterator<Item = usize> {
        let tunnelled = self.facts.unlisted.tunnelled.get(&host).into_iter().flatten();
        let fits = |(_, transport, port): &&(usize, Transport, u16)| {
            let mut rows = rows.iter().map(|row| &self.policy.matrix.rows[*row]);
            rows.any(|row| row.transport == *transport && row.ports.contains(port))
        };
        tunnelled.filter(fits).map(|(peer, ..)| *peer)
    }

    /// Returns whether a host exchanged unreadable traffic with an unlisted address.
    pub(super) fn has_unreadable_with_unlisted(&self, host: usize) -> bool {
        self.facts.unreadable_pairs.has_unlisted_peer(host)
    }

    /// Returns whether aggregated conversations may contain traffic of this host that seems to be
    /// missing, because aggregation drops the ports or the server names that would document it.
    pub(super) fn has_aggregated(&self, host: usize) -> bool {
        self.facts.aggregated.contains(&host)
    }

    /// Returns whether frames that could not be decoded may belong to a host.
    pub(super) fn has_undecoded(&self, host: usize) -> bool {
        self.facts.undecoded.of([host]).is_some()
    }

    /// Describes the first of these that applies: damage to the input, evidence that was dropped,
    /// unreadable traffic between a host and some others or between any of them and an unlisted
    /// address, and frames of these hosts that were not decoded. Returns `None` if none of them
    /// applies.
    pub fn unread_between(&self, source: usize, others: &[usize]) -> Option<String> {
        if let Some(words) = self.view().unread_of_all() {
            return Some(words.to_owned());
        }
        if let Some(words) = self.facts.unreadable_pairs.between(source, others) {
            return Some(words.to_owned());
        }
        let frames = self.facts.undecoded.of(others.iter().copied().chain([source]));
        frames.map(|frames| {
            format!("the capture has {frames}, which may contain the missing traffic")
        })
    }

    /// Describes how traffic that a claim reports as missing may have passed without being seen.
    /// `row_numbers` and `to` are the rows and the destinations of the claim.
    pub fn hidden_ways(
        &self,
        claim: &AbsenceClaim,
        row_numbers: &[usize],
        to: &[Peer],
    ) -> Vec<String> {
        let mut ways = Vec::new();
        if claim.tunnelled {
            ways.push(TUNNELLED.to_owned());
        }
        let mut tunnels = self.tunnel_peers(claim.source as usize, row_numbers);
        if tunnels.any(|peer| to.iter().any(|end| end.host() == Some(peer))) {
            ways.push(IN_TUNNEL.to_owned());
        }
        let rows = with_ports(self.policy, row_numbers);
        let servers = self.facts.unlisted.servers.iter();
        let servers = servers.filter(|((transport, port), _)| covers(&rows, *transport, *port));
        if let Some(address) = servers.map(|(_, address)| *address).min() {
            ways.push(format!(
                "the same service was reached at {}; this may be another address of a listed host",
                self.without_role(address)
            ));
        }
        if let Some(one) = self.misdirected(claim, row_numbers) {
            let source = &self.policy.inventory.hosts[claim.source as usize].name;
            ways.push(match self.intermediary(&one) {
                Some(name) => {
                    format!("{source} used the same service at {name}, which may pass on the traffic")
                }
                None => format!(
                    "{source} tried the same service in vain at {}; this may be another address of a listed host",
                    self.without_role(one.address)
                ),
            });
        }
        if let Some(host) = self.mixed_up_host(row_numbers, claim.source as usize) {
            ways.push(format!(
                "{} serves a port of another role, so the inventory may have mixed up hosts",
                self.policy.inventory.hosts[host].name
            ));
        }
        if let Some(one) = self.unlisted_client(row_numbers, to) {
            let verb = if one.state.failed() { "tried" } else { "used" };
            ways.push(format!(
                "{}, {verb} the same service; this may be another address of a listed host",
                self.without_role(one.address)
            ));
        }
        if let Some((address, host)) = self.multicast_from_elsewhere(row_numbers) {
            ways.push(format!(
                "{address}, which the inventory does not list for a host, sent such multicasts from a MAC address of {}; it is probably another address of this host",
                self.policy.inventory.hosts[host].name
            ));
        }
        let hosts: Vec<usize> = to.iter().filter_map(|peer| peer.host()).collect();
        ways.extend(self.unread_between(claim.source as usize, &hosts));
        if let Some(place) = self.place_elsewhere(claim.source as usize, hosts.iter().copied()) {
            let name = match place {
                CapturePlace::Host(host) => self.policy.inventory.hosts[host].name.clone(),
                CapturePlace::Unlisted(address) => address.to_string(),
            };
            ways.push(format!(
                "all unicast packets are from or to {name}, so the capture may show only the traffic of this host"
            ));
        }
        if self.has_moved() {
            ways.push("captures that were made one after the other show different connections of the same hosts, so they were probably made at different places".to_owned());
        }
        let undocumented = self.facts.undocumented_pairs.between(claim.source as usize, &hosts);
        ways.extend(undocumented.map(str::to_owned));
        if self.has_aggregated(claim.source as usize) {
            let name = &self.policy.inventory.hosts[claim.source as usize].name;
            ways.push(format!(
                "conversations of {name} were aggregated to stay within --max-memory, and may contain the missing traffic"
            ));
        }
        if self.conversations.index.has_doubtful_clocks() {
            ways.push(CLOCKS.to_owned());
        }
        ways
    }

    /// Returns whether captures that were made one after the other were probably made at different
    /// places. The traffic of a host may then be missing although the host is visible.
    pub(super) fn has_moved(&self) -> bool {
        self.facts.has_moved
    }

    /// Returns whether the capture was probably made on another host than this one.
    pub fn is_not_on_place(&self, host: usize) -> bool {
        self.facts.only_place.is_some_and(|place| place != CapturePlace::Host(host))
    }

    /// Returns whether the capture was probably made on this host.
    pub fn is_on_place(&self, host: usize) -> bool {
        self.facts.only_place == Some(CapturePlace::Host(host))
    }

    /// Returns the host or the unlisted address at which the capture was probably made, if such a
    /// capture does not show all traffic from a source to these hosts.
    pub fn place_elsewhere(
        &self,
        source: usize,
        mut to: impl Iterator<Item = usize>,
    ) -> Option<CapturePlace> {
        let is_place = |host: usize, place| place == CapturePlace::Host(host);
        let place = self.facts.only_place.filter(|place| !is_place(source, *place))?;
        to.any(|host| !is_place(host, place) && host != source).then_some(place)
    }

    /// Names an address that may belong to a listed host although it is not listed for it, and says
    /// why.
    fn without_role(&self, address: IpAddr) -> String {
        match self.policy.host_of(address) {
            Some(host) => {
                let name = &self.policy.inventory.hosts[host].name;
                format!("{address} ({name}), which has no role in the inventory")
            }
            None => format!("{address}, which the inventory does not list for a host"),
        }
    }

    /// Returns how a conversation failed, either in all of its flows or in the latest ones. If the
    /// latest flows got no answer, they count only if packet loss is an unlikely cause. Returns
    /// `None` if it did not fail.
    pub fn failing(&self, c: &Conversation) -> Option<Code> {
        let at_last = c.fails_at_last().and_then(|failed| {
            let code = Code::parse(failed.state.name())?;
            let sure = !is_silent(code) || is_unlikely(self.all_lost(c, failed.chances));
            sure.then_some(code)
        });
        at_last.or_else(|| c.has_failed().then(|| Code::parse(c.state.name()))?)
    }

    /// Returns the worst-case probability that the capture lost all replies to the requests without
    /// a reply that show the last state of a conversation, if there were `chances` to see one.
    pub(super) fn all_lost(&self, c: &Conversation, chances: u64) -> f64 {
        let first = c.fails_at_last().map_or(c.first, |failed| failed.opened.first);
        all_lost(self.view().miss_in(TimeSpan { first, last: c.last }), chances)
    }

    /// Returns whether most flows without a reply do not show that their SYN, SYN-ACK or request
    /// was repeated, although an end that gets no reply repeats it. The capture may then lack the
    /// replies.
    pub fn lacks_repetition(&self, c: &Conversation) -> bool {
        self.failing(c).is_some_and(is_silent) && !c.repeats_requests()
    }

    /// Returns another address from which the datagrams of a conversation without an answer were
    /// answered: the lowest one of the same host, or else of an unlisted host; `None` if there is
    /// no such address.
    pub fn answered_from(&self, c: &Conversation) -> Option<IpAddr> {
        let is_silent =
            c.subject.transport == Transport::UDP && self.failing(c) == Some(Code::Unanswered);
        let host = self.policy.host_of(c.subject.server).filter(|_| is_silent)?;
        let list = &self.conversations.list;
        let all = self.facts.lone_answers.like(c, host);
        let addresses = all.map(|number| list[number as usize].subject.server);
        let others = addresses.filter(|address| *address != c.subject.server);
        others.min_by_key(|address| (self.policy.host_of(*address).is_none(), *address))
    }

    /// Returns whether a conversation shows that its connection works. A conversation that worked
    /// at first but fails in its latest flows does not count, a probe shows only that the port is
    /// open, and traffic that could be forged proves nothing.
    pub fn has_worked(&self, c: &Conversation) -> bool {
        c.state.reached()
            && !c.is_made_up()
            && !(c.fails_at_last().is_some() && self.failing(c).is_some())
    }

    /// Returns the doubts about a failure that is based on missing packets, each with its reason as
    /// text if it has one. The capture itself may have lost these packets.
    pub fn silence_of(&self, code: Code, hosts: &[usize]) -> Vec<(Doubt, Option<String>)> {
        let mut doubts = Vec::new();
        if !is_silent(code) {
            return doubts;
        }
        if self.view().misses_a_direction() {
            doubts.push((Doubt::Coverage, None));
        } else if self.may_miss_replies(hosts) {
            let words = "the capture covers the switch port of neither end, so it may show only requests that the switch sent to all ports";
            doubts.push((Doubt::Coverage, Some(words.to_owned())));
        }
        if self.conversations.index.has_doubtful_clocks() {
            doubts.push((Doubt::Clock, Some(CLOCKS.to_owned())));
        }
        let unread = match hosts.split_first() {
            Some((first, others)) => self.unread_between(*first, others),
            None => self.unread_between(usize::MAX, &[]),
        };
        let errors = self.facts.undecoded.errors_to(hosts).map(|errors| {
            format!("the capture has {errors}, which may be about the packets without a reply")
        });
        doubts.extend(unread.or(errors).map(|words| (Doubt::Unread, Some(words))));
        doubts
    }

    /// Returns whether the capture may show requests between these hosts without their replies. A
    /// switch sends a request to all of its ports if it does not know the port of the receiver, but
    /// the reply only to the port of the client. Such hosts are not covered, and the capture shows
    /// no packets from them, or no packets to them except those of one covered host.
    fn may_miss_replies(&self, hosts: &[usize]) -> bool {
        let ports = &self.facts.ports;
        match &self.policy.inventory.covers {
            Some(CoverageStatement::All) => false,
            Some(CoverageStatement::Hosts(_)) => {
                !hosts.iter().any(|host| self.watches(*host).is_some())
            }
            None => {
                let is_uncovered = |host: &usize| {
                    !ports.watched.contains(host)
                        && (ports.only_from_watched.contains(host)
                            || !self.is_sending(Peer::Host(*host)))
                };
                hosts.iter().any(|host| ports.only_from_watched.contains(host))
                    && hosts.iter().all(is_uncovered)
            }
        }
    }

    /// Returns the text about contradicting clocks; `None` if the clocks agree.
    pub fn clock_words(&self) -> Option<String> {
        self.conversations.index.has_doubtful_clocks().then(|| CLOCKS.to_owned())
    }

    /// Describes for how long two hosts were active at the same time. Returns `None` for a peer
    /// that is not a host, and if this is about as long as the shorter activity of the two.
    pub fn describe_overlap(&self, host: usize, peer: Peer) -> Option<String> {
        let other = peer.host()?;
        let [own, others] = [host, other].map(|host| self.seconds_of(host));
        let together = self.seconds_together(host, other);
        let names = [host, other].map(|host| &self.policy.inventory.hosts[host].name);
        (together < own.min(others) - SLACK_S).then(|| {
            format!("{} and {} were active at the same time for {together} s", names[0], names[1])
        })
    }

    /// Describes how a host was seen. Returns `None` for a peer that is not a host.
    pub fn describe_activity(&self, peer: Peer) -> Option<String> {
        let Peer::Host(host) = peer else { return None };
        let name = &self.policy.inventory.hosts[host].name;
        let report = &self.hosts[host];
        let HostActivity { sent, unicast_sent, received, .. } = &report.presence;
        let seconds = self.facts.vantages.active_s(&report.presence.unicast_in);
        let without_pause = match self.seconds_of(host) {
            longest if longest < seconds => format!(" ({longest} s without a long pause)"),
            _ => String::new(),
        };
        let packets = |count: u64, noun: &str| {
            if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
        };
        Some(match (unicast_sent.0, received.packets.0) {
            (0, 0) if sent.packets.0 == 0 => format!("{name} was not seen"),
            (0, 0) => format!("the capture shows no unicast packets from or to {name}"),
            (0, received) => {
                format!(
                    "{name} received {}; the capture shows no unicast packets from it",
                    packets(received, "packet")
                )
            }
            (sent, received) => format!(
                "{name} sent {} within {seconds} s{without_pause} and received {received}",
                packets(sent, "unicast packet")
            ),
        })
    }
}

/// Returns the hosts whose traffic may be hidden in aggregated conversations: their clients, and
/// both ends if the server's port was dropped. If addresses were dropped too, these are all hosts
/// of the network that remains.
fn aggregated_hosts(
    policy: &Policy,
    conversations: &Conversations,
    judged: &[Judged],
) -> HashSet<usize> {
    let mut hosts = HashSet::new();
    let mut networks = BTreeSet::new();
    let aggregated = conversations.list.iter().zip(judged).filter(|(c, _)| c.is_aggregated());
    for (c, j) in aggregated {
        let without_port = c.stands_for().is_none() && c.subject.port == 0;
        let ends = [(&j.client, c.subject.client), (&j.server, c.subject.server)];
        for (party, address) in ends.into_iter().take(1 + usize::from(without_port)) {
            if let PartyKind::Host(host) = party.kind {
                hosts.extend(policy.holders(host));
            } else if without_port
                && !address.is_unspecified()
                && address == network_around(address)
            {
                networks.insert(address);
            }
        }
    }
    if !networks.is_empty() {
        for (number, host) in policy.inventory.hosts.iter().enumerate() {
            if host.addresses.iter().any(|address| networks.contains(&network_around(*address))) {
                hosts.extend(policy.holders(number));
            }
        }
    }
    hosts
}

/// Returns the rows whose transport has ports.
pub(super) fn with_ports<'p>(policy: &'p Policy, rows: &[usize]) -> Vec<&'p Row> {
    let rows = rows.iter().map(|row| &policy.matrix.rows[*row]);
    rows.filter(|row| row.transport.has_ports()).collect()
}

/// Returns the use of a service of `rows` with the lowest address.
fn least_use(
    uses: Option<&Vec<(Transport, u16, UnlistedUse)>>,
    rows: &[&Row],
) -> Option<UnlistedUse> {
    let uses = uses.into_iter().flatten();
    let uses = uses.filter(|(transport, port, _)| covers(rows, *transport, *port));
    uses.map(|(.., one)| *one).min()
}

fn covers(rows: &[&Row], transport: Transport, port: u16) -> bool {
    rows.iter().any(|row| row.transport == transport && row.ports.contains(&port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::coverage::host_reports;
    use crate::classify::judge::Judge;
    use crate::classify::sample::{
        BROKER, BROKER_1, DC, DC_1, FARM, GW, GW_1, Packets, RDSH, RDSH_1, policy, view,
    };

    /// Runs a check on a judged capture.
    fn with<T>(
        farm: &str,
        packets: &Packets,
        view: &CaptureConditions,
        check: impl FnOnce(JudgedCapture<'_>) -> T,
    ) -> T {
        let policy = policy(farm);
        let (conversations, judged) = packets.judged(&policy);
        let hosts = host_reports(&policy, &conversations, view);
        let facts = CaptureFacts::of(&policy, &conversations, &judged, &hosts, view, 1);
        check(JudgedCapture {
            policy: &policy,
            conversations: &conversations,
            hosts: &hosts,
            facts: &facts,
        })
    }

    /// Returns packets that show the gateway and the broker for 100 seconds.
    fn pings() -> Packets {
        let mut packets = Packets::default();
        packets.ping(0, GW, BROKER);
        packets.ping(100, GW, BROKER);
        packets
    }

    #[test]
    fn a_host_may_be_there_for_a_little_less_than_the_watch_time() {
        with(FARM, &pings(), &view(120), |seen| {
            assert!(seen.was_there_for(Peer::Host(GW_1), 100 + SLACK_S as u64));
            assert!(!seen.was_there_for(Peer::Host(GW_1), 101 + SLACK_S as u64));
            assert!(seen.is_sending(Peer::Host(BROKER_1)) && !seen.is_sending(Peer::Host(DC_1)));
            assert!(!seen.is_sending(Peer::Other("192.0.2.1".parse().expect("an address"))));
            assert!(!seen.was_there_for(Peer::Host(DC_1), 100));
        });
    }

    #[test]
    fn coverage_is_what_the_inventory_states_or_what_traffic_shows() {
        let to = [Peer::Host(BROKER_1), Peer::Host(DC_1)];
        let with_capture = |words: &str| FARM.replace("covers = \"all\"", words);
        with(FARM, &pings(), &view(120), |seen| {
            assert_eq!(
                (seen.watches(DC_1), seen.covers(RDSH_1, Some(&to))),
                (Some(true), Some(true))
            );
        });
        let some = with_capture("covers = [\"broker1\", \"dc1\"]");
        with(&some, &pings(), &view(120), |seen| {
            assert_eq!((seen.watches(BROKER_1), seen.watches(RDSH_1)), (Some(true), None));
            // A pair is covered if the capture covers the source or all destinations.
            assert_eq!(seen.covers(BROKER_1, Some(&[Peer::Host(RDSH_1)])), Some(true));
            assert_eq!(seen.covers(RDSH_1, Some(&to)), Some(true));
            assert_eq!(seen.covers(RDSH_1, Some(&[Peer::Host(BROKER_1), Peer::Host(GW_1)])), None);
            assert_eq!(seen.covers(RDSH_1, Some(&[Peer::Service(0)])), None);
        });
        let nothing = FARM.replace("[capture]\ncovers = \"all\"\n", "");
        let mut packets = pings();
        packets.ping(1, DC, BROKER);
        with(&nothing, &packets, &view(120), |seen| {
            assert_eq!((seen.watches(BROKER_1), seen.watches(GW_1)), (Some(false), None));
            assert_eq!(seen.covers(RDSH_1, Some(&[Peer::Host(BROKER_1)])), Some(false));
        });
    }

    #[test]
    fn aggregated_flows_without_ports_may_hide_traffic_of_both_ends() {
        let policy = policy(FARM);
        let hosts = |from: &str, to: &str, port: u16| {
            let mut packets = Packets::default();
            packets.send(1, Transport::UDP, (from, 0), (to, port));
            let mut conversations = packets.conversations(&policy);
            conversations.list.iter_mut().for_each(Conversation::set_aggregated);
            let judged = Judge::new(&policy).judge_all(&conversations, 1);
            aggregated_hosts(&policy, &conversations, &judged)
        };
        assert_eq!(hosts(RDSH, BROKER, 0), HashSet::from([RDSH_1, BROKER_1]));
        assert_eq!(hosts("0.0.0.0", BROKER, 0), HashSet::from([BROKER_1]));
        // The known port shows that the conversation contains no other traffic of the server.
        assert_eq!(hosts("0.0.0.0", BROKER, 20_001), HashSet::new());
        // If only the network is left, it may be traffic of any host there.
        let all = hosts("10.1.0.0", "10.1.0.0", 0);
        assert!([RDSH_1, BROKER_1, GW_1, DC_1].iter().all(|host| all.contains(host)), "{all:?}");
    }

    #[test]
    fn a_damaged_input_may_contain_anything() {
        with(FARM, &pings(), &view(120), |seen| {
            assert_eq!(seen.unread_between(GW_1, &[BROKER_1]), None);
            assert_eq!(seen.silence_of(Code::Unanswered, &[GW_1]), []);
        });
        let damaged = CaptureConditions { damaged: true, ..view(120) };
        with(FARM, &pings(), &damaged, |seen| {
            assert!(
                seen.unread_between(GW_1, &[BROKER_1]).is_some_and(|words| words.contains("input"))
            );
            let doubts = seen.silence_of(Code::Unanswered, &[GW_1, BROKER_1]);
            assert_eq!(doubts.iter().map(|(doubt, _)| *doubt).collect::<Vec<_>>(), [Doubt::Unread]);
            // A refusal was seen, so it does not matter what else the input contains.
            assert_eq!(seen.silence_of(Code::Refused, &[GW_1, BROKER_1]), []);
        });
        let one_sided = CaptureConditions { one_sided: 0.1, ..view(120) };
        with(FARM, &pings(), &one_sided, |seen| {
            assert_eq!(seen.silence_of(Code::HalfOpen, &[GW_1]), [(Doubt::Coverage, None)]);
        });
    }

    #[test]
    fn a_reply_is_not_missing_where_only_flooded_requests_can_be_seen() {
        // The port of the broker is captured. The switch sends a request of the session host to all
        // ports, because it does not know the port of the domain controller.
        let mut packets = pings();
        packets.ping(1, RDSH, BROKER);
        packets.ping(2, "10.1.0.77", BROKER);
        packets.send(10, Transport::UDP, (RDSH, 50_000), (DC, 53));
        let doubts = |farm: &str, packets: &Packets| {
            with(farm, packets, &view(120), |seen| {
                let doubts = seen.silence_of(Code::Unanswered, &[RDSH_1, DC_1]);
                doubts.into_iter().map(|(doubt, _)| doubt).collect::<Vec<_>>()
            })
        };
        let unstated = FARM.replace("[capture]\ncovers = \"all\"\n", "");
        assert_eq!(doubts(&unstated, &packets), [Doubt::Coverage]);
        let stated =
            |host: &str| FARM.replace("covers = \"all\"", &format!("covers = [\"{host}\"]"));
        assert_eq!(doubts(&stated("broker1"), &packets), [Doubt::Coverage]);
        assert_eq!(doubts(&stated("dc1"), &packets), []);
        assert_eq!(doubts(FARM, &packets), []);
        // A packet from another host to the session host shows that the capture covers more.
        packets.ping(3, GW, RDSH);
        assert_eq!(doubts(&unstated, &packets), []);
    }

    #[test]
    fn only_an_answer_to_the_last_attempts_shows_that_a_service_works() {
        let outcome = |fill: fn(&mut Packets)| {
            let mut packets = pings();
            fill(&mut packets);
            with(FARM, &packets, &view(120), |seen| {
                let mut list = seen.conversations.list.iter();
                let c = list.find(|c| c.subject.port == 30_004).expect("a conversation");
                (seen.failing(c), seen.has_worked(c))
            })
        };
        let works = (None, true);
        let refused = (Some(Code::Refused), false);
        assert_eq!(outcome(|p| p.connect(10, (BROKER, 50_000), (RDSH, 30_004))), works);
        assert_eq!(outcome(|p| p.refuse(10, (BROKER, 50_000), (RDSH, 30_004))), refused);
        let stopped = outcome(|packets| {
            packets.connect(10, (BROKER, 50_000), (RDSH, 30_004));
            packets.refuse(20, (BROKER, 50_001), (RDSH, 30_004));
        });
        assert_eq!(stopped, refused);
        let recovered = outcome(|packets| {
            packets.refuse(10, (BROKER, 50_000), (RDSH, 30_004));
            packets.connect(20, (BROKER, 50_001), (RDSH, 30_004));
        });
        assert_eq!(recovered, works);
        // In an undeclared tunnel, an answer proves nothing.
        let forged = outcome(|packets| {
            let first = packets.len();
            packets.connect(10, (BROKER, 50_000), (RDSH, 30_004));
            packets.tunnel(first);
        });
        assert_eq!(forged, (None, false));
    }

    #[test]
    fn how_a_host_was_seen_is_described_in_words() {
        let mut packets = pings();
        packets.send(5, Transport::UDP, (GW, 50_000), (DC, 4444));
        with(FARM, &packets, &view(120), |seen| {
            let words = |host| seen.describe_activity(Peer::Host(host)).expect("a host");
            assert_eq!(words(GW_1), "gw1 sent 3 unicast packets within 100 s and received 2");
            let received = "dc1 received 1 packet; the capture shows no unicast packets from it";
            assert_eq!(words(DC_1), received);
            assert_eq!(words(RDSH_1), "rdsh1 was not seen");
            assert_eq!(seen.describe_activity(Peer::Service(0)), None);
            assert_eq!(seen.clock_words(), None);
        });
    }

    #[test]
    fn a_network_plays_the_roles_that_the_inventory_gives_it() {
        with(FARM, &pings(), &view(120), |seen| {
            let role = |slug: &str| {
                let mut roles = seen.policy.matrix.roles.iter();
                roles.position(|role| role.slug == slug).expect("a role")
            };
            assert!(seen.is_played_by_network(role("parallels-client")));
            assert!(!seen.is_played_by_network(role("broker")));
        });
    }
}
