//! Tests that `audit.json` matches `docs/audit.schema.json`, and that its frame counters add up.

use std::fs;

use crate::support::{FIXTURES, fixture, rasaudit, stdout};
use serde_json::Value;

#[test]
fn the_schema_is_made_of_the_types_that_read_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit.schema.json");
    let text = serde_json::to_string_pretty(&rasaudit::result::schema()).expect("JSON") + "\n";
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, &text).expect("the docs are writable");
    }
    let kept = fs::read_to_string(path).expect("the schema");
    assert!(
        kept == text,
        "docs/audit.schema.json differs: run with UPDATE_GOLDEN=1 and review the change"
    );
}

#[test]
fn audit_json_fits_its_schema_and_its_account_closes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit.schema.json");
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("the schema")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let text = |path: std::path::PathBuf| path.display().to_string();
    let empty = [
        "audit".to_owned(),
        text(fixture("formats/empty.pcap")),
        "-i".to_owned(),
        text(fixture("farm-healthy/inventory.toml")),
    ];
    let cases = FIXTURES.iter().map(|case| (case.name, case.arguments()));
    for (name, whole) in cases.chain([("empty", empty.to_vec())]) {
        // Audits with and without the inventory.
        for arguments in [&whole[..], &whole[..2]] {
            let arguments = [arguments, &["--format".to_owned(), "json".to_owned()]].concat();
            let json: Value = serde_json::from_str(&stdout(&rasaudit(&arguments))).expect("JSON");
            let errors: Vec<String> = validator
                .iter_errors(&json)
                .map(|e| format!("{}: {e}", e.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{name}: {}", errors.join("\n"));
            let account = &json["accounting"];
            let sum = |value: &Value| -> u64 {
                value.as_object().expect("an object").values().filter_map(Value::as_u64).sum()
            };
            assert_eq!(
                account["frames_read"].as_u64(),
                account["observations"].as_u64().map(|o| o + sum(&account["skipped"])),
                "{name}"
            );
            let inputs = json["inputs"].as_array().expect("a list");
            let frames: u64 = inputs.iter().filter_map(|i| i["frames"].as_u64()).sum();
            assert_eq!(account["frames_read"], frames, "{name}: the inputs add up");
        }
    }
    // Makes sure that the validator rejects invalid documents.
    assert!(!validator.is_valid(&serde_json::json!({"schema": "rasaudit.audit/1"})));
}
