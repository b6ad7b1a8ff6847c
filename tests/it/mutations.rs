//! Tests individual changes to the healthy farm: each forbidden flow that is added causes exactly
//! one finding, about that flow, and exactly the required services that are removed are reported as
//! missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::wire::Wire;
use crate::support::{Random, Records, columns, fixture, frames, rasaudit, stdout};
use rasaudit::decode::Body;

const HEALTHY: &str = "farm-healthy/span.pcap";

fn report(capture: &Path, format: &str, wanted: &[&str]) -> Vec<Vec<String>> {
    let inventory = fixture("farm-healthy/inventory.toml");
    let [capture, inventory] = [capture, &inventory].map(|path| path.display().to_string());
    let run = rasaudit(["audit", &capture, "-i", &inventory, "--format", format]);
    assert!(run.status.code().is_some_and(|code| code < 2), "{run:?}");
    columns(&stdout(&run), wanted)
}

/// Returns packets as pcap records that start one minute after the record `start`.
fn records_of(wire: &Wire, start: &[u8]) -> Vec<Vec<u8>> {
    let seconds = u32::from_le_bytes(start[..4].try_into().expect("four bytes")) + 60;
    let record = |(ms, frame): &(u64, Vec<u8>)| {
        let length = frame.len() as u32;
        let head = [seconds + (ms / 1000) as u32, (ms % 1000 * 1000) as u32, length, length];
        let head: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
        [head, frame.clone()].concat()
    };
    wire.0.iter().map(record).collect()
}

#[test]
fn a_forbidden_flow_put_in_is_exactly_its_finding() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let capture = scratch.path().join("changed.pcap");
    let healthy = Records::read(&fixture(HEALTHY));
    let hosts = report(&fixture(HEALTHY), "hosts", &["name", "addresses", "coverage"]);
    let address = |row: &Vec<String>| row[1].split(';').next().expect("an address").to_owned();
    let hosts: Vec<(String, String)> = hosts
        .iter()
        // A virtual address has no conversations of its own.
        .filter(|row| row[2] == "full" && !row[0].ends_with("-vip"))
        .map(|row| (row[0].clone(), address(row)))
        .collect();
    let mut random = Random(0x5eed);
    let mut codes = BTreeSet::new();
    for number in 0..60 {
        let from = random.below(hosts.len());
        let to = random.below(hosts.len());
        if from == to {
            continue;
        }
        let (client, source) = &hosts[from];
        let (server, target) = &hosts[to];
        // No row documents this port for any client or server.
        let port = 4_444;
        let mut wire = Wire::default();
        match number % 3 {
            0 => wire.connect(0, (source, 50_999), (target, port)),
            1 => wire.knock(0, (source, 50_999), (target, port)),
            // The source port is one that the matrix documents, which makes no difference.
            _ => wire.connect(0, (source, 20_003), (target, port)),
        }
        let records = [&healthy.records[..], &records_of(&wire, &healthy.records[0])].concat();
        healthy.write(&capture, &records);
        let found = report(
            &capture,
            "csv",
            &[
                "client_name",
                "server_name",
                "transport",
                "port",
                "certain",
                "count",
                "code",
                "state",
            ],
        );
        let [finding] = &found[..] else {
            panic!("{client} to {server}: {found:?}");
        };
        let exact = [client, server, "tcp", "4444", "yes", "1"];
        assert_eq!(finding[..6], exact, "{finding:?}");
        assert!(
            ["port-not-in-matrix", "no-relation"].contains(&finding[6].as_str()),
            "{finding:?}"
        );
        assert_eq!(finding[7], if number % 3 == 1 { "unanswered" } else { "established" });
        codes.insert(finding[6].clone());
    }
    assert_eq!(codes.len(), 2, "both codes occurred");
}

/// The key of a conversation: client, server, transport, port.
type Subject = (String, String, String, String);

#[test]
fn a_service_taken_out_is_exactly_what_is_missing() {
    let path = fixture(HEALTHY);
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let capture = scratch.path().join("changed.pcap");
    let healthy = Records::read(&path);
    let seen = frames::ours(&path);
    assert_eq!(seen.len(), healthy.records.len());

    let rows = report(&path, "matrix", &["rule", "group", "need", "status", "source_hosts_seen"]);
    let group_of: BTreeMap<&str, &str> =
        rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    let mut sources: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row[2] == "steady" && row[3] == "seen") {
        sources.entry(&row[1]).or_default().extend(row[4].split(';'));
    }
    let conversations =
        report(&path, "conversations", &["client", "server", "transport", "port", "rule"]);
    let mut unclaimed = Vec::new();
    for (group, sources) in &sources {
        let gone: BTreeSet<Subject> = conversations
            .iter()
            .filter(|row| group_of.get(row[4].as_str()) == Some(group))
            .map(|row| (row[0].clone(), row[1].clone(), row[2].clone(), row[3].clone()))
            .collect();
        let stays = |number: &usize| {
            let Ok(observation) = &seen[*number] else { return true };
            let Body::Transport { tuple, .. } = &observation.body else { return true };
            let subject = |client: &std::net::IpAddr, server: &std::net::IpAddr, port: u16| {
                let port =
                    if tuple.transport.has_ports() { port.to_string() } else { String::new() };
                (client.to_string(), server.to_string(), tuple.transport.to_string(), port)
            };
            !gone.contains(&subject(&tuple.src, &tuple.dst, tuple.dport))
                && !gone.contains(&subject(&tuple.dst, &tuple.src, tuple.sport))
        };
        let kept: Vec<Vec<u8>> =
            (0..seen.len()).filter(stays).map(|number| healthy.records[number].clone()).collect();
        assert!(kept.len() < healthy.records.len(), "{group}: nothing was removed");
        healthy.write(&capture, &kept);
        let silent: BTreeSet<String> = report(&capture, "hosts", &["name", "unicast_sent"])
            .into_iter()
            .filter_map(|row| (row[1] == "0").then_some(row[0].clone()))
            .collect();
        let found =
            report(&capture, "csv", &["verdict", "code", "group", "client_name", "severity"]);
        let mut claimed = BTreeSet::new();
        for finding in &found {
            assert_eq!(finding[2], **group, "{finding:?}");
            match finding[1].as_str() {
                "never-attempted" => {
                    assert!(!silent.contains(&finding[3]), "{finding:?}");
                    claimed.insert(finding[3].as_str());
                }
                // A host that sends nothing else may be switched off.
                "host-not-seen" => assert!(!silent.is_empty(), "{finding:?}"),
                other => panic!("{group}: {other}: {finding:?}"),
            }
        }
        if claimed.is_empty() {
            unclaimed.push(*group);
            continue;
        }
        // Either broker of a pair may contact the other. The finding names the first broker as the
        // client.
        let as_seen = claimed == *sources || group.starts_with("ras19.broker.broker.");
        assert!(as_seen, "{group}: {claimed:?}, not {sources:?}");
    }
    // The licence server and the second load balancer send nothing else, so they may be switched
    // off.
    assert_eq!(unclaimed, ["ras19.broker.parallels-licensing.web", "ras19.halb.halb.vrrp"]);
    assert_eq!(sources.len(), 16);
}
