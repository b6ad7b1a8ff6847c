//! Loopback addresses (127.0.0.0/8, ::1; RFC 1122, 3.2.1.3; RFC 4291, 2.5.3) that were seen on a
//! network.

use super::Judgement;
use super::ends::EndKey;
use super::finding::{About, Finding, FindingKey, Reason};
use super::judge::Judge;
use super::verdict::{Code, Doubt, Doubts};
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
        // Traffic seen directly is certain. Traffic inside a tunnel could be forged.
        let sure = members.iter().any(|n| !list[*n as usize].is_doubted());
        let mut doubts = Doubts::default();
        if !sure {
            doubts.add(Doubt::Tunnel);
        }
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
