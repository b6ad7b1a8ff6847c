//! Addresses that several hardware addresses claim at the same time or in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::clock_words;
use super::expected::Assessor;
use super::finding::{Conflict, HarmlessCause, Reason};
use super::verdict::{Code, Doubt, Doubts};
use crate::conversation::{AddressBinding, ServiceKey};
use crate::model::{Mac, Nanos};

impl<'a> Assessor<'a> {
    /// Adds a finding for each host address that several hardware addresses claim at once or in
    /// turn in one VLAN. If the address merely moved to another hardware address, or was claimed by
    /// another one only a few times, this is only described. A virtual address may be claimed by
    /// its holders.
    pub(super) fn address_conflicts(&mut self) {
        let mut conflicts: BTreeMap<(usize, IpAddr), Contest> = BTreeMap::new();
        for ((host, address, _), claimants) in &self.claim_places() {
            let host = *host;
            let is_virtual = self.policy.inventory.hosts[host].is_virtual();
            let mut contest = Contest::default();
            // Claims by a holder with an unknown hardware address do not contradict anything.
            if !is_virtual || self.knows_macs_of_holders(host, *address) {
                contest.merge(self.contest(host, *address, claimants));
            }
            if is_virtual {
                contest.merge(self.usurpers(host, *address, claimants));
            }
            if !contest.macs.is_empty() {
                conflicts.entry((host, *address)).or_default().merge(contest);
            } else if self.may_have_met_unseen(host, *address, claimants) {
                let name = &self.policy.inventory.hosts[host].name;
                self.forgotten_claims.insert(*address, format!("{address} of {name}"));
            } else if !is_virtual && let Some(words) = self.takeover(host, *address, claimants) {
                self.moves.entry(*address).or_insert(words);
            }
        }
        for (_, address) in conflicts.keys() {
            self.forgotten_claims.remove(address);
        }
        let proxies = self.local_proxies(&conflicts);
        let steady = self.steady_addresses(conflicts.keys().map(|(_, address)| *address).collect());
        for ((host, address), contest) in conflicts {
            let is_virtual = self.policy.inventory.hosts[host].is_virtual();
            let mut doubts = Doubts::default();
            // If listed hosts advertised the address with VRRP although the inventory does not list
            // it as virtual, the claimants may be its holders.
            let advertisers =
                if is_virtual { BTreeSet::new() } else { self.listed_holders(host, address) };
            let router = |mac: Mac| {
                let routers = self.conversations.index.gateways();
                let proxy = proxies.contains(&mac).then_some(HarmlessCause::Proxy(mac));
                routers.contains(&mac).then_some(HarmlessCause::Router(mac)).or(proxy)
            };
            let may_be_team = || {
                !is_virtual && steady.contains(&address) && self.may_be_team(address, &contest.macs)
            };
            let harmless_cause = self
                .harmless_cause(host, address, &contest.macs, router)
                .or_else(|| may_be_team().then_some(HarmlessCause::CardsOfTeam));
            if !advertisers.is_empty() || !contest.is_certain || harmless_cause.is_some() {
                doubts.add(Doubt::Coverage);
            }
            let number = self.book.borrow().conflicts.len() as u32;
            let reason = Reason::Conflict(number);
            let finding = self.contradict(Code::AddressConflict, host, None, reason, doubts);
            let mut book = self.book.borrow_mut();
            let conflict = Conflict {
                address,
                macs: contest.macs,
                holders: advertisers,
                is_virtual,
                in_turn: !contest.has_met,
                is_repeated: contest.is_certain,
                harmless_cause,
            };
            book.conflicts.push(conflict);
            book.findings.push(finding);
        }
    }

    /// Returns the hosts whose addresses another machine may have used, so that traffic from these
    /// addresses does not show that the host was running: another hardware address also claimed an
    /// address, or one did that the inventory does not list for the host although it lists others.
    pub(super) fn replaced_hosts(&self) -> BTreeSet<usize> {
        let mut replaced = BTreeSet::new();
        for ((host, address, _), claimants) in self.claim_places() {
            let entry = &self.policy.inventory.hosts[host];
            let is_foreign = |c: &&AddressBinding| {
                !entry.macs.is_empty()
                    && !entry.macs.contains(&c.mac)
                    && !self.is_proxy(c.mac, host, address)
            };
            if !entry.is_virtual()
                && (claimants.iter().any(is_foreign)
                    || self.takeover(host, address, &claimants).is_some())
            {
                replaced.insert(host);
            }
        }
        replaced
    }

    /// Returns the claimants of each address of a host in each VLAN.
    fn claim_places(&self) -> BTreeMap<ClaimPlace, Vec<&'a AddressBinding>> {
        let mut places: BTreeMap<ClaimPlace, Vec<&AddressBinding>> = BTreeMap::new();
        for claimant in self.conversations.index.claims.keys() {
            if let Some(host) = self.policy.host_of(claimant.address) {
                let place = (host, claimant.address, claimant.vlans);
                places.entry(place).or_default().push(claimant);
            }
        }
        places
    }

    /// Returns whether two claimants of an address may have met at times that were not kept: one of
    /// them claimed the address while the times of the other were dropped. Claimants that cannot
    /// contradict each other, as described at [`Self::contest`], do not count.
    fn may_have_met_unseen(
        &self,
        host: usize,
        address: IpAddr,
        claimants: &[&AddressBinding],
    ) -> bool {
        let claims = &self.conversations.index.claims;
        let dropped = |c: &AddressBinding| claims[c].dropped_words();
        if claimants.len() < 2 || claimants.iter().all(|c| dropped(c).is_none()) {
            return false;
        }
        let holders = self.listed_holders(host, address);
        let is_own = |c: &AddressBinding| self.is_own(c.mac, host, address, &holders);
        let rivals: Vec<(&AddressBinding, bool)> = claimants
            .iter()
            .map(|c| (*c, is_own(c)))
            .filter(|(c, is_own)| *is_own || !self.is_proxy(c.mac, host, address))
            .collect();
        let with_gap = rivals.iter().filter_map(|(c, is_own)| Some((c, *is_own, dropped(c)?)));
        with_gap.into_iter().any(|(one, one_is_own, gap)| {
            rivals.iter().any(|(other, other_is_own)| {
                let claimed = || claims[*other].slots.range(gap.clone()).next().is_some();
                let dropped_too = || {
                    dropped(other)
                        .is_some_and(|their| their.start.max(gap.start) < their.end.min(gap.end))
                };
                one != other && !(one_is_own && *other_is_own) && (claimed() || dropped_too())
            })
        })
    }

    /// Returns what explains the claims of an address by several hardware addresses without a
    /// second host; `None` if two of them are neither cards of the host nor those of a router.
    fn harmless_cause(
        &self,
        host: usize,
        address: IpAddr,
        macs: &BTreeSet<Mac>,
        router: impl Fn(Mac) -> Option<HarmlessCause>,
    ) -> Option<HarmlessCause> {
        if self.policy.inventory.hosts[host].is_virtual() {
            return None;
        }
        if macs.iter().all(|mac| self.mac_is_of(*mac, host, address)) {
            return Some(HarmlessCause::CardsOfHost);
        }
        if macs.iter().all(|mac| self.conversations.index.is_card(address, *mac)) {
            return Some(HarmlessCause::CardsOfConnection);
        }
        let routers: Vec<HarmlessCause> = macs.iter().filter_map(|mac| router(*mac)).collect();
        let others = macs.len() - routers.len();
        routers.first().copied().filter(|_| others < 2)
    }

    /// Returns whether an address may have sent frames from all of these hardware addresses with
    /// the same hop count, as the cards of one host do.
    fn may_be_team(&self, address: IpAddr, macs: &BTreeSet<Mac>) -> bool {
        let Some(presence) = self.conversations.index.presence(address) else { return false };
        let known = |mac: &Mac| presence.ttls_at(*mac).collect::<BTreeSet<u8>>();
        // If too many hop counts were seen, those of a hardware address are not known.
        let ttls = macs.iter().map(known).filter(|ttls| !ttls.is_empty() || !presence.lacks_ttls());
        let common = ttls.reduce(|common, other| &common & &other);
        !self.conversations.index.is_reset_by_two(address)
            && common.is_none_or(|common| !common.is_empty())
    }

    /// Returns the addresses of some hosts that were reached, and at which no service both worked
    /// and was refused. Two hosts with one address receive each other's packets and reset them, so
    /// connections to the same service sometimes work and are sometimes refused. A connection that
    /// gets no answer shows nothing, because a firewall may block a single client.
    fn steady_addresses(&self, addresses: BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        if addresses.is_empty() {
            return addresses;
        }
        let mut reached = BTreeSet::new();
        let mut refused = BTreeSet::new();
        for c in &self.conversations.list {
            let ServiceKey { server, transport, port, .. } = c.subject;
            if addresses.contains(&server) && !c.is_made_up() {
                let service = (server, transport, port);
                reached.extend(c.state.reached().then_some(service));
                refused.extend(c.was_refused().then_some(service));
            }
        }
        let troubled: BTreeSet<IpAddr> = reached.intersection(&refused).map(|own| own.0).collect();
        let reached = reached.into_iter().map(|own| own.0);
        reached.filter(|address| !troubled.contains(address)).collect()
    }

    /// Returns the hardware addresses that are in conflict with several hosts about their
    /// addresses, so that they may belong to a device that answers for a whole network. A hardware
    /// address of a listed host with roles does not count: the inventory states whether such a host
    /// answers for others.
    fn local_proxies(&self, conflicts: &BTreeMap<(usize, IpAddr), Contest>) -> BTreeSet<Mac> {
        let mut rivals: BTreeMap<Mac, BTreeSet<usize>> = BTreeMap::new();
        for ((host, _), contest) in conflicts {
            for mac in &contest.macs {
                rivals.entry(*mac).or_default().insert(*host);
            }
        }
        let hosts = &self.policy.inventory.hosts;
        rivals.retain(|mac, rivals| {
            rivals.len() > 1 && !hosts.iter().any(|host| host.macs.contains(mac))
        });
        for AddressBinding { address, mac, .. } in self.conversations.index.claims.keys() {
            let owner = self.policy.host_of(*address).filter(|host| !hosts[*host].roles.is_empty());
            let presence = self.conversations.index.presence(*address).filter(|_| owner.is_some());
            if presence.is_some_and(|seen| seen.macs.iter().all(|own| own == mac)) {
                rivals.remove(mac);
            }
        }
        rivals.into_keys().collect()
    }

    /// Describes how a host's address moved to another hardware address, or was claimed by another
    /// one as well. Returns `None` if only one hardware address claimed it, or only those of the
    /// host.
    fn takeover(
        &self,
        host: usize,
        address: IpAddr,
        claimants: &[&AddressBinding],
    ) -> Option<String> {
        let claims = &self.conversations.index.claims;
        let name = &self.policy.inventory.hosts[host].name;
        let mut all: Vec<_> = claimants
            .iter()
            .filter(|c| !self.is_proxy(c.mac, host, address))
            .filter_map(|c| {
                let claim = &claims[*c];
                Some((claim.first.get()?, claim.last.get()?, c.mac))
            })
            .collect();
        all.sort_unstable();
        let is_harmless =
            |both: [Mac; 2]| self.harmless_cause(host, address, &both.into(), |_| None).is_some();
        let (before, after) = all.windows(2).find_map(|pair| {
            let both = [pair[0].2, pair[1].2];
            (both[0] != both[1] && !is_harmless(both)).then_some((pair[0], pair[1]))
        })?;
        let (earlier, later, time) = (before.2, after.2, clock_words(after.0));
        Some(if before.1 < after.0 {
            format!("{address} of {name} moved from {earlier} to {later} at {time} UTC")
        } else {
            format!(
                "{address} of {name} was claimed by {earlier}, and from {time} UTC also by {later}"
            )
        })
    }

    /// Returns the hosts that may claim an address of a host as virtual: the holders of a virtual
    /// address, or the listed hosts that advertised the address as virtual (VRRP). If the hardware
    /// addresses of a host that is not virtual are listed, no host is returned, because the host
    /// holds its own address.
    fn listed_holders(&self, host: usize, address: IpAddr) -> BTreeSet<usize> {
        if self.policy.inventory.hosts[host].is_virtual() {
            return self.policy.holders(host).iter().copied().collect();
        }
        if !self.policy.inventory.hosts[host].macs.is_empty() {
            return BTreeSet::new();
        }
        let holders = self.conversations.vrrp_masters.get(&address);
        let holders = holders.into_iter().flat_map(|holders| holders.iter());
        holders.filter_map(|holder| self.policy.host_of(*holder)).collect()
    }

    /// Returns whether a hardware address belongs to a host, because it is listed or because frames
    /// from another address of the host came from it.
    fn mac_is_of(&self, mac: Mac, number: usize, address: IpAddr) -> bool {
        let host = &self.policy.inventory.hosts[number];
        let mut others = host.addresses.iter().filter(|own| **own != address);
        host.macs.contains(&mac)
            || others.any(|own| {
                let presence = self.conversations.index.presence(*own);
                presence.is_some_and(|seen| seen.macs.contains(&mac))
            })
    }

    /// Returns whether a hardware address may claim an address without being a claimant: several
    /// routers share it, or a host that answers ARP for others has it. A shared hardware address is
    /// a claimant of a virtual address that only unlisted hosts advertise (VRRP).
    fn is_proxy(&self, mac: Mac, host: usize, address: IpAddr) -> bool {
        let inventory = &self.policy.inventory;
        let masters = self.conversations.vrrp_masters.get(&address);
        let is_unlisted = |master: &IpAddr| self.policy.host_of(*master).is_none();
        let is_usurped = inventory.hosts[host].is_virtual()
            && masters.is_some_and(|masters| masters.iter().all(is_unlisted));
        if mac.is_shared() && !is_usurped {
            return true;
        }
        let mut proxies =
            inventory.hosts.iter().enumerate().filter(|(_, proxy)| {
                proxy.answers_arp_for.iter().any(|net| net.contains(&address))
            });
        proxies.any(|(number, _)| self.mac_is_of(mac, number, address))
    }

    /// Returns whether a hardware address belongs to a host or to a holder of its address.
    fn is_own(&self, mac: Mac, host: usize, address: IpAddr, holders: &BTreeSet<usize>) -> bool {
        self.policy.inventory.hosts[host].macs.contains(&mac)
            || holders.iter().any(|holder| self.mac_is_of(mac, *holder, address))
    }

    /// Returns the hardware addresses that claim a virtual address although they belong to none of
    /// its holders, if an unlisted host advertised the address (VRRP). Then the holders may give
    /// way, so that the claims never meet.
    fn usurpers(&self, host: usize, address: IpAddr, claimants: &[&AddressBinding]) -> Contest {
        let holders = self.listed_holders(host, address);
        let masters = self.conversations.vrrp_masters.get(&address).into_iter();
        let masters = masters.flat_map(|all| all.iter());
        let unlisted: Vec<&IpAddr> =
            masters.filter(|master| self.policy.host_of(**master).is_none()).collect();
        if unlisted.is_empty() {
            return Contest::default();
        }
        let macs = claimants.iter().map(|c| c.mac).filter(|mac| {
            !self.is_own(*mac, host, address, &holders) && !self.is_proxy(*mac, host, address)
        });
        let macs: BTreeSet<Mac> = macs.collect();
        // If the hardware address of a holder is not known, it may be one of these, unless frames
        // from an unlisted advertiser came from it.
        let is_of_unlisted = |mac: &Mac| {
            let mut seen = unlisted.iter().filter_map(|a| self.conversations.index.presence(**a));
            seen.any(|seen| seen.macs.contains(mac))
        };
        let is_certain =
            self.knows_macs_of_holders(host, address) || macs.iter().all(is_of_unlisted);
        Contest { macs, has_met: true, is_certain }
    }

    /// Returns whether a hardware address of each holder of a virtual address is known.
    fn knows_macs_of_holders(&self, host: usize, address: IpAddr) -> bool {
        self.policy.holders(host).iter().all(|holder| {
            let holder = &self.policy.inventory.hosts[*holder];
            let mut others = holder.addresses.iter().filter(|own| **own != address);
            !holder.macs.is_empty()
                || others.any(|own| {
                    let presence = self.conversations.index.presence(*own);
                    presence.is_some_and(|seen| seen.macs.iter().next().is_some())
                })
        })
    }

    /// Returns the hardware addresses that contradict each other about an address of a host,
    /// because they claim it repeatedly in the same slots of ten seconds, or in turn.
    ///
    /// The hardware addresses of the host itself and of listed holders of a virtual address
    /// together count as one claimant. Hardware addresses that several routers share, and those of
    /// hosts that answer ARP for others, are not claimants.
    fn contest(&self, host: usize, address: IpAddr, claimants: &[&AddressBinding]) -> Contest {
        let mut contest = Contest::default();
        if claimants.len() < 2 {
            return contest;
        }
        let claims = &self.conversations.index.claims;
        let holders = self.listed_holders(host, address);
        let (own, others): (Vec<&AddressBinding>, Vec<&AddressBinding>) =
            claimants.iter().partition(|c| self.is_own(c.mac, host, address, &holders));
        let mut own_slots = Slots::new();
        for (word, slots) in own.iter().flat_map(|c| &claims[*c].slots) {
            *own_slots.entry(*word).or_default() |= slots;
        }
        let others: Vec<&AddressBinding> =
            others.into_iter().filter(|c| !self.is_proxy(c.mac, host, address)).collect();
        let mut parties: Vec<&Slots> = others.iter().map(|c| &claims[*c].slots).collect();
        parties.push(&own_slots);
        let met_all = slots_of_several(&parties);
        let none = Slots::new();
        let is_virtual = self.policy.inventory.hosts[host].is_virtual();
        for (number, party) in parties.iter().enumerate() {
            let mut found: Vec<Rivalry> = if is_virtual {
                // A holder may use another card for the virtual address. Such cards only contradict
                // a known hardware address of a holder.
                vec![Rivalry::of(party, if number < others.len() { &own_slots } else { &none })]
            } else if parties.len() > MANY_CLAIMANTS {
                vec![Rivalry::with_any(party, &met_all)]
            } else {
                let rivals = (0..parties.len()).filter(|rival| *rival != number);
                rivals.map(|rival| Rivalry::of(party, parties[rival])).collect()
            };
            found.retain(|found| found.is_conflict());
            if found.is_empty() {
                continue;
            }
            contest.has_met |= found.iter().any(|found| found.meetings >= MEETINGS);
            contest.is_certain |= found.iter().any(|found| found.is_certain());
            match others.get(number) {
                Some(claimant) => drop(contest.macs.insert(claimant.mac)),
                None => contest.macs.extend(own.iter().map(|c| c.mac)),
            }
        }
        contest
    }
}

/// The ten-second slots with claims: one bit per slot, 64 slots per word.
type Slots = BTreeMap<Nanos, u64>;

/// Returns the slots in which at least two parties claimed the address.
fn slots_of_several(parties: &[&Slots]) -> Slots {
    let mut once = Slots::new();
    let mut several = Slots::new();
    for (word, slots) in parties.iter().flat_map(|slots| slots.iter()) {
        let seen = once.entry(*word).or_default();
        *several.entry(*word).or_default() |= *seen & slots;
        *seen |= slots;
    }
    several
}

/// The hardware addresses that contradict each other about one address.
#[derive(Default)]
struct Contest {
    macs: BTreeSet<Mac>,
    /// Whether they claimed the address in the same slots. Otherwise, they claimed it in turn.
    has_met: bool,
    /// Whether this happened so often that it cannot be a takeover.
    is_certain: bool,
}

impl Contest {
    fn merge(&mut self, other: Self) {
        if other.macs.is_empty() {
            return;
        }
        self.macs.extend(other.macs);
        self.has_met |= other.has_met;
        self.is_certain |= other.is_certain;
    }
}

/// How often two claimants of an address contradicted each other.
#[derive(Clone, Copy, Default)]
struct Rivalry {
    /// The number of slots in which both claimed the address.
    meetings: u32,
    /// The number of times that the claims changed from one to the other within
    /// [`CHANGE_SLOTS`].
    changes: u32,
}

impl Rivalry {
    /// Compares a claimant with many others, given the slots in which several claimants met. If the
    /// claimant shares one of them, all of them count.
    fn with_any(party: &Slots, several: &Slots) -> Self {
        let is_shared = party
            .iter()
            .any(|(word, slots)| several.get(word).is_some_and(|others| others & slots != 0));
        let meetings = several.values().map(|slots| slots.count_ones()).sum();
        Self { meetings: if is_shared { meetings } else { 0 }, changes: 0 }
    }

    /// Compares two claimants.
    fn of(a: &Slots, b: &Slots) -> Self {
        let mut found = Self::default();
        let mut last: Option<(bool, Nanos)> = None;
        let words: BTreeSet<&Nanos> = a.keys().chain(b.keys()).collect();
        for word in words {
            let [a, b] = [a, b].map(|slots| slots.get(word).copied().unwrap_or_default());
            found.meetings += (a & b).count_ones();
            if found.is_certain() {
                return found;
            }
            let mut rest = a ^ b;
            while rest != 0 {
                let bit = rest.trailing_zeros();
                rest &= rest - 1;
                let is_a = a >> bit & 1 == 1;
                let slot = word.saturating_mul(64).saturating_add(Nanos::from(bit));
                if last.is_some_and(|(was_a, before)| {
                    was_a != is_a && slot.saturating_sub(before) <= CHANGE_SLOTS
                }) {
                    found.changes += 1;
                }
                last = Some((is_a, slot));
            }
        }
        found
    }

    /// Returns whether this is more than a takeover. A takeover may put both claimants into one
    /// slot, and may be undone.
    fn is_conflict(self) -> bool {
        self.meetings >= MEETINGS || self.changes >= CHANGES
    }

    /// Returns whether this is also more than an address that was taken over several times.
    fn is_certain(self) -> bool {
        self.meetings > MEETINGS || self.changes >= 2 * CHANGES
    }
}

/// The minimum number of slots that two claimants have to share for a conflict.
const MEETINGS: u32 = 2;

/// The minimum number of times that an address has to change between two claimants for a conflict,
/// if they share fewer than [`MEETINGS`] slots.
const CHANGES: u32 = 6;

/// The maximum number of slots between two claims that count as a change.
const CHANGE_SLOTS: Nanos = 30;

/// The maximum number of claimants of one address that are compared with each other. If there are
/// more, each is compared only with the slots in which any of them met.
const MANY_CLAIMANTS: usize = 64;

/// A host, its address, and the VLANs in which the address was claimed.
type ClaimPlace = (usize, IpAddr, [u16; 2]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Judgement;
    use crate::classify::sample::{BROKER, FARM, Packets, policy, view, with_code};

    const A: Mac = Mac([2, 0, 0, 0, 0, 0xa]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 0xb]);

    /// Judges a capture with these claims to the broker's address (time in seconds, hardware
    /// address, VLAN).
    fn judge(farm: &str, claims: &[(i64, Mac, u32)]) -> Judgement {
        let mut packets = Packets::default();
        for (time_s, mac, vlan) in claims {
            packets.claim(*time_s, BROKER, *mac, *vlan);
        }
        packets.judge(&policy(farm), &view(120))
    }

    /// Returns the hardware addresses in conflict, and the descriptions of takeovers, in a capture
    /// with these claims.
    fn conflict(farm: &str, claims: &[(i64, Mac, u32)]) -> (Vec<Mac>, Vec<String>) {
        let judgement = judge(farm, claims);
        let found = with_code(&judgement, Code::AddressConflict);
        let macs = found.iter().flat_map(|finding| judgement.address_claims_of(finding));
        let moves = judgement.moves.values().cloned().collect();
        (macs.map(|(_, mac)| mac).collect(), moves)
    }

    #[test]
    fn two_claimants_that_meet_twice_are_in_conflict() {
        let twice = [(0, A, 0), (1, B, 0), (20, A, 0), (21, B, 0)];
        assert_eq!(conflict(FARM, &twice).0, [A, B]);
        // A single slot with both claimants may be a takeover, and two VLANs are two networks.
        let once = [(0, A, 0), (1, B, 0), (20, A, 0), (41, B, 0)];
        assert_eq!(conflict(FARM, &once).0, []);
        let elsewhere = [(0, A, 1), (1, B, 2), (20, A, 1), (21, B, 2)];
        assert_eq!(conflict(FARM, &elsewhere).0, []);
        let same = twice.map(|(time_s, _, vlan)| (time_s, A, vlan));
        assert_eq!(conflict(FARM, &same).0, []);
    }

    #[test]
    fn shared_and_listed_hardware_addresses_are_not_in_conflict() {
        let router = Mac([0, 0, 0x5e, 0, 1, 9]);
        let shared = [(0, A, 0), (1, router, 0), (20, A, 0), (21, router, 0)];
        assert_eq!(conflict(FARM, &shared).0, []);
        let listed = |macs: &str| {
            FARM.replace("name = \"broker1\"", &format!("name = \"broker1\"\nmacs = [{macs}]"))
        };
        let twice = [(0, A, 0), (1, B, 0), (20, A, 0), (21, B, 0)];
        let both = listed("\"02:00:00:00:00:0a\", \"02:00:00:00:00:0b\"");
        assert_eq!(conflict(&both, &twice).0, []);
        assert_eq!(conflict(&listed("\"02:00:00:00:00:0a\""), &twice).0, [A, B]);
    }

    #[test]
    fn an_address_that_moved_once_is_described_and_is_no_conflict() {
        let (macs, moves) = conflict(FARM, &[(0, A, 0), (5, A, 0), (40, B, 0), (60, B, 0)]);
        assert_eq!(macs, []);
        let [text] = &moves[..] else { panic!("{moves:?}") };
        let start = "10.1.0.10 of broker1 moved from 02:00:00:00:00:0a to 02:00:00:00:00:0b at ";
        assert!(text.starts_with(start), "{text}");
        // A single claim in between does not make a conflict, either.
        let (macs, moves) = conflict(FARM, &[(0, A, 0), (40, B, 0), (60, A, 0)]);
        assert_eq!(macs, []);
        let [text] = &moves[..] else { panic!("{moves:?}") };
        let words = "was claimed by 02:00:00:00:00:0a, and from ";
        assert!(text.contains(words) && text.ends_with(" also by 02:00:00:00:00:0b"), "{text}");
    }

    #[test]
    fn a_conflict_at_the_end_of_a_long_capture_is_found_as_one_at_its_start() {
        let hours = |from: i64, to: i64, every_s: i64, mac: Mac| {
            let times = (from * 3600..to * 3600).step_by(every_s as usize);
            times.map(move |time_s| (time_s, mac, 0))
        };
        // The owner claims the address for twenty days, and another machine for an hour.
        let judged = |start: i64| {
            let mut claims: Vec<_> = hours(0, 480, 600, A).collect();
            claims.extend(hours(start, start + 1, 30, A));
            claims.extend(hours(start, start + 1, 30, B));
            judge(FARM, &claims)
        };
        for start in [24, 400] {
            let judgement = judged(start);
            assert_eq!(with_code(&judgement, Code::AddressConflict).len(), 1, "{start}");
            assert!(judgement.forgotten_claims.is_empty(), "{start}");
        }
        // The times of the owner's claims in the middle are not kept, and the report says so.
        let judgement = judged(240);
        assert!(with_code(&judgement, Code::AddressConflict).is_empty());
        let forgotten: Vec<_> = judgement.forgotten_claims.values().collect();
        assert_eq!(forgotten, ["10.1.0.10 of broker1"]);
        // Without another machine, nothing can have been missed.
        let alone = judge(FARM, &hours(0, 480, 600, A).collect::<Vec<_>>());
        assert!(alone.forgotten_claims.is_empty());
        let both = FARM.replace(
            "name = \"broker1\"",
            "name = \"broker1\"\nmacs = [\"02:00:00:00:00:0a\", \"02:00:00:00:00:0b\"]",
        );
        let own: Vec<_> = hours(0, 480, 600, A).chain(hours(240, 241, 30, B)).collect();
        assert!(judge(&both, &own).forgotten_claims.is_empty());
    }
}
