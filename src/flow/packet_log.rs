//! Logs of packets, from which duplicates can be found after the rows of several captures have been
//! merged. Unlike a `PacketRecord`, a log does not depend on the hash seed of the run.

use serde::{Deserialize, Serialize};

use super::FlowKey;
use super::HashSeed;
use super::duplicates::{FlowSide, PacketRecord};
use super::key::partition;
use super::keyed::{EvidenceKey, EvidenceKind, Keyed, empty_parts};
use super::row::stable_hash;
use crate::decode::{Encapsulation, Observation};
use crate::model::{BUCKET_NS, Merge, Nanos, VantagePoint, is_capture_time};

/// The flow of the packets, and the number of the ten-second period, counted from 1970, in which
/// they were seen. The period limits the size of a log.
type LogKey = (FlowKey, Nanos);

impl EvidenceKey for LogKey {
    fn bucket(&self, _bytes: &[u8]) -> u16 {
        self.0.bucket()
    }
}

/// The packets of a flow in one ten-second period. The serialized log is in canonical order.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(try_from = "LogParts", into = "LogParts")]
struct PacketLog(LogParts);

/// The content of a log.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct LogParts {
    /// The encapsulations of the packets. The interface is replaced by a number for the sensor, or
    /// 0 if the sensor has no name.
    links: Vec<Encapsulation>,
    packets: Vec<LoggedPacket>,
}

/// A packet in a log. Only packets with a fingerprint and a timestamp are logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct LoggedPacket {
    fingerprint: u64,
    time: Nanos,
    /// The index of the encapsulation.
    link: u32,
    side: u8,
    wire_len: u32,
    payload: u32,
}

/// The number of encapsulations, latest first, that are searched for an equal one before another is
/// added. A flow normally has two.
const SEARCHED: usize = 64;

impl LogParts {
    fn push(&mut self, link: &Encapsulation, packet: LoggedPacket) {
        let known = self.links.iter().rev().take(SEARCHED).position(|known| known == link);
        let link = match known {
            Some(back) => self.links.len() - 1 - back,
            None => {
                self.links.push(*link);
                self.links.len() - 1
            }
        };
        self.packets.push(LoggedPacket { link: link as u32, ..packet });
    }

    /// Returns the packets with their encapsulations.
    fn iter(&self) -> impl Iterator<Item = (&Encapsulation, &LoggedPacket)> {
        let link = |packet: &LoggedPacket| self.links.get(packet.link as usize);
        self.packets.iter().filter_map(move |packet| Some((link(packet)?, packet)))
    }

    /// Sorts the encapsulations and the packets.
    fn sorted(&self) -> Self {
        let mut links = self.links.clone();
        links.sort_unstable();
        links.dedup();
        let position = |link| links.binary_search(link).unwrap_or_default() as u32;
        let mut packets: Vec<_> = self
            .iter()
            .map(|(link, packet)| LoggedPacket { link: position(link), ..*packet })
            .collect();
        packets.sort_unstable();
        Self { links, packets }
    }
}

impl From<PacketLog> for LogParts {
    fn from(log: PacketLog) -> Self {
        log.0.sorted()
    }
}

impl TryFrom<LogParts> for PacketLog {
    type Error = &'static str;

    fn try_from(parts: LogParts) -> Result<Self, Self::Error> {
        let fits =
            |packet: &LoggedPacket| packet.side < 2 && (packet.link as usize) < parts.links.len();
        if parts.packets.iter().all(fits) {
            Ok(Self(parts))
        } else {
            Err("a damaged log of packets")
        }
    }
}

impl Merge for PacketLog {
    fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(link, packet)| self.0.push(link, *packet));
    }
}

/// The logs of all flows.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct PacketLogs {
    logs: Keyed<LogKey, PacketLog>,
    /// The number of packets, from which the memory is estimated.
    #[serde(skip)]
    count: usize,
}

impl PacketLogs {
    /// Adds a packet of a flow if it has a fingerprint and a plausible timestamp.
    pub fn add(&mut self, flow: &FlowKey, side: usize, seen: &Observation, payload: u32) {
        let &Observation { fingerprint, time, wire_len, .. } = seen;
        if fingerprint == 0 || !is_capture_time(time) {
            return;
        }
        let side = side as u8;
        let packet = LoggedPacket { fingerprint, time, link: 0, side, wire_len, payload };
        let log = self.logs.entry((*flow, time.div_euclid(BUCKET_NS)));
        log.0.push(&seen.link.anywhere(), packet);
        self.count += 1;
    }

    /// Marks all packets as seen by a sensor. The same packet at two sensors is then seen at two
    /// places, however far their clocks differ.
    pub fn mark(&mut self, sensor: &VantagePoint) {
        let number = sensor_number(sensor);
        for (_, log) in self.logs.iter_mut() {
            log.0.links.iter_mut().for_each(|link| link.interface = number);
        }
    }

    /// Converts the logs into packet records, which contain hashes with the seed of this run.
    pub fn into_records(self, seed: &HashSeed) -> Vec<PacketRecord> {
        let mut records = Vec::with_capacity(self.count);
        for ((flow, _), log) in self.logs {
            let senders = FlowSide::both(seed, &flow);
            for (link, packet) in log.0.iter() {
                let &LoggedPacket { fingerprint, time, side, wire_len, payload, .. } = packet;
                let seen =
                    Observation { fingerprint, time, wire_len, link: *link, ..Default::default() };
                let sender = senders[usize::from(side & 1)];
                let record = PacketRecord::new(seed, sender, &seen, payload);
                records.extend(record.map(|record| record.with_link(seed, link)));
            }
        }
        records
    }
}

/// Returns a number for a sensor, which is the same in every run. Packets without a sensor have the
/// number 0, so it is at least 1.
pub(super) fn sensor_number(sensor: &VantagePoint) -> u16 {
    let hash = stable_hash(sensor.as_str().as_bytes());
    ((hash >> 32 ^ hash >> 16 ^ hash) as u16).max(1)
}

/// No packet may be dropped, so the logs are not bounded.
impl EvidenceKind for PacketLogs {
    fn merge(&mut self, other: Self) {
        self.count += other.count;
        EvidenceKind::merge(&mut self.logs, other.logs);
    }

    fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    fn memory(&self) -> usize {
        const LOG: usize = 512;
        self.logs.len() * LOG + self.count * 2 * size_of::<LoggedPacket>()
    }

    fn split(self, seed: &HashSeed) -> Vec<Self> {
        let mut parts = empty_parts::<Self>();
        for (key, log) in self.logs {
            let part = &mut parts[partition(key.0.hashes(seed).0)];
            part.count += log.0.packets.len();
            part.logs.add(key, log);
        }
        parts
    }

    /// Drops logs of flows that cannot exist, and logs with packets outside their period.
    fn canonical(self) -> Self {
        let fits = |((flow, period), log): &(LogKey, PacketLog)| {
            let in_period = |p: &LoggedPacket| p.time.div_euclid(BUCKET_NS) == *period;
            flow.is_canonical() && log.0.packets.iter().all(in_period)
        };
        let logs: Keyed<LogKey, PacketLog> = self.logs.into_iter().filter(fits).collect();
        Self { logs, count: self.count }
    }

    fn into_rows(self) -> Vec<(u16, Vec<u8>, Self)> {
        let row = |(bucket, key, logs)| (bucket, key, Self { logs, count: 0 });
        self.logs.into_rows().into_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::to_key;
    use super::*;
    use crate::decode::{FiveTuple, Path};
    use crate::model::{Mac, Transport};

    #[test]
    fn logs_are_written_in_the_same_way_in_whatever_order_packets_came() {
        let tuple = FiveTuple {
            src: "10.0.0.1".parse().unwrap(),
            dst: "10.0.0.2".parse().unwrap(),
            sport: 1,
            dport: 2,
            transport: Transport::UDP,
        };
        let (flow, side) = FlowKey::new(&tuple, Path::PLAIN);
        let packet = |number: u64| {
            let mut link = Encapsulation::default();
            link.source = Mac([2, 0, 0, 0, 0, (number % 3) as u8]);
            Observation { fingerprint: 7 + number, time: 5, link, ..Default::default() }
        };
        let mut forth = PacketLogs::default();
        let mut back = PacketLogs::default();
        let mut last = PacketLogs::default();
        (0..9).for_each(|number| forth.add(&flow, side, &packet(number), 3));
        (0..5).rev().for_each(|number| back.add(&flow, side, &packet(number), 3));
        (5..9).rev().for_each(|number| last.add(&flow, side, &packet(number), 3));
        EvidenceKind::merge(&mut last, back);
        assert_eq!(to_key(&forth), to_key(&last));
        let again: PacketLogs = postcard::from_bytes(&to_key(&last)).unwrap();
        let seed = HashSeed::new();
        let records = |logs: PacketLogs| {
            let mut records = logs.into_records(&seed);
            records.sort_unstable();
            records
        };
        assert_eq!(records(again), records(forth));
        // An index beyond the end of the list of encapsulations is rejected.
        let parts = LogParts {
            links: Vec::new(),
            packets: last.logs.sorted().next().unwrap().1.0.packets.clone(),
        };
        assert!(PacketLog::try_from(parts).is_err());
    }
}
