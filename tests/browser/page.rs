//! Tests the HTML page in a real browser: `tests/browser/page.mjs` drives Chromium through pages
//! that audits wrote. Needs node, Chromium and the node modules. If one of them is missing, the
//! test is ignored, or fails if `RASAUDIT_REQUIRE_BROWSER` is set, as in CI. Screenshots are kept
//! in `target/page`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::browser::browser;
use crate::support::wire::{ACK, RST, SYN, Wire, client_hello};
use crate::support::{Site, audit, fixture, hosts, stderr, stdout};

lab_tests! {
    a_real_browser_shows_the_page_as_it_is_meant: [Browser],
}

/// A name that runs a script if it is interpreted as markup.
const MARKUP: &str = "<img src=x onerror=window.ran=1>";
/// A name that ends a script element, runs a script, and reverses the direction of text.
const TURNED: &str = "</script><script>window.ran=1</script>\u{202e}gnp";

fn a_real_browser_shows_the_page_as_it_is_meant() {
    let Some(browser) = browser() else { return };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let demo = scratch.path().join("demo");
    // The README shows a screenshot of this page, so the audit uses the same paths as the README.
    let run = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["audit", "fixtures/farm-faults/span.pcap"])
        .args(["-i", "fixtures/farm-healthy/inventory.toml", "--out"])
        .arg(&demo)
        .arg("--evidence")
        .arg(scratch.path().join("evidence of the demo"))
        .output()
        .expect("the program runs");
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    let hostile = hostile();
    let large = large();
    let shots = concat!(env!("CARGO_TARGET_TMPDIR"), "/../page");
    let codes = scratch.path().join("codes");
    let empty = scratch.path().join("empty");
    let (farm, list) = (fixture("farm-codes/inventory.toml"), fixture("farm-codes/exceptions.csv"));
    let exceptions = ["--exceptions", &list.display().to_string(), "--as-of", "2026-06-01"];
    audit(&[fixture("farm-codes/span.pcap")], &farm, &codes, &exceptions);
    audit(&[fixture("formats/empty.pcap")], &farm, &empty, &[]);
    let farms: Vec<Site> = [25, 250, 2500].map(farm_of).into();
    let page = |folder: &Path| folder.join("report.html");
    let run = Command::new("node")
        .arg(browser.join("page.mjs"))
        .args([page(&demo), page(&written(&hostile)), page(&written(&large))])
        .args([page(&codes), page(&empty), page(&written(&scan()))])
        .arg(shots)
        .args(farms.iter().map(|farm| page(&written(farm))))
        .output()
        .expect("node runs");
    assert!(run.status.success(), "{}{}", stdout(&run), stderr(&run));
}

/// Returns a site in which one client tries the same port on twelve servers, all of which refuse.
fn scan() -> Site {
    let mut wire = Wire::default();
    for host in 0..12u8 {
        let server = format!("10.1.0.{}", 100 + host);
        wire.tcp(u64::from(host) * 10, ("10.1.0.10", 50_000), (&server, 23), SYN, 0);
        wire.tcp(u64::from(host) * 10 + 1, (&server, 23), ("10.1.0.10", 50_000), RST | ACK, 0);
    }
    Site::new(
        "[farm]\nmatrix = \"ras-19\"\n[[host]]\nname = \"broker1\"\naddresses = [\"10.1.0.10\"]\nroles = [\"broker\"]\n",
        &wire,
    )
}

/// Audits a site and returns the folder of its reports.
fn written(site: &Site) -> std::path::PathBuf {
    let out = site.folder.path().join("out");
    let mut more = vec!["--out".to_owned(), out.display().to_string()];
    let exceptions = site.folder.path().join("exceptions.csv");
    if exceptions.exists() {
        more.extend(["--exceptions".to_owned(), exceptions.display().to_string()]);
    }
    let run = site.run(&more);
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    out
}

/// Returns a site with markup in every name that others can choose: hosts, networks, the farm, DNS,
/// TLS, HTTP, exceptions.
fn hostile() -> Site {
    let [markup, turned] = [MARKUP, TURNED].map(|name| serde_json::to_string(name).expect("JSON"));
    let inventory = format!(
        "[farm]\nname = {markup}\nmatrix = \"ras-19\"\n\
         [[host]]\nname = {markup}\naddresses = [\"10.1.0.10\"]\nroles = [\"broker\"]\n\
         [[host]]\nname = {turned}\naddresses = [\"10.1.0.30\"]\nroles = [\"rdsh-agent\"]\n\
         [[network]]\nname = {markup}\ncidr = \"10.1.9.0/24\"\nroles = [\"parallels-client\"]\n\
         [[host]]\nname = \"dc1\"\naddresses = [\"10.1.0.20\"]\nroles = [\"ad-dc\"]\n"
    );
    let mut wire = Wire::default();
    wire.connect(0, ("10.1.0.30", 50_000), ("10.1.0.10", 9100));
    wire.connect(10, ("10.1.9.5", 50_000), ("10.1.0.10", 20_002));
    wire.knock(20, ("10.1.0.30", 50_001), ("10.1.0.10", 20_003));
    for (number, name) in [MARKUP, TURNED].into_iter().enumerate() {
        let ms = 1000 * number as u64 + 100;
        let outside = format!("203.0.113.{}", 10 + number);
        let label: String = name.chars().filter(|c| *c != '.').take(60).collect();
        wire.lookup(ms, "10.1.0.30", "10.1.0.20", &[&label], &outside);
        let hello = client_hello(name, false, 0);
        wire.start(ms + 100, ("10.1.0.30", 50_100 + number as u16), (&outside, 443), &hello, 2000);
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        let request = request.as_bytes();
        wire.start(ms + 200, ("10.1.0.30", 51_000 + number as u16), (&outside, 80), request, 2000);
    }
    let site = Site::new(&inventory, &wire);
    let cell = format!("\"{MARKUP}\"");
    let list = format!(
        "id,from,to,transport,port,direction,owner,reason,approved_by,created,expires\n\
         {cell},10.7.7.7,10.7.7.8,tcp,1,to-server,{cell},{cell},{cell},2020-01-01,2020-02-01\n"
    );
    fs::write(site.folder.path().join("exceptions.csv"), list).expect("writable");
    site
}

/// The roles of the hosts of a farm, with their shares of the hosts in percent.
const SHARES: [(&str, usize); 16] = [
    ("rdsh-agent", 50),
    ("guest-agent", 20),
    ("remote-pc-agent", 5),
    ("gateway-normal", 6),
    ("broker", 3),
    ("provider-agent", 3),
    ("ad-dc", 2),
    ("halb", 2),
    ("enrollment-server", 1),
    ("certificate-authority", 1),
    ("web-admin", 1),
    ("console\", \"powershell", 2),
    ("mfa-server", 1),
    ("sql-server", 1),
    ("performance-monitor", 1),
    ("ras-reporting\", \"ssrs", 1),
];

/// Returns a farm of this many hosts with the usual traffic and some traffic that causes findings.
fn farm_of(size: usize) -> Site {
    let mut list = Vec::new();
    for (number, (roles, share)) in SHARES.iter().enumerate().rev() {
        let count = match number {
            0 => size - list.len(),
            _ => 1.max(size * share / 100),
        };
        let count = count.min(size - list.len() - number.min(size));
        list.extend((0..count).map(|n| (*roles, n)));
    }
    let mut inventory = format!(
        "[farm]\nname = \"Farm of {size} hosts\"\nmatrix = \"ras-19\"\n[farm.features]\nssl = true\navd = false\n\
         [capture]\ncovers = \"all\"\n\
         [[network]]\nname = \"office\"\ncidr = \"10.200.0.0/16\"\nroles = [\"parallels-client\", \"web-browser\"]\n\
         [[network]]\nname = \"branch\"\ncidr = \"10.201.0.0/16\"\nroles = [\"parallels-client\"]\n"
    );
    let mut of_role: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (number, (roles, n)) in list.iter().enumerate() {
        let address = format!("10.{}.{}.{}", 1 + number / 2500, number / 250, 1 + number % 250);
        let (first, _) = roles.split_once('"').unwrap_or((roles, ""));
        inventory += &format!(
            "[[host]]\nname = \"{first}-{:04}\"\naddresses = [\"{address}\"]\nroles = [\"{roles}\"]\n",
            n + 1
        );
        of_role.entry(first).or_default().push(address);
    }
    Site::new(&inventory, &farm_traffic(&of_role))
}

/// Returns the traffic of a farm. `of_role` contains the addresses of the hosts with each role.
fn farm_traffic(of_role: &BTreeMap<&str, Vec<String>>) -> Wire {
    let mut wire = Wire::default();
    let mut ms = 0;
    let mut connect = |wire: &mut Wire, from: &str, to: &str, port: u16| {
        ms += 15;
        wire.connect(ms, (from, 50_000), (to, port));
    };
    for (from, to, port) in [
        ("rdsh-agent", "broker", 20_003),
        ("remote-pc-agent", "broker", 20_003),
        ("provider-agent", "broker", 20_003),
        ("guest-agent", "provider-agent", 30_006),
        ("gateway-normal", "broker", 20_002),
        ("gateway-normal", "rdsh-agent", 3389),
        ("halb", "gateway-normal", 443),
        ("console", "broker", 20_002),
        ("web-admin", "broker", 20_002),
        ("broker", "ad-dc", 389),
        ("broker", "ad-dc", 88),
        ("broker", "enrollment-server", 30_030),
        ("ras-reporting", "sql-server", 1433),
    ] {
        for (number, client) in of_role[from].iter().enumerate() {
            let servers = &of_role[to];
            connect(&mut wire, client, &servers[number % servers.len()], port);
        }
    }
    let broker = &of_role["broker"][0];
    for number in 1..=20 {
        connect(&mut wire, &format!("10.200.0.{number}"), &of_role["halb"][0], 443);
        connect(&mut wire, &format!("10.201.0.{number}"), &of_role["gateway-normal"][0], 443);
    }
    connect(&mut wire, "203.0.113.66", broker, 20_002);
    for (number, agent) in of_role["rdsh-agent"].iter().enumerate() {
        if number % 7 == 0 {
            connect(&mut wire, agent, broker, 9000);
        }
        if number % 13 == 1 {
            connect(&mut wire, agent, &of_role["sql-server"][0], 1433);
        }
    }
    wire.knock(ms + 20, (&of_role["guest-agent"][0], 51_000), (broker, 30_006));
    wire
}

/// Returns a site whose findings do not fit on one page of the list: each of fifty session hosts,
/// which are in different networks, connects to a wrong port of each of fifty brokers.
fn large() -> Site {
    let named = |name: &str, second: u8| -> Vec<(String, String)> {
        (1..=50).map(|n| (format!("{name}{n}"), format!("10.{second}.{n}.1"))).collect()
    };
    let agents = named("rdsh", 1);
    let brokers = named("broker", 2);
    let mut wire = Wire::default();
    for (number, (agent, broker)) in
        agents.iter().flat_map(|a| brokers.iter().map(move |b| (&a.1, &b.1))).enumerate()
    {
        wire.connect(number as u64 * 20, (agent, 50_000), (broker, 9000));
    }
    let list = agents.iter().map(|(n, a)| (n.as_str(), a.as_str(), "rdsh-agent"));
    let list: Vec<_> =
        list.chain(brokers.iter().map(|(n, a)| (n.as_str(), a.as_str(), "broker"))).collect();
    Site::new(&format!("[farm]\nmatrix = \"ras-19\"\n{}", hosts(&list)), &wire)
}
