//! Checksums of the bytes of a Parquet file. The format itself does not detect most changed bits.
//!
//! For each row group, the footer of a file contains a CRC-32 of each column that an audit reads,
//! and a CRC-32 of facts in the footer. Other programs that write rows either do not add checksums
//! or copy those of another file, so checksums count only in files that rasaudit wrote.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crc32fast::Hasher;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;

use super::columns::{NEEDED, WINDOW};

/// The key of the checksums in the footer.
pub(super) const KEY: &str = "rasaudit.crc32";

/// The start of the name of a writer whose checksums count.
const WRITER: &str = "rasaudit ";

/// The number of bytes that are read at a time.
const BLOCK: usize = 1 << 18;

/// The checksums of one row group.
#[derive(Clone, PartialEq, Eq, Debug)]
struct GroupChecksums {
    /// The checksum of the facts in the footer.
    facts: u32,
    /// The checksums of the columns that an audit reads, in the order of the file.
    columns: Vec<u32>,
}

/// The checksums of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FileChecksums(Vec<GroupChecksums>);

impl FileChecksums {
    /// Computes the checksums of row groups that were written to a file.
    pub fn of(groups: &[RowGroupMetaData], file: &mut File) -> io::Result<Self> {
        let group = |group| {
            let columns = used_columns(group).map(|column| column_checksum(column, file));
            let columns = columns.collect::<io::Result<_>>()?;
            Ok(GroupChecksums { facts: facts_checksum(group), columns })
        };
        groups.iter().map(group).collect::<io::Result<_>>().map(Self)
    }

    /// Reads the checksums in the footer of a file. Returns `None` if rasaudit did not write the
    /// file, or if an earlier version wrote it without checksums.
    ///
    /// # Errors
    ///
    /// Returns an error if the checksums are not valid or the footer does not match them.
    pub fn read(metadata: &ParquetMetaData) -> Result<Option<Self>, String> {
        let file = metadata.file_metadata();
        if !file.created_by().is_some_and(|writer| writer.starts_with(WRITER)) {
            return Ok(None);
        }
        let mut values = file.key_value_metadata().into_iter().flatten();
        let Some(value) = values.find(|value| value.key == KEY) else { return Ok(None) };
        let stated = value.value.as_deref().and_then(Self::parse);
        let is_own = |Self(stated): &Self| {
            let groups = metadata.row_groups();
            let mut pairs = stated.iter().zip(groups);
            stated.len() == groups.len()
                && pairs.all(|(stated, group)| {
                    stated.facts == facts_checksum(group)
                        && stated.columns.len() == used_columns(group).count()
                })
        };
        match stated.filter(is_own) {
            Some(stated) => Ok(Some(stated)),
            None => Err(damaged("the footer does not match its checksum")),
        }
    }

    /// Checks the columns of a row group. `number` is its index in the file.
    ///
    /// # Errors
    ///
    /// Returns an error if a column cannot be read or does not match its checksum.
    pub fn check(
        &self,
        number: usize,
        group: &RowGroupMetaData,
        file: &mut File,
    ) -> Result<(), String> {
        let stated = self.0.get(number).map(|stated| stated.columns.as_slice());
        for (column, stated) in used_columns(group).zip(stated.unwrap_or_default()) {
            let own = column_checksum(column, file);
            let own = own.map_err(|error| format!("cannot be read: {error}"))?;
            if own != *stated {
                let column = column.column_path().string();
                return Err(damaged(&format!("column {column} does not match its checksum")));
            }
        }
        Ok(())
    }

    /// Returns the checksums as text: a line for each row group.
    pub fn to_text(&self) -> String {
        let line = |GroupChecksums { facts, columns }: &GroupChecksums| {
            let all = std::iter::once(facts).chain(columns);
            all.map(|sum| format!("{sum:08x}")).collect::<Vec<_>>().join(" ")
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let group = |line: &str| {
            let mut sums = line.split(' ').map(|sum| u32::from_str_radix(sum, 16).ok());
            let facts = sums.next().flatten()?;
            Some(GroupChecksums { facts, columns: sums.collect::<Option<_>>()? })
        };
        text.lines().map(group).collect::<Option<_>>().map(Self)
    }
}

/// What to do about a file whose rows are damaged or missing.
pub(super) const RENEW: &str =
    "copy it again from where it was written, or collect the captures again";

/// Returns the reason why a file is damaged, with the remedy.
pub(super) fn damaged(what: &str) -> String {
    format!("is damaged: {what}; {RENEW}")
}

/// Returns the columns of a row group that an audit reads.
pub(super) fn used_columns(group: &RowGroupMetaData) -> impl Iterator<Item = &ColumnChunkMetaData> {
    group.columns().iter().filter(|column| {
        let path = column.column_path().string();
        NEEDED.into_iter().chain([WINDOW]).any(|name| name == path)
    })
}

/// Returns the checksum of the facts about a row group in the footer that an audit uses: the number
/// of rows, and the name, type, nullability, number of values, place and largest number of each
/// column that it reads.
fn facts_checksum(group: &RowGroupMetaData) -> u32 {
    let mut facts = format!("{}", group.num_rows());
    for column in used_columns(group) {
        let (start, bytes) = column.byte_range();
        let describes = column.column_descr();
        facts += &format!(
            "\n{} {} {} {} {start} {bytes}",
            column.column_path().string(),
            column.column_type(),
            describes.max_def_level(),
            column.num_values(),
        );
        if let Some(Statistics::Int32(range)) = column.statistics() {
            facts += &format!(" {:?}", range.max_opt());
        }
    }
    crc32fast::hash(facts.as_bytes())
}

/// Returns the checksum of the bytes of a column in a row group.
fn column_checksum(column: &ColumnChunkMetaData, file: &mut File) -> io::Result<u32> {
    let (start, mut left) = column.byte_range();
    file.seek(SeekFrom::Start(start))?;
    let mut hasher = Hasher::new();
    let mut block = vec![0; BLOCK];
    while left > 0 {
        let most = left.min(BLOCK as u64) as usize;
        match file.read(&mut block[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                hasher.update(&block[..read]);
                left -= read as u64;
            }
        }
    }
    Ok(hasher.finalize())
}
