//! The inventory: the roles of hosts, the features that the farm uses, and the coverage of the
//! capture.
//!
//! An inventory is a TOML file, or a CSV file that lists only hosts. In both cases, all problems
//! are reported together.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::csv_file::each_record;
use super::inventory_damage::{Damage, NO_FARM, NO_HOST};
use super::inventory_sections::{HOSTS, PlainHost, Section, line_starts, plain_hosts, sections};
use super::{Diagnostic, Diagnostics, LookupHash, Matrix, Pattern, RoleSet, nearest};
use crate::model::{Mac, Transport, hex};

/// A commented inventory that users can start from.
pub const TEMPLATE: &str = include_str!("template.toml");

/// The content of an inventory: a farm with its hosts, networks and external services, and the
/// coverage of the capture.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The file as the user named it.
    pub file: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// The name of the farm.
    pub farm: String,
    /// The name of the matrix, or the path of a folder with rules.
    pub matrix: String,
    /// Whether an unlisted address counts as a client when it connects to a gateway or HALB, or
    /// broadcasts.
    pub clients_any: bool,
    /// Whether each feature is on or off. The state of a feature that is not listed is unknown.
    pub features: BTreeMap<String, bool>,
    /// The hosts, sorted by name.
    pub hosts: Vec<Host>,
    /// The networks, which give roles to addresses that no host or service lists.
    pub networks: Vec<Network>,
    /// The external destinations that are known by name or address.
    pub services: Vec<Service>,
    /// The documented ports that the site moved.
    pub moved: Vec<MovedPort>,
    /// The coverage of the capture, if the inventory states it.
    pub covers: Option<CoverageStatement>,
    /// The index of the host on which the capture was taken. Loopback traffic belongs to this host.
    pub on: Option<usize>,
    /// The prefixes that count as internal.
    pub internal: Vec<IpNet>,
    /// The resolvers that the inventory lists. Their answers are trusted.
    pub resolvers: Vec<IpAddr>,
    /// The tunnels that the inventory declares.
    pub tunnels: Vec<Tunnels>,
}

/// Declared tunnels, whose content is trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnels {
    /// The networks that must contain both endpoints of such a tunnel.
    pub ends: Vec<IpNet>,
    /// The kind of tunnel, one of [`TUNNEL_KINDS`].
    pub kind: &'static str,
    /// Whether the tunnel carries mirrored frames to a sensor. Otherwise, it carries a network of
    /// the site.
    pub is_mirror: bool,
}

/// The kinds of tunnels that an inventory can declare.
pub const TUNNEL_KINDS: &[&str] = &[
    "ip-in-ip",
    "gre",
    "nvgre",
    "erspan",
    "vxlan",
    "vxlan-gpe",
    "geneve",
    "gtp-u",
    "etherip",
    "mpls-in-ip",
    "tzsp",
    "capwap",
    "teredo",
    "ayiya",
    "pim-register",
];

/// A host, or a virtual address that several hosts can hold.
#[derive(Clone, Debug)]
pub struct Host {
    /// The unique name of the host.
    pub name: String,
    /// The IP addresses of the host, in the order of the file.
    pub addresses: Vec<IpAddr>,
    /// The hardware addresses that the inventory lists.
    pub macs: Vec<Mac>,
    /// The roles of the host. A virtual address also has the roles of its holders.
    pub roles: RoleSet,
    /// The indexes of the hosts that can hold the addresses of this entry, if they are virtual.
    /// Otherwise, the list is empty.
    pub held_by: Vec<usize>,
    /// The networks for which the host answers ARP requests (proxy ARP).
    pub answers_arp_for: Vec<IpNet>,
    /// The site of the farm that the host belongs to, in lower case; `None` if it is not stated.
    pub site: Option<String>,
    /// The line of the entry, counted from 1.
    pub line: usize,
}

impl Host {
    /// Returns whether the entry is a virtual address that other hosts hold.
    pub fn is_virtual(&self) -> bool {
        !self.held_by.is_empty()
    }
}

/// A network, which gives its roles to all of its addresses that no host, service or smaller
/// network covers.
#[derive(Clone, Debug)]
pub struct Network {
    /// The name of the network.
    pub name: String,
    /// The prefix of the network. The longest prefix that contains an address applies to it.
    pub cidr: IpNet,
    /// The roles that the network gives.
    pub roles: RoleSet,
    /// The line of the entry, counted from 1.
    pub line: usize,
}

/// An external destination that is known by name or address.
#[derive(Clone, Debug)]
pub struct Service {
    /// The index of its role in the matrix.
    pub role: usize,
    /// The names of the service, as DNS, TLS or HTTP may show them.
    pub names: Vec<Pattern>,
    /// The addresses of the service, if it is known by address.
    pub addresses: Vec<IpAddr>,
    /// The line of the entry, counted from 1.
    pub line: usize,
}

/// A documented port that the site moved to another number.
#[derive(Clone, Debug)]
pub struct MovedPort {
    /// The roles whose hosts listen on the port.
    pub roles: RoleSet,
    /// The protocol above IP, which must have ports.
    pub transport: Transport,
    /// The documented port.
    pub from: u16,
    /// The port that the site uses instead.
    pub to: u16,
    /// The only host on which the port is moved, or `None` for all hosts with these roles.
    pub host: Option<usize>,
}

/// The traffic that the span port carries, according to the inventory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoverageStatement {
    /// The traffic of every switch port.
    All,
    /// The traffic of the switch ports of these hosts.
    Hosts(Vec<usize>),
}

/// Returns whether a file is read as TOML. Only files whose names end in `.csv` are read as CSV
/// lists of hosts.
pub fn is_toml(file: &str) -> bool {
    !file.to_lowercase().ends_with(".csv")
}

impl Inventory {
    /// Returns the prefixes that count as internal unless the inventory lists others: the private
    /// IPv4 addresses (RFC 1918), the shared IPv4 addresses, which are not used on the internet
    /// (RFC 6598), and the unique local IPv6 addresses (RFC 4193).
    pub fn usual_internal() -> Vec<IpNet> {
        let prefixes =
            ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
        prefixes.iter().filter_map(|prefix| prefix.parse().ok()).collect()
    }

    /// Returns an inventory without hosts, in which the usual prefixes count as internal.
    pub fn without_hosts() -> Self {
        Self { internal: Self::usual_internal(), ..Self::default() }
    }

    /// Returns the rules that a TOML inventory names. They are needed before the rest of the
    /// inventory can be read. Errors in the file are reported later, when the inventory is loaded.
    pub fn rules_named(text: &str) -> NamedRules {
        let first = sections(text)[0].text;
        let (start, errors) = DeTable::parse_recoverable(first);
        // If `[farm]` has the key `matrix` here, the table itself is defined in this section. TOML
        // does not allow a second definition, so the rest of the file can add only subtables, such
        // as `[farm.features]`, which are not needed here.
        let is_complete = first.len() == text.len()
            || errors.is_empty()
                && farm_of(start.get_ref()).is_some_and(|f| f.contains_key("matrix"));
        let document = if is_complete { start } else { DeTable::parse_recoverable(text).0 };
        let Some(farm) = farm_of(document.get_ref()) else { return NamedRules::default() };
        let placed = |value: &Spanned<DeValue<'_>>| {
            Some((value.get_ref().as_str()?.to_owned(), line_of(text, value.span().start)))
        };
        let overlays = farm.get("overlays").and_then(|list| list.get_ref().as_array());
        let background = farm.get("background").and_then(|value| value.get_ref().as_bool());
        NamedRules {
            matrix: farm.get("matrix").and_then(placed),
            overlays: overlays.into_iter().flat_map(|l| l.iter()).filter_map(placed).collect(),
            no_background: background == Some(false),
        }
    }

    /// Reads a TOML inventory and checks it against its matrix.
    pub fn from_toml(file: &str, text: &str, matrix: &Matrix) -> Result<Self, Vec<Diagnostic>> {
        let mut loader = InventoryLoader::new(file, text, matrix);
        if loader.sections(&sections(text)).is_none() {
            loader = InventoryLoader::new(file, text, matrix);
            loader.whole(text);
        }
        loader.finish()
    }

    /// Reads a CSV list of hosts (`name,addresses,roles[,macs][,site]`) and checks it against a
    /// matrix.
    pub fn from_csv(file: &str, text: &str, matrix: &Matrix) -> Result<Self, Vec<Diagnostic>> {
        let mut loader = InventoryLoader::new(file, text, matrix);
        loader.inventory.matrix.clone_from(&matrix.name);
        let mut problems = std::mem::replace(&mut loader.problems, Diagnostics::of(file));
        each_record(text, &["name", "addresses", "roles"], &mut problems, |record, _| {
            let at = |items: Vec<&'_ str>| {
                items.into_iter().map(|i| (i.to_owned(), record.line)).collect()
            };
            let addresses = record.list("addresses").count() + record.list("macs").count();
            loader.usable_name(record.line, record.get("name"), "a host");
            if addresses == 0 {
                let host = host_words(record.get("name"));
                loader.problems.add(record.line, format!("{host} must have addresses"));
            }
            loader.host(
                record.line,
                record.get("name").to_owned(),
                at(record.list("addresses").collect()),
                at(record.list("macs").collect()),
                at(record.list("roles").collect()),
                Some(record.get("site")).filter(|site| !site.is_empty()),
            );
        });
        loader.sort_hosts();
        loader.more = Some(problems);
        loader.finish()
    }
}

fn farm_of<'d, 't>(document: &'d DeTable<'t>) -> Option<&'d DeTable<'t>> {
    document.get("farm")?.get_ref().as_table()
}

/// Returns the line of a byte offset, counted from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
}

/// A string with its line in the file.
pub type AtLine = (String, usize);

/// The rules that an inventory names.
#[derive(Clone, Default, Debug)]
pub struct NamedRules {
    /// The name or the folder of the matrix, if the inventory states one.
    pub matrix: Option<AtLine>,
    /// The names or the CSV files of the overlays.
    pub overlays: Vec<AtLine>,
    /// Whether background traffic is judged like other traffic.
    pub no_background: bool,
}

/// Describes a host in messages.
fn host_words(name: &str) -> String {
    if name.is_empty() { "this host".to_owned() } else { format!("the host \"{name}\"") }
}

/// Returns what is wrong with a network whose address has bits set beyond the prefix; `None` if it
/// has none.
fn beyond_prefix(net: IpNet) -> Option<String> {
    let network = net.trunc();
    (network != net)
        .then(|| format!("{net} has bits set beyond its prefix; did you mean \"{network}\"?"))
}

/// Returns what is wrong with a network whose address has bits set beyond the prefix, where the
/// address alone would be valid, too; `None` if it has none.
pub fn beyond_prefix_or_address(net: IpNet) -> Option<String> {
    let message = beyond_prefix(net)?;
    Some(format!("{}, or the address \"{}\"?", message.trim_end_matches('?'), net.addr()))
}

/// Returns whether an inventory may list the address for a single host. Broadcast, multicast,
/// unspecified and IPv4-mapped addresses are rejected.
fn is_somebody(address: IpAddr) -> bool {
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let is_any = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(mapped || is_any || address.is_unspecified() || address.is_multicast())
}

struct InventoryLoader<'a> {
    /// The byte offsets at which the lines start, except the first line. They are stored because a
    /// line is looked up for every value.
    lines: Vec<usize>,
    /// The index of the line that was looked up last. Most lookups are in this line or soon after,
    /// so the search starts there.
    last_line: Cell<usize>,
    /// The byte offset of the section that is being read. Spans are relative to it.
    section_start: usize,
    matrix: &'a Matrix,
    problems: Diagnostics,
    more: Option<Diagnostics>,
    inventory: Inventory,
    names: HashMap<String, usize, LookupHash>,
    addresses: HashMap<IpAddr, usize, LookupHash>,
    networks: HashMap<IpNet, usize, LookupHash>,
    network_names: BTreeSet<String>,
    /// The results of looking up role names, cached because many hosts have the same role.
    roles: HashMap<String, Result<usize, String>, LookupHash>,
    /// The virtual addresses: host name, line of the host, and names of the holders.
    held: Vec<(String, usize, Vec<AtLine>)>,
}

impl<'a> InventoryLoader<'a> {
    fn new(file: &str, text: &str, matrix: &'a Matrix) -> Self {
        Self {
            lines: line_starts(text).collect(),
            last_line: Cell::new(0),
            section_start: 0,
            matrix,
            problems: Diagnostics::of(file),
            more: None,
            inventory: Inventory {
                file: file.to_owned(),
                sha256: hex(&Sha256::digest(text.as_bytes())),
                internal: Inventory::usual_internal(),
                ..Inventory::default()
            },
            names: HashMap::default(),
            addresses: HashMap::default(),
            networks: HashMap::default(),
            network_names: BTreeSet::new(),
            roles: HashMap::default(),
            held: Vec::new(),
        }
    }

    fn finish(self) -> Result<Inventory, Vec<Diagnostic>> {
        let result = self.problems.or(self.inventory);
        match (self.more.map(|more| more.or(())), result) {
            (Some(Err(mut first)), Err(second)) => {
                first.extend(second);
                first.sort_by_key(|p| p.line);
                Err(first)
            }
            (Some(Err(first)), Ok(_)) => Err(first),
            (_, result) => result,
        }
    }

    fn line(&self, offset: usize) -> usize {
        let offset = self.section_start + offset;
        let (last, lines) = (self.last_line.get(), &self.lines);
        let is_later = last == 0 || lines[last - 1] <= offset;
        let near = lines[last..].iter().take(8).position(|start| *start > offset);
        let line = match near {
            Some(after) if is_later => last + after,
            _ => lines.partition_point(|start| *start <= offset),
        };
        self.last_line.set(line);
        1 + line
    }

    fn place<T>(&self, value: &Spanned<T>) -> usize {
        self.line(value.span().start)
    }

    /// Reads a whole document, and reports its errors. If it is not valid TOML, problems that may
    /// be mere consequences of these errors are left out.
    fn whole(&mut self, text: &str) {
        let (document, errors) = DeTable::parse_recoverable(text);
        let document = document.get_ref();
        for table in self.tables(document, "host") {
            self.toml_host(table);
        }
        self.document(&[(0, document)]);
        if errors.is_empty() {
            return;
        }
        self.section_start = 0;
        let places: Vec<_> = errors.iter().map(|error| error.span().unwrap_or_default()).collect();
        let lines: Vec<usize> = places.iter().map(|place| self.line(place.start)).collect();
        let damage = Damage::new(text, &lines);
        self.problems.retain(|problem| damage.leaves(problem));
        for ((error, place), line) in errors.iter().zip(places).zip(lines) {
            let message = match error.message() {
                "duplicate key" => damage.of_repeated(text.get(place).unwrap_or_default(), line),
                other => other.to_owned(),
            };
            self.problems.add(line, message);
        }
    }

    /// Reads a document section by section, so that the parsed hosts are never all in memory at the
    /// same time. Returns `None` if the sections may not mean the same as the whole document.
    fn sections(&mut self, sections: &[Section<'_>]) -> Option<()> {
        self.reserve(sections.len() * HOSTS);
        let mut rest = Vec::new();
        let mut keys = BTreeSet::new();
        for section in sections {
            self.section_start = section.offset;
            if let Some(hosts) = plain_hosts(section.text) {
                self.plain_hosts(hosts);
                continue;
            }
            let (document, errors) = DeTable::parse_recoverable(section.text);
            if !errors.is_empty() {
                return None;
            }
            let mut document = document.into_inner();
            for table in self.tables(&document, "host") {
                self.toml_host(table);
            }
            // If the document has several sections, hosts in another form, such as an inline
            // array, cannot be read section by section, so the whole document is read instead.
            if section.begins_with_host() {
                document.remove("host");
            }
            for key in document.keys() {
                let is_other_form = key.get_ref() == "host" && sections.len() > 1;
                if is_other_form || !keys.insert(key.get_ref().to_string()) {
                    return None;
                }
            }
            if !document.is_empty() {
                rest.push((section.offset, document));
            }
        }
        let rest: Vec<_> = rest.iter().map(|(start, document)| (*start, document)).collect();
        self.document(&rest);
        Some(())
    }

    /// Reserves memory for this number of hosts. The tables would otherwise be moved several times.
    fn reserve(&mut self, hosts: usize) {
        self.inventory.hosts.reserve(hosts);
        self.names.reserve(hosts);
        self.addresses.reserve(hosts);
    }

    fn plain_hosts(&mut self, hosts: Vec<PlainHost<'_>>) {
        let first = self.line(0);
        for PlainHost { line, name, mut addresses, mut roles, site } in hosts {
            let values = addresses.iter_mut().chain(&mut roles);
            values.for_each(|(_, line)| *line += first);
            self.usable_name(first + line, name, "a host");
            self.reachable(first + line, name, addresses.len());
            self.host(first + line, name.to_owned(), addresses, Vec::new(), roles, site);
        }
    }

    /// Reads everything except the hosts, which were read before, because other parts name them.
    /// Each table comes with the offset of its section.
    fn document(&mut self, parts: &[(usize, &DeTable<'_>)]) {
        for (start, part) in parts {
            self.section_start = *start;
            self.known_keys(
                part,
                "the inventory",
                &["farm", "host", "network", "service", "moved-port", "capture"],
            );
        }
        match self.part(parts, "farm") {
            Some(part) => part.get("farm").into_iter().for_each(|farm| self.farm(farm)),
            None => {
                self.problems.add(1, format!("{NO_FARM}, which must name a matrix, is missing"));
            }
        }
        self.sort_hosts();
        self.holders();
        self.each(parts, "network", Self::network);
        self.each(parts, "service", Self::service);
        self.each(parts, "moved-port", Self::moved_port);
        if let Some(capture) = self.part(parts, "capture").and_then(|part| part.get("capture")) {
            self.capture(capture);
        }
    }

    /// Returns the table that contains a key, and makes its section the current one; `None` if no
    /// table contains the key.
    fn part<'d, 't>(
        &mut self,
        parts: &[(usize, &'d DeTable<'t>)],
        key: &str,
    ) -> Option<&'d DeTable<'t>> {
        let (start, part) = parts.iter().find(|(_, part)| part.contains_key(key))?;
        self.section_start = *start;
        Some(part)
    }

    /// Reads each table of an array.
    fn each(
        &mut self,
        parts: &[(usize, &DeTable<'_>)],
        key: &str,
        read: fn(&mut Self, &Spanned<DeValue<'_>>),
    ) {
        if let Some(part) = self.part(parts, key) {
            for table in self.tables(part, key) {
                read(self, table);
            }
        }
    }

    fn known_keys(&mut self, table: &DeTable<'_>, of: &str, known: &[&str]) {
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let near = nearest(name, known.iter().copied());
                self.problems.add(self.place(key), format!("unknown key \"{name}\" in {of}{near}"));
            }
        }
    }

    /// Returns the tables of an array such as `[[host]]`; an empty list if the key is missing. If
    /// the value is not an array of tables, reports a problem and returns an empty list.
    fn tables<'d>(
        &mut self,
        document: &'d DeTable<'_>,
        key: &str,
    ) -> Vec<&'d Spanned<DeValue<'d>>> {
        let Some(value) = document.get(key) else {
            return Vec::new();
        };
        let array = value.get_ref().as_array();
        let tables: Vec<_> = array.into_iter().flat_map(|a| a.iter()).collect();
        if array.is_none() || tables.iter().any(|t| t.get_ref().as_table().is_none()) {
            self.problems.add(self.place(value), format!("write each {key} as a table [[{key}]]"));
            return Vec::new();
        }
        tables
    }

    fn text_of(&mut self, value: &Spanned<DeValue<'_>>, what: &str) -> Option<AtLine> {
        let line = self.place(value);
        match value.get_ref().as_str() {
            Some(text) => Some((text.to_owned(), line)),
            None => {
                self.problems.add(line, format!("{what} must be a quoted string"));
                None
            }
        }
    }

    fn text(&mut self, table: &DeTable<'_>, key: &str) -> Option<AtLine> {
        table.get(key).and_then(|value| self.text_of(value, key))
    }

    fn texts(&mut self, table: &DeTable<'_>, key: &str) -> Option<Vec<AtLine>> {
        let value = table.get(key)?;
        match value.get_ref().as_array() {
            Some(items) => {
                let what = format!("each item of {key}");
                Some(items.iter().filter_map(|item| self.text_of(item, &what)).collect())
            }
            None => {
                self.problems.add(
                    self.place(value),
                    format!("{key} must be a list of strings, for example [\"...\"]"),
                );
                None
            }
        }
    }

    fn farm(&mut self, farm: &Spanned<DeValue<'_>>) {
        let line = self.place(farm);
        let Some(table) = farm.get_ref().as_table() else {
            return self.problems.add(line, "farm must be a table [farm]");
        };
        self.known_keys(
            table,
            "[farm]",
            &["name", "matrix", "clients", "overlays", "background", "features", "resolvers"],
        );
        self.inventory.farm = self.text(table, "name").map(|t| t.0).unwrap_or_default();
        match self.text(table, "matrix") {
            Some((name, _)) => self.inventory.matrix = name,
            None => {
                let usual = super::MATRICES.first().copied().unwrap_or_default();
                self.problems.add(
                    line,
                    format!("[farm] must name a matrix, for example matrix = \"{usual}\""),
                );
            }
        }
        match self.text(table, "clients") {
            Some((word, _)) if word == "any" => self.inventory.clients_any = true,
            Some((word, _)) if word == "listed" => {}
            Some((word, line)) => {
                let near = nearest(&word, ["any", "listed"]);
                self.problems.add(
                    line,
                    format!("clients must be \"any\" or \"listed\", not \"{word}\"{near}"),
                );
            }
            None => {}
        }
        for (text, line) in self.texts(table, "resolvers").unwrap_or_default() {
            match text.parse() {
                Ok(address) => self.inventory.resolvers.push(address),
                Err(_) => self.problems.add(line, format!("\"{text}\" is not an IP address")),
            }
        }
        // The overlays belong to the rules and were read earlier. Only their form is checked here.
        self.texts(table, "overlays");
        if let Some(value) = table.get("background").filter(|v| v.get_ref().as_bool().is_none()) {
            self.problems.add(self.place(value), "background must be true or false");
        }
        let Some(features) = table.get("features") else {
            return;
        };
        let Some(features) = features.get_ref().as_table() else {
            let line = self.place(features);
            return self.problems.add(line, "features must be a table [farm.features]");
        };
        for (key, value) in features {
            let (name, line): (&str, _) = (key.get_ref(), self.place(key));
            if !self.matrix.features.contains_key(name) {
                let near = nearest(name, self.matrix.features.keys().map(String::as_str));
                self.problems.add(line, format!("unknown feature \"{name}\"{near}"));
            }
            match value.get_ref().as_bool() {
                Some(on) => drop(self.inventory.features.insert(name.to_owned(), on)),
                None => {
                    self.problems.add(line, format!("the feature \"{name}\" must be true or false"))
                }
            }
        }
    }

    fn toml_host(&mut self, value: &Spanned<DeValue<'_>>) {
        let (line, Some(table)) = (self.place(value), value.get_ref().as_table()) else {
            return;
        };
        self.known_keys(
            table,
            "[[host]]",
            &["name", "addresses", "macs", "roles", "held-by", "answers-arp-for", "site"],
        );
        let name = self.name(table, line, "a host");
        let addresses = self.texts(table, "addresses");
        let macs = self.texts(table, "macs").unwrap_or_default();
        match &addresses {
            Some(addresses) => self.reachable(line, &name, addresses.len() + macs.len()),
            None if !table.contains_key("addresses") => self.reachable(line, &name, 0),
            None => {}
        }
        if !table.contains_key("roles") {
            self.problems.add(
                line,
                format!(
                    "{} must have roles = [\"...\"], or roles = [] if it has none",
                    host_words(&name)
                ),
            );
        }
        let roles = self.texts(table, "roles").unwrap_or_default();
        if let Some(holders) = self.texts(table, "held-by") {
            self.held.push((name.clone(), line, holders));
        }
        let site = self.text(table, "site").map(|(site, _)| site);
        self.host(line, name, addresses.unwrap_or_default(), macs, roles, site.as_deref());
        let answers_arp_for = self.prefixes(table, "answers-arp-for").unwrap_or_default();
        if let Some(host) = self.inventory.hosts.last_mut() {
            host.answers_arp_for = answers_arp_for;
        }
    }

    /// Reports a host without any address, which no traffic could belong to.
    fn reachable(&mut self, line: usize, name: &str, addresses: usize) {
        if addresses == 0 {
            let host = host_words(name);
            self.problems.add(line, format!("{host} must have addresses = [\"...\"]"));
        }
    }

    /// Returns the name of a host or network (`what`). Returns an empty string, after reporting the
    /// problem, if there is none.
    fn name(&mut self, table: &DeTable<'_>, line: usize, what: &str) -> String {
        let name = self.text(table, "name").map(|(name, _)| name);
        if name.is_some() || !table.contains_key("name") {
            self.usable_name(line, name.as_deref().unwrap_or_default(), what);
        }
        name.unwrap_or_default()
    }

    /// Reports a missing name, and a name that lists, filters or exceptions could not contain.
    fn usable_name(&mut self, line: usize, name: &str, what: &str) {
        let problem = match name {
            "" => return self.problems.add(line, format!("{what} must have a name")),
            "*" => "stands for any address in exceptions",
            _ if name.starts_with('+') => {
                "begins with +, which stands for omitted names in lists, as in \"+3 more\""
            }
            _ if name.starts_with("role:") => "begins with role:, which marks a role in exceptions",
            _ if name.contains(';') => "contains a semicolon, which separates names in lists",
            _ if name.chars().any(char::is_control) => {
                "contains a control character, such as a line break or an escape sequence"
            }
            _ if name.trim() != name => "begins or ends with a space",
            _ => return,
        };
        self.problems.add(line, format!("the name \"{name}\" {problem}; choose another name"));
    }

    /// Returns the networks that a key lists, or `None` if the key is missing or is not a list.
    /// Reports a value that is not a list, and each item that is not a network.
    fn prefixes(&mut self, table: &DeTable<'_>, key: &str) -> Option<Vec<IpNet>> {
        let mut networks = Vec::new();
        for (text, line) in self.texts(table, key)? {
            match text.parse().map(|network| (network, beyond_prefix(network))) {
                Ok((network, None)) => networks.push(network),
                Ok((_, Some(message))) => self.problems.add(line, message),
                Err(_) => self.problems.add(
                    line,
                    format!("\"{text}\" is not a valid network (for example 10.0.0.0/8)"),
                ),
            }
        }
        Some(networks)
    }

    /// Reads the declared tunnels from an array of tables or of inline tables.
    fn stated_tunnels(&mut self, value: &Spanned<DeValue<'_>>) {
        let wrong =
            "write tunnels = [{ ends = [\"10.0.0.0/24\"], kind = \"vxlan\", use = \"overlay\" }]";
        let Some(list) = value.get_ref().as_array() else {
            return self.problems.add(self.place(value), wrong);
        };
        for item in list {
            let line = self.place(item);
            let Some(table) = item.get_ref().as_table() else {
                self.problems.add(line, wrong);
                continue;
            };
            self.known_keys(table, "tunnels", &["ends", "kind", "use"]);
            let ends = self.prefixes(table, "ends").unwrap_or_default();
            if ends.is_empty()
                && table
                    .get("ends")
                    .is_none_or(|v| v.get_ref().as_array().is_some_and(|a| a.is_empty()))
            {
                self.problems.add(
                    line,
                    "a tunnel must have ends, the networks that contain both of its endpoints, for example ends = [\"10.0.0.0/24\"]",
                );
            }
            let kind = self.word(table, line, "kind", TUNNEL_KINDS);
            let stated = self.word(table, line, "use", &["overlay", "mirror"]);
            if let (Some(kind), Some(stated)) = (kind, stated) {
                let is_mirror = stated == "mirror";
                self.inventory.tunnels.push(Tunnels { ends, kind, is_mirror });
            }
        }
    }

    /// Returns the value of a key that must be one of `words`. If it is not, reports a problem and
    /// returns `None`.
    fn word(
        &mut self,
        table: &DeTable<'_>,
        line: usize,
        key: &str,
        words: &'static [&'static str],
    ) -> Option<&'static str> {
        let known = words.join(", ");
        let Some((text, at)) = self.text(table, key) else {
            if !table.contains_key(key) {
                self.problems.add(
                    line,
                    format!("a tunnel must have the key {key} with one of these values: {known}"),
                );
            }
            return None;
        };
        let found = words.iter().copied().find(|word| *word == text);
        if found.is_none() {
            let near = nearest(&text, words.iter().copied());
            self.problems.add(at, format!("{key} must be one of {known}, not \"{text}\"{near}"));
        }
        found
    }

    fn host<T: AsRef<str>>(
        &mut self,
        line: usize,
        name: String,
        addresses: Vec<(T, usize)>,
        macs: Vec<(T, usize)>,
        roles: Vec<(T, usize)>,
        site: Option<&str>,
    ) {
        if !name.is_empty()
            && let Some(first) = self.names.insert(name.to_lowercase(), line)
        {
            self.problems
                .add(line, format!("duplicate name \"{name}\", first used in line {first}"));
        }
        let addresses = self.addresses(addresses);
        let macs = macs
            .into_iter()
            .filter_map(|(text, line)| {
                let text = text.as_ref();
                let mac = Mac::parse(text);
                if mac.is_none() {
                    self.problems.add(
                        line,
                        format!(
                            "\"{text}\" is not a valid MAC address (for example 00:15:5d:10:00:07)"
                        ),
                    );
                }
                mac
            })
            .collect();
        let roles = self.roles(roles);
        let held_by = Vec::new();
        let answers_arp_for = Vec::new();
        let site = site.and_then(|site| self.site(line, site));
        self.inventory.hosts.push(Host {
            name,
            addresses,
            macs,
            roles,
            held_by,
            answers_arp_for,
            site,
            line,
        });
    }

    /// Returns the name of a site in the form that is compared. Reports a name that is empty.
    fn site(&mut self, line: usize, name: &str) -> Option<String> {
        let name = name.trim();
        if name.is_empty() {
            self.problems.add(line, "site must be the name of a site, for example \"Berlin\"");
        }
        (!name.is_empty()).then(|| name.to_lowercase())
    }

    fn addresses<T: AsRef<str>>(&mut self, texts: Vec<(T, usize)>) -> Vec<IpAddr> {
        let mut addresses = Vec::with_capacity(texts.len());
        for (text, line) in texts {
            let text = text.as_ref();
            match text.parse::<IpAddr>() {
                Ok(address) if !is_somebody(address) => {
                    let mapped = match address {
                        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
                        IpAddr::V4(_) => None,
                    };
                    let message = match mapped {
                        Some(v4) => {
                            format!("{address} is an IPv4 address in IPv6 form; write {v4}")
                        }
                        None => format!("{address} is not the address of a single host"),
                    };
                    self.problems.add(line, message);
                }
                Ok(address) => {
                    if let Some(first) = self.addresses.insert(address, line) {
                        let message =
                            format!("duplicate address {address}, first used in line {first}");
                        self.problems.add(line, message);
                    }
                    addresses.push(address);
                }
                Err(_) => self.problems.add(line, format!("\"{text}\" is not an IP address")),
            }
        }
        addresses
    }

    fn roles<T: AsRef<str>>(&mut self, texts: Vec<(T, usize)>) -> RoleSet {
        let mut roles = RoleSet::default();
        for (number, (text, line)) in texts.iter().enumerate() {
            let (text, line) = (text.as_ref(), *line);
            if texts[..number].iter().any(|(earlier, _)| earlier.as_ref() == text) {
                self.problems.add(line, format!("the role \"{text}\" is listed twice"));
            }
            let role = match self.roles.get(text) {
                Some(role) => role,
                None => {
                    let role = self.matrix.playable_role(text).map_err(|error| error.to_string());
                    self.roles.entry(text.to_owned()).or_insert(role)
                }
            };
            match role {
                Ok(role) => roles = roles.with(RoleSet::one(*role)),
                Err(message) => self.problems.add(line, message.as_str()),
            }
        }
        roles
    }

    /// Sorts the hosts by name, so that results do not depend on their order in the file.
    fn sort_hosts(&mut self) {
        self.inventory.hosts.sort_by(|a, b| (&a.name, a.line).cmp(&(&b.name, b.line)));
    }

    /// Returns the index of the host with this name. Reports a problem if there is none.
    fn named_host(&mut self, (name, line): &AtLine) -> Option<usize> {
        let hosts = &self.inventory.hosts;
        let first = hosts.partition_point(|host| host.name < *name);
        if hosts.get(first).is_some_and(|host| host.name == *name) {
            return Some(first);
        }
        let near = nearest(name, hosts.iter().map(|h| h.name.as_str()));
        self.problems.add(*line, format!("{NO_HOST} \"{name}\"{near}"));
        None
    }

    /// Sets the holders and the roles of the virtual addresses. This requires all hosts, because a
    /// holder may be listed after its virtual address.
    fn holders(&mut self) {
        for (name, line, holders) in std::mem::take(&mut self.held) {
            let after = self.inventory.hosts.partition_point(|host| host.name <= name);
            if let Some(position) = after.checked_sub(1) {
                self.held_by(position, line, &holders);
            }
        }
    }

    fn held_by(&mut self, position: usize, line: usize, names: &[AtLine]) {
        let holders: Vec<usize> = names.iter().filter_map(|name| self.named_host(name)).collect();
        if holders.contains(&position) {
            self.problems.add(line, "a virtual address cannot be its own holder");
        }
        let roles = holders.iter().fold(self.inventory.hosts[position].roles, |set, holder| {
            set.with(self.inventory.hosts[*holder].roles)
        });
        let host = &mut self.inventory.hosts[position];
        (host.roles, host.held_by) = (roles, holders);
    }

    fn network(&mut self, value: &Spanned<DeValue<'_>>) {
        let (line, Some(table)) = (self.place(value), value.get_ref().as_table()) else {
            return;
        };
        self.known_keys(table, "[[network]]", &["name", "cidr", "roles"]);
        let name = self.name(table, line, "a network");
        let roles = self.texts(table, "roles").unwrap_or_default();
        let roles = self.roles(roles);
        let Some((text, at)) = self.text(table, "cidr") else {
            return self.problems.add(line, "a network must have cidr = \"...\"");
        };
        let Ok(cidr) = text.parse::<IpNet>() else {
            return self
                .problems
                .add(at, format!("\"{text}\" is not a valid network (for example 10.9.0.0/16)"));
        };
        if let Some(message) = beyond_prefix(cidr) {
            self.problems.add(at, message);
        }
        if let Some(first) = self.networks.insert(cidr.trunc(), at) {
            self.problems.add(at, format!("duplicate network {cidr}, first used in line {first}"));
        }
        if !name.is_empty() && !self.network_names.insert(name.clone()) {
            self.problems.add(line, format!("another network already has the name \"{name}\""));
        }
        self.inventory.networks.push(Network { name, cidr: cidr.trunc(), roles, line });
    }

    fn service(&mut self, value: &Spanned<DeValue<'_>>) {
        let (line, Some(table)) = (self.place(value), value.get_ref().as_table()) else {
            return;
        };
        self.known_keys(table, "[[service]]", &["role", "names", "addresses"]);
        let addresses = self.texts(table, "addresses").unwrap_or_default();
        let addresses = self.addresses(addresses);
        let names: Vec<_> = self.texts(table, "names").unwrap_or_default();
        let given = !names.is_empty();
        let names = names.into_iter().filter_map(|(name, at)| match Pattern::parse(&name) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.problems.add(at, error.to_string());
                None
            }
        });
        let names = names.collect();
        if !given && !table.contains_key("addresses") {
            self.problems.add(line, "a service must have names or addresses");
        }
        match self.text(table, "role") {
            Some((text, at)) => match self.matrix.playable_role(&text) {
                Ok(role) => self.inventory.services.push(Service { role, names, addresses, line }),
                Err(error) => self.problems.add(at, error.to_string()),
            },
            None => self.problems.add(line, "a service must have role = \"...\""),
        }
    }

    /// Returns the port number that a key of the table `[[moved-port]]` contains. The error
    /// consists of a line and a message.
    fn port_of_moved(
        &self,
        table: &DeTable<'_>,
        line: usize,
        key: &str,
    ) -> Result<u16, (usize, String)> {
        let value = table.get(key);
        let number = value
            .and_then(|v| v.get_ref().as_integer())
            .and_then(|i| i64::from_str_radix(i.as_str(), i.radix()).ok());
        let port = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
        port.ok_or_else(|| {
            let at = value.map_or(line, |v| self.line(v.span().start));
            (at, format!("a moved port must have {key} = PORT (1 to 65535)"))
        })
    }

    fn moved_port(&mut self, value: &Spanned<DeValue<'_>>) {
        let (line, Some(table)) = (self.place(value), value.get_ref().as_table()) else {
            return;
        };
        self.known_keys(table, "[[moved-port]]", &["role", "transport", "from", "to", "host"]);
        let roles = match self.text(table, "role") {
            Some((text, at)) => {
                self.matrix.roles_named(&text).map_err(|error| (at, error.to_string()))
            }
            None => Err((line, "a moved port must have role = \"...\"".to_owned())),
        };
        let transport = match self.text(table, "transport") {
            Some((text, at)) => {
                Transport::parse(&text).filter(|t| t.has_ports()).ok_or_else(|| {
                    (at, format!("transport must be \"tcp\", \"udp\" or \"sctp\", not \"{text}\""))
                })
            }
            None => Err((
                line,
                "a moved port must have transport = \"tcp\", \"udp\" or \"sctp\"".to_owned(),
            )),
        };
        let host = self.text(table, "host");
        let host = host.map(|name| self.named_host(&name));
        let from = self.port_of_moved(table, line, "from");
        let to = self.port_of_moved(table, line, "to");
        match (roles, transport, from, to) {
            (Ok(roles), Ok(transport), Ok(from), Ok(to)) => {
                let documented = self.matrix.rows.iter().any(|row| {
                    row.transport == transport
                        && row.ports.contains(&from)
                        && self.matrix.is_destination(row, roles)
                });
                let slugs = self.matrix.role_names(roles).join(", ");
                if !documented {
                    let message =
                        format!("the matrix documents no {transport} port {from} of {slugs}");
                    self.problems.add(line, message);
                }
                if let Some(Some(number)) = host
                    && !self.inventory.hosts[number].roles.intersects(roles)
                {
                    let host = &self.inventory.hosts[number].name;
                    let message =
                        format!("{host} has none of the roles that use this port: {slugs}");
                    self.problems.add(line, message);
                }
                if from == to {
                    self.problems.add(line, format!("the port {from} is moved to itself"));
                }
                let again = self.inventory.moved.iter().any(|m| {
                    m.transport == transport && m.from == from && m.roles.intersects(roles) && {
                        let here = host.flatten();
                        m.host.is_none() || here.is_none() || m.host == here
                    }
                });
                if again {
                    let message =
                        format!("{transport} port {from} of {slugs} is already moved above");
                    self.problems.add(line, message);
                }
                // If the host is unknown, this has already been reported.
                if host != Some(None) {
                    let host = host.flatten();
                    self.inventory.moved.push(MovedPort { roles, transport, from, to, host });
                }
            }
            (roles, transport, from, to) => {
                let errors = [roles.err(), transport.err(), from.err(), to.err()];
                for (at, message) in errors.into_iter().flatten() {
                    self.problems.add(at, message);
                }
            }
        }
    }

    fn capture(&mut self, value: &Spanned<DeValue<'_>>) {
        let (line, Some(table)) = (self.place(value), value.get_ref().as_table()) else {
            let line = self.place(value);
            return self.problems.add(line, "capture must be a table [capture]");
        };
        self.known_keys(table, "[capture]", &["covers", "on", "internal", "tunnels"]);
        if let Some(tunnels) = table.get("tunnels") {
            self.stated_tunnels(tunnels);
        }
        match table.get("covers").map(|v| v.get_ref()) {
            Some(DeValue::String(word)) if word == "all" => {
                self.inventory.covers = Some(CoverageStatement::All)
            }
            Some(DeValue::Array(_)) => {
                let names = self.texts(table, "covers").unwrap_or_default();
                if names.is_empty() {
                    let line = table.get("covers").map_or(line, |value| self.place(value));
                    self.problems.add(
                        line,
                        "covers does not name a host; omit covers if the coverage is not known",
                    );
                }
                let hosts = names.iter().filter_map(|name| self.named_host(name)).collect();
                self.inventory.covers = Some(CoverageStatement::Hosts(hosts));
            }
            Some(_) => {
                let line = table.get("covers").map_or(line, |value| self.place(value));
                self.problems.add(line, "covers must be \"all\" or a list of host names");
            }
            None => {}
        }
        if let Some(name) = self.text(table, "on") {
            self.inventory.on = self.named_host(&name);
        }
        if let Some(internal) = self.prefixes(table, "internal") {
            self.inventory.internal = internal;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RuleFiles;

    fn read(text: &str) -> [String; 2] {
        let matrix = RuleFiles::named("ras-19", None).unwrap().load().unwrap();
        let mut whole = InventoryLoader::new("farm.toml", text, &matrix);
        whole.whole(text);
        let in_sections = Inventory::from_toml("farm.toml", text, &matrix);
        [in_sections, whole.finish()].map(|inventory| format!("{inventory:#?}"))
    }

    const HOSTS: &str = r#"
[[host]]
name = "b1"
addresses = ["10.0.0.1"]
roles = ["broker"]

[[host]]
name = "virtual"
addresses = ["10.0.0.2"]
roles = []
held-by = ["b1", "b2"]
"#;

    #[test]
    fn a_host_may_have_a_site() {
        let matrix = RuleFiles::named("ras-19", None).unwrap().load().unwrap();
        let sites = |inventory: Inventory| -> Vec<Option<String>> {
            inventory.hosts.into_iter().map(|host| host.site).collect()
        };
        let host = "[[host]]\nname = \"b\"\naddresses = [\"10.0.0.1\"]\nroles = [\"broker\"]\n";
        let farm = "[farm]\nmatrix = \"ras-19\"\n";
        // With a comment, the section needs a TOML parser.
        for line in ["site = \" Berlin \"\n", "site = \"Berlin\" # x\n"] {
            let text = format!("{farm}{host}{line}");
            let read = Inventory::from_toml("farm.toml", &text, &matrix).unwrap();
            assert_eq!(sites(read), [Some("berlin".to_owned())]);
        }
        let text = format!("{farm}{host}site = \"\"\n");
        let problems = Inventory::from_toml("farm.toml", &text, &matrix).unwrap_err();
        assert_eq!((problems.len(), problems[0].line), (1, 3), "{problems:?}");
        let csv = "name,addresses,roles,site\na,10.0.0.1,broker,Berlin\nb,10.0.0.2,broker,\n";
        let read = Inventory::from_csv("hosts.csv", csv, &matrix).unwrap();
        assert_eq!(sites(read), [Some("berlin".to_owned()), None]);
    }

    #[test]
    fn sections_mean_the_same_as_the_whole_file() {
        let farm = "[farm]\nname = \"f\"\nmatrix = \"ras-19\"\n";
        let network = "[[network]]\nname = \"n\"\ncidr = \"10.1.0.0/16\"\nroles = []\n";
        let more = "[[host]]\nname = \"b2\"\naddresses = [\"10.0.0.3\"]\nroles = [\"broker\"]\n";
        let many: String = (0..200)
            .map(|n| more.replace("b2", &format!("m{n}")).replace("0.3", &format!("2.{n}")))
            .collect();
        let valid = format!("{farm}{network}{HOSTS}{more}{many}");
        let [in_sections, whole] = read(&valid);
        assert!(in_sections.starts_with("Ok"), "{in_sections}");
        assert_eq!(in_sections, whole);
        for text in [
            format!("{HOSTS}{more}{farm}{network}"),
            format!("{farm}{network}{HOSTS}{network}{more}"),
            format!("{farm}{HOSTS}{more}[farm.features]\nhtml5 = true\nhtml = 1\n"),
            format!("{farm}note = \"\"\"{HOSTS}\"\"\"\n{HOSTS}{more}"),
            format!("host = [{{ name = \"x\", addresses = [], roles = [] }}]\n{farm}{HOSTS}"),
            format!("{farm}{HOSTS}{farm}{more}"),
            format!("{farm}{HOSTS}{HOSTS}{}", more.replace("broker", "brokr")),
            format!("{farm}{HOSTS}{more}[[hosts]]\nname = 1\n"),
            format!("{farm}{HOSTS}{more}roles = []\n[[host]\n"),
            format!("{HOSTS}{many}"),
        ] {
            let [in_sections, whole] = read(&text);
            assert_eq!(in_sections, whole, "{text}");
        }
    }

    #[test]
    fn rules_are_found_before_and_after_hosts() {
        let farm = "[farm]\nmatrix = \"ras-19\"\nbackground = false\n";
        for text in [
            format!("{farm}{HOSTS}"),
            format!("{HOSTS}{farm}"),
            format!("[farm.features]\nhtml5 = true\n{HOSTS}{farm}"),
        ] {
            let named = Inventory::rules_named(&text);
            assert!(named.no_background, "{text}");
            let at = 1 + text.lines().position(|line| line.starts_with("matrix")).unwrap();
            assert_eq!(named.matrix, Some(("ras-19".to_owned(), at)));
        }
    }
}
