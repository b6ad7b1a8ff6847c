//! Tests that the same packets yield the same conversations under every link type and in every
//! tunnel, except for evidence that the encapsulation cannot carry. Also compares each encapsulated
//! frame with tshark's result.

use crate::support;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::frames::{ours, shown};
use crate::support::wrap::{self, FrameParts, WRAPPERS, Wrapper};
use crate::support::{Records, fixture};
use rasaudit::decode::Body;

lab_tests! {
    wrapped_frames_may_be_wrapped_again: [],
    tshark_sees_the_same_inside_every_wrapper: [Tshark],
}

/// The columns that identify conversations, and those that an encapsulation must not change.
const CONVERSATION: &[&str] = &[
    "client",
    "server",
    "transport",
    "port",
    "verdict",
    "code",
    "state",
    "direction",
    "rule",
    "flows",
    "attempts",
    "established",
    "packets_to_server",
    "packets_to_client",
];

/// Maps client, server, transport and port to verdict, code, state, direction evidence, rule, the
/// numbers of flows, of attempts and of established connections, and packets in each direction.
fn conversations(capture: &Path, inventory: &Path) -> BTreeMap<Vec<String>, Vec<String>> {
    let text = support::conversations(capture, inventory);
    let rows = support::columns(&text, CONVERSATION).into_iter();
    rows.map(|mut row| (row.drain(..4).collect(), row)).collect()
}

/// Returns a `[capture]` table that declares the tunnels of the wrappers and those of the kernel's
/// overlay as mirrors.
fn stating() -> String {
    let ends = r#"ends = ["192.0.2.0/24", "2001:db8::/32", "172.16.0.0/12", "10.0.0.0/8"]"#;
    let kinds = rasaudit::policy::TUNNEL_KINDS.iter();
    let tunnels: Vec<String> =
        kinds.map(|kind| format!("{{ {ends}, kind = \"{kind}\", use = \"mirror\" }}")).collect();
    format!("[capture]\ntunnels = [{}]\n", tunnels.join(", "))
}

/// Encapsulates the frames of a fixture that carry a packet, and compares the conversations. Frames
/// without a packet are left out, because only the tunnel itself would be reported for them.
/// `least` is the minimum number of conversations in the fixture. It is not checked if the
/// encapsulation loses evidence.
fn same_conversations(captured: &str, inventory: &str, least: usize) {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let capture = fixture(captured);
    let records = Records::read(&capture);
    let seen = ours(&capture);
    let packet = |number: usize| matches!(&seen[number], Ok(seen) if seen.fingerprint != 0 && seen.undecoded_tunnel.is_none());
    // The contents of a mirror are trusted without a declaration. The contents of a tunnel inside
    // it are not.
    let stated = scratch.path().join("stated.toml");
    let text = fs::read_to_string(fixture(inventory)).expect("the inventory");
    fs::write(&stated, text.replace("[capture]\n", &stating())).expect("writable");
    let unstated = fixture(inventory);
    let nested = captured.starts_with("wrapped/") || captured.starts_with("overlay/");
    let plain_path = scratch.path().join("plain.pcap");
    let mut plain = BTreeMap::new();
    let mut kept = Vec::new();
    for wrapper in WRAPPERS {
        let is_stated = nested || wrapper.name == "vxlan-in-vlan-in-erspan";
        let inventory = if is_stated { &stated } else { &unstated };
        let carried = |number: usize, record: &[u8]| {
            packet(number)
                && (wrapper.wrap)(FrameParts::new(&record[16..], record.len() - 16)).is_some()
        };
        let numbers: Vec<usize> =
            (0..records.records.len()).filter(|n| carried(*n, &records.records[*n])).collect();
        // Frames that the encapsulation cannot carry are also removed from the plain capture.
        if numbers != kept {
            let frames: Vec<_> = numbers.iter().map(|n| records.records[*n].clone()).collect();
            records.write(&plain_path, &frames);
            plain = conversations(&plain_path, inventory);
            let enough = plain.len() >= least || wrapper.loses != wrap::NOTHING;
            assert!(enough, "{captured}: {}", plain.len());
            kept = numbers;
        }
        let path = scratch.path().join(format!("{}.pcap", wrapper.name));
        fs::write(&path, wrap::capture(&records, wrapper, carried)).expect("writable");
        let wrapped = conversations(&path, inventory);
        let differs = plain.iter().filter(|(key, value)| wrapped.get(*key) != Some(value));
        let differs: Vec<_> = differs.map(|(k, v)| (k, v, wrapped.get(k))).take(5).collect();
        assert!(differs.is_empty(), "{captured} in {}: {differs:#?}", wrapper.name);
        assert_eq!(plain.len(), wrapped.len(), "{captured} in {}", wrapper.name);
    }
}

#[test]
fn every_wrapper_gives_the_same_conversations_of_a_farm() {
    same_conversations("farm-faults/span.pcap", "farm-healthy/inventory.toml", 100);
}

#[test]
fn every_wrapper_gives_the_same_conversations_of_a_healthy_farm() {
    same_conversations("farm-healthy/span.pcap", "farm-healthy/inventory.toml", 100);
}

#[test]
fn every_wrapper_gives_the_same_conversations_of_every_kind_of_packet() {
    same_conversations("decode-mix/mix.pcap", "decode-mix/inventory.toml", 20);
}

/// Nested tunnels: encapsulates a capture of the kernel's own overlay, and frames that are already
/// encapsulated.
fn wrapped_frames_may_be_wrapped_again() {
    same_conversations("overlay/vxlan.pcap", "decode-mix/inventory.toml", 5);
    for wrapper in WRAPPERS.iter().filter(|w| w.link == 1) {
        same_conversations(
            &format!("wrapped/{}.pcap", wrapper.name),
            "farm-healthy/inventory.toml",
            5,
        );
    }
}

/// Returns the contents of a fixture in `wrapped/`: about a dozen frames, spread over ten minutes
/// of a farm.
fn dozen(records: &Records, wrapper: &Wrapper) -> Vec<u8> {
    let step = records.records.len() / 12;
    wrap::capture(records, wrapper, |number, _| number % step == 0)
}

#[test]
fn the_fixtures_are_what_their_recipe_makes() {
    let records = Records::read(&fixture("farm-healthy/span.pcap"));
    let folder = fixture("wrapped");
    for wrapper in WRAPPERS {
        let path = folder.join(format!("{}.pcap", wrapper.name));
        let made = dozen(&records, wrapper);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(&folder).expect("writable");
            fs::write(&path, &made).expect("writable");
        }
        assert_eq!(fs::read(&path).ok().as_ref(), Some(&made), "{}", path.display());
    }
    let files = fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(files, WRAPPERS.len(), "{} contains an unexpected file", folder.display());
}

/// Teredo carries only IPv6. The farm's capture contains hardly any IPv6 packets, so a different
/// one is used.
#[test]
fn tshark_sees_the_same_inside_teredo() {
    let records = Records::read(&fixture("decode-mix/mix.pcap"));
    let scratch = tempfile::tempdir().expect("a scratch folder");
    for wrapper in wrap::TEREDO {
        let path = scratch.path().join(format!("{}.pcap", wrapper.name));
        fs::write(&path, wrap::capture(&records, wrapper, |_, _| true)).expect("writable");
        let Some(theirs) = support::tshark::packets(&path) else {
            support::skipped("tshark is not installed (apt-get install tshark)");
            return;
        };
        let ours = ours(&path);
        assert_eq!(ours.len(), theirs.len(), "{}", wrapper.name);
        let mut inside = 0;
        for (number, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            let seen = ours.as_ref().unwrap_or_else(|link| panic!("link type {link}"));
            // The packet has more extension headers than the decoder follows, so the outer packet
            // was observed.
            if seen.undecoded_tunnel.is_some() {
                continue;
            }
            assert_eq!(shown(&seen.body), theirs.sees, "{} frame {}", wrapper.name, number + 1);
            inside += usize::from(seen.link.outer().next().is_some());
        }
        assert!(inside >= 5, "{}: {inside}", wrapper.name);
    }
}

/// Tags of switch chips that tcpdump decodes and tshark (4.0) does not. Only the comparison of
/// conversations checks their contents.
const UNKNOWN_TO_TSHARK: &[&str] = &[
    "marvell-ethertype",
    "broadcom-ethertype",
    "marvell-tag",
    "marvell-ethertype-link",
    "broadcom-tag",
    "broadcom-tag-before",
];

fn tshark_sees_the_same_inside_every_wrapper() {
    for wrapper in WRAPPERS.iter().filter(|w| !UNKNOWN_TO_TSHARK.contains(&w.name)) {
        let path = fixture("wrapped").join(format!("{}.pcap", wrapper.name));
        let Some(theirs) = support::tshark::packets(&path) else {
            support::skipped("tshark is not installed (apt-get install tshark)");
            return;
        };
        let ours = ours(&path);
        assert_eq!(theirs.len(), ours.len(), "{}", wrapper.name);
        assert!(ours.len() >= 10, "{}: {}", wrapper.name, ours.len());
        let mut flows = 0;
        for (number, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            // tshark takes the value that Windows uses for IPv6 for another protocol, so these
            // frames are left out.
            if wrapper.name == "npcap-loopback" && theirs.protocols.starts_with("null:ipx") {
                continue;
            }
            let seen = ours.as_ref().unwrap_or_else(|link| panic!("link type {link}"));
            flows += usize::from(matches!(seen.body, Body::Transport { .. }));
            assert_eq!(
                shown(&seen.body),
                theirs.sees,
                "{} frame {}: {}",
                wrapper.name,
                number + 1,
                theirs.protocols
            );
        }
        assert!(flows >= 6, "{}: {flows} packets of flows", wrapper.name);
    }
}

#[test]
fn a_filter_that_a_link_type_cannot_have_is_named() {
    let capture = fixture("wrapped/linux-cooked.pcap").display().to_string();
    let summary =
        |filter: &str| support::stdout(&support::rasaudit(["audit", &capture, "--filter", filter]));
    let refused = summary("not vlan");
    assert!(refused.contains("cannot be compiled for the link type"), "{refused}");
    assert!(refused.contains("left out without being tested"), "{refused}");
    assert!(!summary("tcp").contains("compiled"));
}
