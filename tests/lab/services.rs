//! Tests real services on a few hosts (fixtures/lab/services.py): DNS and TLS to named servers, an
//! RPC endpoint mapper and its dynamic ports, broadcast lookups, VRRP. One test uses the stored
//! captures. The other test records new captures, which needs root and the programs that the script
//! lists. Without network namespaces, that test is ignored, unless `RASAUDIT_REQUIRE_LAB` is set,
//! as in CI.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::{columns, conversations, fixture, skipped};

lab_tests! {
    kept_captures_of_real_services_are_judged_as_they_were_made: [],
    fresh_captures_of_real_services_are_judged_the_same: [Services],
}

const SCENARIOS: &[&str] = &["names", "rpc", "lookups", "vrrp"];

/// Returns the expected conversations of a scenario: client, server, service, code, certainty,
/// rule.
fn expected(scenario: &str) -> &'static [&'static str] {
    match scenario {
        "names" => &[
            "avd1 168.63.129.16 tcp/80 matrix yes avd.required.168.63.129.16",
            "avd1 203.0.113.10 tcp/443 matrix yes avd.required.any.wvd.microsoft.com",
            "avd1 203.0.113.11 tcp/443 matrix yes avd.required.gcs.prod.monitoring.core.windows.net",
            // The ClientHello is in three segments.
            "avd1 203.0.113.12 tcp/443 matrix yes avd.optional.login.windows.net",
            // Without TLS, DNS is the only evidence.
            "avd1 203.0.113.13 tcp/1688 matrix no avd.required.kms.core.windows.net",
            // The next three rows have an undocumented name, an alias, and no name.
            "avd1 203.0.113.14 tcp/443 unknown-host yes ",
            "avd1 203.0.113.15 tcp/443 matrix yes avd.optional.www.msftconnecttest.com",
            "avd1 203.0.113.16 tcp/443 unknown-host no ",
            "avd1 dc1 udp/53 wrong-source yes ras19.broker.ad-dc.udp.53",
        ],
        "rpc" => &[
            "pa1 hv1 tcp/135 matrix yes ras19.provider-agent.hyper-v.tcp.135",
            "pa1 hv1 tcp/announced matrix yes ras19.provider-agent.hyper-v.tcp.49152-65535",
            "pa1 hv1 tcp/unannounced matrix no ras19.provider-agent.hyper-v.tcp.49152-65535",
        ],
        "lookups" => &[
            "guest1 10.40.0.255 udp/30006 matrix yes ras19.guest-agent.provider-agent.udp.30006.broadcast",
            "guest1 255.255.255.255 udp/30006 matrix yes ras19.guest-agent.provider-agent.udp.30006.broadcast",
            "pc1 10.40.0.255 udp/20000 matrix yes ras19.parallels-client.gateway-normal.udp.20000",
            "pc1 255.255.255.255 udp/20000 matrix yes ras19.parallels-client.gateway-normal.udp.20000",
            "pc1 255.255.255.255 udp/20001 no-relation yes ",
            "pc1 gw1 udp/20000 matrix yes ras19.parallels-client.gateway-normal.udp.20000",
        ],
        _ => &[
            "halb1 224.0.0.18 ip-112/ matrix yes ras19.halb.halb.ip.112",
            "halb1 ff02::12 ip-112/ matrix yes ras19.halb.halb.ip.112",
            "halb2 224.0.0.18 ip-112/ matrix yes ras19.halb.halb.ip.112",
            "halb2 ff02::12 ip-112/ matrix yes ras19.halb.halb.ip.112",
        ],
    }
}

/// Returns the conversations of a capture in the form of [`expected`], without background traffic.
fn judged(capture: &Path) -> BTreeSet<String> {
    let report = conversations(capture, &fixture("services/inventory.toml"));
    let wanted =
        ["client_name", "server_name", "server", "transport", "port", "code", "certain", "rule"];
    let rows = columns(&report, &wanted).into_iter().filter(|row| row[5] != "background");
    rows.map(|row| {
        let server = if row[1].is_empty() { &row[2] } else { &row[1] };
        // The dynamic port of a service varies, because the services start in no fixed order. A
        // word takes its place.
        let port = match (row[7].ends_with("49152-65535"), row[6].as_str()) {
            (false, _) => row[4].as_str(),
            (true, "yes") => "announced",
            (true, _) => "unannounced",
        };
        format!("{} {server} {}/{port} {} {} {}", row[0], row[3], row[5], row[6], row[7])
    })
    .collect()
}

fn check(scenario: &str, capture: &Path) {
    let expected: BTreeSet<String> = expected(scenario).iter().map(|s| (*s).to_owned()).collect();
    let judged = judged(capture);
    let (missing, more): (Vec<_>, Vec<_>) =
        (expected.difference(&judged).collect(), judged.difference(&expected).collect());
    assert!(
        missing.is_empty() && more.is_empty(),
        "{scenario}: missing {missing:#?}, unexpected {more:#?}"
    );
}

fn kept_captures_of_real_services_are_judged_as_they_were_made() {
    for scenario in SCENARIOS {
        check(scenario, &fixture(&format!("services/{scenario}.pcap")));
    }
}

/// Returns the reason why the lab cannot be built, or `None` if it can.
fn missing() -> Option<String> {
    let run = |script: &str| {
        let script = format!("PATH=$PATH:/usr/sbin:/sbin; {script}");
        Command::new("sh").args(["-c", &script]).output().is_ok_and(|d| d.status.success())
    };
    if !run("[ $(id -u) -eq 0 ]") {
        return Some("it needs root".to_owned());
    }
    let programs = [
        "command -v ip",
        "command -v tcpdump",
        "command -v ethtool",
        "command -v dnsmasq",
        "command -v openssl",
        "command -v keepalived",
        "command -v rpcclient",
        "test -x /usr/libexec/samba/samba-dcerpcd",
        "/usr/bin/python3 -c 'import samba, tomllib'",
    ];
    let missing: Vec<_> = programs.iter().filter(|p| !run(p)).copied().collect();
    if !missing.is_empty() {
        return Some(format!("these fail: {}", missing.join("; ")));
    }
    let probe = "n=ras-probe-$$; ip netns add $n && { ip -n $n link add v0 type veth peer name v1 && \
        ip -n $n link add b0 type bridge; r=$?; ip netns del $n; exit $r; }";
    (!run(probe)).then(|| "no network namespace with a bridge can be made here".to_owned())
}

fn fresh_captures_of_real_services_are_judged_the_same() {
    if let Some(why) = missing() {
        assert!(std::env::var_os("RASAUDIT_REQUIRE_LAB").is_none(), "the lab is required: {why}");
        return skipped(&format!("fresh captures of real services: {why}"));
    }
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    for scenario in SCENARIOS {
        let capture = scratch.path().join(format!("{scenario}.pcap"));
        let lab = Command::new("/usr/bin/python3")
            .env("PATH", &path)
            .arg(fixture("lab/services.py"))
            .arg(scenario)
            .arg("--out")
            .arg(&capture)
            .output()
            .expect("the lab runs");
        assert!(lab.status.success(), "{scenario}: {}", String::from_utf8_lossy(&lab.stderr));
        check(scenario, &capture);
    }
}
