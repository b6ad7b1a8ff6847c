//! The reports of window after window: a folder each, and `latest` for the last one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::folder::{FolderError, STAGING};
use super::{FORMATS, Report};

/// The link to the last folder.
const LATEST: &str = "latest";

/// The folder in a window's folder for what that window alone shows.
const WINDOW: &str = "window";

/// How a window's folder is called: by the time at which it was closed.
const NAME: &str = "%Y-%m-%dT%H-%M-%SZ";

/// A folder of dated folders.
pub struct Dated {
    root: PathBuf,
    keep: usize,
}

impl Dated {
    /// Makes the folder. `keep` is how many dated ones stay in it.
    pub fn prepare(root: &Path, keep: usize) -> Result<Self, FolderError> {
        let failed = |path: &Path, error| FolderError { path: path.to_owned(), error };
        fs::create_dir_all(root).map_err(|error| failed(root, error))?;
        let latest = root.join(LATEST);
        if latest.exists() && !latest.is_symlink() {
            let what = io::Error::other("is no link to a report; give another folder for --out");
            return Err(failed(&latest, what));
        }
        // What a killed run left half written.
        for entry in fs::read_dir(root).map_err(|error| failed(root, error))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(STAGING) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        // So that a folder that cannot be written is told at once.
        drop(staging(root).map_err(|error| failed(root, error))?);
        Ok(Self { root: root.to_owned(), keep })
    }

    /// Writes the reports of all windows and of the last one, whole or not at all. Returns where.
    pub fn write(&self, all: &Report<'_>, window: &Report<'_>) -> Result<PathBuf, FolderError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| FolderError { path, error }
        };
        let staging = staging(&self.root).map_err(at(&self.root))?;
        let whole = staging.path().join("whole");
        let alone = whole.join(WINDOW);
        fs::create_dir_all(&alone).map_err(at(&alone))?;
        write_all(&whole, all).map_err(at(&self.root))?;
        write_all(&alone, window).map_err(at(&self.root))?;
        let place = self.free_name();
        fs::rename(&whole, &place).map_err(at(&place))?;
        self.point(&place).map_err(at(&self.root.join(LATEST)))?;
        self.prune(&place);
        Ok(place)
    }

    fn free_name(&self) -> PathBuf {
        let name = Timestamp::now().strftime(NAME).to_string();
        let names = (1..).map(|number| match number {
            1 => name.clone(),
            more => format!("{name}-{more}"),
        });
        let mut places = names.map(|name| self.root.join(name));
        places.find(|place| !place.exists()).unwrap_or_else(|| self.root.join(name.clone()))
    }

    /// Makes `latest` a link to a folder, in one step.
    fn point(&self, place: &Path) -> io::Result<()> {
        let link = self.root.join(format!("{STAGING}latest"));
        let _ = fs::remove_file(&link);
        let name = place.file_name().unwrap_or_default();
        #[cfg(unix)]
        std::os::unix::fs::symlink(name, &link)?;
        #[cfg(not(unix))]
        return Err(io::Error::other("links are not known on this system"));
        fs::rename(&link, self.root.join(LATEST))
    }

    /// Removes the oldest folders beyond those that are kept.
    fn prune(&self, newest: &Path) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        let is_ours = |name: &str| {
            let date = name.get(..20).unwrap_or_default();
            let digits = date.bytes().filter(u8::is_ascii_digit).count();
            digits == 14 && date.ends_with('Z') && date.as_bytes().get(10) == Some(&b'T')
        };
        let mut ours: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_ours))
            .map(|entry| entry.path())
            .filter(|path| path != newest)
            .collect();
        ours.sort();
        let old = (ours.len() + 1).saturating_sub(self.keep);
        for path in &ours[..old.min(ours.len())] {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn staging(root: &Path) -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix(STAGING).tempdir_in(root)
}

fn write_all(folder: &Path, report: &Report<'_>) -> io::Result<()> {
    for (_, file, writer) in FORMATS {
        let Some(name) = file else { continue };
        let mut out = BufWriter::new(File::create(folder.join(name))?);
        writer(report, &mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
    }
    Ok(())
}
