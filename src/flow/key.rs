//! The identity of a flow: the two endpoints in canonical order, the transport and the path.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::HashSeed;
use super::row::{bucket, stable_hash_of_words};
use super::varint::take_number;
use crate::decode::{FiveTuple, Path};
use crate::model::{Endpoint, Transport};

/// The number of hash partitions. With this many, one partition is a small part of the whole and
/// stays in the processor's cache while it is processed.
pub const PARTITIONS: usize = 64;

/// The identity of a flow, without direction. VLANs and declared tunnels are evidence and not part
/// of the identity, because a span port often shows the two directions with different tags.
/// Undeclared tunnels determine the path, which is part of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct FlowKey {
    /// The lower address, upper half first.
    lo: [u64; 2],
    /// The higher address.
    hi: [u64; 2],
    /// From the highest byte to the lowest: two bytes of path, two bytes of port for the lower and
    /// for the higher address, one byte of transport, and one byte that is 1 for IPv6.
    #[serde(rename = "rest")]
    packed: u64,
}

impl FlowKey {
    /// Returns the key of a packet's flow, and the side (0 or 1) that sent the packet. Side 0 has
    /// the lower address or, if both are equal, the lower port.
    pub fn new(tuple: &FiveTuple, path: Path) -> (Self, usize) {
        let ([src, dst], is_v6) = match (tuple.src, tuple.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                ([[0, u64::from(src.to_bits())], [0, u64::from(dst.to_bits())]], false)
            }
            (src, dst) => ([number(src), number(dst)], src.is_ipv6()),
        };
        let is_first = (src, tuple.sport) <= (dst, tuple.dport);
        let (lo, hi) = if is_first { (src, dst) } else { (dst, src) };
        let (lower, higher) =
            if is_first { (tuple.sport, tuple.dport) } else { (tuple.dport, tuple.sport) };
        let ports = u64::from(lower) << 16 | u64::from(higher);
        let kind = u64::from(tuple.transport.0) << 8 | u64::from(is_v6);
        let path = u64::from(path.number()) << 48;
        (Self { lo, hi, packed: path | ports << 16 | kind }, usize::from(!is_first))
    }

    /// Returns the path of the packets, which determines whether they are trusted.
    pub fn path(&self) -> Path {
        Path::from_number((self.packed >> 48) as u16)
    }

    /// Returns the key of the same flow on [`Path::PLAIN`].
    #[must_use]
    pub(super) fn plain(self) -> Self {
        Self { packed: self.packed & (u64::MAX >> 16), ..self }
    }

    /// Returns the addresses of both sides.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [0, 1].map(|side| self.endpoint(side).addr)
    }

    /// Returns the endpoint of a side.
    pub fn endpoint(&self, side: usize) -> Endpoint {
        let (address, port) =
            if side == 0 { (self.lo, self.packed >> 32) } else { (self.hi, self.packed >> 16) };
        Endpoint::new(self.address(address), port as u16)
    }

    fn address(&self, [upper, lower]: [u64; 2]) -> IpAddr {
        if self.is_v6() {
            Ipv6Addr::from(u128::from(upper) << 64 | u128::from(lower)).into()
        } else {
            Ipv4Addr::from(lower as u32).into()
        }
    }

    fn is_v6(&self) -> bool {
        self.packed & 1 == 1
    }

    /// Returns the protocol above IP.
    pub fn transport(&self) -> Transport {
        Transport((self.packed >> 8) as u8)
    }

    /// Reads the key of a row; `None` if `bytes` is not the serialized form of a key.
    pub(super) fn of_row(mut bytes: &[u8]) -> Option<Self> {
        let mut word = || take_number(&mut bytes);
        let key = Self { lo: [word()?, word()?], hi: [word()?, word()?], packed: word()? };
        bytes.is_empty().then_some(key)
    }

    /// Returns whether [`FlowKey::new`] can return this key. A key from a stored row may be
    /// invalid.
    pub(super) fn is_canonical(&self) -> bool {
        let [src, dst] = [self.endpoint(0), self.endpoint(1)];
        let transport = self.transport();
        let ports = (src.port, dst.port);
        let (src, dst) = (src.addr, dst.addr);
        let tuple = FiveTuple { src, dst, sport: ports.0, dport: ports.1, transport };
        Self::new(&tuple, self.path()) == (*self, 0)
    }

    /// Returns the bucket of the flow's row. It depends on the two addresses, the transport and the
    /// lower port, and is the same in every run.
    pub(super) fn bucket(&self) -> u16 {
        let ports = self.ports();
        let lower = u64::from(ports[0].min(ports[1]));
        let kind = self.packed & 0xffff;
        let words = [self.lo[0], self.lo[1], self.hi[0], self.hi[1], lower << 16 | kind];
        bucket(stable_hash_of_words(&words))
    }

    /// Returns a hash of the two addresses, the transport and the lower port, and a hash of the
    /// whole key. The service nearly always has the lower port, so the flows of one conversation
    /// share the first hash.
    #[inline]
    pub(super) fn hashes(&self, seed: &HashSeed) -> (u64, u64) {
        let mut hasher = self.conversation_hasher(seed);
        let conversation_hash = hasher.finish();
        // The first hash covers neither the path, nor the higher port and the side that has it.
        let ports = self.ports();
        let order = u64::from(ports[0].max(ports[1])) << 1 | u64::from(ports[0] <= ports[1]);
        hasher.write_u64(self.packed >> 48 << 32 | order);
        (conversation_hash, hasher.finish())
    }

    /// Returns the first of [`FlowKey::hashes`].
    pub(crate) fn conversation_hash(&self, seed: &HashSeed) -> u64 {
        self.conversation_hasher(seed).finish()
    }

    #[inline]
    fn conversation_hasher(&self, seed: &HashSeed) -> impl Hasher + use<> {
        let [a, b] = self.ports();
        let mut hasher = seed.build_hasher();
        self.hash_addresses(&mut hasher);
        hasher.write_u64(u64::from(a.min(b)) << 16 | self.packed & 0xffff);
        hasher
    }

    /// Returns the port of each side.
    fn ports(&self) -> [u16; 2] {
        [(self.packed >> 32) as u16, (self.packed >> 16) as u16]
    }

    fn hash_addresses(&self, state: &mut impl Hasher) {
        if self.is_v6() {
            self.lo.iter().chain(&self.hi).for_each(|half| state.write_u64(*half));
        } else {
            state.write_u64(self.lo[1] << 32 | self.hi[1]);
        }
    }
}

/// The key of a flow in a table, in 16 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct ShortKey {
    /// For IPv4, both addresses. For IPv6, the position of the addresses in a list, and zero.
    ends: [u32; 2],
    /// See [`FlowKey::packed`].
    packed: u64,
}

impl ShortKey {
    /// Returns whether this is the short form of a key. `wide` returns the addresses at a position.
    #[inline]
    pub fn is<'a>(&self, key: &FlowKey, wide: impl Fn(u32) -> &'a [[u64; 2]; 2]) -> bool {
        if self.packed != key.packed {
            return false;
        }
        if key.is_v6() {
            *wide(self.ends[0]) == [key.lo, key.hi]
        } else {
            self.ends.map(u64::from) == [key.lo[1], key.hi[1]]
        }
    }

    /// Returns the complete key. `wide` returns the addresses at a position.
    pub fn whole<'a>(&self, wide: impl Fn(u32) -> &'a [[u64; 2]; 2]) -> FlowKey {
        let packed = self.packed;
        let [lo, hi] = match packed & 1 {
            0 => self.ends.map(|end| [0, u64::from(end)]),
            _ => *wide(self.ends[0]),
        };
        FlowKey { lo, hi, packed }
    }

    /// Returns the short form of [`FlowKey::plain`].
    pub fn plain(self) -> Self {
        Self { packed: self.packed & (u64::MAX >> 16), ..self }
    }
}

impl FlowKey {
    /// Returns the short form of the key. `position` returns the position of the addresses in the
    /// list, which is needed for IPv6.
    pub(super) fn short(&self, position: impl FnOnce() -> u32) -> ShortKey {
        let ends =
            if self.is_v6() { [position(), 0] } else { [self.lo[1] as u32, self.hi[1] as u32] };
        ShortKey { ends, packed: self.packed }
    }

    /// Returns both addresses if they are IPv6.
    pub(super) fn wide_addresses(&self) -> Option<[[u64; 2]; 2]> {
        self.is_v6().then_some([self.lo, self.hi])
    }
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash_addresses(state);
        state.write_u64(self.packed);
    }
}

/// Returns the partition for a hash, from 0 to [`PARTITIONS`] - 1.
#[inline]
pub(super) fn partition(hash: u64) -> usize {
    // The lower bits select the slot in the index, so higher bits select the partition.
    (hash >> 40) as usize % PARTITIONS
}

fn number(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(v4) => [0, u64::from(u32::from(v4))],
        IpAddr::V6(v6) => {
            let number = u128::from(v6);
            [(number >> 64) as u64, number as u64]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::to_key;
    use super::*;

    #[test]
    fn both_directions_are_one_flow_and_mapped_addresses_another() {
        let to = |src: &str, dst: &str, sport, dport| FiveTuple {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            sport,
            dport,
            transport: Transport::TCP,
        };
        let (there, a) = FlowKey::new(&to("10.0.0.2", "10.0.0.1", 50000, 443), Path::PLAIN);
        let (back, b) = FlowKey::new(&to("10.0.0.1", "10.0.0.2", 443, 50000), Path::PLAIN);
        assert_eq!((there, a, b), (back, 1, 0));
        assert_eq!(there.endpoint(0).to_string(), "10.0.0.1:443");
        assert_eq!(there.endpoint(1).to_string(), "10.0.0.2:50000");
        let (mapped, _) = FlowKey::new(&to("::10.0.0.2", "::10.0.0.1", 50000, 443), Path::PLAIN);
        assert_ne!(there, mapped);
        let (inside, _) = FlowKey::new(&to("10.0.0.2", "10.0.0.1", 50000, 443), Path::inside(3));
        assert_ne!(there, inside);
        assert_eq!((inside.plain(), inside.endpoint(0)), (there, there.endpoint(0)));
        for key in [there, mapped, inside] {
            let bytes = to_key(&key);
            assert_eq!(FlowKey::of_row(&bytes), Some(key));
            assert_eq!(FlowKey::of_row(&bytes[1..]), None);
            assert_eq!(FlowKey::of_row(&[bytes, vec![0]].concat()), None);
        }
    }
}
