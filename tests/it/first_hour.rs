//! Tests what a new user sees in the first hour on a real network, and that a failure does not look
//! like success.

use crate::support;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::wire::Wire;
use crate::support::{Records, Site, columns, fixture, rasaudit, stderr, stdout};

const FARM: &str = r#"
[farm]
name = "Farm"
matrix = "ras-19"
[farm.features]
ssl = true
rdp-udp = true
web-client = true
[[host]]
name = "broker1"
addresses = ["10.1.0.10"]
roles = ["broker"]
[[host]]
name = "gw1"
addresses = ["10.1.0.20"]
roles = ["gateway-normal"]
[[host]]
name = "rdsh1"
addresses = ["10.1.0.30"]
roles = ["rdsh-agent"]
[[network]]
name = "office"
cidr = "10.1.9.0/24"
roles = ["parallels-client"]
"#;

/// Returns three minutes of the farm's steady traffic.
fn steady() -> Wire {
    let mut wire = Wire::default();
    for minute in 0..3 {
        wire.connect(minute * 60_000, ("10.1.0.30", 50_000 + minute as u16), ("10.1.0.10", 20_003));
        wire.connect(minute * 60_000, ("10.1.0.20", 50_000 + minute as u16), ("10.1.0.10", 20_002));
    }
    wire
}

fn summary(site: &Site, more: &[&str]) -> (Option<i32>, String) {
    let run = site.run(more);
    (run.status.code(), stdout(&run))
}

/// Returns the findings above info with their severity, code, ends, port, grouped clients and
/// servers, explanation, ID, and change since the earlier audit.
fn findings(site: &Site, more: &[&str]) -> Vec<Vec<String>> {
    let csv = stdout(&site.run(&[&["--format", "csv"], more].concat()));
    let rows = columns(
        &csv,
        &[
            "severity",
            "code",
            "client",
            "server",
            "port",
            "clients",
            "servers",
            "explained_by",
            "id",
            "since",
        ],
    );
    rows.into_iter().filter(|row| row[0] != "info").collect()
}

/// A link of a group can show only the later fragments.
#[test]
fn fragments_that_belong_to_no_conversation_are_named() {
    let mut wire = steady();
    for ms in [8_000, 8_001] {
        wire.ip(ms, "10.1.0.30", "10.1.0.99", 6, &[7; 40]);
        let (_, frame) = wire.0.last_mut().expect("a frame");
        frame[18..22].copy_from_slice(&[0, ms as u8, 0, 185]);
    }
    let shown = summary(&Site::new(FARM, &wire), &[]).1;
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("2 later fragments have no first fragment in the capture"), "{shown}");
    assert!(shown.contains("to no conversation: 10.1.0.30 > 10.1.0.99"), "{shown}");
}

/// A capture that was renamed while it grew is not the same input.
#[test]
fn a_capture_that_begins_like_a_longer_one_is_named() {
    let mut wire = steady();
    let site = Site::new(FARM, &wire);
    let part = site.folder.path().join("part.pcap");
    wire.0.truncate(20);
    fs::write(&part, wire.file()).expect("writable");
    let named = summary(&site, &[part.to_str().expect("UTF-8")]).1;
    assert!(named.contains("part.pcap begins at the same time as"), "{named}");
    assert!(
        named.contains("if it is an earlier state of the same capture, leave it out"),
        "{named}"
    );
    wire.0.remove(0);
    wire.0.iter_mut().for_each(|(ms, _)| *ms += 1);
    fs::write(&part, wire.file()).expect("writable");
    let named = summary(&site, &[part.to_str().expect("UTF-8")]).1;
    assert!(!named.contains("begins at the same time"), "{named}");
}

/// A Kerberos ticket is valid for ten hours by default.
#[test]
fn a_host_with_valid_tickets_need_not_ask_for_new_ones() {
    let farm = format!(
        "{FARM}[[host]]\nname = \"dc1\"\naddresses = [\"10.1.0.5\"]\nroles = [\"ad-dc\"]\n[capture]\ncovers = \"all\"\n"
    );
    let certain = |hours: u64, more: &[&str]| {
        let mut wire = Wire::default();
        for slot in 0..hours * 450 {
            let client = ("10.1.0.10", 50_000 + (slot % 10_000) as u16);
            wire.connect(slot * 8_000, client, ("10.1.0.5", 389));
        }
        let site = Site::new(&farm, &wire);
        let csv = stdout(&site.run(&[&["--format", "csv"], more].concat()));
        let rows = columns(&csv, &["code", "port", "certain", "doubt"]);
        let mut rows = rows.into_iter().filter(|row| row[0] == "never-attempted");
        let row = rows.find(|row| row[1] == "88").expect("no tickets were requested");
        row[2..].join(" ")
    };
    assert_eq!(certain(1, &[]), "no row");
    assert_eq!(certain(11, &[]), "yes ");
    assert_eq!(certain(1, &["--min-watch", "10m"]), "yes ");
}

// Tests of features that the inventory does not mention.

#[test]
fn a_feature_that_is_usually_off_and_that_nobody_named_is_a_finding() {
    let mut wire = steady();
    wire.connect(1_000, ("10.1.9.7", 51_000), ("10.1.0.30", 3389));
    let site = Site::new(FARM, &wire);
    let found = findings(&site, &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0][0].as_str(), found[0][1].as_str()), ("low", "feature-unstated"));
    // If the inventory mentions the feature, the code is not `feature-unstated`, and the column
    // `unstated_feature` is empty.
    for (state, codes) in [("true", vec![]), ("false", vec!["feature-off"])] {
        let named = FARM.replace("ssl = true", &format!("ssl = true\ndirect-mode = {state}"));
        let site = Site::new(&named, &wire);
        let found: Vec<String> =
            findings(&site, &[]).into_iter().map(|row| row[1].clone()).collect();
        assert_eq!(found, codes);
        let rows = columns(&site.report("conversations"), &["port", "unstated_feature"]);
        assert!(rows.iter().all(|row| row[1].is_empty()), "{rows:?}");
    }
}

#[test]
fn a_feature_that_is_usually_on_and_that_nobody_named_is_told_and_no_finding() {
    let mut wire = steady();
    wire.connect(1_000, ("10.1.9.7", 51_000), ("10.1.0.20", 443));
    let site = Site::new(&FARM.replace("ssl = true\n", ""), &wire);
    assert!(findings(&site, &[]).is_empty());
    let (_, text) = summary(&site, &[]);
    assert!(text.contains("Features") && text.contains("ssl (1 conversation)"), "{text}");
    let rows = columns(&site.report("conversations"), &["port", "unstated_feature"]);
    assert!(rows.contains(&vec!["443".to_owned(), "ssl".to_owned()]), "{rows:?}");
    let (_, text) = summary(&Site::new(FARM, &wire), &[]);
    assert!(!text.contains("Features"), "{text}");
}

// Tests of exceptions.

const HEADER: &str = "id,from,to,transport,port,direction,owner,reason,approved_by,created,expires";

fn list(site: &Site, lines: &[&str]) -> String {
    let path = site.folder.path().join("exceptions.csv");
    fs::write(&path, format!("{HEADER}\n{}\n", lines.join("\n"))).expect("writable");
    path.display().to_string()
}

#[test]
fn a_template_excepts_who_was_seen_and_no_network() {
    let mut wire = steady();
    wire.connect(1_000, ("10.1.9.7", 51_000), ("10.1.0.10", 9100));
    wire.connect(2_000, ("10.1.9.8", 51_000), ("10.1.0.10", 9100));
    wire.connect(3_000, ("10.1.0.30", 51_000), ("10.1.0.20", 9100));
    let site = Site::new(FARM, &wire);
    let path = site.folder.path().join("findings.csv");
    fs::write(&path, site.report("csv")).expect("writable");
    let run = rasaudit(["exceptions", "template", "--from", &path.display().to_string()]);
    let text: String =
        stdout(&run).lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n")).collect();
    let rows = columns(&text, &["from", "to", "port", "reason"]);
    let ends: Vec<_> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(ends, [("10.1.9.7", "broker1"), ("10.1.9.8", "broker1"), ("rdsh1", "gw1")]);
}

#[test]
fn a_check_asks_what_an_auditor_would_ask() {
    let site = Site::new(FARM, &steady());
    let check = |line: &str| {
        let path = list(&site, &[line]);
        let run =
            rasaudit(["exceptions", "check", &path, "-i", &site.inventory.display().to_string()]);
        (run.status.code(), stderr(&run))
    };
    let sound = "a,office,broker1,tcp,9100,,ops,monitoring,alice,2026-01-01,2026-12-31";
    assert_eq!(check(sound), (Some(0), String::new()));
    for (line, what) in [
        (
            sound.replace("office,broker1,tcp,9100", "*,*,*,*"),
            "every host to reach every port of every host",
        ),
        (
            sound.replace("office,broker1,tcp,9100", "*,broker1,tcp,*"),
            "every port and, on one side, every host",
        ),
        (
            sound.replace("ops,monitoring,alice", "Alice,monitoring,alice "),
            "as both owner and approver",
        ),
        (sound.replace("2026-12-31", "2027-01-02"), "more than a year"),
        (sound.replace("monitoring", "TO BE FILLED IN: x"), "reason from the template"),
    ] {
        let (code, err) = check(&line);
        assert!(code == Some(0) && err.contains("warning") && err.contains(what), "{line}: {err}");
    }
    // Exactly one year is accepted.
    assert_eq!(check(&sound.replace("2026-12-31", "2027-01-01")).1, "");
}

#[test]
fn what_only_exceptions_allow_is_no_agreement_with_the_matrix() {
    let mut wire = steady();
    wire.connect(1_000, ("10.1.9.7", 51_000), ("10.1.0.10", 9100));
    let site = Site::new(FARM, &wire);
    let line = "mon,office,broker1,tcp,9100,,ops,monitoring,alice,CREATED,2099-01-01";
    let early = list(&site, &[&line.replace("CREATED", "2026-01-01")]);
    let (_, text) = summary(&site, &["--exceptions", &early]);
    let first = text.lines().next().expect("a headline");
    assert!(!first.contains("agrees"), "{first}");
    assert!(first.contains("1 conversation that is permitted only by an exception"), "{first}");
    assert!(!text.contains("was created on"), "{text}");
    // An exception that was created after the end of the traffic is reported.
    let late = list(&site, &[&line.replace("CREATED", "2098-01-01")]);
    let (_, text) = summary(&site, &["--exceptions", &late]);
    assert!(
        text.contains("exception mon was created on 2098-01-01, after the end of 1 conversation"),
        "{text}"
    );
}

#[test]
fn growth_is_new_where_it_matters() {
    let known = |wire: &Wire, before: &Site, now: &str| {
        let path = before.folder.path().join("known.csv");
        fs::write(&path, before.report("csv")).expect("writable");
        let site = Site::new(now, wire);
        let run = site.run(&[
            "--format",
            "csv",
            "--known",
            &path.display().to_string(),
            "--fail-on",
            "new",
        ]);
        let rows = columns(&stdout(&run), &["severity", "since"]);
        let since: Vec<String> =
            rows.into_iter().filter(|row| row[0] != "info").map(|row| row[1].clone()).collect();
        (since, run.status.code())
    };
    let offender = |wire: &mut Wire, client: &str| {
        wire.connect(1_000, (client, 51_000), ("10.1.0.10", 9100));
    };
    let mut one = steady();
    offender(&mut one, "10.1.9.7");
    let before = Site::new(FARM, &one);
    assert_eq!(known(&one, &before, FARM), (vec!["known".to_owned()], Some(0)));
    // If a finding about one client becomes one about several, it is new.
    let mut two = steady();
    ["10.1.9.7", "10.1.9.8"].iter().for_each(|client| offender(&mut two, client));
    assert_eq!(known(&two, &before, FARM), (vec!["new".to_owned()], Some(1)));
    // Additional clients in the network of a known finding are reported, but the finding is not
    // new.
    let mut three = steady();
    ["10.1.9.7", "10.1.9.8", "10.1.9.9"].iter().for_each(|client| offender(&mut three, client));
    let several = Site::new(FARM, &two);
    assert_eq!(known(&three, &several, FARM), (vec!["known".to_owned()], Some(0)));
    let path = several.folder.path().join("known.csv").display().to_string();
    let (_, text) = summary(&Site::new(FARM, &three), &["--known", &path]);
    assert!(text.contains("1 still there (1 with new unlisted clients)"), "{text}");
    // An established connection is worse than the attempt in the known finding, so its finding is
    // new.
    let mut tried = steady();
    tried.knock(1_000, ("10.1.9.7", 51_000), ("10.1.0.10", 9100));
    assert_eq!(known(&one, &Site::new(FARM, &tried), FARM).0, ["new"]);
    // Files with the columns and IDs of an earlier version are also accepted.
    let old: String = before
        .report("csv")
        .lines()
        .map(|line| line.replacen("f-", "", 1) + "\r\n")
        .collect::<String>()
        .replace(",clients,servers,explained_by", "");
    let old: String = old.lines().map(|line| line.to_owned() + "\r\n").collect();
    let path = before.folder.path().join("old.csv");
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(old.as_bytes());
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = reader.headers().expect("a header").clone();
    writer.write_record(&header).expect("memory");
    for record in reader.records() {
        writer.write_record(record.expect("a row").iter().take(header.len())).expect("memory");
    }
    fs::write(&path, writer.into_inner().expect("memory")).expect("writable");
    let run = before.run(&["--known", &path.display().to_string(), "--fail-on", "new"]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
}

// Tests of audits that did not check anything.

#[test]
fn an_audit_that_checked_nothing_can_fail() {
    let elsewhere = FARM.replace("10.1.0.", "10.99.0.").replace("10.1.9.", "10.99.9.");
    let site = Site::new(&elsewhere, &steady());
    let (code, text) = summary(&site, &[]);
    assert!(code == Some(0) && text.starts_with("Nothing could be assessed"), "{text}");
    for (more, expected) in [
        (&["--fail-on", "never"][..], 0),
        (&["--fail-on", "high"], 4),
        (&["--require-assessed"], 4),
        (&["--require-assessed", "--fail-on", "never"], 4),
    ] {
        let out = site.folder.path().join("report");
        let place = out.display().to_string();
        let more = [more, &["--out", &place]].concat();
        let (code, _) = summary(&site, &more);
        assert_eq!(code, Some(expected), "{more:?}");
        // The reports are still written, and they give the reason.
        let json = fs::read_to_string(out.join("audit.json")).expect("a report");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["exit_reasons"].to_string().contains("nothing was checked"), expected == 4);
    }
    // Exit code 3 takes precedence over 4.
    let cut = site.folder.path().join("cut.pcap");
    let bytes = fs::read(&site.capture).expect("the capture");
    fs::write(&cut, &bytes[..bytes.len() - 7]).expect("writable");
    let cut = cut.display().to_string();
    let inventory = site.inventory.display().to_string();
    let run = rasaudit(["audit", &cut, "-i", &inventory, "--require-assessed"]);
    assert_eq!(run.status.code(), Some(3));
    // An audit that checked hosts succeeds.
    let (code, _) =
        summary(&Site::new(FARM, &steady()), &["--require-assessed", "--fail-on", "high"]);
    assert_eq!(code, Some(0));
    // Without an inventory, the summary explains how to create one.
    let run = rasaudit(["audit", &site.capture.display().to_string()]);
    assert!(stdout(&run).contains("rasaudit inventory draft"), "{}", stdout(&run));
}

// Tests of numbers and IDs.

#[test]
fn the_headline_counts_what_the_file_holds() {
    for name in ["farm-codes", "farm-faults", "farm-domain", "decode-mix"] {
        let case = support::FIXTURES.iter().find(|case| case.name == name).expect("a fixture");
        let text = stdout(&rasaudit(case.arguments()));
        let csv =
            stdout(&rasaudit([case.arguments(), vec!["--format".into(), "csv".into()]].concat()));
        let rows = columns(&csv, &["id", "severity"]);
        let info = rows.iter().filter(|row| row[1] == "info").count();
        let first = text.lines().next().expect("a headline");
        assert!(first.starts_with(&format!("{} finding", rows.len() - info)), "{name}: {first}");
        let more = format!("{info} more with severity info");
        assert_eq!(first.contains(&more), info > 0, "{name}: {first}");
        // Because of the prefix, spreadsheets do not interpret an ID as a number.
        assert!(rows.iter().all(|row| row[0].starts_with("f-") && row[0].len() == 14), "{rows:?}");
    }
}

// Tests of findings that explain others.

#[test]
fn an_address_that_does_what_an_unseen_host_should_do_explains_what_follows() {
    let moved = FARM.replace("10.1.0.10", "10.1.0.99");
    let site = Site::new(&moved, &steady());
    let found = findings(&site, &[]);
    let cause = found.iter().find(|row| row[1] == "role-mismatch").expect("a cause");
    assert_eq!((cause[2].as_str(), cause[7].as_str()), ("10.1.0.10", ""));
    let others: Vec<_> = found.iter().filter(|row| row[1] != "role-mismatch").collect();
    assert!(others.len() >= 2 && others.iter().all(|row| row[7] == cause[8]), "{found:?}");
    let (_, text) = summary(&site, &[]);
    let asked = "broker1 was never seen: are they the same host?";
    let shown: Vec<_> = text.lines().filter(|line| line.contains("/")).collect();
    assert!(text.contains(asked) && text.contains("would explain"), "{text}");
    let first = shown.iter().find(|line| line.contains(" f-")).expect("a finding");
    assert!(first.contains("role-mismatch"), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("unknown-host")).count(), 0, "{text}");
    // If the broker has its listed address, no host is missing.
    assert!(findings(&Site::new(FARM, &steady()), &[]).is_empty());
    // Listing a network without roles does not make its addresses known.
    let network = "\n[[network]]\nname = \"others\"\ncidr = \"10.1.0.0/28\"\nroles = []\n";
    let found = findings(&Site::new(&format!("{moved}{network}"), &steady()), &[]);
    assert!(
        found.iter().any(|row| row[1] == "role-mismatch" && row[2].contains("10.1.0.10")),
        "{found:?}"
    );
}

#[test]
fn attempts_on_many_hosts_are_told_as_one_and_what_answered_for_itself() {
    let scan = |targets: u8| {
        let mut wire = steady();
        for host in 0..targets {
            wire.knock(
                1_000 + u64::from(host),
                ("10.1.9.7", 51_000),
                (&format!("10.1.0.{}", 100 + host), 23),
            );
        }
        wire.connect(5_000, ("10.1.9.7", 52_000), ("10.1.0.200", 23));
        Site::new(FARM, &wire)
    };
    let site = scan(12);
    let found = findings(&site, &[]);
    assert_eq!(found.len(), 13, "{found:?}");
    let first =
        found.iter().find(|row| found.iter().any(|other| other[7] == row[8])).expect("a first");
    let under = found.iter().filter(|row| row[7] == first[8]).count();
    assert_eq!(under, 11);
    let answered = found.iter().find(|row| row[3] == "10.1.0.200").expect("what answered");
    assert_eq!(answered[7], "");
    let (_, text) = summary(&site, &[]);
    assert!(
        text.contains("made the same attempt on 12 servers, and all attempts failed"),
        "{text}"
    );
    // With nine servers, each finding is reported separately.
    assert!(findings(&scan(9), &[]).iter().all(|row| row[7].is_empty()));
}

#[test]
fn a_listed_client_from_outside_is_a_warning() {
    let listed = format!(
        "{FARM}\n[[host]]\nname = \"home\"\naddresses = [\"203.0.113.5\"]\nroles = [\"parallels-client\"]\n"
    );
    let mut wire = steady();
    wire.connect(1_000, ("203.0.113.5", 51_000), ("10.1.0.10", 20_002));
    let site = Site::new(&listed, &wire);
    let codes: Vec<String> = findings(&site, &[]).into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(codes, ["wrong-source"]);
    let (_, text) = summary(&site, &[]);
    assert!(text.contains("outside all internal prefixes: home (203.0.113.5)"), "{text}");
    let check = rasaudit(["inventory", "check", &site.inventory.display().to_string()]);
    assert!(check.status.success() && stderr(&check).contains("203.0.113.5 of home is outside"));
    // The finding about an unlisted client still has the code `exposed-internal`.
    let codes: Vec<String> =
        findings(&Site::new(FARM, &wire), &[]).into_iter().map(|r| r[1].clone()).collect();
    assert_eq!(codes, ["exposed-internal"]);
}

#[test]
fn addresses_outside_the_internal_prefixes_are_warned_about_only_ten_times() {
    let outside = |count: usize| {
        let host = |n: usize| {
            format!(
                "[[host]]\nname = \"out{n}\"\naddresses = [\"203.0.113.{n}\"]\nroles = [\"parallels-client\"]\n"
            )
        };
        let listed = format!("{FARM}\n{}", (1..=count).map(host).collect::<String>());
        let site = Site::new(&listed, &steady());
        stderr(&rasaudit(["inventory", "check", &site.inventory.display().to_string()]))
    };
    let told = outside(10);
    assert_eq!(told.matches("is outside all internal prefixes; if it is internal").count(), 10);
    assert!(!told.contains("more addresses"), "{told}");
    let told = outside(12);
    assert_eq!(told.lines().count(), 11, "{told}");
    assert!(
        told.trim_end().ends_with(": more addresses outside all internal prefixes: 2"),
        "{told}"
    );
}

// Tests of an overlay that the inventory does not mention.

#[test]
fn an_overlay_that_would_explain_findings_is_named_with_their_number() {
    let domain = fixture("farm-domain/inventory.toml");
    let text = fs::read_to_string(domain)
        .expect("the inventory")
        .replace("overlays = [\"windows-domain\"]\n", "");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let bare = scratch.path().join("bare.toml");
    fs::write(&bare, text).expect("writable");
    let capture = fixture("farm-domain/span.pcap").display().to_string();
    let told = |more: &[&str]| {
        let base = ["audit", &capture, "-i", &bare.display().to_string()].map(str::to_owned);
        let more = more.iter().map(|text| (*text).to_owned());
        stdout(&rasaudit(base.into_iter().chain(more).collect::<Vec<String>>()))
    };
    let without = told(&[]);
    assert!(without.contains("windows-domain would explain"), "{without}");
    let with = told(&["--overlay", "windows-domain"]);
    assert!(!with.contains("would explain"), "{with}");
    // The summary states how many findings the overlay would explain. Exactly that many disappear
    // with the overlay.
    let count = |text: &str| -> u64 {
        text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let explained = without.split("would explain ").nth(1).map(count).unwrap_or(0);
    assert_eq!(count(&without) - count(&with), explained, "{without}\n{with}");
}

// Tests of frames that were not decoded.

#[test]
fn frames_of_an_unknown_kind_are_told_by_number_name_and_count() {
    let mut wire = steady();
    for frame in 0..3 {
        wire.ether(1_000 + frame, 1, 2, 0x8915, &[0; 64]);
    }
    wire.ether(2_000, 1, 2, 0x1234, &[0; 64]);
    // The tunnel does not contain a valid packet.
    wire.ip(3_000, "10.1.0.10", "10.1.0.20", 47, &[0, 0, 0x08, 0x00, 0xff, 0xff, 0xff, 0xff]);
    let (_, text) = summary(&Site::new(FARM, &wire), &[]);
    for part in [
        "3 frames of EtherType 0x8915 (RoCE)",
        "1 frame of EtherType 0x1234",
        "1 frame of gre tunnels",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// Audits a copy of the capture whose bytes `change` has modified.
fn damaged(site: &Site, change: impl FnOnce(&mut Vec<u8>)) -> std::process::Output {
    let mut bytes = fs::read(&site.capture).expect("the capture");
    change(&mut bytes);
    let path = site.folder.path().join("damaged.pcap");
    fs::write(&path, bytes).expect("writable");
    let path = path.display().to_string();
    let inventory = site.inventory.display().to_string();
    rasaudit(["audit", &path, "-i", &inventory])
}

#[test]
fn zeros_in_the_place_of_records_are_zeros() {
    let site = Site::new(FARM, &steady());
    let records = Records::read(&site.capture);
    let whole = records.records.len();
    let (_, plain) = summary(&site, &[]);
    let frames = format!("{whole} frames in 1 input");
    assert!(plain.contains(&frames));
    // After a crash, file systems may leave any number of zero bytes at the end of a file.
    for zeros in [16, 17, 100, 4096, 1 << 20] {
        let run = damaged(&site, |bytes| bytes.extend(vec![0; zeros]));
        let text = stdout(&run);
        assert!(text.contains(&frames) && !text.contains("1970"), "{zeros}: {text}");
        assert_eq!(run.status.code(), Some(3), "{zeros}");
        assert!(
            stderr(&run).contains(&format!("{zeros} bytes of zeros")),
            "{zeros}: {}",
            stderr(&run)
        );
    }
    // If zero bytes separate two records, the records after the gap are read.
    let start: usize = 24 + records.records[..whole / 2].iter().map(Vec::len).sum::<usize>();
    for zeros in [512, 1000, 300_001] {
        let run = damaged(&site, |bytes| {
            bytes.splice(start..start, vec![0; zeros]);
        });
        let text = stdout(&run);
        assert!(
            text.contains(&frames) && !text.contains("1970"),
            "{zeros}: {text} {}",
            stderr(&run)
        );
        assert_eq!(run.status.code(), Some(3));
    }
    // Data that is not a record follows the zero bytes.
    let run = damaged(&site, |bytes| {
        bytes.truncate(start);
        bytes.extend(vec![0; 512]);
        bytes.extend(vec![0xee; 4096]);
    });
    assert_eq!(run.status.code(), Some(3));
    assert!(stderr(&run).contains("no record follows the zeros"), "{}", stderr(&run));
}

#[test]
fn files_of_old_libpcap_have_their_lengths_the_other_way_round() {
    let site = Site::new(FARM, &steady());
    let (_, plain) = summary(&site, &[]);
    for (version, swapped) in
        [([2u16, 2], true), ([543, 0], true), ([2, 3], true), ([2, 3], false), ([2, 4], false)]
    {
        let run = damaged(&site, |bytes| {
            bytes[4..6].copy_from_slice(&version[0].to_le_bytes());
            bytes[6..8].copy_from_slice(&version[1].to_le_bytes());
            let mut at = 24;
            while at < bytes.len() {
                let length =
                    u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("four")) as usize;
                // The last four bytes of each frame were not captured.
                let wire = (length as u32 + 4).to_le_bytes();
                let kept = (length as u32).to_le_bytes();
                let (first, second) = if swapped { (wire, kept) } else { (kept, wire) };
                bytes[at + 8..at + 12].copy_from_slice(&first);
                bytes[at + 12..at + 16].copy_from_slice(&second);
                at += 16 + length;
            }
        });
        let text = stdout(&run);
        assert!(run.status.code() != Some(3), "{version:?} {swapped}: {}", stderr(&run));
        let frames = plain.lines().find(|line| line.starts_with("Frames")).expect("a line");
        assert!(text.contains(frames), "{version:?} {swapped}: {text}");
    }
}

#[test]
fn legacy_lz4_is_read() {
    let site = Site::new(FARM, &steady());
    let (_, plain) = summary(&site, &[]);
    let bytes = fs::read(&site.capture).expect("the capture");
    // Two concatenated frames of one block each (lz4_Frame_format.md, "Legacy frame").
    let mut packed = Vec::new();
    for part in [&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]] {
        let block = lz4_flex::block::compress(part);
        packed.extend(b"\x02\x21\x4c\x18");
        packed.extend((block.len() as u32).to_le_bytes());
        packed.extend(block);
    }
    let run = damaged(&site, |all| *all = packed.clone());
    let line = |text: &str| text.lines().find(|l| l.starts_with("Frames")).map(str::to_owned);
    assert_eq!(line(&stdout(&run)), line(&plain), "{}", stderr(&run));
    // A block with an impossible length is damage and does not cause an allocation.
    packed[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let run = damaged(&site, |all| *all = packed);
    assert_eq!(run.status.code(), Some(3));
    let printed = stderr(&run);
    assert!(printed.contains("claims an impossible length of 4294967295 bytes"), "{printed}");
}

#[test]
fn drop_counters_that_cannot_be_true_are_told_and_not_believed() {
    let site = Site::new(FARM, &steady());
    let records = Records::read(&site.capture);
    let block = |kind: u32, body: &[u8]| {
        let length = (12 + body.len()) as u32;
        [&kind.to_le_bytes()[..], &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
    };
    let mut file = block(
        0x0a0d_0d0a,
        &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
    );
    file.extend(block(1, &[1, 0, 0, 0, 0, 0, 4, 0]));
    for record in &records.records {
        let micros = u64::from(u32::from_le_bytes(record[..4].try_into().expect("four")))
            * 1_000_000
            + u64::from(u32::from_le_bytes(record[4..8].try_into().expect("four")));
        let mut body = 0u32.to_le_bytes().to_vec();
        body.extend(((micros >> 32) as u32).to_le_bytes());
        body.extend((micros as u32).to_le_bytes());
        body.extend(&record[8..16]);
        body.extend(&record[16..]);
        body.resize(body.len().next_multiple_of(4), 0);
        file.extend(block(6, &body));
    }
    for (count, told) in [(u64::MAX, true), (u64::from(u32::MAX), true), (3, false)] {
        let mut statistics = vec![0; 12];
        statistics.extend([5, 0, 8, 0]);
        statistics.extend(count.to_le_bytes());
        let file = [&file[..], &block(5, &statistics)].concat();
        let run = damaged(&site, |all| *all = file);
        let text = stdout(&run);
        assert_eq!(text.contains("1 drop counter with impossible values"), told, "{count}: {text}");
        let loss = text.lines().find(|line| line.starts_with("Loss")).expect("a line");
        assert_eq!(loss.contains("3 dropped"), !told, "{count}: {loss}");
    }
}

#[test]
fn wlan_frames_that_a_capture_calls_ethernet_are_told_as_that() {
    // An unencrypted 802.11 data frame, as pktmon writes it.
    let mut frame = vec![0x88, 0x01, 0, 0];
    frame.extend([[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]].concat());
    frame.extend([0x10, 0, 0, 0, 0xaa, 0xaa, 3, 0, 0, 0, 0x08, 0x00]);
    frame.extend([0x45; 40]);
    let mut wire = steady();
    let at = wire.0.len();
    wire.ether(5_000, 1, 2, 0, &[]);
    wire.0[at].1 = frame;
    let (_, text) = summary(&Site::new(FARM, &wire), &[]);
    assert!(
        text.contains("1 frame of IEEE 802.11 in a capture that is labelled as Ethernet"),
        "{text}"
    );
}

// Tests of reports that replace earlier ones.

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Returns whether all files of a report match its manifest.
fn is_whole(folder: &Path) -> bool {
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--quiet", "manifest.sha256"]).current_dir(folder);
    check.stdout(Stdio::null()).stderr(Stdio::null());
    check.status().expect("sha256sum runs").success()
}

/// If a run is killed while its report replaces an older one, the folder contains either the
/// complete old report or the complete new one.
#[test]
fn a_killed_run_leaves_the_old_report_or_the_new_one() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report");
    let case = support::FIXTURES.iter().find(|case| case.name == "farm-codes").expect("a fixture");
    let arguments =
        [case.arguments(), vec!["--out".into(), out.display().to_string(), "-q".into()]].concat();
    rasaudit(&arguments);
    assert!(is_whole(&out));
    let mut killed = 0;
    for delay in (0..60).map(|step| 2 * step) {
        let mut run = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
            .args(&arguments)
            .spawn()
            .expect("it starts");
        std::thread::sleep(std::time::Duration::from_millis(delay));
        run.kill().expect("it was started here");
        killed += usize::from(run.wait().expect("it ended").signal().is_some());
        assert!(is_whole(&out), "after {delay} ms: {:?}", names(&out));
        assert_eq!(names(&out).len(), 8, "after {delay} ms");
    }
    assert!(killed > 0);
}

#[test]
fn files_of_others_stay_and_a_torn_report_is_refused() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let real = scratch.path().join("real");
    fs::create_dir(&real).expect("writable");
    fs::write(real.join("notes.txt"), "mine").expect("writable");
    let link = scratch.path().join("link");
    std::os::unix::fs::symlink(&real, &link).expect("writable");
    let case = support::FIXTURES.iter().find(|case| case.name == "farm-faults").expect("a fixture");
    for out in [&real, &link] {
        for _ in 0..2 {
            let run = rasaudit(
                [case.arguments(), vec!["--out".into(), out.display().to_string()]].concat(),
            );
            assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
            assert!(is_whole(out));
            assert_eq!(fs::read_to_string(real.join("notes.txt")).expect("unchanged"), "mine");
            assert_eq!(names(&real).len(), 9);
        }
    }
    assert!(link.is_symlink());
    // A file that does not match the manifest is not accepted as an earlier audit.
    let findings = real.join("findings.csv");
    let mut text = fs::read_to_string(&findings).expect("a report");
    text.push_str("\r\n");
    fs::write(&findings, text).expect("writable");
    let findings = findings.display().to_string();
    let known = rasaudit([case.arguments(), vec!["--known".into(), findings.clone()]].concat());
    assert_eq!(known.status.code(), Some(2));
    assert!(stderr(&known).contains("manifest.sha256"), "{}", stderr(&known));
    let template = rasaudit(["exceptions", "template", "--from", &findings]);
    assert_eq!(template.status.code(), Some(2));
}

// Tests of encodings and wording.

#[test]
fn files_are_read_as_windows_writes_them() {
    let site = Site::new(FARM, &steady());
    let plain = site.report("conversations");
    let wide = |text: &str, mark: bool| -> Vec<u8> {
        let mark = if mark { "\u{feff}" } else { "" };
        format!("{mark}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    let path = site.folder.path().join("windows.toml");
    let capture = site.capture.display().to_string();
    let text = FARM.trim_start().replace('\n', "\r\n");
    for bytes in [wide(&text, true), wide(&text, false), format!("\u{feff}{text}").into_bytes()] {
        fs::write(&path, bytes).expect("writable");
        let run = rasaudit([
            "audit",
            &capture,
            "-i",
            &path.display().to_string(),
            "--format",
            "conversations",
        ]);
        assert_eq!(stdout(&run), plain, "{}", stderr(&run));
    }
    // The same applies to exceptions from a spreadsheet.
    let list =
        format!("{HEADER}\r\na,office,broker1,tcp,9100,,ops,why,alice,2026-01-01,2026-12-31\r\n");
    let path = site.folder.path().join("list.csv");
    fs::write(&path, wide(&list, true)).expect("writable");
    let inventory = site.inventory.display().to_string();
    let run = rasaudit(["exceptions", "check", &path.display().to_string(), "-i", &inventory]);
    assert!(run.status.success() && stdout(&run).contains("exceptions: 1"), "{}", stderr(&run));
}

#[test]
fn roles_are_called_as_people_call_them() {
    for (name, slug) in [
        ("CA", "certificate-authority"),
        ("PKI", "certificate-authority"),
        ("RDSH", "rdsh-agent"),
        ("RADIUS", "mfa-server"),
        ("NPS", "mfa-server"),
        ("ESXi", "vmware"),
        ("vCenter", "vmware"),
        ("thin client", "parallels-client"),
        ("Domain Controller", "ad-dc"),
        ("domain-controller", "ad-dc"),
    ] {
        let inventory = FARM.replace("roles = [\"broker\"]", &format!("roles = [\"{name}\"]"));
        let rows = columns(&Site::new(&inventory, &steady()).report("hosts"), &["name", "roles"]);
        assert!(rows.contains(&vec!["broker1".to_owned(), slug.to_owned()]), "{name}: {rows:?}");
    }
    // The role does not exist. The message names the command that lists the roles.
    let site = Site::new(&FARM.replace("[\"broker\"]", "[\"print server\"]"), &steady());
    let run = site.run::<&str>(&[]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("rasaudit matrix show --roles"), "{}", stderr(&run));
}

#[test]
fn a_wrong_file_is_named_with_what_belongs_there() {
    let site = Site::new(FARM, &steady());
    let capture = site.capture.display().to_string();
    let inventory = site.inventory.display().to_string();
    let folder = site.folder.path().display().to_string();
    let out = site.folder.path().join("out");
    let report =
        rasaudit(["audit", &capture, "-i", &inventory, "--out", &out.display().to_string()]);
    assert_eq!(report.status.code(), Some(0));
    let findings = out.join("findings.csv").display().to_string();
    for (arguments, what) in [
        (vec!["audit", &inventory, "-i", &capture], "is a pcap file, not an inventory"),
        (
            vec!["audit", &inventory],
            "it looks like an inventory; give it with --inventory, and pcap",
        ),
        (vec!["audit", &findings], "the findings.csv of an audit"),
        (vec!["audit", &capture, "-i", &folder], "is a folder"),
        (vec!["audit", &capture, "-i", &inventory, "--known", &folder], "contains no audit.json"),
        (
            vec!["audit", &capture, "-i", &inventory, "--exceptions", &capture],
            "not a list of exceptions",
        ),
    ] {
        let run = rasaudit(&arguments);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&run).contains(what), "{arguments:?}: {}", stderr(&run));
    }
}

/// A summary is never truncated, and names only files that were written.
#[test]
fn a_summary_says_everything_and_names_what_is_there() {
    let case = support::FIXTURES.iter().find(|case| case.name == "farm-codes").expect("a fixture");
    let text = stdout(&rasaudit(case.arguments()));
    assert!(!text.contains('…') && !text.contains("findings.csv"), "{text}");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("r").display().to_string();
    let text = stdout(&rasaudit([case.arguments(), vec!["--out".into(), out]].concat()));
    assert!(text.contains("; findings.csv lists all"), "{text}");
}

#[test]
fn an_explanation_needs_no_key() {
    let told = |from: &str, to: &str, port: &str| {
        stdout(&rasaudit(["explain", "--from", from, "--to", to, "--port", port]))
    };
    let doubtful = told("broker", "provider-agent", "135/tcp");
    assert!(
        doubtful.contains("The document is ambiguous") && !doubtful.contains("(U5)"),
        "{doubtful}"
    );
    let completed = told("parallels-client", "halb", "443/tcp");
    assert!(completed.contains("completed from other public pages of the vendor"), "{completed}");
    assert!(!completed.contains("completed-from-public-page"), "{completed}");
}

// Tests of memory limits.

/// Side evidence stays within its memory limit, and a reached limit is reported. The result does
/// not depend on the number of workers or on how the capture is split.
#[test]
fn what_does_not_fit_beside_the_flows_is_told_and_the_same_for_all_workers() {
    let mut wire = steady();
    for number in 0..20_000u32 {
        let [_, _, high, low] = number.to_be_bytes();
        let at = wire.0.len();
        wire.claim(1_000 + u64::from(number) / 10, "10.1.0.10", 7);
        // Each claim has a MAC address of its own, in the Ethernet header and in the ARP packet.
        for place in [9, 25] {
            wire.0[at].1[place..place + 2].copy_from_slice(&[high, low]);
        }
    }
    let site = Site::new(FARM, &wire);
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let files = Records::read(&site.capture).cut(scratch.path(), 7, &mut support::Random(5));
    let told = |captures: &[std::path::PathBuf], jobs: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
        command.arg("audit").args(captures).arg("-i").arg(&site.inventory);
        let run = command.args(["--jobs", jobs, "--max-memory", "1"]).output().expect("it runs");
        let text = stdout(&run);
        text.lines()
            .filter(|line| !line.starts_with("Capture"))
            .map(|l| format!("{l}\n"))
            .collect::<String>()
    };
    let whole = told(std::slice::from_ref(&site.capture), "1");
    assert!(whole.contains("Memory    --max-memory is too small for: address claims"), "{whole}");
    assert_eq!(told(&files, "1"), whole);
    assert_eq!(told(&files, "8"), whole);
    let (_, roomy) = summary(&site, &[]);
    assert!(!roomy.contains("Memory "), "{roomy}");
}

/// A PC that uses the same ports as every Windows host is not taken for a broker, even if the
/// broker was not seen, and does not hide any finding.
#[test]
fn what_everybody_does_on_a_windows_network_is_no_role() {
    let moved = FARM.replace("10.1.0.10", "10.1.0.99");
    let mut wire = Wire::default();
    for minute in 0..3 {
        wire.connect(minute * 60_000, ("10.1.0.50", 50_000), ("10.1.0.30", 445));
        wire.connect(minute * 60_000 + 10, ("10.1.0.30", 50_001), ("10.1.0.50", 445));
        // The port belongs to the product, but hosts with several roles connect to it.
        wire.connect(minute * 60_000 + 20, ("10.1.0.50", 50_002), ("10.1.0.30", 30_004));
    }
    let found = findings(&Site::new(&moved, &wire), &[]);
    assert!(found.iter().all(|row| row[1] == "unknown-host" && row[7].is_empty()), "{found:?}");
}

/// A finding that is more severe than the one that would explain it is reported separately, in the
/// summary and in a ticket.
#[test]
fn nothing_folds_under_what_weighs_less() {
    let case = support::FIXTURES.iter().find(|case| case.name == "farm-codes").expect("a fixture");
    let csv = stdout(&rasaudit([case.arguments(), vec!["--format".into(), "csv".into()]].concat()));
    let rows = columns(&csv, &["id", "severity", "explained_by"]);
    let weight =
        |word: &str| ["info", "low", "medium", "high", "critical"].iter().position(|w| *w == word);
    for row in rows.iter().filter(|row| !row[2].is_empty()) {
        let cause = rows.iter().find(|cause| cause[0] == row[2]).expect("a cause");
        assert!(weight(&row[1]) <= weight(&cause[1]), "{row:?} under {cause:?}");
    }
    // A ticket contains every finding above info, either separately or under the finding that
    // explains it.
    let ticket =
        stdout(&rasaudit([case.arguments(), vec!["--format".into(), "markdown".into()]].concat()));
    for row in rows.iter().filter(|row| row[1] != "info") {
        assert!(ticket.contains(&row[0]), "{row:?}");
    }
}

#[test]
fn a_report_that_is_not_whole_yet_is_refused() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report");
    let case = support::FIXTURES.iter().find(|case| case.name == "farm-faults").expect("a fixture");
    rasaudit([case.arguments(), vec!["--out".into(), out.display().to_string()]].concat());
    let findings = out.join("findings.csv").display().to_string();
    let known = || rasaudit([case.arguments(), vec!["--known".into(), findings.clone()]].concat());
    assert_eq!(known().status.code(), Some(1));
    // Another file of the report is missing.
    fs::rename(out.join("audit.json"), out.join("elsewhere")).expect("writable");
    assert_eq!(known().status.code(), Some(2));
    fs::rename(out.join("elsewhere"), out.join("audit.json")).expect("writable");
    // The manifest states that the report is incomplete, as after a run that was killed.
    fs::write(out.join("manifest.sha256"), "incomplete\n").expect("writable");
    assert_eq!(known().status.code(), Some(2));
    assert!(stderr(&known()).contains("incomplete"), "{}", stderr(&known()));
    // A pipe is accepted like any file.
    let copy = scratch.path().join("copy.csv");
    fs::copy(out.join("findings.csv"), &copy).expect("readable");
    let base = case.arguments().iter().map(|a| format!("'{a}'")).collect::<Vec<_>>().join(" ");
    let script =
        format!("'{}' {base} --known <(cat '{}')", env!("CARGO_BIN_EXE_rasaudit"), copy.display());
    let run = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    assert!(stdout(&run).contains("0 new, 3 still there, 0 gone"), "{}", stderr(&run));
}
