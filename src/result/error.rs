//! Why what an earlier audit has written cannot be read.

use std::path::PathBuf;
use std::{fmt, io};

use super::head::SCHEMA;

/// Why a file could not be read as what an earlier audit has written.
#[derive(Debug)]
pub struct StoredError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub kind: StoredProblem,
}

/// What is wrong with a file that should hold a result, or a table of one.
#[derive(Debug)]
pub enum StoredProblem {
    /// It could not be read.
    Read(io::Error),
    /// It is no JSON, or not that of a result.
    Json(serde_json::Error),
    /// It is of a layout that this version does not read.
    Layout(String),
    /// Places in it name nothing.
    Unsound(&'static str),
    /// It is no CSV.
    Csv(csv::Error),
    /// It has no column of this name.
    Column(&'static str),
    /// In this line stands a severity that is none.
    Severity(u64, String),
}

impl fmt::Display for StoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            StoredProblem::Read(error) => write!(f, "{path}: {error}"),
            StoredProblem::Json(error) => {
                // What it quotes may be long.
                let said: String = error.to_string().chars().take(200).collect();
                match error.is_data() {
                    true => write!(f, "{path} is not the audit.json of an audit: {said}"),
                    false => {
                        write!(f, "{path} is no whole JSON ({said}): is it cut off, or compressed?")
                    }
                }
            }
            StoredProblem::Layout(layout) => {
                write!(f, "{path} has the layout {layout}; this version reads {SCHEMA}")
            }
            StoredProblem::Unsound(what) => write!(f, "{path} is damaged: {what}"),
            StoredProblem::Csv(error) => write!(f, "{path}: {error}"),
            StoredProblem::Column(name) => write!(
                f,
                "{path}: has no column \"{name}\"; give the findings.csv of an earlier audit"
            ),
            StoredProblem::Severity(line, word) => {
                write!(f, "{path}:{line}: \"{word}\" is no severity")
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
