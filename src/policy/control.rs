//! EtherTypes of control traffic, which cannot contain a conversation between hosts.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use super::Diagnostics;
use super::csv_file::each_record;

const FILE: &str = include_str!("../../rules/overlays/control-ethertypes.csv");

/// Returns whether frames with this EtherType are control traffic, for example from switches or
/// network cards. Such frames never carry packets between hosts.
pub fn is_control(ethertype: u16) -> bool {
    static KNOWN: OnceLock<BTreeSet<u16>> = OnceLock::new();
    KNOWN.get_or_init(load).contains(&ethertype)
}

fn load() -> BTreeSet<u16> {
    let mut known = BTreeSet::new();
    let mut problems = Diagnostics::of("control-ethertypes.csv");
    each_record(FILE, &["ethertype", "name", "source"], &mut problems, |record, problems| {
        let digits = record.get("ethertype").strip_prefix("0x").unwrap_or_default();
        match u16::from_str_radix(digits, 16) {
            Ok(number) => drop(known.insert(number)),
            Err(_) => problems.add(record.line, "an EtherType must be written in the form 0x88cc"),
        }
    });
    debug_assert!(problems.or(()).is_ok(), "the built-in file has problems");
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_traffic_is_known_and_what_may_carry_packets_is_not() {
        assert!([0x88cc, 0x8809, 0x888e, 0x886f, 0].into_iter().all(is_control));
        // EtherTypes of IPv4, Cisco MetaData, Arista and a vendor's VLAN tag. Frames with these
        // types can contain an IP packet.
        assert!(![0x0800, 0x8909, 0xd28b, 0x9200].into_iter().any(is_control));
        assert_eq!(load().len(), FILE.lines().filter(|line| line.starts_with("0x")).count());
    }
}
