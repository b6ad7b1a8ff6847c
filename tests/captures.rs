//! Captures that nobody here made: a folder of them in `RASAUDIT_CAPTURES`. They are hostile and
//! damaged in part, on purpose. Nothing panics or hangs, and every account closes. Without the folder
//! the test says that it was skipped.

mod support;

use std::path::{Path, PathBuf};

use support::{rasaudit, stdout};

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut found = Vec::new();
    for path in entries.map(|e| e.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn foreign_captures_are_read_or_refused_by_name() {
    let Some(folder) = std::env::var_os("RASAUDIT_CAPTURES") else {
        support::skipped("no folder of foreign captures (RASAUDIT_CAPTURES)");
        return;
    };
    let files = files(Path::new(&folder));
    assert!(!files.is_empty(), "{}", folder.display());
    for file in files {
        let name = file.display().to_string();
        let output = rasaudit(["audit", &name, "--format", "json", "--jobs", "1"]);
        let code = output.status.code().unwrap_or_else(|| panic!("{name}: ended by a signal"));
        assert!([0, 2, 3].contains(&code), "{name}: {code}");
        if code == 2 {
            let told = support::stderr(&output);
            assert!(told.contains("is no capture file"), "{name}: {told}");
            continue;
        }
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        let account = &json["accounting"];
        let skipped = account["skipped"].as_object().expect("an object");
        let skipped: u64 = skipped.values().filter_map(serde_json::Value::as_u64).sum();
        let observed = account["observations"].as_u64().expect("a number");
        assert_eq!(account["frames_read"], observed + skipped, "{name}");
    }
}
