//! Drafts an inventory from the traffic alone: which addresses belong to one host, what each host
//! serves, which networks contain clients, and which roles explain the traffic according to the
//! matrix. Every guess includes its evidence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::ends::prefix_of;
use crate::conversation::{Conversation, Conversations, State};
use crate::model::{Mac, Transport, is_link_local, service_words};
use crate::policy::{EndpointTarget, Inventory, Matrix, Policy, RoleKind, RoleSet, Scope};

/// The number of rounds. In each round, the roles of every host are guessed from the roles that its
/// peers had in the previous round.
const ROUNDS: usize = 6;
/// The maximum number of roles with the same evidence that are proposed. If there are more, none of
/// them is proposed, unless all of them are client roles.
const ALIKE: usize = 3;
/// The number of ports that a client has to try in vain to count as a scanner. A host whose peers
/// are off or refuse it tries only the ports of its own roles, which are fewer.
const SCANNED_PORTS: usize = 20;

/// The number of guesses about one host after which no further roles are proposed.
const MOST_ROLES: usize = 4;
/// The minimum number of clients for which a client network or an overlay is proposed.
const CLIENTS: usize = 2;

/// The minimum number of services specific to domain controllers that a host must provide to count
/// as a controller.
const CONTROLS: usize = 2;

/// A host also counts as a controller if it provides services for domain members on at least this
/// many ports, even if the matrix reserves none of these services for controllers. A file server
/// uses fewer of these ports.
const MANY_CONTROLS: usize = 6;

/// The services of one host that are evidence of a domain controller.
#[derive(Default)]
struct Controls {
    ports: BTreeSet<u16>,
    /// The number of these services that the matrix allows only controllers to provide.
    decisive: usize,
    /// The clients that used these services.
    clients: BTreeSet<IpAddr>,
}

/// The input of a draft in addition to the traffic.
#[derive(Clone)]
pub struct Given {
    /// The networks that count as internal.
    pub internal: Vec<IpNet>,
    /// The inventory to extend. Its hosts keep their roles.
    pub listed: Option<Policy>,
}

impl Given {
    /// Returns the networks that count as internal by default: the private and unique local ones.
    pub fn usual_internal() -> Vec<IpNet> {
        Inventory::usual_internal()
    }
}

/// A farm, as inferred from its traffic.
pub struct Draft {
    /// The hosts, ordered by address.
    pub hosts: Vec<DraftHost>,
    /// The networks of clients.
    pub networks: Vec<ClientNetwork>,
    /// The networks that count as internal.
    pub internal: Vec<IpNet>,
    /// The number of external addresses that sent unicast traffic, by network, largest number
    /// first.
    pub left_out: Vec<(IpNet, usize)>,
    /// The overlay that documents the traffic of domain members with domain controllers, if nothing
    /// else documents it, and the number of members with such traffic.
    pub overlay: Option<(String, usize)>,
    /// External addresses that served an internal host.
    pub outside: Vec<Outside>,
    /// The addresses that tried many ports in vain, each with the number of ports. The traffic that
    /// they started does not indicate roles.
    pub scanners: BTreeMap<IpAddr, usize>,
    /// The number of external addresses that connected to internal hosts.
    pub from_outside: usize,
    /// The features without which some of the traffic would not be documented, each with an
    /// example.
    pub features: BTreeMap<String, String>,
}

/// A network of clients.
pub struct ClientNetwork {
    /// The prefix of the network.
    pub cidr: IpNet,
    /// The number of addresses seen in it that provide no services. Services of an overlay do not
    /// count.
    pub seen: usize,
    /// Examples of traffic that shows that its hosts are clients.
    pub evidence: Vec<String>,
}

/// An external server that internal hosts used.
pub struct Outside {
    /// The address of the server.
    pub address: IpAddr,
    /// The names of the server that the capture shows.
    pub names: Vec<String>,
    /// The services that were used, and their clients.
    pub uses: Vec<String>,
    /// The role that the matrix assigns to one of the names, if any.
    pub role: Option<usize>,
}

/// A host, as inferred from its traffic.
pub struct DraftHost {
    /// The name, taken from the inventory to extend or from DNS if possible, otherwise made from
    /// the address.
    pub name: String,
    /// The addresses of the host.
    pub addresses: Vec<IpAddr>,
    /// The hardware address that the addresses share, if one identifies the host.
    pub mac: Option<Mac>,
    /// The services that handshakes and replies show, with the number of clients of each.
    pub serves: BTreeMap<(Transport, u16), usize>,
    /// The roles that the host seems to have.
    pub roles: Vec<Guess>,
    /// A role with too little evidence to be proposed.
    pub perhaps: Option<Guess>,
    /// Activities that none of its roles explains.
    pub unexplained: Vec<String>,
    /// The names of the hosts that hold the address, if it is virtual.
    pub held_by: Vec<String>,
}

/// A role that a host may have.
pub struct Guess {
    /// The index of the role in the matrix.
    pub role: usize,
    /// Other roles with the same evidence. `role` is the first of all these roles in the order of
    /// the matrix.
    pub or: Vec<usize>,
    /// The evidence, most specific first.
    pub evidence: Vec<String>,
}

/// The addresses that belong to one host.
struct Entity {
    addresses: BTreeSet<IpAddr>,
    mac: Option<Mac>,
    held_by: BTreeSet<usize>,
}

/// An activity of a host as client or server, with the roles that would explain it.
struct DraftItem {
    fits: RoleSet,
    words: String,
    /// Whether a row documents the activity for the roles that both ends are assumed to have.
    documented: bool,
    /// Whether the activity is a broadcast, uses a port that is specific to the product, or is that
    /// of a domain controller.
    is_own: bool,
}

/// The result of weighing the items of an entity.
struct Weighed {
    /// All proposed roles, including those with the same evidence as another one.
    roles: RoleSet,
    guesses: Vec<Guess>,
    perhaps: Option<Guess>,
    unexplained: Vec<String>,
}

/// Returns whether a hardware address belongs to one host. The address of a virtual router (RFC
/// 9568, section 7.3) does not, because it moves with the virtual address.
fn is_own(mac: &Mac) -> bool {
    !matches!(mac.0, [0, 0, 0x5e, 0, 1 | 2, _])
}

/// Returns whether an address is internal and belongs to a single host.
fn is_inside(policy: &Policy, address: IpAddr) -> bool {
    !address.is_multicast()
        && !address.is_loopback()
        && !address.is_unspecified()
        && !is_link_local(address)
        && !policy.is_everybody(address)
        && policy.is_internal(address)
}

impl Draft {
    /// Drafts a farm from conversations that have not been judged.
    pub fn of(matrix: &Matrix, conversations: &Conversations, given: &Given) -> Self {
        let internal = given.internal.clone();
        let policy = Policy::new(matrix.clone(), Inventory { internal, ..Inventory::default() });
        let mut drafter = Drafter {
            policy: &policy,
            conversations,
            listed: given.listed.as_ref(),
            controllers: BTreeMap::new(),
            entities: Vec::new(),
            of_address: BTreeMap::new(),
            by_name: BTreeMap::new(),
            roles: Vec::new(),
            scanners: scanners(conversations),
        };
        for (address, names) in &conversations.dns_names {
            for name in names.iter() {
                drafter.by_name.entry(name.clone()).or_default().insert(*address);
            }
        }
        drafter.join();
        drafter.controllers = drafter.controllers();
        drafter.roles = vec![RoleSet::default(); drafter.entities.len()];
        for _ in 0..ROUNDS {
            // All entities are weighed with the roles that the previous round gave to the others,
            // so that their order does not matter.
            let pcs = drafter.domain_pcs(&drafter.serves());
            let roles = drafter.items().into_iter().enumerate().map(|(entity, items)| {
                if let Some(roles) = drafter.known_roles(entity) {
                    return roles;
                }
                let items = if pcs.contains(&entity) { drafter.as_client(items) } else { items };
                drafter.weigh(items).roles
            });
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
    /// The addresses to which each name resolved.
    by_name: BTreeMap<String, BTreeSet<IpAddr>>,
    /// The roles that each entity is assumed to have so far.
    roles: Vec<RoleSet>,
    /// The inventory to extend.
    listed: Option<&'a Policy>,
    /// The domain controllers, each with its role and the evidence for it.
    controllers: BTreeMap<usize, (RoleSet, String)>,
    /// See [`Draft::scanners`].
    scanners: BTreeMap<IpAddr, usize>,
}

/// Returns the clients that tried at least [`SCANNED_PORTS`] ports in vain, such as a vulnerability
/// scanner, each with the number of ports.
fn scanners(conversations: &Conversations) -> BTreeMap<IpAddr, usize> {
    let mut ports: BTreeMap<IpAddr, BTreeSet<(Transport, u16)>> = BTreeMap::new();
    let failed = conversations.list.iter().filter(|c| c.has_failed() && !c.is_made_up());
    for c in failed.filter(|c| !c.subject.transport.is_icmp()) {
        ports.entry(c.subject.client).or_default().insert((c.subject.transport, c.subject.port));
    }
    let counts = ports.into_iter().map(|(client, ports)| (client, ports.len()));
    counts.filter(|(_, ports)| *ports >= SCANNED_PORTS).collect()
}

impl<'a> Drafter<'a> {
    fn matrix(&self) -> &'a Matrix {
        &self.policy.matrix
    }

    /// Groups the internal addresses that sent packets into hosts. The addresses of one hardware
    /// address are one host if they are at most one IPv4 and two IPv6 addresses, none of them shows
    /// another hardware address, and none of their packets has passed a router. An IPv4 and an IPv6
    /// address are also one host if both have only one name, and only these two addresses have it.
    /// All other addresses become separate hosts.
    fn join(&mut self) {
        let presences = self.conversations.index.presences();
        let has_sent =
            |p: &crate::conversation::HostActivity| p.unicast_sent.0 > 0 || p.sent.packets.0 > 0;
        let addresses: BTreeMap<IpAddr, BTreeSet<Mac>> = presences
            .iter()
            .filter(|(address, p)| is_inside(self.policy, **address) && has_sent(p))
            .map(|(address, p)| (*address, p.macs.iter().copied().filter(is_own).collect()))
            .collect();
        let virtuals = &self.conversations.vrrp_masters;
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

    /// Returns the address of the other IP version that shares the only name of an address, if no
    /// third address has that name.
    fn namesake(
        &self,
        address: IpAddr,
        addresses: &BTreeMap<IpAddr, BTreeSet<Mac>>,
    ) -> Option<IpAddr> {
        let called = &self.conversations.dns_names;
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

    /// Returns the host that an address belongs to. An address that is not assigned to a host, such
    /// as a link-local one, is matched by its hardware addresses.
    fn owner(
        &self,
        address: IpAddr,
        presences: &BTreeMap<IpAddr, &crate::conversation::HostActivity>,
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

    /// Returns the conversations that show what hosts do: those that reached a service, one-way
    /// traffic, and replies to broadcasts. ICMP does not count, and neither does traffic that any
    /// host could have forged, or that a scanner started.
    fn conclusive(&self) -> impl Iterator<Item = &'a Conversation> {
        self.conversations.list.iter().filter(|c| {
            let works = c.state.reached() || matches!(c.state, State::OneWay | State::AnswerOnly);
            works
                && !c.subject.transport.is_icmp()
                && !c.is_made_up()
                && !self.scanners.contains_key(&c.subject.client)
        })
    }

    /// Returns the roles that the inventory to extend gives to an entity; `None` if it does not
    /// list the entity.
    fn known_roles(&self, entity: usize) -> Option<RoleSet> {
        let listed = self.listed?;
        let host = self.entities[entity].addresses.iter().find_map(|a| listed.host_of(*a))?;
        let roles = listed.matrix.role_names(listed.inventory.hosts[host].roles);
        let numbers = roles.into_iter().filter_map(|slug| self.matrix().role(slug));
        Some(numbers.fold(RoleSet::default(), |set, role| set.with(RoleSet::one(role))))
    }

    /// Finds the domain controllers: hosts with at least [`CONTROLS`] services that the matrix
    /// allows only controllers to provide, or with [`MANY_CONTROLS`] services for domain members.
    /// Services that the matrix allows other roles to provide do not count. Returns the role of
    /// each controller, and the evidence as text.
    fn controllers(&self) -> BTreeMap<usize, (RoleSet, String)> {
        let mut found = BTreeMap::new();
        for (entity, services) in self.serves().iter().enumerate() {
            let mut controls: BTreeMap<RoleSet, Controls> = BTreeMap::new();
            for ((transport, port), clients) in services {
                let Some(row) = self.policy.overlay_row(*transport, *port) else { continue };
                let role = self.matrix().roles[row.destination].members;
                let serving = self.policy.serving(*transport, *port);
                if serving.is_empty() || serving == role {
                    let controls = controls.entry(role).or_default();
                    controls.ports.insert(*port);
                    controls.decisive += usize::from(serving == role);
                    controls.clients.extend(clients);
                }
            }
            for (role, Controls { ports, decisive, clients }) in controls {
                if decisive >= CONTROLS || ports.len() >= MANY_CONTROLS {
                    let noun = if ports.len() == 1 { "port" } else { "ports" };
                    let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
                    let hosts = if clients.len() == 1 { "host" } else { "hosts" };
                    let words = format!("serves {noun} {ports} to {} {hosts}", clients.len());
                    found.insert(entity, (role, words));
                }
            }
        }
        found
    }

    /// Returns whether the client uses a service of a domain controller that every domain member
    /// uses. Such a conversation is not evidence of the client's role.
    fn is_of_a_domain(&self, c: &Conversation) -> bool {
        let controller =
            self.entity(c.subject.server).is_some_and(|e| self.controllers.contains_key(&e));
        controller && self.policy.overlay_row(c.subject.transport, c.subject.port).is_some()
    }

    /// Returns the client roles and the server roles for which a row would document a conversation.
    /// Roles that a side is already assumed to have are taken as given. An internal host is never
    /// an external service.
    fn fits(&self, c: &Conversation) -> (RoleSet, RoleSet) {
        let matrix = self.matrix();
        let mut client = RoleSet::default();
        let mut server = RoleSet::default();
        let known =
            |address: IpAddr| self.entity(address).map_or(RoleSet::default(), |e| self.roles[e]);
        let known_client = known(c.subject.client);
        let known_server = known(c.subject.server);
        let outside = |address: IpAddr| {
            self.entity(address).is_none() && !c.broadcast && !self.policy.is_internal(address)
        };
        let from_outside = outside(c.subject.client);
        let to_outside = outside(c.subject.server);
        let is_own = self.policy.is_own_port(c.subject.transport, c.subject.port);
        let is_windows = self.policy.overlay_row(c.subject.transport, c.subject.port).is_some();
        for number in self.policy.rows_at(c.subject.transport, c.subject.port) {
            let row = &matrix.rows[number];
            let broadcast = c.broadcast || c.state == State::AnswerOnly;
            if let Some(EndpointTarget::Name(pattern)) = &row.only {
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
            let from = &matrix.roles[row.source];
            let to = &matrix.roles[row.destination];
            if (to.kind == RoleKind::ExternalService) != to_outside && !c.broadcast {
                continue;
            }
            if from.kind == RoleKind::ExternalService && !from_outside {
                continue;
            }
            // A row that needs an unusual feature is not a likely explanation of client traffic,
            // unless the port is specific to the product.
            let rare =
                row.features.iter().any(|f| matrix.features.get(f).is_some_and(|f| !f.usual));
            if from.is_client() && rare && !is_own {
                continue;
            }
            let guessable = is_own || broadcast;
            let possible = |role: &crate::policy::Role, known: RoleSet| {
                if role.is_any || known.is_empty() && !guessable {
                    RoleSet::default()
                } else if known.is_empty() {
                    role.members
                } else {
                    role.members.common(known)
                }
            };
            let sources = possible(from, known_client);
            let destinations =
                possible(to, if c.broadcast { RoleSet::default() } else { known_server });
            let agree = |set: RoleSet, is_any: bool| is_any || !set.is_empty();
            // Each side gets the roles that the row requires, given what is known about the other
            // side.
            if agree(destinations, to.is_any) && !is_windows {
                client = client.with(if from.is_any { RoleSet::default() } else { from.members });
            }
            if agree(sources, from.is_any) {
                server = server.with(if to.is_any { RoleSet::default() } else { to.members });
            }
        }
        // Many roles provide Windows file sharing, name resolution and RPC, and so does any PC. If
        // more than `ALIKE` roles would explain the traffic, the host cannot be told apart from a
        // PC.
        if is_windows && server.len() > ALIKE {
            server = RoleSet::default();
        }
        (client, server)
    }

    /// Returns whether a row documents a conversation for the roles that both ends are assumed to
    /// have.
    fn is_documented(&self, c: &Conversation) -> bool {
        let client = self.entity(c.subject.client);
        let server = self.entity(c.subject.server);
        let (Some(client), Some(server)) = (client, server) else { return false };
        let matrix = self.matrix();
        self.policy.rows_at(c.subject.transport, c.subject.port).any(|number| {
            let row = &matrix.rows[number];
            row.scope == Scope::Network
                && matrix.is_source(row, self.roles[client])
                && matrix.is_destination(row, self.roles[server])
        })
    }

    /// Returns the activities of each entity.
    fn items(&self) -> Vec<Vec<DraftItem>> {
        /// The key under which conversations are combined into one activity: whether the host is
        /// the server, the transport and the port of the service, the roles that would explain the
        /// activity, and whether a row documents it.
        type Activity = (bool, Transport, u16, RoleSet, bool);
        /// The peers: addresses, or `None` for a broadcast.
        type Peers = BTreeSet<Option<IpAddr>>;
        type DraftItems = BTreeMap<Activity, Peers>;
        let mut items: Vec<DraftItems> = vec![DraftItems::new(); self.entities.len()];
        let conclusive = self.conclusive();
        for c in conclusive.filter(|c| !self.is_background(c) && !self.is_of_a_domain(c)) {
            let (client, server) = self.fits(c);
            let subject = c.subject;
            let documented = self.is_documented(c);
            let transport = subject.transport;
            let port = subject.port;
            if let Some(entity) = self.entity(subject.client) {
                let peer = Some(subject.server).filter(|_| !c.broadcast);
                items[entity]
                    .entry((false, transport, port, client, documented))
                    .or_default()
                    .insert(peer);
            }
            if let Some(entity) = self.entity(subject.server) {
                let peer = Some(subject.client);
                items[entity]
                    .entry((true, transport, port, server, documented))
                    .or_default()
                    .insert(peer);
            }
        }
        let make_item =
            |((serves, transport, port, fits, documented), peers): (Activity, Peers)| {
                let what = service_words(transport, &port.to_string());
                let some = match peers.first() {
                    Some(Some(address)) => self.label(*address),
                    _ => "all hosts".to_owned(),
                };
                let more = match peers.len() {
                    1 => some,
                    n => format!("{some} and {} more", n - 1),
                };
                let on = if transport.has_ports() { "on" } else { "with" };
                let words = if serves {
                    format!("serves {what} to {more}")
                } else if peers.contains(&None) {
                    format!("sends to {more} {on} {what}")
                } else {
                    format!("connects to {more} {on} {what}")
                };
                let is_own = peers.contains(&None) || self.policy.is_own_port(transport, port);
                DraftItem { fits, words, documented, is_own }
            };
        let mut items: Vec<Vec<DraftItem>> =
            items.into_iter().map(|items| items.into_iter().map(make_item).collect()).collect();
        for (entity, (role, words)) in &self.controllers {
            items[*entity].push(DraftItem {
                fits: *role,
                words: words.clone(),
                documented: true,
                is_own: true,
            });
        }
        items
    }

    /// Returns whether a conversation is background traffic, which occurs in any network and is not
    /// evidence of a role.
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

    /// Restricts the items of a domain PC to client roles if it does only what clients do. Such a
    /// PC is not a server of the farm: the product's appliances are not in a domain, and its
    /// servers provide services.
    fn as_client(&self, mut items: Vec<DraftItem>) -> Vec<DraftItem> {
        if self.acts_as_client(&items) {
            let is_client = |role: &usize| self.matrix().roles[*role].is_client();
            for item in &mut items {
                let clients = item.fits.iter().filter(is_client);
                item.fits = clients.fold(RoleSet::default(), |set, r| set.with(RoleSet::one(r)));
            }
        }
        items
    }

    /// Guesses the roles of an entity from its items. Returns all proposed roles, the guesses with
    /// their evidence, a role with too little evidence, and the items that remain unexplained.
    fn weigh(&self, items: Vec<DraftItem>) -> Weighed {
        let (unknown, mut items): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| item.fits.is_empty());
        items.sort_by_key(|item| item.fits.len());
        let mut roles = RoleSet::default();
        let mut guesses = Vec::new();
        let mut perhaps = None;
        while !items.is_empty() && guesses.len() < MOST_ROLES {
            let weight = |role: usize| -> f64 {
                let fitting = items.iter().filter(|i| i.fits.intersects(RoleSet::one(role)));
                fitting.map(|item| 1.0 / item.fits.len() as f64).sum()
            };
            let candidates = items.iter().fold(RoleSet::default(), |set, i| set.with(i.fits));
            let weights: Vec<(usize, f64)> = candidates.iter().map(|r| (r, weight(r))).collect();
            let best = weights.iter().map(|(_, w)| *w).fold(0.0, f64::max);
            let heaviest = weights.iter().filter(|(_, w)| *w > best - 1e-9).map(|(r, _)| *r);
            let mut tied: Vec<usize> = heaviest.collect();
            // Roles of equal weight that explain a different set of items are left for a later
            // pass.
            let fits = |item: &DraftItem, role: usize| item.fits.intersects(RoleSet::one(role));
            if let Some(first) = tied.first().copied() {
                tied.retain(|role| items.iter().all(|item| fits(item, *role) == fits(item, first)));
            }
            let is_explained =
                |i: &DraftItem| tied.iter().any(|r| i.fits.intersects(RoleSet::one(*r)));
            let explained = items.iter().filter(|i| is_explained(i));
            let (count, least) =
                explained.fold((0, usize::MAX), |(n, least), i| (n + 1, least.min(i.fits.len())));
            let clients = tied.iter().all(|r| self.matrix().roles[*r].is_client());
            // A single item that other software also shows, such as a remote desktop server, is not
            // enough evidence for a component of the product.
            let of_product = tied.iter().any(|r| self.matrix().roles[*r].is_component());
            let shown =
                !of_product || count >= 2 || items.iter().any(|i| is_explained(i) && i.is_own);
            // The evidence is sufficient if only a few roles are tied, and either one item fits no
            // other roles or several items fit these roles and weigh enough together.
            let few = tied.len() <= ALIKE && (least <= tied.len() || (count >= 2 && best > 0.6));
            let sure = few && shown;
            let evidence: Vec<String> =
                items.iter().filter(|i| is_explained(i)).map(|i| self.describe_item(i)).collect();
            let guess = Guess { role: tied[0], or: tied[1..].to_vec(), evidence };
            items.retain(|i| !is_explained(i));
            if !sure && !clients {
                perhaps = perhaps.or(Some(guess));
                continue;
            }
            roles = tied.iter().fold(roles, |set, role| set.with(RoleSet::one(*role)));
            if clients {
                guesses.extend(tied.iter().map(|role| Guess {
                    role: *role,
                    or: Vec::new(),
                    evidence: guess.evidence.clone(),
                }))
            } else {
                guesses.push(guess)
            }
        }
        // A leftover item is explained only if a row documents it for the assumed roles.
        let left = items.iter().chain(&unknown).filter(|item| !item.documented);
        let unexplained = left.map(|item| item.words.clone()).collect();
        Weighed { roles, guesses, perhaps, unexplained }
    }

    /// Describes an item, with the roles that would explain it.
    fn describe_item(&self, item: &DraftItem) -> String {
        const SHOWN: usize = 3;
        let titles = self.matrix().role_titles(item.fits);
        match titles.len() {
            1 => format!("{}; only this role does so", item.words),
            n if n <= SHOWN => {
                let (rest, last) = titles.split_at(n.saturating_sub(1));
                format!("{}; {} and {} do so", item.words, rest.join(", "), last.join(""))
            }
            n => format!("{}; {n} roles do so", item.words),
        }
    }

    /// Returns the name from the inventory, or the host name from DNS if exactly one is usable, or
    /// else a name made from the address.
    fn name(&self, entity: usize) -> String {
        let addresses = &self.entities[entity].addresses;
        let listed = self.listed.and_then(|listed| {
            let host = addresses.iter().find_map(|a| listed.host_of(*a))?;
            Some(listed.inventory.hosts[host].name.clone())
        });
        if let Some(name) = listed {
            return name;
        }
        let called = addresses.iter().filter_map(|a| self.conversations.dns_names.get(a));
        let names: BTreeSet<&str> =
            called.flat_map(|names| names.iter()).map(String::as_str).collect();
        // A label that is a keyword of the program or the name of a role, or that needs escapes,
        // cannot be a host name.
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

    fn draft(mut self) -> Draft {
        let mut hosts = Vec::new();
        let serves = self.serves();
        let networks = self.client_networks(&serves);
        // To explain the activities of their peers, the members of client networks are assumed to
        // have the client roles.
        let clients = self.matrix().roles.iter().filter(|role| role.is_client());
        let clients = clients.fold(RoleSet::default(), |set, role| set.with(role.members));
        for member in networks.values().flat_map(|(members, _)| members) {
            self.roles[*member] = clients;
        }
        let mut items = self.items();
        let pcs = self.domain_pcs(&serves);
        let in_network: BTreeSet<usize> =
            networks.values().flat_map(|(members, _)| members).copied().collect();
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for entity in 0..self.entities.len() {
            *names.entry(self.name(entity)).or_default() += 1;
        }
        let name = |entity: usize| match self.name(entity) {
            // Two hosts cannot share a name, so the address is appended.
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
            let items = std::mem::take(&mut items[number]);
            let items = if pcs.contains(&number) { self.as_client(items) } else { items };
            let Weighed { guesses: mut roles, mut perhaps, unexplained, .. } = self.weigh(items);
            if in_network.contains(&number) {
                // A host that is a client in one network is a client at its other addresses, too.
                addresses.retain(|address| !networks.contains_key(&prefix_of(*address)));
                if addresses.is_empty() {
                    continue;
                }
                let evidence = vec!["has another address in a network of clients".to_owned()];
                let is_client = |role: &usize| self.matrix().roles[*role].is_client();
                let clients = (0..self.matrix().roles.len()).filter(is_client);
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
            networks: networks
                .into_iter()
                .map(|(cidr, (members, evidence))| ClientNetwork {
                    cidr,
                    seen: members.len(),
                    evidence,
                })
                .collect(),
            internal: self.policy.inventory.internal.clone(),
            left_out: self.external_sources(),
            overlay: self.overlay(),
            outside,
            from_outside,
            features: self.features(),
            scanners: self.scanners,
        }
    }

    /// Returns the client networks, each with the entities that are not listed individually, and
    /// the evidence that they are clients. A network does not qualify if it contains a virtual
    /// address or a host that has roles but no client role, or if fewer than [`CLIENTS`] entities
    /// remain. The evidence must show that some of the hosts are clients. A host that provides a
    /// service of its own is listed individually.
    fn client_networks(
        &self,
        serves: &[BTreeMap<(Transport, u16), BTreeSet<IpAddr>>],
    ) -> BTreeMap<IpNet, (Vec<usize>, Vec<String>)> {
        const EVIDENCE: usize = 3;
        let is_client = |role: usize| self.matrix().roles[role].is_client();
        let mut networks: BTreeMap<IpNet, (Vec<usize>, Vec<String>)> = BTreeMap::new();
        let mut others = BTreeSet::new();
        let mut acting = BTreeMap::<IpNet, usize>::new();
        let items = self.items();
        for (number, entity) in self.entities.iter().enumerate() {
            let roles = self.roles[number];
            let may_be_client = roles.is_empty() || roles.iter().any(is_client);
            let serves_own = self.serves_own(&serves[number]);
            let acts_as_client = !serves_own && self.acts_as_client(&items[number]);
            let is_surely_client =
                acts_as_client || (!roles.is_empty() && roles.iter().all(is_client));
            for address in entity.addresses.iter().filter(|_| acts_as_client) {
                *acting.entry(prefix_of(*address)).or_default() += 1;
            }
            for prefix in entity.addresses.iter().map(|address| prefix_of(*address)) {
                if !may_be_client || !entity.held_by.is_empty() {
                    others.insert(prefix);
                    continue;
                }
                let (members, evidence) = networks.entry(prefix).or_default();
                if is_surely_client && evidence.len() < EVIDENCE {
                    let mut items = items[number].iter();
                    let item = items.find(|item| item.fits.iter().any(is_client));
                    let words = item.map(|item| &item.words);
                    evidence.extend(words.map(|words| format!("{} {words}", self.name(number))));
                }
                if !serves_own {
                    members.push(number);
                }
            }
        }
        networks.retain(|prefix, (members, evidence)| {
            // A single host that acts like a client may be another kind of host with little
            // traffic.
            let known = members.iter().any(|member| !self.roles[*member].is_empty());
            let sure = known || acting.get(prefix).is_some_and(|count| *count >= CLIENTS);
            sure && members.len() >= CLIENTS && !others.contains(prefix) && !evidence.is_empty()
        });
        networks
    }

    /// Returns the PCs of a domain: the entities that use services of domain controllers and
    /// provide no service of their own.
    fn domain_pcs(
        &self,
        serves: &[BTreeMap<(Transport, u16), BTreeSet<IpAddr>>],
    ) -> BTreeSet<usize> {
        let of_domain = self.conclusive().filter(|c| self.is_of_a_domain(c));
        let members = of_domain.filter_map(|c| self.entity(c.subject.client));
        members.filter(|entity| !self.serves_own(&serves[*entity])).collect()
    }

    /// Returns whether an entity provides a service of its own. Services of an overlay do not
    /// count, because every PC of a domain accepts connections from its administrators.
    fn serves_own(&self, serves: &BTreeMap<(Transport, u16), BTreeSet<IpAddr>>) -> bool {
        serves.keys().any(|(transport, port)| self.policy.overlay_row(*transport, *port).is_none())
    }

    /// Returns whether an entity has activities that roles would explain, and a client role would
    /// explain each of these.
    fn acts_as_client(&self, items: &[DraftItem]) -> bool {
        let is_client = |role: usize| self.matrix().roles[role].is_client();
        let mut known = items.iter().filter(|item| !item.fits.is_empty()).peekable();
        known.peek().is_some() && known.all(|item| item.fits.iter().any(is_client))
    }

    /// Returns the overlay without which the traffic of members of a domain would not be
    /// documented, and the number of members with such traffic. `None` if there are fewer than
    /// [`CLIENTS`] of them.
    fn overlay(&self) -> Option<(String, usize)> {
        let matrix = self.matrix();
        let mut members: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for c in self.conclusive().filter(|c| self.is_of_a_domain(c)) {
            let client = self.entity(c.subject.client);
            let server = self.entity(c.subject.server);
            let (Some(client), Some(server)) = (client, server) else { continue };
            let rows = self.policy.rows_at(c.subject.transport, c.subject.port);
            let mut rows =
                rows.map(|number| &matrix.rows[number]).filter(|row| row.overlay.is_none());
            let documented = rows.any(|row| {
                matrix.is_source(row, self.roles[client])
                    && matrix.is_destination(row, self.roles[server])
            });
            let row = self.policy.overlay_row(c.subject.transport, c.subject.port);
            if let (false, Some(overlay)) = (documented, row.and_then(|row| row.overlay.as_deref()))
            {
                members.entry(overlay).or_default().insert(client);
            }
        }
        let most = members.into_iter().max_by_key(|(_, members)| members.len());
        let several = most.filter(|(_, members)| members.len() >= CLIENTS);
        several.map(|(overlay, members)| (overlay.to_owned(), members.len()))
    }

    /// Counts the external addresses that sent unicast traffic, by network, largest number first.
    fn external_sources(&self) -> Vec<(IpNet, usize)> {
        let mut networks: BTreeMap<IpNet, usize> = BTreeMap::new();
        let presences = self.conversations.index.presences();
        for (address, _) in presences.iter().filter(|(_, p)| p.unicast_sent.0 > 0) {
            let is_inside = self.entity(*address).is_some() || self.policy.is_internal(*address);
            if !is_inside && !address.is_multicast() && !address.is_unspecified() {
                *networks.entry(prefix_of(*address)).or_default() += 1;
            }
        }
        let mut networks: Vec<(IpNet, usize)> = networks.into_iter().collect();
        networks.sort_by_key(|(network, count)| (std::cmp::Reverse(*count), *network));
        networks
    }

    /// Returns the services of each entity, with the clients of each service.
    fn serves(&self) -> Vec<BTreeMap<(Transport, u16), BTreeSet<IpAddr>>> {
        let mut serves = vec![BTreeMap::<_, BTreeSet<_>>::new(); self.entities.len()];
        for c in self.conclusive().filter(|c| c.state.reached()) {
            if let Some(entity) = self.entity(c.subject.server) {
                let service = (c.subject.transport, c.subject.port);
                serves[entity].entry(service).or_default().insert(c.subject.client);
            }
        }
        serves
    }

    /// Returns the external servers that internal hosts used, and the number of external clients.
    fn outside(&self) -> (Vec<Outside>, usize) {
        let is_outside = |a: IpAddr| {
            self.entity(a).is_none()
                && !self.policy.is_internal(a)
                && !a.is_multicast()
                && !a.is_unspecified()
        };
        let mut servers: BTreeMap<IpAddr, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        let mut clients = BTreeSet::new();
        for c in self.conclusive().filter(|c| c.state.reached()) {
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
        let outside = servers.into_iter().map(|(address, (names, uses))| {
            let mut roles = names
                .iter()
                .flat_map(|name| self.policy.roles_of_name(name).iter().collect::<Vec<_>>());
            let role = roles.next();
            let names = names.into_iter().collect();
            let uses = uses.into_iter().collect();
            Outside { address, names, uses, role }
        });
        (outside.collect(), clients.len())
    }

    /// Returns the features without which some traffic between the guessed roles would not be
    /// documented, each with an example.
    fn features(&self) -> BTreeMap<String, String> {
        let matrix = self.matrix();
        let mut features = BTreeMap::new();
        for c in self.conclusive().filter(|c| !self.is_of_a_domain(c)) {
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
                let from = self.name(client);
                let to = self.name(server);
                let on = if c.subject.transport.has_ports() { "on" } else { "with" };
                let example = format!("{from} connects to {to} {on} {service}");
                features.entry(feature.clone()).or_insert(example);
            }
        }
        features
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{BROKER, DC, GW, Packets, RDSH, STRANGER, ip, policy};

    const NOBODY: &str = "[farm]\nmatrix = \"ras-19\"\n";

    fn draft(packets: &Packets) -> Draft {
        let policy = policy(NOBODY);
        let internal = Given::usual_internal();
        let given = Given { internal, listed: None };
        Draft::of(&policy.matrix, &packets.conversations(&policy), &given)
    }

    fn host<'d>(draft: &'d Draft, address: &str) -> Option<&'d DraftHost> {
        draft.hosts.iter().find(|host| host.addresses.contains(&ip(address)))
    }

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn a_host_has_the_services_that_were_reached() {
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (BROKER, 20_002));
        packets.connect(1, ("10.1.0.2", 50_000), (BROKER, 20_002));
        packets.refuse(2, (GW, 50_001), (BROKER, 4444));
        let draft = draft(&packets);
        let broker = host(&draft, BROKER).expect("the broker");
        assert_eq!(broker.serves, BTreeMap::from([((Transport::TCP, 20_002), 2)]));
        let matrix = policy(NOBODY).matrix;
        let roles = broker.roles.iter().map(|guess| matrix.roles[guess.role].slug.as_str());
        assert_eq!(roles.collect::<Vec<_>>(), ["broker"]);
        assert!(!broker.roles[0].evidence.is_empty());
        assert!(host(&draft, GW).expect("the gateway").serves.is_empty());
    }

    #[test]
    fn invented_traffic_in_a_tunnel_shows_no_service_and_no_role() {
        let drafted = |is_tunnelled: bool| {
            let mut packets = Packets::default();
            packets.connect(0, ("10.1.0.66", 50_000), (RDSH, 9999));
            let first = packets.len();
            packets.connect(1, (GW, 50_000), ("10.1.0.66", 20_002));
            if is_tunnelled {
                packets.tunnel(first);
            }
            let draft = draft(&packets);
            let found = host(&draft, "10.1.0.66").expect("the host");
            (found.serves.len(), found.roles.len())
        };
        assert_eq!(drafted(true), (0, 0));
        assert_eq!(drafted(false), (1, 1));
    }

    #[test]
    fn two_addresses_of_one_hardware_address_are_one_host_only_if_one_is_ipv4() {
        let joined = |second: &str, macs: [u8; 2]| {
            let mut packets = Packets::default();
            for (address, last) in [RDSH, second].into_iter().zip(macs) {
                let first = packets.len();
                let peer = if address.contains(':') { "fd00::99" } else { BROKER };
                packets.send(0, Transport::UDP, (address, 50_000), (peer, 4444));
                packets.sent_by(first, mac(last));
            }
            host(&draft(&packets), RDSH).expect("the host").addresses.len()
        };
        assert_eq!(joined("fd00::30", [1, 1]), 2);
        assert_eq!(joined("fd00::30", [1, 2]), 1);
        // Two IPv4 addresses are not joined: their hardware address may be that of a router.
        assert_eq!(joined("10.1.0.31", [1, 1]), 1);
        assert!(is_own(&mac(1)) && !is_own(&Mac([0, 0, 0x5e, 0, 1, 1])));
        assert!(!is_own(&Mac([0, 0, 0x5e, 0, 2, 1])) && is_own(&Mac([0, 0, 0x5e, 0, 3, 1])));
    }

    #[test]
    fn a_member_with_two_addresses_counts_once() {
        let overlay = |members: &[[&str; 2]]| {
            let mut packets = Packets::default();
            let hosts = [&[[DC, "fd00::20"]][..], members].concat();
            for (addresses, last) in hosts.iter().zip(1..) {
                for address in addresses {
                    let first = packets.len();
                    let peer = if address.contains(':') { "fd00::99" } else { BROKER };
                    packets.send(0, Transport::UDP, (address, 50_000), (peer, 4444));
                    packets.sent_by(first, mac(last));
                }
            }
            for [v4, v6] in members {
                for port in [53, 88, 135, 389, 445, 464, 636, 3268] {
                    packets.connect(1, (v4, 50_000), (DC, port));
                    packets.connect(1, (v6, 50_000), ("fd00::20", port));
                }
            }
            draft(&packets).overlay
        };
        let [one, other] = [[RDSH, "fd00::30"], ["10.1.0.31", "fd00::31"]];
        assert_eq!(overlay(&[one]), None);
        assert_eq!(overlay(&[one, other]), Some(("windows-domain".to_owned(), 2)));
    }

    #[test]
    fn what_is_outside_is_no_host_of_the_farm() {
        let mut packets = Packets::default();
        packets.connect(0, (BROKER, 50_000), (STRANGER, 443));
        packets.connect(1, ("203.0.113.5", 50_000), (GW, 443));
        packets.refuse(2, (BROKER, 50_001), ("203.0.113.6", 443));
        let draft = draft(&packets);
        assert!(host(&draft, STRANGER).is_none());
        let outside: Vec<_> = draft.outside.iter().map(|server| server.address).collect();
        assert_eq!(outside, [ip(STRANGER)]);
        assert_eq!(draft.outside[0].uses.len(), 1);
        assert!(draft.outside[0].uses[0].starts_with("TCP 443 from "));
        assert_eq!(draft.from_outside, 1);
    }

    #[test]
    fn a_scan_gives_nobody_a_role() {
        let roles = |closed: u16| {
            let mut packets = Packets::default();
            packets.connect(0, (RDSH, 50_000), (BROKER, 20_003));
            packets.connect(0, (BROKER, 50_000), (RDSH, 30_004));
            for port in [20_001, 20_002, 30_004, 30_006] {
                packets.connect(1, (GW, 50_000), (BROKER, port));
                packets.connect(1, (GW, 50_001), (RDSH, port));
            }
            for port in 9000..9000 + closed {
                packets.refuse(2, (GW, 50_002), (BROKER, port));
            }
            let draft = draft(&packets);
            let guesses = |host: &DraftHost| host.roles.iter().map(|guess| guess.role).collect();
            let roles: [Vec<usize>; 3] =
                [GW, BROKER, RDSH].map(|address| guesses(host(&draft, address).expect("the host")));
            (roles, draft.scanners)
        };
        let ([gateway, broker, session_host], scanners) = roles(20);
        assert_eq!((gateway, broker.len(), session_host.len()), (vec![], 1, 1));
        assert_eq!(scanners, BTreeMap::from([(ip(GW), 20)]));
        // A host that is refused by a few services still shows its roles.
        let ([gateway, ..], scanners) = roles(19);
        assert!(!gateway.is_empty() && scanners.is_empty());
    }

    #[test]
    fn two_clients_make_a_network_and_one_does_not() {
        let networks = |clients: &[&str], serves: bool| {
            let mut packets = Packets::default();
            // The connections of the gateway show its role, and this role shows that the hosts that
            // connect to it are clients.
            packets.connect(0, (RDSH, 50_000), (BROKER, 20_003));
            packets.connect(0, (BROKER, 50_000), (RDSH, 30_004));
            packets.connect(0, (GW, 50_000), (BROKER, 20_002));
            packets.connect(0, (GW, 50_001), (RDSH, 3389));
            for client in clients {
                packets.connect(1, (client, 50_000), (GW, 80));
            }
            if serves {
                packets.connect(2, (GW, 50_009), (clients[0], 4444));
            }
            let draft = draft(&packets);
            let networks = draft.networks.iter().map(|network| network.cidr.to_string());
            networks.collect::<Vec<_>>()
        };
        assert_eq!(networks(&["10.9.0.5", "10.9.0.6"], false), ["10.9.0.0/24"]);
        assert_eq!(networks(&["10.9.0.5"], false), [""; 0]);
        assert_eq!(networks(&["10.9.0.5", "10.9.1.6"], false), [""; 0]);
        // If one of the two hosts provides a service, the other one alone does not make a network.
        assert_eq!(networks(&["10.9.0.5", "10.9.0.6"], true), [""; 0]);
    }

    #[test]
    fn only_an_address_of_one_internal_host_is_inside() {
        let policy = Policy::new(
            policy(NOBODY).matrix,
            Inventory { internal: Given::usual_internal(), ..Inventory::default() },
        );
        let inside = |text: &str| is_inside(&policy, ip(text));
        assert!(inside("10.1.0.1") && inside("192.168.0.1") && inside("fd00::1"));
        for other in ["224.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.0.1", "fe80::1", "8.8.8.8"] {
            assert!(!inside(other), "{other}");
        }
        assert!(!inside("255.255.255.255") && !inside("::1") && !inside("ff02::1"));
    }
}
