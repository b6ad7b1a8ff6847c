//! Tests that the reports state what an audit is based on: its options, its configuration file, its
//! rules and its baseline.

use std::fs;

use crate::support::wire::Wire;
use crate::support::{Site, hosts, rasaudit, stderr, stdout};

const HOSTS: &[(&str, &str, &str)] =
    &[("broker1", "10.1.0.10", "broker"), ("rdsh1", "10.1.0.30", "rdsh-agent")];

/// Returns a site with traffic on a port that is not in the matrix.
fn site() -> Site {
    let mut wire = Wire::default();
    wire.connect(0, ("10.1.0.30", 50_000), ("10.1.0.10", 9100));
    wire.connect(300, ("10.1.0.30", 50_002), ("10.1.0.10", 20_003));
    Site::new(&format!("[farm]\nmatrix = \"ras-19\"\n{}", hosts(HOSTS)), &wire)
}

/// Audits the site and returns standard output. Panics if the exit code is neither 0 nor 1.
fn report(site: &Site, more: &[&str]) -> String {
    let run = site.run(more);
    assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
    stdout(&run)
}

/// Returns whether one line of a text contains all parts.
fn has_line(text: &str, parts: &[&str]) -> bool {
    text.lines().any(|line| parts.iter().all(|part| line.contains(part)))
}

#[test]
fn options_that_change_the_verdict_are_in_every_report() {
    let site = site();
    let options = [
        "--severity=port-not-in-matrix=info",
        "--min-watch=60s",
        "--max-loss=5%",
        "--as-of=2026-12-01",
        "--no-decap",
    ];
    let words = [
        "port-not-in-matrix=info (instead of",
        "--min-watch 60 s (replaces the watch times of the rows)",
        "--max-loss 5 % (instead of 1 %)",
        "--as-of 2026-12-01 00:00:00 UTC (the time that the expiry dates of exceptions",
        "--no-decap (tunnels were audited instead of their contents)",
    ];
    for format in ["text", "markdown", "html"] {
        let all = report(&site, &[&["--format", format], &options[..]].concat());
        // The summary wraps long lines, so line breaks are replaced with spaces.
        let all = all.replace("<span class=\"date\">", "").replace("</span>", "");
        let all = all.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in words {
            assert!(all.contains(words), "{format}: {words}\n{all}");
        }
    }
    let json = report(&site, &[&["--format", "json"], &options[..]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let settings = json["settings"].as_array().expect("a list");
    let names: Vec<&str> = settings.iter().filter_map(|s| s["option"].as_str()).collect();
    assert_eq!(names, ["--severity", "--min-watch", "--max-loss", "--as-of", "--no-decap"]);
    assert!(settings.iter().all(|s| s["file"].is_null()));
    // Options with their default values are not listed.
    let usual = report(&site, &["--format", "json", "--max-loss", "1%"]);
    let usual: serde_json::Value = serde_json::from_str(&usual).expect("JSON");
    assert_eq!(usual["settings"], serde_json::json!([]));
    assert!(!report(&site, &["--format", "text"]).contains("Settings"));
}

#[test]
fn the_configuration_file_is_named_with_its_digest() {
    let site = site();
    let file = site.folder.path().join("rasaudit.toml");
    fs::write(&file, "severity = [\"port-not-in-matrix=info\"]\nfail-on = \"never\"\n")
        .expect("writable");
    let json = report(&site, &["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["settings"][0]["file"], file.display().to_string());
    let configuration = &json["configuration"];
    assert_eq!(configuration["options"], serde_json::json!(["--fail-on", "--severity"]));
    let digest = configuration["sha256"].as_str().expect("a digest");
    assert_eq!(digest.len(), 64);
    for format in ["markdown", "html"] {
        let all = report(&site, &["--format", format]);
        assert!(all.contains(digest), "{format}: {all}");
        assert!(all.contains("set in the configuration file"), "{format}: {all}");
    }
}

#[test]
fn a_comparison_names_settings_that_differ() {
    let site = site();
    let path = |name: &str| site.folder.path().join(name).display().to_string();
    let [old, new] = [path("old"), path("new")];
    report(&site, &["--out", &old]);
    report(&site, &["--out", &new, "--min-watch", "60s"]);
    let diff = stdout(&rasaudit(["diff", &old, &new]));
    assert!(has_line(&diff, &["Differs", "settings: --min-watch 60 s instead of none"]), "{diff}");
}

#[test]
fn evidence_says_that_an_option_replaced_the_watch_time_of_the_row() {
    let run = rasaudit([
        "audit",
        &crate::support::fixture("farm-running/span.pcap").display().to_string(),
        "-i",
        &crate::support::fixture("farm-running/inventory.toml").display().to_string(),
        "--format=json",
        "--min-watch=61s",
    ]);
    let json = stdout(&run);
    assert!(json.contains("required by --min-watch: 61 s (instead of "), "{}", stderr(&run));
    assert!(!json.contains("required by the row: 61 s"));
}

#[test]
fn overlays_are_named_beside_the_matrix() {
    let site = site();
    let overlay = ["--overlay", "windows-domain"];
    let words = "ras-19 with the overlay windows-domain";
    for format in ["text", "markdown", "html"] {
        let all = report(&site, &[&["--format", format], &overlay[..]].concat());
        assert!(all.contains(words), "{format}: {all}");
        assert!(!report(&site, &["--format", format]).contains(words), "{format}");
    }
    let json = report(&site, &[&["--format", "json"], &overlay[..]].concat());
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let names = serde_json::json!(["network-background", "windows-domain"]);
    assert_eq!(json["matrix"]["overlays"], names);
}

#[test]
fn the_baseline_is_named_with_its_window_and_its_digest() {
    let site = site();
    let old = site.folder.path().join("old").display().to_string();
    report(&site, &["--out", &old]);
    let listed =
        fs::read_to_string(site.folder.path().join("old/manifest.sha256")).expect("a manifest");
    let line = listed.lines().find(|line| line.ends_with("  audit.json")).expect("a line");
    let digest = &line[..64];
    for format in ["json", "markdown", "html"] {
        let all = report(&site, &["--format", format, "--baseline", &old]);
        assert!(all.contains(digest), "{format}: {all}");
    }
    let all = report(&site, &["--format", "markdown", "--baseline", &old]);
    assert!(has_line(&all, &["**Since**", "(audit of 20", " UTC)"]), "{all}");
    // A baseline that is a findings.csv has a digest, but no capture times.
    let file = format!("{old}/findings.csv");
    let json = report(&site, &["--format", "json", "--baseline", &file]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let baseline = &json["known"]["baseline"];
    assert_eq!(baseline["sha256"].as_str().map(str::len), Some(64), "{baseline}");
    assert!(baseline["first"].is_null());
}

#[test]
fn the_ticket_and_the_page_name_the_documents_and_the_ticket_the_tool() {
    let site = site();
    let title = "Firewall requirements for Parallels Remote Application Server 19";
    for format in ["markdown", "html"] {
        let all = report(&site, &["--format", format]);
        assert!(has_line(&all, &["kb-129097: ", title, "edition: RAS 19.0 to 19.2"]), "{all}");
    }
    let ticket = report(&site, &["--format", "markdown"]);
    assert!(has_line(&ticket, &["- rasaudit ", env!("CARGO_PKG_VERSION")]), "{ticket}");
}

#[test]
fn loss_has_one_answer_in_all_parts_of_a_report() {
    let audit = |format: &str| {
        let run = rasaudit([
            "audit",
            &crate::support::fixture("farm-running/span.pcap").display().to_string(),
            "-i",
            &crate::support::fixture("farm-running/inventory.toml").display().to_string(),
            "--format",
            format,
            "--min-watch=61s",
        ]);
        stdout(&run)
    };
    assert!(has_line(&audit("text"), &["Loss", "not reported by the capture"]));
    let page = audit("html");
    assert!(page.contains(r#"<td class="number">not reported</td>"#), "{page}");
    let json = audit("json");
    assert!(json.contains("no loss was measured (limit: 1.00 %)"), "{json}");
    assert!(!json.contains("at least 1 %"));
}

#[test]
fn evidence_about_an_expired_exception_starts_with_the_exception() {
    let site = site();
    let list = site.folder.path().join("exceptions.csv");
    let header = "id,from,to,transport,port,direction,owner,reason,approved_by,created,expires";
    let line = "mon,rdsh1,broker1,tcp,9100,,ops,monitoring,alice,2026-01-01,2026-01-02";
    fs::write(&list, format!("{header}\n{line}\n")).expect("writable");
    let list = list.display().to_string();
    let ticket = report(&site, &["--format", "markdown", "--exceptions", &list]);
    let words =
        "- the exception mon (monitoring, owner ops) allowed this traffic until 2026-01-02; ";
    assert!(ticket.contains(words), "{ticket}");
}

#[test]
fn findings_about_the_inventory_do_not_deny_that_rows_exist() {
    let page = report(&site(), &["--format", "html"]);
    let script = page.split("No row of the matrix is about this traffic.").next().expect("a part");
    assert!(
        script.ends_with(
            r#"It is not based on a single row of the matrix."
        : ""#
        ),
        "the sentence is only for other verdicts"
    );
}

#[test]
fn the_headline_says_why_no_frame_was_audited() {
    let site = site();
    let first_line = |more: &[&str]| {
        let out = report(&site, more);
        out.lines().next().unwrap_or_default().to_owned()
    };
    let words = first_line(&["--until", "2000-01-01"]);
    let frames = "frame is in the requested time range (10 frames read).";
    assert_eq!(words, format!("No frame was audited: no {frames}"));
    #[cfg(feature = "bpf")]
    {
        let words = first_line(&["--filter", "tcp port 1"]);
        assert_eq!(words, "No frame was audited: the filter matched no frame (10 frames read).");
    }
    fs::write(&site.capture, Wire::default().file()).expect("writable");
    assert_eq!(first_line(&[]), "No frame was audited: the input has no frames.");
}

#[test]
fn messages_name_the_end_that_is_not_listed() {
    let mut wire = Wire::default();
    wire.connect(0, ("10.1.0.30", 50_000), ("10.1.7.7", 443));
    wire.connect(300, ("10.1.7.8", 50_000), ("10.1.0.10", 9100));
    let site = Site::new(&format!("[farm]\nmatrix = \"ras-19\"\n{}", hosts(HOSTS)), &wire);
    let csv = report(&site, &["--format", "csv"]);
    assert!(has_line(&csv, &["10.1.7.7", "; the server is not in the inventory"]), "{csv}");
    assert!(has_line(&csv, &["10.1.7.8", "; the client is not in the inventory"]), "{csv}");
}

#[test]
fn the_capture_line_has_a_time_zone_and_frames_are_counted_in_words() {
    for format in ["text", "markdown"] {
        let all = report(&site(), &["--format", format]);
        assert!(has_line(&all, &["Capture", " UTC, ", "s watched"]), "{all}");
        assert!(has_line(&all, &["Frames", "10 read: 10 audited, 0 skipped"]), "{all}");
    }
}
