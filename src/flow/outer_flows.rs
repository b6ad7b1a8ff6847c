//! The outer packets of tunnels, which form flows of their own.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::FlowKey;
use super::keyed::EvidenceKey;
use crate::decode::{FiveTuple, Observation, Path, TunnelEndpoints, TunnelUse};

/// The outer packets of tunnels between two endpoints, on one interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OuterFlow {
    /// The endpoints of the tunnel.
    pub ends: TunnelEndpoints,
    /// The path of the packets. It determines whether they are trusted, and contains the interface
    /// on which they were seen.
    pub path: Path,
}

impl OuterFlow {
    /// Returns the key of the flow that the packets form, and the side that sent them. The source
    /// port is zero for kinds of tunnels whose source port only carries entropy (RFC 7348, 5).
    pub fn flow(&self) -> (FlowKey, usize) {
        let TunnelEndpoints { src, dst, transport, sport, port, .. } = self.ends;
        FlowKey::new(&FiveTuple { src, dst, sport, dport: port, transport }, self.path)
    }

    /// Returns the outer packets of an observation, except those of declared mirrors, which do not
    /// count as traffic.
    pub fn around(seen: &Observation) -> impl Iterator<Item = Self> + use<'_> {
        let mut path = Path::PLAIN;
        seen.link.outer().filter_map(move |ends| {
            let here = match ends.stated {
                TunnelUse::Unstated if path == Path::PLAIN => Path::around(seen.interface),
                _ => path,
            };
            if ends.stated == TunnelUse::Unstated {
                path = path.deeper(seen.interface);
            }
            (ends.stated != TunnelUse::Mirror).then_some(Self { ends, path: here })
        })
    }
}

/// The path of a key does not change, because the packets become flows before any path is trusted.
impl EvidenceKey for OuterFlow {
    fn addresses(&self) -> [Option<IpAddr>; 2] {
        [Some(self.ends.src), Some(self.ends.dst)]
    }
}
