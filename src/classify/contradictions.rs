//! Where the inventory and the capture contradict each other: hosts that serve what only another role serves,
//! roles of which nothing shows, addresses that two hosts claim at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::coverage::Unit;
use super::expected::Assessor;
use super::expected::CLOCKS;
use super::filter::display_filter;
use super::finding::{End, Finding};
use super::verdict::{Code, Doubt, Doubts, Verdict};
use super::wording::{clock_words, service_words};
use crate::conversation::{Claimant, Conversation, Grade, State, Window};
use crate::model::{Mac, Merge as _, Nanos, SECOND};
use crate::policy::{FeatureState, Party, RoleSet, Scope, Who};

/// Seconds to be watched before a silent role means anything.
pub const WATCH_S: u64 = 600;
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
            let proved =
                c.grade == Grade::Handshake && c.state == State::Established && !c.is_doubted();
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
        let watched_s = self.view.watched.seconds_for(watch_s);
        if self.view.filtered || lost || watched_s < watch_s {
            return;
        }
        let (policy, matrix) = (self.policy, &self.policy.matrix);
        let mut shown: BTreeMap<usize, RoleSet> = BTreeMap::new();
        let conversations = self.conversations.list.iter().zip(self.judged);
        for (fitting, (c, j)) in self.fitting.iter().zip(conversations) {
            // What anybody may have made up shows no role.
            if c.is_made_up() {
                continue;
            }
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
                    let there = self.was_there_for(Unit::Host(host), watched_s.min(watch_s));
                    stated && there && !self.view.misses_a_direction()
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
                if !self.view.is_certain_after(2 * (watched_s / watch_s.max(1)).max(1)) {
                    doubts.add(Doubt::Loss);
                }
                let unread = self.unread_between(host, &[]);
                if unread.is_some() {
                    doubts.add(Doubt::Unread);
                }
                let clocks = self.conversations.survey.has_doubtful_clocks();
                if clocks {
                    doubts.add(Doubt::Clock);
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
                finding.trace.extend(unread);
                finding.trace.extend(clocks.then(|| CLOCKS.to_owned()));
                let (name, title) = (finding.client.words(), &matrix.roles[role].name);
                finding.message = format!(
                    "{name} showed nothing of the role {title} in {watched_s} s watched, though it was seen sending"
                );
                finding.action = format!(
                    "Check that {name} still plays the role, and correct the inventory if not"
                );
                finding.identify();
                self.findings.push(finding);
            }
        }
    }

    /// Addresses of hosts that two hardware addresses claim in the same ten seconds, twice, in one VLAN.
    fn address_conflicts(&mut self) {
        let claims = &self.conversations.survey.claims;
        let mut places: BTreeMap<Place, Vec<&Claimant>> = BTreeMap::new();
        for claimant in claims.keys() {
            places.entry((claimant.address, claimant.vlans)).or_default().push(claimant);
        }
        let mut conflicts: BTreeMap<(usize, IpAddr), BTreeSet<Mac>> = BTreeMap::new();
        for ((address, _), claimants) in places.iter().filter(|(_, all)| all.len() > 1) {
            let Some(host) = self.policy.host_of(*address) else { continue };
            if self.policy.inventory.hosts[host].is_virtual() {
                continue;
            }
            let strangers = self.conflicting(host, *address, claimants);
            if strangers.is_empty() {
                self.moves.extend(self.takeover(host, *address, claimants));
            } else {
                conflicts.entry((host, *address)).or_default().extend(strangers);
            }
        }
        for ((host, address), macs) in conflicts {
            let mut doubts = Doubts::default();
            // Listed hosts share it by VRRP, which the inventory does not say: somebody else may hold it too.
            let holders = self.listed_holders(host, address);
            if !holders.is_empty() {
                doubts.add(Doubt::Coverage);
            }
            let mut finding =
                self.contradict(Code::AddressConflict, host, address.to_string(), doubts);
            if !holders.is_empty() {
                let names: Vec<&str> =
                    holders.iter().map(|h| self.policy.inventory.hosts[*h].name.as_str()).collect();
                finding.trace.push(format!(
                    "{} advertised the address as virtual (VRRP), and the inventory does not list it with held-by",
                    names.join(" and ")
                ));
            }
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
                let theirs = claims.iter().filter(|(c, _)| (c.address, c.mac) == (address, *mac));
                let (mut window, mut frames) = (Window::default(), 0);
                for (_, claim) in theirs {
                    window.merge(&Window { first: claim.first, last: claim.last });
                    frames += claim.frames.0;
                }
                let seconds = window.length().unwrap_or_default() / SECOND;
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

    /// That one hardware address took an address of a host over from another that fell silent, in words.
    fn takeover(&self, host: usize, address: IpAddr, claimants: &[&Claimant]) -> Option<String> {
        let claims = &self.conversations.survey.claims;
        let entry = &self.policy.inventory.hosts[host];
        let mut all: Vec<_> = claimants
            .iter()
            .filter(|c| !c.mac.is_shared())
            .filter_map(|c| {
                let claim = &claims[*c];
                Some((claim.first.get()?, claim.last.get()?, c.mac))
            })
            .collect();
        all.sort_unstable();
        let (before, after) = all.windows(2).find_map(|pair| {
            let own = entry.macs.contains(&pair[0].2) && entry.macs.contains(&pair[1].2);
            (pair[0].1 < pair[1].0 && pair[0].2 != pair[1].2 && !own).then_some((pair[0], pair[1]))
        })?;
        Some(format!(
            "{address} of {} went from {} to {} at {}",
            entry.name,
            before.2,
            after.2,
            clock_words(after.0)
        ))
    }

    /// The hosts of the inventory that advertised an address of a host as virtual. One whose hardware addresses are
    /// listed holds its own, whoever advertises it.
    fn listed_holders(&self, host: usize, address: IpAddr) -> BTreeSet<usize> {
        if !self.policy.inventory.hosts[host].macs.is_empty() {
            return BTreeSet::new();
        }
        let holders = self.conversations.holders.get(&address);
        let holders = holders.into_iter().flat_map(|holders| holders.iter());
        holders.filter_map(|holder| self.policy.host_of(*holder)).collect()
    }

    /// The hardware addresses that claim an address of a host against each other: in the same ten seconds, in at least
    /// two of them that are ten seconds apart. Those of the host itself are one claimant, and so are those of listed
    /// holders of a virtual address; what several routers share, and proxies, claim nothing for themselves.
    fn conflicting(&self, host: usize, address: IpAddr, claimants: &[&Claimant]) -> BTreeSet<Mac> {
        let inventory = &self.policy.inventory;
        let holders = self.listed_holders(host, address);
        let mac_is_of = |mac: Mac, number: usize| {
            inventory.hosts[number].macs.contains(&mac)
                || inventory.hosts[number].addresses.iter().any(|own| {
                    *own != address
                        && self
                            .conversations
                            .survey
                            .presence(*own)
                            .is_some_and(|seen| seen.macs.contains(&mac))
                })
        };
        let answers = |number: &usize| {
            inventory.hosts[*number].answers_arp_for.iter().any(|net| net.contains(&address))
        };
        let proxies: Vec<usize> = (0..inventory.hosts.len()).filter(answers).collect();
        let is_own = |mac: Mac| {
            inventory.hosts[host].macs.contains(&mac)
                || holders.iter().any(|holder| mac_is_of(mac, *holder))
        };
        let is_proxy =
            |mac: Mac| mac.is_shared() || proxies.iter().any(|number| mac_is_of(mac, *number));
        let claims = &self.conversations.survey.claims;
        // Slots of ten seconds, a bit each: those of somebody, and those of a second one.
        let (mut once, mut twice) = (BTreeMap::<Nanos, u64>::new(), BTreeMap::<Nanos, u64>::new());
        let mut own = BTreeMap::<Nanos, u64>::new();
        let others: Vec<&&Claimant> = claimants
            .iter()
            .filter(|c| {
                let is_own = is_own(c.mac);
                if is_own {
                    for (word, slots) in &claims[**c].slots {
                        *own.entry(*word).or_default() |= slots;
                    }
                }
                !is_own && !is_proxy(c.mac)
            })
            .collect();
        let all = others.iter().map(|c| &claims[**c].slots).chain([&own]);
        for (word, slots) in all.flatten() {
            let seen = once.entry(*word).or_default();
            *twice.entry(*word).or_default() |= *seen & slots;
            *seen |= slots;
        }
        let slots = twice.values().map(|slots| slots.count_ones()).sum::<u32>();
        // Two different slots begin at least ten seconds apart.
        if slots < 2 {
            return BTreeSet::new();
        }
        let meets = |claimant: &Claimant| {
            let theirs = &claims[claimant].slots;
            theirs.iter().any(|(word, slots)| twice.get(word).is_some_and(|both| both & slots != 0))
        };
        let own_macs = claimants.iter().filter(|c| is_own(c.mac)).map(|c| c.mac);
        let meeting: Vec<&&Claimant> = others.into_iter().filter(|c| meets(c)).collect();
        // Each of them against each, as far as there are few: one that takes over meets the last one, once.
        let parties = meeting.iter().map(|c| &claims[**c].slots).chain([&own]);
        let parties: Vec<&BTreeMap<Nanos, u64>> = parties.collect();
        let common = |a: &BTreeMap<Nanos, u64>, b: &BTreeMap<Nanos, u64>| -> u32 {
            let both = a.iter().filter_map(|(word, slots)| Some(slots & b.get(word)?));
            both.map(u64::count_ones).sum()
        };
        let conflicts = |party: usize| {
            parties.len() > MANY_CLAIMANTS
                || (0..parties.len())
                    .any(|other| other != party && common(parties[party], parties[other]) >= 2)
        };
        let mut macs = BTreeSet::new();
        for (number, claimant) in meeting.iter().enumerate() {
            if conflicts(number) {
                macs.insert(claimant.mac);
            }
        }
        if conflicts(meeting.len()) {
            macs.extend(own_macs);
        }
        macs
    }
}

/// Claimants of one address beyond which it no longer matters who met whom.
const MANY_CLAIMANTS: usize = 64;

/// An address in the VLANs where it was claimed.
type Place = (IpAddr, [u16; 2]);
