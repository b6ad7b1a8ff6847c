//! Contradictions between the inventory and the capture: hosts that serve a port of a role that
//! they do not have, and roles that show no traffic.

use std::collections::BTreeMap;

use super::absence_claims::{GroupId, To};
use super::coverage::Peer;
use super::ends::EndKey;
use super::expected::Assessor;
use super::facts::with_ports;
use super::finding::{About, Finding, FindingKey, Reason};
use super::row_counts::Attempt;
use super::verdict::{Code, Doubt, Doubts, Verdict};
use crate::conversation::{DirectionEvidence, DoubtSource, State};
use crate::model::Transport;
use crate::policy::{
    Expectation, FeatureState, PartyKind, Policy, Quantifier, RoleSet, SeverityColumn,
};

/// The minimum watched time before a role without traffic is reported, in seconds, unless the user
/// sets another watch time.
pub const WATCH_S: u64 = 600;

/// An expected row whose traffic the capture should contain.
struct DueTraffic {
    /// The index of the row.
    row: usize,
    /// The hosts that should have initiated the traffic, in order.
    sources: Vec<usize>,
    /// Whether networks or services should have initiated it, because no host has the source role.
    from_others: bool,
    /// The doubts about the sources, because their traffic may have passed without being seen.
    doubts: Doubts,
}

impl DueTraffic {
    /// Returns whether the traffic would show that a host has a role.
    fn is_of(&self, policy: &Policy, host: usize, role: usize) -> bool {
        let matrix = &policy.matrix;
        let row = &matrix.rows[self.row];
        let one = RoleSet::one(role);
        let mut others = self.sources.iter().filter(|source| **source != host);
        matrix.is_source(row, one) && self.sources.binary_search(&host).is_ok()
            || matrix.is_destination(row, one) && (self.from_others || others.next().is_some())
    }
}

/// The roles that traffic shows.
#[derive(Default)]
struct ShownRoles {
    /// The roles that the traffic of each host shows.
    shown: BTreeMap<usize, RoleSet>,
    /// The roles that any host may have shown. The servers of an aggregated conversation may be any
    /// hosts with the destination role.
    possible: RoleSet,
    /// For each host, the roles that it would show if its traffic in undeclared tunnels were real.
    tunnelled: BTreeMap<usize, RoleSet>,
}

impl Assessor<'_> {
    /// Adds the findings about contradictions between the inventory and the capture.
    pub(super) fn contradictions(&mut self) {
        self.mismatches();
        self.silent_roles();
        self.address_conflicts();
    }

    /// Returns a finding about a host that the inventory describes differently from the capture.
    pub(super) fn contradict(
        &self,
        code: Code,
        host: usize,
        transport: Option<Transport>,
        reason: Reason,
        doubts: Doubts,
    ) -> Finding {
        let end = self.book.borrow_mut().ends.id(EndKey::Host(host as u32));
        let key = FindingKey { code, client: end, server: end, transport, about: About::Group };
        let severity = self.judge.severity(code, SeverityColumn::Reached, doubts);
        Finding::new(key, reason).weighing(severity, doubts)
    }

    /// Adds a finding for each port that a host serves according to handshakes, if only one role
    /// serves the port, this role is a component of the product, and the host does not have this
    /// role. Hosts without roles are skipped, and so are ports on which a row documents a
    /// conversation with the host.
    fn mismatches(&mut self) {
        let policy = self.policy;
        let list = &self.conversations.list;
        let matrix = &policy.matrix;
        let mut served: BTreeMap<(usize, u16), Vec<usize>> = BTreeMap::new();
        for (number, (c, j)) in list.iter().zip(self.judged).enumerate() {
            let proved = c.grade == DirectionEvidence::Handshake
                && c.state == State::Established
                && !c.is_doubted();
            if let PartyKind::Host(host) = j.server.kind
                && proved
                && !policy.inventory.hosts[host].roles.is_empty()
            {
                served.entry((host, c.subject.port)).or_default().push(number);
            }
        }
        for ((host, _), members) in served {
            let first = &list[members[0]];
            let roles = self.judge.serving(first);
            let own = policy.inventory.hosts[host].roles;
            // If the inventory moved the port to this host, a row documents the conversations, and
            // nothing is contradicted.
            let documented =
                members.iter().any(|n| self.judged[*n].verdict() == Verdict::Documented);
            if documented || roles.len() != 1 || roles.intersects(own) {
                continue;
            }
            // Only ports of the product's own components are evidence. The ports of other roles,
            // such as web servers, are also used by other software.
            if roles.iter().any(|role| !matrix.roles[role].has_own_ports()) {
                continue;
            }
            let mut doubts = Doubts::default();
            if self.judge.serving_rows(first).all(|row| row.is_doubtful()) {
                doubts.add(Doubt::Row);
            }
            let transport = Some(first.subject.transport);
            let code = Code::RoleMismatch;
            let reason = Reason::Serves;
            let finding = self.contradict(code, host, transport, reason, doubts);
            let mut book = self.book.borrow_mut();
            let members = book.pool.add(members.iter().map(|number| *number as u32));
            let finding = finding.with_members(list, &book.pool, members);
            book.findings.push(finding);
        }
    }

    /// Returns the roles that traffic shows.
    fn shown_roles(&self) -> ShownRoles {
        let policy = self.policy;
        let matrix = &self.policy.matrix;
        let mut roles = ShownRoles::default();
        let conversations = self.conversations.list.iter().zip(self.judged);
        for (fitting, (c, j)) in self.fitting.iter().zip(conversations) {
            // Traffic that any host could have forged is not evidence of a role.
            let is_tunnelled = c.doubts.has(DoubtSource::Tunnel);
            if c.is_made_up() && !is_tunnelled {
                continue;
            }
            for row in fitting.iter().flat_map(|fitting| &fitting.rows) {
                let row = &matrix.rows[*row];
                if j.server.kind == PartyKind::RolesOnly && !is_tunnelled {
                    roles.possible = roles.possible.with(matrix.roles[row.destination].members);
                }
                for (party, role) in [(&j.client, row.source), (&j.server, row.destination)] {
                    let PartyKind::Host(host) = party.kind else { continue };
                    let of_hosts =
                        if is_tunnelled { &mut roles.tunnelled } else { &mut roles.shown };
                    for holder in policy.holders(host) {
                        let roles = of_hosts.entry(*holder).or_default();
                        *roles = roles.with(matrix.roles[role].members);
                    }
                }
            }
        }
        roles
    }

    /// Returns the traffic that the capture should contain: the expected rows whose features are
    /// on. Rows whose trigger was not seen do not count, and neither do rows that the traffic of
    /// another host satisfies.
    fn due_traffic(&self) -> Vec<DueTraffic> {
        let policy = self.policy;
        let matrix = &policy.matrix;
        let mut due = Vec::new();
        for (number, rows) in matrix.groups.values().enumerate() {
            let group = number as GroupId;
            for number in self.expected_rows(rows) {
                let row = &matrix.rows[number];
                if policy.feature_state(row) != FeatureState::On
                    || self.seen.lacks_transport_of(number)
                {
                    continue;
                }
                let sources = policy.hosts_of(matrix.roles[row.source].members);
                let sources: Vec<usize> = sources.collect();
                let to = self.destinations(&[number]);
                let is_tcp = row.transport == Transport::TCP;
                let is_enough = |attempt: &Attempt| {
                    let is_one_way = attempt.state == State::OneWay && !is_tcp;
                    let is_reply = attempt.state == State::AnswerOnly;
                    !attempt.tunnelled && (attempt.answered || is_reply || is_one_way)
                };
                let was_served =
                    |source: &usize| self.attempts(group, *source, None).iter().any(is_enough);
                let one_is_enough = match row.quantifier {
                    Quantifier::OneSource if sources.iter().any(was_served) => continue,
                    Quantifier::AnyDestination => true,
                    _ => false,
                };
                let is_steady = row.expectation == Expectation::Steady;
                let may_stay_inside = one_is_enough || row.quantifier == Quantifier::OneSource;
                // Nothing is due from a host that was not seen. The traffic of a host that also has
                // the destination role may stay inside it, unless every pair has to communicate. If
                // the capture does not cover a host, the host may use destinations that the capture
                // does not cover either, and if it lacks an IP version, the host may use that one.
                let is_due = |source: &usize| {
                    self.seen.is_sending(Peer::Host(*source))
                        && !self.towards(To::AnyOf(to), *source).may_use_unseen_version
                        && !(may_stay_inside && self.may_serve_itself(*source, &[number]))
                        && (!one_is_enough
                            || self.seen.watches(*source).is_some()
                            || self.towards(To::AnyOf(to), *source).all_covered)
                        && (is_steady || self.is_triggered(row, *source))
                        && !(one_is_enough && was_served(source))
                };
                let from_others = is_steady && sources.is_empty();
                let sources: Vec<usize> = sources.into_iter().filter(is_due).collect();
                let doubts = self.doubts_of_sources(&sources);
                due.push(DueTraffic { row: number, sources, from_others, doubts });
            }
        }
        due
    }

    /// Returns the doubts that arise because the traffic of one of these hosts may have passed
    /// without being seen, whatever its destination.
    fn doubts_of_sources(&self, sources: &[usize]) -> Doubts {
        let seen = &self.seen;
        let mut doubts = Doubts::default();
        if sources.iter().any(|s| seen.has_unreadable_with_unlisted(*s) || seen.has_undecoded(*s)) {
            doubts.add(Doubt::Unread);
        }
        if sources.iter().any(|source| seen.has_aggregated(*source)) {
            doubts.add(Doubt::Aggregated);
        }
        doubts
    }

    /// Returns the doubts that arise because traffic that would show a role of a host may have
    /// passed without being seen. `due` is the traffic that would show it.
    fn doubts_of_silence(&self, host: usize, role: usize, due: &[&DueTraffic]) -> Doubts {
        let matrix = &self.policy.matrix;
        let one = RoleSet::one(role);
        let mut doubts = Doubts::default();
        for traffic in due {
            let row = &matrix.rows[traffic.row];
            if matrix.is_source(row, one) && traffic.sources.binary_search(&host).is_ok() {
                let to = To::AnyOf(self.destinations(&[traffic.row]));
                doubts = doubts.with(self.doubts_of_hidden_traffic(&[traffic.row], host, to));
            }
            if matrix.is_destination(row, one) {
                let to = To::Host(host as u32);
                let own = self.doubts_of_hidden_traffic(&[traffic.row], host, to);
                doubts = doubts.with(own).with(traffic.doubts);
                let is_source = |peer: usize| traffic.sources.binary_search(&peer).is_ok();
                if self.seen.unreadable_peers(host).any(is_source) {
                    doubts.add(Doubt::Unread);
                }
                if self.seen.tunnel_peers(host, &[traffic.row]).any(is_source) {
                    doubts.add(Doubt::Tunnel);
                }
                // If only some of the sources try another address, the others show that they do not
                // use the host.
                let rows = with_ports(self.policy, &[traffic.row]);
                let mut sources = traffic.sources.iter();
                if sources.clone().all(|host| self.seen.is_misdirected(*host, &rows))
                    || sources.any(|s| self.seen.mixed_up_host(&[traffic.row], *s).is_some())
                {
                    doubts.add(Doubt::Coverage);
                }
            }
        }
        if self.seen.has_aggregated(host) {
            doubts.add(Doubt::Aggregated);
        }
        doubts
    }

    /// Adds a finding for each role of a host that shows no traffic, although the host was watched
    /// for long enough.
    fn silent_roles(&mut self) {
        let view = self.seen.view();
        let watch_s = view.watch(WATCH_S);
        let lost = view.loss > view.max_loss;
        if view.filtered || lost || view.watched.seconds_for(watch_s) < watch_s {
            return;
        }
        let policy = self.policy;
        let ShownRoles { shown, possible, tunnelled } = self.shown_roles();
        let due = self.due_traffic();
        for host in 0..policy.inventory.hosts.len() {
            let entry = &policy.inventory.hosts[host];
            if entry.is_virtual() || !self.seen.is_sending(Peer::Host(host)) {
                continue;
            }
            let watched_s = self.seen.watched_for_host(host, watch_s);
            if watched_s < watch_s {
                continue;
            }
            // Another finding already reports the traffic that is missing from this host.
            if self.missing.contains(&host) {
                continue;
            }
            let certain = match self.seen.watches(host) {
                Some(stated) => {
                    let due_s = watched_s.min(watch_s);
                    let there = self.seen.was_there_for(Peer::Host(host), due_s);
                    stated && there && !view.misses_a_direction() && !view.has_short_series(watch_s)
                }
                None => continue,
            };
            let seen = shown.get(&host).copied().unwrap_or_default().with(possible);
            for role in entry.roles.iter().filter(|r| !seen.intersects(RoleSet::one(*r))) {
                let due: Vec<_> = due.iter().filter(|row| row.is_of(policy, host, role)).collect();
                if due.is_empty() {
                    continue;
                }
                let mut doubts = self.doubts_of_silence(host, role, &due);
                if !certain || self.may_share(host) {
                    doubts.add(Doubt::Coverage);
                }
                if !view.is_certain_after(view.chances(watch_s)) {
                    doubts.add(Doubt::Loss);
                }
                let unread = self.seen.unread_between(host, &[]).is_some();
                if unread {
                    doubts.add(Doubt::Unread);
                }
                if self.conversations.index.has_doubtful_clocks() {
                    doubts.add(Doubt::Clock);
                }
                if tunnelled.get(&host).is_some_and(|r| r.intersects(RoleSet::one(role))) {
                    doubts.add(Doubt::Tunnel);
                }
                let code = Code::SilentRole;
                let reason = Reason::Silent(role as u16);
                let finding = self.contradict(code, host, None, reason, doubts);
                self.book.borrow_mut().findings.push(finding);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Judgement;
    use crate::classify::sample::{
        BROKER, DC, DC_1, FARM, GW, Packets, RDSH, ends_of, policy, view, with_code,
    };
    use crate::model::Mac;
    use crate::policy::{Certainty, Policy};

    fn judge(farm: &str, packets: &Packets) -> Judgement {
        packets.judge(&policy(farm), &view(120))
    }

    #[test]
    fn a_host_that_serves_a_port_of_another_role_contradicts_the_inventory() {
        let policy = policy(FARM);
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (DC, 20_002));
        let judgement = packets.judge(&policy, &view(120));
        let found = with_code(&judgement, Code::RoleMismatch);
        let [finding] = &found[..] else { panic!("{} findings", found.len()) };
        assert_eq!(ends_of(&policy, &judgement, finding), ["dc1", "dc1"]);
        assert_eq!((finding.reason, finding.certain()), (Reason::Serves, true));
    }

    /// Anyone can send frames with the hardware addresses of two hosts.
    #[test]
    fn a_guess_about_the_ends_shows_no_role() {
        let policy = policy(FARM);
        let [gateway, session_host] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 3])];
        let mut packets = Packets::default();
        packets.connect(0, ("10.1.4.21", 50_000), ("10.1.4.51", 20_002));
        for (first, mac) in
            [gateway, session_host, gateway, gateway, session_host].into_iter().enumerate()
        {
            packets.sent_by(first, mac);
        }
        let first = packets.len();
        packets.ping(10, GW, RDSH);
        packets.sent_by(first, gateway);
        packets.sent_by(first + 1, session_host);
        let judgement = packets.judge(&policy, &view(120));
        assert_eq!(with_code(&judgement, Code::RoleMismatch).len(), 0);
        let found = with_code(&judgement, Code::PortNotInMatrix);
        let [finding] = &found[..] else { panic!("{} findings", found.len()) };
        assert_eq!(ends_of(&policy, &judgement, finding), ["gw1", "rdsh1"]);
        assert!(!finding.certain());
    }

    #[test]
    fn only_a_handshake_with_a_host_that_has_a_role_proves_what_it_serves() {
        let found = |packets: Packets| with_code(&judge(FARM, &packets), Code::RoleMismatch).len();
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (BROKER, 20_002));
        assert_eq!(found(packets), 0, "its own port");
        let mut packets = Packets::default();
        packets.refuse(0, (GW, 50_000), (DC, 20_002));
        assert_eq!(found(packets), 0, "a refusal");
        let mut packets = Packets::default();
        packets.midstream(0, (GW, 50_000), (DC, 20_002));
        assert_eq!(found(packets), 0, "no handshake");
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), ("10.1.0.50", 20_002));
        assert_eq!(found(packets), 0, "a host without roles");
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (DC, 20_002));
        packets.tunnel(0);
        assert_eq!(found(packets), 0, "in a tunnel");
        // Other software may use a port that is not specific to the product.
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (BROKER, 389));
        assert_eq!(found(packets), 0, "a directory");
    }

    #[test]
    fn a_port_of_a_doubtful_row_or_of_common_software_proves_no_role() {
        let mut policy = policy(FARM);
        let found = |policy: &Policy, port: u16| {
            let mut packets = Packets::default();
            packets.connect(0, (GW, 50_000), (DC, port));
            let found = with_code(&packets.judge(policy, &view(120)), Code::RoleMismatch);
            found.iter().map(|finding| finding.doubts.iter().collect()).collect::<Vec<Vec<Doubt>>>()
        };
        // InfluxDB and Grafana run on many hosts without the product.
        for port in [8086, 3000] {
            assert!(found(&policy, port).is_empty(), "{port}");
        }
        assert_eq!(found(&policy, 20_002), [[]]);
        let doubt = |policy: &mut Policy, rows: usize| {
            let broker = policy.matrix.rows.iter_mut().filter(|row| row.ports == (20_002..=20_002));
            broker.take(rows).for_each(|row| row.certainty = Certainty::Doubtful);
        };
        doubt(&mut policy, 1);
        assert_eq!(found(&policy, 20_002), [[]], "other rows are certain");
        doubt(&mut policy, usize::MAX);
        assert_eq!(found(&policy, 20_002), [[Doubt::Row]]);
    }

    /// Returns the names of the hosts with a silent role in a capture of ten minutes.
    fn silent(farm: &str, packets: &Packets) -> Vec<String> {
        let policy = policy(farm);
        let judgement = packets.judge(&policy, &view(WATCH_S));
        let found = with_code(&judgement, Code::SilentRole);
        found.iter().map(|finding| ends_of(&policy, &judgement, finding)[0].clone()).collect()
    }

    /// Returns the farm with two more hosts that have these roles, and ten minutes of pings between
    /// them.
    fn with_two(names: [&str; 2], roles: [&str; 2], more: &str) -> (String, Packets) {
        let addresses = ["10.1.0.60", "10.1.0.61"];
        let mut farm = FARM.to_owned() + more;
        for number in 0..2 {
            let (name, address, role) = (names[number], addresses[number], roles[number]);
            farm += &format!(
                "[[host]]\nname = \"{name}\"\naddresses = [\"{address}\"]\nroles = [\"{role}\"]\n"
            );
        }
        let mut packets = Packets::default();
        for second in (0..=WATCH_S as i64).step_by(20) {
            packets.ping(second, addresses[0], addresses[1]);
        }
        (farm, packets)
    }

    #[test]
    fn a_role_is_not_silent_while_its_traffic_waits_for_a_trigger() {
        let names = ["rep1", "sql1"];
        let roles = ["ras-reporting", "sql-server"];
        let (farm, packets) = with_two(names, roles, "[farm.features]\nreporting = true\n");
        assert!(!silent(&farm, &packets).contains(&"sql1".to_owned()));
    }

    #[test]
    fn a_role_is_not_silent_if_one_host_is_enough() {
        let (farm, mut packets) = with_two(["halb1", "halb2"], ["halb", "halb"], "");
        assert_eq!(silent(&farm, &packets), ["halb1", "halb2"]);
        // Only one load balancer at a time advertises the virtual address.
        packets.send(5, Transport(112), ("10.1.0.60", 0), ("224.0.0.18", 0));
        assert_eq!(silent(&farm, &packets), [""; 0]);
    }

    /// Returns the doubts of the finding that the load balancer `halb1` is silent, while `more` is
    /// in the capture.
    fn doubts_of_silence(more: impl FnOnce(&mut Packets)) -> Vec<Doubt> {
        let (farm, mut packets) = with_two(["halb1", "halb2"], ["halb", "halb"], "");
        more(&mut packets);
        let policy = policy(&farm);
        let judgement = packets.judge(&policy, &view(WATCH_S));
        let found = with_code(&judgement, Code::SilentRole);
        let mut found = found.iter();
        let of_first = |f: &&Finding| ends_of(&policy, &judgement, f)[0] == "halb1";
        found.find(of_first).expect("a finding").doubts.iter().collect()
    }

    #[test]
    fn what_may_hide_the_traffic_of_a_role_makes_its_silence_uncertain() {
        let ends = [("10.1.0.60", 0), ("10.1.0.61", 0)];
        assert_eq!(doubts_of_silence(|_| {}), []);
        let encrypted = |packets: &mut Packets| packets.send(5, Transport(50), ends[0], ends[1]);
        assert_eq!(doubts_of_silence(encrypted), [Doubt::Unread]);
        let tunnelled = |packets: &mut Packets| {
            let first = packets.len();
            packets.send(5, Transport(112), ends[0], ("224.0.0.18", 0));
            packets.tunnel(first);
        };
        assert_eq!(doubts_of_silence(tunnelled), [Doubt::Tunnel]);
    }

    #[test]
    fn a_role_is_silent_only_after_its_host_was_watched_for_ten_minutes() {
        let watch = |watched_s: u64, filtered: bool, is_seen: bool, is_source_seen: bool| {
            let mut packets = Packets::default();
            packets.connect(1, ("10.1.0.60", 50_000), ("10.1.0.61", 443));
            for second in (0..=watched_s as i64).step_by(20) {
                packets.ping(second, DC, RDSH);
                if is_source_seen {
                    packets.ping(second, DC, BROKER);
                }
            }
            if is_seen {
                packets.connect(5, (RDSH, 50_000), (DC, 389));
                packets.connect(6, (BROKER, 50_000), (DC, 389));
            }
            let view = crate::classify::CaptureConditions { filtered, ..view(watched_s) };
            let judgement = packets.judge(&policy(FARM), &view);
            let found = with_code(&judgement, Code::SilentRole);
            found
                .iter()
                .filter(|f| judgement.end(f.key.client) == &EndKey::Host(DC_1 as u32))
                .count()
        };
        // Nothing is due from a source that was not seen.
        assert_eq!(watch(WATCH_S, false, false, false), 0);
        let found = |watched_s, filtered, is_seen| watch(watched_s, filtered, is_seen, true);
        assert_eq!(found(WATCH_S, false, false), 1);
        assert_eq!(found(WATCH_S - 1, false, false), 0);
        assert_eq!(found(WATCH_S, true, false), 0);
        assert_eq!(found(WATCH_S, false, true), 0);
    }
}
