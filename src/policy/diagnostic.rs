//! Problems in files that a user wrote.

use std::path::Path;
use std::{fmt, io};

/// A problem in a file, with its line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// The file as the user named it.
    pub file: String,
    /// The line, counted from 1, or 0 if the problem concerns the whole file.
    pub line: usize,
    /// The description of the problem, with a suggestion if there is one.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// The problems found in a file.
#[derive(Default, Debug)]
pub struct Diagnostics {
    file: String,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Creates an empty list of problems for `file`.
    pub fn of(file: &str) -> Self {
        Self { file: file.to_owned(), list: Vec::new() }
    }

    /// Adds a problem at `line`. Line 0 stands for the whole file.
    pub fn add(&mut self, line: usize, message: impl Into<String>) {
        self.list.push(Diagnostic { file: self.file.clone(), line, message: message.into() });
    }

    /// Removes the problems for which `keep` returns false.
    pub fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.list.retain(keep);
    }

    /// Returns the value if there are no problems. Otherwise, returns all problems in the order of
    /// their lines.
    pub fn or<T>(mut self, value: T) -> Result<T, Vec<Diagnostic>> {
        if self.list.is_empty() {
            return Ok(value);
        }
        self.list.sort_by_key(|p| p.line);
        self.list.dedup();
        Err(self.list)
    }
}

/// Returns `; did you mean "..."?` with the known word that is most similar to `word`, or an empty
/// string if no known word is similar.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    near(word, known, 0.75)
}

fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, least: f64) -> String {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(&word, &k.to_lowercase()), k))
        .filter(|(likeness, _)| *likeness > least)
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(a.1)))
        .map_or_else(String::new, |(_, k)| format!("; did you mean \"{k}\"?"))
}

/// Returns the reason why a file that the user named cannot be read. If the file does not exist,
/// the message suggests a file with a similar name in the same folder.
pub fn unreadable(path: &Path, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::NotFound {
        return error.to_string();
    }
    if path.is_symlink() {
        return "this is a link to a file or folder that does not exist".to_owned();
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = folder.unwrap_or(Path::new(".")).read_dir().into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A folder may contain any files, so only a likely misspelling is worth a suggestion.
    format!("{error}{}", near(&name, names.iter().map(String::as_str), 0.88))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        let known = ["gateway-normal", "gateway-forwarding", "broker"];
        assert_eq!(nearest("gatway-normal", known), "; did you mean \"gateway-normal\"?");
        assert_eq!(nearest("Brokr", known), "; did you mean \"broker\"?");
        assert_eq!(nearest("xyzzy", known), "");
    }
}
