//! The policy as one thing that can be asked: who is this address, which rows fit this traffic.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Background, Exceptions, Inventory, Matrix, MovedPort, RoleSet, Row, Scope, Trait};
use crate::model::{Mac, Transport, is_link_local};

/// The keyed hash of the maps that are asked for each conversation.
type LookupHash = ahash::RandomState;

/// What an address is to the inventory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PartyKind {
    /// A host, by number.
    Host(usize),
    /// A destination known by name or address, by number.
    Service(usize),
    /// Somebody in a network, by number.
    Network(usize),
    /// Somebody of whom a question gives the roles alone.
    Asked,
    /// In no list.
    Stranger,
}

/// One end of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party {
    /// What the inventory knows of it.
    pub who: PartyKind,
    /// Its roles.
    pub roles: RoleSet,
}

/// Whether the features of a row are on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FeatureState {
    /// All of them are, or it needs none.
    On,
    /// None is off, and at least one is not named by the inventory.
    Unknown,
    /// At least one is off.
    Off,
}

/// A row that covers a port, as this site has it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The row's position in the matrix.
    pub row: usize,
    /// The port is where the site moved a documented one.
    pub moved: bool,
}

/// A matrix and an inventory, indexed.
#[derive(Clone)]
pub struct Policy {
    /// The matrix.
    pub matrix: Matrix,
    /// The inventory.
    pub inventory: Inventory,
    /// The site's exceptions.
    pub exceptions: Exceptions,
    addresses: HashMap<IpAddr, PartyKind, LookupHash>,
    /// The hosts of hardware addresses.
    macs: HashMap<Mac, usize, LookupHash>,
    networks: Vec<(u8, HashMap<IpAddr, usize, LookupHash>)>,
    single_ports: HashMap<(Transport, u16), Vec<usize>, LookupHash>,
    port_ranges: Vec<usize>,
    /// The roles that strangers play where clients may be anybody.
    clients: RoleSet,
    /// The roles through which clients come in.
    entrances: RoleSet,
    /// The roles whose answers to lookups are believed.
    directories: RoleSet,
    /// The hosts that each host stands for.
    holders: Vec<Vec<usize>>,
}

impl Policy {
    /// Indexes a matrix and an inventory.
    pub fn new(matrix: Matrix, inventory: Inventory) -> Self {
        let mut addresses = HashMap::default();
        for (number, service) in inventory.services.iter().enumerate() {
            addresses.extend(service.addresses.iter().map(|a| (*a, PartyKind::Service(number))));
        }
        for (number, host) in inventory.hosts.iter().enumerate() {
            addresses.extend(host.addresses.iter().map(|a| (*a, PartyKind::Host(number))));
        }
        // Longest prefix first; one map a length, so that a look-up costs the number of lengths.
        let mut networks: BTreeMap<u8, HashMap<IpAddr, usize, LookupHash>> = BTreeMap::new();
        for (number, network) in inventory.networks.iter().enumerate() {
            let length = network.cidr.prefix_len();
            networks.entry(length).or_default().insert(network.cidr.network(), number);
        }
        let mut single_ports: HashMap<_, Vec<usize>, LookupHash> = HashMap::default();
        let mut port_ranges = Vec::new();
        for (number, row) in matrix.rows.iter().enumerate() {
            if row.ports.start() == row.ports.end() {
                single_ports.entry((row.transport, *row.ports.start())).or_default().push(number);
            } else {
                port_ranges.push(number);
            }
        }
        let [clients, entrances, directories] =
            [Trait::Anybody, Trait::Entrance, Trait::Directory].map(|of| matrix.roles_with(of));
        let holders =
            inventory.hosts.iter().enumerate().map(|(number, host)| match host.is_virtual() {
                true => host.held_by.clone(),
                false => vec![number],
            });
        Self {
            holders: holders.collect(),
            macs: inventory
                .hosts
                .iter()
                .enumerate()
                .flat_map(|(number, host)| host.macs.iter().map(move |mac| (*mac, number)))
                .collect(),
            addresses,
            networks: networks.into_iter().rev().collect(),
            single_ports,
            port_ranges,
            clients,
            entrances,
            directories,
            matrix,
            inventory,
            exceptions: Exceptions::default(),
        }
    }

    /// What an address is. A link-local address belongs to the host whose hardware address fits it
    /// or its frames; a loopback address to the host that the capture was taken on.
    pub fn party<'a>(&self, address: IpAddr, macs: impl IntoIterator<Item = &'a Mac>) -> Party {
        let who = match self.addresses.get(&address) {
            Some(who) => *who,
            None if address.is_loopback() => {
                self.inventory.on.map_or(PartyKind::Stranger, PartyKind::Host)
            }
            None => match self.by_mac(address, macs).map(PartyKind::Host) {
                Some(host) => host,
                None => self.network(address).map_or(PartyKind::Stranger, PartyKind::Network),
            },
        };
        let roles = match who {
            PartyKind::Host(host) => self.inventory.hosts[host].roles,
            PartyKind::Service(service) => RoleSet::one(self.inventory.services[service].role),
            PartyKind::Network(network) => self.inventory.networks[network].roles,
            PartyKind::Stranger | PartyKind::Asked => RoleSet::default(),
        };
        Party { who, roles }
    }

    fn by_mac<'a>(
        &self,
        address: IpAddr,
        macs: impl IntoIterator<Item = &'a Mac>,
    ) -> Option<usize> {
        let eui = match address {
            IpAddr::V4(v4) if v4.is_link_local() => None,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(v6.octets()),
            _ => return None,
        };
        // An interface identifier that was made of a hardware address has these two bytes in its middle (RFC 4291, A).
        let of_eui = eui
            .filter(|e| e[11..13] == [0xff, 0xfe])
            .map(|e| Mac([e[8] ^ 2, e[9], e[10], e[13], e[14], e[15]]));
        let all = macs.into_iter().copied().chain(of_eui);
        let mut hosts = all.filter_map(|mac| self.host_of_mac(mac));
        let first = hosts.next()?;
        // What two hosts used is nobody's.
        hosts.all(|other| other == first).then_some(first)
    }

    /// The host whose hardware address it is.
    pub fn host_of_mac(&self, mac: Mac) -> Option<usize> {
        self.macs.get(&mac).copied()
    }

    /// The host whose address it is.
    pub fn host_of(&self, address: IpAddr) -> Option<usize> {
        match self.addresses.get(&address) {
            Some(PartyKind::Host(host)) => Some(*host),
            _ => None,
        }
    }

    /// What an address is that stands inside a host and was seen on a wire: nobody's.
    pub fn nobody() -> Party {
        Party { who: PartyKind::Stranger, roles: RoleSet::default() }
    }

    /// Whether a resolver's answers are to be believed: it is stated, or a domain controller.
    pub fn is_resolver(&self, address: IpAddr) -> bool {
        self.inventory.resolvers.contains(&address)
            || self
                .host_of(address)
                .is_some_and(|host| self.inventory.hosts[host].roles.intersects(self.directories))
    }

    /// The longest network of the inventory that holds an address.
    pub fn network(&self, address: IpAddr) -> Option<usize> {
        self.networks.iter().find_map(|(length, networks)| {
            let prefix = IpNet::new(address, *length).ok()?;
            networks.get(&prefix.network()).copied()
        })
    }

    /// The roles that a client plays towards a server: where clients may be anybody, a stranger is one
    /// towards gateways and HALB, and when it asks everybody for them.
    pub fn client_roles(&self, client: &Party, server: &Party, broadcast: bool) -> RoleSet {
        let anybody = self.inventory.clients_any && client.who == PartyKind::Stranger;
        let towards = broadcast || server.roles.intersects(self.entrances);
        if anybody && towards { self.clients } else { client.roles }
    }

    /// The row's ports as this site has them, in words: a moved port with where it came from.
    pub fn ports_here(&self, row: &Row) -> String {
        let moved = self.inventory.moved.iter().find(|m| {
            m.transport == row.transport
                && m.host.is_none()
                && row.ports.contains(&m.from)
                && self.matrix.is_destination(row, m.roles)
        });
        moved.map_or_else(|| row.ports_text(), |m| m.to.to_string())
    }

    /// The rows that document a port at `server`, had the site not moved it away.
    pub fn moved_away(
        &self,
        transport: Transport,
        port: u16,
        server: Party,
    ) -> impl Iterator<Item = usize> + '_ {
        self.rows_at(transport, port).filter(move |row| {
            self.moves(transport, server).any(|m| m.from == port && self.is_of(*row, m.roles))
        })
    }

    /// The roles of the services that a name belongs to: those of the inventory and those of the rules.
    pub fn roles_of_name(&self, name: &str) -> RoleSet {
        let listed =
            self.inventory.services.iter().filter(|s| s.names.iter().any(|n| n.matches(name)));
        let shipped = self.matrix.services.iter().filter(|(_, pattern)| pattern.matches(name));
        let roles = listed.map(|s| s.role).chain(shipped.map(|(role, _)| *role));
        roles.fold(RoleSet::default(), |set, role| set.with(RoleSet::one(role)))
    }

    /// The roles that somebody plays: a host, a network, a service, or anybody.
    pub fn present_roles(&self) -> RoleSet {
        let inventory = &self.inventory;
        let hosts = inventory.hosts.iter().map(|h| h.roles);
        let networks = inventory.networks.iter().map(|n| n.roles);
        let services = inventory.services.iter().map(|s| RoleSet::one(s.role));
        let anybody = if inventory.clients_any { self.clients } else { RoleSet::default() };
        hosts.chain(networks).chain(services).fold(anybody, RoleSet::with)
    }

    /// Learns on which host a capture with loopback traffic was taken, where that is not stated: the
    /// one inventory host that is an end of every conversation between two addresses. Returns whether
    /// it was learned.
    pub fn learn_loopback(&mut self, ends: impl Iterator<Item = (IpAddr, IpAddr)>) -> bool {
        let (mut loopback, mut common): (bool, Option<BTreeSet<usize>>) = (false, None);
        for (a, b) in ends {
            if a.is_loopback() || b.is_loopback() {
                // One loopback end alone is somebody's forgery, not traffic inside a host.
                loopback |= a.is_loopback() && b.is_loopback();
                continue;
            }
            let hosts: BTreeSet<usize> = [a, b]
                .into_iter()
                .filter_map(|address| match self.addresses.get(&address) {
                    Some(PartyKind::Host(host)) => Some(*host),
                    _ => None,
                })
                .collect();
            common =
                Some(common.map_or(hosts.clone(), |c| c.intersection(&hosts).copied().collect()));
        }
        let mut common = common.unwrap_or_default().into_iter();
        match (loopback && self.inventory.on.is_none(), common.next(), common.next()) {
            (true, Some(host), None) => {
                self.inventory.on = Some(host);
                true
            }
            _ => false,
        }
    }

    /// The first address of the host that an address belongs to; of others the address itself.
    pub fn canonical(&self, address: IpAddr) -> IpAddr {
        match self.addresses.get(&address) {
            Some(PartyKind::Host(host)) => self.inventory.hosts[*host].addresses[0],
            _ => address,
        }
    }

    /// Whether an IPv4 address is the last of its network: of the longest prefix of the inventory
    /// that holds it, else of its /24.
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        let IpAddr::V4(v4) = address else {
            return false;
        };
        if self.addresses.contains_key(&address) || v4.is_loopback() {
            return false;
        }
        match self.network(address) {
            Some(network) => {
                let cidr = self.inventory.networks[network].cidr;
                cidr.prefix_len() < 31 && cidr.broadcast() == address
            }
            // Outside nobody knows the networks.
            None => v4.octets()[3] == 255 && self.is_internal(address),
        }
    }

    /// Whether an IPv4 address stands for everybody on a link.
    pub fn is_everybody(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) || self.is_broadcast(address)
    }

    /// Whether an address counts as inside; what never crosses a router does.
    pub fn is_internal(&self, address: IpAddr) -> bool {
        is_link_local(address)
            || address.is_loopback()
            || self.inventory.internal.iter().any(|net| net.contains(&address))
    }

    /// The rows whose port this is at `server`, moved ports counted where they are now.
    pub fn candidates(
        &self,
        transport: Transport,
        port: u16,
        server: Party,
    ) -> impl Iterator<Item = Candidate> + '_ {
        let port = if transport.has_ports() { port } else { 0 };
        let moved_here = self.moves(transport, server).filter(move |m| m.to == port);
        let moved = moved_here.flat_map(move |m| {
            self.rows_at(transport, m.from)
                .filter(move |row| self.is_of(*row, m.roles))
                .map(|row| Candidate { row, moved: true })
        });
        self.rows_at(transport, port)
            .filter(move |row| {
                !self.moves(transport, server).any(|m| m.from == port && self.is_of(*row, m.roles))
            })
            .map(|row| Candidate { row, moved: false })
            .chain(moved)
    }

    fn is_of(&self, row: usize, roles: RoleSet) -> bool {
        self.matrix.is_destination(&self.matrix.rows[row], roles)
    }

    fn moves(&self, transport: Transport, server: Party) -> impl Iterator<Item = &MovedPort> {
        self.inventory.moved.iter().filter(move |m| {
            m.transport == transport
                && server.roles.intersects(m.roles)
                && m.host.is_none_or(|host| server.who == PartyKind::Host(host))
        })
    }

    /// The rows whose documented ports hold `port`, in the order of the matrix.
    pub fn rows_at(&self, transport: Transport, port: u16) -> impl Iterator<Item = usize> + '_ {
        let single = self.single_ports.get(&(transport, port)).into_iter().flatten().copied();
        let ranges = self.port_ranges.iter().copied().filter(move |row| {
            let row = &self.matrix.rows[*row];
            row.transport == transport && row.ports.contains(&port)
        });
        single.chain(ranges)
    }

    /// The row of an overlay that a service belongs to, whether the inventory names the overlay or not.
    pub fn overlay_row(&self, transport: Transport, port: u16) -> Option<&Row> {
        let named = self.matrix.rows.iter().filter(|row| row.overlay.is_some());
        let mut rows = named.chain(&self.matrix.unused_overlays);
        rows.find(|row| row.transport == transport && row.ports.contains(&port))
    }

    /// The roles that serve a port by the rows of the matrix itself.
    pub fn serving(&self, transport: Transport, port: u16) -> RoleSet {
        let rows = self.rows_at(transport, port).map(|number| &self.matrix.rows[number]);
        let rows = rows.filter(|row| row.scope == Scope::Network && row.overlay.is_none());
        rows.fold(RoleSet::default(), |set, row| {
            set.with(self.matrix.roles[row.destination].members)
        })
    }

    /// Whether a port is the product's own: nobody but its components serves it, and no client or anybody else opens it,
    /// or one of them alone serves it. What others use too says something only where the other side is known.
    pub fn is_own_port(&self, transport: Transport, port: u16) -> bool {
        let matrix = &self.matrix;
        let of_product = |roles: RoleSet| {
            !roles.is_empty() && roles.iter().all(|role| matrix.roles[role].is_component())
        };
        let mut rows = self.rows_at(transport, port).map(|number| &matrix.rows[number]);
        let mut any = false;
        let all = rows.all(|row| {
            any = true;
            let (from, to) = (&matrix.roles[row.source], &matrix.roles[row.destination]);
            row.scope == Scope::Localhost
                || (!from.is_any
                    && !to.is_any
                    && of_product(to.members)
                    && from.members.iter().all(|role| !matrix.roles[role].is_client()))
        });
        let serving = self.serving(transport, port);
        let single = serving.len() == 1 && of_product(serving);
        any && (all || single) && self.overlay_row(transport, port).is_none()
    }

    /// Whether the features of a row are on.
    pub fn feature_state(&self, row: &Row) -> FeatureState {
        let state = |feature: &String| match self.inventory.features.get(feature) {
            Some(true) => FeatureState::On,
            Some(false) => FeatureState::Off,
            None => FeatureState::Unknown,
        };
        row.features.iter().map(state).max().unwrap_or(FeatureState::On)
    }

    /// Returns the features of a row that the inventory does not name, each with whether a usual farm has it.
    pub fn unstated<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (&'a str, bool)> {
        let features = row.features.iter().map(String::as_str);
        let unnamed = features.filter(|name| !self.inventory.features.contains_key(*name));
        unnamed.map(|name| (name, self.matrix.features.get(name).is_some_and(|f| f.usual)))
    }

    /// Whether a row permits only what some feature permits that is usually off and that the inventory does not name.
    pub fn is_unusual(&self, row: &Row) -> bool {
        self.feature_state(row) == FeatureState::Unknown
            && self.unstated(row).any(|(_, usual)| !usual)
    }

    /// Returns the listed addresses that lie outside every internal prefix: host and address.
    pub fn outside_internal(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        let hosts = self.inventory.hosts.iter();
        let all = hosts.flat_map(|host| host.addresses.iter().map(|a| (host.name.as_str(), *a)));
        all.filter(|(_, address)| !self.is_internal(*address))
    }

    /// The background entry that a server port belongs to.
    pub fn background(&self, transport: Transport, port: u16) -> Option<&Background> {
        self.matrix
            .background
            .iter()
            .find(|b| b.transport == transport && b.port.is_none_or(|p| p == port))
    }

    /// The hosts that play one of the roles: real ones, and virtual addresses apart.
    pub fn hosts_of(&self, roles: RoleSet) -> impl Iterator<Item = usize> + '_ {
        self.inventory.hosts.iter().enumerate().filter_map(move |(number, host)| {
            (host.roles.intersects(roles) && !host.is_virtual()).then_some(number)
        })
    }

    /// The hosts that a host stands for: itself, or the holders of a virtual address.
    pub fn holders(&self, host: usize) -> &[usize] {
        &self.holders[host]
    }
}

/// Parties in words.
impl Policy {
    /// The inventory's name of a party; empty where it has none.
    pub fn name_of(&self, party: &Party) -> &str {
        match party.who {
            PartyKind::Host(host) => &self.inventory.hosts[host].name,
            PartyKind::Network(network) => &self.inventory.networks[network].name,
            PartyKind::Service(_) | PartyKind::Stranger | PartyKind::Asked => "",
        }
    }

    /// The inventory's name of a party, else its address.
    pub fn label(&self, party: &Party, address: IpAddr) -> String {
        match self.name_of(party) {
            "" => address.to_string(),
            name => name.to_owned(),
        }
    }

    /// What a party is, and by which line of the inventory.
    pub fn describe(&self, party: &Party) -> String {
        let roles = match self.matrix.role_titles(party.roles) {
            names if names.is_empty() => "no role".to_owned(),
            names => names.join(", "),
        };
        let inventory = &self.inventory;
        let (what, line) = match party.who {
            PartyKind::Host(host) => {
                let host = &inventory.hosts[host];
                let kind = if host.is_virtual() { "virtual address" } else { "host" };
                (format!("{kind} {}", host.name), host.line)
            }
            PartyKind::Network(network) => {
                let network = &inventory.networks[network];
                (format!("network {} ({})", network.name, network.cidr), network.line)
            }
            PartyKind::Service(service) => ("service".to_owned(), inventory.services[service].line),
            PartyKind::Stranger | PartyKind::Asked => return "not in the inventory".to_owned(),
        };
        format!("{what}, {roles}, by line {line} of the inventory")
    }
}
