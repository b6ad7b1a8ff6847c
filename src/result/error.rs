//! Errors that occur when the files of an earlier audit are read.

use std::path::PathBuf;
use std::{fmt, io};

use super::head::SCHEMA;

/// An error that occurred when a file of an earlier audit was read.
#[derive(Debug)]
pub struct StoredError {
    /// The path of the file.
    pub path: PathBuf,
    /// The problem with the file.
    pub kind: StoredProblem,
}

/// A problem with a file that should contain a result or one of its tables.
#[derive(Debug)]
pub enum StoredProblem {
    /// The file could not be read.
    Read(io::Error),
    /// The file is not JSON, or not the JSON of a result.
    Json(serde_json::Error),
    /// The file has a layout that this version cannot read.
    Layout(String),
    /// Parts of the file contradict each other.
    Unsound(&'static str),
    /// The file is not valid CSV.
    Csv(csv::Error),
    /// The file has no column of this name.
    Column(&'static str),
    /// The text on this line is not a severity.
    Severity(u64, String),
}

impl fmt::Display for StoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            StoredProblem::Read(error) => write!(f, "{path}: {error}"),
            StoredProblem::Json(error) => {
                // The message may quote a long string from the file.
                let said: String = error.to_string().chars().take(200).collect();
                if error.is_data() {
                    write!(f, "{path} is not the audit.json of an audit: {said}")
                } else {
                    write!(
                        f,
                        "{path} is not complete JSON ({said}): is it truncated or compressed?"
                    )
                }
            }
            StoredProblem::Layout(layout) => {
                write!(
                    f,
                    "{path} has the layout {layout}; this version of rasaudit reads only {SCHEMA}; use the version that wrote it"
                )
            }
            StoredProblem::Unsound(what) => {
                write!(f, "{path} is damaged: {what}; run the audit again")
            }
            StoredProblem::Csv(error) => write!(f, "{path}: {error}"),
            StoredProblem::Column(name) => write!(
                f,
                "{path}: the column \"{name}\" is missing; give the findings.csv of an earlier audit"
            ),
            StoredProblem::Severity(line, word) => {
                write!(
                    f,
                    "{path}:{line}: \"{word}\" is not a severity; give the findings.csv of an earlier audit"
                )
            }
        }
    }
}

impl std::error::Error for StoredError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            StoredProblem::Read(error) => Some(error),
            StoredProblem::Json(error) => Some(error),
            StoredProblem::Csv(error) => Some(error),
            StoredProblem::Layout(_)
            | StoredProblem::Unsound(_)
            | StoredProblem::Column(_)
            | StoredProblem::Severity(..) => None,
        }
    }
}
