//! The rule files: built into the program, or a folder of the user's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Matrix, Problem};
use crate::model::hex;

/// A shipped matrix: its name, its title and its files, each with name and text.
type Shipped = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The matrices that are built in.
const SHIPPED: &[Shipped] = &[(
    "ras-19",
    "Parallels RAS 19",
    &[
        ("matrix.csv", include_str!("../../rules/ras-19/matrix.csv")),
        ("roles.csv", include_str!("../../rules/ras-19/roles.csv")),
        ("features.csv", include_str!("../../rules/ras-19/features.csv")),
        ("services.csv", include_str!("../../rules/ras-19/services.csv")),
    ],
)];

/// Files that all matrices share.
const SHARED: &[(&str, &str)] = &[
    ("background.csv", include_str!("../../rules/background.csv")),
    ("severity.csv", include_str!("../../rules/severity.csv")),
];

/// The names of the matrices that are built in.
pub const MATRICES: &[&str] = &["ras-19"];

/// The text of the files that a matrix is made of.
#[derive(Debug)]
pub struct RuleFiles {
    /// The matrix's name.
    pub name: String,
    /// The product version it is for, in words.
    pub title: String,
    /// File name as shown in problems, and text.
    files: Vec<(String, String)>,
}

impl RuleFiles {
    /// Finds a matrix by name: in the folder `rules` if one is given (laid out as the project's own
    /// `rules/`), else among those built in.
    pub fn named(name: &str, rules: Option<&Path>) -> Result<Self, String> {
        if let Some(root) = rules {
            return Self::read(name, &root.join(name), Some(root)).map_err(|e| e.to_string());
        }
        let (name, title, files) = SHIPPED.iter().find(|(n, ..)| *n == name).ok_or_else(|| {
            let near = super::nearest(name, MATRICES.iter().copied());
            let known = MATRICES.join(", ");
            format!("no matrix is called \"{name}\"{near} (known: {known}, or a folder of rules)")
        })?;
        let files = files
            .iter()
            .map(|(file, text)| (format!("rules/{name}/{file}"), (*text).to_owned()))
            .chain(SHARED.iter().map(|(file, text)| (format!("rules/{file}"), (*text).to_owned())))
            .collect();
        Ok(Self { name: (*name).to_owned(), title: (*title).to_owned(), files })
    }

    /// A matrix in a folder of its own.
    pub fn folder(folder: &Path) -> Result<Self, String> {
        Self::read(&folder.display().to_string(), folder, None).map_err(|e| e.to_string())
    }

    /// A matrix of one file, judged with the other files of the built-in matrix `base`.
    pub fn with_matrix(file: &Path, base: &str) -> Result<Self, String> {
        let text = read(file).map_err(|e| e.to_string())?;
        Ok(Self::named(base, None)?.with("matrix.csv", file.display().to_string(), text))
    }

    /// The same rules with another text in the place of one file, which is shown as `name`.
    #[must_use]
    pub fn with(mut self, file: &str, name: String, text: String) -> Self {
        let is_file = |path: &str| Path::new(path).file_name().is_some_and(|f| f == file);
        if let Some(entry) = self.files.iter_mut().find(|(path, _)| is_file(path)) {
            *entry = (name, text);
        }
        self
    }

    fn read(name: &str, folder: &Path, root: Option<&Path>) -> io::Result<Self> {
        let mut files = Vec::new();
        for (file, ..) in SHIPPED[0].2 {
            let path = folder.join(file);
            // Only the matrix and its roles are needed; a site's own matrix may have no features.
            let needed = matches!(*file, "matrix.csv" | "roles.csv");
            if needed || path.exists() {
                files.push((path.display().to_string(), read(&path)?));
            }
        }
        for (file, text) in SHARED {
            let path: Option<PathBuf> = root.map(|r| r.join(file)).filter(|p| p.exists());
            files.push(match path {
                Some(path) => (path.display().to_string(), read(&path)?),
                None => (format!("rules/{file}"), (*text).to_owned()),
            });
        }
        let shipped = SHIPPED.iter().find(|(n, ..)| *n == name && root.is_some());
        let title = shipped.map_or(name, |(_, title, _)| title);
        Ok(Self { name: name.to_owned(), title: title.to_owned(), files })
    }

    /// The name and text of the file whose path ends in `name`; empty text where there is none.
    pub(super) fn file(&self, name: &str) -> (&str, &str) {
        self.files
            .iter()
            .find(|(path, _)| Path::new(path).file_name().is_some_and(|f| f == name))
            .or_else(|| self.files.first().filter(|_| name == "matrix.csv"))
            .map_or(("", ""), |(path, text)| (path, text))
    }

    /// SHA-256 over the names and texts of all files.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        for (path, text) in &self.files {
            let name = Path::new(path).file_name().unwrap_or_default().as_encoded_bytes();
            for part in [name, text.as_bytes()] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hex(&hasher.finalize())
    }

    /// Reads the matrix, or says everything that is wrong with it.
    pub fn load(&self) -> Result<Matrix, Vec<Problem>> {
        Matrix::load(self)
    }
}

fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
