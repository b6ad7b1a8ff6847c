//! The files of `--out`: all of them whole, or none touched.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{FORMATS, Report};

/// Why reports cannot be written.
#[derive(Debug)]
pub struct FolderError {
    /// What could not be written.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// A folder for reports, with room for the new ones beside the old.
pub struct Folder {
    target: PathBuf,
    staging: TempDir,
    /// The topmost folder that was made for these reports; it goes if none is written.
    made: Option<PathBuf>,
}

impl Folder {
    /// Makes the folder before the long work starts, so that a wrong name is told at once.
    pub fn prepare(target: &Path) -> Result<Self, FolderError> {
        let failed = |error| FolderError { path: target.to_owned(), error };
        if target.exists() && !target.is_dir() {
            return Err(failed(io::Error::other("is a file; --out wants a folder")));
        }
        let made =
            target.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).last();
        let made = made.map(Path::to_owned);
        fs::create_dir_all(target).map_err(failed)?;
        // Whatever keeps one report from its place must keep all of them back.
        for path in FORMATS.iter().filter_map(|(_, file, _)| Some(target.join((*file)?))) {
            if path.is_dir() {
                let error = io::Error::other("is a folder where a report belongs");
                return Err(FolderError { path, error });
            }
        }
        let staging = tempfile::Builder::new().prefix(".rasaudit-").tempdir_in(target);
        Ok(Self { target: target.to_owned(), staging: staging.map_err(failed)?, made })
    }

    /// Writes every report beside its place, then moves all of them into place.
    pub fn write(mut self, report: &Report<'_>) -> Result<(), FolderError> {
        let files = || FORMATS.iter().filter_map(|(_, file, writer)| Some((((*file)?), *writer)));
        for (name, writer) in files() {
            let path = self.staging.path().join(name);
            let write = || {
                let mut out = BufWriter::new(File::create(&path)?);
                writer(report, &mut out)?;
                out.flush()?;
                out.get_ref().sync_all()
            };
            write().map_err(|error| FolderError { path: self.target.join(name), error })?;
        }
        for (name, _) in files() {
            let target = self.target.join(name);
            fs::rename(self.staging.path().join(name), &target)
                .map_err(|error| FolderError { path: target, error })?;
        }
        self.made = None;
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
