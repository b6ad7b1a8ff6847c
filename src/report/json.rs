//! Writes `audit.json`: the complete result, for programs. `docs/audit.schema.json` is its schema.

use std::cell::RefCell;
use std::io::{self, BufWriter, Write};

use serde::{Serialize, Serializer};

use super::JsonLayout;
use super::json_text::{compact, pretty};
use crate::result::{AuditResult, ConversationRow, FindingRow};

/// Writes the report of `--format json`, with one line for each row of a table.
pub fn write(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    write_rows(result, JsonLayout::Compact, |_| {}, |_| {}, out)
}

/// Writes the report of `--format json` indented, for people (`--pretty`).
pub fn write_indented(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    write_rows(result, JsonLayout::Indented, |_| {}, |_| {}, out)
}

/// Writes the report, and also passes each finding and each conversation to a function.
pub(super) fn write_rows(
    result: &AuditResult<'_>,
    layout: JsonLayout,
    finding: impl FnMut(&FindingRow<'_>),
    conversation: impl FnMut(&ConversationRow<'_>),
    out: &mut dyn Write,
) -> io::Result<()> {
    // A serializer writes a few bytes at a time, which `dyn Write` would make slower.
    let mut out = BufWriter::with_capacity(1 << 16, out);
    match layout {
        JsonLayout::Compact => serialize(result, finding, conversation, &mut compact(&mut out))?,
        JsonLayout::Indented => serialize(result, finding, conversation, &mut pretty(&mut out))?,
    }
    writeln!(out)?;
    out.flush()
}

fn serialize<S: Serializer>(
    result: &AuditResult<'_>,
    mut finding: impl FnMut(&FindingRow<'_>),
    mut conversation: impl FnMut(&ConversationRow<'_>),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let tables = (
        StreamedList::new(result.entries().inspect(|entry| finding(&entry.row))),
        StreamedList::new(result.conversations().inspect(|row| conversation(row))),
        StreamedList::new(result.matrix_rows()),
        StreamedList::new(result.hosts()),
    );
    let (complete, _) = result.head.clone().with_tables(tables);
    complete.serialize(serializer)
}

/// An array that is generated while it is serialized, so that it is never in memory as a whole. It
/// can be serialized only once; after that, it is empty.
pub(super) struct StreamedList<I>(RefCell<Option<I>>);

impl<I> StreamedList<I> {
    pub fn new(items: I) -> Self {
        Self(RefCell::new(Some(items)))
    }
}

impl<I: Iterator<Item: Serialize>> Serialize for StreamedList<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.borrow_mut().take().into_iter().flatten())
    }
}
