//! Temporary files, one per partition, and the format of the evidence in them.
//!
//! A file consists of pieces. Each piece contains flows and then their side evidence, each preceded
//! by its length in eight bytes. The files have no names, so they disappear with the process,
//! however it ends.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::HashSeed;
use super::bytes::{write_bytes, write_part};
use super::interner::InternerCache;
use super::key::PARTITIONS;
use super::partitions::PartitionEvidence;
use super::side_evidence::SideEvidence;
use super::table::FlowTable;

/// The temporary files of all partitions.
pub(super) struct Spill {
    folder: PathBuf,
    files: Mutex<Vec<Option<File>>>,
    written: AtomicU64,
}

impl Spill {
    /// Creates a value without files. Files are created in `folder` when needed.
    pub fn new(folder: PathBuf) -> Self {
        let files = Mutex::new((0..PARTITIONS).map(|_| None).collect());
        Self { folder, files, written: AtomicU64::new(0) }
    }

    /// Returns the folder in which files are created.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the number of bytes that were written because memory was short. Idle flows do not
    /// count.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    // Writes are rare and large, so one lock for all files is enough.
    fn files(&self) -> MutexGuard<'_, Vec<Option<File>>> {
        self.files.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Appends a piece to the file of a partition because memory is short.
    pub fn add(&self, number: usize, partition: &PartitionEvidence) -> io::Result<()> {
        let length = self.append(number, &partition.flows, &partition.side)?;
        self.written.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// Appends flows to the file of a partition, completely or not at all. Returns their size in
    /// bytes.
    pub fn add_flows(&self, number: usize, flows: &FlowTable) -> io::Result<u64> {
        self.append(number, flows, &SideEvidence::default())
    }

    fn append(&self, number: usize, flows: &FlowTable, side: &SideEvidence) -> io::Result<u64> {
        let piece = to_piece(flows, side)?;
        let mut files = self.files();
        let file = match &mut files[number] {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.folder)?),
        };
        let end = file.seek(SeekFrom::End(0))?;
        if let Err(error) = file.write_all(&piece) {
            // A part of a piece would make the file unreadable, so it is removed.
            let removed = file.set_len(end);
            return Err(match removed {
                Ok(()) => error,
                Err(second) => io::Error::new(
                    error.kind(),
                    format!("{error}; what was written could not be removed: {second}"),
                ),
            });
        }
        Ok(piece.len() as u64)
    }

    /// Replaces the content of a partition's file with `flows`. If they cannot be written, the old
    /// content stays. Returns their size in bytes.
    pub fn replace(&self, number: usize, flows: &FlowTable) -> io::Result<u64> {
        if flows.is_empty() {
            self.files()[number] = None;
            return Ok(0);
        }
        let piece = to_piece(flows, &SideEvidence::default())?;
        let mut file = tempfile::tempfile_in(&self.folder)?;
        file.write_all(&piece)?;
        self.files()[number] = Some(file);
        Ok(piece.len() as u64)
    }

    /// Deletes all files.
    pub fn clear(&self) {
        self.files().iter_mut().for_each(|file| *file = None);
    }

    /// Returns the content of a partition's file, which is empty if there is no file.
    pub fn read(&self, number: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.files()[number] {
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }
}

/// Parses the content of a file and merges its pieces.
pub(super) fn parse_pieces(
    mut bytes: &[u8],
    seed: &HashSeed,
    links: &mut InternerCache,
) -> io::Result<PartitionEvidence> {
    let mut merged = PartitionEvidence::default();
    while !bytes.is_empty() {
        let flows =
            FlowTable::from_bytes(seed, take_part(&mut bytes)?).map_err(io::Error::other)?;
        let side = postcard::from_bytes(take_part(&mut bytes)?).map_err(io::Error::other)?;
        merged.merge(PartitionEvidence { flows, side }, seed, links);
    }
    Ok(merged)
}

/// Returns flows and their side evidence as a piece of a file.
fn to_piece(flows: &FlowTable, side: &SideEvidence) -> io::Result<Vec<u8>> {
    let mut piece = Vec::new();
    write_bytes(&mut piece, &flows.to_bytes().map_err(io::Error::other)?)?;
    write_part(&mut piece, side)?;
    Ok(piece)
}

/// Returns the next part of a file's content and advances `bytes` past it.
fn take_part<'a>(bytes: &mut &'a [u8]) -> io::Result<&'a [u8]> {
    let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (length, after) = bytes.split_first_chunk().ok_or_else(ended)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(io::Error::other)?;
    let (part, after) = after.split_at_checked(length).ok_or_else(ended)?;
    *bytes = after;
    Ok(part)
}
