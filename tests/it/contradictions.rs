//! Tests contradictions between inventory and capture, and severities that a site changes.

use crate::support::wire::Wire;
use crate::support::{Site, columns, fixture, hosts, rasaudit, stderr, stdout};

const BROKER: &str = "10.1.0.10";
const DC: &str = "10.1.0.20";
const RDSH: &str = "10.1.0.30";
const GW: &str = "10.1.0.1";

fn inventory(more: &str) -> String {
    let mut text = "[farm]\nmatrix = \"ras-19\"\n".to_owned();
    text += &hosts(&[
        ("gw1", GW, "gateway-normal"),
        ("broker1", BROKER, "broker"),
        ("dc1", DC, "ad-dc"),
        ("rdsh1", RDSH, "rdsh-agent"),
    ]);
    text + more
}

/// Returns the findings with the verdict `inventory`: code, host, certainty, message.
fn contradictions(inventory: &str, wire: &Wire) -> Vec<[String; 4]> {
    let rows = columns(
        &Site::new(inventory, wire).report("csv"),
        &["verdict", "code", "client_name", "certain", "message"],
    );
    let rows = rows.into_iter().filter(|row| row[0] == "inventory");
    rows.map(|row| row[1..].to_vec().try_into().expect("four cells")).collect()
}

#[test]
fn a_host_that_serves_what_only_another_role_serves_is_named() {
    let mut wire = Wire::default();
    wire.connect(0, (RDSH, 50_000), (BROKER, 20_003));
    wire.connect(10, (BROKER, 50_001), (RDSH, 30_006));
    // A port that other roles also serve does not indicate a role.
    wire.connect(15, (BROKER, 50_001), (GW, 8080));
    wire.connect(20, (BROKER, 50_002), (RDSH, 9999));
    // A host with InfluxDB or Grafana is not necessarily the Performance Monitor.
    wire.connect(22, (BROKER, 50_002), (RDSH, 8086));
    wire.connect(24, (BROKER, 50_002), (RDSH, 3000));
    // An unanswered attempt does not show that a host serves the port.
    wire.knock(30, (BROKER, 50_003), (GW, 30_006));
    let found = contradictions(&inventory(""), &wire);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0][..3], ["role-mismatch", "rdsh1", "yes"]);
    assert!(
        found[0][3].contains(
            "serves TCP 30006, which in the matrix only the role RAS Provider Agent serves"
        ),
        "{found:?}"
    );
    let both = inventory("").replace("[\"rdsh-agent\"]", "[\"rdsh-agent\", \"provider-agent\"]");
    assert_eq!(contradictions(&both, &wire), [] as [[String; 4]; 0]);
    let moved = inventory(
        "[[moved-port]]\nrole = \"rdsh-agent\"\ntransport = \"tcp\"\nfrom = 30004\nto = 30006\n",
    );
    assert_eq!(contradictions(&moved, &wire), [] as [[String; 4]; 0]);
}

#[test]
fn nothing_is_missing_for_certain_if_the_inventory_mixed_up_two_hosts() {
    let mut wire = eleven_minutes();
    wire.connect(3_000, (BROKER, 50_000), (DC, 88));
    let all = inventory("[capture]\ncovers = \"all\"\n");
    // The certainty of the reports that traffic is missing, and what to do about the first.
    let missing = |inventory: &str, wire: &Wire| {
        let columns_of = ["code", "certain", "action"];
        let rows = columns(&Site::new(inventory, wire).report("csv"), &columns_of);
        let codes = ["never-attempted", "silent-role"];
        let rows: Vec<_> =
            rows.into_iter().filter(|row| codes.contains(&row[0].as_str())).collect();
        let certain: Vec<_> = rows.iter().map(|row| row[1].clone()).collect();
        (certain, rows[0][2].clone())
    };
    let (certain, _) = missing(&all, &wire);
    assert!(certain.contains(&"yes".to_owned()), "{certain:?}");
    // The inventory has the addresses of the broker and the gateway the wrong way round.
    let [broker, gateway] = [BROKER, GW].map(|address| format!("\"{address}\""));
    let swapped = all.replace(&broker, "\"\"").replace(&gateway, &broker).replace("\"\"", &gateway);
    let (certain, action) = missing(&swapped, &wire);
    assert!(certain.len() > 3 && !certain.contains(&"yes".to_owned()), "{certain:?}");
    assert!(action.starts_with("Check the addresses and roles of gw1"), "{action}");
}

/// Returns an eleven-minute capture in which every host sends packets, but the domain controller
/// has no traffic of its role.
fn eleven_minutes() -> Wire {
    let mut wire = Wire::default();
    for second in (0..670).step_by(10) {
        for to in [BROKER, DC, GW] {
            wire.ip(second * 1000, RDSH, to, 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
            wire.ip(second * 1000 + 1, to, RDSH, 1, &[0, 0, 0, 0, 0, 1, 0, 1]);
        }
    }
    wire.connect(1_000, (GW, 50_000), (BROKER, 20_002));
    wire.connect(2_000, (RDSH, 50_001), (BROKER, 20_003));
    wire
}

#[test]
fn a_role_of_which_nothing_shows_is_told_where_the_capture_could_show_it() {
    let all = inventory("[capture]\ncovers = \"all\"\n");
    let found = contradictions(&all, &eleven_minutes());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0][..3], ["silent-role", "dc1", "yes"]);
    let mut wire = eleven_minutes();
    wire.connect(3_000, (BROKER, 50_000), (DC, 389));
    assert!(contradictions(&all, &wire).is_empty());
    // There is no finding if the host is not covered or the capture is too short.
    let other = inventory("[capture]\ncovers = [\"gw1\"]\n");
    assert!(contradictions(&other, &eleven_minutes()).is_empty());
    let mut short = eleven_minutes();
    short.0.retain(|(ms, _)| *ms < 300_000);
    assert!(contradictions(&all, &short).is_empty());
}

#[test]
fn an_address_that_two_hosts_claim_at_once_is_a_conflict() {
    let mut wire = Wire::default();
    wire.connect(0, (RDSH, 50_000), (BROKER, 20_003));
    // A conflict: in each of three intervals, two MAC addresses claim the broker's address within
    // ten seconds.
    for (ms, mac) in [(100, 7), (200, 8), (20_300, 7), (20_400, 8), (40_300, 7), (40_400, 8)] {
        wire.claim(ms, BROKER, mac);
    }
    // No conflict: two MAC addresses claim the address within ten seconds only once, so a second
    // network card replaced the first.
    for (ms, mac) in [(100, 7), (200, 8), (20_300, 8), (40_400, 8)] {
        wire.claim(ms, RDSH, mac);
    }
    // No conflict: the second MAC address claims the address only after the first has stopped, so a
    // card was replaced or a standby took over.
    for (ms, mac) in [(100, 7), (200, 7), (300, 8), (400, 8)] {
        wire.claim(ms, DC, mac);
    }
    let found = contradictions(&inventory(""), &wire);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0][..3], ["address-conflict", "broker1", "yes"]);
    assert!(found[0][3].contains("02:00:00:00:00:07, 02:00:00:00:00:08"), "{found:?}");
    // A virtual address may move between its holders.
    let held =
        inventory("").replace("roles = [\"broker\"]", "roles = []\nheld-by = [\"dc1\", \"rdsh1\"]");
    assert!(contradictions(&held, &wire).is_empty());
    // For IPv6, the same applies to neighbour discovery.
    let mut wire = Wire::default();
    for (ms, mac) in [(0, 7), (100, 8), (20_200, 7), (20_300, 8)] {
        wire.advertisement(ms, "fd00::10", mac);
    }
    for (ms, mac) in [(100, 7), (200, 7), (300, 8), (400, 8)] {
        wire.advertisement(ms, "fd00::20", mac);
    }
    let dual = inventory("")
        .replace(&format!("\"{BROKER}\""), &format!("\"{BROKER}\", \"fd00::10\""))
        .replace(&format!("\"{DC}\""), &format!("\"{DC}\", \"fd00::20\""));
    let found = contradictions(&dual, &wire);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0][3].starts_with("fd00::10 of broker1 is repeatedly claimed"), "{found:?}");
}

#[test]
fn a_site_may_weigh_codes_its_own_way() {
    let faults = fixture("farm-faults/span.pcap").display().to_string();
    let inventory = fixture("farm-healthy/inventory.toml").display().to_string();
    let audit = |more: &[&str]| {
        let base = ["audit", &faults, "-i", &inventory, "--format", "csv"];
        let run = rasaudit(base.iter().chain(more));
        (run.status.code(), stdout(&run), stderr(&run))
    };
    let (_, csv, _) = audit(&["--severity", "wrong-source=critical", "--severity", "refused=info"]);
    let weights = columns(&csv, &["code", "severity"]);
    let of = |code: &str| weights.iter().find(|row| row[0] == code).map(|row| row[1].clone());
    assert_eq!(of("wrong-source").as_deref(), Some("critical"));
    assert_eq!(of("refused").as_deref(), Some("info"));
    assert_eq!(of("unanswered").as_deref(), Some("high"));
    let (code, _, err) = audit(&["--severity", "refusd=low"]);
    assert!(code == Some(2) && err.contains("did you mean \"refused\"?"), "{err}");
    let (code, _, err) = audit(&["--severity", "refused=lo"]);
    assert!(code == Some(2) && err.contains("did you mean \"low\"?"), "{err}");
}

/// A host that is not listed is reported with the role that it seems to have.
#[test]
fn a_host_in_no_list_is_told_with_what_it_does() {
    let mut wire = Wire::default();
    wire.connect(0, ("10.1.0.99", 50_000), (BROKER, 20_003));
    let report = Site::new(&inventory(""), &wire).report("json");
    let json: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let finding =
        json["findings"].as_array().expect("findings").iter().find(|f| f["code"] == "unknown-host");
    let trace = finding.expect("the finding")["trace"].to_string();
    assert!(
        trace.contains("10.1.0.99 behaves like a host with the role RAS RD Session Host Agent")
            && trace.contains("or RAS Remote PC Agent or"),
        "{trace}"
    );
}
