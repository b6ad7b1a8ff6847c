//! Replies whose requests the capture does not show. The requests may have gone to another address.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::conversation::{Conversation, Conversations, flag};
use crate::model::Transport;
use crate::policy::Policy;

/// The maximum number of conversations that are kept for one port of a client and one listed host,
/// or all unlisted addresses.
const MOST: usize = 8;

/// A client, its port, the listed host that replied, if it is one, and its port.
type Replied = (IpAddr, u16, Option<usize>, u16);

/// Conversations of UDP that consist only of replies, as their indices in the list.
#[derive(Default)]
pub(super) struct LoneAnswers(HashMap<Replied, Vec<u32>, ahash::RandomState>);

impl LoneAnswers {
    pub fn of(policy: &Policy, conversations: &Conversations) -> Self {
        let mut found = Self::default();
        for (number, c) in conversations.list.iter().enumerate() {
            let is_lone = c.subject.transport == Transport::UDP
                && c.to_server.packets.0 == 0
                && c.flags[1].has(flag::ANSWERS)
                && !c.is_made_up();
            if is_lone {
                let host = policy.host_of(c.subject.server);
                for port in c.client_ports.iter() {
                    let key = (c.subject.client, *port, host, c.subject.port);
                    let own = found.0.entry(key).or_default();
                    own.extend((own.len() < MOST).then_some(number as u32));
                }
            }
        }
        found
    }

    /// Returns the indices of the conversations whose replies went to a client port of `c`, from
    /// the same port of an address of `host`, or of an unlisted one.
    pub fn like(&self, c: &Conversation, host: usize) -> impl Iterator<Item = u32> {
        let by = [Some(host), None];
        let keys = c.client_ports.iter().flat_map(move |port| by.map(|host| (*port, host)));
        let of = |(port, host)| self.0.get(&(c.subject.client, port, host, c.subject.port));
        keys.filter_map(of).flatten().copied()
    }
}
