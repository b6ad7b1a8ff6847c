//! Wireshark display filters that show the packets of conversations, in both directions, and as few
//! other packets as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use crate::classify::Conversation;
use crate::model::{Transport, network_around, write_address};

/// Maximum number of address pairs that are written one by one.
const PAIRS: usize = 8;
/// Maximum number of addresses in one set. If there are more clients, or more servers, the filter
/// accepts any address on that side, and so shows more packets.
const ADDRESSES: usize = 64;

/// Finds the conversations between two addresses with few cache misses.
pub(super) struct PairIndex {
    /// The client and the server of every 64th conversation.
    samples: Vec<(IpAddr, IpAddr)>,
    /// A Bloom filter of the pairs of client and server. For most pairs without a conversation, it
    /// shows that there is none, so that the list need not be searched.
    bits: Vec<u64>,
    seed: RandomState,
}

impl PairIndex {
    const STEP: usize = 64;

    /// The number of bits of the Bloom filter for each conversation.
    const BITS: usize = 4;

    /// Indexes conversations that are sorted by client and server.
    pub fn of(list: &[Conversation]) -> Self {
        let words = (list.len() * Self::BITS).div_ceil(64).next_power_of_two();
        let mut index = Self {
            samples: list.iter().step_by(Self::STEP).map(ends).collect(),
            bits: vec![0; words],
            seed: RandomState::new(),
        };
        for c in list {
            let (word, bit) = index.place(ends(c));
            index.bits[word] |= bit;
        }
        index
    }

    /// Returns the position of the bit of a pair: its word, and its value in the word.
    fn place(&self, pair: (IpAddr, IpAddr)) -> (usize, u64) {
        let hash = self.seed.hash_one(pair);
        ((hash >> 6) as usize & (self.bits.len() - 1), 1 << (hash & 63))
    }

    /// Returns the conversations from `client` to `server`.
    fn between<'l>(
        &self,
        list: &'l [Conversation],
        client: IpAddr,
        server: IpAddr,
    ) -> impl Iterator<Item = &'l Conversation> {
        let pair = (client, server);
        let (word, bit) = self.place(pair);
        let from = match self.bits[word] & bit {
            0 => list.len(),
            _ => self.first(list, pair),
        };
        list[from..].iter().take_while(move |c| ends(c) == pair)
    }

    /// Returns the position of the first conversation whose client and server are not below `pair`
    /// in sort order.
    fn first(&self, list: &[Conversation], pair: (IpAddr, IpAddr)) -> usize {
        let after = self.samples.partition_point(|ends| *ends < pair) * Self::STEP;
        let from = after.saturating_sub(Self::STEP);
        from + list[from..after.min(list.len())].partition_point(|c| ends(c) < pair)
    }
}

fn ends(c: &Conversation) -> (IpAddr, IpAddr) {
    (c.subject.client, c.subject.server)
}

/// Returns the filter for conversations. Without conversations, the filter is empty. ICMP errors
/// about their packets also match, because Wireshark dissects the packets that the errors quote.
pub(super) fn display_filter(list: &[Conversation], index: &PairIndex, members: &[u32]) -> String {
    let transport = |number: &u32| list[*number as usize].subject.transport;
    let Some(first) = members.first().map(transport) else { return String::new() };
    let only = if let [only] = members { list.get(*only as usize) } else { None };
    if let Some(filter) = only.and_then(|only| filter_of_one(list, index, only)) {
        return filter;
    }
    // Nearly all findings are about a single transport, so their members need not be divided.
    if members.iter().all(|number| transport(number) == first) {
        return filter_of_transport(list, index, first, members);
    }
    let transports: BTreeSet<Transport> = members.iter().map(transport).collect();
    let each = transports.into_iter().map(|one| {
        let members: Vec<u32> =
            members.iter().copied().filter(|number| transport(number) == one).collect();
        filter_of_transport(list, index, one, &members)
    });
    each.collect::<Vec<_>>().join(" || ")
}

/// Returns the filter for a single conversation, as [`filter_of_transport`] does, but faster. If a
/// capture has many findings, nearly all of them are about a single conversation.
/// Returns `None` if the conversation is not a usual one: it has no ports, it is aggregated, or its
/// server made connections from the port of its service.
fn filter_of_one(list: &[Conversation], index: &PairIndex, c: &Conversation) -> Option<String> {
    let (transport, port) = (c.subject.transport, c.subject.port);
    let (client, server) = ends(c);
    let connects_back = || index.between(list, server, client).next().is_some();
    if !transport.has_ports() || c.is_aggregated() || connects_back() {
        return None;
    }
    let mut text = String::with_capacity(160);
    for (from, to, field) in [(client, server, "dstport"), (server, client, "srcport")] {
        text.push_str(if text.is_empty() { "(" } else { " || (" });
        for (field, address) in [("src", from), ("dst", to)] {
            text.push_str(if address.is_ipv6() { "ipv6." } else { "ip." });
            text.push_str(field);
            text.push_str(" == ");
            write_address(&mut text, address);
            text.push_str(" && ");
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{transport}.{field} == {port})");
    }
    Some(text)
}

/// Returns the filter for at least one conversation; all of them use the same transport.
fn filter_of_transport(
    list: &[Conversation],
    index: &PairIndex,
    transport: Transport,
    members: &[u32],
) -> String {
    let mut pairs: BTreeMap<(IpAddr, IpAddr), BTreeSet<(u16, u16)>> = BTreeMap::new();
    for c in members.iter().map(|number| &list[*number as usize]) {
        let ports = pairs.entry((c.subject.client, c.subject.server)).or_default();
        // The type of an ICMP reply differs from that of its request.
        let back = if c.is_paired_icmp() { c.server_number } else { c.subject.port };
        ports.insert((c.subject.port, back));
    }
    let families = [false, true].map(|v6| pairs.keys().any(|(_, server)| server.is_ipv6() == v6));
    let of = |client: &[IpAddr], server: &[IpAddr], ports: &BTreeSet<(u16, u16)>, other: &str| {
        let (there, back) = ports.iter().copied().unzip();
        let [forth, back] = [("dstport", "srcport", there), ("srcport", "dstport", back)].map(
            |(at, other_field, numbers)| {
                let mut what = service(transport, families, at, &numbers);
                if !other.is_empty() {
                    what = format!("{what} && !({transport}.{other_field} in {{{other}}})");
                }
                what
            },
        );
        format!("({}) || ({})", direction(client, server, &forth), direction(server, client, &back))
    };
    let aggregated = members.iter().map(|number| &list[*number as usize]);
    let several = aggregated.filter(|c| c.is_aggregated()).fold([false; 3], |several, c| {
        let own = what_is_several(c);
        [0, 1, 2].map(|part: usize| several[part] || own[part])
    });
    if several == [false; 3] && pairs.len() <= PAIRS {
        let each = pairs.iter().map(|((c, s), ports)| {
            of(&[*c], &[*s], ports, &turned(list, index, (*c, *s), transport, ports).join(", "))
        });
        return each.collect::<Vec<_>>().join(" || ");
    }
    let some = |addresses: BTreeSet<IpAddr>| -> Vec<IpAddr> {
        if addresses.len() > ADDRESSES { Vec::new() } else { addresses.into_iter().collect() }
    };
    // An aggregated conversation does not list the addresses and ports that it stands for, so the
    // filter accepts every address or port in their place.
    let [any_client, any_server, any_port] = several;
    let clients = pairs.keys().map(|(client, _)| *client).filter(|_| !any_client);
    let servers = pairs.keys().map(|(_, server)| *server).filter(|_| !any_server);
    let [clients, servers] = [some(clients.collect()), some(servers.collect())];
    let ports = pairs.into_values().flatten().filter(|_| !any_port).collect();
    of(&clients, &servers, &ports, "")
}

/// Returns whether an aggregated conversation may have several clients, servers and ports.
fn what_is_several(c: &Conversation) -> [bool; 3] {
    // If flows were aggregated, an address may stand for its network.
    let is_network = |end: IpAddr| c.rare().aggregated > 0 && network_around(end) == end;
    let (client, server) = ends(c);
    let all = c.stands_for();
    [
        is_network(client) || all.is_some_and(|all| all.has_several_clients()),
        is_network(server) || all.is_some_and(|all| all.has_several_servers()),
        c.is_of_several_ports(),
    ]
}

/// Returns the ports of the client to which the server connected from one of its service ports. A
/// filter for the service port alone would show these packets as replies.
fn turned(
    list: &[Conversation],
    index: &PairIndex,
    (client, server): (IpAddr, IpAddr),
    transport: Transport,
    ports: &BTreeSet<(u16, u16)>,
) -> Vec<String> {
    if !transport.has_ports() {
        return Vec::new();
    }
    // If there are many client ports, only the lowest are stored. A higher port may therefore also
    // be a client port.
    let from_here = |c: &&Conversation, port: u16| {
        let beyond = c.client_ports.iter().last().is_some_and(|last| *last < port);
        c.client_ports.contains(&port) || (c.client_ports.more() && beyond)
    };
    let turned = index
        .between(list, server, client)
        .filter(|c| c.subject.transport == transport)
        .filter(|c| ports.iter().any(|(port, _)| from_here(c, *port)));
    ranges(&turned.map(|c| c.subject.port).collect())
}

/// Returns a filter for packets that were sent from one of `from` to one of `to` and that match
/// `what`. An empty list means any address.
fn direction(from: &[IpAddr], to: &[IpAddr], what: &str) -> String {
    let mut text = String::with_capacity(128);
    for (field, addresses) in [("src", from), ("dst", to)] {
        if !addresses.is_empty() {
            write_addresses(&mut text, field, addresses);
            text.push_str(" && ");
        }
    }
    text + what
}

/// Writes a filter for packets whose address in `field` is one of `addresses`.
fn write_addresses(text: &mut String, field: &str, addresses: &[IpAddr]) {
    let has = |v6: bool| addresses.iter().any(|address| address.is_ipv6() == v6);
    let has_both = has(false) && has(true);
    if has_both {
        text.push('(');
    }
    for (v6, protocol) in [(false, "ip"), (true, "ipv6")] {
        let mut of_family = addresses.iter().filter(|address| address.is_ipv6() == v6);
        let Some(first) = of_family.next() else { continue };
        if v6 && has_both {
            text.push_str(" || ");
        }
        // Writing to a string cannot fail.
        let _ = match of_family.next() {
            None => write!(text, "{protocol}.{field} == {first}"),
            Some(second) => write!(text, "{protocol}.{field} in {{{first}, {second}")
                .and_then(|()| of_family.try_for_each(|address| write!(text, ", {address}")))
                .map(|()| text.push('}')),
        };
    }
    if has_both {
        text.push(')');
    }
}

/// Returns the filter for a service in packets of one direction. Without `numbers`, the filter
/// accepts every port or ICMP type.
fn service(
    transport: Transport,
    families: [bool; 2],
    field: &str,
    numbers: &BTreeSet<u16>,
) -> String {
    let field = match transport {
        Transport::ICMP => "icmp.type".to_owned(),
        Transport::ICMP6 => "icmpv6.type".to_owned(),
        t if t.has_ports() => format!("{t}.{field}"),
        Transport(number) => {
            // If extension headers or an Authentication Header come first, the last of them
            // contains the protocol number.
            const V4: &[&str] = &["ip.proto", "ah.next_header"];
            const V6: &[&str] = &[
                "ipv6.nxt",
                "ipv6.hopopts.nxt",
                "ipv6.routing.nxt",
                "ipv6.fraghdr.nxt",
                "ipv6.dstopts.nxt",
                "ah.next_header",
            ];
            let lists = match families {
                [true, true] => [&V4[..1], V6],
                [_, true] => [&[][..], V6],
                _ => [V4, &[]],
            };
            let each = lists.into_iter().flatten().map(|field| format!("{field} == {number}"));
            return format!("({})", each.collect::<Vec<_>>().join(" || "));
        }
    };
    is_one_of(&field, &ranges(numbers)).unwrap_or(field)
}

/// Formats numbers as ranges, such as `1..5`.
fn ranges(numbers: &BTreeSet<u16>) -> Vec<String> {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if number - *last == 1 => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let text = |(first, last): (u16, u16)| {
        if first == last { first.to_string() } else { format!("{first}..{last}") }
    };
    runs.into_iter().map(text).collect()
}

/// Returns a filter that matches if a field has one of the values, or `None` if there are no
/// values.
fn is_one_of(field: &str, values: &[String]) -> Option<String> {
    match values {
        [] => None,
        [one] if !one.contains("..") => Some(format!("{field} == {one}")),
        values => Some(format!("{field} in {{{}}}", values.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{BROKER, FARM, GW, Packets, policy};

    #[test]
    fn numbers_become_ranges() {
        let text = |numbers: &[u16]| ranges(&numbers.iter().copied().collect()).join(" ");
        assert_eq!(text(&[1, 2, 3, 7, 9, 10]), "1..3 7 9..10");
        assert_eq!(text(&[65535, 65534, 0]), "0 65534..65535");
        assert_eq!(
            is_one_of("tcp.dstport", &["1..3".to_owned()]).unwrap(),
            "tcp.dstport in {1..3}"
        );
        assert_eq!(is_one_of("ip.src", &[]), None);
    }

    #[test]
    fn conversations_of_several_transports_are_all_shown() {
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (BROKER, 443));
        packets.send(1, Transport::UDP, (GW, 50_000), (BROKER, 53));
        let list = packets.conversations(&policy(FARM)).list;
        let members: Vec<u32> = (0..list.len() as u32).collect();
        let text = display_filter(&list, &PairIndex::of(&list), &members);
        assert!(text.contains("tcp.dstport == 443) || "), "{text}");
        assert!(text.contains("udp.dstport == 53) || "), "{text}");
        assert_eq!(display_filter(&list, &PairIndex::of(&list), &[]), "");
    }

    #[test]
    fn a_single_conversation_has_the_filter_of_a_list_of_one() {
        let mut packets = Packets::default();
        packets.connect(0, (GW, 50_000), (BROKER, 443));
        packets.send(1, Transport::UDP, (GW, 50_000), (BROKER, 53));
        packets.connect(2, ("fd00::1", 50_001), ("fd00::2", 20_009));
        packets.send(3, Transport::ICMP, (GW, 8), (BROKER, 0));
        // This server also makes a connection to its client.
        packets.connect(4, (GW, 50_002), ("10.1.0.9", 443));
        packets.connect(5, ("10.1.0.9", 443), (GW, 22));
        let list = packets.conversations(&policy(FARM)).list;
        let index = PairIndex::of(&list);
        let mut usual = 0;
        for (number, c) in list.iter().enumerate() {
            let whole = filter_of_transport(&list, &index, c.subject.transport, &[number as u32]);
            let one = filter_of_one(&list, &index, c);
            usual += usize::from(one.is_some());
            assert_eq!(one.unwrap_or_else(|| whole.clone()), whole);
        }
        assert_eq!((usual, list.len()), (3, 6));
    }

    #[test]
    fn ports_and_networks_of_aggregated_flows_match_everything() {
        let mut packets = Packets::default();
        packets.syn(0, ("203.0.113.0", 50_000), (BROKER, 0));
        let mut list = packets.conversations(&policy(FARM)).list;
        let filter = |list: &[Conversation]| display_filter(list, &PairIndex::of(list), &[0]);
        assert!(filter(&list).contains("tcp.dstport == 0"), "{}", filter(&list));
        list[0].set_aggregated();
        let any = "(ip.dst == 10.1.0.10 && tcp.dstport) || (ip.src == 10.1.0.10 && tcp.srcport)";
        assert_eq!(filter(&list), any);
    }

    #[test]
    fn directions_join_both_families() {
        let [a, b, c] = ["10.0.0.1", "fd00::1", "10.0.0.2"].map(|a| a.parse().unwrap());
        let text = direction(&[a, b], &[c], "tcp.dstport == 443");
        let from = "(ip.src == 10.0.0.1 || ipv6.src == fd00::1)";
        assert_eq!(text, format!("{from} && ip.dst == 10.0.0.2 && tcp.dstport == 443"));
        assert_eq!(direction(&[], &[], "tcp.dstport == 443"), "tcp.dstport == 443");
    }
}
