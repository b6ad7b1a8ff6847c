//! Stores the state of a live audit on disk. The state contains merged evidence but no verdicts, so
//! that changed rules apply to all of the traffic.
//!
//! A file consists of a mark, a header with the records of the inputs and the timeline, the flows,
//! and the SHA-256 of everything before it. A new file is written next to the old one, which is
//! kept as the previous state. If a crash damages a file, only one window is therefore lost.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::flow::{FlowStore, MergedFlows, StateLayout};
use crate::model::{ActivityHistogram, Correction, InputRecord};
use crate::pipeline::Reading;

/// The first bytes of a file in the current layout. [`MARKS`] contains the marks of all layouts
/// that can be read. `fixtures/stored` contains one file of each layout.
const MARK: &[u8] = b"rasaudit state 6\n";
const MARKS: [(&[u8], StateLayout); 2] =
    [(b"rasaudit state 5\n", StateLayout::Fixed), (MARK, StateLayout::Named)];

/// The first bytes that the marks of all layouts have in common.
const ANY_MARK: &[u8] = b"rasaudit state ";

const CURRENT: &str = "evidence.state";
const PREVIOUS: &str = "evidence.state.previous";
const NEW: &str = "evidence.state.new";

/// The reason why a state cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {error}", .path.display())]
pub struct StateError {
    /// The file or folder.
    pub path: PathBuf,
    /// A description of the error.
    pub error: String,
}

/// A folder with the state of a live audit.
pub(super) struct StateFolder {
    folder: PathBuf,
    /// Whether the current file may become the previous one. It must not if it is damaged.
    is_current_complete: AtomicBool,
    /// The lock on the folder. It is held while the audit runs, because two audits would overwrite
    /// each other's state.
    _lock: File,
}

#[derive(Serialize, Deserialize)]
struct StateHeader {
    inputs: Vec<InputRecord>,
    timeline: ActivityHistogram,
}

/// The reason why a folder cannot be used for a state, or why an existing state cannot be read.
#[derive(Debug)]
pub(super) struct StateFolderError {
    pub path: PathBuf,
    pub error: io::Error,
}

impl StateFolder {
    /// Creates the folder if necessary, and locks it for this process.
    pub fn open(folder: &Path) -> Result<Self, StateFolderError> {
        let failed = |error| StateFolderError { path: folder.to_owned(), error };
        fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => failed(io::Error::other(
                "another live audit keeps its state in this folder; use another folder",
            )),
            TryLockError::Error(error) => failed(io::Error::new(
                error.kind(),
                format!(
                    "the folder cannot be locked ({error}); use a folder on another file system"
                ),
            )),
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            is_current_complete: AtomicBool::new(true),
            _lock: lock,
        })
    }

    /// Returns the state in the new file or, if that is missing or damaged, in the current or the
    /// previous one; `None` if none is complete. A complete new file becomes the current one. Also
    /// returns the errors of the damaged files that were tried before, which were renamed to
    /// `*.broken`. Returns an error if a file cannot be read but may be complete, because an audit
    /// that starts without it would overwrite it.
    pub fn load(
        &self,
        store: impl Fn() -> FlowStore,
    ) -> Result<(Option<Reading>, Vec<StateError>), StateFolderError> {
        let mut broken = Vec::new();
        // If a crash prevented a file that was written completely from being renamed, it is newer
        // than the current one.
        for name in [NEW, CURRENT, PREVIOUS] {
            let path = self.folder.join(name);
            match read(&path, store()) {
                Ok(found) => {
                    if name == NEW {
                        // Otherwise, the next state would be written over the only complete one. If
                        // renaming fails, it also fails when that state is saved.
                        let _ = fs::rename(&path, self.folder.join(CURRENT));
                    }
                    return Ok((Some(found), broken));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.is_current_complete.fetch_and(name != CURRENT, Ordering::Relaxed);
                    let _ = fs::rename(&path, self.free_name(&format!("{name}.broken")));
                    broken.push(StateError { path, error: error.to_string() });
                }
                Err(error) => {
                    let what = match error.kind() {
                        io::ErrorKind::Unsupported => {
                            format!("{error}, or use another folder to start without a state")
                        }
                        _ => format!(
                            "{error}; make it readable, or move it away to start without a state"
                        ),
                    };
                    return Err(StateFolderError {
                        path,
                        error: io::Error::new(error.kind(), what),
                    });
                }
            }
        }
        Ok((None, broken))
    }

    /// Returns an unused path in the folder: this name or, if it is taken, the name with a number.
    fn free_name(&self, name: &str) -> PathBuf {
        let numbered = (2..1000).map(|number| format!("{name}.{number}"));
        let mut paths = [name.to_owned()].into_iter().chain(numbered).map(|n| self.folder.join(n));
        paths.find(|path| !path.exists()).unwrap_or_else(|| self.folder.join(name))
    }

    /// Writes a state as the current one, and keeps the old one as the previous state.
    pub fn save(&self, all: &Reading) -> Result<(), StateError> {
        let new = self.folder.join(NEW);
        let failed = |path: &Path, error: io::Error| StateError {
            path: path.to_owned(),
            error: error.to_string(),
        };
        write(&new, all).map_err(|error| {
            let _ = fs::remove_file(&new);
            failed(&new, error)
        })?;
        let current = self.folder.join(CURRENT);
        let previous = self.folder.join(PREVIOUS);
        // A damaged current file must not replace a complete previous one.
        if self.is_current_complete.swap(true, Ordering::Relaxed) {
            match fs::rename(&current, &previous) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&previous, error));
                }
                _ => {}
            }
        }
        fs::rename(&new, &current).map_err(|error| failed(&current, error))?;
        // Syncing the folder makes the renames durable.
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| failed(&self.folder, error))
    }
}

/// A writer that hashes all data passing through it.
struct HashingStream<T> {
    inner: T,
    digest: Sha256,
}

impl<W: Write> Write for HashingStream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn write(path: &Path, all: &Reading) -> io::Result<()> {
    let file = BufWriter::new(File::create(path)?);
    let mut out = HashingStream { inner: file, digest: Sha256::new() };
    out.write_all(MARK)?;
    let header = StateHeader { inputs: all.inputs.clone(), timeline: all.timeline.clone() };
    let header = postcard::to_stdvec(&header).map_err(io::Error::other)?;
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    all.flows.save(&mut out)?;
    let HashingStream { mut inner, digest } = out;
    inner.write_all(&digest.finalize())?;
    inner.flush()?;
    inner.get_ref().sync_all()
}

fn read(path: &Path, store: FlowStore) -> io::Result<Reading> {
    let incomplete = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the file is not a complete state: {what}"),
        )
    };
    let length = fs::metadata(path)?.len();
    let digest_length = Sha256::output_size() as u64;
    let Some(content) = length.checked_sub(digest_length) else {
        return Err(incomplete("it is too short"));
    };
    // The checksum is verified first, so that damaged data is never used.
    let mut file = BufReader::new(File::open(path)?);
    let mut hashed = HashingStream { inner: io::sink(), digest: Sha256::new() };
    io::copy(&mut (&mut file).take(content), &mut hashed)?;
    let mut stored_digest = Vec::new();
    file.read_to_end(&mut stored_digest)?;
    if *hashed.digest.finalize() != *stored_digest {
        return Err(incomplete("its checksum is wrong"));
    }
    let mut file = BufReader::new(File::open(path)?).take(content);
    let mut mark = [0; MARK.len()];
    file.read_exact(&mut mark)?;
    let Some((_, layout)) = MARKS.iter().find(|(known, _)| mark == **known) else {
        return Err(if mark.starts_with(ANY_MARK) {
            io::Error::new(
                io::ErrorKind::Unsupported,
                "the file was written by another version of rasaudit, whose layout this version cannot read; use that version",
            )
        } else {
            incomplete("it was not written by rasaudit")
        });
    };
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut header = Vec::new();
    (&mut file).take(u64::from_le_bytes(length)).read_to_end(&mut header)?;
    let StateHeader { inputs, timeline } =
        postcard::from_bytes(&header).map_err(io::Error::other)?;
    let flows = MergedFlows::restore(store, *layout, &mut file)?;
    // The frames cannot be read a second time, so duplicates cannot be removed.
    Ok(Reading::new(inputs, timeline, flows, Correction::Impossible))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{EvidenceLimit, HashSeed, Retention};
    use crate::pipeline::{Plan, Progress, Request};

    /// Returns the reading of a small capture.
    fn reading() -> Reading {
        let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/services/rpc.pcap");
        let captures = vec![PathBuf::from(capture)];
        let plan = Plan::new(Request { captures, max_memory: 1 << 30, ..Request::default() });
        Reading::of(&plan.unwrap(), &Progress::default()).unwrap()
    }

    #[test]
    fn a_state_of_each_version_is_read() {
        let scratch = tempfile::tempdir().unwrap();
        let store = || FlowStore::new(&HashSeed::new(), scratch.path().to_owned());
        let stored = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/stored"));
        let own = reading();
        // The file of each layout is written once and then kept.
        let current = stored.join("evidence-6.state");
        if std::env::var_os("UPDATE_GOLDEN").is_some() && !current.exists() {
            write(&current, &own).unwrap();
        }
        let states = fs::read_dir(stored).unwrap().flatten().map(|entry| entry.path());
        let states: Vec<PathBuf> =
            states.filter(|path| path.extension().is_some_and(|e| e == "state")).collect();
        assert!(states.contains(&current));
        for path in states {
            let again = read(&path, store()).unwrap();
            assert_eq!(again.account.frames, own.account.frames, "{}", path.display());
            assert_eq!(again.flows.estimated_conversations(), own.flows.estimated_conversations());
        }
    }

    #[test]
    fn what_was_lost_and_dropped_stays_known() {
        let scratch = tempfile::tempdir().unwrap();
        let store = || FlowStore::new(&HashSeed::new(), scratch.path().to_owned());
        let state = StateFolder::open(scratch.path()).unwrap();
        let mut own = reading();
        own.flows.side.note_loss(0, 1, 0.5);
        let dropped = own.flows.keep_within(&EvidenceLimit { most: 0, is_host: &|_| true });
        assert!(dropped > 0);
        state.save(&own).unwrap();
        let found = state.load(store).ok().and_then(|(found, _)| found).unwrap();
        assert_eq!(found.loss_periods().greatest_in(0, 1), 0.5);
        assert!(own.flows.side.trimmed().eq(found.flows.side.trimmed()));
        assert!(own.flows.side.trimmed().next().is_some());
    }

    #[test]
    fn a_state_of_another_version_is_not_thrown_aside() {
        let scratch = tempfile::tempdir().unwrap();
        let store = || FlowStore::new(&HashSeed::new(), scratch.path().to_owned());
        let state = StateFolder::open(scratch.path()).unwrap();
        state.save(&reading()).unwrap();
        let current = scratch.path().join(CURRENT);
        let mut bytes = fs::read(&current).unwrap();
        bytes.truncate(bytes.len() - Sha256::output_size());
        bytes[ANY_MARK.len()] = b'9';
        let digest = Sha256::digest(&bytes);
        fs::write(&current, [&bytes[..], &digest].concat()).unwrap();
        let Err(refused) = state.load(store) else { panic!("it was read") };
        assert_eq!(refused.path, current);
        assert!(refused.error.to_string().contains("another version of rasaudit"));
        assert!(current.exists());
    }

    #[test]
    fn a_state_that_was_written_but_not_renamed_is_the_newest() {
        let scratch = tempfile::tempdir().unwrap();
        let store = || FlowStore::new(&HashSeed::new(), scratch.path().to_owned());
        let state = StateFolder::open(scratch.path()).unwrap();
        let place = |name: &str| scratch.path().join(name);
        let older = Reading::new(
            Vec::new(),
            ActivityHistogram::default(),
            store().finish(&Retention::default(), 1, &EvidenceLimit::NONE).unwrap(),
            Correction::Impossible,
        );
        let newer = reading();
        state.save(&older).unwrap();
        write(&place(NEW), &newer).unwrap();
        for _ in 0..2 {
            let (found, broken) = state.load(store).ok().unwrap();
            assert_eq!(found.unwrap().account.frames, newer.account.frames);
            assert!(broken.is_empty() && !place(NEW).exists());
        }
        // If the crash happened while the file was written, the current state is used.
        fs::write(place(NEW), "torn").unwrap();
        let (found, broken) = state.load(store).ok().unwrap();
        assert_eq!(found.unwrap().account.frames, newer.account.frames);
        assert_eq!(broken.len(), 1);
        state.save(&older).unwrap();
        assert!(place(PREVIOUS).exists());
    }

    #[test]
    fn what_is_torn_is_kept_beside_and_what_cannot_be_read_is_no_new_beginning() {
        let scratch = tempfile::tempdir().unwrap();
        let store = || FlowStore::new(&HashSeed::new(), scratch.path().to_owned());
        let state = StateFolder::open(scratch.path()).unwrap();
        let current = scratch.path().join(CURRENT);
        fs::write(&current, "torn").unwrap();
        let (found, broken) = state.load(store).ok().unwrap();
        assert!(found.is_none() && broken.len() == 1, "{broken:?}");
        fs::write(&current, "torn again").unwrap();
        state.load(store).ok().unwrap();
        let kept = |name: &str| fs::read_to_string(scratch.path().join(name)).unwrap();
        assert_eq!(kept("evidence.state.broken"), "torn");
        assert_eq!(kept("evidence.state.broken.2"), "torn again");
        // The state may be complete, so nothing may overwrite it.
        fs::create_dir(&current).unwrap();
        assert!(state.load(store).is_err_and(|no| no.path == current));
    }
}
