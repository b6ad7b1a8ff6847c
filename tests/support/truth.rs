//! Reads the record of what was done in the lab farm `farm-codes`, and the findings of its audits.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{columns, fixture, rasaudit, stderr, stdout};

/// Returns the rows of `truth.tsv` of one kind: verdict, code, client, server, transport, port,
/// state.
pub fn truth(kind: &str) -> BTreeSet<Vec<String>> {
    let text = fs::read_to_string(fixture("farm-codes/truth.tsv")).expect("the truth");
    let lines = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    let rows = lines.map(|line| line.split('\t').map(str::to_owned).collect::<Vec<_>>());
    rows.filter(|row| row[0] == kind).map(|row| row[1..].to_vec()).collect()
}

/// The columns that identify a finding or a conversation.
pub const KEYS: &[&str] =
    &["verdict", "code", "client_name", "server_name", "transport", "port", "state"];

/// Audits captures with the exceptions of the lab farm and returns the report in this format.
pub fn audit(captures: &[PathBuf], inventory: &Path, format: &str, more: &[&str]) -> String {
    let mut arguments: Vec<std::ffi::OsString> = vec!["audit".into()];
    arguments.extend(captures.iter().map(Into::into));
    arguments.extend(["-i".into(), inventory.into(), "--format".into(), format.into()]);
    arguments.extend(["--exceptions".into(), "fixtures/farm-codes/exceptions.csv".into()]);
    arguments.extend(more.iter().map(Into::into));
    let run = rasaudit(arguments);
    assert!(run.status.code().is_some_and(|code| code < 2), "{}", stderr(&run));
    stdout(&run)
}

/// A finding: the columns of `truth.tsv`, and severity, certainty and action.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Told {
    pub keys: Vec<String>,
    pub severity: String,
    pub certain: bool,
    pub action: String,
}

/// Returns the findings of an audit with the exceptions of the lab farm.
pub fn findings(captures: &[PathBuf], inventory: &Path, more: &[&str]) -> Vec<Told> {
    let report = audit(captures, inventory, "csv", more);
    let own = ["client", "client_roles", "server", "server_roles", "severity", "certain", "action"];
    columns(&report, &[KEYS, &own].concat())
        .into_iter()
        .map(|row| {
            // Identifies an end by its name, otherwise by its address, otherwise by its roles.
            let end = |name: usize, own: usize| {
                let names = [&row[name], &row[own], &row[own + 1]];
                names.into_iter().find(|n| !n.is_empty()).cloned().unwrap_or_default()
            };
            let mut keys = row[..7].to_vec();
            (keys[2], keys[3]) = (end(2, 7), end(3, 9));
            if keys[1] == "unused-exception" {
                (keys[2], keys[3]) = Default::default();
            }
            Told {
                keys,
                severity: row[11].clone(),
                certain: row[12] == "yes",
                action: row[13].clone(),
            }
        })
        .collect()
}

/// Returns the keys of the findings whose severity is above info.
pub fn above_info(told: &[Told]) -> BTreeSet<Vec<String>> {
    told.iter().filter(|t| t.severity != "info").map(|t| t.keys.clone()).collect()
}
