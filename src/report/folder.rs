//! Output folders whose files are replaced together or not at all.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::one_pass::{self, Outputs, SharedTable};
use super::{Format, ReportFiles, url_encoded};
use crate::model::{TEMPORARY_PREFIX, hex};
use crate::result::{AuditResult, ExceptionUse};

/// An error that prevents files from being written.
#[derive(Debug)]
pub struct FolderError {
    /// The file or folder that could not be written.
    pub path: PathBuf,
    /// The error, from the system or from a check of the folder.
    pub error: io::Error,
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.error)
    }
}

impl std::error::Error for FolderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The file that lists the other files of a report with their SHA-256, in the format of sha256sum.
/// It is moved into place last, so a folder that does not match it is incomplete or was changed.
const MANIFEST: &str = "manifest.sha256";

/// The file name of the exceptions report. The user's list of exceptions may have the same name.
const EXCEPTIONS: &str = "exceptions.csv";

/// The number of leading columns that `exceptions.csv` has in every version.
const OLD_COLUMNS: usize = 7;

/// The content of the manifest while new files are moved into a folder that has no manifest.
const INCOMPLETE: &str = "incomplete\n";

/// The size of the buffer for writing a file, in bytes.
const FILE_BUFFER: usize = 1 << 18;

/// A new file in a staging folder.
struct StagedFile {
    out: BufWriter<DigestWriter>,
}

impl StagedFile {
    /// Writes everything to the disk. Returns the SHA-256 of the content.
    fn finish(mut self) -> io::Result<String> {
        self.out.flush()?;
        let DigestWriter { file, hasher } = self.out.get_mut();
        file.sync_all()?;
        Ok(hex(&std::mem::take(hasher).finalize()))
    }
}

/// A file whose SHA-256 is computed while it is written, so that it need not be read again.
struct DigestWriter {
    file: File,
    hasher: Sha256,
}

impl Write for DigestWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// An output folder, with a staging folder for the new files.
pub struct Folder {
    target: PathBuf,
    /// The folder for the new files. It is next to the target, so that the two can be exchanged in
    /// one step. If the target cannot be exchanged ([`is_swappable`]), or if no folder can be
    /// created next to it, the folder is inside the target.
    staging: StagingFolder,
    is_beside: bool,
    /// Whether the target and the staging folder have been exchanged.
    is_swapped: bool,
    /// The lock on the old target, which takes the place of the staging folder in the exchange.
    old_lock: Option<File>,
    /// The topmost folder that was created for the target. It is removed again if nothing is
    /// written.
    made: Option<PathBuf>,
    /// The names of the new files, in the order in which they are moved into place.
    staged: Vec<String>,
    /// The old files to remove when the new ones are moved into place, with their expected SHA-256.
    /// `None` means that only `outdated` files and those with the name of a new one are removed.
    replaced: Option<Vec<(String, String)>>,
    /// The files of an earlier report that the new report leaves out. They are removed, because the
    /// remaining files would not belong together.
    outdated: Vec<String>,
    /// The names of the old files that were set aside. `placed` contains the names of the new files
    /// that were moved into place.
    aside: Vec<String>,
    placed: Vec<String>,
}

impl Folder {
    /// Creates the target and its staging folder before the long work starts, so that an unusable
    /// path is reported early.
    pub(super) fn prepare(target: &Path) -> Result<Self, FolderError> {
        let failed = |error| FolderError { path: target.to_owned(), error };
        if target.exists() && !target.is_dir() {
            return Err(failed(io::Error::other(
                "this is a file; reports and evidence need a folder",
            )));
        }
        let made =
            target.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).last();
        let made = made.map(Path::to_owned);
        // A path such as `new/../old` would also create `new`, which is not a parent of the target.
        let below = made.as_ref().and_then(|made| target.strip_prefix(made).ok());
        if below.is_some_and(|path| path.components().any(|part| part == Component::ParentDir)) {
            return Err(failed(io::Error::other(
                "the path contains .. after a folder that does not exist",
            )));
        }
        fs::create_dir_all(target).map_err(failed)?;
        // Depending on whether the target can be exchanged, a killed run has left its staging
        // folder beside the target or in it.
        [&folder_of(target), target].into_iter().for_each(clear_stale);
        let beside =
            is_swappable(target).then(|| staging_folder(&folder_of(target)).ok()).flatten();
        let is_beside = beside.is_some();
        let staging = beside.map_or_else(|| staging_folder(target), Ok).map_err(failed)?;
        // The staging folder may be next to the target, so its creation does not show that the
        // target is writable. An unwritable target must also be reported before the audit starts.
        drop(tempfile::tempfile_in(target).map_err(failed)?);
        Ok(Self {
            target: target.to_owned(),
            staging,
            is_beside,
            is_swapped: false,
            old_lock: None,
            made,
            staged: Vec::new(),
            replaced: None,
            outdated: Vec::new(),
            aside: Vec::new(),
            placed: Vec::new(),
        })
    }

    /// Creates a folder for the selected reports. Returns an error if the folder cannot be created
    /// or written, if it contains a folder with the name of a report, or if a report would replace
    /// the user's list of exceptions.
    pub fn for_reports(target: &Path, files: &ReportFiles) -> Result<Self, FolderError> {
        let mut folder = Self::prepare(target)?;
        // If one report cannot be written, none may be written.
        files.selected().try_for_each(|(_, name)| folder.is_free(name))?;
        if files.contains("exceptions") {
            folder.spares_list()?;
        }
        let manifest = fs::read_to_string(folder.place(MANIFEST)).unwrap_or_default();
        let is_old = |name: &&str| {
            let digest = digest_of(&folder.place(name));
            digest.is_ok_and(|d| manifest.lines().any(|line| line == format!("{d}  {name}")))
        };
        folder.outdated = files.left_out().filter(is_old).map(str::to_owned).collect();
        Ok(folder)
    }

    /// Writes the selected reports and their manifest to the staging folder.
    pub fn stage_reports(
        &mut self,
        report: &AuditResult<'_>,
        files: &ReportFiles,
    ) -> Result<(), FolderError> {
        let (shared, single): (Vec<_>, Vec<_>) =
            files.selected().partition(|(format, _)| files.is_shared(format));
        let mut digests = self.stage_shared(report, files, &shared)?;
        for (format, name) in single {
            let mut file = self.create(name)?;
            let written = format.write_as(files.layout, report, &mut file.out);
            written.map_err(self.failed_at(name))?;
            digests.push((name, file.finish().map_err(self.failed_at(name))?));
        }
        let mut manifest = String::new();
        for (_, name) in files.selected() {
            let digest = digests.iter().find(|(digested, _)| *digested == name);
            manifest.extend(digest.map(|(name, digest)| format!("{digest}  {name}\n")));
            self.staged.push(name.to_owned());
        }
        self.stage(MANIFEST, |out| out.write_all(manifest.as_bytes()))
    }

    /// Returns the URL of another folder relative to this one, with `/` at the end. Returns `None`
    /// if a symbolic link or `..` in a path could make a browser resolve the URL to another folder,
    /// if the folders have no common root, or if a name in the URL would not be UTF-8.
    pub fn url_to(&self, other: &Self) -> Option<String> {
        let both = [&self.target, &other.target];
        let [from, to] = both.map(|path| std::path::absolute(path).ok());
        let written = relative_url(&from?, &to?)?;
        let [from, to] = both.map(|path| fs::canonicalize(path).ok());
        let real = relative_url(&from?, &to?)?;
        (written == real).then_some(written)
    }

    /// Writes `audit.json` and the files that have the same rows to the staging folder. Returns the
    /// name and the SHA-256 of each; an empty list if `formats` does not contain `audit.json`.
    fn stage_shared(
        &self,
        report: &AuditResult<'_>,
        files: &ReportFiles,
        formats: &[(&'static Format, &'static str)],
    ) -> Result<Vec<(&'static str, String)>, FolderError> {
        let find = |table| formats.iter().find(|(format, _)| format.table == table);
        let create = |table| {
            let file = find(table).map(|(_, name)| Ok((*name, self.create(name)?)));
            file.transpose()
        };
        let Some((json_name, mut json)) = create(None)? else { return Ok(Vec::new()) };
        let mut findings = create(Some(SharedTable::Findings))?;
        let mut conversations = create(Some(SharedTable::Conversations))?;
        let outputs = Outputs {
            json: &mut json.out,
            findings: findings.as_mut().map(|(_, file)| &mut file.out as &mut dyn Write),
            conversations: conversations.as_mut().map(|(_, file)| &mut file.out as &mut dyn Write),
        };
        one_pass::write(report, files.layout, outputs).map_err(|failure| {
            let name = find(failure.table).map_or(json_name, |(_, name)| *name);
            FolderError { path: self.place(name), error: failure.error }
        })?;
        let all = [findings, conversations, Some((json_name, json))];
        let digest = |(name, file): (&'static str, StagedFile)| {
            Ok((name, file.finish().map_err(self.failed_at(name))?))
        };
        all.into_iter().flatten().map(digest).collect()
    }

    fn failed_at(&self, name: &str) -> impl Fn(io::Error) -> FolderError + use<> {
        let path = self.place(name);
        move |error| FolderError { path: path.clone(), error }
    }

    /// Creates a file in the staging folder.
    fn create(&self, name: &str) -> Result<StagedFile, FolderError> {
        let file = File::create(self.staging.path().join(name)).map_err(self.failed_at(name))?;
        let out = DigestWriter { file, hasher: Sha256::new() };
        Ok(StagedFile { out: BufWriter::with_capacity(FILE_BUFFER, out) })
    }

    /// Returns whether a name belongs to a staging folder, of this run or another.
    pub(super) fn is_staging(name: &str) -> bool {
        name.starts_with(TEMPORARY_PREFIX)
    }

    /// Sets the old files to remove when the new ones are moved into place, with their SHA-256. No
    /// other file is then replaced.
    pub(super) fn set_replaced(&mut self, files: Vec<(String, String)>) {
        self.replaced = Some(files);
    }

    /// Checks that no folder has the name of a file.
    fn is_free(&self, name: &str) -> Result<(), FolderError> {
        let path = self.place(name);
        if path.is_dir() {
            let error = io::Error::other(
                "this is a folder with the name of a report file; rename it, or use another folder for the reports",
            );
            Err(FolderError { path, error })
        } else {
            Ok(())
        }
    }

    /// Checks that the report does not replace the user's list of exceptions, which may have the
    /// same file name. The two are distinguished by their headers.
    fn spares_list(&self) -> Result<(), FolderError> {
        let path = self.place(EXCEPTIONS);
        if path.exists() && !is_exceptions_report(&path) {
            let error = io::Error::other(
                "this file is not part of an earlier report and would be replaced; keep the list of exceptions elsewhere, or use another folder",
            );
            return Err(FolderError { path, error });
        }
        Ok(())
    }

    /// Returns the final path of a file.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.target.join(name)
    }

    /// Writes a file to the staging folder.
    pub(super) fn stage(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), FolderError> {
        let write_file = || {
            let mut out = BufWriter::new(File::create(self.staging.path().join(name))?);
            write(&mut out)?;
            out.flush()?;
            out.get_ref().sync_all()
        };
        write_file().map_err(|error| FolderError { path: self.place(name), error })?;
        self.staged.push(name.to_owned());
        Ok(())
    }

    /// Moves the new files of all folders into place, or none of them.
    pub fn publish(mut folders: Vec<Self>) -> Result<(), FolderError> {
        let placed = folders.iter_mut().try_for_each(|folder| {
            folder.check_replaced()?;
            if folder.swap() {
                return Ok(());
            }
            folder.move_aside()?;
            folder.place_all()
        });
        for folder in &mut folders {
            match placed {
                Ok(()) => folder.made = None,
                Err(_) => folder.undo(),
            }
        }
        placed
    }

    /// Checks that the files given to [`Folder::set_replaced`] still have the expected content.
    fn check_replaced(&self) -> Result<(), FolderError> {
        for (name, digest) in self.replaced.iter().flatten() {
            let path = self.place(name);
            if digest_of(&path).ok().as_ref() != Some(digest) {
                let error = io::Error::other(
                    "this file was changed or removed while the audit ran; nothing was written, so run the audit again",
                );
                return Err(FolderError { path, error });
            }
        }
        Ok(())
    }

    /// Returns the names of the old files to remove: those given to [`Folder::set_replaced`], or
    /// else those that have the name of a new file or are outdated.
    fn old_names(&self) -> Vec<String> {
        match &self.replaced {
            None => self.staged.iter().chain(&self.outdated).cloned().collect(),
            Some(replaced) => replaced.iter().map(|(name, _)| name.clone()).collect(),
        }
    }

    /// Exchanges the target and the staging folder in one step, so that a killed run leaves either
    /// all old files or all new ones. Returns false if that is not possible, for example because
    /// the target contains other files or the system does not support the exchange.
    fn swap(&mut self) -> bool {
        let old = self.old_names();
        let entries = fs::read_dir(&self.target).map(|entries| entries.collect::<Vec<_>>());
        let is_ours = |entry: &io::Result<fs::DirEntry>| {
            entry.as_ref().is_ok_and(|entry| {
                let is_old = entry.file_name().to_str().is_some_and(|n| old.iter().any(|o| o == n));
                is_old && entry.file_type().is_ok_and(|kind| kind.is_file())
            })
        };
        let all_ours = entries.is_ok_and(|entries| entries.iter().all(is_ours));
        let ready = self.is_beside && all_ours && is_swappable(&self.target);
        self.old_lock = lock(&self.target).ok();
        self.is_swapped = ready && copy_owner(&self.target, self.staging.path()) && self.exchange();
        self.is_swapped
    }

    /// Exchanges the target and the staging folder atomically (renameat2(2)).
    #[cfg(target_os = "linux")]
    fn exchange(&self) -> bool {
        use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
        let new = self.staging.path();
        let old = self.target.as_path();
        let exchanged = renameat2(AT_FDCWD, new, AT_FDCWD, old, RenameFlags::RENAME_EXCHANGE);
        if exchanged.is_err() {
            return false;
        }
        self.move_late_files();
        // The exchange must survive a power failure.
        let _ = File::open(folder_of(old)).and_then(|folder| folder.sync_all());
        true
    }

    /// Moves the files that other programs added to the old folder just before the exchange into
    /// the new one.
    #[cfg(target_os = "linux")]
    fn move_late_files(&self) {
        // When an exchange is undone, the staging folder contains the new files, which stay there.
        let mut ours = self.old_names();
        ours.extend_from_slice(&self.staged);
        for entry in fs::read_dir(self.staging.path()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !ours.iter().any(|known| name == **known)
                && !self.place(&name.to_string_lossy()).exists()
            {
                let _ = fs::rename(entry.path(), self.target.join(&name));
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn exchange(&self) -> bool {
        false
    }

    /// Sets the old files aside, so that they can be restored. If possible, a file that a new one
    /// replaces stays in place and gets a hard link in the staging folder. The others are moved
    /// there.
    fn move_aside(&mut self) -> Result<(), FolderError> {
        let old = self.old_names();
        let old_folder = self.old_folder();
        fs::create_dir(&old_folder)
            .map_err(|error| FolderError { path: old_folder.clone(), error })?;
        for name in old {
            self.is_free(&name)?;
            let path = self.place(&name);
            let kept = old_folder.join(&name);
            let stays = self.staged.contains(&name) && fs::hard_link(&path, &kept).is_ok();
            match if stays { Ok(()) } else { fs::rename(&path, &kept) } {
                Ok(()) => self.aside.push(name),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(FolderError { path, error }),
            }
        }
        Ok(())
    }

    /// Moves the new files into place. If they include a manifest, it is the last one. Until then,
    /// the folder contains the old manifest, or one that marks the report as incomplete.
    fn place_all(&mut self) -> Result<(), FolderError> {
        if self.staged.iter().any(|name| name == MANIFEST) && !self.place(MANIFEST).exists() {
            let path = self.place(MANIFEST);
            fs::write(&path, INCOMPLETE).map_err(|error| FolderError { path, error })?;
            self.placed.push(MANIFEST.to_owned());
        }
        for name in self.staged.clone() {
            let from = self.staging.path().join(&name);
            let path = self.place(&name);
            let is_ours = self.aside.contains(&name) || self.placed.contains(&name);
            let moved = if is_ours { fs::rename(&from, &path) } else { move_new(&from, &path) };
            moved.map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    let error = io::Error::new(
                        error.kind(),
                        "another program created this file while the audit ran; nothing was written, so run the audit again",
                    );
                    FolderError { path, error }
                }
                _ => FolderError { path, error },
            })?;
            self.placed.push(name);
        }
        Ok(())
    }

    /// Restores the old files and removes the new ones.
    fn undo(&mut self) {
        if std::mem::take(&mut self.is_swapped) {
            self.exchange();
        }
        let aside = std::mem::take(&mut self.aside);
        for name in std::mem::take(&mut self.placed).iter().filter(|name| !aside.contains(name)) {
            let _ = fs::remove_file(self.place(name));
        }
        for name in aside {
            let _ = fs::rename(self.old_folder().join(&name), self.place(&name));
        }
    }

    /// Returns the folder for the old files that were set aside.
    fn old_folder(&self) -> PathBuf {
        self.staging.path().join("old")
    }
}

/// Returns the URL of the folder `to` relative to the folder `from`, both absolute paths. `None` if
/// a path contains `..`, if the paths have no common root, or if the URL would contain a name that
/// is not UTF-8.
fn relative_url(from: &Path, to: &Path) -> Option<String> {
    let [from, to] = [from, to].map(|path| path.components().collect::<Vec<_>>());
    if from.iter().chain(&to).any(|part| *part == Component::ParentDir) {
        return None;
    }
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if common == 0 {
        return None;
    }
    // The dot prevents a browser from reading the name of a folder as the scheme of a URL.
    let mut url = "./".to_owned();
    url.push_str(&"../".repeat(from.len() - common));
    for part in &to[common..] {
        url.push_str(&url_encoded(part.as_os_str().to_str()?));
        url.push('/');
    }
    Some(url)
}

/// Returns the folder that contains a file; `.` for a name without a folder.
pub fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A staging folder, which is locked until it is removed. Other runs therefore know whether it is
/// in use.
pub(super) struct StagingFolder {
    folder: TempDir,
    /// `None` if the file system does not support locks on folders.
    _lock: Option<File>,
}

impl StagingFolder {
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Creates a staging folder in another folder.
pub(super) fn staging_folder(root: &Path) -> io::Result<StagingFolder> {
    let folder = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempdir_in(root)?;
    let _lock = lock(folder.path()).ok();
    Ok(StagingFolder { folder, _lock })
}

/// Locks a folder for as long as the result is kept. Returns `None` if the folder cannot be locked,
/// for example because its file system does not support locks on folders.
///
/// # Errors
///
/// Returns an error with the text `in_use` if another program holds the lock.
pub(super) fn exclusive(folder: &Path, in_use: &str) -> io::Result<Option<File>> {
    match lock(folder) {
        Ok(lock) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(io::Error::other(in_use)),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Locks a file or folder. The system releases the lock when the program ends, even if it is
/// killed.
fn lock(folder: &Path) -> Result<File, TryLockError> {
    let folder = File::open(folder).map_err(TryLockError::Error)?;
    folder.try_lock()?;
    Ok(folder)
}

/// Removes the staging folders of killed runs from a folder.
pub(super) fn clear_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_leftover(&entry) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Returns whether a killed run left a temporary file or folder. It is in use if another run has
/// locked it. If the file system does not support locks, it counts as left once it has not changed
/// for 24 hours, and is therefore unlikely to be in use.
pub fn is_leftover(entry: &fs::DirEntry) -> bool {
    /// The minimum age if nobody has locked it. Another run may have created a newer one, but not
    /// locked it yet.
    const UNLOCKED: Duration = Duration::from_secs(60);
    const OLD: Duration = Duration::from_secs(24 * 3600);
    if !entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
        return false;
    }
    let age = entry.metadata().and_then(|data| data.modified()).ok();
    let age = age.and_then(|modified| modified.elapsed().ok());
    let required = match lock(&entry.path()) {
        Ok(_) => UNLOCKED,
        Err(TryLockError::WouldBlock) => return false,
        Err(TryLockError::Error(_)) => OLD,
    };
    age.is_some_and(|age| age > required)
}

/// Returns whether a folder may be exchanged with another. It must not be a symbolic link or a
/// mount point. Returns false on systems other than Unix.
fn is_swappable(folder: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // No folder can be renamed to `.` or `..`.
        let named = folder.file_name().is_some();
        let data = fs::symlink_metadata(folder).ok().filter(|data| named && data.is_dir());
        let parent = fs::metadata(folder_of(folder)).ok();
        data.zip(parent).is_some_and(|(data, parent)| data.dev() == parent.dev())
    }
    #[cfg(not(unix))]
    false
}

/// Copies the owner, the group and the permissions of `model` to `folder`. Returns false if that
/// fails.
fn copy_owner(model: &Path, folder: &Path) -> bool {
    let Ok(data) = fs::metadata(model) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, chown};
        let own = fs::metadata(folder);
        let same = own.is_ok_and(|own| (own.uid(), own.gid()) == (data.uid(), data.gid()));
        if !same && chown(folder, Some(data.uid()), Some(data.gid())).is_err() {
            return false;
        }
    }
    fs::set_permissions(folder, data.permissions()).is_ok()
}

/// The error for a report that does not match its manifest. The value is the file that differs, or
/// `None` if the report is incomplete.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "does not match {MANIFEST} in its folder: {}; write the report again, and keep changes in a copy elsewhere",
    difference(.0.as_deref())
)]
pub struct Torn(pub Option<String>);

/// Describes how a report differs from its manifest.
fn difference(file: Option<&str>) -> String {
    match file {
        Some(file) => format!("{} was changed or is missing", crate::model::escape_control(file)),
        None => "the report is incomplete".to_owned(),
    }
}

/// Checks that the files of a report match the manifest in their folder, if there is one. `file` is
/// one of them. A complete manifest that does not list it is ignored.
///
/// # Errors
///
/// Returns [`Torn`] if a listed file differs or is missing, or if the report is incomplete.
pub fn fits_manifest(file: &Path) -> Result<(), Torn> {
    let folder = folder_of(file);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let Ok(text) = fs::read_to_string(folder.join(MANIFEST)) else { return Ok(()) };
    if text == INCOMPLETE {
        return Err(Torn(None));
    }
    let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once("  ")).collect();
    if lines.iter().all(|(_, listed)| *listed != name) {
        return Ok(());
    }
    for (digest, listed) in lines {
        let is_plain = Path::new(listed).components().count() == 1;
        let found = digest_of(&folder.join(listed)).ok().filter(|_| is_plain);
        if found.as_deref() != Some(digest) {
            return Err(Torn(Some(listed.to_owned())));
        }
    }
    Ok(())
}

/// Returns whether a file has the name and the first columns of an exceptions report. An audit that
/// writes its reports to the same folder would replace such a file.
pub fn is_exceptions_report(file: &Path) -> bool {
    let own = ExceptionUse::COLUMNS[..OLD_COLUMNS].join(",");
    let is_own = |bytes: Vec<u8>| bytes.starts_with(own.as_bytes());
    file.file_name().is_some_and(|name| name == EXCEPTIONS) && fs::read(file).is_ok_and(is_own)
}

/// Moves a file to a path that must not exist yet.
fn move_new(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        // Not every file system supports hard links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !to.exists() => {
            fs::rename(from, to)
        }
        Err(error) => Err(error),
    }
}

/// Returns the SHA-256 of a regular file, in hex. Anything else, such as a symbolic link, is an
/// error.
pub fn digest_of(path: &Path) -> io::Result<String> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("this is not a regular file"));
    }
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Some(topmost) = self.made.take() else { return };
        let _ = fs::remove_dir_all(self.staging.path());
        // `remove_dir` removes only empty folders: others may have added files meanwhile.
        for folder in self.target.ancestors().take_while(|p| p.starts_with(&topmost)) {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Sets the modification time of a folder to two days ago.
#[cfg(test)]
pub(super) fn make_old(folder: &Path) {
    let two_days_ago = std::time::SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    File::open(folder).unwrap().set_modified(two_days_ago).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change to a folder while the audit runs.
    type Meanwhile = fn(&Path);

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    /// Returns a folder with two old files that may be replaced, and two new files in its staging
    /// folder. One of the new files has the name of an old one.
    fn own(at: &Path) -> Folder {
        fs::create_dir_all(at).unwrap();
        for name in ["a", "b"] {
            fs::write(at.join(name), "old").unwrap();
        }
        let mut folder = Folder::prepare(at).unwrap();
        let old = ["a", "b"].map(|n| (n.to_owned(), digest_of(&at.join(n)).unwrap()));
        folder.set_replaced(old.to_vec());
        for name in ["a", "c"] {
            folder.stage(name, |out| out.write_all(b"new")).unwrap();
        }
        folder
    }

    /// If the system cannot exchange the folders, the new files must stay in the staging folder.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_failed_exchange_moves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let mut folder = own(&scratch.path().join("own"));
        let before = names(folder.staging.path());
        // A folder cannot be exchanged with one inside it.
        folder.target = folder.staging.path().join("inside");
        fs::create_dir(&folder.target).unwrap();
        assert!(!folder.exchange());
        assert_eq!(names(&folder.target), [""; 0]);
        fs::remove_dir(&folder.target).unwrap();
        assert_eq!(names(folder.staging.path()), before);
    }

    #[test]
    fn what_a_killed_run_left_is_removed_once_it_is_old() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("own");
        let left = [scratch.path().join(".rasaudit-a"), target.join(".rasaudit-b")];
        left.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
        // Another run may be using folders that have changed recently.
        drop(Folder::prepare(&target).unwrap());
        assert!(left.iter().all(|folder| folder.exists()));
        left.iter().for_each(|folder| make_old(folder));
        drop(Folder::prepare(&target).unwrap());
        assert!(!left.iter().any(|folder| folder.exists()));
    }

    /// A staging folder that is in use is locked, so its age does not matter.
    #[test]
    fn staging_folders_in_use_are_kept_and_others_are_removed_after_a_minute() {
        let scratch = tempfile::tempdir().unwrap();
        let target = scratch.path().join("own");
        let used = Folder::prepare(&target).unwrap();
        let used = used.staging.path();
        make_old(used);
        let left = scratch.path().join(".rasaudit-a");
        fs::create_dir(&left).unwrap();
        let ago = std::time::SystemTime::now() - Duration::from_secs(90);
        File::open(&left).unwrap().set_modified(ago).unwrap();
        drop(Folder::prepare(&target).unwrap());
        assert!(used.exists() && !left.exists());
    }

    #[test]
    fn all_files_come_to_their_places_or_none() {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path().join("own");
        Folder::publish(vec![own(&at)]).unwrap();
        assert_eq!(names(&at), ["a", "c"]);
        assert_eq!(text(&at.join("a")), "new");
        // If a file appears, changes or disappears after the folder was prepared, or a folder takes
        // the name of a new file, no file is replaced in any folder.
        let cases: [(&str, Meanwhile); 4] = [
            ("c", |at| fs::write(at.join("c"), "mine").unwrap()),
            ("b", |at| fs::write(at.join("b"), "mine").unwrap()),
            ("b", |at| fs::remove_file(at.join("b")).unwrap()),
            ("c", |at| fs::create_dir(at.join("c")).unwrap()),
        ];
        for (number, (name, meanwhile)) in cases.into_iter().enumerate() {
            let [at, reports] =
                ["own", "reports"].map(|n| scratch.path().join(format!("{n}{number}")));
            let folder = own(&at);
            meanwhile(&at);
            let before = names(&at);
            fs::create_dir(&reports).unwrap();
            fs::write(reports.join("r"), "old").unwrap();
            let mut others = Folder::prepare(&reports).unwrap();
            others.stage("r", |out| out.write_all(b"new")).unwrap();
            let error = Folder::publish(vec![others, folder]).unwrap_err();
            assert_eq!(error.path, at.join(name));
            assert!(
                error.to_string().ends_with("so run the audit again") || at.join(name).is_dir()
            );
            let after: Vec<String> = names(&at);
            let kept = |names: Vec<String>| -> Vec<String> {
                names.into_iter().filter(|n| !Folder::is_staging(n)).collect()
            };
            assert_eq!(kept(after), kept(before));
            assert_eq!(text(&at.join("a")), "old");
            assert_eq!(text(&reports.join("r")), "old");
            assert_eq!(names(&reports), ["r"]);
        }
    }

    #[test]
    fn urls_between_folders_are_relative_and_escaped() {
        let url = |from: &str, to: &str| relative_url(Path::new(from), Path::new(to));
        assert_eq!(url("/a/report", "/a/evidence").as_deref(), Some("./../evidence/"));
        assert_eq!(url("/a/report", "/a/report/b c").as_deref(), Some("./b%20c/"));
        assert_eq!(url("/a", "/a/javascript:x").as_deref(), Some("./javascript%3Ax/"));
        assert_eq!(url("/a/b", "/c/\"<").as_deref(), Some("./../../c/%22%3C/"));
        assert_eq!(url("/a/../b", "/c"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_behind_a_link_has_no_url() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fs::create_dir_all(at("elsewhere/deep")).unwrap();
        std::os::unix::fs::symlink(at("elsewhere/deep"), at("link")).unwrap();
        let prepared = |name: &str| Folder::prepare(&at(name)).unwrap();
        let evidence = prepared("evidence");
        assert!(prepared("report").url_to(&evidence).is_some());
        assert_eq!(prepared("link/report").url_to(&evidence), None);
    }

    #[test]
    fn a_detour_through_folders_that_are_not_there_is_no_place() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("old")).unwrap();
        assert!(Folder::prepare(&scratch.path().join("new/../old")).is_err());
        assert_eq!(names(scratch.path()), ["old"]);
    }
}
