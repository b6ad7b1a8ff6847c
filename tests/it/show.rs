//! Tests listings: `rasaudit show`, `--show` of an audit, the grouped summary, the width of tables,
//! and `--color`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::wire::Wire;
use crate::support::{FIXTURES, Fixture, Site, columns, hosts, rasaudit, stderr, stdout};
use rasaudit::policy::{MATRICES, OVERLAYS};

const TABLES: [(&str, &str); 5] = [
    ("findings", "findings.csv"),
    ("conversations", "conversations.csv"),
    ("matrix", "matrix.csv"),
    ("hosts", "hosts.csv"),
    ("exceptions", "exceptions.csv"),
];

/// The folder of the reports of an audit.
struct Reports {
    _scratch: tempfile::TempDir,
    folder: PathBuf,
}

impl Reports {
    fn of(name: &str) -> Self {
        Self::of_case(FIXTURES.iter().find(|case| case.name == name).expect("a fixture"))
    }

    fn of_case(case: &Fixture) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let folder = scratch.path().join("report");
        let more = ["-q".to_owned(), "--out".to_owned(), folder.display().to_string()];
        rasaudit([case.arguments(), more.to_vec()].concat());
        Self { _scratch: scratch, folder }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).expect("a report")
    }

    /// Runs `rasaudit show` and returns the exit code, standard output and standard error.
    fn run(&self, table: &str, options: &[&str]) -> (i32, String, String) {
        let folder = self.folder.display().to_string();
        let run = rasaudit([&["show", table, &folder], options].concat());
        (run.status.code().expect("an exit code"), stdout(&run), stderr(&run))
    }

    fn show(&self, table: &str, options: &[&str]) -> String {
        let (code, out, err) = self.run(table, options);
        assert_eq!((code, err.as_str()), (0, ""), "{options:?}");
        out
    }

    /// Returns one column of the rows that match the options.
    fn column(&self, table: &str, column: &str, options: &[&str]) -> Vec<String> {
        let csv = self.show(table, &[options, &["--format", "csv"]].concat());
        columns(&csv, &[column]).into_iter().map(|mut row| row.remove(0)).collect()
    }
}

fn audit(case: &Fixture, more: &[&str]) -> (i32, String, String) {
    let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
    let run = rasaudit([case.arguments(), more].concat());
    (run.status.code().expect("an exit code"), stdout(&run), stderr(&run))
}

#[test]
fn without_filters_a_listing_is_the_file() {
    for case in FIXTURES {
        let reports = Reports::of_case(case);
        for (table, file) in TABLES {
            let shown = reports.show(table, &["--format", "csv"]);
            assert!(shown == reports.file(file), "{}: {table}", case.name);
        }
        let folder = reports.folder.display().to_string();
        let all = stdout(&rasaudit(["report", &folder, "--format", "jsonl"]));
        let shown = ["findings", "conversations"]
            .map(|table| reports.show(table, &["--format", "jsonl"]))
            .concat();
        assert!(shown == all, "{}", case.name);
    }
}

#[test]
fn a_filter_keeps_the_rows_that_fit() {
    let reports = Reports::of("farm-codes");
    let all = columns(
        &reports.file("findings.csv"),
        &[
            "id",
            "severity",
            "code",
            "certain",
            "port",
            "clients",
            "servers",
            "client_roles",
            "server",
            "server_roles",
        ],
    );
    assert!(all.len() > 20);
    let ids = |fits: &dyn Fn(&[String]) -> bool| -> Vec<String> {
        all.iter().filter(|row| fits(row)).map(|row| row[0].clone()).collect()
    };
    let has = |list: &str, item: &str| list.split(';').any(|word| word == item);
    let severe = |row: &[String]| ["high", "critical"].contains(&&*row[1]);
    // A finding about any host of the role may also concern `broker1`.
    let to_broker =
        |row: &[String]| has(&row[6], "broker1") || (row[8].is_empty() && has(&row[9], "broker"));
    type Case<'a> = (&'a [&'a str], &'a dyn Fn(&[String]) -> bool);
    let cases: &[Case<'_>] = &[
        (&["--severity", "high"], &severe),
        (&["--severity", "high", "--not", "severity=critical"], &|row| row[1] == "high"),
        (&["--code", "refused,reversed"], &|row| ["refused", "reversed"].contains(&&*row[2])),
        (&["--code", "refused", "--code", "reversed"], &|row| {
            ["refused", "reversed"].contains(&&*row[2])
        }),
        (&["--certain", "no"], &|row| row[3] == "no"),
        (&["--port", "20002"], &|row| has(&row[4], "20002")),
        (&["--from", "broker1"], &|row| has(&row[5], "broker1")),
        (&["--to", "10.20.1.31"], &|row| to_broker(row)),
        (&["--from", "gw1,broker1", "--severity", "high"], &|row| {
            severe(row) && (has(&row[5], "gw1") || has(&row[5], "broker1"))
        }),
        (&["--host", "broker1"], &|row| has(&row[5], "broker1") || to_broker(row)),
        (&["--from", "role:broker"], &|row| has(&row[7], "broker")),
        (&["--from", "RAS Connection Broker"], &|row| has(&row[7], "broker")),
        (&["--from", "203.0.113.0/24"], &|row| row[5].starts_with("203.0.113.")),
        (&["--not", "severity=high"], &|row| !severe(row)),
        (&["--not", "severity=high,from=broker1"], &|row| {
            !(severe(row) && has(&row[5], "broker1"))
        }),
        (&["--not", "code=refused,reversed", "--not", "certain=no"], &|row| {
            !["refused", "reversed"].contains(&&*row[2]) && row[3] == "yes"
        }),
    ];
    for (options, fits) in cases {
        let expected = ids(fits);
        assert!(!expected.is_empty() && expected.len() < all.len(), "{options:?} tests nothing");
        assert_eq!(reports.column("findings", "id", options), expected, "{options:?}");
    }
    // Each table is filtered by its own columns.
    let conversations = reports.column("conversations", "port", &["--port", "tcp/20000-20010"]);
    assert!(!conversations.is_empty());
    assert!(conversations.iter().all(|port| port.starts_with("200")), "{conversations:?}");
    let missing = reports.column("matrix", "status", &["--state", "missing,not-assessable"]);
    let count = |status: &str| {
        let all = columns(&reports.file("matrix.csv"), &["status"]);
        all.iter().filter(|row| row[0] == status).count()
    };
    assert_eq!(missing.len(), count("missing") + count("not-assessable"));
    assert_eq!(reports.column("hosts", "name", &["--state", "not-seen"]), ["halb2"]);
    assert_eq!(reports.column("exceptions", "id", &["--state", "unused"]), ["unused"]);
}

/// A finding about many ports, or about any host of a role, does not name all of them. A filter
/// must not hide it if it may match, whether the filter keeps rows or leaves them out.
#[test]
fn a_row_that_may_fit_is_kept() {
    let gateways = [("gw1", "10.1.0.1", "gateway-normal"), ("broker1", "10.1.0.2", "broker")];
    let mut wire = Wire::default();
    for port in 0..12 {
        wire.connect(1000 + u64::from(port), ("10.1.0.1", 40_000), ("10.1.0.2", 30_100 + port));
    }
    let site = Site::new(&inventory(&hosts(&gateways)), &wire);
    let reports = stored(&site);
    let many = |options: &[&str]| reports.column("findings", "port", options);
    let verdict = ["--verdict", "unexpected-port"];
    assert_eq!(many(&verdict), ["*"]);
    assert_eq!(many(&[&verdict[..], &["--port", "30105"]].concat()), ["*"]);
    assert_eq!(many(&[&verdict[..], &["--not", "port=30105"]].concat()), ["*"]);
    assert!(many(&[&verdict[..], &["--port", "udp/30105"]].concat()).is_empty());
    let any = |options: &[&str]| {
        reports.column("findings", "server", &[&["--verdict", "missing"], options].concat())
    };
    let all = any(&[]);
    assert_eq!(any(&["--to", "broker1"]).len(), all.len(), "{all:?}");
    assert!(any(&["--to", "gw1"]).is_empty());
}

/// Baseline findings that are gone are listed only on request. The result does not contain their
/// ends, so filters for ends do not hide them.
#[test]
fn gone_findings_are_listed_if_they_are_asked_for() {
    let before = Reports::of("farm-faults");
    let case = FIXTURES.iter().find(|case| case.name == "farm-healthy").expect("the fixture");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let folder = scratch.path().join("report");
    let [old, new] = [&before.folder, &folder].map(|folder| folder.display().to_string());
    audit(case, &["-q", "--baseline", &old, "--out", &new]);
    let after = Reports { _scratch: scratch, folder };
    assert_eq!(after.show("findings", &[]), "The result has no findings.\n");
    let gone = after.column("findings", "id", &["--state", "gone"]);
    let mut ids = before.column("findings", "id", &[]);
    ids.sort_unstable();
    assert_eq!((gone.len(), gone), (3, ids));
    let refused = ["--state", "gone", "--code", "refused", "--from", "gw1"];
    assert_eq!(after.column("findings", "id", &refused), ["f-4c9d16300279"]);
}

#[test]
fn every_problem_of_the_options_is_told_at_once() {
    let reports = Reports::of("farm-codes");
    let (code, out, err) = reports.run(
        "findings",
        &[
            "--from",
            "brokr1",
            "--role",
            "brokre",
            "--to",
            "10.99.0.1",
            "--code",
            "refusd",
            "--verdict",
            "misssing",
            "--severity",
            "hgh",
            "--state",
            "establishd",
            "--certain",
            "maybe",
            "--port",
            "https",
            "--cause",
            "f-0",
            "--group-by",
            "cuase",
            "--sort",
            "servrity",
            "--columns",
            "id,clinet",
            "--not",
            "cod=refused",
            "--not",
            "refused",
            "--host",
            "10.1.9.8/24",
        ],
    );
    assert_eq!((code, out.as_str()), (2, ""));
    for told in [
        "--from: \"brokr1\" is not a host, network, address or role of the result; did you mean \"broker1\"?",
        "--role: \"brokre\" is not a role; did you mean \"broker\"?",
        "--to: \"10.99.0.1\" is not a host",
        "--host: 10.1.9.8/24 has bits set beyond its prefix; did you mean \"10.1.9.0/24\", or the address \"10.1.9.8\"?",
        "--code: \"refusd\" is not a code of findings; did you mean \"refused\"?",
        "--verdict: \"misssing\" is not a verdict of findings; did you mean \"missing\"?",
        "--severity: \"hgh\" is not a severity; did you mean \"high\"?",
        "--state: \"establishd\" is not a state of findings; did you mean \"established\"?",
        "--certain: \"maybe\" is not a valid value",
        "--port: \"https\" is not a port; give a port like 443",
        "--cause: the result has no finding with the id \"f-0\"",
        "--group-by: \"cuase\" is not a property to group by; did you mean \"cause\"?",
        "--sort: \"servrity\" is not a column of findings; did you mean \"severity\"?",
        "--columns: \"clinet\" is not a column of findings; did you mean \"client\"?",
        "--not: \"cod\" is not a filter; did you mean \"code\"?",
        "--not: \"refused\" has no key; write it like severity=high",
    ] {
        assert!(err.contains(told), "{told}\n{err}");
    }
    assert_eq!(err.lines().count(), 16, "{err}");
    for (table, options, told) in [
        (
            "hosts",
            &["--port", "443"][..],
            "--port: the table hosts has no filter port; its filters are host, role, state",
        ),
        ("matrix", &["--group-by", "code"], "only findings and conversations can be grouped"),
        ("conversations", &["--cause", "f-0"], "the table conversations has no filter cause"),
    ] {
        let (code, _, err) = reports.run(table, options);
        assert_eq!(code, 2);
        assert!(err.contains(told), "{err}");
    }
}

#[test]
fn an_audit_without_an_inventory_has_only_conversations() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let file = scratch.path().join("audit.json");
    let case = &FIXTURES[0];
    let arguments = [&case.arguments()[..2], &["--format".to_owned(), "json".to_owned()]].concat();
    fs::write(&file, stdout(&rasaudit(arguments))).expect("writable");
    let file = file.display().to_string();
    let run = rasaudit(["show", "findings", &file]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("rasaudit show conversations lists the traffic"));
    let run = rasaudit(["show", "conversations", &file, "--port", "443", "--severity", "high"]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("--severity: the audit had no inventory"), "{}", stderr(&run));
    let run = rasaudit(["show", "conversations", &file, "--port", "443"]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
}

#[test]
fn rows_are_sorted_and_columns_chosen() {
    let reports = Reports::of("farm-codes");
    let csv = reports.show(
        "conversations",
        &[
            "--sort",
            "-bytes_to_server,client",
            "--columns",
            "client,bytes_to_server,service",
            "--limit",
            "9",
            "--format",
            "csv",
        ],
    );
    assert!(csv.starts_with("client,bytes_to_server,service\r\n"), "{csv}");
    let bytes: Vec<u64> = columns(&csv, &["bytes_to_server"])
        .iter()
        .map(|row| row[0].parse().expect("a number"))
        .collect();
    assert_eq!(bytes.len(), 9);
    assert!(bytes.is_sorted_by(|a, b| a >= b), "{bytes:?}");
    let severities = reports.column("findings", "severity", &["--sort", "severity"]);
    let ranks = ["info", "low", "medium", "high", "critical"];
    let rank = |word: &String| ranks.iter().position(|own| own == word);
    assert!(severities.is_sorted_by_key(rank), "{severities:?}");
    let line = reports
        .show("findings", &["--columns", "code,count,id", "--limit", "1", "--format", "jsonl"]);
    assert!(
        line.starts_with("{\"record\":\"finding\",\"code\":\"exposed-internal\",\"count\":"),
        "{line}"
    );
}

#[test]
fn the_last_line_says_what_is_not_shown() {
    let reports = Reports::of("farm-codes");
    let total = reports.column("findings", "id", &[]).len();
    let last = |options: &[&str]| {
        reports.show("findings", options).lines().last().expect("a line").to_owned()
    };
    assert_eq!(last(&[]), format!("{total} findings"));
    assert_eq!(last(&["--limit", "5"]), format!("5 of {total} findings shown; --all lists all"));
    assert_eq!(last(&["--all"]), format!("{total} findings"));
    assert_eq!(
        last(&["--severity", "critical"]),
        format!("1 finding; {} others do not match", total - 1)
    );
    assert_eq!(
        reports.show("findings", &["--code", "loopback-on-wire"]),
        format!("No finding matches; the filter left out {total} findings.\n")
    );
    let healthy = Reports::of("farm-healthy");
    assert_eq!(healthy.show("exceptions", &[]), "The result has no exceptions.\n");
    // Only the text format limits the number of rows by default.
    let conversations = reports.column("conversations", "client", &[]).len();
    assert!(conversations > 50);
    let text = reports.show("conversations", &[]);
    assert!(
        text.ends_with(&format!("\n50 of {conversations} conversations shown; --all lists all\n"))
    );
}

#[test]
fn groups_add_up() {
    let reports = Reports::of("farm-domain");
    let total = reports.column("findings", "id", &[]).len() as u64;
    let rows = |table: &str, by: &str, wanted: &[&str]| {
        columns(&reports.show(table, &["--group-by", by, "--format", "csv"]), wanted)
    };
    for by in ["role-pair", "port", "code", "cause"] {
        let counts: Vec<u64> = rows("findings", by, &["count"])
            .iter()
            .map(|row| row[0].parse().expect("a number"))
            .collect();
        assert_eq!(counts.iter().sum::<u64>(), total, "{by}");
        assert!(counts.is_sorted_by(|a, b| a >= b), "{by}: {counts:?}");
    }
    // A group by code has the number and the first and last time of its findings.
    let mut expected: BTreeMap<String, (u64, String, String)> = BTreeMap::new();
    let findings = reports.file("findings.csv");
    for row in columns(&findings, &["verdict", "code", "first_seen", "last_seen"]) {
        let group = expected.entry(format!("{}/{}", row[0], row[1])).or_default();
        group.0 += 1;
        if !row[2].is_empty() && (group.1.is_empty() || row[2] < group.1) {
            group.1.clone_from(&row[2]);
        }
        group.2 = group.2.clone().max(row[3].clone());
    }
    let groups = rows("findings", "code", &["group", "count", "first_seen", "last_seen"]);
    assert_eq!(groups.len(), expected.len());
    for row in groups {
        let (count, first, last) = &expected[&row[0]];
        assert_eq!([&row[1], &row[2], &row[3]], [&count.to_string(), first, last], "{}", row[0]);
    }
    // A row counts for each of its hosts.
    let hosts = rows("findings", "host", &["group", "count"]);
    let of = |name: &str| hosts.iter().find(|row| row[0] == name).expect("the host")[1].clone();
    for name in ["app1", "dc1"] {
        assert_eq!(of(name), reports.column("findings", "id", &["--host", name]).len().to_string());
    }
    // The packets of conversations are added up, too.
    let sum = |csv: &str, column: &str| -> u64 {
        columns(csv, &[column]).iter().map(|row| row[0].parse::<u64>().expect("a number")).sum()
    };
    let grouped = reports.show("conversations", &["--group-by", "port", "--format", "csv"]);
    let file = reports.file("conversations.csv");
    let packets = sum(&file, "packets_to_server") + sum(&file, "packets_to_client");
    assert_eq!(sum(&grouped, "packets"), packets);
    let text = reports.show("findings", &["--group-by", "host", "--limit", "2"]);
    assert!(
        text.ends_with(&format!(" groups of {total} findings shown; --all lists all\n")),
        "{text}"
    );
}

#[test]
fn text_fits_a_hundred_columns_and_breaks_no_word() {
    for case in FIXTURES {
        let reports = Reports::of_case(case);
        for (table, _) in TABLES {
            let text = reports.show(table, &["--all"]);
            let wide = text.lines().find(|line| line.chars().count() > 100);
            assert_eq!(wide, None, "{}: {table}", case.name);
        }
        let text = reports.show("findings", &["--all", "--columns", "id,message,display_filter"]);
        let words: Vec<&str> = text.split_whitespace().collect();
        for row in columns(&reports.file("findings.csv"), &["id", "message"]) {
            assert!(row[1].split(' ').all(|word| words.contains(&word)), "{}", row[0]);
        }
        for by in ["role-pair", "host", "port", "code", "cause"] {
            for table in ["findings", "conversations"] {
                let text = reports.show(table, &["--all", "--group-by", by]);
                assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
            }
        }
    }
}

#[test]
fn matrices_and_their_differences_fit_a_hundred_columns() {
    let fits = |arguments: &[&str]| {
        let run = rasaudit(arguments);
        assert_eq!(run.status.code(), Some(0), "{arguments:?}: {}", stderr(&run));
        let text = stdout(&run);
        assert!(text.lines().count() > 3, "{arguments:?}");
        let wide = text.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "{arguments:?}");
        text
    };
    for matrix in MATRICES {
        let text = fits(&["matrix", "show", "--matrix", matrix]);
        // No word is split across lines.
        let csv = stdout(&rasaudit(["matrix", "show", "--matrix", matrix, "--format", "csv"]));
        let words: Vec<&str> = text.split_whitespace().collect();
        for row in columns(&csv, &["from", "to", "purpose"]) {
            assert!(row.iter().flat_map(|cell| cell.split(' ')).all(|word| words.contains(&word)));
        }
        fits(&["matrix", "show", "--matrix", matrix, "--roles"]);
        fits(&["matrix", "show", "--matrix", matrix, "--features"]);
        for overlay in OVERLAYS {
            fits(&["matrix", "show", "--matrix", matrix, "--overlay", overlay]);
        }
        for other in MATRICES.iter().filter(|other| *other != matrix) {
            fits(&["matrix", "diff", matrix, other]);
        }
    }
}

#[test]
fn an_audit_lists_what_show_selects_and_changes_nothing_else() {
    let case = FIXTURES.iter().find(|case| case.name == "farm-codes").expect("the fixture");
    let plain = Reports::of_case(case);
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report").display().to_string();
    let filter = "severity=high,from=broker1,code!=reversed";
    let (code, text, err) = audit(case, &["--out", &out, "--show", filter]);
    assert_eq!((code, audit(case, &[]).0, err.as_str()), (1, 1, ""));
    let listing = plain
        .show("findings", &["--severity", "high", "--from", "broker1", "--not", "code=reversed"]);
    assert!(listing.lines().count() > 3 && text.contains(&format!("\n\n{listing}\n")), "{text}");
    assert!(text.starts_with("25 findings") && !text.contains("exposed-internal"), "{text}");
    for (_, file) in TABLES {
        let shown = fs::read_to_string(scratch.path().join("report").join(file)).expect("a file");
        assert!(shown == plain.file(file), "{file}");
    }
    // With --quiet, only the listing is printed.
    assert_eq!(audit(case, &["--quiet", "--show", filter]), (1, listing, String::new()));
    let grouped = audit(case, &["-q", "--show", "group-by=code,limit=3,sort=-count,group"]).1;
    assert!(
        grouped.contains("3 of ") && grouped.ends_with("shown; --show limit=all lists all\n"),
        "{grouped}"
    );
    // All problems are reported before the work starts.
    let (code, text, err) =
        audit(case, &["--show", "sevrity=high,code=refusd", "--show", "from=brokr1,limit=none"]);
    assert_eq!((code, text.as_str()), (2, ""));
    for told in [
        "--show: \"sevrity\" is not a filter; did you mean \"severity\"?",
        "--show code: \"refusd\" is not a code of findings; did you mean \"refused\"?",
        "--show from: \"brokr1\" is not a host, network, address or role of the inventory; did you mean \"broker1\"?",
        "--show: \"none\" is not a number of rows; give a number greater than 0, or all",
    ] {
        assert!(err.contains(told), "{told}\n{err}");
    }
}

fn inventory(hosts: &str) -> String {
    format!(
        "[farm]\nname = \"Desk farm\"\nmatrix = \"ras-19\"\n[capture]\ncovers = \"all\"\n{hosts}"
    )
}

/// Audits a site and returns its reports, which are in a folder of their own.
fn stored(site: &Site) -> Reports {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let folder = scratch.path().join("report");
    let run = site.run(&["-q", "--out", &folder.display().to_string()]);
    assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
    Reports { _scratch: scratch, folder }
}

/// A broker reaches 300 session hosts on an undocumented port, and 20 session hosts refuse
/// connections from other brokers. The summary has one line for each cause, and never combines
/// findings of different severity or certainty.
#[test]
fn findings_of_one_cause_are_one_line_of_the_summary() {
    let broker = |number: u64| format!("10.1.0.{}", number + 1);
    let mut list: Vec<(String, String, &str)> =
        (0..4).map(|number| (format!("broker{number}"), broker(number), "broker")).collect();
    let mut wire = Wire::default();
    for number in 0..320u64 {
        let address = format!("10.2.{}.{}", number / 200, number % 200 + 1);
        let to = (address.as_str(), 4444);
        if number < 300 {
            wire.connect(number, (&broker(0), 40_000), to);
        } else {
            // If one client failed at ten or more servers, the first finding would explain the
            // others, so the attempts come from three brokers.
            let client = broker(number % 3 + 1);
            wire.tcp(number, (&client, 40_000), to, 0x02, 0);
            wire.tcp(number + 1, to, (&client, 40_000), 0x14, 0);
        }
        list.push((format!("rdsh{number}"), address, "rdsh-agent"));
    }
    let list: Vec<(&str, &str, &str)> =
        list.iter().map(|(name, address, role)| (&**name, &**address, *role)).collect();
    let site = Site::new(&inventory(&hosts(&list)), &wire);
    let reports = stored(&site);
    let code = "port-not-in-matrix";
    let of = |severity: &str| {
        let more = format!("severity={}", if severity == "high" { "critical" } else { "high" });
        let options = ["--code", code, "--severity", severity, "--not", &more];
        reports.column("findings", "id", &options)
    };
    let (reached, refused) = (of("high"), of("medium"));
    assert_eq!((reached.len(), refused.len()), (300, 20));
    let folder = reports.folder.display().to_string();
    let run = site.run(&["--out", &folder]);
    let text = stdout(&run);
    for (severity, ids) in [("high", &reached), ("medium", &refused)] {
        let (id, more) = (&ids[0], ids.len() - 1);
        let line = format!(
            "{severity:<9} unexpected-port/{code} {id} and {more} more with the same cause\n"
        );
        assert_eq!(text.matches(&line).count(), 1, "{line}\n{text}");
        let hint = format!("rasaudit show findings {folder} --code {code} --cause {id}");
        assert!(text.contains(&format!("          all {}: {hint}\n", more + 1)), "{hint}\n{text}");
        let words: Vec<&str> = hint.split(' ').skip(1).collect();
        let listed = stdout(&rasaudit([&words[..], &["--format", "csv"]].concat()));
        let listed: Vec<String> =
            columns(&listed, &["id"]).into_iter().map(|mut row| row.remove(0)).collect();
        assert_eq!(listed, *ids);
    }
    assert_eq!(text.matches(code).count(), 4, "{text}");
    // Without `--out`, the hint does not name a folder. A stored result yields the same summary.
    assert!(stdout(&site.run::<&str>(&[])).contains("rasaudit show findings RESULT --code"));
    let summary = stdout(&rasaudit(["report", &folder]));
    assert!(site.report("text").lines().skip(3).eq(summary.lines().skip(3)), "{summary}");
    let causes = columns(
        &reports.show("findings", &["--group-by", "cause", "--format", "csv"]),
        &["count", "severity", "example"],
    );
    assert_eq!(causes[0], ["300", "high", &*reached[0]]);
}

#[test]
fn hostile_names_stay_text_in_listings() {
    let names =
        [("=cmd|x\\u202e31m", "10.1.0.1", "gateway-normal"), ("broker1", "10.1.0.2", "broker")];
    let mut wire = Wire::default();
    wire.connect(0, ("10.1.0.1", 40_000), ("10.1.0.2", 4444));
    let site = Site::new(&inventory(&hosts(&names)), &wire);
    let reports = stored(&site);
    for format in ["text", "csv", "jsonl"] {
        for table in ["findings", "conversations", "hosts"] {
            let more: &[&str] =
                if table == "hosts" { &[] } else { &["--columns", "from,message,id"] };
            let more =
                if table == "conversations" { &["--columns", "from,client_name"] } else { more };
            let shown = reports.show(table, &[more, &["--format", format]].concat());
            assert!(shown.contains("cmd|x") && !shown.contains('\u{202e}'), "{table}: {shown}");
            if format == "csv" {
                let mut reader = csv::Reader::from_reader(shown.as_bytes());
                for row in reader.records() {
                    assert!(
                        row.expect("a row").iter().all(|cell| !cell.starts_with('=')),
                        "{shown}"
                    );
                }
            }
        }
    }
    let grouped = reports.show("findings", &["--group-by", "host", "--format", "csv"]);
    assert!(grouped.contains("'=cmd") && !grouped.contains('\u{202e}'), "{grouped}");
}

#[test]
fn color_is_chosen_by_the_option() {
    let reports = Reports::of("farm-codes");
    let folder = reports.folder.display().to_string();
    let case = FIXTURES.iter().find(|case| case.name == "farm-codes").expect("the fixture");
    let commands: Vec<Vec<String>> = vec![
        case.arguments(),
        ["show", "findings", &folder].map(str::to_owned).to_vec(),
        ["report", &folder].map(str::to_owned).to_vec(),
        ["matrix", "show", "--to", "broker"].map(str::to_owned).to_vec(),
        ["diff", &folder, &folder].map(str::to_owned).to_vec(),
    ];
    for command in commands {
        let run = |when: &[&str]| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_rasaudit"));
            let run = program.args(&command).args(when).env("NO_COLOR", "1").output();
            stdout(&run.expect("the program runs"))
        };
        let always = run(&["--color", "always"]);
        assert!(always.contains("\u{1b}["), "{command:?}");
        for when in [&["--color", "never"][..], &["--color=auto"], &[]] {
            let plain = run(when);
            assert!(!plain.is_empty() && !plain.contains('\u{1b}'), "{command:?} {when:?}");
        }
    }
    // Errors are coloured, too, even if the arguments cannot be parsed.
    for arguments in [&["--color", "always", "shw"][..], &["shw", "--color=always"]] {
        assert!(stderr(&rasaudit(arguments)).starts_with("\u{1b}["), "{arguments:?}");
    }
    let run = rasaudit(["--color", "always", "show", "findings", "none.json"]);
    assert!(stderr(&run).starts_with("\u{1b}["), "{}", stderr(&run));
    let run = rasaudit(["matrix", "show", "--color", "sometimes"]);
    assert_eq!(run.status.code(), Some(2));
}

#[test]
fn a_closed_pipe_ends_a_listing_silently() {
    let reports = Reports::of("farm-codes");
    for format in ["text", "csv", "jsonl"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rasaudit"))
            .args(["show", "conversations"])
            .arg(&reports.folder)
            .args(["--all", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{format}");
    }
}

#[test]
fn completions_and_help_include_the_listing() {
    let script = stdout(&rasaudit(["completions", "bash"]));
    assert!(script.contains("--group-by") && script.contains("conversations"), "bash");
    let help = stdout(&rasaudit(["show", "--help"]));
    assert!(help.contains("At least this severity: info"), "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}
