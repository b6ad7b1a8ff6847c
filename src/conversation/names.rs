//! The names of servers, as clients asked for them and as resolvers told them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::flow::{Flows, Hello};
use crate::model::AtMost;

/// What the capture shows of a server's names, to one client.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct ServerNames {
    /// The names it may be judged by; of several the worst counts.
    pub known: Vec<Known>,
    /// A client may have asked for another name in an encrypted ClientHello.
    pub hidden: bool,
    /// Every name seen: those that the client asked the server for, then those of DNS.
    pub seen: Vec<String>,
}

/// A name of a server, with its aliases.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Known {
    /// The name that was asked for, then its aliases; any of them may decide.
    pub names: Vec<String>,
    /// An answer of DNS, asked for by the same client, gives the server's address for it.
    pub by_dns: bool,
    /// The client named it to the server: TLS server name or HTTP host.
    pub by_hello: bool,
}

impl Known {
    /// Whether two witnesses agree. Alone, a client chooses its server name, and anyone can forge an answer.
    pub fn is_strong(&self) -> bool {
        self.by_dns && self.by_hello
    }

    /// The witnesses in words.
    pub fn witnesses(&self) -> &'static str {
        match (self.by_dns, self.by_hello) {
            (true, true) => "by DNS and by the client's own word",
            (true, false) => "by DNS alone",
            _ => "by the client's own word alone",
        }
    }
}

/// The names of all servers: each set of names once.
pub(super) struct Directory<'a> {
    sets: Vec<ServerNames>,
    numbers: HashMap<ServerNames, u32>,
    lookups: &'a BTreeMap<(IpAddr, IpAddr), AtMost<Vec<String>, 16>>,
}

impl<'a> Directory<'a> {
    pub fn new(flows: &'a Flows) -> Self {
        // Number zero is a server without a name.
        let sets = vec![ServerNames::default()];
        Self { sets, numbers: HashMap::new(), lookups: &flows.lookups }
    }

    /// The number of the names that `client` knows `server` by, having asked it for `hellos`.
    pub fn number(&mut self, client: IpAddr, server: IpAddr, hellos: &BTreeSet<Hello>) -> u32 {
        let told = self.lookups.get(&(client, server));
        if told.is_none() && hellos.is_empty() {
            return 0;
        }
        let set = names(hellos, &told.into_iter().flat_map(AtMost::iter).collect::<Vec<_>>());
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

fn names(hellos: &BTreeSet<Hello>, told: &[&Vec<String>]) -> ServerNames {
    let mut set = ServerNames::default();
    let mut supported = false;
    for hello in hellos {
        let chain = told.iter().find(|chain| chain.contains(&hello.name));
        // What an encrypted hello shows outside is its name only where DNS says the same.
        set.hidden |= hello.hidden && chain.is_none();
        if hello.name.is_empty() || (hello.hidden && chain.is_none()) {
            continue;
        }
        supported |= chain.is_some();
        let mut names = vec![hello.name.clone()];
        names.extend(
            chain.into_iter().flat_map(|c| c.iter()).filter(|n| **n != hello.name).cloned(),
        );
        set.known.push(Known { names, by_dns: chain.is_some(), by_hello: true });
    }
    // Many names share an address; those of DNS matter where the client's own word is not borne out.
    if !supported {
        let chains = told.iter().filter(|chain| !chain.is_empty());
        set.known.extend(chains.map(|chain| Known {
            names: (*chain).clone(),
            by_dns: true,
            by_hello: false,
        }));
    }
    set.known.dedup();
    let asked = hellos.iter().map(|hello| &hello.name).filter(|name| !name.is_empty());
    for name in asked.chain(told.iter().flat_map(|chain| chain.iter())) {
        if !set.seen.contains(name) {
            set.seen.push(name.clone());
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &str, hidden: bool) -> Hello {
        Hello { name: name.to_owned(), hidden }
    }

    fn chain(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn dns_bears_out_what_the_client_says() {
        let (a, b) = (chain(&["a.example", "cdn.example"]), chain(&["b.example"]));
        let set = names(&[hello("a.example", false)].into(), &[&a, &b]);
        assert_eq!(set.known.len(), 1);
        assert!(set.known[0].is_strong());
        assert_eq!(set.known[0].names, ["a.example", "cdn.example"]);
        assert_eq!(set.seen, ["a.example", "cdn.example", "b.example"]);
        // A name that DNS does not know stands beside those that it does.
        let set = names(&[hello("c.example", false)].into(), &[&a, &b]);
        let witnesses: Vec<_> = set.known.iter().map(|k| (&*k.names[0], k.is_strong())).collect();
        assert_eq!(witnesses, [("c.example", false), ("a.example", false), ("b.example", false)]);
    }

    #[test]
    fn an_encrypted_hello_counts_where_dns_says_the_same() {
        let a = chain(&["a.example"]);
        let outer = [hello("public.example", true)].into();
        let set = names(&outer, &[]);
        assert!(set.hidden && set.known.is_empty());
        let set = names(&outer, &[&a]);
        assert!(set.hidden && set.known.iter().all(|k| !k.is_strong()));
        let set = names(&[hello("a.example", true)].into(), &[&a]);
        assert!(!set.hidden && set.known[0].is_strong());
    }
}
