//! Folders of files that are written all of them whole, or none touched.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{FORMATS, Report};

/// Why files cannot be written.
#[derive(Debug)]
pub struct FolderError {
    /// What could not be written.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// How the names of folders start in which files wait. One is left behind only where the program was killed.
const STAGING: &str = ".rasaudit-";

/// A folder for files, with room for the new ones beside the old.
pub struct Folder {
    target: PathBuf,
    staging: TempDir,
    /// The topmost folder that was made for these files; it goes if none is written.
    made: Option<PathBuf>,
    /// The names of the new files, in the order in which they come to their places.
    staged: Vec<String>,
    /// The names of old ones that go when the new ones come.
    replaced: Vec<String>,
}

impl Folder {
    /// Makes the folder before the long work starts, so that a wrong name is told at once.
    pub(super) fn prepare(target: &Path) -> Result<Self, FolderError> {
        let failed = |error| FolderError { path: target.to_owned(), error };
        if target.exists() && !target.is_dir() {
            return Err(failed(io::Error::other("is a file; a report or evidence wants a folder")));
        }
        let made =
            target.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).last();
        let made = made.map(Path::to_owned);
        fs::create_dir_all(target).map_err(failed)?;
        let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(target);
        let (staged, replaced) = (Vec::new(), Vec::new());
        Ok(Self {
            target: target.to_owned(),
            staging: staging.map_err(failed)?,
            made,
            staged,
            replaced,
        })
    }

    /// Makes a folder for reports.
    pub fn for_reports(target: &Path) -> Result<Self, FolderError> {
        let folder = Self::prepare(target)?;
        // Whatever keeps one report from its place must keep all of them back.
        for path in FORMATS.iter().filter_map(|(_, file, _)| Some(folder.place((*file)?))) {
            if path.is_dir() {
                let error = io::Error::other("is a folder where a report belongs");
                return Err(FolderError { path, error });
            }
        }
        Ok(folder)
    }

    /// Writes every report, beside its place.
    pub fn stage_reports(&mut self, report: &Report<'_>) -> Result<(), FolderError> {
        for (name, writer) in
            FORMATS.iter().filter_map(|(_, file, writer)| Some(((*file)?, writer)))
        {
            self.stage(name, |out| writer(report, out))?;
        }
        Ok(())
    }

    /// Whether a name is that of a folder in which files wait, of this run or another.
    pub(super) fn is_staging(name: &str) -> bool {
        name.starts_with(STAGING)
    }

    /// Names old files that go when the new ones come to their places.
    pub(super) fn replaces(&mut self, names: Vec<String>) {
        self.replaced = names;
    }

    /// Where a file will be.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// Writes a file beside its place.
    pub(super) fn stage(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), FolderError> {
        let staged = || {
            let mut out = BufWriter::new(File::create(self.staging.path().join(name))?);
            write(&mut out)?;
            out.flush()?;
            out.get_ref().sync_all()
        };
        staged().map_err(|error| FolderError { path: self.place(name), error })?;
        self.staged.push(name.to_owned());
        Ok(())
    }

    /// Moves all files into place; then the old ones go that nothing took the place of.
    pub fn publish(mut self) -> Result<(), FolderError> {
        for name in &self.staged {
            let path = self.place(name);
            fs::rename(self.staging.path().join(name), &path)
                .map_err(|error| FolderError { path, error })?;
        }
        self.made = None;
        let staged: HashSet<&String> = self.staged.iter().collect();
        for name in self.replaced.iter().filter(|name| !staged.contains(name)) {
            let path = self.place(name);
            fs::remove_file(&path).map_err(|error| FolderError { path, error })?;
        }
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Some(topmost) = self.made.take() else { return };
        // Only empty folders go: somebody may have put something there meanwhile.
        let _ = fs::remove_dir_all(self.staging.path());
        for folder in self.target.ancestors().take_while(|p| p.starts_with(&topmost)) {
            let _ = fs::remove_dir(folder);
        }
    }
}
