//! The columns of stored rows. All types are signed integers, UTF-8 and binary, which every query
//! engine supports.

use std::net::IpAddr;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Int32Builder, Int64Builder, StringBuilder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Int32Array, Int64Array, LargeBinaryArray,
    LargeStringArray, RecordBatch, StringArray,
};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};

use super::completion::Completion;
use super::input::InputRow;
use super::row::{INPUT_BUCKET, ReadPlace, StoredKind, StoredRef, StoredRow};
use crate::flow::RowFacts;
use crate::model::{InputRecord, write_address};

/// The columns that an audit needs.
pub(super) const NEEDED: [&str; 7] =
    ["bucket", "kind", "key", "input", "parts", "accounted", "record"];

/// The column with the start of the window, in nanoseconds. Stores of the first layout do not have
/// it.
pub(super) const WINDOW: &str = "window_ns";

/// The maximum number of rows of a record batch.
const BATCH_ROWS: usize = 8192;

/// The number of bytes after which a record batch ends. A column must be smaller than 2 GiB.
const BATCH_BYTES: usize = 64 << 20;

/// The largest record of a row in bytes.
const MOST_BYTES: usize = 1 << 30;

/// The largest key of a row, and the longest identity of an input, in bytes. Valid keys and
/// identities are much shorter.
const MOST_KEY_BYTES: usize = 1 << 16;

/// The maximum number of bytes of the rows that are read in one batch.
const MOST_BATCH_BYTES: usize = 2 * MOST_BYTES;

/// The number of bytes of an unknown kind that a message shows. All known kinds are shorter.
const LONGEST_KIND: usize = 64;

/// Returns the number of rows to read in one batch from a row group with this number of rows, whose
/// columns have this number of bytes.
pub(super) fn batch_rows(rows: i64, bytes: i64) -> usize {
    let average = usize::try_from(bytes / rows.max(1)).unwrap_or_default().max(1);
    (BATCH_BYTES / average).clamp(1, BATCH_ROWS)
}

/// Returns the columns. The sides `a` and `b` of a flow are in the order of their addresses, or of
/// their ports if both have the same address.
pub(super) fn schema() -> SchemaRef {
    use DataType::{Binary, Int32, Int64, Utf8};
    let column = |name, kind, nullable| Field::new(name, kind, nullable);
    Arc::new(Schema::new(vec![
        column("bucket", Int32, false),
        column("kind", Utf8, false),
        column("key", Binary, false),
        column("input", Utf8, false),
        column(WINDOW, Int64, true),
        column("a_addr", Utf8, true),
        column("b_addr", Utf8, true),
        column("a_port", Int32, true),
        column("b_port", Int32, true),
        column("port", Int32, true),
        column("transport", Int32, true),
        column("opener", Utf8, true),
        column("a_packets", Int64, false),
        column("b_packets", Int64, false),
        column("a_bytes", Int64, false),
        column("b_bytes", Int64, false),
        column("a_payload", Int64, false),
        column("b_payload", Int64, false),
        column("a_flags", Int32, false),
        column("b_flags", Int32, false),
        column("first_ns", Int64, true),
        column("last_ns", Int64, true),
        column("name", Utf8, true),
        column("error", Utf8, true),
        column("accounted", Int64, false),
        column("frames_read", Int64, false),
        column("parts", Int64, false),
        column("record", Binary, false),
    ]))
}

/// Collects rows for a record batch.
#[derive(Default)]
pub(super) struct BatchBuilder {
    rows: usize,
    bytes: usize,
    /// The columns of 32 bits that have a value in each row.
    small: [Vec<i32>; 3],
    /// The columns of 64 bits that have a value in each row.
    large: [Vec<i64>; 9],
    nullable_small: [Int32Builder; 4],
    nullable_large: [Int64Builder; 3],
    repeated: [RepeatedColumn; 2],
    names: [StringBuilder; 3],
    addresses: [AddressColumn; 2],
    binary: [BinaryBuilder; 2],
}

/// A column of texts that are the same in many adjacent rows.
#[derive(Default)]
struct RepeatedColumn {
    /// The texts without those of the last rows, which all have the same text.
    texts: StringBuilder,
    last: String,
    /// The number of these rows.
    rows: usize,
}

impl RepeatedColumn {
    fn add(&mut self, text: &str) {
        if self.last != text {
            self.complete();
            text.clone_into(&mut self.last);
        }
        self.rows += 1;
    }

    /// Adds the texts of the last rows to the others.
    fn complete(&mut self) {
        self.texts.append_value_n(&self.last, std::mem::take(&mut self.rows));
    }
}

/// A column of addresses.
#[derive(Default)]
struct AddressColumn {
    texts: StringBuilder,
    /// The last address and its text. Rows are sorted, so the next row often has the same address.
    last: Option<IpAddr>,
    text: String,
}

impl AddressColumn {
    fn add(&mut self, address: Option<IpAddr>) {
        let Some(own) = address else { return self.texts.append_null() };
        if self.last != address {
            self.last = address;
            self.text.clear();
            write_address(&mut self.text, own);
        }
        self.texts.append_value(&self.text);
    }
}

/// Returns a counter as a signed integer, or `i64::MAX` if the counter is larger. No capture is
/// large enough for that.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl BatchBuilder {
    /// Returns whether the rows should become a record batch, because there are many or they are
    /// large.
    pub fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a row with its facts, and with those that only the row of an input states.
    ///
    /// # Errors
    ///
    /// Returns an error if the row is too large.
    pub fn add(
        &mut self,
        row: &StoredRef<'_>,
        facts: &RowFacts,
        input: &InputFacts,
    ) -> Result<(), String> {
        if row.record.len() > MOST_BYTES {
            return Err(format!(
                "a row has {} bytes; the maximum is {MOST_BYTES}",
                row.record.len()
            ));
        }
        self.rows += 1;
        self.bytes += row.memory();
        let addresses = facts.addresses.map_or([None, None], |both| both.map(Some));
        let has_ports = facts.transport.is_some_and(|transport| transport.has_ports());
        let ports = facts.ports.map(|port| has_ports.then_some(i32::from(port)));
        let opener = facts.opener.map(|side| if side == 0 { "a" } else { "b" });
        self.repeated[0].add(row.kind.name());
        self.repeated[1].add(row.input);
        let names = [opener, facts.name.as_deref(), input.error.as_deref()];
        for (column, name) in self.names.iter_mut().zip(names) {
            column.append_option(name);
        }
        for (column, address) in self.addresses.iter_mut().zip(addresses) {
            column.add(address);
        }
        let small = [row.bucket, facts.flags[0], facts.flags[1]];
        for (column, number) in self.small.iter_mut().zip(small) {
            column.push(i32::from(number));
        }
        let transport = facts.transport.map(|transport| i32::from(transport.0));
        let small = [ports[0], ports[1], ports[0].min(ports[1]), transport];
        for (column, number) in self.nullable_small.iter_mut().zip(small) {
            column.append_option(number);
        }
        let [packets, bytes, payload] = [facts.packets, facts.bytes, facts.payload];
        let large = [
            packets[0],
            packets[1],
            bytes[0],
            bytes[1],
            payload[0],
            payload[1],
            facts.accounted,
            input.frames,
            row.parts,
        ];
        for (column, number) in self.large.iter_mut().zip(large) {
            column.push(signed(number));
        }
        let large = [facts.first.get(), facts.last.get(), row.window];
        for (column, number) in self.nullable_large.iter_mut().zip(large) {
            column.append_option(number);
        }
        self.binary[0].append_value(row.key);
        self.binary[1].append_value(row.record);
        Ok(())
    }

    /// Returns the rows as a record batch and empties the builder. The next batch probably has the
    /// same size, so as much memory is reserved.
    ///
    /// # Errors
    ///
    /// Returns an error if the columns do not match the schema.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let small = |column: &mut Vec<i32>| -> ArrayRef {
            Arc::new(Int32Array::from(std::mem::replace(column, Vec::with_capacity(rows))))
        };
        let large = |column: &mut Vec<i64>| -> ArrayRef {
            Arc::new(Int64Array::from(std::mem::replace(column, Vec::with_capacity(rows))))
        };
        let nullable_small = |column: &mut Int32Builder| -> ArrayRef {
            Arc::new(std::mem::replace(column, Int32Builder::with_capacity(rows)).finish())
        };
        let nullable_large = |column: &mut Int64Builder| -> ArrayRef {
            Arc::new(std::mem::replace(column, Int64Builder::with_capacity(rows)).finish())
        };
        let text = |column: &mut StringBuilder| -> ArrayRef {
            let next = StringBuilder::with_capacity(rows, column.values_slice().len());
            Arc::new(std::mem::replace(column, next).finish())
        };
        let binary = |column: &mut BinaryBuilder| -> ArrayRef {
            let next = BinaryBuilder::with_capacity(rows, column.values_slice().len());
            Arc::new(std::mem::replace(column, next).finish())
        };
        let [bucket, a_flags, b_flags] = self.small.each_mut().map(small);
        let [
            a_packets,
            b_packets,
            a_bytes,
            b_bytes,
            a_payload,
            b_payload,
            accounted,
            frames,
            parts,
        ] = self.large.each_mut().map(large);
        let [a_port, b_port, port, transport] = self.nullable_small.each_mut().map(nullable_small);
        let [first, last, window] = self.nullable_large.each_mut().map(nullable_large);
        let [kind, input] = self.repeated.each_mut().map(|column| {
            column.complete();
            text(&mut column.texts)
        });
        let [opener, name, error] = self.names.each_mut().map(text);
        let [a_addr, b_addr] = self.addresses.each_mut().map(|column| text(&mut column.texts));
        let [key, record] = self.binary.each_mut().map(binary);
        let columns = vec![
            bucket, kind, key, input, window, a_addr, b_addr, a_port, b_port, port, transport,
            opener, a_packets, b_packets, a_bytes, b_bytes, a_payload, b_payload, a_flags, b_flags,
            first, last, name, error, accounted, frames, parts, record,
        ];
        RecordBatch::try_new(schema(), columns)
    }
}

/// The values of the columns that only rows of inputs fill. For other rows, they are 0 and null.
#[derive(Default)]
pub(super) struct InputFacts {
    /// The number of frames that were read.
    pub frames: u64,
    /// Why the input could not be read at all, or not to its end; `None` if it was read, or was
    /// skipped in a folder because it is not a capture.
    pub error: Option<String>,
}

/// A column of text or bytes. Query engines use different types for them.
enum Bytes {
    Text(StringArray),
    LargeText(LargeStringArray),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
}

impl Bytes {
    fn of(column: &dyn Array) -> Option<Self> {
        let column = column.as_any();
        let text = column.downcast_ref().cloned().map(Self::Text);
        let large = || column.downcast_ref().cloned().map(Self::LargeText);
        let binary = || column.downcast_ref().cloned().map(Self::Binary);
        let large_binary = || column.downcast_ref().cloned().map(Self::LargeBinary);
        text.or_else(large).or_else(binary).or_else(large_binary)
    }

    fn get(&self, row: usize) -> &[u8] {
        match self {
            Self::Text(column) => column.value(row).as_bytes(),
            Self::LargeText(column) => column.value(row).as_bytes(),
            Self::Binary(column) => column.value(row),
            Self::LargeBinary(column) => column.value(row),
        }
    }

    /// Returns a value as text; `None` if it is not valid UTF-8.
    fn text(&self, row: usize) -> Option<&str> {
        match self {
            Self::Text(column) => Some(column.value(row)),
            Self::LargeText(column) => Some(column.value(row)),
            Self::Binary(column) => std::str::from_utf8(column.value(row)).ok(),
            Self::LargeBinary(column) => std::str::from_utf8(column.value(row)).ok(),
        }
    }
}

/// Returns for each row whether a column of text or bytes contains one of these values; `None` if
/// the column is of another type.
pub(super) fn text_is_one_of(column: &dyn Array, values: &[&str]) -> Option<BooleanArray> {
    let column_values = Bytes::of(column)?;
    let is_one = |row| values.iter().any(|value| value.as_bytes() == column_values.get(row));
    Some((0..column.len()).map(is_one).map(Some).collect())
}

/// Returns the kind of each row; `None` if this version does not know it.
fn kinds(names: &Bytes, rows: usize) -> Vec<Option<StoredKind>> {
    let mut last: (&[u8], Option<StoredKind>) = (&[], None);
    let kind = |row| {
        let name = names.get(row);
        // Rows are sorted, so most rows have the same kind as the row before.
        if name != last.0 {
            last = (name, std::str::from_utf8(name).ok().and_then(StoredKind::parse));
        }
        last.1
    };
    (0..rows).map(kind).collect()
}

/// The columns of a record batch that an audit reads.
pub(super) struct BatchRows {
    memory: usize,
    bucket: Int32Array,
    kind: Bytes,
    /// The kind of each row; `None` if this version does not know it.
    kinds: Vec<Option<StoredKind>>,
    key: Bytes,
    input: Bytes,
    window: Option<Int64Array>,
    parts: Int64Array,
    accounted: Int64Array,
    record: Bytes,
}

/// What a row that is not evidence contains.
pub(super) enum HeadContent {
    /// An input.
    Input(Box<InputRow>),
    /// The statement that a store is complete.
    Completion(Completion),
}

impl HeadContent {
    /// Reads a row that is not evidence. Returns `None` if the row is evidence.
    ///
    /// # Errors
    ///
    /// Returns an error if the row is not valid or its columns do not agree with it.
    pub fn of_row(row: &StoredRef<'_>) -> Result<Option<Self>, String> {
        let (content, accounted) = match row.kind {
            StoredKind::Evidence(_) => return Ok(None),
            StoredKind::Input => {
                let input = InputRow::of_row(row)?;
                let accounted = input.accounted();
                (Self::Input(Box::new(input)), accounted)
            }
            StoredKind::Completion => (Self::Completion(Completion::of_row(row)?), 0),
        };
        check_accounted(row.read.accounted, accounted)?;
        Ok(Some(content))
    }

    /// Returns the row.
    pub fn to_row(&self) -> StoredRow {
        match self {
            Self::Input(input) => input.to_row(),
            Self::Completion(completion) => completion.to_row(),
        }
    }

    /// Returns facts for query engines.
    pub fn facts(&self) -> (RowFacts, InputFacts) {
        match self {
            Self::Completion(_) => Default::default(),
            Self::Input(input) => {
                let account = &input.record.account;
                let facts = RowFacts {
                    first: account.first,
                    last: account.last,
                    name: Some(input.record.name.clone()),
                    accounted: input.accounted(),
                    ..RowFacts::default()
                };
                // A file that was found in a folder and is not a capture is not an error.
                let InputRecord { error, passed_over, .. } = &input.record;
                let error = error.clone().filter(|_| !passed_over);
                (facts, InputFacts { frames: account.frames, error })
            }
        }
    }
}

/// Checks that a column states the number of frames that a record accounts for.
pub(super) fn check_accounted(stated: i64, accounted: u64) -> Result<(), String> {
    if stated == signed(accounted) {
        Ok(())
    } else {
        Err(format!(
            "has {stated} in column accounted, but its record accounts for {accounted}; collect the captures again"
        ))
    }
}

/// Describes rows without a column that every row has.
pub(super) fn missing_column(name: &str) -> String {
    format!(
        "has no column {name}, so it does not contain rows of rasaudit, or an engine did not keep all columns; leave it out, or collect the captures again"
    )
}

impl BatchRows {
    /// Finds the columns of a batch.
    ///
    /// # Errors
    ///
    /// Returns an error if a column is missing or has another type, or if the rows are too large.
    pub fn of(batch: &RecordBatch) -> Result<Self, String> {
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing_column(name));
        let wrong = |name: &str, wanted: &str, found: &ArrayRef| {
            format!(
                "has column {name} of type {} instead of {wanted}; collect the captures again",
                found.data_type()
            )
        };
        let bytes = |name: &str| {
            let found = column(name)?;
            Bytes::of(found).ok_or_else(|| wrong(name, "text or binary", found))
        };
        let number = |name: &str| {
            let found = column(name)?;
            let array = found.as_any().downcast_ref::<Int64Array>();
            array.cloned().ok_or_else(|| wrong(name, "int64", found))
        };
        let memory = batch.get_array_memory_size();
        if memory > MOST_BATCH_BYTES {
            return Err(format!(
                "has rows with a total of {memory} bytes (rows: {}); at most {MOST_BATCH_BYTES} bytes can be read at once, and rasaudit writes no such rows; collect the captures again",
                batch.num_rows()
            ));
        }
        let bucket = column("bucket")?;
        let kind = bytes("kind")?;
        Ok(Self {
            memory,
            kinds: kinds(&kind, batch.num_rows()),
            bucket: bucket
                .as_any()
                .downcast_ref()
                .cloned()
                .ok_or_else(|| wrong("bucket", "int32", bucket))?,
            kind,
            key: bytes("key")?,
            input: bytes("input")?,
            window: batch
                .column_by_name(WINDOW)
                .map(|_| number(WINDOW))
                .transpose()?
                .filter(|window| window.null_count() < window.len()),
            parts: number("parts")?,
            accounted: number("accounted")?,
            record: bytes("record")?,
        })
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Returns the memory that the rows take, in bytes.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Returns whether a row is a row of evidence.
    pub fn is_evidence(&self, row: usize) -> bool {
        !matches!(self.kinds[row], Some(StoredKind::Input | StoredKind::Completion))
    }

    /// Returns a row, without its place in the file.
    ///
    /// # Errors
    ///
    /// Returns an error if the kind, the bucket, the input or the number of parts is not valid, or
    /// if a value is too large.
    pub fn get(&self, row: usize) -> Result<StoredRef<'_>, String> {
        let kind = self.kinds[row].ok_or_else(|| {
            let kind = self.kind.get(row);
            let kind = String::from_utf8_lossy(kind.get(..LONGEST_KIND).unwrap_or(kind));
            format!("has a row of kind \"{kind}\", which this version does not know; use the version that wrote it")
        })?;
        let bucket = u16::try_from(self.bucket.value(row)).unwrap_or(u16::MAX);
        if bucket > INPUT_BUCKET {
            return Err(format!(
                "has a row in bucket {}, which does not exist; collect the captures again",
                self.bucket.value(row)
            ));
        }
        let (key, input, record) = (self.key.get(row), self.input.text(row), self.record.get(row));
        let input = input.ok_or_else(|| {
            "has a row whose column input is not text; collect the captures again".to_owned()
        })?;
        let sizes = [
            ("key", key.len(), MOST_KEY_BYTES),
            ("input", input.len(), MOST_KEY_BYTES),
            ("record", record.len(), MOST_BYTES),
        ];
        if let Some((column, bytes, most)) = sizes.iter().find(|(_, own, most)| own > most) {
            return Err(format!(
                "has {bytes} bytes in column {column}, where rasaudit writes at most {most}; collect the captures again"
            ));
        }
        let parts = u64::try_from(self.parts.value(row)).ok().filter(|parts| *parts > 0);
        let parts = parts.ok_or_else(|| {
            "has a row whose number of parts is not positive; collect the captures again".to_owned()
        })?;
        let window = self.window.as_ref().filter(|window| !window.is_null(row));
        Ok(StoredRef {
            bucket,
            kind,
            key,
            window: window.map(|window| window.value(row)),
            input,
            parts,
            record,
            read: ReadPlace { accounted: self.accounted.value(row), ..ReadPlace::default() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_read_at_once_if_they_are_large() {
        assert_eq!(batch_rows(131_072, 131_072 * 100), BATCH_ROWS);
        assert_eq!(batch_rows(1000, 1000 << 20), 64);
        assert_eq!(batch_rows(2, i64::MAX), 1);
        assert_eq!(batch_rows(-1, -7), BATCH_ROWS);
    }
}
