//! Records the frames of a live audit in rotated pcapng files.
//!
//! A separate thread writes the files. Capture threads copy their frames into a queue of limited
//! size. If the disk does not keep up, frames are missing from the files, but never from the audit.

use std::borrow::Cow;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;

use crate::capture::Batch;
use crate::model::Nanos;
use crate::pipeline::lock;
use crate::report::{FolderError, folder_of, pcapng};
use pcapng::plain;

/// The maximum number of bytes of frames that wait to be written.
const MAX_QUEUED_BYTES: usize = 32 << 20;

/// The maximum number of batches that wait to be written.
const MAX_QUEUED_BATCHES: usize = 4096;

/// The maximum time to wait at the end of the audit: once for space in the queue, and once for the
/// last frames to be written.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);

/// The size of an Enhanced Packet Block without its frame, in bytes.
const BLOCK: u64 = 32;

/// Size of the write buffer in bytes.
const BUFFER: usize = 1 << 20;

/// An interface whose frames are recorded.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    /// The name of the interface.
    pub name: String,
    /// The link type of its frames (number in the LINKTYPE_ registry).
    pub link: u16,
    /// The maximum number of bytes that are kept of each frame.
    pub snaplen: u32,
}

/// Frames that wait to be written.
struct QueuedFrames {
    interface: usize,
    /// Time, length on the wire in bytes, and position in `data` of each frame.
    frames: Vec<(Nanos, u32, Range<usize>)>,
    data: Vec<u8>,
}

impl QueuedFrames {
    /// Copies the frames of a batch.
    fn of(interface: usize, batch: &Batch, bytes: usize) -> Self {
        let mut data = Vec::with_capacity(bytes);
        let mut frames = Vec::with_capacity(batch.frames.len());
        for frame in &batch.frames {
            let start = data.len();
            data.extend_from_slice(batch.data(frame));
            frames.push((frame.time, frame.wire_len, start..data.len()));
        }
        Self { interface, frames, data }
    }
}

/// A request to the recorder thread.
enum QueueItem {
    Write(QueuedFrames),
    /// A request to write all queued frames and end the thread.
    Finish,
}

/// The data that the recorder thread shares with the other threads.
#[derive(Default)]
struct RecorderState {
    queued_bytes: AtomicUsize,
    queued_frames: AtomicU64,
    /// The number of frames that were found to be missing from the files since the last window
    /// ended.
    missing: AtomicU64,
    /// Set to begin a new file after an error.
    retry: AtomicBool,
    /// The last error, until it is reported.
    error: Mutex<Option<io::Error>>,
}

impl RecorderState {
    fn count_missing(&self, frames: u64) {
        self.missing.fetch_add(frames, Ordering::Relaxed);
    }
}

/// The thread that writes the files, and the queue to it.
pub(super) struct RecorderThread {
    queue: Sender<QueueItem>,
    state: Arc<RecorderState>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl RecorderThread {
    /// Starts the recorder thread, which writes to `files`.
    pub fn start(mut files: RotatedFiles) -> Self {
        let (queue, waiting) = bounded(MAX_QUEUED_BATCHES);
        let (end, ended) = bounded::<()>(0);
        let state = Arc::new(RecorderState::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            write_queue(&mut files, &waiting, &shared);
            drop(end);
        });
        Self { queue, state, ended }
    }

    /// Queues the frames of a batch without waiting. If the queue is full, discards the frames and
    /// counts them as missing from the files.
    pub fn record(&self, interface: usize, batch: &Batch) {
        let state = &*self.state;
        let bytes = batch.frames.iter().map(|frame| frame.cap_len as usize).sum();
        let frames = batch.frames.len() as u64;
        if state.queued_bytes.load(Ordering::Relaxed) + bytes > MAX_QUEUED_BYTES {
            return state.count_missing(frames);
        }
        let request = QueueItem::Write(QueuedFrames::of(interface, batch, bytes));
        state.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        state.queued_frames.fetch_add(frames, Ordering::Relaxed);
        if self.queue.try_send(request).is_err() {
            state.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            state.queued_frames.fetch_sub(frames, Ordering::Relaxed);
            state.count_missing(frames);
        }
    }

    /// Returns the last error, unless it has been returned before.
    pub fn take_error(&self) -> Option<io::Error> {
        lock(&self.state.error).take()
    }

    /// Returns the number of frames that were found to be missing from the files since the last
    /// call, and allows writing again after an error. If frames that are still queued cannot be
    /// written later, the next window counts them.
    pub fn end_window(&self) -> u64 {
        self.state.retry.store(true, Ordering::Relaxed);
        self.state.missing.swap(0, Ordering::Relaxed)
    }

    /// Asks the thread to write what is queued and to end, and waits for it for a limited time.
    /// Returns the number of frames that were found to be missing from the files since the last
    /// call of [`RecorderThread::end_window`]. After a timeout, this includes all frames that are
    /// still queued.
    pub fn finish(&self) -> u64 {
        let is_asked = self.queue.send_timeout(QueueItem::Finish, FINISH_TIMEOUT).is_ok();
        let timed_out = self.ended.recv_timeout(FINISH_TIMEOUT).is_err_and(|e| e.is_timeout());
        if !is_asked || timed_out {
            self.state.count_missing(self.state.queued_frames.load(Ordering::Relaxed));
            let error = io::Error::new(io::ErrorKind::TimedOut, "the disk does not respond");
            *lock(&self.state.error) = Some(error);
        }
        self.state.missing.swap(0, Ordering::Relaxed)
    }
}

/// Writes the queued frames until the thread is asked to finish.
fn write_queue(files: &mut RotatedFiles, waiting: &Receiver<QueueItem>, state: &RecorderState) {
    for request in waiting {
        let QueueItem::Write(queued) = request else { break };
        if state.retry.swap(false, Ordering::Relaxed) {
            files.recover();
        }
        if let Err((missing, error)) = files.record(&queued) {
            state.count_missing(missing);
            if let Some(error) = error {
                *lock(&state.error) = Some(error);
            }
        }
        state.queued_bytes.fetch_sub(queued.data.len(), Ordering::Relaxed);
        state.queued_frames.fetch_sub(queued.frames.len() as u64, Ordering::Relaxed);
    }
    if let Err(error) = files.finish() {
        *lock(&state.error) = Some(error);
    }
}

/// Writes frames to rotated files. For `farm.pcapng`, the first file is `farm.000001.pcapng`,
/// unless there are files of an earlier run.
pub(super) struct RotatedFiles {
    folder: PathBuf,
    stem: String,
    extension: String,
    interfaces: Vec<Recorded>,
    /// The size in bytes after which the next file begins.
    size: u64,
    /// The number of files to keep.
    files: usize,
    number: u64,
    open: Option<(PcapNgWriter<BufWriter<File>>, u64)>,
    /// Whether writing failed. It is not attempted again before [`RotatedFiles::recover`].
    is_broken: bool,
}

impl RotatedFiles {
    /// Begins the first file. Its number follows those of existing files.
    pub fn new(
        path: &Path,
        size: u64,
        files: usize,
        interfaces: Vec<Recorded>,
    ) -> Result<Self, FolderError> {
        let text_or = |part: Option<&std::ffi::OsStr>, default: &str| {
            part.map_or_else(|| default.to_owned(), |text| text.to_string_lossy().into_owned())
        };
        let mut recorder = Self {
            folder: folder_of(path),
            stem: text_or(path.file_stem(), "capture"),
            extension: text_or(path.extension(), "pcapng"),
            interfaces,
            size,
            files,
            number: 0,
            open: None,
            is_broken: false,
        };
        let failed = |error| FolderError { path: path.to_owned(), error };
        recorder.number = recorder.existing_numbers().map_err(failed)?.last().copied().unwrap_or(0);
        if is_locked(&recorder.path_of(recorder.number)) {
            let what = "another live audit writes these files; use another name for --write";
            return Err(failed(io::Error::other(what)));
        }
        recorder.begin().map_err(failed)?;
        Ok(recorder)
    }

    fn path_of(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}.{number:06}.{}", self.stem, self.extension))
    }

    /// Returns the numbers of the existing files, in ascending order.
    fn existing_numbers(&self) -> io::Result<Vec<u64>> {
        let number = |name: &str| {
            let name = name.strip_prefix(&self.stem)?.strip_prefix('.')?;
            let digits = name.strip_suffix(&self.extension)?.strip_suffix('.')?;
            (digits.len() >= 6).then(|| digits.parse().ok()).flatten()
        };
        let mut numbers: Vec<u64> = fs::read_dir(&self.folder)?
            .flatten()
            .filter_map(|entry| number(entry.file_name().to_str()?))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Begins the next file, and removes the oldest files if there are too many.
    fn begin(&mut self) -> io::Result<()> {
        self.finish()?;
        self.number += 1;
        let file = File::create_new(self.path_of(self.number))?;
        // Another live audit finds out by the lock that the files are in use. Without the lock, for
        // example on a file system that has none, the file is still valid.
        let _ = file.try_lock();
        let mut writer = pcapng::begin(BufWriter::with_capacity(BUFFER, file), None)?;
        for Recorded { name, link, snaplen } in &self.interfaces {
            pcapng::add_interface(&mut writer, *link, *snaplen, Some(name))?;
        }
        self.open = Some((writer, 0));
        let existing = self.existing_numbers()?;
        for old in &existing[..existing.len().saturating_sub(self.files)] {
            fs::remove_file(self.path_of(*old))?;
        }
        Ok(())
    }

    /// Writes frames. After an error, nothing is written until [`RotatedFiles::recover`] is called.
    ///
    /// # Errors
    ///
    /// Returns the number of frames that were not written and, unless it was returned before, the
    /// error.
    fn record(&mut self, queued: &QueuedFrames) -> Result<(), (u64, Option<io::Error>)> {
        let all = queued.frames.len() as u64;
        if self.is_broken {
            return Err((all, None));
        }
        let mut written = 0;
        let result = self.write_frames(queued, &mut written);
        self.is_broken = result.is_err();
        result.map_err(|error| (all - written, Some(error)))
    }

    fn write_frames(&mut self, queued: &QueuedFrames, count: &mut u64) -> io::Result<()> {
        for (time, wire_len, place) in &queued.frames {
            if self.open.as_ref().is_none_or(|(_, written)| *written >= self.size) {
                self.begin()?;
            }
            let Some((writer, written)) = &mut self.open else { continue };
            let data = &queued.data[place.clone()];
            writer
                .write_pcapng_block(EnhancedPacketBlock {
                    interface_id: queued.interface as u32,
                    timestamp: Duration::from_nanos(u64::try_from(*time).unwrap_or_default()),
                    original_len: *wire_len,
                    data: Cow::Borrowed(data),
                    options: Vec::new(),
                })
                .map_err(plain)?;
            *written += BLOCK + (data.len() as u64).next_multiple_of(4);
            *count += 1;
        }
        Ok(())
    }

    /// Ends the current file and writes its buffered data.
    fn finish(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some((writer, _)) => writer.into_inner().flush(),
            None => Ok(()),
        }
    }

    /// Allows writing again after an error, in a new file.
    fn recover(&mut self) {
        if std::mem::take(&mut self.is_broken) {
            self.open = None;
        }
    }
}

/// Returns whether another program holds a lock on a file.
fn is_locked(path: &Path) -> bool {
    let lock = File::open(path).map(|file| file.try_lock());
    matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{CaptureInput, CaptureReader, InputHash};

    /// Returns the first batch of a fixture.
    fn batch() -> Batch {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/farm-faults/span.pcap");
        let input = CaptureInput {
            path: Some(path.into()),
            name: path.to_owned(),
            size: 0,
            found: false,
            special: false,
            same_as: None,
            content: None,
            content_size: None,
        };
        let mut reader = CaptureReader::open(&input, InputHash::Skip).expect("a capture");
        let mut batch = Batch::default();
        reader.next(&mut batch).expect("frames");
        batch
    }

    fn files(folder: &Path) -> RotatedFiles {
        let interface = Recorded { name: "span".to_owned(), link: 1, snaplen: 65_535 };
        RotatedFiles::new(&folder.join("farm.pcapng"), 1 << 30, 10, vec![interface])
            .expect("writable")
    }

    #[test]
    fn only_one_audit_writes_files_of_one_name() {
        let scratch = tempfile::tempdir().expect("a folder");
        let of_name = |name: &str| {
            let interface = Recorded { name: "span".to_owned(), link: 1, snaplen: 65_535 };
            RotatedFiles::new(&scratch.path().join(name), 1 << 30, 10, vec![interface])
        };
        let first = of_name("farm.pcapng").expect("writable");
        let error = of_name("farm.pcapng").err().expect("an error").error.to_string();
        assert!(error.starts_with("another live audit"), "{error}");
        assert!(of_name("other.pcapng").is_ok());
        // After the first audit has ended, its files are continued.
        drop(first);
        assert_eq!(of_name("farm.pcapng").expect("writable").number, 2);
    }

    #[test]
    fn a_disk_that_does_not_keep_up_costs_frames_in_the_files_and_no_time() {
        let batch = batch();
        let frames = batch.frames.len() as u64;
        let bytes: usize = batch.frames.iter().map(|frame| frame.cap_len as usize).sum();
        // No thread receives from this queue, so it fills up.
        let (queue, waiting) = bounded(MAX_QUEUED_BATCHES);
        let (end, ended) = bounded::<()>(0);
        let state = Arc::new(RecorderState::default());
        let recorder = RecorderThread { queue, state: Arc::clone(&state), ended };
        let fitting = (MAX_QUEUED_BYTES / bytes).min(MAX_QUEUED_BATCHES) as u64;
        for _ in 0..fitting + 3 {
            recorder.record(0, &batch);
        }
        assert!(state.queued_bytes.load(Ordering::Relaxed) <= MAX_QUEUED_BYTES);
        assert_eq!(recorder.end_window(), 3 * frames);
        assert_eq!(recorder.end_window(), 0);
        // The queued frames are written once the disk keeps up again.
        let scratch = tempfile::tempdir().expect("a folder");
        let mut files = files(scratch.path());
        let shared = Arc::clone(&state);
        drop(recorder.queue);
        write_queue(&mut files, &waiting, &shared);
        drop(end);
        assert_eq!(state.queued_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(state.missing.load(Ordering::Relaxed), 0);
        let written = scratch.path().join("farm.000001.pcapng").metadata().expect("a file").len();
        assert!(written as usize > bytes * fitting as usize, "{written}");
    }

    #[test]
    fn frames_that_cannot_be_written_are_counted_and_a_new_file_follows() {
        let scratch = tempfile::tempdir().expect("a folder");
        let batch = batch();
        let frames = batch.frames.len() as u64;
        let mut files = files(scratch.path());
        files.folder = scratch.path().join("later");
        files.open = None;
        let recorder = RecorderThread::start(files);
        recorder.record(0, &batch);
        let waited = std::time::Instant::now();
        while recorder.state.queued_frames.load(Ordering::Relaxed) > 0 {
            assert!(waited.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(5));
        }
        assert!(recorder.take_error().is_some());
        assert!(recorder.take_error().is_none());
        assert_eq!(recorder.end_window(), frames);
        fs::create_dir(scratch.path().join("later")).expect("a folder");
        recorder.record(0, &batch);
        assert_eq!(recorder.finish(), 0);
        assert!(scratch.path().join("later/farm.000003.pcapng").exists());
    }
}
