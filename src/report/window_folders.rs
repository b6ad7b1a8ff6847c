//! Writes the reports of successive windows: one folder per window, and the link `latest` to the
//! most recent one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::ReportFiles;
use super::folder::{FolderError, clear_stale, exclusive, staging_folder};
use crate::model::TEMPORARY_PREFIX;
use crate::result::AuditResult;

/// The name of the link to the most recent folder.
const LATEST: &str = "latest";

/// The subfolder for the reports of the window alone. Its parent contains the reports of all
/// windows so far.
const WINDOW: &str = "window";

/// The format of the name of a window's folder: the time at which its reports are written, in UTC.
const NAME: &str = "%Y-%m-%dT%H-%M-%SZ";

/// A folder that contains one dated folder per window.
pub struct WindowFolders {
    root: PathBuf,
    keep: usize,
    /// The lock on the folder, because two audits would replace each other's link and remove each
    /// other's reports.
    _lock: Option<File>,
}

impl WindowFolders {
    /// Creates the folder, and removes the staging folders of killed runs from it. `keep` is the
    /// number of dated folders to keep. Returns an error if the folder cannot be written, if
    /// another live audit writes to it, or if it contains a file or a folder named `latest` that
    /// is not a link.
    pub fn prepare(root: &Path, keep: usize) -> Result<Self, FolderError> {
        let failed = |path: &Path, error| FolderError { path: path.to_owned(), error };
        if root.is_file() {
            let what = io::Error::other("this is a file; reports need a folder");
            return Err(failed(root, what));
        }
        fs::create_dir_all(root).map_err(|error| failed(root, error))?;
        let latest = root.join(LATEST);
        if latest.exists() && !latest.is_symlink() {
            let what =
                io::Error::other("this is not a link to a report; use another folder for --out");
            return Err(failed(&latest, what));
        }
        let in_use = "another live audit writes its reports to this folder; use another folder";
        let _lock = exclusive(root, in_use).map_err(|error| failed(root, error))?;
        clear_stale(root);
        // A folder that is not writable must be reported before the capture starts.
        drop(staging_folder(root).map_err(|error| failed(root, error))?);
        Ok(Self { root: root.to_owned(), keep, _lock })
    }

    /// Writes the reports of all windows and those of the last window alone, completely or not at
    /// all. Returns their folder.
    pub fn write(
        &self,
        all: &AuditResult<'_>,
        window: &AuditResult<'_>,
    ) -> Result<PathBuf, FolderError> {
        self.publish(&Timestamp::now().strftime(NAME).to_string(), |folder| {
            write_all(folder, all)?;
            let alone = folder.join(WINDOW);
            fs::create_dir(&alone)?;
            write_all(&alone, window)
        })
        .map_err(|error| FolderError { path: self.root.clone(), error })
    }

    /// Creates a folder with the output of `write`, makes `latest` point to it, and removes the
    /// oldest folders. Returns the path of the new folder.
    fn publish(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        let staging = staging_folder(&self.root)?;
        let new = staging.path().join("new");
        fs::create_dir(&new)?;
        write(&new)?;
        let place = self.free_path(name);
        fs::rename(&new, &place)?;
        self.link_latest(&place)?;
        self.prune(&place);
        Ok(place)
    }

    /// Returns an unused path. If the name is taken already, for example because the clock was set
    /// back, a number is appended.
    fn free_path(&self, name: &str) -> PathBuf {
        let names = (1..).map(|number| match number {
            1 => name.to_owned(),
            more => format!("{name}-{more}"),
        });
        let mut places = names.map(|name| self.root.join(name));
        places.find(|place| !place.exists()).unwrap_or_else(|| self.root.join(name))
    }

    /// Makes `latest` a link to a folder. An existing link is replaced atomically.
    fn link_latest(&self, place: &Path) -> io::Result<()> {
        let link = self.root.join(format!("{TEMPORARY_PREFIX}latest"));
        let _ = fs::remove_file(&link);
        let name = place.file_name().unwrap_or_default();
        #[cfg(unix)]
        std::os::unix::fs::symlink(name, &link)?;
        #[cfg(not(unix))]
        return Err(io::Error::other("this system does not support symbolic links"));
        fs::rename(&link, self.root.join(LATEST))
    }

    /// Removes the dated folders with the oldest dates if there are more than `keep`. The folder
    /// `newest`, which was just written, is always kept, whatever its date.
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

fn write_all(folder: &Path, report: &AuditResult<'_>) -> io::Result<()> {
    for (format, name) in ReportFiles::default().selected() {
        let mut out = BufWriter::new(File::create(folder.join(name))?);
        (format.write)(report, &mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::folder::make_old;

    #[test]
    fn folders_come_whole_are_pruned_by_age_and_latest_leads_to_the_last() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("new/reports");
        let dated = WindowFolders::prepare(&root, 3).unwrap();
        fs::write(root.join("notes.txt"), "the user's own").unwrap();
        fs::create_dir(root.join("2026-notes")).unwrap();
        let publish = |name: &str| {
            dated.publish(name, |folder| fs::write(folder.join("report"), name)).unwrap()
        };
        for day in 1..=5 {
            publish(&format!("2026-01-0{day}T00-00-00Z"));
        }
        // If the clock was set back, the folder written now is still the latest one, and it is
        // kept.
        let place = publish("2026-01-05T00-00-00Z");
        assert!(place.ends_with("2026-01-05T00-00-00Z-2"));
        let place = publish("2026-01-02T00-00-00Z");
        assert_eq!(fs::canonicalize(root.join(LATEST)).unwrap(), fs::canonicalize(&place).unwrap());
        let failed = dated.publish("2026-01-06T00-00-00Z", |folder| {
            fs::write(folder.join("report"), "half")?;
            Err(io::Error::other("no room"))
        });
        assert!(failed.is_err());
        let entries = fs::read_dir(&root).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        let kept = ["2026-01-02T00-00-00Z", "2026-01-05T00-00-00Z", "2026-01-05T00-00-00Z-2"];
        assert_eq!(names, [&kept[..], &["2026-notes", "latest", "notes.txt"]].concat());
        // A half-written folder is removed only if it is old, because another run may be using it.
        // A folder named `latest` was not created by rasaudit, so it is an error.
        let left = root.join(".rasaudit-left");
        fs::create_dir(&left).unwrap();
        let in_use = WindowFolders::prepare(&root, 3).err().expect("an error");
        assert!(in_use.error.to_string().starts_with("another live audit"), "{in_use:?}");
        drop(dated);
        WindowFolders::prepare(&root, 3).unwrap();
        assert!(left.exists());
        make_old(&left);
        WindowFolders::prepare(&root, 3).unwrap();
        assert!(!left.exists());
        fs::remove_file(root.join(LATEST)).unwrap();
        fs::create_dir(root.join(LATEST)).unwrap();
        assert!(WindowFolders::prepare(&root, 3).is_err());
        let file = root.join("file");
        fs::write(&file, "").unwrap();
        let error = WindowFolders::prepare(&file, 3).map(drop).unwrap_err();
        assert_eq!(error.error.to_string(), "this is a file; reports need a folder");
    }
}
