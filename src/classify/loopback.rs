//! Loopback addresses (127.0.0.0/8, ::1; RFC 1122, 3.2.1.3; RFC 4291, 2.5.3) that were seen on a
//! network.

use super::Judgement;
use super::ends::EndKey;
use super::finding::{About, Finding, FindingKey, Reason};
use super::judge::{DOUBTS_BY_SOURCE, Judge};
use super::verdict::{Code, Doubt, Doubts};
use crate::conversation::DoubtSource;
use crate::policy::SeverityColumn;

impl Judgement {
    /// Adds a finding if loopback addresses were seen on a network. It does not name a host,
    /// because the sender of the frames is not known.
    pub(super) fn add_loopback(&mut self, judge: &Judge<'_>) {
        let list = &self.conversations.list;
        let on_wire = |number: &u32| list[*number as usize].rare().on_wire;
        let members: Vec<u32> = (0..list.len() as u32).filter(on_wire).collect();
        if members.is_empty() {
            return;
        }
        let doubts_of = |number: &u32| {
            let mut doubts = Doubts::default();
            for (source, doubt) in DOUBTS_BY_SOURCE {
                // The finding does not say which end is the client, so a doubt about the direction
                // does not matter.
                if source != DoubtSource::Direction && list[*number as usize].doubts.has(source) {
                    doubts.add(doubt);
                }
            }
            if list[*number as usize].is_aggregated() {
                doubts.add(Doubt::Aggregated);
            }
            doubts
        };
        // One conversation without a doubt is enough.
        let sure = members.iter().any(|number| doubts_of(number).certain());
        let doubts = members.iter().map(doubts_of).filter(|_| !sure);
        let doubts = doubts.fold(Doubts::default(), Doubts::with);
        let code = Code::LoopbackOnWire;
        let is_any = self.book.ends.id(EndKey::Everybody);
        let client = is_any;
        let server = is_any;
        let key = FindingKey { code, client, server, transport: None, about: About::Ports };
        let severity = judge.severity(code, SeverityColumn::Reached, doubts);
        let finding = Finding::new(key, Reason::Loopback).weighing(severity, doubts);
        let members = self.book.pool.add(members);
        let finding = finding.with_members(list, &self.book.pool, members);
        self.book.findings.push(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::sample::{BROKER, FARM, GW, Packets, ends_of, policy, view, with_code};
    use crate::conversation::Conversation;
    use crate::model::{Mac, Transport};

    /// Returns a ping, and a connection from a loopback address with the source hardware address
    /// `mac`. If `is_tunnelled` is true, the connection is in a tunnel.
    fn packets(mac: Mac, is_tunnelled: bool) -> Packets {
        let mut packets = Packets::default();
        packets.ping(0, GW, BROKER);
        let first = packets.len();
        packets.connect(1, ("127.0.0.1", 50_000), (BROKER, 4444));
        packets.sent_by(first, mac);
        if is_tunnelled {
            packets.tunnel(first);
        }
        packets
    }

    #[test]
    fn a_loopback_address_on_a_link_with_hardware_addresses_is_a_finding() {
        let policy = policy(FARM);
        let found = |packets: Packets| {
            let judgement = packets.judge(&policy, &view(60));
            let found = with_code(&judgement, Code::LoopbackOnWire);
            let found = found.iter().map(|f| (ends_of(&policy, &judgement, f), f.certain()));
            found.collect::<Vec<_>>()
        };
        let nobody = || ["*".to_owned(), "*".to_owned()];
        assert_eq!(found(packets(Mac([2; 6]), false)), [(nobody(), true)]);
        // Inside a tunnel, anyone could have forged the address.
        assert_eq!(found(packets(Mac::NONE, true)), [(nobody(), false)]);
        // The loopback interface of a host has no hardware addresses.
        assert_eq!(found(packets(Mac::NONE, false)), []);
    }

    #[test]
    fn its_doubts_are_those_of_its_conversations() {
        let policy = policy(FARM);
        let doubts = |packets: Packets| -> Vec<Doubt> {
            let judgement = packets.judge(&policy, &view(60));
            let found = with_code(&judgement, Code::LoopbackOnWire);
            found[0].doubts.iter().collect()
        };
        assert_eq!(doubts(packets(Mac::NONE, true)), [Doubt::Tunnel]);
        // Two devices sent packets with the same address and port.
        let mut contradictory = Packets::default();
        contradictory.ping(0, GW, BROKER);
        for (ms, mac) in [(1, Mac([2; 6])), (2, Mac([4; 6]))] {
            let first = contradictory.len();
            contradictory.send(ms, Transport::UDP, ("127.0.0.1", 50_000), (BROKER, 4444));
            contradictory.sent_by(first, mac);
        }
        assert_eq!(doubts(contradictory), [Doubt::Spoof]);
        let mut conversations = packets(Mac([2; 6]), false).conversations(&policy);
        conversations.list.iter_mut().for_each(Conversation::set_aggregated);
        let judgement = Judgement::of(&policy, conversations, &view(60), 1);
        let found = with_code(&judgement, Code::LoopbackOnWire);
        assert_eq!(found[0].doubts.iter().collect::<Vec<_>>(), [Doubt::Aggregated]);
    }

    #[test]
    fn it_has_no_second_finding_for_its_port() {
        let policy = policy(FARM);
        let judgement = packets(Mac([2; 6]), false).judge(&policy, &view(60));
        let about_traffic = judgement.findings().iter().filter(|f| f.verdict().is_unpermitted());
        assert_eq!(about_traffic.count(), 0);
        assert!(judgement.judged.iter().any(|j| j.verdict().is_unpermitted()));
    }
}
