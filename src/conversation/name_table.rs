//! The names of servers, as clients requested them and as resolvers answered.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::DirectionHints;
use crate::flow::{AnnouncedPorts, HashSeed, Path, ServerNameRequest, SideEvidence};
use crate::model::{BoundedSet, Merge};

/// What the capture shows of a server's names, as one client sees them.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct ServerNames {
    /// The names that the server may be judged by. If there are several, the worst ruling counts.
    pub known: Vec<KnownName>,
    /// Whether a client may have requested another name, in an encrypted ClientHello or beyond the
    /// requests that are kept.
    pub hidden: bool,
    /// The names seen, as many as reports show: first those that the client requested from the
    /// server, then those from DNS.
    pub seen: Vec<String>,
}

/// A name of a server, with its aliases.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KnownName {
    /// The requested name, then its aliases. Any of them may decide.
    pub names: Vec<String>,
    /// Whether a DNS answer to the same client gives the server's address for it.
    pub by_dns: bool,
    /// Whether a resolver that returned it is a witness, that is, one of the farm's.
    pub by_witness: bool,
    /// Whether the client sent the name to the server: TLS server name or HTTP host.
    pub by_hello: bool,
}

/// The maximum number of names shown for one server.
const SHOWN: usize = 32;

impl KnownName {
    /// Returns whether two witnesses agree on the name at this position. A client alone chooses its
    /// server name, anyone can forge an answer, and only the DNS answer contains an alias.
    pub fn is_strong(&self, alias: usize) -> bool {
        self.by_witness && self.by_hello && alias == 0
    }

    /// Returns the witnesses in words.
    pub fn witnesses(&self) -> &'static str {
        match (self.by_dns, self.by_hello) {
            (true, true) if self.by_witness => "by DNS and by the client's own word",
            (true, true) => {
                "by the client's own word and by DNS, but of a resolver that is none of the farm's"
            }
            (true, false) => "by DNS alone",
            _ => "by the client's own word alone",
        }
    }
}

/// The names by which a client addressed a server.
#[derive(Default)]
pub(super) struct RequestedNames {
    pub hellos: ServerNameRequests,
    /// Whether there were more than are kept.
    pub more: bool,
}

/// All requested names; nearly always only one.
pub(super) type ServerNameRequests = BoundedSet<ServerNameRequest, { usize::MAX }>;

impl RequestedNames {
    pub fn merge(&mut self, other: &Self) {
        self.hellos.merge(&other.hellos);
        self.more |= other.more;
    }
}

/// The names of all servers, each set of names stored once, and the ports that endpoint mappers
/// announced. An answer to one address of a host counts for all of its addresses.
pub(super) struct NameTable<'a> {
    sets: Vec<ServerNames>,
    numbers: HashMap<ServerNames, u32, HashSeed>,
    /// The DNS names that each client received for an address.
    lookups: HashMap<(IpAddr, IpAddr), ResolvedNames, HashSeed>,
    announced: HashMap<(IpAddr, IpAddr), AnnouncedPorts, HashSeed>,
    lens: &'a dyn DirectionHints,
}

/// The names that DNS answers gave for an address, each with its aliases, and whether a witness
/// gave them.
type ResolvedNames = BTreeMap<Vec<String>, bool>;

/// The number of farm hosts that have to use a resolver for it to be a witness.
const ASKERS: usize = 3;

/// Returns whether a resolver is a witness: the inventory states it, it has a role that resolves
/// names, or several hosts of the farm use it.
fn is_witness(side: &SideEvidence, resolver: IpAddr, lens: &dyn DirectionHints) -> bool {
    if lens.is_resolver(resolver) {
        return true;
    }
    let listed = side.askers(resolver).filter(|asker| lens.is_listed(**asker));
    let hosts: BTreeSet<IpAddr> = listed.map(|asker| lens.canonical(*asker)).collect();
    hosts.len() >= ASKERS
}

impl<'a> NameTable<'a> {
    /// Creates the table. `reached` returns whether a client is seen connected to an endpoint
    /// mapper.
    pub fn new(
        side: &SideEvidence,
        lens: &'a dyn DirectionHints,
        reached: impl Fn(IpAddr, IpAddr) -> bool,
    ) -> Self {
        let mut lookups = HashMap::<_, ResolvedNames, HashSeed>::default();
        let mut announced = HashMap::<_, AnnouncedPorts, HashSeed>::default();
        let mut witnesses = HashMap::<IpAddr, bool, HashSeed>::default();
        let plain = side.told().filter(|((.., path), _)| *path == Path::PLAIN);
        for ((client, address, _), chains) in plain {
            let told = lookups.entry((lens.canonical(*client), *address)).or_default();
            for (chain, resolver) in chains {
                let witness = witnesses.entry(*resolver);
                let witness = *witness.or_insert_with(|| is_witness(side, *resolver, lens));
                *told.entry(chain.clone()).or_default() |= witness;
            }
        }
        let plain = side.announced().filter(|((.., path), _)| *path == Path::PLAIN);
        for ((mapper, client, _), ports) in plain.filter(|((m, c, _), _)| reached(*c, *m)) {
            let pair = (lens.canonical(*mapper), lens.canonical(*client));
            announced.entry(pair).or_default().merge(ports);
        }
        // Number zero is a server without a name.
        let sets = vec![ServerNames::default()];
        Self { sets, numbers: HashMap::default(), lookups, announced, lens }
    }

    /// Returns whether an endpoint mapper on the server announced a port to the client.
    pub fn is_announced(&self, client: IpAddr, server: IpAddr, port: u16) -> bool {
        let pair = (self.lens.canonical(server), self.lens.canonical(client));
        !self.announced.is_empty() && self.announced.get(&pair).is_some_and(|p| p.contains(&port))
    }

    /// Returns the number of the set of names by which `client` knows `server`, given the names
    /// that it requested from it.
    pub fn number(&mut self, client: IpAddr, server: IpAddr, asked: &RequestedNames) -> u32 {
        let told = if self.lookups.is_empty() {
            None
        } else {
            self.lookups.get(&(self.lens.canonical(client), server))
        };
        if told.is_none() && asked.hellos.is_empty() {
            return 0;
        }
        let mut set = names(&asked.hellos, told.unwrap_or(&ResolvedNames::new()));
        set.hidden |= asked.more;
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

fn names(hellos: &ServerNameRequests, told: &ResolvedNames) -> ServerNames {
    let mut set = ServerNames::default();
    let mut supported = !hellos.is_empty();
    for hello in hellos.iter() {
        // If several chains contain the name, one from a witness is preferred.
        let chains = || told.iter().filter(|(chain, _)| chain.contains(&hello.name));
        let found = chains().find(|(_, witness)| **witness).or_else(|| chains().next());
        let chain = found.map(|f| f.0);
        let by_witness = found.is_some_and(|f| *f.1);
        // The visible name of an encrypted ClientHello counts only if DNS confirms it.
        set.hidden |= hello.hidden && chain.is_none();
        supported &= chain.is_some();
        if hello.name.is_empty() || (hello.hidden && chain.is_none()) {
            continue;
        }
        let mut names = vec![hello.name.clone()];
        names.extend(
            chain.into_iter().flat_map(|c| c.iter()).filter(|n| **n != hello.name).cloned(),
        );
        set.known.push(KnownName { names, by_dns: chain.is_some(), by_witness, by_hello: true });
    }
    // Many names share an address. Those from DNS matter only if one of the client's names is
    // unconfirmed.
    if !supported {
        let chains = told.iter().filter(|(chain, _)| !chain.is_empty());
        set.known.extend(chains.map(|(chain, witness)| KnownName {
            names: chain.clone(),
            by_dns: true,
            by_witness: *witness,
            by_hello: false,
        }));
    }
    set.known.dedup();
    let asked = hellos.iter().map(|hello| &hello.name).filter(|name| !name.is_empty());
    for name in asked.chain(told.keys().flat_map(|chain| chain.iter())) {
        if set.seen.len() < SHOWN && !set.seen.contains(name) {
            set.seen.push(name.clone());
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &str, hidden: bool) -> ServerNameRequest {
        ServerNameRequest { name: name.to_owned(), hidden }
    }

    fn set<const N: usize>(members: [ServerNameRequest; N]) -> ServerNameRequests {
        let mut set = ServerNameRequests::new();
        members.into_iter().for_each(|hello| set.insert(hello));
        set
    }

    fn told(chains: &[&[&str]]) -> ResolvedNames {
        let chain = |names: &&[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        chains.iter().map(|names| (chain(names), true)).collect()
    }

    #[test]
    fn dns_bears_out_what_the_client_says() {
        let known = told(&[&["a.example", "cdn.example"], &["b.example"]]);
        let stranger = known.keys().map(|chain| (chain.clone(), false)).collect();
        let weak = names(&set([hello("a.example", false)]), &stranger);
        assert!(weak.known[0].by_dns && !weak.known[0].is_strong(0));
        let told = names(&set([hello("a.example", false)]), &known);
        assert_eq!(told.known.len(), 1);
        assert!(told.known[0].is_strong(0) && !told.known[0].is_strong(1));
        assert_eq!(told.known[0].names, ["a.example", "cdn.example"]);
        assert_eq!(told.seen, ["a.example", "cdn.example", "b.example"]);
        // A name unknown to DNS stands beside those that DNS gave.
        let told = names(&set([hello("c.example", false)]), &known);
        let witnesses: Vec<_> = told.known.iter().map(|k| (&*k.names[0], k.is_strong(0))).collect();
        assert_eq!(witnesses, [("c.example", false), ("a.example", false), ("b.example", false)]);
    }

    #[test]
    fn an_encrypted_hello_counts_where_dns_says_the_same() {
        let a = told(&[&["a.example"]]);
        let outer = set([hello("public.example", true)]);
        let told = names(&outer, &ResolvedNames::new());
        assert!(told.hidden && told.known.is_empty());
        let told = names(&outer, &a);
        assert!(told.hidden && told.known.iter().all(|k| !k.is_strong(0)));
        let told = names(&set([hello("a.example", true)]), &a);
        assert!(!told.hidden && told.known[0].is_strong(0));
        // One unencrypted name does not confirm what another connection hides.
        let both = set([hello("a.example", false), hello("public.example", true)]);
        assert!(names(&both, &a).hidden);
    }
}
