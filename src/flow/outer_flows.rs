//! The packets around tunnels, which are traffic of their own.

use serde::{Deserialize, Serialize};

use super::FlowKey;
use super::keyed::EvidenceKey;
use crate::decode::{FiveTuple, Observation, Path, TunnelEndpoints, TunnelUse};

/// The packets around tunnels: of two ends, on one interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OuterFlow {
    /// The ends.
    pub ends: TunnelEndpoints,
    /// How far they may be believed, and where they were seen.
    pub path: Path,
}

impl OuterFlow {
    /// The flow that they are, and the side that sent them. Its source port is zero where the tunnel spreads over ports
    /// that mean nothing (RFC 7348, 5).
    pub fn flow(&self) -> (FlowKey, usize) {
        let TunnelEndpoints { src, dst, transport, sport, port, .. } = self.ends;
        FlowKey::new(&FiveTuple { src, dst, sport, dport: port, transport }, self.path)
    }

    /// The packets around an observation that are traffic of their own; those of a stated mirror are not.
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

/// They become flows before anything is believed.
impl EvidenceKey for OuterFlow {}
