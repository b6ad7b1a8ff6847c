//! Where the inventory and the capture contradict each other: hosts that serve what only another role serves,
//! roles of which nothing shows, addresses that two hosts claim at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::coverage::Unit;
use super::expected::Assessor;
use super::filter::display_filter;
use super::finding::{End, Finding};
use super::verdict::{Code, Doubt, Doubts, Verdict};
use super::wording::service_words;
use crate::conversation::{Conversation, Grade, State, Window};
use crate::model::{Mac, SECOND};
use crate::policy::{FeatureState, Party, RoleSet, Scope, Who};

/// Seconds to be watched before a silent role means anything.
const WATCH_S: u64 = 600;
/// Rows that are shown of one role.
const SHOWN: usize = 5;
/// Hardware addresses that are shown of one address.
const CLAIMANTS: usize = 8;

impl Assessor<'_> {
    /// Looks for contradictions.
    pub(super) fn contradictions(&mut self) {
        self.mismatches();
        self.silent_roles();
        self.address_conflicts();
    }

    fn host_end(&self, host: usize) -> End {
        let entry = &self.policy.inventory.hosts[host];
        let address = entry.addresses.first().map_or_else(String::new, ToString::to_string);
        End::of(self.policy, &Party { who: Who::Host(host), roles: entry.roles }, &address)
    }

    fn contradict(&mut self, code: Code, host: usize, about: String, doubts: Doubts) -> Finding {
        let mut finding = Finding::new(code, self.host_end(host), self.host_end(host));
        finding.severity = self.judge.severity(code, true, doubts);
        finding.doubts = doubts;
        finding.certain = doubts.certain();
        finding.group = about;
        let party = Party { who: Who::Host(host), roles: self.policy.inventory.hosts[host].roles };
        finding.trace.push(self.policy.describe(&party));
        finding
    }

    /// Hosts that serve by handshake what only one other role of the product serves.
    fn mismatches(&mut self) {
        let (policy, list) = (self.policy, &self.conversations.list);
        let matrix = &policy.matrix;
        let mut served: BTreeMap<(usize, u16), Vec<usize>> = BTreeMap::new();
        for (number, (c, j)) in list.iter().zip(self.judged).enumerate() {
            let proved = c.grade == Grade::Handshake && c.state == State::Established;
            if let Who::Host(host) = j.server.who
                && proved
                && !policy.inventory.hosts[host].roles.is_empty()
            {
                served.entry((host, c.subject.port)).or_default().push(number);
            }
        }
        for ((host, port), members) in served {
            let c = &list[members[0]];
            let roles = self.serving(c);
            let own = policy.inventory.hosts[host].roles;
            // What a moved port serves is said by the inventory.
            let documented =
                members.iter().any(|n| self.judged[*n].verdict() == Verdict::Documented);
            if documented || roles.len() != 1 || roles.meets(own) {
                continue;
            }
            // A port of the product's own tells; one that everybody uses, like that of a web server, does not.
            if roles.iter().any(|role| matrix.roles[role].kind != "ras-component") {
                continue;
            }
            let service = service_words(c.subject.transport, &port.to_string());
            let mut finding = self.contradict(
                Code::RoleMismatch,
                host,
                format!("{}/{port}", c.subject.transport),
                Doubts::default(),
            );
            finding.transport = c.subject.transport.to_string();
            finding.port = port.to_string();
            for number in &members {
                finding.add(list, *number);
            }
            let (name, other) =
                (finding.client.words_with_roles(), matrix.role_titles(roles).join(", "));
            finding.message = format!("{name} serves {service}, as only {other} does");
            finding.action = format!(
                "Add the role to {} in the inventory if it plays it; else find out what listens there",
                finding.client.words()
            );
            finding.display_filter = display_filter(list, &members);
            finding.identify();
            self.findings.push(finding);
        }
    }

    /// The roles that some row lets serve a conversation's port, anybody and the host itself aside.
    fn serving(&self, c: &Conversation) -> RoleSet {
        let matrix = &self.policy.matrix;
        let rows =
            self.policy.rows_at(c.subject.transport, c.subject.port).map(|r| &matrix.rows[r]);
        let rows = rows.filter(|row| {
            let to = &matrix.roles[row.destination];
            row.scope == Scope::Network
                && row.only.is_none()
                && row.overlay.is_none()
                && !to.everybody
        });
        rows.fold(RoleSet::default(), |set, row| set.with(matrix.roles[row.destination].members))
    }

    /// Roles of hosts that were watched long enough, of which no row showed anything.
    fn silent_roles(&mut self) {
        let watch_s = self.view.watch(WATCH_S);
        let lost = self.view.loss > self.view.max_loss;
        if self.view.filtered || lost || self.view.watched_s < watch_s {
            return;
        }
        let (policy, matrix) = (self.policy, &self.policy.matrix);
        let mut shown: BTreeMap<usize, RoleSet> = BTreeMap::new();
        for (fitting, j) in self.fitting.iter().zip(self.judged) {
            for row in fitting.iter().flat_map(|fitting| &fitting.rows) {
                let row = &matrix.rows[*row];
                for (party, role) in [(&j.client, row.source), (&j.server, row.destination)] {
                    if let Who::Host(host) = party.who {
                        for holder in policy.holders(host) {
                            let roles = shown.entry(*holder).or_default();
                            *roles = roles.with(matrix.roles[role].members);
                        }
                    }
                }
            }
        }
        for host in 0..policy.inventory.hosts.len() {
            let entry = &policy.inventory.hosts[host];
            if entry.is_virtual() || !self.is_sending(Unit::Host(host)) {
                continue;
            }
            // What it should have done and did not is said already.
            let told = |f: &Finding| f.verdict == Verdict::Missing && f.client.name == entry.name;
            if self.findings.iter().any(told) {
                continue;
            }
            let certain = match self.watches(host) {
                Some(stated) => {
                    let there =
                        self.was_there_for(Unit::Host(host), self.view.watched_s.min(watch_s));
                    stated && there && !self.view.hides()
                }
                None => continue,
            };
            let seen = shown.get(&host).copied().unwrap_or_default();
            for role in entry.roles.iter().filter(|r| !seen.meets(RoleSet::one(*r))) {
                // A role that needs a feature which is off or unknown may well be silent.
                let one = RoleSet::one(role);
                let due = matrix.rows.iter().any(|row| {
                    row.is_expected()
                        && policy.feature_state(row) == FeatureState::On
                        && (matrix.is_source(row, one) || matrix.is_destination(row, one))
                });
                if !due {
                    continue;
                }
                let mut doubts = Doubts::default();
                if !certain {
                    doubts.add(Doubt::Coverage);
                }
                // In each watch time an exchange would have shown at least two frames.
                if !self.view.is_certain_after(2 * (self.view.watched_s / watch_s.max(1)).max(1)) {
                    doubts.add(Doubt::Loss);
                }
                let slug = matrix.roles[role].slug.clone();
                let mut finding = self.contradict(Code::SilentRole, host, slug, doubts);
                let of_role = matrix.rows.iter().filter(|row| {
                    row.is_expected()
                        && (matrix.is_source(row, one) || matrix.is_destination(row, one))
                });
                let ids: Vec<&str> = of_role.take(SHOWN).map(|row| row.id.as_str()).collect();
                finding.trace.push(format!("rows that would show it: {}", ids.join(", ")));
                finding.trace.push(match self.policy.inventory.covers {
                    Some(_) => "the inventory states that the capture covers the host".to_owned(),
                    None => "the capture covers the host, as its other traffic shows".to_owned(),
                });
                finding.trace.extend(self.seen(Unit::Host(host)));
                finding.trace.extend(self.unread());
                let (name, title) = (finding.client.words(), &matrix.roles[role].name);
                finding.message = format!(
                    "{name} showed nothing of the role {title} in {} s watched, though it was seen sending",
                    self.view.watched_s
                );
                finding.action = format!(
                    "Check that {name} still plays the role, and correct the inventory if not"
                );
                finding.identify();
                self.findings.push(finding);
            }
        }
    }

    /// Addresses of hosts that two hardware addresses claim in the same time.
    fn address_conflicts(&mut self) {
        let claims = &self.conversations.survey.claims;
        let mut conflicts: BTreeMap<(usize, IpAddr), BTreeSet<Mac>> = BTreeMap::new();
        for ((address, mac), claim) in claims {
            let Who::Host(host) = self.policy.party(*address, []).who else { continue };
            let is_virtual = self.policy.inventory.hosts[host].is_virtual()
                || self.conversations.holders.contains_key(address);
            let others = claims.range((*address, Mac::NONE)..=(*address, Mac::BROADCAST));
            for ((_, other), theirs) in others.filter(|((_, other), _)| other > mac) {
                let meet = match (
                    claim.first.get(),
                    claim.last.get(),
                    theirs.first.get(),
                    theirs.last.get(),
                ) {
                    (Some(a), Some(b), Some(c), Some(d)) => a <= d && c <= b,
                    _ => false,
                };
                if meet && !is_virtual {
                    conflicts.entry((host, *address)).or_default().extend([*mac, *other]);
                }
            }
        }
        for ((host, address), macs) in conflicts {
            let mut finding = self.contradict(
                Code::AddressConflict,
                host,
                address.to_string(),
                Doubts::default(),
            );
            let more = macs.len().saturating_sub(CLAIMANTS);
            let shown: Vec<String> = macs.iter().take(CLAIMANTS).map(Mac::to_string).collect();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            finding.message = format!(
                "{address} of {} is claimed by several hardware addresses in overlapping times: {}{more}",
                finding.client.words(),
                shown.join(", ")
            );
            finding.action = format!(
                "Find the host that uses {address} beside {}, or list a virtual address with held-by",
                finding.client.words()
            );
            finding.display_filter = match address {
                IpAddr::V4(_) => format!("arp.src.proto_ipv4 == {address}"),
                IpAddr::V6(_) => format!(
                    "icmpv6.nd.na.target_address == {address} || (icmpv6.type == 135 && ipv6.src == {address})"
                ),
            };
            for mac in macs.iter().take(CLAIMANTS) {
                let claim = &claims[&(address, *mac)];
                let window = Window { first: claim.first, last: claim.last };
                let seconds = window.length().unwrap_or_default() / SECOND;
                let frames = claim.frames.0;
                finding
                    .trace
                    .push(format!("{mac} claimed it in {frames} frames, over {seconds} s"));
            }
            let claimants = macs.iter().take(CLAIMANTS);
            finding.grounds.claims = claimants.map(|mac| (address, *mac)).collect();
            finding.identify();
            self.findings.push(finding);
        }
    }
}
