//! What the policy says about the orientation of traffic.

use std::net::IpAddr;

use super::judge::{Judge, Query};
use super::query_kind::Rulings;
use super::verdict::{Code, Verdict};
use crate::conversation::{
    AddressOwner, Conversation, Conversations, DirectionHints, EndMacs, OtherOrientation,
    RulingKind, ServiceKey,
};
use crate::model::{Endpoint, Mac, Nanos, SECOND, Transport};
use crate::policy::PartyKind;

impl Judge<'_> {
    /// Returns the code of the other orientation, if it is worse or has another verdict. If there
    /// are several client ports, the worst code counts.
    pub(super) fn other_reading(
        &self,
        c: &Conversation,
        query: &Query<'_>,
        shown: Code,
        known: &Rulings,
    ) -> Option<Code> {
        let ruled = c.ruled_subject();
        let ports = c.client_ports.iter().map(|port| {
            let subject =
                ServiceKey { client: ruled.server, server: ruled.client, port: *port, ..ruled };
            let turned = self.plain_query(query.server, query.client, subject);
            let turned = self.with_broadcast(turned, c.broadcast);
            self.rule_once(&Query { answer: query.answer, ..turned }, known).code
        });
        ports.max().filter(|other| differs(*other, shown))
    }

    /// Returns whether datagrams that nobody answered may themselves be replies: shortly before,
    /// their receiver had sent requests to this host from the same port and got no reply. Some
    /// services reply from another port than the one that was asked (RFC 1350, 4), and a host with
    /// several addresses may reply from another address.
    pub(super) fn may_answer_from_elsewhere(
        &self,
        conversations: &Conversations,
        c: &Conversation,
    ) -> bool {
        let ServiceKey { client, server, transport, port } = c.subject;
        if transport != Transport::UDP
            || c.broadcast
            || !c.grade.is_guess()
            || c.to_client.packets.0 > 0
        {
            return false;
        }
        let is_before = |request: &Conversation| {
            let ends = (request.first.get(), request.last.get());
            let (Some(first), Some(last)) = ends else { return false };
            let until = last.saturating_add(TIME_TO_ANSWER_FROM_ELSEWHERE);
            c.first.get().is_some_and(|time| first <= time)
                && c.last.get().is_some_and(|time| time <= until)
        };
        // Packets that anyone could have forged do not count as requests. If a conversation has too
        // many client ports, it keeps the lowest ones.
        let may_use_port = |request: &Conversation| {
            let ports = &request.client_ports;
            ports.contains(&port) || ports.more() && ports.iter().last() < Some(&port)
        };
        let is_plain =
            |one: &&Conversation| one.subject.transport == transport && !one.is_made_up();
        let is_one_way =
            |from: &Conversation| [from.to_server, from.to_client].map(|a| a.packets.0 > 0);
        let is_request = |one: &&Conversation| is_plain(one) && is_one_way(one) == [true, false];
        // Requests from the port of a service seem to be its replies.
        let is_like_reply = |one: &Conversation| {
            one.subject.port == port && is_one_way(one) == [false, true] && is_before(one)
        };
        let own = match self.policy.host_of(client) {
            Some(host) => &self.policy.inventory.hosts[host].addresses[..],
            None => &[client],
        };
        let between = |from, to| conversations.between(from, to).iter().take(MOST_SEARCHED);
        own.iter().any(|address| {
            let mut requests = between(server, *address).filter(is_request).enumerate();
            let is_answer = requests.any(|(number, request)| {
                number >= MOST_REQUESTS || may_use_port(request) && is_before(request)
            });
            is_answer || between(*address, server).filter(is_plain).any(is_like_reply)
        })
    }
}

/// The maximum time between a request and a reply from another port or address than the one that
/// was asked.
const TIME_TO_ANSWER_FROM_ELSEWHERE: Nanos = 10 * SECOND;

/// The maximum number of conversations between two addresses that are searched for requests.
const MOST_SEARCHED: usize = 1024;

/// The maximum number of requests between two addresses that are compared. If there are more, one
/// of them may be the request.
const MOST_REQUESTS: usize = 256;

/// Returns whether the code of the other orientation is worse than the shown one, or has another
/// verdict.
fn differs(other: Code, shown: Code) -> bool {
    other > shown || other.verdict() != shown.verdict()
}

/// Provides the parts of the policy that the orientation of flows depends on.
impl DirectionHints for Judge<'_> {
    fn is_broadcast(&self, address: IpAddr) -> bool {
        self.policy.is_broadcast(address)
    }

    fn canonical(&self, address: IpAddr) -> IpAddr {
        self.policy.canonical(address)
    }

    fn is_listed(&self, address: IpAddr) -> bool {
        self.policy.host_of(address).is_some()
    }

    fn is_stranger(&self, address: IpAddr) -> bool {
        self.policy.host_of(address).is_none()
    }

    fn belongs(&self, address: IpAddr) -> Option<bool> {
        let policy = self.policy;
        Some(policy.host_of(address).is_some() || policy.network(address).is_some())
    }

    fn is_resolver(&self, address: IpAddr) -> bool {
        self.policy.is_resolver(address)
    }

    fn is_listed_mac(&self, mac: Mac) -> bool {
        self.policy.is_listed_mac(mac)
    }

    fn other_orientation(
        &self,
        subject: &ServiceKey,
        client_port: u16,
        broadcast: bool,
        macs: EndMacs<'_>,
    ) -> OtherOrientation {
        let client = self.policy.party(subject.client, macs[0]);
        let server = self.policy.party(subject.server, macs[1]);
        let query = self.with_broadcast(self.plain_query(client, server, *subject), broadcast);
        let ruling = self.rule_shared(&query);
        if self.may_depend_on_name(&query, ruling) && self.only_a_name_decides(&query) {
            return OtherOrientation::Differs;
        }
        let turned = ServiceKey {
            client: subject.server,
            server: subject.client,
            port: client_port,
            ..*subject
        };
        let turned = self.with_broadcast(self.plain_query(server, client, turned), broadcast);
        if differs(self.rule_shared(&turned).code, ruling.code) {
            OtherOrientation::Differs
        } else if ruling.code.is_of_findings() {
            OtherOrientation::SameFinding
        } else {
            OtherOrientation::SamePermission
        }
    }

    fn owner(&self, address: IpAddr, macs: &[Mac]) -> AddressOwner {
        match self.policy.party(address, macs).kind {
            PartyKind::Host(_) | PartyKind::Service(_) => AddressOwner::Host,
            PartyKind::Network(network) => {
                let cidr = self.policy.inventory.networks[network].cidr;
                AddressOwner::Network(cidr.network(), cidr.prefix_len())
            }
            PartyKind::Stranger | PartyKind::RolesOnly => AddressOwner::Unlisted,
        }
    }

    fn ruling_kind(&self, subject: &ServiceKey, broadcast: bool, macs: EndMacs<'_>) -> RulingKind {
        let client = self.policy.party(subject.client, macs[0]);
        let server = self.policy.party(subject.server, macs[1]);
        let query = self.with_broadcast(self.plain_query(client, server, *subject), broadcast);
        let ruling = self.rule_shared(&query);
        let is_permitted = !ruling.code.verdict().is_unpermitted();
        RulingKind {
            code: ruling.code as u8,
            // A row that does not permit the traffic only explains the code.
            basis: ruling.exception().or(ruling.row().filter(|_| is_permitted)),
            server_roles: server.roles.bits(),
            is_permitted,
        }
    }

    fn is_documented(
        &self,
        client: IpAddr,
        server: Endpoint,
        transport: Transport,
        macs: EndMacs<'_>,
    ) -> bool {
        let subject = ServiceKey { client, server: server.addr, transport, port: server.port };
        let client = self.policy.party(client, macs[0]);
        let server = self.policy.party(server.addr, macs[1]);
        let query = self.plain_query(client, server, subject);
        self.rule_shared(&query).code.verdict() == Verdict::Documented
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{FARM, Packets, RDSH, RDSH_2, policy};

    #[test]
    fn a_reply_from_another_port_than_the_one_that_was_asked_does_not_accuse_its_sender() {
        const UDP: Transport = Transport::UDP;
        let policy = policy(FARM);
        let certain = |asked_from: u16, replied_s: i64| {
            let mut packets = Packets::default();
            packets.send(0, UDP, (RDSH, asked_from), (RDSH_2, 69));
            packets.send(replied_s, UDP, (RDSH_2, 51_234), (RDSH, 50_001));
            let (conversations, judged) = packets.judged(&policy);
            let mut all = conversations.list.iter().zip(&judged);
            let reply = all.find(|(c, _)| c.subject.port == 50_001);
            reply.expect("the reply is a conversation").1.doubts.certain()
        };
        assert!(!certain(50_001, 9));
        assert!(certain(50_002, 9));
        assert!(certain(50_001, 11));
    }

    #[test]
    fn another_reading_is_shown_if_it_is_worse_or_has_another_verdict() {
        assert!(differs(Code::UnknownHost, Code::NoRole));
        assert!(!differs(Code::NoRole, Code::UnknownHost));
        assert!(!differs(Code::NoRole, Code::NoRole));
        assert!(differs(Code::Matrix, Code::UnknownHost));
        assert!(!differs(Code::Matrix, Code::Overlay));
    }
}
