//! Writes `audit.json`: the complete result, for programs. `docs/audit.schema.json` is its schema.

use std::cell::RefCell;
use std::io::{self, Write};

use serde::{Serialize, Serializer};

use super::json_text::{compact, pretty};
use crate::result::AuditResult;

/// Writes the report of `--format json`, with one line for each row of a table.
pub fn write(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    serialize(result, &mut compact(&mut *out))?;
    writeln!(out)
}

/// Writes the same report indented, for people (`--pretty`).
pub fn write_indented(result: &AuditResult<'_>, out: &mut dyn Write) -> io::Result<()> {
    serialize(result, &mut pretty(&mut *out))?;
    writeln!(out)
}

fn serialize<S: Serializer>(result: &AuditResult<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    let tables = (
        StreamedList::new(result.entries()),
        StreamedList::new(result.conversations()),
        StreamedList::new(result.matrix_rows()),
        StreamedList::new(result.hosts()),
    );
    let (complete, _) = result.head.clone().with_tables(tables);
    complete.serialize(serializer)
}

/// An array that is generated while it is serialized, so that it is never in memory as a whole.
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
