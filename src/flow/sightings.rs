//! The vantage points that saw flows, if they have names.

use serde::{Deserialize, Serialize};

use super::FlowKey;
use super::keyed::EvidenceKey;
use crate::decode::{FiveTuple, Path};
use crate::model::{BoundedSet, VantagePoint};

/// The flows between two addresses with the same transport, lower port and path. They are all in
/// one bucket and nearly always belong to one conversation, so there are far fewer groups than
/// flows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FlowGroup(FlowKey);

/// The vantage points that saw a group of flows. The lowest names are kept.
pub type SightedFrom = BoundedSet<VantagePoint, 16>;

impl FlowGroup {
    /// Returns the group of a flow.
    pub fn of(flow: &FlowKey) -> Self {
        Self::on(flow, flow.path())
    }

    fn on(flow: &FlowKey, path: Path) -> Self {
        let [src, dst] = [flow.endpoint(0), flow.endpoint(1)];
        let port = src.port.min(dst.port);
        let transport = flow.transport();
        let tuple = FiveTuple { src: src.addr, dst: dst.addr, sport: port, dport: port, transport };
        Self(FlowKey::new(&tuple, path).0)
    }
}

impl EvidenceKey for FlowGroup {
    const MEMORY: usize = 192;

    fn with_path(self, new_path: &dyn Fn(Path) -> Path) -> Self {
        Self::on(&self.0, new_path(self.0.path()))
    }

    fn bucket(&self, _bytes: &[u8]) -> u16 {
        self.0.bucket()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    fn key(src: &str, sport: u16, dst: &str, dport: u16) -> FlowKey {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let tuple = FiveTuple { src, dst, sport, dport, transport: Transport::TCP };
        FlowKey::new(&tuple, Path::PLAIN).0
    }

    #[test]
    fn flows_of_a_conversation_are_one_group_in_their_bucket() {
        let flow = key("10.0.0.2", 50_000, "10.0.0.1", 443);
        let group = FlowGroup::of(&flow);
        assert_eq!(group, FlowGroup::of(&key("10.0.0.2", 50_001, "10.0.0.1", 443)));
        assert_eq!(group, FlowGroup::of(&key("10.0.0.1", 443, "10.0.0.2", 50_002)));
        assert_ne!(group, FlowGroup::of(&key("10.0.0.2", 50_000, "10.0.0.1", 80)));
        assert_eq!(group.bucket(&[]), flow.bucket());
        // Flows in a tunnel belong to the plain group once the tunnel is found to carry mirrored
        // packets.
        let tuple = FiveTuple {
            src: "10.0.0.2".parse().unwrap(),
            dst: "10.0.0.1".parse().unwrap(),
            sport: 50_000,
            dport: 443,
            transport: Transport::TCP,
        };
        let inside = FlowGroup::of(&FlowKey::new(&tuple, Path::inside(3)).0);
        assert_ne!(inside, group);
        assert_eq!(inside.with_path(&|_| Path::PLAIN), group);
    }
}
