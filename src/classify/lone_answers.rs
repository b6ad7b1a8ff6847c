//! Replies of which the capture shows no requests. They may be the replies to requests that were
//! sent to another address.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::conversation::{Conversation, Conversations, flag};
use crate::model::Transport;

/// The maximum number of conversations that are kept for one port of a client.
const MOST: usize = 8;

/// Conversations of UDP that consist only of replies, as their indices in the list, by client,
/// client port and server port.
#[derive(Default)]
pub(super) struct LoneAnswers(HashMap<(IpAddr, u16, u16), Vec<u32>, ahash::RandomState>);

impl LoneAnswers {
    pub fn of(conversations: &Conversations) -> Self {
        let mut found = Self::default();
        for (number, c) in conversations.list.iter().enumerate() {
            let is_lone = c.subject.transport == Transport::UDP
                && c.to_server.packets.0 == 0
                && c.flags[1].has(flag::ANSWERS)
                && !c.is_made_up();
            if is_lone {
                for port in c.client_ports.iter() {
                    let key = (c.subject.client, *port, c.subject.port);
                    let own = found.0.entry(key).or_default();
                    own.extend((own.len() < MOST).then_some(number as u32));
                }
            }
        }
        found
    }

    /// Returns the indices of the conversations whose replies went to a client port of `c`, from
    /// the same port of any server.
    pub fn like(&self, c: &Conversation) -> impl Iterator<Item = u32> {
        let of_port = |port: &u16| self.0.get(&(c.subject.client, *port, c.subject.port));
        c.client_ports.iter().filter_map(of_port).flatten().copied()
    }
}
