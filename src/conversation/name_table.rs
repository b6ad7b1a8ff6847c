//! The names of servers, from the requests of clients and the answers of resolvers.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use super::{DirectionHints, ServiceKey};
use crate::flow::{AnnouncedPorts, HashSeed, Path, ServerNameRequest, SideEvidence};
use crate::model::{BoundedSet, Merge};

/// The names of a server from the point of view of one client.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct ServerNames {
    /// The names that the server may be judged against. If there are several, the worst ruling
    /// counts.
    pub known: Vec<KnownName>,
    /// Whether the client may have requested another name, in an encrypted ClientHello or beyond
    /// the requests that are kept.
    pub hidden: bool,
    /// The names for reports, up to a maximum: first those that the client requested from the
    /// server, then those from DNS.
    pub seen: Vec<String>,
}

/// A name of a server, with its aliases.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KnownName {
    /// The requested name, then its aliases. Any of them may determine the ruling.
    pub names: Vec<String>,
    /// Whether a DNS answer to the same client maps the name to the server's address.
    pub by_dns: bool,
    /// Whether a resolver that returned the name is a witness, that is, a resolver of the farm.
    pub by_witness: bool,
    /// Whether the client sent the name to the server, as a TLS server name or an HTTP host.
    pub by_client: bool,
}

/// The maximum number of names that reports show for one server.
const SHOWN: usize = 32;

impl KnownName {
    /// Returns whether both the client and a witness confirm the name at index `alias`. Either
    /// alone is weak, because a client may send any server name, and anyone can forge a DNS answer.
    /// Only DNS answers contain aliases, so an alias is never strong.
    pub fn is_strong(&self, alias: usize) -> bool {
        self.by_witness && self.by_client && alias == 0
    }

    /// Returns the sources of the name as text for reports.
    pub fn witnesses(&self) -> &'static str {
        match (self.by_dns, self.by_client) {
            (true, true) if self.by_witness => "according to DNS and the client's own request",
            (true, true) => {
                "according to DNS and the client's own request, but the resolver does not belong to the farm"
            }
            (true, false) => "according to DNS alone",
            _ => "according to the client's own request alone",
        }
    }
}

/// The names that a client requested from a server.
#[derive(Default)]
pub(super) struct RequestedNames {
    pub requests: ServerNameRequests,
    /// Whether the client requested more names than are kept.
    pub more: bool,
}

/// All requested names. Their number is not limited, because there is nearly always only one.
pub(super) type ServerNameRequests = BoundedSet<ServerNameRequest, { usize::MAX }>;

impl RequestedNames {
    pub fn merge(&mut self, other: &Self) {
        self.requests.merge(&other.requests);
        self.more |= other.more;
    }
}

/// The names that the clients of conversations requested. The names are in a list, because a hash
/// table of them would take twice the memory, and three times while it grows.
#[derive(Default)]
pub(super) struct RequestsByConversation {
    /// For each key of a conversation, the index of its names.
    indexes: HashMap<(ServiceKey, bool), u32, HashSeed>,
    list: Vec<RequestedNames>,
}

impl RequestsByConversation {
    /// Returns the names of a conversation, after adding an empty set if there is none.
    pub fn of(&mut self, conversation: (ServiceKey, bool)) -> &mut RequestedNames {
        let next = self.list.len() as u32;
        let index = *self.indexes.entry(conversation).or_insert(next);
        if index == next {
            self.list.push(RequestedNames::default());
        }
        &mut self.list[index as usize]
    }

    /// Returns the names of a conversation; `None` if it has none.
    pub fn get(&self, conversation: &(ServiceKey, bool)) -> Option<&RequestedNames> {
        self.indexes.get(conversation).map(|index| &self.list[*index as usize])
    }

    /// Merges the names from another part of the flows.
    pub fn merge(&mut self, other: Self) {
        if self.list.is_empty() {
            *self = other;
            return;
        }
        for (conversation, index) in other.indexes {
            self.of(conversation).merge(&other.list[index as usize]);
        }
    }
}

/// The names of all servers, each set of names stored once, and the ports that endpoint mappers
/// announced. A DNS answer to one address of a client counts for all addresses of that host.
pub(super) struct NameTable<'a> {
    sets: Vec<ServerNames>,
    numbers: HashMap<ServerNames, u32, HashSeed>,
    /// The DNS names per client and resolved address.
    lookups: HashMap<(IpAddr, IpAddr), ResolvedNames, HashSeed>,
    /// The resolved addresses, which are checked first: most servers are not among them, and
    /// looking up a pair takes longer.
    resolved: HashSet<IpAddr, HashSeed>,
    announced: HashMap<(IpAddr, IpAddr), AnnouncedPorts, HashSeed>,
    hints: &'a dyn DirectionHints,
}

/// The names that DNS answers gave for an address, each with its aliases, mapped to whether a
/// witness gave them.
type ResolvedNames = BTreeMap<Vec<String>, bool>;

/// The number of farm hosts that must use a resolver for it to count as a witness.
const MIN_CLIENTS: usize = 3;

/// Returns whether a resolver is a witness: the inventory lists it as a resolver, it has a
/// directory role, or at least [`MIN_CLIENTS`] hosts of the farm use it.
fn is_witness(side: &SideEvidence, resolver: IpAddr, hints: &dyn DirectionHints) -> bool {
    if hints.is_resolver(resolver) {
        return true;
    }
    let listed = side.resolver_clients(resolver).filter(|client| hints.is_listed(**client));
    let hosts: BTreeSet<IpAddr> = listed.map(|client| hints.canonical(*client)).collect();
    hosts.len() >= MIN_CLIENTS
}

impl<'a> NameTable<'a> {
    /// Creates the table. `has_connected` returns whether the capture shows an established
    /// connection from a client to an endpoint mapper.
    pub fn new(
        side: &SideEvidence,
        hints: &'a dyn DirectionHints,
        has_connected: impl Fn(IpAddr, IpAddr) -> bool,
    ) -> Self {
        let mut lookups = HashMap::<_, ResolvedNames, HashSeed>::default();
        let mut announced = HashMap::<_, AnnouncedPorts, HashSeed>::default();
        let mut witnesses = HashMap::<IpAddr, bool, HashSeed>::default();
        let plain = side.dns_names().filter(|((.., path), _)| *path == Path::PLAIN);
        for ((client, address, _), chains) in plain {
            let resolved = lookups.entry((hints.canonical(*client), *address)).or_default();
            for (chain, resolver) in chains {
                let witness = witnesses.entry(*resolver);
                let witness = *witness.or_insert_with(|| is_witness(side, *resolver, hints));
                *resolved.entry(chain.clone()).or_default() |= witness;
            }
        }
        let plain = side.announced().filter(|((.., path), _)| *path == Path::PLAIN);
        for ((mapper, client, _), ports) in plain.filter(|((m, c, _), _)| has_connected(*c, *m)) {
            let pair = (hints.canonical(*mapper), hints.canonical(*client));
            announced.entry(pair).or_default().merge(ports);
        }
        // Index zero is the empty set, for servers without a name.
        let sets = vec![ServerNames::default()];
        let resolved = lookups.keys().map(|(_, address)| *address).collect();
        Self { sets, numbers: HashMap::default(), lookups, resolved, announced, hints }
    }

    /// Returns whether an endpoint mapper on the server announced a port to the client.
    pub fn is_announced(&self, client: IpAddr, server: IpAddr, port: u16) -> bool {
        if self.announced.is_empty() {
            return false;
        }
        let pair = (self.hints.canonical(server), self.hints.canonical(client));
        self.announced.get(&pair).is_some_and(|ports| ports.contains(&port))
    }

    /// Returns the index of the set of names under which `client` knows `server`. `requested`
    /// contains the names that the client requested from this server.
    pub fn number(&mut self, client: IpAddr, server: IpAddr, requested: &RequestedNames) -> u32 {
        let resolved = if self.resolved.contains(&server) {
            self.lookups.get(&(self.hints.canonical(client), server))
        } else {
            None
        };
        if resolved.is_none() && requested.requests.is_empty() {
            return 0;
        }
        let mut set = combine_names(&requested.requests, resolved.unwrap_or(&ResolvedNames::new()));
        set.hidden |= requested.more;
        if let Some(number) = self.numbers.get(&set) {
            return *number;
        }
        let number = self.sets.len() as u32;
        self.numbers.insert(set.clone(), number);
        self.sets.push(set);
        number
    }

    pub fn into_sets(self) -> Vec<ServerNames> {
        self.sets
    }
}

/// Combines the names that a client requested with those that DNS gave it for the server's address.
fn combine_names(requests: &ServerNameRequests, resolved: &ResolvedNames) -> ServerNames {
    let mut set = ServerNames::default();
    let mut are_confirmed = !requests.is_empty();
    for request in requests.iter() {
        // If several chains contain the name, one from a witness is preferred.
        let chains = || resolved.iter().filter(|(chain, _)| chain.contains(&request.name));
        let found = chains().find(|(_, witness)| **witness).or_else(|| chains().next());
        let chain = found.map(|f| f.0);
        let by_witness = found.is_some_and(|f| *f.1);
        // The visible name of an encrypted ClientHello counts only if DNS confirms it.
        set.hidden |= request.hidden && chain.is_none();
        are_confirmed &= chain.is_some();
        if request.name.is_empty() || (request.hidden && chain.is_none()) {
            continue;
        }
        let mut names = vec![request.name.clone()];
        names.extend(
            chain.into_iter().flat_map(|c| c.iter()).filter(|n| **n != request.name).cloned(),
        );
        set.known.push(KnownName { names, by_dns: chain.is_some(), by_witness, by_client: true });
    }
    // Many names may share an address, so names from DNS matter only if DNS does not confirm all
    // names that the client requested.
    if !are_confirmed {
        let chains = resolved.iter().filter(|(chain, _)| !chain.is_empty());
        set.known.extend(chains.map(|(chain, witness)| KnownName {
            names: chain.clone(),
            by_dns: true,
            by_witness: *witness,
            by_client: false,
        }));
    }
    set.known.dedup();
    let requested = requests.iter().map(|request| &request.name).filter(|name| !name.is_empty());
    for name in requested.chain(resolved.keys().flat_map(|chain| chain.iter())) {
        if set.seen.len() < SHOWN && !set.seen.contains(name) {
            set.seen.push(name.clone());
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(name: &str) -> ServerNameRequest {
        ServerNameRequest { name: name.to_owned(), hidden: false }
    }

    /// Returns a request whose real name may be in an encrypted ClientHello.
    fn encrypted(name: &str) -> ServerNameRequest {
        ServerNameRequest { hidden: true, ..visible(name) }
    }

    fn set<const N: usize>(members: [ServerNameRequest; N]) -> ServerNameRequests {
        let mut set = ServerNameRequests::new();
        members.into_iter().for_each(|request| set.insert(request));
        set
    }

    fn resolved(chains: &[&[&str]]) -> ResolvedNames {
        let chain = |names: &&[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        chains.iter().map(|names| (chain(names), true)).collect()
    }

    #[test]
    fn dns_confirms_what_the_client_requests() {
        let known = resolved(&[&["a.example", "cdn.example"], &["b.example"]]);
        let stranger = known.keys().map(|chain| (chain.clone(), false)).collect();
        let weak = combine_names(&set([visible("a.example")]), &stranger);
        assert!(weak.known[0].by_dns && !weak.known[0].is_strong(0));
        let names = combine_names(&set([visible("a.example")]), &known);
        assert_eq!(names.known.len(), 1);
        assert!(names.known[0].is_strong(0) && !names.known[0].is_strong(1));
        assert_eq!(names.known[0].names, ["a.example", "cdn.example"]);
        assert_eq!(names.seen, ["a.example", "cdn.example", "b.example"]);
        // A name that DNS does not confirm is listed in addition to the names from DNS.
        let names = combine_names(&set([visible("c.example")]), &known);
        let witnesses: Vec<_> =
            names.known.iter().map(|k| (&*k.names[0], k.is_strong(0))).collect();
        assert_eq!(witnesses, [("c.example", false), ("a.example", false), ("b.example", false)]);
    }

    #[test]
    fn an_encrypted_client_hello_counts_if_dns_confirms_it() {
        let a = resolved(&[&["a.example"]]);
        let outer = set([encrypted("public.example")]);
        let names = combine_names(&outer, &ResolvedNames::new());
        assert!(names.hidden && names.known.is_empty());
        let names = combine_names(&outer, &a);
        assert!(names.hidden && names.known.iter().all(|k| !k.is_strong(0)));
        let names = combine_names(&set([encrypted("a.example")]), &a);
        assert!(!names.hidden && names.known[0].is_strong(0));
        // A visible name does not confirm the hidden name of another connection.
        let both = set([visible("a.example"), encrypted("public.example")]);
        assert!(combine_names(&both, &a).hidden);
    }
}
