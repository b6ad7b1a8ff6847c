//! Files and streams of rows. A file is written under a temporary name and renamed when it is
//! complete, so readers of a store never see an incomplete file.

use std::cell::Cell;
use std::collections::HashSet;
use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowFilter,
};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue, ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use tempfile::NamedTempFile;

use super::checksums::{self, FileChecksums, RENEW, damaged, used_columns};
use super::columns::{
    BatchBuilder, BatchRows, HeadContent, InputFacts, NEEDED, WINDOW, batch_rows, missing_column,
    schema, text_is_one_of,
};
use super::row::{INPUT_BUCKET, StoredKind, StoredRef};
use super::{StoreError, output};
use crate::capture::capture_kind;
use crate::flow::{RowFacts, RowKind};
use crate::model::TEMPORARY_PREFIX;
use crate::pipeline::{UnfinishedFiles, is_leftover};

/// The extension of the files of a store.
const EXTENSION: &str = "parquet";

/// The end of the names of files that are being written.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// The first bytes of a Parquet file.
pub(super) const MAGIC: &[u8] = b"PAR1";

/// The number of digits of the shortest hash in the name of a file of rows.
const SHORTEST_HASH: usize = 8;

/// The start of the name of the program that wrote a file. The version follows.
const CREATOR: &str = "rasaudit ";

/// The memory that reading a column takes at most, in bytes, unless a file has unusually large
/// pages: a page, compressed and decompressed.
const COLUMN_MEMORY: i64 = 2 << 20;

/// The maximum number of rows of a row group. Row groups are read in parallel.
const GROUP_ROWS: usize = 1 << 17;

/// Where rows come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RowOrigin {
    /// A folder of Parquet files, or one such file.
    Store(PathBuf),
    /// An Arrow stream on standard input.
    StandardInput,
}

/// Where rows go to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// A folder of Parquet files.
    Store(PathBuf),
    /// An Arrow stream on standard output.
    StandardOutput,
}

impl Destination {
    /// Returns the destination that an argument names: `-` is standard output.
    pub fn of(argument: &Path) -> Self {
        if argument.as_os_str() == "-" {
            Self::StandardOutput
        } else {
            Self::Store(argument.to_owned())
        }
    }
}

impl RowOrigin {
    /// Returns the origin that an argument names: `-` is standard input.
    pub fn of(argument: &Path) -> Self {
        if argument.as_os_str() == "-" {
            Self::StandardInput
        } else {
            Self::Store(argument.to_owned())
        }
    }

    /// Returns the path of a store; `None` for standard input.
    pub(super) fn store(&self) -> Option<PathBuf> {
        match self {
            Self::Store(path) => Some(path.clone()),
            Self::StandardInput => None,
        }
    }
}

/// Checks that the folder of a store is not a file.
///
/// # Errors
///
/// Returns an error if the path is that of a file.
pub(super) fn check_destination(folder: &Path) -> Result<(), StoreError> {
    if folder.exists() && !folder.is_dir() {
        let what =
            "is a file, and rows are written to a folder; give the path of a folder with --to";
        return Err(StoreError::rows(folder.display().to_string(), what));
    }
    Ok(())
}

/// Returns the path of the file with this name, given without extension, in the folder of a store.
pub(super) fn row_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.{EXTENSION}"))
}

/// Returns the same files as [`row_files`]. A folder that does not exist yet contains none.
///
/// # Errors
///
/// Returns the same errors as [`row_files`].
pub(super) fn files_in_destination(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if folder.try_exists().is_ok_and(|exists| !exists) {
        return Ok(Vec::new());
    }
    row_files(folder)
}

/// Divides arguments into stores and other paths. A store is a folder with Parquet files, also in
/// subfolders, or one Parquet file.
pub fn find_stores(arguments: &[PathBuf]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    arguments.iter().cloned().partition(|path| is_store(path))
}

fn is_store(path: &Path) -> bool {
    if path.as_os_str() == "-" {
        return false;
    }
    if path.is_dir() {
        // If a subfolder cannot be read, opening the store reports it.
        let mut files = Vec::new();
        add_row_files(path, &mut files, &mut Vec::new());
        return !files.is_empty();
    }
    let mut start = [0; MAGIC.len()];
    path.is_file()
        && (has_own_name(path)
            || File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
                && start == MAGIC)
}

/// Returns whether the program gives such a name to a file of rows: the name ends with at least two
/// hashes. A damaged file with such a name contained rows.
fn has_own_name(path: &Path) -> bool {
    let is_hash = |part: &str| {
        part.len() >= SHORTEST_HASH && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    let hashes = stem.rsplit('-').take_while(|part| is_hash(part)).count();
    hashes >= 2 && path.extension().is_some_and(|own| own == EXTENSION)
}

/// Returns the uncompressed captures in the folder of a store and in its subfolders, sorted. An
/// audit of the store does not read them. Folders and files that cannot be read are skipped.
pub fn captures_in(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(store).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_capture = || {
            let mut start = [0; 4];
            let read = File::open(&path).and_then(|mut file| file.read_exact(&mut start));
            read.is_ok() && matches!(capture_kind(&start), Some("pcap" | "pcapng"))
        };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(captures_in(&path)),
            Ok(kind) if kind.is_file() && is_capture() => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

/// Returns the links to folders with rows in the folder of a store and in its subfolders, sorted.
/// Such links are not followed. Links to folders in one of the stores `read` are left out, because
/// their rows are read.
pub fn linked_folders_in(store: &Path, read: &[PathBuf]) -> Vec<PathBuf> {
    let is_read = |link: &Path| {
        let Ok(target) = link.canonicalize() else { return false };
        read.iter().flat_map(|store| store.canonicalize()).any(|store| target.starts_with(store))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(store).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(linked_folders_in(&path, read)),
            Ok(kind)
                if kind.is_symlink() && path.is_dir() && is_store(&path) && !is_read(&path) =>
            {
                found.push(path);
            }
            _ => {}
        }
    }
    found.sort();
    found
}

/// Returns the Parquet files in the folder of a store and in its subfolders, sorted. Skips other
/// files, and names that begin with `.` or `_`, which query engines create. If the store is one
/// file, returns its path.
///
/// # Errors
///
/// Returns all folders that cannot be read, because they may contain rows.
pub(super) fn row_files(store: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if store.is_file() {
        return Ok(vec![store.to_owned()]);
    }
    let (mut files, mut unread) = (Vec::new(), Vec::new());
    add_row_files(store, &mut files, &mut unread);
    files.sort();
    unread.sort_by(|(a, _), (b, _)| a.cmp(b));
    let reason = |(folder, error): (PathBuf, io::Error)| {
        let remedy =
            "and it may contain rows; allow reading it, or keep the rows in a folder without it";
        let reason = if folder == store {
            format!("cannot be read: {error}")
        } else {
            format!("cannot be read ({error}), {remedy}")
        };
        (folder.display().to_string(), reason)
    };
    if unread.is_empty() {
        Ok(files)
    } else {
        Err(StoreError::Rows(unread.into_iter().map(reason).collect()))
    }
}

/// Adds the Parquet files in a folder and in its subfolders to `files`, and the folders that cannot
/// be read to `unread`.
fn add_row_files(folder: &Path, files: &mut Vec<PathBuf>, unread: &mut Vec<(PathBuf, io::Error)>) {
    let mut subfolders = Vec::new();
    let mut list = || -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with(['.', '_']) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                subfolders.push(path);
            } else if path.extension().is_some_and(|own| own.eq_ignore_ascii_case(EXTENSION)) {
                files.push(path);
            }
        }
        Ok(())
    };
    if let Err(error) = list() {
        unread.push((folder.to_owned(), error));
    }
    subfolders.iter().for_each(|subfolder| add_row_files(subfolder, files, unread));
}

/// A Parquet file of rows.
#[derive(Clone, Debug)]
pub(super) struct RowFile {
    pub path: PathBuf,
    metadata: ArrowReaderMetadata,
    checksums: Option<FileChecksums>,
}

/// A part of a file that is read as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RowGroup {
    /// The index of the file.
    pub file: usize,
    /// The index of the row group in the file.
    group: usize,
}

thread_local! {
    /// Whether this thread runs code whose panics become errors.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of the Parquet reader and returns a panic as an error, without a message on standard
/// error. The reader may panic if a file is damaged.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                report(panic);
            }
        }));
    });
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(false);
    result.unwrap_or_else(|_| Err(damaged("it could not be decoded")))
}

/// Returns the reason why a file cannot be read as Parquet, with the remedy. `error` is the error
/// of the Parquet reader.
fn not_parquet(path: &Path, error: &str) -> String {
    let mut start = Vec::new();
    let read = File::open(path).map(|file| file.take(8).read_to_end(&mut start));
    match read {
        Ok(Ok(_)) if capture_kind(&start).is_some() => {
            "is a capture, not a store; collect its rows with rasaudit collect first".to_owned()
        }
        // A copy to a full disk, or a crash, often leaves a file of the right size without content.
        Ok(Ok(_)) if start.iter().all(|byte| *byte == 0) => {
            format!("is empty or begins with zeros, so its rows are missing; {RENEW}")
        }
        Ok(Ok(_))
            if start.starts_with(MAGIC) || MAGIC.starts_with(&start) || has_own_name(path) =>
        {
            format!("is damaged or not complete: {error}; {RENEW}")
        }
        _ => format!("is not a Parquet file, so it contains no rows; leave it out ({error})"),
    }
}

/// Returns the name of a compression that this build cannot decompress; `None` if a file uses only
/// others.
fn unreadable_compression(metadata: &ParquetMetaData) -> Option<&'static str> {
    let mut columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    columns.find_map(|column| match column.compression() {
        Compression::BROTLI(_) => Some("Brotli"),
        Compression::LZO => Some("LZO"),
        _ => None,
    })
}

impl RowFile {
    /// Opens the files of stores. A file is opened once, even if several paths lead to it.
    ///
    /// # Errors
    ///
    /// Returns all stores and files that cannot be read or contain no rows, each with the reason.
    pub fn open_all(stores: &[PathBuf]) -> Result<Vec<Self>, StoreError> {
        let mut files = Vec::new();
        let mut wrong = Vec::new();
        let mut known = HashSet::new();
        for store in stores {
            let name = |path: &Path| path.display().to_string();
            match row_files(store) {
                Ok(paths) if paths.is_empty() => {
                    let what =
                        "contains no Parquet files; give a folder to which rasaudit wrote rows";
                    wrong.push((name(store), what.to_owned()));
                }
                Ok(paths) => {
                    for path in paths {
                        if !known.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                            continue;
                        }
                        match Self::open(&path) {
                            Ok(file) => files.push(file),
                            Err(reason) => wrong.push((name(&path), reason)),
                        }
                    }
                }
                Err(StoreError::Rows(unread)) => wrong.extend(unread),
                Err(other) => return Err(other),
            }
        }
        if wrong.is_empty() { Ok(files) } else { Err(StoreError::Rows(wrong)) }
    }

    fn open(path: &Path) -> Result<Self, String> {
        guarded(|| {
            let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
            // The types are those of Parquet, not those of the engine that wrote the file.
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            let metadata = ArrowReaderMetadata::load(&file, options)
                .map_err(|error| not_parquet(path, &error.to_string()))?;
            if let Some(codec) = unreadable_compression(metadata.metadata()) {
                return Err(format!(
                    "is compressed with {codec}, which rasaudit cannot decompress; write it again with Zstandard, Snappy, gzip, LZ4 or without compression"
                ));
            }
            let schema = metadata.schema();
            match NEEDED.iter().find(|name| schema.field_with_name(name).is_err()) {
                Some(name) => Err(missing_column(name)),
                None => Ok(Self {
                    path: path.to_owned(),
                    checksums: FileChecksums::read(metadata.metadata())?,
                    metadata: metadata.clone(),
                }),
            }
        })
    }

    /// Returns the name of the file for messages.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns the note with this key; `None` if the file has none.
    pub fn note(&self, key: &str) -> Option<&str> {
        let notes = self.metadata.metadata().file_metadata().key_value_metadata();
        notes?.iter().find(|note| note.key == key)?.value.as_deref()
    }

    /// Returns the row groups of the file. `file` is the index of the file.
    pub fn groups(&self, file: usize) -> impl Iterator<Item = RowGroup> + use<> {
        let groups = self.metadata.metadata().num_row_groups();
        (0..groups).map(move |group| RowGroup { file, group })
    }

    /// Returns whether a row group may contain rows that are not evidence.
    pub fn may_have_inputs(&self, RowGroup { group, .. }: RowGroup) -> bool {
        let columns = self.metadata.metadata().row_group(group).columns();
        let bucket = columns.iter().find(|column| column.column_path().string() == "bucket");
        match bucket.and_then(|column| column.statistics()) {
            Some(Statistics::Int32(range)) => {
                range.max_opt().is_none_or(|max| *max >= i32::from(INPUT_BUCKET))
            }
            _ => true,
        }
    }

    /// Returns the number of rows of a row group to read in one batch.
    fn batch_rows(&self, group: usize) -> usize {
        let group = self.metadata.metadata().row_group(group);
        let bytes =
            used_columns(group).fold(0_i64, |sum, own| sum.saturating_add(own.uncompressed_size()));
        batch_rows(group.num_rows(), bytes)
    }

    /// Returns whether this program wrote the file, so that its rows are probably sorted.
    pub fn may_be_sorted(&self) -> bool {
        let by = self.metadata.metadata().file_metadata().created_by();
        by.is_some_and(|by| by.starts_with(CREATOR))
    }

    /// Returns the approximate memory that reading the file takes, in bytes, as its metadata shows.
    /// The rows of one batch count twice: they are in the batch and in the pages.
    pub fn read_memory(&self) -> usize {
        let group_memory = |group: &RowGroupMetaData| {
            let sizes = || used_columns(group).map(ColumnChunkMetaData::uncompressed_size);
            let bytes = sizes().fold(0, i64::saturating_add).max(0);
            let pages = sizes().map(|size| size.min(COLUMN_MEMORY)).fold(0, i64::saturating_add);
            let rows = batch_rows(group.num_rows(), bytes) as i64;
            let batch = (bytes / group.num_rows().max(1)).saturating_mul(rows);
            usize::try_from(batch.saturating_add(pages)).unwrap_or(usize::MAX)
        };
        self.metadata.metadata().row_groups().iter().map(group_memory).max().unwrap_or_default()
    }

    /// Opens a row group, and verifies its checksums if the file contains them.
    pub fn read(&self, RowGroup { group, .. }: RowGroup) -> Result<GroupReader, String> {
        guarded(|| {
            let mut file =
                File::open(&self.path).map_err(|error| format!("cannot be read: {error}"))?;
            if let Some(checksums) = &self.checksums {
                checksums.check(group, self.metadata.metadata().row_group(group), &mut file)?;
            }
            let columns = ProjectionMask::columns(
                self.metadata.metadata().file_metadata().schema_descr(),
                NEEDED.into_iter().chain([WINDOW]),
            );
            let reader =
                ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                    .with_row_groups(vec![group])
                    .with_projection(columns)
                    .with_batch_size(self.batch_rows(group))
                    .build();
            let first = self.metadata.metadata().row_groups()[..group]
                .iter()
                .map(|group| group.num_rows() as u64)
                .sum();
            Ok(GroupReader { reader: reader.map_err(|error| damage(&error))?, row: first })
        })
    }
}

impl RowFile {
    /// Passes the rows of some kinds in a row group to `take`. Of rows of other kinds, only the
    /// column `kind` is decoded. Checksums are not verified.
    ///
    /// # Errors
    ///
    /// Returns an error if the rows cannot be read or `take` rejects one.
    pub fn read_kinds(
        &self,
        RowGroup { group, .. }: RowGroup,
        kinds: &[RowKind],
        mut take: impl FnMut(StoredRef<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let columns = self.metadata.metadata().file_metadata().schema_descr();
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let kind = ProjectionMask::columns(columns, ["kind"]);
        let is_wanted = move |batch: RecordBatch| {
            let wanted = batch.columns().first().and_then(|kind| text_is_one_of(kind, &names));
            wanted.ok_or_else(|| ArrowError::SchemaError("column kind is not text".to_owned()))
        };
        let mut reader = guarded(|| {
            let file =
                File::open(&self.path).map_err(|error| format!("cannot be read: {error}"))?;
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
                .with_row_groups(vec![group])
                .with_projection(ProjectionMask::columns(
                    columns,
                    NEEDED.into_iter().chain([WINDOW]),
                ))
                .with_row_filter(RowFilter::new(vec![Box::new(ArrowPredicateFn::new(
                    kind, is_wanted,
                ))]))
                .with_batch_size(self.batch_rows(group))
                .build()
                .map_err(|error| damage(&error))
        })?;
        let mut row = 0;
        while let Some(batch) =
            guarded(|| reader.next().transpose().map_err(|error| damage(&error)))?
        {
            take_batch(&BatchRows::of(&batch)?, &mut row, |_| true, &mut take)?;
        }
        Ok(())
    }
}

/// The rows of a row group.
pub(super) struct GroupReader {
    reader: ParquetRecordBatchReader,
    /// The number of rows of the file that precede the next batch.
    row: u64,
}

fn damage(error: &dyn std::fmt::Display) -> String {
    damaged(&error.to_string())
}

impl GroupReader {
    /// Passes the wanted rows of the next batch to `take`. `wanted` gets whether a row is a row of
    /// evidence, and returns whether it is passed on. Returns false at the end.
    ///
    /// # Errors
    ///
    /// Returns an error if the batch cannot be read. Also returns an error, with the number of the
    /// row, if a row is not valid or `take` rejects it.
    pub fn next(
        &mut self,
        wanted: impl Fn(bool) -> bool,
        mut take: impl FnMut(StoredRef<'_>) -> Result<(), String>,
    ) -> Result<bool, String> {
        let Some(rows) = self.next_batch()? else { return Ok(false) };
        take_batch(&rows, &mut self.row, wanted, &mut take)?;
        Ok(true)
    }

    /// Returns the rows of the next batch; `None` at the end.
    ///
    /// # Errors
    ///
    /// Returns an error if the batch cannot be read.
    pub fn next_batch(&mut self) -> Result<Option<BatchRows>, String> {
        let reader = &mut self.reader;
        let batch = guarded(|| reader.next().transpose().map_err(|error| damage(&error)))?;
        batch.map(|batch| BatchRows::of(&batch)).transpose()
    }
}

/// Passes the wanted rows of a batch to `take`. `before` is the number of rows before the batch; it
/// is increased by the number of rows in the batch.
pub(super) fn take_batch(
    rows: &BatchRows,
    before: &mut u64,
    wanted: impl Fn(bool) -> bool,
    take: &mut impl FnMut(StoredRef<'_>) -> Result<(), String>,
) -> Result<(), String> {
    for number in 0..rows.len() {
        *before += 1;
        if wanted(rows.is_evidence(number)) {
            let row = rows.get(number).map(|mut row| {
                row.read.row = *before;
                row
            });
            let taken = row.and_then(&mut *take);
            taken.map_err(|reason| format!("(row {before}) {reason}"))?;
        }
    }
    Ok(())
}

/// Folders that were created for a file. Unless the file is kept, those that are empty are removed
/// again.
#[derive(Default)]
struct MadeFolders {
    /// The folders, each before its parent.
    folders: Vec<PathBuf>,
    /// The file, as soon as it exists.
    file: Option<PathBuf>,
    /// Lists the file and the folders until they are removed or kept.
    unfinished: UnfinishedFiles,
}

impl MadeFolders {
    /// Creates a folder and its parents.
    fn create(folder: &Path, unfinished: &UnfinishedFiles) -> io::Result<Self> {
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing = folder.ancestors().take_while(is_missing).map(Path::to_owned).collect();
        let made = Self { folders: missing, file: None, unfinished: unfinished.clone() };
        fs::create_dir_all(folder)?;
        Ok(made)
    }

    /// Lists the file, which has just been created in the folder.
    fn list(&mut self, file: &Path) {
        self.file = Some(file.to_owned());
        self.unfinished.add([file.to_owned()].into_iter().chain(self.folders.iter().cloned()));
    }

    fn keep(&mut self) {
        self.forget();
        self.folders.clear();
    }

    fn forget(&self) {
        self.file.iter().chain(&self.folders).for_each(|path| self.unfinished.forget(path));
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        self.forget();
        // `remove_dir` removes only empty folders: others may have added files meanwhile.
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Deletes the files in a folder that a killed run left there.
pub(super) fn delete_leftovers(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_of_store = entry.file_name().to_string_lossy().ends_with(TEMPORARY_SUFFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_of_store && is_leftover(&entry) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the system error that caused an error of the Parquet or the Arrow writer, because the
/// words that the writers add would not help users. Without such a cause, returns the error itself.
fn system_error(error: impl Error + Send + Sync + 'static) -> io::Error {
    let mut system = None;
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        system = inner.downcast_ref::<io::Error>().or(system);
        cause = inner.source();
    }
    match system.map(|system| (system.kind(), system.raw_os_error())) {
        Some((io::ErrorKind::BrokenPipe, _)) => io::Error::new(
            io::ErrorKind::BrokenPipe,
            "the program that reads the rows closed its input before their end",
        ),
        Some((_, Some(code))) => io::Error::from_raw_os_error(code),
        // If the temporary file added its path, the code of the system is lost, and only the kind
        // remains.
        Some((kind, None)) if kind != io::ErrorKind::Other => kind.into(),
        _ => io::Error::other(error),
    }
}

/// The size of a page in bytes before compression.
const PAGE_BYTES: usize = 1 << 18;

/// The columns whose lowest and highest values are stored, so that a reader can skip row groups.
/// The other columns have about the same values in every row group.
const RANGES: [&str; 4] = ["bucket", WINDOW, "first_ns", "last_ns"];

/// The columns that compression makes hardly any smaller.
const RANDOM: [&str; 11] = [
    "a_port",
    "b_port",
    "a_packets",
    "b_packets",
    "a_bytes",
    "b_bytes",
    "a_payload",
    "b_payload",
    "first_ns",
    "last_ns",
    "accounted",
];

/// Returns how a file is written.
fn properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        // Pages that fit into the cache of the processor take the least time.
        .set_data_page_row_count_limit(GROUP_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_created_by(format!("{CREATOR}{}", env!("CARGO_PKG_VERSION")));
    for field in schema().fields() {
        // A dictionary takes much more time than these encodings, and saves little or nothing.
        let encoding = match field.data_type() {
            DataType::Int32 | DataType::Int64 => Encoding::DELTA_BINARY_PACKED,
            DataType::Binary => Encoding::DELTA_LENGTH_BYTE_ARRAY,
            _ => continue,
        };
        let column = ColumnPath::from(field.name().as_str());
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, encoding);
    }
    for column in RANGES.map(ColumnPath::from) {
        properties = properties.set_column_statistics_enabled(column, EnabledStatistics::Chunk);
    }
    for column in RANDOM.map(ColumnPath::from) {
        properties = properties.set_column_compression(column, Compression::UNCOMPRESSED);
    }
    properties.build()
}

/// Returns whether standard output was closed when the program started. The standard library then
/// opens the null device for reading and writing. A user who discards the output on purpose opens
/// it only for writing.
#[cfg(unix)]
fn is_standard_output_closed() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    let device = |file: &File| file.metadata().map(|data| data.rdev());
    let out = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let (Ok(mut out), Ok(null)) = (out, File::open("/dev/null")) else { return false };
    let is_null = matches!((device(&out), device(&null)), (Ok(a), Ok(b)) if a == b);
    is_null && out.read(&mut [0]).is_ok()
}

#[cfg(not(unix))]
fn is_standard_output_closed() -> bool {
    false
}

/// Writes rows to a destination. A file does not appear there before [`RowWriter::finish`], but a
/// stream is written as rows are added.
pub(super) struct RowWriter {
    /// This field comes before `made`, so that an incomplete file is removed before its folder.
    target: Target,
    made: MadeFolders,
    batch: BatchBuilder,
    /// The path for messages.
    path: PathBuf,
    has_evidence: bool,
}

enum Target {
    File { writer: Box<ArrowWriter<NamedTempFile>>, folder: PathBuf },
    Stream(Box<StreamWriter<Box<dyn Write + Send>>>),
}

impl RowWriter {
    /// Creates a writer of a file in a folder. If necessary, the folder is created. Until the file
    /// is complete, `unfinished` lists it and the folders that were created.
    pub fn file(folder: &Path, unfinished: &UnfinishedFiles) -> Result<Self, StoreError> {
        let failed = output(folder);
        let mut made = MadeFolders::create(folder, unfinished).map_err(&failed)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY_PREFIX).suffix(TEMPORARY_SUFFIX);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(folder).map_err(&failed)?;
        made.list(file.path());
        // The lock shows other runs that the file is in use. Not every file system supports it.
        let _ = file.as_file().try_lock();
        let writer = ArrowWriter::try_new(file, schema(), Some(properties()));
        let writer = Box::new(writer.map_err(|error| failed(system_error(error)))?);
        Ok(Self {
            target: Target::File { writer, folder: folder.to_owned() },
            made,
            batch: BatchBuilder::default(),
            path: folder.to_owned(),
            has_evidence: false,
        })
    }

    /// Creates a writer of a stream to standard output.
    pub fn stream() -> Result<Self, StoreError> {
        let path = PathBuf::from("standard output");
        if is_standard_output_closed() {
            let what = io::Error::other("it is closed, so the rows would be lost");
            return Err(StoreError::Output(path, what));
        }
        let out: Box<dyn Write + Send> = Box::new(io::stdout());
        let writer = StreamWriter::try_new(out, &schema());
        let writer = writer.map_err(|error| output(&path)(system_error(error)))?;
        Ok(Self {
            target: Target::Stream(Box::new(writer)),
            made: MadeFolders::default(),
            batch: BatchBuilder::default(),
            path,
            has_evidence: false,
        })
    }

    fn failed(&self, error: impl Error + Send + Sync + 'static) -> StoreError {
        StoreError::Output(self.path.clone(), system_error(error))
    }

    /// Adds a row that is not evidence.
    pub fn write_head(&mut self, content: &HeadContent) -> Result<(), StoreError> {
        let (facts, input) = content.facts();
        self.write_row(&content.to_row().as_ref(), &facts, &input)
    }

    /// Adds a row of evidence.
    pub fn write(&mut self, row: &StoredRef<'_>, facts: &RowFacts) -> Result<(), StoreError> {
        self.write_row(row, facts, &InputFacts::default())
    }

    /// Adds a text to the footer of the file. A stream has no footer.
    pub fn add_note(&mut self, key: &str, text: String) {
        if let Target::File { writer, .. } = &mut self.target {
            writer.append_key_value_metadata(KeyValue::new(key.to_owned(), text));
        }
    }

    fn write_row(
        &mut self,
        row: &StoredRef<'_>,
        facts: &RowFacts,
        input: &InputFacts,
    ) -> Result<(), StoreError> {
        let is_evidence = matches!(row.kind, StoredKind::Evidence(_));
        // Rows that are not evidence get a row group of their own, so that they are found quickly.
        if !is_evidence && std::mem::take(&mut self.has_evidence) {
            self.flush()?;
            if let Target::File { writer, .. } = &mut self.target {
                writer
                    .flush()
                    .map_err(|error| StoreError::Output(self.path.clone(), system_error(error)))?;
            }
        }
        self.has_evidence |= is_evidence;
        self.batch.add(row, facts, input).map_err(|error| self.failed(io::Error::other(error)))?;
        if self.batch.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = self.batch.finish().map_err(|error| self.failed(error))?;
        let written = match &mut self.target {
            Target::File { writer, .. } => writer.write(&batch).map_err(system_error),
            Target::Stream(writer) => writer.write(&batch).map_err(system_error),
        };
        written.map_err(|error| StoreError::Output(self.path.clone(), error))
    }

    /// Ends the row group, and returns the number of bytes of the file so far; 0 for a stream.
    pub fn size(&mut self) -> Result<u64, StoreError> {
        self.flush()?;
        let Self { target: Target::File { writer, .. }, path, .. } = self else { return Ok(0) };
        writer.flush().map_err(|error| output(path)(system_error(error)))?;
        Ok(writer.bytes_written() as u64)
    }

    /// Writes the end. A file gets the name `name`, with the extension, and replaces an earlier
    /// file with this name. Returns the path of the file; `None` for a stream.
    pub fn finish(mut self, name: &str) -> Result<Option<PathBuf>, StoreError> {
        self.flush()?;
        let path = self.path;
        let failed = output(&path);
        match self.target {
            Target::File { mut writer, folder } => {
                writer.flush().map_err(|error| failed(system_error(error)))?;
                writer.sync().map_err(&failed)?;
                let mut written = writer.inner().reopen().map_err(&failed)?;
                let checksums = FileChecksums::of(writer.flushed_row_groups(), &mut written);
                let text = checksums.map_err(&failed)?.to_text();
                writer.append_key_value_metadata(KeyValue::new(checksums::KEY.to_owned(), text));
                let file = writer.into_inner().map_err(|error| failed(system_error(error)))?;
                file.as_file().sync_all().map_err(&failed)?;
                let path = row_file(&folder, name);
                file.persist(&path).map_err(|error| output(&path)(error.error))?;
                self.made.keep();
                File::open(&folder).and_then(|folder| folder.sync_all()).map_err(&failed)?;
                Ok(Some(path))
            }
            Target::Stream(mut writer) => {
                writer.finish().map_err(|error| failed(system_error(error)))?;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_has_a_remedy() {
        let panicked = guarded::<()>(|| panic!("the Parquet reader")).unwrap_err();
        for reason in [panicked, damage(&"end of file")] {
            assert!(reason.starts_with("is damaged: ") && reason.contains("; copy it again from"));
        }
    }
}
