//! A first inventory from the traffic alone: which addresses are one host, what each serves, which networks hold
//! clients, and which roles would fit by the matrix. Every guess carries what it rests on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::fold::prefix_of;
use super::wording::service_words;
use crate::conversation::{Conversation, Conversations, State};
use crate::model::{Mac, Transport, is_link_local};
use crate::policy::{Inventory, Matrix, Only, Policy, RoleSet, Scope};

/// How often the roles of hosts and of their peers are weighed against each other.
const ROUNDS: usize = 6;
/// From so many roles for which the same speaks none is proposed any more.
const ALIKE: usize = 3;
/// The most roles that one host is given.
const MOST_ROLES: usize = 4;
/// From so many clients in one network it is listed as a network.
const CLIENTS: usize = 2;

/// A farm as its traffic shows it.
pub struct Draft {
    /// The hosts, by address.
    pub hosts: Vec<DraftHost>,
    /// Networks of clients, with how many were seen in each.
    pub networks: Vec<(IpNet, usize)>,
    /// Addresses outside that served somebody.
    pub outside: Vec<Outside>,
    /// Addresses outside that opened something inside.
    pub from_outside: usize,
    /// Features without which some of the traffic would not be documented, with an example.
    pub features: BTreeMap<String, String>,
}

/// A server outside.
pub struct Outside {
    /// Its address.
    pub address: IpAddr,
    /// The names by which it was known.
    pub names: Vec<String>,
    /// How it was used, and by whom.
    pub uses: Vec<String>,
    /// The role that its name has in the rules, if one has.
    pub role: Option<usize>,
}

/// A host as its traffic shows it.
pub struct DraftHost {
    /// Its name, as a lookup told it, else made from its address.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The hardware address that joins them, where one does.
    pub mac: Option<Mac>,
    /// What it serves, as handshakes and answers show, with the number of clients.
    pub serves: BTreeMap<(Transport, u16), usize>,
    /// The roles that it seems to play.
    pub roles: Vec<Guess>,
    /// A role that too little speaks for.
    pub perhaps: Option<Guess>,
    /// What none of its roles explains.
    pub unexplained: Vec<String>,
    /// The hosts that hold it, where it is a virtual address.
    pub held_by: Vec<String>,
}

/// A role that a host may play.
pub struct Guess {
    /// The role's number.
    pub role: usize,
    /// Roles for which the same speaks; the first of all in the matrix's order is proposed.
    pub or: Vec<usize>,
    /// What speaks for it, the most telling first.
    pub evidence: Vec<String>,
}

/// A host before it has roles.
struct Entity {
    addresses: BTreeSet<IpAddr>,
    mac: Option<Mac>,
    held_by: BTreeSet<usize>,
}

/// Something that a host did or serves, and the roles that would do so.
struct Item {
    fits: RoleSet,
    words: String,
}

/// What the items of an entity come to.
struct Weighed {
    /// The roles that explain most of them, those that would show the same among them.
    roles: RoleSet,
    guesses: Vec<Guess>,
    perhaps: Option<Guess>,
    unexplained: Vec<String>,
}

/// Whether a hardware address is its host's own, not one that moves with a virtual address (RFC 9568, 7.3).
fn is_own(mac: &Mac) -> bool {
    !matches!(mac.0, [0, 0, 0x5e, 0, 1 | 2, _])
}

/// Who is inside, where nobody said so: private and unique-local addresses.
fn is_inside(policy: &Policy, address: IpAddr) -> bool {
    !address.is_multicast()
        && !address.is_loopback()
        && !address.is_unspecified()
        && !is_link_local(address)
        && !policy.is_everybody(address)
        && policy.is_internal(address)
}

impl Draft {
    /// Drafts a farm from conversations that nobody judged.
    pub fn of(matrix: &Matrix, conversations: &Conversations) -> Self {
        let inside = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
        let internal = inside.iter().filter_map(|net| net.parse().ok()).collect();
        let policy = Policy::new(matrix.clone(), Inventory { internal, ..Inventory::default() });
        let mut drafter = Drafter {
            policy: &policy,
            conversations,
            entities: Vec::new(),
            of_address: BTreeMap::new(),
            by_name: BTreeMap::new(),
            roles: Vec::new(),
        };
        for (address, names) in &conversations.called {
            for name in names.iter() {
                drafter.by_name.entry(name.clone()).or_default().insert(*address);
            }
        }
        drafter.join();
        drafter.roles = vec![RoleSet::default(); drafter.entities.len()];
        for _ in 0..ROUNDS {
            // All at once, by what was thought of the others the round before.
            let roles = drafter.items().into_iter().map(|items| drafter.weigh(items).roles);
            drafter.roles = roles.collect();
        }
        drafter.draft()
    }
}

struct Drafter<'a> {
    policy: &'a Policy,
    conversations: &'a Conversations,
    entities: Vec<Entity>,
    of_address: BTreeMap<IpAddr, usize>,
    /// The addresses that each name was looked up for.
    by_name: BTreeMap<String, BTreeSet<IpAddr>>,
    /// What each entity is taken for so far.
    roles: Vec<RoleSet>,
}

impl<'a> Drafter<'a> {
    fn matrix(&self) -> &'a Matrix {
        &self.policy.matrix
    }

    /// Sorts addresses into hosts. An IPv4 address and some of IPv6 are one host where they show one and the same
    /// hardware address, which shows no other of IPv4, and none of their packets has passed a router; or where one
    /// name was looked up for one of each. Otherwise they stay apart.
    fn join(&mut self) {
        let presences = self.conversations.survey.presences();
        let spoke =
            |p: &crate::conversation::Presence| p.unicast_sent.0 > 0 || p.sent.packets.0 > 0;
        let addresses: BTreeMap<IpAddr, BTreeSet<Mac>> = presences
            .iter()
            .filter(|(address, p)| is_inside(self.policy, **address) && spoke(p))
            .map(|(address, p)| (*address, p.macs.iter().copied().filter(is_own).collect()))
            .collect();
        let virtuals = &self.conversations.holders;
        let mut by_mac: BTreeMap<Mac, BTreeSet<IpAddr>> = BTreeMap::new();
        for (address, macs) in addresses.iter().filter(|(a, _)| !virtuals.contains_key(*a)) {
            for mac in macs {
                by_mac.entry(*mac).or_default().insert(*address);
            }
        }
        let joins = |mac: &Mac| {
            let theirs = &by_mac[mac];
            let single = |a: &IpAddr| addresses[a].len() == 1;
            let v4 = theirs.iter().filter(|a| a.is_ipv4()).count();
            let near = |a: &IpAddr| presences.get(a).is_some_and(|p| !p.routed);
            v4 <= 1 && theirs.len() - v4 <= 2 && theirs.iter().all(|a| single(a) && near(a))
        };
        let mut taken = BTreeSet::new();
        for (address, macs) in &addresses {
            if !taken.insert(*address) || virtuals.contains_key(address) {
                continue;
            }
            let mac = macs.iter().next().copied().filter(|mac| macs.len() == 1 && joins(mac));
            let mut all = mac.map_or_else(|| [*address].into(), |mac| by_mac[&mac].clone());
            if let Some(other) = self.namesake(*address, &addresses).filter(|_| all.len() == 1) {
                all.extend(Some(other).filter(|other| taken.insert(*other)));
            }
            taken.extend(&all);
            self.add(Entity { addresses: all, mac, held_by: BTreeSet::new() });
        }
        for (address, holders) in virtuals.iter().filter(|(a, _)| is_inside(self.policy, **a)) {
            let host = |holder: &IpAddr| self.owner(*holder, &presences, &by_mac);
            let held_by = holders.iter().filter_map(host).collect();
            self.add(Entity { addresses: [*address].into(), mac: None, held_by });
        }
    }

    /// The address of the other kind that alone shares the only name of an address.
    fn namesake(
        &self,
        address: IpAddr,
        addresses: &BTreeMap<IpAddr, BTreeSet<Mac>>,
    ) -> Option<IpAddr> {
        let called = &self.conversations.called;
        let only = |a: &IpAddr| called.get(a).filter(|names| names.len() == 1)?.iter().next();
        let name = only(&address)?;
        let theirs = self.by_name.get(name).into_iter().flatten();
        let mut same = theirs.filter(|a| addresses.contains_key(*a));
        let (first, second, None) = (same.next()?, same.next()?, same.next()) else { return None };
        let other = if *first == address { second } else { first };
        (other.is_ipv4() != address.is_ipv4() && only(other) == Some(name)).then_some(*other)
    }

    fn add(&mut self, entity: Entity) {
        for address in &entity.addresses {
            self.of_address.insert(*address, self.entities.len());
        }
        self.entities.push(entity);
    }

    /// The host that an address belongs to, a link-local one by its hardware address.
    fn owner(
        &self,
        address: IpAddr,
        presences: &BTreeMap<IpAddr, &crate::conversation::Presence>,
        by_mac: &BTreeMap<Mac, BTreeSet<IpAddr>>,
    ) -> Option<usize> {
        self.of_address.get(&address).copied().or_else(|| {
            let macs = presences.get(&address)?.macs.iter();
            let theirs = macs.filter_map(|mac| by_mac.get(mac)).flatten();
            theirs.filter_map(|a| self.of_address.get(a)).next().copied()
        })
    }

    fn entity(&self, address: IpAddr) -> Option<usize> {
        self.of_address.get(&address).copied()
    }

    /// The conversations that show what somebody really does.
    fn telling(&self) -> impl Iterator<Item = &'a Conversation> {
        self.conversations.list.iter().filter(|c| {
            let works = c.state.reached() || matches!(c.state, State::OneWay | State::AnswerOnly);
            works && !c.subject.transport.is_icmp()
        })
    }

    /// The roles of both sides by which rows would document a conversation: what is known of a side is
    /// believed, and somebody inside is no service on the internet.
    fn fits(&self, c: &Conversation) -> (RoleSet, RoleSet) {
        let matrix = self.matrix();
        let (mut client, mut server) = (RoleSet::default(), RoleSet::default());
        let known =
            |address: IpAddr| self.entity(address).map_or(RoleSet::default(), |e| self.roles[e]);
        let (known_client, known_server) = (known(c.subject.client), known(c.subject.server));
        let outside = |address: IpAddr| {
            self.entity(address).is_none() && !c.broadcast && !self.policy.is_internal(address)
        };
        let from_outside = outside(c.subject.client);
        let to_outside = outside(c.subject.server);
        for number in self.policy.rows_at(c.subject.transport, c.subject.port) {
            let row = &matrix.rows[number];
            let broadcast = c.broadcast || c.state == State::AnswerOnly;
            if let Some(Only::Name(pattern)) = &row.only {
                let names = &self.conversations.names_of(c).seen;
                if names.iter().any(|name| pattern.matches(name)) {
                    client = client.with(matrix.roles[row.source].members);
                }
                continue;
            }
            if row.scope == Scope::Localhost || row.only.is_some() || row.overlay.is_some() {
                continue;
            }
            if (row.scope == Scope::Broadcast) != broadcast {
                continue;
            }
            let (from, to) = (&matrix.roles[row.source], &matrix.roles[row.destination]);
            let external = |kind: &str| kind == "external-service";
            if external(&to.kind) != to_outside && !c.broadcast {
                continue;
            }
            if external(&from.kind) && !from_outside {
                continue;
            }
            let possible = |role: &crate::policy::Role, known: RoleSet| match known.is_empty() {
                _ if role.everybody => RoleSet::default(),
                true => role.members,
                false => role.members.common(known),
            };
            let sources = possible(from, known_client);
            let destinations =
                possible(to, if c.broadcast { RoleSet::default() } else { known_server });
            let agree = |set: RoleSet, everybody: bool| everybody || !set.is_empty();
            // Each side is asked what it would have to be, given the other.
            if agree(destinations, to.everybody) {
                client =
                    client.with(if from.everybody { RoleSet::default() } else { from.members });
            }
            if agree(sources, from.everybody) {
                server = server.with(if to.everybody { RoleSet::default() } else { to.members });
            }
        }
        (client, server)
    }

    /// What each entity did and serves.
    fn items(&self) -> Vec<Vec<Item>> {
        /// Serves or opens, which service, as which roles would; and with whom, nobody for everybody.
        type Items = BTreeMap<(bool, Transport, u16, RoleSet), BTreeSet<Option<IpAddr>>>;
        let mut items: Vec<Items> = vec![Items::new(); self.entities.len()];
        for c in self.telling().filter(|c| !self.is_background(c)) {
            let (client, server) = self.fits(c);
            let subject = c.subject;
            let (transport, port) = (subject.transport, subject.port);
            if let Some(entity) = self.entity(subject.client) {
                let peer = Some(subject.server).filter(|_| !c.broadcast);
                items[entity].entry((false, transport, port, client)).or_default().insert(peer);
            }
            if let Some(entity) = self.entity(subject.server) {
                let peer = Some(subject.client);
                items[entity].entry((true, transport, port, server)).or_default().insert(peer);
            }
        }
        let words = |((serves, transport, port, fits), peers): (
            (bool, Transport, u16, RoleSet),
            BTreeSet<Option<IpAddr>>,
        )| {
            let what = service_words(transport, &port.to_string());
            let some = match peers.first() {
                Some(Some(address)) => self.label(*address),
                _ => "everybody".to_owned(),
            };
            let more = match peers.len() {
                1 => some,
                n => format!("{some} and {} more", n - 1),
            };
            let verb = if serves { "serves" } else { "opens" };
            let to = if serves { "to" } else { "at" };
            Item { fits, words: format!("{verb} {what} {to} {more}") }
        };
        items.into_iter().map(|items| items.into_iter().map(words).collect()).collect()
    }

    /// Whether it is traffic of every network, which says nothing of a role.
    fn is_background(&self, c: &Conversation) -> bool {
        let entry = self.policy.background(c.subject.transport, c.subject.port);
        entry.is_some_and(|entry| entry.anywhere || c.broadcast || c.state == State::AnswerOnly)
    }

    fn label(&self, address: IpAddr) -> String {
        match self.entity(address) {
            Some(entity) => self.name(entity),
            None => address.to_string(),
        }
    }

    /// The roles that explain most of what an entity does; then what was decided on, what too little speaks
    /// for, and what stays unexplained.
    fn weigh(&self, items: Vec<Item>) -> Weighed {
        let (unknown, mut items): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| item.fits.is_empty());
        items.sort_by_key(|item| item.fits.len());
        let (mut roles, mut guesses, mut perhaps) = (RoleSet::default(), Vec::new(), None);
        while !items.is_empty() && guesses.len() < MOST_ROLES {
            let weight = |role: usize| -> f64 {
                let mine = items.iter().filter(|i| i.fits.meets(RoleSet::one(role)));
                mine.map(|item| 1.0 / item.fits.len() as f64).sum()
            };
            let candidates = items.iter().fold(RoleSet::default(), |set, i| set.with(i.fits));
            let weights: Vec<(usize, f64)> = candidates.iter().map(|r| (r, weight(r))).collect();
            let best = weights.iter().map(|(_, w)| *w).fold(0.0, f64::max);
            let tied: Vec<usize> =
                weights.iter().filter(|(_, w)| *w > best - 1e-9).map(|(r, _)| *r).collect();
            let mine = |i: &Item| tied.iter().any(|r| i.fits.meets(RoleSet::one(*r)));
            let telling = items.iter().filter(|i| mine(i));
            let (count, least) =
                telling.fold((0, usize::MAX), |(n, least), i| (n + 1, least.min(i.fits.len())));
            let clients = tied.iter().all(|r| self.matrix().roles[*r].kind == "client");
            // One row that only this role has, or several rows: of these few roles, whichever it is.
            let sure = tied.len() <= ALIKE && (least <= tied.len() || (count >= 2 && best > 0.6));
            let evidence: Vec<String> =
                items.iter().filter(|i| mine(i)).map(|i| self.speaks(i)).collect();
            let guess = Guess { role: tied[0], or: tied[1..].to_vec(), evidence };
            items.retain(|i| !mine(i));
            if !sure && !clients {
                perhaps = perhaps.or(Some(guess));
                continue;
            }
            roles = tied.iter().fold(roles, |set, role| set.with(RoleSet::one(*role)));
            match clients {
                // A user may have both.
                true => guesses.extend(tied.iter().map(|role| Guess {
                    role: *role,
                    or: Vec::new(),
                    evidence: guess.evidence.clone(),
                })),
                false => guesses.push(guess),
            }
        }
        // What is left over is explained only where a role was found for it.
        let unexplained = items.iter().chain(&unknown).map(|item| item.words.clone()).collect();
        Weighed { roles, guesses, perhaps, unexplained }
    }

    /// What an item says, and who else would do so.
    fn speaks(&self, item: &Item) -> String {
        const SHOWN: usize = 3;
        let titles = self.matrix().role_titles(item.fits);
        match titles.len() {
            1 => format!("{}, as only this role does", item.words),
            n if n <= SHOWN => format!("{}, as {} do", item.words, titles.join(", ")),
            n => format!("{}, as {n} roles do", item.words),
        }
    }

    /// The name that lookups tell, if they tell one; else one made from the address.
    fn name(&self, entity: usize) -> String {
        let addresses = &self.entities[entity].addresses;
        let called = addresses.iter().filter_map(|a| self.conversations.called.get(a));
        let names: BTreeSet<&str> =
            called.flat_map(|names| names.iter()).map(String::as_str).collect();
        // A label that means something else to the program, or that needs escapes, names nobody.
        let matrix = self.matrix();
        let plain = |label: &&str| {
            let known = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            let taken = ["localhost", "broadcast", "everybody"].contains(label);
            label.chars().all(known) && !taken && matrix.roles_named(label).is_err()
        };
        let labels = names.iter().filter_map(|n| n.split('.').next()).filter(plain);
        let mut labels: BTreeSet<&str> = labels.collect();
        match (labels.pop_first(), labels.is_empty(), addresses.first()) {
            (Some(label), true, _) => label.to_owned(),
            (_, _, Some(address)) => {
                format!("host-{}", address.to_string().replace(['.', ':'], "-"))
            }
            _ => String::new(),
        }
    }

    fn draft(self) -> Draft {
        let (mut hosts, mut items, serves) = (Vec::new(), self.items(), self.serves());
        let mut networks: BTreeMap<IpNet, Vec<usize>> = BTreeMap::new();
        let is_client = |role: usize| self.matrix().roles[role].kind == "client";
        let mut others = BTreeSet::new();
        for (number, entity) in self.entities.iter().enumerate() {
            let roles = self.roles[number];
            let may = roles.is_empty() || roles.iter().any(is_client);
            for prefix in entity.addresses.iter().map(|address| prefix_of(*address)) {
                match may && serves[number].is_empty() {
                    true => networks.entry(prefix).or_default().push(number),
                    false => drop(others.insert(prefix)),
                }
            }
        }
        // Where servers are too, each is told for itself; and some of them have to be clients for sure.
        let sure = |number: &usize| {
            let roles = self.roles[*number];
            !roles.is_empty() && roles.iter().all(is_client)
        };
        networks.retain(|prefix, clients| {
            clients.len() >= CLIENTS && !others.contains(prefix) && clients.iter().any(sure)
        });
        let in_network: BTreeSet<usize> = networks.values().flatten().copied().collect();
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for entity in 0..self.entities.len() {
            *names.entry(self.name(entity)).or_default() += 1;
        }
        let name = |entity: usize| match self.name(entity) {
            // Two hosts cannot share a name.
            name if names[&name] == 1 => name,
            name => {
                let address = self.entities[entity].addresses.first();
                format!(
                    "{name}-{}",
                    address.map_or_else(String::new, |a| a.to_string().replace(['.', ':'], "-"))
                )
            }
        };
        for (number, entity) in self.entities.iter().enumerate() {
            let mut addresses: Vec<IpAddr> = entity.addresses.iter().copied().collect();
            let Weighed { guesses: mut roles, mut perhaps, unexplained, .. } =
                self.weigh(std::mem::take(&mut items[number]));
            if in_network.contains(&number) {
                // What it is by its network, it is by its other addresses too.
                addresses.retain(|address| !networks.contains_key(&prefix_of(*address)));
                if addresses.is_empty() {
                    continue;
                }
                let evidence = vec!["has another address in a network of clients".to_owned()];
                let clients = (0..self.matrix().roles.len()).filter(|role| is_client(*role));
                let guess = |role| Guess { role, or: Vec::new(), evidence: evidence.clone() };
                (roles, perhaps) = (clients.map(guess).collect(), None);
            }
            hosts.push(DraftHost {
                name: name(number),
                addresses,
                mac: entity.mac,
                serves: serves[number].iter().map(|(s, clients)| (*s, clients.len())).collect(),
                roles,
                perhaps,
                unexplained,
                held_by: entity.held_by.iter().map(|holder| name(*holder)).collect(),
            });
        }
        let (outside, from_outside) = self.outside();
        Draft {
            hosts,
            networks: networks.into_iter().map(|(net, clients)| (net, clients.len())).collect(),
            outside,
            from_outside,
            features: self.features(),
        }
    }

    /// What each entity serves, with its clients.
    fn serves(&self) -> Vec<BTreeMap<(Transport, u16), BTreeSet<IpAddr>>> {
        let mut serves = vec![BTreeMap::<_, BTreeSet<_>>::new(); self.entities.len()];
        for c in self.telling().filter(|c| c.state.reached()) {
            if let Some(entity) = self.entity(c.subject.server) {
                let service = (c.subject.transport, c.subject.port);
                serves[entity].entry(service).or_default().insert(c.subject.client);
            }
        }
        serves
    }

    /// Servers outside with their use, and the number of clients outside.
    fn outside(&self) -> (Vec<Outside>, usize) {
        let is_outside = |a: IpAddr| {
            self.entity(a).is_none()
                && !self.policy.is_internal(a)
                && !a.is_multicast()
                && !a.is_unspecified()
        };
        let mut servers: BTreeMap<IpAddr, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        let mut clients = BTreeSet::new();
        for c in self.telling().filter(|c| c.state.reached()) {
            let subject = c.subject;
            if is_outside(subject.server) && self.entity(subject.client).is_some() {
                let server = servers.entry(subject.server).or_default();
                server.0.extend(self.conversations.names_of(c).seen.iter().cloned());
                let service = service_words(subject.transport, &subject.port.to_string());
                server.1.insert(format!("{service} from {}", self.label(subject.client)));
            }
            if is_outside(subject.client) && self.entity(subject.server).is_some() {
                clients.insert(subject.client);
            }
        }
        let told = servers.into_iter().map(|(address, (names, uses))| {
            let mut roles = names
                .iter()
                .flat_map(|name| self.policy.roles_of_name(name).iter().collect::<Vec<_>>());
            let role = roles.next();
            let (names, uses) = (names.into_iter().collect(), uses.into_iter().collect());
            Outside { address, names, uses, role }
        });
        (told.collect(), clients.len())
    }

    /// Features that every row for some traffic needs, between the roles that were guessed.
    fn features(&self) -> BTreeMap<String, String> {
        let matrix = self.matrix();
        let mut features = BTreeMap::new();
        for c in self.telling() {
            let (Some(client), Some(server)) =
                (self.entity(c.subject.client), self.entity(c.subject.server))
            else {
                continue;
            };
            let rows = self.policy.rows_at(c.subject.transport, c.subject.port);
            let rows = rows.map(|number| &matrix.rows[number]).filter(|row| {
                row.scope == Scope::Network
                    && matrix.is_source(row, self.roles[client])
                    && matrix.is_destination(row, self.roles[server])
            });
            let needs: Vec<BTreeSet<&String>> =
                rows.map(|row| row.features.iter().collect()).collect();
            let Some(common) =
                needs.iter().cloned().reduce(|a, b| a.intersection(&b).copied().collect())
            else {
                continue;
            };
            for feature in common {
                let service = service_words(c.subject.transport, &c.subject.port.to_string());
                let (from, to) = (self.name(client), self.name(server));
                let example = format!("{from} opens {service} to {to}");
                features.entry(feature.clone()).or_insert(example);
            }
        }
        features
    }
}
