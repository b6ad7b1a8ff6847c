//! Lists the files that are being written, so that an interrupt leaves none of them behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::lock;

/// Temporary files that are being written, and the folders that were created for them. Clones share
/// the list. A handler that ends the program removes them, because destructors do not run then.
#[derive(Clone, Default, Debug)]
pub struct UnfinishedFiles(Arc<Mutex<Vec<PathBuf>>>);

impl UnfinishedFiles {
    /// Adds files or folders. A file comes before its folder.
    pub fn add(&self, paths: impl IntoIterator<Item = PathBuf>) {
        lock(&self.0).extend(paths);
    }

    /// Removes a file or a folder from the list, because it is complete or no longer exists.
    pub fn forget(&self, path: &Path) {
        lock(&self.0).retain(|listed| listed != path);
    }

    /// Deletes the files and those of the folders that are empty.
    pub fn delete(&self) {
        for path in lock(&self.0).drain(..) {
            // `remove_dir` removes only empty folders: others may have added files meanwhile.
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_files_and_empty_folders_are_deleted() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        for folder in ["empty", "used"] {
            fs::create_dir(at(folder)).unwrap();
        }
        for file in ["listed", "complete", "used/other"] {
            fs::write(at(file), "").unwrap();
        }
        let unfinished = UnfinishedFiles::default();
        unfinished.add(["listed", "complete", "empty", "used"].map(at));
        unfinished.forget(&at("complete"));
        unfinished.clone().delete();
        let is_there = ["listed", "complete", "empty", "used"].map(|name| at(name).exists());
        assert_eq!(is_there, [false, true, false, true]);
    }
}
