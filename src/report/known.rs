//! The findings of an earlier audit, against which new ones are told apart.

use std::collections::BTreeMap;

use crate::classify::{Outcome, Severity};

/// Findings of an earlier `findings.csv`, by id.
#[derive(Clone, Default, Debug)]
pub struct Known {
    /// The file as the user named it.
    pub file: String,
    /// The message of each finding that weighed more than info, by id.
    findings: BTreeMap<String, String>,
}

/// What changed against an earlier audit: how many findings above info are new, how many are still there, and
/// which are gone.
pub(super) fn changes<'a>(
    known: &'a Known,
    outcome: &Outcome,
) -> (usize, usize, Vec<(&'a str, &'a str)>) {
    let findings = outcome.findings.iter().filter(|f| f.severity > Severity::Info);
    let ids: Vec<&str> = findings.map(|f| f.id.as_str()).collect();
    let still = ids.iter().filter(|id| known.has(id)).count();
    (ids.len() - still, still, known.gone(&ids).collect())
}

impl Known {
    /// Reads the findings of an earlier audit; else what is wrong with the file.
    pub fn load(file: &str, text: &str) -> Result<Self, String> {
        let mut reader = csv::Reader::from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        let header = reader.headers().map_err(|error| format!("{file}: {error}"))?.clone();
        let column = |name: &str| {
            let position = header.iter().position(|column| column == name);
            position.ok_or_else(|| {
                format!(
                    "{file}: has no column \"{name}\"; give the findings.csv of an earlier audit"
                )
            })
        };
        // Another list of the findings has these three too.
        column("display_filter")?;
        let (id, severity, message) = (column("id")?, column("severity")?, column("message")?);
        let mut known = Self { file: file.to_owned(), findings: BTreeMap::new() };
        for record in reader.records() {
            let record = record.map_err(|error| format!("{file}: {error}"))?;
            if record[severity] != *"info" {
                known.findings.insert(record[id].to_owned(), record[message].to_owned());
            }
        }
        Ok(known)
    }

    /// How many findings are held.
    pub fn len(&self) -> usize {
        self.findings.len()
    }

    /// Whether the earlier audit found nothing.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether the earlier audit had a finding.
    pub fn has(&self, id: &str) -> bool {
        self.findings.contains_key(id)
    }

    /// The findings that are not among `now`: id and message.
    pub fn gone<'a>(&'a self, now: &[&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let gone = self.findings.iter().filter(move |(id, _)| !now.contains(&id.as_str()));
        gone.map(|(id, message)| (id.as_str(), message.as_str()))
    }
}
