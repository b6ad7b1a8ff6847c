//! The ruling on a conversation, and what else its judgement states.

use std::num::NonZeroU32;

use super::verdict::{Code, Doubts, Verdict};
use crate::policy::{Party, Severity};

/// An index that takes four bytes, even in an `Option`, unlike a plain number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SmallIndex(NonZeroU32);

impl SmallIndex {
    /// Converts the index of a row, an exception or a name. No list of these has 2^32 or more
    /// entries.
    pub(super) fn new(index: usize) -> Self {
        Self(NonZeroU32::MIN.saturating_add(u32::try_from(index).unwrap_or(u32::MAX)))
    }

    fn get(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The decision about a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ruling {
    /// The code, which implies the verdict.
    pub code: Code,
    row: Option<SmallIndex>,
    exception: Option<SmallIndex>,
}

impl Ruling {
    /// Returns a ruling that is based on a row.
    pub(super) fn by_row(code: Code, row: usize) -> Self {
        Self::new(code, Some(row))
    }

    /// Returns a ruling that is based on a row if there is one, and on no exception.
    pub(super) fn new(code: Code, row: Option<usize>) -> Self {
        Self { code, row: row.map(SmallIndex::new), exception: None }
    }

    /// Returns a ruling that is based on an exception and on no row.
    pub(super) fn by_exception(exception: usize) -> Self {
        let exception = Some(SmallIndex::new(exception));
        Self { code: Code::Exception, row: None, exception }
    }

    /// Returns the ruling that an expired exception turns this one into. The row stays.
    pub(super) fn after_expiry_of(self, exception: usize) -> Self {
        let exception = Some(SmallIndex::new(exception));
        Self { code: Code::ExpiredException, exception, ..self }
    }

    /// Returns the index of the row that the code is based on.
    pub fn row(self) -> Option<usize> {
        self.row.map(SmallIndex::get)
    }

    /// Returns the index of the exception that the code is based on.
    pub fn exception(self) -> Option<usize> {
        self.exception.map(SmallIndex::get)
    }

    /// Returns a ruling that is not based on a row.
    pub(super) fn without_row(code: Code) -> Self {
        Self::new(code, None)
    }
}

/// The judgement of one conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judged {
    /// The code of the conversation, and the row or exception that the code is based on.
    pub ruling: Ruling,
    /// The client as the inventory knows it.
    pub client: Party,
    /// The server as the inventory knows it.
    pub server: Party,
    /// The reasons why the judgement is not certain.
    pub doubts: Doubts,
    pub(super) named: Option<(SmallIndex, u16)>,
    /// The code of the other orientation, if the direction is a guess and this code is worse or has
    /// another verdict.
    pub other: Option<Code>,
    /// The severity of the code. With doubts, it is at most medium; between unlisted addresses, it
    /// is info.
    pub severity: Severity,
}

const _: () = assert!(size_of::<Judged>() <= 88);

impl Judged {
    /// Returns the name that determined the ruling: its index among the server's names, and the
    /// index among its aliases.
    pub fn named(&self) -> Option<(usize, usize)> {
        self.named.map(|(number, alias)| (number.get(), alias.into()))
    }

    /// Returns the verdict that the code implies.
    pub fn verdict(&self) -> Verdict {
        self.ruling.code.verdict()
    }
}
