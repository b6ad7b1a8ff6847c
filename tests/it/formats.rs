//! Tests the formats for CI systems: JUnit, SARIF and JSON lines. Other programs read these files,
//! so the tests validate them against the public schemas and read them with independent parsers.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::wire::{ACK, Wire};
use crate::support::{FIXTURES, columns, fixture, rasaudit, skipped, stderr, stdout};
use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use serde_json::{Value, json};

const FORMATS: [&str; 3] = ["junit", "sarif", "jsonl"];

/// A test case in a JUnit report.
#[derive(Debug)]
struct Test {
    suite: String,
    class: String,
    name: String,
    /// `passed`, or the name of the element in the test case, for example `failure`.
    outcome: String,
    kind: String,
    message: String,
    text: String,
}

/// The required and the optional attributes of each element, according to the schemas of the
/// Jenkins xUnit plugin (`junit-10.xsd`) and of Ant.
const ELEMENTS: [(&str, &[&str], &[&str]); 6] = [
    ("testsuites", &["name", "tests", "failures", "errors"], &["time"]),
    ("testsuite", &["name", "tests", "failures", "errors", "skipped", "time"], &["timestamp"]),
    ("testcase", &["classname", "name", "time"], &[]),
    ("failure", &["type", "message"], &[]),
    ("error", &["type", "message"], &[]),
    ("skipped", &["type", "message"], &[]),
];

/// Returns the attributes of an element, after checking that the schema allows them.
fn attributes(element: &BytesStart<'_>) -> BTreeMap<String, String> {
    let name = element.name();
    let name: &str = name.as_ref();
    let (_, required, optional) = ELEMENTS
        .iter()
        .find(|(known, ..)| *known == name)
        .unwrap_or_else(|| panic!("{name:?} is not an element of JUnit"));
    let mut found = BTreeMap::new();
    for attribute in element.attributes() {
        let attribute = attribute.expect("an attribute");
        let key: &str = attribute.key.as_ref();
        let key = key.to_owned();
        assert!(required.contains(&&*key) || optional.contains(&&*key), "{key}");
        let value = attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .expect("a value")
            .into_owned();
        found.insert(key, value);
    }
    assert!(required.iter().all(|name| found.contains_key(*name)), "{found:?}");
    found
}

/// Reads a JUnit report, and checks its structure and its counts.
fn junit(xml: &str) -> Vec<Test> {
    assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites "), "{xml}");
    let mut reader = Reader::from_str(xml);
    let mut path: Vec<String> = Vec::new();
    let mut counts: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut tests: Vec<Test> = Vec::new();
    loop {
        let event = reader.read_event().expect("well-formed XML");
        match &event {
            Event::Eof => break,
            Event::Start(element) | Event::Empty(element) => {
                let raw = element.name();
                let name: &str = raw.as_ref();
                let name = name.to_owned();
                let found = attributes(element);
                let parent = path.last().map_or("", String::as_str);
                match (parent, name.as_str()) {
                    ("", "testsuites") | ("testsuites", "testsuite") => {
                        counts.push((name.clone(), found));
                    }
                    ("testsuite", "testcase") => tests.push(Test {
                        suite: counts.last().expect("a suite").1["name"].clone(),
                        class: found["classname"].clone(),
                        name: found["name"].clone(),
                        outcome: "passed".to_owned(),
                        kind: String::new(),
                        message: String::new(),
                        text: String::new(),
                    }),
                    ("testcase", "failure" | "error" | "skipped") => {
                        let test = tests.last_mut().expect("a test");
                        assert_eq!(test.outcome, "passed", "one outcome each");
                        test.outcome = name.clone();
                        test.kind = found["type"].clone();
                        test.message = found["message"].clone();
                    }
                    other => panic!("{other:?}"),
                }
                if matches!(event, Event::Start(_)) {
                    path.push(name);
                }
            }
            Event::End(_) => drop(path.pop()),
            Event::GeneralRef(entity) => {
                let name: &str = entity;
                let text = resolve_predefined_entity(name).expect("a predefined entity");
                tests.last_mut().expect("a test").text += text;
            }
            Event::Text(text) => {
                let text = text.xml10_content();
                let is_inside =
                    path.last().is_some_and(|name| ["failure", "error"].contains(&&**name));
                assert!(is_inside || text.trim().is_empty(), "{text}");
                if is_inside {
                    tests.last_mut().expect("a test").text += &text;
                }
            }
            _ => {}
        }
    }
    for (element, found) in counts {
        let own = || tests.iter().filter(|t| element == "testsuites" || t.suite == found["name"]);
        let count = |outcome: &str| own().filter(|t| t.outcome == outcome).count().to_string();
        assert_eq!(found["tests"], own().count().to_string(), "{element}");
        assert_eq!(found["failures"], count("failure"), "{element}");
        assert_eq!(found["errors"], count("error"), "{element}");
        if let Some(skipped) = found.get("skipped") {
            assert_eq!(*skipped, count("skipped"), "{element}");
        }
    }
    tests
}

/// Returns the run of a SARIF file, after validating it against the public schema.
fn sarif(text: &str) -> Value {
    // One pattern of the published schema has a superfluous bracket, which not every validator
    // accepts, so the bracket is removed.
    let schema =
        include_str!("../schemas/sarif-2.1.0.json").replace("[a-zA-Z]{2}]?$", "[a-zA-Z]{2}?$");
    let schema: Value = serde_json::from_str(&schema).expect("a schema");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    assert!(!validator.is_valid(&json!({"version": "2.0.0", "runs": []})));
    let log: Value = serde_json::from_str(text).expect("JSON");
    let errors: Vec<String> =
        validator.iter_errors(&log).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    for result in run["results"].as_array().expect("results") {
        // Rules of the standard that the schema does not express: sections 3.27.5, 3.27.6 and
        // 3.27.10.
        if let Some(index) = result["ruleIndex"].as_u64() {
            assert_eq!(rules[index as usize]["id"], result["ruleId"]);
        }
        assert_eq!(result["kind"] == "fail", result["level"] != "none", "{result}");
        assert!(result["message"]["text"].as_str().is_some_and(|text| !text.is_empty()));
    }
    for rule in rules {
        let help = rule["help"]["text"].as_str().expect("a help text");
        assert!(help.ends_with('.') && rule["shortDescription"]["text"] != "", "{rule}");
    }
    run.clone()
}

fn report(path: &Path, format: &str) -> String {
    let run = rasaudit(["report".as_ref(), path.as_os_str(), "--format".as_ref(), format.as_ref()]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    stdout(&run)
}

/// Audits the farm with faults, with these additional arguments.
fn faults(more: &[&str]) -> String {
    let capture = fixture("farm-faults/span.pcap").display().to_string();
    let inventory = fixture("farm-healthy/inventory.toml").display().to_string();
    let base = ["audit", &capture, "-i", &inventory];
    let run = rasaudit(base.iter().chain(more));
    assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
    stdout(&run)
}

#[test]
fn a_stored_result_gives_the_formats_of_its_audit() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let stored = scratch.path().join("audit.json");
    for case in FIXTURES {
        let audit = |format: &str| {
            let more = ["--format".to_owned(), format.to_owned()];
            stdout(&rasaudit([case.arguments(), more.to_vec()].concat()))
        };
        fs::write(&stored, audit("json")).expect("writable");
        for format in FORMATS {
            let printed = audit(format);
            assert!(report(&stored, format) == printed, "{}: {format}", case.name);
            match format {
                "junit" => drop(junit(&printed)),
                "sarif" => drop(sarif(&printed)),
                _ => {}
            }
        }
    }
}

#[test]
fn a_group_and_a_source_host_are_a_test() {
    let tests = junit(&faults(&["--format", "junit"]));
    let of = |class: &str, name: &str| {
        let mut found = tests.iter().filter(|t| t.class == class && t.name == name);
        let test = found.next().unwrap_or_else(|| panic!("{class} {name}"));
        assert!(found.next().is_none(), "{class} {name} is there twice");
        test
    };
    let refused = of("ras19.ssrs.sql-server.1433", "rep1");
    assert_eq!((&*refused.outcome, &*refused.kind), ("failure", "missing/refused"));
    assert!(refused.message.starts_with("high f-4c9d16300279: TCP 1433 from rep1"), "{refused:?}");
    assert!(refused.text.starts_with("To do: ") && refused.text.contains("\nserver 10.20.1.85"));
    assert_eq!(of("ras19.parallels-client.halb.web", "office").outcome, "passed");
    let off = of("ras19.halb.gateway-normal.20009", "halb1");
    assert_eq!((&*off.outcome, &*off.kind), ("skipped", "feature-off"));
    assert!(off.message.contains("device-manager"), "{off:?}");
    // A finding about traffic that is not permitted is a separate test.
    let own = of("findings.wrong-source", "f-98457e43204a 10.20.9.102 to broker1 tcp 20002");
    assert_eq!((&*own.suite, &*own.outcome), ("findings", "failure"));
    // Two groups document the traffic that is refused.
    assert_eq!(of("ras19.ras-reporting.sql-server.1433", "rep1").message, refused.message);
    assert_eq!(tests.iter().filter(|t| t.outcome == "failure").count(), 4);
    let mut names: Vec<_> = tests.iter().map(|t| (&t.suite, &t.class, &t.name)).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), tests.len(), "every test has a name of its own");
}

#[test]
fn fail_on_decides_which_tests_fail() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report").display().to_string();
    faults(&["--out", &out, "--quiet"]);
    for (more, failures, reason) in [
        (&[][..], 4, ""),
        (&["--fail-on", "high"], 4, ""),
        (&["--fail-on", "critical"], 0, "below --fail-on critical: high f-"),
        (&["--fail-on", "never"], 0, "--fail-on never: high f-"),
        (&["--fail-on", "new", "--baseline", &out], 0, "not new (--fail-on new): high f-"),
    ] {
        let tests = junit(&faults(&[&["--format", "junit"], more].concat()));
        assert_eq!(tests.iter().filter(|t| t.outcome == "failure").count(), failures, "{more:?}");
        let told = tests.iter().filter(|t| t.outcome == "skipped" && t.message.starts_with(reason));
        assert!(reason.is_empty() || told.count() == 4, "{more:?}");
    }
    // Results of earlier versions do not contain the threshold, so the default applies.
    let stored = scratch.path().join("audit.json");
    let mut json: Value =
        serde_json::from_str(&faults(&["--format", "json", "--fail-on", "never"])).expect("JSON");
    assert_eq!(json["fail_on"], "never");
    json.as_object_mut().expect("an object").remove("fail_on");
    fs::write(&stored, json.to_string()).expect("writable");
    let tests = junit(&report(&stored, "junit"));
    assert_eq!(tests.iter().filter(|t| t.outcome == "failure").count(), 4);
}

#[test]
fn what_went_wrong_with_the_audit_is_a_test_too() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let cut = scratch.path().join("cut.pcap");
    let whole = fs::read(fixture("farm-faults/span.pcap")).expect("the fixture");
    fs::write(&cut, &whole[..100_000]).expect("writable");
    let inventory = fixture("farm-healthy/inventory.toml");
    let audit = |capture: &Path, format: &str| {
        let arguments =
            ["audit".as_ref(), capture.as_os_str(), "-i".as_ref(), inventory.as_os_str()];
        let more = ["--require-assessed".as_ref(), "--format".as_ref(), format.as_ref()];
        stdout(&rasaudit([&arguments[..], &more].concat()))
    };
    let outcome = |tests: &[Test], name: &str| {
        tests.iter().find(|t| t.name == name).expect("the test").outcome.clone()
    };
    let tests = junit(&audit(&cut, "junit"));
    assert_eq!(outcome(&tests, "the input was read completely"), "error");
    let run = sarif(&audit(&cut, "sarif"));
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    let notes = run["invocations"][0]["toolExecutionNotifications"].as_array().expect("a list");
    assert!(notes.iter().any(|n| n["descriptor"]["id"] == "input" && n["level"] == "error"));
    let tests = junit(&audit(&fixture("formats/empty.pcap"), "junit"));
    assert_eq!(outcome(&tests, "something was checked"), "error");
    assert!(tests.iter().filter(|t| t.suite == "matrix").all(|t| t.outcome == "skipped"));
}

#[test]
fn a_result_of_sarif_leads_to_its_line() {
    let run = sarif(&faults(&["--format", "sarif"]));
    let results = run["results"].as_array().expect("results");
    assert_eq!(results.len(), 3);
    for result in results {
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "rules/ras-19/matrix.csv");
        let line = place["region"]["startLine"].as_u64().expect("a line") as usize;
        let matrix = include_str!("../../rules/ras-19/matrix.csv");
        let row = matrix.lines().nth(line - 1).expect("the line");
        let rule = result["properties"]["rule"].as_str().expect("a rule");
        assert!(row.starts_with(&format!("{rule},")), "{row}");
        assert_eq!((&result["level"], &result["kind"]), (&"error".into(), &"fail".into()));
        let id = result["partialFingerprints"]["rasauditFinding/v1"].as_str().expect("an id");
        assert!(id.starts_with("f-") && result.get("baselineState").is_none());
        for end in result["relatedLocations"].as_array().expect("a list") {
            let uri = end["physicalLocation"]["artifactLocation"]["uri"].as_str().expect("a URI");
            assert!(uri.starts_with("file:///") && uri.ends_with("/inventory.toml"), "{uri}");
        }
    }
    let sql = &results[1]["relatedLocations"][1]["physicalLocation"]["region"]["startLine"];
    let inventory = fs::read_to_string(fixture("farm-healthy/inventory.toml")).expect("a file");
    let line = sql.as_u64().expect("a line") as usize;
    let entry: Vec<&str> = inventory.lines().skip(line - 1).take(3).collect();
    assert!(entry.iter().any(|line| line.contains("\"sql1\"")), "{entry:?}");
}

#[test]
fn a_baseline_gives_each_result_its_state() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("report").display().to_string();
    faults(&["--out", &out, "--quiet"]);
    let states = |run: &Value| {
        let results = run["results"].as_array().expect("results").clone();
        let mut states: Vec<String> = results
            .iter()
            .map(|r| r["baselineState"].as_str().expect("a state").to_owned())
            .collect();
        states.dedup();
        states
    };
    assert_eq!(states(&sarif(&faults(&["--baseline", &out, "--format", "sarif"]))), ["unchanged"]);
    let healthy = fixture("farm-healthy/span.pcap").display().to_string();
    let inventory = fixture("farm-healthy/inventory.toml").display().to_string();
    let audit =
        |more: &[&str]| stdout(&rasaudit(["audit", &healthy, "-i", &inventory].iter().chain(more)));
    let gone = sarif(&audit(&["--baseline", &out, "--format", "sarif"]));
    assert_eq!(states(&gone), ["absent"]);
    assert_eq!(gone["results"].as_array().map(Vec::len), Some(3));
    let before = scratch.path().join("healthy").display().to_string();
    audit(&["--out", &before, "--quiet"]);
    assert_eq!(states(&sarif(&faults(&["--baseline", &before, "--format", "sarif"]))), ["new"]);
}

#[test]
fn results_beyond_the_limit_are_counted() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let stored = scratch.path().join("audit.json");
    let mut json: Value = serde_json::from_str(&faults(&["--format", "json"])).expect("JSON");
    let worst = json["findings"][0].clone();
    let many = (0..25_003).map(|number| {
        let mut finding = worst.clone();
        finding["id"] = format!("f-{number:012x}").into();
        finding
    });
    json["findings"] = many.collect();
    // The summary is changed as well, because a result whose summary contradicts its tables is
    // rejected.
    json["summary"]["findings"] = json!({
        "total": 25_003,
        "by_verdict": { "undocumented": 25_003 },
        "by_code": { "wrong-source": 25_003 },
        "by_severity": { "high": 25_003 },
    });
    fs::write(&stored, json.to_string()).expect("writable");
    let log: Value = serde_json::from_str(&report(&stored, "sarif")).expect("JSON");
    let run = &log["runs"][0];
    assert_eq!(run["results"].as_array().map(Vec::len), Some(25_000));
    let notes = run["invocations"][0]["toolExecutionNotifications"].as_array().expect("a list");
    let text = notes[0]["message"]["text"].as_str().expect("a text");
    assert!(text.contains("3 findings left out") && text.contains("25003"), "{text}");
    // The other formats contain all findings.
    assert_eq!(
        junit(&report(&stored, "junit")).iter().filter(|t| t.outcome == "failure").count(),
        25_003
    );
    let lines = report(&stored, "jsonl");
    assert_eq!(lines.lines().filter(|l| l.starts_with("{\"record\":\"finding\"")).count(), 25_003);
}

#[test]
fn json_lines_are_the_rows_of_the_tables() {
    let lines = faults(&["--format", "jsonl"]);
    let lines: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let json: Value = serde_json::from_str(&faults(&["--format", "json"])).expect("JSON");
    for (record, table) in [("finding", "findings"), ("conversation", "conversations")] {
        let rows = lines.iter().filter(|line| line["record"] == record);
        let expected = json[table].as_array().expect("a table");
        assert_eq!(rows.clone().count(), expected.len(), "{record}");
        for (row, expected) in rows.zip(expected) {
            let mut expected = expected.clone();
            let expected = expected.as_object_mut().expect("an object");
            expected.remove("trace");
            expected.remove("talkers");
            expected.insert("record".to_owned(), record.into());
            assert_eq!(row.as_object(), Some(&*expected));
        }
    }
    // Without an inventory there are only conversations, and no tests.
    let capture = fixture("farm-faults/span.pcap").display().to_string();
    let run = rasaudit(["audit", &capture, "--format", "jsonl"]);
    assert!(stdout(&run).lines().all(|line| line.starts_with("{\"record\":\"conversation\"")));
    for format in ["junit", "sarif"] {
        let run = rasaudit(["audit", &capture, "--format", format]);
        assert!(run.status.code() == Some(2) && stderr(&run).contains("needs an inventory"));
    }
}

/// Strings from traffic and from a changed result stay text.
#[test]
fn hostile_strings_stay_text() {
    const HOSTILE: &str = "\u{0}\u{1b}[2J\u{9b}\u{202e}\u{fffe}\u{ffff}]]></failure>&amp;<!--\"'\r\n{0} [x](http://evil)";
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let stored = scratch.path().join("audit.json");
    let mut json: Value = serde_json::from_str(&faults(&["--format", "json"])).expect("JSON");
    json["findings"][1]["clients"] = json!([format!("c{HOSTILE}")]);
    for finding in json["findings"].as_array_mut().expect("a table") {
        for key in ["message", "action", "display_filter", "client_name", "rule"] {
            finding[key] = format!("{key}{HOSTILE}").into();
        }
        finding["id"] = format!("{}{HOSTILE}", finding["id"].as_str().expect("an id")).into();
        finding["trace"] = json!([format!("trace{HOSTILE}")]);
    }
    json["inventory"]["file"] = format!("a{HOSTILE}").into();
    json["farm"] = HOSTILE.into();
    json["matrix_rows"][0]["group"] = format!("group{HOSTILE}").into();
    fs::write(&stored, json.to_string()).expect("writable");
    for format in FORMATS {
        let text = report(&stored, format);
        let is_bad = |c: char| {
            c != '\n' && (c.is_control() || matches!(c, '\u{202e}'))
                || format == "junit" && matches!(c, '\u{fffe}' | '\u{ffff}')
        };
        assert!(!text.chars().any(is_bad), "{format}");
        match format {
            "junit" => {
                let tests = junit(&text);
                let shown =
                    "\\u{0}\\u{1b}[2J\\u{9b}\\u{202e}\\u{fffe}\\u{ffff}]]></failure>&amp;<!--\"'";
                assert!(tests.iter().any(|t| t.message.contains(shown)), "{tests:?}");
                assert!(tests.iter().any(|t| t.text.contains(&format!("trace{shown}"))));
                python("import sys, xml.etree.ElementTree as e; e.parse(sys.stdin.buffer)", &text);
            }
            "sarif" => {
                let run = sarif(&text);
                let message = run["results"][0]["message"]["text"].as_str().expect("a text");
                assert!(message.contains("{{0}} \\[x\\](http://evil)"), "{message}");
                python("import sys, json; json.load(sys.stdin)", &text);
            }
            _ => {
                let first: Value =
                    serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
                assert_eq!(
                    first["message"],
                    format!("message{HOSTILE}"),
                    "values stay as they are"
                );
            }
        }
    }
}

/// Runs a Python script with a text on its standard input. The script reads the text with parsers
/// that share no code with the program.
fn python(script: &str, text: &str) {
    let mut command = Command::new("python3");
    let child = command.args(["-c", script]).stdin(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return skipped("the readers in Python: there is no python3") };
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("python3 reads");
    drop(input);
    assert!(child.wait().expect("python3 ends").success(), "{script}");
}

/// In JUnit, an exception that allowed traffic is a skipped test. In SARIF, the location of a
/// finding about an unused exception is the line of the exception in the list.
#[test]
fn exceptions_are_skipped_tests() {
    let case = FIXTURES.iter().find(|case| case.name == "farm-codes").expect("the fixture");
    let audit = |format: &str| {
        let more = ["--format".to_owned(), format.to_owned()];
        stdout(&rasaudit([case.arguments(), more.to_vec()].concat()))
    };
    let used: Vec<Vec<String>> = columns(&audit("exceptions"), &["id", "conversations", "status"]);
    let tests = junit(&audit("junit"));
    let tests: Vec<&Test> = tests.iter().filter(|t| t.suite == "exceptions").collect();
    assert!(!tests.is_empty() && tests.len() < used.len(), "{used:?}");
    for test in tests {
        assert_eq!((&*test.outcome, &*test.kind), ("skipped", "excepted"));
        let row = used.iter().find(|row| row[0] == test.name).expect("the exception");
        assert!(row[2].starts_with("used"), "{row:?}");
    }
    let run = sarif(&audit("sarif"));
    let results = run["results"].as_array().expect("results");
    let unused = results.iter().find(|r| r["ruleId"] == "unused-exception").expect("the finding");
    let place = &unused["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "fixtures/farm-codes/exceptions.csv");
    let list = fs::read_to_string(fixture("farm-codes/exceptions.csv")).expect("the list");
    let line = place["region"]["startLine"].as_u64().expect("a line") as usize;
    let name = used.iter().find(|row| row[2].starts_with("unused")).expect("unused")[0].clone();
    assert!(list.lines().nth(line - 1).is_some_and(|line| line.starts_with(&name)), "{line}");
}

/// For each group that is missing in `matrix.csv`, each source host that lacks the traffic is a
/// failed test, even if one finding represents several groups.
#[test]
fn missing_rows_are_failed_tests() {
    let case = FIXTURES.iter().find(|case| case.name == "farm-codes").expect("the fixture");
    let audit = |format: &str| {
        let more = ["--format".to_owned(), format.to_owned()];
        stdout(&rasaudit([case.arguments(), more.to_vec()].concat()))
    };
    let tests = junit(&audit("junit"));
    let rows = columns(&audit("matrix"), &["group", "status", "source_hosts_missing"]);
    let missing: Vec<_> = rows.iter().filter(|row| row[1] == "missing").collect();
    assert!(missing.len() > 5);
    for row in missing {
        for host in row[2].split(';') {
            let test = tests.iter().find(|t| t.class == row[0] && t.name == host);
            assert_eq!(test.expect("the test").outcome, "failure", "{row:?}");
        }
    }
}

#[test]
fn traffic_that_could_not_be_assessed_passes_no_test() {
    let inventory = "[farm]\nmatrix = \"ras-19\"\n[capture]\ncovers = \"all\"\n\
        [[host]]\nname = \"broker1\"\naddresses = [\"10.1.0.10\"]\nroles = [\"broker\"]\n\
        [[host]]\nname = \"rdsh1\"\naddresses = [\"10.1.0.30\"]\nroles = [\"rdsh-agent\"]\n";
    let outcome = |is_answered: bool| {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mut wire = Wire::default();
        let ends = [("10.1.0.10", 50_100), ("10.1.0.30", 30_004)];
        for second in 1..3 {
            wire.tcp(second * 1000, ends[0], ends[1], ACK, 0);
        }
        if is_answered {
            wire.opened(9_000, ("10.1.0.10", 50_101), ends[1], 5);
        }
        let [capture, listed] = ["a.pcap", "inventory.toml"].map(|name| scratch.path().join(name));
        fs::write(&capture, wire.file()).expect("writable");
        fs::write(&listed, inventory).expect("writable");
        let more = ["audit".as_ref(), capture.as_os_str(), "-i".as_ref(), listed.as_os_str()];
        let run = rasaudit(more.into_iter().chain(["--format".as_ref(), "junit".as_ref()]));
        let tests = junit(&stdout(&run));
        let test = tests.iter().find(|t| t.class.ends_with("rdsh-agent.30004"));
        test.expect("the test").outcome.clone()
    };
    assert_eq!(outcome(false), "skipped");
    assert_eq!(outcome(true), "passed");
}
