//! Tests exceptions and changes since an earlier audit: what exceptions justify, what they never
//! hide, and that all problems in a list are reported at once.

use std::fs;
use std::path::PathBuf;

use crate::support::wire::Wire;
use crate::support::{Site, columns, fixture, rasaudit, stderr, stdout};

const INVENTORY: &str = r#"
[farm]
matrix = "ras-19"
[[host]]
name = "broker1"
addresses = ["10.1.0.10"]
roles = ["broker"]
[[host]]
name = "rdsh1"
addresses = ["10.1.0.30"]
roles = ["rdsh-agent"]
[[network]]
name = "office"
cidr = "10.1.9.0/24"
roles = ["parallels-client"]
"#;
const HEADER: &str = "id,from,to,transport,port,direction,owner,reason,approved_by,created,expires";

/// A site whose exceptions the tests vary.
struct Listed(Site);

impl Listed {
    /// Creates a site with a capture from 2026-05-28: two clients use port 9100 of the broker, and
    /// one of them port 445 of the session host. The matrix documents neither port for these
    /// clients.
    fn new() -> Self {
        let mut wire = Wire::default();
        wire.connect(0, ("10.1.9.7", 50_000), ("10.1.0.10", 9100));
        wire.connect(100, ("10.1.9.8", 50_000), ("10.1.0.10", 9100));
        wire.connect(200, ("10.1.9.7", 50_001), ("10.1.0.30", 445));
        wire.connect(300, ("10.1.0.30", 50_002), ("10.1.0.10", 20_003));
        Self(Site::new(INVENTORY, &wire))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.folder.path().join(name)
    }

    fn list(&self, lines: &[&str]) -> String {
        let path = self.path("exceptions.csv");
        fs::write(&path, format!("{HEADER}\n{}\n", lines.join("\n"))).expect("writable");
        path.display().to_string()
    }

    fn audit(&self, format: &str, more: &[&str]) -> (Option<i32>, String, String) {
        let run = self.0.run(&[&["--format", format], more].concat());
        (run.status.code(), stdout(&run), stderr(&run))
    }

    /// Returns the client, port, code and rule of the conversations that the matrix does not
    /// document.
    fn judged(&self, list: &str, more: &[&str]) -> Vec<[String; 4]> {
        let (_, report, err) =
            self.audit("conversations", &[&["--exceptions", list], more].concat());
        assert_eq!(err, "");
        let rows = columns(&report, &["client", "port", "code", "rule"]);
        let rows = rows.into_iter().filter(|row| row[2] != "matrix");
        rows.map(|row| row.try_into().expect("four cells")).collect()
    }
}

const MONITOR: &str = "mon,office,broker1,tcp,9100,,ops,monitoring,alice,2026-01-01,2026-12-31";

#[test]
fn an_exception_justifies_what_nothing_else_does() {
    let site = Listed::new();
    let excepted = ["excepted", "exception:mon"];
    for from in ["office", "10.1.9.0/24", "role:parallels-client", "role:Client", "*"] {
        let list = site.list(&[&MONITOR.replacen("office", from, 1)]);
        let judged = site.judged(&list, &[]);
        let codes: Vec<_> = judged.iter().map(|row| (&*row[1], &*row[2], &*row[3])).collect();
        let monitor = ("9100", "exception", excepted[1]);
        assert_eq!(codes, [monitor, ("445", "port-not-in-matrix", ""), monitor], "{from}");
    }
    // An exception for one address applies to that address only. Exceptions with another port or
    // transport do not apply, and the direction determines whether the ends may be exchanged.
    let one = site.judged(&site.list(&[&MONITOR.replacen("office", "10.1.9.8", 1)]), &[]);
    assert_eq!(one.iter().filter(|row| row[2] == "exception").count(), 1);
    for other in ["tcp,9101,,", "udp,9100,,", "tcp,9200-9300,,"] {
        let judged = site.judged(&site.list(&[&MONITOR.replacen("tcp,9100,,", other, 1)]), &[]);
        assert!(judged.iter().all(|row| row[2] != "exception"), "{other}");
    }
    let turned = "mon,broker1,office,tcp,9100,both,ops,monitoring,alice,2026-01-01,2026-12-31";
    assert_eq!(site.judged(&site.list(&[turned]), &[])[0][2], "exception");
    let turned = turned.replace(",both,", ",to-server,");
    assert_ne!(site.judged(&site.list(&[&turned]), &[])[0][2], "exception");
    // An exception never replaces a row of the matrix.
    let all = "all,*,*,*,*,both,ops,everything,alice,2026-01-01,2026-12-31";
    let (_, report, _) = site.audit("conversations", &["--exceptions", &site.list(&[all])]);
    assert!(columns(&report, &["code"]).iter().any(|row| row[0] == "matrix"), "{report}");
}

#[test]
fn what_a_list_justifies_stays_in_the_totals() {
    let site = Listed::new();
    let list = site.list(&[MONITOR]);
    let (_, text, _) = site.audit("text", &["--exceptions", &list]);
    assert!(text.contains("2 excepted"), "{text}");
    assert!(text.contains("Excepted  2 conversations by 1 of 1 exception"), "{text}");
    let (_, json, _) = site.audit("json", &["--exceptions", &list]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let exception = &json["exceptions"]["list"][0];
    assert_eq!((&exception["id"], &exception["conversations"]), (&"mon".into(), &2.into()));
    assert_eq!(exception["approved_by"], "alice");
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/audit.schema.json")).expect("a schema");
    assert!(jsonschema::is_valid(&schema, &json));
}

#[test]
fn expired_and_unused_exceptions_are_findings() {
    let site = Listed::new();
    // The capture is from 2026-05-28. An exception still applies on its last day.
    let until = |day: &str| site.list(&[&MONITOR.replace("2026-12-31", day)]);
    assert_eq!(site.judged(&until("2026-05-28"), &[])[0][2], "exception");
    assert_eq!(site.judged(&until("2026-05-27"), &[])[0][2], "expired-exception");
    let later = ["--as-of", "2027-01-01"];
    assert_eq!(site.judged(&until("2026-12-31"), &later)[0][2], "expired-exception");
    let (_, csv, _) = site.audit("csv", &["--exceptions", &until("2026-05-27")]);
    let finding = columns(&csv, &["code", "rule", "message"]);
    let expired = finding.iter().find(|row| row[0] == "expired-exception").expect("the finding");
    assert_eq!(expired[1], "exception:mon");
    assert!(
        expired[2].contains("was valid only until 2026-05-27") && expired[2].contains("owner ops"),
        "{expired:?}"
    );
    // A valid exception takes precedence over an expired one.
    let both = site
        .list(&[&MONITOR.replace("2026-12-31", "2026-05-01"), &MONITOR.replacen("mon", "mon2", 1)]);
    assert_eq!(site.judged(&both, &[])[0][3], "exception:mon2");
    let unused = "old,rdsh1,broker1,tcp,7777,,ops,gone,alice,2026-01-01,2026-12-31";
    let (_, csv, _) = site.audit("csv", &["--exceptions", &site.list(&[MONITOR, unused])]);
    let finding = columns(&csv, &["verdict", "code", "message"]);
    let unused: Vec<_> = finding.iter().filter(|row| row[1] == "unused-exception").collect();
    assert_eq!(unused.len(), 1);
    assert!(
        unused[0][0] == "inventory" && unused[0][2].contains("the exception old (gone"),
        "{unused:?}"
    );
}

#[test]
fn an_unused_exception_names_the_one_that_shadows_it() {
    let site = Listed::new();
    let broad = "broad,office,*,tcp,*,,ops,monitoring,alice,2026-01-01,2026-12-31";
    let unused = |lines: &[&str]| {
        let (_, csv, _) = site.audit("csv", &["--exceptions", &site.list(lines)]);
        let findings = columns(&csv, &["code", "message", "action"]);
        let mut unused = findings.into_iter().filter(|row| row[0] == "unused-exception");
        unused.next().map(|row| [row[1].clone(), row[2].clone()])
    };
    let [message, action] = unused(&[broad, MONITOR]).expect("a finding");
    let shadow =
        "because the exception broad (line 2) takes precedence for traffic that both match";
    assert!(message.contains("the exception mon (") && message.ends_with(shadow), "{message}");
    assert!(action.contains("if mon is to replace broad, remove or narrow broad"), "{action}");
    // In the other order, both are used. An exception without traffic has no shadow.
    assert_eq!(unused(&[MONITOR, broad]), None);
    let [message, action] = unused(&[broad, &MONITOR.replace("9100", "9101")]).expect("a finding");
    assert!(message.ends_with("matched no traffic that requires it"), "{message}");
    assert!(action.starts_with("Remove the exception"), "{action}");
}

#[test]
fn all_problems_of_a_list_are_told_at_once() {
    let site = Listed::new();
    let list = site.list(&[
        "a,offce,broker1,tcp,9100,,ops,x,alice,2026-01-01,2026-12-31",
        "a,office,role:brokr,tpc,9100,there,,x,alice,2026-13-01,2025-12-31",
        "b,office,broker1,tcp,70000,,ops,,,2026-01-01,2025-12-31",
        "a,office,broker1,tcp,9100,,ops,x,alice,2026-01-01,2026-12-31",
    ]);
    let (code, out, err) = site.audit("csv", &["--exceptions", &list]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    for part in [
        ":2: from: \"offce\" is not a host or network",
        "did you mean \"office\"?",
        ":3: duplicate id \"a\", first used in line 2",
        ":5: duplicate id \"a\", first used in line 2",
        ":3: owner is empty",
        ":3: to: unknown role \"brokr\" (",
        "; did you mean \"broker\"?",
        ":3: transport: \"tpc\"",
        ":3: direction must be to-server or both",
        ":3: created: \"2026-13-01\" is not a valid date",
        ":4: reason is empty",
        ":4: approved_by is empty",
        ":4: port: \"70000\"",
        ":4: the exception expires on 2025-12-31, before it was created",
    ] {
        assert!(err.contains(part), "{part}\n{err}");
    }
    let inventory = site.path("a.toml").display().to_string();
    let checked = rasaudit(["exceptions", "check", &list, "-i", &inventory]);
    assert_eq!((checked.status.code(), stderr(&checked)), (Some(2), err));
    let sound = rasaudit(["exceptions", "check", &site.list(&[MONITOR]), "-i", &inventory]);
    assert!(stdout(&sound).contains("valid; exceptions: 1"), "{}", stderr(&sound));
}

/// An exception that could not match anything is an error. The number of an exception for ICMP is a
/// type, and TCP packets may name port 0.
#[test]
fn ports_fit_the_transport_and_networks_their_prefix() {
    let site = Listed::new();
    let listed = |from: &str, service: &str| {
        let line = MONITOR.replacen("office", from, 1).replace("tcp,9100,,", service);
        let (code, _, err) = site.audit("csv", &["--exceptions", &site.list(&[&line])]);
        (code == Some(2), err)
    };
    for (from, service, message) in [
        ("office", "icmp,443,,", "port: 443 is not an ICMP type; ICMP types are 0 to 255"),
        ("office", "ip-89,443,,", "port: ip-89 has no ports; leave the cell empty"),
        (
            "10.1.9.8/24",
            "tcp,9100,,",
            "from: 10.1.9.8/24 has bits set beyond its prefix; did you mean \"10.1.9.0/24\", or the address \"10.1.9.8\"?",
        ),
    ] {
        let (is_refused, err) = listed(from, service);
        assert!(is_refused && err.contains(&format!(":2: {message}\n")), "{from} {service}: {err}");
    }
    for service in ["icmp,8,,", "icmp6,*,,", "ip-89,,,", "tcp,0,,", "*,443,,"] {
        assert!(!listed("10.1.9.8/32", service).0, "{service}");
    }
}

/// The template contains the type of ICMP messages, so an exception for a type has to match it.
#[test]
fn an_exception_may_permit_one_type_of_icmp_messages() {
    let mut wire = Wire::default();
    wire.ip(100, "10.1.9.8", "10.1.0.10", 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
    let inventory = INVENTORY.replacen("[farm]\n", "[farm]\nbackground = false\n", 1);
    let site = Listed(Site::new(&inventory, &wire));
    for (service, code) in
        [("icmp,8,,", "exception"), ("icmp,0-7,,", "no-relation"), ("*,8,,", "no-relation")]
    {
        let list = site.list(&[&MONITOR.replace("tcp,9100,,", service)]);
        let rows = site.judged(&list, &[]);
        assert_eq!((&*rows[0][1], &*rows[0][2]), ("8", code), "{service}");
    }
}

/// A template turns findings into exceptions that lack only the owner, the approval and the dates.
#[test]
fn a_list_starts_from_findings() {
    let site = Listed::new();
    let (_, findings, _) = site.audit("csv", &[]);
    fs::write(site.path("findings.csv"), findings).expect("writable");
    let made = rasaudit([
        "exceptions",
        "template",
        "--from",
        &site.path("findings.csv").display().to_string(),
    ]);
    let list = stdout(&made);
    assert!(list.starts_with("# ") && list.contains(HEADER), "{list}");
    let (code, _, err) = site.audit(
        "csv",
        &["--exceptions", &{
            fs::write(site.path("list.csv"), &list).expect("writable");
            site.path("list.csv").display().to_string()
        }],
    );
    assert!(code == Some(2) && err.contains("owner is empty"), "{err}");
    // Fills in the owner, the approval and the dates.
    let filled: String = list
        .lines()
        .map(|line| {
            if line.starts_with(['#', 'i']) {
                format!("{line}\n")
            } else {
                let cells: Vec<&str> = line.splitn(8, ',').collect();
                let reason = cells[7].trim_end_matches(',');
                format!("{},ops,{reason},alice,2026-01-01,2026-12-31,\n", cells[..6].join(","))
            }
        })
        .collect();
    fs::write(site.path("list.csv"), &filled).expect("writable");
    let judged = site.judged(&site.path("list.csv").display().to_string(), &[]);
    assert!(judged.iter().all(|row| row[2] == "exception"), "{judged:?}\n{filled}");
    let wrong =
        rasaudit(["exceptions", "template", "--from", &site.path("a.toml").display().to_string()]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn findings_are_told_as_new_gone_or_still_there() {
    let faults = fixture("farm-faults/span.pcap").display().to_string();
    let inventory = fixture("farm-healthy/inventory.toml").display().to_string();
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let known = scratch.path().join("findings.csv");
    let audit = |more: &[&str]| {
        let base = ["audit", &faults, "-i", &inventory];
        let run = rasaudit(base.iter().chain(more));
        (run.status.code(), stdout(&run), stderr(&run))
    };
    let (_, csv, _) = audit(&["--format", "csv"]);
    fs::write(&known, &csv).expect("writable");
    let path = known.display().to_string();
    let (code, text, _) = audit(&["--known", &path, "--fail-on", "new"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("0 new, 3 still there, 0 gone"), "{text}");
    // One ID in the list is changed. The finding with the old ID is new, and the one with the
    // changed ID is gone.
    let mut lines: Vec<String> = csv.lines().map(str::to_owned).collect();
    lines[1] = lines[1].replacen(&lines[1][..12].to_owned(), "000000000000", 1);
    fs::write(&known, lines.join("\r\n") + "\r\n").expect("writable");
    let (code, text, _) = audit(&["--known", &path, "--fail-on", "new"]);
    assert!(code == Some(1) && text.contains("1 new, 2 still there, 1 gone"), "{text}");
    let (_, csv, _) = audit(&["--known", &path, "--format", "csv"]);
    let since: Vec<_> = columns(&csv, &["severity", "since"]);
    assert_eq!(since.iter().filter(|row| row[1] == "new" && row[0] != "info").count(), 1);
    // Each finding that is gone is listed once, also if there are too many to list.
    for number in 1..=9 {
        lines.push(lines[1].replacen("000000000000", &format!("{number:012}"), 1));
    }
    fs::write(&known, lines.join("\r\n") + "\r\n").expect("writable");
    let (_, text, _) = audit(&["--known", &path]);
    assert!(text.contains("6 more; --format csv lists all"), "{text}");
    let (_, ticket, _) = audit(&["--known", &path, "--format", "markdown"]);
    assert_eq!(ticket.matches(&lines[1][..14]).count(), 1, "{ticket}");
    let (code, _, err) = audit(&["--fail-on", "new"]);
    assert!(code == Some(2) && err.contains("needs --baseline"), "{err}");
    let (code, _, err) = audit(&["--known", &inventory]);
    assert!(code == Some(2) && err.contains("is missing; give the findings.csv"), "{err}");
}

/// Runs `rasaudit exceptions add` for a finding of `report`, with these additional arguments.
fn add(site: &Listed, finding: &str, list: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let report = site.path("report").display().to_string();
    let inventory = site.path("a.toml").display().to_string();
    let base = ["exceptions", "add", finding, "--report", &report, "-i", &inventory];
    let who = ["--exceptions", list, "--owner", "ops", "--approved-by", "alice"];
    let why = ["--reason", "backup; nightly", "--created", "2026-05-01"];
    let run = rasaudit(base.iter().chain(&who).chain(&why).chain(more));
    (run.status.code(), stdout(&run), stderr(&run))
}

#[test]
fn reports_say_what_each_exception_let_through() {
    let site = Listed::new();
    let report = site.path("report");
    let out = report.display().to_string();
    let header = format!("{HEADER},ticket");
    let lines = [
        &*format!("{MONITOR},CHG-7"),
        "soon,10.1.9.7,rdsh1,tcp,445,both,ops,<b>files</b>,bob,2026-01-01,2026-06-20,",
        "old,*,broker1,udp,7777,,=ops,gone,alice,2024-01-01,2024-12-31,",
    ];
    let list = site.path("list.csv");
    fs::write(&list, format!("{header}\n{}\n", lines.join("\n"))).expect("writable");
    let list = list.display().to_string();
    let run = site.0.run(&["--exceptions", &list, "--out", &out, "--quiet"]);
    assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    let csv = fs::read_to_string(report.join("exceptions.csv")).expect("the report");
    let wanted = ["id", "ticket", "status", "conversations", "clients", "servers", "owner", "line"];
    assert_eq!(
        columns(&csv, &wanted),
        [
            ["mon", "CHG-7", "used", "2", "10.1.9.7;10.1.9.8", "broker1", "ops", "2"],
            ["soon", "", "used;expiring", "1", "10.1.9.7", "rdsh1", "ops", "3"],
            ["old", "", "unused;expired", "0", "", "", "'=ops", "4"],
        ]
    );
    let seen = columns(&csv, &["first_seen", "last_seen"]);
    assert!(seen[0].iter().all(|time| time.starts_with("2026-05-28T")) && seen[2][0].is_empty());
    let manifest = fs::read_to_string(report.join("manifest.sha256")).expect("the manifest");
    assert!(manifest.contains("  exceptions.csv\n"), "{manifest}");
    let page = fs::read_to_string(report.join("report.html")).expect("the page");
    let (_, section) = page.split_once("<section id=\"exceptions\"").expect("the section");
    let (section, _) = section.split_once("</section>").expect("its end");
    for part in [
        "CHG-7",
        "used, expiring",
        "unused, expired",
        "&lt;b&gt;files&lt;/b&gt;",
        "alice",
        "office -&gt; broker1 tcp/9100, one direction",
        "any host -&gt; broker1 udp/7777, one direction",
    ] {
        assert!(section.contains(part), "{part}\n{section}");
    }
    let (_, cover) = page.split_once("<section id=\"cover\"").expect("the cover");
    let (cover, _) = cover.split_once("</section>").expect("its end");
    for part in [
        "<b>mon</b> permits office -&gt; broker1 tcp/9100, one direction: monitoring; owner ops, approved by alice, ticket CHG-7, until ",
        "<b>soon</b> permits 10.1.9.7 -&gt; rdsh1 tcp/445, both directions: ",
    ] {
        assert!(cover.contains(part), "{part}\n{cover}");
    }
    let printed = rasaudit(["report", &out, "--format", "markdown"]);
    let ticket = stdout(&printed);
    let (_, section) = ticket.split_once("\n## Exceptions\n\n").expect("the section");
    for part in [
        "- `mon` **used** permits `office -> broker1 tcp/9100, one direction`: monitoring; owner ops, approved by alice, created 2026-01-01, expires 2026-12-31, ticket CHG-7; 2 conversations from 10.1.9.7, 10.1.9.8 to broker1, last seen 2026-05-28T",
        "- `soon` **used, expiring** permits `10.1.9.7 -> rdsh1 tcp/445, both directions`: \\<b\\>files",
        "- `old` **unused, expired** permits `any host -> broker1 udp/7777, one direction`: gone; owner =ops",
        "; no conversation needed it\n",
    ] {
        assert!(section.contains(part), "{part}\n{section}");
    }
    // A report from the stored result is identical.
    let again = rasaudit(["report", &out, "--format", "exceptions"]);
    assert_eq!(stdout(&again), csv);
    // An expired exception still matches traffic after its last day, but no longer allows it.
    let expired = site.list(&[&MONITOR.replace("2026-12-31", "2026-05-27")]);
    let (_, csv, _) = site.audit("exceptions", &["--exceptions", &expired]);
    let counts = columns(&csv, &["status", "conversations", "conversations_expired"]);
    assert_eq!(counts, [["used;expired", "2", "2"]]);
}

/// The person who signs a report must see what is questionable about each exception, and must not
/// confuse the exceptions in force with those that match traffic.
#[test]
fn reports_mark_retroactive_and_self_approved_exceptions() {
    let site = Listed::new();
    let list = site.list(&[
        &MONITOR.replace("alice,2026-01-01", "OPS,2026-05-30"),
        "old,10.1.9.7,rdsh1,tcp,445,,ops,files,bob,2024-01-01,2024-12-31",
        "idle,rdsh1,broker1,tcp,7777,,ops,nothing,bob,2026-01-01,2026-12-31",
    ]);
    let (_, csv, _) = site.audit("exceptions", &["--exceptions", &list]);
    let status = columns(&csv, &["status"]);
    assert_eq!(status, [["used;retroactive;self-approved"], ["used;expired"], ["unused"]]);
    let (_, page, _) = site.audit("html", &["--exceptions", &list]);
    let (_, ticket, _) = site.audit("markdown", &["--exceptions", &list]);
    let part = |text: &str, start: &str, end: &str| {
        let (_, rest) = text.split_once(start).expect("the start");
        rest.split_once(end).expect("the end").0.to_owned()
    };
    let cover = part(&page, "<section id=\"cover\"", "</section>");
    let item = part(&cover, "<b>mon</b>", "</li>");
    let row = part(&page, "<span class=\"word\">mon</span>", "</tr>");
    let (_, section) = ticket.split_once("\n## Exceptions\n").expect("the section");
    let line = section.lines().find(|line| line.starts_with("- `mon`")).expect("its line");
    for place in [&*item, &*row, line] {
        for question in [
            "retroactive: created after the end of traffic that it allows",
            "self-approved: the owner is also the approver",
        ] {
            assert!(place.contains(question), "{question}: {place}");
        }
    }
    assert!(!part(&cover, "<b>idle</b>", "</li>").contains("⚠"), "{cover}");
    let counts = "In the list: 3 exceptions (2 in force, 1 expired). With captured traffic: 2 (1 in force, 1 expired).";
    assert!(cover.contains(counts), "{cover}");
    assert!(
        ticket.contains("2 of 3 exceptions match captured traffic, including expired exceptions"),
        "{ticket}"
    );
}

/// A report contains a file `exceptions.csv`, and users often give their own list the same name.
#[test]
fn a_report_does_not_replace_the_list_of_exceptions() {
    let site = Listed::new();
    let list = site.list(&[MONITOR]);
    let before = fs::read(&list).expect("the list");
    let out = site.0.folder.path().display().to_string();
    let run = site.0.run(&["--exceptions", &list, "--out", &out]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("is not part of an earlier report"), "{}", stderr(&run));
    assert_eq!(fs::read(&list).expect("the list"), before);
    // An earlier report is replaced.
    let out = site.path("report").display().to_string();
    for _ in 0..2 {
        let run = site.0.run(&["--exceptions", &list, "--out", &out, "--quiet"]);
        assert_eq!(run.status.code(), Some(1), "{}", stderr(&run));
    }
}

/// A day that cannot be compared with times is an error: no line is left out silently.
#[test]
fn days_that_are_out_of_range_are_errors() {
    let site = Listed::new();
    for day in ["9999-12-31", "2262-04-11", "2500-01-01"] {
        let list = site.list(&[&MONITOR.replace("2026-12-31", day)]);
        let (code, _, err) = site.audit("text", &["--exceptions", &list]);
        let message = format!("expires: {day} is out of range; give a day from");
        assert!(code == Some(2) && err.contains(&message), "{err}");
    }
    let list = site.list(&[&MONITOR.replace("2026-12-31", "2262-04-10")]);
    assert_eq!(site.judged(&list, &[]).iter().filter(|row| row[2] == "exception").count(), 2);
}

/// An entry that is wider than the finding permits its traffic, unless it ends earlier.
#[test]
fn nothing_is_added_for_traffic_that_a_wider_entry_permits() {
    let site = Listed::new();
    let out = site.path("report").display().to_string();
    site.0.run(&["--out", &out, "--quiet"]);
    let findings = fs::read_to_string(site.path("report/findings.csv")).expect("the report");
    let ids = columns(&findings, &["id", "port"]);
    let id = &ids.iter().find(|row| row[1] == "445").expect("the finding")[0];
    let base = "w,office,rdsh1,tcp,445,,ops,x,alice,2026-01-01,2026-12-31";
    let until = ["--expires", "2026-12-31"];
    for (now, wide) in [
        ("office,rdsh1,tcp,445,,", true),
        ("role:parallels-client,role:rdsh-agent,*,*,,", true),
        ("10.1.9.0/24,10.1.0.0/24,tcp,400-500,,", true),
        ("*,*,tcp,445,,", true),
        ("rdsh1,office,tcp,445,both,", true),
        ("rdsh1,office,tcp,445,,", false),
        ("10.1.9.8,rdsh1,tcp,445,,", false),
        ("10.1.9.0/24,10.2.0.0/24,tcp,445,,", false),
        ("office,rdsh1,udp,445,,", false),
        ("office,rdsh1,tcp,446-500,,", false),
        ("office,broker1,tcp,445,,", false),
    ] {
        let list = site.list(&[&base.replace("office,rdsh1,tcp,445,,", now)]);
        let (code, _, err) = add(&site, id, &list, &until);
        let message = "the exception w permits this traffic from ";
        assert_eq!((code == Some(2), err.contains(message)), (wide, wide), "{now}\n{err}");
    }
    // A wider entry that ends earlier does not replace the new one.
    let list = site.list(&[base]);
    assert_eq!(add(&site, id, &list, &["--expires", "2027-01-01"]).0, Some(0));
}

/// Expiry is compared with the time of the traffic, not with the current day, or with `--as-of`. An
/// exception that expires before has no effect on the finding.
#[test]
fn nothing_is_added_that_expires_before_the_traffic() {
    let site = Listed::new();
    let out = site.path("report").display().to_string();
    // The capture is from 2026-05-28.
    for (as_of, early, late) in
        [(None, "2026-05-27", "2026-05-28"), (Some("2026-06-10"), "2026-06-09", "2026-06-10")]
    {
        let as_of: Vec<&str> = as_of.into_iter().flat_map(|day| ["--as-of", day]).collect();
        let list = site.list(&[]);
        let with_list = ["--out", &out, "--quiet", "--exceptions", &list];
        site.0.run(&[&with_list[..], &as_of].concat());
        let findings = fs::read_to_string(site.path("report/findings.csv")).expect("the report");
        let ids = columns(&findings, &["id", "port"]);
        let id = &ids.iter().find(|row| row[1] == "445").expect("the finding")[0];
        let before = fs::read(&list).expect("the list");
        let (code, _, err) = add(&site, id, &list, &["--expires", early]);
        let message = format!("would expire on {early} and therefore not permit the traffic");
        assert!(code == Some(2) && err.contains(&message), "{err}");
        assert_eq!(fs::read(&list).expect("the list"), before);
        assert_eq!(add(&site, id, &list, &["--expires", late]).0, Some(0), "{late}");
    }
}

/// The next audit would replace the exceptions report, so this report cannot be a list.
#[test]
fn the_report_on_exceptions_is_not_a_list() {
    let site = Listed::new();
    let out = site.path("report").display().to_string();
    let list = site.list(&[MONITOR]);
    site.0.run(&["--out", &out, "--quiet", "--exceptions", &list]);
    let findings = fs::read_to_string(site.path("report/findings.csv")).expect("the report");
    let ids = columns(&findings, &["id", "port"]);
    let id = &ids.iter().find(|row| row[1] == "445").expect("the finding")[0];
    let report = site.path("report/exceptions.csv").display().to_string();
    let before = fs::read_to_string(&report).expect("the report");
    let (code, _, err) = add(&site, id, &report, &["--expires", "2026-12-31"]);
    assert!(code == Some(2) && err.contains("name another list with --exceptions"), "{err}");
    let run = site.0.run(&["--out", &out, "--quiet", "--exceptions", &report]);
    assert_eq!(run.status.code(), Some(2));
    assert!(stderr(&run).contains("would replace this list of exceptions"), "{}", stderr(&run));
    assert_eq!(fs::read_to_string(&report).expect("the report"), before);
}

#[test]
fn files_of_a_spreadsheet_are_read() {
    let site = Listed::new();
    let path = site.path("excel.csv");
    let name = path.display().to_string();
    let write = |separator: &str, dates: &[[&str; 2]]| {
        let header = format!("{HEADER},ticket").replace(',', separator);
        let rows = dates.iter().enumerate().map(|(number, [created, expires])| {
            let port = 9100 + number;
            format!("m{number},office,broker1,tcp,{port},,ops,x,alice,{created},{expires},")
                .replace(',', separator)
        });
        let empty = separator.repeat(11);
        let rows: Vec<String> = rows.collect();
        let text =
            format!("\u{feff}# a note{empty}\r\n{header}\r\n{}\r\n{empty}\r\n", rows.join("\r\n"));
        fs::write(&path, text).expect("writable");
    };
    let expires = || {
        let (code, csv, err) = site.audit("exceptions", &["--exceptions", &name]);
        assert!(code == Some(1), "{err}");
        columns(&csv, &["created", "expires"]).concat()
    };
    for (separator, dates, read) in [
        (";", &[["01.02.2026", "31.12.2026"]][..], &["2026-02-01", "2026-12-31"][..]),
        ("\t", &[["2026-02-01", "2026-12-31"]], &["2026-02-01", "2026-12-31"]),
        (",", &[["1/2/2026", "12/31/2026"]], &["2026-01-02", "2026-12-31"]),
        // The second line shows that the day comes first, which makes the first line unambiguous.
        (
            ";",
            &[["01/02/2026", "2026-12-31"], ["03/03/2026", "31/12/2026"]],
            &["2026-02-01", "2026-12-31", "2026-03-03", "2026-12-31"],
        ),
    ] {
        write(separator, dates);
        assert_eq!(expires(), read, "{dates:?}");
    }
    for (dates, message) in [
        (
            &[["2026-01-01", "01/02/2027"]][..],
            ":3: expires: \"01/02/2027\" is 2027-02-01 or 2027-01-02: no other date in the file shows which",
        ),
        (
            &[["31/01/2026", "12/31/2026"], ["2026-01-01", "01/02/2027"]],
            ":4: expires: \"01/02/2027\" is 2027-02-01 or 2027-01-02: line 3 has the day first, but line 3 has the month first",
        ),
        (&[["31/02/2026", "12.31.2026"]], ":3: created: \"31/02/2026\" is not a valid date"),
    ] {
        write(";", dates);
        let (code, _, err) = site.audit("csv", &["--exceptions", &name]);
        assert!(code == Some(2) && err.contains(message), "{message}\n{err}");
    }
}

#[test]
fn an_exception_is_added_for_a_finding() {
    let site = Listed::new();
    let out = site.path("report").display().to_string();
    site.0.run(&["--out", &out, "--quiet"]);
    let findings = fs::read_to_string(site.path("report/findings.csv")).expect("the report");
    let ids = columns(&findings, &["id", "port", "code"]);
    let id = |port: &str| &ids.iter().find(|row| row[1] == port).expect("the finding")[0];
    let list = site.path("list.csv");
    let path = list.display().to_string();
    let until = ["--expires", "2026-12-31", "--ticket", "CHG-1"];
    // A new list gets a header. A finding about several clients gets one line for each client.
    let (code, said, err) = add(&site, id("9100"), &path, &until);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(said.ends_with(&format!(": added {0}, {0}-2\n", id("9100"))), "{said}");
    let text = fs::read_to_string(&list).expect("the list");
    assert!(text.contains(&format!(
        "\n{0},10.1.9.7,broker1,tcp,9100,to-server,ops,backup; nightly,alice,2026-05-01,2026-12-31,CHG-1\n{0}-2,10.1.9.8,",
        id("9100")
    )), "{text}");
    assert_eq!(add(&site, id("445"), &path, &until).0, Some(0));
    let judged = site.judged(&path, &[]);
    assert!(judged.len() == 3 && judged.iter().all(|row| row[2] == "exception"), "{judged:?}");
    let is_whole = |before: &str| assert_eq!(fs::read_to_string(&list).expect("the list"), before);
    // Nothing is written if anything is wrong.
    let before = fs::read_to_string(&list).expect("the list");
    let twice = ["--expires", "2026-12-31", "--id", "again"];
    for (finding, more, message) in [
        (id("445").as_str(), &until[..], "already has an exception with the id"),
        (id("445"), &twice, "permits this traffic from "),
        (id("445"), &["--expires", "2026-04-30", "--id", "b"], "before it was created"),
        (id("445"), &["--expires", "2026-12-31", "--id", "#b"], "cannot be the id of an exception"),
        (id("445"), &["--expires", "31.12.2026"], "give a date like 2027-01-31"),
        ("f-000000000000", &until, "has no finding \"f-000000000000\""),
    ] {
        let (code, _, err) = add(&site, finding, &path, more);
        assert!(code == Some(2) && err.contains(message), "{message}\n{err}");
        is_whole(&before);
    }
    // The message names the id that is in the list already.
    let second = site.path("second.csv");
    fs::write(
        &second,
        format!("{HEADER}\nb-2,10.1.9.7,broker1,udp,1,,ops,x,alice,2026-01-01,2026-12-31\n"),
    )
    .expect("writable");
    let more = ["--expires", "2026-12-31", "--id", "b"];
    let (code, _, err) = add(&site, id("9100"), &second.display().to_string(), &more);
    assert!(code == Some(2) && err.contains("an exception with the id b-2;"), "{err}");
    // If the inventory of the audit is gone, another one must be named.
    fs::rename(site.path("a.toml"), site.path("b.toml")).expect("a file");
    let base = ["exceptions", "add", id("9100"), "--report", &out, "--exceptions", &path];
    let run = rasaudit(
        base.iter().chain(&["--owner", "o", "--approved-by", "a", "--reason", "r"]).chain(&until),
    );
    let err = stderr(&run);
    assert!(err.contains("the audit used this inventory") && err.contains("with -i"), "{err}");
    fs::rename(site.path("b.toml"), site.path("a.toml")).expect("a file");
    // A list that was saved by a spreadsheet keeps its separator, columns and line endings.
    let excel = HEADER.replace(',', ";").replace("id;", "note;id;");
    fs::write(&list, format!("\u{feff}{excel}")).expect("writable");
    let (code, _, err) = add(&site, id("445"), &path, &until);
    assert!(code == Some(2) && err.contains("has no column \"ticket\""), "{err}");
    is_whole(&format!("\u{feff}{excel}"));
    let (code, _, err) = add(&site, id("445"), &path, &until[..2]);
    assert_eq!(code, Some(0), "{err}");
    is_whole(&format!(
        "\u{feff}{excel}\n;{};10.1.9.7;rdsh1;tcp;445;to-server;ops;\"backup; nightly\";alice;2026-05-01;2026-12-31\n",
        id("445")
    ));
    // An exception that has ended may be renewed, and a broken list is not touched.
    let ended = fs::read_to_string(&list).expect("the list").replace("2026-12-31", "2026-05-01");
    fs::write(&list, ended.replace("2026-05-01;2026-05-01", "2026-01-01;2026-04-30"))
        .expect("writable");
    assert_eq!(add(&site, id("445"), &path, &twice).0, Some(0));
    let broken = format!("{HEADER}\na,offce,broker1,tcp,9100,,ops,x,alice,2026-01-01,2026-12-31\n");
    fs::write(&list, &broken).expect("writable");
    let (code, _, err) = add(&site, id("445"), &path, &until[..2]);
    assert!(code == Some(2) && err.contains("did you mean \"office\"?"), "{err}");
    is_whole(&broken);
    let left: Vec<_> = fs::read_dir(site.0.folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// An exception permits traffic, so none can be added for traffic that is missing.
#[test]
fn no_exception_is_added_for_what_is_missing() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report").display().to_string();
    let list = scratch.path().join("list.csv");
    let capture = fixture("farm-faults/span.pcap").display().to_string();
    let inventory = fixture("farm-healthy/inventory.toml").display().to_string();
    rasaudit(["audit", &capture, "-i", &inventory, "--out", &out, "--quiet"]);
    let add = |finding: &str, more: &[&str]| {
        let base = ["exceptions", "add", finding, "--report", &out, "--owner", "o"];
        let rest = ["--approved-by", "a", "--reason", "r", "--expires", "2099-12-31"];
        let run = rasaudit(base.iter().chain(&rest).chain(more));
        (run.status.code(), stderr(&run))
    };
    let path = list.display().to_string();
    let (code, err) = add("f-4c9d16300279", &["--exceptions", &path]);
    assert!(code == Some(2) && err.contains("cannot cover missing/refused"), "{err}");
    assert!(!list.exists());
    // The audit had no list of exceptions, so `--exceptions` is required. The inventory is the one
    // that the audit used.
    let (code, err) = add("f-98457e43204a", &[]);
    assert!(code == Some(2) && err.contains("name one with --exceptions"), "{err}");
    let (code, err) = add("98457e43204a", &["--exceptions", &path]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("is valid for more than a year"), "{err}");
}

#[test]
fn a_frame_with_a_doubted_timestamp_neither_expires_an_exception_nor_hides_that_it_expired() {
    const HOUR: u64 = 3_600_000;
    const YEARS: u64 = 70 * 365 * 24 * HOUR;
    let client = ("10.1.9.7", 50_000);
    let broker = ("10.1.0.10", 9100);
    // Returns the code, the certainty, the doubts and the last packet of the conversation. The
    // capture lasts from 2026-05-28 to 2026-05-30.
    let judged = |until: &str, sent: &[u64]| {
        let mut wire = Wire::default();
        wire.connect(0, client, broker);
        (0..36).for_each(|hour| wire.connect(hour * HOUR, ("10.1.0.30", 50_002), broker));
        sent.iter().for_each(|ms| wire.data(*ms, client, broker, (1, 1), b"data"));
        let site = Listed(Site::new(INVENTORY, &wire));
        let list = site.list(&[&MONITOR.replace("2026-12-31", until)]);
        let (_, report, _) = site.audit("conversations", &["--exceptions", &list]);
        let rows = columns(&report, &["client", "code", "certain", "doubt", "last_seen"]);
        let rows = rows.into_iter().filter(|row| row[0] == "10.1.9.7");
        let rows: Vec<String> = rows.map(|row| row[1..].join(" ")).collect();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        let all = site.audit("csv", &["--exceptions", &list]).1;
        assert!(!all.contains("2096"), "{all}");
        row.clone()
    };
    let first = "2026-05-28T20:26:40";
    let valid = judged("2026-12-31", &[YEARS]);
    assert!(valid.starts_with(&format!("exception yes  {first}")), "{valid}");
    // The frame may have arrived at any time of the capture, so also after the exception expired.
    let unknown = judged("2026-05-28", &[YEARS]);
    assert!(unknown.starts_with(&format!("expired-exception no clock {first}")), "{unknown}");
    let expired = judged("2026-05-28", &[10 * HOUR]);
    assert!(expired.starts_with("expired-exception yes  2026-05-29T06"), "{expired}");
    let in_time = judged("2026-05-28", &[HOUR]);
    assert!(in_time.starts_with("exception yes  2026-05-28T21"), "{in_time}");
}
