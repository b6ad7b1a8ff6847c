//! Tests the lab farm itself (network namespaces, real sockets, a span port) and that audits find
//! the injected faults. Needs root, iproute2, iptables, procps, tcpdump and python3. Without
//! network namespaces, the test is ignored. If `RASAUDIT_REQUIRE_LAB` is set, as in CI, it fails if
//! anything is missing.

use crate::support;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::support::truth::{above_info, findings, truth};
use crate::support::{fixture, rasaudit, stdout};

lab_tests! {
    the_lab_farm_shows_what_is_injected_and_nothing_else: [Farm],
}

/// The duration of a scenario in seconds. Every kind of conversation occurs at least once, and
/// sessions are long enough to trigger the connections that they require.
const SECONDS: &str = "90";

fn missing() -> Option<String> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if String::from_utf8_lossy(&id.stdout).trim() != "0" {
        return Some("it needs root".to_owned());
    }
    let run = |script: &str| {
        let script = format!("PATH=$PATH:/usr/sbin:/sbin; {script}");
        Command::new("sh").args(["-c", &script]).output().is_ok_and(|d| d.status.success())
    };
    let programs = ["ip", "tc", "iptables", "ip6tables", "tcpdump", "python3", "sysctl"];
    let missing: Vec<_> =
        programs.iter().filter(|p| !run(&format!("command -v {p}"))).copied().collect();
    if !missing.is_empty() {
        return Some(format!("{} not installed", missing.join(", ")));
    }
    // Root inside a container may lack the necessary privileges.
    let probe = "n=ras-probe-$$; ip netns add $n && { ip -n $n link add v0 type veth peer name v1 && \
        ip -n $n link add b0 type bridge && ip netns exec $n iptables -A INPUT -p tcp --dport 9 -j DROP && \
        tc -n $n qdisc add dev v0 clsact && tc -n $n filter add dev v0 ingress protocol all u32 \
        match u32 0 0 action mirred egress mirror dev v1; r=$?; ip netns del $n; exit $r; }";
    (!run(probe))
        .then(|| "no network namespace with bridge, filter and mirror can be made here".to_owned())
}

/// Runs a scenario of the lab farm and returns the path of its capture.
fn record(scenario: &str, folder: &Path) -> PathBuf {
    let capture = folder.join(format!("{scenario}.pcap"));
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let farm = Command::new("python3")
        .env("PATH", path)
        .arg(fixture("lab/farm.py"))
        .args(["--scenario", scenario, "--seconds", SECONDS, "--out"])
        .arg(&capture)
        .output()
        .expect("the lab runs");
    assert!(farm.status.success(), "{}", String::from_utf8_lossy(&farm.stderr));
    capture
}

/// Runs a scenario and returns the findings above info: verdict, code, client, server, port.
fn run(scenario: &str, folder: &Path) -> Vec<[String; 5]> {
    let capture = record(scenario, folder);
    let output = rasaudit([
        "audit".as_ref(),
        capture.as_os_str(),
        "-i".as_ref(),
        fixture("farm-healthy/inventory.toml").as_os_str(),
        "--min-watch".as_ref(),
        "60s".as_ref(),
        "--format".as_ref(),
        "csv".as_ref(),
    ]);
    let text = stdout(&output);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows = reader.records().map(|r| r.expect("a row")).filter(|r| &r[1] != "info");
    let mut found: Vec<_> =
        rows.map(|r| [2, 3, 5, 9, 12].map(|column| r[column].to_owned())).collect();
    found.sort();
    found
}

fn the_lab_farm_shows_what_is_injected_and_nothing_else() {
    if let Some(reason) = missing() {
        assert!(
            std::env::var_os("RASAUDIT_REQUIRE_LAB").is_none(),
            "the lab is required: {reason}"
        );
        support::skipped(&format!("the lab farm: {reason}"));
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (healthy, faults, codes) = thread::scope(|scope| {
        let healthy = scope.spawn(|| run("healthy", scratch.path()));
        let faults = scope.spawn(|| run("faults", scratch.path()));
        let codes = scope.spawn(|| record("codes", scratch.path()));
        let codes = codes.join().expect("a capture");
        (healthy.join().expect("a result"), faults.join().expect("a result"), codes)
    });
    assert_eq!(healthy, Vec::<[String; 5]>::new());
    let expected = [
        ["missing", "refused", "10.20.1.84", "sql1", "1433"],
        ["missing", "unanswered", "10.20.1.52", "broker1", "20003"],
        ["undocumented", "wrong-source", "10.20.9.102", "broker1", "20002"],
    ];
    assert_eq!(faults, expected);
    let inventory = fixture("farm-codes/inventory.toml");
    let told = findings(&[codes], &inventory, &["--min-watch", "60s"]);
    assert_eq!(above_info(&told), truth("finding"));
}
