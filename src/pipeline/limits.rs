//! The limits of a judgement, and the findings that fail an audit.

use crate::model::Nanos;
use crate::policy::Severity;
use crate::result::AuditResult;

/// The limits on what the judgement may claim, and the findings that fail the audit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The share of lost frames, from 0 to 1, above which no traffic is reported as missing.
    pub max_loss: f64,
    /// The watch time in seconds that replaces the watch time of every row and role, if given.
    pub min_watch: Option<u64>,
    /// The time that the expiry dates of exceptions are compared with. If `None`, this is the time
    /// of the last packet of each conversation.
    pub as_of: Option<Nanos>,
    /// The findings that fail the audit.
    pub fail_on: FailOn,
    /// Whether a check is required. An audit that checked nothing then ends with status 4.
    pub require_assessed: bool,
}

/// The defaults of the commands, except that no finding fails the audit.
impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_loss: 0.01,
            min_watch: None,
            as_of: None,
            fail_on: FailOn::Never,
            require_assessed: false,
        }
    }
}

/// The findings that fail an audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailOn {
    /// No findings.
    Never,
    /// Findings of this severity or above.
    From(Severity),
    /// Findings above severity info that the baseline does not contain, or that have become worse.
    /// Without a baseline, all of them are new.
    New,
}

impl FailOn {
    /// The default of `--fail-on`.
    pub const USUAL: Self = Self::From(Severity::Low);

    /// Returns the value of `--fail-on` that selects these findings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::From(severity) => severity.name(),
            Self::New => "new",
        }
    }

    /// Returns the reason why the findings fail the audit; `None` if they do not.
    pub(super) fn reason(self, result: &AuditResult<'_>) -> Option<String> {
        match self {
            Self::Never => None,
            Self::From(from) => result
                .briefs()
                .next()
                .filter(|worst| worst.severity >= from)
                .map(|_| format!("findings with severity {from} or above")),
            Self::New => {
                let has_news = match &result.head.known {
                    Some(known) => known.new > 0,
                    None => result.briefs().next().is_some_and(|w| w.severity > Severity::Info),
                };
                has_news.then(|| "new or worse findings".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::pipeline::{Audit, Plan, Progress, Request};

    #[test]
    fn without_a_baseline_only_findings_are_new() {
        let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/services/rpc.pcap");
        let captures = vec![PathBuf::from(capture)];
        let plan = Plan::new(Request { captures, max_memory: 1 << 30, ..Request::default() });
        let limits = Limits { fail_on: FailOn::New, ..Limits::default() };
        let audit = Audit::of(&plan.unwrap(), None, None, &limits, &Progress::default()).unwrap();
        assert!(audit.result().briefs().next().is_none());
        assert!(!audit.failed);
    }
}
