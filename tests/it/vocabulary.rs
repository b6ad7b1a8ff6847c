//! Tests that `docs/verdicts.md` lists every code, state and direction evidence, with its meaning,
//! the severity of codes, and the captures and tests that show it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::fixture;
use rasaudit::classify::Code;
use rasaudit::conversation::{DirectionEvidence, State};

/// Returns the rows of the table under a heading, without its header.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = include_str!("../../docs/verdicts.md");
    let part = text.split("\n## ").find(|part| part.starts_with(heading)).expect("the heading");
    let lines = part.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches("| ").trim_end_matches(" |");
        line.split(" | ").map(|cell| cell.trim_matches('`').to_owned()).collect()
    };
    lines.map(cells).collect()
}

/// Asserts that each listed place contains a word: a capture in its reports, a test in its source.
#[track_caller]
fn shown(word: &str, places: &str) {
    let places: Vec<&str> = places.split(", ").map(|place| place.trim_matches('`')).collect();
    assert!(!places.is_empty());
    for place in places {
        let found = match place.split_once("::") {
            Some((file, test)) => {
                let path =
                    |folder| format!("{}/tests/{folder}/{file}.rs", env!("CARGO_MANIFEST_DIR"));
                let text =
                    fs::read_to_string(path("it")).or_else(|_| fs::read_to_string(path("lab")));
                let text = text.expect("the tests");
                let start = text.find(&format!("\nfn {test}() {{"));
                let body = &text[start.unwrap_or_else(|| panic!("{place} is not a test"))..];
                let body = &body[..body.find("\n}\n").expect("its end")];
                body.contains(&format!("\"{word}")) || body.contains(&format!("{word}\""))
            }
            None => {
                let name = place.strip_prefix("fixtures/").expect("a capture or a case");
                in_reports(&fixture(&format!("{name}/expected")), word)
            }
        };
        assert!(found, "{place} does not show {word}");
    }
}

fn in_reports(folder: &Path, word: &str) -> bool {
    ["conversations.csv", "findings.csv"].iter().any(|name| {
        let mut report = csv::Reader::from_path(folder.join(name)).expect("a report");
        report.records().any(|row| row.expect("a row").iter().any(|cell| cell == word))
    })
}

#[test]
fn every_code_is_described_with_its_severity_and_a_case() {
    let rows = table("Codes");
    let listed: Vec<&str> = rows.iter().map(|row| row[1].as_str()).collect();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    let mut codes = Code::NAMES.to_vec();
    codes.sort_unstable();
    assert_eq!(sorted, codes);
    let severities = include_str!("../../rules/severity.csv");
    for row in &rows {
        let [verdict, code, meaning, evidence, severity, places] = &row[..] else {
            panic!("six cells: {row:?}");
        };
        let value = Code::parse(code).expect("a code");
        assert_eq!(value.verdict().name(), verdict, "{code}");
        assert!(!meaning.is_empty() && !evidence.is_empty(), "{code}");
        let weight = [code, "*"].iter().find_map(|code| {
            let start = format!("{verdict},{code},");
            severities.lines().find_map(|line| line.strip_prefix(&start))
        });
        assert_eq!(weight.expect("a severity").replace(',', " / "), *severity, "{code}");
        shown(code, places);
    }
}

#[test]
fn every_state_and_every_grade_is_described_with_a_case() {
    for (heading, names) in [("States", State::NAMES), ("Directions", DirectionEvidence::NAMES)] {
        let rows = table(heading);
        let listed: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(listed, names, "in the order of the code");
        for row in rows {
            shown(&row[0], &row[2]);
        }
    }
}

/// Users' dashboards rely on the names of metrics, so the documentation lists all of them.
#[test]
fn the_live_page_of_the_docs_lists_every_metric() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut in_code = BTreeSet::new();
    for file in ["src/live/metrics.rs", "src/live/pages.rs"] {
        let code = fs::read_to_string(root.join(file)).expect("a source file");
        for call in [".gauge(", ".counter(", ".single(", ".count("] {
            for rest in code.split(call).skip(1) {
                if let Some(name) = rest.trim_start().strip_prefix('"') {
                    in_code.insert(name.split('"').next().expect("a name").to_owned());
                }
            }
        }
    }
    assert!(in_code.len() >= 18, "{in_code:?}");
    let page = fs::read_to_string(root.join("docs/live.md")).expect("a page");
    let table = page.split("### Metrics").nth(1).expect("a section");
    let rows =
        table.lines().skip_while(|l| !l.starts_with("| `")).take_while(|l| l.starts_with('|'));
    let in_docs: BTreeSet<String> =
        rows.filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect();
    assert_eq!(in_docs, in_code);
}
