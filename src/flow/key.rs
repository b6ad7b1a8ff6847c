//! What makes packets one flow: the two endpoints in canonical order, and the transport.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::decode::Tuple;
use crate::model::{Endpoint, Transport};

/// The identity of a flow, without direction. VLANs and tunnels are evidence, not identity: a span
/// often shows the two directions under different tags.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FlowKey {
    lo: u128,
    hi: u128,
    ports: u32,
    transport: u8,
    v6: bool,
}

impl FlowKey {
    /// The flow of a packet, and which side (0 or 1) sent it. The side with the lesser address, then
    /// port, is side 0.
    pub fn new(tuple: &Tuple) -> (Self, usize) {
        let (src, dst) = ((number(tuple.src), tuple.sport), (number(tuple.dst), tuple.dport));
        let (lo, hi, side) = if src <= dst { (src, dst, 0) } else { (dst, src, 1) };
        let key = Self {
            lo: lo.0,
            hi: hi.0,
            ports: u32::from(lo.1) << 16 | u32::from(hi.1),
            transport: tuple.transport.0,
            v6: tuple.src.is_ipv6(),
        };
        (key, side)
    }

    /// The endpoint of a side.
    pub fn endpoint(&self, side: usize) -> Endpoint {
        let (addr, port) =
            if side == 0 { (self.lo, self.ports >> 16) } else { (self.hi, self.ports & 0xffff) };
        Endpoint::new(self.address(addr), port as u16)
    }

    fn address(&self, number: u128) -> IpAddr {
        if self.v6 { Ipv6Addr::from(number).into() } else { Ipv4Addr::from(number as u32).into() }
    }

    /// The transport.
    pub fn transport(&self) -> Transport {
        Transport(self.transport)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_one_flow_and_mapped_addresses_another() {
        let to = |src: &str, dst: &str, sport, dport| Tuple {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            sport,
            dport,
            transport: Transport::TCP,
        };
        let (there, a) = FlowKey::new(&to("10.0.0.2", "10.0.0.1", 50000, 443));
        let (back, b) = FlowKey::new(&to("10.0.0.1", "10.0.0.2", 443, 50000));
        assert_eq!((there, a, b), (back, 1, 0));
        assert_eq!(there.endpoint(0).to_string(), "10.0.0.1:443");
        assert_eq!(there.endpoint(1).to_string(), "10.0.0.2:50000");
        let (mapped, _) = FlowKey::new(&to("::10.0.0.2", "::10.0.0.1", 50000, 443));
        assert_ne!(there, mapped);
    }
}
