//! Marks rows with the vantage point that saw their evidence.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::FlowKey;
use super::fragments::FragmentTable;
use super::keyed::Keyed;
use super::outer_flows::OuterFlow;
use super::packet_log::PacketLogs;
use super::row::{EvidenceRow, RowKind, from_record, to_key, to_record};
use super::sightings::{FlowGroup, SightedFrom};
use crate::model::VantagePoint;

/// The name of the kind of the rows that state which vantage points saw flows. See
/// [`super::SideEvidence`].
const KIND: &str = "sightings";

/// The name of the kind of the logs of packets.
const PACKETS: &str = "packets";

/// The name of the kind of fragments.
const FRAGMENTS: &str = "fragments";

/// The name of the kind of the outer packets of tunnels.
const OUTER: &str = "carriers";

impl EvidenceRow {
    /// Returns a row that states that the vantage point `from` saw the flow of this row; `None` if
    /// this row is not about a flow. The result is the same for all flows of a group.
    pub fn sighting(&self, from: &VantagePoint) -> Option<Self> {
        let flow = match self.kind {
            RowKind::FLOWS => postcard::from_bytes::<FlowKey>(&self.key).ok()?,
            kind if kind.name() == OUTER => {
                postcard::from_bytes::<OuterFlow>(&self.key).ok()?.flow().0
            }
            _ => return None,
        };
        let group = FlowGroup::of(&flow);
        let mut points = SightedFrom::new();
        points.insert(from.clone());
        let one: Keyed<FlowGroup, SightedFrom> = std::iter::once((group, points)).collect();
        Some(Self {
            kind: RowKind::parse(KIND)?,
            bucket: flow.bucket(),
            key: to_key(&group),
            record: to_record(&one),
        })
    }

    /// Returns the row as evidence from a vantage point. If the row contains single packets, in a
    /// log or as fragments, these are marked with the vantage point; other rows stay the same.
    #[must_use]
    pub fn from_point(self, point: &VantagePoint) -> Self {
        let marked = match self.kind.name() {
            PACKETS => self.marked(|logs: &mut PacketLogs| logs.mark(point)),
            FRAGMENTS => self.marked(|fragments: &mut FragmentTable| fragments.mark(point)),
            _ => None,
        };
        match marked {
            Some(record) => Self { record, ..self },
            None => self,
        }
    }

    /// Returns the record of the row after a change. The program wrote the record itself. If it is
    /// damaged, there is no result, and reading it shows the error.
    fn marked<T: Serialize + DeserializeOwned>(&self, mark: impl Fn(&mut T)) -> Option<Vec<u8>> {
        let mut evidence = from_record(&self.record).ok()?;
        mark(&mut evidence);
        Some(to_record(&evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{FiveTuple, Path};
    use crate::model::Transport;

    fn key(src: &str, sport: u16, dst: &str, dport: u16) -> FlowKey {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let tuple = FiveTuple { src, dst, sport, dport, transport: Transport::TCP };
        FlowKey::new(&tuple, Path::PLAIN).0
    }

    #[test]
    fn a_row_with_a_name_that_no_sensor_can_have_is_rejected() {
        let flow = to_key(&key("10.0.0.2", 50_000, "10.0.0.1", 443));
        let flow = EvidenceRow { kind: RowKind::FLOWS, bucket: 0, key: flow, record: Vec::new() };
        let point = VantagePoint::new(Some("site"), "abc").unwrap();
        let row = flow.sighting(&point).expect("a row about a flow");
        assert!(row.facts().is_ok());
        let record = row.record.clone();
        let at = record.windows(3).position(|bytes| bytes == b"abc").expect("the name");
        let mut hostile = row.clone();
        hostile.record[at] = b'=';
        assert!(hostile.facts().is_err());
        assert!(row.sighting(&point).is_none(), "a sighting is not sighted itself");
    }
}
