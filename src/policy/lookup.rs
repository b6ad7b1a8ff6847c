//! The policy: a matrix and an inventory, indexed to look up the party of an address and the rows
//! that cover a service.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::address_blocks::{is_unroutable, without_translation};
use super::{
    Background, Exception, ExceptionParty, Exceptions, Inventory, LookupHash, Matrix, MovedPort,
    Party, PartyKind, RoleKind, RoleSet, Row, Scope, Trait,
};
use crate::model::{Mac, Transport, is_link_local, network_around, site_around};

/// The state of the features of a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FeatureState {
    /// All features are on, or the row does not need any.
    On,
    /// No feature is off, but at least one of them is not listed in the inventory.
    Unknown,
    /// At least one feature is off.
    Off,
}

/// A row that covers a port at this site.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The index of the row in the matrix.
    pub row: usize,
    /// Whether the site moved a documented port of the row to this port.
    pub moved: bool,
}

/// A matrix, an inventory and a list of exceptions, indexed for lookups.
#[derive(Clone)]
pub struct Policy {
    /// The port matrix, including the rows of its overlays.
    pub matrix: Matrix,
    /// The inventory of the site.
    pub inventory: Inventory,
    /// The exceptions, which a person approved.
    pub exceptions: Exceptions,
    addresses: HashMap<IpAddr, PartyKind, LookupHash>,
    /// For each hardware address, the index of its host, or `None` if it is listed for several.
    macs: HashMap<Mac, Option<usize>, LookupHash>,
    networks: Vec<(u8, HashMap<IpAddr, usize, LookupHash>)>,
    /// The networks around the hosts of the farm; see [`Self::is_neighbour`].
    neighbourhoods: HashSet<IpAddr, LookupHash>,
    /// Whether the inventory lists the internal prefixes.
    states_internal: bool,
    /// The prefixes that probably belong to the site; see [`Self::may_be_of_site`].
    sites: HashSet<IpAddr, LookupHash>,
    single_ports: HashMap<(Transport, u16), Vec<usize>, LookupHash>,
    port_ranges: Vec<usize>,
    /// The roles that unlisted addresses have if clients may have any address.
    clients: RoleSet,
    /// The roles of the hosts through which clients enter the farm.
    entrances: RoleSet,
    /// The roles whose DNS answers are trusted.
    directories: RoleSet,
    /// For each host, the host itself or, for a virtual address, its holders.
    holders: Vec<Vec<usize>>,
}

impl Policy {
    /// Indexes a matrix and an inventory. The list of exceptions is empty.
    pub fn new(matrix: Matrix, inventory: Inventory) -> Self {
        let mut addresses = HashMap::default();
        addresses.reserve(inventory.hosts.iter().map(|host| host.addresses.len()).sum());
        for (number, service) in inventory.services.iter().enumerate() {
            addresses.extend(service.addresses.iter().map(|a| (*a, PartyKind::Service(number))));
        }
        for (number, host) in inventory.hosts.iter().enumerate() {
            addresses.extend(host.addresses.iter().map(|a| (*a, PartyKind::Host(number))));
        }
        // There is one map per prefix length, longest first, so that a lookup needs one probe per
        // length.
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
        let holders = inventory.hosts.iter().enumerate().map(|(number, host)| {
            if host.is_virtual() { host.held_by.clone() } else { vec![number] }
        });
        let public = public_addresses(&matrix, &inventory, entrances);
        let around = |network: fn(IpAddr) -> IpAddr| public.iter().copied().map(network).collect();
        let neighbourhoods = around(network_around);
        let states_internal = inventory.internal != Inventory::usual_internal();
        let sites = if states_internal { HashSet::default() } else { around(site_around) };
        Self {
            holders: holders.collect(),
            macs: owners_of_macs(&inventory),
            addresses,
            networks: networks.into_iter().rev().collect(),
            neighbourhoods,
            states_internal,
            sites,
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

    /// Returns the party that an address belongs to. An unlisted link-local address belongs to the
    /// host whose hardware address sent its frames or is part of the address. A loopback address
    /// belongs to the host on which the capture was taken.
    pub fn party<'a>(&self, address: IpAddr, macs: impl IntoIterator<Item = &'a Mac>) -> Party {
        let kind = match self.addresses.get(&address) {
            Some(kind) => *kind,
            None if address.is_loopback() => {
                self.inventory.on.map_or(PartyKind::Stranger, PartyKind::Host)
            }
            None => match self.by_mac(address, macs).map(PartyKind::Host) {
                Some(host) => host,
                None => self.network(address).map_or(PartyKind::Stranger, PartyKind::Network),
            },
        };
        let roles = match kind {
            PartyKind::Host(host) => self.inventory.hosts[host].roles,
            PartyKind::Service(service) => RoleSet::one(self.inventory.services[service].role),
            PartyKind::Network(network) => self.inventory.networks[network].roles,
            PartyKind::Stranger | PartyKind::RolesOnly => RoleSet::default(),
        };
        Party { kind, roles }
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
        // An interface identifier that is derived from a hardware address has these two bytes in
        // the middle (RFC 4291, appendix A).
        let of_eui = eui
            .filter(|e| e[11..13] == [0xff, 0xfe])
            .map(|e| Mac([e[8] ^ 2, e[9], e[10], e[13], e[14], e[15]]));
        // If hardware addresses of frames are known, only they count, because anyone can choose an
        // IP address. If they belong to several hosts, or one of them to none, no host is found.
        let mut macs = macs.into_iter().copied().peekable();
        let of_eui = of_eui.filter(|_| macs.peek().is_none());
        let mut hosts = macs.chain(of_eui).map(|mac| self.host_of_mac(mac));
        let first = hosts.next()??;
        hosts.all(|other| other == Some(first)).then_some(first)
    }

    /// Returns the index of the host that has a hardware address; `None` if no host or several are
    /// listed with it.
    pub fn host_of_mac(&self, mac: Mac) -> Option<usize> {
        self.macs.get(&mac).copied().flatten()
    }

    /// Returns whether a hardware address is in the inventory.
    pub fn is_listed_mac(&self, mac: Mac) -> bool {
        self.macs.contains_key(&mac)
    }

    /// Returns the hardware addresses that are listed for several hosts, in order. A virtual
    /// address may have a hardware address of its holder.
    pub fn shared_macs(&self) -> Vec<Mac> {
        let shared = self.macs.iter().filter(|(_, host)| host.is_none());
        let mut shared: Vec<Mac> = shared.map(|(mac, _)| *mac).collect();
        shared.sort_unstable();
        shared
    }

    /// Returns the index of the host that has an address.
    pub fn host_of(&self, address: IpAddr) -> Option<usize> {
        match self.addresses.get(&address) {
            Some(PartyKind::Host(host)) => Some(*host),
            _ => None,
        }
    }

    /// Returns the party of an address that is valid only inside a host but was seen on a network.
    /// Such an address does not belong to any host.
    pub fn nobody() -> Party {
        Party { kind: PartyKind::Stranger, roles: RoleSet::default() }
    }

    /// Returns whether the answers of a resolver are trusted: the inventory lists it as a resolver,
    /// or it has a directory role, such as domain controller.
    pub fn is_resolver(&self, address: IpAddr) -> bool {
        self.inventory.resolvers.contains(&address)
            || self
                .host_of(address)
                .is_some_and(|host| self.inventory.hosts[host].roles.intersects(self.directories))
    }

    /// Returns whether an exception permits all traffic that another one would permit, whenever
    /// both are valid. Returns false if the answer is not certain, for example for a listed host
    /// that may also have unlisted addresses.
    pub fn covers(&self, whole: &Exception, part: &Exception) -> bool {
        let ports_covered = match (whole.ports, part.ports) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(whole), Some(part)) => whole.0 <= part.0 && part.1 <= whole.1,
        };
        let side = |whole: &ExceptionParty, part: &ExceptionParty| self.covers_side(whole, part);
        let same_ends = side(&whole.from, &part.from) && side(&whole.to, &part.to);
        let exchanged = side(&whole.from, &part.to) && side(&whole.to, &part.from);
        (whole.transport.is_none() || whole.transport == part.transport)
            && ports_covered
            && match (whole.both, part.both) {
                (false, true) => false,
                (false, false) => same_ends,
                (true, _) => same_ends || exchanged,
            }
    }

    fn covers_side(&self, whole: &ExceptionParty, part: &ExceptionParty) -> bool {
        if whole == part || *whole == ExceptionParty::Any {
            return true;
        }
        match part {
            ExceptionParty::Host(number) => {
                let host = &self.inventory.hosts[*number];
                // A host with listed hardware addresses, and the host on which the capture was
                // taken, may use addresses that are not listed.
                let is_whole = host.macs.is_empty() && self.inventory.on != Some(*number);
                let party = Party { kind: PartyKind::Host(*number), roles: host.roles };
                let mut addresses = host.addresses.iter();
                !host.addresses.is_empty()
                    && addresses.all(|address| whole.includes(&party, *address))
                    && (is_whole || !matches!(whole, ExceptionParty::Addresses(_)))
            }
            ExceptionParty::Addresses(net) if net.prefix_len() == net.max_prefix_len() => {
                whole.includes(&self.party(net.addr(), []), net.addr())
            }
            ExceptionParty::Addresses(net) => {
                matches!(whole, ExceptionParty::Addresses(whole) if whole.contains(net))
            }
            _ => false,
        }
    }

    /// Returns the index of the network with the longest prefix that contains an address.
    pub fn network(&self, address: IpAddr) -> Option<usize> {
        self.networks.iter().find_map(|(length, networks)| {
            let prefix = IpNet::new(address, *length).ok()?;
            networks.get(&prefix.network()).copied()
        })
    }

    /// Returns the roles that a client has towards a server. If clients may have any address, an
    /// unlisted address is a client when it connects to a gateway or HALB.
    pub fn client_roles(&self, client: &Party, server: &Party) -> RoleSet {
        if server.roles.intersects(self.entrances) {
            self.broadcaster_roles(client)
        } else {
            client.roles
        }
    }

    /// Returns the roles of a party that broadcasts. If clients may have any address, an unlisted
    /// address that broadcasts is a client.
    pub fn broadcaster_roles(&self, client: &Party) -> RoleSet {
        if self.is_anybody(client) { self.clients } else { client.roles }
    }

    /// Returns whether a party is a client only because clients may have any address.
    pub fn is_anybody(&self, client: &Party) -> bool {
        self.inventory.clients_any && client.kind == PartyKind::Stranger
    }

    /// Returns whether a row allows something to a client that is one only because clients may have
    /// any address. It may enter the farm, but a server that is also an entrance keeps its other
    /// roles for the hosts of the farm, and the rows of overlays are for the hosts of the site.
    pub fn is_for_anybody(&self, row: &Row) -> bool {
        let matrix = &self.matrix;
        matrix.roles[row.source].is_any
            || (row.overlay.is_none()
                && (row.scope == Scope::Broadcast || matrix.is_destination(row, self.entrances)))
    }

    /// Returns the ports of a row at this site as text. If the site moved one of them for all
    /// hosts, returns only the new port.
    pub fn ports_here(&self, row: &Row) -> String {
        self.ports_if_moved(row, |moved| moved.host.is_none())
    }

    /// Returns the ports of a row at a host as text. If the site moved one of them for this host,
    /// returns only the new port.
    pub fn ports_at(&self, row: &Row, host: usize) -> String {
        let roles = self.inventory.hosts[host].roles;
        self.ports_if_moved(row, |moved| {
            moved.host.is_none_or(|only| only == host) && roles.intersects(moved.roles)
        })
    }

    fn ports_if_moved(&self, row: &Row, applies: impl Fn(&MovedPort) -> bool) -> String {
        let moved = self.inventory.moved.iter().find(|m| {
            m.transport == row.transport
                && applies(m)
                && row.ports.contains(&m.from)
                && self.matrix.is_destination(row, m.roles)
        });
        moved.map_or_else(|| row.ports_text(), |m| m.to.to_string())
    }

    /// Returns the rows that would document a port on `server` if the site had not moved that port.
    pub fn moved_away(
        &self,
        transport: Transport,
        port: u16,
        server: Party,
    ) -> impl Iterator<Item = usize> + '_ {
        self.rows_at(transport, port).filter(move |row| {
            self.moved_ports(transport, server)
                .any(|m| m.from == port && self.is_served_by(*row, m.roles))
        })
    }

    /// Returns the entry of the inventory that moved a documented port of a server; `None` if the
    /// port was not moved.
    pub fn moved_from(&self, transport: Transport, port: u16, server: Party) -> Option<&MovedPort> {
        self.moved_ports(transport, server).find(|moved| moved.from == port)
    }

    /// Returns the roles of the external services that a name belongs to, from the inventory and
    /// from the rules.
    pub fn roles_of_name(&self, name: &str) -> RoleSet {
        let listed =
            self.inventory.services.iter().filter(|s| s.names.iter().any(|n| n.matches(name)));
        let shipped = self.matrix.services.iter().filter(|(_, pattern)| pattern.matches(name));
        let roles = listed.map(|s| s.role).chain(shipped.map(|(role, _)| *role));
        roles.fold(RoleSet::default(), |set, role| set.with(RoleSet::one(role)))
    }

    /// Returns the roles of all hosts, networks and services, and the client roles if clients may
    /// have any address.
    pub fn present_roles(&self) -> RoleSet {
        let inventory = &self.inventory;
        let hosts = inventory.hosts.iter().map(|h| h.roles);
        let networks = inventory.networks.iter().map(|n| n.roles);
        let services = inventory.services.iter().map(|s| RoleSet::one(s.role));
        let anybody = if inventory.clients_any { self.clients } else { RoleSet::default() };
        hosts.chain(networks).chain(services).fold(anybody, RoleSet::with)
    }

    /// Infers the host on which a capture with loopback traffic was taken, if the inventory does
    /// not name it, and returns its index. Apart from loopback traffic, exactly one listed host
    /// must take part in every conversation.
    pub fn loopback_host(
        &self,
        ends: impl Iterator<Item = (IpAddr, IpAddr)> + Clone,
    ) -> Option<usize> {
        let is_loopback = |(a, b): (IpAddr, IpAddr)| a.is_loopback() && b.is_loopback();
        if self.inventory.on.is_some() || !ends.clone().any(is_loopback) {
            return None;
        }
        let hosts = |(a, b): (IpAddr, IpAddr)| -> BTreeSet<usize> {
            [a, b].into_iter().filter_map(|address| self.host_of(address)).collect()
        };
        // If only one end is a loopback address, the traffic is forged and not internal to a host.
        let mut others = ends.filter(|(a, b)| !a.is_loopback() && !b.is_loopback());
        let mut common = hosts(others.next()?);
        for ends in others {
            common = common.intersection(&hosts(ends)).copied().collect();
        }
        let mut common = common.into_iter();
        common.next().filter(|_| common.next().is_none())
    }

    /// Returns the first address of the host that an address belongs to, or the address itself if
    /// it does not belong to a host.
    pub fn canonical(&self, address: IpAddr) -> IpAddr {
        match self.addresses.get(&address) {
            Some(PartyKind::Host(host)) => self.inventory.hosts[*host].addresses[0],
            _ => address,
        }
    }

    /// Returns whether an IPv4 address is the directed broadcast address of its network. The
    /// network is the longest prefix in the inventory that contains the address or, for other
    /// internal addresses, the /24.
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
            // The prefix length is unknown, so a /24 is assumed for internal addresses.
            None => v4.octets()[3] == 255 && self.is_internal(address),
        }
    }

    /// Returns whether an IPv4 address is the limited or a directed broadcast address.
    pub fn is_everybody(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(v4) if v4.is_broadcast()) || self.is_broadcast(address)
    }

    /// Returns whether an address counts as internal. Link-local and loopback addresses always do,
    /// because their packets never cross a router. An IPv6 address that contains an internal IPv4
    /// address is internal, too.
    pub fn is_internal(&self, address: IpAddr) -> bool {
        let translated = without_translation(address);
        is_link_local(address)
            || address.is_loopback()
            || self.inventory.internal.iter().any(|net| net.contains(&address))
            || translated != address && self.is_internal(translated)
    }

    /// Returns whether an address belongs to a network of the farm, although no internal prefix
    /// contains it: it is in a listed network with roles of the farm, in the same /64 as a
    /// component or an infrastructure host, or in the same /24 as a component of the product. The
    /// public IPv4 address of a gateway or HALB has no neighbours, because it is often in a network
    /// of the provider.
    pub fn is_neighbour(&self, party: &Party, address: IpAddr) -> bool {
        let is_of_network = matches!(party.kind, PartyKind::Network(_))
            && !party.roles.is_empty()
            && are_of_farm(&self.matrix, party.roles);
        is_of_network || self.neighbourhoods.contains(&network_around(address))
    }

    /// Returns whether an external address may belong to the site: the inventory does not list the
    /// internal prefixes, and the address is in a listed network, is not used on the internet, or
    /// is in the same /48 or /16 as one of the addresses whose neighbours [`Self::is_neighbour`]
    /// returns.
    pub fn may_be_of_site(&self, party: &Party, address: IpAddr) -> bool {
        let is_listed = matches!(party.kind, PartyKind::Network(_));
        let is_unroutable = is_unroutable(without_translation(address));
        !self.states_internal && (is_listed || is_unroutable)
            || self.sites.contains(&site_around(address))
    }

    /// Returns the rows that cover a port on `server`. A port that the site moved counts only under
    /// its new number.
    pub fn candidates(
        &self,
        transport: Transport,
        port: u16,
        server: Party,
    ) -> impl Iterator<Item = Candidate> + '_ {
        let port = if transport.has_ports() { port } else { 0 };
        let moved_here = self.moved_ports(transport, server).filter(move |m| m.to == port);
        let moved = moved_here.flat_map(move |m| {
            self.rows_at(transport, m.from)
                .filter(move |row| self.is_served_by(*row, m.roles))
                .map(|row| Candidate { row, moved: true })
        });
        self.rows_at(transport, port)
            .filter(move |row| {
                !self
                    .moved_ports(transport, server)
                    .any(|m| m.from == port && self.is_served_by(*row, m.roles))
            })
            .map(|row| Candidate { row, moved: false })
            .chain(moved)
    }

    fn is_served_by(&self, row: usize, roles: RoleSet) -> bool {
        self.matrix.is_destination(&self.matrix.rows[row], roles)
    }

    fn moved_ports(&self, transport: Transport, server: Party) -> impl Iterator<Item = &MovedPort> {
        self.inventory.moved.iter().filter(move |m| {
            m.transport == transport
                && server.roles.intersects(m.roles)
                && m.host.is_none_or(|host| server.kind == PartyKind::Host(host))
        })
    }

    /// Returns the indexes of the rows whose documented ports include `port`. Rows with a single
    /// port come before rows with a range. Otherwise the rows are in the order of the matrix.
    pub fn rows_at(&self, transport: Transport, port: u16) -> impl Iterator<Item = usize> + '_ {
        let single = self.single_ports.get(&(transport, port)).into_iter().flatten().copied();
        let ranges = self.port_ranges.iter().copied().filter(move |row| {
            let row = &self.matrix.rows[*row];
            row.transport == transport && row.ports.contains(&port)
        });
        single.chain(ranges)
    }

    /// Returns the first overlay row that covers a service, whether or not the overlay is in use.
    pub fn overlay_row(&self, transport: Transport, port: u16) -> Option<&Row> {
        let named = self.matrix.rows.iter().filter(|row| row.overlay.is_some());
        let mut rows = named.chain(&self.matrix.unused_overlays);
        rows.find(|row| row.transport == transport && row.ports.contains(&port))
    }

    /// Returns the roles that serve a port according to the matrix without its overlays. Only rows
    /// for traffic from host to host count ([`Scope::Network`]).
    pub fn serving(&self, transport: Transport, port: u16) -> RoleSet {
        let rows = self.rows_at(transport, port).map(|number| &self.matrix.rows[number]);
        let rows = rows.filter(|row| row.scope == Scope::Network && row.overlay.is_none());
        rows.fold(RoleSet::default(), |set, row| {
            set.with(self.matrix.roles[row.destination].members)
        })
    }

    /// Returns whether a port is specific to the product: only components of the product serve it
    /// and neither clients nor arbitrary addresses connect to it, or a single role serves it and
    /// that role is a component. Rows for traffic inside a host may have any roles. A port that an
    /// overlay documents is not specific, because other software uses it, too.
    pub fn is_own_port(&self, transport: Transport, port: u16) -> bool {
        let matrix = &self.matrix;
        let of_product = |roles: RoleSet| {
            !roles.is_empty() && roles.iter().all(|role| matrix.roles[role].is_component())
        };
        let mut rows = self.rows_at(transport, port).map(|number| &matrix.rows[number]);
        let mut any = false;
        let all = rows.all(|row| {
            any = true;
            let from = &matrix.roles[row.source];
            let to = &matrix.roles[row.destination];
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

    /// Returns the combined state of the features of a row.
    pub fn feature_state(&self, row: &Row) -> FeatureState {
        let state = |feature: &String| match self.inventory.features.get(feature) {
            Some(true) => FeatureState::On,
            Some(false) => FeatureState::Off,
            None => FeatureState::Unknown,
        };
        row.features.iter().map(state).max().unwrap_or(FeatureState::On)
    }

    /// Returns the features of a row that are off.
    pub fn off<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = &'a str> {
        let is_off = |name: &&str| self.inventory.features.get(*name) == Some(&false);
        row.features.iter().map(String::as_str).filter(is_off)
    }

    /// Returns the features of a row that the inventory does not list, and whether a typical farm
    /// has each of them.
    pub fn unstated<'a>(&'a self, row: &'a Row) -> impl Iterator<Item = (&'a str, bool)> {
        let features = row.features.iter().map(String::as_str);
        let unnamed = features.filter(|name| !self.inventory.features.contains_key(*name));
        unnamed.map(|name| (name, self.matrix.features.get(name).is_some_and(|f| f.usual)))
    }

    /// Returns whether a row needs a feature that is usually off and that the inventory does not
    /// list. Returns `false` if one of its features is known to be off.
    pub fn is_unusual(&self, row: &Row) -> bool {
        self.feature_state(row) == FeatureState::Unknown
            && self.unstated(row).any(|(_, usual)| !usual)
    }

    /// Returns each address of a listed host that is outside all internal prefixes, with the name
    /// of the host.
    pub fn outside_internal(&self) -> impl Iterator<Item = (&str, IpAddr)> {
        let hosts = self.inventory.hosts.iter();
        let all = hosts.flat_map(|host| host.addresses.iter().map(|a| (host.name.as_str(), *a)));
        all.filter(|(_, address)| !self.is_internal(*address))
    }

    /// Returns the kind of background traffic that uses a server port; `None` if there is none.
    /// Whether the destination qualifies ([`Background::anywhere`]) is not checked here.
    pub fn background(&self, transport: Transport, port: u16) -> Option<&Background> {
        self.matrix
            .background
            .iter()
            .find(|b| b.transport == transport && b.port.is_none_or(|p| p == port))
    }

    /// Returns the indexes of the hosts that have at least one of the roles, except virtual
    /// addresses.
    pub fn hosts_of(&self, roles: RoleSet) -> impl Iterator<Item = usize> + '_ {
        self.inventory.hosts.iter().enumerate().filter_map(move |(number, host)| {
            (host.roles.intersects(roles) && !host.is_virtual()).then_some(number)
        })
    }

    /// Returns the host itself or, for a virtual address, its holders.
    pub fn holders(&self, host: usize) -> &[usize] {
        &self.holders[host]
    }
}

/// Returns, for each listed hardware address, the index of its host, or `None` if several hosts
/// have it. A virtual address counts only if no host has the hardware address.
fn owners_of_macs(inventory: &Inventory) -> HashMap<Mac, Option<usize>, LookupHash> {
    let mut owners = HashMap::<Mac, Option<usize>, LookupHash>::default();
    let listed = |of_virtual: bool| {
        let hosts = inventory.hosts.iter().enumerate();
        let hosts = hosts.filter(move |(_, host)| host.is_virtual() == of_virtual);
        hosts.flat_map(|(number, host)| host.macs.iter().map(move |mac| (*mac, number)))
    };
    for (mac, host) in listed(false) {
        let owner = owners.entry(mac).or_insert(Some(host));
        *owner = owner.filter(|first| *first == host);
    }
    for (mac, host) in listed(true) {
        owners.entry(mac).or_insert(Some(host));
    }
    owners
}

/// Returns whether none of the roles is that of a user or of a service of another party.
fn are_of_farm(matrix: &Matrix, roles: RoleSet) -> bool {
    let is_of_others = |kind| matches!(kind, RoleKind::Client | RoleKind::ExternalService);
    !roles.iter().any(|role| is_of_others(matrix.roles[role].kind))
}

/// Returns the addresses of the farm that no internal prefix contains and whose neighbours probably
/// belong to the site. An IPv4 address counts only if it belongs to a component of the product that
/// is not an entrance: the other public addresses of a site are often in networks of providers.
fn public_addresses(matrix: &Matrix, inventory: &Inventory, entrances: RoleSet) -> Vec<IpAddr> {
    let is_internal = |address| inventory.internal.iter().any(|all| all.contains(address));
    let mut found = Vec::new();
    for host in inventory.hosts.iter().filter(|host| are_of_farm(matrix, host.roles)) {
        let is_of_kind =
            |kind| host.roles.iter().any(|role: usize| matrix.roles[role].kind == kind);
        let is_component = is_of_kind(RoleKind::Component);
        let counts = |address: &&IpAddr| match address {
            IpAddr::V4(_) => is_component && !host.roles.intersects(entrances),
            IpAddr::V6(_) => is_component || is_of_kind(RoleKind::Infrastructure),
        };
        found.extend(host.addresses.iter().filter(counts).filter(|address| !is_internal(*address)));
    }
    found
}

/// Names and descriptions of parties.
impl Policy {
    /// Returns the name of a party in the inventory, or an empty string if it does not have one.
    pub fn name_of(&self, party: &Party) -> &str {
        match party.kind {
            PartyKind::Host(host) => &self.inventory.hosts[host].name,
            PartyKind::Network(network) => &self.inventory.networks[network].name,
            PartyKind::Service(_) | PartyKind::Stranger | PartyKind::RolesOnly => "",
        }
    }

    /// Returns the name of a party in the inventory, or its address if it does not have one.
    pub fn label(&self, party: &Party, address: IpAddr) -> String {
        match self.name_of(party) {
            "" => address.to_string(),
            name => name.to_owned(),
        }
    }

    /// Returns a description of a party for reports: its kind, name and roles, and the line of the
    /// inventory that defines it. A party without an entry is described as not in the inventory.
    pub fn describe(&self, party: &Party) -> String {
        let roles = match self.matrix.role_titles(party.roles) {
            names if names.is_empty() => "no role".to_owned(),
            names => names.join(", "),
        };
        let inventory = &self.inventory;
        let (what, line) = match party.kind {
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
            PartyKind::Stranger | PartyKind::RolesOnly => return "not in the inventory".to_owned(),
        };
        format!("{what}, {roles}, from line {line} of the inventory")
    }
}
