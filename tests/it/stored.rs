//! Tests that reports depend only on the audit result: `rasaudit report` on a stored result prints
//! what the audit itself wrote.

use crate::support;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::{FIXTURES, rasaudit, stderr, stdout};
use rasaudit::report::{FORMATS, Needs};
use serde_json::{Value, json};

fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|word| (*word).to_owned()).collect()
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("the folder is there").flatten();
    let file = |entry: fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, fs::read(entry.path()).expect("a file"))
    };
    entries.map(file).collect()
}

#[test]
fn reports_of_a_stored_result_are_those_of_the_audit() {
    for case in FIXTURES {
        // Audits with and without the inventory.
        for arguments in [case.arguments(), case.arguments()[..2].to_vec()] {
            let scratch = tempfile::tempdir().expect("a scratch folder");
            let [first, again] =
                ["first", "again"].map(|name| scratch.path().join(name).display().to_string());
            let out = [&arguments[..], &words(&["-q", "--out", &first])].concat();
            rasaudit(&out);
            let result = format!("{first}/audit.json");
            let made = rasaudit(words(&["report", &first, "--out", &again, "-q"]));
            assert_eq!(made.status.code(), Some(0), "{}: {}", case.name, stderr(&made));
            let before = files(Path::new(&first));
            let after = files(Path::new(&again));
            assert!(before.len() > 5, "{}", case.name);
            for (name, bytes) in &before {
                assert!(after.get(name) == Some(bytes), "{}: {name} differs", case.name);
            }
            assert_eq!(before.len(), after.len(), "{}", case.name);
            for format in FORMATS {
                let name = format.name;
                let told = rasaudit(words(&["report", &result, "--format", name]));
                if format.needs == Needs::Judgement && arguments.len() == 2 {
                    assert_eq!(told.status.code(), Some(2), "{}: {name}", case.name);
                    assert!(stderr(&told).contains("this one had none"));
                    continue;
                }
                // The output is compared with the file from `--out`, because an audit without
                // `--out` does not state the digests of its inputs.
                let Some(file) = format.file else { continue };
                assert!(stdout(&told).as_bytes() == before[file], "{}: {name}", case.name);
            }
        }
    }
}

#[test]
fn the_summary_and_the_ticket_of_a_stored_result_are_those_of_the_audit() {
    for case in FIXTURES {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let result = scratch.path().join("audit.json");
        let arguments = case.arguments();
        let told = |format: &str| {
            stdout(&rasaudit([&arguments[..], &words(&["--format", format])].concat()))
        };
        fs::write(&result, told("json")).expect("the scratch folder is writable");
        let result = result.display().to_string();
        for format in FORMATS.iter().map(|format| format.name) {
            let again = stdout(&rasaudit(words(&["report", &result, "--format", format])));
            assert!(again == told(format), "{}: {format}", case.name);
        }
        let plain = stdout(&rasaudit(words(&["report", &result])));
        assert_eq!(plain, told("text"), "{}", case.name);
    }
}

/// Applies `change` to the JSON result of a small audit. Returns the exit status, output and errors
/// of `rasaudit report` for it.
fn changed(change: impl FnOnce(&mut Value)) -> (Option<i32>, String, String) {
    let case = FIXTURES.iter().find(|case| case.name == "farm-codes").expect("a fixture");
    let arguments = [&case.arguments()[..], &words(&["--format", "json"])].concat();
    let mut json: Value = serde_json::from_str(&stdout(&rasaudit(&arguments))).expect("JSON");
    change(&mut json);
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let path = scratch.path().join("audit.json");
    fs::write(&path, json.to_string()).expect("the scratch folder is writable");
    let path = path.display().to_string();
    let told = rasaudit(words(&["report", &path, "--format", "csv"]));
    (told.status.code(), stdout(&told), stderr(&told).replace(&path, "audit.json"))
}

#[test]
fn a_newer_minor_version_is_read_and_another_layout_is_refused_by_name() {
    let (code, plain, _) = changed(|_| {});
    assert_eq!(code, Some(0));
    let (code, newer, _) = changed(|json| {
        json["schema_minor"] = json!(7);
        json["more"] = json!({"than": "is known"});
        json["notes"][0]["tone"] = json!("jubilant");
        json["findings"][0]["more"] = json!(1);
    });
    assert_eq!((code, &newer), (Some(0), &plain));
    // Codes that only a newer version knows are shown unchanged.
    let (code, newer, _) = changed(|json| json["findings"][0]["code"] = json!("brand-new"));
    assert_eq!(code, Some(0));
    assert!(newer.contains(",brand-new,"));
    let (code, said, why) = changed(|json| json["schema"] = json!("rasaudit.audit/3"));
    assert_eq!((code, said.as_str()), (Some(2), ""));
    assert_eq!(
        why,
        "error: audit.json has the layout rasaudit.audit/3; this version of rasaudit reads only rasaudit.audit/2; use the version that wrote it\n"
    );
}

#[test]
fn a_result_of_an_earlier_version_gives_its_tables() {
    let early = support::fixture("stored/audit-2.0.json").display().to_string();
    let csv = fs::read_to_string(support::fixture("stored/findings-2.0.csv")).expect("a fixture");
    let now = stdout(&rasaudit(words(&["report", &early, "--format", "csv"])));
    // Later versions only add columns at the end.
    let rows = |text: &str| -> Vec<csv::StringRecord> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        reader.records().map(|row| row.expect("a row")).collect()
    };
    let (now, then) = (rows(&now), rows(&csv));
    assert_eq!(now.len(), then.len());
    for (now, then) in now.iter().zip(&then) {
        assert!(now.iter().take(then.len()).eq(then), "{now:?}, {then:?}");
    }
    for format in ["text", "html"] {
        let told = rasaudit(words(&["report", &early, "--format", format]));
        assert_eq!(told.status.code(), Some(2));
        assert!(stderr(&told).contains("contains only tables"), "{}", stderr(&told));
    }
}

#[test]
fn a_damaged_result_is_refused_and_nothing_is_written() {
    let (code, _, why) = changed(|json| json["findings"][0]["talkers"] = json!([1_000_000]));
    assert_eq!(code, Some(2));
    assert!(why.contains("refers to a conversation that does not exist"), "{why}");
    let (code, _, why) = changed(|json| json["site"]["rows"][0]["source"] = json!(99));
    assert_eq!(code, Some(2));
    assert!(why.contains("refers to a role that does not exist"), "{why}");
    let (code, _, why) = changed(|json| {
        json["conversations"][0]["first_seen"] = json!("2200-01-01T00:00:00.000000000Z");
    });
    assert_eq!(code, Some(2));
    assert!(why.contains("a time span ends before it begins"), "{why}");
    let (code, _, why) = changed(|json| {
        let id = json["findings"][0]["id"].clone();
        json["findings"][0]["explained_by"] = id;
    });
    assert_eq!(code, Some(2));
    assert!(why.contains("explained by one that is itself explained"), "{why}");
    let (code, _, why) = changed(|json| json["site"] = Value::Null);
    assert_eq!(code, Some(2));
    assert!(why.contains("no description of the farm"), "{why}");
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().join("out").display().to_string();
    for (name, bytes) in
        [("cut.json", &b"{\"schema\": \"rasaudit.audit/2\""[..]), ("text", b"no JSON")]
    {
        let path = scratch.path().join(name);
        fs::write(&path, bytes).expect("the scratch folder is writable");
        let told = rasaudit(words(&["report", &path.display().to_string(), "--out", &out]));
        assert_eq!(told.status.code(), Some(2));
        let why = stderr(&told);
        assert!(why.contains("is not complete JSON"), "{why}");
        assert!(why.contains("line 1 column"), "{why}");
        assert!(!Path::new(&out).exists());
    }
    let told = rasaudit(words(&["report", &scratch.path().display().to_string()]));
    assert!(stderr(&told).contains("contains no audit.json"), "{}", stderr(&told));
}

#[test]
fn a_result_that_its_manifest_does_not_fit_is_refused() {
    let case = &FIXTURES[0];
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = scratch.path().display().to_string();
    rasaudit([&case.arguments()[..], &words(&["-q", "--out", &out])].concat());
    let csv = scratch.path().join("findings.csv");
    fs::write(&csv, "edited").expect("the scratch folder is writable");
    let told = rasaudit(words(&["report", &out]));
    assert_eq!(told.status.code(), Some(2));
    assert!(stderr(&told).contains("findings.csv was changed"), "{}", stderr(&told));
}
