//! The rule files: those that are built into the program, and those in a user's folder.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::built_in::{SEVERITIES, SHIPPED, SHIPPED_OVERLAYS};
use super::{BACKGROUND, Diagnostic, Matrix, PolicyError, TextFile};
use crate::model::hex;

/// The files that a folder of rules may contain.
const FILES: [&str; 6] =
    ["meta.toml", "matrix.csv", "endpoints.csv", "roles.csv", "features.csv", "services.csv"];

/// A rule file.
#[derive(Clone, Debug)]
pub(super) struct RuleFile {
    /// The file name or, for an overlay, the name of the overlay.
    pub name: String,
    /// The name of the file in messages.
    pub shown: String,
    pub text: String,
}

impl RuleFile {
    /// Returns whether the file lists background traffic rather than rows.
    pub fn is_background(&self) -> bool {
        let header = self.text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
        header.split(',').any(|column| column.trim() == "towards")
    }

    fn built_in(name: &str, folder: &str, text: &str) -> Self {
        let shown = if name.contains('.') {
            format!("{folder}/{name}")
        } else {
            format!("{folder}/{name}.csv")
        };
        Self { name: name.to_owned(), shown, text: text.to_owned() }
    }

    fn read(name: &str, path: &Path) -> Result<Self, PolicyError> {
        let TextFile { text, .. } = TextFile::read(path)?;
        Ok(Self { name: name.to_owned(), shown: path.display().to_string(), text })
    }
}

/// The files that make up a matrix, and its overlays. The overlay of background traffic is included
/// until it is removed.
#[derive(Debug)]
pub struct RuleFiles {
    /// The name of the matrix, or the path of its folder.
    pub name: String,
    pub(super) files: Vec<RuleFile>,
    pub(super) overlays: Vec<RuleFile>,
    /// The folder that replaces the built-in `rules/`, if one is given.
    root: Option<PathBuf>,
}

impl RuleFiles {
    /// Finds a matrix by name in the folder `rules` or, without a folder, among the built-in
    /// matrices. The folder must have the same layout as the project's `rules/`.
    pub fn named(name: &str, rules: Option<&Path>) -> Result<Self, PolicyError> {
        if let Some(root) = rules {
            return Self::read(name, &root.join(name), Some(root));
        }
        let found = SHIPPED.iter().find(|(n, _)| *n == name);
        let (name, files) = found.ok_or_else(|| PolicyError::NoMatrix(name.to_owned()))?;
        let folder = format!("rules/{name}");
        let own = files.iter().map(|(file, text)| RuleFile::built_in(file, &folder, text));
        let files = own.chain([RuleFile::built_in(SEVERITIES.0, "rules", SEVERITIES.1)]).collect();
        let name = (*name).to_owned();
        let mut rules = Self { name, files, overlays: Vec::new(), root: None };
        rules.add_overlay(BACKGROUND, None)?;
        Ok(rules)
    }

    /// Reads a matrix from its own folder.
    pub fn folder(folder: &Path) -> Result<Self, PolicyError> {
        Self::read(&folder.display().to_string(), folder, None)
    }

    /// Reads a single file and adds the other files of the built-in matrix `base`. If the file
    /// lists background traffic, it replaces the overlays of `base`. Any other file replaces the
    /// rows of `base`.
    pub fn of_file(file: &Path, base: &str) -> Result<Self, PolicyError> {
        let name = file.display().to_string();
        let read = RuleFile::read(&name, file)?;
        if !read.is_background() {
            return Self::with_matrix(file, base);
        }
        let mut rules = Self::named(base, None)?;
        rules.overlays = vec![read];
        Ok(rules)
    }

    /// Reads a matrix from a single file and adds the other files of the built-in matrix `base`,
    /// except its endpoints.
    pub fn with_matrix(file: &Path, base: &str) -> Result<Self, PolicyError> {
        let read = RuleFile::read("matrix.csv", file)?;
        let mut rules = Self::named(base, None)?;
        // The endpoints belong to the matrix that is replaced.
        rules.files.retain(|file| file.name != "endpoints.csv");
        Ok(rules.with("matrix.csv", read.shown, read.text))
    }

    /// Replaces the text of the file or overlay with this name. Messages then refer to it as
    /// `shown`. If there is no such file or overlay, nothing changes.
    #[must_use]
    pub fn with(mut self, name: &str, shown: String, text: String) -> Self {
        let mut files = self.files.iter_mut().chain(&mut self.overlays);
        if let Some(file) = files.find(|file| file.name == name) {
            (file.shown, file.text) = (shown, text);
        }
        self
    }

    /// Adds an overlay, unless it has been added before. `name` is either the name of an overlay in
    /// the folder of rules or among the built-in ones, or the path of a CSV file relative to the
    /// folder `from` (by default, the current folder).
    pub fn add_overlay(&mut self, name: &str, from: Option<&Path>) -> Result<(), PolicyError> {
        if self.overlays.iter().any(|o| o.name == name) {
            return Ok(());
        }
        let is_path = name.contains(['/', '\\']) || name.to_lowercase().ends_with(".csv");
        let in_root = self.root.as_ref().map(|r| r.join("overlays").join(format!("{name}.csv")));
        let file = match (is_path, in_root.filter(|path| path.exists())) {
            (true, _) => {
                let path = from.map_or_else(|| PathBuf::from(name), |from| from.join(name));
                RuleFile::read(name, &path)?
            }
            (false, Some(path)) => RuleFile::read(name, &path)?,
            (false, None) => {
                let found = SHIPPED_OVERLAYS.iter().find(|(n, _)| *n == name);
                let (name, text) = found.ok_or_else(|| PolicyError::NoOverlay(name.to_owned()))?;
                RuleFile::built_in(name, "rules/overlays", text)
            }
        };
        self.overlays.push(file);
        Ok(())
    }

    /// Returns the built-in overlays that contain rows and were not added.
    pub(super) fn unused_overlays(&self) -> Vec<RuleFile> {
        let unused = SHIPPED_OVERLAYS
            .iter()
            .filter(|(name, _)| self.overlays.iter().all(|o| o.name != *name));
        let files = unused.map(|(name, text)| RuleFile::built_in(name, "rules/overlays", text));
        files.filter(|file| !file.is_background()).collect()
    }

    /// Removes the overlay of background traffic, so that such traffic is judged against the
    /// matrix.
    pub fn without_background(&mut self) {
        self.overlays.retain(|overlay| overlay.name != BACKGROUND);
    }

    fn read(name: &str, folder: &Path, root: Option<&Path>) -> Result<Self, PolicyError> {
        let mut files = Vec::new();
        for file in FILES {
            let path = folder.join(file);
            // Only the matrix and its roles are required. A site's own matrix may have no features.
            let needed = matches!(file, "matrix.csv" | "roles.csv");
            if needed || path.exists() {
                files.push(RuleFile::read(file, &path)?);
            }
        }
        // A folder that replaces a built-in matrix describes the same product unless it has its own
        // meta.toml.
        let built_in = SHIPPED.iter().filter(|(n, _)| *n == name && root.is_some());
        let mut built_in = built_in.flat_map(|(_, files)| files.iter());
        if files.iter().all(|file| file.name != "meta.toml")
            && let Some((file, text)) = built_in.find(|(file, _)| *file == "meta.toml")
        {
            files.push(RuleFile::built_in(file, &format!("rules/{name}"), text));
        }
        let severities = root.map(|r| r.join(SEVERITIES.0)).filter(|path| path.exists());
        files.push(match severities {
            Some(path) => RuleFile::read(SEVERITIES.0, &path)?,
            None => RuleFile::built_in(SEVERITIES.0, "rules", SEVERITIES.1),
        });
        let root = root.map(Path::to_owned);
        let mut rules = Self { name: name.to_owned(), files, overlays: Vec::new(), root };
        rules.add_overlay(BACKGROUND, None)?;
        Ok(rules)
    }

    /// Returns the name of a file in messages, and its text. Both are empty if the file does not
    /// exist.
    pub(super) fn file(&self, name: &str) -> (&str, &str) {
        let file = self.files.iter().find(|file| file.name == name);
        file.map_or(("", ""), |file| (&file.shown, &file.text))
    }

    /// Returns the SHA-256 over the names and texts of all files, in hex.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        for file in self.files.iter().chain(&self.overlays) {
            for part in [file.name.as_bytes(), file.text.as_bytes()] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hex(&hasher.finalize())
    }

    /// Loads the matrix. The error lists all its problems.
    pub fn load(&self) -> Result<Matrix, Vec<Diagnostic>> {
        Matrix::load(self)
    }
}
