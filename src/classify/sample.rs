//! A small farm and its traffic for the unit tests of the judgement.

use std::net::IpAddr;

use super::{CaptureConditions, Code, Finding, Judge, Judged, Judgement, Watched};
use crate::conversation::{CaptureLimits, Conversations, ReadOptions, TrustedMirrors};
use crate::decode::{
    Body, Encapsulation, ErrorKind, FiveTuple, Observation, Path, Quoted, Tunnel, TunnelEndpoints,
    TunnelUse, flag,
};
use crate::flow::{EvidenceLimit, FlowStore, HashSeed, Retention, UndecodedFrames};
use crate::model::{Mac, Nanos, SECOND, Transport};
use crate::policy::{Inventory, Policy, RuleFiles};

/// The time at which all samples start, in seconds since 1970.
const START: Nanos = 1_780_000_000;

/// A farm with five hosts that have roles, a host without a role, and a network of clients.
pub(crate) const FARM: &str = r#"
[farm]
matrix = "ras-19"
[capture]
covers = "all"
[[host]]
name = "broker1"
addresses = ["10.1.0.10"]
roles = ["broker"]
[[host]]
name = "dc1"
addresses = ["10.1.0.20"]
roles = ["ad-dc"]
[[host]]
name = "file1"
addresses = ["10.1.0.50"]
roles = []
[[host]]
name = "gw1"
addresses = ["10.1.0.1"]
roles = ["gateway-normal"]
[[host]]
name = "rdsh1"
addresses = ["10.1.0.30"]
roles = ["rdsh-agent"]
[[host]]
name = "rdsh2"
addresses = ["10.1.0.31"]
roles = ["rdsh-agent"]
[[network]]
name = "office"
cidr = "10.9.0.0/24"
roles = ["parallels-client"]
"#;

pub(crate) const GW: &str = "10.1.0.1";
pub(crate) const BROKER: &str = "10.1.0.10";
pub(crate) const DC: &str = "10.1.0.20";
pub(crate) const RDSH: &str = "10.1.0.30";
pub(crate) const RDSH_2: &str = "10.1.0.31";
pub(crate) const STRANGER: &str = "198.51.100.7";

/// The indices of the hosts, which are ordered by name.
pub(crate) const BROKER_1: usize = 0;
pub(crate) const DC_1: usize = 1;
pub(crate) const GW_1: usize = 3;
pub(crate) const RDSH_1: usize = 4;

/// Parses an address.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Returns a policy with this inventory, the built-in matrix, and the overlays that the inventory
/// names.
pub(crate) fn policy(inventory: &str) -> Policy {
    let mut rules = RuleFiles::named("ras-19", None).expect("shipped");
    for (overlay, _) in Inventory::rules_named(inventory).overlays {
        rules.add_overlay(&overlay, None).expect("shipped");
    }
    let matrix = rules.load().expect("a valid matrix");
    let inventory = Inventory::from_toml("farm.toml", inventory, &matrix).expect("a sound farm");
    Policy::new(matrix, inventory)
}

/// Returns the conditions of a complete capture of `watched_s` seconds.
pub(crate) fn view(watched_s: u64) -> CaptureConditions {
    CaptureConditions {
        start: Some(START * SECOND),
        end: Some((START + watched_s as Nanos) * SECOND),
        watched: Watched { longest_s: watched_s, ..Watched::default() },
        vantages: Default::default(),
        series: Vec::new(),
        filtered: false,
        one_sided: 0.0,
        loss: 0.0,
        suspected_loss: 0.0,
        losses: Default::default(),
        damaged: false,
        lacks_evidence: false,
        no_decap: false,
        max_loss: 0.01,
        min_watch: None,
    }
}

/// The packets of a capture. Times are in seconds after its start.
#[derive(Default)]
pub(crate) struct Packets {
    list: Vec<Observation>,
    undecoded: Vec<UndecodedFrames>,
}

impl Packets {
    /// Adds a packet with any content.
    pub fn add(&mut self, time_s: i64, body: Body) -> &mut Observation {
        let mut link = Encapsulation::default();
        link.ttl = 64;
        // Packets of the same second keep their order.
        let time = (START + time_s) * SECOND + self.list.len() as Nanos;
        let seen = Observation { time, wire_len: 100, link, body, ..Observation::default() };
        self.list.push(seen);
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    pub fn packet(
        &mut self,
        time_s: i64,
        transport: Transport,
        [from, to]: [(&str, u16); 2],
        flags: u16,
        (seq, acked): (u32, Option<u32>),
    ) -> &mut Observation {
        let tuple = tuple(transport, from, to);
        let payload = u32::from(flags & flag::DATA != 0) * 50;
        let flags = flags | flag::UNICAST;
        let body = Body::Transport { tuple, flags, payload, seq, acked, fragment: None };
        self.add(time_s, body)
    }

    /// Adds a SYN from a client, with the sequence number 100.
    pub fn syn(&mut self, time_s: i64, from: (&str, u16), to: (&str, u16)) {
        self.packet(time_s, Transport::TCP, [from, to], flag::SYN, (100, None));
    }

    /// Adds a complete connection with data in both directions.
    pub fn connect(&mut self, time_s: i64, from: (&str, u16), to: (&str, u16)) {
        let data = flag::ACK | flag::DATA;
        self.syn(time_s, from, to);
        let tcp = Transport::TCP;
        self.packet(time_s, tcp, [to, from], flag::SYN_ACK, (500, Some(101)));
        self.packet(time_s, tcp, [from, to], flag::ACK, (101, Some(501)));
        self.packet(time_s, tcp, [from, to], data, (101, Some(501)));
        self.packet(time_s, tcp, [to, from], data, (501, Some(151)));
    }

    /// Adds a connection that the server refuses with an RST.
    pub fn refuse(&mut self, time_s: i64, from: (&str, u16), to: (&str, u16)) {
        self.syn(time_s, from, to);
        self.packet(time_s, Transport::TCP, [to, from], flag::RST, (0, Some(101)));
    }

    /// Adds a probe: the client resets the connection as soon as the server accepts it.
    pub fn probe(&mut self, time_s: i64, from: (&str, u16), to: (&str, u16)) {
        self.syn(time_s, from, to);
        let tcp = Transport::TCP;
        self.packet(time_s, tcp, [to, from], flag::SYN_ACK, (500, Some(101)));
        self.packet(time_s, tcp, [from, to], flag::RST, (101, None));
    }

    /// Adds data in both directions of a connection whose handshake is not in the capture.
    pub fn midstream(&mut self, time_s: i64, from: (&str, u16), to: (&str, u16)) {
        let data = flag::ACK | flag::DATA;
        self.packet(time_s, Transport::TCP, [from, to], data, (101, Some(501)));
        self.packet(time_s, Transport::TCP, [to, from], data, (501, Some(151)));
    }

    /// Adds a packet of a protocol other than TCP.
    pub fn send(&mut self, time_s: i64, transport: Transport, from: (&str, u16), to: (&str, u16)) {
        self.packet(time_s, transport, [from, to], flag::DATA, (0, None));
    }

    /// Adds a ping and its reply.
    pub fn ping(&mut self, time_s: i64, from: &str, to: &str) {
        self.send(time_s, Transport::ICMP, (from, 8), (to, 0));
        self.send(time_s, Transport::ICMP, (to, 0), (from, 8));
    }

    /// Adds an ICMP error from `by` that reports a packet as prohibited.
    pub fn error(
        &mut self,
        time_s: i64,
        by: &str,
        transport: Transport,
        from: (&str, u16),
        to: (&str, u16),
    ) {
        let tuple = tuple(transport, from, to);
        let seq = if transport == Transport::TCP { 100 } else { 0 };
        let quoted = Quoted::Flow { tuple, path: Path::PLAIN, seq, answers: false };
        let kind = ErrorKind::Prohibited;
        let (by, to) = (ip(by), tuple.src);
        self.add(time_s, Body::Error { quoted, kind, by, to, transport: Transport::ICMP });
    }

    /// Adds an ARP packet in which a hardware address claims an IP address. A `vlan` of 0 means no
    /// VLAN tag.
    pub fn claim(&mut self, time_s: i64, address: &str, mac: Mac, vlan: u32) {
        let claim = Some((ip(address), mac));
        let seen = self.add(time_s, Body::NonIp { ethertype: 0x0806, claim });
        if vlan != 0 {
            seen.link = seen.link.with_tag(crate::decode::EncapTagKind::Vlan, Some(vlan));
        }
    }

    /// Adds a frame that could not be decoded.
    pub fn undecoded(&mut self, frames: UndecodedFrames) {
        self.undecoded.push(frames);
    }

    /// Puts the packet with the index `first` and all later packets into an undeclared tunnel. The
    /// packets alternate between its two directions, because a tunnel that is used in only one
    /// direction may come from a mirror port.
    pub fn tunnel(&mut self, first: usize) {
        let [mut src, mut dst] = [ip("192.0.2.1"), ip("192.0.2.2")];
        let transport = Transport(47);
        let stated = TunnelUse::Unstated;
        for seen in &mut self.list[first..] {
            std::mem::swap(&mut src, &mut dst);
            let ends = TunnelEndpoints { src, dst, transport, sport: 0, port: 0, stated };
            seen.path = Path::inside(0);
            seen.link = seen.link.with_tunnel(Tunnel::Gre, None, ends);
        }
    }

    /// Sets the source hardware address of the packet with the index `first` and of all later
    /// packets.
    pub fn sent_by(&mut self, first: usize, mac: Mac) {
        for seen in &mut self.list[first..] {
            seen.link.source = mac;
        }
    }

    /// Sets the length on the wire of the packet with the index `first` and of all later packets,
    /// in bytes.
    pub fn set_size(&mut self, first: usize, bytes: u32) {
        self.list[first..].iter_mut().for_each(|seen| seen.wire_len = bytes);
    }

    /// Returns the number of packets.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Builds the conversations of the capture.
    pub fn conversations(&self, policy: &Policy) -> Conversations {
        let store = FlowStore::new(&HashSeed::new(), std::env::temp_dir());
        let keep = Retention::default();
        let mut tables = store.tables(&keep);
        tables.observe(&self.list, []);
        self.undecoded.iter().for_each(|frames| tables.record_undecoded(*frames));
        store.submit(tables).expect("nothing is written");
        let mut flows = store.finish(&keep, 1, &EvidenceLimit::NONE).expect("nothing is read");
        let limits = CaptureLimits {
            start: self.list.iter().map(|seen| seen.time).min(),
            end: self.list.iter().map(|seen| seen.time).max(),
            ..CaptureLimits::default()
        };
        let mirrors = TrustedMirrors::Inferred;
        let options = ReadOptions { jobs: 1, keep: true, max_memory: usize::MAX, mirrors };
        Conversations::read(&mut flows, &Judge::new(policy), &limits, options)
            .expect("nothing is read")
    }

    /// Returns the conversations and the judgement of each, which may be a guess.
    pub fn judged(&self, policy: &Policy) -> (Conversations, Vec<Judged>) {
        let conversations = self.conversations(policy);
        let judge = Judge::new(policy);
        let mut judged = judge.judge_all(&conversations, 1);
        let mut guesses = judge.guesses(&conversations, &judged, 1);
        super::exchange(&mut judged, &mut guesses);
        (conversations, judged)
    }

    /// Judges the capture.
    pub fn judge(&self, policy: &Policy, view: &CaptureConditions) -> Judgement {
        Judgement::of(policy, self.conversations(policy), view, 1)
    }
}

fn tuple(transport: Transport, from: (&str, u16), to: (&str, u16)) -> FiveTuple {
    FiveTuple { src: ip(from.0), dst: ip(to.0), sport: from.1, dport: to.1, transport }
}

/// Returns the findings with this code.
pub(crate) fn with_code(judgement: &Judgement, code: Code) -> Vec<Finding> {
    judgement.findings().iter().filter(|finding| finding.code() == code).copied().collect()
}

/// Returns the identities of the ends of a finding.
pub(crate) fn ends_of(policy: &Policy, judgement: &Judgement, finding: &Finding) -> [String; 2] {
    [finding.key.client, finding.key.server].map(|end| judgement.end(end).identity(policy))
}
