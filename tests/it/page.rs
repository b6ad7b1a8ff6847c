//! Tests the parts of `report.html` that can be tested without a browser: the order of its parts,
//! which rows of the matrix are folded, names of roles, the cover of the printed page, and links to
//! evidence. `tests/browser` tests the rest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{columns, fixture, rasaudit, stderr, stdout};

/// Audits the faulty farm from the root of the package, and returns the report in this format.
fn report(format: &str) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["audit", "fixtures/farm-faults/span.pcap", "-i"])
        .args(["fixtures/farm-healthy/inventory.toml", "--format", format])
        .output()
        .expect("the program runs");
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    stdout(&run)
}

/// Returns the part of a page from `start` to the first `end` after it.
fn part<'p>(page: &'p str, start: &str, end: &str) -> &'p str {
    let (_, rest) = page.split_once(start).unwrap_or_else(|| panic!("no {start}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end} after {start}")).0
}

/// Returns the text of markup, without its tags.
fn text(markup: &str) -> String {
    let parts = markup.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    parts.collect()
}

#[test]
fn overview_and_findings_come_first() {
    let page = report("html");
    let main = part(&page, "<main", "</main>");
    let sections: Vec<&str> = main
        .split("<section id=\"")
        .skip(1)
        .map(|section| section.split('"').next().unwrap_or_default())
        .collect();
    assert_eq!(
        sections,
        [
            "cover",
            "overview",
            "findings",
            "map",
            "matrix",
            "graph",
            "timeline",
            "coverage",
            "conversations"
        ]
    );
}

#[test]
fn rows_that_do_not_matter_are_folded_and_counted() {
    let page = report("html");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in columns(&report("matrix"), &["status"]) {
        *counts.entry(row[0].clone()).or_default() += 1;
    }
    let section = part(&page, "<section id=\"matrix\"", "</section>");
    let (shown, folded) = section.split_once("<details class=\"fold\">").expect("folded rows");
    for status in ["seen", "missing", "not-assessable"] {
        let rows = shown.matches(&format!("data-status=\"{status}\"")).count();
        assert_eq!(rows, counts[status], "{status}");
    }
    let folded: Vec<&str> = folded.split("<details class=\"fold\">").collect();
    for (part, status) in folded.iter().zip(["not-expected", "role-absent", "feature-off"]) {
        let count = counts[status];
        let summary = format!("<summary>{status}<span class=\"faint\"> · {count} rows: ");
        assert!(part.starts_with(&summary), "{summary}: {}", &part[..150]);
        assert_eq!(part.matches(&format!("data-status=\"{status}\"")).count(), count);
        assert!(!shown.contains(&format!("data-status=\"{status}\"")), "{status}");
    }
    let all: usize = counts.values().sum();
    assert!(section.contains(&format!(", {all} rows: ")), "the number of all rows");
}

#[test]
fn roles_have_short_names_and_their_complete_names_as_tooltips() {
    let page = report("html");
    let map = part(&page, "<section id=\"map\"", "</section>");
    for cell in [
        "<th scope=\"row\" title=\"RAS Connection Broker\">Broker</th>",
        "<th scope=\"col\" title=\"RAS Secure Gateway in Normal mode\"><span>Gateway (normal)</span></th>",
    ] {
        assert!(map.contains(cell), "{cell}");
    }
    let matrix = part(&page, "<section id=\"matrix\"", "</section>");
    assert!(matrix.contains("<span title=\"RAS RD Session Host Agent\">RDSH</span>"));
    let graph = part(&page, "<section id=\"graph\"", "</section>");
    assert!(graph.contains("<summary title=\"RAS Reporting + SSRS\"><b>Reporting + SSRS</b>"));
}

/// Short names are useful only if they are no longer than the full names and differ between roles.
#[test]
fn short_names_of_roles_are_short_and_differ() {
    for matrix in ["ras-19", "ras-legacy"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("rules/{matrix}/roles.csv"));
        let roles = columns(&fs::read_to_string(path).expect("roles"), &["slug", "name", "short"]);
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for role in &roles {
            let [slug, name, short] = [&role[0], &role[1], &role[2]];
            assert!(!short.is_empty() && short.len() <= 16, "{matrix}: {slug}: {short}");
            assert!(short.len() <= name.len(), "{matrix}: {slug}: {short} is longer than {name}");
            let other = seen.insert(short, slug);
            assert_eq!(other, None, "{matrix}: {slug} has the same short name");
        }
    }
}

#[test]
fn the_cover_states_what_was_audited() {
    let page = report("html");
    let json: serde_json::Value = serde_json::from_str(&report("json")).expect("JSON");
    let cover = text(part(&page, "<section id=\"cover\"", "</section>"));
    let inventory = json["inventory"]["sha256"].as_str().expect("a digest");
    let matrix = json["matrix"]["sha256"].as_str().expect("a digest");
    for part in [
        "Lab farm",
        "3 findings (3 high) for Lab farm",
        "2026-11-21 01:46:25 UTC to 2026-11-21 01:57:07 UTC",
        &format!("ras-19 (Parallels RAS 19)SHA-256 {matrix}"),
        &format!("inventory.tomlSHA-256 {inventory}"),
        concat!("Toolrasaudit ", env!("CARGO_PKG_VERSION")),
        "span.pcap, 10834 frames",
        "1 host without any packets in the capture: halb2",
        "4 rows of the matrix: the traffic stays inside a host (loopback-only)",
        "50 rows of the matrix: the client role or the server role is not assigned in the inventory (role-absent)",
        "Exceptions in forceNone.",
        "Prepared by",
        "Signature",
    ] {
        assert!(cover.contains(part), "{part} in {cover}");
    }
    assert!(!cover.contains("fixtures/"), "names of files without their folders: {cover}");
}

#[test]
fn a_part_of_a_capture_is_named_on_the_cover() {
    let [capture, inventory] = ["farm-faults/span.pcap", "farm-healthy/inventory.toml"]
        .map(|name| fixture(name).display().to_string());
    let run = rasaudit([
        "audit",
        &capture,
        "-i",
        &inventory,
        "--filter",
        "tcp",
        "--since",
        "2026-11-21T01:50:00Z",
        "--format",
        "html",
    ]);
    let page = stdout(&run);
    let cover = text(part(&page, "<section id=\"cover\"", "</section>"));
    for part in [
        "Frames that do not match the filter tcp (",
        "Frames before 2026-11-21 01:50:00 UTC (",
        "the capture was filtered",
        " of 10834 frames audited",
    ] {
        assert!(cover.contains(part), "{part} in {cover}");
    }
    // The user left these frames out with `--filter` and `--since`, so they do not count as
    // undecoded.
    for part in ["were not decoded", "outside-window"] {
        assert!(!cover.contains(part), "{part} in {cover}");
    }
    let note = "Filter</dt><dd>tcp was used: missing replies and traffic that was never attempted are not reported";
    assert!(page.contains(note), "{page}");
}

/// The ticket states how each current finding compares with the baseline. The overview of the page
/// lists each finding that is gone or excepted exactly once.
#[test]
fn changes_since_the_baseline_are_in_the_ticket_and_once_on_the_page() {
    let scratch = tempfile::tempdir().expect("a folder");
    let before = scratch.path().join("before").display().to_string();
    let [codes, faults, inventory] =
        ["farm-codes/span.pcap", "farm-faults/span.pcap", "farm-healthy/inventory.toml"]
            .map(|name| fixture(name).display().to_string());
    let run = rasaudit(["audit", &codes, "-i", &inventory, "--out", &before]);
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    let audit = |format: &str| {
        let baseline = ["--baseline", &before, "--format", format];
        stdout(&rasaudit(["audit", &faults, "-i", &inventory].iter().chain(&baseline)))
    };
    let rows = columns(&audit("csv"), &["id", "baseline_state", "baseline_reason", "message"]);
    let ticket = audit("markdown").replace('\\', "");
    let page = audit("html");
    let mut counts = [0, 0];
    for row in &rows {
        let [id, state, reason, message] = [0, 1, 2, 3].map(|column| row[column].as_str());
        if ["gone", "excepted"].contains(&state) {
            counts[0] += 1;
            let section = part(&page, "<section id=\"overview\"", "</section>");
            assert_eq!(section.matches(id).count(), 1, "{id} {message}");
        } else if !state.is_empty() {
            counts[1] += 1;
            let finding = part(&ticket, &format!(" `{id}`\n\n"), "\n#");
            let line = format!("- since the baseline: **{state}**, {reason}");
            assert!(finding.contains(line.trim_end_matches(", ")), "{line}: {finding}");
        }
    }
    assert!(counts[0] > 5 && counts[1] > 0, "{counts:?}");
}

#[test]
fn cover_overview_and_ticket_list_the_same_as_not_assessed() {
    let [capture, inventory] = ["farm-codes/span.pcap", "farm-codes/inventory.toml"]
        .map(|name| fixture(name).display().to_string());
    let audit =
        |format: &str| stdout(&rasaudit(["audit", &capture, "-i", &inventory, "--format", format]));
    let page = audit("html");
    let items = |start: &str| -> Vec<String> {
        let list = part(&page, start, "</ul>");
        list.split("<li>").skip(1).map(|item| text(&format!(">{item}"))).collect()
    };
    let cover = items("<h2>Not assessed</h2><ul>");
    let overview = items("<ul class=\"open\">");
    let ticket = audit("markdown").replace('\\', "");
    let (_, section) = ticket.split_once("\n## Not assessed\n\n").expect("the section");
    let (section, _) = section.split_once("\n\n").expect("its end");
    let ticket: Vec<&str> = section.lines().map(|line| &line[2..]).collect();
    assert_eq!((cover.len(), overview.len()), (ticket.len(), ticket.len()), "{cover:?} {ticket:?}");
    for (number, item) in cover.iter().enumerate() {
        assert!(overview[number].starts_with(item), "{item}: {}", overview[number]);
        assert!(ticket[number].starts_with(item), "{item}: {}", ticket[number]);
    }
    for part in [
        "(role-absent)",
        "(feature-off)",
        "(not-expected)",
        "that the snaplen truncated",
        "Frames that may have been lost: the capture does not state whether any were",
        "52 conversations of background traffic",
        "1 host without any packets in the capture: halb2",
        "(loopback-only)",
    ] {
        assert!(cover.iter().any(|item| item.contains(part)), "{part}: {cover:?}");
    }
}

/// The drawing shows a number at each host with findings, and at no other host.
#[test]
fn the_drawing_counts_all_findings_about_a_host_and_marks_hosts_that_were_not_seen() {
    let [capture, inventory] = ["farm-codes/span.pcap", "farm-codes/inventory.toml"]
        .map(|name| fixture(name).display().to_string());
    let audit =
        |format: &str| stdout(&rasaudit(["audit", &capture, "-i", &inventory, "--format", format]));
    let csv = audit("csv");
    let page = audit("html");
    let drawing = part(&page, "<section id=\"graph\"", "</section>");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for row in columns(&csv, &["client_name", "server_name", "clients", "servers"]) {
        let mut names: Vec<&str> = row.iter().flat_map(|cell| cell.split(';')).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    let mut marked = 0;
    let hosts = columns(&audit("hosts"), &["name", "coverage"]);
    for host in &hosts {
        let item = part(drawing, &format!("<li data-name=\"{}\">", host[0]), "</li>");
        let count = counts.get(&host[0]).copied().unwrap_or(0);
        assert_eq!(item.contains(&format!(">({count})</span>")), count > 0, "{count}: {item}");
        assert_eq!(item.contains("not seen"), host[1] == "not-seen", "{item}");
        marked += usize::from(host[1] == "not-seen");
    }
    assert!(marked > 0, "a host that was not seen");
    let inventory = columns(&csv, &["verdict"]);
    let inventory = inventory.iter().filter(|row| row[0] == "inventory").count();
    assert!(inventory > 0);
    let caption = part(drawing, "<figcaption>", "</figcaption>");
    assert!(
        caption.contains("Findings that are not drawn but are counted for their hosts: "),
        "{caption}"
    );
    assert!(caption.contains(&format!("{inventory} inventory")), "{caption}");
}

#[test]
fn findings_link_to_evidence_only_if_the_page_knows_where_it_is() {
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().join("report");
    let evidence = scratch.path().join("evi dence");
    let [capture, inventory] = ["farm-faults/span.pcap", "farm-healthy/inventory.toml"]
        .map(|name| fixture(name).display().to_string());
    let run = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
        .args(["audit", &capture, "-i", &inventory, "--out"])
        .arg(&out)
        .arg("--evidence")
        .arg(&evidence)
        .output()
        .expect("the program runs");
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    let data = |page: &str| -> serde_json::Value {
        let json = part(page, "<script type=\"application/json\" id=\"data\">", "</script>");
        serde_json::from_str(json).expect("JSON")
    };
    let page = fs::read_to_string(out.join("report.html")).expect("the page");
    let found = data(&page);
    assert_eq!(found["evidence"], "./../evi%20dence/");
    let index = fs::read_to_string(evidence.join("evidence.csv")).expect("the index");
    let files: BTreeMap<String, String> = columns(&index, &["id", "file"])
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    for finding in found["findings"].as_array().expect("a list") {
        let file = &files[finding["id"].as_str().expect("an id")];
        assert_eq!(finding["has_file"], !file.is_empty(), "{finding}");
        assert!(file.is_empty() || evidence.join(file).exists());
    }
    assert!(files.values().any(|file| !file.is_empty()));
    // A page that is written from the stored result does not link to the evidence folder.
    let again =
        rasaudit(["report".as_ref(), out.as_os_str(), "--format".as_ref(), "html".as_ref()]);
    let found = data(&stdout(&again));
    assert_eq!(found["evidence"], serde_json::Value::Null);
    assert!(found["findings"].as_array().expect("a list").iter().all(|f| f["has_file"] == false));
}
