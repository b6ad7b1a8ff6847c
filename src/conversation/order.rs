//! Sorts conversations by subject.

use std::net::IpAddr;

use super::{Conversation, ServiceKey};

/// The key of a conversation between IPv4 addresses. Such keys compare like [`Conversation::key`].
type Ipv4Key = [u32; 4];

/// Returns the key of a conversation; `None` if its addresses are IPv6 addresses.
fn ipv4_key(conversation: &Conversation) -> Option<Ipv4Key> {
    let (ServiceKey { client, server, transport, port }, is_doubted) = conversation.key();
    let (IpAddr::V4(client), IpAddr::V4(server)) = (client, server) else { return None };
    let service = u32::from(transport.0) << 16 | u32::from(port);
    Some([client.to_bits(), server.to_bits(), service, is_doubted.into()])
}

/// Sorts conversations by key. The order of conversations with equal keys stays.
///
/// There may be hundreds of thousands of conversations, and nearly all are between IPv4 addresses.
/// Their keys are short, which takes less memory and time than sorting by whole keys.
pub(super) fn sort(list: &mut [Conversation]) {
    let mut short: Vec<(Ipv4Key, u32)> = Vec::with_capacity(list.len());
    let mut others: Vec<u32> = Vec::new();
    for (number, conversation) in (0..).zip(list.iter()) {
        match ipv4_key(conversation) {
            Some(key) => short.push((key, number)),
            None => others.push(number),
        }
    }
    short.sort_unstable();
    // IPv4 addresses come before all IPv6 addresses.
    others.sort_by_cached_key(|number| list[*number as usize].key());
    let mut order: Vec<u32> = Vec::with_capacity(list.len());
    order.extend(short.iter().map(|(_, number)| *number));
    drop(short);
    order.extend(others);
    for position in 0..order.len() {
        // The conversation that belongs here may have been swapped away from its position.
        let mut from = order[position] as usize;
        while from < position {
            from = order[from] as usize;
        }
        order[position] = from as u32;
        list.swap(position, from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{DC, FARM, Packets, RDSH, policy};

    #[test]
    fn conversations_are_in_the_order_of_their_keys() {
        let mut packets = Packets::default();
        let ends = [DC, RDSH, "10.0.0.9", "9.255.0.1", "fd00::1", "fd00::2", "fd00::10"];
        for (number, client) in ends.iter().enumerate() {
            for server in ends
                .iter()
                .filter(|server| *server != client && server.contains(':') == client.contains(':'))
            {
                for port in [443, 80, 8080] {
                    packets.connect(number as i64, (client, 50_000), (server, port));
                }
            }
        }
        let mut list = packets.conversations(&policy(FARM)).list;
        assert_eq!(list.len(), 3 * (4 * 3 + 3 * 2));
        // Two conversations with equal keys keep their order.
        let mut second = list[5].clone();
        second.flows = 77;
        list.insert(20, second);
        let shown =
            |list: &[Conversation]| list.iter().map(|c| (c.subject, c.flows)).collect::<Vec<_>>();
        for turns in 0..list.len() {
            let mut sorted = list.clone();
            sorted.rotate_left(turns);
            let mut expected = sorted.clone();
            expected.sort_by_key(Conversation::key);
            sort(&mut sorted);
            assert_eq!(shown(&sorted), shown(&expected));
        }
    }
}
