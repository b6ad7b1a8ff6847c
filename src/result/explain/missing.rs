//! Explains missing traffic: documented conversations that failed, and connections that were never
//! attempted.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::not_assessable::pairs_text;
use super::{Explainer, ReportedFinding, Success, Words, permission};
use crate::classify::StateEvidence;
use crate::classify::{
    ClaimId, Code, Conversation, Doubt, DoubtSource, ErrorKind, Finding, Judged, PartyKind, Reason,
    ServiceKey, Verdict, clock_words,
};
use crate::model::{DNS_PORT, Endpoint, Nanos, REQUEST_PORTS, Transport, service_words};
use crate::result::plural;

/// The ICMP errors that explain a failure.
#[derive(Default)]
struct IcmpReports {
    /// The addresses that sent them.
    by: BTreeSet<IpAddr>,
    kinds: BTreeSet<ErrorKind>,
}

impl IcmpReports {
    fn all_are(&self, kind: ErrorKind) -> bool {
        self.kinds.iter().eq([&kind])
    }

    fn senders(&self) -> String {
        self.by.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// When servers that do not answer sent their last packet.
enum LastSent {
    /// The capture contains no packet from them.
    Never,
    /// All packets were sent before the attempts that failed, the last one at this time.
    Before(Nanos),
    /// At least one server was running at the time of the attempts, as far as is known.
    Meanwhile,
}

impl Explainer<'_> {
    pub(super) fn failure(&self, finding: &Finding, reported: &ReportedFinding) -> Words {
        let Some((_, c, _)) = self.first(finding) else { return Words::default() };
        let code = finding.code();
        let transport = c.subject.transport;
        let reports = self.icmp_reports(finding);
        let how = match code {
            Code::Refused => "is refused",
            Code::Rejected => "is rejected",
            Code::HalfOpen => "is answered, but the connection is not completed",
            Code::Challenged => "is answered by an ACK instead of a SYN-ACK",
            _ => "gets no answer",
        };
        let kinds = reports.kinds.iter().map(|kind| kind.words()).collect::<Vec<_>>().join(", ");
        let by = match reports.by.len() {
            0 => String::new(),
            1 => format!("; at least one ICMP error ({kinds}) came from {}", reports.senders()),
            _ => format!("; ICMP errors ({kinds}) came from {}", reports.senders()),
        };
        let alternative = self.alternative(finding);
        let foreign = [StateEvidence::ResetOnTheWay, StateEvidence::UnrelatedReset];
        let reset_on_the_way = self.conversations(finding).any(|(c, _)| foreign.contains(&c.basis));
        let by = if reset_on_the_way {
            format!("{by}; the resets probably came from a firewall")
        } else {
            by
        };
        let answered_from = self.answered_from(finding);
        let elsewhere = answered_from.map_or_else(String::new, |from| {
            format!("; its answers come from {from} instead, which most clients discard")
        });
        let since = self.worked_until(finding);
        let service = service_words(transport, &reported.port.replace(';', ", "));
        let from = reported.client.words_with_roles();
        let to = reported.server.words_with_roles();
        let attempts = self.count_attempts(finding);
        let message = format!(
            "{service} from {from} to {to} {how} ({attempts}{by}){alternative}{elsewhere}{since}"
        );
        let from = reported.client.words();
        let to = reported.server.words();
        let action = match code {
            Code::Refused if self.worked_later(finding) => format!(
                "Check whether {to} still refuses {from}: {service} worked for other clients after the last attempt that failed"
            ),
            Code::Refused => {
                format!("Check that the service on {to} is running and listening on {service}")
            }
            Code::HalfOpen => {
                format!("Look for a broken return path, or for a port scan by {from}")
            }
            Code::Challenged => format!(
                "Close the old connections from the same client ports that {to} still holds, or make {from} wait longer before it reuses client ports"
            ),
            Code::Rejected if reset_on_the_way => format!(
                "Allow {service} from {from} to {to} on the firewall between them, which probably sent the resets"
            ),
            Code::Unanswered if let Some(from_other) = answered_from => format!(
                "Make {to} answer from the address that {from} asked, or make {from} ask {from_other}"
            ),
            Code::Rejected if reports.all_are(ErrorKind::HostUnreachable) => format!(
                "Check that {to} is running and connected to the network, and that {} can reach it; some firewalls also reject packets in this way",
                reports.senders()
            ),
            Code::Rejected if reports.by.iter().eq([&c.subject.server]) => format!(
                "Allow {service} from {from} on {to} itself, whose packet filter sent the ICMP errors"
            ),
            Code::Unanswered if reports.all_are(ErrorKind::TimeExceeded) => format!(
                "Look for a routing loop between {from} and {to}: {} discarded packets that had passed too many routers",
                reports.senders()
            ),
            Code::Unanswered => self.action_about_silence(finding, reported, &service),
            _ => format!(
                "Allow {service} from {from} to {to} on the firewalls between them and on {to} itself"
            ),
        };
        Words { message, action, display_filter: self.filter(finding) }
    }

    /// Says until when the services of a finding worked; the text is empty if they never did.
    fn worked_until(&self, finding: &Finding) -> String {
        // These services worked before, but have stopped.
        let stopped = self.conversations(finding).filter(|(c, _)| c.fails_at_last().is_some());
        let worked_until = stopped.filter_map(|(c, _)| c.opened.last.get()).collect::<Vec<_>>();
        let members = finding.members.len();
        match (worked_until.iter().max(), worked_until.len()) {
            (None, _) => String::new(),
            (Some(time), n) if n == members => {
                format!("; it worked until {} UTC", clock_words(*time))
            }
            (Some(time), n) => {
                let until = clock_words(*time);
                format!("; {n} of {members} conversations worked, the last until {until} UTC")
            }
        }
    }

    /// Returns the lowest other address from which the servers answered, if this applies to all
    /// conversations of a finding.
    fn answered_from(&self, finding: &Finding) -> Option<IpAddr> {
        let all = self.conversations(finding).map(|(c, _)| self.seen.answered_from(c));
        all.collect::<Option<Vec<IpAddr>>>()?.into_iter().min()
    }

    /// Returns the ICMP errors that explain a failure. If an RST refused a connection, ICMP errors
    /// about its other attempts do not explain it.
    fn icmp_reports(&self, finding: &Finding) -> IcmpReports {
        let explains = |c: &Conversation, kind| match c.basis {
            StateEvidence::IcmpError | StateEvidence::PortUnreachable => {
                !matches!(kind, ErrorKind::Other | ErrorKind::TimeExceeded)
            }
            StateEvidence::SilentServer => kind == ErrorKind::TimeExceeded,
            _ => false,
        };
        let mut reports = IcmpReports::default();
        for (c, _) in self.conversations(finding) {
            let errors = c.rare().errors.iter().filter(|e| e.side == 0 && explains(c, e.kind));
            for error in errors {
                reports.by.insert(error.by);
                reports.kinds.insert(error.kind);
            }
        }
        reports
    }

    /// Returns what to do about servers that do not answer.
    fn action_about_silence(
        &self,
        finding: &Finding,
        reported: &ReportedFinding,
        service: &str,
    ) -> String {
        let (from, to) = (reported.client.words(), reported.server.words());
        match self.last_sent(finding) {
            LastSent::Never => format!(
                "Check that {to} is running and connected to the network; if it is, allow {service} from {from} to {to} on the firewalls between them and on {to} itself"
            ),
            LastSent::Before(time) => format!(
                "Check that {to} is running and connected to the network: it sent its last packet at {} UTC, before the attempts that got no answer",
                clock_words(time)
            ),
            LastSent::Meanwhile if self.may_discard_requests(finding) => format!(
                "Allow {service} from {from} to {to} on the firewalls between them and on {to} itself; also check that {to} accepts requests from {from}: a RADIUS server, for example, discards requests from unknown clients and with another shared secret"
            ),
            LastSent::Meanwhile => format!(
                "Allow {service} from {from} to {to} on the firewalls between them and on {to} itself"
            ),
        }
    }

    /// Returns whether every service of a finding was reached by another client whose first
    /// connection began after the last attempt that failed.
    fn worked_later(&self, finding: &Finding) -> bool {
        let index = &self.outcome.conversations.index;
        if index.clock_offset().is_some() || index.has_doubtful_clocks() {
            return false;
        }
        let worked = self.worked.get_or_init(|| self.latest_successes());
        self.conversations(finding).all(|(c, _)| {
            let failed = c.fails_at_last().map_or(c.opened.last, |failed| failed.opened.last);
            let client = self.policy.canonical(c.subject.client);
            let successes = worked.get(&(c.subject.endpoint(), c.subject.transport));
            let mut others = successes.into_iter().flatten().filter(|own| own.client != client);
            failed.get().is_some_and(|failed| others.any(|own| failed < own.time))
        })
    }

    /// Returns for each service the clients whose first connections that worked began last: at most
    /// two, so that one of them is not the client of a failure.
    fn latest_successes(&self) -> HashMap<(Endpoint, Transport), Vec<Success>> {
        let mut latest: HashMap<(Endpoint, Transport), Vec<Success>> = HashMap::new();
        let list = &self.outcome.conversations.list;
        for c in list.iter().filter(|c| self.seen.has_worked(c)) {
            let Some(time) = c.opened.first.get() else { continue };
            let client = self.policy.canonical(c.subject.client);
            let own = latest.entry((c.subject.endpoint(), c.subject.transport)).or_default();
            match own.iter_mut().find(|own| own.client == client) {
                Some(known) => known.time = known.time.max(time),
                None => own.push(Success { client, time }),
            }
            own.sort_by_key(|own| Reverse((own.time, own.client)));
            own.truncate(2);
        }
        latest
    }

    /// Returns when the servers of a finding sent their last packet.
    fn last_sent(&self, finding: &Finding) -> LastSent {
        let mut latest: Option<Nanos> = None;
        for (c, j) in self.conversations(finding) {
            let presence = match j.server.kind {
                PartyKind::Host(host) => Some(&self.seen.hosts[host].presence),
                _ => self.seen.conversations.index.presence(c.subject.server),
            };
            let Some(presence) = presence.filter(|own| own.sent.packets.0 > 0) else { continue };
            let failed = c.fails_at_last().map_or(c.opened.first, |failed| failed.opened.first);
            // A server whose times are not known may still be running.
            match (presence.sent_in.last.get(), failed.get()) {
                (Some(last), Some(failed)) if last < failed => latest = latest.max(Some(last)),
                _ => return LastSent::Meanwhile,
            }
        }
        latest.map_or(LastSent::Never, LastSent::Before)
    }

    /// Returns whether a server of this kind may discard a request on purpose: the service answers
    /// datagrams, and is none of those that answer every client.
    fn may_discard_requests(&self, finding: &Finding) -> bool {
        self.conversations(finding).all(|(c, _)| {
            let ServiceKey { transport, port, .. } = c.subject;
            transport == Transport::UDP && port != DNS_PORT && !REQUEST_PORTS.contains(&port)
        })
    }

    /// Returns the numbers of flows that did not work and of SYNs as text. Flows in tunnels that
    /// the inventory does not declare are counted apart, because they may be mirrored copies of the
    /// others. SYNs are not counted by the outcome of their flows, so they are left out if flows
    /// worked. Duplicates of them are not removed, so the text mentions these.
    fn count_attempts(&self, finding: &Finding) -> String {
        let count = |in_tunnel: bool| {
            let all = self.conversations(finding).map(|(c, _)| c);
            let counted = all.filter(|c| c.doubts.has(DoubtSource::Tunnel) == in_tunnel);
            counted.fold((0, 0), |(flows, syns), c| {
                // If every flow worked, the last requests of one of them failed.
                (flows + c.flows.saturating_sub(c.established.into()).max(1), syns + c.attempts)
            })
        };
        let ((flows, syns), copies) = match [count(false), count(true)] {
            // A mirror may contain copies of each SYN, from several ports of the switch.
            [(0, _), (flows, _)] => ((flows, 0), 0),
            [outside, (copies, _)] => (outside, copies),
        };
        let flows = plural(flows, "flow");
        let some_worked = self.conversations(finding).any(|(c, _)| c.established > 0);
        let attempts = match syns {
            _ if some_worked => flows,
            0 => flows,
            1 => format!("{flows}, 1 SYN"),
            n if copies == 0 && self.outcome.conversations.index.has_copies() => {
                format!("{flows}, {n} SYNs including duplicates")
            }
            n => format!("{flows}, {n} SYNs"),
        };
        match copies {
            0 => attempts,
            1 => format!("{attempts}; 1 more flow in a tunnel may be a copy"),
            n => format!("{attempts}; {n} more flows in tunnels may be copies"),
        }
    }

    pub(super) fn failure_trace(&self, finding: &Finding) -> Vec<String> {
        let mut trace = self.conversation_trace(finding);
        trace.extend(self.list_clients(finding));
        let ends = self.conversations(finding).flat_map(|(_, j)| [&j.client, &j.server]);
        let hosts: BTreeSet<usize> = ends.filter_map(|end| end.host()).collect();
        let hosts: Vec<usize> = hosts.into_iter().collect();
        let hidden = self.seen.silence_of(finding.code(), &hosts);
        trace.extend(hidden.into_iter().rev().find_map(|(_, words)| words));
        if self.conversations(finding).all(|(c, _)| self.seen.lacks_repetition(c)) {
            trace.push(
                "most flows without a reply do not show that their SYN, SYN-ACK or request was repeated, although an end that gets no reply repeats it, so the capture may lack the replies".to_owned(),
            );
        }
        if self.conversations(finding).all(|(c, _)| c.may_lack_one_reply()) {
            trace.push(
                "the requests without a reply were sent within the time that a reply may take, so they may be one request and its repetitions".to_owned(),
            );
        }
        trace.extend(self.describe_doubtful_members(finding));
        trace
    }

    /// Describes the other servers and services of the group that the clients of a failure reached.
    /// If only some conversations have such an alternative, the text states how many. Otherwise, it
    /// names one alternative of the first conversation and counts the others. Without alternatives,
    /// the text is empty.
    fn alternative(&self, finding: &Finding) -> String {
        let members = finding.members.len();
        // A client may have many failed conversations, and many others to search, so it is searched
        // only once.
        let mut searched = HashMap::<IpAddr, bool>::new();
        let clients = self.conversations(finding).map(|(c, _)| c.subject.client);
        let has_way = clients.filter(|client| {
            *searched.entry(*client).or_insert_with(|| self.ways(finding, *client).next().is_some())
        });
        let succeeded = has_way.count();
        if succeeded > 0 && succeeded < members {
            return format!(
                "; for {succeeded} of {members} conversations, an alternative (another server or service) worked"
            );
        }
        let first = self.first(finding).map(|(_, c, _)| c.subject.client);
        let words =
            first.into_iter().flat_map(|client| self.ways(finding, client)).map(|(c, j)| {
                let port = c.subject.shown_port().map_or_else(String::new, |p| p.to_string());
                let server = super::EndIdentity::of(self.policy, &j.server, c.subject.server);
                (server.words(), service_words(c.subject.transport, &port))
            });
        let mut ways = words.collect::<BTreeSet<_>>().into_iter();
        match (ways.next(), ways.count()) {
            (Some((server, service)), 0) => format!("; {service} to {server} worked"),
            (Some((server, service)), n) => {
                let others = plural(n as u64, "other alternative");
                format!("; {service} to {server} and {others} worked")
            }
            (None, _) => String::new(),
        }
    }

    /// Returns the conversations in which a client reached a server in the group of rows that a
    /// failure is about.
    fn ways(
        &self,
        finding: &Finding,
        client: IpAddr,
    ) -> impl Iterator<Item = (&Conversation, &Judged)> {
        let rows = match finding.reason {
            Reason::Failed(group) => self.policy.matrix.groups.values().nth(group.into()),
            _ => None,
        };
        let is_of_group = move |j: &Judged| {
            let row = j.ruling.row().filter(|_| j.verdict() == Verdict::Documented);
            row.is_some_and(|row| rows.is_some_and(|rows| rows.contains(&row)))
        };
        let outcome = self.outcome;
        let of_address = move |client: IpAddr| {
            let own = outcome.conversations.of_client(client);
            outcome.conversations.list[own.clone()].iter().zip(&outcome.judged[own])
        };
        // A host that fails at one of its addresses may succeed at another.
        let addresses = match self.policy.host_of(client) {
            Some(host) => self.policy.inventory.hosts[host].addresses.clone(),
            None => vec![client],
        };
        let own = addresses.into_iter().flat_map(of_address);
        own.filter(move |(c, j)| is_of_group(j) && self.seen.has_worked(c))
    }

    pub(super) fn never_attempted(&self, id: ClaimId, reported: &ReportedFinding) -> Words {
        let claims = self.outcome.claims();
        let merged = claims.merged_pairs(id);
        let claim = claims.get(id);
        let (client, server) = match merged {
            Some(_) => (reported.client.words(), reported.server.words()),
            None => (reported.client.words_with_roles(), reported.server.words_with_roles()),
        };
        let because = match claim.trigger {
            Some(_) if merged.is_some() => {
                ", although traffic that should trigger such contact was seen at the clients"
                    .to_owned()
            }
            Some(_) => format!(
                ", although traffic that should trigger such contact was seen at {}",
                reported.client.words()
            ),
            None => String::new(),
        };
        let pairs = pairs_text(merged);
        // A reader expects a certain finding to be certain for each of its hosts.
        let doubtful = merged.filter(|all| (1..all.pairs).contains(&all.doubtful));
        let certain = doubtful.map_or_else(String::new, |all| {
            let noun = if all.to.is_empty() { "hosts" } else { "pairs of hosts" };
            format!("; this is certain for {} of {} {noun}", all.pairs - all.doubtful, all.pairs)
        });
        // The merged claims need not all be about traffic that was seen in a tunnel.
        let is_tunnelled = claim.tunnelled && merged.is_none();
        let did = if is_tunnelled { "was seen to contact" } else { "never contacted" };
        let place = if is_tunnelled {
            " only inside a tunnel that the inventory does not list"
        } else {
            ""
        };
        let message = format!(
            "{client} {did} {server}{pairs} on {} in {} s{place}{because}{certain}",
            self.services(id),
            self.seen.watched_for(claim, &claims.to(claim))
        );
        let action = match merged {
            Some(_) => "Look for a cause that these hosts have in common, such as a setting, an agent that is not running, or a local rule that blocks the traffic".to_owned(),
            None if is_tunnelled => "If the tunnel is one of the site, list it in [capture] tunnels, with use = \"mirror\" if it carries mirrored traffic; otherwise find out who sends this traffic".to_owned(),
            None => self.attempts_elsewhere(id, reported).unwrap_or_else(|| format!(
                "Check that the service on {} is running and correctly configured, and that nothing on the host itself blocks the traffic",
                reported.client.words()
            )),
        };
        let may_be_apart = claim.doubts.iter().any(|doubt| doubt == Doubt::Site) && !is_tunnelled;
        let action = if may_be_apart {
            format!(
                "If the hosts belong to different sites of the farm, give each host its site in the inventory; otherwise {}",
                permission::uncapitalized(&action)
            )
        } else {
            action
        };
        Words { message, action, display_filter: String::new() }
    }

    /// Returns what to do if the traffic of a claim fails again and again at or from an address
    /// that the inventory does not connect with the claim, or if the inventory may have mixed up
    /// hosts.
    fn attempts_elsewhere(&self, id: ClaimId, reported: &ReportedFinding) -> Option<String> {
        let claims = self.outcome.claims();
        let claim = claims.get(id);
        let rows = claims.rows(claim.rows);
        let (from, to) = (reported.client.words(), reported.server.words());
        let services = self.services(id);
        if let Some(one) = self.seen.misdirected(claim, rows) {
            let flows = plural(one.flows, "flow");
            if let Some(name) = self.seen.intermediary(&one) {
                return Some(format!(
                    "{from} uses {name} for {services} instead ({flows}, {}). If {name} passes on this traffic, add an exception for it; otherwise correct the configuration of {from}",
                    one.state
                ));
            }
            return Some(format!(
                "{from} tries {} on {services} instead ({flows}, {}). If this is an address of {to}, add it to the inventory; otherwise correct the configuration of {from}",
                one.address, one.state
            ));
        }
        if let Some(host) = self.seen.mixed_up_host(rows, claim.source as usize) {
            let host = &self.policy.inventory.hosts[host].name;
            return Some(format!(
                "Check the addresses and roles of {host} in the inventory, because it serves a port of another role; then audit again"
            ));
        }
        let client = self.seen.unlisted_client(rows, &claims.to(claim));
        let one = client.filter(|one| one.state.failed())?;
        let flows = plural(one.flows, "flow");
        Some(format!(
            "{} tries {to} on {services} ({flows}, {}). If this is an address of {from} or a device that translates it, find out why this fails; otherwise check that the service on {from} is running and correctly configured",
            one.address, one.state
        ))
    }
}
