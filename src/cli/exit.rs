//! Defines the exit codes, a documented list that scripts rely on (`docs/reports.md`).

use std::process::ExitCode;

/// The status with which the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exit {
    /// 0: done, without findings that `--fail-on` counts. For `diff`: no finding above info
    /// changed, apart from findings whose traffic an exception now permits. For `explain`: the
    /// traffic is documented, or it is background traffic.
    Compliant,
    /// 1: done, with findings that `--fail-on` counts. For `diff`: a finding above info changed.
    /// For `explain`: the traffic is not documented.
    Findings,
    /// 2: the work could not be done. No partially written file is left.
    CannotDo,
    /// 3: done, but part of the input could not be read (for `collect`, only with `--strict`) or,
    /// in a live audit, part of the output could not be written.
    Partial,
    /// 4: done, but nothing was checked although a check was required.
    Unchecked,
    /// 130: interrupted. In this case, `audit` and `report` write nothing.
    Interrupted,
}

/// The outcome of an audit, from which its exit code follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuditStatus {
    /// Whether part of the input could not be read, or part of the output could not be written.
    pub is_partial: bool,
    /// Whether nothing was checked although a check was required.
    pub is_unchecked: bool,
    /// Whether there are findings that `--fail-on` counts.
    pub has_failed: bool,
}

/// Status 3 takes precedence over 4, and 4 over 1.
impl From<AuditStatus> for Exit {
    fn from(status: AuditStatus) -> Self {
        if status.is_partial {
            Self::Partial
        } else if status.is_unchecked {
            Self::Unchecked
        } else if status.has_failed {
            Self::Findings
        } else {
            Self::Compliant
        }
    }
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
