//! Exit codes: a documented list that scripts rely on (`docs/reports.md`).

use std::process::ExitCode;

/// The status with which the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    /// 0: done, without findings at or above `--fail-on`.
    Compliant,
    /// 1: done, with findings at or above `--fail-on`.
    Findings,
    /// 2: the work could not be done. Nothing half-written is left behind.
    CannotDo,
    /// 3: done, but part of the input could not be read.
    Partial,
    /// 4: done, but nothing was checked, and that was not to count as success.
    Unchecked,
    /// 130: interrupted. Nothing was written.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Compliant => 0,
            Exit::Findings => 1,
            Exit::CannotDo => 2,
            Exit::Partial => 3,
            Exit::Unchecked => 4,
            Exit::Interrupted => 130,
        })
    }
}
